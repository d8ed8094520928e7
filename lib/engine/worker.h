/* SPDX-License-Identifier: BSD-3-Clause */
/** The worker's state and the steps of its turn. Internal to the room; lib/engine/worker.c reads first. */
#pragma once

#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <pthread.h>
#include <stdatomic.h>

#include <rte_prefetch.h>
#include <rte_ring.h>

#include <base/assert.h>
#include <base/counters.h>
#include <base/mbuf.h>
#include <base/wheel.h>
#include <engine/engine.h>
#include <wire/build.h>
#include <wire/packet.h>

#include "cycles.h"
#include "neigh.h"

#define BW_BURST_MAX        32   /* packets a queue a turn */
#define BW_TX_BACKLOG_MAX   1024 /* packets kept while the device's queue is full */
#define BW_TX_KERNELS       64   /* of these, with an exception path, only of what the kernel sends */
#define BW_INBOX_SIZE       4096 /* packets, and mails, on their way from other workers */
#define BW_FINISH_STEPS     9    /* gates between "stop" and the end: see finish() in worker.c */
#define BW_JOBS_MAX         1024 /* in flight a worker */
#define BW_DROP_REASONS_MAX 40

/** One service on one worker: what service/service.h calls a context. */
struct bw_context {
	struct bw_worker *worker;
	const struct bw_service *service;
	void *conf;
	void *state;
	unsigned index; /* of the service in the engine's configuration */
	uint16_t port;
	unsigned listener; /* TCP's number for it */
	bool is_started;
};

/** A barrier whose number of parties may still shrink, when a thread of theirs could not be started. */
struct bw_gate {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	unsigned parties, waiting, generation;
};

struct bw_outbox {
	struct bw_mail *first, *last;
};

struct rte_ip_frag_tbl;
struct rte_ip_frag_death_row;

/** Timers of the worker's own wheel, by kind. */
enum bw_worker_timer {
	BW_TIMER_NEIGH,
	BW_TIMER_ANNOUNCE,
	BW_TIMER_FRAGMENTS,
};

struct bw_share;
struct bw_exception;
struct bw_claims;
struct bw_device;

/** Our addresses and what lies beyond them. Never changes: there is a new one instead, see bw_network_publish(). */
struct bw_network {
	unsigned addr_count, route_count;
	struct bw_cidr range; /* addresses that are ours, too; a prefix_len of 0: none */
	bool is_kernels;      /* and not ours alone: it resolves neighbours, and knows what is on the link */
	uint64_t left;        /* by bits: of those addresses, the ones whose ports are another process's */
	struct bw_mac mac;
	struct bw_cidr addrs[BW_NETWORK_ADDRS_MAX];
	struct bw_network_route {
		struct bw_cidr prefix;
		struct bw_ip gateway; /* unspecified: on the link */
		struct bw_ip source;  /* to talk from, or unspecified */
	} routes[];                   /* longest prefix first */
};

/** A worker's part of a device: its queues, who we are on that link, and what waits to leave by it. */
struct bw_iface {
	struct bw_worker *worker;
	struct bw_device *device;
	struct bw_nic *nic;
	const struct bw_network *network; /* Atomic: of the worker, and looked at by who changes it */
	struct bw_claims
		*claims; /* of what is received, what is not the kernel's; NULL: all of it. See exception.c */
	struct bw_wire_host host;
	uint16_t rx_queue, tx_queue;
	bool has_own_rx, has_own_tx;
	bool is_tx_stuck; /* the device has taken nothing for longer than a crowd lasts. Atomic: of a queue's owner */
	bool dispatches; /* flows are spread by our hash, not by the device */
	unsigned tx_count;
	unsigned
		tx_bound; /* where the stack stops adding: BW_TX_BACKLOG_MAX, or less for the kernel's (exception.c) */
	bw_ns tx_stuck_at;   /* since when the device has taken nothing; 0: it does */
	bw_ns tx_offered_at; /* while it has not: when it was last asked */
	struct rte_mbuf *tx[BW_TX_BACKLOG_MAX + BW_BURST_MAX];
	struct bw_ip hop; /* where the last packet went that had no path yet */
	uint32_t hop_path;
	struct bw_timer announce_timer;
	unsigned announcements_sent;
	bw_ns defended_at;        /* when an address of ours was last defended (RFC 5227) */
	struct bw_tcp_link link;  /* for TCP, where there are several */
	struct rte_ring *tx_in;   /* built by other workers, for our device queue */
	struct rte_ring *told_in; /* what the kernel knows of neighbours; NULL: nothing is shared with it */
	bool was_not_told;        /* there was no room. Atomic */
} __attribute__((aligned(BW_CACHE_LINE)));

