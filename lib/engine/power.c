/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * CPU manners. An adaptive worker spins for a moment after its last work, because the next packet of a busy
 * connection is microseconds away; then it sleeps, on the device's interrupt where the driver has one, else
 * in steps that double to a millisecond. So it does while the device takes no packet, since no interrupt says
 * when it will again.
 *
 * Nobody's wake-up is lost: the sleeper says so before it looks at its rings a last time, the waker puts its
 * message in before it looks whether somebody sleeps, with a fence on both sides.
 */
#include <unistd.h>

#include <rte_pause.h>

#include "worker.h"

#define SPIN_NS      (200 * BW_NS_PER_US)
#define STEP_MIN_NS  (20 * BW_NS_PER_US)
#define STEP_MAX_NS  (1 * BW_NS_PER_MS)
#define SLEEP_MAX_NS (100 * BW_NS_PER_MS) /* services' ticks, and orders from the controlling thread */

/** Nothing of an interface's waits for this turn. Without room, what others built for our queue has to. */
static bool is_idle(const struct bw_iface *iface)
{
	return (iface->tx_count >= iface->tx_bound || rte_ring_empty(iface->tx_in)) &&
	       (iface->told_in == NULL || rte_ring_empty(iface->told_in)) && !bw_exception_has_for(iface);
}

static bool inbox_is_empty(const struct bw_worker *w)
{
	for (unsigned i = 0; i < w->iface_count; i++)
		if (!is_idle(&w->ifaces[i]))
			return false;
	return rte_ring_empty(w->packets_in) && rte_ring_empty(w->control_in) && rte_ring_empty(w->mail_in) &&
	       rte_ring_empty(w->jobs_done);
}

/** Its device has taken no packet, or says nothing of those that come: it has to be looked at. */
static bool has_to_be_looked_at(const struct bw_iface *iface)
{
	return iface->tx_count > 0 || (iface->has_own_rx && !iface->nic->has_rx_interrupt);
}

/** Told by the controlling thread, perhaps since this turn looked. */
static bool has_orders(const struct bw_worker *w)
{
	struct bw_engine *engine = w->engine;

	return atomic_load_explicit(&engine->stops, memory_order_relaxed) ||
	       (atomic_load_explicit(&engine->drains, memory_order_relaxed) && !w->is_draining) ||
	       (atomic_load_explicit(&engine->drain_expired, memory_order_relaxed) && !w->has_cut_off);
}

void bw_power_idle(struct bw_worker *w)
{
	bw_ns next = BW_MIN(bw_tcp_next_deadline(w->tcp), bw_wheel_next(&w->wheel));
	bw_ns limit = SLEEP_MAX_NS;
	struct bw_nic_queue queues[BW_DEVICES_MAX];
	bool is_stuck = false, is_to_be_looked_at = false;

	if (w->now - w->active_at < SPIN_NS) {
		rte_pause();
		return;
	}
	if (w->has_ticks)
		next = BW_MIN(next, w->tick_due_at);
	for (unsigned i = 0; i < w->iface_count; i++) {
		const struct bw_iface *iface = &w->ifaces[i];

		queues[i] = (struct bw_nic_queue){ iface->nic,
			iface->has_own_rx ? iface->rx_queue : BW_NIC_NO_QUEUE };
		is_stuck |= iface->tx_count > 0;
		is_to_be_looked_at |= has_to_be_looked_at(iface);
	}
	if (is_to_be_looked_at) {
		w->sleep_ns = w->sleep_ns == 0 ? STEP_MIN_NS : BW_MIN(w->sleep_ns * 2, STEP_MAX_NS);
		limit = w->sleep_ns;
	}
	if (next > w->now)
		limit = BW_MIN(limit, next - w->now);
	else if (!is_stuck) /* what is due now and was not done waits for the device */
		return;
	atomic_store_explicit(&w->is_sleeping, true, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
	if (inbox_is_empty(w) && !has_orders(w)) {
		w->sleeps++;
		bw_nic_sleep(queues, w->iface_count, w->wake_fd, limit);
	}
	atomic_store_explicit(&w->is_sleeping, false, memory_order_relaxed);
}

void bw_power_wake(struct bw_worker *w)
{
	uint64_t one = 1;

	atomic_thread_fence(memory_order_seq_cst);
	if (bw_likely(!atomic_load_explicit(&w->is_sleeping, memory_order_relaxed)))
		return;
	/* An eventfd's write fails only when its counter is full, and then the sleeper is awake already. */
	if (write(w->wake_fd, &one, sizeof(one)) < 0)
		return;
}
