/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * A look into a worker between two turns: for every connection, exactly the timers that should be armed are, and
 * whatever is bounded is within its bound. What is still to be done in the next turn (a connection in the ready list)
 * is excused until then.
 */
#include <string.h>

#include "internal.h"
#include "sim.h"

static const char *const timer_name[] = { "off", "RTO", "persist", "linger", "loss probe", "reorder" };

#define CHECK(what, ...)                                                                                     \
	do {                                                                                                 \
		if (!(what))                                                                                 \
			sim_fail(__VA_ARGS__);                                                               \
	} while (0)

static void check_timers(const struct sim_host *h, const struct bw_tcp *tcp, const struct bw_tcp_conn *conn)
{
	const struct bw_tcp__cold *cold = bw_tcp__cold(tcp, conn);
	bool is_in_flight = conn->snd_una != conn->snd_nxt;
	bool has_unsent = bw_seq_lt(conn->snd_nxt, conn->snd_end) ||
			  ((conn->flags & BW_CONN_FIN_QUEUED) && !(conn->flags & BW_CONN_FIN_SENT));
	bw_ns next = cold->service_at;

	CHECK(is_in_flight == bw_tcp__awaits_ack(conn),
		"host %u, connection %u: %u bytes in flight, timer %s", h->index, conn->index,
		conn->snd_nxt - conn->snd_una, timer_name[conn->timer_use]);
	CHECK(!is_in_flight || conn->timer_use != BW_TCP_TIMER_PERSIST, "persist timer with bytes in flight");
	CHECK(is_in_flight || !has_unsent || conn->timer_use == BW_TCP_TIMER_PERSIST,
		"host %u, connection %u: %u bytes wait, nothing is in flight, timer %s", h->index,
		conn->index, conn->snd_end - conn->snd_nxt, timer_name[conn->timer_use]);
	CHECK(conn->timer_use != BW_TCP_TIMER_PERSIST || has_unsent,
		"host %u, connection %u: persist timer, and nothing to send", h->index, conn->index);
	CHECK(conn->timer_use != BW_TCP_TIMER_LINGER ||
			(conn->state == BW_STATE_FIN_WAIT_2 && (conn->flags & BW_CONN_RELEASED)),
		"host %u, connection %u: linger timer in state %u", h->index, conn->index, conn->state);
	CHECK(conn->state != BW_STATE_FIN_WAIT_2 || !(conn->flags & BW_CONN_RELEASED) ||
			conn->timer_use == BW_TCP_TIMER_LINGER,
		"host %u, connection %u: closed by its service in FIN_WAIT_2, timer %s", h->index,
		conn->index, timer_name[conn->timer_use]);
	CHECK((conn->timer_use == BW_TCP_TIMER_OFF) == (conn->retx_at_ms == 0),
		"host %u, connection %u: timer %s at %u", h->index, conn->index, timer_name[conn->timer_use],
		conn->retx_at_ms);
	CHECK(conn->ack_at_ms == 0 || conn->rcv_nxt != conn->ack_sent,
		"host %u, connection %u: a delayed ACK of nothing", h->index, conn->index);
	CHECK(conn->rcv_nxt == conn->ack_sent || conn->ack_at_ms != 0,
		"host %u, connection %u: %u bytes not acknowledged, and no ACK is due", h->index, conn->index,
		conn->rcv_nxt - conn->ack_sent);
	if (conn->retx_at_ms != 0)
		next = BW_MIN(next, bw_tcp__ms_to_ns(tcp, conn->retx_at_ms));
	if (conn->ack_at_ms != 0)
		next = BW_MIN(next, bw_tcp__ms_to_ns(tcp, conn->ack_at_ms));
	CHECK(conn->timer.expires_at <= next, "host %u, connection %u: the wheel fires at %lu, due is %lu",
		h->index, conn->index, conn->timer.expires_at, next);
	CHECK(bw_wheel_next(&tcp->wheel) <= conn->timer.expires_at + BW_WHEEL_TICK_NS,
		"host %u, connection %u: the wheel's next is later than the connection's", h->index,
		conn->index);
	if (bw_tcp__listener(tcp, conn)->keepalive_idle_ns != 0)
		CHECK(conn->timer.expires_at != BW_NEVER, "host %u, connection %u: silence goes unnoticed",
			h->index, conn->index);
}

