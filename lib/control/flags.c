/* SPDX-License-Identifier: BSD-3-Clause */
/** Flags: each writes into the raw struct what the file would have said. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <base/log.h>

#include "internal.h"

enum flag_kind {
	FLAG_VALUE,  /* one value, the last one wins */
	FLAG_SWITCH, /* "true" */
	FLAG_FILE,
	FLAG_HELP,
	FLAG_DEV,          /* begins a device: the first one's is named, then each is a further one */
	FLAG_DEVICE_VALUE, /* one value of the device that was begun last */
	FLAG_EXCEPTION,    /* likewise */
	/* Lists, the first three of that device. */
	FLAG_ADDR,
	FLAG_GATEWAY,
	FLAG_ROUTE,
	FLAG_HTTP,
	FLAG_RESP,
	FLAG_ECHO,
	FLAG_DISCARD,
};

struct flag {
	const char *name, *short_name;
	const char *arg; /* NULL: takes none */
	enum flag_kind kind;
	const char *path;
	size_t raw_offset; /* FLAG_VALUE, FLAG_SWITCH, and FLAG_DEVICE_VALUE of struct bw_raw_device: of the text */
	const char *help;
};

#define VALUE(flag, arg_name, key, text)                                                                     \
	{                                                                                                    \
		"--" flag, NULL, arg_name, FLAG_VALUE, #key, offsetof(struct bw_raw, key), text              \
	}

#define DEVICE_VALUE(flag, arg_name, key, text)                                                              \
	{                                                                                                    \
		"--" flag, NULL, arg_name, FLAG_DEVICE_VALUE, #key, offsetof(struct bw_raw_device, key),     \
			text                                                                                 \
	}

#define SWITCH(flag, short, key, text)                                                                       \
	{                                                                                                    \
		"--" flag, short, NULL, FLAG_SWITCH, #key, offsetof(struct bw_raw, key), text                \
	}

static const struct flag flags[] = {
	{ "--dev", NULL, "SPEC", FLAG_DEV, "device", 0,
		"tap[:NAME] (default), packet:IFACE, xdp:IFACE[,busy_poll=N][,copy=1],\n"
		"memif:, vhost: or virtio:SOCKET[,role=server|client], ring, pcap:IN,OUT, pci:ADDR,\n"
		"bond:MODE,DEV,DEV, net_...,k=v (raw devargs), or auto; repeatable: those below from\n"
		"--addr to --mac are of the last --dev before them" },
	{ "--addr", NULL, "CIDR", FLAG_ADDR, "addresses", 0,
		"our address and its on-link prefix; repeatable. A tap has 198.18.77.2/24 and\n"
		"fd77:ba5e::2/64 when none is given" },
	{ "--gateway", NULL, "IP", FLAG_GATEWAY, "gateways", 0,
		"default gateway; one for IPv4, one for IPv6" },
	{ "--route", NULL, "CIDR,GATEWAY", FLAG_ROUTE, "routes", 0, "another route; repeatable" },
	DEVICE_VALUE("vlan", "ID", vlan, "802.1Q tag of all packets; 0 for none (default)"),
	DEVICE_VALUE("mtu", "BYTES", mtu, "576 to 9000; the device's when not given"),
	{ "--exception", NULL, "NAME", FLAG_EXCEPTION, NULL, 0,
		"a TAP by which the kernel has the same address and all that is not served, where\n"
		"DPDK has the device" },
	DEVICE_VALUE("mac", "MAC", mac, "Ethernet address; the device's when not given"),
	{ "--http", NULL, "[IP:]PORT[=ROOT]", FLAG_HTTP, "http", 0,
		"HTTP/1.1 on that port, of that address of ours or of all, as 80, 192.0.2.2:80 or\n"
		"[2001:db8::2]:80; files from ROOT, without it a welcome page" },
	{ "--resp", NULL, "[IP:]PORT", FLAG_RESP, "resp", 0, "key-value cache that redis-cli talks to" },
	{ "--echo", NULL, "[IP:]PORT", FLAG_ECHO, "echo", 0, "echo, TCP and UDP" },
	{ "--discard", NULL, "[IP:]PORT", FLAG_DISCARD, "discard", 0, "discard, TCP and UDP" },
	SWITCH("steal", NULL, steal, "take ports of a shared interface although a process listens there"),
	VALUE("workers", "N", workers, "cores that serve; default 1"),
	VALUE("cpus", "LIST", cpus, "which cores, such as 2,4-6; chosen when not given"),
	VALUE("poll", "HOW", poll, "busy, adaptive, or auto: adaptive on virtual devices (default)"),
	VALUE("connections", "N", tcp.connections, "connections a worker; default 65536"),
	VALUE("drain", "SECONDS", drain, "time for what is in flight at exit; default 10"),
	VALUE("stats", "SECONDS", stats, "a line of rates so often; 0 for only on SIGUSR1; default 10"),
	{ "--config", "-c", "FILE", FLAG_FILE, NULL, 0, "YAML file; flags win over it" },
	SWITCH("cycles", NULL, cycles, "count the workers' cycles by stage"),
	SWITCH("verbose", "-v", verbose, "say more, EAL's own lines included"),
	{ "--help", "-h", NULL, FLAG_HELP, NULL, 0, "this" },
};

