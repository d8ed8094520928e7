/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include <base/addr.h>
#include <base/assert.h>
#include <base/clock.h>
#include <base/counters.h>
#include <base/hist.h>
#include <base/log.h>
#include <base/seq.h>
#include <base/siphash.h>

static struct bw_ip ip(const char *text)
{
	struct bw_ip parsed;

	assert_int_equal(bw_ip_parse(text, &parsed), 0);
	return parsed;
}

static struct bw_cidr cidr(const char *text)
{
	struct bw_cidr parsed;

	assert_int_equal(bw_cidr_parse(text, &parsed), 0);
	return parsed;
}

static void addresses_come_back_as_they_were_written(void **state)
{
	static const char *const ips[] = { "0.0.0.0", "192.0.2.1", "255.255.255.255", "::", "::1",
		"2001:db8::1", "fe80::ffff:ffff:ffff:ffff" };
	static const char *const cidrs[] = { "192.0.2.2/24", "0.0.0.0/0", "10.0.0.1/32", "2001:db8::2/64",
		"::/0", "2001:db8:1111:2222:3333:4444:5555:6666/128" };
	char out[BW_CIDR_STRLEN];
	struct bw_mac mac;

	for (unsigned i = 0; i < BW_ARRAY_LEN(ips); i++) {
		const struct bw_ip parsed = ip(ips[i]);

		assert_string_equal(bw_ip_format(&parsed, out), ips[i]);
		assert_int_equal(bw_ip_is_v4(&parsed), strchr(ips[i], '.') != NULL);
	}
	for (unsigned i = 0; i < BW_ARRAY_LEN(cidrs); i++) {
		const struct bw_cidr parsed = cidr(cidrs[i]);

		assert_string_equal(bw_cidr_format(&parsed, out), cidrs[i]);
	}
	assert_int_equal(bw_mac_parse("02:aB:00:FF:9c:01", &mac), 0);
	assert_string_equal(bw_mac_format(&mac, out), "02:ab:00:ff:9c:01");
}

static void anything_else_is_no_address(void **state)
{
	static const char *const ips[] = { "", " 192.0.2.1", "192.0.2.1 ", "192.0.2", "192.0.2.256",
		"192.0.2.01", "1", ":::", "2001:db8", "2001:db8::1%eth0", "::ffff:192.0.2.1",
		"192.0.2.1/24" };
	static const char *const cidrs[] = { "", "/", "192.0.2.1", "192.0.2.1/", "192.0.2.1/33",
		"192.0.2.1/024", "192.0.2.1/-1", "192.0.2.1/+4", "192.0.2.1/24x", "192.0.2.1/24/",
		"2001:db8::1/129", "::/4294967297", "/24",
		"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb/64" };
	static const char *const macs[] = { "", "02:ab:00:ff:9c", "02:ab:00:ff:9c:01:", "02-ab-00-ff-9c-01",
		"02:ab:00:ff:9c:0g", "2:ab:00:ff:9c:01", "02:ab:00:ff:9c:01 ", "0" };
	struct bw_ip untouched_ip = ip("192.0.2.9");
	struct bw_cidr untouched_cidr = cidr("192.0.2.9/9");
	struct bw_mac mac;

	for (unsigned i = 0; i < BW_ARRAY_LEN(ips); i++)
		assert_int_equal(bw_ip_parse(ips[i], &untouched_ip), -EINVAL);
	for (unsigned i = 0; i < BW_ARRAY_LEN(cidrs); i++)
		assert_int_equal(bw_cidr_parse(cidrs[i], &untouched_cidr), -EINVAL);
	for (unsigned i = 0; i < BW_ARRAY_LEN(macs); i++)
		assert_int_equal(bw_mac_parse(macs[i], &mac), -EINVAL);
	const struct bw_ip as_before = ip("192.0.2.9");
	assert_true(bw_ip_eq(&untouched_ip, &as_before));
	assert_int_equal(untouched_cidr.prefix_len, 9);
}

