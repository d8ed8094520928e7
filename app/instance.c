/* SPDX-License-Identifier: BSD-3-Clause */
/** Device, EAL and engine of a command that runs one: started in order, ended in reverse order, whatever failed. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include <base/clock.h>
#include <base/log.h>
#include <control/stats.h>

#include "app.h"

#define SERVICE_LINES_BYTES 65536

/* ---- signals ----------------------------------------------------------------------------------------------- */

void bw_app_signals_block(struct bw_app_instance *instance)
{
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&instance->signals);
	sigaddset(&instance->signals, SIGINT);
	sigaddset(&instance->signals, SIGTERM);
	sigaddset(&instance->signals, SIGHUP);
	sigaddset(&instance->signals, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &instance->signals, NULL);
}

int bw_app_signal_wait(const struct bw_app_instance *instance, bw_ns timeout_ns)
{
	struct timespec timeout = {
		.tv_sec = (time_t)(timeout_ns / BW_NS_PER_SEC),
		.tv_nsec = (long)(timeout_ns % BW_NS_PER_SEC),
	};
	int which;

	if (timeout_ns == BW_NEVER)
		which = sigwaitinfo(&instance->signals, NULL);
	else
		which = sigtimedwait(&instance->signals, NULL, &timeout);
	return which > 0 ? which : 0;
}

/* ---- start ------------------------------------------------------------------------------------------------- */

int bw_app_plan(struct bw_app_instance *instance)
{
	const struct bw_conf_view *view = instance->view;
	int error = bw_nic_plan(view->devices[0].dev, view->engine.worker_count, &instance->plan);

	if (error != 0)
		return error;
	if (view->devices[0].has_default_addrs && instance->plan.kind != BW_NIC_TAP) {
		bw_error(
			"--dev auto: took %s, which has no address for Barewire; give --addr CIDR, one that nobody on "
			"that network has",
			instance->plan.spec);
		return -EINVAL;
	}
	if (view->engine.devices[0].exception_tap != NULL && instance->plan.kind == BW_NIC_TAP) {
		bw_error(
			"--dev auto: took %s, which has the kernel at its other end; leave --exception out, or give a "
			"--dev that DPDK has",
			instance->plan.spec);
		return -EINVAL;
	}
	if (view->devices[0].without_host != NULL && instance->plan.kind == BW_NIC_TAP) {
		char text[BW_CIDR_STRLEN];

		bw_error(
			"--dev auto: took %s, and %s leaves no address for its kernel's end; give a shorter prefix, "
			"such as /%u",
			instance->plan.spec, bw_cidr_format(view->devices[0].without_host, text),
			bw_ip_is_v4(&view->devices[0].without_host->ip) ? 24u : 64u);
		return -EINVAL;
	}
	return 0;
}

static int eal_start(const struct bw_app_instance *instance)
{
	const struct bw_conf_view *view = instance->view;
	const struct bw_eal_conf eal = {
		.plans = &instance->plan,
		.plan_count = 1,
		.cpus = view->engine.cpus,
		.cpu_count = view->engine.worker_count,
		.memory_mib = bw_nic_memory_mib(&instance->plan, view->engine.worker_count,
			view->mbufs_per_worker, view->devices[0].mtu),
		.extra = view->eal_args,
		.extra_count = view->eal_arg_count,
	};

	return bw_eal_start(&eal);
}

static int nic_open(struct bw_app_instance *instance)
{
	const struct bw_conf_view *view = instance->view;
	const struct bw_nic_conf nic = {
		.plan = &instance->plan,
		.worker_count = view->engine.worker_count,
		.mtu = view->devices[0].mtu,
		.mbufs_per_worker = view->mbufs_per_worker,
		.mac = view->devices[0].mac,
		.wants_interrupts = view->engine.poll != BW_POLL_BUSY,
		.socket_filter_fd = instance->steer != NULL ? bw_steer_socket_filter(instance->steer) : 0,
		.host_addrs = view->devices[0].host_addrs,
		.host_addr_count = view->devices[0].host_addr_count,
	};

	return bw_nic_open(&instance->nic, &nic);
}

/**
 * Before the device's sockets, which libxdp puts into the map of the program that is there. With addresses of our own, a
 * packet socket needs none: the kernel has no use for what comes to those.
 */
