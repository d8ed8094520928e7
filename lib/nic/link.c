/* SPDX-License-Identifier: BSD-3-Clause */
/* Kernel interfaces, by ioctl where that says it all and by rtnetlink (RFC 3549, rtnetlink(7)) where not. */
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <base/assert.h>

#include "internal.h"

/* A request under construction, and later its answer. */
struct request {
	union {
		struct nlmsghdr head;
		uint8_t bytes[512];
	};
};

static void *request_init(struct request *r, uint16_t type, uint16_t flags, size_t body_bytes)
{
	memset(r, 0, sizeof(*r));
	r->head.nlmsg_type = type;
	r->head.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
	r->head.nlmsg_len = (uint32_t)NLMSG_LENGTH(body_bytes);
	return NLMSG_DATA(&r->head);
}

static struct rtattr *attr(struct request *r, uint16_t type, const void *data, size_t bytes)
{
	const size_t off = NLMSG_ALIGN(r->head.nlmsg_len);
	struct rtattr *a = (struct rtattr *)(r->bytes + off);

	BW_ASSERT_LE(off + RTA_SPACE(bytes), sizeof(r->bytes));
	a->rta_type = type;
	a->rta_len = (uint16_t)RTA_LENGTH(bytes);
	if (bytes > 0)
		memcpy(RTA_DATA(a), data, bytes);
	r->head.nlmsg_len = (uint32_t)(off + RTA_ALIGN(a->rta_len));
	return a;
}

static struct rtattr *nest(struct request *r, uint16_t type)
{
	return attr(r, type, NULL, 0);
}

static void nest_end(struct request *r, struct rtattr *a)
{
	a->rta_len = (uint16_t)(r->bytes + r->head.nlmsg_len - (uint8_t *)a);
}

