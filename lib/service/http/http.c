/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * HTTP/1.1 server (RFC 9110, RFC 9112): connections and their requests.
 *
 * A request is found whole before it is parsed: in the packet it came in, or where it straddles packets, in the
 * worker's scratch buffer. What is not whole stays in the receive queue, and the search for its end goes on
 * where it stopped. A path that the worker's table knows is answered at once: prebuilt head and the Date line
 * copied, body by reference, or copied too where both fit one reserve.
 *
 * All else is an exchange that waits, in a list a connection (exchange.c): for a helper thread (a file to be
 * loaded), for its request's body to be over, for a handler, or for room in the send queue. Answers leave in the
 * order of their requests, so whatever comes while the list is not empty joins it. Nothing is read while the first
 * of the list only waits for room, nor beyond pipeline_depth_max: the bytes stay in the receive queue and close the
 * window.
 *
 * One timer a connection, seldom moved: when it fires, it looks what the connection is waiting for now, since
 * when, and either ends it or sleeps for the rest. An idle connection costs its `struct bw_http__conn` and nothing else.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <base/log.h>

#include "internal.h"

#define QUERIES_BYTES ((size_t)BW_HTTP__EXCHANGES_MAX * BW_HTTP__QUERY_MAX)
#define RESYNC_NS     (60 * BW_NS_PER_SEC)
#define PULLUP_MAX    2048 /* what bw_stream_pullup() grants */
#define PULLUP_VIEWS  8    /* a head in more pieces than this is joined: an mbuf a byte is dear */

/* ---- time --------------------------------------------------------------------------------------------- */

static void format_tails(struct bw_http__worker *w)
{
	static const char *const connection[BW_HTTP__TAIL_COUNT] = {
		[BW_HTTP__TAIL_PLAIN] = "",
		[BW_HTTP__TAIL_CLOSE] = "Connection: close\r\n",
		[BW_HTTP__TAIL_KEEP_ALIVE] = "Connection: keep-alive\r\n",
	};

	for (unsigned i = 0; i < BW_HTTP__TAIL_COUNT; i++) {
		char date[BW_HTTP__DATE_LEN];

		bw_http__date_format(w->date_s, date);
		w->tail_len[i] = (uint8_t)snprintf(w->tail[i], sizeof(w->tail[i]), "Date: %.*s\r\n%s\r\n",
			BW_HTTP__DATE_LEN, date, connection[i]);
	}
}

