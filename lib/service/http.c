/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * HTTP/1.1 server (RFC 9110, RFC 9112): connections.
 *
 * A request is found whole before it is parsed: in the packet it came in, or where it straddles packets, in the
 * worker's scratch buffer. What is not whole stays in the receive queue, and the search for its end goes on
 * where it stopped. A path that the worker's table knows is answered at once: prebuilt head and the Date line
 * copied, body by reference, or copied too where both fit one reserve.
 *
 * All else is a pending answer, in a list a connection: it waits for a helper thread (a file to be loaded), for
 * its request's body to be over, or for room in the send queue. Answers leave in the order of their requests,
 * so whatever comes while the list is not empty joins it. Nothing is read while the first of the list only
 * waits for room, nor beyond pipeline_depth_max: the bytes stay in the receive queue and close the window.
 *
 * One timer a connection, seldom moved: when it fires, it looks what the connection is waiting for now, since
 * when, and either ends it or sleeps for the rest. An idle connection costs its `struct conn` and nothing else.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <base/assert.h>
#include <base/list.h>
#include <base/log.h>
#include <service/http.h>
#include <service/service.h>

#include "http_date.h"
#include "http_files.h"
#include "http_parse.h"
#include "http_table.h"

#define PENDING_MAX  65536 /* answers that wait, a worker */
#define RESYNC_NS    (60 * BW_NS_PER_SEC)
#define STARVED_NS   (10 * BW_NS_PER_MS)
#define PULLUP_MAX   2048 /* what bw_stream_pullup() grants */
#define PULLUP_VIEWS 8    /* a head in more pieces than this is joined: an mbuf a byte is dear */
#define SLICE_MAX    (1u << 30)
#define BODY_RATE    1024u /* bytes a second at which a request's body is never late */

/* How a reply is to be sent. */
enum {
	REPLY_NO_BODY = 1 << 0,    /* to HEAD */
	REPLY_CLOSE = 1 << 1,      /* the connection ends with it */
	REPLY_KEEP_ALIVE = 1 << 2, /* say so, to HTTP/1.0 */
};

struct reply {
	struct bw_http__object *object; /* borrowed; NULL: a status of our own making */
	uint64_t body_at, body_left;    /* of the object's body */
	uint16_t status;
	uint8_t flags;
	bool head_is_sent;
};

/* What a pending answer waits for. 0: for its turn and for room. */
enum {
	WAIT_OBJECT = 1 << 0,
	WAIT_BODY = 1 << 1,
};

struct pending {
	struct bw_link waiter; /* in a look-up's list */
	struct pending *next;
	struct bw_stream *stream;
	struct reply reply; /* its object is a reference of ours */
	uint8_t waits;
	bool owes_continue; /* a 100 when its turn comes, if the body is still to come then */
	struct bw_http__wants wants;
};

/* What the connection's input is. */
enum phase {
	PHASE_HEAD, /* between requests, or within a head when scan.seen > 0 */
	PHASE_LENGTH,
	PHASE_CHUNKS,
	PHASE_OVER, /* no more requests; what still comes is discarded */
};

/* A connection. Zeroed is a new one but for its times. */
struct conn {
	struct pending *first, *last;
	bw_ns since;         /* what it waits for now has been waited for since then */
	bw_ns timer_at;      /* as armed */
	uint64_t body_bytes; /* PHASE_LENGTH: left; PHASE_CHUNKS: seen */
	struct bw_http__chunks chunks;
	struct bw_http__scan scan;
	uint16_t pending_count;
	uint8_t phase;
	bool is_reading; /* within data(), which settles at its end */
	bool is_paused; /* there is more to read, and data() will be called for it, which alone clears this */
	bool peer_is_closed;
	bool is_starved; /* refused for want of buffers, not of room: nothing will call, try again */
};
_Static_assert(sizeof(struct conn) <= 96, "an idle connection is small");

enum tail {
	TAIL_PLAIN,
	TAIL_CLOSE,
	TAIL_KEEP_ALIVE,
	TAIL_COUNT,
};

#define DATE_LINE_LEN (6 + BW_HTTP__DATE_LEN + 2)

/* A worker's. */
struct worker {
	struct bw_context *ctx;
	const struct bw_http_conf *conf;
	struct bw_http__table table;
	uint8_t *scratch; /* heads that straddle, header_bytes_max; then a path, request_line_bytes_max */
	uint8_t *path;
	struct pending *pendings, *pending_free; /* touched only as they are needed */
	uint32_t pendings_used, pendings_out;

	int64_t wall_offset_ns; /* wall clock = the turn's time + this */
	bw_ns resync_at, date_until;
	int64_t date_s;
	char tail[TAIL_COUNT][80]; /* Date, Connection, the empty line */
	uint8_t tail_len[TAIL_COUNT];

	uint64_t requests, by_class[6], body_bytes, connections, timeouts, malformed, stalled;
};

static struct worker *worker_of(const struct bw_stream *s)
{
	return bw_context_state(bw_stream_context(s));
}

/* ---- time --------------------------------------------------------------------------------------------- */

