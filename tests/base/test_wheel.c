/* SPDX-License-Identifier: BSD-3-Clause */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <base/wheel.h>

#define TICK  BW_WHEEL_TICK_NS
#define MS(n) ((bw_ns)(n)*BW_NS_PER_MS)
#define START (MS(1000) + 12345)

static struct bw_wheel wheel;

/* The timers that fired, in order, and what a callback is to do when its timer's kind is `trigger`. */
static struct {
	uint32_t kinds[64];
	unsigned count;
	struct bw_timer *victim;
	bw_ns rearm_at;
	uint32_t trigger;
} seen;

static void record(void *ctx, struct bw_timer *timer, bw_ns now)
{
	assert_ptr_equal(ctx, &seen);
	assert_false(bw_timer_is_armed(timer));
	assert_false(bw_link_is_linked(&timer->link));
	assert_true(seen.count < BW_ARRAY_LEN(seen.kinds));
	seen.kinds[seen.count++] = timer->kind;
	if (seen.trigger == timer->kind && seen.victim != NULL)
		bw_timer_arm(&wheel, seen.victim, seen.rearm_at);
}

static int set_up(void **state)
{
	memset(&seen, 0, sizeof(seen));
	seen.trigger = UINT32_MAX;
	bw_wheel_init(&wheel, START);
	return 0;
}

static unsigned advance(bw_ns now, unsigned max)
{
	seen.count = 0;
	return bw_wheel_advance(&wheel, now, max, record, &seen);
}

static void never_early_and_at_most_a_tick_late(void **state)
{
	struct bw_timer timer;
	const bw_ns deadline = START + MS(7) + 1;
	const bw_ns tick_at = (deadline / TICK + 1) * TICK;

	bw_timer_init(&timer, 1);
	bw_timer_arm(&wheel, &timer, deadline);
	assert_true(bw_timer_is_armed(&timer));
	assert_int_equal(bw_wheel_next(&wheel), tick_at);

	assert_int_equal(advance(deadline - 1, UINT_MAX), 0);
	assert_int_equal(advance(tick_at - 1, UINT_MAX), 0);
	assert_int_equal(advance(tick_at, UINT_MAX), 1);
	assert_int_equal(seen.kinds[0], 1);
	assert_int_equal(wheel.armed_count, 0);
	assert_true(bw_wheel_next(&wheel) == BW_NEVER);
	assert_int_equal(advance(tick_at + MS(100000), UINT_MAX), 0);
}

static void deadline_on_a_tick_is_not_a_tick_late(void **state)
{
	struct bw_timer timer;

	bw_timer_init(&timer, 1);
	bw_timer_arm(&wheel, &timer, MS(1010));
	assert_int_equal(advance(MS(1010) - 1, UINT_MAX), 0);
	assert_int_equal(advance(MS(1010), UINT_MAX), 1);
}

static void past_deadline_fires_at_the_next_advance_even_within_the_tick(void **state)
{
	struct bw_timer timer;

	bw_timer_init(&timer, 1);
	bw_timer_arm(&wheel, &timer, START - MS(500));
	assert_true(bw_wheel_next(&wheel) <= START);
	assert_int_equal(advance(START, UINT_MAX), 1);
}

static void never_is_not_armed(void **state)
{
	struct bw_timer timer;

	bw_timer_init(&timer, 1);
	bw_timer_cancel(&wheel, &timer);
	bw_timer_arm(&wheel, &timer, START + MS(5));
	bw_timer_arm(&wheel, &timer, BW_NEVER);
	assert_false(bw_timer_is_armed(&timer));
	assert_int_equal(wheel.armed_count, 0);
	assert_int_equal(advance(START + MS(50), UINT_MAX), 0);
}

