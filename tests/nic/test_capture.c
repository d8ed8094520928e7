/* SPDX-License-Identifier: BSD-3-Clause */
/** What passes, seen by another thread's eyes: rings, filters and files. One thread is both ends here. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <base/clock.h>
#include <nic/nic.h>
#include <nic/pcapng.h>

#define RING_BYTES  (512u << 10)
#define LONGEST     9000
#define NOT_DROPPED BW_COUNTER_COUNT

static struct rte_mempool *pool;
static struct bw_capture *capture;
static struct bw_capture_ring *ring;
static struct bw_captured packet;

/** With the filter's expression in its place. */
static void open_with(const struct bw_capture_conf *conf, unsigned rings)
{
	struct bw_capture_conf compiled = *conf;
	char *program = NULL, problem[100] = "none";

	if (conf->filter != NULL)
		assert_int_equal(bw_capture_filter(conf->filter, &program, problem, sizeof(problem)), 0);
	assert_string_equal(problem, "none");
	compiled.filter = program;
	assert_int_equal(bw_capture_open(&compiled, rings, &capture), 0);
	free(program);
	ring = bw_capture_ring(capture, 0);
}

static void open_all(unsigned rings)
{
	open_with(&(struct bw_capture_conf){ .snaplen = BW_CAPTURE_SNAPLEN_MAX, .ring_bytes = RING_BYTES },
		rings);
}

/** A packet of `length` bytes that begin with `number`, in segments of some. */
static struct rte_mbuf *make(uint32_t number, uint32_t length, uint32_t segment)
{
	struct rte_mbuf *first = NULL;
	uint8_t bytes[LONGEST];

	for (uint32_t i = 0; i < length; i++)
		bytes[i] = (uint8_t)(number >> (8 * (i & 3))) ^ (uint8_t)(i >> 2);
	for (uint32_t at = 0; at < length; at += segment) {
		const uint32_t some = BW_MIN(segment, length - at);
		struct rte_mbuf *m = rte_pktmbuf_alloc(pool);

		assert_non_null(m);
		memcpy(rte_pktmbuf_append(m, (uint16_t)some), bytes + at, some);
		if (first == NULL)
			first = m;
		else
			assert_int_equal(rte_pktmbuf_chain(first, m), 0);
	}
	return first;
}

static void passes(struct bw_capture_ring *to, uint32_t number, uint32_t length)
{
	struct rte_mbuf *m = make(number, length, 700);

	bw_capture_put(to, BW_CAPTURE_IN, 0, m);
	rte_pktmbuf_free(m);
}

/** The next that is to be read is this one. */
static void is_next(uint32_t number, uint32_t length)
{
	assert_true(bw_capture_next(capture, &packet));
	assert_int_equal(packet.length, length);
	for (uint32_t i = 0; i < packet.kept; i++)
		if (packet.bytes[i] != ((uint8_t)(number >> (8 * (i & 3))) ^ (uint8_t)(i >> 2)))
			fail_msg("byte %u of packet %u", i, number);
}

static void is_empty(void)
{
	assert_false(bw_capture_next(capture, &packet));
}

static int done(void **state)
{
	bw_capture_close(capture);
	capture = NULL;
	return rte_mempool_in_use_count(pool) == 0 ? 0 : -1;
}

static void nothing_is_seen_before_it_is_published(void **state)
{
	open_all(1);
	passes(ring, 1, 60);
	is_empty();
	bw_capture_publish(ring);
	is_next(1, 60);
	assert_int_equal(packet.kept, 60);
	assert_int_equal(packet.way, BW_CAPTURE_IN);
	assert_int_equal(packet.reason, NOT_DROPPED);
	is_empty();
}

static void what_is_taken_back_was_never_there(void **state)
{
	struct bw_capture_mark mark;

	open_all(1);
	passes(ring, 1, 60);
	mark = bw_capture_mark(ring);
	passes(ring, 2, 900);
	passes(ring, 3, 60);
	bw_capture_take_back(ring, mark);
	passes(ring, 4, 61);
	bw_capture_publish(ring);
	is_next(1, 60);
	is_next(4, 61);
	is_empty();
}

static void a_long_one_is_cut(void **state)
{
	open_with(&(struct bw_capture_conf){ .snaplen = 100, .ring_bytes = RING_BYTES }, 1);
	passes(ring, 7, LONGEST);
	bw_capture_publish(ring);
	is_next(7, LONGEST);
	assert_int_equal(packet.kept, 100);
}

