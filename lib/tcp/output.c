/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Output: what is due goes out as packets, once a turn.
 *
 * A packet is a TCP header and the payload of one chunk or several (sendq.c). Four ways to put it together:
 *
 *   in place  one copied chunk that only the queue refers to: the header goes into its headroom, the chunk
 *             itself goes out with one more reference. No buffer is taken, no byte is copied.
 *   chained   the same for the first chunk of several, with the others linked behind it.
 *   attached  where the first chunk's headroom is not ours to write (memory by reference, or the driver still
 *             holds the buffer): a buffer for the header, and the chunks behind it.
 *   copied    where the device sends no chains: all of it into one fresh buffer.
 *
 * A chunk that the driver still holds is linked by an indirect mbuf instead of by itself. So nothing is ever
 * written to a buffer that somebody else reads.
 */
#include <errno.h>

#include "internal.h"

#define HELD_MAX 64 /* connections of links that are full, looked at in a call */

/* ---- answers without a connection ---------------------------------------------------------------------- */

static void finish_header(struct rte_mbuf *m, unsigned header_len)
{
	m->ol_flags = (m->ol_flags & (RTE_MBUF_F_EXTERNAL | RTE_MBUF_F_INDIRECT)) | RTE_MBUF_F_TX_TCP_CKSUM;
	m->tx_offload = 0;
	m->l4_len = header_len;
}

static struct rte_mbuf *bare_packet(
	struct bw_tcp *tcp, const struct bw_flow *flow, const struct bw_tcp_fields *fields)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(tcp->conf.pool);
	unsigned header_len;

	if (bw_unlikely(m == NULL)) {
		bw_tcp__count(tcp, BW_DROP_NO_MBUF);
		return NULL;
	}
	header_len = bw_tcp_header_write(
		rte_pktmbuf_mtod(m, uint8_t *), flow->local_port_be, flow->remote_port_be, fields);
	m->data_len = (uint16_t)header_len;
	m->pkt_len = header_len;
	finish_header(m, header_len);
	bw_tcp__count(tcp, BW_TCP_SEGMENTS_OUT);
	return m;
}

void bw_tcp__answer_with_tos(
	struct bw_tcp *tcp, const struct bw_flow *flow, const struct bw_tcp_fields *fields, uint8_t tos)
{
	struct bw_tcp__answer *answer;
	struct rte_mbuf *m;

	/* Full: the device takes less than is asked. They will be asked again. */
	if (tcp->answer_count == BW_TCP__ANSWERS_MAX) {
		bw_tcp__count(tcp, BW_DROP_TX_BACKLOG);
		return;
	}
	m = bare_packet(tcp, flow, fields);
	if (m == NULL)
		return;
	if (fields->flags & BW_TCP_RST)
		bw_tcp__count(tcp, BW_TCP_RESET_OUT);
	answer = &tcp->answers[(tcp->answer_head + tcp->answer_count++) % BW_TCP__ANSWERS_MAX];
	answer->m = m;
	answer->flow = *flow;
	answer->tos = tos;
}

void bw_tcp__answer_reset(struct bw_tcp *tcp, const struct bw_pkt *pkt)
{
	const struct bw_tcp_fields *seg = &pkt->tcp;
	struct bw_tcp_fields rst = { .flags = BW_TCP_RST };

	if ((seg->flags & BW_TCP_RST) || pkt->is_to_multicast)
		return;
	if (seg->flags & BW_TCP_ACK) {
		rst.seq = seg->ack;
	} else {
		rst.flags |= BW_TCP_ACK;
		rst.ack = seg->seq + pkt->payload_len + !!(seg->flags & BW_TCP_SYN) +
			  !!(seg->flags & BW_TCP_FIN);
	}
	bw_tcp__answer(tcp, &pkt->flow, &rst);
}

bool bw_tcp__stateless_is_allowed(struct bw_tcp *tcp)
{
	if (tcp->now - tcp->stateless_window_at >= BW_NS_PER_SEC) {
		tcp->stateless_window_at = tcp->now;
		tcp->stateless_count = 0;
	}
	return tcp->stateless_count++ < BW_TCP__STATELESS_PER_S;
}

/* ---- a connection's packets ---------------------------------------------------------------------------- */

/** One visit to a connection. */
struct visit {
	struct bw_tcp *tcp;
	struct bw_tcp_conn *conn;
	struct bw_tcp_packet *out;
	unsigned room, count;
	bool is_out_of_mbufs;
};

/** Blocks that fit behind timestamps: RFC 2018 3. */
static unsigned sack_blocks_max(const struct bw_tcp_conn *conn)
{
	return conn->flags & BW_CONN_TIMESTAMPS ? 3 : 4;
}

