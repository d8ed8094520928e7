/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Theory of operation. Time is counted in ticks. A timer's place is fixed by the highest byte in which its
 * tick differs from tick_now: that byte's position is the level, its value in the timer's tick is the slot.
 *
 *     tick_now  00 00 01 f0
 *     timer     00 00 01 f7    level 0, slot f7: fires at that very tick
 *     timer     00 00 03 02    level 1, slot 03: moves down when tick_now reaches 00 00 03 00
 *     timer     01 ...         level 3, slot 01
 *
 * So at every level only slots above tick_now's own byte hold timers, all of a level's timers are due before
 * all of the next level's, and the next thing to do is the lowest bit of the first level that has one: no
 * wrap, no search. What differs above the four bytes waits in `far`, which is sorted in again every 2^32
 * ticks.
 *
 * Advancing has two steps. Collect: go from event to event up to the target, where an event is a slot of
 * level 0, spliced onto `due` whole, or of a higher level, whose timers move down (or onto `due`). Fire: take
 * what was due when the step began, at most `max`. As collecting runs ahead of firing, `due` also holds what
 * `max` cut off and what was armed for the past, and a callback that re-arms for the past cannot prolong the
 * call.
 *
 * A slot may hold very many timers (idle connections all have deadlines of about the same length), so moving
 * down is cut off too, at a small multiple of `max`. tick_now then stands at that slot's first tick while the
 * slot still holds timers: the one case of a timer in a slot at, not above, tick_now's byte. They go first
 * when the next call goes on.
 */
#include <limits.h>

#include <base/assert.h>
#include <base/wheel.h>

#define LEVEL_BITS 8
#define TICK_BITS  (LEVEL_BITS * BW_WHEEL_LEVELS)
#define WORDS      (BW_WHEEL_SLOTS / 64)
#define NO_EVENT   UINT64_MAX

/* Moves between levels that one call may do, for each timer that it may fire. */
#define MOVES_PER_FIRE 4

_Static_assert(BW_WHEEL_SLOTS == 1 << LEVEL_BITS, "a level is a byte of the tick");
_Static_assert(sizeof(struct bw_timer) == 32, "two timers a cache line");

static uint64_t tick_at_or_after(bw_ns at)
{
	return at / BW_WHEEL_TICK_NS + (at % BW_WHEEL_TICK_NS != 0);
}

static unsigned byte_of(uint64_t tick, unsigned level)
{
	return tick >> (level * LEVEL_BITS) & (BW_WHEEL_SLOTS - 1);
}

static void mark(struct bw_wheel *wheel, unsigned level, unsigned slot)
{
	wheel->occupied[level][slot / 64] |= 1ull << slot % 64;
}

static void unmark(struct bw_wheel *wheel, unsigned level, unsigned slot)
{
	wheel->occupied[level][slot / 64] &= ~(1ull << slot % 64);
}

static bool is_marked(const struct bw_wheel *wheel, unsigned level, unsigned slot)
{
	return wheel->occupied[level][slot / 64] >> slot % 64 & 1;
}

/* The level's first occupied slot, or BW_WHEEL_SLOTS. */
static unsigned first_slot(const struct bw_wheel *wheel, unsigned level)
{
	for (unsigned word = 0; word < WORDS; word++) {
		if (wheel->occupied[level][word] != 0)
			return word * 64 + (unsigned)__builtin_ctzll(wheel->occupied[level][word]);
	}
	return BW_WHEEL_SLOTS;
}

/* Append all of `from`, which is left empty. */
static void splice_back(struct bw_list *to, struct bw_list *from)
{
	if (bw_list_is_empty(from))
		return;
	from->head.next->prev = to->head.prev;
	to->head.prev->next = from->head.next;
	from->head.prev->next = &to->head;
	to->head.prev = from->head.prev;
	bw_list_init(from);
}

static void place(struct bw_wheel *wheel, struct bw_timer *timer)
{
	const uint64_t tick = tick_at_or_after(timer->expires_at);
	const uint64_t differ = tick ^ wheel->tick_now;

	if (tick <= wheel->tick_now) {
		bw_list_push_back(&wheel->due, &timer->link);
	} else if (differ >> TICK_BITS != 0) {
		bw_list_push_back(&wheel->far, &timer->link);
	} else {
		const unsigned level = (63 - (unsigned)__builtin_clzll(differ)) / LEVEL_BITS;
		const unsigned slot = byte_of(tick, level);

		bw_list_push_back(&wheel->slot[level][slot], &timer->link);
		mark(wheel, level, slot);
	}
}

/* Unlink, and clear the mark of the slot that this leaves empty. */
static void displace(struct bw_wheel *wheel, struct bw_timer *timer)
{
	const struct bw_link *const head = timer->link.next;
	const bool is_last = head == timer->link.prev;
	const uintptr_t offset = (uintptr_t)head - (uintptr_t)wheel->slot;

	bw_link_remove(&timer->link);
	/*
	 * With nothing else in the list, its neighbour is the list's head, which tells the slot, if it is
	 * one.
	 */
	if (is_last && offset < sizeof(wheel->slot)) {
		const unsigned index = (unsigned)(offset / sizeof(struct bw_list));

		unmark(wheel, index / BW_WHEEL_SLOTS, index % BW_WHEEL_SLOTS);
	}
}

void bw_wheel_init(struct bw_wheel *wheel, bw_ns now)
{
	*wheel = (struct bw_wheel){ .tick_now = now / BW_WHEEL_TICK_NS };
	bw_list_init(&wheel->due);
	bw_list_init(&wheel->far);
	for (unsigned level = 0; level < BW_WHEEL_LEVELS; level++) {
		for (unsigned slot = 0; slot < BW_WHEEL_SLOTS; slot++)
			bw_list_init(&wheel->slot[level][slot]);
	}
}

