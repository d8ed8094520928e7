/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Blocks of any size up to a page, out of an arena reserved at the start: the memory of one worker's keyspace.
 *
 * Theory. The arena is cut into pages of 16 KiB. A page serves one size class, and goes back to the common stock
 * as soon as its last block is freed, so no class keeps memory that it does not use. What is larger than a page
 * is a chain of blocks (store.h), so nothing ever needs two adjacent pages: memory cannot fragment beyond the
 * inside of a page, and emptying any one page makes room for a block of any class. That is what lets eviction
 * promise room for every size. Classes are 16 bytes apart below 256 and the n-th parts of a page above.
 *
 * Each page begins with a line of its own: its slab, class and free list. Masking a block's address finds it.
 *
 * A class that lost blocks here and there holds pages that are half empty. The slab knows which classes could do with a
 * page less (`roomy`); who owns the blocks moves those of one page into the holes of others (store.c), and the page,
 * from which nothing is handed out meanwhile (`draining`), goes back to the stock with its last block.
 *
 * A block has a count of references, because TX may still read it when its key is gone. The owner's is the
 * first. Only the owner's core, or who holds a reference already, adds one; so where the owner sees its own alone,
 * it is alone. Any core may drop one, and the core that drops the last pushes the block on a lock-free stack, from
 * which the owner takes it back. So everything but that stack and the
 * counts is the owner's alone.
 */
#pragma once

#include <base/assert.h>
#include <base/types.h>

#define BW_RESP__PAGE_BYTES   16384u
#define BW_RESP__BLOCK_MAX    (BW_RESP__PAGE_BYTES - 64) /* the largest block */
#define BW_RESP__BLOCK_ALIGN  16u
#define BW_RESP__CLASSES      64
#define BW_RESP__UNITS(bytes) (((bytes) + BW_RESP__BLOCK_ALIGN - 1) / BW_RESP__BLOCK_ALIGN)

enum bw_resp__kind {
	BW_RESP__FREE,
	BW_RESP__ITEM,   /* a key, store.h */
	BW_RESP__CHUNK,  /* a part of a large value, or of a command that is still arriving */
	BW_RESP__BUCKET, /* of the index, when a chain is longer than a bucket */
};

/** What every block begins with. */
struct bw_resp__block {
	uint32_t refs; /* atomic; 0 when free */
	uint8_t kind;
	uint8_t flags; /* the kind's */
	uint16_t
		aux; /* the kind's; in a free block the next free one, in units of BLOCK_ALIGN from the page */
	union {
		uint64_t word;                   /* the kind's */
		struct bw_resp__block *returned; /* while on the stack */
	};
};
_Static_assert(sizeof(struct bw_resp__block) == 16, "one unit");

struct bw_resp__slab;

struct bw_resp__page {
	struct bw_resp__slab *slab;
	struct bw_resp__page *next,
		*prev; /* among the class's partial pages, or the free pages (next only) */
	uint32_t block_bytes;
	uint16_t block_count; /* that fit */
	uint16_t fresh;       /* blocks handed out at least once: the rest is untouched memory */
	uint16_t used;
	uint16_t free_head; /* 0: none */
	uint8_t class_index;
	bool is_in_use; /* has a class */
	bool is_draining;
};
_Static_assert(sizeof(struct bw_resp__page) <= 64, "the page's first line");

struct bw_resp__slab {
	struct bw_resp__page *partial[BW_RESP__CLASSES];
	struct bw_resp__page *pages_free;
	uint8_t *arena;
	uint64_t pages_max;
	uint64_t pages_touched; /* ever handed out: the rest of the arena costs nothing */
	uint64_t pages_used;
	uint64_t bytes_max;   /* pages and other_bytes together */
	uint64_t other_bytes; /* the index's, which lives elsewhere but comes out of the same bound */
	uint64_t roomy;       /* a bit a class: may have holes for more than a page's blocks */
	struct bw_resp__page *draining; /* NULL: none */
	uint32_t class_count;
	uint32_t
		bucket_class; /* of its own: buckets cannot be evicted, so they share no page with what can */
	uint16_t class_bytes[BW_RESP__CLASSES];
	uint16_t class_blocks[BW_RESP__CLASSES]; /* of a page */
	uint32_t holes[BW_RESP__CLASSES]; /* free blocks of pages that are in use; not the draining one's */
	uint8_t class_of_units[BW_RESP__BLOCK_MAX / BW_RESP__BLOCK_ALIGN + 1];
	struct bw_resp__block *returned __attribute__((aligned(64))); /* atomic: the stack */
	uint64_t listed_bytes; /* atomic: store.h's, here because other cores write it */
};

