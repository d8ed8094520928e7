/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The commands, each with the texts of redis-server 7.0, and against models: parts of strings, walks over all keys,
 * and what several workers do as one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake_stream.h"
#include "resp_internal.h"

static struct bw_resp_conf conf;

static int setup(void **state)
{
	bw_resp_conf_init(&conf);
	conf.memory_bytes_max = 64u << 20;
	return bw_resp_conf_prepare(&conf);
}

static int teardown(void **state)
{
	bw_resp_conf_release(&conf);
	return 0;
}

static struct fake *server(unsigned workers)
{
	return fake_create(&bw_resp_service, &conf, workers);
}

static struct bw_resp *worker(struct fake *f, unsigned n)
{
	return bw_context_state(fake_context(f, n));
}

/* Every store is consistent, and nothing is staged, held, deferred or out. */
static void finish(struct fake *f)
{
	unsigned workers = bw_context_worker_count(fake_context(f, 0));

	fake_advance(f, 200 * BW_NS_PER_MS);
	for (unsigned i = 0; i < workers; i++) {
		bw_resp__store_check(&worker(f, i)->store);
		assert_int_equal(worker(f, i)->store.staged_bytes, 0);
		assert_int_equal(worker(f, i)->requests_free_count, 8192);
		assert_int_equal(worker(f, i)->store.slab.listed_bytes, 0);
	}
	fake_destroy(f);
}

/* ---- what goes in and out ---- */

static char command[1 << 20];
static size_t command_len;

static void begin(unsigned args)
{
	command_len = (size_t)sprintf(command, "*%u\r\n", args);
}

static void arg(const void *bytes, size_t len)
{
	command_len += (size_t)sprintf(command + command_len, "$%zu\r\n", len);
	memcpy(command + command_len, bytes, len);
	memcpy(command + command_len + len, "\r\n", 2);
	command_len += len + 2;
}

static void word(const char *text)
{
	arg(text, strlen(text));
}

/* Words between single blanks; `''` is an empty one. */
static void words(const char *text)
{
	unsigned count = 1;

	for (const char *p = text; *p != '\0'; p++)
		count += *p == ' ';
	begin(count);
	for (const char *p = text, *end;; p = end + 1) {
		end = strchrnul(p, ' ');
		arg(p, end - p == 2 && memcmp(p, "''", 2) == 0 ? 0 : (size_t)(end - p));
		if (*end == '\0')
			break;
	}
}

static void send_words(struct bw_stream *s, const char *text)
{
	words(text);
	fake_feed(s, command, command_len);
}

static const char *reply(struct bw_stream *s, const char *text)
{
	fake_output_clear(s);
	send_words(s, text);
	return fake_output(s, NULL);
}

static void ask(struct bw_stream *s, const char *text, const char *expected)
{
	assert_string_equal(reply(s, text), expected);
	fake_output_clear(s);
}

#define ARITY(name)   "-ERR wrong number of arguments for '" name "' command\r\n"
#define NOT_INT       "-ERR value is not an integer or out of range\r\n"
#define NOT_FLOAT     "-ERR value is not a valid float\r\n"
#define SYNTAX        "-ERR syntax error\r\n"
#define EXPIRY(name)  "-ERR invalid expire time in '" name "' command\r\n"
#define TOO_LONG      "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n"
#define BULK(n, text) "$" #n "\r\n" text "\r\n"
#define OK            "+OK\r\n"
#define NIL           "$-1\r\n"

struct exchange {
	const char *words, *reply;
};

