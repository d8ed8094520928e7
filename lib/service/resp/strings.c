/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The commands on one string. Each runs to its one reply. Semantics and texts are those of Redis 7.0; where they
 * differ, the place says so.
 */
#include "internal.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

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

/* Store, and reply what was there before: a pinned value, or NULL. */
static void put_and_reply_before(struct bw_resp__call *call, struct bw_resp__arg *arg, uint64_t expires_ms,
	struct bw_resp__block *before)
{
	if (!bw_resp__put(call, arg, expires_ms)) {
		if (before != NULL)
			bw_resp__block_unpin(before);
		bw_resp__reply_oom(call);
	} else if (before != NULL) {
		bw_resp__reply_block(call, before);
	} else {
		bw_resp__reply_nil(call);
	}
}

enum {
	SET_NX = 1,
	SET_XX = 2,
	SET_GET = 4,
	SET_KEEPTTL = 8,
	GETEX_PERSIST = 16
};

struct set_options {
	unsigned flags;
	const struct bw_resp__arg *time; /* NULL: none */
	bool is_seconds, is_absolute;
};

/* The options of SET from the fourth word on, or those of GETEX from the third. False after an error reply. */
static bool parse_set_options(struct bw_resp__call *call, bool is_getex, struct set_options *o)
{
	static const struct {
		const char *word;
		unsigned flag, excludes; /* with which flags it is no option */
		bool is_getex;
	} words[] = {
		{ "nx", SET_NX, SET_XX, false },
		{ "xx", SET_XX, SET_NX, false },
		{ "get", SET_GET, 0, false },
		{ "keepttl", SET_KEEPTTL, 0, false },
		{ "persist", GETEX_PERSIST, 0, true },
	};
	static const struct {
		const char *word;
		bool is_seconds, is_absolute;
	} times[] = { { "ex", true, false }, { "px", false, false }, { "exat", true, true },
		{ "pxat", false, true } };
	unsigned kind, w, time_kind = 0;

	memset(o, 0, sizeof(*o));
	for (uint32_t i = is_getex ? 2 : 3; i < call->argc; i++) {
		const struct bw_resp__arg *arg = &call->argv[i];

		w = 0;
		while (w < BW_ARRAY_LEN(words) &&
			(words[w].is_getex != is_getex || !bw_resp__arg_is(arg, words[w].word)))
			w++;
		if (w < BW_ARRAY_LEN(words) && (o->flags & words[w].excludes) == 0 &&
			((words[w].flag & (SET_KEEPTTL | GETEX_PERSIST)) == 0 || o->time == NULL)) {
			o->flags |= words[w].flag;
			continue;
		}
		for (kind = 0; kind < BW_ARRAY_LEN(times) && !bw_resp__arg_is(arg, times[kind].word); kind++)
			;
		/* The same unit may be said again: the last one counts. */
		if (kind == BW_ARRAY_LEN(times) || (o->flags & (SET_KEEPTTL | GETEX_PERSIST)) != 0 ||
			i + 1 == call->argc || (o->time != NULL && kind != time_kind)) {
			bw_resp__reply_syntax_error(call);
			return false;
		}
		o->time = &call->argv[++i];
		o->is_seconds = times[kind].is_seconds;
		o->is_absolute = times[kind].is_absolute;
		time_kind = kind;
	}
	return true;
}

