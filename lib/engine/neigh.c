/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdlib.h>

#include <rte_arp.h>
#include <rte_ether.h>

#include <base/log.h>
#include <wire/packet.h>

#include "worker.h"

#define HASTY_MAX      10                   /* questions a second that are not on time, about one neighbour */
#define RETRANS_NS     BW_NS_PER_SEC        /* RFC 4861 section 10: RetransTimer */
#define SOLICITS_MAX   3                    /* MAX_MULTICAST_SOLICIT, MAX_UNICAST_SOLICIT */
#define REACHABLE_NS   (30 * BW_NS_PER_SEC) /* REACHABLE_TIME */
#define FAILED_NS      (5 * BW_NS_PER_SEC)  /* how long an unanswered question is not asked again */
#define STALE_NS       (600 * BW_NS_PER_SEC) /* unused for so long, an entry is let go */
#define EVICT_SAMPLE   8
#define ANNOUNCE_COUNT 3 /* RFC 5227 has two; one more for a link that was not up yet */
#define ANNOUNCE_NS    (2 * BW_NS_PER_SEC)

static const struct bw_mac mac_broadcast = { { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff } };

static uint16_t *bucket_of(struct bw_neigh_cache *cache, const struct bw_ip *ip)
{
	struct bw_flow key = { .remote = *ip }; /* the keyed hash, so that a peer cannot aim at one bucket */

	return &cache->bucket[bw_flow_hash(&key) & cache->bucket_mask];
}

static struct bw_neigh *find(struct bw_iface *iface, const struct bw_ip *ip)
{
	struct bw_neigh_cache *cache = &iface->worker->neigh;

	for (uint16_t i = *bucket_of(cache, ip); i != 0; i = cache->entry[i].chain_next)
		if (bw_ip_eq(&cache->entry[i].ip, ip) && cache->entry[i].iface == iface)
			return &cache->entry[i];
	return NULL;
}

static void drop_queued(struct bw_neigh_cache *cache, struct bw_neigh *n)
{
	rte_pktmbuf_free_bulk(n->queued, n->queued_count);
	cache->queued_total -= n->queued_count;
	n->queued_count = 0;
}

static void release(struct bw_worker *w, struct bw_neigh *n)
{
	struct bw_neigh_cache *cache = &w->neigh;
	uint16_t index = (uint16_t)(n - cache->entry);
	uint16_t *link = bucket_of(cache, &n->ip);

	while (*link != index)
		link = &cache->entry[*link].chain_next;
	*link = n->chain_next;
	drop_queued(cache, n);
	bw_timer_cancel(&w->wheel, &n->timer);
	n->state = BW_NEIGH_FREE;
	n->generation++; /* paths that remember the slot are void now */
	n->chain_next = cache->free_head;
	cache->free_head = index;
}

/** How willingly an entry is given up: unproven ones first, then the one used longest ago. */
static bool is_better_victim(const struct bw_neigh *a, const struct bw_neigh *b)
{
	bool a_proven = a->state == BW_NEIGH_REACHABLE, b_proven = b->state == BW_NEIGH_REACHABLE;

	return a_proven != b_proven ? b_proven : a->used_at < b->used_at;
}

static struct bw_neigh *create(struct bw_iface *iface, const struct bw_ip *ip)
{
	struct bw_worker *w = iface->worker;
	struct bw_neigh_cache *cache = &w->neigh;
	struct bw_neigh *n;
	uint16_t *bucket, index;

	if (cache->free_head == 0) {
		struct bw_neigh *victim = NULL;

		for (unsigned i = 0; i < EVICT_SAMPLE; i++) {
			struct bw_neigh *candidate = &cache->entry[1 + cache->clock_hand];

			cache->clock_hand = (uint16_t)((cache->clock_hand + 1) % cache->capacity);
			if (victim == NULL || is_better_victim(candidate, victim))
				victim = candidate;
		}
		bw_count_n(&w->counters, BW_DROP_NEIGH_QUEUE, victim->queued_count);
		release(w, victim);
	}
	index = cache->free_head;
	n = &cache->entry[index];
	cache->free_head = n->chain_next;
	bucket = bucket_of(cache, ip);
	n->iface = iface;
	n->ip = *ip;
	n->chain_next = *bucket;
	*bucket = index;
	n->probe_count = 0;
	n->is_disputed = false;
	n->hasty_at = 0;
	n->used_at = w->now;
	return n;
}

