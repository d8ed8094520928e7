/* SPDX-License-Identifier: BSD-3-Clause */
/** What a worker owns is made and released on its own thread, so that memory is touched first where it is used. */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include <base/clock.h>
#include <base/log.h>

#include "worker.h"

#define SCRATCH_BYTES     65536
#define NEIGH_QUEUE_SHARE 16 /* of the worker's buffers, what may wait for neighbours: one in so many */

static void stage_of_tcp(void *worker, enum bw_tcp_stage stage)
{
	struct bw_worker *w = worker;

	bw_stage_enter(&w->cycles, stage == BW_TCP_STAGE_LOOKUP ? BW_STAGE_LOOKUP : BW_STAGE_TCP);
}

static const struct bw_tcp_link *link_of(const void *worker, const struct bw_ip *local)
{
	return &bw_worker_iface(worker, local)->link;
}

static int tcp_setup(struct bw_worker *w)
{
	struct bw_engine *engine = w->engine;
	struct bw_tcp_conf conf = engine->conf.tcp;
	bool shares_addresses = false;

	conf.pool = w->pool;
	conf.counters = &w->counters;
	conf.mtu = w->ifaces[0].link.mtu;
	conf.shares_addresses = w->ifaces[0].link.shares_addresses;
	/* What every device can do. */
	conf.tso_bytes_max = UINT32_MAX;
	conf.can_multi_segment = true;
	for (unsigned i = 0; i < w->iface_count; i++) {
		conf.tso_bytes_max = BW_MIN(conf.tso_bytes_max, w->ifaces[i].nic->tso_bytes_max);
		conf.can_multi_segment &= w->ifaces[i].nic->has_multi_segment;
		shares_addresses |= w->ifaces[i].link.shares_addresses;
	}
	if (w->iface_count > 1) {
		conf.link_of = link_of;
		conf.link_of_arg = w;
	}
	if (shares_addresses && !bw_share_connects(engine))
		conf.port_first = conf.port_last =
			0; /* nothing is opened, so none of these is ours to refuse */
	conf.state_bytes = 0;
	if (getrandom(&conf.secret, sizeof(conf.secret), 0) != sizeof(conf.secret))
		return -EIO;
	for (unsigned i = 0; i < engine->conf.service_count; i++)
		conf.state_bytes = BW_MAX(conf.state_bytes, engine->conf.services[i].service->stream_bytes);
	if (w->worker_count > 1) {
		conf.is_local = bw_ingress_is_local;
		conf.is_local_arg = w;
	}
	if (engine->conf.counts_cycles) {
		conf.on_stage = stage_of_tcp;
		conf.on_stage_arg = w;
	}
	w->tcp = bw_tcp_create(&conf, w->now);
	return w->tcp != NULL ? 0 : -errno;
}