static void addresses_know_what_they_are(void **state)
{
	static const struct {
		const char *text;
		bool is_unspecified, is_multicast, is_loopback, is_link_local;
	} cases[] = {
		{ "0.0.0.0", .is_unspecified = true },
		{ "::", .is_unspecified = true },
		{ "224.0.0.1", .is_multicast = true },
		{ "239.255.255.255", .is_multicast = true },
		{ "ff02::1", .is_multicast = true },
		{ "127.0.0.1", .is_loopback = true },
		{ "127.255.0.1", .is_loopback = true },
		{ "::1", .is_loopback = true },
		{ "169.254.1.1", .is_link_local = true },
		{ "fe80::1", .is_link_local = true },
		{ "febf::1", .is_link_local = true },
		{ "fec0::1" },
		{ "192.0.2.1" },
		{ "223.255.255.255" },
		{ "240.0.0.1" },
		{ "2001:db8::1" },
		{ "::2" },
		{ "0.0.0.1" },
	};

	for (unsigned i = 0; i < BW_ARRAY_LEN(cases); i++) {
		const struct bw_ip it = ip(cases[i].text);

		assert_int_equal(bw_ip_is_unspecified(&it), cases[i].is_unspecified);
		assert_int_equal(bw_ip_is_multicast(&it), cases[i].is_multicast);
		assert_int_equal(bw_ip_is_loopback(&it), cases[i].is_loopback);
		assert_int_equal(bw_ip_is_link_local(&it), cases[i].is_link_local);
	}
}

/* The first and the last address of each block of RFC 6890, and their neighbours outside. */
static void what_is_set_aside_is_not_global(void **state)
{
	static const char *const global[] = { "1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255",
		"100.128.0.0", "126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0",
		"172.15.255.255", "172.32.0.0", "192.0.1.0", "192.0.3.0", "192.167.255.255", "192.169.0.0",
		"198.17.255.255", "198.20.0.0", "198.51.99.255", "198.51.101.0", "203.0.112.255",
		"203.0.114.0", "223.255.255.255", "8.8.8.8", "2000::1", "2001:200::", "2001:db7:ffff::1",
		"2001:db9::", "2606:4700::1111", "2002:808:808::1", "64:ff9b::1", "64:ff9b::808:808",
		"64:ff9b::ffff:ffff", "3ffe:ffff::", "3fff:1000::", "3fff:ffff:ffff:ffff::" };
	static const char *const not_global[] = { "0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255",
		"100.64.0.0", "100.127.255.255", "127.0.0.1", "127.255.255.255", "169.254.0.0",
		"169.254.255.255", "172.16.0.0", "172.31.255.255", "192.0.0.0", "192.0.0.255", "192.0.2.0",
		"192.0.2.255", "192.168.0.0", "192.168.255.255", "198.18.0.0", "198.19.255.255",
		"198.51.100.0", "198.51.100.255", "203.0.113.0", "203.0.113.255", "224.0.0.0", "240.0.0.1",
		"255.255.255.255", "::", "::1", "64:ff9a::1", "64:ff9b::1:0:1", "1fff:ffff::", "2001::",
		"2001:1ff:ffff::", "2001:db8::", "2001:db8:ffff:ffff::", "2002:a00:1::", "2002:c0a8:101::",
		"3fff::", "3fff:fff:ffff::", "4000::", "fc00::", "fdff:ffff::1", "fe80::1", "febf::1",
		"ff02::1" };

	for (unsigned i = 0; i < BW_ARRAY_LEN(global); i++) {
		const struct bw_ip it = ip(global[i]);

		if (!bw_ip_is_global(&it))
			fail_msg("%s is global", global[i]);
	}
	for (unsigned i = 0; i < BW_ARRAY_LEN(not_global); i++) {
		const struct bw_ip it = ip(not_global[i]);

		if (bw_ip_is_global(&it))
			fail_msg("%s is not global", not_global[i]);
	}
}

/** A prefix is special when one of the sets has it whole: its ends may be special although what is between is not. */
static void prefixes_are_global_or_special(void **state)
{
	static const struct {
		const char *cidr;
		bool is_global;
	} cases[] = {
		{ "10.0.0.0/8", false },
		{ "10.0.0.0/7", true },
		{ "10.7.0.0/16", false },
		{ "192.0.0.0/16", true },
		{ "192.0.2.0/24", false },
		{ "192.0.2.0/23", true },
		{ "0.0.0.0/1", true },
		{ "192.0.0.0/2", true },
		{ "198.18.0.0/15", false },
		{ "8.8.8.8/32", true },
		{ "fd00::/8", false },
		{ "2001:db8::/32", false },
		{ "2001:db8::/28", true },
		{ "2000::/3", true },
		{ "::/1", true },
		{ "2002:a00::/24", false },
		{ "2002:a00::/20", true },
		{ "2002:808::/32", true },
		{ "64:ff9b::a00:0/104", true },
		{ "64:ff9b::/96", true },
		{ "64::/16", true },
		{ "64:ff9b:1::/48", false },
		{ "65::/16", false },
	};

	(void)state;
	for (unsigned i = 0; i < BW_ARRAY_LEN(cases); i++) {
		struct bw_cidr cidr;

		assert_int_equal(bw_cidr_parse(cases[i].cidr, &cidr), 0);
		if (bw_cidr_is_global(&cidr) != cases[i].is_global)
			fail_msg("%s", cases[i].cidr);
	}
}

