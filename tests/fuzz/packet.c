/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * A frame, in segments of exactly their size, through everything that reads it: bw_pkt_parse(), ARP, neighbour
 * discovery, and the quotes of ICMP errors; and an error about it, if it is one that errors are sent about.
 *
 * Input: how to treat it, where to cut it, and the frame. Its checksums are put right if the first byte says so,
 * since nothing that guesses gets past them.
 */
#include <netinet/icmp6.h>
#include <netinet/in.h>

#include "../wire/craft.h"
#include "fuzz.h"

enum {
	HAS_VLAN = 1 << 0,
	ACCEPTS_PARTIAL = 1 << 1,
	L4_FLAGS = 3 << 2, /* what the device says of the checksums */
	IP_GOOD = 1 << 4,
	IS_CUT = 1 << 5,
	IS_CUT_TWICE = 1 << 6,
	IS_LEFT_ALONE = 1 << 7, /* checksums are as they are */
};

static struct rte_mempool *pool;
static struct bw_cidr addrs[4];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const char *const texts[] = { "192.0.2.2/24", "10.0.0.9/31", "2001:db8::2/64", "fe80::1/64" };

	pool = fuzz_pool(15);
	bw_flow_hash_seed(42);
	for (unsigned i = 0; i < BW_ARRAY_LEN(texts); i++)
		BW_ASSERT_EQ(bw_cidr_parse(texts[i], &addrs[i]), 0);
	return 0;
}

/* ---- checksums ---- */

/** Of the protocol at `l4`, if its bytes are all there. `src` are the two addresses, which lie together. */
static void fix_l4(uint8_t *l4, unsigned bytes, unsigned proto, const uint8_t *src, unsigned addrs_bytes)
{
	unsigned at = proto == IPPROTO_TCP                               ? 16
		      : proto == IPPROTO_UDP                             ? 6
		      : proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6 ? 2
									 : bytes;
	uint8_t tail[8] = { 0 };
	uint32_t sum = 0;

	if (at + 2 > bytes)
		return;
	set16(tail + 2, bytes);
	tail[7] = (uint8_t)proto;
	if (proto != IPPROTO_ICMP)
		sum = naive_add(tail, 8, naive_add(src, addrs_bytes, 0));
	set16(l4 + at, 0);
	set16(l4 + at, 0xffff ^ naive_add(l4, bytes, sum));
}

static void fix_ip4(uint8_t *ip4, unsigned bytes)
{
	unsigned header = (ip4[0] & 15u) * 4, total;

	if (bytes < 20 || header < 20 || header > bytes)
		return;
	set16(ip4 + 10, 0);
	set16(ip4 + 10, 0xffff ^ naive_add(ip4, header, 0));
	total = get16(ip4 + 2);
	if (total >= header && total <= bytes)
		fix_l4(ip4 + header, total - header, ip4[9], ip4 + 12, 8);
}

static void fix_ip6(uint8_t *ip6, unsigned bytes)
{
	unsigned at = 40, next, end;

	if (bytes < 40)
		return;
	next = ip6[6];
	end = 40 + get16(ip6 + 4);
	if (end > bytes)
		return;
	while ((next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS) &&
		at + 8 <= end) {
		next = ip6[at];
		at += 8 + ip6[at + 1] * 8u;
	}
	if (at < end)
		fix_l4(ip6 + at, end - at, next, ip6 + 8, 32);
}

static void fix_checksums(uint8_t *frame, unsigned bytes)
{
	unsigned at = 12;

	if (bytes >= 18 && get16(frame + at) == ETHERTYPE_VLAN)
		at += 4;
	if (bytes < at + 3)
		return;
	if (get16(frame + at) == ETHERTYPE_IP4)
		fix_ip4(frame + at + 2, bytes - at - 2);
	else if (get16(frame + at) == ETHERTYPE_IP6)
		fix_ip6(frame + at + 2, bytes - at - 2);
}

/* ---- what is true of every packet ---- */

