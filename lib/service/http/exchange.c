/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Exchanges that wait, in the order of their requests, and what handlers do to them.
 *
 * A handler's calls only note what it wants, or write into the send queue when it is its turn; bw_http__pump() goes on
 * from there. While one of the connection's exchanges is in a callback, its caller pumps afterwards, for whichever of
 * them that callback has answered; a call from elsewhere pumps at once. So nothing is freed below a handler's feet, and
 * a callback is never entered twice.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Room for a chunk's line, with the CRLF of the one before. */
#define CHUNK_LINE_BYTES 24

static struct bw_http__conn *conn_of(const struct bw_http_exchange *x)
{
	return bw_stream_state(x->stream);
}

/* ---- the list ------------------------------------------------------------------------------------------- */

struct bw_http_exchange *bw_http__exchange_push(struct bw_http__worker *w, struct bw_stream *s,
	struct bw_http__conn *c, const struct bw_http__reply *reply)
{
	struct bw_http_exchange *x = w->exchange_free;

	if (x != NULL)
		w->exchange_free = x->next;
	else if (w->exchanges_used < BW_HTTP__EXCHANGES_MAX)
		x = &w->exchanges[w->exchanges_used++];
	else
		return NULL;
	w->exchanges_out++;
	bw_link_init(&x->waiter);
	memset(&x->next, 0,
		offsetof(struct bw_http_exchange, wants) - offsetof(struct bw_http_exchange, next));
	x->wants.flags = 0;
	x->wants.encodings = 0;
	x->stream = s;
	x->worker = w;
	x->reply = *reply;
	if (x->reply.object != NULL)
		bw_http__object_ref(x->reply.object);
	if (x->reply.query.len > 0) { /* which is the request's until now */
		char *query = w->queries[x - w->exchanges];

		memcpy(query, x->reply.query.at, x->reply.query.len);
		x->reply.query.at = query;
	}
	if (c->last == NULL) {
		x->next = x;
	} else {
		x->next = c->last->next;
		c->last->next = x;
	}
	c->last = x;
	c->exchange_count++;
	return x;
}

void bw_http__exchange_free(struct bw_http_exchange *x)
{
	struct bw_http__worker *w = x->worker;

	x->next = w->exchange_free;
	w->exchange_free = x;
	w->exchanges_out--;
}

static void call(struct bw_http_exchange *x, void (*callback)(struct bw_http_exchange *x))
{
	struct bw_http__conn *c = x->is_popped ? NULL : conn_of(x); /* it is gone when a job ends late */

	if (callback == NULL)
		return;
	if (c != NULL)
		c->is_in_handler = true;
	callback(x);
	if (c != NULL)
		c->is_in_handler = false;
}

static void handler_drop(struct bw_http_exchange *x)
{
	bool was_waiting = (x->waits & BW_HTTP__WAIT_HANDLER) != 0;

	x->waits &= (uint8_t)~BW_HTTP__WAIT_HANDLER;
	x->is_dropped = true;
	if (was_waiting && !x->job_is_out) /* else done() is to be the last call */
		call(x, x->route->handler->closed);
	if (x->release != NULL)
		x->release(x->release_arg);
	x->release = NULL;
}

void bw_http__exchange_pop(struct bw_http__worker *w, struct bw_http__conn *c)
{
	struct bw_http_exchange *x = c->last->next;

	if (x == c->last)
		c->last = NULL;
	else
		c->last->next = x->next;
	c->exchange_count--;
	bw_link_remove(&x->waiter);
	bw_http__log_reply(w, &x->reply);
	if (x->reply.object != NULL)
		bw_http__object_put(x->reply.object);
	if (x->route != NULL)
		handler_drop(x);
	x->is_popped = true;
	bw_http__blocks_drop(x);
	if (!x->job_is_out)
		bw_http__exchange_free(x);
}

void bw_http__drop_all(struct bw_http__conn *c)
{
	for (struct bw_http_exchange *x = bw_http__first(c); x != NULL; x = bw_http__next(c, x))
		x->is_dropped = true; /* the closed() of one may want to answer another */
}

void bw_http__finish(struct bw_http__worker *w, struct bw_stream *s, struct bw_http__conn *c)
{
	bw_http__drop_all(c);
	while (c->last != NULL)
		bw_http__exchange_pop(w, c);
	c->phase = BW_HTTP__PHASE_OVER;
	bw_stream_close(s);
}

