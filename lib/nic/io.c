/* SPDX-License-Identifier: BSD-3-Clause */
/* The bursts, and the sleep between them. What is unusual about a device is behind one test a burst. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <linux/if_tun.h>

#include <base/assert.h>
#include <nic/capture.h>

#include "internal.h"

#define CAPTURED_BURST_MAX 256
/* LACP wants a look every tenth of a second: bond.c. */
#define LACP_SLEEP_MAX_NS  (50 * BW_NS_PER_MS)

/* net_af_packet's buffers hold 64 KiB and are few: what came in moves to the worker's pool and frees them. */
static uint16_t rx_copy(struct bw_nic *nic, unsigned queue, struct rte_mbuf **pkts, uint16_t max)
{
	struct bw_nic__queue *q = &nic->state->queue[queue];
	struct rte_mbuf *large[BW_NIC__PACKET_MBUFS / 2];
	uint16_t kept = 0;

	const uint16_t got = rte_eth_rx_burst(
		q->port_id, q->port_queue, large, BW_MIN(max, (uint16_t)BW_ARRAY_LEN(large)));

	for (uint16_t i = 0; i < got; i++) {
		pkts[kept] = rte_pktmbuf_copy(large[i], nic->pools[queue], 0, UINT32_MAX);
		if (bw_likely(pkts[kept] != NULL))
			kept++;
		else
			q->lost_no_mbuf++;
	}
	rte_pktmbuf_free_bulk(large, got);
	return kept;
}

bool bw_nic__tap_fill(const struct bw_nic *nic, unsigned queue)
{
	struct bw_nic__queue *q = &nic->state->queue[queue];

	while (q->spare_count < q->spare_max) {
		struct rte_mbuf *m = rte_pktmbuf_alloc(nic->pools[queue]);

		if (m == NULL)
			return false;
		q->spare[q->spare_count++] = m;
	}
	return true;
}

/* The frame of `bytes` bytes that was read into the spare mbufs, which become its segments. */
static struct rte_mbuf *tap_frame(struct bw_nic__queue *q, unsigned bytes)
{
	struct rte_mbuf *m = q->spare[0], *last = m;
	unsigned used = 0;

	m->pkt_len = bytes;
	for (;;) {
		last->data_len = (uint16_t)BW_MIN(bytes, (unsigned)rte_pktmbuf_tailroom(last));
		bytes -= last->data_len;
		used++;
		if (bytes == 0)
			break;
		last->next = q->spare[used];
		last = last->next;
	}
	m->nb_segs = (uint16_t)used;
	q->spare_count -= used;
	memmove(q->spare, q->spare + used, q->spare_count * sizeof(q->spare[0]));
	return m;
}

/*
 * net_tap looks at its descriptor only after a signal for it, of which the kernel sends one a packet, to whichever
 * thread; and it forgets one when it runs out of mbufs, or when two come at once. So the frames are read here,
 * and the descriptor asks for no signals (nic.c). Without mbufs they wait where they are, in the kernel.
 */
static uint16_t tap_read(struct bw_nic *nic, unsigned queue, struct rte_mbuf **pkts, uint16_t max)
{
	struct bw_nic__queue *q = &nic->state->queue[queue];
	struct tun_pi info;
	struct iovec iov[1 + BW_NIC__TAP_MBUFS_MAX] = { { .iov_base = &info, .iov_len = sizeof(info) } };
	uint16_t got = 0;

	while (got < max && bw_nic__tap_fill(nic, queue)) {
		ssize_t bytes;

		for (unsigned i = 0; i < q->spare_count; i++)
			iov[1 + i] = (struct iovec){ rte_pktmbuf_mtod(q->spare[i], void *),
				rte_pktmbuf_tailroom(q->spare[i]) };
		bytes = readv(q->fd, iov, 1 + (int)q->spare_count);
		if (bytes <= (ssize_t)sizeof(info))
			break;
		if (info.flags & TUN_PKT_STRIP) { /* the kernel's end was given a larger MTU since */
			q->lost_too_long++;
			continue;
		}
		pkts[got++] = tap_frame(q, (unsigned)bytes - sizeof(info));
	}
	return got;
}

static uint16_t rx_unusual(struct bw_nic *nic, unsigned queue, struct rte_mbuf **pkts, uint16_t max)
{
	struct bw_nic__queue *q = &nic->state->queue[queue];

	if (q->rx_via & BW_NIC__RX_LACP)
		(void)rte_eth_tx_burst(q->port_id, q->port_queue, NULL, 0);
	if (q->stash_count > 0) {
		const uint16_t count = BW_MIN(q->stash_count, max);

		memcpy(pkts, q->stash, count * sizeof(pkts[0]));
		q->stash_count = (uint16_t)(q->stash_count - count);
		memmove(q->stash, q->stash + count, q->stash_count * sizeof(q->stash[0]));
		return count;
	}
	if (q->rx_via & BW_NIC__RX_GUARDED)
		return bw_nic__guarded_rx(nic, queue, pkts, max);
	if (q->rx_via & BW_NIC__RX_READ)
		return tap_read(nic, queue, pkts, max);
	if (q->rx_via & BW_NIC__RX_COPY)
		return rx_copy(nic, queue, pkts, max);
	return rte_eth_rx_burst(q->port_id, q->port_queue, pkts, max);
}

