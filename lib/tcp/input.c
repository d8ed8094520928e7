/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Input: segments for connections, RFC 9293 3.10.7.4 with RFC 5961 and RFC 7323 woven in.
 *
 * First the fast path, for the in-order segment of an established connection without trouble. What it does
 * not take goes through the steps of the RFC, one function a step, in the RFC's order. A step returns whether
 * the segment goes on to the next.
 *
 * Deviations, and where the RFCs leave a choice:
 *   - A pure ACK whose number is exactly the window's right edge is acceptable: it comes from a peer that has
 *     filled the window, and its acknowledgment must count.
 *   - A segment without a timestamp on a connection that has them is taken (RFC 7323 3.2 says SHOULD drop):
 *     some hosts leave it out of keep-alives, and Linux takes them, too.
 *   - What came last and comes again is not acceptable (RFC 9293 3.10.7.4), but its ACK number and its timestamp
 *     count: an ACK of that number may not come again. Likewise a probe, of a window that is shut or of whether we
 *     live, which has the number before the next: while our window is shut, the peer may send nothing else.
 *   - Data for a connection that its service closed is discarded, not answered by RST: see bw_tcp_close().
 */
#include "internal.h"

/** A segment on its way through the steps. The first fields change when it is trimmed. */
struct segment {
	const struct bw_tcp_fields *f;
	struct rte_mbuf *m; /* NULL once the payload went to a queue */
	bw_seq seq;
	uint32_t off, len; /* payload, in m */
	uint8_t flags;
	bool is_ce;
	bool is_repeat; /* of what came last, or a probe: all that is left is its ACK */
	bool is_probe;  /* and its timestamp is not that of anything in the window (RFC 7323 4.3) */
};

/* ---- acknowledging what arrived ------------------------------------------------------------------------ */

static void ack_now(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	conn->flags |= BW_CONN_ACK_NOW;
	bw_tcp__mark_ready(tcp, conn);
}

bool bw_tcp__may_challenge(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct bw_tcp__rare *rare = bw_tcp__rare(tcp, conn);

	if (bw_tcp__ms_since(tcp, rare->challenge_ms) < BW_TCP__CHALLENGE_GAP_MS)
		return false;
	rare->challenge_ms = tcp->now_ms;
	return true;
}

/**
 * RFC 5961: <SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>, so that the real peer sets things right, and only it can.
 */
static void challenge(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	if (!bw_tcp__may_challenge(tcp, conn))
		return;
	bw_tcp__count(tcp, BW_TCP_CHALLENGE_ACKS);
	ack_now(tcp, conn);
}

/**
 * `len` bytes arrived in order. RFC 9293 3.8.6.3: an ACK at least for every second full segment, and within
 * the delay for what is less; at once for the first full segments, with which the peer's slow start gets
 * going.
 */
static inline void schedule_ack(struct bw_tcp *tcp, struct bw_tcp_conn *conn, uint32_t len)
{
	if (len >= conn->rcv_mss) {
		/* No more than our MSS option allows: what a device or a kernel has merged is several segments. */
		conn->rcv_mss = (uint16_t)BW_MIN(len, (uint32_t)bw_tcp__mss_option(tcp, &conn->flow));
		bw_tcp__window_grow(tcp, conn);
		if (conn->quick_acks != 0) {
			conn->quick_acks--;
			ack_now(tcp, conn);
			return;
		}
	}
	if (conn->rcv_nxt - conn->ack_sent > conn->rcv_mss) {
		ack_now(tcp, conn);
	} else if (conn->ack_at_ms == 0) {
		conn->ack_at_ms = bw_tcp__deadline(tcp, BW_TCP__DELAYED_ACK_MS);
		bw_tcp__timer_need(tcp, conn, bw_tcp__ms_to_ns(tcp, conn->ack_at_ms));
	}
}

/** The peer is there. */
static inline void heard(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	conn->last_rx_ms = tcp->now_ms;
	if (bw_unlikely(conn->backoff != 0) && conn->timer_use == BW_TCP_TIMER_OFF) {
		/* Keep-alive probes were answered: the next is due earlier than if they had not been. */
		conn->backoff = 0;
		bw_tcp__keepalive_need(tcp, conn);
	}
}

