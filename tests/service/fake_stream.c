/* SPDX-License-Identifier: BSD-3-Clause */
#include "fake_stream.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <base/list.h>

/* A broken rule is the service's bug: stop where it happened, with the stack for a debugger. */
#define MUST(expr)                                                                                           \
	do {                                                                                                 \
		if (!(expr)) {                                                                               \
			fprintf(stderr, "fake_stream: %s:%d: %s\n", __func__, __LINE__, #expr);              \
			abort();                                                                             \
		}                                                                                            \
	} while (0)

/* Bytes that arrived, in an allocation of exactly their size. */
struct seg {
	struct bw_link link;
	uint8_t *bytes;
	uint32_t len;
	uint32_t off; /* consumed of it */
	uint32_t refs;
};

/* Bytes to send: a copy of ours, or the service's memory. */
struct out {
	struct bw_link link;
	const uint8_t *data;
	uint8_t *copy; /* or NULL */
	uint32_t len, acked;
	void (*release)(void *arg);
	void *arg;
};

struct bw_hold {
	struct bw_stream *s;
	struct seg *seg;
};

struct bw_stream {
	struct bw_link link;
	struct bw_context *ctx;
	void *state;
	struct bw_flow flow;
	uint64_t id;

	struct bw_list in;
	uint32_t unread;
	unsigned views_max;
	unsigned holds;
	bool is_woken;

	struct bw_list out;
	size_t queued;
	uint32_t space_max;
	bool has_auto_ack, wants_writable, has_grown; /* grown: since a send was cut short */
	unsigned starve;
	uint8_t *reserved;
	uint32_t reserved_len;
	char *output;
	size_t output_len, output_room;
	uint64_t output_total;
	void (*sink)(void *arg, const void *data, size_t len);
	void *sink_arg;

	bool is_connecting, peer_is_closed, peer_close_told, is_shut, is_closing, is_aborted, is_reset,
		is_closed;
	enum bw_close_reason reason;
	bw_ns timer_at;
};

struct bw_context {
	struct fake *f;
	unsigned worker;
	void *state;
	bool is_started;
};

struct job_node {
	struct bw_link link;
	struct bw_job *job;
};

struct mail_node {
	struct bw_link link;
	struct bw_mail *mail;
};

struct fake {
	const struct bw_service *service;
	unsigned workers;
	struct bw_context *contexts;
	bw_ns now, tick_at;
	uint64_t next_id;
	struct bw_ip local, remote;
	unsigned upcall_depth;
	bool is_draining;
	unsigned starved_connects;
	struct bw_list streams; /* all, also the closed ones, until the end */
	uint64_t refs_sent, refs_released, bytes_by_copy, bytes_by_ref, holds_now, data_calls;

	pthread_mutex_t lock; /* over the two job lists and what the threads share */
	pthread_cond_t has_work, has_done;
	struct bw_list jobs, done; /* submitted; worked */
	unsigned jobs_waiting, jobs_running, done_waiting, jobs_max;
	bool jobs_held, is_stopping;
	pthread_t helpers[16];
	unsigned helper_count;

	struct bw_list mails;
	unsigned mails_waiting;
	bool mail_held;

	uint8_t *reply;
	size_t reply_len;
	unsigned reply_count;
	struct bw_flow reply_flow;
	char stats[65536];
};

static void *must_alloc(size_t n)
{
	void *p = calloc(1, n == 0 ? 1 : n);

	MUST(p != NULL);
	return p;
}

/* ---- segments ---- */

static struct seg *seg_new(const void *data, uint32_t len)
{
	struct seg *seg = must_alloc(sizeof(*seg));

	seg->bytes = malloc(len);
	MUST(seg->bytes != NULL);
	memcpy(seg->bytes, data, len);
	seg->len = len;
	seg->refs = 1;
	bw_link_init(&seg->link);
	return seg;
}

static void seg_put(struct seg *seg)
{
	MUST(seg->refs > 0);
	if (--seg->refs == 0) {
		free(seg->bytes);
		free(seg);
	}
}

static void consume(struct bw_stream *s, uint32_t len)
{
	MUST(len <= s->unread);
	s->unread -= len;
	while (len > 0) {
		struct seg *seg = bw_container_of(bw_list_first(&s->in), struct seg, link);
		uint32_t n = BW_MIN(len, seg->len - seg->off);

		seg->off += n;
		len -= n;
		if (seg->off == seg->len) {
			bw_link_remove(&seg->link);
			seg_put(seg);
		}
	}
}

/* ---- upcalls ---- */

#define UPCALL(f, call)                                                                                      \
	do {                                                                                                 \
		MUST((f)->upcall_depth == 0);                                                                \
		(f)->upcall_depth = 1;                                                                       \
		call;                                                                                        \
		(f)->upcall_depth = 0;                                                                       \
	} while (0)

static void reserve_drop(struct bw_stream *s)
{
	free(s->reserved);
	s->reserved = NULL;
	s->reserved_len = 0;
}

static bool is_open(const struct bw_stream *s)
{
	return !s->is_closed && !s->is_closing && !s->is_aborted && !s->is_reset;
}

static void call_data(struct bw_stream *s)
{
	struct fake *f = s->ctx->f;

	s->is_woken = false;
	while (is_open(s) && s->unread > 0) {
		struct bw_view *views = malloc(sizeof(*views) * s->views_max);
		unsigned count = 0;
		uint32_t sum = 0, used = 0, unread_before = s->unread;

		MUST(views != NULL);
		BW_LIST_FOREACH (link, &s->in) {
			struct seg *seg = bw_container_of(link, struct seg, link);

			if (count == s->views_max)
				break;
			views[count++] = (struct bw_view){
				.data = seg->bytes + seg->off,
				.len = seg->len - seg->off,
				.owner = (struct rte_mbuf *)(void *)seg,
			};
			sum += seg->len - seg->off;
		}
		f->data_calls++;
		UPCALL(f, used = f->service->data(s, views, count));
		reserve_drop(s);
		free(views);
		MUST(s->unread == unread_before); /* consuming inside data() is by its return value */
		MUST(used <= sum);
		consume(s, used);
		/* More than fitted the views: again, as long as it makes progress. */
		if (used < sum || used == 0)
			break;
	}
}

static void out_free(struct bw_stream *s, struct out *out)
{
	bw_link_remove(&out->link);
	if (out->release != NULL) {
		out->release(out->arg);
		s->ctx->f->refs_released++;
	}
	free(out->copy);
	free(out);
}

static void output_append(struct bw_stream *s, const uint8_t *data, size_t len)
{
	s->output_total += len;
	if (s->sink != NULL) {
		s->sink(s->sink_arg, data, len);
		return;
	}
	if (s->output_len + len + 1 > s->output_room) {
		s->output_room = (s->output_len + len + 1) * 2;
		s->output = realloc(s->output, s->output_room);
		MUST(s->output != NULL);
	}
	memcpy(s->output + s->output_len, data, len);
	s->output_len += len;
	s->output[s->output_len] = '\0';
}

static size_t ack(struct bw_stream *s, size_t len)
{
	size_t acked = 0;

	while (acked < len && !bw_list_is_empty(&s->out)) {
		struct out *out = bw_container_of(bw_list_first(&s->out), struct out, link);
		uint32_t n = (uint32_t)BW_MIN(len - acked, (size_t)(out->len - out->acked));

		output_append(s, out->data + out->acked, n);
		out->acked += n;
		acked += n;
		s->queued -= n;
		s->has_grown = true;
		if (out->acked == out->len)
			out_free(s, out);
	}
	return acked;
}

static void end_stream(struct bw_stream *s, enum bw_close_reason reason)
{
	struct fake *f = s->ctx->f;

	MUST(!s->is_closed);
	s->timer_at = BW_NEVER;
	s->reason = reason;
	if (f->service->closed != NULL)
		UPCALL(f, f->service->closed(s, reason));
	s->is_closed = true;
	reserve_drop(s);
	while (!bw_list_is_empty(&s->out))
		out_free(s, bw_container_of(bw_list_first(&s->out), struct out, link));
	s->queued = 0;
	consume(s, s->unread);
	free(s->state);
	s->state = NULL;
}

static bool tell_peer_close(struct bw_stream *s)
{
	struct fake *f = s->ctx->f;

	if (!is_open(s) || !s->peer_is_closed || s->peer_close_told)
		return false;
	s->peer_close_told = true;
	if (f->service->peer_closed != NULL)
		UPCALL(f, f->service->peer_closed(s));
	else
		bw_stream_close(s);
	reserve_drop(s);
	return true;
}

/* As the stack does: only when space grew after a send was cut short, and a quarter of the bound is free. */
static bool tell_writable(struct bw_stream *s)
{
	struct fake *f = s->ctx->f;

	if (!is_open(s) || !s->wants_writable || !s->has_grown || s->is_shut ||
		s->space_max - s->queued < s->space_max / 4 || s->queued >= s->space_max)
		return false;
	s->wants_writable = false;
	if (f->service->writable != NULL)
		UPCALL(f, f->service->writable(s));
	reserve_drop(s);
	return true;
}

/* One turn's worth of a stream. Returns whether anything happened. */
static bool turn_stream(struct bw_stream *s)
{
	bool did = false;

	if (s->is_closed)
		return false;
	if (s->is_aborted || s->is_reset) {
		end_stream(s, s->is_aborted ? BW_CLOSE_ABORTED : BW_CLOSE_RESET);
		return true;
	}
	if (s->is_woken && is_open(s)) {
		call_data(s);
		did = true;
	}
	did |= tell_peer_close(s);
	if (s->has_auto_ack && s->queued > 0 && !s->is_connecting) {
		ack(s, s->queued);
		did = true;
	}
	did |= tell_writable(s);
	if (!s->is_aborted && !s->is_reset && s->queued == 0 &&
		(s->is_closing || (s->is_shut && s->peer_close_told))) {
		end_stream(s, BW_CLOSE_NORMAL);
		did = true;
	}
	return did;
}

static bool turn_jobs(struct fake *f)
{
	bool did = false;

	if (!f->jobs_held && f->helper_count == 0 && fake_work_jobs(f, ~0u) > 0)
		did = true;
	if (!f->jobs_held && fake_finish_jobs(f, ~0u) > 0)
		did = true;
	return did;
}

static bool turn(struct fake *f)
{
	bool did = turn_jobs(f);

	if (!f->mail_held && fake_deliver_mail(f, ~0u) > 0)
		did = true;
	BW_LIST_FOREACH (link, &f->streams) {
		if (turn_stream(bw_container_of(link, struct bw_stream, link)))
			did = true;
	}
	return did;
}

void fake_run(struct fake *f)
{
	unsigned turns = 0;

	MUST(f->upcall_depth == 0);
	while (turn(f))
		MUST(++turns < 50000000); /* a service that wakes itself for ever */
}

void fake_settle(struct fake *f)
{
	for (;;) {
		fake_run(f);
		pthread_mutex_lock(&f->lock);
		bool is_idle = f->jobs_waiting + f->jobs_running + f->done_waiting == 0 || f->jobs_held;

		if (!is_idle && f->done_waiting == 0)
			pthread_cond_wait(&f->has_done, &f->lock);
		pthread_mutex_unlock(&f->lock);
		if (is_idle)
			return;
	}
}

void fake_advance(struct fake *f, bw_ns ns)
{
	bw_ns until = f->now + ns;

	fake_run(f);
	for (;;) {
		bw_ns at = BW_MIN(until, f->tick_at);

		BW_LIST_FOREACH (link, &f->streams) {
			struct bw_stream *s = bw_container_of(link, struct bw_stream, link);

			if (!s->is_closed && s->timer_at < at)
				at = s->timer_at;
		}
		f->now = BW_MAX(f->now, at);
		BW_LIST_FOREACH (link, &f->streams) {
			struct bw_stream *s = bw_container_of(link, struct bw_stream, link);

			if (!is_open(s) || s->timer_at > f->now)
				continue;
			s->timer_at = BW_NEVER;
			if (f->service->timer != NULL)
				UPCALL(f, f->service->timer(s));
			reserve_drop(s);
			/* A timer armed for the past fires at the next advance, as the wheel has it. */
			if (s->timer_at <= f->now)
				s->timer_at = f->now + BW_NS_PER_MS;
		}
		if (f->tick_at <= f->now) {
			f->tick_at = f->now + 100 * BW_NS_PER_MS;
			for (unsigned i = 0; i < f->workers && f->service->tick != NULL; i++)
				UPCALL(f, f->service->tick(&f->contexts[i], f->now));
		}
		fake_run(f);
		if (f->now >= until)
			return;
	}
}

/* ---- life ---- */

static struct fake *create(const struct bw_service *service, void *conf, unsigned workers, int *error)
{
	struct fake *f = must_alloc(sizeof(*f));

	MUST(workers > 0 && service->stream_bytes <= 256);
	f->service = service;
	f->local = bw_ip_from_v4(0x010200c0u);
	f->remote = bw_ip_from_v4(0x020200c0u);
	f->workers = workers;
	f->now = 1000 * BW_NS_PER_SEC;
	f->tick_at = f->now + 100 * BW_NS_PER_MS;
	f->next_id = 1;
	f->jobs_max = 1024;
	bw_list_init(&f->streams);
	bw_list_init(&f->jobs);
	bw_list_init(&f->done);
	bw_list_init(&f->mails);
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->has_work, NULL);
	pthread_cond_init(&f->has_done, NULL);
	f->contexts = must_alloc(sizeof(*f->contexts) * workers);
	for (unsigned i = 0; i < workers; i++) {
		f->contexts[i].f = f;
		f->contexts[i].worker = i;
		f->contexts[i].state = must_alloc(service->context_bytes);
	}
	*error = 0;
	for (unsigned i = 0; i < workers && service->start != NULL && *error == 0; i++) {
		UPCALL(f, *error = service->start(&f->contexts[i], conf));
		f->contexts[i].is_started = *error == 0;
	}
	if (*error != 0) {
		fake_destroy(f);
		return NULL;
	}
	fake_run(f);
	return f;
}

