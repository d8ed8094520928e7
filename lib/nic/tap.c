/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <rte_ip.h>
#include <rte_net.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include <base/log.h>
#include <base/sum.h>
#include <nic/tap.h>

#include "internal.h"

#define SEGMENTS_MAX 64
/* Of a route that gives way to whatever else there is: those of network managers are below 30,000. */
#define METRIC_LAST  1000000u

/* ---- opening ------------------------------------------------------------------------------------------------- */

static int cannot(const struct bw_tap_conf *conf, int error, const char *what)
{
	bw_error("--exception %s: %s: %s", conf->name, what, strerror(error));
	return -error;
}

static int attach(struct bw_tap *tap, const struct bw_tap_conf *conf, bool is_there)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	int error;

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", conf->name);
	if (ioctl(tap->fd, TUNSETIFF, &request) == 0)
		return 0;
	error = errno;
	if (error == EBUSY)
		bw_error("--exception %s: another process has %s; give another name", conf->name, conf->name);
	else if (error == EINVAL && is_there)
		bw_error(
			"--exception %s: %s is no TAP, or one of many queues; give another name, or make one with: ip "
			"tuntap add %s mode tap",
			conf->name, conf->name, conf->name);
	else if (error == EPERM)
		bw_error(
			"--exception %s: needs the capability cap_net_admin, or a TAP of this user's: ip tuntap add %s "
			"mode tap user NAME",
			conf->name, conf->name);
	else
		bw_error("--exception %s: no TAP: %s", conf->name, strerror(error));
	return -error;
}

static int find_index(struct bw_tap *tap, const struct bw_tap_conf *conf)
{
	char name[IFNAMSIZ * 2];
	int rc;

	if (conf->vlan == 0) {
		tap->index = if_nametoindex(tap->name);
		return tap->index != 0 ? 0 : cannot(conf, ENODEV, "its interface");
	}
	snprintf(name, sizeof(name), "%s.%u", tap->name, conf->vlan);
	rc = bw_nic__iface_add_vlan(if_nametoindex(tap->name), name, conf->vlan);
	/* One that is there may have another name: then it is found by its tag, and has its addresses. */
	if (rc == -EOPNOTSUPP)
		bw_error(
			"--exception %s: the kernel has no interfaces for VLANs; load them with: modprobe 8021q",
			conf->name);
	else if (rc != 0 && rc != -EEXIST)
		return cannot(conf, -rc, "no interface for the VLAN");
	if (rc == -EOPNOTSUPP)
		return rc;
	tap->index = if_nametoindex(name);
	rc = tap->index != 0 ? bw_nic__iface_up(tap->index) : 0;
	return rc == 0 ? 0 : cannot(conf, -rc, "the VLAN's interface does not come up");
}

static int configure(struct bw_tap *tap, const struct bw_tap_conf *conf)
{
	struct ifreq request = { 0 };
	struct bw_nic__iface iface;
	int rc;

	if (ioctl(tap->fd, TUNGETIFF, &request) != 0)
		return cannot(conf, errno, "the kernel does not tell of it");
	memcpy(tap->name, request.ifr_name, sizeof(tap->name));
	/* The kernel does its checksums and its segments itself: nobody else will. */
	if (ioctl(tap->fd, TUNSETOFFLOAD, 0) != 0)
		return cannot(conf, errno, "offloads");
	/* Of what a user has been given, only what is not as it should be: the rest needs no privilege. */
	rc = bw_nic__iface_read(tap->name, &iface);
	if (rc == 0 && (iface.mtu != conf->mtu || memcmp(&iface.mac, &conf->mac, sizeof(conf->mac)) != 0))
		rc = bw_nic__iface_set(iface.index, &conf->mac, conf->mtu);
	if (rc != 0)
		return cannot(conf, -rc, "does not take the port's MAC and MTU");
	rc = iface.is_up ? 0 : bw_nic__iface_up(iface.index);
	if (rc != 0)
		return cannot(conf, -rc, "does not come up");
	return find_index(tap, conf);
}

