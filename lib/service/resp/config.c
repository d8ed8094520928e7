/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * CONFIG: what exists of Redis's parameters, by Redis's names. Most were read at the start and stay. maxmemory and
 * maxmemory-policy can be set: each worker is told (BW_RESP__TELL), and the reply comes when all have done it. maxmemory
 * may be less than what `memory` reserved at the start, not more.
 */
#include "text.h"

#include <stdio.h>

typedef bw_resp__ull ull;

#define VALUE_BYTES 32

struct parameter {
	const char *name;
	void (*get)(const struct bw_resp__call *call, char out[VALUE_BYTES]);
	/* NULL: cannot be set. What is wrong, or NULL; applied later, by each worker. */
	const char *(*check)(
		const struct bw_resp *r, const struct bw_resp__arg *value, char text[BW_RESP__TEXT_MAX]);
};

static void put_number(char out[VALUE_BYTES], uint64_t value)
{
	snprintf(out, VALUE_BYTES, "%llu", (ull)value);
}

static void get_no(const struct bw_resp__call *call, char out[VALUE_BYTES])
{
	strcpy(out, "no");
}

static void get_nothing(const struct bw_resp__call *call, char out[VALUE_BYTES])
{
	out[0] = '\0';
}

static void get_one(const struct bw_resp__call *call, char out[VALUE_BYTES])
{
	strcpy(out, "1");
}

static void get_zero(const struct bw_resp__call *call, char out[VALUE_BYTES])
{
	strcpy(out, "0");
}

static void get_log_factor(const struct bw_resp__call *call, char out[VALUE_BYTES])
{
	put_number(out, BW_RESP__LFU_LOG_FACTOR);
}

static void get_query_buffer(const struct bw_resp__call *call, char out[VALUE_BYTES])
{
	put_number(out, call->r->store.staged_command_bytes_max);
}

static void get_maxmemory(const struct bw_resp__call *call, char out[VALUE_BYTES])
{
	put_number(out, call->r->maxmemory);
}

static void get_policy(const struct bw_resp__call *call, char out[VALUE_BYTES])
{
	strcpy(out, bw_resp__policy_names[call->r->store.policy]);
}

static void get_port(const struct bw_resp__call *call, char out[VALUE_BYTES])
{
	put_number(out, __builtin_bswap16(bw_stream_flow(call->stream)->local_port_be));
}

static void get_protected_mode(const struct bw_resp__call *call, char out[VALUE_BYTES])
{
	strcpy(out, call->r->conf->protected_mode ? "yes" : "no");
}

static void get_bulk(const struct bw_resp__call *call, char out[VALUE_BYTES])
{
	put_number(out, call->r->limits.bulk_bytes_max);
}

/* "100mb", as Redis has it: k is 1,000 and kb 1,024. */
static bool parse_memory(const struct bw_resp__arg *arg, uint64_t *bytes)
{
	static const struct {
		const char *name;
		uint64_t factor;
	} units[] = { { "", 1 }, { "b", 1 }, { "k", 1000 }, { "kb", 1024 }, { "m", 1000 * 1000 },
		{ "mb", 1024 * 1024 }, { "g", 1000 * 1000 * 1000 }, { "gb", 1024 * 1024 * 1024 } };
	struct bw_resp__arg unit = *arg;
	uint64_t value = 0;

	for (; unit.len > 0 && *unit.data >= '0' && *unit.data <= '9'; unit.data++, unit.len--)
		if (__builtin_mul_overflow(value, 10, &value) ||
			__builtin_add_overflow(value, (uint64_t)(*unit.data - '0'), &value))
			return false;
	if (unit.len == arg->len)
		return false;
	for (unsigned i = 0; i < BW_ARRAY_LEN(units); i++)
		if (bw_resp__arg_is(&unit, units[i].name))
			return !__builtin_mul_overflow(value, units[i].factor, bytes);
	return false;
}

