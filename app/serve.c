/* SPDX-License-Identifier: BSD-3-Clause */
/** From the command line to the last counter. What was started is ended in reverse order, whatever failed. */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <base/clock.h>
#include <base/log.h>
#include <control/stats.h>

#include "app.h"

#define DRAIN_LOOK_NS       (20 * BW_NS_PER_MS)
#define UNRESOLVED_BYTES    4096
#define SERVICE_LINES_BYTES 65536

struct server {
	const struct bw_conf_view *view;
	struct bw_nic_plan plan;
	struct bw_nic nic;
	struct bw_engine *engine;
	sigset_t signals;
	struct bw_stats_sample last;
};

/** Before any thread is made, so that all inherit it: signals come to sigtimedwait() and nowhere else. */
static void signals_block(struct server *server)
{
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&server->signals);
	sigaddset(&server->signals, SIGINT);
	sigaddset(&server->signals, SIGTERM);
	sigaddset(&server->signals, SIGHUP);
	sigaddset(&server->signals, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &server->signals, NULL);
}

/** The next signal, or 0 when none came in time. BW_NEVER waits as long as it takes. */
static int signal_wait(const struct server *server, bw_ns timeout_ns)
{
	struct timespec timeout = {
		.tv_sec = (time_t)(timeout_ns / BW_NS_PER_SEC),
		.tv_nsec = (long)(timeout_ns % BW_NS_PER_SEC),
	};
	int which;

	if (timeout_ns == BW_NEVER)
		which = sigwaitinfo(&server->signals, NULL);
	else
		which = sigtimedwait(&server->signals, NULL, &timeout);
	return which > 0 ? which : 0;
}

static int eal_start(const struct server *server)
{
	const struct bw_conf_view *view = server->view;
	const struct bw_eal_conf eal = {
		.plan = &server->plan,
		.cpus = view->engine.cpus,
		.cpu_count = view->engine.worker_count,
		.memory_mib = bw_nic_memory_mib(
			&server->plan, view->engine.worker_count, view->mbufs_per_worker, view->mtu),
		.extra = view->eal_args,
		.extra_count = view->eal_arg_count,
	};

	return bw_eal_start(&eal);
}

static int nic_open(struct server *server)
{
	const struct bw_conf_view *view = server->view;
	const struct bw_nic_conf nic = {
		.plan = &server->plan,
		.worker_count = view->engine.worker_count,
		.mtu = view->mtu,
		.mbufs_per_worker = view->mbufs_per_worker,
		.mac = view->mac,
		.wants_interrupts = view->engine.poll != BW_POLL_BUSY,
		.host_addrs = view->host_addrs,
		.host_addr_count = view->host_addr_count,
	};

	return bw_nic_open(&server->nic, &nic);
}

/* ---- what services share --------------------------------------------------------------------------------- */

static void services_release(const struct bw_conf_view *view, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		if (view->http[i] != NULL)
			bw_http_conf_release(view->http[i]);
		if (view->resp[i] != NULL)
			bw_resp_conf_release(view->resp[i]);
	}
}

static int services_prepare(const struct bw_conf_view *view)
{
	for (unsigned i = 0; i < view->engine.service_count; i++) {
		int error = 0;

		if (view->http[i] != NULL)
			error = bw_http_conf_prepare(view->http[i]);
		else if (view->resp[i] != NULL)
			error = bw_resp_conf_prepare(view->resp[i]);
		if (error != 0) {
			services_release(view, i);
			return error;
		}
	}
	return 0;
}

/* ---- while it runs --------------------------------------------------------------------------------------- */

static void rates_print(struct server *server)
{
	struct bw_stats_sample now;
	char line[BW_STATS_LINE_BYTES];

	bw_stats_take(server->engine, bw_clock_now(), &now);
	bw_stats_format(&server->last, &now, line);
	bw_info("%s", line);
	if (bw_stats_has_stages(&server->last, &now)) {
		bw_stats_format_cycles(&server->last, &now, line);
		bw_info("%s", line);
	}
	server->last = now;
}

static void unresolved_print(const struct server *server)
{
	char lines[UNRESOLVED_BYTES], *rest = lines;

	lines[bw_engine_unresolved(server->engine, lines, sizeof(lines) - 1)] = '\0';
	for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n"))
		if (line[0] != '\0')
			bw_info("%s", line);
}

/** Until a signal says to stop. */
static void watch(struct server *server)
{
	bw_ns interval = server->view->stats_interval_s * BW_NS_PER_SEC, next_at = BW_NEVER;

	bw_stats_take(server->engine, bw_clock_now(), &server->last);
	if (interval > 0)
		next_at = server->last.at + interval;
	for (;;) {
		bw_ns now = bw_clock_now();
		int which = 0;

		if (now < next_at)
			which = signal_wait(server, next_at == BW_NEVER ? BW_NEVER : next_at - now);
		if (which == SIGINT || which == SIGTERM || which == SIGHUP)
			return;
		now = bw_clock_now();
		if (which == SIGUSR1) {
			rates_print(server);
			unresolved_print(server);
		} else if (now >= next_at) {
			rates_print(server);
			next_at = now + interval;
		}
	}
}

/* ---- the end --------------------------------------------------------------------------------------------- */

struct drain {
	struct bw_engine *engine;
	bw_ns timeout_ns;
	unsigned cut_off;
	atomic_bool is_over;
};

static void *drain_main(void *arg)
{
	struct drain *drain = arg;

	drain->cut_off = bw_engine_drain(drain->engine, drain->timeout_ns);
	atomic_store(&drain->is_over, true);
	return NULL;
}

