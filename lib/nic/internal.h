/* SPDX-License-Identifier: BSD-3-Clause */
/** What the files of this room share. */
#pragma once

#include <net/if.h>
#include <rte_ethdev.h>
#include <rte_interrupts.h>

#include <nic/bind.h>
#include <nic/nic.h>

#define BW_NIC__QUEUES_MAX 64u
/* Vector receive functions return nothing when asked for less than a handful. */
#define BW_NIC__STASH_MAX  32
#define BW_NIC__GROUPS_MAX 64
#define BW_NIC__DESCS      1024

/* Frame plus headers: Ethernet, VLAN tag, and the FCS that DPDK counts. */
#define BW_NIC__FRAME_OVERHEAD (RTE_ETHER_HDR_LEN + RTE_VLAN_HLEN + RTE_ETHER_CRC_LEN)

/*
 * net_af_packet's ring frames. The kernel merges segments (GRO, and TSO over a veth) and puts fragments
 * together before a packet socket sees them, and what does not fit its frame is cut: so a frame holds the
 * largest IP packet that TCP makes. The largest mbuf bounds it (data room is 16 bits); a frame is a multiple of
 * 16 bytes and fills its block, a multiple of the page size, without a gap, because the driver counts on that:
 * 32 * 65408 = 511 * 4096. One ring each way and queue, so 33 MiB a queue.
 */
#define BW_NIC__PACKET_FRAME_BYTES 65408
#define BW_NIC__PACKET_BLOCK_BYTES (32 * BW_NIC__PACKET_FRAME_BYTES)
#define BW_NIC__PACKET_FRAMES      256
#define BW_NIC__PACKET_ROOM_BYTES  (RTE_PKTMBUF_HEADROOM + BW_NIC__PACKET_FRAME_BYTES - 32)
#define BW_NIC__PACKET_MBUFS       64
_Static_assert(BW_NIC__PACKET_ROOM_BYTES <= UINT16_MAX, "the size of an mbuf's buffer is 16 bits");
_Static_assert(BW_NIC__PACKET_BLOCK_BYTES % 4096 == 0, "blocks are pages");

/* Why a queue's RX does not go straight to the driver. */
enum bw_nic__rx_via {
	BW_NIC__RX_STASH = 1,   /* RX interrupts have to be armed: see bw_nic_sleep() */
	BW_NIC__RX_COPY = 2,    /* net_af_packet: from its large buffers into the worker's */
	BW_NIC__RX_GUARDED = 4, /* memif, vhost, virtio: their rings go with their peer, see guard.c */
	BW_NIC__RX_READ = 8,    /* net_tap: from its descriptor, see tap_read() */
	BW_NIC__RX_LACP =
		16, /* net_bonding: the driver sends LACP's packets when something is sent, see bond.c */
};

/* Why TX does not. */
enum bw_nic__tx_via {
	BW_NIC__TX_GUARDED = 1,
	BW_NIC__TX_WRITE = 2,  /* net_tap with an MTU that it does not know: see tap_write() */
	BW_NIC__TX_SHARED = 3, /* net_vhost: guarded, and perhaps by another worker's queue: see vhost.c */
};

/* A TAP's largest frame in mbufs of the usual size. */
#define BW_NIC__TAP_MBUFS_MAX 5
_Static_assert(BW_NIC__TAP_MBUFS_MAX *RTE_MBUF_DEFAULT_DATAROOM >= 9000 + BW_NIC__FRAME_OVERHEAD, "MTU_MAX");

struct bw_nic__queue {
	unsigned rx_via;
	uint16_t port_id, port_queue; /* DPDK's */
	int fd;                       /* readable when a packet is waiting; -1: none */
	bool fd_is_counter;           /* an eventfd that has to be read */
	struct rte_mempool *rx_pool;  /* of BW_NIC__RX_COPY, else NULL */
	uint16_t stash_count;
	struct rte_mbuf *stash[BW_NIC__STASH_MAX];
	uint64_t lost_no_mbuf, lost_too_long;
	struct bw_capture_ring *capture; /* of what leaves; NULL: none is taken */
	unsigned captured_as;            /* by which number of a device */
	unsigned spare_count, spare_max; /* of BW_NIC__RX_READ: what the next frame is read into */
	struct rte_mbuf *spare[BW_NIC__TAP_MBUFS_MAX];
};

