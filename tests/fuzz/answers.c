/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * What a server says to the load generator: answers that are right or nearly so, cut anywhere, and connections that
 * are refused, reset, closed or left alone, in every order. Whatever comes, requests are accounted for.
 */
#include <stdio.h>

#include <base/log.h>
#include <service/load.h>

#include "../service/fake_stream.h"
#include "fuzz.h"

#define STREAMS 8

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	bw_log_set_level(BW_LOG_ERROR);
	return 0;
}

static const char *const answers[] = {
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
	"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
	"HTTP/1.0 200 OK\r\n\r\nuntil the close",
	"HTTP/1.1 100 Continue\r\n\r\n",
	"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nServer: x\r\n\r\n",
	"$-1\r\n",
	"+OK\r\n",
	"-ERR no\r\n",
	"$8\r\n01234567\r\n",
	"$3\r\nabc\r\n",
	"*1\r\n:1\r\n",
};

/** The server's streams: those that were accepted and are not closed yet. */
static struct bw_stream *stream[STREAMS];

static void accept_all(struct fake *f)
{
	for (unsigned i = 0; i < STREAMS; i++) {
		struct bw_stream *s = fake_connecting(f);

		if (stream[i] != NULL && fake_is_closed(stream[i]))
			stream[i] = NULL;
		if (s == NULL || stream[i] != NULL)
			continue;
		stream[i] = s;
		fake_accept(s);
	}
}

static void say(struct fuzz_input *in, struct bw_stream *s, uint8_t op, uint8_t arg)
{
	size_t len;
	uint8_t *bytes;

	if (op & 0x10) {
		const char *answer = answers[arg % BW_ARRAY_LEN(answers)];

		fake_feed_split(s, answer, strlen(answer), 1u + (op >> 5) * 3u);
		return;
	}
	bytes = fuzz_bytes(in, arg, &len);
	if (op & 0x20)
		fake_queue(s, bytes, len);
	else
		fake_feed(s, bytes, len);
	free(bytes);
}

static void step(struct fake *f, struct bw_load *load, struct fuzz_input *in)
{
	uint8_t op = fuzz_u8(in), arg = fuzz_u8(in);
	struct bw_stream **slot = &stream[arg % STREAMS], *s = *slot;

	switch (op & 15) {
	case 0:
		accept_all(f);
		return;
	case 1:
		if (fake_connecting(f) != NULL)
			fake_refuse(fake_connecting(f), arg & 1 ? BW_CLOSE_REFUSED : BW_CLOSE_TIMED_OUT);
		return;
	case 2:
		fake_advance(f, (1ull << (arg & 15)) * BW_NS_PER_US);
		return;
	case 3:
		bw_load_set_stage(load, arg % (BW_LOAD_END + 1));
		fake_advance(f, BW_NS_PER_MS);
		return;
	default:
		break;
	}
	if (s == NULL || fake_is_closed(s) || fake_is_closing(s)) {
		if (s != NULL)
			*slot = NULL;
		return;
	}
	switch (op & 15) {
	case 4:
		fake_peer_close(s);
		*slot = NULL;
		return;
	case 5:
		fake_peer_reset(s);
		*slot = NULL;
		return;
	case 6:
		fake_set_space(s, 64u << (arg & 7));
		return;
	case 7:
		fake_set_auto_ack(s, arg & 8);
		fake_ack(s, arg);
		return;
	case 8:
		fake_starve(s, arg & 3);
		return;
	default:
		say(in, s, op, arg);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, data + size };
	uint8_t which = fuzz_u8(&in), how = fuzz_u8(&in);
	static const uint32_t sizes[] = { 8, 8, 2000, 100000 };
	struct bw_load_conf conf;
	struct bw_load_figures *figures;
	struct bw_load *load;
	struct fake *f;

	bw_load_conf_init(&conf);
	conf.protocol = (enum bw_load_protocol[]){ BW_LOAD_HTTP, BW_LOAD_RESP, BW_LOAD_ECHO }[which % 3];
	conf.targets[0] = (struct bw_load_target){ .ip = bw_ip_from_v4(0x030200c0u),
		.port = 80,
		.host = "h",
		.path = "/",
		.password = conf.protocol == BW_LOAD_RESP && which & 4 ? "secret" : NULL };
	conf.target_count = 1;
	conf.connections = 3;
	conf.idle = which >> 3 & 3;
	conf.is_churn = which >> 5 & 1;
	conf.depth = conf.is_churn ? 1 : 1 + (how & 7);
	conf.rate = how & 8 ? 1000 : 0;
	conf.size = sizes[how >> 4 & 3];
	conf.keys = 100;
	conf.fills = conf.protocol == BW_LOAD_RESP;
	conf.set_share = 0.5;
	conf.count = how & 0x40 ? 50 : 0;
	conf.timeout_ns = 20 * BW_NS_PER_MS;
	load = bw_load_create(&conf);
	BW_ASSERT(load != NULL);
	f = fake_create(&bw_load_service, load, 1);
	memset(stream, 0, sizeof(stream));
	fake_advance(f, BW_NS_PER_MS);
	while (fuzz_left(&in) > 0)
		step(f, load, &in);
	figures = malloc(sizeof(*figures));
	BW_ASSERT(figures != NULL);
	bw_load_set_stage(load, BW_LOAD_END);
	fake_advance(f, 200 * BW_NS_PER_MS);
	bw_load_figures(load, figures);
	/* Nothing is under way once all has had its time; and a request has an answer, or an error, or was taken back. */
	BW_ASSERT_EQ(figures->under_way, 0);
	BW_ASSERT(figures->responses <= figures->requests);
	BW_ASSERT(figures->latency.count <= figures->responses);
	BW_ASSERT(figures->open + figures->idle_open <= conf.connections + conf.idle);
	free(figures);
	fake_destroy(f);
	bw_load_destroy(load);
	return 0;
}
