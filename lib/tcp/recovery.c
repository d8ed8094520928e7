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
 *   - of the first chunk at the third duplicate ACK (RFC 5681 3.2, RFC 6675 5 (1)),
 *   - of chunks with more than two segments' worth, or three chunks, SACKed behind them (IsLost of RFC 6675),
 *   - of the first chunk at a partial ACK in recovery (RFC 6582),
 *   - of everything that is not SACKed at a timeout.
 */
#include "internal.h"

uint32_t bw_tcp__in_flight(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn)
{
	uint32_t flight = conn->snd_nxt - conn->snd_una, gone;
	const struct bw_tcp__cold *cold;

	if (bw_likely(!(conn->flags & BW_CONN_SCOREBOARD)))
		return flight;
	cold = bw_tcp__cold(tcp, conn);
	flight += cold->resent_bytes;
	gone = cold->sacked_bytes + cold->lost_bytes;
	return flight > gone ? flight - gone : 0;
}

bool bw_tcp__has_lost(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn)
{
	const struct bw_tcp__cold *cold = bw_tcp__cold(tcp, conn);

	return (conn->flags & BW_CONN_SCOREBOARD) && cold->lost_bytes != cold->resent_bytes;
}

static void mark_lost(struct bw_tcp *tcp, struct bw_tcp_conn *conn, struct bw_tcp__tx_note *note)
{
	if (!(note->marks & BW_CHUNK_SENT) || (note->marks & (BW_CHUNK_LOST | BW_CHUNK_SACKED)))
		return;
	note->marks |= BW_CHUNK_LOST;
	bw_tcp__cold(tcp, conn)->lost_bytes += note->len;
	conn->flags |= BW_CONN_SCOREBOARD;
}

/** The hole at SND.UNA. */
static void mark_first_lost(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct rte_mbuf *first = bw_tcp__sendq_first(conn);

	if (first != NULL && (bw_tcp__tx_note(first)->marks & BW_CHUNK_SENT)) {
		mark_lost(tcp, conn, bw_tcp__tx_note(first));
	} else if ((conn->flags & (BW_CONN_FIN_SENT | BW_CONN_FIN_LOST)) == BW_CONN_FIN_SENT) {
		conn->flags |= BW_CONN_FIN_LOST | BW_CONN_SCOREBOARD;
		bw_tcp__cold(tcp, conn)->lost_bytes++;
	}
}

void bw_tcp__mark_resent(struct bw_tcp *tcp, struct bw_tcp_conn *conn, struct bw_tcp__tx_note *note)
{
	note->marks |= BW_CHUNK_RESENT | BW_CHUNK_RETRANSMIT;
	bw_tcp__cold(tcp, conn)->resent_bytes += note->len;
}

/* ---- SACK ---------------------------------------------------------------------------------------------- */

/** Mark what lies in the block. Returns how many bytes that were not marked before. */
static uint32_t mark_sacked(struct bw_tcp *tcp, struct bw_tcp_conn *conn, const struct bw_sack_block *block)
{
	struct bw_tcp__cold *cold = bw_tcp__cold(tcp, conn);
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
		if (note->marks & BW_CHUNK_LOST)
			cold->lost_bytes -= note->len;
		if (note->marks & BW_CHUNK_RESENT)
			cold->resent_bytes -= note->len;
		note->marks &= (uint8_t) ~(BW_CHUNK_LOST | BW_CHUNK_RESENT);
		note->marks |= BW_CHUNK_SACKED;
		cold->sacked_bytes += note->len;
		news += note->len;
		conn->flags |= BW_CONN_SCOREBOARD;
	}
	return news;
}

