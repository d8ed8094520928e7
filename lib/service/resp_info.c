/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What clients ask about the server and their connection: INFO, COMMAND, CLIENT, CONFIG, HELLO, AUTH, RESET. Texts
 * are built in the worker's scratch. Nothing here is on a fast path.
 */
#include "resp_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

/* ---- a text in the scratch, behind an inline command's arguments ---- */

struct text {
	char *begin;
	size_t len, room;
};

static struct text text_begin(struct bw_resp__call *call)
{
	return (struct text){ .begin = (char *)call->r->scratch + call->r->limits.inline_bytes_max,
		.room = BW_RESP__SCRATCH_BYTES };
}

__attribute__((format(printf, 2, 3))) static void add(struct text *t, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(t->begin + t->len, t->room - t->len, format, args);
	va_end(args);
	/* The scratch holds several times the longest text there is. */
	BW_ASSERT_LT(n, t->room - t->len);
	t->len += (size_t)n;
}

static void add_bulk(struct text *t, const char *s)
{
	add(t, "$%zu\r\n%s\r\n", strlen(s), s);
}

static void reply_as_is(struct bw_resp__call *call, const struct text *t)
{
	bw_resp__reply_framed(call, t->begin, (uint32_t)t->len);
}

void bw_resp__reply_unknown_subcommand(struct bw_resp__call *call)
{
	char upper[16];
	unsigned i;

	for (i = 0; call->command->name[i] != '\0' && i < sizeof(upper) - 1; i++)
		upper[i] = (char)(call->command->name[i] & ~0x20);
	upper[i] = '\0';
	bw_resp__reply_error(call, "ERR unknown subcommand '%.*s'. Try %s HELP.",
		(int)BW_MIN(call->argv[1].len, 128u), (const char *)call->argv[1].data, upper);
}

/* Redis names a subcommand "client|setname". */
struct subcommand {
	const char *name;
	int arity; /* with both names; negative: at least */
	void (*run)(struct bw_resp__call *call);
};

static void run_subcommand(struct bw_resp__call *call, const struct subcommand *subs, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		char name[48];

		if (!bw_resp__arg_is(&call->argv[1], subs[i].name))
			continue;
		if (subs[i].arity > 0 ? call->argc == (uint32_t)subs[i].arity
				      : call->argc >= (uint32_t)-subs[i].arity) {
			subs[i].run(call);
			return;
		}
		snprintf(name, sizeof(name), "%s|%s", call->command->name, subs[i].name);
		bw_resp__reply_arity(call, name);
		return;
	}
	bw_resp__reply_unknown_subcommand(call);
}

static void reply_help(struct bw_resp__call *call, const char *const *lines, unsigned count)
{
	struct text t = text_begin(call);

	add(&t, "*%u\r\n", count);
	for (unsigned i = 0; i < count; i++)
		add(&t, "+%s\r\n", lines[i]);
	reply_as_is(call, &t);
}

/* ---- INFO ---- */

/* Other workers' figures are read as they are: each is written by its owner alone. */
struct totals {
	uint64_t commands, connections, connections_total, hits, misses, keys, expiring, used, payload,
		staged;
	uint64_t evicted, expired, errors;
};

static struct totals sum_workers(const struct bw_resp *r)
{
	struct totals sum = { 0 };

	for (unsigned i = 0; i < r->workers; i++) {
		const struct bw_resp *peer = bw_context_peer_state(r->ctx, i);

		sum.commands += peer->commands;
		sum.connections += peer->connections;
		sum.connections_total += peer->connections_total;
		sum.hits += peer->store.hits;
		sum.misses += peer->store.misses;
		sum.keys += peer->store.keys;
		sum.expiring += peer->store.expiring;
		sum.used += bw_resp__slab_used_bytes(&peer->store.slab);
		sum.payload += peer->store.payload_bytes;
		sum.staged += peer->store.staged_bytes;
		sum.evicted += peer->store.evicted;
		sum.expired += peer->store.expired;
		sum.errors += peer->errors;
	}
	return sum;
}

typedef unsigned long long ull;

static const char *policy(const struct bw_resp *r)
{
	return r->conf->evicts ? "allkeys-lru" : "noeviction";
}

