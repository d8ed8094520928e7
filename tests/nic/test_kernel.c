/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The devices that share a link with the kernel, in a network namespace of the test's own: TAP, and AF_PACKET
 * and AF_XDP on one end of a veth pair. The kernel's end is 192.0.2.1 and 2001:db8::1, ours .2 and ::2.
 */
#include "capture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/capability.h>
#include <linux/if_packet.h>
#include <linux/if_xdp.h>
#include <netinet/udp.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>

#include <rte_dev.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_udp.h>

#include <nic/nic.h>

#include "internal.h"

/* net_af_xdp 22.11 never deletes its umem. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:xsk_umem__create\n";
}

#ifndef AF_XDP
#define AF_XDP 44
#endif
#ifndef SOL_XDP
#define SOL_XDP 283
#endif

#define OUR_PORT  7000
#define HOST_PORT 7001

static struct bw_cidr host_addrs[2];

static void run(const char *format, ...)
{
	char command[256];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	if (system(command) != 0)
		fail_msg("failed: %s", command);
}

static bw_ns monotonic(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (bw_ns)t.tv_sec * BW_NS_PER_SEC + (bw_ns)t.tv_nsec;
}

static uint8_t payload_byte(unsigned i)
{
	return (uint8_t)(i * 197 + (i >> 8) * 31 + 5);
}

/* --- the kernel's side ---------------------------------------------------------------------------------- */

struct host {
	const char *iface;
	int fd[2]; /* UDP: IPv4, IPv6 */
	struct bw_mac mac;
};

/* The kernel makes an IPv6 address its own in a work item, some time after it was added. */
static void host_settle(const struct host *host)
{
	struct sockaddr_in6 self = { .sin6_family = AF_INET6, .sin6_port = htons(HOST_PORT) };
	char byte;

	inet_pton(AF_INET6, "2001:db8::1", &self.sin6_addr);
	for (unsigned i = 0; i < 1000; i++) {
		(void)!sendto(host->fd[1], "x", 1, 0, (struct sockaddr *)&self, sizeof(self));
		usleep(5000);
		if (recv(host->fd[1], &byte, 1, MSG_DONTWAIT) == 1)
			return;
	}
	fail_msg("2001:db8::1 never became the kernel's");
}

