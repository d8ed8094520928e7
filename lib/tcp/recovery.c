/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * What ACKs say about what was sent: round-trip times, losses, and what to send again.
 *
 * The scoreboard is the marks of the sent chunks and their sums. A chunk that was sent and is not
 * acknowledged is
 *
 *     in flight           no mark
 *     SACKED              the peer has it
 *     LOST                believed lost, to be sent again
 *     LOST and RESENT     sent again, in flight
 *
 * and the pipe (RFC 6675) is snd_nxt - snd_una - sacked - lost + resent. Output sends while the pipe is below
 * cwnd, lost chunks first. That is all there is to limited transmit (RFC 3042): a SACK shrinks the pipe.
 * Without SACK each duplicate ACK says that some segment has arrived, so it counts as one segment of sacked
 * bytes, to be taken back when SND.UNA moves: RFC 6582's inflation of cwnd, from the other side of the
 * inequality.
 *
 * Losses are believed
 *   - with SACK: of what was sent before something that has arrived, in time or number (rack.c),
 *   - without: of the first chunk at the third duplicate ACK (RFC 5681 3.2), and at a partial ACK in recovery
 *     (RFC 6582),
 *   - at a timeout: of the first chunk, and of what should have arrived by then; of all without SACK.
 *
 * In recovery with SACK, cwnd is what proportional rate reduction makes it (RFC 9937). When it turns out that
 * nothing was lost after all, cwnd and ssthresh are what they were before (undo): an ACK echoes a timestamp from
 * before the first repeat (Eifel, RFC 3522), or acknowledges after a timeout what was not sent again (F-RTO,
 * RFC 5682), or the peer reports every repeat as received twice (RFC 3708).
 */
#include "internal.h"

struct bw_tcp__recovery *bw_tcp__recovery_take(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct bw_tcp__rare *rare = bw_tcp__rare(tcp, conn);

	if (rare->recovery == BW_TCP__NONE) {
		rare->recovery = bw_tcp__slab_take(&tcp->recovery_slab, tcp->recoveries, free_next);
		BW_ASSERT(rare->recovery != BW_TCP__NONE); /* there are as many as connections */
		*bw_tcp__recovery(tcp, conn) = (struct bw_tcp__recovery){
			.highest = conn->snd_una,
			.min_rtt_us = conn->srtt_us8 / 8,
			.rack_rtt_us = conn->srtt_us8 / 8,
			.reorder_mult = 1,
		};
	}
	return bw_tcp__recovery(tcp, conn);
}

void bw_tcp__recovery_give(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	if (bw_tcp__has_recovery(tcp, conn)) {
		struct bw_tcp__rare *rare = bw_tcp__rare(tcp, conn);

		bw_tcp__slab_give(&tcp->recovery_slab, tcp->recoveries, free_next, rare->recovery);
		rare->recovery = BW_TCP__NONE;
	}
	/* What says that there is something to be looked up there. */
	conn->flags &= ~(BW_CONN_TROUBLE | BW_CONN_FIN_LOST | BW_CONN_CONGESTED);
}

uint32_t bw_tcp__in_flight(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn)
{
	uint32_t flight = conn->snd_nxt - conn->snd_una, gone;
	const struct bw_tcp__recovery *r;

	if (bw_likely(!(conn->flags & BW_CONN_SCOREBOARD)))
		return flight;
	r = bw_tcp__recovery(tcp, conn);
	flight += r->resent_bytes;
	gone = r->sacked_bytes + r->lost_bytes;
	return flight > gone ? flight - gone : 0;
}

bool bw_tcp__has_lost(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn)
{
	const struct bw_tcp__recovery *r;

	if (bw_likely(!(conn->flags & BW_CONN_SCOREBOARD)))
		return false;
	r = bw_tcp__recovery(tcp, conn);
	return r->lost_bytes != r->resent_bytes;
}

