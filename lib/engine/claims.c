/* SPDX-License-Identifier: BSD-3-Clause */
#include <rte_ether.h>

#include "claims.h"
#include "worker.h"

#define EXT_HEADERS_MAX 8
#define TAGS_MAX        2
#define ICMP_BYTES      8
#define IP4_BYTES       20
#define IP6_BYTES       40
#define EXT_BYTES       8
#define FRAGMENT_NS     (60 * BW_NS_PER_SEC) /* as long as a datagram may wait for its last one (RFC 8200 4.5) */

_Static_assert(BW_ARRAY_LEN(((struct bw_claims *)0)->ports) >= BW_SERVICES_MAX * 2, "TCP and UDP");
_Static_assert(BW_NETWORK_ADDRS_MAX <= 64, "a bit each, in bw_network's `left`");

struct reading {
	const uint8_t *data;
	unsigned bytes;
	bool is_v4, is_fragment, is_first;
	uint8_t proto;
	uint32_t fragment_id;
	unsigned l4_off;
	struct bw_ip src, dst;
};

static bool holds(const struct reading *r, unsigned off, unsigned bytes)
{
	return off + bytes <= r->bytes;
}

static uint16_t load16(const struct reading *r, unsigned off)
{
	return (uint16_t)(r->data[off] << 8 | r->data[off + 1]);
}

/** As it lies there: for what is only compared. */
static uint16_t load16_be(const struct reading *r, unsigned off)
{
	uint16_t value;

	memcpy(&value, r->data + off, sizeof(value));
	return value;
}

/* ---- reading ------------------------------------------------------------------------------------------------- */

static struct bw_ip load_ip4(const uint8_t *at)
{
	uint32_t ip_be;

	memcpy(&ip_be, at, sizeof(ip_be));
	return bw_ip_from_v4(ip_be);
}

static bool read_ip4(struct reading *r, unsigned off)
{
	unsigned header_bytes, field;

	if (!holds(r, off, IP4_BYTES) || r->data[off] >> 4 != 4)
		return false;
	header_bytes = (r->data[off] & 0x0fu) * 4;
	if (header_bytes < IP4_BYTES)
		return false;
	field = load16(r, off + 6);
	r->is_v4 = true;
	r->src = load_ip4(r->data + off + 12);
	r->dst = load_ip4(r->data + off + 16);
	r->proto = r->data[off + 9];
	r->l4_off = off + header_bytes;
	r->is_first = (field & 0x1fff) == 0;
	r->is_fragment = !r->is_first || (field & 0x2000) != 0;
	r->fragment_id = load16(r, off + 4);
	return true;
}

static bool read_extensions(struct reading *r)
{
	for (unsigned i = 0; i < EXT_HEADERS_MAX; i++) {
		const uint8_t *header = r->data + r->l4_off;
		unsigned bytes;

		if (r->proto != IPPROTO_HOPOPTS && r->proto != IPPROTO_ROUTING &&
			r->proto != IPPROTO_DSTOPTS && r->proto != IPPROTO_FRAGMENT)
			return true; /* lib/wire knows no others: what has AH is the kernel's */
		if (!holds(r, r->l4_off, EXT_BYTES))
			return false;
		bytes = (header[1] + 1u) * EXT_BYTES;
		if (r->proto == IPPROTO_FRAGMENT) {
			const unsigned field = load16(r, r->l4_off + 2);

			bytes = EXT_BYTES;
			r->is_first = (field & 0xfff8) == 0;
			r->is_fragment = !r->is_first || (field & 1) != 0;
			memcpy(&r->fragment_id, header + 4, sizeof(r->fragment_id));
		}
		r->proto = header[0];
		r->l4_off += bytes;
		if (!r->is_first) /* what follows is a piece of the middle */
			return true;
	}
	return false;
}

static bool read_ip6(struct reading *r, unsigned off)
{
	if (!holds(r, off, IP6_BYTES) || r->data[off] >> 4 != 6)
		return false;
	r->is_v4 = false;
	memcpy(&r->src, r->data + off + 8, sizeof(r->src));
	memcpy(&r->dst, r->data + off + 24, sizeof(r->dst));
	r->proto = r->data[off + 6];
	r->l4_off = off + IP6_BYTES;
	r->is_first = true;
	r->is_fragment = false;
	r->fragment_id = 0;
	return read_extensions(r);
}

