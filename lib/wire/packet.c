/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The parse of a received packet, outermost header first. Each step checks the bounds of what it reads, fills
 * in its fields and goes on with the next; the first that is not content says why with drop() and that is the
 * end. The way of the common packet (ours, untagged, no IP options or extension headers, TCP with timestamps
 * or no options at all) is the straight one; what is rare has functions of its own off that way.
 *
 * Two lengths bound every read. `end` is where the IP packet ends by its own account, and what lies behind it
 * was cut off: a header that does not fit is malformed. The first segment's data_len is what can be read
 * without following the chain: a header that fits the packet but not the segment is a runt.
 */
#include <base/assert.h>
#include <wire/build.h>

#include "wire.h"

/* RFC 8504 section 5.3 lets a host limit the chain; what is seen in the wild has one or two short headers. */
#define EXTENSIONS_MAX      8
#define EXTENSION_BYTES_MAX 256

#define IP4_OPT_END           0
#define IP4_OPT_NOP           1
#define IP4_OPT_SOURCE_LOOSE  131
#define IP4_OPT_SOURCE_STRICT 137
#define IP4_ALL_HOSTS         0xe0000001u

#define IP6_OPT_PAD1         0
/* What to do when the option is unknown (RFC 8200 section 4.2). */
#define IP6_OPT_ACTION       0xc0
#define IP6_OPT_SKIP         0x00
#define IP6_OPT_TELL         0x80 /* also when it went to a group */
#define IP6_FRAGMENT_BYTES   8
#define IP6_FRAGMENT_OFFSET  0xfff8
#define IP6_FRAGMENT_MORE    1
#define IP6_EXTENSION_BYTES  8 /* the least, and the unit */
#define IP6_PROTO_FIELD_OFF  6
#define IP6_LENGTH_FIELD_OFF 4

#define VLAN_ID_MASK 0x0fff

/* An IPv6 source that is good for one message only. */
enum odd_source {
	SOURCE_USUAL,
	SOURCE_UNSPECIFIED, /* duplicate address detection: a solicitation (RFC 4862 section 5.4.2) */
	SOURCE_OURS,        /* another host defends an address of ours: an advertisement (section 5.4.4) */
};

/* What the steps hand on that is nothing to the reader of struct bw_pkt. */
struct parse {
	struct bw_pkt *pkt;
	const struct bw_wire_host *host;
	const uint8_t *data; /* the first segment's */
	unsigned end;        /* of the IP packet, from data */
	bool is_reassembled;
	bool was_fragmented; /* also if it came as a single fragment (RFC 6946) */
	bool is_group_frame; /* the frame was sent to a multicast or broadcast MAC */
	enum odd_source odd_source;
};

static bool drop(struct parse *p, enum bw_counter why)
{
	p->pkt->kind = BW_PKT_DROP;
	p->pkt->drop = (uint16_t)why;
	return false;
}

/*
 * May what the chain of extension headers from `off` on leads to be an ICMPv6 error? About errors there are no errors
 * (RFC 4443 section 2.4 (e.1)). What cannot be seen may be one.
 */
static bool may_be_icmp6_error(const struct parse *p, uint8_t proto, unsigned off)
{
	const unsigned end = BW_MIN(p->end, (unsigned)p->pkt->m->data_len);

	for (unsigned count = 0; count <= EXTENSIONS_MAX; count++) {
		const uint8_t *header = p->data + off;
		unsigned bytes;

		if (proto != IPPROTO_HOPOPTS && proto != IPPROTO_ROUTING && proto != IPPROTO_DSTOPTS &&
			proto != IPPROTO_FRAGMENT)
			return proto == IPPROTO_ICMPV6 && (off >= end || !(header[0] & ICMP6_INFOMSG_MASK));
		if (off + IP6_EXTENSION_BYTES > end)
			return true;
		bytes = proto == IPPROTO_FRAGMENT ? IP6_FRAGMENT_BYTES
						  : (header[1] + 1u) * IP6_EXTENSION_BYTES;
		proto = header[0];
		off += bytes;
	}
	return true;
}

/*
 * drop() with an answer: an ICMPv6 Parameter Problem that points at `off`. To a group there is none (RFC 4443 section
 * 2.4 (e.3)), unless the option itself asks for it.
 */
static bool problem(struct parse *p, enum bw_counter why, uint8_t code, unsigned off)
{
	struct bw_pkt *pkt = p->pkt;
	const uint8_t first = p->data[pkt->l3_off + IP6_PROTO_FIELD_OFF];

	if (p->odd_source != SOURCE_USUAL || (pkt->is_to_multicast && code != ICMP6_PARAMPROB_OPTION) ||
		may_be_icmp6_error(p, first, pkt->l3_off + BW_IP6_HEADER))
		return drop(p, why);
	pkt->kind = BW_PKT_BAD_HEADER;
	pkt->drop = (uint16_t)why;
	pkt->problem_code = code;
	pkt->problem_off = (uint16_t)off;
	return false;
}

