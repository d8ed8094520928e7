/* SPDX-License-Identifier: BSD-3-Clause */
/** `barewire load`: from the command line to the report. The load itself is service/load.h. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <rte_config.h>

#include <base/clock.h>
#include <base/log.h>

#include "app.h"
#include "load_flood.h"
#include "load_report.h"

#define LOOK_NS         (20 * BW_NS_PER_MS)
#define HEADERS_BYTES   8192
#define REQUEST_MAX     65536 /* bytes of --request */
#define ZIPF_DEFAULT    0.99  /* as YCSB has it */
#define CONNECTIONS_MAX 16000000
#define PATHS_MAX       1000000
#define UDP_HEADER      8u

/** The command line, and what it stands for. */
struct load_run {
	struct bw_app_instance instance;
	struct bw_load_conf conf;
	struct bw_load *load;
	struct load_report report;
	struct load_flood flood;
	struct bw_cidr from;
	const char *urls[BW_LOAD_TARGETS_MAX];
	char *texts[2 * BW_LOAD_TARGETS_MAX]; /* that targets point to */
	unsigned url_count, text_count;
	char headers[HEADERS_BYTES];
	char *paths_text;
	const char **paths;
	bw_ns duration_ns, warmup_ns;
	bool has_duration, is_quiet;
	const char *json, *csv, *plot;
};

/* ---- flags ------------------------------------------------------------------------------------------------- */

static int fault(const char *flag, const char *text, const char *what)
{
	bw_error("%s: '%.60s' %s", flag, text, what);
	return -EINVAL;
}

static int take_number(const char *flag, const char *text, uint64_t min, uint64_t max, uint64_t *value)
{
	return bw_conf_quantity(flag, BW_CONF_NUMBER, text, min, max, value);
}

static int take_time(const char *flag, const char *text, uint64_t min, bw_ns *value)
{
	return bw_conf_quantity(flag, BW_CONF_DURATION, text, min, 86400 * BW_NS_PER_SEC, value);
}

static int take_connections(struct load_run *run, const char *flag, const char *text)
{
	return take_number(flag, text, 0, CONNECTIONS_MAX, &run->conf.connections);
}

static int take_depth(struct load_run *run, const char *flag, const char *text)
{
	uint64_t depth;
	int error = take_number(flag, text, 1, BW_LOAD_DEPTH_MAX, &depth);

	if (error == 0)
		run->conf.depth = (uint32_t)depth;
	return error;
}

static int take_rate(struct load_run *run, const char *flag, const char *text)
{
	uint64_t rate;
	int error = take_number(flag, text, 1, 100000000, &rate);

	if (error == 0)
		run->conf.rate = (double)rate;
	return error;
}

static int take_poisson(struct load_run *run, const char *flag, const char *text)
{
	(void)flag, (void)text;
	run->conf.is_poisson = true;
	return 0;
}

/** The rate is optional. */
static int take_churn(struct load_run *run, const char *flag, const char *text)
{
	run->conf.is_churn = true;
	return text != NULL ? take_rate(run, flag, text) : 0;
}

static int take_idle(struct load_run *run, const char *flag, const char *text)
{
	return take_number(flag, text, 1, CONNECTIONS_MAX, &run->conf.idle);
}

static int take_flood(struct load_run *run, const char *flag, const char *text)
{
	run->flood.is_wanted = true;
	return load_flood_kind(flag, text, &run->flood.conf.kind);
}

static int take_flood_rate(struct load_run *run, const char *flag, const char *text)
{
	return take_number(flag, text, 1, BW_FLOOD_RATE_MAX, &run->flood.conf.rate);
}

/** All addresses of the prefix, but for those that no host has. */
static int take_from(struct load_run *run, const char *flag, const char *text)
{
	struct bw_cidr *from = &run->from;
	unsigned bits, ends;

	if (bw_cidr_parse(text, from) != 0 || from->prefix_len == 0)
		return fault(flag, text, "is no range of addresses; give one such as 10.1.0.0/16");
	bits = (bw_ip_is_v4(&from->ip) ? 32u : 128u) - from->prefix_len;
	ends = bw_ip_is_v4(&from->ip) && bits > 1 ? 1 : 0;
	for (unsigned i = 0; i < bits; i++) {
		uint8_t *byte = &from->ip.b[15 - i / 8];

		if ((*byte & 1u << i % 8) != 0)
			return fault(
				flag, text, "has bits set behind its prefix; clear them, as in 10.1.0.0/16");
	}
	run->conf.from = from->ip;
	run->conf.from.b[15] |= (uint8_t)ends;
	run->conf.from_count = (bits < 32 ? 1ull << bits : 1ull << 32) - 2 * ends;
	return 0;
}

static int take_ramp(struct load_run *run, const char *flag, const char *text)
{
	return take_time(flag, text, 0, &run->conf.ramp_ns);
}

static int take_warmup(struct load_run *run, const char *flag, const char *text)
{
	return take_time(flag, text, 0, &run->warmup_ns);
}

static int take_duration(struct load_run *run, const char *flag, const char *text)
{
	run->has_duration = true;
	return take_time(flag, text, BW_NS_PER_MS, &run->duration_ns);
}

static int take_count(struct load_run *run, const char *flag, const char *text)
{
	return take_number(flag, text, 1, 1000000000000, &run->conf.count);
}

static int take_think(struct load_run *run, const char *flag, const char *text)
{
	return take_time(flag, text, 0, &run->conf.think_ns);
}

static int take_timeout(struct load_run *run, const char *flag, const char *text)
{
	return take_time(flag, text, BW_NS_PER_MS, &run->conf.timeout_ns);
}

static int take_keys(struct load_run *run, const char *flag, const char *text)
{
	return take_number(flag, text, 1, 1000000000, &run->conf.keys);
}

