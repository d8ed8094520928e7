/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * LISTEN and SYN-RECEIVED (RFC 9293 3.10.7.2, 3.10.7.4). A SYN costs 64 bytes until its sender has shown, by
 * acknowledging our number, that it is where it says.
 *
 * While no 64 bytes are left, the SYN-ACK is a cookie instead, and nothing is kept: cookie.c.
 *
 * Every half-open entry waits for its next retry in the list of those that were tried as often, so each list
 * is ordered by time, and one timer serves all.
 */
#include "internal.h"

/* ---- what the SYNs agree on, of passive and active opens ------------------------------------------------- */

struct bw_tcp__half_open bw_tcp__half_open_of(
	const struct bw_flow *flow, const struct bw_tcp_fields *syn, unsigned listener, bw_seq iss)
{
	return (struct bw_tcp__half_open){
		.flow = *flow,
		.irs = syn->seq,
		.iss = iss,
		.ts_recent = syn->has_timestamp ? syn->ts_value : 0,
		.listener = listener,
		/* RFC 9293 3.7.1: without the option, 536 for IPv4 and 1220 for IPv6 */
		.peer_mss = syn->has_mss                 ? syn->mss
			    : bw_ip_is_v4(&flow->remote) ? 536
							 : 1220,
		/* RFC 7323 2.3 */
		.wscale = syn->has_wscale ? BW_MIN(syn->wscale, 14) : BW_TCP__NO_WSCALE,
		.has_timestamps = syn->has_timestamp,
		.has_sack = syn->has_sack_permitted,
	};
}

uint16_t bw_tcp__syn_window(const struct bw_tcp *tcp, unsigned listener)
{
	return (uint16_t)BW_MIN(tcp->listeners[listener].recv_bytes_max, 65535u);
}

static uint16_t effective_mss(const struct bw_tcp *tcp, const struct bw_tcp__half_open *half)
{
	uint32_t mss = BW_MIN(BW_MAX((uint32_t)half->peer_mss, tcp->conf.mss_min),
		(uint32_t)bw_tcp__mss_option(tcp, &half->flow));

	if (half->has_timestamps)
		mss -= 12; /* RFC 6691 */
	return (uint16_t)(tcp->conf.can_multi_segment ? mss : BW_MIN(mss, tcp->payload_room));
}

void bw_tcp__handshake_agree(
	struct bw_tcp *tcp, struct bw_tcp_conn *conn, const struct bw_tcp__half_open *half)
{
	conn->rcv_nxt = conn->ack_sent = half->irs + 1;
	conn->rcv_adv = conn->rcv_nxt + bw_tcp__syn_window(tcp, half->listener);
	conn->mss = effective_mss(tcp, half);
	conn->rcv_mss = (uint16_t)BW_MIN(536u, bw_tcp__recv_bytes_max(tcp, conn) / 2 + 1);
	if (half->wscale != BW_TCP__NO_WSCALE) {
		conn->snd_wscale = half->wscale;
		conn->rcv_wscale = bw_tcp__wscale_for(bw_tcp__recv_bytes_max(tcp, conn));
	}
	if (half->has_timestamps) {
		conn->flags |= BW_CONN_TIMESTAMPS;
		conn->ts_recent = half->ts_recent;
	}
	if (half->has_sack)
		conn->flags |= BW_CONN_SACK;
	if (half->has_ecn)
		conn->flags |= BW_CONN_ECN;
}

void bw_tcp__handshake_done(struct bw_tcp *tcp, struct bw_tcp_conn *conn, const struct bw_tcp_fields *seg,
	uint32_t window, bool was_repeated, uint32_t rtt_ms)
{
	const struct bw_tcp_ops *ops = bw_tcp__listener(tcp, conn)->ops;

	bw_tcp__set_state(conn, BW_STATE_ESTABLISHED);
	conn->snd_una = conn->snd_nxt;
	conn->snd_wnd = window;
	/* Unscaled, also where the segment's window is not: a SYN's (RFC 7323 2.2). */
	conn->snd_wnd_max = (uint16_t)((window + (1u << conn->snd_wscale) - 1) >> conn->snd_wscale);
	conn->snd_wl1 = seg->seq;
	bw_tcp__cc_init(tcp, conn, was_repeated);
	if (rtt_ms != BW_TCP__RTT_UNKNOWN)
		/* Rounded down it would be no time at all, and RACK would take it for the least that there is. */
		bw_tcp__rtt_sample(conn, BW_MAX(rtt_ms, 1u) * 1000ull);
	else if (was_repeated)
		conn->rttvar_us4 = BW_TCP__RTO_SYN_LOST_MS; /* RFC 6298 5.7 */
	bw_tcp__keepalive_need(tcp, conn);
	if (conn->flags & BW_CONN_ECN)
		bw_tcp__count(tcp, BW_TCP_ECN_AGREED);
	if (ops->opened != NULL)
		ops->opened(conn);
}