/* Can `bytes` bytes at `off` be read, and are they the packet's? */
static bool holds(struct parse *p, unsigned off, unsigned bytes, enum bw_counter why_not)
{
	if (bw_unlikely(off + bytes > p->end))
		return drop(p, why_not);
	if (bw_unlikely(off + bytes > p->pkt->m->data_len))
		return drop(p, BW_DROP_RUNT);
	return true;
}

/* Cut off what is behind the IP packet: padding to Ethernet's least length, and trailers. */
static void trim(struct rte_mbuf *m, unsigned length)
{
	struct rte_mbuf *last = m;

	if (bw_likely(m->pkt_len == length))
		return;
	m->pkt_len = length;
	while (last->data_len < length && last->next != NULL) {
		length -= last->data_len;
		last = last->next;
	}
	last->data_len = (uint16_t)BW_MIN((unsigned)last->data_len, length);
	while (last->next != NULL) {
		struct rte_mbuf *beyond = last->next;

		last->next = beyond->next;
		rte_pktmbuf_free_seg(beyond);
		m->nb_segs--;
	}
}

/*
 * ------------------------------------------------------------------------------------------- TCP, UDP, ICMP
 */

static bool l4_sum_is_good(struct parse *p, unsigned l4_bytes, const uint8_t *field_at)
{
	const struct bw_pkt *pkt = p->pkt;
	const uint64_t flag = pkt->m->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK;
	uint64_t sum;
	uint16_t field;

	if (flag == RTE_MBUF_F_RX_L4_CKSUM_GOOD)
		return true;

	sum = bw_sum_pseudo(&pkt->flow.remote, &pkt->flow.local, pkt->ip_proto, l4_bytes);
	memcpy(&field, field_at, sizeof(field));
	if ((p->host->accepts_partial_checksum || flag == RTE_MBUF_F_RX_L4_CKSUM_NONE) &&
		field == bw_sum_fold(sum))
		return true;
	return bw_sum_fold(bw_sum_mbuf(pkt->m, pkt->l4_off, l4_bytes, sum)) == 0xffff;
}

static bool parse_tcp(struct parse *p)
{
	struct bw_pkt *pkt = p->pkt;
	const unsigned l4_bytes = p->end - pkt->l4_off;
	const uint8_t *header = p->data + pkt->l4_off;
	unsigned header_bytes;

	if (!holds(p, pkt->l4_off, BW_TCP_HEADER_MIN, BW_DROP_L4_HEADER))
		return false;
	header_bytes = (unsigned)(header[12] >> 4) * 4;
	if (bw_unlikely(header_bytes < BW_TCP_HEADER_MIN))
		return drop(p, BW_DROP_L4_HEADER);
	if (!holds(p, pkt->l4_off, header_bytes, BW_DROP_L4_HEADER))
		return false;
	if (bw_unlikely(!l4_sum_is_good(p, l4_bytes, header + 16)))
		return drop(p, BW_DROP_L4_CHECKSUM);

	bw_tcp_fields_parse(header, header_bytes, &pkt->tcp);
	memcpy(&pkt->flow.remote_port_be, header, 2);
	memcpy(&pkt->flow.local_port_be, header + 2, 2);
	pkt->hash = bw_flow_hash(&pkt->flow);
	pkt->payload_off = (uint16_t)(pkt->l4_off + header_bytes);
	pkt->payload_len = (uint16_t)(l4_bytes - header_bytes);
	pkt->kind = BW_PKT_TCP;
	return true;
}

static bool parse_udp(struct parse *p)
{
	struct bw_pkt *pkt = p->pkt;
	const uint8_t *header = p->data + pkt->l4_off;
	unsigned udp_bytes;
	bool has_sum;

	if (!holds(p, pkt->l4_off, BW_UDP_HEADER, BW_DROP_L4_HEADER))
		return false;
	/* RFC 768: the length counts the header. What IP has beyond it is not the datagram's (RFC 9868). */
	udp_bytes = bw_wire__load16(header + 4);
	if (bw_unlikely(udp_bytes < BW_UDP_HEADER || pkt->l4_off + udp_bytes > p->end))
		return drop(p, BW_DROP_L4_HEADER);

	/* No checksum: the sender's choice in IPv4 (RFC 768), forbidden in IPv6 (RFC 8200 section 8.1). */
	has_sum = (header[6] | header[7]) != 0;
	if (bw_unlikely(has_sum ? !l4_sum_is_good(p, udp_bytes, header + 6) : pkt->ip_version == 6))
		return drop(p, BW_DROP_L4_CHECKSUM);

	memcpy(&pkt->flow.remote_port_be, header, 2);
	memcpy(&pkt->flow.local_port_be, header + 2, 2);
	pkt->hash = bw_flow_hash(&pkt->flow);
	pkt->payload_off = (uint16_t)(pkt->l4_off + BW_UDP_HEADER);
	pkt->payload_len = (uint16_t)(udp_bytes - BW_UDP_HEADER);
	pkt->kind = BW_PKT_UDP;
	return true;
}