/** Not the whole struct: most of it is SACK blocks that are not there. */
static void fields_fill(
	struct bw_tcp_fields *fields, struct bw_tcp *tcp, struct bw_tcp_conn *conn, bw_seq seq, uint8_t flags)
{
	memset(fields, 0, offsetof(struct bw_tcp_fields, sack));
	fields->seq = seq;
	fields->ack = conn->rcv_nxt;
	fields->flags = flags | (conn->flags & BW_CONN_ECHO_CE ? BW_TCP_ECE : 0);
	fields->window = bw_tcp__window_advertise(tcp, conn);
	if (conn->flags & BW_CONN_TIMESTAMPS) {
		fields->has_timestamp = true;
		fields->ts_value = tcp->now_ms + conn->ts_offset;
		fields->ts_echo = conn->ts_recent;
	}
	if ((conn->flags & (BW_CONN_REASSEMBLY | BW_CONN_SACK)) == (BW_CONN_REASSEMBLY | BW_CONN_SACK))
		fields->sack_count =
			(uint8_t)bw_tcp__reassembly_sack(tcp, conn, fields->sack, sack_blocks_max(conn));
}

/** Every packet carries the ACK. */
static void ack_is_sent(struct bw_tcp_conn *conn)
{
	conn->ack_sent = conn->rcv_nxt;
	conn->ack_at_ms = 0;
	conn->flags &= ~BW_CONN_ACK_NOW;
}

void bw_tcp__ack_as_is(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct bw_tcp_fields fields;

	fields_fill(&fields, tcp, conn, conn->snd_nxt, BW_TCP_ACK);
	bw_tcp__answer_with_tos(tcp, &conn->flow, &fields,
		bw_tcp__tos_of_control(tcp, conn->listener, conn->flags & BW_CONN_ECN));
	ack_is_sent(conn);
}

static uint8_t tos_of_control(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn)
{
	return bw_tcp__tos_of_control(tcp, conn->listener, conn->flags & BW_CONN_ECN);
}

static void emit(struct visit *v, struct rte_mbuf *m, uint8_t tos)
{
	struct bw_tcp_conn *conn = v->conn;

	v->out[v->count++] =
		(struct bw_tcp_packet){ .m = m, .flow = conn->flow, .path = &conn->path, .tos = tos };
	ack_is_sent(conn);
}

/** A packet without payload. */
static bool send_bare(struct visit *v, bw_seq seq, uint8_t flags)
{
	struct bw_tcp_fields fields;
	struct rte_mbuf *m;

	fields_fill(&fields, v->tcp, v->conn, seq, flags);
	m = bare_packet(v->tcp, &v->conn->flow, &fields);
	if (m == NULL) {
		v->is_out_of_mbufs = true;
		return false;
	}
	emit(v, m, tos_of_control(v->tcp, v->conn));
	return true;
}

/** What a connection has to send until it is synchronized. */
static void send_syn(struct visit *v)
{
	struct bw_tcp_fields fields = bw_tcp__syn_fields(v->tcp, v->conn);
	struct rte_mbuf *m = bare_packet(v->tcp, &v->conn->flow, &fields);

	if (m != NULL)
		emit(v, m, bw_tcp__tos_of_control(v->tcp, v->conn->listener, fields.flags & BW_TCP_ECE));
	else
		v->is_out_of_mbufs = true;
}

/** Is the chunk's buffer the queue's alone? */
static bool is_ours(const struct rte_mbuf *m)
{
	return rte_mbuf_refcnt_read(m) == 1;
}

static void set_data(struct rte_mbuf *m, const uint8_t *data, uint32_t len)
{
	m->data_off = (uint16_t)(data - (const uint8_t *)m->buf_addr);
	m->data_len = (uint16_t)len;
	m->pkt_len = len;
	m->next = NULL;
	m->nb_segs = 1;
}

/** An mbuf of the chunk's payload to link into a packet: itself, or one that refers to it. NULL: no mbuf. */
static struct rte_mbuf *slice(struct bw_tcp *tcp, struct rte_mbuf *chunk)
{
	const struct bw_tcp__tx_note *note = bw_tcp__tx_note(chunk);
	struct rte_mbuf *m = chunk;

	if (is_ours(chunk)) {
		rte_mbuf_refcnt_update(chunk, 1);
	} else {
		m = rte_pktmbuf_alloc(tcp->conf.pool);
		if (m == NULL)
			return NULL;
		rte_pktmbuf_attach(m, chunk);
	}
	m->ol_flags &= RTE_MBUF_F_EXTERNAL | RTE_MBUF_F_INDIRECT;
	set_data(m, note->data, note->len);
	return m;
}

