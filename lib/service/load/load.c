/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Theory of operation. A worker has slots, one for each connection that it is to keep; a slot outlives its
 * connection and is opened anew when that ends. Requests under way are a ring a slot, oldest first, since every
 * protocol here answers in order (UDP sorts its own out).
 *
 * What makes a request happen: in the closed loop an answer, so data() asks again at once; in the open loop the
 * clock, so tick() does, for which slots with room stand in a list (`ready`). The next arrival is only drawn when the
 * one before has been sent: while all connections are busy it stays in the past, and its time runs from there.
 * With a connection for each request, connecting is the request, and slots without one are the list (`shut`).
 *
 * Everything that concerns all slots (opening, a new stage, time-outs) is done in slices, a few a turn, so that a
 * million connections make no turn long.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <base/log.h>

#include "internal.h"

#define ZIPF_RANKS       (1u << 22)
#define CONNECTING_MAX   1024 /* under way at once, so that no server's queue of them runs over */
#define CONNECTING_FIRST 8    /* while nobody has answered yet: so many packets wait for a neighbour */
#define OPEN_SLICE       64
#define ARRIVALS_SLICE   1024
#define KICK_SLICE       256
#define SWEEP_SLICE      1024
#define PROBES_MAX       4096 /* under way at once */
#define SWEEP_NS         BW_NS_PER_MS
#define DATAGRAM_NS      BW_NS_PER_SEC       /* the first one of a flow is sent again, as a SYN would be */
#define REST_NS          (10 * BW_NS_PER_MS) /* after a connection has failed */
#define LAST_NS          BW_NS_PER_SEC /* after an answer that was to be the last, for the server to close */
#define REFERENCED_BYTES 512           /* payloads from here on are sent without copying them */

/* ---- lists of slots ------------------------------------------------------------------------------------ */

static void list_push(struct bw_load__worker *w, struct bw_load__list *list, struct bw_load__slot *slot)
{
	uint32_t index = (uint32_t)(slot - w->slot);

	slot->next = NO_SLOT;
	slot->previous = list->last;
	if (list->count++ == 0)
		list->first = index;
	else
		w->slot[list->last].next = index;
	list->last = index;
}

static void list_remove(struct bw_load__worker *w, struct bw_load__list *list, struct bw_load__slot *slot)
{
	uint32_t index = (uint32_t)(slot - w->slot);

	if (list->first == index)
		list->first = slot->next;
	else
		w->slot[slot->previous].next = slot->next;
	if (list->last == index)
		list->last = slot->previous;
	else
		w->slot[slot->next].previous = slot->previous;
	list->count--;
}

/** Of a list that is not empty. */
static struct bw_load__slot *list_pop(struct bw_load__worker *w, struct bw_load__list *list)
{
	struct bw_load__slot *slot = &w->slot[list->first];

	list_remove(w, list, slot);
	return slot;
}

/* ---- a slot's requests --------------------------------------------------------------------------------- */

static inline uint32_t ring_size(const struct bw_load__worker *w, const struct bw_load__slot *slot)
{
	return slot->is_idle ? 1 : w->depth + 1; /* and a prelude */
}

struct bw_load__pending *bw_load__ring_at(
	struct bw_load__worker *w, const struct bw_load__slot *slot, uint32_t position)
{
	uint32_t at = slot->head + position, size = ring_size(w, slot);

	return &w->pending[slot->pending + (at < size ? at : at - size)];
}

void bw_load__ring_pop(struct bw_load__worker *w, struct bw_load__slot *slot)
{
	slot->head = (uint16_t)(slot->head + 1u < ring_size(w, slot) ? slot->head + 1u : 0);
	slot->count--;
}

/** May what is measured, or stored, be sent now? */
static inline bool may_ask(const struct bw_load__worker *w)
{
	switch (w->stage) {
	case BW_LOAD_WARM:
		return true;
	case BW_LOAD_RUN:
		return w->issued < w->share;
	case BW_LOAD_FILL:
		return w->fill_at < w->fill_end;
	default:
		return false;
	}
}

/** Send what the stream takes of the newest request, which is large. */
static void send_on(struct bw_load__worker *w, struct bw_load__slot *slot)
{
	struct bw_load__message message = { 0 };
	uint32_t skipped = slot->sent;

	w->protocol->compose(w, slot, bw_load__ring_at(w, slot, slot->count - 1u), &message);
	for (unsigned i = 0; i < BW_LOAD__PARTS; i++) {
		const uint8_t *data = message.part[i].data;
		uint32_t len = message.part[i].len, done = BW_MIN(skipped, len);

		skipped -= done;
		while (done < len) {
			uint32_t n = BW_MIN(len - done, bw_stream_space(slot->stream));

			if (n < REFERENCED_BYTES || message.part[i].data == message.head)
				n = bw_stream_send(slot->stream, data + done, len - done);
			else if (bw_stream_send_ref(slot->stream, data + done, n, NULL, NULL) != 0)
				n = 0;
			if (n == 0)
				return; /* writable() goes on */
			done += n;
			slot->sent += n;
			w->figures.bytes_out += n;
		}
	}
	slot->is_sending = false;
}

