/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * The way in, in passes so that cache misses overlap: parse all while the next headers are fetched, sort by
 * kind, look all TCP packets up, then input each (the last two inside bw_tcp_input).
 *
 * A packet of a flow that another worker owns is handed over by ring. Which worker that is the device decides
 * where it spreads flows itself (RSS); elsewhere the symmetric flow hash does, so every device carries several
 * workers, also one with a single queue.
 */
#include <rte_prefetch.h>

#include <nic/capture.h>

#include "worker.h"

#define PREFETCH_AHEAD 4

/** How a packet came to this worker. */
enum source {
	FROM_DEVICE,
	FROM_DISPATCH, /* from another worker, by the flow's hash: ours */
	FROM_COPY,     /* from another worker, which gave one to everybody */
};

/** Packets on their way to other workers, collected over a burst. */
struct handover {
	struct rte_mbuf *pkts[BW_BURST_MAX];
	uint16_t owner[BW_BURST_MAX];
	unsigned count;
};

/**
 * Another worker parses the packet again, as of the same device, but need not sum again; and reassembly leaves no header
 * checksum.
 */
static void prepare_for_others(const struct bw_iface *iface, struct rte_mbuf *m)
{
	m->port = (uint16_t)iface->device->index;
	m->ol_flags &= ~(RTE_MBUF_F_RX_L4_CKSUM_MASK | RTE_MBUF_F_RX_IP_CKSUM_MASK);
	m->ol_flags |= RTE_MBUF_F_RX_L4_CKSUM_GOOD | RTE_MBUF_F_RX_IP_CKSUM_GOOD;
}

static void hand_over_add(
	const struct bw_iface *iface, struct handover *out, struct bw_pkt *pkt, unsigned owner)
{
	prepare_for_others(iface, pkt->m);
	out->pkts[out->count] = pkt->m;
	out->owner[out->count++] = (uint16_t)owner;
}

/** One enqueue for each owner, in the order of arrival. Returns how many they have taken. */
static unsigned hand_over(struct bw_worker *w, struct handover *out)
{
	unsigned total = 0;

	for (unsigned owner = 0; owner < w->worker_count; owner++) {
		struct bw_worker *to = &w->engine->workers[owner];
		struct rte_mbuf *pkts[BW_BURST_MAX];
		unsigned count = 0, taken;

		for (unsigned i = 0; i < out->count; i++)
			if (out->owner[i] == owner)
				pkts[count++] = out->pkts[i];
		if (count == 0)
			continue;
		taken = rte_ring_mp_enqueue_burst(to->packets_in, (void **)pkts, count, NULL);
		if (taken < count) {
			bw_count_n(&w->counters, BW_DROP_RING_FULL, count - taken);
			rte_pktmbuf_free_bulk(pkts + taken, count - taken);
		}
		total += taken;
		bw_power_wake(to);
	}
	return total;
}

/**
 * What one hears and others may need: neighbour discovery, since every worker has a cache of its own, and what
 * the device could not bring to the worker whose connection it is about.
 */
static void copy_to_others(const struct bw_iface *iface, struct rte_mbuf *m)
{
	struct bw_worker *w = iface->worker;

	prepare_for_others(iface, m);
	for (unsigned i = 0; i < w->worker_count; i++) {
		struct bw_worker *to = &w->engine->workers[i];
		struct rte_mbuf *copy;

		if (to == w)
			continue;
		copy = rte_pktmbuf_copy(m, w->pool, 0, UINT32_MAX);
		if (copy == NULL) {
			bw_count(&w->counters, BW_DROP_NO_MBUF);
			return;
		}
		if (rte_ring_mp_enqueue(to->control_in, copy) != 0) {
			bw_count(&w->counters, BW_DROP_RING_FULL);
			rte_pktmbuf_free(copy);
		} else {
			bw_power_wake(to);
		}
	}
}

bool bw_ingress_is_local(const void *worker, const struct bw_flow *flow)
{
	const struct bw_worker *w = worker;
	const struct bw_iface *iface = bw_worker_iface(w, &flow->local);

	return (iface->dispatches ? bw_worker_of_hash(w, bw_flow_hash(flow))
				  : bw_nic_rss_queue(iface->nic, flow)) == w->index;
}

