/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * The worker: one core's turn. This file is the table of contents of the engine; each step is a file of its
 * own. Run to completion, share nothing: a turn takes no lock, makes no system call but what a virtual
 * device's driver makes, and takes nothing from the heap.
 */
#include <errno.h>
#include <unistd.h>

#include <rte_lcore.h>

#include <base/clock.h>
#include <base/log.h>

#include "worker.h"

#define TICK_INTERVAL_NS (100 * BW_NS_PER_MS)
#define TOLD_LOOK_US     50
#define SELDOM           16 /* turns between looks at what is another core's, and warm there */

static void timer_fired(void *ctx, struct bw_timer *timer, bw_ns now)
{
	struct bw_worker *w = ctx;

	switch ((enum bw_worker_timer)timer->kind) {
	case BW_TIMER_NEIGH:
		bw_neigh_timer(w, bw_container_of(timer, struct bw_neigh, timer));
		break;
	case BW_TIMER_ANNOUNCE:
		bw_neigh_announce(bw_container_of(timer, struct bw_iface, announce_timer));
		break;
	case BW_TIMER_FRAGMENTS:
		bw_fragments_timer(w);
		break;
	}
}

static unsigned count_of(struct rte_mempool *pool)
{
	return rte_mempool_get_ops(pool->ops_index)->get_count(pool);
}

/**
 * Where workers free what others have taken, buffers end in caches of pools that they take nothing from: a pool that
 * runs low gets them back. Returns how many are left of the one, of those with a queue of the device, that has the fewest.
 */
static unsigned watch_others(const struct bw_iface *iface)
{
	const struct bw_worker *w = iface->worker;
	unsigned left = UINT32_MAX;

	for (unsigned i = 0; i < w->worker_count; i++) {
		struct rte_mempool *pool = iface->nic->pools[i];
		bool has_queue = i < iface->nic->rx_queues;
		unsigned count;

		if (i == w->index || (!has_queue && w->turns % SELDOM != 0))
			continue;
		count = count_of(pool);
		if (bw_unlikely(count < pool->size / 4))
			rte_mempool_cache_flush(rte_mempool_default_cache(pool, rte_lcore_id()), pool);
		if (has_queue)
			left = BW_MIN(left, count);
	}
	return left;
}

static unsigned beyond_reserve(unsigned left)
{
	return left > BW_NIC_RESERVE ? left - BW_NIC_RESERVE : 0;
}

/** This worker's own of a device, those in its cache included. */
static unsigned left_of(const struct bw_iface *iface)
{
	struct rte_mempool *pool = iface->nic->pools[iface->worker->index];
	const struct rte_mempool_cache *cache = rte_mempool_default_cache(pool, rte_lcore_id());

	return count_of(pool) + (cache != NULL ? cache->len : 0);
}

/** As many of the worker's first pool would be as large a part of that. */
static unsigned scaled(const struct bw_worker *w, const struct bw_iface *iface, unsigned left)
{
	return (unsigned)((uint64_t)left * w->pool->size / iface->nic->pools[w->index]->size);
}

/**
 * How many buffers are left decides what TCP still begins. All but a reserve, which receiving and answering needs, is
 * for connections to keep. What they send is of this worker's pool, and what they keep of received packets of that of
 * the queue that those came from: of several devices, the pool that has the fewest counts, for all connections.
 */
static void watch_pools(struct bw_worker *w)
{
	unsigned to_send = left_of(&w->ifaces[0]), to_receive = UINT32_MAX;

	for (unsigned i = 0; i < w->iface_count; i++) {
		const struct bw_iface *iface = &w->ifaces[i];

		if (bw_unlikely(iface->dispatches))
			to_receive = BW_MIN(to_receive, scaled(w, iface, watch_others(iface)));
		if (iface->has_own_rx)
			to_receive = BW_MIN(to_receive, i == 0 ? to_send : scaled(w, iface, left_of(iface)));
	}
	bw_tcp_set_buffers(w->tcp, beyond_reserve(to_send), beyond_reserve(to_receive), w->pool->size);
}

/** Is what is sent brought out? */
static bool is_link_up(const struct bw_iface *iface)
{
	const struct bw_worker *owner = &iface->worker->engine->workers[iface->tx_queue];

	return !__atomic_load_n(&owner->ifaces[iface->device->index].is_tx_stuck, __ATOMIC_RELAXED) &&
	       !__atomic_load_n(&iface->nic->is_link_down, __ATOMIC_RELAXED);
}

