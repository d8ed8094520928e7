/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Explicit Congestion Notification (RFC 3168). A router marks a packet (CE) instead of dropping it, the receiver
 * echoes that (ECE) until it hears that the sender has slowed down (CWR), and the sender slows down once a window.
 *
 *     us, sender                        peer, receiver
 *     data ECT(0)  -- router: CE -->    echoes from now on
 *     cut, once    <------ ACK ECE --
 *     new data CWR --------------->     echoes no more
 *
 * Only new data is ECN-capable: what is a repeat, a probe or no data at all says nothing dependable if it is marked,
 * and must not vanish less often than others (6.1.4 to 6.1.6). A peer of DCTCP echoes each segment's mark by itself
 * (RFC 8257 3.2), and all its packets are ECN-capable, as switches there drop what is not before they mark what is
 * (3.6).
 *
 * Every reduction, a loss's too, begins a window that ends when the first new data behind it, which carries CWR, is
 * acknowledged. BW_CONN_CONGESTED is set until then; the rest is in struct bw_tcp__recovery. Until the end of the
 * window ECE is old news.
 */
#include "internal.h"

/* ---- active open ---------------------------------------------------------------------------------------- */

/** 6.1.1.1: something on the way may drop SYNs that ask. So only the first one does. */
static bool asks(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn)
{
	return tcp->conf.ecn && conn->backoff == 0;
}

uint8_t bw_tcp__ecn_syn_flags(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn, bool is_answer)
{
	if (is_answer)
		return conn->flags & BW_CONN_ECN ? BW_TCP_ECE : 0;
	return asks(tcp, conn) ? BW_TCP_ECE | BW_TCP_CWR : 0;
}

bool bw_tcp__ecn_is_agreed(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn, uint8_t flags)
{
	if (!asks(tcp, conn))
		return false;
	if (!(flags & BW_TCP_ACK))
		return bw_tcp__ecn_is_asked(tcp, flags);
	/* 6.1.1: with both flags it only echoes the SYN's. */
	return (flags & (BW_TCP_ECE | BW_TCP_CWR)) == BW_TCP_ECE;
}

/* ---- receiver ------------------------------------------------------------------------------------------ */

static void ack_now(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	conn->flags |= BW_CONN_ACK_NOW;
	bw_tcp__mark_ready(tcp, conn);
}

void bw_tcp__ecn_payload(struct bw_tcp *tcp, struct bw_tcp_conn *conn, bool is_ce, bool is_cwr)
{
	bool was_echoing = conn->flags & BW_CONN_ECHO_CE;

	if (is_ce)
		bw_tcp__count(tcp, BW_TCP_CE_RECEIVED);
	if (bw_tcp__cc_ops_of(tcp, conn)->on_marks == NULL) {
		if (is_cwr)
			conn->flags &= ~BW_CONN_ECHO_CE;
		if (is_ce)
			conn->flags |= BW_CONN_ECHO_CE;
		/* The peer's window may be so small by now that it waits for this ACK. */
		if (is_cwr || (is_ce && !was_echoing))
			ack_now(tcp, conn);
	} else if (is_ce != was_echoing) {
		/* RFC 8257 3.2: what is not acknowledged yet is acknowledged as it came, without or with ECE. */
		if (conn->rcv_nxt != conn->ack_sent)
			bw_tcp__ack_as_is(tcp, conn);
		conn->flags ^= BW_CONN_ECHO_CE;
		ack_now(tcp, conn);
	}
}

/* ---- sender -------------------------------------------------------------------------------------------- */

uint8_t bw_tcp__tos_of_control(const struct bw_tcp *tcp, unsigned listener, bool has_ecn)
{
	const struct bw_tcp_listener *l = &tcp->listeners[listener];
	uint8_t ecn = has_ecn && l->congestion_control == BW_TCP_CC_DCTCP ? BW_ECN_ECT0 : 0;

	return (uint8_t)(l->dscp << 2 | ecn);
}

void bw_tcp__ecn_reduced(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct bw_tcp__recovery *r;

	if (!(conn->flags & BW_CONN_ECN))
		return;
	/* 6.1.2: CWR follows every reduction, whatever its reason. */
	r = bw_tcp__recovery_take(tcp, conn);
	r->cwr_due = true;
	r->cwr_end = conn->snd_nxt;
	conn->flags |= BW_CONN_CONGESTED;
}

void bw_tcp__ecn_echoed(struct bw_tcp *tcp, struct bw_tcp_conn *conn, bw_seq ack)
{
	struct bw_tcp__recovery *r;

	if (conn->snd_una == conn->snd_nxt) /* nothing is in flight that could be less */
		return;
	r = bw_tcp__recovery_take(tcp, conn);
	r->can_undo = false; /* whatever the losses were, the marks are real */
	if ((conn->flags & BW_CONN_CONGESTED) && bw_seq_leq(ack, r->cwr_end))
		return;
	bw_tcp__cc_on_ece(tcp, conn);
}

void bw_tcp__ecn_acked(struct bw_tcp *tcp, struct bw_tcp_conn *conn, uint32_t acked_bytes, bool is_ece)
{
	const struct bw_tcp__cc_ops *ops = bw_tcp__cc_ops_of(tcp, conn);
	struct bw_tcp__recovery *r = bw_tcp__recovery(tcp, conn);
	bool goes_on = ops->on_marks != NULL && ops->on_marks(&r->cc, conn, acked_bytes, is_ece);

	if (r->cwr_due || bw_seq_leq(conn->snd_una, r->cwr_end))
		return;
	if (goes_on)
		r->cwr_end = conn->snd_una - 1; /* over, and not to be overtaken by 2^31 bytes more */
	else
		conn->flags &= ~BW_CONN_CONGESTED;
}

bool bw_tcp__ecn_is_answered(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn)
{
	return (conn->flags & BW_CONN_CONGESTED) &&
	       bw_seq_lt(conn->snd_una, bw_tcp__recovery(tcp, conn)->cwr_end) &&
	       bw_tcp__cc_ops_of(tcp, conn)->on_marks == NULL;
}
