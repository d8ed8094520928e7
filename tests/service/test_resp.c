/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The cache as its clients see it: what goes in, what comes out, however it is cut, however many workers share the
 * keys, and however little room there is. Expected texts are those of redis-server 7.0.
 */
#include <errno.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "resp_client.h"

/* A client goes, and with it the server. */
static void finish_with(struct fake *f, struct bw_stream *s)
{
	fake_peer_reset(s);
	finish(f);
}

/* Bytes as they are. */
static void line(struct bw_stream *s, const char *text)
{
	fake_feed(s, text, strlen(text));
}

/* ---- commands ---- */

static const struct exchange exchanges[] = {
	{ "PING", "+PONG\r\n" },
	{ "ping hello", BULK(5, "hello") },
	{ "PING a b", ARITY("ping") },
	{ "ECHO hi", BULK(2, "hi") },
	{ "ECHO", ARITY("echo") },
	{ "GET a", NIL },
	{ "SET a 1", OK },
	{ "GeT a", BULK(1, "1") },
	{ "GET", ARITY("get") },
	{ "GET a b", ARITY("get") },
	{ "SET a", ARITY("set") },
	{ "SET a 2 NX", NIL },
	{ "SET b 2 NX", OK },
	{ "SET c 3 XX", NIL },
	{ "SET a 9 XX GET", BULK(1, "1") },
	{ "SET c 3 NX GET", NIL },
	{ "SET c 4 NX GET", BULK(1, "3") },
	{ "SET a b NX XX", SYNTAX },
	{ "SET a b foo", SYNTAX },
	{ "SET a b EX", SYNTAX },
	{ "SET a b EX 0", EXPIRY("set") },
	{ "SET a b EX -1", EXPIRY("set") },
	{ "SET a b PX abc", NOT_INT },
	{ "SET a b EX 9223372036854775807", EXPIRY("set") },
	{ "SET a b PX 9223372036854775807", EXPIRY("set") },
	{ "SET a b EX 5 PX 5", SYNTAX },
	{ "SET a b KEEPTTL EX 5", SYNTAX },
	{ "GET a", BULK(1, "9") },
	{ "SET t x EX 100", OK },
	{ "TTL t", ":100\r\n" },
	{ "PTTL t", ":100000\r\n" },
	{ "SET t y KEEPTTL", OK },
	{ "TTL t", ":100\r\n" },
	{ "SET t y", OK },
	{ "TTL t", ":-1\r\n" },
	{ "TTL nosuch", ":-2\r\n" },
	{ "SET t y PXAT 1", OK },
	{ "GET t", NIL },
	{ "SETEX t 10 v", OK },
	{ "SETEX t 0 v", EXPIRY("setex") },
	{ "PSETEX t 5000 v", OK },
	{ "PTTL t", ":5000\r\n" },
	{ "PERSIST t", ":1\r\n" },
	{ "PERSIST t", ":0\r\n" },
	{ "EXPIRE t 10", ":1\r\n" },
	{ "EXPIRE t 20 NX", ":0\r\n" },
	{ "EXPIRE t 20 XX", ":1\r\n" },
	{ "EXPIRE t 10 GT", ":0\r\n" },
	{ "EXPIRE t 10 LT", ":1\r\n" },
	{ "EXPIRE t 10 NX XX", "-ERR NX and XX, GT or LT options at the same time are not compatible\r\n" },
	{ "EXPIRE t 10 GT LT", "-ERR GT and LT options at the same time are not compatible\r\n" },
	{ "EXPIRE t 10 foo", "-ERR Unsupported option foo\r\n" },
	{ "EXPIRE t abc", NOT_INT },
	{ "EXPIRE t 9223372036854775807", EXPIRY("expire") },
	{ "EXPIRE nosuch 10", ":0\r\n" },
	{ "PEXPIREAT t 4102444800123", ":1\r\n" },
	{ "EXPIRETIME t", ":4102444800\r\n" },
	{ "PEXPIRETIME t", ":4102444800123\r\n" },
	{ "EXPIREAT t 1", ":1\r\n" },
	{ "EXISTS t", ":0\r\n" },
	{ "SET t x", OK },
	{ "PEXPIRE t -1", ":1\r\n" },
	{ "EXISTS t", ":0\r\n" },
	{ "INCR n", ":1\r\n" },
	{ "INCRBY n 41", ":42\r\n" },
	{ "DECR n", ":41\r\n" },
	{ "DECRBY n 50", ":-9\r\n" },
	{ "DECRBY n -9223372036854775808", "-ERR decrement would overflow\r\n" },
	{ "INCRBY n 1.5", NOT_INT },
	{ "INCRBY n +1", NOT_INT },
	{ "INCRBY n 01", NOT_INT },
	{ "SET n 9223372036854775807", OK },
	{ "INCR n", "-ERR increment or decrement would overflow\r\n" },
	{ "DECR n", ":9223372036854775806\r\n" },
	{ "SET n abc", OK },
	{ "INCR n", NOT_INT },
	{ "APPEND n def", ":6\r\n" },
	{ "APPEND new abc", ":3\r\n" },
	{ "STRLEN n", ":6\r\n" },
	{ "STRLEN nosuch", ":0\r\n" },
	{ "GETSET n new", BULK(6, "abcdef") },
	{ "GETSET nosuch1 v", NIL },
	{ "GETDEL nosuch1", BULK(1, "v") },
	{ "GETDEL nosuch1", NIL },
	{ "SETNX n x", ":0\r\n" },
	{ "SETNX fresh x", ":1\r\n" },
	{ "TYPE n", "+string\r\n" },
	{ "TYPE nosuch", "+none\r\n" },
	{ "MSET k1 v1 k2 v2 k3 v3", OK },
	{ "MSET k1", ARITY("mset") },
	{ "MSET k1 a k2", ARITY("mset") },
	{ "MGET k1 nosuch k3", "*3\r\n" BULK(2, "v1") NIL BULK(2, "v3") },
	{ "EXISTS k1 k2 k1 nosuch", ":3\r\n" },
	{ "TOUCH k1 nosuch", ":1\r\n" },
	{ "DEL k1 k1 nosuch", ":1\r\n" },
	{ "UNLINK k2 k3", ":2\r\n" },
	{ "DEL", ARITY("del") },
	{ "DBSIZE", ":6\r\n" },
	{ "DBSIZE x", ARITY("dbsize") },
	{ "FLUSHALL foo", SYNTAX },
	{ "FLUSHALL ASYNC", OK },
	{ "DBSIZE", ":0\r\n" },
	{ "SET a 1", OK },
	{ "FLUSHDB SYNC", OK },
	{ "GET a", NIL },
	{ "SELECT 0", OK },
	{ "SELECT 1", "-ERR DB index is out of range\r\n" },
	{ "SELECT x", NOT_INT },
	{ "FOO", "-ERR unknown command 'FOO', with args beginning with: \r\n" },
	{ "foo bar baz", "-ERR unknown command 'foo', with args beginning with: 'bar' 'baz' \r\n" },
	{ "HELLO 4", "-NOPROTO unsupported protocol version\r\n" },
	{ "HELLO x", "-ERR Protocol version is not an integer or out of range\r\n" },
	{ "HELLO 2 foo", "-ERR Syntax error in HELLO option 'foo'\r\n" },
	{ "HELLO 2 AUTH bob x", "-WRONGPASS invalid username-password pair or user is disabled.\r\n" },
	{ "AUTH default x", OK },
	{ "CLIENT", ARITY("client") },
	{ "CLIENT foo", "-ERR unknown subcommand 'foo'. Try CLIENT HELP.\r\n" },
	{ "CLIENT SETNAME", ARITY("client|setname") },
	{ "CLIENT GETNAME", NIL },
	{ "CLIENT SETNAME me", OK },
	{ "CLIENT GETNAME", BULK(2, "me") },
	{ "CLIENT SETNAME a\tb",
		"-ERR Client names cannot contain spaces, newlines or special characters.\r\n" },
	{ "CLIENT SETINFO lib-name x", OK },
	{ "RESET", "+RESET\r\n" },
	{ "CLIENT GETNAME", NIL },
	{ "CONFIG", ARITY("config") },
	{ "CONFIG GET save", "*2\r\n" BULK(4, "save") BULK(0, "") },
	{ "CONFIG GET save appendonly",
		"*4\r\n" BULK(10, "appendonly") BULK(2, "no") BULK(4, "save") BULK(0, "") },
	{ "CONFIG GET m*mor[y]", "*2\r\n" BULK(9, "maxmemory") BULK(8, "67108864") },
	{ "CONFIG GET [r-t]ave", "*2\r\n" BULK(4, "save") BULK(0, "") },
	{ "CONFIG GET nosuch", "*0\r\n" },
	{ "CONFIG SET nosuch 1", "-ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'\r\n" },
	{ "COMMAND COUNT x", ARITY("command|count") },
	{ "COMMAND foo", "-ERR unknown subcommand 'foo'. Try COMMAND HELP.\r\n" },
	{ "COMMAND INFO get nosuch",
		"*2\r\n*10\r\n" BULK(3,
			"get") ":2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n"
			       "*3\r\n+@read\r\n+@string\r\n+@fast\r\n*0\r\n*1\r\n*6\r\n" BULK(
				       5, "flags") "*2\r\n+RO\r\n+access\r\n" BULK(12,
				       "begin_search") "*4\r\n" BULK(4, "type") BULK(5, "index")
				       BULK(4, "spec") "*2\r\n" BULK(5, "index") ":1\r\n" BULK(9,
					       "find_keys") "*4\r\n" BULK(4, "type") BULK(5, "range") BULK(4,
					       "spec") "*6\r\n" BULK(7, "lastkey") ":0\r\n" BULK(7,
					       "keystep") ":1\r\n" BULK(5, "limit") ":0\r\n*0\r\n$-1\r\n" },
	{ "INFO nosuch", BULK(0, "") },
};

static void run_exchanges(unsigned workers, unsigned at)
{
	struct fake *f = server(workers);
	struct bw_stream *s = fake_open(f, at);

	ask_all(s, exchanges, BW_ARRAY_LEN(exchanges));
	finish_with(f, s);
}

static void every_command_answers_as_redis_does(void **state)
{
	run_exchanges(1, 0);
}

static void so_it_does_with_three_workers(void **state)
{
	for (unsigned at = 0; at < 3; at++)
		run_exchanges(3, at);
}

