/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Theory of operation.
 *
 * Index. Linear hashing (Litwin, 1980): buckets of one cache line, seven entries each, split one at a time in a
 * fixed order as keys come in. There is never a second table and no pause: an insertion splits at most two
 * buckets. The table lies in address space reserved for its largest size and is touched as it grows; it does not
 * shrink. An entry is 32 bits of the hash and 32 bits of where the item is, in units of 16 bytes; a split needs
 * nothing else, so it does not touch the items. A chain that is longer than a bucket goes on in overflow buckets
 * from the slab. A split needs no memory: the new primary bucket is what two chains need beyond one.
 *
 * Items. Header, key, and a value of up to 4 KiB in one block. A larger value is a blob: a chain of chunks of up
 * to a page. So a command's bytes can be gathered into what becomes the value as they arrive, nothing needs
 * adjacent pages, and a reply of any size is a handful of references. What TX still reads is never changed: an
 * overwrite then makes a new block, and the old one comes back when its last reference is dropped (slab.h).
 *
 * Expiry. A key whose time has come is gone for every lookup, and freed then or by the sweep, which walks the
 * buckets in slices.
 *
 * FLUSHALL advances the epoch. Items of an earlier epoch are gone for every lookup and are freed as the sweep
 * or a need for memory comes to them. Epochs are 16 bits: before they wrap, the sweep is made to finish.
 *
 * Making room. Pages are one size's, so what is evicted is rarely of the size that is wanted. That is a loan: the hole
 * it leaves saves a later key of its size an eviction. So that loans stay small, what has the holes of more than a page
 * gives one back: the keys of one of its pages move into the holes of others, which costs a copy and an entry of the
 * index, and nobody is lost. As much is evicted as is stored, in the long run, whatever the sizes.
 *
 * A few pages are kept free (`high_water`). Who takes one leaves it to the allocations that follow, and to the sweep, to
 * make up for it in steps: a step evicts a key or moves a few. So nobody pays for a whole page at once. A key to evict is
 * the one that the policy gives up first, of a sample (the keys of a few buckets) and of a small pool of those that were
 * nearly taken before. An allocation makes a bounded number of steps. Where that is not enough, because a large value
 * comes to a store of small ones, or other holders (TX, commands that arrive) keep what could move where it is, a page's
 * keys go together, the page chosen by a sample; and last, a block of a larger size is taken.
 *
 * What TX reads is spared: its memory would not come back, and its key be lost for nothing. So that there is always
 * something else, what long replies pin before their turn is bounded too. Where only keys with a time to live may go, a
 * page's keys go together only if it has nothing else, and the pool has what was met of them since they came: they may
 * be so few that samples miss them.
 *
 * Frequency is counted in 8 bits (Morris, 1978): a use adds one with a probability that falls as the count rises,
 * 255 standing for about a million uses; each minute without one takes one off. A new key begins with 5, so that it is
 * not the first to go before it was used at all. These are Redis's own constants.
 */
#include "store.h"

#define BUCKET_SLOTS 7
#define BUCKETS_MIN  64u
#define LOAD         5 /* items a bucket, at which a bucket is split */

#define FREQUENCY_NEW 5u

#define SPARE_PAGES_MIN 2u /* kept free where keys are evicted: a 256th of all, within these */
#define SPARE_PAGES_MAX 64u
#define ROOM_STEPS      12 /* towards that, for an allocation */
#define TEND_STEPS      8  /* and for a batch of the sweep */
#define HOLE_STEPS      4  /* in the hope for a hole of the right size, before one of them is taken */
#define ROOM_STEPS_MAX  64 /* where nothing is free */
#define CLEAR_BLOCKS    8  /* blocks looked at in a step that empties a page */
#define MOVE_CHAIN      8  /* chunks of a value, beyond which none of them is moved */
#define MOVE_PAGES      8  /* of the size, among which the one with the least to move is chosen */
#define FETCH_AHEAD     8
#define FETCH_LINES     2   /* of an item: a small one */
#define EVICT_SAMPLES   8   /* items compared for each victim */
#define EVICT_BUCKETS   64  /* buckets looked at for those */
#define EVICT_SWEEP     128 /* and where none of them has a time to live */
#define PAGE_BLOCKS     4   /* keys looked at in each */
#define PAGE_LOOKS      64u /* blocks, to find those */
#define PAGE_SAMPLES    8   /* pages compared for each */
#define DEAD_BUCKETS    64  /* swept at a flush */
#define DEAD_STEP       4   /* and in a step, while there are dead items */

struct bw_resp__bucket {
	uint64_t slot[BUCKET_SLOTS]; /* hash << 32 | item; 0 when empty */
	struct bw_resp__bucket *overflow;
};
_Static_assert(sizeof(struct bw_resp__bucket) == 64, "a line");

/* An overflow bucket in a block: the block's header, a line's rest of nothing, the bucket. */
struct overflow {
	struct bw_resp__block b;
	struct bw_resp__bucket bucket;
};

uint64_t bw_resp__store_index_bytes(uint64_t bytes_max)
{
	/* Were all of it the smallest items: 48 bytes, LOAD of them a bucket. */
	return BW_MAX(bytes_max / 48 / LOAD, (uint64_t)BUCKETS_MIN) * sizeof(struct bw_resp__bucket);
}

uint64_t bw_resp__store_index_used_bytes(const struct bw_resp__store *store)
{
	return (uint64_t)store->bucket_count * sizeof(struct bw_resp__bucket);
}

static bool evicts(const struct bw_resp__store *store)
{
	return store->policy != BW_RESP_NOEVICTION;
}

static bool evicts_any(const struct bw_resp__store *store)
{
	return evicts(store) && store->policy != BW_RESP_VOLATILE_TTL;
}

void bw_resp__store_init(struct bw_resp__store *store, const struct bw_resp__store_conf *conf)
{
	memset(store, 0, sizeof(*store));
	bw_resp__slab_init(&store->slab, conf->arena, conf->bytes_max, sizeof(struct overflow));
	store->arena = conf->arena;
	store->buckets = conf->index;
	store->bucket_count = BUCKETS_MIN;
	store->mask = BUCKETS_MIN - 1;
	store->bucket_max =
		(uint32_t)BW_MIN(bw_resp__store_index_bytes(conf->bytes_max) / sizeof(struct bw_resp__bucket),
			(uint64_t)1 << 31);
	store->slab.other_bytes = (uint64_t)store->bucket_count * sizeof(struct bw_resp__bucket);
	store->random = conf->random_seed | 1;
	bw_resp__store_limit(store, conf->bytes_max, conf->policy);
}

void bw_resp__store_limit(struct bw_resp__store *store, uint64_t bytes_max, enum bw_resp_policy policy)
{
	uint64_t used = bw_resp__slab_used_bytes(&store->slab);
	uint64_t spare = BW_MIN(BW_MAX(bytes_max / 256 / BW_RESP__PAGE_BYTES, (uint64_t)SPARE_PAGES_MIN),
				 (uint64_t)SPARE_PAGES_MAX) *
			 BW_RESP__PAGE_BYTES;

	if (policy != store->policy) {
		memset(store->pool, 0, sizeof(store->pool));
		store->pool_least = 0;
	}
	store->policy = (uint8_t)policy;
	store->bytes_wanted = bytes_max;
	store->slab.bytes_max = evicts(store) ? BW_MAX(bytes_max, used) : bytes_max;
	store->staged_bytes_max = bytes_max / 4;
	store->staged_command_bytes_max = bytes_max / 8;
	store->listed_bytes_max = bytes_max / 4;
	store->staged_small_bytes_max = store->staged_bytes_max + bytes_max / 16;
	/* Where any key may go, commands that arrive make their own room. */
	store->reserve_bytes =
		evicts_any(store) ? 0 : BW_MAX(bytes_max / 32, (uint64_t)4 * BW_RESP__PAGE_BYTES);
	store->high_water = evicts(store) ? bytes_max - store->reserve_bytes - spare : UINT64_MAX;
}

/* xorshift64* (Vigna, 2016): for samples, nothing secret. */
uint32_t bw_resp__store_random(struct bw_resp__store *store)
{
	store->random ^= store->random >> 12;
	store->random ^= store->random << 25;
	store->random ^= store->random >> 27;
	return (uint32_t)(store->random * 0x2545f4914f6cdd1dull >> 32);
}

static uint32_t random_below(struct bw_resp__store *store, uint64_t n)
{
	return (uint32_t)(bw_resp__store_random(store) * n >> 32);
}

/* ---- the index ---- */

