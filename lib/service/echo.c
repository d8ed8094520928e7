/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The Echo Protocol (RFC 862) over TCP and UDP: what comes in goes out.
 *
 * Backpressure is the whole of it. What the send queue does not take stays unconsumed in the receive queue,
 * which closes the window that the peer sees, so a client that sends and never reads costs two bounded queues
 * and stops itself. When the peer has acknowledged enough, writable() asks for data() once more.
 *
 * The bytes are copied, once. Sending a held view by reference would save that copy, but the release callback
 * of a reference runs on any core, while a hold is released on its own worker only; and a received mbuf that
 * waits for the peer's ACK is missing from the pool that receives.
 */
#include <stdio.h>

#include <service/service.h>

struct echo_stream {
	bool is_finishing; /* close as soon as everything that came has been given back */
};

struct echo_context {
	uint64_t messages; /* datagrams, and what a stream brought at once: RFC 862 has no others */
	uint64_t loops_refused;
};

static struct echo_stream *stream_state(struct bw_stream *s)
{
	return bw_stream_state(s);
}

static uint32_t echo_data(struct bw_stream *s, const struct bw_view *views, unsigned count)
{
	struct echo_context *echo = bw_context_state(bw_stream_context(s));
	uint32_t done = 0;

	echo->messages++;
	for (unsigned i = 0; i < count; i++) {
		uint32_t sent = bw_stream_send(s, views[i].data, views[i].len);

		done += sent;
		if (sent < views[i].len)
			break; /* full: writable() continues */
	}
	if (stream_state(s)->is_finishing && done == bw_stream_unread(s))
		bw_stream_close(s);
	return done;
}

/* The client has half-closed, or the engine drains: every byte that came is still given back. */
static void echo_finish(struct bw_stream *s)
{
	stream_state(s)->is_finishing = true;
	if (bw_stream_unread(s) == 0)
		bw_stream_close(s);
}

/*
 * Two services that answer each other never stop, and one datagram with a forged source is enough to start
 * them (CERT CA-1996-01). A client's port is neither ours nor a well-known one.
 */
static bool is_from_a_server(const struct bw_flow *flow)
{
	return flow->remote_port_be == flow->local_port_be || __builtin_bswap16(flow->remote_port_be) < 1024;
}

static void echo_datagram(struct bw_context *ctx, const struct bw_datagram *dgram)
{
	struct echo_context *echo = bw_context_state(ctx);

	if (is_from_a_server(dgram->flow)) {
		echo->loops_refused++;
		return;
	}
	echo->messages++;
	/* No room for the answer is one lost datagram, which UDP's users expect. */
	(void)bw_datagram_reply(ctx, dgram, dgram->payload.data, dgram->payload.len);
}

static size_t echo_stats(const struct bw_context *ctx, char *out, size_t out_bytes)
{
	const struct echo_context *echo = bw_context_peer_state(ctx, bw_context_worker(ctx));
	int len = snprintf(out, out_bytes, "messages %llu\nloops_refused %llu\n",
		(unsigned long long)echo->messages, (unsigned long long)echo->loops_refused);

	return (size_t)len < out_bytes ? (size_t)len : 0;
}

const struct bw_service bw_echo_service = {
	.name = "echo",
	.stream_bytes = sizeof(struct echo_stream),
	.context_bytes = sizeof(struct echo_context),
	.data = echo_data,
	.writable = bw_stream_wake,
	.peer_closed = echo_finish,
	.drain = echo_finish,
	.datagram = echo_datagram,
	.stats = echo_stats,
};
