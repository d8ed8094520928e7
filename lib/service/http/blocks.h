/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Files too large to be held in memory: read by helper threads while they are sent.
 *
 * A worker has a pool of blocks, touched only as they are needed. An exchange whose turn it is reads the file's next
 * piece into a block, by a job, and sends it by reference; then the next. A block comes home when the peer has
 * acknowledged it, on whichever core that is noticed: it is pushed on a lock-free list, which its worker empties once a
 * turn. One connection has at most two blocks, or a few more while most are free, so that a long way does not starve;
 * when none is free, exchanges wait in a queue, and get a block each in its order, so that all go on at one pace.
 *
 * The pool belongs to the shared cache, not to the worker: packets that a device still holds when the worker stops may
 * refer to it.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include <base/list.h>
#include <base/types.h>

#define BW_HTTP__BLOCK_BYTES   (128u * 1024)
#define BW_HTTP__BLOCKS_MIN    16u
#define BW_HTTP__BLOCKS_MAX    512u
#define BW_HTTP__BLOCKS_FEW    2u  /* of a connection: one on its way, one being read */
#define BW_HTTP__BLOCKS_PLENTY 16u /* the same while more than half are free */

struct bw_http__blocks;
struct bw_http_exchange;
struct bw_stream;
struct bw_http__conn;
struct bw_http__worker;

struct bw_http__block {
	_Atomic uint32_t refs; /* the exchange's, and one of each piece in a send queue */
	uint8_t *data;
	uint64_t stream_id; /* whose it is */
	struct bw_http__blocks *pool;
	struct bw_http__block *next; /* free, or come home */
};

struct bw_http__blocks {
	_Atomic(struct bw_http__block *) home; /* any core pushes, the worker takes all */
	struct bw_http__block *free;
	uint32_t free_count, count;
	struct bw_list waiting; /* exchanges that are to have the next ones */
	uint8_t *memory;
	struct bw_http__blocks *next; /* of the cache's */
	struct bw_http__block block[];
};

/** For a cache of that size: an eighth of it, between 2 and 64 MiB. NULL: no memory. */
struct bw_http__blocks *bw_http__blocks_create(uint64_t cache_bytes_max);
/** False: something still refers to one, and nothing was freed. */
bool bw_http__blocks_free(struct bw_http__blocks *blocks);

/** bw_http__send_reply() of an exchange whose object is not in memory. True: all of it is in the send queue. */
bool bw_http__blocks_send(
	struct bw_http__worker *w, struct bw_stream *s, struct bw_http__conn *c, struct bw_http_exchange *x);
/** The exchange is over. */
void bw_http__blocks_drop(struct bw_http_exchange *x);
/** Does it wait for a helper or a block, and not for its peer? */
bool bw_http__blocks_are_awaited(const struct bw_http__conn *c, const struct bw_http_exchange *x);
/** Once a turn: what came home goes to who waits. */
void bw_http__blocks_tick(struct bw_http__worker *w);