static bool source_is_in_order(const struct parse *p, uint8_t icmp6_type)
{
	switch (p->odd_source) {
	case SOURCE_USUAL:
		return true;
	case SOURCE_UNSPECIFIED:
		return icmp6_type == ND_NEIGHBOR_SOLICIT;
	case SOURCE_OURS:
		return icmp6_type == ND_NEIGHBOR_ADVERT;
	}
	return false;
}

/* Devices' flags say nothing dependable of ICMP, so it is always summed here. */
static bool parse_icmp(struct parse *p)
{
	struct bw_pkt *pkt = p->pkt;
	const unsigned l4_bytes = p->end - pkt->l4_off;
	const bool is_v4 = pkt->ip_version == 4;
	uint64_t sum = 0;

	if (!holds(p, pkt->l4_off, BW_ICMP_HEADER, BW_DROP_L4_HEADER))
		return false;
	if (!is_v4)
		sum = bw_sum_pseudo(&pkt->flow.remote, &pkt->flow.local, IPPROTO_ICMPV6, l4_bytes);
	if (bw_sum_fold(bw_sum_mbuf(pkt->m, pkt->l4_off, l4_bytes, sum)) != 0xffff)
		return drop(p, BW_DROP_L4_CHECKSUM);
	if (!source_is_in_order(p, p->data[pkt->l4_off]))
		return drop(p, BW_DROP_MARTIAN);
	/* RFC 6980 section 5: filters on the way see through no fragments, so neighbour discovery has none. */
	if (bw_unlikely(p->was_fragmented) && !is_v4 && p->data[pkt->l4_off] >= ND_ROUTER_SOLICIT &&
		p->data[pkt->l4_off] <= ND_REDIRECT)
		return drop(p, BW_DROP_ND);

	pkt->payload_off = pkt->l4_off;
	pkt->payload_len = (uint16_t)l4_bytes;
	pkt->kind = is_v4 ? BW_PKT_ICMP4 : BW_PKT_ICMP6;
	return true;
}

/* TCP is between two hosts (RFC 1122 section 4.2.3.10), and no service here listens to a group. */
static bool may_go_to_group(struct parse *p, uint8_t proto)
{
	if (proto == IPPROTO_TCP)
		return drop(p, BW_DROP_MARTIAN);
	if (proto == IPPROTO_UDP)
		return drop(p, BW_DROP_NOT_FOR_US_IP);
	return true;
}

static bool parse_l4(struct parse *p, unsigned l4_off)
{
	struct bw_pkt *pkt = p->pkt;
	const uint8_t proto = pkt->ip_proto;

	pkt->l4_off = (uint16_t)l4_off;
	if (bw_unlikely(pkt->is_to_multicast) && !may_go_to_group(p, proto))
		return false;
	if (bw_unlikely(p->odd_source != SOURCE_USUAL) && proto != IPPROTO_ICMPV6)
		return drop(p, BW_DROP_MARTIAN);

	if (bw_likely(proto == IPPROTO_TCP))
		return parse_tcp(p);
	if (proto == IPPROTO_UDP)
		return parse_udp(p);
	if (proto == (pkt->ip_version == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6))
		return parse_icmp(p);
	if (pkt->ip_version == 6 && proto == IPPROTO_NONE) /* RFC 8200 section 4.7: nothing, and no error */
		return drop(p, BW_DROP_PROTOCOL);

	pkt->payload_off = (uint16_t)l4_off;
	pkt->payload_len = (uint16_t)(p->end - l4_off);
	pkt->kind = BW_PKT_BAD_PROTOCOL;
	return true;
}

/*
 * A first fragment has all headers up to and with the upper protocol's: RFC 7112 for IPv6, and for IPv4 what
 * RFC 1858 wants, as a filter on the way saw only this. Nor would the parse of the whole find them in one
 * piece.
 */
static bool first_fragment_has_headers(struct parse *p, unsigned l4_off, uint8_t proto)
{
	unsigned bytes = 0;

	if (proto == IPPROTO_TCP) {
		if (!holds(p, l4_off, BW_TCP_HEADER_MIN, BW_DROP_FRAGMENT))
			return false;
		bytes = (unsigned)(p->data[l4_off + 12] >> 4) * 4;
	} else if (proto == IPPROTO_UDP) {
		bytes = BW_UDP_HEADER;
	} else if (proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6) {
		bytes = BW_ICMP_HEADER;
	}
	return holds(p, l4_off, bytes, BW_DROP_FRAGMENT);
}

/* -------------------------------------------------------------------------------------------------- IPv4 */

