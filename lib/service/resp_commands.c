/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The command table, and the commands on keys. Each runs to its one reply. Semantics and texts are those of
 * Redis 7.0; where they differ, the place says so.
 */
#include "resp_internal.h"

#include <stdio.h>

/* ---- helpers ---- */

static struct bw_resp__item *find(struct bw_resp__call *call)
{
	const struct bw_resp__arg *key = &call->argv[1];

	return bw_resp__store_find(&call->r->store, call->hash, key->data, key->len);
}

static struct bw_resp__value value_of(const struct bw_resp__call *call, const struct bw_resp__arg *arg)
{
	return (struct bw_resp__value){
		.data = arg->data,
		.len = arg->len,
		.blob = bw_resp__arg_blob(arg),
		.may_take = call->may_take,
	};
}

/* Store the argument under the key. False: no memory. A blob that became the value is the argument's no longer. */
static bool put_at(struct bw_resp__call *call, uint32_t hash, const struct bw_resp__arg *key,
	struct bw_resp__arg *arg, uint64_t expires_ms)
{
	struct bw_resp__value value = value_of(call, arg);

	if (bw_resp__store_put(&call->r->store, hash, key->data, key->len, &value, expires_ms) == NULL)
		return false;
	if (value.blob != NULL && value.may_take)
		arg->rec->blob = NULL;
	return true;
}

static bool put(struct bw_resp__call *call, struct bw_resp__arg *arg, uint64_t expires_ms)
{
	return put_at(call, call->hash, &call->argv[1], arg, expires_ms);
}

static struct bw_resp__block *pin_value(struct bw_resp__item *item)
{
	struct bw_resp__block *block = bw_resp__item_value_block(item);

	bw_resp__block_pin(block);
	return block;
}

static void count_lookup(struct bw_resp__call *call, const struct bw_resp__item *item)
{
	if (item != NULL)
		call->r->store.hits++;
	else
		call->r->store.misses++;
}

/*
 * A time argument in seconds or ms, relative or not, to unix ms. False after an error reply.
 * Redis: only SET and its kin refuse what is not positive; EXPIRE takes it as long past.
 */
static bool expiry_of(struct bw_resp__call *call, const struct bw_resp__arg *arg, bool is_seconds,
	bool is_absolute, bool must_be_positive, int64_t *expires_ms)
{
	int64_t at;

	if (!bw_resp__arg_int(arg, &at)) {
		bw_resp__reply_not_an_integer(call);
		return false;
	}
	if ((must_be_positive && at <= 0) || (is_seconds && (at > INT64_MAX / 1000 || at < INT64_MIN / 1000)))
		goto invalid;
	if (is_seconds)
		at *= 1000;
	if (!is_absolute && __builtin_add_overflow(at, (int64_t)bw_resp__now_ms(call), &at))
		goto invalid;
	*expires_ms = at;
	return true;

invalid:
	bw_resp__reply_error(call, "ERR invalid expire time in '%s' command", call->command->name);
	return false;
}

/* ---- strings ---- */

static void run_get(struct bw_resp__call *call)
{
	struct bw_resp__item *item = find(call);

	count_lookup(call, item);
	bw_resp__reply_value(call, item);
}

struct set_options {
	bool nx, xx, keep_ttl, get;
	int64_t expires_ms; /* 0: none */
};

