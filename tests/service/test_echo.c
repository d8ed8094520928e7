/* SPDX-License-Identifier: BSD-3-Clause */
/* Echo and discard (RFC 862, RFC 863) against a stream in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake_stream.h"

#define BIG_BYTES 300000

/* Bytes in which a lost, doubled or moved piece shows. */
static uint8_t *pattern(size_t len)
{
	uint8_t *bytes = malloc(len);
	uint32_t x = 862;

	assert_non_null(bytes);
	for (size_t i = 0; i < len; i++) {
		x = x * 1664525 + 1013904223;
		bytes[i] = x >> 24;
	}
	return bytes;
}

static void assert_output(struct bw_stream *s, const void *expected, size_t expected_len)
{
	size_t len;
	const char *output = fake_output(s, &len);

	assert_int_equal(len, expected_len);
	assert_memory_equal(output, expected, expected_len);
}

static void test_echo_gives_back_what_it_gets(void **state)
{
	struct fake *f = fake_create(&bw_echo_service, NULL, 1);
	struct bw_stream *s = fake_open(f, 0);

	assert_output(s, "", 0);
	fake_feed(s, "hello", 5);
	assert_output(s, "hello", 5);
	fake_queue(s, " ", 1);
	fake_queue(s, "world", 5);
	fake_deliver(s);
	assert_output(s, "hello world", 11);
	assert_int_equal(fake_unread(s), 0);
	assert_false(fake_is_closing(s));
	fake_destroy(f);
}

static void test_echo_closes_after_its_client(void **state)
{
	struct fake *f = fake_create(&bw_echo_service, NULL, 1);
	struct bw_stream *s = fake_open(f, 0);

	fake_feed(s, "bye", 3);
	fake_peer_close(s);
	assert_output(s, "bye", 3);
	assert_true(fake_is_closed(s));
	assert_int_equal(fake_close_reason(s), BW_CLOSE_NORMAL);
	fake_destroy(f);
}

/* A client that sends and does not read fills the send queue, and then its own window. */
static void test_echo_takes_no_more_than_it_can_send(void **state)
{
	struct fake *f = fake_create(&bw_echo_service, NULL, 1);
	struct bw_stream *s = fake_open(f, 0);
	uint64_t calls;

	fake_set_space(s, 8);
	fake_set_auto_ack(s, false);
	fake_feed(s, "0123456789abcdef", 16);
	assert_int_equal(fake_queued(s), 8);
	assert_int_equal(fake_unread(s), 8);

	/* Full and not acknowledged: nothing happens, however long that lasts. */
	calls = fake_data_calls(f);
	fake_advance(f, 60 * BW_NS_PER_SEC);
	assert_int_equal(fake_data_calls(f), calls);
	assert_int_equal(fake_unread(s), 8);

	fake_ack(s, 8);
	fake_run(f);
	assert_output(s, "01234567", 8);
	assert_int_equal(fake_queued(s), 8);
	assert_int_equal(fake_unread(s), 0);
	fake_ack(s, 8);
	fake_run(f);
	assert_output(s, "0123456789abcdef", 16);
	assert_false(fake_is_closing(s));
	fake_destroy(f);
}

/* The client has sent all and its FIN, long before the echo could leave: not a byte is missing, then FIN. */
static void test_echo_flushes_after_a_half_close(void **state)
{
	struct fake *f = fake_create(&bw_echo_service, NULL, 1);
	struct bw_stream *s = fake_open(f, 0);
	uint8_t *bytes = pattern(BIG_BYTES);
	unsigned rounds = 0;

	fake_set_space(s, 4096);
	fake_set_auto_ack(s, false);
	fake_feed_split(s, bytes, BIG_BYTES, 1447);
	fake_peer_close(s);
	while (!fake_is_closed(s)) {
		assert_int_not_equal(fake_queued(s), 0); /* else nothing would ever go on */
		assert_true(fake_queued(s) <= 4096);
		assert_int_equal(fake_is_closing(s), fake_unread(s) == 0);
		fake_ack(s, 1000 + rounds % 3000);
		fake_run(f);
		rounds++;
		assert_true(rounds < BIG_BYTES);
	}
	assert_output(s, bytes, BIG_BYTES);
	assert_int_equal(fake_close_reason(s), BW_CLOSE_NORMAL);
	free(bytes);
	fake_destroy(f);
}

/* Draining, what came before is given back, then FIN. */
static void test_echo_drains(void **state)
{
	struct fake *f = fake_create(&bw_echo_service, NULL, 1);
	struct bw_stream *idle = fake_open(f, 0), *busy = fake_open(f, 0);

	fake_set_space(busy, 4);
	fake_set_auto_ack(busy, false);
	fake_feed(busy, "in flight", 9);
	fake_drain(f);
	assert_true(fake_is_closing(idle));
	assert_false(fake_is_closing(busy));
	for (int i = 0; i < 3; i++) {
		fake_ack(busy, 4);
		fake_run(f);
	}
	assert_output(busy, "in flight", 9);
	assert_true(fake_is_closed(busy));
	fake_destroy(f);
}

