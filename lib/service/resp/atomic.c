/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * MSETNX, RENAME and RENAMENX: all or nothing, also where the keys are of several workers. Theory of operation.
 *
 * Where one worker owns all keys it just runs the command, as any other. Otherwise the home worker sends a part to
 * every owner, one after the other in the order of the workers, which holds the owner's keys: two-phase locking. When
 * all are held the decision falls; then the parts go out once more, all at once, to finish and let go:
 *
 *   MSETNX   hold: look whether a key is there, store if none is.  finish: where another worker had one, take it back.
 *   RENAME   hold: pin the value, look at the target.  write: copy the value to the target.  finish: remove the source.
 *
 * Nobody sees a key that is held: whatever wants one, a local command or a request by mail, is deferred, in a queue
 * in order, and so is what comes behind it for the same keys. When a hold ends the queue is gone through. A command
 * about all keys (FLUSHALL, DBSIZE, SCAN) waits for all holds of its worker, and all others behind it wait for it.
 *
 * No deadlock. Holds are taken in ascending order of the workers; who waits at a worker waits for those that hold or
 * came earlier there, and those that hold only wait at higher workers. No starvation: the queue is in order.
 *
 * What is held is counted by hash, in a table that is small: a key that shares its place waits for nothing, shortly.
 * Everything is bounded by the requests that there are. A connection that ends changes nothing: what was begun is
 * finished. While nothing is held it costs a branch (bw_resp.holds).
 */
#include "internal.h"

static bool is_part(const struct bw_resp__request *request)
{
	return request->step != BW_RESP__NO_STEP;
}

/* ---- what is held, and who waits ---- */

static bool is_about_all_keys(const struct bw_resp__command *command)
{
	return command->first_key == 0 && command->spread != BW_RESP__ONE &&
	       command->spread != BW_RESP__CONTAINER;
}

/* The next of the command's keys, behind argument `at`, that this worker owns. 0: none. */
static uint32_t next_own_key(const struct bw_resp *r, const struct bw_resp__command *command,
	const struct bw_resp__arg *argv, uint32_t argc, uint32_t at, uint32_t *hash)
{
	uint32_t last = command->last_key < 0 ? argc - 1 : (uint32_t)command->last_key;

	if (command->first_key == 0)
		return 0;
	for (at = at == 0 ? (uint32_t)command->first_key : at + (uint32_t)command->key_step; at <= last;
		at += (uint32_t)command->key_step) {
		struct bw_resp__keyhash key = bw_resp__hash_key(r, argv[at].data, argv[at].len);

		*hash = key.hash;
		if (key.owner == r->worker)
			return at;
	}
	return 0;
}

/* Has it to wait for a hold, or for somebody who waits? */
static bool conflicts(const struct bw_resp *r, const struct bw_resp__command *command,
	const struct bw_resp__arg *argv, uint32_t argc)
{
	uint32_t hash, at = 0;

	if (r->deferred_about_all > 0)
		return true;
	if (is_about_all_keys(command))
		return r->deferred != NULL || r->holds > r->is_draining;
	while ((at = next_own_key(r, command, argv, argc, at, &hash)) != 0)
		if (r->held[hash % BW_RESP__HELD] != 0 || r->waited[hash % BW_RESP__HELD] != 0)
			return true;
	return false;
}

/* Its arguments into r->argv; of a part those of the whole. */
static uint32_t args_of(struct bw_resp *r, const struct bw_resp__request *request)
{
	const struct bw_resp__gather *gather =
		request->parent != NULL ? request->parent->gather : request->gather;

	return gather != NULL ? bw_resp__gather_args(gather, r->argv) : 0;
}

static void count_keys(struct bw_resp *r, const struct bw_resp__request *request, uint32_t *table, int by)
{
	uint32_t argc = args_of(r, request), hash, at = 0;

	while ((at = next_own_key(r, request->command, r->argv, argc, at, &hash)) != 0)
		table[hash % BW_RESP__HELD] += (uint32_t)by;
}

