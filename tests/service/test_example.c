/* SPDX-License-Identifier: BSD-3-Clause */
/* The tutorial's service, app/examples/shout.c, compiled with its main() renamed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake_stream.h"
#include "run.h"

#define GREETING "Say something.\n"

int shout_main(int argc, char **argv);

static const struct bw_service *shout;
static uint16_t shout_port;
static const char *shout_dev;

/* What main() would serve. */
int run(const struct bw_service *service, void *conf, uint16_t port, const char *dev)
{
	shout = service;
	shout_port = port;
	shout_dev = dev;
	return 0;
}

static int find_service(void **state)
{
	char *argv[] = { (char *)"shout", NULL };

	return shout_main(1, argv);
}

static struct bw_stream *greeted(struct fake *f)
{
	struct bw_stream *s = fake_open(f, 0);

	fake_run(f);
	assert_string_equal(fake_output(s, NULL), GREETING);
	fake_output_clear(s);
	return s;
}

static void test_main_serves_it(void **state)
{
	char *argv[] = { (char *)"shout", (char *)"packet:eth9", NULL };

	assert_int_equal(shout_main(1, argv), 0);
	assert_string_equal(shout_dev, "tap:shout0");
	assert_int_equal(shout_port, 7777);
	assert_int_equal(shout_main(2, argv), 0);
	assert_string_equal(shout_dev, "packet:eth9");
	assert_string_equal(shout->name, "shout");
}

static void test_a_line_comes_back_in_capitals(void **state)
{
	struct fake *f = fake_create(shout, NULL, 1);
	struct bw_stream *s = greeted(f);

	fake_feed(s, "Hello, world 1\n", 15);
	assert_string_equal(fake_output(s, NULL), "HELLO, WORLD 1\n");
	assert_int_equal(fake_unread(s), 0);
	assert_false(fake_is_closing(s));
	fake_destroy(f);
}

static void test_a_line_may_come_in_pieces(void **state)
{
	struct fake *f = fake_create(shout, NULL, 1);
	struct bw_stream *s = greeted(f);

	fake_feed_split(s, "one by one\nand th", 17, 1);
	assert_string_equal(fake_output(s, NULL), "ONE BY ONE\n");
	assert_int_equal(fake_unread(s), 6);
	fake_feed(s, "en\nthe rest\n", 12);
	assert_string_equal(fake_output(s, NULL), "ONE BY ONE\nAND THEN\nTHE REST\n");
	fake_destroy(f);
}

/* More than one reply's worth in one segment: all of it is answered without another arrival. */
static void test_many_lines_at_once(void **state)
{
	struct fake *f = fake_create(shout, NULL, 1);
	struct bw_stream *s = greeted(f);
	char in[5000], expected[sizeof(in) + 1];

	for (size_t i = 0; i < sizeof(in); i++) {
		in[i] = i % 100 == 99 ? '\n' : 'a';
		expected[i] = i % 100 == 99 ? '\n' : 'A';
	}
	expected[sizeof(in)] = '\0';
	fake_feed(s, in, sizeof(in));
	assert_string_equal(fake_output(s, NULL), expected);
	assert_int_equal(fake_unread(s), 0);
	fake_destroy(f);
}

static void test_a_client_that_does_not_read_waits(void **state)
{
	struct fake *f = fake_create(shout, NULL, 1);
	struct bw_stream *s = greeted(f);

	fake_set_space(s, 8);
	fake_set_auto_ack(s, false);
	fake_feed(s, "abcdef\n", 7);
	assert_int_equal(fake_queued(s), 7);
	fake_feed(s, "ghijkl\n", 7);
	assert_int_equal(fake_queued(s), 7);
	assert_int_equal(fake_unread(s), 7);
	fake_ack(s, 7);
	fake_run(f);
	fake_ack(s, 7);
	fake_run(f);
	assert_string_equal(fake_output(s, NULL), "ABCDEF\nGHIJKL\n");
	assert_int_equal(fake_unread(s), 0);
	fake_destroy(f);
}

static void test_the_last_lines_are_answered_before_the_close(void **state)
{
	struct fake *f = fake_create(shout, NULL, 1);
	struct bw_stream *s = greeted(f);

	fake_set_space(s, 8);
	fake_set_auto_ack(s, false);
	fake_feed(s, "abcdef\n", 7);
	fake_feed(s, "ghijkl\nno newline", 17);
	fake_peer_close(s);
	assert_false(fake_is_closing(s));
	fake_ack(s, 7);
	fake_run(f);
	fake_ack(s, 7);
	fake_run(f);
	assert_string_equal(fake_output(s, NULL), "ABCDEF\nGHIJKL\n");
	assert_true(fake_is_closed(s));
	assert_int_equal(fake_close_reason(s), BW_CLOSE_NORMAL);
	fake_destroy(f);
}

static void test_a_silent_client_may_just_leave(void **state)
{
	struct fake *f = fake_create(shout, NULL, 1);
	struct bw_stream *s = greeted(f);

	fake_peer_close(s);
	assert_true(fake_is_closed(s));
	assert_string_equal(fake_output(s, NULL), "");
	fake_destroy(f);
}

static void test_an_endless_line_ends_the_connection(void **state)
{
	struct fake *f = fake_create(shout, NULL, 1);
	struct bw_stream *s = greeted(f);
	char line[1024];

	memset(line, 'x', sizeof(line));
	fake_feed(s, line, sizeof(line) - 1);
	assert_false(fake_is_closing(s));
	fake_feed(s, "x", 1);
	assert_true(fake_is_closed(s));
	assert_string_equal(fake_output(s, NULL), "");

	/* The longest line there may be. */
	s = greeted(f);
	line[sizeof(line) - 1] = '\n';
	fake_feed(s, line, sizeof(line));
	assert_int_equal(fake_output_total(s), strlen(GREETING) + sizeof(line));
	assert_false(fake_is_closing(s));
	fake_destroy(f);
}

static void test_an_idle_client_is_let_go(void **state)
{
	struct fake *f = fake_create(shout, NULL, 1);
	struct bw_stream *s = greeted(f);

	fake_advance(f, 59 * BW_NS_PER_SEC);
	fake_feed(s, "still here\n", 11);
	fake_advance(f, 59 * BW_NS_PER_SEC);
	assert_false(fake_is_closing(s));
	fake_advance(f, 1 * BW_NS_PER_SEC);
	assert_true(fake_is_closed(s));
	fake_destroy(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_main_serves_it),
		cmocka_unit_test(test_a_line_comes_back_in_capitals),
		cmocka_unit_test(test_a_line_may_come_in_pieces),
		cmocka_unit_test(test_many_lines_at_once),
		cmocka_unit_test(test_a_client_that_does_not_read_waits),
		cmocka_unit_test(test_the_last_lines_are_answered_before_the_close),
		cmocka_unit_test(test_a_silent_client_may_just_leave),
		cmocka_unit_test(test_an_endless_line_ends_the_connection),
		cmocka_unit_test(test_an_idle_client_is_let_go),
	};

	return cmocka_run_group_tests(tests, find_service, NULL);
}