void bw_conf_flag_usage(
	FILE *out, const char *name, const char *short_name, const char *arg, const char *help)
{
	char left[48];

	snprintf(left, sizeof(left), "%s%s%s%s%s", short_name != NULL ? short_name : "",
		short_name != NULL ? ", " : "", name, arg != NULL ? " " : "", arg != NULL ? arg : "");
	fprintf(out, "  %-24s", left);
	for (const char *line = help; line != NULL;) {
		const char *end = strchr(line, '\n');

		fprintf(out, "%*s%.*s\n", line == help ? 1 : 27, "",
			(int)(end != NULL ? end - line : (long)strlen(line)), line);
		line = end != NULL ? end + 1 : NULL;
	}
}

void bw_conf_usage(FILE *out)
{
	for (unsigned i = 0; i < BW_ARRAY_LEN(flags); i++)
		bw_conf_flag_usage(out, flags[i].name, flags[i].short_name, flags[i].arg, flags[i].help);
	bw_conf_flag_usage(out, "--", NULL, NULL, "whatever follows goes to DPDK's EAL");
}

/* ---- for commands with flags of their own ----------------------------------------------------------------- */

/** Is the flag about the device, the network or the engine, and not about what is served? */
static bool is_of_network(const struct flag *flag)
{
	return flag->kind < FLAG_HTTP && flag->kind != FLAG_HELP &&
	       strcmp(flag->name, "--connections") != 0 && strcmp(flag->name, "--drain") != 0 &&
	       strcmp(flag->name, "--stats") != 0;
}

void bw_conf_network_usage(FILE *out)
{
	for (unsigned i = 0; i < BW_ARRAY_LEN(flags); i++)
		if (is_of_network(&flags[i]))
			bw_conf_flag_usage(out, flags[i].name, NULL, flags[i].arg, flags[i].help);
	bw_conf_flag_usage(out, "--", NULL, NULL, "whatever follows goes to DPDK's EAL");
}

int bw_conf_network_flag(const char *arg)
{
	size_t len = strcspn(arg, "=");

	for (unsigned i = 0; i < BW_ARRAY_LEN(flags); i++)
		if (is_of_network(&flags[i]) && strlen(flags[i].name) == len &&
			strncmp(flags[i].name, arg, len) == 0)
			return flags[i].arg != NULL && arg[len] == '\0' ? 1 : 0;
	return -1;
}

