/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Congestion control: Reno (RFC 5681) with appropriate byte counting (RFC 3465) and an initial window of ten
 * segments (RFC 6928). This file is all that changes cwnd and ssthresh; recovery.c says when.
 */
#include "internal.h"

/** RFC 6928 2: min(10 * MSS, max(2 * MSS, 14600)). */
static uint32_t initial_window(const struct bw_tcp_conn *conn)
{
	uint32_t mss = conn->mss;

	return BW_MIN(BW_TCP__INITIAL_SEGMENTS * mss, BW_MAX(2 * mss, 14600u));
}

/** RFC 5681 equation 4. */
static uint32_t half_flight(const struct bw_tcp_conn *conn)
{
	return BW_MAX((conn->snd_nxt - conn->snd_una) / 2, 2u * conn->mss);
}

void bw_tcp__cc_init(struct bw_tcp *tcp, struct bw_tcp_conn *conn, bool syn_was_lost)
{
	struct bw_tcp__cold *cold = bw_tcp__cold(tcp, conn);

	cold->ssthresh = UINT32_MAX; /* "arbitrarily high": RFC 5681 3.1 */
	cold->cwnd_credit = 0;
	conn->cwnd =
		syn_was_lost ? conn->mss : initial_window(conn); /* RFC 5681 3.1, last paragraph but two */
}

void bw_tcp__cc_on_ack(struct bw_tcp *tcp, struct bw_tcp_conn *conn, uint32_t acked_bytes, uint32_t flight)
{
	struct bw_tcp__cold *cold;
	uint32_t cwnd_max;

	/*
	 * A window that was not used was not tried: it does not grow (RFC 7661 4.1). Twice it in slow start.
	 */
	if (flight + conn->mss <= conn->cwnd && 2 * (uint64_t)flight <= conn->cwnd)
		return;
	/* More than can ever be queued is of no use, and the arithmetic stays far from its limits. */
	cwnd_max = bw_tcp__send_bytes_max(tcp, conn) + initial_window(conn);
	if (conn->cwnd >= cwnd_max)
		return;
	cold = bw_tcp__cold(tcp, conn);
	if (conn->cwnd < cold->ssthresh) {
		/* RFC 3465 2.2, 2.3: L = 2 segments; 1 after a timeout. */
		uint32_t limit = conn->flags & BW_CONN_RTO_RECOVERY ? conn->mss : 2u * conn->mss;

		conn->cwnd += BW_MIN(acked_bytes, limit);
		return;
	}
	if (flight + conn->mss <= conn->cwnd)
		return;
	cold->cwnd_credit += acked_bytes; /* RFC 3465 2.1 */
	if (cold->cwnd_credit >= conn->cwnd) {
		cold->cwnd_credit -= conn->cwnd;
		conn->cwnd += conn->mss;
	}
}

void bw_tcp__cc_on_loss(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct bw_tcp__cold *cold = bw_tcp__cold(tcp, conn);

	cold->ssthresh = half_flight(conn);
	cold->cwnd_credit = 0;
	conn->cwnd =
		cold->ssthresh; /* the pipe counts what is in flight, so no inflation is due (RFC 6675 5) */
}

void bw_tcp__cc_on_recovered(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	/* RFC 6582 3.2 step 3, first option: no burst if little is in flight by now. */
	uint32_t flight = conn->snd_nxt - conn->snd_una;

	conn->cwnd =
		BW_MIN(bw_tcp__cold(tcp, conn)->ssthresh, BW_MAX(flight, (uint32_t)conn->mss) + conn->mss);
}

void bw_tcp__cc_on_rto(struct bw_tcp *tcp, struct bw_tcp_conn *conn, bool is_first)
{
	struct bw_tcp__cold *cold = bw_tcp__cold(tcp, conn);

	if (is_first) /* RFC 5681 3.1: held constant when the same data times out again */
		cold->ssthresh = half_flight(conn);
	cold->cwnd_credit = 0;
	conn->cwnd = conn->mss; /* the loss window */
}

void bw_tcp__cc_on_restart(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	/* RFC 5681 4.1: after an idle RTO, from the restart window. */
	if (bw_tcp__ms_since(tcp, conn->progress_ms) > bw_tcp__rto_ms(conn))
		conn->cwnd = BW_MIN(conn->cwnd, initial_window(conn));
}