static const struct exchange exchanges[] = {
	/* GETEX */
	{ "GETEX a", NIL },
	{ "GETEX a EX x", NIL },
	{ "GETEX a FOO", SYNTAX },
	{ "SET a v", OK },
	{ "GETEX a", BULK(1, "v") },
	{ "TTL a", ":-1\r\n" },
	{ "GETEX a EX 100", BULK(1, "v") },
	{ "TTL a", ":100\r\n" },
	{ "GETEX a", BULK(1, "v") },
	{ "TTL a", ":100\r\n" },
	{ "GETEX a EX 0", EXPIRY("getex") },
	{ "GETEX a PX abc", NOT_INT },
	{ "GETEX a EX 9223372036854775807", EXPIRY("getex") },
	{ "GETEX a PERSIST EX 5", SYNTAX },
	{ "GETEX a EX 5 PERSIST", SYNTAX },
	{ "GETEX a EX 5 PX 5", SYNTAX },
	{ "GETEX a NX", SYNTAX },
	{ "GETEX a KEEPTTL", SYNTAX },
	{ "GETEX a GET", SYNTAX },
	{ "GETEX a EX", SYNTAX },
	{ "GETEX a EX 5 EX 7", BULK(1, "v") },
	{ "TTL a", ":7\r\n" },
	{ "GETEX a PERSIST PERSIST", BULK(1, "v") },
	{ "TTL a", ":-1\r\n" },
	{ "GETEX a PXAT 4102444800123", BULK(1, "v") },
	{ "PEXPIRETIME a", ":4102444800123\r\n" },
	{ "GETEX a EXAT 1", BULK(1, "v") },
	{ "EXISTS a", ":0\r\n" },
	{ "SET a v PERSIST", SYNTAX },
	{ "GETEX", ARITY("getex") },
	/* GETRANGE */
	{ "SET a Hello,World", OK },
	{ "GETRANGE a 0 4", BULK(5, "Hello") },
	{ "SUBSTR a 6 -1", BULK(5, "World") },
	{ "GETRANGE a -5 -1", BULK(5, "World") },
	{ "GETRANGE a 0 -1", BULK(11, "Hello,World") },
	{ "GETRANGE a -100 100", BULK(11, "Hello,World") },
	{ "GETRANGE a 5 3", BULK(0, "") },
	{ "GETRANGE a -1 -5", BULK(0, "") },
	{ "GETRANGE a -1000 -999", BULK(1, "H") },
	{ "GETRANGE a 11 20", BULK(0, "") },
	{ "GETRANGE a -9223372036854775808 9223372036854775807", BULK(11, "Hello,World") },
	{ "GETRANGE nosuch 0 -1", BULK(0, "") },
	{ "GETRANGE a x 1", NOT_INT },
	{ "GETRANGE a 1 x", NOT_INT },
	{ "GETRANGE a 1", ARITY("getrange") },
	/* SETRANGE */
	{ "SETRANGE a 6 There", ":11\r\n" },
	{ "GET a", BULK(11, "Hello,There") },
	{ "SETRANGE a 10 eee", ":13\r\n" },
	{ "GET a", BULK(13, "Hello,Thereee") },
	{ "SETRANGE a 1000 ''", ":13\r\n" },
	{ "SETRANGE nosuch 5 ''", ":0\r\n" },
	{ "EXISTS nosuch", ":0\r\n" },
	{ "SETRANGE nosuch -1 x", "-ERR offset is out of range\r\n" },
	{ "SETRANGE nosuch x x", NOT_INT },
	{ "SETRANGE a 536870912 x", TOO_LONG },
	{ "SETRANGE a 9223372036854775807 x", TOO_LONG },
	{ "SETRANGE a 9223372036854775807 ''", ":13\r\n" },
	{ "SETRANGE new 3 x", ":4\r\n" },
	{ "STRLEN new", ":4\r\n" },
	{ "GETRANGE new 3 3", BULK(1, "x") },
	{ "EXPIRE new 100", ":1\r\n" },
	{ "SETRANGE new 600 x", ":601\r\n" },
	{ "TTL new", ":100\r\n" },
	/* INCRBYFLOAT */
	{ "SET f 10.50", OK },
	{ "INCRBYFLOAT f 0.1", BULK(4, "10.6") },
	{ "INCRBYFLOAT f -5", BULK(3, "5.6") },
	{ "SET f 5.0e3", OK },
	{ "INCRBYFLOAT f 2.0e2", BULK(4, "5200") },
	{ "SET f 3", OK },
	{ "EXPIRE f 100", ":1\r\n" },
	{ "INCRBYFLOAT f 1.1", BULK(3, "4.1") },
	{ "TTL f", ":100\r\n" },
	{ "INCRBYFLOAT nosuchf -0.0", BULK(1, "0") },
	{ "INCRBYFLOAT nosuchf 0x10", BULK(2, "16") },
	{ "INCRBYFLOAT nosuchf 1e-30", BULK(2, "16") },
	{ "INCRBYFLOAT f abc", NOT_FLOAT },
	{ "INCRBYFLOAT f 1.0a", NOT_FLOAT },
	{ "INCRBYFLOAT f ''", NOT_FLOAT },
	{ "INCRBYFLOAT f nan", NOT_FLOAT },
	{ "INCRBYFLOAT f 1e5000", NOT_FLOAT },
	{ "INCRBYFLOAT f inf", "-ERR increment would produce NaN or Infinity\r\n" },
	{ "INCRBYFLOAT f -inf", "-ERR increment would produce NaN or Infinity\r\n" },
	{ "SET f x", OK },
	{ "INCRBYFLOAT f 1", NOT_FLOAT },
	{ "INCRBYFLOAT f", ARITY("incrbyfloat") },
	/* OBJECT */
	{ "SET i 123", OK },
	{ "OBJECT ENCODING i", BULK(3, "int") },
	{ "object encoding i", BULK(3, "int") },
	{ "APPEND i ''", ":3\r\n" },
	{ "OBJECT ENCODING i", BULK(3, "raw") },
	{ "SET i 0123", OK },
	{ "OBJECT ENCODING i", BULK(6, "embstr") },
	{ "SETRANGE i 0 1", ":4\r\n" },
	{ "OBJECT ENCODING i", BULK(3, "raw") },
	{ "INCR i", ":1124\r\n" },
	{ "OBJECT ENCODING i", BULK(3, "int") },
	{ "INCRBYFLOAT i 1", BULK(4, "1125") },
	{ "OBJECT ENCODING i", BULK(6, "embstr") },
	{ "INCR i", ":1126\r\n" },
	{ "OBJECT ENCODING i", BULK(3, "int") },
	{ "SET i 12345678901234567890123456789012345678901234", OK },
	{ "OBJECT ENCODING i", BULK(6, "embstr") },
	{ "SET i 123456789012345678901234567890123456789012345", OK },
	{ "OBJECT ENCODING i", BULK(3, "raw") },
	{ "SETRANGE r 0 12", ":2\r\n" },
	{ "OBJECT ENCODING r", BULK(3, "raw") },
	{ "APPEND ap 12", ":2\r\n" },
	{ "OBJECT ENCODING ap", BULK(3, "int") },
	{ "OBJECT REFCOUNT i", ":1\r\n" },
	{ "OBJECT IDLETIME i", ":0\r\n" },
	{ "OBJECT FREQ i",
		"-ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when "
		"switching between policies at runtime LRU and LFU data will take some time to adjust.\r\n" },
	{ "OBJECT ENCODING gone", NIL },
	{ "OBJECT FREQ gone", NIL },
	{ "OBJECT IDLETIME gone", NIL },
	{ "OBJECT REFCOUNT gone", NIL },
	{ "OBJECT", ARITY("object") },
	{ "OBJECT ENCODING", ARITY("object|encoding") },
	{ "OBJECT ENCODING a b", ARITY("object|encoding") },
	{ "OBJECT FOO a", "-ERR unknown subcommand 'FOO'. Try OBJECT HELP.\r\n" },
	{ "OBJECT HELP x", ARITY("object|help") },
	{ "MEMORY USAGE gone", NIL },
	{ "MEMORY USAGE a SAMPLES", SYNTAX },
	{ "MEMORY USAGE a SAMPLES x", NOT_INT },
	{ "MEMORY USAGE a SAMPLES -1", SYNTAX },
	{ "MEMORY USAGE a FOO 1", SYNTAX },
	{ "MEMORY USAGE", ARITY("memory|usage") },
	{ "MEMORY FOO", "-ERR unknown subcommand 'FOO'. Try MEMORY HELP.\r\n" },
};

