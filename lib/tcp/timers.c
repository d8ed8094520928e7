/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Timers. A connection has four deadlines (retransmission, persist or linger; delayed ACK; keep-alive; its
 * service's) and one timer in the wheel, armed for the earliest of them or before it. A deadline that moves
 * away, as the retransmission timer's does with every ACK, costs a store: the timer fires once at the old
 * time, finds nothing due and is armed again. So the packet path never touches the wheel's lists.
 */
#include "internal.h"

#define LATE_MS 1000 /* more than a busy worker's timers ever are */

void bw_tcp__retx_arm(struct bw_tcp *tcp, struct bw_tcp_conn *conn, enum bw_tcp__timer use, uint32_t delay_ms)
{
	conn->timer_use = use;
	conn->retx_at_ms = bw_tcp__deadline(tcp, delay_ms);
	bw_tcp__timer_need(tcp, conn, bw_tcp__ms_to_ns(tcp, conn->retx_at_ms));
}

/** What is left of R2 (RFC 9293 3.8.3). That of a SYN is the configuration's for nobody (MUST-23). */
static uint32_t user_timeout_left_ms(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn)
{
	uint32_t own_s = bw_tcp__cold(tcp, conn)->user_timeout_s, timeout_ms, waited_ms;

	if (own_s != 0)
		timeout_ms = own_s * 1000;
	else if (bw_tcp__is_opening(conn))
		timeout_ms = BW_TCP__SYN_TIMEOUT_MS;
	else
		timeout_ms = (uint32_t)(bw_tcp__listener(tcp, conn)->user_timeout_ns / BW_NS_PER_MS);
	waited_ms = bw_tcp__ms_since(tcp, conn->progress_ms);
	return timeout_ms > waited_ms ? timeout_ms - waited_ms : 0;
}

uint32_t bw_tcp__retx_ms(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn)
{
	uint32_t left_ms = BW_MIN(bw_tcp__rto_ms(conn), user_timeout_left_ms(tcp, conn));

	return bw_tcp__is_cut_off(tcp, conn) ? BW_MIN(left_ms, (uint32_t)BW_TCP__RTO_LINK_DOWN_MS) : left_ms;
}

/**
 * The time-out after another one (RFC 6298 5.5). Where nothing has reached the network, two that were counted do for
 * what goes by the first, or by R1.
 */
static uint32_t back_off(const struct bw_tcp *tcp, struct bw_tcp_conn *conn, enum bw_tcp__timer use)
{
	/* As long as this one, and a little: who has answered the last probe has been heard since. */
	uint32_t waited_ms = bw_tcp__retx_ms(tcp, conn), since_ms = bw_tcp__ms_since(tcp, conn->last_rx_ms);
	bool is_answered = use == BW_TCP_TIMER_PERSIST && since_ms < waited_ms + waited_ms / 4;

	if (conn->backoff < (bw_tcp__is_cut_off(tcp, conn) ? 2 : 15))
		conn->backoff++;
	/* R1 of RFC 9293 3.8.3: then it may be the path's fault. */
	if (conn->backoff >= BW_TCP__R1 && !is_answered)
		conn->path = BW_TCP_PATH_SUSPECT;
	return bw_tcp__retx_ms(tcp, conn);
}

/** Is the connection in a state in which silence says nothing, so that keep-alive has to ask? */
static bool keepalive_applies(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn)
{
	return bw_tcp__listener(tcp, conn)->keepalive_idle_ns != 0 && conn->state != BW_STATE_CLOSED &&
	       conn->timer_use == BW_TCP_TIMER_OFF;
}

/**
 * With no retransmission timer running, `backoff` counts the probes that were sent, the last one at `progress_ms`:
 * however late it was, there is all the time for its answer.
 */
static uint32_t keepalive_at_ms(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn)
{
	if (conn->backoff != 0)
		return conn->progress_ms + (uint32_t)(tcp->conf.keepalive_interval_ns / BW_NS_PER_MS);
	return conn->last_rx_ms + (uint32_t)(bw_tcp__listener(tcp, conn)->keepalive_idle_ns / BW_NS_PER_MS);
}

void bw_tcp__keepalive_need(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	if (keepalive_applies(tcp, conn))
		bw_tcp__timer_need(tcp, conn, bw_tcp__ms_to_ns(tcp, keepalive_at_ms(tcp, conn)));
}

/** The reason is what ICMP said since the peer last took something, if it said anything. */
static void give_up(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	const struct bw_tcp__rare *rare = bw_tcp__rare_or_null(tcp, conn);
	bool is_unreachable = rare != NULL && bw_tcp__ms_since(tcp, rare->unreachable_ms) <=
						      bw_tcp__ms_since(tcp, conn->progress_ms);

	if (conn->state != BW_STATE_SYN_SENT)
		bw_tcp__send_reset(tcp, conn);
	bw_tcp__count(tcp, BW_TCP_TIMED_OUT);
	bw_tcp__conn_end(tcp, conn, is_unreachable ? BW_TCP_END_UNREACHABLE : BW_TCP_END_TIMED_OUT);
}

void bw_tcp_set_user_timeout(struct bw_tcp_conn *conn, bw_ns timeout_ns)
{
	struct bw_tcp *tcp = bw_tcp__of(conn);
	uint32_t left_ms;

	if (bw_tcp__is_over(conn))
		return;
	timeout_ns = BW_MIN(timeout_ns, (bw_ns)BW_TCP_USER_TIMEOUT_MAX);
	bw_tcp__cold(tcp, conn)->user_timeout_s =
		(uint32_t)((timeout_ns + BW_NS_PER_SEC - 1) / BW_NS_PER_SEC);
	/* The deadline that runs may be two minutes away. */
	if (conn->timer_use != BW_TCP_TIMER_RTO && conn->timer_use != BW_TCP_TIMER_PERSIST)
		return;
	left_ms = user_timeout_left_ms(tcp, conn);
	if ((int32_t)(conn->retx_at_ms - bw_tcp__deadline(tcp, left_ms)) > 0)
		bw_tcp__retx_arm(tcp, conn, (enum bw_tcp__timer)conn->timer_use, left_ms);
}

/** Nothing was heard of our SYN, or of our answer to one that crossed it. */
static void syn_due(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	conn->flags |= BW_CONN_ACK_NOW;
	bw_tcp__count(tcp, BW_TCP_RETRANSMITS);
	bw_tcp__retx_arm(tcp, conn, BW_TCP_TIMER_RTO, back_off(tcp, conn, BW_TCP_TIMER_RTO));
	bw_tcp__mark_ready(tcp, conn);
}

static void retx_due(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	enum bw_tcp__timer use = (enum bw_tcp__timer)conn->timer_use;
	uint32_t late_ms = bw_tcp__ms_since(tcp, conn->retx_at_ms), rto_ms;
	uint32_t waited_ms = bw_tcp__ms_since(tcp, conn->progress_ms);

	/*
	 * The clock has jumped, as over a machine that was suspended: in that time nobody listened. What came since may
	 * have been taken before the timer.
	 */
	if (bw_unlikely(late_ms > LATE_MS)) {
		conn->progress_ms += BW_MIN(late_ms, waited_ms);
		bw_tcp__hear_anew(tcp);
	}
	bw_tcp__retx_disarm(conn);
	if (use == BW_TCP_TIMER_LINGER || user_timeout_left_ms(tcp, conn) == 0) {
		give_up(tcp, conn);
		return;
	}
	if (bw_tcp__is_opening(conn)) {
		syn_due(tcp, conn);
		return;
	}
	if (use == BW_TCP_TIMER_LOSS_PROBE || use == BW_TCP_TIMER_REORDER) {
		/* Not a time-out yet: that timer goes on from here (RFC 8985 6.2 step 5, 7.3). */
		conn->flags |= use == BW_TCP_TIMER_LOSS_PROBE ? BW_CONN_LOSS_PROBE : BW_CONN_RACK;
		bw_tcp__retx_arm(tcp, conn, BW_TCP_TIMER_RTO, bw_tcp__rto_ms(conn));
		bw_tcp__mark_ready(tcp, conn);
		return;
	}
	rto_ms = back_off(tcp, conn, use);
	if (use == BW_TCP_TIMER_PERSIST) {
		conn->flags |= BW_CONN_PROBE;
		bw_tcp__count(tcp, BW_TCP_ZERO_WINDOW_PROBES);
	} else {
		bw_tcp__count(tcp, BW_TCP_RTOS);
		bw_tcp__on_rto(tcp, conn);
	}
	bw_tcp__retx_arm(tcp, conn, use, rto_ms); /* RFC 6298 5.5, 5.6 */
	bw_tcp__mark_ready(tcp, conn);
}

static void keepalive_due(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	if (conn->backoff >= tcp->conf.keepalive_probes) {
		give_up(tcp, conn);
		return;
	}
	bw_tcp__cc_on_restart(tcp, conn); /* which goes by progress_ms */
	conn->backoff++;
	conn->progress_ms = tcp->now_ms;
	conn->flags |= BW_CONN_PROBE;
	bw_tcp__count(tcp, BW_TCP_KEEPALIVES);
	bw_tcp__mark_ready(tcp, conn);
}

static void conn_due(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct bw_tcp__cold *cold = bw_tcp__cold(tcp, conn);
	const struct bw_tcp_ops *ops = bw_tcp__listener(tcp, conn)->ops;

	if (bw_tcp__is_over(conn)) /* aborted in an upcall of this very call */
		return;
	if (bw_tcp__listener(tcp, conn)->pacing && conn->unsent != NULL)
		bw_tcp__mark_ready(tcp, conn);
	if (conn->ack_at_ms != 0 && bw_tcp__is_due(tcp, conn->ack_at_ms)) {
		conn->ack_at_ms = 0;
		conn->flags |= BW_CONN_ACK_NOW;
		bw_tcp__mark_ready(tcp, conn);
	}
	if (conn->retx_at_ms != 0 && bw_tcp__is_due(tcp, conn->retx_at_ms)) {
		retx_due(tcp, conn);
		if (bw_tcp__is_over(conn))
			return;
	}
	if (keepalive_applies(tcp, conn) && bw_tcp__is_due(tcp, keepalive_at_ms(tcp, conn))) {
		keepalive_due(tcp, conn);
		if (bw_tcp__is_over(conn))
			return;
	}
	if (cold->service_at <= tcp->now) {
		cold->service_at = BW_NEVER;
		if (bw_tcp__wants_upcalls(conn) && ops->timer != NULL)
			ops->timer(conn);
		if (bw_tcp__is_over(conn))
			return;
	}
	if (conn->ack_at_ms != 0)
		bw_tcp__timer_need(tcp, conn, bw_tcp__ms_to_ns(tcp, conn->ack_at_ms));
	if (conn->retx_at_ms != 0)
		bw_tcp__timer_need(tcp, conn, bw_tcp__ms_to_ns(tcp, conn->retx_at_ms));
	bw_tcp__keepalive_need(tcp, conn);
	bw_tcp__timer_need(tcp, conn, cold->service_at);
}

static void fire(void *ctx, struct bw_timer *timer, bw_ns now)
{
	struct bw_tcp *tcp = ctx;

	switch (timer->kind) {
	case BW_TCP_WHEEL_CONN:
		conn_due(tcp, bw_container_of(timer, struct bw_tcp_conn, timer));
		break;
	case BW_TCP_WHEEL_HALF_OPEN:
		bw_tcp__half_open_timer(tcp);
		break;
	default:
		bw_tcp__time_wait_timer(tcp);
	}
}

void bw_tcp_timers(struct bw_tcp *tcp, bw_ns now)
{
	bw_tcp__set_now(tcp, now);
	bw_tcp__run_pending(tcp);
	bw_wheel_advance(&tcp->wheel, now, BW_TCP__TIMERS_MAX, fire, tcp);
	bw_tcp__run_pending(tcp);
}

bw_ns bw_tcp_next_deadline(const struct bw_tcp *tcp)
{
	if (bw_tcp_has_output(tcp) || bw_tcp__reclaims(tcp))
		return tcp->now;
	return bw_wheel_next(&tcp->wheel);
}

void bw_tcp_set_timer(struct bw_tcp_conn *conn, bw_ns expires_at)
{
	struct bw_tcp *tcp = bw_tcp__of(conn);

	if (!bw_tcp__wants_upcalls(conn))
		return;
	bw_tcp__cold(tcp, conn)->service_at = expires_at;
	bw_tcp__timer_need(tcp, conn, expires_at);
}

bw_ns bw_tcp_timer_at(const struct bw_tcp_conn *conn)
{
	return bw_tcp__cold(bw_tcp__of(conn), conn)->service_at;
}
