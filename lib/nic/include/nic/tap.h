/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * A TAP beside a port: the kernel's way to a link that DPDK has. Whoever opens it carries the frames, one a call; none of
 * its functions is for a worker's turn. Not net_tap, which is a port itself.
 */
#pragma once

#include <net/if.h>
#include <rte_mbuf.h>

#include <base/addr.h>
#include <base/types.h>

struct bw_tap_conf {
	const char *name;  /* 1 to 15 letters, digits, . _ - */
	struct bw_mac mac; /* the port's: the kernel answers with it who asks for its addresses */
	uint16_t mtu;      /* the port's */
	uint16_t vlan;     /* 0, or the VLAN of all packets: NAME.VLAN is made for it */
};

struct bw_tap {
	int fd; /* non-blocking; -1: closed */
	char name[IFNAMSIZ];
	unsigned index;       /* of the kernel's interface, or of that for the VLAN: it has the addresses */
	unsigned frame_bytes; /* the longest: MTU, Ethernet header and VLAN tag */
};

/**
 * Make it, or take one that nobody holds (`ip tuntap add`), whose addresses and routes stay as they are; set MAC, MTU
 * and up. Needs CAP_NET_ADMIN for one that is not there.
 * 0, or -errno after one line.
 */
int bw_tap_open(struct bw_tap *tap, const struct bw_tap_conf *conf);
/** One that was made goes away with it. @tap  opened or not */
void bw_tap_close(struct bw_tap *tap);

/** Give the kernel's end an address. 0, or -errno after one line. */
int bw_tap_add_addr(const struct bw_tap *tap, const struct bw_cidr *addr);
/**
 * ... and a route. Behind one for the same prefix that the kernel has already, through whatever interface: it is not for
 * us to take the machine's way out. 0, or -errno after one line.
 */
int bw_tap_add_route(const struct bw_tap *tap, const struct bw_cidr *prefix, const struct bw_ip *gateway);

/** Buffers that hold a whole frame each need so much room behind the headroom. */
unsigned bw_tap_room(const struct bw_tap *tap);
/**
 * One frame to the kernel; the mbuf stays the caller's. A VLAN tag that the device has taken out goes back in, and a TCP
 * or UDP checksum that its sender has left undone (RTE_MBUF_F_RX_L4_CKSUM_NONE) is done in the mbuf.
 * 0 or -errno: -EIO where the interface is down.
 */
int bw_tap_write(const struct bw_tap *tap, struct rte_mbuf *m);
/**
 * One frame of the kernel's, into an mbuf that is reset and has bw_tap_room(). 0, or -errno: -EAGAIN when there is none,
 * -EMSGSIZE for one that is longer than the port takes, which is lost.
 */
int bw_tap_read(const struct bw_tap *tap, struct rte_mbuf *m);
