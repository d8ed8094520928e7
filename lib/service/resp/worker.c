/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A worker's life: its memory, its clock, what it does when nobody asks, and the figures that the operator reads.
 *
 * Everything a worker needs is one mapping, laid out at start and touched only as it is used: its share of the values'
 * memory and the index of them first, so that huge pages can back both, then the arguments of a command, the scratch,
 * and the requests. From then on nothing is allocated.
 *
 * Nobody reads a clock while a command runs. Expiry is in unix time, so the worker keeps how far that is from the
 * context's clock, and looks once a minute whether it still is.
 */
#include "internal.h"

#include <base/log.h>
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>

#define REQUESTS_MAX 8192u
#define RESYNC_NS    (60 * BW_NS_PER_SEC)
#define TICK_NS      BW_NS_PER_MS
#define HUGE_BYTES   (2u << 20)
/* Kept warm ahead of what is in use: some milliseconds at the rate at which one worker can fill it. */
#define WARM_VALUES  (4ull << 20)
#define WARM_INDEX   (2ull << 20)

/* Once a minute: wall clocks are stepped, and drift against ours. */
static void resync(struct bw_resp *r, bw_ns now)
{
	struct timespec wall;

	clock_gettime(CLOCK_REALTIME, &wall);
	/* Modulo 2^64, where the context's clock is ahead. */
	r->wall_ns = (uint64_t)wall.tv_sec * BW_NS_PER_SEC + (uint64_t)wall.tv_nsec - now;
	r->resync_at = now + RESYNC_NS;
}

static size_t round_up(size_t bytes)
{
	return (bytes + BW_RESP__PAGE_BYTES - 1) & ~(size_t)(BW_RESP__PAGE_BYTES - 1);
}

static size_t round_up_huge(size_t bytes)
{
	return (bytes + HUGE_BYTES - 1) & ~(size_t)(HUGE_BYTES - 1);
}

/* ---- memory ahead of its use ---- */

static bool warm_is_due(struct bw_resp *r)
{
	return bw_resp__warm_is_due(&r->warm,
		(uint64_t[BW_RESP__WARM_REGIONS]){ r->store.slab.pages_touched * BW_RESP__PAGE_BYTES,
			bw_resp__store_index_used_bytes(&r->store) });
}

static void warm_work(struct bw_job *job)
{
	bw_resp__warm_work(bw_container_of(job, struct bw_resp__warm, job));
}

static void warm_done(struct bw_context *ctx, struct bw_job *job)
{
	bw_container_of(job, struct bw_resp__warm, job)->is_out = false;
}

static void warm_ahead(struct bw_resp *r)
{
	if (bw_likely(!warm_is_due(r)))
		return;
	r->warm.job = (struct bw_job){ .work = warm_work, .done = warm_done };
	r->warm.is_out = bw_job_submit(r->ctx, &r->warm.job) == 0; /* or at the next tick */
}

int bw_resp__start(struct bw_context *ctx, void *conf_arg)
{
	struct bw_resp_conf *conf = conf_arg;
	struct bw_resp *r = bw_resp__of(ctx);
	unsigned workers = bw_context_worker_count(ctx);
	uint64_t share = conf->memory_bytes_max / workers / BW_RESP__PAGE_BYTES * BW_RESP__PAGE_BYTES;
	uint64_t least = bw_resp_memory_bytes_least(conf, workers), most = bw_resp_memory_bytes_most(workers);
	uint32_t bulk_bytes_max = bw_resp_bulk_bytes_max(conf, workers);
	size_t values_bytes, index_bytes, argv_bytes, scratch_bytes, requests_bytes, busies_bytes, bytes;
	uint8_t *base;

	if (conf->memory_bytes_max < least || conf->memory_bytes_max > most) {
		bw_error("resp: %llu bytes of memory for %u workers; give %llu to %llu",
			(unsigned long long)conf->memory_bytes_max, workers, (unsigned long long)least,
			(unsigned long long)most);
		return -EINVAL;
	}
	if (conf->shared == NULL || workers > BW_RESP__WORKERS_MAX) {
		bw_error("resp: %u workers, prepared for %u: call bw_resp_conf_prepare() first", workers,
			conf->shared == NULL ? 0 : BW_RESP__WORKERS_MAX);
		return -EINVAL;
	}
	r->ctx = ctx;
	r->conf = conf;
	r->worker = bw_context_worker(ctx);
	r->workers = workers;
	r->hash_seed = conf->hash_seed;
	r->maxmemory = conf->memory_bytes_max;
	r->limits = (struct bw_resp__limits){
		.bulk_bytes_max = bulk_bytes_max,
		.args_max = conf->args_max,
		.inline_bytes_max = conf->inline_bytes_max,
	};
	r->unauthenticated_limits = (struct bw_resp__limits){
		.bulk_bytes_max = BW_MIN(bulk_bytes_max, BW_RESP__UNAUTHENTICATED_BULK),
		.args_max = BW_RESP__UNAUTHENTICATED_ARGS,
		.inline_bytes_max = conf->inline_bytes_max,
		.is_unauthenticated = true,
	};

	values_bytes = round_up_huge(share); /* so that huge pages back the index from its beginning on */
	index_bytes = round_up(bw_resp__store_index_bytes(share));
	argv_bytes = round_up(sizeof(*r->argv) * conf->args_max);
	scratch_bytes = round_up((size_t)conf->inline_bytes_max + BW_RESP__SCRATCH_BYTES);
	requests_bytes = round_up(sizeof(struct bw_resp__request) * REQUESTS_MAX);
	/* Address space; memory as it is touched. One more huge page, to align. */
	busies_bytes = round_up(sizeof(*r->busies) * bw_context_streams_max(ctx));
	bytes = values_bytes + index_bytes + argv_bytes + scratch_bytes + requests_bytes + busies_bytes +
		HUGE_BYTES;
	base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED) {
		int error = errno;

		bw_error("resp: cannot reserve %zu bytes for worker %u: %s; give it less memory", bytes,
			r->worker, strerror(error));
		return -error;
	}
	if (conf->shared->maps[r->worker].base != NULL) /* an earlier run with the same configuration */
		munmap(conf->shared->maps[r->worker].base, conf->shared->maps[r->worker].bytes);
	conf->shared->maps[r->worker].base = base;
	conf->shared->maps[r->worker].bytes = bytes;
	base = (uint8_t *)round_up_huge((uintptr_t)base);

	bw_resp__store_init(&r->store, &(struct bw_resp__store_conf){
					       .arena = base,
					       .index = base + values_bytes,
					       .bytes_max = share,
					       .random_seed = conf->hash_seed + r->worker,
					       .policy = conf->policy,
				       });
	bw_resp__warm_init(&r->warm,
		(struct bw_resp__warm_region[BW_RESP__WARM_REGIONS]){
			{ .base = base, .bytes = share, .ahead_bytes = WARM_VALUES },
			{ .base = base + values_bytes, .bytes = index_bytes, .ahead_bytes = WARM_INDEX },
		});
	if (warm_is_due(r))
		bw_resp__warm_work(&r->warm);
	r->argv = (struct bw_resp__arg *)(base + values_bytes + index_bytes);
	r->scratch = base + values_bytes + index_bytes + argv_bytes;
	/* Touched as they are used: the lowest first, and what was freed last is used first. */
	for (unsigned i = REQUESTS_MAX; i-- > 0;) {
		struct bw_resp__request *request =
			(struct bw_resp__request *)(base + values_bytes + index_bytes + argv_bytes +
						    scratch_bytes) +
			i;

		request->next = r->requests_free;
		r->requests_free = request;
	}
	r->requests_free_count = REQUESTS_MAX;
	r->busies = (struct bw_resp__busy *)(base + values_bytes + index_bytes + argv_bytes + scratch_bytes +
					     requests_bytes);
	r->busies_max = bw_context_streams_max(ctx);
	r->streams_first = r->streams_last = BW_RESP__NO_SLOT;
	bw_resp__index_commands(r);
	bw_resp__stats_reset(r);
	r->started_at = r->rates_at = bw_context_now(ctx);
	resync(r, r->started_at);
	bw_resp__set_now(r, r->started_at);
	return 0;
}