void bw_http__give_up(struct bw_http__worker *w, struct bw_stream *s, struct bw_http__conn *c)
{
	c->phase = BW_HTTP__PHASE_OVER;
	c->is_aborted = true;
	bw_stream_abort(s);
}

bool bw_http__is_blocked(const struct bw_http__worker *w, const struct bw_http__conn *c)
{
	if (c->last == NULL)
		return false;
	return c->last->next->waits == 0 ||
	       (c->phase == BW_HTTP__PHASE_HEAD && c->exchange_count >= w->conf->pipeline_depth_max);
}

/* Nothing is pending. Anything left to live for? */
static void settle(struct bw_http__worker *w, struct bw_stream *s, struct bw_http__conn *c)
{
	bool is_between = c->phase == BW_HTTP__PHASE_HEAD && c->scan.seen == 0;

	if (c->is_reading)
		return;
	if (c->is_paused) {
		/* There may be whole requests in the receive queue: data() goes on, and settles. */
		bw_stream_wake(s);
		return;
	}
	if (c->phase == BW_HTTP__PHASE_OVER || c->peer_is_closed) {
		bw_http__finish(w, s, c);
	} else if (is_between && bw_context_is_draining(w->ctx)) {
		/* A request may have come with the ACK that got us here. */
		if (bw_stream_unread(s) > 0)
			bw_stream_wake(s);
		else
			bw_http__finish(w, s, c);
	}
}

static bool send_continue(struct bw_stream *s, struct bw_http__conn *c)
{
	static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";

	return bw_http__send_text(s, c, text, sizeof(text) - 1);
}

static void release_nothing(void *arg) {}

/* What is left of a whole response: its body by reference if the send queue takes all of it, else by copy, so that
 * `release` is called once. */
static bool send_whole(
	struct bw_http__worker *w, struct bw_stream *s, struct bw_http__conn *c, struct bw_http_exchange *x)
{
	struct bw_http__reply *reply = &x->reply;

	if (!reply->head_is_sent) {
		if (!bw_http__send_handler_head(w, s, c, reply, &x->response, false))
			return false;
		reply->head_is_sent = true;
		if (reply->flags & BW_HTTP__REPLY_NO_BODY)
			reply->body_left = 0;
	}
	while (reply->body_left > 0) {
		const uint8_t *data = x->body + reply->body_at;
		uint32_t space = bw_stream_space(s);
		uint32_t n = (uint32_t)BW_MIN(reply->body_left, (uint64_t)UINT32_MAX);

		if (reply->body_at == 0 && n == reply->body_left && n > BW_HTTP__HEAD_MAX && n <= space &&
			bw_stream_send_ref(s, data, n, x->release != NULL ? x->release : release_nothing,
				x->release_arg) == 0)
			x->release = NULL;
		else
			n = bw_stream_send(s, data, n);
		if (n == 0) {
			c->is_starved = space > 0;
			return false;
		}
		reply->body_at += n;
		reply->body_left -= n;
		w->body_bytes += n;
		bw_http__log_body(reply, n);
	}
	return true;
}

/* The end of a streamed response. */
static bool send_end(struct bw_stream *s, struct bw_http__conn *c, struct bw_http_exchange *x)
{
	static const char text[] = "\r\n0\r\n\r\n";

	if (!x->is_chunked)
		return true;
	return x->has_chunk ? bw_http__send_text(s, c, text, sizeof(text) - 1)
			    : bw_http__send_text(s, c, text + 2, sizeof(text) - 3);
}

/* Of the first in the list. True: it is done with. */
static bool pump_handler(
	struct bw_http__worker *w, struct bw_stream *s, struct bw_http__conn *c, struct bw_http_exchange *x)
{
	/* Room may have been wanted before what came since has ended the response. */
	if (x->wants_room && x->stage <= BW_HTTP__STREAMING) {
		x->wants_room = false;
		c->since = bw_context_now(w->ctx); /* the peer has taken something */
		call(x, x->route->handler->writable);
		c->owes_pump = false; /* this is it */
	}
	if (x->stage == BW_HTTP__ENDING && send_end(s, c, x))
		x->stage = BW_HTTP__SENT;
	if (x->stage == BW_HTTP__WHOLE && send_whole(w, s, c, x))
		x->stage = BW_HTTP__SENT;
	if (x->stage != BW_HTTP__SENT)
		return false;
	bw_http__log_reply(w, &x->reply);
	/* The rest of its body is read and discarded, unless the connection ends here anyway. */
	return !(x->waits & BW_HTTP__WAIT_BODY) || (x->reply.flags & BW_HTTP__REPLY_CLOSE);
}

