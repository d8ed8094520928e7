/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * What happens when buffers run low.
 *
 * Connections hold buffers in what is unread, in what waits for an ACK, and in what came out of order. It is ACKs that
 * give most of them back, and an ACK needs a buffer to arrive in. So connections never take the last ones: the caller
 * keeps a reserve back, and of what lies above it a turn's connections take no more than there is (`buffers_left`). With
 * the reserve, whatever arrives is looked at, and its ACK counts, also where its payload has to be dropped.
 *
 * What is received may be of another pool than what is sent. Then either has its own bound and pressure, the scarcer says
 * for connections, and only what is held of a pool that is scarce counts.
 *
 * First, what is new is refused: connections, out-of-order data, larger windows, then payload and answers, of those that
 * hold much before those that hold little. Whose service was refused a buffer waits in a list, and has its turn when
 * there is one.
 *
 * Then, what is old is broken. While something is refused, whoever holds buffers to no use is reset, the longest first:
 * a peer that has not acknowledged, with a time-out at least, or keeps its window shut, or has sent a part and not the
 * rest, whatever other signs of life it gives. The scarcer buffers are, the less it takes. While there are none,
 * out-of-order data goes (RFC 2018 8 allows it), and where nobody of all holds any to no use, so does, at once, whoever
 * holds most, times how long it has made no progress. And if none of that helps for a while, there
 * is no hope that it will, and whoever holds anything goes, the one that has made no progress for the longest first:
 * nobody can keep the others standing by moving a little.
 *
 * A turn looks at a few connections, and resets one of them at most.
 */
#include "internal.h"

#define DEMAND_NS     (10 * BW_NS_PER_SEC) /* what is refused is asked for again, a SYN later and later */
#define COMMON_RTT_MS 100                  /* less is not held against anyone */

/** With so few buffers or fewer all the time, and something refused: until it is hopeless. A SYN's sixth try is later. */
static const bw_ns hopeless_ns[BW_TCP_PRESSURE_COUNT] = {
	[BW_TCP_PRESSURE_LOW] = 15 * BW_NS_PER_SEC,
	[BW_TCP_PRESSURE_DRY] = 10 * BW_NS_PER_SEC,
	[BW_TCP_PRESSURE_EMPTY] = 3 * BW_NS_PER_SEC,
};

/**
 * Since when a peer that has sent a part has sent no more of it, as far as is known: since it was last heard, or has
 * been looked at here without more having come.
 */
static uint32_t silent_ms(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct bw_tcp__rare *rare = bw_tcp__rare(tcp, conn);

	/* What window growth begins a round at, which it does not do now, is less: RCV.NXT without what is unread. */
	if (rare->rcv_round_seq != conn->rcv_nxt) {
		rare->rcv_round_seq = conn->rcv_nxt;
		rare->rcv_round_ms = tcp->now_ms;
	}
	return BW_MAX(bw_tcp__ms_since(tcp, rare->rcv_round_ms), bw_tcp__ms_since(tcp, conn->last_rx_ms));
}

/** Of a connection that holds buffers: how long its peer has made no progress with them. */
static uint32_t stuck_ms(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	if (bw_tcp_send_queued(conn) != 0)
		return bw_tcp__ms_since(tcp, conn->progress_ms);
	/* What is there to be answered waits for us, not for the peer, nor does it where all has come. */
	if ((conn->flags & BW_CONN_NO_MBUF) || !bw_tcp__peer_may_send(conn))
		return 0;
	return silent_ms(tcp, conn);
}

/** The same, as far as it is the peer's doing; while it is hopeless, whoever's it is. */
static uint32_t useless_ms(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	uint32_t ms;

	if (bw_tcp_send_queued(conn) == 0)
		ms = stuck_ms(tcp, conn);
	else if (!tcp->is_hopeless && (conn->backoff == 0 || conn->timer_use == BW_TCP_TIMER_OFF))
		ms = 0; /* by its own round trip it is too early to tell */
	else if (conn->timer_use == BW_TCP_TIMER_PERSIST)
		ms = bw_tcp__rto_ms(conn); /* about what the intervals before this one add up to */
	else
		ms = stuck_ms(tcp, conn);
	return BW_MIN(ms, bw_tcp__ms_since(tcp, tcp->hearing_ms));
}

