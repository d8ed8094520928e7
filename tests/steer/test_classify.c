/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Whose is a packet? The programs run in the kernel, on packets that are made here, without an interface
 * (BPF_PROG_TEST_RUN). What they take has no socket to go to here, so it is dropped, and counted as that.
 */
#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <bpf/bpf.h>
#include <linux/bpf.h>

#include "frames.h"
#include "internal.h"

/* ---- the programs ------------------------------------------------------------------------------------------- */

static struct bw_steer *steer;
static bool is_tc;

enum where {
	KERNEL,
	US,
	NOBODY /* dropped, by a rule or a limit */
};

static uint64_t counter(enum bw_steer_counter which)
{
	uint64_t all[BW_STEER_COUNTERS];

	bw_steer_counters(steer, all);
	return all[which];
}

static enum where run(const struct frame *f)
{
	uint8_t out[FRAME_MAX];
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = f->b, .data_size_in = f->bytes, .data_out = out,
		.data_size_out = sizeof(out));
	const uint64_t ours_before = counter(BW_STEER_NO_SOCKET), passed_before = counter(BW_STEER_PASSED),
		       blocked = counter(BW_STEER_BLOCKED), syn = counter(BW_STEER_SYN_RATE),
		       rate = counter(BW_STEER_PACKET_RATE);

	const int rc = bpf_prog_test_run_opts(bw_steer__program(steer), &options);

	if (rc == -EINVAL && is_tc) /* there the kernel itself wants a whole IP header */
		return KERNEL;
	assert_int_equal(rc, 0);
	assert_int_equal(options.data_size_out, f->bytes);
	assert_memory_equal(out, f->b, f->bytes); /* whoever gets it, gets it as it came */
	if (options.retval == (is_tc ? (uint32_t)-1 : XDP_PASS)) {
		assert_int_equal(counter(BW_STEER_PASSED), passed_before + 1);
		return KERNEL;
	}
	if (counter(BW_STEER_BLOCKED) + counter(BW_STEER_SYN_RATE) + counter(BW_STEER_PACKET_RATE) !=
		blocked + syn + rate)
		return NOBODY;
	assert_int_equal(options.retval, is_tc ? 2 : XDP_DROP);
	assert_int_equal(
		counter(BW_STEER_NO_SOCKET), ours_before + !is_tc); /* where it is tc's, the socket counts */
	return US;
}

#define RUN(frame_, where_)                                                                                  \
	do {                                                                                                 \
		struct frame f_ = frame_;                                                                    \
                                                                                                             \
		assert_int_equal(run(&f_), where_);                                                          \
	} while (0)

static struct bw_ip ip_of(const char *text)
{
	struct bw_ip ip;

	assert_int_equal(bw_ip_parse(text, &ip), 0);
	return ip;
}

static void own(uint16_t vlan, uint16_t range_first, uint16_t range_last)
{
	const struct bw_steer_addr addrs[] = { { ip_of("192.0.2.2"), false }, { ip_of("2001:db8::2"), false },
		{ ip_of("192.0.2.7"), true }, { ip_of("2001:db8::7"), true } };
	const struct bw_steer_port ports[] = { { ip_of("192.0.2.2"), IPPROTO_TCP, 80 },
		{ ip_of("192.0.2.2"), IPPROTO_UDP, 53 }, { ip_of("2001:db8::2"), IPPROTO_TCP, 80 } };
	struct bw_steer_owned owned = { .mac = ours,
		.vlan = vlan,
		.addrs = addrs,
		.addr_count = BW_ARRAY_LEN(addrs),
		.ports = ports,
		.port_count = BW_ARRAY_LEN(ports),
		.range_first = range_first,
		.range_last = range_last };

	bw_cidr_parse("198.51.100.0/25", &owned.prefix);
	assert_int_equal(bw_steer_own(steer, &owned), 0);
}

/* ---- whose? ------------------------------------------------------------------------------------------------- */

