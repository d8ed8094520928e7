/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Active open: SYN_SENT, and SYN_RECEIVED where two SYNs crossed (RFC 9293 3.5, 3.10.1, 3.10.7.3).
 *
 * What is opened here is a whole connection from the start, and its service may queue what to say first. Until it
 * is synchronized, output has one thing to send, our SYN, and BW_CONN_ACK_NOW says that it is due:
 *
 *     snd_una = ISS, snd_nxt = snd_end = ISS + 1; rcv_nxt is the peer's in SYN_RECEIVED, and 0 before
 */
#include <errno.h>

#include "internal.h"

/* ---- a port -------------------------------------------------------------------------------------------- */

/**
 * May the flow be opened? It is nobody's, or a TIME_WAIT entry's that makes way; then `beyond` is where the
 * earlier incarnation ended.
 */
static int take_flow(struct bw_tcp *tcp, const struct bw_flow *flow, bw_seq *beyond, bool *has_beyond)
{
	bw_tcp_handle handle = bw_tcp__table_find(tcp, bw_flow_hash(flow), flow);

	*has_beyond = false;
	if (handle == 0)
		return 0;
	if (bw_tcp__handle_kind(handle) != BW_TCP_KIND_TIME_WAIT ||
		!bw_tcp__time_wait_take_over(tcp, bw_tcp__handle_index(handle), beyond))
		return -EADDRINUSE;
	*has_beyond = true;
	return 0;
}

/**
 * RFC 6056 3.3.4, double-hash port selection: to one remote the ports follow each other, so that each rests as
 * long as can be, from a place that nobody else can guess; to others they do not tell how many there were.
 * Of those, one that brings the answers to this core: one of as many as there are cores.
 */
static int choose_port(struct bw_tcp *tcp, struct bw_flow *flow, bw_seq *beyond, bool *has_beyond)
{
	uint64_t hash = bw_siphash(&tcp->conf.secret, flow, sizeof(*flow)); /* its local port is 0 */
	uint32_t *next = &tcp->port_next[(hash >> 32) % BW_TCP__PORT_COUNTERS];
	const uint32_t first = tcp->conf.port_first, count = tcp->conf.port_last - first + 1u;

	for (unsigned i = 0; i < BW_TCP__PORT_TRIES; i++) {
		uint16_t port = (uint16_t)(first + ((uint32_t)hash % count + (*next)++) % count);

		flow->local_port_be = __builtin_bswap16(port);
		if (!bw_tcp_is_listening(tcp, port) &&
			(tcp->conf.is_local == NULL || tcp->conf.is_local(tcp->conf.is_local_arg, flow)) &&
			take_flow(tcp, flow, beyond, has_beyond) == 0)
			return 0;
	}
	return -EADDRNOTAVAIL;
}

/* ---- open ---------------------------------------------------------------------------------------------- */

/** RFC 9293 3.9.2.3, MUST-46; what a packet from it would be refused for. */
static bool may_be_peer(const struct bw_ip *ip)
{
	return !bw_ip_is_unspecified(ip) && !bw_ip_is_multicast(ip) && !bw_ip_is_loopback(ip);
}

struct bw_tcp_conn *bw_tcp_connect(
	struct bw_tcp *tcp, bw_ns now, unsigned listener, const struct bw_flow *wanted)
{
	struct bw_flow flow = *wanted;
	bool has_beyond;
	bw_seq iss, beyond;
	struct bw_tcp__numbers numbers;
	struct bw_tcp_conn *conn;
	int error;

	bw_tcp__set_now(tcp, now);
	if (listener >= tcp->listener_count || flow.remote_port_be == 0 || !may_be_peer(&flow.remote) ||
		bw_ip_eq(&flow.local, &flow.remote) ||
		bw_ip_is_v4(&flow.local) != bw_ip_is_v4(&flow.remote)) {
		errno = EINVAL;
		return NULL;
	}
	if (tcp->pressure != BW_TCP_PRESSURE_NONE || tcp->conn_slab.count == tcp->conn_slab.capacity) {
		if (tcp->pressure != BW_TCP_PRESSURE_NONE)
			bw_tcp__note_refused(tcp);
		errno = ENOBUFS;
		return NULL;
	}
	error = flow.local_port_be != 0 ? take_flow(tcp, &flow, &beyond, &has_beyond)
					: choose_port(tcp, &flow, &beyond, &has_beyond);
	if (error != 0) {
		errno = -error;
		return NULL;
	}
	conn = bw_tcp__conn_open(tcp, &flow, listener);
	BW_ASSERT(conn != NULL);
	bw_tcp__set_state(conn, BW_STATE_SYN_SENT);
	numbers = bw_tcp__numbers(tcp, &flow);
	iss = numbers.isn;
	conn->ts_offset = numbers.ts_offset;
	if (has_beyond && bw_seq_leq(iss, beyond))
		iss = beyond + 65536;
	conn->snd_una = iss;
	conn->snd_nxt = conn->snd_end = iss + 1;
	/* What is queued before the peer has said what it takes is cut to what is usual. */
	conn->mss = (uint16_t)BW_MIN(bw_tcp__mss_option(tcp, &flow) - 12u, tcp->payload_room);
	bw_tcp__table_insert(&tcp->table, bw_flow_hash(&flow), bw_tcp__handle(BW_TCP_KIND_CONN, conn->index));
	bw_tcp__retx_arm(tcp, conn, BW_TCP_TIMER_RTO, BW_TCP__RTO_INITIAL_MS);
	conn->flags |= BW_CONN_ACK_NOW;
	bw_tcp__mark_ready(tcp, conn);
	return conn;
}

