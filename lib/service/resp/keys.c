/* SPDX-License-Identifier: BSD-3-Clause */
/* The commands on one key whatever its value: its time to live, what it is. */
#include "internal.h"

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
		!bw_resp__expiry_of(call, &call->argv[2], is_seconds, is_absolute, false, &at))
		return;
	item = bw_resp__find(call);
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

void bw_resp__run_expire(struct bw_resp__call *call)
{
	set_expiry(call, true, false);
}

void bw_resp__run_pexpire(struct bw_resp__call *call)
{
	set_expiry(call, false, false);
}

void bw_resp__run_expireat(struct bw_resp__call *call)
{
	set_expiry(call, true, true);
}

void bw_resp__run_pexpireat(struct bw_resp__call *call)
{
	set_expiry(call, false, true);
}

static void reply_time(struct bw_resp__call *call, bool in_seconds, bool is_absolute)
{
	struct bw_resp__item *item = bw_resp__peek(call);
	uint64_t at;

	bw_resp__count_lookup(call, item);
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

void bw_resp__run_ttl(struct bw_resp__call *call)
{
	reply_time(call, true, false);
}

void bw_resp__run_pttl(struct bw_resp__call *call)
{
	reply_time(call, false, false);
}

void bw_resp__run_expiretime(struct bw_resp__call *call)
{
	reply_time(call, true, true);
}

void bw_resp__run_pexpiretime(struct bw_resp__call *call)
{
	reply_time(call, false, true);
}

void bw_resp__run_persist(struct bw_resp__call *call)
{
	struct bw_resp__item *item = bw_resp__find(call);
	bool had_time = item != NULL && bw_resp__item_expires_ms(item) != 0;

	if (had_time)
		bw_resp__store_set_expiry(&call->r->store, item, 0);
	bw_resp__reply_int(call, had_time);
}

void bw_resp__run_type(struct bw_resp__call *call)
{
	struct bw_resp__item *item = bw_resp__peek(call);

	bw_resp__count_lookup(call, item);
	if (item != NULL)
		bw_resp__reply_literal(call, "+string\r\n");
	else
		bw_resp__reply_literal(call, "+none\r\n");
}

/* ---- OBJECT, MEMORY ---- */

/* The key that is asked about; NULL after a nil. */
static struct bw_resp__item *object_or_nil(struct bw_resp__call *call)
{
	struct bw_resp__item *item = bw_resp__peek(call);

	bw_resp__count_lookup(call, item);
	if (item == NULL)
		bw_resp__reply_nil(call);
	return item;
}

/* What Redis would keep it as; here all are bytes. */
void bw_resp__run_object_encoding(struct bw_resp__call *call)
{
	struct bw_resp__item *item = object_or_nil(call);
	int64_t number;

	if (item == NULL)
		return;
	if ((item->b.flags & BW_RESP__ITEM_RAW) != 0 || item->value_bytes > 44)
		bw_resp__reply_bulk(call, "raw", 3);
	else if ((item->b.flags & BW_RESP__ITEM_TEXT) == 0 &&
		 bw_resp__parse_int(bw_resp__item_value(item), item->value_bytes, &number))
		bw_resp__reply_bulk(call, "int", 3);
	else
		bw_resp__reply_bulk(call, "embstr", 6);
}

void bw_resp__run_object_idletime(struct bw_resp__call *call)
{
	struct bw_resp__item *item = object_or_nil(call);

	if (item == NULL)
		return;
	if (call->r->store.policy == BW_RESP_ALLKEYS_LFU)
		bw_resp__reply_error(call,
			"ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when "
			"switching between policies at runtime LRU and LFU data will take some time to adjust.");
	else
		bw_resp__reply_int(call, (int64_t)bw_resp__store_idle_seconds(&call->r->store, item));
}

void bw_resp__run_object_freq(struct bw_resp__call *call)
{
	struct bw_resp__item *item = object_or_nil(call);

	if (item == NULL)
		return;
	if (call->r->store.policy == BW_RESP_ALLKEYS_LFU)
		bw_resp__reply_int(call, bw_resp__store_frequency(&call->r->store, item));
	else
		bw_resp__reply_error(call,
			"ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note "
			"that when switching between policies at runtime LRU and LFU data will take some time "
			"to adjust.");
}

/* As in a Redis that evicts: no value is shared. */
void bw_resp__run_object_refcount(struct bw_resp__call *call)
{
	if (object_or_nil(call) != NULL)
		bw_resp__reply_int(call, 1);
}

void bw_resp__run_object_help(struct bw_resp__call *call)
{
	static const char *const lines[] = { "ENCODING <key>", "    What Redis would keep the value as.",
		"FREQ <key>", "    How often it is used, where the policy is an LFU one.", "IDLETIME <key>",
		"    For how many seconds nobody used it.", "REFCOUNT <key>",
		"    How many refer to it: one.", NULL };

	bw_resp__reply_help(call, lines);
}

void bw_resp__run_memory_usage(struct bw_resp__call *call)
{
	struct bw_resp__item *item;
	int64_t samples;

	/* SAMPLES is for values of several elements: there are none. */
	for (uint32_t i = 3; i < call->argc; i += 2) {
		if (!bw_resp__arg_is(&call->argv[i], "samples") || i + 1 == call->argc) {
			bw_resp__reply_syntax_error(call);
			return;
		}
		if (!bw_resp__arg_int(&call->argv[i + 1], &samples)) {
			bw_resp__reply_not_an_integer(call);
			return;
		}
		if (samples < 0) {
			bw_resp__reply_syntax_error(call);
			return;
		}
	}
	item = bw_resp__peek(call);
	if (item == NULL)
		bw_resp__reply_nil(call);
	else
		bw_resp__reply_int(call, (int64_t)bw_resp__store_item_bytes(item));
}

void bw_resp__run_memory_doctor(struct bw_resp__call *call)
{
	static const char text[] =
		"Memory cannot fragment beyond a page of 16 KiB: INFO memory says what is used.\n";

	bw_resp__reply_bulk(call, text, sizeof(text) - 1);
}

void bw_resp__run_memory_help(struct bw_resp__call *call)
{
	static const char *const lines[] = { "DOCTOR", "    What could be wrong with the memory.",
		"USAGE <key> [SAMPLES <count>]", "    What a key and its value cost, in bytes.", NULL };

	bw_resp__reply_help(call, lines);
}
