/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost-user's front-end, net_virtio_user: what a virtual machine would be to a virtual switch.
 *
 * The driver wants its peer before there is a port: as a client it connects while it is probed, or fails; as a server it
 * waits for the peer there, for as long as it takes. It has a port for one connection, as a client, and as a server it
 * goes on with the next one on EAL's interrupt thread, with whatever features that peer has. So a thread of ours has the
 * port: it probes, configures and starts one when there is a peer, watches the connection, and closes and removes the port
 * when that ends. Workers see a nic whose link is down meanwhile; their bursts are under the guards of guard.c.
 *
 * What the nic is, is known without a peer: no offloads are asked for, so that the peer does no less than complete
 * packets and gets no others, and any buffer holds a whole frame, so that none has to be spread.
 *
 * Whatever a peer does or leaves undone in the middle of a message, the driver waits for in this thread. Its end shuts
 * the sockets down, which wakes the driver.
 */
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <rte_alarm.h>
#include <rte_errno.h>
#include <rte_interrupts.h>
#include <rte_memory.h>

#include <base/log.h>

#include "internal.h"

/* Between attempts, doubled from one to the next; the last where somebody breaks off again and again, since the driver
   forgets the descriptors of each such attempt. */
#define WAIT_MIN_MS   100
#define WAIT_MAX_MS   1000
#define WAIT_LONG_MS  30000
/* A peer that is there is there at once. */
#define FIRST_WAIT_MS 300
/* Who stays for less has broken off. */
#define STAY_MIN_NS   BW_NS_PER_SEC
/* For an orderly farewell at the end. */
#define FAREWELL_MS   1000
/* Of vhost-user's table of memory regions. */
#define REGIONS_MAX   8

struct bw_nic__virtio {
	struct bw_nic *nic;
	pthread_t thread;
	bool is_running;
	bool is_ending, has_tried, is_attached; /* atomic */
	bool has_complained;
	unsigned refusals; /* in a row: somebody was there, and broke off */
	int wake_fd;       /* readable at the end */
	char device_name[64];
	struct rte_device *device; /* NULL: there is no port */
	uint16_t port_id;
	int fd; /* the connection's; the driver's own */
};

void bw_nic__virtio_describe(const struct bw_nic *nic, struct rte_eth_dev_info *info)
{
	memset(info, 0, sizeof(*info));
	info->driver_name = "net_virtio_user";
	info->max_rx_queues = info->max_tx_queues = (uint16_t)nic->plan.queues_max;
	info->max_rx_pktlen = UINT32_MAX;
	info->max_mtu = UINT16_MAX;
	info->tx_offload_capa = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	info->tx_desc_lim.nb_seg_max = info->tx_desc_lim.nb_mtu_seg_max = UINT8_MAX;
}

/*
 * The driver looks at its link once, when it starts. Where it then finds it down it would have EAL call it for the next
 * connection, with a port that is closed by then.
 */
bool bw_nic__virtio_keeps_off(const struct rte_intr_handle *handle, rte_intr_callback_fn fn)
{
	Dl_info info;

	return rte_intr_type_get(handle) == RTE_INTR_HANDLE_VDEV && dladdr(*(void **)&fn, &info) != 0 &&
	       strstr(info.dli_fname, "librte_net_virtio") != NULL;
}

/* --- memory --------------------------------------------------------------------------------------------- */

struct regions {
	int fds[REGIONS_MAX + 1];
	unsigned count;
};

static int add_region(const struct rte_memseg_list *list, const struct rte_memseg *segment, void *arg)
{
	struct regions *regions = arg;
	int fd;

	if (list->external)
		return 0;
	fd = rte_memseg_get_fd_thread_unsafe(segment); /* the walk holds its lock */
	if (fd < 0)
		return -rte_errno;
	for (unsigned i = 0; i < regions->count; i++)
		if (regions->fds[i] == fd)
			return 0;
	if (regions->count < BW_ARRAY_LEN(regions->fds))
		regions->fds[regions->count++] = fd;
	return 0;
}

