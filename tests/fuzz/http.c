/* SPDX-License-Identifier: BSD-3-Clause */
/** HTTP: the parser alone, and the service with files and constants. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <base/log.h>
#include <service/http.h>

#include "http/parse.h"
#include "service.h"

static const struct bw_http_constant constants[] = {
	{ .path = "/ok", .content_type = "text/plain", .body = "ok\n", .body_bytes = 3 },
	{ .path = "/teapot", .content_type = "text/plain", .body = "short", .body_bytes = 5, .status = 418 },
	{ .path = "/none", .status = 204 },
};
static const char *const names[] = { "index.html", "a.txt", "big", "sub/index.html", "sub", "" };
static char root[] = "/tmp/bw-fuzz-http-XXXXXX";
static struct bw_http_conf conf;
static char log_path[128];
static char tags[4][32] = { "\"none\"", "\"none\"", "\"none\"", "\"none\"" };

static void path_of(const char *name, char path[static 128])
{
	snprintf(path, 128, "%s/%s", root, name);
}

static void remove_files(void)
{
	char path[128];

	remove(log_path);
	for (unsigned i = 0; i < BW_ARRAY_LEN(names); i++) {
		path_of(names[i], path);
		remove(path);
	}
}

static void learn_tags(void);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const unsigned sizes[] = { 20, 5, 70000, 1 };
	static const struct timespec modified[2] = { { 1600000000, 0 }, { 1600000000, 0 } };
	char path[128];

	BW_ASSERT(mkdtemp(root) != NULL);
	path_of("sub", path);
	BW_ASSERT(mkdir(path, 0700) == 0);
	for (unsigned i = 0; i < BW_ARRAY_LEN(sizes); i++) {
		FILE *file;

		path_of(names[i], path);
		file = fopen(path, "we");
		BW_ASSERT(file != NULL);
		for (unsigned n = 0; n < sizes[i]; n++)
			fputc('a' + (int)(n % 26), file);
		fclose(file);
		BW_ASSERT(utimensat(AT_FDCWD, path, modified, 0) == 0);
	}
	path_of("log", log_path);
	atexit(remove_files);
	bw_log_set_level(BW_LOG_ERROR);
	learn_tags();
	return 0;
}

struct fake *fuzz_service_start(uint8_t settings)
{
	bw_http_conf_init(&conf);
	conf.site.root = root;
	conf.watches_max = 0; /* what it tells of a file comes when it likes */
	conf.site.constants = constants;
	conf.site.constant_count = BW_ARRAY_LEN(constants);
	conf.cache_bytes_max = settings & 1 ? 1 << 20 : 1 << 16;
	if (settings & 2)
		conf.pipeline_depth_max = 2;
	if (settings & 4) {
		conf.request_line_bytes_max = 64;
		conf.header_bytes_max = 512;
	}
	if (settings & 8)
		conf.body_bytes_max = 100;
	conf.access_log = log_path;
	conf.access_log_format = settings & 1 ? BW_HTTP_LOG_JSON : BW_HTTP_LOG_COMBINED;
	conf.access_log_bytes_max = 64 << 10;
	BW_ASSERT_EQ(bw_http_conf_prepare(&conf), 0);
	return fake_create(&bw_http_service, &conf, settings & 16 ? 2 : 1);
}

/** No byte of a request ends a line of the access log, or a field. */
static void check_log_line(const char *line, size_t len)
{
	unsigned quotes = 0;

	for (size_t i = 0; i < len; i++) {
		BW_ASSERT((uint8_t)line[i] >= ' ' && line[i] != 0x7f);
		BW_ASSERT((uint8_t)line[i] < 0x80 || conf.access_log_format == BW_HTTP_LOG_JSON);
		if (line[i] == '\\' && conf.access_log_format == BW_HTTP_LOG_JSON)
			i++;
		else
			quotes += line[i] == '"';
	}
	if (conf.access_log_format == BW_HTTP_LOG_JSON)
		BW_ASSERT(len > 100 && memcmp(line, "{\"time\":\"2023-", 14) == 0 && line[len - 1] == '}' &&
			  quotes % 2 == 0);
	else
		BW_ASSERT(len > 50 && strncmp(line, "192.0.2.", 8) == 0 && quotes == 6);
}

