/* SPDX-License-Identifier: BSD-3-Clause */
/* Neighbour solicitations and advertisements (RFC 4861), and the addresses that they need. */
#include <base/assert.h>
#include <wire/build.h>

#include "wire.h"

#define FLAGS_OFF   4
#define TARGET_OFF  8
#define OPTIONS_OFF 24

#define OPT_SOURCE_LINK_ADDR 1 /* in a solicitation */
#define OPT_TARGET_LINK_ADDR 2 /* in an advertisement */
#define OPT_UNIT_BYTES       8
#define OPT_LINK_ADDR_BYTES  8

/* RFC 4861 section 7.1: a hop limit that nothing off this link can have. */
#define HOP_LIMIT 255

static uint8_t link_addr_option(uint8_t type)
{
	return type == ND_NEIGHBOR_SOLICIT ? OPT_SOURCE_LINK_ADDR : OPT_TARGET_LINK_ADDR;
}

void bw_nd_write(struct rte_mbuf *m, const struct bw_nd_out *nd)
{
	const uint16_t bytes = OPTIONS_OFF + (nd->link_addr != NULL ? OPT_LINK_ADDR_BYTES : 0);
	uint8_t *header = (uint8_t *)rte_pktmbuf_append(m, bytes);
	uint16_t sum;

	BW_ASSERT(header != NULL);
	memset(header, 0, OPTIONS_OFF);
	header[0] = nd->type;
	header[FLAGS_OFF] = nd->flags;
	memcpy(header + TARGET_OFF, nd->target->b, 16);
	if (nd->link_addr != NULL) {
		header[OPTIONS_OFF] = link_addr_option(nd->type);
		header[OPTIONS_OFF + 1] = OPT_LINK_ADDR_BYTES / OPT_UNIT_BYTES;
		memcpy(header + OPTIONS_OFF + 2, nd->link_addr->b, 6);
	}
	sum = (uint16_t)~bw_sum_fold(
		bw_sum(header, bytes, bw_sum_pseudo(nd->src, nd->dst, IPPROTO_ICMPV6, bytes)));
	memcpy(header + 2, &sum, sizeof(sum));
}

/* Each with a length in units of 8 bytes; zero would have us stand still (RFC 4861 section 4.6). */
static bool parse_options(const uint8_t *options, unsigned bytes, struct bw_nd_fields *nd)
{
	unsigned at = 0;

	while (at < bytes) {
		unsigned option_bytes;

		if (bytes - at < 2)
			return false;
		option_bytes = options[at + 1] * OPT_UNIT_BYTES;
		if (option_bytes == 0 || option_bytes > bytes - at)
			return false;
		if (options[at] == link_addr_option(nd->type)) {
			if (option_bytes != OPT_LINK_ADDR_BYTES || (options[at + 2] & 1) != 0)
				return false;
			memcpy(nd->link_addr.b, options + at + 2, 6);
			nd->has_link_addr = true;
		}
		at += option_bytes;
	}
	return true;
}

int bw_nd_parse(const struct bw_pkt *pkt, struct bw_nd_fields *nd)
{
	const uint8_t *header = rte_pktmbuf_mtod_offset(pkt->m, const uint8_t *, pkt->l4_off);

	BW_ASSERT_EQ(pkt->kind, BW_PKT_ICMP6);
	if (pkt->payload_len < OPTIONS_OFF || pkt->l4_off + pkt->payload_len > pkt->m->data_len)
		return -EINVAL;
	*nd = (struct bw_nd_fields){
		.type = header[0],
		.flags = header[FLAGS_OFF],
		.target = bw_wire__load_ip6(header + TARGET_OFF),
	};
	if ((nd->type != ND_NEIGHBOR_SOLICIT && nd->type != ND_NEIGHBOR_ADVERT) || header[1] != 0 ||
		pkt->ttl != HOP_LIMIT)
		return -EINVAL;
	if (bw_ip_is_multicast(&nd->target) || bw_ip_is_unspecified(&nd->target) ||
		bw_ip_is_loopback(&nd->target) || bw_ip_is_v4(&nd->target))
		return -EINVAL;
	if (!parse_options(header + OPTIONS_OFF, pkt->payload_len - OPTIONS_OFF, nd))
		return -EINVAL;

	if (nd->type == ND_NEIGHBOR_SOLICIT) {
		/* Section 7.1.1: who has no address yet asks the group, and has none to tell us. */
		if (bw_ip_is_unspecified(&pkt->flow.remote) &&
			(nd->has_link_addr || pkt->flow.local.b[0] != 0xff || pkt->flow.local.b[11] != 1 ||
				pkt->flow.local.b[12] != 0xff))
			return -EINVAL;
	} else if (pkt->is_to_multicast && (nd->flags & BW_ND_SOLICITED) != 0) {
		return -EINVAL; /* section 7.1.2: an answer goes to the one who asked */
	}
	return 0;
}

struct bw_ip bw_ip6_solicited_node(const struct bw_ip *ip)
{
	/* RFC 4291 section 2.7.1. */
	struct bw_ip group = { .w_be = { RTE_BE32(0xff020000), 0, RTE_BE32(1), ip->w_be[3] } };

	group.b[12] = 0xff;
	return group;
}

struct bw_mac bw_mac_of_multicast(const struct bw_ip *group)
{
	const uint8_t *b = group->b;

	/* RFC 1112 section 6.4: the low 23 bits. RFC 2464 section 7: the low 32. */
	if (bw_ip_is_v4(group))
		return (struct bw_mac){ { 0x01, 0x00, 0x5e, b[13] & 0x7f, b[14], b[15] } };
	return (struct bw_mac){ { 0x33, 0x33, b[12], b[13], b[14], b[15] } };
}

struct bw_ip bw_ip6_link_local(const struct bw_mac *mac)
{
	const uint8_t *b = mac->b;

	/* Modified EUI-64: ff:fe in the middle, and the universal/local bit inverted. */
	return (struct bw_ip){ .b = { 0xfe, 0x80, 0, 0, 0, 0, 0, 0, b[0] ^ 0x02, b[1], b[2], 0xff, 0xfe, b[3],
				       b[4], b[5] } };
}