void bw_tcp__note_refused(struct bw_tcp *tcp)
{
	if (tcp->refused_at == 0 || tcp->now - tcp->refused_at >= DEMAND_NS)
		tcp->asked_at = tcp->now;
	tcp->refused_at = tcp->now;
}

static bool is_asked_for(const struct bw_tcp *tcp)
{
	return tcp->refused_at != 0 && tcp->now - tcp->refused_at < DEMAND_NS && !tcp->is_link_down;
}

bool bw_tcp__reclaims(const struct bw_tcp *tcp)
{
	return tcp->pressure != BW_TCP_PRESSURE_NONE && is_asked_for(tcp);
}

/**
 * What a reset is worth of one that may yet make use of what it holds: how much that is, times for how long it has not.
 * Less than a common round trip counts as one, or a little progress every moment would make anything worth nothing.
 */
static uint64_t worth_of(struct bw_tcp *tcp, struct bw_tcp_conn *conn, uint32_t held)
{
	return held > BW_TCP__HELD_BYTES_DRY
		       ? (uint64_t)held * BW_MAX(stuck_ms(tcp, conn), (uint32_t)COMMON_RTT_MS)
		       : 0;
}

/** Of the next few connections, reset the one that can best be done without. */
static void reclaim(struct bw_tcp *tcp)
{
	static const uint32_t patience_ms[BW_TCP_PRESSURE_COUNT] = {
		[BW_TCP_PRESSURE_LOW] = 10000,
		[BW_TCP_PRESSURE_DRY] = 3000,
		[BW_TCP_PRESSURE_EMPTY] = 1000,
	};
	bool has_sent = tcp->to_send.pressure != BW_TCP_PRESSURE_NONE;
	bool has_received = tcp->to_receive->pressure != BW_TCP_PRESSURE_NONE;
	bool is_empty = tcp->pressure == BW_TCP_PRESSURE_EMPTY, is_wanted = is_asked_for(tcp);
	uint32_t patience = tcp->is_hopeless ? 0 : patience_ms[tcp->pressure];
	uint64_t most = 0;
	uint32_t longest = 0;
	struct bw_tcp_conn *largest = NULL, *idlest = NULL, *victim = NULL;

	for (unsigned i = 0; i < BW_TCP__RECLAIM_LOOKS && i < tcp->conn_slab.touched; i++) {
		struct bw_tcp_conn *conn;
		uint32_t held, idle_ms;
		uint64_t worth;

		if (++tcp->reclaim_next >= tcp->conn_slab.touched) {
			tcp->reclaim_next = 0;
			tcp->reclaim_worth = tcp->reclaim_most;
			tcp->reclaim_most = 0;
		}
		tcp->reclaim_useful++;
		conn = &tcp->conns[tcp->reclaim_next];
		/* Of what is scarce. A SYN is nothing that is held. */
		held = (has_received ? conn->unread : 0) +
		       (has_sent && conn->send_last != NULL ? bw_tcp_send_queued(conn) : 0);
		if ((held == 0 && !(conn->flags & BW_CONN_REASSEMBLY)) || !bw_tcp__is_live(tcp, conn))
			continue;
		if (tcp->to_receive->pressure == BW_TCP_PRESSURE_EMPTY)
			bw_tcp__reassembly_free(tcp, conn);
		worth = worth_of(tcp, conn, held);
		if (worth > most) {
			most = worth;
			largest = conn;
		}
		if (!is_wanted || held == 0)
			continue;
		idle_ms = useless_ms(tcp, conn);
		if (idle_ms < patience)
			continue;
		tcp->reclaim_useful = 0;
		if (idle_ms >= longest) {
			longest = idle_ms;
			idlest = conn;
		}
	}
	tcp->reclaim_most = BW_MAX(tcp->reclaim_most, most);
	/*
	 * Who makes use of what it holds, however much, outlives those who do not: they are looked for all round first.
	 * Then it is not just any of a few, either, but one that comes near the best of the last time round.
	 */
	if (idlest != NULL)
		victim = idlest;
	else if (is_empty && tcp->reclaim_useful >= tcp->conn_slab.touched &&
		 most >= BW_MAX(tcp->reclaim_worth, tcp->reclaim_most) / 2)
		victim = largest;
	if (victim == NULL)
		return;
	bw_tcp__count(tcp, BW_TCP_PRESSURE_RESETS);
	/* At once: until its buffers are back, each turn would choose another one. */
	if (!bw_tcp__abort_now(tcp, victim))
		bw_tcp_abort(victim);
}

