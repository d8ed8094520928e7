/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A cache that speaks the Redis protocol: the path of a command, from its bytes to its reply.
 *
 * data() takes one command after the other out of the views. A command that lies in one view is parsed in place, its
 * key hashed once; where the key is this worker's, the command runs and writes its reply into the window, a
 * reservation in the tail of the send queue that is committed once a call. That is the fast path. Everything else is
 * slower, rarer, or both. Each step, and what lies beside the path, has a file that says how it works:
 *
 *     parse.c       bytes to arguments; what straddles views or is larger than the receive window is gathered
 *     dispatch.c    where a command runs: here, or at another worker
 *     commands.c    the table of commands; strings.c, keys.c, client.c, ... are what is in it
 *     store.c       keys and values; slab.c is the memory that they live in
 *     reply.c       what a command answers
 *     send.c        how replies leave, in order, short or long, now or later
 *     request.c     commands that other workers run, and those that wait behind them
 *     spread.c      commands with keys of several workers; atomic.c and scan.c where that is not enough
 *     stall.c       what wakes a connection that cannot go on, and when it is given up
 *     stats.c       what commands cost, and how they end
 *     conn.c        a connection's life; worker.c a worker's; prepare.c the configuration before there is any
 *
 * With one worker there is no request but for a long MGET.
 */
#include "internal.h"

static bool is_ready(struct bw_resp *r, struct bw_stream *s, struct bw_resp__conn *conn);
static bool execute(struct bw_resp *r, struct bw_stream *s, struct bw_resp__conn *conn, uint32_t argc,
	struct bw_resp__gather **gathered);
static bool gather_begin(struct bw_resp *r, struct bw_stream *s, struct bw_resp__conn *conn);
static bool run_gathered(struct bw_resp *r, struct bw_stream *s, struct bw_resp__conn *conn);

/* ---- bytes ---- */

static const struct bw_resp__limits *limits_of(const struct bw_resp *r, const struct bw_resp__conn *conn)
{
	return bw_likely((conn->flags & BW_RESP__UNAUTHENTICATED) == 0) ? &r->limits
									: &r->unauthenticated_limits;
}

/* One view's bytes. Returns how many were used: all, unless the connection has to wait or closes. */
static uint32_t take_view(
	struct bw_resp *r, struct bw_stream *s, struct bw_resp__conn *conn, const struct bw_view *view)
{
	const uint8_t *p = view->data, *end = p + view->len;
	struct bw_resp__gather *none = NULL;
	uint32_t len, argc;

	while (p < end && (conn->flags & BW_RESP__CLOSING) == 0) {
		if (bw_likely(conn->busy->gather == NULL) &&
			bw_likely((len = bw_resp__parse_in_place(
					   p, end, limits_of(r, conn), r->argv, &argc)) > 0)) {
			if (!is_ready(r, s, conn) || bw_unlikely(!execute(r, s, conn, argc, &none)))
				break;
			p += len;
		} else {
			if (conn->busy->gather == NULL && !gather_begin(r, s, conn))
				break;
			len = bw_resp__gather_feed(
				&r->store, conn->busy->gather, limits_of(r, conn), p, (uint32_t)(end - p));
			p += len;
			if (bw_resp__is_arriving(conn->busy->gather))
				bw_resp__note_progress(r, s, conn, len);
			else if (!run_gathered(r, s, conn))
				break;
		}
		if (bw_unlikely(!bw_resp__pump(r, s, conn)))
			break;
	}
	return (uint32_t)(p - view->data);
}

static uint32_t resp_data(struct bw_stream *s, const struct bw_view *views, unsigned count)
{
	struct bw_resp *r = bw_resp__of(bw_stream_context(s));
	struct bw_resp__conn *conn = bw_stream_state(s);
	uint32_t used = 0, sum = 0;
	bool can_go_on;

	bw_resp__set_now(r, bw_stream_now(s));
	conn->used_s = (uint32_t)(bw_stream_now(s) / BW_NS_PER_SEC);
	can_go_on = bw_resp__pump(r, s, conn);
	if (can_go_on && conn->busy->gather != NULL && conn->busy->gather->state == BW_RESP__GATHER_COMPLETE)
		can_go_on = run_gathered(r, s, conn) && bw_resp__pump(r, s, conn);
	for (unsigned i = 0; i < count; i++) {
		uint32_t n = can_go_on ? take_view(r, s, conn, &views[i]) : 0;

		used += n;
		sum += views[i].len;
		if (n < views[i].len)
			can_go_on = false;
	}
	bw_resp__window_commit(r);
	if (conn->flags & BW_RESP__CLOSING)
		used = sum;
	r->bytes_in += used;
	bw_resp__close_if_done(r, s, conn, bw_stream_unread(s) - used);
	return used;
}

