/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Handlers: what they are told of a request, and what becomes of what they say, byte for byte but for Date. The
 * stories' own handler does what the path says, so that each can be read in one place.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <service/http.h>

#include "fake_stream.h"

#define SEC(n) ((n)*BW_NS_PER_SEC)

/* ---- a handler that notes what it is told --------------------------------------------------------------- */

struct probe {
	char story; /* the path's first letter */
	uint8_t step;
	uint32_t at;
	char *answer; /* of a job */
};

static char told[4096]; /* what it was told, in words */
static unsigned released;
static struct bw_http_exchange *last_exchange;
static char big[200000];

__attribute__((format(printf, 1, 2))) static void note(const char *format, ...)
{
	size_t len = strlen(told);
	va_list args;

	va_start(args, format);
	vsnprintf(told + len, sizeof(told) - len, format, args);
	va_end(args);
}

#define TOLD(words)                                                                                          \
	do {                                                                                                 \
		assert_string_equal(told, words);                                                            \
		told[0] = '\0';                                                                              \
	} while (0)

static void count_release(void *arg)
{
	assert_ptr_equal(arg, big);
	released++;
}

static void work(void *state)
{
	struct probe *probe = state;

	probe->answer = strdup("worked");
}

static void done(struct bw_http_exchange *x)
{
	struct probe *probe = bw_http_state(x);

	note("done%s ", bw_http_arg(x) != NULL      ? " with its arg"
			: bw_http_stream(x) == NULL ? " for nobody"
						    : "");
	bw_http_reply(x, &(struct bw_http_response){ .status = 201, .type = "text/plain" }, probe->answer, 6,
		free, probe->answer);
}

/* As many numbers as fit, one a line, ended after the hundred thousandth byte. */
static void count_on(struct bw_http_exchange *x)
{
	struct probe *probe = bw_http_state(x);

	if (probe->step == 0) {
		if (!bw_http_start(
			    x, &(struct bw_http_response){ .status = 200, .length = BW_HTTP_UNTIL_END }))
			return;
		probe->step = 1;
	}
	while (probe->at < 100000) {
		uint32_t n = BW_MIN(1000u, 100000u - probe->at);

		n = bw_http_write(x, big + probe->at, n);
		if (n == 0)
			return;
		probe->at += n;
	}
	bw_http_end(x);
}

static void begin(struct bw_http_exchange *x, const struct bw_http_head *head)
{
	static const struct bw_http_response plain = { .status = 200, .type = "text/plain" };
	struct probe *probe = bw_http_state(x);
	struct bw_http_text value;

	assert_int_equal(probe->story, 0);
	last_exchange = x;
	probe->story = head->path.len > 1 ? head->path.at[1] : '/';
	note("%.*s?%.*s@%.*s ", (int)head->path.len, head->path.at, (int)head->query.len, head->query.at,
		(int)head->host.len, head->host.at);
	if (bw_http_field(head, "x-note", &value))
		note("x-note=%.*s ", (int)value.len, value.at);
	switch (probe->story) {
	case 'w': /* whole, at once */
		bw_http_reply(x, &plain, "whole", 5, NULL, NULL);
		break;
	case 'b': /* whole, big */
		bw_http_reply(x, &plain, big, sizeof(big), count_release, big);
		break;
	case 'n': /* no content */
		bw_http_reply(x, &(struct bw_http_response){ .status = 204, .fields = "X-A: b\r\n" }, NULL, 0,
			NULL, NULL);
		break;
	case 'r': /* refused before the body */
		bw_http_reply(x, &(struct bw_http_response){ .status = 403 }, NULL, 0, NULL, NULL);
		break;
	case 'c': /* counted out in chunks */
		count_on(x);
		break;
	case 'l': /* of a length, by reference */
		if (bw_http_start(x, &(struct bw_http_response){ .status = 200, .length = 10 })) {
			assert_true(bw_http_write_ref(x, big, 4, count_release, big));
			assert_true(bw_http_write_ref(x, big + 4, 6, count_release, big));
			bw_http_end(x);
		}
		break;
	case 'j':
	case 'A':
		assert_int_equal(bw_http_job(x, work, done), 0);
		break;
	case 'a':
		bw_http_abort(x);
		break;
	case 'h': /* half a response */
		bw_http_start(x, &(struct bw_http_response){ .status = 200, .length = 10 });
		break;
	default: /* waits to be answered from outside */
		break;
	}
}

static uint32_t body(struct bw_http_exchange *x, const struct bw_view *view)
{
	struct probe *probe = bw_http_state(x);
	uint32_t n = probe->story == 's' ? 1 : view->len; /* s: sips */

	if (probe->story == 'L') { /* leaves the most of it */
		note("left ");
		bw_http_reply(x, &(struct bw_http_response){ .status = 200 }, NULL, 0, NULL, NULL);
		return 1;
	}
	if (probe->story == 'p' && probe->step == 0) /* p: pauses until it is told to read */
		return 0;
	note("%.*s|", (int)n, (const char *)view->data);
	return n;
}

static void body_end(struct bw_http_exchange *x)
{
	struct probe *probe = bw_http_state(x);

	note("end ");
	if (strchr("sp", probe->story) != NULL)
		bw_http_reply(x, &(struct bw_http_response){ .status = 200 }, "read", 4, NULL, NULL);
}

static void writable(struct bw_http_exchange *x)
{
	struct probe *probe = bw_http_state(x);

	if (probe->story == 'c')
		count_on(x);
	else
		note("writable ");
}

static void closed(struct bw_http_exchange *x)
{
	note("closed ");
}

static const struct bw_http_handler probe_handler = {
	.name = "probe",
	.begin = begin,
	.body = body,
	.body_end = body_end,
	.writable = writable,
	.closed = closed,
};

/* ---- one that answers another's request ---------------------------------------------------------------- */

static struct bw_http_exchange *waiting; /* that the next one answers, in a callback of its own */
static const struct bw_http_response relayed = { .status = 200 };

