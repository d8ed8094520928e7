/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The command table and the look-up of a name, and the commands that concern no key.
 */
#include "internal.h"

#include <stdio.h>

/* ---- without keys ---- */

static void run_ping(struct bw_resp__call *call)
{
	if (call->argc == 1)
		bw_resp__reply_literal(call, "+PONG\r\n");
	else if (call->argc == 2)
		bw_resp__reply_arg(call, &call->argv[1]);
	else
		bw_resp__reply_arity(call, "ping");
}

static void run_echo(struct bw_resp__call *call)
{
	bw_resp__reply_arg(call, &call->argv[1]);
}

static void run_time(struct bw_resp__call *call)
{
	uint64_t us = (bw_context_now(call->r->ctx) + call->r->wall_ns) / 1000;
	char text[96], seconds[24], rest[24];
	int seconds_len = snprintf(seconds, sizeof(seconds), "%llu", (unsigned long long)(us / 1000000));
	int rest_len = snprintf(rest, sizeof(rest), "%llu", (unsigned long long)(us % 1000000));

	bw_resp__reply_text(call, text,
		(uint32_t)snprintf(text, sizeof(text), "*2\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", seconds_len,
			seconds, rest_len, rest));
}

static void run_select(struct bw_resp__call *call)
{
	int64_t index;

	if (!bw_resp__arg_int(&call->argv[1], &index))
		bw_resp__reply_not_an_integer(call);
	else if (index < INT32_MIN || index > INT32_MAX)
		bw_resp__reply_error(call, "ERR value is out of range, value must between %d and %d",
			INT32_MIN, INT32_MAX);
	else if (index != 0)
		bw_resp__reply_error(call, "ERR DB index is out of range"); /* there is one */
	else
		bw_resp__reply_ok(call);
}

void bw_resp__run_quit(struct bw_resp__call *call)
{
	bw_resp__reply_ok(call);
	call->conn->flags |= BW_RESP__CLOSING;
}

/* ---- the table ---- */

#define W  BW_RESP__WRITE
#define R  BW_RESP__READONLY
#define M  BW_RESP__DENYOOM
#define F  BW_RESP__FAST
#define A  BW_RESP__ADMIN
#define L  (BW_RESP__LOADING | BW_RESP__STALE)
#define NS BW_RESP__NOSCRIPT

