/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Congestion control: slow start (RFC 5681) with appropriate byte counting (RFC 3465) from an initial window of
 * ten segments (RFC 6928), the same for all, but that DCTCP's first does not end by delay (hystart.c); for the rest
 * CUBIC (cubic.c), NewReno (reno.c) or DCTCP (dctcp.c), as the listener chose, through a table of functions. This file
 * is all that changes cwnd and ssthresh; recovery.c and ecn.c say when.
 */
#include "internal.h"

/** RFC 6928 2: min(10 * MSS, max(2 * MSS, 14600)). */
static uint32_t initial_window(const struct bw_tcp_conn *conn)
{
	uint32_t mss = conn->mss;

	return BW_MIN(BW_TCP__INITIAL_SEGMENTS * mss, BW_MAX(2 * mss, 14600u));
}

static void cut_ssthresh(struct bw_tcp *tcp, struct bw_tcp_conn *conn, bool is_ece)
{
	const struct bw_tcp__cc_ops *ops = bw_tcp__cc_ops_of(tcp, conn);
	union bw_tcp__cc *cc = &bw_tcp__recovery_take(tcp, conn)->cc;
	uint32_t flight = bw_tcp__fills_cwnd(conn) ? conn->cwnd : conn->snd_nxt - conn->snd_una;
	uint32_t ssthresh = (is_ece ? ops->on_ece : ops->on_loss)(cc, conn->cwnd, flight);

	/* The floor is two segments for marks, too: RFC 3168 6.1.2 goes on below, with a segment an RTO; Linux not. */
	bw_tcp__rare(tcp, conn)->ssthresh = BW_MAX(ssthresh, 2u * conn->mss);
	bw_tcp__ecn_reduced(tcp, conn);
}

void bw_tcp__cc_init(struct bw_tcp *tcp, struct bw_tcp_conn *conn, bool syn_was_lost)
{
	conn->cwnd =
		syn_was_lost ? conn->mss : initial_window(conn); /* RFC 5681 3.1, last paragraph but two */
}

/** L of RFC 9406 4.2, in bytes. */
static uint32_t growth_max(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn)
{
	/* RFC 3465 2.3: after a timeout an ACK says little about what has just left the network. */
	if (conn->flags & BW_CONN_RTO_RECOVERY)
		return conn->mss;
	/*
	 * A receiver that merges packets before its TCP sees them sends one ACK for dozens, and with RFC 3465's 2 a
	 * window of them would grow by 2 a round trip. What is paced makes no burst of it.
	 */
	return bw_tcp__listener(tcp, conn)->pacing ? UINT32_MAX : 8u * conn->mss;
}

static void first_slow_start(struct bw_tcp *tcp, struct bw_tcp_conn *conn, uint32_t growth, uint32_t rtt_us)
{
	struct bw_tcp__cold *cold = bw_tcp__cold(tcp, conn);
	struct bw_tcp__hystart *h = &tcp->hystarts[conn->index];

	if (!cold->has_hystart) {
		cold->has_hystart = true;
		bw_tcp__hystart_init(h, conn->snd_nxt);
	}
	conn->cwnd += h->css_round != 0 ? growth / BW_TCP__CSS_DIVISOR : growth;
	if (!bw_tcp__hystart_on_ack(h, conn->snd_una, conn->snd_nxt, rtt_us))
		return;
	/* Congestion avoidance, and its state. RFC 9438 4.2: CUBIC begins on a plateau here. */
	(void)bw_tcp__recovery_take(tcp, conn);
	bw_tcp__rare(tcp, conn)->ssthresh = conn->cwnd;
}

