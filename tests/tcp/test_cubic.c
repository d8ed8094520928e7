/* SPDX-License-Identifier: BSD-3-Clause */
/** CUBIC as a function of time, against the formulas of RFC 9438 in floating point. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "internal.h"

#define MSS 1448u

/** Acknowledge a window a round trip for so long; returns the last cwnd. */
static uint32_t run(
	struct bw_tcp__cubic *c, uint32_t cwnd, uint32_t from_ms, uint32_t until_ms, uint32_t rtt_ms)
{
	for (uint32_t now = from_ms; now < until_ms; now += rtt_ms)
		for (uint32_t acked = 0, window = cwnd; acked < window; acked += 2 * MSS)
			cwnd = bw_tcp__cubic_on_ack(c, now, rtt_ms, cwnd, MSS, 2 * MSS);
	return cwnd;
}

static void assert_near(uint32_t got, double want, double tolerance)
{
	if (fabs(got - want) > tolerance * want)
		fail_msg("%u is not %.0f within %.0f %%", got, want, 100 * tolerance);
}

/** 4.6, 4.7: seven tenths remain; a flow that is cut before it was back gives more away. */
static void a_loss_cuts_by_beta(void **state)
{
	struct bw_tcp__cubic c = { 0 };

	(void)state;
	assert_int_equal(bw_tcp__cubic_on_loss(&c, 1000 * MSS, 1000 * MSS), 700 * MSS);
	assert_int_equal(c.w_max, 1000 * MSS);
	assert_int_equal(bw_tcp__cubic_on_loss(&c, 700 * MSS, 700 * MSS), 490 * MSS);
	assert_int_equal(c.w_max, 595 * MSS);
}

/** 4.2: along W_cubic(t), back at W_max after K, and beyond. The path is long, so that Reno is behind. */
static void the_window_follows_the_cubic(void **state)
{
	const double k = cbrt(300 / 0.4); /* seconds */
	const uint32_t rtt_ms = 100;

	(void)state;
	for (double t = 1; t < 2 * k; t += 2.3) {
		struct bw_tcp__cubic c = { 0 };
		uint32_t cwnd = bw_tcp__cubic_on_loss(&c, 1000 * MSS, 1000 * MSS);

		cwnd = run(&c, cwnd, 5000, 5000 + (uint32_t)(t * 1000), rtt_ms);
		assert_near(cwnd, (0.4 * pow(t - k, 3) + 1000) * MSS, 0.03);
	}
}

/** 4.3: where round trips are short Reno grows faster, and CUBIC is no slower. */
static void short_paths_follow_reno(void **state)
{
	struct bw_tcp__cubic c = { 0 };
	uint32_t cwnd = bw_tcp__cubic_on_loss(&c, 100 * MSS, 100 * MSS);

	(void)state;
	/* alpha is 9/17 of a segment a round trip until the old window is reached: 30 segments take 57. */
	cwnd = run(&c, cwnd, 0, 57, 1);
	assert_near(cwnd, 100.0 * MSS, 0.05);
	cwnd = run(&c, cwnd, 57, 87, 1);
	assert_near(cwnd, 130.0 * MSS, 0.05);
}

/** 4.8: after a time-out the cubic's plateau is where slow start ends, and growth is slow from there. */
static void a_timeout_begins_on_the_plateau(void **state)
{
	struct bw_tcp__cubic c = { 0 };
	uint32_t cwnd;

	(void)state;
	(void)bw_tcp__cubic_on_loss(&c, 1000 * MSS, 1000 * MSS);
	bw_tcp__cubic_on_timeout(&c);
	cwnd = run(&c, 700 * MSS, 5000, 9000, 100);
	/* t - K = 4 s: 0.4 * 64 segments; with the old K it would be 200 of 300 more */
	assert_near(cwnd, (700 + 0.4 * 64) * MSS, 0.01);
}

/** 4.2, 5.8: time in which cwnd was not tried does not count. */
static void time_without_need_does_not_count(void **state)
{
	struct bw_tcp__cubic c = { 0 };
	uint32_t cwnd = bw_tcp__cubic_on_loss(&c, 1000 * MSS, 1000 * MSS), before;

	(void)state;
	cwnd = before = run(&c, cwnd, 5000, 7000, 100);
	/* an hour in which the service had little to say, then two more seconds */
	cwnd = run(&c, cwnd, 3607000, 3607100, 100);
	assert_near(cwnd, before, 0.03);
	cwnd = run(&c, cwnd, 3607100, 3609000, 100);
	assert_near(cwnd, (0.4 * pow(4 - cbrt(300 / 0.4), 3) + 1000) * MSS, 0.03);
}

/** Nothing overflows: a gigabyte of window, an hour without a loss, an ACK of everything. */
static void extremes_are_survived(void **state)
{
	struct bw_tcp__cubic c = { 0 };
	uint32_t cwnd = bw_tcp__cubic_on_loss(&c, 1u << 30, 1u << 30);

	(void)state;
	for (uint32_t now = 0; now < 3600 * 1000; now += 60000) {
		uint32_t next = bw_tcp__cubic_on_ack(&c, now, 60000, cwnd, 64, cwnd);

		assert_true(next >= cwnd && next <= cwnd + cwnd / 2 + 64);
		cwnd = BW_MIN(next, 1u << 30);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_loss_cuts_by_beta),
		cmocka_unit_test(the_window_follows_the_cubic),
		cmocka_unit_test(short_paths_follow_reno),
		cmocka_unit_test(a_timeout_begins_on_the_plateau),
		cmocka_unit_test(time_without_need_does_not_count),
		cmocka_unit_test(extremes_are_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
