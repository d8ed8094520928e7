/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Is a device the machine's way to everywhere? By rtnetlink(7), since /proc/net/route shows the main table alone.
 *
 * A device is, when the kernel has a default route through an interface that shares a device with it: itself, the bridge
 * or bond that it is a port of, the one that a VLAN or macvlan of either lies on. From each interface the links to what
 * it lies on or belongs to are followed; two that come to the same one share it.
 */
#include <dirent.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"

/* Two routes to half of all addresses each are one, too: VPNs set these over the real one. None of the longer is. */
#define DEFAULT_PREFIX_MAX 7
#define STACK_MAX          16 /* interfaces upon each other */
#define DEFAULTS_MAX       64 /* interfaces with such routes that are looked at; with more, any is taken for one */

struct set {
	unsigned count, max;
	bool is_over; /* more than max */
	unsigned index[DEFAULTS_MAX];
};

static bool holds(const struct set *set, unsigned index)
{
	for (unsigned i = 0; i < set->count; i++)
		if (set->index[i] == index)
			return true;
	return false;
}

static void add(struct set *set, unsigned index)
{
	if (index == 0 || holds(set, index))
		return;
	if (set->count == set->max)
		set->is_over = true;
	else
		set->index[set->count++] = index;
}

/* ---- routes ---------------------------------------------------------------------------------------------- */

static bool is_multicast(const struct rtmsg *route, const uint8_t *dst)
{
	return dst != NULL && (route->rtm_family == AF_INET ? dst[0] >> 4 == 0xe : dst[0] == 0xff);
}

static void add_next_hops(struct set *set, const struct rtattr *hops)
{
	const struct rtnexthop *hop = RTA_DATA(hops);
	int left = (int)RTA_PAYLOAD(hops);

	for (; RTNH_OK(hop, left); hop = RTNH_NEXT(hop)) {
		add(set, (unsigned)hop->rtnh_ifindex);
		left -= (int)RTNH_ALIGN(hop->rtnh_len);
	}
}

static void take_route(const struct nlmsghdr *message, void *arg)
{
	const struct rtmsg *route = NLMSG_DATA(message);
	struct rtattr *a, *out, *hops, *dst;
	int left = (int)RTM_PAYLOAD(message);
	uint32_t index;

	if (message->nlmsg_type != RTM_NEWROUTE || left < 0 || route->rtm_dst_len > DEFAULT_PREFIX_MAX ||
		route->rtm_type != RTN_UNICAST || (route->rtm_flags & RTM_F_CLONED) != 0 ||
		(route->rtm_family != AF_INET && route->rtm_family != AF_INET6))
		return;
	a = RTM_RTA(route);
	dst = bw_nic__rtattr(a, left, RTA_DST);
	if (is_multicast(route, dst != NULL ? RTA_DATA(dst) : NULL))
		return;
	out = bw_nic__rtattr(a, left, RTA_OIF);
	hops = bw_nic__rtattr(a, left, RTA_MULTIPATH);
	if (out != NULL) {
		memcpy(&index, RTA_DATA(out), sizeof(index));
		add(arg, index);
	}
	if (hops != NULL)
		add_next_hops(arg, hops);
}

/* ---- interfaces upon each other -------------------------------------------------------------------------- */

/* What the interface is made of or part of, itself included, within this namespace. */
static int stack_read(unsigned index, struct set *stack)
{
	*stack = (struct set){ .max = STACK_MAX };
	add(stack, index);
	for (unsigned i = 0; i < stack->count; i++) {
		unsigned below, master;
		int rc = bw_nic__iface_related(stack->index[i], &below, &master);

		if (rc != 0)
			return rc;
		add(stack, below);
		add(stack, master);
	}
	return 0;
}

static int shares_device(const struct set *stack, unsigned index)
{
	struct set other;
	int rc = stack_read(index, &other);

	if (rc != 0)
		return rc == -ENODEV ? 0 : rc; /* it went meanwhile */
	for (unsigned i = 0; i < other.count; i++)
		if (holds(stack, other.index[i]))
			return 1;
	return other.is_over;
}

int bw_nic__iface_has_default_route(const char *name)
{
	struct set stack, defaults = { .max = DEFAULTS_MAX };
	unsigned index = if_nametoindex(name);
	int rc;

	if (index == 0)
		return -ENODEV;
	rc = stack_read(index, &stack);
	if (rc == 0)
		rc = bw_nic__dump_routes(AF_INET, take_route, &defaults);
	if (rc == 0)
		rc = bw_nic__dump_routes(AF_INET6, take_route, &defaults);
	if (rc == 0 && (stack.is_over || defaults.is_over))
		return 1;
	for (unsigned i = 0; i < defaults.count && rc == 0; i++)
		rc = shares_device(&stack, defaults.index[i]);
	return rc;
}

/* ---- devices --------------------------------------------------------------------------------------------- */

/* The kernel's interface of a PCI device that has one beside DPDK's driver (mlx5 is such). Empty: it has none. */
static void pci_iface(const char *spec, char name[IFNAMSIZ])
{
	char path[96];
	struct dirent *entry;
	DIR *dir;

	name[0] = '\0';
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%.*s/net", (int)strcspn(spec, ","), spec);
	dir = opendir(path);
	while (dir != NULL && (entry = readdir(dir)) != NULL)
		if (entry->d_name[0] != '.')
			snprintf(name, IFNAMSIZ, "%.15s", entry->d_name);
	if (dir != NULL)
		closedir(dir);
}

int bw_nic_has_default_route(const struct bw_nic_plan *plan)
{
	char name[IFNAMSIZ];

	switch (plan->kind) {
	case BW_NIC_PACKET:
	case BW_NIC_XDP:
		return bw_nic__iface_has_default_route(plan->iface);
	case BW_NIC_PCI:
		pci_iface(plan->devargs, name);
		return name[0] != '\0' ? bw_nic__iface_has_default_route(name) : 0;
	case BW_NIC_VDEV: /* its arguments may name anything */
		return -EOPNOTSUPP;
	case BW_NIC_TAP: /* a new interface */
	case BW_NIC_MEMIF:
	case BW_NIC_RING:
	case BW_NIC_PCAP:
		break; /* none of the kernel's */
	}
	return 0;
}