void bw_tcp__mark_lost(struct bw_tcp *tcp, struct bw_tcp_conn *conn, struct bw_tcp__tx_note *note)
{
	struct bw_tcp__recovery *r = bw_tcp__recovery_take(tcp, conn);

	if (!(note->marks & BW_CHUNK_SENT) || (note->marks & BW_CHUNK_SACKED))
		return;
	if (note->marks & BW_CHUNK_RESENT) { /* and so is the repeat */
		note->marks &= (uint8_t)~BW_CHUNK_RESENT;
		r->resent_bytes -= note->len;
		return;
	}
	if (note->marks & BW_CHUNK_LOST)
		return;
	note->marks |= BW_CHUNK_LOST;
	r->lost_bytes += note->len;
	conn->flags |= BW_CONN_SCOREBOARD;
	bw_tcp__mtu_lost(tcp, conn, note->seq);
}

static void mark_fin_lost(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	if ((conn->flags & (BW_CONN_FIN_SENT | BW_CONN_FIN_LOST)) != BW_CONN_FIN_SENT)
		return;
	conn->flags |= BW_CONN_FIN_LOST | BW_CONN_SCOREBOARD;
	bw_tcp__recovery_take(tcp, conn)->lost_bytes++;
}

/** The hole at SND.UNA, unless its repeat is on its way. */
static void mark_first_lost(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct rte_mbuf *first = bw_tcp__sendq_first(conn);

	if (first == NULL || !(bw_tcp__tx_note(first)->marks & BW_CHUNK_SENT))
		mark_fin_lost(tcp, conn);
	else if (!(bw_tcp__tx_note(first)->marks & BW_CHUNK_RESENT))
		bw_tcp__mark_lost(tcp, conn, bw_tcp__tx_note(first));
}

void bw_tcp__probe_hole(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct rte_mbuf *first = bw_tcp__sendq_first(conn);

	if (first == NULL || !(bw_tcp__tx_note(first)->marks & BW_CHUNK_SENT)) {
		mark_fin_lost(tcp, conn);
		return;
	}
	if (bw_tcp__tx_note(first)->len > conn->mss &&
		bw_tcp__sendq_split(tcp, conn, first, conn->mss, true) != 0)
		return;
	bw_tcp__mark_lost(tcp, conn, bw_tcp__tx_note(first));
	bw_tcp__count(tcp, BW_TCP_LOSS_PROBES);
}

void bw_tcp__mark_resent(struct bw_tcp *tcp, struct bw_tcp_conn *conn, struct bw_tcp__tx_note *note)
{
	struct bw_tcp__recovery *r = bw_tcp__recovery(tcp, conn);

	note->marks |= BW_CHUNK_RESENT | BW_CHUNK_RETRANSMIT;
	r->resent_bytes += note->len;
	r->undo_bytes += note->len;
	if (!r->has_resent) {
		r->has_resent = true;
		r->undo_ts = tcp->now_ms + conn->ts_offset;
	}
}

static void scoreboard_settle(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	const struct bw_tcp__recovery *r;

	if (!bw_tcp__has_recovery(tcp, conn))
		return;
	r = bw_tcp__recovery(tcp, conn);
	if ((r->sacked_bytes | r->lost_bytes | r->resent_bytes) == 0)
		conn->flags &= ~BW_CONN_SCOREBOARD;
	/* What was learnt of reordering and of the path's room is kept; everything else is over. */
	if (conn->snd_una == conn->snd_nxt && !r->has_reordering &&
		bw_tcp__ssthresh(tcp, conn) == UINT32_MAX && !(conn->flags & BW_CONN_TROUBLE))
		bw_tcp__recovery_give(tcp, conn);
}

void bw_tcp__retx_restart(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	uint32_t probe_ms = bw_tcp__probe_ms(conn);

	if (probe_ms != 0)
		bw_tcp__retx_arm(tcp, conn, BW_TCP_TIMER_LOSS_PROBE, probe_ms);
	else
		bw_tcp__retx_arm(tcp, conn, BW_TCP_TIMER_RTO, bw_tcp__rto_ms(conn));
}

