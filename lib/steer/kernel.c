/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libmnl/libmnl.h>

#include <base/log.h>
#include <steer/kernel.h>

#define ASK_BYTES      512
#define ANSWER_BYTES   65536
#define DISCARD_PORT   9 /* RFC 863 */
#define DUMPS_REPEATED 5
#define EVENTS_AT_ONCE 64

#ifndef SO_BINDTOIFINDEX
#define SO_BINDTOIFINDEX 62
#endif

struct bw_kernel {
	unsigned index; /* of the interface that has the addresses */
	unsigned sequence;
	struct mnl_socket *talk, *listen;
	int nudge4, nudge6; /* UDP sockets on the interface */
	uint8_t in[ANSWER_BYTES];
};

/* ---- asking -------------------------------------------------------------------------------------------------- */

/** Send, and give each message of the answer to `take`. 0 or -errno; -EINTR: what was dumped changed meanwhile. */
static int ask(struct bw_kernel *kernel, struct nlmsghdr *message, mnl_cb_t take, void *arg)
{
	const unsigned port = mnl_socket_get_portid(kernel->talk);
	ssize_t got;
	int rc;

	message->nlmsg_seq = ++kernel->sequence;
	if (mnl_socket_sendto(kernel->talk, message, message->nlmsg_len) < 0)
		return -errno;
	do {
		got = mnl_socket_recvfrom(kernel->talk, kernel->in, sizeof(kernel->in));
		if (got < 0)
			return -errno;
		rc = mnl_cb_run(kernel->in, (size_t)got, kernel->sequence, port, take, arg);
	} while (rc > MNL_CB_STOP);
	if (rc == MNL_CB_STOP)
		return 0;
	rc = -errno;
	while (recv(mnl_socket_get_fd(kernel->talk), kernel->in, sizeof(kernel->in), MSG_DONTWAIT) > 0)
		; /* the rest of a dump that broke off */
	return rc;
}

static struct nlmsghdr *begin(void *bytes, uint16_t type, uint16_t flags)
{
	struct nlmsghdr *message = mnl_nlmsg_put_header(bytes);

	message->nlmsg_type = type;
	message->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	return message;
}

/** All of a kind and family. */
static int dump(
	struct bw_kernel *kernel, uint16_t type, size_t head_bytes, uint8_t family, mnl_cb_t take, void *arg)
{
	uint8_t bytes[ASK_BYTES];
	struct nlmsghdr *message = begin(bytes, type, NLM_F_DUMP);
	uint8_t *head =
		mnl_nlmsg_put_extra_header(message, head_bytes); /* the family is each head's first byte */

	head[0] = family;
	return ask(kernel, message, take, arg);
}

/** Of an address attribute. False: it is none. */
static bool read_ip(const struct nlattr *a, uint8_t family, struct bw_ip *ip)
{
	uint32_t v4_be;

	if (family == AF_INET && mnl_attr_get_payload_len(a) >= sizeof(v4_be)) {
		memcpy(&v4_be, mnl_attr_get_payload(a), sizeof(v4_be));
		*ip = bw_ip_from_v4(v4_be);
		return true;
	}
	if (family == AF_INET6 && mnl_attr_get_payload_len(a) >= sizeof(*ip)) {
		memcpy(ip, mnl_attr_get_payload(a), sizeof(*ip));
		return true;
	}
	return false;
}

static void put_ip(struct nlmsghdr *message, uint16_t type, const struct bw_ip *ip)
{
	if (bw_ip_is_v4(ip))
		mnl_attr_put_u32(message, type, bw_ip_v4_be(ip));
	else
		mnl_attr_put(message, type, sizeof(*ip), ip);
}

/* ---- the link ------------------------------------------------------------------------------------------------ */

struct vlan_search {
	unsigned below, index;
	uint16_t vlan;
};

static uint16_t vlan_id(const struct nlattr *info)
{
	const struct nlattr *a, *data;
	bool is_vlan = false;
	uint16_t id = 0;

	mnl_attr_for_each_nested(a, info)
	{
		if (mnl_attr_get_type(a) == IFLA_INFO_KIND)
			is_vlan = strcmp(mnl_attr_get_str(a), "vlan") == 0;
		if (mnl_attr_get_type(a) != IFLA_INFO_DATA || !is_vlan)
			continue;
		mnl_attr_for_each_nested(data, a)
		{
			if (mnl_attr_get_type(data) == IFLA_VLAN_ID)
				id = mnl_attr_get_u16(data);
		}
	}
	return id;
}

