/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The commands, each with the texts of redis-server 7.0, and against models: parts of strings, walks over all keys,
 * and what several workers do as one.
 */
#include "resp_client.h"

/* ---- commands with any bytes in them ---- */

static struct buf command;

static void begin(unsigned args)
{
	command.len = 0;
	put_count(&command, args);
}

static void arg(const void *bytes, size_t len)
{
	put_bulk(&command, bytes, len);
}

static void word(const char *text)
{
	arg(text, strlen(text));
}

static void send_command(struct bw_stream *s)
{
	fake_feed(s, command.p, command.len);
}

/* Whatever came before. */
static void ask_next(struct bw_stream *s, const char *text, const char *expected)
{
	fake_output_clear(s);
	ask(s, text, expected);
}

/* ---- their texts ---- */

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

	ask_all(s, exchanges, BW_ARRAY_LEN(exchanges));
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
				send_command(s);
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
				send_command(s);
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
				send_command(s);
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
				send_command(reader);
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
				send_command(s);
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
			ask_next(s, "OBJECT IDLETIME k", cases[i].uses ? ":0\r\n" : ":5\r\n");
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
			    (const uint8_t *)cases[i].text, (uint32_t)strlen(cases[i].text),
			    false) != cases[i].matches)
			fail_msg("%s %s", cases[i].pattern, cases[i].text);
	}
	/* A thousand stars in no more than the product of the lengths. */
	for (unsigned i = 0; i < 4000; i += 2)
		memcpy(stars + i, "*a", 2);
	stars[3999] = 'b';
	memset(text, 'a', 4000);
	assert_false(bw_resp__glob((uint8_t *)stars, 4000, (uint8_t *)text, 4000, false));
}

/* The next bulk string of a reply; its length, or -1 where none begins here. */
static int next_bulk(const char **at, const char **bulk)
{
	int len;

	*bulk = NULL;
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
	static char stars[20000];

	ask(s, "RANDOMKEY", NIL);
	ask(s, "KEYS *", "*0\r\n");
	ask(s, "SCAN 0", "*2\r\n" BULK(1, "0") "*0\r\n");
	ask(s, "SET key v", OK);
	ask_all(s, cases, BW_ARRAY_LEN(cases));
	memset(stars, '*', sizeof(stars));
	begin(2);
	word("KEYS");
	arg(stars, sizeof(stars));
	send_command(s);
	assert_output(s, "-ERR pattern is longer than 1024 bytes\r\n");
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
		ask_next(s, "DBSIZE", ":30000\r\n");
		memset(seen, 0, sizeof(seen));
		command.len = 0;
		put_command(&command, "KEYS key:*");
		put_text(&command, "PING\r\nDEL key:1\r\n");
		send_command(s);
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

/* Patterns and keys made to cost much: the visits get shorter, not longer. */
static void what_costs_much_is_cut_short(void **state)
{
	struct fake *f = server(1);
	struct bw_stream *s = fake_open(f, 0);
	static char key[8000], pattern[1000];
	unsigned calls = 0;
	unsigned long long cursor = 0;

	memset(key, 'a', sizeof(key));
	memset(pattern, 'a', sizeof(pattern));
	pattern[0] = '*';
	pattern[999] = 'b';
	for (unsigned n = 0; n < 300; n++) {
		memcpy(key, &n, sizeof(n));
		begin(3);
		word("SET");
		arg(key, sizeof(key));
		word("v");
		send_command(s);
	}
	do {
		char text[32];
		const char *at, *bulk;

		fake_output_clear(s);
		begin(6);
		word("SCAN");
		sprintf(text, "%llu", cursor);
		word(text);
		word("MATCH");
		arg(pattern, sizeof(pattern));
		word("COUNT");
		word("100000");
		send_command(s);
		at = fake_output(s, NULL);
		assert_int_equal(strncmp(at, "*2\r\n", 4), 0);
		at += 4;
		assert_true(next_bulk(&at, &bulk) > 0);
		cursor = strtoull(bulk, NULL, 10);
		assert_string_equal(at, "*0\r\n");
		calls++;
	} while (cursor != 0);
	assert_true(calls > 30); /* each after one bucket */
	fake_peer_close(s);
	finish(f);
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
		ask_next(s, "RANDOMKEY", BULK(5, "key:0"));
		ask(s, "DEL key:0", ":1\r\n");
		ask(s, "RANDOMKEY", NIL);
		fake_peer_close(s);
		finish(f);
	}
}