static struct bw_resp__item *item_at(const struct bw_resp__store *store, uint64_t slot)
{
	return (struct bw_resp__item *)(store->arena + (slot & UINT32_MAX) * BW_RESP__BLOCK_ALIGN);
}

/* Never 0: a page begins with its own line. */
static uint64_t slot_of(const struct bw_resp__store *store, const struct bw_resp__item *item)
{
	uint64_t ref = (uint64_t)((const uint8_t *)item - store->arena) / BW_RESP__BLOCK_ALIGN;

	return (uint64_t)item->hash << 32 | ref;
}

static struct bw_resp__bucket *bucket_of(const struct bw_resp__store *store, uint32_t hash)
{
	uint32_t i = hash & (store->mask << 1 | 1);

	if (i >= store->bucket_count)
		i &= store->mask;
	return &store->buckets[i];
}

/* The entry in its chain; NULL: it is not there. */
static uint64_t *slot_with(const struct bw_resp__store *store, uint64_t wanted)
{
	for (struct bw_resp__bucket *b = bucket_of(store, (uint32_t)(wanted >> 32)); b != NULL;
		b = b->overflow)
		for (unsigned i = 0; i < BUCKET_SLOTS; i++)
			if (b->slot[i] == wanted)
				return &b->slot[i];
	return NULL;
}

static uint64_t *find_slot(const struct bw_resp__store *store, const struct bw_resp__item *item)
{
	return slot_with(store, slot_of(store, item));
}

static uint64_t *empty_slot(const struct bw_resp__store *store, uint32_t hash, struct bw_resp__bucket **last)
{
	for (struct bw_resp__bucket *b = bucket_of(store, hash); b != NULL; b = b->overflow) {
		*last = b;
		for (unsigned i = 0; i < BUCKET_SLOTS; i++)
			if (b->slot[i] == 0)
				return &b->slot[i];
	}
	return NULL;
}

/* The chain's last entry takes the hole, so chains stay dense and overflow buckets go when they are empty. */
static void slot_clear(struct bw_resp__store *store, uint32_t hash, uint64_t *slot)
{
	struct bw_resp__bucket *before = NULL, *b = bucket_of(store, hash);
	unsigned count = 0;

	while (b->overflow != NULL) {
		before = b;
		b = b->overflow;
	}
	while (count < BUCKET_SLOTS && b->slot[count] != 0)
		count++;
	BW_ASSERT(count > 0);
	*slot = b->slot[count - 1];
	b->slot[count - 1] = 0;
	if (count > 1 || before == NULL)
		return;
	before->overflow = NULL;
	bw_resp__slab_free(&store->slab, &bw_container_of(b, struct overflow, bucket)->b);
}

/* Where the next entry of a chain goes; takes the next bucket from the spares when this one is full. */
static void chain_push(
	struct bw_resp__bucket **tail, unsigned *count, uint64_t slot, struct bw_resp__bucket **spares)
{
	if (*count == BUCKET_SLOTS) {
		struct bw_resp__bucket *b = *spares;

		BW_ASSERT(b != NULL);
		*spares = b->overflow;
		memset(b, 0, sizeof(*b));
		(*tail)->overflow = b;
		*tail = b;
		*count = 0;
	}
	(*tail)->slot[(*count)++] = slot;
}

/*
 * Split the next bucket in order. The old chain is taken apart bucket by bucket: its overflow buckets become
 * spares as they are emptied, and both new chains draw on those. Each is emptied before its room is needed,
 * because what was read so far always fits in the two primary buckets and the spares so far.
 */
static void split_bucket(struct bw_resp__store *store)
{
	uint32_t from = store->bucket_count - (store->mask + 1);
	struct bw_resp__bucket *low = &store->buckets[from], *high = &store->buckets[store->bucket_count];
	struct bw_resp__bucket *spares = NULL, *low_tail = low, *high_tail = high, *b;
	struct bw_resp__bucket old = *low;
	unsigned low_count = 0, high_count = 0;
	uint32_t bit = store->mask + 1;

	memset(low, 0, sizeof(*low));
	memset(high, 0, sizeof(*high));
	for (b = &old; b != NULL;) {
		struct bw_resp__bucket now = *b;

		if (b != &old) {
			b->overflow = spares;
			spares = b;
		}
		for (unsigned i = 0; i < BUCKET_SLOTS && now.slot[i] != 0; i++) {
			store->moved++;
			if (now.slot[i] >> 32 & bit)
				chain_push(&high_tail, &high_count, now.slot[i], &spares);
			else
				chain_push(&low_tail, &low_count, now.slot[i], &spares);
		}
		b = now.overflow;
	}
	while (spares != NULL) {
		b = spares;
		spares = b->overflow;
		bw_resp__slab_free(&store->slab, &bw_container_of(b, struct overflow, bucket)->b);
	}
	store->bucket_count++;
	store->slab.other_bytes += sizeof(struct bw_resp__bucket);
	if (store->bucket_count == 2 * (store->mask + 1))
		store->mask = store->mask << 1 | 1;
}

static void grow_index(struct bw_resp__store *store)
{
	uint64_t items = store->keys + store->dead;

	for (unsigned i = 0; i < 2 && items > (uint64_t)store->bucket_count * LOAD; i++) {
		if (store->bucket_count == store->bucket_max)
			return;
		if (bw_resp__slab_used_bytes(&store->slab) + sizeof(struct bw_resp__bucket) >
			store->slab.bytes_max)
			return; /* longer chains, until there is */
		split_bucket(store);
	}
}

/* ---- blobs and chunks ---- */

static void chunk_stage(struct bw_resp__store *store, struct bw_resp__chunk *chunk)
{
	chunk->owner = NULL;
	chunk->b.flags |= BW_RESP__CHUNK_STAGED;
	store->staged_bytes += bw_resp__block_bytes(chunk);
}

static void chunk_unstage(
	struct bw_resp__store *store, struct bw_resp__chunk *chunk, struct bw_resp__item *owner)
{
	if ((chunk->b.flags & BW_RESP__CHUNK_STAGED) != 0)
		store->staged_bytes -= bw_resp__block_bytes(chunk);
	chunk->b.flags = 0;
	chunk->owner = owner;
}

static void chunk_free(struct bw_resp__store *store, struct bw_resp__chunk *chunk)
{
	chunk_unstage(store, chunk, NULL);
	bw_resp__slab_free(&store->slab, &chunk->b);
}

void bw_resp__chunks_free(struct bw_resp__store *store, struct bw_resp__chunk *chunk)
{
	while (chunk != NULL) {
		struct bw_resp__chunk *next = chunk->next;

		chunk_free(store, chunk);
		chunk = next;
	}
}

void bw_resp__blob_free(struct bw_resp__store *store, struct bw_resp__chunk *blob)
{
	if (bw_resp__block_drop(&blob->b))
		bw_resp__chunks_free(store, blob);
}

void bw_resp__blob_copy(const struct bw_resp__chunk *blob, uint8_t *out, uint32_t len)
{
	for (; len > 0; blob = blob->next) {
		uint32_t n = BW_MIN(len, blob->len);

		memcpy(out, blob->bytes, n);
		out += n;
		len -= n;
	}
}

/* ---- items ---- */

static void item_free(struct bw_resp__store *store, struct bw_resp__item *item)
{
	bw_resp__slab_free(&store->slab, &item->b);
}

/* The item is in no bucket any longer, and counted no longer. */
static void item_drop(struct bw_resp__store *store, struct bw_resp__item *item)
{
	if (bw_resp__item_has_blob(item)) {
		struct bw_resp__chunk *blob = bw_resp__item_blob(item);

		/* TX may read on, but there is no key any longer that an eviction could free them with. */
		for (struct bw_resp__chunk *c = blob; c != NULL; c = c->next)
			c->owner = NULL;
		bw_resp__blob_free(store, blob);
	}
	item->b.flags = BW_RESP__ITEM_DETACHED;
	if (bw_resp__block_drop(&item->b))
		item_free(store, item);
}

/* Does anybody but the key refer to the value? Then evicting the key frees nothing. */
static bool item_is_pinned(struct bw_resp__item *item)
{
	return !bw_resp__block_is_sole(bw_resp__item_value_block(item));
}

static void item_count(struct bw_resp__store *store, const struct bw_resp__item *item, int sign)
{
	uint64_t bytes = (uint64_t)bw_resp__item_key_len(item) + item->value_bytes;

	store->keys += (uint64_t)(int64_t)sign;
	store->payload_bytes += sign > 0 ? bytes : -bytes;
	if (bw_resp__item_expires_ms(item) != 0)
		store->expiring += (uint64_t)(int64_t)sign;
}

