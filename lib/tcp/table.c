/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * The table: from a flow to its object, whichever of the three kinds it is.
 *
 * Buckets of one cache line hold ten pairs of a 16-bit tag and a handle; keys are in the objects. So a hit
 * costs two lines, both prefetched a burst ahead, a miss costs one, and 64-byte objects stay 64 bytes.
 *
 * A bucket that is full goes on in a chain of overflow buckets. The entries of a chain are packed: every
 * bucket but the last is full, and a removal fills its hole with the chain's last entry. So there are no
 * tombstones, a search ends at the first empty entry, and objects / 10 overflow buckets suffice whatever the
 * hashes are: each that is in use has ten entries before it in its chain. At five objects a bucket about one
 * bucket in 70 has one.
 */
#include <emmintrin.h>
#include <errno.h>
#include <sys/mman.h>

#include "internal.h"

/*
 * Workers are chosen by the same hash, so on one of them some of its bits may be constant: mix before using
 * the upper ones. The tag takes bits that the bucket's number depends on least.
 */
static struct bw_tcp__bucket *home(const struct bw_tcp__table *table, uint32_t hash)
{
	uint32_t mixed = hash * 0x9e3779b1u;

	return &table->buckets[(uint64_t)mixed * table->bucket_count >> 32];
}

static uint16_t tag_of(uint32_t hash)
{
	return (uint16_t)(hash ^ hash >> 16);
}

/** A bit for each entry with this tag, used or not. */
static unsigned match(const struct bw_tcp__bucket *bucket, uint16_t tag)
{
	__m128i wanted = _mm_set1_epi16((short)tag);
	__m128i low = _mm_loadu_si128((const __m128i *)&bucket->tag[0]);
	__m128i high = _mm_loadu_si128((const __m128i *)&bucket->tag[2]);
	__m128i equal = _mm_packs_epi16(_mm_cmpeq_epi16(low, wanted), _mm_cmpeq_epi16(high, wanted));
	unsigned mask = (unsigned)_mm_movemask_epi8(equal);

	return (mask & 0xff) | (mask >> 8 << 2);
}

static struct bw_tcp__bucket *chain_next(
	const struct bw_tcp__table *table, const struct bw_tcp__bucket *bucket)
{
	return bucket->overflow != 0 ? &table->overflow[bucket->overflow - 1] : NULL;
}

const struct bw_flow *bw_tcp__handle_flow(const struct bw_tcp *tcp, bw_tcp_handle handle)
{
	uint32_t index = bw_tcp__handle_index(handle);

	switch (bw_tcp__handle_kind(handle)) {
	case BW_TCP_KIND_CONN:
		return &tcp->conns[index].flow;
	case BW_TCP_KIND_HALF_OPEN:
		return &tcp->half_opens[index].flow;
	default:
		return &tcp->time_waits[index].flow;
	}
}

bw_tcp_handle bw_tcp__table_find(const struct bw_tcp *tcp, uint32_t hash, const struct bw_flow *flow)
{
	const struct bw_tcp__table *table = &tcp->table;
	uint16_t tag = tag_of(hash);

	for (struct bw_tcp__bucket *bucket = home(table, hash); bucket != NULL;
		bucket = chain_next(table, bucket)) {
		for (unsigned mask = match(bucket, tag); mask != 0; mask &= mask - 1) {
			bw_tcp_handle handle = bucket->handle[__builtin_ctz(mask)];

			if (handle != 0 && bw_flow_eq(bw_tcp__handle_flow(tcp, handle), flow))
				return handle;
		}
	}
	return 0;
}

void bw_tcp__table_prefetch(const struct bw_tcp__table *table, uint32_t hash)
{
	__builtin_prefetch(home(table, hash));
}

bw_tcp_handle bw_tcp__table_guess(const struct bw_tcp *tcp, uint32_t hash)
{
	const struct bw_tcp__bucket *bucket = home(&tcp->table, hash);
	unsigned mask = match(bucket, tag_of(hash));
	bw_tcp_handle handle = mask != 0 ? bucket->handle[__builtin_ctz(mask)] : 0;

	if (handle != 0) {
		const char *object = (const char *)bw_tcp__handle_flow(tcp, handle);

		__builtin_prefetch(object, 1);
		if (bw_tcp__handle_kind(handle) == BW_TCP_KIND_CONN) {
			__builtin_prefetch(object + BW_CACHE_LINE, 1);
			__builtin_prefetch(object + 2 * BW_CACHE_LINE, 1);
		}
	}
	return handle;
}