static int take_vlan(const struct nlmsghdr *message, void *arg)
{
	const struct ifinfomsg *link = mnl_nlmsg_get_payload(message);
	struct vlan_search *search = arg;
	const struct nlattr *a;
	unsigned below = 0;
	uint16_t vlan = 0;

	mnl_attr_for_each(a, message, sizeof(*link))
	{
		if (mnl_attr_get_type(a) == IFLA_LINK)
			below = mnl_attr_get_u32(a);
		if (mnl_attr_get_type(a) == IFLA_LINKINFO)
			vlan = vlan_id(a);
	}
	if (below == search->below && vlan == search->vlan)
		search->index = (unsigned)link->ifi_index;
	return MNL_CB_OK;
}

static int take_link(const struct nlmsghdr *message, void *arg)
{
	const struct ifinfomsg *link = mnl_nlmsg_get_payload(message);
	struct bw_kernel_network *network = arg;
	const struct nlattr *a;

	network->is_there = true;
	network->is_up = link->ifi_flags & IFF_UP;
	mnl_attr_for_each(a, message, sizeof(*link))
	{
		if (mnl_attr_get_type(a) == IFLA_MTU)
			network->mtu = (uint16_t)BW_MIN(mnl_attr_get_u32(a), (uint32_t)UINT16_MAX);
		if (mnl_attr_get_type(a) == IFLA_ADDRESS &&
			mnl_attr_get_payload_len(a) == sizeof(network->mac))
			memcpy(&network->mac, mnl_attr_get_payload(a), sizeof(network->mac));
	}
	return MNL_CB_OK;
}

static int read_link(struct bw_kernel *kernel, struct bw_kernel_network *network)
{
	uint8_t bytes[ASK_BYTES];
	struct nlmsghdr *message = begin(bytes, RTM_GETLINK, NLM_F_ACK);
	struct ifinfomsg *link = mnl_nlmsg_put_extra_header(message, sizeof(*link));
	int rc;

	link->ifi_index = (int)kernel->index;
	rc = ask(kernel, message, take_link, network);
	return rc == -ENODEV ? 0 : rc;
}

/* ---- addresses ----------------------------------------------------------------------------------------------- */

struct reading {
	struct bw_kernel_network *network;
	unsigned index;
	bool wants_deprecated;
};

static int take_addr(const struct nlmsghdr *message, void *arg)
{
	const struct ifaddrmsg *addr = mnl_nlmsg_get_payload(message);
	const struct reading *reading = arg;
	struct bw_kernel_network *network = reading->network;
	struct bw_cidr cidr = { .prefix_len = addr->ifa_prefixlen };
	uint32_t flags = addr->ifa_flags;
	bool is_local = false, is_read = false;
	const struct nlattr *a;

	if (addr->ifa_index != reading->index)
		return MNL_CB_OK;
	mnl_attr_for_each(a, message, sizeof(*addr))
	{
		/* IFA_ADDRESS is the other end's, where a point-to-point link has both. */
		if (mnl_attr_get_type(a) == IFA_LOCAL)
			is_local = is_read = read_ip(a, addr->ifa_family, &cidr.ip);
		else if (mnl_attr_get_type(a) == IFA_ADDRESS && !is_local)
			is_read = read_ip(a, addr->ifa_family, &cidr.ip);
		else if (mnl_attr_get_type(a) == IFA_FLAGS)
			flags = mnl_attr_get_u32(a);
	}
	if (!is_read || (flags & IFA_F_DADFAILED) != 0 ||
		(flags & (IFA_F_TENTATIVE | IFA_F_OPTIMISTIC)) == IFA_F_TENTATIVE ||
		((flags & IFA_F_DEPRECATED) != 0) != reading->wants_deprecated)
		return MNL_CB_OK;
	if (network->addr_count == BW_KERNEL_ADDRS_MAX)
		network->left_out++;
	else
		network->addrs[network->addr_count++] = cidr;
	return MNL_CB_OK;
}

/* ---- routes -------------------------------------------------------------------------------------------------- */

/** RTA_VIA: a gateway of a family of its own. */
static void read_via(const struct nlattr *a, struct bw_ip *gateway)
{
	const struct rtvia *via = mnl_attr_get_payload(a);
	const size_t bytes = mnl_attr_get_payload_len(a);

	if (bytes >= sizeof(*via) + sizeof(*gateway) && via->rtvia_family == AF_INET6)
		memcpy(gateway, via->rtvia_addr, sizeof(*gateway));
}