static void info_server(struct text *t, struct bw_resp__call *call, const struct totals *sum)
{
	const struct bw_resp *r = call->r;
	uint64_t now = bw_context_now(r->ctx), uptime = (now - r->started_at) / BW_NS_PER_SEC;

	add(t, "# Server\r\nredis_version:%s\r\nserver_name:barewire\r\nbarewire_version:%s\r\n",
		BW_RESP__VERSION, BW_VERSION);
	add(t, "redis_mode:standalone\r\nos:Linux\r\narch_bits:64\r\nprocess_id:%d\r\ntcp_port:%u\r\n",
		(int)getpid(),
		call->stream != NULL ? __builtin_bswap16(bw_stream_flow(call->stream)->local_port_be) : 0);
	add(t, "server_time_usec:%llu\r\nuptime_in_seconds:%llu\r\nuptime_in_days:%llu\r\nworkers:%u\r\n",
		(ull)((now + r->wall_ns) / 1000), (ull)uptime, (ull)(uptime / 86400), r->workers);
}

static void info_clients(struct text *t, struct bw_resp__call *call, const struct totals *sum)
{
	add(t, "# Clients\r\nconnected_clients:%llu\r\nblocked_clients:0\r\n", (ull)sum->connections);
}

static void info_memory(struct text *t, struct bw_resp__call *call, const struct totals *sum)
{
	add(t, "# Memory\r\nused_memory:%llu\r\nused_memory_dataset:%llu\r\nused_memory_staged:%llu\r\n",
		(ull)sum->used, (ull)sum->payload, (ull)sum->staged);
	add(t, "maxmemory:%llu\r\nmaxmemory_policy:%s\r\n", (ull)call->r->conf->memory_bytes_max,
		policy(call->r));
}

static void info_persistence(struct text *t, struct bw_resp__call *call, const struct totals *sum)
{
	add(t, "# Persistence\r\nloading:0\r\nrdb_bgsave_in_progress:0\r\naof_enabled:0\r\n");
}

static void info_stats(struct text *t, struct bw_resp__call *call, const struct totals *sum)
{
	add(t, "# Stats\r\ntotal_connections_received:%llu\r\ntotal_commands_processed:%llu\r\n",
		(ull)sum->connections_total, (ull)sum->commands);
	add(t, "expired_keys:%llu\r\nevicted_keys:%llu\r\nkeyspace_hits:%llu\r\nkeyspace_misses:%llu\r\n",
		(ull)sum->expired, (ull)sum->evicted, (ull)sum->hits, (ull)sum->misses);
	add(t, "total_error_replies:%llu\r\n", (ull)sum->errors);
}

static void info_replication(struct text *t, struct bw_resp__call *call, const struct totals *sum)
{
	add(t, "# Replication\r\nrole:master\r\nconnected_slaves:0\r\n");
}

static void info_cluster(struct text *t, struct bw_resp__call *call, const struct totals *sum)
{
	add(t, "# Cluster\r\ncluster_enabled:0\r\n");
}

static void info_keyspace(struct text *t, struct bw_resp__call *call, const struct totals *sum)
{
	add(t, "# Keyspace\r\n");
	if (sum->keys > 0)
		add(t, "db0:keys=%llu,expires=%llu,avg_ttl=0\r\n", (ull)sum->keys, (ull)sum->expiring);
}

void bw_resp__run_info(struct bw_resp__call *call)
{
	static const struct {
		const char *name;
		void (*write)(struct text *t, struct bw_resp__call *call, const struct totals *sum);
	} sections[] = {
		{ "server", info_server },
		{ "clients", info_clients },
		{ "memory", info_memory },
		{ "persistence", info_persistence },
		{ "stats", info_stats },
		{ "replication", info_replication },
		{ "cluster", info_cluster },
		{ "keyspace", info_keyspace },
	};
	struct totals sum = sum_workers(call->r);
	struct text t = text_begin(call);

	for (unsigned i = 0; i < BW_ARRAY_LEN(sections); i++) {
		bool is_wanted = call->argc == 1;

		for (uint32_t a = 1; a < call->argc && !is_wanted; a++)
			is_wanted = bw_resp__arg_is(&call->argv[a], sections[i].name) ||
				    bw_resp__arg_is(&call->argv[a], "all") ||
				    bw_resp__arg_is(&call->argv[a], "default") ||
				    bw_resp__arg_is(&call->argv[a], "everything");
		if (!is_wanted)
			continue;
		if (t.len > 0)
			add(&t, "\r\n");
		sections[i].write(&t, call, &sum);
	}
	bw_resp__reply_bulk(call, t.begin, (uint32_t)t.len);
}

