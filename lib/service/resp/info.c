/* SPDX-License-Identifier: BSD-3-Clause */
/* INFO: what clients and tools ask about the server. */
#include "text.h"

#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#define add bw_resp__text_add
typedef bw_resp__ull ull;

const char *const bw_resp__policy_names[BW_RESP_POLICIES] = {
	[BW_RESP_ALLKEYS_LRU] = "allkeys-lru",
	[BW_RESP_ALLKEYS_LFU] = "allkeys-lfu",
	[BW_RESP_VOLATILE_TTL] = "volatile-ttl",
	[BW_RESP_NOEVICTION] = "noeviction",
};

/* All workers', as far as they are as they stand: levels, and what RESETSTAT sets back itself. */
struct levels {
	uint64_t connections, keys, expiring, used, payload, staged, maxmemory, calls, peak;
	struct bw_resp__rates rates;
};

static struct bw_resp__totals totals_of(const struct bw_resp *r)
{
	return (struct bw_resp__totals){
		.connections = r->connections_total,
		.denied = r->denied,
		.hits = r->store.hits,
		.misses = r->store.misses,
		.evicted = r->store.evicted,
		.expired = r->store.expired,
		.errors = r->errors,
		.bytes_in = r->bytes_in,
		.bytes_out = r->bytes_out,
	};
}

void bw_resp__reset_stats(struct bw_resp *r)
{
	r->reset = totals_of(r);
	bw_resp__stats_reset(r);
}

/* Other workers' figures are read as they are: each is written by its owner alone. */
static void sum_workers(const struct bw_resp *r, struct levels *level, struct bw_resp__totals *sum)
{
	memset(level, 0, sizeof(*level));
	memset(sum, 0, sizeof(*sum));
	for (unsigned i = 0; i < r->workers; i++) {
		const struct bw_resp *peer = bw_context_peer_state(r->ctx, i);
		struct bw_resp__totals now = totals_of(peer);

		sum->connections += now.connections - peer->reset.connections;
		sum->denied += now.denied - peer->reset.denied;
		sum->hits += now.hits - peer->reset.hits;
		sum->misses += now.misses - peer->reset.misses;
		sum->evicted += now.evicted - peer->reset.evicted;
		sum->expired += now.expired - peer->reset.expired;
		sum->errors += now.errors - peer->reset.errors;
		sum->bytes_in += now.bytes_in - peer->reset.bytes_in;
		sum->bytes_out += now.bytes_out - peer->reset.bytes_out;
		level->connections += peer->connections;
		level->keys += peer->store.keys;
		level->expiring += peer->store.expiring;
		level->used += bw_resp__slab_used_bytes(&peer->store.slab);
		level->payload += peer->store.payload_bytes;
		level->staged += peer->store.staged_bytes;
		level->maxmemory += peer->store.bytes_wanted;
		level->rates.commands += peer->rates.commands;
		level->rates.bytes_in += peer->rates.bytes_in;
		level->rates.bytes_out += peer->rates.bytes_out;
		level->peak += BW_MAX(peer->memory_peak_bytes, bw_resp__slab_used_bytes(&peer->store.slab));
		level->calls += bw_resp__calls(peer);
	}
}

struct info {
	struct bw_resp__text *t;
	const struct bw_resp__call *call;
	struct levels level;
	struct bw_resp__totals sum;
};

static void info_server(const struct info *info)
{
	const struct bw_resp *r = info->call->r;
	uint64_t now = bw_context_now(r->ctx), uptime = (now - r->started_at) / BW_NS_PER_SEC;
	const struct bw_flow *flow = bw_stream_flow(info->call->stream);

	add(info->t, "# Server\r\nredis_version:%s\r\nserver_name:barewire\r\nbarewire_version:%s\r\n",
		BW_RESP__VERSION, BW_VERSION);
	add(info->t, "redis_mode:standalone\r\nos:Linux\r\narch_bits:64\r\nprocess_id:%d\r\nrun_id:%s\r\n",
		(int)getpid(), r->conf->run_id);
	add(info->t,
		"tcp_port:%u\r\nserver_time_usec:%llu\r\nuptime_in_seconds:%llu\r\nuptime_in_days:%llu\r\n",
		__builtin_bswap16(flow->local_port_be), (ull)((now + r->wall_ns) / 1000), (ull)uptime,
		(ull)(uptime / 86400));
	add(info->t, "workers:%u\r\nexecutable:barewire\r\nconfig_file:\r\n", r->workers);
}

static void info_clients(const struct info *info)
{
	add(info->t, "# Clients\r\nconnected_clients:%llu\r\ncluster_connections:0\r\nblocked_clients:0\r\n",
		(ull)info->level.connections);
	add(info->t, "tracking_clients:0\r\nclients_in_timeout_table:0\r\n");
}

/* As Redis does: "1.50M". */
static void add_human(struct bw_resp__text *t, const char *name, uint64_t bytes)
{
	static const char units[] = "BKMGT";
	double value = (double)bytes;
	unsigned unit = 0;

	for (; value >= 1024 && unit < sizeof(units) - 2; unit++)
		value /= 1024;
	add(t, "%s:%.*f%c\r\n", name, unit > 0 ? 2 : 0, value, units[unit]);
}

