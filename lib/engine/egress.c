/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * The way out: TCP's ready connections become packets, packets get their IP and Ethernet headers, and leave
 * in one burst a queue, each by the device that has its source address. What the device does not take stays in
 * order and goes first next turn; TCP is asked for no more than there is room for, so its data waits in its send
 * queues, and that of other devices' connections does not.
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

void bw_egress_frame(struct bw_iface *iface, struct rte_mbuf *m)
{
	if (bw_unlikely(iface->tx_count >= BW_ARRAY_LEN(iface->tx))) {
		bw_count(&iface->worker->counters, BW_DROP_TX_BACKLOG);
		rte_pktmbuf_free(m);
		return;
	}
	iface->tx[iface->tx_count++] = m;
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
	struct bw_iface *iface, const struct bw_ip *next_hop, struct rte_mbuf *m, uint32_t *path)
{
	struct bw_worker *w = iface->worker;
	const bool is_suspect = path != NULL && *path == BW_TCP_PATH_SUSPECT;
	uint32_t found = is_suspect ? BW_TCP_PATH_SUSPECT : 0;
	const struct bw_neigh *n = NULL;
	const struct bw_mac *mac;

	if (!is_suspect && bw_ip_eq(next_hop, &iface->hop)) {
		found = iface->hop_path;
		n = bw_neigh_of_path(&w->neigh, found, w->now);
	}
	if (n != NULL) {
		mac = &n->mac;
	} else {
		mac = bw_neigh_resolve(iface, next_hop, m, &found);
		iface->hop = *next_hop;
		iface->hop_path = found;
	}
	if (path != NULL)
		*path = found;
	return mac;
}

static inline void put(
	struct bw_iface *iface, struct rte_mbuf *m, const struct bw_ip *dst, const struct bw_mac *mac)
{
	bw_eth_prepend(m, &iface->host.mac, mac, bw_ip_is_v4(dst) ? RTE_ETHER_TYPE_IPV4 : RTE_ETHER_TYPE_IPV6,
		iface->host.vlan);
	bw_egress_frame(iface, m);
}

/** @path  where the way to the neighbour is kept, or NULL */
static void send_routed(struct bw_iface *iface, struct rte_mbuf *m, const struct bw_ip *dst, uint32_t *path)
{
	const struct bw_ip *next_hop = bw_route(iface->network, dst);
	const struct bw_mac *mac;

	if (next_hop == NULL) {
		bw_count(&iface->worker->counters, BW_DROP_NO_ROUTE);
		rte_pktmbuf_free(m);
		return;
	}
	mac = resolve(iface, next_hop, m, path);
	if (mac != NULL)
		put(iface, m, dst, mac);
}

void bw_egress_ip(struct bw_iface *iface, struct rte_mbuf *m, const struct bw_ip *dst)
{
	struct bw_mac group_mac;

	if (!bw_ip_is_multicast(dst)) {
		send_routed(iface, m, dst, NULL);
		return;
	}
	group_mac = bw_mac_of_multicast(dst);
	put(iface, m, dst, &group_mac);
}

unsigned bw_egress_datagram_mtu(const struct bw_iface *iface, const struct bw_ip *dst)
{
	unsigned mtu = iface->nic->mtu;

	if (bw_ip_is_v4(dst) || bw_ip_is_multicast(dst) || bw_route_is_on_link(iface->network, dst))
		return mtu;
	return BW_MIN(mtu, (unsigned)BW_IP6_MTU_MIN);
}

