/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Opening and closing a port.
 *
 * Drivers differ in what they say and in what is true. What was found in DPDK 22.11 and is allowed for here:
 *
 * net_tap        The kernel's end has the port's MAC; the two ends of a link must differ, so ours is another.
 *                Its TX checksum adds odd pieces of a chain without swapping bytes, and its TSO is software on
 *                top of that: both stay off. It fills as many mbufs as it has RX descriptors and needs few of
 *                them, as we read in its place: see tap_read() in io.c. MTU: see tap_write() there.
 * net_af_packet  Knows neither interrupts nor groups: its sockets are found and polled, a socket of ours holds
 *                the memberships. Wants mbufs that hold a whole ring frame: see internal.h.
 * net_af_xdp     Same sockets. Takes a page for each mbuf, sends only what is in its own pool's mbufs and only
 *                one segment, never gives back the mbufs in its fill ring, and keeps what it has sent until the
 *                next burst. Loads libxdp's program, which gives us everything that arrives on our queues. Its
 *                close forgets the umem, so a queue can be opened once in a process. It has as many queues as
 *                there are combined channels, of which a veth has none, and compares no more than the number: so
 *                each queue is a port with that one.
 * net_memif      See memif.c. Without as many queues as the peer's it reads another queue's ring.
 * net_vhost      See vhost.c. Its MAC is the same in every process. Its TX checksum, where the guest takes none that are
 *                left undone, sends UDP's zero, which says that there is none. What a guest leaves undone it tells, and
 *                the parser knows; of what it does not tell it has verified nothing.
 * net_virtio_user See virtio.c.
 * net_e1000_em   Offers two TX queues where the NIC has one (82540EM): what is put into the second stays there. The
 *                later NICs have two, and one context of checksums for both. Takes the order for RX interrupts, which
 *                then do not come: a sleeping worker looks by itself. It sends no link interrupt unless these are
 *                "legacy" (EAL's --vfio-intr), but reads the PHY when it is asked, as watch_link() does.
 * net_vmxnet3    Tells of its link only who asks. Refuses a TSO packet that asks for an IPv4 checksum: see finish.c.
 * net_bonding    See bond.c.
 * net_virtio     As that one. Of these three it alone spreads flows in QEMU, with mq=on,rss=on.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if_packet.h>
#include <linux/if_xdp.h>
#include <rte_alarm.h>
#include <rte_eth_ring.h>
#include <rte_malloc.h>
#include <rte_mbuf_pool_ops.h>
#include <rte_mempool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <base/assert.h>
#include <base/log.h>
#include <base/mbuf.h>

#include "internal.h"

#define MTU_MIN             576
#define MTU_MAX             9000
#define MTU_DEFAULT         1500
#define MBUFS_MIN           16384
#define MBUF_CACHE          256
#define DESCS               BW_NIC__DESCS
#define RING_SLOTS          1024
#define TAP_RX_DESCS        8
#define TAP_SEGMENTS_MAX    64
#define LINK_WATCH_US       100000
/* net_af_xdp fills 2048 and may have as many on their way out. */
#define XDP_MBUFS           4096
/* A umem chunk is at most a page, and of an odd number of cache lines, as mempools are. */
#define XDP_CHUNK_BYTES_MAX 4032
#define XDP_HEADROOM        256
#define MEMPOOL_HEADER      64
#define SOCKETS_SCANNED     4096

#ifndef AF_XDP
#define AF_XDP 44
#endif
#ifndef SOL_XDP
#define SOL_XDP 283
#endif

/* Ports get the numbers of those that have gone, whose pools may still be there. */
static unsigned nics_opened;
/* Of a nic that is open. */
static bool is_port_taken[RTE_MAX_ETHPORTS];

bool bw_nic__port_take(uint16_t port_id)
{
	const bool is_free = !is_port_taken[port_id];

	is_port_taken[port_id] = true;
	return is_free;
}

void bw_nic__port_give(uint16_t port_id)
{
	is_port_taken[port_id] = false;
}

static bool is_driver(const struct bw_nic *nic, const char *name)
{
	return strcmp(nic->driver, name) == 0;
}

static unsigned frame_bytes(uint16_t mtu)
{
	return mtu + BW_NIC__FRAME_OVERHEAD;
}

/* Where a driver cannot spread a frame over mbufs, one mbuf holds it. */
static uint16_t data_room(enum bw_nic_kind kind, bool can_scatter, uint16_t mtu)
{
	const unsigned whole = RTE_PKTMBUF_HEADROOM + frame_bytes(mtu);

	if (kind == BW_NIC_XDP)
		return (uint16_t)BW_MAX(whole + XDP_HEADROOM, (unsigned)RTE_MBUF_DEFAULT_BUF_SIZE);
	return can_scatter ? RTE_MBUF_DEFAULT_BUF_SIZE
			   : (uint16_t)BW_MAX(whole, (unsigned)RTE_MBUF_DEFAULT_BUF_SIZE);
}

static bool kind_can_scatter(enum bw_nic_kind kind)
{
	/* memif could, but leaks the first mbuf when it finds no second; virtio, if its peer does. */
	return kind != BW_NIC_BOND && kind != BW_NIC_XDP && kind != BW_NIC_MEMIF && kind != BW_NIC_VIRTIO &&
	       kind != BW_NIC_PCI && kind != BW_NIC_VDEV;
}

/* Rings that a queue has: each member of a bond has its own. */
static unsigned rings_of_queue(const struct bw_nic_plan *plan)
{
	return BW_MAX(plan->member_count, 1u);
}

static uint32_t default_mbufs(const struct bw_nic_plan *plan)
{
	return MBUFS_MIN + (plan->kind == BW_NIC_XDP ? XDP_MBUFS : 0) +
	       (rings_of_queue(plan) - 1) * 2 * DESCS;
}

static size_t mbuf_bytes(uint16_t room)
{
	return rte_mempool_calc_obj_size(
		(uint32_t)(sizeof(struct rte_mbuf) + BW_MBUF_PRIV_BYTES + room), 0, NULL);
}

unsigned bw_nic_memory_mib(
	const struct bw_nic_plan *plan, unsigned workers, uint32_t mbufs_per_worker, uint16_t mtu)
{
	const uint16_t room =
		data_room(plan->kind, kind_can_scatter(plan->kind), mtu != 0 ? mtu : MTU_DEFAULT);
	const uint64_t mbufs = mbufs_per_worker != 0 ? mbufs_per_worker : default_mbufs(plan);
	/* The pool's own ring of pointers, a power of two, and the workers' caches of it. */
	uint64_t bytes = workers * mbufs * (mbuf_bytes(room) + 2 * sizeof(void *));

	if (plan->kind == BW_NIC_PACKET)
		bytes += plan->queues_max * BW_NIC__PACKET_MBUFS * mbuf_bytes(BW_NIC__PACKET_ROOM_BYTES);
	/* EAL, ethdev, the drivers, the engine's rings, and room for fragmentation; what is not used is not touched. */
	return (unsigned)(bytes >> 20) + 64 + 32 * workers;
}

/* --- the driver's sockets ------------------------------------------------------------------------------- */

struct sockets {
	uint64_t is_seen[SOCKETS_SCANNED / 64];
};

static int socket_domain(int fd)
{
	int domain = -1;
	socklen_t len = sizeof(domain);

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 ? domain : -1;
}

static void sockets_remember(struct sockets *sockets, int domain)
{
	memset(sockets, 0, sizeof(*sockets));
	for (int fd = 0; fd < SOCKETS_SCANNED; fd++) {
		if (socket_domain(fd) == domain)
			sockets->is_seen[fd / 64] |= 1ull << (fd % 64);
	}
}

/* The lowest one that was not there when `sockets` were remembered, and remember it; -1: none. */
static int sockets_next(struct sockets *sockets, int domain)
{
	for (int fd = 0; fd < SOCKETS_SCANNED; fd++) {
		if ((sockets->is_seen[fd / 64] >> (fd % 64) & 1) == 0 && socket_domain(fd) == domain) {
			sockets->is_seen[fd / 64] |= 1ull << (fd % 64);
			return fd;
		}
	}
	return -1;
}

/* --- attaching ------------------------------------------------------------------------------------------ */

static void add_port(struct bw_nic *nic, uint16_t port_id)
{
	struct bw_nic__state *state = nic->state;

	if (state->port_count == 0)
		nic->port_id = port_id;
	state->port_ids[state->port_count++] = port_id;
	if (port_id < RTE_MAX_ETHPORTS)
		(void)bw_nic__port_take(port_id);
	state->is_port_open = true;
}

static int ring_attach(struct bw_nic *nic)
{
	struct bw_nic__state *state = nic->state;
	char name[RTE_RING_NAMESIZE];
	int rc;

	snprintf(state->device_name, sizeof(state->device_name), "net_ring_bw%u", state->serial);
	for (unsigned i = 0; i < nic->plan.queues_max; i++) {
		snprintf(name, sizeof(name), "bw%u_rx%u", state->serial, i);
		state->ring_rx[i] = rte_ring_create(
			name, RING_SLOTS, (int)rte_socket_id(), RING_F_SP_ENQ | RING_F_SC_DEQ);
		snprintf(name, sizeof(name), "bw%u_tx%u", state->serial, i);
		state->ring_tx[i] = rte_ring_create(
			name, RING_SLOTS, (int)rte_socket_id(), RING_F_SP_ENQ | RING_F_SC_DEQ);
		state->ring_count = i + 1;
		if (state->ring_rx[i] == NULL || state->ring_tx[i] == NULL) {
			bw_error("--dev %s: no memory for its rings; give more with -- -m MIB",
				nic->plan.spec);
			return -ENOMEM;
		}
	}
	/* It puts "net_ring_" before the name itself. */
	rc = rte_eth_from_rings(state->device_name + strlen("net_ring_"), state->ring_rx, state->ring_count,
		state->ring_tx, state->ring_count, rte_socket_id());
	if (rc < 0) {
		bw_error("--dev %s: %s", nic->plan.spec, bw_nic__heard());
		return -EIO;
	}
	add_port(nic, (uint16_t)rc);
	return 0;
}

/* The kernel accounts locked memory, of which an XDP socket needs more than the customary 8 MiB. */
static void raise_memlock_limit(void)
{
	const struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };

	if (setrlimit(RLIMIT_MEMLOCK, &unlimited) != 0)
		bw_debug("RLIMIT_MEMLOCK stays: %s", strerror(errno));
}