static void every_level_and_beyond_the_horizon(void **state)
{
	static const bw_ns after[] = { MS(1), MS(255), MS(256), MS(70000), MS(20000000), MS(4294967296),
		MS(30000000000) };
	struct bw_timer timers[BW_ARRAY_LEN(after)];

	for (unsigned i = 0; i < BW_ARRAY_LEN(after); i++) {
		bw_timer_init(&timers[i], i);
		bw_timer_arm(&wheel, &timers[i], MS(1001) + after[i]);
	}
	for (unsigned i = 0; i < BW_ARRAY_LEN(after); i++) {
		assert_true(bw_wheel_next(&wheel) <= MS(1001) + after[i]);
		assert_int_equal(advance(MS(1001) + after[i] - 1, UINT_MAX), 0);
		assert_int_equal(advance(MS(1001) + after[i], UINT_MAX), 1);
		assert_int_equal(seen.kinds[0], i);
	}
}

static void one_jump_fires_all_in_the_order_of_ticks(void **state)
{
	static const bw_ns after[] = { MS(900000), MS(3), MS(5000000000), MS(300), MS(2), MS(70000) };
	static const uint32_t order[] = { 4, 1, 3, 5, 0, 2 };
	struct bw_timer timers[BW_ARRAY_LEN(after)];

	for (unsigned i = 0; i < BW_ARRAY_LEN(after); i++) {
		bw_timer_init(&timers[i], i);
		bw_timer_arm(&wheel, &timers[i], START + after[i]);
	}
	assert_int_equal(advance(START + MS(6000000000), UINT_MAX), BW_ARRAY_LEN(after));
	assert_memory_equal(seen.kinds, order, sizeof(order));
}

static void max_cuts_and_the_rest_is_due_at_once(void **state)
{
	static const uint32_t rest[] = { 3, 4 };
	struct bw_timer timers[5];

	for (unsigned i = 0; i < 5; i++) {
		bw_timer_init(&timers[i], i);
		bw_timer_arm(&wheel, &timers[i], START + MS(10 + i));
	}
	assert_int_equal(advance(START + MS(100), 0), 0);
	assert_int_equal(advance(START + MS(100), 3), 3);
	assert_true(bw_wheel_next(&wheel) <= START + MS(100));
	assert_int_equal(wheel.armed_count, 2);
	assert_int_equal(advance(START + MS(100), 3), 2);
	assert_memory_equal(seen.kinds, rest, sizeof(rest));
}

/*
 * All deadlines in one slot of level 2: a call moves a bounded number of them, and none is lost or out of
 * order.
 */
static void crowded_slot_moves_down_in_bounded_steps(void **state)
{
	enum {
		COUNT = 2000
	};
	static struct bw_timer timers[COUNT];
	const bw_ns first = MS(2 * 65536 + 100), now = MS(3 * 65536);
	unsigned fired = 0, calls = 0, last_kind = 0;

	for (unsigned i = 0; i < COUNT; i++) {
		bw_timer_init(&timers[i], i);
		bw_timer_arm(&wheel, &timers[i], first + MS(i * 10));
	}
	while (wheel.armed_count > 0) {
		const unsigned here = advance(now, 10);

		assert_true(here <= 10);
		for (unsigned i = 0; i < here; i++) {
			assert_true(fired == 0 || seen.kinds[i] > last_kind);
			last_kind = seen.kinds[i];
			fired++;
		}
		if (wheel.armed_count > 0)
			assert_true(bw_wheel_next(&wheel) <= now);
		assert_true(++calls < 2 * COUNT);
	}
	assert_int_equal(fired, COUNT);
	assert_true(calls > COUNT / 40);
}

static void callback_rearms_itself_for_the_past_and_the_call_ends(void **state)
{
	struct bw_timer timer;

	bw_timer_init(&timer, 1);
	bw_timer_arm(&wheel, &timer, START);
	seen.trigger = 1;
	seen.victim = &timer;
	seen.rearm_at = START;
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(advance(START + MS(1), UINT_MAX), 1);
	assert_int_equal(wheel.armed_count, 1);
}

