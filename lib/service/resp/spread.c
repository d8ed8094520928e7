/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The commands with several keys, or with all of them.
 *
 * Where every key is this worker's, they run here like any other. If not, the command is posted to each owner in parts,
 * which read the same gather; the last part that comes home makes the reply. It is not atomic across workers: another
 * client may see some of an MSET's keys before the others. Between two workers mail keeps its order, so a client
 * always sees its own writes.
 */
#include "internal.h"

#include <stdio.h>

/* ---- several keys, all of them here ---- */

/* False: too long to be written at once. */
static bool mget_here(struct bw_resp__call *call)
{
	char text[BW_RESP__TEXT_MAX], *to = text, *end = text + sizeof(text);
	uint64_t hits = 0;

	*to++ = '*';
	to += bw_resp__format_int(to, (int64_t)call->argc - 1);
	to = mempcpy(to, "\r\n", 2);
	for (uint32_t i = 1; i < call->argc; i++) {
		const struct bw_resp__arg *key = &call->argv[i];
		uint32_t hash = bw_resp__hash_key(call->r, key->data, key->len).hash;
		struct bw_resp__item *item = bw_resp__store_find(&call->r->store, hash, key->data, key->len);

		if (item == NULL) {
			if (end - to < 5)
				return false;
			to = bw_resp__put_nil(to, call->is_resp3);
			continue;
		}
		if (bw_resp__item_has_blob(item) || end - to < (int64_t)item->value_bytes + 24)
			return false;
		hits++;
		*to++ = '$';
		to += bw_resp__format_int(to, item->value_bytes);
		to = mempcpy(to, "\r\n", 2);
		to = mempcpy(to, bw_resp__item_value(item), item->value_bytes);
		to = mempcpy(to, "\r\n", 2);
	}
	call->r->store.hits += hits;
	call->r->store.misses += call->argc - 1 - hits;
	bw_resp__reply_text(call, text, (uint32_t)(to - text));
	return true;
}

static void mset_here(struct bw_resp__call *call)
{
	bool ok = true;

	for (uint32_t i = 1; i < call->argc; i += 2) {
		const struct bw_resp__arg *key = &call->argv[i];

		if (!bw_resp__put_at(call, bw_resp__hash_key(call->r, key->data, key->len).hash, key,
			    &call->argv[i + 1], 0))
			ok = false;
	}
	/* Redis looks at its memory before it begins; here what was stored before the memory ran out stays. */
	if (ok)
		bw_resp__reply_ok(call);
	else
		bw_resp__reply_oom(call);
}

/* EXISTS asks about the keys; TOUCH and DEL use them. */
static struct bw_resp__item *find_existing(struct bw_resp *r, const struct bw_resp__command *command,
	uint32_t hash, const uint8_t *key, uint32_t len)
{
	struct bw_resp__item *item = command->spread == BW_RESP__EXISTS
					     ? bw_resp__store_peek(&r->store, hash, key, len)
					     : bw_resp__store_find(&r->store, hash, key, len);

	if (command->spread != BW_RESP__DEL) {
		if (item != NULL)
			r->store.hits++;
		else
			r->store.misses++;
	}
	return item;
}

static void count_here(struct bw_resp__call *call, bool removes)
{
	int64_t count = 0;

	for (uint32_t i = 1; i < call->argc; i++) {
		const struct bw_resp__arg *key = &call->argv[i];
		uint32_t hash = bw_resp__hash_key(call->r, key->data, key->len).hash;
		struct bw_resp__item *item = find_existing(call->r, call->command, hash, key->data, key->len);

		if (item == NULL)
			continue;
		count++;
		if (removes)
			bw_resp__store_remove(&call->r->store, item);
	}
	bw_resp__reply_int(call, count);
}

bool bw_resp__run_spread_here(struct bw_resp__call *call)
{
	switch (call->command->spread) {
	case BW_RESP__MGET:
		return mget_here(call);
	case BW_RESP__MSET:
		mset_here(call);
		break;
	case BW_RESP__DEL:
		count_here(call, true);
		break;
	case BW_RESP__EXISTS:
	case BW_RESP__TOUCH:
		count_here(call, false);
		break;
	case BW_RESP__FLUSH:
		bw_resp__store_flush(&call->r->store);
		bw_resp__reply_ok(call);
		break;
	case BW_RESP__DBSIZE:
		bw_resp__reply_int(call, (int64_t)call->r->store.keys);
		break;
	}
	return true;
}

/* ---- the same, this worker's part of it ---- */

void bw_resp__run_spread_part(
	struct bw_resp *r, const struct bw_resp__request *whole, bool may_take, struct bw_resp__request *part)
{
	const struct bw_resp__command *command = whole->command;
	struct bw_resp__cursor cursor;
	struct bw_resp__rec *rec, *value_rec = NULL;