static void measure_rates(struct bw_resp *r, bw_ns now)
{
	const struct bw_resp__rates counts = { r->commands, r->bytes_in, r->bytes_out };
	bw_ns took = now - r->rates_at;

	r->rates.commands = (counts.commands - r->rates_from.commands) * BW_NS_PER_SEC / took;
	r->rates.bytes_in = (counts.bytes_in - r->rates_from.bytes_in) * BW_NS_PER_SEC / took;
	r->rates.bytes_out = (counts.bytes_out - r->rates_from.bytes_out) * BW_NS_PER_SEC / took;
	r->rates_from = counts;
	r->rates_at = now;
}

void bw_resp__tick(struct bw_context *ctx, bw_ns now)
{
	struct bw_resp *r = bw_resp__of(ctx);

	if (now >= r->tick_at) {
		r->tick_at = now + TICK_NS;
		if (now >= r->resync_at)
			resync(r, now);
		r->memory_peak_bytes = BW_MAX(r->memory_peak_bytes, bw_resp__slab_used_bytes(&r->store.slab));
		if (now - r->rates_at >= BW_NS_PER_SEC)
			measure_rates(r, now);
		warm_ahead(r);
	}
	if (now < r->sweep.next_at && !r->sweep.is_behind)
		return;
	bw_resp__set_now(r, now);
	bw_resp__sweep_turn(&r->sweep, &r->store, now);
	/* Ticks come once a turn, and turns rarely where there is nothing to do: mail is something to do. */
	if (r->sweep.is_behind && !r->is_wake_out) {
		r->is_wake_out = true;
		bw_mail_post(ctx, r->worker, &r->wake);
	}
}

size_t bw_resp__stats(const struct bw_context *ctx, char *out, size_t out_bytes)
{
	const struct bw_resp *r = bw_context_peer_state(ctx, bw_context_worker(ctx));
	const struct {
		const char *name;
		uint64_t value;
	} lines[] = {
		{ "commands", r->commands },
		{ "errors", r->errors },
		{ "protocol_errors", r->protocol_errors },
		{ "connections", r->connections },
		{ "stalled", r->stalled },
		{ "denied", r->denied },
		{ "hits", r->store.hits },
		{ "misses", r->store.misses },
		{ "keys", r->store.keys },
		{ "expiring", r->store.expiring },
		{ "payload_bytes", r->store.payload_bytes },
		{ "memory_bytes", bw_resp__slab_used_bytes(&r->store.slab) },
		{ "staged_bytes", r->store.staged_bytes },
		{ "evicted", r->store.evicted },
		{ "expired", r->store.expired },
		{ "mails", r->mails },
	};
	size_t len = 0;

	for (size_t i = 0; i < BW_ARRAY_LEN(lines); i++) {
		int n = snprintf(out + len, out_bytes - len, "%s %llu\n", lines[i].name,
			(unsigned long long)lines[i].value);

		if ((size_t)n >= out_bytes - len)
			break;
		len += (size_t)n;
	}
	return len;
}
