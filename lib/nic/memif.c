/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * memif's control side.
 *
 * net_memif handles control messages on EAL's interrupt thread, and when one says that the peer has left, it unmaps
 * the rings that a worker may be in the middle of a burst on. So its handlers run under a guard that bursts take, too:
 * one a queue, and a burst that finds its guard taken does nothing. To get at the handlers, the functions of EAL's that
 * the driver registers them with are defined here as well: the driver is a plugin, and finds what the executable has
 * before what the libraries have.
 *
 * net_memif's server waits for clients on its own, but its client connects once, when the port is started, and
 * fails the start when nobody listens. A client here starts and restarts whenever its server does: a timer of
 * EAL's interrupt thread starts the port until that works, and restarts it when the link went down. Bursts keep off
 * a port that is not started, and it is stopped under the guard.
 */
#include <dlfcn.h>
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <rte_alarm.h>
#include <rte_interrupts.h>

#include <base/assert.h>
#include <base/log.h>

#include "internal.h"

#define TICK_US         100000
/* A second of no link: long enough for a handshake in progress. */
#define LINK_DOWN_TICKS 10

int bw_nic__memif_claim(const char *spec, const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct stat st;
	int fd, rc;

	if (lstat(path, &st) != 0)
		return 0;
	if (!S_ISSOCK(st.st_mode)) {
		bw_error("--dev %s: %s exists and is not a socket; name another path", spec, path);
		return -EBUSY;
	}
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		rc = -errno;
		bw_error("--dev %s: no socket: %s", spec, strerror(-rc));
		return rc;
	}
	memcpy(addr.sun_path, path, strlen(path) + 1); /* the caller has checked its length */
	rc = connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 ? 0 : -errno;
	close(fd);
	/* Refused: the file outlived its process. Anything else means that somebody is there. */
	if (rc != -ECONNREFUSED) {
		bw_error(
			"--dev %s: another process listens on %s; stop it, name another path, or be its client with "
			"role=client",
			spec, path);
		return -EBUSY;
	}
	if (unlink(path) != 0) {
		rc = -errno;
		bw_error("--dev %s: cannot remove the stale socket %s: %s", spec, path, strerror(-rc));
		return rc;
	}
	return 0;
}

/* --- the guard ------------------------------------------------------------------------------------------ */

static struct {
	bool is_taken;
} __rte_cache_aligned guards[BW_NIC__QUEUES_MAX]; /* of all memif ports: control messages are rare */

static unsigned ports_open;

static bool guard_try(unsigned queue)
{
	return !__atomic_exchange_n(&guards[queue].is_taken, true, __ATOMIC_ACQUIRE);
}

static void guard_give(unsigned queue)
{
	__atomic_store_n(&guards[queue].is_taken, false, __ATOMIC_RELEASE);
}

/* A burst takes microseconds, but its thread may have been preempted. */
static void guards_take(void)
{
	for (unsigned i = 0; i < BW_NIC__QUEUES_MAX; i++) {
		while (!guard_try(i))
			sched_yield();
	}
}

static void guards_give(void)
{
	for (unsigned i = 0; i < BW_NIC__QUEUES_MAX; i++)
		guard_give(i);
}

uint16_t bw_nic__memif_rx(struct bw_nic *nic, unsigned queue, struct rte_mbuf **pkts, uint16_t max)
{
	uint16_t count = 0;

	if (bw_unlikely(!guard_try(queue)))
		return 0;
	if (bw_likely(__atomic_load_n(&nic->state->is_port_started, __ATOMIC_ACQUIRE)))
		count = rte_eth_rx_burst(nic->port_id, (uint16_t)queue, pkts, max);
	guard_give(queue);
	return count;
}

uint16_t bw_nic__memif_tx(const struct bw_nic *nic, unsigned queue, struct rte_mbuf **pkts, uint16_t count)
{
	uint16_t sent = 0;

	if (bw_unlikely(!guard_try(queue)))
		return 0;
	if (bw_likely(__atomic_load_n(&nic->state->is_port_started, __ATOMIC_ACQUIRE)))
		sent = rte_eth_tx_burst(nic->port_id, (uint16_t)queue, pkts, count);
	guard_give(queue);
	return sent;
}

/* --- the driver's handlers ------------------------------------------------------------------------------ */

/* It has two: of its listening sockets, and of its connections. EAL finds a handler by function and argument. */
static rte_intr_callback_fn handlers[2];

static void run(rte_intr_callback_fn handler, void *arg)
{
	/* The driver leaves its listener behind. EAL calls for as long as there is something to read. */
	if (__atomic_load_n(&ports_open, __ATOMIC_ACQUIRE) == 0)
		return;
	guards_take();
	handler(arg);
	guards_give();
}

