/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * A host: a whole engine, its workers driven turn by turn. Between turns a worker does what the production loop's
 * power.c has it do: nothing until something arrives, another worker hands it something, or its next deadline comes.
 * So a deadline that nobody armed is a host that sleeps for ever, which the simulation finds.
 *
 * The hosts differ: one worker; two that share one queue; three with two queues.
 */
#include <stdlib.h>

#include <base/log.h>

#include "internal.h"
#include "sim.h"

#define TURN_NS     (2 * BW_NS_PER_US) /* what a turn with work takes */
#define STEP_MIN_NS (20 * BW_NS_PER_US)
#define JOB_NS      (50 * BW_NS_PER_US) /* what a helper thread takes */
#define MBUFS       8192
#define CHECK_TURNS 32 /* every so many turns of a host the inside is looked at */

static const struct {
	unsigned workers, queues;
} shape[SIM_HOSTS_MAX] = { { 1, 1 }, { 2, 1 }, { 3, 2 } };

void sim_hosts_open(void)
{
	struct bw_eal_conf eal = { 0 };

	for (unsigned i = 0; i < SIM_HOSTS_MAX; i++) {
		struct sim_host *h = &sim.host[i];

		h->index = i;
		h->worker_count = shape[i].workers;
		if (bw_nic_plan("ring", shape[i].queues, &h->plan) != 0)
			exit(2);
		eal.memory_mib += bw_nic_memory_mib(&h->plan, shape[i].workers, MBUFS, SIM_MTU);
	}
	eal.plans = &sim.host[0].plan; /* all are the same */
	eal.plan_count = 1;
	if (bw_eal_start(&eal) != 0)
		exit(2);
	for (unsigned i = 0; i < SIM_HOSTS_MAX; i++) {
		struct sim_host *h = &sim.host[i];
		struct bw_mac mac = { { 2, 0, 0, 0, 1, (uint8_t)(i + 1) } };
		struct bw_nic_conf conf = {
			.plan = &h->plan,
			.worker_count = h->worker_count,
			.mtu = SIM_MTU,
			.mbufs_per_worker = MBUFS,
			.mac = &mac,
		};
		char text[BW_CIDR_STRLEN];

		if (bw_nic_open(&h->nic, &conf) != 0)
			exit(2);
		snprintf(text, sizeof(text), "10.0.0.%u", i + 1);
		bw_ip_parse(text, &h->ip[0]);
		snprintf(text, sizeof(text), "fd00::%u", i + 1);
		bw_ip_parse(text, &h->ip[1]);
	}
}

void sim_hosts_close(void)
{
	for (unsigned i = 0; i < SIM_HOSTS_MAX; i++)
		bw_nic_close(&sim.host[i].nic);
	bw_eal_stop();
}

static void configure(struct sim_host *h)
{
	struct bw_engine_conf *conf = &h->conf;

	bw_engine_conf_init(conf);
	conf->devices[0].nic = &h->nic;
	conf->devices[0].addrs[0] = (struct bw_cidr){ h->ip[0], 24 };
	conf->devices[0].addrs[1] = (struct bw_cidr){ h->ip[1], 64 };
	conf->devices[0].addr_count = 2;
	conf->worker_count = h->worker_count;
	conf->helper_count = 1;
	conf->neighbours_max = 16;
	conf->fragments_max = 32;
	conf->keepalive_idle_ns = sim.keepalive_idle_ns;
	conf->tcp.connections_max = SIM_JOBS_MAX;
	conf->tcp.half_open_max = 256;
	conf->tcp.time_wait_max = 512;
	conf->tcp.keepalive_interval_ns = sim.keepalive_interval_ns;
	conf->tcp.keepalive_probes = sim.keepalive_probes;
	conf->tcp.user_timeout_ns = sim.user_timeout_ns;
	sim_apps_conf(h, conf);
}

void sim_host_boot(struct sim_host *h)
{
	configure(h);
	if (bw_engine_create(&h->conf, &h->engine) != 0)
		sim_fail("host %u: no engine", h->index);
	h->engine->conf.helper_count = 0; /* the queue, but no threads: see run_jobs() */
	if (bw_helpers_start(h->engine) != 0)
		sim_fail("host %u: no job queue", h->index);
	for (unsigned i = 0; i < h->worker_count; i++) {
		if (bw_worker_setup(&h->engine->workers[i]) != 0)
			sim_fail("host %u: worker %u does not start", h->index, i);
		h->wake_at[i] = h->busy_until[i] = sim.now;
	}
}

