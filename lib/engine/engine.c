/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <base/clock.h>
#include <base/log.h>

#include "worker.h"

#define DRAIN_POLL_NS (10 * BW_NS_PER_MS)
#define CUT_OFF_POLLS 50

_Static_assert(BW_DEVICES_MAX <= BW_NIC_SLEEP_MAX, "a worker sleeps on all of its queues");
#define HELPERS_MAX ((unsigned)BW_ARRAY_LEN(((struct bw_engine *)0)->helpers))

/*
 * Engines that a process has, and has had. The clock and the flow hash are one for all: they are set only while no
 * engine has gone by the one or has a table made by the other, and before any that comes meanwhile.
 */
static pthread_mutex_t alive_mutex = PTHREAD_MUTEX_INITIALIZER;
static unsigned alive, created;

/** Returns the engine's number. */
static unsigned come_alive(uint64_t seed)
{
	unsigned number;

	pthread_mutex_lock(&alive_mutex);
	if (alive++ == 0) {
		bw_clock_init();
		bw_flow_hash_seed(seed);
	}
	number = created++;
	pthread_mutex_unlock(&alive_mutex);
	return number;
}

static void be_gone(void)
{
	pthread_mutex_lock(&alive_mutex);
	alive--;
	pthread_mutex_unlock(&alive_mutex);
}

void bw_engine_conf_init(struct bw_engine_conf *conf)
{
	*conf = (struct bw_engine_conf){
		.device_count = 1,
		.worker_count = 1,
		.neighbours_max = 1024,
		.fragments_max = 256,
		.fragment_timeout_ns = 30 * BW_NS_PER_SEC,
		.icmp_errors_per_s = 100,
		.ttl = 64,
		.keepalive_idle_ns = 7200 * BW_NS_PER_SEC,
		.helper_count = 2,
		.exception_packets_per_s = 50000,
	};
	bw_tcp_conf_init(&conf->tcp);
}

bool bw_engine_service_is_at(const struct bw_engine_service *service, const struct bw_ip *addr)
{
	for (unsigned i = 0; i < service->addr_count; i++) {
		if (bw_ip_eq(&service->addrs[i], addr))
			return true;
	}
	return service->addr_count == 0;
}

static unsigned arrive(struct bw_gate *gate)
{
	unsigned generation = gate->generation;

	/* `>=`: the parties may have become fewer while all that are left were waiting. */
	if (++gate->waiting >= gate->parties) {
		gate->waiting = 0;
		gate->generation++;
		pthread_cond_broadcast(&gate->cond);
	}
	return generation;
}

void bw_gate_pass(struct bw_gate *gate)
{
	unsigned generation;

	pthread_mutex_lock(&gate->mutex);
	generation = arrive(gate);
	while (gate->generation == generation)
		pthread_cond_wait(&gate->cond, &gate->mutex);
	pthread_mutex_unlock(&gate->mutex);
}

unsigned bw_gate_arrive(struct bw_gate *gate)
{
	unsigned generation;

	pthread_mutex_lock(&gate->mutex);
	generation = arrive(gate);
	pthread_mutex_unlock(&gate->mutex);
	return generation;
}

bool bw_gate_is_open(struct bw_gate *gate, unsigned generation)
{
	bool is_open;

	pthread_mutex_lock(&gate->mutex);
	is_open = gate->generation != generation;
	pthread_mutex_unlock(&gate->mutex);
	return is_open;
}

static struct rte_ring *make_ring(const struct bw_worker *w, const char *what, unsigned size)
{
	char name[RTE_RING_NAMESIZE];

	snprintf(name, sizeof(name), "bw%u_%s_%u", w->engine->number, what, w->index);
	return rte_ring_create(name, size, SOCKET_ID_ANY, RING_F_SC_DEQ);
}