void bw_egress_ip_fragmented(struct bw_iface *iface, struct rte_mbuf *m, const struct bw_ip *dst)
{
	struct bw_worker *w = iface->worker;
	uint16_t mtu = (uint16_t)bw_egress_datagram_mtu(iface, dst);
	struct rte_mbuf *fragments[128]; /* 65,535 bytes in pieces of 552 */
	bool is_v4 = bw_ip_is_v4(dst);
	int count;

	if (rte_pktmbuf_pkt_len(m) <= mtu) {
		bw_egress_ip(iface, m, dst);
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
		bw_egress_ip(iface, fragment, dst);
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
	const struct bw_neigh *n =
		packet->path != NULL ? bw_neigh_of_path(&w->neigh, *packet->path, w->now) : NULL;

	bw_ip_prepend(packet->m, &ip);
	if (bw_likely(n != NULL))
		put(n->iface, packet->m, &packet->flow.remote, &n->mac);
	else
		send_routed(bw_worker_iface(w, &packet->flow.local), packet->m, &packet->flow.remote,
			packet->path);
}

/** May TCP be asked for more? Where there are several devices, for those that have room: it looks at `is_full`. */
static bool has_room(struct bw_worker *w)
{
	bool has_one = false;

	for (unsigned i = 0; i < w->iface_count; i++) {
		struct bw_iface *iface = &w->ifaces[i];

		iface->link.is_full = iface->tx_count >= iface->tx_bound;
		has_one |= !iface->link.is_full;
	}
	return has_one;
}

unsigned bw_egress(struct bw_worker *w)
{
	struct bw_tcp_packet packets[BW_BURST_MAX];
	unsigned total = 0, count;

	/*
	 * Full bursts go to the device at once rather than at the end: it can start, and a large response does
	 * not wait for the last connection's turn.
	 */
	while (has_room(w)) {
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
static unsigned offer(struct bw_iface *iface, struct rte_mbuf **pkts, unsigned count)
{
	struct bw_worker *w = iface->worker, *owner;
	unsigned taken;

	if (bw_likely(iface->has_own_tx))
		return bw_nic_tx(iface->nic, iface->tx_queue, pkts, (uint16_t)count, &w->counters);
	owner = &w->engine->workers[iface->tx_queue];
	taken = rte_ring_mp_enqueue_burst(
		owner->ifaces[iface->device->index].tx_in, (void **)pkts, count, NULL);
	if (taken > 0)
		bw_power_wake(owner);
	return taken;
}

/** The device left packets behind. Wait for it, but not for ever; and while this worker did not run, nobody has. */
static void keep_backlog(struct bw_iface *iface, unsigned sent)
{
	struct bw_counters *counters = &iface->worker->counters;
	bw_ns now = iface->worker->now;

	if (sent > 0 || iface->tx_stuck_at == 0)
		iface->tx_stuck_at = now;
	else if (now - iface->tx_offered_at > CROWD_NS)
		iface->tx_stuck_at += now - iface->tx_offered_at;
	iface->tx_offered_at = now;
	if (now - iface->tx_stuck_at > CROWD_NS)
		__atomic_store_n(&iface->is_tx_stuck, true, __ATOMIC_RELAXED);
	if (now - iface->tx_stuck_at > PATIENCE_NS) {
		bw_count_n(counters, BW_DROP_TX_BACKLOG, iface->tx_count);
		rte_pktmbuf_free_bulk(iface->tx, iface->tx_count);
		iface->tx_count = 0;
		iface->tx_stuck_at = 0;
		return;
	}
	bw_count_n(counters, BW_TX_DEFERRED, iface->tx_count);
	memmove(iface->tx, iface->tx + sent, iface->tx_count * sizeof(iface->tx[0]));
}

/** Offer up to a burst, and count what was taken. */
static unsigned offer_counted(struct bw_iface *iface, struct rte_mbuf **pkts, unsigned count)
{
	uint64_t bytes = 0;
	unsigned taken;

	for (unsigned i = 0; i < count; i++)
		bytes += rte_pktmbuf_pkt_len(pkts[i]);
	taken = offer(iface, pkts, count);
	for (unsigned i = taken; i < count; i++)
		bytes -= rte_pktmbuf_pkt_len(pkts[i]);
	if (iface->has_own_tx) { /* else the worker that hands them to the device counts them */
		bw_count_n(&iface->worker->counters, BW_TX_PACKETS, taken);
		bw_count_n(&iface->worker->counters, BW_TX_BYTES, bytes);
	}
	return taken;
}

unsigned bw_egress_offer(struct bw_iface *iface, struct rte_mbuf **pkts, unsigned count)
{
	return iface->tx_count == 0 ? offer_counted(iface, pkts, count) : 0;
}

static unsigned flush(struct bw_iface *iface)
{
	unsigned sent = 0, count;

	while (sent < iface->tx_count) {
		unsigned burst = BW_MIN(iface->tx_count - sent, 256u);

		count = offer_counted(iface, &iface->tx[sent], burst);
		sent += count;
		if (count < burst)
			break;
	}
	iface->tx_count -= sent;
	if (sent > 0)
		__atomic_store_n(&iface->is_tx_stuck, false, __ATOMIC_RELAXED);
	if (bw_unlikely(iface->tx_count > 0))
		keep_backlog(iface, sent);
	else
		iface->tx_stuck_at = 0;
	return sent;
}

unsigned bw_egress_flush(struct bw_worker *w)
{
	unsigned sent = 0;

	for (unsigned i = 0; i < w->iface_count; i++)
		sent += flush(&w->ifaces[i]);
	return sent;
}