const struct bw_resp__command bw_resp__commands[] = {
	{ "append", 3, W | M | F, 1, 1, 1, 0, bw_resp__run_append, "string", "2.0.0",
		"Append a value to a key" },
	{ "auth", -2, NS | L | F, 0, 0, 0, 0, bw_resp__run_auth, "connection", "1.0.0",
		"Authenticate to the server" },
	{ "client", -2, 0, 0, 0, 0, BW_RESP__CONTAINER, NULL, "connection", "2.4.0", "Connection commands" },
	{ "command", -1, L, 0, 0, 0, BW_RESP__CONTAINER, bw_resp__run_command_info, "server", "2.8.13",
		"Details of commands" },
	{ "config", -2, 0, 0, 0, 0, BW_RESP__CONTAINER, NULL, "server", "2.0.0", "Configuration parameters" },
	{ "dbsize", 1, R | F, 0, 0, 0, BW_RESP__DBSIZE, NULL, "server", "1.0.0", "The number of keys" },
	{ "decr", 2, W | M | F, 1, 1, 1, 0, bw_resp__run_decr, "string", "1.0.0",
		"Subtract one from a number" },
	{ "decrby", 3, W | M | F, 1, 1, 1, 0, bw_resp__run_decrby, "string", "1.0.0",
		"Subtract from a number" },
	{ "del", -2, W, 1, -1, 1, BW_RESP__DEL, NULL, "generic", "1.0.0", "Delete keys" },
	{ "echo", 2, L | F, 0, 0, 0, 0, run_echo, "connection", "1.0.0", "Echo the given string" },
	{ "exists", -2, R | F, 1, -1, 1, BW_RESP__EXISTS, NULL, "generic", "1.0.0", "Count keys that exist" },
	{ "expire", -3, W | F, 1, 1, 1, 0, bw_resp__run_expire, "generic", "1.0.0",
		"Set a time to live in seconds" },
	{ "expireat", -3, W | F, 1, 1, 1, 0, bw_resp__run_expireat, "generic", "1.2.0",
		"Set when a key expires, in seconds" },
	{ "expiretime", 2, R | F, 1, 1, 1, 0, bw_resp__run_expiretime, "generic", "7.0.0",
		"When a key expires, in seconds" },
	{ "flushall", -1, W, 0, 0, 0, BW_RESP__FLUSH, NULL, "server", "1.0.0", "Remove all keys" },
	{ "flushdb", -1, W, 0, 0, 0, BW_RESP__FLUSH, NULL, "server", "1.0.0", "Remove all keys" },
	{ "get", 2, R | F, 1, 1, 1, 0, bw_resp__run_get, "string", "1.0.0", "Get the value of a key" },
	{ "getdel", 2, W | F, 1, 1, 1, 0, bw_resp__run_getdel, "string", "6.2.0",
		"Get the value of a key and delete it" },
	{ "getex", -2, W | F, 1, 1, 1, 0, bw_resp__run_getex, "string", "6.2.0",
		"Get the value of a key and set its time to live" },
	{ "getrange", 4, R, 1, 1, 1, 0, bw_resp__run_getrange, "string", "2.4.0", "Get a part of a value" },
	{ "getset", 3, W | M | F, 1, 1, 1, 0, bw_resp__run_getset, "string", "1.0.0",
		"Set a value and return the old one" },
	{ "hello", -1, NS | L | F, 0, 0, 0, 0, bw_resp__run_hello, "connection", "6.0.0",
		"Greet the server" },
	{ "incr", 2, W | M | F, 1, 1, 1, 0, bw_resp__run_incr, "string", "1.0.0", "Add one to a number" },
	{ "incrby", 3, W | M | F, 1, 1, 1, 0, bw_resp__run_incrby, "string", "1.0.0", "Add to a number" },
	{ "incrbyfloat", 3, W | M | F, 1, 1, 1, 0, bw_resp__run_incrbyfloat, "string", "2.6.0",
		"Add a fraction to a number" },
	{ "info", -1, L, 0, 0, 0, 0, bw_resp__run_info, "server", "1.0.0", "Information and statistics" },
	{ "keys", 2, R, 0, 0, 0, BW_RESP__KEYS, NULL, "generic", "1.0.0", "The keys that match a pattern" },
	{ "memory", -2, 0, 0, 0, 0, BW_RESP__CONTAINER, NULL, "server", "4.0.0", "What keys cost" },
	{ "mget", -2, R | F, 1, -1, 1, BW_RESP__MGET, NULL, "string", "1.0.0",
		"Get the values of several keys" },
	{ "mset", -3, W | M, 1, -1, 2, BW_RESP__MSET, NULL, "string", "1.0.1", "Set several keys" },
	{ "msetnx", -3, W | M, 1, -1, 2, BW_RESP__MSETNX, bw_resp__run_msetnx, "string", "1.0.1",
		"Set several keys if none of them exists" },
	{ "object", -2, 0, 0, 0, 0, BW_RESP__CONTAINER, NULL, "generic", "2.2.3", "What is known of a key" },
	{ "persist", 2, W | F, 1, 1, 1, 0, bw_resp__run_persist, "generic", "2.2.0",
		"Remove a time to live" },
	{ "pexpire", -3, W | F, 1, 1, 1, 0, bw_resp__run_pexpire, "generic", "2.6.0",
		"Set a time to live in milliseconds" },
	{ "pexpireat", -3, W | F, 1, 1, 1, 0, bw_resp__run_pexpireat, "generic", "2.6.0",
		"Set when a key expires, in ms" },
	{ "pexpiretime", 2, R | F, 1, 1, 1, 0, bw_resp__run_pexpiretime, "generic", "7.0.0",
		"When a key expires, in ms" },
	{ "ping", -1, F, 0, 0, 0, 0, run_ping, "connection", "1.0.0", "Ping the server" },
	{ "psetex", 4, W | M, 1, 1, 1, 0, bw_resp__run_psetex, "string", "2.6.0",
		"Set a value with a time to live in ms" },
	{ "pttl", 2, R | F, 1, 1, 1, 0, bw_resp__run_pttl, "generic", "2.6.0",
		"The time to live in milliseconds" },
	{ "quit", -1, NS | L | F, 0, 0, 0, 0, bw_resp__run_quit, "connection", "1.0.0",
		"Close the connection" },
	{ "randomkey", 1, R, 0, 0, 0, BW_RESP__RANDOMKEY, NULL, "generic", "1.0.0", "Any one key" },
	{ "rename", 3, W, 1, 2, 1, BW_RESP__RENAME, bw_resp__run_rename, "generic", "1.0.0",
		"Give a value another key" },
	{ "renamenx", 3, W | F, 1, 2, 1, BW_RESP__RENAME, bw_resp__run_renamenx, "generic", "1.0.0",
		"Give a value another key if that does not exist" },
	{ "reset", 1, NS | L | F, 0, 0, 0, 0, bw_resp__run_reset, "connection", "6.2.0",
		"Reset the connection" },
	{ "scan", -2, R, 0, 0, 0, BW_RESP__SCAN, bw_resp__run_scan, "generic", "2.8.0",
		"A part of the keys, from a cursor on" },
	{ "select", 2, L | F, 0, 0, 0, 0, run_select, "connection", "1.0.0",
		"Select a database: there is one, 0" },
	{ "set", -3, W | M, 1, 1, 1, 0, bw_resp__run_set, "string", "1.0.0", "Set the value of a key" },
	{ "setex", 4, W | M, 1, 1, 1, 0, bw_resp__run_setex, "string", "2.0.0",
		"Set a value with a time to live in seconds" },
	{ "setnx", 3, W | M | F, 1, 1, 1, 0, bw_resp__run_setnx, "string", "1.0.0",
		"Set a value if the key does not exist" },
	{ "setrange", 4, W | M, 1, 1, 1, 0, bw_resp__run_setrange, "string", "2.2.0",
		"Overwrite a part of a value" },
	{ "strlen", 2, R | F, 1, 1, 1, 0, bw_resp__run_strlen, "string", "2.2.0", "The length of a value" },
	{ "substr", 4, R, 1, 1, 1, 0, bw_resp__run_getrange, "string", "1.0.0", "Get a part of a value" },
	{ "time", 1, L | F, 0, 0, 0, 0, run_time, "server", "2.6.0", "The server's time" },
	{ "touch", -2, R | F, 1, -1, 1, BW_RESP__TOUCH, NULL, "generic", "3.2.1",
		"Use keys without reading" },
	{ "ttl", 2, R | F, 1, 1, 1, 0, bw_resp__run_ttl, "generic", "1.0.0", "The time to live in seconds" },
	{ "type", 2, R | F, 1, 1, 1, 0, bw_resp__run_type, "generic", "1.0.0", "The type of a key's value" },
	{ "unlink", -2, W | F, 1, -1, 1, BW_RESP__DEL, NULL, "generic", "4.0.0", "Delete keys" },
};
const unsigned bw_resp__command_count = BW_ARRAY_LEN(bw_resp__commands);
_Static_assert(BW_ARRAY_LEN(bw_resp__commands) < 128, "the look-up table is at most half full");