/* ---- a command ---- */

/*
 * Can a command run now and its reply be kept? One that needs a request and would be the connection's first may still
 * find none, see bw_resp__dispatch(). If not, something is under way that will wake us.
 */
static bool is_ready(struct bw_resp *r, struct bw_stream *s, struct bw_resp__conn *conn)
{
	if (bw_likely(conn->busy == &bw_resp__nothing))
		return bw_resp__window_open(r, s);
	if (bw_unlikely(conn->busy->emit != NULL))
		return false;
	if (conn->busy->first == NULL)
		return bw_resp__window_open(r, s);
	if (conn->flags & BW_RESP__BARRIER)
		return false;
	if (!bw_resp__has_requests(r)) {
		bw_resp__retry_soon(s);
		return false;
	}
	return bw_resp__may_push(r, conn);
}

/* A browser that was made to send us a request (cross-protocol scripting): what its body says must not be run. */
static bool is_http(const struct bw_resp__arg *name)
{
	return bw_resp__arg_is(name, "post") || bw_resp__arg_is(name, "host:");
}

/*
 * The command in r->argv. `*gathered`: where its arguments are, if anywhere; NULL afterwards if they are kept. False:
 * not now, and the timer is armed.
 */
static bool execute(struct bw_resp *r, struct bw_stream *s, struct bw_resp__conn *conn, uint32_t argc,
	struct bw_resp__gather **gathered)
{
	const struct bw_resp__command *command = bw_resp__find_command(r, r->argv[0].data, r->argv[0].len);
	struct bw_resp__call call = {
		.r = r,
		.stream = s,
		.conn = conn,
		.command = command,
		.argv = r->argv,
		.argc = argc,
		.may_take = true,
		.is_resp3 = (conn->flags & BW_RESP__RESP3) != 0,
	};
	char *out = r->out;
	bool is_silent = false;

	r->commands++;
	conn->last_command = bw_resp__command_number(command);
	if (bw_unlikely(command == NULL && is_http(&r->argv[0]))) {
		conn->flags |= BW_RESP__CLOSING | BW_RESP__ABORTED;
		bw_stream_abort(s);
		return true;
	}
	/* What comes behind a request is answered into one too. */
	if (bw_unlikely(conn->busy->first != NULL))
		call.request = bw_resp__request_push(&call);
	if (bw_unlikely((conn->flags & (BW_RESP__REPLY_OFF | BW_RESP__REPLY_SKIP_NEXT)) != 0))
		is_silent = true;
	switch (bw_resp__dispatch(&call, gathered)) {
	case BW_RESP__RAN_HERE:
		if (bw_unlikely(call.request != NULL))
			call.request->is_done = true;
		break;
	case BW_RESP__RAN_AWAY:
		break;
	case BW_RESP__RAN_NOT:
		r->commands--;
		bw_resp__retry_soon(s);
		return false;
	}
	if (bw_unlikely(is_silent || (conn->flags & (BW_RESP__REPLY_OFF | BW_RESP__REPLY_SKIP)) != 0))
		bw_resp__silence(&call, is_silent, out);
	return true;
}

/* ---- one that is gathered ---- */

static bool gather_begin(struct bw_resp *r, struct bw_stream *s, struct bw_resp__conn *conn)
{
	struct bw_resp__gather *gather = bw_resp__gather_new(&r->store);

	if (gather == NULL) {
		bw_resp__retry_soon(s);
		return false;
	}
	gather->progress_at = bw_stream_now(s);
	bw_resp__busy(r, conn)->gather = gather;
	return true;
}

static void protocol_error(
	struct bw_resp *r, struct bw_stream *s, struct bw_resp__conn *conn, const char *text)
{
	struct bw_resp__call call = { .r = r, .stream = s, .conn = conn };