struct fake *fake_try_create(const struct bw_service *service, void *conf, unsigned workers, int *error)
{
	return create(service, conf, workers, error);
}

struct fake *fake_create(const struct bw_service *service, void *conf, unsigned workers)
{
	int error;
	struct fake *f = create(service, conf, workers, &error);

	MUST(error == 0);
	return f;
}

void fake_destroy(struct fake *f)
{
	struct bw_link *link;

	f->jobs_held = f->mail_held = false;
	BW_LIST_FOREACH (stream_link, &f->streams) {
		struct bw_stream *s = bw_container_of(stream_link, struct bw_stream, link);

		if (!s->is_closed)
			s->is_aborted = true;
	}
	fake_settle(f);
	pthread_mutex_lock(&f->lock);
	f->is_stopping = true;
	pthread_cond_broadcast(&f->has_work);
	pthread_mutex_unlock(&f->lock);
	for (unsigned i = 0; i < f->helper_count; i++)
		pthread_join(f->helpers[i], NULL);
	fake_run(f);
	for (unsigned i = 0; i < f->workers; i++)
		if (f->contexts[i].is_started && f->service->stop != NULL)
			UPCALL(f, f->service->stop(&f->contexts[i]));
	MUST(f->jobs_waiting == 0 && f->done_waiting == 0 && f->mails_waiting == 0);
	MUST(f->refs_sent == f->refs_released);
	MUST(f->holds_now == 0);
	while ((link = bw_list_pop_front(&f->streams)) != NULL) {
		struct bw_stream *s = bw_container_of(link, struct bw_stream, link);

		MUST(s->is_closed && bw_list_is_empty(&s->in));
		free(s->output);
		free(s);
	}
	for (unsigned i = 0; i < f->workers; i++)
		free(f->contexts[i].state);
	free(f->contexts);
	free(f->reply);
	pthread_cond_destroy(&f->has_done);
	pthread_cond_destroy(&f->has_work);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

struct bw_context *fake_context(struct fake *f, unsigned worker)
{
	MUST(worker < f->workers);
	return &f->contexts[worker];
}

bw_ns fake_now(const struct fake *f)
{
	return f->now;
}

/* ---- the peer ---- */

void fake_set_addresses(struct fake *f, struct bw_ip local, struct bw_ip remote)
{
	f->local = local;
	f->remote = remote;
}

static struct bw_stream *stream_new(struct fake *f, unsigned worker)
{
	struct bw_stream *s = must_alloc(sizeof(*s));

	MUST(worker < f->workers);
	s->ctx = &f->contexts[worker];
	s->state = must_alloc(f->service->stream_bytes);
	s->id = f->next_id++;
	s->flow.local = f->local;
	s->flow.remote = f->remote;
	s->flow.local_port_be = 0x5000;
	s->flow.remote_port_be = (uint16_t)s->id;
	s->views_max = 64;
	s->space_max = 256 * 1024;
	s->has_auto_ack = true;
	s->timer_at = BW_NEVER;
	bw_list_init(&s->in);
	bw_list_init(&s->out);
	bw_list_push_back(&f->streams, &s->link);
	return s;
}

static void tell_opened(struct bw_stream *s)
{
	struct fake *f = s->ctx->f;

	if (f->service->opened != NULL)
		UPCALL(f, f->service->opened(s));
	reserve_drop(s);
	fake_run(f);
}

struct bw_stream *fake_open(struct fake *f, unsigned worker)
{
	struct bw_stream *s = stream_new(f, worker);

	tell_opened(s);
	return s;
}

struct bw_stream *bw_stream_connect_from(
	struct bw_context *ctx, const struct bw_ip *local, const struct bw_ip *remote, uint16_t port)
{
	struct bw_stream *s = stream_new(ctx->f, ctx->worker);

	s->flow.local = *local;
	s->flow.remote = *remote;
	s->flow.local_port_be = (uint16_t)s->id;
	s->flow.remote_port_be = __builtin_bswap16(port);
	s->is_connecting = true;
	if (ctx->f->starved_connects > 0) {
		ctx->f->starved_connects--;
		s->starve = 1;
	}
	return s;
}

struct bw_stream *bw_stream_connect(struct bw_context *ctx, const struct bw_ip *remote, uint16_t port)
{
	return bw_stream_connect_from(ctx, &ctx->f->local, remote, port);
}

void bw_stream_set_user_timeout(struct bw_stream *s, bw_ns timeout_ns)
{
	(void)s;
	(void)timeout_ns;
}

struct bw_stream *fake_connecting(struct fake *f)
{
	BW_LIST_FOREACH (link, &f->streams) {
		struct bw_stream *s = bw_container_of(link, struct bw_stream, link);

		if (s->is_connecting && is_open(s))
			return s;
	}
	return NULL;
}

void fake_accept(struct bw_stream *s)
{
	MUST(s->is_connecting && is_open(s));
	s->is_connecting = false;
	tell_opened(s);
}

void fake_refuse(struct bw_stream *s, enum bw_close_reason reason)
{
	MUST(s->is_connecting && is_open(s));
	s->is_connecting = false;
	end_stream(s, reason);
	fake_run(s->ctx->f);
}

void fake_queue(struct bw_stream *s, const void *data, size_t len)
{
	struct fake *f = s->ctx->f;
	struct seg *seg;

	MUST(!s->peer_is_closed);
	if (!is_open(s) || len == 0)
		return; /* what arrives after a close is discarded */
	seg = seg_new(data, (uint32_t)len);
	bw_list_push_back(&s->in, &seg->link);
	s->unread += (uint32_t)len;
	if (f->service->prefetch != NULL)
		UPCALL(f, f->service->prefetch(s->ctx,
				  &(struct bw_view){ .data = seg->bytes,
					  .len = seg->len,
					  .owner = (struct rte_mbuf *)(void *)seg },
				  1));
}

void fake_deliver(struct bw_stream *s)
{
	if (is_open(s))
		call_data(s);
	fake_run(s->ctx->f);
}

void fake_deliver_and_close(struct bw_stream *s)
{
	s->peer_is_closed = true;
	if (is_open(s))
		call_data(s);
	tell_peer_close(s);
	fake_run(s->ctx->f);
}

void fake_feed(struct bw_stream *s, const void *data, size_t len)
{
	fake_queue(s, data, len);
	fake_deliver(s);
}

void fake_feed_split(struct bw_stream *s, const void *data, size_t len, size_t segment_bytes)
{
	const uint8_t *bytes = data;

	while (len > 0) {
		size_t n = BW_MIN(len, segment_bytes);

		fake_feed(s, bytes, n);
		bytes += n;
		len -= n;
	}
}

void fake_peer_close(struct bw_stream *s)
{
	s->peer_is_closed = true;
	fake_run(s->ctx->f);
}

void fake_peer_reset(struct bw_stream *s)
{
	if (!s->is_closed)
		s->is_reset = true;
	fake_run(s->ctx->f);
}

void fake_set_views_max(struct bw_stream *s, unsigned views_max)
{
	MUST(views_max > 0);
	s->views_max = views_max;
}

void fake_set_space(struct bw_stream *s, uint32_t space_bytes_max)
{
	s->space_max = space_bytes_max;
}

void fake_set_auto_ack(struct bw_stream *s, bool is_automatic)
{
	s->has_auto_ack = is_automatic;
}

size_t fake_ack(struct bw_stream *s, size_t len)
{
	size_t acked = ack(s, len);

	fake_run(s->ctx->f);
	return acked;
}

void fake_ack_and_close(struct bw_stream *s, size_t len)
{
	ack(s, len);
	s->peer_is_closed = true;
	tell_writable(s);
	tell_peer_close(s);
	fake_run(s->ctx->f);
}

void fake_starve(struct bw_stream *s, unsigned count)
{
	s->starve = count;
}

void fake_starve_connects(struct fake *f, unsigned count)
{
	f->starved_connects = count;
}

const char *fake_output(struct bw_stream *s, size_t *len)
{
	if (len != NULL)
		*len = s->output_len;
	return s->output != NULL ? s->output : "";
}

void fake_output_clear(struct bw_stream *s)
{
	s->output_len = 0;
	if (s->output != NULL)
		s->output[0] = '\0';
}

size_t fake_queued(const struct bw_stream *s)
{
	return s->queued;
}

void fake_set_output_sink(
	struct bw_stream *s, void (*sink)(void *arg, const void *data, size_t len), void *arg)
{
	s->sink = sink;
	s->sink_arg = arg;
}

uint64_t fake_output_total(const struct bw_stream *s)
{
	return s->output_total;
}

bool fake_is_closed(const struct bw_stream *s)
{
	return s->is_closed;
}

bool fake_is_closing(const struct bw_stream *s)
{
	return s->is_closed || s->is_closing || s->is_shut || s->is_aborted;
}

bool fake_is_aborted(const struct bw_stream *s)
{
	return s->is_aborted;
}

enum bw_close_reason fake_close_reason(const struct bw_stream *s)
{
	MUST(s->is_closed);
	return s->reason;
}

uint32_t fake_unread(const struct bw_stream *s)
{
	return s->unread;
}

bw_ns fake_timer_at(const struct bw_stream *s)
{
	return s->timer_at;
}

uint64_t fake_refs_sent(const struct fake *f)
{
	return f->refs_sent;
}

uint64_t fake_refs_released(const struct fake *f)
{
	return f->refs_released;
}

uint64_t fake_bytes_by_copy(const struct fake *f)
{
	return f->bytes_by_copy;
}

uint64_t fake_bytes_by_ref(const struct fake *f)
{
	return f->bytes_by_ref;
}

uint64_t fake_holds_now(const struct fake *f)
{
	return f->holds_now;
}

uint64_t fake_data_calls(const struct fake *f)
{
	return f->data_calls;
}

/* ---- the interface: streams ---- */

void *bw_stream_state(const struct bw_stream *s)
{
	MUST(!s->is_closed);
	return s->state;
}

struct bw_context *bw_stream_context(const struct bw_stream *s)
{
	return s->ctx;
}

const struct bw_flow *bw_stream_flow(const struct bw_stream *s)
{
	return &s->flow;
}

bw_ns bw_stream_now(const struct bw_stream *s)
{
	return s->ctx->f->now;
}

uint32_t bw_stream_unread(const struct bw_stream *s)
{
	return s->unread;
}

const uint8_t *bw_stream_pullup(struct bw_stream *s, uint32_t len)
{
	struct seg *first, *joined;
	uint32_t filled = 0;
	uint8_t *bytes;

	if (len == 0 || len > s->unread || len > 2048)
		return NULL;
	first = bw_container_of(bw_list_first(&s->in), struct seg, link);
	if (first->len - first->off >= len)
		return first->bytes + first->off;
	bytes = malloc(len);
	MUST(bytes != NULL);
	while (filled < len) {
		struct seg *seg = bw_container_of(bw_list_first(&s->in), struct seg, link);
		uint32_t n = BW_MIN(len - filled, seg->len - seg->off);

		memcpy(bytes + filled, seg->bytes + seg->off, n);
		filled += n;
		bw_link_remove(&seg->link);
		/* The rest moves, so that a view of before the call is a use after free. */
		if (seg->off + n < seg->len)
			bw_list_push_front(
				&s->in, &seg_new(seg->bytes + seg->off + n, seg->len - seg->off - n)->link);
		seg_put(seg);
	}
	joined = seg_new(bytes, len);
	free(bytes);
	bw_list_push_front(&s->in, &joined->link);
	return joined->bytes;
}

void bw_stream_consume(struct bw_stream *s, uint32_t len)
{
	consume(s, len);
}

void bw_stream_wake(struct bw_stream *s)
{
	s->is_woken = true;
}

struct bw_hold *bw_stream_hold(struct bw_stream *s, const struct bw_view *view)
{
	struct seg *seg = (struct seg *)(void *)view->owner;
	struct bw_hold *hold;

	if (s->holds == 64)
		return NULL;
	MUST(view->data >= seg->bytes && view->data + view->len <= seg->bytes + seg->len);
	hold = must_alloc(sizeof(*hold));
	hold->s = s;
	hold->seg = seg;
	seg->refs++;
	s->holds++;
	s->ctx->f->holds_now++;
	return hold;
}

void bw_hold_release(struct bw_hold *hold)
{
	MUST(hold->s->holds > 0);
	hold->s->holds--;
	hold->s->ctx->f->holds_now--;
	seg_put(hold->seg);
	free(hold);
}

static bool sends(const struct bw_stream *s)
{
	return is_open(s) && !s->is_shut;
}

uint32_t bw_stream_space(const struct bw_stream *s)
{
	if (!sends(s) || s->queued >= s->space_max)
		return 0;
	return s->space_max - (uint32_t)s->queued;
}

static void cut_short(struct bw_stream *s)
{
	s->wants_writable = true;
	s->has_grown = false;
}

static bool is_starved(struct bw_stream *s)
{
	if (s->starve == 0)
		return false;
	s->starve--;
	cut_short(s);
	return true;
}

static struct out *out_push(struct bw_stream *s, uint32_t len)
{
	struct out *out = must_alloc(sizeof(*out));

	bw_link_init(&out->link);
	out->len = len;
	s->queued += len;
	bw_list_push_back(&s->out, &out->link);
	return out;
}

static void out_push_copy(struct bw_stream *s, const void *data, uint32_t len)
{
	struct out *out;

	if (len == 0)
		return;
	out = out_push(s, len);
	out->copy = malloc(len);
	MUST(out->copy != NULL);
	memcpy(out->copy, data, len);
	out->data = out->copy;
	s->ctx->f->bytes_by_copy += len;
}

uint32_t bw_stream_send(struct bw_stream *s, const void *data, uint32_t len)
{
	uint32_t n = BW_MIN(len, bw_stream_space(s));

	MUST(s->reserved == NULL);
	if (!sends(s) || is_starved(s))
		return 0;
	if (n < len)
		cut_short(s);
	out_push_copy(s, data, n);
	return n;
}

void *bw_stream_reserve(struct bw_stream *s, uint32_t len)
{
	MUST(len > 0 && len <= 1024);
	reserve_drop(s);
	if (!sends(s) || is_starved(s))
		return NULL;
	if (bw_stream_space(s) < len) {
		cut_short(s);
		return NULL;
	}
	s->reserved = malloc(len);
	MUST(s->reserved != NULL);
	s->reserved_len = len;
	return s->reserved;
}

void bw_stream_commit(struct bw_stream *s, uint32_t len)
{
	MUST(s->reserved != NULL && len <= s->reserved_len);
	out_push_copy(s, s->reserved, len);
	reserve_drop(s);
}

int bw_stream_send_ref(
	struct bw_stream *s, const void *data, uint32_t len, void (*release)(void *arg), void *arg)
{
	struct out *out;

	MUST(s->reserved == NULL && len > 0);
	if (!sends(s))
		return -EPIPE;
	if (is_starved(s))
		return -ENOBUFS;
	if (len > bw_stream_space(s)) {
		cut_short(s);
		return -ENOBUFS;
	}
	out = out_push(s, len);
	out->data = data;
	out->release = release;
	out->arg = arg;
	s->ctx->f->refs_sent += release != NULL;
	s->ctx->f->bytes_by_ref += len;
	return 0;
}

void bw_stream_shutdown(struct bw_stream *s)
{
	s->is_shut = true;
}

void bw_stream_close(struct bw_stream *s)
{
	s->is_closing = true;
	s->timer_at = BW_NEVER;
}

void bw_stream_abort(struct bw_stream *s)
{
	s->is_aborted = true;
}

void bw_stream_set_timer(struct bw_stream *s, bw_ns expires_at)
{
	MUST(!s->is_closed);
	s->timer_at = expires_at;
}

bw_ns bw_stream_timer_at(const struct bw_stream *s)
{
	return s->timer_at;
}

bool bw_stream_is_draining(const struct bw_stream *s)
{
	return s->ctx->f->is_draining;
}

uint64_t bw_stream_id(const struct bw_stream *s)
{
	return s->id;
}

uint32_t bw_stream_slot(const struct bw_stream *s)
{
	return (uint32_t)s->id;
}

struct bw_stream *bw_stream_at(struct bw_context *ctx, uint32_t slot)
{
	for (struct bw_link *l = ctx->f->streams.head.prev; l != &ctx->f->streams.head; l = l->prev) {
		struct bw_stream *s = bw_container_of(l, struct bw_stream, link);

		if (s->id == slot)
			return s;
	}
	MUST(false);
	return NULL;
}

struct bw_stream *bw_stream_find(struct bw_context *ctx, uint64_t id)
{
	/* From the back: what is asked for is usually young. */
	for (struct bw_link *l = ctx->f->streams.head.prev; l != &ctx->f->streams.head; l = l->prev) {
		struct bw_stream *s = bw_container_of(l, struct bw_stream, link);

		if (s->id == id)
			return s->ctx == ctx && !s->is_closed ? s : NULL;
	}
	return NULL;
}

/* ---- the interface: contexts, jobs, mail ---- */

uint32_t bw_context_streams_max(const struct bw_context *ctx)
{
	(void)ctx;
	return 65536;
}

void *bw_context_state(struct bw_context *ctx)
{
	return ctx->state;
}

unsigned bw_context_worker(const struct bw_context *ctx)
{
	return ctx->worker;
}

unsigned bw_context_worker_count(const struct bw_context *ctx)
{
	return ctx->f->workers;
}

bw_ns bw_context_now(const struct bw_context *ctx)
{
	return ctx->f->now;
}

bool bw_context_is_draining(const struct bw_context *ctx)
{
	return ctx->f->is_draining;
}

void bw_context_tick_at(struct bw_context *ctx, bw_ns at)
{
	ctx->f->tick_at = BW_MIN(ctx->f->tick_at, BW_MAX(at, ctx->f->now + BW_NS_PER_US));
}

const struct bw_ip *bw_context_source(const struct bw_context *ctx, const struct bw_ip *remote)
{
	(void)remote;
	return &ctx->f->local;
}

bool bw_context_receives(const struct bw_context *ctx, const struct bw_flow *flow)
{
	return flow->local_port_be % ctx->f->workers == ctx->worker;
}

const void *bw_context_peer_state(const struct bw_context *ctx, unsigned worker)
{
	MUST(worker < ctx->f->workers);
	return ctx->f->contexts[worker].state;
}

int bw_job_submit(struct bw_context *ctx, struct bw_job *job)
{
	struct fake *f = ctx->f;
	struct job_node *node;

	MUST(job->work != NULL && job->done != NULL);
	pthread_mutex_lock(&f->lock);
	BW_LIST_FOREACH (link, &f->jobs)
		MUST(bw_container_of(link, struct job_node, link)->job != job);
	if (f->jobs_waiting >= f->jobs_max) {
		pthread_mutex_unlock(&f->lock);
		return -EBUSY;
	}
	job->ctx = ctx;
	node = must_alloc(sizeof(*node));
	node->job = job;
	bw_list_push_back(&f->jobs, &node->link);
	f->jobs_waiting++;
	pthread_cond_signal(&f->has_work);
	pthread_mutex_unlock(&f->lock);
	return 0;
}

/* Called and returns with the lock held, released around work(). */
static void work_one(struct fake *f)
{
	struct job_node *node = bw_container_of(bw_list_pop_front(&f->jobs), struct job_node, link);

	f->jobs_waiting--;
	f->jobs_running++;
	pthread_mutex_unlock(&f->lock);
	node->job->work(node->job);
	pthread_mutex_lock(&f->lock);
	f->jobs_running--;
	bw_list_push_back(&f->done, &node->link);
	f->done_waiting++;
	pthread_cond_broadcast(&f->has_done);
}

unsigned fake_work_jobs(struct fake *f, unsigned max)
{
	unsigned n = 0;

	pthread_mutex_lock(&f->lock);
	for (; n < max && f->jobs_waiting > 0; n++)
		work_one(f);
	pthread_mutex_unlock(&f->lock);
	return n;
}

unsigned fake_finish_jobs(struct fake *f, unsigned max)
{
	unsigned n = 0;

	for (; n < max; n++) {
		struct job_node *node;
		struct bw_link *link;

		pthread_mutex_lock(&f->lock);
		link = bw_list_pop_front(&f->done);
		if (link != NULL)
			f->done_waiting--;
		pthread_mutex_unlock(&f->lock);
		if (link == NULL)
			break;
		node = bw_container_of(link, struct job_node, link);
		UPCALL(f, node->job->done(node->job->ctx, node->job));
		free(node);
	}
	return n;
}

unsigned fake_run_jobs(struct fake *f, unsigned max)
{
	unsigned n = fake_work_jobs(f, max);

	fake_finish_jobs(f, ~0u);
	fake_run(f);
	return n;
}

unsigned fake_jobs_waiting(const struct fake *f)
{
	return f->jobs_waiting;
}

void fake_hold_jobs(struct fake *f, bool hold)
{
	f->jobs_held = hold;
}

void fake_set_jobs_max(struct fake *f, unsigned jobs_max)
{
	f->jobs_max = jobs_max;
}

static void *helper_main(void *arg)
{
	struct fake *f = arg;

	pthread_mutex_lock(&f->lock);
	while (!f->is_stopping) {
		if (f->jobs_waiting > 0)
			work_one(f);
		else
			pthread_cond_wait(&f->has_work, &f->lock);
	}
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

void fake_start_helpers(struct fake *f, unsigned count)
{
	MUST(f->helper_count + count <= BW_ARRAY_LEN(f->helpers));
	while (count-- > 0)
		MUST(pthread_create(&f->helpers[f->helper_count++], NULL, helper_main, f) == 0);
}

void bw_mail_post(struct bw_context *ctx, unsigned to_worker, struct bw_mail *mail)
{
	struct fake *f = ctx->f;
	struct mail_node *node = must_alloc(sizeof(*node));

	MUST(to_worker < f->workers && f->service->mail != NULL);
	BW_LIST_FOREACH (link, &f->mails)
		MUST(bw_container_of(link, struct mail_node, link)->mail != mail);
	mail->to = &f->contexts[to_worker];
	mail->from_worker = (uint16_t)ctx->worker;
	node->mail = mail;
	bw_list_push_back(&f->mails, &node->link);
	f->mails_waiting++;
}

unsigned fake_deliver_mail(struct fake *f, unsigned max)
{
	unsigned n = 0;

	/* What is posted meanwhile waits for the next turn. */
	max = BW_MIN(max, f->mails_waiting);
	for (; n < max; n++) {
		struct mail_node *node =
			bw_container_of(bw_list_pop_front(&f->mails), struct mail_node, link);
		struct bw_mail *mail = node->mail;

		f->mails_waiting--;
		free(node);
		UPCALL(f, f->service->mail(mail->to, mail));
	}
	return n;
}

void fake_hold_mail(struct fake *f, bool hold)
{
	f->mail_held = hold;
}

unsigned fake_mail_waiting(const struct fake *f)
{
	return f->mails_waiting;
}

/* ---- datagrams, drain, stats ---- */

int bw_datagram_reply(struct bw_context *ctx, const struct bw_datagram *to, const void *data, uint32_t len)
{
	struct fake *f = ctx->f;

	MUST(f->upcall_depth == 1);
	f->reply_flow = *to->flow;
	if (len > 65507)
		return -EMSGSIZE;
	free(f->reply);
	f->reply = must_alloc(len);
	memcpy(f->reply, data, len);
	f->reply_len = len;
	f->reply_count++;
	return 0;
}

void fake_datagram(struct fake *f, unsigned worker, const void *data, size_t len)
{
	struct seg *seg = seg_new(data, (uint32_t)len);
	struct bw_flow flow = {
		.local = bw_ip_from_v4(0x010200c0u),
		.remote = bw_ip_from_v4(0x020200c0u),
		.local_port_be = 0x0700,
		.remote_port_be = 0x3930,
	};
	struct bw_datagram dgram = {
		.flow = &flow,
		.payload = { .data = seg->bytes, .len = seg->len, .owner = (struct rte_mbuf *)(void *)seg },
	};

	free(f->reply);
	f->reply = NULL;
	f->reply_len = 0;
	f->reply_count = 0;
	UPCALL(f, f->service->datagram(fake_context(f, worker), &dgram));
	seg_put(seg);
	fake_run(f);
}

const void *fake_datagram_reply(struct fake *f, size_t *len, unsigned *count)
{
	if (len != NULL)
		*len = f->reply_len;
	if (count != NULL)
		*count = f->reply_count;
	return f->reply;
}

void fake_drain(struct fake *f)
{
	f->is_draining = true;
	BW_LIST_FOREACH (link, &f->streams) {
		struct bw_stream *s = bw_container_of(link, struct bw_stream, link);

		if (!is_open(s))
			continue;
		if (f->service->drain != NULL)
			UPCALL(f, f->service->drain(s));
		else
			bw_stream_close(s);
		reserve_drop(s);
	}
	fake_run(f);
}

const char *fake_stats(struct fake *f, unsigned worker)
{
	size_t n = 0;

	if (f->service->stats != NULL)
		n = f->service->stats(fake_context(f, worker), f->stats, sizeof(f->stats) - 1);
	MUST(n < sizeof(f->stats));
	f->stats[n] = '\0';
	return f->stats;
}
