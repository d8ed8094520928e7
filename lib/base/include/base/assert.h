/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Assertions guard our own invariants and stay on in production. A peer's bytes never decide one.
 *
 *     BW_ASSERT(list_is_linked);
 *     BW_ASSERT_LE(queued_bytes, limit_bytes);     prints both values
 */
#pragma once

#include <base/types.h>

_Noreturn void bw_assert_fail(const char *file, int line, const char *expr);
_Noreturn void bw_assert_cmp_fail(
	const char *file, int line, const char *expr, uint64_t left, uint64_t right);

#define BW_ASSERT(expr)                                                                                      \
	do {                                                                                                 \
		if (bw_unlikely(!(expr)))                                                                    \
			bw_assert_fail(__FILE__, __LINE__, #expr);                                           \
	} while (0)

#define BW_ASSERT_CMP(a, op, b)                                                                              \
	do {                                                                                                 \
		uint64_t bw_cmp_a = (uint64_t)(a), bw_cmp_b = (uint64_t)(b);                                 \
		if (bw_unlikely(!(bw_cmp_a op bw_cmp_b)))                                                    \
			bw_assert_cmp_fail(__FILE__, __LINE__, #a " " #op " " #b, bw_cmp_a, bw_cmp_b);       \
	} while (0)

#define BW_ASSERT_EQ(a, b) BW_ASSERT_CMP(a, ==, b)
#define BW_ASSERT_LE(a, b) BW_ASSERT_CMP(a, <=, b)
#define BW_ASSERT_LT(a, b) BW_ASSERT_CMP(a, <, b)
