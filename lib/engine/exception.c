/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * The exception path of a port that DPDK has: a TAP with the port's MAC, by which the kernel is on the same link at the
 * same addresses. What is not ours (claims.h) goes to it unchanged, and what it sends goes out of worker 0's queue. The
 * network is then the kernel's, as on an interface that is shared (share.c), and so are ARP, echo and neighbours.
 *
 * Workers put packets on a ring, which at most costs them waking a thread of its own, and that carries them, in either
 * direction at no more than a rate. To the kernel, what is beyond is dropped by the worker before it costs anything
 * more; from the kernel, it waits in the TAP's own queue, where its senders are slowed down or lose it. ARP and neighbour
 * discovery have a rate of their own to the kernel, since neither stack has a next hop without them.
 *
 * It cannot starve the fast path: the thread runs where no worker does, if there is such a CPU; of received packets it
 * holds at most a ring full, and while buffers are scarce none, but copies; what the kernel sends lies in buffers of its
 * own, a burst of it a turn. Nor the other way round: so many places of the backlog before the device are the kernel's
 * alone (BW_TX_KERNELS).
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <base/clock.h>
#include <base/log.h>
#include <nic/tap.h>

#include "claims.h"
#include "rate.h"
#include "worker.h"

#define TO_KERNEL_MAX    1024 /* packets that wait for the thread */
#define FROM_KERNEL_MAX  512  /* ... and for worker 0 */
#define AT_ONCE          32
#define COPIES           256 /* buffers beyond those, for copies */
#define NEIGHBOURS_PER_S 1000
#define SCARCE           8 /* so large a part of a pool left is too little: TCP begins nothing then, either */

_Static_assert(BW_TX_KERNELS >= BW_BURST_MAX + AT_ONCE, "others overshoot by a burst, and a burst is left");
#define FULL_WAIT_NS   BW_NS_PER_MS
#define PREFETCH_AHEAD 4

struct bw_exception {
	struct bw_device *device;
	struct bw_tap tap;
	struct rte_mempool *pool; /* of what the kernel sends, and of copies for it. The nic's */
	struct rte_ring *to_kernel, *from_kernel;
	struct bw_rate to_rate, from_rate;
	struct bw_rate neighbours_rate; /* to the kernel: of what finds neighbours, besides the others */
	struct bw_claims *claims;       /* [worker_count] */
	int wake_fd;
	_Atomic bool is_sleeping, stops;
	_Atomic uint64_t lost; /* by the thread, and not counted yet */
	bool is_gone;          /* somebody has deleted the interface */
	pthread_t thread;
	bool is_running;
};

/* ---- the workers' side ----------------------------------------------------------------------------------------- */

/** As bw_power_wake() has it: nobody's wake-up is lost. */
static void wake(struct bw_exception *x)
{
	const uint64_t one = 1;

	atomic_thread_fence(memory_order_seq_cst);
	/* It fails only when its counter is full, and then the thread is awake. */
	if (atomic_load_explicit(&x->is_sleeping, memory_order_relaxed) &&
		write(x->wake_fd, &one, sizeof(one)) < 0)
		return;
}

static bool is_scarce(const struct rte_mempool *pool)
{
	return rte_mempool_get_ops(pool->ops_index)->get_count(pool) < pool->size / SCARCE + BW_NIC_RESERVE;
}

/** Into buffers of the exception path's own. Returns how many it had. */
static unsigned copy_out(struct bw_exception *x, struct rte_mbuf **pkts, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct rte_mbuf *copy = rte_pktmbuf_copy(pkts[i], x->pool, 0, UINT32_MAX);

		if (copy == NULL)
			return i;
		rte_pktmbuf_free(pkts[i]);
		pkts[i] = copy;
	}
	return count;
}

static void give_to_kernel(
	struct bw_iface *iface, struct bw_rate *rate, struct rte_mbuf **pkts, unsigned count)
{
	struct bw_exception *x = iface->device->exception;
	struct bw_worker *w = iface->worker;
	unsigned taken = bw_rate_take(rate, w->now, count);

