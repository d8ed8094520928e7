/* SPDX-License-Identifier: BSD-3-Clause */
#include "blocks.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <base/log.h>

#include "internal.h"

/* ---- blocks ------------------------------------------------------------------------------------------- */

struct bw_http__blocks *bw_http__blocks_create(uint64_t cache_bytes_max)
{
	uint64_t fit = cache_bytes_max / 8 / BW_HTTP__BLOCK_BYTES;
	uint32_t count = (uint32_t)BW_MAX(BW_MIN(fit, BW_HTTP__BLOCKS_MAX), BW_HTTP__BLOCKS_MIN);
	struct bw_http__blocks *blocks = calloc(1, sizeof(*blocks) + count * sizeof(blocks->block[0]));

	if (blocks == NULL)
		return NULL;
	blocks->memory = mmap(NULL, (size_t)count * BW_HTTP__BLOCK_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (blocks->memory == MAP_FAILED) {
		free(blocks);
		return NULL;
	}
	bw_list_init(&blocks->waiting);
	blocks->count = blocks->free_count = count;
	while (count-- > 0) {
		struct bw_http__block *block = &blocks->block[count];

		block->data = blocks->memory + (size_t)count * BW_HTTP__BLOCK_BYTES;
		block->pool = blocks;
		block->next = blocks->free;
		blocks->free = block;
	}
	return blocks;
}

/* The last freed is the next taken: it is in memory, and others may never be. */
static void block_free(struct bw_http__block *block)
{
	struct bw_http__blocks *blocks = block->pool;

	block->next = blocks->free;
	blocks->free = block;
	blocks->free_count++;
}

/* Any thread. */
static void block_put(struct bw_http__block *block)
{
	struct bw_http__blocks *blocks = block->pool;
	struct bw_http__block *head;

	if (atomic_fetch_sub_explicit(&block->refs, 1, memory_order_acq_rel) != 1)
		return;
	head = atomic_load_explicit(&blocks->home, memory_order_relaxed);
	do
		block->next = head;
	while (!atomic_compare_exchange_weak_explicit(
		&blocks->home, &head, block, memory_order_release, memory_order_relaxed));
}

static void release_block(void *arg)
{
	block_put(arg);
}

bool bw_http__blocks_free(struct bw_http__blocks *blocks)
{
	struct bw_http__block *block, *next;

	for (block = atomic_exchange(&blocks->home, NULL); block != NULL; block = next) {
		next = block->next;
		block_free(block);
	}
	if (blocks->free_count != blocks->count)
		return false;
	munmap(blocks->memory, (size_t)blocks->count * BW_HTTP__BLOCK_BYTES);
	free(blocks);
	return true;
}

/* ---- reading ------------------------------------------------------------------------------------------ */

static void read_work(struct bw_job *job)
{
	struct bw_http_exchange *x = bw_container_of(job, struct bw_http_exchange, job);

	x->block_error = bw_http__files_read(
		x->reply.object, x->block->data, x->block_len, x->reply.body_at, x->block_asked_at);
}

static void read_done(struct bw_context *ctx, struct bw_job *job)
{
	struct bw_http_exchange *x = bw_container_of(job, struct bw_http_exchange, job);
	struct bw_http__worker *w = x->worker;
	struct bw_http__conn *c;

	x->job_is_out = false;
	bw_http__object_put(x->reply.object);
	if (x->is_popped) {
		block_put(x->block);
		bw_http__exchange_free(x);
		return;
	}
	c = bw_stream_state(x->stream);
	c->since = bw_context_now(ctx); /* it was our wait, not the client's */
	if (x->block_error == 0) {
		w->file_reads++;
		bw_http__pump(w, x->stream, c);
		return;
	}
	/* The head has said what cannot be kept: that the file ends here would be a lie. */
	w->file_read_failures++;
	if (!c->is_aborted)
		bw_http__give_up(w, x->stream, c);
}

/* The next piece, into a free block. False: not now. */
static bool read_begin(struct bw_http__worker *w, struct bw_http_exchange *x)
{
	struct bw_http__blocks *blocks = w->blocks;
	struct bw_http__block *block = blocks->free;
	struct bw_http__conn *c = bw_stream_state(x->stream);

	x->job = (struct bw_job){ .work = read_work, .done = read_done };
	x->block = block;
	x->block_asked_at = bw_context_now(w->ctx);
	x->block_at = 0;
	x->block_len = (uint32_t)BW_MIN(x->reply.body_left, (uint64_t)BW_HTTP__BLOCK_BYTES);
	if (bw_job_submit(w->ctx, &x->job) < 0) {
		x->block = NULL;
		return false;
	}
	blocks->free = block->next;
	blocks->free_count--;
	atomic_init(&block->refs, 1);
	block->stream_id = bw_stream_id(x->stream);
	c->blocks_out++;
	x->job_is_out = true;
	bw_http__object_ref(x->reply.object); /* the job's, which may outlive the exchange's */
	return true;
}

static void serve_waiting(struct bw_http__worker *w)
{
	struct bw_link *link;

	while (w->blocks->free != NULL && (link = bw_list_pop_front(&w->blocks->waiting)) != NULL) {
		if (!read_begin(w, bw_container_of(link, struct bw_http_exchange, waiter))) {
			bw_list_push_front(&w->blocks->waiting, link);
			return;
		}
	}
}

static bool is_streamed(const struct bw_http_exchange *x)
{
	return (x->route == NULL || x->is_dropped) && x->waits == 0 && x->reply.object != NULL &&
	       x->reply.object->is_streamed;
}

/* Its peer has taken a whole block: it may be what the connection's next one has waited for. */
static void came_home(struct bw_http__worker *w, uint64_t stream_id)
{
	struct bw_stream *s = bw_stream_find(w->ctx, stream_id);
	struct bw_http_exchange *x;
	struct bw_http__conn *c;

	if (s == NULL)
		return;
	c = bw_stream_state(s);
	c->blocks_out--;
	x = bw_http__first(c);
	if (x == NULL || c->is_aborted || !is_streamed(x))
		return;
	c->since = bw_context_now(w->ctx);
	if (x->reply.head_is_sent && x->reply.body_left > 0 && x->block == NULL && !x->job_is_out &&
		!bw_link_is_linked(&x->waiter))
		bw_list_push_back(&w->blocks->waiting, &x->waiter);
}

static void take_home(struct bw_http__worker *w)
{
	struct bw_http__block *block, *next;

	if (bw_likely(atomic_load_explicit(&w->blocks->home, memory_order_relaxed) == NULL))
		return;
	block = atomic_exchange_explicit(&w->blocks->home, NULL, memory_order_acquire);
	for (; block != NULL; block = next) {
		next = block->next;
		block_free(block);
		came_home(w, block->stream_id);
	}
}

void bw_http__blocks_tick(struct bw_http__worker *w)
{
	take_home(w);
	serve_waiting(w);
}

/* ---- sending ------------------------------------------------------------------------------------------ */

static void read_next(struct bw_http__worker *w, struct bw_http__conn *c, struct bw_http_exchange *x)
{
	struct bw_http__blocks *blocks = w->blocks;
	uint32_t out_max;

	take_home(w); /* which may have put it into the queue */
	out_max = blocks->free_count > blocks->count / 2 ? BW_HTTP__BLOCKS_PLENTY : BW_HTTP__BLOCKS_FEW;
	if (!bw_link_is_linked(&x->waiter)) {
		if (c->blocks_out >= out_max)
			return; /* the first that comes home goes on with it */
		bw_list_push_back(&blocks->waiting, &x->waiter);
	}
	serve_waiting(w);
	if (bw_link_is_linked(&x->waiter))
		w->file_read_waits++;
}

/* What was read. False: no room now. */
static bool send_block(
	struct bw_http__worker *w, struct bw_stream *s, struct bw_http__conn *c, struct bw_http_exchange *x)
{
	struct bw_http__block *block = x->block;