const char *bw_conf_nearest_flag(const char *arg, const char *const *own, unsigned own_count)
{
	const char *names[BW_ARRAY_LEN(flags) + BW_CONF_OWN_FLAGS_MAX];
	unsigned count = 0;
	char name[64];

	snprintf(name, sizeof(name), "%.*s", (int)BW_MIN(strcspn(arg, "="), sizeof(name) - 1), arg);
	for (unsigned i = 0; i < BW_MIN(own_count, BW_CONF_OWN_FLAGS_MAX); i++)
		names[count++] = own[i];
	for (unsigned i = 0; i < BW_ARRAY_LEN(flags); i++)
		if (is_of_network(&flags[i]))
			names[count++] = flags[i].name;
	return bw_control__nearest(name, names, count);
}

/* ---- lists: the first flag of a kind replaces the file's list ----------------------------------------------- */

static void text_set(char **at, char *text)
{
	free(*at);
	*at = text;
}

/** Grow an array by one zeroed entry; NULL when out of memory. */
static void *grow(void *array_pointer, unsigned *count, size_t entry_bytes)
{
	char *array;

	memcpy(&array, array_pointer, sizeof(array));
	array = realloc(array, (*count + 1) * entry_bytes);
	if (array == NULL)
		return NULL;
	memcpy(array_pointer, &array, sizeof(array));
	array += *count * entry_bytes;
	memset(array, 0, entry_bytes);
	++*count;
	return array;
}

/** A raw struct of nothing but one list, which is freed with it. */
#define LIST_CLEAR(raw, list)                                                                                \
	do {                                                                                                 \
		struct bw_raw *rest = calloc(1, sizeof(*rest));                                              \
		if (rest == NULL)                                                                            \
			return -ENOMEM;                                                                      \
		rest->list = (raw)->list;                                                                    \
		rest->list##_count = (raw)->list##_count;                                                    \
		(raw)->list = NULL;                                                                          \
		(raw)->list##_count = 0;                                                                     \
		bw_control__raw_free(rest);                                                                  \
	} while (0)

/** The command line so far. */
struct line {
	struct bw_conf *conf;
	bool is_seen[FLAG_DISCARD + 1]; /* of kinds that are lists; of the first device only */
	bool has_dev;
	unsigned device; /* that the next flags are of */
};

/** Flags that stand for keys of a device. */
static bool is_of_device(const struct flag *flag)
{
	return flag->kind >= FLAG_DEV && flag->kind <= FLAG_ROUTE;
}

static struct bw_raw_device *raw_device(const struct line *line)
{
	struct bw_raw *raw = line->conf->raw;

	return line->device == 0 ? &raw->about : &raw->more_devices[line->device - 1].about;
}

/** Where the flag's key is: a device's is where that device's are. */
static void path_of(const struct line *line, const struct flag *flag, char path[PATH_BYTES])
{
	if (flag->kind == FLAG_EXCEPTION)
		bw_control__device_path(
			path, line->device, "%s", line->device == 0 ? "exception.tap" : "exception");
	else
		bw_control__device_path(path, is_of_device(flag) ? line->device : 0, "%s", flag->path);
}

static int list_clear(struct bw_conf *conf, const struct flag *flag)
{
	struct bw_raw *raw = conf->raw;

	bw_control__origin_drop(conf, flag->path);
	switch (flag->kind) {
	case FLAG_ADDR:
		LIST_CLEAR(raw, addresses);
		break;
	case FLAG_GATEWAY:
		LIST_CLEAR(raw, gateways);
		break;
	case FLAG_ROUTE:
		LIST_CLEAR(raw, routes);
		break;
	case FLAG_HTTP:
		LIST_CLEAR(raw, http);
		break;
	case FLAG_RESP:
		LIST_CLEAR(raw, resp);
		break;
	case FLAG_ECHO:
		LIST_CLEAR(raw, echo);
		break;
	case FLAG_DISCARD:
		LIST_CLEAR(raw, discard);
		break;
	default:
		break;
	}
	return 0;
}

static int too_many(const struct flag *flag, unsigned max)
{
	bw_error("%s: given more than %u times; give fewer", flag->name, max);
	return -EINVAL;
}