static int take_distribution(struct load_run *run, const char *flag, const char *text)
{
	char *end;

	if (strcmp(text, "uniform") == 0) {
		run->conf.zipf = 0;
		return 0;
	}
	if (strcmp(text, "zipf") == 0) {
		run->conf.zipf = ZIPF_DEFAULT;
		return 0;
	}
	if (strncmp(text, "zipf:", 5) == 0 && text[5] >= '0' && text[5] <= '9') {
		run->conf.zipf = strtod(text + 5, &end);
		if (*end == '\0' && run->conf.zipf >= 0.01 && run->conf.zipf <= 10)
			return 0;
	}
	return fault(
		flag, text, "is no distribution; give uniform, zipf, or zipf: and an exponent of 0.01 to 10");
}

/** SET:GET, as memtier has it. */
static int take_ratio(struct load_run *run, const char *flag, const char *text)
{
	unsigned sets, gets;
	char end;

	if (strspn(text, "0123456789:") != strlen(text) ||
		sscanf(text, "%4u:%4u%c", &sets, &gets, &end) != 2 || sets + gets == 0)
		return fault(flag, text, "is no ratio of SET to GET; give one such as 1:10");
	run->conf.set_share = (double)sets / (sets + gets);
	return 0;
}

static int take_size(struct load_run *run, const char *flag, const char *text)
{
	uint64_t size;
	int error = bw_conf_quantity(flag, BW_CONF_BYTES, text, 1, 1 << 20, &size);

	if (error == 0)
		run->conf.size = (uint32_t)size;
	return error;
}

static int take_fill(struct load_run *run, const char *flag, const char *text)
{
	(void)flag, (void)text;
	run->conf.fills = true;
	return 0;
}

static int take_any_length(struct load_run *run, const char *flag, const char *text)
{
	(void)flag, (void)text;
	run->conf.takes_any_length = true;
	return 0;
}

static bool is_printable(const char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			return false;
	return true;
}

static int take_method(struct load_run *run, const char *flag, const char *text)
{
	for (const char *c = text; *c != '\0'; c++)
		if (*c < 'A' || *c > 'Z')
			return fault(flag, text, "is no method; give one such as GET, HEAD or OPTIONS");
	run->conf.method = text;
	return text[0] != '\0' ? 0 : fault(flag, text, "is no method; give one such as GET, HEAD or OPTIONS");
}

static int take_header(struct load_run *run, const char *flag, const char *text)
{
	size_t used = strlen(run->headers);
	const char *colon = strchr(text, ':');

	if (colon == NULL || colon == text || !is_printable(text))
		return fault(flag, text, "is no header; give one such as 'Accept: text/html'");
	if (used + strlen(text) + 3 > HEADERS_BYTES)
		return fault(flag, text, "is one too many; give at most 8 KiB of headers");
	snprintf(run->headers + used, HEADERS_BYTES - used, "%s\r\n", text);
	run->conf.headers = run->headers;
	return 0;
}

/** A file's bytes with a NUL behind them; NULL after one line. */
static char *file_read(const char *flag, const char *path, size_t bytes_max, size_t *bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat stat;
	char *text = NULL;
	ssize_t got;

	if (fd < 0 || fstat(fd, &stat) != 0) {
		bw_error("%s %s: %s; give a file that can be read", flag, path, strerror(errno));
	} else if (!S_ISREG(stat.st_mode) || stat.st_size == 0 || (size_t)stat.st_size > bytes_max) {
		bw_error("%s %s: give a file of 1 to %zu bytes", flag, path, bytes_max);
	} else {
		text = malloc((size_t)stat.st_size + 1);
		got = text != NULL ? read(fd, text, (size_t)stat.st_size) : -1;
		if (got != stat.st_size) {
			bw_error("%s %s: cannot be read whole", flag, path);
			free(text);
			text = NULL;
		} else {
			text[got] = '\0';
			*bytes = (size_t)got;
		}
	}
	if (fd >= 0)
		close(fd);
	return text;
}

static int take_paths(struct load_run *run, const char *flag, const char *text)
{
	size_t bytes = 0;
	char *rest;

	if (run->paths_text != NULL)
		return fault(flag, text, "is the second one; give one file");
	run->paths_text = rest = file_read(flag, text, 1u << 30, &bytes);
	if (rest == NULL)
		return -EINVAL;
	for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
		const char **more;
		size_t len = strlen(line);

		if (len > 0 && line[len - 1] == '\r')
			line[--len] = '\0';
		if (len == 0)
			continue;
		if (line[0] != '/' || !is_printable(line) || strchr(line, ' ') != NULL)
			return fault(flag, line, "is no path; give lines such as /index.html");
		if (run->conf.path_count == PATHS_MAX)
			return fault(flag, line, "is one too many; give at most 1000000 paths");
		more = realloc(run->paths, (run->conf.path_count + 1) * sizeof(*more));
		if (more == NULL)
			return fault(flag, line, "does not fit in memory");
		run->paths = more;
		run->paths[run->conf.path_count++] = line;
	}
	run->conf.paths = run->paths;
	return run->conf.path_count > 0 ? 0 : fault(flag, text, "has no path; give one on each line");
}

static int take_request(struct load_run *run, const char *flag, const char *text)
{
	size_t bytes = 0;

	if (run->conf.request != NULL)
		return fault(flag, text, "is the second one; give one file");
	run->conf.request = file_read(flag, text, REQUEST_MAX, &bytes);
	run->conf.request_bytes = bytes;
	return run->conf.request != NULL ? 0 : -EINVAL;
}

static int take_seed(struct load_run *run, const char *flag, const char *text)
{
	return take_number(flag, text, 0, UINT32_MAX, &run->conf.seed);
}

static int take_json(struct load_run *run, const char *flag, const char *text)
{
	(void)flag;
	run->json = text;
	return 0;
}

static int take_csv(struct load_run *run, const char *flag, const char *text)
{
	(void)flag;
	run->csv = text;
	return 0;
}

