/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Bytes to fields: one pass over a received packet's headers, Ethernet to TCP options. Stateless.
 *
 * Whatever the bytes are, the result is a kind: the packet is usable as that kind, or it is a drop with its
 * reason. Nothing after the parse reads a header without the bounds that the parse established.
 */
#pragma once

#include <rte_mbuf.h>

#include <base/addr.h>
#include <base/counters.h>
#include <base/seq.h>

#define BW_IP6_MTU_MIN 1280 /* RFC 8200 section 5 */

enum bw_pkt_kind {
	BW_PKT_DROP,         /* `drop` says why */
	BW_PKT_ARP,          /* l3_off: the ARP header, complete for Ethernet/IPv4 */
	BW_PKT_TCP,          /* `flow` and `tcp` are set */
	BW_PKT_UDP,          /* `flow` is set; payload_off and payload_len are the datagram */
	BW_PKT_ICMP4,        /* l4_off: the ICMP header; payload_len counts from there */
	BW_PKT_ICMP6,        /* likewise */
	BW_PKT_FRAGMENT,     /* IPv4 or IPv6 fragment: for reassembly, then bw_pkt_parse_ip(); see there */
	BW_PKT_BAD_PROTOCOL, /* IP for us, a protocol that we do not speak: ip_proto, for an ICMP error */
	BW_PKT_BAD_HEADER,   /* IPv6 for us, a drop that its sender is to hear of: `drop`, and problem_* */
};

/* TCP flags as on the wire. */
#define BW_TCP_FIN 0x01
#define BW_TCP_SYN 0x02
#define BW_TCP_RST 0x04
#define BW_TCP_PSH 0x08
#define BW_TCP_ACK 0x10
#define BW_TCP_URG 0x20
#define BW_TCP_ECE 0x40
#define BW_TCP_CWR 0x80

/* The low two bits of the TOS field or traffic class: RFC 3168 section 5. */
#define BW_ECN_MASK    0x03
#define BW_ECN_NOT_ECT 0x00
#define BW_ECN_ECT1    0x01
#define BW_ECN_ECT0    0x02
#define BW_ECN_CE      0x03

#define BW_SACK_BLOCKS_MAX 4

struct bw_sack_block {
	bw_seq left, right;
};

/** The fields of a TCP header with its options, host byte order. */
struct bw_tcp_fields {
	bw_seq seq, ack;
	uint16_t window; /* unscaled */
	uint16_t urgent;
	uint8_t flags;
	bool has_mss, has_wscale, has_timestamp, has_sack_permitted;
	uint8_t wscale;
	uint8_t sack_count; /* blocks in sack[] */
	uint16_t mss;
	uint32_t ts_value, ts_echo;
	struct bw_sack_block sack[BW_SACK_BLOCKS_MAX];
};

/** One received packet after its parse. Lives for one turn, on the worker's stack. */
struct bw_pkt {
	struct rte_mbuf *m;
	struct bw_flow flow;  /* ours as local; ports for TCP and UDP, zero otherwise */
	uint32_t hash;        /* bw_flow_hash(), for TCP and UDP */
	uint8_t kind;         /* enum bw_pkt_kind */
	uint8_t ip_version;   /* 4, 6, or 0 for ARP */
	uint8_t ip_proto;     /* the upper protocol, behind IPv6 extension headers */
	uint8_t ttl;          /* or hop limit */
	uint8_t tos;          /* or traffic class: ECN in the low two bits */
	bool is_to_multicast; /* destination MAC or IP is multicast or broadcast: no ICMP error, no RST */
	bool is_first_fragment;
	uint8_t problem_code; /* BW_PKT_BAD_HEADER: of the Parameter Problem */
	uint16_t problem_off; /* ... and where it points, from the start of the mbuf's data */
	uint16_t drop;        /* enum bw_counter when kind is BW_PKT_DROP or BW_PKT_BAD_HEADER */
	uint16_t l3_off, l4_off, payload_off; /* from the start of the mbuf's data */
	uint16_t l3_total_len; /* IP header to the end of the IP payload; the padding is trimmed off */
	uint16_t payload_len;
	uint16_t ip6_proto_field_off; /* IPv6: where the next-header byte that named ip_proto is */
	uint16_t fragment_off;        /* IPv6 fragments: where the fragment header is */
	struct bw_tcp_fields tcp;
};