static void ports_of_shared_addresses(void **state)
{
	own(0, 0, 0);
	RUN(TCP4(4000, 80, SYN), US);
	RUN(TCP4(4000, 80, ACK), US);
	RUN(TCP4(4000, 22, SYN), KERNEL);
	RUN(TCP4(80, 4000, ACK), KERNEL); /* an answer to a connection of the kernel's */
	RUN(packet(&(struct header){ "192.0.2.9", "192.0.2.2", IPPROTO_UDP }, 4000, 53, 0), US);
	RUN(packet(&(struct header){ "192.0.2.9", "192.0.2.2", IPPROTO_UDP }, 4000, 80, 0), KERNEL);
	RUN(packet(&(struct header){ "192.0.2.9", "192.0.2.2", IPPROTO_SCTP }, 4000, 80, 0), KERNEL);
	RUN(packet(&(struct header){ "192.0.2.9", "192.0.2.3", IPPROTO_TCP }, 4000, 80, SYN), KERNEL);
	RUN(packet(&(struct header){ "192.0.2.9", "192.0.2.255", IPPROTO_UDP }, 4000, 53, 0), KERNEL);
	RUN(packet(&(struct header){ "192.0.2.9", "192.0.2.2", IPPROTO_TCP, .options = 10 }, 4000, 80, SYN),
		US);
	RUN(packet(&(struct header){ "2001:db8::9", "2001:db8::2", IPPROTO_TCP }, 4000, 80, SYN), US);
	RUN(packet(&(struct header){ "2001:db8::9", "2001:db8::2", IPPROTO_TCP }, 4000, 22, SYN), KERNEL);
	RUN(packet(&(struct header){ "2001:db8::9", "2001:db8::2", IPPROTO_TCP, .options = 3 }, 4000, 80,
		    SYN),
		US);
	/* What AH is followed by, wherever that may seem to lie. */
	for (unsigned ports_at = 8; ports_at <= 24; ports_at += 4)
		RUN(authenticated(ports_at), KERNEL);
	/* A chain without an end that is worth following is the kernel's. */
	RUN(packet(&(struct header){ "2001:db8::9", "2001:db8::2", IPPROTO_TCP, .options = 12 }, 4000, 80,
		    SYN),
		KERNEL);
}

static void a_listener_moves(void **state)
{
	const struct bw_steer_addr addr = { ip_of("192.0.2.2"), false };
	const struct bw_steer_port port = { ip_of("192.0.2.2"), IPPROTO_TCP, 81 };

	own(0, 0, 0);
	assert_int_equal(bw_steer_own(steer, &(struct bw_steer_owned){ .mac = ours,
						     .addrs = &addr,
						     .addr_count = 1,
						     .ports = &port,
						     .port_count = 1 }),
		0);
	RUN(TCP4(4000, 80, SYN), KERNEL);
	RUN(TCP4(4000, 81, SYN), US);
	RUN(packet(&(struct header){ "2001:db8::9", "2001:db8::2", IPPROTO_TCP }, 4000, 80, SYN), KERNEL);
	RUN(packet(&(struct header){ "192.0.2.9", "198.51.100.3", IPPROTO_TCP }, 4000, 80, SYN), KERNEL);
	assert_int_equal(bw_steer_own(steer, &(struct bw_steer_owned){ .mac = ours }), 0);
	RUN(TCP4(4000, 81, SYN), KERNEL);
}

static void ports_that_we_open_from(void **state)
{
	own(0, 61000, 65535);
	RUN(TCP4(443, 60999, ACK), KERNEL);
	RUN(TCP4(443, 61000, ACK), US);
	RUN(TCP4(443, 65535, SYN | ACK), US);
	RUN(packet(&(struct header){ "192.0.2.9", "192.0.2.2", IPPROTO_UDP }, 53, 61000, 0), US);
}

static void whole_addresses(void **state)
{
	own(0, 0, 0);
	RUN(packet(&(struct header){ "192.0.2.9", "192.0.2.7", IPPROTO_TCP }, 4000, 9, SYN), US);
	RUN(packet(&(struct header){ "192.0.2.9", "192.0.2.7", IPPROTO_ICMP }, 0x0800, 0, 0), US);
	RUN(packet(&(struct header){ "192.0.2.9", "192.0.2.7", IPPROTO_TCP, .fragment = 100 }, 1, 1, 0), US);
	RUN(packet(&(struct header){ "2001:db8::9", "2001:db8::7", IPPROTO_ICMPV6 }, 0x8000, 0, 0), US);
	RUN(packet(&(struct header){ "192.0.2.9", "198.51.100.127", IPPROTO_TCP }, 4000, 9, SYN), US);
	RUN(packet(&(struct header){ "192.0.2.9", "198.51.100.128", IPPROTO_TCP }, 4000, 9, SYN), KERNEL);
}

