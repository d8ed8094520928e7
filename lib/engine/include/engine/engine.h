/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * The engine: workers pinned one a core, each with its queue, pool, TCP, neighbours, timers and counters.
 *
 *     bw_engine_conf_init(&conf); ... devices, services ...
 *     bw_engine_create(&conf, &engine);           after bw_nic_open()
 *     bw_engine_start(engine);                    returns; the workers run
 *     bw_engine_drain(engine, deadline);          stop accepting, finish, close
 *     bw_engine_destroy(engine);
 */
#pragma once

#include <base/addr.h>
#include <base/counters.h>
#include <base/types.h>
#include <engine/flood.h>
#include <nic/nic.h>
#include <service/service.h>
#include <steer/kernel.h>
#include <steer/steer.h>
#include <tcp/tcp.h>

#define BW_WORKERS_MAX  64
#define BW_DEVICES_MAX  8
#define BW_ADDRS_MAX    16 /* of a device */
#define BW_ROUTES_MAX   16
#define BW_SERVICES_MAX 16

/** Of an interface that is shared with the kernel, which may have many. */
#define BW_NETWORK_ADDRS_MAX BW_KERNEL_ADDRS_MAX

enum bw_poll {
	BW_POLL_AUTO,     /* adaptive on virtual devices, busy on NICs */
	BW_POLL_BUSY,     /* spin: lowest latency, 100 % of the core */
	BW_POLL_ADAPTIVE, /* spin while there is traffic, then pause, then sleep in bounded steps */
};

/** A service on a port. */
struct bw_engine_service {
	const struct bw_service *service;
	void *conf;                                        /* given to start() */
	uint16_t port;                                     /* TCP, and UDP where the service has datagram() */
	enum bw_tcp_congestion_control congestion_control; /* default: tcp's */
	bool nagle;                                        /* default: the service's */
	bool pacing;                                       /* default off */
	uint8_t dscp;                                      /* default 0 */
	bw_ns user_timeout_ns;                             /* default: tcp's */
	struct bw_ip addrs[BW_ADDRS_MAX];                  /* of ours, those that it is on */
	unsigned addr_count;                               /* 0: on all */
};

/** Is the service to be had at that address of ours? */
bool bw_engine_service_is_at(const struct bw_engine_service *service, const struct bw_ip *addr);

struct bw_route {
	struct bw_cidr prefix;
	struct bw_ip gateway; /* in an on-link prefix */
};

/** A device, and who we are on its link. Each address is on one device alone. */
struct bw_engine_device {
	struct bw_nic *nic;                 /* open; outlives the engine */
	struct bw_cidr addrs[BW_ADDRS_MAX]; /* ours, with their on-link prefixes; IPv6 link-local is added */
	unsigned addr_count;
	/**
	 * Addresses that are ours, too, whatever their number, for bw_stream_connect_from(). In IPv4 we answer ARP for
	 * them; IPv6 ones have to be routed to us. A prefix_len of 0: none.
	 */
	struct bw_cidr range;
	struct bw_route
		routes[BW_ROUTES_MAX]; /* longest prefix wins; default gateways are 0.0.0.0/0 and ::/0 */
	unsigned route_count;
	uint16_t vlan; /* 0: untagged */
	/**
	 * What gives us our packets of an interface that the kernel goes on using; outlives the engine. NULL: the device is
	 * ours alone. With `addrs` those are ours alone, and whatever else comes there is the kernel's.
	 */
	struct bw_steer *steer;
	/**
	 * We are at the addresses that the kernel has, and what is ours of them is the services' ports: with `steer` those
	 * of the interface, and `addrs` has none; with `exception_tap` those of the TAP.
	 */
	bool shares_addresses;
	/**
	 * The exception path of a port that the kernel has not: what is not ours of what is received goes to this TAP, and
	 * what the kernel sends there goes out. NULL: none. With shares_addresses; `addrs` and `routes` are given to the TAP.
	 */
	const char *exception_tap;
};

