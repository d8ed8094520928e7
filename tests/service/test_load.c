/* SPDX-License-Identifier: BSD-3-Clause */
/** The load generator on a made-up engine: the test is the server, and moves the clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <service/load.h>

#include "fake_stream.h"

#define OK_ANSWER   "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#define LAST_ANSWER "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
#define MS(n)       ((n)*BW_NS_PER_MS)

static struct bw_load_conf conf;
static struct bw_load *load;
static struct fake *f;
static struct bw_load_figures figures;

static int setup(void **state)
{
	(void)state;
	bw_load_conf_init(&conf);
	conf.targets[0] = (struct bw_load_target){
		.ip = bw_ip_from_v4(0x030200c0u),
		.port = 80,
		.host = "h",
		.path = "/",
	};
	conf.target_count = 1;
	conf.connections = 1;
	return 0;
}

static void begin(unsigned workers)
{
	load = bw_load_create(&conf);
	assert_non_null(load);
	f = fake_create(&bw_load_service, load, workers);
	fake_advance(f, MS(100));
}

static int teardown(void **state)
{
	(void)state;
	fake_destroy(f);
	bw_load_destroy(load);
	return 0;
}

static void enter(enum bw_load_stage stage)
{
	bw_load_set_stage(load, stage);
	fake_advance(f, MS(100));
}

static const struct bw_load_figures *now(void)
{
	bw_load_figures(load, &figures);
	return &figures;
}

static struct bw_stream *accept_one(void)
{
	struct bw_stream *s = fake_connecting(f);

	assert_non_null(s);
	fake_accept(s);
	return s;
}

static unsigned said(struct bw_stream *s, const char *what)
{
	const char *at = fake_output(s, NULL);
	unsigned count = 0;

	while ((at = strstr(at, what)) != NULL) {
		at += strlen(what);
		count++;
	}
	return count;
}

static void answer(struct bw_stream *s, const char *text)
{
	fake_feed(s, text, strlen(text));
}

/** The warm-up's requests that are taken back were never of the count. */
static void test_count_does_not_know_the_warm_up(void **state)
{
	struct bw_stream *s;

	(void)state;
	conf.depth = 4;
	conf.count = 5;
	begin(1);
	s = accept_one();
	enter(BW_LOAD_WARM);
	assert_int_equal(said(s, "GET "), 4);
	enter(BW_LOAD_RUN);
	answer(s, LAST_ANSWER);
	fake_peer_close(s);
	assert_int_equal(now()->responses, 0);
	fake_advance(f, MS(100));
	s = accept_one();
	assert_int_equal(said(s, "GET "), 4);
	assert_int_equal(now()->done_workers, 0);
	for (unsigned i = 0; i < 5; i++)
		answer(s, OK_ANSWER);
	fake_advance(f, MS(100));
	assert_int_equal(said(s, "GET "), 5);
	assert_int_equal(now()->responses, 5);
	assert_int_equal(now()->done_workers, 1);
}

/** `Connection: close` from a server that leaves it open: the connection is ours to end, and the next is opened. */
static void test_last_answer_without_a_close(void **state)
{
	struct bw_stream *s;

	(void)state;
	conf.depth = 3;
	conf.think_ns = MS(1);
	begin(1);
	s = accept_one();
	enter(BW_LOAD_RUN);
	answer(s, LAST_ANSWER);
	fake_advance(f, MS(900));
	assert_false(fake_is_closing(s));
	fake_advance(f, MS(200));
	assert_true(fake_is_closing(s));
	fake_peer_close(s);
	fake_advance(f, MS(100));
	s = accept_one();
	assert_int_equal(said(s, "GET "), 3);
	for (unsigned e = 0; e < BW_LOAD_ERRORS; e++)
		assert_int_equal(now()->error[e], 0);
}

/** A server may answer what it has not read to its end. */
static void test_early_answers(void **state)
{
	(void)state;
	conf.protocol = BW_LOAD_RESP;
	conf.set_share = 1;
	conf.size = 1 << 20;
	begin(1);
	enter(BW_LOAD_RUN);
	for (unsigned i = 0; i < 5; i++) {
		struct bw_stream *s = fake_connecting(f);

		fake_set_auto_ack(s, false);
		fake_accept(s);
		assert_true(fake_queued(s) > 0);
		answer(s, "-ERR too much\r\n");
		assert_true(fake_is_aborted(s));
		fake_advance(f, MS(100));
	}
	assert_int_equal(now()->responses, 5);
	assert_int_equal(now()->error[BW_LOAD_STATUS], 5);
	assert_int_equal(now()->error[BW_LOAD_RESET], 0);
}