/** A fresh buffer with the header, behind the headroom that the lower layers' headers need. */
static struct rte_mbuf *header_packet(struct bw_tcp *tcp, unsigned header_len)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(tcp->conf.pool);

	if (m != NULL) {
		m->data_len = (uint16_t)header_len;
		m->pkt_len = header_len;
	}
	return m;
}

/** The chunks from `first` on, `count` of them, copied behind a header. */
static struct rte_mbuf *copied_packet(
	struct bw_tcp *tcp, struct rte_mbuf *first, unsigned count, uint32_t bytes, unsigned header_len)
{
	struct rte_mbuf *m = header_packet(tcp, header_len), *chunk = first;

	if (m == NULL)
		return NULL;
	if (rte_pktmbuf_tailroom(m) < bytes) {
		/*
		 * The headers' headroom is larger than they are: what a full segment lacks is taken from it.
		 */
		m->data_off = (uint16_t)(RTE_PKTMBUF_HEADROOM - header_len);
	}
	BW_ASSERT_LE(bytes, rte_pktmbuf_tailroom(m));
	for (unsigned i = 0; i < count; i++) {
		const struct bw_tcp__tx_note *note = bw_tcp__tx_note(chunk);

		memcpy(rte_pktmbuf_mtod_offset(m, uint8_t *, m->data_len), note->data, note->len);
		m->data_len += (uint16_t)note->len;
		chunk = note->next;
	}
	m->pkt_len = m->data_len;
	bw_count_n(tcp->counters, BW_COPIED_BYTES, bytes);
	return m;
}

/** The same by reference: in place, chained or attached. */
static struct rte_mbuf *chained_packet(
	struct bw_tcp *tcp, struct rte_mbuf *first, unsigned count, uint32_t bytes, unsigned header_len)
{
	struct rte_mbuf *head, *tail, *chunk = first;
	unsigned i = 0;

	if (RTE_MBUF_DIRECT(first) && is_ours(first)) {
		head = slice(tcp, first);
		set_data(head, bw_tcp__tx_note(first)->data - header_len,
			bw_tcp__tx_note(first)->len + header_len);
		chunk = bw_tcp__tx_note(first)->next;
		i = 1;
	} else {
		head = header_packet(tcp, header_len);
		if (head == NULL)
			return NULL;
	}
	for (tail = head; i < count; i++) {
		struct rte_mbuf *m = slice(tcp, chunk);

		if (m == NULL) {
			rte_pktmbuf_free(head);
			return NULL;
		}
		tail->next = m;
		tail = m;
		head->nb_segs++;
		chunk = bw_tcp__tx_note(chunk)->next;
	}
	head->pkt_len = header_len + bytes;
	return head;
}

/** Why chunks go out. */
enum send {
	SEND_NEW,
	SEND_LOST,      /* again */
	SEND_PROBE,     /* again, though nothing says that it is lost */
	SEND_MTU_PROBE, /* new, and larger than the MSS */
};

/** May this chunk go out with the packet's others? */
static bool is_wanted(const struct bw_tcp__tx_note *note, enum send why)
{
	if (note->len == 0)
		return false;
	if (why == SEND_PROBE)
		return note->marks & BW_CHUNK_SENT;
	if (why == SEND_LOST)
		return (note->marks & (BW_CHUNK_LOST | BW_CHUNK_RESENT)) == BW_CHUNK_LOST;
	return !(note->marks & BW_CHUNK_SENT);
}

/**
 * Choose the chunks of a packet of up to `bytes_max` from `first` on, cutting the last one. Returns how many;
 * 0 when a cut was needed and failed, or a probe would be too short.
 */
static unsigned gather(
	struct visit *v, struct rte_mbuf *first, uint32_t bytes_max, enum send why, uint32_t *bytes)
{
	unsigned count = 0;
	int error;

	*bytes = 0;
	for (struct rte_mbuf *m = first; m != NULL && *bytes < bytes_max;
		m = bw_tcp__sendq_next(v->conn, m)) {
		struct bw_tcp__tx_note *note = bw_tcp__tx_note(m);

		if (!is_wanted(note, why) || count == BW_TCP__SLICES_MAX - 1)
			break;
		if (*bytes + note->len > bytes_max) {
			/* Cutting copied bytes copies them again: only if the packet would be empty. */
			if (count != 0 && RTE_MBUF_DIRECT(m) && why != SEND_MTU_PROBE)
				break;
			error = bw_tcp__sendq_split(v->tcp, v->conn, m, bytes_max - *bytes,
				why == SEND_LOST || why == SEND_PROBE);
			if (error != 0) {
				/* -ENOSPC: there are segments enough in flight, whose ACKs go before. */
				if (count == 0 && error == -ENOMEM)
					v->is_out_of_mbufs = true;
				break;
			}
		}
		*bytes += note->len;
		count++;
	}
	/* A shorter packet, of too many pieces, is no probe. */
	return why == SEND_MTU_PROBE && *bytes < bytes_max ? 0 : count;
}