static bool item_is_dead(const struct bw_resp__store *store, const struct bw_resp__item *item)
{
	return item->epoch != store->epoch;
}

static bool item_has_expired(const struct bw_resp__store *store, const struct bw_resp__item *item)
{
	return bw_resp__item_expires_ms(item) != 0 && bw_resp__item_expires_ms(item) <= store->now_ms;
}

static void item_remove_at(struct bw_resp__store *store, struct bw_resp__item *item, uint64_t *slot)
{
	slot_clear(store, item->hash, slot);
	if (item_is_dead(store, item))
		store->dead--;
	else
		item_count(store, item, -1);
	item_drop(store, item);
}

void bw_resp__store_remove(struct bw_resp__store *store, struct bw_resp__item *item)
{
	uint64_t *slot = find_slot(store, item);

	BW_ASSERT(slot != NULL);
	item_remove_at(store, item, slot);
}

/* Is it garbage? Then it is freed. */
static bool item_collect(struct bw_resp__store *store, struct bw_resp__item *item, uint64_t *slot)
{
	if (bw_likely(!item_is_dead(store, item))) {
		if (!item_has_expired(store, item))
			return false;
		store->expired++;
	}
	item_remove_at(store, item, slot);
	return true;
}

/* How often minutes changed between two readings of used_at: Redis counts them so. */
static uint32_t minutes_between(uint32_t from, uint32_t to)
{
	uint32_t minutes = (uint32_t)((uint64_t)to * 128 / 60000 - (uint64_t)from * 128 / 60000);

	return (int32_t)(to - from) > 0 && minutes < UINT32_MAX / 2 ? minutes : 0;
}

uint8_t bw_resp__store_frequency(const struct bw_resp__store *store, const struct bw_resp__item *item)
{
	uint32_t minutes = minutes_between(item->used_at, store->used_now);

	return item->frequency > minutes ? (uint8_t)(item->frequency - minutes) : 0;
}

/* How soon the policy gives the item up: the highest first, 0 never. */
static uint64_t rank_of(const struct bw_resp__store *store, const struct bw_resp__item *item)
{
	int32_t idle =
		(int32_t)(store->used_now - item->used_at); /* negative after a step of the wall clock */
	uint64_t rank = (uint64_t)BW_MAX(idle, 0) + 1;

	if (bw_likely(store->policy == BW_RESP_ALLKEYS_LRU))
		return rank;
	if (store->policy == BW_RESP_ALLKEYS_LFU)
		return (uint64_t)(UINT8_MAX - bw_resp__store_frequency(store, item)) << 32 | rank;
	if (store->policy == BW_RESP_VOLATILE_TTL && bw_resp__item_expires_ms(item) != 0)
		return UINT64_MAX - bw_resp__item_expires_ms(item);
	return 0;
}

/* ---- the pool: the keys that the policy gives up first, as far as they were met ---- */

static void pool_insert(struct bw_resp__store *store, uint64_t slot, uint64_t rank)
{
	uint64_t least = UINT64_MAX;
	unsigned at = 0;

	/* In the place of what is known of it already, or else of the least. */
	for (unsigned i = 0; i < BW_ARRAY_LEN(store->pool); i++) {
		if (store->pool[i].slot == slot) {
			at = i;
			break;
		}
		if (store->pool[i].rank < least) {
			least = store->pool[i].rank;
			at = i;
		}
	}
	store->pool[at].slot = slot;
	store->pool[at].rank = rank;
	store->pool_least = rank;
	for (unsigned i = 0; i < BW_ARRAY_LEN(store->pool); i++)
		store->pool_least = BW_MIN(store->pool_least, store->pool[i].rank);
}

static inline void pool_offer(struct bw_resp__store *store, const struct bw_resp__item *item, uint64_t rank)
{
	if (rank > store->pool_least)
		pool_insert(store, slot_of(store, item), rank);
}

/* Where samples may miss those that may go, they are remembered when they are met. */
static void pool_meet(struct bw_resp__store *store, const struct bw_resp__item *item)
{
	if (bw_unlikely(store->policy == BW_RESP_VOLATILE_TTL))
		pool_offer(store, item, rank_of(store, item));
}

/* The entry of the first of them that is still there, may go, and was not used since. NULL: there is none. */
static uint64_t *pool_take(struct bw_resp__store *store)
{
	for (;;) {
		uint64_t rank = 0, *slot;
		struct bw_resp__item *item;
		unsigned at = 0;

		for (unsigned i = 0; i < BW_ARRAY_LEN(store->pool); i++) {
			if (store->pool[i].rank > rank) {
				rank = store->pool[i].rank;
				at = i;
			}
		}
		if (rank == 0)
			return NULL;
		store->pool[at].rank = store->pool_least = 0;
		slot = slot_with(store, store->pool[at].slot);
		if (slot == NULL)
			continue;
		item = item_at(store, *slot);
		if (item != store->keep && !item_is_pinned(item) && rank_of(store, item) >= rank)
			return slot;
	}
}

static void pool_rename(struct bw_resp__store *store, uint64_t from, uint64_t to)
{
	for (unsigned i = 0; i < BW_ARRAY_LEN(store->pool); i++)
		if (store->pool[i].slot == from)
			store->pool[i].slot = to;
}

static void item_use(struct bw_resp__store *store, struct bw_resp__item *item)
{
	if (bw_unlikely(store->policy == BW_RESP_ALLKEYS_LFU)) {
		uint32_t frequency = bw_resp__store_frequency(store, item);
		uint32_t above = frequency > FREQUENCY_NEW ? frequency - FREQUENCY_NEW : 0;

		if (frequency < UINT8_MAX && random_below(store, above * BW_RESP__LFU_LOG_FACTOR + 1) == 0)
			frequency++;
		item->frequency = (uint8_t)frequency;
	}
	if (item->used_at != store->used_now)
		item->used_at = store->used_now;
}

static inline struct bw_resp__item *find_item(
	struct bw_resp__store *store, uint32_t hash, const uint8_t *key, uint32_t key_len, bool touches)
{
	for (struct bw_resp__bucket *b = bucket_of(store, hash); b != NULL; b = b->overflow) {
		for (unsigned i = 0; i < BUCKET_SLOTS; i++) {
			struct bw_resp__item *item;

			if (b->slot[i] >> 32 != hash || b->slot[i] == 0)
				continue;
			item = item_at(store, b->slot[i]);
			if (bw_resp__item_key_len(item) != key_len || memcmp(item->bytes, key, key_len) != 0)
				continue;
			/* A dead item has the key to itself: whoever stores finds and frees it first. */
			if (item_collect(store, item, &b->slot[i]))
				return NULL;
			if (touches)
				item_use(store, item);
			return item;
		}
	}
	return NULL;
}

void bw_resp__store_prefetch_bucket(const struct bw_resp__store *store, uint32_t hash)
{
	__builtin_prefetch(bucket_of(store, hash));
}

void bw_resp__store_prefetch_item(const struct bw_resp__store *store, uint32_t hash)
{
	const struct bw_resp__bucket *b = bucket_of(store, hash);

	for (unsigned i = 0; i < BUCKET_SLOTS; i++) {
		const char *item;

		if (b->slot[i] >> 32 != hash || b->slot[i] == 0)
			continue;
		item = (const char *)item_at(store, b->slot[i]);
		for (unsigned line = 0; line < FETCH_LINES; line++)
			__builtin_prefetch(item + line * BW_CACHE_LINE, 1);
		return;
	}
	__builtin_prefetch(b->overflow);
}

struct bw_resp__item *bw_resp__store_find(
	struct bw_resp__store *store, uint32_t hash, const uint8_t *key, uint32_t key_len)
{
	return find_item(store, hash, key, key_len, true);
}

struct bw_resp__item *bw_resp__store_peek(
	struct bw_resp__store *store, uint32_t hash, const uint8_t *key, uint32_t key_len)
{
	return find_item(store, hash, key, key_len, false);
}

void bw_resp__store_reap(struct bw_resp__store *store)
{
	struct bw_resp__block *block = bw_resp__slab_take_returned(&store->slab);

	while (block != NULL) {
		struct bw_resp__block *next = block->returned;

		if (block->kind == BW_RESP__ITEM)
			item_free(store, (struct bw_resp__item *)block);
		else
			bw_resp__chunks_free(store, (struct bw_resp__chunk *)block);
		block = next;
	}
}