static void test_a_set_is_no_miss(void **state)
{
	struct bw_stream *s;

	(void)state;
	conf.protocol = BW_LOAD_RESP;
	conf.set_share = 1;
	begin(1);
	s = accept_one();
	enter(BW_LOAD_RUN);
	answer(s, "$-1\r\n");
	assert_int_equal(now()->misses, 0);
	assert_int_equal(now()->error[BW_LOAD_VALUE], 1);
}

/** However fast connections come, none of them is for a request while keys are stored. */
static void test_fill_with_a_connection_each(void **state)
{
	struct bw_stream *s;

	(void)state;
	conf.protocol = BW_LOAD_RESP;
	conf.connections = 400;
	conf.is_churn = conf.fills = true;
	conf.keys = 1000;
	begin(1);
	assert_null(fake_connecting(f));
	bw_load_set_stage(load, BW_LOAD_FILL);
	for (unsigned i = 0; i < 8; i++) {
		fake_advance(f, MS(100));
		while ((s = fake_connecting(f)) != NULL)
			fake_accept(s);
	}
	assert_in_range(now()->open, 200, 400);
	assert_int_equal(now()->requests, 0);
}

/** Storing does not wait for anybody to think. */
static void test_fill(void **state)
{
	struct bw_stream *s;

	(void)state;
	conf.protocol = BW_LOAD_RESP;
	conf.fills = true;
	conf.keys = 3;
	conf.think_ns = 10 * BW_NS_PER_SEC;
	begin(1);
	enter(BW_LOAD_FILL);
	s = accept_one();
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(said(s, "SET"), i + 1);
		answer(s, "+OK\r\n");
	}
	assert_int_equal(said(s, "GET"), 0);
	fake_advance(f, MS(1));
	assert_int_equal(now()->filled_workers, 1);
	assert_int_equal(now()->requests, 0);
}

/** Fewer source addresses than workers: each takes those that there are. */
static void test_sources_of_a_small_range(void **state)
{
	struct bw_stream *s;
	unsigned seen = 0;

	(void)state;
	conf.connections = 8;
	conf.from = bw_ip_from_v4(0x0700000au);
	conf.from_count = 2;
	begin(4);
	while ((s = fake_connecting(f)) != NULL) {
		uint8_t last = bw_stream_flow(s)->local.b[15];

		assert_in_range(last, 7, 8);
		fake_refuse(s, BW_CLOSE_REFUSED);
		if (++seen == 30)
			break;
	}
	assert_true(seen >= 8);
}

/** A probe that finds no buffer is made in a later turn. */
static void test_idle_are_asked_when_there_is_room(void **state)
{
	struct bw_stream *s;

	(void)state;
	conf.connections = 0;
	conf.idle = 1;
	begin(1);
	s = accept_one();
	fake_starve(s, 1);
	enter(BW_LOAD_CHECK);
	assert_int_equal(said(s, "GET "), 1);
	answer(s, OK_ANSWER);
	assert_int_equal(now()->idle_answered, 1);
}

/** A connection for each request, and no buffer for the request: it goes out on another connection. */
static void starved_churn(double rate, const char *password)
{
	struct bw_stream *s;

	conf.protocol = BW_LOAD_RESP;
	conf.targets[0].password = password;
	conf.is_churn = true;
	conf.rate = rate;
	conf.count = 1;
	conf.connections = 4;
	begin(1);
	fake_starve_connects(f, 3);
	enter(BW_LOAD_RUN);
	fake_advance(f, BW_NS_PER_SEC);
	s = accept_one();
	assert_null(fake_connecting(f));
	assert_int_equal(said(s, "GET"), 1);
	assert_int_equal(said(s, "AUTH"), password != NULL);
	answer(s, password != NULL ? "+OK\r\n$-1\r\n" : "$-1\r\n");
	fake_advance(f, MS(100));
	assert_int_equal(now()->requests, 1);
	assert_int_equal(now()->responses, 1);
	assert_int_equal(now()->done_workers, 1);
	assert_int_equal(now()->under_way, 0);
	for (unsigned i = 0; i < BW_LOAD_ERRORS; i++)
		assert_int_equal(figures.error[i], 0);
}