int bw_neigh_init(struct bw_neigh_cache *cache, uint32_t capacity, unsigned queued_max)
{
	unsigned buckets = 16;

	if (capacity == 0 || capacity > 65534)
		return -EINVAL;
	while (buckets < capacity && buckets < 32768)
		buckets *= 2;
	cache->entry = calloc(capacity + 1, sizeof(*cache->entry));
	cache->bucket = calloc(buckets, sizeof(*cache->bucket));
	if (cache->entry == NULL || cache->bucket == NULL) {
		bw_neigh_fini(cache);
		return -ENOMEM;
	}
	cache->capacity = (uint16_t)capacity;
	cache->queued_max = queued_max;
	cache->bucket_mask = (uint16_t)(buckets - 1);
	for (uint32_t i = 1; i <= capacity; i++) {
		bw_timer_init(&cache->entry[i].timer, BW_TIMER_NEIGH);
		cache->entry[i].chain_next = (uint16_t)(i == capacity ? 0 : i + 1);
	}
	cache->free_head = 1;
	return 0;
}

void bw_neigh_fini(struct bw_neigh_cache *cache)
{
	for (uint32_t i = 1; cache->entry != NULL && i <= cache->capacity; i++)
		drop_queued(cache, &cache->entry[i]);
	free(cache->entry);
	free(cache->bucket);
	cache->entry = NULL;
	cache->bucket = NULL;
}

/* ---- questions and announcements ------------------------------------------------------------------------ */

static void send_arp(struct bw_iface *iface, uint16_t opcode, const struct bw_ip *sender,
	const struct bw_mac *dst, const struct bw_mac *target_mac, const struct bw_ip *target)
{
	struct rte_mbuf *m = bw_egress_alloc(iface->worker);

	if (m == NULL)
		return;
	bw_arp_write(m, opcode, &iface->host.mac, sender, target_mac, target);
	bw_eth_prepend(m, &iface->host.mac, dst, RTE_ETHER_TYPE_ARP, iface->host.vlan);
	bw_egress_frame(iface, m);
}

static struct rte_mbuf *make_nd(struct bw_worker *w, const struct bw_nd_out *nd)
{
	struct rte_mbuf *m = bw_egress_alloc(w);

	if (m == NULL)
		return NULL;
	bw_nd_write(m, nd);
	/* RFC 4861 section 4.3: hop limit 255 proves that it comes from the link. */
	bw_ip_prepend(m,
		&(struct bw_ip_out){ .src = nd->src, .dst = nd->dst, .proto = IPPROTO_ICMPV6, .ttl = 255 });
	return m;
}

static void send_nd(struct bw_iface *iface, const struct bw_nd_out *nd, const struct bw_mac *dst_mac)
{
	struct rte_mbuf *m = make_nd(iface->worker, nd);

	if (m == NULL)
		return;
	bw_eth_prepend(m, &iface->host.mac, dst_mac, RTE_ETHER_TYPE_IPV6, iface->host.vlan);
	bw_egress_frame(iface, m);
}

/** Ask for an entry's address: everybody while INCOMPLETE, the last known address while PROBE, if it is beyond dispute. */
static void ask(struct bw_worker *w, struct bw_neigh *n)
{
	static const struct bw_mac mac_zero;
	struct bw_iface *iface = n->iface;
	const struct bw_ip *src = bw_route_source(iface->network, &n->ip);
	bool unicast = n->state == BW_NEIGH_PROBE && !n->is_disputed;

	n->probe_count++;
	bw_timer_arm(&w->wheel, &n->timer, w->now + RETRANS_NS);
	if (iface->network->is_kernels) {
		bw_share_ask(iface, &n->ip);
		return;
	}
	if (src == NULL)
		return;
	if (bw_ip_is_v4(&n->ip)) {
		bw_count(&w->counters, BW_ARP_REQUESTS);
		send_arp(iface, RTE_ARP_OP_REQUEST, src, unicast ? &n->mac : &mac_broadcast, &mac_zero,
			&n->ip);
	} else {
		struct bw_ip group = bw_ip6_solicited_node(&n->ip);
		struct bw_mac group_mac = bw_mac_of_multicast(&group);

		bw_count(&w->counters, BW_ND_SOLICITS);
		send_nd(iface,
			&(struct bw_nd_out){ .type = ND_NEIGHBOR_SOLICIT,
				.src = src,
				.dst = unicast ? &n->ip : &group,
				.target = &n->ip,
				.link_addr = &iface->host.mac },
			unicast ? &n->mac : &group_mac);
	}
}

