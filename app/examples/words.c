/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Three HTTP handlers, as docs/http.md makes them: a body that is read as it comes, a response that is written as there
 * is room, and one that a helper thread has to find.
 *
 *     curl --data-binary @FILE http://192.0.2.2:8080/words
 *     curl http://192.0.2.2:8080/count?to=1000000
 *     curl http://192.0.2.2:8080/uptime
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include <service/http.h>

#include "run.h"

static const struct bw_http_response plain = { .status = 200, .type = "text/plain" };

/* ---- POST /words: how many are there? ------------------------------------------------------------------- */

struct words {
	uint64_t count;
	bool is_within_one;
	char text[32];
};

static uint32_t words_body(struct bw_http_exchange *x, const struct bw_view *view)
{
	struct words *words = bw_http_state(x);

	for (uint32_t i = 0; i < view->len; i++) {
		bool is_space = isspace(view->data[i]);

		words->count += words->is_within_one && is_space;
		words->is_within_one = !is_space;
	}
	return view->len;
}

static void words_end(struct bw_http_exchange *x)
{
	struct words *words = bw_http_state(x);
	int len = snprintf(words->text, sizeof(words->text), "%llu\n",
		(unsigned long long)words->count + words->is_within_one);

	bw_http_reply(x, &plain, words->text, len, NULL, NULL);
}

static const struct bw_http_handler words_handler = {
	.name = "words",
	.body = words_body,
	.body_end = words_end,
};

/* ---- GET /count?to=N: a response of any length ---------------------------------------------------------- */

struct count {
	unsigned long next, last;
	bool is_started;
	char line[32];
	uint32_t len, sent; /* of the line */
};

static void count_on(struct bw_http_exchange *x)
{
	static const struct bw_http_response stream = {
		.status = 200,
		.type = "text/plain",
		.length = BW_HTTP_UNTIL_END,
	};
	struct count *count = bw_http_state(x);

	if (!count->is_started)
		count->is_started = bw_http_start(x, &stream);
	while (count->is_started) {
		if (count->sent == count->len) {
			if (count->next > count->last) {
				bw_http_end(x);
				return;
			}
			count->len = snprintf(count->line, sizeof(count->line), "%lu\n", count->next++);
			count->sent = 0;
		}
		count->sent += bw_http_write(x, count->line + count->sent, count->len - count->sent);
		if (count->sent < count->len)
			return; /* the client does not read so fast: writable() goes on */
	}
}

static void count_begin(struct bw_http_exchange *x, const struct bw_http_head *head)
{
	static const struct bw_http_response bad = { .status = 400, .type = "text/plain" };
	struct count *count = bw_http_state(x);
	char query[32];

	snprintf(query, sizeof(query), "%.*s", (int)head->query.len, head->query.at);
	count->next = 1;
	if (sscanf(query, "to=%lu", &count->last) == 1)
		count_on(x);
	else
		bw_http_reply(x, &bad, "say ?to=N\n", 10, NULL, NULL);
}

static const struct bw_http_handler count_handler = {
	.name = "count",
	.begin = count_begin,
	.writable = count_on,
};

/* ---- GET /uptime: work that may block -------------------------------------------------------------------- */

struct uptime {
	char text[64];
	size_t len;
};

/* On a helper thread. */
static void uptime_read(void *state)
{
	struct uptime *uptime = state;
	FILE *file = fopen("/proc/uptime", "r");

	if (file == NULL)
		return;
	uptime->len = fread(uptime->text, 1, sizeof(uptime->text), file);
	fclose(file);
}

static void uptime_done(struct bw_http_exchange *x)
{
	struct uptime *uptime = bw_http_state(x);

	bw_http_reply(x, &plain, uptime->text, uptime->len, NULL, NULL);
}

static void uptime_begin(struct bw_http_exchange *x, const struct bw_http_head *head)
{
	static const struct bw_http_response busy = { .status = 503 };

	if (bw_http_job(x, uptime_read, uptime_done) != 0)
		bw_http_reply(x, &busy, NULL, 0, NULL, NULL);
}

static const struct bw_http_handler uptime_handler = {
	.name = "uptime",
	.begin = uptime_begin,
};

/* ---- the program ------------------------------------------------------------------------------------------ */

static const struct bw_http_route routes[] = {
	{ .path = "/words",
		.methods = 1 << BW_HTTP_POST,
		.handler = &words_handler,
		.body_bytes_max = 1ull << 40 },
	{ .path = "/count", .methods = 1 << BW_HTTP_GET, .handler = &count_handler },
	{ .path = "/uptime", .methods = 1 << BW_HTTP_GET, .handler = &uptime_handler },
};

int main(int argc, char **argv)
{
	struct bw_http_conf conf;
	int status = 2;

	bw_http_conf_init(&conf);
	conf.site.routes = routes;
	conf.site.route_count = BW_ARRAY_LEN(routes);
	if (bw_http_conf_prepare(&conf) == 0)
		status = run(&bw_http_service, &conf, 8080, argc > 1 ? argv[1] : "tap:words0");
	bw_http_conf_release(&conf);
	return status;
}