static void check_log(void)
{
	static char text[1 << 20];
	FILE *file = fopen(log_path, "re");
	size_t len;

	BW_ASSERT(file != NULL);
	len = fread(text, 1, sizeof(text), file);
	fclose(file);
	for (char *line = text, *end; line < text + len; line = end + 1) {
		end = memchr(line, '\n', (size_t)(text + len - line));
		if (end == NULL && len == sizeof(text))
			break;
		BW_ASSERT(end != NULL);
		check_log_line(line, (size_t)(end - line));
	}
	BW_ASSERT(truncate(log_path, 0) == 0);
}

void fuzz_service_stop(struct fake *f)
{
	fake_destroy(f);
	bw_http_conf_release(&conf);
	check_log();
}

/** The first head: a status line, and fields that no byte of the request could have broken. */
void fuzz_service_check(const char *output, size_t len, bool is_whole)
{
	const char *end = memmem(output, len, "\r\n\r\n", 4);

	if (len == 0)
		return;
	BW_ASSERT(len > 12 && memcmp(output, "HTTP/1.1 ", 9) == 0 && end != NULL);
	for (const char *line = strstr(output, "\r\n") + 2; line < end + 2; line = strstr(line, "\r\n") + 2) {
		const char *line_end = strstr(line, "\r\n"),
			   *colon = memmem(line, (size_t)(line_end - line), ": ", 2);

		BW_ASSERT(colon != NULL && colon > line);
		for (const char *p = line; p < line_end; p++)
			BW_ASSERT((uint8_t)*p >= ' ' && *p != 0x7f);
	}
}

/** Whether a client has to be told to go on depends on whether it already does. */
size_t fuzz_service_strip(char *output, size_t len)
{
	static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
	char *at;

	while ((at = memmem(output, len, go_on, sizeof(go_on) - 1)) != NULL) {
		len -= sizeof(go_on) - 1;
		memmove(at, at + sizeof(go_on) - 1, len - (size_t)(at - output));
	}
	return len;
}

static bool is_refusal(const char *output, size_t len, size_t at)
{
	return at == len || strncmp(output + at, "HTTP/1.1 4", 10) == 0;
}

/**
 * Of several things that are wrong with a request, the one that is seen first is told, and what never becomes complete
 * may be refused before it does. So from the first answer on that differs, both have refused, or not answered yet.
 */
bool fuzz_service_may_differ(const char *a, size_t a_len, const char *b, size_t b_len)
{
	const char *longer = a_len > b_len ? a : b;
	size_t at = 0, shorter_len = BW_MIN(a_len, b_len);

	while (at < shorter_len && a[at] == b[at])
		at++;
	while (at > 0 && strncmp(longer + at, "HTTP/1.1 ", 9) != 0)
		at--;
	return is_refusal(a, a_len, at) && is_refusal(b, b_len, at);
}

/** A date does not change within the second that a run takes. */
bool fuzz_service_is_timed(const char *text, size_t len)
{
	(void)text;
	(void)len;
	return false;
}

/* ---- composing -------------------------------------------------------------------------------------------- */

