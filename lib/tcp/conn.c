/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * A connection's life: open, the two lists that it waits in, the downcalls that change its course, the end.
 *
 * Upcalls are made from input, timers and the pending list, never from a downcall. So a downcall in an upcall
 * only leaves flags; whoever made the upcall looks at bw_tcp__is_over() when it returns, and leaves a
 * connection that is to be aborted to the pending list.
 */
#include "internal.h"

static const char *const state_name[BW_STATE_COUNT] = {
	[BW_STATE_CLOSED] = "CLOSED",
	[BW_STATE_SYN_SENT] = "SYN_SENT",
	[BW_STATE_SYN_RECEIVED] = "SYN_RECEIVED",
	[BW_STATE_ESTABLISHED] = "ESTABLISHED",
	[BW_STATE_FIN_WAIT_1] = "FIN_WAIT_1",
	[BW_STATE_FIN_WAIT_2] = "FIN_WAIT_2",
	[BW_STATE_CLOSING] = "CLOSING",
	[BW_STATE_CLOSE_WAIT] = "CLOSE_WAIT",
	[BW_STATE_LAST_ACK] = "LAST_ACK",
};

/* ---- lists --------------------------------------------------------------------------------------------- */

void bw_tcp__mark_ready(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	if (conn->flags & BW_CONN_READY)
		return;
	conn->flags |= BW_CONN_READY;
	conn->ready_next = BW_TCP__NONE;
	if (tcp->ready_tail != BW_TCP__NONE)
		tcp->conns[tcp->ready_tail].ready_next = conn->index;
	else
		tcp->ready_head = conn->index;
	tcp->ready_tail = conn->index;
}

void bw_tcp__push_ready_front(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	BW_ASSERT(!(conn->flags & BW_CONN_READY));
	conn->flags |= BW_CONN_READY;
	conn->ready_next = tcp->ready_head;
	if (tcp->ready_head == BW_TCP__NONE)
		tcp->ready_tail = conn->index;
	tcp->ready_head = conn->index;
}

/** At the end of a list, unless it is in one. */
static void push(struct bw_tcp *tcp, struct bw_tcp_conn *conn, uint32_t *head, uint32_t *tail)
{
	if (conn->flags & BW_CONN_PENDING)
		return;
	conn->flags |= BW_CONN_PENDING;
	conn->timer.note = BW_TCP__NONE;
	if (*tail != BW_TCP__NONE)
		tcp->conns[*tail].timer.note = conn->index;
	else
		*head = conn->index;
	*tail = conn->index;
}

void bw_tcp__mark_pending(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	push(tcp, conn, &tcp->pending_head, &tcp->pending_tail);
}

/**
 * Into the list of those that wait for a buffer, which has a few looked at in each call. Who is pending, by what its
 * service has just asked for, comes back.
 */
static void mark_waiting(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	push(tcp, conn, &tcp->waiting_head, &tcp->waiting_tail);
}

/** Give the memory back once closed() was called and no list has the connection. */
static void free_if_done(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	if (!(conn->flags & BW_CONN_OVER) || (conn->flags & (BW_CONN_READY | BW_CONN_PENDING)))
		return;
	bw_tcp__slab_give(&tcp->conn_slab, tcp->conns, timer.note, conn->index);
}

struct bw_tcp_conn *bw_tcp__pop_ready(struct bw_tcp *tcp)
{
	while (tcp->ready_head != BW_TCP__NONE) {
		struct bw_tcp_conn *conn = &tcp->conns[tcp->ready_head];

		tcp->ready_head = conn->ready_next;
		if (tcp->ready_head == BW_TCP__NONE)
			tcp->ready_tail = BW_TCP__NONE;
		conn->flags &= ~BW_CONN_READY;
		if (!bw_tcp__is_over(conn))
			return conn;
		free_if_done(tcp, conn);
	}
	return NULL;
}

/** A send was refused for want of an mbuf, and no ACK may be coming to tell when to try again. */
static void retry_writable(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct rte_mbuf *m = NULL;

	if (tcp->to_send.left != 0 && bw_tcp__may_hold_more(&tcp->to_send, bw_tcp_send_queued(conn)))
		m = rte_pktmbuf_alloc(tcp->conf.pool);
	if (m == NULL) {
		mark_waiting(tcp, conn);
		return;
	}
	rte_pktmbuf_free(m);
	conn->flags &= ~BW_CONN_NO_MBUF;
	bw_tcp__upcall_writable(tcp, conn);
}

bool bw_tcp__abort_now(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	/* 3.10.5: in SYN_SENT, there is nobody yet to be told. */
	if (conn->state != BW_STATE_CLOSED && conn->state != BW_STATE_SYN_SENT) {
		if (tcp->answer_count == BW_TCP__ANSWERS_MAX)
			return false;
		bw_tcp__send_reset(tcp, conn);
	}
	bw_tcp__conn_end(tcp, conn, BW_TCP_END_ABORTED);
	return true;
}

