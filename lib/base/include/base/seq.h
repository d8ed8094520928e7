/* SPDX-License-Identifier: BSD-3-Clause */
/** TCP sequence numbers: 32 bits, compared modulo 2^32 (RFC 9293 section 3.4). */
#pragma once

#include <base/types.h>

typedef uint32_t bw_seq;

static inline bool bw_seq_lt(bw_seq a, bw_seq b)
{
	return (int32_t)(a - b) < 0;
}

static inline bool bw_seq_leq(bw_seq a, bw_seq b)
{
	return (int32_t)(a - b) <= 0;
}

static inline bool bw_seq_gt(bw_seq a, bw_seq b)
{
	return bw_seq_lt(b, a);
}

static inline bool bw_seq_geq(bw_seq a, bw_seq b)
{
	return bw_seq_leq(b, a);
}

/** Is a in [left, left + length)? False for every a when length is 0. */
static inline bool bw_seq_in(bw_seq a, bw_seq left, uint32_t length)
{
	return a - left < length;
}

static inline bw_seq bw_seq_max(bw_seq a, bw_seq b)
{
	return bw_seq_gt(a, b) ? a : b;
}

static inline bw_seq bw_seq_min(bw_seq a, bw_seq b)
{
	return bw_seq_lt(a, b) ? a : b;
}
