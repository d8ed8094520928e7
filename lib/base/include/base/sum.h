/* SPDX-License-Identifier: BSD-3-Clause */
/** The Internet checksum (RFC 1071), of whatever lies in one piece. */
#pragma once

#include <string.h>

#include <base/types.h>

/**
 * Sum of 16-bit words, not folded, of `bytes` bytes at any alignment; chain with `sum` for pieces of even
 * length. In the order of memory: what bw_sum_fold() makes of it is stored as it is.
 */
uint64_t bw_sum(const void *data, size_t bytes, uint64_t sum);

/** The same of an IPv4 header without options, whose length the compiler knows. */
static inline uint64_t bw_sum_ip4_header(const void *header)
{
	uint64_t a, b;
	uint32_t c;

	memcpy(&a, header, 8);
	memcpy(&b, (const uint8_t *)header + 8, 8);
	memcpy(&c, (const uint8_t *)header + 16, 4);
	return (a >> 32) + (uint32_t)a + (b >> 32) + (uint32_t)b + c;
}

/** 16 bits, not inverted. */
static inline uint16_t bw_sum_fold(uint64_t sum)
{
	uint32_t folded;

	sum = (sum >> 32) + (sum & 0xffffffff);
	folded = (uint32_t)((sum >> 32) + sum);
	/* Both halves added to each other, both ways round: the carry of the low ones goes into the high ones. */
	return (uint16_t)((folded + (folded << 16 | folded >> 16)) >> 16);
}