/** @arena  page-aligned, of bytes_max. @bucket_bytes  the size of BUCKET blocks */
void bw_resp__slab_init(struct bw_resp__slab *slab, void *arena, uint64_t bytes_max, uint32_t bucket_bytes);
/** A block with one reference; NULL: the bound, less `reserve_bytes`, is reached. At most BLOCK_MAX bytes. */
struct bw_resp__block *bw_resp__slab_alloc(
	struct bw_resp__slab *slab, uint32_t bytes, enum bw_resp__kind kind, uint64_t reserve_bytes);
/** The last resort where there is no page left: a free block of a larger class. */
struct bw_resp__block *bw_resp__slab_alloc_larger(
	struct bw_resp__slab *slab, uint32_t bytes, enum bw_resp__kind kind);
/** A free block of a class's pages; NULL: there is none. */
struct bw_resp__block *bw_resp__slab_take_hole(
	struct bw_resp__slab *slab, uint32_t class_index, enum bw_resp__kind kind);
static inline uint32_t bw_resp__slab_class_of(
	const struct bw_resp__slab *slab, uint32_t bytes, enum bw_resp__kind kind)
{
	return kind == BW_RESP__BUCKET ? slab->bucket_class : slab->class_of_units[BW_RESP__UNITS(bytes)];
}
/** Has the class so many holes that it could do with a page less, and keep some? */
bool bw_resp__slab_is_roomy(const struct bw_resp__slab *slab, uint32_t class_index);
/** Hand out nothing of this page any more. There is no such page yet. */
void bw_resp__slab_drain(struct bw_resp__slab *slab, struct bw_resp__page *page);
/** Again, where its last block did not go. */
void bw_resp__slab_undrain(struct bw_resp__slab *slab);
/** By the owner, when nobody refers to it any longer. */
void bw_resp__slab_free(struct bw_resp__slab *slab, struct bw_resp__block *block);
/** Everything that other cores returned, linked by `returned`; NULL when there is nothing. */
struct bw_resp__block *bw_resp__slab_take_returned(struct bw_resp__slab *slab);

static inline struct bw_resp__page *bw_resp__page_of(const void *block)
{
	return (struct bw_resp__page *)((uintptr_t)block & ~(uintptr_t)(BW_RESP__PAGE_BYTES - 1));
}

/** What fits in the block, its header included. */
static inline uint32_t bw_resp__block_bytes(const void *block)
{
	return bw_resp__page_of(block)->block_bytes;
}

static inline uint64_t bw_resp__slab_used_bytes(const struct bw_resp__slab *slab)
{
	return slab->pages_used * BW_RESP__PAGE_BYTES + slab->other_bytes;
}

/** By the owner's core, or by who holds a reference already. */
static inline void bw_resp__block_pin(struct bw_resp__block *block)
{
	__atomic_fetch_add(&block->refs, 1, __ATOMIC_RELAXED);
}

/** Nobody but the owner refers to it: it may change in place. By the owner's core. */
static inline bool bw_resp__block_is_sole(const struct bw_resp__block *block)
{
	return __atomic_load_n(&block->refs, __ATOMIC_ACQUIRE) == 1;
}

/** By any core, also as a release callback. */
void bw_resp__block_unpin(void *block);
/** The owner drops its own reference. True: it was the last, free it; false: it will come back by the stack. */
static inline bool bw_resp__block_drop(struct bw_resp__block *block)
{
	return bw_resp__block_is_sole(block) || __atomic_fetch_sub(&block->refs, 1, __ATOMIC_ACQ_REL) == 1;
}
