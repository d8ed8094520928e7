/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * DPDK ports, called nics here: choose, start, queues, offloads, pools, RX and TX bursts.
 *
 * A nic is opened in two steps, because EAL takes its devices as arguments: bw_nic_plan() turns what the user
 * said (--dev) into EAL arguments, bw_eal_start() starts EAL with them, bw_nic_open() configures the port.
 *
 * What a driver lacks is done in software here and nowhere else: TX checksums, linearising chains, frames that
 * are larger than a buffer. VLAN tags are bytes of the packet in both directions, so no tag is ever offloaded.
 */
#pragma once

#include <net/if.h>
#include <rte_mbuf.h>

#include <base/addr.h>
#include <base/counters.h>
#include <base/types.h>

struct bw_capture_ring;

enum bw_nic_kind {
	BW_NIC_TAP,    /* tap[:NAME]: net_tap; the host end gets an address and goes away at exit */
	BW_NIC_PACKET, /* packet:IFACE: net_af_packet */
	/* xdp:IFACE[,busy_poll=PACKETS][,copy=1]: net_af_xdp. busy_poll: what one look at the device may handle, 64 unless told;
	   0: none, its interrupts do. copy: into our buffers although the device could write there itself. */
	BW_NIC_XDP,
	/* memif:SOCKET[,role=server|client][,id=N][,bsize=BYTES][,rsize=LOG2][,queues=N][,zc=1]; server unless told.
	   Both ends must say the same `queues` (default 1). zc: client only, and only with hugepages. */
	BW_NIC_MEMIF,
	/* vhost:SOCKET[,role=server|client][,queues=N]: net_vhost, the back-end: a virtual machine's NIC is at the other
	   end. Server unless told; one queue a worker unless told, and the guest may use fewer. */
	BW_NIC_VHOST,
	/* virtio:SOCKET[,role=client|server][,queues=N]: net_virtio_user, the front-end: what a virtual machine would be.
	   Client unless told; one queue unless told, and the back-end has as many or more. */
	BW_NIC_VIRTIO,
	BW_NIC_RING, /* ring: net_ring; tests hold the other ends, bw_nic_ring_rx() and bw_nic_ring_tx() */
	BW_NIC_PCAP, /* pcap:IN,OUT: net_pcap files */
	BW_NIC_PCI,  /* pci:ADDR[,k=v]: a NIC bound to vfio-pci or another DPDK driver */
	BW_NIC_VDEV, /* net_...,k=v: raw devargs of a virtual device */
	/* bond:MODE,MEMBER,MEMBER...: net_bonding. MODE: active-backup, balance-xor, 802.3ad. MEMBER: pci:ADDR, or the
	   name of a device that EAL was told of behind "--", net_... */
	BW_NIC_BOND,
};

#define BW_NIC_MEMBERS_MAX 8

/** What --dev says, checked, and what EAL needs for it. */
struct bw_nic_plan {
	enum bw_nic_kind kind;
	char spec[256];       /* as the user wrote it, or what auto chose */
	char reason[160];     /* one sentence, "chosen because ..."; empty when the user chose */
	char iface[IFNAMSIZ]; /* the kernel interface of tap, packet, xdp */
	char socket[108];     /* of vhost, virtio: where the two ends meet */
	bool is_socket_server;
	char devargs[320]; /* of the virtual device, or for --allow; empty for ring */
	bool is_pci;
	unsigned queues_max;   /* 1 where the driver has one queue; else what was asked */
	unsigned port_count;   /* DPDK ports: 1, or queues_max where each queue is a port (xdp) */
	unsigned member_count; /* of a bond, else 0 */
	char members[BW_NIC_MEMBERS_MAX][32]; /* DPDK's names for them: PCI addresses, or net_... */
};

/**
 * Understand a --dev SPEC. "auto" takes: the only PCI NIC that is bound to a DPDK driver, else a TAP.
 * Never a device that the kernel drives, unless it was named.
 * @queues  RX/TX queues wanted: one a worker
 * 0, or -EINVAL, -ENODEV, -EACCES, -EBUSY after one line: what, where, what to do.
 */
int bw_nic_plan(const char *spec, unsigned queues, struct bw_nic_plan *plan);
/**
 * Has the kernel a default route, of any table and family, through the device, or through an interface that shares it (a
 * bridge or bond over it, a VLAN upon it)? Two routes that cover all addresses together are one, too. 1, 0, or -errno:
 * not to be found out, as of a raw virtual device (-EOPNOTSUPP).
 */