static void test_churn_finds_no_buffer(void **state)
{
	(void)state;
	starved_churn(0, NULL);
}

static void test_churn_at_a_rate_finds_no_buffer(void **state)
{
	(void)state;
	starved_churn(10, NULL);
}

static void test_churn_finds_no_buffer_for_the_password(void **state)
{
	(void)state;
	starved_churn(10, "secret");
}

/** One connection, one error, whatever was to be sent on it. */
static void test_refused_with_a_password_is_one_error(void **state)
{
	(void)state;
	conf.protocol = BW_LOAD_RESP;
	conf.targets[0].password = "secret";
	conf.is_churn = true;
	conf.count = 1;
	begin(1);
	enter(BW_LOAD_RUN);
	fake_refuse(fake_connecting(f), BW_CLOSE_REFUSED);
	assert_int_equal(now()->error[BW_LOAD_REFUSED], 1);
	assert_int_equal(figures.under_way, 0);
}

static void test_refused_before_any_request_is_one_error(void **state)
{
	(void)state;
	conf.protocol = BW_LOAD_RESP;
	conf.targets[0].password = "secret";
	begin(1);
	fake_refuse(fake_connecting(f), BW_CLOSE_REFUSED);
	assert_int_equal(now()->error[BW_LOAD_REFUSED], 1);
	assert_int_equal(figures.under_way, 0);
}

/** The server ends idle connections, by FIN and by RST: they are counted, and opened anew. */
static void test_idle_that_are_closed_are_counted(void **state)
{
	struct bw_stream *s;

	(void)state;
	conf.connections = 0;
	conf.idle = 2;
	begin(1);
	s = accept_one();
	fake_peer_reset(accept_one());
	fake_peer_close(s);
	fake_advance(f, MS(100));
	assert_int_equal(now()->idle_closed, 2);
	accept_one();
	accept_one();
	assert_int_equal(now()->idle_closed, 2);
	assert_int_equal(figures.idle_open, 2);
	enter(BW_LOAD_END);
	assert_int_equal(now()->idle_closed, 2);
}

/** Of two workers one has lost all its connections: it will never have asked its share. */
static void test_worker_without_connections_is_stranded(void **state)
{
	struct bw_stream *first, *second, *s;

	(void)state;
	conf.connections = 2;
	conf.count = 4;
	conf.timeout_ns = BW_NS_PER_SEC;
	begin(2);
	first = accept_one();
	second = accept_one();
	enter(BW_LOAD_RUN);
	fake_peer_reset(second);
	answer(first, OK_ANSWER);
	answer(first, OK_ANSWER);
	for (unsigned i = 0; i < 30; i++) {
		fake_advance(f, MS(50));
		if ((s = fake_connecting(f)) != NULL)
			fake_refuse(s, BW_CLOSE_REFUSED);
	}
	assert_int_equal(now()->done_workers, 1);
	assert_int_equal(figures.stranded_workers, 1);
	fake_advance(f, MS(50));
	accept_one(); /* there it is again */
	fake_advance(f, MS(100));
	assert_int_equal(now()->stranded_workers, 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
#define STORY(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		STORY(test_count_does_not_know_the_warm_up),
		STORY(test_last_answer_without_a_close),
		STORY(test_early_answers),
		STORY(test_a_set_is_no_miss),
		STORY(test_fill),
		STORY(test_fill_with_a_connection_each),
		STORY(test_sources_of_a_small_range),
		STORY(test_idle_are_asked_when_there_is_room),
		STORY(test_churn_finds_no_buffer),
		STORY(test_churn_at_a_rate_finds_no_buffer),
		STORY(test_churn_finds_no_buffer_for_the_password),
		STORY(test_refused_with_a_password_is_one_error),
		STORY(test_refused_before_any_request_is_one_error),
		STORY(test_idle_that_are_closed_are_counted),
		STORY(test_worker_without_connections_is_stranded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