/** Entries in use: they are packed. */
static unsigned used(const struct bw_tcp__bucket *bucket)
{
	unsigned n = 0;

	while (n < BW_TCP__BUCKET_ENTRIES && bucket->handle[n] != 0)
		n++;
	return n;
}

static uint32_t overflow_take(struct bw_tcp__table *table)
{
	uint32_t taken = table->overflow_free;

	if (taken != 0) {
		table->overflow_free = table->overflow[taken - 1].overflow;
	} else {
		BW_ASSERT_LT(table->overflow_used, table->overflow_count);
		taken = ++table->overflow_used;
	}
	memset(&table->overflow[taken - 1], 0, sizeof(table->overflow[0]));
	return taken;
}

void bw_tcp__table_insert(struct bw_tcp__table *table, uint32_t hash, bw_tcp_handle handle)
{
	struct bw_tcp__bucket *bucket = home(table, hash), *next;
	unsigned n;

	while ((next = chain_next(table, bucket)) != NULL)
		bucket = next;
	n = used(bucket);
	if (n == BW_TCP__BUCKET_ENTRIES) {
		bucket->overflow = overflow_take(table);
		bucket = chain_next(table, bucket);
		n = 0;
	}
	bucket->tag[n] = tag_of(hash);
	bucket->handle[n] = handle;
	table->version++;
}

static struct bw_tcp__bucket *find_handle(
	struct bw_tcp__table *table, uint32_t hash, bw_tcp_handle handle, unsigned *at)
{
	for (struct bw_tcp__bucket *bucket = home(table, hash); bucket != NULL;
		bucket = chain_next(table, bucket)) {
		for (unsigned i = 0; i < BW_TCP__BUCKET_ENTRIES; i++) {
			if (bucket->handle[i] == handle) {
				*at = i;
				return bucket;
			}
		}
	}
	BW_ASSERT(!"the object is in the table");
	return NULL;
}

void bw_tcp__table_replace(struct bw_tcp__table *table, uint32_t hash, bw_tcp_handle old, bw_tcp_handle new)
{
	unsigned at;
	struct bw_tcp__bucket *bucket = find_handle(table, hash, old, &at);

	bucket->handle[at] = new;
	table->version++;
}

void bw_tcp__table_remove(struct bw_tcp__table *table, uint32_t hash, bw_tcp_handle handle)
{
	unsigned at;
	struct bw_tcp__bucket *bucket = find_handle(table, hash, handle, &at);
	struct bw_tcp__bucket *last = bucket, *before_last = NULL, *next;
	unsigned n;

	/* Only a bucket behind the hole can be the chain's last one; its predecessor is on the way there. */
	for (struct bw_tcp__bucket *b = home(table, hash); (next = chain_next(table, b)) != NULL; b = next) {
		before_last = b;
		last = next;
	}
	n = used(last);
	bucket->tag[at] = last->tag[n - 1];
	bucket->handle[at] = last->handle[n - 1];
	last->handle[n - 1] = 0;
	if (n == 1 && before_last != NULL) {
		uint32_t freed = before_last->overflow;

		before_last->overflow = 0;
		last->overflow = table->overflow_free;
		table->overflow_free = freed;
	}
	table->version++;
}

int bw_tcp__table_init(struct bw_tcp__table *table, uint64_t objects_max)
{
	uint64_t buckets = objects_max / BW_TCP__BUCKET_LOAD + 1;
	uint64_t overflow = objects_max / BW_TCP__BUCKET_ENTRIES + 1;
	void *map;

	memset(table, 0, sizeof(*table));
	table->map_bytes = (buckets + overflow) * sizeof(struct bw_tcp__bucket);
	map = mmap(NULL, table->map_bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map == MAP_FAILED)
		return -ENOMEM;
	table->buckets = map;
	table->overflow = table->buckets + buckets;
	table->bucket_count = (uint32_t)buckets;
	table->overflow_count = (uint32_t)overflow;
	return 0;
}

void bw_tcp__table_fini(struct bw_tcp__table *table)
{
	munmap(table->buckets, table->map_bytes);
}
