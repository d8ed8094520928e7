/* SPDX-License-Identifier: BSD-3-Clause */
/* IP and Ethernet headers, prepended to what is in the mbuf. */
#include <base/assert.h>
#include <wire/build.h>

#include "wire.h"

static void *prepend(struct rte_mbuf *m, uint16_t bytes)
{
	char *header = rte_pktmbuf_prepend(m, bytes);

	BW_ASSERT(header != NULL); /* every mbuf of ours has the headroom (base/mbuf.h) */
	return header;
}

static void prepend_ip4(struct rte_mbuf *m, const struct bw_ip_out *out)
{
	struct rte_ipv4_hdr header = {
		.version_ihl = 4 << 4 | BW_IP4_HEADER / 4,
		.type_of_service = out->tos,
		.total_length = rte_cpu_to_be_16((uint16_t)(m->pkt_len + BW_IP4_HEADER)),
		/* RFC 6864 section 4.1: what can never be in fragments needs no identification. */
		.packet_id = rte_cpu_to_be_16(out->may_fragment ? out->id : 0),
		.fragment_offset = out->may_fragment ? 0 : RTE_BE16(RTE_IPV4_HDR_DF_FLAG),
		.time_to_live = out->ttl,
		.next_proto_id = out->proto,
		.src_addr = bw_ip_v4_be(out->src),
		.dst_addr = bw_ip_v4_be(out->dst),
	};

	BW_ASSERT_LE(m->pkt_len + BW_IP4_HEADER, UINT16_MAX);
	header.hdr_checksum = (uint16_t)~bw_sum_fold(bw_sum_ip4_header(&header));
	memcpy(prepend(m, sizeof(header)), &header, sizeof(header));
	m->l3_len = sizeof(header);
	m->ol_flags |= RTE_MBUF_F_TX_IPV4;
}

static void prepend_ip6(struct rte_mbuf *m, const struct bw_ip_out *out)
{
	struct rte_ipv6_hdr header = {
		.vtc_flow = rte_cpu_to_be_32(6u << 28 | (uint32_t)out->tos << RTE_IPV6_HDR_TC_SHIFT),
		.payload_len = rte_cpu_to_be_16((uint16_t)m->pkt_len),
		.proto = out->proto,
		.hop_limits = out->ttl,
	};

	BW_ASSERT_LE(m->pkt_len, UINT16_MAX);
	memcpy(header.src_addr, out->src->b, 16);
	memcpy(header.dst_addr, out->dst->b, 16);
	memcpy(prepend(m, sizeof(header)), &header, sizeof(header));
	m->l3_len = sizeof(header);
	m->ol_flags |= RTE_MBUF_F_TX_IPV6;
}

void bw_ip_prepend(struct rte_mbuf *m, const struct bw_ip_out *out)
{
	if (bw_ip_is_v4(out->dst))
		prepend_ip4(m, out);
	else
		prepend_ip6(m, out);
}

void bw_eth_prepend(struct rte_mbuf *m, const struct bw_mac *src, const struct bw_mac *dst,
	uint16_t ethertype, uint16_t vlan)
{
	const uint16_t bytes = RTE_ETHER_HDR_LEN + (vlan != 0 ? RTE_VLAN_HLEN : 0);
	uint8_t *at = prepend(m, bytes);

	memcpy(at, dst->b, 6);
	memcpy(at + 6, src->b, 6);
	at += 12;
	if (vlan != 0) {
		at = bw_wire__store16(at, RTE_ETHER_TYPE_VLAN);
		at = bw_wire__store16(at, vlan);
	}
	bw_wire__store16(at, ethertype);
	m->l2_len = bytes;
}