/** Send chunks from `first` on as one packet. Returns the payload bytes, 0 when there was no mbuf. */
static uint32_t send_chunks(struct visit *v, struct rte_mbuf *first, uint32_t bytes_max, enum send why)
{
	struct bw_tcp *tcp = v->tcp;
	struct bw_tcp_conn *conn = v->conn;
	bw_seq seq = bw_tcp__tx_note(first)->seq;
	struct bw_tcp_fields fields;
	unsigned header_len, count;
	struct rte_mbuf *m, *chunk;
	uint8_t flags = BW_TCP_ACK, tos;
	uint32_t bytes, room;

	if (bw_unlikely(conn->flags & BW_CONN_CONGESTED) && why == SEND_NEW &&
		bw_tcp__recovery(tcp, conn)->cwr_due) {
		flags |= BW_TCP_CWR;
		/* Not all devices keep it to the first of the segments that they cut. */
		bytes_max = BW_MIN(bytes_max, (uint32_t)conn->mss);
	}
	count = gather(v, first, bytes_max, why, &bytes);
	if (count == 0)
		return 0;
	if (seq + bytes == conn->snd_end) {
		flags |= BW_TCP_PSH;
		if (conn->flags & BW_CONN_FIN_QUEUED)
			flags |= BW_TCP_FIN;
	}
	fields_fill(&fields, tcp, conn, seq, flags);
	/* The MSS has room for timestamps, SACK blocks take what the payload leaves: 8 bytes each, and 4. */
	if (bw_unlikely(fields.sack_count != 0)) {
		room = bytes < conn->mss ? conn->mss - bytes : 0;
		fields.sack_count =
			(uint8_t)BW_MIN((uint32_t)fields.sack_count, room > 4 ? (room - 4) / 8 : 0u);
	}
	header_len = bw_tcp_header_len(&fields);
	if (tcp->conf.can_multi_segment || (count == 1 && RTE_MBUF_DIRECT(first) && is_ours(first)))
		m = chained_packet(tcp, first, count, bytes, header_len);
	else
		m = copied_packet(tcp, first, count, bytes, header_len);
	if (m == NULL) {
		bw_tcp__count(tcp, BW_DROP_NO_MBUF);
		v->is_out_of_mbufs = true;
		return 0;
	}
	bw_tcp_header_write(
		rte_pktmbuf_mtod(m, uint8_t *), conn->flow.local_port_be, conn->flow.remote_port_be, &fields);
	finish_header(m, header_len);
	if (bytes > conn->mss && why != SEND_MTU_PROBE) {
		m->ol_flags |= RTE_MBUF_F_TX_TCP_SEG;
		m->tso_segsz = (uint16_t)conn->mss;
	}
	bw_tcp__count(tcp, BW_TCP_SEGMENTS_OUT);
	tos = tos_of_control(tcp, conn);
	if (why == SEND_NEW && (conn->flags & BW_CONN_ECN))
		tos |= BW_ECN_ECT0;
	emit(v, m, tos);
	if (bw_unlikely(flags & BW_TCP_CWR))
		bw_tcp__recovery(tcp, conn)->cwr_due = false;
	if (bw_unlikely(conn->flags & BW_CONN_RECOVERY))
		bw_tcp__recovery_sent(tcp, conn, bytes);
	chunk = first;
	for (unsigned i = 0; i < count; i++) {
		struct bw_tcp__tx_note *note = bw_tcp__tx_note(chunk);

		note->sent_at = tcp->now;
		note->marks |= BW_CHUNK_SENT;
		if (why == SEND_LOST)
			bw_tcp__mark_resent(tcp, conn, note);
		else if (why == SEND_PROBE)
			note->marks |= BW_CHUNK_RETRANSMIT;
		chunk = note->next;
	}
	return bytes;
}

static void fin_is_sent(struct visit *v)
{
	struct bw_tcp_conn *conn = v->conn;

	if (conn->flags & BW_CONN_FIN_LOST) {
		conn->flags &= ~BW_CONN_FIN_LOST;
		bw_tcp__recovery(v->tcp, conn)->lost_bytes--;
	}
	if (conn->flags & BW_CONN_FIN_SENT)
		return;
	conn->flags |= BW_CONN_FIN_SENT;
	conn->snd_nxt = conn->snd_end + 1;
	/* 3.10.4: CLOSE enters these states when the FIN is sent */
	bw_tcp__set_state(conn, conn->state == BW_STATE_CLOSE_WAIT ? BW_STATE_LAST_ACK : BW_STATE_FIN_WAIT_1);
}

