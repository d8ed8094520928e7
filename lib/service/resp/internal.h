/* SPDX-License-Identifier: BSD-3-Clause */
/** What the parts of the cache share: a worker's state, a connection's, a command in execution. See resp.c. */
#pragma once

#include <base/clock.h>
#include <service/resp.h>
#include <service/service.h>

#include "parse.h"
#include "sweep.h"
#include "warm.h"

/** The longest reply that is written at once; what is longer follows piece by piece. Fits a reservation of 1,024. */
#define BW_RESP__TEXT_MAX    640u
/** Values of so many bytes are referred to until they are in the send queue, see send.c. */
#define BW_RESP__REF_MIN     512u
#define BW_RESP__WORKERS_MAX 64u
#define BW_RESP__VERSION     "7.0.15" /* the Redis whose behaviour this follows; clients ask */

struct bw_resp;
struct bw_resp__call;

/** What the workers' memory is mapped at: TX may hold values until the last of them has stopped. */
struct bw_resp_shared {
	struct {
		void *base;
		size_t bytes;
	} maps[BW_RESP__WORKERS_MAX];
};

/** How a command with several keys, or with all of them, is spread over workers and put together again. */
enum bw_resp__spread {
	BW_RESP__ONE, /* one key or none: its owner executes it */
	BW_RESP__MGET,
	BW_RESP__MSET,
	BW_RESP__DEL,
	BW_RESP__EXISTS,
	BW_RESP__TOUCH,
	BW_RESP__FLUSH,
	BW_RESP__DBSIZE,
	BW_RESP__MSETNX,    /* atomic, see atomic.c */
	BW_RESP__RENAME,    /* atomic */
	BW_RESP__SCAN,      /* the worker in the cursor executes it */
	BW_RESP__KEYS,      /* a walk, see scan.c */
	BW_RESP__RANDOMKEY, /* a walk */
	BW_RESP__CONTAINER, /* has subcommands that are commands of their own; run is what it does without one */
	/* All workers, and the arguments with them; see bw_resp__check_told(). */
	BW_RESP__TELL, /* each does it at once: CONFIG SET, CONFIG RESETSTAT */
	BW_RESP__TOUR, /* each goes through its connections, slice by slice: CLIENT LIST, CLIENT KILL */
};

/* bw_resp__command.flags */
#define BW_RESP__WRITE    1
#define BW_RESP__READONLY 2
#define BW_RESP__DENYOOM  4
#define BW_RESP__FAST     8
#define BW_RESP__ADMIN    16
#define BW_RESP__LOADING  32
#define BW_RESP__STALE    64
#define BW_RESP__NOSCRIPT 128

struct bw_resp__command {
	const char *name; /* lower case */
	int8_t arity;     /* Redis's: the count with the name; negative: at least so many */
	uint8_t flags;
	int8_t first_key, last_key, key_step; /* 0: no keys; last_key -1: to the end */
	uint8_t spread;
	void (*run)(struct bw_resp__call *call); /* at the owner; NULL for the spread ones */
	const char *group, *since, *summary;
};

extern const struct bw_resp__command bw_resp__commands[];
extern const unsigned bw_resp__command_count;
/** The subcommands of containers, "object|encoding". NULL: there is none such. */
const struct bw_resp__command *bw_resp__find_subcommand(const struct bw_resp__call *call);
/** The subcommands of all containers. */
extern const struct bw_resp__command bw_resp__subcommands[];
extern const unsigned bw_resp__subcommand_count;

/** Commands and subcommands, numbered. */
#define BW_RESP__NO_COMMAND 255
static inline uint8_t bw_resp__command_number(const struct bw_resp__command *command)
{
	if (bw_unlikely(command == NULL))
		return BW_RESP__NO_COMMAND;
	if (bw_likely(command >= bw_resp__commands && command < bw_resp__commands + bw_resp__command_count))
		return (uint8_t)(command - bw_resp__commands);
	return (uint8_t)(128 + (command - bw_resp__subcommands));
}

/** What a part of an atomic command does at an owner, see atomic.c. */
enum bw_resp__step {
	BW_RESP__NO_STEP, /* any other request */
	BW_RESP__STEP_HOLD,
	BW_RESP__STEP_WRITE,
	BW_RESP__STEP_FINISH,
};
#define BW_RESP__HELD 1024u /* places that held keys are counted in */

/** KEYS and RANDOMKEY under way, see scan.c. */
struct bw_resp__walk {
	uint64_t position; /* in the worker's index */
	uint16_t worker, rounds_left;
	uint8_t visits;
	bool comes_again;
};

