/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <base/clock.h>
#include <base/log.h>

#include "load_flood.h"
#include "load_report.h"

#define PREFIX_MIN 8 /* a shorter one leads to most of the Internet */
#define LOOK_NS    (5 * BW_NS_PER_MS)
#define READY_NS   (5 * BW_NS_PER_SEC)  /* three questions to a neighbour, a second apart, and some time */
#define LAST_NS    (300 * BW_NS_PER_MS) /* for the last answers */
#define AT_MOST    (BW_FLOOD_DURATION_MAX / BW_NS_PER_SEC + 1)

static const char *const kind_name[] = { "syn", "ack", "udp" };
static const char *const answer_text[BW_FLOOD_ANSWERS] = { "SYN-ACK", "RST", "ICMP unreachable", "UDP",
	"other" };

/** Of one second, or of all. */
struct period {
	double at, seconds; /* its end, since the begin; its length */
	struct bw_flood_figures figures;
};

struct run {
	const struct load_flood *flood;
	struct bw_app_instance *instance;
	unsigned workers;
	struct period total;
	unsigned count;
	struct period *second; /* AT_MOST */
};

int load_flood_kind(const char *flag, const char *text, enum bw_flood_kind *kind)
{
	for (unsigned i = 0; i < BW_ARRAY_LEN(kind_name); i++)
		if (strcmp(text, kind_name[i]) == 0) {
			*kind = (enum bw_flood_kind)i;
			return 0;
		}
	bw_error("%s: '%.60s' is no kind of flood; give syn, ack or udp", flag, text);
	return -EINVAL;
}

/* ---- what is refused ------------------------------------------------------------------------------------- */

/** Part of a network of ours? A flood has one device. */
static bool is_own(const struct bw_engine_conf *engine, const struct bw_cidr *range)
{
	for (unsigned i = 0; i < engine->devices[0].addr_count; i++)
		if (bw_cidr_contains(&engine->devices[0].addrs[i], &range->ip) &&
			range->prefix_len >= engine->devices[0].addrs[i].prefix_len)
			return true;
	return false;
}

static bool is_host(const struct bw_engine_conf *engine, const struct bw_ip *ip)
{
	bool is_broadcast = bw_ip_is_v4(ip) && bw_ip_v4_be(ip) == UINT32_MAX;

	for (unsigned i = 0; i < engine->devices[0].addr_count; i++)
		is_broadcast |= bw_cidr_is_broadcast(&engine->devices[0].addrs[i], ip) ||
				bw_ip_eq(&engine->devices[0].addrs[i].ip, ip);
	return !is_broadcast && !bw_ip_is_multicast(ip) && !bw_ip_is_loopback(ip) &&
	       !bw_ip_is_unspecified(ip);
}

static int refuse_range(const char *flag, const struct bw_cidr *range, const char *why)
{
	char text[BW_CIDR_STRLEN];

	bw_error("%s: %s %s", flag, bw_cidr_format(range, text), why);
	return -EINVAL;
}

int load_flood_check(const struct load_flood *flood, const struct bw_conf_view *view)
{
	const struct bw_engine_conf *engine = &view->engine;
	const struct bw_ip *target = &flood->conf.target;
	const struct bw_cidr host = { .ip = *target, .prefix_len = bw_ip_is_v4(target) ? 32 : 128 };

	for (unsigned i = 0; i < engine->devices[0].addr_count; i++)
		if (engine->devices[0].addrs[i].prefix_len < PREFIX_MIN)
			return refuse_range("--addr", &engine->devices[0].addrs[i],
				"says that most of the Internet is on this link; give the network's prefix length");
	for (unsigned i = 0; i < engine->devices[0].route_count; i++)
		if (engine->devices[0].routes[i].prefix.prefix_len < PREFIX_MIN)
			return refuse_range("--flood", &engine->devices[0].routes[i].prefix,
				"by a gateway leads everywhere; leave it out, or give a --route to the target's network");
	if (!is_host(engine, target))
		return refuse_range("--flood", &host, "is no other host; give the address of one");
	if (bw_ip_is_global(target) && !is_own(engine, &host))
		return refuse_range("--flood", &host,
			"is a host of the Internet; give one in a network of --addr, or a private, documentation or "
			"benchmarking address");
	if (flood->from.prefix_len == 0)
		return 0;
	if (bw_ip_is_multicast(&flood->from.ip) || bw_ip_is_loopback(&flood->from.ip))
		return refuse_range("--from", &flood->from, "is nobody's; give a range such as 10.0.0.0/8");
	if (bw_cidr_is_global(&flood->from) && !is_own(engine, &flood->from))
		return refuse_range("--from", &flood->from,
			"has hosts of the Internet, who would get the answers; give a part of a network of --addr, or "
			"of a private, documentation or benchmarking one");
	return 0;
}