/* ---- what several workers do as one ---- */

/* A key of a worker. */
static void key_of(struct fake *f, unsigned owner, const char *prefix, char *key)
{
	for (unsigned n = 0;; n++) {
		int len = sprintf(key, "%s%u", prefix, n);

		if (bw_resp__hash_key(worker(f, 0), (uint8_t *)key, (uint32_t)len).owner == owner)
			return;
	}
}

/* $1, $2 and $3 are keys of the workers 0, 1 and 2. */
static void all_or_nothing_answers_as_redis_does(void **state)
{
	static const struct exchange cases[] = {
		{ "MSETNX", ARITY("msetnx") },
		{ "MSETNX $1 a $2", ARITY("msetnx") },
		{ "RENAME $1", ARITY("rename") },
		{ "RENAME $1 $2", "-ERR no such key\r\n" },
		{ "RENAME $2 $1", "-ERR no such key\r\n" },
		{ "RENAMENX $1 $1", "-ERR no such key\r\n" },
		{ "MSETNX $3 3 $1 1 $2 2", ":1\r\n" },
		{ "MGET $1 $2 $3", "*3\r\n" BULK(1, "1") BULK(1, "2") BULK(1, "3") },
		{ "DEL $1 $3", ":2\r\n" },
		{ "MSETNX $1 a $2 b $3 c", ":0\r\n" },
		{ "MGET $1 $2 $3", "*3\r\n" NIL BULK(1, "2") NIL },
		{ "MSETNX $1 a $3 c $1 d", ":1\r\n" },
		{ "MGET $1 $2 $3", "*3\r\n" BULK(1, "d") BULK(1, "2") BULK(1, "c") },
		{ "DBSIZE", ":3\r\n" },
		{ "RENAMENX $1 $2", ":0\r\n" },
		{ "RENAMENX $2 $1", ":0\r\n" },
		{ "RENAMENX $2 $2", ":0\r\n" },
		{ "RENAME $2 $2", OK },
		{ "RENAMENX nosuch $2", "-ERR no such key\r\n" },
		{ "RENAME $1 $2", OK },
		{ "MGET $1 $2 $3", "*3\r\n" NIL BULK(1, "d") BULK(1, "c") },
		{ "RENAME $3 $2", OK },
		{ "MGET $1 $2 $3", "*3\r\n" NIL BULK(1, "c") NIL },
		{ "EXPIRE $2 100", ":1\r\n" },
		{ "APPEND $2 2", ":2\r\n" },
		{ "RENAMENX $2 $3", ":1\r\n" },
		{ "TTL $3", ":100\r\n" },
		{ "OBJECT ENCODING $3", BULK(3, "raw") },
		{ "SET $1 12", OK },
		{ "RENAME $1 $3", OK },
		{ "TTL $3", ":-1\r\n" },
		{ "OBJECT ENCODING $3", BULK(3, "int") },
		{ "INCRBYFLOAT $3 1", BULK(2, "13") },
		{ "RENAME $3 $1", OK },
		{ "OBJECT ENCODING $1", BULK(6, "embstr") },
		{ "DBSIZE", ":1\r\n" },
	};

	for (unsigned round = 0; round < 4; round++) {
		unsigned workers = round == 3 ? 1 : 3;
		struct fake *f = server(workers);
		struct bw_stream *s = fake_open(f, round % workers);
		char keys[3][32], text[200], *to;

		for (unsigned i = 0; i < 3; i++)
			key_of(f, workers == 1 ? 0 : i, i == 0 ? "x" : i == 1 ? "y" : "z", keys[i]);
		for (unsigned i = 0; i < BW_ARRAY_LEN(cases); i++) {
			to = text;
			for (const char *p = cases[i].words; *p != '\0'; p++)
				if (*p == '$')
					to = stpcpy(to, keys[*++p - '1']);
				else
					*to++ = *p;
			*to = '\0';
			if (strcmp(reply(s, text), cases[i].reply) != 0)
				print_error("%u: %s\n", round, text);
			assert_string_equal(fake_output(s, NULL), cases[i].reply);
		}
		fake_peer_close(s);
		finish(f);
	}
}