/** One that has left its list. */
static void run_one(struct bw_tcp *tcp, struct bw_tcp_conn *conn, bool may_retry)
{
	conn->flags &= ~BW_CONN_PENDING;
	if (conn->flags & BW_CONN_OVER) {
		free_if_done(tcp, conn);
		return;
	}
	if (conn->flags & BW_CONN_ABORT) {
		if (!bw_tcp__abort_now(tcp, conn)) /* many at once: it waits until its RST finds room */
			bw_tcp__mark_pending(tcp, conn);
		return;
	}
	if (conn->flags & BW_CONN_WAKE) {
		conn->flags &= ~BW_CONN_WAKE;
		bw_tcp__upcall_data(tcp, conn);
	}
	if ((conn->flags & BW_CONN_DETACHED) && conn->unread == 0 && !bw_tcp__is_over(conn)) {
		bw_tcp__conn_end(tcp, conn, BW_TCP_END_CLOSED);
		return;
	}
	if (!(conn->flags & BW_CONN_NO_MBUF) || !bw_tcp__wants_upcalls(conn))
		return;
	if (may_retry)
		retry_writable(tcp, conn);
	else
		mark_waiting(tcp, conn);
}

void bw_tcp__run_waiting(struct bw_tcp *tcp)
{
	bool has_buffers = tcp->to_send.left != 0;
	uint32_t last = tcp->waiting_tail, index = BW_TCP__NONE;

	/* When the last buffer is taken, the next of them stays the next. While there are none, who is over may leave. */
	for (unsigned i = 0;
		i < BW_TCP__WAITING_LOOKS && index != last && !(has_buffers && tcp->to_send.left == 0); i++) {
		index = tcp->waiting_head;
		tcp->waiting_head = tcp->conns[index].timer.note;
		if (tcp->waiting_head == BW_TCP__NONE)
			tcp->waiting_tail = BW_TCP__NONE;
		run_one(tcp, &tcp->conns[index], true);
	}
}

void bw_tcp__run_pending(struct bw_tcp *tcp)
{
	uint32_t index = tcp->pending_head;

	tcp->pending_head = tcp->pending_tail = BW_TCP__NONE;
	if (bw_unlikely(tcp->waiting_head != BW_TCP__NONE))
		bw_tcp__run_waiting(tcp);
	while (index != BW_TCP__NONE) {
		struct bw_tcp_conn *conn = &tcp->conns[index];

		index = conn->timer.note;
		run_one(tcp, conn, tcp->waiting_head == BW_TCP__NONE);
	}
}

/* ---- life ---------------------------------------------------------------------------------------------- */

void bw_tcp__set_state(struct bw_tcp_conn *conn, enum bw_tcp__state state)
{
	conn->state = state;
}

struct bw_tcp__rare *bw_tcp__rare_begin(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct bw_tcp__rare *rare = &tcp->rares[conn->index];

	*rare = (struct bw_tcp__rare){
		.ssthresh = UINT32_MAX,
		.recovery = BW_TCP__NONE,
		.reassembly = BW_TCP__NONE,
		.challenge_ms = tcp->now_ms - BW_TCP__CHALLENGE_GAP_MS,
		.unreachable_ms = conn->progress_ms - 1, /* before there was anything to be reached */
		.rcv_round_seq = conn->rcv_nxt - conn->unread,
		.rcv_round_ms = tcp->now_ms,
	};
	bw_tcp__cold(tcp, conn)->has_rare = true;
	return rare;
}

struct bw_tcp_conn *bw_tcp__conn_open(struct bw_tcp *tcp, const struct bw_flow *flow, unsigned listener)
{
	uint32_t index = bw_tcp__slab_take(&tcp->conn_slab, tcp->conns, timer.note);
	struct bw_tcp_conn *conn;
	struct bw_tcp__cold *cold;

	if (index == BW_TCP__NONE)
		return NULL;
	conn = &tcp->conns[index];
	cold = &tcp->colds[index];
	memset(conn, 0, sizeof(*conn));
	*cold = (struct bw_tcp__cold){
		.generation = cold->generation + 1,
		.service_at = BW_NEVER,
	};
	conn->flow = *flow;
	conn->index = index;
	conn->listener = listener & (BW_TCP__LISTENERS_MAX - 1);
	conn->quick_acks = BW_TCP__QUICK_ACKS;
	conn->last_rx_ms = conn->progress_ms = tcp->now_ms;
	conn->rttvar_us4 = BW_TCP__RTO_INITIAL_MS; /* see bw_tcp__rto_ms() */
	bw_timer_init(&conn->timer, BW_TCP_WHEEL_CONN);
	if (tcp->conf.state_bytes != 0)
		memset(bw_tcp_state(conn), 0, tcp->conf.state_bytes);
	return conn;
}