static int take_plot(struct load_run *run, const char *flag, const char *text)
{
	run->plot = text;
	return access("/usr/bin/gnuplot", X_OK) == 0 || system("command -v gnuplot >/dev/null 2>&1") == 0
		       ? 0
		       : fault(flag, text, "needs gnuplot; install gnuplot-nox");
}

static int take_quiet(struct load_run *run, const char *flag, const char *text)
{
	(void)flag, (void)text;
	run->is_quiet = true;
	return 0;
}

#define PROTOCOL(which) (1u << BW_LOAD_##which)
#define ALL             (PROTOCOL(HTTP) | PROTOCOL(RESP) | PROTOCOL(ECHO) | PROTOCOL(UDP))
#define FLOOD           (1u << 31) /* --flood, whatever the URL's protocol */
#define FLOOD_UDP       (1u << 30)
#define EVERY           (ALL | FLOOD | FLOOD_UDP)

static const struct load_flag {
	const char *name, *short_name, *arg;
	int (*take)(struct load_run *run, const char *flag, const char *text);
	int (*take_second)(
		struct load_run *run, const char *flag, const char *text); /* of two values; or NULL */
	unsigned protocols;                                                /* that it means something to */
	const char *help;
} flags[] = {
	{ "--connections", "-c", "N", take_connections, NULL, ALL,
		"connections that ask, in all; default 64" },
	{ "--pipeline", "-P", "N", take_depth, NULL, ALL, "requests under way on each; default 1" },
	{ "--rate", "-R", "N", take_rate, NULL, ALL,
		"open loop: so many requests a second, whatever the server does; their time runs from\n"
		"when they were due. Without it the next request follows an answer" },
	{ "--poisson", NULL, NULL, take_poisson, NULL, ALL,
		"with a rate: random distances instead of equal ones" },
	{ "--new-connections", NULL, "[N]", take_churn, NULL,
		PROTOCOL(HTTP) | PROTOCOL(RESP) | PROTOCOL(ECHO),
		"a connection for each request; with N, so many a second" },
	{ "--flood", NULL, "syn|ack|udp RATE", take_flood, take_flood_rate, FLOOD,
		"no load but bare packets of no connection, so many a second, to the URL's address and\n"
		"port: a test of its defences. Only on a device without a default route" },
	{ "--idle", NULL, "N", take_idle, NULL, PROTOCOL(HTTP) | PROTOCOL(RESP) | PROTOCOL(ECHO),
		"and so many more that say nothing; at the end each is asked once" },
	{ "--from", NULL, "CIDR", take_from, NULL, EVERY,
		"source addresses: all of that range, in turn (--flood: at random)" },
	{ "--ramp", NULL, "TIME", take_ramp, NULL, ALL, "open connections evenly over this time" },
	{ "--warmup", NULL, "TIME", take_warmup, NULL, ALL, "load that is not measured yet, before" },
	{ "--duration", "-d", "TIME", take_duration, NULL, EVERY, "how long is measured; default 10s" },
	{ "--requests", "-n", "N", take_count, NULL, EVERY,
		"so many requests instead, or at most (--flood: packets)" },
	{ "--think", NULL, "TIME", take_think, NULL, PROTOCOL(HTTP) | PROTOCOL(RESP) | PROTOCOL(ECHO),
		"between an answer and the next request" },
	{ "--timeout", NULL, "TIME", take_timeout, NULL, ALL, "for an answer, or a connection; default 10s" },
	{ "--size", NULL, "BYTES", take_size, NULL,
		PROTOCOL(RESP) | PROTOCOL(ECHO) | PROTOCOL(UDP) | FLOOD_UDP,
		"of a value, message or datagram; default 32" },
	{ "--keys", NULL, "N", take_keys, NULL, PROTOCOL(RESP), "resp: key:000000000000 and on; default 1" },
	{ "--distribution", NULL, "NAME", take_distribution, NULL, PROTOCOL(RESP) | PROTOCOL(HTTP),
		"over keys or paths: uniform (default), zipf, or zipf:EXPONENT" },
	{ "--ratio", NULL, "SET:GET", take_ratio, NULL, PROTOCOL(RESP), "resp: default 0:1" },
	{ "--fill", NULL, NULL, take_fill, NULL, PROTOCOL(RESP), "resp: SET every key once before" },
	{ "--method", "-X", "NAME", take_method, NULL, PROTOCOL(HTTP), "http: default GET" },
	{ "--header", "-H", "TEXT", take_header, NULL, PROTOCOL(HTTP), "http: one more; repeatable" },
	{ "--paths", NULL, "FILE", take_paths, NULL, PROTOCOL(HTTP),
		"http: one path a line, instead of the URL's" },
	{ "--request", NULL, "FILE", take_request, NULL, PROTOCOL(HTTP),
		"http: the request's bytes, as they are" },
	{ "--any-length", NULL, NULL, take_any_length, NULL, PROTOCOL(HTTP),
		"http: answers to one path may differ in length" },
	{ "--seed", NULL, "N", take_seed, NULL, EVERY, "of what is random; default 1" },
	{ "--json", NULL, "FILE", take_json, NULL, EVERY, "the report as JSON; - for standard output" },
	{ "--csv", NULL, "FILE", take_csv, NULL, EVERY, "a line for each second; - for standard output" },
	{ "--plot", NULL, "FILE", take_plot, NULL, ALL, "percentiles, and rate over time, as SVG" },
	{ "--quiet", "-q", NULL, take_quiet, NULL, EVERY, "no line each second" },
};
_Static_assert(BW_ARRAY_LEN(flags) <= 32, "a bit each");
_Static_assert(BW_ARRAY_LEN(flags) <= BW_CONF_OWN_FLAGS_MAX, "bw_conf_nearest_flag() looks at so many");