struct bw_engine_conf {
	struct bw_engine_device devices[BW_DEVICES_MAX];
	unsigned device_count; /* default 1 */
	struct bw_engine_service services[BW_SERVICES_MAX];
	unsigned service_count;
	unsigned worker_count;
	unsigned cpus[BW_WORKERS_MAX];
	enum bw_poll poll;
	struct bw_tcp_conf tcp;     /* pool, counters and secret are set by the engine */
	uint32_t neighbours_max;    /* a worker; default 1024 */
	uint32_t fragments_max;     /* datagrams under reassembly a worker; default 256 */
	bw_ns fragment_timeout_ns;  /* default 30 s (RFC 791: 15 s at least; RFC 8200: 60 s at most) */
	uint32_t icmp_errors_per_s; /* default 100 a worker */
	uint8_t ttl; /* and hop limit of all we send but neighbour discovery; default 64, as IANA has it */
	bw_ns keepalive_idle_ns; /* probe a silent connection after this long; 0: never. Default 2 h, as Linux */
	unsigned helper_count; /* helper threads; default 2 */
	bool counts_cycles;    /* by stage; default off, and the busy and idle ones are counted always */
	const struct bw_flood_conf *flood; /* outlives the engine; default NULL: none */
	bool steals_ports;                 /* of shared addresses, although another process listens there */
	uint32_t
		exception_packets_per_s; /* in either direction, at most; 0: as many as come. Default 50,000 */
};

void bw_engine_conf_init(struct bw_engine_conf *conf);

struct bw_engine;

/** 0, or -errno after one line that says what, where and what to do. */
int bw_engine_create(const struct bw_engine_conf *conf, struct bw_engine **engine);
/** Start the workers on their lcores and the helpers. 0, or -errno when a service refused to start. */
int bw_engine_start(struct bw_engine *engine);
/**
 * Stop accepting, let what is in flight finish, close idle connections; abort what is left at the deadline.
 * Blocks the caller (never a worker) for at most timeout_ns. Returns how many connections were cut off.
 */
unsigned bw_engine_drain(struct bw_engine *engine, bw_ns timeout_ns);
/** Stop the workers and helpers, release everything but the nics. */
void bw_engine_destroy(struct bw_engine *engine);

/**
 * The addresses that we are at now on a device: those of the configuration, or the interface's. Returns how many, `max` at
 * most.
 */
unsigned bw_engine_addrs(
	const struct bw_engine *engine, unsigned device, struct bw_cidr *addrs, unsigned max);

/** Do its workers sleep when there is nothing to do? Where that is left open, they do where all devices are virtual. */
bool bw_engine_is_adaptive(const struct bw_engine *engine);

struct bw_capture;
/**
 * Copy what passes into this capture's rings, one a worker, or no longer where it is NULL. All workers do when this
 * returns; not before bw_engine_start() or behind bw_engine_destroy()'s beginning, and not by two threads at once.
 */
void bw_engine_capture(struct bw_engine *engine, struct bw_capture *capture);

/**
 * What a worker spends its cycles on. A service's own are those of its callbacks, whoever calls them, with what these
 * call: what queues a reply is the service's, what makes packets of it is egress.
 */
enum bw_stage {
	BW_STAGE_TURN, /* the rest of a turn: the clock, how full the pool is, who is draining */
	BW_STAGE_RX,   /* the device's burst */
	BW_STAGE_PARSE, /* headers, and what is neither TCP nor a service's: ARP, ICMP, fragments, UDP's way in */
	BW_STAGE_LOOKUP,  /* TCP's connections */
	BW_STAGE_TCP,     /* its input */
	BW_STAGE_SERVICE, /* callbacks */
	BW_STAGE_INBOX,   /* packets, mail and jobs of others */
	BW_STAGE_TIMERS,
	BW_STAGE_EGRESS, /* TCP's output, IP and Ethernet headers */
	BW_STAGE_TX,     /* checksums that the device does not do, and its burst */
	BW_STAGE_COUNT,
};

extern const char *const bw_stage_name[BW_STAGE_COUNT];

/** A worker's figures, readable from any thread while it runs. */
struct bw_worker_stats {
	struct bw_counters counters;
	struct bw_tcp_stats tcp;
	uint64_t turns, sleeps;
	/* Of turns that found something to do, and of those that did not, sleep included. */
	uint64_t busy_cycles, idle_cycles;
	/* conf.counts_cycles: of a sample of the busy turns, one in 32. It is their proportion that tells. Or all 0 */
	uint64_t stage_cycles[BW_STAGE_COUNT];
	bool is_sleeping;
};
unsigned bw_engine_worker_count(const struct bw_engine *engine);
void bw_engine_worker_stats(const struct bw_engine *engine, unsigned worker, struct bw_worker_stats *stats);
/** Sum of all workers. */
void bw_engine_counters(const struct bw_engine *engine, struct bw_counters *sum);
/** Names of neighbours that do not answer, for the operator: text lines into out. Returns bytes written. */
size_t bw_engine_unresolved(const struct bw_engine *engine, char *out, size_t out_bytes);
/** Lines of every service's stats(), summed over nothing: "service.worker.name value". */
size_t bw_engine_service_stats(const struct bw_engine *engine, char *out, size_t out_bytes);