/** Send a request that was due at that time. False: there is no room. */
static bool ask(struct bw_load__worker *w, struct bw_load__slot *slot, enum bw_load__kind kind, bw_ns due_at)
{
	struct bw_load__pending *p = bw_load__ring_at(w, slot, slot->count);
	enum bw_load__asked asked;

	p->kind = (uint8_t)kind;
	p->is_taken = false;
	p->is_counted = kind == BW_LOAD__ASK && w->stage == BW_LOAD_RUN;
	p->due_at = due_at;
	p->sent_at = bw_context_now(w->ctx);
	asked = w->protocol->ask(w, slot, p);
	if (asked == BW_LOAD__NO_ROOM)
		return false;
	slot->count++;
	w->figures.under_way++;
	if (kind == BW_LOAD__ASK) {
		w->figures.requests++;
		w->issued += p->is_counted;
	}
	if (bw_unlikely(asked == BW_LOAD__IN_PARTS)) {
		slot->is_sending = true;
		slot->sent = 0;
		send_on(w, slot);
	}
	return true;
}

static bool has_room(const struct bw_load__worker *w, const struct bw_load__slot *slot)
{
	return slot->state == SLOT_OPEN && slot->count < w->depth && !slot->closes && !slot->is_ending &&
	       !slot->is_sending;
}

/** Closed loop: as many requests as may be under way. */
static void pump(struct bw_load__worker *w, struct bw_load__slot *slot)
{
	enum bw_load__kind kind = w->stage == BW_LOAD_FILL ? BW_LOAD__FILLING : BW_LOAD__ASK;

	while (has_room(w, slot) && may_ask(w))
		if (!ask(w, slot, kind, bw_context_now(w->ctx)))
			return;
}

static void finish(struct bw_load__slot *slot)
{
	slot->is_ending = true;
	bw_stream_close(slot->stream);
}

/** The slot may have room again. */
static void go_on(struct bw_load__worker *w, struct bw_load__slot *slot)
{
	if (slot->is_idle || slot->thinks)
		return;
	if (w->stage == BW_LOAD_FILL) {
		pump(w, slot);
	} else if (w->is_churn) {
		if (slot->state == SLOT_OPEN && slot->count == 0 && !slot->closes && !slot->is_ending)
			finish(slot); /* it has had its request */
	} else if (!w->is_open_loop) {
		pump(w, slot);
	} else if (!slot->is_queued && has_room(w, slot)) {
		slot->is_queued = true;
		list_push(w, &w->ready, slot);
	}
}

void bw_load__answered(
	struct bw_load__worker *w, struct bw_load__slot *slot, const struct bw_load__pending *p, bw_ns now)
{
	bool is_right = slot->fault == BW_LOAD_ERRORS;

	w->figures.under_way--;
	if (!is_right)
		w->figures.error[slot->fault]++;
	switch ((enum bw_load__kind)p->kind) {
	case BW_LOAD__ASK:
		/* A count is exact: what the warm-up has left under way is not of it. */
		if (w->stage == BW_LOAD_RUN && w->load->conf.count > 0 && !p->is_counted)
			break;
		w->figures.responses++;
		w->figures.misses += slot->is_missed;
		if (is_right)
			bw_hist_add(&w->figures.latency, now - p->due_at);
		break;
	case BW_LOAD__FILLING:
		w->fill_done++;
		break;
	case BW_LOAD__PROBE:
		w->figures.idle_answered += is_right;
		break;
	case BW_LOAD__PRELUDE:
		break;
	}
	slot->fault = BW_LOAD_ERRORS;
	slot->is_missed = false;
}

/** Open loop: its time goes on from when it was due first. There is a place for each that can be under way. */
static void be_due_again(struct bw_load__worker *w, bw_ns due_at)
{
	uint32_t at = w->again_first + w->again_count;

	BW_ASSERT(w->again_count < w->again_size);
	w->again[at < w->again_size ? at : at - w->again_size] = due_at;
	w->again_count++;
}

/** No answer will come to what is under way. BW_LOAD_ERRORS: it is not the server's fault, and asked again. */
static void lose(struct bw_load__worker *w, struct bw_load__slot *slot, enum bw_load_error why)
{
	for (; slot->count > 0; bw_load__ring_pop(w, slot)) {
		const struct bw_load__pending *p = bw_load__ring_at(w, slot, 0);

		w->figures.under_way--;
		/* A connection that was refused is one error, with a password before its request or without. */
		if (why != BW_LOAD_ERRORS && (p->kind != BW_LOAD__PRELUDE || slot->count == 1))
			w->figures.error[why]++;
		if (p->kind == BW_LOAD__FILLING)
			w->fill_done++;
		if (p->is_counted && why == BW_LOAD_ERRORS)
			w->issued--;
		if (w->is_open_loop && p->kind == BW_LOAD__ASK && why == BW_LOAD_ERRORS)
			be_due_again(w, p->due_at);
	}
	slot->reading = 0;
	slot->is_sending = false;
	slot->fault = BW_LOAD_ERRORS;
	slot->is_missed = false;
}