/** Out of the table: the flow's segments are no longer this connection's. */
static void leave_table(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	if (conn->state == BW_STATE_CLOSED)
		return;
	bw_tcp__table_remove(
		&tcp->table, bw_flow_hash(&conn->flow), bw_tcp__handle(BW_TCP_KIND_CONN, conn->index));
	bw_tcp__set_state(conn, BW_STATE_CLOSED);
}

void bw_tcp__conn_end(struct bw_tcp *tcp, struct bw_tcp_conn *conn, enum bw_tcp_end end)
{
	const struct bw_tcp_ops *ops = bw_tcp__listener(tcp, conn)->ops;

	BW_ASSERT(!(conn->flags & BW_CONN_OVER));
	leave_table(tcp, conn);
	bw_timer_cancel(&tcp->wheel, &conn->timer);
	bw_tcp__sendq_free(conn);
	bw_tcp__recvq_free(conn);
	bw_tcp__reassembly_free(tcp, conn);
	bw_tcp__recovery_give(tcp, conn);
	switch (end) {
	case BW_TCP_END_CLOSED:
		bw_tcp__count(tcp, BW_TCP_CLOSED);
		break;
	case BW_TCP_END_RESET:
		bw_tcp__count(tcp, BW_TCP_RESET_IN);
		break;
	default: /* an abort is counted as the RST that it sends, a time-out where it is noticed */
		break;
	}
	conn->flags |= BW_CONN_OVER;
	if (ops->closed != NULL)
		ops->closed(conn, end);
	/* A send queue that closed() would fill stays empty: bw_tcp_send() and its like look at OVER. */
	bw_tcp__cold(tcp, conn)->generation++;
	free_if_done(tcp, conn);
}

void bw_tcp__conn_finish(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	leave_table(tcp, conn);
	bw_tcp__retx_disarm(conn);
	conn->ack_at_ms = 0;
	conn->flags &= ~(BW_CONN_ACK_NOW | BW_CONN_PROBE);
	if (conn->unread != 0 && bw_tcp__wants_upcalls(conn)) {
		conn->flags |= BW_CONN_DETACHED;
		return;
	}
	bw_tcp__conn_end(tcp, conn, BW_TCP_END_CLOSED);
}

void bw_tcp__upcall_data(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	const struct bw_tcp_ops *ops = bw_tcp__listener(tcp, conn)->ops;

	if (bw_tcp__wants_upcalls(conn) && ops->data != NULL)
		ops->data(conn);
}

void bw_tcp__upcall_writable(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	const struct bw_tcp_ops *ops = bw_tcp__listener(tcp, conn)->ops;

	if (!(conn->flags & BW_CONN_CUT_SHORT) || (conn->flags & BW_CONN_FIN_QUEUED) ||
		!bw_tcp__wants_upcalls(conn))
		return;
	if (bw_tcp__send_room(conn) < bw_tcp__send_bytes_now(tcp, conn) / 4)
		return;
	conn->flags &= ~(BW_CONN_CUT_SHORT | BW_CONN_NO_MBUF);
	if (ops->writable != NULL)
		ops->writable(conn);
}

void bw_tcp__send_reset(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	/* 3.10.5: <SEQ=SND.NXT><CTL=RST>. With an ACK, as everybody sends it. */
	struct bw_tcp_fields rst = {
		.flags = BW_TCP_RST | BW_TCP_ACK,
		.seq = conn->snd_nxt,
		.ack = conn->rcv_nxt,
		.has_timestamp = !!(conn->flags & BW_CONN_TIMESTAMPS), /* RFC 7323 3.2: SHOULD */
		.ts_value = tcp->now_ms + conn->ts_offset,
		.ts_echo = conn->ts_recent,
	};

	bw_tcp__answer_with_tos(tcp, &conn->flow, &rst,
		bw_tcp__tos_of_control(tcp, conn->listener, conn->flags & BW_CONN_ECN));
}

/* ---- downcalls ----------------------------------------------------------------------------------------- */

void bw_tcp_wake(struct bw_tcp_conn *conn)
{
	if (!bw_tcp__wants_upcalls(conn))
		return;
	conn->flags |= BW_CONN_WAKE;
	bw_tcp__mark_pending(bw_tcp__of(conn), conn);
}

void bw_tcp_shutdown(struct bw_tcp_conn *conn)
{
	if (bw_tcp__is_over(conn) || (conn->flags & (BW_CONN_FIN_QUEUED | BW_CONN_DETACHED)))
		return;
	conn->flags |= BW_CONN_FIN_QUEUED;
	conn->flags &= ~(BW_CONN_CUT_SHORT | BW_CONN_NO_MBUF);
	bw_tcp__mark_ready(bw_tcp__of(conn), conn);
}

