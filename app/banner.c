/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "app.h"

struct banner {
	FILE *out;
	const char *dim, *bold, *end; /* empty where there is no terminal */
	const struct bw_app_instance *instance;
	const struct bw_conf_view *view;
	/* Of the device whose rows are being printed. */
	const struct bw_conf_device *conf;
	const struct bw_engine_device *engine;
	const struct bw_nic *nic;
	const struct bw_steer *steer;
	unsigned addr_count;
	struct bw_cidr addrs[BW_NETWORK_ADDRS_MAX];
};

static void turn_to(struct banner *b, unsigned device)
{
	b->conf = &b->view->devices[device];
	b->engine = &b->view->engine.devices[device];
	b->nic = &b->instance->devices[device].nic;
	b->steer = b->instance->devices[device].steer;
	b->addr_count = bw_engine_addrs(b->instance->engine, device, b->addrs, BW_ARRAY_LEN(b->addrs));
}

__attribute__((format(printf, 3, 4))) static void row(
	const struct banner *b, const char *name, const char *format, ...)
{
	va_list args;

	fprintf(b->out, "  %s%-9s%s ", b->dim, name, b->end);
	va_start(args, format);
	vfprintf(b->out, format, args);
	va_end(args);
	fputc('\n', b->out);
}

static void device(const struct banner *b)
{
	const struct bw_nic *nic = b->nic;
	char mac[BW_MAC_STRLEN];

	row(b, "device", "%s (%s), %s, MTU %u%s", nic->plan.spec, nic->driver, bw_mac_format(&nic->mac, mac),
		nic->mtu, bw_nic_is_link_up(nic) ? "" : ", link is down");
	if (nic->plan.reason[0] != '\0')
		row(b, "", "%s", nic->plan.reason);
	if (b->engine->exception_tap != NULL && b->view->engine.exception_packets_per_s > 0)
		row(b, "kernel", "has all that is not for Barewire, by %s, at most %u packets/s each way",
			b->engine->exception_tap, b->view->engine.exception_packets_per_s);
	else if (b->engine->exception_tap != NULL)
		row(b, "kernel", "has all that is not for Barewire, by %s", b->engine->exception_tap);
	if (b->steer != NULL)
		row(b, "kernel", "has all that is not for Barewire, by %s%s", bw_steer_how(b->steer),
			nic->plan.kind != BW_NIC_XDP ? ""
			: nic->is_zero_copy          ? "; zero-copy"
						     : "; packets are copied");
}

static void addresses(const struct banner *b)
{
	const struct bw_engine_device *engine = b->engine;
	char text[BW_CIDR_STRLEN], gateway[BW_IP_STRLEN];
	bool has_one = false;

	for (unsigned i = 0; i < b->addr_count; i++) {
		row(b, i == 0 ? "address" : "", "%s%s", bw_cidr_format(&b->addrs[i], text),
			engine->shares_addresses && i == 0 ? ", the kernel's as well" : "");
		has_one |= bw_ip_is_v4(&b->addrs[i].ip) || !bw_ip_is_link_local(&b->addrs[i].ip);
	}
	if (!has_one && engine->exception_tap != NULL)
		row(b, b->addr_count == 0 ? "address" : "", "none yet: ip addr add CIDR dev %s",
			engine->exception_tap);
	if (b->nic->plan.kind == BW_NIC_TAP)
		for (unsigned i = 0; i < b->conf->host_addr_count; i++)
			row(b, i == 0 ? "host" : "", "%s on %s",
				bw_cidr_format(&b->conf->host_addrs[i], text), b->nic->plan.iface);
	for (unsigned i = 0; i < engine->route_count; i++)
		row(b, i == 0 ? "route" : "", "%s by %s", bw_cidr_format(&engine->routes[i].prefix, text),
			bw_ip_format(&engine->routes[i].gateway, gateway));
	if (engine->vlan != 0)
		row(b, "vlan", "%u", engine->vlan);
}

