/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Values below 128 have a bucket each. Above, a power of two [2^n, 2^(n+1)) is cut into 128 equal buckets of
 * 2^(n-7), so the bucket's width is at most 1/128 of the value.
 */
#include <math.h>
#include <string.h>

#include <base/assert.h>
#include <base/hist.h>

static inline unsigned bucket_of(uint64_t value)
{
	if (value < BW_HIST_SUBS)
		return (unsigned)value;

	const unsigned shift = 63 - (unsigned)__builtin_clzll(value) - BW_HIST_SUB_BITS;
	return (shift << BW_HIST_SUB_BITS) + (unsigned)(value >> shift);
}

/* The largest value that falls into the bucket. */
static uint64_t bucket_last(unsigned bucket)
{
	if (bucket < BW_HIST_SUBS)
		return bucket;

	const unsigned shift = (bucket >> BW_HIST_SUB_BITS) - 1;
	const uint64_t first = (uint64_t)(bucket - (shift << BW_HIST_SUB_BITS)) << shift;
	return first + ((1ull << shift) - 1);
}

void bw_hist_init(struct bw_hist *hist)
{
	memset(hist, 0, sizeof(*hist));
	hist->min = UINT64_MAX;
}

void bw_hist_add(struct bw_hist *hist, uint64_t value)
{
	hist->count++;
	hist->sum += value;
	hist->min = BW_MIN(hist->min, value);
	hist->max = BW_MAX(hist->max, value);
	hist->bucket[bucket_of(value)]++;
}

void bw_hist_merge(struct bw_hist *into, const struct bw_hist *from)
{
	into->count += from->count;
	into->sum += from->sum;
	into->min = BW_MIN(into->min, from->min);
	into->max = BW_MAX(into->max, from->max);
	for (unsigned i = 0; i < BW_HIST_BUCKETS; i++)
		into->bucket[i] += from->bucket[i];
}

void bw_hist_subtract(struct bw_hist *from, const struct bw_hist *earlier)
{
	from->count -= earlier->count;
	from->sum -= earlier->sum;
	from->min = UINT64_MAX;
	from->max = 0;
	for (unsigned i = 0; i < BW_HIST_BUCKETS; i++) {
		from->bucket[i] -= earlier->bucket[i];
		if (from->bucket[i] == 0)
			continue;
		if (from->min == UINT64_MAX)
			from->min = i > 0 ? bucket_last(i - 1) + 1 : 0;
		from->max = bucket_last(i);
	}
}

uint64_t bw_hist_percentile(const struct bw_hist *hist, double percent)
{
	uint64_t seen = 0;

	if (hist->count == 0)
		return 0;
	BW_ASSERT(percent >= 0 && percent <= 100);

	/* The rank of the sample asked for, from 1. The division may round a whisker above the count. */
	uint64_t rank = (uint64_t)ceil(percent / 100 * (double)hist->count);
	rank = BW_MAX(1u, BW_MIN(rank, hist->count));

	for (unsigned i = 0; i < BW_HIST_BUCKETS; i++) {
		seen += hist->bucket[i];
		if (seen >= rank)
			return BW_MIN(bucket_last(i), hist->max);
	}
	return hist->max;
}