/* Values of any size, over any border, while a client that is slow still reads them. */
static void values_move_between_workers(void **state)
{
	static const size_t sizes[] = { 0, 1, 500, 600, 4096, 4097, 20000, 300000 };
	static char bytes[300000];

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)rnd(256);
	for (unsigned round = 0; round < 9 * BW_ARRAY_LEN(sizes); round++) {
		size_t size = sizes[round / 9], out_len;
		struct fake *f = server(3);
		struct bw_stream *s = fake_open(f, 0), *slow = fake_open(f, 1);
		char from[32], to[32], text[100];
		const char *out;

		key_of(f, round % 3, "from", from);
		key_of(f, round / 3 % 3, "to", to);
		begin(3);
		word("SET");
		word(from);
		arg(bytes, size);
		send_command(s);
		fake_set_space(slow, 1500);
		fake_set_auto_ack(slow, false);
		snprintf(text, sizeof(text), "GET %s", from);
		send_words(slow, text);
		snprintf(text, sizeof(text), "SET %s old", to);
		send_words(s, text);
		snprintf(text, sizeof(text), "RENAME %s %s", from, to);
		ask_next(s, text, OK);
		snprintf(text, sizeof(text), "EXISTS %s", from);
		ask(s, text, ":0\r\n");
		snprintf(text, sizeof(text), "GET %s", to);
		send_words(s, text);
		out = fake_output(s, &out_len);
		assert_int_equal(atoi(out + 1), size);
		assert_memory_equal(strchr(out, '\n') + 1, bytes, size);
		ask_next(s, "FLUSHALL", OK);
		while (fake_ack(slow, 1 << 20) > 0)
			;
		out = fake_output(slow, &out_len);
		assert_int_equal(atoi(out + 1), size);
		assert_memory_equal(strchr(out, '\n') + 1, bytes, size);
		fake_peer_close(s);
		fake_peer_close(slow);
		finish(f);
	}
}

/* One client's answers are what they are without the others, who hold its keys all the time to no effect. */
static void who_waits_keeps_the_order(void **state)
{
	static const char *const commands[] = { "SET k%u v%u", "GET k%u", "APPEND k%u %u",
		"INCRBYFLOAT n%u 1.5", "INCR n%u", "STRLEN k%u", "MGET k%u k%u n1", "MSET k%u a k%u b",
		"EXISTS k%u n%u x%u", "DEL x%u", "DBSIZE", "SET x%u %u", "RENAME x%u x%u",
		"MSETNX x%u 1 x%u 2 x%u 3", "RENAMENX x%u x%u", "FLUSHALL", "KEYS x*", "GETRANGE k%u 0 5",
		"RENAMENX k%u k%u", "MSETNX k%u 1 x%u 2", "ECHO k%u", "GETDEL x%u", "OBJECT ENCODING k%u",
		"TOUCH k%u k%u" };
	static char outputs[2][1 << 20];

	for (unsigned round = 0; round < 30; round++) {
		for (unsigned which = 0; which < 2; which++) {
			unsigned workers = which == 0 ? 1 : 3;
			struct fake *f = server(workers);
			struct bw_stream *s = fake_open(f, 0), *others[3];
			const char *out;
			size_t len;

			for (unsigned i = 0; i < 3; i++)
				others[i] = fake_open(f, i % workers);
			seed = round;
			fake_hold_mail(f, true);
			for (unsigned i = 0; i < 300; i++) {
				const char *c = commands[rnd(BW_ARRAY_LEN(commands))];
				char text[200];

				/* A flush takes the keys away that have to be there: they are back at once. */
				if (strcmp(c, "KEYS x*") == 0 || strcmp(c, "FLUSHALL") == 0)
					c = rnd(10) == 0 ? c : "DBSIZE";
				if (i == 0 || strcmp(c, "FLUSHALL") == 0) {
					/* Between the two nobody may find them gone. */
					fake_hold_mail(f, false);
					fake_run(f);
					if (i > 0)
						send_words(s, c);
					begin(1 + 2 * 16);
					word("MSET");
					for (unsigned k = 0; k < 16; k++) {
						snprintf(text, sizeof(text), k < 8 ? "k%u" : "n%u", k % 8);
						word(text);
						word("1");
					}
					send_command(s);
					fake_run(f);
					fake_hold_mail(f, true);
					continue;
				}
				snprintf(text, sizeof(text), c, rnd(8), rnd(8), rnd(8));
				/* Its order depends on the hash; one key at most says as much. */
				if (c[0] == 'K')
					strcpy(text, "KEYS x3");
				send_words(s, text);
				/* Others hold them. Not a word of it in the model's run. */
				for (unsigned n = rnd(3); n > 0; n--) {
					unsigned at = rnd(3), a = rnd(8), b = rnd(8);

					snprintf(text, sizeof(text),
						rnd(2)   ? "RENAMENX k%u n%u"
						: rnd(2) ? "MSETNX k%u 1 n%u 2"
							 : "MSETNX k%u 1 x%u 2",
						a, b);
					if (which == 1)
						send_words(others[at], text);
				}
				if (rnd(3) == 0)
					fake_deliver_mail(f, rnd(8));
			}
			fake_hold_mail(f, false);
			fake_run(f);
			out = fake_output(s, &len);
			assert_true(len > 1000);
			memcpy(outputs[which], out, BW_MIN(len, sizeof(outputs[0]) - 1));
			outputs[which][len] = '\0';
			fake_peer_close(s);
			for (unsigned i = 0; i < 3; i++)
				fake_peer_close(others[i]);
			finish(f);
		}
		assert_string_equal(outputs[0], outputs[1]);
	}
}

