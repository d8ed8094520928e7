/* SPDX-License-Identifier: BSD-3-Clause */
/* COMMAND: the table of commands as Redis 7.0 shows it. */
#include "text.h"

#include <stdio.h>

#define DOCS_BYTES_MAX 16384u /* of a command with all its subcommands; CLIENT's are a third of it */
#define TOO_MANY_NAMES "ERR too many command names"

/* In Redis's order. */
static const struct {
	uint8_t flag;
	const char *name;
} flags[] = {
	{ BW_RESP__WRITE, "write" },
	{ BW_RESP__READONLY, "readonly" },
	{ BW_RESP__DENYOOM, "denyoom" },
	{ BW_RESP__ADMIN, "admin" },
	{ BW_RESP__NOSCRIPT, "noscript" },
	{ BW_RESP__LOADING, "loading" },
	{ BW_RESP__STALE, "stale" },
	{ BW_RESP__FAST, "fast" },
};

/* What a command does with its keys, of a key specification. The names are Redis's, in its order. */
enum {
	RO = 1,
	RW = 2,
	OW = 4,
	RM = 8,
	ACCESS = 16,
	UPDATE = 32,
	INSERT = 64,
	DELETE = 128,
	VARIABLE = 256, /* SET: by its options */
};
static const char *const key_flag_names[] = { "RO", "RW", "OW", "RM", "access", "update", "insert", "delete",
	"variable_flags" };

/* Where it is not RO and access. `second`: of the other key, if that is another specification. */
static const struct {
	const char *name;
	uint16_t first, second;
} key_flags[] = {
	{ "append", RW | INSERT, 0 },
	{ "decr", RW | ACCESS | UPDATE, 0 },
	{ "decrby", RW | ACCESS | UPDATE, 0 },
	{ "del", RM | DELETE, 0 },
	{ "exists", RO, 0 },
	{ "expire", RW | UPDATE, 0 },
	{ "expireat", RW | UPDATE, 0 },
	{ "getdel", RW | ACCESS | DELETE, 0 },
	{ "getex", RW | ACCESS | UPDATE, 0 },
	{ "getset", RW | ACCESS | UPDATE, 0 },
	{ "incr", RW | ACCESS | UPDATE, 0 },
	{ "incrby", RW | ACCESS | UPDATE, 0 },
	{ "incrbyfloat", RW | ACCESS | UPDATE, 0 },
	{ "memory|usage", RO, 0 },
	{ "mset", OW | UPDATE, 0 },
	{ "msetnx", OW | INSERT, 0 },
	{ "object|encoding", RO, 0 },
	{ "object|freq", RO, 0 },
	{ "object|idletime", RO, 0 },
	{ "object|refcount", RO, 0 },
	{ "persist", RW | UPDATE, 0 },
	{ "pexpire", RW | UPDATE, 0 },
	{ "pexpireat", RW | UPDATE, 0 },
	{ "psetex", OW | UPDATE, 0 },
	{ "rename", RW | ACCESS | DELETE, OW | UPDATE },
	{ "renamenx", RW | ACCESS | DELETE, OW | INSERT },
	{ "set", RW | ACCESS | UPDATE | VARIABLE, 0 },
	{ "setex", OW | UPDATE, 0 },
	{ "setnx", OW | INSERT, 0 },
	{ "setrange", RW | UPDATE, 0 },
	{ "strlen", RO, 0 },
	{ "touch", RO, 0 },
	{ "type", RO, 0 },
	{ "unlink", RM | DELETE, 0 },
};

