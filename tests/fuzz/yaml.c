/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * A configuration file. It is refused with one line, or accepted without any; and then what is printed as the
 * configuration in force is accepted, too, and prints as itself.
 */
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include <base/log.h>
#include <control/conf.h>

#include "fuzz.h"

static int file = -1;
static char path[32];
static unsigned errors;

/* In place of the log, which would write to the console. `used`: LTO does not see what the linker replaces. */
__attribute__((used)) void __wrap_bw_log(enum bw_log_level level, const char *format, ...);

void __wrap_bw_log(enum bw_log_level level, const char *format, ...)
{
	char line[1024];
	va_list args;

	if (level != BW_LOG_ERROR)
		return;
	va_start(args, format);
	BW_ASSERT(vsnprintf(line, sizeof(line), format, args) > 0);
	va_end(args);
	errors++;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	file = memfd_create("fuzz", MFD_CLOEXEC);
	BW_ASSERT(file >= 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	return 0;
}

/** What is in force after reading it, for free(); NULL: it was refused. */
static char *read_and_print(const void *text, size_t len)
{
	char *args[] = { "-c", path, NULL }, *printed = NULL;
	struct bw_conf *conf = bw_conf_create();
	size_t printed_bytes;
	int error;
	FILE *out;

	BW_ASSERT(conf != NULL);
	BW_ASSERT(ftruncate(file, 0) == 0 && pwrite(file, text, len, 0) == (ssize_t)len);
	errors = 0;
	error = bw_conf_parse(conf, 2, args);
	if (error == 0)
		error = bw_conf_finish(conf);
	BW_ASSERT(error <= 0);
	BW_ASSERT_EQ(errors, error != 0);
	if (error == 0) {
		out = open_memstream(&printed, &printed_bytes);
		BW_ASSERT(out != NULL);
		BW_ASSERT_EQ(bw_conf_print(conf, out), 0);
		fclose(out);
	}
	bw_conf_destroy(conf);
	return printed;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *first = read_and_print(data, size), *second;

	if (first == NULL)
		return 0;
	second = read_and_print(first, strlen(first));
	BW_ASSERT(second != NULL && strcmp(first, second) == 0);
	free(first);
	free(second);
	return 0;
}
