/* SPDX-License-Identifier: BSD-3-Clause */
/** Devices, EAL and engine of a command that runs one: started in order, ended in reverse order, whatever failed. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
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

/** What only the device that `auto` took can tell. */
static int plan_check(const struct bw_nic_plan *plan, const struct bw_conf_device *view,
	const struct bw_engine_device *engine)
{
	char text[BW_CIDR_STRLEN];

	if (view->has_default_addrs && plan->kind != BW_NIC_TAP) {
		bw_error(
			"--dev auto: took %s, which has no address for Barewire; give --addr CIDR, one that nobody on "
			"that network has",
			plan->spec);
		return -EINVAL;
	}
	if (engine->exception_tap != NULL && plan->kind == BW_NIC_TAP) {
		bw_error(
			"--dev auto: took %s, which has the kernel at its other end; leave --exception out, or give a "
			"--dev that DPDK has",
			plan->spec);
		return -EINVAL;
	}
	if (view->without_host != NULL && plan->kind == BW_NIC_TAP) {
		bw_error(
			"--dev auto: took %s, and %s leaves no address for its kernel's end; give a shorter prefix, "
			"such as /%u",
			plan->spec, bw_cidr_format(view->without_host, text),
			bw_ip_is_v4(&view->without_host->ip) ? 24u : 64u);
		return -EINVAL;
	}
	return 0;
}

int bw_app_plan(struct bw_app_instance *instance)
{
	const struct bw_conf_view *view = instance->view;
	int error = 0;

	instance->device_count = view->engine.device_count;
	for (unsigned i = 0; i < instance->device_count && error == 0; i++) {
		struct bw_nic_plan *plan = &instance->devices[i].plan;

		error = bw_nic_plan(view->devices[i].dev, view->engine.worker_count, plan);
		if (error == 0)
			error = plan_check(plan, &view->devices[i], &view->engine.devices[i]);
	}
	return error;
}

static int eal_start(const struct bw_app_instance *instance)
{
	const struct bw_conf_view *view = instance->view;
	struct bw_nic_plan plans[BW_DEVICES_MAX];
	struct bw_eal_conf eal = {
		.plans = plans,
		.plan_count = instance->device_count,
		.cpus = view->engine.cpus,
		.cpu_count = view->engine.worker_count,
		.extra = view->eal_args,
		.extra_count = view->eal_arg_count,
	};

	for (unsigned i = 0; i < instance->device_count; i++) {
		plans[i] = instance->devices[i].plan;
		eal.memory_mib += bw_nic_memory_mib(
			&plans[i], view->engine.worker_count, view->mbufs_per_worker, view->devices[i].mtu);
	}
	return bw_eal_start(&eal);
}

static int nic_open(
	const struct bw_conf_view *view, const struct bw_conf_device *of, struct bw_app_device *device)
{
	const struct bw_nic_conf nic = {
		.plan = &device->plan,
		.worker_count = view->engine.worker_count,
		.mtu = of->mtu,
		.mbufs_per_worker = view->mbufs_per_worker,
		.mac = of->mac,
		.wants_interrupts = view->engine.poll != BW_POLL_BUSY,
		.socket_filter_fd = device->steer != NULL ? bw_steer_socket_filter(device->steer) : 0,
		.host_addrs = of->host_addrs,
		.host_addr_count = of->host_addr_count,
	};

	return bw_nic_open(&device->nic, &nic);
}

/**
 * Before the device's sockets, which libxdp puts into the map of the program that is there. With addresses of our own, a
 * packet socket needs none: the kernel has no use for what comes to those.
 */
static int steer_open(
	const struct bw_conf_view *view, const struct bw_engine_device *of, struct bw_app_device *device)
{
	const struct bw_nic_plan *plan = &device->plan;
	const bool is_xdp = plan->kind == BW_NIC_XDP;
	const struct bw_steer_conf conf = {
		.spec = plan->spec, .iface = plan->iface, .hook = is_xdp ? BW_STEER_XDP : BW_STEER_TC
	};
	int error;

	if (!is_xdp && (plan->kind != BW_NIC_PACKET || !of->shares_addresses))
		return 0;
	error = bw_steer_open(&conf, &device->steer);
	if (error != 0)
		return error;
	bw_steer_limit(device->steer, &view->steer_limits);
	for (unsigned i = 0; i < view->steer_rule_count && error == 0; i++)
		error = bw_steer_rule(
			device->steer, &view->steer_rules[i].source, view->steer_rules[i].verdict);
	if (error == 0)
		return 0;
	bw_steer_close(device->steer);
	device->steer = NULL;
	return error;
}

/** The first `count` devices, which carry no more packets; in reverse order. */
static void devices_close(struct bw_app_instance *instance, unsigned count)
{
	while (count-- > 0) {
		struct bw_app_device *device = &instance->devices[count];

		bw_nic_close(&device->nic);
		bw_steer_close(device->steer);
		device->steer = NULL;
	}
}