void bw_http__pump(struct bw_http__worker *w, struct bw_stream *s, struct bw_http__conn *c)
{
	bool moved = false;

	if (c->is_in_handler) {
		c->owes_pump = true;
		return;
	}
	c->owes_pump = false;
	c->is_starved = false;
	bw_http__update_date(w, bw_context_now(w->ctx));
	while (c->last != NULL) {
		struct bw_http_exchange *x = c->last->next;
		uint64_t left_before = x->reply.body_left;
		bool is_sent;

		if (c->is_aborted)
			return; /* closed() ends it all */
		if (x->owes_continue && (x->waits & BW_HTTP__WAIT_BODY) && x->stage == BW_HTTP__THINKING) {
			if (!send_continue(s, c))
				break;
			x->owes_continue = false;
		}
		if (x->route != NULL && !x->is_dropped)
			is_sent = pump_handler(w, s, c, x);
		else if (x->waits != 0)
			break;
		else if (bw_http__is_streamed(&x->reply))
			is_sent = bw_http__blocks_send(w, s, c, x);
		else
			is_sent = bw_http__send_reply(w, s, c, &x->reply);
		moved |= is_sent || x->reply.body_left != left_before;
		if (!is_sent)
			break;
		if (x->reply.flags & BW_HTTP__REPLY_CLOSE) {
			bw_http__finish(w, s, c);
			return;
		}
		bw_http__exchange_pop(w, c);
	}
	if (moved)
		c->since = bw_context_now(w->ctx);
	if (c->is_starved)
		bw_http__arm_by(s, bw_context_now(w->ctx) + BW_HTTP__STARVED_NS);
	if (c->last == NULL)
		settle(w, s, c);
	else if (c->is_paused && !bw_http__is_blocked(w, c))
		bw_stream_wake(s);
}

void bw_http__go_on(struct bw_http_exchange *x, struct bw_http__conn *c)
{
	if (bw_http__first(c) == x || c->owes_pump)
		bw_http__pump(x->worker, x->stream, c);
}

/* ---- a handler's life ----------------------------------------------------------------------------------- */

void bw_http__handler_begin(struct bw_http_exchange *x, const struct bw_http_head *head)
{
	const struct bw_http_handler *handler = x->route->handler;
	struct bw_http__conn *c = conn_of(x);

	memset(x->state, 0, sizeof(x->state));
	x->waits |= BW_HTTP__WAIT_HANDLER;
	c->is_in_handler = true;
	if (handler->begin != NULL)
		handler->begin(x, head);
	c->is_in_handler = false;
	if (!head->has_body)
		bw_http__handler_body_end(x);
}

uint32_t bw_http__handler_body(struct bw_http_exchange *x, const struct bw_view *view)
{
	const struct bw_http_handler *handler = x->route->handler;
	struct bw_http__conn *c = conn_of(x);
	uint32_t n = view->len;

	if ((x->waits & BW_HTTP__WAIT_HANDLER) && handler->body != NULL) {
		c->is_in_handler = true;
		n = handler->body(x, view);
		c->is_in_handler = false;
		BW_ASSERT_LE(n, view->len);
	}
	if (!(x->waits & BW_HTTP__WAIT_HANDLER))
		n = view->len; /* it has said all, and what it left is discarded with the rest */
	if (x->body_is_left && n > 0)
		c->since = bw_stream_now(x->stream); /* it was our wait, not the client's */
	x->body_is_left = n < view->len;
	if (x->stage > BW_HTTP__STREAMING || c->owes_pump)
		bw_http__go_on(x, c);
	return n;
}

void bw_http__handler_body_end(struct bw_http_exchange *x)
{
	if (x->waits & BW_HTTP__WAIT_HANDLER)
		call(x, x->route->handler->body_end);
}

bool bw_http__handler_body_failed(struct bw_http_exchange *x)
{
	if (x->stage == BW_HTTP__STREAMING || x->stage == BW_HTTP__ENDING || x->reply.head_is_sent)
		return false;
	handler_drop(x);
	return true;
}

/* ---- what a handler calls ------------------------------------------------------------------------------- */

void *bw_http_state(struct bw_http_exchange *x)
{
	return x->state;
}

void *bw_http_arg(const struct bw_http_exchange *x)
{
	return x->route->arg;
}

