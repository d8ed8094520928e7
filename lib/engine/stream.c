/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Streams: where the service interface (service/service.h) meets TCP. A stream is a TCP connection, its
 * listener's user pointer is the context, its state is the connection's own, and TCP's user count is how many
 * of its views are held. Thin on purpose: with link-time optimisation most of this disappears.
 */
#include <errno.h>

#include "worker.h"

#define VIEWS_MAX 64 /* handed over at once; more follow in another call */
#define HOLDS_MAX 64

_Static_assert(sizeof(struct bw_view) == sizeof(struct bw_tcp_view) &&
		       offsetof(struct bw_view, data) == offsetof(struct bw_tcp_view, data) &&
		       offsetof(struct bw_view, len) == offsetof(struct bw_tcp_view, len) &&
		       offsetof(struct bw_view, owner) == offsetof(struct bw_tcp_view, m),
	"TCP fills the service's views in place");

static inline struct bw_tcp_conn *conn_of(const struct bw_stream *s)
{
	return (struct bw_tcp_conn *)s;
}

static inline struct bw_stream *stream_of(struct bw_tcp_conn *conn)
{
	return (struct bw_stream *)conn;
}

static inline struct bw_context *context_of(const struct bw_tcp_conn *conn)
{
	return bw_tcp_listener_user(conn);
}

/* ---- TCP calls the service ------------------------------------------------------------------------------ */

static void drain_one(struct bw_tcp_conn *conn, void *unused)
{
	const struct bw_service *service = context_of(conn)->service;

	(void)unused;
	if (service->drain != NULL)
		service->drain(stream_of(conn));
	else
		bw_tcp_close(conn); /* what is queued still goes out */
}

static void on_opened(struct bw_tcp_conn *conn)
{
	const struct bw_context *ctx = context_of(conn);

	if (ctx->service->opened != NULL)
		ctx->service->opened(stream_of(conn));
	if (bw_unlikely(ctx->worker->has_cut_off))
		bw_tcp_abort(conn);
	else if (bw_unlikely(ctx->worker->is_draining)) /* its handshake began before */
		drain_one(conn, NULL);
}

static void on_data(struct bw_tcp_conn *conn)
{
	const struct bw_service *service = context_of(conn)->service;
	struct bw_view views[VIEWS_MAX];
	unsigned count;
	uint32_t given, taken;

	do {
		count = bw_tcp_views(conn, (struct bw_tcp_view *)views, VIEWS_MAX);
		if (count == 0)
			return;
		given = 0;
		for (unsigned i = 0; i < count; i++)
			given += views[i].len;
		taken = service->data(stream_of(conn), views, count);
		/* It may have consumed by itself, or have aborted the connection. */
		taken = BW_MIN(taken, bw_tcp_unread(conn));
		bw_tcp_consume(conn, taken);
	} while (count == VIEWS_MAX && taken == given);
}

static void on_writable(struct bw_tcp_conn *conn)
{
	const struct bw_service *service = context_of(conn)->service;

	if (service->writable != NULL)
		service->writable(stream_of(conn));
}

static void on_peer_closed(struct bw_tcp_conn *conn)
{
	const struct bw_service *service = context_of(conn)->service;

	if (service->peer_closed != NULL)
		service->peer_closed(stream_of(conn));
	else
		bw_tcp_close(conn);
}

static void on_closed(struct bw_tcp_conn *conn, enum bw_tcp_end end)
{
	static const enum bw_close_reason reason[BW_TCP_END_COUNT] = {
		[BW_TCP_END_CLOSED] = BW_CLOSE_NORMAL,
		[BW_TCP_END_RESET] = BW_CLOSE_RESET,
		[BW_TCP_END_ABORTED] = BW_CLOSE_ABORTED,
		[BW_TCP_END_TIMED_OUT] = BW_CLOSE_TIMED_OUT,
		[BW_TCP_END_REFUSED] = BW_CLOSE_REFUSED,
		[BW_TCP_END_UNREACHABLE] = BW_CLOSE_UNREACHABLE,
	};
	const struct bw_service *service = context_of(conn)->service;

	if (service->closed != NULL)
		service->closed(stream_of(conn), reason[end]);
}

static void on_timer(struct bw_tcp_conn *conn)
{
	const struct bw_service *service = context_of(conn)->service;

	if (service->timer != NULL)
		service->timer(stream_of(conn));
}

const struct bw_tcp_ops bw_stream_ops = {
	.opened = on_opened,
	.data = on_data,
	.writable = on_writable,
	.peer_closed = on_peer_closed,
	.closed = on_closed,
	.timer = on_timer,
};