static bool parse_set_options(struct bw_resp__call *call, struct set_options *o)
{
	static const struct {
		const char *word;
		bool is_seconds, is_absolute;
	} times[] = { { "ex", true, false }, { "px", false, false }, { "exat", true, true },
		{ "pxat", false, true } };
	const struct bw_resp__arg *time_arg = NULL;
	unsigned time_kind = 0;

	memset(o, 0, sizeof(*o));
	for (uint32_t i = 3; i < call->argc; i++) {
		const struct bw_resp__arg *arg = &call->argv[i];
		unsigned kind;

		if (bw_resp__arg_is(arg, "nx") && !o->xx) {
			o->nx = true;
			continue;
		}
		if (bw_resp__arg_is(arg, "xx") && !o->nx) {
			o->xx = true;
			continue;
		}
		if (bw_resp__arg_is(arg, "get")) {
			o->get = true;
			continue;
		}
		if (bw_resp__arg_is(arg, "keepttl") && time_arg == NULL) {
			o->keep_ttl = true;
			continue;
		}
		for (kind = 0; kind < BW_ARRAY_LEN(times) && !bw_resp__arg_is(arg, times[kind].word); kind++)
			;
		/* The same unit may be said again: the last one counts. */
		if (kind == BW_ARRAY_LEN(times) || o->keep_ttl || i + 1 == call->argc ||
			(time_arg != NULL && kind != time_kind)) {
			bw_resp__reply_syntax_error(call);
			return false;
		}
		time_arg = &call->argv[++i];
		time_kind = kind;
	}
	return time_arg == NULL || expiry_of(call, time_arg, times[time_kind].is_seconds,
					   times[time_kind].is_absolute, true, &o->expires_ms);
}

static void run_set(struct bw_resp__call *call)
{
	struct set_options o = { 0 };
	struct bw_resp__block *before = NULL;
	struct bw_resp__item *old = NULL;

	if (call->argc > 3) {
		if (!parse_set_options(call, &o))
			return;
		if (o.nx || o.xx || o.get || o.keep_ttl)
			old = find(call);
		if (o.get)
			count_lookup(call, old);
		if ((o.nx && old != NULL) || (o.xx && old == NULL)) {
			bw_resp__reply_value(call, o.get ? old : NULL);
			return;
		}
		if (o.get && old != NULL)
			before = pin_value(old);
		if (o.keep_ttl && old != NULL)
			o.expires_ms = (int64_t)bw_resp__item_expires_ms(old);
	}
	if (!put(call, &call->argv[2], (uint64_t)o.expires_ms)) {
		if (before != NULL)
			bw_resp__block_unpin(before);
		bw_resp__reply_oom(call);
	} else if (before != NULL) {
		bw_resp__reply_block(call, before);
	} else if (o.get) {
		bw_resp__reply_nil(call);
	} else {
		bw_resp__reply_ok(call);
	}
}

static void run_setnx(struct bw_resp__call *call)
{
	if (find(call) != NULL)
		bw_resp__reply_int(call, 0);
	else if (put(call, &call->argv[2], 0))
		bw_resp__reply_int(call, 1);
	else
		bw_resp__reply_oom(call);
}

static void set_with_time(struct bw_resp__call *call, bool is_seconds)
{
	int64_t expires_ms;

	if (!expiry_of(call, &call->argv[2], is_seconds, false, true, &expires_ms))
		return;
	if (put(call, &call->argv[3], (uint64_t)expires_ms))
		bw_resp__reply_ok(call);
	else
		bw_resp__reply_oom(call);
}

static void run_setex(struct bw_resp__call *call)
{
	set_with_time(call, true);
}

static void run_psetex(struct bw_resp__call *call)
{
	set_with_time(call, false);
}

static void run_getset(struct bw_resp__call *call)
{
	struct bw_resp__item *old = find(call);
	struct bw_resp__block *before = old != NULL ? pin_value(old) : NULL;

	count_lookup(call, old);
	if (!put(call, &call->argv[2], 0)) {
		if (before != NULL)
			bw_resp__block_unpin(before);
		bw_resp__reply_oom(call);
	} else if (before != NULL) {
		bw_resp__reply_block(call, before);
	} else {
		bw_resp__reply_nil(call);
	}
}

static void run_getdel(struct bw_resp__call *call)
{
	struct bw_resp__item *item = find(call);
	struct bw_resp__block *before;

	count_lookup(call, item);
	if (item == NULL) {
		bw_resp__reply_nil(call);
		return;
	}
	before = pin_value(item);
	bw_resp__store_remove(&call->r->store, item);
	bw_resp__reply_block(call, before);
}