/** Each worker's part of each device, as far as it does not depend on the network. */
static int make_ifaces(struct bw_engine *engine, unsigned index)
{
	struct bw_worker *w = &engine->workers[index];
	const size_t bytes = engine->device_count * sizeof(*w->ifaces);

	w->ifaces = aligned_alloc(BW_CACHE_LINE, bytes);
	if (w->ifaces == NULL)
		return -ENOMEM;
	memset(w->ifaces, 0, bytes);
	w->iface_count = engine->device_count;
	for (unsigned i = 0; i < engine->device_count; i++) {
		struct bw_nic *nic = engine->devices[i].nic;
		const bool has_rx = index < nic->rx_queues, has_tx = index < nic->tx_queues;
		const bool is_spread = nic->has_rss && nic->rx_queues == engine->worker_count;
		char what[16];

		w->ifaces[i] = (struct bw_iface){
			.worker = w,
			.device = &engine->devices[i],
			.nic = nic,
			.host = { .vlan = engine->devices[i].conf->vlan,
				.accepts_partial_checksum = nic->accepts_partial_checksum },
			.has_own_rx = has_rx,
			.rx_queue = (uint16_t)index,
			.has_own_tx = has_tx,
			.tx_queue = (uint16_t)(index % nic->tx_queues),
			.dispatches = engine->worker_count > 1 && !is_spread,
			.link = { .mtu = nic->mtu,
				.shares_addresses = engine->devices[i].conf->shares_addresses },
		};
		snprintf(what, sizeof(what), "tx%u", i);
		w->ifaces[i].tx_in = make_ring(w, what, BW_INBOX_SIZE);
		if (w->ifaces[i].tx_in == NULL)
			return -ENOMEM;
	}
	return 0;
}

bool bw_engine_is_adaptive(const struct bw_engine *engine)
{
	bool is_virtual = true;

	for (unsigned i = 0; i < engine->device_count; i++)
		is_virtual &= engine->devices[i].nic->is_virtual;
	return engine->conf.poll == BW_POLL_ADAPTIVE || (engine->conf.poll == BW_POLL_AUTO && is_virtual);
}

static int init_worker(struct bw_engine *engine, unsigned index)
{
	struct bw_worker *w = &engine->workers[index];

	w->pool = engine->devices[0].nic->pools[index];
	w->is_adaptive = bw_engine_is_adaptive(engine);
	for (unsigned i = 0; i < w->iface_count; i++) {
		struct bw_iface *iface = &w->ifaces[i];

		iface->tx_bound =
			BW_TX_BACKLOG_MAX - (index == 0 && iface->claims != NULL ? BW_TX_KERNELS : 0);
		bw_network_take(iface);
	}
	w->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	w->outbox = calloc(engine->worker_count, sizeof(*w->outbox));
	w->contexts = calloc(engine->conf.service_count + 1, sizeof(*w->contexts));
	w->packets_in = make_ring(w, "packets", BW_INBOX_SIZE);
	w->control_in = make_ring(w, "control", BW_INBOX_SIZE);
	w->mail_in = make_ring(w, "mail", BW_INBOX_SIZE);
	w->jobs_done = make_ring(w, "done", 2 * BW_JOBS_MAX);
	if (w->wake_fd < 0 || w->outbox == NULL || w->contexts == NULL || w->packets_in == NULL ||
		w->control_in == NULL || w->mail_in == NULL || w->jobs_done == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < engine->conf.service_count; i++) {
		const struct bw_engine_service *service = &engine->conf.services[i];

		w->contexts[i] = (struct bw_context){
			.worker = w,
			.service = service->service,
			.conf = service->conf,
			.index = i,
			.port = service->port,
		};
	}
	return 0;
}

/** The groups in which neighbours look for our IPv6 addresses; of the kernel's addresses it is in them itself. */
static void join_groups(const struct bw_device *device)
{
	const struct bw_network *network = device->network;

	for (unsigned i = 0; i < network->addr_count && !network->is_kernels; i++) {
		struct bw_ip group = bw_ip6_solicited_node(&network->addrs[i].ip);
		struct bw_mac mac = bw_mac_of_multicast(&group);
		int error;

		if (bw_ip_is_v4(&network->addrs[i].ip))
			continue;
		error = bw_nic_join(device->nic, &mac);
		if (error != 0)
			bw_warn("--dev %s: the device refuses the multicast group of an IPv6 address (%s): "
				"neighbours may not find it",
				device->nic->plan.spec, strerror(-error));
	}
}

/** 0, or -errno; -ENOMEM without a line. */
static int make_network(struct bw_device *device)
{
	int error = 0;

	if (device->conf->exception_tap != NULL)
		error = bw_exception_start(device);
	if (error == 0 && (device->conf->steer != NULL || device->exception != NULL))
		error = bw_share_start(device);
	if (error != 0)
		return error;
	if (device->network == NULL)
		device->network = bw_network_of_conf(device);
	if (device->network == NULL)
		return -ENOMEM;
	join_groups(device);
	return 0;
}

