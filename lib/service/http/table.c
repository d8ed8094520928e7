/* SPDX-License-Identifier: BSD-3-Clause */
#include "table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <base/assert.h>
#include <base/log.h>

#include "site.h"
#include "watch.h"

#define BUCKETS          65536
#define SWEEP_EACH_TICK  64
#define SWEEP_WHEN_STALE 4096
#define TICK_NS          BW_NS_PER_MS
#define RETRY_NS         (2 * BW_NS_PER_MS)
#define GIVE_UP_NS       BW_NS_PER_SEC /* an evicted file may be under way to a slow client for long */
#define HAND_STEPS       64
#define PAGES_NS         (20 * BW_NS_PER_MS) /* between two looks at the error pages */

/* ---- slots -------------------------------------------------------------------------------------------- */

static uint32_t slot_find(const struct bw_http__table *table, unsigned site, const uint8_t *path,
	uint32_t path_len, uint32_t hash)
{
	uint32_t at = table->bucket[hash % BUCKETS];

	while (at != 0) {
		const struct bw_http__slot *slot = &table->slots[at];

		if (slot->hash == hash && slot->key_len == path_len && slot->site == site &&
			memcmp(slot->key, path, path_len) == 0)
			break;
		at = slot->next;
	}
	return at;
}

static void slot_remove(struct bw_http__table *table, uint32_t index)
{
	struct bw_http__slot *slot = &table->slots[index];
	uint32_t *at = &table->bucket[slot->hash % BUCKETS];

	BW_ASSERT(slot->lookup == NULL);
	while (*at != index)
		at = &table->slots[*at].next;
	*at = slot->next;
	if (slot->object != NULL)
		bw_http__object_put(slot->object);
	*slot = (struct bw_http__slot){ .next = table->slot_free };
	table->slot_free = index;
	table->count--;
}

static bool slot_is_evictable(const struct bw_http__slot *slot)
{
	return slot->lookup == NULL && slot->object != NULL && !slot->object->is_constant;
}

/* 0: every slot that was looked at is in use by a look-up. */
static uint32_t slot_insert(struct bw_http__table *table, unsigned site, uint32_t hash)
{
	struct bw_http__slot *slot;
	uint32_t index;

	for (unsigned step = 0; table->slot_free == 0 && table->slots_used == BW_HTTP__SLOTS_MAX; step++) {
		if (step == HAND_STEPS)
			return 0;
		table->hand = table->hand % BW_HTTP__SLOTS_MAX + 1;
		if (slot_is_evictable(&table->slots[table->hand]))
			slot_remove(table, table->hand);
	}
	index = table->slot_free;
	if (index != 0)
		table->slot_free = table->slots[index].next;
	else
		index = ++table->slots_used;
	slot = &table->slots[index];
	*slot = (struct bw_http__slot){ .site = site, .hash = hash, .next = table->bucket[hash % BUCKETS] };
	table->bucket[hash % BUCKETS] = index;
	table->count++;
	return index;
}

/* ---- look-ups ----------------------------------------------------------------------------------------- */

static void lookup_work(struct bw_job *job)
{
	struct bw_http__lookup *lookup = bw_container_of(job, struct bw_http__lookup, job);

	lookup->got = bw_http__files_get(lookup->table->files, lookup->site, lookup->path, lookup->path_len,
		lookup->asked_at, lookup->insists, &lookup->object, &lookup->status);
}

/* The look-up goes on, if it is not done, with nobody waiting. */
static void answer_waiters(struct bw_http__table *table, struct bw_http__lookup *lookup,
	struct bw_http__object *object, unsigned status)
{
	struct bw_list waiters;
	struct bw_link *link;

	bw_link_remove(&lookup->awaited);
	bw_list_init(&waiters);
	while ((link = bw_list_pop_front(&lookup->waiters)) != NULL)
		bw_list_push_back(&waiters, link);
	table->ready(table->ctx, &waiters, object, status);
	BW_ASSERT(bw_list_is_empty(&waiters));
}