/* ---- SYN-ACK ------------------------------------------------------------------------------------------- */

static uint32_t clock_of(const struct bw_tcp *tcp, const struct bw_flow *flow)
{
	return tcp->now_ms + bw_tcp__numbers(tcp, flow).ts_offset;
}

/**
 * All the retries' times: then a SYN whose answer is not acknowledged is given up. The time for a try begins again with
 * the SYN, until that is so old: so it is given up after twice that, however often it comes.
 */
#define LIFE_MS (BW_TCP__RTO_INITIAL_MS * ((2u << BW_TCP__SYN_ACK_RETRIES) - 1))

/**
 * How long ago the SYN was first answered: our number, taken from a clock then, tells. Less than 0 where that had to be
 * beyond an earlier incarnation's.
 */
static int32_t age_ms(const struct bw_tcp *tcp, const struct bw_tcp__half_open *half)
{
	return (int32_t)(bw_tcp__numbers(tcp, &half->flow).isn - half->iss) / BW_TCP__ISN_TICKS_PER_MS;
}

static void send_syn_ack(struct bw_tcp *tcp, const struct bw_tcp__half_open *half, uint32_t ts_value)
{
	struct bw_tcp_fields fields = {
		.flags = BW_TCP_SYN | BW_TCP_ACK | (half->has_ecn ? BW_TCP_ECE : 0),
		.seq = half->iss,
		.ack = half->irs + 1,
		.window = bw_tcp__syn_window(tcp, half->listener),
		.has_mss = true,
		.mss = bw_tcp__mss_option(tcp, &half->flow),
		.has_wscale = half->wscale != BW_TCP__NO_WSCALE,
		.wscale = bw_tcp__wscale_for(tcp->listeners[half->listener].recv_bytes_max),
		.has_timestamp = half->has_timestamps,
		.ts_value = ts_value,
		.ts_echo = half->ts_recent,
		.has_sack_permitted = half->has_sack,
	};

	bw_tcp__answer_with_tos(
		tcp, &half->flow, &fields, bw_tcp__tos_of_control(tcp, half->listener, half->has_ecn));
}

/** The timer's next deadline is the earliest of the lists' first. */
static void arm_timer(struct bw_tcp *tcp)
{
	for (unsigned i = 0; i <= BW_TCP__SYN_ACK_RETRIES; i++) {
		uint32_t first = tcp->half_open_fifo[i].head;
		bw_ns at;

		if (first == BW_TCP__NONE)
			continue;
		at = bw_tcp__ms_to_ns(tcp, tcp->half_opens[first].retry_at_ms);
		if (at < tcp->half_open_timer.expires_at)
			bw_timer_arm(&tcp->wheel, &tcp->half_open_timer, at);
	}
}

/** Wait for the ACK, or the next retry: 1, 2, 4, 8, 16 s, and 32 s before it is given up. */
static void await_ack(struct bw_tcp *tcp, uint32_t index)
{
	struct bw_tcp__half_open *half = &tcp->half_opens[index];

	half->retry_at_ms = bw_tcp__deadline(tcp, BW_TCP__RTO_INITIAL_MS << half->tries);
	bw_tcp__fifo_push(&tcp->half_open_fifo[half->tries], tcp->half_opens, index);
	arm_timer(tcp);
}