static void format_tails(struct worker *w)
{
	static const char *const connection[TAIL_COUNT] = {
		[TAIL_PLAIN] = "",
		[TAIL_CLOSE] = "Connection: close\r\n",
		[TAIL_KEEP_ALIVE] = "Connection: keep-alive\r\n",
	};

	for (unsigned i = 0; i < TAIL_COUNT; i++) {
		char date[BW_HTTP__DATE_LEN];

		bw_http__date_format(w->date_s, date);
		w->tail_len[i] = (uint8_t)snprintf(w->tail[i], sizeof(w->tail[i]), "Date: %.*s\r\n%s\r\n",
			BW_HTTP__DATE_LEN, date, connection[i]);
	}
}

/* Once a second. The offset is taken anew once a minute: wall clocks are stepped, and drift against ours. */
static void update_date(struct worker *w, bw_ns now)
{
	int64_t wall_ns;

	if (now >= w->resync_at) {
		struct timespec ts;

		clock_gettime(CLOCK_REALTIME, &ts);
		w->wall_offset_ns = ts.tv_sec * (int64_t)BW_NS_PER_SEC + ts.tv_nsec - (int64_t)now;
		w->resync_at = now + RESYNC_NS;
	}
	wall_ns = (int64_t)now + w->wall_offset_ns;
	w->date_s = wall_ns / (int64_t)BW_NS_PER_SEC;
	w->date_until = now + BW_NS_PER_SEC - (bw_ns)(wall_ns % (int64_t)BW_NS_PER_SEC);
	format_tails(w);
}

static void arm_by(struct bw_stream *s, struct conn *c, bw_ns at)
{
	if (at < c->timer_at) {
		c->timer_at = at;
		bw_stream_set_timer(s, at);
	}
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

static enum tail tail_of(const struct reply *reply)
{
	if (reply->flags & REPLY_CLOSE)
		return TAIL_CLOSE;
	return reply->flags & REPLY_KEEP_ALIVE ? TAIL_KEEP_ALIVE : TAIL_PLAIN;
}

/* The object's own answer, prebuilt but for its tail? Else the head is composed (206, 304, 412, 416). */
static bool is_prebuilt(const struct reply *reply)
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

/* All but what is prebuilt. A refusal's little body is composed with its head. */
static void compose(const struct worker *w, const struct reply *reply, struct text *text)
{
	const struct bw_http__object *object = reply->object;
	enum tail tail = tail_of(reply);

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
		return;
	}
	put_string(text, "Server: barewire\r\n");
	if (reply->status == 405 || reply->status == 204)
		put_string(text, "Allow: GET, HEAD, OPTIONS\r\n");
	if (reply->status == 416) { /* RFC 9110 15.5.17 */
		put_string(text, "Content-Range: bytes */");
		put_number(text, object->body_bytes);
		put_string(text, "\r\n");
	}
	if (reply->status == 503)
		put_string(text, "Retry-After: 1\r\n");
	if (reply->status != 204) {
		struct text body = { .len = 0 };
		uint32_t body_len = put_status_body(&body, reply->status);

		put_string(text, "Content-Type: text/plain\r\nContent-Length: ");
		put_number(text, body_len);
		put_string(text, "\r\n");
		put(text, w->tail[tail], w->tail_len[tail]);
		if (!(reply->flags & REPLY_NO_BODY))
			put(text, body.bytes, body_len);
	} else {
		put(text, w->tail[tail], w->tail_len[tail]);
	}
}

/* ---- sending ------------------------------------------------------------------------------------------ */

static void release_object(void *arg)
{
	bw_http__object_put(arg);
}

/* The head, and the body with it where both are small. False: no room now. */
static bool send_head(struct worker *w, struct bw_stream *s, struct reply *reply)
{
	const struct bw_http__object *object = reply->object;
	struct text text;
	uint8_t *into;

	if (bw_likely(is_prebuilt(reply))) {
		enum tail tail = tail_of(reply);
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
		return true;
	}
	text.len = 0;
	compose(w, reply, &text);
	into = bw_stream_reserve(s, text.len);
	if (into == NULL)
		return false;
	memcpy(into, text.bytes, text.len);
	bw_stream_commit(s, text.len);
	return true;
}

/* Send what there is room for. True: all of it is in the send queue. */
static bool send_reply(struct worker *w, struct bw_stream *s, struct conn *c, struct reply *reply)
{
	/* A head is at most what a reserve grants: with that much space, only an empty pool can refuse. */
	uint32_t space = bw_stream_space(s);

	if (!reply->head_is_sent) {
		if (!send_head(w, s, reply)) {
			c->is_starved = space >= BW_HTTP__HEAD_MAX;
			return false;
		}
		reply->head_is_sent = true;
		w->by_class[reply->status / 100]++;
	}
	while (reply->body_left > 0) {
		uint32_t len = (uint32_t)BW_MIN(reply->body_left, (uint64_t)SLICE_MAX);
		int rc;

		space = bw_stream_space(s);
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
	}
	return true;
}

/* ---- pending answers ---------------------------------------------------------------------------------- */