/* ---- connections --------------------------------------------------------------------------------------- */

/** Written into every stream's state. */
struct stream_state {
	uint32_t slot;
};

static struct bw_load__worker *worker_of(struct bw_stream *s)
{
	return bw_context_state(bw_stream_context(s));
}

static struct bw_load__slot *slot_of(const struct bw_load__worker *w, struct bw_stream *s)
{
	const struct stream_state *state = bw_stream_state(s);

	return &w->slot[state->slot];
}

static struct bw_load__list *shut_list(struct bw_load__worker *w, const struct bw_load__slot *slot)
{
	return slot->is_idle ? &w->shut_idle : &w->shut;
}

static bool is_datagrams(const struct bw_load__worker *w)
{
	return w->load->conf.protocol == BW_LOAD_UDP;
}

struct bw_ip bw_load__source_next(struct bw_load__worker *w)
{
	struct bw_ip ip = w->load->conf.from;
	uint64_t low, at = w->source_next;

	w->source_next = at + w->workers < w->load->conf.from_count ? at + w->workers
								    : w->index % w->load->conf.from_count;
	memcpy(&low, ip.b + 8, sizeof(low));
	low = __builtin_bswap64(__builtin_bswap64(low) + at);
	memcpy(ip.b + 8, &low, sizeof(low));
	return ip;
}

static void be_shut(struct bw_load__worker *w, struct bw_load__slot *slot)
{
	if (slot->is_queued)
		list_remove(w, &w->ready, slot);
	slot->is_queued = false;
	slot->stream = NULL;
	slot->state = SLOT_FREE;
	list_push(w, shut_list(w, slot), slot);
}

/** Nothing that comes on it is believed any more. */
static void give_up(struct bw_load__worker *w, struct bw_load__slot *slot, enum bw_load_error why)
{
	lose(w, slot, why);
	slot->is_ending = true;
	bw_stream_abort(slot->stream); /* calls closed() */
}

/** There was no buffer for what has to go first on a connection: another one, in a moment. */
static void open_later(struct bw_load__worker *w, struct bw_load__slot *slot)
{
	w->retry_at = bw_context_now(w->ctx) + REST_NS;
	give_up(w, slot, BW_LOAD_ERRORS);
}

static bool open_failed(struct bw_load__worker *w, struct bw_load__slot *slot)
{
	w->figures.error[BW_LOAD_UNREACHABLE]++;
	w->retry_at = bw_context_now(w->ctx) + REST_NS;
	be_shut(w, slot);
	return false;
}

/** Begin to connect a shut slot, which is in no list. False: it is in its list again. */
static bool open_slot(struct bw_load__worker *w, struct bw_load__slot *slot)
{
	const struct bw_load_target *target = &w->load->conf.targets[slot->target];
	struct bw_stream *s;

	slot->state = SLOT_CONNECTING;
	slot->closes = slot->is_ending = slot->thinks = false;
	if (is_datagrams(w)) { /* its first datagram shows that somebody is there */
		if (!ask(w, slot, BW_LOAD__PRELUDE, bw_context_now(w->ctx)))
			return open_failed(w, slot);
		w->connecting++;
		return true;
	}
	if (w->load->conf.from_count > 0) {
		struct bw_ip from = bw_load__source_next(w);

		s = bw_stream_connect_from(w->ctx, &from, &target->ip, target->port);
	} else {
		s = bw_stream_connect(w->ctx, &target->ip, target->port);
	}
	if (s == NULL)
		return open_failed(w, slot);
	*(struct stream_state *)bw_stream_state(s) =
		(struct stream_state){ .slot = (uint32_t)(slot - w->slot) };
	bw_stream_set_user_timeout(s, w->load->conf.timeout_ns);
	slot->stream = s;
	w->connecting++;
	if (target->password != NULL && !ask(w, slot, BW_LOAD__PRELUDE, bw_context_now(w->ctx)))
		open_later(w, slot);
	return true;
}

static void is_opened(struct bw_load__worker *w, struct bw_load__slot *slot)
{
	slot->state = SLOT_OPEN;
	w->connecting--;
	w->figures.opened++;
	if (slot->is_idle)
		w->figures.idle_open++;
	else
		w->figures.open++;
	go_on(w, slot);
}

static void load_opened(struct bw_stream *s)
{
	struct bw_load__worker *w = worker_of(s);

	is_opened(w, slot_of(w, s));
}

