/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * The service interface: what an application is to Barewire, and the only way to the stack.
 *
 * A service is a table of callbacks. It runs to completion on the core that owns the connection: no locks, no
 * blocking calls, no allocation from the heap in a callback. Slow work goes to a helper thread (bw_job), and
 * another core's state is reached by mail (bw_mail).
 *
 * Receiving. data() is handed views into the packets that the device filled, and returns how many bytes it is
 * done with. The rest stays queued, closes the receive window by as much, and is handed over again, with what
 * came behind it, at the next arrival or bw_stream_wake(). A view that must live on is held (bw_stream_hold).
 * A message that straddles segments can be had in one piece (bw_stream_pullup).
 *
 * Sending. Small replies are written into the tail of the send queue (bw_stream_send, or reserve and commit
 * in place); large ones are attached by reference with a release callback. Every form is bounded: what does
 * not fit is refused, and writable() tells when it is worth trying again. Nothing is sent inside the call; the
 * worker drains ready connections once a turn.
 *
 * docs/service-tutorial.md makes a service from nothing.
 */
#pragma once

#include <base/addr.h>
#include <base/types.h>

struct bw_stream;  /* one connection */
struct bw_context; /* one service on one worker */
struct rte_mbuf;

/** Bytes that a peer sent. Valid until the callback returns or the bytes are consumed, unless held. */
struct bw_view {
	const uint8_t *data;
	uint32_t len;
	struct rte_mbuf *owner; /* opaque: for bw_stream_hold() */
};

enum bw_close_reason {
	BW_CLOSE_NORMAL,    /* both sides finished */
	BW_CLOSE_RESET,     /* the peer reset */
	BW_CLOSE_ABORTED,   /* bw_stream_abort(), or the engine stopped */
	BW_CLOSE_TIMED_OUT, /* the peer stopped answering */
	BW_CLOSE_REFUSED,   /* bw_stream_connect(): nobody listens there */
	BW_CLOSE_UNREACHABLE, /* no answer, and a router or the host has said why; or bw_stream_connect(): it was final */
};

/** A datagram for datagram(). Addresses as seen from this host. */
struct bw_datagram {
	const struct bw_flow *flow;
	struct bw_view payload; /* in one piece */
};

struct bw_mail;

/**
 * State a connection that keeps an idle one within 256 bytes in all. A service that needs more for a connection while
 * it has something to do takes that from a pool of its own.
 */
#define BW_STREAM_IDLE_BYTES 32

/** What an application is. Unused callbacks stay NULL. */
struct bw_service {
	const char *name;
	uint32_t stream_bytes;  /* state a connection, zeroed before opened(); at most 256, and see above */
	uint32_t context_bytes; /* state a worker, zeroed before start() */
	bool nagle;             /* default off: a service sends whole replies */
	bool connects; /* it opens connections, or sends datagrams that are answered: from ports of ours */

	/**
	 * Once a worker, on the worker, before any other callback; may allocate. `conf` is the instance's.
	 * 0 or -errno after one logged line, which stops the start-up.
	 */
	int (*start)(struct bw_context *ctx, void *conf);
	/** Once a worker, after the last closed(). */
	void (*stop)(struct bw_context *ctx);

	void (*opened)(struct bw_stream *s);
	/**
	 * Before the data() of a burst of packets: what most likely comes, of several streams, one view a packet. For a
	 * service whose state is larger than the caches: what it fetches for all at once (__builtin_prefetch) is waited
	 * for once. A hint only: the bytes may be repeats, out of order or in the middle of something, and what is
	 * consumed is said by data() alone.
	 */
	void (*prefetch)(struct bw_context *ctx, const struct bw_view *views, unsigned count);
	/** Returns the bytes it is done with, 0 to the sum of the views. */
	uint32_t (*data)(struct bw_stream *s, const struct bw_view *views, unsigned count);
	void (*writable)(struct bw_stream *s);
	/**
	 * The peer will send nothing more. What data() left unconsumed is still there. NULL: the engine closes as
	 * soon as what is queued is out.
	 */
	void (*peer_closed)(struct bw_stream *s);
	/** The last call for this stream. */
	void (*closed)(struct bw_stream *s, enum bw_close_reason reason);
	void (*timer)(struct bw_stream *s);