static void lookup_done(struct bw_context *ctx, struct bw_job *job)
{
	struct bw_http__lookup *lookup = bw_container_of(job, struct bw_http__lookup, job);
	struct bw_http__table *table = lookup->table;
	struct bw_http__slot *slot = &table->slots[lookup->slot];
	struct bw_http__object *old = slot->object;
	bw_ns now = bw_context_now(ctx);

	BW_ASSERT(slot->lookup == lookup);
	if (lookup->got == BW_HTTP__GOT_BUSY ||
		(lookup->got == BW_HTTP__GOT_NO_ROOM && now < lookup->give_up_at)) {
		/* What was evicted is partly ours: give it back, and ask again. */
		if (lookup->got == BW_HTTP__GOT_NO_ROOM)
			table->sweep_left = table->slots_used;
		else
			lookup->give_up_at = now + GIVE_UP_NS; /* it has not begun to wait for room */
		lookup->retry_at = now + RETRY_NS;
		bw_list_push_back(&table->lookups_again, &lookup->link);
		return;
	}
	if (lookup->got == BW_HTTP__GOT_NO_ROOM) {
		lookup->object = NULL;
		lookup->status = 503;
		table->refused++;
		bw_warn_limited(now,
			"http: a file was refused (503): the cache is full of files that are still "
			"being sent; give http a larger cache");
	}
	slot->lookup = NULL;
	slot->object = lookup->object;
	if (slot->object != NULL)
		slot->key = (const uint8_t *)slot->object->path;
	if (old != NULL)
		bw_http__object_put(old);
	answer_waiters(table, lookup, lookup->object, lookup->status);
	if (slot->object == NULL)
		slot_remove(table, lookup->slot);
	bw_list_push_front(&table->lookups_free, &lookup->link);
}

/* Ask a helper about a slot's path. NULL: all look-ups are out, or the helpers' queue is full. */
static struct bw_http__lookup *lookup_begin(
	struct bw_http__table *table, uint32_t index, const uint8_t *path, uint32_t path_len, bw_ns now)
{
	struct bw_http__slot *slot = &table->slots[index];
	struct bw_link *link = bw_list_pop_front(&table->lookups_free);
	struct bw_http__lookup *lookup;

	if (link == NULL)
		return NULL;
	lookup = bw_container_of(link, struct bw_http__lookup, link);
	lookup->job = (struct bw_job){ .work = lookup_work, .done = lookup_done };
	lookup->slot = index;
	lookup->site = slot->site;
	lookup->path_len = path_len;
	memcpy(lookup->path, path, path_len);
	lookup->begun_at = lookup->asked_at = now;
	lookup->give_up_at = now + GIVE_UP_NS;
	lookup->insists = false;
	lookup->object = NULL;
	bw_list_init(&lookup->waiters);
	bw_link_init(&lookup->awaited);
	if (bw_job_submit(table->ctx, &lookup->job) < 0) {
		bw_list_push_front(&table->lookups_free, &lookup->link);
		return NULL;
	}
	slot->lookup = lookup;
	if (slot->object == NULL) {
		slot->key = lookup->path;
		slot->key_len = path_len;
	}
	return lookup;
}

static void begin_again(struct bw_http__table *table, bw_ns now)
{
	struct bw_link *link;

	while ((link = bw_list_first(&table->lookups_again)) != NULL) {
		struct bw_http__lookup *lookup = bw_container_of(link, struct bw_http__lookup, link);

		if (now < lookup->retry_at)
			return; /* they are in the order of their times */
		lookup->asked_at = now;
		lookup->insists = now >= lookup->give_up_at - GIVE_UP_NS / 2;
		if (bw_job_submit(table->ctx, &lookup->job) < 0)
			return;
		bw_link_remove(link);
	}
}

/* ---- finding ------------------------------------------------------------------------------------------ */

/* Too old, evicted or replaced. Only a look-up in flight keeps the slot alive. */
static void slot_drop_object(struct bw_http__slot *slot)
{
	struct bw_http__object *object = slot->object;

	slot->object = NULL;
	if (slot->lookup != NULL)
		slot->key = slot->lookup->path;
	bw_http__object_put(object);
}

/* Another worker's clock may be ahead: signed. */
static bool is_past(const _Atomic bw_ns *at, bw_ns now)
{
	return (int64_t)(now - atomic_load_explicit(at, memory_order_relaxed)) >= 0;
}

