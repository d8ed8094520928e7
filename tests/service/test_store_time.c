/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How long a single insertion takes, when it grows the index, evicts, or moves keys.
 *
 * A virtual machine's host takes the processor away when it likes, for longer than anything that is measured here. So
 * each story is told several times. The store does the same at the same place each time, so a pause of its own comes back
 * there and one of the host's does not: what counts for a place is the least of the runs.
 */
#include <base/clock.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "resp/sweep.h"
#include "resp/warm.h"
#include "store_rig.h"

#define RUNS         5
#define PAUSE_NS_MAX 50000u
#define PAUSE_LOADS  250u /* what that is where memory answers in 200 ns; a machine may be slower */
#define CHASE_BYTES  (256u << 20)
#define CHASE_LOADS  200000u

struct times {
	uint32_t *least; /* ns, by place */
	uint32_t count, at;
	uint64_t raw_max;
};

static void times_init(struct times *times, uint32_t count)
{
	times->least = malloc(count * sizeof(*times->least));
	memset(times->least, 0xff, count * sizeof(*times->least));
	times->count = count;
	times->raw_max = 0;
}

static void times_add(struct times *times, bw_ns from)
{
	uint64_t took = bw_clock_now() - from;
	uint32_t *least = &times->least[times->at++];

	times->raw_max = BW_MAX(times->raw_max, took);
	*least = (uint32_t)BW_MIN((uint64_t)*least, took);
}

static int by_size(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/*
 * How long a load takes that no cache has, the least of some runs. Evictions are little else: one by one, each key's
 * index entry and value lie anywhere.
 */
static uint64_t load_ns(void)
{
	const size_t count = CHASE_BYTES / BW_CACHE_LINE, step = 5 * 1024 * 1024 / BW_CACHE_LINE + 1;
	char *memory = aligned_alloc(BW_CACHE_LINE, CHASE_BYTES);
	bw_ns least = BW_NEVER;
	size_t at = 0;

	assert_non_null(memory);
	for (size_t i = 0; i < count; i++)
		*(size_t *)(void *)(memory + i * BW_CACHE_LINE) = (i * 2654435761u + step) % count;
	for (unsigned run = 0; run < RUNS; run++) {
		bw_ns from = bw_clock_now();

		for (unsigned i = 0; i < CHASE_LOADS; i++)
			at = *(const size_t *)(const void *)(memory + at * BW_CACHE_LINE);
		least = BW_MIN(least, (bw_clock_now() - from) / CHASE_LOADS);
	}
	assert_true(at < count); /* so that the loads are made */
	free(memory);
	return least;
}

/*
 * 50 us, or as many loads on a machine whose memory is slower. It is asked at the end of each measurement, since who runs
 * beside us makes memory half again as slow: what counts is the slowest so far.
 */
static uint64_t pause_ns_max(void)
{
	static uint64_t load;

	load = BW_MAX(load, load_ns());
	print_message("a load takes up to %llu ns\n", (unsigned long long)load);
	return BW_MAX((uint64_t)PAUSE_NS_MAX, PAUSE_LOADS * load);
}

/* Print what there is, and hold it to the bound. */
static void times_end(struct times *times, const char *what, uint64_t ns_max)
{
	uint32_t *sorted = times->least, n = times->count;

	assert_int_equal(times->at, n);
	qsort(sorted, n, sizeof(*sorted), by_size);
	print_message(
		"%s: p50 %u, p99 %u, p99.99 %u, longest %u ns; with what the host took, of a single run %llu ns\n",
		what, sorted[n / 2], sorted[n - n / 100 - 1], sorted[n - n / 10000 - 1], sorted[n - 1],
		(unsigned long long)times->raw_max);
	assert_true(sorted[n - 1] <= ns_max);
	free(times->least);
}

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 32) * 0xd6e8feb86659fd93ull;
	x = (x ^ x >> 32) * 0xd6e8feb86659fd93ull;
	return x ^ x >> 32;
}

static const uint8_t bytes[4096];

static struct bw_resp__item *put(struct rig *rig, uint64_t key, uint32_t len)
{
	struct bw_resp__value value = { .data = bytes, .len = len };

	return bw_resp__store_put(
		&rig->store, (uint32_t)mix(key), (const uint8_t *)&key, sizeof(key), &value, 0);
}

/* Sizes of all classes alike, from 16 bytes to 4 KiB. */
static uint32_t mixed_len(uint64_t key)
{
	uint64_t r = mix(key + 1);

	return (16u << r % 8) + (uint32_t)(r >> 8) % (16u << r % 8);
}

/* ---- memory ahead of its use, as a worker and its helper thread do it ---- */

struct helper {
	struct bw_resp__warm warm;
	pthread_t thread;
	bool is_asked, ends; /* atomic */
};

