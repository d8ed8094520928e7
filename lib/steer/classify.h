/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Which stack is a packet for? Runs in the kernel, on every packet of the interface; xdp.bpf.c and skb.bpf.c are the
 * programs, and bring load() and vlan_of() for what a packet is to them.
 *
 * Barewire's are whole addresses, which the kernel does not have, and ports of addresses that it has (layout.h): those
 * of listeners, and a range for what Barewire opens itself. With a port go the ICMP errors that quote it and the
 * fragments behind a first one with it. The kernel keeps everything else, unchanged, and whatever is in doubt: a
 * header that is cut off, a chain of extension headers that does not end, a fragment that came before the first.
 *
 * Rules and limits are another matter: a source is judged as soon as it has been read, whoever the packet is for and
 * whatever follows. Otherwise one header too many would be the way around them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "layout.h"

/* linux/icmp.h, icmpv6.h, if_arp.h and if_packet.h want the C library's headers, which are not for this processor. */
#define ICMP_DEST_UNREACH   3
#define ICMP_SOURCE_QUENCH  4
#define ICMP_TIME_EXCEEDED  11
#define ICMP_PARAMETERPROB  12
#define ICMPV6_ECHO_REQUEST 128 /* below are the errors: RFC 4443 section 2.1 */
#define ICMP_HEADER_BYTES   8
#define ND_SOLICIT          135
#define ND_ADVERT           136
#define ARP_HEADER_BYTES    8

#define EXT_HEADERS_MAX 8
#define TAGS_MAX        2
#define FRAGMENT_NS     60000000000ull /* as long as a datagram may wait for its last one (RFC 8200 4.5) */
/* No header that matters begins further in. */
#define OFF_MAX         1024u

#define MAP(name_, type_, key_, value_, max_)                                                                \
	struct {                                                                                             \
		__uint(type, type_);                                                                         \
		__uint(max_entries, max_);                                                                   \
		__type(key, key_);                                                                           \
		__type(value, value_);                                                                       \
	} name_ SEC(".maps")

MAP(addresses, BPF_MAP_TYPE_HASH, struct steer_ip, __u32, 128);
MAP(ports, BPF_MAP_TYPE_HASH, struct steer_port, __u32, 4096);
MAP(fragments, BPF_MAP_TYPE_LRU_HASH, struct steer_fragment, __u64, 4096); /* since when, ns */
MAP(sources, BPF_MAP_TYPE_LRU_PERCPU_HASH, struct steer_ip, struct steer_source, 65536);
MAP(counts, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u64, STEER_COUNTS);

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1 << 20);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct steer_rule);
	__type(value, __u32);
} rules SEC(".maps");

volatile struct steer_knobs knobs = { 0 };

/* ---- reading ----------------------------------------------------------------------------------------------- */

struct packet {
	void *ctx;
	__u32 l3_off;
	__u16 ethertype; /* host order, behind the VLAN tag */
	__u8 proto;
	bool is_for_us;  /* by its VLAN and the host that it is addressed to */
	bool has_source; /* src and dst are read */
	bool is_fragment, is_first;
	__u32 fragment_id;
	__u32 l4_off;
	struct steer_ip src, dst;
};

/** Copy out of the packet; `bytes` is a constant. 0, or not 0: the packet ends before, or it is too far in. */
static __always_inline long load(const struct packet *p, __u32 off, void *to, __u32 bytes);
/** Of a tag that the device has taken out of the bytes; 0: none. */
static __always_inline __u16 vlan_of(const struct packet *p);

static __always_inline void map_ip4(struct steer_ip *ip, __u32 addr_be)
{
	ip->w_be[0] = ip->w_be[1] = 0;
	ip->w_be[2] = bpf_htonl(0xffff);
	ip->w_be[3] = addr_be;
}

static __always_inline void copy_ip6(struct steer_ip *ip, const struct in6_addr *addr)
{
	__builtin_memcpy(ip, addr, sizeof(*ip));
}

struct vlan_tag {
	__u16 tci_be, ethertype_be;
};