static void run_exchanges(unsigned workers, unsigned at)
{
	struct fake *f = server(workers);
	struct bw_stream *s = fake_open(f, at);

	for (unsigned i = 0; i < BW_ARRAY_LEN(exchanges); i++) {
		if (strcmp(reply(s, exchanges[i].words), exchanges[i].reply) != 0)
			print_error("%s\n", exchanges[i].words);
		assert_string_equal(fake_output(s, NULL), exchanges[i].reply);
	}
	/* 32 + 11 + 13 bytes in a block of 64, and its part of the index. */
	ask(s, "SET costs-a-few a-few-bytes!!", OK);
	ask(s, "MEMORY USAGE costs-a-few", ":76\r\n");
	ask(s, "MEMORY USAGE costs-a-few SAMPLES 0", ":76\r\n");
	assert_int_equal(strncmp(reply(s, "OBJECT HELP"), "*11\r\n+OBJECT <sub", 17), 0);
	assert_int_equal(strncmp(reply(s, "MEMORY HELP"), "*7\r\n+MEMORY <sub", 16), 0);
	assert_int_equal(reply(s, "MEMORY DOCTOR")[0], '$');
	fake_peer_close(s);
	finish(f);
}

static void every_command_answers_as_redis_does(void **state)
{
	run_exchanges(1, 0);
	for (unsigned at = 0; at < 3; at++)
		run_exchanges(3, at);
}