static void relay_begin(struct bw_http_exchange *x, const struct bw_http_head *head)
{
	struct bw_http_exchange *other = waiting;

	note("%.*s ", (int)head->path.len, head->path.at);
	waiting = x;
	if (memcmp(head->path.at, "/relay/first", 12) == 0)
		return;
	if (memcmp(head->path.at, "/relay/stream", 13) == 0) {
		assert_true(bw_http_start(
			x, &(struct bw_http_response){ .status = 200, .length = BW_HTTP_UNTIL_END }));
		return;
	}
	if (memcmp(head->path.at, "/relay/end", 10) == 0)
		bw_http_end(other);
	else
		bw_http_reply(other, &relayed, "other", 5, NULL, NULL);
	bw_http_reply(x, &relayed, "mine", 4, NULL, NULL);
	note("begun ");
}

static void relay_closed(struct bw_http_exchange *x)
{
	note("closed ");
	if (waiting != x) /* what is over with the connection hears no answer any more */
		bw_http_reply(waiting, &relayed, "late", 4, NULL, NULL);
}

static const struct bw_http_handler relay_handler = {
	.name = "relay",
	.begin = relay_begin,
	.closed = relay_closed,
};

/* ---- a site of routes ----------------------------------------------------------------------------------- */

static const struct bw_http_constant constants[] = {
	{ .path = "/api/constant", .content_type = "text/plain", .body = "constant", .body_bytes = 8 },
};

static const struct bw_http_route routes[] = {
	{ .path = "/", .is_prefix = true, .handler = &probe_handler, .body_bytes_max = 100000 },
	{ .path = "/api/", .is_prefix = true, .methods = 1 << BW_HTTP_GET, .handler = &probe_handler },
	{ .path = "/post", .methods = 1 << BW_HTTP_POST | 1 << BW_HTTP_PUT, .handler = &bw_http_echo },
	{ .path = "/relay/", .is_prefix = true, .handler = &relay_handler },
	{ .path = "/Arg", .handler = &probe_handler, .arg = big },
	{ .path = "/health", .methods = 1 << BW_HTTP_GET, .handler = &bw_http_health },
};

static const struct bw_http_route echo_alone[] = {
	{ .path = "/echo", .methods = 1 << BW_HTTP_POST, .handler = &bw_http_echo },
};

struct site {
	struct bw_http_conf conf;
	struct fake *f;
	struct bw_stream *s;
	size_t read;
};

static void site_open(struct site *site)
{
	bw_http_conf_init(&site->conf);
	site->conf.site.routes = routes;
	site->conf.site.route_count = BW_ARRAY_LEN(routes);
	site->conf.site.constants = constants;
	site->conf.site.constant_count = BW_ARRAY_LEN(constants);
	site->conf.cache_bytes_max = 1 << 20;
	assert_int_equal(bw_http_conf_prepare(&site->conf), 0);
	site->f = fake_create(&bw_http_service, &site->conf, 1);
	site->s = fake_open(site->f, 0);
	site->read = 0;
	told[0] = '\0';
	released = 0;
}

static void site_close(struct site *site)
{
	fake_destroy(site->f);
	bw_http_conf_release(&site->conf);
}

static void site_reopen(struct site *site)
{
	site->s = fake_open(site->f, 0);
	site->read = 0;
}

static void feed(struct site *site, const char *text)
{
	fake_feed(site->s, text, strlen(text));
}

/* All that came since the last look is `expected`, when Date lines are taken out. */
static void got(struct site *site, const char *expected)
{
	static char plain[8192];
	size_t len, n = 0;
	const char *out = fake_output(site->s, &len) + site->read;

	len -= site->read;
	assert_true(len < sizeof(plain));
	for (size_t i = 0; i < len;) {
		if (len - i > 37 && memcmp(out + i, "Date: ", 6) == 0)
			i += 37;
		else
			plain[n++] = out[i++];
	}
	plain[n] = '\0';
	assert_string_equal(plain, expected);
	site->read += len;
}

#define REQUEST(line) line " HTTP/1.1\r\nHost: h\r\n\r\n"
#define SERVER        "Server: barewire\r\n"
#define TEXT          "Content-Type: text/plain\r\n"

/* ---- stories -------------------------------------------------------------------------------------------- */

static void a_handler_is_told_of_the_request(void **state)
{
	struct site site;

	site_open(&site);
	feed(&site, "GET /%77hole/../w%68ole?a=%20b HTTP/1.1\r\nHost: Example.org:80\r\nX-Not: 1\r\n"
		    "X-NOTE:  two words \t\r\nX-Note: later\r\n\r\n");
	TOLD("/whole?a=%20b@Example.org x-note=two words ");
	got(&site, "HTTP/1.1 200 OK\r\n" SERVER TEXT "Content-Length: 5\r\n\r\nwhole");
	feed(&site, "GET http://[2001:db8::1]:8080?q HTTP/1.1\r\nHost: [2001:db8::1]:8080\r\n\r\n");
	TOLD("/?q@[2001:db8::1] end ");
	site_close(&site);
	TOLD("closed ");
}

static void the_most_specific_route_is_taken(void **state)
{
	struct site site;

	site_open(&site);
	feed(&site, REQUEST("GET /api/constant"));
	TOLD("");
	got(&site, "HTTP/1.1 200 OK\r\n" SERVER "ETag: \"0ca023be65e53d9b\"\r\n" TEXT
		   "Accept-Ranges: bytes\r\nContent-Length: 8\r\n\r\nconstant");
	site_close(&site);
}

