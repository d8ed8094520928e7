/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Whose is a packet, and how many may go. The frames are those of the programs in the kernel that decide the same, and
 * where these can be loaded, the two are asked the same.
 */
#include <stdlib.h>

#include <bpf/bpf.h>
#include <linux/bpf.h>

#include "../steer/frames.h"
#include "internal.h"

#include "claims.h"
#include "rate.h"
#include "worker.h"

#define NOW (1000 * BW_NS_PER_SEC)

static uint32_t some_data(struct bw_stream *stream, const struct bw_view *views, unsigned count)
{
	return 0;
}

static void some_datagram(struct bw_context *ctx, const struct bw_datagram *datagram) {}

static const struct bw_service tcp_service = { .name = "tcp", .data = some_data };
static const struct bw_service udp_service = { .name = "udp", .datagram = some_datagram };

static struct bw_engine_conf conf;
static struct bw_claims claims;
static struct bw_network network;

/** In memory of just its size, so that a byte too far shows under a sanitizer. */
static bool is_ours_at(const struct frame *f, bw_ns now)
{
	uint8_t *bytes = malloc(f->bytes);
	struct rte_mbuf m = { .buf_addr = bytes, .data_len = (uint16_t)f->bytes, .pkt_len = f->bytes };
	bool is_ours;

	assert_non_null(bytes);
	memcpy(bytes, f->b, f->bytes);
	is_ours = bw_claims_is_ours(&claims, &network, &m, now);
	assert_memory_equal(bytes, f->b, f->bytes); /* whoever gets it, gets it as it came */
	free(bytes);
	return is_ours;
}

#define OURS(frame_)                                                                                         \
	do {                                                                                                 \
		struct frame f_ = frame_;                                                                    \
                                                                                                             \
		assert_true(is_ours_at(&f_, NOW));                                                           \
	} while (0)
#define KERNELS(frame_)                                                                                      \
	do {                                                                                                 \
		struct frame f_ = frame_;                                                                    \
                                                                                                             \
		assert_false(is_ours_at(&f_, NOW));                                                          \
	} while (0)

static struct bw_ip ip_of(const char *text)
{
	struct bw_ip ip;

	assert_int_equal(bw_ip_parse(text, &ip), 0);
	return ip;
}

/** TCP 80 at both addresses, UDP 53 at the IPv4 one. */
static void own(uint16_t vlan, bool connects)
{
	bw_engine_conf_init(&conf);
	conf.devices[0].vlan = vlan;
	conf.tcp.port_first = 61000;
	conf.services[0] = (struct bw_engine_service){ .service = &tcp_service, .port = 80 };
	conf.services[1] = (struct bw_engine_service){
		.service = &udp_service, .port = 53, .addrs = { ip_of("192.0.2.2") }, .addr_count = 1
	};
	conf.services[2] =
		(struct bw_engine_service){ .service = &tcp_service, .port = 0 }; /* only connects */
	conf.service_count = 3;
	bw_claims_init(&claims, &conf, conf.devices[0].vlan, connects);
	network = (struct bw_network){ .is_kernels = true, .mac = ours, .addr_count = 2 };
	network.addrs[0] = (struct bw_cidr){ ip_of("192.0.2.2"), 24 };
	network.addrs[1] = (struct bw_cidr){ ip_of("2001:db8::2"), 64 };
}

#define TO4(proto_, ...) packet(&(struct header){ "192.0.2.9", "192.0.2.2", proto_ }, __VA_ARGS__)
#define TO6(proto_, ...) packet(&(struct header){ "2001:db8::9", "2001:db8::2", proto_ }, __VA_ARGS__)

static void ports_of_our_addresses(void **state)
{
	own(0, false);
	OURS(TCP4(4000, 80, SYN));
	OURS(TO6(IPPROTO_TCP, 4000, 80, SYN));
	OURS(TO4(IPPROTO_UDP, 4000, 53, 0));
	KERNELS(TO6(IPPROTO_UDP, 4000, 53, 0)); /* that service is on the other address */
	KERNELS(TCP4(4000, 22, SYN));
	KERNELS(TCP4(80, 4000, ACK)); /* an answer to a connection of the kernel's */
	KERNELS(TO4(IPPROTO_UDP, 4000, 80, 0));
	KERNELS(TO4(IPPROTO_SCTP, 4000, 80, 0));
	KERNELS(TO4(IPPROTO_ICMP, 0x0800, 0, 0));
	KERNELS(packet(&(struct header){ "192.0.2.9", "192.0.2.3", IPPROTO_TCP }, 4000, 80, SYN));
	KERNELS(packet(&(struct header){ "192.0.2.9", "192.0.2.255", IPPROTO_UDP }, 4000, 53, 0));
	KERNELS(packet(&(struct header){ "2001:db8::9", "ff02::1", IPPROTO_TCP }, 4000, 80, SYN));
	OURS(packet(
		&(struct header){ "2001:db8::9", "2001:db8::2", IPPROTO_TCP, .options = 3 }, 4000, 80, SYN));
	KERNELS(packet(
		&(struct header){ "2001:db8::9", "2001:db8::2", IPPROTO_TCP, .options = 12 }, 4000, 80, SYN));
	KERNELS(arp("192.0.2.9", "192.0.2.2"));
	KERNELS(solicit("2001:db8::2", 135));
	KERNELS(authenticated(16));
}

