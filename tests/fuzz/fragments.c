/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * A whole worker without its thread, on a device made of rings and a clock that the input moves. It is fed
 * fragments of a few datagrams, true ones and such as overlap, leave gaps or contradict each other, and any
 * other frame.
 *
 * A datagram that comes out has the bytes that it was sent with, however it was cut; and in the end no buffer is
 * left anywhere.
 */
#include <rte_ether.h>
#include <rte_ring.h>

#include <base/clock.h>
#include <base/log.h>
#include <engine/engine.h>
#include <wire/build.h>

#include "fuzz.h"
#include "worker.h"

#define PORT      9
#define DATAGRAMS 8

static struct bw_nic_plan plan;
static struct bw_nic nic;
static struct bw_engine *engine;
static struct bw_worker *w;
static struct rte_ring *to_engine, *from_engine;
static struct bw_ip ours[2], peers[2];

static bool has_strangers; /* not all frames are of the datagrams below */

/** UDP datagrams with their headers, of both families. */
static const uint16_t datagram_bytes[DATAGRAMS] = { 16, 40, 200, 1480, 3000, 9000, 20000, 65000 };
static uint8_t *datagrams[2][DATAGRAMS];

/* ---- the service ------------------------------------------------------------------------------------------ */

/** Which one it is says its first byte. */
static void on_datagram(struct bw_context *ctx, const struct bw_datagram *dgram)
{
	const struct bw_view *payload = &dgram->payload;
	unsigned id = payload->len > 0 ? payload->data[0] : 0;

	if (has_strangers)
		return;
	BW_ASSERT_LT(id, DATAGRAMS);
	BW_ASSERT_LE(payload->len + 8, datagram_bytes[id]);
	BW_ASSERT(memcmp(payload->data, datagrams[0][id] + 8, payload->len) == 0);
}

static const struct bw_service check_service = { .name = "check", .datagram = on_datagram };

/* ---- the beginning ---------------------------------------------------------------------------------------- */

static void make_datagram(unsigned family, unsigned id)
{
	const uint16_t bytes = datagram_bytes[id];
	uint8_t *udp = calloc(1, bytes);
	uint16_t sum;

	BW_ASSERT(udp != NULL);
	udp[0] = 16;
	udp[3] = PORT;
	udp[4] = (uint8_t)(bytes >> 8);
	udp[5] = (uint8_t)bytes;
	udp[8] = (uint8_t)id;
	for (unsigned i = 9; i < bytes; i++)
		udp[i] = (uint8_t)(i * 2654435761u >> 24 ^ id);
	sum = (uint16_t)~bw_sum_fold(
		bw_sum(udp, bytes, bw_sum_pseudo(&peers[family], &ours[family], IPPROTO_UDP, bytes)));
	memcpy(udp + 6, &sum, 2);
	datagrams[family][id] = udp;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct bw_eal_conf eal = { .plans = &plan, .plan_count = 1, .memory_mib = 96 };
	struct bw_nic_conf nic_conf = { .plan = &plan, .worker_count = 1, .mtu = 1500 };
	struct bw_engine_conf conf;

	bw_log_set_level(BW_LOG_ERROR);
	BW_ASSERT(bw_nic_plan("ring", 1, &plan) == 0 && bw_eal_start(&eal) == 0);
	BW_ASSERT_EQ(bw_nic_open(&nic, &nic_conf), 0);
	to_engine = bw_nic_ring_rx(&nic, 0);
	from_engine = bw_nic_ring_tx(&nic, 0);
	bw_engine_conf_init(&conf);
	conf.devices[0].nic = &nic;
	bw_cidr_parse("192.0.2.2/24", &conf.devices[0].addrs[0]);
	bw_cidr_parse("2001:db8::2/64", &conf.devices[0].addrs[1]);
	conf.devices[0].addr_count = 2;
	conf.fragments_max = 4;
	conf.neighbours_max = 16;
	conf.tcp.connections_max = conf.tcp.half_open_max = conf.tcp.time_wait_max = 4;
	conf.services[0] = (struct bw_engine_service){ .service = &check_service, .port = PORT };
	conf.services[1] = (struct bw_engine_service){ .service = &bw_echo_service, .port = 7 };
	conf.service_count = 2;
	BW_ASSERT_EQ(bw_engine_create(&conf, &engine), 0);
	w = &engine->workers[0];
	bw_flow_hash_seed(42);
	for (unsigned i = 0; i < 2; i++)
		ours[i] = conf.devices[0].addrs[i].ip;
	BW_ASSERT_EQ(bw_ip_parse("192.0.2.1", &peers[0]), 0);
	BW_ASSERT_EQ(bw_ip_parse("2001:db8::1", &peers[1]), 0);
	for (unsigned id = 0; id < DATAGRAMS; id++) {
		make_datagram(0, id);
		make_datagram(1, id);
	}
	return 0;
}

/* ---- a turn, as in worker.c -------------------------------------------------------------------------------- */

static void timer_fired(void *ctx, struct bw_timer *timer, bw_ns now)
{
	if (timer->kind == BW_TIMER_NEIGH)
		bw_neigh_timer(w, bw_container_of(timer, struct bw_neigh, timer));
	else if (timer->kind == BW_TIMER_ANNOUNCE)
		bw_neigh_announce(&w->ifaces[0]);
	else
		bw_fragments_timer(w);
}

