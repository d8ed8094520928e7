/* SPDX-License-Identifier: BSD-3-Clause */
/** What a peer must not be able to predict of a flow: its first sequence number and its clock's offset. */
#include "internal.h"

/** RFC 6528: a clock of 4 us ticks plus a keyed hash of the flow. */
bw_seq bw_tcp__isn(const struct bw_tcp *tcp, const struct bw_flow *flow)
{
	return (bw_seq)(tcp->now / (BW_NS_PER_MS / BW_TCP__ISN_TICKS_PER_MS)) +
	       (bw_seq)bw_siphash(&tcp->conf.secret, flow, sizeof(*flow));
}

/** RFC 7323 5.4. The same for every incarnation of a flow, so that its clock goes on (RFC 6191 compares). */
uint32_t bw_tcp__ts_offset(const struct bw_tcp *tcp, const struct bw_flow *flow)
{
	return (uint32_t)(bw_siphash(&tcp->conf.secret, flow, sizeof(*flow)) >> 32);
}
