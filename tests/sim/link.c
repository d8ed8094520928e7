/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * What a link does to a packet, in the order in which a real path would: it is dark, or too narrow; the packet is
 * lost; it waits in a queue of bounded size before a line of limited rate; its bits are damaged; it takes its time,
 * may be overtaken, and may arrive twice.
 *
 * Damage is of the kinds that the protocols promise to notice, since a simulator that lets a byte go wrong
 * unnoticeably proves nothing: a burst of at most 15 bits, which the Internet checksum always detects, in what that
 * checksum covers. So neither in ARP (Ethernet's own check would catch it), nor in those fields of the IPv6 header
 * that say what follows, nor in two fragments of one datagram. A cut packet is shorter than its header says.
 */
#include <string.h>

#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <rte_ether.h>
#include <rte_ip.h>

#include <wire/build.h>

#include "sim.h"

#define L3                14
#define IP6_PROTECTED_END (L3 + 8)

static uint16_t ethertype_of(const struct sim_frame *f)
{
	return (uint16_t)(f->data[12] << 8 | f->data[13]);
}

/** Damage is noticed wherever it is from here on; 0: it would not be. */
static unsigned vulnerable_from(const struct sim_frame *f)
{
	if (f->bytes < L3 + 20)
		return 0;
	if (ethertype_of(f) == RTE_ETHER_TYPE_IPV4)
		/* a fragment but the first has no business with its datagram's checksum */
		return ((f->data[L3 + 6] << 8 | f->data[L3 + 7]) & 0x1fff) == 0 ? L3 : 0;
	if (ethertype_of(f) == RTE_ETHER_TYPE_IPV6)
		return f->data[L3 + 6] != IPPROTO_FRAGMENT ? IP6_PROTECTED_END : 0;
	return 0;
}

static void corrupt(struct sim_link *link, struct sim_frame *f)
{
	unsigned from = vulnerable_from(f), at, length;
	uint32_t pattern;

	if (from == 0 || f->bytes < from + 4u)
		return;
	at = (unsigned)sim_below(&sim.net, (f->bytes - from - 2u) * 8);
	length = 1 + (unsigned)sim_below(&sim.net, 15);
	pattern = 1 | (uint32_t)sim_below(&sim.net, 1u << (length - 1));
	for (unsigned bit = 0; bit < length; bit++)
		if (pattern >> bit & 1)
			f->data[from + (at + bit) / 8] ^= (uint8_t)(0x80 >> (at + bit) % 8);
	f->is_damaged = true;
	link->corrupted++;
}

static void cut(struct sim_link *link, struct sim_frame *f)
{
	unsigned l3_bytes = 0, bytes;

	if (ethertype_of(f) == RTE_ETHER_TYPE_IPV4)
		l3_bytes = (unsigned)(f->data[L3 + 2] << 8 | f->data[L3 + 3]);
	else if (ethertype_of(f) == RTE_ETHER_TYPE_IPV6)
		l3_bytes = 40u + (unsigned)(f->data[L3 + 4] << 8 | f->data[L3 + 5]);
	if (l3_bytes == 0)
		return;
	bytes = L3 + (unsigned)sim_below(&sim.net, l3_bytes);
	if (bytes >= f->bytes)
		return;
	f->bytes = (uint16_t)bytes;
	f->is_damaged = true;
	link->truncated++;
}

/** A router's word to the sender: RFC 1191 section 4, RFC 8201 and RFC 4443 section 3.2. */
static void tell_mtu(struct sim_link *link, const struct sim_frame *f, uint16_t mtu)
{
	struct sim_frame *reply = sim_frame_take();
	bool is_v4 = ethertype_of(f) == RTE_ETHER_TYPE_IPV4;
	unsigned l3_bytes = is_v4 ? 20 : 40;
	unsigned quoted = BW_MIN(f->bytes - (unsigned)L3, is_v4 ? 548u : 1232u);
	uint8_t *l3 = reply->data + L3, *icmp = l3 + l3_bytes;
	uint64_t sum = 0;
	uint16_t field;

	memset(reply->data, 0, L3 + l3_bytes + 8);
	reply->from = link->to;
	reply->to = link->from;
	reply->is_damaged = false;
	reply->bytes = (uint16_t)(L3 + l3_bytes + 8 + quoted);
	memcpy(reply->data, f->data + 6, 6);
	memcpy(reply->data + 6, f->data, 6);
	memcpy(reply->data + 12, f->data + 12, 2);
	memcpy(icmp + 8, f->data + L3, quoted);
	icmp[6] = (uint8_t)(mtu >> 8);
	icmp[7] = (uint8_t)mtu;
	if (is_v4) {
		struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)l3;

		icmp[0] = ICMP_DEST_UNREACH;
		icmp[1] = ICMP_FRAG_NEEDED;
		ip->version_ihl = 0x45;
		ip->total_length = rte_cpu_to_be_16((uint16_t)(reply->bytes - L3));
		ip->time_to_live = 64;
		ip->next_proto_id = IPPROTO_ICMP;
		ip->src_addr = rte_cpu_to_be_32(0x0a0000fe); /* 10.0.0.254, the router's */
		memcpy(&ip->dst_addr, f->data + L3 + 12, 4);
		ip->hdr_checksum = rte_ipv4_cksum(ip);
	} else {
		struct rte_ipv6_hdr *ip = (struct rte_ipv6_hdr *)l3;
		struct bw_ip src, dst;

		icmp[0] = 2; /* packet too big */
		ip->vtc_flow = rte_cpu_to_be_32(6u << 28);
		ip->payload_len = rte_cpu_to_be_16((uint16_t)(8 + quoted));
		ip->proto = IPPROTO_ICMPV6;
		ip->hop_limits = 64;
		memcpy(ip->src_addr, f->data + L3 + 8, 16);
		ip->src_addr[15] = 0xfe;
		memcpy(ip->dst_addr, f->data + L3 + 8, 16);
		memcpy(src.b, ip->src_addr, 16);
		memcpy(dst.b, ip->dst_addr, 16);
		sum = bw_sum_pseudo(&src, &dst, IPPROTO_ICMPV6, 8 + quoted);
	}
	field = (uint16_t)~bw_sum_fold(bw_sum(icmp, 8 + quoted, sum));
	memcpy(icmp + 2, &field, 2);
	sim_frame_arrives(sim.now + link->conf.delay_ns, reply);
}