/** What helper threads would do. */
static unsigned run_jobs(struct sim_host *h)
{
	unsigned count = 0;
	void *job;

	while (rte_ring_mc_dequeue(h->engine->jobs, &job) == 0) {
		struct bw_worker *w = ((struct bw_job *)job)->ctx->worker;

		((struct bw_job *)job)->work(job);
		BW_ASSERT_EQ(rte_ring_mp_enqueue(w->jobs_done, job), 0);
		h->wake_at[w->index] = BW_MIN(h->wake_at[w->index], sim.now + JOB_NS);
		count++;
	}
	return count;
}

static void drain(struct rte_ring *ring)
{
	void *m;

	while (ring != NULL && rte_ring_sc_dequeue(ring, &m) == 0)
		rte_pktmbuf_free(m);
}

/** The device is reset: it forgets what it has received and what it was to send. */
static void reset_device(struct sim_host *h)
{
	for (unsigned i = 0; i < BW_ARRAY_LEN(h->sent); i++) {
		rte_pktmbuf_free(h->sent[i]);
		h->sent[i] = NULL;
	}
	for (unsigned q = 0; q < h->nic.rx_queues; q++) {
		drain(bw_nic_ring_rx(&h->nic, q));
		drain(bw_nic_ring_tx(&h->nic, q));
	}
}

/** As worker.c's finish(), with all workers in step. */
void sim_host_halt(struct sim_host *h)
{
	struct bw_engine *engine = h->engine;
	struct bw_counters counters;
	unsigned work;

	if (engine == NULL)
		return;
	sim_apps_halting(true);
	bw_engine_counters(engine, &counters);
	for (unsigned i = 0; i < BW_COUNTER_COUNT; i++)
		sim.counters.value[i] += counters.value[i];
	for (unsigned i = 0; i < h->worker_count; i++) {
		bw_tcp_destroy(engine->workers[i].tcp);
		engine->workers[i].tcp = NULL;
	}
	do {
		work = run_jobs(h);
		for (unsigned i = 0; i < h->worker_count; i++) {
			work += bw_mail_deliver(&engine->workers[i]);
			work += bw_mail_flush(&engine->workers[i]);
			work += bw_jobs_deliver(&engine->workers[i]);
		}
	} while (work > 0);
	for (unsigned i = 0; i < h->worker_count; i++) {
		if (engine->workers[i].jobs_in_flight != 0)
			sim_fail("host %u: jobs do not come home", h->index);
		bw_worker_teardown(&engine->workers[i]);
	}
	bw_engine_destroy(engine);
	h->engine = NULL;
	reset_device(h);
	sim_apps_release(h);
	sim_apps_halting(false);
}

void sim_host_wake(struct sim_host *h, unsigned worker)
{
	bw_ns at = BW_MAX(sim.now, h->busy_until[worker]);

	h->wake_at[worker] = BW_MIN(h->wake_at[worker], at);
}

bw_ns sim_host_next(const struct sim_host *h, unsigned *worker)
{
	bw_ns next = BW_NEVER;

	if (h->engine == NULL || h->is_paused || h->is_gone)
		return BW_NEVER;
	for (unsigned i = 0; i < h->worker_count; i++) {
		if (h->wake_at[i] < next) {
			next = h->wake_at[i];
			*worker = i;
		}
	}
	return next;
}

/** Mail, packets and the like from other workers wait. */
static bool has_inbox(const struct bw_worker *w)
{
	return !rte_ring_empty(w->packets_in) || !rte_ring_empty(w->control_in) ||
	       !rte_ring_empty(w->ifaces[0].tx_in) || !rte_ring_empty(w->mail_in);
}

static void send_frame(struct sim_host *h, struct rte_mbuf *m)
{
	struct sim_frame *f = sim_frame_take();
	const struct sim_frame *last = NULL;

	if (m->pkt_len > SIM_FRAME_MAX)
		sim_fail("host %u sends a frame of %u bytes", h->index, m->pkt_len);
	f->bytes = 0;
	for (const struct rte_mbuf *seg = m; seg != NULL; seg = seg->next) {
		memcpy(f->data + f->bytes, rte_pktmbuf_mtod(seg, const void *), seg->data_len);
		f->bytes = (uint16_t)(f->bytes + seg->data_len);
	}
	if (f->bytes != m->pkt_len)
		sim_fail("host %u sends a frame of %u bytes that says %u", h->index, f->bytes, m->pkt_len);
	f->from = (uint8_t)h->index;
	f->is_damaged = false;
	if (sim.is_traced)
		sim_pcapng_frame(f, false);
	sim_watch_sent(f);
	/* To whom it is addressed, or to all. */
	for (unsigned to = 0; to < sim.host_count; to++) {
		bool is_to_group = f->data[0] & 1;
		struct sim_frame *copy = f;

		if (to == h->index || (!is_to_group && memcmp(f->data, sim.host[to].nic.mac.b, 6) != 0))
			continue;
		if (is_to_group) {
			copy = sim_frame_take();
			memcpy(copy, f, offsetof(struct sim_frame, data) + f->bytes);
		} else {
			last = f;
		}
		sim_link_send(&sim.link[h->index][to], copy);
		if (last != NULL)
			return;
	}
	sim_frame_give(f);
}

