/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * The path's MTU where ICMP does not tell it (RFC 4821), and when it was told long ago.
 *
 * Down: where three time-outs in a row bring nothing through, packets may be too large for a link whose router says
 * nothing. Segments become as short as fits 1024 bytes (1280 with IPv6), two time-outs later 576.
 *
 * Up: what was cut, by this or by ICMP, is searched. One segment of the size in question goes out with enough behind it
 * to show its fate. If it arrives, segments have that size. If it alone is lost, that says nothing of congestion: it is
 * sent again in pieces, and the next try is half way down to what is known to pass. The first try is the size before
 * the cut, since what looked like a black hole may have been an outage. When the search has closed in, it rests for
 * ten minutes (RFC 1191 6.3, RFC 8201 4).
 */
#include "internal.h"

#define MTU_BASE_V4    1024 /* RFC 4821 7.2 */
#define MTU_LEAST_V4   576
#define GRAIN          32 /* bytes that are not worth a search */
#define SEGMENTS_AFTER 4  /* a probe: three that show the loss, and one in case */
#define RAISE_MS       (10u * 60 * 1000)

/** Payload of a packet of that size. */
static uint32_t mss_of(const struct bw_tcp_conn *conn, uint32_t mtu)
{
	return mtu - (bw_ip_is_v4(&conn->flow.local) ? 40 : 60) - (conn->flags & BW_CONN_TIMESTAMPS ? 12 : 0);
}

void bw_tcp__mtu_cut(struct bw_tcp *tcp, struct bw_tcp_conn *conn, uint32_t mss, uint32_t high)
{
	struct bw_tcp__recovery *r = bw_tcp__recovery_take(tcp, conn);

	if (!(conn->flags & BW_CONN_MTU_SEARCH))
		r->mtu_top = conn->mss;
	r->mtu_high = (uint16_t)high;
	r->mtu_raise_ms = bw_tcp__deadline(tcp, RAISE_MS);
	conn->flags |= BW_CONN_MTU_SEARCH;
	conn->mss = (uint16_t)mss;
	bw_tcp__on_mss_cut(tcp, conn);
}

void bw_tcp__mtu_on_rto(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct rte_mbuf *first = bw_tcp__sendq_first(conn);
	bool is_v4 = bw_ip_is_v4(&conn->flow.local);
	uint32_t mtu = is_v4 ? MTU_BASE_V4 : BW_IP6_MTU_MIN, mss;

	if (conn->backoff == BW_TCP__R1 + 2 && is_v4)
		mtu = MTU_LEAST_V4;
	else if (conn->backoff != BW_TCP__R1)
		return;
	mss = mss_of(conn, mtu);
	/* What is repeated in vain has to be larger, or it was not its size. */
	if (conn->mss <= mss || first == NULL || bw_tcp__tx_note(first)->len <= mss)
		return;
	bw_tcp__count(tcp, BW_TCP_BLACK_HOLES);
	bw_tcp__mtu_cut(tcp, conn, mss,
		conn->flags & BW_CONN_MTU_SEARCH ? bw_tcp__recovery(tcp, conn)->mtu_high : conn->mss);
}

uint32_t bw_tcp__mtu_probe_bytes(struct bw_tcp *tcp, struct bw_tcp_conn *conn, uint32_t usable)
{
	struct bw_tcp__recovery *r = bw_tcp__recovery(tcp, conn);
	uint32_t bytes, all, in_flight = bw_tcp__in_flight(tcp, conn);

	if (r->mtu_probe != 0 || r->mtu_failed != 0 ||
		(conn->flags & (BW_CONN_SCOREBOARD | BW_CONN_RECOVERING)))
		return 0;
	if (r->mtu_high < conn->mss + GRAIN) {
		if (!bw_tcp__is_due(tcp, r->mtu_raise_ms))
			return 0;
		r->mtu_high = r->mtu_top;
		r->mtu_raise_ms = bw_tcp__deadline(tcp, RAISE_MS);
	}
	bytes = r->mtu_high == r->mtu_top ? r->mtu_top : (conn->mss + r->mtu_high + 1u) / 2;
	all = bytes + SEGMENTS_AFTER * conn->mss;
	return all <= conn->snd_end - conn->snd_nxt && all <= usable && in_flight + all <= conn->cwnd ? bytes
												      : 0;
}

void bw_tcp__mtu_probe_sent(struct bw_tcp *tcp, struct bw_tcp_conn *conn, bw_seq seq, uint32_t bytes)
{
	struct bw_tcp__recovery *r = bw_tcp__recovery(tcp, conn);

	r->mtu_probe = (uint16_t)bytes;
	r->mtu_probe_seq = seq;
}

void bw_tcp__mtu_lost(struct bw_tcp *tcp, struct bw_tcp_conn *conn, bw_seq seq)
{
	struct bw_tcp__recovery *r = bw_tcp__recovery(tcp, conn);

	if (r->mtu_probe == 0 || !bw_seq_in(seq, r->mtu_probe_seq, r->mtu_probe))
		return;
	/* A router may have said less meanwhile. */
	r->mtu_high = (uint16_t)BW_MIN(r->mtu_high, r->mtu_probe - 1u);
	r->mtu_failed = r->mtu_probe;
	r->mtu_probe = 0;
	/* It was one packet: without SACK, nothing else tells of the rest. */
	for (struct rte_mbuf *m = bw_tcp__sendq_first(conn); m != NULL; m = bw_tcp__sendq_next(conn, m)) {
		struct bw_tcp__tx_note *note = bw_tcp__tx_note(m);

		if (bw_seq_in(note->seq, r->mtu_probe_seq, r->mtu_failed))
			bw_tcp__mark_lost(tcp, conn, note);
	}
}

bool bw_tcp__mtu_explains_loss(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn)
{
	const struct bw_tcp__recovery *r;

	if (!(conn->flags & BW_CONN_MTU_SEARCH))
		return false;
	r = bw_tcp__recovery(tcp, conn);
	if (r->mtu_failed == 0)
		return false;
	for (struct rte_mbuf *m = bw_tcp__sendq_first(conn); m != NULL && m != conn->unsent;
		m = bw_tcp__sendq_next(conn, m)) {
		const struct bw_tcp__tx_note *note = bw_tcp__tx_note(m);

		if ((note->marks & (BW_CHUNK_LOST | BW_CHUNK_RESENT)) != BW_CHUNK_LOST)
			continue;
		/* The pieces that it is sent again in are no probe. */
		if ((note->marks & BW_CHUNK_RETRANSMIT) ||
			!bw_seq_in(note->seq, r->mtu_probe_seq, r->mtu_failed))
			return false;
	}
	return true;
}

void bw_tcp__mtu_acked(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct bw_tcp__recovery *r = bw_tcp__recovery(tcp, conn);

	if (bw_seq_lt(conn->snd_una, r->mtu_probe_seq + BW_MAX(r->mtu_probe, r->mtu_failed)))
		return;
	r->mtu_failed = 0;
	if (r->mtu_probe == 0)
		return;
	conn->mss = r->mtu_probe;
	r->mtu_probe = 0;
	if (conn->mss >= r->mtu_top)
		conn->flags &= ~BW_CONN_MTU_SEARCH;
}
