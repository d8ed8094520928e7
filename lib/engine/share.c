/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * An interface that the kernel goes on using. What comes to us the steer decides (lib/steer), and it is told here what
 * is ours: whole addresses that the kernel does not have, or the services' ports of those that it has. Or a TAP beside a
 * port that DPDK has, with the port's addresses: then no program decides, but the workers themselves (exception.c).
 *
 * In the latter case the network is the kernel's. A thread of its own follows it: addresses and routes become a new
 * network for the workers, and neighbours are what the kernel says of them. Workers ask by ring and are told by ring;
 * an answer holds until the kernel says something else, or until the worker's entry is old and it asks again.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <rte_ring_elem.h>

#include <base/clock.h>
#include <base/log.h>
#include <steer/ports.h>

#include "worker.h"

#define ASKS_MAX      1024
#define TOLD_MAX      1024
#define ASKS_AT_ONCE  64
/* Changes come in groups: an address, its route, another route. Those of other interfaces are seen, too, and cost a look. */
#define SETTLE_MS     20
#define SETTLE_MS_MAX 1000

/** A question, and an answer. A ring's elements are a multiple of 4 bytes. */
struct ask {
	struct bw_ip ip;
	uint32_t worker;
};

struct told {
	struct bw_ip ip; /* unspecified: any, and not known */
	struct bw_mac mac;
	uint16_t is_known;
};

struct bw_share {
	struct bw_device *device;
	struct bw_kernel *kernel; /* NULL: the addresses are ours alone */
	struct bw_kernel_network *seen;
	struct bw_steer_holds *holds;
	struct rte_ring *asks;
	int wake_fd;
	bw_ns stale_at; /* since when `seen` may not be what the kernel has; 0: it is */
	unsigned
		settle_ms; /* from the first sign of a change to the look; longer while nothing comes of it */
	bool was_warned_of_mtu, was_warned_of_many;
	unsigned left_count; /* addresses that came later and whose ports are another process's */
	struct bw_ip left[BW_NETWORK_ADDRS_MAX];
	_Atomic bool stops;
	pthread_t thread;
	bool is_running;
};

/** The kernel's interface: the port's own, or the TAP beside it. */
static const char *iface_of(const struct bw_device *device)
{
	return device->exception != NULL ? bw_exception_iface(device) : device->nic->plan.iface;
}

/* ---- what is ours ------------------------------------------------------------------------------------------- */

bool bw_share_connects(const struct bw_engine *engine)
{
	for (unsigned i = 0; i < engine->conf.service_count; i++)
		if (engine->conf.services[i].service->connects)
			return true;
	return false;
}

static unsigned add_ports(const struct bw_engine *engine, const struct bw_ip *ip, struct bw_steer_port *ports)
{
	unsigned count = 0;

	for (unsigned i = 0; i < engine->conf.service_count; i++) {
		const struct bw_engine_service *service = &engine->conf.services[i];

		if (service->port == 0 || !bw_engine_service_is_at(service, ip))
			continue;
		if (service->service->data != NULL)
			ports[count++] = (struct bw_steer_port){ *ip, IPPROTO_TCP, service->port };
		if (service->service->datagram != NULL)
			ports[count++] = (struct bw_steer_port){ *ip, IPPROTO_UDP, service->port };
	}
	return count;
}

static bool is_left(const struct bw_share *share, const struct bw_ip *ip)
{
	for (unsigned i = 0; i < share->left_count; i++)
		if (bw_ip_eq(&share->left[i], ip))
			return true;
	return false;
}