int bw_nic_has_default_route(const struct bw_nic_plan *plan);

/** Mbufs of a worker's pool that no connection keeps: what some turns receive, and answers to it. */
#define BW_NIC_RESERVE 256

struct bw_eal_conf {
	const struct bw_nic_plan *plans; /* of all nics that will be opened */
	unsigned plan_count;             /* 0: none */
	const unsigned
		*cpus; /* of the workers: main() and EAL's own threads keep off them while others are left */
	unsigned cpu_count;
	unsigned memory_mib; /* what must be had; see bw_nic_memory_mib() */
	char *const *extra;  /* what the user wrote behind "--" */
	unsigned extra_count;
	const char *file_prefix; /* NULL: made from the pid, so that instances do not meet */
};

/**
 * rte_eal_init() with --no-pci or an explicit allow list, --no-telemetry, hugepages when enough are free
 * (else --no-huge), in-memory so that nothing is left behind. EAL's own chatter goes to the debug log only;
 * what it says when it fails is condensed to one line. What two plans both want (an interface, a socket, a PCI device) is
 * refused. 0 or -errno. Once in a process.
 *
 * EAL gets one lcore, 0, which floats over all CPUs that the process may use but the workers': the caller's
 * thread. A worker is a pthread of the engine's: it pins itself to its CPU and calls rte_thread_register(),
 * which gives it an lcore id and with it the mempool caches.
 */
int bw_eal_start(const struct bw_eal_conf *conf);
void bw_eal_stop(void);
bool bw_eal_has_hugepages(void);

struct bw_nic_conf {
	const struct bw_nic_plan *plan;
	unsigned worker_count;
	uint16_t mtu;              /* 576..9000; 0: the interface's, 1500 where there is none */
	uint32_t mbufs_per_worker; /* 0: chosen from descriptors, 16384 at least */
	const struct bw_mac *mac;  /* NULL: the device's own */
	/* packet: an eBPF program that says which packets its sockets are shown; 0: all. The caller's */
	int socket_filter_fd;
	bool wants_interrupts; /* adaptive polling: RX interrupts where the driver has them */
	/* tap: addresses of the kernel's end, NULL for none; ours are the same prefix's other addresses */
	const struct bw_cidr *host_addrs;
	unsigned host_addr_count;
};

/** What was started. Read-only outside this room. */
struct bw_nic {
	struct bw_nic_plan plan;
	uint16_t port_id; /* DPDK's; the first where each queue has one */
	char driver[32];
	struct bw_mac mac;
	uint16_t mtu;
	unsigned rx_queues, tx_queues; /* 1..worker_count each */
	uint16_t rx_descs, tx_descs;
	bool has_rss;      /* the device spreads flows over the queues, both directions to the same one */
	uint16_t rss_mask; /* with RSS: of the hash, for its place in the device's table of queues */
	uint8_t rss_queue[512];
	bool has_rx_checksum; /* sets RTE_MBUF_F_RX_{IP,L4}_CKSUM_* */
	bool has_tx_ip_checksum, has_tx_l4_checksum;
	bool has_multi_segment;
	bool has_vlan_insert, has_vlan_strip; /* what the device could do; tags stay in the bytes */
	uint32_t tso_bytes_max;               /* 0: no TSO */
	bool has_rx_interrupt;
	/* For bw_wire_host. packet: the kernel's GRO has verified what it merged and leaves the pseudo-header's sum
	   in place, and a veth's peer never filled it in. xdp: on virtual interfaces and in generic mode. */
	bool accepts_partial_checksum;
	bool is_zero_copy; /* xdp: the device writes what it receives into our buffers itself */
	bool is_link_down; /* of those that can tell: as of the last tenth of a second. Atomic */
	bool is_virtual;   /* adaptive polling is the default */
	unsigned worker_count;
	struct rte_mempool **pools; /* one a worker: RX of its queue and its TX */
	unsigned mbufs_per_worker;
	struct bw_nic__state *state; /* this room's own */
};

/** MiB of EAL memory that a nic with this configuration needs. Before EAL starts. */
unsigned bw_nic_memory_mib(
	const struct bw_nic_plan *plan, unsigned workers, uint32_t mbufs_per_worker, uint16_t mtu);