static void run_append(struct bw_resp__call *call)
{
	struct bw_resp__item *item = find(call);
	struct bw_resp__value value = value_of(call, &call->argv[2]);
	uint64_t len = (item != NULL ? (uint64_t)item->value_bytes : 0) + value.len;

	if (len > call->r->limits.bulk_bytes_max) {
		bw_resp__reply_error(call, "ERR string exceeds maximum allowed size (proto-max-bulk-len)");
		return;
	}
	if (item != NULL ? bw_resp__store_append(&call->r->store, item, &value) != NULL
			 : put(call, &call->argv[2], 0))
		bw_resp__reply_int(call, (int64_t)len);
	else
		bw_resp__reply_oom(call);
}

static void run_strlen(struct bw_resp__call *call)
{
	struct bw_resp__item *item = find(call);

	count_lookup(call, item);
	bw_resp__reply_int(call, item != NULL ? item->value_bytes : 0);
}

static void add_to(struct bw_resp__call *call, int64_t by)
{
	struct bw_resp__item *item = find(call);
	struct bw_resp__value value = { 0 };
	int64_t number = 0;
	char text[24];

	if (item != NULL && (bw_resp__item_has_blob(item) || !bw_resp__parse_int(bw_resp__item_value(item),
								     item->value_bytes, &number))) {
		bw_resp__reply_not_an_integer(call);
		return;
	}
	if (__builtin_add_overflow(number, by, &number)) {
		bw_resp__reply_error(call, "ERR increment or decrement would overflow");
		return;
	}
	value.data = (const uint8_t *)text;
	value.len = bw_resp__format_int(text, number);
	if (bw_resp__store_put(&call->r->store, call->hash, call->argv[1].data, call->argv[1].len, &value,
		    item != NULL ? bw_resp__item_expires_ms(item) : 0) != NULL)
		bw_resp__reply_int(call, number);
	else
		bw_resp__reply_oom(call);
}

static void run_incr(struct bw_resp__call *call)
{
	add_to(call, 1);
}

static void run_decr(struct bw_resp__call *call)
{
	add_to(call, -1);
}

static void run_incrby(struct bw_resp__call *call)
{
	int64_t by;

	if (bw_resp__arg_int(&call->argv[2], &by))
		add_to(call, by);
	else
		bw_resp__reply_not_an_integer(call);
}

static void run_decrby(struct bw_resp__call *call)
{
	int64_t by;

	if (!bw_resp__arg_int(&call->argv[2], &by))
		bw_resp__reply_not_an_integer(call);
	else if (by == INT64_MIN)
		bw_resp__reply_error(call, "ERR decrement would overflow");
	else
		add_to(call, -by);
}

/* ---- several keys, all of them here ---- */

/* False: too long to be written at once. */
static bool mget_here(struct bw_resp__call *call)
{
	char text[BW_RESP__TEXT_MAX], *to = text, *end = text + sizeof(text);
	uint64_t hits = 0;

	*to++ = '*';
	to += bw_resp__format_int(to, (int64_t)call->argc - 1);
	to = mempcpy(to, "\r\n", 2);
	for (uint32_t i = 1; i < call->argc; i++) {
		const struct bw_resp__arg *key = &call->argv[i];
		uint32_t hash = bw_resp__hash_key(call->r, key->data, key->len).hash;
		struct bw_resp__item *item = bw_resp__store_find(&call->r->store, hash, key->data, key->len);

		if (item == NULL) {
			if (end - to < 5)
				return false;
			to = mempcpy(to, "$-1\r\n", 5);
			continue;
		}
		if (bw_resp__item_has_blob(item) || end - to < (int64_t)item->value_bytes + 24)
			return false;
		hits++;
		*to++ = '$';
		to += bw_resp__format_int(to, item->value_bytes);
		to = mempcpy(to, "\r\n", 2);
		to = mempcpy(to, bw_resp__item_value(item), item->value_bytes);
		to = mempcpy(to, "\r\n", 2);
	}
	call->r->store.hits += hits;
	call->r->store.misses += call->argc - 1 - hits;
	bw_resp__reply_text(call, text, (uint32_t)(to - text));
	return true;
}

