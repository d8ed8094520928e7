/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "service.h"

#define STREAMS 3

enum {
	IS_HINDERED = 0x40,
	IS_COMPOSED = 0x20,
};

/* The wall clock stands still, so that two runs of the same bytes see the same. */
__attribute__((used)) int __wrap_clock_gettime(clockid_t clock, struct timespec *ts);

int __wrap_clock_gettime(clockid_t clock, struct timespec *ts)
{
	*ts = (struct timespec){ .tv_sec = 1700000000 };
	return 0;
}

/* ---- composing -------------------------------------------------------------------------------------------- */

void fuzz_put(struct fuzz_text *text, const void *bytes, size_t len)
{
	len = BW_MIN(len, sizeof(text->bytes) - text->len);
	if (len != 0)
		memcpy(text->bytes + text->len, bytes, len);
	text->len += len;
}

void fuzz_printf(struct fuzz_text *text, const char *format, ...)
{
	char line[512];
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	BW_ASSERT(len >= 0 && (size_t)len < sizeof(line));
	fuzz_put(text, line, (size_t)len);
}

/* ---- one stream, in two ways ------------------------------------------------------------------------------ */

enum {
	MAY_STARVE = 1,
	MAY_LACK_SPACE = 2,
	MAY_HOLD_JOBS = 4,
	MAY_HOLD_MAIL = 8,
	HAS_FEW_VIEWS = 16,
};

struct hindrance {
	uint32_t random; /* never 0 */
	unsigned kinds;
};

static uint32_t draw(struct hindrance *h, uint32_t below)
{
	h->random ^= h->random << 13;
	h->random ^= h->random >> 17;
	h->random ^= h->random << 5;
	return h->random % below;
}

/** What is late, for a while. */
static void hinder(struct fake *f, struct bw_stream *s, struct hindrance *h)
{
	unsigned kind = 1u << draw(h, 8) & h->kinds;

	if (kind == MAY_STARVE)
		fake_starve(s, draw(h, 4));
	else if (kind == MAY_LACK_SPACE && draw(h, 2))
		fake_set_auto_ack(s, draw(h, 2));
	else if (kind == MAY_LACK_SPACE)
		fake_set_space(s, 1024 + draw(h, 8192));
	else if (kind == MAY_HOLD_JOBS)
		fake_hold_jobs(f, draw(h, 2));
	else if (kind == MAY_HOLD_MAIL)
		fake_hold_mail(f, draw(h, 2));
	else if (kind == HAS_FEW_VIEWS)
		fake_set_views_max(s, 1 + draw(h, 8));
	fake_work_jobs(f, draw(h, 3));
	fake_finish_jobs(f, draw(h, 2));
	fake_deliver_mail(f, draw(h, 3));
	fake_ack(s, draw(h, 2000));
}

/** Pieces of any size, some in one call, and between them hindrances. */
static void feed_hindered(struct fake *f, struct bw_stream *s, const uint8_t *data, size_t size,
	size_t piece_max, struct hindrance *h)
{
	while (size > 0 && !fake_is_closed(s)) {
		size_t n = 1 + draw(h, (uint32_t)BW_MIN(piece_max, size));

		hinder(f, s, h);
		if (draw(h, 4) == 0)
			fake_queue(s, data, n);
		else
			fake_feed(s, data, n);
		data += n;
		size -= n;
	}
	fake_hold_jobs(f, false);
	fake_hold_mail(f, false);
	fake_starve(s, 0);
	fake_set_space(s, 256 * 1024);
	fake_set_auto_ack(s, true);
	if (!fake_is_closed(s))
		fake_deliver(s);
	if (h->kinds & MAY_STARVE)
		fake_advance(f, 100 * BW_NS_PER_MS);
}

static char *answer(uint8_t settings, const uint8_t *data, size_t size, size_t piece_max, struct hindrance *h,
	size_t *len)
{
	struct fake *f = fuzz_service_start(settings);
	struct bw_stream *s = fake_open(f, 0);
	const char *output;
	char *copy;

	if (h == NULL)
		fake_feed(s, data, size);
	else
		feed_hindered(f, s, data, size, piece_max, h);
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

static void in_two_ways(uint8_t settings, size_t piece_max, const uint8_t *data, size_t size)
{
	struct hindrance h = { .random = (uint32_t)(piece_max + size * 2654435761u) | 1,
		.kinds = settings & IS_HINDERED ? 31 : HAS_FEW_VIEWS };
	size_t len, len_cut;
	char *whole = answer(settings, data, size, 0, NULL, &len), *pieces;

	if (fuzz_service_is_timed((const char *)data, size))
		h.kinds &= MAY_LACK_SPACE | HAS_FEW_VIEWS; /* what else is tried again, is so after a while */
	pieces = answer(settings, data, size, piece_max, &h, &len_cut);
	if (len != len_cut || memcmp(whole, pieces, len) != 0)
		BW_ASSERT(fuzz_service_may_differ(whole, len, pieces, len_cut));
	free(pieces);
	free(whole);
}

/* ---- everything at once ------------------------------------------------------------------------------------ */

/** What a client says in this step, in a buffer of exactly its size. */
static uint8_t *say(struct fuzz_input *in, bool is_composed, uint16_t arg, size_t *len)
{
	static struct fuzz_text text;
	struct fuzz_input whole;

	if (!is_composed)
		return fuzz_bytes(in, arg & 0xfff, len);
	text.len = 0;
	for (unsigned i = 0; i <= (arg & 7u); i++)
		fuzz_service_compose(in, &text);
	/* Now and then the end is missing. */
	if ((arg & 0x700) == 0x700)
		text.len -= BW_MIN(text.len, (size_t)arg >> 11);
	whole = (struct fuzz_input){ (uint8_t *)text.bytes, (uint8_t *)text.bytes + text.len };
	return fuzz_bytes(&whole, text.len, len);
}

static void step(struct fake *f, struct bw_stream **streams, struct fuzz_input *in, bool is_composed)
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
		bytes = say(in, is_composed, arg, &len);
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
		else
			fake_stats(f, 0);
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
		step(f, streams, in, settings & IS_COMPOSED);
	fake_advance(f, 200 * BW_NS_PER_MS);
	fuzz_service_stop(f);
}

void fuzz_service_one(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, data + size };
	uint8_t settings = fuzz_u8(&in);
	static struct fuzz_text text;
	size_t piece_max;

	if (settings & FUZZ_IS_SCRIPT) {
		run_script(settings, &in);
		return;
	}
	piece_max = (size_t)fuzz_u8(&in) * (settings & IS_COMPOSED ? 8 : 1) + 1;
	if (!(settings & IS_COMPOSED)) {
		in_two_ways(settings, piece_max, in.at, fuzz_left(&in));
		return;
	}
	text.len = 0;
	while (fuzz_left(&in) > 0 && text.len < sizeof(text.bytes))
		fuzz_service_compose(&in, &text);
	in_two_ways(settings, piece_max, (const uint8_t *)text.bytes, text.len);
}