/* The peer maps all of EAL's memory, which it is sent as descriptors of files. */
static int check_memory(const struct bw_nic *nic)
{
	struct regions regions = { 0 };
	const int rc = rte_memseg_walk(add_region, &regions);

	if (rc < 0) {
		bw_error(
			"--dev %s: the memory cannot be shared (%s); leave memory options away behind \"--\"",
			nic->plan.spec, strerror(-rc));
		return rc;
	}
	if (regions.count > REGIONS_MAX) {
		bw_error(
			"--dev %s: the memory is in more than the %d pieces that can be shared; add --single-file-segments "
			"behind \"--\"",
			nic->plan.spec, REGIONS_MAX);
		return -E2BIG;
	}
	return 0;
}

/* --- a port, while there is a peer ---------------------------------------------------------------------- */

static bool is_ending(const struct bw_nic__virtio *v)
{
	return __atomic_load_n(&v->is_ending, __ATOMIC_ACQUIRE);
}

static int probe(struct bw_nic__virtio *v)
{
	const struct bw_nic_plan *plan = &v->nic->plan;
	const char *args = plan->devargs + strcspn(plan->devargs, ",");
	char devargs[sizeof(plan->devargs) + 64], mac[BW_MAC_STRLEN];
	struct rte_eth_dev_info info;
	unsigned i = v->nic->state->serial;
	int rc;

	do
		snprintf(v->device_name, sizeof(v->device_name), "net_virtio_user%u", i++);
	while (rte_eth_dev_get_port_by_name(v->device_name, &v->port_id) == 0);
	snprintf(devargs, sizeof(devargs), "%s%s,mac=%s", v->device_name, args,
		bw_mac_format(&v->nic->mac, mac));
	rc = bw_nic__probe(devargs, v->device_name, true, &v->port_id);
	if (rc == 0)
		rc = rte_eth_dev_info_get(v->port_id, &info);
	v->device = rc == 0 ? info.device : NULL;
	if (rc != 0 || info.max_rx_queues >= v->nic->rx_queues)
		return rc;
	if (!v->has_complained)
		bw_warn("--dev %s: the other end has %u queue%s, and %u are asked for; give queues=%u at both",
			plan->spec, info.max_rx_queues, info.max_rx_queues == 1 ? "" : "s", v->nic->rx_queues,
			info.max_rx_queues);
	v->has_complained = true;
	return -EINVAL;
}

static int configure(struct bw_nic__virtio *v)
{
	const struct bw_nic *nic = v->nic;
	struct rte_eth_conf conf = { .txmode = { .offloads = RTE_ETH_TX_OFFLOAD_MULTI_SEGS } };
	struct rte_eth_dev_info info;
	int rc = rte_eth_dev_info_get(v->port_id, &info);

	/* Which receives what fits our buffers, whatever it is told; and takes the headroom's part of it for the buffer's. */
	conf.rxmode.mtu = BW_MIN(nic->mtu, (uint16_t)RTE_ETHER_MTU);
	if (rc == 0)
		rc = rte_eth_dev_configure(
			v->port_id, (uint16_t)nic->rx_queues, (uint16_t)nic->tx_queues, &conf);
	info.default_txconf.offloads = conf.txmode.offloads;
	for (uint16_t i = 0; i < nic->rx_queues && rc == 0; i++)
		rc = rte_eth_rx_queue_setup(v->port_id, i, nic->rx_descs, (unsigned)SOCKET_ID_ANY,
			&info.default_rxconf, nic->pools[i]);
	for (uint16_t i = 0; i < nic->tx_queues && rc == 0; i++)
		rc = rte_eth_tx_queue_setup(
			v->port_id, i, nic->tx_descs, (unsigned)SOCKET_ID_ANY, &info.default_txconf);
	return rc == 0 ? rte_eth_dev_start(v->port_id) : rc;
}

static void set_started(struct bw_nic *nic, uint16_t port_id, bool is_started)
{
	bw_nic__guards_take();
	nic->port_id = port_id;
	__atomic_store_n(&nic->state->is_port_started, is_started, __ATOMIC_RELEASE);
	bw_nic__guards_give();
}

static void on_alarm(void *is_over)
{
	__atomic_store_n((bool *)is_over, true, __ATOMIC_RELEASE);
}

