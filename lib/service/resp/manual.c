/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What COMMAND DOCS says of a command besides its summary. redis-cli takes its hints from the arguments. All texts are
 * replies of redis-server 7.0 (BSD-3-Clause), as error texts are, so that nobody sees which server answers.
 *
 * Arguments in short, blanks between them:
 *
 *     name[.type][=TOKEN][@since][~deprecated][?][*][(what it consists of)]
 *
 * The types are k0 and k1 (a key, and in which key specification), s(tring), i(nteger), d(ouble), p(attern), u(nix
 * time), o(ne of these), b(lock of these). Without a type it is a token alone. `?` is optional, `*` may be repeated.
 */
#include "text.h"

static const struct manual {
	const char *name, *arguments;
	const char *complexity; /* NULL: constant, or of a container */
	const char *history;    /* lines: the version, a blank, what it brought */
} manuals[] = {
	{ "append", .arguments = "key.k0 value.s",
		.complexity =
			"O(1). The amortized time complexity is O(1) assuming the appended value is small and the already "
			"present value is of any size, since the dynamic string library used by Redis will double the free "
			"space available on every reallocation." },
	{ "auth", .arguments = "username.s@6.0.0? password.s",
		.complexity = "O(N) where N is the number of passwords defined for the user",
		.history = "6.0.0 Added ACL style (username and password)." },
	{ "client|kill",
		.arguments =
			"filter.o(ip:port.s~2.8.12 new-format.o*(client-id.i=ID@2.8.12? "
			"normal_master_slave_pubsub.o=TYPE@2.8.12?(normal=NORMAL master=MASTER@3.2.0 slave=SLAVE "
			"replica=REPLICA@5.0.0 pubsub=PUBSUB) username.s=USER? ip:port.s=ADDR? ip:port.s=LADDR@6.2.0? "
			"yes/no.s=SKIPME?))",
		.complexity = "O(N) where N is the number of client connections",
		.history =
			"2.8.12 Added new filter format.\n"
			"2.8.12 `ID` option.\n"
			"3.2.0 Added `master` type in for `TYPE` option.\n"
			"5.0.0 Replaced `slave` `TYPE` with `replica`. `slave` still supported for backward compatibility.\n"
			"6.2.0 `LADDR` option." },
	{ "client|list",
		.arguments =
			"normal_master_replica_pubsub.o=TYPE@5.0.0?(normal=NORMAL master=MASTER replica=REPLICA "
			"pubsub=PUBSUB) id.b=ID@6.2.0?(client-id.i*)",
		.complexity = "O(N) where N is the number of client connections",
		.history =
			"2.8.12 Added unique client `id` field.\n"
			"5.0.0 Added optional `TYPE` filter.\n"
			"6.0.0 Added `user` field.\n"
			"6.2.0 Added `argv-mem`, `tot-mem`, `laddr` and `redir` fields and the optional `ID` filter.\n"
			"7.0.0 Added `resp`, `multi-mem`, `rbs` and `rbp` fields.\n"
			"7.0.3 Added `ssub` field." },
	{ "client|no-evict", .arguments = "enabled.o(on=ON off=OFF)" },
	{ "client|reply", .arguments = "on_off_skip.o(on=ON off=OFF skip=SKIP)" },
	{ "client|setinfo", .arguments = "attr.o(libname.s=LIB-NAME libver.s=LIB-VER)" },
	{ "client|setname", .arguments = "connection-name.s" },
	{ "command", .complexity = "O(N) where N is the total number of Redis commands" },
	{ "command|docs", .arguments = "command-name.s?*",
		.complexity = "O(N) where N is the number of commands to look up" },
	{ "command|getkeys", .complexity = "O(N) where N is the number of arguments to the command" },
	{ "command|getkeysandflags", .complexity = "O(N) where N is the number of arguments to the command" },
	{ "command|info", .arguments = "command-name.s?*",
		.complexity = "O(N) where N is the number of commands to look up",
		.history = "7.0.0 Allowed to be called with no argument to get info on all commands." },
	{ "command|list",
		.arguments = "filterby.o=FILTERBY?(module-name.s=MODULE category.s=ACLCAT pattern.p=PATTERN)",
		.complexity = "O(N) where N is the total number of Redis commands" },
	{ "config|get", .arguments = "parameter.b*(parameter.s)",
		.complexity = "O(N) when N is the number of configuration parameters provided",
		.history = "7.0.0 Added the ability to pass multiple pattern parameters in one call" },
	{ "config|set", .arguments = "parameter_value.b*(parameter.s value.s)",
		.complexity = "O(N) when N is the number of configuration parameters provided",
		.history = "7.0.0 Added the ability to set multiple parameters in one call." },
	{ "decr", .arguments = "key.k0" },
	{ "decrby", .arguments = "key.k0 decrement.i" },
	{ "del", .arguments = "key.k0*",
		.complexity =
			"O(N) where N is the number of keys that will be removed. When a key to remove holds a value other "
			"than a string, the individual complexity for this key is O(M) where M is the number of elements in "
			"the list, set, sorted set or hash. Removing a single key that holds a string value is O(1)." },
	{ "echo", .arguments = "message.s" },
	{ "exists", .arguments = "key.k0*", .complexity = "O(N) where N is the number of keys to check.",
		.history = "3.0.3 Accepts multiple `key` arguments." },
	{ "expire", .arguments = "key.k0 seconds.i condition.o@7.0.0?(nx=NX xx=XX gt=GT lt=LT)",
		.history = "7.0.0 Added options: `NX`, `XX`, `GT` and `LT`." },
	{ "expireat", .arguments = "key.k0 unix-time-seconds.u condition.o@7.0.0?(nx=NX xx=XX gt=GT lt=LT)",
		.history = "7.0.0 Added options: `NX`, `XX`, `GT` and `LT`." },
	{ "expiretime", .arguments = "key.k0" },
	{ "flushall", .arguments = "async.o?(async=ASYNC@4.0.0 sync=SYNC@6.2.0)",
		.complexity = "O(N) where N is the total number of keys in all databases",
		.history = "4.0.0 Added the `ASYNC` flushing mode modifier.\n"
			   "6.2.0 Added the `SYNC` flushing mode modifier." },
	{ "flushdb", .arguments = "async.o?(async=ASYNC@4.0.0 sync=SYNC@6.2.0)",
		.complexity = "O(N) where N is the number of keys in the selected database",
		.history = "4.0.0 Added the `ASYNC` flushing mode modifier.\n"
			   "6.2.0 Added the `SYNC` flushing mode modifier." },
	{ "get", .arguments = "key.k0" },
	{ "getdel", .arguments = "key.k0" },
	{ "getex", .arguments =
			   "key.k0 expiration.o?(seconds.i=EX milliseconds.i=PX unix-time-seconds.u=EXAT "
			   "unix-time-milliseconds.u=PXAT persist=PERSIST)" },
	{ "getrange", .arguments = "key.k0 start.i end.i",
		.complexity =
			"O(N) where N is the length of the returned string. The complexity is ultimately determined by the "
			"returned length, but because creating a substring from an existing string is very cheap, it can be "
			"considered O(1) for small strings." },
	{ "getset", .arguments = "key.k0 value.s" },
	{ "hello",
		.arguments =
			"arguments.b?(protover.i username_password.b=AUTH?(username.s password.s) clientname.s=SETNAME?)",
		.history =
			"6.2.0 `protover` made optional; when called without arguments the command reports the current "
			"connection's context." },
	{ "incr", .arguments = "key.k0" },
	{ "incrby", .arguments = "key.k0 increment.i" },
	{ "incrbyfloat", .arguments = "key.k0 increment.d" },
	{ "info", .arguments = "section.s?*",
		.history = "7.0.0 Added support for taking multiple section arguments." },
	{ "keys", .arguments = "pattern.p",
		.complexity =
			"O(N) with N being the number of keys in the database, under the assumption that the key names in "
			"the database and the given pattern have limited length." },
	{ "memory|usage", .arguments = "key.k0 count.i=SAMPLES?",
		.complexity = "O(N) where N is the number of samples." },
	{ "mget", .arguments = "key.k0*", .complexity = "O(N) where N is the number of keys to retrieve." },
	{ "mset", .arguments = "key_value.b*(key.k0 value.s)",
		.complexity = "O(N) where N is the number of keys to set." },
	{ "msetnx", .arguments = "key_value.b*(key.k0 value.s)",
		.complexity = "O(N) where N is the number of keys to set." },
	{ "object|encoding", .arguments = "key.k0" },
	{ "object|freq", .arguments = "key.k0" },
	{ "object|idletime", .arguments = "key.k0" },
	{ "object|refcount", .arguments = "key.k0" },
	{ "persist", .arguments = "key.k0" },
	{ "pexpire", .arguments = "key.k0 milliseconds.i condition.o@7.0.0?(nx=NX xx=XX gt=GT lt=LT)",
		.history = "7.0.0 Added options: `NX`, `XX`, `GT` and `LT`." },
	{ "pexpireat",
		.arguments = "key.k0 unix-time-milliseconds.u condition.o@7.0.0?(nx=NX xx=XX gt=GT lt=LT)",
		.history = "7.0.0 Added options: `NX`, `XX`, `GT` and `LT`." },
	{ "pexpiretime", .arguments = "key.k0" },
	{ "ping", .arguments = "message.s?" },
	{ "psetex", .arguments = "key.k0 milliseconds.i value.s" },
	{ "pttl", .arguments = "key.k0", .history = "2.8.0 Added the -2 reply." },
	{ "rename", .arguments = "key.k0 newkey.k1" },
	{ "renamenx", .arguments = "key.k0 newkey.k1",
		.history =
			"3.2.0 The command no longer returns an error when source and destination names are the same." },
	{ "scan", .arguments = "cursor.i pattern.p=MATCH? count.i=COUNT? type.s=TYPE@6.0.0?",
		.complexity =
			"O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor "
			"to return back to 0. N is the number of elements inside the collection.",
		.history = "6.0.0 Added the `TYPE` subcommand." },
	{ "select", .arguments = "index.i" },
	{ "set",
		.arguments =
			"key.k0 value.s condition.o@2.6.12?(nx=NX xx=XX) get=GET@6.2.0? expiration.o?(seconds.i=EX@2.6.12 "
			"milliseconds.i=PX@2.6.12 unix-time-seconds.u=EXAT@6.2.0 unix-time-milliseconds.u=PXAT@6.2.0 "
			"keepttl=KEEPTTL@6.0.0)",
		.history = "2.6.12 Added the `EX`, `PX`, `NX` and `XX` options.\n"
			   "6.0.0 Added the `KEEPTTL` option.\n"
			   "6.2.0 Added the `GET`, `EXAT` and `PXAT` option.\n"
			   "7.0.0 Allowed the `NX` and `GET` options to be used together." },
	{ "setex", .arguments = "key.k0 seconds.i value.s" },
	{ "setnx", .arguments = "key.k0 value.s" },
	{ "setrange", .arguments = "key.k0 offset.i value.s",
		.complexity =
			"O(1), not counting the time taken to copy the new string in place. Usually, this string is very "
			"small so the amortized complexity is O(1). Otherwise, complexity is O(M) with M being the length of "
			"the value argument." },
	{ "strlen", .arguments = "key.k0" },
	{ "substr", .arguments = "key.k0 start.i end.i",
		.complexity =
			"O(N) where N is the length of the returned string. The complexity is ultimately determined by the "
			"returned length, but because creating a substring from an existing string is very cheap, it can be "
			"considered O(1) for small strings." },
	{ "touch", .arguments = "key.k0*",
		.complexity = "O(N) where N is the number of keys that will be touched." },
	{ "ttl", .arguments = "key.k0", .history = "2.8.0 Added the -2 reply." },
	{ "type", .arguments = "key.k0" },
	{ "unlink", .arguments = "key.k0*",
		.complexity =
			"O(1) for each key removed regardless of its size. Then the command does O(N) work in a different "
			"thread in order to reclaim memory, where N is the number of allocations the deleted objects where "
			"composed of." },
};

