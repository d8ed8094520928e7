/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Which stack is a packet for, where no program in the kernel has decided it: lib/steer/classify.h says what is ours of
 * addresses that are shared, and this is the same in userspace. Ports of listeners and a range for what we open; with
 * them the ICMP errors that quote one and the fragments behind a first one. All else is the kernel's, and so is what is
 * in doubt: a header that is cut off, a chain of extension headers that does not end, a fragment before the first.
 *
 * It looks at the bytes as they came, before the parse, which changes some and refuses others. One a worker, without
 * locks: a device spreads fragments by their addresses, all of a datagram to the same queue.
 */
#pragma once

#include <rte_mbuf.h>

#include <base/addr.h>
#include <base/types.h>

/* Datagrams that are remembered: in each of so many places a few, of which the oldest makes room. */
#define BW_CLAIM_SETS 256
#define BW_CLAIM_WAYS 4

struct bw_engine_conf;
struct bw_engine_service;
struct bw_network;

struct bw_claims {
	uint16_t vlan;                    /* 0: untagged */
	uint16_t range_first, range_last; /* local TCP and UDP ports of what is opened; 0: none */
	unsigned port_count;
	struct bw_claim_port {
		uint16_t port_be;
		uint8_t proto;
		const struct bw_engine_service *service;
	} ports[32];
	struct bw_claim_fragment {
		struct bw_ip src, dst;
		uint32_t id, proto;
		bw_ns since; /* 0: none */
	} fragments[BW_CLAIM_SETS][BW_CLAIM_WAYS];
};

/**
 * @conf      outlives it
 * @vlan      of the device; 0: untagged
 * @connects  does any service open connections?
 */
void bw_claims_init(
	struct bw_claims *claims, const struct bw_engine_conf *conf, uint16_t vlan, bool connects);

/** ARP, or neighbour discovery in its plain form, as it is always sent. Reads the first segment only. */
bool bw_claims_is_about_neighbours(const struct rte_mbuf *m);

/**
 * Is the frame ours? Reads the first segment only, changes nothing of the packet, and remembers a first fragment.
 * @network  whose addresses are shared
 * Cost: a few ns; no allocation.
 */
bool bw_claims_is_ours(
	struct bw_claims *claims, const struct bw_network *network, const struct rte_mbuf *m, bw_ns now);
