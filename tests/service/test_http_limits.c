/* SPDX-License-Identifier: BSD-3-Clause */
/* Every limit of the HTTP service, at its bound and one beyond, and the status that docs/http.md promises for it. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <service/http.h>

#include "fake_stream.h"
#include "http/addresses.h"

#define SEC(n) ((n)*BW_NS_PER_SEC)
#define GET    "GET /ok HTTP/1.1\r\nHost: h\r\n"

static char big[3 << 20];
static const struct bw_http_constant constants[] = {
	{ .path = "/ok", .content_type = "text/plain", .body = "ok\n", .body_bytes = 3 },
	{ .path = "/big", .content_type = "text/plain", .body = big, .body_bytes = sizeof(big) },
};

static struct bw_http_conf conf;
static struct fake *f;
static struct bw_stream *s;

static void defaults(void)
{
	bw_http_conf_init(&conf);
	conf.site.constants = constants;
	conf.site.constant_count = BW_ARRAY_LEN(constants);
}

static void start(unsigned workers)
{
	assert_int_equal(bw_http_conf_prepare(&conf), 0);
	f = fake_create(&bw_http_service, &conf, workers);
	s = NULL;
}

static void end(void)
{
	fake_destroy(f);
	bw_http_conf_release(&conf);
}

static void say(const char *text)
{
	fake_feed(s, text, strlen(text));
}

static void ask(const char *text)
{
	s = fake_open(f, 0);
	say(text);
}

/* The last response's status, 0: none yet. How many there were in *count. */
static unsigned answered(unsigned *count)
{
	const char *at = fake_output(s, NULL);
	unsigned status = 0;

	*count = 0;
	while ((at = strstr(at, "HTTP/1.1 ")) != NULL) {
		status = (unsigned)atoi(at + 9);
		at += 9;
		++*count;
	}
	return status;
}

#define ANSWERED(status)                                                                                     \
	do {                                                                                                 \
		unsigned count_;                                                                             \
		assert_int_equal(answered(&count_), status);                                                 \
	} while (0)

/* Refused: the status, a close that is said, and the end. */
static void refused(unsigned status)
{
	ANSWERED(status);
	assert_non_null(strstr(fake_output(s, NULL), "\r\nConnection: close\r\n"));
	assert_true(fake_is_closing(s));
	assert_false(fake_is_aborted(s));
}

static unsigned figure(const char *name)
{
	char pattern[64];
	const char *at;

	snprintf(pattern, sizeof(pattern), "\n%s ", name);
	at = strstr(fake_stats(f, 0), pattern);
	assert_non_null(at);
	return (unsigned)strtoul(at + strlen(pattern), NULL, 10);
}

static void a_request_line_is_bounded(void **state)
{
	char text[200];

	defaults();
	conf.request_line_bytes_max = 64;
	start(1);
	/* 64 bytes with its end. */
	snprintf(text, sizeof(text), "GET /%0*d HTTP/1.1\r\nHost: h\r\n\r\n", 64 - 16, 0);
	ask(text);
	ANSWERED(404);
	snprintf(text, sizeof(text), "GET /%0*d HTTP/1.1\r\nHost: h\r\n\r\n", 64 - 16 + 1, 0);
	ask(text);
	refused(414);
	/* It need not end for that. */
	snprintf(text, sizeof(text), "GET /%0*d", 64, 0);
	ask(text);
	refused(414);
	end();
}

static void headers_are_bounded_in_bytes_and_number(void **state)
{
	char text[512];
	int len;

	defaults();
	conf.request_line_bytes_max = 64;
	conf.header_bytes_max = 256;
	conf.header_count_max = 3;
	start(1);
	snprintf(text, sizeof(text), GET "X: %0*d\r\n\r\n", 256 - (int)strlen(GET) - 7, 0);
	assert_int_equal(strlen(text), 256);
	ask(text);
	ANSWERED(200);
	snprintf(text, sizeof(text), GET "X: %0*d\r\n\r\n", 256 - (int)strlen(GET) - 6, 0);
	ask(text);
	refused(431);
	len = snprintf(text, sizeof(text), GET "X: %0*d", 300, 0);
	assert_true(len > 256);
	ask(text);
	refused(431);
	ask(GET "A: 1\r\nB: 2\r\n\r\n");
	ANSWERED(200);
	ask(GET "A: 1\r\nB: 2\r\nC: 3\r\n\r\n");
	refused(431);
	end();
}