static struct pending *pending_push(
	struct worker *w, struct bw_stream *s, struct conn *c, const struct reply *reply)
{
	struct pending *p = w->pending_free;

	if (p != NULL)
		w->pending_free = p->next;
	else if (w->pendings_used < PENDING_MAX)
		p = &w->pendings[w->pendings_used++];
	else
		return NULL;
	w->pendings_out++;
	bw_link_init(&p->waiter);
	p->next = NULL;
	p->stream = s;
	p->reply = *reply;
	if (p->reply.object != NULL)
		bw_http__object_ref(p->reply.object);
	p->waits = 0;
	p->owes_continue = false;
	p->wants.flags = 0;
	if (c->first == NULL)
		c->first = p;
	else
		c->last->next = p;
	c->last = p;
	c->pending_count++;
	return p;
}

static void pending_pop(struct worker *w, struct conn *c)
{
	struct pending *p = c->first;

	c->first = p->next;
	if (c->first == NULL)
		c->last = NULL;
	c->pending_count--;
	bw_link_remove(&p->waiter);
	if (p->reply.object != NULL)
		bw_http__object_put(p->reply.object);
	p->next = w->pending_free;
	w->pending_free = p;
	w->pendings_out--;
}

/* Orderly: what is queued goes out, then FIN. Later answers are to nobody any more. */
static void finish(struct worker *w, struct bw_stream *s, struct conn *c)
{
	while (c->first != NULL)
		pending_pop(w, c);
	c->phase = PHASE_OVER;
	bw_stream_close(s);
}

static void give_up(struct worker *w, struct bw_stream *s, struct conn *c)
{
	c->phase = PHASE_OVER;
	bw_stream_abort(s);
}

static bool send_continue(struct bw_stream *s, struct conn *c)
{
	static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
	uint32_t space = bw_stream_space(s);
	void *into = bw_stream_reserve(s, sizeof(text) - 1);

	if (into == NULL) {
		c->is_starved = space >= sizeof(text) - 1;
		return false;
	}
	memcpy(into, text, sizeof(text) - 1);
	bw_stream_commit(s, sizeof(text) - 1);
	return true;
}

/* Reading on would only make the list longer. */
static bool is_blocked(const struct worker *w, const struct conn *c)
{
	if (c->first == NULL)
		return false;
	return c->first->waits == 0 ||
	       (c->phase == PHASE_HEAD && c->pending_count >= w->conf->pipeline_depth_max);
}

/* Nothing is pending. Anything left to live for? */
static void settle(struct worker *w, struct bw_stream *s, struct conn *c)
{
	bool is_between = c->phase == PHASE_HEAD && c->scan.seen == 0;

	if (c->is_reading)
		return;
	if (c->is_paused) {
		/* There may be whole requests in the receive queue: data() goes on, and settles. */
		bw_stream_wake(s);
		return;
	}
	if (c->phase == PHASE_OVER || c->peer_is_closed) {
		finish(w, s, c);
	} else if (is_between && bw_stream_is_draining(s)) {
		/* A request may have come with the ACK that got us here. */
		if (bw_stream_unread(s) > 0)
			bw_stream_wake(s);
		else
			finish(w, s, c);
	}
}

/* Send from the front of the list as far as it goes. */
static void pump(struct worker *w, struct bw_stream *s, struct conn *c)
{
	bool moved = false;

	c->is_starved = false;
	while (c->first != NULL) {
		struct pending *p = c->first;
		uint64_t left_before = p->reply.body_left;
		bool is_sent;

		if (p->owes_continue && p->waits & WAIT_BODY) {
			if (!send_continue(s, c))
				break;
			p->owes_continue = false;
		}
		if (p->waits != 0)
			break;
		is_sent = send_reply(w, s, c, &p->reply);
		moved |= is_sent || p->reply.body_left != left_before;
		if (!is_sent)
			break;
		if (p->reply.flags & REPLY_CLOSE) {
			finish(w, s, c);
			return;
		}
		pending_pop(w, c);
	}
	if (moved)
		c->since = bw_stream_now(s);
	if (c->is_starved)
		arm_by(s, c, bw_stream_now(s) + STARVED_NS);
	if (c->first == NULL)
		settle(w, s, c);
	else if (c->is_paused && !is_blocked(w, c))
		bw_stream_wake(s);
}

/* ---- from request to reply ---------------------------------------------------------------------------- */

static bool has_tag(const uint64_t *tags, unsigned count, uint64_t tag)
{
	while (count-- > 0)
		if (tags[count] == tag)
			return true;
	return false;
}

/* RFC 9110 13.1.5: may the range be honoured? A date must be a strong validator (8.8.2.2): a second old. */
static bool range_holds(
	const struct worker *w, const struct bw_http__object *object, const struct bw_http__wants *wants)
{
	if (!(wants->flags & BW_HTTP__IF_RANGE))
		return true;
	if (wants->flags & BW_HTTP__IF_RANGE_TAG)
		return object->has_tag && wants->if_range_tag == object->tag;
	return (wants->flags & BW_HTTP__IF_RANGE_DATE) && object->has_modified &&
	       wants->if_range_date == object->modified_s && object->modified_s < w->date_s;
}