/* ---- COMMAND ---- */

static const char *const flag_names[] = { "write", "readonly", "denyoom", "fast", "admin", "loading", "stale",
	"noscript" };

static void add_command(struct text *t, const struct bw_resp__command *c)
{
	add(t, "*10\r\n");
	add_bulk(t, c->name);
	add(t, ":%d\r\n*%d\r\n", c->arity, __builtin_popcount(c->flags));
	for (unsigned i = 0; i < BW_ARRAY_LEN(flag_names); i++)
		if (c->flags >> i & 1)
			add(t, "+%s\r\n", flag_names[i]);
	/* Access categories, tips, key specifications and subcommands: none. */
	add(t, ":%d\r\n:%d\r\n:%d\r\n*0\r\n*0\r\n*0\r\n*0\r\n", c->first_key, c->last_key, c->key_step);
}

static void add_docs(struct text *t, const struct bw_resp__command *c)
{
	add_bulk(t, c->name);
	add(t, "*6\r\n");
	add_bulk(t, "summary");
	add_bulk(t, c->summary);
	add_bulk(t, "since");
	add_bulk(t, c->since);
	add_bulk(t, "group");
	add_bulk(t, c->group);
}

static void run_command_count(struct bw_resp__call *call)
{
	bw_resp__reply_int(call, bw_resp__command_count);
}

/* Named ones at most as many as there are: so the scratch holds the reply. */
static bool has_too_many_names(struct bw_resp__call *call)
{
	if (call->argc <= 2 + 4 * bw_resp__command_count)
		return false;
	bw_resp__reply_error(call, "ERR too many command names");
	return true;
}

static void run_command_info(struct bw_resp__call *call)
{
	struct text t = text_begin(call);

	if (has_too_many_names(call))
		return;
	if (call->argc <= 2) {
		add(&t, "*%u\r\n", bw_resp__command_count);
		for (unsigned i = 0; i < bw_resp__command_count; i++)
			add_command(&t, &bw_resp__commands[i]);
	} else {
		add(&t, "*%u\r\n", call->argc - 2);
	}
	for (uint32_t i = 2; i < call->argc; i++) {
		const struct bw_resp__command *c =
			bw_resp__find_command(call->r, call->argv[i].data, call->argv[i].len);

		if (c != NULL)
			add_command(&t, c);
		else
			add(&t, "$-1\r\n");
	}
	reply_as_is(call, &t);
}

static void run_command_docs(struct bw_resp__call *call)
{
	struct text t = text_begin(call);
	unsigned count = 0;

	if (has_too_many_names(call))
		return;
	for (uint32_t i = 2; i < call->argc; i++)
		count += bw_resp__find_command(call->r, call->argv[i].data, call->argv[i].len) != NULL;
	add(&t, "*%u\r\n", 2 * (call->argc <= 2 ? bw_resp__command_count : count));
	for (unsigned i = 0; call->argc <= 2 && i < bw_resp__command_count; i++)
		add_docs(&t, &bw_resp__commands[i]);
	for (uint32_t i = 2; i < call->argc; i++) {
		const struct bw_resp__command *c =
			bw_resp__find_command(call->r, call->argv[i].data, call->argv[i].len);

		if (c != NULL)
			add_docs(&t, c);
	}
	reply_as_is(call, &t);
}

static void run_command_list(struct bw_resp__call *call)
{
	struct text t = text_begin(call);

	add(&t, "*%u\r\n", bw_resp__command_count);
	for (unsigned i = 0; i < bw_resp__command_count; i++)
		add_bulk(&t, bw_resp__commands[i].name);
	reply_as_is(call, &t);
}