	/* Scarce or not, it is the kernel that hears what neighbours say. */
	if (bw_unlikely(is_scarce(iface->nic->pools[iface->rx_queue])))
		taken = copy_out(x, pkts, taken);
	taken = rte_ring_mp_enqueue_burst(x->to_kernel, (void **)pkts, taken, NULL);
	if (taken > 0)
		wake(x);
	bw_count_n(&w->counters, BW_EXCEPTION_TO_KERNEL, taken);
	bw_count_n(&w->counters, BW_EXCEPTION_DROPPED, count - taken);
	rte_pktmbuf_free_bulk(pkts + taken, count - taken);
}

unsigned bw_exception_sort(struct bw_iface *iface, struct rte_mbuf **pkts, unsigned count)
{
	struct bw_exception *x = iface->device->exception;
	struct rte_mbuf *others[BW_BURST_MAX], *neighbours[BW_BURST_MAX];
	unsigned kept = 0, other_count = 0, neighbour_count = 0;

	for (unsigned i = 0; i < count && i < PREFETCH_AHEAD; i++)
		rte_prefetch0(rte_pktmbuf_mtod(pkts[i], void *));
	for (unsigned i = 0; i < count; i++) {
		struct rte_mbuf *m = pkts[i];

		if (i + PREFETCH_AHEAD < count)
			rte_prefetch0(rte_pktmbuf_mtod(pkts[i + PREFETCH_AHEAD], void *));
		if (bw_claims_is_ours(iface->claims, iface->network, m, iface->worker->now))
			pkts[kept++] = m;
		else if (bw_claims_is_about_neighbours(m))
			neighbours[neighbour_count++] = m;
		else
			others[other_count++] = m;
	}
	/* Whatever else comes: without these, neither stack would have a next hop. */
	if (neighbour_count > 0)
		give_to_kernel(iface, &x->neighbours_rate, neighbours, neighbour_count);
	if (other_count > 0)
		give_to_kernel(iface, &x->to_rate, others, other_count);
	return kept;
}

unsigned bw_exception_deliver(struct bw_iface *iface)
{
	struct bw_exception *x = iface->device->exception;
	struct bw_worker *w = iface->worker;
	const unsigned room = iface->tx_count < BW_TX_BACKLOG_MAX ? BW_TX_BACKLOG_MAX - iface->tx_count : 0;
	const unsigned count = rte_ring_sc_dequeue_burst(x->from_kernel,
		(void **)(iface->tx + iface->tx_count), BW_MIN(room, (unsigned)AT_ONCE), NULL);

	iface->tx_count += count;
	bw_count_n(&w->counters, BW_EXCEPTION_FROM_KERNEL, count);
	if (bw_unlikely(atomic_load_explicit(&x->lost, memory_order_relaxed) > 0))
		bw_count_n(&w->counters, BW_EXCEPTION_DROPPED, atomic_exchange(&x->lost, 0));
	return count;
}

bool bw_exception_has_for(const struct bw_iface *iface)
{
	return iface->claims != NULL && iface->worker->index == 0 && iface->tx_count < BW_TX_BACKLOG_MAX &&
	       !rte_ring_empty(iface->device->exception->from_kernel);
}

/* ---- the thread -------------------------------------------------------------------------------------------------- */

static void lose(struct bw_exception *x, unsigned count)
{
	atomic_fetch_add_explicit(&x->lost, count, memory_order_relaxed);
}

/** Returns how many there were. */
static unsigned write_to_kernel(struct bw_exception *x)
{
	struct rte_mbuf *pkts[AT_ONCE];
	const unsigned count = rte_ring_sc_dequeue_burst(x->to_kernel, (void **)pkts, AT_ONCE, NULL);

	for (unsigned i = 0; i < count; i++)
		if (x->is_gone || bw_tap_write(&x->tap, pkts[i]) != 0)
			lose(x, 1); /* the interface is down, say */
	rte_pktmbuf_free_bulk(pkts, count);
	return count;
}

static void say_gone(struct bw_exception *x, int error)
{
	x->is_gone = true;
	bw_error(
		"--exception %s: the interface is gone (%s), and with it the addresses and neighbours of both stacks; "
		"restart barewire",
		x->tap.name, strerror(error));
}

/** One frame. 0, or -errno: -ENOBUFS where there is no buffer for one. */
static int read_one(struct bw_exception *x, struct rte_mbuf **m)
{
	int rc;

	*m = rte_pktmbuf_alloc(x->pool);
	if (*m == NULL)
		return -ENOBUFS;
	rc = bw_tap_read(&x->tap, *m);
	if (rc != 0)
		rte_pktmbuf_free(*m);
	return rc;
}

