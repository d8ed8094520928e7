/* SPDX-License-Identifier: BSD-3-Clause */
#include "internal.h"

struct bw_tcp__numbers bw_tcp__numbers(const struct bw_tcp *tcp, const struct bw_flow *flow)
{
	uint64_t hash = bw_siphash(&tcp->conf.secret, flow, sizeof(*flow));

	return (struct bw_tcp__numbers){
		.isn = (bw_seq)(tcp->now / (BW_NS_PER_MS / BW_TCP__ISN_TICKS_PER_MS)) + (bw_seq)hash,
		.ts_offset = (uint32_t)(hash >> 32),
	};
}