/** What is left of the time-out, from the last ACK or from when the first in flight was sent, if that was later. */
static uint32_t rto_left_ms(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn)
{
	struct rte_mbuf *first = bw_tcp__sendq_first(conn);
	uint32_t since_ms = bw_tcp__ms_since(tcp, conn->progress_ms), rto_ms = bw_tcp__rto_ms(conn);

	if (since_ms != 0 && first != NULL && first != conn->unsent) {
		bw_ns sent_at = bw_tcp__tx_note(first)->sent_at;

		since_ms = BW_MIN(since_ms, (uint32_t)((tcp->now - sent_at) / BW_NS_PER_MS));
	}
	return rto_ms > since_ms ? rto_ms - since_ms : 0;
}

void bw_tcp__probe_restart(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	uint32_t probe_ms = bw_tcp__probe_ms(conn), left_ms;

	if (probe_ms == 0)
		return;
	left_ms = rto_left_ms(tcp, conn);
	if (left_ms > probe_ms)
		bw_tcp__retx_arm(tcp, conn, BW_TCP_TIMER_LOSS_PROBE, probe_ms);
	else
		bw_tcp__retx_arm(tcp, conn, BW_TCP_TIMER_RTO, left_ms);
}

/* ---- SACK ---------------------------------------------------------------------------------------------- */

/** Mark what lies in the block. Returns how many bytes that were not marked before. */
static uint32_t mark_sacked(struct bw_tcp *tcp, struct bw_tcp_conn *conn, const struct bw_sack_block *block,
	const struct bw_tcp_fields *seg)
{
	struct bw_tcp__recovery *r = bw_tcp__recovery_take(tcp, conn);
	uint32_t news = 0;

	for (struct rte_mbuf *m = bw_tcp__sendq_first(conn); m != NULL; m = bw_tcp__sendq_next(conn, m)) {
		struct bw_tcp__tx_note *note = bw_tcp__tx_note(m);
		bw_seq right = note->seq + note->len;

		if (!(note->marks & BW_CHUNK_SENT) || bw_seq_geq(note->seq, block->right))
			break;
		if ((note->marks & BW_CHUNK_SACKED) || bw_seq_leq(right, block->left))
			continue;
		if (bw_seq_lt(note->seq, block->left) || bw_seq_gt(right, block->right)) {
			/* Of a packet that the device cut into segments (TSO), some arrived. */
			uint32_t keep = bw_seq_lt(note->seq, block->left) ? block->left - note->seq
									  : block->right - note->seq;

			/* It cuts at full segments. Any other edge is the peer's invention, or costs a repeat. */
			if (keep % conn->mss != 0 || bw_tcp__sendq_split(tcp, conn, m, keep, false) != 0)
				continue;
			if (bw_seq_lt(note->seq, block->left))
				continue; /* the rest is next */
		}
		bw_tcp__rack_delivered(tcp, conn, note, seg);
		if (note->marks & BW_CHUNK_LOST)
			r->lost_bytes -= note->len;
		if (note->marks & BW_CHUNK_RESENT)
			r->resent_bytes -= note->len;
		note->marks &= (uint8_t) ~(BW_CHUNK_LOST | BW_CHUNK_RESENT);
		note->marks |= BW_CHUNK_SACKED;
		r->sacked_bytes += note->len;
		r->sacked_chunks++;
		news += note->len;
		conn->flags |= BW_CONN_SCOREBOARD;
	}
	return news;
}

/** Take in an ACK's SACK blocks. Returns how many bytes they reported for the first time. */
static uint32_t sack_input(struct bw_tcp *tcp, struct bw_tcp_conn *conn, const struct bw_tcp_fields *seg)
{
	uint32_t news = 0;

	if (!(conn->flags & BW_CONN_SACK))
		return 0;
	for (unsigned i = 0; i < seg->sack_count; i++) {
		const struct bw_sack_block *block = &seg->sack[i];

		/* Nothing else can be meant for this flight; a block left of SND.UNA is a D-SACK. */
		if (bw_seq_geq(block->left, conn->snd_una) && bw_seq_lt(block->left, block->right) &&
			bw_seq_leq(block->right, conn->snd_nxt))
			news += mark_sacked(tcp, conn, block, seg);
	}
	return news;
}