static void long_texts_are_whole(void **state)
{
	struct fake *f = server(1);
	struct bw_stream *s = fake_open(f, 0);
	const char *text;

	text = reply(s, "INFO");
	assert_non_null(strstr(text, "redis_version:7."));
	assert_non_null(strstr(text, "# Keyspace\r\n"));
	assert_int_equal(atoi(text + 1), strlen(strstr(text, "\r\n") + 2) - 2);
	text = reply(s, "HELLO 2 SETNAME me");
	assert_int_equal(strncmp(text, "*14\r\n$6\r\nserver\r\n$5\r\nredis\r\n", 28), 0);
	assert_string_equal(reply(s, "CLIENT GETNAME"), BULK(2, "me"));
	assert_non_null(strstr(reply(s, "CLIENT INFO"), " name=me "));
	assert_int_equal(atoi(reply(s, "COMMAND COUNT") + 1), bw_resp__command_count);
	assert_int_equal(atoi(reply(s, "COMMAND") + 1), bw_resp__command_count);
	text = reply(s, "COMMAND DOCS");
	assert_int_equal(atoi(text + 1), 2 * bw_resp__command_count);
	assert_int_equal(strncmp(strchr(text, '\n'), "\n$6\r\nappend\r\n*10\r\n", 18), 0);
	assert_int_equal(strncmp(reply(s, "TIME"), "*2\r\n$10\r\n", 9), 0);
	/* Inline: the arguments are in the very memory next to which the text is made. */
	fake_output_clear(s);
	fake_feed(s, "INFO server clients keyspace\r\n", 30);
	assert_non_null(strstr(fake_output(s, NULL), "connected_clients:1\r\n"));
	assert_non_null(strstr(fake_output(s, NULL), "# Keyspace"));
	assert_null(strstr(fake_output(s, NULL), "# Memory"));
	fake_output_clear(s);
	fake_feed(s, "COMMAND DOCS get set nosuch\r\n", 29);
	assert_int_equal(strncmp(fake_output(s, NULL), "*4\r\n$3\r\nget\r\n", 13), 0);
	assert_non_null(strstr(fake_output(s, NULL), "$3\r\nset\r\n"));
	assert_non_null(strstr(fake_stats(f, 0), "connections 1\n"));
	finish_with(f, s);
}

/* ---- protocol 3 ---- */

static void protocol_3_is_spoken_also_by_other_workers(void **state)
{
	for (unsigned workers = 1; workers <= 3; workers += 2) {
		struct fake *f = server(workers);
		struct bw_stream *s = fake_open(f, 0), *t = fake_open(f, 0);
		const char *text;

		assert_int_equal(
			strncmp(reply(s, "HELLO 3"), "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n", 27), 0);
		assert_non_null(strstr(reply(s, "HELLO"), "proto\r\n:3\r\n"));
		fake_output_clear(s);
		for (char key[] = "GET a"; key[4] <= 'p'; key[4]++) {
			ask(s, key, "_\r\n");
			ask(t, key, NIL); /* its own protocol is another */
		}
		ask(s, "SET b 1", OK);
		ask(s, "MGET a b c d e f g h", "*8\r\n_\r\n" BULK(1, "1") "_\r\n_\r\n_\r\n_\r\n_\r\n_\r\n");
		ask(s, "GETDEL nosuch", "_\r\n");
		ask(s, "SET b 2 NX", "_\r\n");
		ask(s, "CLIENT GETNAME", "_\r\n");
		ask(s, "CONFIG GET save", "%1\r\n" BULK(4, "save") BULK(0, ""));
		ask(s, "INFO nosuch", "=4\r\ntxt:\r\n");
		ask(s, "CLIENT LIST TYPE pubsub", "=4\r\ntxt:\r\n");
		assert_int_equal(strncmp(reply(s, "INFO server"), "=", 1), 0);
		assert_non_null(strstr(reply(s, "INFO server"), "\r\ntxt:# Server\r\nredis_version:7."));
		text = reply(s, "INFO");
		assert_int_equal(atoi(text + 1), strlen(strstr(text, "\r\n") + 2) - 2);
		text = reply(s, "CLIENT LIST");
		assert_int_equal(atoi(text + 1), strlen(strstr(text, "\r\n") + 2) - 2);
		assert_non_null(strstr(reply(s, "COMMAND INFO get"), "~2\r\n+readonly\r\n"));
		assert_int_equal(strncmp(reply(s, "COMMAND DOCS get"), "%1\r\n$3\r\nget\r\n%5\r\n", 17), 0);
		fake_output_clear(s);
		/* What was asked in one protocol is answered in it, though its answer comes later. */
		line(s, "GET a\r\nGET c\r\nHELLO 2 x\r\nGET a\r\nRESET\r\nGET a\r\nGET c\r\n");
		assert_output(
			s, "_\r\n_\r\n-ERR Syntax error in HELLO option 'x'\r\n_\r\n+RESET\r\n" NIL NIL);
		fake_peer_reset(t);
		finish_with(f, s);
	}
}

/* ---- who may ask ---- */

#define NOAUTH    "-NOAUTH Authentication required.\r\n"
#define WRONGPASS "-WRONGPASS invalid username-password pair or user is disabled.\r\n"

static void nothing_is_answered_without_the_password(void **state)
{
	struct bw_stream *s, *t;
	struct buf b = { 0 };
	struct fake *f;
	char head[32];

	strcpy(conf.password, "open sesame");
	conf.password_len = (uint32_t)strlen(conf.password);
	f = server(2);
	s = fake_open(f, 0);
	ask(s, "GET a", NOAUTH);
	ask(s, "PING", NOAUTH);
	ask(s, "INFO", NOAUTH);
	ask(s, "CLIENT LIST", NOAUTH);
	ask(s, "CONFIG SET maxmemory 1", NOAUTH);
	ask(s, "FLUSHALL", NOAUTH);
	ask(s, "MGET a b c", NOAUTH);
	ask(s, "GET", ARITY("get"));
	ask(s, "AUTH wrong", WRONGPASS);
	ask(s, "AUTH open", WRONGPASS);
	ask(s, "AUTH ", WRONGPASS);
	ask(s, "AUTH bob wrong", WRONGPASS);
	ask(s, "HELLO 3",
		"-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> "
		"option can be used to authenticate the client and select the RESP protocol version at the same time\r\n");
	ask(s, "HELLO 3 AUTH default wrong", WRONGPASS);
	ask(s, "RESET", "+RESET\r\n");
	ask(s, "GET a", NOAUTH);
	line(s, "AUTH default \"open sesame\"\r\n");
	assert_output(s, OK);
	ask(s, "GET a", NIL);
	assert_non_null(strstr(reply(s, "CONFIG GET requirepass"), "*0\r\n")); /* it is not shown */
	assert_null(strstr(reply(s, "CONFIG GET *"), "sesame"));
	fake_output_clear(s);
	ask(s, "RESET", "+RESET\r\n");
	ask(s, "GET a", NOAUTH);
	line(s, "HELLO 3 AUTH default \"open sesame\" SETNAME me\r\n");
	assert_int_equal(fake_output(s, NULL)[0], '%');
	fake_output_clear(s);
	ask(s, "CLIENT GETNAME", BULK(2, "me"));

	/* Who has not said it may not make us keep much. */
	t = fake_open(f, 1);
	line(t, "*11\r\n");
	assert_output(t, "-ERR Protocol error: unauthenticated multibulk length\r\n");
	assert_true(fake_is_closing(t));
	fake_peer_reset(t);
	t = fake_open(f, 1);
	line(t, "*2\r\n$3\r\nGET\r\n$16385\r\n");
	assert_output(t, "-ERR Protocol error: unauthenticated bulk length\r\n");
	assert_true(fake_is_closing(t));
	fake_peer_reset(t);
	t = fake_open(f, 1);
	put_text(&b, "*2\r\n$4\r\nAUTH\r\n");
	put(&b, head, (size_t)sprintf(head, "$%u\r\n", 16384));
	for (unsigned i = 0; i < 16384; i++)
		put(&b, "x", 1);
	put_text(&b, "\r\n");
	fake_feed_split(t, b.p, b.len, 1400);
	assert_output(t, WRONGPASS);
	free(b.p);
	fake_peer_reset(t);
	finish_with(f, s);
}

static int write_file(const char *path, const char *text, mode_t mode)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	return chmod(path, mode);
}

static void the_password_is_the_first_line_of_its_file(void **state)
{
	char path[] = "/tmp/bw-password-XXXXXX";
	struct bw_resp_conf c;
	char text[600];
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	close(fd);
	bw_resp_conf_init(&c);
	c.password_file = path;
	write_file(path, "open sesame\nand more\n", 0600);
	assert_int_equal(bw_resp_conf_prepare(&c), 0);
	assert_int_equal(c.password_len, 11);
	assert_string_equal(c.password, "open sesame");
	bw_resp_conf_release(&c);
	write_file(path, "no newline", 0644); /* said, not refused */
	assert_int_equal(bw_resp_conf_prepare(&c), 0);
	assert_string_equal(c.password, "no newline");
	bw_resp_conf_release(&c);
	write_file(path, "\n", 0600);
	assert_int_equal(bw_resp_conf_prepare(&c), -EINVAL);
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	write_file(path, text, 0600);
	assert_int_equal(bw_resp_conf_prepare(&c), -EINVAL);
	text[512] = '\0';
	write_file(path, text, 0600);
	assert_int_equal(bw_resp_conf_prepare(&c), 0);
	assert_int_equal(c.password_len, 512);
	bw_resp_conf_release(&c);
	unlink(path);
	assert_int_equal(bw_resp_conf_prepare(&c), -ENOENT);
	c.password_file = "/";
	assert_true(bw_resp_conf_prepare(&c) < 0);
}

/* A client with a public address, at a public address of ours, where there is no password: nobody else is meant. */
static void hosts_on_the_internet_are_turned_away(void **state)
{
	static const char *const public[] = { "8.8.8.8", "2606:4700::1" }, *const private[] = { "10.1.2.3",
		"fd77:ba5e::1" };
	struct fake *f = server(1);
	struct bw_ip inside, outside;
	struct bw_stream *s;

	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(bw_ip_parse(public[i], &outside), 0);
		assert_int_equal(bw_ip_parse(private[i], &inside), 0);
		for (unsigned n = 0; n < 3; n++) {
			fake_set_addresses(f, n & 1 ? inside : outside, n & 2 ? inside : outside);
			s = fake_open(f, 0);
			if (n > 0) {
				ask(s, "PING", "+PONG\r\n");
				fake_peer_close(s);
				continue;
			}
			assert_true(fake_is_closing(s));
			fake_feed(s, "SET a 1\r\n", 9); /* it is not run */
			assert_int_equal(strncmp(fake_output(s, NULL), "-DENIED ", 8), 0);
			assert_null(strstr(fake_output(s, NULL), "OK"));
			fake_peer_close(s);
		}
	}
	assert_non_null(strstr(fake_stats(f, 0), "denied 2\n"));
	assert_int_equal(worker(f, 0)->store.keys, 0);
	/* Either of the two ways out. */
	fake_set_addresses(f, outside, outside);
	conf.protected_mode = false;
	s = fake_open(f, 0);
	ask(s, "PING", "+PONG\r\n");
	conf.protected_mode = true;
	strcpy(conf.password, "x");
	conf.password_len = 1;
	s = fake_open(f, 0);
	ask(s, "PING", "-NOAUTH Authentication required.\r\n");
	ask(s, "AUTH x", OK);
	conf.password_len = 0;
	finish_with(f, s);
}