static bool is_neighbour_discovery(const struct bw_pkt *pkt)
{
	uint8_t type = *rte_pktmbuf_mtod_offset(pkt->m, const uint8_t *, pkt->l4_off);

	return type == ND_NEIGHBOR_SOLICIT || type == ND_NEIGHBOR_ADVERT;
}

static void drop(struct bw_worker *w, struct bw_pkt *pkt, enum bw_counter why)
{
	bw_count(&w->counters, why);
	rte_pktmbuf_free(pkt->m);
}

/**
 * A TCP segment that a device with RSS brought in fragments: it spread them by address, since only the first
 * has the ports, and the connection may be any worker's. All get a copy, and who does not know the flow drops
 * it: an RST from a stranger would end a healthy connection. A new connection cannot begin this way.
 */
static bool sort_reassembled_segment(const struct bw_iface *iface, struct bw_pkt *pkt, enum source from)
{
	struct bw_worker *w = iface->worker;

	if (bw_tcp_knows(w->tcp, pkt))
		return true;
	if (from == FROM_DEVICE)
		copy_to_others(iface, pkt->m);
	drop(w, pkt, BW_DROP_FRAGMENT);
	return false;
}

/**
 * At addresses that the kernel has, too, it is the one that answers ARP, echo requests and neighbour solicitations, and
 * says what is not there. Few of these come here at all: those that a packet socket has taken before it had its filter.
 */
static bool may_be_ours(const struct bw_pkt *pkt)
{
	struct bw_icmp_quote quote;

	switch ((enum bw_pkt_kind)pkt->kind) {
	case BW_PKT_TCP:
	case BW_PKT_UDP:
	case BW_PKT_FRAGMENT:
	case BW_PKT_DROP:
		return true;
	case BW_PKT_ICMP4:
	case BW_PKT_ICMP6:
		return bw_icmp_quote_parse(pkt, &quote) == 0;
	case BW_PKT_ARP:
	case BW_PKT_BAD_PROTOCOL:
	case BW_PKT_BAD_HEADER:
		break;
	}
	return false;
}

/**
 * Where there are several devices: from an address of ours on another? Nobody here sends there by the wire, and an answer
 * would be answered, on and on, where a router lies between the two (RFC 1122 3.2.1.3).
 */
static bool is_from_another_of_ours(const struct bw_iface *iface, const struct bw_pkt *pkt)
{
	const struct bw_iface *whose;

	if (pkt->kind == BW_PKT_ARP || pkt->kind == BW_PKT_DROP)
		return false;
	whose = bw_worker_iface(iface->worker, &pkt->flow.remote);
	return whose != iface && bw_route_is_ours(whose->network, &pkt->flow.remote);
}

/** With several workers: what of ICMP others have to hear of. Returns whether it is another's alone. */
static bool share_icmp(const struct bw_iface *iface, struct bw_pkt *pkt, struct handover *out)
{
	const struct bw_worker *w = iface->worker;
	struct bw_icmp_quote quote;
	unsigned owner;

	if (pkt->kind == BW_PKT_ICMP6 && is_neighbour_discovery(pkt)) {
		copy_to_others(iface, pkt->m);
		return false;
	}
	if (bw_icmp_quote_parse(pkt, &quote) != 0 || quote.proto != IPPROTO_TCP)
		return false;
	/* About a connection: its owner's business, wherever the device put it. */
	if (!iface->dispatches) {
		copy_to_others(iface, pkt->m);
		return false;
	}
	owner = bw_worker_of_hash(w, bw_flow_hash(&quote.flow));
	if (owner != w->index)
		hand_over_add(iface, out, pkt, owner);
	return owner != w->index;
}

/**
 * Sort one parsed packet. Returns whether it is TCP for this worker, which the caller collects; everything
 * else is done with here.
 */