/* It need not wait, and holds what it is to hold. False: it has to wait. */
static bool admit(struct bw_resp *r, struct bw_resp__request *request)
{
	uint32_t argc;

	if (is_part(request) && request->step != BW_RESP__STEP_HOLD)
		return true; /* it holds them */
	argc = args_of(r, request);
	if (conflicts(r, request->command, r->argv, argc))
		return false;
	if (request->step == BW_RESP__STEP_HOLD) {
		count_keys(r, request, r->held, 1);
		r->holds++;
	}
	return true;
}

bool bw_resp__must_wait(const struct bw_resp__call *call)
{
	if (call->command->first_key == 0 && !is_about_all_keys(call->command))
		return false;
	return call->r->is_draining || conflicts(call->r, call->command, call->argv, call->argc);
}

void bw_resp__defer(struct bw_resp *r, struct bw_resp__request *request)
{
	request->next_deferred = NULL;
	if (r->deferred != NULL)
		r->deferred_last->next_deferred = request;
	else
		r->deferred = request;
	r->deferred_last = request;
	r->deferred_about_all += is_about_all_keys(request->command);
	count_keys(r, request, r->waited, 1);
}

bool bw_resp__admit(struct bw_resp *r, struct bw_resp__request *request)
{
	bool has_to_hold = request->step == BW_RESP__STEP_HOLD;

	if (bw_likely(r->holds == 0 && !has_to_hold))
		return true;
	/* While those who waited are served, others stay behind them. */
	if ((r->is_draining && (!is_part(request) || has_to_hold)) || !admit(r, request)) {
		bw_resp__defer(r, request);
		return false;
	}
	return true;
}

/* A hold has ended: who can go on does. */
static void drain(struct bw_resp *r)
{
	if (r->is_draining)
		return; /* the loop below looks again */
	r->is_draining = true;
	r->holds++;
	while (r->deferred != NULL) {
		struct bw_resp__request *request = r->deferred, *next, *ready = NULL, **tail = &ready;

		r->deferred = NULL;
		r->deferred_about_all = 0;
		memset(r->waited, 0, sizeof(r->waited));
		for (; request != NULL; request = next) {
			next = request->next_deferred;
			if (!admit(r, request)) {
				bw_resp__defer(r, request);
				continue;
			}
			*tail = request;
			tail = &request->next_deferred;
		}
		*tail = NULL;
		if (ready == NULL)
			break;
		for (; ready != NULL; ready = next) {
			next = ready->next_deferred;
			bw_resp__carry_out(r, ready);
		}
	}
	r->is_draining = false;
	r->holds--;
}

/* ---- at an owner ---- */

static struct bw_resp__item *find_key(struct bw_resp *r, const struct bw_resp__arg *key)
{
	return bw_resp__store_find(
		&r->store, bw_resp__hash_key(r, key->data, key->len).hash, key->data, key->len);
}

static bool has_any(struct bw_resp__call *call)
{
	uint32_t hash, at = 0;

	while ((at = next_own_key(call->r, call->command, call->argv, call->argc, at, &hash)) != 0)
		if (bw_resp__store_find(&call->r->store, hash, call->argv[at].data, call->argv[at].len) !=
			NULL)
			return true;
	return false;
}

static void remove_all(struct bw_resp__call *call)
{
	uint32_t hash, at = 0;

	while ((at = next_own_key(call->r, call->command, call->argv, call->argc, at, &hash)) != 0) {
		struct bw_resp__item *item =
			bw_resp__store_find(&call->r->store, hash, call->argv[at].data, call->argv[at].len);

		if (item != NULL)
			bw_resp__store_remove(&call->r->store, item);
	}
}

/* None of them is there. False: no memory, and none of them is. */
static bool put_all(struct bw_resp__call *call)
{
	uint32_t hash, at = 0;

	while ((at = next_own_key(call->r, call->command, call->argv, call->argc, at, &hash)) != 0) {
		if (bw_resp__put_at(call, hash, &call->argv[at], &call->argv[at + 1], 0))
			continue;
		remove_all(call);
		return false;
	}
	return true;
}