static void queues(const struct banner *b)
{
	const struct bw_nic *nic = b->nic;
	const unsigned workers = b->view->engine.worker_count;

	row(b, "queues", "%u RX of %u, %u TX of %u%s", nic->rx_queues, nic->rx_descs, nic->tx_queues,
		nic->tx_descs,
		workers == 1                                ? ""
		: nic->has_rss && nic->rx_queues == workers ? "; the device spreads the flows"
							    : "; flows are spread in software");
}

static void workers(const struct banner *b)
{
	const struct bw_engine_conf *engine = &b->view->engine;
	const bool is_one = b->instance->device_count == 1;
	const bool is_adaptive = bw_engine_is_adaptive(b->instance->engine);
	char cpus[BW_WORKERS_MAX * 6] = "";
	size_t used = 0;

	for (unsigned i = 0; i < engine->worker_count; i++)
		used += (size_t)snprintf(
			cpus + used, sizeof(cpus) - used, "%s%u", i > 0 ? "," : "", engine->cpus[i]);
	row(b, "workers", "%u on CPU %s, %s polling%s", engine->worker_count, cpus,
		is_adaptive ? "adaptive" : "busy",
		engine->poll != BW_POLL_AUTO ? ""
		: is_adaptive && is_one      ? " (auto: the device is virtual)"
		: is_adaptive                ? " (auto: the devices are virtual)"
		: is_one                     ? " (auto: the device is a NIC)"
					     : " (auto: a device is a NIC)");
}

static void offloads(const struct banner *b)
{
	const struct bw_nic *nic = b->nic;
	const struct {
		const char *name;
		bool is_there;
	} offload[] = {
		{ "RX checksum", nic->has_rx_checksum },
		{ "IPv4 checksum", nic->has_tx_ip_checksum },
		{ "TCP/UDP checksum", nic->has_tx_l4_checksum },
		{ "scatter-gather", nic->has_multi_segment },
		{ "VLAN", nic->has_vlan_insert && nic->has_vlan_strip },
		{ "TSO", nic->tso_bytes_max > 0 },
	};

	for (int hardware = 1; hardware >= 0; hardware--) {
		char names[160] = "";

		for (unsigned i = 0; i < BW_ARRAY_LEN(offload); i++)
			if (offload[i].is_there == hardware)
				snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s",
					names[0] != '\0' ? ", " : "", offload[i].name);
		if (names[0] != '\0')
			row(b, hardware ? "device's" : "software", "%s", names);
	}
}

static void memory(const struct banner *b)
{
	unsigned mbufs = 0;

	for (unsigned i = 0; i < b->instance->device_count; i++)
		mbufs += b->instance->devices[i].nic.worker_count *
			 b->instance->devices[i].nic.mbufs_per_worker;
	row(b, "memory", "%u mbufs, %s", mbufs,
		bw_eal_has_hugepages() ? "hugepages"
				       : "no hugepages (barewire doctor tells how to have them)");
}

/** "port 80", or the addresses that it is on: "192.0.2.2:80, [2001:db8::2]:80". */
static void where(const struct bw_engine_service *service, char *out, size_t bytes)
{
	size_t used = 0;
	char ip[BW_IP_STRLEN];

	if (service->addr_count == 0)
		snprintf(out, bytes, "port %u", service->port);
	for (unsigned i = 0; i < service->addr_count && used < bytes; i++) {
		bool is_v4 = bw_ip_is_v4(&service->addrs[i]);

		used += (size_t)snprintf(out + used, bytes - used, is_v4 ? "%s%s:%u" : "%s[%s]:%u",
			i > 0 ? ", " : "", bw_ip_format(&service->addrs[i], ip), service->port);
	}
}

static void services(const struct banner *b)
{
	const struct bw_conf_view *view = b->view;
	char at[BW_ADDRS_MAX * (BW_IP_STRLEN + 10)];

	for (unsigned i = 0; i < view->engine.service_count; i++) {
		const struct bw_engine_service *service = &view->engine.services[i];
		const struct bw_http_conf *http = view->http[i];
		const char *name = i == 0 ? "services" : "";

		where(service, at, sizeof(at));
		if (http == NULL)
			row(b, name, "%s on %s", service->service->name, at);
		else if (http->site.root != NULL)
			row(b, name, "%s on %s, files from %s", service->service->name, at, http->site.root);
		else
			row(b, name, "%s on %s, %u constant page%s", service->service->name, at,
				http->site.constant_count, http->site.constant_count == 1 ? "" : "s");
	}
}