/* ---- parts of strings ---- */

static uint64_t seed;

static uint32_t rnd(uint32_t below)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)((seed >> 33) % below);
}

static void expect_int(struct bw_stream *s, int64_t value)
{
	char expected[32];

	sprintf(expected, ":%lld\r\n", (long long)value);
	assert_string_equal(fake_output(s, NULL), expected);
	fake_output_clear(s);
}

/* Ranges of strings that grow out of an item into a blob and while TX has them, against an array. */
static void ranges_are_those_of_an_array(void **state)
{
	static char model[3][70000], bytes[9000], number[3][24];
	size_t len[3] = { 0 };

	for (unsigned workers = 1; workers <= 3; workers += 2) {
		struct fake *f = server(workers);
		struct bw_stream *s = fake_open(f, 0), *reader = fake_open(f, workers - 1);

		memset(len, 0, sizeof(len));
		for (unsigned i = 0; i < 4000; i++) {
			unsigned k = rnd(3);
			size_t n = rnd(8) == 0 ? rnd(sizeof(bytes)) : rnd(60), offset, end;
			char key[2] = { (char)('a' + k), '\0' };
			const char *out;
			size_t out_len;

			memset(bytes, 'a' + (int)rnd(26), sizeof(bytes));
			offset = rnd(2) ? rnd((uint32_t)len[k] + 1) : len[k] + rnd(500);
			end = offset + rnd(rnd(2) ? 40 : 20000);
			snprintf(number[0], sizeof(number[0]), "%zu", offset);
			snprintf(number[1], sizeof(number[1]), "%zu", end);
			if (len[k] > 60000 || rnd(100) == 0) {
				begin(2);
				word("DEL");
				word(key);
				fake_feed(s, command, command_len);
				expect_int(s, len[k] > 0);
				len[k] = 0;
				continue;
			}
			switch (rnd(4)) {
			case 0:
				if (n > 0)
					memset(model[k] + len[k], 0, offset > len[k] ? offset - len[k] : 0);
				begin(4);
				word("SETRANGE");
				word(key);
				word(number[0]);
				arg(bytes, n);
				fake_feed(s, command, command_len);
				if (n > 0) {
					memcpy(model[k] + offset, bytes, n);
					len[k] = BW_MAX(len[k], offset + n);
				}
				expect_int(s, (int64_t)len[k]);
				break;
			case 1:
				begin(3);
				word("APPEND");
				word(key);
				arg(bytes, n + 1);
				fake_feed(s, command, command_len);
				memcpy(model[k] + len[k], bytes, n + 1);
				len[k] += n + 1;
				expect_int(s, (int64_t)len[k]);
				break;
			case 2: /* a reader that is slow: what it asked for does not change any more */
				fake_set_space(reader, 2000);
				fake_set_auto_ack(reader, false);
				begin(2);
				word("GET");
				word(key);
				fake_feed(reader, command, command_len);
				break;
			default:
				while (fake_ack(reader, 1 << 20) > 0)
					;
				fake_output_clear(reader);
				begin(4);
				word("GETRANGE");
				word(key);
				word(number[0]);
				word(number[1]);
				fake_feed(s, command, command_len);
				end = BW_MIN(end + 1, len[k]);
				n = offset < end ? end - offset : 0;
				out = fake_output(s, &out_len);
				assert_int_equal(atoi(out + 1), n);
				assert_int_equal(out_len, (size_t)(strchr(out, '\n') + 1 - out) + n + 2);
				assert_memory_equal(strchr(out, '\n') + 1, model[k] + offset, n);
				fake_output_clear(s);
			}
			assert_int_equal(fake_output_total(s) > 0, 1);
		}
		fake_peer_reset(s);
		fake_peer_reset(reader);
		finish(f);
	}
}

