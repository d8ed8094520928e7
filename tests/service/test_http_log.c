/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The access log: entries to lines, and the service's requests to a file. The writer is a real thread; what it has
 * written is complete once bw_http_conf_release() is back.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <base/log.h>
#include <service/http.h>

#include "fake_stream.h"
#include "http/log.h"

#define SEC(n) ((n)*BW_NS_PER_SEC)

static char folder[] = "/tmp/bw-http-log-XXXXXX";
static char path[64], big[3 << 20];

static const struct bw_http_constant constants[] = {
	{ .path = "/ok", .content_type = "text/plain", .body = "ok\n", .body_bytes = 3 },
	{ .path = "/big", .content_type = "text/plain", .body = big, .body_bytes = sizeof(big) },
};

static const struct bw_http_route routes[] = {
	{ .path = "/echo", .handler = &bw_http_echo },
	{ .path = "/health", .handler = &bw_http_health },
};

/* ---- one entry ----------------------------------------------------------------------------------------------- */

static const char *line_of(enum bw_http_log_format format, const char *head, size_t head_len, int64_t wall_ns)
{
	static char line[BW_HTTP__LOG_LINE_MAX + 1];
	struct bw_http_conf conf = { .access_log = "/dev/null", .access_log_bytes_max = 64 << 10 };
	struct bw_http__log_clock clock = { 0 };
	struct bw_http__log_source *source;
	struct bw_http__log_entry *entry;
	struct bw_http__log *log;
	struct bw_ip remote;
	size_t len;

	assert_int_equal(bw_http__log_open(&conf, &log), 0);
	assert_int_equal(bw_http__log_attach(log, &source), 0);
	assert_int_equal(bw_ip_parse("192.0.2.7", &remote), 0);
	entry = bw_http__log_begin(source, &remote, (const uint8_t *)head, (uint32_t)head_len, SEC(5));
	assert_non_null(entry);
	entry->status = 200;
	entry->body_bytes = 1234;
	entry->duration_ns = 1500042000;
	entry->wall_ns = wall_ns;
	len = bw_http__log_line(format, entry, &clock, line);
	line[len] = '\0';
	bw_http__log_end(source, entry, 200, SEC(5), 0);
	bw_http__log_close(log);
	return line;
}

#define LINE(format, head, wall) line_of(BW_HTTP_LOG_##format, head, sizeof(head) - 1, wall)
/* 2026-11-28 23:59:50.123 UTC */
#define WALL                     (1795910390123000000)

static void a_line_is_that_of_apache_and_nginx(void **state)
{
	assert_string_equal(LINE(COMBINED,
				    "GET /a?b=c HTTP/1.1\r\nHost: example.org\r\nREFERER:  http://x/ \t\r\n"
				    "X-Host: no\r\nUser-Agent: curl/8 (\"x\")\r\n\r\nHost: in the body\r\n",
				    WALL),
		"192.0.2.7 - - [28/Nov/2026:23:59:50 +0000] \"GET /a?b=c HTTP/1.1\" 200 1234 \"http://x/\" "
		"\"curl/8 (\\x22x\\x22)\"\n");
	assert_string_equal(LINE(COMBINED, "", 0),
		"192.0.2.7 - - [01/Jan/1970:00:00:00 +0000] \"-\" 200 1234 \"-\" \"-\"\n");
	/* Nobody writes a line of his own, or speaks to the terminal. */
	assert_string_equal(
		LINE(COMBINED, "GET /\\\x1b[2J\x7f\xc3\xa9\" HTTP/1.1\r\nUser-Agent:a\rb\0c\n\r\n", 0),
		"192.0.2.7 - - [01/Jan/1970:00:00:00 +0000] \"GET /\\x5C\\x1B[2J\\x7F\\xC3\\xA9\\x22 HTTP/1.1\" "
		"200 1234 \"-\" \"a\\x0Db\\x00c\"\n");
}

