/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * SCAN, KEYS and RANDOMKEY: walks over the keys.
 *
 * A walk has a position in a worker's index that stays good while the index grows (store.h), so a key that is there
 * from the beginning to the end of a walk is met. SCAN's cursor is that position, with the worker in the bits above 32;
 * the walk goes through one worker after the other.
 *
 * A call of SCAN is one visit. KEYS and RANDOMKEY are walks of many short visits, so that nothing waits for them for
 * long: their request travels, to its own worker too, and has what was found in the visit with it. At home the names
 * are put together. Meanwhile the connection runs nothing else, so that they are answered as of before.
 */
#include "internal.h"

#include <stdio.h>

#define SCAN_BUCKETS_MAX   2048u /* a visit looks at no more, whatever COUNT says */
#define VISIT_BUCKETS      256u
#define VISIT_BYTES        (16u * 1024) /* of names, and what is in the last bucket */
#define RANDOM_TRIES       64u
#define RANDOM_BUCKETS     1024u
#define PATTERN_MAX        1024u
#define VISIT_WORK         (1u << 20) /* steps of matching at most, and those of the last bucket */
#define KEYS_BYTES_MAX     (64u << 20)
#define CURSOR_WORKER_BITS 32

/* ---- names, framed: in the scratch while they fit, and in staged memory ---- */

struct rows {
	struct bw_resp__store *store;
	struct bw_resp__chunk *blob;
	char *begin, *to, *end;
	uint32_t count;
	bool is_over_memory;
};

#define HEAD_BYTES 64u /* before them: what rows_reply() puts there */

static void rows_begin(struct rows *rows, struct bw_resp *r)
{
	char *begin = (char *)r->scratch + r->limits.inline_bytes_max;

	*rows = (struct rows){
		.store = &r->store,
		.begin = begin + HEAD_BYTES,
		.to = begin + HEAD_BYTES,
		.end = begin + BW_RESP__SCRATCH_BYTES,
	};
}

static void rows_flush(struct rows *rows)
{
	if (!rows->is_over_memory &&
		!bw_resp__blob_append(rows->store, &rows->blob, (const uint8_t *)rows->begin,
			(uint32_t)(rows->to - rows->begin), 0))
		rows->is_over_memory = true;
	rows->to = rows->begin;
}

static uint32_t rows_bytes(const struct rows *rows)
{
	return (uint32_t)(rows->to - rows->begin) + (rows->blob != NULL ? rows->blob->total_bytes : 0);
}

static void rows_add(struct rows *rows, const uint8_t *key, uint32_t len)
{
	if (rows->end - rows->to < (ptrdiff_t)len + 32)
		rows_flush(rows);
	*rows->to++ = '$';
	rows->to += bw_resp__format_int(rows->to, len);
	rows->to = mempcpy(rows->to, "\r\n", 2);
	rows->to = mempcpy(rows->to, key, len);
	rows->to = mempcpy(rows->to, "\r\n", 2);
	rows->count++;
}

/* All of them as a blob, NULL where there are none or no memory. */
static struct bw_resp__chunk *rows_take(struct rows *rows)
{
	struct bw_resp__chunk *blob;

	if (rows->to > rows->begin)
		rows_flush(rows);
	if (rows->is_over_memory && rows->blob != NULL) {
		bw_resp__blob_free(rows->store, rows->blob);
		rows->blob = NULL;
	}
	blob = rows->blob;
	rows->blob = NULL;
	return blob;
}

/* @head  what comes before them */
static void rows_reply(struct bw_resp__call *call, struct rows *rows, const char *head, uint32_t len)
{
	struct bw_resp__chunk *blob;

	if (rows->blob == NULL) {
		BW_ASSERT_LE(len, HEAD_BYTES);
		memcpy(rows->begin - len, head, len);
		bw_resp__reply_framed(call, rows->begin - len, len + (uint32_t)(rows->to - rows->begin));
		return;
	}
	blob = rows_take(rows);
	if (blob == NULL)
		bw_resp__reply_oom(call);
	else
		bw_resp__reply_text_and_blob(call, head, len, blob);
}

/* ---- what is looked for ---- */

struct filter {
	const uint8_t *pattern;
	uint32_t pattern_len;
	bool has_pattern;
	bool is_nothing; /* a type that there is not */
};

static void set_pattern(struct filter *filter, const struct bw_resp__arg *arg)
{
	filter->pattern = arg->data;
	filter->pattern_len = BW_MIN(arg->len, PATTERN_MAX); /* check_pattern() looked */
	filter->has_pattern = !(arg->len == 1 && arg->data[0] == '*');
}