/** The first hop of several that leaves through this interface. */
static bool read_hops(const struct nlattr *hops, unsigned index, uint8_t family, struct bw_ip *gateway)
{
	const struct rtnexthop *hop = mnl_attr_get_payload(hops);
	int left = mnl_attr_get_payload_len(hops);

	for (; RTNH_OK(hop, left); left -= RTNH_ALIGN(hop->rtnh_len), hop = RTNH_NEXT(hop)) {
		const struct nlattr *a = (const void *)RTNH_DATA(hop);
		int bytes = hop->rtnh_len - (int)RTNH_LENGTH(0);

		if ((unsigned)hop->rtnh_ifindex != index)
			continue;
		for (; mnl_attr_ok(a, bytes); bytes -= MNL_ALIGN(a->nla_len), a = mnl_attr_next(a)) {
			if (mnl_attr_get_type(a) == RTA_GATEWAY)
				(void)read_ip(a, family, gateway);
			else if (mnl_attr_get_type(a) == RTA_VIA)
				read_via(a, gateway);
		}
		return true;
	}
	return false;
}

static int take_route(const struct nlmsghdr *message, void *arg)
{
	const struct rtmsg *head = mnl_nlmsg_get_payload(message);
	const struct reading *reading = arg;
	struct bw_kernel_network *network = reading->network;
	struct bw_kernel_route route = { .prefix.prefix_len = head->rtm_dst_len };
	uint32_t table = head->rtm_table;
	const struct nlattr *a;
	bool is_here = false;

	if (head->rtm_type != RTN_UNICAST || (head->rtm_flags & RTM_F_CLONED) != 0)
		return MNL_CB_OK;
	route.prefix.ip = head->rtm_family == AF_INET ? bw_ip_from_v4(0) : (struct bw_ip){ 0 };
	mnl_attr_for_each(a, message, sizeof(*head))
	{
		switch (mnl_attr_get_type(a)) {
		case RTA_TABLE:
			table = mnl_attr_get_u32(a);
			break;
		case RTA_OIF:
			is_here = mnl_attr_get_u32(a) == reading->index;
			break;
		case RTA_DST:
			(void)read_ip(a, head->rtm_family, &route.prefix.ip);
			break;
		case RTA_GATEWAY:
			(void)read_ip(a, head->rtm_family, &route.gateway);
			break;
		case RTA_VIA:
			read_via(a, &route.gateway);
			break;
		case RTA_PREFSRC:
			(void)read_ip(a, head->rtm_family, &route.source);
			break;
		case RTA_PRIORITY:
			route.metric = mnl_attr_get_u32(a);
			break;
		case RTA_MULTIPATH:
			is_here = read_hops(a, reading->index, head->rtm_family, &route.gateway);
			break;
		default:
			break;
		}
	}
	if (!is_here || (table != RT_TABLE_MAIN && table != RT_TABLE_DEFAULT))
		return MNL_CB_OK;
	if (network->route_count == BW_KERNEL_ROUTES_MAX)
		network->left_out++;
	else
		network->routes[network->route_count++] = route;
	return MNL_CB_OK;
}

static int by_preference(const void *a, const void *b)
{
	const struct bw_kernel_route *x = a, *y = b;

	if (x->prefix.prefix_len != y->prefix.prefix_len)
		return x->prefix.prefix_len > y->prefix.prefix_len ? -1 : 1;
	return x->metric < y->metric ? -1 : x->metric > y->metric;
}

static int read_once(struct bw_kernel *kernel, struct bw_kernel_network *network)
{
	struct reading reading = { .network = network, .index = kernel->index };
	int rc;

	memset(network, 0, sizeof(*network));
	rc = read_link(kernel, network);
	if (rc != 0 || !network->is_there)
		return rc;
	rc = dump(kernel, RTM_GETADDR, sizeof(struct ifaddrmsg), AF_UNSPEC, take_addr, &reading);
	reading.wants_deprecated = true;
	if (rc == 0)
		rc = dump(kernel, RTM_GETADDR, sizeof(struct ifaddrmsg), AF_UNSPEC, take_addr, &reading);
	if (rc == 0)
		rc = dump(kernel, RTM_GETROUTE, sizeof(struct rtmsg), AF_INET, take_route, &reading);
	if (rc == 0)
		rc = dump(kernel, RTM_GETROUTE, sizeof(struct rtmsg), AF_INET6, take_route, &reading);
	qsort(network->routes, network->route_count, sizeof(network->routes[0]), by_preference);
	return rc;
}