static void a_line_is_a_json_object(void **state)
{
	assert_string_equal(
		LINE(JSON, "GET /a HTTP/1.1\r\nHost: example.org\r\nReferer: r\r\nUser-Agent: u\r\n\r\n",
			WALL),
		"{\"time\":\"2026-11-28T23:59:50.123Z\",\"remote\":\"192.0.2.7\",\"method\":\"GET\",\"target\":\"/a\","
		"\"protocol\":\"HTTP/1.1\",\"host\":\"example.org\",\"status\":200,\"bytes\":1234,\"duration\":1.500042,"
		"\"referer\":\"r\",\"agent\":\"u\"}\n");
	assert_non_null(strstr(LINE(JSON, "", 0),
		",\"method\":null,\"target\":null,\"protocol\":null,\"host\":null,\"status\":200,"));
	assert_non_null(
		strstr(LINE(JSON, "\x16\x03\x01\r\n\r\n", 0), ",\"request\":\"\\u0016\\u0003\\u0001\","));
	assert_non_null(strstr(
		LINE(JSON, "GET /a b", 0), ",\"method\":\"GET\",\"target\":\"/a b\",\"protocol\":null,"));
	/* UTF-8 stays; bytes that are none do not make the line one that is none. */
	assert_non_null(strstr(
		LINE(JSON, "G / HTTP/1.1\r\nUser-Agent: \"\\\x01\x7f\xc3\xa9\xf0\x9f\x98\x80\r\n\r\n", 0),
		",\"agent\":\"\\\"\\\\\\u0001\\u007f\xc3\xa9\xf0\x9f\x98\x80\""));
	assert_non_null(strstr(
		LINE(JSON,
			"G / HTTP/1.1\r\nUser-Agent: \xc0\x80|\xed\xa0\x80|\xf4\x90\x80\x80|\xe2\x82\r\n\r\n",
			0),
		",\"agent\":\"\\u00c0\\u0080|\\u00ed\\u00a0\\u0080|\\u00f4\\u0090\\u0080\\u0080|\\u00e2\\u0082\""));
}

static void long_fields_are_cut_and_say_so(void **state)
{
	static char head[20000];
	const char *line;
	size_t len = 0;

	len += (size_t)sprintf(head, "GET /%0*d HTTP/1.1\r\nHost: h\r\nUser-Agent: ", 3000, 0);
	memset(head + len, 1, 3000);
	len += 3000;
	len += (size_t)sprintf(head + len, "\r\nReferer: ");
	memset(head + len, 0xff, 3000);
	len += 3000;
	line = line_of(BW_HTTP_LOG_COMBINED, head, len, 0);
	assert_non_null(strstr(line, "000...\" 200 1234 \"\\xFF"));
	assert_non_null(strstr(line, "\\xFF...\" \"\\x01"));
	assert_non_null(strstr(line, "\\x01...\"\n"));
	line = line_of(BW_HTTP_LOG_JSON, head, len, 0);
	assert_non_null(strstr(line, ",\"truncated\":true}\n"));
	assert_non_null(strstr(line, ",\"protocol\":null,\"host\":\"h\""));
}

/* ---- the service's ------------------------------------------------------------------------------------------- */

static struct bw_http_conf conf;
static struct fake *f;

static void start(const char *log, unsigned workers)
{
	bw_http_conf_init(&conf);
	conf.site.constants = constants;
	conf.site.constant_count = BW_ARRAY_LEN(constants);
	conf.site.routes = routes;
	conf.site.route_count = BW_ARRAY_LEN(routes);
	conf.access_log = log;
	assert_int_equal(bw_http_conf_prepare(&conf), 0);
	f = fake_create(&bw_http_service, &conf, workers);
}

static void end(void)
{
	fake_destroy(f);
	bw_http_conf_release(&conf);
}

static char *slurp(const char *name)
{
	static char text[1 << 20];
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	ssize_t len;

	assert_true(fd >= 0);
	len = read(fd, text, sizeof(text) - 1);
	assert_true(len >= 0);
	close(fd);
	text[len] = '\0';
	return text;
}

/* The lines are these, but for their beginning, which names the same peer at about the same time. */
static void logged(const char *expected)
{
	char *text = slurp(path), *line;
	static char rest[1 << 20];

	rest[0] = '\0';
	for (line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
		const char *from = strstr(line, " +0000] ");

		assert_non_null(from);
		strcat(rest, from + 8);
		strcat(rest, "\n");
	}
	assert_string_equal(rest, expected);
	assert_int_equal(unlink(path), 0);
}