static void mset_here(struct bw_resp__call *call)
{
	bool ok = true;

	for (uint32_t i = 1; i < call->argc; i += 2) {
		const struct bw_resp__arg *key = &call->argv[i];

		if (!put_at(call, bw_resp__hash_key(call->r, key->data, key->len).hash, key,
			    &call->argv[i + 1], 0))
			ok = false;
	}
	/* Redis looks at its memory before it begins; here what was stored before the memory ran out stays. */
	if (ok)
		bw_resp__reply_ok(call);
	else
		bw_resp__reply_oom(call);
}

static void count_here(struct bw_resp__call *call, bool removes)
{
	int64_t count = 0;

	for (uint32_t i = 1; i < call->argc; i++) {
		const struct bw_resp__arg *key = &call->argv[i];
		uint32_t hash = bw_resp__hash_key(call->r, key->data, key->len).hash;
		struct bw_resp__item *item = bw_resp__store_find(&call->r->store, hash, key->data, key->len);

		if (item == NULL)
			continue;
		count++;
		if (removes)
			bw_resp__store_remove(&call->r->store, item);
	}
	bw_resp__reply_int(call, count);
}

bool bw_resp__run_spread_here(struct bw_resp__call *call)
{
	switch (call->command->spread) {
	case BW_RESP__MGET:
		return mget_here(call);
	case BW_RESP__MSET:
		mset_here(call);
		break;
	case BW_RESP__DEL:
		count_here(call, true);
		break;
	case BW_RESP__COUNT_EXISTING:
		count_here(call, false);
		break;
	case BW_RESP__FLUSH:
		bw_resp__store_flush(&call->r->store);
		bw_resp__reply_ok(call);
		break;
	case BW_RESP__DBSIZE:
		bw_resp__reply_int(call, (int64_t)call->r->store.keys);
		break;
	}
	return true;
}

/* ---- the same, this worker's part of it ---- */

void bw_resp__run_spread_part(
	struct bw_resp *r, const struct bw_resp__request *whole, bool may_take, struct bw_resp__request *part)
{
	const struct bw_resp__command *command = whole->command;
	struct bw_resp__cursor cursor;
	struct bw_resp__rec *rec, *value_rec = NULL;

	if (command->spread == BW_RESP__FLUSH)
		bw_resp__store_flush(&r->store);
	if (command->spread == BW_RESP__DBSIZE)
		part->sum += (int64_t)r->store.keys;
	if (whole->gather == NULL)
		return;
	rec = bw_resp__gather_first(whole->gather, &cursor); /* the command's name */
	while (rec != NULL && (rec = bw_resp__gather_next(&cursor)) != NULL) {
		struct bw_resp__keyhash key = bw_resp__hash_key(r, rec->bytes, rec->len);
		struct bw_resp__item *item;

		if (command->spread == BW_RESP__MSET)
			value_rec = bw_resp__gather_next(&cursor);
		if (key.owner != r->worker)
			continue;
		if (value_rec != NULL) {
			struct bw_resp__value value = {
				.data = value_rec->bytes,
				.len = value_rec->len,
				.blob = value_rec->is_blob ? value_rec->blob : NULL,
				.may_take = may_take,
			};

			if (bw_resp__store_put(&r->store, key.hash, rec->bytes, rec->len, &value, 0) == NULL)
				part->is_over_memory = true;
			else if (value.blob != NULL && may_take)
				value_rec->blob = NULL;
			continue;
		}
		item = bw_resp__store_find(&r->store, key.hash, rec->bytes, rec->len);
		if (command->spread == BW_RESP__MGET) {
			if (item == NULL) {
				r->store.misses++;
				continue;
			}
			r->store.hits++;
			rec->found = bw_resp__store_list(&r->store, item);
			if (rec->found == NULL) {
				part->is_over_memory = true;
				break;
			}
			continue;
		}
		if (item == NULL)
			continue;
		part->sum++;
		if (command->spread == BW_RESP__DEL)
			bw_resp__store_remove(&r->store, item);
	}
}

