/* SPDX-License-Identifier: BSD-3-Clause */
/* Ports that need no kernel interface: ring, memif, vhost-user and pcap, and what is done to packets before they go out. */
#include "capture.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include <rte_eth_ring.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_lcore.h>
#include <rte_ring.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include <nic/nic.h>

#include "internal.h"

static char dir[] = "/tmp/bw-ports-XXXXXX";

static void nic_start(struct bw_nic *nic, const char *spec, unsigned workers)
{
	struct bw_nic_plan plan;
	struct bw_nic_conf conf = { .plan = &plan, .worker_count = workers, .mbufs_per_worker = 4095 };

	assert_int_equal(bw_nic_plan(spec, workers, &plan), 0);
	if (plan.member_count > 0)
		conf.mbufs_per_worker = 8191; /* each has rings */
	assert_int_equal(bw_nic_open(nic, &conf), 0);
}

/* Nothing is lost, before and after the port gives its mbufs back. */
static void nic_end(struct bw_nic *nic)
{
	assert_int_equal(bw_nic_mbufs_in_use(nic), 0);
	bw_nic_stop_queues(nic);
	assert_int_equal(bw_nic_mbufs_in_use(nic), 0);
	bw_nic_close(nic);
}

static void drain_one(struct rte_ring *ring, struct rte_mbuf **m)
{
	void *pkt = NULL;

	assert_int_equal(rte_ring_dequeue(ring, &pkt), 0);
	*m = pkt;
}

/* --- checksums ------------------------------------------------------------------------------------------ */

struct shape {
	bool is_v6, is_udp, has_vlan;
	unsigned payload;
	const unsigned
		*cuts; /* lengths of the segments behind the headers, 0 ends; the rest is the last one */
};

static uint8_t payload_byte(unsigned i)
{
	return (uint8_t)(i * 197 + (i >> 8) * 31 + 5);
}

/* A packet of that shape as a chain. */
static struct rte_mbuf *build(const struct bw_nic *nic, const struct shape *s)
{
	const unsigned l2 = s->has_vlan ? 18 : 14, l3 = s->is_v6 ? 40 : 20, l4 = s->is_udp ? 8 : 20;
	struct rte_mbuf *m = rte_pktmbuf_alloc(nic->pools[0]), *last = m;
	unsigned done = 0, cut = 0;
	uint8_t *p;

	assert_non_null(m);
	p = (uint8_t *)rte_pktmbuf_append(m, (uint16_t)(l2 + l3 + l4));
	memset(p, 0, l2 + l3 + l4);
	if (s->is_v6) {
		struct rte_ipv6_hdr *ip = (struct rte_ipv6_hdr *)(p + l2);

		ip->vtc_flow = rte_cpu_to_be_32(6u << 28);
		ip->payload_len = rte_cpu_to_be_16((uint16_t)(l4 + s->payload));
		ip->proto = s->is_udp ? IPPROTO_UDP : IPPROTO_TCP;
		for (unsigned i = 0; i < 16; i++) {
			ip->src_addr[i] = (uint8_t)(0x20 + 7 * i);
			ip->dst_addr[i] = (uint8_t)(0xfe - 9 * i);
		}
	} else {
		struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(p + l2);

		ip->version_ihl = 0x45;
		ip->total_length = rte_cpu_to_be_16((uint16_t)(l3 + l4 + s->payload));
		ip->next_proto_id = s->is_udp ? IPPROTO_UDP : IPPROTO_TCP;
		ip->src_addr = rte_cpu_to_be_32(0xc0000201);
		ip->dst_addr = rte_cpu_to_be_32(0xc6336407);
	}
	memset(p + l2 + l3, 0x5c, l4); /* whatever is in the checksum's field does not count */
	m->l2_len = l2;
	m->l3_len = l3;
	m->l4_len = l4;
	m->ol_flags = (s->is_v6 ? RTE_MBUF_F_TX_IPV6 : RTE_MBUF_F_TX_IPV4) |
		      (s->is_udp ? RTE_MBUF_F_TX_UDP_CKSUM : RTE_MBUF_F_TX_TCP_CKSUM);
	while (done < s->payload) {
		unsigned len = s->payload - done;

		if (s->cuts != NULL && s->cuts[cut] != 0)
			len = BW_MIN(len, s->cuts[cut++]);
		if (s->cuts != NULL || rte_pktmbuf_tailroom(last) == 0) {
			last->next = rte_pktmbuf_alloc(nic->pools[0]);
			assert_non_null(last->next);
			last = last->next;
			m->nb_segs++;
		}
		len = BW_MIN(len, (unsigned)rte_pktmbuf_tailroom(last));
		for (unsigned i = 0; i < len; i++)
			rte_pktmbuf_mtod(last, uint8_t *)[last->data_len + i] = payload_byte(done + i);
		last->data_len = (uint16_t)(last->data_len + len);
		m->pkt_len += len;
		done += len;
	}
	return m;
}