/** What the rate, the ring and the buffers have room for. Returns how many; `has_more`: it was not all. */
static unsigned read_from_kernel(struct bw_exception *x, bool *has_more)
{
	struct rte_mbuf *pkts[AT_ONCE];
	const unsigned room = BW_MIN(rte_ring_free_count(x->from_kernel), (unsigned)AT_ONCE);
	const unsigned allowed = x->is_gone ? 0 : bw_rate_take(&x->from_rate, bw_clock_now(), room);
	unsigned count = 0, lost = 0;
	int rc = 0;

	while (count + lost < allowed && rc == 0) {
		rc = read_one(x, &pkts[count]);
		count += rc == 0;
		if (rc == -EMSGSIZE) {
			lost++;
			rc = 0;
		}
	}
	if (rc != 0 && rc != -EAGAIN && rc != -EINTR && rc != -ENOBUFS)
		say_gone(x, -rc);
	if (count + lost < allowed)
		bw_rate_give_back(&x->from_rate, allowed - count - lost);
	if (lost > 0)
		lose(x, lost);
	if (count > 0 && rte_ring_sp_enqueue_bulk(x->from_kernel, (void **)pkts, count, NULL) == 0) {
		lose(x, count); /* never: nobody else puts anything in */
		rte_pktmbuf_free_bulk(pkts, count);
	}
	if (count > 0 || lost > 0)
		bw_power_wake(&x->device->engine->workers[0]);
	*has_more = !x->is_gone && rc != -EAGAIN;
	return count + lost;
}