/** Let what is in flight finish, on a thread of its own so that a second signal can cut it short. */
static void drain(struct server *server)
{
	struct drain drain = { .engine = server->engine, .timeout_ns = server->view->drain_timeout_ns };
	unsigned cut_off = 0;
	pthread_t thread;

	if (pthread_create(&thread, NULL, drain_main, &drain) != 0) {
		drain_main(&drain);
	} else {
		while (!atomic_load(&drain.is_over)) {
			int which = signal_wait(server, DRAIN_LOOK_NS);

			if (which == SIGINT || which == SIGTERM || which == SIGHUP) {
				/* A deadline of now, for both calls; either may be the one that sees the end. */
				cut_off = bw_engine_drain(server->engine, 0);
				break;
			}
			if (which == SIGUSR1)
				rates_print(server);
		}
		pthread_join(thread, NULL);
	}
	cut_off = BW_MAX(cut_off, drain.cut_off);
	if (cut_off > 0)
		bw_info("%u connection%s did not finish in time and %s reset", cut_off,
			cut_off == 1 ? "" : "s", cut_off == 1 ? "was" : "were");
}

static void totals_print(const struct server *server)
{
	char *lines = malloc(SERVICE_LINES_BYTES);
	struct bw_stats_sample sample;
	struct bw_nic_losses losses;

	bw_stats_take(server->engine, bw_clock_now(), &sample);
	bw_nic_losses(&server->nic, &losses);

	const struct {
		const char *name, *help;
		uint64_t value;
	} device[] = {
		{ "device.rx_missed", "packets that the device had no room for", losses.rx_missed },
		{ "device.rx_errors", "packets that the device refused", losses.rx_errors },
		{ "device.rx_no_mbuf", "packets for which the device found no buffer", losses.rx_no_mbuf },
		{ "device.tx_errors", "packets that the device did not send", losses.tx_errors },
	};

	printf("\n");
	bw_stats_table(&sample.counters, stdout);
	bw_stats_cycles(&sample, stdout);
	if (lines != NULL) {
		lines[bw_engine_service_stats(server->engine, lines, SERVICE_LINES_BYTES - 1)] = '\0';
		bw_stats_services(lines, stdout);
		free(lines);
	}
	for (unsigned i = 0; i < BW_ARRAY_LEN(device); i++)
		if (device[i].value != 0)
			printf("  %-24s %14" PRIu64 "  %s\n", device[i].name, device[i].value,
				device[i].help);
	fflush(stdout);
}

/** With the engine gone and the rings emptied, every mbuf is at home. Returns how many are not. */
static unsigned balance_print(const struct server *server)
{
	unsigned lost = bw_nic_mbufs_in_use(&server->nic);

	printf("mbufs: %u in pools, %u lost\n",
		server->nic.worker_count * server->nic.mbufs_per_worker - lost, lost);
	fflush(stdout);
	return lost;
}

static int run(struct server *server)
{
	const struct bw_conf_view *view = server->view;
	int status = EXIT_REFUSED;

	if (bw_nic_plan(view->dev, view->engine.worker_count, &server->plan) != 0)
		return EXIT_REFUSED;
	if (view->has_default_addrs && server->plan.kind != BW_NIC_TAP) {
		bw_error(
			"--dev auto: took %s, which has no address for Barewire; give --addr CIDR, one that nobody on "
			"that network has",
			server->plan.spec);
		return EXIT_REFUSED;
	}
	if (view->without_host != NULL && server->plan.kind == BW_NIC_TAP) {
		char text[BW_CIDR_STRLEN];

		bw_error(
			"--dev auto: took %s, and %s leaves no address for its kernel's end; give a shorter prefix, "
			"such as /%u",
			server->plan.spec, bw_cidr_format(view->without_host, text),
			bw_ip_is_v4(&view->without_host->ip) ? 24u : 64u);
		return EXIT_REFUSED;
	}
	if (services_prepare(view) != 0)
		return EXIT_REFUSED;
	if (eal_start(server) != 0)
		goto release_services;
	if (nic_open(server) != 0)
		goto stop_eal;
	if (bw_engine_create(&view->engine, &server->nic, &server->engine) != 0)
		goto close_nic;
	if (bw_engine_start(server->engine) == 0) {
		bw_app_banner(stdout, view, &server->nic);
		watch(server);
		drain(server);
		totals_print(server);
		status = EXIT_OK;
	}
	bw_engine_destroy(server->engine);
	bw_nic_stop_queues(&server->nic);
	if (status == EXIT_OK && balance_print(server) != 0)
		status = EXIT_LOST;
close_nic:
	bw_nic_close(&server->nic);
stop_eal:
	bw_eal_stop();
release_services:
	/* Last: until the rings were empty, packets in them referred to what services had sent by reference. */
	services_release(view, view->engine.service_count);
	return status;
}

int bw_app_serve(int argc, char **argv)
{
	struct bw_conf *conf = bw_conf_create();
	struct server *server = calloc(1, sizeof(*server));
	int status = EXIT_REFUSED, error;

	if (conf == NULL || server == NULL) {
		bw_error("serve: out of memory; free some");
		goto out;
	}
	error = bw_conf_parse(conf, argc, argv);
	if (error > 0) {
		printf("usage: barewire serve [flags] [-- EAL]\n\n");
		bw_conf_usage(stdout);
		status = EXIT_OK;
	}
	if (error != 0 || bw_conf_finish(conf) != 0)
		goto out;
	server->view = bw_conf_view(conf);
	if (server->view->is_verbose)
		bw_log_set_level(BW_LOG_DEBUG);
	signals_block(server);
	status = run(server);
out:
	free(server);
	bw_conf_destroy(conf);
	return status;
}