	/** A UDP datagram on the service's port, or on any that is nobody's if that is 0. NULL: the port is TCP only. */
	void (*datagram)(struct bw_context *ctx, const struct bw_datagram *dgram);
	/** Mail from another worker's context of the same service, or from itself. */
	void (*mail)(struct bw_context *ctx, struct bw_mail *mail);
	/** The connections are to finish: answer what is in flight, then close. NULL: idle streams are closed. */
	void (*drain)(struct bw_stream *s);
	/** Called once a turn while the worker is awake and at least every 100 ms: housekeeping in small slices. */
	void (*tick)(struct bw_context *ctx, bw_ns now);
	/** Lines "name value\n" for the operator, appended to out (out_bytes of room). Returns the bytes written. */
	size_t (*stats)(const struct bw_context *ctx, char *out, size_t out_bytes);
};

/* ---- a stream ----------------------------------------------------------------------------------------- */

/**
 * Connect to a server, from this worker. The stream is one of the service's like those that its port accepts; what it
 * is for, its state says, which is zeroed and may be set at once. opened() follows, or closed(), after three minutes at
 * the latest, or the stream's own user time-out. What is sent before opened() goes out after it.
 *
 * NULL and errno: ENETUNREACH (no route, or no address of ours in that family), EADDRNOTAVAIL (no port is left to that
 * remote), ENOBUFS (connections or buffers run low), EINVAL (not a host to talk to), ESHUTDOWN (the engine is ending).
 */
struct bw_stream *bw_stream_connect(struct bw_context *ctx, const struct bw_ip *remote, uint16_t port);
/** The same from an address of ours that the caller chooses. EINVAL: it is not ours, or of the other family. */
struct bw_stream *bw_stream_connect_from(
	struct bw_context *ctx, const struct bw_ip *local, const struct bw_ip *remote, uint16_t port);

void *bw_stream_state(const struct bw_stream *s);
struct bw_context *bw_stream_context(const struct bw_stream *s);
const struct bw_flow *bw_stream_flow(const struct bw_stream *s);
/** The turn's time. */
bw_ns bw_stream_now(const struct bw_stream *s);

/** Bytes received and not consumed. */
uint32_t bw_stream_unread(const struct bw_stream *s);
/** The first `len` unconsumed bytes in one piece; copies only if they straddle. NULL: not that many there, or
 *  over 2,048. May move the views: do not use views of before the call. */
const uint8_t *bw_stream_pullup(struct bw_stream *s, uint32_t len);
/** Consume outside data(), for a reply that was finished later. */
void bw_stream_consume(struct bw_stream *s, uint32_t len);
/** Ask for data() once more with what is unconsumed. */
void bw_stream_wake(struct bw_stream *s);

/**
 * Keep a view's bytes beyond the callback, also after they were consumed. Bounded: at most 64 a connection;
 * NULL when the bound is reached. Release on the same worker, before or after closed().
 */
struct bw_hold;
struct bw_hold *bw_stream_hold(struct bw_stream *s, const struct bw_view *view);
void bw_hold_release(struct bw_hold *hold);

/** Bytes that a send would accept now. */
uint32_t bw_stream_space(const struct bw_stream *s);
/** Copy into the send queue. Returns how many bytes were taken, 0 to len. */
uint32_t bw_stream_send(struct bw_stream *s, const void *data, uint32_t len);
/** Write in place: up to 1,024 contiguous bytes, committed before the callback returns. NULL: no room. */
void *bw_stream_reserve(struct bw_stream *s, uint32_t len);
void bw_stream_commit(struct bw_stream *s, uint32_t len);
/**
 * Send memory without copying it. It must not change until `release(arg)`, which is called once, on any core,
 * when the peer has acknowledged all or the connection is over; NULL for memory that outlives the engine. 0; -ENOBUFS: over bw_stream_space(), or no buffers,
 * nothing taken; -EPIPE: the connection no longer sends. Cut to bw_stream_space() what may be larger, and go on in
 * writable(): with nothing queued, no acknowledgment would make it follow what was too large.
 */
int bw_stream_send_ref(
	struct bw_stream *s, const void *data, uint32_t len, void (*release)(void *arg), void *arg);

/** No more from us: FIN after what is queued. What the peer sends still arrives at data(). */
void bw_stream_shutdown(struct bw_stream *s);
/** Done in both directions, in order: FIN after what is queued, what still arrives is discarded. */
void bw_stream_close(struct bw_stream *s);
/** RST. */
void bw_stream_abort(struct bw_stream *s);
/**
 * How long the peer may acknowledge nothing, or keep its window shut, or not answer bw_stream_connect(), before
 * closed(BW_CLOSE_TIMED_OUT): R2 of RFC 9293 3.8.3, of this stream alone. 0: that of the configuration again.
 * Rounded up to seconds, at most 24 h; one shorter than the retransmission time-out ends with that.
 */