/** RFC 2883 4: the first block is of what was acknowledged before, or lies within the second. */
static bool is_dsack(const struct bw_tcp_fields *seg)
{
	const struct bw_sack_block *first = &seg->sack[0], *second = &seg->sack[1];

	if (seg->sack_count == 0 || !bw_seq_lt(first->left, first->right))
		return false;
	return bw_seq_leq(first->right, seg->ack) ||
	       (seg->sack_count > 1 && bw_seq_geq(first->left, second->left) &&
		       bw_seq_leq(first->right, second->right));
}

/** Without SACK: duplicate ACKs cannot stand for more segments than are in flight behind the first. */
static void bound_emulated(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct bw_tcp__recovery *r = bw_tcp__recovery_take(tcp, conn);
	uint32_t flight = conn->snd_nxt - conn->snd_una - r->lost_bytes + r->resent_bytes;

	r->sacked_bytes = BW_MIN(r->sacked_bytes, flight > conn->mss ? flight - conn->mss : 0u);
	if (r->sacked_bytes != 0)
		conn->flags |= BW_CONN_SCOREBOARD;
}

/* ---- errors of ours ------------------------------------------------------------------------------------- */

/** Before cwnd and ssthresh are cut. */
static void remember_for_undo(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct bw_tcp__recovery *r = bw_tcp__recovery_take(tcp, conn);

	bw_tcp__cc_remember(tcp, conn);
	r->undo_bytes = 0;
	r->has_resent = false;
	r->can_undo = true;
}

/** Nothing was lost: what was not sent again is not, and the windows are what they were. */
static void undo(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct bw_tcp__recovery *r = bw_tcp__recovery(tcp, conn);

	for (struct rte_mbuf *m = bw_tcp__sendq_first(conn); m != NULL && m != conn->unsent;
		m = bw_tcp__sendq_next(conn, m)) {
		struct bw_tcp__tx_note *note = bw_tcp__tx_note(m);

		if ((note->marks & (BW_CHUNK_LOST | BW_CHUNK_RESENT)) != BW_CHUNK_LOST)
			continue;
		note->marks &= (uint8_t)~BW_CHUNK_LOST;
		r->lost_bytes -= note->len;
	}
	if (conn->flags & BW_CONN_FIN_LOST)
		r->lost_bytes--;
	conn->flags &= ~(BW_CONN_RECOVERING | BW_CONN_FIN_LOST);
	r->can_undo = false;
	bw_tcp__cc_undo(tcp, conn);
	bw_tcp__count(tcp, BW_TCP_UNDOS);
}

/** SND.UNA has moved. Does the ACK show that the recovery that it finds was for nothing? */
static bool is_needless(struct bw_tcp *tcp, struct bw_tcp_conn *conn, const struct bw_tcp__acked *acked)
{
	const struct bw_tcp__recovery *r = bw_tcp__recovery(tcp, conn);
	const struct bw_tcp_fields *seg = acked->seg;

	if (!(conn->flags & BW_CONN_RECOVERING) || !r->can_undo || !r->has_resent)
		return false;
	/* RFC 3522: an ACK of what was sent again that echoes what was sent before. */
	if (acked->was_resent && (conn->flags & BW_CONN_TIMESTAMPS) && seg->has_timestamp &&
		seg->ts_echo != 0)
		return (int32_t)(seg->ts_echo - r->undo_ts) < 0;
	/*
	 * RFC 5682: what was sent once only, and was not reported to be there before, is there now: so the peer
	 * was heard late, or not at all, but received.
	 */
	return (conn->flags & (BW_CONN_RTO_RECOVERY | BW_CONN_SACK)) ==
		       (BW_CONN_RTO_RECOVERY | BW_CONN_SACK) &&
	       acked->has_original && bw_seq_leq(seg->ack, r->recover);
}

/** The peer has received something twice: RFC 2883, RFC 3708. */
static void dsack_input(struct bw_tcp *tcp, struct bw_tcp_conn *conn, const struct bw_sack_block *block)
{
	struct bw_tcp__recovery *r;
	uint32_t bytes = block->right - block->left;

	if (!bw_tcp__has_recovery(tcp, conn))
		return;
	r = bw_tcp__recovery(tcp, conn);
	bw_tcp__rack_dsack(tcp, conn);
	if (!r->can_undo || r->undo_bytes == 0)
		return;
	r->undo_bytes -= BW_MIN(bytes, r->undo_bytes);
	if (r->undo_bytes == 0 && (conn->flags & BW_CONN_RECOVERING))
		undo(tcp, conn);
}