static int steer_open(struct bw_app_instance *instance)
{
	const struct bw_nic_plan *plan = &instance->plan;
	const bool is_xdp = plan->kind == BW_NIC_XDP;
	const struct bw_conf_view *view = instance->view;
	const struct bw_steer_conf conf = {
		.spec = plan->spec, .iface = plan->iface, .hook = is_xdp ? BW_STEER_XDP : BW_STEER_TC
	};

	int error;

	if (!is_xdp && (plan->kind != BW_NIC_PACKET || !view->engine.devices[0].shares_addresses))
		return 0;
	error = bw_steer_open(&conf, &instance->steer);
	if (error != 0)
		return error;
	bw_steer_limit(instance->steer, &view->steer_limits);
	for (unsigned i = 0; i < view->steer_rule_count && error == 0; i++)
		error = bw_steer_rule(
			instance->steer, &view->steer_rules[i].source, view->steer_rules[i].verdict);
	if (error != 0)
		bw_steer_close(instance->steer);
	return error;
}

static int engine_create(struct bw_app_instance *instance)
{
	struct bw_engine_conf conf = instance->view->engine;

	conf.devices[0].nic = &instance->nic;
	conf.devices[0].steer = instance->steer;
	return bw_engine_create(&conf, &instance->engine);
}

int bw_app_start(struct bw_app_instance *instance)
{
	int error = eal_start(instance);

	if (error != 0)
		return error;
	error = steer_open(instance);
	if (error != 0)
		goto stop_eal;
	error = nic_open(instance);
	if (error != 0)
		goto close_steer;
	error = engine_create(instance);
	if (error != 0)
		goto close_nic;
	error = bw_engine_start(instance->engine);
	if (error == 0)
		return 0;
	bw_engine_destroy(instance->engine);
	bw_nic_stop_queues(&instance->nic);
close_nic:
	bw_nic_close(&instance->nic);
close_steer:
	bw_steer_close(instance->steer);
stop_eal:
	bw_eal_stop();
	return error;
}

/* ---- the end ----------------------------------------------------------------------------------------------- */

unsigned bw_app_stop(struct bw_app_instance *instance)
{
	const struct bw_nic *nic = &instance->nic;
	unsigned lost;

	/* First, so that what still comes is the kernel's to answer. */
	bw_engine_destroy(instance->engine);
	bw_steer_close(instance->steer);
	bw_nic_stop_queues(&instance->nic);
	/* With the engine gone and the rings emptied, every mbuf is at home. */
	lost = bw_nic_mbufs_in_use(nic);
	if (lost != 0 || !instance->is_quiet)
		printf("mbufs: %u in pools, %u lost\n", nic->worker_count * nic->mbufs_per_worker - lost,
			lost);
	fflush(stdout);
	bw_nic_close(&instance->nic);
	bw_eal_stop();
	return lost;
}

void bw_app_totals(const struct bw_app_instance *instance, FILE *out)
{
	char *lines = malloc(SERVICE_LINES_BYTES);
	struct bw_stats_sample sample;
	struct bw_nic_losses losses;
	uint64_t steered[BW_STEER_COUNTERS];

	bw_stats_take(instance->engine, bw_clock_now(), &sample);
	bw_nic_losses(&instance->nic, &losses);

	const struct {
		const char *name, *help;
		uint64_t value;
	} device[] = {
		{ "device.rx_missed", "packets that the device had no room for", losses.rx_missed },
		{ "device.rx_errors", "packets that the device refused", losses.rx_errors },
		{ "device.rx_no_mbuf", "packets for which the device found no buffer", losses.rx_no_mbuf },
		{ "device.tx_errors", "packets that the device did not send", losses.tx_errors },
	};

	fprintf(out, "\n");
	bw_stats_table(&sample.counters, out);
	bw_stats_cycles(&sample, out);
	if (lines != NULL) {
		lines[bw_engine_service_stats(instance->engine, lines, SERVICE_LINES_BYTES - 1)] = '\0';
		bw_stats_services(lines, out);
		free(lines);
	}
	if (instance->steer != NULL)
		bw_steer_counters(instance->steer, steered);
	for (unsigned i = 0; instance->steer != NULL && i < BW_STEER_COUNTERS; i++)
		if (steered[i] != 0)
			fprintf(out, "  %-24s %14" PRIu64 "  %s\n", bw_steer_counter_name[i], steered[i],
				bw_steer_counter_help[i]);
	for (unsigned i = 0; i < BW_ARRAY_LEN(device); i++)
		if (device[i].value != 0)
			fprintf(out, "  %-24s %14" PRIu64 "  %s\n", device[i].name, device[i].value,
				device[i].help);
	fflush(out);
}