/** RFC 7323 4.3 (3). */
static inline void update_ts_recent(struct bw_tcp_conn *conn, const struct bw_tcp_fields *f)
{
	if (f->has_timestamp && (int32_t)(f->ts_value - conn->ts_recent) >= 0 &&
		bw_seq_leq(f->seq, conn->ack_sent))
		conn->ts_recent = f->ts_value;
}

static inline void update_window(struct bw_tcp_conn *conn, const struct bw_tcp_fields *f)
{
	conn->snd_wnd = (uint32_t)f->window << conn->snd_wscale;
	conn->snd_wl1 = f->seq;
	if (f->window > conn->snd_wnd_max)
		conn->snd_wnd_max = f->window;
}

/** After SND.UNA or the window moved: is there something for output, and for the service? */
static inline void after_ack(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	/* A FIN that is queued but not sent is something, too: it may have had to wait for what was lost. */
	if (conn->snd_nxt != conn->snd_end + !!(conn->flags & BW_CONN_FIN_QUEUED) ||
		(conn->flags & BW_CONN_SCOREBOARD))
		bw_tcp__mark_ready(tcp, conn);
	if (bw_unlikely(conn->flags & BW_CONN_CUT_SHORT))
		bw_tcp__upcall_writable(tcp, conn);
}

static inline bool is_ce(const struct bw_pkt *pkt)
{
	return (pkt->tos & BW_ECN_MASK) == BW_ECN_CE;
}

/* ---- the fast path ------------------------------------------------------------------------------------- */

/**
 * Header prediction (Van Jacobson): the next segment in order, acknowledging something sensible, no trouble.
 */
static inline bool is_predicted(const struct bw_tcp_conn *conn, const struct bw_pkt *pkt)
{
	const struct bw_tcp_fields *f = &pkt->tcp;

	if (conn->state != BW_STATE_ESTABLISHED || (conn->flags & BW_CONN_SLOW) || pkt->is_to_multicast ||
		(f->flags & ~BW_TCP_PSH) != BW_TCP_ACK || f->seq != conn->rcv_nxt || f->sack_count != 0)
		return false;
	if ((conn->flags & BW_CONN_TIMESTAMPS) &&
		(!f->has_timestamp || (int32_t)(f->ts_value - conn->ts_recent) < 0))
		return false;
	if (f->ack - conn->snd_una > conn->snd_nxt - conn->snd_una ||
		pkt->payload_len > conn->rcv_adv - conn->rcv_nxt)
		return false;
	/* It brings data or acknowledges some: so it is no duplicate ACK, probe or mere window update. */
	return pkt->payload_len != 0 ? !is_ce(pkt) && !(conn->flags & BW_CONN_ECHO_CE)
				     : f->ack != conn->snd_una;
}

/* Out of line: what it keeps in registers would be spilled on the fast path. */
static __attribute__((noinline)) void slow_path(
	struct bw_tcp *tcp, struct bw_tcp_conn *conn, struct bw_pkt *pkt);

void bw_tcp__conn_input(struct bw_tcp *tcp, struct bw_tcp_conn *conn, struct bw_pkt *pkt)
{
	const struct bw_tcp_fields *f = &pkt->tcp;
	struct rte_mbuf *last;

	if (bw_unlikely(tcp->to_receive->pressure != BW_TCP_PRESSURE_NONE || !is_predicted(conn, pkt))) {
		slow_path(tcp, conn, pkt);
		return;
	}
	if (conn->flags & BW_CONN_TIMESTAMPS)
		update_ts_recent(conn, f);
	heard(tcp, conn);
	update_window(conn, f);
	if (pkt->payload_len != 0) {
		struct rte_mbuf *first =
			bw_tcp__payload_take(pkt->m, pkt->payload_off, pkt->payload_len, &last);

		conn->rcv_nxt += pkt->payload_len;
		bw_tcp__recvq_append(tcp, conn, first, last, pkt->payload_len);
		schedule_ack(tcp, conn, pkt->payload_len);
	} else {
		rte_pktmbuf_free(pkt->m);
	}
	if (f->ack != conn->snd_una)
		bw_tcp__ack_advance(tcp, conn, f);
	after_ack(tcp, conn);
	if (pkt->payload_len != 0)
		bw_tcp__upcall_data(tcp, conn);
}