static uint32_t ip4_broadcast_of(const struct bw_cidr *cidr)
{
	const uint32_t ip = rte_be_to_cpu_32(bw_ip_v4_be(&cidr->ip));

	/*
	 * RFC 3021: a /31 has none, nor has a /32. Its own address stands for it, which is looked at first.
	 */
	return cidr->prefix_len < 31 ? ip | UINT32_MAX >> cidr->prefix_len : ip;
}

static bool is_in_range(const struct parse *p)
{
	return p->host->range != NULL && bw_cidr_contains(p->host->range, &p->pkt->flow.local);
}

/* RFC 1122 section 3.2.1.3: who may send, and whom we are. */
static bool admit_ip4(struct parse *p)
{
	struct bw_pkt *pkt = p->pkt;
	const uint32_t src = rte_be_to_cpu_32(bw_ip_v4_be(&pkt->flow.remote));
	const uint32_t dst = rte_be_to_cpu_32(bw_ip_v4_be(&pkt->flow.local));
	bool is_ours = false;

	pkt->is_to_multicast = dst == UINT32_MAX || dst == IP4_ALL_HOSTS;
	for (unsigned i = 0; i < p->host->addr_count; i++) {
		const struct bw_cidr *cidr = &p->host->addrs[i];

		if (!bw_ip_is_v4(&cidr->ip))
			continue;

		const uint32_t ip = rte_be_to_cpu_32(bw_ip_v4_be(&cidr->ip));
		const uint32_t broadcast = ip4_broadcast_of(cidr);

		if (bw_unlikely(src == ip || src == broadcast))
			return drop(p, BW_DROP_MARTIAN);
		is_ours |= dst == ip;
		pkt->is_to_multicast |= dst == broadcast && dst != ip;
	}

	if (bw_unlikely(src >> 24 == 0 || src >> 24 == 127 || src >> 28 == 0xe || src == UINT32_MAX))
		return drop(p, BW_DROP_MARTIAN);
	if (bw_unlikely(!is_ours && !pkt->is_to_multicast && !is_in_range(p))) {
		const bool is_impossible = dst >> 24 == 0 || dst >> 24 == 127;

		return drop(p, is_impossible ? BW_DROP_MARTIAN : BW_DROP_NOT_FOR_US_IP);
	}
	if (bw_unlikely(p->is_group_frame && !pkt->is_to_multicast))
		return drop(p, BW_DROP_MARTIAN);
	return true;
}

/* Nothing in them is acted on, but a source route is not to be believed, and what is malformed is refused. */
static bool ip4_options_are_good(const uint8_t *options, unsigned bytes)
{
	unsigned at = 0;

	while (at < bytes) {
		const uint8_t kind = options[at];

		if (kind == IP4_OPT_END)
			return true;
		if (kind == IP4_OPT_NOP) {
			at++;
			continue;
		}
		if (kind == IP4_OPT_SOURCE_LOOSE || kind == IP4_OPT_SOURCE_STRICT)
			return false;
		if (bytes - at < 2 || options[at + 1] < 2 || options[at + 1] > bytes - at)
			return false;
		at += options[at + 1];
	}
	return true;
}

static bool parse_fragment4(struct parse *p, unsigned l4_off, uint16_t flags_and_offset)
{
	struct bw_pkt *pkt = p->pkt;
	const unsigned header_bytes = l4_off - pkt->l3_off;
	const unsigned offset = (flags_and_offset & RTE_IPV4_HDR_OFFSET_MASK) * RTE_IPV4_HDR_OFFSET_UNITS;
	const unsigned bytes = p->end - l4_off;
	const bool has_more = (flags_and_offset & RTE_IPV4_HDR_MF_FLAG) != 0;

	if (bw_unlikely(pkt->is_to_multicast) && !may_go_to_group(p, pkt->ip_proto))
		return false;
	if (bytes == 0 || (has_more && bytes % RTE_IPV4_HDR_OFFSET_UNITS != 0))
		return drop(p, BW_DROP_FRAGMENT);
	if (header_bytes + offset + bytes > UINT16_MAX)
		return drop(p, BW_DROP_FRAGMENT);
	if (offset == 0 && !first_fragment_has_headers(p, l4_off, pkt->ip_proto))
		return false;
	/* RFC 3128: a second fragment that would write over the TCP flags of the first. */
	if (offset > 0 && offset < BW_TCP_HEADER_MIN && pkt->ip_proto == IPPROTO_TCP)
		return drop(p, BW_DROP_FRAGMENT);

	pkt->l4_off = pkt->payload_off = (uint16_t)l4_off;
	pkt->payload_len = (uint16_t)bytes;
	pkt->is_first_fragment = offset == 0;
	pkt->m->l2_len = pkt->l3_off;
	pkt->m->l3_len = header_bytes;
	pkt->kind = BW_PKT_FRAGMENT;
	return true;
}

static uint64_t sum_ip4_header(const uint8_t *header, unsigned bytes)
{
	return bw_likely(bytes == BW_IP4_HEADER) ? bw_sum_ip4_header(header) : bw_sum(header, bytes, 0);
}

