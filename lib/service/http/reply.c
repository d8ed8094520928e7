/* SPDX-License-Identifier: BSD-3-Clause */
/* From an object, or a status, to bytes in the send queue: conditions, ranges, heads and bodies. */
#include "internal.h"

#include <errno.h>
#include <string.h>

#define SLICE_MAX        (1u << 30)
#define HANDLER_TAIL_MAX 128 /* Content-Length, Date, Connection */

/* ---- what the object says to the request ---------------------------------------------------------------- */

static bool has_tag(const uint64_t *tags, unsigned count, uint64_t tag)
{
	while (count-- > 0)
		if (tags[count] == tag)
			return true;
	return false;
}

/* RFC 9110 13.1.5: may the range be honoured? A date must be a strong validator (8.8.2.2): a second old. */
static bool range_holds(const struct bw_http__worker *w, const struct bw_http__object *object,
	const struct bw_http__wants *wants)
{
	if (!(wants->flags & BW_HTTP__IF_RANGE))
		return true;
	if (wants->flags & BW_HTTP__IF_RANGE_TAG)
		return object->has_tag && wants->if_range_tag == object->tag;
	return (wants->flags & BW_HTTP__IF_RANGE_DATE) && object->has_modified &&
	       wants->if_range_date == object->modified_s && object->modified_s < w->date_s;
}

static void apply_range(const struct bw_http__object *object, const struct bw_http__wants *wants,
	struct bw_http__reply *reply)
{
	uint64_t size = object->body_bytes, first = wants->range_first, last = wants->range_last;

	if (wants->flags & BW_HTTP__RANGE_SUFFIX) {
		if (size == 0)
			return; /* "the last n" of nothing is nothing, which no Content-Range can say: 200 */
		first = last < size ? size - last : 0;
		last = last > 0 ? size - 1 : 0;
		if (wants->range_last == 0)
			first = size;
	}
	if (first >= size) {
		reply->status = 416;
		reply->body_left = 0;
		return;
	}
	last = BW_MIN(last, size - 1);
	reply->status = 206;
	reply->body_at = first;
	reply->body_left = last - first + 1;
}

/* Conditions in the order of RFC 9110 13.2.2, then the range. `reply` is the object's 200. */
static void apply_wants(
	const struct bw_http__worker *w, const struct bw_http__wants *wants, struct bw_http__reply *reply)
{
	const struct bw_http__object *object = reply->object;
	unsigned flags = wants->flags;

	if (flags & BW_HTTP__IF_MATCH) {
		if (!(flags & BW_HTTP__IF_MATCH_ANY) &&
			!(object->has_tag && has_tag(wants->match, wants->match_count, object->tag)))
			reply->status = 412;
	} else if (flags & BW_HTTP__IF_UNMODIFIED_SINCE) {
		if (object->has_modified && object->modified_s > wants->unmodified_since)
			reply->status = 412;
	}
	if (reply->status == 200) {
		if (flags & BW_HTTP__IF_NONE_MATCH) {
			if ((flags & BW_HTTP__IF_NONE_MATCH_ANY) ||
				(object->has_tag &&
					has_tag(wants->none_match, wants->none_match_count, object->tag)))
				reply->status = 304;
		} else if (flags & BW_HTTP__IF_MODIFIED_SINCE) {
			if (object->has_modified && object->modified_s <= wants->modified_since)
				reply->status = 304;
		}
	}
	if (reply->status != 200) {
		reply->body_left = 0;
		return;
	}
	if ((flags & BW_HTTP__RANGE) && !(reply->flags & BW_HTTP__REPLY_NO_BODY) &&
		range_holds(w, object, wants))
		apply_range(object, wants, reply);
}

/* What the object says to this request. `reply->flags` are set. */
void bw_http__decide(const struct bw_http__worker *w, struct bw_http__object *object,
	const struct bw_http__wants *wants, struct bw_http__reply *reply)
{
	object = bw_http__object_variant(object, wants->encodings);
	reply->object = object;
	reply->status = object->status;
	reply->body_at = 0;
	reply->body_left = object->body_bytes;
	/* RFC 9110 13.2.1 and 14.2: conditions and ranges are about what would be a 200. */
	if (object->status == 200 && wants->flags != 0)
		apply_wants(w, wants, reply);
	if (reply->flags & BW_HTTP__REPLY_NO_BODY)
		reply->body_left = 0;
}