/* The same where cycles are counted by stage: while the service has the word, they are its own. */
#define COUNTED(upcall)                                                                                      \
	static void upcall##_counted(struct bw_tcp_conn *conn)                                               \
	{                                                                                                    \
		struct bw_cycles *cycles = &context_of(conn)->worker->cycles;                                \
		enum bw_stage stage = bw_stage_enter(cycles, BW_STAGE_SERVICE);                              \
                                                                                                             \
		upcall(conn);                                                                                \
		bw_stage_enter(cycles, stage);                                                               \
	}

COUNTED(on_opened)
COUNTED(on_data)
COUNTED(on_writable)
COUNTED(on_peer_closed)
COUNTED(on_timer)

static void on_closed_counted(struct bw_tcp_conn *conn, enum bw_tcp_end end)
{
	struct bw_cycles *cycles = &context_of(conn)->worker->cycles;
	enum bw_stage stage = bw_stage_enter(cycles, BW_STAGE_SERVICE);

	on_closed(conn, end);
	bw_stage_enter(cycles, stage);
}

const struct bw_tcp_ops bw_stream_counted_ops = {
	.opened = on_opened_counted,
	.data = on_data_counted,
	.writable = on_writable_counted,
	.peer_closed = on_peer_closed_counted,
	.closed = on_closed_counted,
	.timer = on_timer_counted,
};

void bw_stream_prefetch(void *context, const struct bw_tcp_view *views, unsigned count)
{
	struct bw_context *ctx = context;
	enum bw_stage stage = bw_stage_enter(&ctx->worker->cycles, BW_STAGE_SERVICE);

	ctx->service->prefetch(ctx, (const struct bw_view *)views, count);
	bw_stage_enter(&ctx->worker->cycles, stage);
}

void bw_stream_drain_all(struct bw_worker *w)
{
	bw_tcp_foreach(w->tcp, drain_one, NULL);
}

/* ---- the service calls TCP ------------------------------------------------------------------------------ */

struct bw_stream *bw_stream_connect(struct bw_context *ctx, const struct bw_ip *remote, uint16_t port)
{
	return bw_stream_connect_from(ctx, bw_context_source(ctx, remote), remote, port);
}

struct bw_stream *bw_stream_connect_from(
	struct bw_context *ctx, const struct bw_ip *local, const struct bw_ip *remote, uint16_t port)
{
	struct bw_worker *w = ctx->worker;
	struct bw_flow flow = { .remote = *remote, .remote_port_be = __builtin_bswap16(port) };
	const struct bw_network *network;

	if (w->has_cut_off) {
		errno = ESHUTDOWN;
		return NULL;
	}
	network = local != NULL ? bw_worker_iface(w, local)->network : NULL;
	if (network == NULL || bw_route(network, remote) == NULL || bw_route_is_broadcast(network, remote)) {
		errno = ENETUNREACH;
		return NULL;
	}
	/* Nobody carries from one link of ours to another. */
	if (!bw_route_is_ours(network, local) ||
		bw_route_is_ours(bw_worker_iface(w, remote)->network, remote)) {
		errno = EINVAL;
		return NULL;
	}
	flow.local = *local;
	return stream_of(bw_tcp_connect(w->tcp, w->now, ctx->listener, &flow));
}

void *bw_stream_state(const struct bw_stream *s)
{
	return bw_tcp_state(conn_of(s));
}

struct bw_context *bw_stream_context(const struct bw_stream *s)
{
	return context_of(conn_of(s));
}

const struct bw_flow *bw_stream_flow(const struct bw_stream *s)
{
	return bw_tcp_flow(conn_of(s));
}

bw_ns bw_stream_now(const struct bw_stream *s)
{
	return bw_context_now(context_of(conn_of(s)));
}

uint32_t bw_stream_unread(const struct bw_stream *s)
{
	return bw_tcp_unread(conn_of(s));
}

const uint8_t *bw_stream_pullup(struct bw_stream *s, uint32_t len)
{
	return bw_tcp_pullup(conn_of(s), len);
}

void bw_stream_consume(struct bw_stream *s, uint32_t len)
{
	bw_tcp_consume(conn_of(s), len);
}

void bw_stream_wake(struct bw_stream *s)
{
	bw_tcp_wake(conn_of(s));
}

/** What a held buffer remembers of its stream: in the mbuf's private area, which is the engine's there. */
struct bw_hold {
	struct bw_context *ctx;
	uint64_t stream_id;
};

struct bw_hold *bw_stream_hold(struct bw_stream *s, const struct bw_view *view)
{
	unsigned held = bw_tcp_user_count(conn_of(s));
	struct bw_hold *hold;

	_Static_assert(sizeof(*hold) <= 16, "what tcp/tcp.h leaves to the engine");
	if (held >= HOLDS_MAX)
		return NULL;
	bw_tcp_set_user_count(conn_of(s), held + 1);
	rte_mbuf_refcnt_update(view->owner, 1);
	hold = rte_mbuf_to_priv(view->owner);
	hold->ctx = context_of(conn_of(s));
	hold->stream_id = bw_stream_id(s);
	return hold;
}