static bool parse_ip4(struct parse *p)
{
	struct bw_pkt *pkt = p->pkt;
	struct rte_mbuf *m = pkt->m;
	const uint8_t *header = p->data + pkt->l3_off;
	unsigned header_bytes, total;
	uint16_t flags_and_offset;

	if (bw_unlikely(m->data_len < pkt->l3_off + BW_IP4_HEADER))
		return drop(p, BW_DROP_RUNT);
	pkt->ip_version = 4;
	header_bytes = (header[0] & 0x0fu) * 4;
	total = bw_wire__load16(header + 2);
	if (bw_unlikely(header[0] >> 4 != 4 || header_bytes < BW_IP4_HEADER || total < header_bytes))
		return drop(p, BW_DROP_IP_HEADER);
	if (bw_unlikely(m->data_len < pkt->l3_off + header_bytes || m->pkt_len < pkt->l3_off + total))
		return drop(p, BW_DROP_RUNT);
	if ((m->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK) != RTE_MBUF_F_RX_IP_CKSUM_GOOD &&
		!p->is_reassembled &&
		bw_unlikely(bw_sum_fold(sum_ip4_header(header, header_bytes)) != 0xffff))
		return drop(p, BW_DROP_IP_CHECKSUM);

	p->end = pkt->l3_off + total;
	pkt->l3_total_len = (uint16_t)total;
	pkt->tos = header[1];
	pkt->ttl = header[8];
	pkt->ip_proto = header[9];
	pkt->flow.remote = bw_wire__load_ip4(header + 12);
	pkt->flow.local = bw_wire__load_ip4(header + 16);
	if (!admit_ip4(p))
		return false;
	if (bw_unlikely(header_bytes > BW_IP4_HEADER) &&
		!ip4_options_are_good(header + BW_IP4_HEADER, header_bytes - BW_IP4_HEADER))
		return drop(p, BW_DROP_IP_OPTIONS);
	trim(m, p->end);

	flags_and_offset = bw_wire__load16(header + 6);
	if (bw_unlikely((flags_and_offset & (RTE_IPV4_HDR_MF_FLAG | RTE_IPV4_HDR_OFFSET_MASK)) != 0))
		return parse_fragment4(p, pkt->l3_off + header_bytes, flags_and_offset);
	return parse_l4(p, pkt->l3_off + header_bytes);
}

/* -------------------------------------------------------------------------------------------------- IPv6 */

static bool is_solicited_node_of(const struct bw_ip *group, const struct bw_ip *ip)
{
	return group->w_be[0] == RTE_BE32(0xff020000) && group->w_be[1] == 0 &&
	       group->w_be[2] == RTE_BE32(1) && (group->w_be[3] ^ (ip->w_be[3] | RTE_BE32(0xff000000))) == 0;
}

/* RFC 4291 sections 2.5 to 2.8: who may send, and whom we are. */
static bool admit_ip6(struct parse *p)
{
	static const struct bw_ip all_nodes = { .w_be = { RTE_BE32(0xff020000), 0, 0, RTE_BE32(1) } };
	struct bw_pkt *pkt = p->pkt;
	const struct bw_ip *src = &pkt->flow.remote, *dst = &pkt->flow.local;
	bool is_ours = false;

	/* On the wire the mapped form is a forgery, and in here it would pass for IPv4. */
	if (bw_unlikely(bw_ip_is_v4(src) || bw_ip_is_v4(dst)))
		return drop(p, BW_DROP_MARTIAN);
	if (bw_unlikely(src->b[0] == 0xff))
		return drop(p, BW_DROP_MARTIAN);
	if (bw_unlikely((src->w_be[0] | src->w_be[1] | src->w_be[2]) == 0)) {
		if (bw_ip_is_loopback(src))
			return drop(p, BW_DROP_MARTIAN);
		if (bw_ip_is_unspecified(src))
			p->odd_source = SOURCE_UNSPECIFIED;
	}

	pkt->is_to_multicast = bw_ip_eq(dst, &all_nodes);
	for (unsigned i = 0; i < p->host->addr_count; i++) {
		const struct bw_ip *ip = &p->host->addrs[i].ip;

		if (bw_ip_is_v4(ip))
			continue;
		is_ours |= bw_ip_eq(dst, ip);
		pkt->is_to_multicast |= is_solicited_node_of(dst, ip);
		if (bw_unlikely(bw_ip_eq(src, ip)))
			p->odd_source = SOURCE_OURS;
	}
	if (bw_unlikely(!is_ours && !pkt->is_to_multicast && !is_in_range(p))) {
		const bool is_impossible = bw_ip_is_unspecified(dst) || bw_ip_is_loopback(dst);

		return drop(p, is_impossible ? BW_DROP_MARTIAN : BW_DROP_NOT_FOR_US_IP);
	}
	if (bw_unlikely(p->is_group_frame && !pkt->is_to_multicast))
		return drop(p, BW_DROP_MARTIAN);
	return true;
}