struct bw_worker {
	/* the turn */
	bw_ns now;
	uint64_t turn_cycles; /* TSC at the turn's start */
	bool had_work;
	bool is_draining, has_cut_off;
	bool has_kernels; /* an interface is shared with the kernel */
	uint8_t ttl;      /* of what is sent */
	uint16_t index, worker_count;
	struct bw_engine *engine;
	unsigned epoch;          /* of the engine, when what it publishes was last taken */
	unsigned iface_count;    /* one a device */
	struct bw_iface *ifaces; /* [iface_count] */
	struct bw_capture_ring
		*capture; /* of all that passes; NULL: nobody looks. Atomic: see bw_engine_capture() */
	struct bw_tcp *tcp;
	struct rte_mempool *pool; /* of the first device's: whatever we send is from it */

	/* the network */
	struct bw_wheel wheel;
	struct bw_neigh_cache neigh;
	struct bw_timer fragment_timer;
	struct rte_ip_frag_tbl *fragments;
	struct rte_ip_frag_death_row *death_row;
	bw_ns fragment_at;    /* when the last fragment came */
	uint32_t icmp_tokens; /* errors that may be sent now */
	bw_ns icmp_refilled_at;
	uint16_t ip_id;
	uint32_t ip6_fragment_id;

	/* between cores: other workers put in, this one takes out */
	struct rte_ring *packets_in; /* received elsewhere, ours by their hash */
	struct rte_ring *control_in; /* copies that another worker gave to everybody: see ingress.c */
	struct rte_ring *mail_in;
	struct rte_ring *jobs_done;
	struct bw_outbox *outbox; /* [worker_count] */
	unsigned jobs_in_flight;

	/* services */
	struct bw_context *contexts; /* [engine's service_count] */
	bw_ns tick_due_at;           /* when ticks are due although nothing has happened */
	bool has_ticks;
	uint8_t *datagram_scratch; /* 64 KiB: a datagram in one piece */
	struct bw_flood *flood;    /* NULL: none */

	/* sleeping: see power.c */
	bw_ns active_at; /* the last turn that had work */
	bw_ns sleep_ns;  /* the next step */
	bool is_adaptive;
	int wake_fd;
	_Atomic bool is_sleeping;

	/* figures: written here, read by anyone */
	struct bw_counters counters;
	uint64_t turns, busy_cycles, idle_cycles, sleeps;
	struct bw_cycles cycles;

	_Atomic unsigned open_count; /* connections; kept only while draining */

	pthread_t thread;
	bool is_running;
} __attribute__((aligned(BW_CACHE_LINE)));

/** A device, as all workers have it. */
struct bw_device {
	struct bw_engine *engine;
	const struct bw_engine_device *conf;
	unsigned index;
	struct bw_nic *nic;
	struct bw_network *network;     /* Atomic: the newest */
	struct bw_share *share;         /* NULL: it is ours alone */
	struct bw_exception *exception; /* NULL: the kernel has no part in it */
};