/** 0, or -errno after one line; unwinds what it did. */
int bw_nic_open(struct bw_nic *nic, const struct bw_nic_conf *conf);
/**
 * Buffers for packets that are not a worker's, `count` of them, each with room for `room` bytes: what they are used for
 * takes none from the workers. Once a nic. The nic's, and counted with the others. NULL after one line.
 */
struct rte_mempool *bw_nic_extra_pool(struct bw_nic *nic, unsigned count, unsigned room);
/** With RSS: the queue that a flow's packets come to, in either direction. Some ten ns. */
unsigned bw_nic_rss_queue(const struct bw_nic *nic, const struct bw_flow *flow);
/** Stops and closes the port, removes a TAP, frees the pools. */
void bw_nic_close(struct bw_nic *nic);

/**
 * RX burst of a queue. Never blocks. VLAN tags are in the packet's bytes whether or not the device strips.
 * A packet may be a chain and, on packet:, longer than the MTU: the kernel merges segments (GRO) and puts IPv4
 * fragments together before it shows them. Headers are in the first segment.
 */
uint16_t bw_nic_rx(struct bw_nic *nic, unsigned queue, struct rte_mbuf **pkts, uint16_t max);

/**
 * TX burst: finishes the packets for the device (checksums asked for by RTE_MBUF_F_TX_* with l2/l3/l4_len,
 * chains, TSO) and sends. Returns how many were taken; the rest stays the caller's, unchanged enough to be
 * offered again: a checksum may be filled in and its flag cleared, and a chain that the device cannot take may
 * have been replaced in `pkts` by a copy.
 * @counters  copied.bytes for what had to be linearised, drop.no_mbuf for what could not be
 */
uint16_t bw_nic_tx(struct bw_nic *nic, unsigned queue, struct rte_mbuf **pkts, uint16_t count,
	struct bw_counters *counters);
/** From now on, copy what bw_nic_tx() sends there; NULL: no longer. Called by the queue's own worker. */
void bw_nic_capture(struct bw_nic *nic, unsigned queue, struct bw_capture_ring *ring, unsigned device);

/** A queue of a nic; BW_NIC_NO_QUEUE where the caller has none of it. */
struct bw_nic_queue {
	struct bw_nic *nic;
	unsigned queue;
};
#define BW_NIC_NO_QUEUE UINT32_MAX

/**
 * Sleep until a packet arrives on one of the queues (where has_rx_interrupt), `wake_fd` becomes readable (it is read),
 * or timeout_ns passed, whichever is first. Called by the queues' own worker.
 * @count  at most BW_NIC_SLEEP_MAX
 */
#define BW_NIC_SLEEP_MAX 8
void bw_nic_sleep(const struct bw_nic_queue *queues, unsigned count, int wake_fd, bw_ns timeout_ns);

/** Join or leave an Ethernet multicast group where the device filters; 0 or -errno. */
int bw_nic_join(struct bw_nic *nic, const struct bw_mac *group);
/** Let all groups through, for somebody else on the same link. 0 or -errno. */
int bw_nic_hear_groups(struct bw_nic *nic);
bool bw_nic_is_link_up(const struct bw_nic *nic);

/** Device counters of losses before our rings: missed, errors, no-mbuf. */
struct bw_nic_losses {
	uint64_t rx_missed, rx_errors, rx_no_mbuf, tx_errors;
};
void bw_nic_losses(const struct bw_nic *nic, struct bw_nic_losses *losses);

/**
 * mbufs of all pools that are neither in their pool nor in the driver's receive rings. After
 * bw_nic_stop_queues() and the engine's end: 0; before, devices may still hold what they sent last.
 */
unsigned bw_nic_mbufs_in_use(const struct bw_nic *nic);
/** Stop and close the port so that its rings give their mbufs back; no burst after it. bw_nic_close() frees the rest. */
void bw_nic_stop_queues(struct bw_nic *nic);

/**
 * ring: where bw_nic_rx() takes packets from and where bw_nic_tx() puts them, 1024 each, one producer and one
 * consumer. mbufs must come from nic->pools, the ring's reader frees them. NULL on other nics.
 */
struct rte_ring *bw_nic_ring_rx(const struct bw_nic *nic, unsigned queue);
struct rte_ring *bw_nic_ring_tx(const struct bw_nic *nic, unsigned queue);