static int device_check(const struct bw_nic_plan *plan)
{
	int has = bw_nic_has_default_route(plan);

	if (has > 0)
		bw_error(
			"--flood: %s carries a default route of this machine; give a device of a test network",
			plan->spec);
	else if (has < 0)
		bw_error(
			"--flood: cannot tell whether %s carries a default route (%s); give packet:IFACE, xdp:IFACE, "
			"memif:, vhost:, virtio:, tap or pci:",
			plan->spec, strerror(-has));
	return has == 0 ? 0 : -EINVAL;
}

/* ---- report ---------------------------------------------------------------------------------------------- */

/** What happened since `earlier`, into `now`. */
static void since(struct bw_flood_figures *now, const struct bw_flood_figures *earlier)
{
	now->sent -= earlier->sent;
	now->bytes -= earlier->bytes;
	now->unsent_device -= earlier->unsent_device;
	now->unsent_late -= earlier->unsent_late;
	for (unsigned i = 0; i < BW_FLOOD_ANSWERS; i++)
		now->answer[i] -= earlier->answer[i];
}

static double rate_of(const struct period *p, uint64_t count)
{
	return load_per_second(count, p->seconds);
}

static uint64_t unsent(const struct period *p)
{
	return p->figures.unsent_device + p->figures.unsent_late;
}

static void live(FILE *out, const struct period *p)
{
	bool is_terminal = isatty(fileno(out));
	char rate[LOAD_TEXT_BYTES], bits[LOAD_TEXT_BYTES];

	fprintf(out, "%s%5.1f s  %s packets/s  %sbit/s", is_terminal ? "\r" : "", p->at,
		load_rate_text(rate_of(p, p->figures.sent), rate),
		load_rate_text(8 * rate_of(p, p->figures.bytes), bits));
	if (unsent(p) > 0)
		fprintf(out, "  %s/s not sent", load_rate_text(rate_of(p, unsent(p)), rate));
	for (unsigned i = 0; i < BW_FLOOD_ANSWERS; i++)
		if (p->figures.answer[i] > 0)
			fprintf(out, "  %s/s %s", load_rate_text(rate_of(p, p->figures.answer[i]), rate),
				answer_text[i]);
	fputs(is_terminal ? "\033[K" : "\n", out);
	fflush(out);
}

static void answers_print(FILE *out, const struct bw_flood_figures *figures)
{
	const char *separator = " ";

	fprintf(out, "  came back  ");
	for (unsigned i = 0; i < BW_FLOOD_ANSWERS; i++) {
		if (figures->answer[i] == 0)
			continue;
		fprintf(out, "%s%" PRIu64 " %s", separator, figures->answer[i], answer_text[i]);
		separator = ", ";
	}
	fputs(separator[0] == ' ' ? " nothing\n" : "\n", out);
}

