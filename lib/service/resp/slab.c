/* SPDX-License-Identifier: BSD-3-Clause */
#include "slab.h"

#include <string.h>

void bw_resp__slab_init(struct bw_resp__slab *slab, void *arena, uint64_t bytes_max, uint32_t bucket_bytes)
{
	uint32_t parts, units = 0;

	memset(slab, 0, sizeof(*slab));
	slab->arena = arena;
	slab->bytes_max = bytes_max;
	slab->pages_max = bytes_max / BW_RESP__PAGE_BYTES;

	/* 48 is an item's header with 16 bytes of key and value; 64 divides a line, which buckets need. */
	for (uint32_t bytes = 48; bytes <= 256; bytes += BW_RESP__BLOCK_ALIGN)
		slab->class_bytes[slab->class_count++] = (uint16_t)bytes;
	/* Steps of about an eighth, each an exact part of the page. */
	for (parts = BW_RESP__BLOCK_MAX / 272; parts > 0; parts -= BW_MAX(parts / 8, 1u))
		slab->class_bytes[slab->class_count++] =
			(uint16_t)(BW_RESP__BLOCK_MAX / parts / BW_RESP__BLOCK_ALIGN * BW_RESP__BLOCK_ALIGN);
	BW_ASSERT_LT(slab->class_count, BW_RESP__CLASSES);
	for (uint32_t i = 0; i < slab->class_count; i++)
		for (; units <= BW_RESP__UNITS(slab->class_bytes[i]); units++)
			slab->class_of_units[units] = (uint8_t)i;
	BW_ASSERT_EQ(units, BW_RESP__BLOCK_MAX / BW_RESP__BLOCK_ALIGN + 1);
	slab->bucket_class = slab->class_count++;
	slab->class_bytes[slab->bucket_class] =
		(uint16_t)(BW_RESP__UNITS(bucket_bytes) * BW_RESP__BLOCK_ALIGN);
	for (uint32_t i = 0; i < slab->class_count; i++)
		slab->class_blocks[i] = (uint16_t)(BW_RESP__BLOCK_MAX / slab->class_bytes[i]);
}

static void partial_push(struct bw_resp__slab *slab, struct bw_resp__page *page)
{
	struct bw_resp__page **head = &slab->partial[page->class_index];

	page->prev = NULL;
	page->next = *head;
	if (*head != NULL)
		(*head)->prev = page;
	*head = page;
}

static void partial_remove(struct bw_resp__slab *slab, struct bw_resp__page *page)
{
	if (page->prev != NULL)
		page->prev->next = page->next;
	else
		slab->partial[page->class_index] = page->next;
	if (page->next != NULL)
		page->next->prev = page->prev;
}

static struct bw_resp__page *page_alloc(
	struct bw_resp__slab *slab, uint32_t class_index, uint64_t reserve_bytes)
{
	struct bw_resp__page *page;

	if (bw_resp__slab_used_bytes(slab) + BW_RESP__PAGE_BYTES + reserve_bytes > slab->bytes_max)
		return NULL;
	if (slab->pages_free != NULL) {
		page = slab->pages_free;
		slab->pages_free = page->next;
	} else if (slab->pages_touched < slab->pages_max) {
		page = (struct bw_resp__page *)(slab->arena + slab->pages_touched++ * BW_RESP__PAGE_BYTES);
	} else {
		return NULL;
	}
	*page = (struct bw_resp__page){
		.slab = slab,
		.block_bytes = slab->class_bytes[class_index],
		.block_count = slab->class_blocks[class_index],
		.class_index = (uint8_t)class_index,
		.is_in_use = true,
	};
	slab->pages_used++;
	slab->holes[class_index] += page->block_count;
	partial_push(slab, page);
	return page;
}

/* From a page with a free block. */
static struct bw_resp__block *block_take(
	struct bw_resp__slab *slab, struct bw_resp__page *page, enum bw_resp__kind kind)
{
	struct bw_resp__block *block;

	if (page->free_head != 0) {
		block = (struct bw_resp__block *)((uint8_t *)page + page->free_head * BW_RESP__BLOCK_ALIGN);
		page->free_head = block->aux;
	} else {
		block = (struct bw_resp__block *)((uint8_t *)page + 64 + page->fresh++ * page->block_bytes);
	}
	slab->holes[page->class_index]--;
	if (++page->used == page->block_count)
		partial_remove(slab, page);
	__atomic_store_n(&block->refs, 1, __ATOMIC_RELAXED);
	block->kind = (uint8_t)kind;
	block->flags = 0;
	block->aux = 0;
	return block;
}

struct bw_resp__block *bw_resp__slab_alloc(
	struct bw_resp__slab *slab, uint32_t bytes, enum bw_resp__kind kind, uint64_t reserve_bytes)
{
	struct bw_resp__page *page;
	uint32_t class_index;