/* ---- the least recently used ---- */

/* Who asks about a key does not use it. */
static void only_use_is_use(void **state)
{
	static const struct {
		const char *words;
		bool uses;
	} cases[] = {
		{ "TTL k", false },
		{ "PTTL k", false },
		{ "EXPIRETIME k", false },
		{ "TYPE k", false },
		{ "EXISTS k", false },
		{ "OBJECT ENCODING k", false },
		{ "MEMORY USAGE k", false },
		{ "GET k", true },
		{ "TOUCH k", true },
		{ "STRLEN k", true },
		{ "GETRANGE k 0 0", true },
		{ "EXPIRE k 1000", true },
	};

	for (unsigned workers = 1; workers <= 3; workers += 2) {
		struct fake *f = server(workers);
		struct bw_stream *s = fake_open(f, 0);

		for (unsigned i = 0; i < BW_ARRAY_LEN(cases); i++) {
			ask(s, "SET k v", OK);
			fake_advance(f, 5200 * BW_NS_PER_MS); /* to 128 ms */
			reply(s, cases[i].words);
			ask(s, "OBJECT IDLETIME k", cases[i].uses ? ":0\r\n" : ":5\r\n");
		}
		fake_peer_close(s);
		finish(f);
	}
}

/* ---- walks ---- */