const struct bw_resp__command bw_resp__subcommands[] = {
	{ "client|getname", 2, NS | L, 0, 0, 0, 0, bw_resp__run_client_getname, "connection", "2.6.9",
		"The connection's name" },
	{ "client|help", 2, L, 0, 0, 0, 0, bw_resp__run_client_help, "connection", "5.0.0",
		"The subcommands" },
	{ "client|id", 2, NS | L, 0, 0, 0, 0, bw_resp__run_client_id, "connection", "5.0.0",
		"The connection's number" },
	{ "client|info", 2, NS | L, 0, 0, 0, 0, bw_resp__run_client_info, "connection", "6.2.0",
		"What is known of the connection" },
	{ "client|kill", -3, A | NS | L, 0, 0, 0, BW_RESP__TOUR, NULL, "connection", "2.4.0",
		"End connections" },
	{ "client|list", -2, A | NS | L, 0, 0, 0, BW_RESP__TOUR, NULL, "connection", "2.4.0",
		"What is known of all connections" },
	{ "client|no-evict", 3, A | NS | L, 0, 0, 0, 0, bw_resp__run_client_no_evict, "connection", "7.0.0",
		"Ask not to be closed to make room" },
	{ "client|reply", 3, NS | L, 0, 0, 0, 0, bw_resp__run_client_reply, "connection", "3.2.0",
		"Whether commands are answered" },
	{ "client|setinfo", 4, NS | L, 0, 0, 0, 0, bw_resp__run_client_setinfo, "connection", "7.2.0",
		"Say what the client is" },
	{ "client|setname", 3, NS | L, 0, 0, 0, 0, bw_resp__run_client_setname, "connection", "2.6.9",
		"Name the connection" },
	{ "command|count", 2, L, 0, 0, 0, 0, bw_resp__run_command_count, "server", "2.8.13",
		"How many commands there are" },
	{ "command|docs", -2, L, 0, 0, 0, 0, bw_resp__run_command_docs, "server", "7.0.0",
		"What commands are for" },
	{ "command|getkeys", -4, L, 0, 0, 0, 0, bw_resp__run_command_getkeys, "server", "2.8.13",
		"A command's keys" },
	{ "command|getkeysandflags", -4, L, 0, 0, 0, 0, bw_resp__run_command_getkeysandflags, "server",
		"7.0.0", "A command's keys, and what it does with them" },
	{ "command|help", 2, L, 0, 0, 0, 0, bw_resp__run_command_help, "server", "5.0.0", "The subcommands" },
	{ "command|info", -2, L, 0, 0, 0, 0, bw_resp__run_command_info, "server", "2.8.13",
		"Details of commands" },
	{ "command|list", -2, L, 0, 0, 0, 0, bw_resp__run_command_list, "server", "7.0.0",
		"The names of commands" },
	{ "config|get", -3, A | NS | L, 0, 0, 0, 0, bw_resp__run_config_get, "server", "2.0.0",
		"The values of parameters" },
	{ "config|help", 2, L, 0, 0, 0, 0, bw_resp__run_config_help, "server", "5.0.0", "The subcommands" },
	{ "config|resetstat", 2, A | NS | L, 0, 0, 0, BW_RESP__TELL, NULL, "server", "2.0.0",
		"Let the counts of INFO begin anew" },
	{ "config|rewrite", 2, A | NS | L, 0, 0, 0, 0, bw_resp__run_config_rewrite, "server", "2.8.0",
		"Refused: the configuration is the operator's" },
	{ "config|set", -4, A | NS | L, 0, 0, 0, BW_RESP__TELL, NULL, "server", "2.0.0",
		"Set maxmemory or maxmemory-policy" },
	{ "memory|doctor", 2, 0, 0, 0, 0, 0, bw_resp__run_memory_doctor, "server", "4.0.0",
		"What could be wrong with the memory" },
	{ "memory|help", 2, L, 0, 0, 0, 0, bw_resp__run_memory_help, "server", "4.0.0", "The subcommands" },
	{ "memory|usage", -3, R, 2, 2, 1, 0, bw_resp__run_memory_usage, "server", "4.0.0",
		"What a key costs, in bytes" },
	{ "object|encoding", 3, R, 2, 2, 1, 0, bw_resp__run_object_encoding, "generic", "2.2.3",
		"What Redis would keep a value as" },
	{ "object|freq", 3, R, 2, 2, 1, 0, bw_resp__run_object_freq, "generic", "4.0.0",
		"How often a key is used" },
	{ "object|help", 2, L, 0, 0, 0, 0, bw_resp__run_object_help, "generic", "6.2.0", "The subcommands" },
	{ "object|idletime", 3, R, 2, 2, 1, 0, bw_resp__run_object_idletime, "generic", "2.2.3",
		"For how long nobody used a key" },
	{ "object|refcount", 3, R, 2, 2, 1, 0, bw_resp__run_object_refcount, "generic", "2.2.3",
		"How many refer to a value" },
};