/* ---- CLIENT ---- */

static void clients_are_listed_and_killed_over_workers(void **state)
{
	struct bw_stream *s[300];
	struct fake *f = server(3);
	unsigned lines = 0;
	char words[64];
	const char *id;

	for (unsigned i = 0; i < BW_ARRAY_LEN(s); i++)
		s[i] = fake_open(f, i % 3);
	ask(s[4], "CLIENT SETNAME four", OK);
	for (const char *p = reply(s[0], "CLIENT LIST"); (p = strstr(p, "id=")) != NULL; p++)
		lines += p[-1] == '\n';
	assert_int_equal(lines, 300);
	assert_int_equal(
		atoi(fake_output(s[0], NULL) + 1), strlen(strstr(fake_output(s[0], NULL), "\r\n") + 2) - 2);
	assert_non_null(strstr(fake_output(s[0], NULL), " cmd=client|list "));
	id = strstr(reply(s[4], "CLIENT INFO"), "id=") + 3;
	snprintf(words, sizeof(words), "CLIENT LIST ID 1000000 %d", atoi(id));
	assert_non_null(strstr(reply(s[0], words), " name=four "));
	assert_null(strstr(strstr(fake_output(s[0], NULL), "id=") + 1, "\nid="));
	snprintf(words, sizeof(words), "CLIENT KILL ID %d", atoi(id));
	fake_output_clear(s[0]);
	ask(s[0], words, ":1\r\n");
	assert_true(fake_is_closing(s[4]));
	fake_peer_reset(s[4]);
	ask(s[0], words, ":0\r\n");
	ask(s[0], "CLIENT KILL 1.2.3.4:5", "-ERR No such client\r\n");
	ask(s[0], "CLIENT KILL TYPE pubsub", ":0\r\n");
	ask(s[0], "CLIENT LIST TYPE normal ID 1", SYNTAX);
	ask(s[0], "CLIENT LIST ID x", "-ERR Invalid client ID\r\n");
	ask(s[0], "CLIENT KILL ID 0", "-ERR client-id should be greater than 0\r\n");
	ask(s[0], "CLIENT KILL USER bob", "-ERR No such user 'bob'\r\n");
	ask(s[0], "CLIENT KILL SKIPME maybe", SYNTAX);
	ask(s[0], "CLIENT KILL TYPE normal USER default", ":298\r\n");
	assert_false(fake_is_closing(s[0]));
	for (unsigned i = 1; i < BW_ARRAY_LEN(s); i++)
		if (i != 4) {
			assert_true(fake_is_closing(s[i]));
			fake_peer_reset(s[i]);
		}
	/* Behind replies that are still out. */
	line(s[0],
		"CLIENT LIST\r\nCLIENT LIST TYPE pubsub\r\nCLIENT KILL ID 1000000\r\nCONFIG SET maxmemory 60mb\r\n");
	assert_non_null(strstr(fake_output(s[0], NULL), "\n\r\n$0\r\n\r\n:0\r\n+OK\r\n"));
	fake_output_clear(s[0]);
	/* Itself: it gets its answer first. */
	ask(s[0], "CLIENT KILL TYPE normal SKIPME no", ":1\r\n");
	assert_true(fake_is_closing(s[0]));
	finish_with(f, s[0]);
}

/* Connections come and go while a list stands at them. */
static void a_list_survives_the_end_of_what_it_stands_at(void **state)
{
	struct bw_stream *s[400];
	struct fake *f = server(2);
	struct buf b = { 0 };

	for (unsigned i = 0; i < BW_ARRAY_LEN(s); i++)
		s[i] = fake_open(f, i % 2);
	put_command(&b, "CLIENT LIST");
	fake_hold_mail(f, true);
	for (unsigned i = 0; i < 6; i++)
		fake_feed(s[i], b.p, b.len);
	for (unsigned round = 0; fake_mail_waiting(f) > 0; round++) {
		fake_deliver_mail(f, 1);
		/* Also two that ask. */
		if (round % 2 == 0 && 4 + round < BW_ARRAY_LEN(s) && s[4 + round] != NULL) {
			fake_peer_reset(s[4 + round]);
			s[4 + round] = NULL;
		}
		for (unsigned i = 60; i < 72; i++)
			if (round == 3 && s[i] != NULL) {
				fake_peer_reset(s[i]);
				s[i] = NULL;
			}
	}
	fake_hold_mail(f, false);
	fake_run(f);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(fake_output(s[i], NULL)[0], '$');
	for (unsigned i = 1; i < BW_ARRAY_LEN(s); i++)
		if (s[i] != NULL)
			fake_peer_reset(s[i]);
	free(b.p);
	finish_with(f, s[0]);
}

static void replies_can_be_switched_off(void **state)
{
	for (unsigned workers = 1; workers <= 3; workers += 2) {
		struct fake *f = server(workers);
		struct bw_stream *s = fake_open(f, 0);
		struct buf b = { 0 };

		ask(s, "CLIENT REPLY foo", SYNTAX);
		ask(s, "CLIENT REPLY OFF", "");
		for (char key[] = "SET a 1"; key[4] <= 'h'; key[4]++)
			ask(s, key, "");
		put_text(&b, "*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$6000\r\n");
		for (unsigned i = 0; i < 6000; i++)
			put(&b, "x", 1);
		put_text(&b, "\r\n");
		fake_feed(s, b.p, b.len);
		ask(s, "GET big", "");
		ask(s, "MGET a b c big", "");
		ask(s, "CLIENT LIST", "");
		ask(s, "INFO", "");
		ask(s, "CLIENT REPLY SKIP", "");
		ask(s, "PING", "");
		ask(s, "CLIENT REPLY ON", OK);
		ask(s, "GET h", BULK(1, "1"));
		ask(s, "CLIENT REPLY SKIP", "");
		ask(s, "GET big", "");
		ask(s, "GET a", BULK(1, "1"));
		ask(s, "CLIENT REPLY SKIP", "");
		ask(s, "CLIENT REPLY ON", OK);
		free(b.p);
		finish_with(f, s);
	}
}

/* ---- CONFIG SET ---- */

#define FAILED(name, why) "-ERR CONFIG SET failed (possibly related to argument '" name "') - " why "\r\n"

static void what_config_sets_holds_on_all_workers(void **state)
{
	struct fake *f = server(3);
	struct bw_stream *s = fake_open(f, 1);

	ask(s, "CONFIG SET maxmemory 30mb maxmemory-policy volatile-ttl", OK);
	ask(s, "CONFIG GET maxmemory", "*2\r\n" BULK(9, "maxmemory") BULK(8, "31457280"));
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(worker(f, i)->store.policy, BW_RESP_VOLATILE_TTL);
		assert_int_equal(worker(f, i)->store.slab.bytes_max, 10u << 20);
	}
	ask(s, "CONFIG SET maxmemory-policy allkeys-lfu", OK);
	ask(s, "OBJECT FREQ nosuch", NIL);
	ask(s, "SET used 1", OK);
	ask(s, "OBJECT FREQ used", ":5\r\n");
	assert_non_null(strstr(
		reply(s, "OBJECT IDLETIME used"), "-ERR An LFU maxmemory policy is selected, idle time"));
	fake_output_clear(s);
	assert_non_null(strstr(reply(s, "INFO memory"), "maxmemory:31457280\r\n"));
	assert_non_null(strstr(reply(s, "INFO memory"), "maxmemory_policy:allkeys-lfu\r\n"));
	fake_output_clear(s);
	ask(s, "CONFIG SET maxmemory x", FAILED("maxmemory", "argument must be a memory value"));
	ask(s, "CONFIG SET maxmemory 100g",
		FAILED("maxmemory", "argument must be between 15728640 and 67108864 inclusive"));
	ask(s, "CONFIG SET maxmemory 40mb maxmemory-policy foo",
		FAILED("maxmemory-policy",
			"argument(s) must be one of the following: allkeys-lru, allkeys-lfu, "
			"volatile-ttl, noeviction"));
	ask(s, "CONFIG SET maxmemory 40mb maxmemory 41mb", FAILED("maxmemory", "duplicate parameter"));
	ask(s, "CONFIG SET maxmemory 40mb port 1", FAILED("port", "can't set immutable config"));
	ask(s, "CONFIG SET maxmemory 40mb port", SYNTAX);
	ask(s, "CONFIG REWRITE", "-ERR The server is running without a config file\r\n");
	/* All or nothing. */
	ask(s, "CONFIG GET maxmemory", "*2\r\n" BULK(9, "maxmemory") BULK(8, "31457280"));
	assert_non_null(strstr(reply(s, "INFO stats"), "total_error_replies:8\r\n"));
	fake_output_clear(s);
	ask(s, "CONFIG RESETSTAT", OK);
	assert_non_null(strstr(reply(s, "INFO stats"), "total_error_replies:0\r\n"));
	/* What the operator sees goes on. A key's errors are counted where it lives. */
	assert_int_equal(worker(f, 0)->errors + worker(f, 1)->errors + worker(f, 2)->errors, 8);
	finish_with(f, s);
}

/* ---- the wire ---- */

static void inline_commands_are_split_as_redis_does(void **state)
{
	static const struct exchange lines[] = {
		{ "PING\r\n", "+PONG\r\n" },
		{ "PING\n", "+PONG\r\n" },
		{ "\r\n", "" },
		{ "   \r\n", "" },
		{ "  set  a   'b c'  \r\n", OK },
		{ "get a\r\n", BULK(3, "b c") },
		{ "set a \"\\x41\\n\\\"\\z\"\r\n", OK },
		{ "get a\r\n", BULK(4, "A\n\"z") },
		{ "set a 'it\\'s'\r\n", OK },
		{ "get a\r\n", BULK(4, "it's") },
		{ "set a \"\"\r\n", OK },
		{ "get a\r\n", BULK(0, "") },
		{ "echo ab\"c d\"\r\n", BULK(5, "abc d") },
	};
	static const char *const unbalanced[] = { "set a \"b\r\n", "set a 'b\r\n", "set a \"b\"c\r\n",
		"set a \"b\\\"\r\n" };

	for (unsigned split = 0; split < 2; split++) {
		struct fake *f = server(1);
		struct bw_stream *s = fake_open(f, 0);

		for (unsigned i = 0; i < BW_ARRAY_LEN(lines); i++) {
			fake_feed_split(s, lines[i].words, strlen(lines[i].words), split ? 1 : 4096);
			assert_output(s, lines[i].reply);
		}
		finish_with(f, s);
	}
	for (unsigned i = 0; i < BW_ARRAY_LEN(unbalanced); i++) {
		struct fake *f = server(1);
		struct bw_stream *s = fake_open(f, 0);

		fake_feed(s, unbalanced[i], strlen(unbalanced[i]));
		assert_output(s, "-ERR Protocol error: unbalanced quotes in request\r\n");
		assert_true(fake_is_closed(s));
		assert_quiet(f);
		fake_destroy(f);
	}
}