static const struct {
	const char *name, *tips[3];
} all_tips[] = {
	{ "client|info", { "nondeterministic_output" } },
	{ "client|list", { "nondeterministic_output" } },
	{ "command", { "nondeterministic_output_order" } },
	{ "command|docs", { "nondeterministic_output_order" } },
	{ "command|info", { "nondeterministic_output_order" } },
	{ "command|list", { "nondeterministic_output_order" } },
	{ "config|set", { "request_policy:all_nodes", "response_policy:all_succeeded" } },
	{ "dbsize", { "request_policy:all_shards", "response_policy:agg_sum" } },
	{ "del", { "request_policy:multi_shard", "response_policy:agg_sum" } },
	{ "exists", { "request_policy:multi_shard", "response_policy:agg_sum" } },
	{ "flushall", { "request_policy:all_shards", "response_policy:all_succeeded" } },
	{ "flushdb", { "request_policy:all_shards", "response_policy:all_succeeded" } },
	{ "info", { "nondeterministic_output", "request_policy:all_shards", "response_policy:special" } },
	{ "keys", { "request_policy:all_shards", "nondeterministic_output_order" } },
	{ "memory|doctor",
		{ "nondeterministic_output", "request_policy:all_shards", "response_policy:special" } },
	{ "mget", { "request_policy:multi_shard" } },
	{ "mset", { "request_policy:multi_shard", "response_policy:all_succeeded" } },
	{ "msetnx", { "request_policy:multi_shard", "response_policy:agg_min" } },
	{ "object|encoding", { "nondeterministic_output" } },
	{ "object|freq", { "nondeterministic_output" } },
	{ "object|idletime", { "nondeterministic_output" } },
	{ "object|refcount", { "nondeterministic_output" } },
	{ "ping", { "request_policy:all_shards", "response_policy:all_succeeded" } },
	{ "pttl", { "nondeterministic_output" } },
	{ "randomkey", { "request_policy:all_shards", "nondeterministic_output" } },
	{ "scan", { "nondeterministic_output", "request_policy:special" } },
	{ "time", { "nondeterministic_output" } },
	{ "touch", { "request_policy:multi_shard", "response_policy:agg_sum" } },
	{ "ttl", { "nondeterministic_output" } },
	{ "unlink", { "request_policy:multi_shard", "response_policy:agg_sum" } },
};

/* ---- what follows from the table ---- */

static bool is_container(const struct bw_resp__command *c)
{
	return c->spread == BW_RESP__CONTAINER && c->run == NULL;
}

/* Of the container `of`? */
static bool is_subcommand_of(const struct bw_resp__command *c, const struct bw_resp__command *of)
{
	size_t len = strlen(of->name);

	return strncmp(c->name, of->name, len) == 0 && c->name[len] == '|';
}

static const char *const category_names[] = { "@keyspace", "@read", "@write", "@string", "@admin", "@fast",
	"@slow", "@dangerous", "@connection" };

/* Access categories as bits, in the order of the names. */
static unsigned categories_of(const struct bw_resp__command *c)
{
	bool is_generic = strcmp(c->group, "generic") == 0 && !is_container(c);
	bool reads = (c->flags & BW_RESP__READONLY) != 0, writes = (c->flags & BW_RESP__WRITE) != 0;
	bool is_admin = (c->flags & BW_RESP__ADMIN) != 0, is_fast = (c->flags & BW_RESP__FAST) != 0;
	bool is_server = strcmp(c->group, "server") == 0;
	bool is_dangerous = is_admin || strcmp(c->name, "info") == 0 || strcmp(c->name, "keys") == 0 ||
			    (is_server && writes);
	bool is_connection = (strcmp(c->group, "connection") == 0 && !is_container(c)) ||
			     strncmp(c->name, "command", 7) == 0;

	return (unsigned)(is_generic || (is_server && (reads || writes) && c->first_key == 0)) |
	       (unsigned)reads << 1 | (unsigned)writes << 2 |
	       (unsigned)(strcmp(c->group, "string") == 0) << 3 | (unsigned)is_admin << 4 |
	       (unsigned)is_fast << 5 | (unsigned)!is_fast << 6 | (unsigned)is_dangerous << 7 |
	       (unsigned)is_connection << 8;
}

/* Of the n-th specification; 0: there is no such. */
static unsigned key_flags_of(const struct bw_resp__command *c, unsigned n)
{
	if (c->first_key == 0)
		return 0;
	for (unsigned i = 0; i < BW_ARRAY_LEN(key_flags); i++)
		if (strcmp(key_flags[i].name, c->name) == 0)
			return n == 0 ? key_flags[i].first : key_flags[i].second;
	return n == 0 ? RO | ACCESS : 0;
}

/* Bits as a set of their names. */
static void add_bits(struct bw_resp__text *t, unsigned bits, const char *const *names)
{
	bw_resp__text_set(t, (size_t)__builtin_popcount(bits));
	for (unsigned i = 0; bits >> i != 0; i++)
		if (bits >> i & 1)
			bw_resp__text_add(t, "+%s\r\n", names[i]);
}

static void add_flags(struct bw_resp__text *t, const struct bw_resp__command *c)
{
	bool comes_before_auth = bw_resp__is_allowed_before_auth(c);

	bw_resp__text_set(t, (size_t)__builtin_popcount(c->flags) + (comes_before_auth ? 2 : 0));
	for (unsigned i = 0; i < BW_ARRAY_LEN(flags); i++)
		if (c->flags & flags[i].flag)
			bw_resp__text_add(t, "+%s\r\n", flags[i].name);
	if (comes_before_auth)
		bw_resp__text_add(t, "+no_auth\r\n+allow_busy\r\n");
}