/* ---- recovery ------------------------------------------------------------------------------------------ */

static void enter_recovery(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct bw_tcp__recovery *r = bw_tcp__recovery_take(tcp, conn);
	uint32_t flight = conn->snd_nxt - conn->snd_una - r->sacked_bytes;

	bw_tcp__count(tcp, BW_TCP_FAST_RETRANSMITS);
	remember_for_undo(tcp, conn);
	/* What the first ACKs of the burst have made room for was delivered as well. */
	if (bw_tcp__fills_cwnd(conn) && conn->cwnd > flight + r->delivered)
		r->delivered = conn->cwnd - flight;
	r->prr_flight = BW_MAX(flight + r->delivered, 1u);
	r->prr_delivered = r->prr_out = 0;
	bw_tcp__cc_on_loss(tcp, conn);
	r->recover = conn->snd_nxt;
	/* What a loss probe has shown is answered by this. */
	conn->flags &= ~(BW_CONN_LOSS_PROBED | BW_CONN_LOSS_PROBE);
	conn->flags |= BW_CONN_RECOVERY | BW_CONN_RECOVER_SET;
	bw_tcp__retx_arm(tcp, conn, BW_TCP_TIMER_RTO, bw_tcp__rto_ms(conn));
}

/** Without SACK, at a duplicate ACK. */
static void maybe_enter_recovery(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	if ((conn->flags & BW_CONN_RECOVERING) || conn->dupacks < BW_TCP__DUP_THRESH)
		return;
	/* RFC 6582 3.2 step 2: duplicate ACKs for what was sent again after a timeout are caused by that. */
	if ((conn->flags & BW_CONN_RECOVER_SET) &&
		bw_seq_leq(conn->snd_una, bw_tcp__recovery(tcp, conn)->recover))
		return;
	mark_first_lost(tcp, conn);
	if (!bw_tcp__mtu_explains_loss(tcp, conn))
		enter_recovery(tcp, conn);
}

void bw_tcp__recovery_sent(struct bw_tcp *tcp, struct bw_tcp_conn *conn, uint32_t bytes)
{
	bw_tcp__recovery(tcp, conn)->prr_out += bytes;
}

/** RFC 9937 5: as much may go out as keeps what is in flight on its way down to ssthresh. */
static void reduce_rate(struct bw_tcp *tcp, struct bw_tcp_conn *conn, bool shows_loss)
{
	struct bw_tcp__recovery *r = bw_tcp__recovery(tcp, conn);
	uint32_t pipe = bw_tcp__in_flight(tcp, conn), ssthresh = bw_tcp__ssthresh(tcp, conn);
	int64_t send;

	r->prr_delivered += r->delivered;
	if (pipe > ssthresh) {
		send = (int64_t)(((uint64_t)r->prr_delivered * ssthresh + r->prr_flight - 1) /
				 r->prr_flight) -
		       r->prr_out;
	} else {
		/* Slow start to ssthresh only on an ACK that is good news throughout. */
		int64_t limit = BW_MAX((int64_t)r->prr_delivered - r->prr_out, (int64_t)r->delivered);

		if (r->una_moved && !shows_loss)
			limit += conn->mss;
		send = BW_MIN((int64_t)ssthresh - pipe, limit);
	}
	if (r->prr_out == 0) /* the fast retransmit itself */
		send = BW_MAX(send, (int64_t)conn->mss);
	bw_tcp__cc_set_in_recovery(conn, pipe + (uint32_t)BW_MAX(send, 0));
}

