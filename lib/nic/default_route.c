/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Is a device the machine's way to everywhere? By rtnetlink(7), since /proc/net/route shows the main table alone.
 *
 * A device is, when the kernel has a default route through an interface that hangs together with it: itself, the bridge
 * or bond that it is a port of, the other ports, what a VLAN or macvlan of any lies on, the other end of a veth. All
 * edges between the interfaces of this namespace are followed, either way. Of some kinds it cannot be seen where their
 * packets go (tunnels, Open vSwitch): while there is a default route, they are taken for a part of it.
 */
#include <errno.h>
#include <limits.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

/* Two routes to half of all addresses each are one, too: VPNs set these over the real one. None of the longer is. */
#define DEFAULT_PREFIX_MAX 7
#define LINKS_MAX          4096
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
	if (out == NULL &&
		hops == NULL) /* a next-hop object's number alone: net.ipv4.nexthop_compat_mode is 0 */
		((struct set *)arg)->is_over = true;
}

/* ---- interfaces upon each other -------------------------------------------------------------------------- */

/* All links of this namespace, and whether they hang together with the device. */
struct links {
	unsigned count;
	bool is_over; /* more than there is room for */
	struct link {
		struct bw_nic__link is;
		bool is_joined;
	} link[LINKS_MAX];
};

static void take_link(const struct bw_nic__link *link, void *arg)
{
	struct links *links = arg;

	if (links->count == LINKS_MAX)
		links->is_over = true;
	else
		links->link[links->count++] = (struct link){ .is = *link };
}

static struct link *link_of(struct links *links, unsigned index)
{
	for (unsigned i = 0; i < links->count; i++)
		if (index != 0 && links->link[i].is.index == index)
			return &links->link[i];
	return NULL;
}

/* Whichever way an edge points, both of its ends are of one piece. Returns whether there was one more. */
static bool join(struct links *links, struct link *link, unsigned other_index)
{
	struct link *other = link_of(links, other_index);

	if (other == NULL || link->is_joined == other->is_joined)
		return false;
	link->is_joined = other->is_joined = true;
	return true;
}

static void join_all(struct links *links, unsigned index)
{
	struct link *own = link_of(links, index);
	bool is_more = own != NULL;

	if (own != NULL)
		own->is_joined = true;
	while (is_more) {
		is_more = false;
		for (unsigned i = 0; i < links->count; i++) {
			is_more |= join(links, &links->link[i], links->link[i].is.below);
			is_more |= join(links, &links->link[i], links->link[i].is.master);
		}
	}
}

static bool leads_out(struct links *links, const struct set *defaults)
{
	for (unsigned i = 0; i < links->count; i++) {
		const struct link *link = &links->link[i];

		if (link->is_joined && (link->is.is_opaque || holds(defaults, link->is.index)))
			return true;
	}
	return links->is_over || defaults->is_over;
}

int bw_nic__iface_has_default_route(const char *name)
{
	struct set defaults = { .max = DEFAULTS_MAX };
	unsigned index = if_nametoindex(name);
	struct links *links;
	int rc;

	if (index == 0)
		return -ENODEV;
	links = calloc(1, sizeof(*links));
	if (links == NULL)
		return -ENOMEM;
	rc = bw_nic__dump_links(take_link, links);
	if (rc == 0)
		rc = bw_nic__dump_routes(AF_INET, take_route, &defaults);
	if (rc == 0)
		rc = bw_nic__dump_routes(AF_INET6, take_route, &defaults);
	if (rc == 0) {
		join_all(links, index);
		/* Where there is no default route, nothing leads to one. */
		rc = (defaults.count > 0 || defaults.is_over) && leads_out(links, &defaults);
	}
	free(links);
	return rc;
}

/* ---- devices --------------------------------------------------------------------------------------------- */

static int interface_has(const char *path, const char *name, void *arg)
{
	return bw_nic__iface_has_default_route(name);
}

/* The kernel's interfaces of a device: of a function of a NIC, beside DPDK's driver where it is such (mlx5). */
static int function_has(const char *path, const char *name, void *arg)
{
	char function[PATH_MAX + NAME_MAX + 1];

	snprintf(function, sizeof(function), "%s/%s", path, name);
	return bw_nic__each_iface(function, interface_has, NULL);
}

int bw_nic__function_has_default_route(const char *path)
{
	const int rc = function_has(path, ".", NULL);

	return rc == 0 ? bw_nic__each_entry(path, "virtfn", function_has, NULL) : rc;
}

int bw_nic__device_has_default_route(const char *path)
{
	char physical[PATH_MAX];
	int rc = function_has(path, ".", NULL);

	/* SR-IOV: behind all functions of a NIC is one switch, and its port. */
	snprintf(physical, sizeof(physical), "%s/physfn", path);
	if (access(physical, F_OK) != 0)
		snprintf(physical, sizeof(physical), "%s", path);
	if (rc == 0)
		rc = function_has(physical, ".", NULL);
	return rc == 0 ? bw_nic__each_entry(physical, "virtfn", function_has, NULL) : rc;
}

static int pci_has_default_route(const char *spec)
{
	char path[96];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%.*s", (int)strcspn(spec, ","), spec);
	return bw_nic__device_has_default_route(path);
}

static int kernel_device_has_default_route(const char *iface)
{
	int rc = bw_nic__iface_has_default_route(iface);
	char path[96];

	snprintf(path, sizeof(path), "/sys/class/net/%s/device", iface);
	return rc == 0 ? bw_nic__device_has_default_route(path) : rc;
}

static int bond_has_default_route(const struct bw_nic_plan *plan)
{
	int rc = 0;

	for (unsigned i = 0; i < plan->member_count && rc != 1; i++) {
		const int member = bw_nic__is_pci_member(plan, i) ? pci_has_default_route(plan->members[i])
								  : -EOPNOTSUPP;

		rc = member != 0 ? member : rc;
	}
	return rc;
}

int bw_nic_has_default_route(const struct bw_nic_plan *plan)
{
	switch (plan->kind) {
	case BW_NIC_PACKET:
	case BW_NIC_XDP:
		return kernel_device_has_default_route(plan->iface);
	case BW_NIC_PCI:
		return pci_has_default_route(plan->devargs);
	case BW_NIC_BOND:
		return bond_has_default_route(plan);
	case BW_NIC_VDEV: /* its arguments may name anything */
		return -EOPNOTSUPP;
	case BW_NIC_TAP: /* a new interface */
	case BW_NIC_MEMIF:
	case BW_NIC_VHOST:
	case BW_NIC_VIRTIO:
	case BW_NIC_RING:
	case BW_NIC_PCAP:
		break; /* none of the kernel's */
	}
	return 0;
}