static void add_tips(struct bw_resp__text *t, const struct bw_resp__command *c)
{
	size_t count = 0;

	for (unsigned i = 0; i < BW_ARRAY_LEN(all_tips); i++) {
		if (strcmp(all_tips[i].name, c->name) != 0)
			continue;
		while (count < 3 && all_tips[i].tips[count] != NULL)
			count++;
		bw_resp__text_set(t, count);
		for (size_t n = 0; n < count; n++)
			bw_resp__text_bulk(t, all_tips[i].tips[n]);
		return;
	}
	bw_resp__text_set(t, 0);
}

static void add_number(struct bw_resp__text *t, const char *name, int value)
{
	bw_resp__text_bulk(t, name);
	bw_resp__text_add(t, ":%d\r\n", value);
}

/* What Redis says about the flags of two. It is a part of the reply, as error texts are. */
static const char *key_notes_of(const struct bw_resp__command *c)
{
	if (strcmp(c->name, "getex") == 0)
		return "RW and UPDATE because it changes the TTL";
	if (strcmp(c->name, "set") == 0)
		return "RW and ACCESS due to the optional `GET` argument";
	return NULL;
}

static void add_key_specs(struct bw_resp__text *t, const struct bw_resp__command *c)
{
	const char *notes = key_notes_of(c);
	unsigned count = 0;

	while (count < 2 && key_flags_of(c, count) != 0)
		count++;
	bw_resp__text_set(t, count);
	for (unsigned n = 0; n < count; n++) {
		/* Two specifications are of one key each. */
		int last = count > 1 || c->last_key == c->first_key ? 0 : -1;

		bw_resp__text_map(t, notes != NULL ? 4 : 3);
		if (notes != NULL) {
			bw_resp__text_bulk(t, "notes");
			bw_resp__text_bulk(t, notes);
		}
		bw_resp__text_bulk(t, "flags");
		add_bits(t, key_flags_of(c, n), key_flag_names);
		bw_resp__text_bulk(t, "begin_search");
		bw_resp__text_map(t, 2);
		bw_resp__text_bulk(t, "type");
		bw_resp__text_bulk(t, "index");
		bw_resp__text_bulk(t, "spec");
		bw_resp__text_map(t, 1);
		add_number(t, "index", c->first_key + (int)n);
		bw_resp__text_bulk(t, "find_keys");
		bw_resp__text_map(t, 2);
		bw_resp__text_bulk(t, "type");
		bw_resp__text_bulk(t, "range");
		bw_resp__text_bulk(t, "spec");
		bw_resp__text_map(t, 3);
		add_number(t, "lastkey", last);
		add_number(t, "keystep", c->key_step);
		add_number(t, "limit", 0);
	}
}

static void add_command(struct bw_resp__text *t, const struct bw_resp__command *c)
{
	unsigned subcommands = 0;

	bw_resp__text_array(t, 10);
	bw_resp__text_bulk(t, c->name);
	bw_resp__text_add(t, ":%d\r\n", c->arity);
	add_flags(t, c);
	bw_resp__text_add(t, ":%d\r\n:%d\r\n:%d\r\n", c->first_key, c->last_key, c->key_step);
	add_bits(t, categories_of(c), category_names);
	add_tips(t, c);
	add_key_specs(t, c);
	for (unsigned i = 0; i < bw_resp__subcommand_count; i++)
		subcommands += is_subcommand_of(&bw_resp__subcommands[i], c);
	bw_resp__text_set(t, subcommands);
	for (unsigned i = 0; i < bw_resp__subcommand_count; i++)
		if (is_subcommand_of(&bw_resp__subcommands[i], c))
			add_command(t, &bw_resp__subcommands[i]);
}

static void add_docs(struct bw_resp__text *t, const struct bw_resp__command *c)
{
	unsigned subcommands = 0;

	for (unsigned i = 0; i < bw_resp__subcommand_count; i++)
		subcommands += is_subcommand_of(&bw_resp__subcommands[i], c);
	bw_resp__text_bulk(t, c->name);
	bw_resp__text_map(t, 3 + bw_resp__manual_pairs(c) + (subcommands > 0));
	bw_resp__text_bulk(t, "summary");
	bw_resp__text_bulk(t, c->summary);
	bw_resp__text_bulk(t, "since");
	bw_resp__text_bulk(t, c->since);
	bw_resp__text_bulk(t, "group");
	bw_resp__text_bulk(t, c->group);
	bw_resp__add_manual(t, c);
	if (subcommands == 0)
		return;
	bw_resp__text_bulk(t, "subcommands");
	bw_resp__text_map(t, subcommands);
	for (unsigned i = 0; i < bw_resp__subcommand_count; i++)
		if (is_subcommand_of(&bw_resp__subcommands[i], c))
			add_docs(t, &bw_resp__subcommands[i]);
}