void bw_tcp__recovery_turn(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct bw_tcp__recovery *r;
	bw_ns wait_ns;
	bool is_news;

	conn->flags &= ~BW_CONN_RACK;
	if (!bw_tcp__has_recovery(tcp, conn))
		return;
	r = bw_tcp__recovery(tcp, conn);
	is_news = bw_tcp__rack_detect(tcp, conn, &wait_ns);
	if (is_news && !(conn->flags & BW_CONN_RECOVERING) && !bw_tcp__mtu_explains_loss(tcp, conn))
		enter_recovery(tcp, conn);
	/* The timer's doing: no ACK is there that would let one repeat go out. */
	if (is_news && r->delivered == 0)
		r->delivered = conn->mss;
	if (conn->flags & BW_CONN_RECOVERY)
		reduce_rate(tcp, conn, is_news);
	if (wait_ns != 0)
		bw_tcp__retx_arm(tcp, conn, BW_TCP_TIMER_REORDER,
			(uint32_t)((wait_ns + BW_NS_PER_MS - 1) / BW_NS_PER_MS));
	else if ((conn->flags & BW_CONN_RECOVERING) && bw_tcp__probe_ms(conn) != 0)
		bw_tcp__retx_restart(tcp, conn);
	r->delivered = 0;
	r->una_moved = false;
}

/** Something has arrived: output looks at what that means. */
static void wants_turn(
	struct bw_tcp *tcp, struct bw_tcp_conn *conn, struct bw_tcp__recovery *r, uint32_t delivered)
{
	r->delivered += delivered;
	conn->flags |= BW_CONN_RACK;
	bw_tcp__mark_ready(tcp, conn);
}

/** SND.UNA has moved by `acked`. Returns whether cwnd may grow for it. */
static bool advance_recovery(struct bw_tcp *tcp, struct bw_tcp_conn *conn, uint32_t acked)
{
	struct bw_tcp__recovery *r = bw_tcp__recovery_take(tcp, conn);
	bool has_sack = conn->flags & BW_CONN_SACK;

	if (!(conn->flags & BW_CONN_RECOVERING)) {
		conn->dupacks = 0;
		if (!has_sack)
			r->sacked_bytes = 0;
		if ((conn->flags & BW_CONN_RECOVER_SET) && bw_seq_gt(conn->snd_una, r->recover))
			conn->flags &= ~BW_CONN_RECOVER_SET;
		return true;
	}
	if (bw_seq_geq(conn->snd_una, r->recover)) {
		bool was_fast = conn->flags & BW_CONN_RECOVERY;

		conn->flags &= ~BW_CONN_RECOVERING;
		conn->dupacks = 0;
		if (!has_sack)
			r->sacked_bytes = 0;
		bw_tcp__rack_recovered(r);
		if (was_fast)
			bw_tcp__cc_on_recovered(tcp, conn);
		return !was_fast;
	}
	if (conn->flags & BW_CONN_RTO_RECOVERY)
		return true; /* slow start through the hole */
	if (!has_sack) {
		/*
		 * A partial ACK (RFC 6582 3.2 step 3): the segment behind it was sent before the one that was
		 * lost first was sent again, so it would be here by now.
		 */
		mark_first_lost(tcp, conn);
		r->sacked_bytes -= BW_MIN(r->sacked_bytes, acked > conn->mss ? acked - conn->mss : 0u);
		bound_emulated(tcp, conn);
	}
	return false;
}

/** Returns the sample in us, 0 for none. */
static uint32_t take_rtt(struct bw_tcp *tcp, struct bw_tcp_conn *conn, const struct bw_tcp_fields *seg,
	const struct bw_tcp__acked *acked)
{
	/*
	 * Our own notes are finer than a millisecond timestamp. Karn's rule keeps out what was sent twice,
	 * and what arrived long ago but had to wait for it. Then the echoed timestamp tells which of the two
	 * it was that arrived (RFC 7323 4.1).
	 */
	if (acked->has_sample && !acked->was_resent)
		return bw_tcp__rtt_sample(conn, (tcp->now - acked->sent_at) / BW_NS_PER_US);
	if ((conn->flags & BW_CONN_TIMESTAMPS) && seg->has_timestamp && seg->ts_echo != 0) {
		uint32_t rtt_ms = tcp->now_ms - (seg->ts_echo - conn->ts_offset);

		if (rtt_ms <= BW_TCP__RTO_MAX_MS)
			return bw_tcp__rtt_sample(conn, rtt_ms * 1000ull);
	}
	return 0;
}