/** Where another process has the ports of an address, all of that is the kernel's. */
static void an_address_that_is_left(void **state)
{
	own(0, true);
	network.left = 1;
	KERNELS(TCP4(4000, 80, SYN));
	KERNELS(TCP4(443, 61000, ACK));
	OURS(TO6(IPPROTO_TCP, 4000, 80, SYN));
	KERNELS(icmp(false, 3, "192.0.2.2", 80, 0));
}

static void ports_that_we_open_from(void **state)
{
	own(0, true);
	KERNELS(TCP4(443, 60999, ACK));
	OURS(TCP4(443, 61000, ACK));
	OURS(TO4(IPPROTO_UDP, 53, 65535, 0));
	own(0, false);
	KERNELS(TCP4(443, 61000, ACK));
}

static void errors_go_where_what_they_quote_came_from(void **state)
{
	own(0, true);
	OURS(icmp(false, 3, "192.0.2.2", 80, 0));
	OURS(icmp(false, 11, "192.0.2.2", 80, 2));
	OURS(icmp(false, 3, "192.0.2.2", 61234, 0));
	KERNELS(icmp(false, 3, "192.0.2.2", 22, 0));
	KERNELS(icmp(false, 3, "192.0.2.5", 61234, 0)); /* we have no such address */
	KERNELS(icmp(false, 8, "192.0.2.2", 80, 0));
	OURS(icmp(true, 2, "2001:db8::2", 80, 1));
	KERNELS(icmp(true, 128, "2001:db8::2", 80, 0));
}

static struct frame fragment(unsigned id, unsigned field, unsigned dest)
{
	return packet(&(struct header){ "192.0.2.9", "192.0.2.2", IPPROTO_UDP, .id = id, .fragment = field },
		4000, dest, 0);
}

static void fragments_follow_the_first(void **state)
{
	const struct frame second = fragment(7, 100, 0);

	own(0, false);
	KERNELS(second); /* of nobody knows what */
	OURS(fragment(7, 0x2000, 53));
	OURS(second);
	OURS(second);
	KERNELS(fragment(8, 100, 0));
	assert_true(is_ours_at(&second, NOW + 59 * BW_NS_PER_SEC));
	assert_false(is_ours_at(&second, NOW + 60 * BW_NS_PER_SEC));
	KERNELS(fragment(7, 0x2000, 99)); /* the same number again, for the kernel */
	KERNELS(second);
	OURS(behind_fragment_header(true));
	OURS(behind_fragment_header(false));
}

/** However many others there are, one that has just come is known. */
static void many_datagrams(void **state)
{
	own(0, false);
	for (unsigned id = 1; id < 60000; id++) {
		OURS(fragment(id, 0x2000, 53));
		OURS(fragment(id, 100, 0));
	}
}

/** Whatever is cut off, and where: nothing beyond is looked at, and what has no port to be seen is the kernel's. */
/** Cut off at every byte, too: what is about neighbours says so in its first bytes, or is not. */
static bool is_about_neighbours(const struct frame *f)
{
	bool is_it = false;

	for (unsigned bytes = 0; bytes <= f->bytes; bytes++) {
		uint8_t *copy = malloc(bytes + 1);
		struct rte_mbuf m = { .buf_addr = copy + 1, .data_len = (uint16_t)bytes, .pkt_len = bytes };

		assert_non_null(copy);
		memcpy(copy + 1, f->b, bytes);
		assert_true(!is_it || bw_claims_is_about_neighbours(&m));
		is_it = bw_claims_is_about_neighbours(&m);
		free(copy);
	}
	return is_it;
}