/** With pressures that come and go it counts how long there was more than none, or than LOW. */
static bool is_beyond_hope(const struct bw_tcp *tcp)
{
	bw_ns heard_ns = bw_tcp__ms_since(tcp, tcp->hearing_ms) * BW_NS_PER_MS;
	bw_ns stood_ns = is_asked_for(tcp) ? BW_MIN(tcp->now - tcp->asked_at, heard_ns) : 0;

	for (unsigned i = BW_TCP_PRESSURE_LOW; i <= tcp->pressure; i++)
		if (BW_MIN(tcp->now - tcp->pressed_at[i], stood_ns) >= hopeless_ns[i])
			return true;
	return false;
}

/** What was found out about connections until now is out of date. */
static void look_anew(struct bw_tcp *tcp)
{
	tcp->reclaim_useful = 0;
	tcp->reclaim_worth = tcp->reclaim_most = 0;
}

static void pressure_changes(struct bw_tcp *tcp, enum bw_tcp_pressure pressure)
{
	if (tcp->pressure == BW_TCP_PRESSURE_NONE)
		look_anew(tcp);
	for (unsigned i = tcp->pressure + 1; i <= pressure; i++)
		tcp->pressed_at[i] = tcp->now;
	tcp->pressure = pressure;
}

static void set(struct bw_tcp *tcp, struct bw_tcp__buffers *to_receive)
{
	enum bw_tcp_pressure pressure = BW_MAX(tcp->to_send.pressure, to_receive->pressure);

	tcp->to_receive = to_receive;
	if (bw_unlikely(pressure != tcp->pressure))
		pressure_changes(tcp, pressure);
	if (bw_likely(pressure == BW_TCP_PRESSURE_NONE)) {
		tcp->is_hopeless = false;
		return;
	}
	if (is_beyond_hope(tcp))
		tcp->is_hopeless = true;
	else if (pressure == BW_TCP_PRESSURE_LOW)
		tcp->is_hopeless = false;
	/* While the link is down, nobody could say what makes the difference. */
	if (!tcp->is_link_down && (pressure == BW_TCP_PRESSURE_EMPTY || is_asked_for(tcp)))
		reclaim(tcp);
}

void bw_tcp_set_pressure(struct bw_tcp *tcp, enum bw_tcp_pressure pressure)
{
	tcp->to_send = (struct bw_tcp__buffers){ .pressure = pressure, .left = UINT32_MAX };
	set(tcp, &tcp->to_send);
}

static struct bw_tcp__buffers buffers_of(const struct bw_tcp *tcp, uint32_t left, uint32_t all)
{
	/* Where nothing else helped, there is to be room for some of those that were refused, not for one. */
	uint32_t enough = all / 8 + (bw_unlikely(tcp->is_hopeless) ? all / 32 : 0);

	return (struct bw_tcp__buffers){
		.pressure = left >= enough     ? BW_TCP_PRESSURE_NONE
			    : left >= all / 32 ? BW_TCP_PRESSURE_LOW
			    : left >= all / 64 ? BW_TCP_PRESSURE_DRY
					       : BW_TCP_PRESSURE_EMPTY,
		.left = left,
	};
}

void bw_tcp_set_buffers(struct bw_tcp *tcp, uint32_t to_send, uint32_t to_receive, uint32_t all)
{
	bool is_one_pool = to_receive == to_send;

	tcp->to_send = buffers_of(tcp, to_send, all);
	if (bw_unlikely(!is_one_pool))
		tcp->others = buffers_of(tcp, to_receive, all);
	set(tcp, is_one_pool ? &tcp->to_send : &tcp->others);
}

void bw_tcp_link_is_back(struct bw_tcp *tcp)
{
	bw_tcp__hear_anew(tcp);
	look_anew(tcp);
}

void bw_tcp_set_link(struct bw_tcp *tcp, bool is_up)
{
	if (bw_unlikely(is_up && tcp->is_link_down))
		bw_tcp_link_is_back(tcp);
	tcp->is_link_down = !is_up;
}