static bool is_too_large(struct sim_link *link, const struct sim_frame *f)
{
	uint16_t mtu = link->mtu;
	bool is_v4 = ethertype_of(f) == RTE_ETHER_TYPE_IPV4;

	if (!is_v4)
		mtu = BW_MAX(mtu, (uint16_t)BW_IP6_MTU_MIN);
	if (f->bytes - (unsigned)L3 <= mtu)
		return false;
	link->too_large++;
	/* What may be fragmented is not: a datagram more or less is of no matter here. */
	if (link->tells_mtu && (!is_v4 || (f->data[L3 + 6] & 0x40)))
		tell_mtu(link, f, mtu);
	return true;
}

static bool is_lost(struct sim_link *link)
{
	const struct sim_link_conf *c = &link->conf;

	if (link->is_in_burst)
		link->is_in_burst = !sim_ppm(&sim.net, c->burst_end_ppm);
	else
		link->is_in_burst = sim_ppm(&sim.net, c->burst_ppm);
	return link->is_in_burst || sim_ppm(&sim.net, c->loss_ppm);
}

/** When the last bit has left; BW_NEVER: the queue was full. */
static bw_ns leaves_at(struct sim_link *link, unsigned bytes)
{
	const struct sim_link_conf *c = &link->conf;
	bw_ns begins = BW_MAX(sim.now, link->busy_until);

	if (c->rate_kbps == 0)
		return sim.now;
	/* 8 bits a byte, 10^6 ns a ms: a kbit/s is a bit a ms */
	if (c->queue_bytes != 0 &&
		(begins - sim.now) * c->rate_kbps / (8 * BW_NS_PER_MS) + bytes > c->queue_bytes) {
		link->lost_in_queue++;
		return BW_NEVER;
	}
	link->busy_until = begins + (bw_ns)bytes * 8 * BW_NS_PER_MS / c->rate_kbps;
	return link->busy_until;
}

static void fly(struct sim_link *link, struct sim_frame *f, bw_ns left_at)
{
	const struct sim_link_conf *c = &link->conf;
	bw_ns at = left_at + c->delay_ns + (c->jitter_ns != 0 ? sim_below(&sim.net, c->jitter_ns) : 0);

	at = BW_MAX(at, link->last_arrival);
	if (sim_ppm(&sim.net, c->reorder_ppm)) { /* others overtake this one */
		at += sim_below(&sim.net, c->reorder_ns);
		link->reordered++;
	} else {
		link->last_arrival = at;
	}
	sim_frame_arrives(at, f);
}

void sim_link_send(struct sim_link *link, struct sim_frame *f)
{
	const struct sim_link_conf *c = &link->conf;
	bw_ns left_at;

	f->from = link->from;
	f->to = link->to;
	f->is_damaged = false;
	if (link->is_dark || is_too_large(link, f) || is_lost(link)) {
		link->lost++;
		sim_frame_give(f);
		return;
	}
	left_at = leaves_at(link, f->bytes + 24u); /* with preamble, check sequence and gap */
	if (left_at == BW_NEVER) {
		sim_frame_give(f);
		return;
	}
	if (sim_ppm(&sim.net, c->duplicate_ppm)) {
		struct sim_frame *twin = sim_frame_take();

		memcpy(twin, f, offsetof(struct sim_frame, data) + f->bytes);
		link->duplicated++;
		fly(link, twin, left_at);
	}
	if (sim_ppm(&sim.net, c->corrupt_ppm))
		corrupt(link, f);
	else if (sim_ppm(&sim.net, c->truncate_ppm))
		cut(link, f);
	fly(link, f, left_at);
}

void sim_link_heal(struct sim_link *link)
{
	struct sim_link_conf *c = &link->conf;

	link->is_dark = link->is_in_burst = false;
	link->mtu = SIM_MTU;
	c->loss_ppm = c->burst_ppm = c->reorder_ppm = c->duplicate_ppm = c->corrupt_ppm = c->truncate_ppm = 0;
}
