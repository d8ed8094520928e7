/* SPDX-License-Identifier: BSD-3-Clause */
/** SipHash-2-4 (Aumasson and Bernstein, 2012): a keyed hash for what a peer must not be able to predict. */
#pragma once

#include <base/types.h>

struct bw_siphash_key {
	uint64_t k[2];
};

uint64_t bw_siphash(const struct bw_siphash_key *key, const void *data, size_t data_bytes);