static void usage(FILE *out)
{
	fprintf(out, "usage: barewire load [flags] URL... [-- EAL]\n\n"
		     "URL: http://HOST[:PORT][/PATH], resp://[:PASSWORD@]HOST[:PORT], echo://HOST[:PORT],\n"
		     "udp://HOST[:PORT]; several are taken in turn, connection by connection\n\n");
	for (unsigned i = 0; i < BW_ARRAY_LEN(flags); i++)
		bw_conf_flag_usage(out, flags[i].name, flags[i].short_name, flags[i].arg, flags[i].help);
	fprintf(out, "\nDevice, network and engine, as for serve:\n");
	bw_conf_network_usage(out);
}

static const struct load_flag *flag_find(const char *arg, size_t len)
{
	for (unsigned i = 0; i < BW_ARRAY_LEN(flags); i++)
		if ((strlen(flags[i].name) == len && strncmp(flags[i].name, arg, len) == 0) ||
			(flags[i].short_name != NULL && strcmp(flags[i].short_name, arg) == 0))
			return &flags[i];
	return NULL;
}

static int flag_unknown(const char *arg)
{
	const char *names[BW_ARRAY_LEN(flags)], *nearest;

	for (unsigned i = 0; i < BW_ARRAY_LEN(flags); i++)
		names[i] = flags[i].name;
	nearest = bw_conf_nearest_flag(arg, names, BW_ARRAY_LEN(flags));
	if (nearest != NULL)
		bw_error("%.60s: no such flag; did you mean %s?", arg, nearest);
	else
		bw_error("%.60s: no such flag; barewire load --help lists them", arg);
	return -EINVAL;
}

static bool is_number(const char *text)
{
	return text[0] != '\0' && strspn(text, "0123456789") == strlen(text);
}

/* ---- URLs -------------------------------------------------------------------------------------------------- */

static const struct scheme {
	const char *name;
	enum bw_load_protocol protocol;
	uint16_t port;
} schemes[] = {
	{ "http", BW_LOAD_HTTP, 80 },
	{ "resp", BW_LOAD_RESP, 6379 },
	{ "redis", BW_LOAD_RESP, 6379 },
	{ "echo", BW_LOAD_ECHO, 7 },
	{ "udp", BW_LOAD_UDP, 7 },
};

static char *text_keep(struct load_run *run, const char *text, size_t len)
{
	char *copy = strndup(text, len);

	if (copy != NULL && run->text_count < BW_ARRAY_LEN(run->texts))
		run->texts[run->text_count++] = copy;
	return copy;
}

static int host_resolve(const char *url, const char *host, struct bw_ip *ip)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	struct addrinfo *found;
	int error;

	if (bw_ip_parse(host, ip) == 0)
		return 0;
	error = getaddrinfo(host, NULL, &hints, &found);
	if (error != 0) {
		bw_error("%.100s: %s: %s; give an address", url, host, gai_strerror(error));
		return -EINVAL;
	}
	if (found->ai_family == AF_INET) {
		*ip = bw_ip_from_v4(((struct sockaddr_in *)found->ai_addr)->sin_addr.s_addr);
	} else {
		memcpy(ip->b, &((struct sockaddr_in6 *)found->ai_addr)->sin6_addr, sizeof(ip->b));
	}
	freeaddrinfo(found);
	return 0;
}

/** HOST[:PORT], of `len` bytes, with an IPv6 address in brackets. */
static int authority_parse(
	struct load_run *run, const char *url, const char *at, size_t len, struct bw_load_target *target)
{
	const char *end = at + len, *host = at, *host_end, *port = NULL;
	uint64_t number;
	char *name;

	if (len > 0 && *at == '[') {
		host = at + 1;
		host_end = memchr(host, ']', len - 1);
		if (host_end == NULL)
			return fault("load", url, "has a bracket without its other");
		at = host_end + 1;
		if (at < end && *at != ':')
			return fault("load", url,
				"has something behind its address; give a URL such as http://192.0.2.2:80/");
		port = at < end ? at + 1 : NULL;
	} else {
		port = memchr(at, ':', len);
		host_end = port != NULL ? port : end;
		port = port != NULL ? port + 1 : NULL;
	}
	if (port != NULL) {
		char text[8];

		snprintf(text, sizeof(text), "%.*s", (int)BW_MIN((size_t)(end - port), sizeof(text) - 1),
			port);
		if (take_number(url, text, 1, 65535, &number) != 0)
			return -EINVAL;
		target->port = (uint16_t)number;
	}
	name = strndup(host, (size_t)(host_end - host));
	if (name == NULL || name[0] == '\0') {
		free(name);
		return fault("load", url, "has no host; give a URL such as http://192.0.2.2:80/");
	}
	len = (size_t)(host_end - host);
	if (host_resolve(url, name, &target->ip) != 0) {
		free(name);
		return -EINVAL;
	}
	free(name);
	return 0;
}

/** As URLs are (RFC 3986 2): other bytes are percent-encoded. */
static bool is_ascii(const char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text > 0x7f)
			return false;
	return true;
}

/** What is asked for, from the end of the authority on: without a path it is /, with a query or not. */
static const char *path_take(struct load_run *run, const char *at)
{
	char text[2048];
	size_t len = strcspn(at, "#");

	if (len == 0)
		return "/";
	if (*at == '/')
		return text_keep(run, at, len);
	if (len + 2 > sizeof(text))
		return NULL;
	snprintf(text, sizeof(text), "/%.*s", (int)len, at);
	return text_keep(run, text, len + 1);
}

