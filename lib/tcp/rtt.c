/* SPDX-License-Identifier: BSD-3-Clause */
/** Round-trip time and retransmission time-out: RFC 6298, in microseconds and fixed point. */
#include "internal.h"

#define SAMPLE_MAX_US (60u * 1000 * 1000)

uint32_t bw_tcp__rtt_sample(struct bw_tcp_conn *conn, uint64_t rtt_us)
{
	/* Not 0, which says that there is no sample; not so much that the scaled sum overflows. */
	uint32_t rtt = (uint32_t)BW_MAX(BW_MIN(rtt_us, (uint64_t)SAMPLE_MAX_US), (uint64_t)1);

	if (conn->srtt_us8 == 0) { /* 2.2 */
		conn->srtt_us8 = rtt * 8;
		conn->rttvar_us4 = rtt * 2;
		return rtt;
	}
	/* 2.3: RTTVAR before SRTT, alpha 1/8, beta 1/4 */
	uint32_t srtt = conn->srtt_us8 / 8;
	uint32_t error = srtt > rtt ? srtt - rtt : rtt - srtt;

	conn->rttvar_us4 += error - conn->rttvar_us4 / 4;
	conn->srtt_us8 += rtt - srtt;
	if (conn->srtt_us8 == 0)
		conn->srtt_us8 = 1;
	return rtt;
}

uint32_t bw_tcp__rto_ms(const struct bw_tcp_conn *conn)
{
	uint32_t rto_ms = conn->rttvar_us4; /* before the first sample: the initial value, see conn_open */

	if (conn->srtt_us8 != 0) {
		/*
		 * The minimum goes to the variance's term, as in Linux: the peer may hold an ACK back for up
		 * to 200 ms whatever the round trip is. 4 * RTTVAR is the scaled value itself.
		 */
		uint32_t spread_us = BW_MAX(conn->rttvar_us4, (uint32_t)(BW_TCP__RTO_MIN_MS * 1000));

		rto_ms = (conn->srtt_us8 / 8 + spread_us + 999) / 1000;
	}
	return (uint32_t)BW_MIN((uint64_t)rto_ms << conn->backoff, (uint64_t)BW_TCP__RTO_MAX_MS);
}