static void info_memory(const struct info *info)
{
	const struct levels *level = &info->level;

	add(info->t, "# Memory\r\nused_memory:%llu\r\n", (ull)level->used);
	add_human(info->t, "used_memory_human", level->used);
	add(info->t, "used_memory_peak:%llu\r\n", (ull)level->peak);
	add_human(info->t, "used_memory_peak_human", level->peak);
	add(info->t, "used_memory_dataset:%llu\r\nused_memory_staged:%llu\r\nmaxmemory:%llu\r\n",
		(ull)level->payload, (ull)level->staged, (ull)level->maxmemory);
	add_human(info->t, "maxmemory_human", level->maxmemory);
	add(info->t, "maxmemory_policy:%s\r\n", bw_resp__policy_names[info->call->r->store.policy]);
}

static void info_persistence(const struct info *info)
{
	add(info->t, "# Persistence\r\nloading:0\r\nasync_loading:0\r\nrdb_changes_since_last_save:0\r\n");
	add(info->t, "rdb_bgsave_in_progress:0\r\naof_enabled:0\r\naof_rewrite_in_progress:0\r\n");
}

static void info_stats(const struct info *info)
{
	const struct bw_resp__totals *sum = &info->sum;
	const struct bw_resp__rates *rates = &info->level.rates;

	add(info->t, "# Stats\r\ntotal_connections_received:%llu\r\ntotal_commands_processed:%llu\r\n",
		(ull)sum->connections, (ull)info->level.calls - 1); /* INFO has not ended yet */
	add(info->t,
		"instantaneous_ops_per_sec:%llu\r\ntotal_net_input_bytes:%llu\r\ntotal_net_output_bytes:%llu\r\n",
		(ull)rates->commands, (ull)sum->bytes_in, (ull)sum->bytes_out);
	add(info->t, "instantaneous_input_kbps:%.2f\r\ninstantaneous_output_kbps:%.2f\r\n",
		(double)rates->bytes_in / 1024, (double)rates->bytes_out / 1024);
	add(info->t, "rejected_connections:%llu\r\nexpired_keys:%llu\r\n", (ull)sum->denied,
		(ull)sum->expired);
	add(info->t, "evicted_keys:%llu\r\nkeyspace_hits:%llu\r\nkeyspace_misses:%llu\r\n", (ull)sum->evicted,
		(ull)sum->hits, (ull)sum->misses);
	add(info->t, "pubsub_channels:0\r\npubsub_patterns:0\r\ntotal_error_replies:%llu\r\n",
		(ull)sum->errors);
}

static void info_replication(const struct info *info)
{
	add(info->t, "# Replication\r\nrole:master\r\nconnected_slaves:0\r\nmaster_repl_offset:0\r\n");
}

static void info_cpu(const struct info *info)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	add(info->t, "# CPU\r\nused_cpu_sys:%lld.%06ld\r\nused_cpu_user:%lld.%06ld\r\n",
		(long long)usage.ru_stime.tv_sec, (long)usage.ru_stime.tv_usec,
		(long long)usage.ru_utime.tv_sec, (long)usage.ru_utime.tv_usec);
}

static void info_modules(const struct info *info)
{
	add(info->t, "# Modules\r\n");
}

static void info_commandstats(const struct info *info)
{
	add(info->t, "# Commandstats\r\n");
	bw_resp__add_commandstats(info->t, info->call);
}

static void info_errorstats(const struct info *info)
{
	add(info->t, "# Errorstats\r\n");
	bw_resp__add_errorstats(info->t, info->call->r);
}

/* As with Redis's `latency-tracking no`. */
static void info_latencystats(const struct info *info)
{
	add(info->t, "# Latencystats\r\n");
}

static void info_cluster(const struct info *info)
{
	add(info->t, "# Cluster\r\ncluster_enabled:0\r\n");
}

static void info_keyspace(const struct info *info)
{
	add(info->t, "# Keyspace\r\n");
	if (info->level.keys > 0)
		add(info->t, "db0:keys=%llu,expires=%llu,avg_ttl=0\r\n", (ull)info->level.keys,
			(ull)info->level.expiring);
}

void bw_resp__run_info(struct bw_resp__call *call)
{
	static const struct {
		const char *name;
		void (*write)(const struct info *info);
		bool is_default;
	} sections[] = {
		{ "server", info_server, true },
		{ "clients", info_clients, true },
		{ "memory", info_memory, true },
		{ "persistence", info_persistence, true },
		{ "stats", info_stats, true },
		{ "replication", info_replication, true },
		{ "cpu", info_cpu, true },
		{ "modules", info_modules, true },
		{ "commandstats", info_commandstats, false },
		{ "errorstats", info_errorstats, true },
		{ "latencystats", info_latencystats, false },
		{ "cluster", info_cluster, true },
		{ "keyspace", info_keyspace, true },
	};
	struct bw_resp__text t = bw_resp__text_begin(call);
	struct info info = { .t = &t, .call = call };

	sum_workers(call->r, &info.level, &info.sum);
	for (unsigned i = 0; i < BW_ARRAY_LEN(sections); i++) {
		bool is_wanted = call->argc == 1 && sections[i].is_default;

		for (uint32_t a = 1; a < call->argc && !is_wanted; a++)
			is_wanted = bw_resp__arg_is(&call->argv[a], sections[i].name) ||
				    bw_resp__arg_is(&call->argv[a], "all") ||
				    (sections[i].is_default && bw_resp__arg_is(&call->argv[a], "default")) ||
				    bw_resp__arg_is(&call->argv[a], "everything");
		if (!is_wanted)
			continue;
		if (t.len > 0)
			add(&t, "\r\n");
		sections[i].write(&info);
	}
	bw_resp__reply_verbatim(call, t.begin, (uint32_t)t.len);
}
