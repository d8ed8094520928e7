/* SPDX-License-Identifier: BSD-3-Clause */
/** The account of cycles by stage, on a TSC that the test turns. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cycles.h"

#define TURNS 160000

static uint64_t tsc;

/** A reading costs 20. */
static void enter(struct bw_cycles *c, enum bw_stage stage, uint64_t after)
{
	tsc += after + 20;
	bw_cycles__charge(c, stage, tsc);
}

static void begin_sampled(struct bw_cycles *c)
{
	while (!c->is_sampled)
		bw_cycles_turn_begin(c, tsc);
}

static struct bw_cycles started(void)
{
	struct bw_cycles c;

	bw_cycles_start(&c);
	assert_in_range(c.reading_cost, 1, 2000);
	c.reading_cost = 20;
	return c;
}

/** A service that is called within TCP's input has its cycles for itself, and TCP goes on with its own. */
static void stages_nest(void **state)
{
	struct bw_cycles c = started();

	begin_sampled(&c);
	enter(&c, BW_STAGE_RX, 7);
	enter(&c, BW_STAGE_TCP, 100);
	assert_int_equal(c.stage, BW_STAGE_TCP);
	enter(&c, BW_STAGE_SERVICE, 40);
	enter(&c, BW_STAGE_TCP, 500);
	enter(&c, BW_STAGE_TX, 60);
	tsc += 30 + 20;
	bw_cycles_turn_end(&c, tsc, true);
	assert_false(c.is_sampled);
	assert_int_equal(c.turns, 1);
	assert_int_equal(c.sum[BW_STAGE_TURN], 7);
	assert_int_equal(c.sum[BW_STAGE_RX], 100);
	assert_int_equal(c.sum[BW_STAGE_TCP], 40 + 60);
	assert_int_equal(c.sum[BW_STAGE_SERVICE], 500);
	assert_int_equal(c.sum[BW_STAGE_TX], 30);
	assert_int_equal(c.sum[BW_STAGE_EGRESS], 0);
}

static void a_turn_without_work_is_forgotten(void **state)
{
	struct bw_cycles c = started();

	begin_sampled(&c);
	enter(&c, BW_STAGE_RX, 1000);
	bw_cycles_turn_end(&c, tsc += 1000, false);
	begin_sampled(&c);
	enter(&c, BW_STAGE_TX, 5);
	bw_cycles_turn_end(&c, tsc += 25, true);
	assert_int_equal(c.turns, 1);
	assert_int_equal(c.sum[BW_STAGE_RX], 0);
	assert_int_equal(c.sum[BW_STAGE_TX], 5);
}

/** Less than a reading usually costs is nothing, not a very large number. */
static void a_quick_reading_is_no_underflow(void **state)
{
	struct bw_cycles c = started();

	begin_sampled(&c);
	bw_cycles__charge(&c, BW_STAGE_RX, tsc += 19);
	bw_cycles_turn_end(&c, tsc += 3, true);
	assert_int_equal(c.sum[BW_STAGE_TURN], 0);
	assert_int_equal(c.sum[BW_STAGE_RX], 0);
}

/** One in so many, whatever repeats with whichever period. */
static void turns_are_drawn_evenly(void **state)
{
	struct bw_cycles c = started();
	unsigned drawn = 0, by_phase[16] = { 0 };

	for (unsigned i = 0; i < TURNS; i++) {
		bw_cycles_turn_begin(&c, tsc);
		if (!c.is_sampled)
			continue;
		drawn++;
		by_phase[i % 16]++;
		bw_cycles_turn_end(&c, tsc, true);
	}
	assert_in_range(drawn, TURNS / BW_CYCLES_SAMPLE * 0.97, TURNS / BW_CYCLES_SAMPLE * 1.03);
	for (unsigned i = 0; i < 16; i++)
		assert_in_range(by_phase[i], drawn / 16 * 0.8, drawn / 16 * 1.2);
}

static void off_means_off(void **state)
{
	struct bw_cycles c = { 0 };

	for (unsigned i = 0; i < TURNS; i++) {
		bw_cycles_turn_begin(&c, tsc);
		assert_false(c.is_sampled);
	}
	assert_int_equal(bw_stage_enter(&c, BW_STAGE_TX), BW_STAGE_TURN);
	assert_int_equal(bw_stage_enter(&c, BW_STAGE_RX), BW_STAGE_TURN);
}

static void every_stage_has_a_name(void **state)
{
	for (unsigned i = 0; i < BW_STAGE_COUNT; i++)
		assert_non_null(bw_stage_name[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stages_nest),
		cmocka_unit_test(a_turn_without_work_is_forgotten),
		cmocka_unit_test(a_quick_reading_is_no_underflow),
		cmocka_unit_test(turns_are_drawn_evenly),
		cmocka_unit_test(off_means_off),
		cmocka_unit_test(every_stage_has_a_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
