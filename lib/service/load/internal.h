/* SPDX-License-Identifier: BSD-3-Clause */
/** Within the load generator: a worker's slots, and what a protocol is to them. */
#pragma once

#include <stdatomic.h>

#include <base/assert.h>
#include <service/load.h>

#define BW_LOAD__WORKERS_MAX 64
#define BW_LOAD__GATHER      32768 /* an answer's head, or a line of it, is at most so long */

struct bw_load__worker;
struct bw_load__slot;

enum bw_load__kind {
	BW_LOAD__ASK,     /* what is measured */
	BW_LOAD__FILLING, /* a SET of BW_LOAD_FILL */
	BW_LOAD__PRELUDE, /* AUTH: before the first request of a connection */
	BW_LOAD__PROBE,   /* of an idle connection */
};

/** A request without its answer. */
struct bw_load__pending {
	bw_ns due_at;    /* where its time begins */
	bw_ns sent_at;   /* later, in the open loop, when all connections were busy */
	uint32_t what;   /* of the protocol: which path, which key, which sequence number */
	uint8_t kind;    /* enum bw_load__kind */
	bool is_set;     /* RESP */
	bool is_taken;   /* UDP: answered, while an earlier one is not */
	bool is_counted; /* of those of BW_LOAD_RUN */
};

enum {
	SLOT_FREE,
	SLOT_CONNECTING,
	SLOT_OPEN
};

/** A connection's place, which outlives the connection. Ten million of them are wanted. */
struct bw_load__slot {
	struct bw_stream *stream; /* UDP: NULL */
	uint64_t left;            /* bytes of the answer's body, or of its chunk, to come */
	uint32_t pending;         /* where its ring of pending ones begins */
	uint32_t sent;            /* bytes of the newest request, while it goes out in parts */
	uint16_t head, count;     /* of the ring */
	uint16_t target;
	uint8_t state;      /* SLOT_... */
	uint8_t reading;    /* the protocol's: where in an answer it is; 0: at its beginning */
	uint8_t fault;      /* what is wrong with the answer that is being read; BW_LOAD_ERRORS: nothing */
	bool closes : 1;    /* no further request: the connection ends with this answer */
	bool is_idle : 1;   /* one of those that say nothing */
	bool is_queued : 1; /* in the list of those that may send */
	bool is_ending : 1; /* we have closed it */
	bool thinks : 1;
	bool is_sending : 1; /* the newest request is not all out yet */
	bool is_missed : 1;
	uint32_t next, previous; /* in that list, or in that of those to be opened */
};
_Static_assert(sizeof(struct bw_load__slot) <= 48, "ten million idle connections");

/** What reading a piece of an answer came to. */
enum bw_load__outcome {
	BW_LOAD__MORE, /* nothing was used: the piece ends in the middle of a head or a line */
	BW_LOAD__PART, /* what was used was part of an answer */
	BW_LOAD__DONE, /* ... and ended it */
	BW_LOAD__BAD,  /* not of the protocol: the connection is of no use any more */
};

/** What asking came to. */
enum bw_load__asked {
	BW_LOAD__NO_ROOM, /* nothing was written */
	BW_LOAD__WRITTEN,
	BW_LOAD__IN_PARTS, /* it is for compose(), as it may be more than a stream takes at once */
};

#define BW_LOAD__PARTS     3
#define BW_LOAD__PART_HEAD 64

/** A large request: one part after the other. They outlive the stream, but for `head`, which is copied. */
struct bw_load__message {
	struct {
		const void *data;
		uint32_t len;
	} part[BW_LOAD__PARTS];
	char head[BW_LOAD__PART_HEAD];
};

struct bw_load__protocol {
	/** Prepare what all workers share. 0 or -ENOMEM. */
	int (*prepare)(struct bw_load *load);
	void (*release)(struct bw_load *load);
	/** What a worker needs for itself. 0; -ENOMEM; another -errno after one line. */
	int (*start)(struct bw_load__worker *w);
	void (*stop)(struct bw_load__worker *w);
	/** Choose a request: into p what and is_set. Write it, if it is small. */
	enum bw_load__asked (*ask)(
		struct bw_load__worker *w, struct bw_load__slot *slot, struct bw_load__pending *p);
	/** The parts of a large request, always the same for the same p. */
	void (*compose)(const struct bw_load__worker *w, const struct bw_load__slot *slot,
		const struct bw_load__pending *p, struct bw_load__message *message);
	/** Read on in the slot's answer, to the oldest request. *used is 0 and set here. */
	enum bw_load__outcome (*read)(struct bw_load__worker *w, struct bw_load__slot *slot,
		const struct bw_load__pending *p, const uint8_t *at, uint32_t len, uint32_t *used);
	/** The server has closed: does that end the answer? NULL: never. */
	bool (*ends_with_close)(const struct bw_load__slot *slot);
};