void bw_http__use_page(const struct bw_http__worker *w, struct bw_http__reply *reply)
{
	struct bw_http__object *page;

	if (bw_likely(reply->status < 400) || (reply->object != NULL && reply->object->is_constant))
		return;
	page = bw_http__table_page(&w->table, reply->site, reply->status);
	if (page == NULL)
		return;
	reply->object = page;
	reply->flags |= BW_HTTP__REPLY_PAGE;
	reply->body_at = 0;
	reply->body_left = reply->flags & BW_HTTP__REPLY_NO_BODY ? 0 : page->body_bytes;
}

/* ---- heads -------------------------------------------------------------------------------------------- */

/* A head under construction. Its parts are bounded by their makers, their sum here. */
struct text {
	char bytes[BW_HTTP__HEAD_MAX];
	uint32_t len;
};

static void put(struct text *text, const void *bytes, uint32_t len)
{
	BW_ASSERT_LE(text->len + len, sizeof(text->bytes));
	memcpy(text->bytes + text->len, bytes, len);
	text->len += len;
}

static void put_string(struct text *text, const char *string)
{
	put(text, string, (uint32_t)strlen(string));
}

static void put_number(struct text *text, uint64_t number)
{
	char digits[20];
	uint32_t at = sizeof(digits);

	do
		digits[--at] = (char)('0' + number % 10);
	while ((number /= 10) > 0);
	put(text, digits + at, (uint32_t)sizeof(digits) - at);
}

static enum bw_http__tail tail_of(const struct bw_http__reply *reply)
{
	if (reply->flags & BW_HTTP__REPLY_CLOSE)
		return BW_HTTP__TAIL_CLOSE;
	return reply->flags & BW_HTTP__REPLY_KEEP_ALIVE ? BW_HTTP__TAIL_KEEP_ALIVE : BW_HTTP__TAIL_PLAIN;
}

/* The object's own answer, prebuilt but for its tail? Else the head is composed (206, 304, 412, 416). */
static bool is_prebuilt(const struct bw_http__reply *reply)
{
	return reply->object != NULL && reply->status == reply->object->status &&
	       (reply->status == 200 || reply->status == 301 || reply->object->is_constant);
}

/* The body that a status of our own has: its text and a line feed. */
static uint32_t put_status_body(struct text *text, unsigned status)
{
	uint32_t at = text->len;

	put_number(text, status);
	put_string(text, " ");
	put_string(text, bw_http__reason(status));
	put_string(text, "\n");
	return text->len - at;
}

/* Where the head does not grow beyond `len_max` by them: a handler may have said much itself. */
static void put_site_headers(const struct bw_http__worker *w, const struct bw_http__reply *reply,
	struct text *text, uint32_t len_max)
{
	uint32_t len;
	const char *headers = bw_http__files_headers(w->conf->files, reply->site, &len);

	if (text->len + len <= len_max)
		put(text, headers, len);
}

/* RFC 9110 10.2.1. OPTIONS is always allowed. */
static void put_allow(struct text *text, uint16_t methods)
{
	static const char *const names[BW_HTTP_UNKNOWN] = {
		[BW_HTTP_GET] = "GET, ",
		[BW_HTTP_HEAD] = "HEAD, ",
		[BW_HTTP_POST] = "POST, ",
		[BW_HTTP_PUT] = "PUT, ",
		[BW_HTTP_DELETE] = "DELETE, ",
		[BW_HTTP_PATCH] = "PATCH, ",
	};

	put_string(text, "Allow: ");
	for (unsigned i = 0; i < BW_ARRAY_LEN(names); i++)
		if (names[i] != NULL && (methods & bw_http__method_bit(i)))
			put_string(text, names[i]);
	put_string(text, "OPTIONS\r\n");
}

/*
 * A redirect, prebuilt but for the request's query: Location is the last of the lines before Content-Length. False:
 * there is no room for it.
 */
