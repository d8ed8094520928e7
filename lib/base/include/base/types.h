/* SPDX-License-Identifier: BSD-3-Clause */
/** Scalar types and small macros that every room uses. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Monotonic time in nanoseconds. The zero point is unspecified; differences are what matters. */
typedef uint64_t bw_ns;

#define BW_NS_PER_US  1000ull
#define BW_NS_PER_MS  1000000ull
#define BW_NS_PER_SEC 1000000000ull
/** A deadline that never comes. */
#define BW_NEVER      UINT64_MAX

#define BW_CACHE_LINE 64

#define bw_likely(x)   __builtin_expect(!!(x), 1)
#define bw_unlikely(x) __builtin_expect(!!(x), 0)

#define BW_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#define bw_container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#define BW_MIN(a, b)                                                                                         \
	({                                                                                                   \
		__typeof__(a) bw_min_a = (a);                                                                \
		__typeof__(b) bw_min_b = (b);                                                                \
		bw_min_a < bw_min_b ? bw_min_a : bw_min_b;                                                   \
	})
#define BW_MAX(a, b)                                                                                         \
	({                                                                                                   \
		__typeof__(a) bw_max_a = (a);                                                                \
		__typeof__(b) bw_max_b = (b);                                                                \
		bw_max_a > bw_max_b ? bw_max_a : bw_max_b;                                                   \
	})