/* Nor is a part of it run. */
static void an_inline_command_with_too_many_arguments_is_an_error(void **state)
{
	struct bw_stream *s;
	struct fake *f;

	conf.args_max = 16;
	f = server(1);
	s = fake_open(f, 0);
	fake_feed(s, "SET a 1\r\nDEL a 2 3 4 5 6 7 8 9 10 11 12 13 14 15\r\n", 50);
	assert_output(s, OK ":1\r\n");
	fake_feed(s, "SET a 1\r\nDEL a 2 3 4 5 6 7 8 9 10 11 12 13 14 15  \t\r\n", 53);
	assert_output(s, OK ":1\r\n");
	fake_feed(s, "SET a 1\r\nDEL a 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\r\n", 53);
	assert_output(s, OK "-ERR Protocol error: invalid multibulk length\r\n");
	assert_true(fake_is_closed(s));
	assert_int_equal(worker(f, 0)->store.keys, 1);
	assert_quiet(f);
	fake_destroy(f);
}

static void protocol_errors_are_answered_and_end_it(void **state)
{
	static const struct exchange errors[] = {
		{ "*abc\r\n", "invalid multibulk length" },
		{ "*65537\r\n", "invalid multibulk length" },
		{ "*1048577\r\n", "invalid multibulk length" },
		{ "*99999999999999999999999999999999999\r\n", "invalid multibulk length" },
		{ "*01\r\n", "invalid multibulk length" },
		{ "*1\r\n$-1\r\n", "invalid bulk length" },
		{ "*1\r\n$524289\r\n", "invalid bulk length" },
		{ "*1\r\n$abc\r\n", "invalid bulk length" },
		{ "*1\r\n$\r\n", "invalid bulk length" },
		{ "*1\r\nfoo\r\n", "expected '$', got 'f'" },
		{ "*2\r\n$4\r\nPING\r\n:1\r\n", "expected '$', got ':'" },
	};

	for (unsigned i = 0; i < 2 * BW_ARRAY_LEN(errors); i++) {
		const struct exchange *e = &errors[i / 2];
		struct fake *f = server(1);
		struct bw_stream *s = fake_open(f, 0);
		struct buf b = { 0 };
		char expected[128];

		/* What was asked before is answered before, what comes behind is not read. */
		put_text(&b, "PING\r\n");
		put_text(&b, e->words);
		put_command(&b, "SET evil 1");
		fake_feed_split(s, b.p, b.len, i % 2 ? 1 : 4096);
		snprintf(expected, sizeof(expected), "+PONG\r\n-ERR Protocol error: %s\r\n", e->reply);
		assert_output(s, expected);
		assert_true(fake_is_closed(s));
		assert_int_equal(fake_close_reason(s), BW_CLOSE_NORMAL);
		assert_int_equal(worker(f, 0)->store.keys, 0);
		assert_quiet(f);
		free(b.p);
		fake_destroy(f);
	}
}

static void endless_lines_are_cut_short(void **state)
{
	static const struct {
		const char *begin, *error;
	} lines[] = {
		{ "", "too big inline request" },
		{ "*", "too big mbulk count string" },
		{ "*1\r\n$", "too big bulk count string" },
	};
	char *filler = malloc(70000);

	memset(filler, '1', 70000);
	for (unsigned i = 0; i < BW_ARRAY_LEN(lines); i++) {
		struct fake *f = server(1);
		struct bw_stream *s = fake_open(f, 0);
		char expected[128];

		fake_feed(s, lines[i].begin, strlen(lines[i].begin));
		fake_feed_split(s, filler, 60000, 1000);
		assert_output(s, "");
		fake_feed_split(s, filler, 10000, 1000);
		snprintf(expected, sizeof(expected), "-ERR Protocol error: %s\r\n", lines[i].error);
		assert_output(s, expected);
		assert_true(fake_is_closed(s));
		assert_quiet(f);
		fake_destroy(f);
	}
	free(filler);
}

static void empty_multibulks_say_nothing(void **state)
{
	struct fake *f = server(1);
	struct bw_stream *s = fake_open(f, 0);

	fake_feed(s, "*0\r\n*-1\r\n*-5\r\nPING\r\n", 21);
	assert_output(s, "+PONG\r\n");
	finish_with(f, s);
}

static void a_browsers_post_is_dropped_without_an_answer(void **state)
{
	struct fake *f = server(1);
	struct bw_stream *s = fake_open(f, 0);

	fake_feed(s, "POST / HTTP/1.1\r\nHost: x\r\n\r\nSET a 1\r\n", 37);
	assert_output(s, "");
	assert_true(fake_is_aborted(s));
	assert_int_equal(worker(f, 0)->store.keys, 0);
	fake_destroy(f);
}

/* ---- segmentation ---- */

static struct buf long_pipeline(void)
{
	static char big[9000], huge[40000];
	struct buf b = { 0 };

	memset(big, 'b', sizeof(big));
	memset(huge, 'h', sizeof(huge));
	put_command(&b, "SET a 1");
	put_command(&b, "GET a");
	put_text(&b, "INCR a\r\n");
	put_command(&b, "MSET x 1 y 2 z 3");
	put_text(&b, "*3\r\n");
	put_bulk(&b, "SET", 3);
	put_bulk(&b, "big", 3);
	put_bulk(&b, big, sizeof(big));
	put_command(&b, "GET big");
	put_text(&b, "*0\r\n\r\n");
	put_text(&b, "*3\r\n");
	put_bulk(&b, "APPEND", 6);
	put_bulk(&b, "big", 3);
	put_bulk(&b, huge, sizeof(huge));
	put_command(&b, "STRLEN big");
	put_command(&b, "MGET a big nosuch x");
	put_text(&b, "*2\r\n");
	put_bulk(&b, "ECHO", 4);
	put_bulk(&b, big, 600);
	put_text(&b, "set q \"a b\"\r\n");
	put_command(&b, "GETSET q ");
	put_command(&b, "DEL a x y nosuch");
	put_command(&b, "nonsense");
	put_command(&b, "GETDEL big");
	put_command(&b, "DBSIZE");
	put_text(&b, "GET q\n");
	put_command(&b, "FLUSHALL");
	put_command(&b, "DBSIZE");
	return b;
}

/* The reply to the pipeline in one piece, from one worker: what all else is compared with. */
static struct buf expected_reply(const struct buf *b)
{
	struct fake *f = server(1);
	struct bw_stream *s = fake_open(f, 0);
	struct buf out = { 0 };
	size_t len;

	fake_feed(s, b->p, b->len);
	fake_output(s, &len);
	put(&out, fake_output(s, NULL), len);
	assert_true(len > 100000);
	finish_with(f, s);
	return out;
}

static void assert_reply(struct bw_stream *s, const struct buf *expected)
{
	size_t len;
	const char *out = fake_output(s, &len);

	assert_int_equal(len, expected->len);
	assert_memory_equal(out, expected->p, len);
	fake_output_clear(s);
}

static void the_cut_does_not_matter(void **state)
{
	struct buf b = long_pipeline(), expected = expected_reply(&b);
	struct fake *f = server(1);
	struct bw_stream *s = fake_open(f, 0);

	/* In two, at each byte (of the long values' insides only some), as two calls and as two views. */
	for (size_t cut = 1; cut < b.len; cut += b.p[cut] == 'h' || b.p[cut] == 'b' ? 97 : 1) {
		fake_feed(s, b.p, cut);
		fake_feed(s, b.p + cut, b.len - cut);
		assert_reply(s, &expected);
		if (cut % 7 != 0)
			continue;
		fake_queue(s, b.p, cut);
		fake_queue(s, b.p + cut, b.len - cut);
		fake_deliver(s);
		assert_reply(s, &expected);
	}
	/* Byte by byte, and in pieces of the sizes that networks have. */
	static const size_t sizes[] = { 1, 2, 3, 7, 64, 536, 1448, 8960 };

	for (unsigned i = 0; i < BW_ARRAY_LEN(sizes); i++) {
		fake_feed_split(s, b.p, b.len, sizes[i]);
		assert_reply(s, &expected);
	}
	/* Few views at a time. */
	fake_set_views_max(s, 2);
	for (size_t at = 0; at < b.len; at += 1000)
		fake_queue(s, b.p + at, BW_MIN((size_t)1000, b.len - at));
	fake_deliver(s);
	assert_reply(s, &expected);
	free(b.p);
	free(expected.p);
	finish_with(f, s);
}

/* Stores that are worth it fetch ahead what a packet seems to look up. */
static void what_is_fetched_ahead_changes_no_reply(void **state)
{
	static const size_t sizes[] = { 1, 100, 1448, 1 << 20 };
	static char value[1000];
	struct buf fill = { 0 }, ask = { 0 }, expected = { 0 };
	char text[32];

	for (unsigned i = 0; i < 1400; i++) {
		size_t len = (size_t)snprintf(text, sizeof(text), "key:%u", i);

		memset(value, 'a' + (int)(i % 26), sizeof(value));
		put_text(&fill, "*3\r\n");
		put_bulk(&fill, "SET", 3);
		put_bulk(&fill, text, len);
		put_bulk(&fill, value, sizeof(value));
		put_text(&ask, "*2\r\n");
		put_bulk(&ask, "GET", 3);
		put_bulk(&ask, text, len);
		put_bulk(&expected, value, sizeof(value));
	}
	put_command(&ask, "GET nosuch");
	put_command(&ask, "PING");
	put_text(&ask, "STRLEN key:1\r\n");
	put_text(&expected, NIL "+PONG\r\n:1000\r\n");
	/* Cut into packets, it reads like commands. */
	put_text(&ask, "*2\r\n");
	put_bulk(&ask, "ECHO", 4);
	put_bulk(&ask, fill.p, 100000);
	put_bulk(&expected, fill.p, 100000);
	for (unsigned workers = 1; workers <= 2; workers++) {
		struct fake *f = server(workers);
		struct bw_stream *s = fake_open(f, 0);

		fake_feed(s, fill.p, fill.len);
		fake_output_clear(s);
		assert_true(bw_resp__slab_used_bytes(&worker(f, 0)->store.slab) > BW_RESP__PREFETCH_FROM);
		for (unsigned i = 0; i < BW_ARRAY_LEN(sizes); i++) {
			fake_feed_split(s, ask.p, ask.len, sizes[i]);
			assert_reply(s, &expected);
		}
		finish_with(f, s);
	}
	free(fill.p);
	free(ask.p);
	free(expected.p);
}