static unsigned figure(unsigned worker, const char *name)
{
	char pattern[64];
	const char *at;

	snprintf(pattern, sizeof(pattern), "\n%s ", name);
	at = strstr(fake_stats(f, worker), pattern);
	assert_non_null(at);
	return (unsigned)strtoul(at + strlen(pattern), NULL, 10);
}

static struct bw_stream *say(const char *text)
{
	struct bw_stream *s = fake_open(f, 0);

	fake_feed(s, text, strlen(text));
	fake_run(f);
	return s;
}

static void every_request_is_a_line(void **state)
{
	struct bw_stream *s;

	start(path, 1);
	s = say("GET /ok HTTP/1.1\r\nHost: h\r\nUser-Agent: u\r\nReferer: r\r\n\r\n"
		"HEAD /ok HTTP/1.1\r\nHost: h\r\n\r\n"
		"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"
		"GET /none HTTP/1.1\r\nHost: h\r\n\r\n"
		"POST /ok HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
		"NONE /ok HTTP/1.1\r\nHost: h\r\n\r\n");
	/* In pieces, a byte a packet. */
	fake_feed_split(s, "GET /ok HTTP/1.1\r\nHost: h\r\nUser-Agent: pieces\r\n\r\n", 49, 1);
	/* Nobody asks on these. */
	fake_open(f, 0);
	fake_peer_close(fake_open(f, 0));
	assert_int_equal(figure(0, "requests"), 7);
	assert_int_equal(figure(0, "log_entries"), 7);
	assert_int_equal(figure(0, "log_dropped"), 0);
	end();
	logged("\"GET /ok HTTP/1.1\" 200 3 \"r\" \"u\"\n"
	       "\"HEAD /ok HTTP/1.1\" 200 0 \"-\" \"-\"\n"
	       "\"OPTIONS * HTTP/1.1\" 204 0 \"-\" \"-\"\n"
	       "\"GET /none HTTP/1.1\" 404 14 \"-\" \"-\"\n"
	       "\"POST /ok HTTP/1.1\" 405 23 \"-\" \"-\"\n"
	       "\"NONE /ok HTTP/1.1\" 501 20 \"-\" \"-\"\n"
	       "\"GET /ok HTTP/1.1\" 200 3 \"-\" \"pieces\"\n");
}