/* RFC 1071 as it is written: byte by byte over a flat copy, pseudo-header first. Zero when the packet is right. */
static uint16_t verify(struct rte_mbuf *m, const struct shape *s)
{
	static uint8_t flat[65536];
	const unsigned l2 = s->has_vlan ? 18 : 14, l3 = s->is_v6 ? 40 : 20;
	const unsigned len = m->pkt_len, l4_off = l2 + l3;
	const uint8_t *p = rte_pktmbuf_read(m, 0, len, flat);
	uint32_t sum = s->is_udp ? IPPROTO_UDP : IPPROTO_TCP;
	const unsigned addr_off = l2 + (s->is_v6 ? 8 : 12), addr_bytes = s->is_v6 ? 32 : 8;

	assert_non_null(p);
	sum += len - l4_off;
	for (unsigned i = 0; i < addr_bytes; i += 2)
		sum += (uint32_t)(p[addr_off + i] << 8 | p[addr_off + i + 1]);
	for (unsigned i = l4_off; i < len; i++)
		sum += (i - l4_off) % 2 == 0 ? (uint32_t)p[i] << 8 : p[i];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void checksums_of_any_chain(void **unused)
{
	static const unsigned odd[] = { 1, 3, 7, 2, 5, 1, 1, 0 }, even[] = { 2, 4, 100, 0 },
			      mixed[] = { 1001, 2, 333, 0 };
	static const unsigned *const cuts[] = { NULL, odd, even, mixed };
	static const unsigned sizes[] = { 0, 1, 2, 3, 8, 19, 20, 500, 1447, 1448, 3001, 9000 };
	struct bw_nic nic;

	nic_start(&nic, "ring", 1);
	for (unsigned i = 0; i < BW_ARRAY_LEN(sizes); i++) {
		for (unsigned j = 0; j < 8 * BW_ARRAY_LEN(cuts); j++) {
			const struct shape s = { .is_v6 = j & 1,
				.is_udp = j & 2,
				.has_vlan = j & 4,
				.payload = sizes[i],
				.cuts = cuts[j / 8] };
			struct rte_mbuf *m = build(&nic, &s);

			assert_int_not_equal(verify(m, &s), 0);
			bw_nic__l4_checksum(m);
			assert_int_equal(verify(m, &s), 0);
			assert_int_equal(m->ol_flags & RTE_MBUF_F_TX_L4_MASK, 0);
			/* The test can fail: one wrong byte anywhere is seen. */
			rte_pktmbuf_mtod_offset(m, uint8_t *, m->l2_len + m->l3_len)[0]++;
			assert_int_not_equal(verify(m, &s), 0);
			rte_pktmbuf_free(m);
		}
	}
	nic_end(&nic);
}

static void udp_never_sends_zero(void **unused)
{
	const struct shape s = { .is_udp = true, .payload = 2 };
	struct bw_nic nic;
	struct rte_mbuf *m;
	struct rte_udp_hdr *udp;
	uint16_t checksum;

	nic_start(&nic, "ring", 1);
	m = build(&nic, &s);
	bw_nic__l4_checksum(m);
	udp = rte_pktmbuf_mtod_offset(m, struct rte_udp_hdr *, m->l2_len + m->l3_len);
	checksum = udp->dgram_cksum;
	/* Adding the checksum to a word of the payload leaves nothing for the field. */
	uint16_t *word = (uint16_t *)(udp + 1);
	uint32_t sum = *word + (uint32_t)checksum;
	*word = (uint16_t)((sum & 0xffff) + (sum >> 16));
	m->ol_flags |= RTE_MBUF_F_TX_UDP_CKSUM;
	bw_nic__l4_checksum(m);
	assert_int_equal(udp->dgram_cksum, 0xffff);
	assert_int_equal(verify(m, &s), 0);
	rte_pktmbuf_free(m);
	nic_end(&nic);
}

/* A device without chains and external buffers gets neither. */
static void what_a_device_cannot_take_is_copied(void **unused)
{
	static const unsigned cuts[] = { 7, 9, 0 };
	const struct shape s = { .payload = 300, .cuts = cuts };
	struct bw_counters counters = { 0 };
	struct bw_nic nic;
	struct rte_mbuf *m, *all[64];
	unsigned count = 0;
	void *hoard[4096];

	nic_start(&nic, "ring", 1);
	nic.state->tx_segments_max = 1;
	m = build(&nic, &s);
	assert_true(m->nb_segs > 1);
	assert_int_equal(bw_nic_tx(&nic, 0, &m, 1, &counters), 1);
	drain_one(bw_nic_ring_tx(&nic, 0), &m);
	assert_int_equal(m->nb_segs, 1);
	assert_int_equal(m->pkt_len, 14 + 20 + 20 + 300);
	assert_int_equal(verify(m, &s), 0);
	for (unsigned i = 0; i < 300; i++)
		assert_int_equal(rte_pktmbuf_mtod(m, uint8_t *)[54 + i], payload_byte(i));
	rte_pktmbuf_free(m);
	assert_int_equal(counters.value[BW_COPIED_BYTES], 354);
	assert_int_equal(counters.value[BW_DROP_NO_MBUF], 0);

	/* Without an mbuf for the copy the chain is dropped, counted, and in nobody's way. */
	struct rte_mbuf *three[3] = { build(&nic, &(struct shape){ .payload = 10 }), build(&nic, &s),
		build(&nic, &(struct shape){ .payload = 20 }) };
	while (count < BW_ARRAY_LEN(hoard) && rte_mempool_get(nic.pools[0], &hoard[count]) == 0)
		count++;
	assert_int_equal(bw_nic_tx(&nic, 0, three, 3, &counters), 3);
	assert_int_equal(counters.value[BW_DROP_NO_MBUF], 1);
	assert_int_equal(rte_ring_dequeue_burst(bw_nic_ring_tx(&nic, 0), (void **)all, 64, NULL), 2);
	assert_int_equal(all[0]->pkt_len, 64);
	assert_int_equal(all[1]->pkt_len, 74);
	rte_pktmbuf_free_bulk(all, 2);
	for (unsigned i = 0; i < count; i++)
		rte_mempool_put(nic.pools[0], hoard[i]);
	nic_end(&nic);
}

/* --- ring ----------------------------------------------------------------------------------------------- */

static void ring_in_and_out(void **unused)
{
	struct bw_counters counters = { 0 };
	struct rte_mbuf *m, *got[8];
	struct bw_nic nic;

	nic_start(&nic, "ring", 2);
	assert_string_equal(nic.driver, "net_ring");
	assert_int_equal(nic.rx_queues, 2);
	assert_int_equal(nic.tx_queues, 2);
	assert_false(nic.has_rss);
	assert_false(nic.has_rx_interrupt);
	assert_false(nic.has_tx_l4_checksum);
	assert_true(nic.has_multi_segment);
	assert_true(nic.is_virtual);
	assert_int_equal(nic.tso_bytes_max, 0);
	assert_int_equal(nic.mtu, 1500);
	assert_int_equal(nic.mac.b[0] & 3, 2);
	assert_true(bw_nic_is_link_up(&nic));
	assert_null(bw_nic_ring_rx(&nic, 2));

	assert_int_equal(bw_nic_rx(&nic, 1, got, 8), 0);
	m = build(&nic, &(struct shape){ .payload = 100 });
	assert_int_equal(rte_ring_enqueue(bw_nic_ring_rx(&nic, 1), m), 0);
	assert_int_equal(bw_nic_rx(&nic, 0, got, 8), 0);
	assert_int_equal(bw_nic_rx(&nic, 1, got, 8), 1);
	assert_ptr_equal(got[0], m);
	assert_int_equal(bw_nic_mbufs_in_use(&nic), 1);

	/* A checksum that the device lacks is filled in on the way out. */
	assert_int_equal(bw_nic_tx(&nic, 1, &m, 1, &counters), 1);
	drain_one(bw_nic_ring_tx(&nic, 1), &m);
	assert_int_equal(verify(m, &(struct shape){ .payload = 100 }), 0);
	rte_pktmbuf_free(m);
	assert_int_equal(rte_ring_count(bw_nic_ring_tx(&nic, 0)), 0);
	assert_int_equal(bw_nic_join(&nic, &(struct bw_mac){ { 0x33, 0x33, 0, 0, 0, 1 } }), 0);
	nic_end(&nic);
}

static void a_full_device_takes_a_prefix(void **unused)
{
	struct bw_counters counters = { 0 };
	struct rte_mbuf *pkts[1100];
	struct bw_nic nic;
	uint16_t taken;

	nic_start(&nic, "ring", 1);
	for (unsigned i = 0; i < BW_ARRAY_LEN(pkts); i++)
		pkts[i] = build(&nic, &(struct shape){ .payload = i });
	taken = bw_nic_tx(&nic, 0, pkts, BW_ARRAY_LEN(pkts), &counters);
	assert_int_equal(taken, 1023);
	/* The rest is ours still, and goes when it is offered again. */
	assert_int_equal(pkts[taken]->pkt_len, 54u + taken);
	assert_int_equal(
		bw_nic_tx(&nic, 0, pkts + taken, (uint16_t)(BW_ARRAY_LEN(pkts) - taken), &counters), 0);
	for (unsigned i = 0; i < taken; i++) {
		struct rte_mbuf *m;

		drain_one(bw_nic_ring_tx(&nic, 0), &m);
		assert_int_equal(m->pkt_len, 54 + i);
		rte_pktmbuf_free(m);
	}
	assert_int_equal(
		bw_nic_tx(&nic, 0, pkts + taken, (uint16_t)(BW_ARRAY_LEN(pkts) - taken), &counters), 77);
	bw_nic_stop_queues(&nic); /* what lies in the rings comes back */
	assert_int_equal(bw_nic_mbufs_in_use(&nic), 0);
	bw_nic_close(&nic);
}

static bw_ns monotonic(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (bw_ns)t.tv_sec * BW_NS_PER_SEC + (bw_ns)t.tv_nsec;
}

static void sleep_ends_by_time_or_wake(void **unused)
{
	const int wake_fd = eventfd(0, EFD_NONBLOCK);
	struct bw_nic nic;
	uint64_t counter;
	bw_ns start;

	nic_start(&nic, "ring", 1);
	start = monotonic();
	bw_nic_sleep(&(struct bw_nic_queue){ &nic, 0 }, 1, wake_fd, 5 * BW_NS_PER_MS);
	assert_true(monotonic() - start >= 5 * BW_NS_PER_MS);

	assert_int_equal(eventfd_write(wake_fd, 3), 0);
	start = monotonic();
	bw_nic_sleep(&(struct bw_nic_queue){ &nic, BW_NIC_NO_QUEUE }, 1, wake_fd, 20 * BW_NS_PER_SEC);
	assert_true(monotonic() - start < 10 * BW_NS_PER_SEC);
	assert_true(read(wake_fd, &counter, sizeof(counter)) < 0); /* it was read */
	close(wake_fd);
	nic_end(&nic);
}

/* --- memif ---------------------------------------------------------------------------------------------- */

/* Until the link is as wanted; control messages run on a thread of EAL's. */
static bool link_becomes(const struct bw_nic *nic, bool up)
{
	for (unsigned ms = 0; ms < 10000; ms += 5) {
		if (bw_nic_is_link_up(nic) == up)
			return true;
		usleep(5000);
	}
	return false;
}

static void send_and_receive(struct bw_nic *from, struct bw_nic *to, unsigned payload)
{
	const struct shape s = { .payload = payload };
	struct bw_counters counters = { 0 };
	struct rte_mbuf *m = build(from, &s), *got[4];
	uint16_t count = 0, sent = 0;

	/* A client gives its server buffers by polling. */
	for (unsigned i = 0; i < 1000 && count == 0; i++) {
		sent += sent == 0 ? bw_nic_tx(from, 0, &m, 1, &counters) : 0;
		count = bw_nic_rx(to, 0, got, 4);
		if (count == 0)
			usleep(1000);
	}
	assert_int_equal(sent, 1);
	assert_int_equal(count, 1);
	assert_int_equal(got[0]->pkt_len, 54 + payload);
	assert_int_equal(verify(got[0], &s), 0);
	rte_pktmbuf_free(got[0]);
}

static void memif_peers_come_and_go(void **unused)
{
	char server_spec[96], client_spec[96], path[64], alias[64];
	struct bw_counters counters = { 0 };
	struct bw_nic server, client;
	struct rte_mbuf *m, *got[4];

	snprintf(path, sizeof(path), "%s/m", dir);
	snprintf(server_spec, sizeof(server_spec), "memif:%s", path);
	/* One process keeps one role for each name of a socket, so the client's is another. */
	snprintf(alias, sizeof(alias), "%s/alias", dir);
	assert_int_equal(symlink(path, alias), 0);
	snprintf(client_spec, sizeof(client_spec), "memif:%s,role=client", alias);

	/* The client is first, and it is harmless that nobody is there. */
	nic_start(&client, client_spec, 1);
	assert_false(bw_nic_is_link_up(&client));
	assert_int_equal(bw_nic_rx(&client, 0, got, 4), 0);
	m = build(&client, &(struct shape){ .payload = 10 });
	assert_int_equal(bw_nic_tx(&client, 0, &m, 1, &counters), 0);
	rte_pktmbuf_free(m);
	bw_nic_sleep(&(struct bw_nic_queue){ &client, 0 }, 1, -1, BW_NS_PER_MS);

	for (unsigned life = 0; life < 2; life++) {
		nic_start(&server, server_spec, 1);
		assert_true(link_becomes(&server, true));
		assert_true(link_becomes(&client, true));
		send_and_receive(&client, &server, 1000);
		send_and_receive(&server, &client, 1446);
		nic_end(&server);
		assert_int_not_equal(access(path, F_OK), 0);
		assert_true(link_becomes(&client, false));
		assert_int_equal(bw_nic_rx(&client, 0, got, 4), 0);
	}
	nic_end(&client);
	assert_int_equal(unlink(alias), 0);
}

/* --- vhost-user ----------------------------------------------------------------------------------------- */

/* Of either end the first one waits for the other, and the socket may be made by either. */
static void vhost_peers_come_and_go(void **unused)
{
	static const char *const roles[][2] = { { "server", "client" }, { "client", "server" } };
	char vhost_spec[96], virtio_spec[96], path[64];
	struct bw_counters counters = { 0 };
	struct bw_nic vhost, virtio;
	struct rte_mbuf *m, *got[4];

	snprintf(path, sizeof(path), "%s/v", dir);
	for (unsigned r = 0; r < BW_ARRAY_LEN(roles); r++) {
		snprintf(vhost_spec, sizeof(vhost_spec), "vhost:%s,role=%s", path, roles[r][0]);
		snprintf(virtio_spec, sizeof(virtio_spec), "virtio:%s,role=%s", path, roles[r][1]);
		nic_start(&virtio, virtio_spec, 1);
		assert_false(bw_nic_is_link_up(&virtio));
		assert_string_equal(virtio.driver, "net_virtio_user");
		assert_int_equal(bw_nic_rx(&virtio, 0, got, 4), 0);
		m = build(&virtio, &(struct shape){ .payload = 10 });
		assert_int_equal(bw_nic_tx(&virtio, 0, &m, 1, &counters), 0);
		rte_pktmbuf_free(m);
		for (unsigned life = 0; life < 2; life++) {
			nic_start(&vhost, vhost_spec, 1);
			assert_string_equal(vhost.driver, "net_vhost");
			assert_false(vhost.has_tx_l4_checksum);
			assert_true(link_becomes(&vhost, true));
			assert_true(link_becomes(&virtio, true));
			send_and_receive(&virtio, &vhost, 1000);
			send_and_receive(&vhost, &virtio, 1446);
			nic_end(&vhost);
			assert_true(link_becomes(&virtio, false));
			assert_int_equal(bw_nic_rx(&virtio, 0, got, 4), 0);
		}
		bw_nic_stop_queues(&virtio);
		assert_int_equal(bw_nic_mbufs_in_use(&virtio), 0);
		bw_nic_close(&virtio);
		assert_int_not_equal(access(path, F_OK), 0);
	}
}

/* Peers that break off, say nonsense or say nothing: one line about them all, and the end is not delayed. */
static void vhost_handshakes_that_fail(void **unused)
{
	static const uint32_t nonsense[] = { 0xffffffff, 1, 0xfffffff0, 7 };
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	char spec[128], text[16], want[384];
	struct bw_nic nic, vhost;
	bw_ns start;
	int fd, end;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/v", dir);
	snprintf(spec, sizeof(spec), "virtio:%s", addr.sun_path);
	snprintf(want, sizeof(want),
		"barewire: warning: --dev %s: who is at %s breaks off, or does not speak vhost-user; trying again, now and "
		"then\n",
		spec, addr.sun_path);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 1), 0);
	capture_begin();
	nic_start(&nic, spec, 1);
	for (unsigned i = 0; i < 4; i++) {
		end = accept(fd, NULL, NULL);
		assert_true(end >= 0);
		if (i % 2 == 1) {
			assert_true(read(end, text, sizeof(text)) > 0);
			assert_true(send(end, nonsense, sizeof(nonsense), MSG_NOSIGNAL) > 0);
		}
		close(end);
		assert_false(bw_nic_is_link_up(&nic));
	}
	end = accept(fd, NULL, NULL); /* and is silent */
	assert_true(end >= 0);
	assert_string_equal(capture_end(), want);
	/* One that does speak it is heard all the same. */
	close(end);
	close(fd);
	assert_int_equal(unlink(addr.sun_path), 0);
	snprintf(spec, sizeof(spec), "vhost:%s", addr.sun_path);
	nic_start(&vhost, spec, 1);
	assert_true(link_becomes(&nic, true));
	assert_true(link_becomes(&vhost, true));
	send_and_receive(&nic, &vhost, 100);
	nic_end(&vhost);

	/* And the end does not wait for one that is silent. */
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 1), 0);
	end = accept(fd, NULL, NULL);
	assert_true(end >= 0);
	start = monotonic();
	nic_end(&nic);
	assert_true(monotonic() - start < BW_NS_PER_SEC);
	close(end);
	close(fd);
	assert_int_equal(unlink(addr.sun_path), 0);
}