/** IsLost() of RFC 6675 4 for every chunk. True: something new was marked. */
static bool mark_lost_by_sack(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	uint32_t bytes = bw_tcp__cold(tcp, conn)->sacked_bytes, bytes_before = 0;
	unsigned chunks = 0, chunks_before = 0;
	bool is_news = false;

	for (struct rte_mbuf *m = bw_tcp__sendq_first(conn); m != NULL && bytes_before < bytes;
		m = bw_tcp__sendq_next(conn, m)) {
		if (bw_tcp__tx_note(m)->marks & BW_CHUNK_SACKED) {
			bytes_before += bw_tcp__tx_note(m)->len;
			chunks++;
		}
	}
	bytes_before = 0;
	for (struct rte_mbuf *m = bw_tcp__sendq_first(conn); m != NULL && bytes_before < bytes;
		m = bw_tcp__sendq_next(conn, m)) {
		struct bw_tcp__tx_note *note = bw_tcp__tx_note(m);

		if (note->marks & BW_CHUNK_SACKED) {
			bytes_before += note->len;
			chunks_before++;
			continue;
		}
		if (bytes - bytes_before <= (BW_TCP__DUP_THRESH - 1u) * conn->mss &&
			chunks - chunks_before < BW_TCP__DUP_THRESH)
			break;
		if (!(note->marks & BW_CHUNK_LOST)) {
			mark_lost(tcp, conn, note);
			is_news = true;
		}
	}
	return is_news;
}

/** Take in an ACK's SACK blocks. Returns how many bytes they reported for the first time. */
static uint32_t sack_input(struct bw_tcp *tcp, struct bw_tcp_conn *conn, const struct bw_tcp_fields *seg)
{
	uint32_t news = 0;

	if (!(conn->flags & BW_CONN_SACK))
		return 0;
	for (unsigned i = 0; i < seg->sack_count; i++) {
		const struct bw_sack_block *block = &seg->sack[i];

		/*
		 * Nothing else can be meant for this flight; a block left of SND.UNA is a D-SACK (RFC 2883).
		 */
		if (bw_seq_geq(block->left, conn->snd_una) && bw_seq_lt(block->left, block->right) &&
			bw_seq_leq(block->right, conn->snd_nxt))
			news += mark_sacked(tcp, conn, block);
	}
	return news;
}

/** Without SACK: duplicate ACKs cannot stand for more segments than are in flight behind the first. */
static void bound_emulated(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct bw_tcp__cold *cold = bw_tcp__cold(tcp, conn);
	uint32_t flight = conn->snd_nxt - conn->snd_una - cold->lost_bytes + cold->resent_bytes;

	cold->sacked_bytes = BW_MIN(cold->sacked_bytes, flight > conn->mss ? flight - conn->mss : 0u);
	if (cold->sacked_bytes != 0)
		conn->flags |= BW_CONN_SCOREBOARD;
}

/* ---- recovery ------------------------------------------------------------------------------------------ */

static void enter_recovery(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	bw_tcp__count(tcp, BW_TCP_FAST_RETRANSMITS);
	bw_tcp__cc_on_loss(tcp, conn);
	bw_tcp__cold(tcp, conn)->recover = conn->snd_nxt;
	conn->flags |= BW_CONN_RECOVERY | BW_CONN_RECOVER_SET;
	mark_first_lost(tcp, conn);
	bw_tcp__retx_arm(tcp, conn, BW_TCP_TIMER_RTO, bw_tcp__rto_ms(conn));
}

static void maybe_enter_recovery(struct bw_tcp *tcp, struct bw_tcp_conn *conn, bool sack_shows_loss)
{
	const struct bw_tcp__cold *cold = bw_tcp__cold(tcp, conn);

	if (conn->flags & (BW_CONN_RECOVERY | BW_CONN_RTO_RECOVERY))
		return;
	if (conn->dupacks < BW_TCP__DUP_THRESH && !sack_shows_loss)
		return;
	/*
	 * RFC 6582 3.2 step 2: duplicate ACKs for what was sent again after a timeout are caused by that.
	 * SACK tells such ACKs apart: they report nothing new.
	 */
	if (!(conn->flags & BW_CONN_SACK) && (conn->flags & BW_CONN_RECOVER_SET) &&
		bw_seq_leq(conn->snd_una, cold->recover))
		return;
	enter_recovery(tcp, conn);
}

