/* SPDX-License-Identifier: BSD-3-Clause */
/** Two devices in one engine: who is answered where, who leaves by which, and what the trouble of one is to the other. */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include <rte_arp.h>
#include <rte_ether.h>
#include <rte_ring.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include <base/log.h>
#include <engine/engine.h>
#include <service/service.h>
#include <wire/build.h>
#include <wire/packet.h>

#define ECHO_PORT 7
#define SIDES     2

/** A device, 10.0.<i>.2, and who lives beyond it, 10.0.<i>.1. */
static struct side {
	struct bw_nic_plan plan;
	struct bw_nic nic;
	struct rte_ring *in, *out;
	struct bw_mac peer_mac;
	struct bw_ip peer, ours;
} sides[SIDES];
static struct bw_engine *engine;

static struct rte_mbuf *fresh(const struct side *s)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(s->nic.pools[0]);

	assert_non_null(m);
	return m;
}

static void send_frame(const struct side *s, struct rte_mbuf *m, uint16_t type)
{
	bw_eth_prepend(m, &s->peer_mac, &s->nic.mac, type, 0);
	m->ol_flags = 0;
	assert_int_equal(rte_ring_sp_enqueue(s->in, m), 0);
}

static void send_arp(
	const struct side *s, uint16_t opcode, const struct bw_ip *sender, const struct bw_ip *target)
{
	struct rte_mbuf *m = fresh(s);

	bw_arp_write(m, opcode, &s->peer_mac, sender, &s->nic.mac, target);
	send_frame(s, m, RTE_ETHER_TYPE_ARP);
}

static void send_ip(const struct side *s, struct rte_mbuf *m, const struct bw_ip *src,
	const struct bw_ip *dst, uint8_t proto)
{
	bw_ip_prepend(m, &(struct bw_ip_out){ .src = src, .dst = dst, .proto = proto, .ttl = 64 });
	send_frame(s, m, RTE_ETHER_TYPE_IPV4);
}

static void send_datagram_from(const struct side *s, const struct bw_ip *src, const struct bw_ip *dst)
{
	struct rte_mbuf *m = fresh(s);
	struct rte_udp_hdr *udp = (struct rte_udp_hdr *)rte_pktmbuf_append(m, sizeof(*udp) + 2);

	*udp = (struct rte_udp_hdr){ .src_port = rte_cpu_to_be_16(4000),
		.dst_port = rte_cpu_to_be_16(ECHO_PORT),
		.dgram_len = rte_cpu_to_be_16(sizeof(*udp) + 2) };
	memcpy(udp + 1, "hi", 2);
	send_ip(s, m, src, dst, IPPROTO_UDP);
}

static void send_datagram(const struct side *s, const struct bw_ip *dst)
{
	send_datagram_from(s, &s->peer, dst);
}

static void send_syn(const struct side *s)
{
	struct rte_mbuf *m = fresh(s);
	struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)rte_pktmbuf_append(m, sizeof(*tcp));

	*tcp = (struct rte_tcp_hdr){ .src_port = rte_cpu_to_be_16(4001),
		.dst_port = rte_cpu_to_be_16(ECHO_PORT),
		.sent_seq = rte_cpu_to_be_32(1000),
		.data_off = sizeof(*tcp) / 4 << 4,
		.tcp_flags = RTE_TCP_SYN_FLAG,
		.rx_win = rte_cpu_to_be_16(60000) };
	tcp->cksum = (uint16_t)~bw_sum_fold(bw_sum_mbuf(
		m, 0, sizeof(*tcp), bw_sum_pseudo(&s->peer, &s->ours, IPPROTO_TCP, sizeof(*tcp))));
	send_ip(s, m, &s->peer, &s->ours, IPPROTO_TCP);
}

/** The next packet that leaves by that device and is no question or announcement; questions are answered. */
static struct rte_mbuf *receive(const struct side *s, struct bw_pkt *pkt, unsigned patience_ms)
{
	const struct bw_cidr all = { s->peer, 24 };
	struct bw_wire_host host = { .mac = s->peer_mac, .addr_count = 1, .addrs = &all };

	for (unsigned i = 0; i < 10 * patience_ms; i++) {
		struct bw_arp_fields arp;
		void *m;

		if (rte_ring_sc_dequeue(s->out, &m) != 0) {
			nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
			continue;
		}
		((struct rte_mbuf *)m)->ol_flags &= RTE_MBUF_F_INDIRECT;
		bw_pkt_parse(m, &host, pkt);
		if (pkt->kind == BW_PKT_ARP && bw_arp_parse(pkt, &arp) == 0) {
			if (arp.opcode == RTE_ARP_OP_REPLY)
				return m;
			/* Each asks for its own, by its own address. */
			if (bw_ip_eq(&arp.target, &s->peer)) {
				assert_true(bw_ip_eq(&arp.sender, &s->ours));
				send_arp(s, RTE_ARP_OP_REPLY, &s->peer, &arp.sender);
			}
		} else if (pkt->kind != BW_PKT_DROP) {
			return m;
		}
		rte_pktmbuf_free(m);
	}
	return NULL;
}