/** Gratuitous ARP (RFC 5227 section 2.3) and unsolicited advertisements (RFC 4861 section 7.2.6). */
void bw_neigh_announce(struct bw_iface *iface)
{
	struct bw_worker *w = iface->worker;
	static const struct bw_mac mac_zero;
	struct bw_ip all_nodes = { .b = { 0xff, 0x02, [15] = 1 } };
	struct bw_mac all_nodes_mac = bw_mac_of_multicast(&all_nodes);

	if (iface->network->is_kernels)
		return;
	for (unsigned i = 0; i < iface->network->addr_count; i++) {
		const struct bw_ip *ip = &iface->network->addrs[i].ip;

		if (bw_ip_is_v4(ip)) {
			bw_count(&w->counters, BW_ARP_REQUESTS);
			send_arp(iface, RTE_ARP_OP_REQUEST, ip, &mac_broadcast, &mac_zero, ip);
		} else {
			bw_count(&w->counters, BW_ND_ADVERTS);
			send_nd(iface,
				&(struct bw_nd_out){ .type = ND_NEIGHBOR_ADVERT,
					.flags = BW_ND_OVERRIDE,
					.src = ip,
					.dst = &all_nodes,
					.target = ip,
					.link_addr = &iface->host.mac },
				&all_nodes_mac);
		}
	}
	if (++iface->announcements_sent < ANNOUNCE_COUNT)
		bw_timer_arm(&w->wheel, &iface->announce_timer, w->now + ANNOUNCE_NS);
}

void bw_neigh_answer_arp(struct bw_iface *iface, const struct bw_arp_fields *arp)
{
	bw_count(&iface->worker->counters, BW_ARP_REPLIES);
	send_arp(iface, RTE_ARP_OP_REPLY, &arp->target, &arp->sender_mac, &arp->sender_mac, &arp->sender);
}

void bw_neigh_answer_nd(struct bw_iface *iface, const struct bw_nd_fields *nd, const struct bw_ip *asker)
{
	/* RFC 4861 section 7.2.4: a question from nobody (DAD) is answered to everybody, and not as solicited. */
	struct bw_ip all_nodes = { .b = { 0xff, 0x02, [15] = 1 } };
	bool is_dad = bw_ip_is_unspecified(asker);
	struct bw_mac all_nodes_mac = bw_mac_of_multicast(&all_nodes);
	struct bw_nd_out advert = {
		.type = ND_NEIGHBOR_ADVERT,
		.flags = is_dad ? BW_ND_OVERRIDE : BW_ND_OVERRIDE | BW_ND_SOLICITED,
		.src = &nd->target,
		.dst = is_dad ? &all_nodes : asker,
		.target = &nd->target,
		.link_addr = &iface->host.mac,
	};
	struct rte_mbuf *m;

	bw_count(&iface->worker->counters, BW_ND_ADVERTS);
	if (is_dad || nd->has_link_addr) {
		send_nd(iface, &advert, is_dad ? &all_nodes_mac : &nd->link_addr);
		return;
	}
	/* Section 4.3: whoever asks us alone may leave its address out; we have it, or ask in turn. */
	m = make_nd(iface->worker, &advert);
	if (m != NULL)
		bw_egress_ip(iface, m, asker);
}

/* ---- the state machine ---------------------------------------------------------------------------------- */

/** Two hosts that claim one address answer each question both, and each answer would be the next question. */
static bool may_ask_at_once(const struct bw_worker *w, struct bw_neigh *n)
{
	if (w->now - n->hasty_at >= BW_NS_PER_SEC) {
		n->hasty_at = w->now;
		n->hasty_count = 0;
	}
	return n->hasty_count < HASTY_MAX && ++n->hasty_count != 0;
}