static void globs_match_as_those_of_redis_do(void **state)
{
	static const struct {
		const char *pattern, *text;
		bool matches;
	} cases[] = {
		{ "*", "a", true }, { "*", "", false }, /* what calls it knows "*" */
		{ "", "", true }, { "", "a", false }, { "a*", "a", true }, { "a**", "a", true },
		{ "*a", "ba", true }, { "*a*b*c*", "xaybzc", true }, { "*a*b*c*", "xaybz", false },
		{ "h?llo", "hello", true }, { "h?llo", "hllo", false }, { "h[ae]llo", "hallo", true },
		{ "h[ae]llo", "hillo", false }, { "h[^ae]llo", "hillo", true },
		{ "h[^ae]llo", "hallo", false }, { "h[a-c]llo", "hbllo", true },
		{ "h[c-a]llo", "hbllo", true }, { "h[a-c]llo", "hdllo", false }, { "[a-]", "b", false },
		{ "[a-]", "_", true }, /* a range from a down to ] */
		{ "[]", "a", false }, { "[^]", "a", true }, { "[", "a", false }, { "[", "[", false },
		{ "[^", "a", true }, { "[a", "a", true }, { "[a", "b", false }, { "x[a", "xa", true },
		{ "[\\]]", "]", true }, { "[\\", "\\", true }, { "\\*", "*", true }, { "\\*", "a", false },
		{ "\\", "\\", true }, { "a\\", "a\\", true }, { "\\?x", "?x", true }, { "A", "a", false },
		{ "[\x80-\xff]", "\x90", true },
		{ "[a-\xff]", "b",
			false }, /* bytes of 128 and more come before all others: signed, as in Redis */
	};
	static char stars[4001], text[4001];

	for (unsigned i = 0; i < BW_ARRAY_LEN(cases); i++) {
		if (bw_resp__glob((const uint8_t *)cases[i].pattern, (uint32_t)strlen(cases[i].pattern),
			    (const uint8_t *)cases[i].text,
			    (uint32_t)strlen(cases[i].text)) != cases[i].matches)
			fail_msg("%s %s", cases[i].pattern, cases[i].text);
	}
	/* A thousand stars in no more than the product of the lengths. */
	for (unsigned i = 0; i < 4000; i += 2)
		memcpy(stars + i, "*a", 2);
	stars[3999] = 'b';
	memset(text, 'a', 4000);
	assert_false(bw_resp__glob((uint8_t *)stars, 4000, (uint8_t *)text, 4000));
}

/* The next bulk string of a reply; its length, or -1 where none begins here. */
static int next_bulk(const char **at, const char **bulk)
{
	int len;

	if (**at != '$')
		return -1;
	len = atoi(*at + 1);
	*bulk = strchr(*at, '\n') + 1;
	*at = *bulk + len + 2;
	return len;
}

static void set_key(struct bw_stream *s, unsigned n, bool is_there)
{
	char text[64];

	snprintf(text, sizeof(text), is_there ? "SET key:%u v" : "DEL key:%u", n);
	send_words(s, text);
}

static void a_scan_meets_every_key_that_stays(void **state)
{
	enum {
		STAY = 3000,
		ALL = 60000
	};
	static uint8_t seen[ALL];

	for (unsigned round = 0; round < 12; round++) {
		unsigned workers = round % 2 ? 3 : 1, calls = 0, coming = STAY, going = STAY;
		struct fake *f = server(workers);
		struct bw_stream *s = fake_open(f, round % workers), *other = fake_open(f, 0);
		uint64_t cursor = 0;
		unsigned long long met = 0;

		memset(seen, 0, sizeof(seen));
		/* Every third one begins with an index that has been large. */
		for (unsigned n = 0; n < (round % 3 == 0 ? 40000 : STAY); n++)
			set_key(other, n, true);
		for (unsigned n = STAY; round % 3 == 0 && n < 40000; n++)
			set_key(other, n, false);
		do {
			char text[80];
			const char *at, *bulk;
			unsigned n;

			snprintf(text, sizeof(text), "SCAN %llu COUNT %u", (unsigned long long)cursor,
				1 + rnd(60));
			at = reply(s, text);
			assert_int_equal(strncmp(at, "*2\r\n", 4), 0);
			at += 4;
			assert_true(next_bulk(&at, &bulk) > 0);
			cursor = strtoull(bulk, NULL, 10);
			for (unsigned left = (unsigned)atoi((at = strchr(at, '*')) + 1); left > 0; left--) {
				at = at[0] == '*' ? strchr(at, '\n') + 1 : at;
				assert_true(next_bulk(&at, &bulk) > 4);
				n = (unsigned)atoi(bulk + 4);
				assert_true(n < ALL);
				seen[n]++;
				met++;
			}
			/* Meanwhile keys come, faster than they go, or the other way round. */
			for (unsigned i = rnd(400); i > 0; i--) {
				if (rnd(4) < (round % 4 < 2 ? 3 : 1) && coming < ALL)
					set_key(other, coming++, true);
				else if (going < coming)
					set_key(other, going++, false);
			}
			fake_output_clear(other);
			calls++;
		} while (cursor != 0);
		for (unsigned n = 0; n < STAY; n++)
			assert_int_equal(seen[n], 1); /* not even twice */
		assert_true(calls > 20);
		fake_peer_close(s);
		fake_peer_close(other);
		finish(f);
	}
}