static void run_command_help(struct bw_resp__call *call)
{
	static const char *const lines[] = { "COMMAND <subcommand> [<arg> ...]. Subcommands are:",
		"(no subcommand): details of all commands.", "COUNT: how many there are.",
		"DOCS [<name> ...]: what they are for.", "INFO [<name> ...]: details of these.",
		"LIST: their names.", "HELP: this text." };

	reply_help(call, lines, BW_ARRAY_LEN(lines));
}

void bw_resp__run_command(struct bw_resp__call *call)
{
	static const struct subcommand subs[] = {
		{ "count", 2, run_command_count },
		{ "docs", -2, run_command_docs },
		{ "help", 2, run_command_help },
		{ "info", -2, run_command_info },
		{ "list", 2, run_command_list },
	};

	if (call->argc == 1)
		run_command_info(call);
	else
		run_subcommand(call, subs, BW_ARRAY_LEN(subs));
}

/* ---- CLIENT ---- */

#define CLIENT_NAME_MAX 256u
#define CLIENT_LIB_MAX  64u

/* One of the texts; *len 0 where it was never said. */
static const char *client_text(const struct bw_resp__conn *conn, unsigned which, uint32_t *len)
{
	const struct bw_resp__client *client;
	uint32_t at = 0;

	*len = 0;
	if (conn->client == NULL)
		return "";
	client = (const struct bw_resp__client *)conn->client->bytes;
	for (unsigned i = 0; i < which; i++)
		at += client->len[i];
	*len = client->len[which];
	return client->texts + at;
}

void bw_resp__client_free(struct bw_resp *r, struct bw_resp__conn *conn)
{
	if (conn->client == NULL)
		return;
	r->clients_bytes -= bw_resp__block_bytes(conn->client);
	bw_resp__chunks_free(&r->store, conn->client);
	conn->client = NULL;
}

/* Replace one of the texts. False after an error reply. */
static bool client_set(struct bw_resp__call *call, unsigned which, const struct bw_resp__arg *arg)
{
	struct bw_resp__chunk *chunk = call->conn->client;
	struct bw_resp *r = call->r;
	_Alignas(struct bw_resp__client) char
		all[sizeof(struct bw_resp__client) + CLIENT_NAME_MAX + 2 * CLIENT_LIB_MAX];
	struct bw_resp__client *client = (struct bw_resp__client *)all;
	char *to = client->texts;
	uint32_t bytes;

	for (unsigned i = 0; i < 3; i++) {
		uint32_t len = arg->len;
		const char *text = i == which ? (const char *)arg->data : client_text(call->conn, i, &len);

		client->len[i] = (uint16_t)len;
		to = mempcpy(to, text, len);
	}
	bytes = (uint32_t)(to - all);
	if (bytes == sizeof(*client)) {
		bw_resp__client_free(r, call->conn);
		return true;
	}
	if (chunk == NULL || chunk->room < bytes) {
		/* They may have an eighth of what is for commands that arrive. */
		chunk = r->clients_bytes < r->store.staged_bytes_max / 8
				? bw_resp__chunk_alloc(&r->store, bytes, true)
				: NULL;
		if (chunk == NULL) {
			bw_resp__reply_oom(call);
			return false;
		}
		bw_resp__client_free(r, call->conn);
		r->clients_bytes += bw_resp__block_bytes(chunk);
		call->conn->client = chunk;
	}
	memcpy(chunk->bytes, all, bytes);
	return true;
}

static bool is_graphic(const struct bw_resp__arg *arg)
{
	for (uint32_t i = 0; i < arg->len; i++)
		if (arg->data[i] < '!' || arg->data[i] > '~')
			return false;
	return true;
}

/* False after an error reply. */
static bool set_name(struct bw_resp__call *call, const struct bw_resp__arg *name)
{
	if (name->len > CLIENT_NAME_MAX) {
		bw_resp__reply_error(call, "ERR Client names are at most %u bytes long.", CLIENT_NAME_MAX);
		return false;
	}
	if (!is_graphic(name)) {
		bw_resp__reply_error(
			call, "ERR Client names cannot contain spaces, newlines or special characters.");
		return false;
	}
	return client_set(call, BW_RESP__CLIENT_NAME, name);
}

