/* SPDX-License-Identifier: BSD-3-Clause */
/** What a call writes to stderr, and the room of a test. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

static char captured[4096];
static int capture_file = -1, capture_stderr = -1;

static inline void capture_begin(void)
{
	fflush(stderr);
	capture_file = memfd_create("captured", MFD_CLOEXEC);
	capture_stderr = dup(STDERR_FILENO);
	assert_true(capture_file >= 0 && capture_stderr >= 0);
	dup2(capture_file, STDERR_FILENO);
}

static inline const char *capture_end(void)
{
	ssize_t bytes;

	fflush(stderr);
	bytes = pread(capture_file, captured, sizeof(captured) - 1, 0);
	captured[bytes > 0 ? bytes : 0] = '\0';
	dup2(capture_stderr, STDERR_FILENO);
	close(capture_stderr);
	close(capture_file);
	return captured;
}