/** Send the first of what is lost. False: nothing more to send again now. */
static bool send_again(struct visit *v)
{
	struct bw_tcp *tcp = v->tcp;
	struct bw_tcp_conn *conn = v->conn;
	struct rte_mbuf *first = bw_tcp__sendq_first(conn), *m = first;
	uint32_t in_flight, bytes;
	bw_seq seq;

	while (m != NULL && m != conn->unsent && !is_wanted(bw_tcp__tx_note(m), SEND_LOST))
		m = bw_tcp__sendq_next(conn, m);
	if (m == conn->unsent)
		m = NULL;
	/*
	 * The hole at SND.UNA goes out whatever cwnd says (RFC 6675 5 (4.3), RFC 6582 3.2); more has to wait.
	 */
	in_flight = bw_tcp__in_flight(tcp, conn);
	if (m != first && in_flight != 0 && in_flight + conn->mss > conn->cwnd)
		return false;
	if (m == NULL) { /* only the FIN is lost */
		if (!send_bare(v, conn->snd_end, BW_TCP_FIN | BW_TCP_ACK))
			return false;
		bw_tcp__count(tcp, BW_TCP_RETRANSMITS);
		fin_is_sent(v);
		return true;
	}
	seq = bw_tcp__tx_note(m)->seq;
	bytes = send_chunks(v, m, conn->mss, SEND_LOST);
	if (bytes == 0)
		return false;
	bw_tcp__count(tcp, BW_TCP_RETRANSMITS);
	/* The first in flight has its time to be acknowledged, as every transmission of it. Linux does so, too. */
	if (m == first && conn->timer_use == BW_TCP_TIMER_RTO)
		bw_tcp__retx_arm(tcp, conn, BW_TCP_TIMER_RTO, bw_tcp__retx_ms(tcp, conn));
	if ((conn->flags & BW_CONN_FIN_QUEUED) && seq + bytes == conn->snd_end)
		fin_is_sent(v); /* it was on this segment, maybe for the first time */
	return true;
}

/** Payload bytes that the next packet of new data may have; 0: none, wait. */
static uint32_t new_bytes(const struct visit *v)
{
	const struct bw_tcp *tcp = v->tcp;
	const struct bw_tcp_conn *conn = v->conn;
	uint32_t unsent = conn->snd_end - conn->snd_nxt;
	uint32_t in_flight = bw_tcp__in_flight(tcp, conn);
	bw_seq edge = conn->snd_una + conn->snd_wnd;
	uint32_t usable = bw_seq_gt(edge, conn->snd_nxt) ? edge - conn->snd_nxt : 0;
	uint32_t segment = conn->mss, bytes, cwnd_left;

	bytes = BW_MIN(unsent, usable);
	if (bytes == 0)
		return 0;
	if (bytes < segment) {
		/*
		 * Silly window avoidance (RFC 9293 3.8.6.2.1): less than a segment goes out if it is all
		 * there is, Nagle permitting, or half of the largest window that the peer ever had, or when
		 * the persist timer says that the peer will not offer more ((4), the override time-out).
		 */
		bool is_all = bytes == unsent;
		bool nagle_waits = bw_tcp__listener(tcp, conn)->nagle && conn->snd_nxt != conn->snd_una &&
				   !(conn->flags & BW_CONN_FIN_QUEUED);

		if (!(is_all && !nagle_waits) && !(conn->flags & BW_CONN_PROBE) &&
			bytes < BW_MAX(((uint32_t)conn->snd_wnd_max << conn->snd_wscale) / 2, 1u))
			return 0;
	}
	/* Whole segments within cwnd. With nothing in flight one goes in any case. */
	cwnd_left = conn->cwnd > in_flight ? conn->cwnd - in_flight : 0;
	if (in_flight != 0 && BW_MIN(bytes, segment) > cwnd_left)
		return 0;
	if (tcp->conf.tso_bytes_max > segment && bytes > segment) {
		/* As much as the device cuts, and IP's 64 KiB hold, in whole segments. */
		uint32_t allowed = BW_MAX(cwnd_left, segment),
			 tso = BW_MIN(tcp->conf.tso_bytes_max, 65535u - 128);

		tso = BW_MIN(tso, allowed);

		return bytes < tso && bytes == unsent ? bytes : BW_MIN(bytes, tso) / segment * segment;
	}
	return BW_MIN(bytes, segment);
}

/* A connection's pace_at counts in these, modulo 2^32: 69 s, of which a segment's time is less than a quarter. */
#define PACE_UNIT_NS    16
#define PACE_TICK       (BW_WHEEL_TICK_NS / PACE_UNIT_NS)
#define PACE_RTT_US_MAX (16u * 1000 * 1000)

