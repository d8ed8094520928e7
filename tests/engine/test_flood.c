/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * The flood, from an engine with two real workers on a device made of rings: the test is its target. A machine that is
 * busy with other things makes packets late, so what is asserted of numbers is what holds then, too.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <rte_arp.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_ring.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include <base/clock.h>
#include <engine/engine.h>
#include <wire/build.h>

#define PORT 8080

static const struct bw_mac target_mac = { { 2, 0, 0, 0, 0, 1 } };
static struct bw_nic_plan plan;
static struct bw_nic nic;
static struct bw_engine *engine;
static struct bw_flood_conf flood;
static struct bw_cidr range;
static struct bw_ip own4, own6, target4, target6;
static struct rte_ring *to_engine, *from_engine[2];
static uint64_t received;

/* ---- the target ------------------------------------------------------------------------------------------ */

static struct rte_mbuf *fresh(void)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(nic.pools[0]);

	assert_non_null(m);
	return m;
}

static void send_frame(struct rte_mbuf *m, uint16_t ethertype)
{
	bw_eth_prepend(m, &target_mac, &nic.mac, ethertype, 0);
	m->ol_flags = 0;
	assert_int_equal(rte_ring_sp_enqueue(to_engine, m), 0);
}

static void send_ip(struct rte_mbuf *m, const struct bw_ip *dst, uint8_t proto)
{
	bool is_v4 = bw_ip_is_v4(dst);

	bw_ip_prepend(
		m, &(struct bw_ip_out){
			   .src = is_v4 ? &target4 : &target6, .dst = dst, .proto = proto, .ttl = 255 });
	send_frame(m, is_v4 ? RTE_ETHER_TYPE_IPV4 : RTE_ETHER_TYPE_IPV6);
}

static void answer_arp(const struct bw_pkt *pkt)
{
	struct rte_mbuf *m = fresh();
	struct bw_arp_fields arp;

	assert_int_equal(bw_arp_parse(pkt, &arp), 0);
	if (arp.opcode != RTE_ARP_OP_REQUEST || !bw_ip_eq(&arp.target, &target4)) {
		rte_pktmbuf_free(m);
		return;
	}
	bw_arp_write(m, RTE_ARP_OP_REPLY, &target_mac, &target4, &nic.mac, &arp.sender);
	send_frame(m, RTE_ETHER_TYPE_ARP);
}

static void answer_nd(const struct bw_pkt *pkt)
{
	struct bw_nd_fields nd;
	struct rte_mbuf *m;

	if (bw_nd_parse(pkt, &nd) != 0 || nd.type != ND_NEIGHBOR_SOLICIT || !bw_ip_eq(&nd.target, &target6))
		return;
	m = fresh();
	bw_nd_write(m, &(struct bw_nd_out){ .type = ND_NEIGHBOR_ADVERT,
			       .flags = BW_ND_SOLICITED | BW_ND_OVERRIDE,
			       .src = &target6,
			       .dst = &pkt->flow.remote,
			       .target = &target6,
			       .link_addr = &target_mac });
	send_ip(m, &pkt->flow.remote, IPPROTO_ICMPV6);
}

/* ---- what a packet has to be ----------------------------------------------------------------------------- */