static void health(void **state)
{
	struct site site;

	site_open(&site);
	feed(&site, REQUEST("GET /health"));
	got(&site, "HTTP/1.1 200 OK\r\n" SERVER TEXT "Content-Length: 3\r\n\r\nok\n");
	feed(&site, REQUEST("HEAD /health"));
	got(&site, "HTTP/1.1 200 OK\r\n" SERVER TEXT "Content-Length: 3\r\n\r\n");
	/* One that has begun to come before the end began. */
	feed(&site, "GET /health HTTP");
	fake_drain(site.f);
	feed(&site, "/1.1\r\nHost: h\r\n\r\n");
	got(&site, "HTTP/1.1 503 Service Unavailable\r\n" SERVER TEXT
		   "Cache-Control: no-store\r\nContent-Length: 9\r\nConnection: close\r\n\r\ndraining\n");
	site_close(&site);
}

static void echo(void **state)
{
	struct site site;

	site_open(&site);
	feed(&site, "POST /post HTTP/1.1\r\nHost: h\r\nContent-Type: a/b\r\nContent-Length: 5\r\n\r\nhello");
	got(&site, "HTTP/1.1 200 OK\r\n" SERVER "Content-Type: a/b\r\nContent-Length: 5\r\n\r\nhello");
	feed(&site, "PUT /post HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
	got(&site, "");
	feed(&site, "5;x=y\r\nhel");
	got(&site, "HTTP/1.1 200 OK\r\n" SERVER
		   "Content-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel");
	feed(&site, "lo\r\n1\r\n!\r\n0\r\nTrailer: x\r\n\r\n");
	got(&site, "\r\n2\r\nlo\r\n1\r\n!\r\n0\r\n\r\n");
	feed(&site, "POST /post HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
	got(&site, "HTTP/1.1 200 OK\r\n" SERVER
		   "Content-Type: application/octet-stream\r\nContent-Length: 0\r\n\r\n");
	feed(&site, "POST /post HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
	got(&site, "HTTP/1.1 200 OK\r\n" SERVER
		   "Content-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
	assert_false(fake_is_closing(site.s));
	site_close(&site);
}

/* Room comes with the packet that has the last of the body: the handler ends before it is told of room it asked for. */
static void echo_ends_with_room_still_asked_for(void **state)
{
	struct site site;
	char body[300];
	size_t len;

	memset(body, 'x', sizeof(body));
	site_open(&site);
	fake_set_auto_ack(site.s, false);
	fake_set_space(site.s, 250);
	feed(&site, "POST /post HTTP/1.1\r\nHost: h\r\nContent-Length: 300\r\n\r\n");
	fake_feed(site.s, body, 200);
	assert_true(fake_unread(site.s) > 0);
	fake_set_space(site.s, 65536);
	fake_feed(site.s, body, 100);
	fake_ack(site.s, 1000);
	fake_output(site.s, &len);
	assert_true(len > 300);
	assert_int_equal(fake_unread(site.s), 0);
	assert_false(fake_is_closing(site.s));
	site_close(&site);
}

/* The client is told to go on before anything else, and only when the handler has not refused. */
static void expect_continue(void **state)
{
	struct site site;

	site_open(&site);
	feed(&site, "PUT /post HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
	got(&site, "HTTP/1.1 100 Continue\r\n\r\n");
	feed(&site, "ok");
	got(&site, "HTTP/1.1 200 OK\r\n" SERVER
		   "Content-Type: application/octet-stream\r\nContent-Length: 2\r\n\r\nok");
	feed(&site, "PUT /refused HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
	got(&site, "HTTP/1.1 403 Forbidden\r\n" SERVER "Content-Length: 0\r\nConnection: close\r\n\r\n");
	assert_true(fake_is_closing(site.s));
	site_close(&site);
	TOLD("/refused?@h ");
}

/* A response that came before the body did: the body is read all the same, and is no request. */
static void a_body_behind_its_response_is_discarded(void **state)
{
	struct site site;

	site_open(&site);
	feed(&site, "POST /refused HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\n0123");
	got(&site, "HTTP/1.1 403 Forbidden\r\n" SERVER "Content-Length: 0\r\n\r\n");
	feed(&site, "4567890123456789");
	got(&site, "");
	feed(&site, REQUEST("GET /whole"));
	got(&site, "HTTP/1.1 200 OK\r\n" SERVER TEXT "Content-Length: 5\r\n\r\nwhole");
	TOLD("/refused?@h /whole?@h ");
	/* A malformed one cannot be answered a second time: the connection ends. */
	feed(&site, "POST /refused HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n");
	got(&site, "HTTP/1.1 403 Forbidden\r\n" SERVER "Content-Length: 0\r\n\r\n");
	assert_true(fake_is_closing(site.s));
	assert_false(fake_is_aborted(site.s));
	site_close(&site);
}

static void methods_that_no_route_has(void **state)
{
	struct site site;

	site_open(&site);
	feed(&site, REQUEST("OPTIONS /post"));
	got(&site, "HTTP/1.1 204 No Content\r\n" SERVER
		   "Allow: GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS\r\n\r\n");
	feed(&site, REQUEST("TRACE /post"));
	got(&site, "HTTP/1.1 405 Method Not Allowed\r\n" SERVER
		   "Allow: GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS\r\n" TEXT
		   "Content-Length: 23\r\n\r\n405 Method Not Allowed\n");
	site_close(&site);

	bw_http_conf_init(&site.conf);
	site.conf.site.routes = echo_alone;
	site.conf.site.route_count = 1;
	assert_int_equal(bw_http_conf_prepare(&site.conf), 0);
	site.f = fake_create(&bw_http_service, &site.conf, 1);
	site_reopen(&site);
	feed(&site, REQUEST("GET /echo"));
	got(&site, "HTTP/1.1 405 Method Not Allowed\r\n" SERVER "Allow: POST, OPTIONS\r\n" TEXT
		   "Content-Length: 23\r\n\r\n405 Method Not Allowed\n");
	feed(&site, REQUEST("GET /other"));
	got(&site, "HTTP/1.1 404 Not Found\r\n" SERVER TEXT "Content-Length: 14\r\n\r\n404 Not Found\n");
	feed(&site, REQUEST("POST /other"));
	got(&site, "HTTP/1.1 405 Method Not Allowed\r\n" SERVER "Allow: GET, HEAD, OPTIONS\r\n" TEXT
		   "Content-Length: 23\r\n\r\n405 Method Not Allowed\n");
	site_close(&site);
}

static void every_form_of_response(void **state)
{
	struct site site;
	char *expected;
	size_t len, n = 0;
	const char *out;

	site_open(&site);
	feed(&site, REQUEST("DELETE /none"));
	got(&site, "HTTP/1.1 204 No Content\r\n" SERVER "X-A: b\r\n\r\n");
	feed(&site, REQUEST("GET /length"));
	got(&site, "HTTP/1.1 200 OK\r\n" SERVER "Content-Length: 10\r\n\r\n0123456789");
	assert_int_equal(released, 2);
	feed(&site, REQUEST("HEAD /length"));
	got(&site, "HTTP/1.1 200 OK\r\n" SERVER "Content-Length: 10\r\n\r\n");
	assert_int_equal(released, 4);
	feed(&site, REQUEST("HEAD /count"));
	got(&site, "HTTP/1.1 200 OK\r\n" SERVER "Transfer-Encoding: chunked\r\n\r\n");
	feed(&site, REQUEST("GET /big"));
	fake_output(site.s, &len);
	assert_int_equal(released, 5);
	site.read = len;
	/* HTTP/1.0 knows no chunks: the body ends with the connection. */
	feed(&site, "GET /count HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
	out = fake_output(site.s, &len) + site.read;
	expected = strstr(out, "\r\n\r\n");
	assert_non_null(expected);
	assert_non_null(strstr(out, "\r\nConnection: close\r\n"));
	assert_null(strstr(out, "chunked"));
	n = (size_t)(out + len - site.read - expected - 4);
	assert_int_equal(n, 100000);
	assert_memory_equal(expected + 4, big, n);
	assert_true(fake_is_closing(site.s));
	site_close(&site);
}

/* Chunks of whatever fits, through any send space, are the same bytes. */
static void chunks_go_through_any_send_space(void **state)
{
	for (uint32_t space = 1100; space < 3000; space += 37) {
		static char body[100001];
		struct site site;
		const char *at, *end;
		size_t len, n = 0;

		site_open(&site);
		fake_set_space(site.s, space);
		feed(&site, REQUEST("GET /count"));
		fake_run(site.f);
		at = strstr(fake_output(site.s, &len), "\r\n\r\n") + 4;
		for (;;) {
			unsigned long bytes = strtoul(at, (char **)&end, 16);

			assert_memory_equal(end, "\r\n", 2);
			at = end + 2;
			if (bytes == 0)
				break;
			assert_true(n + bytes <= 100000);
			memcpy(body + n, at, bytes);
			n += bytes;
			at += bytes;
			assert_memory_equal(at, "\r\n", 2);
			at += 2;
		}
		assert_memory_equal(at, "\r\n", 3);
		assert_int_equal(n, 100000);
		assert_memory_equal(body, big, n);
		site_close(&site);
	}
}

static void an_empty_buffer_pool_is_waited_out(void **state)
{
	struct site site;
	size_t len;

	for (unsigned count = 1; count < 6; count++) {
		site_open(&site);
		fake_starve(site.s, count);
		feed(&site, "POST /post HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
			    "2\r\nab\r\n0\r\n\r\n");
		fake_advance(site.f, SEC(1));
		fake_output(site.s, &len);
		got(&site, "HTTP/1.1 200 OK\r\n" SERVER
			   "Content-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
			   "2\r\nab\r\n0\r\n\r\n");
		feed(&site, REQUEST("GET /whole"));
		got(&site, "HTTP/1.1 200 OK\r\n" SERVER TEXT "Content-Length: 5\r\n\r\nwhole");
		site_close(&site);
	}
}

static void a_body_is_given_as_it_comes(void **state)
{
	struct site site;

	site_open(&site);
	feed(&site, "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nab");
	feed(&site, "cd");
	feed(&site, "ef");
	TOLD("/x?@h ab|cd|ef|end ");
	bw_http_reply(last_exchange, &(struct bw_http_response){ .status = 202 }, NULL, 0, NULL, NULL);
	fake_run(site.f);
	got(&site, "HTTP/1.1 202 Accepted\r\n" SERVER "Content-Length: 0\r\n\r\n");
	/* What is not taken comes again, until all is. */
	feed(&site, "POST /sip HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
	for (int i = 0; i < 3; i++) {
		bw_http_read(last_exchange);
		fake_run(site.f);
	}
	TOLD("/sip?@h a|b|c|end ");
	got(&site, "HTTP/1.1 200 OK\r\n" SERVER "Content-Length: 4\r\n\r\nread");
	assert_int_equal(fake_unread(site.s), 0);
	site_close(&site);
}

/* A handler that does not read is no fault of the peer's, whose bytes stay in the receive queue. */
static void a_handler_may_pause(void **state)
{
	struct site site;

	site_open(&site);
	feed(&site, "POST /pause HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
	fake_advance(site.f, SEC(600));
	assert_false(fake_is_closing(site.s));
	assert_int_equal(fake_unread(site.s), 5);
	feed(&site, "0\r\n\r\n");
	assert_int_equal(fake_unread(site.s), 10);
	TOLD("/pause?@h ");
	((struct probe *)bw_http_state(last_exchange))->step = 1;
	bw_http_read(last_exchange);
	fake_run(site.f);
	TOLD("abc|end ");
	got(&site, "HTTP/1.1 200 OK\r\n" SERVER "Content-Length: 4\r\n\r\nread");
	site_close(&site);
}

/* What comes behind an exchange is handed over meanwhile, and answered in its turn. */
static void answers_keep_the_order_of_requests(void **state)
{
	struct site site;
	struct bw_http_exchange *first;

	site_open(&site);
	feed(&site, REQUEST("GET /x"));
	first = last_exchange;
	feed(&site, REQUEST("GET /whole") REQUEST("GET /length") REQUEST("GET /health"));
	TOLD("/x?@h end /whole?@h /length?@h end ");
	got(&site, "");
	bw_http_start(first, &(struct bw_http_response){ .status = 200, .length = 2 });
	assert_int_equal(bw_http_write(first, "ab", 2), 2);
	bw_http_end(first);
	fake_run(site.f);
	TOLD("writable ");
	got(&site, "HTTP/1.1 200 OK\r\n" SERVER "Content-Length: 2\r\n\r\nab"
		   "HTTP/1.1 200 OK\r\n" SERVER TEXT "Content-Length: 5\r\n\r\nwhole");
	/* The one that needs its turn to begin has it now. */
	bw_http_start(
		last_exchange, &(struct bw_http_response){ .status = 200, .length = BW_HTTP_UNTIL_END });
	bw_http_end(last_exchange);
	fake_run(site.f);
	got(&site, "HTTP/1.1 200 OK\r\n" SERVER "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
		   "HTTP/1.1 200 OK\r\n" SERVER TEXT "Content-Length: 3\r\n\r\nok\n");
	site_close(&site);
}

static void the_pipelines_depth_is_bounded(void **state)
{
	struct site site;
	struct bw_http_exchange *first;

	site_open(&site);
	feed(&site, REQUEST("GET /x"));
	first = last_exchange;
	for (int i = 0; i < 100; i++)
		feed(&site, REQUEST("GET /whole"));
	assert_int_equal(fake_unread(site.s), (101 - 64) * strlen(REQUEST("GET /whole")));
	told[0] = '\0';
	bw_http_reply(first, &(struct bw_http_response){ .status = 200 }, "x", 1, NULL, NULL);
	fake_run(site.f);
	assert_int_equal(fake_unread(site.s), 0);
	site_close(&site);
}

static void jobs(void **state)
{
	struct site site;

	site_open(&site);
	fake_hold_jobs(site.f, true);
	feed(&site, REQUEST("GET /job") REQUEST("GET /job") REQUEST("GET /whole"));
	fake_advance(site.f, SEC(600)); /* our own helper's time is no idleness */
	got(&site, "");
	fake_run_jobs(site.f, 2);
	fake_run(site.f);
	TOLD("/job?@h end /job?@h end /whole?@h done done ");
	got(&site, "HTTP/1.1 201 Created\r\n" SERVER TEXT "Content-Length: 6\r\n\r\nworked"
		   "HTTP/1.1 201 Created\r\n" SERVER TEXT "Content-Length: 6\r\n\r\nworked"
		   "HTTP/1.1 200 OK\r\n" SERVER TEXT "Content-Length: 5\r\n\r\nwhole");
	/* The connection may be gone by then. */
	feed(&site, REQUEST("GET /job"));
	fake_peer_reset(site.s);
	TOLD("/job?@h end ");
	fake_run_jobs(site.f, 1);
	TOLD("done for nobody ");
	site_close(&site);
}

static void a_body_that_goes_wrong(void **state)
{
	static const struct {
		const char *body, *status;
	} cases[] = {
		{ "3\r\nabc\r\nx", "400 Bad Request" },
		{ "3\r\nabc\r\nfffff\r\n", "413 Content Too Large" },
	};
	struct site site;

	for (unsigned i = 0; i < BW_ARRAY_LEN(cases); i++) {
		char expected[512];

		site_open(&site);
		feed(&site, "POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
		feed(&site, cases[i].body);
		TOLD("/x?@h abc|closed ");
		snprintf(expected, sizeof(expected),
			"HTTP/1.1 %s\r\n" SERVER TEXT "Content-Length: %zu\r\nConnection: close\r\n\r\n%s\n",
			cases[i].status, strlen(cases[i].status) + 1, cases[i].status);
		got(&site, expected);
		assert_true(fake_is_closing(site.s));
		site_close(&site);
		TOLD("");
	}

	site_open(&site); /* too late */
	feed(&site, "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc");
	fake_advance(site.f, SEC(11));
	TOLD("/x?@h abc|closed ");
	got(&site, "HTTP/1.1 408 Request Timeout\r\n" SERVER TEXT
		   "Content-Length: 20\r\nConnection: close\r\n\r\n408 Request Timeout\n");
	site_close(&site);

	site_open(&site); /* a response that has begun cannot be taken back */
	feed(&site, "POST /half HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx");
	assert_true(fake_is_aborted(site.s));
	site_close(&site);
	TOLD("/half?@h closed ");

	site_open(&site); /* a job that is out is waited for */
	fake_hold_jobs(site.f, true);
	feed(&site, "POST /job HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx");
	got(&site, "HTTP/1.1 400 Bad Request\r\n" SERVER TEXT
		   "Content-Length: 16\r\nConnection: close\r\n\r\n400 Bad Request\n");
	fake_run_jobs(site.f, 1);
	TOLD("/job?@h done for nobody ");
	site_close(&site);

	site_open(&site); /* the peer ends in the middle */
	feed(&site, "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc");
	fake_peer_close(site.s);
	TOLD("/x?@h abc|closed ");
	got(&site, "HTTP/1.1 400 Bad Request\r\n" SERVER TEXT
		   "Content-Length: 16\r\nConnection: close\r\n\r\n400 Bad Request\n");
	site_close(&site);
}

static void limits_of_a_route(void **state)
{
	struct site site;

	site_open(&site); /* "/" allows 100,000 bytes, "/post" the service's mebibyte */
	feed(&site, "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 100001\r\n\r\n");
	got(&site, "HTTP/1.1 413 Content Too Large\r\n" SERVER TEXT
		   "Content-Length: 22\r\nConnection: close\r\n\r\n413 Content Too Large\n");
	TOLD("");
	site_reopen(&site);
	feed(&site, "POST /post HTTP/1.1\r\nHost: h\r\nContent-Length: 100001\r\n\r\n");
	got(&site, "");
	site_close(&site);
}

static void a_handler_may_abort(void **state)
{
	struct site site;

	site_open(&site);
	feed(&site, REQUEST("GET /abort") REQUEST("GET /whole"));
	assert_true(fake_is_aborted(site.s));
	site_close(&site);
	TOLD("/abort?@h ");
}

/* A peer that reads nothing is reset after the idle time; one that reads a little is not. */
static void a_peer_that_does_not_read(void **state)
{
	struct site site;

	site_open(&site);
	fake_set_space(site.s, 4096);
	fake_set_auto_ack(site.s, false);
	feed(&site, REQUEST("GET /count"));
	for (int i = 0; i < 4; i++) {
		fake_advance(site.f, SEC(50));
		assert_false(fake_is_aborted(site.s));
		fake_ack(site.s, 4096);
		fake_run(site.f);
	}
	fake_advance(site.f, SEC(61));
	assert_true(fake_is_aborted(site.s));
	site_close(&site);
	TOLD("/count?@h end closed ");
}

/* Every split of a pipeline of bodies gives the same answers. */
static void every_segmentation_gives_the_same_answers(void **state)
{
	static const char stream[] = "POST /post HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
				     "POST /refused HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
				     "GET /length HTTP/1.1\r\nHost: h\r\n\r\n"
				     "POST /pos HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
				     "2\r\nab\r\n1;x\r\nc\r\n0\r\nT: t\r\n\r\n"
				     "GET /whole HTTP/1.1\r\nHost: h\r\n\r\n";
	struct site site;

	for (size_t step = 1; step < sizeof(stream); step++) {
		site_open(&site);
		fake_feed_split(site.s, stream, sizeof(stream) - 1, step);
		((struct probe *)bw_http_state(last_exchange))->step = 1;
		bw_http_read(last_exchange);
		fake_run(site.f);
		got(&site, "HTTP/1.1 200 OK\r\n" SERVER
			   "Content-Type: application/octet-stream\r\nContent-Length: 5\r\n\r\nhello"
			   "HTTP/1.1 403 Forbidden\r\n" SERVER "Content-Length: 0\r\n\r\n"
			   "HTTP/1.1 200 OK\r\n" SERVER "Content-Length: 10\r\n\r\n0123456789"
			   "HTTP/1.1 200 OK\r\n" SERVER "Content-Length: 4\r\n\r\nread"
			   "HTTP/1.1 200 OK\r\n" SERVER TEXT "Content-Length: 5\r\n\r\nwhole");
		site_close(&site);
	}
}

/* ---- what one exchange does to another ------------------------------------------------------------------ */

static void a_callback_may_answer_another_exchange(void **state)
{
	struct site site;

	site_open(&site);
	feed(&site, REQUEST("GET /relay/first") REQUEST("GET /relay/second"));
	TOLD("/relay/first /relay/second begun ");
	got(&site, "HTTP/1.1 200 OK\r\n" SERVER "Content-Length: 5\r\n\r\nother"
		   "HTTP/1.1 200 OK\r\n" SERVER "Content-Length: 4\r\n\r\nmine");
	/* The other one is of another connection. */
	feed(&site, REQUEST("GET /relay/first"));
	struct bw_stream *first = site.s;
	site_reopen(&site);
	feed(&site, REQUEST("GET /relay/second"));
	got(&site, "HTTP/1.1 200 OK\r\n" SERVER "Content-Length: 4\r\n\r\nmine");
	fake_run(site.f);
	assert_non_null(strstr(fake_output(first, NULL), "\r\n\r\nother"));
	/* What the callback ends has the connection end with it: not below its own feet. */
	told[0] = '\0';
	feed(&site, "GET /relay/stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" REQUEST("GET /relay/end"));
	TOLD("/relay/stream /relay/end begun ");
	got(&site, "HTTP/1.1 200 OK\r\n" SERVER "Connection: close\r\n\r\n");
	assert_true(fake_is_closing(site.s));
	assert_false(fake_is_aborted(site.s));
	site_close(&site);

	site_open(&site);
	feed(&site, REQUEST("GET /relay/first") REQUEST("GET /relay/first"));
	told[0] = '\0';
	fake_peer_reset(site.s);
	TOLD("closed closed ");
	site_close(&site);
}

/* What a handler leaves unread when it has said all is nobody's: it is discarded, and its peer's time runs. */
static void a_body_that_is_left(void **state)
{
	struct site site;

	site_open(&site); /* in body() */
	feed(&site,
		"POST /Left HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nabcdef" REQUEST("GET /whole"));
	TOLD("/Left?@h left /whole?@h ");
	got(&site, "HTTP/1.1 200 OK\r\n" SERVER "Content-Length: 0\r\n\r\n"
		   "HTTP/1.1 200 OK\r\n" SERVER TEXT "Content-Length: 5\r\n\r\nwhole");
	assert_int_equal(fake_unread(site.s), 0);
	feed(&site, "POST /Left HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab");
	TOLD("/Left?@h left ");
	fake_advance(site.f, SEC(130));
	assert_true(fake_is_closing(site.s));
	site_close(&site);

	site_open(&site); /* after it */
	feed(&site, "POST /pause HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nabc");
	assert_int_equal(fake_unread(site.s), 3);
	bw_http_reply(last_exchange, &(struct bw_http_response){ .status = 200 }, NULL, 0, NULL, NULL);
	fake_run(site.f);
	got(&site, "HTTP/1.1 200 OK\r\n" SERVER "Content-Length: 0\r\n\r\n");
	assert_int_equal(fake_unread(site.s), 0);
	fake_advance(site.f, SEC(130));
	assert_true(fake_is_closing(site.s));
	site_close(&site);

	site_open(&site); /* and the peer has ended */
	feed(&site, "POST /Left HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nabc");
	fake_peer_close(site.s);
	got(&site, "HTTP/1.1 200 OK\r\n" SERVER "Content-Length: 0\r\n\r\n");
	assert_true(fake_is_closed(site.s));
	assert_false(fake_is_aborted(site.s));
	site_close(&site);
}

/* The end of the service waits for a body, and for nothing behind it. */
static void a_drain_in_the_middle_of_a_body(void **state)
{
	struct site site;

	site_open(&site);
	feed(&site, "POST /sip HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n");
	fake_drain(site.f);
	assert_false(fake_is_closing(site.s));
	feed(&site, "a");
	feed(&site, "b");
	got(&site, "HTTP/1.1 200 OK\r\n" SERVER "Content-Length: 4\r\n\r\nread");
	assert_true(fake_is_closing(site.s));
	site_close(&site);
}

/* A job that is out when the body goes wrong ends as any other: with all that is the handler's. */
static void a_late_job_has_its_arg(void **state)
{
	struct site site;

	site_open(&site);
	fake_hold_jobs(site.f, true);
	fake_set_space(site.s, 10); /* the refusal waits, and the exchange with it */
	fake_set_auto_ack(site.s, false);
	feed(&site, "POST /Arg HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx");
	fake_run_jobs(site.f, 1);
	TOLD("/Arg?@h done with its arg ");
	fake_set_auto_ack(site.s, true);
	fake_set_space(site.s, 4096);
	fake_advance(site.f, SEC(1));
	site_close(&site);
}

/* The Date of an answer is of when it is given. */
static void an_answer_has_its_own_date(void **state)
{
	struct site site;
	char *first, *second;

	site_open(&site);
	fake_hold_jobs(site.f, true);
	feed(&site, REQUEST("GET /whole") REQUEST("GET /job"));
	fake_advance(site.f, SEC(20));
	fake_run_jobs(site.f, 1);
	fake_run(site.f);
	first = strstr(fake_output(site.s, NULL), "\r\nDate: ");
	assert_non_null(first);
	second = strstr(first + 1, "\r\nDate: ");
	assert_non_null(second);
	assert_memory_not_equal(first, second, 37);
	site_close(&site);
	told[0] = '\0';
}

/* A whole response is not lost because the body, which it has not waited for, goes wrong. */
static void a_whole_response_survives_its_body(void **state)
{
	struct site site;
	size_t len;

	site_open(&site);
	fake_set_space(site.s, 2000);
	fake_set_auto_ack(site.s, false);
	feed(&site, "POST /big HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
	feed(&site, "x\r\n");
	assert_false(fake_is_closing(site.s));
	fake_set_auto_ack(site.s, true);
	fake_run(site.f);
	fake_output(site.s, &len);
	assert_true(len > sizeof(big));
	assert_true(fake_is_closing(site.s));
	assert_false(fake_is_aborted(site.s));
	assert_int_equal(released, 1);
	site_close(&site);
	told[0] = '\0';
}

/* Who answers instead of reading what the client has asked leave to send must not take a request for that. */
static void a_stream_instead_of_a_body_closes(void **state)
{
	struct site site;

	site_open(&site);
	feed(&site, "PUT /length HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 200\r\n\r\n");
	got(&site, "HTTP/1.1 200 OK\r\n" SERVER "Content-Length: 10\r\nConnection: close\r\n\r\n0123456789");
	assert_true(fake_is_closing(site.s));
	site_close(&site);
	told[0] = '\0';
}

/* All that a site and a handler may say together is more than a head holds: the site's goes. */
static void heads_are_bounded(void **state)
{
	static char value[BW_HTTP_HEADERS_BYTES_MAX], fields[BW_HTTP_FIELDS_MAX];
	static const struct bw_http_header header = { .name = "X-Site", .value = value };
	const struct bw_http_response response = { .status = 431, .fields = fields };
	struct site site;

	memset(value, 's', sizeof(value) - strlen("X-Site: \r\n") - 1);
	memset(fields, 'f', sizeof(fields) - 1);
	memcpy(fields, "X-Handler: ", 11);
	memcpy(fields + sizeof(fields) - 3, "\r\n", 3);
	bw_http_conf_init(&site.conf);
	site.conf.site.routes = routes;
	site.conf.site.route_count = BW_ARRAY_LEN(routes);
	site.conf.site.headers = &header;
	site.conf.site.header_count = 1;
	assert_int_equal(bw_http_conf_prepare(&site.conf), 0);
	site.f = fake_create(&bw_http_service, &site.conf, 1);
	site_reopen(&site);
	feed(&site, "GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
	bw_http_reply(last_exchange, &response, big, 100000, NULL, NULL);
	fake_run(site.f);
	assert_non_null(strstr(fake_output(site.s, NULL), "\r\nX-Handler: fff"));
	assert_null(strstr(fake_output(site.s, NULL), "X-Site"));
	site_close(&site);
	told[0] = '\0';
}

/* ---- hosts ---------------------------------------------------------------------------------------------- */

static void a_host_has_its_own_site(void **state)
{
	static const struct bw_http_constant pages[] = {
		{ .path = "/", .body = "default", .body_bytes = 7 },
		{ .path = "/", .body = "a", .body_bytes = 1 },
		{ .path = "/", .body = "wild", .body_bytes = 4 },
		{ .path = "/", .body = "deep", .body_bytes = 4 },
	};
	static const char *const a_names[] = { "a.example", "192.0.2.1", "[2001:db8::1]" };
	static const char *const wild_names[] = { "*.example" };
	static const char *const deep_names[] = { "*.b.example" };
	static const struct bw_http_site hosts[] = {
		{ .names = a_names, .name_count = 3, .constants = &pages[1], .constant_count = 1 },
		{ .names = wild_names, .name_count = 1, .constants = &pages[2], .constant_count = 1 },
		{ .names = deep_names,
			.name_count = 1,
			.constants = &pages[3],
			.constant_count = 1,
			.routes = echo_alone,
			.route_count = 1 },
	};
	static const struct {
		const char *host, *body;
	} cases[] = {
		{ "a.example", "a" },
		{ "A.Example:8080", "a" },
		{ "a.example.", "a" },
		{ "192.0.2.1", "a" },
		{ "[2001:DB8::1]:80", "a" },
		{ "c.example", "wild" },
		{ "c.d.example", "wild" },
		{ "b.example", "wild" },
		{ "x.b.example", "deep" },
		{ "x.y.b.example", "deep" },
		{ "example", "default" },
		{ "example.", "default" },
		{ "other", "default" },
		{ "", "default" },
		{ ".", "default" },
		{ "a.example", "a" },
	};
	struct site site;

	bw_http_conf_init(&site.conf);
	site.conf.site.constants = pages;
	site.conf.site.constant_count = 1;
	site.conf.hosts = hosts;
	site.conf.host_count = BW_ARRAY_LEN(hosts);
	assert_int_equal(bw_http_conf_prepare(&site.conf), 0);
	site.f = fake_create(&bw_http_service, &site.conf, 1);
	site_reopen(&site);
	for (unsigned i = 0; i < BW_ARRAY_LEN(cases); i++) {
		char request[256];
		const char *out;
		size_t len;

		snprintf(request, sizeof(request), "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", cases[i].host);
		feed(&site, request);
		out = strstr(fake_output(site.s, &len) + site.read, "\r\n\r\n");
		assert_non_null(out);
		assert_string_equal(out + 4, cases[i].body);
		site.read = len;
	}
	feed(&site, "POST /echo HTTP/1.1\r\nHost: z.b.example\r\nContent-Length: 1\r\n\r\n!");
	got(&site, "HTTP/1.1 200 OK\r\n" SERVER
		   "Content-Type: application/octet-stream\r\nContent-Length: 1\r\n\r\n!");
	feed(&site, "POST /echo HTTP/1.1\r\nHost: b.example\r\nContent-Length: 0\r\n\r\n");
	got(&site, "HTTP/1.1 405 Method Not Allowed\r\n" SERVER "Allow: GET, HEAD, OPTIONS\r\n" TEXT
		   "Content-Length: 23\r\n\r\n405 Method Not Allowed\n");
	site_close(&site);
}

static void what_cannot_be_served_is_refused(void **state)
{
	static const char *const bad_names[] = { "Upper.example", "a.example:80", ".example", "example.", "*",
		"a b", "" };
	static const char *const twice[] = { "a.example", "b.example", "a.example" };
	struct bw_http_route bad[] = {
		{ .path = "/a", .handler = &bw_http_echo },
		{ .path = "/a", .methods = 1 << BW_HTTP_GET, .handler = &bw_http_echo },
	};
	static const char *const bad_paths[] = { "a", "", "/a/../b", "//", "/%41" };
	struct bw_http_site host = { .names = bad_names, .name_count = 1 };
	struct bw_http_conf conf;

	for (unsigned i = 0; i < BW_ARRAY_LEN(bad_names); i++) {
		bw_http_conf_init(&conf);
		host.names = &bad_names[i];
		conf.hosts = &host;
		conf.host_count = 1;
		assert_int_equal(bw_http_conf_prepare(&conf), -EINVAL);
	}
	host.names = twice;
	host.name_count = 3;
	assert_int_equal(bw_http_conf_prepare(&conf), -EINVAL);
	bw_http_conf_init(&conf);
	conf.site.routes = bad;
	conf.site.route_count = 2;
	assert_int_equal(bw_http_conf_prepare(&conf), -EINVAL);
	conf.site.route_count = 1;
	for (unsigned i = 0; i < BW_ARRAY_LEN(bad_paths); i++) {
		bad[0].path = bad_paths[i];
		assert_int_equal(bw_http_conf_prepare(&conf), -EINVAL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_handler_is_told_of_the_request),
		cmocka_unit_test(the_most_specific_route_is_taken),
		cmocka_unit_test(health),
		cmocka_unit_test(echo),
		cmocka_unit_test(echo_ends_with_room_still_asked_for),
		cmocka_unit_test(expect_continue),
		cmocka_unit_test(a_body_behind_its_response_is_discarded),
		cmocka_unit_test(methods_that_no_route_has),
		cmocka_unit_test(every_form_of_response),
		cmocka_unit_test(chunks_go_through_any_send_space),
		cmocka_unit_test(an_empty_buffer_pool_is_waited_out),
		cmocka_unit_test(a_body_is_given_as_it_comes),
		cmocka_unit_test(a_handler_may_pause),
		cmocka_unit_test(answers_keep_the_order_of_requests),
		cmocka_unit_test(the_pipelines_depth_is_bounded),
		cmocka_unit_test(jobs),
		cmocka_unit_test(a_body_that_goes_wrong),
		cmocka_unit_test(limits_of_a_route),
		cmocka_unit_test(a_handler_may_abort),
		cmocka_unit_test(a_peer_that_does_not_read),
		cmocka_unit_test(every_segmentation_gives_the_same_answers),
		cmocka_unit_test(a_callback_may_answer_another_exchange),
		cmocka_unit_test(a_body_that_is_left),
		cmocka_unit_test(a_drain_in_the_middle_of_a_body),
		cmocka_unit_test(a_late_job_has_its_arg),
		cmocka_unit_test(an_answer_has_its_own_date),
		cmocka_unit_test(a_whole_response_survives_its_body),
		cmocka_unit_test(a_stream_instead_of_a_body_closes),
		cmocka_unit_test(heads_are_bounded),
		cmocka_unit_test(a_host_has_its_own_site),
		cmocka_unit_test(what_cannot_be_served_is_refused),
	};

	for (unsigned i = 0; i < sizeof(big); i++)
		big[i] = (char)('0' + i % 10);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
