/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * One worker's own table, site and canonical path to object: one hash look-up, no lock, nothing shared but the objects.
 * What is not in it, or too old to trust, is looked up by a helper thread; requests that need the answer wait in
 * the look-up's list, and all that want the same path share one. Everything is allocated at the start.
 */
#pragma once

#include <base/list.h>
#include <base/siphash.h>
#include <service/service.h>

#include "files.h"

#define BW_HTTP__SLOTS_MAX   65536 /* paths a worker remembers */
#define BW_HTTP__LOOKUPS_MAX 256   /* under way at a time; more distinct cold paths than this get a 503 */

struct bw_http__table;

/** A path that a helper is asked about. */
struct bw_http__lookup {
	struct bw_job job;
	struct bw_http__table *table;
	struct bw_list waiters; /* the service's */
	struct bw_link link;    /* among the free, or those to be asked again */
	struct bw_link awaited; /* among those that requests wait for although there is an old answer */
	uint32_t slot;
	uint32_t site;
	uint32_t path_len;
	bw_ns begun_at, asked_at, retry_at, give_up_at;
	bool insists;
	/* -- the helper's answer -- */
	enum bw_http__got got;
	unsigned status;
	struct bw_http__object *object;
	uint8_t path[];
};

struct bw_http__slot {
	const uint8_t *key; /* in the object, or while there is none in the look-up */
	struct bw_http__object *object;
	struct bw_http__lookup *lookup;
	uint32_t key_len, site, hash;
	uint32_t next; /* in the bucket, or among the free; 0 ends */
};

/** An error page, always at hand. */
struct bw_http__table_page {
	struct bw_http__object *object, *next; /* NULL: there is none; what a helper has got */
	unsigned site, index, status;
	bool is_known; /* `next` is the truth */
};

struct bw_http__table {
	struct bw_context *ctx;
	struct bw_http_files *files;
	/** The answer for all who waited: borrowed, or NULL and a status. */
	void (*ready)(struct bw_context *ctx, struct bw_list *waiters, struct bw_http__object *object,
		unsigned status);
	struct bw_siphash_key key;
	uint32_t *bucket;
	struct bw_http__slot *slots; /* 1 .. slots_used; touched only as they are needed */
	uint32_t slots_used, slot_free, hand;
	uint32_t count;
	uint8_t *lookup_memory;
	struct bw_list lookups_free, lookups_again, lookups_awaited;
	bw_ns tick_at;
	uint64_t epoch_seen;
	uint32_t sweep_at, sweep_left; /* slots to look at soon, because something went stale */
	struct bw_job bury_job;
	bool bury_is_out;
	struct bw_http__table_page *pages;
	unsigned page_count;
	struct bw_job page_job;
	bw_ns pages_at, pages_asked_at;
	bool page_job_is_out;
	uint64_t hits, waits, refused; /* refused: no slot, no look-up, no room */
};

/** 0 or -ENOMEM. Constants are in it afterwards. */
int bw_http__table_init(struct bw_http__table *table, struct bw_context *ctx, const struct bw_http_conf *conf,
	void (*ready)(struct bw_context *ctx, struct bw_list *waiters, struct bw_http__object *object,
		unsigned status));
/** After the last look-up came home. */
void bw_http__table_fini(struct bw_http__table *table);

enum bw_http__found {
	BW_HTTP__FOUND,      /* *object, borrowed until the next call into the table */
	BW_HTTP__FOUND_WAIT, /* join (*lookup)->waiters */
	BW_HTTP__FOUND_NOT,  /* *status */
};

/** What the table is asked for. */
struct bw_http__target {
	unsigned site;       /* 0 the default, then the hosts */
	const uint8_t *path; /* canonical: bw_http__path() */
	uint32_t path_len;
	uint64_t path_hash; /* by bw_http__table_hash(); 0: not known yet */
};

static inline uint64_t bw_http__table_hash(
	const struct bw_http__table *table, const uint8_t *path, uint32_t path_len)
{
	return bw_siphash(&table->key, path, path_len);
}

enum bw_http__found bw_http__table_find(struct bw_http__table *table, const struct bw_http__target *target,
	bw_ns now, struct bw_http__object **object, struct bw_http__lookup **lookup, unsigned *status);
/** Is there a constant of that path? */
bool bw_http__table_has_constant(
	const struct bw_http__table *table, unsigned site, const uint8_t *path, uint32_t path_len);
/** The page of a status, borrowed until the next tick; NULL: the site has none, or it is lost. */
struct bw_http__object *bw_http__table_page(
	const struct bw_http__table *table, unsigned site, unsigned status);
void bw_http__table_tick(struct bw_http__table *table, bw_ns now);