static void neighbours_ask_the_one_who_has_the_address(void **state)
{
	own(0, 0, 0);
	RUN(arp("192.0.2.9", "192.0.2.7"), US);
	RUN(arp("192.0.2.9", "192.0.2.2"), KERNEL);
	RUN(arp("192.0.2.9", "192.0.2.9"), KERNEL);
	RUN(arp("192.0.2.7", "192.0.2.7"), US); /* somebody claims it */
	RUN(arp("192.0.2.9", "198.51.100.1"), US);
	RUN(solicit("2001:db8::7", 135), US);
	RUN(solicit("2001:db8::7", 136), US);
	RUN(solicit("2001:db8::2", 135), KERNEL);
	RUN(solicit("2001:db8::7", 134), KERNEL); /* a router's */
}

/* ---- what belongs to a flow --------------------------------------------------------------------------------- */

static void errors_go_where_what_they_quote_came_from(void **state)
{
	own(0, 61000, 65535);
	RUN(icmp(false, 3, "192.0.2.2", 80, 0), US);
	RUN(icmp(false, 11, "192.0.2.2", 80, 2), US);
	RUN(icmp(false, 3, "192.0.2.2", 22, 0), KERNEL);
	RUN(icmp(false, 3, "192.0.2.2", 61234, 0), US);
	RUN(icmp(false, 3, "192.0.2.5", 80, 0), KERNEL); /* we have no such address */
	RUN(icmp(false, 8, "192.0.2.2", 80, 0), KERNEL); /* an echo request whose data looks like one */
	RUN(icmp(true, 1, "2001:db8::2", 80, 0), US);
	RUN(icmp(true, 2, "2001:db8::2", 80, 1), US);
	RUN(icmp(true, 2, "2001:db8::2", 22, 0), KERNEL);
	RUN(icmp(true, 128, "2001:db8::2", 80, 0), KERNEL);
}

static void fragments_follow_the_first(void **state)
{
	const struct header first = { "192.0.2.9", "192.0.2.2", IPPROTO_UDP, .id = 7, .fragment = 0x2000 };
	const struct header second = { "192.0.2.9", "192.0.2.2", IPPROTO_UDP, .id = 7, .fragment = 100 };
	const struct header other = { "192.0.2.9", "192.0.2.2", IPPROTO_UDP, .id = 8, .fragment = 100 };
	const struct header first6 = { "2001:db8::9", "2001:db8::2", IPPROTO_TCP, .id = 7, .fragment = 1 };
	const struct header second6 = { "2001:db8::9", "2001:db8::2", IPPROTO_TCP, .id = 7,
		.fragment = 8 * 100 };

	own(0, 0, 0);
	RUN(packet(&second, 0, 0, 0), KERNEL); /* of nobody knows what */
	RUN(packet(&first, 4000, 53, 0), US);
	RUN(packet(&second, 1, 1, 0), US);
	RUN(packet(&other, 1, 1, 0), KERNEL);
	RUN(packet(&second6, 0, 0, 0), KERNEL);
	RUN(packet(&first6, 4000, 80, SYN), US);
	RUN(packet(&second6, 0, 0, 0), US);
	/* The same number again, for the kernel. */
	RUN(packet(&(struct header){ "192.0.2.9", "192.0.2.2", IPPROTO_UDP, .id = 7, .fragment = 0x2000 },
		    4000, 99, 0),
		KERNEL);
	RUN(packet(&second, 1, 1, 0), KERNEL);
	/* Headers between the first one's fragment header and its ports, which the second has not. */
	RUN(behind_fragment_header(true), US);
	RUN(behind_fragment_header(false), US);
	RUN(packet(&(struct header){ "192.0.2.9", "192.0.2.2", IPPROTO_UDP, .id = 9, .fragment = 0x2000 },
		    4000, 99, 0),
		KERNEL);
	RUN(packet(&(struct header){ "192.0.2.9", "192.0.2.2", IPPROTO_UDP, .id = 9, .fragment = 100 }, 1, 1,
		    0),
		KERNEL);
}

static void vlans(void **state)
{
	own(0, 0, 0);
	RUN(tagged(TCP4(4000, 80, SYN), 0xe000), US); /* priority alone */
	RUN(tagged(TCP4(4000, 80, SYN), 5), KERNEL);
	own(5, 0, 0);
	RUN(tagged(TCP4(4000, 80, SYN), 0x6005), US);
	RUN(tagged(TCP4(4000, 80, SYN), 6), KERNEL);
	RUN(TCP4(4000, 80, SYN), KERNEL);
	RUN(tagged(arp("192.0.2.9", "192.0.2.7"), 5), US);
}