/* What INFO says of the network: each byte once, however it is cut, sent, or answered by another worker. */
static void bytes_are_counted(void **state)
{
	struct buf b = long_pipeline(), expected = expected_reply(&b);
	static const size_t sizes[] = { 1, 7, 1448, 60000 };

	for (unsigned workers = 1; workers <= 3; workers += 2) {
		struct fake *f = server(workers);
		struct bw_stream *s = fake_open(f, 0);
		unsigned long long in, out, peak, used;
		const char *text;

		for (unsigned i = 0; i < BW_ARRAY_LEN(sizes); i++) {
			fake_feed_split(s, b.p, b.len, sizes[i]);
			assert_reply(s, &expected);
		}
		fake_set_space(s, 3000);
		fake_feed(s, b.p, b.len);
		assert_reply(s, &expected);
		text = strstr(reply(s, "INFO stats"), "total_net_input_bytes:");
		assert_int_equal(sscanf(text, "total_net_input_bytes:%llu\r\ntotal_net_output_bytes:%llu\r\n",
					 &in, &out),
			2);
		assert_int_equal(in, (BW_ARRAY_LEN(sizes) + 1) * b.len);
		assert_int_equal(out, (BW_ARRAY_LEN(sizes) + 1) * expected.len);
		/* In the last second; INFO came and went, too. */
		fake_advance(f, 1100 * BW_NS_PER_MS);
		text = strstr(reply(s, "INFO stats"), "instantaneous_input_kbps:");
		assert_true(strtod(text + strlen("instantaneous_input_kbps:"), NULL) > 50);
		fake_advance(f, 1100 * BW_NS_PER_MS);
		fake_advance(f, 1100 * BW_NS_PER_MS);
		assert_non_null(strstr(reply(s, "INFO stats"),
			"instantaneous_input_kbps:0.00\r\ninstantaneous_output_kbps:0.00\r\n"));
		fake_output_clear(s);
		/* A level: RESETSTAT leaves it, as in Redis. */
		ask(s, "CONFIG RESETSTAT", OK);
		text = strstr(reply(s, "INFO memory"), "used_memory_peak:");
		peak = strtoull(text + strlen("used_memory_peak:"), NULL, 10);
		used = strtoull(
			strstr(reply(s, "INFO memory"), "used_memory:") + strlen("used_memory:"), NULL, 10);
		assert_true(peak >= used && used > 0);
		finish_with(f, s);
	}
	free(b.p);
	free(expected.p);
}

/* ---- large ---- */

static void values_up_to_the_bound_go_in_and_out(void **state)
{
	struct fake *f = server(1);
	struct bw_stream *s = fake_open(f, 0);
	size_t size = 512 << 10;
	struct buf b = { 0 };
	char *value = malloc(size);

	for (size_t i = 0; i < size; i++)
		value[i] = (char)(i * 31 + i / 977);
	put_text(&b, "*3\r\n");
	put_bulk(&b, "SET", 3);
	put_bulk(&b, "huge", 4);
	put_bulk(&b, value, size);
	/* Twice the receive window: nothing of it may wait for the rest. */
	for (size_t at = 0; at < b.len; at += 1448) {
		fake_feed(s, b.p + at, BW_MIN((size_t)1448, b.len - at));
		assert_int_equal(fake_unread(s), 0);
	}
	assert_output(s, OK);
	ask(s, "STRLEN huge", ":524288\r\n");
	/* Twice the send queue as well. By reference: not a byte of it is copied. */
	uint64_t copied = fake_bytes_by_copy(f);

	b.len = 0;
	put_bulk(&b, value, size);
	reply(s, "GET huge");
	assert_reply(s, &b);
	assert_true(fake_bytes_by_copy(f) - copied < 32);
	assert_true(fake_bytes_by_ref(f) >= size);
	/* Appending beyond the bound is refused and changes nothing. */
	ask(s, "APPEND huge x", "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n");
	/* While it is sent, it is overwritten and deleted: the reader gets what was there. */
	fake_set_auto_ack(s, false);
	reply(s, "GET huge");
	struct bw_stream *other = fake_open(f, 0);

	ask(other, "SET huge small", OK);
	ask(other, "GET huge", BULK(5, "small"));
	ask(other, "FLUSHALL", OK);
	fake_set_auto_ack(s, true);
	fake_run(f);
	assert_reply(s, &b);
	fake_peer_reset(other);
	free(value);
	free(b.p);
	finish_with(f, s);
}

static void announcing_takes_no_memory(void **state)
{
	struct fake *f = server(1);
	static const char announced[] = "*1000000\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000\r\nx";
	struct bw_stream *s[100];

	for (unsigned i = 0; i < 100; i++) {
		s[i] = fake_open(f, 0);
		fake_feed(s[i], announced, strlen(announced));
	}
	assert_true(worker(f, 0)->store.staged_bytes < 100 * 4096);
	for (unsigned i = 0; i < 100; i++)
		fake_peer_reset(s[i]);
	fake_advance(f, BW_NS_PER_SEC);
	assert_quiet(f);
	fake_destroy(f);
}

/* A command that takes more than its share is read to its end and refused; the next one is answered. */
static void a_command_over_the_memory_bound_gets_an_error(void **state)
{
	struct bw_stream *s;
	struct buf b = { 0 };
	char key[32], *value = calloc(1, 100000);
	struct fake *f = server(1);

	s = fake_open(f, 0);
	put_text(&b, "*401\r\n");
	put_bulk(&b, "MSET", 4);
	for (unsigned i = 0; i < 200; i++) {
		put_bulk(&b, key, (size_t)snprintf(key, sizeof(key), "key%u", i));
		put_bulk(&b, value, 100000);
	}
	put_command(&b, "PING");
	fake_feed_split(s, b.p, b.len, 60000);
	assert_output(s, "-OOM command not allowed when used memory > 'maxmemory'.\r\n+PONG\r\n");
	assert_int_equal(worker(f, 0)->store.keys, 0);
	free(value);
	free(b.p);
	finish_with(f, s);
}

/* A key of that worker's, written into a buffer of 32. */
static void key_of(struct fake *f, unsigned owner, char *key)
{
	unsigned n = 0;

	do
		snprintf(key, 32, "key%u", n++);
	while (bw_resp__hash_key(worker(f, 0), (uint8_t *)key, (uint32_t)strlen(key)).owner != owner);
}

static void set_bytes(struct bw_stream *s, const char *key, size_t len)
{
	struct buf b = { 0 };
	char *value = malloc(len);

	memset(value, 'v', len);
	put_text(&b, "*3\r\n");
	put_bulk(&b, "SET", 3);
	put_bulk(&b, key, strlen(key));
	put_bulk(&b, value, len);
	fake_feed(s, b.p, b.len);
	assert_output(s, OK);
	free(value);
	free(b.p);
}

/* As much of a command as one may stage, nearly. */
static void feed_half_a_command(struct fake *f, struct bw_stream *s)
{
	static char value[512 << 10];
	struct buf b = { 0 };

	put_text(&b, "*129\r\n");
	put_bulk(&b, "MSET", 4);
	fake_feed(s, b.p, b.len);
	b.len = 0;
	put_bulk(&b, "k", 1);
	put_bulk(&b, value, sizeof(value));
	for (uint64_t left = worker(f, 0)->store.staged_command_bytes_max - 4096; left > b.len; left -= b.len)
		fake_feed_split(s, b.p, b.len, 60000);
	free(b.p);
}

