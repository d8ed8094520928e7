/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Theory. The keyspace lies in address space that gets its memory from the kernel as it is touched. Huge pages make
 * lookups faster, but who touches one first waits until 2 MiB are cleared, and where the kernel must first move others'
 * memory away to have 2 MiB in one piece, until that is done: some hundred microseconds, up to milliseconds, on a core
 * that has requests to serve.
 *
 * So a helper thread touches first: it keeps each region warm some way ahead of what is in use, piece by piece. Only
 * what it warms may be huge pages. Where the worker is faster than the helper, it takes small pages, which cost it a
 * microsecond each.
 */
#include "warm.h"

#include <string.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE /* Linux 5.14 */
#define MADV_POPULATE_WRITE 23
#endif

#define PIECE_BYTES (2ull << 20) /* a huge page */

void bw_resp__warm_init(
	struct bw_resp__warm *warm, const struct bw_resp__warm_region regions[BW_RESP__WARM_REGIONS])
{
	memset(warm, 0, sizeof(*warm));
	memcpy(warm->regions, regions, sizeof(warm->regions));
	/* Of nothing, to ask. Where the kernel cannot, huge pages would come with the pauses. */
	warm->is_on = madvise(regions[0].base, 0, MADV_POPULATE_WRITE) == 0;
}

static bool region_is_due(const struct bw_resp__warm_region *region)
{
	return region->warm_bytes < region->bytes &&
	       region->warm_bytes < region->used_bytes + region->ahead_bytes;
}

bool bw_resp__warm_is_due(struct bw_resp__warm *warm, const uint64_t used_bytes[BW_RESP__WARM_REGIONS])
{
	bool is_due = false;

	if (!warm->is_on || warm->is_out)
		return false;
	for (unsigned i = 0; i < BW_RESP__WARM_REGIONS; i++) {
		warm->regions[i].used_bytes = used_bytes[i];
		is_due |= region_is_due(&warm->regions[i]);
	}
	return is_due;
}

void bw_resp__warm_work(struct bw_resp__warm *warm)
{
	for (unsigned i = 0; i < BW_RESP__WARM_REGIONS; i++) {
		struct bw_resp__warm_region *region = &warm->regions[i];

		while (region_is_due(region)) {
			uint8_t *piece = region->base + region->warm_bytes;
			uint64_t bytes = BW_MIN(PIECE_BYTES, region->bytes - region->warm_bytes);

			/* What either refuses, the worker takes as it needs it. */
			(void)madvise(piece, bytes, MADV_HUGEPAGE);
			(void)madvise(piece, bytes, MADV_POPULATE_WRITE);
			region->warm_bytes += bytes;
		}
	}
}