struct bw_nic__state {
	struct bw_nic__queue queue[BW_NIC__QUEUES_MAX];
	uint16_t port_ids[BW_NIC__QUEUES_MAX]; /* bw_nic's own first: see struct bw_nic_plan */
	unsigned port_count;
	char device_name[64];
	unsigned serial; /* of this process's nics: what is named after it meets no other's */
	bool is_port_open, is_port_started; /* or all of them, where there are several */
	bool is_startable;                  /* cleared where an interface is gone, and at the end */
	unsigned iface_index;               /* of a kernel interface, which another of its name is not */
	unsigned link_down_ticks;
	uint16_t tx_segments_max, tso_segments_max; /* of a packet, and of one that the device segments */
	bool tx_wants_prepare; /* the device fills in checksums and needs the pseudo-header's sum for it */
	bool tx_wants_direct;  /* the device reads the mbuf's own buffer, whatever the mbuf points at */
	bool tx_wants_mapped;  /* the device reads memory by itself, and no other than EAL's */
	enum bw_nic__tx_via tx_via;
	int member_fd; /* packet socket that holds group memberships; -1: none */
	unsigned group_count;
	struct rte_ether_addr group[BW_NIC__GROUPS_MAX];
	uint64_t lost_in_socket;                 /* PACKET_STATISTICS clears on read */
	int held_by_driver;                      /* mbufs in its rings after the start */
	bool keeps_held;                         /* net_af_xdp does not give them back */
	bool is_tx_used[BW_NIC__QUEUES_MAX];     /* net_vhost: the guest takes from it */
	bool has_warned_of_queues;               /* net_vhost: that it uses more than there are */
	unsigned tx_to[BW_NIC__QUEUES_MAX];      /* of BW_NIC__TX_SHARED. Atomic */
	struct bw_nic__virtio *virtio;           /* virtio.c's */
	uint16_t member_ids[BW_NIC_MEMBERS_MAX]; /* a bond's, DPDK's numbers */
	unsigned members_attached;
	bool is_member_down[BW_NIC_MEMBERS_MAX];
	struct rte_mempool *extra_pool; /* bw_nic_extra_pool() */
	struct rte_ring *ring_rx[BW_NIC__QUEUES_MAX], *ring_tx[BW_NIC__QUEUES_MAX];
	unsigned ring_count;
};

/* eal.c: what DPDK says is remembered from here until asked for. */
void bw_nic__listen(void);
/** The most telling line since bw_nic__listen(): the first error, else the first warning. Never NULL. */
const char *bw_nic__heard(void);
/** What libraries write to stdout and stderr goes to the debug log; bw_nic__unhush() ends it. */
void bw_nic__hush(void);
void bw_nic__unhush(void);

/* plan.c */
/** Does one of the plans want what another has? 0, or -EBUSY after one line. */
int bw_nic__plans_meet(const struct bw_nic_plan *plans, unsigned count);

/* bond.c */
bool bw_nic__is_pci_member(const struct bw_nic_plan *plan, unsigned index);
/** The members, before there is a bond. 0, or -errno after one line. */
int bw_nic__bond_find(struct bw_nic *nic);
/** They become members. 0, or -errno after one line. */
int bw_nic__bond_join(struct bw_nic *nic, const struct bw_mac *mac);
/** After it is started. */
void bw_nic__bond_settle(struct bw_nic *nic);
/** Tell of the members whose link has changed. On EAL's interrupt thread, or before that has been told to watch. */
void bw_nic__bond_watch(struct bw_nic *nic);
/** Close the members, of one whose port has been closed. */
void bw_nic__bond_leave(struct bw_nic *nic);
/** Is one of the members of that driver? */
bool bw_nic__bond_has_driver(const struct bw_nic *nic, const char *driver);

/* nic.c: ports of nics that are open. */
bool bw_nic__port_take(uint16_t port_id); /* false: another nic has it */
void bw_nic__port_give(uint16_t port_id);

/* probe.c */
/**
 * rte_dev_probe() and rte_dev_remove(), one thread at a time: EAL's list of devices has no lock.
 * @name      the device's
 * @may_wait  the driver may wait for a peer meanwhile, which is in nobody's way
 * 0, or -errno: EAL's.
 */
int bw_nic__probe(const char *devargs, const char *name, bool may_wait, uint16_t *port_id);
void bw_nic__remove(struct rte_device *device);