int bw_tap_open(struct bw_tap *tap, const struct bw_tap_conf *conf)
{
	const bool is_there = if_nametoindex(conf->name) != 0;
	int rc;

	*tap = (struct bw_tap){ .frame_bytes = conf->mtu + RTE_ETHER_HDR_LEN + RTE_VLAN_HLEN };
	tap->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (tap->fd < 0) {
		rc = -errno;
		bw_error("--exception %s: /dev/net/tun: %s; load it with: modprobe tun", conf->name,
			strerror(-rc));
		return rc;
	}
	rc = attach(tap, conf, is_there);
	if (rc == 0)
		rc = configure(tap, conf);
	if (rc != 0)
		bw_tap_close(tap);
	return rc;
}

void bw_tap_close(struct bw_tap *tap)
{
	if (tap->fd >= 0)
		close(tap->fd);
	tap->fd = -1;
}

/* ---- the kernel's end ---------------------------------------------------------------------------------------- */

int bw_tap_add_addr(const struct bw_tap *tap, const struct bw_cidr *addr)
{
	char text[BW_CIDR_STRLEN];
	int rc = tap->index != 0 ? bw_nic__iface_add_addr(tap->index, addr) : -ENODEV;

	if (rc == -EACCES && !bw_ip_is_v4(&addr->ip))
		bw_error("--exception %s: IPv6 is switched off, and %s is IPv6; sysctl -w "
			 "net.ipv6.conf.default.disable_ipv6=0",
			tap->name, bw_cidr_format(addr, text));
	else if (rc != 0)
		bw_error("--exception %s: does not take the address %s: %s", tap->name,
			bw_cidr_format(addr, text), strerror(-rc));
	return rc == -ENOMEM ? -ENOBUFS : rc; /* which has been said */
}

int bw_tap_add_route(const struct bw_tap *tap, const struct bw_cidr *prefix, const struct bw_ip *gateway)
{
	char text[BW_CIDR_STRLEN], by[BW_IP_STRLEN];
	/* No other interface has the same metric, so one that is there is ours, of a time before, on a TAP that stayed. */
	int rc = bw_nic__iface_add_route(tap->index, prefix, gateway, METRIC_LAST + tap->index);

	if (rc == 0 || rc == -EEXIST)
		return 0;
	bw_error("--exception %s: does not take the route to %s by %s: %s", tap->name,
		bw_cidr_format(prefix, text), bw_ip_format(gateway, by), strerror(-rc));
	return rc == -ENOMEM ? -ENOBUFS : rc;
}

/* ---- frames -------------------------------------------------------------------------------------------------- */

unsigned bw_tap_room(const struct bw_tap *tap)
{
	return tap->frame_bytes + 1; /* one that is too long shows */
}

/** Of the pseudo-header (RFC 9293 3.1, RFC 8200 8.1), folded: what a sender leaves in the field that offloads the rest. */
static uint16_t pseudo_sum(const uint8_t *ip, bool is_v4, uint8_t proto, uint32_t l4_bytes)
{
	const uint64_t addresses = is_v4 ? bw_sum(ip + offsetof(struct rte_ipv4_hdr, src_addr), 8, 0)
					 : bw_sum(ip + offsetof(struct rte_ipv6_hdr, src_addr), 32, 0);

	return bw_sum_fold(addresses + rte_cpu_to_be_16(proto) + rte_cpu_to_be_32(l4_bytes));
}

/** Of `bytes` bytes from `off` of the first segment on, which the chain has. */
static uint64_t sum_chain(const struct rte_mbuf *m, uint32_t off, uint32_t bytes)
{
	uint64_t sum = 0;
	bool is_odd = false;

	for (; bytes > 0; m = m->next) {
		const uint32_t len = BW_MIN(bytes, m->data_len - off);
		const uint16_t part =
			bw_sum_fold(bw_sum(rte_pktmbuf_mtod_offset(m, const uint8_t *, off), len, 0));

		/* Behind an odd number of bytes every byte is in the other half of its word (RFC 1071 2(B)). */
		sum += is_odd ? __builtin_bswap16(part) : part;
		is_odd ^= len & 1;
		bytes -= len;
		off = 0;
	}
	return sum;
}

/**
 * A checksum that the sender has left to a device which then was none, as virtio's is: ours accept it from a device that
 * vouches for the bytes, but the kernel would drop it.
 */
