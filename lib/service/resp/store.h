/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * One worker's share of the keyspace: an index of items, their values, expiry and eviction. See store.c.
 *
 * Nothing here reads a clock or sends: time and the key's hash come in as arguments.
 */
#pragma once

#include <string.h>

#include <service/resp.h>

#include "slab.h"

/** The longest key. Redis has no such bound; what is longer is refused with an error that says so. */
#define BW_RESP__KEY_MAX    8192u
/** A value up to this lies behind its key; what is longer is a chain of chunks of its own. */
#define BW_RESP__INLINE_MAX 4096u

/**
 * A part of a large value (a "blob"), or of a command that is still arriving. References to a blob, also those of
 * TX, are counted in its first chunk, so a chain with more than one reference does not change.
 */
struct bw_resp__chunk {
	struct bw_resp__block b;
	struct bw_resp__chunk *next;
	struct bw_resp__item *owner; /* whose value it is; NULL: nobody's yet, or no longer */
	struct bw_resp__chunk *tail; /* the first chunk's: of the chain */
	uint32_t total_bytes;        /* the first chunk's: of the chain */
	uint32_t len, room;
	uint32_t spare[3];
	uint8_t bytes[];
};
_Static_assert(sizeof(struct bw_resp__chunk) == 64, "a line");
#define BW_RESP__CHUNK_ROOM_MAX (BW_RESP__BLOCK_MAX - (uint32_t)sizeof(struct bw_resp__chunk))

/* block.flags of a chunk */
#define BW_RESP__CHUNK_STAGED 1 /* counted in staged_bytes */

/* block.flags of an item */
#define BW_RESP__ITEM_HAS_BLOB 1
#define BW_RESP__ITEM_DETACHED 2 /* no key's item any longer; TX still reads it */
#define BW_RESP__ITEM_RAW      4 /* was changed in place: what OBJECT ENCODING calls raw, whatever its length */
#define BW_RESP__ITEM_TEXT     8 /* no number to OBJECT ENCODING, though it may read like one */

/** A key and its value. block.aux is the key's length, block.word when it expires: unix ms, 0 for never. */
struct bw_resp__item {
	struct bw_resp__block b;
	uint32_t value_bytes;
	uint32_t used_at; /* ms / 128, modulo 2^32 */
	uint32_t hash;
	uint16_t epoch;    /* of the FLUSHALL that it came after */
	uint8_t frequency; /* how often it is used, see store.c; of when used_at was set */
	uint8_t spare;
	uint8_t bytes[]; /* key, then the value or a pointer to its blob */
};
_Static_assert(sizeof(struct bw_resp__item) == 32, "with the index's 15 bytes, well below 80 a small key");

struct bw_resp__bucket;

struct bw_resp__store {
	/* -- what a lookup reads -- */
	struct bw_resp__bucket *buckets;
	uint32_t bucket_count;
	uint32_t mask;     /* 2^level - 1: buckets below bucket_count - 2^level are split already */
	uint64_t now_ms;   /* unix time */
	uint32_t used_now; /* as item.used_at */
	uint16_t epoch;
	uint8_t policy; /* enum bw_resp_policy */
	uint8_t *arena;
	uint64_t hits, misses;

	uint64_t keys, expiring; /* of this epoch; expiring: those with a time */
	uint64_t dead;           /* items of an earlier epoch that are not swept yet */
	uint64_t payload_bytes;  /* keys and values of this epoch */
	uint64_t evicted, expired;
	uint64_t staged_bytes, staged_bytes_max, staged_command_bytes_max;
	uint64_t staged_small_bytes_max; /* more: large commands leave some to small ones */
	uint64_t listed_bytes_max;
	uint64_t reserve_bytes; /* what keys leave to commands that are arriving */
	uint64_t bytes_wanted;  /* the bound that slab.bytes_max is on its way down to */
	uint64_t high_water;    /* what is used beyond that, evictions bring down again */
	uint64_t moved;         /* entries of the index that splits have looked at, ever */
	uint64_t swept;         /* items that the sweep has looked at, ever */
	uint32_t bucket_max;
	uint32_t sweep_next; /* the bucket that the sweep comes to next */
	uint64_t random;
	struct {
		uint64_t slot, rank;
	} pool[16];                       /* keys to evict, see store.c; rank 0: an empty place */
	uint64_t pool_least;              /* the least rank of them */
	unsigned drain_next;              /* the next block of the page that is being emptied */
	bool drain_evicts;                /* its keys go; otherwise they move */
	const struct bw_resp__item *keep; /* not to be evicted: the caller is working on it */
	struct bw_resp__slab slab;
};