	r->protocol_errors++;
	if (conn->busy->first != NULL)
		call.request = bw_resp__request_push(&call);
	bw_resp__reply_error(&call, "ERR %s", text);
	if (call.request != NULL)
		call.request->is_done = true;
	conn->flags |= BW_RESP__CLOSING;
}

/* A gathered command is complete. False: not now. */
static bool run_gathered(struct bw_resp *r, struct bw_stream *s, struct bw_resp__conn *conn)
{
	struct bw_resp__gather *gather = conn->busy->gather;
	int argc = 0;

	if (!is_ready(r, s, conn))
		return false;
	bw_resp__busy(r, conn)->gather = NULL;
	if (gather->error != NULL) {
		protocol_error(r, s, conn, gather->error);
	} else if (gather->is_over_memory) {
		struct bw_resp__call call = { .r = r, .stream = s, .conn = conn };

		if (conn->busy->first != NULL)
			call.request = bw_resp__request_push(&call);
		bw_resp__reply_oom(&call);
		if (call.request != NULL)
			call.request->is_done = true;
	} else if (gather->is_inline) {
		if (gather->text != NULL) {
			bw_resp__blob_copy(gather->text, r->scratch, gather->line_len);
			argc = bw_resp__split_inline(
				r->scratch, gather->line_len, r->argv, r->limits.args_max);
		}
		if (argc < 0)
			protocol_error(r, s, conn,
				argc == -1 ? "Protocol error: unbalanced quotes in request"
					   : "Protocol error: invalid multibulk length");
	} else {
		argc = (int)bw_resp__gather_args(gather, r->argv);
	}
	if (argc > 0 && !execute(r, s, conn, (uint32_t)argc, &gather)) {
		bw_resp__busy(r, conn)->gather = gather;
		return false;
	}
	if (gather != NULL)
		bw_resp__gather_free(&r->store, gather);
	return true;
}

/* ---- what lets it go on ---- */

/* Something that the connection waited for has come. */
void bw_resp__resume(struct bw_resp *r, struct bw_stream *s)
{
	struct bw_resp__conn *conn = bw_stream_state(s);
	bool can_go_on = bw_resp__pump(r, s, conn);

	if (can_go_on && conn->busy->gather != NULL && conn->busy->gather->state == BW_RESP__GATHER_COMPLETE)
		can_go_on = run_gathered(r, s, conn) && bw_resp__pump(r, s, conn);
	bw_resp__window_commit(r);
	if (can_go_on && bw_stream_unread(s) > 0)
		bw_stream_wake(s);
	else
		bw_resp__close_if_done(r, s, conn, bw_stream_unread(s));
}

static void resp_writable(struct bw_stream *s)
{
	struct bw_resp *r = bw_resp__of(bw_stream_context(s));
	struct bw_resp__conn *conn = bw_stream_state(s);

	if (conn->busy->stuck_at != 0)
		bw_resp__busy(r, conn)->stuck_at =
			0; /* a quarter of the send queue is free again: it reads */
	bw_resp__set_now(r, bw_stream_now(s));
	bw_resp__resume(r, s);
}

static void resp_timer(struct bw_stream *s)
{
	struct bw_resp *r = bw_resp__of(bw_stream_context(s));
	struct bw_resp__conn *conn = bw_stream_state(s);
	bw_ns deadline = bw_resp__deadline_of(r, conn);

	if (bw_stream_now(s) >= deadline) {
		r->stalled++;
		conn->flags |= BW_RESP__CLOSING | BW_RESP__ABORTED;
		bw_stream_abort(s);
		return;
	}
	bw_stream_set_timer(s, deadline);
	bw_resp__set_now(r, bw_stream_now(s));
	bw_resp__resume(r, s);
}

const struct bw_service bw_resp_service = {
	.name = "resp",
	.stream_bytes = sizeof(struct bw_resp__conn),
	.context_bytes = sizeof(struct bw_resp),
	.start = bw_resp__start,
	.opened = bw_resp__opened,
	.prefetch = bw_resp__prefetch,
	.data = resp_data,
	.writable = resp_writable,
	.peer_closed = bw_resp__peer_closed,
	.closed = bw_resp__closed,
	.timer = resp_timer,
	.mail = bw_resp__mail,
	.drain = bw_resp__drain,
	.tick = bw_resp__tick,
	.stats = bw_resp__stats,
};