/* Send, and give each message of the answer to `take`, until the acknowledgement or the end of a dump. 0 or -errno. */
static int exchange(
	const struct request *r, void (*take)(const struct nlmsghdr *message, void *arg), void *arg)
{
	const struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	const struct timeval patience = { .tv_sec = 5 };
	uint8_t *in = NULL;
	ssize_t got;
	int fd, rc = -EIO;
	const size_t in_bytes = 65536;

	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (fd < 0)
		return -errno;
	in = malloc(in_bytes);
	if (in == NULL) {
		rc = -ENOMEM;
		goto out;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (sendto(fd, r->bytes, r->head.nlmsg_len, 0, (const struct sockaddr *)&kernel, sizeof(kernel)) <
		0) {
		rc = -errno;
		goto out;
	}
	while ((got = recv(fd, in, in_bytes, 0)) > 0 || (got < 0 && errno == EINTR)) {
		struct nlmsghdr *h;

		for (ssize_t off = 0; off + (ssize_t)sizeof(*h) <= got;
			off += (ssize_t)NLMSG_ALIGN(h->nlmsg_len)) {
			h = (struct nlmsghdr *)(in + off);
			if (h->nlmsg_len < sizeof(*h) || h->nlmsg_len > (size_t)(got - off))
				break;
			if ((h->nlmsg_flags & NLM_F_DUMP_INTR) != 0) { /* something may have been missed */
				rc = -EAGAIN;
				goto out;
			}
			if (h->nlmsg_type == NLMSG_ERROR || h->nlmsg_type == NLMSG_DONE) {
				rc = ((struct nlmsgerr *)NLMSG_DATA(h))->error; /* in both the first thing */
				goto out;
			}
			if (take != NULL)
				take(h, arg);
		}
	}
	rc = got < 0 ? -errno : -EIO;
out:
	free(in);
	close(fd);
	return rc;
}

struct answer {
	void *bytes;
	size_t bytes_max;
};

static void keep(const struct nlmsghdr *message, void *arg)
{
	const struct answer *answer = arg;

	memcpy(answer->bytes, message, BW_MIN(message->nlmsg_len, answer->bytes_max));
}

/* Send, and wait for the acknowledgement. Fills `answer` (if any) with the message before it. 0 or -errno. */
static int talk(const struct request *r, void *bytes, size_t bytes_max)
{
	struct answer answer = { bytes, bytes_max };

	return exchange(r, bytes != NULL ? keep : NULL, &answer);
}

int bw_nic__dump_routes(int family, void (*take)(const struct nlmsghdr *message, void *arg), void *arg)
{
	struct request r;
	struct rtmsg *route = request_init(&r, RTM_GETROUTE, NLM_F_DUMP, sizeof(*route));

	route->rtm_family = (unsigned char)family;
	return exchange(&r, take, arg);
}

struct rtattr *bw_nic__rtattr(struct rtattr *a, int left, uint16_t type)
{
	for (; RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		if ((a->rta_type & NLA_TYPE_MASK) == type)
			return a;
	}
	return NULL;
}

/* All that the kernel says of a link; free() it. NULL: nothing. */
static struct nlmsghdr *link_ask(unsigned index)
{
	const size_t answer_bytes = 16384;
	struct request r;
	struct ifinfomsg *info = request_init(&r, RTM_GETLINK, 0, sizeof(*info));
	struct nlmsghdr *answer = calloc(1, answer_bytes);

	info->ifi_index = (int)index;
	if (answer != NULL && talk(&r, answer, answer_bytes) == 0 && answer->nlmsg_type == RTM_NEWLINK &&
		answer->nlmsg_len <= answer_bytes)
		return answer;
	free(answer);
	return NULL;
}

static struct rtattr *link_attr(const struct nlmsghdr *answer, uint16_t type)
{
	struct ifinfomsg *info = NLMSG_DATA(answer);

	return bw_nic__rtattr(IFLA_RTA(info), (int)IFLA_PAYLOAD(answer), type);
}

/* What ioctls do not say: the carrier at this moment (IFF_RUNNING follows it when the kernel finds time), XDP. */
static void read_link_attrs(unsigned index, struct bw_nic__iface *iface)
{
	struct nlmsghdr *answer = link_ask(index);
	struct rtattr *xdp, *carrier, *id, *mode;

	if (answer == NULL)
		return;
	carrier = link_attr(answer, IFLA_CARRIER);
	if (carrier != NULL)
		iface->has_carrier = *(uint8_t *)RTA_DATA(carrier) != 0;
	xdp = link_attr(answer, IFLA_XDP);
	if (xdp == NULL)
		goto out;
	id = bw_nic__rtattr(RTA_DATA(xdp), (int)RTA_PAYLOAD(xdp), IFLA_XDP_PROG_ID);
	mode = bw_nic__rtattr(RTA_DATA(xdp), (int)RTA_PAYLOAD(xdp), IFLA_XDP_ATTACHED);
	if (id != NULL)
		memcpy(&iface->xdp_prog_id, RTA_DATA(id), sizeof(uint32_t));
	iface->is_xdp_generic = mode != NULL && *(uint8_t *)RTA_DATA(mode) == XDP_ATTACHED_SKB;
out:
	free(answer);
}

static unsigned number_of(const struct rtattr *a)
{
	uint32_t number = 0;

	if (a != NULL && RTA_PAYLOAD(a) >= sizeof(number))
		memcpy(&number, RTA_DATA(a), sizeof(number));
	return number;
}

/* No attribute says what these lie on: tunnels follow routes, and a virtual switch's ports its own tables. */
static bool is_opaque(struct rtattr *info)
{
	static const char *const kinds[] = { "vxlan", "geneve", "gretap", "ip6gretap", "openvswitch" };
	struct rtattr *kind = NULL;

	if (info != NULL)
		kind = bw_nic__rtattr(RTA_DATA(info), (int)RTA_PAYLOAD(info), IFLA_INFO_KIND);
	for (unsigned i = 0; kind != NULL && i < BW_ARRAY_LEN(kinds); i++)
		if (strncmp(RTA_DATA(kind), kinds[i], RTA_PAYLOAD(kind)) == 0)
			return true;
	return false;
}

struct link_taker {
	void (*take)(const struct bw_nic__link *link, void *arg);
	void *arg;
};

static void take_link(const struct nlmsghdr *message, void *arg)
{
	const struct link_taker *taker = arg;
	const struct ifinfomsg *info = NLMSG_DATA(message);
	struct bw_nic__link link = { 0 };

	if (message->nlmsg_type != RTM_NEWLINK || message->nlmsg_len < NLMSG_LENGTH(sizeof(*info)))
		return;
	link.index = (unsigned)info->ifi_index;
	link.is_opaque = is_opaque(link_attr(message, IFLA_LINKINFO));
	if (link_attr(message, IFLA_LINK_NETNSID) == NULL) /* else the number is another namespace's */
		link.below = number_of(link_attr(message, IFLA_LINK));
	link.master = number_of(link_attr(message, IFLA_MASTER));
	taker->take(&link, taker->arg);
}

int bw_nic__dump_links(void (*take)(const struct bw_nic__link *link, void *arg), void *arg)
{
	struct link_taker taker = { take, arg };
	struct request r;

	request_init(&r, RTM_GETLINK, NLM_F_DUMP, sizeof(struct ifinfomsg));
	return exchange(&r, take_link, &taker);
}

int bw_nic__iface_read(const char *name, struct bw_nic__iface *iface)
{
	struct ethtool_channels channels = { .cmd = ETHTOOL_GCHANNELS };
	struct ethtool_drvinfo driver = { .cmd = ETHTOOL_GDRVINFO };
	struct ifreq request = { 0 };
	char path[64];
	int fd, rc = 0;

	memset(iface, 0, sizeof(*iface));
	if (strlen(name) >= IFNAMSIZ)
		return -ENODEV;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	memcpy(request.ifr_name, name, strlen(name) + 1);
	if (ioctl(fd, SIOCGIFINDEX, &request) != 0) {
		rc = -errno;
		goto out;
	}
	iface->index = (unsigned)request.ifr_ifindex;
	if (ioctl(fd, SIOCGIFFLAGS, &request) != 0) {
		rc = -errno;
		goto out;
	}
	iface->is_up = request.ifr_flags & IFF_UP;
	iface->has_carrier = request.ifr_flags & IFF_RUNNING;
	iface->is_loopback = request.ifr_flags & IFF_LOOPBACK;
	if (ioctl(fd, SIOCGIFHWADDR, &request) == 0) {
		iface->is_ethernet = request.ifr_hwaddr.sa_family == ARPHRD_ETHER;
		memcpy(iface->mac.b, request.ifr_hwaddr.sa_data, sizeof(iface->mac.b));
	}
	if (ioctl(fd, SIOCGIFMTU, &request) == 0)
		iface->mtu = (uint16_t)BW_MIN(request.ifr_mtu, UINT16_MAX);
	request.ifr_data = (char *)&driver;
	if (ioctl(fd, SIOCETHTOOL, &request) == 0)
		snprintf(iface->driver, sizeof(iface->driver), "%.31s", driver.driver);
	request.ifr_data = (char *)&channels;
	if (ioctl(fd, SIOCETHTOOL, &request) == 0) {
		iface->combined_channels = channels.combined_count;
		iface->rx_channels = channels.rx_count + channels.combined_count;
		iface->tx_channels = channels.tx_count + channels.combined_count;
	}
	snprintf(path, sizeof(path), "/sys/class/net/%s/device", name);
	/* sysfs shows the namespace that it was mounted in, so the driver's name comes first. */
	iface->is_virtual = strcmp(iface->driver, "veth") == 0 || strcmp(iface->driver, "tun") == 0 ||
			    access(path, F_OK) != 0;
	read_link_attrs(iface->index, iface);
out:
	close(fd);
	return rc;
}

/* A knob that is not there (no IPv6, a read-only /proc) leaves a little noise on the link, no more. */
static void set_ipv6(const char *name, const char *knob, const char *value)
{
	char path[96];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/%s", name, knob);
	f = fopen(path, "we");
	if (f == NULL)
		return;
	fputs(value, f);
	fclose(f);
}

int bw_nic__iface_prepare(unsigned index, const char *name, uint16_t mtu)
{
	const uint8_t no_link_local = IN6_ADDR_GEN_MODE_NONE;
	const uint32_t mtu_value = mtu;
	struct request r;
	struct ifinfomsg *info;
	struct rtattr *spec, *inet6;
	int rc;

	set_ipv6(name, "disable_ipv6", "0");
	set_ipv6(name, "accept_ra", "0");
	set_ipv6(name, "autoconf", "0");
	set_ipv6(name, "accept_dad", "0");
	set_ipv6(name, "router_solicitations", "0");

	info = request_init(&r, RTM_NEWLINK, 0, sizeof(*info));
	info->ifi_index = (int)index;
	attr(&r, IFLA_MTU, &mtu_value, sizeof(mtu_value));
	rc = talk(&r, NULL, 0);
	if (rc != 0)
		return rc;

	info = request_init(&r, RTM_NEWLINK, 0, sizeof(*info));
	info->ifi_index = (int)index;
	spec = nest(&r, IFLA_AF_SPEC);
	inet6 = nest(&r, AF_INET6);
	attr(&r, IFLA_INET6_ADDR_GEN_MODE, &no_link_local, sizeof(no_link_local));
	nest_end(&r, inet6);
	nest_end(&r, spec);
	(void)talk(&r, NULL, 0); /* a kernel without IPv6 has nothing to quieten */
	return 0;
}

int bw_nic__iface_up(unsigned index)
{
	struct request r;
	struct ifinfomsg *info = request_init(&r, RTM_NEWLINK, 0, sizeof(*info));

	info->ifi_index = (int)index;
	info->ifi_flags = IFF_UP;
	info->ifi_change = IFF_UP;
	return talk(&r, NULL, 0);
}

int bw_nic__iface_add_addr(unsigned index, const struct bw_cidr *addr)
{
	const bool is_v4 = bw_ip_is_v4(&addr->ip);
	const void *bytes = is_v4 ? (const void *)&addr->ip.w_be[3] : (const void *)addr->ip.b;
	const size_t len = is_v4 ? 4 : 16;
	struct request r;
	struct ifaddrmsg *msg = request_init(&r, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*msg));

	msg->ifa_family = is_v4 ? AF_INET : AF_INET6;
	msg->ifa_prefixlen = addr->prefix_len;
	msg->ifa_flags = is_v4 ? 0 : IFA_F_NODAD;
	msg->ifa_index = index;
	attr(&r, IFA_LOCAL, bytes, len);
	attr(&r, IFA_ADDRESS, bytes, len);
	return talk(&r, NULL, 0);
}