/** Tell the steer. Without one workers look themselves (claims.c). */
static int own(struct bw_share *share)
{
	const struct bw_device *device = share->device;
	const struct bw_engine *engine = device->engine;
	const struct bw_network *network = device->network;
	struct bw_steer_addr addrs[BW_NETWORK_ADDRS_MAX];
	struct bw_steer_port ports[BW_NETWORK_ADDRS_MAX * BW_SERVICES_MAX * 2];
	struct bw_steer_owned owned = {
		.mac = network->mac,
		.vlan = device->conf->vlan,
		.addrs = addrs,
		.addr_count = network->addr_count,
		.ports = ports,
		.prefix = network->range,
	};

	_Static_assert(BW_ARRAY_LEN(ports) <= BW_STEER_PORTS_MAX && BW_ARRAY_LEN(addrs) <= BW_STEER_ADDRS_MAX,
		"what the maps hold");
	if (device->conf->steer == NULL)
		return 0;
	for (unsigned i = 0; i < network->addr_count; i++) {
		addrs[i] = (struct bw_steer_addr){ network->addrs[i].ip, !network->is_kernels };
		if (network->is_kernels && !is_left(share, &network->addrs[i].ip))
			owned.port_count +=
				add_ports(engine, &network->addrs[i].ip, ports + owned.port_count);
	}
	if (network->is_kernels && bw_share_connects(engine)) {
		owned.range_first = engine->conf.tcp.port_first;
		owned.range_last = engine->conf.tcp.port_last;
	}
	return bw_steer_own(device->conf->steer, &owned);
}

/* ---- the kernel's network ------------------------------------------------------------------------------------ */

static struct bw_network *network_of_kernel(const struct bw_share *share)
{
	const struct bw_kernel_network *seen = share->seen;
	struct bw_network *network = bw_network_alloc(seen->route_count);

	if (network == NULL)
		return NULL;
	network->is_kernels = true;
	/* A TAP has the port's, and what becomes of the TAP's is nothing to the port. */
	network->mac = share->device->exception != NULL ? share->device->nic->mac : seen->mac;
	network->addr_count = seen->addr_count;
	memcpy(network->addrs, seen->addrs, seen->addr_count * sizeof(seen->addrs[0]));
	for (unsigned i = 0; i < seen->route_count; i++)
		network->routes[i] = (struct bw_network_route){ .prefix = seen->routes[i].prefix,
			.gateway = seen->routes[i].gateway,
			.source = seen->routes[i].source };
	return network;
}

/* Member by member: what lies between them need not be the same. */
static bool is_same_cidr(const struct bw_cidr *a, const struct bw_cidr *b)
{
	return a->prefix_len == b->prefix_len && bw_ip_eq(&a->ip, &b->ip);
}

static bool has_same_addrs(const struct bw_network *a, const struct bw_network *b)
{
	for (unsigned i = 0; i < a->addr_count && i < b->addr_count; i++)
		if (!is_same_cidr(&a->addrs[i], &b->addrs[i]))
			return false;
	return a->addr_count == b->addr_count;
}

static bool has_same_routes(const struct bw_network *a, const struct bw_network *b)
{
	for (unsigned i = 0; i < a->route_count && i < b->route_count; i++) {
		const struct bw_network_route *x = &a->routes[i], *y = &b->routes[i];

		if (!is_same_cidr(&x->prefix, &y->prefix) || !bw_ip_eq(&x->gateway, &y->gateway) ||
			!bw_ip_eq(&x->source, &y->source))
			return false;
	}
	return a->route_count == b->route_count;
}

static bool is_same(const struct bw_network *a, const struct bw_network *b)
{
	return memcmp(&a->mac, &b->mac, sizeof(a->mac)) == 0 && has_same_addrs(a, b) && has_same_routes(a, b);
}

static void say_addresses(const struct bw_device *device, const struct bw_network *network)
{
	char line[256] = "", text[BW_CIDR_STRLEN];
	size_t used = 0;

	for (unsigned i = 0; i < network->addr_count && used < sizeof(line); i++)
		used += (size_t)snprintf(line + used, sizeof(line) - used, "%s%s", i == 0 ? "" : ", ",
			bw_cidr_format(&network->addrs[i], text));
	bw_info("--dev %s: %s has now %s, and %u route%s", device->nic->plan.spec, iface_of(device),
		network->addr_count > 0 ? line : "no address", network->route_count,
		network->route_count == 1 ? "" : "s");
}

