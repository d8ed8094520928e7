/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * The way out: TCP's ready connections become packets, packets get their IP and Ethernet headers, and leave
 * in one burst a queue. What the device does not take stays in order and goes first next turn; TCP is asked
 * for no more than there is room for, so its data waits in its send queues.
 *
 * A device that takes nothing at all for a second is not slow but down: a memif that nobody has connected to, a
 * TAP that was set down. What waited for it would be stale when it comes back, so it is dropped, and TCP's
 * timers see to the rest.
 */
#include <rte_ether.h>
#include <rte_ip_frag.h>

#include "worker.h"

#define PATIENCE_NS BW_NS_PER_SEC
#define CROWD_NS    (100 * BW_NS_PER_MS)

void bw_egress_frame(struct bw_worker *w, struct rte_mbuf *m)
{
	if (bw_unlikely(w->tx_count >= BW_ARRAY_LEN(w->tx))) {
		bw_count(&w->counters, BW_DROP_TX_BACKLOG);
		rte_pktmbuf_free(m);
		return;
	}
	w->tx[w->tx_count++] = m;
}

struct rte_mbuf *bw_egress_alloc(struct bw_worker *w)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(w->pool);

	if (bw_unlikely(m == NULL))
		bw_count(&w->counters, BW_DROP_NO_MBUF);
	return m;
}

/** Mostly the next hop of the packet before: a client that opens many connections, or the router. */
static const struct bw_mac *resolve(
	struct bw_worker *w, const struct bw_ip *next_hop, struct rte_mbuf *m, uint32_t *path)
{
	const bool is_suspect = path != NULL && *path == BW_TCP_PATH_SUSPECT;
	uint32_t found = is_suspect ? BW_TCP_PATH_SUSPECT : 0;
	const struct bw_mac *mac = NULL;

	if (!is_suspect && bw_ip_eq(next_hop, &w->hop)) {
		found = w->hop_path;
		mac = bw_neigh_of_path(&w->neigh, found, w->now);
	}
	if (mac == NULL) {
		mac = bw_neigh_resolve(w, next_hop, m, &found);
		w->hop = *next_hop;
		w->hop_path = found;
	}
	if (path != NULL)
		*path = found;
	return mac;
}

void bw_egress_ip(struct bw_worker *w, struct rte_mbuf *m, const struct bw_ip *dst, uint32_t *path)
{
	const struct bw_mac *mac = path != NULL ? bw_neigh_of_path(&w->neigh, *path, w->now) : NULL;
	struct bw_mac group_mac;

	if (bw_unlikely(mac == NULL)) {
		if (bw_ip_is_multicast(dst)) {
			group_mac = bw_mac_of_multicast(dst);
			mac = &group_mac;
		} else {
			const struct bw_ip *next_hop = bw_route(w->network, dst);

			if (next_hop == NULL) {
				bw_count(&w->counters, BW_DROP_NO_ROUTE);
				rte_pktmbuf_free(m);
				return;
			}
			mac = resolve(w, next_hop, m, path);
			if (mac == NULL)
				return;
		}
	}
	bw_eth_prepend(m, &w->host.mac, mac, bw_ip_is_v4(dst) ? RTE_ETHER_TYPE_IPV4 : RTE_ETHER_TYPE_IPV6,
		w->host.vlan);
	bw_egress_frame(w, m);
}

unsigned bw_egress_datagram_mtu(const struct bw_worker *w, const struct bw_ip *dst)
{
	unsigned mtu = w->nic->mtu;

	if (bw_ip_is_v4(dst) || bw_ip_is_multicast(dst) || bw_route_is_on_link(w->network, dst))
		return mtu;
	return BW_MIN(mtu, (unsigned)BW_IP6_MTU_MIN);
}

void bw_egress_ip_fragmented(struct bw_worker *w, struct rte_mbuf *m, const struct bw_ip *dst)
{
	uint16_t mtu = (uint16_t)bw_egress_datagram_mtu(w, dst);
	struct rte_mbuf *fragments[128]; /* 65,535 bytes in pieces of 552 */
	bool is_v4 = bw_ip_is_v4(dst);
	int count;

	if (rte_pktmbuf_pkt_len(m) <= mtu) {
		bw_egress_ip(w, m, dst, NULL);
		return;
	}
	if (is_v4)
		count = rte_ipv4_fragment_packet(
			m, fragments, BW_ARRAY_LEN(fragments), mtu, w->pool, w->pool);
	else
		count = rte_ipv6_fragment_packet(
			m, fragments, BW_ARRAY_LEN(fragments), mtu, w->pool, w->pool);
	rte_pktmbuf_free(m); /* the fragments have their own references */
	if (count < 0) {
		bw_count(&w->counters, BW_DROP_NO_MBUF);
		return;
	}
	w->ip6_fragment_id++;
	for (int i = 0; i < count; i++) {
		struct rte_mbuf *fragment = fragments[i];

		if (is_v4) {
			struct rte_ipv4_hdr *ip = rte_pktmbuf_mtod(fragment, struct rte_ipv4_hdr *);

			ip->hdr_checksum = 0;
			ip->hdr_checksum = rte_ipv4_cksum(ip);
			fragment->l3_len = sizeof(*ip);
		} else {
			struct rte_ipv6_fragment_ext *ext = rte_pktmbuf_mtod_offset(
				fragment, struct rte_ipv6_fragment_ext *, sizeof(struct rte_ipv6_hdr));

			ext->id = w->ip6_fragment_id; /* the library leaves it the same for every packet */
			fragment->l3_len = sizeof(struct rte_ipv6_hdr) + sizeof(*ext);
		}
		fragment->ol_flags &= ~RTE_MBUF_F_TX_OFFLOAD_MASK;
		bw_count(&w->counters, BW_IP_FRAGMENTS_SENT);
		bw_egress_ip(w, fragment, dst, NULL);
	}
}