/** Ethernet and VLAN tags, of which ours has one at most. False: cut off. */
static __always_inline bool read_frame(struct packet *p)
{
	struct ethhdr eth;
	__u16 vlan = vlan_of(p);
	__u32 tags = vlan != 0;

	if (load(p, 0, &eth, sizeof(eth)))
		return false;
	p->l3_off = sizeof(eth);
	p->ethertype = bpf_ntohs(eth.h_proto);
	for (int i = 0; i < TAGS_MAX && (p->ethertype == ETH_P_8021Q || p->ethertype == ETH_P_8021AD); i++) {
		struct vlan_tag tag;

		if (load(p, p->l3_off, &tag, sizeof(tag)))
			return false;
		vlan |= bpf_ntohs(tag.tci_be) & 0xfff;
		tags += p->ethertype == ETH_P_8021Q ? 1 : 2; /* a provider's is none of ours */
		p->ethertype = bpf_ntohs(tag.ethertype_be);
		p->l3_off += sizeof(tag);
	}
	p->is_for_us = tags <= 1 && vlan == knobs.vlan;
	if (eth.h_dest[0] & 1)
		return true;
	for (int i = 0; i < ETH_ALEN; i++)
		p->is_for_us &= eth.h_dest[i] == knobs.mac[i];
	return true;
}