/* --- two at once ---------------------------------------------------------------------------------------- */

static void two_rings(void **unused)
{
	struct bw_counters counters = { 0 };
	struct rte_mbuf *m, *got[4];
	struct bw_nic nics[2];

	for (unsigned i = 0; i < 2; i++)
		nic_start(&nics[i], "ring", 2);
	assert_int_not_equal(nics[0].port_id, nics[1].port_id);
	for (unsigned i = 0; i < 2; i++) {
		m = build(&nics[i], &(struct shape){ .payload = 10 + i });
		assert_int_equal(rte_ring_enqueue(bw_nic_ring_rx(&nics[i], 1), m), 0);
	}
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(bw_nic_rx(&nics[i], 0, got, 4), 0);
		assert_int_equal(bw_nic_rx(&nics[i], 1, got, 4), 1);
		assert_int_equal(got[0]->pkt_len, 64 + i);
		assert_int_equal(bw_nic_mbufs_in_use(&nics[i]), 1);
		assert_int_equal(bw_nic_tx(&nics[i], 0, got, 1, &counters), 1);
	}
	assert_int_equal(rte_ring_count(bw_nic_ring_tx(&nics[0], 0)), 1);
	bw_nic_stop_queues(&nics[0]); /* and what lies in its ring comes back */
	assert_int_equal(bw_nic_mbufs_in_use(&nics[0]), 0);
	drain_one(bw_nic_ring_tx(&nics[1], 0), &m);
	assert_int_equal(m->pkt_len, 65);
	rte_pktmbuf_free(m);

	/* Its port's number is free for the next one, its pools are there still. */
	struct bw_nic third;

	nic_start(&third, "ring", 2);
	m = build(&third, &(struct shape){ .payload = 12 });
	assert_int_equal(bw_nic_tx(&third, 0, &m, 1, &counters), 1);
	assert_int_equal(rte_ring_count(bw_nic_ring_tx(&nics[1], 0)), 0);
	drain_one(bw_nic_ring_tx(&third, 0), &m);
	rte_pktmbuf_free(m);
	bw_nic_close(&nics[0]);
	nic_end(&third);
	nic_end(&nics[1]);
}