/** 0, or -EINVAL after one line. */
static int check_device(const struct bw_engine_device *device)
{
	const struct bw_nic *nic = device->nic;

	if (device->addr_count == 0 && !device->shares_addresses) {
		bw_error("--dev %s: the engine needs an address for it; give --addr CIDR", nic->plan.spec);
		return -EINVAL;
	}
	for (unsigned i = 0; i < device->addr_count; i++) {
		char text[BW_IP_STRLEN];

		if (bw_ip_is_v4(&device->addrs[i].ip) || nic->mtu >= BW_IP6_MTU_MIN)
			continue;
		bw_error(
			"--dev %s: an MTU of %u is less than the %u that IPv6 needs; give more, or no IPv6 address (%s)",
			nic->plan.spec, nic->mtu, BW_IP6_MTU_MIN, bw_ip_format(&device->addrs[i].ip, text));
		return -EINVAL;
	}
	return 0;
}

static int check_conf(const struct bw_engine_conf *conf)
{
	int error = 0;

	if (conf->worker_count == 0 || conf->worker_count > BW_WORKERS_MAX || conf->helper_count == 0 ||
		conf->helper_count > HELPERS_MAX || conf->device_count == 0 ||
		conf->device_count > BW_DEVICES_MAX) {
		bw_error("the engine needs 1 to %u devices, 1 to %u workers and 1 to %u helper threads",
			BW_DEVICES_MAX, BW_WORKERS_MAX, HELPERS_MAX);
		return -EINVAL;
	}
	for (unsigned i = 0; i < conf->device_count && error == 0; i++)
		error = check_device(&conf->devices[i]);
	return error;
}

/** The device, other than that one, that has an address. Of link-local ones each link may have the same. */
static const struct bw_device *who_else_has(const struct bw_device *device, const struct bw_ip *ip)
{
	const struct bw_engine *engine = device->engine;

	for (unsigned i = 0; i < engine->device_count && (bw_ip_is_v4(ip) || !bw_ip_is_link_local(ip)); i++)
		if (&engine->devices[i] != device && engine->devices[i].network != NULL &&
			bw_route_is_ours(engine->devices[i].network, ip))
			return &engine->devices[i];
	return NULL;
}

/** By an address it is known by which device a connection's packets leave. 0, or -EADDRINUSE after one line. */
static int check_that_no_other_has(const struct bw_device *device)
{
	for (unsigned i = 0; i < device->network->addr_count; i++) {
		const struct bw_ip *ip = &device->network->addrs[i].ip;
		const struct bw_device *other = who_else_has(device, ip);
		char text[BW_IP_STRLEN];

		if (other == NULL)
			continue;
		bw_error("--dev %s: --dev %s has %s, too; give each device addresses of its own",
			device->nic->plan.spec, other->nic->plan.spec, bw_ip_format(ip, text));
		return -EADDRINUSE;
	}
	return 0;
}

/** A service that is at certain addresses: is each of them some device's? A TAP's may come at any time. */
static int check_services(const struct bw_engine *engine)
{
	const char *iface = engine->devices[0].nic->plan.iface;
	char text[BW_IP_STRLEN];

	for (unsigned i = 0; i < engine->device_count; i++)
		if (engine->devices[i].exception != NULL)
			return 0;
	for (unsigned i = 0; i < engine->conf.service_count; i++) {
		const struct bw_engine_service *service = &engine->conf.services[i];

		for (unsigned k = 0; k < service->addr_count; k++) {
			const struct bw_ip *ip = &service->addrs[k];

			if (bw_route_is_ours(bw_worker_iface(&engine->workers[0], ip)->network, ip))
				continue;
			bw_error(
				"%s is no address of %s, and %s on port %u is to be there; `ip addr show` lists what "
				"interfaces have",
				bw_ip_format(ip, text),
				engine->device_count == 1 && iface[0] != '\0' ? iface : "any device",
				service->service->name, service->port);
			return -EADDRNOTAVAIL;
		}
	}
	return 0;
}