static void what_finds_neighbours(void **state)
{
	static const char *const us = "2001:db8::2";
	const struct frame is[] = { arp("192.0.2.9", "192.0.2.2"), tagged(arp("192.0.2.9", "192.0.2.2"), 7),
		solicit(us, ND_NEIGHBOR_SOLICIT), solicit(us, ND_NEIGHBOR_ADVERT),
		solicit(us, ND_ROUTER_ADVERT), tagged(solicit(us, ND_NEIGHBOR_SOLICIT), 7) };
	const struct frame is_not[] = { TCP4(4000, 80, SYN), TO4(IPPROTO_ICMP, 0x0800, 0, 0),
		TO6(IPPROTO_TCP, 34304, 80, SYN), solicit(us, ICMP6_ECHO_REQUEST), solicit(us, 138) };

	for (unsigned i = 0; i < BW_ARRAY_LEN(is); i++)
		assert_true(is_about_neighbours(&is[i]));
	for (unsigned i = 0; i < BW_ARRAY_LEN(is_not); i++)
		assert_false(is_about_neighbours(&is_not[i]));
}

static void cut_off(void **state)
{
	const struct frame whole[] = { TCP4(4000, 80, SYN), icmp(false, 3, "192.0.2.2", 80, 1),
		icmp(true, 1, "2001:db8::2", 80, 1), tagged(TCP4(4000, 80, SYN), 0),
		behind_fragment_header(true),
		packet(&(struct header){ "2001:db8::9", "2001:db8::2", IPPROTO_TCP, .options = 3 }, 4000, 80,
			SYN) };

	own(0, false);
	for (unsigned i = 0; i < BW_ARRAY_LEN(whole); i++) {
		unsigned kernels = 0;

		for (unsigned bytes = 1; bytes <= whole[i].bytes; bytes++) {
			struct frame f = whole[i];

			f.bytes = bytes;
			kernels += !is_ours_at(&f, NOW);
		}
		assert_in_range(kernels, 37, whole[i].bytes - 1);
		OURS(whole[i]);
	}
}

static void vlans_and_other_hosts(void **state)
{
	struct frame f = TCP4(4000, 80, SYN);
	struct rte_mbuf m = { .buf_addr = f.b,
		.data_len = (uint16_t)f.bytes,
		.ol_flags = RTE_MBUF_F_RX_VLAN | RTE_MBUF_F_RX_VLAN_STRIPPED,
		.vlan_tci = 0x6005 };

	own(0, false);
	OURS(tagged(TCP4(4000, 80, SYN), 0xe000)); /* priority alone */
	KERNELS(tagged(TCP4(4000, 80, SYN), 5));
	assert_false(bw_claims_is_ours(&claims, &network, &m, NOW));
	own(5, false);
	OURS(tagged(TCP4(4000, 80, SYN), 0x6005));
	KERNELS(tagged(TCP4(4000, 80, SYN), 6));
	KERNELS(tagged(tagged(TCP4(4000, 80, SYN), 5), 5));
	KERNELS(TCP4(4000, 80, SYN));
	assert_true(bw_claims_is_ours(&claims, &network, &m, NOW)); /* the device has taken the tag out */
	own(0, false);
	f.b[5]++;
	KERNELS(f);
}

/* ---- beside the programs --------------------------------------------------------------------------------------- */

static struct bw_steer *steer;

static bool is_the_programs(const struct frame *f)
{
	uint8_t out[FRAME_MAX];
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = f->b, .data_size_in = f->bytes, .data_out = out,
		.data_size_out = sizeof(out));

	assert_int_equal(bpf_prog_test_run_opts(bw_steer__program(steer), &options), 0);
	return options.retval != XDP_PASS; /* it has no socket to give it to, and drops it */
}

static void check_same(const struct frame *f)
{
	static bw_ns now = NOW; /* it goes on, so that the oldest is forgotten */

	if (is_ours_at(f, now++) == is_the_programs(f))
		return;
	for (unsigned i = 0; i < f->bytes; i++)
		print_error("%02x%s", f->b[i], i % 16 == 15 ? "\n" : " ");
	fail_msg("not the kernel program's verdict, which is %d", is_the_programs(f));
}

static void own_in_the_kernel(void)
{
	const struct bw_steer_addr addrs[] = { { network.addrs[0].ip, false },
		{ network.addrs[1].ip, false } };
	const struct bw_steer_port ports[] = { { network.addrs[0].ip, IPPROTO_TCP, 80 },
		{ network.addrs[0].ip, IPPROTO_UDP, 53 }, { network.addrs[1].ip, IPPROTO_TCP, 80 } };

	assert_int_equal(bw_steer_own(steer, &(struct bw_steer_owned){ .mac = ours,
						     .addrs = addrs,
						     .addr_count = BW_ARRAY_LEN(addrs),
						     .ports = ports,
						     .port_count = BW_ARRAY_LEN(ports) }),
		0);
}