static void say_mtu(struct bw_share *share)
{
	const struct bw_nic *nic = share->device->nic;
	const bool is_smaller = share->seen->is_there && share->seen->mtu < nic->mtu;

	if (is_smaller && !share->was_warned_of_mtu)
		bw_warn("--dev %s: %s has an MTU of %u now; packets of up to %u go on being sent until a restart",
			nic->plan.spec, iface_of(share->device), share->seen->mtu, nic->mtu);
	share->was_warned_of_mtu = is_smaller;
}

static void say_left_out(struct bw_share *share)
{
	if (share->seen->left_out > 0 && !share->was_warned_of_many)
		bw_warn("--dev %s: %u addresses and routes of %s are not known here: there are more than %u and %u",
			share->device->nic->plan.spec, share->seen->left_out, iface_of(share->device),
			BW_KERNEL_ADDRS_MAX, BW_KERNEL_ROUTES_MAX);
	share->was_warned_of_many = share->seen->left_out > 0;
}

static bool is_there(const void *network, const struct bw_ip *ip)
{
	return bw_route_is_ours(network, ip);
}

/**
 * As at the start, of all addresses that there are now; what is held stays so. One whose ports are another process's is
 * left to it, until the next change shows something else; that is said once.
 */
static void hold_again(struct bw_share *share, struct bw_network *network)
{
	struct bw_ip left[BW_NETWORK_ADDRS_MAX];
	struct bw_steer_port ports[BW_SERVICES_MAX * 2];
	unsigned left_count = 0;

	if (share->device->engine->conf.steals_ports)
		return;
	bw_steer_let_go(share->holds, is_there, network);
	for (unsigned i = 0; i < network->addr_count; i++) {
		const struct bw_ip *ip = &network->addrs[i].ip;
		const unsigned count = add_ports(share->device->engine, ip, ports);

		if (bw_steer_hold(is_left(share, ip) ? NULL : share->device->nic->plan.spec, ports, count,
			    &share->holds) != 0) {
			left[left_count++] = *ip;
			network->left |= 1ull << i;
		}
	}
	memcpy(share->left, left, left_count * sizeof(left[0]));
	share->left_count = left_count;
}

static void follow(struct bw_share *share)
{
	struct bw_device *device = share->device;
	struct bw_network *network;

	share->stale_at = 0;
	if (bw_kernel_read(share->kernel, share->seen) != 0) {
		share->stale_at = bw_clock_now(); /* once more, a little later */
		return;
	}
	say_mtu(share);
	say_left_out(share);
	network = network_of_kernel(share);
	if (network == NULL || is_same(network, device->network)) {
		share->settle_ms = BW_MIN(share->settle_ms * 2, (unsigned)SETTLE_MS_MAX);
		free(network);
		return;
	}
	share->settle_ms = SETTLE_MS;
	if (!has_same_addrs(network, device->network))
		say_addresses(device, network);
	hold_again(share, network);
	bw_network_publish(device, network);
	(void)own(share);
}

static void tell(struct bw_share *share, unsigned worker, const struct told *told)
{
	struct bw_worker *w = &share->device->engine->workers[worker];
	struct bw_iface *iface = &w->ifaces[share->device->index];

	/* What finds no room may have been a change: then the worker asks again for all that it uses. */
	if (rte_ring_sp_enqueue_elem(iface->told_in, (void *)(uintptr_t)told, sizeof(*told)) != 0)
		__atomic_store_n(&iface->was_not_told, true, __ATOMIC_RELEASE);
	bw_power_wake(w);
}

static void on_network(void *arg)
{
	struct bw_share *share = arg;

	if (share->stale_at == 0)
		share->stale_at = bw_clock_now();
}

static void on_neigh(void *arg, const struct bw_ip *ip, const struct bw_mac *mac)
{
	struct bw_share *share = arg;
	struct told told = { .is_known = mac != NULL };

	if (ip != NULL)
		told.ip = *ip;
	if (mac != NULL)
		told.mac = *mac;
	for (unsigned i = 0; i < share->device->engine->worker_count; i++)
		tell(share, i, &told);
}

