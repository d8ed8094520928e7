/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Theory. Lookups free what has expired where they meet it. What nobody asks for any more, the sweep finds: it goes
 * through the buckets of the index, in slices between the worker's other work. A slice may take BW_RESP__SWEEP_SLICE_NS,
 * by the clock, which is read after each small batch: how long a batch takes depends on what it frees and on what lies
 * in the processor's cache, so a number of buckets would bound nothing.
 *
 * How much is done adapts to what is found, as in Redis's active expire cycle. While fewer than a tenth of the keys that
 * a round looks at can be freed, a slice is a round, once a millisecond (more after a longer sleep, so that the pace is
 * the same). From a tenth on it goes on round after round, until its time is over; then the next slice comes after
 * three times as long as this one took. So a million keys that expire at once take a quarter of the worker's time until
 * they are gone, and delay no request by more than a slice.
 */
#include "sweep.h"

#include <base/clock.h>

#define ROUND_BUCKETS     32u
#define ROUND_BUCKETS_MAX 1024u /* after a sleep */
#define ROUND_NS          BW_NS_PER_MS
#define ROUND_WORTH       10u /* one item freed of so many, for which another round follows */
#define REST              3u  /* times what a slice took */

void bw_resp__sweep_turn(struct bw_resp__sweep *sweep, struct bw_resp__store *store, bw_ns now)
{
	uint64_t due, buckets = 0;
	bw_ns from, spent;

	if (now < sweep->next_at)
		return;
	due = BW_MIN((now - sweep->last_at) / ROUND_NS * ROUND_BUCKETS, (uint64_t)ROUND_BUCKETS_MAX);
	due = BW_MAX(due, (uint64_t)ROUND_BUCKETS);
	from = bw_clock_now();
	do {
		sweep->freed += bw_resp__store_sweep(store, BW_RESP__SWEEP_BATCH);
		sweep->looked += BW_RESP__SWEEP_BATCH;
		buckets += BW_RESP__SWEEP_BATCH;
		/* By whole rounds, also where a slice is shorter: a few buckets say nothing. */
		if (sweep->looked >= ROUND_BUCKETS) {
			sweep->is_behind = sweep->freed * ROUND_WORTH > store->swept - sweep->swept;
			sweep->swept = store->swept;
			sweep->looked = sweep->freed = 0;
		}
		spent = bw_clock_now() - from;
	} while (spent < BW_RESP__SWEEP_SLICE_NS && (buckets < due || sweep->is_behind));
	sweep->last_at = now;
	sweep->next_at = now + (sweep->is_behind ? (1 + REST) * spent : ROUND_NS);
}
