/* SPDX-License-Identifier: BSD-3-Clause */
/** `barewire steer`: what a running instance shares with the kernel, and whom it keeps out. Both ends of it. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <base/log.h>
#include <control/admin.h>

#include "app.h"

#define FILE_BYTES_MAX (1u << 19)
#define RATE_MAX       100000000u

/* ---- the instance --------------------------------------------------------------------------------------------- */

struct listing {
	FILE *out;
	unsigned count;
};

static void print_rule(const struct bw_cidr *source, enum bw_steer_verdict verdict, void *arg)
{
	struct listing *listing = arg;
	char text[BW_CIDR_STRLEN];

	fprintf(listing->out, "  %-9s %s %s\n", listing->count++ == 0 ? "rules" : "",
		verdict == BW_STEER_BLOCK ? "block" : "allow", bw_cidr_format(source, text));
}

static void print_limit(FILE *out, const char *title, uint32_t per_s, const char *what)
{
	if (per_s == 0)
		fprintf(out, "  %-9s no limit of %s\n", title, what);
	else
		fprintf(out, "  %-9s %u %s a second of one source\n", title, per_s, what);
}

/** The program of the device `at`, or of the first one that has any behind it; `at` moves to it. NULL: none. */
static struct bw_steer *steer_from(const struct bw_app_instance *instance, unsigned *at)
{
	for (; *at < instance->device_count; ++*at)
		if (instance->devices[*at].steer != NULL)
			return instance->devices[*at].steer;
	return NULL;
}

static void device_status(const struct bw_app_instance *instance, unsigned device, FILE *out)
{
	const struct bw_engine_device *engine = &instance->view->engine.devices[device];
	struct bw_steer *steer = instance->devices[device].steer;
	struct bw_cidr addrs[BW_NETWORK_ADDRS_MAX];
	const unsigned addr_count = bw_engine_addrs(instance->engine, device, addrs, BW_ARRAY_LEN(addrs));
	uint64_t counters[BW_STEER_COUNTERS];
	struct listing listing = { .out = out };
	struct bw_steer_limits limits;
	char text[BW_CIDR_STRLEN];

	fprintf(out, "  %-9s %s, by %s\n", "interface", instance->devices[device].nic.plan.iface,
		bw_steer_how(steer));
	for (unsigned i = 0; i < addr_count; i++)
		fprintf(out, "  %-9s %s%s\n", i == 0 ? "addresses" : "", bw_cidr_format(&addrs[i], text),
			engine->shares_addresses ? ", shared with the kernel" : "");
	bw_steer_limits_get(steer, &limits);
	print_limit(out, "limits", limits.syns_per_s, "SYNs");
	print_limit(out, "", limits.packets_per_s, "packets");
	bw_steer_rules(steer, print_rule, &listing);
	if (listing.count == 0)
		fprintf(out, "  %-9s none\n", "rules");
	bw_steer_counters(steer, counters);
	for (unsigned i = 0; i < BW_STEER_COUNTERS; i++)
		fprintf(out, "  %-24s %14" PRIu64 "  %s\n", bw_steer_counter_name[i], counters[i],
			bw_steer_counter_help[i]);
}

static int status(const struct bw_app_instance *instance, FILE *out)
{
	bool is_first = true;

	for (unsigned at = 0; steer_from(instance, &at) != NULL; at++) {
		fprintf(out, "%s", is_first ? "" : "\n");
		is_first = false;
		device_status(instance, at, out);
	}
	return 0;
}

/** "192.0.2.0/24", or an address alone. */
static int parse_source(const char *text, struct bw_cidr *source)
{
	if (bw_cidr_parse(text, source) == 0)
		return 0;
	if (bw_ip_parse(text, &source->ip) != 0)
		return -EINVAL;
	source->prefix_len = bw_ip_is_v4(&source->ip) ? 32 : 128;
	return 0;
}

/** Put in force on every device that has a program, or removed wherever it is? */
static bool change_rule(const struct bw_app_instance *instance, const struct bw_cidr *source, bool is_removal,
	enum bw_steer_verdict verdict)
{
	bool is_done = !is_removal;
	struct bw_steer *steer;

	for (unsigned at = 0; (steer = steer_from(instance, &at)) != NULL; at++)
		if (is_removal)
			is_done |= bw_steer_rule_remove(steer, source) == 0;
		else
			is_done &= bw_steer_rule(steer, source, verdict) == 0;
	return is_done;
}