static void load_closed(struct bw_stream *s, enum bw_close_reason reason)
{
	struct bw_load__worker *w = worker_of(s);
	struct bw_load__slot *slot = slot_of(w, s);
	enum bw_load_error why = reason == BW_CLOSE_TIMED_OUT ? BW_LOAD_TIMEOUT
				 : reason == BW_CLOSE_NORMAL  ? BW_LOAD_CLOSED
							      : BW_LOAD_RESET;

	if (slot->state == SLOT_CONNECTING) {
		bool is_refused = reason == BW_CLOSE_REFUSED || reason == BW_CLOSE_RESET;

		why = is_refused ? BW_LOAD_REFUSED : BW_LOAD_UNREACHABLE;
		w->connecting--;
		if (slot->count == 0 && !slot->is_ending)
			w->figures.error[why]++;
		w->retry_at = bw_stream_now(s) + REST_NS;
	} else if (slot->is_idle) {
		w->figures.idle_open--;
		w->figures.idle_closed += slot->count == 0 && !slot->is_ending && w->stage < BW_LOAD_END;
	} else {
		w->figures.open--;
	}
	lose(w, slot, why);
	be_shut(w, slot);
}

static void load_peer_closed(struct bw_stream *s)
{
	struct bw_load__worker *w = worker_of(s);
	struct bw_load__slot *slot = slot_of(w, s);

	if (slot->count > 0 && w->protocol->ends_with_close != NULL && w->protocol->ends_with_close(slot)) {
		bw_load__answered(w, slot, bw_load__ring_at(w, slot, 0), bw_stream_now(s));
		bw_load__ring_pop(w, slot);
		slot->closes = true;
		slot->reading = 0;
	}
	w->figures.idle_closed +=
		slot->is_idle && slot->count == 0 && !slot->is_ending && w->stage < BW_LOAD_END;
	/* What was asked behind an answer that said it was the last is asked anew (RFC 9112 9.3.2). */
	lose(w, slot, slot->closes ? BW_LOAD_ERRORS : BW_LOAD_CLOSED);
	finish(slot);
}

/* ---- answers ------------------------------------------------------------------------------------------- */

/** Bytes that have come and were not read: where in the views. */
struct cursor {
	const struct bw_view *view;
	unsigned count;
	uint32_t offset; /* in the first */
};

static void cursor_advance(struct cursor *c, uint32_t bytes)
{
	c->offset += bytes;
	while (c->count > 0 && c->offset >= c->view->len) {
		c->offset -= c->view->len;
		c->view++;
		c->count--;
	}
}

/** Copy what is left, as much as there is room for: for heads and lines that straddle views. */
static uint32_t cursor_gather(const struct cursor *c, uint8_t *out)
{
	uint32_t bytes = 0;

	for (unsigned i = 0; i < c->count && bytes < BW_LOAD__GATHER; i++) {
		uint32_t skipped = i == 0 ? c->offset : 0;
		uint32_t len = BW_MIN(c->view[i].len - skipped, BW_LOAD__GATHER - bytes);

		memcpy(out + bytes, c->view[i].data + skipped, len);
		bytes += len;
	}
	return bytes;
}

static enum bw_load__outcome read_on(
	struct bw_load__worker *w, struct bw_load__slot *slot, struct cursor *c, uint32_t *used)
{
	const struct bw_load__pending *p = bw_load__ring_at(w, slot, 0);
	enum bw_load__outcome outcome;
	uint32_t len = c->view->len - c->offset;

	*used = 0;
	outcome = w->protocol->read(w, slot, p, c->view->data + c->offset, len, used);
	if (outcome == BW_LOAD__MORE && c->count > 1) {
		len = cursor_gather(c, w->gather);
		outcome = w->protocol->read(w, slot, p, w->gather, len, used);
	}
	return outcome == BW_LOAD__MORE && len >= BW_LOAD__GATHER ? BW_LOAD__BAD : outcome;
}

static uint32_t load_data(struct bw_stream *s, const struct bw_view *views, unsigned count)
{
	struct bw_load__worker *w = worker_of(s);
	struct bw_load__slot *slot = slot_of(w, s);
	struct cursor c = { .view = views, .count = count };
	uint32_t taken = 0, used;

	cursor_advance(&c, 0);
	while (c.count > 0) {
		enum bw_load__outcome outcome;

		if (slot->count == 0) { /* nobody asked */
			w->figures.error[BW_LOAD_FRAMING] += !slot->closes;
			give_up(w, slot, BW_LOAD_FRAMING);
			return taken;
		}
		outcome = read_on(w, slot, &c, &used);
		if (outcome == BW_LOAD__BAD) {
			give_up(w, slot, BW_LOAD_FRAMING);
			return taken;
		}
		taken += used;
		w->figures.bytes_in += used;
		cursor_advance(&c, used);
		if (outcome == BW_LOAD__MORE)
			break;
		if (outcome == BW_LOAD__DONE) {
			slot->reading = 0;
			bw_load__answered(w, slot, bw_load__ring_at(w, slot, 0), bw_stream_now(s));
			bw_load__ring_pop(w, slot);
			if (slot->count == 0 && slot->is_sending) {
				/* Answered before it was all out: nobody wants the rest (RFC 9112 9.5). */
				give_up(w, slot, BW_LOAD_RESET);
				return taken;
			}
			if (slot->closes)
				bw_stream_set_timer(s, bw_stream_now(s) + LAST_NS);
		}
	}
	if (w->load->conf.think_ns > 0 && w->stage != BW_LOAD_FILL && slot->count < w->depth &&
		!slot->thinks && !slot->closes) {
		slot->thinks = true;
		bw_stream_set_timer(s, bw_stream_now(s) + w->load->conf.think_ns);
	} else {
		go_on(w, slot);
	}
	return taken;
}