static unsigned sweep_buckets(struct bw_resp__store *store, unsigned buckets)
{
	unsigned freed = 0;

	while (buckets-- > 0) {
		struct bw_resp__bucket *b;

		if (store->sweep_next >= store->bucket_count)
			store->sweep_next = 0;
		b = &store->buckets[store->sweep_next++];
		while (b != NULL) {
			struct bw_resp__bucket *next = b->overflow;
			unsigned i = 0;

			while (i < BUCKET_SLOTS && b->slot[i] != 0) {
				struct bw_resp__item *item = item_at(store, b->slot[i]);

				store->swept++;
				if (item == store->keep ||
					(!item_is_dead(store, item) && !item_has_expired(store, item))) {
					pool_meet(store, item);
					i++;
					continue;
				}
				/* The last entry of the chain comes here; the chain's last bucket may go. */
				bool is_last_bucket = next == NULL, is_alone = b->slot[1] == 0;

				freed += item_collect(store, item, &b->slot[i]);
				if (is_last_bucket && is_alone)
					break;
				if (!is_last_bucket)
					next = b->overflow;
			}
			b = next;
		}
	}
	return freed;
}

static unsigned make_room(struct bw_resp__store *store, unsigned steps);

unsigned bw_resp__store_sweep(struct bw_resp__store *store, unsigned buckets)
{
	struct bw_resp__slab *slab = &store->slab;
	unsigned did;

	bw_resp__store_reap(store);
	did = make_room(store, TEND_STEPS);
	/* A lower bound comes with what is used, so that nobody who stores meanwhile is refused. */
	if (bw_unlikely(slab->bytes_max > store->bytes_wanted))
		slab->bytes_max =
			BW_MAX(store->bytes_wanted, BW_MIN(bw_resp__slab_used_bytes(slab), slab->bytes_max));
	return did + (store->expiring + store->dead > 0 ? sweep_buckets(store, buckets) : 0);
}

void bw_resp__store_flush(struct bw_resp__store *store)
{
	/*
	 * Once in 65,536 times a full round frees every dead item, so that none is ever taken for one of a later
	 * epoch: before the wrap, for behind it those of epoch 0 are alive. The slices of the flushes before have left
	 * it next to nothing.
	 */
	if (store->epoch == UINT16_MAX)
		sweep_buckets(store, store->bucket_count);
	store->dead += store->keys;
	store->keys = store->expiring = store->payload_bytes = 0;
	store->epoch++;
	sweep_buckets(store, DEAD_BUCKETS);
}

/* ---- walking ---- */

static uint32_t reverse_bits(uint32_t x)
{
	x = (x >> 1 & 0x55555555) | (x & 0x55555555) << 1;
	x = (x >> 2 & 0x33333333) | (x & 0x33333333) << 2;
	x = (x >> 4 & 0x0f0f0f0f) | (x & 0x0f0f0f0f) << 4;
	return __builtin_bswap32(x);
}

uint64_t bw_resp__store_walk(struct bw_resp__store *store, uint64_t position,
	void (*visit)(void *arg, const struct bw_resp__item *item), void *arg)
{
	const struct bw_resp__bucket *b = bucket_of(store, reverse_bits((uint32_t)position));
	uint32_t index = (uint32_t)(b - store->buckets);
	/* How many low bits of the hash the bucket stands for: one more where it was split. */
	unsigned bits = (unsigned)__builtin_popcount(store->mask) +
			((index & store->mask) < store->bucket_count - (store->mask + 1));
	uint64_t width = BW_RESP__WALK_END >> bits;

	for (; b != NULL; b = b->overflow) {
		for (unsigned i = 0; i < BUCKET_SLOTS && b->slot[i] != 0; i++) {
			const struct bw_resp__item *item = item_at(store, b->slot[i]);

			if (!item_is_dead(store, item) && !item_has_expired(store, item))
				visit(arg, item);
		}
	}
	return (position & ~(width - 1)) + width;
}

/* ---- making room ---- */

/*
 * The keys of a few buckets. False: one of them was garbage, and is no more.
 *
 * A random hash finds a bucket that is not split yet twice as often as one that is, as it should: it has twice the
 * keys. Picking buckets alike would evict mostly from the split ones, whatever the age. Where the index is nearly
 * empty, the neighbours are looked at until somebody is at home.
 */
static bool pool_fill(struct bw_resp__store *store)
{
	struct bw_resp__bucket *bucket = NULL, *end = store->buckets + store->bucket_count;
	unsigned samples = 0;

	for (unsigned n = 0; n < EVICT_BUCKETS && samples < EVICT_SAMPLES; n++) {
		if (n < EVICT_SAMPLES)
			bucket = bucket_of(store, bw_resp__store_random(store));
		else if (++bucket == end)
			bucket = store->buckets;
		for (struct bw_resp__bucket *b = bucket; b != NULL; b = b->overflow) {
			for (unsigned i = 0; i < BUCKET_SLOTS && b->slot[i] != 0; i++) {
				struct bw_resp__item *item = item_at(store, b->slot[i]);
				uint64_t rank;

				if (item == store->keep)
					continue;
				if (item_collect(store, item, &b->slot[i]))
					return false;
				if (item_is_pinned(item))
					continue;
				rank = rank_of(store, item);
				samples += rank > 0;
				pool_offer(store, item, rank);
			}
		}
	}
	return true;
}

/* The one that goes first. False: none was found. */
static bool evict_one(struct bw_resp__store *store)
{
	struct bw_resp__item *item;
	uint64_t *slot;

	if (!evicts_any(store) && store->expiring + store->dead == 0)
		return false;
	if (!pool_fill(store))
		return true;
	slot = pool_take(store);
	if (slot == NULL && store->policy == BW_RESP_VOLATILE_TTL) {
		/* They are few: look further, one after the other. */
		if (sweep_buckets(store, EVICT_SWEEP) > 0)
			return true;
		slot = pool_take(store);
	}
	if (slot == NULL)
		return false;
	item = item_at(store, *slot);
	if (item_collect(store, item, slot))
		return true;
	store->evicted++;
	item_remove_at(store, item, slot);
	return true;
}

static struct bw_resp__block *block_at(const struct bw_resp__page *page, unsigned i)
{
	return (struct bw_resp__block *)((uint8_t *)page + 64 + i * page->block_bytes);
}

/* Whose eviction would free the block. NULL: nobody's. */
static struct bw_resp__item *owner_of(
	const struct bw_resp__store *store, const struct bw_resp__page *page, unsigned i)
{
	const struct bw_resp__block *block = block_at(page, i);
	struct bw_resp__item *item = NULL;

	if (block->kind == BW_RESP__ITEM && (block->flags & BW_RESP__ITEM_DETACHED) == 0)
		item = (struct bw_resp__item *)block;
	else if (block->kind == BW_RESP__CHUNK)
		item = ((struct bw_resp__chunk *)block)->owner;
	return item != NULL && item != store->keep && !item_is_pinned(item) ? item : NULL;
}

/* Blocks of a page are gone through one after the other, but each has its entry somewhere else. */
static void bucket_prefetch(const struct bw_resp__store *store, const struct bw_resp__page *page, unsigned i)
{
	const struct bw_resp__block *block = block_at(page, i);

	if (i < page->fresh && block->kind == BW_RESP__ITEM)
		__builtin_prefetch(bucket_of(store, ((const struct bw_resp__item *)block)->hash), 1);
}

/* Whoever refers to the chunk now refers to `to`, its copy. False: they are too many to ask. */
static bool chunk_relink(struct bw_resp__chunk *chunk, struct bw_resp__chunk *to)
{
	struct bw_resp__item *item = chunk->owner;
	struct bw_resp__chunk *head = bw_resp__item_blob(item), *before = head;

	if (head == chunk) {
		if (head->tail == chunk)
			to->tail = to;
		memcpy(item->bytes + item->b.aux, &to, sizeof(to));
		return true;
	}
	for (unsigned n = 0; before->next != chunk; before = before->next)
		if (++n == MOVE_CHAIN)
			return false;
	before->next = to;
	if (head->tail == chunk)
		head->tail = to;
	return true;
}

static bool item_relink(struct bw_resp__store *store, struct bw_resp__item *item, struct bw_resp__item *to)
{
	struct bw_resp__chunk *blob = bw_resp__item_has_blob(item) ? bw_resp__item_blob(item) : NULL,
			      *c = blob;
	uint64_t *slot;

	for (unsigned n = 0; c != NULL; c = c->next)
		if (++n == MOVE_CHAIN)
			return false;
	for (c = blob; c != NULL; c = c->next)
		c->owner = to;
	slot = find_slot(store, item);
	BW_ASSERT(slot != NULL);
	pool_rename(store, *slot, slot_of(store, to));
	*slot = slot_of(store, to);
	return true;
}