static int url_take(struct load_run *run, const char *url)
{
	const char *colon = strstr(url, "://"), *at, *end, *user;
	struct bw_load_target *target = &run->conf.targets[run->conf.target_count];
	const struct scheme *scheme = NULL;

	if (run->conf.target_count == BW_LOAD_TARGETS_MAX)
		return fault("load", url, "is one too many; give at most 64 URLs");
	for (unsigned i = 0; colon != NULL && i < BW_ARRAY_LEN(schemes); i++)
		if (strlen(schemes[i].name) == (size_t)(colon - url) &&
			strncmp(schemes[i].name, url, (size_t)(colon - url)) == 0)
			scheme = &schemes[i];
	if (scheme == NULL || !is_printable(url) || strchr(url, ' ') != NULL || !is_ascii(url))
		return fault("load", url,
			"is no URL; give one that begins with http://, resp://, echo:// or udp://");
	if (run->conf.target_count > 0 && run->conf.protocol != scheme->protocol)
		return fault("load", url, "is of another protocol than the first; give one kind");
	run->conf.protocol = scheme->protocol;
	target->port = scheme->port;
	at = colon + 3;
	end = at + strcspn(at, "/?#");
	user = memchr(at, '@', (size_t)(end - at));
	if (user != NULL) {
		const char *secret = memchr(at, ':', (size_t)(user - at));

		if (scheme->protocol != BW_LOAD_RESP || secret == NULL)
			return fault("load", url, "has a user; only resp://:PASSWORD@HOST is understood");
		target->password = text_keep(run, secret + 1, (size_t)(user - secret - 1));
		if (target->password == NULL || strlen(target->password) > 255)
			return fault("load", url, "has a password of more than 255 bytes");
		at = user + 1;
	}
	if (authority_parse(run, url, at, (size_t)(end - at), target) != 0)
		return -EINVAL;
	if (scheme->protocol == BW_LOAD_HTTP) {
		target->host = text_keep(run, at, (size_t)(end - at));
		target->path = path_take(run, end);
		if (target->host == NULL || target->path == NULL)
			return fault("load", url, "does not fit in memory");
	} else if (*end != '\0' && strcmp(end, "/") != 0) {
		return fault("load", url, "has a path, which only http has; leave it out");
	}
	run->urls[run->url_count++] = url;
	run->conf.target_count++;
	return 0;
}

/* ---- the command line -------------------------------------------------------------------------------------- */

/** Take our own flags and the URLs; what is the engine's goes to `rest`. 1: help was asked for. */
static int command_line(
	struct load_run *run, int argc, char **argv, char **rest, int *rest_count, unsigned *given)
{
	for (int at = 0; at < argc; at++) {
		const char *arg = argv[at], *equals = strncmp(arg, "--", 2) == 0 ? strchr(arg, '=') : NULL;
		const struct load_flag *flag;
		int more, error;

		if (strcmp(arg, "--") == 0) {
			while (at < argc)
				rest[(*rest_count)++] = argv[at++];
			break;
		}
		if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0)
			return 1;
		if (arg[0] != '-') {
			error = url_take(run, arg);
			if (error != 0)
				return error;
			continue;
		}
		flag = flag_find(arg, equals != NULL ? (size_t)(equals - arg) : strlen(arg));
		more = flag == NULL ? bw_conf_network_flag(arg) : 0;
		if (flag == NULL && more < 0)
			return flag_unknown(arg);
		if (flag == NULL) {
			for (rest[(*rest_count)++] = argv[at]; more > 0 && at + 1 < argc; more--)
				rest[(*rest_count)++] = argv[++at];
			continue;
		}
		const char *value = equals != NULL ? equals + 1 : NULL;
		bool is_optional = flag->arg != NULL && flag->arg[0] == '[';

		if (flag->arg == NULL && equals != NULL) {
			bw_error("%s: takes no value; leave %s away", flag->name, equals);
			return -EINVAL;
		}
		if (flag->arg != NULL && value == NULL && at + 1 < argc &&
			(!is_optional || is_number(argv[at + 1])))
			value = argv[++at];
		if (flag->arg != NULL &&
			((value == NULL && !is_optional) || (flag->take_second != NULL && at + 1 == argc))) {
			bw_error("%s: no value; give %s %s", flag->name, flag->name, flag->arg);
			return -EINVAL;
		}
		error = flag->take(run, flag->name, value);
		if (error == 0 && flag->take_second != NULL)
			error = flag->take_second(run, flag->name, argv[++at]);
		if (error != 0)
			return error;
		*given |= 1u << (flag - flags);
	}
	return 0;
}

static int refuse(const char *line)
{
	bw_error("load: %s", line);
	return -EINVAL;
}

/** A flag that means nothing is a misunderstanding. */
static int flags_check(unsigned given, unsigned protocols, const char *what)
{
	for (unsigned i = 0; i < BW_ARRAY_LEN(flags); i++)
		if ((given & 1u << i) != 0 && (flags[i].protocols & protocols) == 0) {
			bw_error("%s: means nothing to %.20s; leave it out", flags[i].name, what);
			return -EINVAL;
		}
	return 0;
}

static int outputs_check(const struct load_run *run)
{
	if (run->json != NULL && run->csv != NULL && strcmp(run->json, "-") == 0 &&
		strcmp(run->csv, "-") == 0)
		return refuse("--json and --csv both to standard output; give one of them a file");
	return 0;
}

static int sources_check(const struct load_run *run)
{
	const struct bw_load_conf *conf = &run->conf;

	for (unsigned i = 0; i < conf->target_count && conf->from_count > 0; i++) {
		char ip[BW_IP_STRLEN], range[BW_CIDR_STRLEN];

		if (bw_ip_is_v4(&conf->targets[i].ip) != bw_ip_is_v4(&run->from.ip))
			return refuse("--from is of another family than a URL; give addresses of one kind");
		if (bw_cidr_contains(&run->from, &conf->targets[i].ip)) {
			bw_error("load: %s is in %s, which --from makes ours; give another range",
				bw_ip_format(&conf->targets[i].ip, ip), bw_cidr_format(&run->from, range));
			return -EINVAL;
		}
	}
	return 0;
}