/** A command that reaches the service at an address. False: there is none. */
static bool paste_format(
	const struct bw_engine_service *service, const struct bw_ip *ip, char *out, size_t bytes)
{
	char text[BW_IP_STRLEN];
	unsigned port = service->port;

	bw_ip_format(ip, text);
	if (service->service == &bw_http_service && bw_ip_is_v4(ip))
		snprintf(out, bytes, "curl http://%s:%u/", text, port);
	else if (service->service == &bw_http_service)
		snprintf(out, bytes, "curl -g 'http://[%s]:%u/'", text, port);
	else if (service->service == &bw_resp_service)
		snprintf(out, bytes, "redis-cli -h %s -p %u", text, port);
	else if (service->service == &bw_echo_service)
		snprintf(out, bytes, "nc %s %u", text, port);
	else
		return false;
	return true;
}

static bool is_at_device(const struct banner *b, const struct bw_ip *ip)
{
	for (unsigned i = 0; i < b->addr_count; i++)
		if (bw_ip_eq(&b->addrs[i].ip, ip))
			return true;
	return b->instance->device_count == 1;
}

/** That of the service in ip's family: of those that it is on here the first, ip itself if on all. NULL: none. */
static const struct bw_ip *paste_addr(
	const struct banner *b, const struct bw_engine_service *service, const struct bw_ip *ip)
{
	for (unsigned i = 0; i < service->addr_count; i++)
		if (bw_ip_is_v4(&service->addrs[i]) == bw_ip_is_v4(ip) && is_at_device(b, &service->addrs[i]))
			return &service->addrs[i];
	return service->addr_count == 0 ? ip : NULL;
}

/** For the device's first address of each family: the others work alike. */
static void pastes(const struct banner *b)
{
	const struct bw_engine_conf *engine = &b->view->engine;
	bool is_done[2] = { false, false };
	char line[128], text[BW_IP_STRLEN];

	for (unsigned a = 0; a < b->addr_count; a++) {
		const struct bw_ip *ip = &b->addrs[a].ip;

		if (is_done[bw_ip_is_v4(ip)] || (!bw_ip_is_v4(ip) && bw_ip_is_link_local(ip)))
			continue;
		is_done[bw_ip_is_v4(ip)] = true;
		fprintf(b->out, "  %sping %s%s\n", b->bold, bw_ip_format(ip, text), b->end);
		for (unsigned i = 0; i < engine->service_count; i++) {
			const struct bw_ip *at = paste_addr(b, &engine->services[i], ip);

			if (at != NULL && paste_format(&engine->services[i], at, line, sizeof(line)))
				fprintf(b->out, "  %s%s%s\n", b->bold, line, b->end);
		}
	}
}

/** What is the same of one device and of several stands below them; of one, in the order in which it is of interest. */
void bw_app_banner(FILE *out, const struct bw_app_instance *instance)
{
	const bool is_one = instance->device_count == 1;
	bool is_terminal = isatty(fileno(out)) == 1;
	struct banner b = {
		.out = out,
		.dim = is_terminal ? "\033[2m" : "",
		.bold = is_terminal ? "\033[1m" : "",
		.end = is_terminal ? "\033[0m" : "",
		.instance = instance,
		.view = instance->view,
	};

	fprintf(out, "%sbarewire %s%s\n\n", b.bold, BW_VERSION, b.end);
	for (unsigned i = 0; i < instance->device_count; i++) {
		turn_to(&b, i);
		device(&b);
		addresses(&b);
		if (is_one)
			workers(&b);
		queues(&b);
		offloads(&b);
		if (!is_one)
			fprintf(out, "\n");
	}
	if (!is_one)
		workers(&b);
	memory(&b);
	services(&b);
	fprintf(out, "\n");
	for (unsigned i = 0; i < instance->device_count; i++) {
		turn_to(&b, i);
		pastes(&b);
	}
	fprintf(out, "\n");
	fflush(out);
}
