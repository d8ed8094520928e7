/* SPDX-License-Identifier: BSD-3-Clause */
/** HyStart++ (RFC 9406) in stories: see harness.h for how to read them. */
#include "harness.h"

#define MSS 1460u

static char bytes[64 * 1024];

/** A peer with a window that holds nothing back, and always something for it. */
static struct peer *begun(enum bw_tcp_congestion_control cc, bool pacing)
{
	return established(.wscale = 1 + 7, .rtt = MS(100), .send_bytes_max = 8 << 20, .sack = true,
		.congestion_control = cc, .pacing = pacing, .ecn = cc == BW_TCP_CC_DCTCP);
}

static void fill(struct peer *p)
{
	while (bw_tcp_send(p->conn, bytes, sizeof(bytes)) == sizeof(bytes))
		;
	collect(p);
	forget_sent(p);
}

static struct bw_tcp_info info_of(const struct peer *p)
{
	struct bw_tcp_info info;

	bw_tcp_info(p->conn, &info);
	return info;
}

static unsigned segments(const struct peer *p)
{
	return info_of(p).cwnd / MSS;
}

static uint32_t una, round_end; /* relative, as in harness.h */
static unsigned acked;          /* segments in the last round */

/**
 * A round: what was in flight when it began is acknowledged, `step` segments an ACK, `rtt` after that. What the ACK that
 * ends it lets out is of the round after the next. Returns by how many segments cwnd has grown.
 */
static unsigned round_in_steps(struct peer *p, bw_ns rtt, unsigned step)
{
	unsigned before = segments(p);
	uint32_t next_end = 0;

	if (info_of(p).in_flight == 0) {
		fill(p);
		una = 1;
		round_end = p->snd_max - p->iss;
	}
	acked = (round_end - una) / MSS;
	p->now += rtt;
	while (una < round_end) {
		una = BW_MIN(una + step * MSS, round_end);
		next_end = p->snd_max - p->iss;
		IN(p, .ack = una);
		if (bw_tcp_send_queued(p->conn) < 1 << 20)
			fill(p);
		forget_sent(p);
	}
	round_end = next_end;
	return segments(p) - before;
}

static unsigned round_of(struct peer *p, bw_ns rtt)
{
	return round_in_steps(p, rtt, 1);
}

/** A round in which slow start goes on. */
static void grows(struct peer *p, bw_ns rtt)
{
	unsigned growth = round_of(p, rtt);

	assert_int_equal(growth, acked);
}

/** A round whose eighth sample changes what is grown: to a quarter, or back. */
static void grows_less(struct peer *p, bw_ns rtt)
{
	unsigned growth = round_of(p, rtt);

	assert_in_range(growth, 8 + (acked - 8) / 4 - 1, 8 + (acked - 8) / 4 + 1);
	assert_int_equal(info_of(p).ssthresh, UINT32_MAX);
}

static void grows_more(struct peer *p, bw_ns rtt)
{
	unsigned growth = round_of(p, rtt);

	assert_in_range(growth, 8 / 4 + acked - 8 - 1, 8 / 4 + acked - 8 + 1);
}

static void grows_by_quarters(struct peer *p, bw_ns rtt)
{
	unsigned growth = round_of(p, rtt);

	assert_in_range(growth, acked / 4 - 1, acked / 4 + 1);
}

/** The third round is 13 ms longer: the threshold is an eighth. */
static struct peer *in_css(enum bw_tcp_congestion_control cc)
{
	struct peer *p = begun(cc, false);

	grows(p, MS(100));
	grows(p, MS(100));
	grows_less(p, MS(113));
	return p;
}

TEST(slow_start_ends_after_five_rounds_of_delay)
{
	static const enum bw_tcp_congestion_control controls[] = { BW_TCP_CC_CUBIC, BW_TCP_CC_NEWRENO };

	for (unsigned i = 0; i < BW_ARRAY_LEN(controls); i++) {
		struct peer *p = in_css(controls[i]);

		/* The rest of the third round was the first of the five. */
		for (unsigned n = 2; n <= 5; n++) {
			grows_by_quarters(p, MS(113));
			assert_true((info_of(p).ssthresh == UINT32_MAX) == (n < 5));
		}
		assert_int_equal(info_of(p).ssthresh, info_of(p).cwnd);
		/* Congestion avoidance: CUBIC's plateau, or a segment a round trip. */
		assert_in_range(round_of(p, MS(113)), 0, 2);
		COUNTER(p, TCP_RETRANSMITS, 0);
		done(p);
	}
}

/** It was jitter. And the next time it is not. */
TEST(slow_start_goes_on_when_the_delay_was_none)
{
	struct peer *p = in_css(BW_TCP_CC_CUBIC);

	grows_by_quarters(p, MS(113));
	grows_more(p, MS(112));
	grows(p, MS(112));
	grows_less(p, MS(130));
	done(p);
}

/** The threshold lies between 4 and 16 ms. */
TEST(small_delays_say_nothing)
{
	struct peer *p = begun(BW_TCP_CC_CUBIC, false);

	grows(p, MS(1));
	grows(p, MS(4));
	grows(p, MS(7));
	grows_less(p, MS(11));
	done(p);

	p = begun(BW_TCP_CC_CUBIC, false);
	grows(p, MS(400));
	grows(p, MS(415));
	grows_less(p, MS(431));
	done(p);
}

