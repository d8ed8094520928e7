/* SPDX-License-Identifier: BSD-3-Clause */
/** Memory that is there before it is needed: touched first by a helper thread, see warm.c. */
#pragma once

#include <base/types.h>
#include <service/service.h>

#define BW_RESP__WARM_REGIONS 2u

struct bw_resp__warm {
	struct bw_job job;
	struct bw_resp__warm_region {
		uint8_t *base;
		uint64_t bytes, ahead_bytes;
		uint64_t used_bytes; /* as the worker told last */
		uint64_t warm_bytes; /* the helper's while the job is out */
	} regions[BW_RESP__WARM_REGIONS];
	bool is_out; /* the job */
	bool is_on;  /* the kernel can */
};

/**
 * Two regions which are used from their beginning on. Nothing is touched yet.
 *
 * @regions  base, bytes and ahead_bytes are set; each base begins a huge page
 */
void bw_resp__warm_init(
	struct bw_resp__warm *warm, const struct bw_resp__warm_region regions[BW_RESP__WARM_REGIONS]);
/** So much of each is in use now. True: there is work to do, for the job if it is not out. */
bool bw_resp__warm_is_due(struct bw_resp__warm *warm, const uint64_t used_bytes[BW_RESP__WARM_REGIONS]);
/** Do it. Takes up to some milliseconds: on a helper thread, or before the worker begins. */
void bw_resp__warm_work(struct bw_resp__warm *warm);