/** Frames cut off at every byte, and with some bytes wrong: both say the same of each. */
static void as_the_programs_have_it(void **state)
{
	const struct frame whole[] = { TCP4(4000, 80, SYN),
		packet(&(struct header){ "2001:db8::9", "2001:db8::2", IPPROTO_TCP, .options = 2,
			       .fragment = 1 },
			4000, 80, SYN),
		TO6(IPPROTO_TCP, 4000, 80, SYN), TO4(IPPROTO_UDP, 53, 53, 0),
		icmp(false, 3, "192.0.2.2", 80, 1), icmp(true, 1, "2001:db8::2", 80, 1),
		arp("192.0.2.9", "192.0.2.2"), solicit("2001:db8::2", 135), tagged(TCP4(4000, 80, SYN), 0),
		tagged(tagged(TCP4(4000, 80, SYN), 0), 0), fragment(7, 0x2000, 53), fragment(7, 100, 53),
		behind_fragment_header(true), behind_fragment_header(false) };

	if (bw_steer__load(&(struct bw_steer_conf){ .spec = "test", .iface = "none", .hook = BW_STEER_XDP },
		    &steer) != 0)
		skip(); /* no privilege */
	own(0, false);
	own_in_the_kernel();
	srand(1);
	for (unsigned i = 0; i < BW_ARRAY_LEN(whole); i++) {
		for (unsigned bytes = 14; bytes <= whole[i].bytes; bytes++) {
			struct frame f = whole[i];

			f.bytes = bytes;
			check_same(&f);
		}
		for (unsigned k = 0; k < 2000; k++) {
			struct frame f = whole[i];

			for (int changes = 1 + rand() % 3; changes > 0; changes--)
				f.b[(unsigned)rand() % BW_MIN(f.bytes, 100u)] = (uint8_t)rand();
			check_same(&f);
		}
	}
	bw_steer_close(steer);
}

/* ---- how many may go -------------------------------------------------------------------------------------------- */

static void so_many_a_second(void **state)
{
	struct bw_rate rate;
	unsigned gone = 0;

	bw_rate_init(&rate, 1000);
	assert_int_equal(bw_rate_take(&rate, NOW, 1000), 100); /* a tenth of a second's worth at once */
	assert_int_equal(bw_rate_take(&rate, NOW, 1), 0);
	assert_int_equal(bw_rate_wait_ns(&rate, NOW), BW_NS_PER_MS);
	assert_int_equal(bw_rate_wait_ns(&rate, NOW + BW_NS_PER_MS), 0);
	for (bw_ns at = NOW + 1; at <= NOW + BW_NS_PER_SEC; at += 333333)
		gone += bw_rate_take(&rate, at, 32);
	assert_in_range(gone, 998, 1000);
	/* Silence earns no more than that tenth. */
	assert_int_equal(bw_rate_take(&rate, NOW + 100 * BW_NS_PER_SEC, 1000), 100);
	bw_rate_give_back(&rate, 60);
	assert_int_equal(bw_rate_take(&rate, NOW + 100 * BW_NS_PER_SEC, 1000), 60);
}

static void no_limit_and_a_small_one(void **state)
{
	struct bw_rate rate;

	bw_rate_init(&rate, 0);
	assert_int_equal(bw_rate_take(&rate, NOW, UINT32_MAX), UINT32_MAX);
	assert_int_equal(bw_rate_wait_ns(&rate, NOW), 0);
	bw_rate_init(&rate, 1);
	assert_int_equal(bw_rate_take(&rate, NOW, 100), BW_RATE_BURST_MIN);
	assert_int_equal(bw_rate_wait_ns(&rate, NOW), BW_NS_PER_SEC);
	bw_rate_init(&rate, 1000000000);
	assert_int_equal(bw_rate_take(&rate, NOW, 1000), 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ports_of_our_addresses),
		cmocka_unit_test(an_address_that_is_left),
		cmocka_unit_test(ports_that_we_open_from),
		cmocka_unit_test(errors_go_where_what_they_quote_came_from),
		cmocka_unit_test(fragments_follow_the_first),
		cmocka_unit_test(many_datagrams),
		cmocka_unit_test(what_finds_neighbours),
		cmocka_unit_test(cut_off),
		cmocka_unit_test(vlans_and_other_hosts),
		cmocka_unit_test(as_the_programs_have_it),
		cmocka_unit_test(so_many_a_second),
		cmocka_unit_test(no_limit_and_a_small_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