static uint32_t block_filled_bytes(const struct bw_resp__block *block)
{
	const struct bw_resp__item *item = (const struct bw_resp__item *)block;

	if (block->kind == BW_RESP__CHUNK)
		return (uint32_t)sizeof(struct bw_resp__chunk) + ((const struct bw_resp__chunk *)block)->len;
	return (uint32_t)sizeof(*item) + item->b.aux +
	       (bw_resp__item_has_blob(item) ? (uint32_t)sizeof(void *) : item->value_bytes);
}

/* To another page of the same size. False: it has to stay where it is. */
static bool block_move(struct bw_resp__store *store, struct bw_resp__page *page, unsigned i)
{
	struct bw_resp__block *block = block_at(page, i), *to;
	bool is_done;

	if (owner_of(store, page, i) == NULL)
		return false;
	to = bw_resp__slab_take_hole(&store->slab, page->class_index, (enum bw_resp__kind)block->kind);
	if (to == NULL)
		return false;
	memcpy(to, block, block_filled_bytes(block));
	is_done = block->kind == BW_RESP__ITEM
			  ? item_relink(store, (struct bw_resp__item *)block, (struct bw_resp__item *)to)
			  : chunk_relink((struct bw_resp__chunk *)block, (struct bw_resp__chunk *)to);
	bw_resp__slab_free(&store->slab, is_done ? block : to);
	return is_done;
}

static bool page_can_be_moved(const struct bw_resp__store *store, const struct bw_resp__page *page)
{
	for (unsigned i = 0; i < page->fresh; i++)
		if (block_at(page, i)->kind != BW_RESP__FREE && owner_of(store, page, i) == NULL)
			return false;
	return true;
}

/* A page of the size that is to give one up. NULL: it cannot. */
static struct bw_resp__page *page_to_drain(const struct bw_resp__store *store, unsigned class_index)
{
	struct bw_resp__page *page = store->slab.partial[class_index], *best = page;

	for (unsigned n = 0; page != NULL && n < MOVE_PAGES; n++, page = page->next)
		if (page->used < best->used)
			best = page;
	return best != NULL && page_can_be_moved(store, best) ? best : NULL;
}

static void drain_from(struct bw_resp__store *store, struct bw_resp__page *page, bool evicts)
{
	bw_resp__slab_drain(&store->slab, page);
	store->drain_next = 0;
	store->drain_evicts = evicts;
}

/* A page whose keys all find holes elsewhere. False: no size has that many. */
static bool drain_a_roomy_page(struct bw_resp__store *store)
{
	struct bw_resp__slab *slab = &store->slab;
	uint64_t left = slab->roomy;

	while (left != 0) {
		unsigned i = (unsigned)__builtin_ctzll(left);
		struct bw_resp__page *page;

		left &= left - 1;
		slab->roomy &= ~(1ull << i); /* until the size loses another block */
		if (!bw_resp__slab_is_roomy(slab, i))
			continue;
		page = page_to_drain(store, i);
		if (page == NULL)
			return false;
		slab->roomy |= 1ull << i;
		drain_from(store, page, false);
		return true;
	}
	return false;
}

/* What the policy thinks of a few blocks of the page, the highest rank first. 0: there is nobody to evict. */
static uint64_t page_rank(struct bw_resp__store *store, const struct bw_resp__page *page)
{
	unsigned looks = BW_MIN((uint32_t)page->fresh, PAGE_LOOKS), looked_at = 0;
	uint32_t i = random_below(store, page->fresh);
	uint64_t rank = UINT64_MAX;

	for (unsigned n = 0; n < looks && looked_at < PAGE_BLOCKS; n++, i = (i + 1) % page->fresh) {
		const struct bw_resp__item *item = owner_of(store, page, i);

		if (item == NULL)
			continue;
		if (!item_is_dead(store, item))
			rank = BW_MIN(rank, rank_of(store, item));
		looked_at++;
	}
	return looked_at > 0 ? rank : 0;
}

/* Would evicting whom the policy allows leave nothing in it? */
static bool page_can_be_emptied(const struct bw_resp__store *store, const struct bw_resp__page *page)
{
	for (unsigned i = 0; i < page->fresh; i++) {
		const struct bw_resp__item *item;

		if (block_at(page, i)->kind == BW_RESP__FREE)
			continue;
		item = owner_of(store, page, i);
		if (item == NULL || (!item_is_dead(store, item) && rank_of(store, item) == 0))
			return false;
	}
	return true;
}

/* Of a few pages at random, the one that the policy gives up first: its keys go. False: none of them can be emptied. */
static bool drain_an_old_page(struct bw_resp__store *store)
{
	struct bw_resp__page *page = NULL;
	uint64_t first = 0;

	for (unsigned i = 0; i < PAGE_SAMPLES && store->slab.pages_touched > 0; i++) {
		uint64_t n = random_below(store, store->slab.pages_touched);
		struct bw_resp__page *p = (struct bw_resp__page *)(store->arena + n * BW_RESP__PAGE_BYTES);
		uint64_t rank;

		if (!p->is_in_use || p->class_index == store->slab.bucket_class)
			continue;
		rank = page_rank(store, p);
		if (rank <= first || !page_can_be_emptied(store, p))
			continue;
		first = rank;
		page = p;
	}
	if (page != NULL)
		drain_from(store, page, true);
	return page != NULL;
}

/* Out of the page: freed, evicted or moved; in need evicted where it cannot move. False: it has to stay. */
static bool block_clear(struct bw_resp__store *store, struct bw_resp__page *page, unsigned i, bool is_urgent)
{
	struct bw_resp__item *item = owner_of(store, page, i);
	bool may_go;

	if (item == NULL)
		return false;
	if (item_is_dead(store, item) || item_has_expired(store, item))
		return item_collect(store, item, find_slot(store, item));
	may_go = rank_of(store, item) != 0;
	if ((!store->drain_evicts || !may_go) && block_move(store, page, i))
		return true;
	if (!may_go || (!store->drain_evicts && !is_urgent))
		return false;
	store->evicted++;
	bw_resp__store_remove(store, item);
	return true;
}

/* Take a few keys out of the page that is being emptied. */
static void drain_step(struct bw_resp__store *store, bool is_urgent)
{
	struct bw_resp__slab *slab = &store->slab;
	struct bw_resp__page *page = slab->draining;

	for (unsigned n = 0; n < CLEAR_BLOCKS && slab->draining == page; n++) {
		unsigned i = store->drain_next++;

		bucket_prefetch(store, page, i + FETCH_AHEAD);
		if (i < page->fresh &&
			(block_at(page, i)->kind == BW_RESP__FREE || block_clear(store, page, i, is_urgent)))
			continue;
		bw_resp__slab_undrain(slab);
		slab->roomy &= ~(1ull << page->class_index); /* or the same page would be tried again */
	}
}

/* Fewer pages are free than there should be. What commands take that are arriving is what the reserve is for. */
static bool is_short(const struct bw_resp__store *store)
{
	uint64_t used = bw_resp__slab_used_bytes(&store->slab);

	return used > store->high_water &&
	       used - BW_MIN(store->staged_bytes, store->reserve_bytes) > store->high_water;
}

/* More than half of what was to spare is gone: evicting one by one does not keep up. */
static bool is_dire(const struct bw_resp__store *store)
{
	return store->slab.bytes_max == store->bytes_wanted &&
	       bw_resp__slab_used_bytes(&store->slab) > store->high_water / 2 + store->bytes_wanted / 2;
}

/* A key evicted, or a few moved; if need be, a few of one page evicted. False: there is nothing to do it with. */
static bool room_step(struct bw_resp__store *store, bool is_urgent)
{
	if (store->slab.draining != NULL || drain_a_roomy_page(store) ||
		(is_urgent && drain_an_old_page(store)))
		drain_step(store, is_urgent);
	else if (store->dead > 0)
		sweep_buckets(store, DEAD_STEP);
	else
		return evicts(store) && evict_one(store);
	return true;
}

/* Returns the number of steps that were made. */
static unsigned make_room(struct bw_resp__store *store, unsigned steps)
{
	unsigned n = 0;

	while (n < steps && is_short(store) && room_step(store, is_dire(store)))
		n++;
	return n;
}

