/* SPDX-License-Identifier: BSD-3-Clause */
/** DCTCP's estimate, and NewReno's growth, as arithmetic: RFC 8257 3.3, RFC 5681 3.1. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "internal.h"

#define MSS   1448u
#define ALPHA (1u << BW_TCP__ALPHA_BITS)
#define G     (1.0 / 16)

static void assert_near(double got, double want, double tolerance)
{
	if (fabs(got - want) > tolerance)
		fail_msg("%f is not %f within %f", got, want, tolerance);
}

static double alpha_of(const struct bw_tcp__dctcp *d)
{
	return (double)d->alpha / ALPHA;
}

/** The first window has ten segments. */
static void begin(struct bw_tcp__dctcp *d, bw_seq una)
{
	bw_tcp__dctcp_on_marks(d, una, una + 10 * MSS - 1, 0, false);
}

/** Acknowledge `windows` windows of `segments`, of which the first `marked` are marked; returns whether to go on. */
static bool run(struct bw_tcp__dctcp *d, bw_seq *una, unsigned windows, uint32_t segments, uint32_t marked)
{
	bool goes_on = true;

	for (; windows != 0; windows--)
		for (uint32_t i = 0; i < segments; i++) {
			*una += MSS;
			goes_on = bw_tcp__dctcp_on_marks(d, *una, *una + segments * MSS - 1, MSS, i < marked);
		}
	return goes_on;
}

/** One before anything is known, then (1 - g) alpha + g M a window. */
static void alpha_follows_the_marked_fraction(void **state)
{
	struct bw_tcp__dctcp d = { 0 };
	bw_seq una = 0xffff0000u;
	double alpha = 1;

	(void)state;
	assert_int_equal(bw_tcp__dctcp_on_ece(&d, 100 * MSS), 50 * MSS);
	begin(&d, una);
	assert_near(alpha_of(&d), 1, 0);
	for (unsigned i = 0; i < 100; i++) {
		double before = alpha_of(&d), m = (i % 11) / 10.0;

		run(&d, &una, 1, 10, i % 11);
		alpha = before * (1 - G) + G * m;
		assert_near(alpha_of(&d), alpha, 1e-5);
		assert_near(bw_tcp__dctcp_on_ece(&d, 1000000), 1000000 * (1 - alpha / 2), 10);
	}
}

/** Under a constant fraction alpha becomes that fraction, from above and from below. */
static void alpha_has_its_fixed_point(void **state)
{
	static const uint32_t tenths[] = { 3, 0, 10, 1, 10 };
	struct bw_tcp__dctcp d = { 0 };
	bw_seq una = 0;

	(void)state;
	begin(&d, una);
	for (unsigned i = 0; i < BW_ARRAY_LEN(tenths); i++) {
		bool goes_on = run(&d, &una, 400, 10, tenths[i]);

		assert_near(alpha_of(&d), tenths[i] / 10.0, 2e-5);
		/* What decays does so to 0, and then needs no attention. */
		assert_int_equal(goes_on, tenths[i] != 0);
		assert_int_equal(d.alpha != 0, tenths[i] != 0);
	}
}

/** The largest windows there are, in one ACK, all marked; and a byte at a time. */
static void extremes_are_survived(void **state)
{
	struct bw_tcp__dctcp d = { 0 };
	bw_seq una = 0;

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		una += 1u << 30;
		bw_tcp__dctcp_on_marks(&d, una, una + (1u << 30), 1u << 30, true);
		assert_true(d.alpha <= ALPHA);
	}
	assert_int_equal(bw_tcp__dctcp_on_ece(&d, 1u << 30), 1u << 29);
	una += 1u << 30;
	for (unsigned i = 0; i < 1000; i++, una++)
		bw_tcp__dctcp_on_marks(&d, una + 1, una + 1, 1, false);
	assert_int_equal(d.alpha, 0);
	assert_int_equal(bw_tcp__dctcp_on_ece(&d, 1u << 30), 1u << 30);
}

/** Half, then a segment a window, however its bytes are acknowledged: ACK division gains nothing. */
static void reno_grows_by_bytes(void **state)
{
	static const uint32_t steps[] = { 1, 100, MSS, 2 * MSS, 5 * MSS };

	(void)state;
	for (unsigned i = 0; i < BW_ARRAY_LEN(steps); i++) {
		struct bw_tcp__reno reno = { 0 };
		uint32_t cwnd = bw_tcp__reno_on_loss(&reno, 20 * MSS);

		assert_int_equal(cwnd, 10 * MSS);
		for (unsigned window = 0; window < 10; window++) {
			uint32_t before = cwnd;

			for (uint32_t acked = 0; acked < before; acked += steps[i])
				cwnd = bw_tcp__reno_on_ack(
					&reno, cwnd, MSS, BW_MIN(steps[i], before - acked));
			assert_int_equal(cwnd, before + MSS);
		}
		assert_int_equal(cwnd, 20 * MSS);
	}
}

/** An ACK of many windows is worth one segment, and no credit is left that would be a burst later. */
static void reno_takes_no_credit(void **state)
{
	struct bw_tcp__reno reno = { 0 };
	uint32_t cwnd = 10 * MSS;

	(void)state;
	cwnd = bw_tcp__reno_on_ack(&reno, cwnd, MSS, 1u << 30);
	assert_int_equal(cwnd, 11 * MSS);
	assert_true(reno.acked_bytes <= 10 * MSS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(alpha_follows_the_marked_fraction),
		cmocka_unit_test(alpha_has_its_fixed_point),
		cmocka_unit_test(extremes_are_survived),
		cmocka_unit_test(reno_grows_by_bytes),
		cmocka_unit_test(reno_takes_no_credit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
