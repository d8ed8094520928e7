/* SPDX-License-Identifier: BSD-3-Clause */
/** Events in the order of time, and a seed from its beginning to its end. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "internal.h"
#include "sim.h"

#define EVENTS_MAX (1u << 20)

struct sim sim;

/* ---- events ---------------------------------------------------------------------------------------------- */

struct event {
	bw_ns at;
	uint64_t order; /* of those at the same time */
	enum sim_event_kind kind;
	uint32_t a, b;
	struct sim_frame *frame;
};

/** A binary heap. */
static struct event *heap;
static unsigned heap_count;
static uint64_t next_order;
static struct sim_frame *free_frames;

static bool is_earlier(const struct event *a, const struct event *b)
{
	return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void push(struct event e)
{
	unsigned i = heap_count++;

	if (heap_count > EVENTS_MAX)
		sim_fail("too many events");
	e.order = next_order++;
	for (; i != 0 && is_earlier(&e, &heap[(i - 1) / 2]); i = (i - 1) / 2)
		heap[i] = heap[(i - 1) / 2];
	heap[i] = e;
}

static struct event pop(void)
{
	struct event top = heap[0], last = heap[--heap_count];
	unsigned i = 0;

	for (;;) {
		unsigned child = 2 * i + 1;

		if (child >= heap_count)
			break;
		if (child + 1 < heap_count && is_earlier(&heap[child + 1], &heap[child]))
			child++;
		if (!is_earlier(&heap[child], &last))
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = last;
	return top;
}

void sim_event(bw_ns at, enum sim_event_kind kind, uint32_t a, uint32_t b)
{
	push((struct event){ .at = at, .kind = kind, .a = a, .b = b });
}

void sim_frame_arrives(bw_ns at, struct sim_frame *frame)
{
	push((struct event){ .at = at, .kind = SIM_FRAME_ARRIVES, .frame = frame });
}

struct sim_frame *sim_frame_take(void)
{
	struct sim_frame *f = free_frames;

	if (f != NULL)
		free_frames = f->free_next;
	else
		f = malloc(sizeof(*f));
	BW_ASSERT(f != NULL);
	return f;
}

void sim_frame_give(struct sim_frame *f)
{
	f->free_next = free_frames;
	free_frames = f;
}

/* ---- what happens ---------------------------------------------------------------------------------------- */

static void count_packet(const struct sim_frame *f)
{
	sim.packets++;
	sim.hash = XXH3_64bits_withSeed(f->data, f->bytes, sim.hash ^ sim_mix(sim.now + f->to));
}

static void arrive(struct sim_frame *f)
{
	struct sim_host *h = &sim.host[f->to];

	count_packet(f);
	if (sim.is_traced)
		sim_pcapng_frame(f, true);
	if (!h->is_gone)
		sim_host_receive(h, f);
	sim_frame_give(f);
}

static void heal(void)
{
	sim.has_healed = true;
	for (unsigned i = 0; i < sim.host_count; i++)
		for (unsigned k = 0; k < sim.host_count; k++)
			sim_link_heal(&sim.link[i][k]);
}

static void happen(const struct event *e)
{
	struct sim_host *h = &sim.host[e->a % SIM_HOSTS_MAX];
	struct sim_link *link = &sim.link[e->a % SIM_HOSTS_MAX][e->b % SIM_HOSTS_MAX];

	switch (e->kind) {
	case SIM_FRAME_ARRIVES:
		arrive(e->frame);
		break;
	case SIM_JOB_BEGINS:
		sim_job_start(e->a);
		break;
	case SIM_LINK_DARK:
	case SIM_LINK_LIGHT:
		link->is_dark = e->kind == SIM_LINK_DARK;
		break;
	case SIM_LINK_MTU:
		link->mtu = (uint16_t)(e->b / SIM_HOSTS_MAX);
		break;
	case SIM_HOST_PAUSE:
	case SIM_HOST_RESUME:
		h->is_paused = e->kind == SIM_HOST_PAUSE;
		sim_watch_late(h->index); /* what was on its way from one worker to another's device queue */
		for (unsigned i = 0; i < h->worker_count; i++)
			h->wake_at[i] = BW_MAX(h->wake_at[i], sim.now);
		break;
	case SIM_HOST_STALL:
	case SIM_HOST_FLOWS:
		h->is_stalled = e->kind == SIM_HOST_STALL;
		if (!h->is_stalled)
			sim_host_flow(h);
		for (unsigned i = 0; h->engine != NULL && i < h->worker_count; i++)
			sim_host_wake(h, i);
		break;
	case SIM_HOST_VANISH:
		h->is_gone = true;
		sim_apps_vanished(h->index);
		break;
	case SIM_HOST_HALT:
		if (h->is_gone)
			break;
		sim_host_halt(h);
		sim_watch_forget(h->index);
		break;
	case SIM_HOST_BOOT:
		if (!h->is_gone && h->engine == NULL)
			sim_host_boot(h);
		break;
	case SIM_HOST_STARVE:
		sim_host_starve(h, e->b);
		break;
	case SIM_HOST_FEED:
		sim_host_feed(h);
		break;
	case SIM_HEAL:
		heal();
		break;
	}
}

/* ---- a seed ---------------------------------------------------------------------------------------------- */

static struct sim_link_conf draw_link(const struct sim_profile *p)
{
	struct sim_chance *c = &sim.net;
	struct sim_link_conf conf = {
		.delay_ns = sim_range_draw(c, p->delay_us) * BW_NS_PER_US,
		.jitter_ns = sim_range_draw(c, p->jitter_us) * BW_NS_PER_US,
		.rate_kbps = sim_range_draw(c, p->rate_kbps),
		.queue_bytes = sim_range_draw(c, p->queue_bytes),
		.loss_ppm = (uint32_t)sim_range_draw(c, p->loss_ppm),
		.burst_ppm = (uint32_t)sim_range_draw(c, p->burst_ppm),
		.reorder_ppm = (uint32_t)sim_range_draw(c, p->reorder_ppm),
		.reorder_ns = sim_range_draw(c, p->reorder_us) * BW_NS_PER_US,
		.duplicate_ppm = (uint32_t)sim_range_draw(c, p->duplicate_ppm),
		.corrupt_ppm = (uint32_t)sim_range_draw(c, p->corrupt_ppm),
		.truncate_ppm = (uint32_t)sim_range_draw(c, p->truncate_ppm),
	};
	uint64_t length = sim_range_draw(c, p->burst_length);

	conf.burst_end_ppm = length != 0 ? (uint32_t)(1000000 / length) : 1000000;
	return conf;
}

void sim_begin(const struct sim_profile *profile, uint64_t seed, unsigned host_count)
{
	uint64_t root = sim_mix(seed + 0x51ed270b27220d35ull);
	struct bw_tcp_conf defaults;

	bw_tcp_conf_init(&defaults);
	sim.profile = profile;
	sim.seed = seed;
	sim.net.state = sim_mix(root + 1);
	sim.app.state = sim_mix(root + 2);
	sim.random.state = sim_mix(root + 3);
	sim.now = sim.began = BW_NS_PER_SEC + sim_below(&sim.net, BW_NS_PER_SEC);
	sim.host_count = host_count;
	sim.packets = sim.hash = 0;
	sim.has_healed = false;
	/* Where all must complete it is the default: on a line that others keep full one may starve for a minute. */
	sim.user_timeout_ns = 60 * BW_NS_PER_SEC;
	if (profile->flags & SIM_MUST_COMPLETE)
		sim.user_timeout_ns = defaults.user_timeout_ns;
	sim.keepalive_idle_ns = 20 * BW_NS_PER_SEC;
	sim.keepalive_interval_ns = 5 * BW_NS_PER_SEC;
	sim.keepalive_probes = 6;
	if (heap == NULL)
		heap = malloc(EVENTS_MAX * sizeof(*heap));
	BW_ASSERT(heap != NULL);
	heap_count = 0;
	next_order = 0;
	sim_watch_reset();
	sim_apps_reset();
	if (sim.is_traced)
		sim_pcapng_begin();
	for (unsigned i = 0; i < host_count; i++) {
		struct sim_host *h = &sim.host[i];

		h->is_paused = h->is_gone = h->is_stalled = false;
		h->turns = h->rx_no_mbuf = h->rx_full = 0;
		for (unsigned k = 0; k < host_count; k++)
			sim.link[i][k] =
				(struct sim_link){ .from = (uint8_t)i, .to = (uint8_t)k, .mtu = SIM_MTU };
		sim_host_boot(h);
	}
}

/** The next thing: an event, or a worker's turn. False: there is none before `until`. */
static bool step(bw_ns until)
{
	bw_ns event_at = heap_count != 0 ? heap[0].at : BW_NEVER, turn_at = BW_NEVER;
	unsigned host = 0, worker = 0;

	for (unsigned i = 0; i < sim.host_count; i++) {
		unsigned which = 0;
		bw_ns at = sim_host_next(&sim.host[i], &which);

		if (at < turn_at) {
			turn_at = at;
			host = i;
			worker = which;
		}
	}
	if (BW_MIN(event_at, turn_at) > until)
		return false;
	if (event_at <= turn_at) {
		struct event e = pop();

		sim.now = BW_MAX(sim.now, e.at);
		happen(&e);
	} else {
		sim.now = BW_MAX(sim.now, turn_at);
		sim_host_turn(&sim.host[host], worker);
	}
	return true;
}

static bool is_quiet(void)
{
	if (!sim.has_healed || !sim_apps_are_over())
		return false;
	for (unsigned i = 0; i < sim.host_count; i++) {
		const struct sim_host *h = &sim.host[i];

		for (unsigned k = 0; h->engine != NULL && !h->is_gone && k < h->worker_count; k++) {
			struct bw_tcp_stats stats;

			bw_tcp_stats(h->engine->workers[k].tcp, &stats);
			if (stats.connections != 0 || stats.half_open != 0)
				return false;
		}
	}
	return true;
}

void sim_loop(bw_ns until)
{
	for (unsigned i = 0; step(until); i++)
		if (i % 64 == 0 && is_quiet())
			break;
}

void sim_end(void)
{
	while (heap_count != 0) {
		struct event e = pop();

		if (e.kind == SIM_FRAME_ARRIVES)
			sim_frame_give(e.frame);
	}
	for (unsigned i = 0; i < sim.host_count; i++)
		sim_host_check_end(&sim.host[i]);
	sim_apps_check_closed();
}

/** A moment within the time of trouble. */
static bw_ns some_time(void)
{
	return sim.began + sim_below(&sim.net, sim.heal_at - sim.began);
}

/** A pair of events, the second before the network heals at the latest. */
static void span(
	enum sim_event_kind begin, enum sim_event_kind end, struct sim_range ms, uint32_t a, uint32_t b)
{
	bw_ns from = some_time(), to = from + sim_range_draw(&sim.net, ms) * BW_NS_PER_MS;

	sim_event(from, begin, a, b);
	sim_event(BW_MIN(to, sim.heal_at), end, a, b);
}

static void plan_links(const struct sim_profile *p)
{
	for (unsigned i = 0; i < sim.host_count; i++) {
		for (unsigned k = 0; k < sim.host_count; k++) {
			struct sim_link *link = &sim.link[i][k];

			if (i == k)
				continue;
			link->conf = draw_link(p);
			if (k < i) /* both ways are of the same length and width, as mostly in life */
				link->conf.delay_ns = sim.link[k][i].conf.delay_ns;
			link->tells_mtu = sim_below(&sim.net, 4) != 0;
			for (uint64_t n = sim_range_draw(&sim.net, p->blackouts); n > 0; n--)
				span(SIM_LINK_DARK, SIM_LINK_LIGHT, p->blackout_ms, i, k);
			for (uint64_t n = sim_range_draw(&sim.net, p->mtu_changes); n > 0; n--) {
				static const uint32_t mtu[] = { 1500, 1492, 1400, 1280, 1006, 576 };

				sim_event(some_time(), SIM_LINK_MTU, i,
					k + SIM_HOSTS_MAX * mtu[sim_below(&sim.net, BW_ARRAY_LEN(mtu))]);
			}
		}
	}
}

static void plan_hosts(const struct sim_profile *p)
{
	struct sim_chance *c = &sim.net;

	for (unsigned i = 0; i < sim.host_count; i++) {
		for (uint64_t n = sim_range_draw(c, p->pauses); n > 0; n--)
			span(SIM_HOST_PAUSE, SIM_HOST_RESUME, p->pause_ms, i, 0);
		for (uint64_t n = sim_range_draw(c, p->stalls); n > 0; n--)
			span(SIM_HOST_STALL, SIM_HOST_FLOWS, p->stall_ms, i, 0);
		for (uint64_t n = sim_range_draw(c, p->reboots); n > 0; n--)
			span(SIM_HOST_HALT, SIM_HOST_BOOT, p->down_ms, i, 0);
		for (uint64_t n = sim_range_draw(c, p->starvations); n > 0; n--)
			span(SIM_HOST_STARVE, SIM_HOST_FEED, p->starved_ms, i, (uint32_t)sim_below(c, 1500));
	}
	for (uint64_t n = sim_range_draw(c, p->vanishes); n > 0; n--)
		sim_event(some_time(), SIM_HOST_VANISH, (uint32_t)sim_below(c, sim.host_count), 0);
}

/**
 * How long after the network has healed everything has to be over: R2 of what is in flight; keep-alive for those
 * that wait; the last of the timers' back-off; and what is left to be done, at the rate that there is.
 */
static bw_ns patience(const struct sim_profile *p)
{
	bw_ns left = sim.user_timeout_ns + sim.keepalive_idle_ns +
		     (sim.keepalive_probes + 1) * sim.keepalive_interval_ns + 240 * BW_NS_PER_SEC;

	if (p->rate_kbps.min != 0)
		left += 4 * p->jobs.max * p->bytes.max * 8 * BW_NS_PER_MS / p->rate_kbps.min;
	return left + 600 * BW_NS_PER_SEC;
}

void sim_run(const struct sim_profile *p, uint64_t seed)
{
	struct sim_chance first = { sim_mix(seed) };

	sim_begin(p, seed, (unsigned)sim_range_draw(&first, p->hosts));
	sim.heal_at = sim.began + sim_range_draw(&sim.net, p->trouble_ms) * BW_NS_PER_MS;
	plan_links(p);
	plan_hosts(p);
	sim_event(sim.heal_at, SIM_HEAL, 0, 0);
	sim_apps_plan(p, sim.began);
	sim_loop(sim.heal_at + patience(p));
	sim_apps_check_end();
	if ((p->flags & SIM_CLEAN) && sim_watch_repeats() != 0)
		sim_fail("%lu pieces were sent again, and nothing was lost", sim_watch_repeats());
	sim_end();
}
