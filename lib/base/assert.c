/* SPDX-License-Identifier: BSD-3-Clause */
#include <inttypes.h>
#include <stdlib.h>

#include <base/assert.h>
#include <base/log.h>

/*
 * abort(), not exit(): a broken invariant wants a core dump of the moment, and no handler that would run on
 * state which can no longer be trusted.
 */
void bw_assert_fail(const char *file, int line, const char *expr)
{
	bw_error("bug: %s:%d: assertion failed: %s", file, line, expr);
	abort();
}

void bw_assert_cmp_fail(const char *file, int line, const char *expr, uint64_t left, uint64_t right)
{
	bw_error("bug: %s:%d: assertion failed: %s (%" PRIu64 " against %" PRIu64 ")", file, line, expr, left,
		right);
	abort();
}
