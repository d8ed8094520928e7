/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A connection's life: who is let in, when it closes, and what it leaves behind.
 *
 * It closes when the client said QUIT or broke the protocol, when the client sends nothing more, or when the engine
 * drains; in each case behind the last reply that it has a right to, so whoever sends something asks
 * bw_resp__close_if_done() afterwards. A connection that ends leaves its requests to come home and be freed.
 */
#include "internal.h"

#define SERIAL_MASK ((1ull << 46) - 1)

/* ---- what it has while something waits ---- */

const struct bw_resp__busy bw_resp__nothing;

struct bw_resp__busy *bw_resp__busy(struct bw_resp *r, struct bw_resp__conn *conn)
{
	struct bw_resp__busy *busy = r->busies_free;

	if (conn->busy != &bw_resp__nothing)
		return (struct bw_resp__busy *)conn->busy;
	if (busy != NULL) {
		r->busies_free = (struct bw_resp__busy *)busy->first;
	} else {
		BW_ASSERT_LT(r->busies_used, r->busies_max); /* there are as many as connections */
		busy = &r->busies[r->busies_used++];
	}
	*busy = bw_resp__nothing;
	conn->busy = busy;
	return busy;
}

static void busy_give(struct bw_resp *r, struct bw_resp__conn *conn)
{
	struct bw_resp__busy *busy = (struct bw_resp__busy *)conn->busy;

	busy->first = (struct bw_resp__request *)r->busies_free;
	r->busies_free = busy;
	conn->busy = &bw_resp__nothing;
}

void bw_resp__busy_settle(struct bw_resp *r, struct bw_resp__conn *conn)
{
	const struct bw_resp__busy *busy = conn->busy;

	if (busy->first == NULL && busy->gather == NULL && busy->emit == NULL && busy->client == NULL &&
		busy->stuck_at == 0)
		busy_give(r, conn);
}

/* ---- life ---- */

static struct bw_resp__conn *conn_at(const struct bw_resp *r, uint32_t slot)
{
	return bw_stream_state(bw_stream_at(r->ctx, slot));
}

/* Redis's protected mode, where "outside" is what a host on the Internet is: docs/resp.md. */
static bool is_denied(const struct bw_resp *r, const struct bw_stream *s)
{
	const struct bw_flow *flow = bw_stream_flow(s);

	return r->conf->protected_mode && r->conf->password_len == 0 && bw_ip_is_global(&flow->local) &&
	       bw_ip_is_global(&flow->remote);
}

static void deny(struct bw_resp *r, struct bw_stream *s)
{
	static const char text[] =
		"-DENIED Barewire is running in protected mode: its address is a public one, there is no password, and "
		"you are not in a private network. To connect from here, do one of these in its configuration and "
		"restart it: 1) Name a file with a password as resp[].password_file. 2) Give resp[].addresses "
		"that are not public, and connect to those. 3) Set resp[].protected_mode to false, if nobody reaches "
		"this port who should not.\r\n";

	r->denied++;
	((struct bw_resp__conn *)bw_stream_state(s))->flags |= BW_RESP__CLOSING;
	bw_stream_send(s, text, sizeof(text) - 1);
	bw_stream_close(s);
}

void bw_resp__opened(struct bw_stream *s)
{
	struct bw_resp *r = bw_resp__of(bw_stream_context(s));
	struct bw_resp__conn *conn = bw_stream_state(s);
	uint32_t slot = bw_stream_slot(s);

	r->connections++;
	r->connections_total++;
	conn->busy = &bw_resp__nothing;
	conn->serial = ++r->serial & SERIAL_MASK;
	conn->last_command = BW_RESP__NO_COMMAND;
	conn->opened_s = conn->used_s = (uint32_t)(bw_stream_now(s) / BW_NS_PER_SEC);
	conn->list_prev = r->streams_last;
	conn->list_next = BW_RESP__NO_SLOT;
	if (r->streams_last != BW_RESP__NO_SLOT)
		conn_at(r, r->streams_last)->list_next = slot;
	else
		r->streams_first = slot;
	r->streams_last = slot;
	if (r->conf->password_len > 0)
		conn->flags |= BW_RESP__UNAUTHENTICATED;
	if (bw_unlikely(is_denied(r, s)))
		deny(r, s);
}

void bw_resp__try_to_close(
	struct bw_resp *r, struct bw_stream *s, struct bw_resp__conn *conn, uint32_t unread)
{
	bool is_done;

	if (conn->busy->emit != NULL || conn->busy->first != NULL || (conn->flags & BW_RESP__ABORTED) != 0)
		return;
	if (conn->flags & BW_RESP__CLOSING)
		is_done = true;
	else if (conn->flags & BW_RESP__PEER_DONE) /* half a command will never be a whole one */
		is_done = unread == 0 &&
			  (conn->busy->gather == NULL || bw_resp__is_arriving(conn->busy->gather));
	else
		is_done = unread == 0 && conn->busy->gather == NULL;
	if (!is_done)
		return;
	bw_resp__window_commit(r);
	conn->flags |= BW_RESP__CLOSING;
	bw_stream_close(s);
}

void bw_resp__peer_closed(struct bw_stream *s)
{
	struct bw_resp__conn *conn = bw_stream_state(s);

	conn->flags |= BW_RESP__PEER_DONE;
	bw_resp__close_if_done(bw_resp__of(bw_stream_context(s)), s, conn, bw_stream_unread(s));
}

void bw_resp__drain(struct bw_stream *s)
{
	bw_resp__close_if_done(bw_resp__of(bw_stream_context(s)), s, bw_stream_state(s), bw_stream_unread(s));
}

static void list_remove(struct bw_resp *r, struct bw_stream *s, struct bw_resp__conn *conn)
{
	bw_resp__tours_skip(r, s);
	if (conn->list_prev != BW_RESP__NO_SLOT)
		conn_at(r, conn->list_prev)->list_next = conn->list_next;
	else
		r->streams_first = conn->list_next;
	if (conn->list_next != BW_RESP__NO_SLOT)
		conn_at(r, conn->list_next)->list_prev = conn->list_prev;
	else
		r->streams_last = conn->list_prev;
}

void bw_resp__closed(struct bw_stream *s, enum bw_close_reason reason)
{
	struct bw_resp *r = bw_resp__of(bw_stream_context(s));
	struct bw_resp__conn *conn = bw_stream_state(s);

	while (conn->busy->first != NULL) {
		struct bw_resp__request *request = conn->busy->first;

		bw_resp__busy(r, conn)->first = request->next;
		if (request->is_done)
			bw_resp__request_free(r, request);
		else
			request->stream = NULL; /* freed when it comes home */
	}
	if (conn->busy->emit != NULL)
		bw_resp__block_unpin(conn->busy->emit);
	if (conn->busy->gather != NULL)
		bw_resp__gather_free(&r->store, conn->busy->gather);
	bw_resp__client_free(r, conn);
	if (conn->busy != &bw_resp__nothing)
		busy_give(r, conn);
	list_remove(r, s, conn);
	r->connections--;
}
