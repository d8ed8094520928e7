/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * RACK-TLP (RFC 8985): what was sent sufficiently long before something that has arrived is lost.
 *
 * "Sufficiently" is the reordering window: none while nothing was ever seen to arrive out of order and losses are
 * being repaired, or three pieces have arrived behind the hole; else a quarter of the smallest round trip, and more
 * of them when the peer reports that it received something twice. It is the time of transmission that counts, so a
 * repeat that is lost is noticed as well as a first transmission, which counting duplicate ACKs cannot do.
 *
 * Detection is done once a turn, in front of output: a burst of ACKs costs one walk over what is in flight.
 *
 * At the tail of a flight nothing arrives that could tell. So after two silent round trips a probe goes out, and
 * its ACK tells. Beyond RFC 8985, but as QUIC does (RFC 9002 6.2), recovery has probes as well: of a small window
 * all that is in flight may be one repeat, and if that is lost, only the time-out is left. There the probe is the
 * hole at SND.UNA. The next one waits until something was heard, as in that silence the time-out is due.
 */
#include "internal.h"

#define REORDER_KEEP 16 /* RACK.reo_wnd_persist */

/* ---- what has arrived ------------------------------------------------------------------------------------ */

/** RACK_sent_after(): was (a, a_end) sent after (b, b_end)? One burst has one time; then the numbers tell. */
static bool is_sent_after(bw_ns a, bw_seq a_end, bw_ns b, bw_seq b_end)
{
	return a > b || (a == b && bw_seq_gt(a_end, b_end));
}

/** 6.2 step 2: a repeat's ACK may be for the original, which then says nothing about when the repeat was sent. */
static bool is_ambiguous(const struct bw_tcp_conn *conn, const struct bw_tcp__recovery *r,
	const struct bw_tcp__tx_note *note, const struct bw_tcp_fields *seg, bw_ns now, uint32_t sent_ms)
{
	if (!(note->marks & BW_CHUNK_RETRANSMIT))
		return false;
	if ((conn->flags & BW_CONN_TIMESTAMPS) && seg->has_timestamp && seg->ts_echo != 0 &&
		(int32_t)(seg->ts_echo - (sent_ms + conn->ts_offset)) < 0)
		return true;
	return (now - note->sent_at) / BW_NS_PER_US < r->min_rtt_us;
}

void bw_tcp__rack_delivered(struct bw_tcp *tcp, struct bw_tcp_conn *conn, const struct bw_tcp__tx_note *note,
	const struct bw_tcp_fields *seg)
{
	struct bw_tcp__recovery *r = bw_tcp__recovery(tcp, conn);
	uint32_t sent_ms = (uint32_t)((note->sent_at - tcp->epoch) / BW_NS_PER_MS);
	uint32_t rtt_us = (uint32_t)BW_MIN((tcp->now - note->sent_at) / BW_NS_PER_US, (uint64_t)UINT32_MAX);
	bw_seq end = note->seq + note->len;

	/* Step 3: something arrived that others, sent later, had overtaken. */
	if (bw_seq_gt(end, r->highest))
		r->highest = end;
	else if (bw_seq_lt(end, r->highest) && !(note->marks & BW_CHUNK_RETRANSMIT))
		r->has_reordering = true;
	if (is_ambiguous(conn, r, note, seg, tcp->now, sent_ms))
		return;
	if (!(note->marks & BW_CHUNK_RETRANSMIT))
		r->min_rtt_us = BW_MIN(r->min_rtt_us, rtt_us);
	if (r->rack_sent_at == 0 || is_sent_after(note->sent_at, end, r->rack_sent_at, r->rack_end)) {
		r->rack_sent_at = note->sent_at;
		r->rack_end = end;
		r->rack_rtt_us = rtt_us;
	}
}

void bw_tcp__rack_dsack(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct bw_tcp__recovery *r = bw_tcp__recovery(tcp, conn);

	/* Step 4: once a round trip. */
	if (r->has_dsack_round && bw_seq_lt(conn->snd_una, r->dsack_round))
		return;
	r->has_dsack_round = true;
	r->dsack_round = conn->snd_nxt;
	r->reorder_mult = (uint8_t)BW_MIN(r->reorder_mult + 1, 255);
	r->reorder_keep = REORDER_KEEP;
}

void bw_tcp__rack_recovered(struct bw_tcp__recovery *r)
{
	if (r->reorder_keep == 0 || --r->reorder_keep == 0)
		r->reorder_mult = 1;
}

/* ---- what should have arrived ---------------------------------------------------------------------------- */