static void frames_for_another_host(void **state)
{
	struct frame f = TCP4(4000, 80, SYN);

	own(0, 0, 0);
	f.b[5]++;
	RUN(f, KERNEL);
}

/* Cut off at every byte, and with every byte wrong: somebody gets it, unharmed. */
static void whatever_the_bytes_are(void **state)
{
	struct frame whole[] = { TCP4(4000, 80, SYN),
		packet(&(struct header){ "2001:db8::9", "2001:db8::2", IPPROTO_TCP, .options = 2,
			       .fragment = 1 },
			4000, 80, SYN),
		icmp(false, 3, "192.0.2.2", 80, 1), icmp(true, 1, "2001:db8::2", 80, 1),
		arp("192.0.2.9", "192.0.2.7"), solicit("2001:db8::7", 135), tagged(TCP4(4000, 80, SYN), 5) };

	own(0, 61000, 65535);
	srand(1);
	for (unsigned i = 0; i < BW_ARRAY_LEN(whole); i++) {
		for (unsigned bytes = 14; bytes < whole[i].bytes; bytes++) {
			struct frame f = whole[i];

			f.bytes = bytes;
			(void)run(&f);
		}
		for (unsigned k = 0; k < 2000; k++) {
			struct frame f = whole[i];

			for (int changes = 1 + rand() % 3; changes > 0; changes--)
				f.b[(unsigned)rand() % f.bytes] = (uint8_t)rand();
			(void)run(&f);
		}
	}
}

/* ---- defence ------------------------------------------------------------------------------------------------ */

static struct bw_cidr cidr_of(const char *text)
{
	struct bw_cidr cidr;

	assert_int_equal(bw_cidr_parse(text, &cidr), 0);
	return cidr;
}

static void rule(const char *text, enum bw_steer_verdict verdict)
{
	const struct bw_cidr cidr = cidr_of(text);

	assert_int_equal(bw_steer_rule(steer, &cidr, verdict), 0);
}

static void unrule(const char *text, int rc)
{
	const struct bw_cidr cidr = cidr_of(text);

	assert_int_equal(bw_steer_rule_remove(steer, &cidr), rc);
}

static void count_rule(const struct bw_cidr *source, enum bw_steer_verdict verdict, void *arg)
{
	char text[BW_CIDR_STRLEN];

	bw_cidr_format(source, text);
	*(unsigned *)arg += verdict == BW_STEER_BLOCK
				    ? (strcmp(text, "192.0.0.0/16") == 0 || strcmp(text, "::/0") == 0)
				    : strcmp(text, "192.0.2.8/31") == 0;
}

/** With ::/0 and 192.0.0.0/16 blocked: what is not ours, or not to be understood, is judged all the same. */
static void no_way_around(void)
{
	struct frame f = TCP4(4000, 22, SYN);

	RUN(packet(&(struct header){ "2001:db8::9", "2001:db8::2", IPPROTO_TCP, .options = 12 }, 4000, 22,
		    SYN),
		NOBODY);
	RUN(packet(&(struct header){ "192.0.3.9", "192.0.2.2", IPPROTO_AH }, 4000, 22, SYN), NOBODY);
	RUN(tagged(packet(&(struct header){ "192.0.3.9", "10.0.0.1", IPPROTO_TCP }, 4000, 22, SYN), 7),
		NOBODY);
	RUN(tagged(tagged(packet(&(struct header){ "192.0.3.9", "10.0.0.1", IPPROTO_TCP }, 4000, 22, SYN), 7),
		    8),
		NOBODY);
	f = packet(&(struct header){ "192.0.3.9", "10.0.0.1", IPPROTO_TCP }, 4000, 22, SYN);
	f.b[5]++; /* of a macvlan, say */
	assert_int_equal(run(&f), NOBODY);
}