/* Two devices of a kind whose driver has threads and handlers of its own, and their peers: `ends` are those. */
static void two_with_peers(const char *first, const char *second)
{
	char specs[4][96], path[64], alias[64];
	struct bw_nic nics[4];
	const bool is_memif = strcmp(first, "memif") == 0;

	for (unsigned i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/p%u", dir, i);
		snprintf(alias, sizeof(alias), "%s/a%u", dir, i);
		assert_int_equal(symlink(path, alias), 0);
		snprintf(specs[i], sizeof(specs[i]), "%s:%s", first, path);
		snprintf(specs[2 + i], sizeof(specs[2 + i]), "%s:%s%s", second, is_memif ? alias : path,
			is_memif ? ",role=client" : "");
	}
	for (unsigned i = 0; i < 4; i++)
		nic_start(&nics[i], specs[i], 1);
	for (unsigned i = 0; i < 4; i++)
		assert_true(link_becomes(&nics[i], true));
	for (unsigned i = 0; i < 2; i++) {
		send_and_receive(&nics[i], &nics[2 + i], 100 + i);
		send_and_receive(&nics[2 + i], &nics[i], 200 + i);
	}
	/* One peer leaves: the other pair does not notice. */
	nic_end(&nics[0]);
	assert_true(link_becomes(&nics[2], false));
	assert_true(bw_nic_is_link_up(&nics[1]));
	send_and_receive(&nics[1], &nics[3], 300);
	send_and_receive(&nics[3], &nics[1], 301);
	nic_start(&nics[0], specs[0], 1);
	assert_true(link_becomes(&nics[2], true));
	assert_true(link_becomes(&nics[0], true));
	send_and_receive(&nics[0], &nics[2], 302);
	send_and_receive(&nics[2], &nics[0], 303);
	for (unsigned i = 0; i < 4; i++) {
		bw_nic_stop_queues(&nics[i]);
		assert_int_equal(bw_nic_mbufs_in_use(&nics[i]), 0);
		bw_nic_close(&nics[i]);
	}
	for (unsigned i = 0; i < 2; i++) {
		snprintf(alias, sizeof(alias), "%s/a%u", dir, i);
		assert_int_equal(unlink(alias), 0);
	}
}