/** TCP looks at each link where there are several, and is told when one of them is back. */
static void watch_links(struct bw_worker *w)
{
	bool has_one_up = false;

	for (unsigned i = 0; i < w->iface_count; i++) {
		struct bw_iface *iface = &w->ifaces[i];
		const bool is_up = is_link_up(iface);

		if (bw_unlikely(is_up && iface->link.is_down) && w->iface_count > 1)
			bw_tcp_link_is_back(w->tcp);
		iface->link.is_down = !is_up;
		has_one_up |= is_up;
	}
	bw_tcp_set_link(w->tcp, has_one_up);
}

static void timers(struct bw_worker *w)
{
	watch_links(w);
	bw_tcp_timers(w->tcp, w->now);
	bw_wheel_advance(&w->wheel, w->now, BW_BURST_MAX, timer_fired, w);
}

static void ticks(struct bw_worker *w)
{
	bw_stage_enter(&w->cycles, BW_STAGE_SERVICE);
	w->tick_due_at = w->now + TICK_INTERVAL_NS;
	for (unsigned i = 0; i < w->engine->conf.service_count; i++) {
		struct bw_context *ctx = &w->contexts[i];

		if (ctx->service->tick != NULL)
			ctx->service->tick(ctx, w->now);
	}
	bw_stage_enter(&w->cycles, BW_STAGE_TIMERS);
}

/** What the engine publishes may be a newer one. */
static void take_published(struct bw_worker *w)
{
	w->epoch = __atomic_load_n(&w->engine->epoch, __ATOMIC_ACQUIRE);
	for (unsigned i = 0; i < w->iface_count; i++) {
		struct bw_iface *iface = &w->ifaces[i];

		if (iface->network != __atomic_load_n(&iface->device->network, __ATOMIC_ACQUIRE))
			bw_network_take(iface);
	}
	bw_capture_take(w);
}

void bw_worker_tell_all(struct bw_engine *engine,
	bool (*is_taken)(const struct bw_worker *w, const void *what), const void *what)
{
	__atomic_fetch_add(&engine->epoch, 1, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < engine->worker_count; i++) {
		while (!is_taken(&engine->workers[i], what)) {
			bw_power_wake(&engine->workers[i]);
			usleep(TOLD_LOOK_US);
		}
	}
}

/** What the kernel says of neighbours, and what it sends itself. */
static unsigned deliver_kernels(struct bw_worker *w)
{
	unsigned count = 0;

	for (unsigned i = 0; i < w->iface_count; i++) {
		struct bw_iface *iface = &w->ifaces[i];

		if (iface->told_in != NULL)
			count += bw_share_deliver(iface);
		if (iface->claims != NULL && w->index == 0)
			count += bw_exception_deliver(iface);
	}
	return count;
}

/** Everything that one core does, once. Returns whether there was anything to do. */
static bool turn(struct bw_worker *w)
{
	unsigned work = 0;

	w->now = bw_clock_now();
	if (bw_unlikely(w->epoch != __atomic_load_n(&w->engine->epoch, __ATOMIC_RELAXED)))
		take_published(w);
	watch_pools(w);
	bw_stage_enter(&w->cycles, BW_STAGE_RX);
	work += bw_ingress_devices(w);
	bw_stage_enter(&w->cycles, BW_STAGE_INBOX);
	work += bw_ingress_inbox(w);
	work += bw_mail_deliver(w);
	work += bw_jobs_deliver(w);
	if (bw_unlikely(w->has_kernels))
		work += deliver_kernels(w);
	bw_stage_enter(&w->cycles, BW_STAGE_TIMERS);
	timers(w);
	if (w->has_ticks && (work > 0 || w->now >= w->tick_due_at))
		ticks(w);
	work += bw_mail_flush(w);
	bw_stage_enter(&w->cycles, BW_STAGE_EGRESS);
	work += bw_egress(w);
	bw_stage_enter(&w->cycles, BW_STAGE_TX);
	work += bw_egress_flush(w); /* a backlog that the device does not take is no work */
	if (bw_unlikely(w->flood != NULL))
		work += bw_flood_turn(w);
	bw_stage_enter(&w->cycles, BW_STAGE_TURN);
	return work > 0;
}

/** Charge the cycles since the last call to what they were spent on. */
static void account(struct bw_worker *w, bool had_work)
{
	uint64_t cycles = bw_clock_cycles();

	if (had_work)
		w->busy_cycles += cycles - w->turn_cycles;
	else
		w->idle_cycles += cycles - w->turn_cycles;
	w->turn_cycles = cycles;
	if (bw_unlikely(w->cycles.is_sampled))
		bw_cycles_turn_end(&w->cycles, cycles, had_work);
}

