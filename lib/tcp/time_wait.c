/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * TIME_WAIT: 2 MSL after both FINs, in 64 bytes, to acknowledge the peer's FIN again should our ACK be lost,
 * and to keep old segments out of the next incarnation. Entries are in the order of their expiry. When all
 * are in use the oldest makes room: it has served longest.
 */
#include "internal.h"

#define MS_31        0x7fffffffu
#define TAKE_OVER_MS 1000

static uint32_t all_ms(const struct bw_tcp *tcp)
{
	return (uint32_t)(tcp->conf.time_wait_ns / BW_NS_PER_MS);
}

/** 0: expired. Of the 31 bits that expires_ms has, whatever is not 2 MSL ahead, rounded up, is behind. */
static uint32_t left_ms(const struct bw_tcp *tcp, const struct bw_tcp__time_wait *tw)
{
	uint32_t left = (tw->expires_ms - tcp->now_ms) & MS_31;

	return left <= all_ms(tcp) + 2 ? left : 0;
}

static void arm_timer(struct bw_tcp *tcp)
{
	uint32_t first = tcp->time_wait_fifo.head;
	bw_ns at;

	if (first == BW_TCP__NONE)
		return;
	at = bw_tcp__ms_to_ns(tcp, tcp->now_ms + left_ms(tcp, &tcp->time_waits[first]));
	if (at < tcp->time_wait_timer.expires_at)
		bw_timer_arm(&tcp->wheel, &tcp->time_wait_timer, at);
}

/** Start the 2 MSL, or start them again. */
static void wait_2msl(struct bw_tcp *tcp, uint32_t index)
{
	tcp->time_waits[index].expires_ms = bw_tcp__deadline(tcp, all_ms(tcp)) & MS_31;
	bw_tcp__fifo_push(&tcp->time_wait_fifo, tcp->time_waits, index);
	arm_timer(tcp);
}

static void forget(struct bw_tcp *tcp, uint32_t index)
{
	bw_tcp__table_remove(
		&tcp->table, tcp->time_waits[index].hash, bw_tcp__handle(BW_TCP_KIND_TIME_WAIT, index));
	bw_tcp__fifo_remove(&tcp->time_wait_fifo, tcp->time_waits, index);
	bw_tcp__slab_give(&tcp->time_wait_slab, tcp->time_waits, next, index);
}

void bw_tcp__time_wait_timer(struct bw_tcp *tcp)
{
	uint32_t i;

	for (unsigned n = 0; n < BW_TCP__TIMERS_MAX && (i = tcp->time_wait_fifo.head) != BW_TCP__NONE &&
			     left_ms(tcp, &tcp->time_waits[i]) == 0;
		n++)
		forget(tcp, i);
	arm_timer(tcp);
}

static void send_ack(struct bw_tcp *tcp, const struct bw_tcp__time_wait *tw, uint32_t ts_offset)
{
	struct bw_tcp_fields ack = {
		.flags = BW_TCP_ACK,
		.seq = tw->snd_nxt,
		.ack = tw->rcv_nxt,
		.window = 65535, /* of no meaning any more, but 0 would look like a stall in a trace */
		.has_timestamp = tw->has_timestamps,
		.ts_value = tcp->now_ms + ts_offset,
		.ts_echo = tw->ts_recent,
	};

	bw_tcp__answer(tcp, &tw->flow, &ack);
}

void bw_tcp__time_wait_enter(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	uint32_t hash = bw_flow_hash(&conn->flow), index;
	struct bw_tcp__time_wait *tw;

	if (tcp->time_wait_slab.count == tcp->time_wait_slab.capacity && tcp->time_wait_slab.count != 0)
		forget(tcp, tcp->time_wait_fifo.head);
	index = bw_tcp__slab_take(&tcp->time_wait_slab, tcp->time_waits, next);
	if (index == BW_TCP__NONE) { /* time_wait_max 0: the operator does without */
		struct bw_tcp__time_wait once = {
			.flow = conn->flow,
			.snd_nxt = conn->snd_nxt,
			.rcv_nxt = conn->rcv_nxt,
			.ts_recent = conn->ts_recent,
			.has_timestamps = !!(conn->flags & BW_CONN_TIMESTAMPS),
		};

		bw_tcp__table_remove(&tcp->table, hash, bw_tcp__handle(BW_TCP_KIND_CONN, conn->index));
		bw_tcp__set_state(conn, BW_STATE_CLOSED);
		if (conn->flags & BW_CONN_ACK_NOW)
			send_ack(tcp, &once, conn->ts_offset);
		return;
	}
	tw = &tcp->time_waits[index];
	*tw = (struct bw_tcp__time_wait){
		.flow = conn->flow,
		.hash = hash,
		.snd_nxt = conn->snd_nxt,
		.rcv_nxt = conn->rcv_nxt,
		.ts_recent = conn->ts_recent,
		.has_timestamps = !!(conn->flags & BW_CONN_TIMESTAMPS),
	};
	bw_tcp__table_replace(&tcp->table, hash, bw_tcp__handle(BW_TCP_KIND_CONN, conn->index),
		bw_tcp__handle(BW_TCP_KIND_TIME_WAIT, index));
	bw_tcp__set_state(conn, BW_STATE_CLOSED);
	wait_2msl(tcp, index);
	/* The ACK of the FIN that brought us here. */
	if (conn->flags & BW_CONN_ACK_NOW)
		send_ack(tcp, tw, conn->ts_offset);
}