/**
 * Pacing: of `bytes` that may go out, what is due. The rate is that of Linux: cwnd in half a round trip in slow start,
 * so that it can double, and a fifth faster than a round trip later, so that it can grow. As timers have a grain, as
 * much as falls into one may go out together. What was put off at the rate of a worse time is put off no longer than
 * a segment is now; with nothing in flight, what was sent last has had its time.
 */
static uint32_t paced(struct visit *v, uint32_t bytes)
{
	struct bw_tcp *tcp = v->tcp;
	struct bw_tcp_conn *conn = v->conn;
	uint32_t *at = &tcp->pace_at[conn->index], now = (uint32_t)(tcp->now / PACE_UNIT_NS);
	bool is_slow_start = conn->cwnd < bw_tcp__ssthresh(tcp, conn);
	/* of cwnd in tenths, to be sent in one round trip */
	uint64_t tenths = is_slow_start ? 20 : 12, ahead, grain_bytes;
	uint64_t rtt = BW_MIN(conn->srtt_us8 / 8, PACE_RTT_US_MAX) * BW_NS_PER_US / PACE_UNIT_NS;

	if (rtt == 0) /* nothing is known */
		return bytes;
	ahead = conn->snd_nxt == conn->snd_una ? 0 : (uint32_t)BW_MAX((int32_t)(*at - now), 0);
	ahead = BW_MIN(ahead, 2 * PACE_TICK + 10 * conn->mss * rtt / (tenths * conn->cwnd));
	*at = now + (uint32_t)ahead;
	if (ahead > PACE_TICK) {
		bw_tcp__timer_need(tcp, conn, tcp->now + (ahead - PACE_TICK) * PACE_UNIT_NS);
		return 0;
	}
	grain_bytes = tenths * conn->cwnd * PACE_TICK / (10 * rtt);
	if (bytes > conn->mss) /* the device cuts it */
		bytes = BW_MIN(bytes, (uint32_t)BW_MAX(grain_bytes / conn->mss, 1ull) * conn->mss);
	*at += (uint32_t)(10 * bytes * rtt / (tenths * conn->cwnd));
	return bytes;
}

/** Send up to `bytes` of what was never sent, as one packet. */
static bool send_unsent(struct visit *v, uint32_t bytes, enum send why)
{
	struct bw_tcp_conn *conn = v->conn;

	bytes = send_chunks(v, conn->unsent, bytes, why);
	if (bytes == 0)
		return false;
	conn->snd_nxt += bytes;
	while (conn->unsent != NULL && (bw_tcp__tx_note(conn->unsent)->marks & BW_CHUNK_SENT))
		conn->unsent = bw_tcp__sendq_next(conn, conn->unsent);
	if ((conn->flags & BW_CONN_FIN_QUEUED) && conn->snd_nxt == conn->snd_end)
		fin_is_sent(v);
	return true;
}

/** Send one packet of new data or the FIN. False: nothing more to send now. */
static bool send_new(struct visit *v)
{
	struct bw_tcp_conn *conn = v->conn;
	bool is_idle = conn->snd_nxt == conn->snd_una;
	uint32_t bytes;

	if (conn->flags & BW_CONN_FIN_SENT)
		return false;
	if (conn->snd_nxt == conn->snd_end) {
		/* A FIN takes no room at the receiver, so it does not wait for a window. */
		if (!(conn->flags & BW_CONN_FIN_QUEUED) ||
			!send_bare(v, conn->snd_end, BW_TCP_FIN | BW_TCP_ACK))
			return false;
		fin_is_sent(v);
		return true;
	}
	if (is_idle)
		bw_tcp__cc_on_restart(v->tcp, conn);
	if (bw_unlikely(conn->flags & BW_CONN_MTU_SEARCH)) {
		bw_seq seq = conn->snd_nxt, edge = conn->snd_una + conn->snd_wnd;

		bytes = bw_tcp__mtu_probe_bytes(v->tcp, conn, bw_seq_gt(edge, seq) ? edge - seq : 0);
		if (bytes != 0 && send_unsent(v, bytes, SEND_MTU_PROBE)) {
			bw_tcp__mtu_probe_sent(v->tcp, conn, seq, bytes);
			return true;
		}
	}
	bytes = new_bytes(v);
	if (bytes != 0 && bw_tcp__listener(v->tcp, conn)->pacing)
		bytes = paced(v, bytes);
	return bytes != 0 && send_unsent(v, bytes, SEND_NEW);
}

