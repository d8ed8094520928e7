/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * memif's control side.
 *
 * net_memif handles control messages on EAL's interrupt thread, and when one says that the peer has left, it unmaps
 * the rings that a worker may be in the middle of a burst on. So its handlers run under the guards that bursts take, too
 * (guard.c). To get at the handlers, the functions of EAL's that the driver registers them with are defined here as well:
 * the driver is a plugin, and finds what the executable has before what the libraries have.
 *
 * net_memif's server waits for clients on its own, but its client connects once, when the port is started, and
 * fails the start when nobody listens. A client here starts and restarts whenever its server does: a timer of
 * EAL's interrupt thread starts the port until that works, and restarts it when the link went down. Bursts keep off
 * a port that is not started, and it is stopped under the guard.
 */
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <rte_alarm.h>
#include <rte_interrupts.h>

#include <base/assert.h>
#include <base/log.h>

#include "internal.h"

#define TICK_US         100000
/* A second of no link: long enough for a handshake in progress. */
#define LINK_DOWN_TICKS 10

/* --- the driver's handlers ------------------------------------------------------------------------------ */

static unsigned ports_open;

/* It has two: of its listening sockets, and of its connections. EAL finds a handler by function and argument. */
static rte_intr_callback_fn handlers[2];

static void run(rte_intr_callback_fn handler, void *arg)
{
	/* The driver leaves its listener behind. EAL calls for as long as there is something to read. */
	if (__atomic_load_n(&ports_open, __ATOMIC_ACQUIRE) == 0)
		return;
	bw_nic__guards_take();
	handler(arg);
	bw_nic__guards_give();
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
	if (bw_nic__virtio_keeps_off(handle, fn))
		return 0;
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
	bw_nic__guards_take();
	if (nic->state->is_port_started)
		(void)rte_eth_dev_stop(nic->port_id);
	nic->state->is_port_started = false;
	bw_nic__guards_give();
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