	while (x->block_at < x->block_len) {
		uint32_t space = bw_stream_space(s), len = x->block_len - x->block_at;
		int rc;

		/* With no space at all it is still tried: being refused is what makes writable() come. */
		if (space > 0)
			len = BW_MIN(len, space);
		atomic_fetch_add_explicit(&block->refs, 1, memory_order_relaxed);
		rc = bw_stream_send_ref(s, block->data + x->block_at, len, release_block, block);
		if (rc < 0) {
			atomic_fetch_sub_explicit(&block->refs, 1, memory_order_relaxed);
			c->is_starved = rc == -ENOBUFS && space > 0;
			return false;
		}
		x->block_at += len;
		x->reply.body_at += len;
		x->reply.body_left -= len;
		w->body_bytes += len;
		bw_http__log_body(&x->reply, len);
	}
	x->block = NULL;
	block_put(block);
	return true;
}

bool bw_http__blocks_send(
	struct bw_http__worker *w, struct bw_stream *s, struct bw_http__conn *c, struct bw_http_exchange *x)
{
	if (!bw_http__send_head(w, s, c, &x->reply))
		return false;
	if (x->job_is_out)
		return false;
	if (x->block != NULL && !send_block(w, s, c, x))
		return false;
	if (x->reply.body_left > 0) {
		read_next(w, c, x);
		return false;
	}
	bw_http__log_reply(w, &x->reply);
	return true;
}

void bw_http__blocks_drop(struct bw_http_exchange *x)
{
	if (x->block != NULL && !x->job_is_out)
		block_put(x->block);
}

bool bw_http__blocks_are_awaited(const struct bw_http__conn *c, const struct bw_http_exchange *x)
{
	/* Who holds blocks and wants another is to read what it has, or all could wait for all. */
	return is_streamed(x) && (x->job_is_out || (bw_link_is_linked(&x->waiter) && c->blocks_out == 0));
}