static void run_client_setname(struct bw_resp__call *call)
{
	if (set_name(call, &call->argv[2]))
		bw_resp__reply_ok(call);
}

static void run_client_getname(struct bw_resp__call *call)
{
	uint32_t len;
	const char *name = client_text(call->conn, BW_RESP__CLIENT_NAME, &len);

	if (len == 0)
		bw_resp__reply_nil(call);
	else
		bw_resp__reply_bulk(call, name, len);
}

static void run_client_id(struct bw_resp__call *call)
{
	bw_resp__reply_int(call, (int64_t)bw_stream_id(call->stream));
}

static void run_client_setinfo(struct bw_resp__call *call)
{
	const struct bw_resp__arg *value = &call->argv[3];
	bool is_name = bw_resp__arg_is(&call->argv[2], "lib-name");

	if (!is_name && !bw_resp__arg_is(&call->argv[2], "lib-ver")) {
		bw_resp__reply_error(call, "ERR Unrecognized option '%.*s'",
			(int)BW_MIN(call->argv[2].len, 128u), (const char *)call->argv[2].data);
		return;
	}
	if (value->len > CLIENT_LIB_MAX || !is_graphic(value)) {
		bw_resp__reply_error(call, "ERR %s cannot contain spaces, newlines or special characters.",
			is_name ? "lib-name" : "lib-ver");
		return;
	}
	if (client_set(call, is_name ? BW_RESP__CLIENT_LIB_NAME : BW_RESP__CLIENT_LIB_VER, value))
		bw_resp__reply_ok(call);
}

static void add_address(struct text *t, const struct bw_ip *ip, uint16_t port_be)
{
	const uint8_t *b = ip->b;

	if (bw_ip_is_v4(ip)) {
		add(t, "%u.%u.%u.%u:%u", b[12], b[13], b[14], b[15], __builtin_bswap16(port_be));
		return;
	}
	add(t, "[");
	for (unsigned i = 0; i < 16; i += 2)
		add(t, "%s%x", i > 0 ? ":" : "", b[i] << 8 | b[i + 1]);
	add(t, "]:%u", __builtin_bswap16(port_be));
}

/* CLIENT LIST knows the connection that asks: the others are other workers' or not worth a list of their own. */
static void run_client_info(struct bw_resp__call *call)
{
	const char *text[3];
	uint32_t len[3];
	const struct bw_flow *flow = bw_stream_flow(call->stream);
	struct text t = text_begin(call);

	add(&t, "id=%llu addr=", (ull)bw_stream_id(call->stream));
	add_address(&t, &flow->remote, flow->remote_port_be);
	add(&t, " laddr=");
	add_address(&t, &flow->local, flow->local_port_be);
	for (unsigned i = 0; i < 3; i++)
		text[i] = client_text(call->conn, i, &len[i]);
	add(&t, " name=%.*s db=0 resp=2 user=default lib-name=%.*s lib-ver=%.*s\n", (int)len[0], text[0],
		(int)len[1], text[1], (int)len[2], text[2]);
	bw_resp__reply_bulk(call, t.begin, (uint32_t)t.len);
}

static void run_client_help(struct bw_resp__call *call)
{
	static const char *const lines[] = { "CLIENT <subcommand> [<arg> ...]. Subcommands are:",
		"GETNAME: the name of this connection.", "ID: its number.", "INFO: what is known of it.",
		"LIST: the same.", "SETINFO <lib-name | lib-ver> <value>: say what the client is.",
		"SETNAME <name>: name this connection.", "HELP: this text." };

	reply_help(call, lines, BW_ARRAY_LEN(lines));
}

void bw_resp__run_client(struct bw_resp__call *call)
{
	static const struct subcommand subs[] = {
		{ "getname", 2, run_client_getname },
		{ "help", 2, run_client_help },
		{ "id", 2, run_client_id },
		{ "info", 2, run_client_info },
		{ "list", 2, run_client_info },
		{ "setinfo", 4, run_client_setinfo },
		{ "setname", 3, run_client_setname },
	};

	run_subcommand(call, subs, BW_ARRAY_LEN(subs));
}

/* ---- CONFIG ---- */