/**
 * A command whose reply cannot be written at once: it was sent to another worker, or its connection waits for
 * one that was. From a pool of its home worker. It travels as mail, and lies in its connection's queue.
 */
struct bw_resp__request {
	struct bw_mail mail;
	struct bw_resp__request *next; /* in the queue, or among the free */
	struct bw_resp *home;
	struct bw_stream *stream;        /* NULL: the connection is over */
	struct bw_resp__request *parent; /* of one part of a spread command: no stream, no text */
	const struct bw_resp__command *command;
	struct bw_resp__gather
		*gather;  /* the arguments, in home's memory; read by other workers while they have it */
	uint32_t waiting; /* parts that are out */
	bool is_done, is_over_memory;
	bool is_resp3;    /* the protocol that its connection spoke when it came */
	bool is_silent;   /* CLIENT REPLY: the reply is dropped */
	bool is_answered; /* it was where it was posted to */
	struct bw_resp__request *next_deferred;
	/* -- of an atomic command, and of its parts -- */
	struct bw_resp__request *unsent, *holding; /* the whole's parts, by `next` */
	struct bw_resp__request *source, *target;  /* RENAME's */
	uint64_t expires_ms;
	uint16_t worker; /* the part's owner */
	uint8_t step;    /* the part's */
	uint8_t value_flags;
	bool is_source, has_written;
	bool has_no_source, is_committed;
	struct bw_resp__walk walk;
	struct bw_resp__chunk *rows; /* what it found so far: staged, home's */
	int64_t sum;
	/* -- of a part that goes through a worker's connections: client.c -- */
	enum bw_resp__tour_state {
		BW_RESP__TOUR_NEW,
		BW_RESP__TOUR_ON,
		BW_RESP__TOUR_DONE
	} tour;
	struct bw_stream *tour_at;
	uint64_t caller; /* the id of the client that asks */
	/* -- the reply: text, then the value, then the list, then the values of the parts, linked by `next` -- */
	struct bw_resp__request *parts;
	struct bw_resp__block *value; /* pinned; NULL: none */
	uint32_t value_off, value_len;
	bool value_is_bulk; /* a CRLF follows it */
	bool has_list;      /* MGET: the records of gather, from cursor on */
	struct bw_resp__cursor cursor;
	uint32_t list_left;
	uint32_t text_len, text_sent;
	char text[BW_RESP__TEXT_MAX];
};

/* bw_resp__conn.flags */
#define BW_RESP__CLOSING         1   /* close when all replies are out; read nothing more */
#define BW_RESP__PEER_DONE       2   /* the peer sends nothing more */
#define BW_RESP__ABORTED         4   /* closed() is next; set with CLOSING */
#define BW_RESP__RESP3           8   /* HELLO 3 */
#define BW_RESP__UNAUTHENTICATED 16  /* there is a password, and it was not said yet */
#define BW_RESP__REPLY_OFF       32  /* CLIENT REPLY OFF */
#define BW_RESP__REPLY_SKIP      64  /* CLIENT REPLY SKIP: not for this command */
#define BW_RESP__REPLY_SKIP_NEXT 512 /* and not for the next one */
#define BW_RESP__BARRIER         128 /* the last request is to be done before anything behind it is begun */
#define BW_RESP__NO_EVICT        256 /* CLIENT NO-EVICT ON */

/** CLIENT SETNAME and SETINFO. In a staged chunk, as long as it must be: most clients say what they are. */
struct bw_resp__client {
	uint16_t len[3]; /* in the order of the texts */
	char texts[];    /* one after the other */
};
enum {
	BW_RESP__CLIENT_NAME,
	BW_RESP__CLIENT_LIB_NAME,
	BW_RESP__CLIENT_LIB_VER,
};

/** What a connection has while something of it waits: conn.c. All zero when nothing does. */
struct bw_resp__busy {
	struct bw_resp__request *first, *last; /* replies that wait, in order */
	struct bw_resp__gather *gather;        /* a command that is not all here, or not executed yet */
	struct bw_resp__block *emit;           /* a value whose sending has begun; pinned */
	struct bw_resp__chunk *emit_chunk;     /* where it stands, when it is a blob */
	struct bw_resp__chunk *client;         /* what it has said of itself, for as long as it is open */
	bw_ns stuck_at; /* a reply was refused for want of room, and there was none since; 0: there is */
	uint32_t emit_left : 31; /* bytes still to send */
	uint32_t emit_is_bulk : 1;
	uint16_t emit_off; /* in emit_chunk, or in the item's value */
	uint8_t waiting_count;
};