static void forget(struct bw_tcp *tcp, uint32_t index)
{
	struct bw_tcp__half_open *half = &tcp->half_opens[index];

	bw_tcp__fifo_remove(&tcp->half_open_fifo[half->tries], tcp->half_opens, index);
	bw_tcp__slab_give(&tcp->half_open_slab, tcp->half_opens, next, index);
}

static void drop_half_open(struct bw_tcp *tcp, uint32_t index)
{
	bw_tcp__table_remove(&tcp->table, bw_flow_hash(&tcp->half_opens[index].flow),
		bw_tcp__handle(BW_TCP_KIND_HALF_OPEN, index));
	forget(tcp, index);
}

/** What is due beyond the bounds waits for the next turn: repeats leave room for answers to those who ask now. */
void bw_tcp__half_open_timer(struct bw_tcp *tcp)
{
	unsigned repeats = 0, given_up = 0;

	for (unsigned tries = 0; tries <= BW_TCP__SYN_ACK_RETRIES; tries++) {
		uint32_t i;

		while ((i = tcp->half_open_fifo[tries].head) != BW_TCP__NONE &&
			bw_tcp__is_due(tcp, tcp->half_opens[i].retry_at_ms)) {
			if (tries == BW_TCP__SYN_ACK_RETRIES) {
				if (given_up++ == BW_TCP__TIMERS_MAX)
					break;
				drop_half_open(tcp, i);
				continue;
			}
			if (tcp->answer_count == BW_TCP__ANSWERS_MAX || repeats++ >= BW_TCP__REPEATS_MAX)
				break;
			bw_tcp__fifo_remove(&tcp->half_open_fifo[tries], tcp->half_opens, i);
			tcp->half_opens[i].tries++;
			send_syn_ack(tcp, &tcp->half_opens[i], clock_of(tcp, &tcp->half_opens[i].flow));
			bw_tcp__count(tcp, BW_TCP_RETRANSMITS);
			await_ack(tcp, i);
		}
	}
	arm_timer(tcp);
}

/* ---- LISTEN -------------------------------------------------------------------------------------------- */

/** What becomes of a SYN. */
enum fate {
	REFUSED,
	HALF_OPEN,
	COOKIE,
};

/** @follows  there was an earlier incarnation, whose numbers a cookie cannot leave behind: timestamps must */
static enum fate fate_of(const struct bw_tcp *tcp, const struct bw_pkt *pkt, bool follows)
{
	enum bw_tcp_syn_cookies when = tcp->conf.syn_cookies;
	bool has_room = tcp->half_open_slab.count < tcp->half_open_slab.capacity;

	/* What would find no connection to become is not begun, nor new work while buffers run low. */
	if (bw_tcp__listener_find(tcp, &pkt->flow, true) < 0 || tcp->pressure != BW_TCP_PRESSURE_NONE ||
		tcp->conn_slab.count == tcp->conn_slab.capacity)
		return REFUSED;
	if ((when == BW_TCP_SYN_COOKIES_ALWAYS || (when == BW_TCP_SYN_COOKIES_AUTO && !has_room)) &&
		(!follows || pkt->tcp.has_timestamp))
		return COOKIE;
	return has_room ? HALF_OPEN : REFUSED;
}

bool bw_tcp__may_accept(const struct bw_tcp *tcp, const struct bw_pkt *pkt)
{
	return fate_of(tcp, pkt, true) != REFUSED;
}

static void keep_half_open(
	struct bw_tcp *tcp, const struct bw_tcp__half_open *asked, uint32_t hash, const bw_seq *beyond)
{
	uint32_t index = bw_tcp__slab_take(&tcp->half_open_slab, tcp->half_opens, next);
	struct bw_tcp__half_open *half = &tcp->half_opens[index];
	struct bw_tcp__numbers numbers = bw_tcp__numbers(tcp, &asked->flow);

	BW_ASSERT_LT(index, tcp->half_open_slab.touched);
	*half = *asked;
	half->iss = numbers.isn;
	/* RFC 1122 4.2.2.13: an incarnation that follows a TIME_WAIT numbers beyond it. */
	if (beyond != NULL && bw_seq_leq(half->iss, *beyond))
		half->iss = *beyond + 65536;
	bw_tcp__table_insert(&tcp->table, hash, bw_tcp__handle(BW_TCP_KIND_HALF_OPEN, index));
	send_syn_ack(tcp, half, tcp->now_ms + numbers.ts_offset);
	await_ack(tcp, index);
}