/*
 * The options of a hop-by-hop or destination header. We know none: each is skipped or, if it asks for it,
 * fatal.
 */
static bool ip6_options_are_good(struct parse *p, unsigned off, unsigned bytes)
{
	const uint8_t *options = p->data + off;
	unsigned at = 0;

	while (at < bytes) {
		const uint8_t action = options[at] & IP6_OPT_ACTION;

		if (options[at] == IP6_OPT_PAD1) {
			at++;
			continue;
		}
		if (action == IP6_OPT_TELL || (action > IP6_OPT_TELL && !p->pkt->is_to_multicast))
			return problem(p, BW_DROP_IP_OPTIONS, ICMP6_PARAMPROB_OPTION, off + at);
		if (action != IP6_OPT_SKIP || bytes - at < 2 || options[at + 1] > bytes - at - 2)
			return drop(p, BW_DROP_IP_OPTIONS);
		at += 2u + options[at + 1];
	}
	return true;
}

/*
 * Take the extension headers between the IPv6 header and the fragment header out of the packet: they have
 * been looked at and bid us do nothing, and the library takes a fragment header for the first of the chain.
 */
static void cut_out_extensions(struct parse *p, unsigned bytes)
{
	struct bw_pkt *pkt = p->pkt;
	uint8_t *header;

	memmove(rte_pktmbuf_mtod_offset(pkt->m, uint8_t *, bytes), p->data, pkt->l3_off + BW_IP6_HEADER);
	rte_pktmbuf_adj(pkt->m, (uint16_t)bytes);
	p->data += bytes;
	p->end -= bytes;
	pkt->fragment_off -= (uint16_t)bytes;
	pkt->l3_total_len -= (uint16_t)bytes;

	header = rte_pktmbuf_mtod_offset(pkt->m, uint8_t *, pkt->l3_off);
	header[IP6_PROTO_FIELD_OFF] = IPPROTO_FRAGMENT;
	bw_wire__store16(header + IP6_LENGTH_FIELD_OFF, (uint16_t)(pkt->l3_total_len - BW_IP6_HEADER));
}

/* A fragment header was found, and if it is the first fragment's, everything up to l4_off behind it. */
static bool parse_fragment6(struct parse *p, unsigned l4_off)
{
	struct bw_pkt *pkt = p->pkt;
	const uint16_t offset_and_more = bw_wire__load16(p->data + pkt->fragment_off + 2);
	const unsigned offset = offset_and_more & IP6_FRAGMENT_OFFSET;
	const unsigned bytes = p->end - (pkt->fragment_off + IP6_FRAGMENT_BYTES);
	const unsigned before = pkt->fragment_off - (pkt->l3_off + BW_IP6_HEADER);

	if (p->odd_source != SOURCE_USUAL)
		return drop(p, BW_DROP_MARTIAN);
	if (bw_unlikely(pkt->is_to_multicast) && !may_go_to_group(p, pkt->ip_proto))
		return false;
	if (bytes == 0)
		return drop(p, BW_DROP_FRAGMENT);
	if ((offset_and_more & IP6_FRAGMENT_MORE) != 0 && bytes % 8 != 0)
		return problem(
			p, BW_DROP_FRAGMENT, ICMP6_PARAMPROB_HEADER, pkt->l3_off + IP6_LENGTH_FIELD_OFF);
	/* RFC 8200 has 65,535 for the payload alone; l3_total_len, and IPv4, have it for the whole packet. */
	if (BW_IP6_HEADER + offset + bytes > UINT16_MAX)
		return problem(p, BW_DROP_FRAGMENT, ICMP6_PARAMPROB_HEADER, pkt->fragment_off + 2u);
	if (offset == 0 && !first_fragment_has_headers(p, l4_off, pkt->ip_proto))
		return false;

	if (before != 0)
		cut_out_extensions(p, before);
	pkt->ip6_proto_field_off = pkt->fragment_off;
	pkt->ip_proto = p->data[pkt->fragment_off];
	pkt->l4_off = pkt->payload_off = (uint16_t)(pkt->fragment_off + IP6_FRAGMENT_BYTES);
	pkt->payload_len = (uint16_t)bytes;
	pkt->is_first_fragment = offset == 0;
	pkt->m->l2_len = pkt->l3_off;
	pkt->m->l3_len = BW_IP6_HEADER + IP6_FRAGMENT_BYTES;
	pkt->kind = BW_PKT_FRAGMENT;
	return true;
}

/*
 * Walk the extension headers (RFC 8200 section 4) from `off`, then parse what they lead to. A fragment header
 * is walked past when it is the first fragment's, to see that the rest of the chain is there.
 */
