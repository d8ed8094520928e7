/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Fields to bytes. Everything here writes into memory that the caller has made room for, in network byte
 * order, and knows nothing of devices or state.
 */
#pragma once

#include <rte_mbuf.h>

#include <base/addr.h>
#include <base/sum.h>
#include <wire/packet.h>

/** bw_sum() over `bytes` bytes of a chain of mbuf segments from `off`; segments may have odd lengths. */
uint64_t bw_sum_mbuf(const struct rte_mbuf *m, uint32_t off, uint32_t bytes, uint64_t sum);
/** Sum of the TCP/UDP/ICMPv6 pseudo-header of either family: chain payload after it. */
uint64_t bw_sum_pseudo(const struct bw_ip *src, const struct bw_ip *dst, uint8_t proto, uint32_t l4_bytes);

/**
 * Write a TCP header with options for `fields` (flags, seq, ack, window, options that has_* and sack_count
 * ask for; checksum zero, urgent as given) and return its length: 20 to 60, a multiple of 4. Options are in
 * the order that Linux and the RFCs' appendices use, with timestamps aligned. SACK blocks that do not fit
 * behind the other options are left out.
 */
unsigned bw_tcp_header_write(
	uint8_t *out, uint16_t src_port_be, uint16_t dst_port_be, const struct bw_tcp_fields *fields);
/** The length that bw_tcp_header_write() would return. */
unsigned bw_tcp_header_len(const struct bw_tcp_fields *fields);

/**
 * Prepend an IP header (20 bytes of IPv4, don't-fragment set and id 0 per RFC 6864 unless `may_fragment`, or
 * 40 of IPv6) to a packet whose data starts with its upper protocol, and set l3_len, l4_len's neighbours in
 * the mbuf for offload: RTE_MBUF_F_TX_IPV4 or IPV6, l3_len. The IPv4 header checksum is computed here: it is
 * ten words that are in a register anyway.
 */
struct bw_ip_out {
	const struct bw_ip *src, *dst;
	uint8_t proto, ttl, tos;
	bool may_fragment; /* IPv4: clears DF */
	uint16_t id;       /* IPv4 identification, when may_fragment */
};
void bw_ip_prepend(struct rte_mbuf *m, const struct bw_ip_out *out);

/** Prepend the Ethernet header, with an 802.1Q tag when vlan is not 0, and set l2_len. */
void bw_eth_prepend(struct rte_mbuf *m, const struct bw_mac *src, const struct bw_mac *dst,
	uint16_t ethertype, uint16_t vlan);

/** Append an ARP packet (28 bytes) to an empty mbuf. */
void bw_arp_write(struct rte_mbuf *m, uint16_t opcode, const struct bw_mac *sender_mac,
	const struct bw_ip *sender, const struct bw_mac *target_mac, const struct bw_ip *target);

/* Flags of a neighbour advertisement (RFC 4861 section 4.4). */
#define BW_ND_SOLICITED 0x40
#define BW_ND_OVERRIDE  0x20

/** Append a neighbour solicitation or advertisement with its checksum; the IPv6 header comes later. */
struct bw_nd_out {
	uint8_t type;  /* ND_NEIGHBOR_SOLICIT or ND_NEIGHBOR_ADVERT of netinet/icmp6.h */
	uint8_t flags; /* of an advertisement: BW_ND_* */
	const struct bw_ip *src, *dst, *target;
	const struct bw_mac *link_addr; /* source or target link-layer option; NULL for none (DAD) */
};
void bw_nd_write(struct rte_mbuf *m, const struct bw_nd_out *nd);

/** Read ARP and ND. 0, or -EINVAL: malformed or not Ethernet/IPv4, hop limit not 255, options malformed. */
struct bw_arp_fields {
	uint16_t opcode;
	struct bw_mac sender_mac, target_mac;
	struct bw_ip sender, target;
};
int bw_arp_parse(const struct bw_pkt *pkt, struct bw_arp_fields *arp);

struct bw_nd_fields {
	uint8_t type, flags;
	bool has_link_addr;
	struct bw_mac link_addr;
	struct bw_ip target;
};
int bw_nd_parse(const struct bw_pkt *pkt, struct bw_nd_fields *nd);

/** The solicited-node group ff02::1:ffXX:XXXX of an address; the Ethernet address of a multicast group. */
struct bw_ip bw_ip6_solicited_node(const struct bw_ip *ip);
struct bw_mac bw_mac_of_multicast(const struct bw_ip *group);
/** The link-local address fe80::/64 that RFC 4291 appendix A derives from a MAC. */
struct bw_ip bw_ip6_link_local(const struct bw_mac *mac);

/**
 * Fill an empty mbuf with an ICMP or ICMPv6 error about `pkt`: header, then as much of the offending packet
 * from its IP header as the RFC allows (548 bytes after the headers for IPv4, RFC 1812 4.3.2.3; 1232 for
 * IPv6, RFC 4443 2.4). Checksum included. Ready for bw_ip_prepend().
 *
 * @param  the 32-bit field behind the checksum, host order: MTU, or pointer (ICMPv4 has it in the top byte)
 */
void bw_icmp_error_write(struct rte_mbuf *m, const struct bw_pkt *pkt, uint8_t type, uint8_t code,
	uint32_t param, const struct bw_ip *src, const struct bw_ip *dst);

/**
 * The flow and sequence number that a received ICMP error quotes, as seen from this host. 0, or -EINVAL: not
 * an error (redirects and source quench are none, RFC 6633), too short, neither TCP nor UDP, not the first
 * fragment, or not a packet of ours.
 */
struct bw_icmp_quote {
	struct bw_flow flow;
	uint8_t type, code, proto;
	bw_seq seq;   /* of the quoted TCP header; 0 for UDP */
	uint32_t mtu; /* of a too-big error; if it says none, what the packet's length suggests */
};
int bw_icmp_quote_parse(const struct bw_pkt *pkt, struct bw_icmp_quote *quote);