/* A pattern is matched against every key, at a cost of its length times the key's. False after an error reply. */
static bool check_pattern(struct bw_resp__call *call, const struct bw_resp__arg *arg)
{
	if (arg->len <= PATTERN_MAX)
		return true;
	bw_resp__reply_error(call, "ERR pattern is longer than %u bytes", PATTERN_MAX);
	return false;
}

struct search {
	const struct filter *filter;
	struct rows *rows;
	uint64_t work; /* steps of matching, at most */
};

static void add_if_wanted(void *arg, const struct bw_resp__item *item)
{
	struct search *search = arg;
	const struct filter *filter = search->filter;

	if (filter->has_pattern)
		search->work += (uint64_t)filter->pattern_len * bw_resp__item_key_len(item);
	if (!filter->is_nothing &&
		(!filter->has_pattern ||
			bw_resp__glob(filter->pattern, filter->pattern_len, bw_resp__item_key(item),
				bw_resp__item_key_len(item), false)))
		rows_add(search->rows, bw_resp__item_key(item), bw_resp__item_key_len(item));
}

/* ---- SCAN ---- */

/* As strtoul() reads it in Redis. False: it is none. */
static bool parse_cursor(const struct bw_resp__arg *arg, uint64_t *cursor)
{
	uint32_t i = arg->len > 0 && (arg->data[0] == '-' || arg->data[0] == '+');
	bool is_negative = i == 1 && arg->data[0] == '-';

	*cursor = 0;
	if (i == 1 && arg->len == 1)
		return false;
	for (; i < arg->len; i++)
		if (arg->data[i] < '0' || arg->data[i] > '9' ||
			__builtin_mul_overflow(*cursor, 10u, cursor) ||
			__builtin_add_overflow(*cursor, arg->data[i] - '0', cursor))
			return false;
	if (is_negative)
		*cursor = -*cursor;
	return true;
}

int bw_resp__scan_worker(struct bw_resp__call *call)
{
	uint64_t cursor;

	if (!parse_cursor(&call->argv[1], &cursor)) {
		bw_resp__reply_error(call, "ERR invalid cursor");
		return -1;
	}
	cursor >>= CURSOR_WORKER_BITS;
	/* Nobody was given such a one: its walk is at its end, whoever says so. */
	return cursor < call->r->workers ? (int)cursor : (int)call->r->worker;
}

static bool parse_scan_options(struct bw_resp__call *call, struct filter *filter, int64_t *count)
{
	*count = 10;
	for (uint32_t i = 2; i < call->argc; i += 2) {
		const struct bw_resp__arg *word = &call->argv[i], *value = word + 1;

		if (i + 1 < call->argc && bw_resp__arg_is(word, "count")) {
			if (!bw_resp__arg_int(value, count)) {
				bw_resp__reply_not_an_integer(call);
				return false;
			}
			if (*count >= 1)
				continue;
		} else if (i + 1 < call->argc && bw_resp__arg_is(word, "match")) {
			if (!check_pattern(call, value))
				return false;
			set_pattern(filter, value);
			continue;
		} else if (i + 1 < call->argc && bw_resp__arg_is(word, "type")) {
			filter->is_nothing = !bw_resp__arg_is(value, "string");
			continue;
		}
		bw_resp__reply_syntax_error(call);
		return false;
	}
	return true;
}

void bw_resp__run_scan(struct bw_resp__call *call)
{
	struct bw_resp *r = call->r;
	struct filter filter = { 0 };
	struct rows rows;
	struct search search = { .filter = &filter, .rows = &rows };
	uint64_t cursor = 0, position, buckets;
	int64_t count;
	char head[HEAD_BYTES], text[24];
	int len;

	if (!parse_scan_options(call, &filter, &count))
		return;
	(void)parse_cursor(&call->argv[1], &cursor);
	position = cursor & UINT32_MAX;
	rows_begin(&rows, r);
	/* Ten buckets for each name that is wanted, as in Redis; but what a visit takes is bounded. */
	buckets = count < SCAN_BUCKETS_MAX / 10 ? 10 * (uint64_t)count : SCAN_BUCKETS_MAX;
	if (cursor >> CURSOR_WORKER_BITS != r->worker)
		cursor = 0;
	else {
		do
			position = bw_resp__store_walk(&r->store, position, add_if_wanted, &search);
		while (position < BW_RESP__WALK_END && --buckets > 0 && rows.count < count &&
			search.work < VISIT_WORK && rows_bytes(&rows) < BW_RESP__SCRATCH_BYTES / 2);
		cursor = ((uint64_t)r->worker << CURSOR_WORKER_BITS) + position;
		if (position == BW_RESP__WALK_END && r->worker + 1 == r->workers)
			cursor = 0;
	}
	len = snprintf(text, sizeof(text), "%llu", (unsigned long long)cursor);
	len = snprintf(head, sizeof(head), "*2\r\n$%d\r\n%s\r\n*%u\r\n", len, text, rows.count);
	rows_reply(call, &rows, head, (uint32_t)len);
}

