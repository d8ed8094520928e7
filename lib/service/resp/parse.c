/* SPDX-License-Identifier: BSD-3-Clause */
#include "parse.h"

#include <stdio.h>

/* ---- in place ---- */

/* A decimal of at most 7 digits and its CRLF. NULL: something else, or not all there. */
static const uint8_t *plain_count(const uint8_t *p, const uint8_t *end, uint32_t *value)
{
	uint32_t v = 0;
	const uint8_t *first = p;

	for (; p < end && p - first < 8; p++) {
		uint32_t digit = (uint32_t)*p - '0';

		if (digit > 9)
			break;
		v = v * 10 + digit;
	}
	if (p == first || p - first > 7 || end - p < 2 || p[0] != '\r' || p[1] != '\n' ||
		(*first == '0' && p - first > 1))
		return NULL;
	*value = v;
	return p + 2;
}

uint32_t bw_resp__parse_in_place(const uint8_t *p, const uint8_t *end, const struct bw_resp__limits *limits,
	struct bw_resp__arg *argv, uint32_t *argc)
{
	const uint8_t *begin = p;
	uint32_t count, len;

	if (*p != '*')
		return 0;
	p = plain_count(p + 1, end, &count);
	if (p == NULL || count == 0 || count > limits->args_max)
		return 0;
	/* The shortest argument is "$0\r\n\r\n": so a wrong count does not have us look at all of the view. */
	if ((uint64_t)count * 6 > (uint64_t)(end - p))
		return 0;
	for (uint32_t i = 0; i < count; i++) {
		if (p == end || *p != '$')
			return 0;
		p = plain_count(p + 1, end, &len);
		if (p == NULL || len > limits->bulk_bytes_max || (uint64_t)(end - p) < (uint64_t)len + 2)
			return 0;
		argv[i] = (struct bw_resp__arg){ .data = p, .len = len };
		p += len + 2;
	}
	*argc = count;
	return (uint32_t)(p - begin);
}

/* ---- integers ---- */

bool bw_resp__parse_int(const uint8_t *p, uint32_t len, int64_t *value)
{
	bool is_negative = len > 0 && p[0] == '-';
	uint64_t v = 0;

	if (is_negative) {
		p++;
		len--;
	}
	if (len == 0 || len > 19 || (p[0] == '0' && (len > 1 || is_negative)))
		return false;
	for (uint32_t i = 0; i < len; i++) {
		uint32_t digit = (uint32_t)p[i] - '0';

		if (digit > 9)
			return false;
		v = v * 10 + digit; /* 19 digits fit */
	}
	if (v > (uint64_t)INT64_MAX + is_negative)
		return false;
	*value = is_negative ? (int64_t)(0 - v) : (int64_t)v;
	return true;
}

unsigned bw_resp__format_int(char *out, int64_t value)
{
	uint64_t v = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
	unsigned n = 0, len;
	char digits[20];

	/* Most are the lengths of short values. */
	if (bw_likely((uint64_t)value < 100)) {
		if (value < 10) {
			out[0] = (char)('0' + value);
			return 1;
		}
		out[0] = (char)('0' + (uint32_t)value / 10);
		out[1] = (char)('0' + (uint32_t)value % 10);
		return 2;
	}
	do {
		digits[n++] = (char)('0' + v % 10);
		v /= 10;
	} while (v > 0);
	len = n + (value < 0);
	if (value < 0)
		*out++ = '-';
	while (n > 0)
		*out++ = digits[--n];
	return len;
}

/* ---- gathering ---- */

#define RECORD_BYTES(len) (((uint32_t)sizeof(struct bw_resp__rec) + (len) + 7) & ~7u)
#define HEAD_BYTES        (((uint32_t)sizeof(struct bw_resp__gather) + 7) & ~7u)

struct bw_resp__gather *bw_resp__gather_new(struct bw_resp__store *store)
{
	struct bw_resp__chunk *chunk = bw_resp__chunk_alloc(store, HEAD_BYTES + 256, true);
	struct bw_resp__gather *gather;

	if (chunk == NULL)
		return NULL;
	gather = (struct bw_resp__gather *)chunk->bytes;
	memset(gather, 0, sizeof(*gather));
	gather->head = gather->tail = chunk;
	chunk->len = HEAD_BYTES;
	return gather;
}