/* Drivers are plugins, of packages of their own. Of another's missing EAL tells by itself. */
static int find_plugin(const struct bw_nic *nic)
{
	const char *driver = nic->plan.kind == BW_NIC_VHOST    ? "net_vhost"
			     : nic->plan.kind == BW_NIC_VIRTIO ? "net_virtio"
			     : nic->plan.kind == BW_NIC_BOND   ? "net_bond"
							       : NULL;
	char library[32];
	void *found;

	if (driver == NULL)
		return 0;
	snprintf(library, sizeof(library), "librte_%s.so.23", driver); /* of DPDK 22.11 */
	found = dlopen(library, RTLD_LAZY | RTLD_NOLOAD);
	if (found != NULL)
		return dlclose(found);
	bw_error("--dev %s: DPDK's driver %s is missing; install %s, which is in librte-net-%s23 with Debian",
		nic->plan.spec, driver, library, driver + strlen("net_"));
	return -ENODEV;
}

static int vdev_attach_port(struct bw_nic *nic, unsigned index)
{
	const char *args = nic->plan.devargs + strcspn(nic->plan.devargs, ",");
	const size_t name_len = (size_t)(args - nic->plan.devargs);
	char devargs[sizeof(nic->plan.devargs) + 64], queue[48] = "";
	char *name = nic->state->device_name;
	uint16_t port_id;
	int rc;

	snprintf(name, sizeof(nic->state->device_name), "%.*s", (int)name_len, nic->plan.devargs);
	/* Our own names end in 0: the next free number, so that a process can hold several ports and nics. */
	for (unsigned i = 1;
		nic->plan.kind != BW_NIC_VDEV && rte_eth_dev_get_port_by_name(name, &port_id) == 0; i++)
		snprintf(name, sizeof(nic->state->device_name), "%.*s%u", (int)name_len - 1,
			nic->plan.devargs, i);
	if (rte_eth_dev_get_port_by_name(name, &port_id) == 0 && is_port_taken[port_id]) {
		bw_error("--dev %s: there is a device %s already; give it another number", nic->plan.spec,
			name);
		return -EEXIST;
	}
	if (nic->plan.kind == BW_NIC_XDP)
		snprintf(queue, sizeof(queue), ",start_queue=%u,queue_count=1", index);
	snprintf(devargs, sizeof(devargs), "%s%s%s", name, args, queue);
	rc = bw_nic__probe(devargs, name, false, &port_id);
	if (rc != 0) {
		bw_error("--dev %s: %s", nic->plan.spec, bw_nic__heard());
		return rc < 0 ? rc : -EIO;
	}
	add_port(nic, port_id);
	return 0;
}

static int vdev_attach(struct bw_nic *nic, struct sockets *sockets)
{
	const size_t name_len = strcspn(nic->plan.devargs, ",");
	const unsigned port_count = BW_MIN(nic->plan.port_count, nic->worker_count);
	int rc = 0;

	if (name_len == 0 || name_len >= sizeof(nic->state->device_name) - 8) {
		bw_error("--dev %s: no driver's name", nic->plan.spec);
		return -EINVAL;
	}
	if (nic->plan.kind == BW_NIC_PACKET || nic->plan.kind == BW_NIC_XDP)
		raise_memlock_limit();
	sockets_remember(sockets, AF_PACKET);
	for (unsigned i = 0; i < port_count && rc == 0; i++)
		rc = vdev_attach_port(nic, i);
	return rc;
}

/* Its ports come and go, see virtio.c: until there is one, it has none of DPDK's numbers. */
static int virtio_attach(struct bw_nic *nic)
{
	add_port(nic, RTE_MAX_ETHPORTS);
	return 0;
}

