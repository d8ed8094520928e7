/* SPDX-License-Identifier: BSD-3-Clause */
/** Text to values and back, by the tables of keys.h. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <base/log.h>

#include "internal.h"

#define TEXT_BYTES 32

struct unit {
	const char *suffix;
	uint64_t factor;
};

/* Largest first, for printing; the first spelling of a factor is the one that is printed. */
static const struct unit byte_units[] = {
	{ "GiB", GIB },
	{ "G", GIB },
	{ "MiB", MIB },
	{ "M", MIB },
	{ "KiB", KIB },
	{ "K", KIB },
	{ "", 1 },
};
/* Seconds are what is meant without a unit; hours and minutes are read, and printed as seconds. */
static const struct unit duration_units[] = {
	{ "s", SEC },
	{ "", SEC },
	{ "ms", MS },
	{ "us", BW_NS_PER_US },
	{ "ns", 1 },
	{ "m", 60 * SEC },
	{ "h", 3600 * SEC },
};
static const struct unit plain_units[] = { { "", 1 } };

#define WORDS_MAX 4

/** A choice: the words that stand for an enum's values, NULL for what cannot be chosen. */
struct choice {
	const char *what, *all;
	const char *words[WORDS_MAX];
};

static const struct choice poll_choice = {
	"way to poll",
	"busy, adaptive or auto",
	{ [BW_POLL_AUTO] = "auto", [BW_POLL_BUSY] = "busy", [BW_POLL_ADAPTIVE] = "adaptive" },
};
static const struct choice congestion_choice = {
	"congestion control",
	"cubic, newreno or dctcp",
	{ [BW_TCP_CC_CUBIC] = "cubic", [BW_TCP_CC_NEWRENO] = "newreno", [BW_TCP_CC_DCTCP] = "dctcp" },
};
_Static_assert(BW_TCP_CC_COUNT <= WORDS_MAX, "congestion_choice");
static const struct choice syn_cookies_choice = {
	"time to send SYN cookies",
	"auto, off or always",
	{ [BW_TCP_SYN_COOKIES_AUTO] = "auto",
		[BW_TCP_SYN_COOKIES_OFF] = "off",
		[BW_TCP_SYN_COOKIES_ALWAYS] = "always" },
};
static const struct choice log_format_choice = {
	"format of an access log",
	"combined or json",
	{ [BW_HTTP_LOG_COMBINED] = "combined", [BW_HTTP_LOG_JSON] = "json" },
};

static const struct choice policy_choice = {
	"way to make room",
	"allkeys-lru, allkeys-lfu, volatile-ttl or noeviction",
	{ [BW_RESP_ALLKEYS_LRU] = "allkeys-lru",
		[BW_RESP_ALLKEYS_LFU] = "allkeys-lfu",
		[BW_RESP_VOLATILE_TTL] = "volatile-ttl",
		[BW_RESP_NOEVICTION] = "noeviction" },
};
_Static_assert(BW_RESP_POLICIES <= WORDS_MAX, "policy_choice");

static const struct unit *units_of(enum bw_key_kind kind, unsigned *count)
{
	switch (kind) {
	case KEY_BYTES:
		*count = BW_ARRAY_LEN(byte_units);
		return byte_units;
	case KEY_DURATION:
		*count = BW_ARRAY_LEN(duration_units);
		return duration_units;
	default:
		*count = 1;
		return plain_units;
	}
}

/** Decimal digits, one dot among them where the unit is larger than 1, then a unit. No sign, no blank. */
static bool quantity_parse(enum bw_key_kind kind, const char *text, uint64_t *value)
{
	unsigned unit_count;
	const struct unit *units = units_of(kind, &unit_count);
	size_t digits = strspn(text, "0123456789"), fraction = 0;
	const char *suffix = text + digits;
	unsigned __int128 sum = 0, scale = 1;

	/* 18 digits each keep all products within 128 bits. */
	if (digits == 0 || digits > 18)
		return false;
	if (*suffix == '.') {
		fraction = strspn(suffix + 1, "0123456789");
		if (fraction == 0 || fraction > 18)
			return false;
		suffix += 1 + fraction;
	}
	for (unsigned i = 0; i < unit_count; i++) {
		if (strcmp(units[i].suffix, suffix) != 0)
			continue;
		for (const char *c = text; c < suffix; c++)
			if (*c != '.')
				sum = sum * 10 + (unsigned)(*c - '0');
		for (size_t f = 0; f < fraction; f++)
			scale *= 10;
		/* The digits fit in 36 decimals at most, about 120 bits: divide before a large factor. */
		if (fraction > 0 && (sum > UINT64_MAX || units[i].factor == 1))
			return false;
		sum *= units[i].factor;
		if (sum % scale != 0)
			return false; /* a part of a byte, or of a nanosecond */
		sum /= scale;
		*value = sum > UINT64_MAX ? UINT64_MAX : (uint64_t)sum;
		return true;
	}
	return false;
}

static void quantity_format(enum bw_key_kind kind, uint64_t value, char out[TEXT_BYTES])
{
	unsigned unit_count;
	const struct unit *units = units_of(kind, &unit_count);

	for (unsigned i = 0; i < unit_count; i++) {
		if (value % units[i].factor != 0 || (value == 0 && units[i].factor != 1 && kind == KEY_BYTES))
			continue;
		snprintf(out, TEXT_BYTES, "%" PRIu64 "%s", value / units[i].factor, units[i].suffix);
		return;
	}
}

#define FAULT_BYTES 256

