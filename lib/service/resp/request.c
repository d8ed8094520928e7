/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Commands that cannot be answered at once: requests, and the mail that they travel as.
 *
 * A command for another worker's key becomes a request: its arguments in a gather, it travels as mail to the owner,
 * which runs it, writes the reply into it and posts it back. Requests of a connection queue up, and whatever comes
 * behind the first of them is answered into a request too, so that replies leave in order (send.c). A command with
 * keys of several owners has a part for each (spread.c); one that is atomic across them goes through atomic.c.
 *
 * Who owns what. Requests and gathers are of their connection's worker; others only read and fill them while they
 * have the mail. Values are of their key's worker; a reply pins them by an atomic count, and the last to let go
 * returns them (slab.h).
 *
 * There is an end of requests. A command that needs none never waits for one; and the fewer are left, the fewer one
 * connection may have (a dynamic threshold: Choudhury and Hahne, 1998), so that those who have many leave some to those
 * who have none.
 */
#include "internal.h"

#define WAITING_MAX  128u /* a connection */
#define WAITING_PART 8u   /* and at most this part of what is free */

/* ---- the pool, and a connection's queue ---- */

struct bw_resp__request *bw_resp__request_alloc(struct bw_resp *r, const struct bw_resp__command *command)
{
	struct bw_resp__request *request = r->requests_free;

	BW_ASSERT(request != NULL); /* bw_resp__has_requests() looked */
	r->requests_free = request->next;
	r->requests_free_count--;
	/* All but the text. */
	memset(request, 0, offsetof(struct bw_resp__request, text));
	request->home = r;
	request->command = command;
	return request;
}

void bw_resp__parts_free(struct bw_resp__request *whole)
{
	while (whole->parts != NULL) {
		struct bw_resp__request *part = whole->parts;

		whole->parts = part->next;
		bw_resp__request_free(whole->home, part);
	}
}

void bw_resp__request_free(struct bw_resp *r, struct bw_resp__request *request)
{
	bw_resp__parts_free(request);
	if (request->value != NULL)
		bw_resp__block_unpin(request->value);
	if (request->gather != NULL)
		bw_resp__gather_free(&r->store, request->gather);
	if (request->rows != NULL)
		bw_resp__blob_free(&r->store, request->rows);
	request->next = r->requests_free;
	r->requests_free = request;
	r->requests_free_count++;
}

bool bw_resp__has_requests(const struct bw_resp *r)
{
	return r->requests_free_count > r->workers;
}

bool bw_resp__may_push(const struct bw_resp *r, const struct bw_resp__conn *conn)
{
	return conn->busy->waiting_count < BW_MIN(WAITING_MAX, r->requests_free_count / WAITING_PART);
}

struct bw_resp__request *bw_resp__request_push(struct bw_resp__call *call)
{
	struct bw_resp__request *request = bw_resp__request_alloc(call->r, call->command);
	struct bw_resp__conn *conn = call->conn;
	struct bw_resp__busy *busy;

	request->stream = call->stream;
	request->is_resp3 = call->is_resp3;
	busy = bw_resp__busy(call->r, conn);
	if (busy->last != NULL)
		busy->last->next = request;
	else
		busy->first = request;
	busy->last = request;
	busy->waiting_count++;
	return request;
}

/* ---- away ---- */

struct bw_resp__gather *bw_resp__keep_args(struct bw_resp__call *call, struct bw_resp__gather **gathered)
{
	struct bw_resp__gather *gather = *gathered;

	if (gather != NULL && !gather->is_inline) {
		*gathered = NULL;
		return gather;
	}
	gather = bw_resp__gather_new(&call->r->store);
	for (uint32_t i = 0; gather != NULL && i < call->argc; i++) {
		if (bw_resp__gather_add(&call->r->store, gather, &call->argv[i]))
			continue;
		bw_resp__gather_free(&call->r->store, gather);
		gather = NULL;
	}
	return gather;
}

void bw_resp__post(struct bw_resp *r, uint32_t worker, struct bw_resp__request *request)
{
	r->mails++;
	request->is_answered = false;
	bw_mail_post(r->ctx, worker, &request->mail);
}

void bw_resp__send_away(struct bw_resp__call *call, uint64_t owners, struct bw_resp__gather **gathered)
{
	struct bw_resp__request *request =
		call->request != NULL ? call->request : bw_resp__request_push(call);

	call->request = request;
	request->gather = bw_resp__keep_args(call, gathered);
	if (request->gather == NULL) {
		bw_resp__reply_oom(call);
		request->is_done = true;
		return;
	}
	if (owners == 1ull << call->r->worker)
		bw_resp__defer(call->r, request);
	else
		bw_resp__post(call->r, (uint32_t)__builtin_ctzll(owners), request);
}