/* A hole of the right size, or a page while there are more than what is to be kept free. */
static struct bw_resp__block *block_at_hand(
	struct bw_resp__store *store, uint32_t bytes, enum bw_resp__kind kind, uint64_t reserve_bytes)
{
	struct bw_resp__slab *slab = &store->slab;

	if (bw_likely(bw_resp__slab_used_bytes(slab) + BW_RESP__PAGE_BYTES <= store->high_water))
		return bw_resp__slab_alloc(slab, bytes, kind, reserve_bytes);
	return bw_resp__slab_take_hole(slab, bw_resp__slab_class_of(slab, bytes, kind), kind);
}

/* Where nothing is. */
static struct bw_resp__block *block_alloc_tight(
	struct bw_resp__store *store, uint32_t bytes, enum bw_resp__kind kind, uint64_t reserve_bytes)
{
	struct bw_resp__slab *slab = &store->slab;
	struct bw_resp__block *block = NULL;
	bool is_urgent = store->dead > 0;
	bool hunts = evicts(store) && !(evicts_any(store) && kind == BW_RESP__CHUNK);

	bw_resp__store_reap(store);
	if (slab->draining != NULL &&
		slab->draining->class_index == bw_resp__slab_class_of(slab, bytes, kind))
		bw_resp__slab_undrain(slab);
	/* Where any key may go, what comes and goes may have of what is kept free, and evicts nobody for it. */
	for (unsigned i = 0; hunts && i < HOLE_STEPS && evict_one(store); i++)
		if ((block = block_at_hand(store, bytes, kind, reserve_bytes)) != NULL)
			return block;
	block = bw_resp__slab_alloc(slab, bytes, kind, reserve_bytes);
	for (unsigned i = 0; block == NULL && i < ROOM_STEPS_MAX; i++) {
		if (!room_step(store, is_urgent)) {
			if (is_urgent)
				break;
			/* Few keys in a large index are hard to find by samples; pages know whose they are. */
			is_urgent = true;
		}
		is_urgent |= i == HOLE_STEPS;
		block = bw_resp__slab_alloc(slab, bytes, kind, reserve_bytes);
	}
	return block != NULL ? block : bw_resp__slab_alloc_larger(slab, bytes, kind);
}

static struct bw_resp__block *block_alloc(
	struct bw_resp__store *store, uint32_t bytes, enum bw_resp__kind kind, uint64_t reserve_bytes)
{
	struct bw_resp__block *block;

	if (bw_unlikely(is_short(store)))
		make_room(store, ROOM_STEPS);
	block = block_at_hand(store, bytes, kind, reserve_bytes);
	return bw_likely(block != NULL) ? block : block_alloc_tight(store, bytes, kind, reserve_bytes);
}

struct bw_resp__chunk *bw_resp__chunk_alloc(struct bw_resp__store *store, uint32_t room, bool is_small)
{
	uint32_t bytes = (uint32_t)sizeof(struct bw_resp__chunk) + room;
	struct bw_resp__chunk *chunk;

	if (store->staged_bytes + bytes >
		(is_small ? store->staged_small_bytes_max : store->staged_bytes_max))
		return NULL;
	chunk = (struct bw_resp__chunk *)block_alloc(store, bytes, BW_RESP__CHUNK, 0);
	if (chunk == NULL)
		return NULL;
	chunk->next = NULL;
	chunk->tail = chunk;
	chunk->total_bytes = chunk->len = 0;
	chunk->room = bw_resp__block_bytes(chunk) - (uint32_t)sizeof(*chunk);
	chunk_stage(store, chunk);
	return chunk;
}

/* Twice what has arrived: few and large chunks for large values, a small one for who only announces. */
static uint32_t chunk_room(const struct bw_resp__chunk *blob, uint64_t wanted)
{
	uint64_t room = blob == NULL ? 1024 : BW_MAX((uint64_t)1024, 2 * (uint64_t)blob->total_bytes);

	room = BW_MIN(room, wanted);
	return (uint32_t)BW_MIN(room, (uint64_t)BW_RESP__CHUNK_ROOM_MAX);
}

bool bw_resp__blob_append(struct bw_resp__store *store, struct bw_resp__chunk **blob, const uint8_t *data,
	uint32_t len, uint32_t hint)
{
	while (len > 0) {
		struct bw_resp__chunk *head = *blob, *tail = head != NULL ? head->tail : NULL;
		uint32_t n;

		if (tail == NULL || tail->len == tail->room) {
			uint64_t wanted = (uint64_t)len + hint;
			struct bw_resp__chunk *chunk = bw_resp__chunk_alloc(store, chunk_room(head, wanted),
				head == NULL && wanted <= BW_RESP__STAGED_SMALL);

			if (chunk == NULL)
				return false;
			if (head == NULL)
				*blob = head = chunk;
			else
				tail->next = chunk;
			head->tail = tail = chunk;
		}
		n = BW_MIN(len, tail->room - tail->len);
		memcpy(tail->bytes + tail->len, data, n);
		tail->len += n;
		head->total_bytes += n;
		data += n;
		len -= n;
	}
	return true;
}

/* ---- storing ---- */

/* A part of what a value is made of. Neither data nor blob: zeros. */
struct piece {
	const uint8_t *data;
	const struct bw_resp__chunk *blob;
	uint32_t off; /* in the blob */
	uint32_t len;
};

static struct piece piece_of(const struct bw_resp__value *value, uint32_t off, uint32_t len)
{
	if (value->blob != NULL)
		return (struct piece){ .blob = value->blob, .off = off, .len = len };
	return (struct piece){ .data = value->data + off, .len = len };
}

/* The next bytes that lie together. Returns how many; 0 at the end. */
static uint32_t piece_take(struct piece *piece, const uint8_t **data)
{
	static const uint8_t zeros[1024];
	uint32_t n = piece->len;

	if (n == 0)
		return 0;
	if (piece->blob != NULL) {
		while (piece->off >= piece->blob->len) {
			piece->off -= piece->blob->len;
			piece->blob = piece->blob->next;
		}
		n = BW_MIN(n, piece->blob->len - piece->off);
		*data = piece->blob->bytes + piece->off;
		piece->off += n;
	} else if (piece->data != NULL) {
		*data = piece->data;
		piece->data += n;
	} else {
		n = BW_MIN(n, (uint32_t)sizeof(zeros));
		*data = zeros;
	}
	piece->len -= n;
	return n;
}

static void piece_copy(struct piece piece, uint8_t *to)
{
	const uint8_t *data;
	uint32_t n;

	while ((n = piece_take(&piece, &data)) > 0)
		to = mempcpy(to, data, n);
}

static uint32_t pieces_bytes(const struct piece *pieces, unsigned count)
{
	uint32_t bytes = 0;

	for (unsigned i = 0; i < count; i++)
		bytes += pieces[i].len;
	return bytes;
}

static bool pieces_append(struct bw_resp__store *store, struct bw_resp__chunk **blob,
	const struct piece *pieces, unsigned count, uint32_t hint)
{
	uint32_t left = pieces_bytes(pieces, count), n;
	const uint8_t *data;

	for (unsigned i = 0; i < count; i++) {
		struct piece piece = pieces[i];

		while ((n = piece_take(&piece, &data)) > 0) {
			left -= n;
			if (!bw_resp__blob_append(store, blob, data, n, left + hint))
				return false;
		}
	}
	return true;
}

/* The staged blob becomes the item's value. */
static void blob_adopt(struct bw_resp__store *store, struct bw_resp__item *item, struct bw_resp__chunk *blob)
{
	for (struct bw_resp__chunk *c = blob; c != NULL; c = c->next)
		chunk_unstage(store, c, item);
	memcpy(item->bytes + item->b.aux, &blob, sizeof(blob));
	item->b.flags |= BW_RESP__ITEM_HAS_BLOB;
}

/* An item that is in no bucket yet, its value not filled in. */
static struct bw_resp__item *item_alloc(struct bw_resp__store *store, uint32_t hash, const uint8_t *key,
	uint32_t key_len, uint32_t tail_bytes)
{
	uint32_t bytes = (uint32_t)sizeof(struct bw_resp__item) + key_len + tail_bytes;
	struct bw_resp__item *item =
		(struct bw_resp__item *)block_alloc(store, bytes, BW_RESP__ITEM, store->reserve_bytes);

	if (item == NULL)
		return NULL;
	/* Nobody finds it by its page before it is in a bucket. */
	item->b.flags = BW_RESP__ITEM_DETACHED;
	item->b.aux = (uint16_t)key_len;
	item->hash = hash;
	item->epoch = store->epoch;
	item->used_at = store->used_now;
	item->frequency = FREQUENCY_NEW;
	memcpy(item->bytes, key, key_len);
	return item;
}

