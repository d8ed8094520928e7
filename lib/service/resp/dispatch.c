/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where a command runs.
 *
 * A key's hash says it: the high half names the worker that owns the key, the low half finds it there. A command whose
 * keys are all this worker's runs at once; others become requests (request.c), are spread over the owners (spread.c),
 * or walk over all of them (scan.c). Before any of that its arguments are counted, and whoever has to say a password
 * first is told so. What is wrong with a command is a reply, and never an error of ours. What runs is counted, and now
 * and then measured (stats.c).
 */
#include "internal.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

struct bw_resp__keyhash bw_resp__hash_key(const struct bw_resp *r, const uint8_t *key, uint32_t len)
{
	uint64_t hash = XXH3_64bits_withSeed(key, len, r->hash_seed);

	return (struct bw_resp__keyhash){
		.owner = (uint32_t)((hash >> 32) * r->workers >> 32),
		.hash = (uint32_t)hash,
	};
}

static inline bool has_right_arity(const struct bw_resp__call *call)
{
	int arity = call->command->arity;

	return arity > 0 ? call->argc == (uint32_t)arity : call->argc >= (uint32_t)-arity;
}

static inline bool may_run(const struct bw_resp__call *call)
{
	return bw_likely(has_right_arity(call)) &&
	       (bw_likely((call->conn->flags & BW_RESP__UNAUTHENTICATED) == 0) ||
		       bw_resp__is_allowed_before_auth(call->command));
}

/* It does not run at all, and the reply says why. */
static enum bw_resp__ran reject(struct bw_resp__call *call)
{
	call->is_rejected = true;
	bw_resp__stat_of(call->r, call->command)->rejected++;
	if (!has_right_arity(call))
		bw_resp__reply_arity(call, call->command->name);
	else
		bw_resp__reply_error(call, "NOAUTH Authentication required.");
	return BW_RESP__RAN_HERE;
}

/* False after an error reply. */
static bool check_flush(struct bw_resp__call *call)
{
	if (call->argc == 1 || (call->argc == 2 && (bw_resp__arg_is(&call->argv[1], "async") ||
							   bw_resp__arg_is(&call->argv[1], "sync"))))
		return true;
	bw_resp__reply_syntax_error(call);
	return false;
}

static uint64_t reply_long_key(struct bw_resp__call *call)
{
	bw_resp__reply_error(call, "ERR key is longer than %u bytes", BW_RESP__KEY_MAX);
	return 0;
}

static uint64_t find_owners_of_many(struct bw_resp__call *call)
{
	struct bw_resp *r = call->r;
	int step = call->command->key_step;
	uint32_t last = call->command->last_key < 0 ? call->argc - 1 : (uint32_t)call->command->last_key;
	uint64_t owners = 0;

	if (step == 2 && call->argc % 2 == 0) { /* a key without a value */
		bw_resp__reply_arity(call, call->command->name);
		return 0;
	}
	for (uint32_t i = (uint32_t)call->command->first_key; i <= last; i += (uint32_t)step) {
		if (bw_unlikely(call->argv[i].len > BW_RESP__KEY_MAX))
			return reply_long_key(call);
		/* One worker: nothing to find, and each key is hashed once, where it is used. */
		if (r->workers > 1)
			owners |= 1ull << bw_resp__hash_key(r, call->argv[i].data, call->argv[i].len).owner;
	}
	return r->workers > 1 ? owners : 1;
}

/* Whose keys they are: a bit a worker. 0 after an error reply. */
static uint64_t find_owners(struct bw_resp__call *call)
{
	const struct bw_resp__arg *key = &call->argv[call->command->first_key];
	struct bw_resp__keyhash hash;

	if (bw_unlikely(call->command->last_key != call->command->first_key))
		return find_owners_of_many(call);
	if (bw_unlikely(key->len > BW_RESP__KEY_MAX))
		return reply_long_key(call);
	hash = bw_resp__hash_key(call->r, key->data, key->len);
	call->hash = hash.hash;
	return 1ull << hash.owner;
}