/* ---- the steps ----------------------------------------------------------------------------------------- */

/** PAWS: RFC 7323 5.3 R1. A timestamp older than what was seen marks a duplicate from an earlier time. */
static bool step_paws(struct bw_tcp *tcp, struct bw_tcp_conn *conn, struct segment *s)
{
	if (!(conn->flags & BW_CONN_TIMESTAMPS) || !s->f->has_timestamp || (s->flags & BW_TCP_RST))
		return true;
	if ((int32_t)(s->f->ts_value - conn->ts_recent) >= 0)
		return true;
	/* 5.5: after 24 days of silence the clock may have wrapped; then the segment's number is the judge. */
	if (bw_tcp__ms_since(tcp, conn->last_rx_ms) > BW_TCP__PAWS_IDLE_MS) {
		if (bw_seq_in(s->seq, conn->rcv_nxt, conn->rcv_adv - conn->rcv_nxt + 1))
			conn->ts_recent = s->f->ts_value;
		return true;
	}
	bw_tcp__count(tcp, BW_TCP_PAWS_DROPS);
	if (s->len != 0 || bw_tcp__may_challenge(tcp, conn))
		ack_now(tcp, conn);
	return false;
}

/** What lies left of rcv_nxt has come before: RFC 2883. */
static void note_old(struct bw_tcp *tcp, struct bw_tcp_conn *conn, const struct segment *s)
{
	bw_seq end = s->seq + s->len + !!(s->flags & BW_TCP_FIN);

	bw_tcp__reassembly_duplicate(tcp, conn, s->seq, bw_seq_min(end, conn->rcv_nxt));
}

/**
 * First, the sequence number (RFC 9293 3.4, 3.10.7.4). Trims what lies outside the window:
 *
 *        rcv_nxt            rcv_adv
 *     -----[==================]-----
 *     xxxxxx-----                       the front is old
 *                    ---------xxxxx     the end does not fit, nor does a FIN behind it
 */
static bool step_sequence(struct bw_tcp *tcp, struct bw_tcp_conn *conn, struct segment *s)
{
	uint32_t window = bw_seq_gt(conn->rcv_adv, conn->rcv_nxt) ? conn->rcv_adv - conn->rcv_nxt : 0;
	uint32_t syn = !!(s->flags & BW_TCP_SYN), fin = !!(s->flags & BW_TCP_FIN);
	bw_seq end = s->seq + syn + s->len + fin, edge = conn->rcv_nxt + window;
	bool is_empty = end == s->seq;
	bool is_acceptable;

	if (is_empty && s->seq + 1 == conn->rcv_nxt && !(s->flags & BW_TCP_RST)) {
		if (bw_tcp__may_challenge(tcp, conn))
			ack_now(tcp, conn);
		s->seq = conn->rcv_nxt;
		s->is_repeat = s->is_probe = true;
		return true;
	}

	/* Whoever repeats what came last may have heard from us since, and is believed, as by Linux and FreeBSD. */
	s->is_repeat = !is_empty && end == conn->rcv_nxt && !(s->flags & (BW_TCP_SYN | BW_TCP_RST));
	if (is_empty || s->is_repeat)
		is_acceptable = end - conn->rcv_nxt <= window;
	else if (window == 0)
		/* Nothing fits, but its ACK and RST count: "special allowance" (3.10.7.4) */
		is_acceptable = s->seq == conn->rcv_nxt;
	else
		is_acceptable = bw_seq_gt(end, conn->rcv_nxt) && bw_seq_lt(s->seq, edge);
	if (!is_acceptable) {
		bool is_old = bw_seq_leq(end, conn->rcv_nxt);

		bw_tcp__count(tcp, is_old && s->len != 0 ? BW_TCP_DUPLICATES : BW_TCP_DROP_UNACCEPTABLE);
		if (s->flags & BW_TCP_RST)
			return false;
		if ((s->len != 0 || fin) && bw_seq_lt(s->seq, conn->rcv_nxt) && !syn)
			note_old(tcp, conn, s);
		/*
		 * Payload and FIN come again until they are acknowledged; the rest may be an echo of our
		 * answer.
		 */
		if (s->len != 0 || fin || bw_tcp__may_challenge(tcp, conn))
			ack_now(tcp, conn);
		return false;
	}
	if (s->flags & (BW_TCP_SYN | BW_TCP_RST))
		return true; /* judged by its number, whatever it carries */
	if (bw_seq_lt(s->seq, conn->rcv_nxt)) {
		uint32_t old = conn->rcv_nxt - s->seq;

		note_old(tcp, conn, s);
		s->seq = conn->rcv_nxt;
		s->off += old;
		s->len -= BW_MIN(old, s->len);
		if (s->is_repeat) {
			s->flags &= (uint8_t)~BW_TCP_FIN;
			bw_tcp__count(tcp, BW_TCP_DUPLICATES);
		}
		ack_now(tcp, conn); /* the peer repeats itself: our ACK was lost */
	}
	if (s->len != 0 && bw_seq_gt(s->seq + s->len, edge)) {
		s->len = edge - s->seq;
		s->flags &= (uint8_t)~BW_TCP_FIN;
		ack_now(tcp, conn); /* with the window as it is */
	}
	return true;
}