struct bw_engine {
	struct bw_engine_conf conf;
	unsigned number; /* of the engines that this process has made: in the names of its rings */
	struct bw_device devices[BW_DEVICES_MAX];
	unsigned device_count;
	unsigned epoch;             /* Atomic: one more whenever a device's network or `capture` is another */
	struct bw_capture *capture; /* Atomic: the newest, or none */
	pthread_mutex_t network_mutex; /* between the networks and threads that are no workers */
	unsigned worker_count;
	struct bw_worker *workers;
	struct bw_gate gate; /* where the workers and the controlling thread wait for each other */
	int start_error;     /* of any worker */
	_Atomic bool stops, drains, drain_expired;
	_Atomic unsigned cut_off_count;
	_Atomic bw_ns flood_began_at; /* 0: it has not */
	_Atomic bool flood_ends;
	bool has_started;

	struct rte_ring *jobs;
	pthread_t helpers[16];
	unsigned helper_count;
	pthread_mutex_t job_mutex; /* only to sleep: the queue itself is the ring */
	pthread_cond_t job_cond;
	bool helpers_stop;
};

/* engine.c */
/** Wait until all parties are here. */
void bw_gate_pass(struct bw_gate *gate);
/** The same in two halves, for who has something to do meanwhile: be here, and ask whether all are. */
unsigned bw_gate_arrive(struct bw_gate *gate);
bool bw_gate_is_open(struct bw_gate *gate, unsigned generation);

/* worker.c */
void *bw_worker_main(void *worker);
/** One turn, and what the controlling thread has ordered. Returns whether there was anything to do. */
bool bw_worker_step(struct bw_worker *w);
/**
 * Another thread has changed what workers take from the engine: `is_taken` is asked of each until it is so. Not for a
 * worker's thread.
 */
void bw_worker_tell_all(struct bw_engine *engine,
	bool (*is_taken)(const struct bw_worker *w, const void *what), const void *what);

/* worker_setup.c: what a worker owns, made and released by the worker itself so that memory is local */
int bw_worker_setup(struct bw_worker *w);
void bw_worker_teardown(struct bw_worker *w);
void bw_worker_free_rings(struct bw_worker *w);

/* ingress.c */
unsigned bw_ingress_devices(struct bw_worker *w);
unsigned bw_ingress_inbox(struct bw_worker *w);
/** Do the flow's packets come to this worker? */
bool bw_ingress_is_local(const void *worker, const struct bw_flow *flow);

/* egress.c */
/** Drain TCP's ready connections into packets. Returns how many. */
unsigned bw_egress(struct bw_worker *w);
/** Hand the burst to the device; what does not fit stays, in order. Returns how many it took. */
unsigned bw_egress_flush(struct bw_worker *w);
/** An IP packet without its Ethernet header: route, resolve, send. Takes the mbuf. */
void bw_egress_ip(struct bw_iface *iface, struct rte_mbuf *m, const struct bw_ip *dst);
/**
 * The largest packet of a datagram for `dst`. Beyond a router, IPv6 has those that every link carries (RFC 8200 section
 * 5): nobody here remembers for a datagram what a router says of a narrower one. IPv4's routers cut what is too large.
 */
unsigned bw_egress_datagram_mtu(const struct bw_iface *iface, const struct bw_ip *dst);
/** An IP packet that may be larger than that: fragmented if it has to be. Checksums must be done. */
void bw_egress_ip_fragmented(struct bw_iface *iface, struct rte_mbuf *m, const struct bw_ip *dst);
/**
 * Offer complete frames to the device at once, unless others wait for it. Returns how many it took; the rest stays the
 * caller's.
 */
unsigned bw_egress_offer(struct bw_iface *iface, struct rte_mbuf **pkts, unsigned count);
/** A complete frame. */
void bw_egress_frame(struct bw_iface *iface, struct rte_mbuf *m);
/** A fresh mbuf for a packet of our own; NULL is counted. */
struct rte_mbuf *bw_egress_alloc(struct bw_worker *w);