static void print(FILE *out, const struct run *run)
{
	const struct period *p = &run->total;
	char rate[LOAD_TEXT_BYTES], bits[LOAD_TEXT_BYTES];

	fprintf(out, "\n  sent        %" PRIu64 " packets in %.2f s: %s/s, %sbit/s\n", p->figures.sent,
		p->seconds, load_rate_text(rate_of(p, p->figures.sent), rate),
		load_rate_text(8 * rate_of(p, p->figures.bytes), bits));
	if (unsent(p) == 0)
		fprintf(out, "  not sent    none\n");
	else
		fprintf(out,
			"  not sent    %" PRIu64 " that the device had no room for, %" PRIu64
			" that came too late\n",
			p->figures.unsent_device, p->figures.unsent_late);
	answers_print(out, &p->figures);
}

static void json_figures(FILE *out, const struct bw_flood_figures *f)
{
	fprintf(out,
		"\"sent\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"unsent\": {\"device\": %" PRIu64
		", \"late\": %" PRIu64 "}, \"answers\": {",
		f->sent, f->bytes, f->unsent_device, f->unsent_late);
	for (unsigned i = 0; i < BW_FLOOD_ANSWERS; i++)
		fprintf(out, "%s\"%s\": %" PRIu64, i > 0 ? ", " : "", bw_flood_answer_name[i], f->answer[i]);
	fputc('}', out);
}

static void json(FILE *out, const struct run *run)
{
	const struct bw_flood_conf *conf = &run->flood->conf;

	fprintf(out, "{\n  \"flood\": \"%s\",\n  \"url\": ", kind_name[conf->kind]);
	load_json_text(out, run->flood->url);
	fprintf(out, ",\n  \"workers\": %u,\n  \"rate\": %" PRIu64 ",\n  \"seconds_measured\": %.6f,\n  ",
		run->workers, conf->rate, run->total.seconds);
	json_figures(out, &run->total.figures);
	fprintf(out, ",\n  \"seconds\": [");
	for (unsigned i = 0; i < run->count; i++) {
		const struct period *p = &run->second[i];

		fprintf(out, "%s\n    {\"at\": %.3f, \"length\": %.3f, ", i > 0 ? "," : "", p->at,
			p->seconds);
		json_figures(out, &p->figures);
		fputc('}', out);
	}
	fprintf(out, "%s]\n}\n", run->count > 0 ? "\n  " : "");
}

static void csv(FILE *out, const struct run *run)
{
	fprintf(out, "at_s,sent_per_s,bytes_per_s,unsent_device_per_s,unsent_late_per_s");
	for (unsigned i = 0; i < BW_FLOOD_ANSWERS; i++)
		fprintf(out, ",%s_per_s", bw_flood_answer_name[i]);
	for (unsigned k = 0; k < run->count; k++) {
		const struct period *p = &run->second[k];

		fprintf(out, "\n%.3f,%.1f,%.1f,%.1f,%.1f", p->at, rate_of(p, p->figures.sent),
			rate_of(p, p->figures.bytes), rate_of(p, p->figures.unsent_device),
			rate_of(p, p->figures.unsent_late));
		for (unsigned i = 0; i < BW_FLOOD_ANSWERS; i++)
			fprintf(out, ",%.1f", rate_of(p, p->figures.answer[i]));
	}
	fputc('\n', out);
}

static int file_write(const char *flag, const char *path, void (*write)(FILE *out, const struct run *run),
	const struct run *run)
{
	FILE *out;

	if (path == NULL)
		return 0;
	out = load_file_open(flag, path);
	if (out == NULL)
		return -EIO;
	write(out, run);
	return load_file_close(flag, path, out);
}

static int report_write(const struct run *run)
{
	const struct load_flood *flood = run->flood;
	bool has_stdout = (flood->json != NULL && strcmp(flood->json, "-") == 0) ||
			  (flood->csv != NULL && strcmp(flood->csv, "-") == 0);
	int error;

	print(has_stdout ? stderr : stdout, run);
	fflush(stdout);
	error = file_write("--json", flood->json, json, run);
	return file_write("--csv", flood->csv, csv, run) | error;
}