static void load_writable(struct bw_stream *s)
{
	struct bw_load__worker *w = worker_of(s);
	struct bw_load__slot *slot = slot_of(w, s);

	if (slot->is_sending)
		send_on(w, slot);
	go_on(w, slot);
}

static void load_timer(struct bw_stream *s)
{
	struct bw_load__worker *w = worker_of(s);
	struct bw_load__slot *slot = slot_of(w, s);

	slot->thinks = false;
	if (slot->closes && !slot->is_ending) {
		/* The server has said that it would close, and does not. */
		lose(w, slot, BW_LOAD_ERRORS);
		finish(slot);
	}
	go_on(w, slot);
}

static void load_drain(struct bw_stream *s)
{
	struct bw_load__worker *w = worker_of(s);
	struct bw_load__slot *slot = slot_of(w, s);

	lose(w, slot, BW_LOAD_ERRORS);
	finish(slot);
}

/* ---- a turn -------------------------------------------------------------------------------------------- */

static void enter_stage(struct bw_load__worker *w, unsigned stage, bw_ns now)
{
	const struct bw_load_conf *conf = &w->load->conf;

	w->kick_at = 0;
	if (stage == BW_LOAD_RUN) {
		w->issued = 0;
		w->share = conf->count == 0 ? UINT64_MAX
					    : conf->count * (w->index + 1) / w->workers -
						      conf->count * w->index / w->workers;
	}
	if (stage == BW_LOAD_WARM || (stage == BW_LOAD_RUN && w->stage != BW_LOAD_WARM)) {
		w->next_at = now;
		w->next_fraction = 0;
		w->again_count = 0;
	}
	w->stage = stage;
}

/** Tell the slots of a new stage. */
static void kick(struct bw_load__worker *w)
{
	uint32_t end = BW_MIN(w->kick_at + KICK_SLICE, w->slots);

	for (; w->kick_at < end; w->kick_at++) {
		struct bw_load__slot *slot = &w->slot[w->kick_at];

		if (!slot->is_idle)
			go_on(w, slot);
		else if (w->stage == BW_LOAD_CHECK && slot->count == 0 && has_room(w, slot) &&
			 (w->figures.under_way >= PROBES_MAX ||
				 !ask(w, slot, BW_LOAD__PROBE, bw_context_now(w->ctx))))
			return; /* in the next turn */
	}
}

/** How many slots may have a connection by now. */
static uint64_t ramp_allows(const struct bw_load__worker *w, bw_ns now)
{
	bw_ns ramp = w->load->conf.ramp_ns, elapsed = now - w->started_at;

	if (elapsed >= ramp)
		return w->slots;
	return 1 + (uint64_t)((double)w->slots * (double)elapsed / (double)ramp);
}

/** May another be under way? A few at first, then as many more as there were. */
static bool may_connect(const struct bw_load__worker *w)
{
	return w->connecting < CONNECTING_MAX && w->connecting < CONNECTING_FIRST + w->figures.opened;
}

/** Connections that are to stand. Returns whether there is more to do in the next turn. */
static bool open_some(struct bw_load__worker *w, bw_ns now)
{
	/* With a connection for each request, only idle ones stand; but for storing, all do. */
	bool opens_active = !w->is_churn || w->stage == BW_LOAD_FILL;
	uint64_t allowed = ramp_allows(w, now);

	for (unsigned i = 0; i < OPEN_SLICE; i++) {
		struct bw_load__list *list = opens_active && w->shut.count > 0 ? &w->shut : &w->shut_idle;
		struct bw_load__slot *slot;

		if (list->count == 0 || !may_connect(w) ||
			w->slots - w->shut.count - w->shut_idle.count >= allowed)
			return false;
		slot = list_pop(w, list);
		if (!open_slot(w, slot))
			return false;
	}
	return true;
}

/** A connection for one request. */
static void churn_one(struct bw_load__worker *w, bw_ns due_at)
{
	struct bw_load__slot *slot = list_pop(w, &w->shut);

	if (!open_slot(w, slot) || (!slot->is_ending && ask(w, slot, BW_LOAD__ASK, due_at)))
		return;
	if (w->is_open_loop)
		be_due_again(w, due_at);
	if (!slot->is_ending)
		open_later(w, slot);
}

/** When the next request is, or was, due: one that was taken back comes first. */
static bw_ns due_next(const struct bw_load__worker *w)
{
	return w->again_count > 0 ? w->again[w->again_first] : w->next_at;
}

static void arrival_next(struct bw_load__worker *w)
{
	double step = w->interval_ns;

	if (w->load->conf.is_poisson)
		step *= -__builtin_log(bw_load__draw_fraction(&w->draw));
	w->next_fraction += step;
	step = __builtin_floor(w->next_fraction);
	w->next_fraction -= step;
	w->next_at += (bw_ns)step;
}