static void the_longest_rule_decides(void **state)
{
	unsigned seen = 0;

	own(0, 0, 0);
	rule("192.0.2.9/16", BW_STEER_BLOCK); /* its host bits do not count */
	RUN(TCP4(4000, 22, SYN), NOBODY);     /* for the kernel */
	if (!is_tc)                           /* there the socket's filter judges what is ours */
		RUN(TCP4(4000, 80, SYN), NOBODY);
	rule("192.0.2.8/31", BW_STEER_ALLOW);
	RUN(TCP4(4000, 22, SYN), KERNEL);
	RUN(TCP4(4000, 80, SYN), US);
	rule("::/0", BW_STEER_BLOCK); /* is no rule for IPv4 */
	RUN(TCP4(4000, 22, SYN), KERNEL);
	RUN(packet(&(struct header){ "2001:db8::9", "2001:db8::2", IPPROTO_TCP }, 4000, 22, SYN), NOBODY);
	bw_steer_rules(steer, count_rule, &seen);
	assert_int_equal(seen, 3);
	no_way_around();
	unrule("192.0.2.8/31", 0);
	unrule("192.0.2.8/31", -ENOENT);
	RUN(TCP4(4000, 22, SYN), NOBODY);
	unrule("192.0.0.0/16", 0);
	unrule("::/0", 0);
	RUN(TCP4(4000, 22, SYN), KERNEL);
}

/* A tenth of a second's worth at once, and then one each interval. */
static void a_source_has_so_many(void **state)
{
	const struct bw_steer_limits syns = { .syns_per_s = 20 }, packets = { .packets_per_s = 1000 },
				     none = { 0 };
	const struct header other = { "192.0.2.10", "192.0.2.2", IPPROTO_TCP };
	const struct header v6 = { "2001:db8::9", "2001:db8::2", IPPROTO_TCP },
			    same_64 = { "2001:db8::a", "2001:db8::2", IPPROTO_TCP };
	struct bw_steer_limits got;
	unsigned passed = 0;

	own(0, 0, 0);
	bw_steer_limit(steer, &syns);
	bw_steer_limits_get(steer, &got);
	assert_int_equal(got.syns_per_s, 20);
	for (unsigned i = 0; i < 100; i++) {
		struct frame f = TCP4(4000, 22, SYN);

		passed += run(&f) == KERNEL;
	}
	assert_in_range(passed, 17, 20); /* 16 and the one that comes when it is due, and a slow machine's */
	RUN(TCP4(4000, 22, ACK), KERNEL);
	RUN(TCP4(4000, 22, SYN | ACK), KERNEL);
	RUN(packet(&other, 4000, 22, SYN), KERNEL);
	for (unsigned i = 0; i < 30; i++) {
		struct frame f = packet(&v6, 4000, 22, SYN);

		(void)run(&f);
	}
	RUN(packet(&same_64, 4000, 22, SYN), NOBODY);
	rule("192.0.2.9/32", BW_STEER_ALLOW);
	RUN(TCP4(4000, 22, SYN), KERNEL);
	unrule("192.0.2.9/32", 0);
	bw_steer_limit(steer, &none);
	RUN(TCP4(4000, 22, SYN), KERNEL);

	bw_steer_limit(steer, &packets);
	passed = 0;
	for (unsigned i = 0; i < 2000; i++) {
		struct frame f = TCP4(4000, 22, ACK);

		passed += run(&f) == KERNEL;
	}
	assert_in_range(passed, 101, 1000);
	bw_steer_limit(steer, &none);
}

/* ---- both programs ------------------------------------------------------------------------------------------ */

static int load(enum bw_steer_hook hook)
{
	is_tc = hook == BW_STEER_TC;
	return bw_steer__load(
		&(struct bw_steer_conf){ .spec = "test", .iface = "none", .hook = hook }, &steer);
}

static int load_xdp(void **state)
{
	return load(BW_STEER_XDP);
}

static int load_tc(void **state)
{
	return load(BW_STEER_TC);
}

static int unload(void **state)
{
	bw_steer_close(steer);
	return 0;
}

/* Limits are of a CPU, and so is what was counted. */
static void stay_on_one_cpu(void)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(sched_getcpu(), &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ports_of_shared_addresses),
		cmocka_unit_test(a_listener_moves),
		cmocka_unit_test(ports_that_we_open_from),
		cmocka_unit_test(whole_addresses),
		cmocka_unit_test(neighbours_ask_the_one_who_has_the_address),
		cmocka_unit_test(errors_go_where_what_they_quote_came_from),
		cmocka_unit_test(fragments_follow_the_first),
		cmocka_unit_test(vlans),
		cmocka_unit_test(frames_for_another_host),
		cmocka_unit_test(whatever_the_bytes_are),
		cmocka_unit_test(the_longest_rule_decides),
		cmocka_unit_test(a_source_has_so_many),
	};

	stay_on_one_cpu();
	return cmocka_run_group_tests_name("xdp", tests, load_xdp, unload) +
	       cmocka_run_group_tests_name("tc", tests, load_tc, unload);
}
