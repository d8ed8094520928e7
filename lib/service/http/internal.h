/* SPDX-License-Identifier: BSD-3-Clause */
/** What the parts of the HTTP service share: a worker, a connection, an exchange, a reply. See http.c. */
#pragma once

#include <base/assert.h>
#include <base/list.h>
#include <service/http.h>

#include "addresses.h"
#include "blocks.h"
#include "date.h"
#include "files.h"
#include "log.h"
#include "memo.h"
#include "parse.h"
#include "router.h"
#include "table.h"

#define BW_HTTP__EXCHANGES_MAX 65536 /* that wait, a worker */
#define BW_HTTP__STARVED_NS    (10 * BW_NS_PER_MS)
#define BW_HTTP__QUERY_MAX     768 /* that a redirect keeps, if its head has room for it */

/* How a reply is to be sent. */
enum {
	BW_HTTP__REPLY_NO_BODY = 1 << 0,    /* to HEAD */
	BW_HTTP__REPLY_CLOSE = 1 << 1,      /* the connection ends with it */
	BW_HTTP__REPLY_KEEP_ALIVE = 1 << 2, /* say so, to HTTP/1.0 */
	BW_HTTP__REPLY_1_0 = 1 << 3,        /* the client knows no chunks */
	BW_HTTP__REPLY_PAGE = 1 << 4,       /* the object is no more than the body of this status */
};

struct bw_http__reply {
	struct bw_http__object *object;   /* borrowed; NULL: a status of our own making */
	struct bw_http__log_entry *entry; /* ours until the reply is sent or given up; NULL: not logged */
	struct bw_http_text query;        /* for a redirect to keep; that of a document alone */
	uint64_t body_at, body_left;      /* of the object's body, or of the handler's */
	uint16_t status;
	uint16_t methods; /* for Allow; 0: those of documents */
	uint16_t site;
	uint8_t flags;
	bool head_is_sent;
};

/** Is its body read while it is sent? */
static inline bool bw_http__is_streamed(const struct bw_http__reply *reply)
{
	return reply->object != NULL && reply->object->is_streamed && reply->body_left > 0;
}

/* What an exchange waits for. 0: for its turn and for room. */
enum {
	BW_HTTP__WAIT_OBJECT = 1 << 0,
	BW_HTTP__WAIT_BODY = 1 << 1,
	BW_HTTP__WAIT_HANDLER = 1 << 2, /* it has not said all of its response */
};

/* How far a handler is. */
enum bw_http__stage {
	BW_HTTP__THINKING,
	BW_HTTP__STREAMING, /* the head is sent */
	BW_HTTP__ENDING,    /* streamed, but for the last chunk's end */
	BW_HTTP__WHOLE,     /* bw_http_reply() said it all */
	BW_HTTP__SENT,
};

/** A request whose answer is not in the send queue. Zeroed but for its list link. */
struct bw_http_exchange {
	struct bw_link waiter; /* in a look-up's list, or for a block */
	struct bw_http_exchange *next;
	struct bw_stream *stream;
	struct bw_http__reply reply; /* its object is a reference of ours */
	uint8_t waits;
	bool owes_continue; /* a 100 when its turn comes, if the body is still to come then */
	/* -- a handler's; NULL: an object or a status of ours answers -- */
	const struct bw_http_route *route;
	struct bw_http__worker *worker;
	enum bw_http__stage stage;
	bool is_dropped;   /* nothing more that the handler does reaches the connection */
	bool wants_room;   /* it was refused something */
	bool body_is_left; /* body() did not take all */
	bool is_chunked;   /* the response */
	bool has_chunk;    /* one was sent, and its CRLF is owed */
	uint64_t left;     /* of the length that was said, or of the chunk that was announced */
	/* BW_HTTP__WHOLE */
	struct bw_http_response response;
	const uint8_t *body;
	void (*release)(void *arg);
	void *release_arg;
	/* bw_http_job() */
	struct bw_job job;
	void (*work)(void *state);
	void (*done)(struct bw_http_exchange *x);
	bool job_is_out;
	bool is_popped; /* out of the list, and there only for its job */
	/* -- while it waits for its body, which is the connection's input then */
	uint64_t body_bytes; /* PHASE_LENGTH: left; PHASE_CHUNKS: seen */
	struct bw_http__chunks chunks;
	/* -- of an object that is not in memory: the block that a job reads, or that is being sent -- */
	int block_error;
	bw_ns block_asked_at;
	uint32_t block_at, block_len;
	struct bw_http__block *block;
	union {
		struct bw_http__wants wants;
		uint8_t state[BW_HTTP_STATE_BYTES] __attribute__((aligned(16)));
	};
};