static void apply_range(
	const struct bw_http__object *object, const struct bw_http__wants *wants, struct reply *reply)
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
static void apply_wants(const struct worker *w, const struct bw_http__wants *wants, struct reply *reply)
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
	if ((flags & BW_HTTP__RANGE) && !(reply->flags & REPLY_NO_BODY) && range_holds(w, object, wants))
		apply_range(object, wants, reply);
}

/* What the object says to this request. `reply->flags` are set. */
static void decide(const struct worker *w, struct bw_http__object *object, const struct bw_http__wants *wants,
	struct reply *reply)
{
	reply->object = object;
	reply->status = object->status;
	reply->body_at = 0;
	reply->body_left = object->body_bytes;
	/* RFC 9110 13.2.1 and 14.2: conditions and ranges are about what would be a 200. */
	if (object->status == 200 && wants->flags != 0)
		apply_wants(w, wants, reply);
	if (reply->flags & REPLY_NO_BODY)
		reply->body_left = 0;
}

static void answer(struct worker *w, struct bw_stream *s, struct conn *c, struct reply *reply);

/* A status of ours, and the end of the connection: nothing behind it can be trusted to be a request. */
static void refuse(struct worker *w, struct bw_stream *s, struct conn *c, unsigned status, uint8_t flags)
{
	struct reply reply = { .status = (uint16_t)status, .flags = REPLY_CLOSE | flags };

	w->requests++;
	w->malformed++;
	answer(w, s, c, &reply);
}

/* A reply that waits for nothing but its turn: at once, or into the list. */
static void answer(struct worker *w, struct bw_stream *s, struct conn *c, struct reply *reply)
{
	if (reply->flags & REPLY_CLOSE)
		c->phase = PHASE_OVER;
	if (bw_likely(c->first == NULL) && send_reply(w, s, c, reply)) {
		if (reply->flags & REPLY_CLOSE)
			finish(w, s, c);
		return;
	}
	if (pending_push(w, s, c, reply) == NULL) {
		/* Every one of the worker's is out. A head may be half out, so there is no way to say so. */
		w->stalled++;
		give_up(w, s, c);
		return;
	}
	if (c->is_starved)
		arm_by(s, c, bw_stream_now(s) + STARVED_NS);
}

/* The path's object into *reply, or the look-up to wait for. */
static struct bw_http__lookup *look_up(
	struct worker *w, struct bw_stream *s, const struct bw_http__request *request, struct reply *reply)
{
	const uint8_t *path = request->path;
	uint32_t path_len = request->path_len;
	struct bw_http__object *object;
	struct bw_http__lookup *lookup = NULL;
	unsigned status = 0;

	if (bw_unlikely(!request->path_is_plain)) {
		status = bw_http__path(path, path_len, w->path, &path_len);
		path = w->path;
		if (status != 0) {
			reply->status = (uint16_t)status;
			if (status == 400)
				reply->flags |= REPLY_CLOSE;
			return NULL;
		}
	}
	switch (bw_http__table_find(&w->table, path, path_len, bw_stream_now(s), &object, &lookup, &status)) {
	case BW_HTTP__FOUND:
		decide(w, object, &request->wants, reply);
		return NULL;
	case BW_HTTP__FOUND_WAIT:
		return lookup;
	case BW_HTTP__FOUND_NOT:
		reply->status = (uint16_t)status;
		return NULL;
	}
	return NULL;
}

/* A whole head was parsed: reply, or remember what to reply, and go on to the body. */
static void request_begin(
	struct worker *w, struct bw_stream *s, struct conn *c, const struct bw_http__request *request)
{
	bool has_body = request->is_chunked || request->body_bytes > 0;
	struct bw_http__lookup *lookup = NULL;
	struct reply reply = { .status = 0 };
	struct pending *p;

	w->requests++;
	if (request->method == BW_HTTP__HEAD)
		reply.flags |= REPLY_NO_BODY;
	if (!request->keeps_alive || bw_stream_is_draining(s))
		reply.flags |= REPLY_CLOSE;
	else if (request->has_keep_alive)
		reply.flags |= REPLY_KEEP_ALIVE;

	switch (request->method) {
	case BW_HTTP__GET:
	case BW_HTTP__HEAD:
		if (request->body_bytes <= w->conf->body_bytes_max && !request->expects_unknown)
			lookup = look_up(w, s, request, &reply);
		break;
	case BW_HTTP__OPTIONS:
		reply.status = 204;
		break;
	case BW_HTTP__OTHER:
		reply.status = 405;
		break;
	case BW_HTTP__UNKNOWN:
		reply.status = 501;
		break;
	}
	/* These end the connection, because the body they refuse may or may not be on its way. */
	if (request->body_bytes > w->conf->body_bytes_max || request->expects_unknown) {
		reply.status = request->expects_unknown ? 417 : 413;
		reply.object = NULL;
		reply.flags |= REPLY_CLOSE;
	} else if (request->expects_continue && has_body && reply.status >= 400) {
		/* RFC 9110 10.1.1: the final status instead of a 100, and the client may send the body or not. */
		reply.flags |= REPLY_CLOSE;
	}
	if (lookup == NULL && (!has_body || (reply.flags & REPLY_CLOSE && reply.status >= 400))) {
		answer(w, s, c, &reply);
		return;
	}