static void reasons_are_of_their_packets(void **state)
{
	struct bw_capture_mark mark;

	open_all(1);
	passes(ring, 1, 60);
	mark = bw_capture_mark(ring);
	passes(ring, 2, 60);
	bw_capture_reason(ring, mark, BW_DROP_MARTIAN);
	mark = bw_capture_mark(ring);
	passes(ring, 3, 60);
	bw_capture_reason(ring, mark, NOT_DROPPED);
	bw_capture_publish(ring);
	is_next(1, 60);
	assert_int_equal(packet.reason, NOT_DROPPED);
	is_next(2, 60);
	assert_int_equal(packet.reason, BW_DROP_MARTIAN);
	is_next(3, 60);
	assert_int_equal(packet.reason, NOT_DROPPED);
}

static void only_dropped_ones(void **state)
{
	struct rte_mbuf *m = make(9, 60, 60);
	struct bw_capture_mark mark;

	open_with(&(struct bw_capture_conf){ .snaplen = 200, .ring_bytes = RING_BYTES, .only_dropped = true },
		1);
	for (uint32_t i = 0; i < 20000; i++) {
		mark = bw_capture_mark(ring);
		passes(ring, i, 300);
		bw_capture_reason(ring, mark, i % 100 == 7 ? BW_DROP_ARP : NOT_DROPPED);
		bw_capture_put(ring, BW_CAPTURE_OUT, 0, m);
		bw_capture_publish(ring);
	}
	rte_pktmbuf_free(m);
	for (uint32_t i = 7; i < 20000; i += 100)
		is_next(i, 300);
	is_empty();
	assert_int_equal(bw_capture_lost(capture), 0);
}

/** Whoever reads too late finds the oldest in order, and the rest counted. */
static void what_finds_no_room_is_counted(void **state)
{
	uint32_t kept = 0;

	open_all(1);
	for (uint32_t i = 0; i < 3000; i++)
		passes(ring, i, 1000);
	bw_capture_publish(ring);
	while (bw_capture_next(capture, &packet)) {
		assert_int_equal(packet.bytes[0], kept & 0xff);
		kept++;
	}
	assert_true(kept > RING_BYTES / 1100);
	assert_int_equal(kept + bw_capture_lost(capture), 3000);
	passes(ring, 5000, 1000);
	bw_capture_publish(ring);
	is_next(5000, 1000);
}

/** Round and round, of all sizes, and at each of the ways that the ring's end can fall. */
static void rings_go_round(void **state)
{
	uint32_t sent = 0, seen = 0, seed = 1;

	open_all(1);
	while (sent < 40000) {
		for (unsigned burst = seed % 60; burst > 0; burst--) {
			const struct bw_capture_mark mark = bw_capture_mark(ring);

			seed = seed * 1103515245 + 12345;
			passes(ring, 0xffffffff, 14 + (seed >> 8) % 3000);
			bw_capture_take_back(ring, mark);
			passes(ring, sent, 14 + sent * 7919 % 2000);
			sent++;
		}
		seed = seed * 1103515245 + 12345;
		bw_capture_publish(ring);
		for (unsigned burst = (seed >> 16) % 80; burst > 0 && seen < sent; burst--, seen++)
			is_next(seen, 14 + seen * 7919 % 2000);
		if (sent - seen > 150)
			for (; seen < sent; seen++)
				is_next(seen, 14 + seen * 7919 % 2000);
	}
	assert_int_equal(bw_capture_lost(capture), 0);
}

static void the_oldest_of_all_rings_comes_first(void **state)
{
	open_all(3);
	for (uint32_t i = 0; i < 300; i++) {
		passes(bw_capture_ring(capture, i * 7 % 3), i, 60 + i);
		bw_capture_publish(bw_capture_ring(capture, i * 7 % 3));
	}
	for (uint32_t i = 0; i < 300; i++) {
		is_next(i, 60 + i);
		assert_int_equal(packet.ring, i * 7 % 3);
	}
}

/** Ethernet, IPv4 and the ports of TCP or UDP, headers split where `segment` says. */
static void ip_passes(uint8_t proto, uint16_t port, uint32_t segment)
{
	uint8_t bytes[60] = {
		[12] = 8, [14] = 0x45, [23] = proto, [36] = (uint8_t)(port >> 8), [37] = (uint8_t)port
	};
	struct rte_mbuf *m = make(0, sizeof(bytes), segment);
	uint32_t at = 0;

	for (struct rte_mbuf *s = m; s != NULL; at += s->data_len, s = s->next)
		memcpy(rte_pktmbuf_mtod(s, void *), bytes + at, s->data_len);
	bw_capture_put(ring, BW_CAPTURE_IN, 0, m);
	rte_pktmbuf_free(m);
}

