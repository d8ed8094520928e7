/* SPDX-License-Identifier: BSD-3-Clause */
/* The handlers of docs/http.md, app/examples/words.c, compiled with its main() renamed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake_stream.h"
#include "run.h"

#define GET(target) "GET " target " HTTP/1.1\r\nHost: h\r\n\r\n"

int words_main(int argc, char **argv);

static void (*test)(const struct bw_service *service, void *conf);
static bool is_run;

/* While main() serves. */
int run(const struct bw_service *service, void *conf, uint16_t port, const char *dev)
{
	assert_int_equal(port, 8080);
	assert_string_equal(dev, "tap:words0");
	is_run = true;
	test(service, conf);
	return 0;
}

static void within(void (*story)(const struct bw_service *service, void *conf))
{
	char *argv[] = { (char *)"words", NULL };

	test = story;
	is_run = false;
	assert_int_equal(words_main(1, argv), 0);
	assert_true(is_run);
}

static void feed(struct bw_stream *s, const char *text)
{
	fake_feed(s, text, strlen(text));
}

/* The status of what came, and its body, as it is framed. */
static const char *answer(struct bw_stream *s, unsigned *status)
{
	const char *out = fake_output(s, NULL), *body = strstr(out, "\r\n\r\n");

	assert_non_null(body);
	assert_int_equal(sscanf(out, "HTTP/1.1 %u ", status), 1);
	return body + 4;
}

static void count_words(const struct bw_service *service, void *conf)
{
	static const char text[] = "POST /words HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
				   "7\r\n one tw\r\n8\r\no\nthree \r\n5\r\nfo\tur\r\n0\r\n\r\n";
	struct fake *f = fake_create(service, conf, 1);
	unsigned status;

	for (size_t step = 1; step < sizeof(text); step++) {
		struct bw_stream *s = fake_open(f, 0);

		fake_feed_split(s, text, sizeof(text) - 1, step);
		assert_string_equal(answer(s, &status), "5\n");
		assert_int_equal(status, 200);
		fake_output_clear(s);
		feed(s, "POST /words HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
		assert_string_equal(answer(s, &status), "0\n");
		fake_output_clear(s);
		feed(s, GET("/words"));
		answer(s, &status);
		assert_int_equal(status, 405);
		fake_peer_close(s);
	}
	fake_destroy(f);
}

static void test_words(void **state)
{
	within(count_words);
}

static void count_up(const struct bw_service *service, void *conf)
{
	struct fake *f = fake_create(service, conf, 1);
	struct bw_stream *s = fake_open(f, 0);
	const char *at;
	char line[16];
	unsigned status;

	/* A client that takes a little at a time; HTTP/1.0 leaves the body without chunks. */
	fake_set_space(s, 1100);
	feed(s, "GET /count?to=10000 HTTP/1.0\r\n\r\n");
	fake_run(f);
	at = answer(s, &status);
	assert_int_equal(status, 200);
	for (unsigned i = 1; i <= 10000; i++) {
		int len = snprintf(line, sizeof(line), "%u\n", i);

		assert_memory_equal(at, line, len);
		at += len;
	}
	assert_string_equal(at, "");
	assert_true(fake_is_closing(s));

	s = fake_open(f, 0);
	feed(s, GET("/count?to=2"));
	assert_string_equal(answer(s, &status), "2\r\n1\n\r\n2\r\n2\n\r\n0\r\n\r\n");
	fake_output_clear(s);
	feed(s, GET("/count"));
	answer(s, &status);
	assert_int_equal(status, 400);
	fake_output_clear(s);

	/* Of two at once, the second begins when the first has ended. */
	feed(s, GET("/count?to=1") GET("/count?to=3"));
	at = strstr(answer(s, &status), "HTTP/1.1 200 OK\r\n");
	assert_non_null(at);
	assert_non_null(strstr(at, "\r\n\r\n2\r\n1\n\r\n2\r\n2\n\r\n2\r\n3\n\r\n0\r\n\r\n"));
	fake_destroy(f);
}

static void test_count(void **state)
{
	within(count_up);
}

static void read_uptime(const struct bw_service *service, void *conf)
{
	struct fake *f = fake_create(service, conf, 1);
	struct bw_stream *s = fake_open(f, 0);
	double up, idle;
	unsigned status;

	fake_hold_jobs(f, true);
	feed(s, GET("/uptime"));
	assert_string_equal(fake_output(s, NULL), "");
	fake_run_jobs(f, 1);
	fake_run(f);
	assert_int_equal(sscanf(answer(s, &status), "%lf %lf", &up, &idle), 2);
	assert_int_equal(status, 200);
	fake_output_clear(s);

	/* Helpers that have too much to do. */
	fake_set_jobs_max(f, 0);
	feed(s, GET("/uptime"));
	answer(s, &status);
	assert_int_equal(status, 503);
	fake_set_jobs_max(f, 1);

	/* A client that leaves meanwhile. */
	feed(s, GET("/uptime"));
	fake_peer_reset(s);
	fake_run_jobs(f, 1);
	fake_destroy(f);
}

static void test_uptime(void **state)
{
	within(read_uptime);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_count),
		cmocka_unit_test(test_uptime),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