void bw_tcp__cc_on_ack(struct bw_tcp *tcp, struct bw_tcp_conn *conn, uint32_t acked_bytes, uint32_t rtt_us)
{
	uint32_t cwnd_max, ssthresh;

	if (conn->cwnd_use == BW_CWND_IDLE)
		return;
	/* More than can ever be queued is of no use, and the arithmetic stays far from its limits. */
	cwnd_max = bw_tcp__send_bytes_max(tcp, conn) + initial_window(conn);
	if (conn->cwnd >= cwnd_max)
		return;
	ssthresh = bw_tcp__ssthresh(tcp, conn);
	if (conn->cwnd < ssthresh) {
		uint32_t growth = BW_MIN(acked_bytes, growth_max(tcp, conn));

		/* RFC 8257 is for networks whose delay says little, and their routers all. */
		if (ssthresh == UINT32_MAX && bw_tcp__cc_ops_of(tcp, conn)->on_marks == NULL)
			first_slow_start(tcp, conn, growth, rtt_us);
		else
			conn->cwnd += growth;
		return;
	}
	if (conn->cwnd_use != BW_CWND_FULL)
		return;
	/* There was a loss, or HyStart++ has found ssthresh, or it would be out of reach. */
	conn->cwnd = bw_tcp__cc_ops_of(tcp, conn)->on_ack(
		&bw_tcp__recovery(tcp, conn)->cc, conn, tcp->now_ms, acked_bytes);
	conn->cwnd = BW_MIN(conn->cwnd, cwnd_max);
}

void bw_tcp__cc_on_loss(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	/* RFC 3168 6.1.2: losses and marks of one window are one event. */
	if (bw_tcp__ecn_is_answered(tcp, conn))
		return;
	cut_ssthresh(tcp, conn, false);
	/* The pipe counts what is in flight, so no inflation is due (RFC 6675 5). */
	conn->cwnd = bw_tcp__ssthresh(tcp, conn);
}

void bw_tcp__cc_on_ece(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	bw_tcp__count(tcp, BW_TCP_ECE_REDUCTIONS);
	cut_ssthresh(tcp, conn, true);
	conn->cwnd = BW_MIN(conn->cwnd, bw_tcp__ssthresh(tcp, conn));
}

void bw_tcp__cc_set_in_recovery(struct bw_tcp_conn *conn, uint32_t cwnd)
{
	conn->cwnd = BW_MAX(cwnd, (uint32_t)conn->mss);
}

void bw_tcp__cc_remember(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct bw_tcp__recovery *r = bw_tcp__recovery_take(tcp, conn);

	r->undo_cwnd = conn->cwnd;
	r->undo_ssthresh = bw_tcp__ssthresh(tcp, conn);
	r->undo_cc = r->cc;
}

void bw_tcp__cc_undo(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct bw_tcp__recovery *r = bw_tcp__recovery(tcp, conn);

	conn->cwnd = BW_MAX(conn->cwnd, r->undo_cwnd);
	bw_tcp__rare(tcp, conn)->ssthresh = r->undo_ssthresh;
	r->cc = r->undo_cc;
	/* The window has not been answered after all: the next ECE counts. */
	r->cwr_end = conn->snd_una;
}

void bw_tcp__cc_on_recovered(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	uint32_t ssthresh = bw_tcp__ssthresh(tcp, conn), flight = conn->snd_nxt - conn->snd_una;

	/*
	 * Proportional rate reduction has kept as much in flight as it should be (RFC 9937 5). Without SACK, no
	 * burst if little is in flight by now (RFC 6582 3.2 step 3, first option).
	 */
	conn->cwnd = conn->flags & BW_CONN_SACK
			     ? ssthresh
			     : BW_MIN(ssthresh, BW_MAX(flight, (uint32_t)conn->mss) + conn->mss);
}

void bw_tcp__cc_on_rto(struct bw_tcp *tcp, struct bw_tcp_conn *conn, bool is_first)
{
	/*
	 * RFC 5681 3.1: held constant when the same data times out again. RFC 3168 6.1.2: and when the window was
	 * answered before, unless it was a repeat that is lost.
	 */
	if (is_first && ((conn->flags & BW_CONN_RECOVERING) || !bw_tcp__ecn_is_answered(tcp, conn)))
		cut_ssthresh(tcp, conn, false);
	if (bw_tcp__cc_ops_of(tcp, conn)->on_timeout != NULL)
		bw_tcp__cc_ops_of(tcp, conn)->on_timeout(&bw_tcp__recovery_take(tcp, conn)->cc);
	conn->cwnd = conn->mss; /* the loss window */
}

void bw_tcp__cc_on_restart(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	/* RFC 5681 4.1: after an idle RTO, from the restart window. */
	if (bw_tcp__ms_since(tcp, conn->progress_ms) > bw_tcp__rto_ms(conn))
		conn->cwnd = BW_MIN(conn->cwnd, initial_window(conn));
}