/** Send what is due. Returns when to look again; BW_NEVER: when a slot has room. */
static bw_ns arrivals(struct bw_load__worker *w, bw_ns now)
{
	for (unsigned i = 0; may_ask(w); i++) {
		bw_ns due_at = due_next(w);

		if (due_at > now)
			return due_at;
		if (i == ARRIVALS_SLICE)
			return now;
		if (w->is_churn) {
			if (now < w->retry_at)
				return w->retry_at;
			if (w->shut.count == 0 || !may_connect(w))
				return BW_NEVER;
			churn_one(w, due_at);
		} else {
			struct bw_load__slot *slot;

			if (w->ready.count == 0)
				return BW_NEVER;
			slot = list_pop(w, &w->ready);
			slot->is_queued = false;
			if (!has_room(w, slot) || !ask(w, slot, BW_LOAD__ASK, due_at))
				continue; /* it comes back by writable(), sweep() or with its next connection */
			go_on(w, slot);
		}
		if (w->again_count == 0) {
			arrival_next(w);
			continue;
		}
		w->again_count--;
		w->again_first = w->again_first + 1 < w->again_size ? w->again_first + 1 : 0;
	}
	return BW_NEVER;
}

/** The closed loop with a connection for each request. */
static void churn(struct bw_load__worker *w, bw_ns now)
{
	for (unsigned i = 0;
		i < OPEN_SLICE && w->shut.count > 0 && may_connect(w) && now >= w->retry_at && may_ask(w);
		i++)
		churn_one(w, now);
}

/** Datagrams without an answer in time: each for itself, as later ones may have theirs. */
static void sweep_datagrams(struct bw_load__worker *w, struct bw_load__slot *slot, bw_ns now)
{
	for (; slot->count > 0; bw_load__ring_pop(w, slot)) {
		const struct bw_load__pending *p = bw_load__ring_at(w, slot, 0);
		bool is_first = p->kind == BW_LOAD__PRELUDE;

		if (now - p->sent_at < (is_first ? DATAGRAM_NS : w->load->conf.timeout_ns))
			break;
		w->figures.under_way -= !p->is_taken;
		w->figures.error[BW_LOAD_TIMEOUT] += !p->is_taken && !is_first;
		if (is_first) {
			w->connecting--;
			be_shut(w, slot);
		}
	}
	go_on(w, slot);
}

/** Requests whose answers are late. */
static void sweep(struct bw_load__worker *w, bw_ns now)
{
	bw_ns timeout = w->load->conf.timeout_ns;

	if (now < w->sweep_due_at)
		return;
	w->sweep_due_at = now + SWEEP_NS;
	for (unsigned i = 0; i < SWEEP_SLICE && i < w->slots; i++) {
		struct bw_load__slot *slot = &w->slot[w->sweep_at];

		w->sweep_at = w->sweep_at + 1 < w->slots ? w->sweep_at + 1 : 0;
		if (is_datagrams(w))
			sweep_datagrams(w, slot, now);
		else if (slot->count > 0 && now - bw_load__ring_at(w, slot, 0)->sent_at >= timeout)
			give_up(w, slot, BW_LOAD_TIMEOUT);
	}
}

/** With a count: nothing stands, and nothing that was due was asked, for as long as an answer may take. */
static bool is_stranded(struct bw_load__worker *w, bw_ns now)
{
	if (w->stage != BW_LOAD_RUN || w->issued >= w->share || w->figures.open > 0 ||
		w->issued != w->served_issued || (w->is_open_loop && due_next(w) > now)) {
		w->served_at = now;
		w->served_issued = w->issued;
	}
	return now - w->served_at > w->load->conf.timeout_ns;
}

static void load_tick(struct bw_context *ctx, bw_ns now)
{
	struct bw_load__worker *w = bw_context_state(ctx);
	unsigned stage = atomic_load_explicit(&w->load->stage, memory_order_acquire);
	bw_ns again_at = w->sweep_due_at;

	if (bw_unlikely(stage != w->stage))
		enter_stage(w, stage, now);
	if (stage < BW_LOAD_END && now >= w->retry_at && open_some(w, now))
		again_at = now;
	if (w->kick_at < w->slots) {
		kick(w);
		again_at = w->kick_at < w->slots ? now : again_at;
	}
	if (stage != BW_LOAD_FILL) { /* every connection stores, by pump() */
		if (w->is_open_loop)
			again_at = BW_MIN(again_at, arrivals(w, now));
		else if (w->is_churn)
			churn(w, now);
	}
	sweep(w, now);
	w->figures.filled_workers = w->fill_done == w->fill_end - w->fill_first;
	w->figures.done_workers = stage == BW_LOAD_RUN && w->issued >= w->share && w->figures.under_way == 0;
	w->figures.stranded_workers = is_stranded(w, now);
	bw_context_tick_at(ctx, again_at);
}

/* ---- UDP ----------------------------------------------------------------------------------------------- */