static void a_body_is_bounded_in_bytes(void **state)
{
	defaults();
	conf.body_bytes_max = 5;
	start(1);
	ask(GET "Content-Length: 5\r\n\r\n12345");
	ANSWERED(200);
	ask(GET "Content-Length: 6\r\n\r\n");
	refused(413);
	ask(GET "Transfer-Encoding: chunked\r\n\r\n2\r\n12\r\n3\r\n123\r\n0\r\n\r\n");
	ANSWERED(200);
	ask(GET "Transfer-Encoding: chunked\r\n\r\n2\r\n12\r\n4\r\n");
	refused(413);
	end();
}

static void responses_that_wait_are_bounded(void **state)
{
	unsigned count;

	defaults();
	conf.pipeline_depth_max = 3;
	start(1);
	s = fake_open(f, 0);
	fake_set_auto_ack(s, false);
	/* The first fills the send queue; what comes behind it stays unread, and shuts the window. */
	say("GET /big HTTP/1.1\r\nHost: h\r\n\r\n" GET "\r\n" GET "\r\n");
	assert_int_equal(figure("pending"), 1);
	assert_true(fake_unread(s) > 0);
	fake_set_auto_ack(s, true);
	fake_run(f);
	assert_int_equal(answered(&count), 200);
	assert_int_equal(count, 3);
	end();
}

static void a_connection_has_so_many_requests(void **state)
{
	unsigned count;

	defaults();
	conf.requests_max = 3;
	start(1);
	ask(GET "\r\n" GET "\r\n");
	assert_int_equal(answered(&count), 200);
	assert_int_equal(count, 2);
	assert_null(strstr(fake_output(s, NULL), "Connection: close"));
	assert_false(fake_is_closing(s));
	say(GET "\r\n" GET "\r\n");
	assert_int_equal(answered(&count), 200);
	assert_int_equal(count, 3);
	refused(200);
	/* The next has its own. */
	ask(GET "\r\n");
	assert_false(fake_is_closing(s));
	end();
	/* And without a bound there is none. */
	defaults();
	start(1);
	s = fake_open(f, 0);
	for (unsigned i = 0; i < 5000; i++)
		say(GET "\r\n");
	assert_int_equal(figure("requests"), 5000);
	assert_false(fake_is_closing(s));
	end();
}

static void heads_and_pauses_end_in_time(void **state)
{
	defaults();
	conf.header_timeout_ns = SEC(3);
	conf.idle_timeout_ns = SEC(7);
	start(1);
	ask("GET / HT");
	fake_advance(f, SEC(2));
	say("TP"); /* what drips earns no time */
	fake_advance(f, SEC(1) / 2);
	ANSWERED(0);
	fake_advance(f, SEC(1));
	refused(408);
	/* Between requests, without a word. */
	ask(GET "\r\n");
	fake_advance(f, SEC(6));
	assert_false(fake_is_closing(s));
	fake_advance(f, SEC(2));
	assert_true(fake_is_closing(s));
	assert_null(strstr(fake_output(s, NULL), "408"));
	/* Who does not read is reset. */
	s = fake_open(f, 0);
	fake_set_auto_ack(s, false);
	say("GET /big HTTP/1.1\r\nHost: h\r\n\r\n");
	fake_advance(f, SEC(6));
	assert_false(fake_is_aborted(s));
	fake_advance(f, SEC(2));
	assert_true(fake_is_aborted(s));
	end();
}