/** RFC 1071, word by word. 0xffff: the checksum in it is right. */
static unsigned naive_sum(const uint8_t *at, unsigned bytes, unsigned sum)
{
	for (unsigned i = 0; i < bytes; i++)
		sum += i % 2 == 0 ? at[i] << 8 : at[i];
	while (sum >> 16 != 0)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static void check_checksums(const uint8_t *frame, unsigned len)
{
	bool is_v4 = frame[12] == 8;
	unsigned l4_at = is_v4 ? 34 : 54, proto = frame[is_v4 ? 23 : 20], l4_len = len - l4_at;

	if (is_v4)
		assert_int_equal(naive_sum(frame + 14, 20, 0), 0xffff);
	assert_int_equal(naive_sum(frame + l4_at, l4_len,
				 naive_sum(frame + (is_v4 ? 26 : 22), is_v4 ? 8 : 32, proto + l4_len)),
		0xffff);
}

static void check_tcp(const struct bw_tcp_fields *tcp)
{
	bool is_syn = flood.kind == BW_FLOOD_SYN;

	assert_int_equal(tcp->flags, is_syn ? BW_TCP_SYN : BW_TCP_ACK);
	assert_true(tcp->has_timestamp);
	assert_int_equal(tcp->has_mss, is_syn);
	assert_int_equal(tcp->has_sack_permitted, is_syn);
	assert_int_equal(tcp->has_wscale, is_syn);
	assert_int_equal(tcp->ack != 0, !is_syn);
}

static void check_source(const struct bw_flow *flow)
{
	bool is_v4 = bw_ip_is_v4(&flow->local);

	if (flood.from_count > 0)
		assert_true(bw_cidr_contains(&range, &flow->remote));
	else
		assert_true(bw_ip_eq(&flow->remote, is_v4 ? &own4 : &own6));
	assert_true(rte_be_to_cpu_16(flow->remote_port_be) >= 1024);
}

/** Sources and ports seen, in sets that are large enough for their number to tell. */
static struct seen {
	bool port[65536], source[65536];
	unsigned ports, sources;
	uint32_t last_seq;
} seen;

static void note(const struct bw_pkt *pkt)
{
	uint16_t port = pkt->flow.remote_port_be, low;

	memcpy(&low, &pkt->flow.remote.b[14], sizeof(low));
	seen.ports += !seen.port[port];
	seen.sources += !seen.source[low];
	seen.port[port] = seen.source[low] = true;
	if (pkt->kind == BW_PKT_TCP) {
		assert_int_not_equal(pkt->tcp.seq, seen.last_seq);
		seen.last_seq = pkt->tcp.seq;
	}
}

/** One packet of the flood, or what neighbours say to each other. */
static void take(struct rte_mbuf *m)
{
	const struct bw_cidr ours[] = { { target4, 24 }, { target6, 64 } };
	struct bw_wire_host host = { .mac = target_mac, .addr_count = 2, .addrs = ours };
	uint8_t copy[2048];
	unsigned len = m->data_len;
	struct bw_pkt pkt;

	memcpy(copy, rte_pktmbuf_mtod(m, void *), len);
	m->ol_flags = 0;
	bw_pkt_parse(m, &host, &pkt);
	if (pkt.kind == BW_PKT_ARP) {
		answer_arp(&pkt);
	} else if (pkt.kind == BW_PKT_ICMP6) {
		answer_nd(&pkt);
	} else if (pkt.kind != BW_PKT_DROP) { /* announcements to groups are */
		assert_int_equal(pkt.kind, flood.kind == BW_FLOOD_UDP ? BW_PKT_UDP : BW_PKT_TCP);
		assert_int_equal(rte_be_to_cpu_16(pkt.flow.local_port_be), PORT);
		check_checksums(copy, len);
		if (flood.kind == BW_FLOOD_UDP)
			assert_int_equal(pkt.payload_len, flood.size);
		else
			check_tcp(&pkt.tcp);
		check_source(&pkt.flow);
		note(&pkt);
		received++;
	}
	rte_pktmbuf_free(m);
}

static void take_all(void)
{
	void *m;

	while (rte_ring_sc_dequeue(from_engine[0], &m) == 0 || rte_ring_sc_dequeue(from_engine[1], &m) == 0)
		take(m);
}

/* ---- a run ----------------------------------------------------------------------------------------------- */

static struct bw_flood_figures figures(void)
{
	struct bw_flood_figures sum;

	bw_engine_flood_figures(engine, &sum);
	return sum;
}

static uint64_t all_of(const struct bw_flood_figures *f)
{
	return f->sent + f->unsent_device + f->unsent_late;
}

static void begin(void)
{
	struct bw_nic_conf nic_conf = { .plan = &plan, .worker_count = 2, .mtu = 1500 };
	struct bw_engine_conf conf;

	assert_int_equal(bw_nic_open(&nic, &nic_conf), 0);
	to_engine = bw_nic_ring_rx(&nic, 0);
	from_engine[0] = bw_nic_ring_tx(&nic, 0);
	from_engine[1] = bw_nic_ring_tx(&nic, 1);
	bw_engine_conf_init(&conf);
	conf.devices[0].nic = &nic;
	conf.devices[0].addrs[0] = (struct bw_cidr){ own4, 24 };
	conf.devices[0].addrs[1] = (struct bw_cidr){ own6, 64 };
	conf.devices[0].addr_count = 2;
	conf.worker_count = 2;
	conf.cpus[1] = (unsigned)sysconf(_SC_NPROCESSORS_ONLN) > 1;
	conf.flood = &flood;
	conf.devices[0].range = flood.from_count > 0 ? range : (struct bw_cidr){ 0 };
	assert_int_equal(bw_engine_create(&conf, &engine), 0);
	assert_int_equal(bw_engine_start(engine), 0);
	received = 0;
	memset(&seen, 0, sizeof(seen));
	while (figures().ready_workers < 2)
		take_all();
	assert_int_equal(figures().sent, 0);
	bw_engine_flood_begin(engine);
}

/** Until all workers are done, and what they have sent is here. */
static struct bw_flood_figures finish(void)
{
	while (figures().done_workers < 2)
		take_all();
	take_all();
	return figures();
}

static void end(void)
{
	void *m;

	bw_engine_drain(engine, BW_NS_PER_SEC);
	bw_engine_destroy(engine);
	bw_nic_stop_queues(&nic);
	while (rte_ring_sc_dequeue(from_engine[0], &m) == 0 || rte_ring_sc_dequeue(from_engine[1], &m) == 0 ||
		rte_ring_sc_dequeue(to_engine, &m) == 0)
		rte_pktmbuf_free(m);
	assert_int_equal(bw_nic_mbufs_in_use(&nic), 0);
	bw_nic_close(&nic);
}

static int reset(void **state)
{
	(void)state;
	flood = (struct bw_flood_conf){
		.target = target4,
		.port = PORT,
		.rate = 200000,
		.duration_ns = 10 * BW_NS_PER_SEC,
		.size = 101,
		.seed = 1,
	};
	return 0;
}

static void use_sources(const char *cidr, uint64_t count)
{
	assert_int_equal(bw_cidr_parse(cidr, &range), 0);
	flood.from = range.ip;
	flood.from_count = count;
}

/* ---- stories --------------------------------------------------------------------------------------------- */

/** Of every kind and family, from ourselves and from many: right in every byte, and no two alike. */
static void every_packet_is_right(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 12; i++) {
		bool is_v4 = i % 2 == 0, has_sources = i / 2 % 2 == 1;
		struct bw_flood_figures f;

		reset(NULL);
		flood.kind = (enum bw_flood_kind)(i / 4);
		flood.target = is_v4 ? target4 : target6;
		flood.count_max = 3001;
		flood.rate = 6000; /* for half a second, in which the workers find some time */
		if (has_sources && is_v4)
			use_sources("10.128.0.0/9", 1u << 23);
		else if (has_sources)
			use_sources("fd99::/64", 1ull << 32);
		begin();
		f = finish();
		assert_int_equal(all_of(&f), 3001);
		assert_int_equal(received, f.sent);
		assert_true(received > 0);
		/* Of 3,000 draws of 64,512 some 70 meet another. */
		assert_true(seen.ports > received * 3 / 4);
		assert_true(has_sources ? seen.sources > received * 3 / 4 : seen.sources == 1);
		end();
	}
}