/** --flood: what needs the whole picture, and all of it into run->flood. */
static int flood_check(struct load_run *run, unsigned given)
{
	const struct bw_load_conf *conf = &run->conf;
	struct load_flood *flood = &run->flood;
	bool is_udp = flood->conf.kind == BW_FLOOD_UDP;

	if (conf->target_count != 1)
		return refuse("--flood has one target; give one URL, such as http://192.0.2.2/");
	if (is_udp != (conf->protocol == BW_LOAD_UDP))
		return refuse(
			"--flood udp goes to a udp:// URL, syn and ack to one over TCP, such as http://");
	if (flags_check(given, is_udp ? FLOOD | FLOOD_UDP : FLOOD, is_udp ? "--flood udp" : "--flood") != 0 ||
		outputs_check(run) != 0 || sources_check(run) != 0)
		return -EINVAL;
	if (run->duration_ns > BW_FLOOD_DURATION_MAX)
		return refuse("a flood lasts an hour at most; give less to -d");
	if ((unsigned __int128)run->duration_ns * flood->conf.rate < BW_NS_PER_SEC)
		return refuse("--flood: not one packet is due at that rate in that time; give more to -d");
	if (conf->targets[0].password != NULL)
		return fault(
			"--flood", run->urls[0], "has a password, and a flood asks nobody; leave it out");
	if (conf->targets[0].path != NULL && strcmp(conf->targets[0].path, "/") != 0)
		return fault(
			"--flood", run->urls[0], "has a path, and a flood asks for nothing; leave it out");
	flood->conf.target = conf->targets[0].ip;
	flood->conf.port = conf->targets[0].port;
	flood->conf.count_max = conf->count;
	flood->conf.duration_ns = run->duration_ns;
	flood->conf.from = conf->from;
	flood->conf.from_count = conf->from_count;
	flood->conf.size = conf->size;
	flood->conf.seed = conf->seed;
	flood->from = run->from;
	flood->url = run->urls[0];
	flood->json = run->json;
	flood->csv = run->csv;
	flood->is_quiet = run->is_quiet;
	return 0;
}

/** What needs the whole picture. */
static int check(struct load_run *run, unsigned given)
{
	struct bw_load_conf *conf = &run->conf;

	if (conf->target_count == 0)
		return refuse("no URL; give one such as http://192.0.2.2/");
	if (flags_check(given, 1u << conf->protocol, run->urls[0]) != 0)
		return -EINVAL;
	if (conf->connections == 0 && conf->idle == 0)
		return refuse("no connections; give -c or --idle");
	if (conf->connections + conf->idle > CONNECTIONS_MAX)
		return refuse("more than 16000000 connections; give less to -c and --idle");
	if (conf->connections * (conf->depth + 1ull) > UINT32_MAX / 2)
		return refuse("-c times -P is more than two thousand million; give less");
	if (conf->is_poisson && conf->rate <= 0)
		return refuse("--poisson needs a rate; give -R N");
	if (conf->is_churn && conf->depth > 1)
		return refuse("--new-connections has one request on each; leave -P out");
	if (conf->think_ns > 0 && (conf->rate > 0 || conf->is_churn))
		return refuse(
			"--think is of the closed loop on standing connections; leave -R and --new-connections out");
	if (conf->request != NULL &&
		(conf->path_count > 0 || conf->headers != NULL || strcmp(conf->method, "GET") != 0))
		return refuse("--request is all of it; leave --paths, -H and -X out");
	if (conf->protocol == BW_LOAD_UDP && (conf->size < BW_LOAD_UDP_BYTES_MIN || conf->size > 32768))
		return refuse("--size of a datagram is 8 to 32768 bytes");
	if (conf->connections == 0 && (conf->fills || conf->is_churn || conf->rate > 0 || conf->count > 0))
		return refuse(
			"--fill, --new-connections, -R and -n are of connections that ask, which are none; give -c");
	return outputs_check(run) != 0 ? -EINVAL : sources_check(run);
}

/* ---- a run ------------------------------------------------------------------------------------------------- */

static bool is_asked_to_stop(const struct load_run *run, bw_ns wait_ns)
{
	int which = bw_app_signal_wait(&run->instance, wait_ns);

	return which == SIGINT || which == SIGTERM || which == SIGHUP;
}

typedef bool (*done_question)(const struct load_run *run, const struct bw_load_figures *figures);

static bool all_are_open(const struct load_run *run, const struct bw_load_figures *figures)
{
	return figures->open >= (run->conf.is_churn ? 0 : run->conf.connections) &&
	       figures->idle_open >= run->conf.idle;
}

/**
 * Wait until `is_done` of the figures, as long as something becomes more: connections that stand, where these are
 * waited for, since a server that accepts and closes opens ever more; else what has come in. 0; -ETIME: nothing has,
 * for the time-out, and the ramp is over; -EINTR: a signal.
 */
static int wait_for(struct load_run *run, done_question is_done)
{
	struct bw_load_figures *figures = &run->report.figures; /* scratch, until it is written at the end */
	bool is_opening = is_done == all_are_open;
	bw_ns moved_at = bw_clock_now(), ramped_at = is_opening ? moved_at + run->conf.ramp_ns : 0;
	uint64_t moves = 0;

	for (;;) {
		uint64_t seen;

		bw_load_figures(run->load, figures);
		if (is_done(run, figures))
			return 0;
		seen = is_opening ? figures->open + figures->idle_open : figures->bytes_in;
		if (seen > moves) {
			moved_at = bw_clock_now();
			moves = seen;
		}
		if (bw_clock_now() > BW_MAX(moved_at, ramped_at) + run->conf.timeout_ns)
			return -ETIME;
		if (is_asked_to_stop(run, LOOK_NS))
			return -EINTR;
	}
}

static bool all_is_filled(const struct load_run *run, const struct bw_load_figures *figures)
{
	return figures->filled_workers >= run->report.workers;
}

static bool all_have_answered(const struct load_run *run, const struct bw_load_figures *figures)
{
	(void)run;
	return figures->idle_answered >= figures->idle_open;
}

static bool nothing_is_under_way(const struct load_run *run, const struct bw_load_figures *figures)
{
	(void)run;
	return figures->under_way == 0;
}

static uint64_t retransmitted(const struct load_run *run)
{
	struct bw_counters counters;

	bw_engine_counters(run->instance.engine, &counters);
	return counters.value[BW_TCP_RETRANSMITS];
}

