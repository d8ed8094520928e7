/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * One interface, two stacks: programs in the kernel that give Barewire its packets and leave the kernel all others.
 *
 *     bw_steer_open(&conf, &steer);     attached, and everything still passes; before the device's sockets are made
 *     bw_steer_own(steer, &owned);      any time, any number of times: from here on these are Barewire's
 *     bw_steer_close(steer);
 *
 * What is attached hangs on a link of the kernel's (BPF_LINK_CREATE), a file descriptor of this process: however the
 * process ends, the interface is the kernel's again. Control plane only: no function here is for a worker's turn.
 */
#pragma once

#include <net/if.h>
#include <stdio.h>

#include <base/addr.h>
#include <base/types.h>

struct bw_steer;

enum bw_steer_hook {
	BW_STEER_XDP, /* AF_XDP sockets: before the kernel has made a packet of it */
	BW_STEER_TC,  /* AF_PACKET sockets: these get a copy, and the kernel does not; Linux 6.6 */
};

struct bw_steer_conf {
	const char *spec;  /* --dev, for messages */
	const char *iface; /* Ethernet, up */
	enum bw_steer_hook hook;
};

/**
 * Load the programs and attach them. Needs CAP_BPF and CAP_NET_ADMIN, or root.
 * 0, or -errno after one line: -EBUSY for another program that is there, which it names.
 */
int bw_steer_open(const struct bw_steer_conf *conf, struct bw_steer **steer);
/** The interface is the kernel's alone. Nothing of it stays. */
void bw_steer_close(struct bw_steer *steer);

/** In words: "XDP in the driver", "XDP behind the driver (generic)", which is slower, or "tc". */
const char *bw_steer_how(const struct bw_steer *steer);
/** TC: the filter for SO_ATTACH_BPF of the packet sockets; else -1. Stays the steer's. */
int bw_steer_socket_filter(const struct bw_steer *steer);

#define BW_STEER_ADDRS_MAX 128
#define BW_STEER_PORTS_MAX 4096

struct bw_steer_addr {
	struct bw_ip ip;
	bool is_whole; /* the kernel does not have it: all of it is ours, ARP and NDP included; else ports of it */
};

struct bw_steer_port {
	struct bw_ip ip; /* one of those that are not whole */
	uint8_t proto;   /* IPPROTO_TCP or IPPROTO_UDP */
	uint16_t port;
};

/** What is Barewire's. */
struct bw_steer_owned {
	struct bw_mac mac; /* that packets for us are addressed to */
	uint16_t vlan;     /* 0: untagged */
	const struct bw_steer_addr *addrs;
	unsigned addr_count;
	const struct bw_steer_port *ports;
	unsigned port_count;
	uint16_t range_first,
		range_last;    /* local ports of what we open from addresses that are shared; 0: none */
	struct bw_cidr prefix; /* all of whose addresses are ours whole; a prefix_len of 0: none */
};

/**
 * Instead of what was before. What is in both stays Barewire's throughout; a port that moves is one update of a map.
 * 0, or -errno after one line; then some of it may be in force.
 */
int bw_steer_own(struct bw_steer *steer, const struct bw_steer_owned *owned);

/* ---- defence: what a source may send, whichever stack it is for ----------------------------------------------- */

enum bw_steer_verdict {
	BW_STEER_BLOCK,
	BW_STEER_ALLOW, /* although a shorter prefix is blocked, and without limits */
};

/** The longest prefix that holds a source decides. 0, or -errno after one line. Replaces what the prefix had. */
int bw_steer_rule(struct bw_steer *steer, const struct bw_cidr *source, enum bw_steer_verdict verdict);
/** 0, or -ENOENT: there was no rule for exactly this prefix. */
int bw_steer_rule_remove(struct bw_steer *steer, const struct bw_cidr *source);
/** Each rule, in no order. */
void bw_steer_rules(struct bw_steer *steer,
	void (*take)(const struct bw_cidr *source, enum bw_steer_verdict verdict, void *arg), void *arg);

/** Of one source, an IPv4 address or an IPv6 /64, on one CPU of those that receive. 0: as many as come. */
struct bw_steer_limits {
	uint32_t syns_per_s, packets_per_s; /* a tenth of a second's worth may come at once, 16 at least */
};
void bw_steer_limit(struct bw_steer *steer, const struct bw_steer_limits *limits);
void bw_steer_limits_get(const struct bw_steer *steer, struct bw_steer_limits *limits);

/** Packets since the start. */
enum bw_steer_counter {
	BW_STEER_PASSED,      /* to the kernel */
	BW_STEER_TAKEN,       /* to Barewire */
	BW_STEER_BLOCKED,     /* by a rule */
	BW_STEER_SYN_RATE,    /* beyond a source's SYNs a second */
	BW_STEER_PACKET_RATE, /* beyond a source's packets a second */
	BW_STEER_NO_SOCKET,   /* Barewire's, on a queue without a worker */
	BW_STEER_COUNTERS,
};
extern const char *const bw_steer_counter_name[BW_STEER_COUNTERS];
extern const char *const bw_steer_counter_help[BW_STEER_COUNTERS];
void bw_steer_counters(const struct bw_steer *steer, uint64_t counters[BW_STEER_COUNTERS]);