static void load_datagram(struct bw_context *ctx, const struct bw_datagram *dgram)
{
	struct bw_load__worker *w = bw_context_state(ctx);
	struct bw_load__slot *slot;

	if (!is_datagrams(w))
		return;
	slot = bw_load__udp_input(w, dgram);
	if (slot != NULL && slot->state == SLOT_CONNECTING)
		is_opened(w, slot);
	else if (slot != NULL)
		go_on(w, slot);
}

/* ---- start and end ------------------------------------------------------------------------------------- */

/** Among how many keys or paths a request chooses. */
static uint64_t choices_of(const struct bw_load *load)
{
	const struct bw_load_conf *conf = &load->conf;

	return conf->protocol == BW_LOAD_HTTP ? BW_MAX(conf->path_count, 1u) : conf->keys;
}

static uint64_t share_of(uint64_t all, unsigned index, unsigned workers)
{
	return all * (index + 1) / workers - all * index / workers;
}

static void slots_init(struct bw_load__worker *w)
{
	uint32_t pending = 0;

	for (uint32_t i = 0; i < w->slots; i++) {
		struct bw_load__slot *slot = &w->slot[i];

		*slot = (struct bw_load__slot){
			.pending = pending,
			.target = (uint16_t)((i + w->index) % w->load->conf.target_count),
			.fault = BW_LOAD_ERRORS,
			.is_idle = i >= w->active,
		};
		pending += ring_size(w, slot);
		list_push(w, shut_list(w, slot), slot);
	}
}

static void load_stop(struct bw_context *ctx)
{
	struct bw_load__worker *w = bw_context_state(ctx);
	struct bw_load *load = (struct bw_load *)w->load;

	load->figures[w->index] = NULL;
	if (w->protocol->stop != NULL)
		w->protocol->stop(w);
	free(w->slot);
	free(w->pending);
	free(w->again);
	free(w->gather);
	w->slot = NULL;
}

static int load_start(struct bw_context *ctx, void *conf)
{
	struct bw_load__worker *w = bw_context_state(ctx);
	struct bw_load *load = conf;
	const struct bw_load_conf *c = &load->conf;
	int error = -ENOMEM;

	w->load = load;
	w->ctx = ctx;
	w->protocol = load->protocol;
	w->index = bw_context_worker(ctx);
	w->workers = bw_context_worker_count(ctx);
	BW_ASSERT(w->workers <= BW_LOAD__WORKERS_MAX);
	w->depth = c->depth;
	w->stage = BW_LOAD_OPEN;
	w->share = UINT64_MAX;
	w->is_open_loop = c->rate > 0;
	w->is_churn = c->is_churn;
	w->interval_ns = w->is_open_loop ? (double)BW_NS_PER_SEC * w->workers / c->rate : 0;
	w->active = (uint32_t)share_of(c->connections, w->index, w->workers);
	w->slots = w->active + (uint32_t)share_of(c->idle, w->index, w->workers);
	w->source_next = c->from_count > 0 ? w->index % c->from_count : 0;
	w->started_at = bw_context_now(ctx);
	if (c->fills) {
		w->fill_first = w->fill_at = c->keys * w->index / w->workers;
		w->fill_end = c->keys * (w->index + 1) / w->workers;
	}
	bw_hist_init(&w->figures.latency);
	bw_load__draw_init(&w->draw, c->seed + w->index, choices_of(load), load->zipf_ranks, load->zipf_mask);
	w->slot = malloc((size_t)w->slots * sizeof(*w->slot) + 1);
	w->pending =
		calloc((size_t)w->active * (w->depth + 1) + (w->slots - w->active) + 1, sizeof(*w->pending));
	w->gather = malloc(BW_LOAD__GATHER);
	w->again_size = w->is_open_loop ? w->active * (w->depth + 1) : 0;
	w->again = malloc(w->again_size * sizeof(*w->again) + 1);
	if (w->slot == NULL || w->pending == NULL || w->gather == NULL || w->again == NULL)
		goto fail;
	slots_init(w);
	error = w->protocol->start != NULL ? w->protocol->start(w) : 0;
	if (error != 0)
		goto fail;
	load->figures[w->index] = &w->figures;
	return 0;
fail:
	if (error == -ENOMEM)
		bw_error("load: no memory for %u connections; give fewer, or a smaller depth", w->slots);
	load_stop(ctx);
	return error;
}

static size_t load_stats(const struct bw_context *ctx, char *out, size_t out_bytes)
{
	const struct bw_load__worker *w = bw_context_state((struct bw_context *)ctx);
	int len = snprintf(out, out_bytes, "requests %llu\n", (unsigned long long)w->figures.requests);

	return len > 0 && (size_t)len < out_bytes ? (size_t)len : 0;
}

/* ---- the load ------------------------------------------------------------------------------------------ */

void bw_load_conf_init(struct bw_load_conf *conf)
{
	*conf = (struct bw_load_conf){
		.connections = 64,
		.depth = 1,
		.timeout_ns = 10 * BW_NS_PER_SEC,
		.method = "GET",
		.keys = 1,
		.size = 32,
		.seed = 1,
	};
}

