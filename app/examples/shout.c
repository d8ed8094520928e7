/* SPDX-License-Identifier: BSD-3-Clause */
/* A service that answers every line in capitals. docs/service-tutorial.md makes it from nothing. */
#include <ctype.h>
#include <string.h>

#include "run.h"

#define LINE_BYTES_MAX 1024u

struct shout {
	bool peer_is_done;
};

static void shout_opened(struct bw_stream *s)
{
	bw_stream_send(s, "Say something.\n", 15);
	bw_stream_set_timer(s, bw_stream_now(s) + 60 * BW_NS_PER_SEC);
}

static uint32_t shout_data(struct bw_stream *s, const struct bw_view *views, unsigned count)
{
	const struct shout *shout = bw_stream_state(s);
	uint32_t unread = bw_stream_unread(s), len = BW_MIN(unread, LINE_BYTES_MAX);
	const uint8_t *in = bw_stream_pullup(s, len), *end;
	uint8_t *out;

	if (in == NULL)
		return 0; /* no buffer to join the pieces in: the next arrival tries again */
	end = memrchr(in, '\n', len);
	if (end == NULL) {
		if (shout->peer_is_done || len == LINE_BYTES_MAX)
			bw_stream_close(s);
		return 0; /* the line is not complete: it stays where it is */
	}
	len = end + 1 - in;
	out = bw_stream_reserve(s, len);
	if (out == NULL)
		return 0; /* the client does not read: neither do we, until writable() */
	for (uint32_t i = 0; i < len; i++)
		out[i] = toupper(in[i]);
	bw_stream_commit(s, len);
	bw_stream_set_timer(s, bw_stream_now(s) + 60 * BW_NS_PER_SEC);
	if (len < unread)
		bw_stream_wake(s);
	else if (shout->peer_is_done)
		bw_stream_close(s);
	return len;
}

static void shout_peer_closed(struct bw_stream *s)
{
	struct shout *shout = bw_stream_state(s);

	shout->peer_is_done = true;
	if (bw_stream_unread(s) > 0)
		bw_stream_wake(s);
	else
		bw_stream_close(s);
}

static const struct bw_service shout_service = {
	.name = "shout",
	.stream_bytes = sizeof(struct shout),
	.opened = shout_opened,
	.data = shout_data,
	.writable = bw_stream_wake,
	.peer_closed = shout_peer_closed,
	.timer = bw_stream_close,
};

int main(int argc, char **argv)
{
	return run(&shout_service, NULL, 7777, argc > 1 ? argv[1] : "tap:shout0");
}