static int origins_add(const struct line *line, const struct flag *flag, unsigned index, const char *key)
{
	char list[PATH_BYTES], path[PATH_BYTES + 32];
	int error;

	path_of(line, flag, list);
	snprintf(path, sizeof(path), "%s[%u]", list, index);
	error = bw_control__origin_add(line->conf, path, flag->name, 0);
	if (error != 0 || key == NULL)
		return error;
	snprintf(path, sizeof(path), "%s[%u].%s", list, index, key);
	return bw_control__origin_add(line->conf, path, flag->name, 0);
}

static int text_append(const struct line *line, const struct flag *flag, char ***list, unsigned *count,
	unsigned max, const char *value)
{
	char **entry;

	if (*count == max)
		return too_many(flag, max);
	entry = grow(list, count, sizeof(*entry));
	if (entry == NULL)
		return -ENOMEM;
	*entry = strdup(value);
	return *entry != NULL ? origins_add(line, flag, *count - 1, NULL) : -ENOMEM;
}

static int route_append(const struct line *line, const struct flag *flag, const char *value)
{
	struct bw_raw_device *raw = raw_device(line);
	const char *comma = strchr(value, ',');
	struct bw_raw_route *route;

	if (comma == NULL) {
		bw_error("%s: '%.60s' has no gateway; give CIDR,GATEWAY", flag->name, value);
		return -EINVAL;
	}
	if (raw->routes_count == BW_ROUTES_MAX)
		return too_many(flag, BW_ROUTES_MAX);
	route = grow(&raw->routes, &raw->routes_count, sizeof(*route));
	if (route == NULL)
		return -ENOMEM;
	route->prefix = strndup(value, (size_t)(comma - value));
	route->gateway = strdup(comma + 1);
	if (route->prefix == NULL || route->gateway == NULL)
		return -ENOMEM;
	if (origins_add(line, flag, raw->routes_count - 1, "prefix") != 0)
		return -ENOMEM;
	return origins_add(line, flag, raw->routes_count - 1, "gateway");
}

/** One value, in the place of what the file or an earlier flag said. */
static int value_set(const struct line *line, const struct flag *flag, char **at, const char *value)
{
	char path[PATH_BYTES], *copy = strdup(value);

	if (copy == NULL)
		return -ENOMEM;
	text_set(at, copy);
	path_of(line, flag, path);
	return bw_control__origin_add(line->conf, path, flag->name, 0);
}

/**
 * The first names the first device, whose other keys of the file stay as they are. A second one says that the command
 * line tells which devices there are: it replaces the file's further ones.
 */
static int device_begin(struct line *line, const struct flag *flag, const char *value)
{
	struct bw_raw *raw = line->conf->raw;

	if (!line->has_dev) {
		line->has_dev = true;
		return value_set(line, flag, &raw->device, value);
	}
	if (line->device == 0) {
		LIST_CLEAR(raw, more_devices);
		bw_control__origin_drop(line->conf, "more_devices");
	}
	if (raw->more_devices_count == MORE_DEVICES_MAX)
		return too_many(flag, BW_DEVICES_MAX);
	if (grow(&raw->more_devices, &raw->more_devices_count, sizeof(*raw->more_devices)) == NULL)
		return -ENOMEM;
	line->device = raw->more_devices_count;
	return value_set(line, flag, &raw_device(line)->device, value);
}

/** Take "192.0.2.2:80" or "[2001:db8::2]:80" apart; what has no colon is a port. `len` bytes of value. */
static int listen_parse(const struct flag *flag, const char *value, size_t len, struct bw_raw_listen *listen)
{
	const char *colon = memrchr(value, ':', len), *port = colon != NULL ? colon + 1 : value;
	size_t addr_len = colon != NULL ? (size_t)(colon - value) : 0;
	bool is_bracketed = addr_len >= 2 && value[0] == '[' && value[addr_len - 1] == ']';

	if (!is_bracketed && addr_len > 0 && memchr(value, ':', addr_len) != NULL) {
		bw_error("%s: '%.60s' has an IPv6 address without brackets or without a port; give "
			 "[2001:db8::2]:80 or such",
			flag->name, value);
		return -EINVAL;
	}
	listen->port = strndup(port, len - (size_t)(port - value));
	if (listen->port == NULL)
		return -ENOMEM;
	if (colon == NULL)
		return 0;
	listen->addresses = calloc(1, sizeof(*listen->addresses));
	if (listen->addresses == NULL)
		return -ENOMEM;
	listen->addresses[0] = strndup(value + is_bracketed, addr_len - 2 * is_bracketed);
	listen->addresses_count = 1;
	return listen->addresses[0] != NULL ? 0 : -ENOMEM;
}