/* route.c */
/** The next hop for a destination: itself when on-link. NULL: no route. */
const struct bw_ip *bw_route(const struct bw_network *network, const struct bw_ip *dst);
/** Our address to talk to a neighbour or destination from: the on-link one, else the family's first. Or NULL. */
const struct bw_ip *bw_route_source(const struct bw_network *network, const struct bw_ip *dst);
bool bw_route_is_on_link(const struct bw_network *network, const struct bw_ip *ip);
bool bw_route_is_ours(const struct bw_network *network, const struct bw_ip *ip);
/** The same among several: bw_worker_iface(). */
struct bw_iface *bw_route_iface_at(const struct bw_worker *w, const struct bw_ip *local);
/** Where to open a connection to `remote` from: by the longest prefix of all links and routes; the first, if none. */
struct bw_iface *bw_route_iface_to(const struct bw_worker *w, const struct bw_ip *remote);
/** The broadcast address of a prefix of ours. */
bool bw_route_is_broadcast(const struct bw_network *network, const struct bw_ip *ip);

/** With room for so many routes, and all else zero. NULL: out of memory. */
struct bw_network *bw_network_alloc(unsigned route_count);
/** What the configuration says, and the link-local address that IPv6 neighbours expect. NULL: out of memory. */
struct bw_network *bw_network_of_conf(const struct bw_device *device);
/** Use the newest. */
void bw_network_take(struct bw_iface *iface);
/**
 * All workers have it, and none the one before, when this returns: they are waited for, so not for a worker's thread.
 * Takes the network.
 */
void bw_network_publish(struct bw_device *device, struct bw_network *network);

/* capture.c */
/** Use the newest, or none. */
void bw_capture_take(struct bw_worker *w);
/** How often something was dropped, for each reason that a packet may have been dropped for. */
struct bw_drops {
	uint64_t count[BW_DROP_REASONS_MAX];
};
void bw_drops_read(const struct bw_worker *w, struct bw_drops *drops);
/** The first reason that has been counted since; BW_COUNTER_COUNT: none. */
enum bw_counter bw_drops_since(const struct bw_worker *w, const struct bw_drops *before);

/* icmp.c */
/** Take an ICMP or ICMPv6 packet: echo, errors for our connections, neighbour discovery. */
void bw_icmp_input(struct bw_iface *iface, struct bw_pkt *pkt, bool is_from_device);
void bw_arp_input(struct bw_iface *iface, struct bw_pkt *pkt, bool is_from_device);
enum bw_icmp_reason {
	BW_ICMP_PORT_UNREACHABLE,
	BW_ICMP_PROTOCOL_UNREACHABLE,
	BW_ICMP_REASSEMBLY_TIMEOUT,
	BW_ICMP_BAD_HEADER, /* the packet says what is bad */
};
/** Send an error about a packet if the RFCs let us and the rate limit does. Does not take the packet. */
void bw_icmp_error(struct bw_iface *iface, const struct bw_pkt *pkt, enum bw_icmp_reason reason);

/* fragments.c */
int bw_fragments_init(struct bw_worker *w);
void bw_fragments_fini(struct bw_worker *w);
/** Take a fragment; the whole packet when it was the last missing one, else NULL. */
struct rte_mbuf *bw_fragments_input(struct bw_iface *iface, struct bw_pkt *pkt);
void bw_fragments_timer(struct bw_worker *w);

/* flood.c */
struct bw_flood;
/** 0, or -errno after one line. */
int bw_flood_start(struct bw_worker *w);
void bw_flood_stop(struct bw_worker *w);
/** Send what is due. Returns 1 while it is under way: a worker that sleeps would be late. */
unsigned bw_flood_turn(struct bw_worker *w);
/** Count the target's answers and free them. What is none moves up. Returns how many are left. */
unsigned bw_flood_input(struct bw_worker *w, struct bw_pkt *pkts, unsigned count);