/** May this SYN start a new incarnation? RFC 9293 3.6.1 (RFC 1122 4.2.2.13), with timestamps RFC 6191 2. */
static bool is_reuse(const struct bw_tcp__time_wait *tw, const struct bw_tcp_fields *seg)
{
	if (tw->has_timestamps && seg->has_timestamp) {
		int32_t newer = (int32_t)(seg->ts_value - tw->ts_recent);

		if (newer != 0)
			return newer > 0;
	}
	/* RFC 6191 takes a SYN that newly has timestamps, too; its number may then be any. */
	return (!tw->has_timestamps && seg->has_timestamp) || bw_seq_gt(seg->seq, tw->rcv_nxt);
}

bool bw_tcp__time_wait_take_over(struct bw_tcp *tcp, uint32_t index, bw_seq *beyond)
{
	const struct bw_tcp__time_wait *tw = &tcp->time_waits[index];

	/* A second, by which the coarsest of clocks (RFC 7323 5.4) has moved. */
	if (!tw->has_timestamps || left_ms(tcp, tw) + TAKE_OVER_MS > all_ms(tcp))
		return false;
	*beyond = tw->snd_nxt;
	forget(tcp, index);
	return true;
}

/** RFC 7323 5.3 R3: what a new incarnation's SYN has to be newer than. */
static void note_timestamp(struct bw_tcp__time_wait *tw, const struct bw_tcp_fields *seg)
{
	if (tw->has_timestamps && seg->has_timestamp)
		tw->ts_recent = seg->ts_value;
}

void bw_tcp__time_wait_input(struct bw_tcp *tcp, uint32_t index, struct bw_pkt *pkt)
{
	struct bw_tcp__time_wait *tw = &tcp->time_waits[index];
	const struct bw_tcp_fields *seg = &pkt->tcp;

	/* RFC 1337: an RST here is more likely old than true. */
	if (pkt->is_to_multicast || (seg->flags & BW_TCP_RST))
		goto drop;
	if ((seg->flags & (BW_TCP_SYN | BW_TCP_ACK | BW_TCP_FIN)) == BW_TCP_SYN && is_reuse(tw, seg) &&
		bw_tcp__may_accept(tcp, pkt)) {
		bw_seq beyond = tw->snd_nxt;

		forget(tcp, index);
		bw_tcp__listen_input(tcp, pkt, &beyond);
		return;
	}
	if (tw->has_timestamps && seg->has_timestamp && (int32_t)(seg->ts_value - tw->ts_recent) < 0) {
		bw_tcp__count(tcp, BW_TCP_PAWS_DROPS);
	} else if ((seg->flags & (BW_TCP_SYN | BW_TCP_FIN)) == BW_TCP_FIN &&
		   seg->seq + pkt->payload_len + 1 == tw->rcv_nxt) {
		/* 3.10.7.4, eighth: the peer's FIN again. Acknowledge it again, restart the 2 MSL */
		note_timestamp(tw, seg);
		bw_tcp__fifo_remove(&tcp->time_wait_fifo, tcp->time_waits, index);
		wait_2msl(tcp, index);
	} else if (pkt->payload_len == 0 && !(seg->flags & (BW_TCP_SYN | BW_TCP_FIN)) &&
		   seg->seq == tw->rcv_nxt) {
		/* An ACK of ours, in order: there is nothing to say. */
		note_timestamp(tw, seg);
		goto drop;
	} else {
		bw_tcp__count(tcp, BW_TCP_DROP_UNACCEPTABLE);
	}
	if (bw_tcp__stateless_is_allowed(tcp))
		send_ack(tcp, tw, bw_tcp__numbers(tcp, &tw->flow).ts_offset);
drop:
	rte_pktmbuf_free(pkt->m);
}