/* What the connection's input is. */
enum bw_http__phase {
	BW_HTTP__PHASE_HEAD, /* between requests, or within a head when scan.seen > 0 */
	BW_HTTP__PHASE_LENGTH,
	BW_HTTP__PHASE_CHUNKS,
	BW_HTTP__PHASE_OVER, /* no more requests; what still comes is discarded */
};

/*
 * A connection: what all of them have, idle ones too. Zeroed is a new one but for its time. What only some have for a
 * while, an answer that waits or a body that comes, is an exchange's.
 */
struct bw_http__conn {
	struct bw_http_exchange *last; /* a ring: the next of the last is the first */
	bw_ns since;                   /* when its present wait began: for a head, a body, the peer */
	struct bw_http__scan scan;
	uint16_t exchange_count;
	uint32_t requests;   /* so far, where they have a bound */
	uint16_t blocks_out; /* read, in the send queue or on their way home */
	uint8_t phase;
	bool is_reading : 1; /* within data(), which settles at its end */
	bool is_paused : 1; /* there is more to read, and data() will be called for it, which alone clears this */
	bool peer_is_closed : 1;
	bool is_starved : 1;    /* refused for want of buffers, not of room: nothing will call, try again */
	bool is_aborted : 1;    /* closed() is next */
	bool is_in_handler : 1; /* a callback of one of its exchanges: who called pumps afterwards */
	bool owes_pump : 1;     /* which that callback has asked for */
	bool is_counted : 1;    /* among its address's connections */
};
_Static_assert(sizeof(struct bw_http__conn) <= BW_STREAM_IDLE_BYTES, "an idle connection is small");

static inline struct bw_http_exchange *bw_http__first(const struct bw_http__conn *c)
{
	return c->last != NULL ? c->last->next : NULL;
}

/* The one behind, NULL behind the last. */
static inline struct bw_http_exchange *bw_http__next(
	const struct bw_http__conn *c, const struct bw_http_exchange *x)
{
	return x != c->last ? x->next : NULL;
}

enum bw_http__tail {
	BW_HTTP__TAIL_PLAIN,
	BW_HTTP__TAIL_CLOSE,
	BW_HTTP__TAIL_KEEP_ALIVE,
	BW_HTTP__TAIL_COUNT,
};

/* A worker's. */
struct bw_http__worker {
	struct bw_context *ctx;
	const struct bw_http_conf *conf;
	struct bw_http__table table;
	uint8_t *scratch; /* heads that straddle, header_bytes_max; then a path, request_line_bytes_max */
	uint8_t *path;
	struct bw_http__memo *memo;
	struct bw_http_exchange *exchanges, *exchange_free; /* touched only as they are needed */
	char (*queries)[BW_HTTP__QUERY_MAX];                /* one each, likewise */
	uint32_t exchanges_used, exchanges_out;

	char host[256]; /* the last request's, and its site: mostly the next one's too */
	uint32_t host_len;
	unsigned host_site;

	int64_t wall_offset_ns; /* wall clock = the turn's time + this */
	bw_ns resync_at, date_until;
	int64_t date_s;
	char tail[BW_HTTP__TAIL_COUNT][80]; /* Date, Connection, the empty line */
	uint8_t tail_len[BW_HTTP__TAIL_COUNT];

	struct bw_http__log_source *log; /* NULL: none */
	struct bw_http__blocks *blocks;  /* the cache's, for this worker alone */

	uint64_t requests, by_class[6], body_bytes, connections, timeouts, malformed, stalled;
	uint64_t address_refused, address_uncounted;
	uint64_t file_reads, file_read_failures, file_read_waits;
};

static inline struct bw_http__worker *bw_http__worker_of(const struct bw_stream *s)
{
	return bw_context_state(bw_stream_context(s));
}

static inline void bw_http__arm_by(struct bw_stream *s, bw_ns at)
{
	if (at < bw_stream_timer_at(s))
		bw_stream_set_timer(s, at);
}

