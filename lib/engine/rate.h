/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * So many a second, for several threads: GCRA (ITU-T I.371), which is a token bucket in one word. `due_at` is when the
 * next one would be due if they came evenly; a burst may be ahead of that by the slack.
 */
#pragma once

#include <stdatomic.h>

#include <base/types.h>

#define BW_RATE_BURST_MIN 16u

struct bw_rate {
	bw_ns interval_ns; /* 0: no limit */
	bw_ns slack_ns;
	_Atomic bw_ns due_at;
};

/** A tenth of a second's worth may come at once, and 16 at least. @per_s  at most 10^9; 0: no limit */
static inline void bw_rate_init(struct bw_rate *rate, uint32_t per_s)
{
	rate->interval_ns = per_s > 0 ? BW_NS_PER_SEC / per_s : 0;
	rate->slack_ns = rate->interval_ns * BW_MAX(per_s / 10, BW_RATE_BURST_MIN);
	atomic_init(&rate->due_at, 0);
}

/** How many of `want` may go now; they are counted as gone. */
static inline unsigned bw_rate_take(struct bw_rate *rate, bw_ns now, unsigned want)
{
	bw_ns due_at = atomic_load_explicit(&rate->due_at, memory_order_relaxed), from;
	unsigned count;

	if (rate->interval_ns == 0)
		return want;
	do {
		from = BW_MAX(due_at, now);
		if (from > now + rate->slack_ns)
			return 0;
		count = (unsigned)BW_MIN((now + rate->slack_ns - from) / rate->interval_ns, (bw_ns)want);
	} while (count > 0 &&
		 !atomic_compare_exchange_weak_explicit(&rate->due_at, &due_at,
			 from + count * rate->interval_ns, memory_order_relaxed, memory_order_relaxed));
	return count;
}

/** What was taken and not used. Only of a rate that one thread takes from. */
static inline void bw_rate_give_back(struct bw_rate *rate, unsigned count)
{
	atomic_fetch_sub_explicit(&rate->due_at, count * rate->interval_ns, memory_order_relaxed);
}

/** How long until one may go; 0: it may. */
static inline bw_ns bw_rate_wait_ns(const struct bw_rate *rate, bw_ns now)
{
	const bw_ns first_at = atomic_load_explicit(&rate->due_at, memory_order_relaxed) + rate->interval_ns;

	return rate->interval_ns == 0 || first_at <= now + rate->slack_ns ? 0
									  : first_at - now - rate->slack_ns;
}