/** Second, RST: RFC 5961 3.2. Only the exact number resets; another in the window is challenged. */
static bool step_rst(struct bw_tcp *tcp, struct bw_tcp_conn *conn, struct segment *s)
{
	if (!(s->flags & BW_TCP_RST))
		return true;
	if (s->seq != conn->rcv_nxt) {
		challenge(tcp, conn);
		return false;
	}
	bw_tcp__conn_end(tcp, conn, BW_TCP_END_RESET);
	return false;
}

/** Fourth, SYN: RFC 5961 4.2. A peer that really restarted answers the challenge with an exact RST. */
static bool step_syn(struct bw_tcp *tcp, struct bw_tcp_conn *conn, struct segment *s)
{
	if (!(s->flags & BW_TCP_SYN))
		return true;
	challenge(tcp, conn);
	return false;
}

/** Our FIN is acknowledged. Returns false when that ends the connection. */
static bool fin_is_acked(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	switch (conn->state) {
	case BW_STATE_FIN_WAIT_1:
		bw_tcp__set_state(conn, BW_STATE_FIN_WAIT_2);
		if (conn->flags & BW_CONN_RELEASED)
			bw_tcp__retx_arm(tcp, conn, BW_TCP_TIMER_LINGER, BW_TCP__LINGER_MS);
		return true;
	case BW_STATE_CLOSING:
		bw_tcp__time_wait_enter(tcp, conn);
		bw_tcp__conn_finish(tcp, conn);
		return false;
	case BW_STATE_LAST_ACK:
		bw_tcp__conn_finish(tcp, conn);
		return false;
	default:
		return true;
	}
}

/** Fifth, ACK: RFC 9293 3.10.7.4 and RFC 5961 5.2. */
static bool step_ack(struct bw_tcp *tcp, struct bw_tcp_conn *conn, struct segment *s)
{
	const struct bw_tcp_fields *f = s->f;
	uint32_t old_max = (uint32_t)conn->snd_wnd_max << conn->snd_wscale;
	bool was_shut = conn->snd_wnd == 0, is_same_window;

	if (!(s->flags & BW_TCP_ACK)) {
		bw_tcp__count(tcp, BW_TCP_DROP_UNACCEPTABLE);
		return false;
	}
	if (bw_seq_gt(f->ack, conn->snd_nxt) || bw_seq_lt(f->ack, conn->snd_una - old_max)) {
		challenge(tcp, conn);
		return false;
	}
	heard(tcp, conn);
	if (!s->is_probe)
		update_ts_recent(conn, f);
	if (bw_seq_lt(f->ack, conn->snd_una))
		return true; /* old: it says nothing, its payload may */
	is_same_window = (uint32_t)f->window << conn->snd_wscale == conn->snd_wnd;
	/*
	 * By RFC 9293 the sequence number alone would tell what is newer. But what is sent again has an old one, and an
	 * ACK of ours that nobody has seen before: with the window of a segment that overtook it, the edge would move
	 * beyond what the peer has ever offered. Linux updates so, too.
	 */
	if (bw_seq_gt(f->ack, conn->snd_una) || bw_seq_leq(conn->snd_wl1, f->seq))
		update_window(conn, f);
	if ((was_shut || conn->snd_wnd == 0) && !(conn->flags & BW_CONN_RELEASED))
		conn->progress_ms = tcp->now_ms; /* a shut window is an answer: 3.8.6.1. R2 is for silence */
	if ((f->flags & BW_TCP_ECE) && (conn->flags & BW_CONN_ECN))
		bw_tcp__ecn_echoed(tcp, conn, f->ack);
	if (f->ack != conn->snd_una) {
		bw_tcp__ack_advance(tcp, conn, f);
		if ((conn->flags & BW_CONN_FIN_SENT) && conn->snd_una == conn->snd_nxt &&
			!fin_is_acked(tcp, conn))
			return false;
	} else {
		/* RFC 5681 2 */
		bw_tcp__ack_duplicate(tcp, conn, f,
			s->len == 0 && !s->is_repeat && is_same_window && !(s->flags & BW_TCP_FIN));
	}
	after_ack(tcp, conn);
	return !bw_tcp__is_over(conn);
}