/** Ask whether it is still there, while its address goes on being used. */
static void probe(struct bw_worker *w, struct bw_neigh *n)
{
	if (n->is_disputed && !may_ask_at_once(w, n))
		return;
	n->state = BW_NEIGH_PROBE;
	n->probe_count = 0;
	ask(w, n);
}

/** Some connections' peers behind a router are gone: that is no reason to ask the router more than once a second. */
static bool has_just_answered(const struct bw_worker *w, const struct bw_neigh *n)
{
	return n->timer.expires_at - w->now > REACHABLE_NS - RETRANS_NS;
}

const struct bw_mac *bw_neigh_resolve(
	struct bw_iface *iface, const struct bw_ip *next_hop, struct rte_mbuf *m, uint32_t *path)
{
	struct bw_worker *w = iface->worker;
	struct bw_neigh *n = find(iface, next_hop);
	bool is_suspect = path != NULL && *path == BW_TCP_PATH_SUSPECT;

	if (is_suspect)
		*path = 0;
	if (n == NULL) {
		n = create(iface, next_hop);
		n->state = BW_NEIGH_INCOMPLETE;
		ask(w, n);
	}
	n->used_at = w->now;
	switch ((enum bw_neigh_state)n->state) {
	case BW_NEIGH_STALE:
		/* RFC 4861 waits DELAY_FIRST_PROBE_TIME for a hint from above; one question costs less than the hint. */
		probe(w, n);
		return &n->mac;
	case BW_NEIGH_REACHABLE:
		if (is_suspect && !has_just_answered(w, n)) {
			probe(w, n); /* RFC 1122 section 3.3.1.4: advice from above */
			return &n->mac;
		}
		if (path != NULL)
			*path = (uint32_t)n->generation << 16 | (uint32_t)(n - w->neigh.entry);
		return &n->mac;
	case BW_NEIGH_PROBE:
		return &n->mac;
	case BW_NEIGH_INCOMPLETE:
		if (m == NULL)
			return NULL;
		if (n->queued_count < BW_NEIGH_QUEUE_MAX && w->neigh.queued_total < w->neigh.queued_max) {
			n->queued[n->queued_count++] = m;
			w->neigh.queued_total++;
			return NULL;
		}
		bw_count(&w->counters, BW_DROP_NEIGH_QUEUE);
		break;
	case BW_NEIGH_FAILED:
		if (m == NULL)
			return NULL;
		bw_count(&w->counters, BW_DROP_NEIGH_FAILED);
		break;
	case BW_NEIGH_FREE:
		BW_ASSERT(!"a free entry is in no chain");
	}
	rte_pktmbuf_free(m);
	return NULL;
}

/** The address is known: send what waited. */
static void flush_queued(struct bw_worker *w, struct bw_neigh *n)
{
	for (unsigned i = 0; i < n->queued_count; i++) {
		bw_eth_prepend(n->queued[i], &n->iface->host.mac, &n->mac,
			bw_ip_is_v4(&n->ip) ? RTE_ETHER_TYPE_IPV4 : RTE_ETHER_TYPE_IPV6, n->iface->host.vlan);
		bw_egress_frame(n->iface, n->queued[i]);
	}
	w->neigh.queued_total -= n->queued_count;
	n->queued_count = 0;
}

/** A usable address, confirmed or not, from now on. */
static void settle(struct bw_worker *w, struct bw_neigh *n, bool is_confirmed)
{
	n->probe_count = 0;
	n->is_disputed &= !is_confirmed;
	n->state = is_confirmed ? BW_NEIGH_REACHABLE : BW_NEIGH_STALE;
	bw_timer_arm(&w->wheel, &n->timer, w->now + (is_confirmed ? REACHABLE_NS : STALE_NS));
}