static void quiet(const struct side *s)
{
	struct bw_pkt pkt;

	assert_null(receive(s, &pkt, 100));
}

/* ---- stories ------------------------------------------------------------------------------------------------------- */

static void each_answers_for_its_own_addresses(void **state)
{
	(void)state;
	for (unsigned i = 0; i < SIDES; i++) {
		const struct side *s = &sides[i], *other = &sides[!i];
		struct bw_pkt pkt;
		struct rte_mbuf *m;

		send_arp(s, RTE_ARP_OP_REQUEST, &s->peer, &other->ours);
		quiet(s);
		quiet(other);
		send_arp(s, RTE_ARP_OP_REQUEST, &s->peer, &s->ours);
		m = receive(s, &pkt, 2000);
		assert_non_null(m);
		assert_memory_equal(
			rte_pktmbuf_mtod(m, struct rte_ether_hdr *)->src_addr.addr_bytes, s->nic.mac.b, 6);
		rte_pktmbuf_free(m);
		send_datagram(s, &other->ours);
		quiet(s);
		quiet(other);
	}
}

static void answers_leave_by_where_the_question_came(void **state)
{
	(void)state;
	for (unsigned i = 0; i < SIDES; i++) {
		const struct side *s = &sides[i];
		struct bw_pkt pkt;
		struct rte_mbuf *m;

		send_datagram(s, &s->ours);
		m = receive(s, &pkt, 2000);
		assert_non_null(m);
		assert_int_equal(pkt.kind, BW_PKT_UDP);
		assert_memory_equal(
			rte_pktmbuf_mtod(m, struct rte_ether_hdr *)->src_addr.addr_bytes, s->nic.mac.b, 6);
		assert_memory_equal(
			rte_pktmbuf_mtod(m, struct rte_ether_hdr *)->dst_addr.addr_bytes, s->peer_mac.b, 6);
		rte_pktmbuf_free(m);
		quiet(&sides[!i]);
	}
}

/** Answered, it would go to the other by a router that lies between, and come back for ever. */
static void nothing_comes_from_ourselves(void **state)
{
	struct bw_counters before, after;

	(void)state;
	bw_engine_counters(engine, &before);
	for (unsigned i = 0; i < SIDES; i++) {
		send_datagram_from(&sides[i], &sides[!i].ours, &sides[i].ours);
		quiet(&sides[i]);
		quiet(&sides[!i]);
	}
	bw_engine_counters(engine, &after);
	assert_int_equal(after.value[BW_DROP_MARTIAN] - before.value[BW_DROP_MARTIAN], SIDES);
}

/** Its MSS is that of the link that it comes by. */
static void a_syn_is_answered_by_its_link(void **state)
{
	static const uint16_t mss[SIDES] = { 1500 - 40, 1280 - 40 };

	(void)state;
	for (unsigned i = 0; i < SIDES; i++) {
		struct bw_pkt pkt;
		struct rte_mbuf *m;

		send_syn(&sides[i]);
		m = receive(&sides[i], &pkt, 2000);
		assert_non_null(m);
		assert_int_equal(pkt.kind, BW_PKT_TCP);
		assert_int_equal(pkt.tcp.flags, BW_TCP_SYN | BW_TCP_ACK);
		assert_int_equal(pkt.tcp.mss, mss[i]);
		rte_pktmbuf_free(m);
	}
}

/** Nobody takes what the first sends: its ring is full, then the backlog. The second goes on all the time. */
static void one_that_is_stuck_does_not_hold_the_other(void **state)
{
	struct bw_counters counters;

	(void)state;
	/* Where it lives is known, and no question is to be asked. */
	answers_leave_by_where_the_question_came(NULL);
	for (unsigned i = 0; i < 4000; i++) {
		while (rte_ring_full(sides[0].in))
			nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
		send_datagram(&sides[0], &sides[0].ours);
	}
	for (unsigned i = 0; i < 50; i++) {
		struct bw_pkt pkt;
		struct rte_mbuf *m;

		send_datagram(&sides[1], &sides[1].ours);
		m = receive(&sides[1], &pkt, 1000);
		assert_non_null(m);
		rte_pktmbuf_free(m);
		send_syn(&sides[1]);
		m = receive(&sides[1], &pkt, 1000);
		assert_non_null(m);
		rte_pktmbuf_free(m);
		nanosleep(&(struct timespec){ .tv_nsec = 20 * BW_NS_PER_MS }, NULL);
	}
	bw_engine_counters(engine, &counters);
	assert_true(counters.value[BW_DROP_TX_BACKLOG] > 1000);
	/* And the first goes on where somebody takes again. */
	for (void *m; rte_ring_sc_dequeue(sides[0].out, &m) == 0;)
		rte_pktmbuf_free(m);
	for (unsigned tries = 0;; tries++) {
		struct bw_pkt pkt;
		struct rte_mbuf *m;

		send_datagram(&sides[0], &sides[0].ours);
		m = receive(&sides[0], &pkt, 1000);
		rte_pktmbuf_free(m);
		if (m != NULL)
			break;
		assert_true(tries < 5);
	}
}