void bw_stream_set_user_timeout(struct bw_stream *s, bw_ns timeout_ns);
/** timer() at that time; BW_NEVER disarms. One a stream. */
void bw_stream_set_timer(struct bw_stream *s, bw_ns expires_at);
/** When that is; BW_NEVER: it is not armed. */
bw_ns bw_stream_timer_at(const struct bw_stream *s);
/** The engine is draining: finish, and close instead of waiting for another request. */
bool bw_stream_is_draining(const struct bw_stream *s);

/**
 * Its number among the open ones of its worker, less than bw_context_streams_max(), and another's once it has closed:
 * what a list of streams links in 4 bytes.
 */
uint32_t bw_stream_slot(const struct bw_stream *s);
/** The stream in that slot, which has one. */
struct bw_stream *bw_stream_at(struct bw_context *ctx, uint32_t slot);
/** A name that outlives the stream, to find it again when a job or mail comes back. */
uint64_t bw_stream_id(const struct bw_stream *s);
/** NULL when that stream is over. */
struct bw_stream *bw_stream_find(struct bw_context *ctx, uint64_t id);

/* ---- a worker's context of a service ------------------------------------------------------------------- */

void *bw_context_state(struct bw_context *ctx);
unsigned bw_context_worker(const struct bw_context *ctx); /* 0 .. workers - 1 */
unsigned bw_context_worker_count(const struct bw_context *ctx);
/** How many streams a worker can have at a time. */
uint32_t bw_context_streams_max(const struct bw_context *ctx);
bw_ns bw_context_now(const struct bw_context *ctx);
/** bw_stream_is_draining() of any stream of it. */
bool bw_context_is_draining(const struct bw_context *ctx);
/** Call tick() at that time at the latest; once, and no worker's sleep is longer. The past: in the next turn. */
void bw_context_tick_at(struct bw_context *ctx, bw_ns at);
/** Our address for talking to `remote`; NULL: none. What bw_stream_connect() takes. */
const struct bw_ip *bw_context_source(const struct bw_context *ctx, const struct bw_ip *remote);
/** Do the flow's packets come to this worker? For who chooses the port of a flow by itself. */
bool bw_context_receives(const struct bw_context *ctx, const struct bw_flow *flow);
/** Another worker's context state: for reading figures that their owner alone writes. */
const void *bw_context_peer_state(const struct bw_context *ctx, unsigned worker);

/** Answer a datagram, or begin with one, in a flow from an address of ours: the payload is copied. 0, -ENOBUFS, -EMSGSIZE (over 65,507 bytes; fragments over the MTU). */
int bw_datagram_reply(struct bw_context *ctx, const struct bw_datagram *to, const void *data, uint32_t len);

/**
 * Mail: a message from one worker's context to another's of the same service. The sender allocates it (from a
 * pool of its own: no heap in a callback) with this header first; ownership goes to the receiver, who
 * usually writes the answer into it and posts it back. Mails between two workers arrive in the order posted.
 */
struct bw_mail {
	struct bw_mail *next;  /* the outbox's */
	struct bw_context *to; /* set by bw_mail_post() */
	uint16_t from_worker;  /* set by bw_mail_post() */
};
/** Never fails to deliver: what a full ring refuses waits in the sender's outbox, sent in later turns. */
void bw_mail_post(struct bw_context *ctx, unsigned to_worker, struct bw_mail *mail);

/**
 * A job: work() runs on a helper thread and may block; done() then runs on this worker, in a later turn. The
 * service owns the memory, with this header first, and keeps what it needs in it, such as bw_stream_id().
 */
struct bw_job {
	void (*work)(struct bw_job *job);
	void (*done)(struct bw_context *ctx, struct bw_job *job);
	struct bw_context *ctx; /* set by bw_job_submit() */
};
/** 0, or -EBUSY when the bounded queue to the helpers is full. */
int bw_job_submit(struct bw_context *ctx, struct bw_job *job);

/* ---- the services that come with Barewire --------------------------------------------------------------- */

extern const struct bw_service bw_echo_service;    /* conf NULL. TCP and UDP, RFC 862 */
extern const struct bw_service bw_discard_service; /* conf NULL. TCP and UDP, RFC 863 */
extern const struct bw_service bw_http_service;    /* conf: struct bw_http_conf, service/http.h */
extern const struct bw_service bw_resp_service;    /* conf: struct bw_resp_conf, service/resp.h */