/** What one worker cannot have, the others cannot either: the first to find out says so. */
static bool is_first_failure(struct bw_worker *w, int error)
{
	int none = 0;

	return __atomic_compare_exchange_n(
		&w->engine->start_error, &none, error, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

static int service_setup(struct bw_worker *w, struct bw_context *ctx)
{
	const struct bw_service *service = ctx->service;
	const struct bw_engine_service *conf = &w->engine->conf.services[ctx->index];
	int error;

	ctx->state =
		aligned_alloc(BW_CACHE_LINE, (service->context_bytes + BW_CACHE_LINE) & ~(BW_CACHE_LINE - 1));
	if (ctx->state == NULL) {
		if (is_first_failure(w, -ENOMEM))
			bw_error(
				"worker %u: no memory for %s on port %u", w->index, service->name, ctx->port);
		return -ENOMEM;
	}
	memset(ctx->state, 0, service->context_bytes);
	error = service->start != NULL ? service->start(ctx, ctx->conf) : 0;
	if (error != 0)
		return error; /* it has said why */
	ctx->is_started = true;
	w->has_ticks |= service->tick != NULL;
	if (service->data == NULL)
		return 0;
	/* With port 0 for a service that only connects. */
	error = bw_tcp_listen(w->tcp,
		&(struct bw_tcp_listener){
			.ops = w->engine->conf.counts_cycles ? &bw_stream_counted_ops : &bw_stream_ops,
			.user = ctx,
			.prefetch = service->prefetch != NULL ? bw_stream_prefetch : NULL,
			.port = ctx->port,
			.addrs = conf->addrs,
			.addr_count = conf->addr_count,
			.nagle = service->nagle || conf->nagle,
			.pacing = conf->pacing,
			.dscp = conf->dscp,
			.congestion_control = conf->congestion_control,
			.keepalive_idle_ns = w->engine->conf.keepalive_idle_ns,
			.user_timeout_ns = conf->user_timeout_ns,
		});
	if (error < 0 && is_first_failure(w, error))
		bw_error("worker %u: %s cannot listen on port %u: %s", w->index, service->name, ctx->port,
			strerror(-error));
	if (error < 0)
		return error;
	ctx->listener = (unsigned)error;
	return 0;
}

int bw_worker_setup(struct bw_worker *w)
{
	struct bw_engine *engine = w->engine;
	int error;

	w->now = bw_clock_now();
	w->active_at = w->icmp_refilled_at = w->tick_due_at = w->now;
	w->icmp_tokens = engine->conf.icmp_errors_per_s;
	w->ttl = engine->conf.ttl;
	if (engine->conf.counts_cycles)
		bw_cycles_start(&w->cycles);
	/* Not to be guessed from outside (RFC 7739), and no two workers count from the same. */
	if (getrandom(&w->ip_id, sizeof(w->ip_id), 0) != sizeof(w->ip_id) ||
		getrandom(&w->ip6_fragment_id, sizeof(w->ip6_fragment_id), 0) != sizeof(w->ip6_fragment_id))
		return -EIO;
	bw_wheel_init(&w->wheel, w->now);
	for (unsigned i = 0; i < w->iface_count; i++)
		bw_timer_init(&w->ifaces[i].announce_timer, BW_TIMER_ANNOUNCE);
	w->datagram_scratch = malloc(SCRATCH_BYTES);
	error = w->datagram_scratch != NULL ? bw_neigh_init(&w->neigh, engine->conf.neighbours_max,
						      w->ifaces[0].nic->mbufs_per_worker / NEIGH_QUEUE_SHARE)
					    : -ENOMEM;
	if (error == 0)
		error = bw_fragments_init(w);
	if (error == 0)
		error = tcp_setup(w);
	if (error != 0) {
		if (is_first_failure(w, error))
			bw_error(
				"worker %u cannot start: %s; lower the connection, neighbour or fragment limits",
				w->index, strerror(-error));
		return error;
	}
	for (unsigned i = 0; i < engine->conf.service_count; i++) {
		error = service_setup(w, &w->contexts[i]);
		if (error != 0)
			return error;
	}
	if (engine->conf.flood != NULL) {
		error = bw_flood_start(w);
		if (error != 0)
			return error;
	}
	for (unsigned i = 0; i < w->iface_count && w->index == 0; i++)
		bw_neigh_announce(&w->ifaces[i]);
	return 0;
}

static void free_ring(struct rte_ring *ring, bool holds_packets)
{
	void *object;

	while (ring != NULL && holds_packets && rte_ring_sc_dequeue(ring, &object) == 0)
		rte_pktmbuf_free(object);
	rte_ring_free(ring);
}

void bw_worker_teardown(struct bw_worker *w)
{
	if (w->tcp != NULL)
		bw_tcp_destroy(w->tcp);
	w->tcp = NULL;
	for (unsigned i = 0; i < w->engine->conf.service_count; i++) {
		struct bw_context *ctx = &w->contexts[i];

		if (ctx->is_started && ctx->service->stop != NULL)
			ctx->service->stop(ctx);
		free(ctx->state);
		ctx->state = NULL;
	}
	bw_flood_stop(w);
	if (w->fragments != NULL || w->death_row != NULL)
		bw_fragments_fini(w);
	bw_neigh_fini(&w->neigh);
	for (unsigned i = 0; i < w->iface_count; i++) {
		rte_pktmbuf_free_bulk(w->ifaces[i].tx, w->ifaces[i].tx_count);
		w->ifaces[i].tx_count = 0;
	}
	free(w->datagram_scratch);
	w->datagram_scratch = NULL;
}

/** After every worker has ended: a ring is written by the others until then. */
void bw_worker_free_rings(struct bw_worker *w)
{
	free_ring(w->packets_in, true);
	free_ring(w->control_in, true);
	for (unsigned i = 0; i < w->iface_count; i++)
		free_ring(w->ifaces[i].tx_in, true);
	free_ring(w->mail_in, false);
	free_ring(w->jobs_done, false);
}