/** A service with its address and port, and for HTTP with its root. */
static int service_append(const struct line *line, const struct flag *flag, void *list, unsigned *count,
	size_t bytes, const char *value)
{
	const char *equals = flag->kind == FLAG_HTTP ? strchr(value, '=') : NULL;
	struct bw_raw_listen *listen;
	int error;

	if (*count == BW_SERVICES_MAX)
		return too_many(flag, BW_SERVICES_MAX);
	listen = grow(list, count, bytes);
	if (listen == NULL)
		return -ENOMEM;
	error = listen_parse(flag, value, equals != NULL ? (size_t)(equals - value) : strlen(value), listen);
	if (error != 0)
		return error;
	if (equals != NULL) {
		struct bw_raw_http *http = (struct bw_raw_http *)listen;

		http->root = strdup(equals + 1);
		if (http->root == NULL || origins_add(line, flag, *count - 1, "root") != 0)
			return -ENOMEM;
	}
	if (listen->addresses_count > 0 && origins_add(line, flag, *count - 1, "addresses[0]") != 0)
		return -ENOMEM;
	return origins_add(line, flag, *count - 1, "port");
}

static int flag_apply(struct line *line, const struct flag *flag, const char *value)
{
	struct bw_raw *raw = line->conf->raw;
	struct bw_raw_device *device = raw_device(line);

	switch (flag->kind) {
	case FLAG_VALUE:
	case FLAG_SWITCH:
		return value_set(line, flag, (char **)((char *)raw + flag->raw_offset),
			flag->kind == FLAG_VALUE ? value : "true");
	case FLAG_DEV:
		return device_begin(line, flag, value);
	case FLAG_DEVICE_VALUE:
		return value_set(line, flag, (char **)((char *)device + flag->raw_offset), value);
	case FLAG_EXCEPTION:
		return value_set(line, flag,
			line->device == 0 ? &raw->exception.tap
					  : &raw->more_devices[line->device - 1].exception,
			value);
	case FLAG_ADDR:
		return text_append(
			line, flag, &device->addresses, &device->addresses_count, BW_ADDRS_MAX, value);
	case FLAG_GATEWAY:
		return text_append(line, flag, &device->gateways, &device->gateways_count, 2, value);
	case FLAG_ROUTE:
		return route_append(line, flag, value);
	case FLAG_HTTP:
		return service_append(line, flag, &raw->http, &raw->http_count, sizeof(*raw->http), value);
	case FLAG_RESP:
		return service_append(line, flag, &raw->resp, &raw->resp_count, sizeof(*raw->resp), value);
	case FLAG_ECHO:
		return service_append(line, flag, &raw->echo, &raw->echo_count, sizeof(*raw->echo), value);
	case FLAG_DISCARD:
		return service_append(
			line, flag, &raw->discard, &raw->discard_count, sizeof(*raw->discard), value);
	case FLAG_FILE: /* read before */
	case FLAG_HELP:
		return 0;
	}
	return 0;
}

/* ---- the command line ------------------------------------------------------------------------------------- */