	p = pending_push(w, s, c, &reply);
	if (p == NULL) {
		w->stalled++;
		give_up(w, s, c);
		return;
	}
	if (lookup != NULL) {
		p->waits |= WAIT_OBJECT;
		p->wants = request->wants;
		bw_list_push_back(&lookup->waiters, &p->waiter);
	}
	if (has_body) {
		p->waits |= WAIT_BODY;
		p->owes_continue = request->expects_continue;
		c->phase = request->is_chunked ? PHASE_CHUNKS : PHASE_LENGTH;
		c->body_bytes = request->body_bytes;
		c->chunks = (struct bw_http__chunks){ .left = 0 };
		arm_by(s, c, c->since + w->conf->header_timeout_ns);
		if (c->first == p)
			pump(w, s, c);
	} else if (reply.flags & REPLY_CLOSE) {
		c->phase = PHASE_OVER;
	}
}

/* The last pending answer's body is over, in order or not. */
static void body_end(struct worker *w, struct bw_stream *s, struct conn *c, unsigned error_status)
{
	struct pending *p = c->last;

	BW_ASSERT(p != NULL && (p->waits & WAIT_BODY));
	p->waits &= (uint8_t)~WAIT_BODY;
	c->phase = PHASE_HEAD;
	if (error_status != 0) {
		w->malformed++;
		bw_link_remove(&p->waiter);
		if (p->reply.object != NULL)
			bw_http__object_put(p->reply.object);
		p->reply = (struct reply){ .status = (uint16_t)error_status, .flags = REPLY_CLOSE };
		p->waits = 0;
	}
	if (p->reply.flags & REPLY_CLOSE)
		c->phase = PHASE_OVER;
	if (c->first == p)
		pump(w, s, c);
}

/* A look-up came home: `object` is borrowed, or NULL with a status. */
static void ready(
	struct bw_context *ctx, struct bw_list *waiters, struct bw_http__object *object, unsigned status)
{
	struct worker *w = bw_context_state(ctx);
	struct bw_link *link;

	if (bw_context_now(ctx) >= w->date_until)
		update_date(w, bw_context_now(ctx));
	while ((link = bw_list_pop_front(waiters)) != NULL) {
		struct pending *p = bw_container_of(link, struct pending, waiter);
		struct conn *c = bw_stream_state(p->stream);

		p->waits &= (uint8_t)~WAIT_OBJECT;
		if (object != NULL) {
			decide(w, object, &p->wants, &p->reply);
			bw_http__object_ref(object);
		} else {
			p->reply.status = (uint16_t)status;
		}
		if (c->first == p) {
			c->since = bw_context_now(ctx); /* it was our wait, not the client's */
			pump(w, p->stream, c);
		}
	}
}

/* ---- input -------------------------------------------------------------------------------------------- */

struct cursor {
	const struct bw_view *view, *end;
	uint32_t at;   /* in *view */
	uint32_t used; /* before it, of all views */
};

static void cursor_skip(struct cursor *cursor, uint32_t len)
{
	cursor->used += len;
	while (len > 0 && cursor->view < cursor->end) {
		uint32_t n = BW_MIN(len, cursor->view->len - cursor->at);

		cursor->at += n;
		len -= n;
		if (cursor->at == cursor->view->len) {
			cursor->view++;
			cursor->at = 0;
		}
	}
	while (cursor->view < cursor->end && cursor->view->len == cursor->at) {
		cursor->view++;
		cursor->at = 0;
	}
}

static bool cursor_is_at_end(const struct cursor *cursor)
{
	return cursor->view == cursor->end;
}

static uint8_t cursor_byte(const struct cursor *cursor)
{
	return cursor->view->data[cursor->at];
}

/* The status that an unfinished or finished head of this length and shape has earned; 0: none. */
static unsigned head_overrun(const struct worker *w, const struct bw_http__scan *scan)
{
	if (scan->in_first_line && scan->seen > w->conf->request_line_bytes_max)
		return 414;
	return scan->seen > w->conf->header_bytes_max ? 431 : 0;
}

enum taken {
	TAKEN_HEAD,
	TAKEN_MORE, /* not all of it is there */
	TAKEN_ERROR,
};

/*
 * The head at the cursor, in one piece. It is searched in place, packet by packet, from where the last search
 * ended; only a whole one that straddles is copied.
 */
static enum taken take_head(
	struct worker *w, struct conn *c, const struct cursor *start, const uint8_t **head, unsigned *status)
{
	struct cursor cursor = *start;
	enum bw_http__scan_result result = BW_HTTP__SCAN_MORE;
	uint32_t filled = 0;