/* Many try the same: one succeeds, and nobody ever sees half of it, whatever is late. */
static void nobody_sees_half_of_it(void **state)
{
	enum {
		PAIRS = 8,
		CLIENTS = 6
	};

	for (unsigned round = 0; round < 300; round++) {
		bool renames = round % 2;
		struct fake *f = server(3);
		struct bw_stream *writers[CLIENTS], *readers[CLIENTS];
		/* What a reader has asked: pair, and which key; and what it knows. */
		int pair[CLIENTS], step[CLIENTS];
		unsigned succeeded = 0;
		char text[100];

		seed = round;
		for (unsigned i = 0; i < CLIENTS; i++) {
			writers[i] = fake_open(f, i % 3);
			readers[i] = fake_open(f, i / 2);
			pair[i] = -1;
		}
		for (unsigned p = 0; p < PAIRS && renames; p++) {
			snprintf(text, sizeof(text), "SET a%u v", p);
			ask(writers[0], text, OK);
		}
		fake_hold_mail(f, true);
		for (unsigned p = 0; p < PAIRS; p++) {
			for (unsigned i = 0; i < CLIENTS; i++) {
				snprintf(text, sizeof(text),
					renames ? "RENAME a%u b%u" : "MSETNX a%u v b%u v", p, p);
				send_words(writers[i], text);
			}
		}
		for (unsigned turns = 0; turns < 2000; turns++) {
			unsigned i = rnd(CLIENTS);
			const char *out = fake_output(readers[i], NULL);

			if (*out != '\0') {
				bool is_there = out[1] == '1';

				/*
				 * MSETNX: first key there, then the second must be. RENAME: the source is gone, then
				 * the target must be there; and the other way round.
				 */
				if (step[i] == 1)
					assert_int_equal(is_there, true);
				step[i] = step[i] == 0 && is_there != renames ? 1 : 2;
				fake_output_clear(readers[i]);
				if (step[i] == 1) {
					snprintf(text, sizeof(text), "GET b%d", pair[i]);
					send_words(readers[i], text);
				} else {
					pair[i] = -1;
				}
			} else if (pair[i] < 0) {
				pair[i] = (int)rnd(PAIRS);
				step[i] = 0;
				snprintf(text, sizeof(text), "GET a%d", pair[i]);
				send_words(readers[i], text);
			}
			fake_deliver_mail(f, rnd(3));
		}
		fake_hold_mail(f, false);
		fake_run(f);
		for (unsigned i = 0; i < CLIENTS; i++) {
			const char *out = fake_output(writers[i], NULL);

			for (unsigned p = 0; p < PAIRS; p++, out = strchr(out, '\n') + 1)
				succeeded += out[0] == '+' || out[1] == '1';
			assert_string_equal(out, "");
			fake_peer_close(writers[i]);
			fake_peer_close(readers[i]);
		}
		assert_int_equal(succeeded, PAIRS);
		finish(f);
	}
}

