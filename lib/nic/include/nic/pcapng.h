/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Packets as a file that Wireshark and tcpdump read: the blocks of a pcapng section with an interface a device, written
 * into memory. rte_pcapng, as of DPDK 22.11, has no comments, and these say why a packet was dropped.
 *
 * Source: draft-ietf-opsawg-pcapng.
 */
#pragma once

#include <nic/capture.h>

#define BW_PCAPNG_INTERFACES_MAX 8
#define BW_PCAPNG_HEAD_MAX       (2048u + BW_PCAPNG_INTERFACES_MAX * 2560u)
/** Of one packet: its block, with what is said of it. */
#define BW_PCAPNG_PACKET_MAX     (BW_CAPTURE_SNAPLEN_MAX + 512u)
#define BW_PCAPNG_TAIL_MAX       128u

struct bw_pcapng_conf {
	/* Cut where they are longer than 1 KiB. The filter: or NULL */
	const char *application, *interfaces[BW_PCAPNG_INTERFACES_MAX], *filter;
	unsigned interface_count;
	uint32_t snaplen;
};

/** Section and interfaces, of BW_PCAPNG_HEAD_MAX bytes at most. Returns how many. */
size_t bw_pcapng_head(const struct bw_pcapng_conf *conf, uint8_t *out);
/**
 * A packet with its interface, which is its device, its direction, its queue and, where it was dropped, why: BW_PCAPNG_PACKET_MAX bytes at most.
 * @at_ns  since 1970
 */
size_t bw_pcapng_packet(const struct bw_captured *packet, uint64_t at_ns, uint8_t *out);
/** What there was in all, of what the filter wanted: BW_PCAPNG_TAIL_MAX bytes at most. */
size_t bw_pcapng_tail(uint64_t began_ns, uint64_t ended_ns, uint64_t wanted, uint64_t lost, uint8_t *out);