static bool parse_ip6_extensions(struct parse *p, unsigned off)
{
	struct bw_pkt *pkt = p->pkt;
	const unsigned start = off;
	bool is_fragment = false;

	for (unsigned count = 0;; count++) {
		const uint8_t type = pkt->ip_proto;
		const uint8_t *header = p->data + off;
		unsigned bytes = IP6_EXTENSION_BYTES;
		/*
		 * Whatever is wrong with a chain that a fragment begins, it is the fragment that is refused.
		 */
		const enum bw_counter why = is_fragment ? BW_DROP_FRAGMENT : BW_DROP_IP_OPTIONS;

		if (type != IPPROTO_HOPOPTS && type != IPPROTO_ROUTING && type != IPPROTO_DSTOPTS &&
			type != IPPROTO_FRAGMENT)
			break;
		if (count == EXTENSIONS_MAX)
			return drop(p, why);
		if (!holds(p, off, bytes, why))
			return false;

		if (type == IPPROTO_FRAGMENT) {
			const uint16_t offset_and_more = bw_wire__load16(header + 2);

			if (pkt->fragment_off != 0 || p->is_reassembled)
				return drop(p, BW_DROP_FRAGMENT);
			p->was_fragmented = true;
			pkt->fragment_off = (uint16_t)off;
			is_fragment = (offset_and_more & (IP6_FRAGMENT_OFFSET | IP6_FRAGMENT_MORE)) != 0;
			if ((offset_and_more & IP6_FRAGMENT_OFFSET) != 0) {
				pkt->ip_proto = header[0];
				return parse_fragment6(p, 0);
			}
		} else {
			bytes = (header[1] + 1u) * IP6_EXTENSION_BYTES;
			if (off + bytes - start > EXTENSION_BYTES_MAX)
				return drop(p, why);
			if (!holds(p, off, bytes, why))
				return false;
			if (type == IPPROTO_ROUTING) {
				/*
				 * No type is known (RFC 5095 is done with 0): ignored without segments left, else it
				 * wants a router (RFC 8200 section 4.4).
				 */
				if (header[3] != 0)
					return problem(
						p, BW_DROP_IP_OPTIONS, ICMP6_PARAMPROB_HEADER, off + 2);
			} else {
				/* Hop-by-hop options come first or not at all (RFC 8200 section 4.1). */
				if (type == IPPROTO_HOPOPTS && count != 0)
					return drop(p, BW_DROP_IP_OPTIONS);
				if (!ip6_options_are_good(p, off + 2, bytes - 2))
					return false;
			}
		}
		pkt->ip_proto = header[0];
		pkt->ip6_proto_field_off = (uint16_t)off;
		off += bytes;
	}
	if (is_fragment)
		return parse_fragment6(p, off);
	pkt->fragment_off = 0;
	return parse_l4(p, off);
}

static bool parse_ip6(struct parse *p)
{
	struct bw_pkt *pkt = p->pkt;
	struct rte_mbuf *m = pkt->m;
	const uint8_t *header = p->data + pkt->l3_off;
	const unsigned off = pkt->l3_off + BW_IP6_HEADER;
	unsigned total;

	if (bw_unlikely(m->data_len < off))
		return drop(p, BW_DROP_RUNT);
	pkt->ip_version = 6;
	total = BW_IP6_HEADER + bw_wire__load16(header + IP6_LENGTH_FIELD_OFF);
	/*
	 * Longer than l3_total_len can say: more than any device takes at once, and reassembly stops short of
	 * it.
	 */
	if (bw_unlikely(header[0] >> 4 != 6 || total > UINT16_MAX))
		return drop(p, BW_DROP_IP_HEADER);
	if (bw_unlikely(m->pkt_len < pkt->l3_off + total))
		return drop(p, BW_DROP_RUNT);

	p->end = pkt->l3_off + total;
	pkt->l3_total_len = (uint16_t)total;
	pkt->tos = (uint8_t)(header[0] << 4 | header[1] >> 4);
	pkt->ip_proto = header[IP6_PROTO_FIELD_OFF];
	pkt->ip6_proto_field_off = (uint16_t)(pkt->l3_off + IP6_PROTO_FIELD_OFF);
	pkt->ttl = header[7];
	pkt->flow.remote = bw_wire__load_ip6(header + 8);
	pkt->flow.local = bw_wire__load_ip6(header + 24);
	if (!admit_ip6(p))
		return false;
	trim(m, p->end);

	if (bw_likely(pkt->ip_proto == IPPROTO_TCP))
		return parse_l4(p, off);
	return parse_ip6_extensions(p, off);
}

/* ---------------------------------------------------------------------------------------------- Ethernet */