static bool is_spent(const struct bw_http__object *object, bw_ns now)
{
	if (object->is_constant)
		return false;
	if (atomic_load_explicit(&object->is_stale, memory_order_acquire))
		return true;
	if (object->status == 200)
		return false;
	/* A refusal is not looked at again but asked for again. */
	return is_past(&object->look_at, now) ||
	       (object->watched != NULL &&
		       bw_http__watched_changes(object->watched) != object->watched_changes);
}

static enum bw_http__found wait_for(
	struct bw_http__table *table, struct bw_http__lookup *found, struct bw_http__lookup **lookup)
{
	table->waits++;
	*lookup = found;
	return BW_HTTP__FOUND_WAIT;
}

enum bw_http__found bw_http__table_find(struct bw_http__table *table, const struct bw_http__target *target,
	bw_ns now, struct bw_http__object **object, struct bw_http__lookup **lookup, unsigned *status)
{
	uint64_t path_hash = target->path_hash != 0
				     ? target->path_hash
				     : bw_http__table_hash(table, target->path, target->path_len);
	uint32_t hash = (uint32_t)bw_http__hash_at(target->site, path_hash);
	uint32_t index = slot_find(table, target->site, target->path, target->path_len, hash);
	struct bw_http__slot *slot = &table->slots[index];
	struct bw_http__lookup *begun;

	if (index != 0 && slot->object != NULL && is_spent(slot->object, now)) {
		if (slot->lookup == NULL) {
			slot_remove(table, index);
			index = 0;
		} else {
			slot_drop_object(slot);
		}
	}
	if (index == 0) {
		if (!bw_http__files_has_root(table->files, target->site)) {
			*status = 404;
			return BW_HTTP__FOUND_NOT;
		}
		index = slot_insert(table, target->site, hash);
		begun = index != 0 ? lookup_begin(table, index, target->path, target->path_len, now) : NULL;
		if (begun != NULL)
			return wait_for(table, begun, lookup);
		if (index != 0)
			slot_remove(table, index);
		table->refused++;
		*status = 503;
		return BW_HTTP__FOUND_NOT;
	}
	if (slot->object == NULL)
		return wait_for(table, slot->lookup, lookup);
	if (!slot->object->is_constant) {
		if (bw_unlikely(is_past(&slot->object->look_at, now))) {
			if (slot->lookup == NULL)
				lookup_begin(table, index, target->path, target->path_len, now);
			/* Where no helper has time, an old answer is better than none. */
			if (is_past(&slot->object->stale_at, now) && slot->lookup != NULL &&
				now - slot->lookup->begun_at < BW_HTTP__PATIENCE_NS) {
				if (!bw_link_is_linked(&slot->lookup->awaited))
					bw_list_push_back(&table->lookups_awaited, &slot->lookup->awaited);
				return wait_for(table, slot->lookup, lookup);
			}
		}
		/* Written only where it was not, so that workers do not take the line from each other. */
		if (!atomic_load_explicit(&slot->object->is_used, memory_order_relaxed))
			atomic_store_explicit(&slot->object->is_used, true, memory_order_relaxed);
	}
	table->hits++;
	*object = slot->object;
	return BW_HTTP__FOUND;
}

bool bw_http__table_has_constant(
	const struct bw_http__table *table, unsigned site, const uint8_t *path, uint32_t path_len)
{
	uint32_t hash = (uint32_t)bw_http__hash(&table->key, site, path, path_len);
	const struct bw_http__object *object =
		table->slots[slot_find(table, site, path, path_len, hash)].object;

	return object != NULL && object->is_constant;
}

/* Whoever has waited for long enough gets the old answer. At most LOOKUPS_MAX are in the list, mostly none. */
static void lose_patience(struct bw_http__table *table, bw_ns now)
{
	BW_LIST_FOREACH_SAFE (link, tmp, &table->lookups_awaited) {
		struct bw_http__lookup *lookup = bw_container_of(link, struct bw_http__lookup, awaited);
		struct bw_http__object *object = table->slots[lookup->slot].object;

		if (object == NULL || is_spent(object, now))
			bw_link_remove(link); /* there is none any more */
		else if (now - lookup->begun_at >= BW_HTTP__PATIENCE_NS)
			answer_waiters(table, lookup, object, 0);
	}
}