	cursor_skip(&cursor, c->scan.seen);
	while (result == BW_HTTP__SCAN_MORE && !cursor_is_at_end(&cursor)) {
		uint32_t len = cursor.view->len - cursor.at, used = len;

		/* One byte beyond the bound settles it: a peer's long packet costs no more than that. */
		len = BW_MIN(len, w->conf->header_bytes_max + 1 - c->scan.seen);
		used = len;
		result = bw_http__scan(&c->scan, cursor.view->data + cursor.at, len, &used);
		if (result == BW_HTTP__SCAN_BARE_LF) {
			*status = 400;
			return TAKEN_ERROR;
		}
		*status = head_overrun(w, &c->scan);
		if (*status != 0)
			return TAKEN_ERROR;
		cursor_skip(&cursor, used);
	}
	if (result == BW_HTTP__SCAN_MORE)
		return TAKEN_MORE;
	if (c->scan.seen <= start->view->len - start->at) {
		*head = start->view->data + start->at;
		return TAKEN_HEAD;
	}
	cursor = *start;
	while (filled < c->scan.seen) {
		uint32_t n = BW_MIN(c->scan.seen - filled, cursor.view->len - cursor.at);

		memcpy(w->scratch + filled, cursor.view->data + cursor.at, n);
		filled += n;
		cursor_skip(&cursor, n);
	}
	*head = w->scratch;
	return TAKEN_HEAD;
}

/* True: go on. False: nothing more to be had from these views. */
static bool input_head(struct worker *w, struct bw_stream *s, struct conn *c, struct cursor *cursor)
{
	struct bw_http__limits limits = {
		.request_line_bytes_max = w->conf->request_line_bytes_max,
		.header_count_max = w->conf->header_count_max,
		.now_s = w->date_s,
	};
	struct bw_http__request request;
	const uint8_t *head;
	unsigned status;
	bool is_fresh = c->scan.seen == 0;

	if (is_fresh && bw_unlikely(cursor_byte(cursor) == '\r')) {
		/* RFC 9112 2.2: an empty line before a request, from clients that end a body with one too many. */
		struct cursor next = *cursor;

		cursor_skip(&next, 1);
		if (cursor_is_at_end(&next))
			return false;
		if (cursor_byte(&next) == '\n') {
			cursor_skip(&next, 1);
			*cursor = next;
			return true;
		}
	}
	switch (take_head(w, c, cursor, &head, &status)) {
	case TAKEN_MORE:
		if (is_fresh) {
			c->since = bw_stream_now(s);
			arm_by(s, c, c->since + w->conf->header_timeout_ns);
		}
		return false;
	case TAKEN_ERROR:
		refuse(w, s, c, status, 0);
		return true;
	case TAKEN_HEAD:
		break;
	}
	status = bw_http__parse(head, c->scan.seen, &limits, &request);
	c->since = bw_stream_now(s);
	if (status != 0) {
		/* RFC 9110 9.3.2: no content in answer to HEAD, whatever else is wrong with it. */
		refuse(w, s, c, status, request.method == BW_HTTP__HEAD ? REPLY_NO_BODY : 0);
		return true;
	}
	/* The head's bytes are in the views or the scratch until this call returns: the request may point there. */
	request_begin(w, s, c, &request);
	cursor_skip(cursor, c->scan.seen);
	c->scan = (struct bw_http__scan){ .seen = 0 };
	return true;
}

/*
 * Of a body, `n` bytes more: they earn it time, but no credit for later. One that only drips keeps a pending answer,
 * of which there is an end, for no longer than one that does not come at all.
 */
static void note_body(struct bw_stream *s, struct conn *c, uint32_t n)
{
	c->since = BW_MIN(c->since + n * (BW_NS_PER_SEC / BODY_RATE), bw_stream_now(s));
}

static void input_length(struct worker *w, struct bw_stream *s, struct conn *c, struct cursor *cursor)
{
	uint32_t n = (uint32_t)BW_MIN((uint64_t)(cursor->view->len - cursor->at), c->body_bytes);

	note_body(s, c, n);
	c->body_bytes -= n;
	cursor_skip(cursor, n);
	if (c->body_bytes == 0)
		body_end(w, s, c, 0);
}

static void input_chunks(struct worker *w, struct bw_stream *s, struct conn *c, struct cursor *cursor)
{
	bool is_done, is_bad;
	uint32_t n = bw_http__chunks_discard(&c->chunks, cursor->view->data + cursor->at,
		cursor->view->len - cursor->at, &c->body_bytes, &is_done, &is_bad);

	note_body(s, c, n);
	cursor_skip(cursor, n);
	if (is_bad)
		body_end(w, s, c, 400);
	/* With the chunk that was announced: no need to wait for all of a huge one. */
	else if (c->body_bytes + c->chunks.left > w->conf->body_bytes_max)
		body_end(w, s, c, 413);
	else if (is_done)
		body_end(w, s, c, 0);
}

/*
 * The head at the front of the queue is not whole. Where it lies in many small pieces have the stack join them,
 * which also gives their mbufs back; and where it goes on beyond the views that were handed over, there is no
 * other way to see it.
 */