/** What the device's queues hold leaves; its buffers are freed a little later. */
static void send_frames(struct sim_host *h)
{
	for (unsigned q = 0; q < h->nic.tx_queues; q++) {
		struct rte_ring *ring = bw_nic_ring_tx(&h->nic, q);
		struct rte_mbuf *mbufs[64];
		unsigned count;

		while ((count = rte_ring_sc_dequeue_burst(ring, (void **)mbufs, BW_ARRAY_LEN(mbufs), NULL)) >
			0) {
			for (unsigned i = 0; i < count; i++) {
				struct rte_mbuf **slot = &h->sent[h->sent_next++ % BW_ARRAY_LEN(h->sent)];

				send_frame(h, mbufs[i]);
				rte_pktmbuf_free(*slot);
				*slot = mbufs[i];
			}
		}
	}
}

void sim_host_flow(struct sim_host *h)
{
	sim_watch_late(h->index);
	send_frames(h);
}

/** When a worker with nothing to do is due again. */
static bw_ns next_turn(struct sim_host *h, struct bw_worker *w)
{
	bw_ns next = BW_MIN(bw_tcp_next_deadline(w->tcp), bw_wheel_next(&w->wheel));

	if (w->has_ticks)
		next = BW_MIN(next, w->tick_due_at);
	if (next > sim.now && w->ifaces[0].tx_count == 0)
		return next;
	/* It waits for its device or for buffers. */
	w->sleep_ns = w->sleep_ns == 0 ? STEP_MIN_NS : BW_MIN(w->sleep_ns * 2, BW_NS_PER_MS);
	return sim.now + w->sleep_ns;
}

void sim_host_turn(struct sim_host *h, unsigned worker)
{
	struct bw_worker *w = &h->engine->workers[worker];
	unsigned waited = w->neigh.queued_total, late = w->ifaces[0].tx_count;
	bool had_work = bw_worker_step(w);

	/* One may have left and another come to wait: how many there are now does not tell. */
	if (waited > 0 || late > 0)
		sim_watch_late(h->index);
	h->turns++;
	h->busy_until[worker] = sim.now + TURN_NS;
	if (had_work || has_inbox(w)) {
		h->wake_at[worker] = sim.now + TURN_NS;
		w->sleep_ns = 0;
	} else {
		h->wake_at[worker] = next_turn(h, w);
	}
	run_jobs(h);
	for (unsigned i = 0; i < h->worker_count; i++)
		if (i != worker && has_inbox(&h->engine->workers[i]))
			sim_host_wake(h, i);
	if (!h->is_stalled)
		send_frames(h);
	if (h->turns % CHECK_TURNS == 0)
		sim_inside_check(h, w);
}

void sim_host_receive(struct sim_host *h, const struct sim_frame *f)
{
	unsigned queue = f->from % h->nic.rx_queues;
	struct rte_mbuf *m;

	if (h->engine == NULL)
		return;
	m = rte_pktmbuf_alloc(h->nic.pools[queue]);
	if (m == NULL) {
		h->rx_no_mbuf++;
		return;
	}
	memcpy(rte_pktmbuf_append(m, f->bytes), f->data, f->bytes);
	if (rte_ring_sp_enqueue(bw_nic_ring_rx(&h->nic, queue), m) != 0) {
		h->rx_full++;
		rte_pktmbuf_free(m);
		return;
	}
	sim_watch_received(f);
	sim_host_wake(h, queue);
}

void sim_host_starve(struct sim_host *h, unsigned left)
{
	for (unsigned i = 0; i < h->worker_count; i++) {
		struct rte_mempool *pool = h->nic.pools[i];

		while (rte_mempool_avail_count(pool) > left && h->starved_count < BW_ARRAY_LEN(h->starved)) {
			struct rte_mbuf *m = rte_pktmbuf_alloc(pool);

			if (m == NULL)
				break;
			h->starved[h->starved_count++] = m;
		}
	}
}

void sim_host_feed(struct sim_host *h)
{
	rte_pktmbuf_free_bulk(h->starved, h->starved_count);
	h->starved_count = 0;
}

void sim_host_check_end(struct sim_host *h)
{
	unsigned lost;

	sim_host_halt(h);
	sim_host_feed(h);
	lost = bw_nic_mbufs_in_use(&h->nic);
	if (lost != 0)
		sim_fail("host %u: %u buffers are not returned", h->index, lost);
	/* Caches are part of what the next seed begins with. */
	for (unsigned i = 0; i < h->worker_count; i++)
		rte_mempool_cache_flush(NULL, h->nic.pools[i]);
}
