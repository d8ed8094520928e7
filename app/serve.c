/* SPDX-License-Identifier: BSD-3-Clause */
/** From the command line to the last counter. What was started is ended in reverse order, whatever failed. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <base/clock.h>
#include <base/log.h>
#include <control/admin.h>
#include <control/stats.h>

#include "app.h"

#define DRAIN_LOOK_NS    (20 * BW_NS_PER_MS)
#define UNRESOLVED_BYTES 4096

struct server {
	struct bw_app_instance instance;
	struct bw_stats_sample last;
};

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

/** Who asks for it is told of the cycles, too; otherwise they are worth a line each time where stages are counted. */
static void rates_print(struct server *server, bool is_asked_for)
{
	struct bw_stats_sample now;
	char line[BW_STATS_LINE_BYTES];

	bw_stats_take(server->instance.engine, bw_clock_now(), &now);
	bw_stats_format(&server->last, &now, line);
	bw_info("%s", line);
	if (is_asked_for || bw_stats_has_stages(&server->last, &now)) {
		bw_stats_format_cycles(&server->last, &now, line);
		bw_info("%s", line);
	}
	server->last = now;
}

static void unresolved_print(const struct server *server)
{
	char lines[UNRESOLVED_BYTES], *rest = lines;

	lines[bw_engine_unresolved(server->instance.engine, lines, sizeof(lines) - 1)] = '\0';
	for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n"))
		if (line[0] != '\0')
			bw_info("%s", line);
}

/** Until a signal says to stop. */
static void watch(struct server *server)
{
	bw_ns interval = server->instance.view->stats_interval_s * BW_NS_PER_SEC, next_at = BW_NEVER;

	bw_stats_take(server->instance.engine, bw_clock_now(), &server->last);
	if (interval > 0)
		next_at = server->last.at + interval;
	for (;;) {
		bw_ns now = bw_clock_now();
		int which = 0;

		if (now < next_at)
			which = bw_app_signal_wait(
				&server->instance, next_at == BW_NEVER ? BW_NEVER : next_at - now);
		if (which == SIGINT || which == SIGTERM || which == SIGHUP)
			return;
		now = bw_clock_now();
		if (which == SIGUSR1) {
			rates_print(server, true);
			unresolved_print(server);
		} else if (now >= next_at) {
			rates_print(server, false);
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
	struct drain drain = { .engine = server->instance.engine,
		.timeout_ns = server->instance.view->drain_timeout_ns };
	unsigned cut_off = 0;
	pthread_t thread;

	if (pthread_create(&thread, NULL, drain_main, &drain) != 0) {
		drain_main(&drain);
	} else {
		while (!atomic_load(&drain.is_over)) {
			int which = bw_app_signal_wait(&server->instance, DRAIN_LOOK_NS);

			if (which == SIGINT || which == SIGTERM || which == SIGHUP) {
				/* A deadline of now, for both calls; either may be the one that sees the end. */
				cut_off = bw_engine_drain(server->instance.engine, 0);
				break;
			}
			if (which == SIGUSR1)
				rates_print(server, true);
		}
		pthread_join(thread, NULL);
	}
	cut_off = BW_MAX(cut_off, drain.cut_off);
	if (cut_off > 0)
		bw_info("%u connection%s did not finish in time and %s reset", cut_off,
			cut_off == 1 ? "" : "s", cut_off == 1 ? "was" : "were");
}

static bool has_log_file(const struct bw_conf_view *view)
{
	for (unsigned i = 0; i < view->engine.service_count; i++)
		if (view->http[i] != NULL && view->http[i]->access_log != NULL &&
			strcmp(view->http[i]->access_log, "-") != 0)
			return true;
	return false;
}

/** What may be asked while it runs. */
static const struct bw_admin_command commands[] = {
	{ "steer", bw_app_steer_answer, NULL },
	{ "capture", bw_app_capture_answer, bw_app_capture_keep },
};

static int run(struct server *server)
{
	struct bw_app_instance *instance = &server->instance;
	struct bw_admin *admin;
	const struct bw_conf_view *view = instance->view;
	int status = EXIT_REFUSED;

	if (bw_app_plan(instance) != 0 || services_prepare(view) != 0)
		return EXIT_REFUSED;
	if (bw_app_start(instance) == 0) {
		bw_app_privileges_drop(has_log_file(view));
		bw_app_banner(stdout, instance);
		admin = bw_admin_start(commands, BW_ARRAY_LEN(commands), instance);
		watch(server);
		drain(server);
		bw_admin_stop(admin);
		bw_app_capture_end(instance);
		bw_app_totals(instance, stdout);
		status = bw_app_stop(instance) == 0 ? EXIT_OK : EXIT_LOST;
	}
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
	server->instance.view = bw_conf_view(conf);
	if (server->instance.view->is_verbose)
		bw_log_set_level(BW_LOG_DEBUG);
	bw_app_signals_block(&server->instance);
	status = run(server);
out:
	free(server);
	bw_conf_destroy(conf);
	return status;
}