static void join_pieces(struct worker *w, struct bw_stream *s, struct conn *c, const struct bw_view *views,
	unsigned count, uint32_t sum)
{
	uint32_t unread = bw_stream_unread(s), len = BW_MIN(unread, (uint32_t)PULLUP_MAX);
	bool is_hidden = sum < unread;

	if (!is_hidden && (count <= PULLUP_VIEWS || views[0].len >= len))
		return;
	if (views[0].len >= len) {
		/* Joined before, and crumbs behind it: nobody's honest client. */
		refuse(w, s, c, 431, 0);
	} else if (bw_stream_pullup(s, len) == NULL) {
		c->is_starved = c->is_paused = is_hidden;
		if (is_hidden)
			arm_by(s, c, bw_stream_now(s) + STARVED_NS);
	} else if (is_hidden) {
		c->is_paused = true;
		bw_stream_wake(s);
	}
}

/* The peer sends no more, and all there was has been looked at. */
static void input_ended(struct worker *w, struct bw_stream *s, struct conn *c)
{
	if (c->phase == PHASE_LENGTH || c->phase == PHASE_CHUNKS)
		body_end(w, s, c, 400); /* RFC 9112 8: the message is incomplete */
	else if (c->first == NULL && c->phase != PHASE_OVER)
		finish(w, s, c);
}

static uint32_t http_data(struct bw_stream *s, const struct bw_view *views, unsigned count)
{
	struct worker *w = worker_of(s);
	struct conn *c = bw_stream_state(s);
	struct cursor cursor = { .view = views, .end = views + count };
	bw_ns now = bw_stream_now(s);
	uint32_t sum = 0;
	bool is_hidden;

	if (bw_unlikely(now >= w->date_until))
		update_date(w, now);
	for (unsigned i = 0; i < count; i++)
		sum += views[i].len;
	c->is_paused = false;
	c->is_reading = true;
	cursor_skip(&cursor, 0);
	while (!cursor_is_at_end(&cursor) && c->phase != PHASE_OVER) {
		bool goes_on = true;

		if (bw_unlikely(is_blocked(w, c))) {
			c->is_paused = true;
			break;
		}
		if (bw_likely(c->phase == PHASE_HEAD))
			goes_on = input_head(w, s, c, &cursor);
		else if (c->phase == PHASE_LENGTH)
			input_length(w, s, c, &cursor);
		else
			input_chunks(w, s, c, &cursor);
		if (!goes_on)
			break;
	}
	c->is_reading = false;
	if (c->phase == PHASE_OVER)
		return sum;
	if (c->is_paused)
		return cursor.used;
	is_hidden = sum < bw_stream_unread(s);
	if (cursor.used == 0 && sum > 0) {
		join_pieces(w, s, c, views, count, sum);
		if (c->phase == PHASE_OVER)
			return 0; /* `sum` may be in other pieces by now; the close discards it */
	} else if (is_hidden) {
		c->is_paused = true;
		bw_stream_wake(s);
	}
	if (c->peer_is_closed && !is_hidden)
		input_ended(w, s, c);
	return cursor.used;
}

/* ---- the other callbacks ------------------------------------------------------------------------------ */

static void http_opened(struct bw_stream *s)
{
	struct worker *w = worker_of(s);
	struct conn *c = bw_stream_state(s);

	w->connections++;
	c->since = bw_stream_now(s);
	c->timer_at = BW_NEVER;
	arm_by(s, c, c->since + w->conf->idle_timeout_ns);
}

static void http_writable(struct bw_stream *s)
{
	struct worker *w = worker_of(s);

	if (bw_stream_now(s) >= w->date_until)
		update_date(w, bw_stream_now(s));
	pump(w, s, bw_stream_state(s));
}

static void http_peer_closed(struct bw_stream *s)
{
	struct conn *c = bw_stream_state(s);

	c->peer_is_closed = true;
	if (!c->is_paused)
		input_ended(worker_of(s), s, c);
}

static void http_closed(struct bw_stream *s, enum bw_close_reason reason)
{
	struct worker *w = worker_of(s);
	struct conn *c = bw_stream_state(s);

	while (c->first != NULL)
		pending_pop(w, c);
	w->connections--;
}

/* When what the connection waits for now has been waited for too long. */
static bw_ns deadline_of(const struct worker *w, const struct conn *c, bw_ns now)
{
	if (c->first != NULL && c->first->waits & WAIT_OBJECT)
		return now + w->conf->idle_timeout_ns; /* for us, not for the peer */
	if (c->first == NULL && c->phase == PHASE_HEAD && c->scan.seen > 0)
		return c->since + w->conf->header_timeout_ns;
	if (c->first != NULL && c->first->waits & WAIT_BODY)
		return c->since + w->conf->header_timeout_ns;
	return c->since + w->conf->idle_timeout_ns;
}