static bool compose_redirect(
	const struct bw_http__worker *w, const struct bw_http__reply *reply, struct text *text)
{
	const struct bw_http__object *object = reply->object;
	enum bw_http__tail tail = tail_of(reply);
	uint32_t at = object->status_line_len + object->validators_len + object->type_len - 2;

	if (object->head_len + 1 + reply->query.len + w->tail_len[tail] > sizeof(text->bytes))
		return false;
	put(text, object->head, at);
	put_string(text, "?");
	put(text, reply->query.at, reply->query.len);
	put(text, object->head + at, object->head_len - at);
	put(text, w->tail[tail], w->tail_len[tail]);
	return true;
}

/* All but what is prebuilt. A refusal's little body is composed with its head. Returns that body's bytes. */
static uint32_t compose(
	const struct bw_http__worker *w, const struct bw_http__reply *reply, struct text *text)
{
	const struct bw_http__object *object = reply->object;
	enum bw_http__tail tail = tail_of(reply);

	put_string(text, "HTTP/1.1 ");
	put_number(text, reply->status);
	put_string(text, " ");
	put_string(text, bw_http__reason(reply->status));
	put_string(text, "\r\n");
	if (reply->status == 206 || reply->status == 304) {
		const char *validators = object->head + object->status_line_len;

		put(text, validators, object->validators_len);
		if (reply->status == 206) {
			put(text, validators + object->validators_len, object->description_len);
			put_string(text, "Content-Range: bytes ");
			put_number(text, reply->body_at);
			put_string(text, "-");
			put_number(text, reply->body_at + reply->body_left - 1);
			put_string(text, "/");
			put_number(text, object->body_bytes);
			put_string(text, "\r\nContent-Length: ");
			put_number(text, reply->body_left);
			put_string(text, "\r\n");
		}
		put(text, w->tail[tail], w->tail_len[tail]);
		return 0;
	}
	put_string(text, "Server: barewire\r\n");
	put_site_headers(w, reply, text, BW_HTTP__HEAD_MAX);
	if (reply->status == 405 || reply->status == 204)
		put_allow(text, reply->methods);
	if (reply->status == 416) { /* RFC 9110 15.5.17 */
		put_string(text, "Content-Range: bytes */");
		put_number(text, object->body_bytes);
		put_string(text, "\r\n");
	}
	if (reply->status == 429 || reply->status == 503)
		put_string(text, "Retry-After: 1\r\n");
	if (reply->flags & BW_HTTP__REPLY_PAGE) {
		put(text, object->head + object->status_line_len + object->validators_len, object->type_len);
		put_string(text, "Content-Length: ");
		put_number(text, object->body_bytes);
		put_string(text, "\r\n");
		put(text, w->tail[tail], w->tail_len[tail]);
	} else if (reply->status != 204) {
		struct text body = { .len = 0 };
		uint32_t body_len = put_status_body(&body, reply->status);

		put_string(text, "Content-Type: text/plain\r\nContent-Length: ");
		put_number(text, body_len);
		put_string(text, "\r\n");
		put(text, w->tail[tail], w->tail_len[tail]);
		if (!(reply->flags & BW_HTTP__REPLY_NO_BODY)) {
			put(text, body.bytes, body_len);
			return body_len;
		}
	} else {
		put(text, w->tail[tail], w->tail_len[tail]);
	}
	return 0;
}

/* ---- sending ------------------------------------------------------------------------------------------ */

static void release_object(void *arg)
{
	bw_http__object_put(arg);
}

/* The head, and the body with it where both are small. False: no room now. */
static bool make_head(struct bw_http__worker *w, struct bw_stream *s, struct bw_http__reply *reply)
{
	const struct bw_http__object *object = reply->object;
	struct text text;
	uint32_t status_body_len = 0;
	bool is_redirect = reply->status == 301 && reply->query.len > 0 && !object->is_constant;
	uint8_t *into;

	text.len = 0;
	if (bw_unlikely(is_redirect))
		is_redirect = compose_redirect(w, reply, &text);
	if (bw_likely(is_prebuilt(reply) && !is_redirect)) {
		enum bw_http__tail tail = tail_of(reply);
		uint32_t len = object->head_len + w->tail_len[tail];
		uint32_t body_len = 0;

		if (reply->body_left <= BW_HTTP__HEAD_MAX - len)
			body_len = (uint32_t)reply->body_left;
		into = bw_stream_reserve(s, len + body_len);
		if (into == NULL)
			return false;
		memcpy(into, object->head, object->head_len);
		memcpy(into + object->head_len, w->tail[tail], w->tail_len[tail]);
		if (body_len > 0)
			memcpy(into + len, object->body, body_len);
		bw_stream_commit(s, len + body_len);
		reply->body_left -= body_len;
		w->body_bytes += body_len;
		bw_http__log_body(reply, body_len);
		return true;
	}
	if (!is_redirect)
		status_body_len = compose(w, reply, &text);
	into = bw_stream_reserve(s, text.len);
	if (into == NULL)
		return false;
	memcpy(into, text.bytes, text.len);
	bw_stream_commit(s, text.len);
	bw_http__log_body(reply, status_body_len);
	return true;
}