/** @is_waiting  the kernel has something to send, and may or can not now */
static void sleep_until_there_is_work(struct bw_exception *x, bool is_waiting)
{
	const bw_ns now = bw_clock_now();
	const bw_ns wait_ns = BW_MAX(bw_rate_wait_ns(&x->from_rate, now), FULL_WAIT_NS);
	const struct timespec timeout = { .tv_sec = (time_t)(wait_ns / BW_NS_PER_SEC),
		.tv_nsec = (long)(wait_ns % BW_NS_PER_SEC) };
	/* poll() passes over negative descriptors. */
	struct pollfd fds[2] = { { .fd = x->wake_fd, .events = POLLIN },
		{ .fd = is_waiting || x->is_gone ? -1 : x->tap.fd, .events = POLLIN } };
	uint64_t counter;

	atomic_store_explicit(&x->is_sleeping, true, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
	if (rte_ring_empty(x->to_kernel) && !atomic_load(&x->stops) &&
		ppoll(fds, BW_ARRAY_LEN(fds), is_waiting ? &timeout : NULL, NULL) > 0 &&
		(fds[0].revents & POLLIN) != 0 && read(x->wake_fd, &counter, sizeof(counter)) < 0)
		fds[0].revents = 0;
	atomic_store_explicit(&x->is_sleeping, false, memory_order_relaxed);
}

static void *exception_main(void *arg)
{
	struct bw_exception *x = arg;

	pthread_setname_np(pthread_self(), "bw-exception");
	while (!atomic_load(&x->stops)) {
		bool is_waiting;
		unsigned done = write_to_kernel(x);

		done += read_from_kernel(x, &is_waiting);
		if (done == 0)
			sleep_until_there_is_work(x, is_waiting);
	}
	return NULL;
}

/* ---- start and stop ---------------------------------------------------------------------------------------------- */

const char *bw_exception_iface(const struct bw_device *device)
{
	return device->exception != NULL ? device->exception->tap.name : NULL;
}

/** What the configuration gives to the kernel, whose it is from now on. */
static int give_network(struct bw_exception *x)
{
	const struct bw_engine_device *conf = x->device->conf;
	int rc = 0;

	for (unsigned i = 0; i < conf->addr_count && rc == 0; i++)
		rc = bw_tap_add_addr(&x->tap, &conf->addrs[i]);
	for (unsigned i = 0; i < conf->route_count && rc == 0; i++)
		rc = bw_tap_add_route(&x->tap, &conf->routes[i].prefix, &conf->routes[i].gateway);
	return rc;
}

static struct rte_ring *make_ring(
	const struct bw_device *device, const char *what, unsigned size, unsigned flags)
{
	char name[RTE_RING_NAMESIZE];

	snprintf(name, sizeof(name), "bw%u_%s_%u", device->engine->number, what, device->index);
	return rte_ring_create(name, size, SOCKET_ID_ANY, flags | RING_F_SC_DEQ | RING_F_EXACT_SZ);
}

static int make_buffers(struct bw_exception *x)
{
	const struct bw_device *device = x->device;
	/* A driver keeps what it has sent until it needs the place. */
	const unsigned count = device->nic->tx_descs + FROM_KERNEL_MAX + BW_TX_BACKLOG_MAX + COPIES + AT_ONCE;

	x->pool = bw_nic_extra_pool(device->nic, count, bw_tap_room(&x->tap));
	if (x->pool == NULL)
		return -ENOBUFS; /* it has said so */
	x->to_kernel = make_ring(device, "to_kernel", TO_KERNEL_MAX, 0);
	x->from_kernel = make_ring(device, "from_kernel", FROM_KERNEL_MAX, RING_F_SP_ENQ);
	x->claims = calloc(device->engine->worker_count, sizeof(*x->claims));
	x->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return x->to_kernel != NULL && x->from_kernel != NULL && x->claims != NULL && x->wake_fd >= 0
		       ? 0
		       : -ENOMEM;
}

int bw_exception_start(struct bw_device *device)
{
	const struct bw_engine *engine = device->engine;
	const struct bw_engine_device *conf = device->conf;
	const struct bw_nic *nic = device->nic;
	struct bw_exception *x = calloc(1, sizeof(*x));
	int rc;

	if (x == NULL)
		return -ENOMEM;
	x->device = device;
	x->tap.fd = x->wake_fd = -1;
	device->exception = x;
	bw_rate_init(&x->to_rate, engine->conf.exception_packets_per_s);
	bw_rate_init(&x->from_rate, engine->conf.exception_packets_per_s);
	bw_rate_init(&x->neighbours_rate, NEIGHBOURS_PER_S);
	rc = bw_tap_open(&x->tap,
		&(struct bw_tap_conf){
			.name = conf->exception_tap, .mac = nic->mac, .mtu = nic->mtu, .vlan = conf->vlan });
	if (rc == 0)
		rc = make_buffers(x);
	if (rc == 0)
		rc = give_network(x);
	if (rc != 0)
		return rc;
	rc = bw_nic_hear_groups(device->nic);
	if (rc != 0)
		bw_warn("--exception %s: the device does not let all multicast groups through (%s): the kernel may miss "
			"some",
			x->tap.name, strerror(-rc));
	for (unsigned i = 0; i < engine->worker_count; i++) {
		bw_claims_init(&x->claims[i], &engine->conf, conf->vlan, bw_share_connects(engine));
		engine->workers[i].ifaces[device->index].claims = &x->claims[i];
	}
	return 0;
}

int bw_exception_begin(struct bw_device *device)
{
	struct bw_exception *x = device->exception;
	int rc = pthread_create(&x->thread, NULL, exception_main, x);

	if (rc != 0) {
		bw_error("--exception %s: no thread to carry packets: %s", x->tap.name, strerror(rc));
		return -rc;
	}
	x->is_running = true;
	return 0;
}

void bw_exception_stop(struct bw_device *device)
{
	struct bw_exception *x = device->exception;

	if (x == NULL || !x->is_running)
		return;
	atomic_store(&x->stops, true);
	wake(x);
	pthread_join(x->thread, NULL);
	x->is_running = false;
}

static void free_ring(struct rte_ring *ring)
{
	void *m;

	while (ring != NULL && rte_ring_sc_dequeue(ring, &m) == 0)
		rte_pktmbuf_free(m);
	rte_ring_free(ring);
}

void bw_exception_free(struct bw_device *device)
{
	struct bw_exception *x = device->exception;

	if (x == NULL)
		return;
	free_ring(x->to_kernel);
	free_ring(x->from_kernel);
	free(x->claims);
	if (x->wake_fd >= 0)
		close(x->wake_fd);
	bw_tap_close(&x->tap);
	free(x);
	device->exception = NULL;
}