uint16_t bw_nic_rx(struct bw_nic *nic, unsigned queue, struct rte_mbuf **pkts, uint16_t max)
{
	const struct bw_nic__queue *q = &nic->state->queue[queue];

	if (bw_unlikely(q->rx_via != 0))
		return rx_unusual(nic, queue, pkts, max);
	return rte_eth_rx_burst(q->port_id, q->port_queue, pkts, max);
}

/*
 * net_tap frees no packet that is longer than the MTU it believes in, and DPDK 22.11 lets it believe in none
 * above 1504. So with a larger one the frames go to the TAP's descriptor from here, as the driver would write
 * them: packet information first (tun.c), and a full queue is a short count.
 */
static uint16_t tap_write(const struct bw_nic *nic, unsigned queue, struct rte_mbuf **pkts, uint16_t count)
{
	struct tun_pi info = { 0 };
	struct iovec iov[1 + UINT8_MAX] = { { .iov_base = &info, .iov_len = sizeof(info) } };
	const int fd = nic->state->queue[queue].fd;
	uint16_t sent;

	for (sent = 0; sent < count; sent++) {
		int n = 1;

		BW_ASSERT_LT(pkts[sent]->nb_segs, BW_ARRAY_LEN(iov));
		for (struct rte_mbuf *m = pkts[sent]; m != NULL; m = m->next)
			iov[n++] = (struct iovec){ rte_pktmbuf_mtod(m, void *), rte_pktmbuf_data_len(m) };
		if (writev(fd, iov, n) < 0)
			break;
		rte_pktmbuf_free(pkts[sent]);
	}
	return sent;
}

static uint16_t tx_unusual(const struct bw_nic *nic, unsigned queue, struct rte_mbuf **pkts, uint16_t count)
{
	if (nic->state->tx_via == BW_NIC__TX_GUARDED)
		return bw_nic__guarded_tx(nic, queue, pkts, count);
	if (nic->state->tx_via == BW_NIC__TX_SHARED)
		return bw_nic__shared_tx(nic, queue, pkts, count);
	return tap_write(nic, queue, pkts, count);
}

static uint16_t tx(const struct bw_nic *nic, unsigned queue, struct rte_mbuf **pkts, uint16_t count)
{
	const struct bw_nic__queue *q = &nic->state->queue[queue];

	if (nic->state->tx_via != 0)
		return tx_unusual(nic, queue, pkts, count);
	return rte_eth_tx_burst(q->port_id, q->port_queue, pkts, count);
}

/* Put aside what cannot be sent: packets before it move up by one, so that what is taken stays a prefix. */
static void drop_at(struct rte_mbuf **pkts, uint16_t first, uint16_t i, struct bw_counters *counters)
{
	rte_pktmbuf_free(pkts[i]);
	memmove(pkts + first + 1, pkts + first, (size_t)(i - first) * sizeof(pkts[0]));
	bw_count(counters, BW_DROP_NO_MBUF);
}

/* What leaves is the driver's at once, so it is copied before; what the driver leaves behind was not there. */
static uint16_t tx_captured(const struct bw_nic *nic, unsigned queue, struct rte_mbuf **pkts, uint16_t count)
{
	struct bw_capture_ring *ring = nic->state->queue[queue].capture;
	struct bw_capture_mark marks[CAPTURED_BURST_MAX];
	uint16_t sent;

	/* What net_bonding leaves behind need not be the last ones. */
	count = BW_MIN(count, (uint16_t)(nic->plan.kind == BW_NIC_BOND ? 1 : BW_ARRAY_LEN(marks)));
	for (uint16_t i = 0; i < count; i++) {
		marks[i] = bw_capture_mark(ring);
		bw_capture_put(ring, BW_CAPTURE_OUT, nic->state->queue[queue].captured_as, pkts[i]);
	}
	sent = tx(nic, queue, pkts, count);
	if (sent < count)
		bw_capture_take_back(ring, marks[sent]);
	bw_capture_publish(ring);
	return sent;
}

uint16_t bw_nic_tx(struct bw_nic *nic, unsigned queue, struct rte_mbuf **pkts, uint16_t count,
	struct bw_counters *counters)
{
	const struct bw_nic__state *state = nic->state;
	const struct bw_nic__queue *q = &state->queue[queue];
	uint16_t first = 0, ready = count;