/** SND.UNA has moved by `acked`. Returns whether cwnd may grow for it. */
static bool advance_recovery(struct bw_tcp *tcp, struct bw_tcp_conn *conn, uint32_t acked)
{
	struct bw_tcp__cold *cold = bw_tcp__cold(tcp, conn);
	bool has_sack = conn->flags & BW_CONN_SACK;

	if (!(conn->flags & (BW_CONN_RECOVERY | BW_CONN_RTO_RECOVERY))) {
		conn->dupacks = 0;
		if (!has_sack)
			cold->sacked_bytes = 0;
		if ((conn->flags & BW_CONN_RECOVER_SET) && bw_seq_gt(conn->snd_una, cold->recover))
			conn->flags &= ~BW_CONN_RECOVER_SET;
		return true;
	}
	if (bw_seq_geq(conn->snd_una, cold->recover)) {
		bool was_fast = conn->flags & BW_CONN_RECOVERY;

		conn->flags &= ~(BW_CONN_RECOVERY | BW_CONN_RTO_RECOVERY);
		conn->dupacks = 0;
		if (!has_sack)
			cold->sacked_bytes = 0;
		if (was_fast)
			bw_tcp__cc_on_recovered(tcp, conn);
		return !was_fast;
	}
	if (conn->flags & BW_CONN_RTO_RECOVERY)
		return true; /* slow start through the hole */
	/*
	 * A partial ACK (RFC 6582 3.2 step 3): the segment behind it was sent before the one that was lost
	 * first was sent again, so it would be here by now.
	 */
	mark_first_lost(tcp, conn);
	if (!has_sack) {
		cold->sacked_bytes -= BW_MIN(cold->sacked_bytes, acked > conn->mss ? acked - conn->mss : 0u);
		bound_emulated(tcp, conn);
	}
	return false;
}

static void scoreboard_settle(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	const struct bw_tcp__cold *cold = bw_tcp__cold(tcp, conn);

	if ((cold->sacked_bytes | cold->lost_bytes | cold->resent_bytes) == 0)
		conn->flags &= ~BW_CONN_SCOREBOARD;
}

static void take_rtt(struct bw_tcp *tcp, struct bw_tcp_conn *conn, const struct bw_tcp_fields *seg,
	const struct bw_tcp__acked *acked)
{
	/*
	 * Our own notes are finer than a millisecond timestamp. Karn's rule keeps out what was sent twice,
	 * and what arrived long ago but had to wait for it. Then the echoed timestamp tells which of the two
	 * it was that arrived (RFC 7323 4.1).
	 */
	if (acked->has_sample && !acked->was_resent) {
		bw_tcp__rtt_sample(conn, (tcp->now - acked->sent_at) / BW_NS_PER_US);
	} else if ((conn->flags & BW_CONN_TIMESTAMPS) && seg->has_timestamp && seg->ts_echo != 0) {
		uint32_t rtt_ms = tcp->now_ms - (seg->ts_echo - conn->ts_offset);

		if (rtt_ms <= BW_TCP__RTO_MAX_MS)
			bw_tcp__rtt_sample(conn, rtt_ms * 1000ull);
	}
}

void bw_tcp__ack_advance(struct bw_tcp *tcp, struct bw_tcp_conn *conn, const struct bw_tcp_fields *seg)
{
	uint32_t flight = bw_tcp__in_flight(tcp, conn), bytes = seg->ack - conn->snd_una;
	struct bw_tcp__acked acked;

	bw_tcp__sendq_ack(tcp, conn, bw_seq_min(seg->ack, conn->snd_end), &acked);
	if ((conn->flags & BW_CONN_FIN_LOST) && bw_seq_gt(seg->ack, conn->snd_end)) {
		conn->flags &= ~BW_CONN_FIN_LOST;
		bw_tcp__cold(tcp, conn)->lost_bytes--;
	}
	conn->snd_una = seg->ack;
	conn->progress_ms = tcp->now_ms;
	conn->backoff = 0;
	take_rtt(tcp, conn, seg, &acked);
	if (bw_unlikely((conn->flags & (BW_CONN_SCOREBOARD | BW_CONN_RECOVERY | BW_CONN_RTO_RECOVERY |
					       BW_CONN_RECOVER_SET)) ||
			conn->dupacks != 0 || seg->sack_count != 0)) {
		bool may_grow, sack_shows_loss = false;

		sack_input(tcp, conn, seg);
		may_grow = advance_recovery(tcp, conn, bytes);
		if (conn->flags & BW_CONN_SACK)
			sack_shows_loss = mark_lost_by_sack(tcp, conn);
		maybe_enter_recovery(tcp, conn, sack_shows_loss);
		scoreboard_settle(tcp, conn);
		if (may_grow && !(conn->flags & BW_CONN_RECOVERY))
			bw_tcp__cc_on_ack(tcp, conn, bytes, flight);
	} else {
		bw_tcp__cc_on_ack(tcp, conn, bytes, flight);
	}
	if (conn->snd_una == conn->snd_nxt)
		bw_tcp__retx_disarm(conn); /* RFC 6298 5.2; output arms it for what is not sent yet */
	else
		bw_tcp__retx_arm(tcp, conn, BW_TCP_TIMER_RTO, bw_tcp__rto_ms(conn)); /* 5.3 */
}