static void callback_cancels_a_timer_of_the_slot_being_fired(void **state)
{
	static const uint32_t left[] = { 0, 2 };
	struct bw_timer timers[3];

	for (unsigned i = 0; i < 3; i++) {
		bw_timer_init(&timers[i], i);
		bw_timer_arm(&wheel, &timers[i], START + MS(4));
	}
	seen.trigger = 0;
	seen.victim = &timers[1];
	seen.rearm_at = BW_NEVER;
	assert_int_equal(advance(START + MS(9), UINT_MAX), 2);
	assert_memory_equal(seen.kinds, left, sizeof(left));
	assert_int_equal(wheel.armed_count, 0);
}

static void callback_puts_off_a_timer_of_the_slot_being_fired(void **state)
{
	struct bw_timer timers[2];

	for (unsigned i = 0; i < 2; i++) {
		bw_timer_init(&timers[i], i);
		bw_timer_arm(&wheel, &timers[i], START + MS(4));
	}
	seen.trigger = 0;
	seen.victim = &timers[1];
	seen.rearm_at = START + MS(500);
	assert_int_equal(advance(START + MS(9), UINT_MAX), 1);
	assert_int_equal(advance(START + MS(499), UINT_MAX), 0);
	assert_int_equal(advance(START + MS(501), UINT_MAX), 1);
	assert_int_equal(seen.kinds[0], 1);
}

/*
 * ------------------------------------------------------------------- against a model that looks at every
 * timer
 */

#define TIMERS 200

static struct {
	struct bw_timer timer;
	bw_ns expires_at;   /* as the model has it; BW_NEVER when not armed */
	bool is_from_ahead; /* armed for the future: subject to the order of ticks */
	unsigned round;     /* in which it was armed */
} model[TIMERS];

static struct {
	uint64_t random;
	unsigned round;
	uint64_t tick_last; /* of the last timer from ahead that fired in this round */
	bw_ns now;
} run;

static uint64_t random_u64(void)
{
	run.random ^= run.random << 13;
	run.random ^= run.random >> 7;
	run.random ^= run.random << 17;
	return run.random;
}

static uint64_t tick_of(bw_ns at)
{
	return (at + TICK - 1) / TICK;
}

static bw_ns random_deadline(void)
{
	/* From nanoseconds to far beyond the horizon, now and then in the past. */
	const bw_ns span = 1ull << (10 + random_u64() % 46);

	if (random_u64() % 16 == 0)
		return run.now - random_u64() % BW_MIN(run.now, span);
	return run.now + random_u64() % span;
}

static void arm_random(unsigned i)
{
	model[i].expires_at = random_u64() % 8 == 0 ? BW_NEVER : random_deadline();
	model[i].is_from_ahead = tick_of(model[i].expires_at) > wheel.tick_now;
	model[i].round = run.round;
	if (model[i].expires_at == BW_NEVER && random_u64() % 2 == 0)
		bw_timer_cancel(&wheel, &model[i].timer);
	else
		bw_timer_arm(&wheel, &model[i].timer, model[i].expires_at);
}

static void fire_model(void *ctx, struct bw_timer *timer, bw_ns now)
{
	const unsigned i = timer->kind;
	const uint64_t tick = tick_of(model[i].expires_at);

	assert_ptr_equal(timer, &model[i].timer);
	assert_true(model[i].expires_at != BW_NEVER);
	assert_true(model[i].expires_at <= now);
	if (model[i].is_from_ahead && model[i].round < run.round) {
		assert_true(tick >= run.tick_last);
		run.tick_last = tick;
	}
	model[i].expires_at = BW_NEVER;
	for (unsigned n = (unsigned)(random_u64() % 4); n > 1; n--)
		arm_random((unsigned)(random_u64() % TIMERS));
}

