/* SPDX-License-Identifier: BSD-3-Clause */
/** What the programs in the kernel (steer.bpf.c) and their loader (steer.c) both know: the keys and values of maps. */
#pragma once

#include <linux/types.h>

/** IPv4 as IPv4-mapped IPv6, as everywhere in Barewire. Network order. */
struct steer_ip {
	__u32 w_be[4];
};

/** Of an address, what is Barewire's. */
enum steer_share {
	STEER_PORTS = 1, /* those in `ports` and the range; the rest, ARP and NDP among it, is the kernel's */
	STEER_WHOLE = 2, /* everything, ARP and NDP for it included: the kernel does not have the address */
};

/** Key of `ports`: of an address that is shared. */
struct steer_port {
	struct steer_ip addr;
	__u16 port_be;
	__u8 proto; /* IPPROTO_TCP or IPPROTO_UDP */
	__u8 zero;
};

/** Key of `fragments`: of a datagram whose first fragment had ports of ours. */
struct steer_fragment {
	struct steer_ip src, dst;
	__u32 id;
	__u32 proto;
};

/**
 * Key of `rules`: an LPM trie, whose longest prefix decides. The family comes first, so that no rule for IPv6, not even
 * ::/0, is one for mapped addresses; its 32 bits, and the 96 of an IPv4 address, count.
 */
struct steer_rule {
	__u32 prefix_len;
	__u32 family; /* 4 or 6 */
	struct steer_ip addr;
};

enum steer_action {
	STEER_BLOCK = 1,
	STEER_ALLOW = 2, /* neither blocked by a shorter prefix nor limited */
};

/** Value of `sources`, a CPU's own: when the next packet would be due if they came evenly (GCRA, ITU-T I.371). */
struct steer_source {
	__u64 syn_due_at, packet_due_at; /* ns of CLOCK_MONOTONIC */
};

/** 0 for the interval: no limit. */
struct steer_limit {
	__u64 interval_ns; /* of packets that come evenly at the rate that is allowed */
	__u64 slack_ns;    /* how far ahead of that a burst may be */
};

/** The loader writes these into the programs' memory while they run. */
struct steer_knobs {
	struct steer_limit syn, packet; /* a source */
	struct steer_ip prefix, mask;   /* of addresses that are ours whole; no mask: none */
	__u32 has_rules;                /* else nobody need look */
	__u16 vlan;                     /* 0: untagged */
	__u16 range_first,
		range_last; /* local TCP and UDP ports of what Barewire opens, of shared addresses; 0: none */
	__u8 mac[6];        /* frames to others are the kernel's to drop */
	__u8 zero[2];
};

/** Counters, a CPU's own; bw_steer_counter says what they count. */
enum steer_count {
	STEER_PASSED,
	STEER_TAKEN,
	STEER_BLOCKED,
	STEER_SYN_RATE,
	STEER_PACKET_RATE,
	STEER_NO_SOCKET,
	STEER_COUNTS,
};
