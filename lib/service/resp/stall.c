/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * When a connection cannot go on: what wakes it, and when it is given up.
 *
 * A client that does not read fills its send queue. Its commands are left unread then, which closes the window that it
 * sends into, and writable() tells when it reads again. Where memory, requests or the pool's buffers ran out, nothing
 * tells, and the connection tries again in a millisecond.
 *
 * Neither may last: what such a client has asked for holds requests and values that others need, and half a command
 * holds staged memory. After stall_timeout it is reset. A command that arrives faster than STALL_RATE is never late,
 * however long it is.
 *
 * A stream has one timer. It is set for what stopped the connection last, since whatever calls it in between tries all
 * of it again; when it fires, the deadline is looked at too.
 */
#include "internal.h"

#define RETRY_NS   BW_NS_PER_MS
#define STALL_RATE 16384u /* bytes a second */

void bw_resp__retry_soon(struct bw_stream *s)
{
	bw_stream_set_timer(s, bw_stream_now(s) + RETRY_NS);
}

bw_ns bw_resp__deadline_of(const struct bw_resp *r, const struct bw_resp__conn *conn)
{
	bw_ns since = conn->busy->stuck_at != 0 ? conn->busy->stuck_at : BW_NEVER;

	if (bw_resp__is_arriving(conn->busy->gather))
		since = BW_MIN(since, conn->busy->gather->progress_at);
	return since != BW_NEVER ? since + r->conf->stall_timeout_ns : BW_NEVER;
}

/*
 * A send of `len` bytes was refused. Where the queue is too full writable() will tell, or the client does not read;
 * where there is room it was the pool that had no buffer, and nothing tells when it has one again. Always false.
 */
bool bw_resp__refused(struct bw_stream *s, uint32_t len)
{
	struct bw_resp *r = bw_resp__of(bw_stream_context(s));
	struct bw_resp__conn *conn = bw_stream_state(s);

	if (bw_stream_space(s) >= len) {
		bw_resp__retry_soon(s);
		return false;
	}
	if (conn->busy->stuck_at == 0)
		bw_resp__busy(r, conn)->stuck_at = bw_stream_now(s);
	bw_stream_set_timer(s, bw_resp__deadline_of(r, conn));
	return false;
}

/* More of a command has come: that earns it time, but no credit for later. */
void bw_resp__note_progress(struct bw_resp *r, struct bw_stream *s, struct bw_resp__conn *conn, uint32_t len)
{
	bw_ns earned = len * (BW_NS_PER_SEC / STALL_RATE);

	conn->busy->gather->progress_at = BW_MIN(conn->busy->gather->progress_at + earned, bw_stream_now(s));
	bw_stream_set_timer(s, bw_resp__deadline_of(r, conn));
}