static const char *check_maxmemory(
	const struct bw_resp *r, const struct bw_resp__arg *value, char text[BW_RESP__TEXT_MAX])
{
	uint64_t bytes, least = bw_resp_memory_bytes_least(r->conf, r->workers);

	if (!parse_memory(value, &bytes))
		return "argument must be a memory value";
	if (bytes >= least && bytes <= r->conf->memory_bytes_max)
		return NULL;
	/* Redis's words for any number; its 0, for no bound, is none here. */
	snprintf(text, BW_RESP__TEXT_MAX, "argument must be between %llu and %llu inclusive", (ull)least,
		(ull)r->conf->memory_bytes_max);
	return text;
}

/* BW_RESP_POLICIES: no such. */
static enum bw_resp_policy parse_policy(const struct bw_resp__arg *value)
{
	enum bw_resp_policy policy = 0;

	while (policy < BW_RESP_POLICIES && !bw_resp__arg_is(value, bw_resp__policy_names[policy]))
		policy++;
	return policy;
}

static const char *check_policy(
	const struct bw_resp *r, const struct bw_resp__arg *value, char text[BW_RESP__TEXT_MAX])
{
	if (parse_policy(value) < BW_RESP_POLICIES)
		return NULL;
	snprintf(text, BW_RESP__TEXT_MAX, "argument(s) must be one of the following: %s, %s, %s, %s",
		bw_resp__policy_names[0], bw_resp__policy_names[1], bw_resp__policy_names[2],
		bw_resp__policy_names[3]);
	return text;
}

/* In the order of their names. */
static const struct parameter parameters[] = {
	{ "appendonly", get_no, NULL },
	{ "client-query-buffer-limit", get_query_buffer, NULL },
	{ "databases", get_one, NULL },
	{ "latency-tracking", get_no, NULL },
	{ "lfu-decay-time", get_one, NULL },
	{ "lfu-log-factor", get_log_factor, NULL },
	{ "maxmemory", get_maxmemory, check_maxmemory },
	{ "maxmemory-policy", get_policy, check_policy },
	{ "port", get_port, NULL },
	{ "proto-max-bulk-len", get_bulk, NULL },
	{ "protected-mode", get_protected_mode, NULL },
	{ "requirepass", get_nothing, NULL },
	{ "save", get_nothing, NULL },
	{ "timeout", get_zero, NULL },
};
#define PARAMETERS BW_ARRAY_LEN(parameters)

void bw_resp__run_config_get(struct bw_resp__call *call)
{
	/* What names each, if anything. As in Redis a name is said as it was asked for, and a pattern's finds are not. */
	const char *names[PARAMETERS] = { NULL };
	struct bw_resp__text t = bw_resp__text_begin(call);
	unsigned count = 0;

	/* Four for each name: whoever has more asks for the work, not for the answer. */
	if (call->argc > 2 + 4 * PARAMETERS) {
		bw_resp__reply_error(call, "ERR too many patterns");
		return;
	}
	for (uint32_t a = 2; a < call->argc; a++) {
		const struct bw_resp__arg *arg = &call->argv[a];
		const char *asked = (const char *)arg->data;
		bool is_pattern = memchr(asked, '*', arg->len) != NULL ||
				  memchr(asked, '?', arg->len) != NULL ||
				  memchr(asked, '[', arg->len) != NULL;

		for (unsigned i = 0; i < PARAMETERS && arg->len <= 64; i++)
			if (names[i] == NULL && is_pattern &&
				bw_resp__glob(arg->data, arg->len, (const uint8_t *)parameters[i].name,
					(uint32_t)strlen(parameters[i].name), true))
				names[i] = parameters[i].name;
			else if (names[i] == NULL && !is_pattern && bw_resp__arg_is(arg, parameters[i].name))
				names[i] = asked;
	}
	for (unsigned i = 0; i < PARAMETERS; i++) {
		/* A password that is set is not shown; that there is none, is. */
		if (strcmp(parameters[i].name, "requirepass") == 0 && call->r->conf->password_len > 0)
			names[i] = NULL;
		count += names[i] != NULL;
	}
	bw_resp__text_map(&t, count);
	for (unsigned i = 0; i < PARAMETERS; i++) {
		char value[VALUE_BYTES];
		int len;

		if (names[i] == NULL)
			continue;
		parameters[i].get(call, value);
		len = (int)strlen(parameters[i].name);
		bw_resp__text_add(&t, "$%d\r\n%.*s\r\n", len, len, names[i]);
		bw_resp__text_bulk(&t, value);
	}
	bw_resp__text_reply(call, &t);
}