static void hold_visit(struct bw_resp *r, struct bw_resp__request *part)
{
	struct bw_resp__call call = {
		.r = r, .command = part->command, .argv = r->argv, .may_take = part->home == r
	};
	struct bw_resp__item *item;

	call.argc = args_of(r, part);
	if (part->command->spread == BW_RESP__MSETNX) {
		part->sum = has_any(&call);
		part->has_written = part->sum == 0 && put_all(&call);
		part->is_over_memory = part->sum == 0 && !part->has_written;
		return;
	}
	item = find_key(r, &r->argv[part->is_source ? 1 : 2]);
	part->sum = item != NULL;
	if (item == NULL || !part->is_source)
		return;
	part->value = bw_resp__pin_value(item);
	part->value_flags = item->b.flags & (BW_RESP__ITEM_RAW | BW_RESP__ITEM_TEXT);
	part->expires_ms = bw_resp__item_expires_ms(item);
}

/* The value that the other part has pinned is another worker's memory: it is read and copied. */
static void write_visit(struct bw_resp *r, struct bw_resp__request *part)
{
	const struct bw_resp__request *source = part->parent->source;
	struct bw_resp__block *block = source->value;
	struct bw_resp__value value = { .len = bw_resp__block_value_bytes(block) };
	const struct bw_resp__arg *key = &r->argv[2];
	struct bw_resp__item *item;

	args_of(r, part);
	if (block->kind == BW_RESP__CHUNK)
		value.blob = (struct bw_resp__chunk *)block;
	else
		value.data = bw_resp__item_value((struct bw_resp__item *)block);
	item = bw_resp__store_put(&r->store, bw_resp__hash_key(r, key->data, key->len).hash, key->data,
		key->len, &value, source->expires_ms);
	if (item != NULL)
		item->b.flags |= source->value_flags;
	part->is_over_memory = item == NULL;
}

static void finish_visit(struct bw_resp *r, struct bw_resp__request *part)
{
	struct bw_resp__call call = { .r = r, .command = part->command, .argv = r->argv };
	bool is_done = part->parent->is_committed;
	struct bw_resp__item *item;

	call.argc = args_of(r, part);
	if (part->command->spread == BW_RESP__MSETNX) {
		if (part->has_written && !is_done)
			remove_all(&call);
	} else if (part->is_source && is_done && (item = find_key(r, &r->argv[1])) != NULL) {
		bw_resp__store_remove(&r->store, item);
	}
	count_keys(r, part, r->held, -1);
	r->holds--;
	drain(r);
}

void bw_resp__atomic_visit(struct bw_resp *r, struct bw_resp__request *part)
{
	if (part->step == BW_RESP__STEP_HOLD)
		hold_visit(r, part);
	else if (part->step == BW_RESP__STEP_WRITE)
		write_visit(r, part);
	else
		finish_visit(r, part);
}

/* ---- at home ---- */

static void send_part(struct bw_resp *r, struct bw_resp__request *part, uint8_t step)
{
	part->step = step;
	if (part->worker != r->worker)
		bw_resp__post(r, part->worker, part);
	else if (bw_resp__admit(r, part))
		bw_resp__carry_out(r, part);
}

void bw_resp__atomic_begin(struct bw_resp__call *call, uint64_t owners, struct bw_resp__gather **gathered)
{
	struct bw_resp *r = call->r;
	struct bw_resp__request *whole = call->request != NULL ? call->request : bw_resp__request_push(call),
				**tail = &whole->unsent;
	struct bw_resp__keyhash source = bw_resp__hash_key(r, call->argv[1].data, call->argv[1].len);
	struct bw_resp__request *part;

	call->request = whole;
	whole->gather = bw_resp__keep_args(call, gathered);
	if (whole->gather == NULL) {
		bw_resp__reply_oom(call);
		whole->is_done = true;
		return;
	}
	for (uint32_t worker = 0; worker < r->workers; worker++) {
		if ((owners >> worker & 1) == 0)
			continue;
		part = bw_resp__request_alloc(r, call->command);
		part->parent = whole;
		part->worker = (uint16_t)worker;
		part->is_source = worker == source.owner;
		if (part->is_source)
			whole->source = part;
		else
			whole->target = part;
		*tail = part;
		tail = &part->next;
	}
	call->conn->flags |= BW_RESP__BARRIER;
	part = whole->unsent;
	whole->unsent = part->next;
	/* By mail also to this worker: nothing that waited is served while a command is being run. */
	part->step = BW_RESP__STEP_HOLD;
	bw_resp__post(r, part->worker, part);
}