/* ---- error pages -------------------------------------------------------------------------------------- */

struct bw_http__object *bw_http__table_page(
	const struct bw_http__table *table, unsigned site, unsigned status)
{
	for (unsigned i = 0; i < table->page_count; i++)
		if (table->pages[i].status == status && table->pages[i].site == site)
			return table->pages[i].object;
	return NULL;
}

static void pages_work(struct bw_job *job)
{
	struct bw_http__table *table = bw_container_of(job, struct bw_http__table, page_job);

	for (unsigned i = 0; i < table->page_count; i++) {
		struct bw_http__table_page *page = &table->pages[i];

		page->is_known = bw_http__files_get_page(
			table->files, page->site, page->index, table->pages_asked_at, &page->next);
	}
}

static void pages_done(struct bw_context *ctx, struct bw_job *job)
{
	struct bw_http__table *table = bw_container_of(job, struct bw_http__table, page_job);

	table->page_job_is_out = false;
	table->pages_at = bw_context_now(ctx) + PAGES_NS;
	for (unsigned i = 0; i < table->page_count; i++) {
		struct bw_http__table_page *page = &table->pages[i];

		if (!page->is_known)
			continue;
		if (page->object != NULL)
			bw_http__object_put(page->object);
		page->object = page->next;
		page->next = NULL;
	}
}

/* The first look is the worker's own, before it serves. */
static int pages_init(struct bw_http__table *table)
{
	const struct bw_http__page *page;
	unsigned count = 0;

	for (unsigned site = 0; site < bw_http__files_site_count(table->files); site++)
		for (unsigned i = 0; bw_http__files_page(table->files, site, i) != NULL; i++)
			count++;
	table->pages = calloc(count + 1, sizeof(*table->pages));
	if (table->pages == NULL)
		return -ENOMEM;
	for (unsigned site = 0; site < bw_http__files_site_count(table->files); site++)
		for (unsigned i = 0; (page = bw_http__files_page(table->files, site, i)) != NULL; i++)
			table->pages[table->page_count++] = (struct bw_http__table_page){
				.site = site, .index = i, .status = page->status
			};
	table->pages_asked_at = bw_context_now(table->ctx);
	pages_work(&table->page_job);
	pages_done(table->ctx, &table->page_job);
	return 0;
}

static bool pages_are_due(const struct bw_http__table *table, bw_ns now)
{
	if (table->page_count == 0 || table->page_job_is_out || now < table->pages_at)
		return false;
	for (unsigned i = 0; i < table->page_count; i++) {
		const struct bw_http__object *object = table->pages[i].object;

		if (object == NULL ? now - table->pages_asked_at >= BW_HTTP__FRESH_NS
				   : is_past(&object->look_at, now) || is_spent(object, now))
			return true;
	}
	return false;
}

/* ---- housekeeping ------------------------------------------------------------------------------------- */

static void bury_work(struct bw_job *job)
{
	bw_http__files_bury(bw_container_of(job, struct bw_http__table, bury_job)->files);
}

static void bury_done(struct bw_context *ctx, struct bw_job *job)
{
	bw_container_of(job, struct bw_http__table, bury_job)->bury_is_out = false;
}

/* Give back what nobody here will be given again, so that its memory can be. */
static void sweep(struct bw_http__table *table, bw_ns now)
{
	uint64_t epoch = bw_http__files_epoch(table->files);
	uint32_t steps = SWEEP_EACH_TICK;

	if (epoch != table->epoch_seen) {
		table->epoch_seen = epoch;
		table->sweep_left = table->slots_used;
	}
	if (table->sweep_left > 0) {
		steps = BW_MIN(table->sweep_left, (uint32_t)SWEEP_WHEN_STALE);
		table->sweep_left -= steps;
	}
	steps = BW_MIN(steps, table->slots_used);
	while (steps-- > 0) {
		struct bw_http__slot *slot;

		table->sweep_at = table->sweep_at % table->slots_used + 1;
		slot = &table->slots[table->sweep_at];
		if (slot->object == NULL || !is_spent(slot->object, now))
			continue;
		if (slot->lookup == NULL)
			slot_remove(table, table->sweep_at);
		else
			slot_drop_object(slot);
	}
}