static void prefixes_hold_and_broadcast(void **state)
{
	static const struct {
		const char *cidr, *ip;
		bool holds, is_broadcast;
	} cases[] = {
		{ "192.0.2.2/24", "192.0.2.77", true, false },
		{ "192.0.2.2/24", "192.0.2.255", true, true },
		{ "192.0.2.2/24", "192.0.3.255", false, false },
		{ "192.0.2.2/30", "192.0.2.3", true, true },
		{ "192.0.2.2/31", "192.0.2.3", true, false },
		{ "192.0.2.2/32", "192.0.2.2", true, false },
		{ "192.0.2.2/32", "192.0.2.3", false, false },
		{ "192.0.2.2/0", "8.8.8.8", true, false },
		{ "192.0.2.2/0", "255.255.255.255", true, true },
		{ "192.0.2.2/0", "2001:db8::1", false, false },
		{ "::/0", "192.0.2.1", false, false },
		{ "::/0", "2001:db8::1", true, false },
		{ "2001:db8::1/61", "2001:db8:0:7::", true, false },
		{ "2001:db8::1/61", "2001:db8:0:8::", false, false },
		{ "2001:db8::1/128", "2001:db8::1", true, false },
		{ "fe80::1/64", "fe80::ffff:ffff:ffff:ffff", true, false },
	};

	for (unsigned i = 0; i < BW_ARRAY_LEN(cases); i++) {
		const struct bw_cidr in = cidr(cases[i].cidr);
		const struct bw_ip it = ip(cases[i].ip);

		assert_int_equal(bw_cidr_contains(&in, &it), cases[i].holds);
		assert_int_equal(bw_cidr_is_broadcast(&in, &it), cases[i].is_broadcast);
	}
}

static void sequence_numbers_wrap(void **state)
{
	assert_true(bw_seq_lt(0xfffffff0u, 0x10));
	assert_true(bw_seq_gt(0x10, 0xfffffff0u));
	assert_true(bw_seq_in(0xffffffffu, 0xfffffff0u, 16));
	assert_false(bw_seq_in(0, 0xfffffff0u, 16));
	assert_false(bw_seq_in(5, 5, 0));
	assert_int_equal(bw_seq_max(0xfffffff0u, 0x10), 0x10);
	assert_int_equal(bw_seq_min(0xfffffff0u, 0x10), 0xfffffff0u);
}

/* The vectors of the paper's reference implementation: key 00..0f, message 00..n-1. */
static void siphash_agrees_with_the_paper(void **state)
{
	static const struct {
		unsigned bytes;
		uint64_t hash;
	} vectors[] = {
		{ 0, 0x726fdb47dd0e0e31u },
		{ 1, 0x74f839c593dc67fdu },
		{ 7, 0xab0200f58b01d137u },
		{ 8, 0x93f5f5799a932462u },
		{ 15, 0xa129ca6149be45e5u },
	};
	const struct bw_siphash_key key = { { 0x0706050403020100u, 0x0f0e0d0c0b0a0908u } };
	uint8_t message[16];

	for (unsigned i = 0; i < sizeof(message); i++)
		message[i] = (uint8_t)i;
	for (unsigned i = 0; i < BW_ARRAY_LEN(vectors); i++)
		assert_true(bw_siphash(&key, message, vectors[i].bytes) == vectors[i].hash);
}

static struct bw_hist hist, other;