static void run_first(void *arg)
{
	run(handlers[0], arg);
}

static void run_second(void *arg)
{
	run(handlers[1], arg);
}

static bool is_of_memif(rte_intr_callback_fn fn)
{
	Dl_info info;

	return dladdr(*(void **)&fn, &info) != 0 && strstr(info.dli_fname, "librte_net_memif") != NULL;
}

/* What EAL is given in its place. */
static rte_intr_callback_fn guarded(rte_intr_callback_fn fn)
{
	static const rte_intr_callback_fn runs[] = { run_first, run_second };

	if (!is_of_memif(fn))
		return fn;
	for (unsigned i = 0; i < BW_ARRAY_LEN(handlers); i++) {
		rte_intr_callback_fn known = NULL;

		if (__atomic_compare_exchange_n(
			    &handlers[i], &known, fn, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE) ||
			known == fn)
			return runs[i];
	}
	BW_ASSERT(!"a third handler");
	return fn;
}

/* EAL's own. */
#define NEXT(fn)                                                                                             \
	__extension__({                                                                                      \
		void *next = dlsym(RTLD_NEXT, #fn);                                                          \
                                                                                                             \
		BW_ASSERT(next != NULL);                                                                     \
		*(__typeof__(&fn) *)&next;                                                                   \
	})

__attribute__((used)) int rte_intr_callback_register(
	const struct rte_intr_handle *handle, rte_intr_callback_fn fn, void *arg)
{
	return NEXT(rte_intr_callback_register)(handle, guarded(fn), arg);
}

__attribute__((used)) int rte_intr_callback_unregister(
	const struct rte_intr_handle *handle, rte_intr_callback_fn fn, void *arg)
{
	return NEXT(rte_intr_callback_unregister)(handle, guarded(fn), arg);
}

__attribute__((used)) int rte_intr_callback_unregister_pending(const struct rte_intr_handle *handle,
	rte_intr_callback_fn fn, void *arg, rte_intr_unregister_callback_fn afterwards)
{
	return NEXT(rte_intr_callback_unregister_pending)(handle, guarded(fn), arg, afterwards);
}

/* --- start and stop ------------------------------------------------------------------------------------- */

static bool start_port(struct bw_nic *nic)
{
	const bool is_started = rte_eth_dev_start(nic->port_id) == 0;

	__atomic_store_n(&nic->state->is_port_started, is_started, __ATOMIC_RELEASE);
	return is_started;
}

static void stop_port(struct bw_nic *nic)
{
	guards_take();
	if (nic->state->is_port_started)
		(void)rte_eth_dev_stop(nic->port_id);
	nic->state->is_port_started = false;
	guards_give();
}

static void on_tick(void *arg)
{
	struct bw_nic *nic = arg;
	struct bw_nic__state *state = nic->state;

	if (!state->is_port_started) {
		(void)start_port(nic);
		state->link_down_ticks = 0;
	} else if (bw_nic_is_link_up(nic)) {
		state->link_down_ticks = 0;
	} else if (++state->link_down_ticks == LINK_DOWN_TICKS) {
		stop_port(nic);
	}
	rte_eal_alarm_set(TICK_US, on_tick, nic);
}

int bw_nic__memif_start(struct bw_nic *nic, bool is_client)
{
	struct bw_nic__state *state = nic->state;

	for (unsigned i = 0; i < nic->rx_queues; i++)
		state->queue[i].rx_via |= BW_NIC__RX_GUARDED;
	state->tx_via = BW_NIC__TX_GUARDED;
	state->is_startable = true;
	__atomic_add_fetch(&ports_open, 1, __ATOMIC_RELEASE);
	if (!start_port(nic) && !is_client)
		return -EIO;
	return is_client ? rte_eal_alarm_set(TICK_US, on_tick, nic) : 0;
}

/* On the interrupt thread, so that no handler of the driver's is under way. */
static void on_close(void *arg)
{
	struct bw_nic *nic = arg;

	stop_port(nic);
	(void)rte_eth_dev_close(nic->port_id);
	__atomic_sub_fetch(&ports_open, 1, __ATOMIC_RELEASE);
	__atomic_store_n(&nic->state->is_port_open, false, __ATOMIC_RELEASE);
}

void bw_nic__memif_close(struct bw_nic *nic)
{
	rte_eal_alarm_cancel(on_tick, nic); /* waits for one that runs */
	if (rte_eal_alarm_set(1, on_close, nic) != 0)
		on_close(nic);
	while (__atomic_load_n(&nic->state->is_port_open, __ATOMIC_ACQUIRE))
		usleep(100);
}