static void refuses_addresses_that_leave_in_doubt(void **state)
{
	struct bw_engine_conf conf;
	struct bw_engine *none = NULL;

	(void)state;
	bw_engine_conf_init(&conf);
	conf.device_count = SIDES;
	for (unsigned i = 0; i < SIDES; i++)
		conf.devices[i].nic = &sides[i].nic;
	conf.devices[0].addrs[0] = (struct bw_cidr){ sides[0].ours, 24 };
	conf.devices[0].addr_count = 1;
	assert_int_equal(bw_engine_create(&conf, &none), -EINVAL);
	/* Each has one of its own: by it, it is known where packets leave. */
	conf.devices[1].addrs[0] = conf.devices[0].addrs[0];
	conf.devices[1].addr_count = 1;
	assert_int_equal(bw_engine_create(&conf, &none), -EADDRINUSE);
	/* And a service is at an address of one of them. */
	conf.devices[1].addrs[0] = (struct bw_cidr){ sides[1].ours, 24 };
	conf.services[0] = (struct bw_engine_service){
		.service = &bw_echo_service, .port = ECHO_PORT, .addrs = { sides[0].peer }, .addr_count = 1
	};
	conf.service_count = 1;
	assert_int_equal(bw_engine_create(&conf, &none), -EADDRNOTAVAIL);
	conf.device_count = 0;
	assert_int_equal(bw_engine_create(&conf, &none), -EINVAL);
	conf.device_count = BW_DEVICES_MAX + 1;
	assert_int_equal(bw_engine_create(&conf, &none), -EINVAL);
	assert_null(none);
}

/* ---- start and end ------------------------------------------------------------------------------------------------- */

static int start(void **state)
{
	struct bw_engine_conf conf;

	(void)state;
	bw_engine_conf_init(&conf);
	conf.device_count = SIDES;
	for (unsigned i = 0; i < SIDES; i++) {
		struct side *s = &sides[i];
		const struct bw_nic_conf nic_conf = {
			.plan = &s->plan, .worker_count = 1, .mtu = i == 0 ? 1500 : 1280
		};
		char text[16];

		if (bw_nic_plan("ring", 1, &s->plan) != 0 || bw_nic_open(&s->nic, &nic_conf) != 0)
			return -1;
		s->in = bw_nic_ring_rx(&s->nic, 0);
		s->out = bw_nic_ring_tx(&s->nic, 0);
		s->peer_mac = (struct bw_mac){ { 2, 0, 0, 0, 9, (uint8_t)i } };
		snprintf(text, sizeof(text), "10.0.%u.1", i);
		bw_ip_parse(text, &s->peer);
		snprintf(text, sizeof(text), "10.0.%u.2", i);
		bw_ip_parse(text, &s->ours);
		conf.devices[i].nic = &s->nic;
		conf.devices[i].addrs[0] = (struct bw_cidr){ s->ours, 24 };
		conf.devices[i].addr_count = 1;
	}
	conf.services[0] = (struct bw_engine_service){ .service = &bw_echo_service, .port = ECHO_PORT };
	conf.service_count = 1;
	return bw_engine_create(&conf, &engine) != 0 || bw_engine_start(engine) != 0 ? -1 : 0;
}

/** Everything stops, and every buffer is back. */
static int stop(void **state)
{
	unsigned lost = 0;
	void *m;

	(void)state;
	bw_engine_destroy(engine);
	for (unsigned i = 0; i < SIDES; i++) {
		bw_nic_stop_queues(&sides[i].nic);
		while (rte_ring_sc_dequeue(sides[i].in, &m) == 0 ||
			rte_ring_sc_dequeue(sides[i].out, &m) == 0)
			rte_pktmbuf_free(m);
	}
	for (unsigned i = 0; i < SIDES; i++) {
		lost += bw_nic_mbufs_in_use(&sides[i].nic);
		bw_nic_close(&sides[i].nic);
	}
	if (lost != 0)
		print_error("%u mbufs lost\n", lost);
	return lost != 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_addresses_that_leave_in_doubt),
		cmocka_unit_test(each_answers_for_its_own_addresses),
		cmocka_unit_test(answers_leave_by_where_the_question_came),
		cmocka_unit_test(nothing_comes_from_ourselves),
		cmocka_unit_test(a_syn_is_answered_by_its_link),
		cmocka_unit_test(one_that_is_stuck_does_not_hold_the_other),
	};
	struct bw_eal_conf eal = { .plans = &sides[0].plan, .plan_count = 1, .memory_mib = 256 };

	if (bw_nic_plan("ring", 1, &sides[0].plan) != 0 || bw_eal_start(&eal) != 0)
		return 1;
	return cmocka_run_group_tests(tests, start, stop);
}