static void host_init(struct host *host, const char *iface, const struct bw_nic *nic)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(HOST_PORT) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(HOST_PORT) };
	const struct timeval patience = { .tv_sec = 5 };
	struct bw_nic__iface facts;
	char mac[BW_MAC_STRLEN];

	memset(host, 0, sizeof(*host));
	host->iface = iface;
	assert_int_equal(bw_nic__iface_read(iface, &facts), 0);
	host->mac = facts.mac;
	bw_mac_format(&nic->mac, mac);
	run("ip neigh replace 192.0.2.2 lladdr %s dev %s", mac, iface);
	run("ip neigh replace 2001:db8::2 lladdr %s dev %s", mac, iface);
	inet_pton(AF_INET, "192.0.2.1", &in.sin_addr);
	inet_pton(AF_INET6, "2001:db8::1", &in6.sin6_addr);
	host->fd[0] = socket(AF_INET, SOCK_DGRAM, 0);
	host->fd[1] = socket(AF_INET6, SOCK_DGRAM, 0);
	for (unsigned i = 0; i < 2; i++)
		setsockopt(host->fd[i], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	assert_int_equal(bind(host->fd[0], (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(bind(host->fd[1], (struct sockaddr *)&in6, sizeof(in6)), 0);
	host_settle(host);
}

static void host_fini(struct host *host)
{
	close(host->fd[0]);
	close(host->fd[1]);
}

static void host_send(const struct host *host, bool is_v6, unsigned bytes)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(OUR_PORT) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(OUR_PORT) };
	static uint8_t data[65536];

	for (unsigned i = 0; i < bytes; i++)
		data[i] = payload_byte(i);
	inet_pton(AF_INET, "192.0.2.2", &in.sin_addr);
	inet_pton(AF_INET6, "2001:db8::2", &in6.sin6_addr);
	assert_int_equal(sendto(host->fd[is_v6], data, bytes, 0,
				 is_v6 ? (struct sockaddr *)&in6 : (struct sockaddr *)&in,
				 is_v6 ? sizeof(in6) : sizeof(in)),
		bytes);
}

/* The kernel verifies the checksum before a socket sees a byte. */
static void host_receives(const struct host *host, bool is_v6, unsigned bytes)
{
	static uint8_t data[65536];
	ssize_t got;

	got = recv(host->fd[is_v6], data, sizeof(data), 0);
	if (got != (ssize_t)bytes)
		fail_msg("IPv%d, %u bytes to %s: received %zd (%s)", is_v6 ? 6 : 4, bytes, host->iface, got,
			strerror(errno));
	for (unsigned i = 0; i < bytes; i++)
		assert_int_equal(data[i], payload_byte(i));
}

/* --- our side ------------------------------------------------------------------------------------------- */

/* A datagram for the kernel, in segments of at most `cut` (2000) bytes behind the headers. */
static void we_send(struct bw_nic *nic, const struct host *host, bool is_v6, unsigned bytes, unsigned cut)
{
	static unsigned turn;
	const unsigned queue = turn++ % nic->tx_queues;
	const unsigned l3 = is_v6 ? 40 : 20;
	struct rte_mbuf *m = rte_pktmbuf_alloc(nic->pools[0]), *last = m;
	struct bw_counters counters = { 0 };
	struct rte_udp_hdr *udp;
	uint8_t *p;
	uint16_t sent = 0;

	p = (uint8_t *)rte_pktmbuf_append(m, (uint16_t)(14 + l3 + 8));
	memset(p, 0, 14 + l3 + 8);
	memcpy(p, host->mac.b, 6);
	memcpy(p + 6, nic->mac.b, 6);
	p[12] = is_v6 ? 0x86 : 0x08;
	p[13] = is_v6 ? 0xdd : 0x00;
	if (is_v6) {
		struct rte_ipv6_hdr *ip = (struct rte_ipv6_hdr *)(p + 14);

		ip->vtc_flow = htonl(6u << 28);
		ip->payload_len = htons((uint16_t)(8 + bytes));
		ip->proto = IPPROTO_UDP;
		ip->hop_limits = 64;
		inet_pton(AF_INET6, "2001:db8::2", ip->src_addr);
		inet_pton(AF_INET6, "2001:db8::1", ip->dst_addr);
	} else {
		struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(p + 14);

		ip->version_ihl = 0x45;
		ip->total_length = htons((uint16_t)(28 + bytes));
		ip->time_to_live = 64;
		ip->next_proto_id = IPPROTO_UDP;
		inet_pton(AF_INET, "192.0.2.2", &ip->src_addr);
		inet_pton(AF_INET, "192.0.2.1", &ip->dst_addr);
		ip->hdr_checksum = rte_ipv4_cksum(ip);
	}
	udp = (struct rte_udp_hdr *)(p + 14 + l3);
	udp->src_port = htons(OUR_PORT);
	udp->dst_port = htons(HOST_PORT);
	udp->dgram_len = htons((uint16_t)(8 + bytes));
	m->l2_len = 14;
	m->l3_len = l3;
	m->ol_flags = RTE_MBUF_F_TX_UDP_CKSUM | (is_v6 ? RTE_MBUF_F_TX_IPV6 : RTE_MBUF_F_TX_IPV4);
	for (unsigned done = 0; done < bytes;) {
		const unsigned len = BW_MIN(cut, bytes - done);

		last->next = rte_pktmbuf_alloc(nic->pools[0]);
		assert_non_null(last->next);
		last = last->next;
		m->nb_segs++;
		for (unsigned i = 0; i < len; i++)
			rte_pktmbuf_mtod(last, uint8_t *)[i] = payload_byte(done + i);
		last->data_len = (uint16_t)len;
		m->pkt_len += len;
		done += len;
	}
	for (unsigned i = 0; i < 1000 && sent == 0; i++) {
		sent = bw_nic_tx(nic, queue, &m, 1, &counters);
		if (sent == 0)
			usleep(1000);
	}
	assert_int_equal(sent, 1);
	assert_int_equal(counters.value[BW_DROP_NO_MBUF], 0);
}

/* The datagram in this packet, or -1: something else of the kernel's. */
static int datagram_bytes(struct rte_mbuf *m, bool is_v6)
{
	static uint8_t flat[65536];
	const unsigned off = 14 + (is_v6 ? 40 : 20);
	const uint8_t *p = rte_pktmbuf_read(m, 0, m->pkt_len, flat);

	if (p == NULL || m->pkt_len < off + 8 || p[12] != (is_v6 ? 0x86 : 0x08) ||
		p[13] != (is_v6 ? 0xdd : 0x00) || p[is_v6 ? 20 : 23] != IPPROTO_UDP ||
		p[off + 2] != OUR_PORT >> 8 || p[off + 3] != (OUR_PORT & 0xff))
		return -1;
	assert_true(rte_pktmbuf_data_len(m) >= off + 8); /* headers are in the first segment */
	for (unsigned i = off + 8; i < m->pkt_len; i++)
		assert_int_equal(p[i], payload_byte(i - off - 8));
	return (int)(m->pkt_len - off - 8);
}

static void we_receive(struct bw_nic *nic, bool is_v6, unsigned bytes)
{
	const bw_ns deadline = monotonic() + 5 * BW_NS_PER_SEC;
	struct rte_mbuf *pkts[16];
	unsigned queue = 0;
	int found = -1;

	while (found < 0 && monotonic() < deadline) {
		const uint16_t count = bw_nic_rx(nic, queue++ % nic->rx_queues, pkts, BW_ARRAY_LEN(pkts));

		for (uint16_t i = 0; i < count; i++) {
			const int got = datagram_bytes(pkts[i], is_v6);

			found = got >= 0 ? got : found;
			rte_pktmbuf_free(pkts[i]);
		}
		if (count == 0)
			usleep(200);
	}
	assert_int_equal(found, bytes);
}

/* Take what has come, until nothing does. */
static void drain(struct bw_nic *nic)
{
	struct rte_mbuf *pkts[16];

	for (unsigned quiet = 0; quiet < 20; quiet++) {
		const uint16_t count = bw_nic_rx(nic, quiet % nic->rx_queues, pkts, BW_ARRAY_LEN(pkts));

		rte_pktmbuf_free_bulk(pkts, count);
		if (count > 0)
			quiet = 0;
		usleep(1000);
	}
}

static void traffic_both_ways(struct bw_nic *nic, const struct host *host)
{
	const unsigned largest = nic->mtu - 28u;

	for (unsigned v6 = 0; v6 < 2; v6++) {
		const unsigned sizes[] = { 1, 2, 100, 1231, largest - 20 * v6 };

		for (unsigned i = 0; i < BW_ARRAY_LEN(sizes); i++) {
			host_send(host, v6, sizes[i]);
			we_receive(nic, v6, sizes[i]);
			we_send(nic, host, v6, sizes[i], 2000);
			host_receives(host, v6, sizes[i]);
			we_send(nic, host, v6, sizes[i], 301); /* a chain of odd pieces */
			host_receives(host, v6, sizes[i]);
		}
	}
}

static void *send_later(void *arg)
{
	usleep(100000);
	host_send(arg, false, 64);
	return NULL;
}

/* A packet ends a sleep, one that is there already does not let it begin, and silence lasts as long as asked. */
static void sleep_ends_on_traffic(struct bw_nic *nic, struct host *host)
{
	const int wake_fd = eventfd(0, EFD_NONBLOCK);
	pthread_t thread;
	bw_ns start, slept = 0;

	assert_true(nic->has_rx_interrupt);
	for (unsigned i = 0; i < 3; i++) {
		drain(nic);
		start = monotonic();
		assert_int_equal(pthread_create(&thread, NULL, send_later, host), 0);
		bw_nic_sleep(&(struct bw_nic_queue){ nic, 0 }, 1, wake_fd, 20 * BW_NS_PER_SEC);
		assert_true(monotonic() - start < 5 * BW_NS_PER_SEC);
		pthread_join(thread, NULL);
		we_receive(nic, false, 64);

		host_send(host, false, 64);
		start = monotonic();
		bw_nic_sleep(&(struct bw_nic_queue){ nic, 0 }, 1, wake_fd, 20 * BW_NS_PER_SEC);
		assert_true(monotonic() - start < 5 * BW_NS_PER_SEC);
		we_receive(nic, false, 64);
	}
	/* The kernel may have something to say of its own (MLD), but not every time. */
	for (unsigned i = 0; slept < 20 * BW_NS_PER_MS && i < 50; i++) {
		drain(nic);
		start = monotonic();
		bw_nic_sleep(&(struct bw_nic_queue){ nic, 0 }, 1, wake_fd, 30 * BW_NS_PER_MS);
		slept = monotonic() - start;
	}
	assert_true(slept >= 20 * BW_NS_PER_MS && slept < 5 * BW_NS_PER_SEC);
	assert_int_equal(eventfd_write(wake_fd, 1), 0);
	start = monotonic();
	bw_nic_sleep(&(struct bw_nic_queue){ nic, 0 }, 1, wake_fd, 20 * BW_NS_PER_SEC);
	assert_true(monotonic() - start < 5 * BW_NS_PER_SEC);
	close(wake_fd);
}

static void nic_start_workers(struct bw_nic *nic, const char *spec, unsigned workers, uint16_t mtu)
{
	struct bw_nic_plan plan;
	const struct bw_nic_conf conf = { .plan = &plan,
		.worker_count = workers,
		.mtu = mtu,
		.mbufs_per_worker = 8191,
		.wants_interrupts = true,
		.host_addrs = host_addrs,
		.host_addr_count = 2 };

	assert_int_equal(bw_nic_plan(spec, workers, &plan), 0);
	assert_int_equal(bw_nic_open(nic, &conf), 0);
	assert_int_equal(bw_nic_mbufs_in_use(nic), 0);
	assert_int_equal(nic->rx_queues, workers);
	assert_int_equal(nic->tx_queues, workers);
}

static void nic_start(struct bw_nic *nic, const char *spec, uint16_t mtu)
{
	nic_start_workers(nic, spec, 1, mtu);
}

static void nic_end(struct bw_nic *nic)
{
	if (strcmp(nic->driver, "net_af_xdp") != 0) /* it keeps what it sent last */
		assert_int_equal(bw_nic_mbufs_in_use(nic), 0);
	bw_nic_stop_queues(nic);
	assert_int_equal(bw_nic_mbufs_in_use(nic), 0);
	bw_nic_close(nic);
}

/* --- tap ------------------------------------------------------------------------------------------------ */

/* Addresses that the interface has: bit 0 ours for IPv4, bit 1 for IPv6, bit 2 anything else. */
static unsigned addresses_of(const char *iface)
{
	struct ifaddrs *list;
	unsigned seen = 0;

	assert_int_equal(getifaddrs(&list), 0);
	for (struct ifaddrs *a = list; a != NULL; a = a->ifa_next) {
		char text[64];

		if (a->ifa_addr == NULL || strcmp(a->ifa_name, iface) != 0)
			continue;
		if (a->ifa_addr->sa_family == AF_INET) {
			inet_ntop(
				AF_INET, &((struct sockaddr_in *)a->ifa_addr)->sin_addr, text, sizeof(text));
			seen |= strcmp(text, "192.0.2.1") == 0 ? 1 : 4;
		} else if (a->ifa_addr->sa_family == AF_INET6) {
			inet_ntop(AF_INET6, &((struct sockaddr_in6 *)a->ifa_addr)->sin6_addr, text,
				sizeof(text));
			seen |= strcmp(text, "2001:db8::1") == 0 ? 2 : 4;
		}
	}
	freeifaddrs(list);
	return seen;
}

static void tap_is_a_link_to_the_kernel(void **unused)
{
	struct bw_nic__iface iface;
	struct bw_nic_plan plan;
	struct host host;
	struct bw_nic nic;

	nic_start(&nic, "tap", 0);
	assert_string_equal(nic.driver, "net_tap");
	assert_true(nic.is_virtual);
	assert_false(nic.has_rss);
	assert_false(nic.has_tx_l4_checksum);
	assert_int_equal(nic.tso_bytes_max, 0);
	assert_true(nic.has_multi_segment);
	assert_int_equal(bw_nic__iface_read("bw0", &iface), 0);
	assert_true(iface.is_up);
	assert_int_equal(iface.mtu, 1500);
	assert_memory_not_equal(iface.mac.b, nic.mac.b, 6);
	assert_int_equal(addresses_of("bw0"), 3);
	assert_true(bw_nic_is_link_up(&nic));

	host_init(&host, "bw0", &nic);
	traffic_both_ways(&nic, &host);
	sleep_ends_on_traffic(&nic, &host);
	drain(&nic);
	host_fini(&host);

	/* The name is taken now. */
	capture_begin();
	assert_int_equal(bw_nic_plan("tap", 1, &plan), -EBUSY);
	assert_string_equal(capture_end(),
		"barewire: error: --dev tap: the interface bw0 exists already; choose another name with --dev tap:NAME, "
		"or: ip link delete bw0\n");
	nic_end(&nic);
	assert_int_equal(if_nametoindex("bw0"), 0);
}

static void tap_with_any_mtu(void **unused)
{
	static const uint16_t mtus[] = { 9000, 1280 };
	struct host host;
	struct bw_nic nic;

	for (unsigned i = 0; i < BW_ARRAY_LEN(mtus); i++) {
		nic_start(&nic, "tap:jumbo0", mtus[i]);
		assert_int_equal(nic.mtu, mtus[i]);
		host_init(&host, "jumbo0", &nic);
		traffic_both_ways(&nic, &host);
		drain(&nic);
		host_fini(&host);
		nic_end(&nic);
		assert_int_equal(if_nametoindex("jumbo0"), 0);
	}
}

/* IPv6 does not exist below 1280; the IPv4 side works all the same. */
static void tap_with_the_smallest_mtu(void **unused)
{
	struct bw_nic nic;

	capture_begin();
	nic_start(&nic, "tap", 576);
	assert_non_null(strstr(
		capture_end(), "barewire: warning: bw0: the kernel's end does not take 2001:db8::1/64: "));
	assert_int_equal(addresses_of("bw0"), 1);
	drain(&nic);
	nic_end(&nic);
}

/* Whatever a driver does when mbufs run out, it goes on when they are back. */
static void tap_survives_an_empty_pool(void **unused)
{
	static void *hoard[8192];
	unsigned count = 0;
	struct host host;
	struct bw_nic nic;
	struct rte_mbuf *pkts[16];
	unsigned received = 0;

	nic_start(&nic, "tap", 0);
	host_init(&host, "bw0", &nic);
	drain(&nic);
	while (rte_mempool_get(nic.pools[0], &hoard[count]) == 0)
		count++;
	for (unsigned i = 0; i < 20; i++)
		host_send(&host, false, 1000);
	for (unsigned i = 0; i < 20; i++) {
		const uint16_t got = bw_nic_rx(&nic, 0, pkts, 16);

		received += got; /* into what was set aside before */
		rte_pktmbuf_free_bulk(pkts, got);
		usleep(1000);
		while (rte_mempool_get(nic.pools[0], &hoard[count]) == 0)
			count++;
	}
	assert_in_range(received, 0, 8);
	while (count > 0)
		rte_mempool_put(nic.pools[0], hoard[--count]);
	/* Without a sleep, as in --poll busy, and without another packet. */
	we_receive(&nic, false, 1000);
	drain(&nic);
	host_fini(&host);
	nic_end(&nic);
}

/* Somebody sets a larger MTU at the kernel's end: what is too long is lost and counted, and no more than that. */
static void tap_loses_what_is_too_long(void **unused)
{
	struct bw_nic_losses losses;
	struct host host;
	struct bw_nic nic;

	nic_start(&nic, "tap", 0);
	host_init(&host, "bw0", &nic);
	drain(&nic);
	run("ip link set bw0 mtu 9000");
	host_send(&host, false, 4000);
	host_send(&host, false, 1000);
	we_receive(&nic, false, 1000);
	bw_nic_losses(&nic, &losses);
	assert_int_equal(losses.rx_errors, 1);
	host_fini(&host);
	drain(&nic);
	nic_end(&nic);
}

/* A signal a packet is a burden, and one too many of them is SIGIO, which ends the process. */
static void tap_raises_no_signals(void **unused)
{
	struct bw_nic nic;

	nic_start_workers(&nic, "tap", 2, 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(fcntl(nic.state->queue[i].fd, F_GETFL) & O_ASYNC, 0);
	drain(&nic);
	nic_end(&nic);
}

/* --- a veth pair ---------------------------------------------------------------------------------------- */

static void up_veth(void)
{
	run("ip link set bwa up addrgenmode none");
	run("ip link set bwb up addrgenmode none");
	run("ip addr add 192.0.2.1/24 dev bwb");
	run("ip addr add 2001:db8::1/64 dev bwb nodad");
}

static void make_veth(unsigned mtu)
{
	run("ip link add bwa mtu %u type veth peer name bwb mtu %u", mtu, mtu);
	up_veth();
}

static void interfaces_must_be_up(void **unused)
{
	struct bw_nic_plan plan;

	make_veth(1500);
	run("ip link set bwa down");
	capture_begin();
	assert_int_equal(bw_nic_plan("packet:bwa", 1, &plan), -ENODEV);
	assert_string_equal(capture_end(),
		"barewire: error: --dev packet:bwa: bwa is down; set it up with: ip link set bwa up\n");
	run("ip link delete bwa");
}

static void packet_beside_the_kernel(void **unused)
{
	struct bw_nic_losses losses;
	struct bw_nic__iface iface;
	struct host host;
	struct bw_nic nic;

	make_veth(1500);
	nic_start(&nic, "packet:bwa", 0);
	assert_string_equal(nic.driver, "net_af_packet");
	assert_int_equal(nic.mtu, 1500);
	assert_true(nic.accepts_partial_checksum);
	assert_int_equal(bw_nic__iface_read("bwa", &iface), 0);
	assert_memory_equal(iface.mac.b, nic.mac.b, 6);
	assert_true(bw_nic_is_link_up(&nic));
	assert_int_equal(bw_nic_join(&nic, &(struct bw_mac){ { 0x33, 0x33, 0xff, 0, 0, 2 } }), 0);

	host_init(&host, "bwb", &nic);
	traffic_both_ways(&nic, &host);
	sleep_ends_on_traffic(&nic, &host);

	/* Fragments come to us put together. */
	host_send(&host, false, 8000);
	we_receive(&nic, false, 8000);
	host_send(&host, false, 60000);
	we_receive(&nic, false, 60000);
	drain(&nic);
	bw_nic_losses(&nic, &losses);
	assert_int_equal(losses.rx_missed, 0);
	assert_int_equal(losses.rx_no_mbuf, 0);
	host_fini(&host);

	run("ip link set bwb down");
	assert_false(bw_nic_is_link_up(&nic));
	nic_end(&nic);
	run("ip link delete bwa");
}

/* What a sender has not yet cut into segments (TSO over a veth, GRO on a NIC) arrives whole. */
static void packet_takes_merged_frames(void **unused)
{
	const int segment_bytes = 1400;
	struct host host;
	struct bw_nic nic;

	make_veth(1500);
	nic_start(&nic, "packet:bwa", 0);
	host_init(&host, "bwb", &nic);
	drain(&nic);
	assert_int_equal(
		setsockopt(host.fd[0], IPPROTO_UDP, UDP_SEGMENT, &segment_bytes, sizeof(segment_bytes)), 0);
	host_send(&host, false, 45 * 1400);
	we_receive(&nic, false, 45 * 1400);
	drain(&nic);
	host_fini(&host);
	nic_end(&nic);
	run("ip link delete bwa");
}

static void packet_with_a_large_mtu(void **unused)
{
	struct bw_nic_plan plan;
	struct bw_nic_conf conf = { .plan = &plan, .worker_count = 1, .mtu = 9000 };
	struct host host;
	struct bw_nic nic;

	make_veth(9000);
	nic_start(&nic, "packet:bwa", 0);
	assert_int_equal(nic.mtu, 9000);
	host_init(&host, "bwb", &nic);
	traffic_both_ways(&nic, &host);
	drain(&nic);
	host_fini(&host);
	nic_end(&nic);

	run("ip link set bwa mtu 1500");
	assert_int_equal(bw_nic_plan("packet:bwa", 1, &plan), 0);
	capture_begin();
	assert_int_equal(bw_nic_open(&nic, &conf), -EINVAL);
	assert_string_equal(capture_end(),
		"barewire: error: --dev packet:bwa: an MTU of 9000 is more than the 1500 of "
		"bwa; ip link set bwa mtu 9000\n");
	run("ip link delete bwa");
}

/* The kernel moves a tag out of the packet before a packet socket sees it; here it is in the bytes. */
static void packet_shows_vlan_tags(void **unused)
{
	uint8_t frame[100] = { 2, 0, 0, 0, 0, 7, 2, 0, 0, 0, 0, 9, 0x81, 0x00, 0x60, 42, 0x08, 0x00, 0x45 };
	const bw_ns deadline = monotonic() + 5 * BW_NS_PER_SEC;
	struct sockaddr_ll to = { .sll_family = AF_PACKET };
	struct rte_mbuf *pkts[16];
	struct bw_nic nic;
	bool found = false;
	int fd;

	make_veth(1500);
	nic_start(&nic, "packet:bwa", 0);
	to.sll_ifindex = (int)if_nametoindex("bwb");
	fd = socket(AF_PACKET, SOCK_RAW, 0);
	for (unsigned i = 19; i < sizeof(frame); i++)
		frame[i] = payload_byte(i);
	assert_int_equal(
		sendto(fd, frame, sizeof(frame), 0, (struct sockaddr *)&to, sizeof(to)), sizeof(frame));
	while (!found && monotonic() < deadline) {
		const uint16_t count = bw_nic_rx(&nic, 0, pkts, BW_ARRAY_LEN(pkts));

		for (uint16_t i = 0; i < count; i++) {
			if (rte_pktmbuf_mtod(pkts[i], const uint8_t *)[5] == 7) {
				assert_int_equal(pkts[i]->pkt_len, sizeof(frame));
				assert_memory_equal(rte_pktmbuf_mtod(pkts[i], void *), frame, sizeof(frame));
				found = true;
			}
			rte_pktmbuf_free(pkts[i]);
		}
	}
	assert_true(found);
	close(fd);
	drain(&nic);
	nic_end(&nic);
	run("ip link delete bwa");
}

static int by_address(const void *a, const void *b)
{
	const uintptr_t x = (uintptr_t) * (struct rte_mbuf *const *)a,
			y = (uintptr_t) * (struct rte_mbuf *const *)b;

	return (x > y) - (x < y);
}

/* The kernel drops what lies outside the memory that it was told of, and says nothing. */
static void last_buffers_of_the_pool_travel(struct bw_nic *nic, const struct host *host)
{
	struct rte_mbuf **all = calloc(nic->mbufs_per_worker, sizeof(all[0]));
	unsigned count = 0;

	assert_non_null(all);
	while (count < nic->mbufs_per_worker && (all[count] = rte_pktmbuf_alloc(nic->pools[0])) != NULL)
		count++;
	assert_true(count > 1000);
	qsort(all, count, sizeof(all[0]), by_address);
	rte_pktmbuf_free_bulk(all + count - 4, 4);
	for (unsigned i = 0; i < 8; i++) {
		we_send(nic, host, i % 2 == 1, 100 + i, 2000);
		host_receives(host, i % 2 == 1, 100 + i);
	}
	rte_pktmbuf_free_bulk(all, count - 4);
	free(all);
}

/* With the program that libxdp loads where there is none: what lib/steer does is not of this room. */
static void xdp_on_a_veth(void **unused)
{
	struct bw_nic__iface iface;
	struct host host;
	struct bw_nic nic;

	make_veth(1500);
	nic_start(&nic, "xdp:bwa", 0);
	assert_string_equal(nic.driver, "net_af_xdp");
	assert_true(nic.accepts_partial_checksum);
	assert_false(nic.has_multi_segment);
	assert_int_equal(bw_nic__iface_read("bwa", &iface), 0);
	assert_int_not_equal(iface.xdp_prog_id, 0);

	host_init(&host, "bwb", &nic);
	traffic_both_ways(&nic, &host);
	sleep_ends_on_traffic(&nic, &host);
	last_buffers_of_the_pool_travel(&nic, &host);
	drain(&nic);
	host_fini(&host);

	nic_end(&nic);
	run("ip link delete bwa");
}

static void make_veth_of_two_queues(void)
{
	run("ip link add bwa numrxqueues 2 numtxqueues 2 type veth peer name bwb numrxqueues 2 numtxqueues 2");
	up_veth();
}

/* Flows from many ports: some come to either queue, and none is lost. */
static void both_queues_receive(struct bw_nic *nic)
{
	const bw_ns deadline = monotonic() + 5 * BW_NS_PER_SEC;
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(OUR_PORT) };
	struct rte_mbuf *pkts[16];
	const unsigned flows = 64;
	unsigned found[2] = { 0 };
	uint8_t byte = payload_byte(0);

	drain(nic);
	inet_pton(AF_INET, "192.0.2.2", &to.sin_addr);
	for (unsigned i = 0; i < flows; i++) {
		const int fd = socket(AF_INET, SOCK_DGRAM, 0);

		assert_int_equal(sendto(fd, &byte, 1, 0, (struct sockaddr *)&to, sizeof(to)), 1);
		close(fd);
	}
	while (found[0] + found[1] < flows && monotonic() < deadline) {
		for (unsigned queue = 0; queue < 2; queue++) {
			const uint16_t count = bw_nic_rx(nic, queue, pkts, BW_ARRAY_LEN(pkts));

			for (uint16_t i = 0; i < count; i++)
				found[queue] += datagram_bytes(pkts[i], false) >= 0;
			rte_pktmbuf_free_bulk(pkts, count);
		}
	}
	assert_int_equal(found[0] + found[1], flows);
	assert_in_range(found[0], 1, flows - 1);
}

static void two_queues(void **unused)
{
	static const char *const specs[] = { "tap:bwb", "packet:bwa", "xdp:bwa" };
	struct bw_nic_losses losses;
	struct host host;
	struct bw_nic nic;

	for (unsigned i = 0; i < BW_ARRAY_LEN(specs); i++) {
		if (i > 0)
			make_veth_of_two_queues();
		nic_start_workers(&nic, specs[i], 2, 0);
		assert_false(nic.has_rss);
		assert_true(nic.has_rx_interrupt);
		host_init(&host, "bwb", &nic);
		traffic_both_ways(&nic, &host);
		both_queues_receive(&nic);
		bw_nic_losses(&nic, &losses);
		assert_int_equal(losses.rx_missed, 0);
		drain(&nic);
		host_fini(&host);
		nic_end(&nic);
		if (i > 0)
			run("ip link delete bwa");
	}
}

/* What arrives on a queue that nobody serves would be lost. */
static void xdp_serves_every_queue_or_none(void **unused)
{
	struct bw_nic_plan plan;

	make_veth_of_two_queues();
	capture_begin();
	assert_int_equal(bw_nic_plan("xdp:bwa", 1, &plan), -EINVAL);
	assert_string_equal(capture_end(),
		"barewire: error: --dev xdp:bwa: bwa spreads what it receives over 2 queues and 1 would be served; use "
		"as many workers, or: ethtool -L bwa rx 1\n");
	assert_int_equal(bw_nic_plan("xdp:bwa", 3, &plan), 0);
	assert_int_equal(plan.queues_max, 2);
	run("ethtool -L bwa tx 1");
	capture_begin();
	assert_int_equal(bw_nic_plan("xdp:bwa", 2, &plan), -EINVAL);
	assert_string_equal(capture_end(),
		"barewire: error: --dev xdp:bwa: bwa receives on 2 queues and sends on 1, and a worker needs both; "
		"receive on as many: ethtool -L bwa rx 1\n");
	run("ethtool -L bwa rx 1");
	assert_int_equal(bw_nic_plan("xdp:bwa", 2, &plan), 0);
	assert_int_equal(plan.queues_max, 1);
	run("ip link delete bwa");
}

/* A socket of somebody else's, which the kernel lets nobody share its queue with. */
static int occupy(const char *iface, unsigned queue)
{
	void *memory = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const struct xdp_umem_reg region = { .addr = (uintptr_t)memory, .len = 65536, .chunk_size = 4096 };
	const struct sockaddr_xdp where = { .sxdp_family = AF_XDP,
		.sxdp_flags = XDP_COPY,
		.sxdp_ifindex = if_nametoindex(iface),
		.sxdp_queue_id = queue };
	const int slots = 64, fd = socket(AF_XDP, SOCK_RAW, 0);

	assert_int_equal(setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &region, sizeof(region)), 0);
	assert_int_equal(setsockopt(fd, SOL_XDP, XDP_UMEM_FILL_RING, &slots, sizeof(slots)), 0);
	assert_int_equal(setsockopt(fd, SOL_XDP, XDP_UMEM_COMPLETION_RING, &slots, sizeof(slots)), 0);
	assert_int_equal(setsockopt(fd, SOL_XDP, XDP_RX_RING, &slots, sizeof(slots)), 0);
	assert_int_equal(bind(fd, (const struct sockaddr *)&where, sizeof(where)), 0);
	return fd;
}