/* link.c: kernel interfaces. */
struct bw_nic__iface {
	unsigned index;
	bool is_up, has_carrier, is_loopback, is_ethernet, is_virtual;
	uint16_t mtu;
	struct bw_mac mac;
	char driver[32];
	unsigned combined_channels; /* queues that receive and send; 0 where it has none or does not say */
	unsigned rx_channels, tx_channels; /* queues that do one of it, these included */
	unsigned xdp_prog_id;              /* 0: none attached */
	bool is_xdp_generic;
};
/** 0, or -errno: -ENODEV when there is none of that name. */
int bw_nic__iface_read(const char *name, struct bw_nic__iface *iface);
/** Set MTU and quieten IPv6's own traffic before the interface comes up. */
int bw_nic__iface_prepare(unsigned index, const char *name, uint16_t mtu);
int bw_nic__iface_up(unsigned index);
int bw_nic__iface_add_addr(unsigned index, const struct bw_cidr *addr);
int bw_nic__iface_set(unsigned index, const struct bw_mac *mac, uint16_t mtu);
/** 0 or -errno; -EEXIST: there is one of that name, or one for the VLAN. */
int bw_nic__iface_add_vlan(unsigned below, const char *name, uint16_t vlan);
/** 0 or -errno; -EEXIST: the kernel has one for that prefix with that metric. */
int bw_nic__iface_add_route(
	unsigned index, const struct bw_cidr *prefix, const struct bw_ip *gateway, uint32_t metric);
struct bw_nic__link {
	unsigned index;
	unsigned
		below; /* what it lies on (a VLAN's, say), or a veth's other end, of this namespace; 0: none */
	unsigned master; /* what it is a port of; 0: none */
	bool is_opaque;  /* where its packets go is not among these */
};
/** Every link of this namespace. 0, -EAGAIN when they changed meanwhile, or -errno. */
int bw_nic__dump_links(void (*take)(const struct bw_nic__link *link, void *arg), void *arg);
struct nlmsghdr;
struct rtattr;
/** Every route of a family, of every table. 0 or -errno. */
int bw_nic__dump_routes(int family, void (*take)(const struct nlmsghdr *message, void *arg), void *arg);
/** The first attribute of that type; NULL: none. */
struct rtattr *bw_nic__rtattr(struct rtattr *a, int left, uint16_t type);
bool bw_nic__has_capability(unsigned capability);

/* pci.c */
#define BW_NIC__PCI_ADDR_BYTES 16
/** "3:0.0" and "0000:03:00.0" to the latter. False: it is no address. */
bool bw_nic__pci_addr(const char *text, size_t len, char out[BW_NIC__PCI_ADDR_BYTES]);
/** One that gives a device away; mlx4's and mlx5's do not. */
bool bw_nic__is_dpdk_driver(const char *driver);
/** The last component of what a symbolic link points at, or empty. */
void bw_nic__link_name(const char *path, char *out, size_t out_bytes);
/** For each entry of a folder that begins so, until one says something else than 0. No folder has none. */
int bw_nic__each_entry(const char *path, const char *prefix,
	int (*look)(const char *path, const char *name, void *arg), void *arg);
/** For each of the kernel's interfaces of a device, those of the virtio device that a PCI device is among them. */
int bw_nic__each_iface(
	const char *device, int (*look)(const char *path, const char *name, void *arg), void *arg);

/* bind.c */
/** The machine, or a test's. */
struct bw_nic__bind_host {
	const char *sys, *proc; /* where the kernel shows itself */
	const char *run;        /* the folder in which is written down what a NIC had */
	int (*write)(const char *path, const char *text); /* to an attribute, at once. 0 or -errno */
	void (*modprobe)(const char *module);
	int (*has_default_route)(const char *path); /* bw_nic__function_has_default_route() */
};
int bw_nic__bind(const struct bw_nic__bind_host *host, const struct bw_bind_conf *conf);
int bw_nic__unbind(const struct bw_nic__bind_host *host, const char *addr);

/* default_route.c */
/** As bw_nic_has_default_route(), of a kernel interface. */
int bw_nic__iface_has_default_route(const char *name);
/** As that, of any of the kernel's interfaces of a device and, with SR-IOV, of the NIC's other functions. */
int bw_nic__device_has_default_route(const char *path);
/** As that, of what goes away with the device alone: its own interfaces, and those of its virtual functions. */
int bw_nic__function_has_default_route(const char *path);