/** Seventh, the text. Returns whether a FIN has become the next in order. */
static bool step_text(struct bw_tcp *tcp, struct bw_tcp_conn *conn, struct segment *s)
{
	bool has_fin = s->flags & BW_TCP_FIN, is_in_order = s->seq == conn->rcv_nxt;
	uint32_t unread = conn->unread;
	struct rte_mbuf *first, *last;

	if (!bw_tcp__peer_may_send(conn))
		return false; /* nothing comes after a FIN */
	if (s->len != 0) {
		uint32_t len = s->len;

		if (conn->flags & BW_CONN_ECN)
			bw_tcp__ecn_payload(tcp, conn, s->is_ce, s->flags & BW_TCP_CWR);
		first = bw_tcp__payload_take(s->m, s->off, len, &last);
		s->m = NULL;
		if (!is_in_order) {
			ack_now(tcp, conn); /* RFC 5681 4.2: at once, it is the peer's sign of a loss */
			bw_tcp__reassembly_insert(tcp, conn, s->seq, len, first, last);
			bw_tcp__reassembly_owe_ack(tcp, conn);
		} else if (!bw_tcp__may_hold_more(tcp->to_receive, conn->unread) &&
			   !(conn->flags & BW_CONN_RELEASED)) {
			/* Its service does not keep up, or nobody's answers are acknowledged. */
			bw_tcp__count(tcp, BW_TCP_PRESSURE_DROPS);
			bw_tcp__note_refused(tcp);
			bw_tcp__run_free(first, last);
			ack_now(tcp, conn);
			return false;
		} else {
			conn->rcv_nxt += len;
			bw_tcp__recvq_append(tcp, conn, first, last, len);
			if (conn->flags & BW_CONN_REASSEMBLY)
				ack_now(tcp, conn); /* and when a hole is filled */
			schedule_ack(tcp, conn, len);
		}
	}
	if (has_fin && !is_in_order) {
		bw_tcp__reassembly_fin(tcp, conn, s->seq + s->len);
		ack_now(tcp, conn);
		has_fin = false;
	}
	/* What lies behind a FIN in order is nothing: RCV.NXT is the FIN's own number. */
	if (is_in_order && !has_fin && bw_tcp__reassembly_drain(tcp, conn))
		has_fin = true;
	if (conn->unread != unread)
		bw_tcp__upcall_data(tcp, conn);
	return has_fin;
}

/** Eighth, FIN. */
static void step_fin(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	const struct bw_tcp_ops *ops = bw_tcp__listener(tcp, conn)->ops;

	bw_tcp__reassembly_free(tcp, conn);
	conn->rcv_nxt++;
	ack_now(tcp, conn);
	switch (conn->state) {
	case BW_STATE_ESTABLISHED:
		bw_tcp__set_state(conn, BW_STATE_CLOSE_WAIT);
		break;
	case BW_STATE_FIN_WAIT_1: /* our FIN is not acknowledged, or step_ack had left this state */
		bw_tcp__set_state(conn, BW_STATE_CLOSING);
		break;
	default:
		BW_ASSERT_EQ(conn->state, BW_STATE_FIN_WAIT_2);
		bw_tcp__time_wait_enter(tcp, conn);
		break;
	}
	if (bw_tcp__wants_upcalls(conn) && ops->peer_closed != NULL)
		ops->peer_closed(conn);
	if (conn->state == BW_STATE_CLOSED && !bw_tcp__is_over(conn))
		bw_tcp__conn_finish(tcp, conn);
}

