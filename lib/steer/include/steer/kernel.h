/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * What the kernel knows of an interface that it shares with us: addresses, routes, neighbours, by rtnetlink(7). It is
 * the authority, and tells of changes; nothing here changes anything of it, nor needs a privilege.
 */
#pragma once

#include <base/addr.h>
#include <base/types.h>

struct bw_kernel;

#define BW_KERNEL_ADDRS_MAX  64
#define BW_KERNEL_ROUTES_MAX 4096

struct bw_kernel_route {
	struct bw_cidr prefix;
	struct bw_ip gateway; /* all zero: on the link. May be of the other family (RFC 5549) */
	struct bw_ip source;  /* to talk from, or all zero */
	uint32_t metric;
};

struct bw_kernel_network {
	bool is_there, is_up;
	uint16_t mtu;
	struct bw_mac mac;
	/* Those that may be used, in the kernel's order, deprecated ones last. */
	unsigned addr_count;
	struct bw_cidr addrs[BW_KERNEL_ADDRS_MAX];
	/* Unicast, out of this interface: longest prefix first, then lowest metric. */
	unsigned route_count;
	struct bw_kernel_route routes[BW_KERNEL_ROUTES_MAX];
	unsigned left_out; /* addresses and routes that there was no room for */
};

/**
 * @iface  Ethernet
 * @vlan   0, or the VLAN on it whose kernel interface is meant
 * 0, or -errno: -ENODEV when there is no such interface.
 */
int bw_kernel_open(const char *iface, uint16_t vlan, struct bw_kernel **kernel);
void bw_kernel_close(struct bw_kernel *kernel);

/** All as of now. 0 or -errno; an interface that is gone is no error: is_there. */
int bw_kernel_read(struct bw_kernel *kernel, struct bw_kernel_network *network);

struct bw_kernel_events {
	void (*network)(void *arg); /* link, address or route: read again */
	/** What a neighbour's address is now; mac NULL: not known. ip NULL: changes were lost, ask for all anew. */
	void (*neigh)(void *arg, const struct bw_ip *ip, const struct bw_mac *mac);
	void *arg;
};
/** Readable when there are events. */
int bw_kernel_fd(const struct bw_kernel *kernel);
/** Take some of what has come. Never blocks. Returns whether there may be more. */
bool bw_kernel_take(struct bw_kernel *kernel, const struct bw_kernel_events *events);

/**
 * The kernel's address for a neighbour. -ENOENT: it has none, and was made to find out or to make sure, as anything
 * that sends to it would: events tell what comes of it.
 */
int bw_kernel_neigh(struct bw_kernel *kernel, const struct bw_ip *ip, struct bw_mac *mac);
