/* SPDX-License-Identifier: BSD-3-Clause */
/** Random numbers that need not be secret. */
#pragma once

#include <base/types.h>

/** SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014). Any state will do. */
static inline uint64_t bw_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}