/** It ends with its duration, with what that has room for, and is never ahead of its rate. */
static void its_rate_is_kept_and_its_duration(void **state)
{
	struct bw_flood_figures f;
	bw_ns began;

	(void)state;
	flood.rate = 100001;
	flood.duration_ns = 300 * BW_NS_PER_MS;
	begin();
	began = bw_clock_now();
	while (figures().done_workers < 2) {
		f = figures();
		/* Begun a moment before the clock was read here; read here after the packets were counted. */
		assert_true(
			f.sent <= (bw_clock_now() - began + 50 * BW_NS_PER_MS) * flood.rate / BW_NS_PER_SEC);
		take_all();
	}
	f = finish();
	assert_int_equal(all_of(&f), 30000);
	assert_int_equal(received, f.sent);
	nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
	take_all();
	assert_int_equal(received, f.sent);
	end();
}

/** What the device does not take in time is given up and counted, and nothing is sent in its place later. */
static void what_cannot_be_sent_is_told(void **state)
{
	struct bw_flood_figures f;

	(void)state;
	flood.rate = 1000000;
	flood.count_max = 50000;
	begin();
	while (figures().done_workers < 2) /* the rings fill, and nobody empties them */
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	f = finish();
	assert_int_equal(all_of(&f), 50000);
	assert_int_equal(received, f.sent);
	assert_true(f.sent <= 2 * 1024);
	assert_true(f.unsent_device > 0);
	end();
}

