/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A slot is one atomic word, an address and its count, so that it is claimed, counted and freed in one step. That an
 * address fits beside a count is Knuth's quotienting: its 64 bits are permuted under a secret key, 17 of them choose
 * the bucket, and 48 are kept; together they are the address again, and no two are confused.
 *
 * Two workers that meet a new address at once may claim a slot each. So an address's count is the sum over all of its
 * slots: who enters adds one first and then looks at the sum, and takes it back where that is too much. Of those that
 * are in at any time, the last to add saw all the others (the atomics are sequentially consistent): there are never too
 * many.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <base/siphash.h>

#include "addresses.h"

#define BUCKETS      (1u << 17)
#define BUCKET_SLOTS 8u /* a cache line */
#define REACH        4u /* buckets in which an address may be, from its own on */
#define COUNT_BITS   14
#define STEP_BITS    2
#define COUNT_MASK   ((1u << COUNT_BITS) - 1)
_Static_assert(REACH == 1 << STEP_BITS && STEP_BITS + COUNT_BITS == 16, "48 bits are left for the address");
_Static_assert(BW_HTTP__PER_ADDRESS_MAX + 64 <= COUNT_MASK, "with one more of each worker, for a moment");

struct bw_http__addresses {
	struct bw_siphash_key key;
	uint32_t max;
	_Alignas(BW_CACHE_LINE) _Atomic uint64_t slots[BUCKETS][BUCKET_SLOTS];
};

/* Where an address is looked for: slot `i` of all, and what it holds but for the count. */
struct place {
	_Atomic uint64_t *slots[REACH];
	uint64_t address;
};

static uint64_t address_bits(const struct bw_ip *ip)
{
	uint64_t prefix;

	/* 0:ffff::/32 is no unicast address (RFC 4291 section 2.4), so none of IPv6 meets these. */
	if (bw_ip_is_v4(ip))
		return 0xffff00000000ull | bw_ip_v4_be(ip);
	memcpy(&prefix, ip->b, sizeof(prefix));
	return __builtin_bswap64(prefix);
}

/* Four rounds of Feistel (Luby and Rackoff, 1988): without the key, nobody chooses who shares a bucket. */
static uint64_t permute(const struct bw_siphash_key *key, uint64_t bits)
{
	uint32_t left = (uint32_t)(bits >> 32), right = (uint32_t)bits;

	for (uint32_t round = 0; round < 4; round++) {
		uint32_t in[2] = { right, round };
		uint32_t next = left ^ (uint32_t)bw_siphash(key, in, sizeof(in));

		left = right;
		right = next;
	}
	return (uint64_t)left << 32 | right;
}

static void find_place(struct bw_http__addresses *addresses, const struct bw_ip *ip, struct place *place)
{
	uint64_t bits = permute(&addresses->key, address_bits(ip));

	for (uint32_t step = 0; step < REACH; step++)
		place->slots[step] = addresses->slots[(bits + step) % BUCKETS];
	place->address = bits & ~0xffffull;
}

#define SLOTS (REACH * BUCKET_SLOTS)

static _Atomic uint64_t *slot_at(const struct place *place, uint32_t i)
{
	return &place->slots[i / BUCKET_SLOTS][i % BUCKET_SLOTS];
}

static uint64_t word_of(const struct place *place, uint32_t i, uint32_t count)
{
	return place->address | (uint64_t)(i / BUCKET_SLOTS) << COUNT_BITS | count;
}

/* The count of the address in slot `i`; 0: it is another's. */
static uint32_t count_in(const struct place *place, uint32_t i, uint64_t word)
{
	uint32_t count = (uint32_t)word & COUNT_MASK;

	return word == word_of(place, i, count) ? count : 0;
}

static bool add_one(const struct place *place)
{
	for (;;) {
		uint32_t vacant = SLOTS;
		uint64_t word = 0;

		for (uint32_t i = 0; i < SLOTS; i++) {
			word = atomic_load(slot_at(place, i));
			while (count_in(place, i, word) > 0)
				if (atomic_compare_exchange_weak(slot_at(place, i), &word, word + 1))
					return true;
			if (word == 0 && vacant == SLOTS)
				vacant = i;
		}
		if (vacant == SLOTS)
			return false;
		word = 0;
		if (atomic_compare_exchange_strong(slot_at(place, vacant), &word, word_of(place, vacant, 1)))
			return true;
		/* Another worker was faster, and may have brought the same address. */
	}
}

/* One of the address's is ours, so there is one to be found; where it moves while we look, we look again. */
static void take_one(const struct place *place)
{
	for (;;) {
		for (uint32_t i = 0; i < SLOTS; i++) {
			uint64_t word = atomic_load(slot_at(place, i));
			uint32_t count;

			while ((count = count_in(place, i, word)) > 0)
				if (atomic_compare_exchange_weak(
					    slot_at(place, i), &word, count > 1 ? word - 1 : 0))
					return;
		}
	}
}

struct bw_http__addresses *bw_http__addresses_create(uint32_t max)
{
	struct bw_http__addresses *addresses = aligned_alloc(BW_CACHE_LINE, sizeof(*addresses));
	struct timespec seed;

	if (addresses == NULL)
		return NULL;
	memset(addresses, 0, sizeof(*addresses));
	addresses->max = max;
	if (getentropy(&addresses->key, sizeof(addresses->key)) < 0) {
		clock_gettime(CLOCK_REALTIME, &seed);
		addresses->key.k[0] = bw_siphash(&addresses->key, &seed, sizeof(seed));
	}
	return addresses;
}

void bw_http__addresses_free(struct bw_http__addresses *addresses)
{
	free(addresses);
}

enum bw_http__address bw_http__addresses_enter(struct bw_http__addresses *addresses, const struct bw_ip *ip)
{
	struct place place;
	uint32_t sum = 0;

	find_place(addresses, ip, &place);
	if (!add_one(&place))
		return BW_HTTP__ADDRESS_UNCOUNTED;
	for (uint32_t i = 0; i < SLOTS; i++)
		sum += count_in(&place, i, atomic_load(slot_at(&place, i)));
	if (sum <= addresses->max)
		return BW_HTTP__ADDRESS_COUNTED;
	take_one(&place);
	return BW_HTTP__ADDRESS_REFUSED;
}

void bw_http__addresses_leave(struct bw_http__addresses *addresses, const struct bw_ip *ip)
{
	struct place place;

	find_place(addresses, ip, &place);
	take_one(&place);
}