static void test_echo_survives_a_reset(void **state)
{
	struct fake *f = fake_create(&bw_echo_service, NULL, 1);
	struct bw_stream *s = fake_open(f, 0);

	fake_set_space(s, 2);
	fake_set_auto_ack(s, false);
	fake_feed(s, "left over", 9);
	fake_peer_reset(s);
	fake_run(f);
	assert_true(fake_is_closed(s));
	assert_int_equal(fake_close_reason(s), BW_CLOSE_RESET);
	fake_destroy(f);
}

static void test_echo_keeps_connections_apart(void **state)
{
	struct fake *f = fake_create(&bw_echo_service, NULL, 2);
	struct bw_stream *a = fake_open(f, 0), *b = fake_open(f, 1);

	fake_feed(a, "a", 1);
	fake_feed(b, "b", 1);
	fake_peer_close(a);
	assert_output(a, "a", 1);
	assert_output(b, "b", 1);
	assert_true(fake_is_closed(a));
	assert_false(fake_is_closing(b));
	fake_destroy(f);
}

static void test_echo_answers_datagrams(void **state)
{
	struct fake *f = fake_create(&bw_echo_service, NULL, 1);
	const void *reply;
	unsigned count;
	size_t len;

	fake_datagram(f, 0, "ping", 4);
	reply = fake_datagram_reply(f, &len, &count);
	assert_int_equal(count, 1);
	assert_int_equal(len, 4);
	assert_memory_equal(reply, "ping", 4);

	/* An empty datagram is a datagram. */
	fake_datagram(f, 0, "", 0);
	fake_datagram_reply(f, &len, &count);
	assert_int_equal(count, 1);
	assert_int_equal(len, 0);
	assert_string_equal(fake_stats(f, 0), "messages 2\nloops_refused 0\n");
	fake_destroy(f);
}

static void refuses(struct fake *f, uint16_t local_port, uint16_t remote_port)
{
	struct bw_flow flow = {
		.local = bw_ip_from_v4(0x010200c0u),
		.remote = bw_ip_from_v4(0x020200c0u),
		.local_port_be = __builtin_bswap16(local_port),
		.remote_port_be = __builtin_bswap16(remote_port),
	};
	struct bw_datagram dgram = { .flow = &flow, .payload = { .data = (const uint8_t *)"x", .len = 1 } };

	/* Outside an upcall the fake aborts on any reply. */
	bw_echo_service.datagram(fake_context(f, 0), &dgram);
}

/* Two echo services that a forged datagram sets on each other would never stop. */
static void test_echo_does_not_answer_servers(void **state)
{
	struct fake *f = fake_create(&bw_echo_service, NULL, 1);

	refuses(f, 7, 7);
	refuses(f, 7, 19);
	refuses(f, 7, 1023);
	refuses(f, 7777, 7777);
	refuses(f, 7777, 0);
	assert_string_equal(fake_stats(f, 0), "messages 0\nloops_refused 5\n");
	fake_destroy(f);
}

static void test_discard_consumes_and_says_nothing(void **state)
{
	struct fake *f = fake_create(&bw_discard_service, NULL, 1);
	struct bw_stream *s = fake_open(f, 0);
	uint8_t *bytes = pattern(BIG_BYTES);
	unsigned count;

	fake_feed_split(s, bytes, BIG_BYTES, 1447);
	assert_int_equal(fake_unread(s), 0);
	fake_queue(s, "a", 1);
	fake_queue(s, "b", 1);
	fake_deliver(s);
	assert_int_equal(fake_unread(s), 0);
	assert_false(fake_is_closing(s));
	fake_peer_close(s);
	assert_true(fake_is_closed(s));
	assert_int_equal(fake_close_reason(s), BW_CLOSE_NORMAL);
	assert_output(s, "", 0);

	fake_datagram(f, 0, "x", 1);
	fake_datagram_reply(f, NULL, &count);
	assert_int_equal(count, 0);
	free(bytes);
	fake_destroy(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_echo_gives_back_what_it_gets),
		cmocka_unit_test(test_echo_closes_after_its_client),
		cmocka_unit_test(test_echo_takes_no_more_than_it_can_send),
		cmocka_unit_test(test_echo_flushes_after_a_half_close),
		cmocka_unit_test(test_echo_drains),
		cmocka_unit_test(test_echo_survives_a_reset),
		cmocka_unit_test(test_echo_keeps_connections_apart),
		cmocka_unit_test(test_echo_answers_datagrams),
		cmocka_unit_test(test_echo_does_not_answer_servers),
		cmocka_unit_test(test_discard_consumes_and_says_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