/** Ethernet and VLAN tags, of which ours has one at most, in the bytes or beside them. False: it is not for us. */
static bool read_frame(const struct bw_claims *claims, const struct bw_network *network,
	const struct rte_mbuf *m, struct reading *r, unsigned *l3_off, uint16_t *ethertype)
{
	const bool is_stripped = (m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0;
	unsigned vlan = is_stripped ? m->vlan_tci & 0xfffu : 0, tags = is_stripped;

	if (!holds(r, 0, RTE_ETHER_HDR_LEN))
		return false;
	if ((r->data[0] & 1) == 0 && memcmp(r->data, network->mac.b, sizeof(network->mac.b)) != 0)
		return false;
	*l3_off = RTE_ETHER_HDR_LEN;
	*ethertype = load16(r, 12);
	for (unsigned i = 0; i < TAGS_MAX; i++) {
		if (*ethertype != RTE_ETHER_TYPE_VLAN && *ethertype != RTE_ETHER_TYPE_QINQ)
			break;
		if (!holds(r, *l3_off, RTE_VLAN_HLEN))
			return false;
		vlan |= load16(r, *l3_off) & 0xfffu;
		tags += *ethertype == RTE_ETHER_TYPE_VLAN ? 1 : 2; /* a provider's is none of ours */
		*ethertype = load16(r, *l3_off + 2);
		*l3_off += RTE_VLAN_HLEN;
	}
	return tags <= 1 && vlan == claims->vlan;
}

/* ---- whose? -------------------------------------------------------------------------------------------------- */

static bool is_our_addr(const struct bw_network *network, const struct bw_ip *ip)
{
	for (unsigned i = 0; i < network->addr_count; i++)
		if (bw_ip_eq(&network->addrs[i].ip, ip))
			return (network->left >> i & 1) == 0;
	return false;
}

static bool is_our_port(
	const struct bw_claims *claims, const struct bw_ip *addr, uint8_t proto, uint16_t port_be)
{
	const uint16_t port = rte_be_to_cpu_16(port_be);

	if (proto != IPPROTO_TCP && proto != IPPROTO_UDP)
		return false;
	if (claims->range_first != 0 && port >= claims->range_first && port <= claims->range_last)
		return true;
	for (unsigned i = 0; i < claims->port_count; i++) {
		const struct bw_claim_port *ours = &claims->ports[i];

		if (ours->port_be == port_be && ours->proto == proto &&
			bw_engine_service_is_at(ours->service, addr))
			return true;
	}
	return false;
}

/** An ICMP error goes where the packet that it quotes came from. */
static bool quotes_ours(
	const struct bw_claims *claims, const struct bw_network *network, const struct reading *r)
{
	struct reading quoted = { .data = r->data, .bytes = r->bytes };
	unsigned off = r->l4_off + ICMP_BYTES;
	uint8_t type;

	if (!holds(r, r->l4_off, 1))
		return false;
	type = r->data[r->l4_off];
	if (r->proto == IPPROTO_ICMP) {
		if (type != ICMP_DEST_UNREACH && type != ICMP_SOURCE_QUENCH && type != ICMP_TIME_EXCEEDED &&
			type != ICMP_PARAMETERPROB)
			return false;
		if (!read_ip4(&quoted, off))
			return false;
	} else if ((type & ICMP6_INFOMSG_MASK) != 0 || !read_ip6(&quoted, off)) {
		return false;
	}
	return quoted.is_first && holds(r, quoted.l4_off, 4) && is_our_addr(network, &quoted.src) &&
	       is_our_port(claims, &quoted.src, quoted.proto, load16_be(r, quoted.l4_off));
}

static bool is_same(const struct bw_claim_fragment *a, const struct bw_claim_fragment *b)
{
	return a->id == b->id && a->proto == b->proto && bw_ip_eq(&a->src, &b->src) &&
	       bw_ip_eq(&a->dst, &b->dst);
}

/** Where a datagram is remembered; else the place that it would get. */
static struct bw_claim_fragment *find(struct bw_claims *claims, const struct bw_claim_fragment *key)
{
	const struct bw_flow flow = { .local = key->dst,
		.remote = key->src,
		.local_port_be = (uint16_t)key->id,
		.remote_port_be = (uint16_t)(key->id >> 16) };
	struct bw_claim_fragment *set = claims->fragments[bw_flow_hash(&flow) % BW_CLAIM_SETS], *oldest = set;

	for (unsigned i = 0; i < BW_CLAIM_WAYS; i++) {
		if (is_same(&set[i], key))
			return &set[i];
		if (set[i].since < oldest->since)
			oldest = &set[i];
	}
	return oldest;
}

/**
 * In IPv6 the first fragment may have more headers than those that follow, which say that something else comes next: so
 * there the protocol is no part of a datagram's name.
 */
static bool is_fragment_ours(struct bw_claims *claims, const struct reading *r, bool is_first_ours, bw_ns now)
{
	const struct bw_claim_fragment key = { .src = r->src,
		.dst = r->dst,
		.id = r->fragment_id,
		.proto = r->is_v4 ? r->proto : 0,
		.since = now };
	struct bw_claim_fragment *known = find(claims, &key);

	if (!r->is_first)
		return known->since != 0 && is_same(known, &key) && now - known->since < FRAGMENT_NS;
	if (is_first_ours)
		*known = key;
	else if (is_same(known, &key)) /* another datagram has got the same number */
		known->since = 0;
	return is_first_ours;
}

bool bw_claims_is_ours(
	struct bw_claims *claims, const struct bw_network *network, const struct rte_mbuf *m, bw_ns now)
{
	struct reading r = { .data = rte_pktmbuf_mtod(m, const uint8_t *), .bytes = m->data_len };
	uint16_t ethertype;
	unsigned l3_off;
	bool ours;

	if (!read_frame(claims, network, m, &r, &l3_off, &ethertype))
		return false;
	if (ethertype == RTE_ETHER_TYPE_IPV4       ? !read_ip4(&r, l3_off)
		: ethertype == RTE_ETHER_TYPE_IPV6 ? !read_ip6(&r, l3_off)
						   : true)
		return false;
	if (!is_our_addr(network, &r.dst))
		return false;
	if (r.is_fragment && !r.is_first)
		return is_fragment_ours(claims, &r, false, now);
	if (r.proto == IPPROTO_ICMP || r.proto == IPPROTO_ICMPV6)
		return quotes_ours(claims, network, &r);
	ours = holds(&r, r.l4_off, 4) && is_our_port(claims, &r.dst, r.proto, load16_be(&r, r.l4_off + 2));
	return bw_unlikely(r.is_fragment) ? is_fragment_ours(claims, &r, ours, now) : ours;
}

bool bw_claims_is_about_neighbours(const struct rte_mbuf *m)
{
	const struct reading r = { .data = rte_pktmbuf_mtod(m, const uint8_t *), .bytes = m->data_len };
	unsigned l3_off = RTE_ETHER_HDR_LEN;
	uint16_t ethertype;
	uint8_t type;

	if (!holds(&r, 0, RTE_ETHER_HDR_LEN + RTE_VLAN_HLEN))
		return false;
	ethertype = load16(&r, 12);
	if (ethertype == RTE_ETHER_TYPE_VLAN) {
		ethertype = load16(&r, 16);
		l3_off += RTE_VLAN_HLEN;
	}
	if (ethertype != RTE_ETHER_TYPE_IPV6)
		return ethertype == RTE_ETHER_TYPE_ARP;
	if (!holds(&r, l3_off, IP6_BYTES + 1) || r.data[l3_off + 6] != IPPROTO_ICMPV6)
		return false;
	type = r.data[l3_off + IP6_BYTES];
	return type >= ND_ROUTER_SOLICIT && type <= ND_REDIRECT;
}

/* ---- what is ours -------------------------------------------------------------------------------------------- */

static void add(struct bw_claims *claims, const struct bw_engine_service *service, uint8_t proto)
{
	claims->ports[claims->port_count++] =
		(struct bw_claim_port){ rte_cpu_to_be_16(service->port), proto, service };
}

void bw_claims_init(struct bw_claims *claims, const struct bw_engine_conf *conf, uint16_t vlan, bool connects)
{
	memset(claims, 0, sizeof(*claims));
	claims->vlan = vlan;
	if (connects) {
		claims->range_first = conf->tcp.port_first;
		claims->range_last = conf->tcp.port_last;
	}
	for (unsigned i = 0; i < conf->service_count; i++) {
		const struct bw_engine_service *service = &conf->services[i];

		if (service->port == 0)
			continue;
		if (service->service->data != NULL)
			add(claims, service, IPPROTO_TCP);
		if (service->service->datagram != NULL)
			add(claims, service, IPPROTO_UDP);
	}
}