int bw_nic__iface_set(unsigned index, const struct bw_mac *mac, uint16_t mtu)
{
	const uint32_t mtu_value = mtu;
	struct request r;
	struct ifinfomsg *info = request_init(&r, RTM_NEWLINK, 0, sizeof(*info));

	info->ifi_index = (int)index;
	attr(&r, IFLA_ADDRESS, mac->b, sizeof(mac->b));
	attr(&r, IFLA_MTU, &mtu_value, sizeof(mtu_value));
	return talk(&r, NULL, 0);
}

int bw_nic__iface_add_vlan(unsigned below, const char *name, uint16_t vlan)
{
	const uint32_t below_value = below;
	struct rtattr *link, *data;
	struct request r;

	request_init(&r, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(struct ifinfomsg));
	attr(&r, IFLA_LINK, &below_value, sizeof(below_value));
	attr(&r, IFLA_IFNAME, name, strlen(name) + 1);
	link = nest(&r, IFLA_LINKINFO);
	attr(&r, IFLA_INFO_KIND, "vlan", sizeof("vlan"));
	data = nest(&r, IFLA_INFO_DATA);
	attr(&r, IFLA_VLAN_ID, &vlan, sizeof(vlan));
	nest_end(&r, data);
	nest_end(&r, link);
	return talk(&r, NULL, 0);
}