/** bw_tcp__ack_advance() when something is, or was, out of order. Returns whether cwnd may grow for it. */
static bool advance_in_trouble(
	struct bw_tcp *tcp, struct bw_tcp_conn *conn, const struct bw_tcp__acked *acked, uint32_t bytes)
{
	struct bw_tcp__recovery *r = bw_tcp__recovery_take(tcp, conn);
	const struct bw_tcp_fields *seg = acked->seg;
	bool has_dsack = (conn->flags & BW_CONN_SACK) && is_dsack(seg), may_grow;
	uint32_t news = sack_input(tcp, conn, seg);

	r->una_moved = true;
	if ((conn->flags & BW_CONN_LOSS_PROBED) && bw_tcp__probe_acked(tcp, conn, seg, has_dsack) &&
		!(conn->flags & BW_CONN_RECOVERING))
		bw_tcp__cc_on_loss(tcp, conn); /* RFC 8985 7.4.2: the probe repaired it, but lost it was */
	if (has_dsack)
		dsack_input(tcp, conn, &seg->sack[0]);
	if (is_needless(tcp, conn, acked))
		undo(tcp, conn);
	if (conn->flags & BW_CONN_MTU_SEARCH)
		bw_tcp__mtu_acked(tcp, conn);
	may_grow = advance_recovery(tcp, conn, bytes);
	if (conn->flags & BW_CONN_SACK)
		wants_turn(tcp, conn, r, acked->delivered + news);
	scoreboard_settle(tcp, conn);
	return may_grow;
}

/** Is cwnd, and what is known of losses, to be looked at for more than growth? */
static bool is_in_trouble(const struct bw_tcp_conn *conn, const struct bw_tcp_fields *seg)
{
	return (conn->flags & BW_CONN_TROUBLE) || conn->dupacks != 0 || seg->sack_count != 0;
}

/** bw_tcp__ack_advance() when there is more to it than growth. */
static void advance_with_care(struct bw_tcp *tcp, struct bw_tcp_conn *conn, const struct bw_tcp__acked *acked,
	uint32_t bytes, uint32_t rtt_us)
{
	bool is_ece = (conn->flags & BW_CONN_ECN) && (acked->seg->flags & BW_TCP_ECE), may_grow = true;

	if (conn->flags & BW_CONN_CONGESTED)
		bw_tcp__ecn_acked(tcp, conn, bytes, is_ece);
	if (is_in_trouble(conn, acked->seg))
		may_grow = advance_in_trouble(tcp, conn, acked, bytes);
	if (may_grow && !is_ece) /* RFC 3168 6.1.2 */
		bw_tcp__cc_on_ack(tcp, conn, bytes, rtt_us);
}

void bw_tcp__ack_advance(struct bw_tcp *tcp, struct bw_tcp_conn *conn, const struct bw_tcp_fields *seg)
{
	uint32_t bytes = seg->ack - conn->snd_una, rtt_us;
	struct bw_tcp__acked acked = { .seg = seg };

	bw_tcp__sendq_ack(tcp, conn, bw_seq_min(seg->ack, conn->snd_end), &acked);
	if ((conn->flags & BW_CONN_FIN_LOST) && bw_seq_gt(seg->ack, conn->snd_end)) {
		conn->flags &= ~BW_CONN_FIN_LOST;
		bw_tcp__recovery(tcp, conn)->lost_bytes--;
	}
	conn->snd_una = seg->ack;
	conn->progress_ms = tcp->now_ms;
	conn->backoff = 0;
	rtt_us = take_rtt(tcp, conn, seg, &acked);
	/* After an ECE there is BW_CONN_CONGESTED. */
	if (bw_unlikely((conn->flags & BW_CONN_CONGESTED) || is_in_trouble(conn, seg)))
		advance_with_care(tcp, conn, &acked, bytes, rtt_us);
	else
		bw_tcp__cc_on_ack(tcp, conn, bytes, rtt_us);
	if (conn->snd_una == conn->snd_nxt)
		bw_tcp__retx_disarm(conn); /* RFC 6298 5.2; output arms it for what is not sent yet */
	else
		bw_tcp__retx_restart(tcp, conn); /* 5.3 */
}