/** Some of what was asked: whatever comes, events and the end have their turn. Returns whether there may be more. */
static bool answer(struct bw_share *share)
{
	struct ask ask;

	for (unsigned i = 0; i < ASKS_AT_ONCE; i++) {
		struct told told;

		if (rte_ring_sc_dequeue_elem(share->asks, &ask, sizeof(ask)) != 0)
			return false;
		told = (struct told){ .ip = ask.ip, .is_known = true };
		if (bw_kernel_neigh(share->kernel, &ask.ip, &told.mac) == 0)
			tell(share, ask.worker, &told);
	}
	return true;
}

static void *share_main(void *arg)
{
	struct bw_share *share = arg;
	const struct bw_kernel_events events = { on_network, on_neigh, share };
	struct pollfd fds[2] = { { .fd = bw_kernel_fd(share->kernel), .events = POLLIN },
		{ .fd = share->wake_fd, .events = POLLIN } };
	bool has_more = false;
	uint64_t counter;

	pthread_setname_np(pthread_self(), "bw-share");
	while (!atomic_load(&share->stops)) {
		if (poll(fds, BW_ARRAY_LEN(fds),
			    has_more               ? 0
			    : share->stale_at != 0 ? (int)share->settle_ms
						   : -1) < 0)
			continue;
		if ((fds[1].revents & POLLIN) != 0 && read(share->wake_fd, &counter, sizeof(counter)) < 0)
			counter = 0;
		/* An error, too, is only taken by reading. */
		has_more = fds[0].revents != 0 && bw_kernel_take(share->kernel, &events);
		has_more |= answer(share);
		if (share->stale_at != 0 &&
			bw_clock_now() - share->stale_at >= share->settle_ms * BW_NS_PER_MS)
			follow(share);
	}
	return NULL;
}

/* ---- the workers' side ---------------------------------------------------------------------------------------- */

void bw_share_ask(struct bw_iface *iface, const struct bw_ip *ip)
{
	struct bw_share *share = iface->device->share;
	struct ask ask = { .ip = *ip, .worker = iface->worker->index };
	const uint64_t one = 1;

	/* One that finds no room is asked again, as if the answer had been lost. */
	if (rte_ring_mp_enqueue_elem(share->asks, &ask, sizeof(ask)) == 0 &&
		write(share->wake_fd, &one, sizeof(one)) < 0)
		return; /* its counter is full: it is awake */
}

unsigned bw_share_deliver(struct bw_iface *iface)
{
	struct told told[BW_BURST_MAX];
	unsigned count = rte_ring_sc_dequeue_burst_elem(
		iface->told_in, told, sizeof(told[0]), BW_ARRAY_LEN(told), NULL);

	for (unsigned i = 0; i < count; i++) {
		if (told[i].is_known)
			bw_neigh_told(iface, &told[i].ip, &told[i].mac);
		else
			bw_neigh_doubt(
				iface, bw_ip_half(&told[i].ip, 0) != 0 || bw_ip_half(&told[i].ip, 1) != 0
					       ? &told[i].ip
					       : NULL);
	}
	if (bw_unlikely(__atomic_load_n(&iface->was_not_told, __ATOMIC_RELAXED)) &&
		__atomic_exchange_n(&iface->was_not_told, false, __ATOMIC_ACQ_REL))
		bw_neigh_doubt(iface, NULL);
	return count;
}

/* ---- start and stop ------------------------------------------------------------------------------------------- */

static bool has_addr(const struct bw_kernel_network *network, const struct bw_ip *ip)
{
	for (unsigned i = 0; i < network->addr_count; i++)
		if (bw_ip_eq(&network->addrs[i].ip, ip))
			return true;
	return false;
}