static bool sort(struct bw_iface *iface, struct bw_pkt *pkt, enum source from, struct handover *out)
{
	struct bw_worker *w = iface->worker;
	bool is_from_device = from == FROM_DEVICE;
	struct rte_mbuf *whole;

	if (bw_unlikely(iface->network->is_kernels) && !may_be_ours(pkt)) {
		drop(w, pkt, BW_DROP_NOT_OURS);
		return false;
	}
	if (bw_unlikely(w->iface_count > 1) && is_from_another_of_ours(iface, pkt)) {
		drop(w, pkt, BW_DROP_MARTIAN);
		return false;
	}
	switch ((enum bw_pkt_kind)pkt->kind) {
	case BW_PKT_TCP:
		if (bw_unlikely(from == FROM_COPY))
			return sort_reassembled_segment(iface, pkt, from);
		if (iface->dispatches && is_from_device) {
			unsigned owner = bw_worker_of_hash(w, pkt->hash);

			if (owner != w->index) {
				hand_over_add(iface, out, pkt, owner);
				return false;
			}
		}
		return true;
	case BW_PKT_UDP:
		bw_udp_input(iface, pkt);
		return false;
	case BW_PKT_ARP:
		if (is_from_device && w->worker_count > 1)
			copy_to_others(iface, pkt->m);
		bw_arp_input(iface, pkt, is_from_device);
		return false;
	case BW_PKT_ICMP4:
	case BW_PKT_ICMP6:
		if (!is_from_device || w->worker_count == 1 || !share_icmp(iface, pkt, out))
			bw_icmp_input(iface, pkt, is_from_device);
		return false;
	case BW_PKT_FRAGMENT:
		whole = bw_fragments_input(iface, pkt);
		if (whole == NULL)
			return false;
		/* Its l2_len is the first fragment's, not this one's. */
		bw_pkt_parse_ip(whole, &iface->host, whole->l2_len, pkt);
		if (pkt->kind == BW_PKT_FRAGMENT) { /* a fragment header inside a reassembled packet */
			drop(w, pkt, BW_DROP_FRAGMENT);
			return false;
		}
		if (pkt->kind == BW_PKT_TCP && w->worker_count > 1 && !iface->dispatches)
			return sort_reassembled_segment(iface, pkt, FROM_DEVICE);
		return sort(iface, pkt, FROM_DEVICE, out);
	case BW_PKT_BAD_PROTOCOL:
		bw_icmp_error(iface, pkt, BW_ICMP_PROTOCOL_UNREACHABLE);
		drop(w, pkt, BW_DROP_PROTOCOL);
		return false;
	case BW_PKT_BAD_HEADER:
		bw_icmp_error(iface, pkt, BW_ICMP_BAD_HEADER);
		break;
	case BW_PKT_DROP:
		break;
	}
	drop(w, pkt, pkt->drop);
	return false;
}

/** Returns whether the first of them is another worker's now, as it came. */
static bool ingress_burst(struct bw_iface *iface, struct rte_mbuf **mbufs, unsigned count, enum source from)
{
	struct bw_worker *w = iface->worker;
	struct bw_pkt pkts[BW_BURST_MAX];
	struct bw_pkt *tcp[BW_BURST_MAX];
	struct handover out = { .count = 0 };
	const struct rte_mbuf *first = mbufs[0];
	unsigned tcp_count = 0;
	bool is_first;

	BW_ASSERT_LE(count, BW_BURST_MAX);
	bw_stage_enter(&w->cycles, BW_STAGE_PARSE);
	for (unsigned i = 0; i < count && i < PREFETCH_AHEAD; i++)
		rte_prefetch0(rte_pktmbuf_mtod(mbufs[i], void *));
	for (unsigned i = 0; i < count; i++) {
		if (i + PREFETCH_AHEAD < count)
			rte_prefetch0(rte_pktmbuf_mtod(mbufs[i + PREFETCH_AHEAD], void *));
		bw_pkt_parse(mbufs[i], &iface->host, &pkts[i]);
	}
	if (bw_unlikely(w->flood != NULL))
		count = bw_flood_input(w, pkts, count);
	for (unsigned i = 0; i < count; i++)
		if (bw_likely(sort(iface, &pkts[i], from, &out)))
			tcp[tcp_count++] = &pkts[i];
	if (tcp_count > 0)
		bw_tcp_input(w->tcp, w->now, tcp, tcp_count); /* it tells its stages: stage_of_tcp() */
	bw_stage_enter(&w->cycles, BW_STAGE_INBOX);
	if (bw_likely(out.count == 0))
		return false;
	is_first = out.pkts[0] == first;
	return hand_over(w, &out) > 0 && is_first;
}