/* ---- KEYS and RANDOMKEY ---- */

struct draw {
	struct bw_resp__store *store;
	const struct bw_resp__item *item;
	uint32_t count;
};

/* Each of a bucket's keys is as likely as any other. */
static void draw_one(void *arg, const struct bw_resp__item *item)
{
	struct draw *draw = arg;

	if (bw_resp__store_random(draw->store) % ++draw->count == 0)
		draw->item = item;
}

/* One visit of the walk to this worker. @pattern  NULL: any one key will do */
static void visit(
	struct bw_resp *r, struct bw_resp__walk *walk, const struct bw_resp__arg *pattern, struct rows *rows)
{
	struct filter filter = { 0 };
	struct search search = { .filter = &filter, .rows = rows };
	struct draw draw = { .store = &r->store };

	rows_begin(rows, r);
	if (r->store.keys == 0) {
		walk->position = BW_RESP__WALK_END;
		return;
	}
	if (pattern != NULL) {
		set_pattern(&filter, pattern);
		for (unsigned n = VISIT_BUCKETS; n > 0 && walk->position < BW_RESP__WALK_END &&
						 rows_bytes(rows) < VISIT_BYTES && search.work < VISIT_WORK;
			n--)
			walk->position =
				bw_resp__store_walk(&r->store, walk->position, add_if_wanted, &search);
		return;
	}
	/* Anywhere; and where the index is nearly empty, one bucket after the other. */
	for (unsigned n = RANDOM_TRIES; n > 0 && walk->comes_again && draw.item == NULL; n--)
		bw_resp__store_walk(&r->store, bw_resp__store_random(&r->store), draw_one, &draw);
	for (unsigned n = RANDOM_BUCKETS; n > 0 && walk->position < BW_RESP__WALK_END && draw.item == NULL;
		n--)
		walk->position = bw_resp__store_walk(&r->store, walk->position, draw_one, &draw);
	if (draw.item != NULL)
		rows_add(rows, bw_resp__item_key(draw.item), bw_resp__item_key_len(draw.item));
}

/* After a visit: is there another to come? */
static bool walk_goes_on(const struct bw_resp *r, struct bw_resp__walk *walk, bool is_random, bool has_rows)
{
	if (is_random && has_rows)
		return false;
	if (walk->position < BW_RESP__WALK_END)
		return true;
	walk->position = 0;
	/* The first worker of a draw, which began somewhere in it, comes twice. */
	if (walk->comes_again)
		walk->comes_again = false;
	else
		walk->worker = (uint16_t)((walk->worker + 1) % r->workers);
	return --walk->rounds_left > 0;
}

/* A worker, as likely as it has keys. */
static uint32_t draw_worker(struct bw_resp *r)
{
	uint64_t sum = 0, at;
	uint32_t worker = 0;

	for (uint32_t i = 0; i < r->workers; i++)
		sum += ((const struct bw_resp *)bw_context_peer_state(r->ctx, i))->store.keys;
	at = (uint64_t)bw_resp__store_random(&r->store) * sum >> 32;
	for (; worker + 1 < r->workers; worker++) {
		uint64_t keys = ((const struct bw_resp *)bw_context_peer_state(r->ctx, worker))->store.keys;

		if (at < keys)
			break;
		at -= keys;
	}
	return worker;
}

static uint32_t keys_head(char head[HEAD_BYTES], bool is_random, uint64_t count)
{
	return is_random ? 0 : (uint32_t)snprintf(head, HEAD_BYTES, "*%llu\r\n", (unsigned long long)count);
}

enum bw_resp__ran bw_resp__walk_begin(struct bw_resp__call *call, struct bw_resp__gather **gathered)
{
	struct bw_resp *r = call->r;
	bool is_random = call->command->spread == BW_RESP__RANDOMKEY, goes_on = true;
	struct bw_resp__walk walk = { .worker = (uint16_t)r->worker, .rounds_left = (uint16_t)r->workers };
	struct bw_resp__request *request;
	struct rows rows = { 0 };
	char head[HEAD_BYTES];