/** Neither of the two must open a connection from a port of the other's. */
static int check_port_range(const struct bw_share *share)
{
	const struct bw_device *device = share->device;
	const struct bw_engine *engine = device->engine;
	const unsigned ours_first = engine->conf.tcp.port_first, ours_last = engine->conf.tcp.port_last;
	FILE *file = bw_share_connects(engine) ? fopen("/proc/sys/net/ipv4/ip_local_port_range", "re") : NULL;
	unsigned first = 0, last = 0;
	int count;

	if (file == NULL)
		return 0;
	count = fscanf(file, "%u %u", &first, &last);
	fclose(file);
	if (count != 2 || first > ours_last || last < ours_first)
		return 0;
	bw_error(
		"--dev %s: the kernel opens connections from ports %u to %u, and Barewire from %u to %u of the same "
		"addresses; keep them apart with sysctl -w net.ipv4.ip_local_port_range='32768 60999', or with "
		"tcp.port_first and tcp.port_last",
		device->nic->plan.spec, first, last, ours_first, ours_last);
	return -EADDRINUSE;
}

/** A TAP with a link-local address alone, which the kernel makes by itself, has not been given any. */
static bool was_given_an_addr(const struct bw_kernel_network *network)
{
	for (unsigned i = 0; i < network->addr_count; i++)
		if (bw_ip_is_v4(&network->addrs[i].ip) || !bw_ip_is_link_local(&network->addrs[i].ip))
			return true;
	return false;
}

static int open_kernel(struct bw_share *share)
{
	const struct bw_device *device = share->device;
	const char *spec = device->nic->plan.spec, *iface = iface_of(device);
	int rc = bw_kernel_open(iface, device->conf->vlan, &share->kernel);

	if (rc == 0)
		rc = bw_kernel_read(share->kernel, share->seen);
	if (rc != 0 && device->conf->vlan != 0) {
		bw_error(
			"--dev %s: %s has no interface for VLAN %u, of which to take the addresses; ip link add "
			"link %s name %s.%u type vlan id %u, or give --addr CIDR",
			spec, iface, device->conf->vlan, iface, iface, device->conf->vlan,
			device->conf->vlan);
		return rc;
	}
	if (rc != 0) {
		bw_error("--dev %s: the kernel does not tell of %s: %s", spec, iface, strerror(-rc));
		return rc;
	}
	if (device->exception != NULL) { /* addresses may come at any time */
		if (!was_given_an_addr(share->seen))
			bw_info("--exception %s: no address yet; give it one: ip addr add CIDR dev %s", iface,
				iface);
		return check_port_range(share);
	}
	if (share->seen->addr_count > 0)
		return check_port_range(share);
	bw_error(
		"--dev %s: %s has no address to share; give it one: ip addr add CIDR dev %s, or Barewire one of its "
		"own with --addr CIDR",
		spec, iface, iface);
	return -EADDRNOTAVAIL;
}

/** Addresses that are to be ours alone must not be the kernel's. */
static int look_for_ours(struct bw_share *share)
{
	const struct bw_device *device = share->device;
	const char *spec = device->nic->plan.spec, *iface = iface_of(device);
	struct bw_kernel *kernel;
	char text[BW_IP_STRLEN];
	int rc = bw_kernel_open(iface, device->conf->vlan, &kernel);

	if (rc == -ENODEV && device->conf->vlan != 0) /* the kernel is not on that VLAN */
		return 0;
	if (rc == 0) {
		rc = bw_kernel_read(kernel, share->seen);
		bw_kernel_close(kernel);
	}
	if (rc != 0) {
		bw_error("--dev %s: the kernel does not tell of %s: %s", spec, iface, strerror(-rc));
		return rc;
	}
	for (unsigned i = 0; i < device->conf->addr_count; i++) {
		if (!has_addr(share->seen, &device->conf->addrs[i].ip))
			continue;
		bw_error(
			"--dev %s: %s has %s itself; leave --addr out to share all of its addresses, or give one that nobody has",
			spec, iface, bw_ip_format(&device->conf->addrs[i].ip, text));
		return -EADDRINUSE;
	}
	return 0;
}