/* The pattern's next element against a character; *used is its length. `*` is not for here. */
static bool glob_one(const char *p, size_t p_len, char c, size_t *used)
{
	bool is_negated, matches = false;
	size_t i;

	*used = 1;
	if (*p == '?')
		return true;
	if (*p == '\\' && p_len > 1) {
		*used = 2;
		return p[1] == c;
	}
	if (*p != '[')
		return (*p >= 'A' && *p <= 'Z' ? *p | 0x20 : *p) == c;
	is_negated = p_len > 1 && p[1] == '^';
	for (i = 1 + is_negated; i < p_len && p[i] != ']'; i++) {
		char low = p[i], high = p[i];

		if (i + 2 < p_len && p[i + 1] == '-') {
			high = p[i + 2];
			i += 2;
		}
		matches |= c >= low && c <= high;
	}
	*used = BW_MIN(i + 1, p_len);
	return matches != is_negated;
}

/* Redis's glob. Only the last star is ever tried again, so the cost is the product of the lengths. */
static bool glob(const char *p, size_t p_len, const char *s)
{
	const char *after_star = NULL, *retry_at = NULL, *end = p + p_len;
	size_t used;

	while (*s != '\0') {
		if (p < end && *p == '*') {
			after_star = ++p;
			retry_at = s;
		} else if (p < end && glob_one(p, (size_t)(end - p), *s, &used)) {
			p += used;
			s++;
		} else if (after_star != NULL) {
			p = after_star;
			s = ++retry_at;
		} else {
			return false;
		}
	}
	while (p < end && *p == '*')
		p++;
	return p == end;
}

#define CONFIG_COUNT 9

static const char *const config_names[CONFIG_COUNT] = { "appendonly", "databases", "maxmemory",
	"maxmemory-policy", "port", "proto-max-bulk-len", "requirepass", "save", "timeout" };

static void config_value(struct bw_resp__call *call, unsigned index, char *out, size_t out_bytes)
{
	const struct bw_resp *r = call->r;

	out[0] = '\0'; /* save, requirepass: none */
	switch (index) {
	case 0:
		snprintf(out, out_bytes, "no");
		break;
	case 1:
		snprintf(out, out_bytes, "1");
		break;
	case 2:
		snprintf(out, out_bytes, "%llu", (ull)r->conf->memory_bytes_max);
		break;
	case 3:
		snprintf(out, out_bytes, "%s", policy(r));
		break;
	case 4:
		snprintf(
			out, out_bytes, "%u", __builtin_bswap16(bw_stream_flow(call->stream)->local_port_be));
		break;
	case 5:
		snprintf(out, out_bytes, "%u", r->limits.bulk_bytes_max);
		break;
	case 8:
		snprintf(out, out_bytes, "0");
		break;
	}
}

static void run_config_get(struct bw_resp__call *call)
{
	bool is_wanted[CONFIG_COUNT] = { false };
	struct text t = text_begin(call);
	unsigned count = 0;

	/* Four for each name: whoever has more asks for the work, not for the answer. */
	if (call->argc > 2 + 4 * CONFIG_COUNT) {
		bw_resp__reply_error(call, "ERR too many patterns");
		return;
	}
	for (uint32_t a = 2; a < call->argc; a++)
		for (unsigned i = 0; i < CONFIG_COUNT && call->argv[a].len <= 64; i++)
			is_wanted[i] |=
				glob((const char *)call->argv[a].data, call->argv[a].len, config_names[i]);
	for (unsigned i = 0; i < CONFIG_COUNT; i++)
		count += is_wanted[i];
	add(&t, "*%u\r\n", 2 * count);
	for (unsigned i = 0; i < CONFIG_COUNT; i++) {
		char value[32];

		if (!is_wanted[i])
			continue;
		config_value(call, i, value, sizeof(value));
		add_bulk(&t, config_names[i]);
		add_bulk(&t, value);
	}
	reply_as_is(call, &t);
}

static void run_config_set(struct bw_resp__call *call)
{
	const struct bw_resp__arg *name = &call->argv[2];
	unsigned i = 0;

	while (i < CONFIG_COUNT && !bw_resp__arg_is(name, config_names[i]))
		i++;
	if (i == CONFIG_COUNT || call->argc % 2 != 0)
		bw_resp__reply_error(call,
			"ERR Unknown option or number of arguments for CONFIG SET - '%.*s'",
			(int)BW_MIN(name->len, 128u), (const char *)name->data);
	else
		bw_resp__reply_error(call,
			"ERR CONFIG SET failed (possibly related to argument '%s') - can't set immutable config",
			config_names[i]);
}