/* ---- time to live ---- */

enum {
	EXPIRE_NX = 1,
	EXPIRE_XX = 2,
	EXPIRE_GT = 4,
	EXPIRE_LT = 8
};

static bool parse_expire_options(struct bw_resp__call *call, unsigned *options)
{
	static const struct {
		const char *word;
		unsigned option;
	} words[] = { { "nx", EXPIRE_NX }, { "xx", EXPIRE_XX }, { "gt", EXPIRE_GT }, { "lt", EXPIRE_LT } };

	*options = 0;
	for (uint32_t i = 3; i < call->argc; i++) {
		unsigned w = 0;

		while (w < BW_ARRAY_LEN(words) && !bw_resp__arg_is(&call->argv[i], words[w].word))
			w++;
		if (w == BW_ARRAY_LEN(words)) {
			bw_resp__reply_error(call, "ERR Unsupported option %.*s",
				(int)BW_MIN(call->argv[i].len, 128u), (const char *)call->argv[i].data);
			return false;
		}
		*options |= words[w].option;
	}
	if ((*options & EXPIRE_NX) != 0 && (*options & ~(unsigned)EXPIRE_NX) != 0) {
		bw_resp__reply_error(
			call, "ERR NX and XX, GT or LT options at the same time are not compatible");
		return false;
	}
	if ((*options & EXPIRE_GT) != 0 && (*options & EXPIRE_LT) != 0) {
		bw_resp__reply_error(call, "ERR GT and LT options at the same time are not compatible");
		return false;
	}
	return true;
}

static void set_expiry(struct bw_resp__call *call, bool is_seconds, bool is_absolute)
{
	struct bw_resp__item *item;
	int64_t at, now;
	unsigned options;

	if (!parse_expire_options(call, &options) ||
		!expiry_of(call, &call->argv[2], is_seconds, is_absolute, false, &at))
		return;
	item = find(call);
	if (item == NULL) {
		bw_resp__reply_int(call, 0);
		return;
	}
	now = (int64_t)bw_resp__item_expires_ms(item);
	/* A key without a time counts as one that lives for ever: GT never applies to it, LT always. */
	if (((options & EXPIRE_NX) != 0 && now != 0) || ((options & EXPIRE_XX) != 0 && now == 0) ||
		((options & EXPIRE_GT) != 0 && (now == 0 || at <= now)) ||
		((options & EXPIRE_LT) != 0 && now != 0 && at >= now)) {
		bw_resp__reply_int(call, 0);
		return;
	}
	if (at <= (int64_t)bw_resp__now_ms(call))
		bw_resp__store_remove(&call->r->store, item);
	else
		bw_resp__store_set_expiry(&call->r->store, item, (uint64_t)at);
	bw_resp__reply_int(call, 1);
}

static void run_expire(struct bw_resp__call *call)
{
	set_expiry(call, true, false);
}

static void run_pexpire(struct bw_resp__call *call)
{
	set_expiry(call, false, false);
}

static void run_expireat(struct bw_resp__call *call)
{
	set_expiry(call, true, true);
}

static void run_pexpireat(struct bw_resp__call *call)
{
	set_expiry(call, false, true);
}

static void reply_time(struct bw_resp__call *call, bool in_seconds, bool is_absolute)
{
	struct bw_resp__item *item = find(call);
	uint64_t at;

	if (item == NULL) {
		bw_resp__reply_int(call, -2);
		return;
	}
	at = bw_resp__item_expires_ms(item);
	if (at == 0) {
		bw_resp__reply_int(call, -1);
		return;
	}
	if (!is_absolute)
		at -= bw_resp__now_ms(call);
	bw_resp__reply_int(call, (int64_t)(in_seconds ? (at + 500) / 1000 : at));
}