static void scan_has_options(void **state)
{
	static const struct exchange cases[] = {
		{ "SCAN", ARITY("scan") },
		{ "SCAN x", "-ERR invalid cursor\r\n" },
		{ "SCAN 1x", "-ERR invalid cursor\r\n" },
		{ "SCAN 18446744073709551616", "-ERR invalid cursor\r\n" },
		{ "SCAN 18446744073709551615", "*2\r\n" BULK(1, "0") "*0\r\n" },
		{ "SCAN ''", "*2\r\n" BULK(1, "0") "*1\r\n" BULK(3, "key") },
		{ "SCAN -0 COUNT 10000", "*2\r\n" BULK(1, "0") "*1\r\n" BULK(3, "key") },
		{ "SCAN 0 COUNT", SYNTAX },
		{ "SCAN 0 COUNT x", NOT_INT },
		{ "SCAN 0 COUNT 0", SYNTAX },
		{ "SCAN 0 COUNT -1", SYNTAX },
		{ "SCAN 0 FOO 1", SYNTAX },
		{ "SCAN 0 MATCH", SYNTAX },
		{ "SCAN 0 MATCH k*", "*2\r\n" BULK(1, "0") "*1\r\n" BULK(3, "key") },
		{ "SCAN 0 MATCH x*", "*2\r\n" BULK(1, "0") "*0\r\n" },
		{ "SCAN 0 TYPE STRING COUNT 10000", "*2\r\n" BULK(1, "0") "*1\r\n" BULK(3, "key") },
		{ "SCAN 0 TYPE hash COUNT 10000", "*2\r\n" BULK(1, "0") "*0\r\n" },
		{ "KEYS", ARITY("keys") },
		{ "KEYS a b", ARITY("keys") },
		{ "RANDOMKEY a", ARITY("randomkey") },
	};
	struct fake *f = server(1);
	struct bw_stream *s = fake_open(f, 0);

	ask(s, "RANDOMKEY", NIL);
	ask(s, "KEYS *", "*0\r\n");
	ask(s, "SCAN 0", "*2\r\n" BULK(1, "0") "*0\r\n");
	ask(s, "SET key v", OK);
	for (unsigned i = 0; i < BW_ARRAY_LEN(cases); i++) {
		if (strcmp(reply(s, cases[i].words), cases[i].reply) != 0)
			print_error("%s\n", cases[i].words);
		assert_string_equal(fake_output(s, NULL), cases[i].reply);
	}
	begin(2);
	word("KEYS");
	memset(command + 30000, '*', 20000);
	arg(command + 30000, 20000);
	fake_output_clear(s);
	fake_feed(s, command, command_len);
	assert_string_equal(fake_output(s, NULL), "-ERR pattern is longer than 8192 bytes\r\n");
	fake_output_clear(s);
	/* What has expired is not there, though nobody looked. */
	ask(s, "PEXPIRE key 5", ":1\r\n");
	fake_advance(f, 6 * BW_NS_PER_MS);
	ask(s, "KEYS *", "*0\r\n");
	ask(s, "RANDOMKEY", NIL);
	fake_peer_close(s);
	finish(f);
}