static void http_timer(struct bw_stream *s)
{
	struct worker *w = worker_of(s);
	struct conn *c = bw_stream_state(s);
	bw_ns now = bw_stream_now(s), deadline;

	c->timer_at = BW_NEVER;
	if (now >= w->date_until)
		update_date(w, now);
	if (c->is_starved) {
		c->is_starved = false;
		bw_stream_wake(s);
		pump(w, s, c);
		if (c->phase == PHASE_OVER && c->first == NULL)
			return;
	}
	deadline = deadline_of(w, c, now);
	if (now < deadline) {
		arm_by(s, c, deadline);
		return;
	}
	w->timeouts++;
	c->since = now;
	if (c->first != NULL && c->first->waits & WAIT_BODY)
		body_end(w, s, c, 408);
	else if (c->first != NULL)
		give_up(w, s, c); /* the peer does not read: a reset is all it can still be told */
	else if (c->phase == PHASE_HEAD && c->scan.seen > 0)
		refuse(w, s, c, 408, 0);
	else
		finish(w, s, c);
	if (c->first != NULL)
		arm_by(s, c, now + w->conf->idle_timeout_ns);
}

static void http_drain(struct bw_stream *s)
{
	struct conn *c = bw_stream_state(s);

	/* What is in flight is answered with "Connection: close"; without a whole head, the timer ends it. */
	if (c->first == NULL && c->phase == PHASE_HEAD && c->scan.seen == 0 && !c->is_paused)
		finish(worker_of(s), s, c);
}

static void http_tick(struct bw_context *ctx, bw_ns now)
{
	struct worker *w = bw_context_state(ctx);

	bw_http__table_tick(&w->table, now);
}

static int http_start(struct bw_context *ctx, void *conf)
{
	struct worker *w = bw_context_state(ctx);
	int rc;

	w->ctx = ctx;
	w->conf = conf;
	BW_ASSERT(w->conf->files != NULL); /* bw_http_conf_prepare() was forgotten */
	w->scratch = malloc(w->conf->header_bytes_max);
	w->path = malloc(w->conf->request_line_bytes_max);
	w->pendings = calloc(PENDING_MAX, sizeof(*w->pendings));
	rc = bw_http__table_init(&w->table, ctx, w->conf, ready);
	if (rc == 0 && (w->scratch == NULL || w->path == NULL || w->pendings == NULL))
		rc = -ENOMEM;
	if (rc < 0) {
		bw_error("http: worker %u has no memory for its tables (%s)", bw_context_worker(ctx),
			strerror(-rc));
		bw_http__table_fini(&w->table);
		free(w->pendings);
		free(w->path);
		free(w->scratch);
		return rc;
	}
	update_date(w, bw_context_now(ctx));
	return 0;
}

static void http_stop(struct bw_context *ctx)
{
	struct worker *w = bw_context_state(ctx);

	BW_ASSERT_EQ(w->pendings_out, 0);
	bw_http__table_fini(&w->table);
	free(w->pendings);
	free(w->path);
	free(w->scratch);
}

static size_t http_stats(const struct bw_context *ctx, char *out, size_t out_bytes)
{
	/* The state is only read; bw_context_state() has no form for that. */
	const struct worker *w = bw_context_peer_state(ctx, bw_context_worker(ctx));
	struct bw_http__files_figures f;
	size_t n = 0;

#define LINE(name, value)                                                                                    \
	do {                                                                                                 \
		int line_len =                                                                               \
			snprintf(out + n, out_bytes - n, name " %llu\n", (unsigned long long)(value));       \
		if (line_len < 0 || (size_t)line_len >= out_bytes - n)                                       \
			return n;                                                                            \
		n += (size_t)line_len;                                                                       \
	} while (0)
	LINE("connections", w->connections);
	LINE("requests", w->requests);
	LINE("responses_2xx", w->by_class[2]);
	LINE("responses_3xx", w->by_class[3]);
	LINE("responses_4xx", w->by_class[4]);
	LINE("responses_5xx", w->by_class[5]);
	LINE("body_bytes", w->body_bytes);
	LINE("malformed", w->malformed);
	LINE("timeouts", w->timeouts);
	LINE("pending", w->pendings_out);
	LINE("pending_refused", w->stalled);
	LINE("cache_hits", w->table.hits);
	LINE("cache_waits", w->table.waits);
	LINE("cache_refused", w->table.refused);
	LINE("cache_paths", w->table.count);
	/* What all workers share is told once. */
	if (bw_context_worker(ctx) == 0) {
		bw_http__files_figures(w->conf->files, &f);
		LINE("cache_entries", f.entries);
		LINE("cache_bytes", f.bytes);
		LINE("cache_negative_bytes", f.negative_bytes);
		LINE("cache_loads", f.loads);
		LINE("cache_load_failures", f.load_failures);
		LINE("cache_checks", f.checks);
		LINE("cache_evictions", f.evictions);
		LINE("cache_no_room", f.no_room);
	}
#undef LINE
	return n;
}

const struct bw_service bw_http_service = {
	.name = "http",
	.stream_bytes = sizeof(struct conn),
	.context_bytes = sizeof(struct worker),
	.start = http_start,
	.stop = http_stop,
	.opened = http_opened,
	.data = http_data,
	.writable = http_writable,
	.peer_closed = http_peer_closed,
	.closed = http_closed,
	.timer = http_timer,
	.drain = http_drain,
	.tick = http_tick,
	.stats = http_stats,
};