static void arm_retx(struct visit *v, bool has_sent_new)
{
	struct bw_tcp *tcp = v->tcp;
	struct bw_tcp_conn *conn = v->conn;
	enum bw_tcp__timer use;

	if (conn->snd_nxt != conn->snd_una)
		use = BW_TCP_TIMER_RTO; /* RFC 6298 5.1 */
	else if (bw_seq_lt(conn->snd_nxt, conn->snd_end) && !v->is_out_of_mbufs)
		use = BW_TCP_TIMER_PERSIST; /* RFC 9293 3.8.6.1: a window update may be lost */
	else
		return;
	if (use == BW_TCP_TIMER_RTO && bw_tcp__awaits_ack(conn)) {
		/* In recovery, each probe needs a sign of life before it. */
		if (has_sent_new && conn->timer_use != BW_TCP_TIMER_REORDER &&
			!(conn->flags & BW_CONN_RECOVERING))
			bw_tcp__probe_restart(tcp, conn);
		return;
	}
	if (conn->timer_use == use)
		return;
	/* R2 counts from when the data went out, not from when a shut window began to hold it back. */
	if (conn->timer_use == BW_TCP_TIMER_OFF || !(conn->flags & BW_CONN_RELEASED))
		conn->progress_ms = tcp->now_ms;
	conn->backoff = 0;
	if (use == BW_TCP_TIMER_RTO)
		bw_tcp__retx_restart(tcp, conn);
	else
		bw_tcp__retx_arm(tcp, conn, use, bw_tcp__rto_ms(conn));
}

/**
 * A tail loss probe (RFC 8985 7.3): the next new segment if there is one, whatever cwnd says, else the last one
 * again. Its ACK, or SACK, shows what else is missing, long before the time-out.
 */
static void send_loss_probe(struct visit *v)
{
	struct bw_tcp *tcp = v->tcp;
	struct bw_tcp_conn *conn = v->conn;
	struct rte_mbuf *last = NULL;
	bool is_repeat = false, is_sent = false;
	uint32_t usable = conn->snd_una + conn->snd_wnd - conn->snd_nxt, len;

	if (conn->snd_una == conn->snd_nxt)
		return;
	if (conn->flags & BW_CONN_RECOVERING) {
		bw_tcp__probe_hole(tcp, conn);
		return;
	}
	if (conn->flags & (BW_CONN_SCOREBOARD | BW_CONN_LOSS_PROBED))
		return;
	if (bw_seq_lt(conn->snd_nxt, conn->snd_end) && (int32_t)usable > 0) {
		len = BW_MIN(conn->snd_end - conn->snd_nxt, usable);
		len = BW_MIN(len, (uint32_t)conn->mss);
		is_sent = send_unsent(v, len, SEND_NEW);
	} else if (conn->flags & BW_CONN_FIN_SENT) {
		is_repeat = is_sent = send_bare(v, conn->snd_end, BW_TCP_FIN | BW_TCP_ACK);
	} else {
		for (struct rte_mbuf *m = bw_tcp__sendq_first(conn); m != NULL && m != conn->unsent;
			m = bw_tcp__sendq_next(conn, m))
			last = m;
		if (last == NULL)
			return;
		len = bw_tcp__tx_note(last)->len;
		if (len > conn->mss) { /* of what the device cuts, the last segment */
			if (bw_tcp__sendq_split(tcp, conn, last, (len - 1) / conn->mss * conn->mss, false) !=
				0)
				return;
			last = bw_tcp__sendq_next(conn, last);
		}
		is_repeat = is_sent = send_chunks(v, last, conn->mss, SEND_PROBE) != 0;
		/* A FIN that had to wait was on it: who acknowledges that acknowledges nothing unsent. */
		if (is_sent && (conn->flags & BW_CONN_FIN_QUEUED) && conn->snd_nxt == conn->snd_end)
			fin_is_sent(v);
	}
	if (!is_sent)
		return;
	bw_tcp__count(tcp, BW_TCP_LOSS_PROBES);
	if (is_repeat)
		bw_tcp__count(tcp, BW_TCP_RETRANSMITS);
	bw_tcp__recovery_take(tcp, conn)->probe_end = conn->snd_nxt;
	bw_tcp__recovery(tcp, conn)->probe_is_repeat = is_repeat;
	conn->flags |= BW_CONN_LOSS_PROBED;
}