/** That of all connections of which nothing waits. Nobody writes to it. */
extern const struct bw_resp__busy bw_resp__nothing;

/** A connection. */
struct bw_resp__conn {
	const struct bw_resp__busy *busy; /* to be read; to be written: bw_resp__busy() */
	uint64_t flags : 10;
	uint64_t serial : 46;      /* which connection of this worker's it is */
	uint64_t last_command : 8; /* as bw_resp__command_name() numbers them */
	uint32_t opened_s, used_s; /* the context's time: CLIENT LIST */
	/* of the worker's connections, the oldest first: slots, BW_RESP__NO_SLOT for none */
	uint32_t list_prev, list_next;
};
#define BW_RESP__NO_SLOT UINT32_MAX
_Static_assert(sizeof(struct bw_resp__conn) <= BW_STREAM_IDLE_BYTES, "an idle connection is small");

/** A command's name, folded for the look-up. */
struct bw_resp__name {
	uint64_t low, high;
	uint32_t len;
};

/** How often something ran, and for how long, as far as it was measured: see stats.c. */
struct bw_resp__gauge {
	uint32_t left; /* until the next one that is measured */
	uint32_t distance;
	uint64_t count, ns; /* up to the last one */
};

/** A command's figures, for INFO commandstats. */
struct bw_resp__stat {
	struct bw_resp__gauge calls;  /* at its connection's worker */
	struct bw_resp__gauge visits; /* and at those that it was posted to */
	uint64_t rejected, failed;
} __attribute__((aligned(64)));
_Static_assert(sizeof(struct bw_resp__stat) == 64, "a cache line");

/** What an error reply begins with, in the order of the names: INFO errorstats. */
enum bw_resp__error {
	BW_RESP__ERR,
	BW_RESP__NOAUTH,
	BW_RESP__NOPROTO,
	BW_RESP__OOM,
	BW_RESP__WRONGPASS,
	BW_RESP__ERRORS
};

/** What CONFIG RESETSTAT sets back. */
struct bw_resp__totals {
	uint64_t connections, denied, hits, misses, evicted, expired, errors, bytes_in, bytes_out;
};

/** A worker's state. What other workers read of it, for INFO, is plain counters. */
struct bw_resp {
	/* -- the output window: a reservation that replies are written into until it is full -- */
	struct bw_stream *out_stream;
	char *out, *out_begin, *out_end;
	/* 0: no key is held for an atomic command, and nobody waits */
	uint32_t holds;

	struct bw_resp__store store;
	struct bw_resp__limits limits, unauthenticated_limits;
	struct bw_resp__arg *argv; /* args_max of them, touched as they are used */
	uint8_t *scratch;          /* an inline command, and SCRATCH_BYTES for long texts */
	struct bw_context *ctx;
	const struct bw_resp_conf *conf;
	unsigned worker, workers;
	uint64_t hash_seed;
	uint64_t wall_ns; /* unix time less the context's */
	struct bw_resp__request *requests_free;
	uint32_t requests_free_count;
	uint64_t clients_bytes; /* staged for names */
	struct bw_resp__sweep sweep;
	struct bw_resp__warm warm;
	struct bw_mail wake; /* to ourselves, for another turn soon */
	bool is_wake_out;
	bw_ns tick_at, resync_at, started_at;
	uint64_t commands, errors, connections_total, connections, mails, protocol_errors, stalled, denied;
	uint64_t bytes_in, bytes_out; /* of commands as they are read, of replies as they are sent */
	uint64_t memory_peak_bytes;
	struct bw_resp__totals reset; /* as they were at the last CONFIG RESETSTAT */
	uint64_t errors_of[BW_RESP__ERRORS];
	struct bw_resp__stat stats[BW_RESP__NO_COMMAND]; /* by bw_resp__command_number() */
	/* -- what INFO calls instantaneous: of the last second -- */
	bw_ns rates_at;
	struct bw_resp__rates {
		uint64_t commands, bytes_in, bytes_out;
	} rates_from, rates; /* the counts when it began, and what it came to in a second */
	uint64_t maxmemory;  /* CONFIG SET: of all workers together */
	uint64_t serial;     /* of the connection that was opened last */
	uint32_t streams_first, streams_last;
	/* -- what connections have while something waits: as many as there can be, touched as they are used -- */
	struct bw_resp__busy *busies;
	uint32_t busies_used, busies_max;
	struct bw_resp__busy *busies_free; /* by `first` */
	struct bw_resp__request *tours;    /* that are between two slices, by `next` */
	/* -- those who wait for keys that are held, in order -- */
	struct bw_resp__request *deferred, *deferred_last;
	uint32_t deferred_about_all; /* of them, those about all keys */
	bool is_draining;
	uint32_t held[BW_RESP__HELD], waited[BW_RESP__HELD]; /* keys, by hash */
	uint8_t lookup[256]; /* 1 + index of bw_resp__commands, open addressing */
	struct bw_resp__name lookup_name[128];
};