static void records_free(struct bw_resp__store *store, struct bw_resp__gather *gather)
{
	struct bw_resp__cursor cursor;
	struct bw_resp__rec *rec;

	for (rec = bw_resp__gather_first(gather, &cursor); rec != NULL; rec = bw_resp__gather_next(&cursor))
		if (rec->is_blob && rec->blob != NULL)
			bw_resp__blob_free(store, rec->blob);
		else if (!rec->is_blob && rec->found != NULL) {
			bw_resp__unlist(rec->found);
			bw_resp__block_unpin(rec->found);
		}
	bw_resp__chunks_free(store, gather->head->next);
	gather->head->next = NULL;
	gather->head->len = HEAD_BYTES;
	gather->head->total_bytes = 0;
	gather->tail = gather->head;
	gather->rec = NULL;
	if (gather->text != NULL)
		bw_resp__blob_free(store, gather->text);
	gather->text = NULL;
}

void bw_resp__gather_free(struct bw_resp__store *store, struct bw_resp__gather *gather)
{
	records_free(store, gather);
	bw_resp__chunks_free(store, gather->head);
}

struct bw_resp__rec *bw_resp__gather_next(struct bw_resp__cursor *cursor)
{
	struct bw_resp__rec *rec;

	while (cursor->offset >= cursor->chunk->len) {
		if (cursor->chunk->next == NULL)
			return NULL;
		cursor->chunk = cursor->chunk->next;
		cursor->offset = 0;
	}
	rec = (struct bw_resp__rec *)(cursor->chunk->bytes + cursor->offset);
	cursor->offset += RECORD_BYTES(rec->is_blob ? 0 : rec->len);
	return rec;
}

struct bw_resp__rec *bw_resp__gather_first(
	const struct bw_resp__gather *gather, struct bw_resp__cursor *cursor)
{
	*cursor = (struct bw_resp__cursor){ .chunk = gather->head, .offset = HEAD_BYTES };
	return bw_resp__gather_next(cursor);
}

uint32_t bw_resp__gather_args(const struct bw_resp__gather *gather, struct bw_resp__arg *argv)
{
	struct bw_resp__cursor cursor;
	uint32_t argc = 0;

	for (struct bw_resp__rec *rec = bw_resp__gather_first(gather, &cursor); rec != NULL;
		rec = bw_resp__gather_next(&cursor))
		argv[argc++] = (struct bw_resp__arg){
			.data = rec->is_blob ? rec->blob->bytes : rec->bytes,
			.len = rec->len,
			.rec = rec,
		};
	return argc;
}

/* All that one command has staged, counted in its first chunk. */
static bool charge(struct bw_resp__store *store, struct bw_resp__gather *gather, uint32_t bytes)
{
	if (gather->head->total_bytes + (uint64_t)bytes > store->staged_command_bytes_max)
		return false;
	gather->head->total_bytes += bytes;
	return true;
}

static struct bw_resp__rec *record_new(
	struct bw_resp__store *store, struct bw_resp__gather *gather, uint32_t len)
{
	bool is_blob = len > BW_RESP__KEY_MAX;
	uint32_t bytes = RECORD_BYTES(is_blob ? 0 : len);
	struct bw_resp__chunk *chunk = gather->tail;
	struct bw_resp__rec *rec;

	if (!charge(store, gather, bytes))
		return NULL;
	if (chunk->room - chunk->len < bytes) {
		uint32_t room = BW_MAX(512u, gather->head->total_bytes); /* doubles what is there */

		room = BW_MIN(room, BW_RESP__CHUNK_ROOM_MAX);
		chunk = bw_resp__chunk_alloc(
			store, BW_MAX(room, bytes), gather->head->total_bytes <= BW_RESP__STAGED_SMALL);
		if (chunk == NULL)
			return NULL;
		gather->tail->next = chunk;
		gather->tail = chunk;
	}
	rec = (struct bw_resp__rec *)(chunk->bytes + chunk->len);
	chunk->len += bytes;
	rec->len = len;
	rec->is_blob = is_blob;
	rec->blob = NULL;
	return rec;
}

bool bw_resp__gather_add(
	struct bw_resp__store *store, struct bw_resp__gather *gather, const struct bw_resp__arg *arg)
{
	struct bw_resp__rec *rec = record_new(store, gather, arg->len);

	if (rec == NULL)
		return false;
	gather->argc++;
	if (!rec->is_blob) {
		memcpy(rec->bytes, arg->data, arg->len);
		return true;
	}
	return charge(store, gather, arg->len) &&
	       bw_resp__blob_append(store, &rec->blob, arg->data, arg->len, 0);
}