	if (bw_unlikely(!__atomic_load_n(&state->is_startable, __ATOMIC_ACQUIRE)))
		return 0;
	for (uint16_t i = 0; i < count; i++) {
		if (bw_unlikely(bw_nic__finish(nic, queue, &pkts[i], counters) != 0))
			drop_at(pkts, first++, i, counters);
	}
	if (state->tx_wants_prepare) {
		/* net_bonding asks nobody; a member's driver judges as that of the others. */
		const uint16_t port_id = state->members_attached > 0 ? state->member_ids[0] : q->port_id;
		uint16_t at = first;

		/* A packet that the driver refuses would stand before all others for ever. */
		while ((at = (uint16_t)(at + rte_eth_tx_prepare(port_id, q->port_queue, pkts + at,
						     (uint16_t)(ready - at)))) < ready)
			drop_at(pkts, first++, at++, counters);
	}
	if (bw_unlikely(q->capture != NULL))
		return (uint16_t)(first + tx_captured(nic, queue, pkts + first, (uint16_t)(ready - first)));
	return (uint16_t)(first + tx(nic, queue, pkts + first, (uint16_t)(ready - first)));
}

void bw_nic_capture(struct bw_nic *nic, unsigned queue, struct bw_capture_ring *ring, unsigned device)
{
	nic->state->queue[queue].capture = ring;
	nic->state->queue[queue].captured_as = device;
}

/*
 * Arm the device's interrupt, then look once more: a packet that came between the caller's last burst and the
 * arming raises none. What the look finds waits in the stash. False when there is no reason to sleep.
 */
static bool arm(struct bw_nic__queue *q)
{
	if (q->stash_count > 0)
		return false;
	if (rte_eth_dev_rx_intr_enable(q->port_id, q->port_queue) != 0)
		return true;
	q->stash_count = rte_eth_rx_burst(q->port_id, q->port_queue, q->stash, BW_ARRAY_LEN(q->stash));
	return q->stash_count == 0;
}

/** What a queue has to sleep on; NULL: nothing. The socket of an interface that is gone is always readable, with its error. */
static struct bw_nic__queue *interrupting(const struct bw_nic_queue *on)
{
	const bool has_one = on->queue < on->nic->rx_queues && on->nic->has_rx_interrupt &&
			     __atomic_load_n(&on->nic->state->is_startable, __ATOMIC_ACQUIRE);

	return has_one && on->nic->state->queue[on->queue].fd >= 0 ? &on->nic->state->queue[on->queue] : NULL;
}

/** A LACP bond wants its bursts however long its worker may sleep. */
static bw_ns sleep_max(const struct bw_nic_queue *on, bw_ns timeout_ns)
{
	const bool is_lacp =
		on->queue < on->nic->rx_queues && (on->nic->state->queue[on->queue].rx_via & BW_NIC__RX_LACP);

	return is_lacp ? BW_MIN(timeout_ns, LACP_SLEEP_MAX_NS) : timeout_ns;
}

void bw_nic_sleep(const struct bw_nic_queue *queues, unsigned count, int wake_fd, bw_ns timeout_ns)
{
	struct timespec timeout;
	struct bw_nic__queue *q[BW_NIC_SLEEP_MAX];
	struct pollfd fds[BW_NIC_SLEEP_MAX + 1];
	bool may_sleep = true;
	uint64_t counter;

	for (unsigned i = 0; i < count; i++) {
		timeout_ns = sleep_max(&queues[i], timeout_ns);
		q[i] = interrupting(&queues[i]);
		/* poll() passes over negative descriptors. */
		fds[i] = (struct pollfd){ .fd = q[i] != NULL ? q[i]->fd : -1, .events = POLLIN };
		if (q[i] != NULL && (q[i]->rx_via & BW_NIC__RX_STASH))
			may_sleep &= arm(q[i]);
	}
	fds[count] = (struct pollfd){ .fd = wake_fd, .events = POLLIN };
	timeout = (struct timespec){ .tv_sec = (time_t)(timeout_ns / BW_NS_PER_SEC),
		.tv_nsec = (long)(timeout_ns % BW_NS_PER_SEC) };
	if (may_sleep && ppoll(fds, count + 1, &timeout, NULL) > 0) {
		if ((fds[count].revents & POLLIN) && read(wake_fd, &counter, sizeof(counter)) < 0)
			fds[count].revents = 0; /* another sleeper on the same descriptor was faster */
		for (unsigned i = 0; i < count; i++)
			if ((fds[i].revents & POLLIN) && q[i]->fd_is_counter &&
				read(q[i]->fd, &counter, sizeof(counter)) < 0)
				fds[i].revents = 0;
	}
	for (unsigned i = 0; i < count; i++)
		if (q[i] != NULL && (q[i]->rx_via & BW_NIC__RX_STASH))
			(void)rte_eth_dev_rx_intr_disable(q[i]->port_id, q[i]->port_queue);
}