/** nginx's: the client did not wait for a response. */
#define BW_HTTP__GONE_STATUS 499

/** All of the reply is in the send queue, or nothing more of it will be. */
static inline void bw_http__log_reply(struct bw_http__worker *w, struct bw_http__reply *reply)
{
	if (bw_likely(reply->entry == NULL))
		return;
	bw_http__log_end(w->log, reply->entry, reply->head_is_sent ? reply->status : BW_HTTP__GONE_STATUS,
		bw_context_now(w->ctx), w->wall_offset_ns);
	reply->entry = NULL;
}

/** Of the reply's body, `bytes` more are in the send queue. */
static inline void bw_http__log_body(struct bw_http__reply *reply, uint32_t bytes)
{
	if (bw_unlikely(reply->entry != NULL))
		reply->entry->body_bytes += bytes;
}

/* ---- http.c ---- */

/** Before a head is made: what it says of the time is of this second. */
void bw_http__update_date(struct bw_http__worker *w, bw_ns now);

/* ---- reply.c ---- */

/** What the object says to this request. `reply->flags` are set. */
void bw_http__decide(const struct bw_http__worker *w, struct bw_http__object *object,
	const struct bw_http__wants *wants, struct bw_http__reply *reply);
/**
 * The site's page for this status, where it has one, is the body. Before the reply's object is referenced. What a
 * constant says is not ours to replace.
 */
void bw_http__use_page(const struct bw_http__worker *w, struct bw_http__reply *reply);
/** Unless it was sent. False: no room now. */
bool bw_http__send_head(struct bw_http__worker *w, struct bw_stream *s, struct bw_http__conn *c,
	struct bw_http__reply *reply);
/** Send what there is room for, of a reply whose body is in memory. True: all of it is in the send queue. */
bool bw_http__send_reply(struct bw_http__worker *w, struct bw_stream *s, struct bw_http__conn *c,
	struct bw_http__reply *reply);
/** A handler's head. False: no room now. */
bool bw_http__send_handler_head(struct bw_http__worker *w, struct bw_stream *s, struct bw_http__conn *c,
	const struct bw_http__reply *reply, const struct bw_http_response *response, bool is_chunked);
/** Bytes in the send queue as they are. False: no room now. */
bool bw_http__send_text(struct bw_stream *s, struct bw_http__conn *c, const char *text, uint32_t len);

/* ---- exchange.c ---- */

/** At the end of the connection's list. NULL: every one of the worker's is out. */
struct bw_http_exchange *bw_http__exchange_push(struct bw_http__worker *w, struct bw_stream *s,
	struct bw_http__conn *c, const struct bw_http__reply *reply);
/** The first one, done with or not: a handler that has not said all hears of it. */
void bw_http__exchange_pop(struct bw_http__worker *w, struct bw_http__conn *c);
/** One that was popped while its job was out: the job's end. */
void bw_http__exchange_free(struct bw_http_exchange *x);
/** Orderly: what is queued goes out, then FIN. Later answers are to nobody any more. */
void bw_http__finish(struct bw_http__worker *w, struct bw_stream *s, struct bw_http__conn *c);
void bw_http__give_up(struct bw_http__worker *w, struct bw_stream *s, struct bw_http__conn *c);
/** Reading on would only make the list longer. */
bool bw_http__is_blocked(const struct bw_http__worker *w, const struct bw_http__conn *c);
/** Send from the front of the list as far as it goes. */
void bw_http__pump(struct bw_http__worker *w, struct bw_stream *s, struct bw_http__conn *c);
/** Something was said for `x`, or its callback is over. */
void bw_http__go_on(struct bw_http_exchange *x, struct bw_http__conn *c);
/** Nothing is sent for them any more, whatever their handlers still say. */
void bw_http__drop_all(struct bw_http__conn *c);

/** The exchange goes to its route's handler. */
void bw_http__handler_begin(struct bw_http_exchange *x, const struct bw_http_head *head);
/** Its body's next bytes. Returns how many it is done with: all, where it does not read any more. */
uint32_t bw_http__handler_body(struct bw_http_exchange *x, const struct bw_view *view);
void bw_http__handler_body_end(struct bw_http_exchange *x);
/** The body was malformed, too long or too late. True: that may be answered. False: the response has begun. */
bool bw_http__handler_body_failed(struct bw_http_exchange *x);