/** Read a quantity within its bounds, or say into `fault` what is wrong with it and what to give. */
static bool quantity_read(
	const struct bw_key *key, const char *text, uint64_t *value, char fault[FAULT_BYTES])
{
	static const char *const wants[] = {
		[KEY_NUMBER] = "a whole number",
		[KEY_BYTES] = "a size in bytes, KiB, MiB or GiB",
		[KEY_DURATION] = "a time in seconds, or with ms, s, m or h",
	};
	char min[TEXT_BYTES], max[TEXT_BYTES];

	quantity_format(key->kind, key->min, min);
	quantity_format(key->kind, key->max, max);
	if (!quantity_parse(key->kind, text, value))
		snprintf(fault, FAULT_BYTES, "'%.60s' is not %s; give %s to %s", text, wants[key->kind], min,
			max);
	else if (*value < key->min || *value > key->max)
		snprintf(fault, FAULT_BYTES, "%.60s is out of range; give %s to %s", text, min, max);
	else
		return true;
	return false;
}

static int quantity_apply(const struct bw_conf *conf, const char *path, const struct bw_key *key,
	const char *text, uint64_t *value)
{
	char fault[FAULT_BYTES];

	return quantity_read(key, text, value, fault) ? 0 : bw_control__fail(conf, path, "%s", fault);
}

int bw_conf_quantity(const char *flag, enum bw_conf_unit unit, const char *text, uint64_t min, uint64_t max,
	uint64_t *value)
{
	static const enum bw_key_kind kinds[] = {
		[BW_CONF_NUMBER] = KEY_NUMBER,
		[BW_CONF_BYTES] = KEY_BYTES,
		[BW_CONF_DURATION] = KEY_DURATION,
	};
	const struct bw_key key = { .kind = kinds[unit], .min = min, .max = max };
	char fault[FAULT_BYTES];

	if (quantity_read(&key, text, value, fault))
		return 0;
	bw_error("%s: %s", flag, fault);
	return -EINVAL;
}

static int bool_apply(const struct bw_conf *conf, const char *path, const char *text, uint64_t *value)
{
	static const char *const words[][2] = { { "false", "true" }, { "no", "yes" }, { "off", "on" } };

	for (unsigned i = 0; i < BW_ARRAY_LEN(words); i++)
		for (*value = 0; *value < 2; ++*value)
			if (strcmp(text, words[i][*value]) == 0)
				return 0;
	return bw_control__fail(conf, path, "'%.60s' is neither true nor false; give one of them", text);
}

/** NULL: not a key of that kind. */
static const struct choice *choice_of(enum bw_key_kind kind)
{
	switch (kind) {
	case KEY_POLL:
		return &poll_choice;
	case KEY_CONGESTION:
		return &congestion_choice;
	case KEY_SYN_COOKIES:
		return &syn_cookies_choice;
	case KEY_POLICY:
		return &policy_choice;
	case KEY_LOG_FORMAT:
		return &log_format_choice;
	default:
		return NULL;
	}
}

static int choice_apply(const struct bw_conf *conf, const char *path, const struct choice *choice,
	const char *text, uint64_t *value)
{
	for (*value = 0; *value < WORDS_MAX; ++*value)
		if (choice->words[*value] != NULL && strcmp(text, choice->words[*value]) == 0)
			return 0;
	return bw_control__fail(conf, path, "'%.60s' is no %s; give %s", text, choice->what, choice->all);
}

static uint64_t target_read(const void *target, unsigned bytes)
{
	uint64_t value = 0;

	memcpy(&value, target, bytes); /* little-endian, as every machine that this runs on */
	return value;
}

/** What nobody set: show the target's default, where there is one. */
static int default_show(const struct bw_key *key, char **text, const void *target)
{
	char shown[TEXT_BYTES];
	uint64_t value;

	if (key->kind == KEY_TEXT)
		return 0;
	value = target_read(target, key->target_bytes);
	if (value < key->min)
		return 0;
	if (key->kind == KEY_BOOL)
		snprintf(shown, sizeof(shown), "%s", value ? "true" : "false");
	else if (choice_of(key->kind) != NULL)
		snprintf(shown, sizeof(shown), "%s", choice_of(key->kind)->words[value]);
	else
		quantity_format(key->kind, value, shown);
	*text = strdup(shown);
	return *text != NULL ? 0 : -ENOMEM;
}

int bw_control__keys_apply(struct bw_conf *conf, const char *prefix, const struct bw_key *keys,
	unsigned count, void *raw, void *target)
{
	for (unsigned i = 0; i < count; i++) {
		const struct bw_key *key = &keys[i];
		char **text = (char **)((char *)raw + key->raw_offset);
		char *into = (char *)target + key->target_offset;
		char path[PATH_BYTES];
		uint64_t value = 0;
		int error;

		snprintf(path, sizeof(path), "%s%s", prefix, key->name);
		if (*text == NULL) {
			error = default_show(key, text, into);
			if (error != 0)
				return error;
			continue;
		}
		if (key->kind == KEY_TEXT) {
			memcpy(into, text, sizeof(*text));
			continue;
		}
		if (key->kind == KEY_BOOL)
			error = bool_apply(conf, path, *text, &value);
		else if (choice_of(key->kind) != NULL)
			error = choice_apply(conf, path, choice_of(key->kind), *text, &value);
		else
			error = quantity_apply(conf, path, key, *text, &value);
		if (error != 0)
			return error;
		memcpy(into, &value, key->target_bytes);
	}
	return 0;
}

int bw_control__port_parse(const struct bw_conf *conf, const char *path, const char *text, uint16_t *port)
{
	static const struct bw_key key = { .kind = KEY_NUMBER, .min = 1, .max = 65535 };
	uint64_t value;
	int error = quantity_apply(conf, path, &key, text, &value);

	if (error == 0)
		*port = (uint16_t)value;
	return error;
}