/* What Redis has given up, and what it says to use instead. */
static const struct deprecated {
	const char *name, *since, *replaced_by;
} deprecated[] = {
	{ "getset", "6.2.0", "`SET` with the `!GET` argument" },
	{ "substr", "2.0.0", "`GETRANGE`" },
};

static const struct manual *manual_of(const struct bw_resp__command *c)
{
	static const struct manual none = { NULL };

	for (unsigned i = 0; i < BW_ARRAY_LEN(manuals); i++)
		if (strcmp(manuals[i].name, c->name) == 0)
			return &manuals[i];
	return &none;
}

/* NULL: it is not. */
static const struct deprecated *deprecation_of(const struct bw_resp__command *c)
{
	for (unsigned i = 0; i < BW_ARRAY_LEN(deprecated); i++)
		if (strcmp(deprecated[i].name, c->name) == 0)
			return &deprecated[i];
	return NULL;
}

static void add_pair(struct bw_resp__text *t, const char *name, const char *value, size_t len)
{
	bw_resp__text_bulk(t, name);
	bw_resp__text_add(t, "$%zu\r\n%.*s\r\n", len, (int)len, value);
}

/* ---- arguments ---- */

static const char *type_name(char type)
{
	switch (type) {
	case 'k':
		return "key";
	case 's':
		return "string";
	case 'i':
		return "integer";
	case 'd':
		return "double";
	case 'p':
		return "pattern";
	case 'u':
		return "unix-time";
	case 'o':
		return "oneof";
	case 'b':
		return "block";
	default:
		return "pure-token";
	}
}

