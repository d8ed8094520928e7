/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * The load generator: a service that only connects. It opens connections to servers, asks, checks every answer and
 * keeps the time. Closed loop (so many requests are always under way) or open loop (requests come at a rate, whatever
 * the server does, and their time runs from when they were due).
 *
 *     load = bw_load_create(&conf);             prepared requests, keys, values
 *     ... an engine with bw_load_service on port 0 and `load` as its conf ...
 *     bw_load_set_stage(load, BW_LOAD_RUN);     the controlling thread says when, the workers follow
 *     bw_load_figures(load, &figures);          any time
 *     bw_load_destroy(load);                    after the engine
 *
 * Time. A request's begins with the turn that makes it, before its packet is built, and ends with the turn that
 * receives the last byte of its answer: our own part of both is in it, the wait for the next turn is not.
 */
#pragma once

#include <base/addr.h>
#include <base/hist.h>
#include <base/types.h>
#include <service/service.h>

#define BW_LOAD_TARGETS_MAX   64
#define BW_LOAD_DEPTH_MAX     1024
#define BW_LOAD_UDP_BYTES_MIN 8
#define BW_LOAD_PATTERN       65536 /* values and payloads begin at one of so many places of the pattern */

enum bw_load_protocol {
	BW_LOAD_HTTP,
	BW_LOAD_RESP,
	BW_LOAD_ECHO,
	BW_LOAD_UDP
};

/** Where requests go, each connection to one of them in turn. */
struct bw_load_target {
	struct bw_ip ip;
	uint16_t port;
	const char *host;     /* HTTP: for the Host field */
	const char *path;     /* HTTP: with its query; begins with / */
	const char *password; /* RESP: for AUTH; NULL: none */
};

struct bw_load_conf {
	enum bw_load_protocol protocol;
	struct bw_load_target targets[BW_LOAD_TARGETS_MAX];
	unsigned target_count;

	/* how: in all workers together */
	uint64_t connections; /* at least 1 a worker, or 0 with `idle` */
	uint64_t idle;        /* and these, which say nothing until BW_LOAD_CHECK */
	uint32_t depth;       /* requests under way on a connection */
	double rate;          /* requests a second; 0: closed loop */
	bool is_poisson;      /* their distances are exponential */
	bool is_churn;        /* a connection for each request */
	uint64_t count;       /* requests in BW_LOAD_RUN; 0: until the stage ends */
	bw_ns ramp_ns;        /* connections are opened evenly over this time; 0: as fast as it goes */
	bw_ns think_ns;       /* closed loop: between an answer and the next request */
	bw_ns timeout_ns;     /* for an answer */
	struct bw_ip from;    /* the first of from_count source addresses; 0: the engine's choice */
	uint64_t from_count;
	uint64_t seed;

	/* what */
	const char *const *paths; /* HTTP: instead of the targets' own */
	uint64_t path_count;
	const char *method;  /* HTTP: default GET */
	const char *headers; /* HTTP: further lines, each with its CR LF; NULL: none */
	const void *request; /* HTTP: as it is, instead of all these; NULL: none */
	size_t request_bytes;
	bool takes_any_length; /* HTTP: else the first answer's is expected of all of the same path */
	uint64_t keys;         /* RESP: so many, or paths when there are several */
	double zipf;           /* exponent of the distribution over keys and paths; 0: uniform */
	double set_share;      /* RESP: of requests that are SET, 0 to 1 */
	bool fills;            /* RESP: SET every key in BW_LOAD_FILL */
	uint32_t size;         /* bytes of a value (RESP), a message (echo) or a datagram (UDP) */
};

void bw_load_conf_init(struct bw_load_conf *conf);

enum bw_load_stage {
	BW_LOAD_OPEN, /* connections are made */
	BW_LOAD_FILL, /* every key is set once; over when all workers have `is_filled` */
	BW_LOAD_WARM, /* requests, that nobody counts */
	BW_LOAD_RUN,
	BW_LOAD_CHECK, /* a request on each of the idle connections */
	BW_LOAD_END,   /* nothing new; what is under way may finish */
};

enum bw_load_error {
	BW_LOAD_REFUSED,     /* connections that were refused or reset before they were open */
	BW_LOAD_UNREACHABLE, /* ... or that nothing came back for, or had no port or buffer left */
	BW_LOAD_RESET,       /* requests that a reset left without their answer */
	BW_LOAD_CLOSED,      /* ... or that the server closed the connection on */
	BW_LOAD_TIMEOUT,     /* ... or that had none in time */
	BW_LOAD_FRAMING,     /* answers that are not of the protocol */
	BW_LOAD_STATUS,      /* ... with a status of 400 or more, or an error reply */
	BW_LOAD_LENGTH,      /* ... of another length */
	BW_LOAD_VALUE,       /* ... with other bytes than were stored or sent */
	BW_LOAD_ERRORS,
};
/** As in "3 timeouts". */
const char *bw_load_error_name(enum bw_load_error error);

/** All since the start: what happened in between is the difference of two. */
struct bw_load_figures {
	uint64_t requests, responses; /* sent; answered, with whatever */
	uint64_t bytes_in, bytes_out; /* above TCP or UDP */
	uint64_t opened;              /* connections, ever */
	uint64_t open, idle_open;     /* now */
	uint64_t idle_answered;       /* in BW_LOAD_CHECK */
	uint64_t idle_closed;         /* by the server, before they were asked; they are opened anew */
	uint64_t misses;              /* GET of a key that was not there */
	uint64_t under_way;
	uint64_t error[BW_LOAD_ERRORS];
	unsigned filled_workers, done_workers; /* with BW_LOAD_FILL, with `count` */
	unsigned stranded_workers; /* with `count`: none of their connections has stood for the time-out */
	struct bw_hist latency;    /* ns, of answers that were right */
};

struct bw_load;

/** NULL: out of memory, said in a line. What conf points to must live as long; conf itself is copied. */
struct bw_load *bw_load_create(const struct bw_load_conf *conf);
void bw_load_destroy(struct bw_load *load);
void bw_load_set_stage(struct bw_load *load, enum bw_load_stage stage);
/** Sum of all workers. From any thread; while they run, figures may be a few requests apart from each other. */
void bw_load_figures(const struct bw_load *load, struct bw_load_figures *sum);

extern const struct bw_service bw_load_service; /* conf: struct bw_load */
