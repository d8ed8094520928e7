/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where a command runs.
 *
 * A key's hash says it: the high half names the worker that owns the key, the low half finds it there. A command whose
 * keys are all this worker's runs at once; others become requests (request.c), are spread over the owners (spread.c),
 * or walk over all of them (scan.c). Before any of that its arguments are counted, and whoever has to say a password
 * first is told so. What is wrong with a command is a reply, and never an error of ours.
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

static bool check_arity(struct bw_resp__call *call)
{
	const struct bw_resp__command *command = call->command;
	bool ok = command->arity > 0 ? call->argc == (uint32_t)command->arity
				     : call->argc >= (uint32_t)-command->arity;

	if (ok && (command->spread == BW_RESP__MSET || command->spread == BW_RESP__MSETNX))
		ok = call->argc % 2 == 1;
	if (!ok) {
		bw_resp__reply_arity(call, command->name);
		return false;
	}
	if (command->spread == BW_RESP__FLUSH &&
		(call->argc > 2 || (call->argc == 2 && !bw_resp__arg_is(&call->argv[1], "async") &&
					   !bw_resp__arg_is(&call->argv[1], "sync")))) {
		bw_resp__reply_syntax_error(call);
		return false;
	}
	return true;
}

/* Whose keys they are: a bit a worker. 0 after an error reply. */
static uint64_t find_owners(struct bw_resp__call *call)
{
	struct bw_resp *r = call->r;
	int step = call->command->key_step;
	uint32_t last = call->command->last_key < 0 ? call->argc - 1 : (uint32_t)call->command->last_key;
	uint64_t owners = 0;

	for (uint32_t i = (uint32_t)call->command->first_key; i <= last; i += (uint32_t)step) {
		if (bw_unlikely(call->argv[i].len > BW_RESP__KEY_MAX)) {
			bw_resp__reply_error(call, "ERR key is longer than %u bytes", BW_RESP__KEY_MAX);
			return 0;
		}
		/* One worker: nothing to find, and each key is hashed once, where it is used. */
		if (call->command->last_key != call->command->first_key && r->workers == 1)
			continue;
		struct bw_resp__keyhash key = bw_resp__hash_key(r, call->argv[i].data, call->argv[i].len);

		call->hash = key.hash;
		owners |= 1ull << key.owner;
	}
	return owners | (uint64_t)(r->workers == 1);
}

enum bw_resp__ran bw_resp__dispatch(struct bw_resp__call *call, struct bw_resp__gather **gathered)
{
	const struct bw_resp__command *command = call->command;
	uint64_t mine = 1ull << call->r->worker, owners = mine;

	if (bw_unlikely(command == NULL)) {
		bw_resp__reply_unknown_command(call);
		return BW_RESP__RAN_HERE;
	}
	if (bw_unlikely(!check_arity(call)))
		return BW_RESP__RAN_HERE;
	if (bw_unlikely((call->conn->flags & BW_RESP__UNAUTHENTICATED) != 0) &&
		!bw_resp__is_allowed_before_auth(command)) {
		bw_resp__reply_error(call, "NOAUTH Authentication required.");
		return BW_RESP__RAN_HERE;
	}
	if (command->first_key != 0) {
		owners = find_owners(call);
		if (bw_unlikely(owners == 0))
			return BW_RESP__RAN_HERE;
	} else if (command->spread == BW_RESP__CONTAINER && (call->argc > 1 || command->run == NULL)) {
		command = bw_resp__find_subcommand(call);
		if (command == NULL) {
			bw_resp__reply_unknown_subcommand(call);
			return BW_RESP__RAN_HERE;
		}
		call->command = command;
		call->conn->last_command = bw_resp__command_number(command);
		if (call->request != NULL) /* was pushed as the container's */
			call->request->command = command;
		return bw_resp__dispatch(call, gathered);
	} else if (command->spread == BW_RESP__KEYS || command->spread == BW_RESP__RANDOMKEY) {
		return bw_resp__walk_begin(call, gathered);
	} else if (command->spread == BW_RESP__SCAN) {
		int worker = bw_resp__scan_worker(call);

		if (worker < 0)
			return BW_RESP__RAN_HERE;
		owners = 1ull << worker;
	} else if (command->spread != BW_RESP__ONE && command->spread != BW_RESP__CONTAINER) {
		if (command->spread >= BW_RESP__TELL && !bw_resp__check_told(call))
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