/** Nothing is kept, so nothing is repeated: the peer's next SYN gets the next cookie. */
static void send_cookie(struct bw_tcp *tcp, struct bw_tcp__half_open *asked)
{
	bw_tcp__cookie_keys_renew(&tcp->cookie_keys, &tcp->conf.secret, tcp->now);
	tcp->cookies_until = bw_tcp__cookie_expires_at(&tcp->cookie_keys);
	bw_tcp__cookie_make(&tcp->cookie_keys, asked);
	send_syn_ack(tcp, asked,
		asked->has_timestamps ? bw_tcp__cookie_timestamp(asked, clock_of(tcp, &asked->flow)) : 0);
	bw_tcp__count(tcp, BW_TCP_COOKIES_SENT);
}

static void accept_syn(struct bw_tcp *tcp, const struct bw_pkt *pkt, unsigned listener, const bw_seq *beyond)
{
	struct bw_tcp__half_open asked = bw_tcp__half_open_of(&pkt->flow, &pkt->tcp, listener, 0);

	asked.has_ecn = bw_tcp__ecn_is_asked(tcp, pkt->tcp.flags);
	switch (fate_of(tcp, pkt, beyond != NULL)) {
	case REFUSED:
		bw_tcp__count(tcp, BW_TCP_SYN_REFUSED);
		if (tcp->pressure != BW_TCP_PRESSURE_NONE)
			bw_tcp__note_refused(tcp);
		break;
	case HALF_OPEN:
		keep_half_open(tcp, &asked, pkt->hash, beyond);
		break;
	case COOKIE:
		send_cookie(tcp, &asked);
		break;
	}
}

/** Is it the ACK of a cookie? Then `half` is the entry that was not kept. No cost while no cookie is out. */
static bool is_cookie_ack(struct bw_tcp *tcp, const struct bw_pkt *pkt, struct bw_tcp__half_open *half)
{
	int listener;

	if (bw_likely(tcp->now >= tcp->cookies_until) || pkt->is_to_multicast ||
		(pkt->tcp.flags & (BW_TCP_SYN | BW_TCP_ACK | BW_TCP_RST)) != BW_TCP_ACK)
		return false;
	/* Handshakes that have begun are completed. */
	listener = bw_tcp__listener_find(tcp, &pkt->flow, false);
	if (listener < 0)
		return false;
	bw_tcp__cookie_keys_renew(&tcp->cookie_keys, &tcp->conf.secret, tcp->now);
	if (!bw_tcp__cookie_check(&tcp->cookie_keys, pkt, half)) {
		bw_tcp__count(tcp, BW_TCP_COOKIES_REJECTED);
		return false;
	}
	half->listener = (uint16_t)listener;
	return true;
}

static void establish(
	struct bw_tcp *tcp, const struct bw_tcp__half_open *from, uint32_t index, struct bw_pkt *pkt);

/** Where another stack has our addresses as well. */
static bool is_port_ours(const struct bw_tcp *tcp, const struct bw_flow *flow)
{
	const uint16_t port = __builtin_bswap16(flow->local_port_be);

	return (port >= tcp->conf.port_first && port <= tcp->conf.port_last) ||
	       bw_tcp__listener_find(tcp, flow, false) >= 0;
}

void bw_tcp__listen_input(struct bw_tcp *tcp, struct bw_pkt *pkt, const bw_seq *beyond)
{
	uint8_t flags = pkt->tcp.flags;
	int listener = bw_tcp__listener_find(tcp, &pkt->flow, true);
	struct bw_tcp__half_open cookie;

	if (is_cookie_ack(tcp, pkt, &cookie)) {
		bw_tcp__count(tcp, BW_TCP_SEGMENTS_IN);
		establish(tcp, &cookie, BW_TCP__NONE, pkt);
		return;
	}
	if (listener < 0) {
		bw_tcp__count(tcp, BW_DROP_NO_LISTENER);
		if (!bw_tcp__is_shared(tcp, &pkt->flow.local) || is_port_ours(tcp, &pkt->flow))
			bw_tcp__answer_reset(tcp, pkt);
	} else {
		bw_tcp__count(tcp, BW_TCP_SEGMENTS_IN);
		if (pkt->is_to_multicast || (flags & BW_TCP_RST))
			bw_tcp__count(tcp, BW_TCP_DROP_UNACCEPTABLE);
		else if (flags & BW_TCP_ACK)
			bw_tcp__answer_reset(tcp, pkt); /* second: of a connection that is no more */
		else if ((flags & (BW_TCP_SYN | BW_TCP_FIN)) == BW_TCP_SYN)
			accept_syn(tcp, pkt, (unsigned)listener, beyond); /* data on it will be sent again */
		else
			bw_tcp__count(tcp, BW_TCP_DROP_UNACCEPTABLE);
	}
	rte_pktmbuf_free(pkt->m);
}