static void two_memifs(void **unused)
{
	two_with_peers("memif", "memif");
}

static void two_vhosts_and_two_virtios(void **unused)
{
	two_with_peers("vhost", "virtio");
}

/* What an instance can have once is refused before EAL starts. */
static void plans_that_meet(void **unused)
{
	struct bw_nic_plan plans[3] = { { .kind = BW_NIC_RING, .spec = "ring" },
		{ .kind = BW_NIC_TAP, .spec = "tap", .iface = "bw0" },
		{ .kind = BW_NIC_TAP, .spec = "tap:bw0", .iface = "bw0" } };
	const struct bw_eal_conf conf = { .plans = plans, .plan_count = 3 };

	capture_begin();
	assert_int_equal(bw_eal_start(&conf), -EBUSY);
	assert_string_equal(capture_end(),
		"barewire: error: --dev tap:bw0: bw0 is that of --dev tap already; leave one of them out, or name "
		"another\n");
	memcpy(plans[2].iface, "bw1", 4);
	assert_int_equal(bw_nic__plans_meet(plans, 3), 0);
	plans[0] = plans[1] = (struct bw_nic_plan){ .is_pci = true, .devargs = "0000:03:00.0" };
	memcpy(plans[1].devargs, "0000:03:00.1,a=1", 17);
	assert_int_equal(bw_nic__plans_meet(plans, 3), 0);
	memcpy(plans[1].devargs, "0000:03:00.0,a=1", 17);
	capture_begin();
	assert_int_equal(bw_nic__plans_meet(plans, 3), -EBUSY);
	capture_end();
}