static int bond_attach(struct bw_nic *nic, const struct bw_mac *mac, struct sockets *sockets)
{
	int rc = bw_nic__bond_find(nic);

	if (rc == 0)
		rc = vdev_attach(nic, sockets);
	return rc == 0 ? bw_nic__bond_join(nic, mac) : rc;
}

static int pci_attach(struct bw_nic *nic)
{
	uint16_t port_id;

	snprintf(nic->state->device_name, sizeof(nic->state->device_name), "%.*s",
		(int)strcspn(nic->plan.devargs, ","), nic->plan.devargs);
	if (rte_eth_dev_get_port_by_name(nic->state->device_name, &port_id) == 0) {
		add_port(nic, port_id);
		return 0;
	}
	/* EAL has probed it already, so what it said is in the debug log. */
	bw_error(
		"--dev %s: DPDK has no driver for this NIC or could not start it; `barewire serve` with debug output "
		"shows what it said",
		nic->plan.spec);
	return -ENODEV;
}

/* A NIC, or several as one: DPDK's driver has its hardware, with filters, DMA and an MTU of its own. */
static bool is_hardware(const struct bw_nic *nic)
{
	return nic->plan.kind == BW_NIC_PCI || nic->plan.kind == BW_NIC_BOND;
}

/* --- MTU, MAC, pools ------------------------------------------------------------------------------------ */

static unsigned mtu_device_max(const struct rte_eth_dev_info *info)
{
	unsigned overhead = RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN;

	/* As ethdev computes it. */
	if (info->max_mtu != UINT16_MAX && info->max_rx_pktlen > info->max_mtu)
		overhead = info->max_rx_pktlen - info->max_mtu;
	return BW_MIN((unsigned)info->max_mtu, info->max_rx_pktlen - overhead);
}

static int choose_mtu(struct bw_nic *nic, const struct bw_nic_conf *conf, const struct rte_eth_dev_info *info,
	const struct bw_nic__iface *iface)
{
	const bool is_on_iface = nic->plan.kind == BW_NIC_PACKET || nic->plan.kind == BW_NIC_XDP;
	const unsigned room_max =
		XDP_CHUNK_BYTES_MAX - MEMPOOL_HEADER - sizeof(struct rte_mbuf) - BW_MBUF_PRIV_BYTES;
	const unsigned xdp_max = room_max - RTE_PKTMBUF_HEADROOM - XDP_HEADROOM - BW_NIC__FRAME_OVERHEAD;

	nic->mtu = conf->mtu != 0 ? conf->mtu
		   : is_on_iface  ? BW_MIN(iface->mtu, (uint16_t)MTU_MAX)
				  : MTU_DEFAULT;
	if (nic->mtu < MTU_MIN || nic->mtu > MTU_MAX) {
		bw_error("--dev %s: an MTU of %u; %d to %d are possible", nic->plan.spec, nic->mtu, MTU_MIN,
			MTU_MAX);
		return -EINVAL;
	}
	if (is_on_iface && nic->mtu > iface->mtu) {
		bw_error("--dev %s: an MTU of %u is more than the %u of %s; ip link set %s mtu %u",
			nic->plan.spec, nic->mtu, iface->mtu, nic->plan.iface, nic->plan.iface, nic->mtu);
		return -EINVAL;
	}
	if (is_driver(nic, "net_af_xdp") && nic->mtu > xdp_max) {
		bw_error(
			"--dev %s: an MTU of %u; XDP takes at most %u: ip link set %s mtu %u, or use packet:",
			nic->plan.spec, nic->mtu, xdp_max, nic->plan.iface, xdp_max);
		return -EINVAL;
	}
	if (is_hardware(nic) && nic->mtu > mtu_device_max(info)) {
		bw_error("--dev %s: an MTU of %u; the NIC takes at most %u", nic->plan.spec, nic->mtu,
			mtu_device_max(info));
		return -EINVAL;
	}
	return 0;
}

static void mac_random(struct bw_mac *mac)
{
	rte_eth_random_addr(mac->b); /* unicast, locally administered */
}

static void choose_mac(struct bw_nic *nic, const struct bw_nic_conf *conf)
{
	struct rte_ether_addr device = { 0 };

	(void)rte_eth_macaddr_get(nic->port_id, &device);
	if (conf->mac != NULL) {
		nic->mac = *conf->mac;
	} else if (is_driver(nic, "net_tap") || is_driver(nic, "net_vhost")) {
		do
			mac_random(&nic->mac);
		while (memcmp(nic->mac.b, device.addr_bytes, sizeof(nic->mac.b)) == 0);
	} else if (rte_is_zero_ether_addr(&device)) {
		mac_random(&nic->mac);
	} else {
		memcpy(nic->mac.b, device.addr_bytes, sizeof(nic->mac.b));
	}
}

static struct rte_mempool *pool_create(const struct bw_nic *nic, const char *what, unsigned index,
	unsigned count, unsigned cache, uint16_t room)
{
	const int socket = rte_eth_dev_socket_id(nic->port_id);
	char name[RTE_MEMPOOL_NAMESIZE];
	struct rte_mempool *pool;

	snprintf(name, sizeof(name), "bw%u_%s%u", nic->state->serial, what, index);
	/*
	 * As rte_pktmbuf_pool_create() does, but for the flag. Without it, no object crosses a page: without
	 * hugepages each then has a page of its own, and net_af_xdp, which takes the pool's size for the number
	 * of its objects times their size, registers too little memory with the kernel, which goes on to drop
	 * every packet that lies beyond.
	 */
	pool = rte_mempool_create_empty(name, count,
		(unsigned)(sizeof(struct rte_mbuf) + BW_MBUF_PRIV_BYTES + room), cache,
		sizeof(struct rte_pktmbuf_pool_private), socket,
		nic->is_virtual ? RTE_MEMPOOL_F_NO_IOVA_CONTIG : 0);
	if (pool != NULL && rte_mempool_set_ops_byname(pool, rte_mbuf_best_mempool_ops(), NULL) == 0) {
		const struct rte_pktmbuf_pool_private sizes = {
			.mbuf_data_room_size = room,
			.mbuf_priv_size = BW_MBUF_PRIV_BYTES,
		};

		rte_pktmbuf_pool_init(pool, (void *)(uintptr_t)&sizes);
		if (rte_mempool_populate_default(pool) >= 0) {
			rte_mempool_obj_iter(pool, rte_pktmbuf_init, NULL);
			return pool;
		}
	}
	rte_mempool_free(pool);
	bw_error("--dev %s: no memory for %u buffers of %u bytes (%s); give fewer mbufs, or more memory with "
		 "-- -m MIB or hugepages",
		nic->plan.spec, count, room, rte_strerror(rte_errno));
	return NULL;
}