void bw_hold_release(struct bw_hold *hold)
{
	struct rte_mbuf *m = (struct rte_mbuf *)((char *)hold - sizeof(*m));
	struct bw_stream *s = bw_stream_find(hold->ctx, hold->stream_id);

	if (s != NULL)
		bw_tcp_set_user_count(conn_of(s), bw_tcp_user_count(conn_of(s)) - 1);
	rte_pktmbuf_free_seg(m);
}

uint32_t bw_stream_space(const struct bw_stream *s)
{
	return bw_tcp_send_space(conn_of(s));
}

uint32_t bw_stream_send(struct bw_stream *s, const void *data, uint32_t len)
{
	return bw_tcp_send(conn_of(s), data, len);
}

void *bw_stream_reserve(struct bw_stream *s, uint32_t len)
{
	return bw_tcp_send_reserve(conn_of(s), len);
}

void bw_stream_commit(struct bw_stream *s, uint32_t len)
{
	bw_tcp_send_commit(conn_of(s), len);
}

int bw_stream_send_ref(
	struct bw_stream *s, const void *data, uint32_t len, void (*release)(void *arg), void *arg)
{
	return bw_tcp_send_ref(conn_of(s), data, len, release, arg);
}

void bw_stream_shutdown(struct bw_stream *s)
{
	bw_tcp_shutdown(conn_of(s));
}

void bw_stream_close(struct bw_stream *s)
{
	bw_tcp_close(conn_of(s));
}

void bw_stream_abort(struct bw_stream *s)
{
	bw_tcp_abort(conn_of(s));
}

void bw_stream_set_user_timeout(struct bw_stream *s, bw_ns timeout_ns)
{
	bw_tcp_set_user_timeout(conn_of(s), timeout_ns);
}

void bw_stream_set_timer(struct bw_stream *s, bw_ns expires_at)
{
	bw_tcp_set_timer(conn_of(s), expires_at);
}

bw_ns bw_stream_timer_at(const struct bw_stream *s)
{
	return bw_tcp_timer_at((const struct bw_tcp_conn *)s);
}

bool bw_stream_is_draining(const struct bw_stream *s)
{
	return bw_context_is_draining(context_of(conn_of(s)));
}

uint64_t bw_stream_id(const struct bw_stream *s)
{
	return bw_tcp_id(conn_of(s));
}

uint32_t bw_stream_slot(const struct bw_stream *s)
{
	return (uint32_t)bw_tcp_id(conn_of(s));
}

struct bw_stream *bw_stream_at(struct bw_context *ctx, uint32_t slot)
{
	return stream_of(bw_tcp_at(ctx->worker->tcp, slot));
}

struct bw_stream *bw_stream_find(struct bw_context *ctx, uint64_t id)
{
	struct bw_tcp *tcp = ctx->worker->tcp;

	return tcp != NULL ? stream_of(bw_tcp_find(tcp, id)) : NULL; /* NULL: the worker is ending */
}

/* ---- contexts ------------------------------------------------------------------------------------------- */

void *bw_context_state(struct bw_context *ctx)
{
	return ctx->state;
}

unsigned bw_context_worker(const struct bw_context *ctx)
{
	return ctx->worker->index;
}

unsigned bw_context_worker_count(const struct bw_context *ctx)
{
	return ctx->worker->worker_count;
}

uint32_t bw_context_streams_max(const struct bw_context *ctx)
{
	return ctx->worker->engine->conf.tcp.connections_max;
}

bw_ns bw_context_now(const struct bw_context *ctx)
{
	return ctx->worker->now;
}

bool bw_context_is_draining(const struct bw_context *ctx)
{
	return ctx->worker->is_draining;
}

void bw_context_tick_at(struct bw_context *ctx, bw_ns at)
{
	ctx->worker->tick_due_at = BW_MIN(ctx->worker->tick_due_at, at);
}

const struct bw_ip *bw_context_source(const struct bw_context *ctx, const struct bw_ip *remote)
{
	return bw_route_source(bw_route_iface_to(ctx->worker, remote)->network, remote);
}

bool bw_context_receives(const struct bw_context *ctx, const struct bw_flow *flow)
{
	const struct bw_tcp_conf *tcp = &ctx->worker->engine->conf.tcp;
	const uint16_t port = __builtin_bswap16(flow->local_port_be);

	/* Of an address that is shared, the other ports are the kernel's. */
	if (bw_worker_iface(ctx->worker, &flow->local)->network->is_kernels &&
		(port < tcp->port_first || port > tcp->port_last))
		return false;
	return ctx->worker->worker_count == 1 || bw_ingress_is_local(ctx->worker, flow);
}

const void *bw_context_peer_state(const struct bw_context *ctx, unsigned worker)
{
	return ctx->worker->engine->workers[worker].contexts[ctx->index].state;
}