struct bw_resp__store_conf {
	void *arena;        /* page-aligned, zeroed, bytes_max, touched only as it is used */
	void *index;        /* line-aligned, zeroed, bw_resp__store_index_bytes(bytes_max) */
	uint64_t bytes_max; /* all that keys, values, index and staged commands take */
	uint64_t random_seed;
	enum bw_resp_policy policy;
};

/** A value to store: bytes to copy, or a staged blob of this store to take over. */
struct bw_resp__value {
	const uint8_t *data;
	uint32_t len;
	struct bw_resp__chunk *blob;
	bool may_take; /* the blob is this store's: it becomes the value instead of being copied */
};

uint64_t bw_resp__store_index_bytes(uint64_t bytes_max);
/** How far the index is touched. */
uint64_t bw_resp__store_index_used_bytes(const struct bw_resp__store *store);
void bw_resp__store_init(struct bw_resp__store *store, const struct bw_resp__store_conf *conf);
/**
 * Another bound, at most that of the start, and another policy. Where keys are evicted, the bound comes down with
 * what the sweep evicts, in slices; otherwise at once.
 */
void bw_resp__store_limit(struct bw_resp__store *store, uint64_t bytes_max, enum bw_resp_policy policy);
/** What is the time: before every batch of calls. */
static inline void bw_resp__store_set_now(struct bw_resp__store *store, uint64_t now_ms)
{
	store->now_ms = now_ms;
	store->used_now = (uint32_t)(now_ms >> 7);
}

/**
 * For who looks up many keys: fetch a key's bucket for all of them, then its item for all, then find them. It pays
 * where there are several, and the cache does not hold the store.
 */
void bw_resp__store_prefetch_bucket(const struct bw_resp__store *store, uint32_t hash);
void bw_resp__store_prefetch_item(const struct bw_resp__store *store, uint32_t hash);
/** NULL: no such key, or it has expired. Valid until the next call that stores. */
struct bw_resp__item *bw_resp__store_find(
	struct bw_resp__store *store, uint32_t hash, const uint8_t *key, uint32_t key_len);
/** The same, and nobody used it: for those who ask about a key. */
struct bw_resp__item *bw_resp__store_peek(
	struct bw_resp__store *store, uint32_t hash, const uint8_t *key, uint32_t key_len);
/**
 * Set the key to a value, new or not. The item, or NULL: no memory, nothing changed. A blob that was taken over
 * is no longer the caller's.
 * @expires_ms  unix ms; 0 for never
 */
struct bw_resp__item *bw_resp__store_put(struct bw_resp__store *store, uint32_t hash, const uint8_t *key,
	uint32_t key_len, const struct bw_resp__value *value, uint64_t expires_ms);
/** Append to an item that was just found. NULL: no memory, nothing changed. */
struct bw_resp__item *bw_resp__store_append(
	struct bw_resp__store *store, struct bw_resp__item *item, const struct bw_resp__value *value);
/** Overwrite bytes of an item that was just found, or lengthen it; a gap is zeros. NULL: no memory, nothing changed. */
struct bw_resp__item *bw_resp__store_set_range(struct bw_resp__store *store, struct bw_resp__item *item,
	uint32_t offset, const struct bw_resp__value *value);
/** An item that was just found gets another key, its value and time with it. NULL: no memory, nothing changed. */
struct bw_resp__item *bw_resp__store_rename(struct bw_resp__store *store, struct bw_resp__item *item,
	uint32_t hash, const uint8_t *key, uint32_t key_len);
/** What the key costs: its blocks, and its part of the index. */
uint64_t bw_resp__store_item_bytes(const struct bw_resp__item *item);
void bw_resp__store_set_expiry(struct bw_resp__store *store, struct bw_resp__item *item, uint64_t expires_ms);
void bw_resp__store_remove(struct bw_resp__store *store, struct bw_resp__item *item);
/** All keys are gone at once. Their memory comes back in slices: at each sweep, and when it is needed. */
void bw_resp__store_flush(struct bw_resp__store *store);
/**
 * Housekeeping: take back what TX returned, look at up to `buckets` buckets, make a few steps towards the room that is to
 * be kept free. Returns how many items it freed, and steps it made.
 */
unsigned bw_resp__store_sweep(struct bw_resp__store *store, unsigned buckets);
/**
 * Visit the keys of one bucket: the one at `position`, from 0 on. Returns the next position; WALK_END behind the last.
 * Positions are in the order of the hashes with their bits reversed. A bucket holds what lies between two of them,
 * and a split cuts that in two; so whatever splits meanwhile, a walk meets every key that was there all the time, and
 * no bucket twice.
 * @visit  may not store or remove
 */
