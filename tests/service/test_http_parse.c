/* SPDX-License-Identifier: BSD-3-Clause */
/* The pure parts of the HTTP service: end of head, request heads, paths, chunked bodies, dates, media types. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "http/date.h"
#include "http/memo.h"
#include "http/mime.h"
#include "http/parse.h"

static const struct bw_http__limits limits = {
	.request_line_bytes_max = 200,
	.header_count_max = 10,
	.now_s = 1700000000,
};

/* In an allocation of its own size, so that a byte too far is seen. */
static uint8_t *exact(const void *bytes, size_t len)
{
	uint8_t *copy = malloc(len > 0 ? len : 1);

	assert_non_null(copy);
	memcpy(copy, bytes, len);
	return copy;
}

static unsigned parse_bytes(const void *head, size_t len, struct bw_http__request *request)
{
	uint8_t *copy = exact(head, len);
	unsigned status = bw_http__parse(copy, (uint32_t)len, &limits, request);

	if (status == 0 && request->path >= copy && request->path < copy + len)
		request->path = (const uint8_t *)head + (request->path - copy);
	free(copy);
	return status;
}

static unsigned parse(const char *head)
{
	struct bw_http__request request;

	return parse_bytes(head, strlen(head), &request);
}

#define HOST "Host: h\r\n"
#define END  "\r\n"

static void head_end_is_found_at_any_split(void **state)
{
	static const char head[] = "GET /a HTTP/1.1\r\nHost: example.org\r\nX: 0123456789abcdef\r\n\r\nNEXT";
	uint32_t head_len = sizeof(head) - 1 - 4;

	for (uint32_t a = 0; a <= head_len; a++) {
		for (uint32_t b = a; b <= head_len; b++) {
			struct bw_http__scan scan = { .seen = 0 };
			uint32_t cuts[4] = { 0, a, b, sizeof(head) - 1 }, used = 0;
			enum bw_http__scan_result result = BW_HTTP__SCAN_MORE;
			unsigned i;

			for (i = 0; i < 3 && result == BW_HTTP__SCAN_MORE; i++) {
				uint8_t *chunk = exact(head + cuts[i], cuts[i + 1] - cuts[i]);

				result = bw_http__scan(&scan, chunk, cuts[i + 1] - cuts[i], &used);
				free(chunk);
			}
			assert_int_equal(result, BW_HTTP__SCAN_END);
			assert_int_equal(cuts[i - 1] + used, head_len);
			assert_int_equal(scan.seen, head_len);
		}
	}
}

static void bare_line_feeds_are_found_at_any_split(void **state)
{
	static const char head[] = "GET / HTTP/1.1\r\nHost: example.org\nX: y\r\n\r\n";

	for (uint32_t cut = 0; cut < sizeof(head) - 1; cut++) {
		struct bw_http__scan scan = { .seen = 0 };
		uint32_t used;
		enum bw_http__scan_result result = bw_http__scan(&scan, (const uint8_t *)head, cut, &used);

		if (result == BW_HTTP__SCAN_MORE)
			result = bw_http__scan(&scan, (const uint8_t *)head + cut,
				(uint32_t)(sizeof(head) - 1 - cut), &used);
		assert_int_equal(result, BW_HTTP__SCAN_BARE_LF);
	}
}

static void request_lines(void **state)
{
	static const struct {
		const char *line;
		unsigned status;
	} cases[] = {
		{ "GET / HTTP/1.1", 0 },
		{ "GET /a?b#c HTTP/1.1", 400 },
		{ "GET / HTTP/1.2", 0 },
		{ "GET / HTTP/2.0", 505 },
		{ "GET / HTTP/0.9", 505 },
		{ "GET / HTTP/1.10", 400 },
		{ "GET / HTTP/1", 400 },
		{ "GET / http/1.1", 400 },
		{ "GET /", 400 },
		{ "GET  / HTTP/1.1", 400 },
		{ "GET /  HTTP/1.1", 400 },
		{ "GET / HTTP/1.1 ", 400 },
		{ " GET / HTTP/1.1", 400 },
		{ "GET\t/ HTTP/1.1", 400 },
		{ "G(T / HTTP/1.1", 400 },
		{ "get / HTTP/1.1", 0 },
		{ "GET a HTTP/1.1", 400 },
		{ "GET * HTTP/1.1", 400 },
		{ "OPTIONS * HTTP/1.1", 0 },
		{ "GET h:80 HTTP/1.1", 400 },
		{ "CONNECT h:80 HTTP/1.1", 0 },
		{ "GET http://h/x HTTP/1.1", 0 },
		{ "GET HTTP://H HTTP/1.1", 0 },
		{ "GET http:///x HTTP/1.1", 400 },
		{ "GET http://u@h/x HTTP/1.1", 400 },
		{ "GET http://other/x HTTP/1.1", 400 },
		{ "GET https://h/x HTTP/1.1", 400 },
		{ "GET /\x80 HTTP/1.1", 400 },
		{ "GET /\x7f HTTP/1.1", 400 },
	};

	for (unsigned i = 0; i < BW_ARRAY_LEN(cases); i++) {
		char head[256];

		snprintf(head, sizeof(head), "%s\r\n" HOST END, cases[i].line);
		if (parse(head) != cases[i].status)
			fail_msg("%s: %u, not %u", cases[i].line, parse(head), cases[i].status);
	}
	assert_int_equal(parse("\r\n\r\n"), 400);
}