/* ---- SYN-RECEIVED -------------------------------------------------------------------------------------- */

static uint32_t offered_window(const struct bw_tcp *tcp, const struct bw_tcp__half_open *half)
{
	return bw_tcp__syn_window(tcp, half->listener);
}

/** As bw_tcp__handshake_done() takes it. `clock` is the flow's. */
static uint32_t handshake_rtt_ms(const struct bw_tcp *tcp, const struct bw_tcp__half_open *half,
	const struct bw_tcp_fields *seg, uint32_t clock)
{
	uint32_t since_ms, echo_ms, unless_told_ms;

	if (half->retry_at_ms != 0) {
		since_ms = tcp->now_ms - (half->retry_at_ms - (BW_TCP__RTO_INITIAL_MS << half->tries));
		since_ms = (uint32_t)BW_MAX((int32_t)since_ms, 0);
		unless_told_ms = half->tries == 0 ? since_ms : BW_TCP__RTT_UNKNOWN;
		if (!half->has_timestamps || !seg->has_timestamp)
			return unless_told_ms;
		/*
		 * Which of several answers is meant, only a timestamp tells (RFC 7323 4.1). One that
		 * none of them had is the peer's invention, or somebody's on the way.
		 */
		echo_ms = clock - seg->ts_echo;
		if (echo_ms <= since_ms + 1)
			return echo_ms;
		return (int32_t)echo_ms >= 0 && (int32_t)echo_ms <= age_ms(tcp, half) + 1 ? echo_ms
											  : unless_told_ms;
	}
	/* A cookie: when it was sent, and how often, only the peer may know, and up to 63 ms too early. */
	since_ms = clock - seg->ts_echo;
	return half->has_timestamps && since_ms < BW_TCP__RTO_INITIAL_MS ? since_ms : BW_TCP__RTT_UNKNOWN;
}

/**
 * The handshake is complete: from 64 bytes to a connection.
 * @index  of the flow's half-open entry, BW_TCP__NONE when there is none; `from` may be it, or a cookie
 */
static void establish(
	struct bw_tcp *tcp, const struct bw_tcp__half_open *from, uint32_t index, struct bw_pkt *pkt)
{
	struct bw_tcp__half_open half = *from;
	struct bw_tcp_conn *conn = bw_tcp__conn_open(tcp, &half.flow, half.listener);

	if (conn == NULL) {
		/* All taken since the SYN. The entry stays: the peer's data, or our retry, asks again. */
		bw_tcp__count(tcp, BW_TCP_SYN_REFUSED);
		rte_pktmbuf_free(pkt->m);
		return;
	}
	if (index == BW_TCP__NONE) {
		bw_tcp__table_insert(&tcp->table, pkt->hash, bw_tcp__handle(BW_TCP_KIND_CONN, conn->index));
	} else {
		bw_tcp__table_replace(&tcp->table, pkt->hash, bw_tcp__handle(BW_TCP_KIND_HALF_OPEN, index),
			bw_tcp__handle(BW_TCP_KIND_CONN, conn->index));
		forget(tcp, index);
	}