void bw_tcp__ack_duplicate(
	struct bw_tcp *tcp, struct bw_tcp_conn *conn, const struct bw_tcp_fields *seg, bool is_dupack)
{
	struct bw_tcp__cold *cold = bw_tcp__cold(tcp, conn);
	bool sack_shows_loss = false;

	if (conn->snd_una == conn->snd_nxt)
		return;
	if (conn->flags & BW_CONN_SACK) {
		uint32_t news = sack_input(tcp, conn, seg);

		/* RFC 6675 2: with SACK, a duplicate ACK is one that reports something. */
		if (news == 0)
			return;
		sack_shows_loss = mark_lost_by_sack(tcp, conn);
	} else {
		if (!is_dupack)
			return;
		cold->sacked_bytes += conn->mss;
		bound_emulated(tcp, conn);
	}
	if (conn->dupacks < BW_TCP__DUP_THRESH)
		conn->dupacks++;
	maybe_enter_recovery(tcp, conn, sack_shows_loss);
}

void bw_tcp__on_rto(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct bw_tcp__cold *cold = bw_tcp__cold(tcp, conn);
	struct rte_mbuf *first = bw_tcp__sendq_first(conn);
	/*
	 * The first chunk cannot be both unacknowledged and arrived: the peer took its word back (RFC 2018
	 * 8).
	 */
	bool is_reneging = first != NULL && (bw_tcp__tx_note(first)->marks & BW_CHUNK_SACKED);

	bw_tcp__cc_on_rto(tcp, conn, conn->backoff == 1);
	conn->dupacks = 0;
	conn->flags &= ~(BW_CONN_RECOVERY | BW_CONN_FIN_LOST);
	conn->flags |= BW_CONN_RTO_RECOVERY | BW_CONN_RECOVER_SET | BW_CONN_SCOREBOARD;
	cold->recover = conn->snd_nxt;
	cold->sacked_bytes = cold->lost_bytes = cold->resent_bytes = 0;
	for (struct rte_mbuf *m = first; m != NULL; m = bw_tcp__sendq_next(conn, m)) {
		struct bw_tcp__tx_note *note = bw_tcp__tx_note(m);

		if (!(note->marks & BW_CHUNK_SENT))
			break;
		if (is_reneging)
			note->marks &= (uint8_t)~BW_CHUNK_SACKED;
		note->marks &= (uint8_t) ~(BW_CHUNK_LOST | BW_CHUNK_RESENT);
		if (note->marks & BW_CHUNK_SACKED)
			cold->sacked_bytes += note->len;
		else
			mark_lost(tcp, conn, note);
	}
	if (conn->flags & BW_CONN_FIN_SENT) {
		conn->flags |= BW_CONN_FIN_LOST;
		cold->lost_bytes++;
	}
}

void bw_tcp__on_mss_cut(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	for (struct rte_mbuf *m = bw_tcp__sendq_first(conn); m != NULL; m = bw_tcp__sendq_next(conn, m)) {
		struct bw_tcp__tx_note *note = bw_tcp__tx_note(m);

		if (!(note->marks & BW_CHUNK_SENT))
			break;
		if (note->len <= conn->mss)
			continue;
		if (note->marks & BW_CHUNK_RESENT) {
			note->marks &= (uint8_t)~BW_CHUNK_RESENT;
			bw_tcp__cold(tcp, conn)->resent_bytes -= note->len;
		}
		mark_lost(tcp, conn, note);
	}
	bw_tcp__mark_ready(tcp, conn);
}
