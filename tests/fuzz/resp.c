/* SPDX-License-Identifier: BSD-3-Clause */
/** RESP: the service, with one worker or two. */
#include <stdio.h>
#include <strings.h>

#include <base/log.h>
#include <service/resp.h>

#include "resp/internal.h"
#include "service.h"

static struct bw_resp_conf conf;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	bw_log_set_level(BW_LOG_ERROR);
	return 0;
}

static unsigned workers_of(const struct fake *f)
{
	return bw_context_worker_count(fake_context((struct fake *)(uintptr_t)f, 0));
}

static void fill(struct fake *f)
{
	static const char value[4000];
	struct bw_stream *s = fake_open(f, 0);
	char head[64];

	for (uint64_t at = 0; at < conf.memory_bytes_max; at += sizeof(value)) {
		fake_queue(s, head,
			(size_t)snprintf(head, sizeof(head), "*3\r\n$3\r\nSET\r\n$8\r\n%08u\r\n$%zu\r\n",
				(unsigned)(at / sizeof(value)), sizeof(value)));
		fake_queue(s, value, sizeof(value));
		fake_feed(s, "\r\n", 2);
	}
	fake_peer_close(s);
}

struct fake *fuzz_service_start(uint8_t settings)
{
	unsigned workers = settings & 1 ? 2 : 1;
	struct fake *f;

	bw_resp_conf_init(&conf);
	conf.bulk_bytes_max = 4096;
	conf.args_max = 64;
	conf.inline_bytes_max = 1024;
	conf.policy = settings & 2 ? BW_RESP_NOEVICTION : BW_RESP_ALLKEYS_LRU;
	conf.memory_bytes_max = bw_resp_memory_bytes_least(&conf, workers);
	BW_ASSERT_EQ(bw_resp_conf_prepare(&conf), 0);
	conf.hash_seed = 42;
	f = fake_create(&bw_resp_service, &conf, workers);
	/* In a script the store may be full. Elsewhere what waits for its end would have to take the same memory. */
	if ((settings & (FUZZ_IS_SCRIPT | 4)) == (FUZZ_IS_SCRIPT | 4))
		fill(f);
	return f;
}

void fuzz_service_stop(struct fake *f)
{
	for (unsigned i = 0; i < workers_of(f); i++)
		bw_resp__store_check(&((struct bw_resp *)bw_context_state(fake_context(f, i)))->store);
	fake_destroy(f);
	bw_resp_conf_release(&conf);
}

/** The end of a reply of either protocol that is well formed, and whole. NULL: it is not. */
static const char *skip_reply(const char *at, const char *end, unsigned depth)
{
	const char *line_end = memmem(at, (size_t)(end - at), "\r\n", 2);
	char type;
	long n;

	if (line_end == NULL)
		return NULL;
	type = *at++;
	if (type == '+' || type == '-')
		return memchr(at, '\n', (size_t)(line_end - at)) == NULL ? line_end + 2 : NULL;
	if (type == '_')
		return at == line_end ? at + 2 : NULL;
	n = strtol(at, (char **)(uintptr_t)&at, 10);
	if (at != line_end || depth == 0)
		return NULL;
	at += 2;
	switch (type) {
	case ':':
		return at;
	case '=':
		if (n < 4 || end - at < 4 || memcmp(at, "txt:", 4) != 0)
			return NULL;
		return end - at >= n + 2 && memcmp(at + n, "\r\n", 2) == 0 ? at + n + 2 : NULL;
	case '$':
		if (n < 0)
			return n == -1 ? at : NULL;
		return end - at >= n + 2 && memcmp(at + n, "\r\n", 2) == 0 ? at + n + 2 : NULL;
	case '%':
	case '~':
	case '*':
		for (n *= type == '%' ? 2 : 1; n > 0 && at != NULL; n--)
			at = skip_reply(at, end, depth - 1);
		return at;
	default:
		return NULL;
	}
}

void fuzz_service_check(const char *output, size_t len, bool is_whole)
{
	const char *at = output, *end = output + len;

	while (is_whole && at < end) {
		at = skip_reply(at, end, 16); /* COMMAND INFO of a container has 9 levels */
		BW_ASSERT(at != NULL);
	}
}

/* ---- composing -------------------------------------------------------------------------------------------- */

static const char *const keys[] = { "a", "b", "c", "key:1", "key:2", "user:1000", "", "{tag}x" };
static const char *const numbers[] = { "0", "1", "-1", "10", "100", "3000000000", "9223372036854775807",
	"-9223372036854775808", "9223372036854775808", "1700000001", "1700000001000", "01", "1.5", "ten" };
static const char *const words[] = { "NX", "xx", "GET", "KEEPTTL", "ex", "PX", "EXAT", "pxat", "GT", "lt",
	"SYNC", "async", "AUTH", "default", "password", "SETNAME", "getname", "ID", "LIST", "INFO", "SETINFO",
	"LIB-NAME", "lib-ver", "HELP", "COUNT", "DOCS", "SET", "maxmemory", "maxmemory-policy", "*",
	"?[a-z]*", "m*y", "appendonly", "yes", "allkeys-lru", "noeviction", "server", "memory", "stats",
	"keyspace", "clients", "everything", "2", "3", "a name", "mget", "set", "nobody", "RESETSTAT",
	"MATCH", "count", "TYPE", "string", "[a-c]*", "\\a", "ENCODING", "idletime", "FREQ", "refcount",
	"USAGE", "samples", "DOCTOR", "PERSIST", "inf", "4294967296", "4294967297" };