const unsigned bw_resp__subcommand_count = BW_ARRAY_LEN(bw_resp__subcommands);
_Static_assert(BW_ARRAY_LEN(bw_resp__subcommands) < BW_RESP__NO_COMMAND - 128, "bw_resp__command_number()");

const struct bw_resp__command *bw_resp__find_subcommand(const struct bw_resp__call *call)
{
	size_t len = strlen(call->command->name);

	for (unsigned i = 0; call->argc > 1 && i < bw_resp__subcommand_count; i++) {
		const char *name = bw_resp__subcommands[i].name;

		if (strncmp(name, call->command->name, len) == 0 && name[len] == '|' &&
			bw_resp__arg_is(&call->argv[1], name + len + 1))
			return &bw_resp__subcommands[i];
	}
	return NULL;
}

/* ---- look-up: the name as two words, letters folded ---- */

struct folded {
	uint64_t low, high;
};

/* Names are letters alone, and only letters fold to letters; so equal after folding is equal but for case. */
static struct folded fold(const uint8_t *name, uint32_t len)
{
	struct folded f = { 0, 0 };

	if (len >= 8) {
		memcpy(&f.low, name, 8);
		memcpy(&f.high, name + len - 8, 8); /* overlaps where it is under 16 */
	} else if (len >= 4) {
		uint32_t first, last;

		memcpy(&first, name, 4);
		memcpy(&last, name + len - 4, 4);
		f.low = first | (uint64_t)last << 32;
	} else {
		for (uint32_t i = 0; i < len; i++)
			f.low |= (uint64_t)name[i] << 8 * i;
		f.low |= 0xffull << 56; /* apart from the four-letter ones */
	}
	f.low |= 0x2020202020202020ull;
	f.high |= 0x2020202020202020ull;
	return f;
}