/** All of them are understood before any is put in force. */
static int change_rules(
	const struct bw_app_instance *instance, const char *verb, int argc, char **argv, FILE *out)
{
	const bool is_removal = strcmp(verb, "unblock") == 0;
	const enum bw_steer_verdict verdict = strcmp(verb, "allow") == 0 ? BW_STEER_ALLOW : BW_STEER_BLOCK;
	unsigned missing = 0;
	struct bw_cidr source;

	for (int i = 0; i < argc; i++)
		if (parse_source(argv[i], &source) != 0) {
			fprintf(out,
				"'%.60s' is no address and no prefix, and nothing was changed; give one such as "
				"192.0.2.0/24 or 2001:db8::1",
				argv[i]);
			return -EINVAL;
		}
	for (int i = 0; i < argc; i++) {
		(void)parse_source(argv[i], &source);
		if (change_rule(instance, &source, is_removal, verdict))
			continue;
		if (!is_removal) {
			fprintf(out,
				"no room for more rules: %d of %d are in force; remove some with unblock", i,
				argc);
			return -ENOSPC;
		}
		missing++;
	}
	if (is_removal)
		fprintf(out, "%d rule%s removed, %u not there\n", argc - (int)missing,
			argc - missing == 1 ? "" : "s", missing);
	else
		fprintf(out, "%d rule%s in force\n", argc, argc == 1 ? "" : "s");
	return 0;
}

static int parse_limit(const char *word, struct bw_steer_limits *limits)
{
	const char *value = strchr(word, '=');
	unsigned long number;
	char *end;

	if (value == NULL || value[1] < '0' || value[1] > '9')
		return -EINVAL;
	errno = 0;
	number = strtoul(value + 1, &end, 10);
	if (*end != '\0' || errno != 0 || number > RATE_MAX)
		return -EINVAL;
	if (strncmp(word, "syns=", 5) == 0)
		limits->syns_per_s = (uint32_t)number;
	else if (strncmp(word, "packets=", 8) == 0)
		limits->packets_per_s = (uint32_t)number;
	else
		return -EINVAL;
	return 0;
}

static int change_limits(const struct bw_app_instance *instance, int argc, char **argv, FILE *out)
{
	unsigned at = 0;
	struct bw_steer *steer = steer_from(instance, &at);
	struct bw_steer_limits limits;

	bw_steer_limits_get(steer, &limits); /* they are the same of all */
	for (int i = 0; i < argc; i++)
		if (parse_limit(argv[i], &limits) != 0) {
			fprintf(out,
				"'%.60s' is no limit; give syns=N or packets=N, of a source and a second, 0 for none",
				argv[i]);
			return -EINVAL;
		}
	for (; (steer = steer_from(instance, &at)) != NULL; at++)
		bw_steer_limit(steer, &limits);
	print_limit(out, "limits", limits.syns_per_s, "SYNs");
	print_limit(out, "", limits.packets_per_s, "packets");
	return 0;
}

int bw_app_steer_answer(void *arg, int argc, char **argv, FILE *out)
{
	const struct bw_app_instance *instance = arg;
	const char *verb = argc > 0 ? argv[0] : "";

	unsigned at = 0;

	if (steer_from(instance, &at) == NULL) {
		fprintf(out,
			"%s %s with the kernel: that is for xdp:IFACE, and for packet:IFACE without --addr",
			instance->device_count > 1 ? "no device" : instance->devices[0].plan.spec,
			instance->device_count > 1 ? "is shared" : "is not shared");
		return -EOPNOTSUPP;
	}
	if (strcmp(verb, "status") == 0)
		return status(instance, out);
	if (strcmp(verb, "limit") == 0)
		return change_limits(instance, argc - 1, argv + 1, out);
	if (strcmp(verb, "block") == 0 || strcmp(verb, "allow") == 0 || strcmp(verb, "unblock") == 0)
		return change_rules(instance, verb, argc - 1, argv + 1, out);
	fprintf(out, "steer %.60s: this instance knows no such command; is it of another version?", verb);
	return -EINVAL;
}

/* ---- who asks ------------------------------------------------------------------------------------------------- */

static void usage(void)
{
	printf("usage: barewire steer [--instance PID] status\n"
	       "                                      block|allow|unblock CIDR... [-f FILE]\n"
	       "                                      limit [syns=N] [packets=N]\n\n"
	       "Of an instance on xdp:IFACE or packet:IFACE: what it shares with the kernel, and which packets neither\n"
	       "gets. The longest prefix that holds a source decides; unblock removes a rule, of either kind. Limits are\n"
	       "of one source and a second, 0 for none; who is allowed has none. Of several devices, what is changed is\n"
	       "changed for each that is shared.\n\n"
	       "  -f FILE          prefixes from a file, one a line; # begins a comment\n"
	       "  --instance PID   where more than one runs\n");
}