/* The driver may have set an alarm that uses the port; alarms follow each other in the order of their times. */
static void wait_for_alarms(void)
{
	bool is_over = false;

	if (rte_eal_alarm_set(1000, on_alarm, &is_over) != 0)
		return;
	while (!__atomic_load_n(&is_over, __ATOMIC_ACQUIRE))
		usleep(200);
}

static void detach(struct bw_nic__virtio *v)
{
	if (v->device != NULL) {
		set_started(v->nic, RTE_MAX_ETHPORTS, false);
		wait_for_alarms();
		(void)rte_eth_dev_stop(v->port_id);
		(void)rte_eth_dev_close(v->port_id);
		bw_nic__remove(v->device);
		v->device = NULL;
	}
	/* Those of a handshake that the peer broke off, which the driver has forgotten. */
	bw_nic__socket_close(v->nic->plan.socket, v->nic->plan.is_socket_server);
	__atomic_store_n(&v->is_attached, false, __ATOMIC_RELEASE);
}

/* The user is told, once. */
static void complain(struct bw_nic__virtio *v)
{
	const struct bw_nic_plan *plan = &v->nic->plan;

	v->refusals++;
	if (!v->has_complained)
		bw_warn("--dev %s: who is at %s breaks off, or does not speak vhost-user; trying again, now and then",
			plan->spec, plan->socket);
	v->has_complained = true;
}

/* Was there somebody? */
static void note_refusal(struct bw_nic__virtio *v)
{
	const struct bw_nic_plan *plan = &v->nic->plan;

	if (!is_ending(v) && bw_nic__socket_find(plan->socket, plan->is_socket_server) >= 0)
		complain(v);
}

/*
 * Does a server speak vhost-user? One that has broken off is asked for its features first, which leaves nothing behind
 * when it does so again.
 */
static bool answers(const char *path)
{
	static const struct timeval patience = { .tv_sec = 1 };
	static const uint32_t get_features[] = { 1, 1,
		0 };                /* request, flags: the version, bytes that follow */
	uint32_t answer[5] = { 0 }; /* the same, and the features */
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool is_good;

	if (fd < 0)
		return false;
	memcpy(addr.sun_path, path, strlen(path) + 1);
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	is_good =
		connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 &&
		send(fd, get_features, sizeof(get_features), MSG_NOSIGNAL) == (ssize_t)sizeof(get_features) &&
		recv(fd, answer, sizeof(answer), MSG_WAITALL) == (ssize_t)sizeof(answer) && answer[0] == 1 &&
		answer[2] == sizeof(uint64_t);
	close(fd);
	return is_good;
}

static int attach(struct bw_nic__virtio *v)
{
	const struct bw_nic_plan *plan = &v->nic->plan;
	const bool is_server = plan->is_socket_server;
	int rc;

	if (!is_server && access(plan->socket, R_OK | W_OK) != 0) {
		rc = -errno;
		if (rc == -EACCES && !v->has_complained) {
			/* Root without its capabilities, which it has given up by now, is a user as any other. */
			bw_warn("--dev %s: may not connect to %s: %s; have it opened to this user",
				plan->spec, plan->socket, strerror(-rc));
			v->has_complained = true;
		}
		return rc;
	}
	if (!is_server && v->refusals > 0 && !answers(plan->socket))
		return -EPROTO;
	if (is_server && bw_nic__socket_is_stale(plan->socket))
		(void)unlink(plan->socket); /* our own, of the peer before */
	rc = probe(v);
	if (rc == 0)
		rc = configure(v);
	v->fd = rc == 0 ? bw_nic__socket_find(plan->socket, is_server) : -1;
	if (v->fd < 0 || is_ending(v)) {
		note_refusal(v);
		detach(v);
		return rc != 0 ? rc : -ENOTCONN;
	}
	__atomic_store_n(&v->is_attached, true, __ATOMIC_RELEASE);
	set_started(v->nic, v->port_id, true);
	return 0;
}

/* Until the peer is gone, or we are to go. It has nothing to say by itself. */
static void stay(const struct bw_nic__virtio *v)
{
	struct pollfd fds[] = { { .fd = v->fd, .events = POLLRDHUP },
		{ .fd = v->wake_fd, .events = POLLIN } };

	do
		(void)poll(fds, BW_ARRAY_LEN(fds), -1);
	while (fds[0].revents == 0 && fds[1].revents == 0 && !is_ending(v));
}