/** Ended from outside: at once. */
static void it_ends_when_told(void **state)
{
	struct bw_flood_figures f;

	(void)state;
	begin();
	nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
	bw_engine_flood_end(engine);
	f = finish();
	assert_true(all_of(&f) < flood.rate * 10);
	end();
}

static struct rte_mbuf *segment(uint8_t flags)
{
	struct bw_tcp_fields fields = { .flags = flags, .seq = 1, .ack = 2, .window = 1000 };
	struct rte_mbuf *m = fresh();
	struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)rte_pktmbuf_append(m, 20);

	bw_tcp_header_write((uint8_t *)tcp, RTE_BE16(PORT), RTE_BE16(40000), &fields);
	tcp->cksum = (uint16_t)~bw_sum_fold(bw_sum(tcp, 20, bw_sum_pseudo(&target4, &own4, IPPROTO_TCP, 20)));
	return m;
}

static struct rte_mbuf *datagram(uint16_t from_port)
{
	struct rte_mbuf *m = fresh();
	struct rte_udp_hdr *udp = (struct rte_udp_hdr *)rte_pktmbuf_append(m, 8);

	*udp = (struct rte_udp_hdr){ rte_cpu_to_be_16(from_port), RTE_BE16(40000), RTE_BE16(8), 0 };
	return m;
}

/** Port unreachable, about a datagram of ours to `dst`. */
static struct rte_mbuf *unreachable(const struct bw_ip *dst)
{
	struct rte_mbuf *m = fresh();
	uint8_t *icmp = (uint8_t *)rte_pktmbuf_append(m, 36);
	struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(icmp + 8);
	uint16_t sum;

	if (icmp == NULL)
		abort();
	memset(icmp, 0, 36);
	icmp[0] = ICMP_DEST_UNREACH;
	icmp[1] = ICMP_PORT_UNREACH;
	*ip = (struct rte_ipv4_hdr){ .version_ihl = 0x45,
		.total_length = RTE_BE16(36),
		.time_to_live = 64,
		.next_proto_id = IPPROTO_UDP,
		.src_addr = bw_ip_v4_be(&own4),
		.dst_addr = bw_ip_v4_be(dst) };
	ip->hdr_checksum = (uint16_t)~bw_sum_fold(bw_sum(ip, 20, 0));
	memcpy(icmp + 28, (const uint16_t[]){ RTE_BE16(40000), RTE_BE16(PORT), RTE_BE16(16), 0 }, 8);
	sum = (uint16_t)~bw_sum_fold(bw_sum(icmp, 36, 0));
	memcpy(icmp + 2, &sum, sizeof(sum));
	return m;
}