/** 0, or -errno; -ENOMEM without a line. */
static int make_workers(struct bw_engine *engine)
{
	int error = 0;

	engine->gate.parties = engine->worker_count + 1;
	engine->workers = aligned_alloc(BW_CACHE_LINE, engine->worker_count * sizeof(*engine->workers));
	if (engine->workers == NULL)
		return -ENOMEM;
	memset(engine->workers, 0, engine->worker_count * sizeof(*engine->workers));
	for (unsigned i = 0; i < engine->worker_count; i++) {
		struct bw_worker *w = &engine->workers[i];

		w->engine = engine;
		w->index = (uint16_t)i;
		w->worker_count = (uint16_t)engine->worker_count;
		w->wake_fd = -1;
	}
	for (unsigned i = 0; i < engine->worker_count && error == 0; i++)
		error = make_ifaces(engine, i);
	for (unsigned i = 0; i < engine->device_count && error == 0; i++) {
		error = make_network(&engine->devices[i]);
		if (error == 0)
			error = check_that_no_other_has(&engine->devices[i]);
	}
	for (unsigned i = 0; i < engine->worker_count && error == 0; i++)
		error = init_worker(engine, i);
	return error == 0 ? check_services(engine) : error;
}

int bw_engine_create(const struct bw_engine_conf *conf, struct bw_engine **out)
{
	struct bw_engine *engine;
	uint64_t seed;
	int error = check_conf(conf);

	if (error != 0)
		return error;
	if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		return -EIO;
	engine = calloc(1, sizeof(*engine));
	if (engine == NULL) {
		error = -ENOMEM;
		goto fail;
	}
	engine->number = come_alive(seed);
	engine->conf = *conf;
	engine->worker_count = conf->worker_count;
	engine->device_count = conf->device_count;
	for (unsigned i = 0; i < engine->device_count; i++)
		engine->devices[i] = (struct bw_device){ .engine = engine,
			.conf = &engine->conf.devices[i],
			.index = i,
			.nic = conf->devices[i].nic };
	pthread_mutex_init(&engine->job_mutex, NULL);
	pthread_mutex_init(&engine->network_mutex, NULL);
	pthread_cond_init(&engine->job_cond, NULL);
	pthread_mutex_init(&engine->gate.mutex, NULL);
	pthread_cond_init(&engine->gate.cond, NULL);
	error = make_workers(engine);
	if (error != 0)
		goto fail;
	*out = engine;
	return 0;
fail:
	if (error == -ENOMEM)
		bw_error(
			"no memory for the workers and their rings; give EAL more with -m, reserve hugepages, or use "
			"fewer --workers");
	bw_engine_destroy(engine);
	return error;
}

/** From now on packets come, and the kernel's are carried. */
static int begin_devices(struct bw_engine *engine)
{
	int error = 0;

	for (unsigned i = 0; i < engine->device_count && error == 0; i++) {
		struct bw_device *device = &engine->devices[i];

		if (device->share != NULL)
			error = bw_share_begin(device);
		if (error == 0 && device->exception != NULL)
			error = bw_exception_begin(device);
	}
	return error;
}

static int start_thread(struct bw_worker *w, unsigned cpu)
{
	pthread_attr_t attr;
	cpu_set_t cpus;
	int error;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	pthread_attr_init(&attr);
	pthread_attr_setaffinity_np(&attr, sizeof(cpus), &cpus);
	error = pthread_create(&w->thread, &attr, bw_worker_main, w);
	pthread_attr_destroy(&attr);
	if (error != 0) {
		bw_error("cannot start worker %u on CPU %u: %s; see --cpus", w->index, cpu, strerror(error));
		return -error;
	}
	w->is_running = true;
	return 0;
}

static void join_workers(struct bw_engine *engine)
{
	for (unsigned i = 0; i < engine->worker_count; i++) {
		if (engine->workers[i].is_running)
			pthread_join(engine->workers[i].thread, NULL);
		engine->workers[i].is_running = false;
	}
}

int bw_engine_start(struct bw_engine *engine)
{
	int error = bw_helpers_start(engine);

	if (error != 0)
		return error;
	for (unsigned i = 0; i < engine->worker_count && error == 0; i++) {
		error = start_thread(&engine->workers[i], engine->conf.cpus[i]);
		if (error !=
			0) { /* those that run get on without the rest, and find out that they are to end */
			__atomic_store_n(&engine->start_error, error, __ATOMIC_RELEASE);
			pthread_mutex_lock(&engine->gate.mutex);
			engine->gate.parties = i + 1;
			pthread_mutex_unlock(&engine->gate.mutex);
		}
	}
	bw_gate_pass(&engine->gate); /* all have tried */
	error = __atomic_load_n(&engine->start_error, __ATOMIC_ACQUIRE);
	if (error != 0)
		atomic_store(&engine->stops, true);
	engine->has_started = error == 0;
	bw_gate_pass(&engine->gate);
	if (error != 0) {
		join_workers(engine);
		return error;
	}
	return begin_devices(engine);
}