static int devices_open(struct bw_app_instance *instance)
{
	const struct bw_conf_view *view = instance->view;

	for (unsigned i = 0; i < instance->device_count; i++) {
		struct bw_app_device *device = &instance->devices[i];
		int error = steer_open(view, &view->engine.devices[i], device);

		if (error == 0) {
			error = nic_open(view, &view->devices[i], device);
			if (error == 0)
				continue;
			bw_steer_close(device->steer);
			device->steer = NULL;
		}
		devices_close(instance, i);
		return error;
	}
	return 0;
}

/** Of all of them: what one has received may be in another's rings. */
static void queues_stop(struct bw_app_instance *instance)
{
	for (unsigned i = 0; i < instance->device_count; i++)
		bw_nic_stop_queues(&instance->devices[i].nic);
}

static int engine_create(struct bw_app_instance *instance)
{
	struct bw_engine_conf conf = instance->view->engine;

	for (unsigned i = 0; i < instance->device_count; i++) {
		conf.devices[i].nic = &instance->devices[i].nic;
		conf.devices[i].steer = instance->devices[i].steer;
	}
	return bw_engine_create(&conf, &instance->engine);
}

int bw_app_start(struct bw_app_instance *instance)
{
	int error = eal_start(instance);

	if (error != 0)
		return error;
	error = devices_open(instance);
	if (error != 0)
		goto stop_eal;
	error = engine_create(instance);
	if (error != 0)
		goto close_devices;
	error = bw_engine_start(instance->engine);
	if (error == 0)
		return 0;
	bw_engine_destroy(instance->engine);
	queues_stop(instance);
close_devices:
	devices_close(instance, instance->device_count);
stop_eal:
	bw_eal_stop();
	return error;
}

/* ---- the end ----------------------------------------------------------------------------------------------- */

unsigned bw_app_stop(struct bw_app_instance *instance)
{
	unsigned total = 0, lost = 0;

	bw_engine_destroy(instance->engine);
	/* First, so that what still comes is the kernel's to answer. */
	for (unsigned i = 0; i < instance->device_count; i++) {
		bw_steer_close(instance->devices[i].steer);
		instance->devices[i].steer = NULL;
	}
	queues_stop(instance);
	/* With the engine gone and the rings emptied, every mbuf is at home. */
	for (unsigned i = 0; i < instance->device_count; i++) {
		const struct bw_nic *nic = &instance->devices[i].nic;

		total += nic->worker_count * nic->mbufs_per_worker;
		lost += bw_nic_mbufs_in_use(nic);
	}
	if (lost != 0 || !instance->is_quiet)
		printf("mbufs: %u in pools, %u lost\n", total - lost, lost);
	fflush(stdout);
	devices_close(instance, instance->device_count);
	bw_eal_stop();
	return lost;
}

/** Of all devices that have a program. */
static void steered_sum(const struct bw_app_instance *instance, uint64_t sum[BW_STEER_COUNTERS])
{
	memset(sum, 0, BW_STEER_COUNTERS * sizeof(sum[0]));
	for (unsigned i = 0; i < instance->device_count; i++) {
		uint64_t counters[BW_STEER_COUNTERS];

		if (instance->devices[i].steer == NULL)
			continue;
		bw_steer_counters(instance->devices[i].steer, counters);
		for (unsigned j = 0; j < BW_STEER_COUNTERS; j++)
			sum[j] += counters[j];
	}
}

static void losses_sum(const struct bw_app_instance *instance, struct bw_nic_losses *sum)
{
	*sum = (struct bw_nic_losses){ 0 };
	for (unsigned i = 0; i < instance->device_count; i++) {
		struct bw_nic_losses losses;

		bw_nic_losses(&instance->devices[i].nic, &losses);
		sum->rx_missed += losses.rx_missed;
		sum->rx_errors += losses.rx_errors;
		sum->rx_no_mbuf += losses.rx_no_mbuf;
		sum->tx_errors += losses.tx_errors;
	}
}

void bw_app_totals(const struct bw_app_instance *instance, FILE *out)
{
	char *lines = malloc(SERVICE_LINES_BYTES);
	struct bw_stats_sample sample;
	struct bw_nic_losses losses;
	uint64_t steered[BW_STEER_COUNTERS];

	bw_stats_take(instance->engine, bw_clock_now(), &sample);
	losses_sum(instance, &losses);

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
	steered_sum(instance, steered);
	for (unsigned i = 0; i < BW_STEER_COUNTERS; i++)
		if (steered[i] != 0)
			fprintf(out, "  %-24s %14" PRIu64 "  %s\n", bw_steer_counter_name[i], steered[i],
				bw_steer_counter_help[i]);
	for (unsigned i = 0; i < BW_ARRAY_LEN(device); i++)
		if (device[i].value != 0)
			fprintf(out, "  %-24s %14" PRIu64 "  %s\n", device[i].name, device[i].value,
				device[i].help);
	fflush(out);
}
