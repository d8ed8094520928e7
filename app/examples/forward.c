/* SPDX-License-Identifier: BSD-3-Clause */
/* A service that connects every client to one server and carries bytes both ways: forward SERVER PORT [DEVICE] */
#include <stdio.h>
#include <stdlib.h>

#include "run.h"

#define CONNECT_TIMEOUT (5 * BW_NS_PER_SEC) /* clients do not wait for three minutes */

/* Each connection is half of a pair. */
struct half {
	uint64_t other; /* its name, as the other may be over before this one */
	bool peer_is_done;
};

static struct bw_ip server;
static uint16_t server_port;

static struct bw_stream *other_of(struct bw_stream *s)
{
	const struct half *half = bw_stream_state(s);

	return bw_stream_find(bw_stream_context(s), half->other);
}

static void forward_opened(struct bw_stream *s)
{
	struct half *half = bw_stream_state(s), *other_half;
	struct bw_stream *other;

	if (half->other != 0) {
		/* The server has answered: what the client has sent so far is on its way. */
		bw_stream_set_user_timeout(s, 0);
		return;
	}
	other = bw_stream_connect(bw_stream_context(s), &server, server_port);
	if (other == NULL) {
		bw_stream_abort(s);
		return;
	}
	bw_stream_set_user_timeout(other, CONNECT_TIMEOUT);
	other_half = bw_stream_state(other);
	other_half->other = bw_stream_id(s);
	half->other = bw_stream_id(other);
}

static uint32_t forward_data(struct bw_stream *s, const struct bw_view *views, unsigned count)
{
	const struct half *half = bw_stream_state(s);
	struct bw_stream *other = other_of(s);
	uint32_t taken = 0;

	if (other == NULL)
		return 0; /* closed() is on its way to this one, too */
	for (unsigned i = 0; i < count; i++) {
		uint32_t len = bw_stream_send(other, views[i].data, views[i].len);

		taken += len;
		if (len < views[i].len)
			return taken; /* the rest waits here, and holds its sender back, until there is room */
	}
	if (half->peer_is_done && taken == bw_stream_unread(s))
		bw_stream_shutdown(other);
	return taken;
}

static void forward_writable(struct bw_stream *s)
{
	struct bw_stream *other = other_of(s);

	if (other != NULL)
		bw_stream_wake(other);
}

static void forward_peer_closed(struct bw_stream *s)
{
	struct half *half = bw_stream_state(s);
	struct bw_stream *other = other_of(s);

	half->peer_is_done = true;
	if (other != NULL && bw_stream_unread(s) == 0)
		bw_stream_shutdown(other);
}

static void forward_closed(struct bw_stream *s, enum bw_close_reason reason)
{
	struct bw_stream *other = other_of(s);

	if (other != NULL && reason != BW_CLOSE_NORMAL)
		bw_stream_abort(other);
}

static const struct bw_service forward_service = {
	.name = "forward",
	.connects = true,
	.stream_bytes = sizeof(struct half),
	.opened = forward_opened,
	.data = forward_data,
	.writable = forward_writable,
	.peer_closed = forward_peer_closed,
	.closed = forward_closed,
};

int main(int argc, char **argv)
{
	int port = argc > 2 ? atoi(argv[2]) : 0;

	if (port < 1 || port > 65535 || bw_ip_parse(argv[1], &server) != 0) {
		fprintf(stderr,
			"forward: usage: forward ADDRESS PORT [DEVICE], such as: forward 192.0.2.1 80\n");
		return 2;
	}
	server_port = (uint16_t)port;
	return run(&forward_service, NULL, 7778, argc > 3 ? argv[3] : "tap:forward0");
}
