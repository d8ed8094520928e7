/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * One worker's neighbour cache, of all its interfaces: IP address to Ethernet address, for ARP (RFC 826, 1122
 * 2.3.2) and neighbour discovery (RFC 4861 7) alike.
 *
 * States are RFC 4861's. An entry is made when we want to send (INCOMPLETE: asks, up to three times a second
 * apart, while at most BW_NEIGH_QUEUE_MAX packets wait) or when a neighbour asks for us (STALE: usable,
 * confirmed when we use it). A neighbour that does not answer is FAILED for a while, so that a dead address
 * costs a look-up and not a question a packet.
 *
 * Who claims another's address is believed, as RFC 826 and RFC 4861 have it, but everybody is asked who has it, and at
 * once where it is in use: a forged claim lasts until the owner has answered, not until three questions to nobody were
 * lost. Where two hosts really have one address, both answer, and each answer would call for the next question: so ten
 * such questions a second about one neighbour are all.
 *
 * Bounded: when the cache is full, a few entries are looked at and the one used longest ago makes room, a
 * confirmed one only if there is no other. All that waits together is bounded too, lest a scan through a prefix
 * in which nobody lives takes the whole buffer pool.
 *
 * A connection remembers its neighbour as a path, a number that is index and generation; a path whose
 * generation is old is looked up again.
 */
#pragma once

#include <rte_mbuf.h>

#include <base/addr.h>
#include <base/wheel.h>

#define BW_NEIGH_QUEUE_MAX 16

enum bw_neigh_state {
	BW_NEIGH_FREE,
	BW_NEIGH_INCOMPLETE,
	BW_NEIGH_REACHABLE,
	BW_NEIGH_STALE,
	BW_NEIGH_PROBE, /* in use, questions under way */
	BW_NEIGH_FAILED,
};

struct bw_neigh {
	struct bw_iface *iface; /* on whose link it is */
	struct bw_ip ip;
	struct bw_mac mac;
	uint16_t generation; /* of the slot: changes when it is given to another address */
	uint8_t state;
	uint8_t probe_count;
	uint8_t queued_count;
	bool is_disputed; /* the address replaced another and was not confirmed since */
	uint16_t chain_next;
	uint8_t hasty_count; /* questions in the second from hasty_at on that were not on time */
	bw_ns used_at, hasty_at;
	struct bw_timer timer;
	struct rte_mbuf *queued[BW_NEIGH_QUEUE_MAX]; /* IP packets, oldest first */
};

struct bw_neigh_cache {
	uint16_t capacity, clock_hand;
	uint16_t bucket_mask, free_head;
	unsigned queued_total, queued_max; /* packets that wait, in all entries */
	uint16_t *bucket;
	struct bw_neigh *entry; /* [0] is unused, so index 0 means none */
};

struct bw_iface;
struct bw_worker;

/** 0, -EINVAL for a capacity of 0 or above 65,534, -ENOMEM. */
int bw_neigh_init(struct bw_neigh_cache *cache, uint32_t capacity, unsigned queued_max);
/** Frees waiting packets and memory. */
void bw_neigh_fini(struct bw_neigh_cache *cache);

/**
 * The Ethernet address for a next hop, or NULL when it is not known yet: then the packet was queued or dropped,
 * and counted; ours no more. Without a packet (NULL), it is only asked for.
 */
const struct bw_mac *bw_neigh_resolve(
	struct bw_iface *iface, const struct bw_ip *next_hop, struct rte_mbuf *m, uint32_t *path);
/** The fast path: the neighbour that `path` remembers, or NULL when it has to be resolved again. */
static inline const struct bw_neigh *bw_neigh_of_path(struct bw_neigh_cache *cache, uint32_t path, bw_ns now)
{
	struct bw_neigh *n = &cache->entry[path & 0xffff];

	if (path == 0 || n->generation != path >> 16 || n->state != BW_NEIGH_REACHABLE)
		return NULL;
	n->used_at = now;
	return n;
}

/** What a neighbour said of itself. */
struct bw_neigh_claim {
	const struct bw_ip *ip;
	const struct bw_mac *mac; /* NULL: an answer that leaves it out, "where you asked me" */
	bool is_answer;           /* to a question of ours, which confirms it */
	bool overrides;           /* another address than the known one is to be believed (RFC 4861 4.4) */
	bool creates;             /* it spoke to us, so an entry is worth making */
};

/** Bring the entry up to date, if there is one or it is worth making. */
void bw_neigh_learn(struct bw_iface *iface, const struct bw_neigh_claim *claim);

/**
 * Where the kernel is the one that resolves: what it says of a neighbour, which is true until it says something else.
 * Only of those that were asked for.
 */
void bw_neigh_told(struct bw_iface *iface, const struct bw_ip *ip, const struct bw_mac *mac);
/** It may be somewhere else now: ask before it is used again. NULL: any of them, and the ways to them are void. */
void bw_neigh_doubt(struct bw_iface *iface, const struct bw_ip *ip);

/** The worker's wheel fired an entry's timer. */
void bw_neigh_timer(struct bw_worker *w, struct bw_neigh *n);

/** Tell the link where our addresses are, a few times. */
void bw_neigh_announce(struct bw_iface *iface);

/** Answer a question about an address of ours. */
struct bw_arp_fields;
struct bw_nd_fields;
void bw_neigh_answer_arp(struct bw_iface *iface, const struct bw_arp_fields *arp);
void bw_neigh_answer_nd(struct bw_iface *iface, const struct bw_nd_fields *nd, const struct bw_ip *asker);