int bw_nic__iface_add_route(
	unsigned index, const struct bw_cidr *prefix, const struct bw_ip *gateway, uint32_t metric)
{
	const bool is_v4 = bw_ip_is_v4(gateway);
	const size_t skipped = is_v4 ? 12 : 0, len = sizeof(*gateway) - skipped;
	const uint32_t oif = index;
	struct request r;
	struct rtmsg *route = request_init(&r, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, sizeof(*route));

	route->rtm_family = is_v4 ? AF_INET : AF_INET6;
	route->rtm_dst_len = prefix->prefix_len;
	route->rtm_table = RT_TABLE_MAIN;
	route->rtm_protocol = RTPROT_STATIC;
	route->rtm_scope = RT_SCOPE_UNIVERSE;
	route->rtm_type = RTN_UNICAST;
	if (prefix->prefix_len > 0)
		attr(&r, RTA_DST, prefix->ip.b + skipped, len);
	attr(&r, RTA_GATEWAY, gateway->b + skipped, len);
	attr(&r, RTA_OIF, &oif, sizeof(oif));
	attr(&r, RTA_PRIORITY, &metric, sizeof(metric));
	return talk(&r, NULL, 0);
}

bool bw_nic__has_capability(unsigned capability)
{
	unsigned long long effective = 0;
	char line[128];
	FILE *f = fopen("/proc/self/status", "re");

	if (f == NULL)
		return geteuid() == 0;
	while (fgets(line, sizeof(line), f) != NULL) {
		if (sscanf(line, "CapEff: %llx", &effective) == 1)
			break;
	}
	fclose(f);
	return effective >> capability & 1;
}