bool bw_http__send_head(
	struct bw_http__worker *w, struct bw_stream *s, struct bw_http__conn *c, struct bw_http__reply *reply)
{
	/* A head is at most what a reserve grants: with that much space, only an empty pool can refuse. */
	uint32_t space = bw_stream_space(s);

	if (reply->head_is_sent)
		return true;
	if (!make_head(w, s, reply)) {
		c->is_starved = space >= BW_HTTP__HEAD_MAX;
		return false;
	}
	reply->head_is_sent = true;
	w->by_class[reply->status / 100]++;
	return true;
}

/* Send what there is room for. True: all of it is in the send queue. */
bool bw_http__send_reply(
	struct bw_http__worker *w, struct bw_stream *s, struct bw_http__conn *c, struct bw_http__reply *reply)
{
	if (!bw_http__send_head(w, s, c, reply))
		return false;
	while (reply->body_left > 0) {
		uint32_t len = (uint32_t)BW_MIN(reply->body_left, (uint64_t)SLICE_MAX);
		uint32_t space = bw_stream_space(s);
		int rc;

		/* With no space at all it is still tried: being refused is what makes writable() come. */
		if (space > 0)
			len = BW_MIN(len, space);
		bw_http__object_ref(reply->object);
		rc = bw_stream_send_ref(
			s, reply->object->body + reply->body_at, len, release_object, reply->object);
		if (rc < 0) {
			bw_http__object_put(reply->object);
			c->is_starved = rc == -ENOBUFS && space > 0;
			return false;
		}
		reply->body_at += len;
		reply->body_left -= len;
		w->body_bytes += len;
		bw_http__log_body(reply, len);
	}
	bw_http__log_reply(w, reply);
	return true;
}

bool bw_http__send_text(struct bw_stream *s, struct bw_http__conn *c, const char *text, uint32_t len)
{
	uint32_t space = bw_stream_space(s);
	void *into = bw_stream_reserve(s, len);

	if (into == NULL) {
		c->is_starved = space >= len;
		return false;
	}
	memcpy(into, text, len);
	bw_stream_commit(s, len);
	return true;
}

bool bw_http__send_handler_head(struct bw_http__worker *w, struct bw_stream *s, struct bw_http__conn *c,
	const struct bw_http__reply *reply, const struct bw_http_response *response, bool is_chunked)
{
	enum bw_http__tail tail = tail_of(reply);
	struct text text = { .len = 0 };

	bw_http__update_date(w, bw_context_now(w->ctx));
	BW_ASSERT(response->status >= 200 && response->status <= 599);
	put_string(&text, "HTTP/1.1 ");
	put_number(&text, response->status);
	put_string(&text, " ");
	put_string(&text, bw_http__reason(response->status));
	put_string(&text, "\r\nServer: barewire\r\n");
	if (response->type != NULL) {
		put_string(&text, "Content-Type: ");
		put_string(&text, response->type);
		put_string(&text, "\r\n");
	}
	if (response->fields != NULL)
		put_string(&text, response->fields);
	put_site_headers(w, reply, &text, BW_HTTP__HEAD_MAX - HANDLER_TAIL_MAX);
	if (is_chunked) {
		put_string(&text, "Transfer-Encoding: chunked\r\n");
	} else if (response->length != BW_HTTP_UNTIL_END && response->status != 204 &&
		   response->status != 304) {
		put_string(&text, "Content-Length: ");
		put_number(&text, response->length);
		put_string(&text, "\r\n");
	}
	put(&text, w->tail[tail], w->tail_len[tail]);
	if (!bw_http__send_text(s, c, text.bytes, text.len))
		return false;
	w->by_class[response->status / 100]++;
	return true;
}