static void slow_path(struct bw_tcp *tcp, struct bw_tcp_conn *conn, struct bw_pkt *pkt)
{
	struct segment s = {
		.f = &pkt->tcp,
		.m = pkt->m,
		.seq = pkt->tcp.seq,
		.off = pkt->payload_off,
		.len = pkt->payload_len,
		.flags = pkt->tcp.flags,
		.is_ce = is_ce(pkt),
	};

	/* An abort's RST is on its way; a multicast never was for a connection. */
	if (bw_tcp__is_over(conn) || pkt->is_to_multicast)
		goto out;
	if (bw_unlikely(bw_tcp__is_opening(conn))) {
		bw_tcp__opening_input(tcp, conn, pkt);
		return;
	}
	if (!step_paws(tcp, conn, &s) || !step_sequence(tcp, conn, &s) || !step_rst(tcp, conn, &s) ||
		!step_syn(tcp, conn, &s) || !step_ack(tcp, conn, &s))
		goto out;
	/* Sixth, URG: urgent data is data like all other (RFC 6093). */
	if (step_text(tcp, conn, &s) && !bw_tcp__is_over(conn))
		step_fin(tcp, conn);
out:
	if (s.m != NULL)
		rte_pktmbuf_free(s.m);
}

/* ---- the burst ----------------------------------------------------------------------------------------- */

#define BURST_MAX 32

static void input_one(struct bw_tcp *tcp, struct bw_pkt *pkt, bw_tcp_handle handle)
{
	uint32_t index = bw_tcp__handle_index(handle);

	if (handle != 0)
		bw_tcp__count(tcp, BW_TCP_SEGMENTS_IN);
	switch (bw_tcp__handle_kind(handle)) {
	case BW_TCP_KIND_CONN:
		bw_tcp__conn_input(tcp, &tcp->conns[index], pkt);
		break;
	case BW_TCP_KIND_HALF_OPEN:
		bw_tcp__half_open_input(tcp, index, pkt);
		break;
	case BW_TCP_KIND_TIME_WAIT:
		bw_tcp__time_wait_input(tcp, index, pkt);
		break;
	default:
		bw_tcp__listen_input(tcp, pkt, NULL);
	}
}

static inline void enter(const struct bw_tcp *tcp, enum bw_tcp_stage stage)
{
	if (bw_unlikely(tcp->conf.on_stage != NULL))
		tcp->conf.on_stage(tcp->conf.on_stage_arg, stage);
}

/** Each listener's payloads to whoever wants to see them first. */
static void announce(
	struct bw_tcp *tcp, struct bw_pkt *const *pkts, const bw_tcp_handle *guess, unsigned count)
{
	const struct bw_tcp_listener *listener = NULL;
	struct bw_tcp_view views[BURST_MAX];
	unsigned n = 0;

	for (unsigned i = 0; i < count; i++) {
		struct rte_mbuf *m = pkts[i]->m;
		const struct bw_tcp_listener *of;

		if (pkts[i]->payload_len == 0 || bw_tcp__handle_kind(guess[i]) != BW_TCP_KIND_CONN)
			continue;
		of = bw_tcp__listener(tcp, &tcp->conns[bw_tcp__handle_index(guess[i])]);
		if (of->prefetch == NULL)
			continue;
		if (of != listener && n > 0) {
			listener->prefetch(listener->user, views, n);
			n = 0;
		}
		listener = of;
		views[n++] = (struct bw_tcp_view){
			.data = rte_pktmbuf_mtod_offset(m, const uint8_t *, pkts[i]->payload_off),
			.len = BW_MIN((uint32_t)pkts[i]->payload_len,
				(uint32_t)rte_pktmbuf_data_len(m) - pkts[i]->payload_off),
			.m = m,
		};
	}
	if (n > 0)
		listener->prefetch(listener->user, views, n);
}