/* The engine's clock may not have begun yet. */
static bw_ns monotonic(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (bw_ns)now.tv_sec * BW_NS_PER_SEC + (bw_ns)now.tv_nsec;
}

static void *run(void *arg)
{
	struct bw_nic__virtio *v = arg;
	struct pollfd wake = { .fd = v->wake_fd, .events = POLLIN };
	int wait_ms = WAIT_MIN_MS;

	while (!is_ending(v)) {
		const bool is_there = attach(v) == 0;

		__atomic_store_n(&v->has_tried, true, __ATOMIC_RELEASE);
		if (is_there) {
			const bw_ns since = monotonic();

			stay(v);
			if (monotonic() - since >= STAY_MIN_NS) {
				v->has_complained = false;
				v->refusals = 0;
				wait_ms = WAIT_MIN_MS;
			} else if (!is_ending(v)) {
				complain(v);
			}
			detach(v);
		}
		(void)poll(&wake, 1, wait_ms);
		wait_ms = BW_MIN(2 * wait_ms, v->refusals > 1 ? WAIT_LONG_MS : WAIT_MAX_MS);
	}
	return NULL;
}

/* --- start and end -------------------------------------------------------------------------------------- */

/* The driver writes to peers that have gone, and minds no signal. */
static int create_thread(struct bw_nic__virtio *v)
{
	sigset_t held, before;
	int rc;

	sigemptyset(&held);
	sigaddset(&held, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &held, &before);
	rc = pthread_create(&v->thread, NULL, run, v);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc == 0)
		pthread_setname_np(v->thread, "bw-virtio");
	v->is_running = rc == 0;
	return -rc;
}

int bw_nic__virtio_start(struct bw_nic *nic)
{
	struct bw_nic__state *state = nic->state;
	struct bw_nic__virtio *v;
	int rc = check_memory(nic);

	if (rc != 0)
		return rc;
	for (unsigned i = 0; i < nic->rx_queues; i++)
		state->queue[i].rx_via |= BW_NIC__RX_GUARDED;
	state->tx_via = BW_NIC__TX_GUARDED;
	state->is_startable = true;
	state->virtio = v = calloc(1, sizeof(*v));
	if (v == NULL) {
		bw_error("--dev %s: out of memory", nic->plan.spec);
		return -ENOMEM;
	}
	v->nic = nic;
	v->wake_fd = eventfd(0, EFD_CLOEXEC);
	rc = v->wake_fd < 0 ? -errno : create_thread(v);
	if (rc != 0) {
		bw_error("--dev %s: no thread for it: %s", nic->plan.spec, strerror(-rc));
		return rc;
	}
	for (unsigned ms = 0; ms < FIRST_WAIT_MS && !__atomic_load_n(&v->has_tried, __ATOMIC_ACQUIRE);
		ms += 5)
		usleep(5000);
	return 0;
}

void bw_nic__virtio_close(struct bw_nic *nic)
{
	struct bw_nic__state *state = nic->state;
	struct bw_nic__virtio *v = state->virtio;

	if (v == NULL)
		return;
	__atomic_store_n(&v->is_ending, true, __ATOMIC_RELEASE);
	if (v->wake_fd >= 0)
		(void)eventfd_write(v->wake_fd, 1);
	for (unsigned ms = 0; v->is_running && pthread_tryjoin_np(v->thread, NULL) != 0; ms += 5) {
		if (ms >= FAREWELL_MS || !__atomic_load_n(&v->is_attached, __ATOMIC_ACQUIRE))
			bw_nic__socket_shut(nic->plan.socket, nic->plan.is_socket_server);
		usleep(5000);
	}
	if (v->wake_fd >= 0)
		close(v->wake_fd);
	/* A server that was still waiting has left its file, as far as it is ours. */
	if (nic->plan.is_socket_server && bw_nic__socket_is_stale(nic->plan.socket))
		(void)unlink(nic->plan.socket);
	free(v);
	state->virtio = NULL;
}