/** TCP's packet gets its IP header and goes to the neighbour that the connection remembers. */
static inline void send_tcp(struct bw_worker *w, struct bw_tcp_packet *packet)
{
	struct bw_ip_out ip = {
		.src = &packet->flow.local,
		.dst = &packet->flow.remote,
		.proto = IPPROTO_TCP,
		.ttl = w->ttl,
		.tos = packet->tos,
	};

	bw_ip_prepend(packet->m, &ip);
	bw_egress_ip(w, packet->m, &packet->flow.remote, packet->path);
}

unsigned bw_egress(struct bw_worker *w)
{
	struct bw_tcp_packet packets[BW_BURST_MAX];
	unsigned total = 0, count;

	/*
	 * Full bursts go to the device at once rather than at the end: it can start, and a large response does
	 * not wait for the last connection's turn.
	 */
	while (w->tx_count < w->tx_bound) {
		count = bw_tcp_output(w->tcp, w->now, packets, BW_BURST_MAX);
		for (unsigned i = 0; i < count; i++)
			send_tcp(w, &packets[i]);
		total += count;
		if (count < BW_BURST_MAX)
			break;
		bw_stage_enter(&w->cycles, BW_STAGE_TX);
		bw_egress_flush(w);
		bw_stage_enter(&w->cycles, BW_STAGE_EGRESS);
		if (total >= BW_TX_BACKLOG_MAX) /* let received packets have their turn */
			break;
	}
	return total;
}

/** Offer a burst to the device queue that this worker owns, or to the worker that owns one. */
static unsigned offer(struct bw_worker *w, struct rte_mbuf **pkts, unsigned count)
{
	struct bw_worker *owner;
	unsigned taken;

	if (bw_likely(w->has_own_tx))
		return bw_nic_tx(w->nic, w->tx_queue, pkts, (uint16_t)count, &w->counters);
	owner = &w->engine->workers[w->tx_queue];
	taken = rte_ring_mp_enqueue_burst(owner->tx_in, (void **)pkts, count, NULL);
	if (taken > 0)
		bw_power_wake(owner);
	return taken;
}

/** The device left packets behind. Wait for it, but not for ever; and while this worker did not run, nobody has. */
static void keep_backlog(struct bw_worker *w, unsigned sent)
{
	if (sent > 0 || w->tx_stuck_at == 0)
		w->tx_stuck_at = w->now;
	else if (w->now - w->tx_offered_at > CROWD_NS)
		w->tx_stuck_at += w->now - w->tx_offered_at;
	w->tx_offered_at = w->now;
	if (w->now - w->tx_stuck_at > CROWD_NS)
		__atomic_store_n(&w->is_tx_stuck, true, __ATOMIC_RELAXED);
	if (w->now - w->tx_stuck_at > PATIENCE_NS) {
		bw_count_n(&w->counters, BW_DROP_TX_BACKLOG, w->tx_count);
		rte_pktmbuf_free_bulk(w->tx, w->tx_count);
		w->tx_count = 0;
		w->tx_stuck_at = 0;
		return;
	}
	bw_count_n(&w->counters, BW_TX_DEFERRED, w->tx_count);
	memmove(w->tx, w->tx + sent, w->tx_count * sizeof(w->tx[0]));
}

/** Offer up to a burst, and count what was taken. */
static unsigned offer_counted(struct bw_worker *w, struct rte_mbuf **pkts, unsigned count)
{
	uint64_t bytes = 0;
	unsigned taken;

	for (unsigned i = 0; i < count; i++)
		bytes += rte_pktmbuf_pkt_len(pkts[i]);
	taken = offer(w, pkts, count);
	for (unsigned i = taken; i < count; i++)
		bytes -= rte_pktmbuf_pkt_len(pkts[i]);
	if (w->has_own_tx) { /* else the worker that hands them to the device counts them */
		bw_count_n(&w->counters, BW_TX_PACKETS, taken);
		bw_count_n(&w->counters, BW_TX_BYTES, bytes);
	}
	return taken;
}

unsigned bw_egress_offer(struct bw_worker *w, struct rte_mbuf **pkts, unsigned count)
{
	return w->tx_count == 0 ? offer_counted(w, pkts, count) : 0;
}

unsigned bw_egress_flush(struct bw_worker *w)
{
	unsigned sent = 0, count;

	while (sent < w->tx_count) {
		unsigned burst = BW_MIN(w->tx_count - sent, 256u);

		count = offer_counted(w, &w->tx[sent], burst);
		sent += count;
		if (count < burst)
			break;
	}
	w->tx_count -= sent;
	if (sent > 0)
		__atomic_store_n(&w->is_tx_stuck, false, __ATOMIC_RELAXED);
	if (bw_unlikely(w->tx_count > 0))
		keep_backlog(w, sent);
	else
		w->tx_stuck_at = 0;
	return sent;
}