struct bw_stream *bw_http_stream(const struct bw_http_exchange *x)
{
	return x->is_dropped ? NULL : x->stream;
}

struct bw_context *bw_http_context(const struct bw_http_exchange *x)
{
	return x->worker->ctx;
}

void bw_http_read(struct bw_http_exchange *x)
{
	if (!x->is_dropped && x->body_is_left)
		bw_stream_wake(x->stream);
}

/* A call from outside of a callback, which may have been all that was missing. */
static void go_on(struct bw_http_exchange *x)
{
	bw_http__go_on(x, conn_of(x));
}

static bool has_body(unsigned status)
{
	return status != 204 && status != 304; /* RFC 9110 8.6, 15.3.5, 15.4.5 */
}

void bw_http_reply(struct bw_http_exchange *x, const struct bw_http_response *response, const void *body,
	uint64_t body_bytes, void (*release)(void *arg), void *arg)
{
	if (x->is_dropped) {
		if (release != NULL)
			release(arg);
		return;
	}
	BW_ASSERT(x->stage == BW_HTTP__THINKING);
	x->stage = BW_HTTP__WHOLE;
	x->waits &= (uint8_t)~BW_HTTP__WAIT_HANDLER;
	x->response = *response;
	x->response.length = has_body(response->status) ? body_bytes : 0;
	x->reply.status = response->status;
	x->reply.body_left = x->response.length;
	x->body = body;
	x->release = release;
	x->release_arg = arg;
	/* RFC 9110 10.1.1: a client that was not told to go on may send its body or not. */
	if (x->owes_continue && (x->waits & BW_HTTP__WAIT_BODY))
		x->reply.flags |= BW_HTTP__REPLY_CLOSE;
	go_on(x);
}

/* Nothing was taken: writable() will come, from the queue or from a timer. */
static void was_refused(struct bw_http_exchange *x)
{
	struct bw_http__conn *c = conn_of(x);

	x->wants_room = true;
	if (c->is_starved)
		bw_http__arm_by(x->stream, bw_stream_now(x->stream) + BW_HTTP__STARVED_NS);
}

bool bw_http_start(struct bw_http_exchange *x, const struct bw_http_response *response)
{
	struct bw_http__reply *reply = &x->reply;
	struct bw_http_response said = *response;
	struct bw_http__conn *c;

	if (x->is_dropped)
		return false;
	BW_ASSERT(x->stage == BW_HTTP__THINKING);
	c = conn_of(x);
	if (bw_http__first(c) != x) {
		x->wants_room = true;
		return false;
	}
	if (!has_body(response->status))
		said.length = 0;
	reply->status = response->status;
	if (x->owes_continue && (x->waits & BW_HTTP__WAIT_BODY))
		reply->flags |= BW_HTTP__REPLY_CLOSE; /* as in bw_http_reply() */
	x->is_chunked = said.length == BW_HTTP_UNTIL_END && !(reply->flags & BW_HTTP__REPLY_1_0);
	if (said.length == BW_HTTP_UNTIL_END && !x->is_chunked)
		reply->flags |= BW_HTTP__REPLY_CLOSE; /* its end is the connection's (RFC 9112 6.3) */
	if (!bw_http__send_handler_head(x->worker, x->stream, c, reply, &said, x->is_chunked)) {
		was_refused(x);
		return false;
	}
	reply->head_is_sent = true;
	x->left = x->is_chunked ? 0 : said.length;
	if (reply->flags & BW_HTTP__REPLY_NO_BODY) { /* not even the end of one */
		x->is_chunked = false;
		x->left = BW_HTTP_UNTIL_END;
	}
	x->stage = BW_HTTP__STREAMING;
	return true;
}

uint32_t bw_http_space(const struct bw_http_exchange *x)
{
	uint32_t space;

	if (x->is_dropped || x->stage != BW_HTTP__STREAMING)
		return 0;
	if (x->reply.flags & BW_HTTP__REPLY_NO_BODY)
		return UINT32_MAX;
	space = bw_stream_space(x->stream);
	if (!x->is_chunked)
		return space;
	if (x->left > 0)
		return (uint32_t)BW_MIN((uint64_t)space, x->left);
	return space > CHUNK_LINE_BYTES ? space - CHUNK_LINE_BYTES : 0;
}

