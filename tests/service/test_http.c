/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The HTTP service, request by request, with files in a directory of its own. Each story ends by checking that
 * no byte was sent that it does not explain, and fake_destroy() that nothing is left.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <base/log.h>
#include <service/http.h>

#include "fake_stream.h"

#define MS(n)  ((n)*BW_NS_PER_MS)
#define SEC(n) ((n)*BW_NS_PER_SEC)

static const struct bw_http_constant constants[] = {
	{ .path = "/healthz", .content_type = "text/plain", .body = "ok\n", .body_bytes = 3 },
	{ .path = "/teapot",
		.content_type = "text/plain",
		.body = "short and stout",
		.body_bytes = 15,
		.status = 418 },
	{ .path = "/nothing", .status = 204 },
	{ .path = "/empty", .content_type = "text/plain", .body = "" },
};

static char root[64];

/* A service, a stream, and what the stream's peer has read of it so far. */
struct site {
	struct bw_http_conf conf;
	struct fake *f;
	struct bw_stream *s;
	size_t read;
};

static void write_file(const char *name, const void *data, size_t len)
{
	char path[512];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", root, name);
	file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(data, 1, len, file), len);
	fclose(file);
}

static void set_mtime(const char *name, time_t at)
{
	struct timespec times[2] = { { .tv_sec = at }, { .tv_sec = at } };
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", root, name);
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void conf_of(struct bw_http_conf *conf)
{
	bw_http_conf_init(conf);
	conf->site.root = root;
	conf->site.constants = constants;
	conf->site.constant_count = BW_ARRAY_LEN(constants);
	conf->cache_bytes_max = 64 << 20;
}

static void site_open_conf(struct site *site)
{
	assert_int_equal(bw_http_conf_prepare(&site->conf), 0);
	site->f = fake_create(&bw_http_service, &site->conf, 1);
	site->s = fake_open(site->f, 0);
	site->read = 0;
}

static void site_open(struct site *site)
{
	conf_of(&site->conf);
	site_open_conf(site);
}

static void site_reopen(struct site *site)
{
	site->s = fake_open(site->f, 0);
	site->read = 0;
}

static void site_close(struct site *site)
{
	fake_destroy(site->f);
	bw_http_conf_release(&site->conf);
}

/* ---- reading responses as a client does ---- */

struct response {
	unsigned status;
	char head[2048];
	const char *body;
	size_t body_len;
};

/* The value of a header field in `out`; fails when it is not there exactly once. */
static const char *field(const struct response *r, const char *name)
{
	static char value[512];
	char pattern[64];
	const char *at, *end;

	snprintf(pattern, sizeof(pattern), "\r\n%s: ", name);
	at = strstr(r->head, pattern);
	if (at == NULL)
		return NULL;
	assert_null(strstr(at + 2, pattern));
	at += strlen(pattern);
	end = strstr(at, "\r\n");
	assert_non_null(end);
	assert_true((size_t)(end - at) < sizeof(value));
	memcpy(value, at, (size_t)(end - at));
	value[end - at] = '\0';
	return value;
}

/* The next response in what came back. */
static void take(struct site *site, struct response *r, bool to_head)
{
	size_t len;
	const char *out = fake_output(site->s, &len) + site->read, *end;
	const char *length;

	len -= site->read;
	end = len > 0 ? memmem(out, len, "\r\n\r\n", 4) : NULL;
	if (end == NULL)
		fail_msg("no response, but \"%.*s\"", (int)len, out);
	assert_true((size_t)(end + 4 - out) < sizeof(r->head));
	memcpy(r->head, out, (size_t)(end + 4 - out));
	r->head[end + 4 - out] = '\0';
	assert_int_equal(sscanf(r->head, "HTTP/1.1 %u ", &r->status), 1);
	r->body = end + 4;
	length = field(r, "Content-Length");
	r->body_len = length != NULL ? strtoul(length, NULL, 10) : 0;
	if (length == NULL)
		assert_true(r->status == 304 || r->status == 204 || r->status == 100);
	if (to_head || r->status == 304)
		r->body_len = 0;
	assert_true(r->body_len <= len - (size_t)(r->body - out));
	if (r->status != 100) {
		assert_non_null(field(r, "Date"));
		assert_string_equal(field(r, "Server"), "barewire");
	}
	site->read += (size_t)(r->body - out) + r->body_len;
}

static void nothing_more(struct site *site)
{
	size_t len;

	fake_output(site->s, &len);
	assert_int_equal(len, site->read);
	assert_int_equal(fake_queued(site->s), 0);
}

static void feed(struct site *site, const char *text)
{
	fake_feed(site->s, text, strlen(text));
}

/* A request, its only answer, and on a closed connection another one first. */
static struct response ask(struct site *site, const char *request)
{
	struct response r;

	if (fake_is_closing(site->s))
		site_reopen(site);
	feed(site, request);
	take(site, &r, strncmp(request, "HEAD ", 5) == 0);
	nothing_more(site);
	return r;
}

static struct response get(struct site *site, const char *path, const char *fields)
{
	char request[8192];

	snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: h\r\n%s\r\n", path, fields);
	return ask(site, request);
}

#define BODY(r, text)                                                                                        \
	do {                                                                                                 \
		assert_int_equal((r).body_len, strlen(text));                                                \
		assert_memory_equal((r).body, text, strlen(text));                                           \
	} while (0)

static unsigned long long figure(struct site *site, const char *name)
{
	char pattern[64];
	const char *at;

	snprintf(pattern, sizeof(pattern), "%s ", name);
	for (at = fake_stats(site->f, 0); strncmp(at, pattern, strlen(pattern)) != 0; at++) {
		at = strchr(at, '\n');
		assert_non_null(at);
	}
	return strtoull(at + strlen(pattern), NULL, 10);
}

/* ---- answers ---- */

static void a_constant_is_answered_at_once(void **state)
{
	struct site site;
	struct response r;

	site_open(&site);
	fake_hold_jobs(site.f, true);
	r = get(&site, "/healthz?query=ignored", "");
	assert_int_equal(r.status, 200);
	BODY(r, "ok\n");
	assert_string_equal(field(&r, "Content-Type"), "text/plain");
	assert_null(field(&r, "Connection"));
	assert_int_equal(fake_jobs_waiting(site.f), 0);
	assert_int_equal(get(&site, "/teapot", "").status, 418);
	r = get(&site, "/nothing", "");
	assert_int_equal(r.status, 204);
	assert_null(field(&r, "Content-Length"));
	r = get(&site, "/empty", "");
	assert_int_equal(r.status, 200);
	assert_int_equal(r.body_len, 0);
	assert_false(fake_is_closing(site.s));
	assert_int_equal(figure(&site, "requests"), 4);
	assert_int_equal(figure(&site, "responses_2xx"), 3);
	site_close(&site);
}

static void files_directories_and_what_is_not_there(void **state)
{
	struct site site;
	struct response r;

	site_open(&site);
	r = get(&site, "/page.html", "");
	assert_int_equal(r.status, 200);
	BODY(r, "<p>page</p>\n");
	assert_string_equal(field(&r, "Content-Type"), "text/html; charset=utf-8");
	assert_string_equal(field(&r, "Last-Modified"), "Sun, 06 Nov 1994 08:49:37 GMT");
	assert_string_equal(field(&r, "Accept-Ranges"), "bytes");
	assert_int_equal(strlen(field(&r, "ETag")), 18);
	r = get(&site, "/", "");
	BODY(r, "index of root\n");
	assert_string_equal(field(&r, "Content-Type"), "text/html; charset=utf-8");
	r = get(&site, "/dir", "");
	assert_int_equal(r.status, 301);
	assert_string_equal(field(&r, "Location"), "/dir/");
	r = get(&site, "/dir/", "");
	BODY(r, "index of dir\n");
	assert_int_equal(get(&site, "/bare/", "").status, 403);
	assert_int_equal(get(&site, "/none", "").status, 404);
	assert_int_equal(get(&site, "/none/", "").status, 404);
	assert_int_equal(get(&site, "/page.html/", "").status, 404);
	assert_int_equal(get(&site, "/page.html/x", "").status, 404);
	r = get(&site, "/a%20b%25.txt", "");
	BODY(r, "odd name\n");
	assert_string_equal(field(&r, "Content-Type"), "text/plain; charset=utf-8");
	r = get(&site, "/odd%20dir", "");
	assert_string_equal(field(&r, "Location"), "/odd%20dir/");
	r = get(&site, "/zero", "");
	assert_int_equal(r.status, 200);
	assert_int_equal(r.body_len, 0);
	assert_false(fake_is_closing(site.s));
	site_close(&site);
}

/* As nginx has it: what a form or a client has asked goes on to the directory's index. */
static void a_redirect_keeps_the_query(void **state)
{
	static char path[1100];
	struct site site;
	struct response r;

	site_open(&site);
	for (int i = 0; i < 2; i++) { /* to be looked up, and known */
		r = get(&site, "/dir?x=1&y=%20?", "");
		assert_int_equal(r.status, 301);
		assert_string_equal(field(&r, "Location"), "/dir/?x=1&y=%20?");
		assert_string_equal(field(&r, "Content-Length"), "0");
		r = get(&site, "/dir?", "");
		assert_string_equal(field(&r, "Location"), "/dir/");
	}
	r = get(&site, "/page.html?x=1", "");
	assert_int_equal(r.status, 200);
	fake_starve(site.s, 1); /* it waits, and its request is gone */
	feed(&site, "GET /dir?later HTTP/1.1\r\nHost: h\r\n\r\n");
	nothing_more(&site);
	feed(&site, "GET /dir?another HTTP/1.1\r\n");
	fake_advance(site.f, SEC(1));
	assert_non_null(strstr(fake_output(site.s, NULL), "\r\nLocation: /dir/?later\r\n"));
	site_close(&site);

	/* As long as a head can be, and not a byte longer. */
	unsigned longest = 0;

	for (unsigned len = 600; len < 1000; len++) {
		const char *location;

		site_open(&site);
		memcpy(path, "/dir?", 5);
		memset(path + 5, 'q', len);
		path[5 + len] = '\0';
		r = get(&site, path, "Connection: close\r\n");
		assert_int_equal(r.status, 301);
		location = strstr(r.head, "\r\nLocation: /dir/");
		assert_non_null(location);
		location += 17;
		if (*location == '?') {
			assert_int_equal(strspn(location + 1, "q"), len);
			assert_int_equal(len, longest == 0 ? 600 : longest + 1);
			longest = len;
		} else {
			assert_memory_equal(location, "\r\n", 2);
		}
		site_close(&site);
	}
	assert_true(longest > 700);
}

static void nothing_outside_the_root_is_ever_served(void **state)
{
	struct site site;

	site_open(&site);
	for (const char *const *path = (const char *const[]){ "/..", "/../secret", "/%2e%2e/secret",
		     "/dir/../../secret", "/.%2E/secret", "/dir/..%00/secret", "/%", "/%zz", NULL };
		*path; path++) {
		struct response r = get(&site, *path, "");

		if (r.status != 400)
			fail_msg("%s: %u", *path, r.status);
		assert_true(fake_is_closing(site.s));
	}
	for (const char *const *path = (const char *const[]){ "/..%2fsecret", "/dir%2f..%2f..%2fsecret",
		     "/....//secret", "/..;/secret", NULL };
		*path; path++) {
		struct response r = get(&site, *path, "");

		if (r.status != 404)
			fail_msg("%s: %u", *path, r.status);
	}
	assert_int_equal(get(&site, "/link_out", "").status, 403);
	assert_int_equal(get(&site, "/link_out_absolute", "").status, 403);
	assert_int_equal(get(&site, "/link_up/secret", "").status, 403);
	assert_int_equal(get(&site, "/fifo", "").status, 403);
	assert_int_equal(get(&site, "/loop", "").status, 403);
	assert_int_equal(get(&site, "/link_in", "").status, 200);
	site_close(&site);
}

static void head_is_get_without_the_body(void **state)
{
	struct site site;

	site_open(&site);
	for (const char *const *path = (const char *const[]){ "/healthz", "/page.html", "/big.bin", "/none",
		     "/dir", "/nothing", NULL };
		*path; path++) {
		char request[128];
		struct response g = get(&site, *path, ""), h;

		snprintf(request, sizeof(request), "HEAD %s HTTP/1.1\r\nHost: h\r\n\r\n", *path);
		h = ask(&site, request);
		assert_string_equal(g.head, h.head);
		assert_int_equal(h.body_len, 0);
	}
	/* A range means nothing to HEAD (RFC 9110 14.2). */
	assert_int_equal(
		ask(&site, "HEAD /page.html HTTP/1.1\r\nHost: h\r\nRange: bytes=0-1\r\n\r\n").status, 200);
	site_close(&site);
}

static void conditions(void **state)
{
	struct site site;
	struct response r;
	char tag[32], text[128];

	site_open(&site);
	r = get(&site, "/page.html", "");
	strcpy(tag, field(&r, "ETag"));
#define WITH(format) (snprintf(text, sizeof(text), format "\r\n", tag), get(&site, "/page.html", text))
	r = WITH("If-None-Match: %s");
	assert_int_equal(r.status, 304);
	assert_string_equal(field(&r, "ETag"), tag);
	assert_null(field(&r, "Content-Length"));
	assert_null(field(&r, "Content-Type"));
	assert_int_equal(WITH("If-None-Match: \"x\", W/%s").status, 304);
	assert_int_equal(get(&site, "/page.html", "If-None-Match: *\r\n").status, 304);
	assert_int_equal(get(&site, "/page.html", "If-None-Match: \"0000000000000000\"\r\n").status, 200);
	/* If-None-Match takes precedence over the date (RFC 9110 13.1.3). */
	assert_int_equal(
		get(&site, "/page.html",
			"If-None-Match: \"x\"\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n")
			.status,
		200);
	assert_int_equal(
		get(&site, "/page.html", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n").status, 304);
	assert_int_equal(
		get(&site, "/page.html", "If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n").status, 200);
	assert_int_equal(get(&site, "/page.html", "If-Modified-Since: yesterday\r\n").status, 200);
	assert_int_equal(WITH("If-Match: %s").status, 200);
	assert_int_equal(WITH("If-Match: W/%s").status, 412);
	assert_int_equal(get(&site, "/page.html", "If-Match: \"x\"\r\n").status, 412);
	assert_int_equal(get(&site, "/page.html", "If-Match: *\r\n").status, 200);
	assert_int_equal(
		get(&site, "/page.html", "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n").status,
		412);
	assert_int_equal(
		get(&site, "/page.html", "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n").status,
		200);
	/* About a 404 there are no conditions. */
	assert_int_equal(get(&site, "/none", "If-Match: \"x\"\r\n").status, 404);
	assert_int_equal(get(&site, "/healthz", "If-None-Match: *\r\n").status, 304);
	assert_int_equal(get(&site, "/teapot", "If-None-Match: *\r\n").status, 418);
	site_close(&site);
}

static void ranges(void **state)
{
	struct site site;
	struct response r;
	char tag[32], text[128];

	site_open(&site);
	r = get(&site, "/digits", "Range: bytes=2-5\r\n");
	assert_int_equal(r.status, 206);
	BODY(r, "2345");
	assert_string_equal(field(&r, "Content-Range"), "bytes 2-5/10");
	assert_non_null(field(&r, "ETag"));
	r = get(&site, "/digits", "Range: bytes=7-\r\n");
	BODY(r, "789");
	r = get(&site, "/digits", "Range: bytes=7-99999999999999999999999999\r\n");
	BODY(r, "789");
	r = get(&site, "/digits", "Range: bytes=-4\r\n");
	BODY(r, "6789");
	r = get(&site, "/digits", "Range: bytes=-40\r\n");
	assert_int_equal(r.status, 206);
	BODY(r, "0123456789");
	r = get(&site, "/digits", "Range: bytes=0-0\r\n");
	BODY(r, "0");
	r = get(&site, "/digits", "Range: bytes=10-\r\n");
	assert_int_equal(r.status, 416);
	assert_string_equal(field(&r, "Content-Range"), "bytes */10");
	assert_int_equal(get(&site, "/digits", "Range: bytes=-0\r\n").status, 416);
	assert_int_equal(get(&site, "/digits", "Range: bytes=0-1,3-4\r\n").status, 200);
	assert_int_equal(get(&site, "/digits", "Range: bytes=5-4\r\n").status, 200);
	assert_int_equal(get(&site, "/zero", "Range: bytes=-1\r\n").status, 200);
	assert_int_equal(get(&site, "/zero", "Range: bytes=0-\r\n").status, 416);
	r = get(&site, "/digits", "");
	strcpy(tag, field(&r, "ETag"));
	snprintf(text, sizeof(text), "Range: bytes=1-2\r\nIf-Range: %s\r\n", tag);
	assert_int_equal(get(&site, "/digits", text).status, 206);
	snprintf(text, sizeof(text), "Range: bytes=1-2\r\nIf-Range: W/%s\r\n", tag);
	assert_int_equal(get(&site, "/digits", text).status, 200);
	assert_int_equal(
		get(&site, "/page.html", "Range: bytes=1-2\r\nIf-Range: Sun, 06 Nov 1994 08:49:37 GMT\r\n")
			.status,
		206);
	assert_int_equal(
		get(&site, "/page.html", "Range: bytes=1-2\r\nIf-Range: Sun, 06 Nov 1994 08:49:38 GMT\r\n")
			.status,
		200);
	assert_int_equal(get(&site, "/healthz", "Range: bytes=0-1\r\n").status, 206);
	assert_int_equal(get(&site, "/teapot", "Range: bytes=0-1\r\n").status, 418);
	assert_false(fake_is_closing(site.s));
	site_close(&site);
}

static void methods(void **state)
{
	struct site site;
	struct response r;

	site_open(&site);
	r = ask(&site, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
	assert_int_equal(r.status, 405);
	assert_string_equal(field(&r, "Allow"), "GET, HEAD, OPTIONS");
	assert_int_equal(ask(&site, "DELETE / HTTP/1.1\r\nHost: h\r\n\r\n").status, 405);
	assert_int_equal(ask(&site, "TRACE / HTTP/1.1\r\nHost: h\r\n\r\n").status, 405);
	assert_int_equal(ask(&site, "BREW / HTTP/1.1\r\nHost: h\r\n\r\n").status, 501);
	r = ask(&site, "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n");
	assert_int_equal(r.status, 204);
	assert_string_equal(field(&r, "Allow"), "GET, HEAD, OPTIONS");
	assert_false(fake_is_closing(site.s));
	site_close(&site);
}

static void malformed_requests_are_refused_and_the_connection_closed(void **state)
{
	static const struct {
		const char *request;
		unsigned status;
	} cases[] = {
		{ "GET / HTTP/1.1\r\n\r\n", 400 },
		{ "GET / HTTP/1.1\nHost: h\n\n", 400 },
		{ "GET / HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n", 400 },
		{ "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
			400 },
		{ "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", 400 },
		{ "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501 },
		/* without content: ask() sees whether more comes than the head */
		{ "HEAD * HTTP/1.1\r\nHost: h\r\n\r\n", 400 },
		{ "HEAD / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n", 400 },
		{ "GET / HTTP/3.0\r\nHost: h\r\n\r\n", 505 },
		{ "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999\r\n\r\n", 413 },
		{ "GET / HTTP/1.1\r\nHost: h\r\nExpect: wonders\r\n\r\n", 417 },
		{ "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400 },
		{ "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1;\r\n", 400 },
		{ "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n", 413 },
		{ "\x16\x03\x01\x02\r\n\r\n", 400 },
	};
	struct site site;

	site_open(&site);
	for (unsigned i = 0; i < BW_ARRAY_LEN(cases); i++) {
		struct response r = ask(&site, cases[i].request);

		if (r.status != cases[i].status)
			fail_msg("case %u: %u, not %u", i, r.status, cases[i].status);
		assert_string_equal(field(&r, "Connection"), "close");
		assert_true(fake_is_closed(site.s));
		assert_int_equal(fake_close_reason(site.s), BW_CLOSE_NORMAL);
	}
	site_close(&site);
}

static void limits(void **state)
{
	struct site site;
	static char text[20000];

	site_open(&site);
	/* The largest head there may be, and one byte more. */
	for (int over = 0; over <= 1; over++) {
		int len = sprintf(text, "GET /healthz HTTP/1.1\r\nHost: h\r\nX: ");
		int pad = 8192 + over - len - 4;

		memset(text + len, 'x', (size_t)pad);
		strcpy(text + len + pad, "\r\n\r\n");
		assert_int_equal(ask(&site, text).status, over ? 431 : 200);
	}
	/* The request line, its line end counted. */
	for (int over = 0; over <= 1; over++) {
		int pad = 4096 + over - (int)strlen("GET /healthz? HTTP/1.1\r\n");

		strcpy(text, "GET /healthz?");
		memset(text + 13, 'x', (size_t)pad);
		strcpy(text + 13 + pad, " HTTP/1.1\r\nHost: h\r\n\r\n");
		assert_int_equal(ask(&site, text).status, over ? 414 : 200);
	}
	/* An endless one is refused before its end. */
	site_reopen(&site);
	memset(text, 'A', 4097);
	text[4097] = '\0';
	assert_int_equal(ask(&site, text).status, 414);
	strcpy(text, "GET /healthz HTTP/1.1\r\nHost: h\r\n");
	for (int i = 0; i < 100; i++)
		strcat(text, "A: b\r\n");
	strcat(text, "\r\n");
	assert_int_equal(ask(&site, text).status, 431);
	site_close(&site);
}

static void keep_alive_rules(void **state)
{
	struct site site;
	struct response r;

	site_open(&site);
	r = get(&site, "/healthz", "Connection: close\r\n");
	assert_string_equal(field(&r, "Connection"), "close");
	assert_true(fake_is_closed(site.s));
	r = ask(&site, "GET /healthz HTTP/1.0\r\n\r\n");
	assert_string_equal(field(&r, "Connection"), "close");
	assert_true(fake_is_closed(site.s));
	r = ask(&site, "GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
	assert_string_equal(field(&r, "Connection"), "keep-alive");
	assert_false(fake_is_closing(site.s));
	/* What follows a close is not looked at. */
	feed(&site,
		"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
	take(&site, &r, false);
	nothing_more(&site);
	assert_true(fake_is_closed(site.s));
	site_close(&site);
}

static void request_bodies_are_read_and_discarded(void **state)
{
	struct site site;
	struct response r;
	char *text = malloc(1300000);

	assert_non_null(text);
	site_open(&site);
	feed(&site, "GET /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nGET /");
	nothing_more(&site); /* the answer waits for the body, which may yet turn out wrong */
	feed(&site, "none GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
	take(&site, &r, false);
	BODY(r, "ok\n");
	take(&site, &r, false);
	BODY(r, "ok\n");
	nothing_more(&site);
	r = ask(&site, "GET /page.html HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
		       "5;x=y\r\nhello\r\n0\r\nTrailer: z\r\n\r\n");
	assert_int_equal(r.status, 200);
	/* The bound on chunked ones is on their sum. */
	strcpy(text, "GET /healthz HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
	for (int i = 0; i < 3; i++) {
		char *at = text + strlen(text);

		at += sprintf(at, "60000\r\n"); /* 384 KiB */
		memset(at, 'x', 0x60000);
		strcpy(at + 0x60000, "\r\n");
	}
	assert_int_equal(ask(&site, text).status, 413);
	assert_true(fake_is_closed(site.s));
	free(text);
	site_close(&site);
}

static void expect_continue(void **state)
{
	struct site site;
	struct response r;

	site_open(&site);
	feed(&site, "GET /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
	assert_string_equal(fake_output(site.s, NULL), "HTTP/1.1 100 Continue\r\n\r\n");
	site.read = 25;
	feed(&site, "abc");
	take(&site, &r, false);
	BODY(r, "ok\n");
	/* No body, no 100. A refusal comes instead of it. */
	assert_int_equal(get(&site, "/healthz", "Expect: 100-continue\r\n").status, 200);
	r = ask(&site, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
	assert_int_equal(r.status, 405);
	assert_true(fake_is_closed(site.s));
	r = ask(&site,
		"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1048577\r\nExpect: 100-continue\r\n\r\n");
	assert_int_equal(r.status, 413);
	/* In its turn: not before the answer to the request before it. */
	site_reopen(&site);
	fake_hold_jobs(site.f, true);
	feed(&site, "GET /slow1 HTTP/1.1\r\nHost: h\r\n\r\n"
		    "GET /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n");
	nothing_more(&site);
	fake_run_jobs(site.f, 1);
	fake_run(site.f);
	take(&site, &r, false);
	assert_int_equal(r.status, 404);
	take(&site, &r, false);
	assert_int_equal(r.status, 100);
	nothing_more(&site);
	feed(&site, "x");
	take(&site, &r, false);
	BODY(r, "ok\n");
	fake_hold_jobs(site.f, false);
	site_close(&site);
}

/* ---- order and segmentation ---- */

static const char conversation[] = "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
				   "\r\n"
				   "GET /page.html HTTP/1.1\r\nHost: h\r\nRange: bytes=1-3\r\n\r\n"
				   "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
				   "GET /none HTTP/1.1\r\nHost: h\r\n\r\n"
				   "GET /digits HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
				   "3;e=f\r\nabc\r\n0\r\nT: v\r\n\r\n"
				   "HEAD /big.bin HTTP/1.1\r\nHost: h\r\n\r\n"
				   "GET /%64igits HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

static void every_segmentation_gives_the_same_answers(void **state)
{
	struct site site;
	char *expected;
	size_t len = sizeof(conversation) - 1, expected_len;

	site_open(&site);
	feed(&site, conversation);
	expected = strdup(fake_output(site.s, &expected_len));
	assert_true(expected_len > 1000);
	assert_true(fake_is_closed(site.s));
	for (size_t cut = 1; cut < len; cut++) {
		size_t out_len;

		site_reopen(&site);
		fake_feed(site.s, conversation, cut);
		fake_feed(site.s, conversation + cut, len - cut);
		assert_true(fake_is_closed(site.s));
		assert_string_equal(fake_output(site.s, &out_len), expected);
		assert_int_equal(out_len, expected_len);
	}
	for (size_t step = 1; step < 40; step++) {
		site_reopen(&site);
		fake_feed_split(site.s, conversation, len, step);
		assert_string_equal(fake_output(site.s, NULL), expected);
	}
	/* Many small views in one call, and fewer views a call than there are. */
	for (unsigned views_max = 1; views_max <= 128; views_max *= 2) {
		site_reopen(&site);
		fake_set_views_max(site.s, views_max);
		for (size_t i = 0; i < len; i++)
			fake_queue(site.s, conversation + i, 1);
		fake_deliver(site.s);
		assert_string_equal(fake_output(site.s, NULL), expected);
	}
	free(expected);
	site_close(&site);
}

static void a_long_head_in_single_bytes_costs_one_look_at_each(void **state)
{
	struct site site;
	struct response r;
	char text[8192] = "GET /healthz HTTP/1.1\r\nHost: h\r\nX: ";

	memset(text + strlen(text), 'x', 7000);
	strcpy(text + strlen("GET /healthz HTTP/1.1\r\nHost: h\r\nX: ") + 7000, "\r\n\r\n");
	site_open(&site);
	fake_set_views_max(site.s, 16384);
	fake_feed_split(site.s, text, strlen(text), 1);
	take(&site, &r, false);
	BODY(r, "ok\n");
	/* With the views of an engine: refused rather than waited for in vain. */
	site_reopen(&site);
	fake_feed_split(site.s, text, strlen(text), 1);
	take(&site, &r, false);
	assert_int_equal(r.status, 431);
	site_close(&site);
}

static void answers_keep_the_order_of_requests(void **state)
{
	struct site site;
	struct response r;

	site_open(&site);
	fake_hold_jobs(site.f, true);
	feed(&site, "GET /page.html HTTP/1.1\r\nHost: h\r\n\r\n"
		    "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
		    "GET /digits HTTP/1.1\r\nHost: h\r\n\r\n"
		    "GET /page.html HTTP/1.1\r\nHost: h\r\nRange: bytes=0-2\r\n\r\n");
	nothing_more(&site);
	assert_int_equal(fake_jobs_waiting(site.f), 2); /* the two for /page.html share one */
	assert_int_equal(fake_run_jobs(site.f, 1), 1);
	take(&site, &r, false);
	BODY(r, "<p>page</p>\n");
	take(&site, &r, false);
	BODY(r, "ok\n");
	nothing_more(&site);
	assert_int_equal(fake_run_jobs(site.f, 1), 1);
	take(&site, &r, false);
	BODY(r, "0123456789");
	take(&site, &r, false);
	assert_int_equal(r.status, 206);
	BODY(r, "<p>");
	nothing_more(&site);
	assert_int_equal(figure(&site, "pending"), 0);
	fake_hold_jobs(site.f, false);
	site_close(&site);
}

static void the_second_helper_may_be_faster(void **state)
{
	struct site site;
	struct bw_stream *other;
	struct response r;

	site_open(&site);
	fake_hold_jobs(site.f, true);
	feed(&site, "GET /page.html HTTP/1.1\r\nHost: h\r\n\r\nGET /digits HTTP/1.1\r\nHost: h\r\n\r\n");
	/* Another connection for the second file: it must not wait for the first's. */
	other = fake_open(site.f, 0);
	fake_feed(other, "GET /digits HTTP/1.1\r\nHost: h\r\n\r\n", 33);
	assert_int_equal(fake_work_jobs(site.f, 2), 2);
	assert_int_equal(fake_finish_jobs(site.f, 2), 2);
	fake_run(site.f);
	take(&site, &r, false);
	BODY(r, "<p>page</p>\n");
	take(&site, &r, false);
	BODY(r, "0123456789");
	nothing_more(&site);
	assert_non_null(strstr(fake_output(other, NULL), "\r\n\r\n0123456789"));
	fake_hold_jobs(site.f, false);
	site_close(&site);
}

static void reading_pauses_at_the_pipelines_depth(void **state)
{
	struct site site;
	struct response r;

	conf_of(&site.conf);
	site.conf.pipeline_depth_max = 3;
	site_open_conf(&site);
	fake_hold_jobs(site.f, true);
	feed(&site, "GET /page.html HTTP/1.1\r\nHost: h\r\n\r\n");
	for (int i = 0; i < 5; i++)
		feed(&site, "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
	assert_int_equal(figure(&site, "pending"), 3);
	assert_int_equal(fake_unread(site.s), 3 * strlen("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"));
	fake_run_jobs(site.f, 1);
	take(&site, &r, false);
	BODY(r, "<p>page</p>\n");
	for (int i = 0; i < 5; i++) {
		take(&site, &r, false);
		BODY(r, "ok\n");
	}
	nothing_more(&site);
	assert_int_equal(fake_unread(site.s), 0);
	fake_hold_jobs(site.f, false);
	site_close(&site);
}

/* ---- backpressure ---- */

static uint8_t big_byte(size_t i)
{
	return (uint8_t)(i * 2654435761u >> 13);
}

#define BIG_BYTES (3 * 1024 * 1024 + 17)

struct checker {
	size_t at;
	size_t head_left;
};

/* Counts from the first byte of the body. */
static void check_big(void *arg, const void *data, size_t len)
{
	struct checker *c = arg;
	const uint8_t *bytes = data;

	for (size_t i = 0; i < len; i++) {
		if (c->head_left > 0) {
			c->head_left--;
			continue;
		}
		if (bytes[i] != big_byte(c->at % BIG_BYTES))
			fail_msg("byte %zu is wrong", c->at);
		c->at++;
	}
}

static void a_large_body_goes_through_any_send_space(void **state)
{
	static const uint32_t spaces[] = { 1, 5, 300, 1000, 4096, 65536 };
	struct site site;
	struct response head;

	site_open(&site);
	head = ask(&site, "HEAD /big.bin HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
	for (unsigned i = 0; i < BW_ARRAY_LEN(spaces); i++) {
		struct checker checker = { .head_left = strlen(head.head) };

		site_reopen(&site);
		fake_set_output_sink(site.s, check_big, &checker);
		fake_set_space(site.s, spaces[i]);
		feed(&site, "GET /big.bin HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
		if (spaces[i] < 300) {
			/* A head never fits: the connection is given up in the end, not spun on. */
			assert_int_equal(fake_output_total(site.s), 0);
			fake_advance(site.f, SEC(130));
			assert_true(fake_is_closed(site.s));
			continue;
		}
		assert_true(fake_is_closed(site.s));
		assert_int_equal(checker.at, BIG_BYTES);
	}
	assert_int_equal(figure(&site, "cache_loads"), 1);
	site_close(&site);
}

static void nothing_is_read_behind_a_body_that_waits_for_room(void **state)
{
	struct site site;
	size_t want;

	site_open(&site);
	fake_set_auto_ack(site.s, false);
	fake_set_space(site.s, 100000);
	for (int i = 0; i < 3; i++)
		feed(&site, "GET /big.bin HTTP/1.1\r\nHost: h\r\n\r\n");
	assert_int_equal(fake_queued(site.s), 100000);
	assert_int_equal(figure(&site, "pending"), 1);
	assert_int_equal(fake_unread(site.s), 2 * 34);
	while (fake_ack(site.s, 7000) > 0)
		assert_true(figure(&site, "pending") <= 1);
	want = 3 * (size_t)BIG_BYTES;
	assert_true(fake_output_total(site.s) > want && fake_output_total(site.s) < want + 2000);
	assert_int_equal(fake_unread(site.s), 0);
	site_close(&site);
}

static void bodies_go_by_reference_and_small_ones_by_copy(void **state)
{
	struct site site;

	site_open(&site);
	get(&site, "/page.html", "");
	assert_int_equal(fake_bytes_by_ref(site.f), 0);
	get(&site, "/big.bin", "");
	assert_int_equal(fake_bytes_by_ref(site.f), BIG_BYTES);
	assert_true(fake_bytes_by_copy(site.f) < 1000);
	site_close(&site);
}

static void an_empty_buffer_pool_is_waited_out(void **state)
{
	struct site site;
	struct response r;

	site_open(&site);
	get(&site, "/big.bin", "");
	for (unsigned starve = 1; starve < 6; starve++) {
		fake_starve(site.s, starve);
		feed(&site, "GET /big.bin HTTP/1.1\r\nHost: h\r\n\r\n");
		fake_advance(site.f, MS(200));
		take(&site, &r, false);
		assert_int_equal(r.body_len, BIG_BYTES);
		nothing_more(&site);
	}
	site_close(&site);
}

/* ---- time ---- */

static void deadlines(void **state)
{
	struct site site;
	struct response r;

	site_open(&site);
	/* Nothing at all. */
	fake_advance(site.f, SEC(59));
	assert_false(fake_is_closing(site.s));
	fake_advance(site.f, SEC(2));
	assert_true(fake_is_closed(site.s));
	nothing_more(&site);
	/* Idle after a request: counted from there. */
	site_reopen(&site);
	fake_advance(site.f, SEC(50));
	get(&site, "/healthz", "");
	fake_advance(site.f, SEC(59));
	assert_false(fake_is_closing(site.s));
	fake_advance(site.f, SEC(2));
	assert_true(fake_is_closed(site.s));
	/* A head that drips: counted from its first byte. */
	site_reopen(&site);
	fake_advance(site.f, SEC(30));
	for (int i = 0; i < 9; i++) {
		fake_feed(site.s, &"GET / HTTP/1.1"[i], 1);
		fake_advance(site.f, SEC(1));
	}
	assert_false(fake_is_closing(site.s));
	fake_advance(site.f, SEC(2));
	take(&site, &r, false);
	assert_int_equal(r.status, 408);
	assert_string_equal(field(&r, "Connection"), "close");
	assert_true(fake_is_closed(site.s));
	/* A body that stops. */
	site_reopen(&site);
	feed(&site, "GET /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n12345");
	fake_advance(site.f, SEC(61));
	take(&site, &r, false);
	assert_int_equal(r.status, 408);
	assert_true(fake_is_closed(site.s));
	/* A peer that does not read. */
	site_reopen(&site);
	fake_set_auto_ack(site.s, false);
	feed(&site, "GET /big.bin HTTP/1.1\r\nHost: h\r\n\r\n");
	fake_advance(site.f, SEC(59));
	assert_false(fake_is_closed(site.s));
	fake_advance(site.f, SEC(2));
	assert_true(fake_is_aborted(site.s));
	assert_int_equal(figure(&site, "pending"), 0);
	assert_int_equal(figure(&site, "timeouts"), 5);
	site_close(&site);
}

/* As a head may not drip, a body may not either; one that keeps coming may take as long as it needs. */
static void a_body_must_keep_coming(void **state)
{
	static const char head[] = "GET /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n";
	static const char chunked[] =
		"GET /healthz HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n186a0\r\n";
	static char bytes[2000];
	struct site site;
	struct response r;

	site_open(&site);
	for (unsigned i = 0; i < 4; i++) {
		bool drips = i % 2;

		site_reopen(&site);
		feed(&site, i < 2 ? head : chunked);
		for (unsigned sent = 0; sent < 100000 && !fake_is_closing(site.s);) {
			unsigned n = drips ? 1 : 2000;

			fake_feed(site.s, bytes, n);
			sent += n;
			fake_advance(site.f, SEC(1));
			assert_true(!drips || sent < 12);
		}
		if (!drips && i >= 2)
			feed(&site, "\r\n0\r\n\r\n");
		take(&site, &r, false);
		assert_int_equal(r.status, drips ? 408 : 200);
		assert_int_equal(fake_is_closed(site.s), drips);
		nothing_more(&site);
	}
	/* After a burst it may not rest for longer than at the start. */
	site_reopen(&site);
	feed(&site, head);
	for (unsigned i = 0; i < 40; i++)
		fake_feed(site.s, bytes, 2000);
	fake_advance(site.f, SEC(9));
	assert_false(fake_is_closing(site.s));
	fake_advance(site.f, SEC(2));
	take(&site, &r, false);
	assert_int_equal(r.status, 408);
	/* The wait for the answer before is not the body's. */
	site_reopen(&site);
	fake_hold_jobs(site.f, true);
	feed(&site, "GET /digits HTTP/1.1\r\nHost: h\r\n\r\n");
	feed(&site, "GET /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nx");
	fake_advance(site.f, SEC(100));
	assert_false(fake_is_closing(site.s));
	fake_run_jobs(site.f, 1);
	fake_hold_jobs(site.f, false);
	feed(&site, "x");
	take(&site, &r, false);
	BODY(r, "0123456789");
	take(&site, &r, false);
	BODY(r, "ok\n");
	site_close(&site);
}

static void waiting_for_our_own_helper_is_no_idleness(void **state)
{
	struct site site;
	struct response r;

	site_open(&site);
	fake_hold_jobs(site.f, true);
	feed(&site, "GET /digits HTTP/1.1\r\nHost: h\r\n\r\n");
	fake_advance(site.f, SEC(300));
	assert_false(fake_is_closing(site.s));
	fake_run_jobs(site.f, 1);
	take(&site, &r, false);
	BODY(r, "0123456789");
	fake_hold_jobs(site.f, false);
	fake_advance(site.f, SEC(59)); /* that begins with the answer */
	assert_false(fake_is_closing(site.s));
	fake_advance(site.f, SEC(2));
	assert_true(fake_is_closed(site.s));
	site_close(&site);
}

static void the_date_moves_once_a_second(void **state)
{
	struct site site;
	struct response r;
	char first[64], second[64];

	site_open(&site);
	r = get(&site, "/healthz", "");
	strcpy(first, field(&r, "Date"));
	assert_int_equal(strlen(first), 29);
	fake_advance(site.f, SEC(1));
	r = get(&site, "/healthz", "");
	strcpy(second, field(&r, "Date"));
	assert_string_not_equal(first, second);
	assert_memory_equal(first + 25, " GMT", 4);
	site_close(&site);
}

static void a_keep_alive_request_does_not_touch_the_timer(void **state)
{
	struct site site;
	bw_ns at;

	site_open(&site);
	at = fake_timer_at(site.s);
	for (int i = 0; i < 10; i++) {
		get(&site, "/healthz", "");
		assert_true(fake_timer_at(site.s) == at);
		fake_advance(site.f, SEC(1));
	}
	site_close(&site);
}

/* ---- the ends of connections ---- */

static void a_peer_that_closes_its_half_still_gets_its_answers(void **state)
{
	struct site site;
	struct response r;

	site_open(&site);
	fake_hold_jobs(site.f, true);
	feed(&site,
		"GET /digits HTTP/1.1\r\nHost: h\r\n\r\nGET /healthz HTTP/1.1\r\nHost: h\r\n\r\nGET /hea");
	fake_peer_close(site.s);
	assert_false(fake_is_closing(site.s));
	fake_run_jobs(site.f, 1);
	take(&site, &r, false);
	BODY(r, "0123456789");
	take(&site, &r, false);
	BODY(r, "ok\n");
	nothing_more(&site);
	assert_true(fake_is_closed(site.s));
	fake_hold_jobs(site.f, false);
	/* Also those that had to be left in the receive queue. */
	site_reopen(&site);
	get(&site, "/big.bin", "");
	fake_output_clear(site.s);
	site.read = 0;
	fake_set_auto_ack(site.s, false);
	fake_set_space(site.s, 50000);
	feed(&site,
		"GET /big.bin HTTP/1.1\r\nHost: h\r\n\r\nGET /digits HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx"
		"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
	assert_int_equal(fake_unread(site.s), 87);
	fake_peer_close(site.s);
	while (fake_ack(site.s, 50000) > 0)
		;
	take(&site, &r, false);
	assert_int_equal(r.body_len, BIG_BYTES);
	take(&site, &r, false);
	BODY(r, "0123456789");
	take(&site, &r, false);
	BODY(r, "ok\n");
	nothing_more(&site);
	assert_true(fake_is_closed(site.s));
	/* A body that ends early is an error. */
	site_reopen(&site);
	feed(&site, "GET /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n12345");
	fake_peer_close(site.s);
	take(&site, &r, false);
	assert_int_equal(r.status, 400);
	assert_true(fake_is_closed(site.s));
	site_reopen(&site);
	fake_peer_close(site.s);
	assert_true(fake_is_closed(site.s));
	nothing_more(&site);
	site_close(&site);
}

#define HEALTHZ "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"

/* The FIN comes with the very ACK that makes room for the last of the answer before. */
static void a_fin_with_an_ack_does_not_overtake_what_is_unread(void **state)
{
	/* In one piece, as two packets, a body that is there but not read, and a request that will never be whole. */
	static const struct {
		const char *first, *second;
		unsigned statuses[2];
	} cases[] = {
		{ HEALTHZ, "", { 200, 0 } },
		{ HEALTHZ, HEALTHZ, { 200, 200 } },
		{ "GET /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", HEALTHZ, { 200, 200 } },
		{ "GET /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nab", "c", { 200, 0 } },
		{ HEALTHZ, "GET /hea", { 200, 0 } },
	};
	struct site site;
	struct response r;
	size_t len;

	site_open(&site);
	get(&site, "/big.bin", "");
	for (unsigned i = 0; i < 2 * BW_ARRAY_LEN(cases); i++) {
		site_reopen(&site);
		fake_set_auto_ack(site.s, false);
		fake_set_space(site.s, 2 * 1024 * 1024);
		/* One view a call: what is behind it is hidden. */
		fake_set_views_max(site.s, i % 2 ? 1 : 64);
		feed(&site, "GET /big.bin HTTP/1.1\r\nHost: h\r\n\r\n");
		feed(&site, cases[i / 2].first);
		feed(&site, cases[i / 2].second);
		assert_true(fake_unread(site.s) > 0);
		len = fake_queued(site.s);
		fake_ack_and_close(site.s, len);
		fake_set_auto_ack(site.s, true);
		fake_run(site.f);
		take(&site, &r, false);
		assert_int_equal(r.body_len, BIG_BYTES);
		for (unsigned n = 0; n < 2 && cases[i / 2].statuses[n] != 0; n++) {
			take(&site, &r, false);
			assert_int_equal(r.status, cases[i / 2].statuses[n]);
		}
		nothing_more(&site);
		assert_true(fake_is_closed(site.s));
		assert_int_equal(fake_close_reason(site.s), BW_CLOSE_NORMAL);
	}
	site_close(&site);
}

/* The stack gives a head of many views in parts, and the FIN comes before the second part. */
static void a_fin_does_not_overtake_views_that_are_hidden(void **state)
{
	struct site site;
	struct response r;

	site_open(&site);
	fake_set_views_max(site.s, 1);
	fake_queue(site.s, HEALTHZ "GET /hea", strlen(HEALTHZ) + 8);
	fake_queue(site.s, "lthz HTTP/1.1\r\nHost: h\r\n\r\n", 26);
	fake_deliver_and_close(site.s);
	for (int i = 0; i < 2; i++) {
		take(&site, &r, false);
		BODY(r, "ok\n");
	}
	nothing_more(&site);
	assert_true(fake_is_closed(site.s));
	site_close(&site);
}

static void a_connection_may_end_while_its_file_is_loaded(void **state)
{
	struct site site;
	struct bw_stream *other;

	site_open(&site);
	fake_hold_jobs(site.f, true);
	feed(&site, "GET /digits HTTP/1.1\r\nHost: h\r\n\r\nGET /digits HTTP/1.1\r\nHost: h\r\n\r\n");
	other = fake_open(site.f, 0);
	fake_feed(other, "GET /digits HTTP/1.1\r\nHost: h\r\n\r\n", 33);
	assert_int_equal(fake_work_jobs(site.f, 1), 1);
	fake_peer_reset(site.s);
	assert_true(fake_is_closed(site.s));
	fake_finish_jobs(site.f, 1);
	fake_run(site.f);
	assert_non_null(strstr(fake_output(other, NULL), "0123456789"));
	assert_int_equal(figure(&site, "pending"), 0);
	fake_hold_jobs(site.f, false);
	site_close(&site);
}

static void draining(void **state)
{
	struct site site;
	struct bw_stream *idle, *waiting, *partial;
	struct response r;

	site_open(&site);
	idle = fake_open(site.f, 0);
	fake_feed(idle, "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n", 34);
	fake_hold_jobs(site.f, true);
	waiting = fake_open(site.f, 0);
	fake_feed(waiting, "GET /digits HTTP/1.1\r\nHost: h\r\n\r\n", 33);
	partial = site.s;
	feed(&site, "GET /healthz HTTP/1.1\r\n");
	fake_drain(site.f);
	assert_true(fake_is_closed(idle));
	assert_false(fake_is_closing(waiting));
	assert_false(fake_is_closing(partial));
	fake_run_jobs(site.f, 1);
	assert_true(fake_is_closed(waiting));
	assert_non_null(strstr(fake_output(waiting, NULL), "0123456789"));
	feed(&site, "Host: h\r\n\r\n");
	take(&site, &r, false);
	assert_string_equal(field(&r, "Connection"), "close");
	assert_true(fake_is_closed(partial));
	fake_hold_jobs(site.f, false);
	site_close(&site);
}

/* A request that came before the connection was idle is in flight, although it was not read yet. */
static void draining_answers_what_came_with_the_last_ack(void **state)
{
	struct site site;
	struct response r;

	site_open(&site);
	get(&site, "/big.bin", "");
	site_reopen(&site);
	fake_set_auto_ack(site.s, false);
	fake_set_space(site.s, 2 * 1024 * 1024);
	feed(&site, "GET /big.bin HTTP/1.1\r\nHost: h\r\n\r\n");
	fake_drain(site.f);
	assert_false(fake_is_closing(site.s));
	fake_queue(site.s, HEALTHZ, strlen(HEALTHZ));
	fake_ack(site.s, 2 * 1024 * 1024);
	fake_set_auto_ack(site.s, true);
	fake_run(site.f);
	take(&site, &r, false);
	take(&site, &r, false);
	BODY(r, "ok\n");
	assert_string_equal(field(&r, "Connection"), "close");
	nothing_more(&site);
	assert_true(fake_is_closed(site.s));
	site_close(&site);
}

/* ---- anything at all ---- */

static uint32_t next_random(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(*seed >> 33);
}

/* Mutated conversations in random segments, on connections whose peers are slow, starved and rude. */
static void any_bytes_are_survived(void **state)
{
	static const char *const pieces[] = { "GET ", "HEAD ", "POST ", "/", "/healthz", "/digits",
		"/big.bin", "/none", " HTTP/1.1\r\n", " HTTP/1.0\r\n", "Host: h\r\n", "\r\n", "\r\n\r\n",
		"Content-Length: ", "5\r\n", "Transfer-Encoding: chunked\r\n", "0\r\n\r\n", "3\r\nabc\r\n",
		"Range: bytes=1-2\r\n", "\n", "\r", "Expect: 100-continue\r\n", "Connection: close\r\n",
		"%2e", "..", ":", "If-None-Match: \"", "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET /big.bin HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET /digits HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n1234" };
	struct timespec start, now;
	uint64_t seed = 20260607;
	unsigned rounds = 0;
	struct site site;

	bw_log_set_level(BW_LOG_ERROR);
	site_open(&site);
	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		unsigned segments = 1 + next_random(&seed) % 30;

		site_reopen(&site);
		fake_set_views_max(site.s, 1 + next_random(&seed) % 64);
		fake_set_space(site.s, 1000 + next_random(&seed) % 100000);
		fake_set_auto_ack(site.s, next_random(&seed) % 4 != 0);
		fake_hold_jobs(site.f, next_random(&seed) % 4 == 0);
		while (segments-- > 0) {
			char text[512];
			size_t len = 0;

			for (unsigned n = next_random(&seed) % 6; n > 0; n--) {
				const char *piece = pieces[next_random(&seed) % BW_ARRAY_LEN(pieces)];

				memcpy(text + len, piece, strlen(piece));
				len += strlen(piece);
			}
			if (len > 0 && next_random(&seed) % 3 == 0)
				text[next_random(&seed) % len] = (char)next_random(&seed);
			fake_starve(site.s, next_random(&seed) % 8 == 0);
			if (next_random(&seed) % 3 == 0)
				fake_feed_split(site.s, text, len, 1 + next_random(&seed) % 5);
			else if (next_random(&seed) % 2 == 0)
				fake_queue(site.s, text, len);
			else
				fake_feed(site.s, text, len);
			if (next_random(&seed) % 8 == 0)
				fake_ack(site.s, next_random(&seed) % 5000);
			if (next_random(&seed) % 16 == 0)
				fake_advance(site.f, MS(next_random(&seed) % 15000));
			if (next_random(&seed) % 8 == 0)
				fake_run_jobs(site.f, 1);
		}
		if (next_random(&seed) % 3 == 0)
			fake_peer_close(site.s);
		else if (next_random(&seed) % 2 == 0)
			fake_peer_reset(site.s);
		if (++rounds % 64 == 0) { /* the fake keeps closed streams: start anew */
			site_close(&site);
			site_open(&site);
		}
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec * 1000 + now.tv_nsec / 1000000 <
		 start.tv_sec * 1000 + start.tv_nsec / 1000000 + 1000);
	fake_hold_jobs(site.f, false);
	/* Whatever happened: a new connection is served. */
	site_reopen(&site);
	assert_int_equal(get(&site, "/healthz", "").status, 200);
	site_close(&site);
	bw_log_set_level(BW_LOG_INFO);
}

/* ---- the site ---- */

static void link_file(const char *target, const char *name)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", root, name);
	assert_int_equal(symlink(target, path), 0);
}

static void make_dir(const char *name)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", root, name);
	assert_int_equal(mkdir(path, 0755), 0);
}

static char base[48];

static int make_site(void **state)
{
	uint8_t *big = malloc(BIG_BYTES);
	char path[512];

	strcpy(base, "/tmp/bw-http-XXXXXX");
	assert_non_null(mkdtemp(base));
	snprintf(root, sizeof(root), "%s/root", base);
	assert_int_equal(mkdir(root, 0755), 0);
	make_dir("dir");
	make_dir("bare");
	make_dir("odd dir");
	write_file("../secret", "secret", 6);
	write_file("index.html", "index of root\n", 14);
	write_file("dir/index.html", "index of dir\n", 13);
	write_file("page.html", "<p>page</p>\n", 12);
	set_mtime("page.html", 784111777);
	write_file("a b%.txt", "odd name\n", 9);
	write_file("digits", "0123456789", 10);
	write_file("zero", "", 0);
	link_file("../secret", "link_out");
	link_file("/etc/passwd", "link_out_absolute");
	link_file("..", "link_up");
	link_file("digits", "link_in");
	link_file("loop", "loop");
	snprintf(path, sizeof(path), "%s/fifo", root);
	assert_int_equal(mkfifo(path, 0644), 0);
	for (size_t i = 0; i < BIG_BYTES; i++)
		big[i] = big_byte(i);
	write_file("big.bin", big, BIG_BYTES);
	free(big);
	return 0;
}

static int remove_site(void **state)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", base);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_constant_is_answered_at_once),
		cmocka_unit_test(files_directories_and_what_is_not_there),
		cmocka_unit_test(a_redirect_keeps_the_query),
		cmocka_unit_test(nothing_outside_the_root_is_ever_served),
		cmocka_unit_test(head_is_get_without_the_body),
		cmocka_unit_test(conditions),
		cmocka_unit_test(ranges),
		cmocka_unit_test(methods),
		cmocka_unit_test(malformed_requests_are_refused_and_the_connection_closed),
		cmocka_unit_test(limits),
		cmocka_unit_test(keep_alive_rules),
		cmocka_unit_test(request_bodies_are_read_and_discarded),
		cmocka_unit_test(expect_continue),
		cmocka_unit_test(every_segmentation_gives_the_same_answers),
		cmocka_unit_test(a_long_head_in_single_bytes_costs_one_look_at_each),
		cmocka_unit_test(answers_keep_the_order_of_requests),
		cmocka_unit_test(the_second_helper_may_be_faster),
		cmocka_unit_test(reading_pauses_at_the_pipelines_depth),
		cmocka_unit_test(a_large_body_goes_through_any_send_space),
		cmocka_unit_test(nothing_is_read_behind_a_body_that_waits_for_room),
		cmocka_unit_test(bodies_go_by_reference_and_small_ones_by_copy),
		cmocka_unit_test(an_empty_buffer_pool_is_waited_out),
		cmocka_unit_test(deadlines),
		cmocka_unit_test(a_body_must_keep_coming),
		cmocka_unit_test(waiting_for_our_own_helper_is_no_idleness),
		cmocka_unit_test(the_date_moves_once_a_second),
		cmocka_unit_test(a_keep_alive_request_does_not_touch_the_timer),
		cmocka_unit_test(a_peer_that_closes_its_half_still_gets_its_answers),
		cmocka_unit_test(a_fin_with_an_ack_does_not_overtake_what_is_unread),
		cmocka_unit_test(a_fin_does_not_overtake_views_that_are_hidden),
		cmocka_unit_test(a_connection_may_end_while_its_file_is_loaded),
		cmocka_unit_test(draining),
		cmocka_unit_test(draining_answers_what_came_with_the_last_ack),
		cmocka_unit_test(any_bytes_are_survived),
	};

	return cmocka_run_group_tests(tests, make_site, remove_site);
}