/* It may die at any moment: then all of it is done, or nothing, and nobody waits for it. */
static void who_dies_in_the_middle_leaves_nothing_half_done(void **state)
{
	for (unsigned which = 0; which < 3; which++) {
		for (unsigned at = 0; at < 20; at++) {
			struct fake *f = server(3);
			struct bw_stream *dying = fake_open(f, at % 3), *s = fake_open(f, (at + 1) % 3),
					 *waiting = fake_open(f, at / 3 % 3);
			char keys[3][32], text[200];

			for (unsigned i = 0; i < 3; i++)
				key_of(f, i, "x", keys[i]);
			snprintf(text, sizeof(text), "SET %s v", keys[2]);
			if (which > 0)
				ask(s, text, OK);
			fake_hold_mail(f, true);
			if (which == 0)
				snprintf(text, sizeof(text), "MSETNX %s v %s v %s v", keys[2], keys[0],
					keys[1]);
			else if (which == 1)
				snprintf(text, sizeof(text), "RENAME %s %s", keys[2], keys[0]);
			else
				snprintf(text, sizeof(text), "MSETNX %s v %s v %s v", keys[1], keys[2],
					keys[0]);
			send_words(dying, text);
			fake_deliver_mail(f, at / 3);
			/* Somebody waits for it by now, or not. */
			snprintf(text, sizeof(text), "MGET %s %s %s", keys[0], keys[1], keys[2]);
			send_words(s, text);
			/* And who waits may die, too: at an owner of one of the keys. */
			send_words(waiting, text);
			snprintf(text, sizeof(text), "EXISTS %s", keys[at % 3]);
			send_words(waiting, text);
			fake_deliver_mail(f, at % 4);
			fake_peer_reset(waiting);
			snprintf(text, sizeof(text), "MGET %s %s %s", keys[0], keys[1], keys[2]);
			fake_peer_reset(dying);
			fake_hold_mail(f, false);
			fake_run(f);
			assert_int_equal(fake_output(s, NULL)[0], '*');
			ask_next(s, text,
				which == 0   ? "*3\r\n" BULK(1, "v") BULK(1, "v") BULK(1, "v")
				: which == 1 ? "*3\r\n" BULK(1, "v") NIL NIL
					     : "*3\r\n" NIL NIL BULK(1, "v"));
			fake_peer_close(s);
			finish(f);
		}
	}
}

/* No memory at the last of the workers: nothing was set anywhere. */
static void what_does_not_fit_is_not_begun(void **state)
{
	static char value[20000];
	struct fake *f;
	struct bw_stream *s;
	char keys[2][32], text[100];

	conf.memory_bytes_max = bw_resp_memory_bytes_least(&conf, 2);
	conf.policy = BW_RESP_NOEVICTION;
	f = server(2);
	s = fake_open(f, 0);
	for (unsigned n = 0, full = 0; full < 2;) {
		key_of(f, 1, "x", keys[0]);
		snprintf(keys[0] + strlen(keys[0]), 10, "-%u", n++);
		if (bw_resp__hash_key(worker(f, 0), (uint8_t *)keys[0], (uint32_t)strlen(keys[0])).owner != 1)
			continue;
		begin(3);
		word("SET");
		word(keys[0]);
		arg(value, full == 0 ? sizeof(value) : 300);
		fake_output_clear(s);
		send_command(s);
		full += fake_output(s, NULL)[0] == '-';
	}
	fake_output_clear(s);
	key_of(f, 0, "a", keys[0]);
	key_of(f, 1, "b", keys[1]);
	begin(5);
	word("MSETNX");
	word(keys[0]);
	word("v");
	word(keys[1]);
	arg(value, 300);
	send_command(s);
	assert_output(s, "-OOM command not allowed when used memory > 'maxmemory'.\r\n");
	snprintf(text, sizeof(text), "EXISTS %s %s", keys[0], keys[1]);
	ask(s, text, ":0\r\n");
	begin(3);
	word("SET");
	word(keys[0]);
	arg(value, 300);
	send_command(s);
	snprintf(text, sizeof(text), "RENAME %s %s", keys[0], keys[1]);
	ask_next(s, text, "-OOM command not allowed when used memory > 'maxmemory'.\r\n");
	snprintf(text, sizeof(text), "EXISTS %s", keys[0]);
	ask(s, text, ":1\r\n");
	fake_peer_close(s);
	finish(f);
}

/* ---- what no key has to do with, while keys are held ---- */