const char *bw_load_error_name(enum bw_load_error error)
{
	static const char *const names[] = {
		[BW_LOAD_REFUSED] = "refused",
		[BW_LOAD_UNREACHABLE] = "unreachable",
		[BW_LOAD_RESET] = "reset",
		[BW_LOAD_CLOSED] = "closed",
		[BW_LOAD_TIMEOUT] = "timeout",
		[BW_LOAD_FRAMING] = "framing",
		[BW_LOAD_STATUS] = "status",
		[BW_LOAD_LENGTH] = "length",
		[BW_LOAD_VALUE] = "value",
	};
	_Static_assert(BW_ARRAY_LEN(names) == BW_LOAD_ERRORS, "a name for each");

	return names[error];
}

static bool pattern_make(struct bw_load *load)
{
	size_t words = (BW_LOAD_PATTERN + (size_t)load->conf.size) / sizeof(uint64_t) + 1;
	struct bw_load__draw draw;
	uint64_t *pattern = malloc(words * sizeof(*pattern));

	load->pattern = (uint8_t *)pattern;
	if (pattern == NULL)
		return false;
	/* The same whatever the run's seed: what one run has stored, the next may check. */
	bw_load__draw_init(&draw, 0, 0, NULL, 0);
	for (size_t i = 0; i < words; i++)
		pattern[i] = bw_load__draw_bits(&draw);
	return true;
}

static bool ranks_make(struct bw_load *load, uint64_t choices)
{
	const struct bw_load_conf *conf = &load->conf;

	if (conf->zipf <= 0 || choices < 2)
		return true;
	load->zipf_ranks = malloc(ZIPF_RANKS * sizeof(*load->zipf_ranks));
	if (load->zipf_ranks == NULL)
		return false;
	load->zipf_mask = ZIPF_RANKS - 1;
	bw_load__zipf_fill(load->zipf_ranks, ZIPF_RANKS, choices, conf->zipf, conf->seed);
	return true;
}

struct bw_load *bw_load_create(const struct bw_load_conf *conf)
{
	static const struct bw_load__protocol *const protocols[] = {
		[BW_LOAD_HTTP] = &bw_load__http,
		[BW_LOAD_RESP] = &bw_load__resp,
		[BW_LOAD_ECHO] = &bw_load__echo,
		[BW_LOAD_UDP] = &bw_load__udp,
	};
	struct bw_load *load = calloc(1, sizeof(*load));

	if (load == NULL)
		goto fail;
	load->conf = *conf;
	load->protocol = protocols[conf->protocol];
	if (!pattern_make(load) || (load->protocol->prepare != NULL && load->protocol->prepare(load) != 0) ||
		!ranks_make(load, choices_of(load)))
		goto fail;
	return load;
fail:
	bw_error("load: no memory for the requests; give fewer paths, or free some");
	bw_load_destroy(load);
	return NULL;
}

void bw_load_destroy(struct bw_load *load)
{
	if (load == NULL)
		return;
	if (load->protocol != NULL && load->protocol->release != NULL)
		load->protocol->release(load);
	free(load->zipf_ranks);
	free(load->pattern);
	free(load);
}

void bw_load_set_stage(struct bw_load *load, enum bw_load_stage stage)
{
	atomic_store_explicit(&load->stage, stage, memory_order_release);
}

void bw_load_figures(const struct bw_load *load, struct bw_load_figures *sum)
{
	memset(sum, 0, sizeof(*sum));
	bw_hist_init(&sum->latency);
	for (unsigned i = 0; i < BW_LOAD__WORKERS_MAX; i++) {
		const struct bw_load_figures *f = load->figures[i];

		if (f == NULL)
			continue;
		sum->requests += f->requests;
		sum->responses += f->responses;
		sum->bytes_in += f->bytes_in;
		sum->bytes_out += f->bytes_out;
		sum->opened += f->opened;
		sum->open += f->open;
		sum->idle_open += f->idle_open;
		sum->idle_answered += f->idle_answered;
		sum->idle_closed += f->idle_closed;
		sum->misses += f->misses;
		sum->under_way += f->under_way;
		for (unsigned e = 0; e < BW_LOAD_ERRORS; e++)
			sum->error[e] += f->error[e];
		sum->filled_workers += f->filled_workers;
		sum->done_workers += f->done_workers;
		sum->stranded_workers += f->stranded_workers;
		bw_hist_merge(&sum->latency, &f->latency);
	}
}

const struct bw_service bw_load_service = {
	.name = "load",
	.connects = true,
	.stream_bytes = sizeof(struct stream_state),
	.context_bytes = sizeof(struct bw_load__worker),
	.start = load_start,
	.stop = load_stop,
	.opened = load_opened,
	.data = load_data,
	.writable = load_writable,
	.peer_closed = load_peer_closed,
	.closed = load_closed,
	.timer = load_timer,
	.datagram = load_datagram,
	.drain = load_drain,
	.tick = load_tick,
	.stats = load_stats,
};