/** A command in execution. */
struct bw_resp__call {
	struct bw_resp *r;        /* where it runs */
	struct bw_stream *stream; /* NULL at another worker than the connection's */
	struct bw_resp__conn *conn;
	const struct bw_resp__command *command;
	struct bw_resp__arg *argv;
	uint32_t argc;
	uint32_t hash;                    /* of the first key, within its worker */
	struct bw_resp__request *request; /* where the reply goes; NULL: into the window */
	bool may_take;                    /* blobs among the arguments are this worker's */
	bool is_resp3;
	bool is_rejected; /* the error reply says why it does not run at all */
};

enum bw_resp__ran {
	BW_RESP__RAN_HERE, /* there is a reply */
	BW_RESP__RAN_AWAY, /* there will be one, in a request */
	BW_RESP__RAN_NOT,  /* no request is free, nothing was done */
};

/* ---- the path of a command: resp.c, dispatch.c ---- */

/** The connection's, to be written. */
struct bw_resp__busy *bw_resp__busy(struct bw_resp *r, struct bw_resp__conn *conn);
/** Give it back if nothing waits any more. */
void bw_resp__busy_settle(struct bw_resp *r, struct bw_resp__conn *conn);

/** Something that the connection waited for has come. */
void bw_resp__resume(struct bw_resp *r, struct bw_stream *s);
/**
 * Run the command, or send it away. `*gathered`: where its arguments are, if anywhere; NULL afterwards if they are
 * kept.
 */
enum bw_resp__ran bw_resp__dispatch(struct bw_resp__call *call, struct bw_resp__gather **gathered);

/* ---- replies on their way out, send.c ---- */

/** Room for one reply's text. False: not now; writable() or the timer comes when there is. */
bool bw_resp__window_open(struct bw_resp *r, struct bw_stream *s);
void bw_resp__window_commit(struct bw_resp *r);
/** The next thing to send is `len` bytes of a pinned value, from `offset` on; the pin is taken over. */
void bw_resp__emit_begin(struct bw_resp *r, struct bw_resp__conn *conn, struct bw_resp__block *block,
	bool is_bulk, uint32_t offset, uint32_t len);
/** Send what is ready. False: the send queue has no room for it. */
bool bw_resp__pump_on(struct bw_resp *r, struct bw_stream *s, struct bw_resp__conn *conn);
static inline bool bw_resp__pump(struct bw_resp *r, struct bw_stream *s, struct bw_resp__conn *conn)
{
	return bw_likely(conn->busy == &bw_resp__nothing) || bw_resp__pump_on(r, s, conn);
}

/* ---- when it cannot go on, stall.c ---- */

void bw_resp__retry_soon(struct bw_stream *s);
/** When a client that keeps what others need, and does not go on, is given up. */
bw_ns bw_resp__deadline_of(const struct bw_resp *r, const struct bw_resp__conn *conn);
/** A send of `len` bytes was refused. Always false. */
bool bw_resp__refused(struct bw_stream *s, uint32_t len);
/** `len` more bytes of the command that is gathered have come. */
void bw_resp__note_progress(struct bw_resp *r, struct bw_stream *s, struct bw_resp__conn *conn, uint32_t len);

/* ---- a connection's life, conn.c ---- */

void bw_resp__try_to_close(
	struct bw_resp *r, struct bw_stream *s, struct bw_resp__conn *conn, uint32_t unread);
/** NULL: there is none. */
static inline struct bw_stream *bw_resp__stream_at(const struct bw_resp *r, uint32_t slot)
{
	return slot != BW_RESP__NO_SLOT ? bw_stream_at(r->ctx, slot) : NULL;
}

/** Close, if it is time. @unread  bytes that are there and not consumed */
static inline void bw_resp__close_if_done(
	struct bw_resp *r, struct bw_stream *s, struct bw_resp__conn *conn, uint32_t unread)
{
	if (bw_unlikely(conn->busy != &bw_resp__nothing))
		bw_resp__busy_settle(r, conn);
	if (bw_unlikely((conn->flags & (BW_RESP__CLOSING | BW_RESP__PEER_DONE)) != 0) ||
		bw_unlikely(bw_stream_is_draining(s)))
		bw_resp__try_to_close(r, s, conn, unread);
}
void bw_resp__opened(struct bw_stream *s);
void bw_resp__peer_closed(struct bw_stream *s);
void bw_resp__drain(struct bw_stream *s);
void bw_resp__closed(struct bw_stream *s, enum bw_close_reason reason);

