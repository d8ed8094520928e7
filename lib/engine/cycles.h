/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Where a worker's cycles go, by stage: `cycles` of the configuration. Internal to the room.
 *
 * At any moment a worker is in one stage, and bw_stage_enter() charges what has passed to the one that it leaves. So
 * stages nest: a service is called from within TCP's input, and its cycles are the service's, not TCP's.
 *
 * A reading of the TSC costs some 20 cycles on a virtual machine, and a request passes a dozen stages: counted always,
 * stages would cost 5 % and more. So they are counted in one turn of BW_CYCLES_SAMPLE on average, at random so that no
 * pattern of the traffic falls in step with it, and what readings themselves cost is taken off. Turns without work are
 * forgotten. The rest of the turns pay for one branch a stage, which is never taken, as do all when this is off.
 *
 * Who shows them divides the busy cycles, which are counted always and exactly, in proportion.
 */
#pragma once

#include <base/clock.h>
#include <engine/engine.h>

#define BW_CYCLES_SAMPLE 32 /* one turn in so many */

struct bw_cycles {
	/* the turn */
	bool is_sampled;     /* this one */
	uint8_t stage;       /* enum bw_stage, now */
	uint32_t turns_left; /* until one is; 0: never */
	uint64_t entered_at;
	uint64_t turn[BW_STAGE_COUNT];

	uint32_t chance;       /* the state of a generator */
	uint32_t reading_cost; /* cycles */

	uint64_t sum[BW_STAGE_COUNT]; /* of the turns that had work. Read by anyone */
	uint64_t turns;               /* how many those were */
};

/** Off until bw_cycles_start(). */
void bw_cycles_start(struct bw_cycles *c);
/** A turn begins, at a TSC that was read: is it one that counts? */
void bw_cycles_turn_begin(struct bw_cycles *c, uint64_t tsc);
/** The turn that counts is over. */
void bw_cycles_turn_end(struct bw_cycles *c, uint64_t tsc, bool had_work);
void bw_cycles__charge(struct bw_cycles *c, enum bw_stage next, uint64_t tsc);

/** From now on the worker is in that stage. Returns the one that it was in, to go back to. */
static inline enum bw_stage bw_stage_enter(struct bw_cycles *c, enum bw_stage stage)
{
	enum bw_stage left = (enum bw_stage)c->stage;

	if (bw_unlikely(c->is_sampled))
		bw_cycles__charge(c, stage, bw_clock_cycles());
	return left;
}