static void keys_are_all_there_and_nothing_overtakes(void **state)
{
	static bool seen[30000];

	for (unsigned workers = 1; workers <= 3; workers++) {
		struct fake *f = server(workers);
		struct bw_stream *s = fake_open(f, 0), *dying = fake_open(f, workers - 1);
		const char *at, *bulk;
		unsigned count;

		for (unsigned n = 0; n < 30000; n++)
			set_key(s, n, true);
		ask(s, "DBSIZE", ":30000\r\n");
		memset(seen, 0, sizeof(seen));
		words("KEYS key:*");
		memcpy(command + command_len, "PING\r\nDEL key:1\r\n", 17);
		fake_feed(s, command, command_len + 17);
		fake_run(f);
		at = fake_output(s, NULL);
		assert_int_equal(atoi(at + 1), 30000);
		at = strchr(at, '\n') + 1;
		for (count = 0; next_bulk(&at, &bulk) > 0; count++) {
			unsigned n = (unsigned)atoi(bulk + 4);

			assert_false(seen[n]);
			seen[n] = true;
		}
		assert_int_equal(count, 30000);
		assert_string_equal(at, "+PONG\r\n:1\r\n");
		assert_int_equal(atoi(reply(s, "KEYS key:2999?") + 1), 10);
		assert_int_equal(atoi(reply(s, "KEYS nosuch*") + 1), 0);

		/* Others go on meanwhile, and who asked may die. */
		fake_hold_mail(f, true);
		send_words(dying, "KEYS *");
		fake_deliver_mail(f, 3);
		assert_string_equal(fake_output(dying, NULL), "");
		fake_peer_reset(dying);
		fake_hold_mail(f, false);
		fake_run(f);
		fake_peer_close(s);
		finish(f);
	}
}

/* More names than the memory for replies holds: an error that says what to do, and nothing is left of it. */
static void too_many_keys_are_an_error(void **state)
{
	struct fake *f;
	struct bw_stream *s;
	char text[300];

	conf.memory_bytes_max = bw_resp_memory_bytes_least(&conf, 1);
	f = server(1);
	s = fake_open(f, 0);
	memset(text, 'k', sizeof(text));
	for (unsigned n = 0; n < 8000; n++) {
		snprintf(text + 200, 100, "%u v", n);
		memcpy(text, "SET ", 4);
		send_words(s, text);
	}
	fake_output_clear(s);
	ask(s, "KEYS *", "-ERR the names take more memory than a reply may: use SCAN\r\n");
	fake_peer_close(s);
	finish(f);
}

static void any_key_is_drawn(void **state)
{
	for (unsigned workers = 1; workers <= 3; workers += 2) {
		struct fake *f = server(workers);
		struct bw_stream *s = fake_open(f, 0);
		unsigned seen[8] = { 0 };

		for (unsigned n = 0; n < 8; n++)
			set_key(s, n, true);
		for (unsigned i = 0; i < 4000; i++)
			seen[reply(s, "RANDOMKEY")[8] - '0']++;
		for (unsigned n = 0; n < 8; n++)
			assert_true(seen[n] > 100);
		/* One in an index that was large. */
		for (unsigned n = 0; n < 50000; n++)
			set_key(s, n, true);
		for (unsigned n = 1; n < 50000; n++)
			set_key(s, n, false);
		ask(s, "RANDOMKEY", BULK(5, "key:0"));
		ask(s, "DEL key:0", ":1\r\n");
		ask(s, "RANDOMKEY", NIL);
		fake_peer_close(s);
		finish(f);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_command_answers_as_redis_does),
		TEST(ranges_are_those_of_an_array),
		TEST(only_use_is_use),
		TEST(globs_match_as_those_of_redis_do),
		TEST(a_scan_meets_every_key_that_stays),
		TEST(scan_has_options),
		TEST(keys_are_all_there_and_nothing_overtakes),
		TEST(too_many_keys_are_an_error),
		TEST(any_key_is_drawn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
