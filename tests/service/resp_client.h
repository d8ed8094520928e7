/* SPDX-License-Identifier: BSD-3-Clause */
/** The cache and its clients in memory: what its tests share. Expected texts are those of redis-server 7.0. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake_stream.h"
#include "resp/internal.h"

#define ARITY(name)   "-ERR wrong number of arguments for '" name "' command\r\n"
#define NOT_INT       "-ERR value is not an integer or out of range\r\n"
#define NOT_FLOAT     "-ERR value is not a valid float\r\n"
#define SYNTAX        "-ERR syntax error\r\n"
#define EXPIRY(name)  "-ERR invalid expire time in '" name "' command\r\n"
#define TOO_LONG      "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n"
#define BULK(n, text) "$" #n "\r\n" text "\r\n"
#define OK            "+OK\r\n"
#define NIL           "$-1\r\n"

/** How often it is in there. */
static inline unsigned count_of(const char *text, const char *what)
{
	unsigned count = 0;

	while ((text = strstr(text, what)) != NULL) {
		text++;
		count++;
	}
	return count;
}

/* ---- the server ---- */

static struct bw_resp_conf conf;

static inline int setup(void **state)
{
	bw_resp_conf_init(&conf);
	conf.memory_bytes_max = 64u << 20;
	conf.bulk_bytes_max = 512 << 10;
	return bw_resp_conf_prepare(&conf);
}

static inline int teardown(void **state)
{
	bw_resp_conf_release(&conf);
	return 0;
}

static inline struct fake *server(unsigned workers)
{
	return fake_create(&bw_resp_service, &conf, workers);
}

static inline struct bw_resp *worker(struct fake *f, unsigned n)
{
	return bw_context_state(fake_context(f, n));
}

/** Every store is consistent, and nothing is staged, held, deferred or out: what a quiet server must look like. */
static inline void assert_quiet(struct fake *f)
{
	unsigned workers = bw_context_worker_count(fake_context(f, 0));

	for (unsigned i = 0; i < workers; i++) {
		const struct bw_resp *r = worker(f, i);

		bw_resp__store_check(&r->store);
		assert_int_equal(r->store.staged_bytes, 0);
		assert_int_equal(r->requests_free_count, 8192);
		assert_int_equal(r->store.slab.listed_bytes, 0);
		assert_int_equal(r->holds, 0);
		assert_null(r->deferred);
		for (unsigned n = 0; n < BW_RESP__HELD; n++)
			assert_int_equal(r->held[n] + r->waited[n], 0);
	}
}

static inline void finish(struct fake *f)
{
	fake_advance(f, 200 * BW_NS_PER_MS);
	assert_quiet(f);
	fake_destroy(f);
}

/* ---- building commands ---- */

struct buf {
	char *p;
	size_t len, room;
};

static inline void put(struct buf *b, const void *data, size_t len)
{
	if (b->len + len + 1 > b->room) {
		b->room = 2 * (b->len + len + 1);
		b->p = realloc(b->p, b->room);
		assert_non_null(b->p);
	}
	memcpy(b->p + b->len, data, len);
	b->len += len;
	b->p[b->len] = '\0';
}

static inline void put_text(struct buf *b, const char *text)
{
	put(b, text, strlen(text));
}

/** "*3\r\n" */
static inline void put_count(struct buf *b, unsigned args)
{
	char head[32];

	put(b, head, (size_t)snprintf(head, sizeof(head), "*%u\r\n", args));
}

static inline void put_bulk(struct buf *b, const void *data, size_t len)
{
	char head[32];

	put(b, head, (size_t)snprintf(head, sizeof(head), "$%zu\r\n", len));
	put(b, data, len);
	put(b, "\r\n", 2);
}

/** "SET key value" with single blanks, as a multibulk; `''` is an empty word. */
static inline void put_command(struct buf *b, const char *words)
{
	unsigned count = 1;

	for (const char *p = words; *p != '\0'; p++)
		count += *p == ' ';
	put_count(b, count);
	for (const char *p = words, *end;; p = end + 1) {
		end = strchrnul(p, ' ');
		put_bulk(b, p, end - p == 2 && memcmp(p, "''", 2) == 0 ? 0 : (size_t)(end - p));
		if (*end == '\0')
			break;
	}
}

/* ---- asking ---- */

static inline void send_words(struct bw_stream *s, const char *words)
{
	struct buf b = { 0 };

	put_command(&b, words);
	fake_feed(s, b.p, b.len);
	free(b.p);
}

/** What comes now; what came before is dropped. Valid until the next call. */
static inline const char *reply(struct bw_stream *s, const char *words)
{
	fake_output_clear(s);
	send_words(s, words);
	return fake_output(s, NULL);
}

static inline void assert_output(struct bw_stream *s, const char *expected)
{
	assert_string_equal(fake_output(s, NULL), expected);
	fake_output_clear(s);
}

/** This comes, and nothing came before. */
static inline void ask(struct bw_stream *s, const char *words, const char *expected)
{
	send_words(s, words);
	assert_output(s, expected);
}

struct exchange {
	const char *words, *reply;
};

static inline void ask_all(struct bw_stream *s, const struct exchange *exchanges, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(reply(s, exchanges[i].words), exchanges[i].reply) != 0)
			print_error("%s\n", exchanges[i].words);
		assert_output(s, exchanges[i].reply);
	}
}
