/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Echo over UDP. A slot is a flow, with a port of its own that brings the answers to this worker. A datagram begins
 * with its slot and its number there; answers come in any order, or never, which is a time-out.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <base/log.h>

#include "internal.h"

#define PORT_FIRST 1024u
#define PORT_COUNT (65536u - PORT_FIRST)

/** At the beginning of each datagram. Ours alone reads it. */
struct label {
	uint32_t slot, number;
};
_Static_assert(sizeof(struct label) <= BW_LOAD_UDP_BYTES_MIN, "every datagram has one");

struct udp_flow {
	struct bw_flow flow;
	uint32_t number; /* the next one's */
};

/** A port to each slot, of those that bring its answers here. */
static int flows_init(struct bw_load__worker *w, struct udp_flow *flows)
{
	const struct bw_load_conf *conf = &w->load->conf;
	uint32_t at = 0;

	for (uint32_t i = 0; i < w->slots; i++) {
		const struct bw_load_target *target = &conf->targets[w->slot[i].target];
		struct bw_flow *flow = &flows[i].flow;
		const struct bw_ip *local = bw_context_source(w->ctx, &target->ip);

		if (conf->from_count == 0 && local == NULL) {
			char text[BW_IP_STRLEN];

			bw_error("load: no address of ours can talk to %s; give an --addr of its family",
				bw_ip_format(&target->ip, text));
			return -ENETUNREACH;
		}
		flow->remote = target->ip;
		flow->remote_port_be = __builtin_bswap16(target->port);
		flow->local = conf->from_count > 0 ? bw_load__source_next(w) : *local;
		/* Ports are used anew only from another address; a round of all of them finds one that is ours. */
		for (uint32_t tries = 0;; at++) {
			flow->local_port_be = __builtin_bswap16((uint16_t)(PORT_FIRST + at % PORT_COUNT));
			if (bw_context_receives(w->ctx, flow))
				break;
			if (++tries == PORT_COUNT) {
				bw_error("load: no port brings answers to worker %u; give fewer --workers",
					w->index);
				return -EADDRNOTAVAIL;
			}
		}
		at++;
	}
	return 0;
}

static int udp_start(struct bw_load__worker *w)
{
	w->own = calloc(w->slots + 1u, sizeof(struct udp_flow));
	return w->own != NULL ? flows_init(w, w->own) : -ENOMEM;
}

static void udp_stop(struct bw_load__worker *w)
{
	free(w->own);
}

/** The first one of a flow is small: those that wait for a neighbour's address are few packets. */
static uint32_t size_of(const struct bw_load__worker *w, const struct bw_load__pending *p)
{
	return p->kind == BW_LOAD__PRELUDE ? sizeof(struct label) : w->load->conf.size;
}

static enum bw_load__asked udp_ask(
	struct bw_load__worker *w, struct bw_load__slot *slot, struct bw_load__pending *p)
{
	uint32_t index = (uint32_t)(slot - w->slot), size = size_of(w, p);
	struct udp_flow *flow = &((struct udp_flow *)w->own)[index];
	const struct bw_datagram to = { .flow = &flow->flow };
	struct label label = { .slot = index, .number = flow->number };

	memcpy(w->gather, bw_load__payload(w->load, flow->number), size);
	memcpy(w->gather, &label, sizeof(label));
	if (bw_datagram_reply(w->ctx, &to, w->gather, size) != 0)
		return BW_LOAD__NO_ROOM;
	p->what = flow->number++;
	w->figures.bytes_out += size;
	return BW_LOAD__WRITTEN;
}

static bool is_right(
	const struct bw_load__worker *w, const struct bw_datagram *dgram, const struct bw_load__pending *p)
{
	uint32_t size = size_of(w, p), skipped = sizeof(struct label);

	return dgram->payload.len == size &&
	       memcmp(dgram->payload.data + skipped, bw_load__payload(w->load, p->what) + skipped,
		       size - skipped) == 0;
}

struct bw_load__slot *bw_load__udp_input(struct bw_load__worker *w, const struct bw_datagram *dgram)
{
	const struct udp_flow *flows = w->own;
	struct bw_load__pending *p;
	struct bw_load__slot *slot;
	struct label label;
	uint32_t position;

	w->figures.bytes_in += dgram->payload.len;
	if (dgram->payload.len < sizeof(label))
		goto stray;
	memcpy(&label, dgram->payload.data, sizeof(label));
	if (label.slot >= w->slots || !bw_flow_eq(&flows[label.slot].flow, dgram->flow))
		goto stray;
	slot = &w->slot[label.slot];
	/* Of one that is over: late, or the second of two copies. The network may do that. */
	if (slot->count == 0)
		return NULL;
	position = label.number - bw_load__ring_at(w, slot, 0)->what;
	if (position >= slot->count)
		return NULL;
	p = bw_load__ring_at(w, slot, position);
	if (p->is_taken)
		return NULL;
	if (!is_right(w, dgram, p))
		slot->fault = BW_LOAD_VALUE;
	bw_load__answered(w, slot, p, bw_context_now(w->ctx));
	p->is_taken = true;
	while (slot->count > 0 && bw_load__ring_at(w, slot, 0)->is_taken)
		bw_load__ring_pop(w, slot);
	return slot;
stray:
	w->figures.error[BW_LOAD_FRAMING]++;
	return NULL;
}

const struct bw_load__protocol bw_load__udp = {
	.start = udp_start,
	.stop = udp_stop,
	.ask = udp_ask,
};