static void methods_and_targets(void **state)
{
	struct bw_http__request r;
	static const char absolute[] = "GET http://h:8080/p/q?x=/../ HTTP/1.1\r\nHost: H:8080\r\n\r\n";
	static const char plain[] = "HEAD /a/b.c?d=%00//. HTTP/1.0\r\n\r\n";

	assert_int_equal(parse_bytes(absolute, sizeof(absolute) - 1, &r), 0);
	assert_int_equal(r.method, BW_HTTP_GET);
	assert_int_equal(r.path_len, 4);
	assert_memory_equal(r.path, "/p/q", 4);
	assert_true(r.path_is_plain);
	assert_int_equal(parse_bytes(plain, sizeof(plain) - 1, &r), 0);
	assert_int_equal(r.method, BW_HTTP_HEAD);
	assert_int_equal(r.path_len, 6);
	assert_true(r.path_is_plain);
	assert_true(r.is_1_0);
	assert_false(r.keeps_alive);
	for (const char *const *path = (const char *const[]){ "/%41", "//a", "/./a", "/a/../b", "/.a", NULL };
		*path; path++) {
		char head[64];

		snprintf(head, sizeof(head), "GET %s HTTP/1.1\r\n" HOST END, *path);
		assert_int_equal(parse_bytes(head, strlen(head), &r), 0);
		assert_false(r.path_is_plain);
	}
	assert_int_equal(parse_bytes("PUT / HTTP/1.1\r\n" HOST END, 27, &r), 0);
	assert_int_equal(r.method, BW_HTTP_PUT);
	assert_int_equal(parse_bytes("BREW / HTTP/1.1\r\n" HOST END, 28, &r), 0);
	assert_int_equal(r.method, BW_HTTP_UNKNOWN);
}