/* PARAMETERS: no such. */
static unsigned find_parameter(const struct bw_resp__arg *name)
{
	unsigned i = 0;

	while (i < PARAMETERS && !bw_resp__arg_is(name, parameters[i].name))
		i++;
	return i;
}

/* All or nothing. False after an error reply. */
static bool check_set(struct bw_resp__call *call)
{
	bool is_set[PARAMETERS] = { false };

	if (call->argc % 2 != 0) {
		bw_resp__reply_syntax_error(call);
		return false;
	}
	for (uint32_t a = 2; a < call->argc; a += 2) {
		unsigned i = find_parameter(&call->argv[a]);
		const char *wrong = NULL;

		if (i == PARAMETERS) {
			bw_resp__reply_error(call,
				"ERR Unknown option or number of arguments for CONFIG SET - '%.*s'",
				(int)BW_MIN(call->argv[a].len, 128u), (const char *)call->argv[a].data);
			return false;
		}
		if (parameters[i].check == NULL)
			wrong = "can't set immutable config";
		else if (is_set[i])
			wrong = "duplicate parameter";
		is_set[i] = true;
		if (wrong == NULL)
			continue;
		bw_resp__reply_error(call, "ERR CONFIG SET failed (possibly related to argument '%s') - %s",
			parameters[i].name, wrong);
		return false;
	}
	for (uint32_t a = 2; a < call->argc; a += 2) {
		const struct parameter *parameter = &parameters[find_parameter(&call->argv[a])];
		char text[BW_RESP__TEXT_MAX];
		const char *wrong = parameter->check(call->r, &call->argv[a + 1], text);

		if (wrong == NULL)
			continue;
		bw_resp__reply_error(call, "ERR CONFIG SET failed (possibly related to argument '%s') - %s",
			parameter->name, wrong);
		return false;
	}
	return true;
}

static void apply_set(struct bw_resp *r, const struct bw_resp__arg *argv, uint32_t argc)
{
	enum bw_resp_policy policy = r->store.policy;

	for (uint32_t a = 2; a < argc; a += 2)
		if (bw_resp__arg_is(&argv[a], "maxmemory"))
			parse_memory(&argv[a + 1], &r->maxmemory);
		else
			policy = parse_policy(&argv[a + 1]);
	bw_resp__store_limit(
		&r->store, r->maxmemory / r->workers / BW_RESP__PAGE_BYTES * BW_RESP__PAGE_BYTES, policy);
}

/* What is told to all workers: CONFIG SET and RESETSTAT. */
static bool is_config_set(const struct bw_resp__command *command)
{
	return strcmp(command->name, "config|set") == 0;
}

bool bw_resp__check_told(struct bw_resp__call *call)
{
	if (call->command->spread == BW_RESP__TOUR)
		return bw_resp__check_tour(call);
	return !is_config_set(call->command) || check_set(call);
}

void bw_resp__tell(struct bw_resp *r, const struct bw_resp__request *whole)
{
	if (is_config_set(whole->command))
		apply_set(r, r->argv, bw_resp__gather_args(whole->gather, r->argv));
	else
		bw_resp__reset_stats(r);
}

void bw_resp__run_config_rewrite(struct bw_resp__call *call)
{
	bw_resp__reply_error(call, "ERR The server is running without a config file");
}

void bw_resp__run_config_help(struct bw_resp__call *call)
{
	static const char *const lines[] = { "GET <pattern> [<pattern> ...]",
		"    Show parameters and their values.", "SET <parameter> <value> [<parameter> <value> ...]",
		"    Set maxmemory or maxmemory-policy, on all workers; the others are read at the start.",
		"RESETSTAT", "    Let the counts of INFO begin anew.", "REWRITE",
		"    Refused: the configuration is the operator's file.", NULL };

	bw_resp__reply_help(call, lines);
}