static void a_body_keeps_its_rate(void **state)
{
	char bytes[200] = { 0 };

	defaults();
	conf.header_timeout_ns = SEC(100);
	conf.body_timeout_ns = SEC(4);
	conf.body_rate_bytes = 100;
	start(1);
	ask(GET "Content-Length: 100000\r\n\r\n");
	fake_advance(f, SEC(3));
	ANSWERED(0);
	fake_advance(f, SEC(2));
	refused(408);
	/* Twice the rate, for as long as it takes. */
	ask(GET "Content-Length: 4000\r\n\r\n");
	for (unsigned i = 0; i < 20; i++) {
		fake_feed(s, bytes, 200);
		fake_advance(f, SEC(1));
	}
	ANSWERED(200);
	/* Half of it: it falls behind by half a second a second. */
	ask(GET "Content-Length: 4000\r\n\r\n");
	for (unsigned i = 0; i < 7; i++) {
		fake_feed(s, bytes, 50);
		ANSWERED(0);
		fake_advance(f, SEC(1));
	}
	fake_advance(f, SEC(2));
	refused(408);
	end();
	/* No rate: it must only go on. */
	defaults();
	conf.body_timeout_ns = SEC(4);
	conf.body_rate_bytes = 0;
	start(1);
	ask(GET "Content-Length: 20\r\n\r\n");
	for (unsigned i = 0; i < 19; i++) {
		fake_feed(s, bytes, 1);
		fake_advance(f, SEC(3));
	}
	ANSWERED(0);
	fake_advance(f, SEC(2));
	refused(408);
	end();
}

/* ---- connections of an address ------------------------------------------------------------------------------- */

static void an_address_has_so_many_connections(void **state)
{
	struct bw_stream *first; /* fake_stream.c gives all the same address */

	defaults();
	conf.per_address_max = 1;
	start(2);
	for (unsigned i = 0; i < 100; i++) {
		first = s = fake_open(f, i % 2);
		say(GET "\r\n");
		ANSWERED(200);
		fake_peer_close(first);
	}
	first = fake_open(f, 0);
	s = fake_open(f, 1);
	fake_run(f);
	refused(429);
	assert_non_null(strstr(fake_output(s, NULL), "\r\nRetry-After: 1\r\n"));
	fake_peer_reset(first);
	s = fake_open(f, 1);
	say(GET "\r\n");
	ANSWERED(200);
	assert_int_equal(figure("address_uncounted"), 0);
	end();
}

static struct bw_ip ip(const char *text)
{
	struct bw_ip parsed;

	assert_int_equal(bw_ip_parse(text, &parsed), 0);
	return parsed;
}

static void an_address_is_a_host_or_a_64(void **state)
{
	struct bw_http__addresses *addresses = bw_http__addresses_create(2);
	struct bw_ip a = ip("192.0.2.1"), b = ip("192.0.2.2"), x = ip("2001:db8:0:1::1"),
		     y = ip("2001:db8:0:1:f::2"), z = ip("2001:db8:0:2::1"), zero = ip("::");

	assert_non_null(addresses);
	assert_int_equal(bw_http__addresses_enter(addresses, &a), BW_HTTP__ADDRESS_COUNTED);
	assert_int_equal(bw_http__addresses_enter(addresses, &a), BW_HTTP__ADDRESS_COUNTED);
	assert_int_equal(bw_http__addresses_enter(addresses, &a), BW_HTTP__ADDRESS_REFUSED);
	assert_int_equal(bw_http__addresses_enter(addresses, &b), BW_HTTP__ADDRESS_COUNTED);
	assert_int_equal(bw_http__addresses_enter(addresses, &x), BW_HTTP__ADDRESS_COUNTED);
	assert_int_equal(bw_http__addresses_enter(addresses, &y), BW_HTTP__ADDRESS_COUNTED);
	assert_int_equal(bw_http__addresses_enter(addresses, &x), BW_HTTP__ADDRESS_REFUSED);
	assert_int_equal(bw_http__addresses_enter(addresses, &z), BW_HTTP__ADDRESS_COUNTED);
	assert_int_equal(bw_http__addresses_enter(addresses, &zero), BW_HTTP__ADDRESS_COUNTED);
	bw_http__addresses_leave(addresses, &a);
	assert_int_equal(bw_http__addresses_enter(addresses, &a), BW_HTTP__ADDRESS_COUNTED);
	assert_int_equal(bw_http__addresses_enter(addresses, &a), BW_HTTP__ADDRESS_REFUSED);
	bw_http__addresses_free(addresses);
}