static void input_burst(struct bw_tcp *tcp, struct bw_pkt *const *pkts, unsigned count)
{
	bw_tcp_handle guess[BURST_MAX];
	uint64_t version;

	enter(tcp, BW_TCP_STAGE_LOOKUP);
	for (unsigned i = 0; i < count; i++)
		bw_tcp__table_prefetch(&tcp->table, pkts[i]->hash);
	version = tcp->table.version;
	for (unsigned i = 0; i < count; i++)
		guess[i] = bw_tcp__table_guess(tcp, pkts[i]->hash);
	enter(tcp, BW_TCP_STAGE_INPUT);
	if (tcp->announces)
		announce(tcp, pkts, guess, count);
	for (unsigned i = 0; i < count; i++) {
		struct bw_pkt *pkt = pkts[i];

		/*
		 * A guess holds if it is the flow's, and if no packet before this one has changed the table.
		 */
		if (bw_unlikely(guess[i] == 0 || tcp->table.version != version ||
				!bw_flow_eq(bw_tcp__handle_flow(tcp, guess[i]), &pkt->flow)))
			guess[i] = bw_tcp__table_find(tcp, pkt->hash, &pkt->flow);
		input_one(tcp, pkt, guess[i]);
	}
}

bool bw_tcp_knows(const struct bw_tcp *tcp, const struct bw_pkt *pkt)
{
	return bw_tcp__table_find(tcp, pkt->hash, &pkt->flow) != 0;
}

void bw_tcp_input(struct bw_tcp *tcp, bw_ns now, struct bw_pkt *const *pkts, unsigned count)
{
	bw_tcp__set_now(tcp, now);
	/* Who waits for a buffer comes before who arrives. */
	if (bw_unlikely(tcp->waiting_head != BW_TCP__NONE))
		bw_tcp__run_waiting(tcp);
	while (count != 0) {
		unsigned n = BW_MIN(count, (unsigned)BURST_MAX);

		input_burst(tcp, pkts, n);
		pkts += n;
		count -= n;
	}
	bw_tcp__run_pending(tcp);
}

/* ---- ICMP ---------------------------------------------------------------------------------------------- */

void bw_tcp_icmp_error(
	struct bw_tcp *tcp, bw_ns now, const struct bw_flow *flow, bw_seq seq, bool is_hard, uint32_t mtu)
{
	bw_tcp_handle handle;
	struct bw_tcp_conn *conn;
	uint32_t headers = bw_ip_is_v4(&flow->local) ? 40 : 60,
		 mtu_min = bw_ip_is_v4(&flow->local) ? 552 : BW_IP6_MTU_MIN;
	uint32_t mss;

	bw_tcp__set_now(tcp, now);
	handle = bw_tcp__table_find(tcp, bw_flow_hash(flow), flow);
	if (bw_tcp__handle_kind(handle) != BW_TCP_KIND_CONN)
		return;
	conn = &tcp->conns[bw_tcp__handle_index(handle)];
	/* RFC 5927 4.1: it must quote something that is in flight. */
	if (bw_tcp__is_over(conn) || !bw_seq_in(seq, conn->snd_una, conn->snd_nxt - conn->snd_una))
		return;
	if (mtu == 0) {
		bw_tcp__count(tcp, BW_TCP_UNREACHABLE);
		bw_tcp__rare(tcp, conn)->unreachable_ms = tcp->now_ms;
		/*
		 * RFC 1122 4.2.3.9: a hard error ends what has not begun. Otherwise the retransmission timer will tell
		 * (RFC 5927 5.2), and then this is the reason (RFC 9293 3.9.2.2).
		 */
		if (is_hard && bw_tcp__is_opening(conn))
			bw_tcp__conn_end(tcp, conn, BW_TCP_END_UNREACHABLE);
	}
	if (mtu == 0 || bw_tcp__is_opening(conn))
		return;
	/*
	 * The MTU (RFC 1191 3, RFC 8201 4). One below the floor is a lie, or a link on which smaller segments
	 * would not help.
	 */
	mss = BW_MAX(mtu, mtu_min) - headers - (conn->flags & BW_CONN_TIMESTAMPS ? 12 : 0);
	if (mss >= conn->mss)
		return;
	bw_tcp__mtu_cut(tcp, conn, mss, mss);
}