/* Room for one more entry in the key's chain. */
static uint64_t *slot_alloc(struct bw_resp__store *store, uint32_t hash)
{
	struct bw_resp__bucket *last = NULL;
	uint64_t *slot = empty_slot(store, hash, &last);
	struct overflow *overflow;

	if (bw_likely(slot != NULL))
		return slot;
	overflow = (struct overflow *)block_alloc(store, sizeof(*overflow), BW_RESP__BUCKET, 0);
	if (overflow == NULL)
		return NULL;
	memset(&overflow->bucket, 0, sizeof(overflow->bucket));
	/* Making room may have emptied this very chain. */
	slot = empty_slot(store, hash, &last);
	if (slot != NULL) {
		bw_resp__slab_free(&store->slab, &overflow->b);
		return slot;
	}
	last->overflow = &overflow->bucket;
	return &overflow->bucket.slot[0];
}

/* A value made of pieces, or of a staged blob of this store: behind the key, or as a blob. NULL: no memory. */
static struct bw_resp__item *item_make(struct bw_resp__store *store, uint32_t hash, const uint8_t *key,
	uint32_t key_len, struct bw_resp__chunk *taken, const struct piece *pieces, unsigned count)
{
	uint32_t len = taken != NULL ? taken->total_bytes : pieces_bytes(pieces, count);
	struct bw_resp__chunk *blob = taken;
	struct bw_resp__item *item;
	uint8_t *to;

	if (taken == NULL && len > BW_RESP__INLINE_MAX && !pieces_append(store, &blob, pieces, count, 0))
		goto no_memory;
	if (blob != NULL &&
		bw_resp__slab_used_bytes(&store->slab) + store->reserve_bytes > store->slab.bytes_max)
		goto no_memory; /* the chunks were staged, out of the reserve */
	item = item_alloc(store, hash, key, key_len, blob != NULL ? (uint32_t)sizeof(blob) : len);
	if (item == NULL)
		goto no_memory;
	item->value_bytes = len;
	if (blob != NULL) {
		blob_adopt(store, item, blob);
		return item;
	}
	to = bw_resp__item_value(item);
	for (unsigned i = 0; i < count; i++) {
		piece_copy(pieces[i], to);
		to += pieces[i].len;
	}
	return item;

no_memory:
	if (blob != NULL && taken == NULL)
		bw_resp__chunks_free(store, blob);
	return NULL;
}

/* `item` takes the place of `old`, whose key it has. */
static void item_replace(struct bw_resp__store *store, struct bw_resp__item *old, struct bw_resp__item *item)
{
	uint64_t *slot = find_slot(store, old);

	BW_ASSERT(slot != NULL);
	*slot = slot_of(store, item);
	item->b.flags &= (uint8_t)~BW_RESP__ITEM_DETACHED;
	item->frequency = old->frequency;
	pool_meet(store, item);
	item_count(store, old, -1);
	item_count(store, item, 1);
	item_drop(store, old);
}

/* Undo item_make(): a blob that was taken over goes back to who staged it. */
static void item_unmake(struct bw_resp__store *store, struct bw_resp__item *item, bool took)
{
	if (bw_resp__item_has_blob(item)) {
		struct bw_resp__chunk *blob = bw_resp__item_blob(item);

		for (struct bw_resp__chunk *c = blob; c != NULL; c = c->next)
			chunk_stage(store, c);
		if (!took)
			bw_resp__chunks_free(store, blob);
	}
	item_free(store, item);
}

struct bw_resp__item *bw_resp__store_put(struct bw_resp__store *store, uint32_t hash, const uint8_t *key,
	uint32_t key_len, const struct bw_resp__value *value, uint64_t expires_ms)
{
	struct bw_resp__item *old = bw_resp__store_find(store, hash, key, key_len), *item;
	bool takes = value->blob != NULL && value->may_take;
	struct piece piece;
	uint64_t *slot;

	if (bw_likely(old != NULL && value->blob == NULL && !bw_resp__item_has_blob(old) &&
		      value->len <= BW_RESP__INLINE_MAX && bw_resp__block_is_sole(&old->b))) {
		uint32_t bytes = (uint32_t)sizeof(*old) + key_len + value->len,
			 room = bw_resp__block_bytes(old);

		/* In place, unless that would waste more than half the block. */
		if (bytes <= room && (bytes >= room / 2 || room <= 128)) {
			store->payload_bytes += (uint64_t)value->len - old->value_bytes;
			old->value_bytes = value->len;
			old->b.flags = 0;
			memmove(bw_resp__item_value(old), value->data, value->len);
			bw_resp__store_set_expiry(store, old, expires_ms);
			return old;
		}
	}
	store->keep = old;
	piece = piece_of(value, 0, value->len);
	item = item_make(store, hash, key, key_len, takes ? value->blob : NULL, &piece, 1);
	if (item != NULL) {
		item->b.word = expires_ms;
		store->keep = old != NULL ? old : item;
		if (old != NULL) {
			item_replace(store, old, item);
		} else if ((slot = slot_alloc(store, hash)) != NULL) {
			*slot = slot_of(store, item);
			item->b.flags &= (uint8_t)~BW_RESP__ITEM_DETACHED;
			pool_meet(store, item);
			item_count(store, item, 1);
			grow_index(store);
		} else {
			item_unmake(store, item, takes);
			item = NULL;
		}
	}
	store->keep = NULL;
	return item;
}

/* Overwrite bytes of a blob that nobody else refers to. */
static void blob_overwrite(struct bw_resp__chunk *chunk, uint32_t off, struct piece piece)
{
	const uint8_t *data;
	uint32_t n;

	while ((n = piece_take(&piece, &data)) > 0) {
		while (n > 0) {
			uint32_t here;

			while (off >= chunk->len) {
				off -= chunk->len;
				chunk = chunk->next;
			}
			here = BW_MIN(n, chunk->len - off);
			memcpy(chunk->bytes + off, data, here);
			off += here;
			data += here;
			n -= here;
		}
	}
}

/* Append to an item's blob that nobody else refers to. False: no memory, it is as it was. */
static bool blob_extend(
	struct bw_resp__store *store, struct bw_resp__item *item, const struct piece *pieces, unsigned count)
{
	struct bw_resp__chunk *blob = bw_resp__item_blob(item), *tail = blob->tail;
	uint32_t tail_len = tail->len, total = blob->total_bytes;
	/* Where nobody makes room, all of it has to be there. */
	uint32_t added = evicts(store) ? 0 : pieces_bytes(pieces, count);

	if (bw_resp__slab_used_bytes(&store->slab) + store->reserve_bytes + added > store->slab.bytes_max)
		return false;
	/* An eighth to spare, so that a row of small appends does not make a chain of small chunks. */
	if (!pieces_append(store, &blob, pieces, count, BW_MAX(1024u, total / 8))) {
		bw_resp__chunks_free(store, tail->next);
		tail->next = NULL;
		tail->len = tail_len;
		blob->tail = tail;
		blob->total_bytes = total;
		return false;
	}
	for (struct bw_resp__chunk *c = tail->next; c != NULL; c = c->next)
		chunk_unstage(store, c, item);
	return true;
}

struct bw_resp__item *bw_resp__store_set_range(struct bw_resp__store *store, struct bw_resp__item *item,
	uint32_t offset, const struct bw_resp__value *value)
{
	uint32_t old_len = item->value_bytes, end = offset + value->len, len = BW_MAX(old_len, end);
	/* What of the value lies over the old bytes; the rest is appended, behind zeros if there is a gap. */
	uint32_t over = offset < old_len ? BW_MIN(end, old_len) - offset : 0;
	struct bw_resp__value old = { .len = old_len };
	struct piece added[2] = { { .len = offset > old_len ? offset - old_len : 0 },
		piece_of(value, over, value->len - over) };
	bool is_sole = bw_resp__block_is_sole(bw_resp__item_value_block(item));
	struct bw_resp__item *made;

	store->keep = item;
	if (bw_resp__item_has_blob(item)) {
		old.blob = bw_resp__item_blob(item);
		if (is_sole) {
			if (len > old_len && !blob_extend(store, item, added, 2)) {
				made = NULL;
				goto out;
			}
			blob_overwrite(old.blob, offset, piece_of(value, 0, over));
			goto in_place;
		}
	} else {
		old.data = bw_resp__item_value(item);
		if (is_sole && len <= BW_RESP__INLINE_MAX &&
			sizeof(*item) + item->b.aux + len <= bw_resp__block_bytes(item)) {
			uint8_t *to = bw_resp__item_value(item);

			memset(to + old_len, 0, added[0].len);
			piece_copy(piece_of(value, 0, value->len), to + offset);
			goto in_place;
		}
	}
	made = item_make(store, item->hash, item->bytes, item->b.aux, NULL,
		(struct piece[]){ piece_of(&old, 0, BW_MIN(offset, old_len)), added[0],
			piece_of(value, 0, value->len),
			piece_of(&old, BW_MIN(end, old_len), old_len - BW_MIN(end, old_len)) },
		4);
	if (made != NULL) {
		made->b.word = item->b.word;
		made->b.flags |= BW_RESP__ITEM_RAW;
		item_replace(store, item, made);
	}
	goto out;

in_place:
	store->payload_bytes += len - old_len;
	item->value_bytes = len;
	item->b.flags |= BW_RESP__ITEM_RAW;
	made = item;
out:
	store->keep = NULL;
	return made;
}

