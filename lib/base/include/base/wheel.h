/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Hierarchical timing wheel: O(1) arm and cancel, nothing is scanned (Varghese and Lauck, 1987).
 *
 * 4 levels of 256 slots; the finest tick is BW_WHEEL_TICK_NS, so the horizon is about 50 days. A timer fires
 * at the first bw_wheel_advance() whose `now` is at or after its deadline rounded up to a tick: never early,
 * at most one tick late. Timers that fall due together fire in the order of their ticks. Deadlines beyond the
 * horizon are kept aside and fire when they say, too.
 */
#pragma once

#include <base/list.h>

#define BW_WHEEL_TICK_NS (BW_NS_PER_MS)
#define BW_WHEEL_LEVELS  4
#define BW_WHEEL_SLOTS   256

/** 32 bytes. Zeroed memory is not a valid timer: bw_timer_init() first. */
struct bw_timer {
	struct bw_link link;
	bw_ns expires_at; /* BW_NEVER when not armed */
	uint32_t kind;    /* the owner's tag: which of its timers this is */
	uint32_t note;    /* the owner's, for whatever it likes: no wheel looks at it */
};

struct bw_wheel {
	uint64_t tick_now; /* timers with tick <= tick_now have fired or are in `due` */
	uint64_t armed_count;
	struct bw_list due; /* to be fired by the next advance, whatever its `now` */
	struct bw_list far; /* beyond the horizon */
	uint64_t occupied[BW_WHEEL_LEVELS][BW_WHEEL_SLOTS / 64]; /* a bit for each slot that holds timers */
	struct bw_list slot[BW_WHEEL_LEVELS][BW_WHEEL_SLOTS];
};

typedef void bw_timer_fn(void *ctx, struct bw_timer *timer, bw_ns now);

void bw_wheel_init(struct bw_wheel *wheel, bw_ns now);

static inline void bw_timer_init(struct bw_timer *timer, uint32_t kind)
{
	bw_link_init(&timer->link);
	timer->expires_at = BW_NEVER;
	timer->kind = kind;
}

static inline bool bw_timer_is_armed(const struct bw_timer *timer)
{
	return timer->expires_at != BW_NEVER;
}

/** Arm, or re-arm. A deadline in the past fires at the next advance; BW_NEVER is the same as to cancel. */
void bw_timer_arm(struct bw_wheel *wheel, struct bw_timer *timer, bw_ns expires_at);

/** Harmless on a timer that is not armed. */
void bw_timer_cancel(struct bw_wheel *wheel, struct bw_timer *timer);

/**
 * Fire what is due. A timer is unarmed before `fire` is called, which may arm or cancel any timer, itself
 * included; one that it arms for the past fires at the next advance, so a call always ends.
 *
 * @now  never decreasing
 * @max  fire at most this many (UINT_MAX for all), and move at most a small multiple of it between levels, so
 *       that a call's time is bounded however many timers fall due; the rest is due at once at the next call
 * Returns how many fired. Cost: O(fired + slots passed that hold timers).
 */
unsigned bw_wheel_advance(struct bw_wheel *wheel, bw_ns now, unsigned max, bw_timer_fn *fire, void *ctx);

/**
 * A lower bound of the time from which an advance has something to fire: not after `now` when there is
 * something already, BW_NEVER when nothing is armed. Cost: a few words.
 */
bw_ns bw_wheel_next(const struct bw_wheel *wheel);