static void fail(struct bw_resp__gather *gather, const char *error)
{
	gather->error = error;
	gather->state = BW_RESP__GATHER_COMPLETE;
}

static void line_begin(struct bw_resp__gather *gather)
{
	gather->line_len = 0;
	gather->state = BW_RESP__GATHER_LINE;
}

/* "*3" or "$5" is here. */
static void line_end(
	struct bw_resp__store *store, struct bw_resp__gather *gather, const struct bw_resp__limits *limits)
{
	int64_t value = 0;
	bool ok = gather->line_len <= sizeof(gather->line) &&
		  bw_resp__parse_int((const uint8_t *)gather->line + 1, gather->line_len - 1, &value);

	if (!gather->has_count) {
		gather->has_count = true;
		if (ok && limits->is_unauthenticated && value > (int64_t)limits->args_max) {
			fail(gather, "Protocol error: unauthenticated multibulk length");
		} else if (!ok || value > (int64_t)limits->args_max) {
			fail(gather, "Protocol error: invalid multibulk length");
		} else if (value <= 0) {
			gather->state = BW_RESP__GATHER_COMPLETE; /* nothing was asked, nothing is answered */
		} else {
			gather->args_left = (uint32_t)value;
			line_begin(gather);
		}
		return;
	}
	if (gather->line_len == 0 || gather->line[0] != '$') {
		/* What stands in its place, where it is not the line's own CR. */
		snprintf(gather->error_text, sizeof(gather->error_text),
			"Protocol error: expected '$', got '%c'",
			gather->line_len == 0 ? '\r' : gather->line[0]);
		fail(gather, gather->error_text);
		return;
	}
	if (ok && limits->is_unauthenticated && value > (int64_t)limits->bulk_bytes_max) {
		fail(gather, "Protocol error: unauthenticated bulk length");
		return;
	}
	if (!ok || value < 0 || value > (int64_t)limits->bulk_bytes_max) {
		fail(gather, "Protocol error: invalid bulk length");
		return;
	}
	gather->bulk_left = (uint32_t)value;
	gather->rec = NULL;
	gather->state = BW_RESP__GATHER_BULK;
	if (value == 0) {
		if (!gather->is_over_memory && record_new(store, gather, 0) == NULL) {
			gather->is_over_memory = true;
			records_free(store, gather);
		}
		gather->skip = 2;
		gather->state = BW_RESP__GATHER_BULK_END;
	}
}

static uint32_t feed_line(struct bw_resp__store *store, struct bw_resp__gather *gather,
	const struct bw_resp__limits *limits, const uint8_t *p, uint32_t len)
{
	uint32_t used = 0;

	while (used < len) {
		if (p[used] == '\r') {
			gather->state = BW_RESP__GATHER_LINE_LF;
			return used + 1;
		}
		if (gather->line_len < sizeof(gather->line))
			gather->line[gather->line_len] = (char)p[used];
		gather->line_len++;
		used++;
		if (gather->line_len > limits->inline_bytes_max) {
			fail(gather, gather->has_count ? "Protocol error: too big bulk count string"
						       : "Protocol error: too big mbulk count string");
			return used;
		}
	}
	return used;
}

static bool keep_bulk(
	struct bw_resp__store *store, struct bw_resp__gather *gather, const uint8_t *p, uint32_t n)
{
	struct bw_resp__rec *rec = gather->rec;

	/* Memory is taken when the first byte is here. */
	if (rec == NULL)
		rec = gather->rec = record_new(store, gather, gather->bulk_left);
	if (rec == NULL)
		return false;
	if (rec->is_blob)
		return charge(store, gather, n) &&
		       bw_resp__blob_append(store, &rec->blob, p, n, gather->bulk_left - n);
	memcpy(rec->bytes + rec->len - gather->bulk_left, p, n);
	return true;
}

static uint32_t feed_bulk(
	struct bw_resp__store *store, struct bw_resp__gather *gather, const uint8_t *p, uint32_t len)
{
	uint32_t n = BW_MIN(len, gather->bulk_left);

	if (!gather->is_over_memory && !keep_bulk(store, gather, p, n)) {
		gather->is_over_memory = true;
		records_free(store, gather);
	}
	gather->bulk_left -= n;
	if (gather->bulk_left == 0) {
		gather->skip = 2;
		gather->state = BW_RESP__GATHER_BULK_END;
	}
	return n;
}