bool bw_share_is_kernels(const struct bw_device *device, const struct bw_ip *ip)
{
	return device->share != NULL && has_addr(device->share->seen, ip);
}

/* Refuse what another process listens on, and keep others from it meanwhile. */
static int hold_ports(struct bw_share *share)
{
	const struct bw_device *device = share->device;
	const struct bw_engine *engine = device->engine;
	struct bw_steer_port ports[BW_SERVICES_MAX * 2];

	for (unsigned i = 0; i < share->seen->addr_count; i++) {
		const unsigned count = add_ports(engine, &share->seen->addrs[i].ip, ports);
		int rc = bw_steer_hold(device->nic->plan.spec, ports, count, &share->holds);

		if (rc != 0)
			return rc;
	}
	return 0;
}

static int make_rings(struct bw_share *share)
{
	struct bw_device *device = share->device;
	struct bw_engine *engine = device->engine;
	char name[RTE_RING_NAMESIZE];

	snprintf(name, sizeof(name), "bw%u_asks_%u", engine->number, device->index);
	share->asks = rte_ring_create_elem(name, sizeof(struct ask), ASKS_MAX, SOCKET_ID_ANY, RING_F_SC_DEQ);
	for (unsigned i = 0; i < engine->worker_count; i++) {
		struct bw_iface *iface = &engine->workers[i].ifaces[device->index];

		snprintf(name, sizeof(name), "bw%u_told_%u_%u", engine->number, device->index, i);
		iface->told_in = rte_ring_create_elem(
			name, sizeof(struct told), TOLD_MAX, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
		if (iface->told_in == NULL)
			return -ENOMEM;
		engine->workers[i].has_kernels = true;
	}
	share->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return share->asks != NULL && share->wake_fd >= 0 ? 0 : -ENOMEM;
}

int bw_share_start(struct bw_device *device)
{
	struct bw_share *share = calloc(1, sizeof(*share));
	int rc;

	if (share == NULL)
		return -ENOMEM;
	device->share = share;
	share->device = device;
	share->wake_fd = -1;
	share->settle_ms = SETTLE_MS;
	share->seen = calloc(1, sizeof(*share->seen));
	if (share->seen != NULL && !device->conf->shares_addresses)
		return look_for_ours(share);
	rc = share->seen != NULL ? open_kernel(share) : -ENOMEM;
	if (rc == 0 && !device->engine->conf.steals_ports)
		rc = hold_ports(share);
	if (rc != 0)
		return rc;
	device->network = network_of_kernel(share);
	return device->network != NULL ? make_rings(share) : -ENOMEM;
}

int bw_share_begin(struct bw_device *device)
{
	struct bw_share *share = device->share;
	int rc = own(share);

	if (rc != 0 || share->kernel == NULL)
		return rc;
	rc = pthread_create(&share->thread, NULL, share_main, share);
	if (rc != 0) {
		bw_error("--dev %s: no thread to follow the kernel's network with: %s",
			device->nic->plan.spec, strerror(rc));
		return -rc;
	}
	share->is_running = true;
	return 0;
}

void bw_share_stop(struct bw_device *device)
{
	struct bw_share *share = device->share;
	const uint64_t one = 1;

	if (share == NULL)
		return;
	if (share->is_running) {
		atomic_store(&share->stops, true);
		/* It fails only when its counter is full, and then it wakes as well. */
		if (write(share->wake_fd, &one, sizeof(one)) < 0)
			errno = 0;
		pthread_join(share->thread, NULL);
		share->is_running = false;
	}
}

void bw_share_free(struct bw_device *device)
{
	struct bw_share *share = device->share;

	if (share == NULL)
		return;
	for (unsigned i = 0; i < device->engine->worker_count; i++)
		rte_ring_free(device->engine->workers[i].ifaces[device->index].told_in);
	rte_ring_free(share->asks);
	bw_steer_release(share->holds);
	bw_kernel_close(share->kernel);
	if (share->wake_fd >= 0)
		close(share->wake_fd);
	free(share->seen);
	free(share);
	device->share = NULL;
}