static void *help(void *arg)
{
	struct helper *h = arg;

	while (!__atomic_load_n(&h->ends, __ATOMIC_ACQUIRE)) {
		if (__atomic_load_n(&h->is_asked, __ATOMIC_ACQUIRE)) {
			bw_resp__warm_work(&h->warm);
			__atomic_store_n(&h->is_asked, false, __ATOMIC_RELEASE);
		} else {
			usleep(50);
		}
	}
	return NULL;
}

static void helper_ask(struct helper *h, const struct rig *rig)
{
	if (__atomic_load_n(&h->is_asked, __ATOMIC_ACQUIRE))
		return;
	if (bw_resp__warm_is_due(&h->warm, (uint64_t[]){ rig->store.slab.pages_touched * BW_RESP__PAGE_BYTES,
						   bw_resp__store_index_used_bytes(&rig->store) }))
		__atomic_store_n(&h->is_asked, true, __ATOMIC_RELEASE);
}

static void helper_start(struct helper *h, const struct rig *rig)
{
	*h = (struct helper){ 0 };
	bw_resp__warm_init(&h->warm,
		(struct bw_resp__warm_region[]){
			{ .base = rig->values, .bytes = rig->values_bytes, .ahead_bytes = 4u << 20 },
			{ .base = rig->index, .bytes = rig->index_bytes, .ahead_bytes = 2u << 20 } });
	assert_int_equal(pthread_create(&h->thread, NULL, help, h), 0);
	helper_ask(h, rig);
	while (__atomic_load_n(&h->is_asked, __ATOMIC_ACQUIRE))
		usleep(50);
}

static void helper_end(struct helper *h)
{
	__atomic_store_n(&h->ends, true, __ATOMIC_RELEASE);
	pthread_join(h->thread, NULL);
}

#define GROWN 4000000u

static void no_insertion_waits_for_the_index_to_grow(void **state)
{
	struct helper helper;
	struct times times;
	struct rig rig;

	times_init(&times, GROWN);
	for (unsigned run = 0; run < RUNS; run++) {
		rig_make(&rig, 1ull << 30, BW_RESP_ALLKEYS_LRU);
		helper_start(&helper, &rig);
		times.at = 0;
		for (unsigned key = 0; key < GROWN; key++) {
			bw_ns from = bw_clock_now();

			put(&rig, key, 32);
			times_add(&times, from);
			if (key % 1000 == 0) /* some tenths of a millisecond */
				helper_ask(&helper, &rig);
		}
		helper_end(&helper);
		print_message("warm at the end: %llu MiB of values, %llu MiB of index\n",
			(unsigned long long)helper.warm.regions[0].warm_bytes >> 20,
			(unsigned long long)helper.warm.regions[1].warm_bytes >> 20);
		assert_int_equal(rig.store.keys, GROWN);
		assert_int_equal(rig.store.evicted, 0);
		assert_true(rig.store.bucket_count >= GROWN / 5);
		rig_end(&rig);
	}
	times_end(&times, "growing to 4,000,000 keys", pause_ns_max());
}

#define EVICTING 1000000u

static void no_insertion_waits_for_evictions(void **state)
{
	struct times times;
	struct rig rig;

	times_init(&times, EVICTING);
	for (unsigned run = 0; run < RUNS; run++) {
		uint64_t key = 0;

		rig_make(&rig, 256ull << 20, BW_RESP_ALLKEYS_LRU);
		while (rig.store.evicted < 100000)
			put(&rig, key, mixed_len(key)), key++;
		times.at = 0;
		for (unsigned n = 0; n < EVICTING; n++, key++) {
			bw_ns from = bw_clock_now();

			put(&rig, key, mixed_len(key));
			times_add(&times, from);
			if (n % 64 == 0)
				rig_pass(&rig, 1);
		}
		rig_end(&rig);
	}
	times_end(&times, "sizes mixed, the store full", pause_ns_max());
}

/* The worst case for pages that are one size's: what evictions free is never of the size that is wanted. */
static void no_insertion_waits_when_the_sizes_change(void **state)
{
	struct times times;
	struct rig rig;

	times_init(&times, 40000);
	for (unsigned run = 0; run < RUNS; run++) {
		uint64_t key = 0;

		rig_make(&rig, 64ull << 20, BW_RESP_ALLKEYS_LRU);
		while (rig.store.evicted < 100000)
			put(&rig, key++, 16);
		times.at = 0;
		for (unsigned n = 0; n < 40000; n++, key++) {
			bw_ns from = bw_clock_now();

			put(&rig, key, 4000);
			times_add(&times, from);
			if (n % 64 == 0)
				rig_pass(&rig, 1);
		}
		rig_end(&rig);
	}
	times_end(&times, "from 16 bytes to 4,000, the store full", pause_ns_max());
}

#define EXPIRING 1000000u