/* ---- a worker's life, worker.c ---- */

int bw_resp__start(struct bw_context *ctx, void *conf);
void bw_resp__tick(struct bw_context *ctx, bw_ns now);
size_t bw_resp__stats(const struct bw_context *ctx, char *out, size_t out_bytes);

static inline struct bw_resp *bw_resp__of(struct bw_context *ctx)
{
	return bw_context_state(ctx);
}

static inline void bw_resp__set_now(struct bw_resp *r, bw_ns now)
{
	bw_resp__store_set_now(&r->store, (now + r->wall_ns) / BW_NS_PER_MS);
}

/* ---- requests, request.c ---- */

/** There is one left, has_requests() said. */
struct bw_resp__request *bw_resp__request_alloc(struct bw_resp *r, const struct bw_resp__command *command);
void bw_resp__request_free(struct bw_resp *r, struct bw_resp__request *request);
void bw_resp__parts_free(struct bw_resp__request *whole);
/** For any one command: its own, and a part for every other worker? */
bool bw_resp__has_requests(const struct bw_resp *r);
/** With has_requests(): may this connection, which waits for some already, have one more? */
bool bw_resp__may_push(const struct bw_resp *r, const struct bw_resp__conn *conn);
/** One more, in the connection's queue. */
struct bw_resp__request *bw_resp__request_push(struct bw_resp__call *call);
/** The arguments, to be kept: those that were gathered as they are, others copied. NULL: no memory. */
struct bw_resp__gather *bw_resp__keep_args(struct bw_resp__call *call, struct bw_resp__gather **gathered);
/** To a worker, which may be this one. It comes back. */
void bw_resp__post(struct bw_resp *r, uint32_t worker, struct bw_resp__request *request);
/** To the one owner of its keys. That is this worker where they have to be waited for. */
void bw_resp__send_away(struct bw_resp__call *call, uint64_t owners, struct bw_resp__gather **gathered);
/** Run it here, and send it home, or see to it that it goes on. */
void bw_resp__carry_out(struct bw_resp *r, struct bw_resp__request *request);
/** It has its reply. */
void bw_resp__request_done(struct bw_resp *r, struct bw_resp__request *request);
void bw_resp__mail(struct bw_context *ctx, struct bw_mail *mail);

/* ---- names and keys: commands.c, dispatch.c ---- */

struct bw_resp__keyhash {
	uint32_t owner, hash;
};
struct bw_resp__keyhash bw_resp__hash_key(const struct bw_resp *r, const uint8_t *key, uint32_t len);
const struct bw_resp__command *bw_resp__find_command(
	const struct bw_resp *r, const uint8_t *name, uint32_t len);
void bw_resp__index_commands(struct bw_resp *r);

/* ---- prefetch.c ---- */

/** A store of fewer bytes is in the cache by itself. */
#define BW_RESP__PREFETCH_FROM (512u << 10)
void bw_resp__prefetch(struct bw_context *ctx, const struct bw_view *views, unsigned count);

/* ---- spread.c ---- */

/** A command with several keys that are all here. False: its reply is too long, nothing was done. */
bool bw_resp__run_spread_here(struct bw_resp__call *call);
/** This worker's part of a spread command; what is counted goes into `part`. */
void bw_resp__run_spread_part(struct bw_resp *r, const struct bw_resp__request *whole, bool may_take,
	struct bw_resp__request *part);
/** To all workers that own some of the keys, this one among them or not; with has_requests(). */
void bw_resp__spread_out(struct bw_resp__call *call, uint64_t owners, struct bw_resp__gather **gathered);
/** All parts are in: the reply. */
void bw_resp__finish_spread(struct bw_resp__request *whole);

/* ---- atomic.c ---- */

/** While bw_resp.holds: does a key of the command, which is to run here, have to be waited for? */
bool bw_resp__must_wait(const struct bw_resp__call *call);
/** May the request run here now? Otherwise it is deferred. */
bool bw_resp__admit(struct bw_resp *r, struct bw_resp__request *request);
void bw_resp__defer(struct bw_resp *r, struct bw_resp__request *request);
/** A command whose keys are of several workers; with has_requests(). */
void bw_resp__atomic_begin(struct bw_resp__call *call, uint64_t owners, struct bw_resp__gather **gathered);
void bw_resp__atomic_visit(struct bw_resp *r, struct bw_resp__request *part);
void bw_resp__atomic_came_home(struct bw_resp *r, struct bw_resp__request *part);
void bw_resp__run_msetnx(struct bw_resp__call *call);
void bw_resp__run_rename(struct bw_resp__call *call);
void bw_resp__run_renamenx(struct bw_resp__call *call);

