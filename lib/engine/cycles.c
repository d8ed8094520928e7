/* SPDX-License-Identifier: BSD-3-Clause */
#include <string.h>

#include "cycles.h"

#define COST_TRIES 1000

/** xorshift32: uniform enough for this, and three instructions. */
static uint32_t draw(struct bw_cycles *c)
{
	c->chance ^= c->chance << 13;
	c->chance ^= c->chance >> 17;
	c->chance ^= c->chance << 5;
	return c->chance;
}

/** From one reading to the next with nothing between, when nothing disturbs. */
static uint32_t reading_cost(void)
{
	uint64_t least = UINT32_MAX;

	for (unsigned i = 0; i < COST_TRIES; i++) {
		uint64_t before = bw_clock_cycles(), took = bw_clock_cycles() - before;

		least = BW_MIN(least, took);
	}
	return (uint32_t)least;
}

void bw_cycles_start(struct bw_cycles *c)
{
	*c = (struct bw_cycles){
		.chance = 0x9e3779b9,
		.reading_cost = reading_cost(),
		.turns_left = BW_CYCLES_SAMPLE,
	};
}

void bw_cycles_turn_begin(struct bw_cycles *c, uint64_t tsc)
{
	if (c->turns_left == 0 || --c->turns_left > 0)
		return;
	c->turns_left = 1 + draw(c) % (2 * BW_CYCLES_SAMPLE - 1);
	memset(c->turn, 0, sizeof(c->turn));
	c->stage = BW_STAGE_TURN;
	c->entered_at = tsc;
	c->is_sampled = true;
}

void bw_cycles__charge(struct bw_cycles *c, enum bw_stage next, uint64_t tsc)
{
	uint64_t took = tsc - c->entered_at;

	c->turn[c->stage] += took - BW_MIN(took, (uint64_t)c->reading_cost);
	c->stage = (uint8_t)next;
	c->entered_at = tsc;
}

void bw_cycles_turn_end(struct bw_cycles *c, uint64_t tsc, bool had_work)
{
	bw_cycles__charge(c, BW_STAGE_TURN, tsc);
	c->is_sampled = false;
	if (!had_work)
		return;
	for (unsigned i = 0; i < BW_STAGE_COUNT; i++)
		c->sum[i] += c->turn[i];
	c->turns++;
}
