/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <base/log.h>

/* One line with its prefix and newline. Longer ones are cut: a line is one write, and a write is atomic. */
#define LINE_BYTES_MAX 1024

static const char *const prefix[] = {
	[BW_LOG_ERROR] = "barewire: error: ",
	[BW_LOG_WARN] = "barewire: warning: ",
	[BW_LOG_INFO] = "barewire: ",
	[BW_LOG_DEBUG] = "barewire: debug: ",
};

/* Set from the command line or by a signal while workers log: a stale value costs one line more or less. */
static enum bw_log_level level_max = BW_LOG_INFO;

void bw_log_set_level(enum bw_log_level level)
{
	__atomic_store_n(&level_max, level, __ATOMIC_RELAXED);
}

void bw_log(enum bw_log_level level, const char *format, ...)
{
	const int errno_before = errno;
	char line[LINE_BYTES_MAX];
	size_t room, used;
	va_list args;
	int wanted;

	if (level > __atomic_load_n(&level_max, __ATOMIC_RELAXED))
		return;

	used = strlen(prefix[level]);
	memcpy(line, prefix[level], used);
	room = sizeof(line) - used - 1; /* the newline's byte takes the place of the terminator */

	va_start(args, format);
	wanted = vsnprintf(line + used, room + 1, format, args);
	va_end(args);
	if (wanted < 0)
		return;

	/*
	 * One event is one line, and a peer's bytes in it neither start a second one nor drive the terminal.
	 */
	const size_t text_len = BW_MIN((size_t)wanted, room);
	for (size_t i = used; i < used + text_len; i++) {
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
	}
	used += text_len;
	if ((size_t)wanted > room)
		memcpy(line + used - 3, "...", 3);
	line[used++] = '\n';

	/* A closed or full stderr must not stop the program; there is nobody left to tell. */
	while (write(STDERR_FILENO, line, used) < 0 && errno == EINTR)
		;
	errno = errno_before;
}