/* ---- scan.c ---- */

/** Who executes it; -1 after an error reply. */
int bw_resp__scan_worker(struct bw_resp__call *call);
void bw_resp__run_scan(struct bw_resp__call *call);
enum bw_resp__ran bw_resp__walk_begin(struct bw_resp__call *call, struct bw_resp__gather **gathered);
void bw_resp__walk_visit(struct bw_resp *r, struct bw_resp__request *request);
/** A visit came home. True: it is on its way again; false: there is a reply. */
bool bw_resp__walk_goes_on(struct bw_resp *r, struct bw_resp__request *request);
/** Redis's glob. @is_nocase  'A' to 'Z' are as 'a' to 'z' */
bool bw_resp__glob(
	const uint8_t *pattern, uint32_t pattern_len, const uint8_t *text, uint32_t len, bool is_nocase);

/* ---- replies: exactly one a call, reply.c ---- */

/** `text` of at most TEXT_MAX bytes, as it is. */
void bw_resp__reply_text(struct bw_resp__call *call, const char *text, uint32_t len);
#define bw_resp__reply_literal(call, literal) bw_resp__reply_text(call, literal, sizeof(literal) - 1)
#define bw_resp__reply_ok(call)               bw_resp__reply_literal(call, "+OK\r\n")
/** No value, in either protocol. At most 5 bytes. */
static inline char *bw_resp__put_nil(char *to, bool is_resp3)
{
	return is_resp3 ? mempcpy(to, "_\r\n", 3) : mempcpy(to, "$-1\r\n", 5);
}
void bw_resp__reply_nil(struct bw_resp__call *call);
void bw_resp__reply_int(struct bw_resp__call *call, int64_t value);
/** "-" and CRLF are added, line breaks inside become blanks. */
__attribute__((format(printf, 2, 3))) void bw_resp__reply_error(
	struct bw_resp__call *call, const char *format, ...);
void bw_resp__reply_syntax_error(struct bw_resp__call *call);
void bw_resp__reply_not_an_integer(struct bw_resp__call *call);
void bw_resp__reply_oom(struct bw_resp__call *call);
void bw_resp__reply_unknown_command(struct bw_resp__call *call);
void bw_resp__reply_unknown_subcommand(struct bw_resp__call *call);
void bw_resp__reply_arity(struct bw_resp__call *call, const char *name);
/** A bulk string of any length; copied when it is short, and otherwise into staged memory. */
void bw_resp__reply_bulk(struct bw_resp__call *call, const void *data, uint32_t len);
/** Text of any length for people: in RESP3 a verbatim string. */
void bw_resp__reply_verbatim(struct bw_resp__call *call, const void *data, uint32_t len);
/** Text of any length that is framed already. */
void bw_resp__reply_framed(struct bw_resp__call *call, const void *data, uint32_t len);
/** Text, and framed text behind it that is staged here; it is taken over. */
void bw_resp__reply_text_and_blob(
	struct bw_resp__call *call, const char *text, uint32_t len, struct bw_resp__chunk *blob);
/** An argument as a bulk string; its blob is taken over. */
void bw_resp__reply_arg(struct bw_resp__call *call, const struct bw_resp__arg *arg);
/** An item's value as a bulk string; NULL: nil. */
void bw_resp__reply_value(struct bw_resp__call *call, struct bw_resp__item *item);
/** A part of an item's value as a bulk string. */
void bw_resp__reply_range(
	struct bw_resp__call *call, struct bw_resp__item *item, uint32_t offset, uint32_t len);
/** Simple strings, the last one NULL: what HELP says, behind a line that names the command. */
void bw_resp__reply_help(struct bw_resp__call *call, const char *const *lines);
/** A pinned value as a bulk string; the pin is taken over. */
void bw_resp__reply_block(struct bw_resp__call *call, struct bw_resp__block *block);
/** "$12\r\n" */
char *bw_resp__put_bulk_header(char *to, uint32_t len);
/**
 * CLIENT REPLY OFF and SKIP: drop the reply that was just made. Their own is dropped too, that of ON is not.
 * @was_silent  before the command
 * @out         where the window stood
 */
void bw_resp__silence(struct bw_resp__call *call, bool was_silent, char *out);

/* ---- what commands cost, and how they end: stats.c ---- */