void bw_timer_arm(struct bw_wheel *wheel, struct bw_timer *timer, bw_ns expires_at)
{
	bw_timer_cancel(wheel, timer);
	if (expires_at == BW_NEVER)
		return;
	timer->expires_at = expires_at;
	wheel->armed_count++;
	place(wheel, timer);
}

void bw_timer_cancel(struct bw_wheel *wheel, struct bw_timer *timer)
{
	if (!bw_timer_is_armed(timer))
		return;
	BW_ASSERT_LT(0, wheel->armed_count);
	displace(wheel, timer);
	timer->expires_at = BW_NEVER;
	wheel->armed_count--;
}

/*
 * The slot that was cut off in the middle of moving down: there is one at most, as it is what stops
 * collect().
 */
static bool find_unfinished(const struct bw_wheel *wheel, unsigned *level)
{
	for (*level = 1; *level < BW_WHEEL_LEVELS; ++*level) {
		if (is_marked(wheel, *level, byte_of(wheel->tick_now, *level)))
			return true;
	}
	return false;
}

/* The tick of the next event above tick_now, and the level it is at: BW_WHEEL_LEVELS stands for `far`. */
static uint64_t next_event(const struct bw_wheel *wheel, unsigned *level)
{
	for (*level = 0; *level < BW_WHEEL_LEVELS; ++*level) {
		const unsigned slot = first_slot(wheel, *level);

		if (slot < BW_WHEEL_SLOTS) {
			const unsigned shift = *level * LEVEL_BITS;
			const uint64_t above = wheel->tick_now >> (shift + LEVEL_BITS)
									  << (shift + LEVEL_BITS);

			return above | (uint64_t)slot << shift;
		}
	}
	if (bw_list_is_empty(&wheel->far))
		return NO_EVENT;
	return ((wheel->tick_now >> TICK_BITS) + 1) << TICK_BITS;
}

/* Place the timers of a list anew, as tick_now has reached them. False: *moves_left ran out first. */
static bool move_down(struct bw_wheel *wheel, struct bw_list *from, uint64_t *moves_left)
{
	while (!bw_list_is_empty(from)) {
		if (*moves_left == 0)
			return false;
		--*moves_left;
		place(wheel, bw_container_of(bw_list_pop_front(from), struct bw_timer, link));
	}
	return true;
}

/* The same for a slot of a level above 0. */
static bool move_slot_down(struct bw_wheel *wheel, unsigned level, uint64_t *moves_left)
{
	const unsigned slot = byte_of(wheel->tick_now, level);

	if (!move_down(wheel, &wheel->slot[level][slot], moves_left))
		return false;
	unmark(wheel, level, slot);
	return true;
}

/* Bring tick_now up to `target`, or to where the moves run out, and everything up to there onto `due`. */
static void collect(struct bw_wheel *wheel, uint64_t target, uint64_t moves_left)
{
	unsigned level;

	if (find_unfinished(wheel, &level) && !move_slot_down(wheel, level, &moves_left))
		return;

	for (;;) {
		const uint64_t tick = next_event(wheel, &level);

		if (tick > target)
			break;
		wheel->tick_now = tick;
		if (level == 0) {
			const unsigned slot = byte_of(tick, 0);

			splice_back(&wheel->due, &wheel->slot[0][slot]);
			unmark(wheel, 0, slot);
		} else if (level < BW_WHEEL_LEVELS) {
			if (!move_slot_down(wheel, level, &moves_left))
				return;
		} else {
			/*
			 * Once in 50 days, and what is still too far comes back to the list's end, so the
			 * list is taken off first and never cut off: it has no place at which to go on.
			 */
			struct bw_list far;
			uint64_t all = UINT64_MAX;

			bw_list_init(&far);
			splice_back(&far, &wheel->far);
			move_down(wheel, &far, &all);
		}
	}
	wheel->tick_now = BW_MAX(wheel->tick_now, target);
}

unsigned bw_wheel_advance(struct bw_wheel *wheel, bw_ns now, unsigned max, bw_timer_fn *fire, void *ctx)
{
	struct bw_list batch;
	unsigned fired = 0;

	collect(wheel, now / BW_WHEEL_TICK_NS, max == UINT_MAX ? UINT64_MAX : (uint64_t)max * MOVES_PER_FIRE);

	/* Off `due`, to which the callbacks may add. They may cancel a timer of the batch as any other. */
	bw_list_init(&batch);
	splice_back(&batch, &wheel->due);
	while (fired < max && !bw_list_is_empty(&batch)) {
		struct bw_timer *timer = bw_container_of(bw_list_first(&batch), struct bw_timer, link);

		bw_timer_cancel(wheel, timer);
		fire(ctx, timer, now);
		fired++;
	}

	/* What `max` cut off comes before what was added meanwhile. */
	splice_back(&batch, &wheel->due);
	splice_back(&wheel->due, &batch);
	return fired;
}

bw_ns bw_wheel_next(const struct bw_wheel *wheel)
{
	unsigned level;
	uint64_t tick;

	if (wheel->armed_count == 0)
		return BW_NEVER;
	if (!bw_list_is_empty(&wheel->due) || find_unfinished(wheel, &level))
		return wheel->tick_now * BW_WHEEL_TICK_NS;
	tick = next_event(wheel, &level);
	return tick == NO_EVENT ? BW_NEVER : tick * BW_WHEEL_TICK_NS;
}