static void run_ttl(struct bw_resp__call *call)
{
	reply_time(call, true, false);
}

static void run_pttl(struct bw_resp__call *call)
{
	reply_time(call, false, false);
}

static void run_expiretime(struct bw_resp__call *call)
{
	reply_time(call, true, true);
}

static void run_pexpiretime(struct bw_resp__call *call)
{
	reply_time(call, false, true);
}

static void run_persist(struct bw_resp__call *call)
{
	struct bw_resp__item *item = find(call);
	bool had_time = item != NULL && bw_resp__item_expires_ms(item) != 0;

	if (had_time)
		bw_resp__store_set_expiry(&call->r->store, item, 0);
	bw_resp__reply_int(call, had_time);
}

static void run_type(struct bw_resp__call *call)
{
	if (find(call) != NULL)
		bw_resp__reply_literal(call, "+string\r\n");
	else
		bw_resp__reply_literal(call, "+none\r\n");
}

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

static void run_quit(struct bw_resp__call *call)
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
	{ "append", 3, W | M | F, 1, 1, 1, 0, run_append, "string", "2.0.0", "Append a value to a key" },
	{ "auth", -2, NS | L | F, 0, 0, 0, 0, bw_resp__run_auth, "connection", "1.0.0",
		"Authenticate to the server" },
	{ "client", -2, NS | L, 0, 0, 0, 0, bw_resp__run_client, "connection", "2.4.0",
		"Connection commands" },
	{ "command", -1, L, 0, 0, 0, 0, bw_resp__run_command, "server", "2.8.13", "Details of commands" },
	{ "config", -2, A | NS | L, 0, 0, 0, 0, bw_resp__run_config, "server", "2.0.0",
		"Configuration parameters" },
	{ "dbsize", 1, R | F, 0, 0, 0, BW_RESP__DBSIZE, NULL, "server", "1.0.0", "The number of keys" },
	{ "decr", 2, W | M | F, 1, 1, 1, 0, run_decr, "string", "1.0.0", "Subtract one from a number" },
	{ "decrby", 3, W | M | F, 1, 1, 1, 0, run_decrby, "string", "1.0.0", "Subtract from a number" },
	{ "del", -2, W, 1, -1, 1, BW_RESP__DEL, NULL, "generic", "1.0.0", "Delete keys" },
	{ "echo", 2, L | F, 0, 0, 0, 0, run_echo, "connection", "1.0.0", "Echo the given string" },
	{ "exists", -2, R | F, 1, -1, 1, BW_RESP__COUNT_EXISTING, NULL, "generic", "1.0.0",
		"Count keys that exist" },
	{ "expire", -3, W | F, 1, 1, 1, 0, run_expire, "generic", "1.0.0", "Set a time to live in seconds" },
	{ "expireat", -3, W | F, 1, 1, 1, 0, run_expireat, "generic", "1.2.0",
		"Set when a key expires, in seconds" },
	{ "expiretime", 2, R | F, 1, 1, 1, 0, run_expiretime, "generic", "7.0.0",
		"When a key expires, in seconds" },
	{ "flushall", -1, W, 0, 0, 0, BW_RESP__FLUSH, NULL, "server", "1.0.0", "Remove all keys" },
	{ "flushdb", -1, W, 0, 0, 0, BW_RESP__FLUSH, NULL, "server", "1.0.0", "Remove all keys" },
	{ "get", 2, R | F, 1, 1, 1, 0, run_get, "string", "1.0.0", "Get the value of a key" },
	{ "getdel", 2, W | F, 1, 1, 1, 0, run_getdel, "string", "6.2.0",
		"Get the value of a key and delete it" },
	{ "getset", 3, W | M | F, 1, 1, 1, 0, run_getset, "string", "1.0.0",
		"Set a value and return the old one" },
	{ "hello", -1, NS | L | F, 0, 0, 0, 0, bw_resp__run_hello, "connection", "6.0.0",
		"Greet the server" },
	{ "incr", 2, W | M | F, 1, 1, 1, 0, run_incr, "string", "1.0.0", "Add one to a number" },
	{ "incrby", 3, W | M | F, 1, 1, 1, 0, run_incrby, "string", "1.0.0", "Add to a number" },
	{ "info", -1, L, 0, 0, 0, 0, bw_resp__run_info, "server", "1.0.0", "Information and statistics" },
	{ "mget", -2, R | F, 1, -1, 1, BW_RESP__MGET, NULL, "string", "1.0.0",
		"Get the values of several keys" },
	{ "mset", -3, W | M, 1, -1, 2, BW_RESP__MSET, NULL, "string", "1.0.1", "Set several keys" },
	{ "persist", 2, W | F, 1, 1, 1, 0, run_persist, "generic", "2.2.0", "Remove a time to live" },
	{ "pexpire", -3, W | F, 1, 1, 1, 0, run_pexpire, "generic", "2.6.0",
		"Set a time to live in milliseconds" },
	{ "pexpireat", -3, W | F, 1, 1, 1, 0, run_pexpireat, "generic", "2.6.0",
		"Set when a key expires, in ms" },
	{ "pexpiretime", 2, R | F, 1, 1, 1, 0, run_pexpiretime, "generic", "7.0.0",
		"When a key expires, in ms" },
	{ "ping", -1, F, 0, 0, 0, 0, run_ping, "connection", "1.0.0", "Ping the server" },
	{ "psetex", 4, W | M, 1, 1, 1, 0, run_psetex, "string", "2.6.0",
		"Set a value with a time to live in ms" },
	{ "pttl", 2, R | F, 1, 1, 1, 0, run_pttl, "generic", "2.6.0", "The time to live in milliseconds" },
	{ "quit", -1, NS | L | F, 0, 0, 0, 0, run_quit, "connection", "1.0.0", "Close the connection" },
	{ "reset", 1, NS | L | F, 0, 0, 0, 0, bw_resp__run_reset, "connection", "6.2.0",
		"Reset the connection" },
	{ "select", 2, L | F, 0, 0, 0, 0, run_select, "connection", "1.0.0",
		"Select a database: there is one, 0" },
	{ "set", -3, W | M, 1, 1, 1, 0, run_set, "string", "1.0.0", "Set the value of a key" },
	{ "setex", 4, W | M, 1, 1, 1, 0, run_setex, "string", "2.0.0",
		"Set a value with a time to live in seconds" },
	{ "setnx", 3, W | M | F, 1, 1, 1, 0, run_setnx, "string", "1.0.0",
		"Set a value if the key does not exist" },
	{ "strlen", 2, R | F, 1, 1, 1, 0, run_strlen, "string", "2.2.0", "The length of a value" },
	{ "time", 1, L | F, 0, 0, 0, 0, run_time, "server", "2.6.0", "The server's time" },
	{ "touch", -2, R | F, 1, -1, 1, BW_RESP__COUNT_EXISTING, NULL, "generic", "3.2.1",
		"Use keys without reading" },
	{ "ttl", 2, R | F, 1, 1, 1, 0, run_ttl, "generic", "1.0.0", "The time to live in seconds" },
	{ "type", 2, R | F, 1, 1, 1, 0, run_type, "generic", "1.0.0", "The type of a key's value" },
	{ "unlink", -2, W | F, 1, -1, 1, BW_RESP__DEL, NULL, "generic", "4.0.0", "Delete keys" },
};
const unsigned bw_resp__command_count = BW_ARRAY_LEN(bw_resp__commands);
_Static_assert(BW_ARRAY_LEN(bw_resp__commands) < 128, "the look-up table is at most half full");

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