/* A part of an argument: `mark`, and behind it all up to what may follow. */
struct part {
	const char *text;
	size_t len;
};

static struct part take(const char **at, char mark, const char *followers)
{
	struct part part = { 0 };

	if (**at != mark)
		return part;
	part.text = *at + 1;
	part.len = strcspn(part.text, followers);
	*at = part.text + part.len;
	return part;
}

static bool take_flag(const char **at, char mark)
{
	bool is_there = **at == mark;

	*at += is_there;
	return is_there;
}

static const char *add_arguments(struct bw_resp__text *t, const char *at);

/* Returns what is behind it. */
static const char *add_argument(struct bw_resp__text *t, const char *at)
{
	const char *name = at;
	size_t name_len = strcspn(at, ".=@~?*( )");
	struct part type, token, since, until;
	bool is_key, is_optional, is_multiple;

	at += name_len;
	type = take(&at, '.', "=@~?*( )");
	token = take(&at, '=', "@~?*( )");
	since = take(&at, '@', "~?*( )");
	until = take(&at, '~', "?*( )");
	is_optional = take_flag(&at, '?');
	is_multiple = take_flag(&at, '*');
	is_key = type.len == 2;
	bw_resp__text_map(t, 2u + is_key + (token.len > 0) + (since.len > 0) + (until.len > 0) +
				     (is_optional || is_multiple) + (*at == '('));
	add_pair(t, "name", name, name_len);
	bw_resp__text_bulk(t, "type");
	bw_resp__text_bulk(t, type_name(type.len > 0 ? type.text[0] : '\0'));
	if (is_key) {
		bw_resp__text_bulk(t, "key_spec_index");
		bw_resp__text_add(t, ":%c\r\n", type.text[1]);
	}
	if (token.len > 0)
		add_pair(t, "token", token.text, token.len);
	if (since.len > 0)
		add_pair(t, "since", since.text, since.len);
	if (until.len > 0)
		add_pair(t, "deprecated_since", until.text, until.len);
	if (is_optional || is_multiple) {
		bw_resp__text_bulk(t, "flags");
		bw_resp__text_set(t, (size_t)is_optional + is_multiple);
		bw_resp__text_add(
			t, "%s%s", is_optional ? "+optional\r\n" : "", is_multiple ? "+multiple\r\n" : "");
	}
	if (*at != '(')
		return at;
	bw_resp__text_bulk(t, "arguments");
	return add_arguments(t, at + 1) + 1;
}