/* ---- at the worker that it was posted to ---- */

static void visit(struct bw_resp *r, struct bw_resp__request *request)
{
	struct bw_resp__call call = {
		.r = r,
		.command = request->command,
		.argv = r->argv,
		.request = request,
		.may_take = request->home == r,
		.is_resp3 = request->is_resp3,
	};
	const struct bw_resp__arg *key;

	if (request->step != BW_RESP__NO_STEP) {
		bw_resp__atomic_visit(r, request);
		return;
	}
	if (request->parent != NULL) {
		bw_resp__run_spread_part(r, request->parent, request->home == r, request);
		return;
	}
	if (request->command->run == NULL) {
		bw_resp__walk_visit(r, request);
		return;
	}
	call.argc = bw_resp__gather_args(request->gather, r->argv);
	key = &call.argv[call.command->first_key];
	call.hash = bw_resp__hash_key(r, key->data, key->len).hash;
	call.command->run(&call);
}

static void run_request(struct bw_resp *r, struct bw_resp__request *request)
{
	struct bw_resp__gauge *gauge = &bw_resp__stat_of(r, request->command)->visits;
	bw_ns begun_at = bw_resp__count(gauge);

	visit(r, request);
	if (begun_at != 0)
		bw_resp__measured(gauge, begun_at);
}

/* What no key has to do with: it does not wait for those that are held. */
static void told(struct bw_resp *r, struct bw_resp__request *part)
{
	struct bw_resp__gauge *gauge = &bw_resp__stat_of(r, part->command)->visits;
	bw_ns begun_at = bw_resp__count(gauge);

	if (part->command->spread == BW_RESP__TELL)
		bw_resp__tell(r, part->parent);
	else
		bw_resp__tour(r, part);
	if (begun_at != 0)
		bw_resp__measured(gauge, begun_at);
	/* A slice of this worker's connections, and the next one in a later turn. */
	part->is_answered = part->command->spread == BW_RESP__TELL || part->tour == BW_RESP__TOUR_DONE;
	bw_mail_post(r->ctx, part->is_answered ? part->home->worker : r->worker, &part->mail);
}

/* ---- home again ---- */

void bw_resp__request_done(struct bw_resp *r, struct bw_resp__request *request)
{
	struct bw_resp__conn *conn;

	request->is_done = true;
	if (request->stream == NULL) {
		bw_resp__request_free(r, request);
		return;
	}
	conn = bw_stream_state(request->stream);
	/* Where it is set, nothing came behind this one. */
	if (conn->busy->last == request)
		conn->flags &= (uint16_t)~BW_RESP__BARRIER;
	if (conn->busy->first == request)
		bw_resp__resume(r, request->stream);
}

static void request_came_home(struct bw_resp *r, struct bw_resp__request *request)
{
	struct bw_resp__request *whole = request->parent;

	if (request->step != BW_RESP__NO_STEP) {
		bw_resp__atomic_came_home(r, request);
		return;
	}
	if (whole != NULL) {
		whole->sum += request->sum;
		whole->is_over_memory |= request->is_over_memory;
		if (request->value != NULL) {
			request->next = whole->parts;
			whole->parts = request;
		} else {
			bw_resp__request_free(r, request);
		}
		if (--whole->waiting > 0)
			return;
		bw_resp__finish_spread(whole);
		request = whole;
	} else if (request->command->run == NULL && bw_resp__walk_goes_on(r, request)) {
		return;
	}
	bw_resp__request_done(r, request);
}

void bw_resp__carry_out(struct bw_resp *r, struct bw_resp__request *request)
{
	run_request(r, request);
	request->is_answered = true;
	if (request->home == r)
		request_came_home(r, request);
	else
		bw_mail_post(r->ctx, request->home->worker, &request->mail);
}

void bw_resp__mail(struct bw_context *ctx, struct bw_mail *mail)
{
	struct bw_resp__request *request = bw_container_of(mail, struct bw_resp__request, mail);
	struct bw_resp *r = bw_resp__of(ctx);

	if (mail == &r->wake) {
		r->is_wake_out = false;
		return;
	}
	bw_resp__set_now(r, bw_context_now(ctx));
	if (request->command->spread >= BW_RESP__TELL && request->parent != NULL && !request->is_answered) {
		told(r, request);
		return;
	}
	if (request->is_answered)
		request_came_home(r, request);
	else if (bw_resp__admit(r, request))
		bw_resp__carry_out(r, request);
}