static void check_invariants(void)
{
	uint64_t armed = 0;
	bw_ns earliest = BW_NEVER;

	for (unsigned i = 0; i < TIMERS; i++) {
		assert_true(model[i].timer.expires_at == model[i].expires_at);
		armed += model[i].expires_at != BW_NEVER;
		if (model[i].expires_at != BW_NEVER)
			earliest =
				BW_MIN(earliest, BW_MAX(tick_of(model[i].expires_at), wheel.tick_now) * TICK);
	}
	assert_int_equal(wheel.armed_count, armed);
	assert_true(bw_wheel_next(&wheel) <= earliest);
	assert_true((bw_wheel_next(&wheel) == BW_NEVER) == (armed == 0));
	for (unsigned level = 0; level < BW_WHEEL_LEVELS; level++) {
		for (unsigned slot = 0; slot < BW_WHEEL_SLOTS; slot++) {
			const bool is_marked = wheel.occupied[level][slot / 64] >> slot % 64 & 1;

			assert_int_equal(is_marked, !bw_list_is_empty(&wheel.slot[level][slot]));
		}
	}
}

/*
 * Advance until the wheel itself says that it has nothing to do now; then nothing of before this round is
 * due.
 */
static void advance_and_check(bw_ns now)
{
	const unsigned max = random_u64() % 2 == 0 ? UINT_MAX : 1 + (unsigned)(random_u64() % 8);
	unsigned calls = 0;

	run.round++;
	run.now = now;
	run.tick_last = 0;
	do {
		assert_true(bw_wheel_advance(&wheel, now, max, fire_model, NULL) <= max);
		assert_true(++calls < 100000);
		check_invariants();
	} while (bw_wheel_next(&wheel) <= now);
	for (unsigned i = 0; i < TIMERS; i++)
		assert_true(model[i].expires_at == BW_NEVER || tick_of(model[i].expires_at) > now / TICK);
}

static void agrees_with_a_model(void **state)
{
	for (uint64_t seed = 1; seed <= 40; seed++) {
		run.random = seed * 0x9e3779b97f4a7c15u;
		run.now = START + (seed % 4 == 0 ? MS(4294967296) - MS(2000) : 0);
		bw_wheel_init(&wheel, run.now);
		for (unsigned i = 0; i < TIMERS; i++) {
			bw_timer_init(&model[i].timer, i);
			model[i].expires_at = BW_NEVER;
		}
		for (unsigned step = 0; step < 100; step++) {
			bw_ns now = run.now;

			for (unsigned n = (unsigned)(random_u64() % 16); n > 0; n--)
				arm_random((unsigned)(random_u64() % TIMERS));
			check_invariants();
			switch (random_u64() % 4) {
			case 0: /* an ordinary turn */
				now += random_u64() % MS(3);
				break;
			case 1: /* asleep until the wheel's own next event, or just short of it */
				if (bw_wheel_next(&wheel) != BW_NEVER && bw_wheel_next(&wheel) > now)
					now = bw_wheel_next(&wheel) - random_u64() % 2;
				break;
			default:
				now += random_u64() % (1ull << (10 + random_u64() % 44));
			}
			advance_and_check(now);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(never_early_and_at_most_a_tick_late, set_up),
		cmocka_unit_test_setup(deadline_on_a_tick_is_not_a_tick_late, set_up),
		cmocka_unit_test_setup(past_deadline_fires_at_the_next_advance_even_within_the_tick, set_up),
		cmocka_unit_test_setup(never_is_not_armed, set_up),
		cmocka_unit_test_setup(every_level_and_beyond_the_horizon, set_up),
		cmocka_unit_test_setup(one_jump_fires_all_in_the_order_of_ticks, set_up),
		cmocka_unit_test_setup(max_cuts_and_the_rest_is_due_at_once, set_up),
		cmocka_unit_test_setup(crowded_slot_moves_down_in_bounded_steps, set_up),
		cmocka_unit_test_setup(callback_rearms_itself_for_the_past_and_the_call_ends, set_up),
		cmocka_unit_test_setup(callback_cancels_a_timer_of_the_slot_being_fired, set_up),
		cmocka_unit_test_setup(callback_puts_off_a_timer_of_the_slot_being_fired, set_up),
		cmocka_unit_test_setup(agrees_with_a_model, set_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