/** Who acknowledges eight segments at once gives too few samples. */
TEST(few_samples_say_nothing)
{
	struct peer *p = begun(BW_TCP_CC_CUBIC, false);

	for (unsigned i = 1; i <= 3; i++) {
		unsigned growth = round_in_steps(p, MS(100) * i, 8);

		assert_int_equal(growth, acked);
	}
	done(p);
}

TEST(a_loss_ends_conservative_slow_start)
{
	struct peer *p = in_css(BW_TCP_CC_CUBIC);

	for (unsigned i = 2; i <= 5; i++)
		IN(p, .ack = una, .sack_count = 1, .sack = { { una + MSS, una + i * MSS } });
	assert_in_range(info_of(p).ssthresh, 20 * MSS, 56 * MSS);
	COUNTER(p, TCP_FAST_RETRANSMITS, 1);
	done(p);
}

/** DCTCP waits for marks. */
TEST(dctcp_does_not_look_at_delay)
{
	struct peer *p = begun(BW_TCP_CC_DCTCP, false);

	for (unsigned i = 1; i <= 3; i++)
		grows(p, MS(100) * i);
	done(p);
}

/** L is infinite where what is sent is paced, else 8. */
TEST(paced_growth_has_no_bound_an_ack)
{
	for (unsigned pacing = 0; pacing < 2; pacing++) {
		struct peer *p = begun(BW_TCP_CC_CUBIC, pacing);

		fill(p);
		/* What is paced needs its time to go out. */
		AT(p, p->now - START + MS(99));
		forget_sent(p);
		assert_int_equal(info_of(p).in_flight, 10 * MSS);
		IN(p, .ack = 1 + 10 * MSS);
		assert_int_equal(segments(p), pacing ? 20 : 18);
		done(p);
	}
}

/* ---- a bottleneck -------------------------------------------------------------------------------------- */

#define QUEUE_MAX  512
#define SEGMENTS   2000
#define SEGMENT_NS MS(1)  /* 11.7 Mbit/s */
#define PATH_NS    MS(60) /* there and back */
#define QUEUE_NS   MS(120)

static struct {
	struct {
		uint32_t segment;
		bw_ns acked_at;
	} queue[QUEUE_MAX];
	unsigned head, tail, drops;
	bw_ns free_at;
	/* the receiver's */
	bool has[SEGMENTS + 1];
	uint32_t next;
} path;

static void send_over_path(struct peer *p)
{
	struct sent *s;

	collect(p);
	while ((s = take(p)) != NULL) {
		uint32_t segment = (s->f.seq - p->iss - 1) / MSS;

		sent_free(s);
		path.free_at = BW_MAX(path.free_at, p->now);
		if (path.free_at - p->now >= QUEUE_NS) {
			path.drops++;
			continue;
		}
		path.free_at += SEGMENT_NS;
		assert_true(path.tail - path.head < QUEUE_MAX);
		path.queue[path.tail % QUEUE_MAX].segment = segment;
		path.queue[path.tail++ % QUEUE_MAX].acked_at = path.free_at + PATH_NS;
	}
}

/** The first of the queue arrives, and is acknowledged with SACK. */
static void arrive(struct peer *p)
{
	uint32_t from = path.queue[path.head++ % QUEUE_MAX].segment, to = from + 1;

	path.has[from] = true;
	while (path.has[path.next])
		path.next++;
	while (from > path.next && path.has[from - 1])
		from--;
	IN(p, .ack = 1 + path.next * MSS, .sack_count = from > path.next,
		.sack = { { 1 + from * MSS, 1 + to * MSS } });
}

/** How many segments of 3 MB are dropped by a queue of twice what the path itself holds. */
static unsigned dropped_at_the_bottleneck(enum bw_tcp_congestion_control cc)
{
	struct peer *p = established(.wscale = 1 + 7, .rtt = PATH_NS, .send_bytes_max = 8 << 20, .sack = true,
		.congestion_control = cc);
	uint32_t left = SEGMENTS * MSS, taken;

	memset(&path, 0, sizeof(path));
	while (path.next < SEGMENTS) {
		while (left != 0 && (taken = bw_tcp_send(p->conn, bytes, BW_MIN(left, sizeof(bytes)))) != 0)
			left -= taken;
		send_over_path(p);
		if (path.head != path.tail && path.queue[path.head % QUEUE_MAX].acked_at <= p->now)
			arrive(p);
		else
			AT(p, p->now - START + MS(1));
	}
	COUNTER(p, TCP_RTOS, 0);
	done(p);
	return path.drops;
}

/** NewReno without it (DCTCP without ECN is that), with it, and CUBIC: 182, 46 and 51. */
TEST(a_deep_queue_is_not_filled)
{
	unsigned without = dropped_at_the_bottleneck(BW_TCP_CC_DCTCP);

	assert_in_range(dropped_at_the_bottleneck(BW_TCP_CC_NEWRENO), 0, without / 3);
	assert_in_range(dropped_at_the_bottleneck(BW_TCP_CC_CUBIC), 0, without / 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(slow_start_ends_after_five_rounds_of_delay),
		cmocka_unit_test(slow_start_goes_on_when_the_delay_was_none),
		cmocka_unit_test(small_delays_say_nothing),
		cmocka_unit_test(few_samples_say_nothing),
		cmocka_unit_test(a_loss_ends_conservative_slow_start),
		cmocka_unit_test(dctcp_does_not_look_at_delay),
		cmocka_unit_test(paced_growth_has_no_bound_an_ack),
		cmocka_unit_test(a_deep_queue_is_not_filled),
	};

	if (harness_start() != 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
