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
	{ "client", -2, 0, 0, 0, 0, BW_RESP__CONTAINER, NULL, "connection", "2.4.0",
		"A container for client connection commands" },
	{ "command", -1, L, 0, 0, 0, BW_RESP__CONTAINER, bw_resp__run_command_info, "server", "2.8.13",
		"Get array of Redis command details" },
	{ "config", -2, 0, 0, 0, 0, BW_RESP__CONTAINER, NULL, "server", "2.0.0",
		"A container for server configuration commands" },
	{ "dbsize", 1, R | F, 0, 0, 0, BW_RESP__DBSIZE, NULL, "server", "1.0.0",
		"Return the number of keys in the selected database" },
	{ "decr", 2, W | M | F, 1, 1, 1, 0, bw_resp__run_decr, "string", "1.0.0",
		"Decrement the integer value of a key by one" },
	{ "decrby", 3, W | M | F, 1, 1, 1, 0, bw_resp__run_decrby, "string", "1.0.0",
		"Decrement the integer value of a key by the given number" },
	{ "del", -2, W, 1, -1, 1, BW_RESP__DEL, NULL, "generic", "1.0.0", "Delete a key" },
	{ "echo", 2, L | F, 0, 0, 0, 0, run_echo, "connection", "1.0.0", "Echo the given string" },
	{ "exists", -2, R | F, 1, -1, 1, BW_RESP__EXISTS, NULL, "generic", "1.0.0",
		"Determine if a key exists" },
	{ "expire", -3, W | F, 1, 1, 1, 0, bw_resp__run_expire, "generic", "1.0.0",
		"Set a key's time to live in seconds" },
	{ "expireat", -3, W | F, 1, 1, 1, 0, bw_resp__run_expireat, "generic", "1.2.0",
		"Set the expiration for a key as a UNIX timestamp" },
	{ "expiretime", 2, R | F, 1, 1, 1, 0, bw_resp__run_expiretime, "generic", "7.0.0",
		"Get the expiration Unix timestamp for a key" },
	{ "flushall", -1, W, 0, 0, 0, BW_RESP__FLUSH, NULL, "server", "1.0.0",
		"Remove all keys from all databases" },
	{ "flushdb", -1, W, 0, 0, 0, BW_RESP__FLUSH, NULL, "server", "1.0.0",
		"Remove all keys from the current database" },
	{ "get", 2, R | F, 1, 1, 1, 0, bw_resp__run_get, "string", "1.0.0", "Get the value of a key" },
	{ "getdel", 2, W | F, 1, 1, 1, 0, bw_resp__run_getdel, "string", "6.2.0",
		"Get the value of a key and delete the key" },
	{ "getex", -2, W | F, 1, 1, 1, 0, bw_resp__run_getex, "string", "6.2.0",
		"Get the value of a key and optionally set its expiration" },
	{ "getrange", 4, R, 1, 1, 1, 0, bw_resp__run_getrange, "string", "2.4.0",
		"Get a substring of the string stored at a key" },
	{ "getset", 3, W | M | F, 1, 1, 1, 0, bw_resp__run_getset, "string", "1.0.0",
		"Set the string value of a key and return its old value" },
	{ "hello", -1, NS | L | F, 0, 0, 0, 0, bw_resp__run_hello, "connection", "6.0.0",
		"Handshake with Redis" },
	{ "incr", 2, W | M | F, 1, 1, 1, 0, bw_resp__run_incr, "string", "1.0.0",
		"Increment the integer value of a key by one" },
	{ "incrby", 3, W | M | F, 1, 1, 1, 0, bw_resp__run_incrby, "string", "1.0.0",
		"Increment the integer value of a key by the given amount" },
	{ "incrbyfloat", 3, W | M | F, 1, 1, 1, 0, bw_resp__run_incrbyfloat, "string", "2.6.0",
		"Increment the float value of a key by the given amount" },
	{ "info", -1, L, 0, 0, 0, 0, bw_resp__run_info, "server", "1.0.0",
		"Get information and statistics about the server" },
	{ "keys", 2, R, 0, 0, 0, BW_RESP__KEYS, NULL, "generic", "1.0.0",
		"Find all keys matching the given pattern" },
	{ "memory", -2, 0, 0, 0, 0, BW_RESP__CONTAINER, NULL, "server", "4.0.0",
		"A container for memory diagnostics commands" },
	{ "mget", -2, R | F, 1, -1, 1, BW_RESP__MGET, NULL, "string", "1.0.0",
		"Get the values of all the given keys" },
	{ "mset", -3, W | M, 1, -1, 2, BW_RESP__MSET, NULL, "string", "1.0.1",
		"Set multiple keys to multiple values" },
	{ "msetnx", -3, W | M, 1, -1, 2, BW_RESP__MSETNX, bw_resp__run_msetnx, "string", "1.0.1",
		"Set multiple keys to multiple values, only if none of the keys exist" },
	{ "object", -2, 0, 0, 0, 0, BW_RESP__CONTAINER, NULL, "generic", "2.2.3",
		"A container for object introspection commands" },
	{ "persist", 2, W | F, 1, 1, 1, 0, bw_resp__run_persist, "generic", "2.2.0",
		"Remove the expiration from a key" },
	{ "pexpire", -3, W | F, 1, 1, 1, 0, bw_resp__run_pexpire, "generic", "2.6.0",
		"Set a key's time to live in milliseconds" },
	{ "pexpireat", -3, W | F, 1, 1, 1, 0, bw_resp__run_pexpireat, "generic", "2.6.0",
		"Set the expiration for a key as a UNIX timestamp specified in milliseconds" },
	{ "pexpiretime", 2, R | F, 1, 1, 1, 0, bw_resp__run_pexpiretime, "generic", "7.0.0",
		"Get the expiration Unix timestamp for a key in milliseconds" },
	{ "ping", -1, F, 0, 0, 0, 0, run_ping, "connection", "1.0.0", "Ping the server" },
	{ "psetex", 4, W | M, 1, 1, 1, 0, bw_resp__run_psetex, "string", "2.6.0",
		"Set the value and expiration in milliseconds of a key" },
	{ "pttl", 2, R | F, 1, 1, 1, 0, bw_resp__run_pttl, "generic", "2.6.0",
		"Get the time to live for a key in milliseconds" },
	{ "quit", -1, NS | L | F, 0, 0, 0, 0, bw_resp__run_quit, "connection", "1.0.0",
		"Close the connection" },
	{ "randomkey", 1, R, 0, 0, 0, BW_RESP__RANDOMKEY, NULL, "generic", "1.0.0",
		"Return a random key from the keyspace" },
	{ "rename", 3, W, 1, 2, 1, BW_RESP__RENAME, bw_resp__run_rename, "generic", "1.0.0", "Rename a key" },
	{ "renamenx", 3, W | F, 1, 2, 1, BW_RESP__RENAME, bw_resp__run_renamenx, "generic", "1.0.0",
		"Rename a key, only if the new key does not exist" },
	{ "reset", 1, NS | L | F, 0, 0, 0, 0, bw_resp__run_reset, "connection", "6.2.0",
		"Reset the connection" },
	{ "scan", -2, R, 0, 0, 0, BW_RESP__SCAN, bw_resp__run_scan, "generic", "2.8.0",
		"Incrementally iterate the keys space" },
	{ "select", 2, L | F, 0, 0, 0, 0, run_select, "connection", "1.0.0",
		"Change the selected database for the current connection" },
	{ "set", -3, W | M, 1, 1, 1, 0, bw_resp__run_set, "string", "1.0.0",
		"Set the string value of a key" },
	{ "setex", 4, W | M, 1, 1, 1, 0, bw_resp__run_setex, "string", "2.0.0",
		"Set the value and expiration of a key" },
	{ "setnx", 3, W | M | F, 1, 1, 1, 0, bw_resp__run_setnx, "string", "1.0.0",
		"Set the value of a key, only if the key does not exist" },
	{ "setrange", 4, W | M, 1, 1, 1, 0, bw_resp__run_setrange, "string", "2.2.0",
		"Overwrite part of a string at key starting at the specified offset" },
	{ "strlen", 2, R | F, 1, 1, 1, 0, bw_resp__run_strlen, "string", "2.2.0",
		"Get the length of the value stored in a key" },
	{ "substr", 4, R, 1, 1, 1, 0, bw_resp__run_getrange, "string", "1.0.0",
		"Get a substring of the string stored at a key" },
	{ "time", 1, L | F, 0, 0, 0, 0, run_time, "server", "2.6.0", "Return the current server time" },
	{ "touch", -2, R | F, 1, -1, 1, BW_RESP__TOUCH, NULL, "generic", "3.2.1",
		"Alters the last access time of a key(s). Returns the number of existing keys specified." },
	{ "ttl", 2, R | F, 1, 1, 1, 0, bw_resp__run_ttl, "generic", "1.0.0",
		"Get the time to live for a key in seconds" },
	{ "type", 2, R | F, 1, 1, 1, 0, bw_resp__run_type, "generic", "1.0.0",
		"Determine the type stored at key" },
	{ "unlink", -2, W | F, 1, -1, 1, BW_RESP__DEL, NULL, "generic", "4.0.0",
		"Delete a key asynchronously in another thread. Otherwise it is just as DEL, but non blocking." },
};
const unsigned bw_resp__command_count = BW_ARRAY_LEN(bw_resp__commands);
_Static_assert(BW_ARRAY_LEN(bw_resp__commands) < 128, "the look-up table is at most half full");

