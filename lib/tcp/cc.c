/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Congestion control: slow start (RFC 5681) with appropriate byte counting (RFC 3465) from an initial window of
 * ten segments (RFC 6928), and CUBIC (RFC 9438, cubic.c) for the rest. This file is all that changes cwnd and
 * ssthresh; recovery.c says when.
 */
#include "internal.h"

/** RFC 6928 2: min(10 * MSS, max(2 * MSS, 14600)). */
static uint32_t initial_window(const struct bw_tcp_conn *conn)
{
	uint32_t mss = conn->mss;

	return BW_MIN(BW_TCP__INITIAL_SEGMENTS * mss, BW_MAX(2 * mss, 14600u));
}

/** RFC 9438 4.6. */
static void cut_ssthresh(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	uint32_t flight = bw_tcp__fills_cwnd(conn) ? conn->cwnd : conn->snd_nxt - conn->snd_una;

	bw_tcp__cold(tcp, conn)->ssthresh =
		BW_MAX(bw_tcp__cubic_on_loss(&bw_tcp__recovery_take(tcp, conn)->cubic, conn->cwnd, flight),
			2u * conn->mss);
}

void bw_tcp__cc_init(struct bw_tcp *tcp, struct bw_tcp_conn *conn, bool syn_was_lost)
{
	bw_tcp__cold(tcp, conn)->ssthresh = UINT32_MAX; /* "arbitrarily high": RFC 5681 3.1 */
	conn->cwnd =
		syn_was_lost ? conn->mss : initial_window(conn); /* RFC 5681 3.1, last paragraph but two */
}

void bw_tcp__cc_on_ack(struct bw_tcp *tcp, struct bw_tcp_conn *conn, uint32_t acked_bytes)
{
	struct bw_tcp__cold *cold;
	uint32_t cwnd_max;

	if (conn->cwnd_use == BW_CWND_IDLE)
		return;
	/* More than can ever be queued is of no use, and the arithmetic stays far from its limits. */
	cwnd_max = bw_tcp__send_bytes_max(tcp, conn) + initial_window(conn);
	if (conn->cwnd >= cwnd_max)
		return;
	cold = bw_tcp__cold(tcp, conn);
	if (conn->cwnd < cold->ssthresh) {
		/*
		 * L = 8 segments (RFC 9406 4.2): a receiver that merges packets before its TCP sees them sends one
		 * ACK for dozens, and with RFC 3465's 2 a window of them would grow by 2 a round trip. 1 after a
		 * timeout (2.3 there), when an ACK says little about what has just left the network.
		 */
		uint32_t limit = conn->flags & BW_CONN_RTO_RECOVERY ? conn->mss : 8u * conn->mss;

		conn->cwnd += BW_MIN(acked_bytes, limit);
		return;
	}
	if (conn->cwnd_use != BW_CWND_FULL)
		return;
	/* There was a loss, or ssthresh would be out of reach. */
	conn->cwnd = bw_tcp__cubic_on_ack(&bw_tcp__recovery(tcp, conn)->cubic, tcp->now_ms,
		conn->srtt_us8 / 8000, conn->cwnd, conn->mss, acked_bytes);
	conn->cwnd = BW_MIN(conn->cwnd, cwnd_max);
}

void bw_tcp__cc_on_loss(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	cut_ssthresh(tcp, conn);
	/* The pipe counts what is in flight, so no inflation is due (RFC 6675 5). */
	conn->cwnd = bw_tcp__cold(tcp, conn)->ssthresh;
}

void bw_tcp__cc_set_in_recovery(struct bw_tcp_conn *conn, uint32_t cwnd)
{
	conn->cwnd = BW_MAX(cwnd, (uint32_t)conn->mss);
}

void bw_tcp__cc_remember(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct bw_tcp__recovery *r = bw_tcp__recovery_take(tcp, conn);

	r->undo_cwnd = conn->cwnd;
	r->undo_ssthresh = bw_tcp__cold(tcp, conn)->ssthresh;
	r->undo_cubic = r->cubic;
}

void bw_tcp__cc_undo(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct bw_tcp__recovery *r = bw_tcp__recovery(tcp, conn);

	conn->cwnd = BW_MAX(conn->cwnd, r->undo_cwnd);
	bw_tcp__cold(tcp, conn)->ssthresh = r->undo_ssthresh;
	r->cubic = r->undo_cubic;
}

void bw_tcp__cc_on_recovered(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	uint32_t ssthresh = bw_tcp__cold(tcp, conn)->ssthresh, flight = conn->snd_nxt - conn->snd_una;

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
	if (is_first) /* RFC 5681 3.1: held constant when the same data times out again */
		cut_ssthresh(tcp, conn);
	conn->cwnd = conn->mss; /* the loss window */
}

void bw_tcp__cc_on_restart(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	/* RFC 5681 4.1: after an idle RTO, from the restart window. */
	if (bw_tcp__ms_since(tcp, conn->progress_ms) > bw_tcp__rto_ms(conn))
		conn->cwnd = BW_MIN(conn->cwnd, initial_window(conn));
}