static int make_pools(struct bw_nic *nic, const struct bw_nic_conf *conf, const struct rte_eth_dev_info *info)
{
	const bool can_scatter =
		kind_can_scatter(nic->plan.kind) || (info->rx_offload_capa & RTE_ETH_RX_OFFLOAD_SCATTER);
	const uint16_t room = data_room(is_driver(nic, "net_af_xdp") ? BW_NIC_XDP : nic->plan.kind,
		can_scatter && nic->plan.kind != BW_NIC_MEMIF, nic->mtu);
	const uint32_t rings = rings_of_queue(&nic->plan) * (nic->rx_descs + nic->tx_descs) +
			       (is_driver(nic, "net_af_xdp") ? XDP_MBUFS : 0);
	/*
	 * Drivers keep what they have sent until they need its place, so the rings may be full for good. With an eighth
	 * of all left besides the reserve, connections begin (lib/tcp/pressure.c); the rest is what these may hold.
	 */
	const uint32_t count_min = (rings + BW_NIC_RESERVE + 2 * MBUF_CACHE) * 8 / 7 + 1;

	nic->mbufs_per_worker =
		conf->mbufs_per_worker != 0 ? conf->mbufs_per_worker : default_mbufs(&nic->plan);
	if (nic->mbufs_per_worker < count_min) {
		bw_error("--dev %s: %u mbufs a worker are too few; with the device's rings it takes %u",
			nic->plan.spec, nic->mbufs_per_worker, count_min);
		return -EINVAL;
	}
	for (unsigned i = 0; i < nic->worker_count; i++) {
		nic->pools[i] = pool_create(nic, "worker", i, nic->mbufs_per_worker, MBUF_CACHE, room);
		if (nic->pools[i] == NULL)
			return -ENOMEM;
		if (is_driver(nic, "net_af_xdp") && nic->pools[i]->nb_mem_chunks != 1) {
			bw_error(
				"--dev %s: the buffers are not in one piece of memory, which XDP needs; give more with "
				"-- -m MIB or hugepages",
				nic->plan.spec);
			return -ENOMEM;
		}
	}
	for (unsigned i = 0; is_driver(nic, "net_af_packet") && i < nic->rx_queues; i++) {
		struct bw_nic__queue *q = &nic->state->queue[i];

		q->rx_pool = pool_create(nic, "large", i, BW_NIC__PACKET_MBUFS, 0, BW_NIC__PACKET_ROOM_BYTES);
		if (q->rx_pool == NULL)
			return -ENOMEM;
		q->rx_via |= BW_NIC__RX_COPY;
	}
	return 0;
}

/* --- configuring ---------------------------------------------------------------------------------------- */

static void choose_queues(struct bw_nic *nic, const struct rte_eth_dev_info *info, bool can_rss)
{
	struct bw_nic__state *state = nic->state;
	const unsigned want = BW_MIN(nic->plan.queues_max, nic->worker_count);

	nic->rx_queues = BW_MAX(BW_MIN(want, state->port_count * info->max_rx_queues), 1u);
	nic->tx_queues = BW_MAX(BW_MIN(want, state->port_count * info->max_tx_queues), 1u);
	if (is_hardware(nic)) {
		/* Nothing would ever arrive on a second one. */
		if (!can_rss)
			nic->rx_queues = 1;
		if (is_driver(nic, "net_e1000_em") || bw_nic__bond_has_driver(nic, "net_e1000_em"))
			nic->tx_queues = 1;
	} else {
		nic->rx_queues = nic->tx_queues = BW_MIN(nic->rx_queues, nic->tx_queues);
	}
	for (unsigned i = 0; i < BW_MAX(nic->rx_queues, nic->tx_queues); i++) {
		state->queue[i].port_id = state->port_ids[i % state->port_count];
		state->queue[i].port_queue = (uint16_t)(i / state->port_count);
	}
}

static uint64_t rx_offloads(const struct rte_eth_dev_info *info)
{
	return info->rx_offload_capa & (RTE_ETH_RX_OFFLOAD_CHECKSUM | RTE_ETH_RX_OFFLOAD_SCATTER);
}

/* Never MBUF_FAST_FREE: it promises that nobody else holds a reference, and the send queue does. */
static uint64_t tx_offloads(const struct bw_nic *nic, const struct rte_eth_dev_info *info)
{
	const uint64_t l4 = RTE_ETH_TX_OFFLOAD_TCP_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
	uint64_t offloads = info->tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS;

	if (is_driver(nic, "net_tap") || is_driver(nic, "net_vhost"))
		return offloads;
	if ((info->tx_offload_capa & l4) == l4)
		offloads |= l4 | (info->tx_offload_capa &
					 (RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_TSO));
	/* Where a bond's members differ in it, one that cuts segments may want to be asked for their checksums, too. */
	if (nic->plan.kind == BW_NIC_BOND && !(offloads & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM))
		offloads &= ~(uint64_t)RTE_ETH_TX_OFFLOAD_TCP_TSO;
	return offloads;
}

static void note_offloads(struct bw_nic *nic, const struct rte_eth_dev_info *info)
{
	struct bw_nic__state *state = nic->state;
	const uint64_t rx = rx_offloads(info), tx = tx_offloads(nic, info);
	const uint64_t rx_l4 = RTE_ETH_RX_OFFLOAD_TCP_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM;

	nic->has_rx_checksum = (rx & rx_l4) == rx_l4 && !is_driver(nic, "net_vhost");
	nic->has_tx_ip_checksum = tx & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
	nic->has_tx_l4_checksum = tx & RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
	nic->has_multi_segment = tx & RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	nic->has_vlan_insert = info->tx_offload_capa & RTE_ETH_TX_OFFLOAD_VLAN_INSERT;
	nic->has_vlan_strip = info->rx_offload_capa & RTE_ETH_RX_OFFLOAD_VLAN_STRIP;

	/* 0 means that the driver has no limit. */
	state->tx_segments_max =
		info->tx_desc_lim.nb_mtu_seg_max != 0 ? info->tx_desc_lim.nb_mtu_seg_max : UINT16_MAX;
	state->tso_segments_max =
		info->tx_desc_lim.nb_seg_max != 0 ? info->tx_desc_lim.nb_seg_max : UINT16_MAX;
	if (is_driver(nic, "net_tap"))
		state->tx_segments_max = TAP_SEGMENTS_MAX;
	if (!nic->has_multi_segment)
		state->tx_segments_max = state->tso_segments_max = 1;
	/* What an IPv4 length holds, and what a copy into our mbufs would take when a chain is too long. */
	if ((tx & RTE_ETH_TX_OFFLOAD_TCP_TSO) && nic->has_multi_segment)
		nic->tso_bytes_max = BW_MIN(65535u - 120u, state->tso_segments_max * 2048u - 120u);
	state->tx_wants_prepare = nic->has_tx_l4_checksum;
	state->tx_wants_direct =
		is_driver(nic, "net_af_xdp") || strstr(nic->plan.devargs, "zero-copy=yes") != NULL;
	/*
	 * Memory that a service lends is not EAL's: the IOMMU has no mapping of it, and without an IOMMU its address is
	 * not the one on the bus. What a device then sends is whatever it reads there, with a checksum that is right.
	 */
	state->tx_wants_mapped = !nic->is_virtual || is_driver(nic, "net_virtio_user");
	if (is_driver(nic, "net_tap") && nic->mtu > mtu_device_max(info))
		state->tx_via = BW_NIC__TX_WRITE;
}