/* Once a second. The offset is taken anew once a minute: wall clocks are stepped, and drift against ours. */
void bw_http__update_date(struct bw_http__worker *w, bw_ns now)
{
	int64_t wall_ns;

	if (bw_likely(now < w->date_until))
		return;
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

/* ---- from request to reply ---------------------------------------------------------------------------- */

static void answer(struct bw_http__worker *w, struct bw_stream *s, struct bw_http__conn *c,
	struct bw_http__reply *reply);

/* The beginning of what is to be logged. */
static struct bw_http__log_entry *log_begin(struct bw_http__worker *w, struct bw_stream *s,
	const uint8_t *head, uint32_t head_len, bw_ns began_at)
{
	if (bw_likely(w->log == NULL))
		return NULL;
	return bw_http__log_begin(w->log, &bw_stream_flow(s)->remote, head, head_len, began_at);
}

/*
 * A status of ours, and the end of the connection: nothing behind it can be trusted to be a request.
 *
 * @head  what there is of it, for the log, since c->since
 */
static void refuse(struct bw_http__worker *w, struct bw_stream *s, struct bw_http__conn *c, unsigned status,
	uint8_t flags, const uint8_t *head, uint32_t head_len)
{
	struct bw_http__reply reply = { .status = (uint16_t)status, .flags = BW_HTTP__REPLY_CLOSE | flags };

	reply.entry = log_begin(w, s, head, head_len, c->since);
	c->since = bw_context_now(w->ctx);
	w->requests++;
	w->malformed++;
	answer(w, s, c, &reply);
}

/* A reply that waits for nothing but its turn: at once, or into the list. */
static void answer(
	struct bw_http__worker *w, struct bw_stream *s, struct bw_http__conn *c, struct bw_http__reply *reply)
{
	struct bw_http_exchange *x;

	if (reply->flags & BW_HTTP__REPLY_CLOSE)
		c->phase = BW_HTTP__PHASE_OVER;
	bw_http__use_page(w, reply);
	if (bw_likely(c->last == NULL) && bw_likely(!bw_http__is_streamed(reply)) &&
		bw_http__send_reply(w, s, c, reply)) {
		if (reply->flags & BW_HTTP__REPLY_CLOSE)
			bw_http__finish(w, s, c);
		return;
	}
	x = bw_http__exchange_push(w, s, c, reply);
	if (x == NULL) {
		/* Every one of the worker's is out. A head may be half out, so there is no way to say so. */
		w->stalled++;
		bw_http__log_reply(w, reply);
		bw_http__give_up(w, s, c);
		return;
	}
	if (bw_http__first(c) == x && bw_http__is_streamed(reply))
		bw_http__pump(w, s, c);
	else if (c->is_starved)
		bw_http__arm_by(s, bw_context_now(w->ctx) + BW_HTTP__STARVED_NS);
}

/* The site that the request's host means. Mostly that of the request before. */
static unsigned site_of(struct bw_http__worker *w, const struct bw_http__request *request)
{
	if (bw_likely(w->conf->host_count == 0))
		return 0;
	if (request->host_len != w->host_len || memcmp(request->host, w->host, w->host_len) != 0) {
		w->host_site = bw_http__site_find(w->conf->router, request->host, request->host_len);
		w->host_len = request->host_len <= sizeof(w->host) ? request->host_len : 0;
		memcpy(w->host, request->host, w->host_len);
	}
	return w->host_site;
}

/* 0 or a status. */
static unsigned target_of(
	struct bw_http__worker *w, const struct bw_http__request *request, struct bw_http__target *target)
{
	target->site = site_of(w, request);
	target->path = request->path;
	target->path_len = request->path_len;
	target->path_hash = request->path_hash;
	if (bw_likely(request->path_is_plain))
		return 0;
	target->path = w->path;
	return bw_http__path(request->path, request->path_len, w->path, &target->path_len);
}

/*
 * The handler's route, where it has one for the method. Else *reply may be decided: what no document can answer is
 * 204 or 405.
 */
static const struct bw_http_route *route(struct bw_http__worker *w, const struct bw_http__request *request,
	const struct bw_http__target *target, struct bw_http__reply *reply)
{
	const struct bw_http_route *found = NULL;
	const struct bw_http_site *site =
		target->site == 0 ? &w->conf->site : &w->conf->hosts[target->site - 1];
	bool is_get = request->method == BW_HTTP_GET || request->method == BW_HTTP_HEAD;

	if (bw_unlikely(bw_http__site_has_routes(w->conf->router, target->site))) {
		found = bw_http__route_find(w->conf->router, target->site, target->path, target->path_len,
			request->method, &reply->methods);
		if (found != NULL && found->is_prefix && is_get &&
			bw_http__table_has_constant(&w->table, target->site, target->path, target->path_len))
			return NULL;
		if (found != NULL)
			return found;
	}
	if (is_get)
		return NULL;
	if (site->root != NULL || site->constant_count > 0 || reply->methods == 0)
		reply->methods |= bw_http__method_bit(BW_HTTP_GET) | bw_http__method_bit(BW_HTTP_HEAD);
	if (request->method == BW_HTTP_UNKNOWN)
		reply->status = 501;
	else
		reply->status = request->method == BW_HTTP_OPTIONS ? 204 : 405;
	return NULL;
}

/* The path's object into *reply, or the look-up to wait for. */
static struct bw_http__lookup *look_up(struct bw_http__worker *w, struct bw_stream *s,
	const struct bw_http__request *request, const struct bw_http__target *target,
	struct bw_http__reply *reply)
{
	struct bw_http__object *object;
	struct bw_http__lookup *lookup = NULL;
	unsigned status = 0;

	if (request->query.len > 0 && request->query.len <= BW_HTTP__QUERY_MAX)
		reply->query = request->query;
	switch (bw_http__table_find(&w->table, target, bw_context_now(w->ctx), &object, &lookup, &status)) {
	case BW_HTTP__FOUND:
		bw_http__decide(w, object, &request->wants, reply);
		return NULL;
	case BW_HTTP__FOUND_WAIT:
		return lookup;
	case BW_HTTP__FOUND_NOT:
		reply->status = (uint16_t)status;
		/* There are other methods for it, and nothing to GET. */
		if (status == 404 && reply->methods != 0)
			reply->status = 405;
		return NULL;
	}
	return NULL;
}

/* The exchange's input follows, or not. */
static void await_body(struct bw_http__worker *w, struct bw_stream *s, struct bw_http__conn *c,
	const struct bw_http__request *request, struct bw_http_exchange *x)
{
	x->waits |= BW_HTTP__WAIT_BODY;
	x->owes_continue = request->expects_continue;
	c->phase = request->is_chunked ? BW_HTTP__PHASE_CHUNKS : BW_HTTP__PHASE_LENGTH;
	x->body_bytes = request->body_bytes;
	x->chunks = (struct bw_http__chunks){ .left = 0 };
	bw_http__arm_by(s, c->since + w->conf->body_timeout_ns);
}

static void hand_over(struct bw_http_exchange *x, const struct bw_http__request *request,
	const struct bw_http__target *target, bool has_body)
{
	const struct bw_http_head head = {
		.method = request->method,
		.target = request->target,
		.path = { (const char *)target->path, target->path_len },
		.query = request->query,
		.host = { (const char *)request->host, request->host_len },
		.fields = request->fields,
		.has_body = has_body,
		.is_chunked = request->is_chunked,
		.body_bytes = request->body_bytes,
	};

	bw_http__handler_begin(x, &head);
}

/* A whole head was parsed: reply, or remember what to reply, and go on to the body. `entry` is the reply's. */
static void request_begin(struct bw_http__worker *w, struct bw_stream *s, struct bw_http__conn *c,
	const struct bw_http__request *request, struct bw_http__log_entry *entry)
{
	bool has_body = request->is_chunked || request->body_bytes > 0;
	struct bw_http__lookup *lookup = NULL;
	const struct bw_http_route *to = NULL;
	struct bw_http__reply reply = { .entry = entry };
	uint64_t body_bytes_max = w->conf->body_bytes_max;
	struct bw_http_exchange *x;
	struct bw_http__target target;

	w->requests++;
	if (request->method == BW_HTTP_HEAD)
		reply.flags |= BW_HTTP__REPLY_NO_BODY;
	if (request->is_1_0)
		reply.flags |= BW_HTTP__REPLY_1_0;
	if (!request->keeps_alive || bw_context_is_draining(w->ctx) ||
		(w->conf->requests_max > 0 && ++c->requests >= w->conf->requests_max))
		reply.flags |= BW_HTTP__REPLY_CLOSE;
	else if (request->has_keep_alive)
		reply.flags |= BW_HTTP__REPLY_KEEP_ALIVE;

	reply.status = (uint16_t)target_of(w, request, &target);
	reply.site = (uint16_t)target.site;
	if (bw_likely(reply.status == 0))
		to = route(w, request, &target, &reply);
	else if (reply.status == 400)
		reply.flags |= BW_HTTP__REPLY_CLOSE;
	if (to != NULL && to->body_bytes_max > 0)
		body_bytes_max = to->body_bytes_max;
	if (request->body_bytes > body_bytes_max || request->expects_unknown) {
		/* These end the connection, because the body they refuse may or may not be on its way. */
		reply.status = request->expects_unknown ? 417 : 413;
		reply.flags |= BW_HTTP__REPLY_CLOSE;
		to = NULL;
	} else if (to == NULL && reply.status == 0) {
		lookup = look_up(w, s, request, &target, &reply);
	}
	/* RFC 9110 10.1.1: the final status instead of a 100, and the client may send the body or not. */
	if (request->expects_continue && has_body && reply.status >= 400)
		reply.flags |= BW_HTTP__REPLY_CLOSE;
	if (bw_likely(lookup == NULL && to == NULL) &&
		(!has_body || (reply.flags & BW_HTTP__REPLY_CLOSE && reply.status >= 400))) {
		answer(w, s, c, &reply);
		return;
	}

	bw_http__use_page(w, &reply);
	x = bw_http__exchange_push(w, s, c, &reply);
	if (x == NULL) {
		w->stalled++;
		bw_http__log_reply(w, &reply);
		bw_http__give_up(w, s, c);
		return;
	}
	if (lookup != NULL) {
		x->waits |= BW_HTTP__WAIT_OBJECT;
		x->wants = request->wants;
		bw_list_push_back(&lookup->waiters, &x->waiter);
	}
	if (has_body)
		await_body(w, s, c, request, x);
	else if (reply.flags & BW_HTTP__REPLY_CLOSE)
		c->phase = BW_HTTP__PHASE_OVER;
	if (to != NULL) {
		x->route = to;
		hand_over(x, request, &target, has_body);
	}
	if (has_body || to != NULL)
		bw_http__go_on(x, c);
}

/* The last exchange's body is over, in order or not. */
static void body_end(
	struct bw_http__worker *w, struct bw_stream *s, struct bw_http__conn *c, unsigned error_status)
{
	struct bw_http_exchange *x = c->last;

	BW_ASSERT(x != NULL && (x->waits & BW_HTTP__WAIT_BODY));
	x->waits &= (uint8_t)~BW_HTTP__WAIT_BODY;
	c->phase = BW_HTTP__PHASE_HEAD;
	if (error_status != 0) {
		w->malformed++;
		if (x->route != NULL && !bw_http__handler_body_failed(x)) {
			/* What was said cannot be taken back. If it was all, it still goes out. */
			if (x->stage <= BW_HTTP__STREAMING) {
				bw_http__give_up(w, s, c);
				return;
			}
			x->reply.flags |= BW_HTTP__REPLY_CLOSE;
			goto over;
		}
		bw_link_remove(&x->waiter);
		if (x->reply.object != NULL)
			bw_http__object_put(x->reply.object);
		x->reply = (struct bw_http__reply){
			.entry = x->reply.entry,
			.status = (uint16_t)error_status,
			.site = x->reply.site,
			.flags = BW_HTTP__REPLY_CLOSE | (x->reply.flags & BW_HTTP__REPLY_NO_BODY),
		};
		bw_http__use_page(w, &x->reply);
		if (x->reply.object != NULL)
			bw_http__object_ref(x->reply.object);
		x->waits = 0;
	} else if (x->route != NULL) {
		bw_http__handler_body_end(x);
	}
	if (c->is_aborted)
		return;
over:
	if (x->reply.flags & BW_HTTP__REPLY_CLOSE)
		c->phase = BW_HTTP__PHASE_OVER;
	bw_http__go_on(x, c);
}

/* A look-up came home: `object` is borrowed, or NULL with a status. */
static void ready(
	struct bw_context *ctx, struct bw_list *waiters, struct bw_http__object *object, unsigned status)
{
	struct bw_http__worker *w = bw_context_state(ctx);
	struct bw_link *link;

	while ((link = bw_list_pop_front(waiters)) != NULL) {
		struct bw_http_exchange *x = bw_container_of(link, struct bw_http_exchange, waiter);
		struct bw_http__conn *c = bw_stream_state(x->stream);

		x->waits &= (uint8_t)~BW_HTTP__WAIT_OBJECT;
		if (object != NULL)
			bw_http__decide(w, object, &x->wants, &x->reply);
		else
			x->reply.status = (uint16_t)status;
		bw_http__use_page(w, &x->reply);
		if (x->reply.object != NULL)
			bw_http__object_ref(x->reply.object);
		if (bw_http__first(c) == x) {
			c->since = bw_context_now(ctx); /* it was our wait, not the client's */
			bw_http__pump(w, x->stream, c);
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
static unsigned head_overrun(const struct bw_http__worker *w, const struct bw_http__scan *scan)
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
static enum taken take_head(struct bw_http__worker *w, struct bw_http__conn *c, const struct cursor *start,
	const uint8_t **head, unsigned *status)
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

/* The fast path: a head that has come before, whole in one piece. False: it is for input_head(), with its hash. */
static bool input_known(struct bw_http__worker *w, struct bw_stream *s, struct bw_http__conn *c,
	struct cursor *cursor, uint32_t *hash)
{
	const uint8_t *head = cursor->view->data + cursor->at;
	uint32_t head_len;
	const struct bw_http__request *request =
		bw_http__memo_find(w->memo, head, cursor->view->len - cursor->at, &head_len, hash);

	if (request == NULL)
		return false;
	c->since = bw_context_now(w->ctx);
	request_begin(w, s, c, request, log_begin(w, s, head, head_len, c->since));
	cursor_skip(cursor, head_len);
	return true;
}

/* True: go on. False: nothing more to be had from these views. */
static bool input_head(
	struct bw_http__worker *w, struct bw_stream *s, struct bw_http__conn *c, struct cursor *cursor)
{
	struct bw_http__limits limits = {
		.request_line_bytes_max = w->conf->request_line_bytes_max,
		.header_count_max = w->conf->header_count_max,
		.now_s = w->date_s,
	};
	struct bw_http__request request;
	const uint8_t *head;
	unsigned status;
	uint32_t hash = 0;
	bool is_fresh = c->scan.seen == 0;
	bw_ns began_at = is_fresh ? bw_context_now(w->ctx)
				  : c->since; /* with the packet that brought its first byte */

	if (bw_likely(is_fresh) && input_known(w, s, c, cursor, &hash))
		return true;
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
			c->since = bw_context_now(w->ctx);
			bw_http__arm_by(s, c->since + w->conf->header_timeout_ns);
		}
		return false;
	case TAKEN_ERROR:
		c->since = began_at;
		refuse(w, s, c, status, 0, cursor->view->data + cursor->at,
			BW_MIN(cursor->view->len - cursor->at, c->scan.seen));
		return true;
	case TAKEN_HEAD:
		break;
	}
	status = bw_http__parse(head, c->scan.seen, &limits, &request);
	if (status != 0) {
		c->since = began_at;
		/* RFC 9110 9.3.2: no content in answer to HEAD, whatever else is wrong with it. */
		refuse(w, s, c, status, request.method == BW_HTTP_HEAD ? BW_HTTP__REPLY_NO_BODY : 0, head,
			c->scan.seen);
		return true;
	}
	if (hash != 0) {
		if (request.path_is_plain)
			request.path_hash = bw_http__table_hash(&w->table, request.path, request.path_len);
		bw_http__memo_keep(w->memo, hash, head, c->scan.seen, &request);
	}
	c->since = bw_context_now(w->ctx);
	/* The head's bytes are in the views or the scratch until this call returns: the request may point there. */
	request_begin(w, s, c, &request, log_begin(w, s, head, c->scan.seen, began_at));
	cursor_skip(cursor, c->scan.seen);
	c->scan = (struct bw_http__scan){ .seen = 0 };
	return true;
}

/*
 * Of a body, `n` bytes more: they earn it time, but no credit for later. One that only drips keeps a pending answer,
 * of which there is an end, for no longer than one that does not come at all.
 */
static void note_body(
	const struct bw_http__worker *w, struct bw_stream *s, struct bw_http__conn *c, uint32_t n)
{
	uint64_t rate = w->conf->body_rate_bytes;
	bw_ns now = bw_context_now(w->ctx);

	if (n > 0)
		c->since = rate > 0 ? BW_MIN(c->since + n * BW_NS_PER_SEC / rate, now) : now;
}

/* Data of a body at the cursor, at most `len` bytes. Returns how many were taken; less than all pauses reading. */
static uint32_t input_body(const struct bw_http__worker *w, struct bw_stream *s, struct bw_http__conn *c,
	struct cursor *cursor, uint64_t len)
{
	struct bw_http_exchange *x = c->last;
	struct bw_view view = *cursor->view;
	uint32_t n;

	view.data += cursor->at;
	view.len = n = (uint32_t)BW_MIN((uint64_t)(cursor->view->len - cursor->at), len);
	if (x->route != NULL) {
		n = bw_http__handler_body(x, &view);
		c->is_paused |= n < view.len;
	}
	note_body(w, s, c, n);
	cursor_skip(cursor, n);
	return n;
}

static void input_length(
	struct bw_http__worker *w, struct bw_stream *s, struct bw_http__conn *c, struct cursor *cursor)
{
	struct bw_http_exchange *x = c->last;
	uint32_t n = input_body(w, s, c, cursor, x->body_bytes);

	if (c->phase == BW_HTTP__PHASE_OVER)
		return;
	x->body_bytes -= n;
	if (x->body_bytes == 0)
		body_end(w, s, c, 0);
}

static void input_chunks(
	struct bw_http__worker *w, struct bw_stream *s, struct bw_http__conn *c, struct cursor *cursor)
{
	struct bw_http_exchange *x = c->last;
	const struct bw_http_route *to = x->route;
	uint64_t bytes_max =
		to != NULL && to->body_bytes_max > 0 ? to->body_bytes_max : w->conf->body_bytes_max;
	enum bw_http__chunks_result result;
	uint32_t n = bw_http__chunks_next(
		&x->chunks, cursor->view->data + cursor->at, cursor->view->len - cursor->at, &result);

	note_body(w, s, c, n);
	cursor_skip(cursor, n);
	switch (result) {
	case BW_HTTP__CHUNKS_MORE:
		/* With the chunk that is being announced: no need to wait for all of a huge one. */
		if (x->body_bytes + x->chunks.left > bytes_max)
			body_end(w, s, c, 413);
		break;
	case BW_HTTP__CHUNKS_DATA:
		if (x->body_bytes + x->chunks.left > bytes_max) {
			body_end(w, s, c, 413);
			break;
		}
		n = input_body(w, s, c, cursor, x->chunks.left);
		if (n == 0 || c->phase == BW_HTTP__PHASE_OVER)
			break;
		x->body_bytes += n;
		bw_http__chunks_took(&x->chunks, n);
		break;
	case BW_HTTP__CHUNKS_END:
		body_end(w, s, c, 0);
		break;
	case BW_HTTP__CHUNKS_BAD:
		body_end(w, s, c, 400);
		break;
	}
}

/*
 * The head at the front of the queue is not whole. Where it lies in many small pieces have the stack join them,
 * which also gives their mbufs back; and where it goes on beyond the views that were handed over, there is no
 * other way to see it.
 */
static void join_pieces(struct bw_http__worker *w, struct bw_stream *s, struct bw_http__conn *c,
	const struct bw_view *views, unsigned count, uint32_t sum)
{
	uint32_t unread = bw_stream_unread(s), len = BW_MIN(unread, (uint32_t)PULLUP_MAX);
	bool is_hidden = sum < unread;

	if (!is_hidden && (count <= PULLUP_VIEWS || views[0].len >= len))
		return;
	if (views[0].len >= len) {
		/* Joined before, and crumbs behind it: nobody's honest client. */
		refuse(w, s, c, 431, 0, views[0].data, BW_MIN(views[0].len, c->scan.seen));
	} else if (bw_stream_pullup(s, len) == NULL) {
		c->is_starved = c->is_paused = is_hidden;
		if (is_hidden)
			bw_http__arm_by(s, bw_context_now(w->ctx) + BW_HTTP__STARVED_NS);
	} else if (is_hidden) {
		c->is_paused = true;
		bw_stream_wake(s);
	}
}

/* The peer sends no more, and all there was has been looked at. */
static void input_ended(struct bw_http__worker *w, struct bw_stream *s, struct bw_http__conn *c)
{
	if (c->phase == BW_HTTP__PHASE_LENGTH || c->phase == BW_HTTP__PHASE_CHUNKS)
		body_end(w, s, c, 400); /* RFC 9112 8: the message is incomplete */
	else if (c->last == NULL && c->phase != BW_HTTP__PHASE_OVER)
		bw_http__finish(w, s, c);
}

static void http_drain(struct bw_stream *s);

static uint32_t http_data(struct bw_stream *s, const struct bw_view *views, unsigned count)
{
	struct bw_http__worker *w = bw_http__worker_of(s);
	struct bw_http__conn *c = bw_stream_state(s);
	struct cursor cursor = { .view = views, .end = views + count };
	bw_ns now = bw_context_now(w->ctx);
	uint32_t sum = 0;
	bool is_hidden;

	bw_http__update_date(w, now);
	for (unsigned i = 0; i < count; i++)
		sum += views[i].len;
	c->is_paused = false;
	c->is_reading = true;
	cursor_skip(&cursor, 0);
	while (!cursor_is_at_end(&cursor) && c->phase != BW_HTTP__PHASE_OVER) {
		bool goes_on = true;

		if (bw_unlikely(bw_http__is_blocked(w, c))) {
			c->is_paused = true;
			break;
		}
		if (bw_likely(c->phase == BW_HTTP__PHASE_HEAD))
			goes_on = input_head(w, s, c, &cursor);
		else if (c->phase == BW_HTTP__PHASE_LENGTH)
			input_length(w, s, c, &cursor);
		else
			input_chunks(w, s, c, &cursor);
		if (!goes_on || c->is_paused)
			break;
	}
	c->is_reading = false;
	if (c->phase == BW_HTTP__PHASE_OVER)
		return sum;
	if (c->is_paused)
		return cursor.used;
	is_hidden = sum < bw_stream_unread(s);
	if (cursor.used == 0 && sum > 0) {
		join_pieces(w, s, c, views, count, sum);
		if (c->phase == BW_HTTP__PHASE_OVER)
			return 0; /* `sum` may be in other pieces by now; the close discards it */
	} else if (is_hidden) {
		c->is_paused = true;
		bw_stream_wake(s);
	}
	if (c->peer_is_closed && !is_hidden)
		input_ended(w, s, c);
	else if (bw_unlikely(bw_context_is_draining(w->ctx)))
		http_drain(s); /* what was in flight when that began may have ended just now */
	return cursor.used;
}

/* ---- the other callbacks ------------------------------------------------------------------------------ */

/* Over the bound of its address, a connection is told so and ends before it has asked for anything. */
static void count_address(struct bw_http__worker *w, struct bw_stream *s, struct bw_http__conn *c)
{
	struct bw_http__reply reply = { .status = 429,
		.flags = BW_HTTP__REPLY_CLOSE }; /* RFC 6585 section 4 */

	switch (bw_http__addresses_enter(w->conf->addresses, &bw_stream_flow(s)->remote)) {
	case BW_HTTP__ADDRESS_COUNTED:
		c->is_counted = true;
		return;
	case BW_HTTP__ADDRESS_UNCOUNTED:
		w->address_uncounted++;
		return;
	case BW_HTTP__ADDRESS_REFUSED:
		break;
	}
	w->address_refused++;
	bw_http__update_date(w, bw_context_now(w->ctx));
	reply.entry = log_begin(w, s, NULL, 0, c->since);
	answer(w, s, c, &reply);
}

static void http_opened(struct bw_stream *s)
{
	struct bw_http__worker *w = bw_http__worker_of(s);
	struct bw_http__conn *c = bw_stream_state(s);

	w->connections++;
	c->since = bw_context_now(w->ctx);
	bw_http__arm_by(s, c->since + w->conf->idle_timeout_ns);
	if (bw_unlikely(w->conf->addresses != NULL))
		count_address(w, s, c);
}

static void http_writable(struct bw_stream *s)
{
	struct bw_http__worker *w = bw_http__worker_of(s);

	bw_http__pump(w, s, bw_stream_state(s));
}

static void http_peer_closed(struct bw_stream *s)
{
	struct bw_http__conn *c = bw_stream_state(s);

	c->peer_is_closed = true;
	if (!c->is_paused)
		input_ended(bw_http__worker_of(s), s, c);
}

static void http_closed(struct bw_stream *s, enum bw_close_reason reason)
{
	struct bw_http__worker *w = bw_http__worker_of(s);
	struct bw_http__conn *c = bw_stream_state(s);

	bw_http__drop_all(c);
	while (c->last != NULL)
		bw_http__exchange_pop(w, c);
	if (c->is_counted)
		bw_http__addresses_leave(w->conf->addresses, &bw_stream_flow(s)->remote);
	w->connections--;
}

/* What the connection waits for now. */
enum awaited {
	AWAITED_US,   /* a helper or a handler: no idleness of the peer's */
	AWAITED_HEAD, /* the rest of it */
	AWAITED_BODY,
	AWAITED_ROOM, /* in the send queue: that the peer reads */
	AWAITED_REQUEST,
};

static enum awaited awaited(const struct bw_http__conn *c)
{
	const struct bw_http_exchange *x = bw_http__first(c);

	if (x == NULL)
		return c->phase == BW_HTTP__PHASE_HEAD && c->scan.seen > 0 ? AWAITED_HEAD : AWAITED_REQUEST;
	if (x->waits & BW_HTTP__WAIT_OBJECT)
		return AWAITED_US;
	if (x->wants_room)
		return AWAITED_ROOM;
	if (x->waits & BW_HTTP__WAIT_BODY)
		return x->body_is_left ? AWAITED_US : AWAITED_BODY;
	if (bw_http__blocks_are_awaited(c, x))
		return AWAITED_US;
	return x->waits & BW_HTTP__WAIT_HANDLER ? AWAITED_US : AWAITED_ROOM;
}

/* When it has been waited for too long. */
static bw_ns deadline_of(const struct bw_http__worker *w, const struct bw_http__conn *c, bw_ns now)
{
	switch (awaited(c)) {
	case AWAITED_US:
		return now + w->conf->idle_timeout_ns;
	case AWAITED_HEAD:
		return c->since + w->conf->header_timeout_ns;
	case AWAITED_BODY:
		return c->since + w->conf->body_timeout_ns;
	default:
		return c->since + w->conf->idle_timeout_ns;
	}
}

/* A head that is not whole in time. */
static void refuse_late(struct bw_http__worker *w, struct bw_stream *s, struct bw_http__conn *c)
{
	uint32_t len = w->log != NULL ? BW_MIN(bw_stream_unread(s), (uint32_t)PULLUP_MAX) : 0;
	const uint8_t *head = len > 0 ? bw_stream_pullup(s, len) : NULL;

	refuse(w, s, c, 408, 0, head, head != NULL ? BW_MIN(len, c->scan.seen) : 0);
}

static void http_timer(struct bw_stream *s)
{
	struct bw_http__worker *w = bw_http__worker_of(s);
	struct bw_http__conn *c = bw_stream_state(s);
	bw_ns now = bw_context_now(w->ctx), deadline;

	bw_http__update_date(w, now);
	if (c->is_starved) {
		c->is_starved = false;
		bw_stream_wake(s);
		bw_http__pump(w, s, c);
		if (c->is_aborted || (c->phase == BW_HTTP__PHASE_OVER && c->last == NULL))
			return;
	}
	deadline = deadline_of(w, c, now);
	if (now < deadline) {
		bw_http__arm_by(s, deadline);
		return;
	}
	w->timeouts++;
	switch (awaited(c)) {
	case AWAITED_BODY:
		c->since = now;
		body_end(w, s, c, 408);
		break;
	case AWAITED_HEAD:
		refuse_late(w, s, c);
		break;
	case AWAITED_ROOM:
		bw_http__give_up(w, s, c); /* the peer does not read: a reset is all it can still be told */
		break;
	default:
		bw_http__finish(w, s, c);
		break;
	}
	if (c->last != NULL && !c->is_aborted)
		bw_http__arm_by(s, now + w->conf->idle_timeout_ns);
}

static void http_drain(struct bw_stream *s)
{
	struct bw_http__conn *c = bw_stream_state(s);

	/* What is in flight is answered with "Connection: close"; without a whole head, the timer ends it. */
	if (c->last == NULL && c->phase == BW_HTTP__PHASE_HEAD && c->scan.seen == 0 && !c->is_paused)
		bw_http__finish(bw_http__worker_of(s), s, c);
}

static void http_tick(struct bw_context *ctx, bw_ns now)
{
	struct bw_http__worker *w = bw_context_state(ctx);

	bw_http__blocks_tick(w);
	bw_http__table_tick(&w->table, now);
}

static int http_start(struct bw_context *ctx, void *conf)
{
	struct bw_http__worker *w = bw_context_state(ctx);
	int rc;

	w->ctx = ctx;
	w->conf = conf;
	BW_ASSERT(w->conf->files != NULL); /* bw_http_conf_prepare() was forgotten */
	w->scratch = malloc(w->conf->header_bytes_max);
	w->path = malloc(w->conf->request_line_bytes_max);
	w->memo = calloc(1, sizeof(*w->memo));
	w->exchanges = calloc(BW_HTTP__EXCHANGES_MAX, sizeof(*w->exchanges));
	/* Not from the heap, which may clear it: hardly a page of it is ever touched. */
	w->queries = mmap(NULL, QUERIES_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (w->queries == MAP_FAILED)
		w->queries = NULL;
	w->blocks = bw_http__files_blocks(w->conf->files);
	rc = bw_http__table_init(&w->table, ctx, w->conf, ready);
	if (rc == 0 && (w->scratch == NULL || w->path == NULL || w->memo == NULL || w->exchanges == NULL ||
			       w->queries == NULL || w->blocks == NULL))
		rc = -ENOMEM;
	if (rc < 0)
		bw_error("http: worker %u has no memory for its tables (%s)", bw_context_worker(ctx),
			strerror(-rc));
	else if (w->conf->log != NULL)
		rc = bw_http__log_attach(w->conf->log, &w->log);
	if (rc < 0) {
		bw_http__table_fini(&w->table);
		if (w->queries != NULL)
			munmap(w->queries, QUERIES_BYTES);
		free(w->exchanges);
		free(w->memo);
		free(w->path);
		free(w->scratch);
		return rc;
	}
	bw_http__update_date(w, bw_context_now(ctx));
	return 0;
}

static void http_stop(struct bw_context *ctx)
{
	struct bw_http__worker *w = bw_context_state(ctx);

	BW_ASSERT_EQ(w->exchanges_out, 0);
	bw_http__table_fini(&w->table);
	munmap(w->queries, QUERIES_BYTES);
	free(w->exchanges);
	free(w->memo);
	free(w->path);
	free(w->scratch);
}

static size_t http_stats(const struct bw_context *ctx, char *out, size_t out_bytes)
{
	/* The state is only read; bw_context_state() has no form for that. */
	const struct bw_http__worker *w = bw_context_peer_state(ctx, bw_context_worker(ctx));
	struct bw_http__files_figures f;
	struct bw_http__log_figures log;
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
	if (w->conf->addresses != NULL) {
		LINE("address_refused", w->address_refused);
		LINE("address_uncounted", w->address_uncounted);
	}
	if (w->log != NULL) {
		bw_http__log_figures(w->log, &log);
		LINE("log_entries", log.entries);
		LINE("log_dropped", log.dropped);
		if (bw_context_worker(ctx) == 0)
			LINE("log_write_errors", log.write_errors);
	}
	LINE("pending", w->exchanges_out);
	LINE("pending_refused", w->stalled);
	LINE("file_reads", w->file_reads);
	LINE("file_read_waits", w->file_read_waits);
	LINE("file_read_failures", w->file_read_failures);
	LINE("file_blocks", w->blocks->count - w->blocks->free_count);
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
		LINE("cache_watches", f.watches);
		LINE("cache_watch_events", f.watch_events);
		LINE("cache_watch_overflows", f.watch_overflows);
		LINE("cache_watch_refused", f.watch_refused);
		LINE("root_swaps", f.root_swaps);
	}
#undef LINE
	return n;
}

const struct bw_service bw_http_service = {
	.name = "http",
	.stream_bytes = sizeof(struct bw_http__conn),
	.context_bytes = sizeof(struct bw_http__worker),
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