/* What was switched on for a connection is not undone by the end of a command that held keys, or of one behind it. */
static void what_a_connection_is_stays_so(void **state)
{
	struct fake *f = server(3);
	struct bw_stream *s = fake_open(f, 0);

	send_words(s, "HELLO 3");
	ask_next(s, "CLIENT NO-EVICT on", OK);
	ask(s, "MSETNX a 1 b 2 c 3 d 4 e 5", ":1\r\n");
	for (char key[8] = "GET a"; key[4] < 'f'; key[4]++)
		assert_non_null(strstr(reply(s, key), "$1\r\n"));
	ask_next(s, "KEYS nosuch", "*0\r\n");
	assert_non_null(strstr(reply(s, "CLIENT INFO"), " flags=e "));
	assert_non_null(strstr(reply(s, "CLIENT INFO"), " resp=3 "));
	/* SKIP is for the next command, though one that came before has its reply only then. */
	fake_output_clear(s);
	fake_hold_mail(f, true);
	for (char key[8] = "GET a"; key[4] < 'f'; key[4]++)
		send_words(s, key);
	send_words(s, "CLIENT REPLY SKIP");
	while (fake_deliver_mail(f, 1) > 0)
		;
	fake_hold_mail(f, false);
	fake_run(f);
	send_words(s, "ECHO unheard");
	send_words(s, "ECHO heard");
	assert_null(strstr(fake_output(s, NULL), "unheard"));
	assert_non_null(strstr(fake_output(s, NULL), "$5\r\nheard\r\n"));
	fake_peer_close(s);
	finish(f);
}

/*
 * MSETNX is stopped after each of its mails. Then others are asked: LIST, KILL and CONFIG SET are done though keys are
 * held, and though FLUSHALL and a GET wait for them; whoever is killed in the middle leaves nothing half done.
 */
static void clients_and_settings_wait_for_no_key(void **state)
{
	for (unsigned stop = 0; stop < 12; stop++) {
		for (unsigned kills = 0; kills < 2; kills++) {
			struct fake *f = server(3);
			struct bw_stream *holder = fake_open(f, 1), *waiter = fake_open(f, 2),
					 *flusher = fake_open(f, 1), *admin = fake_open(f, 0);
			const char *text;

			ask(holder, "CLIENT SETNAME holder", OK);
			fake_hold_mail(f, true);
			send_words(holder, "MSETNX a 1 b 2 c 3 d 4 e 5 f 6 g 7 h 8");
			fake_deliver_mail(f, stop);
			send_words(waiter, "MGET a b c d e f g h");
			send_words(flusher, "FLUSHALL");
			send_words(admin, "CLIENT LIST");
			send_words(admin, "CONFIG SET maxmemory 30mb maxmemory-policy noeviction");
			send_words(admin, "COMMAND COUNT");
			if (kills)
				send_words(admin, "CLIENT KILL TYPE normal");
			/* In any order they come through: each of the holder's mails is delivered, too. */
			fake_hold_mail(f, false);
			fake_run(f);
			text = fake_output(admin, NULL);
			assert_int_equal(count_of(text, " name="), 4);
			assert_int_equal(count_of(text, "+OK\r\n"), 1);
			for (unsigned i = 0; i < 3; i++) {
				assert_int_equal(worker(f, i)->store.policy, BW_RESP_NOEVICTION);
				assert_int_equal(worker(f, i)->store.slab.bytes_max, 10u << 20);
			}
			if (kills) {
				assert_non_null(strstr(text, ":3\r\n"));
				assert_true(fake_is_closing(holder) && fake_is_closing(waiter));
			} else {
				assert_string_equal(fake_output(holder, NULL), ":1\r\n");
				assert_string_equal(fake_output(flusher, NULL), OK);
				assert_int_equal(count_of(fake_output(waiter, NULL), "\r\n") >= 9, 1);
			}
			fake_peer_close(holder);
			fake_peer_close(waiter);
			fake_peer_close(flusher);
			fake_peer_close(admin);
			finish(f);
		}
	}
}

