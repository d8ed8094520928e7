/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * DCTCP (RFC 8257): the peer reports which of our bytes were marked, not merely that some were, and the window is
 * cut in proportion. alpha is a moving average, over windows, of the marked fraction; a window with marks costs half
 * of alpha. Losses are answered as NewReno does, and so is growth.
 *
 * alpha is 1 in the beginning (4.2), so that the first marks cost half a window. The estimation begins with
 * them: a connection that never sees any needs no state for it.
 */
#include "internal.h"

#define ALPHA_ONE  (1u << BW_TCP__ALPHA_BITS)
#define GAIN_SHIFT 4 /* g is 1/16: 4.2 */

uint32_t bw_tcp__dctcp_on_ece(const struct bw_tcp__dctcp *d, uint32_t cwnd)
{
	uint64_t alpha = d->has_alpha ? d->alpha : ALPHA_ONE;

	return cwnd -
	       (uint32_t)((cwnd * alpha) >> (BW_TCP__ALPHA_BITS + 1)); /* 3.3: cwnd * (1 - alpha / 2) */
}

bool bw_tcp__dctcp_on_marks(
	struct bw_tcp__dctcp *d, bw_seq snd_una, bw_seq snd_nxt, uint32_t acked_bytes, bool is_ece)
{
	uint32_t marked;

	if (!d->has_alpha) {
		d->has_alpha = true;
		d->alpha = ALPHA_ONE;
		d->window_end = snd_nxt;
	}
	/* 3.3, steps 2 to 8 */
	d->acked_bytes += acked_bytes;
	d->marked_bytes += is_ece ? acked_bytes : 0;
	if (bw_seq_leq(snd_una, d->window_end))
		return true;
	marked =
		(uint32_t)(((uint64_t)d->marked_bytes << (BW_TCP__ALPHA_BITS - GAIN_SHIFT)) / d->acked_bytes);
	/* Rounded so that it does reach 0. */
	d->alpha -= BW_MIN(BW_MAX(d->alpha >> GAIN_SHIFT, 1u), d->alpha);
	d->alpha = BW_MIN(d->alpha + marked, ALPHA_ONE);
	d->window_end = snd_nxt;
	d->acked_bytes = d->marked_bytes = 0;
	return d->alpha != 0;
}

/** 3.5: "in the same way as conventional TCP". */
static uint32_t on_loss(union bw_tcp__cc *cc, uint32_t cwnd, uint32_t flight)
{
	(void)cwnd;
	return bw_tcp__reno_on_loss(&cc->dctcp.reno, flight);
}

static uint32_t on_ece(union bw_tcp__cc *cc, uint32_t cwnd, uint32_t flight)
{
	(void)flight;
	cc->dctcp.reno.acked_bytes = 0;
	return bw_tcp__dctcp_on_ece(&cc->dctcp, cwnd);
}

static uint32_t on_ack(
	union bw_tcp__cc *cc, const struct bw_tcp_conn *conn, uint32_t now_ms, uint32_t acked_bytes)
{
	(void)now_ms;
	return bw_tcp__reno_on_ack(&cc->dctcp.reno, conn->cwnd, conn->mss, acked_bytes);
}

static bool on_marks(union bw_tcp__cc *cc, const struct bw_tcp_conn *conn, uint32_t acked_bytes, bool is_ece)
{
	return bw_tcp__dctcp_on_marks(&cc->dctcp, conn->snd_una, conn->snd_nxt, acked_bytes, is_ece);
}

const struct bw_tcp__cc_ops bw_tcp__cc_dctcp = {
	.on_loss = on_loss,
	.on_ece = on_ece,
	.on_ack = on_ack,
	.on_marks = on_marks,
};
