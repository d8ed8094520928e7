/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * The clock that the engine reads once a turn. Time is passed down as an argument; others read it only to measure, or
 * to keep to a budget of time (the sweep of the cache).
 */
#pragma once

#include <base/types.h>

/** Calibrate against CLOCK_MONOTONIC. Once, before the first bw_clock_now(). */
void bw_clock_init(void);
/** TSC scaled to ns by a 64.64 multiplication; a few ns, no system call. Monotonic on an invariant TSC. */
bw_ns bw_clock_now(void);
/** Ticks of the TSC, for cycle accounting. */
static inline uint64_t bw_clock_cycles(void)
{
	return __builtin_ia32_rdtsc();
}