static const char *const methods[] = { "GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "get", "CONNECT" };
static const char *const targets[] = { "/", "/a.txt", "/big", "/ok", "/teapot", "/none", "/sub", "/sub/",
	"/missing", "/%61.txt", "/sub/../a.txt", "/a.txt?q=1", "http://x/a.txt", "*", "/..", "/%00" };
static const char *const fields[] = {
	"Connection: close", "Connection: keep-alive", "Expect: 100-continue", "Range: bytes=0-0",
	"Range: bytes=-5", "Range: bytes=2-", "Range: bytes=1-3", "Range: bytes=100000-",
	"Range: bytes=0-1,3-4", "Range: bytes=-0", "Range: lines=1-2", "If-None-Match: *", "If-Match: *",
	"If-Match: \"0\"", "If-None-Match: W/\"0\", \"1\"",
	"If-Modified-Since: Sun, 13 Sep 2020 12:26:40 GMT",
	"If-Modified-Since: Sunday, 13-Sep-20 12:26:39 GMT", "If-Unmodified-Since: Sun Sep 13 12:26:39 2020",
	"If-Unmodified-Since: Sun, 13 Sep 2020 12:26:40 GMT", "If-Range: Sun, 13 Sep 2020 12:26:40 GMT",
	"If-Range: \"0\"", "Accept: */*", "Accept-Encoding: br;q=0.5, gzip, *;q=0", "Host: x",
	"Content-Length: 3", "Content-Length: 03, 3", "Transfer-Encoding: gzip", "X: \t y ", " folded",
	"Expect: more", "TE: trailers", "Host: [::1]:80",
	"If-None-Match: \"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"10\",\"11\""
};

static void put_length_body(struct fuzz_input *in, struct fuzz_text *text)
{
	static const uint16_t lengths[] = { 0, 1, 5, 100, 101, 1500, 3000, 20000 };
	static const uint8_t body[20000];
	uint8_t how = fuzz_u8(in);
	uint16_t len = lengths[how & 7];

	fuzz_printf(text, "Content-Length: %u\r\n\r\n", len);
	/* Not always all of it. */
	fuzz_put(text, body, how >= 0xf0 ? len / 2u : len);
}

static void put_chunks(struct fuzz_input *in, struct fuzz_text *text)
{
	static const char *const extensions[] = { "", ";a", ";a=b", ";a=\"b;\\\"c\"", " ;a", "\t", ";",
		";=" };
	static const char *const ends[] = { "0\r\n\r\n", "0\r\nX: y\r\n\r\n", "000;a\r\n\r\n", "0\n\n",
		"0\r\nContent-Length: 1\r\n\r\n", "g\r\n", "fffffffffffffffff\r\n", "" };
	static const uint8_t body[1024];
	uint8_t how = fuzz_u8(in);

	fuzz_printf(text, "Transfer-Encoding: chunked\r\n\r\n");
	for (unsigned i = 0; i < (how & 7u); i++) {
		uint8_t chunk = fuzz_u8(in);
		unsigned len = 1u + (chunk & 0x1f) * (chunk & 0x20 ? 33u : 1u);

		/* The first alternative is the usual one. */
		fuzz_printf(text, chunk & 0x20 ? "%X%s\r\n" : "%x%s\r\n", len,
			extensions[chunk >= 0xc0 ? how >> 5 : 0]);
		fuzz_put(text, body, len);
		fuzz_put(text, "\r\n", 2);
	}
	fuzz_put(text, ends[how >> 5], strlen(ends[how >> 5]));
}

/** A request line, fields, and a body as it may be framed. */
void fuzz_service_compose(struct fuzz_input *in, struct fuzz_text *text)
{
	uint8_t line = fuzz_u8(in), form = fuzz_u8(in);
	static const char *const versions[] = { "1.1", "1.1", "1.1", "1.0" };

	if (line == 255) {
		/* As it is: what may be no request at all. */
		size_t len;
		uint8_t *bytes = fuzz_bytes(in, form & 63, &len);

		fuzz_put(text, bytes, len);
		free(bytes);
		return;
	}
	fuzz_printf(text, "%s %s HTTP/%s\r\n", methods[line < 128 ? line >> 4 : line >> 4 & 1],
		targets[line & 15], versions[form & 3]);
	if ((form & 0x1c) != 0x1c)
		fuzz_printf(text, "Host: x\r\n");
	for (unsigned i = 0; i < (form >> 2 & 7u); i++) {
		uint8_t field = fuzz_u8(in);

		if (field < 16)
			fuzz_printf(text, "%s: %s\r\n",
				((const char *const[]){ "If-Match", "If-None-Match", "If-Range" })[field % 3],
				tags[field >> 2 & 3]);
		else
			fuzz_printf(text, "%s\r\n", fields[field % BW_ARRAY_LEN(fields)]);
	}
	switch (form >> 5) {
	case 0 ... 3:
		fuzz_put(text, "\r\n", 2);
		return;
	case 4 ... 5:
		put_length_body(in, text);
		return;
	default:
		put_chunks(in, text);
	}
}

/** What the files' entity tags are, which differs from run to run for the large one. */
static void learn_tags(void)
{
	static const char *const of[] = { "/a.txt", "/big", "/ok", "/sub/" };

	for (unsigned i = 0; i < BW_ARRAY_LEN(of); i++) {
		struct fake *f = fuzz_service_start(0);
		struct bw_stream *s = fake_open(f, 0);
		char request[64];
		const char *tag;

		fake_feed(s, request,
			(size_t)snprintf(
				request, sizeof(request), "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", of[i]));
		fake_run(f);
		tag = strstr(fake_output(s, NULL), "ETag: ");
		if (tag != NULL)
			snprintf(tags[i], sizeof(tags[i]), "%.*s", (int)strcspn(tag + 6, "\r"), tag + 6);
		fuzz_service_stop(f);
	}
}

/* ---- the parser ------------------------------------------------------------------------------------------- */

/** Where a head ends does not depend on how it comes. */
static uint32_t head_end(const uint8_t *data, uint32_t len)
{
	struct bw_http__scan scan = { 0 }, crumbs = { 0 };
	enum bw_http__scan_result whole, result = BW_HTTP__SCAN_MORE;
	uint32_t used = 0, used_crumbs = 0;

	whole = bw_http__scan(&scan, data, len, &used);
	for (uint32_t i = 0; i < len && result == BW_HTTP__SCAN_MORE; i++) {
		uint32_t n;

		result = bw_http__scan(&crumbs, data + i, 1, &n);
		used_crumbs++;
	}
	BW_ASSERT_EQ(whole, result);
	if (whole != BW_HTTP__SCAN_END)
		return 0;
	BW_ASSERT_EQ(used, used_crumbs);
	return used;
}

/** A decoded path names something below the root. */
static void check_path(const struct bw_http__request *request)
{
	uint8_t *out = malloc(request->path_len);
	uint32_t len = 0;

	if (bw_http__path(request->path, request->path_len, out, &len) == 0) {
		BW_ASSERT(len > 0 && len <= request->path_len && out[0] == '/');
		BW_ASSERT(memchr(out, 0, len) == NULL);
		for (uint32_t i = 0; i + 1 < len; i++) {
			uint32_t end = i + 1;

			if (out[i] != '/')
				continue;
			while (end < len && out[end] != '/')
				end++;
			BW_ASSERT(end != i + 1 && !(end == i + 2 && out[i + 1] == '.') &&
				  !(end == i + 3 && out[i + 1] == '.' && out[i + 2] == '.'));
		}
		if (request->path_is_plain)
			BW_ASSERT(len == request->path_len && memcmp(out, request->path, len) == 0);
	}
	free(out);
}

static void parse_head(const uint8_t *data, size_t size)
{
	struct bw_http__limits limits = {
		.request_line_bytes_max = 4096, .header_count_max = 100, .now_s = 1700000000
	};
	uint32_t len = head_end(data, (uint32_t)size);
	struct bw_http__request request;
	uint8_t *head;

	if (len == 0)
		return;
	head = malloc(len);
	BW_ASSERT(head != NULL);
	memcpy(head, data, len);
	if (bw_http__parse(head, len, &limits, &request) == 0 && !request.is_asterisk) {
		BW_ASSERT(request.path >= head && request.path + request.path_len <= head + len);
		check_path(&request);
	}
	free(head);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 2)
		parse_head(data + 2, size - 2);
	fuzz_service_one(data, size);
	return 0;
}