static const uint16_t sizes[] = { 2, 40, 64, 200, 512, 1000, 2000, 4096 };

static void put_bulk(struct fuzz_text *text, const void *bytes, size_t len)
{
	fuzz_printf(text, "$%zu\r\n", len);
	fuzz_put(text, bytes, len);
	fuzz_put(text, "\r\n", 2);
}

static void put_word(struct fuzz_text *text, bool is_inline, const char *word)
{
	if (is_inline)
		fuzz_printf(text, " %s", *word != '\0' ? word : "\"\"");
	else
		put_bulk(text, word, strlen(word));
}

/** An argument: a key, a number, a word that means something to some command, bytes of any kind, or many of them. */
static void put_arg(struct fuzz_input *in, struct fuzz_text *text, bool is_inline, bool is_key)
{
	static uint8_t many[4096];
	uint8_t which = fuzz_u8(in);
	uint8_t *bytes;
	size_t len;

	if (is_key ? which < 250 : which < 64) {
		put_word(text, is_inline, keys[which % BW_ARRAY_LEN(keys)]);
	} else if (which < 128) {
		put_word(text, is_inline, numbers[which % BW_ARRAY_LEN(numbers)]);
	} else if (which < 224) {
		put_word(text, is_inline, words[which % BW_ARRAY_LEN(words)]);
	} else if (which < 232 && !is_inline) {
		bytes = fuzz_bytes(in, which & 7u, &len);
		put_bulk(text, bytes, len);
		free(bytes);
	} else if (!is_inline) {
		memset(many, which, sizeof(many));
		put_bulk(text, many, sizes[which & 7]);
	} else {
		put_word(text, true, "'it''s'");
	}
}

/** Every command there is, with as many arguments as it wants, or a few more, and some that there are not. */
void fuzz_service_compose(struct fuzz_input *in, struct fuzz_text *text)
{
	unsigned which = fuzz_u8(in), form = fuzz_u8(in), args, more = form & 7,
		 at = which % (bw_resp__command_count + 1);
	static const struct bw_resp__command none = { .name = "nonesuch", .arity = -1 };
	const struct bw_resp__command *command = at < bw_resp__command_count ? &bw_resp__commands[at] : &none;
	bool is_inline = (form & 0x38) == 0x38;

	if (which == 255) {
		/* As it is: what may be no request at all. */
		size_t len;
		uint8_t *bytes = fuzz_bytes(in, form & 31, &len);

		fuzz_put(text, bytes, len);
		free(bytes);
		return;
	}
	args = (unsigned)(command->arity < 0 ? -command->arity : command->arity) - 1;
	if (command->arity < 0)
		args += more;
	else if (more == 7)
		args++;
	if (!is_inline)
		fuzz_printf(text, "*%u\r\n", args + 1);
	if (is_inline)
		fuzz_put(text, command->name, strlen(command->name));
	else
		put_word(text, false, command->name);
	for (unsigned i = 1; i <= args; i++)
		put_arg(in, text, is_inline,
			command->first_key != 0 && (int)i >= command->first_key &&
				(command->last_key < 0 || (int)i <= command->last_key) &&
				((int)i - command->first_key) % command->key_step == 0);
	if (is_inline)
		fuzz_put(text, form & 0x40 ? "\n" : "\r\n", form & 0x40 ? 1 : 2);
}

static bool contains(const char *text, size_t len, const char *const *words_lower, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		for (size_t at = 0; at + strlen(words_lower[i]) <= len; at++)
			if (strncasecmp(text + at, words_lower[i], strlen(words_lower[i])) == 0)
				return true;
	return false;
}

/* The answers to what was asked last are of chance. */
static bool is_any;

/*
 * Of every command that has to do with it, and of the options of SET. RANDOMKEY is of chance; and what a key costs
 * depends on whether its block was still being sent when it was written to.
 */
bool fuzz_service_is_timed(const char *text, size_t len)
{
	static const char *const about[] = { "ex", "px", "ttl", "time", "info", "hello" };
	static const char *const chance[] = { "randomkey", "usage" };

	is_any = contains(text, len, chance, BW_ARRAY_LEN(chance));
	return contains(text, len, about, BW_ARRAY_LEN(about));
}

/** INFO counts calls, and what half a command takes, and other workers' keys as they are in that moment. */
size_t fuzz_service_strip(char *output, size_t len)
{
	size_t at = 0;
	char *info;

	while ((info = memmem(output + at, len - at, "\r\n# ", 4)) != NULL) {
		size_t begin = (size_t)(info - output), end = begin + 2, digits = begin;

		while (digits > 0 && output[digits - 1] >= '0' && output[digits - 1] <= '9')
			digits--;
		at = end;
		if (digits == 0 || output[digits - 1] != '$')
			continue;
		end += BW_MIN(strtoul(output + digits, NULL, 10) + 2, len - end);
		memmove(output + digits, output + end, len - end);
		len -= end - digits;
		at = digits;
	}
	return len;
}

/** An error is no end: what comes behind it counts, however it is cut. */
bool fuzz_service_may_differ(const char *a, size_t a_len, const char *b, size_t b_len)
{
	(void)a;
	(void)a_len;
	(void)b;
	(void)b_len;
	return is_any;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fuzz_service_one(data, size);
	return 0;
}
