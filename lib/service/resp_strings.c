/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The commands on one string. Each runs to its one reply. Semantics and texts are those of Redis 7.0; where they
 * differ, the place says so.
 */
#include "resp_internal.h"

/* Store the argument under the key. False: no memory. A blob that became the value is the argument's no longer. */
bool bw_resp__put_at(struct bw_resp__call *call, uint32_t hash, const struct bw_resp__arg *key,
	struct bw_resp__arg *arg, uint64_t expires_ms)
{
	struct bw_resp__value value = bw_resp__value_of(call, arg);

	if (bw_resp__store_put(&call->r->store, hash, key->data, key->len, &value, expires_ms) == NULL)
		return false;
	if (value.blob != NULL && value.may_take)
		arg->rec->blob = NULL;
	return true;
}

bool bw_resp__put(struct bw_resp__call *call, struct bw_resp__arg *arg, uint64_t expires_ms)
{
	return bw_resp__put_at(call, call->hash, &call->argv[1], arg, expires_ms);
}

/*
 * A time argument in seconds or ms, relative or not, to unix ms. False after an error reply.
 * Redis: only SET and its kin refuse what is not positive; EXPIRE takes it as long past.
 */
bool bw_resp__expiry_of(struct bw_resp__call *call, const struct bw_resp__arg *arg, bool is_seconds,
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

void bw_resp__run_get(struct bw_resp__call *call)
{
	struct bw_resp__item *item = bw_resp__find(call);

	bw_resp__count_lookup(call, item);
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
	return time_arg == NULL || bw_resp__expiry_of(call, time_arg, times[time_kind].is_seconds,
					   times[time_kind].is_absolute, true, &o->expires_ms);
}

void bw_resp__run_set(struct bw_resp__call *call)
{
	struct set_options o = { 0 };
	struct bw_resp__block *before = NULL;
	struct bw_resp__item *old = NULL;

	if (call->argc > 3) {
		if (!parse_set_options(call, &o))
			return;
		if (o.nx || o.xx || o.get || o.keep_ttl)
			old = bw_resp__find(call);
		if (o.get)
			bw_resp__count_lookup(call, old);
		if ((o.nx && old != NULL) || (o.xx && old == NULL)) {
			bw_resp__reply_value(call, o.get ? old : NULL);
			return;
		}
		if (o.get && old != NULL)
			before = bw_resp__pin_value(old);
		if (o.keep_ttl && old != NULL)
			o.expires_ms = (int64_t)bw_resp__item_expires_ms(old);
	}
	if (!bw_resp__put(call, &call->argv[2], (uint64_t)o.expires_ms)) {
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

void bw_resp__run_setnx(struct bw_resp__call *call)
{
	if (bw_resp__find(call) != NULL)
		bw_resp__reply_int(call, 0);
	else if (bw_resp__put(call, &call->argv[2], 0))
		bw_resp__reply_int(call, 1);
	else
		bw_resp__reply_oom(call);
}

static void set_with_time(struct bw_resp__call *call, bool is_seconds)
{
	int64_t expires_ms;

	if (!bw_resp__expiry_of(call, &call->argv[2], is_seconds, false, true, &expires_ms))
		return;
	if (bw_resp__put(call, &call->argv[3], (uint64_t)expires_ms))
		bw_resp__reply_ok(call);
	else
		bw_resp__reply_oom(call);
}

void bw_resp__run_setex(struct bw_resp__call *call)
{
	set_with_time(call, true);
}

void bw_resp__run_psetex(struct bw_resp__call *call)
{
	set_with_time(call, false);
}

void bw_resp__run_getset(struct bw_resp__call *call)
{
	struct bw_resp__item *old = bw_resp__find(call);
	struct bw_resp__block *before = old != NULL ? bw_resp__pin_value(old) : NULL;

	bw_resp__count_lookup(call, old);
	if (!bw_resp__put(call, &call->argv[2], 0)) {
		if (before != NULL)
			bw_resp__block_unpin(before);
		bw_resp__reply_oom(call);
	} else if (before != NULL) {
		bw_resp__reply_block(call, before);
	} else {
		bw_resp__reply_nil(call);
	}
}

void bw_resp__run_getdel(struct bw_resp__call *call)
{
	struct bw_resp__item *item = bw_resp__find(call);
	struct bw_resp__block *before;

	bw_resp__count_lookup(call, item);
	if (item == NULL) {
		bw_resp__reply_nil(call);
		return;
	}
	before = bw_resp__pin_value(item);
	bw_resp__store_remove(&call->r->store, item);
	bw_resp__reply_block(call, before);
}

void bw_resp__run_append(struct bw_resp__call *call)
{
	struct bw_resp__item *item = bw_resp__find(call);
	struct bw_resp__value value = bw_resp__value_of(call, &call->argv[2]);
	uint64_t len = (item != NULL ? (uint64_t)item->value_bytes : 0) + value.len;

	if (len > call->r->limits.bulk_bytes_max) {
		bw_resp__reply_error(call, "ERR string exceeds maximum allowed size (proto-max-bulk-len)");
		return;
	}
	if (item != NULL ? bw_resp__store_append(&call->r->store, item, &value) != NULL
			 : bw_resp__put(call, &call->argv[2], 0))
		bw_resp__reply_int(call, (int64_t)len);
	else
		bw_resp__reply_oom(call);
}

void bw_resp__run_strlen(struct bw_resp__call *call)
{
	struct bw_resp__item *item = bw_resp__find(call);

	bw_resp__count_lookup(call, item);
	bw_resp__reply_int(call, item != NULL ? item->value_bytes : 0);
}

static void add_to(struct bw_resp__call *call, int64_t by)
{
	struct bw_resp__item *item = bw_resp__find(call);
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

void bw_resp__run_incr(struct bw_resp__call *call)
{
	add_to(call, 1);
}

void bw_resp__run_decr(struct bw_resp__call *call)
{
	add_to(call, -1);
}

void bw_resp__run_incrby(struct bw_resp__call *call)
{
	int64_t by;

	if (bw_resp__arg_int(&call->argv[2], &by))
		add_to(call, by);
	else
		bw_resp__reply_not_an_integer(call);
}

void bw_resp__run_decrby(struct bw_resp__call *call)
{
	int64_t by;

	if (!bw_resp__arg_int(&call->argv[2], &by))
		bw_resp__reply_not_an_integer(call);
	else if (by == INT64_MIN)
		bw_resp__reply_error(call, "ERR decrement would overflow");
	else
		add_to(call, -by);
}
