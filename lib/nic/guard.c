/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guards between bursts and what takes a port's rings away.
 *
 * The rings of memif and of vhost-user devices are a peer's, and go when it goes: a thread that is not a worker then
 * unmaps them, or closes the port, while a worker may be in the middle of a burst. So such ports' bursts are under a
 * guard, one a queue and direction; one that finds its guard taken does nothing. Who takes rings away takes all guards.
 */
#include <sched.h>

#include "internal.h"

/* Of all such ports: what takes them all is rare. */
static struct {
	bool is_taken;
} __rte_cache_aligned guards[2 * BW_NIC__QUEUES_MAX];

static bool try_take(unsigned i)
{
	return !__atomic_exchange_n(&guards[i].is_taken, true, __ATOMIC_ACQUIRE);
}

static void give(unsigned i)
{
	__atomic_store_n(&guards[i].is_taken, false, __ATOMIC_RELEASE);
}

/* A burst takes microseconds, but its thread may have been preempted. */
void bw_nic__guards_take(void)
{
	for (unsigned i = 0; i < BW_ARRAY_LEN(guards); i++) {
		while (!try_take(i))
			sched_yield();
	}
}

void bw_nic__guards_give(void)
{
	for (unsigned i = 0; i < BW_ARRAY_LEN(guards); i++)
		give(i);
}

uint16_t bw_nic__guarded_rx(struct bw_nic *nic, unsigned queue, struct rte_mbuf **pkts, uint16_t max)
{
	uint16_t count = 0;

	if (bw_unlikely(!try_take(queue)))
		return 0;
	if (bw_likely(__atomic_load_n(&nic->state->is_port_started, __ATOMIC_ACQUIRE)))
		count = rte_eth_rx_burst(nic->port_id, (uint16_t)queue, pkts, max);
	give(queue);
	return count;
}

uint16_t bw_nic__guarded_tx(const struct bw_nic *nic, unsigned queue, struct rte_mbuf **pkts, uint16_t count)
{
	uint16_t sent = 0;

	if (bw_unlikely(!try_take(BW_NIC__QUEUES_MAX + queue)))
		return 0;
	if (bw_likely(__atomic_load_n(&nic->state->is_port_started, __ATOMIC_ACQUIRE)))
		sent = rte_eth_tx_burst(nic->port_id, (uint16_t)queue, pkts, count);
	give(BW_NIC__QUEUES_MAX + queue);
	return sent;
}

uint16_t bw_nic__shared_tx(const struct bw_nic *nic, unsigned queue, struct rte_mbuf **pkts, uint16_t count)
{
	return bw_nic__guarded_tx(
		nic, __atomic_load_n(&nic->state->tx_to[queue], __ATOMIC_RELAXED), pkts, count);
}