static void filters_see_all_segments(void **state)
{
	open_with(
		&(struct bw_capture_conf){
			.filter = "tcp dst port 443", .snaplen = 100, .ring_bytes = RING_BYTES },
		1);
	for (unsigned segment = 5; segment <= 60; segment++) {
		ip_passes(6, 443, segment);
		ip_passes(6, 442, segment);
		ip_passes(17, 443, segment);
		bw_capture_publish(ring);
		assert_true(bw_capture_next(capture, &packet));
		assert_int_equal(packet.bytes[37], 443 & 0xff);
		assert_int_equal(packet.bytes[23], 6);
		is_empty();
	}
	assert_int_equal(bw_capture_lost(capture), 0);
}

/** Offsets that a header's length decides, and tests of single bits. */
static void filters_find_their_bytes(void **state)
{
	static const struct {
		const char *filter;
		bool is_it;
	} cases[] = { { "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0", false }, { "tcp[3] = 187", true },
		{ "tcp[3] & 8 != 0", true }, { "tcp[3] & 4 != 0", false }, { "ether multicast", false },
		{ "not ether broadcast and ether[12] = 8", true }, { "greater 60", true },
		{ "less 59", false }, { "ip[0] & 0xf = 5 and len = 60", true } };

	for (unsigned i = 0; i < BW_ARRAY_LEN(cases); i++) {
		open_with(
			&(struct bw_capture_conf){
				.filter = cases[i].filter, .snaplen = 20, .ring_bytes = RING_BYTES },
			1);
		for (unsigned segment = 4; segment <= 60; segment += 8)
			ip_passes(6, 443, segment);
		bw_capture_publish(ring);
		for (unsigned segment = 4; segment <= 60 && cases[i].is_it; segment += 8)
			assert_true(bw_capture_next(capture, &packet));
		is_empty();
		done(NULL);
	}
}

static void filters_that_are_none(void **state)
{
	static const char *const wrong[] = { "no such thing", "tcp port", "(", "host 1.2.3.4.5", "inbound" };

	for (unsigned i = 0; i < BW_ARRAY_LEN(wrong); i++) {
		char problem[100] = "", *program = NULL;

		assert_int_equal(bw_capture_filter(wrong[i], &program, problem, sizeof(problem)), -EINVAL);
		assert_null(program);
		assert_true(strlen(problem) > 4);
		assert_null(strchr(problem, '\n'));
	}
}

/** Whoever may ask can send any text for a program: jumps out of it, memory that is none, too few lines, no numbers. */
static void programs_that_are_none(void **state)
{
	static const char *const wrong[] = { "", "x", "0\n", "1\n", "1\n6 0 0\n", "2\n21 9 9 1\n6 0 0 1\n",
		"1\n5 0 0 9\n", "1\n40 0 0 12\n", "2\n96 0 0 99\n6 0 0 1\n", "5000\n6 0 0 1\n",
		"4294967295\n6 0 0 1\n", "2\n52 0 0 0\n6 0 0 1\n", "1\n99999 0 0 1\n", "1\n6 300 0 1\n" };

	for (unsigned i = 0; i < BW_ARRAY_LEN(wrong); i++) {
		const struct bw_capture_conf conf = {
			.filter = wrong[i], .snaplen = 100, .ring_bytes = RING_BYTES
		};

		if (bw_capture_open(&conf, 1, &capture) != -EINVAL)
			fail_msg("program %u", i);
	}
}

/** As a peer on a memif may make it: no bytes at all. */
static void empty_packets(void **state)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool);

	open_all(1);
	for (unsigned i = 0; i < 100000; i++) {
		const struct bw_capture_mark mark = bw_capture_mark(ring);

		bw_capture_put(ring, BW_CAPTURE_IN, 0, m);
		bw_capture_reason(ring, mark, BW_DROP_RUNT);
		passes(ring, i, 100);
		bw_capture_publish(ring);
		is_next(0, 0);
		assert_int_equal(packet.reason, BW_DROP_RUNT);
		is_next(i, 100);
		is_empty();
	}
	rte_pktmbuf_free(m);
	assert_int_equal(bw_capture_lost(capture), 0);
}