static void wait_for_answers(uint64_t count)
{
	struct bw_flood_figures f;
	uint64_t all;

	for (unsigned tries = 0; tries < 5000; tries++) {
		f = figures();
		all = 0;
		for (unsigned i = 0; i < BW_FLOOD_ANSWERS; i++)
			all += f.answer[i];
		if (all >= count)
			return;
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
	fail_msg("%lu of %lu answers", all, count);
}

/** What comes back is counted by kind and answered by nothing; what is not of the flood is treated as ever. */
static void answers_are_counted_and_not_answered(void **state)
{
	static const uint64_t expected[BW_FLOOD_ANSWERS] = { 2, 3, 1, 1, 1 };
	struct bw_flood_figures f;
	struct bw_counters counters;

	(void)state;
	flood.kind = BW_FLOOD_UDP;
	flood.count_max = 10;
	begin();
	finish();
	send_ip(segment(BW_TCP_SYN | BW_TCP_ACK), &own4, IPPROTO_TCP);
	send_ip(segment(BW_TCP_SYN | BW_TCP_ACK), &own4, IPPROTO_TCP);
	send_ip(segment(BW_TCP_RST), &own4, IPPROTO_TCP);
	send_ip(segment(BW_TCP_RST | BW_TCP_ACK), &own4, IPPROTO_TCP);
	send_ip(segment(BW_TCP_RST | BW_TCP_ACK), &own4, IPPROTO_TCP);
	send_ip(segment(BW_TCP_ACK), &own4, IPPROTO_TCP);
	send_ip(datagram(PORT), &own4, IPPROTO_UDP);
	send_ip(unreachable(&target4), &own4, IPPROTO_ICMP);
	send_ip(datagram(PORT + 1), &own4,
		IPPROTO_UDP); /* not the target's port: nobody's, which it is told */
	wait_for_answers(8);
	f = figures();
	for (unsigned i = 0; i < BW_FLOOD_ANSWERS; i++)
		assert_int_equal(f.answer[i], expected[i]);
	for (unsigned tries = 0; tries < 1000; tries++) {
		bw_engine_counters(engine, &counters);
		if (counters.value[BW_ICMP_ERRORS_SENT] == 1)
			break;
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
	assert_int_equal(counters.value[BW_ICMP_ERRORS_SENT], 1);
	assert_int_equal(counters.value[BW_TCP_RESET_OUT], 0);
	assert_int_equal(counters.value[BW_TCP_SEGMENTS_IN], 0);
	end();
}

/** A datagram that fits no packet, and a target that no route leads to: said once, and no worker runs. */
static void what_cannot_be_done_is_refused(void **state)
{
	struct bw_nic_conf nic_conf = { .plan = &plan, .worker_count = 2, .mtu = 1500 };
	struct bw_engine_conf conf;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		reset(NULL);
		flood.kind = BW_FLOOD_UDP;
		flood.size = i == 0 ? 1473 : 1472;
		if (i == 1)
			assert_int_equal(bw_ip_parse("10.9.0.1", &flood.target), 0);
		bw_engine_conf_init(&conf);
		conf.devices[0].nic = &nic;
		conf.devices[0].addrs[0] = (struct bw_cidr){ own4, 24 };
		conf.devices[0].addr_count = 1;
		conf.worker_count = 2;
		conf.flood = &flood;
		assert_int_equal(bw_nic_open(&nic, &nic_conf), 0);
		assert_int_equal(bw_engine_create(&conf, &engine), 0);
		assert_int_equal(bw_engine_start(engine), i == 0 ? -EMSGSIZE : -ENETUNREACH);
		bw_engine_destroy(engine);
		bw_nic_stop_queues(&nic);
		assert_int_equal(bw_nic_mbufs_in_use(&nic), 0);
		bw_nic_close(&nic);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define STORY(name) cmocka_unit_test_setup(name, reset)
		STORY(every_packet_is_right),
		STORY(its_rate_is_kept_and_its_duration),
		STORY(what_cannot_be_sent_is_told),
		STORY(it_ends_when_told),
		STORY(answers_are_counted_and_not_answered),
		STORY(what_cannot_be_done_is_refused),
	};
	struct bw_eal_conf eal = { .plans = &plan, .plan_count = 1, .memory_mib = 192 };

	bw_ip_parse("10.1.0.2", &own4);
	bw_ip_parse("10.1.0.1", &target4);
	bw_ip_parse("fd00::2", &own6);
	bw_ip_parse("fd00::1", &target6);
	if (bw_nic_plan("ring", 2, &plan) != 0 || bw_eal_start(&eal) != 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