/** Nobody has answered: say so, and what was seen. */
static int hopeless(const struct load_run *run, const char *what)
{
	const struct bw_load_figures *figures = &run->report.figures;
	char unresolved[1024];
	size_t len = bw_engine_unresolved(run->instance.engine, unresolved, sizeof(unresolved) - 1);

	unresolved[len] = '\0';
	unresolved[strcspn(unresolved, "\n")] = '\0';
	bw_error("%s: %s (%llu refused, %llu unreachable, %llu timeouts)%s%s", run->urls[0], what,
		(unsigned long long)figures->error[BW_LOAD_REFUSED],
		(unsigned long long)figures->error[BW_LOAD_UNREACHABLE],
		(unsigned long long)figures->error[BW_LOAD_TIMEOUT], len > 0 ? "; " : "", unresolved);
	return -EIO;
}

/** A count is exact: what was asked before is answered before. 0; -EINTR: a signal. */
static int come_to_rest(struct load_run *run)
{
	bw_load_set_stage(run->load, BW_LOAD_OPEN);
	if (is_asked_to_stop(run, LOOK_NS)) /* every worker has seen it */
		return -EINTR;
	return wait_for(run, nothing_is_under_way) == -EINTR ? -EINTR : 0;
}

/** Everything before the measurement. 0; -EINTR: a signal; -EIO after one line. */
static int prepare(struct load_run *run)
{
	struct bw_load_conf *conf = &run->conf;
	int error = 0;

	bw_load_set_stage(run->load, conf->ramp_ns > 0 ? BW_LOAD_WARM : BW_LOAD_OPEN);
	error = wait_for(run, all_are_open);
	if (error == -EINTR)
		return error;
	if (error != 0 && run->report.figures.opened == 0)
		return hopeless(run, "no connection could be opened");
	if (error != 0)
		bw_warn("%llu of %llu connections are open; going on with them",
			(unsigned long long)(run->report.figures.open + run->report.figures.idle_open),
			(unsigned long long)(conf->connections + conf->idle));
	if (conf->fills) {
		bw_load_set_stage(run->load, BW_LOAD_FILL);
		error = wait_for(run, all_is_filled);
		if (error == -ETIME)
			return hopeless(run, "keys could not be set");
		if (error != 0)
			return error;
	}
	if (run->warmup_ns > 0) {
		bw_ns now = bw_clock_now(), end = now + run->warmup_ns;

		bw_load_set_stage(run->load, BW_LOAD_WARM);
		for (; now < end; now = bw_clock_now())
			if (is_asked_to_stop(run, end - now))
				return -EINTR;
	}
	return conf->count > 0 ? come_to_rest(run) : 0;
}

/** The measurement: a look each second, until the time is over, all is answered or a signal comes. */
static int measure(struct load_run *run)
{
	struct load_report *report = &run->report;
	struct bw_load_figures *first = malloc(3 * sizeof(*first)), *last = first + 1, *now = first + 2;
	bw_ns began, looked_at, end;
	uint64_t retransmitted_before = retransmitted(run);
	bool is_over = false;

	if (first == NULL) {
		bw_error("load: out of memory; free some");
		return -ENOMEM;
	}
	bw_load_figures(run->load, first);
	*last = *first;
	began = looked_at = bw_clock_now();
	end = run->conf.count == 0 || run->has_duration ? began + run->duration_ns : BW_NEVER;
	bw_load_set_stage(run->load, BW_LOAD_RUN);
	while (!is_over) {
		bw_ns next = BW_MIN(looked_at + BW_NS_PER_SEC, end), at = bw_clock_now();

		/* The end of a count is looked for more often than once a second. */
		while (at < next && !is_over) {
			bw_ns wait = run->conf.count > 0 ? BW_MIN(next - at, LOOK_NS) : next - at;

			is_over = is_asked_to_stop(run, wait);
			at = bw_clock_now();
			if (run->conf.count > 0) {
				bw_load_figures(run->load, now);
				is_over |= now->done_workers >= report->workers;
				if (!is_over &&
					now->done_workers + now->stranded_workers >= report->workers) {
					bw_warn("no connection for %llu s; ending before the count is reached",
						(unsigned long long)(run->conf.timeout_ns / BW_NS_PER_SEC));
					is_over = true;
				}
			}
		}
		bw_load_figures(run->load, now);
		at = bw_clock_now();
		is_over |= at >= end;
		report->figures = *now;
		load_figures_since(&report->figures, last);
		if (at - looked_at > BW_NS_PER_SEC / 100 &&
			!load_report_add(report, (double)(at - began) / BW_NS_PER_SEC,
				(double)(at - looked_at) / BW_NS_PER_SEC, &report->figures))
			is_over = true;
		if (!run->is_quiet && report->second_count > 0)
			load_report_live(stderr, &report->second[report->second_count - 1],
				end == BW_NEVER ? (double)(now->responses - first->responses) /
							  (double)run->conf.count
						: (double)(at - began) / (double)run->duration_ns);
		*last = *now;
		looked_at = at;
	}
	report->seconds = (double)(looked_at - began) / BW_NS_PER_SEC;
	report->retransmissions = retransmitted(run) - retransmitted_before;
	load_figures_since(now, first);
	report->figures = *now;
	free(first);
	return 0;
}

/** After it: the idle ones, and the figures of the whole run. */
static void conclude(struct load_run *run, struct bw_load_figures *measured)
{
	struct bw_load_figures *all = &run->report.figures;

	*measured = *all;
	if (run->conf.idle > 0) {
		bw_load_set_stage(run->load, BW_LOAD_CHECK);
		wait_for(run, all_have_answered);
	}
	bw_load_set_stage(run->load, BW_LOAD_END);
	wait_for(run, nothing_is_under_way);
	bw_load_figures(run->load, all);
	measured->opened = all->opened;
	measured->open = all->open;
	measured->idle_open = all->idle_open;
	measured->idle_answered = all->idle_answered;
	measured->idle_closed = all->idle_closed;
	memcpy(measured->error, all->error, sizeof(all->error));
	*all = *measured;
}