/* The line of a chunk of `len` bytes. False: refused. */
static bool announce(struct bw_http_exchange *x, uint32_t len)
{
	char line[CHUNK_LINE_BYTES];
	int n = snprintf(line, sizeof(line), "%s%x\r\n", x->has_chunk ? "\r\n" : "", len);

	if (!bw_http__send_text(x->stream, conn_of(x), line, (uint32_t)n))
		return false;
	x->has_chunk = true;
	x->left = len;
	return true;
}

uint32_t bw_http_write(struct bw_http_exchange *x, const void *data, uint32_t len)
{
	uint32_t space, n = len;

	if (x->is_dropped || len == 0)
		return 0;
	BW_ASSERT(x->stage == BW_HTTP__STREAMING);
	if (x->is_chunked && x->left == 0) {
		/* With too little room for a chunk, the line alone is what is refused, so that writable() comes. */
		space = bw_http_space(x);
		if (!announce(x, space > 0 ? BW_MIN(len, space) : len)) {
			was_refused(x);
			return 0;
		}
	}
	if (x->is_chunked)
		n = (uint32_t)BW_MIN((uint64_t)n, x->left);
	BW_ASSERT_LE(n, x->left);
	if (!(x->reply.flags & BW_HTTP__REPLY_NO_BODY)) {
		space = bw_stream_space(x->stream);
		n = bw_stream_send(x->stream, data, n);
		conn_of(x)->is_starved = n == 0 && space > 0;
		x->worker->body_bytes += n;
		bw_http__log_body(&x->reply, n);
	}
	if (x->left != BW_HTTP_UNTIL_END)
		x->left -= n;
	if (n < len)
		was_refused(x);
	return n;
}

bool bw_http_write_ref(
	struct bw_http_exchange *x, const void *data, uint32_t len, void (*release)(void *arg), void *arg)
{
	uint32_t space;
	int rc;

	if (x->is_dropped)
		return false;
	BW_ASSERT(x->stage == BW_HTTP__STREAMING);
	if (x->reply.flags & BW_HTTP__REPLY_NO_BODY) {
		release(arg);
		return true;
	}
	if (x->is_chunked && x->left == 0 && !announce(x, len)) {
		was_refused(x);
		return false;
	}
	BW_ASSERT_LE(len, x->left);
	space = bw_stream_space(x->stream);
	rc = bw_stream_send_ref(x->stream, data, len, release, arg);
	if (rc < 0) {
		conn_of(x)->is_starved = rc == -ENOBUFS && space >= len;
		was_refused(x);
		return false;
	}
	x->worker->body_bytes += len;
	bw_http__log_body(&x->reply, len);
	if (x->left != BW_HTTP_UNTIL_END)
		x->left -= len;
	return true;
}

void bw_http_end(struct bw_http_exchange *x)
{
	if (x->is_dropped)
		return;
	BW_ASSERT(x->stage == BW_HTTP__STREAMING);
	if (x->left != BW_HTTP_UNTIL_END)
		BW_ASSERT_EQ(x->left, 0);
	x->stage = BW_HTTP__ENDING;
	x->waits &= (uint8_t)~BW_HTTP__WAIT_HANDLER;
	go_on(x);
}

void bw_http_abort(struct bw_http_exchange *x)
{
	if (x->is_dropped)
		return;
	x->waits &= (uint8_t)~BW_HTTP__WAIT_HANDLER;
	handler_drop(x);
	bw_http__give_up(x->worker, x->stream, conn_of(x));
}

/* ---- jobs ----------------------------------------------------------------------------------------------- */

static void job_work(struct bw_job *job)
{
	struct bw_http_exchange *x = bw_container_of(job, struct bw_http_exchange, job);

	x->work(x->state);
}

static void job_done(struct bw_context *ctx, struct bw_job *job)
{
	struct bw_http_exchange *x = bw_container_of(job, struct bw_http_exchange, job);

	x->job_is_out = false;
	call(x, x->done);
	if (!x->is_popped)
		go_on(x);
	else if (!x->job_is_out)
		bw_http__exchange_free(x);
}

int bw_http_job(
	struct bw_http_exchange *x, void (*work)(void *state), void (*done)(struct bw_http_exchange *x))
{
	int rc;

	BW_ASSERT(!x->job_is_out);
	if (x->is_dropped)
		return -EPIPE;
	x->job = (struct bw_job){ .work = job_work, .done = job_done };
	x->work = work;
	x->done = done;
	rc = bw_job_submit(x->worker->ctx, &x->job);
	x->job_is_out = rc == 0;
	return rc;
}