/** Where the kernel shares the port: how many of a burst are ours, which move up. The rest is its. */
static unsigned of_ours(struct bw_iface *iface, struct rte_mbuf **mbufs, unsigned count, enum source from)
{
	return bw_unlikely(iface->claims != NULL) && from == FROM_DEVICE
		       ? bw_exception_sort(iface, mbufs, count)
		       : count;
}

/**
 * The same while somebody looks: one packet at a time, so that what is counted meanwhile is about this one. A packet that
 * is handed over is shown by who gets it, and a copy not at all.
 */
static void ingress_captured(
	struct bw_iface *iface, struct rte_mbuf **mbufs, unsigned count, enum source from)
{
	struct bw_worker *w = iface->worker;

	for (unsigned i = 0; i < count; i++) {
		const struct bw_capture_mark mark = bw_capture_mark(w->capture);
		struct bw_drops before;

		if (from != FROM_COPY)
			bw_capture_put(w->capture, BW_CAPTURE_IN, iface->device->index, mbufs[i]);
		bw_drops_read(w, &before);
		if (ingress_burst(iface, &mbufs[i], of_ours(iface, &mbufs[i], 1, from), from))
			bw_capture_take_back(w->capture, mark);
		else
			bw_capture_reason(w->capture, mark, bw_drops_since(w, &before));
	}
	bw_capture_publish(w->capture);
}

static void ingress(struct bw_iface *iface, struct rte_mbuf **mbufs, unsigned count, enum source from)
{
	if (bw_unlikely(iface->worker->capture != NULL))
		ingress_captured(iface, mbufs, count, from);
	else
		ingress_burst(iface, mbufs, of_ours(iface, mbufs, count, from), from);
}

static unsigned ingress_device(struct bw_iface *iface)
{
	struct bw_worker *w = iface->worker;
	struct rte_mbuf *mbufs[BW_BURST_MAX];
	unsigned count;
	uint64_t bytes = 0;

	if (!iface->has_own_rx)
		return 0;
	count = bw_nic_rx(iface->nic, iface->rx_queue, mbufs, BW_BURST_MAX);
	if (count == 0)
		return 0;
	for (unsigned i = 0; i < count; i++)
		bytes += rte_pktmbuf_pkt_len(mbufs[i]);
	bw_count_n(&w->counters, BW_RX_PACKETS, count);
	bw_count_n(&w->counters, BW_RX_BYTES, bytes);
	ingress(iface, mbufs, count, FROM_DEVICE);
	return count;
}

unsigned bw_ingress_devices(struct bw_worker *w)
{
	unsigned total = 0;

	for (unsigned i = 0; i < w->iface_count; i++)
		total += ingress_device(&w->ifaces[i]);
	return total;
}

/** What other workers have received, in runs of one device's. */
static unsigned take_in(struct bw_worker *w, struct rte_ring *ring, enum source from)
{
	struct rte_mbuf *mbufs[BW_BURST_MAX];
	unsigned count = rte_ring_sc_dequeue_burst(ring, (void **)mbufs, BW_BURST_MAX, NULL);

	for (unsigned first = 0, end; first < count; first = end) {
		const uint16_t port = mbufs[first]->port;

		for (end = first + 1; end < count && mbufs[end]->port == port; end++)
			;
		ingress(&w->ifaces[port], &mbufs[first], end - first, from);
	}
	return count;
}

unsigned bw_ingress_inbox(struct bw_worker *w)
{
	unsigned total;

	if (w->worker_count == 1)
		return 0;
	total = take_in(w, w->packets_in, FROM_DISPATCH);
	total += take_in(w, w->control_in, FROM_COPY);
	/* Packets that others built for our device queue. What does not fit stays in the ring: their back-pressure. */
	for (unsigned i = 0; i < w->iface_count; i++) {
		struct bw_iface *iface = &w->ifaces[i];
		const unsigned room =
			iface->tx_count < iface->tx_bound ? iface->tx_bound - iface->tx_count : 0;
		const unsigned count = rte_ring_sc_dequeue_burst(
			iface->tx_in, (void **)(iface->tx + iface->tx_count), BW_MIN(room, 256u), NULL);

		iface->tx_count += count;
		total += count;
	}
	return total;
}
