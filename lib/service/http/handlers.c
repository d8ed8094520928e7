/* SPDX-License-Identifier: BSD-3-Clause */
/* The handlers that come with Barewire. */
#include <string.h>

#include <service/http.h>

/* ---- health --------------------------------------------------------------------------------------------- */

static void health_begin(struct bw_http_exchange *x, const struct bw_http_head *head)
{
	static const struct bw_http_response ok = { .status = 200, .type = "text/plain" };
	static const struct bw_http_response draining = {
		.status = 503,
		.type = "text/plain",
		.fields = "Cache-Control: no-store\r\n",
	};

	if (bw_stream_is_draining(bw_http_stream(x)))
		bw_http_reply(x, &draining, "draining\n", 9, NULL, NULL);
	else
		bw_http_reply(x, &ok, "ok\n", 3, NULL, NULL);
}

const struct bw_http_handler bw_http_health = {
	.name = "health",
	.begin = health_begin,
};

/* ---- echo ----------------------------------------------------------------------------------------------- */

/*
 * What the send queue does not take stays in the receive queue, so an echo of any length costs two bounded queues. The
 * bytes are copied, once, for the reason that echo.c gives.
 */
struct echo {
	uint64_t length;
	bool is_started;
	bool is_over; /* of the body */
	char type[BW_HTTP_STATE_BYTES - 16];
};
_Static_assert(sizeof(struct echo) <= BW_HTTP_STATE_BYTES, "bw_http_state()");

static void echo_begin(struct bw_http_exchange *x, const struct bw_http_head *head)
{
	struct echo *echo = bw_http_state(x);
	struct bw_http_text type;

	echo->length = head->is_chunked ? BW_HTTP_UNTIL_END : head->body_bytes;
	if (bw_http_field(head, "content-type", &type) && type.len > 0 && type.len < sizeof(echo->type))
		memcpy(echo->type, type.at, type.len);
}

/* With the first of the body: a client that expects 100 Continue is to have that first. */
static bool echo_start(struct bw_http_exchange *x, struct echo *echo)
{
	const struct bw_http_response response = {
		.status = 200,
		.type = echo->type[0] != '\0' ? echo->type : "application/octet-stream",
		.length = echo->length,
	};

	if (!echo->is_started)
		echo->is_started = bw_http_start(x, &response);
	return echo->is_started;
}

static uint32_t echo_body(struct bw_http_exchange *x, const struct bw_view *view)
{
	return echo_start(x, bw_http_state(x)) ? bw_http_write(x, view->data, view->len) : 0;
}

static void echo_body_end(struct bw_http_exchange *x)
{
	struct echo *echo = bw_http_state(x);

	echo->is_over = true;
	if (echo_start(x, echo))
		bw_http_end(x);
}

static void echo_writable(struct bw_http_exchange *x)
{
	struct echo *echo = bw_http_state(x);

	if (echo->is_over)
		echo_body_end(x);
	else
		bw_http_read(x);
}

const struct bw_http_handler bw_http_echo = {
	.name = "echo",
	.begin = echo_begin,
	.body = echo_body,
	.body_end = echo_body_end,
	.writable = echo_writable,
};