/* io.c */
/** Make the queue's spare mbufs as many as a frame may need. False: the pool is empty. */
bool bw_nic__tap_fill(const struct bw_nic *nic, unsigned queue);

/* finish.c */
/** Fill in the TCP or UDP checksum that ol_flags ask for and clear the flag. Any chain. */
void bw_nic__l4_checksum(struct rte_mbuf *m);
/** Make *pkt something the device can take. 0, or -ENOMEM: unchanged. */
int bw_nic__finish(
	const struct bw_nic *nic, unsigned queue, struct rte_mbuf **pkt, struct bw_counters *counters);

/* rss.c */
#define BW_NIC__RSS_KEY_BYTES_MAX 64
void bw_nic__rss_key(uint8_t key[BW_NIC__RSS_KEY_BYTES_MAX]);
/** Does the device spread TCP flows in a way that can be foretold? */
bool bw_nic__rss_can(const struct rte_eth_dev_info *info);
/** After the start. 0, or the driver's error: what it does is not known. */
int bw_nic__rss_read(struct bw_nic *nic, uint16_t reta_size);
uint32_t bw_nic__rss_hash(const struct bw_flow *flow);

/* socket.c */
#define BW_NIC__SOCKET_PATH_BYTES 108 /* of sockaddr_un */
/**
 * A socket's path as the drivers want it, absolute; the file itself need not exist, its directory must.
 * @form  what stands before the colon of the SPEC, for the error
 * 0, or -EINVAL, -EACCES or -ENODEV after one line.
 */
int bw_nic__socket_path(
	const char *spec, const char *form, const char *given, char out[BW_NIC__SOCKET_PATH_BYTES]);
/** For a server: a path that nobody listens on any more is removed. 0, or -errno after one line. */
int bw_nic__socket_claim(const char *spec, const char *path);
/** For a client: there is nothing yet, or a socket that may be connected to. 0, or -errno after one line. */
int bw_nic__socket_may_connect(const char *spec, const char *path);
/** Is there a socket that nobody listens on any more? Who listens does not notice the question. */
bool bw_nic__socket_is_stale(const char *path);
/** This process's connected descriptor at that path, of the side that is named; -1: none. */
int bw_nic__socket_find(const char *path, bool is_server);
/** Close all of this process's at that path: a driver's that has forgotten them. */
void bw_nic__socket_close(const char *path, bool is_server);
/** Shut down all of this process's at that path: whoever waits for one of them, on whichever thread, wakes up. */
void bw_nic__socket_shut(const char *path, bool is_server);

/* guard.c: bursts of BW_NIC__RX_GUARDED, BW_NIC__TX_GUARDED and BW_NIC__TX_SHARED. */
uint16_t bw_nic__guarded_rx(struct bw_nic *nic, unsigned queue, struct rte_mbuf **pkts, uint16_t max);
uint16_t bw_nic__guarded_tx(const struct bw_nic *nic, unsigned queue, struct rte_mbuf **pkts, uint16_t count);
uint16_t bw_nic__shared_tx(const struct bw_nic *nic, unsigned queue, struct rte_mbuf **pkts, uint16_t count);
/** No such burst is under way between the two. Waits for those that are. */
void bw_nic__guards_take(void);
void bw_nic__guards_give(void);

/* memif.c */
/** Start the port. A client's may have nobody to connect to yet, and starts when it has. 0, or -errno: a server's. */
int bw_nic__memif_start(struct bw_nic *nic, bool is_client);
/** Stop and close the port, of one that was started. */
void bw_nic__memif_close(struct bw_nic *nic);

/* vhost.c */
/** Before the port is configured, and with that may have a peer. 0, or -errno after one line. */
int bw_nic__vhost_prepare(struct bw_nic *nic);
/** Stop and close the port, also of one that was not started. */
void bw_nic__vhost_close(struct bw_nic *nic);

/* virtio.c */
/** What rte_eth_dev_info_get() would say; there is a port only while there is a peer. */
void bw_nic__virtio_describe(const struct bw_nic *nic, struct rte_eth_dev_info *info);
/** Look for the peer, from now on. 0, or -errno after one line. */
int bw_nic__virtio_start(struct bw_nic *nic);
/** Of one that was started, or was not. */
void bw_nic__virtio_close(struct bw_nic *nic);
/** Is that the driver's link handler, which EAL is not to have? */
bool bw_nic__virtio_keeps_off(const struct rte_intr_handle *handle, rte_intr_callback_fn fn);