/** What a parse needs to know about this host. Same for every packet of a worker. */
struct bw_wire_host {
	struct bw_mac mac;
	uint16_t vlan; /* 0: untagged only (and priority-tagged); else this VLAN only */
	/**
	 * Accept a TCP or UDP checksum field that holds only the first part of a checksum that an offloading
	 * sender left undone: the folded pseudo-header sum. Only for devices on which the sender is this very
	 * machine (veth): such packets never crossed a wire.
	 */
	bool accepts_partial_checksum;
	uint8_t addr_count;
	const struct bw_cidr *addrs; /* ours, IPv6 link-local included */
	const struct bw_cidr *range; /* all of whose addresses are ours, too; NULL: none */
};

/**
 * Parse one received packet. Trims padding off the mbuf's end. Reads only the first segment, in which the
 * headers must lie (else BW_DROP_RUNT); payload may continue in further segments.
 *
 * Checksums: taken from the mbuf's RX flags when the device verified them; verified here when they say
 * UNKNOWN or NONE; a flagged BAD is verified again here, as drivers are known to be wrong. With NONE, by
 * which a device vouches for the bytes although the field is unfinished, a partial checksum is accepted too.
 * ICMP's are always verified here.
 *
 * Destination: our MAC, broadcast, or a multicast group that we are in (all-nodes, solicited-node of our
 * addresses); then one of our IP addresses, broadcast, or such a group. Anything else is a drop. Sources
 * refused as martian: multicast, broadcast, loopback, unspecified (but for DAD), ours (land attack; but for a
 * neighbour advertisement, by which another host defends an address that we think is ours). So are
 * IPv4-mapped addresses in an IPv6 header, and a unicast IP address in a group's frame (RFC 1122 section
 * 3.3.6). TCP and UDP to a multicast or broadcast address: TCP dropped (martian), UDP dropped.
 *
 * @pkt  every field is set; `m` stays owned by the caller whatever the outcome
 * Cost: one cache line of headers in the common case, no allocation.
 * Source: RFC 791, 1122 3.2, 8200, 4443, 9293 3.1, 7323 2 and 3, 2018 3, 826, 4861.
 */
void bw_pkt_parse(struct rte_mbuf *m, const struct bw_wire_host *host, struct bw_pkt *pkt);

/**
 * The same from the IP header on, for a packet that reassembly put together: l3_off and MAC checks known, and
 * the IPv4 header checksum was verified in every fragment and is void in the whole.
 *
 * A BW_PKT_FRAGMENT is ready for rte_ipv4_frag_reassemble_packet() or rte_ipv6_frag_reassemble_packet(): its
 * padding is gone, l2_len and l3_len are set as these want them (IPv6: the fragment header counts as part of
 * l3_len), and an IPv6 fragment header directly follows the IPv6 header, as the library cannot do with
 * anything between them: extension headers there were examined and cut out. What no sender of good will makes
 * (too large a whole, a first fragment without its headers) is already refused. IPv6 fragments that are the
 * whole packet (RFC 6946) are no fragments here; the library would wait for their rest for ever.
 */
void bw_pkt_parse_ip(
	struct rte_mbuf *m, const struct bw_wire_host *host, uint16_t l3_off, struct bw_pkt *pkt);

/**
 * Fields of a TCP header of header_bytes (20 to 60). An option with a length that its kind has not is ignored, and so
 * is what lies behind a length that no option can have: RFC 9293 3.1, MUST-7.
 */
void bw_tcp_fields_parse(const uint8_t *header, unsigned header_bytes, struct bw_tcp_fields *fields);

/**
 * Symmetric hash of a flow under a secret: both directions give the same value, so it can choose the worker.
 * Keyed once at start so that a peer cannot aim at one bucket or one worker.
 */
void bw_flow_hash_seed(uint64_t seed);
uint32_t bw_flow_hash(const struct bw_flow *flow);
