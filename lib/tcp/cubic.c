/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * CUBIC (RFC 9438): after a congestion event the window grows along a cubic of time, fast while far from the window
 * at which the last event came, slowly around it, then fast again in search of more. Where Reno would be faster, as
 * it is on short round trips, a window as Reno's (of the same mean) is followed instead.
 *
 * Bytes and milliseconds. C is 0.4 segments a second cubed, beta 0.7.
 */
#include "internal.h"

#define SPAN_MAX_MS 100000 /* of t - K, so that its cube times a segment fits 64 bits */

static uint32_t times_0_7(uint32_t bytes)
{
	return (uint32_t)(bytes * 7ull / 10);
}

static uint32_t cube_root(uint64_t n)
{
	uint64_t root = 0;

	for (int bit = 20; bit >= 0; bit--) { /* 2^63 has a root of 21 bits */
		uint64_t trial = root | 1ull << bit;

		if (trial * trial * trial <= n)
			root = trial;
	}
	return (uint32_t)root;
}

uint32_t bw_tcp__cubic_on_loss(struct bw_tcp__cubic *c, uint32_t cwnd, uint32_t flight)
{
	/* 4.7: a flow that did not get back to where it was makes room for others. */
	c->w_max = cwnd < c->w_max ? (uint32_t)(cwnd * 17ull / 20) : cwnd;
	c->cwnd_prior = cwnd;
	c->has_epoch = false;
	return times_0_7(flight);
}

/** 4.8: congestion avoidance then begins on the cubic's plateau: where slow start ends, not where it timed out. */
void bw_tcp__cubic_on_timeout(struct bw_tcp__cubic *c)
{
	c->w_max = 0;
}

static void begin_epoch(struct bw_tcp__cubic *c, uint32_t now_ms, uint32_t cwnd, uint32_t mss)
{
	c->has_epoch = true;
	c->epoch_ms = now_ms;
	c->w_est = cwnd;
	c->w_max = BW_MAX(c->w_max, cwnd);
	/* 4.2: K = cbrt((W_max - cwnd_epoch) / C), in segments and seconds */
	c->k_ms = cube_root((c->w_max - cwnd) * 2500000000ull / mss);
}

/** W_cubic(t): 4.2, figure 1. */
static uint32_t w_cubic(const struct bw_tcp__cubic *c, uint32_t t_ms, uint32_t mss)
{
	int64_t span = (int64_t)t_ms - c->k_ms, window;

	span = BW_MAX(BW_MIN(span, (int64_t)SPAN_MAX_MS), -(int64_t)SPAN_MAX_MS);
	window = (int64_t)c->w_max + span * span * span / 1000000 * mss * 4 / 10000;
	return (uint32_t)BW_MAX(BW_MIN(window, (int64_t)INT32_MAX), (int64_t)mss);
}

uint32_t bw_tcp__cubic_on_ack(struct bw_tcp__cubic *c, uint32_t now_ms, uint32_t srtt_ms, uint32_t cwnd,
	uint32_t mss, uint32_t acked_bytes)
{
	uint32_t t_ms, target, silent_ms = now_ms - c->last_ms;

	if (!c->has_epoch)
		begin_epoch(c, now_ms, cwnd, mss);
	else if (silent_ms > 2 * srtt_ms + 1)
		/* 4.2, 5.8: cwnd was not what held back what was sent, and time in which it is not tried does not count */
		c->epoch_ms += silent_ms - srtt_ms;
	c->last_ms = now_ms;
	t_ms = now_ms - c->epoch_ms;
	/* 4.3: alpha makes up for the larger beta, until the old window is reached. */
	c->w_est += (uint32_t)((uint64_t)acked_bytes * mss / cwnd * (c->w_est < c->cwnd_prior ? 9 : 17) / 17);
	if (w_cubic(c, t_ms, mss) < c->w_est)
		return BW_MAX(cwnd, c->w_est);
	/* 4.4, 4.5: to be there a round trip from now, and at most half as much again. */
	target = w_cubic(c, t_ms + srtt_ms, mss);
	target = BW_MAX(BW_MIN(target, cwnd + cwnd / 2), cwnd);
	return cwnd + (uint32_t)((uint64_t)(target - cwnd) * BW_MIN(acked_bytes, cwnd) / cwnd);
}

/** 4.6: the same for a loss and for marks. */
static uint32_t on_event(union bw_tcp__cc *cc, uint32_t cwnd, uint32_t flight)
{
	return bw_tcp__cubic_on_loss(&cc->cubic, cwnd, flight);
}

static uint32_t on_ack(
	union bw_tcp__cc *cc, const struct bw_tcp_conn *conn, uint32_t now_ms, uint32_t acked_bytes)
{
	return bw_tcp__cubic_on_ack(
		&cc->cubic, now_ms, conn->srtt_us8 / 8000, conn->cwnd, conn->mss, acked_bytes);
}

static void on_timeout(union bw_tcp__cc *cc)
{
	bw_tcp__cubic_on_timeout(&cc->cubic);
}

const struct bw_tcp__cc_ops bw_tcp__cc_cubic = {
	.on_timeout = on_timeout, .on_loss = on_event, .on_ece = on_event, .on_ack = on_ack
};