void bw_tcp_abort(struct bw_tcp_conn *conn)
{
	struct bw_tcp *tcp = bw_tcp__of(conn);

	if (bw_tcp__is_over(conn))
		return;
	conn->flags |= BW_CONN_ABORT;
	bw_tcp__retx_disarm(conn);
	bw_tcp__mark_pending(tcp, conn);
}

void bw_tcp_close(struct bw_tcp_conn *conn)
{
	struct bw_tcp *tcp = bw_tcp__of(conn);

	if (!bw_tcp__wants_upcalls(conn))
		return;
	if (bw_tcp__is_opening(conn)) {
		bw_tcp_abort(conn);
		return;
	}
	conn->flags |= BW_CONN_RELEASED;
	conn->flags &= ~BW_CONN_WAKE;
	bw_tcp__cold(tcp, conn)->service_at = BW_NEVER;
	if (conn->unread != 0)
		bw_tcp_consume(conn, conn->unread);
	if (conn->flags & BW_CONN_DETACHED) {
		bw_tcp__mark_pending(tcp, conn);
		return;
	}
	bw_tcp_shutdown(conn);
	if (conn->state == BW_STATE_FIN_WAIT_2)
		bw_tcp__retx_arm(tcp, conn, BW_TCP_TIMER_LINGER, BW_TCP__LINGER_MS);
}

/* ---- what it is ---------------------------------------------------------------------------------------- */

bw_ns bw_tcp_now(const struct bw_tcp_conn *conn)
{
	return bw_tcp__of(conn)->now;
}

const struct bw_flow *bw_tcp_flow(const struct bw_tcp_conn *conn)
{
	return &conn->flow;
}

void *bw_tcp_listener_user(const struct bw_tcp_conn *conn)
{
	return bw_tcp__listener(bw_tcp__of(conn), conn)->user;
}

struct bw_tcp *bw_tcp_of(const struct bw_tcp_conn *conn)
{
	return bw_tcp__of(conn);
}

void *bw_tcp_state(const struct bw_tcp_conn *conn)
{
	struct bw_tcp *tcp = bw_tcp__of(conn);

	return tcp->states + (size_t)conn->index * tcp->state_stride;
}

unsigned bw_tcp_user_count(const struct bw_tcp_conn *conn)
{
	return bw_tcp__cold(bw_tcp__of(conn), conn)->user_count;
}

void bw_tcp_set_user_count(struct bw_tcp_conn *conn, unsigned count)
{
	bw_tcp__cold(bw_tcp__of(conn), conn)->user_count = count & BW_TCP__USER_COUNT_MAX;
}

uint64_t bw_tcp_id(const struct bw_tcp_conn *conn)
{
	return (uint64_t)bw_tcp__cold(bw_tcp__of(conn), conn)->generation << 32 | conn->index;
}

struct bw_tcp_conn *bw_tcp_at(struct bw_tcp *tcp, uint32_t index)
{
	BW_ASSERT_LT(index, tcp->conn_slab.touched);
	return &tcp->conns[index];
}

struct bw_tcp_conn *bw_tcp_find(struct bw_tcp *tcp, uint64_t id)
{
	uint32_t index = (uint32_t)id;

	if (index >= tcp->conn_slab.touched || tcp->colds[index].generation != id >> 32)
		return NULL;
	return bw_tcp__is_over(&tcp->conns[index]) ? NULL : &tcp->conns[index];
}

void bw_tcp_info(const struct bw_tcp_conn *conn, struct bw_tcp_info *info)
{
	const struct bw_tcp *tcp = bw_tcp__of(conn);

	*info = (struct bw_tcp_info){
		.state = state_name[conn->state],
		.cwnd = conn->cwnd,
		.ssthresh = bw_tcp__ssthresh(tcp, conn),
		.srtt_us = conn->srtt_us8 / 8,
		.rto_us = bw_tcp__rto_ms(conn) * 1000,
		.in_flight = bw_tcp__in_flight(tcp, conn),
		.snd_wnd = conn->snd_wnd,
		.rcv_wnd = conn->rcv_adv - conn->rcv_nxt,
		.mss = conn->mss,
		.congestion_control = bw_tcp__listener(tcp, conn)->congestion_control,
		.has_ecn = conn->flags & BW_CONN_ECN,
	};
}

void bw_tcp_foreach(struct bw_tcp *tcp, void (*visit)(struct bw_tcp_conn *conn, void *arg), void *arg)
{
	for (uint32_t i = 0; i < tcp->conn_slab.touched; i++) {
		if (bw_tcp__is_live(tcp, &tcp->conns[i]))
			visit(&tcp->conns[i], arg);
	}
}