const struct bw_resp__command bw_resp__subcommands[] = {
	{ "client|getname", 2, NS | L, 0, 0, 0, 0, bw_resp__run_client_getname, "connection", "2.6.9",
		"Get the current connection name" },
	{ "client|help", 2, L, 0, 0, 0, 0, bw_resp__run_client_help, "connection", "5.0.0",
		"Show helpful text about the different subcommands" },
	{ "client|id", 2, NS | L, 0, 0, 0, 0, bw_resp__run_client_id, "connection", "5.0.0",
		"Returns the client ID for the current connection" },
	{ "client|info", 2, NS | L, 0, 0, 0, 0, bw_resp__run_client_info, "connection", "6.2.0",
		"Returns information about the current client connection." },
	{ "client|kill", -3, A | NS | L, 0, 0, 0, BW_RESP__TOUR, NULL, "connection", "2.4.0",
		"Kill the connection of a client" },
	{ "client|list", -2, A | NS | L, 0, 0, 0, BW_RESP__TOUR, NULL, "connection", "2.4.0",
		"Get the list of client connections" },
	{ "client|no-evict", 3, A | NS | L, 0, 0, 0, 0, bw_resp__run_client_no_evict, "connection", "7.0.0",
		"Set client eviction mode for the current connection" },
	{ "client|reply", 3, NS | L, 0, 0, 0, 0, bw_resp__run_client_reply, "connection", "3.2.0",
		"Instruct the server whether to reply to commands" },
	{ "client|setinfo", 4, NS | L, 0, 0, 0, 0, bw_resp__run_client_setinfo, "connection", "7.2.0",
		"Say what the client is" },
	{ "client|setname", 3, NS | L, 0, 0, 0, 0, bw_resp__run_client_setname, "connection", "2.6.9",
		"Set the current connection name" },
	{ "command|count", 2, L, 0, 0, 0, 0, bw_resp__run_command_count, "server", "2.8.13",
		"Get total number of Redis commands" },
	{ "command|docs", -2, L, 0, 0, 0, 0, bw_resp__run_command_docs, "server", "7.0.0",
		"Get array of specific Redis command documentation" },
	{ "command|getkeys", -4, L, 0, 0, 0, 0, bw_resp__run_command_getkeys, "server", "2.8.13",
		"Extract keys given a full Redis command" },
	{ "command|getkeysandflags", -4, L, 0, 0, 0, 0, bw_resp__run_command_getkeysandflags, "server",
		"7.0.0", "Extract keys and access flags given a full Redis command" },
	{ "command|help", 2, L, 0, 0, 0, 0, bw_resp__run_command_help, "server", "5.0.0",
		"Show helpful text about the different subcommands" },
	{ "command|info", -2, L, 0, 0, 0, 0, bw_resp__run_command_info, "server", "2.8.13",
		"Get array of specific Redis command details, or all when no argument is given." },
	{ "command|list", -2, L, 0, 0, 0, 0, bw_resp__run_command_list, "server", "7.0.0",
		"Get an array of Redis command names" },
	{ "config|get", -3, A | NS | L, 0, 0, 0, 0, bw_resp__run_config_get, "server", "2.0.0",
		"Get the values of configuration parameters" },
	{ "config|help", 2, L, 0, 0, 0, 0, bw_resp__run_config_help, "server", "5.0.0",
		"Show helpful text about the different subcommands" },
	{ "config|resetstat", 2, A | NS | L, 0, 0, 0, BW_RESP__TELL, NULL, "server", "2.0.0",
		"Reset the stats returned by INFO" },
	{ "config|rewrite", 2, A | NS | L, 0, 0, 0, 0, bw_resp__run_config_rewrite, "server", "2.8.0",
		"Rewrite the configuration file with the in memory configuration" },
	{ "config|set", -4, A | NS | L, 0, 0, 0, BW_RESP__TELL, NULL, "server", "2.0.0",
		"Set configuration parameters to the given values" },
	{ "memory|doctor", 2, 0, 0, 0, 0, 0, bw_resp__run_memory_doctor, "server", "4.0.0",
		"Outputs memory problems report" },
	{ "memory|help", 2, L, 0, 0, 0, 0, bw_resp__run_memory_help, "server", "4.0.0",
		"Show helpful text about the different subcommands" },
	{ "memory|usage", -3, R, 2, 2, 1, 0, bw_resp__run_memory_usage, "server", "4.0.0",
		"Estimate the memory usage of a key" },
	{ "object|encoding", 3, R, 2, 2, 1, 0, bw_resp__run_object_encoding, "generic", "2.2.3",
		"Inspect the internal encoding of a Redis object" },
	{ "object|freq", 3, R, 2, 2, 1, 0, bw_resp__run_object_freq, "generic", "4.0.0",
		"Get the logarithmic access frequency counter of a Redis object" },
	{ "object|help", 2, L, 0, 0, 0, 0, bw_resp__run_object_help, "generic", "6.2.0",
		"Show helpful text about the different subcommands" },
	{ "object|idletime", 3, R, 2, 2, 1, 0, bw_resp__run_object_idletime, "generic", "2.2.3",
		"Get the time since a Redis object was last accessed" },
	{ "object|refcount", 3, R, 2, 2, 1, 0, bw_resp__run_object_refcount, "generic", "2.2.3",
		"Get the number of references to the value of the key" },
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