	if (command->spread == BW_RESP__FLUSH)
		bw_resp__store_flush(&r->store);
	if (command->spread == BW_RESP__DBSIZE)
		part->sum += (int64_t)r->store.keys;
	if (whole->gather == NULL)
		return;
	rec = bw_resp__gather_first(whole->gather, &cursor); /* the command's name */
	while (rec != NULL && (rec = bw_resp__gather_next(&cursor)) != NULL) {
		struct bw_resp__keyhash key = bw_resp__hash_key(r, rec->bytes, rec->len);
		struct bw_resp__item *item;

		if (command->spread == BW_RESP__MSET)
			value_rec = bw_resp__gather_next(&cursor);
		if (key.owner != r->worker)
			continue;
		if (value_rec != NULL) {
			struct bw_resp__value value = {
				.data = value_rec->bytes,
				.len = value_rec->len,
				.blob = value_rec->is_blob ? value_rec->blob : NULL,
				.may_take = may_take,
			};

			if (bw_resp__store_put(&r->store, key.hash, rec->bytes, rec->len, &value, 0) == NULL)
				part->is_over_memory = true;
			else if (value.blob != NULL && may_take)
				value_rec->blob = NULL;
			continue;
		}
		if (command->spread == BW_RESP__MGET) {
			item = bw_resp__store_find(&r->store, key.hash, rec->bytes, rec->len);
			if (item == NULL) {
				r->store.misses++;
				continue;
			}
			r->store.hits++;
			rec->found = bw_resp__store_list(&r->store, item);
			if (rec->found == NULL) {
				part->is_over_memory = true;
				break;
			}
			continue;
		}
		item = find_existing(r, command, key.hash, rec->bytes, rec->len);
		if (item == NULL)
			continue;
		part->sum++;
		if (command->spread == BW_RESP__DEL)
			bw_resp__store_remove(&r->store, item);
	}
}

/* ---- out to the workers, and together again ---- */

void bw_resp__finish_spread(struct bw_resp__request *request)
{
	struct bw_resp__call call = {
		.r = request->home,
		.command = request->command,
		.request = request,
		.is_resp3 = request->is_resp3,
	};

	request->is_done = true;
	if (request->is_over_memory) {
		bw_resp__parts_free(request);
		bw_resp__reply_oom(&call);
		return;
	}
	switch (request->command->spread) {
	case BW_RESP__MGET:
		request->list_left = request->gather->argc - 1;
		bw_resp__gather_first(request->gather, &request->cursor);
		request->text_len = (uint32_t)snprintf(
			request->text, sizeof(request->text), "*%u\r\n", request->list_left);
		break;
	case BW_RESP__MSET:
	case BW_RESP__FLUSH:
	case BW_RESP__TELL:
		bw_resp__reply_ok(&call);
		break;
	case BW_RESP__TOUR:
		bw_resp__finish_tour(&call);
		break;
	default:
		bw_resp__reply_int(&call, request->sum);
		break;
	}
}

void bw_resp__spread_out(struct bw_resp__call *call, uint64_t owners, struct bw_resp__gather **gathered)
{
	struct bw_resp *r = call->r;
	struct bw_resp__request *whole = call->request != NULL ? call->request : bw_resp__request_push(call);
	bool tours = call->command->spread == BW_RESP__TOUR;

	call->request = whole;
	if ((call->command->first_key != 0 || call->command->spread >= BW_RESP__TELL) &&
		(whole->gather = bw_resp__keep_args(call, gathered)) == NULL) {
		whole->is_over_memory = true;
		bw_resp__finish_spread(whole);
		return;
	}
	for (uint32_t worker = 0; worker < r->workers; worker++) {
		struct bw_resp__request *part;

		if ((owners >> worker & 1) == 0 || (worker == r->worker && !tours))
			continue;
		part = bw_resp__request_alloc(r, call->command);
		part->parent = whole;
		part->caller = bw_resp__client_id(r, call->conn);
		whole->waiting++;
		bw_resp__post(r, worker, part);
	}
	/* The others only look while the mail is theirs, and take nothing: this part may take what it owns. */
	if ((owners >> r->worker & 1) != 0 && call->command->spread == BW_RESP__TELL) {
		bw_resp__tell(r, whole);
	} else if ((owners >> r->worker & 1) != 0 && !tours) {
		if (bw_unlikely(r->holds != 0) && bw_resp__must_wait(call)) {
			struct bw_resp__request *part = bw_resp__request_alloc(r, call->command);

			part->parent = whole;
			whole->waiting++;
			bw_resp__defer(r, part);
		} else {
			bw_resp__run_spread_part(r, whole, true, whole);
		}
	}
	if (whole->waiting == 0)
		bw_resp__finish_spread(whole);
}