static void wake_all(struct bw_engine *engine)
{
	for (unsigned i = 0; i < engine->worker_count; i++)
		bw_power_wake(&engine->workers[i]);
}

static unsigned open_connections(const struct bw_engine *engine)
{
	unsigned count = 0;

	for (unsigned i = 0; i < engine->worker_count; i++)
		count += atomic_load_explicit(&engine->workers[i].open_count, memory_order_relaxed);
	return count;
}

static bool all_are_draining(const struct bw_engine *engine)
{
	for (unsigned i = 0; i < engine->worker_count; i++)
		if (!__atomic_load_n(&engine->workers[i].is_draining, __ATOMIC_ACQUIRE))
			return false;
	return true;
}

unsigned bw_engine_drain(struct bw_engine *engine, bw_ns timeout_ns)
{
	struct timespec pause = { .tv_nsec = DRAIN_POLL_NS };
	bw_ns deadline = bw_clock_now() + timeout_ns;
	unsigned left;

	atomic_store_explicit(&engine->drains, true, memory_order_release);
	wake_all(engine);
	while ((!all_are_draining(engine) || open_connections(engine) > 0) && bw_clock_now() < deadline)
		nanosleep(&pause, NULL);
	if (open_connections(engine) == 0)
		return 0;
	atomic_store_explicit(&engine->drain_expired, true, memory_order_release);
	wake_all(engine);
	/* A turn has room for so many RSTs, and a device for so many packets: wait while they become fewer. */
	left = open_connections(engine);
	for (unsigned still = 0; left > 0 && still < CUT_OFF_POLLS; still++) {
		unsigned before = left;

		nanosleep(&pause, NULL);
		left = open_connections(engine);
		if (left < before)
			still = 0;
	}
	return atomic_load(&engine->cut_off_count);
}

/** The other half of finish() in worker.c: the workers wait for each other, and for this thread, step by step. */
static void stop_workers(struct bw_engine *engine)
{
	atomic_store(&engine->stops, true);
	wake_all(engine);
	for (int step = 0; step < BW_FINISH_STEPS; step++)
		bw_gate_pass(&engine->gate);
	join_workers(engine);
}

void bw_engine_destroy(struct bw_engine *engine)
{
	if (engine == NULL)
		return;
	for (unsigned i = 0; i < engine->device_count; i++) {
		bw_share_stop(&engine->devices[i]);
		bw_exception_stop(&engine->devices[i]);
	}
	if (engine->has_started)
		stop_workers(engine);
	if (engine->jobs != NULL)
		bw_helpers_stop(engine);
	for (unsigned i = 0; engine->workers != NULL && i < engine->worker_count; i++) {
		struct bw_worker *w = &engine->workers[i];

		bw_worker_free_rings(w);
		free(w->outbox);
		free(w->contexts);
		if (w->wake_fd >= 0)
			close(w->wake_fd);
	}
	for (unsigned i = 0; i < engine->device_count; i++) {
		bw_share_free(&engine->devices[i]);
		bw_exception_free(&engine->devices[i]);
		free(engine->devices[i].network);
	}
	for (unsigned i = 0; engine->workers != NULL && i < engine->worker_count; i++)
		free(engine->workers[i].ifaces);
	free(engine->workers);
	pthread_mutex_destroy(&engine->network_mutex);
	pthread_mutex_destroy(&engine->gate.mutex);
	pthread_cond_destroy(&engine->gate.cond);
	pthread_mutex_destroy(&engine->job_mutex);
	pthread_cond_destroy(&engine->job_cond);
	free(engine);
	be_gone();
}

/* ---- figures -------------------------------------------------------------------------------------------- */

const char *const bw_stage_name[BW_STAGE_COUNT] = {
	[BW_STAGE_TURN] = "turn",
	[BW_STAGE_RX] = "rx",
	[BW_STAGE_PARSE] = "parse",
	[BW_STAGE_LOOKUP] = "lookup",
	[BW_STAGE_TCP] = "tcp",
	[BW_STAGE_SERVICE] = "service",
	[BW_STAGE_INBOX] = "inbox",
	[BW_STAGE_TIMERS] = "timers",
	[BW_STAGE_EGRESS] = "egress",
	[BW_STAGE_TX] = "tx",
};