static void assert_sound(const struct rte_mbuf *m)
{
	unsigned segments = 0;
	uint32_t bytes = 0;

	for (const struct rte_mbuf *s = m; s != NULL; s = s->next) {
		BW_ASSERT_LE(s->data_off + s->data_len, s->buf_len);
		segments++;
		bytes += s->data_len;
	}
	BW_ASSERT_EQ(segments, m->nb_segs);
	BW_ASSERT_EQ(bytes, m->pkt_len);
}

static void assert_within(const struct bw_pkt *pkt)
{
	const struct rte_mbuf *m = pkt->m;

	assert_sound(m);
	if (pkt->kind == BW_PKT_DROP) {
		BW_ASSERT_LT(pkt->drop, BW_COUNTER_COUNT);
		return;
	}
	if (pkt->kind == BW_PKT_ARP) {
		BW_ASSERT_LE(pkt->l3_off + 28u, m->data_len);
		return;
	}
	BW_ASSERT(pkt->ip_version == 4 || pkt->ip_version == 6);
	BW_ASSERT_LE(pkt->l3_off + (pkt->ip_version == 4 ? 20u : 40u), m->data_len);
	BW_ASSERT_EQ(pkt->l3_off + (uint32_t)pkt->l3_total_len, m->pkt_len);
	if (pkt->kind == BW_PKT_BAD_HEADER) {
		BW_ASSERT_LT(pkt->drop, BW_COUNTER_COUNT);
		BW_ASSERT(pkt->problem_off >= pkt->l3_off && pkt->problem_off < m->pkt_len);
		return;
	}
	BW_ASSERT_LE(pkt->l3_off, pkt->l4_off);
	BW_ASSERT_LE(pkt->l4_off, m->data_len);
	if (pkt->kind == BW_PKT_TCP || pkt->kind == BW_PKT_UDP) {
		BW_ASSERT_LE(pkt->l4_off + (pkt->kind == BW_PKT_TCP ? 20u : 8u), pkt->payload_off);
		BW_ASSERT_LE(pkt->payload_off, m->data_len);
		BW_ASSERT_LE(pkt->payload_off + (uint32_t)pkt->payload_len, m->pkt_len);
		BW_ASSERT_EQ(pkt->hash, bw_flow_hash(&pkt->flow));
		BW_ASSERT_LE(pkt->tcp.sack_count, BW_SACK_BLOCKS_MAX);
		BW_ASSERT(!bw_ip_eq(&pkt->flow.local, &pkt->flow.remote));
	}
	if (pkt->kind == BW_PKT_ICMP4 || pkt->kind == BW_PKT_ICMP6) {
		BW_ASSERT_LE(pkt->l4_off + 8u, m->data_len);
		BW_ASSERT_LE(pkt->l4_off + (uint32_t)pkt->payload_len, m->pkt_len);
	}
}

static void read_further(const struct bw_pkt *pkt)
{
	struct bw_icmp_quote quote;
	struct bw_arp_fields arp;
	struct bw_nd_fields nd;

	if (pkt->kind == BW_PKT_ARP)
		(void)bw_arp_parse(pkt, &arp);
	if (pkt->kind != BW_PKT_ICMP4 && pkt->kind != BW_PKT_ICMP6)
		return;
	if (bw_icmp_quote_parse(pkt, &quote) == 0) {
		BW_ASSERT(quote.proto == IPPROTO_TCP || quote.proto == IPPROTO_UDP);
		BW_ASSERT(bw_ip_eq(&quote.flow.local, &pkt->flow.local));
	}
	if (pkt->kind == BW_PKT_ICMP6 && bw_nd_parse(pkt, &nd) == 0)
		BW_ASSERT(nd.type == ND_NEIGHBOR_SOLICIT || nd.type == ND_NEIGHBOR_ADVERT);
}

/** An error about it, in a buffer that has just the room, and in one that has less. */
static void answer(const struct bw_pkt *pkt, unsigned tailroom)
{
	const unsigned most = pkt->ip_version == 4 ? 576 - 20 : 1280 - 40;
	struct rte_mbuf *m = mbuf_of(NULL, 0, 0, tailroom);
	uint32_t sum = 0;

	bw_icmp_error_write(m, pkt, 3, 1, 7, &pkt->flow.local, &pkt->flow.remote);
	BW_ASSERT(m->pkt_len >= 8 && m->pkt_len <= BW_MIN(tailroom, most));
	if (pkt->ip_version == 6)
		sum = naive_pseudo(&pkt->flow.local, &pkt->flow.remote, IPPROTO_ICMPV6, m->pkt_len);
	BW_ASSERT_EQ(naive_add(rte_pktmbuf_mtod(m, uint8_t *), m->pkt_len, sum), 0xffff);
	mbuf_free(m);
}