/* Here, or on its way. */
static enum bw_resp__ran run(struct bw_resp__call *call, struct bw_resp__gather **gathered)
{
	const struct bw_resp__command *command = call->command;
	uint64_t mine = 1ull << call->r->worker, owners = mine;

	if (command->first_key != 0) {
		owners = find_owners(call);
		if (bw_unlikely(owners == 0))
			return BW_RESP__RAN_HERE;
	} else if (command->spread == BW_RESP__KEYS || command->spread == BW_RESP__RANDOMKEY) {
		return bw_resp__walk_begin(call, gathered);
	} else if (command->spread == BW_RESP__SCAN) {
		int worker = bw_resp__scan_worker(call);

		if (worker < 0)
			return BW_RESP__RAN_HERE;
		owners = 1ull << worker;
	} else if (command->spread != BW_RESP__ONE && command->spread != BW_RESP__CONTAINER) {
		if ((command->spread == BW_RESP__FLUSH && !check_flush(call)) ||
			(command->spread >= BW_RESP__TELL && !bw_resp__check_told(call)))
			return BW_RESP__RAN_HERE;
		owners = UINT64_MAX >> (64 - call->r->workers);
	}
	if (bw_likely(command->run != NULL)) {
		bool waits = bw_unlikely(call->r->holds != 0) && owners == mine && bw_resp__must_wait(call);

		if (bw_likely(owners == mine && !waits)) {
			command->run(call);
			return BW_RESP__RAN_HERE;
		}
		if (call->request == NULL && !bw_resp__has_requests(call->r))
			return BW_RESP__RAN_NOT;
		if (bw_unlikely((owners & (owners - 1)) != 0))
			bw_resp__atomic_begin(call, owners, gathered);
		else
			bw_resp__send_away(call, owners, gathered);
		return BW_RESP__RAN_AWAY;
	}
	if (owners == mine && command->spread < BW_RESP__TELL &&
		(bw_likely(call->r->holds == 0) || !bw_resp__must_wait(call)) &&
		bw_resp__run_spread_here(call))
		return BW_RESP__RAN_HERE;
	if (call->request == NULL && !bw_resp__has_requests(call->r))
		return BW_RESP__RAN_NOT;
	bw_resp__spread_out(call, owners, gathered);
	return BW_RESP__RAN_AWAY;
}

/* The command of a container is another command. NULL after an error reply. */
static const struct bw_resp__command *resolve(struct bw_resp__call *call)
{
	const struct bw_resp__command *command = bw_resp__find_subcommand(call);

	if (command == NULL) {
		call->is_rejected = true;
		bw_resp__reply_unknown_subcommand(call);
		return NULL;
	}
	call->conn->last_command = bw_resp__command_number(command);
	if (call->request != NULL) /* was pushed as the container's */
		call->request->command = command;
	return command;
}

enum bw_resp__ran bw_resp__dispatch(struct bw_resp__call *call, struct bw_resp__gather **gathered)
{
	struct bw_resp__gauge *gauge;
	enum bw_resp__ran ran;
	bw_ns begun_at;

	if (bw_unlikely(call->command == NULL)) {
		bw_resp__reply_unknown_command(call);
		return BW_RESP__RAN_HERE;
	}
	if (bw_unlikely(!may_run(call)))
		return reject(call);
	if (bw_unlikely(call->command->spread == BW_RESP__CONTAINER) &&
		(call->argc > 1 || call->command->run == NULL)) {
		call->command = resolve(call);
		if (call->command == NULL)
			return BW_RESP__RAN_HERE;
		if (!may_run(call))
			return reject(call);
	}
	gauge = &call->r->stats[call->conn->last_command].calls;
	begun_at = bw_resp__count(gauge);
	ran = run(call, gathered);
	if (bw_unlikely(ran == BW_RESP__RAN_NOT))
		bw_resp__uncount(gauge);
	else if (bw_unlikely(begun_at != 0))
		bw_resp__measured(gauge, begun_at);
	return ran;
}