static __always_inline bool read_ip4(struct packet *p, __u32 off)
{
	struct iphdr ip;

	if (load(p, off, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
		return false;
	map_ip4(&p->src, ip.saddr);
	map_ip4(&p->dst, ip.daddr);
	p->has_source = true;
	p->proto = ip.protocol;
	p->l4_off = off + ip.ihl * 4;
	p->is_first = (ip.frag_off & bpf_htons(0x1fff)) == 0;
	p->is_fragment = !p->is_first || (ip.frag_off & bpf_htons(0x2000)) != 0;
	p->fragment_id = ip.id;
	return true;
}

struct ip6_ext {
	__u8 next, len;
	__u16 fragment_off_be;
	__u32 fragment_id;
};

static __always_inline bool read_ip6(struct packet *p, __u32 off)
{
	struct ipv6hdr ip;

	if (load(p, off, &ip, sizeof(ip)) || ip.version != 6)
		return false;
	copy_ip6(&p->src, &ip.saddr);
	copy_ip6(&p->dst, &ip.daddr);
	p->has_source = true;
	p->proto = ip.nexthdr;
	p->l4_off = off + sizeof(ip);
	p->is_first = true;
	p->is_fragment = false;
	p->fragment_id = 0;
	for (int i = 0; i < EXT_HEADERS_MAX; i++) {
		struct ip6_ext ext;
		__u32 bytes;

		if (p->proto != IPPROTO_HOPOPTS && p->proto != IPPROTO_ROUTING &&
			p->proto != IPPROTO_DSTOPTS && p->proto != IPPROTO_FRAGMENT)
			return true; /* lib/wire knows no others: what has AH is the kernel's */
		if (load(p, p->l4_off, &ext, sizeof(ext)))
			return false;
		bytes = (ext.len + 1u) * 8;
		if (p->proto == IPPROTO_FRAGMENT) {
			bytes = sizeof(ext);
			p->is_first = (ext.fragment_off_be & bpf_htons(0xfff8)) == 0;
			p->is_fragment = !p->is_first || (ext.fragment_off_be & bpf_htons(1)) != 0;
			p->fragment_id = ext.fragment_id;
		}
		p->proto = ext.next;
		p->l4_off += bytes;
		if (!p->is_first) /* what follows is a piece of the middle */
			return true;
	}
	return false;
}

/* ---- whose? ------------------------------------------------------------------------------------------------ */

static __always_inline __u32 share_of(const struct steer_ip *addr)
{
	__u32 *share = bpf_map_lookup_elem(&addresses, addr);
	bool is_in = knobs.mask.w_be[0] != 0;

	if (share)
		return *share;
	for (int i = 0; i < 4; i++)
		is_in &= (addr->w_be[i] & knobs.mask.w_be[i]) == knobs.prefix.w_be[i];
	return is_in ? STEER_WHOLE : 0;
}

static __always_inline bool is_our_port(const struct steer_ip *addr, __u8 proto, __u16 port_be)
{
	struct steer_port key = { .addr = *addr, .port_be = port_be, .proto = proto };
	__u16 port = bpf_ntohs(port_be);

	if (proto != IPPROTO_TCP && proto != IPPROTO_UDP)
		return false;
	return (port >= knobs.range_first && port <= knobs.range_last && knobs.range_first != 0) ||
	       bpf_map_lookup_elem(&ports, &key);
}

struct l4_ports {
	__u16 source_be, dest_be;
};

/** An ICMP error goes where the packet that it quotes came from. */
static __always_inline bool quotes_ours(struct packet *p)
{
	struct packet quoted = { .ctx = p->ctx };
	struct l4_ports l4;
	__u8 type;
	bool is_read;

	if (load(p, p->l4_off, &type, sizeof(type)))
		return false;
	if (p->proto == IPPROTO_ICMP) {
		if (type != ICMP_DEST_UNREACH && type != ICMP_SOURCE_QUENCH && type != ICMP_TIME_EXCEEDED &&
			type != ICMP_PARAMETERPROB)
			return false;
		is_read = read_ip4(&quoted, p->l4_off + ICMP_HEADER_BYTES);
	} else {
		if (type >= ICMPV6_ECHO_REQUEST)
			return false;
		is_read = read_ip6(&quoted, p->l4_off + ICMP_HEADER_BYTES);
	}
	return is_read && quoted.is_first && !load(&quoted, quoted.l4_off, &l4, sizeof(l4)) &&
	       is_our_port(&quoted.src, quoted.proto, l4.source_be);
}

static __always_inline bool is_port_ours(struct packet *p)
{
	/* In IPv6 the first may have more headers than those that follow, which say something else comes next. */
	struct steer_fragment key = { .src = p->src,
		.dst = p->dst,
		.id = p->fragment_id,
		.proto = p->ethertype == ETH_P_IP ? p->proto : 0 };
	__u64 now = bpf_ktime_get_ns(), *since;
	struct l4_ports l4;
	bool ours;

	if (p->is_fragment && !p->is_first) {
		since = bpf_map_lookup_elem(&fragments, &key);
		return since && now - *since < FRAGMENT_NS;
	}
	if (p->proto == IPPROTO_ICMP || p->proto == IPPROTO_ICMPV6)
		return quotes_ours(p);
	ours = !load(p, p->l4_off, &l4, sizeof(l4)) && is_our_port(&p->dst, p->proto, l4.dest_be);
	if (p->is_fragment && ours)
		bpf_map_update_elem(&fragments, &key, &now, BPF_ANY);
	else if (p->is_fragment) /* of another datagram that has got the same number */
		bpf_map_delete_elem(&fragments, &key);
	return ours;
}

struct arp_addresses {
	__u8 sender_mac[ETH_ALEN];
	__u8 sender[4];
	__u8 target_mac[ETH_ALEN];
	__u8 target[4];
};

static __always_inline bool is_arp_ours(struct packet *p)
{
	struct arp_addresses arp;
	struct steer_ip ip;
	__u32 addr_be;

	if (load(p, p->l3_off + ARP_HEADER_BYTES, &arp, sizeof(arp)))
		return false;
	__builtin_memcpy(&addr_be, arp.target, sizeof(addr_be));
	map_ip4(&ip, addr_be);
	if (share_of(&ip) == STEER_WHOLE)
		return true;
	__builtin_memcpy(&addr_be, arp.sender, sizeof(addr_be)); /* another host that claims it */
	map_ip4(&ip, addr_be);
	return share_of(&ip) == STEER_WHOLE;
}

/** Neighbour discovery for an address of ours comes to its group, and claims of it to all nodes. */
static __always_inline bool is_group_packet_ours(struct packet *p)
{
	struct {
		__u8 type, rest[ICMP_HEADER_BYTES - 1];
		struct steer_ip target;
	} nd;

	return p->proto == IPPROTO_ICMPV6 && !load(p, p->l4_off, &nd, sizeof(nd)) &&
	       (nd.type == ND_SOLICIT || nd.type == ND_ADVERT) && share_of(&nd.target) == STEER_WHOLE;
}

static __always_inline bool is_ours(struct packet *p)
{
	__u32 share;

	if (p->ethertype == ETH_P_IPV6 && *(const __u8 *)&p->dst == 0xff)
		return is_group_packet_ours(p);
	share = share_of(&p->dst);
	return share == STEER_WHOLE || (share == STEER_PORTS && is_port_ours(p));
}

/* ---- defence ------------------------------------------------------------------------------------------------ */

/** One packet more; in `due_at` is remembered that it came. */
static __always_inline bool is_too_soon(__u64 *due_at, __u64 now, __u64 interval_ns, __u64 slack_ns)
{
	if (*due_at < now)
		*due_at = now;
	if (*due_at - now > slack_ns)
		return true;
	*due_at += interval_ns;
	return false;
}

static __always_inline bool is_syn(struct packet *p)
{
	__u8 flags;

	if (p->proto != IPPROTO_TCP || !p->is_first)
		return false;
	if (load(p, p->l4_off + 13, &flags, sizeof(flags)))
		return p->is_fragment; /* cut so that it does not show */
	return (flags & 0x12) == 0x02; /* not with ACK */
}

/** STEER_BLOCKED, STEER_SYN_RATE, STEER_PACKET_RATE, or STEER_PASSED. */
static __always_inline __u32 judge(struct packet *p)
{
	struct steer_ip key = p->src;
	struct steer_source *source;
	__u64 now;

	if (knobs.has_rules) {
		struct steer_rule rule = {
			.prefix_len = 160, .family = p->ethertype == ETH_P_IP ? 4 : 6, .addr = p->src
		};
		__u32 *action = bpf_map_lookup_elem(&rules, &rule);

		if (action)
			return *action == STEER_BLOCK ? STEER_BLOCKED : STEER_PASSED;
	}
	if (knobs.syn.interval_ns == 0 && knobs.packet.interval_ns == 0)
		return STEER_PASSED;
	if (p->ethertype == ETH_P_IPV6) /* a subscriber has a /64, at least */
		key.w_be[2] = key.w_be[3] = 0;
	source = bpf_map_lookup_elem(&sources, &key);
	if (!source) {
		struct steer_source none = { 0 };

		bpf_map_update_elem(&sources, &key, &none, BPF_ANY);
		source = bpf_map_lookup_elem(&sources, &key);
		if (!source)
			return STEER_PASSED;
	}
	now = bpf_ktime_get_ns();
	if (knobs.packet.interval_ns != 0 &&
		is_too_soon(&source->packet_due_at, now, knobs.packet.interval_ns, knobs.packet.slack_ns))
		return STEER_PACKET_RATE;
	if (knobs.syn.interval_ns != 0 && is_syn(p) &&
		is_too_soon(&source->syn_due_at, now, knobs.syn.interval_ns, knobs.syn.slack_ns))
		return STEER_SYN_RATE;
	return STEER_PASSED;
}

static __always_inline void count(__u32 which)
{
	__u64 *value = bpf_map_lookup_elem(&counts, &which);

	if (value)
		++*value;
}

/** What to do with a packet: STEER_TAKEN, STEER_PASSED, or why it is dropped. */
static __always_inline __u32 decide(struct packet *p, bool judges_ours, bool judges_others)
{
	bool is_read, ours = false;
	__u32 verdict;

	if (!read_frame(p))
		return STEER_PASSED;
	if (p->ethertype == ETH_P_ARP)
		return p->is_for_us && is_arp_ours(p) ? STEER_TAKEN : STEER_PASSED;
	if (p->ethertype == ETH_P_IP)
		is_read = read_ip4(p, p->l3_off);
	else if (p->ethertype == ETH_P_IPV6)
		is_read = read_ip6(p, p->l3_off);
	else
		return STEER_PASSED;
	if (!p->has_source)
		return STEER_PASSED;
	if (judges_ours && judges_others) { /* first what costs least */
		verdict = judge(p);
		if (verdict != STEER_PASSED)
			return verdict;
		return p->is_for_us && is_read && is_ours(p) ? STEER_TAKEN : STEER_PASSED;
	}
	ours = p->is_for_us && is_read && is_ours(p);
	if (ours ? judges_ours : judges_others) {
		verdict = judge(p);
		if (verdict != STEER_PASSED)
			return verdict;
	}
	return ours ? STEER_TAKEN : STEER_PASSED;
}

char program_license[] SEC("license") = "Dual BSD/GPL";