void bw_resp__run_set(struct bw_resp__call *call)
{
	struct set_options o;
	struct bw_resp__block *before = NULL;
	struct bw_resp__item *old = NULL;
	int64_t expires_ms = 0;

	if (call->argc > 3) {
		if (!parse_set_options(call, false, &o) ||
			(o.time != NULL && !bw_resp__expiry_of(call, o.time, o.is_seconds, o.is_absolute,
						   true, &expires_ms)))
			return;
		if (o.flags != 0)
			old = bw_resp__find(call);
		if (o.flags & SET_GET)
			bw_resp__count_lookup(call, old);
		if (((o.flags & SET_NX) && old != NULL) || ((o.flags & SET_XX) && old == NULL)) {
			bw_resp__reply_value(call, (o.flags & SET_GET) ? old : NULL);
			return;
		}
		if ((o.flags & SET_KEEPTTL) && old != NULL)
			expires_ms = (int64_t)bw_resp__item_expires_ms(old);
		if (o.flags & SET_GET) {
			before = old != NULL ? bw_resp__pin_value(old) : NULL;
			put_and_reply_before(call, &call->argv[2], (uint64_t)expires_ms, before);
			return;
		}
	}
	if (bw_resp__put(call, &call->argv[2], (uint64_t)expires_ms))
		bw_resp__reply_ok(call);
	else
		bw_resp__reply_oom(call);
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

	bw_resp__count_lookup(call, old);
	put_and_reply_before(call, &call->argv[2], 0, old != NULL ? bw_resp__pin_value(old) : NULL);
}