	BW_ASSERT_LE(bytes, BW_RESP__BLOCK_MAX);
	class_index = bw_resp__slab_class_of(slab, bytes, kind);
	page = slab->partial[class_index];
	if (page == NULL && (page = page_alloc(slab, class_index, reserve_bytes)) == NULL)
		return NULL;
	return block_take(slab, page, kind);
}

struct bw_resp__block *bw_resp__slab_alloc_larger(
	struct bw_resp__slab *slab, uint32_t bytes, enum bw_resp__kind kind)
{
	if (kind == BW_RESP__BUCKET)
		return NULL;
	for (uint32_t i = slab->class_of_units[BW_RESP__UNITS(bytes)] + 1u; i < slab->bucket_class; i++)
		if (slab->partial[i] != NULL)
			return block_take(slab, slab->partial[i], kind);
	return NULL;
}

struct bw_resp__block *bw_resp__slab_take_hole(
	struct bw_resp__slab *slab, uint32_t class_index, enum bw_resp__kind kind)
{
	struct bw_resp__page *page = slab->partial[class_index];

	return page != NULL ? block_take(slab, page, kind) : NULL;
}

/* ---- emptying a page ---- */

/*
 * More than a page's blocks: those of any page fit into the others' holes, and what is left of holes serves the class for
 * a while. With just a page's, a class that is in use would give a page back and want it again at once.
 */
bool bw_resp__slab_is_roomy(const struct bw_resp__slab *slab, uint32_t class_index)
{
	uint32_t blocks = slab->class_blocks[class_index];

	return slab->holes[class_index] > blocks + blocks / 4 && class_index != slab->bucket_class;
}

void bw_resp__slab_drain(struct bw_resp__slab *slab, struct bw_resp__page *page)
{
	BW_ASSERT(slab->draining == NULL);
	if (page->used < page->block_count)
		partial_remove(slab, page);
	slab->holes[page->class_index] -= (uint32_t)page->block_count - page->used;
	page->is_draining = true;
	slab->draining = page;
}

void bw_resp__slab_undrain(struct bw_resp__slab *slab)
{
	struct bw_resp__page *page = slab->draining;

	page->is_draining = false;
	slab->draining = NULL;
	slab->holes[page->class_index] += (uint32_t)page->block_count - page->used;
	if (page->used < page->block_count)
		partial_push(slab, page);
}

static void page_free(struct bw_resp__slab *slab, struct bw_resp__page *page)
{
	if (page->is_draining) {
		slab->draining = NULL;
	} else {
		slab->holes[page->class_index] -= page->block_count;
		partial_remove(slab, page);
	}
	page->is_in_use = false;
	page->next = slab->pages_free;
	slab->pages_free = page;
	slab->pages_used--;
}

void bw_resp__slab_free(struct bw_resp__slab *slab, struct bw_resp__block *block)
{
	struct bw_resp__page *page = bw_resp__page_of(block);

	BW_ASSERT(page->slab == slab && block->kind != BW_RESP__FREE);
	__atomic_store_n(&block->refs, 0, __ATOMIC_RELAXED);
	block->kind = BW_RESP__FREE;
	block->aux = page->free_head;
	page->free_head = (uint16_t)(((uint8_t *)block - (uint8_t *)page) / BW_RESP__BLOCK_ALIGN);
	if (bw_likely(!page->is_draining)) {
		if (page->used == page->block_count)
			partial_push(slab, page);
		slab->holes[page->class_index]++;
		if (bw_resp__slab_is_roomy(slab, page->class_index))
			slab->roomy |= 1ull << page->class_index;
	}
	if (--page->used == 0)
		page_free(slab, page);
}

void bw_resp__block_unpin(void *arg)
{
	struct bw_resp__block *block = arg;
	struct bw_resp__slab *slab = bw_resp__page_of(block)->slab;
	struct bw_resp__block *head;

	if (__atomic_fetch_sub(&block->refs, 1, __ATOMIC_ACQ_REL) != 1)
		return;
	/* The owner let go before: nobody else sees the block, and its second word is dead. */
	head = __atomic_load_n(&slab->returned, __ATOMIC_RELAXED);
	do {
		block->returned = head;
	} while (!__atomic_compare_exchange_n(
		&slab->returned, &head, block, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
}

struct bw_resp__block *bw_resp__slab_take_returned(struct bw_resp__slab *slab)
{
	if (__atomic_load_n(&slab->returned, __ATOMIC_RELAXED) == NULL)
		return NULL;
	return __atomic_exchange_n(&slab->returned, NULL, __ATOMIC_ACQUIRE);
}