/** It ran, from then until now. */
void bw_resp__measured(struct bw_resp__gauge *gauge, bw_ns begun_at);
/** One more. When it begins, where it is to be measured; else 0. */
static inline bw_ns bw_resp__count(struct bw_resp__gauge *gauge)
{
	return bw_unlikely(--gauge->left == 0) ? bw_clock_now() : 0;
}
/** That one did not run. */
static inline void bw_resp__uncount(struct bw_resp__gauge *gauge)
{
	gauge->left++;
}
static inline struct bw_resp__stat *bw_resp__stat_of(
	struct bw_resp *r, const struct bw_resp__command *command)
{
	return &r->stats[bw_resp__command_number(command)];
}
void bw_resp__stats_reset(struct bw_resp *r);
/** Of all commands, since then. */
uint64_t bw_resp__calls(const struct bw_resp *r);
/** An error reply, "-ERR ...". */
void bw_resp__count_error(const struct bw_resp__call *call, const char *text, size_t len);

/* ---- info.c, docs.c, client.c, config.c, hello.c ---- */

#define BW_RESP__SCRATCH_BYTES (256u * 1024)
extern const char *const bw_resp__policy_names[BW_RESP_POLICIES];
void bw_resp__run_info(struct bw_resp__call *call);
/** CONFIG RESETSTAT, on this worker. What the operator reads of it goes on. */
void bw_resp__reset_stats(struct bw_resp *r);
void bw_resp__run_command_info(struct bw_resp__call *call);
void bw_resp__run_command_count(struct bw_resp__call *call);
void bw_resp__run_command_docs(struct bw_resp__call *call);
void bw_resp__run_command_getkeys(struct bw_resp__call *call);
void bw_resp__run_command_getkeysandflags(struct bw_resp__call *call);
void bw_resp__run_command_help(struct bw_resp__call *call);
void bw_resp__run_command_list(struct bw_resp__call *call);
void bw_resp__run_client_getname(struct bw_resp__call *call);
void bw_resp__run_client_help(struct bw_resp__call *call);
void bw_resp__run_client_id(struct bw_resp__call *call);
void bw_resp__run_client_info(struct bw_resp__call *call);
void bw_resp__run_client_no_evict(struct bw_resp__call *call);
void bw_resp__run_client_reply(struct bw_resp__call *call);
void bw_resp__run_client_setinfo(struct bw_resp__call *call);
void bw_resp__run_client_setname(struct bw_resp__call *call);
/** What CLIENT ID says: no other connection of any worker has it, or will. */
uint64_t bw_resp__client_id(const struct bw_resp *r, const struct bw_resp__conn *conn);
/** False after an error reply. */
bool bw_resp__set_name(struct bw_resp__call *call, const struct bw_resp__arg *name);
/** The names that a connection leaves behind. */
void bw_resp__client_free(struct bw_resp *r, struct bw_resp__conn *conn);
void bw_resp__run_config_get(struct bw_resp__call *call);
void bw_resp__run_config_help(struct bw_resp__call *call);
void bw_resp__run_config_rewrite(struct bw_resp__call *call);
void bw_resp__run_hello(struct bw_resp__call *call);
void bw_resp__run_auth(struct bw_resp__call *call);
void bw_resp__run_reset(struct bw_resp__call *call);
void bw_resp__run_quit(struct bw_resp__call *call);
bool bw_resp__is_allowed_before_auth(const struct bw_resp__command *command);

/** Before a command of BW_RESP__TELL and what follows it goes out: are its arguments right? False after an error reply. */
bool bw_resp__check_told(struct bw_resp__call *call);
bool bw_resp__check_tour(struct bw_resp__call *call);
/** This worker does what the command says. */
void bw_resp__tell(struct bw_resp *r, const struct bw_resp__request *whole);
/** A slice of this worker's connections. Then part->tour says whether there are more. */
void bw_resp__tour(struct bw_resp *r, struct bw_resp__request *part);
/** A connection ends: who stands at it moves on. */
void bw_resp__tours_skip(struct bw_resp *r, struct bw_stream *s);
/** All workers' parts are in: the reply. */
void bw_resp__finish_tour(struct bw_resp__call *call);

static inline bool bw_resp__arg_is(const struct bw_resp__arg *arg, const char *word_lower)
{
	uint32_t len = (uint32_t)strlen(word_lower);

	if (arg->len != len)
		return false;
	for (uint32_t i = 0; i < len; i++) {
		uint8_t c = arg->data[i];

		if ((c >= 'A' && c <= 'Z' ? c | 0x20 : c) != (uint8_t)word_lower[i])
			return false;
	}
	return true;
}