/* The first port is there by then, and goes. */
static void a_second_queue_that_is_taken(void **unused)
{
	struct bw_nic_plan plan;
	const struct bw_nic_conf conf = { .plan = &plan, .worker_count = 2, .mbufs_per_worker = 8191 };
	const unsigned ports = rte_eth_dev_count_avail();
	const char *lines;
	struct bw_nic nic;
	int fd;

	make_veth_of_two_queues();
	fd = occupy("bwa", 1);
	assert_int_equal(bw_nic_plan("xdp:bwa", 2, &plan), 0);
	capture_begin();
	assert_int_not_equal(bw_nic_open(&nic, &conf), 0);
	lines = capture_end();
	assert_int_equal(strncmp(lines, "barewire: error: --dev xdp:bwa: cannot start the port: ", 55), 0);
	assert_ptr_equal(strchr(lines, '\n'), lines + strlen(lines) - 1);
	assert_int_equal(rte_eth_dev_count_avail(), ports);
	close(fd);
	run("ip link delete bwa");
}

/* --- two at once ---------------------------------------------------------------------------------------- */

#define MARKED_TYPE 0x88b5 /* IEEE's, for experiments */

/* The other end of a nic, which the kernel has as an interface. */
static int wire_open(const char *iface)
{
	const struct sockaddr_ll at = { .sll_family = AF_PACKET,
		.sll_protocol = htons(MARKED_TYPE),
		.sll_ifindex = (int)if_nametoindex(iface) };
	const struct timeval patience = { .tv_sec = 5 };
	const int fd = socket(AF_PACKET, SOCK_RAW, 0);

	assert_int_equal(bind(fd, (const struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
	return fd;
}

/* That the link was down once, which the socket would be told of. */
static void wire_forget(int wire)
{
	socklen_t bytes = sizeof(int);
	int error;

	assert_int_equal(getsockopt(wire, SOL_SOCKET, SO_ERROR, &error, &bytes), 0);
}

static void marked(uint8_t frame[60], const struct bw_mac *to, uint8_t mark)
{
	static const uint8_t from[6] = { 2, 0, 0, 0, 0, 9 };

	memset(frame, mark, 60);
	memcpy(frame, to->b, 6);
	memcpy(frame + 6, from, 6);
	frame[12] = MARKED_TYPE >> 8;
	frame[13] = MARKED_TYPE & 0xff;
}

/* One comes in, and has the mark. */
static void marked_arrives(struct bw_nic *nic, uint8_t mark)
{
	const bw_ns deadline = monotonic() + 5 * BW_NS_PER_SEC;
	struct rte_mbuf *pkts[16];
	unsigned found = 0;

	while (found == 0 && monotonic() < deadline) {
		const uint16_t count = bw_nic_rx(nic, 0, pkts, BW_ARRAY_LEN(pkts));

		for (uint16_t i = 0; i < count; i++) {
			const uint8_t *p = rte_pktmbuf_mtod(pkts[i], const uint8_t *);

			if (p[12] != MARKED_TYPE >> 8 || p[13] != (MARKED_TYPE & 0xff))
				continue; /* the kernel's own */
			assert_int_equal(p[14], mark);
			found++;
		}
		rte_pktmbuf_free_bulk(pkts, count);
	}
	assert_int_equal(found, 1);
}

static void marked_leaves(struct bw_nic *nic, int wire, uint8_t mark)
{
	const struct bw_mac all = { { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff } };
	struct rte_mbuf *m = rte_pktmbuf_alloc(nic->pools[0]);
	struct bw_counters counters = { 0 };
	uint8_t frame[128];
	uint16_t sent = 0;
	char *at;

	assert_non_null(m);
	wire_forget(wire);
	marked(frame, &all, mark);
	at = rte_pktmbuf_append(m, 60);
	assert_non_null(at);
	memcpy(at, frame, 60);
	for (unsigned i = 0; i < 1000 && sent == 0; i++) {
		sent = bw_nic_tx(nic, 0, &m, 1, &counters);
		if (sent == 0)
			usleep(1000);
	}
	assert_int_equal(sent, 1);
	assert_int_equal(recv(wire, frame, sizeof(frame), 0), 60);
	assert_int_equal(frame[14], mark);
}

static void marked_comes(const struct bw_nic *nic, int wire, uint8_t mark)
{
	uint8_t frame[60];

	wire_forget(wire);
	marked(frame, &nic->mac, mark);
	assert_int_equal(send(wire, frame, sizeof(frame), 0), sizeof(frame));
}

struct end {
	const char *spec, *iface;
};

/* Each has its own packets, also when the other is opened and closed; and nothing is lost. */
static void two_nics(const struct end ends[2])
{
	struct bw_nic nics[2];
	int wires[2];

	for (unsigned i = 0; i < 2; i++) {
		nic_start(&nics[i], ends[i].spec, 0);
		wires[i] = wire_open(ends[i].iface);
		marked_comes(&nics[i], wires[i], (uint8_t)i);
		marked_arrives(&nics[i], (uint8_t)i);
	}
	for (unsigned round = 0; round < 100; round++) {
		for (unsigned i = 0; i < 2; i++)
			marked_comes(&nics[i], wires[i], (uint8_t)(2 + i));
		for (unsigned i = 0; i < 2; i++) {
			marked_arrives(&nics[i], (uint8_t)(2 + i));
			marked_leaves(&nics[i], wires[i], (uint8_t)(4 + i));
		}
	}
	for (unsigned i = 0; i < 2; i++)
		drain(&nics[i]);
	close(wires[0]);
	nic_end(&nics[0]);
	for (unsigned round = 0; round < 10; round++) {
		marked_comes(&nics[1], wires[1], 7);
		marked_arrives(&nics[1], 7);
		marked_leaves(&nics[1], wires[1], 8);
	}
	drain(&nics[1]);
	close(wires[1]);
	nic_end(&nics[1]);
}

static void make_second_veth(void)
{
	run("ip link add bwc type veth peer name bwd");
	run("ip link set bwc up addrgenmode none");
	run("ip link set bwd up addrgenmode none");
}

static void two_taps(void **unused)
{
	two_nics((struct end[]){ { "tap", "bw0" }, { "tap:bw1", "bw1" } });
}

static void two_of_different_kinds(void **unused)
{
	make_veth(1500);
	two_nics((struct end[]){ { "tap", "bw0" }, { "packet:bwa", "bwb" } });
	two_nics((struct end[]){ { "packet:bwa", "bwb" }, { "tap", "bw0" } });
	make_second_veth();
	two_nics((struct end[]){ { "packet:bwa", "bwb" }, { "xdp:bwc", "bwd" } });
	run("ip link delete bwa");
	run("ip link delete bwc");
}

static void two_of_the_same_kind(void **unused)
{
	static const char *const kinds[] = { "packet", "xdp" };
	char specs[2][16];

	for (unsigned i = 0; i < BW_ARRAY_LEN(kinds); i++) {
		make_veth(1500);
		make_second_veth();
		snprintf(specs[0], sizeof(specs[0]), "%s:bwa", kinds[i]);
		snprintf(specs[1], sizeof(specs[1]), "%s:bwc", kinds[i]);
		two_nics((struct end[]){ { specs[0], "bwb" }, { specs[1], "bwd" } });
		run("ip link delete bwa");
		run("ip link delete bwc");
	}
}

/* --- a bond --------------------------------------------------------------------------------------------- */

static void bond_link_becomes(const struct bw_nic *nic, bool is_up)
{
	const bw_ns deadline = monotonic() + 5 * BW_NS_PER_SEC;

	while (bw_nic_is_link_up(nic) != is_up && monotonic() < deadline)
		usleep(1000);
	assert_int_equal(bw_nic_is_link_up(nic), is_up);
}

/* Until frames that come by this wire are heard: the driver looks at the links by itself. Returns how long it took. */
static bw_ns wire_becomes_active(struct bw_nic *nic, int wire)
{
	const bw_ns start = monotonic();
	struct rte_mbuf *pkts[16];
	unsigned found = 0;

	while (found == 0 && monotonic() - start < 5 * BW_NS_PER_SEC) {
		uint16_t count;

		marked_comes(nic, wire, 99);
		usleep(5000);
		count = bw_nic_rx(nic, 0, pkts, BW_ARRAY_LEN(pkts));
		for (uint16_t i = 0; i < count; i++)
			found += rte_pktmbuf_mtod(pkts[i], const uint8_t *)[14] == 99;
		rte_pktmbuf_free_bulk(pkts, count);
	}
	assert_true(found > 0);
	drain(nic);
	return monotonic() - start;
}

/* Two TAPs as the links: what the kernel sets down is a link that is down. */
static void a_bond_goes_on_by_its_other_member(void **unused)
{
	static const char *const ifaces[] = { "bwm0", "bwm1" };
	struct bw_nic_plan plan;
	const struct bw_nic_conf conf = { .plan = &plan, .worker_count = 1, .mbufs_per_worker = 8191 };
	struct bw_nic nic, second;
	struct bw_mac mac;
	int wires[2];

	assert_int_equal(rte_dev_probe("net_tap8,iface=bwm0"), 0);
	assert_int_equal(rte_dev_probe("net_tap9,iface=bwm1"), 0);
	for (unsigned i = 0; i < 2; i++) {
		run("sysctl -qw net.ipv6.conf.%s.disable_ipv6=1", ifaces[i]);
		wires[i] = wire_open(ifaces[i]);
	}
	assert_int_equal(bw_nic_plan("bond:active-backup,net_tap8,net_nothing", 1, &plan), 0);
	capture_begin();
	assert_int_equal(bw_nic_open(&nic, &conf), -ENODEV);
	assert_string_equal(capture_end(),
		"barewire: error: --dev bond:active-backup,net_tap8,net_nothing: there is no device net_nothing; make it "
		"with: -- --vdev=net_nothing\n");

	for (unsigned life = 0; life < 2; life++) {
		nic_start(&nic, "bond:active-backup,net_tap8,net_tap9", 0);
		mac = nic.mac;
		assert_string_equal(nic.driver, "net_bonding");
		assert_true(nic.is_virtual);
		assert_false(nic.has_rx_interrupt);
		assert_true(bw_nic_is_link_up(&nic));
		assert_int_equal(bw_nic_plan("bond:active-backup,net_tap8,net_tap9", 1, &plan), 0);
		capture_begin();
		assert_int_equal(bw_nic_open(&second, &conf), -EBUSY);
		capture_end();

		for (unsigned round = 0; round < 3; round++) {
			const unsigned active = round % 2;

			assert_true(wire_becomes_active(&nic, wires[active]) < BW_NS_PER_SEC);
			for (unsigned i = 0; i < 20; i++) {
				marked_comes(&nic, wires[active], 1);
				marked_arrives(&nic, 1);
				marked_leaves(&nic, wires[active], 2);
			}
			assert_memory_equal(nic.mac.b, mac.b, 6);
			run("ip link set %s down", ifaces[active]);
			assert_true(wire_becomes_active(&nic, wires[!active]) < BW_NS_PER_SEC);
			assert_true(bw_nic_is_link_up(&nic));
			/* When it comes back it is the other's backup, and nothing changes. */
			run("ip link set %s up", ifaces[active]);
			usleep(300000);
			marked_comes(&nic, wires[!active], 3);
			marked_arrives(&nic, 3);
		}
		for (unsigned i = 0; i < 2; i++)
			run("ip link set %s down", ifaces[i]);
		bond_link_becomes(&nic, false);
		for (unsigned i = 0; i < 2; i++)
			run("ip link set %s up", ifaces[i]);
		bond_link_becomes(&nic, true);
		drain(&nic);
		nic_end(&nic);
	}
	for (unsigned i = 0; i < 2; i++)
		close(wires[i]);
}

/* Datagrams of several flows, counted where they come out. */
static void flows_leave(struct bw_nic *nic, const int ip_wires[2], unsigned counts[2])
{
	struct bw_counters counters = { 0 };
	uint8_t frame[64];

	counts[0] = counts[1] = 0;
	for (unsigned flow = 0; flow < 32; flow++) {
		struct rte_mbuf *m = rte_pktmbuf_alloc(nic->pools[0]);
		/* IPv4, UDP, 46 bytes; from and to, and a port. */
		uint8_t packet[60] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, [12] = 0x08, [14] = 0x45,
			[17] = 46, [23] = IPPROTO_UDP, [29] = 9, [33] = 9, [35] = (uint8_t)flow };
		char *at;

		assert_non_null(m);
		at = rte_pktmbuf_append(m, sizeof(packet));
		assert_non_null(at);
		memcpy(at, packet, sizeof(packet));
		assert_int_equal(bw_nic_tx(nic, 0, &m, 1, &counters), 1);
	}
	usleep(100000);
	for (unsigned i = 0; i < 2; i++) {
		wire_forget(ip_wires[i]);
		while (recv(ip_wires[i], frame, sizeof(frame), MSG_DONTWAIT) == 60)
			counts[i]++;
	}
}

/* Flows are spread over the links that are up; what comes by any of them is taken. */
static void a_bond_spreads_flows(void **unused)
{
	static const char *const ifaces[] = { "bwm0", "bwm1" };
	struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_protocol = htons(0x0800) };
	int wires[2], ip_wires[2];
	unsigned counts[2];
	struct bw_nic nic;

	nic_start(&nic, "bond:balance-xor,net_tap8,net_tap9", 0);
	for (unsigned i = 0; i < 2; i++) {
		wires[i] = wire_open(ifaces[i]);
		ip_wires[i] = socket(AF_PACKET, SOCK_RAW, 0);
		at.sll_ifindex = (int)if_nametoindex(ifaces[i]);
		assert_int_equal(bind(ip_wires[i], (const struct sockaddr *)&at, sizeof(at)), 0);
		(void)wire_becomes_active(&nic, wires[i]);
	}
	flows_leave(&nic, ip_wires, counts);
	assert_int_equal(counts[0] + counts[1], 32);
	assert_in_range(counts[0], 1, 31);
	run("ip link set bwm0 down");
	usleep(300000);
	flows_leave(&nic, ip_wires, counts);
	assert_int_equal(counts[0], 0);
	assert_int_equal(counts[1], 32);
	run("ip link set bwm0 up");
	(void)wire_becomes_active(&nic, wires[0]);
	drain(&nic);
	for (unsigned i = 0; i < 2; i++) {
		close(wires[i]);
		close(ip_wires[i]);
	}
	nic_end(&nic);
}

static int start_eal(void **unused)
{
	const struct bw_eal_conf conf = { .memory_mib = 160 };

	if (unshare(CLONE_NEWNET) != 0)
		return -1;
	if (system("ip link set lo up") != 0)
		return -1;
	bw_cidr_parse("192.0.2.1/24", &host_addrs[0]);
	bw_cidr_parse("2001:db8::1/64", &host_addrs[1]);
	return bw_eal_start(&conf);
}

static int stop_eal(void **unused)
{
	bw_eal_stop();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tap_is_a_link_to_the_kernel),
		cmocka_unit_test(tap_with_any_mtu),
		cmocka_unit_test(tap_with_the_smallest_mtu),
		cmocka_unit_test(tap_survives_an_empty_pool),
		cmocka_unit_test(tap_loses_what_is_too_long),
		cmocka_unit_test(tap_raises_no_signals),
		cmocka_unit_test(interfaces_must_be_up),
		cmocka_unit_test(packet_beside_the_kernel),
		cmocka_unit_test(packet_takes_merged_frames),
		cmocka_unit_test(packet_with_a_large_mtu),
		cmocka_unit_test(packet_shows_vlan_tags),
		cmocka_unit_test(xdp_on_a_veth),
		cmocka_unit_test(two_queues),
		cmocka_unit_test(xdp_serves_every_queue_or_none),
		cmocka_unit_test(a_second_queue_that_is_taken),
		cmocka_unit_test(two_taps),
		cmocka_unit_test(two_of_different_kinds),
		cmocka_unit_test(two_of_the_same_kind),
		cmocka_unit_test(a_bond_goes_on_by_its_other_member),
		cmocka_unit_test(a_bond_spreads_flows),
	};

	if (!bw_nic__has_capability(CAP_NET_ADMIN) || !bw_nic__has_capability(CAP_SYS_ADMIN) ||
		access("/dev/net/tun", R_OK | W_OK) != 0) {
		printf("skipped: a network namespace with a TAP needs CAP_NET_ADMIN, CAP_SYS_ADMIN and /dev/net/tun\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, start_eal, stop_eal);
}