static void check_bounds(const struct sim_host *h, const struct bw_tcp *tcp, const struct bw_tcp_conn *conn)
{
	const struct bw_tcp__rare *rare = bw_tcp__rare_or_null(tcp, conn);
	uint32_t recv_max = bw_tcp__recv_bytes_max(tcp, conn), send_max = bw_tcp__send_bytes_max(tcp, conn);

	CHECK(conn->unread <= recv_max, "host %u, connection %u: %u bytes unread", h->index, conn->index,
		conn->unread);
	CHECK(bw_tcp_send_queued(conn) <= send_max, "host %u, connection %u: %u bytes to send", h->index,
		conn->index, bw_tcp_send_queued(conn));
	CHECK(bw_seq_leq(conn->snd_una, conn->snd_nxt), "snd_una is right of snd_nxt");
	if (rare != NULL && rare->reassembly != BW_TCP__NONE) {
		const struct bw_tcp__reassembly *r = &tcp->reassemblies[rare->reassembly];
		uint32_t max =
			tcp->conf.reassembly_bytes_max != 0 ? tcp->conf.reassembly_bytes_max : recv_max;

		CHECK(r->bytes <= max && r->blocks <= BW_TCP__BLOCKS_MAX,
			"host %u, connection %u: %u bytes in %u blocks out of order", h->index, conn->index,
			r->bytes, r->blocks);
	}
	if (rare != NULL && rare->recovery != BW_TCP__NONE) {
		const struct bw_tcp__recovery *r = &tcp->recoveries[rare->recovery];
		uint32_t flight = conn->snd_nxt - conn->snd_una;

		CHECK(r->sacked_bytes <= flight && r->lost_bytes <= flight && r->resent_bytes <= flight,
			"host %u, connection %u: of %u bytes in flight %u sacked, %u lost, %u resent",
			h->index, conn->index, flight, r->sacked_bytes, r->lost_bytes, r->resent_bytes);
	}
}

static void check_neighbours(const struct sim_host *h, const struct bw_worker *w)
{
	const struct bw_neigh_cache *cache = &w->neigh;
	unsigned queued = 0;

	for (unsigned i = 1; i <= cache->capacity; i++) {
		const struct bw_neigh *n = &cache->entry[i];

		queued += n->state == BW_NEIGH_INCOMPLETE ? n->queued_count : 0;
		CHECK((n->state != BW_NEIGH_INCOMPLETE && n->state != BW_NEIGH_PROBE) ||
				bw_timer_is_armed(&n->timer),
			"host %u: a neighbour is asked, and nobody waits for the answer", h->index);
		CHECK(n->queued_count <= BW_NEIGH_QUEUE_MAX, "host %u: %u packets wait for a neighbour",
			h->index, n->queued_count);
	}
	CHECK(queued == cache->queued_total && queued <= cache->queued_max,
		"host %u: %u packets wait for neighbours, %u are counted", h->index, queued,
		cache->queued_total);
}

void sim_inside_check(struct sim_host *h, struct bw_worker *w)
{
	const struct bw_tcp *tcp = w->tcp;
	unsigned live = 0;

	for (uint32_t i = 0; i < tcp->conn_slab.touched; i++) {
		const struct bw_tcp_conn *conn = &tcp->conns[i];

		if (!bw_tcp__is_live(tcp, conn))
			continue;
		live++;
		check_bounds(h, tcp, conn);
		if (conn->state == BW_STATE_CLOSED || (conn->flags & (BW_CONN_READY | BW_CONN_PENDING)))
			continue;
		check_timers(h, tcp, conn);
	}
	CHECK(live <= tcp->conn_slab.count, "host %u: %u live connections of %u", h->index, live,
		tcp->conn_slab.count);
	CHECK(tcp->half_open_slab.count == 0 || bw_timer_is_armed(&tcp->half_open_timer),
		"host %u: half-open entries without a timer", h->index);
	CHECK(tcp->time_wait_slab.count == 0 || bw_timer_is_armed(&tcp->time_wait_timer),
		"host %u: TIME_WAIT entries without a timer", h->index);
	check_neighbours(h, w);
}