void bw_resp__run_getex(struct bw_resp__call *call)
{
	struct bw_resp__store *store = &call->r->store;
	struct bw_resp__item *item;
	struct set_options o;
	int64_t expires_ms = 0;

	if (!parse_set_options(call, true, &o))
		return;
	item = bw_resp__find(call);
	bw_resp__count_lookup(call, item);
	if (item == NULL) { /* whatever the time is */
		bw_resp__reply_nil(call);
		return;
	}
	if (o.time != NULL &&
		!bw_resp__expiry_of(call, o.time, o.is_seconds, o.is_absolute, true, &expires_ms))
		return;
	bw_resp__reply_value(call, item);
	if (o.time != NULL && expires_ms <= (int64_t)bw_resp__now_ms(call))
		bw_resp__store_remove(store, item);
	else if (o.time != NULL || (o.flags & GETEX_PERSIST) != 0)
		bw_resp__store_set_expiry(store, item, (uint64_t)expires_ms);
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

/* False after an error reply. */
static bool check_string_length(struct bw_resp__call *call, int64_t len, uint32_t more)
{
	/* No sum: the length is any number that a client sends. */
	if (len <= call->r->limits.bulk_bytes_max && len + more <= call->r->limits.bulk_bytes_max)
		return true;
	bw_resp__reply_error(call, "ERR string exceeds maximum allowed size (proto-max-bulk-len)");
	return false;
}

void bw_resp__run_append(struct bw_resp__call *call)
{
	struct bw_resp__item *item = bw_resp__find(call);
	struct bw_resp__value value = bw_resp__value_of(call, &call->argv[2]);
	uint32_t before = item != NULL ? item->value_bytes : 0;

	if (item != NULL && !check_string_length(call, before, value.len))
		return;
	if (item != NULL ? bw_resp__store_append(&call->r->store, item, &value) != NULL
			 : bw_resp__put(call, &call->argv[2], 0))
		bw_resp__reply_int(call, (int64_t)before + value.len);
	else
		bw_resp__reply_oom(call);
}

void bw_resp__run_setrange(struct bw_resp__call *call)
{
	struct bw_resp__store *store = &call->r->store;
	const struct bw_resp__arg *key = &call->argv[1];
	struct bw_resp__value value = bw_resp__value_of(call, &call->argv[3]), none = { .data = key->data };
	struct bw_resp__item *item;
	bool is_new;
	int64_t offset;

	if (!bw_resp__arg_int(&call->argv[2], &offset)) {
		bw_resp__reply_not_an_integer(call);
		return;
	}
	if (offset < 0) {
		bw_resp__reply_error(call, "ERR offset is out of range");
		return;
	}
	item = bw_resp__find(call);
	if (value.len == 0) { /* neither makes a key nor pads one */
		bw_resp__reply_int(call, item != NULL ? item->value_bytes : 0);
		return;
	}
	if (!check_string_length(call, offset, value.len))
		return;
	is_new = item == NULL;
	if (is_new)
		item = bw_resp__store_put(store, call->hash, key->data, key->len, &none, 0);
	if (item == NULL) {
		bw_resp__reply_oom(call);
		return;
	}
	item = bw_resp__store_set_range(store, item, (uint32_t)offset, &value);
	if (item != NULL) {
		bw_resp__reply_int(call, item->value_bytes);
		return;
	}
	if (is_new)
		bw_resp__store_remove(store, bw_resp__find(call));
	bw_resp__reply_oom(call);
}

/* Both ends count, negative ones from behind. */
void bw_resp__run_getrange(struct bw_resp__call *call)
{
	struct bw_resp__item *item;
	int64_t start, end, len;

	if (!bw_resp__arg_int(&call->argv[2], &start) || !bw_resp__arg_int(&call->argv[3], &end)) {
		bw_resp__reply_not_an_integer(call);
		return;
	}
	item = bw_resp__find(call);
	bw_resp__count_lookup(call, item);
	len = item != NULL ? item->value_bytes : 0;
	if (len == 0 || (start < 0 && end < 0 && start > end)) {
		bw_resp__reply_bulk(call, "", 0);
		return;
	}
	start = BW_MAX(start < 0 ? start + len : start, (int64_t)0);
	end = BW_MIN(BW_MAX(end < 0 ? end + len : end, (int64_t)0), len - 1);
	if (start > end)
		bw_resp__reply_bulk(call, "", 0);
	else
		bw_resp__reply_range(call, item, (uint32_t)start, (uint32_t)(end - start + 1));
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

/* ---- floating point ---- */

#define FLOAT_CHARS (5 * 1024) /* the longest long double in digits */

static bool parse_float(const uint8_t *text, uint32_t len, long double *value)
{
	char digits[FLOAT_CHARS], *end;

	if (len == 0 || len >= sizeof(digits))
		return false;
	memcpy(digits, text, len);
	digits[len] = '\0';
	if (isspace((unsigned char)digits[0]))
		return false;
	errno = 0;
	*value = strtold(digits, &end);
	return end == digits + len && !isnan(*value) &&
	       !(errno == ERANGE && (isinf(*value) || fpclassify(*value) == FP_ZERO));
}

/* Redis's form for people: 17 digits behind the point, less the zeros at the end. */
static uint32_t format_float(char text[FLOAT_CHARS], long double value)
{
	uint32_t len = (uint32_t)snprintf(text, FLOAT_CHARS, "%.17Lf", value);

	while (text[len - 1] == '0')
		len--;
	if (text[len - 1] == '.')
		len--;
	if (len == 2 && memcmp(text, "-0", 2) == 0) {
		text[0] = '0';
		len = 1;
	}
	return len;
}

void bw_resp__run_incrbyfloat(struct bw_resp__call *call)
{
	struct bw_resp__store *store = &call->r->store;
	const struct bw_resp__arg *key = &call->argv[1], *by_arg = &call->argv[2];
	struct bw_resp__item *item = bw_resp__find(call);
	long double number = 0, by;
	char text[FLOAT_CHARS];
	struct bw_resp__value value = { .data = (const uint8_t *)text };
	uint8_t copy[FLOAT_CHARS];
	uint32_t len = item != NULL ? item->value_bytes : 0;
	const uint8_t *digits = copy;

	/* What lies in several chunks is put together; what is longer is none. */
	if (item != NULL && !bw_resp__item_has_blob(item))
		digits = bw_resp__item_value(item);
	else if (item != NULL && len < FLOAT_CHARS)
		bw_resp__blob_copy(bw_resp__item_blob(item), copy, len);
	/* An argument in chunks is longer than any number. */
	if ((item != NULL && !parse_float(digits, len, &number)) ||
		!parse_float(by_arg->data, by_arg->len, &by)) {
		bw_resp__reply_error(call, "ERR value is not a valid float");
		return;
	}
	number += by;
	if (isnan(number) || isinf(number)) {
		bw_resp__reply_error(call, "ERR increment would produce NaN or Infinity");
		return;
	}
	value.len = format_float(text, number);
	item = bw_resp__store_put(store, call->hash, key->data, key->len, &value,
		item != NULL ? bw_resp__item_expires_ms(item) : 0);
	if (item == NULL) {
		bw_resp__reply_oom(call);
		return;
	}
	item->b.flags |= BW_RESP__ITEM_TEXT;
	bw_resp__reply_value(call, item);
}