static void set_rss(struct rte_eth_conf *port, const struct rte_eth_dev_info *info,
	uint8_t key[BW_NIC__RSS_KEY_BYTES_MAX])
{
	bw_nic__rss_key(key);
	port->rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
	port->rx_adv_conf.rss_conf.rss_key = key;
	port->rx_adv_conf.rss_conf.rss_key_len = info->hash_key_size;
	port->rx_adv_conf.rss_conf.rss_hf =
		info->flow_type_rss_offloads & (RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP);
}

static int configure(struct bw_nic *nic, const struct rte_eth_dev_info *info, bool has_interrupts)
{
	uint8_t key[BW_NIC__RSS_KEY_BYTES_MAX];
	struct rte_eth_conf port = {
		/* Virtual drivers carry any frame that fits their buffers, whatever ethdev says of their MTU. */
		.rxmode = { .mtu = BW_MIN(nic->mtu, mtu_device_max(info)), .offloads = rx_offloads(info) },
		.txmode = { .offloads = tx_offloads(nic, info) },
		.intr_conf = { .rxq = has_interrupts },
	};
	struct rte_eth_rxconf rx = info->default_rxconf;
	struct rte_eth_txconf tx = info->default_txconf;
	struct sockets sockets;
	const int socket = rte_eth_dev_socket_id(nic->port_id);
	int rc;

	if (nic->has_rss)
		set_rss(&port, info, key);
	for (unsigned i = 0; i < nic->state->port_count; i++) {
		rc = rte_eth_dev_configure(nic->state->port_ids[i],
			(uint16_t)(nic->rx_queues / nic->state->port_count),
			(uint16_t)(nic->tx_queues / nic->state->port_count), &port);
		if (rc != 0)
			return rc;
	}
	rx.offloads = port.rxmode.offloads;
	tx.offloads = port.txmode.offloads;
	sockets_remember(&sockets, AF_XDP);
	for (unsigned i = 0; i < nic->rx_queues; i++) {
		struct bw_nic__queue *q = &nic->state->queue[i];

		rc = rte_eth_rx_queue_setup(q->port_id, q->port_queue, nic->rx_descs, (unsigned)socket, &rx,
			q->rx_pool != NULL ? q->rx_pool : nic->pools[i]);
		if (rc != 0)
			return rc;
		if (is_driver(nic, "net_af_xdp"))
			q->fd = sockets_next(&sockets, AF_XDP);
	}
	for (unsigned i = 0; i < nic->tx_queues; i++) {
		const struct bw_nic__queue *q = &nic->state->queue[i];

		rc = rte_eth_tx_queue_setup(q->port_id, q->port_queue, nic->tx_descs, (unsigned)socket, &tx);
		if (rc != 0)
			return rc;
	}
	return 0;
}

/* The TAP's other end. IPv6 may be missing from the kernel or from an MTU below 1280 (RFC 8200 section 5). */
static int prepare_host_end(const struct bw_nic *nic, const struct bw_nic_conf *conf, unsigned index)
{
	int rc = bw_nic__iface_prepare(index, nic->plan.iface, nic->mtu);

	if (rc != 0) {
		bw_error("--dev %s: cannot set the MTU of %s to %u: %s", nic->plan.spec, nic->plan.iface,
			nic->mtu, strerror(-rc));
		return rc;
	}
	for (unsigned i = 0; i < conf->host_addr_count; i++) {
		char text[BW_CIDR_STRLEN];

		rc = bw_nic__iface_add_addr(index, &conf->host_addrs[i]);
		if (rc == 0)
			continue;
		bw_cidr_format(&conf->host_addrs[i], text);
		if (!bw_ip_is_v4(&conf->host_addrs[i].ip)) {
			bw_warn("%s: the kernel's end does not take %s: %s", nic->plan.iface, text,
				strerror(-rc));
			continue;
		}
		bw_error("--dev %s: cannot give %s the address %s: %s", nic->plan.spec, nic->plan.iface, text,
			strerror(-rc));
		return rc;
	}
	return 0;
}

static bool is_memif_client(const struct bw_nic *nic)
{
	return nic->plan.kind == BW_NIC_MEMIF && strstr(nic->plan.devargs, "role=client") != NULL;
}

static int start(struct bw_nic *nic)
{
	int rc = 0;

	if (is_driver(nic, "net_memif"))
		return bw_nic__memif_start(nic, is_memif_client(nic));
	for (unsigned i = 0; i < nic->state->port_count && rc == 0; i++)
		rc = rte_eth_dev_start(nic->state->port_ids[i]);
	if (rc == 0)
		nic->state->is_port_started = nic->state->is_startable = true;
	return rc;
}

/* net_e1000_em takes the orders for them, and no packet ever raises one. */
static bool may_have_interrupts(const struct bw_nic *nic, const struct bw_nic_conf *conf)
{
	return nic->plan.kind == BW_NIC_PCI && conf->wants_interrupts && !is_driver(nic, "net_e1000_em");
}

static int configure_and_start(
	struct bw_nic *nic, const struct bw_nic_conf *conf, const struct rte_eth_dev_info *info)
{
	const bool has_interrupts = is_driver(nic, "net_tap") || may_have_interrupts(nic, conf);
	int rc;

	bw_nic__listen();
	bw_nic__hush(); /* libxdp and libbpf write to stderr */
	rc = configure(nic, info, has_interrupts);
	if (rc == 0)
		rc = start(nic);
	if (rc != 0 && nic->plan.kind == BW_NIC_PCI && has_interrupts) {
		/* Legacy interrupts and UIO have none for queues, and some drivers then refuse. */
		bw_nic__listen();
		rc = configure(nic, info, false);
		if (rc == 0)
			rc = start(nic);
	}
	bw_nic__unhush();
	if (rc != 0)
		bw_error("--dev %s: cannot start the port: %s", nic->plan.spec, bw_nic__heard());
	return rc;
}

/*
 * From here on frames are read by tap_read(). Its signals would cost one interruption a packet for nothing, and
 * when more are waiting than the kernel queues, it sends SIGIO in their place, which ends a process.
 */
static void tap_take_over(struct bw_nic *nic, unsigned queue)
{
	struct bw_nic__queue *q = &nic->state->queue[queue];
	const int flags = q->fd >= 0 ? fcntl(q->fd, F_GETFL) : -1;

	if (flags < 0 || fcntl(q->fd, F_SETFL, flags & ~O_ASYNC) != 0)
		return; /* then the driver receives, as it does */
	q->rx_via |= BW_NIC__RX_READ;
	q->spare_max = (frame_bytes(nic->mtu) + RTE_MBUF_DEFAULT_DATAROOM - 1) / RTE_MBUF_DEFAULT_DATAROOM;
	(void)bw_nic__tap_fill(nic, queue);
}

/* What the sockets were shown before they had the filter is not for us. */
static int filter_sockets(struct bw_nic *nic, const struct bw_nic_conf *conf)
{
	struct rte_mbuf *pkts[32];
	uint16_t count;

	for (unsigned i = 0; conf->socket_filter_fd > 0 && i < nic->rx_queues; i++) {
		if (setsockopt(nic->state->queue[i].fd, SOL_SOCKET, SO_ATTACH_BPF, &conf->socket_filter_fd,
			    sizeof(conf->socket_filter_fd)) != 0) {
			const int error = errno;

			bw_error(
				"--dev %s: a packet socket takes no filter: %s; give --addr one that the kernel has not",
				nic->plan.spec, strerror(error));
			return -error;
		}
		for (unsigned k = 0; k < BW_NIC__PACKET_FRAMES; k += count) {
			count = bw_nic_rx(nic, i, pkts, BW_ARRAY_LEN(pkts));
			if (count == 0)
				break;
			rte_pktmbuf_free_bulk(pkts, count);
		}
	}
	return 0;
}