static void run_config_help(struct bw_resp__call *call)
{
	static const char *const lines[] = { "CONFIG <subcommand> [<arg> ...]. Subcommands are:",
		"GET <pattern> [<pattern> ...]: values of these.",
		"SET <name> <value>: refused: the configuration is read at the start.", "HELP: this text." };

	reply_help(call, lines, BW_ARRAY_LEN(lines));
}

void bw_resp__run_config(struct bw_resp__call *call)
{
	static const struct subcommand subs[] = {
		{ "get", -3, run_config_get },
		{ "help", 2, run_config_help },
		{ "set", -4, run_config_set },
	};

	run_subcommand(call, subs, BW_ARRAY_LEN(subs));
}

/* ---- HELLO, AUTH, RESET ---- */

/* There is one user, "default", who needs no password: any will do, as in Redis. */
static bool is_known_user(const struct bw_resp__arg *user)
{
	return user->len == 7 && memcmp(user->data, "default", 7) == 0;
}

static void reply_wrong_pass(struct bw_resp__call *call)
{
	bw_resp__reply_error(call, "WRONGPASS invalid username-password pair or user is disabled.");
}

void bw_resp__run_auth(struct bw_resp__call *call)
{
	if (call->argc > 3)
		bw_resp__reply_syntax_error(call);
	else if (call->argc == 2)
		bw_resp__reply_error(call,
			"ERR AUTH <password> called without any password configured for the default user. "
			"Are you sure your configuration is correct?");
	else if (is_known_user(&call->argv[1]))
		bw_resp__reply_ok(call);
	else
		reply_wrong_pass(call);
}

void bw_resp__run_hello(struct bw_resp__call *call)
{
	const struct bw_resp__arg *name = NULL;
	struct text t = text_begin(call);
	int64_t version = 2;

	if (call->argc > 1 && !bw_resp__arg_int(&call->argv[1], &version)) {
		bw_resp__reply_error(call, "ERR Protocol version is not an integer or out of range");
		return;
	}
	if (version != 2) {
		bw_resp__reply_error(call, "NOPROTO unsupported protocol version");
		return;
	}
	for (uint32_t i = 2; i < call->argc; i++) {
		const struct bw_resp__arg *arg = &call->argv[i];

		if (bw_resp__arg_is(arg, "auth") && i + 2 < call->argc) {
			if (!is_known_user(&call->argv[i + 1])) {
				reply_wrong_pass(call);
				return;
			}
			i += 2;
		} else if (bw_resp__arg_is(arg, "setname") && i + 1 < call->argc) {
			name = &call->argv[++i];
		} else {
			bw_resp__reply_error(call, "ERR Syntax error in HELLO option '%.*s'",
				(int)BW_MIN(arg->len, 128u), (const char *)arg->data);
			return;
		}
	}
	if (name != NULL && !set_name(call, name))
		return;
	add(&t, "*14\r\n");
	add_bulk(&t, "server");
	add_bulk(&t, "redis");
	add_bulk(&t, "version");
	add_bulk(&t, BW_RESP__VERSION);
	add_bulk(&t, "proto");
	add(&t, ":2\r\n");
	add_bulk(&t, "id");
	add(&t, ":%llu\r\n", (ull)bw_stream_id(call->stream));
	add_bulk(&t, "mode");
	add_bulk(&t, "standalone");
	add_bulk(&t, "role");
	add_bulk(&t, "master");
	add_bulk(&t, "modules");
	add(&t, "*0\r\n");
	reply_as_is(call, &t);
}

void bw_resp__run_reset(struct bw_resp__call *call)
{
	static const struct bw_resp__arg none = { .data = (const uint8_t *)"" };

	/* What the client is it stays. This takes no memory. */
	if (client_set(call, BW_RESP__CLIENT_NAME, &none))
		bw_resp__reply_literal(call, "+RESET\r\n");
}