/* "get" or "client|list". NULL: there is none such. */
static const struct bw_resp__command *find(struct bw_resp__call *call, const struct bw_resp__arg *name)
{
	for (unsigned i = 0; i < bw_resp__subcommand_count; i++)
		if (bw_resp__arg_is(name, bw_resp__subcommands[i].name))
			return &bw_resp__subcommands[i];
	return bw_resp__find_command(call->r, name->data, name->len);
}

/* ---- the subcommands ---- */

void bw_resp__run_command_count(struct bw_resp__call *call)
{
	bw_resp__reply_int(call, bw_resp__command_count);
}

/* Named ones at most as many as there are: so the scratch holds the reply. */
static bool has_too_many_names(struct bw_resp__call *call)
{
	if (call->argc <= 2 + bw_resp__command_count)
		return false;
	bw_resp__reply_error(call, TOO_MANY_NAMES);
	return true;
}

void bw_resp__run_command_info(struct bw_resp__call *call)
{
	struct bw_resp__text t = bw_resp__text_begin(call);

	if (has_too_many_names(call))
		return;
	bw_resp__text_array(&t, call->argc <= 2 ? bw_resp__command_count : call->argc - 2);
	for (unsigned i = 0; call->argc <= 2 && i < bw_resp__command_count; i++)
		add_command(&t, &bw_resp__commands[i]);
	for (uint32_t i = 2; i < call->argc; i++) {
		const struct bw_resp__command *c = find(call, &call->argv[i]);

		if (c != NULL)
			add_command(&t, c);
		else
			bw_resp__text_nil(&t);
	}
	bw_resp__text_reply(call, &t);
}

void bw_resp__run_command_docs(struct bw_resp__call *call)
{
	struct bw_resp__text t = bw_resp__text_begin(call);
	unsigned count = 0;

	if (has_too_many_names(call))
		return;
	for (uint32_t i = 2; i < call->argc; i++)
		count += find(call, &call->argv[i]) != NULL;
	bw_resp__text_map(&t, call->argc <= 2 ? bw_resp__command_count : count);
	for (unsigned i = 0; call->argc <= 2 && i < bw_resp__command_count; i++)
		add_docs(&t, &bw_resp__commands[i]);
	for (uint32_t i = 2; i < call->argc; i++) {
		const struct bw_resp__command *c = find(call, &call->argv[i]);

		if (c == NULL)
			continue;
		if (t.room - t.len < DOCS_BYTES_MAX) { /* a container, again and again */
			bw_resp__reply_error(call, TOO_MANY_NAMES);
			return;
		}
		add_docs(&t, c);
	}
	bw_resp__text_reply(call, &t);
}

/* The n-th of commands and subcommands. */
static const struct bw_resp__command *nth(unsigned n)
{
	return n < bw_resp__command_count ? &bw_resp__commands[n]
					  : &bw_resp__subcommands[n - bw_resp__command_count];
}

static bool is_in_category(const struct bw_resp__command *c, const struct bw_resp__arg *category)
{
	unsigned bits = categories_of(c);

	for (unsigned i = 0; i < BW_ARRAY_LEN(category_names); i++)
		if ((bits >> i & 1) != 0 && bw_resp__arg_is(category, category_names[i] + 1))
			return true;
	return false;
}

/* Without a filter the commands alone; with one, the subcommands too. */
void bw_resp__run_command_list(struct bw_resp__call *call)
{
	bool filters = call->argc == 5 && bw_resp__arg_is(&call->argv[2], "filterby");
	bool by_category = filters && bw_resp__arg_is(&call->argv[3], "aclcat");
	bool by_pattern = filters && bw_resp__arg_is(&call->argv[3], "pattern");
	bool by_module = filters && bw_resp__arg_is(&call->argv[3], "module"); /* of which there are none */
	unsigned all = bw_resp__command_count + (filters ? bw_resp__subcommand_count : 0), count = 0;
	struct bw_resp__text t = bw_resp__text_begin(call);
	bool is_wanted[256];

	if (call->argc > 2 && !by_category && !by_pattern && !by_module) {
		bw_resp__reply_syntax_error(call);
		return;
	}
	for (unsigned i = 0; i < all; i++) {
		is_wanted[i] =
			!filters || (by_category && is_in_category(nth(i), &call->argv[4])) ||
			(by_pattern && call->argv[4].len <= 64 &&
				bw_resp__glob(call->argv[4].data, call->argv[4].len,
					(const uint8_t *)nth(i)->name, (uint32_t)strlen(nth(i)->name), true));
		count += is_wanted[i];
	}
	bw_resp__text_array(&t, count);
	for (unsigned i = 0; i < all; i++)
		if (is_wanted[i])
			bw_resp__text_bulk(&t, nth(i)->name);
	bw_resp__text_reply(call, &t);
}