/** What is taken back was not lost either; and where only dropped ones are wanted, others that found no room were not. */
static void only_what_is_missed_is_lost(void **state)
{
	struct bw_capture_mark mark;
	unsigned lost;

	open_with(
		&(struct bw_capture_conf){ .snaplen = 2000, .ring_bytes = RING_BYTES, .only_dropped = true },
		1);
	for (unsigned i = 0; bw_capture_lost(capture) == 0; i++) {
		mark = bw_capture_mark(ring);
		passes(ring, i, 1000);
		bw_capture_reason(ring, mark, BW_DROP_RUNT);
	}
	for (unsigned i = 0; i < 100; i++) {
		mark = bw_capture_mark(ring);
		passes(ring, i, 1000);
		lost = (unsigned)bw_capture_lost(capture);
		assert_int_equal(lost, 2);
		if (i % 2 == 0)
			bw_capture_take_back(ring, mark);
		else
			bw_capture_reason(ring, mark, NOT_DROPPED);
		assert_int_equal(bw_capture_lost(capture), 1);
	}
}

/** Returns the block's type, and goes on to the next. */
static uint32_t block(const uint8_t **at, size_t *left)
{
	uint32_t type, first, last;

	assert_true(*left >= 12);
	memcpy(&type, *at, 4);
	memcpy(&first, *at + 4, 4);
	assert_true(first >= 12 && first <= *left && first % 4 == 0);
	memcpy(&last, *at + first - 4, 4);
	assert_int_equal(last, first);
	*at += first;
	*left -= first;
	return type;
}

/** Blocks have their length at both ends, are no longer than they may be, and one follows the other. */
static void files_are_made_of_blocks(void **state)
{
	static uint8_t file[BW_PCAPNG_HEAD_MAX + 600 * BW_PCAPNG_PACKET_MAX + BW_PCAPNG_TAIL_MAX];
	static uint8_t bytes[BW_CAPTURE_SNAPLEN_MAX];
	static char text[3000];
	const uint8_t *at = file;
	size_t used, some;

	memset(text, 'x', sizeof(text) - 1);
	used = bw_pcapng_head(&(struct bw_pcapng_conf){ .application = text,
				      .interfaces = { text, text, text, text, text, text, text, text },
				      .interface_count = BW_PCAPNG_INTERFACES_MAX,
				      .filter = text,
				      .snaplen = 65535 },
		file);
	assert_true(used <= BW_PCAPNG_HEAD_MAX);
	for (unsigned reason = 0; reason <= BW_COUNTER_COUNT; reason++) {
		const struct bw_captured one = { .bytes = bytes,
			.kept = reason == BW_COUNTER_COUNT ? BW_CAPTURE_SNAPLEN_MAX : 60 + reason,
			.length = BW_CAPTURE_SNAPLEN_MAX,
			.reason = reason };

		some = bw_pcapng_packet(&one, 1, file + used);
		assert_true(some <= one.kept + BW_PCAPNG_PACKET_MAX - BW_CAPTURE_SNAPLEN_MAX);
		used += some;
	}
	some = bw_pcapng_tail(1, 2, 3, 4, file + used);
	assert_true(some <= BW_PCAPNG_TAIL_MAX);
	used += some;
	assert_int_equal(block(&at, &used), 0x0a0d0d0a);
	for (unsigned i = 0; i < BW_PCAPNG_INTERFACES_MAX; i++)
		assert_int_equal(block(&at, &used), 1);
	for (unsigned reason = 0; reason <= BW_COUNTER_COUNT; reason++)
		assert_int_equal(block(&at, &used), 6);
	assert_int_equal(block(&at, &used), 5);
	assert_int_equal(used, 0);
}

static int start(void **state)
{
	const unsigned cpus[] = { 0 };
	const struct bw_eal_conf conf = { .cpus = cpus,
		.cpu_count = 1,
		.memory_mib = 64,
		.extra = (char *[]){ (char *)"--no-huge" },
		.extra_count = 1 };

	if (bw_eal_start(&conf) != 0)
		return -1;
	bw_clock_init();
	pool = rte_pktmbuf_pool_create("packets", 255, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	return pool != NULL ? 0 : -1;
}

static int stop(void **state)
{
	rte_mempool_free(pool);
	bw_eal_stop();
	return 0;
}

#define CASE(name) cmocka_unit_test_teardown(name, done)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(nothing_is_seen_before_it_is_published),
		CASE(what_is_taken_back_was_never_there),
		CASE(a_long_one_is_cut),
		CASE(reasons_are_of_their_packets),
		CASE(only_dropped_ones),
		CASE(what_finds_no_room_is_counted),
		CASE(rings_go_round),
		CASE(the_oldest_of_all_rings_comes_first),
		CASE(filters_see_all_segments),
		CASE(filters_find_their_bytes),
		CASE(filters_that_are_none),
		CASE(programs_that_are_none),
		CASE(empty_packets),
		CASE(only_what_is_missed_is_lost),
		CASE(files_are_made_of_blocks),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