void bw_tcp__ack_duplicate(
	struct bw_tcp *tcp, struct bw_tcp_conn *conn, const struct bw_tcp_fields *seg, bool is_dupack)
{
	/* RFC 8985 7.4.2: without D-SACK, a bare duplicate ACK says that both copies are there. */
	if (is_dupack && (conn->flags & BW_CONN_LOSS_PROBED) && seg->sack_count == 0)
		bw_tcp__probe_acked(tcp, conn, seg, true);
	if ((conn->flags & BW_CONN_SACK) && is_dsack(seg)) {
		if (conn->flags & BW_CONN_LOSS_PROBED)
			bw_tcp__probe_acked(tcp, conn, seg, true);
		dsack_input(tcp, conn, &seg->sack[0]);
	}
	if (conn->snd_una == conn->snd_nxt) {
		scoreboard_settle(tcp, conn);
		return;
	}
	if (conn->flags & BW_CONN_SACK) {
		uint32_t news = sack_input(tcp, conn, seg);

		if (news != 0)
			wants_turn(tcp, conn, bw_tcp__recovery(tcp, conn), news);
		return;
	}
	if (!is_dupack)
		return;
	bw_tcp__recovery_take(tcp, conn)->sacked_bytes += conn->mss;
	bound_emulated(tcp, conn);
	if (conn->dupacks < BW_TCP__DUP_THRESH)
		conn->dupacks++;
	maybe_enter_recovery(tcp, conn);
}

void bw_tcp__on_rto(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct bw_tcp__recovery *r = bw_tcp__recovery_take(tcp, conn);
	struct rte_mbuf *first = bw_tcp__sendq_first(conn);
	/*
	 * The first chunk cannot be both unacknowledged and arrived: the peer took its word back (RFC 2018
	 * 8).
	 */
	bool is_reneging = first != NULL && (bw_tcp__tx_note(first)->marks & BW_CHUNK_SACKED);

	if (!(conn->flags & BW_CONN_RECOVERING))
		remember_for_undo(tcp, conn);
	bw_tcp__cc_on_rto(tcp, conn, conn->backoff == 1);
	conn->dupacks = 0;
	if (conn->flags & BW_CONN_FIN_LOST)
		r->lost_bytes--;
	conn->flags &= ~(BW_CONN_RECOVERY | BW_CONN_FIN_LOST | BW_CONN_LOSS_PROBED | BW_CONN_LOSS_PROBE);
	conn->flags |= BW_CONN_RTO_RECOVERY | BW_CONN_RECOVER_SET | BW_CONN_SCOREBOARD;
	r->recover = conn->snd_nxt;
	if (is_reneging || !(conn->flags & BW_CONN_SACK))
		r->sacked_bytes = r->sacked_chunks = 0;
	for (struct rte_mbuf *m = first; m != NULL && m != conn->unsent; m = bw_tcp__sendq_next(conn, m)) {
		struct bw_tcp__tx_note *note = bw_tcp__tx_note(m);

		if (is_reneging)
			note->marks &= (uint8_t)~BW_CHUNK_SACKED;
		if (!(conn->flags & BW_CONN_SACK) || is_reneging)
			bw_tcp__mark_lost(tcp, conn, note);
	}
	if ((conn->flags & BW_CONN_SACK) && !is_reneging)
		bw_tcp__rack_mark_on_rto(tcp, conn);
	mark_fin_lost(tcp, conn);
	bw_tcp__mtu_on_rto(tcp, conn);
}

void bw_tcp__on_mss_cut(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	for (struct rte_mbuf *m = bw_tcp__sendq_first(conn); m != NULL; m = bw_tcp__sendq_next(conn, m)) {
		struct bw_tcp__tx_note *note = bw_tcp__tx_note(m);

		if (!(note->marks & BW_CHUNK_SENT))
			break;
		if (note->len <= conn->mss)
			continue;
		bw_tcp__mark_lost(tcp, conn, note);
	}
	bw_tcp__mark_ready(tcp, conn);
}