static void turn(void)
{
	const uint16_t frame_max = (uint16_t)(nic.mtu + 18);
	void *m;

	bw_ingress_devices(w);
	bw_tcp_timers(w->tcp, w->now);
	bw_wheel_advance(&w->wheel, w->now, BW_BURST_MAX, timer_fired, w);
	bw_egress(w);
	bw_egress_flush(w);
	while (rte_ring_sc_dequeue(from_engine, &m) == 0) {
		BW_ASSERT_LE(rte_pktmbuf_pkt_len((struct rte_mbuf *)m), frame_max);
		rte_pktmbuf_free(m);
	}
}

/* ---- frames ------------------------------------------------------------------------------------------------ */

static void put16(uint8_t *at, unsigned value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static void send_frame(const uint8_t *bytes, size_t len, uint64_t flags)
{
	struct rte_mbuf *m = fuzz_mbuf(nic.pools[0], bytes, len);

	BW_ASSERT(m != NULL);
	m->ol_flags |= flags;
	BW_ASSERT_EQ(rte_ring_sp_enqueue(to_engine, m), 0);
	turn();
}

static unsigned put_ethernet(uint8_t *at, unsigned family)
{
	memcpy(at, &nic.mac, 6);
	memcpy(at + 6, "\x02\x00\x00\x00\x00\x99", 6);
	put16(at + 12, family == 0 ? RTE_ETHER_TYPE_IPV4 : RTE_ETHER_TYPE_IPV6);
	return 14;
}

static unsigned put_ip4(uint8_t *ip, unsigned id, unsigned bytes, unsigned offset, bool more)
{
	uint16_t sum;

	memset(ip, 0, 20);
	ip[0] = 0x45;
	put16(ip + 2, 20 + bytes);
	put16(ip + 4, id);
	put16(ip + 6, offset / 8 | (more ? 0x2000 : 0));
	ip[8] = 64;
	ip[9] = IPPROTO_UDP;
	memcpy(ip + 12, peers[0].b + 12, 4);
	memcpy(ip + 16, ours[0].b + 12, 4);
	sum = (uint16_t)~bw_sum_fold(bw_sum(ip, 20, 0));
	memcpy(ip + 10, &sum, 2);
	return 20;
}

static unsigned put_ip6(uint8_t *ip, unsigned id, unsigned bytes, unsigned offset, bool more, bool has_ext)
{
	unsigned ext = has_ext ? 8 : 0;

	memset(ip, 0, 56);
	ip[0] = 0x60;
	put16(ip + 4, ext + 8 + bytes);
	ip[6] = has_ext ? IPPROTO_DSTOPTS : IPPROTO_FRAGMENT;
	ip[7] = 64;
	memcpy(ip + 8, peers[1].b, 16);
	memcpy(ip + 24, ours[1].b, 16);
	if (has_ext) {
		ip[40] = IPPROTO_FRAGMENT;
		ip[42] = 1; /* PadN */
		ip[43] = 4;
	}
	ip[40 + ext] = IPPROTO_UDP;
	put16(ip + 42 + ext, offset | more);
	ip[47 + ext] = (uint8_t)id;
	return 48 + ext;
}

/** Some of a datagram; that it is the last, or not, may be a lie. */
static void send_fragment(struct fuzz_input *in)
{
	static uint8_t frame[14 + 56 + 65535];
	uint8_t which = fuzz_u8(in), how = fuzz_u8(in);
	unsigned family = which >> 7, id = which & 7, bytes = datagram_bytes[id];
	uint32_t offset = fuzz_u16(in) * 8u, len = (uint32_t)fuzz_u16(in) & 0x3fff;
	bool is_last, lies = how & 1;
	unsigned at;

	if (offset >= bytes)
		offset = offset % bytes & ~7u;
	is_last = len >= bytes - offset;
	len = is_last ? bytes - offset : len & ~7u;
	if (how & 2 && len > 3) /* no multiple of 8 */
		len -= 3;
	at = put_ethernet(frame, family);
	at += family == 0 ? put_ip4(frame + at, id, len, offset, is_last == lies)
			  : put_ip6(frame + at, id, len, offset, is_last == lies, how & 4);
	memcpy(frame + at, datagrams[family][id] + offset, len);
	send_frame(frame, at + len, how & 8 ? RTE_MBUF_F_RX_L4_CKSUM_GOOD : 0);
}

static void send_any(struct fuzz_input *in)
{
	uint16_t len = fuzz_u16(in);
	size_t taken;
	uint8_t *bytes = fuzz_bytes(in, len & 2047, &taken);

	has_strangers = true;
	if (taken >= 14 && (len & 0x4000))
		put_ethernet(bytes, len >> 15);
	send_frame(bytes, taken, RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_GOOD);
	free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, data + size };
	bw_ns until;

	has_strangers = false;
	BW_ASSERT_EQ(bw_worker_setup(w), 0);
	while (fuzz_left(&in) > 0) {
		uint8_t op = fuzz_u8(&in);

		if (op < 0xa0) {
			send_fragment(&in);
		} else if (op < 0xd0) {
			send_any(&in);
		} else {
			until = w->now + fuzz_u16(&in) * BW_NS_PER_MS;
			while (w->now < until) {
				w->now = BW_MIN(w->now + 500 * BW_NS_PER_MS, until);
				turn();
			}
		}
	}
	bw_worker_teardown(w);
	BW_ASSERT_EQ(bw_nic_mbufs_in_use(&nic), 0);
	return 0;
}