/* SET says what it does by its options. */
static unsigned key_flags_of_call(
	const struct bw_resp__command *c, const struct bw_resp__arg *argv, uint32_t argc)
{
	if ((key_flags_of(c, 0) & VARIABLE) == 0)
		return key_flags_of(c, 0);
	for (uint32_t i = 3; i < argc; i++)
		if (bw_resp__arg_is(&argv[i], "get"))
			return RW | ACCESS | UPDATE;
	return OW | UPDATE;
}

static void get_keys(struct bw_resp__call *call, bool with_flags)
{
	struct bw_resp__text t = bw_resp__text_begin(call);
	const struct bw_resp__arg *argv = &call->argv[2];
	uint32_t argc = call->argc - 2, last;
	const struct bw_resp__command *c = bw_resp__find_command(call->r, argv[0].data, argv[0].len);
	size_t bytes = 0;

	if (c != NULL && c->spread == BW_RESP__CONTAINER && argc > 1) {
		struct bw_resp__call inner = {
			.r = call->r, .command = c, .argv = call->argv + 2, .argc = argc
		};
		const struct bw_resp__command *subcommand = bw_resp__find_subcommand(&inner);

		c = subcommand != NULL ? subcommand : c;
	}
	if (c == NULL) {
		bw_resp__reply_error(call, "ERR Invalid command specified");
		return;
	}
	if (c->first_key == 0) {
		bw_resp__reply_error(call, "ERR The command has no key arguments");
		return;
	}
	if (c->arity > 0 ? argc != (uint32_t)c->arity : argc < (uint32_t)-c->arity) {
		bw_resp__reply_error(call, "ERR Invalid number of arguments specified for command");
		return;
	}
	last = c->last_key < 0 ? argc - 1 : (uint32_t)c->last_key;
	for (uint32_t i = (uint32_t)c->first_key; i <= last; i += (uint32_t)c->key_step)
		bytes += argv[i].len + 128;
	if (bytes > t.room || last >= argc) {
		bw_resp__reply_error(call, "ERR too many or too long keys");
		return;
	}
	bw_resp__text_array(&t, (last - (uint32_t)c->first_key) / (uint32_t)c->key_step + 1);
	for (uint32_t i = (uint32_t)c->first_key; i <= last; i += (uint32_t)c->key_step) {
		unsigned second = i > (uint32_t)c->first_key ? key_flags_of(c, 1) : 0;

		if (argv[i].len > BW_RESP__KEY_MAX) { /* not in one piece */
			bw_resp__reply_error(call, "ERR key is longer than %u bytes", BW_RESP__KEY_MAX);
			return;
		}
		if (with_flags)
			bw_resp__text_array(&t, 2);
		bw_resp__text_add(&t, "$%u\r\n", argv[i].len);
		memcpy(t.begin + t.len, argv[i].data, argv[i].len);
		t.len += argv[i].len;
		bw_resp__text_add(&t, "\r\n");
		if (with_flags)
			add_bits(&t, second != 0 ? second : key_flags_of_call(c, argv, argc), key_flag_names);
	}
	bw_resp__text_reply(call, &t);
}

void bw_resp__run_command_getkeys(struct bw_resp__call *call)
{
	get_keys(call, false);
}

void bw_resp__run_command_getkeysandflags(struct bw_resp__call *call)
{
	get_keys(call, true);
}

void bw_resp__run_command_help(struct bw_resp__call *call)
{
	static const char *const lines[] = { "(no subcommand)", "    Details of all commands.", "COUNT",
		"    How many there are.", "DOCS [<command-name> ...]", "    What they are for.",
		"GETKEYS <full-command>", "    Its keys.", "GETKEYSANDFLAGS <full-command>",
		"    Its keys, and what it does with them.", "INFO [<command-name> ...]",
		"    Details of these.",
		"LIST [FILTERBY (ACLCAT <category>|MODULE <name>|PATTERN <pattern>)]", "    Their names.",
		NULL };

	bw_resp__reply_help(call, lines);
}