static void half_sent_commands_leave_room_for_small_ones_and_are_dropped(void **state)
{
	struct fake *f = server(2);
	const struct bw_resp__store *store = &worker(f, 0)->store;
	struct bw_stream *s = fake_open(f, 0), *half[2000], *steady = fake_open(f, 0),
			 *drip = fake_open(f, 0);
	char line[1024] = "ECHO ", expected[1100];
	unsigned count = 0;

	fake_feed(steady, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000\r\n", 29);
	fake_feed(drip, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000\r\n", 29);
	while (count < 2) {
		half[count] = fake_open(f, 0);
		feed_half_a_command(f, half[count++]);
	}
	/* To the brim. */
	while (store->staged_bytes + 400 < store->staged_bytes_max) {
		assert_true(count < BW_ARRAY_LEN(half));
		half[count] = fake_open(f, 0);
		fake_feed(half[count++], "*2\r\n$4\r\nECHO\r\n$9000\r\nx", 22);
	}
	/* In pieces, inline, and with another worker's keys: these need staged memory too. */
	for (unsigned i = 0; i < 8; i++) {
		char words[64];

		snprintf(words, sizeof(words), "*3\r\n$3\r\nSET\r\n$1\r\n%u\r\n$1\r\n%u\r\n", i, i);
		fake_feed_split(s, words, strlen(words), 1);
		snprintf(words, sizeof(words), "GET %u\r\n", i);
		fake_feed(s, words, strlen(words));
		snprintf(words, sizeof(words), OK "$1\r\n%u\r\n", i);
		assert_output(s, words);
	}
	memset(line + 5, 'x', 500);
	snprintf(expected, sizeof(expected), "$500\r\n%s\r\n", line + 5);
	strcat(line, "\r\n");
	fake_feed(s, line, strlen(line));
	assert_output(s, expected);
	/* Who does not go on is dropped, and who only drips. */
	for (unsigned i = 0; i < 59; i++) {
		static char bytes[20000];

		fake_feed(drip, bytes, 1);
		if (i < 24)
			fake_feed(steady, bytes, sizeof(bytes));
		fake_advance(f, BW_NS_PER_SEC);
	}
	for (unsigned i = 0; i < count; i++)
		assert_false(fake_is_closing(half[i]));
	assert_false(fake_is_closing(drip));
	fake_advance(f, 2 * BW_NS_PER_SEC);
	for (unsigned i = 0; i < count; i++)
		assert_true(fake_is_aborted(half[i]));
	assert_true(fake_is_aborted(drip));
	/* Who keeps coming is not, however long it takes. */
	fake_advance(f, 20 * BW_NS_PER_SEC);
	assert_false(fake_is_closing(steady));
	static char rest[20002];

	fake_feed(steady, rest, sizeof(rest));
	assert_output(steady, "-OOM command not allowed when used memory > 'maxmemory'.\r\n");
	/* There is room again. */
	set_bytes(s, "k", 500000);
	fake_advance(f, 3600 * BW_NS_PER_SEC);
	assert_false(fake_is_closing(steady));
	fake_peer_reset(steady);
	finish_with(f, s);
}

/* What one command may cost is bounded: how many arguments there are, and how many of a costly kind. */
static void too_many_arguments_are_refused(void **state)
{
	const struct {
		const char *words, *argument;
		unsigned count;
		const char *reply;
	} cases[] = {
		{ "CONFIG GET", "s*e", 56, "*2\r\n$4\r\nsave\r\n$0\r\n\r\n" },
		{ "CONFIG GET", "s*e", 57, "-ERR too many patterns\r\n" },
		{ "COMMAND DOCS", "nosuch", bw_resp__command_count, "*0\r\n" },
		{ "COMMAND DOCS", "nosuch", bw_resp__command_count + 1, "-ERR too many command names\r\n" },
		{ "COMMAND DOCS", "client", bw_resp__command_count, "-ERR too many command names\r\n" },
		{ "DEL x", "s*e", 65536 - 2, ":0\r\n" },
		{ "DEL x", "s*e", 65536 - 1, "-ERR Protocol error: invalid multibulk length\r\n" },
	};

	for (unsigned i = 0; i < BW_ARRAY_LEN(cases); i++) {
		struct fake *f = server(1);
		struct bw_stream *s = fake_open(f, 0);
		struct buf b = { 0 };
		char text[32];

		put(&b, text, (size_t)snprintf(text, sizeof(text), "*%u\r\n", 2 + cases[i].count));
		for (const char *word = cases[i].words; word != NULL; word = strchr(word, ' ')) {
			word += *word == ' ';
			put_bulk(&b, word, strcspn(word, " "));
		}
		for (unsigned n = 0; n < cases[i].count; n++)
			put_bulk(&b, cases[i].argument, strlen(cases[i].argument));
		fake_feed_split(s, b.p, b.len, 60000);
		assert_output(s, cases[i].reply);
		free(b.p);
		finish_with(f, s);
	}
}

/* Names take what they are long, an eighth of the memory that commands arrive in at most, and come back. */
static void names_have_a_bound_of_their_own(void **state)
{
	struct bw_stream *s[2000], *t;
	const struct bw_resp *r;
	char words[300] = "CLIENT SETNAME ";
	unsigned count = 0;
	struct fake *f;

	conf.memory_bytes_max = 8u << 20;
	f = server(1);
	r = worker(f, 0);
	t = fake_open(f, 0);
	ask(t, "CLIENT SETNAME me", OK);
	ask(t, "CLIENT SETINFO lib-name redis-py", OK);
	ask(t, "CLIENT SETINFO lib-ver 5.0.1", OK);
	assert_true(r->clients_bytes <= 112);
	assert_non_null(strstr(reply(t, "CLIENT INFO"), " name=me age="));
	assert_non_null(strstr(reply(t, "CLIENT INFO"), " resp=2 lib-name=redis-py lib-ver=5.0.1\n"));
	assert_non_null(strstr(reply(t, "RESET"), "+RESET"));
	assert_non_null(strstr(reply(t, "CLIENT INFO"), " name= age="));
	assert_non_null(strstr(reply(t, "CLIENT INFO"), " resp=2 lib-name=redis-py lib-ver=5.0.1\n"));
	fake_output_clear(t);
	ask(t, "CLIENT GETNAME", NIL);
	memset(words + 15, 'n', 256);
	do {
		assert_true(count < BW_ARRAY_LEN(s));
		s[count] = fake_open(f, 0);
	} while (strcmp(reply(s[count++], words), OK) == 0);
	assert_non_null(strstr(fake_output(s[count - 1], NULL), "-OOM "));
	assert_true(r->store.staged_bytes < r->store.staged_bytes_max / 8 + 512);
	assert_true(count > 700);
	/* Who has one may change it for a shorter one, or none. */
	fake_output_clear(s[0]);
	ask(s[0], "CLIENT SETNAME b", OK);
	ask(s[0], "CLIENT GETNAME", BULK(1, "b"));
	ask(s[0], "CLIENT SETNAME ", OK);
	fake_output_clear(s[count - 1]);
	ask(s[count - 1], words, OK);
	for (unsigned i = 0; i < count; i++)
		fake_peer_reset(s[i]);
	assert_true(r->clients_bytes <= 112);
	finish_with(f, t);
}

static void many_arguments_are_fine(void **state)
{
	struct buf b = { 0 }, expected = { 0 };
	struct bw_stream *s;
	struct fake *f;
	char text[32];

	conf.args_max = 1024 * 1024;
	f = server(2);
	s = fake_open(f, 1);

	put_text(&b, "*100001\r\n");
	put_bulk(&b, "MSET", 4);
	for (unsigned i = 0; i < 50000; i++) {
		put_bulk(&b, text, (size_t)snprintf(text, sizeof(text), "key%u", i));
		put_bulk(&b, text, (size_t)snprintf(text, sizeof(text), "%u", i));
	}
	fake_feed_split(s, b.p, b.len, 1448);
	assert_output(s, OK);
	b.len = 0;
	put_text(&b, "*50001\r\n");
	put_text(&expected, "*50000\r\n");
	put_bulk(&b, "MGET", 4);
	for (unsigned i = 0; i < 50000; i++) {
		put_bulk(&b, text, (size_t)snprintf(text, sizeof(text), "key%u", i));
		put_bulk(&expected, text, (size_t)snprintf(text, sizeof(text), "%u", i));
	}
	fake_feed_split(s, b.p, b.len, 1448);
	assert_reply(s, &expected);
	free(b.p);
	free(expected.p);
	ask(s, "DBSIZE", ":50000\r\n");
	finish_with(f, s);
}

static void a_full_server_that_may_not_evict_says_so(void **state)
{
	struct fake *f;
	struct bw_stream *s;
	char words[1100];
	unsigned n = 0;
	const char *text;

	conf.policy = BW_RESP_NOEVICTION;
	conf.memory_bytes_max = 8u << 20;
	f = server(1);
	s = fake_open(f, 0);
	do {
		int len = snprintf(words, sizeof(words), "SET key%u ", n++);

		memset(words + len, 'v', 1000);
		words[len + 1000] = '\0';
		text = reply(s, words);
	} while (strcmp(text, OK) == 0);
	assert_string_equal(text, "-OOM command not allowed when used memory > 'maxmemory'.\r\n");
	assert_true(n > 6000);
	/* Reading, deleting, and commands that straddle still work. */
	fake_output_clear(s);
	fake_feed_split(s, "*2\r\n$6\r\nEXISTS\r\n$4\r\nkey0\r\n", 26, 1);
	assert_output(s, ":1\r\n");
	ask(s, "DEL key0 key1", ":2\r\n");
	ask(s, "SET key0 v", OK);
	finish_with(f, s);
}

/* ---- backpressure ---- */

static void a_client_that_does_not_read_is_throttled_and_loses_nothing(void **state)
{
	struct buf b = long_pipeline(), expected = expected_reply(&b);
	static const uint32_t spaces[] = { 1024, 1500, 5000, 70000 };

	for (unsigned workers = 1; workers <= 2; workers++) {
		for (unsigned i = 0; i < BW_ARRAY_LEN(spaces); i++) {
			struct fake *f = server(workers);
			struct bw_stream *s = fake_open(f, 0);

			fake_set_space(s, spaces[i]);
			fake_set_auto_ack(s, false);
			for (unsigned n = 0; n < 5; n++)
				fake_queue(s, b.p, b.len);
			fake_deliver(s);
			assert_true(fake_queued(s) <= spaces[i]);
			/* With two, up to 128 commands may be under way. */
			assert_true(fake_unread(s) > 0 || workers == 2);
			/* It reads at last, in sips. */
			for (unsigned n = 0; fake_queued(s) > 0 || fake_unread(s) > 0; n++) {
				fake_ack(s, 1 + n % 1777);
				assert_true(fake_queued(s) <= spaces[i]);
			}
			size_t len;
			const char *out = fake_output(s, &len);

			assert_int_equal(len, 5 * expected.len);
			for (unsigned n = 0; n < 5; n++)
				assert_memory_equal(out + n * expected.len, expected.p, expected.len);
			finish_with(f, s);
		}
	}
	free(b.p);
	free(expected.p);
}

static void sends_that_fail_are_tried_again(void **state)
{
	struct buf b = long_pipeline(), expected = expected_reply(&b);

	for (unsigned workers = 1; workers <= 2; workers++) {
		struct fake *f = server(workers);
		struct bw_stream *s = fake_open(f, 0);

		for (unsigned n = 1; n < 30; n++) {
			for (size_t at = 0; at < b.len; at += 700) {
				fake_starve(s, n % 4);
				fake_feed(s, b.p + at, BW_MIN((size_t)700, b.len - at));
				if (n % 3 == 0)
					fake_advance(f, 2 * BW_NS_PER_MS);
			}
			/* No buffer came free by an ACK: nobody tells, the service asks again by itself. */
			fake_advance(f, 100 * BW_NS_PER_MS);
			assert_reply(s, &expected);
		}
		finish_with(f, s);
	}
	free(b.p);
	free(expected.p);
}

static void those_who_do_not_read_leave_requests_to_others_and_are_reset(void **state)
{
	struct fake *f = server(2);
	struct bw_stream *s = fake_open(f, 0), *deaf[100], *slow = fake_open(f, 0);
	char mine[32], theirs[32], words[96];
	struct buf b = { 0 };

	key_of(f, 0, mine);
	key_of(f, 1, theirs);
	set_bytes(s, theirs, 512 << 10);
	snprintf(words, sizeof(words), "GET %s", theirs);
	for (unsigned i = 0; i < 128; i++)
		put_command(&b, words);
	for (unsigned i = 0; i < 100; i++) {
		deaf[i] = fake_open(f, 0);
		fake_set_auto_ack(deaf[i], false);
		fake_feed(deaf[i], b.p, b.len);
	}
	/* One that reads, if slowly, is no such. */
	fake_set_auto_ack(slow, false);
	fake_feed(slow, b.p, b.len);
	/* The others are served as ever, whether a request is needed or not. */
	snprintf(words, sizeof(words), "SET %s 1", mine);
	ask(s, words, OK);
	snprintf(words, sizeof(words), "GET %s", mine);
	ask(s, words, BULK(1, "1"));
	snprintf(words, sizeof(words), "STRLEN %s", theirs);
	ask(s, words, ":524288\r\n");
	snprintf(words, sizeof(words), "EXISTS %s %s", mine, theirs);
	ask(s, words, ":2\r\n");
	fake_advance(f, 30 * BW_NS_PER_SEC);
	fake_ack(slow, 64 << 10);
	fake_advance(f, 29 * BW_NS_PER_SEC);
	for (unsigned i = 0; i < 100; i++)
		assert_false(fake_is_closing(deaf[i]));
	fake_advance(f, 2 * BW_NS_PER_SEC);
	for (unsigned i = 0; i < 100; i++)
		assert_true(fake_is_aborted(deaf[i]));
	assert_false(fake_is_closing(slow));
	assert_int_equal(worker(f, 0)->stalled, 100);
	fake_set_auto_ack(slow, true);
	fake_run(f);
	assert_int_equal(fake_output_total(slow), 128 * ((512 << 10) + 11));
	/* It took all: it may be idle for as long as it likes. */
	fake_advance(f, 3600 * BW_NS_PER_SEC);
	assert_false(fake_is_closing(slow));
	fake_peer_reset(slow);
	free(b.p);
	finish_with(f, s);
}

static void what_needs_no_request_does_not_wait_for_one(void **state)
{
	struct bw_stream *s, *t, *last = NULL;
	char mine[32], theirs[32], set[64], get[64], away[64];
	struct buf b = { 0 };
	struct fake *f;

	conf.bulk_bytes_max = 1024;
	f = server(32);
	s = fake_open(f, 0);
	t = fake_open(f, 0);
	key_of(f, 0, mine);
	key_of(f, 1, theirs);
	snprintf(set, sizeof(set), "SET %s 1", mine);
	snprintf(get, sizeof(get), "GET %s", mine);
	snprintf(away, sizeof(away), "GET %s", theirs);
	fake_hold_mail(f, true);
	/* A request and 31 parts. */
	while (worker(f, 0)->requests_free_count > 32) {
		last = fake_open(f, 0);
		fake_feed(last, "DBSIZE\r\n", 8);
	}
	ask(s, "PING", "+PONG\r\n");
	ask(s, set, OK);
	ask(s, get, BULK(1, "1"));
	fake_feed_split(s, "get", 3, 1);
	fake_feed(s, " nosuch a\r\n", 11);
	assert_output(s, ARITY("get"));
	/* These do, in one piece or not, and nothing is lost. */
	put_command(&b, away);
	put_command(&b, get);
	fake_feed(s, b.p, b.len);
	fake_feed_split(t, b.p, b.len, 5);
	fake_advance(f, 10 * BW_NS_PER_MS);
	assert_output(s, "");
	assert_output(t, "");
	fake_hold_mail(f, false);
	fake_advance(f, 10 * BW_NS_PER_MS);
	assert_output(s, NIL BULK(1, "1"));
	assert_output(t, NIL BULK(1, "1"));
	assert_output(last, ":0\r\n"); /* as it was when it was asked */
	fake_drain(f);
	free(b.p);
	finish_with(f, s);
}

/* One client asks for all there is and does not read; the others neither lose their keys nor their room. */
static void a_deaf_client_does_not_pin_the_keyspace(void **state)
{
	char words[1100], key[32], value[1001];
	unsigned refused = 0, too_much, all_too_much = 0;

	conf.memory_bytes_max = 16u << 20;
	for (unsigned workers = 1; workers <= 2; workers++) {
		struct fake *f = server(workers);
		struct bw_stream *s = fake_open(f, 0), *deaf = fake_open(f, 0);
		unsigned count = 0;

		memset(value, 'v', 1000);
		value[1000] = '\0';
		while (worker(f, 0)->store.evicted == 0) {
			snprintf(words, sizeof(words), "SET key%u %s", count++, value);
			ask(s, words, OK);
		}
		fake_set_auto_ack(deaf, false);
		fake_set_space(deaf, 4096);
		for (unsigned at = 0; at < count; at += 500) {
			struct buf b = { 0 };

			put_text(&b, "*501\r\n");
			put_bulk(&b, "MGET", 4);
			for (unsigned i = at; i < at + 500; i++)
				put_bulk(&b, key, (size_t)snprintf(key, sizeof(key), "key%u", i));
			fake_feed(deaf, b.p, b.len);
			free(b.p);
		}
		for (unsigned i = 0; i < workers; i++)
			assert_true(worker(f, i)->store.slab.listed_bytes <=
				    worker(f, i)->store.listed_bytes_max);
		/* There is room for as much as is not pinned. */
		for (unsigned i = 0; i < count; i++) {
			snprintf(words, sizeof(words), "SET new%u %s", i, value);
			refused += strcmp(reply(s, words), OK) != 0;
		}
		assert_int_equal(refused, 0);
		/* And nobody is evicted for what only passes through: the commands with keys of another worker. */
		assert_true(worker(f, 0)->store.keys > count / workers * 9 / 10);
		/* The deaf one reads on: what it was promised, or that it was too much. */
		fake_set_auto_ack(deaf, true);
		fake_run(f);
		assert_null(strstr(fake_output(deaf, NULL), "$1000\r\n$"));
		too_much = count_of(fake_output(deaf, NULL), "-OOM command not allowed");
		assert_int_equal(
			count_of(fake_output(deaf, NULL), "*500\r\n") + too_much, (count + 499) / 500);
		all_too_much += too_much;
		fake_peer_reset(deaf);
		fake_output_clear(s);
		finish_with(f, s);
	}
	/* As it reads on, several of its MGETs are under way at a time, unless the queue was full just in a value. */
	assert_int_not_equal(all_too_much, 0);
}

/* ---- ends ---- */

static void quit_answers_and_closes(void **state)
{
	struct fake *f = server(2);
	struct bw_stream *s = fake_open(f, 0);

	/* Behind another worker's answer as well; what follows is not read. */
	for (unsigned i = 0; i < 2; i++) {
		s = fake_open(f, i);
		fake_feed(s, "SET a 1\r\nSET b 1\r\nSET c 1\r\nQUIT\r\nSET d 1\r\n", 42);
		assert_output(s, OK OK OK OK);
		assert_true(fake_is_closed(s));
	}
	assert_int_equal(worker(f, 0)->store.keys + worker(f, 1)->store.keys, 3);
	assert_quiet(f);
	fake_destroy(f);
}

static void a_client_that_half_closes_gets_its_answers(void **state)
{
	struct fake *f = server(2);
	struct bw_stream *s = fake_open(f, 0);
	struct buf b = { 0 };

	for (unsigned i = 0; i < 1000; i++)
		put_command(&b, "INCR n");
	put_text(&b, "*2\r\n$3\r\nGET\r\n$1"); /* and never the rest */
	fake_set_auto_ack(s, false);
	fake_set_space(s, 2000);
	fake_hold_mail(f, true);
	fake_feed(s, b.p, b.len);
	fake_peer_close(s);
	assert_false(fake_is_closing(s));
	fake_hold_mail(f, false);
	fake_set_auto_ack(s, true);
	fake_run(f);
	assert_true(fake_is_closed(s));
	assert_int_equal(fake_close_reason(s), BW_CLOSE_NORMAL);
	assert_int_equal(strcmp(fake_output(s, NULL) + fake_output_total(s) - 7, ":1000\r\n"), 0);
	assert_quiet(f);
	free(b.p);
	fake_destroy(f);
}

static void draining_lets_what_is_in_flight_finish(void **state)
{
	struct fake *f = server(2);
	struct bw_stream *idle = fake_open(f, 0), *half = fake_open(f, 0), *out[2];

	fake_feed(half, "*2\r\n$3\r\nGET\r\n", 13);
	fake_hold_mail(f, true);
	for (unsigned i = 0; i < 2; i++) {
		out[i] = fake_open(f, i);
		fake_feed(out[i], "SET a 1\r\nSET b 2\r\nSET c 3\r\nSET d 4\r\n", 36);
	}
	fake_drain(f);
	assert_true(fake_is_closed(idle));
	assert_false(fake_is_closing(half));
	fake_hold_mail(f, false);
	fake_run(f);
	for (unsigned i = 0; i < 2; i++) {
		assert_output(out[i], OK OK OK OK);
		assert_true(fake_is_closed(out[i]));
	}
	fake_feed(half, "$1\r\na\r\n", 7);
	assert_output(half, BULK(1, "1"));
	assert_true(fake_is_closed(half));
	assert_quiet(f);
	fake_destroy(f);
}

/* ---- several workers ---- */

static void replies_keep_their_order_whoever_owns_the_keys(void **state)
{
	struct buf b = { 0 }, expected = { 0 };
	struct fake *f = server(3);
	struct bw_stream *s[3];
	char text[64];

	for (unsigned i = 0; i < 200; i++) {
		put_command(&b, (snprintf(text, sizeof(text), "SET key%u value%u", i, i), text));
		put_text(&expected, OK);
		put_command(&b, (snprintf(text, sizeof(text), "GET key%u", i), text));
		snprintf(text, sizeof(text), "value%u", i);
		put_bulk(&expected, text, strlen(text));
		put_command(&b, "PING");
		put_text(&expected, "+PONG\r\n");
		put_command(&b, (snprintf(text, sizeof(text), "EXISTS key%u key%u nosuch", i, i / 2), text));
		put_text(&expected, ":2\r\n");
	}
	fake_hold_mail(f, true);
	for (unsigned i = 0; i < 3; i++) {
		s[i] = fake_open(f, i);
		fake_feed(s[i], b.p, b.len);
	}
	/* Mail trickles: one a turn. More commands than one connection may have out, so reading pauses. */
	for (unsigned n = 0; fake_mail_waiting(f) > 0; n++) {
		assert_true(n < 100000);
		fake_deliver_mail(f, 1);
		if (n % 3 == 0)
			fake_run(f);
	}
	fake_run(f);
	fake_hold_mail(f, false);
	fake_run(f);
	for (unsigned i = 0; i < 3; i++) {
		assert_reply(s[i], &expected);
		assert_int_equal(fake_unread(s[i]), 0);
		fake_peer_reset(s[i]);
	}
	for (unsigned i = 0; i < 3; i++)
		assert_true(worker(f, i)->store.keys > 40);
	fake_advance(f, BW_NS_PER_SEC);
	assert_quiet(f);
	free(b.p);
	free(expected.p);
	fake_destroy(f);
}

static void the_cut_does_not_matter_with_three_workers_either(void **state)
{
	struct buf b = long_pipeline(), expected = expected_reply(&b);
	static const size_t sizes[] = { 1, 13, 536, 1448, 100000 };
	struct fake *f = server(3);

	for (unsigned i = 0; i < BW_ARRAY_LEN(sizes); i++) {
		struct bw_stream *s = fake_open(f, i % 3);

		fake_feed_split(s, b.p, b.len, sizes[i]);
		assert_reply(s, &expected);
		fake_peer_reset(s);
	}
	free(b.p);
	free(expected.p);
	fake_advance(f, BW_NS_PER_SEC);
	assert_quiet(f);
	fake_destroy(f);
}

static void a_connection_may_die_while_its_mail_is_out(void **state)
{
	struct buf b = long_pipeline();

	/* At every stage of the mail's journey. */
	for (unsigned delivered = 0; delivered < 60; delivered++) {
		struct fake *f = server(3);
		struct bw_stream *s = fake_open(f, delivered % 3), *t = fake_open(f, 0);

		fake_hold_mail(f, true);
		fake_feed_split(s, b.p, b.len, 1448);
		for (unsigned i = 0; i < delivered; i++)
			fake_deliver_mail(f, 1);
		fake_peer_reset(s);
		assert_true(fake_is_closed(s));
		fake_hold_mail(f, false);
		fake_run(f);
		/* The others never noticed. */
		ask(t, "PING", "+PONG\r\n");
		ask(t, "FLUSHALL", OK);
		finish_with(f, t);
	}
	free(b.p);
}

/* Values go to the peer out of the memory of whoever owns them, and come back to it. */
static void large_values_of_other_workers_are_not_copied(void **state)
{
	struct fake *f = server(2);
	struct bw_stream *s = fake_open(f, 0);
	char words[5100] = "SET key0 ", expected[5100];

	memset(words + 9, 'v', 5000);
	for (unsigned i = 0; i < 10; i++) {
		words[7] = (char)('0' + i);
		ask(s, words, OK);
	}
	assert_true(worker(f, 1)->store.keys > 0);
	snprintf(expected, sizeof(expected), "$5000\r\n%s\r\n", words + 9);
	fake_set_auto_ack(s, false);
	uint64_t copied = fake_bytes_by_copy(f);

	for (unsigned i = 0; i < 10; i++) {
		char get[16];

		snprintf(get, sizeof(get), "GETDEL key%u", i);
		reply(s, get);
	}
	assert_true(fake_bytes_by_copy(f) - copied < 10 * 32);
	assert_int_equal(worker(f, 0)->store.keys + worker(f, 1)->store.keys, 0);
	fake_set_auto_ack(s, true);
	fake_run(f);
	size_t len;
	const char *out = fake_output(s, &len);

	assert_int_equal(len, 10 * strlen(expected));
	for (unsigned i = 0; i < 10; i++)
		assert_memory_equal(out + i * strlen(expected), expected, strlen(expected));
	finish_with(f, s);
}

static void keys_expire_while_nobody_looks(void **state)
{
	struct fake *f = server(2);
	struct bw_stream *s = fake_open(f, 0);
	char words[64];

	for (unsigned i = 0; i < 100; i++) {
		snprintf(words, sizeof(words), "SET key%u v PX %u", i, 1000 + i);
		ask(s, words, OK);
	}
	fake_advance(f, 999 * BW_NS_PER_MS);
	ask(s, "DBSIZE", ":100\r\n");
	fake_advance(f, 2 * BW_NS_PER_SEC);
	ask(s, "DBSIZE", ":0\r\n");
	assert_true(worker(f, 0)->store.expired + worker(f, 1)->store.expired == 100);
	finish_with(f, s);
}

static int64_t wall_step_s;

/* In the place of the C library's: a wall clock that is stepped. */
int clock_gettime(clockid_t clock, struct timespec *ts)
{
	int rc = (int)syscall(SYS_clock_gettime, clock, ts);

	if (clock == CLOCK_REALTIME)
		ts->tv_sec += wall_step_s;
	return rc;
}

static void a_step_of_the_wall_clock_is_followed(void **state)
{
	struct fake *f = server(2);
	struct bw_stream *s = fake_open(f, 0);
	char words[64];
	int64_t before = time(NULL);
	long long told;

	ask(s, "SET a 1", OK);
	snprintf(words, sizeof(words), "EXPIREAT a %lld", (long long)before + 3600);
	ask(s, words, ":1\r\n");
	wall_step_s = 3000;
	fake_advance(f, 61 * BW_NS_PER_SEC);
	assert_int_equal(sscanf(reply(s, "TIME"), "*2\r\n$10\r\n%lld", &told), 1);
	assert_in_range(told, before + 3000, before + 3000 + 10);
	assert_int_equal(sscanf(reply(s, "TTL a"), ":%lld", &told), 1);
	assert_in_range(told, 580, 600);
	fake_output_clear(s);
	wall_step_s = 3700;
	fake_advance(f, 60 * BW_NS_PER_SEC);
	ask(s, "GET a", NIL);
	wall_step_s = 0;
	finish_with(f, s);
}

/* ---- anything at all ---- */

static uint64_t seed;

static uint32_t rnd(uint32_t below)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)((seed >> 33) % below);
}