/* exception.c: the kernel's way to a port that DPDK has */
/** Open the TAP and give it the configuration's network. 0, or -errno after one line; -ENOMEM without. */
int bw_exception_start(struct bw_device *device);
/** Carry packets from now on. After the workers have begun. 0, or -errno after one line. */
int bw_exception_begin(struct bw_device *device);
/** No longer. While the workers still run. */
void bw_exception_stop(struct bw_device *device);
/** When they are gone. */
void bw_exception_free(struct bw_device *device);
/** Its interface's name. NULL: there is no exception path. */
const char *bw_exception_iface(const struct bw_device *device);
/** Of a burst from the device, keep what is ours, in order, and give the kernel the rest. Returns how many are left. */
unsigned bw_exception_sort(struct bw_iface *iface, struct rte_mbuf **pkts, unsigned count);
/** Worker 0: what the kernel sends joins the backlog. */
unsigned bw_exception_deliver(struct bw_iface *iface);
/** Would the worker have anything to do by that? */
bool bw_exception_has_for(const struct bw_iface *iface);

/* share.c: an interface that is the kernel's as well, or a TAP beside our port */
/** Read its network, load the programs' maps, start the thread that follows changes. 0, or -errno after one line. */
int bw_share_start(struct bw_device *device);
/** From now on packets come. After the workers have begun. 0, or -errno after one line. */
int bw_share_begin(struct bw_device *device);
/** Changes are no longer followed. While the workers still run. */
void bw_share_stop(struct bw_device *device);
/** When they are gone. */
void bw_share_free(struct bw_device *device);
/** Does any of the services open connections? Then ports to open them from are ours, too. */
bool bw_share_connects(const struct bw_engine *engine);
/** Had the interface this address when we started? */
bool bw_share_is_kernels(const struct bw_device *device, const struct bw_ip *ip);
/** Ask the kernel for a neighbour; the answer comes to bw_share_deliver(). Costs a system call. */
void bw_share_ask(struct bw_iface *iface, const struct bw_ip *ip);
unsigned bw_share_deliver(struct bw_iface *iface);

/* udp.c */
void bw_udp_input(struct bw_iface *iface, struct bw_pkt *pkt);

/* stream.c */
extern const struct bw_tcp_ops bw_stream_ops, bw_stream_counted_ops;
/** A listener's prefetch(), where its service has one. */
void bw_stream_prefetch(void *ctx, const struct bw_tcp_view *views, unsigned count);
/** Start draining this worker's connections; later calls close what became idle. */
void bw_stream_drain_all(struct bw_worker *w);

/* mail.c */
/** Send what the outboxes hold. Returns whether anything is left for a later turn. */
bool bw_mail_flush(struct bw_worker *w);
unsigned bw_mail_deliver(struct bw_worker *w);

/* helper.c */
int bw_helpers_start(struct bw_engine *engine);
void bw_helpers_stop(struct bw_engine *engine);
unsigned bw_jobs_deliver(struct bw_worker *w);

/* power.c */
/** After an empty turn: keep spinning, pause, or sleep. */
void bw_power_idle(struct bw_worker *w);
/** Something was put into the worker's rings: wake it if it sleeps. A fence and a load when it does not. */
void bw_power_wake(struct bw_worker *w);

/** The interface that has an address of ours; the first, if none has. */
static inline struct bw_iface *bw_worker_iface(const struct bw_worker *w, const struct bw_ip *local)
{
	return bw_likely(w->iface_count == 1) ? &w->ifaces[0] : bw_route_iface_at(w, local);
}

/** The worker that owns a flow when our hash spreads them: the hash's high bits, as tables use the low ones. */
static inline unsigned bw_worker_of_hash(const struct bw_worker *w, uint32_t hash)
{
	return (unsigned)((uint64_t)hash * w->worker_count >> 32);
}