struct bw_tcp_fields bw_tcp__syn_fields(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn)
{
	bool is_answer = conn->state == BW_STATE_SYN_RECEIVED;

	return (struct bw_tcp_fields){
		.flags = (is_answer ? BW_TCP_SYN | BW_TCP_ACK : BW_TCP_SYN) |
			 bw_tcp__ecn_syn_flags(tcp, conn, is_answer),
		.seq = conn->snd_una,
		.ack = is_answer ? conn->rcv_nxt : 0,
		.window = bw_tcp__syn_window(tcp, conn->listener),
		.has_mss = true,
		.mss = bw_tcp__mss_option(tcp, &conn->flow),
		/* An answer has the options that the peer's SYN had; without a scale on either side it is all one. */
		.has_wscale = !is_answer || (conn->snd_wscale | conn->rcv_wscale) != 0,
		.wscale = bw_tcp__wscale_for(bw_tcp__recv_bytes_max(tcp, conn)),
		.has_timestamp = !is_answer || (conn->flags & BW_CONN_TIMESTAMPS),
		.ts_value = tcp->now_ms + conn->ts_offset,
		.ts_echo = conn->ts_recent,
		.has_sack_permitted = !is_answer || (conn->flags & BW_CONN_SACK),
	};
}

/* ---- SYN_SENT, SYN_RECEIVED ---------------------------------------------------------------------------- */

/** Send, or send again, what this state has to send. */
static void syn_is_due(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	conn->flags |= BW_CONN_ACK_NOW;
	bw_tcp__mark_ready(tcp, conn);
}

/** The same as an answer to what the peer can send at will. */
static void syn_again(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	if (bw_tcp__may_challenge(tcp, conn))
		syn_is_due(tcp, conn);
}

/** As bw_tcp__handshake_done() takes it. */
static uint32_t handshake_rtt_ms(
	const struct bw_tcp *tcp, const struct bw_tcp_conn *conn, const struct bw_tcp_fields *seg)
{
	uint32_t since_ms = bw_tcp__ms_since(tcp, conn->progress_ms), echo_ms;

	if (conn->backoff == 0)
		return since_ms;
	/* Which of our SYNs is meant, only a timestamp tells (RFC 7323 4.1), if one of them had it. */
	echo_ms = tcp->now_ms + conn->ts_offset - seg->ts_echo;
	return (conn->flags & BW_CONN_TIMESTAMPS) && seg->has_timestamp && echo_ms <= since_ms + 1
		       ? echo_ms
		       : BW_TCP__RTT_UNKNOWN;
}

/** Our SYN is acknowledged, and the peer's is known. Consumes the mbuf. */
static void synchronize(struct bw_tcp *tcp, struct bw_tcp_conn *conn, struct bw_pkt *pkt, uint32_t window)
{
	bool was_repeated = conn->backoff != 0;
	uint32_t rtt_ms = handshake_rtt_ms(tcp, conn, &pkt->tcp);

	conn->flags &= ~BW_CONN_ACK_NOW;
	conn->backoff = 0;
	conn->last_rx_ms = tcp->now_ms;
	bw_tcp__retx_disarm(conn);
	bw_tcp__count(tcp, BW_TCP_CONNECTED);
	if (pkt->tcp.flags & BW_TCP_SYN)
		conn->flags |= BW_CONN_ACK_NOW;
	bw_tcp__mark_ready(tcp, conn);
	bw_tcp__handshake_done(tcp, conn, &pkt->tcp, window, was_repeated, rtt_ms);
	/* What came with it, as for a segment that follows the SYN. */
	if (pkt->tcp.flags & BW_TCP_SYN) {
		/* On a SYN, ECE and CWR are about ECN itself. */
		pkt->tcp.flags &= (uint8_t) ~(BW_TCP_SYN | BW_TCP_ECE | BW_TCP_CWR);
		pkt->tcp.seq++;
	}
	if (pkt->payload_len != 0 || (pkt->tcp.flags & BW_TCP_FIN))
		bw_tcp__conn_input(tcp, conn, pkt);
	else
		rte_pktmbuf_free(pkt->m);
}

