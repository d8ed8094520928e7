/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * NewReno's congestion avoidance (RFC 5681 3.1): half the window after a congestion event, then a segment more a
 * round trip, by bytes that are acknowledged rather than by ACKs (RFC 3465 2.1). The recovery that the name stands
 * for (RFC 6582) is in recovery.c.
 */
#include "internal.h"

uint32_t bw_tcp__reno_on_loss(struct bw_tcp__reno *reno, uint32_t flight)
{
	reno->acked_bytes = 0;
	return flight / 2;
}

uint32_t bw_tcp__reno_on_ack(struct bw_tcp__reno *reno, uint32_t cwnd, uint32_t mss, uint32_t acked_bytes)
{
	reno->acked_bytes += acked_bytes;
	if (reno->acked_bytes < cwnd)
		return cwnd;
	/* An ACK of more than a window is worth one segment, too. */
	reno->acked_bytes = BW_MIN(reno->acked_bytes - cwnd, cwnd);
	return cwnd + mss;
}

/** RFC 3168 6.1.2: marks are answered as a loss is. */
static uint32_t on_event(union bw_tcp__cc *cc, uint32_t cwnd, uint32_t flight)
{
	(void)cwnd;
	return bw_tcp__reno_on_loss(&cc->reno, flight);
}

static uint32_t on_ack(
	union bw_tcp__cc *cc, const struct bw_tcp_conn *conn, uint32_t now_ms, uint32_t acked_bytes)
{
	(void)now_ms;
	return bw_tcp__reno_on_ack(&cc->reno, conn->cwnd, conn->mss, acked_bytes);
}

const struct bw_tcp__cc_ops bw_tcp__cc_newreno = {
	.on_loss = on_event, .on_ece = on_event, .on_ack = on_ack
};