/* ---- one input ---- */

static struct rte_mbuf *segments(const uint8_t *bytes, unsigned count, unsigned how, unsigned cut)
{
	const unsigned ends[] = { how & IS_CUT ? BW_MIN(cut, count) : 0,
		how & IS_CUT_TWICE ? BW_MIN(3 * cut, count) : 0, count };
	struct rte_mbuf *first = NULL, **link = &first;
	unsigned begin = 0;

	for (unsigned i = 0; i < BW_ARRAY_LEN(ends); i++) {
		if (ends[i] <= begin && !(i == BW_ARRAY_LEN(ends) - 1 && first == NULL))
			continue;
		*link = fuzz_mbuf(pool, bytes + begin, ends[i] - begin);
		BW_ASSERT(*link != NULL);
		if (link != &first) {
			first->nb_segs++;
			first->pkt_len += ends[i] - begin;
		}
		link = &(*link)->next;
		begin = ends[i];
	}
	return first;
}

static bool parses_to_the_same(const struct bw_pkt *a, const struct bw_pkt *b)
{
	return a->kind == b->kind && a->drop == b->drop && a->l3_off == b->l3_off && a->l4_off == b->l4_off &&
	       a->payload_off == b->payload_off && a->payload_len == b->payload_len &&
	       a->l3_total_len == b->l3_total_len && a->hash == b->hash && a->ip_proto == b->ip_proto &&
	       memcmp(&a->flow, &b->flow, sizeof(a->flow)) == 0 && a->tcp.seq == b->tcp.seq;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint64_t l4_flags[] = { RTE_MBUF_F_RX_L4_CKSUM_UNKNOWN, RTE_MBUF_F_RX_L4_CKSUM_BAD,
		RTE_MBUF_F_RX_L4_CKSUM_GOOD, RTE_MBUF_F_RX_L4_CKSUM_NONE };
	struct fuzz_input in = { data, data + size };
	unsigned how = fuzz_u8(&in), cut = fuzz_u8(&in);
	struct bw_wire_host host = {
		.mac = { { 2, 0, 0, 0, 0, 1 } },
		.vlan = how & HAS_VLAN ? 7 : 0,
		.accepts_partial_checksum = how & ACCEPTS_PARTIAL,
		.addr_count = BW_ARRAY_LEN(addrs),
		.addrs = addrs,
	};
	struct bw_pkt pkt, again;
	uint8_t *frame;
	size_t len;

	frame = fuzz_bytes(&in, 9216, &len);
	if (!(how & IS_LEFT_ALONE))
		fix_checksums(frame, (unsigned)len);
	pkt.m = segments(frame, (unsigned)len, how, cut);
	free(frame);
	pkt.m->ol_flags |=
		l4_flags[(how & L4_FLAGS) >> 2] | (how & IP_GOOD ? RTE_MBUF_F_RX_IP_CKSUM_GOOD : 0);

	bw_pkt_parse(pkt.m, &host, &pkt);
	assert_within(&pkt);
	read_further(&pkt);
	if (pkt.kind != BW_PKT_DROP && pkt.kind != BW_PKT_ARP) {
		answer(&pkt, 1500);
		answer(&pkt, 8 + cut);
	}
	if (pkt.kind != BW_PKT_DROP) {
		bw_pkt_parse(pkt.m, &host, &again);
		BW_ASSERT(parses_to_the_same(&pkt, &again));
	}
	if (pkt.kind != BW_PKT_DROP && pkt.kind != BW_PKT_ARP) {
		bw_pkt_parse_ip(pkt.m, &host, pkt.l3_off, &again);
		assert_within(&again);
	}
	rte_pktmbuf_free(pkt.m);
	BW_ASSERT_EQ(rte_mempool_in_use_count(pool), 0);
	return 0;
}