unsigned bw_engine_addrs(const struct bw_engine *engine, unsigned device, struct bw_cidr *addrs, unsigned max)
{
	const struct bw_device *d = &engine->devices[device];
	pthread_mutex_t *mutex = (pthread_mutex_t *)(uintptr_t)&engine->network_mutex;
	unsigned count;

	pthread_mutex_lock(mutex);
	count = d->conf->shares_addresses ? d->network->addr_count : d->conf->addr_count;
	count = BW_MIN(count, max);
	memcpy(addrs, d->network->addrs, count * sizeof(addrs[0]));
	pthread_mutex_unlock(mutex);
	return count;
}

unsigned bw_engine_worker_count(const struct bw_engine *engine)
{
	return engine->worker_count;
}

void bw_engine_worker_stats(const struct bw_engine *engine, unsigned worker, struct bw_worker_stats *stats)
{
	const struct bw_worker *w = &engine->workers[worker];

	*stats = (struct bw_worker_stats){
		.counters = w->counters,
		.turns = w->turns,
		.sleeps = w->sleeps,
		.busy_cycles = w->busy_cycles,
		.idle_cycles = w->idle_cycles,
		.is_sleeping = atomic_load_explicit(&w->is_sleeping, memory_order_relaxed),
	};
	for (unsigned i = 0; i < BW_STAGE_COUNT; i++)
		stats->stage_cycles[i] = w->cycles.sum[i];
	if (w->tcp != NULL)
		bw_tcp_stats(w->tcp, &stats->tcp);
}

void bw_engine_counters(const struct bw_engine *engine, struct bw_counters *sum)
{
	memset(sum, 0, sizeof(*sum));
	for (unsigned i = 0; i < engine->worker_count; i++)
		for (unsigned c = 0; c < BW_COUNTER_COUNT; c++)
			sum->value[c] += engine->workers[i].counters.value[c];
}

size_t bw_engine_unresolved(const struct bw_engine *engine, char *out, size_t out_bytes)
{
	size_t used = 0;

	for (unsigned i = 0; i < engine->worker_count; i++) {
		const struct bw_neigh_cache *cache = &engine->workers[i].neigh;

		for (unsigned k = 1; cache->entry != NULL && k <= cache->capacity; k++) {
			const struct bw_neigh *n = &cache->entry[k];
			char ip[BW_IP_STRLEN];
			int length;

			if (n->state != BW_NEIGH_INCOMPLETE && n->state != BW_NEIGH_FAILED)
				continue;
			length = snprintf(out + used, out_bytes - used, "%s does not answer %s (worker %u)\n",
				bw_ip_format(&n->ip, ip),
				bw_ip_is_v4(&n->ip) ? "ARP" : "neighbour solicitations", i);
			if (length < 0 || (size_t)length >= out_bytes - used)
				return used;
			used += (size_t)length;
		}
	}
	return used;
}

/** Prefix every line of a service's own figures with "service.worker.". */
static size_t prefix_lines(
	const char *lines, size_t bytes, const char *service, unsigned worker, char *out, size_t out_bytes)
{
	size_t used = 0;

	while (bytes > 0) {
		const char *end = memchr(lines, '\n', bytes);
		size_t line = end != NULL ? (size_t)(end - lines) : bytes;
		int length = snprintf(
			out + used, out_bytes - used, "%s.%u.%.*s\n", service, worker, (int)line, lines);

		if (length < 0 || (size_t)length >= out_bytes - used)
			break;
		used += (size_t)length;
		line += end != NULL;
		lines += line;
		bytes -= line;
	}
	return used;
}

size_t bw_engine_service_stats(const struct bw_engine *engine, char *out, size_t out_bytes)
{
	char lines[4096];
	size_t used = 0;

	for (unsigned i = 0; i < engine->worker_count; i++) {
		for (unsigned k = 0; k < engine->conf.service_count; k++) {
			const struct bw_context *ctx = &engine->workers[i].contexts[k];

			if (!ctx->is_started || ctx->service->stats == NULL)
				continue;
			used += prefix_lines(lines, ctx->service->stats(ctx, lines, sizeof(lines)),
				ctx->service->name, i, out + used, out_bytes - used);
		}
	}
	return used;
}