	conn->snd_nxt = conn->snd_end = half.iss + 1;
	if (half.has_timestamps)
		conn->ts_offset = bw_tcp__numbers(tcp, &half.flow).ts_offset;
	bw_tcp__handshake_agree(tcp, conn, &half);
	if (half.retry_at_ms == 0)
		bw_tcp__count(tcp, BW_TCP_COOKIES_ACCEPTED);
	bw_tcp__count(tcp, BW_TCP_ACCEPTED);
	bw_tcp__handshake_done(tcp, conn, &pkt->tcp, (uint32_t)pkt->tcp.window << conn->snd_wscale,
		half.tries != 0, handshake_rtt_ms(tcp, &half, &pkt->tcp, tcp->now_ms + conn->ts_offset));
	/* The rest of the segment: data, FIN. */
	bw_tcp__conn_input(tcp, conn, pkt);
}

/** To a segment that does not complete the handshake. */
static void send_ack(struct bw_tcp *tcp, const struct bw_tcp__half_open *half)
{
	struct bw_tcp_fields ack = {
		.flags = BW_TCP_ACK,
		.seq = half->iss + 1,
		.ack = half->irs + 1,
		.window = (uint16_t)offered_window(tcp, half),
		.has_timestamp = half->has_timestamps,
		.ts_value = clock_of(tcp, &half->flow),
		.ts_echo = half->ts_recent,
	};

	bw_tcp__answer(tcp, &half->flow, &ack);
}

void bw_tcp__half_open_input(struct bw_tcp *tcp, uint32_t index, struct bw_pkt *pkt)
{
	const struct bw_tcp_fields *seg = &pkt->tcp;
	struct bw_tcp__half_open *half = &tcp->half_opens[index], cookie;
	bw_seq rcv_nxt = half->irs + 1;

	if (pkt->is_to_multicast)
		goto drop;
	if ((seg->flags & (BW_TCP_SYN | BW_TCP_ACK | BW_TCP_RST)) == BW_TCP_SYN && seg->seq == half->irs) {
		/*
		 * The SYN again: our answer was lost, or crossed it; the new one has its own time to be answered.
		 * If this one does not ask for ECN, the one before may have been lost for
		 * asking (RFC 3168 6.1.1.1).
		 */
		half->has_ecn &= bw_tcp__ecn_is_asked(tcp, seg->flags);
		if (bw_tcp__stateless_is_allowed(tcp)) {
			int32_t age = age_ms(tcp, half);

			send_syn_ack(tcp, half, clock_of(tcp, &half->flow));
			if (age >= 0 && age <= (int32_t)LIFE_MS) {
				bw_tcp__fifo_remove(
					&tcp->half_open_fifo[half->tries], tcp->half_opens, index);
				await_ack(tcp, index);
			}
		}
		goto drop;
	}
	/* PAWS and the sequence number, as for a connection. */
	if ((half->has_timestamps && seg->has_timestamp && !(seg->flags & BW_TCP_RST) &&
		    (int32_t)(seg->ts_value - half->ts_recent) < 0) ||
		!bw_seq_in(seg->seq, rcv_nxt, offered_window(tcp, half) + 1) || (seg->flags & BW_TCP_SYN)) {
		bw_tcp__count(tcp, BW_TCP_DROP_UNACCEPTABLE);
		if (!(seg->flags & BW_TCP_RST) && bw_tcp__stateless_is_allowed(tcp))
			send_ack(tcp, half);
		goto drop;
	}
	if (seg->flags & BW_TCP_RST) {
		if (seg->seq == rcv_nxt) {
			drop_half_open(tcp, index); /* back to LISTEN */
		} else if (bw_tcp__stateless_is_allowed(tcp)) {
			bw_tcp__count(tcp, BW_TCP_CHALLENGE_ACKS);
			send_ack(tcp, half);
		}
		goto drop;
	}
	if (!(seg->flags & BW_TCP_ACK)) {
		bw_tcp__count(tcp, BW_TCP_DROP_UNACCEPTABLE);
		goto drop;
	}
	if (seg->ack == half->iss + 1) {
		establish(tcp, half, index, pkt);
		return;
	}
	/* Or an earlier copy of the SYN got a cookie, and its answer was the slower. */
	if (is_cookie_ack(tcp, pkt, &cookie)) {
		establish(tcp, &cookie, index, pkt);
		return;
	}
	bw_tcp__answer_reset(tcp, pkt);
drop:
	rte_pktmbuf_free(pkt->m);
}
