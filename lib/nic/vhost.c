/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost-user's back-end, net_vhost: what a virtual machine's NIC is connected to.
 *
 * The driver's library has a thread for the sockets, which connects again by itself where it is the client. It stops
 * bursts before it unmaps a guest's memory, but by a store and a load of two variables without a fence between them,
 * which a CPU may swap: a burst that the thread has not seen may be under way. So bursts are under guards, and when the
 * driver tells that its link went down, which it does before it unmaps anything, all guards are taken once.
 *
 * A guest uses as many queues as it likes, up to those that are there, and may change that. What a worker has to send
 * that has none of them goes by another's.
 */
#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#include <rte_cycles.h>
#include <rte_eth_vhost.h>

#include <base/log.h>

#include "internal.h"

#define LIBRARY "librte_net_vhost.so.23" /* of DPDK 22.11 */

/* The driver is a plugin, so there is nothing to link with. */
static int (*next_queue_event)(uint16_t port_id, struct rte_eth_vhost_queue_event *event);

/* Its own where it is in use, else one of those that are. */
static void spread_tx(struct bw_nic__state *state, unsigned queues)
{
	unsigned used[BW_NIC__QUEUES_MAX], count = 0;

	for (unsigned i = 0; i < queues; i++)
		if (state->is_tx_used[i])
			used[count++] = i;
	for (unsigned i = 0; i < queues; i++)
		__atomic_store_n(&state->tx_to[i], state->is_tx_used[i] || count == 0 ? i : used[i % count],
			__ATOMIC_RELAXED);
}

/* The library offers a guest as many as it can, and what goes by one that nobody looks at is lost. */
static void warn_of_queues(struct bw_nic *nic)
{
	if (!nic->state->has_warned_of_queues)
		bw_warn("--dev %s: the guest uses more queues than the %u served here, and some of its connections will "
			"hang; give its netdev queues=%u, or add workers",
			nic->plan.spec, nic->tx_queues, nic->tx_queues);
	nic->state->has_warned_of_queues = true;
}

/* On the library's thread. */
static int on_event(uint16_t port_id, enum rte_eth_event_type type, void *arg, void *unused)
{
	struct bw_nic *nic = arg;
	struct bw_nic__state *state = nic->state;
	struct rte_eth_vhost_queue_event event;

	(void)unused;
	while (type == RTE_ETH_EVENT_QUEUE_STATE && next_queue_event(port_id, &event) == 0) {
		if (event.enable && event.queue_id >= nic->tx_queues)
			warn_of_queues(nic);
		else if (!event.rx && event.queue_id < nic->tx_queues)
			state->is_tx_used[event.queue_id] = event.enable;
	}
	if (type == RTE_ETH_EVENT_INTR_LSC && !bw_nic_is_link_up(nic)) {
		memset(state->is_tx_used, 0, sizeof(state->is_tx_used));
		/* What began before has ended then, and what begins after sees that there is no peer. */
		bw_nic__guards_take();
		bw_nic__guards_give();
	}
	spread_tx(state, nic->tx_queues);
	return 0;
}

int bw_nic__vhost_prepare(struct bw_nic *nic)
{
	struct bw_nic__state *state = nic->state;
	void *library = dlopen(LIBRARY, RTLD_LAZY | RTLD_NOLOAD);
	void *found = library != NULL ? dlsym(library, "rte_eth_vhost_get_queue_event") : NULL;

	if (found == NULL) {
		bw_error("--dev %s: DPDK's driver net_vhost is not of the version that this was built for",
			nic->plan.spec);
		return -ENOSYS;
	}
	*(void **)&next_queue_event = found;
	for (unsigned i = 0; i < BW_NIC__QUEUES_MAX; i++)
		state->tx_to[i] = i;
	for (unsigned i = 0; i < nic->rx_queues; i++)
		state->queue[i].rx_via |= BW_NIC__RX_GUARDED;
	state->tx_via = BW_NIC__TX_SHARED;
	if (rte_eth_dev_callback_register(nic->port_id, RTE_ETH_EVENT_INTR_LSC, on_event, nic) != 0 ||
		rte_eth_dev_callback_register(nic->port_id, RTE_ETH_EVENT_QUEUE_STATE, on_event, nic) != 0) {
		bw_error("--dev %s: out of memory", nic->plan.spec);
		return -ENOMEM;
	}
	return 0;
}

void bw_nic__vhost_close(struct bw_nic *nic)
{
	/* The library's thread may wait for the rest of a message, and closing the port would wait for the thread. */
	bw_nic__socket_shut(nic->plan.socket, nic->plan.is_socket_server);
	while (rte_eth_dev_callback_unregister(nic->port_id, RTE_ETH_EVENT_INTR_LSC, on_event, nic) ==
			-EAGAIN ||
		rte_eth_dev_callback_unregister(nic->port_id, RTE_ETH_EVENT_QUEUE_STATE, on_event, nic) ==
			-EAGAIN)
		rte_delay_us_sleep(100);
	(void)rte_eth_dev_stop(nic->port_id);
	(void)rte_eth_dev_close(nic->port_id);
}