/* All that hold let go; what was never sent is not needed. */
static void finish_all(struct bw_resp *r, struct bw_resp__request *whole)
{
	struct bw_resp__request *part, *next;

	for (part = whole->unsent; part != NULL; part = next) {
		next = part->next;
		bw_resp__request_free(r, part);
	}
	part = whole->holding;
	whole->unsent = whole->holding = NULL;
	for (const struct bw_resp__request *p = part; p != NULL; p = p->next)
		whole->waiting++;
	for (; part != NULL; part = next) {
		next = part->next;
		send_part(r, part, BW_RESP__STEP_FINISH);
	}
}

static void reply(struct bw_resp *r, struct bw_resp__request *whole)
{
	struct bw_resp__call call = { .r = r, .command = whole->command, .request = whole };

	if (whole->is_over_memory)
		bw_resp__reply_oom(&call);
	else if (whole->command->spread == BW_RESP__RENAME && whole->has_no_source)
		bw_resp__reply_error(&call, "ERR no such key");
	else if (whole->command->run == bw_resp__run_rename)
		bw_resp__reply_ok(&call);
	else
		bw_resp__reply_int(&call, whole->is_committed);
}

void bw_resp__atomic_came_home(struct bw_resp *r, struct bw_resp__request *part)
{
	struct bw_resp__request *whole = part->parent, *next = whole->unsent;
	bool is_rename = whole->command->spread == BW_RESP__RENAME, is_over = false;

	switch (part->step) {
	case BW_RESP__STEP_HOLD:
		part->next = whole->holding;
		whole->holding = part;
		whole->is_over_memory |= part->is_over_memory;
		if (is_rename && part->is_source && part->sum == 0)
			whole->has_no_source = is_over = true;
		if (!is_rename && (part->sum != 0 || part->is_over_memory))
			is_over = true;
		if (!is_over && next != NULL) {
			whole->unsent = next->next;
			send_part(r, next, BW_RESP__STEP_HOLD);
			return;
		}
		if (!is_over && is_rename &&
			(whole->command->run == bw_resp__run_rename || whole->target->sum == 0)) {
			send_part(r, whole->target, BW_RESP__STEP_WRITE);
			return;
		}
		whole->is_committed = !is_over && !is_rename;
		finish_all(r, whole);
		return;
	case BW_RESP__STEP_WRITE:
		whole->is_over_memory = part->is_over_memory;
		whole->is_committed = !part->is_over_memory;
		finish_all(r, whole);
		return;
	default:
		bw_resp__request_free(r, part); /* and what it has pinned */
		if (--whole->waiting > 0)
			return;
		reply(r, whole);
		bw_resp__request_done(r, whole);
	}
}

/* ---- where all keys are one worker's ---- */

void bw_resp__run_msetnx(struct bw_resp__call *call)
{
	if (has_any(call))
		bw_resp__reply_int(call, 0);
	else if (put_all(call))
		bw_resp__reply_int(call, 1);
	else
		bw_resp__reply_oom(call);
}

static void rename_here(struct bw_resp__call *call, bool only_new)
{
	struct bw_resp *r = call->r;
	const struct bw_resp__arg *to = &call->argv[2];
	struct bw_resp__item *item = find_key(r, &call->argv[1]);
	bool is_same = to->len == call->argv[1].len && memcmp(to->data, call->argv[1].data, to->len) == 0;

	if (item == NULL) {
		bw_resp__reply_error(call, "ERR no such key");
		return;
	}
	if (only_new && (is_same || find_key(r, to) != NULL)) {
		bw_resp__reply_int(call, 0);
		return;
	}
	if (!is_same && bw_resp__store_rename(&r->store, item, bw_resp__hash_key(r, to->data, to->len).hash,
				to->data, to->len) == NULL)
		bw_resp__reply_oom(call);
	else if (only_new)
		bw_resp__reply_int(call, 1);
	else
		bw_resp__reply_ok(call);
}

void bw_resp__run_rename(struct bw_resp__call *call)
{
	rename_here(call, false);
}

void bw_resp__run_renamenx(struct bw_resp__call *call)
{
	rename_here(call, true);
}