int bw_kernel_read(struct bw_kernel *kernel, struct bw_kernel_network *network)
{
	int rc;

	for (unsigned i = 0; i < DUMPS_REPEATED; i++) {
		rc = read_once(kernel, network);
		if (rc != -EINTR)
			break;
	}
	return rc;
}

/* ---- neighbours ---------------------------------------------------------------------------------------------- */

struct neigh_answer {
	unsigned index;
	bool is_valid, is_sure;
	struct bw_ip ip;
	struct bw_mac mac;
};

/** What the kernel sends to itself, too: an address that it verifies meanwhile is one. */
#define NUD_USABLE (NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_PROBE | NUD_STALE | NUD_DELAY)
#define NUD_SURE   (NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE)

static bool read_neigh(const struct nlmsghdr *message, struct neigh_answer *answer)
{
	const struct ndmsg *head = mnl_nlmsg_get_payload(message);
	bool has_ip = false, has_mac = false;
	const struct nlattr *a;

	if ((unsigned)head->ndm_ifindex != answer->index)
		return false;
	mnl_attr_for_each(a, message, sizeof(*head))
	{
		if (mnl_attr_get_type(a) == NDA_DST) {
			has_ip = read_ip(a, head->ndm_family, &answer->ip);
		} else if (mnl_attr_get_type(a) == NDA_LLADDR &&
			   mnl_attr_get_payload_len(a) == sizeof(answer->mac)) {
			memcpy(&answer->mac, mnl_attr_get_payload(a), sizeof(answer->mac));
			has_mac = true;
		}
	}
	answer->is_valid =
		message->nlmsg_type == RTM_NEWNEIGH && has_mac && (head->ndm_state & NUD_USABLE) != 0;
	answer->is_sure = answer->is_valid && (head->ndm_state & NUD_SURE) != 0;
	return has_ip;
}

static int take_neigh(const struct nlmsghdr *message, void *arg)
{
	if (message->nlmsg_type == RTM_NEWNEIGH)
		(void)read_neigh(message, arg);
	return MNL_CB_OK;
}

/*
 * The kernel looks for a neighbour when it has something to send to it, and verifies the address when it is old. An
 * empty datagram to the discard port is the least that anybody may send; RTM_NEWNEIGH with NTF_USE would do without, and
 * takes CAP_NET_ADMIN, which is not kept.
 */
static void nudge(struct bw_kernel *kernel, const struct bw_ip *ip)
{
	if (bw_ip_is_v4(ip)) {
		const struct sockaddr_in to = { .sin_family = AF_INET,
			.sin_port = htons(DISCARD_PORT),
			.sin_addr.s_addr = bw_ip_v4_be(ip) };

		(void)sendto(
			kernel->nudge4, "", 0, MSG_DONTWAIT | MSG_DONTROUTE, (const void *)&to, sizeof(to));
	} else {
		struct sockaddr_in6 to = { .sin6_family = AF_INET6,
			.sin6_port = htons(DISCARD_PORT),
			.sin6_scope_id = kernel->index };

		memcpy(&to.sin6_addr, ip, sizeof(to.sin6_addr));
		(void)sendto(
			kernel->nudge6, "", 0, MSG_DONTWAIT | MSG_DONTROUTE, (const void *)&to, sizeof(to));
	}
}

int bw_kernel_neigh(struct bw_kernel *kernel, const struct bw_ip *ip, struct bw_mac *mac)
{
	struct neigh_answer answer = { .index = kernel->index };
	uint8_t bytes[ASK_BYTES];
	struct nlmsghdr *message = begin(bytes, RTM_GETNEIGH, NLM_F_ACK);
	struct ndmsg *head = mnl_nlmsg_put_extra_header(message, sizeof(*head));

	head->ndm_family = bw_ip_is_v4(ip) ? AF_INET : AF_INET6;
	head->ndm_ifindex = (int)kernel->index;
	put_ip(message, NDA_DST, ip);
	(void)ask(kernel, message, take_neigh, &answer); /* none is an error, too */
	if (!answer.is_sure)
		nudge(kernel, ip);
	if (!answer.is_valid)
		return -ENOENT;
	*mac = answer.mac;
	return 0;
}

/* ---- events -------------------------------------------------------------------------------------------------- */