static bool is_zero_copy(int fd)
{
	struct xdp_options options = { 0 };
	socklen_t bytes = sizeof(options);

	return getsockopt(fd, SOL_XDP, XDP_OPTIONS, &options, &bytes) == 0 &&
	       (options.flags & XDP_OPTIONS_ZEROCOPY) != 0;
}

static void find_interrupts(struct bw_nic *nic, const struct bw_nic_conf *conf, struct sockets *sockets)
{
	nic->has_rx_interrupt = true;
	for (unsigned i = 0; i < nic->rx_queues; i++) {
		struct bw_nic__queue *q = &nic->state->queue[i];

		if (is_driver(nic, "net_af_packet")) {
			q->fd = sockets_next(sockets, AF_PACKET);
		} else if (is_driver(nic, "net_tap")) {
			q->fd = rte_eth_dev_rx_intr_ctl_q_get_fd(nic->port_id, (uint16_t)i);
			tap_take_over(nic, i);
		} else if (may_have_interrupts(nic, conf) &&
			   rte_eth_dev_rx_intr_enable(nic->port_id, (uint16_t)i) == 0) {
			(void)rte_eth_dev_rx_intr_disable(nic->port_id, (uint16_t)i);
			q->fd = rte_eth_dev_rx_intr_ctl_q_get_fd(nic->port_id, (uint16_t)i);
			q->fd_is_counter = true;
			if (q->fd >= 0)
				q->rx_via |= BW_NIC__RX_STASH;
		}
		nic->has_rx_interrupt &= q->fd >= 0;
	}
	nic->has_rx_interrupt &= conf->wants_interrupts;
}

/* A socket that receives nothing (protocol 0) and holds what the interface's filter has to let through for us. */
static int member_add(struct bw_nic *nic, uint16_t type, const uint8_t *addr)
{
	struct packet_mreq member = {
		.mr_ifindex = (int)if_nametoindex(nic->plan.iface), .mr_type = type, .mr_alen = 6
	};

	memcpy(member.mr_address, addr, 6);
	if (nic->state->member_fd < 0)
		nic->state->member_fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (nic->state->member_fd < 0 || setsockopt(nic->state->member_fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP,
						 &member, sizeof(member)) != 0)
		return -errno;
	return 0;
}

static int set_mac(struct bw_nic *nic, const struct bw_nic_conf *conf)
{
	struct rte_ether_addr addr;
	int rc = 0;

	/* A bond of devices without any has none either, and its driver compares. */
	if (conf->mac == NULL &&
		(nic->plan.kind != BW_NIC_BOND || rte_eth_macaddr_get(nic->port_id, &addr) != 0 ||
			!rte_is_zero_ether_addr(&addr)))
		return 0;
	memcpy(addr.addr_bytes, nic->mac.b, sizeof(addr.addr_bytes));
	if (nic->plan.kind == BW_NIC_PACKET || nic->plan.kind == BW_NIC_XDP) {
		rc = member_add(nic, PACKET_MR_UNICAST, conf->mac->b);
	} else if (is_hardware(nic)) {
		rc = rte_eth_dev_default_mac_addr_set(nic->port_id, &addr);
	}
	if (rc != 0)
		bw_error("--dev %s: the device does not take the MAC address: %s", nic->plan.spec,
			strerror(-rc));
	return rc;
}

static int pools_in_use(const struct bw_nic *nic)
{
	int used = 0;

	for (unsigned i = 0; i < nic->worker_count; i++) {
		if (nic->pools[i] != NULL)
			used += (int)rte_mempool_in_use_count(nic->pools[i]);
	}
	if (nic->state->extra_pool != NULL)
		used += (int)rte_mempool_in_use_count(nic->state->extra_pool);
	return used;
}

struct rte_mempool *bw_nic_extra_pool(struct bw_nic *nic, unsigned count, unsigned room)
{
	BW_ASSERT(nic->state->extra_pool == NULL);
	BW_ASSERT_LE(RTE_PKTMBUF_HEADROOM + room, UINT16_MAX);
	nic->state->extra_pool =
		pool_create(nic, "extra", 0, count, 0, (uint16_t)(RTE_PKTMBUF_HEADROOM + room));
	return nic->state->extra_pool;
}

/** The others refuse what they cannot send. */
static bool has_link_to_watch(const struct bw_nic *nic)
{
	return nic->plan.kind == BW_NIC_PACKET || nic->plan.kind == BW_NIC_XDP || is_hardware(nic) ||
	       nic->plan.kind == BW_NIC_VHOST || nic->plan.kind == BW_NIC_VIRTIO;
}

/* It may have another name by now; sockets know it by its number. */
static void follow_name(struct bw_nic *nic)
{
	char name[IFNAMSIZ];

	if (nic->plan.iface[0] == '\0' || if_nametoindex(nic->plan.iface) == nic->state->iface_index ||
		if_indextoname(nic->state->iface_index, name) == NULL)
		return;
	bw_info("--dev %s: %s is called %s now", nic->plan.spec, nic->plan.iface, name);
	memcpy(nic->plan.iface, name, sizeof(name));
}

static bool is_iface_gone(const struct bw_nic *nic)
{
	struct bw_nic__iface iface;
	int rc;

	if (nic->plan.iface[0] == '\0')
		return false;
	rc = bw_nic__iface_read(nic->plan.iface, &iface);
	return rc == -ENODEV || (rc == 0 && iface.index != nic->state->iface_index);
}

/* On EAL's interrupt thread: workers make no system calls. */
static void watch_link(void *arg)
{
	struct bw_nic *nic = arg;
	bool is_down;

	follow_name(nic);
	bw_nic__bond_watch(nic);
	is_down = !bw_nic_is_link_up(nic);
	if (is_down && is_iface_gone(nic)) {
		bw_error("--dev %s: %s is gone; restart when there is one again", nic->plan.spec,
			nic->plan.iface);
		__atomic_store_n(&nic->state->is_startable, false, __ATOMIC_RELEASE);
		__atomic_store_n(&nic->is_link_down, true, __ATOMIC_RELAXED);
		return;
	}
	if (is_down != nic->is_link_down)
		bw_info("--dev %s: link is %s", nic->plan.spec, is_down ? "down" : "up");
	__atomic_store_n(&nic->is_link_down, is_down, __ATOMIC_RELAXED);
	(void)rte_eal_alarm_set(LINK_WATCH_US, watch_link, nic);
}

static void close_port(struct bw_nic *nic);

static int attach(struct bw_nic *nic, const struct bw_nic_conf *conf, struct sockets *sockets)
{
	bw_nic__listen();
	return nic->plan.kind == BW_NIC_RING     ? ring_attach(nic)
	       : nic->plan.kind == BW_NIC_VIRTIO ? virtio_attach(nic)
	       : nic->plan.kind == BW_NIC_BOND   ? bond_attach(nic, conf->mac, sockets)
	       : nic->plan.is_pci                ? pci_attach(nic)
						 : vdev_attach(nic, sockets);
}