static void random_bytes_break_nothing(void **state)
{
	static const char *const pieces[] = { "*1\r\n", "*2\r\n", "*3\r\n", "$3\r\n", "$1\r\n", "GET\r\n",
		"SET\r\n", "a\r\n", "$0\r\n\r\n", "*-1\r\n", "$600\r\n", "\r\n", "PING\r\n",
		"MGET a b c d\r\n", "SET a \"x y\"\r\n", "*\r\n", "\"", "'", " ", "INFO\r\n", "DEL a b c\r\n",
		"APPEND a bbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n", "$9000\r\n", "COMMAND\r\n", "SET b 1 PX 1\r\n",
		"CLIENT SETNAME x\r\n", "FLUSHALL\r\n", "QUIT\r\n" };
	struct bw_stream *s[4] = { NULL };
	struct fake *f = server(2);

	seed = 11;
	for (unsigned n = 0; n < 30000; n++) {
		unsigned at = rnd(4);
		char bytes[600];
		size_t len = 0;

		if (s[at] == NULL || fake_is_closing(s[at])) {
			s[at] = fake_open(f, at % 2);
			fake_set_space(s[at], 1024 + rnd(5000));
		}
		while (len < 400 && rnd(6) != 0) {
			const char *piece = pieces[rnd(BW_ARRAY_LEN(pieces))];

			if (rnd(20) == 0) {
				bytes[len++] = (char)rnd(256);
			} else {
				memcpy(bytes + len, piece, strlen(piece));
				len += strlen(piece);
			}
		}
		if (rnd(50) == 0)
			fake_hold_mail(f, rnd(2));
		fake_feed_split(s[at], bytes, len, 1 + rnd(100));
		if (rnd(200) == 0)
			fake_peer_reset(s[at]);
		if (rnd(100) == 0)
			fake_advance(f, BW_NS_PER_MS);
	}
	fake_hold_mail(f, false);
	for (unsigned i = 0; i < 4; i++)
		if (s[i] != NULL && !fake_is_closing(s[i]))
			fake_peer_reset(s[i]);
	fake_advance(f, BW_NS_PER_SEC);
	assert_quiet(f);
	fake_destroy(f);
}