extern const struct bw_load__protocol bw_load__http, bw_load__resp, bw_load__echo, bw_load__udp;

/** Drawn numbers: which key or path is next. */
struct bw_load__draw {
	uint64_t state[2]; /* xoroshiro128+ */
	const uint32_t *ranks;
	uint32_t at, mask; /* of the ranks, drawn before; without them it is uniform */
	uint64_t n;
};

struct bw_load {
	struct bw_load_conf conf;
	const struct bw_load__protocol *protocol;
	atomic_uint stage;                                           /* enum bw_load_stage */
	const struct bw_load_figures *figures[BW_LOAD__WORKERS_MAX]; /* of those that have started */
	uint32_t *zipf_ranks;                                        /* ZIPF_RANKS of them */
	uint32_t zipf_mask;
	uint8_t *pattern; /* BW_LOAD_PATTERN + size bytes */
	struct bw_load__text *texts;
	uint64_t text_count;
};

struct bw_load__list {
	uint32_t first, last; /* NO_SLOT: empty */
	uint32_t count;
};
#define NO_SLOT UINT32_MAX

struct bw_load__worker {
	/* every request */
	const struct bw_load *load;
	const struct bw_load__protocol *protocol;
	struct bw_context *ctx;
	struct bw_load__slot *slot;
	struct bw_load__pending *pending;
	uint32_t depth;
	unsigned stage;
	bool is_open_loop, is_churn;
	uint64_t issued, share; /* of `count`; share 0: no limit */
	struct bw_load__draw draw;
	struct bw_load_figures figures;

	/* the open loop */
	bw_ns next_at;
	double interval_ns, next_fraction;
	struct bw_load__list ready; /* slots that may send */
	bw_ns *again;               /* a ring: when requests that were taken back had been due */
	uint32_t again_first, again_count, again_size;

	/* connections */
	uint32_t active, slots;               /* the first are active, the others idle */
	struct bw_load__list shut, shut_idle; /* slots to be opened */
	uint32_t connecting;
	bw_ns started_at;
	uint64_t source_next;
	bw_ns retry_at;         /* after a failure, connecting rests for a moment */
	bw_ns served_at;        /* when a connection last stood, or something was asked */
	uint64_t served_issued; /* what had been asked then */

	/* one after the other, a few a turn */
	uint32_t kick_at;  /* slots that the new stage has not reached yet */
	uint32_t sweep_at; /* for time-outs */
	bw_ns sweep_due_at;
	uint64_t fill_first, fill_at, fill_end, fill_done; /* keys */

	unsigned index, workers;
	uint8_t *gather; /* BW_LOAD__GATHER */
	void *own;       /* of the protocol */
};

/* draw.c */
void bw_load__draw_init(
	struct bw_load__draw *draw, uint64_t seed, uint64_t n, const uint32_t *ranks, uint32_t mask);
uint64_t bw_load__draw_bits(struct bw_load__draw *draw);
/** Uniform in (0, 1]. */
double bw_load__draw_fraction(struct bw_load__draw *draw);
/** `count` ranks from 0 to n - 1, with probability in proportion to 1 / (rank + 1)^exponent. */
void bw_load__zipf_fill(uint32_t *ranks, uint32_t count, uint64_t n, double exponent, uint64_t seed);

/** 0 to n - 1. */
static inline uint32_t bw_load__draw_next(struct bw_load__draw *draw)
{
	if (draw->ranks != NULL)
		return draw->ranks[draw->at++ & draw->mask];
	return (uint32_t)((unsigned __int128)bw_load__draw_bits(draw) * draw->n >> 64);
}

/** The bytes that are stored under a key, or said in a message: every one of them known, none kept. */
static inline const uint8_t *bw_load__payload(const struct bw_load *load, uint32_t what)
{
	return load->pattern + (what * 2654435761u >> 16);
}

/* load.c, for udp.c */
struct bw_load__pending *bw_load__ring_at(
	struct bw_load__worker *w, const struct bw_load__slot *slot, uint32_t position);
void bw_load__ring_pop(struct bw_load__worker *w, struct bw_load__slot *slot);
void bw_load__answered(
	struct bw_load__worker *w, struct bw_load__slot *slot, const struct bw_load__pending *p, bw_ns now);

/** The next of conf's source addresses. */
struct bw_ip bw_load__source_next(struct bw_load__worker *w);

/* udp.c */
/** An answer. Returns the slot that it is for; NULL: none. */
struct bw_load__slot *bw_load__udp_input(struct bw_load__worker *w, const struct bw_datagram *dgram);