void bw_http__table_tick(struct bw_http__table *table, bw_ns now)
{
	if (now < table->tick_at)
		return;
	table->tick_at = now + TICK_NS;
	sweep(table, now);
	begin_again(table, now);
	lose_patience(table, now);
	if (!table->bury_is_out && bw_http__files_has_dead(table->files)) {
		table->bury_job = (struct bw_job){ .work = bury_work, .done = bury_done };
		table->bury_is_out = bw_job_submit(table->ctx, &table->bury_job) == 0;
	}
	if (pages_are_due(table, now)) {
		table->page_job = (struct bw_job){ .work = pages_work, .done = pages_done };
		table->pages_asked_at = now;
		table->page_job_is_out = bw_job_submit(table->ctx, &table->page_job) == 0;
	}
}

static void insert_constants(struct bw_http__table *table, unsigned site)
{
	struct bw_http__object *object;

	for (unsigned i = 0; (object = bw_http__files_constant(table->files, site, i)) != NULL; i++) {
		const uint8_t *key = (const uint8_t *)object->path;
		uint32_t hash = (uint32_t)bw_http__hash(&table->key, site, key, object->path_len);
		uint32_t index = slot_insert(table, site, hash);

		BW_ASSERT(index != 0);
		table->slots[index].key = key;
		table->slots[index].key_len = object->path_len;
		table->slots[index].object = bw_http__object_ref(object);
	}
}

int bw_http__table_init(struct bw_http__table *table, struct bw_context *ctx, const struct bw_http_conf *conf,
	void (*ready)(struct bw_context *ctx, struct bw_list *waiters, struct bw_http__object *object,
		unsigned status))
{
	size_t lookup_bytes =
		(sizeof(struct bw_http__lookup) + conf->request_line_bytes_max + 15) & ~(size_t)15;

	bw_list_init(&table->lookups_free);
	bw_list_init(&table->lookups_again);
	bw_list_init(&table->lookups_awaited);
	table->ctx = ctx;
	table->files = conf->files;
	table->ready = ready;
	if (getentropy(&table->key, sizeof(table->key)) < 0)
		return -errno;
	table->bucket = calloc(BUCKETS, sizeof(*table->bucket));
	table->slots = calloc(BW_HTTP__SLOTS_MAX + 1, sizeof(*table->slots));
	table->lookup_memory = calloc(BW_HTTP__LOOKUPS_MAX, lookup_bytes);
	if (table->bucket == NULL || table->slots == NULL || table->lookup_memory == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < BW_HTTP__LOOKUPS_MAX; i++) {
		struct bw_http__lookup *lookup = (void *)(table->lookup_memory + i * lookup_bytes);

		lookup->table = table;
		bw_link_init(&lookup->link);
		bw_list_push_back(&table->lookups_free, &lookup->link);
	}
	for (unsigned site = 0; site < bw_http__files_site_count(conf->files); site++)
		insert_constants(table, site);
	bw_http__files_start(conf->files);
	return pages_init(table);
}

void bw_http__table_fini(struct bw_http__table *table)
{
	struct bw_link *link;

	/* Those that wait for room are nobody's but ours. */
	while ((link = bw_list_pop_front(&table->lookups_again)) != NULL) {
		struct bw_http__lookup *lookup = bw_container_of(link, struct bw_http__lookup, link);

		BW_ASSERT(bw_list_is_empty(&lookup->waiters));
		table->slots[lookup->slot].lookup = NULL;
	}
	for (uint32_t i = 1; i <= table->slots_used && table->slots != NULL; i++) {
		BW_ASSERT(table->slots[i].lookup == NULL);
		if (table->slots[i].object != NULL)
			bw_http__object_put(table->slots[i].object);
	}
	for (unsigned i = 0; i < table->page_count; i++)
		if (table->pages[i].object != NULL)
			bw_http__object_put(table->pages[i].object);
	free(table->pages);
	free(table->bucket);
	free(table->slots);
	free(table->lookup_memory);
}
