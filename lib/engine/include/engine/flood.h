/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * A flood, to test a host's defences with: bare packets at a constant rate, of no connection and with no state. An
 * engine that has one (bw_engine_conf.flood) takes what the target answers out of what comes in and counts it; nothing
 * of it reaches TCP or a service, so no RST ends what a SYN has begun.
 *
 *     bw_engine_create(), bw_engine_start()       the workers ask for the target's neighbour
 *     bw_engine_flood_begin(engine);              once all are ready, by their figures
 *     bw_engine_flood_figures(engine, &figures);  any time; over when all workers are done
 */
#pragma once

#include <base/addr.h>
#include <base/types.h>

#define BW_FLOOD_RATE_MAX     100000000u
#define BW_FLOOD_DURATION_MAX (3600 * BW_NS_PER_SEC)

enum bw_flood_kind {
	BW_FLOOD_SYN, /* with the options that Linux sends */
	BW_FLOOD_ACK, /* of no connection, with a timestamp */
	BW_FLOOD_UDP,
};

/** Source ports (1024 and up), sequence and acknowledgment numbers are random in each packet. */
struct bw_flood_conf {
	enum bw_flood_kind kind;
	struct bw_ip target; /* on a link of ours, or behind a route */
	uint16_t port;
	uint64_t rate;       /* packets a second of all workers together, 1 to BW_FLOOD_RATE_MAX */
	uint64_t count_max;  /* no more than so many; 0: as many as the duration has room for */
	bw_ns duration_ns;   /* 1 to BW_FLOOD_DURATION_MAX */
	struct bw_ip from;   /* random sources: the first of from_count, 2^32 at most; 0: our own address */
	uint64_t from_count; /* they are within bw_engine_conf.range, or nothing comes back */
	uint32_t size;       /* UDP: bytes of payload; no fragments are sent */
	uint64_t seed;
};

/** What the target, or a router, has said. */
enum bw_flood_answer {
	BW_FLOOD_SYN_ACK, /* a SYN cookie is one, too */
	BW_FLOOD_RST,
	BW_FLOOD_UNREACHABLE, /* ICMP errors about a packet of ours */
	BW_FLOOD_DATAGRAM,
	BW_FLOOD_OTHER, /* of its TCP: a challenge ACK, say */
	BW_FLOOD_ANSWERS,
};
extern const char *const bw_flood_answer_name[BW_FLOOD_ANSWERS];

/** All since the start. A packet is due, and then it is sent or, a tenth of a second later, given up. */
struct bw_flood_figures {
	uint64_t sent, bytes;   /* handed to the device; bytes with their Ethernet headers */
	uint64_t unsent_device; /* given up: the device took no more */
	uint64_t unsent_late;   /* ... or the worker, or the neighbour's address, was not there in time */
	uint64_t answer[BW_FLOOD_ANSWERS];
	unsigned ready_workers, done_workers;
};

struct bw_engine;

/** All workers begin now. They end by themselves, with the duration or the count. */
void bw_engine_flood_begin(struct bw_engine *engine);
/** End at once, before that. */
void bw_engine_flood_end(struct bw_engine *engine);
/** Sum of all workers, from any thread. */
void bw_engine_flood_figures(const struct bw_engine *engine, struct bw_flood_figures *sum);