static int unknown_flag(const char *arg, size_t len)
{
	const char *names[BW_ARRAY_LEN(flags)], *nearest;
	char name[64];

	if (arg[0] != '-') {
		bw_error("%.60s: not a flag; flags begin with --, as --help shows", arg);
		return -EINVAL;
	}
	snprintf(name, sizeof(name), "%.*s", (int)BW_MIN(len, (size_t)60), arg);
	for (unsigned i = 0; i < BW_ARRAY_LEN(flags); i++)
		names[i] = flags[i].name;
	nearest = bw_control__nearest(name, names, BW_ARRAY_LEN(flags));
	if (nearest != NULL)
		bw_error("%s: no such flag; did you mean %s?", name, nearest);
	else
		bw_error("%s: no such flag; --help lists them", name);
	return -EINVAL;
}

/** The flag at argv[*at] and its value; *at moves behind both. */
static int flag_next(int argc, char **argv, int *at, const struct flag **flag, const char **value)
{
	const char *arg = argv[*at], *equals = strncmp(arg, "--", 2) == 0 ? strchr(arg, '=') : NULL;
	size_t len = equals != NULL ? (size_t)(equals - arg) : strlen(arg);

	*flag = NULL;
	for (unsigned i = 0; i < BW_ARRAY_LEN(flags) && *flag == NULL; i++) {
		if ((strlen(flags[i].name) == len && strncmp(flags[i].name, arg, len) == 0) ||
			(flags[i].short_name != NULL && strcmp(flags[i].short_name, arg) == 0))
			*flag = &flags[i];
	}
	if (*flag == NULL)
		return unknown_flag(arg, len);
	++*at;
	*value = NULL;
	if ((*flag)->arg == NULL) {
		if (equals == NULL)
			return 0;
		bw_error("%s: takes no value; leave %s away", (*flag)->name, equals);
		return -EINVAL;
	}
	if (equals != NULL) {
		*value = equals + 1;
	} else if (*at < argc && strcmp(argv[*at], "--") != 0) {
		*value = argv[*at];
		++*at;
	} else {
		bw_error("%s: no value; give %s %s", arg, arg, (*flag)->arg);
		return -EINVAL;
	}
	return 0;
}

static int eal_args_take(const struct line *line, int argc, char **argv)
{
	static const struct flag eal = { .name = "--", .path = "eal" };
	struct bw_raw *raw = line->conf->raw;

	if (argc == 0)
		return 0;
	LIST_CLEAR(raw, eal);
	bw_control__origin_drop(line->conf, "eal");
	for (int i = 0; i < argc; i++) {
		int error = text_append(line, &eal, &raw->eal, &raw->eal_count, EAL_ARGS_MAX, argv[i]);

		if (error != 0)
			return error;
	}
	return 0;
}

int bw_control__flags_apply(struct bw_conf *conf, int argc, char **argv)
{
	struct line line = { .conf = conf };
	const struct flag *flag;
	const char *value, *file = NULL;
	int error, at;

	/* All flags are looked at before the file is: a wrong one is the first thing to hear of. */
	for (at = 0; at < argc && strcmp(argv[at], "--") != 0;) {
		error = flag_next(argc, argv, &at, &flag, &value);
		if (error != 0)
			return error;
		if (flag->kind == FLAG_HELP)
			return 1;
		if (flag->kind == FLAG_FILE && file != NULL) {
			bw_error("%s: given twice; give one file", flag->name);
			return -EINVAL;
		}
		if (flag->kind == FLAG_FILE)
			file = value;
	}
	if (file != NULL) {
		error = bw_control__file_load(conf, file);
		if (error != 0)
			return error;
	}
	for (at = 0; at < argc && strcmp(argv[at], "--") != 0;) {
		error = flag_next(argc, argv, &at, &flag, &value);
		/* A further device is the command line's alone: its lists begin empty. */
		if (error == 0 && flag->kind >= FLAG_ADDR && !line.is_seen[flag->kind] &&
			!(is_of_device(flag) && line.device > 0)) {
			line.is_seen[flag->kind] = true;
			error = list_clear(conf, flag);
		}
		if (error == 0)
			error = flag_apply(&line, flag, value);
		if (error != 0)
			return error;
	}
	return at < argc ? eal_args_take(&line, argc - at - 1, argv + at + 1) : 0;
}