static void visit(struct visit *v)
{
	struct bw_tcp *tcp = v->tcp;
	struct bw_tcp_conn *conn = v->conn;
	bw_seq snd_nxt = conn->snd_nxt;

	if (bw_unlikely(bw_tcp__is_opening(conn))) {
		if (conn->flags & BW_CONN_ACK_NOW)
			send_syn(v);
		return;
	}
	if (bw_unlikely(conn->flags & BW_CONN_RACK))
		bw_tcp__recovery_turn(tcp, conn);
	/*
	 * Full segments leave no room for SACK blocks, and one with payload is no duplicate ACK: what arrived
	 * out of order is reported by itself.
	 */
	if ((conn->flags & (BW_CONN_REASSEMBLY | BW_CONN_ACK_NOW)) ==
		(BW_CONN_REASSEMBLY | BW_CONN_ACK_NOW)) {
		unsigned owed = bw_tcp__reassembly_owed_acks(tcp, conn);

		do
			send_bare(v, conn->snd_nxt, BW_TCP_ACK);
		while (--owed != 0 && v->count < v->room);
	}
	if (bw_unlikely(conn->flags & BW_CONN_LOSS_PROBE) && v->count < v->room) {
		conn->flags &= ~BW_CONN_LOSS_PROBE;
		send_loss_probe(v);
	}
	while (v->count < v->room && bw_tcp__has_lost(tcp, conn) && send_again(v))
		;
	while (v->count < v->room && !v->is_out_of_mbufs && !bw_tcp__has_lost(tcp, conn) && send_new(v))
		;
	if (v->count == 0 && (conn->flags & BW_CONN_PROBE)) {
		/*
		 * A segment that is never acceptable, so that the peer answers with its window (RFC 9293
		 * 3.8.4). It has no byte of new data: none has to be taken back when the window stays shut.
		 * The peer does not take its ACK in either, so one that is due goes first.
		 */
		bool is_ack_due = (conn->flags & BW_CONN_ACK_NOW) || conn->ack_at_ms != 0;

		if ((!is_ack_due || send_bare(v, conn->snd_nxt, BW_TCP_ACK)) && v->count < v->room &&
			send_bare(v, conn->snd_una - 1, BW_TCP_ACK))
			conn->flags &= ~BW_CONN_PROBE;
	} else {
		conn->flags &= ~BW_CONN_PROBE;
	}
	if (v->count == 0 && (conn->flags & BW_CONN_ACK_NOW))
		send_bare(v, conn->snd_nxt, BW_TCP_ACK);
	if (v->count != 0) {
		uint32_t in_flight = bw_tcp__in_flight(tcp, conn);

		conn->cwnd_use = in_flight + conn->mss > conn->cwnd ? BW_CWND_FULL
				 : 2ull * in_flight > conn->cwnd    ? BW_CWND_HALF
								    : BW_CWND_IDLE;
	}
	arm_retx(v, conn->snd_nxt != snd_nxt);
}

static unsigned take_answers(struct bw_tcp *tcp, struct bw_tcp_packet *out, unsigned max)
{
	unsigned count = 0;

	for (; count < max && tcp->answer_count != 0; tcp->answer_count--) {
		struct bw_tcp__answer *answer = &tcp->answers[tcp->answer_head];

		out[count++] =
			(struct bw_tcp_packet){ .m = answer->m, .flow = answer->flow, .tos = answer->tos };
		tcp->answer_head = (tcp->answer_head + 1) % BW_TCP__ANSWERS_MAX;
	}
	return count;
}

unsigned bw_tcp_output(struct bw_tcp *tcp, bw_ns now, struct bw_tcp_packet *out, unsigned max)
{
	unsigned count, held = 0;

	bw_tcp__set_now(tcp, now);
	bw_tcp__run_pending(tcp);
	/* Half for each: on a link that is full, a flood's answers do not keep connections waiting. */
	count = take_answers(tcp, out, (max + 1) / 2);
	while (count < max && held < HELD_MAX) {
		struct bw_tcp_conn *conn = bw_tcp__pop_ready(tcp);
		struct visit v = { .tcp = tcp, .conn = conn, .out = &out[count] };

		if (conn == NULL)
			break;
		if (conn->state == BW_STATE_CLOSED)
			continue;
		if (bw_unlikely(tcp->conf.link_of != NULL) && bw_tcp__link(tcp, conn)->is_full) {
			bw_tcp__mark_ready(tcp, conn);
			held++;
			continue;
		}
		v.room = BW_MIN(max - count, (unsigned)BW_TCP__VISIT_SEGMENTS);
		visit(&v);
		count += v.count;
		if (v.is_out_of_mbufs) {
			/*
			 * The pool is empty: the others would find the same. All is still due in the next
			 * turn.
			 */
			bw_tcp__push_ready_front(tcp, conn);
			break;
		}
		if (v.count == v.room)
			bw_tcp__mark_ready(tcp, conn); /* the others first */
	}
	return count + take_answers(tcp, out + count, max - count);
}

bool bw_tcp_has_output(const struct bw_tcp *tcp)
{
	return tcp->answer_count != 0 || tcp->ready_head != BW_TCP__NONE ||
	       tcp->pending_head != BW_TCP__NONE || tcp->waiting_head != BW_TCP__NONE;
}