static void rig_make_expired(struct rig *rig)
{
	rig_make(rig, 256ull << 20, BW_RESP_ALLKEYS_LRU);
	for (uint64_t key = 0; key < EXPIRING; key++) {
		struct bw_resp__value value = { .data = bytes, .len = 32 };

		bw_resp__store_put(&rig->store, (uint32_t)mix(key), (const uint8_t *)&key, sizeof(key),
			&value, rig->now_ms + 10);
	}
	rig_pass(rig, 10);
	assert_int_equal(rig->store.keys, EXPIRING);
}

/* Of the processor: what other processes take meanwhile is not in it; what interrupts and the host take is. */
static uint64_t thread_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * BW_NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

#define STAND_IN_LOADS 48u /* about as long as a slice */

/* Writes here and there in memory that is nobody else's: what it takes beyond its usual time the machine has taken. */
static uint64_t stand_in(uint8_t *memory)
{
	static uint64_t seed = 1;
	uint64_t from = thread_ns();

	for (unsigned i = 0; i < STAND_IN_LOADS; i++) {
		uint8_t *at = memory + seed % CHASE_BYTES;

		seed = mix(seed + 1 + *at);
		++*at;
	}
	return thread_ns() - from;
}

/* How many of the stand-ins took more than twice as long as usual. */
static uint32_t count_interrupted(uint32_t *stand_ins, uint32_t count)
{
	uint32_t first = count;

	qsort(stand_ins, count, sizeof(stand_ins[0]), by_size);
	while (first > 0 && stand_ins[first - 1] > 2 * stand_ins[count / 2])
		first--;
	return count - first;
}

/*
 * A million keys expire at once: they are gone soon, in slices that are short, but for one in a hundred, and as many as a
 * stand-in of the same length says that interrupts and the host make long: on some machines that is one in a hundred, too.
 */
static void what_expires_at_once_goes_in_slices(void **state)
{
	static uint32_t slices[EXPIRING], stand_ins[EXPIRING];
	struct bw_resp__sweep sweep = { 0 };
	uint32_t count = 0, interrupted;
	uint8_t *memory = malloc(CHASE_BYTES);
	bw_ns begun, took;
	struct rig rig;

	assert_non_null(memory);
	memset(memory, 1, CHASE_BYTES);
	rig_make_expired(&rig);
	begun = bw_clock_now();
	while (rig.store.keys > 0) {
		bw_ns now = bw_clock_now(), next_at = sweep.next_at;
		uint64_t from = thread_ns();

		bw_resp__sweep_turn(&sweep, &rig.store, now);
		if (now < next_at)
			continue;
		assert_true(count < EXPIRING);
		slices[count] = (uint32_t)(thread_ns() - from);
		stand_ins[count++] = (uint32_t)stand_in(memory);
	}
	took = bw_clock_now() - begun;
	qsort(slices, count, sizeof(slices[0]), by_size);
	interrupted = count_interrupted(stand_ins, count);
	print_message(
		"of as many stand-ins, p50 %u ns, %u were made long\n", stand_ins[count / 2], interrupted);
	print_message(
		"1,000,000 keys gone after %llu ms, %u slices: p50 %u, p99 %u, p99.9 %u ns; with what interrupts and "
		"the host took, the longest %u ns\n",
		(unsigned long long)(took / BW_NS_PER_MS), count, slices[count / 2],
		slices[count - count / 100 - 1], slices[count - count / 1000 - 1], slices[count - 1]);
	assert_true(took <= 20 * BW_NS_PER_SEC); /* of which most is rest */
	assert_true(slices[count - BW_MIN(count / 100 + interrupted, count / 20) - 1] <= pause_ns_max());
	free(memory);
	bw_resp__store_check(&rig.store);
	rig_end(&rig);
}

/* A slice ends with the batch in which its time is over; batches, unlike slices, are the same in each run. */
static void no_batch_of_the_sweep_is_long(void **state)
{
	struct times times;
	struct rig rig;

	times_init(&times, EXPIRING / 2 / BW_RESP__SWEEP_BATCH);
	for (unsigned run = 0; run < RUNS; run++) {
		rig_make_expired(&rig);
		for (times.at = 0; times.at < rig.store.bucket_count / BW_RESP__SWEEP_BATCH;) {
			bw_ns from = bw_clock_now();

			bw_resp__store_sweep(&rig.store, BW_RESP__SWEEP_BATCH);
			times_add(&times, from);
		}
		times.count = times.at;
		rig_end(&rig);
	}
	times_end(&times, "batches of the sweep", pause_ns_max() - BW_RESP__SWEEP_SLICE_NS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_insertion_waits_for_the_index_to_grow),
		cmocka_unit_test(no_insertion_waits_for_evictions),
		cmocka_unit_test(no_insertion_waits_when_the_sizes_change),
		cmocka_unit_test(what_expires_at_once_goes_in_slices),
		cmocka_unit_test(no_batch_of_the_sweep_is_long),
	};

	bw_clock_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