/* To the end, or to the bracket that closes. */
static unsigned count_arguments(const char *at)
{
	unsigned count = 1, depth = 0;

	for (; *at != '\0' && (*at != ')' || depth > 0); at++) {
		count += *at == ' ' && depth == 0;
		depth += *at == '(';
		depth -= *at == ')';
	}
	return count;
}

static const char *add_arguments(struct bw_resp__text *t, const char *at)
{
	unsigned count = count_arguments(at);

	bw_resp__text_array(t, count);
	for (at = add_argument(t, at); *at == ' ';)
		at = add_argument(t, at + 1);
	return at;
}

/* ---- all of it ---- */

static void add_history(struct bw_resp__text *t, const char *lines)
{
	size_t count = 1;

	for (const char *p = lines; *p != '\0'; p++)
		count += *p == '\n';
	bw_resp__text_set(t, count);
	for (const char *line = lines; count > 0; count--) {
		size_t version_len = strcspn(line, " "), len = strcspn(line, "\n");

		bw_resp__text_add(t, "*2\r\n$%zu\r\n%.*s\r\n$%zu\r\n%.*s\r\n", version_len, (int)version_len,
			line, len - version_len - 1, (int)(len - version_len - 1), line + version_len + 1);
		line += len + 1;
	}
}

unsigned bw_resp__manual_pairs(const struct bw_resp__command *c)
{
	const struct manual *manual = manual_of(c);

	return 1u + (deprecation_of(c) != NULL ? 3 : 0) + (manual->history != NULL) +
	       (manual->arguments != NULL);
}

void bw_resp__add_manual(struct bw_resp__text *t, const struct bw_resp__command *c)
{
	bool is_container = c->spread == BW_RESP__CONTAINER && c->run == NULL;
	const struct manual *manual = manual_of(c);
	const struct deprecated *gone = deprecation_of(c);

	bw_resp__text_bulk(t, "complexity");
	bw_resp__text_bulk(t, manual->complexity != NULL ? manual->complexity
			      : is_container             ? "Depends on subcommand."
							 : "O(1)");
	if (gone != NULL) {
		bw_resp__text_bulk(t, "doc_flags");
		bw_resp__text_set(t, 1);
		bw_resp__text_add(t, "+deprecated\r\n");
		bw_resp__text_bulk(t, "deprecated_since");
		bw_resp__text_bulk(t, gone->since);
		bw_resp__text_bulk(t, "replaced_by");
		bw_resp__text_bulk(t, gone->replaced_by);
	}
	if (manual->history != NULL) {
		bw_resp__text_bulk(t, "history");
		add_history(t, manual->history);
	}
	if (manual->arguments != NULL) {
		bw_resp__text_bulk(t, "arguments");
		add_arguments(t, manual->arguments);
	}
}