/* A raw device's name is the user's choice, and may be that of another. */
static void a_name_that_is_taken(void **unused)
{
	struct bw_nic_plan plan;
	const struct bw_nic_conf conf = { .plan = &plan, .worker_count = 1, .mbufs_per_worker = 4095 };
	struct bw_nic first, second;

	nic_start(&first, "net_null0,size=64", 1);
	assert_int_equal(bw_nic_plan("net_null0,size=80", 1, &plan), 0);
	capture_begin();
	assert_int_equal(bw_nic_open(&second, &conf), -EEXIST);
	assert_string_equal(capture_end(),
		"barewire: error: --dev net_null0,size=80: there is a device net_null0 already; give it another number\n");
	nic_start(&second, "net_null1,size=80", 1);
	nic_end(&first);
	nic_end(&second);
}

/* --- a bond --------------------------------------------------------------------------------------------- */

/* A cable of two rings, and a port at each of its ends. */
struct cable {
	struct rte_ring *rings[2];
	uint16_t ports[2];
};

static void lay(struct cable *cable, const char *end, const char *other)
{
	for (unsigned i = 0; i < 2; i++) {
		cable->rings[i] = rte_ring_create(
			i == 0 ? end : other, 1024, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
		assert_non_null(cable->rings[i]);
	}
	cable->ports[0] = (uint16_t)rte_eth_from_rings(end, &cable->rings[0], 1, &cable->rings[1], 1, 0);
	cable->ports[1] = (uint16_t)rte_eth_from_rings(other, &cable->rings[1], 1, &cable->rings[0], 1, 0);
}

/* A turn of either end's. Returns what came to `to` that is neither LACP's nor for others; the first of it is `got`. */
static unsigned turn(struct bw_nic *to, struct bw_nic *from)
{
	struct rte_mbuf *pkts[32];
	const uint16_t got = bw_nic_rx(to, 0, pkts, BW_ARRAY_LEN(pkts));

	rte_pktmbuf_free_bulk(pkts, got);
	assert_int_equal(bw_nic_rx(from, 0, pkts, BW_ARRAY_LEN(pkts)), 0);
	usleep(1000);
	return got;
}

/* A packet a turn, of several flows, until one arrives; returns how many turns that took. */
static unsigned passes(struct bw_nic *from, struct bw_nic *to, unsigned turns_max)
{
	struct bw_counters counters = { 0 };
	unsigned turns = 0;

	for (; turns < turns_max; turns++) {
		struct rte_mbuf *m = build(from, &(struct shape){ .payload = 10 });

		memcpy(rte_pktmbuf_mtod(m, uint8_t *), to->mac.b, 6);
		memcpy(rte_pktmbuf_mtod(m, uint8_t *) + 6, from->mac.b, 6);
		rte_pktmbuf_mtod(m, uint8_t *)[12] = 0x08;
		rte_pktmbuf_mtod(m, uint8_t *)[35] = (uint8_t)turns; /* a port's */
		if (bw_nic_tx(from, 0, &m, 1, &counters) == 0)
			rte_pktmbuf_free(m);
		if (turn(to, from) > 0)
			break;
	}
	return turns;
}

/* Two of our own, since no other peer is at hand: LACP brings them together, and apart. */
static void bonds_agree_by_lacp(void **unused)
{
	struct cable cables[2];
	struct bw_nic left, right;

	lay(&cables[0], "la", "ra");
	lay(&cables[1], "lb", "rb");
	nic_start(&left, "bond:802.3ad,net_ring_la,net_ring_lb", 1);
	nic_start(&right, "bond:802.3ad,net_ring_ra,net_ring_rb", 1);
	assert_true(bw_nic_is_link_up(&left));
	/* Nothing before they have agreed, and for that they are to look for packets, no more. */
	assert_int_equal(passes(&left, &right, 20), 20);
	for (const bw_ns start = monotonic(); monotonic() - start < 5 * BW_NS_PER_SEC;)
		assert_int_equal(turn(&right, &left), 0);
	assert_in_range(passes(&left, &right, 20), 0, 19);
	assert_in_range(passes(&right, &left, 20), 0, 19);
	const bw_ns before = monotonic();

	bw_nic_sleep(&(struct bw_nic_queue){ &left, 0 }, 1, -1, 20 * BW_NS_PER_SEC);
	assert_true(monotonic() - before < BW_NS_PER_SEC);
	/* One cable is cut, at either end. */
	assert_int_equal(rte_eth_dev_set_link_down(cables[0].ports[0]), 0);
	assert_int_equal(rte_eth_dev_set_link_down(cables[0].ports[1]), 0);
	for (unsigned i = 0; i < 300; i++)
		(void)turn(&right, &left);
	for (unsigned i = 0; i < 20; i++)
		assert_in_range(passes(&left, &right, 100), 0, 99);
	assert_true(bw_nic_is_link_up(&left));
	for (unsigned i = 0; i < 20; i++)
		(void)turn(&right, &left);
	bw_nic_stop_queues(&left);
	bw_nic_stop_queues(&right);
	for (unsigned i = 0; i < 4; i++) {
		struct rte_ring *ring = cables[i / 2].rings[i % 2];
		void *pkt;

		while (rte_ring_dequeue(ring, &pkt) == 0)
			rte_pktmbuf_free(pkt);
	}
	assert_int_equal(bw_nic_mbufs_in_use(&left), 0);
	assert_int_equal(bw_nic_mbufs_in_use(&right), 0);
	bw_nic_close(&left);
	bw_nic_close(&right);
}

static void an_mtu_out_of_range_is_refused(void **unused)
{
	struct bw_nic_plan plan;
	struct bw_nic_conf conf = { .plan = &plan, .worker_count = 1, .mtu = 575 };
	struct bw_nic nic;

	assert_int_equal(bw_nic_plan("ring", 1, &plan), 0);
	capture_begin();
	assert_int_equal(bw_nic_open(&nic, &conf), -EINVAL);
	assert_string_equal(
		capture_end(), "barewire: error: --dev ring: an MTU of 575; 576 to 9000 are possible\n");
	conf.mtu = 0;
	conf.mbufs_per_worker = 100;
	capture_begin();
	assert_int_equal(bw_nic_open(&nic, &conf), -EINVAL);
	assert_string_equal(capture_end(),
		"barewire: error: --dev ring: 100 mbufs a worker are too few; with the device's rings it takes 3219\n");
	/* With the least that is taken and the rings full, connections can begin: see bw_tcp_set_buffers(). */
	assert_true(3219 - 2 * 1024 - BW_NIC_RESERVE >= 3219 / 8);
	conf.mbufs_per_worker = 3218;
	capture_begin();
	assert_int_equal(bw_nic_open(&nic, &conf), -EINVAL);
	capture_end();
	conf.mbufs_per_worker = 3219;
	assert_int_equal(bw_nic_open(&nic, &conf), 0);
	nic_end(&nic);
	/* Nothing is left behind that would be in the way. */
	nic_start(&nic, "ring", 1);
	nic_end(&nic);
}

static void an_unknown_driver_is_one_line(void **unused)
{
	struct bw_nic_plan plan;
	const struct bw_nic_conf conf = { .plan = &plan, .worker_count = 1 };
	struct bw_nic nic;
	const char *text;

	assert_int_equal(bw_nic_plan("net_nonsense0,x=1", 1, &plan), 0);
	capture_begin();
	assert_true(bw_nic_open(&nic, &conf) < 0);
	text = capture_end();
	assert_non_null(strstr(text, "barewire: error: --dev net_nonsense0,x=1: "));
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

static void raw_devargs(void **unused)
{
	struct bw_counters counters = { 0 };
	struct rte_mbuf *got[4];
	struct bw_nic nic;
	uint16_t count;

	nic_start(&nic, "net_null0,size=64", 1);
	assert_string_equal(nic.driver, "net_null");
	count = bw_nic_rx(&nic, 0, got, 4);
	assert_int_equal(count, 4);
	assert_int_equal(bw_nic_tx(&nic, 0, got, count, &counters), 4);
	nic_end(&nic);
}

/* --- EAL ------------------------------------------------------------------------------------------------ */

static void the_main_thread_floats(void **unused)
{
	cpu_set_t set;

	assert_int_equal(rte_lcore_count(), 1);
	assert_int_equal(rte_lcore_id(), 0);
	assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
	assert_false(bw_eal_has_hugepages());
	if (sysconf(_SC_NPROCESSORS_ONLN) > 1)
		assert_false(CPU_ISSET(0, &set)); /* the worker's */
}

static int start_eal(void **unused)
{
	const unsigned cpus[] = { 0 };
	const struct bw_eal_conf conf = { .cpus = cpus,
		.cpu_count = 1,
		.memory_mib = 128,
		.extra = (char *[]){ (char *)"--no-huge" },
		.extra_count = 1 };
	bw_ns start = monotonic();

	if (mkdtemp(dir) == NULL || bw_eal_start(&conf) != 0)
		return -1;
	printf("EAL took %u ms\n", (unsigned)((monotonic() - start) / BW_NS_PER_MS));
	return 0;
}

static int stop_eal(void **unused)
{
	char path[64];

	bw_eal_stop();
	snprintf(path, sizeof(path), "/var/run/dpdk/bw%d", (int)getpid());
	assert_int_not_equal(access(path, F_OK), 0);
	return rmdir(dir);
}

static void count_free(void *data, void *arg)
{
	(void)data;
	++*(unsigned *)arg;
}

/* Headers, then memory of a service's by reference, as the send queue makes them. */
static struct rte_mbuf *build_lent(
	const struct bw_nic *nic, uint8_t *lent, uint16_t len, struct rte_mbuf_ext_shared_info *info)
{
	struct rte_mbuf *m = build(nic, &(struct shape){ 0 }), *body = rte_pktmbuf_alloc(nic->pools[0]);

	assert_non_null(body);
	rte_mbuf_ext_refcnt_set(info, 1);
	rte_pktmbuf_attach_extbuf(body, lent, (rte_iova_t)(uintptr_t)lent, len, info);
	body->data_off = 0;
	assert_non_null(rte_pktmbuf_append(body, len));
	assert_int_equal(rte_pktmbuf_chain(m, body), 0);
	rte_pktmbuf_mtod_offset(m, struct rte_ipv4_hdr *, 14)->total_length =
		rte_cpu_to_be_16((uint16_t)(40 + len));
	return m;
}

/* A device that reads memory by itself is given EAL's only; and chains of that stay what they are. */
static void memory_that_is_not_mapped_is_copied(void **unused)
{
	static const unsigned cuts[] = { 7, 9, 0 };
	static uint8_t lent[3000];
	const struct shape s = { .payload = 300, .cuts = cuts };
	unsigned freed = 0;
	struct rte_mbuf_ext_shared_info info = { .free_cb = count_free, .fcb_opaque = &freed };
	struct bw_counters counters = { 0 };
	struct bw_nic nic;
	struct rte_mbuf *m;

	for (unsigned i = 0; i < sizeof(lent); i++)
		lent[i] = payload_byte(i);
	nic_start(&nic, "ring", 1);
	for (unsigned wants_mapped = 0; wants_mapped < 2; wants_mapped++) {
		nic.state->tx_wants_mapped = wants_mapped;
		m = build_lent(&nic, lent, sizeof(lent), &info);
		freed = 0;
		assert_int_equal(bw_nic_tx(&nic, 0, &m, 1, &counters), 1);
		assert_int_equal(freed, wants_mapped);
		drain_one(bw_nic_ring_tx(&nic, 0), &m);
		assert_int_equal(m->pkt_len, 54 + sizeof(lent));
		assert_int_equal(verify(m, &s), 0);
		assert_int_equal(RTE_MBUF_HAS_EXTBUF(m->next) != 0, !wants_mapped);
		rte_pktmbuf_free(m);
		assert_int_equal(freed, 1);
		assert_int_equal(counters.value[BW_COPIED_BYTES], wants_mapped * (54 + sizeof(lent)));
	}
	m = build(&nic, &s);
	assert_int_equal(bw_nic_tx(&nic, 0, &m, 1, &counters), 1);
	drain_one(bw_nic_ring_tx(&nic, 0), &m);
	assert_int_equal(m->nb_segs, 4);
	rte_pktmbuf_free(m);
	assert_int_equal(counters.value[BW_COPIED_BYTES], 54 + sizeof(lent));
	assert_int_equal(counters.value[BW_DROP_NO_MBUF], 0);
	nic_end(&nic);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_main_thread_floats),
		cmocka_unit_test(checksums_of_any_chain),
		cmocka_unit_test(udp_never_sends_zero),
		cmocka_unit_test(what_a_device_cannot_take_is_copied),
		cmocka_unit_test(memory_that_is_not_mapped_is_copied),
		cmocka_unit_test(ring_in_and_out),
		cmocka_unit_test(a_full_device_takes_a_prefix),
		cmocka_unit_test(sleep_ends_by_time_or_wake),
		cmocka_unit_test(memif_peers_come_and_go),
		cmocka_unit_test(vhost_peers_come_and_go),
		cmocka_unit_test(vhost_handshakes_that_fail),
		cmocka_unit_test(two_rings),
		cmocka_unit_test(two_memifs),
		cmocka_unit_test(two_vhosts_and_two_virtios),
		cmocka_unit_test(plans_that_meet),
		cmocka_unit_test(a_name_that_is_taken),
		cmocka_unit_test(bonds_agree_by_lacp),
		cmocka_unit_test(an_mtu_out_of_range_is_refused),
		cmocka_unit_test(an_unknown_driver_is_one_line),
		cmocka_unit_test(raw_devargs),
	};

	return cmocka_run_group_tests(tests, start_eal, stop_eal);
}
