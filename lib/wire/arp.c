/* SPDX-License-Identifier: BSD-3-Clause */
/* ARP for IPv4 over Ethernet (RFC 826): opcode, then each side's MAC and IP address. */
#include <base/assert.h>
#include <wire/build.h>

#include <rte_arp.h>

#include "wire.h"

#define OPCODE_OFF     6
#define SENDER_MAC_OFF 8
#define SENDER_IP_OFF  14
#define TARGET_MAC_OFF 18
#define TARGET_IP_OFF  24

void bw_arp_write(struct rte_mbuf *m, uint16_t opcode, const struct bw_mac *sender_mac,
	const struct bw_ip *sender, const struct bw_mac *target_mac, const struct bw_ip *target)
{
	static const uint8_t ethernet_ip4[] = { 0x00, 0x01, 0x08, 0x00, 6, 4 };
	uint8_t *arp = (uint8_t *)rte_pktmbuf_append(m, BW_ARP_BYTES);
	const uint32_t sender_be = bw_ip_v4_be(sender), target_be = bw_ip_v4_be(target);

	BW_ASSERT(arp != NULL);
	memcpy(arp, ethernet_ip4, sizeof(ethernet_ip4));
	bw_wire__store16(arp + OPCODE_OFF, opcode);
	memcpy(arp + SENDER_MAC_OFF, sender_mac->b, 6);
	memcpy(arp + SENDER_IP_OFF, &sender_be, 4);
	memcpy(arp + TARGET_MAC_OFF, target_mac->b, 6);
	memcpy(arp + TARGET_IP_OFF, &target_be, 4);
}

int bw_arp_parse(const struct bw_pkt *pkt, struct bw_arp_fields *arp)
{
	const uint8_t *header = rte_pktmbuf_mtod_offset(pkt->m, const uint8_t *, pkt->l3_off);

	/* The types and lengths were seen to by the packet's parse. */
	BW_ASSERT_EQ(pkt->kind, BW_PKT_ARP);
	arp->opcode = bw_wire__load16(header + OPCODE_OFF);
	memcpy(arp->sender_mac.b, header + SENDER_MAC_OFF, 6);
	memcpy(arp->target_mac.b, header + TARGET_MAC_OFF, 6);
	arp->sender = bw_wire__load_ip4(header + SENDER_IP_OFF);
	arp->target = bw_wire__load_ip4(header + TARGET_IP_OFF);

	if (arp->opcode != RTE_ARP_OP_REQUEST && arp->opcode != RTE_ARP_OP_REPLY)
		return -EINVAL;
	/*
	 * A group is nobody's hardware address, and no one host's IP address. 0.0.0.0 is a probe's (RFC
	 * 5227).
	 */
	if ((arp->sender_mac.b[0] & 1) != 0 || bw_ip_is_multicast(&arp->sender) ||
		bw_ip_is_loopback(&arp->sender) || bw_ip_v4_be(&arp->sender) == UINT32_MAX)
		return -EINVAL;
	return 0;
}