static int describe(struct bw_nic *nic, struct rte_eth_dev_info *info)
{
	int rc = 0;

	if (nic->plan.kind == BW_NIC_VIRTIO)
		bw_nic__virtio_describe(nic, info);
	else
		rc = rte_eth_dev_info_get(nic->port_id, info);
	if (rc != 0)
		bw_error("--dev %s: the driver does not describe its device: %s", nic->plan.spec,
			strerror(-rc));
	else
		snprintf(nic->driver, sizeof(nic->driver), "%s", info->driver_name);
	return rc;
}

int bw_nic_open(struct bw_nic *nic, const struct bw_nic_conf *conf)
{
	struct bw_nic__iface iface = { 0 };
	struct rte_eth_dev_info info;
	struct sockets sockets;
	int rc;

	BW_ASSERT(conf->worker_count >= 1 && conf->worker_count <= BW_NIC__QUEUES_MAX);
	memset(nic, 0, sizeof(*nic));
	nic->plan = *conf->plan;
	nic->worker_count = conf->worker_count;
	nic->is_virtual = nic->plan.kind != BW_NIC_PCI;
	for (unsigned i = 0; i < nic->plan.member_count; i++)
		nic->is_virtual &= !bw_nic__is_pci_member(&nic->plan, i);
	nic->state = calloc(1, sizeof(*nic->state));
	nic->pools = calloc(conf->worker_count, sizeof(nic->pools[0]));
	if (nic->state == NULL || nic->pools == NULL) {
		bw_error("--dev %s: out of memory", nic->plan.spec);
		rc = -ENOMEM;
		goto fail;
	}
	nic->state->member_fd = -1;
	nic->state->serial = __atomic_fetch_add(&nics_opened, 1, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < BW_NIC__QUEUES_MAX; i++)
		nic->state->queue[i].fd = -1;

	rc = find_plugin(nic);
	if (rc != 0)
		goto fail;
	rc = attach(nic, conf, &sockets);
	if (rc == 0)
		rc = describe(nic, &info);
	if (rc != 0)
		goto fail;
	if (nic->plan.iface[0] != '\0') {
		rc = bw_nic__iface_read(nic->plan.iface, &iface);
		if (rc != 0) {
			bw_error(
				"--dev %s: %s went away: %s", nic->plan.spec, nic->plan.iface, strerror(-rc));
			goto fail;
		}
	}

	nic->state->iface_index = iface.index;
	const bool can_rss = is_hardware(nic) && bw_nic__rss_can(&info);

	rc = choose_mtu(nic, conf, &info, &iface);
	if (rc != 0)
		goto fail;
	choose_mac(nic, conf);
	choose_queues(nic, &info, can_rss);
	nic->has_rss = can_rss && nic->rx_queues > 1;
	nic->rx_descs = is_driver(nic, "net_tap") ? TAP_RX_DESCS : DESCS;
	nic->tx_descs = DESCS;
	(void)rte_eth_dev_adjust_nb_rx_tx_desc(nic->port_id, &nic->rx_descs, &nic->tx_descs);
	note_offloads(nic, &info);

	rc = make_pools(nic, conf, &info);
	if (rc != 0)
		goto fail;
	if (nic->plan.kind == BW_NIC_TAP) {
		rc = prepare_host_end(nic, conf, iface.index);
		if (rc != 0)
			goto fail;
	}
	if (nic->plan.kind == BW_NIC_VHOST)
		rc = bw_nic__vhost_prepare(nic);
	if (rc == 0)
		rc = nic->plan.kind == BW_NIC_VIRTIO ? bw_nic__virtio_start(nic)
						     : configure_and_start(nic, conf, &info);
	if (rc != 0)
		goto fail;
	if (nic->has_rss && bw_nic__rss_read(nic, info.reta_size) != 0) {
		bw_warn("--dev %s: the driver does not say which flows it brings to which queue; workers hand them over",
			nic->plan.spec);
		nic->has_rss = false;
	}
	rc = set_mac(nic, conf);
	if (rc != 0)
		goto fail;
	find_interrupts(nic, conf, &sockets);
	bw_nic__bond_settle(nic);
	rc = filter_sockets(nic, conf);
	if (rc != 0)
		goto fail;
	if (nic->plan.kind == BW_NIC_TAP) {
		rc = bw_nic__iface_up(iface.index);
		if (rc != 0) {
			bw_error("--dev %s: cannot set %s up: %s", nic->plan.spec, nic->plan.iface,
				strerror(-rc));
			goto fail;
		}
	}
	if (nic->plan.kind == BW_NIC_PACKET)
		nic->accepts_partial_checksum = true;
	if (nic->plan.kind == BW_NIC_XDP && bw_nic__iface_read(nic->plan.iface, &iface) == 0)
		nic->accepts_partial_checksum = iface.is_virtual || iface.is_xdp_generic;
	nic->state->keeps_held = is_driver(nic, "net_af_xdp");
	nic->is_zero_copy = nic->plan.kind == BW_NIC_XDP && is_zero_copy(nic->state->queue[0].fd);
	nic->state->held_by_driver = pools_in_use(nic);
	if (has_link_to_watch(nic)) {
		nic->is_link_down = !bw_nic_is_link_up(nic); /* the banner says so */
		watch_link(nic);
	}
	return 0;

fail:
	bw_nic_close(nic);
	return rc;
}

/* --- closing -------------------------------------------------------------------------------------------- */

static void drain_ring(struct rte_ring *ring)
{
	void *pkt;

	while (ring != NULL && rte_ring_dequeue(ring, &pkt) == 0)
		rte_pktmbuf_free(pkt);
}

/* What to unplug, before the port is closed: NULL for PCI, which stays probed. */
static struct rte_device *device_of(const struct bw_nic *nic, uint16_t port_id)
{
	struct rte_eth_dev_info info;

	return !nic->plan.is_pci && rte_eth_dev_info_get(port_id, &info) == 0 ? info.device : NULL;
}