#define BW_RESP__WALK_END (1ull << 32)
uint64_t bw_resp__store_walk(struct bw_resp__store *store, uint64_t position,
	void (*visit)(void *arg, const struct bw_resp__item *item), void *arg);
/** For samples, nothing secret. */
uint32_t bw_resp__store_random(struct bw_resp__store *store);
/** Free what other cores returned. */
void bw_resp__store_reap(struct bw_resp__store *store);
/** For tests: the index, lists and counts agree. Aborts when they do not. */
void bw_resp__store_check(const struct bw_resp__store *store);

/**
 * Pin an item's value for a list of values that are sent one after the other: the reference, or NULL where too much
 * waits in such lists already. What is pinned cannot make room for anything else.
 */
struct bw_resp__block *bw_resp__store_list(struct bw_resp__store *store, struct bw_resp__item *item);
/** Its turn has come: a reference like any other. By any core. */
void bw_resp__unlist(struct bw_resp__block *block);

/* ---- staged memory ---- */

/** What a command may take as a small one. */
#define BW_RESP__STAGED_SMALL 1024u
/**
 * A chunk with room for at least `room` bytes, at most CHUNK_ROOM_MAX. NULL: no memory, or too much is staged.
 * @is_small  of a command of at most STAGED_SMALL so far: it may use what large ones leave
 */
struct bw_resp__chunk *bw_resp__chunk_alloc(struct bw_resp__store *store, uint32_t room, bool is_small);
/** Free a chain of staged chunks which nobody else refers to. */
void bw_resp__chunks_free(struct bw_resp__store *store, struct bw_resp__chunk *chunk);
/**
 * Append to a staged blob, which is made when *blob is NULL. Chunks grow with what has arrived, not with what
 * was announced.
 * @hint  bytes that are still to come after these, so that the last chunk is not larger than it must be
 */
bool bw_resp__blob_append(struct bw_resp__store *store, struct bw_resp__chunk **blob, const uint8_t *data,
	uint32_t len, uint32_t hint);
/** Drop the caller's reference. */
void bw_resp__blob_free(struct bw_resp__store *store, struct bw_resp__chunk *blob);
/** Copy the first `len` bytes out. */
void bw_resp__blob_copy(const struct bw_resp__chunk *blob, uint8_t *out, uint32_t len);

/* ---- how an item is used ---- */

#define BW_RESP__LFU_LOG_FACTOR 10u
/** Redis's LFU counter, as decayed until now. Kept only while the policy is allkeys-lfu. */
uint8_t bw_resp__store_frequency(const struct bw_resp__store *store, const struct bw_resp__item *item);
/** For how long nobody used it. */
static inline uint64_t bw_resp__store_idle_seconds(
	const struct bw_resp__store *store, const struct bw_resp__item *item)
{
	int32_t idle = (int32_t)(store->used_now - item->used_at);

	return idle > 0 ? (uint64_t)idle * 128 / 1000 : 0; /* negative after a step of the wall clock */
}

/* ---- an item's parts ---- */

static inline const uint8_t *bw_resp__item_key(const struct bw_resp__item *item)
{
	return item->bytes;
}

static inline uint32_t bw_resp__item_key_len(const struct bw_resp__item *item)
{
	return item->b.aux;
}

static inline bool bw_resp__item_has_blob(const struct bw_resp__item *item)
{
	return (item->b.flags & BW_RESP__ITEM_HAS_BLOB) != 0;
}

/** Only where the value is not a blob. */
static inline uint8_t *bw_resp__item_value(struct bw_resp__item *item)
{
	return item->bytes + item->b.aux;
}

/** Only where it is. */
static inline struct bw_resp__chunk *bw_resp__item_blob(const struct bw_resp__item *item)
{
	struct bw_resp__chunk *blob;

	memcpy(&blob, item->bytes + item->b.aux, sizeof(blob));
	return blob;
}

/** Unix ms; 0 for never. */
static inline uint64_t bw_resp__item_expires_ms(const struct bw_resp__item *item)
{
	return item->b.word;
}

/** What counts the references to the value: the blob, or the item itself. */
static inline struct bw_resp__block *bw_resp__item_value_block(struct bw_resp__item *item)
{
	return bw_resp__item_has_blob(item) ? &bw_resp__item_blob(item)->b : &item->b;
}

/** Of what item_value_block() gave, also when there is no key any more. */
static inline uint32_t bw_resp__block_value_bytes(const struct bw_resp__block *block)
{
	return block->kind == BW_RESP__CHUNK ? ((const struct bw_resp__chunk *)block)->total_bytes
					     : ((const struct bw_resp__item *)block)->value_bytes;
}