static uint32_t lookup_slot(struct folded f, uint32_t len)
{
	return (uint32_t)((f.low ^ f.high * 3 ^ len) * 0x9e3779b97f4a7c15ull >> 56);
}

void bw_resp__index_commands(struct bw_resp *r)
{
	for (unsigned i = 0; i < bw_resp__command_count; i++) {
		const char *name = bw_resp__commands[i].name;
		uint32_t len = (uint32_t)strlen(name);
		uint32_t at = lookup_slot(fold((const uint8_t *)name, len), len);

		while (r->lookup[at] != 0)
			at = (at + 1) % BW_ARRAY_LEN(r->lookup);
		r->lookup[at] = (uint8_t)(i + 1);
		r->lookup_name[i] = (struct bw_resp__name){ fold((const uint8_t *)name, len).low,
			fold((const uint8_t *)name, len).high, len };
	}
}

const struct bw_resp__command *bw_resp__find_command(
	const struct bw_resp *r, const uint8_t *name, uint32_t len)
{
	struct folded f;

	if (len == 0 || len > 16)
		return NULL;
	f = fold(name, len);
	for (uint32_t at = lookup_slot(f, len); r->lookup[at] != 0; at = (at + 1) % BW_ARRAY_LEN(r->lookup)) {
		const struct bw_resp__name *n = &r->lookup_name[r->lookup[at] - 1];

		if (n->low == f.low && n->high == f.high && n->len == len)
			return &bw_resp__commands[r->lookup[at] - 1];
	}
	return NULL;
}