static void close_port(struct bw_nic *nic)
{
	struct bw_nic__state *state = nic->state;
	struct rte_device *devices[BW_NIC__QUEUES_MAX];

	if (!state->is_port_open)
		return;
	if (has_link_to_watch(nic))
		rte_eal_alarm_cancel(watch_link, nic); /* waits for one that runs */
	for (unsigned i = 0; state->is_port_started && state->keeps_held && i < nic->tx_queues; i++)
		(void)rte_eth_tx_burst(state->queue[i].port_id, state->queue[i].port_queue, NULL,
			0); /* fetches what has been sent */
	__atomic_store_n(&state->is_startable, false, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < state->port_count; i++) {
		devices[i] = device_of(nic, state->port_ids[i]);
		if (state->port_ids[i] < RTE_MAX_ETHPORTS)
			bw_nic__port_give(state->port_ids[i]);
	}
	bw_nic__hush();
	if (nic->plan.kind == BW_NIC_VIRTIO) {
		bw_nic__virtio_close(nic);
	} else if (state->tx_via == BW_NIC__TX_SHARED) {
		bw_nic__vhost_close(nic);
	} else if (state->tx_via == BW_NIC__TX_GUARDED) {
		bw_nic__memif_close(nic);
	} else {
		for (unsigned i = 0; i < state->port_count; i++) {
			(void)rte_eth_dev_stop(state->port_ids[i]); /* one that was not started, too */
			(void)rte_eth_dev_close(state->port_ids[i]);
		}
	}
	for (unsigned i = 0; i < state->port_count; i++) {
		if (devices[i] != NULL)
			bw_nic__remove(devices[i]);
	}
	bw_nic__bond_leave(nic);
	bw_nic__unhush();
	if (nic->plan.kind == BW_NIC_XDP && is_iface_gone(nic))
		state->held_by_driver = pools_in_use(nic); /* what it had taken and can no longer send */
	for (unsigned i = 0; i < nic->rx_queues; i++) {
		struct bw_nic__queue *q = &state->queue[i];

		rte_pktmbuf_free_bulk(q->stash, q->stash_count);
		rte_pktmbuf_free_bulk(q->spare, q->spare_count);
		q->stash_count = 0;
		q->spare_count = 0;
	}
	for (unsigned i = 0; i < state->ring_count; i++) {
		drain_ring(state->ring_rx[i]);
		drain_ring(state->ring_tx[i]);
	}
	state->is_port_open = state->is_port_started = false;
}

void bw_nic_stop_queues(struct bw_nic *nic)
{
	close_port(nic);
}

void bw_nic_close(struct bw_nic *nic)
{
	struct bw_nic__state *state = nic->state;

	if (state != NULL) {
		close_port(nic);
		bw_nic__bond_leave(nic); /* where there was no port yet */
		if (state->member_fd >= 0)
			close(state->member_fd);
		for (unsigned i = 0; i < BW_NIC__QUEUES_MAX; i++)
			rte_mempool_free(state->queue[i].rx_pool);
		for (unsigned i = 0; i < state->ring_count; i++) {
			rte_ring_free(state->ring_rx[i]);
			rte_ring_free(state->ring_tx[i]);
		}
	}
	for (unsigned i = 0; nic->pools != NULL && i < nic->worker_count; i++)
		rte_mempool_free(nic->pools[i]);
	if (state != NULL)
		rte_mempool_free(state->extra_pool);
	free(nic->pools);
	free(state);
	nic->pools = NULL;
	nic->state = NULL;
}

/* --- asking --------------------------------------------------------------------------------------------- */

unsigned bw_nic_mbufs_in_use(const struct bw_nic *nic)
{
	const struct bw_nic__state *state = nic->state;
	const int held = state->is_port_open || state->keeps_held ? state->held_by_driver : 0;

	return (unsigned)BW_MAX(pools_in_use(nic) - held, 0);
}

int bw_nic_join(struct bw_nic *nic, const struct bw_mac *group)
{
	struct bw_nic__state *state = nic->state;
	int rc;

	if (nic->plan.kind == BW_NIC_PACKET || nic->plan.kind == BW_NIC_XDP)
		return member_add(nic, PACKET_MR_MULTICAST, group->b);
	if (!is_hardware(nic) && nic->plan.kind != BW_NIC_VDEV)
		return 0; /* these filter nothing */
	for (unsigned i = 0; i < state->group_count; i++) {
		if (memcmp(state->group[i].addr_bytes, group->b, sizeof(group->b)) == 0)
			return 0;
	}
	if (state->group_count < BW_NIC__GROUPS_MAX) {
		memcpy(state->group[state->group_count++].addr_bytes, group->b, sizeof(group->b));
		rc = rte_eth_dev_set_mc_addr_list(nic->port_id, state->group, state->group_count);
		if (rc == 0)
			return 0;
	}
	/* A filter that is too small or missing: let everything through, the parser drops what is not ours. */
	rc = rte_eth_allmulticast_enable(nic->port_id);
	return rc == 0 ? 0 : rte_eth_promiscuous_enable(nic->port_id);
}

int bw_nic_hear_groups(struct bw_nic *nic)
{
	int rc;

	if (!is_hardware(nic) && nic->plan.kind != BW_NIC_VDEV)
		return 0; /* these filter nothing */
	rc = rte_eth_allmulticast_enable(nic->port_id);
	return rc == -ENOTSUP && nic->plan.kind == BW_NIC_VDEV ? 0 : rc;
}

bool bw_nic_is_link_up(const struct bw_nic *nic)
{
	struct bw_nic__iface iface;
	struct rte_eth_link link = { 0 };

	/* Their drivers say "up" from start to stop. */
	if (nic->plan.kind == BW_NIC_PACKET || nic->plan.kind == BW_NIC_XDP)
		return bw_nic__iface_read(nic->plan.iface, &iface) == 0 &&
		       iface.index == nic->state->iface_index && iface.is_up && iface.has_carrier;
	if (nic->plan.kind == BW_NIC_VIRTIO)
		return __atomic_load_n(&nic->state->is_port_started, __ATOMIC_ACQUIRE);
	return rte_eth_link_get_nowait(nic->port_id, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
}

void bw_nic_losses(const struct bw_nic *nic, struct bw_nic_losses *losses)
{
	struct bw_nic__state *state = nic->state;

	memset(losses, 0, sizeof(*losses));
	if (!state->is_port_open || nic->plan.kind == BW_NIC_VIRTIO)
		return;
	for (unsigned i = 0; i < state->port_count; i++) {
		struct rte_eth_stats stats = { 0 };

		if (rte_eth_stats_get(state->port_ids[i], &stats) != 0)
			return;
		losses->rx_missed += stats.imissed;
		losses->rx_errors += stats.ierrors;
		losses->rx_no_mbuf += stats.rx_nombuf;
		losses->tx_errors += stats.oerrors;
	}
	/* These two count a packet that was not taken as an error each time it is offered. */
	if (is_driver(nic, "net_tap") || is_driver(nic, "net_af_xdp"))
		losses->tx_errors = 0;
	for (unsigned i = 0; i < nic->rx_queues; i++) {
		const struct bw_nic__queue *q = &state->queue[i];
		struct tpacket_stats socket_stats = { 0 };
		socklen_t len = sizeof(socket_stats);

		losses->rx_no_mbuf += q->lost_no_mbuf;
		losses->rx_errors += q->lost_too_long;
		if (is_driver(nic, "net_af_packet") && q->fd >= 0 &&
			getsockopt(q->fd, SOL_PACKET, PACKET_STATISTICS, &socket_stats, &len) == 0)
			state->lost_in_socket += socket_stats.tp_drops;
	}
	losses->rx_missed += state->lost_in_socket;
}

struct rte_ring *bw_nic_ring_rx(const struct bw_nic *nic, unsigned queue)
{
	return queue < nic->state->ring_count ? nic->state->ring_rx[queue] : NULL;
}

struct rte_ring *bw_nic_ring_tx(const struct bw_nic *nic, unsigned queue)
{
	return queue < nic->state->ring_count ? nic->state->ring_tx[queue] : NULL;
}