static inline bool bw_resp__arg_int(const struct bw_resp__arg *arg, int64_t *value)
{
	return bw_resp__parse_int(arg->data, arg->len, value);
}

static inline uint64_t bw_resp__now_ms(const struct bw_resp__call *call)
{
	return call->r->store.now_ms;
}

/* ---- for the commands ---- */

static inline struct bw_resp__item *bw_resp__find(struct bw_resp__call *call)
{
	const struct bw_resp__arg *key = &call->argv[1];

	return bw_resp__store_find(&call->r->store, call->hash, key->data, key->len);
}

/** The command's key, which nobody used. */
static inline struct bw_resp__item *bw_resp__peek(struct bw_resp__call *call)
{
	const struct bw_resp__arg *key = &call->argv[call->command->first_key];

	return bw_resp__store_peek(&call->r->store, call->hash, key->data, key->len);
}

static inline struct bw_resp__value bw_resp__value_of(
	const struct bw_resp__call *call, const struct bw_resp__arg *arg)
{
	return (struct bw_resp__value){
		.data = arg->data,
		.len = arg->len,
		.blob = bw_resp__arg_blob(arg),
		.may_take = call->may_take,
	};
}

static inline struct bw_resp__block *bw_resp__pin_value(struct bw_resp__item *item)
{
	struct bw_resp__block *block = bw_resp__item_value_block(item);

	bw_resp__block_pin(block);
	return block;
}

static inline void bw_resp__count_lookup(struct bw_resp__call *call, const struct bw_resp__item *item)
{
	if (item != NULL)
		call->r->store.hits++;
	else
		call->r->store.misses++;
}

/** Store the argument under the key. False: no memory. */
bool bw_resp__put_at(struct bw_resp__call *call, uint32_t hash, const struct bw_resp__arg *key,
	struct bw_resp__arg *arg, uint64_t expires_ms);
bool bw_resp__put(struct bw_resp__call *call, struct bw_resp__arg *arg, uint64_t expires_ms);
/** A time argument as unix ms. False after an error reply. */
bool bw_resp__expiry_of(struct bw_resp__call *call, const struct bw_resp__arg *arg, bool is_seconds,
	bool is_absolute, bool must_be_positive, int64_t *expires_ms);

/* ---- strings.c ---- */

void bw_resp__run_get(struct bw_resp__call *call);
void bw_resp__run_set(struct bw_resp__call *call);
void bw_resp__run_setnx(struct bw_resp__call *call);
void bw_resp__run_setex(struct bw_resp__call *call);
void bw_resp__run_psetex(struct bw_resp__call *call);
void bw_resp__run_getset(struct bw_resp__call *call);
void bw_resp__run_getdel(struct bw_resp__call *call);
void bw_resp__run_append(struct bw_resp__call *call);
void bw_resp__run_strlen(struct bw_resp__call *call);
void bw_resp__run_getex(struct bw_resp__call *call);
void bw_resp__run_getrange(struct bw_resp__call *call);
void bw_resp__run_setrange(struct bw_resp__call *call);
void bw_resp__run_incrbyfloat(struct bw_resp__call *call);
void bw_resp__run_incr(struct bw_resp__call *call);
void bw_resp__run_decr(struct bw_resp__call *call);
void bw_resp__run_incrby(struct bw_resp__call *call);
void bw_resp__run_decrby(struct bw_resp__call *call);

/* ---- keys.c ---- */

void bw_resp__run_expire(struct bw_resp__call *call);
void bw_resp__run_pexpire(struct bw_resp__call *call);
void bw_resp__run_expireat(struct bw_resp__call *call);
void bw_resp__run_pexpireat(struct bw_resp__call *call);
void bw_resp__run_ttl(struct bw_resp__call *call);
void bw_resp__run_pttl(struct bw_resp__call *call);
void bw_resp__run_expiretime(struct bw_resp__call *call);
void bw_resp__run_pexpiretime(struct bw_resp__call *call);
void bw_resp__run_persist(struct bw_resp__call *call);
void bw_resp__run_type(struct bw_resp__call *call);
void bw_resp__run_object_encoding(struct bw_resp__call *call);
void bw_resp__run_object_freq(struct bw_resp__call *call);
void bw_resp__run_object_help(struct bw_resp__call *call);
void bw_resp__run_object_idletime(struct bw_resp__call *call);
void bw_resp__run_object_refcount(struct bw_resp__call *call);
void bw_resp__run_memory_doctor(struct bw_resp__call *call);
void bw_resp__run_memory_help(struct bw_resp__call *call);
void bw_resp__run_memory_usage(struct bw_resp__call *call);