/* As long as a key is held, nothing about the settings is: the holder's finish is kept back until all else is done. */
static void settings_are_told_while_a_key_is_held(void **state)
{
	struct fake *f = server(2);
	struct bw_stream *holder = fake_open(f, 0), *admin = fake_open(f, 0), *all = fake_open(f, 0);
	char keys[2][64], text[192];
	unsigned tries = 0;

	key_of(f, 0, "mine", keys[0]);
	key_of(f, 1, "theirs", keys[1]);
	snprintf(text, sizeof(text), "MSETNX %s 1 %s 2", keys[0], keys[1]);
	fake_hold_mail(f, true);
	send_words(holder, text);
	while (worker(f, 0)->holds == 0 && tries++ < 10)
		fake_deliver_mail(f, 1);
	assert_int_equal(worker(f, 0)->holds, 1);
	/* Its own worker's part waits for the hold; COMMAND, INFO and what is told do not. */
	send_words(all, "DBSIZE");
	assert_int_equal(*fake_output(all, NULL), 0);
	assert_non_null(strstr(reply(admin, "INFO server"), "redis_version"));
	assert_int_equal(*reply(admin, "COMMAND"), '*');
	fake_output_clear(admin);
	send_words(admin, "CONFIG SET maxmemory-policy allkeys-lfu");
	assert_int_equal(worker(f, 0)->store.policy, BW_RESP_ALLKEYS_LFU);
	assert_int_equal(worker(f, 0)->holds, 1);
	fake_hold_mail(f, false);
	fake_run(f);
	assert_string_equal(fake_output(admin, NULL), OK);
	assert_string_equal(fake_output(holder, NULL), ":1\r\n");
	assert_int_equal(*fake_output(all, NULL), ':');
	fake_peer_close(holder);
	fake_peer_close(admin);
	fake_peer_close(all);
	finish(f);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* ---- what INFO says of commands ---- */

/* A command's calls, rejected and failed calls, and the time it took. False: INFO has no line of it. */
static bool stat_of(struct bw_stream *s, const char *name, unsigned long long counts[3], double *us)
{
	const char *line;
	char head[64];
	double each;

	snprintf(head, sizeof(head), "\ncmdstat_%s:", name);
	line = strstr(reply(s, "INFO commandstats"), head);
	if (line != NULL)
		assert_int_equal(
			sscanf(line + strlen(head),
				"calls=%llu,usec=%lf,usec_per_call=%lf,rejected_calls=%llu,failed_calls=%llu\r\n",
				&counts[0], us, &each, &counts[1], &counts[2]),
			5);
	fake_output_clear(s);
	return line != NULL;
}

static void assert_stat(struct bw_stream *s, const char *name, unsigned long long calls,
	unsigned long long rejected, unsigned long long failed)
{
	unsigned long long counts[3] = { 0 };
	double us = 0;

	assert_true(stat_of(s, name, counts, &us));
	assert_int_equal(counts[0], calls);
	assert_int_equal(counts[1], rejected);
	assert_int_equal(counts[2], failed);
	assert_true(calls == 0 ? us == 0 : us >= 0);
}

/* Counted once, wherever it ran; told apart: what ran, what ran and failed, and what did not run at all. */
static void commands_are_counted(void **state)
{
	for (unsigned workers = 1; workers <= 3; workers += 2) {
		struct fake *f = server(workers);
		struct bw_stream *s = fake_open(f, 0), *other = fake_open(f, workers - 1);
		unsigned long long counts[3];
		char text[64];
		double us;

		assert_false(stat_of(s, "info", counts, &us)); /* of itself it says nothing yet */
		assert_stat(s, "info", 1, 0, 0);
		for (unsigned i = 0; i < 1000; i++) {
			snprintf(text, sizeof(text), "SET key:%u x", i);
			send_words(i % 2 ? s : other, text);
			fake_output_clear(s);
			snprintf(text, sizeof(text), "INCR key:%u", i % 10);
			send_words(other, text);
		}
		assert_stat(s, "set", 1000, 0, 0);
		assert_stat(s, "incr", 1000, 0, 1000);
		ask(s, "GET", ARITY("get"));
		ask(s, "GET a b", ARITY("get"));
		assert_stat(s, "get", 0, 2, 0);
		send_words(s, "MGET key:1 key:2 key:3 key:4");
		send_words(s, "DEL key:1 key:2 key:3 key:4");
		send_words(s, "MSETNX a 1 b 2 c 3");
		send_words(s, "RENAME nosuch a");
		send_words(s, "KEYS *");
		send_words(s, "MSET a 1 b");
		send_words(s, "FLUSHALL NOW");
		send_words(s, "CLIENT LIST");
		send_words(s, "CLIENT NOSUCH");
		send_words(s, "CLIENT ID x");
		send_words(s, "OBJECT ENCODING a");
		send_words(s, "NOSUCH");
		fake_run(f);
		assert_stat(s, "mget", 1, 0, 0);
		assert_stat(s, "del", 1, 0, 0);
		assert_stat(s, "msetnx", 1, 0, 0);
		assert_stat(s, "rename", 1, 0, 1);
		assert_stat(s, "keys", 1, 0, 0);
		assert_stat(s, "mset", 1, 0, 1);
		assert_stat(s, "flushall", 1, 0, 1);
		assert_stat(s, "client|list", 1, 0, 0);
		assert_stat(s, "client|id", 0, 1, 0);
		assert_stat(s, "object|encoding", 1, 0, 0);
		assert_false(stat_of(s, "client", counts, &us));
		assert_non_null(
			strstr(reply(s, "INFO errorstats"), "# Errorstats\r\nerrorstat_ERR:count=1008\r\n"));
		send_words(s, "AUTH default wrong");
		send_words(s, "HELLO 9");
		assert_non_null(strstr(reply(s, "INFO errorstats"),
			"errorstat_ERR:count=1008\r\nerrorstat_NOPROTO:count=1\r\n"));
		fake_output_clear(s);
		/* Also of all that they are asked for the second time. */
		for (unsigned i = 0; i < 2; i++) {
			ask(s, "CONFIG RESETSTAT", OK);
			assert_false(stat_of(s, "set", counts, &us));
			assert_stat(s, "config|resetstat", 1, 0, 0);
			assert_string_equal(reply(s, "INFO errorstats"), "$14\r\n# Errorstats\r\n\r\n");
			fake_output_clear(s);
		}
		fake_peer_close(s);
		fake_peer_close(other);
		finish(f);
	}
}

/* Some calls stand for all: the sum is that of all, as far as calls are alike, and no rhythm is missed. */
/** No byte of the stack below is a NUL that would end a string by luck. */
static __attribute__((noinline)) void soil_the_stack(void)
{
	volatile char bytes[32768];

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = 'x';
}

/** The sanitizer's strict look at strings (ASAN_OPTIONS of scripts/test) sees whoever reads on. */
static void errors_are_read_to_their_end_alone(void **state)
{
	struct fake *f = server(1);
	struct bw_stream *s = fake_open(f, 0);

	for (unsigned i = 0; i < 3; i++) {
		soil_the_stack();
		ask(s, "SELECT 9", "-ERR DB index is out of range\r\n");
		soil_the_stack();
		ask(s, "DECRBY k none", "-ERR value is not an integer or out of range\r\n");
	}
	fake_destroy(f);
}

static void measured_calls_stand_for_all(void **state)
{
	struct bw_resp__gauge gauge = { .left = 1, .distance = 1 };
	unsigned measured = 0, in_step[64] = { 0 };

	for (unsigned i = 0; i < 1000000; i++) {
		if (bw_resp__count(&gauge) == 0)
			continue;
		measured++;
		in_step[i % 64]++;
		bw_resp__measured(&gauge, bw_clock_now() - 1000000);
	}
	assert_in_range(measured, 64 + 15000, 64 + 16500); /* 1,000,000 / 63.5 */
	for (unsigned i = 0; i < BW_ARRAY_LEN(in_step); i++)
		assert_in_range(in_step[i], 170, 330); /* of 248 */
	/* A millisecond each, and what reading the clock takes. */
	assert_in_range(gauge.count + gauge.distance - gauge.left, 1000000, 1000000);
	assert_true(gauge.ns >= gauge.count * 1000000);
	assert_true((double)gauge.ns < (double)gauge.count * 1500000);
}

static void numbers_are_written_as_printf_does(void **state)
{
	char text[24], expected[24];

	for (int64_t base = 1; base > 0 && base <= INT64_MAX / 10; base *= 10)
		for (int64_t n = base - 101; n <= base + 101; n++)
			for (int sign = -1; sign <= 1; sign += 2) {
				unsigned len = bw_resp__format_int(text, sign * n);

				assert_int_equal(len,
					snprintf(expected, sizeof(expected), "%lld", (long long)(sign * n)));
				assert_memory_equal(text, expected, len);
			}
	assert_int_equal(bw_resp__format_int(text, INT64_MIN), 20);
	assert_memory_equal(text, "-9223372036854775808", 20);
	assert_int_equal(bw_resp__format_int(text, INT64_MAX), 19);
	assert_memory_equal(text, "9223372036854775807", 19);
}

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
		TEST(what_costs_much_is_cut_short),
		TEST(too_many_keys_are_an_error),
		TEST(any_key_is_drawn),
		TEST(all_or_nothing_answers_as_redis_does),
		TEST(values_move_between_workers),
		TEST(who_waits_keeps_the_order),
		TEST(nobody_sees_half_of_it),
		TEST(who_dies_in_the_middle_leaves_nothing_half_done),
		TEST(what_does_not_fit_is_not_begun),
		TEST(what_a_connection_is_stays_so),
		TEST(clients_and_settings_wait_for_no_key),
		TEST(settings_are_told_while_a_key_is_held),
		TEST(commands_are_counted),
		TEST(errors_are_read_to_their_end_alone),
		TEST(measured_calls_stand_for_all),
		TEST(numbers_are_written_as_printf_does),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