static bool parse_arp(struct parse *p)
{
	struct bw_pkt *pkt = p->pkt;
	const uint8_t *arp = p->data + pkt->l3_off;

	if (pkt->m->data_len < pkt->l3_off + BW_ARP_BYTES)
		return drop(p, BW_DROP_RUNT);
	/* RFC 826: hardware type Ethernet with addresses of 6 bytes, protocol IPv4 with addresses of 4. */
	if (bw_wire__load16(arp) != 1 || bw_wire__load16(arp + 2) != RTE_ETHER_TYPE_IPV4 || arp[4] != 6 ||
		arp[5] != 4)
		return drop(p, BW_DROP_ARP);
	trim(pkt->m, pkt->l3_off + BW_ARP_BYTES);
	pkt->l3_total_len = BW_ARP_BYTES;
	pkt->is_to_multicast = p->is_group_frame;
	pkt->kind = BW_PKT_ARP;
	return true;
}

static bool mac_is_group_of_ours(const uint8_t *mac, const struct bw_wire_host *host)
{
	static const uint8_t broadcast[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	static const uint8_t all_hosts[6] = { 0x01, 0x00, 0x5e, 0x00, 0x00, 0x01 }; /* RFC 1112 section 6.4 */
	static const uint8_t all_nodes[6] = { 0x33, 0x33, 0x00, 0x00, 0x00, 0x01 }; /* RFC 2464 section 7 */
	static const uint8_t solicited_node[3] = { 0x33, 0x33, 0xff };

	if (memcmp(mac, broadcast, 6) == 0 || memcmp(mac, all_hosts, 6) == 0 ||
		memcmp(mac, all_nodes, 6) == 0)
		return true;
	if (memcmp(mac, solicited_node, 3) != 0)
		return false;
	for (unsigned i = 0; i < host->addr_count; i++) {
		const struct bw_ip *ip = &host->addrs[i].ip;

		if (!bw_ip_is_v4(ip) && memcmp(mac + 3, ip->b + 13, 3) == 0)
			return true;
	}
	return false;
}

/*
 * The VLAN that the frame belongs to, tag in the frame or taken off by the device; 0 for none or priority
 * only.
 */
static bool parse_vlan(struct parse *p, uint16_t *ethertype)
{
	struct bw_pkt *pkt = p->pkt;
	uint16_t vlan = 0;

	if ((pkt->m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0) {
		vlan = pkt->m->vlan_tci & VLAN_ID_MASK;
	} else if (*ethertype == RTE_ETHER_TYPE_VLAN) {
		if (pkt->m->data_len < pkt->l3_off + RTE_VLAN_HLEN)
			return drop(p, BW_DROP_RUNT);
		vlan = bw_wire__load16(p->data + pkt->l3_off) & VLAN_ID_MASK;
		*ethertype = bw_wire__load16(p->data + pkt->l3_off + 2);
		pkt->l3_off += RTE_VLAN_HLEN;
	}
	if (vlan != p->host->vlan)
		return drop(p, BW_DROP_VLAN);
	return true;
}

void bw_pkt_parse(struct rte_mbuf *m, const struct bw_wire_host *host, struct bw_pkt *pkt)
{
	struct parse p = { .pkt = pkt, .host = host, .data = rte_pktmbuf_mtod(m, const uint8_t *) };
	uint16_t ethertype;

	*pkt = (struct bw_pkt){ .m = m, .l3_off = RTE_ETHER_HDR_LEN };
	if (bw_unlikely(m->data_len < RTE_ETHER_HDR_LEN)) {
		drop(&p, BW_DROP_RUNT);
		return;
	}
	if (bw_unlikely(memcmp(p.data, host->mac.b, 6) != 0)) {
		if (!mac_is_group_of_ours(p.data, host)) {
			drop(&p, BW_DROP_NOT_FOR_US_MAC);
			return;
		}
		p.is_group_frame = true;
		pkt->is_to_multicast = true;
	}
	if (bw_unlikely((p.data[6] & 1) != 0)) { /* no frame comes from a group */
		drop(&p, BW_DROP_MARTIAN);
		return;
	}

	ethertype = bw_wire__load16(p.data + 12);
	if (!parse_vlan(&p, &ethertype))
		return;
	if (bw_likely(ethertype == RTE_ETHER_TYPE_IPV4))
		parse_ip4(&p);
	else if (ethertype == RTE_ETHER_TYPE_IPV6)
		parse_ip6(&p);
	else if (ethertype == RTE_ETHER_TYPE_ARP)
		parse_arp(&p);
	else
		drop(&p, BW_DROP_ETHERTYPE);
}

void bw_pkt_parse_ip(struct rte_mbuf *m, const struct bw_wire_host *host, uint16_t l3_off, struct bw_pkt *pkt)
{
	struct parse p = {
		.pkt = pkt,
		.host = host,
		.data = rte_pktmbuf_mtod(m, const uint8_t *),
		.is_reassembled = true,
		.was_fragmented = true,
	};

	*pkt = (struct bw_pkt){ .m = m, .l3_off = l3_off };
	if (m->data_len <= l3_off)
		drop(&p, BW_DROP_RUNT);
	else if (p.data[l3_off] >> 4 == 4)
		parse_ip4(&p);
	else
		parse_ip6(&p);
}
