/* SPDX-License-Identifier: BSD-3-Clause */
#include <time.h>

#include "service.h"

#define STREAMS 3

enum {
	IS_SCRIPT = 0x80,
	IS_IN_VIEWS = 0x40,
};

/* The wall clock stands still, so that two runs of the same bytes see the same. */
__attribute__((used)) int __wrap_clock_gettime(clockid_t clock, struct timespec *ts);

int __wrap_clock_gettime(clockid_t clock, struct timespec *ts)
{
	*ts = (struct timespec){ .tv_sec = 1700000000 };
	return 0;
}

/* ---- one stream, cut in two ways ------------------------------------------------------------------------ */

enum cut {
	IN_ONE,
	IN_PIECES, /* a call for each */
	IN_VIEWS,  /* pieces, in one call */
};

static void feed(struct bw_stream *s, const uint8_t *data, size_t size, enum cut cut, size_t piece)
{
	if (cut == IN_ONE) {
		fake_feed(s, data, size);
	} else if (cut == IN_PIECES) {
		fake_feed_split(s, data, size, piece);
	} else {
		for (size_t at = 0; at < size; at += piece)
			fake_queue(s, data + at, BW_MIN(piece, size - at));
		fake_deliver(s);
	}
}

static char *answer(
	uint8_t settings, const uint8_t *data, size_t size, enum cut cut, size_t piece, size_t *len)
{
	struct fake *f = fuzz_service_start(settings);
	struct bw_stream *s = fake_open(f, 0);
	const char *output;
	char *copy;

	feed(s, data, size, cut, piece);
	fake_run(f);
	output = fake_output(s, len);
	fuzz_service_check(output, *len, !fake_is_aborted(s));
	copy = malloc(*len + 1);
	BW_ASSERT(copy != NULL);
	memcpy(copy, output, *len + 1);
	*len = fuzz_service_strip(copy, *len);
	fuzz_service_stop(f);
	return copy;
}

static void cut_in_two_ways(uint8_t settings, size_t piece, const uint8_t *data, size_t size)
{
	enum cut cut = settings & IS_IN_VIEWS ? IN_VIEWS : IN_PIECES;
	size_t len, len_cut;
	char *whole = answer(settings, data, size, IN_ONE, 0, &len);
	char *pieces = answer(settings, data, size, cut, piece, &len_cut);

	if (len != len_cut || memcmp(whole, pieces, len) != 0)
		BW_ASSERT(fuzz_service_may_differ(whole, len, pieces, len_cut));
	free(pieces);
	free(whole);
}

/* ---- everything at once ------------------------------------------------------------------------------------ */

static void step(struct fake *f, struct bw_stream **streams, struct fuzz_input *in)
{
	uint8_t op = fuzz_u8(in);
	uint16_t arg = fuzz_u16(in);
	struct bw_stream **slot = &streams[(op >> 5) % STREAMS], *s = *slot;
	uint8_t *bytes;
	size_t len;

	if (s == NULL)
		s = *slot = fake_open(f, (op >> 5) % bw_context_worker_count(fake_context(f, 0)));
	switch (op & 15) {
	case 0 ... 4:
		bytes = fuzz_bytes(in, arg & 0xfff, &len);
		if (!fake_is_closed(s) && op & 1)
			fake_queue(s, bytes, len);
		else if (!fake_is_closed(s))
			fake_feed(s, bytes, len);
		free(bytes);
		return;
	case 5:
		fake_advance(f, arg * BW_NS_PER_MS);
		return;
	case 6:
		fake_hold_jobs(f, arg & 1);
		return;
	case 7:
		if (arg & 0x100)
			fake_work_jobs(f, arg & 15);
		else
			fake_finish_jobs(f, arg & 15);
		return;
	case 8:
		fake_hold_mail(f, arg & 1);
		fake_deliver_mail(f, arg >> 1 & 15);
		return;
	case 9:
		if (arg == 0xd7a1)
			fake_drain(f);
		return;
	default:
		break;
	}
	if (fake_is_closed(s)) {
		*slot = NULL;
		return;
	}
	switch (op & 15) {
	case 10:
		fake_set_space(s, arg);
		break;
	case 11:
		fake_set_auto_ack(s, arg & 1);
		fake_ack(s, arg >> 1);
		break;
	case 12:
		fake_starve(s, arg & 15);
		fake_deliver(s);
		break;
	case 13:
		fake_set_views_max(s, 1 + (arg & 15));
		break;
	case 14:
		fake_peer_reset(s);
		*slot = NULL;
		break;
	default:
		if (arg & 1)
			fake_deliver_and_close(s);
		else
			fake_peer_close(s);
		/* Nothing more may come on it; what it still gets, it gets. */
		fake_set_auto_ack(s, true);
		*slot = NULL;
	}
}

static void run_script(uint8_t settings, struct fuzz_input *in)
{
	struct bw_stream *streams[STREAMS] = { NULL };
	struct fake *f = fuzz_service_start(settings);

	while (fuzz_left(in) > 0)
		step(f, streams, in);
	fake_advance(f, 200 * BW_NS_PER_MS);
	fuzz_service_stop(f);
}

void fuzz_service_one(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, data + size };
	uint8_t settings = fuzz_u8(&in);
	size_t piece;

	if (settings & IS_SCRIPT) {
		run_script(settings, &in);
		return;
	}
	piece = (size_t)fuzz_u8(&in) + 1;
	cut_in_two_ways(settings, piece, in.at, fuzz_left(&in));
}