static void fields_are_strict(void **state)
{
	static const struct {
		const char *fields;
		unsigned status;
	} cases[] = {
		{ HOST, 0 },
		{ "", 400 },
		{ HOST HOST, 400 },
		{ "Host: a b\r\n", 400 },
		{ "Host: a,b\r\n", 0 }, /* a sub-delimiter of RFC 3986's reg-name */
		{ "Host: a/b\r\n", 400 },
		{ "Host: u@a\r\n", 400 },
		{ "Host:\r\n", 0 },
		{ "Host: [::1]:80\r\n", 0 },
		{ "Host: [::1\r\n", 400 },
		{ "Host: []\r\n", 400 },
		{ "Host: [::1]x\r\n", 400 },
		{ "Host: a:8x\r\n", 400 },
		{ "Host: a%4\r\n", 400 },
		{ "Host : h\r\n", 400 },
		{ HOST "A\r\n", 400 },
		{ HOST ": b\r\n", 400 },
		{ HOST "A: b\r\n c\r\n", 400 },
		{ HOST "A: b\r\n\tc\r\n", 400 },
		{ HOST "A: b\rc\r\n", 400 },
		{ HOST "A: b\x01\r\n", 400 },
		{ HOST "A: 0123456789abcdef0123\x7f\r\n", 400 },
		{ HOST "A: \x80\xff\t ok\r\n", 0 },
		{ HOST "A\x80: b\r\n", 400 },
		{ HOST "1:\r\n2:\r\n3:\r\n4:\r\n5:\r\n6:\r\n7:\r\n8:\r\n9:\r\n", 0 },
		{ HOST "1:\r\n2:\r\n3:\r\n4:\r\n5:\r\n6:\r\n7:\r\n8:\r\n9:\r\na:\r\n", 431 },
		/* framing */
		{ HOST "Content-Length: 5\r\n", 0 },
		{ HOST "Content-Length: 0005\r\n", 0 },
		{ HOST "Content-Length:\r\n", 400 },
		{ HOST "Content-Length: +5\r\n", 400 },
		{ HOST "Content-Length: -5\r\n", 400 },
		{ HOST "Content-Length: 0x5\r\n", 400 },
		{ HOST "Content-Length: 5_0\r\n", 400 },
		{ HOST "Content-Length: 5 0\r\n", 400 },
		{ HOST "Content-Length: 5, 5\r\n", 400 },
		{ HOST "Content-Length: 5\r\nContent-Length: 5\r\n", 400 },
		{ HOST "Content-Length: 5\r\nContent-Length: 6\r\n", 400 },
		{ HOST "Transfer-Encoding: chunked\r\n", 0 },
		{ HOST "Transfer-Encoding: CHUNKED\r\n", 0 },
		{ HOST "Transfer-Encoding: , chunked\r\n", 400 },
		{ HOST "Transfer-Encoding: chunked,\r\n", 400 },
		{ HOST "Transfer-Encoding: ,\r\n", 400 },
		{ HOST "Transfer-Encoding: gzip\r\n", 400 },
		{ HOST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", 400 },
		{ HOST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400 },
		{ HOST "Content-Length: 5\r\nTransfer-Encoding: gzip\r\n", 400 },
		{ HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400 },
		{ HOST "Transfer-Encoding: chunked, chunked\r\n", 400 },
		{ HOST "Transfer-Encoding: chunked, gzip\r\n", 400 },
		{ HOST "Transfer-Encoding: gzip, chunked\r\n", 501 },
		{ HOST "Transfer-Encoding: xchunked\r\n", 400 },
		{ HOST "Transfer-Encoding: chunked;q=1\r\n", 400 },
		{ HOST "Transfer-Encoding:\r\n", 400 },
		{ HOST "Transfer-Encoding: \x0b"
		       "chunked\r\n",
			400 },
		{ HOST "Transfer-Encoding : chunked\r\n", 400 },
	};

	for (unsigned i = 0; i < BW_ARRAY_LEN(cases); i++) {
		char head[512];

		snprintf(head, sizeof(head), "GET / HTTP/1.1\r\n%s\r\n", cases[i].fields);
		if (parse(head) != cases[i].status)
			fail_msg("%s: %u, not %u", cases[i].fields, parse(head), cases[i].status);
	}
	assert_int_equal(parse("GET / HTTP/1.0\r\n\r\n"), 0);
	assert_int_equal(parse("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
	{
		static const char nul[] = "GET / HTTP/1.1\r\nHost: h\r\nA: \0\r\n\r\n";
		struct bw_http__request r;

		assert_int_equal(parse_bytes(nul, sizeof(nul) - 1, &r), 400);
	}
}

static void lengths_saturate(void **state)
{
	static const char head[] =
		"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999999\r\n\r\n";
	struct bw_http__request r;

	assert_int_equal(parse_bytes(head, sizeof(head) - 1, &r), 0);
	assert_true(r.body_bytes == UINT64_MAX);
}

static void connection_rules(void **state)
{
	static const struct {
		const char *head;
		bool keeps_alive, says_so;
	} cases[] = {
		{ "GET / HTTP/1.1\r\nHost: h\r\n\r\n", true, false },
		{ "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", false, false },
		{ "GET / HTTP/1.1\r\nHost: h\r\nConnection: x, CLOSE ,y\r\n\r\n", false, false },
		{ "GET / HTTP/1.1\r\nHost: h\r\nConnection: x\r\nConnection: close\r\n\r\n", false, false },
		{ "GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\n\r\n", true, false },
		{ "GET / HTTP/1.1\r\nHost: h\r\nConnection: closed\r\n\r\n", true, false },
		{ "GET / HTTP/1.0\r\n\r\n", false, false },
		{ "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true, true },
		{ "GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", false, true },
	};

	for (unsigned i = 0; i < BW_ARRAY_LEN(cases); i++) {
		struct bw_http__request r;

		assert_int_equal(parse_bytes(cases[i].head, strlen(cases[i].head), &r), 0);
		assert_int_equal(r.keeps_alive, cases[i].keeps_alive);
		assert_int_equal(r.has_keep_alive, cases[i].says_so);
	}
}

static void expectations(void **state)
{
	static const struct {
		const char *value;
		bool is_continue, is_unknown;
	} cases[] = {
		{ "100-continue", true, false },
		{ "100-Continue", true, false },
		{ "", false, false },
		{ " , 100-continue,", true, false },
		{ "100-continue, x", true, true },
		{ "100-continue;x=y", false, true },
		{ "x", false, true },
	};

	for (unsigned i = 0; i < BW_ARRAY_LEN(cases); i++) {
		struct bw_http__request r;
		char head[128];

		snprintf(head, sizeof(head), "GET / HTTP/1.1\r\n" HOST "Expect: %s\r\n\r\n", cases[i].value);
		assert_int_equal(parse_bytes(head, strlen(head), &r), 0);
		assert_int_equal(r.expects_continue, cases[i].is_continue);
		assert_int_equal(r.expects_unknown, cases[i].is_unknown);
	}
}

/* Whoever refuses a head must know whether content may go with the refusal. */
static void a_refused_head_has_its_method(void **state)
{
	static const char bad_target[] = "HEAD * HTTP/1.1\r\n" HOST END;
	static const char bad_field[] = "HEAD / HTTP/1.1\r\n" HOST "Content-Length: x\r\n" END;
	struct bw_http__request r;

	assert_int_equal(parse_bytes(bad_target, sizeof(bad_target) - 1, &r), 400);
	assert_int_equal(r.method, BW_HTTP_HEAD);
	assert_int_equal(parse_bytes(bad_field, sizeof(bad_field) - 1, &r), 400);
	assert_int_equal(r.method, BW_HTTP_HEAD);
}

static void wants(const char *fields, struct bw_http__wants *out)
{
	struct bw_http__request r;
	char head[1024];

	snprintf(head, sizeof(head), "GET / HTTP/1.1\r\nHost: h\r\n%s\r\n", fields);
	assert_int_equal(parse_bytes(head, strlen(head), &r), 0);
	*out = r.wants;
}

static void ranges(void **state)
{
	struct bw_http__wants w;

	wants("Range: bytes=2-5\r\n", &w);
	assert_int_equal(w.flags, BW_HTTP__RANGE);
	assert_int_equal(w.range_first, 2);
	assert_int_equal(w.range_last, 5);
	wants("Range: Bytes=7-\r\n", &w);
	assert_int_equal(w.flags, BW_HTTP__RANGE);
	assert_true(w.range_last == UINT64_MAX);
	wants("Range: bytes=-3\r\n", &w);
	assert_int_equal(w.flags, BW_HTTP__RANGE | BW_HTTP__RANGE_SUFFIX);
	assert_int_equal(w.range_last, 3);
	for (const char *const *bad =
			(const char *const[]){ "bytes=5-2", "bytes=a-", "bytes=-", "bytes=1", "bytes 1-2",
				"lines=1-2", "bytes=1-2,4-5", "bytes=1 -2", "bytes=", "", "bytes=--1", NULL };
		*bad; bad++) {
		char field[64];

		snprintf(field, sizeof(field), "Range: %s\r\n", *bad);
		wants(field, &w);
		assert_int_equal(w.flags, 0);
	}
	wants("Range: bytes=1-2\r\nRange: bytes=1-2\r\n", &w);
	assert_int_equal(w.flags, 0);
}

static void conditions(void **state)
{
	struct bw_http__wants w;
	struct bw_http__request r;
	char head[1024] = "GET / HTTP/1.1\r\nHost: h\r\nIf-Match: ";

	wants("If-None-Match: \"x\", W/\"00000000000000ff\" , \"0123456789abcdef\"\r\n", &w);
	assert_int_equal(w.flags, BW_HTTP__IF_NONE_MATCH);
	assert_int_equal(w.none_match_count, 2);
	assert_true(w.none_match[0] == 0xff && w.none_match[1] == 0x0123456789abcdefull);
	wants("If-None-Match: *\r\n", &w);
	assert_int_equal(w.flags, BW_HTTP__IF_NONE_MATCH | BW_HTTP__IF_NONE_MATCH_ANY);
	wants("If-None-Match: \"00000000000000FF\"\r\n", &w); /* tags are compared byte by byte */
	assert_int_equal(w.none_match_count, 0);
	wants("If-Match: W/\"00000000000000ff\"\r\n", &w); /* never strong */
	assert_int_equal(w.flags, BW_HTTP__IF_MATCH);
	assert_int_equal(w.match_count, 0);
	wants("If-None-Match: \"00000000000000ff\r\n", &w);
	assert_int_equal(w.none_match_count, 0);
	wants("If-Range: \"00000000000000ff\"\r\n", &w);
	assert_int_equal(w.flags, BW_HTTP__IF_RANGE | BW_HTTP__IF_RANGE_TAG);
	wants("If-Range: W/\"00000000000000ff\"\r\n", &w);
	assert_int_equal(w.flags, BW_HTTP__IF_RANGE);
	wants("If-Range: Sun, 06 Nov 1994 08:49:37 GMT\r\n", &w);
	assert_int_equal(w.flags, BW_HTTP__IF_RANGE | BW_HTTP__IF_RANGE_DATE);
	wants("If-Modified-Since: nonsense\r\n", &w);
	assert_int_equal(w.flags, 0);
	for (int i = 0; i < BW_HTTP__TAGS_MAX + 1; i++)
		sprintf(head + strlen(head), "\"%016x\",", i);
	strcat(head, "\r\n\r\n");
	assert_int_equal(parse_bytes(head, strlen(head), &r), 431);
	memcpy(strstr(head, "If-Match:"), "If-Xatch:", 9);
	assert_int_equal(parse_bytes(head, strlen(head), &r), 0);
}

static void paths(void **state)
{
	static const struct {
		const char *in;
		unsigned status;
		const char *out;
	} cases[] = {
		{ "/", 0, "/" },
		{ "/a/b", 0, "/a/b" },
		{ "//a///b//", 0, "/a/b/" },
		{ "/a/./b/.", 0, "/a/b/" },
		{ "/a/../b", 0, "/b" },
		{ "/a/b/..", 0, "/a/" },
		{ "/a/b/../", 0, "/a/" },
		{ "/a//..//b", 0, "/b" },
		{ "/..", 400, NULL },
		{ "/../etc/passwd", 400, NULL },
		{ "/a/../../etc", 400, NULL },
		{ "/a/../..", 400, NULL },
		{ "/%2e%2e/etc", 400, NULL },
		{ "/a/%2E./%2e%2E/x", 400, NULL },
		{ "/a/.%2e/b", 0, "/b" },
		{ "/%61%20b", 0, "/a b" },
		{ "/..a/b..", 0, "/..a/b.." },
		{ "/...", 0, "/..." },
		{ "/.hidden", 0, "/.hidden" },
		{ "/a%2fb", 404, NULL },
		{ "/..%2f..%2fetc", 404, NULL },
		{ "/%00", 400, NULL },
		{ "/%", 400, NULL },
		{ "/%4", 400, NULL },
		{ "/%4g", 400, NULL },
		{ "/%2525", 0, "/%25" },
	};

	for (unsigned i = 0; i < BW_ARRAY_LEN(cases); i++) {
		uint32_t len = (uint32_t)strlen(cases[i].in), out_len;
		uint8_t *in = exact(cases[i].in, len), *out = malloc(len);
		unsigned status = bw_http__path(in, len, out, &out_len);

		if (status != cases[i].status || (status == 0 && (out_len != strlen(cases[i].out) ||
									 memcmp(out, cases[i].out, out_len))))
			fail_msg("%s: %u", cases[i].in, status);
		free(in);
		free(out);
	}
}

/* Decode what is there, and count its data. Returns the bytes used. */
static uint32_t decode(struct bw_http__chunks *c, const uint8_t *bytes, uint32_t len, uint64_t *data,
	enum bw_http__chunks_result *result)
{
	uint32_t at = 0;

	for (;;) {
		uint32_t n;

		at += bw_http__chunks_next(c, bytes + at, len - at, result);
		if (*result != BW_HTTP__CHUNKS_DATA)
			return at;
		n = (uint32_t)BW_MIN(c->left, (uint64_t)(len - at));
		assert_true(n > 0);
		bw_http__chunks_took(c, n);
		*data += n;
		at += n;
	}
}

/* Returns 0 done, 1 bad, 2 more; and checks that every split agrees. */
static int chunks(const char *body, uint64_t *data, uint32_t *used)
{
	uint32_t len = (uint32_t)strlen(body);
	int verdict = -1;

	for (uint32_t step = 1; step <= len; step++) {
		struct bw_http__chunks c = { .left = 0 };
		enum bw_http__chunks_result result = BW_HTTP__CHUNKS_MORE;
		uint64_t bytes = 0;
		uint32_t at = 0;
		int now;

		while (at < len && result == BW_HTTP__CHUNKS_MORE) {
			uint32_t n = BW_MIN(step, len - at);
			uint8_t *part = exact(body + at, n);
			uint32_t took = decode(&c, part, n, &bytes, &result);

			assert_true(took == n || result != BW_HTTP__CHUNKS_MORE);
			at += took;
			free(part);
		}
		now = result == BW_HTTP__CHUNKS_END ? 0 : result == BW_HTTP__CHUNKS_BAD ? 1 : 2;
		assert_true(verdict == -1 || verdict == now);
		verdict = now;
		*data = bytes;
		*used = at;
	}
	return verdict;
}

static void chunked_bodies(void **state)
{
	uint64_t data;
	uint32_t used;

	assert_int_equal(chunks("5\r\nhello\r\n0\r\n\r\nGET", &data, &used), 0);
	assert_int_equal(data, 5);
	assert_int_equal(used, 15);
	assert_int_equal(chunks("0\r\n\r\n", &data, &used), 0);
	assert_int_equal(chunks("a;n=v;o=\"q\"\r\n0123456789\r\nB\r\n0123456789x\r\n00\r\nX: y\r\nZ:\r\n\r\n",
				 &data, &used),
		0);
	assert_int_equal(data, 21);
	assert_int_equal(chunks("5\r\nhel", &data, &used), 2);
	for (const char *const *good = (const char *const[]){ ";x", ";x=y", " ;x", ";x;y", "; x", ";x=y ; z",
		     ";x = y", ";x=\"\"", ";x=\"; \\\" =\\\\\";y", ";x=\"\xff\\\xff\"", "\t;x=\"y\" ;z",
		     ";0=0", NULL };
		*good; good++) {
		char body[128];

		snprintf(body, sizeof(body), "5%s\r\nhello\r\n0;x\r\n\r\n", *good);
		if (chunks(body, &data, &used) != 0 || data != 5)
			fail_msg("refused: %s", *good);
	}
	for (const char *const *bad = (const char *const[]){ "\r\n", "g\r\n", "5 \r\nhello\r\n", " 5\r\n",
		     "-1\r\n", "0x5\r\n", "5\nhello", "5\rhello", "5\r\nhello!\r\n", "5\r\nhello\n",
		     "0\r\n\n", "0\r\n: x\r\n", "0\r\nX y\r\n", "0\r\n X: y\r\n", "0\r\nX: \x01\r\n",
		     "1000000000000000\r\n", "5;\x01\r\n", "5;\n", "0\r\nX: y\r\n z\r\n", "5;\r\n", "5 x\r\n",
		     "5\t\r\n", "5;;x\r\n", "5;x;\r\n", "5;=y\r\n", "5;x=\r\n", "5;x==y\r\n", "5;x=;y\r\n",
		     "5;x y\r\n", "5;x \r\n", "5;x=y \r\n", "5;x=y=z\r\n", "5;x=y z\r\n", "5;x=\"y\r\n",
		     "5;x=\"y\\\r\n", "5;x=\"y\"z\r\n", "5;x=\"y\"=z\r\n", "5;x=\"\x7f\"\r\n", "5;\"x\"\r\n",
		     "5;\xff\r\n", NULL };
		*bad; bad++)
		if (chunks(*bad, &data, &used) != 1)
			fail_msg("accepted: %s", *bad);
}

static void chunk_extensions_and_trailers_are_bounded(void **state)
{
	char body[10000];
	uint64_t data;
	struct bw_http__chunks c = { .left = 0 };
	enum bw_http__chunks_result result;

	memset(body, 'x', sizeof(body));
	memcpy(body, "5;", 2);
	data = 0;
	decode(&c, (uint8_t *)body, 1000, &data, &result);
	assert_int_equal(result, BW_HTTP__CHUNKS_BAD);
	memcpy(body, "0\r\nX:", 5);
	c = (struct bw_http__chunks){ .left = 0 };
	decode(&c, (uint8_t *)body, sizeof(body), &data, &result);
	assert_int_equal(result, BW_HTTP__CHUNKS_BAD);
}

static void dates(void **state)
{
	static const char *const same[] = { "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT",
		"Sun Nov  6 08:49:37 1994" };
	static const char *const bad[] = { "", "Sun", "Sun, 06 Nov 1994 08:49:37",
		"Sun, 06 Nov 1994 08:49:37 GMT ", "Sun, 06 Nov 1994 24:49:37 GMT",
		"Sun, 00 Nov 1994 08:49:37 GMT", "Sun, 31 Nov 1994 08:49:37 GMT",
		"Sun, 06 nov 1994 08:49:37 GMT", "Xun, 06 Nov 1994 08:49:37 GMT",
		"Sun, 6 Nov 1994 08:49:37 GMT", "784111777", "Sun, 06 Nov 1994 08:49:37 CET" };
	char text[BW_HTTP__DATE_LEN];
	int64_t at;

	for (unsigned i = 0; i < BW_ARRAY_LEN(same); i++) {
		assert_true(bw_http__date_parse((const uint8_t *)same[i], strlen(same[i]), 1700000000, &at));
		assert_int_equal(at, 784111777);
	}
	for (unsigned i = 0; i < BW_ARRAY_LEN(bad); i++) {
		uint8_t *copy = exact(bad[i], strlen(bad[i]));

		if (bw_http__date_parse(copy, strlen(bad[i]), 1700000000, &at))
			fail_msg("accepted: %s", bad[i]);
		free(copy);
	}
	bw_http__date_format(784111777, text);
	assert_memory_equal(text, same[0], BW_HTTP__DATE_LEN);
	bw_http__date_format(951782400, text); /* the leap day of a century year */
	assert_memory_equal(text, "Tue, 29 Feb 2000 00:00:00 GMT", BW_HTTP__DATE_LEN);
	bw_http__date_format(-1, text);
	assert_memory_equal(text, "Wed, 31 Dec 1969 23:59:59 GMT", BW_HTTP__DATE_LEN);
	for (int64_t t = -100000000000; t < 250000000000; t += 86399 * 997) {
		bw_http__date_format(t, text);
		if (t < -62135596800)
			continue;
		assert_true(bw_http__date_parse((const uint8_t *)text, sizeof(text), 0, &at));
		assert_true(at == t);
	}
}

static void media_types(void **state)
{
	char name[] = "/tmp/bw-mime-XXXXXX";
	int fd = mkstemp(name);
	static const char table[] = "# comment\ntext/x-mine\tmine MIN2\napplication/x-html html # tail\n"
				    "broken\nbad/\x01type bad\nno/extension\n";
	struct bw_http__mime *mime;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, table, sizeof(table) - 1), sizeof(table) - 1);
	close(fd);
	mime = bw_http__mime_load(name);
	unlink(name);
	assert_non_null(mime);
#define OF(path) bw_http__mime_of(mime, path, strlen(path))
	assert_string_equal(OF("/a.mine"), "text/x-mine");
	assert_string_equal(OF("/a.Min2"), "text/x-mine");
	assert_string_equal(OF("a.html"), "application/x-html"); /* the system's table wins */
	assert_string_equal(OF("/x.y/a.PNG"), "image/png");
	assert_string_equal(OF("/a.bad"), "application/octet-stream");
	assert_string_equal(OF("/dir.html/file"), "application/octet-stream");
	assert_string_equal(OF("/.html"), "application/octet-stream");
	assert_string_equal(OF("/a."), "application/octet-stream");
	assert_string_equal(OF(""), "application/octet-stream");
	assert_string_equal(OF("/a.0123456789012345678901234567890123456789"), "application/octet-stream");
	bw_http__mime_free(mime);
	mime = bw_http__mime_load("/nonexistent");
	assert_string_equal(OF("a.html"), "text/html");
	bw_http__mime_free(mime);
}

/* ---- heads that came before ---- */

/** As the service does it: what was kept, else parsed, and kept. Returns whether it was known. */
static bool remember(struct bw_http__memo *memo, const char *text, const char *behind)
{
	size_t len = strlen(text), all = len + strlen(behind);
	char joined[4096];
	uint8_t *bytes;
	const struct bw_http__request *known;
	struct bw_http__request parsed;
	uint32_t head_len = 0, hash;

	snprintf(joined, sizeof(joined), "%s%s", text, behind);
	bytes = exact(joined, all);
	assert_int_equal(bw_http__parse(bytes, (uint32_t)len, &limits, &parsed), 0);
	known = bw_http__memo_find(memo, bytes, (uint32_t)all, &head_len, &hash);
	if (known == NULL && hash != 0)
		bw_http__memo_keep(memo, hash, bytes, (uint32_t)len, &parsed);
	if (known != NULL) {
		/* All that a parser would have said, about bytes that outlive the packet. */
		assert_int_equal(head_len, len);
		assert_int_equal(known->method, parsed.method);
		assert_int_equal(known->path_len, parsed.path_len);
		assert_memory_equal(known->path, parsed.path, parsed.path_len);
		assert_true(known->path < bytes || known->path >= bytes + all);
		assert_int_equal(known->host_len, parsed.host_len);
		if (parsed.host_len > 0)
			assert_memory_equal(known->host, parsed.host, parsed.host_len);
		assert_int_equal(known->query.len, parsed.query.len);
		if (parsed.query.len > 0)
			assert_memory_equal(known->query.at, parsed.query.at, parsed.query.len);
		assert_int_equal(known->fields.len, parsed.fields.len);
		assert_memory_equal(known->fields.at, parsed.fields.at, parsed.fields.len);
		assert_int_equal(known->keeps_alive, parsed.keeps_alive);
		assert_int_equal(known->path_is_plain, parsed.path_is_plain);
		assert_int_equal(known->wants.flags, parsed.wants.flags);
		assert_int_equal(known->wants.encodings, parsed.wants.encodings);
	}
	free(bytes);
	return known != NULL;
}

/** The third time, whatever is behind it. */
static void assert_is_kept(struct bw_http__memo *memo, const char *head, bool is_kept)
{
	remember(memo, head, "");
	remember(memo, head, "GET /next");
	assert_int_equal(remember(memo, head, "GET /other HTTP/1.1\r\n"), is_kept);
	assert_int_equal(remember(memo, head, ""), is_kept);
}

static void heads_that_came_before_are_known(void **state)
{
	static struct bw_http__memo memo;
	char long_head[1024];

	(void)state;
	assert_false(remember(&memo, "GET / HTTP/1.1\r\n" HOST END, ""));
	assert_false(remember(&memo, "GET / HTTP/1.1\r\n" HOST END, ""));
	assert_true(remember(&memo, "GET / HTTP/1.1\r\n" HOST END, "GET / HTTP/1.1\r\n" HOST END));
	/* One byte else, wherever, and it is another. */
	assert_false(remember(&memo, "GET / HTTP/1.1\r\nHost: i\r\n" END, ""));
	assert_false(remember(&memo, "GET / HTTP/1.1\r\n" HOST "A: b\r\n" END, ""));
	assert_false(remember(&memo, "GET / HTTP/1.0\r\n" HOST END, ""));
	assert_true(remember(&memo, "GET / HTTP/1.1\r\n" HOST END, ""));

	assert_is_kept(&memo, "HEAD /a/b?c=d&e HTTP/1.1\r\n" HOST "Accept-Encoding: br, gzip\r\n" END, true);
	assert_is_kept(&memo, "GET http://h/%41/../x HTTP/1.1\r\n" HOST "Connection: close\r\n" END, true);
	assert_is_kept(&memo, "GET /old HTTP/1.0\r\n" END, true);
	assert_is_kept(&memo, "GET /range HTTP/1.1\r\n" HOST "Range: bytes=1-2\r\n" END, true);
	assert_is_kept(
		&memo, "GET /tag HTTP/1.1\r\n" HOST "If-None-Match: \"0123456789abcdef\"\r\n" END, true);
	/* What today's date has a part in, what a body follows, and what does not fit. */
	assert_is_kept(&memo,
		"GET /since HTTP/1.1\r\n" HOST "If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT\r\n" END,
		false);
	assert_is_kept(&memo, "GET /body HTTP/1.1\r\n" HOST "Content-Length: 0\r\n" END, false);
	assert_is_kept(&memo, "GET /chunks HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n" END, false);
	assert_is_kept(&memo, "POST /post HTTP/1.1\r\n" HOST END, false);
	assert_is_kept(
		&memo, "GET http://h HTTP/1.1\r\n" HOST END, false); /* its path is not among its bytes */
	snprintf(long_head, sizeof(long_head), "GET /long HTTP/1.1\r\n" HOST "X: %0600d\r\n" END, 1);
	assert_is_kept(&memo, long_head, false);
}

/** What comes first of a head may be a byte: nothing before it or behind it is looked at. */
static void short_beginnings_are_not_known(void **state)
{
	static const char line[] = "GET / HTTP/1.1\r\n";
	static struct bw_http__memo memo;
	uint32_t head_len, hash;

	(void)state;
	for (size_t cr_at = 0; cr_at < sizeof(line) - 1; cr_at++)
		for (size_t len = 0; len < sizeof(line); len++) {
			uint8_t *bytes = exact(line, len);

			if (cr_at < len)
				bytes[cr_at] = '\r';
			assert_null(bw_http__memo_find(&memo, bytes, (uint32_t)len, &head_len, &hash));
			if (cr_at < 14 || len < 15)
				assert_int_equal(hash, 0);
			free(bytes);
		}
}

/** Clients of two kinds ask for the same: the one that is kept stays, until it no longer comes. */
static void known_head_is_replaced_when_it_no_longer_comes(void **state)
{
	static struct bw_http__memo memo;
	const char *mine = "GET /x HTTP/1.1\r\n" HOST END, *other = "GET /x HTTP/1.1\r\n" HOST "A: b\r\n" END;
	unsigned times = 0;

	(void)state;
	assert_is_kept(&memo, mine, true);
	for (unsigned i = 0; i < 100; i++) {
		assert_false(remember(&memo, other, ""));
		assert_true(remember(&memo, mine, ""));
	}
	while (!remember(&memo, other, ""))
		assert_true(++times < 100);
	assert_false(remember(&memo, mine, ""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(head_end_is_found_at_any_split),
		cmocka_unit_test(bare_line_feeds_are_found_at_any_split),
		cmocka_unit_test(request_lines),
		cmocka_unit_test(methods_and_targets),
		cmocka_unit_test(fields_are_strict),
		cmocka_unit_test(lengths_saturate),
		cmocka_unit_test(connection_rules),
		cmocka_unit_test(expectations),
		cmocka_unit_test(a_refused_head_has_its_method),
		cmocka_unit_test(ranges),
		cmocka_unit_test(conditions),
		cmocka_unit_test(paths),
		cmocka_unit_test(chunked_bodies),
		cmocka_unit_test(chunk_extensions_and_trailers_are_bounded),
		cmocka_unit_test(dates),
		cmocka_unit_test(media_types),
		cmocka_unit_test(heads_that_came_before_are_known),
		cmocka_unit_test(short_beginnings_are_not_known),
		cmocka_unit_test(known_head_is_replaced_when_it_no_longer_comes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