static void complete_checksum(struct rte_mbuf *m)
{
	struct rte_net_hdr_lens lens;
	const uint32_t type =
		rte_net_get_ptype(m, &lens, RTE_PTYPE_L2_MASK | RTE_PTYPE_L3_MASK | RTE_PTYPE_L4_MASK);
	const uint32_t l4_type = type & RTE_PTYPE_L4_MASK;
	const bool is_v4 = RTE_ETH_IS_IPV4_HDR(type), is_udp = l4_type == RTE_PTYPE_L4_UDP;
	const uint32_t l4_off = (uint32_t)lens.l2_len + lens.l3_len;
	const uint32_t field_off = l4_off + (is_udp ? offsetof(struct rte_udp_hdr, dgram_cksum)
						    : offsetof(struct rte_tcp_hdr, cksum));
	const uint8_t *ip;
	uint32_t l4_bytes;
	uint16_t field;

	if ((!is_v4 && !RTE_ETH_IS_IPV6_HDR(type)) || (!is_udp && l4_type != RTE_PTYPE_L4_TCP) ||
		field_off + sizeof(field) > m->data_len)
		return;
	ip = rte_pktmbuf_mtod_offset(m, const uint8_t *, lens.l2_len);
	l4_bytes = is_v4 ? (uint32_t)(ip[2] << 8 | ip[3])
			 : (uint32_t)(ip[4] << 8 | ip[5]) + sizeof(struct rte_ipv6_hdr);
	if (l4_bytes < lens.l3_len || l4_off + l4_bytes - lens.l3_len > m->pkt_len)
		return;
	l4_bytes -= lens.l3_len;
	memcpy(&field, rte_pktmbuf_mtod_offset(m, const uint8_t *, field_off), sizeof(field));
	if (field != pseudo_sum(ip, is_v4, is_udp ? IPPROTO_UDP : IPPROTO_TCP, l4_bytes))
		return;
	field = (uint16_t)~bw_sum_fold(sum_chain(m, l4_off, l4_bytes));
	if (is_udp && field == 0)
		field = 0xffff; /* RFC 768: zero means that there is none */
	memcpy(rte_pktmbuf_mtod_offset(m, uint8_t *, field_off), &field, sizeof(field));
}

int bw_tap_write(const struct bw_tap *tap, struct rte_mbuf *m)
{
	struct iovec iov[SEGMENTS_MAX + 2];
	uint8_t tag[RTE_VLAN_HLEN] = { RTE_ETHER_TYPE_VLAN >> 8, RTE_ETHER_TYPE_VLAN & 0xff };
	const unsigned addresses_bytes = 2 * RTE_ETHER_ADDR_LEN;
	int count = 0;

	if (m->nb_segs > SEGMENTS_MAX || m->data_len < RTE_ETHER_HDR_LEN)
		return -EMSGSIZE;
	if ((m->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_NONE)
		complete_checksum(m);
	if ((m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0) {
		tag[2] = (uint8_t)(m->vlan_tci >> 8);
		tag[3] = (uint8_t)m->vlan_tci;
		iov[count++] = (struct iovec){ rte_pktmbuf_mtod(m, void *), addresses_bytes };
		iov[count++] = (struct iovec){ tag, sizeof(tag) };
		iov[count++] = (struct iovec){ rte_pktmbuf_mtod_offset(m, void *, addresses_bytes),
			m->data_len - addresses_bytes };
		m = m->next;
	}
	for (; m != NULL; m = m->next)
		iov[count++] = (struct iovec){ rte_pktmbuf_mtod(m, void *), m->data_len };
	return writev(tap->fd, iov, count) < 0 ? -errno : 0;
}

int bw_tap_read(const struct bw_tap *tap, struct rte_mbuf *m)
{
	const ssize_t got = read(tap->fd, rte_pktmbuf_mtod(m, void *), bw_tap_room(tap));

	if (got < 0)
		return -errno;
	if ((size_t)got > tap->frame_bytes || got < RTE_ETHER_HDR_LEN)
		return -EMSGSIZE;
	m->data_len = (uint16_t)got;
	m->pkt_len = (uint32_t)got;
	return 0;
}