#define WORDS_MAX 65000

/** The request, with its own copies. */
struct words {
	int count;
	char *word[WORDS_MAX];
};

static int add_word(struct words *words, const char *word)
{
	char *copy = words->count < WORDS_MAX ? strdup(word) : NULL;

	if (copy == NULL) {
		bw_error("steer: more than %d words, or no memory for them; give them in pieces", WORDS_MAX);
		return -E2BIG;
	}
	words->word[words->count++] = copy;
	return 0;
}

/** All of a file, to be freed. NULL after one line. */
static char *read_text(const char *path)
{
	char *text = calloc(1, FILE_BYTES_MAX);
	FILE *file = fopen(path, "re");
	const char *problem = NULL;
	size_t bytes;

	if (text == NULL || file == NULL) {
		problem = strerror(errno);
	} else {
		bytes = fread(text, 1, FILE_BYTES_MAX - 1, file);
		if (ferror(file))
			problem = strerror(errno);
		else if (!feof(file))
			problem = "too large; give it in pieces";
		else if (strlen(text) != bytes)
			problem = "it has a zero byte, and is no text";
	}
	if (file != NULL)
		fclose(file);
	if (problem == NULL)
		return text;
	bw_error("steer: %s: %s", path, problem);
	free(text);
	return NULL;
}

static int add_file(struct words *words, const char *path)
{
	char *text = read_text(path), *rest = text;
	int rc = text != NULL ? 0 : -EINVAL;

	for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n")) {
		char *left = line;

		line[strcspn(line, "#")] = '\0';
		for (char *word = strsep(&left, " \t\r,"); word != NULL; word = strsep(&left, " \t\r,"))
			if (word[0] != '\0' && rc == 0)
				rc = add_word(words, word);
	}
	free(text);
	return rc;
}

int bw_app_pid_parse(const char *command, const char *text, int *pid)
{
	char *end;
	const long number = strtol(text, &end, 10);

	if (*text == '\0' || *end != '\0' || number < 1 || number > INT_MAX) {
		bw_error(
			"%s: --instance: '%.60s' is no process number; ls /run/barewire shows those that there are",
			command, text);
		return -EINVAL;
	}
	*pid = (int)number;
	return 0;
}

/** 0 with a request that has a verb and what belongs to it, 1: its help was asked for, or -errno after one line. */
static int parse(struct words *words, int argc, char **argv, int *pid)
{
	static const char *const verbs[] = { "status", "block", "allow", "unblock", "limit" };
	bool is_verb = false, is_alone;
	int rc = add_word(words, "steer");

	for (int i = 0; i < argc && rc == 0; i++) {
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			return 1;
		if (strcmp(argv[i], "--instance") == 0 && i + 1 < argc)
			rc = bw_app_pid_parse("steer", argv[++i], pid);
		else if (strcmp(argv[i], "-f") == 0 && i + 1 < argc)
			rc = add_file(words, argv[++i]);
		else
			rc = add_word(words, argv[i]);
	}
	if (rc != 0)
		return rc;
	for (unsigned i = 0; words->count > 1 && i < BW_ARRAY_LEN(verbs); i++)
		is_verb |= strcmp(words->word[1], verbs[i]) == 0;
	if (!is_verb) {
		bw_error(
			"steer: say what: status, block, allow, unblock or limit; barewire steer --help tells more");
		return -EINVAL;
	}
	is_alone = strcmp(words->word[1], "status") == 0 || strcmp(words->word[1], "limit") == 0;
	if (words->count == 2 && !is_alone) {
		bw_error("steer %s: which? give prefixes such as 192.0.2.0/24, or -f FILE", words->word[1]);
		return -EINVAL;
	}
	return 0;
}

int bw_app_steer(int argc, char **argv)
{
	struct words *words = calloc(1, sizeof(*words));
	int pid = 0, rc, status = EXIT_REFUSED;

	if (words == NULL)
		return EXIT_REFUSED;
	rc = parse(words, argc, argv, &pid);
	if (rc > 0) {
		usage();
		status = EXIT_OK;
	} else if (rc == 0) {
		rc = bw_admin_ask(pid, words->count, words->word, stdout);
		status = rc == 0 ? EXIT_OK : rc == 1 ? EXIT_LOST : EXIT_REFUSED;
	}
	for (int i = 0; i < words->count; i++)
		free(words->word[i]);
	free(words);
	return status;
}