/** RFC 9293 3.10.7.3. Returns whether the packet was consumed. */
static bool syn_sent_input(struct bw_tcp *tcp, struct bw_tcp_conn *conn, struct bw_pkt *pkt)
{
	const struct bw_tcp_fields *seg = &pkt->tcp;
	bool has_ack = seg->flags & BW_TCP_ACK;
	struct bw_tcp__half_open peer;

	/* First, ACK: of anything but our SYN, it is an earlier incarnation's. */
	if (has_ack && seg->ack != conn->snd_nxt) {
		bw_tcp__count(tcp, BW_TCP_DROP_UNACCEPTABLE);
		bw_tcp__answer_reset(tcp, pkt);
		return false;
	}
	/* Second, RST: from the peer only if it acknowledges our SYN. */
	if (seg->flags & BW_TCP_RST) {
		if (has_ack)
			bw_tcp__conn_end(tcp, conn, BW_TCP_END_REFUSED);
		return false;
	}
	/* Fourth, SYN */
	if (!(seg->flags & BW_TCP_SYN)) {
		bw_tcp__count(tcp, BW_TCP_DROP_UNACCEPTABLE);
		return false;
	}
	peer = bw_tcp__half_open_of(&conn->flow, seg, conn->listener, conn->snd_una);
	peer.has_ecn = bw_tcp__ecn_is_agreed(tcp, conn, seg->flags);
	bw_tcp__handshake_agree(tcp, conn, &peer);
	if (has_ack) {
		synchronize(tcp, conn, pkt, seg->window); /* not scaled on a SYN: RFC 7323 2.2 */
		return true;
	}
	/* The SYNs crossed. What came with the peer's comes again. */
	bw_tcp__set_state(conn, BW_STATE_SYN_RECEIVED);
	syn_is_due(tcp, conn);
	return false;
}

/** RFC 9293 3.10.7.4 in SYN-RECEIVED, with RFC 5961 and RFC 7323. Returns whether the packet was consumed. */
static bool syn_received_input(struct bw_tcp *tcp, struct bw_tcp_conn *conn, struct bw_pkt *pkt)
{
	const struct bw_tcp_fields *seg = &pkt->tcp;
	bool is_its_syn = (seg->flags & BW_TCP_SYN) && seg->seq + 1 == conn->rcv_nxt;

	if (is_its_syn && (seg->flags & BW_TCP_ACK) && seg->ack == conn->snd_nxt &&
		!(seg->flags & BW_TCP_RST)) {
		/* It has got our SYN, too (3.5, figure 8): an ACK, although its number is behind the window. */
		synchronize(tcp, conn, pkt, seg->window);
		return true;
	}
	if ((conn->flags & BW_CONN_TIMESTAMPS) && seg->has_timestamp && !(seg->flags & BW_TCP_RST) &&
		(int32_t)(seg->ts_value - conn->ts_recent) < 0)
		goto unacceptable;
	if (!bw_seq_in(seg->seq, conn->rcv_nxt, conn->rcv_adv - conn->rcv_nxt + 1))
		goto unacceptable;
	if (seg->flags & BW_TCP_RST) {
		if (seg->seq == conn->rcv_nxt)
			bw_tcp__conn_end(tcp, conn, BW_TCP_END_REFUSED);
		else
			syn_again(tcp, conn);
		return false;
	}
	if ((seg->flags & BW_TCP_SYN) || !(seg->flags & BW_TCP_ACK))
		goto unacceptable;
	if (seg->ack != conn->snd_nxt) {
		bw_tcp__answer_reset(tcp, pkt);
		return false;
	}
	synchronize(tcp, conn, pkt, (uint32_t)seg->window << conn->snd_wscale);
	return true;

unacceptable:
	/* Its SYN again, or what followed a SYN-ACK of ours that was lost: that goes out again. */
	bw_tcp__count(tcp, BW_TCP_DROP_UNACCEPTABLE);
	if (!(seg->flags & BW_TCP_RST))
		syn_again(tcp, conn);
	return false;
}

void bw_tcp__opening_input(struct bw_tcp *tcp, struct bw_tcp_conn *conn, struct bw_pkt *pkt)
{
	bool is_consumed = conn->state == BW_STATE_SYN_SENT ? syn_sent_input(tcp, conn, pkt)
							    : syn_received_input(tcp, conn, pkt);

	if (!is_consumed)
		rte_pktmbuf_free(pkt->m);
}