static struct bw_ip numbered(uint32_t i)
{
	return bw_ip_from_v4(__builtin_bswap32(0x0a000000 + i));
}

/* 250,000 at once are all told apart, and 250,000 others find the room that they leave. */
static void many_addresses_are_counted_exactly(void **state)
{
	struct bw_http__addresses *addresses = bw_http__addresses_create(1);

	assert_non_null(addresses);
	for (uint32_t round = 0; round < 2; round++) {
		for (uint32_t i = 0; i < 250000; i++) {
			struct bw_ip at = numbered(round * 250000 + i);

			assert_int_equal(bw_http__addresses_enter(addresses, &at), BW_HTTP__ADDRESS_COUNTED);
		}
		for (uint32_t i = 0; i < 250000; i++) {
			struct bw_ip at = numbered(round * 250000 + i);

			assert_int_equal(bw_http__addresses_enter(addresses, &at), BW_HTTP__ADDRESS_REFUSED);
			bw_http__addresses_leave(addresses, &at);
		}
	}
	bw_http__addresses_free(addresses);
}

#define PER_ADDRESS 5
#define ADDRESSES   3

static struct bw_http__addresses *shared;
static _Atomic int in[ADDRESSES];
static _Atomic unsigned over;

static void *come_and_go(void *arg)
{
	uint32_t random = (uint32_t)(uintptr_t)arg * 2654435761u + 1;
	unsigned mine[ADDRESSES] = { 0 };

	for (unsigned i = 0; i < 200000; i++) {
		unsigned which;
		struct bw_ip at;

		random = random * 1664525 + 1013904223;
		which = (random >> 8) % ADDRESSES;
		at = numbered(which);
		if (random >> 31) {
			if (bw_http__addresses_enter(shared, &at) == BW_HTTP__ADDRESS_COUNTED) {
				if (atomic_fetch_add(&in[which], 1) + 1 > PER_ADDRESS)
					atomic_fetch_add(&over, 1);
				mine[which]++;
			}
		} else if (mine[which] > 0) {
			atomic_fetch_sub(&in[which], 1);
			bw_http__addresses_leave(shared, &at);
			mine[which]--;
		}
	}
	for (unsigned which = 0; which < ADDRESSES; which++)
		for (; mine[which] > 0; mine[which]--) {
			struct bw_ip at = numbered(which);

			atomic_fetch_sub(&in[which], 1);
			bw_http__addresses_leave(shared, &at);
		}
	return NULL;
}

static void workers_count_together(void **state)
{
	pthread_t threads[4];

	shared = bw_http__addresses_create(PER_ADDRESS);
	assert_non_null(shared);
	for (uintptr_t i = 0; i < BW_ARRAY_LEN(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, (void *)(i + 1)), 0);
	for (unsigned i = 0; i < BW_ARRAY_LEN(threads); i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(over, 0);
	/* And nothing is left of it. */
	for (unsigned which = 0; which < ADDRESSES; which++) {
		struct bw_ip at = numbered(which);

		for (unsigned i = 0; i < PER_ADDRESS; i++)
			assert_int_equal(bw_http__addresses_enter(shared, &at), BW_HTTP__ADDRESS_COUNTED);
		assert_int_equal(bw_http__addresses_enter(shared, &at), BW_HTTP__ADDRESS_REFUSED);
	}
	bw_http__addresses_free(shared);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_request_line_is_bounded),
		cmocka_unit_test(headers_are_bounded_in_bytes_and_number),
		cmocka_unit_test(a_body_is_bounded_in_bytes),
		cmocka_unit_test(responses_that_wait_are_bounded),
		cmocka_unit_test(a_connection_has_so_many_requests),
		cmocka_unit_test(heads_and_pauses_end_in_time),
		cmocka_unit_test(a_body_keeps_its_rate),
		cmocka_unit_test(an_address_has_so_many_connections),
		cmocka_unit_test(an_address_is_a_host_or_a_64),
		cmocka_unit_test(many_addresses_are_counted_exactly),
		cmocka_unit_test(workers_count_together),
	};

	memset(big, 'x', sizeof(big));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
