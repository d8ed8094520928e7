/* SPDX-License-Identifier: BSD-3-Clause */
/** A configuration made from a file and flags, and what it said on stderr meanwhile. Lives in a folder of its own. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <control/conf.h>

#define SAID_BYTES 4096

struct outcome {
	struct bw_conf *conf;
	int error;
	char said[SAID_BYTES];
};

static inline void write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
	assert_int_equal(fclose(file), 0);
}

/** With what was set in it before, if anything was. */
static inline struct outcome configure_made(struct bw_conf *conf, int argc, char **argv)
{
	struct outcome outcome = { .conf = conf };
	int stderr_before = dup(STDERR_FILENO), said = memfd_create("said", MFD_CLOEXEC);
	ssize_t bytes;

	assert_non_null(outcome.conf);
	assert_true(stderr_before >= 0 && said >= 0);
	dup2(said, STDERR_FILENO);
	outcome.error = bw_conf_parse(outcome.conf, argc, argv);
	if (outcome.error == 0)
		outcome.error = bw_conf_finish(outcome.conf);
	dup2(stderr_before, STDERR_FILENO);
	bytes = pread(said, outcome.said, sizeof(outcome.said) - 1, 0);
	assert_true(bytes >= 0);
	close(stderr_before);
	close(said);
	return outcome;
}

static inline struct outcome configure(int argc, char **argv)
{
	return configure_made(bw_conf_create(), argc, argv);
}

/** Flags as an array literal: FLAGS("--http", "80"). */
#define FLAGS(...) ((char *[]){ __VA_ARGS__ __VA_OPT__(, ) NULL })

static inline int flag_count(char **flags)
{
	int count = 0;

	while (flags[count] != NULL)
		count++;
	return count;
}

static inline void refused_at(
	const char *place, int line, const char *yaml, char **flags, const char *expected)
{
	char *argv[32] = { "-c", "c.yaml" }, wanted[SAID_BYTES];
	int argc = yaml != NULL ? 2 : 0;
	struct outcome outcome;

	if (yaml != NULL)
		write_file("c.yaml", yaml);
	for (int i = 0; flags[i] != NULL; i++)
		argv[argc++] = flags[i];
	outcome = configure(argc, argv);
	snprintf(wanted, sizeof(wanted), "barewire: error: %s\n", expected);
	bw_conf_destroy(outcome.conf);
	if (outcome.error >= 0 || strcmp(outcome.said, wanted) != 0)
		print_error("%s:%d: returned %d\n  wanted %s  said   %s\n", place, line, outcome.error,
			wanted, outcome.said);
	assert_true(outcome.error < 0);
	assert_string_equal(outcome.said, wanted);
}

/** That file (or NULL) with these flags is refused with exactly this line and nothing else. */
#define REFUSED(yaml, flags, expected) refused_at(__FILE__, __LINE__, yaml, flags, expected)

static inline struct bw_conf *accepted_at(const char *place, int line, const char *yaml, char **flags)
{
	char *argv[64] = { "-c", "c.yaml" };
	int argc = yaml != NULL ? 2 : 0;
	struct outcome outcome;

	if (yaml != NULL)
		write_file("c.yaml", yaml);
	for (int i = 0; flags[i] != NULL; i++)
		argv[argc++] = flags[i];
	outcome = configure(argc, argv);
	if (outcome.error != 0)
		print_error("%s:%d: %s", place, line, outcome.said);
	assert_int_equal(outcome.error, 0);
	assert_string_equal(outcome.said, "");
	return outcome.conf;
}

#define ACCEPTED(yaml, flags) accepted_at(__FILE__, __LINE__, yaml, flags)

static inline char *printed(const struct bw_conf *conf)
{
	char *text = NULL;
	size_t bytes;
	FILE *out = open_memstream(&text, &bytes);

	assert_non_null(out);
	assert_int_equal(bw_conf_print(conf, out), 0);
	fclose(out);
	return text;
}

static char folder[] = "/tmp/bw-test-conf-XXXXXX";

static inline int folder_make(void **state)
{
	return mkdtemp(folder) != NULL ? chdir(folder) : -1;
}

static inline int folder_remove(void **state)
{
	unlink("c.yaml");
	return chdir("/") == 0 ? rmdir(folder) : -1;
}