static bw_ns reordering_window(const struct bw_tcp_conn *conn, const struct bw_tcp__recovery *r)
{
	uint64_t window_us;

	if (!r->has_reordering &&
		((conn->flags & BW_CONN_RECOVERING) || r->sacked_chunks >= BW_TCP__DUP_THRESH ||
			r->sacked_bytes > (BW_TCP__DUP_THRESH - 1u) * conn->mss))
		return 0;
	window_us = (uint64_t)r->reorder_mult * r->min_rtt_us / 4;
	return BW_MIN(window_us, (uint64_t)(conn->srtt_us8 / 8)) * BW_NS_PER_US;
}

bool bw_tcp__rack_detect(struct bw_tcp *tcp, struct bw_tcp_conn *conn, bw_ns *wait_ns)
{
	struct bw_tcp__recovery *r = bw_tcp__recovery(tcp, conn);
	bw_ns patience = r->rack_rtt_us * BW_NS_PER_US + reordering_window(conn, r);
	bool is_news = false;

	*wait_ns = 0;
	if (r->rack_sent_at == 0)
		return false;
	for (struct rte_mbuf *m = bw_tcp__sendq_first(conn); m != NULL && m != conn->unsent;
		m = bw_tcp__sendq_next(conn, m)) {
		struct bw_tcp__tx_note *note = bw_tcp__tx_note(m);

		if ((note->marks & BW_CHUNK_SACKED) ||
			(note->marks & (BW_CHUNK_LOST | BW_CHUNK_RESENT)) == BW_CHUNK_LOST ||
			!is_sent_after(r->rack_sent_at, r->rack_end, note->sent_at, note->seq + note->len))
			continue;
		if (note->sent_at + patience > tcp->now) {
			*wait_ns = BW_MAX(*wait_ns, note->sent_at + patience - tcp->now);
			continue;
		}
		bw_tcp__mark_lost(tcp, conn, note);
		is_news = true;
	}
	return is_news;
}

void bw_tcp__rack_mark_on_rto(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct bw_tcp__recovery *r = bw_tcp__recovery(tcp, conn);
	bw_ns patience = r->rack_rtt_us * BW_NS_PER_US + reordering_window(conn, r);
	struct rte_mbuf *first = bw_tcp__sendq_first(conn);

	for (struct rte_mbuf *m = first; m != NULL && m != conn->unsent; m = bw_tcp__sendq_next(conn, m)) {
		struct bw_tcp__tx_note *note = bw_tcp__tx_note(m);

		if (m == first || note->sent_at + patience <= tcp->now)
			bw_tcp__mark_lost(tcp, conn, note);
	}
}

/* ---- tail loss probes ------------------------------------------------------------------------------------ */

uint32_t bw_tcp__probe_ms(const struct bw_tcp_conn *conn)
{
	uint32_t rto_ms = bw_tcp__rto_ms(conn), srtt_us = conn->srtt_us8 / 8;
	uint32_t probe_ms = (2 * srtt_us + 999) / 1000 + BW_TCP__PROBE_SLACK_MS;

	/* 7.2: the ACK of a single segment may be delayed. */
	if (!(conn->flags & BW_CONN_SACK) || conn->srtt_us8 == 0 || conn->backoff != 0 ||
		conn->snd_nxt - conn->snd_una <= conn->mss)
		return 0;
	/* With what is SACKed, RACK is at work already. */
	if (!(conn->flags & BW_CONN_RECOVERING) &&
		(conn->flags & (BW_CONN_SCOREBOARD | BW_CONN_LOSS_PROBED | BW_CONN_LOSS_PROBE)))
		return 0;
	return probe_ms < rto_ms ? probe_ms : 0;
}

bool bw_tcp__probe_acked(
	struct bw_tcp *tcp, struct bw_tcp_conn *conn, const struct bw_tcp_fields *seg, bool is_dsack)
{
	struct bw_tcp__recovery *r = bw_tcp__recovery(tcp, conn);
	/* Then what is missing lies before it. */
	bool has_both = is_dsack && seg->sack_count != 0 && seg->sack[0].right == r->probe_end;

	if (bw_seq_lt(seg->ack, r->probe_end) && !has_both)
		return false;
	/* It was new data, or the peer has both copies: nothing was lost. */
	if (!r->probe_is_repeat || is_dsack) {
		conn->flags &= ~BW_CONN_LOSS_PROBED;
		return false;
	}
	if (seg->ack == r->probe_end)
		return false; /* either copy may be meant; a D-SACK may follow */
	conn->flags &= ~BW_CONN_LOSS_PROBED;
	return true;
}
