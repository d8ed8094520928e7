/* SPDX-License-Identifier: BSD-3-Clause */
/** What the store does when nobody asks, in slices of bounded time: see sweep.c. */
#pragma once

#include "store.h"

/** A slice ends with the batch in which this has passed. */
#define BW_RESP__SWEEP_SLICE_NS (15 * BW_NS_PER_US)
#define BW_RESP__SWEEP_BATCH    4u /* buckets */

struct bw_resp__sweep {
	bw_ns last_at, next_at;
	uint32_t looked, freed; /* buckets and items of the round that is under way */
	uint64_t swept;         /* what the store had swept before it */
	bool is_behind;         /* the last round found much */
};

/** A slice, if its time has come. @now  the turn's */
void bw_resp__sweep_turn(struct bw_resp__sweep *sweep, struct bw_resp__store *store, bw_ns now);