void bw_neigh_learn(struct bw_iface *iface, const struct bw_neigh_claim *claim)
{
	struct bw_worker *w = iface->worker;
	const struct bw_ip *ip = claim->ip;
	const struct bw_mac *mac = claim->mac;
	struct bw_neigh *n = find(iface, ip);
	bool has_address, is_asked, is_in_use, confirms;

	/* A group has no single owner, and an address of ours is not a neighbour's. */
	if ((mac != NULL && (mac->b[0] & 1) != 0) || bw_ip_is_unspecified(ip) ||
		!bw_route_is_on_link(iface->network, ip) || bw_route_is_ours(iface->network, ip))
		return;
	if (n == NULL) {
		if (!claim->creates || mac == NULL)
			return;
		n = create(iface, ip);
		n->mac = *mac;
		settle(w, n, false);
		return;
	}
	has_address = n->state != BW_NEIGH_INCOMPLETE && n->state != BW_NEIGH_FAILED;
	is_asked = n->state == BW_NEIGH_INCOMPLETE || n->state == BW_NEIGH_PROBE;
	is_in_use = n->state == BW_NEIGH_REACHABLE || n->state == BW_NEIGH_PROBE;
	/* An advertisement says that it answers. An ARP reply does not, so it takes an open question. */
	confirms = claim->is_answer && (is_asked || !bw_ip_is_v4(ip));
	if (has_address && (mac == NULL || memcmp(&n->mac, mac, sizeof(*mac)) == 0)) {
		/* Nothing new. What we did not ask for confirms nothing, and the paths stay good. */
		if (confirms)
			settle(w, n, true);
		return;
	}
	if (mac == NULL) /* nothing is known that it could confirm (RFC 4861 section 7.2.5) */
		return;
	if (has_address && !claim->overrides) {
		/* RFC 4861 section 7.2.5: not believed, but reason enough to ask when the entry is used next. */
		if (n->state == BW_NEIGH_REACHABLE)
			settle(w, n, false);
		return;
	}
	n->mac = *mac;
	n->is_disputed = has_address && !confirms;
	n->generation++; /* paths look the new address up */
	settle(w, n, confirms);
	if (n->is_disputed && is_in_use && may_ask_at_once(w, n)) {
		n->state = BW_NEIGH_PROBE;
		ask(w, n);
	}
	flush_queued(w, n);
}

void bw_neigh_told(struct bw_iface *iface, const struct bw_ip *ip, const struct bw_mac *mac)
{
	struct bw_worker *w = iface->worker;
	struct bw_neigh *n = find(iface, ip);

	if (n == NULL)
		return;
	if (memcmp(&n->mac, mac, sizeof(*mac)) != 0) {
		n->mac = *mac;
		n->generation++; /* paths look the new address up */
	}
	settle(w, n, true);
	flush_queued(w, n);
}

void bw_neigh_doubt(struct bw_iface *iface, const struct bw_ip *ip)
{
	struct bw_worker *w = iface->worker;
	struct bw_neigh_cache *cache = &w->neigh;
	struct bw_neigh *n;

	if (ip != NULL) {
		n = find(iface, ip);
		if (n != NULL && n->state == BW_NEIGH_REACHABLE)
			settle(w, n, false);
		return;
	}
	for (uint32_t i = 1; cache->entry != NULL && i <= cache->capacity; i++) {
		n = &cache->entry[i];
		if (n->iface != iface)
			continue;
		n->generation++; /* whoever remembers it asks for its route anew */
		if (n->state == BW_NEIGH_REACHABLE)
			settle(w, n, false);
	}
}

void bw_neigh_timer(struct bw_worker *w, struct bw_neigh *n)
{
	switch ((enum bw_neigh_state)n->state) {
	case BW_NEIGH_INCOMPLETE:
		if (n->probe_count < SOLICITS_MAX) {
			ask(w, n);
			break;
		}
		bw_count_n(&w->counters, BW_DROP_NEIGH_FAILED, n->queued_count);
		drop_queued(&w->neigh, n);
		n->state = BW_NEIGH_FAILED;
		bw_timer_arm(&w->wheel, &n->timer, w->now + FAILED_NS);
		break;
	case BW_NEIGH_PROBE:
		if (n->probe_count < SOLICITS_MAX)
			ask(w, n);
		else
			release(w, n); /* the next packet asks everybody */
		break;
	case BW_NEIGH_REACHABLE:
		n->state = BW_NEIGH_STALE;
		bw_timer_arm(&w->wheel, &n->timer, w->now + STALE_NS);
		break;
	case BW_NEIGH_STALE:
	case BW_NEIGH_FAILED:
		release(w, n);
		break;
	case BW_NEIGH_FREE:
		BW_ASSERT(!"a free entry has no timer");
	}
}