static void cut_off(struct bw_tcp_conn *conn, void *count)
{
	bw_tcp_abort(conn);
	++*(unsigned *)count;
}

/**
 * While draining: finish what is in flight, and at the deadline cut off the rest. Returns whether TCP has got
 * something to send by it, which no timer would wake this worker for.
 */
static bool drain(struct bw_worker *w)
{
	bool is_over = atomic_load_explicit(&w->engine->drain_expired, memory_order_acquire);
	bool has_acted = false;
	struct bw_tcp_stats stats;

	if (!w->is_draining) {
		bw_tcp_unlisten_all(w->tcp);
		bw_stream_drain_all(w);
		has_acted = true;
	} else if (is_over && !w->has_cut_off) {
		unsigned count = 0;

		bw_tcp_foreach(w->tcp, cut_off, &count);
		atomic_fetch_add(&w->engine->cut_off_count, count);
		w->has_cut_off = true;
		has_acted = true;
	}
	bw_tcp_stats(w->tcp, &stats);
	atomic_store_explicit(&w->open_count, stats.connections, memory_order_relaxed);
	__atomic_store_n(&w->is_draining, true, __ATOMIC_RELEASE);
	return has_acted;
}

bool bw_worker_step(struct bw_worker *w)
{
	bool had_work;

	bw_cycles_turn_begin(&w->cycles, w->turn_cycles);
	had_work = turn(w);
	w->turns++;
	account(w, had_work);
	if (bw_unlikely(atomic_load_explicit(&w->engine->drains, memory_order_relaxed)))
		had_work |= drain(w);
	return had_work;
}

static void run(struct bw_worker *w)
{
	w->turn_cycles = bw_clock_cycles();
	while (!atomic_load_explicit(&w->engine->stops, memory_order_relaxed)) {
		if (bw_worker_step(w)) {
			w->active_at = w->now;
			w->sleep_ns = 0;
		} else if (w->is_adaptive) {
			bw_power_idle(w);
			account(w, false);
		}
	}
}

/** At a gate, with an open ear: a worker that waits there takes in the mail of those that are not there yet. */
static void wait_at_gate(struct bw_worker *w)
{
	struct bw_gate *gate = &w->engine->gate;
	unsigned generation = bw_gate_arrive(gate);

	while (!bw_gate_is_open(gate, generation)) {
		if (bw_mail_deliver(w) == 0)
			usleep(100);
		bw_mail_flush(w);
	}
}

/**
 * The end, in step with the other workers, because mail of one may lie with another: all drop their
 * connections and send the RSTs, then mail and jobs come home, then services stop.
 */
static void finish(struct bw_worker *w)
{
	bw_tcp_destroy(w->tcp);
	w->tcp = NULL;
	for (int step = 0; step < BW_FINISH_STEPS - 1; step++) {
		wait_at_gate(w);
		do {
			while (bw_mail_deliver(w) > 0)
				;
		} while (bw_mail_flush(w));
	}
	while (w->jobs_in_flight > 0) {
		if (bw_jobs_deliver(w) == 0)
			usleep(1000);
	}
	wait_at_gate(w);
}

void *bw_worker_main(void *arg)
{
	struct bw_worker *w = arg;
	struct bw_engine *engine = w->engine;
	char name[16];
	int error = 0;

	snprintf(name, sizeof(name), "bw-worker-%u", w->index);
	pthread_setname_np(pthread_self(), name);
	/* A core id of its own is what gives the thread mempool caches. */
	if (rte_thread_register() != 0) {
		bw_error("worker %u: EAL has no core id left for it; use fewer --workers", w->index);
		error = -ENOSPC;
	}
	if (error == 0)
		error = bw_worker_setup(w);
	if (error != 0)
		__atomic_store_n(&engine->start_error, error, __ATOMIC_RELEASE);
	bw_gate_pass(&engine->gate); /* all have tried: bw_engine_start() looks at start_error */
	bw_gate_pass(&engine->gate); /* ... and says whether to go on, in `stops` */
	if (error == 0 && !atomic_load(&engine->stops))
		run(w);
	if (error == 0 && __atomic_load_n(&engine->start_error, __ATOMIC_ACQUIRE) == 0)
		finish(w);
	bw_worker_teardown(w);
	rte_thread_unregister();
	return NULL;
}