static void histogram_is_exact_below_128_and_within_a_percent_above(void **state)
{
	static const uint64_t values[] = { 0, 1, 127, 128, 129, 255, 256, 1000, 123456789, 1ull << 40,
		UINT64_MAX - 1, UINT64_MAX };

	for (unsigned i = 0; i < BW_ARRAY_LEN(values); i++) {
		bw_hist_init(&hist);
		assert_int_equal(bw_hist_percentile(&hist, 50), 0);
		bw_hist_add(&hist, values[i]);
		/*
		 * A greater sample beside it, so that the bucket's bound and not the maximum is what is seen.
		 */
		bw_hist_add(&hist, UINT64_MAX);
		const uint64_t told = bw_hist_percentile(&hist, 50);

		assert_true(told >= values[i]);
		assert_true(told - values[i] <= values[i] / 128);
		assert_true(values[i] >= 128 || told == values[i]);
	}
}

static void histogram_without_what_was_in_it_earlier(void **state)
{
	static struct bw_hist earlier;

	(void)state;
	bw_hist_init(&hist);
	bw_hist_add(&hist, 5);
	bw_hist_add(&hist, 1000000);
	earlier = hist;
	for (uint64_t value = 100; value < 200; value++)
		bw_hist_add(&hist, value);
	bw_hist_subtract(&hist, &earlier);
	assert_int_equal(hist.count, 100);
	assert_int_equal(hist.sum, (100 + 199) * 50);
	assert_int_equal(hist.min, 100);
	assert_int_equal(hist.max, 199);
	assert_int_equal(bw_hist_percentile(&hist, 50), 149);
	/* Nothing is left of nothing. */
	earlier = hist;
	bw_hist_subtract(&hist, &earlier);
	assert_int_equal(hist.count, 0);
	assert_int_equal(hist.max, 0);
	assert_int_equal(bw_hist_percentile(&hist, 100), 0);
}

static void histogram_percentiles_of_known_samples(void **state)
{
	bw_hist_init(&hist);
	bw_hist_init(&other);
	for (unsigned value = 1; value <= 50; value++)
		bw_hist_add(&hist, value);
	for (unsigned value = 51; value <= 100; value++)
		bw_hist_add(&other, value);
	bw_hist_merge(&hist, &other);

	assert_int_equal(hist.count, 100);
	assert_int_equal(hist.sum, 5050);
	assert_int_equal(hist.min, 1);
	assert_int_equal(hist.max, 100);
	assert_int_equal(bw_hist_percentile(&hist, 0), 1);
	assert_int_equal(bw_hist_percentile(&hist, 1), 1);
	assert_int_equal(bw_hist_percentile(&hist, 50), 50);
	assert_int_equal(bw_hist_percentile(&hist, 99), 99);
	assert_int_equal(bw_hist_percentile(&hist, 99.5), 100);
	assert_int_equal(bw_hist_percentile(&hist, 100), 100);
}

static void every_counter_has_a_name_of_its_own(void **state)
{
	for (unsigned i = 0; i < BW_COUNTER_COUNT; i++) {
		assert_non_null(bw_counter_name[i]);
		assert_true(bw_counter_help[i] != NULL && bw_counter_help[i][0] != '\0');
		for (unsigned j = 0; j < i; j++)
			assert_string_not_equal(bw_counter_name[i], bw_counter_name[j]);
	}
	assert_string_equal(bw_counter_name[BW_RX_PACKETS], "rx.packets");
	assert_string_equal(bw_counter_name[BW_JOBS], "jobs");
}

static void clock_goes_forward_at_the_speed_of_the_system_clock(void **state)
{
	struct timespec pause = { .tv_nsec = 50 * 1000 * 1000 }, before, after;
	bw_ns last, start, took, system_took;

	bw_clock_init();
	last = start = bw_clock_now();
	for (unsigned i = 0; i < 100000; i++) {
		const bw_ns now = bw_clock_now();

		assert_true(now >= last);
		last = now;
	}

	clock_gettime(CLOCK_MONOTONIC, &before);
	start = bw_clock_now();
	nanosleep(&pause, NULL);
	took = bw_clock_now() - start;
	clock_gettime(CLOCK_MONOTONIC, &after);
	system_took = (bw_ns)(after.tv_sec - before.tv_sec) * BW_NS_PER_SEC + (bw_ns)after.tv_nsec -
		      (bw_ns)before.tv_nsec;
	assert_true(took >= 50 * BW_NS_PER_MS - 50 * BW_NS_PER_US);
	assert_true(took <= system_took + 50 * BW_NS_PER_US);
}