	if (!is_random && !check_pattern(call, &call->argv[1]))
		return BW_RESP__RAN_HERE;
	if (is_random) {
		walk.worker = (uint16_t)draw_worker(r);
		walk.rounds_left++;
		walk.comes_again = true;
		walk.position = bw_resp__store_random(&r->store);
	}
	/* Most walks are over within one's own first visits, with one worker. */
	while (goes_on && walk.worker == r->worker && walk.visits++ < 1 + is_random &&
		(r->holds == 0 || !bw_resp__must_wait(call))) {
		visit(r, &walk, is_random ? NULL : &call->argv[1], &rows);
		goes_on = walk_goes_on(r, &walk, is_random, rows.count > 0);
	}
	if (!goes_on) {
		if (is_random && rows.count == 0)
			bw_resp__reply_nil(call);
		else
			rows_reply(call, &rows, head, keys_head(head, is_random, rows.count));
		return BW_RESP__RAN_HERE;
	}
	if (call->request == NULL && !bw_resp__has_requests(r)) {
		if (rows.blob != NULL)
			bw_resp__blob_free(&r->store, rows.blob);
		return BW_RESP__RAN_NOT;
	}
	request = call->request != NULL ? call->request : bw_resp__request_push(call);
	call->request = request;
	request->walk = walk;
	request->sum = rows.count;
	request->rows = rows.begin != NULL ? rows_take(&rows) : NULL;
	request->is_over_memory = rows.is_over_memory;
	if (!is_random && (request->gather = bw_resp__keep_args(call, gathered)) == NULL)
		request->is_over_memory = true;
	if (request->is_over_memory) {
		bw_resp__reply_oom(call);
		request->is_done = true;
		return BW_RESP__RAN_AWAY;
	}
	call->conn->flags |= BW_RESP__BARRIER;
	bw_resp__post(r, walk.worker, request);
	return BW_RESP__RAN_AWAY;
}

void bw_resp__walk_visit(struct bw_resp *r, struct bw_resp__request *request)
{
	struct bw_resp__chunk *blob;
	struct rows rows;

	if (request->gather != NULL)
		bw_resp__gather_args(request->gather, r->argv);
	visit(r, &request->walk, request->gather != NULL ? &r->argv[1] : NULL, &rows);
	request->sum += rows.count;
	blob = rows.count > 0 ? rows_take(&rows) : NULL;
	request->value = blob != NULL ? &blob->b : NULL;
	request->is_over_memory |= rows.is_over_memory;
}

/* What the visit found, into this worker's memory. */
static void take_rows(struct bw_resp *r, struct bw_resp__request *request)
{
	const struct bw_resp__chunk *found = (const struct bw_resp__chunk *)request->value;

	for (; found != NULL; found = found->next)
		if (!request->is_over_memory &&
			!bw_resp__blob_append(&r->store, &request->rows, found->bytes, found->len, 0))
			request->is_over_memory = true;
	if (request->value != NULL)
		bw_resp__block_unpin(request->value);
	request->value = NULL;
}

bool bw_resp__walk_goes_on(struct bw_resp *r, struct bw_resp__request *request)
{
	struct bw_resp__call call = { .r = r, .command = request->command, .request = request };
	bool is_random = request->command->spread == BW_RESP__RANDOMKEY;
	struct bw_resp__chunk *rows;
	char head[HEAD_BYTES];
	uint32_t bytes;

	take_rows(r, request);
	rows = request->rows;
	bytes = rows != NULL ? rows->total_bytes : 0;
	if (request->stream != NULL && !request->is_over_memory && bytes <= KEYS_BYTES_MAX &&
		walk_goes_on(r, &request->walk, is_random, rows != NULL)) {
		bw_resp__post(r, request->walk.worker, request);
		return true;
	}
	request->rows = NULL;
	if (rows != NULL && (request->stream == NULL || request->is_over_memory || bytes > KEYS_BYTES_MAX)) {
		bw_resp__blob_free(&r->store, rows);
		rows = NULL;
	}
	if (request->is_over_memory || bytes > KEYS_BYTES_MAX)
		bw_resp__reply_error(&call, "ERR the names take more memory than a reply may: use SCAN");
	else if (rows != NULL)
		bw_resp__reply_text_and_blob(
			&call, head, keys_head(head, is_random, (uint64_t)request->sum), rows);
	else if (is_random)
		bw_resp__reply_nil(&call);
	else
		bw_resp__reply_literal(&call, "*0\r\n");
	return false;
}