struct bw_resp__item *bw_resp__store_append(
	struct bw_resp__store *store, struct bw_resp__item *item, const struct bw_resp__value *value)
{
	return bw_resp__store_set_range(store, item, item->value_bytes, value);
}

struct bw_resp__item *bw_resp__store_rename(struct bw_resp__store *store, struct bw_resp__item *item,
	uint32_t hash, const uint8_t *key, uint32_t key_len)
{
	bool has_blob = bw_resp__item_has_blob(item);
	struct bw_resp__chunk *blob = has_blob ? bw_resp__item_blob(item) : NULL;
	uint32_t tail_bytes = has_blob ? (uint32_t)sizeof(blob) : item->value_bytes;
	struct bw_resp__item *made, *old;
	uint64_t *slot = NULL;

	store->keep = item;
	made = item_alloc(store, hash, key, key_len, tail_bytes);
	if (made == NULL)
		goto out;
	memcpy(bw_resp__item_value(made), bw_resp__item_value(item), tail_bytes);
	made->value_bytes = item->value_bytes;
	made->b.word = item->b.word;
	made->b.flags |= item->b.flags;
	/* Only now: making room may have evicted it. */
	old = find_item(store, hash, key, key_len, false);
	if (old == NULL && (slot = slot_alloc(store, hash)) == NULL) {
		item_free(store, made);
		made = NULL;
		goto out;
	}
	for (struct bw_resp__chunk *c = blob; c != NULL; c = c->next)
		c->owner = made;
	item->b.flags &= (uint8_t)~BW_RESP__ITEM_HAS_BLOB;
	if (old != NULL) {
		item_replace(store, old, made);
	} else {
		*slot = slot_of(store, made);
		made->b.flags &= (uint8_t)~BW_RESP__ITEM_DETACHED;
		item_count(store, made, 1);
	}
	store->keep = made;
	bw_resp__store_remove(store, item);
	grow_index(store);
out:
	store->keep = NULL;
	return made;
}

uint64_t bw_resp__store_item_bytes(const struct bw_resp__item *item)
{
	uint64_t bytes = bw_resp__block_bytes(item) + sizeof(struct bw_resp__bucket) / LOAD;

	if (bw_resp__item_has_blob(item))
		for (const struct bw_resp__chunk *c = bw_resp__item_blob(item); c != NULL; c = c->next)
			bytes += bw_resp__block_bytes(c);
	return bytes;
}

void bw_resp__store_set_expiry(struct bw_resp__store *store, struct bw_resp__item *item, uint64_t expires_ms)
{
	store->expiring += (uint64_t)(expires_ms != 0) - (uint64_t)(item->b.word != 0);
	item->b.word = expires_ms;
	pool_meet(store, item);
}

/* ---- lists of values ---- */

/* As much as the smallest item takes counts for none at all. */
static uint64_t listed_bytes_of(const struct bw_resp__block *block)
{
	return sizeof(struct bw_resp__item) + (uint64_t)bw_resp__block_value_bytes(block);
}

struct bw_resp__block *bw_resp__store_list(struct bw_resp__store *store, struct bw_resp__item *item)
{
	struct bw_resp__block *block = bw_resp__item_value_block(item);
	uint64_t bytes = listed_bytes_of(block);

	if (__atomic_load_n(&store->slab.listed_bytes, __ATOMIC_RELAXED) + bytes > store->listed_bytes_max)
		return NULL;
	__atomic_fetch_add(&store->slab.listed_bytes, bytes, __ATOMIC_RELAXED);
	bw_resp__block_pin(block);
	return block;
}

void bw_resp__unlist(struct bw_resp__block *block)
{
	struct bw_resp__slab *slab = bw_resp__page_of(block)->slab;

	__atomic_fetch_sub(&slab->listed_bytes, listed_bytes_of(block), __ATOMIC_RELAXED);
}

/* ---- for tests ---- */

/* The slab's counts, and who is in its pages. */
static void check_pages(const struct bw_resp__store *store)
{
	const struct bw_resp__slab *slab = &store->slab;
	uint64_t holes[BW_RESP__CLASSES] = { 0 }, pages = 0, draining = 0;

	for (uint64_t n = 0; n < slab->pages_touched; n++) {
		const struct bw_resp__page *page =
			(const struct bw_resp__page *)(slab->arena + n * BW_RESP__PAGE_BYTES);
		unsigned used = 0;

		if (!page->is_in_use)
			continue;
		for (unsigned i = 0; i < page->fresh; i++) {
			const struct bw_resp__block *block = block_at(page, i);
			const struct bw_resp__item *item = (const struct bw_resp__item *)block;

			used += block->kind != BW_RESP__FREE;
			if (block->kind == BW_RESP__ITEM && (block->flags & BW_RESP__ITEM_DETACHED) == 0)
				BW_ASSERT(find_slot(store, item) != NULL);
			if (block->kind == BW_RESP__ITEM && bw_resp__item_has_blob(item))
				for (const struct bw_resp__chunk *c = bw_resp__item_blob(item); c != NULL;
					c = c->next)
					BW_ASSERT(c->owner == item);
		}
		BW_ASSERT_EQ(used, page->used);
		pages++;
		draining += page->is_draining;
		if (!page->is_draining)
			holes[page->class_index] += (uint64_t)page->block_count - used;
	}
	BW_ASSERT_EQ(pages, slab->pages_used);
	BW_ASSERT_EQ(draining, slab->draining != NULL);
	for (unsigned i = 0; i < slab->class_count; i++)
		BW_ASSERT_EQ(holes[i], slab->holes[i]);
}

void bw_resp__store_check(const struct bw_resp__store *store)
{
	uint64_t keys = 0, dead = 0, expiring = 0, payload = 0;

	for (uint32_t i = 0; i < store->bucket_count; i++) {
		for (struct bw_resp__bucket *b = &store->buckets[i]; b != NULL; b = b->overflow) {
			bool ended = false;

			for (unsigned n = 0; n < BUCKET_SLOTS; n++) {
				const struct bw_resp__item *item;

				if (b->slot[n] == 0) {
					ended = true;
					continue;
				}
				BW_ASSERT(!ended);
				item = item_at(store, b->slot[n]);
				BW_ASSERT_EQ(item->b.kind, BW_RESP__ITEM);
				BW_ASSERT_EQ(item->b.flags & BW_RESP__ITEM_DETACHED, 0);
				BW_ASSERT_EQ(item->hash, b->slot[n] >> 32);
				BW_ASSERT(bucket_of(store, item->hash) == &store->buckets[i]);
				if (item_is_dead(store, item)) {
					dead++;
					continue;
				}
				keys++;
				expiring += item->b.word != 0;
				payload += item->b.aux + (uint64_t)item->value_bytes;
				if (bw_resp__item_has_blob(item))
					BW_ASSERT_EQ(
						bw_resp__item_blob(item)->total_bytes, item->value_bytes);
			}
			BW_ASSERT(b->overflow == NULL || !ended);
		}
	}
	BW_ASSERT_EQ(keys, store->keys);
	BW_ASSERT_EQ(dead, store->dead);
	BW_ASSERT_EQ(expiring, store->expiring);
	BW_ASSERT_EQ(payload, store->payload_bytes);
	BW_ASSERT_LE(bw_resp__slab_used_bytes(&store->slab), store->slab.bytes_max);
	BW_ASSERT(store->keep == NULL);
	check_pages(store);
}