static void what_is_refused_is_a_line(void **state)
{
	char line[6000];

	start(path, 1);
	say("\x16\x03\x01\x02\r\n\r\n");
	say("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
	say("GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n");
	snprintf(line, sizeof(line), "GET /%05000d HTTP/1.1\r\nHost: h\r\n\r\n", 0);
	say(line);
	say("GET /late HTTP/1.1\r\nHost: h\r\nUser-A");
	fake_advance(f, SEC(11));
	say("POST /slow HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\na");
	fake_advance(f, SEC(11));
	end();
	{
		char *text = slurp(path), *at = strstr(text, "\" 414 ");

		assert_non_null(at);
		assert_memory_equal(at - 3, "...", 3);
		assert_non_null(strstr(text, "] \"\\x16\\x03\\x01\\x02\" 400 16 \"-\" \"-\"\n"));
		assert_non_null(strstr(text, "] \"GET / HTTP/1.1\" 400 16 \"-\" \"-\"\n"));
		assert_non_null(strstr(text, "] \"GET /late HTTP/1.1\" 408 20 \"-\" \"-\"\n"));
		assert_non_null(strstr(text, "] \"POST /slow HTTP/1.1\" 408 20 \"-\" \"-\"\n"));
		for (at = text; (at = strchr(at, '\n')) != NULL; at++)
			line[0]++;
		assert_int_equal(line[0], 'G' + 6);
	}
	assert_int_equal(unlink(path), 0);
}

/* The bytes that were queued, when the client goes; and 499 when none were. */
static void a_client_that_goes_away_is_a_line(void **state)
{
	struct bw_stream *s;

	start(path, 1);
	s = fake_open(f, 0);
	fake_set_auto_ack(s, false);
	fake_feed(s, "GET /big HTTP/1.1\r\nHost: h\r\n\r\nGET /ok HTTP/1.1\r\nHost: h\r\n\r\n", 58);
	assert_int_equal(figure(0, "log_entries"), 0); /* the second is not read while there is no room */
	fake_peer_reset(s);
	s = say("POST /ok HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\na");
	fake_peer_reset(s);
	assert_int_equal(figure(0, "log_entries"), 2);
	assert_int_equal(figure(0, "requests"), 2);
	end();
	{
		unsigned bytes = 0;
		char *text = slurp(path), *at = strstr(text, "\"GET /big HTTP/1.1\" 200 ");

		assert_non_null(at);
		assert_int_equal(sscanf(at + 24, "%u", &bytes), 1);
		assert_in_range(bytes, 200000, 256 * 1024);
		assert_non_null(strstr(text, "\"POST /ok HTTP/1.1\" 499 0 "));
	}
	assert_int_equal(unlink(path), 0);
}

static void what_handlers_answer_is_a_line(void **state)
{
	struct bw_stream *s;

	start(path, 1);
	say("GET /health HTTP/1.1\r\nHost: h\r\n\r\n"
	    "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
	    "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"
	    "GET /health HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n");
	/* The last one's body is to come, and its answer is not: yet it is answered. */
	assert_int_equal(figure(0, "log_entries"), 4);
	/* In the middle of what is streamed; and before there is anything. */
	s = say("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n1234567");
	fake_peer_reset(s);
	s = say("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n");
	fake_peer_reset(s);
	/* Too late, before and after the head is out. */
	say("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n");
	say("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n12");
	fake_advance(f, SEC(12));
	assert_int_equal(figure(0, "log_entries"), 8);
	assert_int_equal(figure(0, "requests"), 8);
	end();
	logged("\"GET /health HTTP/1.1\" 200 3 \"-\" \"-\"\n"
	       "\"POST /echo HTTP/1.1\" 200 5 \"-\" \"-\"\n"
	       "\"POST /echo HTTP/1.1\" 200 7 \"-\" \"-\"\n"
	       "\"GET /health HTTP/1.1\" 200 3 \"-\" \"-\"\n"
	       "\"POST /echo HTTP/1.1\" 200 7 \"-\" \"-\"\n"
	       "\"POST /echo HTTP/1.1\" 499 0 \"-\" \"-\"\n"
	       "\"POST /echo HTTP/1.1\" 408 20 \"-\" \"-\"\n"
	       "\"POST /echo HTTP/1.1\" 200 2 \"-\" \"-\"\n");
}

static void what_is_under_way_holds_an_entry(void **state)
{
	struct bw_stream *s[70];

	bw_http_conf_init(&conf);
	conf.site.constants = constants;
	conf.site.constant_count = BW_ARRAY_LEN(constants);
	conf.access_log = path;
	conf.access_log_bytes_max = 64 << 10;
	assert_int_equal(bw_http_conf_prepare(&conf), 0);
	f = fake_create(&bw_http_service, &conf, 1);
	for (unsigned i = 0; i < BW_ARRAY_LEN(s); i++)
		s[i] = say("POST /ok HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n");
	assert_int_equal(figure(0, "log_entries"), 0);
	assert_int_equal(figure(0, "log_dropped"), 6);
	for (unsigned i = 0; i < BW_ARRAY_LEN(s); i++)
		fake_feed(s[i], "x", 1);
	assert_int_equal(figure(0, "log_entries"), 64);
	/* They come back. */
	for (unsigned i = 0; i < 100 && figure(0, "log_entries") < 66; i++) {
		usleep(20000);
		say("GET /ok HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
	}
	assert_true(figure(0, "log_entries") >= 66);
	end();
	assert_int_equal(unlink(path), 0);
}

static void wait_for(const char *name)
{
	for (unsigned i = 0; i < 100 && access(name, F_OK) != 0; i++)
		usleep(50000);
	assert_int_equal(access(name, F_OK), 0);
}

static void a_file_that_was_moved_is_begun_anew(void **state)
{
	char old[96];

	snprintf(old, sizeof(old), "%s.1", path);
	start(path, 2);
	say("GET /old HTTP/1.1\r\nHost: h\r\n\r\n");
	for (unsigned i = 0; i < 100 && strstr(slurp(path), "/old") == NULL; i++)
		usleep(50000);
	assert_int_equal(rename(path, old), 0);
	wait_for(path);
	say("GET /new HTTP/1.1\r\nHost: h\r\n\r\n");
	end();
	assert_non_null(strstr(slurp(old), "\"GET /old HTTP/1.1\" 404"));
	assert_null(strstr(slurp(old), "/new"));
	logged("\"GET /new HTTP/1.1\" 404 14 \"-\" \"-\"\n");
	assert_int_equal(unlink(old), 0);
}

static void a_full_disk_drops_and_does_not_wait(void **state)
{
	bw_log_set_level(BW_LOG_ERROR);
	start("/dev/full", 1);
	say("GET /ok HTTP/1.1\r\nHost: h\r\n\r\n");
	for (unsigned i = 0; i < 100 && figure(0, "log_write_errors") == 0; i++)
		usleep(20000);
	assert_true(figure(0, "log_write_errors") > 0);
	for (unsigned i = 0; i < 20000; i++) {
		struct bw_stream *s = say("GET /ok HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");

		assert_true(fake_is_closed(s) || fake_is_closing(s));
		if (i % 1000 == 0)
			fake_run(f);
		if (figure(0, "log_dropped") > 10)
			break;
	}
	assert_int_equal(figure(0, "log_entries") + figure(0, "log_dropped"), figure(0, "requests"));
	assert_true(figure(0, "log_dropped") > 10);
	assert_in_range(figure(0, "log_write_errors"), 1, 60); /* one a second */
	end();
}

static void a_pipe_that_nobody_reads_holds_up_nothing(void **state)
{
	char text[256];
	int fd;

	assert_int_equal(mkfifo(path, 0600), 0);
	start(path, 1);
	for (unsigned i = 0; i < 3000; i++)
		say("GET /ok HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
	assert_int_equal(figure(0, "log_dropped"), 0);
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	assert_true(fd >= 0);
	for (unsigned i = 0; i < 100 && read(fd, text, sizeof(text)) <= 0; i++)
		usleep(20000);
	assert_memory_equal(text, "192.0.2.", 8);
	assert_int_equal(figure(0, "log_write_errors"), 0);
	/* Two seconds, and it ends all the same. */
	end();
	close(fd);
	assert_int_equal(unlink(path), 0);
}

static void what_cannot_be_opened_is_said(void **state)
{
	static const char *const bad[] = { "/nonexistent/log", "/", "/proc/nonexistent" };

	bw_log_set_level((enum bw_log_level) - 1);
	for (unsigned i = 0; i < BW_ARRAY_LEN(bad); i++) {
		bw_http_conf_init(&conf);
		conf.access_log = bad[i];
		assert_true(bw_http_conf_prepare(&conf) < 0);
		bw_http_conf_release(&conf);
	}
	bw_http_conf_init(&conf);
	conf.access_log = path;
	conf.access_log_bytes_max = 1024;
	assert_int_equal(bw_http_conf_prepare(&conf), -EINVAL);
	bw_log_set_level(BW_LOG_ERROR);
}

static int make_folder(void **state)
{
	if (mkdtemp(folder) == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/access.log", folder);
	return 0;
}

static int remove_folder(void **state)
{
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_line_is_that_of_apache_and_nginx),
		cmocka_unit_test(a_line_is_a_json_object),
		cmocka_unit_test(long_fields_are_cut_and_say_so),
		cmocka_unit_test(every_request_is_a_line),
		cmocka_unit_test(what_is_refused_is_a_line),
		cmocka_unit_test(a_client_that_goes_away_is_a_line),
		cmocka_unit_test(what_handlers_answer_is_a_line),
		cmocka_unit_test(what_is_under_way_holds_an_entry),
		cmocka_unit_test(a_file_that_was_moved_is_begun_anew),
		cmocka_unit_test(a_full_disk_drops_and_does_not_wait),
		cmocka_unit_test(a_pipe_that_nobody_reads_holds_up_nothing),
		cmocka_unit_test(what_cannot_be_opened_is_said),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