static int file_write(const char *flag, const char *path, const struct load_report *report,
	void (*write)(FILE *out, const struct load_report *report))
{
	FILE *out = load_file_open(flag, path);

	if (out == NULL)
		return -EIO;
	write(out, report);
	return load_file_close(flag, path, out);
}

static int report_write(struct load_run *run)
{
	const struct load_report *report = &run->report;
	bool has_stdout = (run->json != NULL && strcmp(run->json, "-") == 0) ||
			  (run->csv != NULL && strcmp(run->csv, "-") == 0);
	int error = 0;

	load_report_print(has_stdout ? stderr : stdout, report);
	fflush(stdout);
	if (run->json != NULL)
		error |= file_write("--json", run->json, report, load_report_json);
	if (run->csv != NULL)
		error |= file_write("--csv", run->csv, report, load_report_csv);
	if (run->plot != NULL)
		error |= load_report_plot(run->plot, report);
	return error;
}

/** Answers beyond the MTU come in fragments, of which we put no more than so many together. */
static int datagrams_check(const struct load_run *run)
{
	unsigned mtu = run->instance.devices[0].nic.mtu;
	bool is_v4 = true;
	uint32_t most;

	for (unsigned i = 1; i < run->instance.device_count; i++)
		mtu = BW_MIN(mtu, (unsigned)run->instance.devices[i].nic.mtu);

	if (run->conf.protocol != BW_LOAD_UDP)
		return 0;
	for (unsigned i = 0; i < run->conf.target_count; i++)
		is_v4 &= bw_ip_is_v4(&run->conf.targets[i].ip);
	/* RFC 791 and RFC 8200 4.5: a fragment but the last carries a multiple of eight bytes. */
	most = RTE_LIBRTE_IP_FRAG_MAX_FRAG * ((mtu - (is_v4 ? 20u : 48u)) & ~7u) - UDP_HEADER;
	if (run->conf.size <= most)
		return 0;
	bw_error(
		"load: --size is at most %u bytes of a datagram with an MTU of %u, or its fragments are too many",
		most, mtu);
	return -EMSGSIZE;
}

static int run_load(struct load_run *run)
{
	struct bw_load_figures *measured = malloc(sizeof(*measured));
	int status = EXIT_LOST, error;

	if (measured == NULL)
		return EXIT_REFUSED;
	if (bw_app_plan(&run->instance) != 0 || bw_app_start(&run->instance) != 0) {
		free(measured);
		return EXIT_REFUSED;
	}
	if (datagrams_check(run) != 0) {
		bw_app_stop(&run->instance);
		free(measured);
		return EXIT_REFUSED;
	}
	run->report.workers = run->instance.view->engine.worker_count;
	error = prepare(run);
	if (error == 0)
		error = measure(run);
	if (error == 0) {
		conclude(run, measured);
		if (report_write(run) == 0 && load_errors(&run->report.figures) == 0)
			status = EXIT_OK;
	}
	bw_engine_drain(run->instance.engine, run->instance.view->drain_timeout_ns);
	if (bw_app_stop(&run->instance) != 0)
		status = EXIT_LOST;
	free(measured);
	return status;
}

static void release(struct load_run *run)
{
	bw_load_destroy(run->load);
	for (unsigned i = 0; i < run->text_count; i++)
		free(run->texts[i]);
	free(run->paths);
	free(run->paths_text);
	free((void *)run->conf.request);
	free(run->report.second);
	free(run);
}

/** What the engine is to run. 0, or -ENOMEM after one line. */
static int conf_set(struct load_run *run, struct bw_conf *conf)
{
	if (run->flood.is_wanted) {
		bw_conf_set_flood(conf, &run->flood.conf, &run->from);
		return 0;
	}
	run->load = bw_load_create(&run->conf);
	if (run->load == NULL)
		return -ENOMEM;
	bw_conf_set_client(
		conf, &bw_load_service, run->load, run->conf.connections + run->conf.idle, &run->from);
	return 0;
}

int bw_app_load(int argc, char **argv)
{
	struct load_run *run = calloc(1, sizeof(*run));
	struct bw_conf *conf = bw_conf_create();
	char **rest = calloc((size_t)argc + 1, sizeof(*rest));
	int status = EXIT_REFUSED, rest_count = 0, error;
	unsigned given = 0;

	if (run == NULL || conf == NULL || rest == NULL) {
		bw_error("load: out of memory; free some");
		return EXIT_REFUSED;
	}
	bw_load_conf_init(&run->conf);
	run->duration_ns = 10 * BW_NS_PER_SEC;
	error = command_line(run, argc, argv, rest, &rest_count, &given);
	if (error > 0) {
		usage(stdout);
		status = EXIT_OK;
	}
	if (error != 0 || (run->flood.is_wanted ? flood_check(run, given) : check(run, given)) != 0 ||
		conf_set(run, conf) != 0)
		goto out;
	if (bw_conf_parse(conf, rest_count, rest) != 0 || bw_conf_finish(conf) != 0)
		goto out;
	run->instance.view = bw_conf_view(conf);
	if (run->flood.is_wanted && load_flood_check(&run->flood, run->instance.view) != 0)
		goto out;
	if (!run->flood.is_wanted && run->conf.connections > 0 &&
		run->conf.connections < run->instance.view->engine.worker_count) {
		refuse("fewer connections than workers; give more to -c, or less to --workers");
		goto out;
	}
	run->instance.is_quiet = true;
	run->report.conf = &run->conf;
	run->report.urls = run->urls;
	run->report.url_count = run->url_count;
	if (run->instance.view->is_verbose)
		bw_log_set_level(BW_LOG_DEBUG);
	bw_app_signals_block(&run->instance);
	status = run->flood.is_wanted ? load_flood_run(&run->flood, &run->instance) : run_load(run);
out:
	free(rest);
	bw_conf_destroy(conf);
	release(run);
	return status;
}