static uint32_t feed_inline(struct bw_resp__store *store, struct bw_resp__gather *gather,
	const struct bw_resp__limits *limits, const uint8_t *p, uint32_t len)
{
	const uint8_t *newline = memchr(p, '\n', len);
	uint32_t n = newline != NULL ? (uint32_t)(newline - p) : len;

	if ((uint64_t)gather->line_len + n > limits->inline_bytes_max) {
		fail(gather, "Protocol error: too big inline request");
		return n;
	}
	if (!gather->is_over_memory && n > 0 && !bw_resp__blob_append(store, &gather->text, p, n, 256)) {
		gather->is_over_memory = true;
		records_free(store, gather);
	}
	gather->line_len += n;
	if (newline == NULL)
		return n;
	gather->state = BW_RESP__GATHER_COMPLETE;
	return n + 1;
}

uint32_t bw_resp__gather_feed(struct bw_resp__store *store, struct bw_resp__gather *gather,
	const struct bw_resp__limits *limits, const uint8_t *p, uint32_t len)
{
	uint32_t used = 0;

	while (used < len && gather->state != BW_RESP__GATHER_COMPLETE) {
		switch (gather->state) {
		case BW_RESP__GATHER_START:
			line_begin(gather);
			if (p[used] == '*')
				break;
			gather->is_inline = true;
			gather->state = BW_RESP__GATHER_INLINE;
			break;
		case BW_RESP__GATHER_LINE:
			used += feed_line(store, gather, limits, p + used, len - used);
			break;
		case BW_RESP__GATHER_LINE_LF:
			/* Redis takes any byte here. */
			used++;
			line_end(store, gather, limits);
			break;
		case BW_RESP__GATHER_BULK:
			used += feed_bulk(store, gather, p + used, len - used);
			break;
		case BW_RESP__GATHER_BULK_END:
			/* And here any two. */
			used++;
			if (--gather->skip > 0)
				break;
			gather->argc++;
			line_begin(gather);
			if (--gather->args_left == 0)
				gather->state = BW_RESP__GATHER_COMPLETE;
			break;
		case BW_RESP__GATHER_INLINE:
			used += feed_inline(store, gather, limits, p + used, len - used);
			break;
		}
	}
	return used;
}

/* ---- inline ---- */

static bool is_blank(uint8_t c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static int hex_digit(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static uint8_t unescape(uint8_t c)
{
	switch (c) {
	case 'n':
		return '\n';
	case 'r':
		return '\r';
	case 't':
		return '\t';
	case 'b':
		return '\b';
	case 'a':
		return '\a';
	default:
		return c;
	}
}

/* From behind the opening quote to behind the closing one, written to *to. NULL: it is not closed, or no blank follows. */
static const uint8_t *take_quoted(const uint8_t *p, const uint8_t *end, uint8_t quote, uint8_t **to)
{
	for (; p < end && *p != quote; p++) {
		if (*p == '\\' && quote == '"' && end - p >= 4 && p[1] == 'x' && hex_digit(p[2]) >= 0 &&
			hex_digit(p[3]) >= 0) {
			*(*to)++ = (uint8_t)(hex_digit(p[2]) << 4 | hex_digit(p[3]));
			p += 3;
		} else if (*p == '\\' && quote == '"' && end - p >= 2) {
			*(*to)++ = unescape(*++p);
		} else if (*p == '\\' && quote == '\'' && end - p >= 2 && p[1] == '\'') {
			*(*to)++ = *++p;
		} else {
			*(*to)++ = *p;
		}
	}
	if (p == end || (p + 1 < end && !is_blank(p[1])))
		return NULL;
	return p + 1;
}

int bw_resp__split_inline(uint8_t *line, uint32_t len, struct bw_resp__arg *argv, uint32_t args_max)
{
	const uint8_t *p = line, *end = line + len;
	uint32_t argc = 0;

	for (;;) {
		uint8_t *start, *to;

		while (p < end && is_blank(*p))
			p++;
		if (p == end)
			return (int)argc;
		if (argc == args_max)
			return -2;
		/* What is written is never longer than what was read, so it stays behind the reader. */
		start = to = line + (p - line);
		while (p < end && !is_blank(*p)) {
			if (*p == '"' || *p == '\'') {
				p = take_quoted(p + 1, end, *p, &to);
				if (p == NULL)
					return -1;
				break;
			}
			*to++ = *p++;
		}
		argv[argc++] = (struct bw_resp__arg){ .data = start, .len = (uint32_t)(to - start) };
	}
}