/* ---- a run ----------------------------------------------------------------------------------------------- */

static bool is_asked_to_stop(const struct run *run, bw_ns wait_ns)
{
	int which = bw_app_signal_wait(run->instance, wait_ns);

	return which == SIGINT || which == SIGTERM || which == SIGHUP;
}

/** Every worker knows where the packets go. 0, -EINTR, or -EHOSTUNREACH after one line. */
static int wait_ready(struct run *run)
{
	bw_ns until = bw_clock_now() + READY_NS;
	struct bw_flood_figures figures;
	char unresolved[1024];
	size_t len;

	do {
		bw_engine_flood_figures(run->instance->engine, &figures);
		if (figures.ready_workers == run->workers)
			return 0;
		if (is_asked_to_stop(run, LOOK_NS))
			return -EINTR;
	} while (bw_clock_now() < until);
	len = bw_engine_unresolved(run->instance->engine, unresolved, sizeof(unresolved) - 1);
	unresolved[len] = '\0';
	unresolved[strcspn(unresolved, "\n")] = '\0';
	bw_error("%s: %s; nothing was sent", run->flood->url, unresolved);
	return -EHOSTUNREACH;
}

/** Wait for the next second, the end, or a signal, which makes it the end. Returns whether it is over. */
static bool wait_second(struct run *run, bw_ns until, struct bw_flood_figures *now)
{
	struct bw_engine *engine = run->instance->engine;
	bool is_over = false;

	do {
		if (is_asked_to_stop(run, LOOK_NS))
			bw_engine_flood_end(engine);
		bw_engine_flood_figures(engine, now);
		is_over = now->done_workers == run->workers;
	} while (!is_over && bw_clock_now() < until);
	return is_over;
}

static void measure(struct run *run)
{
	struct bw_flood_figures first, last, now;
	bw_ns began, looked_at;
	bool is_over = false;

	bw_engine_flood_figures(run->instance->engine, &first);
	last = first;
	began = looked_at = bw_clock_now();
	bw_engine_flood_begin(run->instance->engine);
	while (!is_over && run->count < AT_MOST) {
		struct period *p = &run->second[run->count++];
		bw_ns at;

		is_over = wait_second(run, looked_at + BW_NS_PER_SEC, &now);
		at = bw_clock_now();
		*p = (struct period){ .at = (double)(at - began) / BW_NS_PER_SEC,
			.seconds = (double)(at - looked_at) / BW_NS_PER_SEC,
			.figures = now };
		since(&p->figures, &last);
		if (!run->flood->is_quiet)
			live(stderr, p);
		last = now;
		looked_at = at;
	}
	run->total.at = run->total.seconds = (double)(looked_at - began) / BW_NS_PER_SEC;
	is_asked_to_stop(run, LAST_NS);
	bw_engine_flood_figures(run->instance->engine, &run->total.figures);
	since(&run->total.figures, &first);
}

static int run_started(struct run *run)
{
	run->second = calloc(AT_MOST, sizeof(*run->second));
	if (run->second == NULL) {
		bw_error("load: out of memory; free some");
		return EXIT_LOST;
	}
	run->workers = bw_engine_worker_count(run->instance->engine);
	if (wait_ready(run) != 0)
		return EXIT_LOST;
	measure(run);
	return report_write(run) == 0 && run->total.figures.sent > 0 ? EXIT_OK : EXIT_LOST;
}

int load_flood_run(const struct load_flood *flood, struct bw_app_instance *instance)
{
	struct run run = { .flood = flood, .instance = instance };
	int status;

	if (bw_app_plan(instance) != 0 || device_check(&instance->devices[0].plan) != 0 ||
		bw_app_start(instance) != 0)
		return EXIT_REFUSED;
	status = run_started(&run);
	if (bw_app_stop(instance) != 0)
		status = EXIT_LOST;
	free(run.second);
	return status;
}