static void an_arguments_bound_follows_the_memory(void **state)
{
	static const struct {
		uint64_t memory;
		unsigned workers;
		const char *says;
	} cases[] = {
		{ 5ull << 20, 1, "524288" },
		{ 17ull << 20, 1, "2097152" },
		{ 33ull << 20, 1, "4194304" },
		{ 1ull << 30, 1, "4194304" },
		{ 34ull << 20, 2, "2097152" },
	};
	char reply[64];

	conf.bulk_bytes_max = 0;
	for (unsigned i = 0; i < BW_ARRAY_LEN(cases); i++) {
		struct bw_stream *s;
		struct fake *f;

		conf.memory_bytes_max = cases[i].memory;
		f = server(cases[i].workers);
		s = fake_open(f, 0);
		snprintf(reply, sizeof(reply), "*2\r\n$18\r\nproto-max-bulk-len\r\n$%zu\r\n%s\r\n",
			strlen(cases[i].says), cases[i].says);
		ask(s, "CONFIG GET proto-max-bulk-len", reply);
		finish_with(f, s);
	}
}

static void a_bad_configuration_is_refused(void **state)
{
	struct bw_resp_conf bad;
	int error;

	bw_resp_conf_init(&bad);
	bad.bulk_bytes_max = 17u << 20;
	assert_int_equal(bw_resp_conf_prepare(&bad), -22);
	bw_resp_conf_init(&bad);
	bad.args_max = 0;
	assert_int_equal(bw_resp_conf_prepare(&bad), -22);
	conf.memory_bytes_max = 4u << 20;
	assert_null(fake_try_create(&bw_resp_service, &conf, 1, &error));
	assert_int_equal(error, -22);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_command_answers_as_redis_does),
		TEST(so_it_does_with_three_workers),
		TEST(long_texts_are_whole),
		TEST(protocol_3_is_spoken_also_by_other_workers),
		TEST(nothing_is_answered_without_the_password),
		TEST(the_password_is_the_first_line_of_its_file),
		TEST(hosts_on_the_internet_are_turned_away),
		TEST(clients_are_listed_and_killed_over_workers),
		TEST(a_list_survives_the_end_of_what_it_stands_at),
		TEST(replies_can_be_switched_off),
		TEST(what_config_sets_holds_on_all_workers),
		TEST(inline_commands_are_split_as_redis_does),
		TEST(an_inline_command_with_too_many_arguments_is_an_error),
		TEST(protocol_errors_are_answered_and_end_it),
		TEST(endless_lines_are_cut_short),
		TEST(empty_multibulks_say_nothing),
		TEST(a_browsers_post_is_dropped_without_an_answer),
		TEST(the_cut_does_not_matter),
		TEST(what_is_fetched_ahead_changes_no_reply),
		TEST(bytes_are_counted),
		TEST(values_up_to_the_bound_go_in_and_out),
		TEST(announcing_takes_no_memory),
		TEST(a_command_over_the_memory_bound_gets_an_error),
		TEST(half_sent_commands_leave_room_for_small_ones_and_are_dropped),
		TEST(too_many_arguments_are_refused),
		TEST(names_have_a_bound_of_their_own),
		TEST(many_arguments_are_fine),
		TEST(a_full_server_that_may_not_evict_says_so),
		TEST(a_client_that_does_not_read_is_throttled_and_loses_nothing),
		TEST(sends_that_fail_are_tried_again),
		TEST(those_who_do_not_read_leave_requests_to_others_and_are_reset),
		TEST(what_needs_no_request_does_not_wait_for_one),
		TEST(a_deaf_client_does_not_pin_the_keyspace),
		TEST(quit_answers_and_closes),
		TEST(a_client_that_half_closes_gets_its_answers),
		TEST(draining_lets_what_is_in_flight_finish),
		TEST(replies_keep_their_order_whoever_owns_the_keys),
		TEST(the_cut_does_not_matter_with_three_workers_either),
		TEST(a_connection_may_die_while_its_mail_is_out),
		TEST(large_values_of_other_workers_are_not_copied),
		TEST(keys_expire_while_nobody_looks),
		TEST(a_step_of_the_wall_clock_is_followed),
		TEST(random_bytes_break_nothing),
		TEST(an_arguments_bound_follows_the_memory),
		TEST(a_bad_configuration_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