int bw_kernel_fd(const struct bw_kernel *kernel)
{
	return mnl_socket_get_fd(kernel->listen);
}

struct event {
	struct bw_kernel *kernel;
	const struct bw_kernel_events *events;
	bool is_network;
};

static int take_event(const struct nlmsghdr *message, void *arg)
{
	struct event *event = arg;
	struct neigh_answer neigh = { .index = event->kernel->index };

	if (message->nlmsg_type != RTM_NEWNEIGH && message->nlmsg_type != RTM_DELNEIGH)
		event->is_network = true;
	else if (read_neigh(message, &neigh))
		event->events->neigh(event->events->arg, &neigh.ip, neigh.is_valid ? &neigh.mac : NULL);
	return MNL_CB_OK;
}

bool bw_kernel_take(struct bw_kernel *kernel, const struct bw_kernel_events *events)
{
	struct event event = { kernel, events, false };
	ssize_t got = 1;

	for (unsigned i = 0; i < EVENTS_AT_ONCE; i++) {
		got = recv(bw_kernel_fd(kernel), kernel->in, sizeof(kernel->in), MSG_DONTWAIT);
		if (got < 0 && errno == ENOBUFS) { /* more than the socket holds came at once */
			event.is_network = true;
			events->neigh(events->arg, NULL, NULL);
			continue;
		}
		if (got <= 0)
			break;
		(void)mnl_cb_run(kernel->in, (size_t)got, 0, 0, take_event, &event);
	}
	if (event.is_network)
		events->network(events->arg);
	return got > 0;
}

/* ---- opening ------------------------------------------------------------------------------------------------- */

static int find_vlan(struct bw_kernel *kernel, uint16_t vlan)
{
	struct vlan_search search = { .below = kernel->index, .vlan = vlan };
	int rc = dump(kernel, RTM_GETLINK, sizeof(struct ifinfomsg), AF_UNSPEC, take_vlan, &search);

	kernel->index = search.index;
	return rc == 0 && search.index == 0 ? -ENODEV : rc;
}

static int nudge_socket(int family, unsigned index)
{
	const int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0), one = 1, ifindex = (int)index;

	if (fd < 0)
		return -1; /* no IPv6, say */
	setsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &ifindex, sizeof(ifindex));
	if (family == AF_INET)
		setsockopt(fd, IPPROTO_IP, IP_TTL, &one, sizeof(one));
	else
		setsockopt(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, &one, sizeof(one));
	return fd;
}

int bw_kernel_open(const char *iface, uint16_t vlan, struct bw_kernel **out)
{
	static const int groups[] = { RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR,
		RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE };
	struct bw_kernel *kernel = calloc(1, sizeof(*kernel));
	int rc = -ENOMEM;

	if (kernel == NULL)
		return rc;
	kernel->nudge4 = kernel->nudge6 = -1;
	kernel->index = if_nametoindex(iface);
	rc = -ENODEV;
	if (kernel->index == 0)
		goto fail;
	kernel->talk = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	kernel->listen = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	if (kernel->talk == NULL || kernel->listen == NULL ||
		mnl_socket_bind(kernel->talk, 0, MNL_SOCKET_AUTOPID) < 0 ||
		mnl_socket_bind(kernel->listen, 0, MNL_SOCKET_AUTOPID) < 0) {
		rc = -errno;
		goto fail;
	}
	for (unsigned i = 0; i < BW_ARRAY_LEN(groups); i++)
		if (mnl_socket_setsockopt(kernel->listen, NETLINK_ADD_MEMBERSHIP,
			    (void *)(uintptr_t)&groups[i], sizeof(groups[i])) < 0) {
			rc = -errno;
			goto fail;
		}
	rc = vlan != 0 ? find_vlan(kernel, vlan) : 0;
	if (rc != 0)
		goto fail;
	kernel->nudge4 = nudge_socket(AF_INET, kernel->index);
	kernel->nudge6 = nudge_socket(AF_INET6, kernel->index);
	*out = kernel;
	return 0;
fail:
	bw_kernel_close(kernel);
	return rc;
}

void bw_kernel_close(struct bw_kernel *kernel)
{
	if (kernel == NULL)
		return;
	if (kernel->talk != NULL)
		mnl_socket_close(kernel->talk);
	if (kernel->listen != NULL)
		mnl_socket_close(kernel->listen);
	if (kernel->nudge4 >= 0)
		close(kernel->nudge4);
	if (kernel->nudge6 >= 0)
		close(kernel->nudge6);
	free(kernel);
}