/* What `speak` writes to stderr; it may end the process, whose wait status is *status. */
static size_t listen_to(void (*speak)(void), char *heard, size_t heard_max, int *status)
{
	size_t used = 0;
	ssize_t got;
	int ends[2];
	pid_t child;

	assert_int_equal(pipe(ends), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		dup2(ends[1], STDERR_FILENO);
		signal(SIGABRT, SIG_DFL);
		speak();
		_exit(0);
	}
	close(ends[1]);
	while ((got = read(ends[0], heard + used, heard_max - 1 - used)) > 0)
		used += (size_t)got;
	heard[used] = '\0';
	close(ends[0]);
	assert_int_equal(waitpid(child, status, 0), child);
	return used;
}

static void speak_at_every_level(void)
{
	errno = ENOENT;
	bw_error("port %d: %s", 80, "in use");
	if (errno != ENOENT)
		_exit(1);
	bw_warn("two\nlines\x1b[2J");
	bw_info("hello");
	bw_debug("unheard");
	bw_log_set_level(BW_LOG_DEBUG);
	bw_debug("heard");
	bw_log_set_level(BW_LOG_ERROR);
	bw_warn("unheard");
}

static void log_has_one_line_an_event(void **state)
{
	char heard[4096];
	int status;

	listen_to(speak_at_every_level, heard, sizeof(heard), &status);
	assert_int_equal(status, 0);
	assert_string_equal(heard, "barewire: error: port 80: in use\n"
				   "barewire: warning: two?lines?[2J\n"
				   "barewire: hello\n"
				   "barewire: debug: heard\n");
}

static void speak_at_length(void)
{
	char text[5000];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	bw_error("%s", text);
}

static void log_cuts_a_line_that_is_too_long(void **state)
{
	char heard[8192];
	int status;
	const size_t used = listen_to(speak_at_length, heard, sizeof(heard), &status);

	assert_int_equal(used, 1024);
	assert_memory_equal(heard + used - 5, "x...\n", 5);
	assert_ptr_equal(strchr(heard, '\n'), heard + used - 1);
}

static void speak_too_often(void)
{
	for (bw_ns now = 0; now < 2 * BW_NS_PER_SEC; now += BW_NS_PER_SEC / 10)
		bw_warn_limited(now, "flood");
}

static void log_of_what_a_peer_can_cause_is_limited(void **state)
{
	char heard[4096];
	int status;

	listen_to(speak_too_often, heard, sizeof(heard), &status);
	assert_string_equal(heard, "barewire: warning: flood\nbarewire: warning: flood\n");
}

static void break_an_invariant(void)
{
	const unsigned queued = 7, limit = 5;

	BW_ASSERT_LE(limit, queued);
	BW_ASSERT_LE(queued, limit);
}

static void failed_assertion_tells_both_values_and_aborts(void **state)
{
	char heard[4096];
	int status;

	listen_to(break_an_invariant, heard, sizeof(heard), &status);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	assert_non_null(strstr(heard, "barewire: error: bug: "));
	assert_non_null(strstr(heard, "queued <= limit (7 against 5)\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_come_back_as_they_were_written),
		cmocka_unit_test(anything_else_is_no_address),
		cmocka_unit_test(addresses_know_what_they_are),
		cmocka_unit_test(what_is_set_aside_is_not_global),
		cmocka_unit_test(prefixes_are_global_or_special),
		cmocka_unit_test(prefixes_hold_and_broadcast),
		cmocka_unit_test(sequence_numbers_wrap),
		cmocka_unit_test(siphash_agrees_with_the_paper),
		cmocka_unit_test(histogram_is_exact_below_128_and_within_a_percent_above),
		cmocka_unit_test(histogram_without_what_was_in_it_earlier),
		cmocka_unit_test(histogram_percentiles_of_known_samples),
		cmocka_unit_test(every_counter_has_a_name_of_its_own),
		cmocka_unit_test(clock_goes_forward_at_the_speed_of_the_system_clock),
		cmocka_unit_test(log_has_one_line_an_event),
		cmocka_unit_test(log_cuts_a_line_that_is_too_long),
		cmocka_unit_test(log_of_what_a_peer_can_cause_is_limited),
		cmocka_unit_test(failed_assertion_tells_both_values_and_aborts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
