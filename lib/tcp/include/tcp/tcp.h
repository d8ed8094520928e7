/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * One core's TCP (RFC 9293): connection table, input, output, timers. No clock, no device, no globals: time
 * comes in as an argument, packets come in as a burst, packets go out as a burst. So two of these and a
 * simulated wire fit in one process on a virtual clock.
 *
 * Everything here is called on the owning core only, never allocates from the heap, never locks, never
 * reads a clock. `now` never decreases from call to call.
 *
 * Input never calls output. What has something to send joins the ready list, and bw_tcp_output() drains it
 * once a turn, so an ACK rides on the response and pipelined responses share segments.
 */
#pragma once

#include <rte_mbuf.h>

#include <base/addr.h>
#include <base/counters.h>
#include <base/siphash.h>
#include <base/types.h>
#include <wire/packet.h>

struct bw_tcp;
struct bw_tcp_conn;

/**
 * How scarce buffers are. What was promised is kept as long as possible, what is new is refused first: see pressure.c.
 */
enum bw_tcp_pressure {
	BW_TCP_PRESSURE_NONE,
	/**
	 * No new connections, no out-of-order data, and windows no longer grow. A connection that holds more than
	 * 32 KiB unread takes no more in, and one with as much unacknowledged lets its service send no more.
	 */
	BW_TCP_PRESSURE_LOW,
	/** The same with 4 KiB. */
	BW_TCP_PRESSURE_DRY,
	/**
	 * Who holds nothing may take one buffer. Of a few connections that are looked at each time this is said, the
	 * one that holds most, if it is more than 4 KiB, is reset, and out-of-order data is dropped.
	 */
	BW_TCP_PRESSURE_EMPTY,
	BW_TCP_PRESSURE_COUNT,
};

/** Why a connection is over: the argument of closed(). */
enum bw_tcp_end {
	BW_TCP_END_CLOSED,      /* both directions finished in order */
	BW_TCP_END_RESET,       /* the peer sent RST */
	BW_TCP_END_ABORTED,     /* bw_tcp_abort() here */
	BW_TCP_END_TIMED_OUT,   /* retransmissions (R2), probes or a lingering close had no answer */
	BW_TCP_END_REFUSED,     /* active open: RST to our SYN */
	BW_TCP_END_UNREACHABLE, /* ICMP: a hard error while connecting, or any before we timed out */
	BW_TCP_END_COUNT,
};

/**
 * Upcalls, one table a listener. Made during bw_tcp_input(), bw_tcp_timers() and bw_tcp_icmp_error(), and never from
 * inside a downcall. What a downcall asks for (closed() after bw_tcp_abort(), data() after bw_tcp_wake()) is made at
 * the end of bw_tcp_input(), in bw_tcp_timers(), or at the beginning of bw_tcp_output(), whichever comes
 * first. An upcall may call every function below on its connection, abort included; the connection stays
 * valid memory until closed() has returned. In closed() nothing can be sent or read any more.
 */
struct bw_tcp_ops {
	/** The handshake is complete. May refuse with bw_tcp_abort(). */
	void (*opened)(struct bw_tcp_conn *conn);
	/** In-order bytes arrived, or bw_tcp_wake() asked: see bw_tcp_views(). */
	void (*data)(struct bw_tcp_conn *conn);
	/** Send space grew after a send had been cut short: at least a quarter of the bound is free now. */
	void (*writable)(struct bw_tcp_conn *conn);
	/** The peer's FIN, after the last data(): nothing more will come. We may still send. */
	void (*peer_closed)(struct bw_tcp_conn *conn);
	/**
	 * The last call. After both FINs are out of the way (not after TIME_WAIT) and what the peer sent is
	 * consumed, or bw_tcp_close() was called; or at any abnormal end.
	 */
	void (*closed)(struct bw_tcp_conn *conn, enum bw_tcp_end end);
	/** The timer of bw_tcp_set_timer(). */
	void (*timer)(struct bw_tcp_conn *conn);
};

enum bw_tcp_congestion_control {
	BW_TCP_CC_DEFAULT, /* of a listener: struct bw_tcp_conf's */
	BW_TCP_CC_CUBIC,   /* RFC 9438 */
	BW_TCP_CC_NEWRENO, /* RFC 5681, RFC 6582 */
	/**
	 * RFC 8257: for networks of which every router marks early, and nothing else competes. Without ECN in
	 * the handshake it is NewReno.
	 */
	BW_TCP_CC_DCTCP,
	BW_TCP_CC_COUNT,
};

struct bw_tcp_view;

/** What a listener accepts, and how its connections behave. */
struct bw_tcp_listener {
	const struct bw_tcp_ops *ops;
	void *user; /* bw_tcp_listener_user() */
	/**
	 * NULL: none. Before the packets of a burst are processed one by one: payloads that most likely are for
	 * connections of this listener, to fetch into the cache what data() will touch. Bytes of anybody: they may be
	 * repeats, out of order, or no part of a connection.
	 */
	void (*prefetch)(void *user, const struct bw_tcp_view *views, unsigned count);
	uint16_t port;             /* host order. 0: accepts nothing, for bw_tcp_connect() */
	const struct bw_ip *addrs; /* local addresses that it accepts on. Not copied: as long as the bw_tcp */
	unsigned addr_count;       /* 0: on all */
	bool nagle;                /* default off */
	bool pacing;               /* new data is spread over the round trip; default off */
	uint8_t dscp;              /* of all packets of its connections, 0 to 63 (RFC 2474); default 0 */
	enum bw_tcp_congestion_control congestion_control;
	uint32_t recv_bytes_max; /* receive window: bytes queued unconsumed or held; 0 takes the default */
	uint32_t send_bytes_max; /* bytes queued and not acknowledged; 0 takes the default */
	bw_ns keepalive_idle_ns; /* first probe after this much silence; 0 for never */
	bw_ns user_timeout_ns;   /* 0 takes the default */
};

/** When a SYN is answered with a cookie instead of a half-open entry (RFC 4987 3.6). */
enum bw_tcp_syn_cookies {
	BW_TCP_SYN_COOKIES_AUTO, /* while half_open_max entries are in use */
	BW_TCP_SYN_COOKIES_OFF,  /* never: what finds no entry is not answered */
	BW_TCP_SYN_COOKIES_ALWAYS,
};

enum bw_tcp_stage {
	BW_TCP_STAGE_LOOKUP,
	BW_TCP_STAGE_INPUT,
};

/** A way out, where there are several: connections leave by the one that has their local address. */
struct bw_tcp_link {
	uint16_t mtu;
	bool shares_addresses; /* as in struct bw_tcp_conf */
	bool is_down;          /* of now: see bw_tcp_set_link() */
	bool is_full;          /* of now: its connections wait, and the others have their turn */
};

struct bw_tcp_conf {
	uint32_t connections_max; /* full connections of this core */
	uint32_t half_open_max;
	enum bw_tcp_syn_cookies syn_cookies; /* default auto */
	uint32_t time_wait_max;
	uint32_t state_bytes; /* service state a connection: zeroed before opened(), see bw_tcp_state() */
	/** Default 256 KiB. Windows begin with 64 KiB and grow while the service reads as fast as the peer can send. */
	uint32_t recv_bytes_max;
	/** Default 256 KiB. With more, send queues begin with that and grow to two congestion windows. */
	uint32_t send_bytes_max;
	uint32_t
		reassembly_bytes_max; /* out-of-order bytes a connection keeps; default: the receive window */
	uint16_t mtu;                 /* of the link: MSS is mtu - 40 or - 60 */
	/**
	 * A smaller MSS option is taken for this: it would make a segment, with all its work, of every few bytes. From 64 on.
	 * Default 536, which every host takes in (RFC 9293 3.7.1). The link's own MTU goes before it.
	 */
	uint32_t mss_min;
	uint32_t tso_bytes_max; /* the device cuts segments of up to this much payload; 0: it does not */
	/**
	 * The device sends mbuf chains. Then data sent by reference goes out from where it lies, with its
	 * virtual address as its I/O address: false for a device that does DMA, unless that memory is
	 * registered with EAL and mapped for DMA in IOVA-as-VA mode. When false, it is copied as it is sent.
	 */
	bool can_multi_segment;
	/** RFC 3168: accept it when a peer asks for it, and ask in our first SYN. False: neither. Default true. */
	bool ecn;
	enum bw_tcp_congestion_control congestion_control; /* default CUBIC */
	bw_ns time_wait_ns;                                /* 2 MSL; default 60 s as Linux has it */
	bw_ns keepalive_interval_ns;                       /* default 75 s */
	uint32_t keepalive_probes;                         /* default 9 */
	bw_ns user_timeout_ns; /* R2: give up on unacknowledged data; default 924.6 s as Linux's 15 retries */
	struct rte_mempool *pool; /* of outgoing mbufs; private area of BW_MBUF_PRIV_BYTES */
	struct bw_counters *counters;
	struct bw_siphash_key secret; /* ISN (RFC 6528), timestamp offset, SYN cookies */
	/** Do packets of the flow come to this core? What an active open asks of a port. NULL: all do. */
	bool (*is_local)(const void *arg, const struct bw_flow *flow);
	const void *is_local_arg;
	/** Ports that an active open takes from: RFC 6056 3.2. Default 1024 to 65535. */
	uint16_t port_first, port_last;
	/**
	 * Another stack has our addresses, too. A segment that belongs to no connection gets an RST only if its port is a
	 * listener's or one of those; at the others it is not for us to say that nobody is there.
	 */
	bool shares_addresses;
	/** The link of a local address, which says these things instead of `mtu` and `shares_addresses`. NULL: there is one. */
	const struct bw_tcp_link *(*link_of)(const void *arg, const struct bw_ip *local);
	const void *link_of_arg;
	/**
	 * bw_tcp_input() begins to look up packets, or has looked them up and takes them in: for the caller's account
	 * of cycles. Once or twice a burst. NULL: nobody asks.
	 */
	void (*on_stage)(void *arg, enum bw_tcp_stage stage);
	void *on_stage_arg;
};

/** Defaults for everything but pool, counters and secret. */
void bw_tcp_conf_init(struct bw_tcp_conf *conf);

/** NULL and errno (EINVAL, ENOMEM). Memory is reserved, and touched only as it is used. */
struct bw_tcp *bw_tcp_create(const struct bw_tcp_conf *conf, bw_ns now);
/** Every connection is dropped without a word to the peer, closed() is called, every mbuf freed. */
void bw_tcp_destroy(struct bw_tcp *tcp);

/**
 * Its number from 0 on, for bw_tcp_connect(); -EADDRINUSE (another accepts on the port and an address of it), -ENOSPC
 * (64 listeners), -EINVAL (no ops, over 1 GiB, over 20 days, no such congestion control). The listener is copied.
 */
int bw_tcp_listen(struct bw_tcp *tcp, const struct bw_tcp_listener *listener);
/** On any address. */
bool bw_tcp_is_listening(const struct bw_tcp *tcp, uint16_t port);
/**
 * Stop accepting: SYNs are answered with RST from now on. Established connections are not touched, and
 * handshakes that have begun are completed: their clients may know already that they are connected.
 */
void bw_tcp_unlisten_all(struct bw_tcp *tcp);

/**
 * Active open (RFC 9293 3.10.1): a SYN goes out with the next bw_tcp_output().
 *
 * @listener  what bw_tcp_listen() returned: how the connection behaves, and whose upcalls it makes
 * @flow      both addresses and the remote port. A local port of 0 is chosen (RFC 6056 3.3.4), such that the answers
 *            come to this core
 *
 * Returns the connection; opened() follows, or closed(): REFUSED, UNREACHABLE, TIMED_OUT after three minutes (or its
 * own user time-out), ABORTED. What is sent before opened() goes out after it. bw_tcp_close() before it is
 * bw_tcp_abort(). NULL and errno: EADDRINUSE (that flow is in use), EADDRNOTAVAIL (no port was found in 2,048 tries),
 * ENOBUFS (all connections are in use, or buffers run low), EINVAL. A flow in TIME_WAIT is taken over after a second
 * where both ends have timestamps.
 *
 * Cost: a few lookups for each core, whatever number of connections there are; more only as a remote's ports run out.
 */
struct bw_tcp_conn *bw_tcp_connect(
	struct bw_tcp *tcp, bw_ns now, unsigned listener, const struct bw_flow *flow);

/**
 * Feed a burst of parsed TCP packets: one pass looks all of them up with prefetch, one processes them in
 * order. Each packet's mbuf is consumed. Cannot fail: every outcome is a counter and, where the RFC wants
 * one, an answer.
 */
void bw_tcp_input(struct bw_tcp *tcp, bw_ns now, struct bw_pkt *const *pkts, unsigned count);

/** Is the packet's flow one of ours, in whatever state? */
bool bw_tcp_knows(const struct bw_tcp *tcp, const struct bw_pkt *pkt);

/**
 * The pools' state, once a turn, before its input.
 *
 * @to_send     buffers of bw_tcp_conf.pool that connections may take until this is said again. What receiving and the
 *              packets without payload need is the caller's to keep back: ACKs are what gives buffers back, so there
 *              has to be a buffer for them
 * @to_receive  that they may keep of what is received: the same number says that it is the same pool
 * @all         of a pool
 *
 * An eighth of all left is no pressure, a 32nd is LOW, a 64th DRY. Never told, there are always enough. Looks at 16
 * connections at most and may abort one of them.
 */
void bw_tcp_set_buffers(struct bw_tcp *tcp, uint32_t to_send, uint32_t to_receive, uint32_t all);
/** The same for whoever knows what the pressure is, with no bound on what connections take. */
void bw_tcp_set_pressure(struct bw_tcp *tcp, enum bw_tcp_pressure pressure);

/**
 * Does the device, or any of them, bring out what is sent? While a connection's does not, its time-outs do not back off,
 * as nothing tells of congestion that has not reached the network: it goes on within a quarter of a second of its return.
 */
void bw_tcp_set_link(struct bw_tcp *tcp, bool is_up);
/** One of several brings out what is sent again. */
void bw_tcp_link_is_back(struct bw_tcp *tcp);

/** Fire what is due, a bounded number of timers a call. */
void bw_tcp_timers(struct bw_tcp *tcp, bw_ns now);
/** Lower bound of the next deadline; BW_NEVER when there is none. */
bw_ns bw_tcp_next_deadline(const struct bw_tcp *tcp);

/**
 * What TCP writes into a connection's path when one segment was repeated in vain R1 times (RFC 9293 3.8.3 (b), RFC 1122
 * 3.3.1.4): whoever keeps neighbours is to doubt the one that it is sent to. Otherwise a path is 0 until it is set.
 */
#define BW_TCP_PATH_SUSPECT 0xffff0000u

/** One packet to send: the mbuf's data starts with the TCP header, checksum field zero. */
struct bw_tcp_packet {
	struct rte_mbuf *m; /* ours to give away; l4_len set, tso_segsz when it is to be cut */
	struct bw_flow flow;
	uint32_t *path; /* the connection's slot for the engine's route, NULL for a stateless answer */
	uint8_t tos;    /* or traffic class: DSCP, and ECN in the low two bits */
};

/**
 * Build what is ready: answers without a connection, up to half of `max`, then ready connections in turn, a bounded
 * number of segments each, then more answers. Call again while it returns `max`.
 *
 * @out  `path` pointers are valid until the next call into this object
 * Returns the number of packets.
 */
unsigned bw_tcp_output(struct bw_tcp *tcp, bw_ns now, struct bw_tcp_packet *out, unsigned max);
/** Is anything waiting for bw_tcp_output()? */
bool bw_tcp_has_output(const struct bw_tcp *tcp);

/**
 * An ICMP error that quotes this flow, and `seq` of it. What is not in flight is not believed (RFC 5927 4.1).
 *
 * @is_hard  by RFC 9293 3.9.2.2. No connection ends by it once it is established (RFC 5927 5.2): it is remembered
 *           like a soft one, as the reason should the retransmissions have no answer.
 * @mtu      of the narrow link (RFC 1191, RFC 8201); 0 for an error of another kind
 */
void bw_tcp_icmp_error(
	struct bw_tcp *tcp, bw_ns now, const struct bw_flow *flow, bw_seq seq, bool is_hard, uint32_t mtu);

/* ---- a connection, as a service's stream sees it ------------------------------------------------------- */

/** Unconsumed in-order bytes, first first. */
struct bw_tcp_view {
	const uint8_t *data;
	uint32_t len;
	struct rte_mbuf *m; /* holds data: take a reference (rte_mbuf_refcnt_update) to hold it longer */
};

/** Fill up to `max` views; returns how many. Valid until consumed or the next bw_tcp_input(). */
unsigned bw_tcp_views(const struct bw_tcp_conn *conn, struct bw_tcp_view *views, unsigned max);
/** All unconsumed in-order bytes, in views or not. */
uint32_t bw_tcp_unread(const struct bw_tcp_conn *conn);
/**
 * The first `len` unconsumed bytes in one piece. Where they straddle segments they are copied, once, into a
 * fresh mbuf that takes their place in the queue, and counted in copied.bytes. NULL: fewer are there, or
 * `len` is over an mbuf's room (2 KiB at least), or no mbuf.
 */
const uint8_t *bw_tcp_pullup(struct bw_tcp_conn *conn, uint32_t len);
/** Done with the first `len` unconsumed bytes (at most bw_tcp_unread()); the window opens. */
void bw_tcp_consume(struct bw_tcp_conn *conn, uint32_t len);
/** Ask for data() again this turn (or the next) although nothing arrived. */
void bw_tcp_wake(struct bw_tcp_conn *conn);

/** Bytes that a send would accept now, at most BW_TCP_SEND_MAX. */
#define BW_TCP_SEND_MAX (4u << 20)
uint32_t bw_tcp_send_space(const struct bw_tcp_conn *conn);
/** Copy up to `len` bytes into the send queue, first into the tail of the last mbuf. Returns how many. */
uint32_t bw_tcp_send(struct bw_tcp_conn *conn, const void *data, uint32_t len);
/**
 * Room for `len` contiguous bytes (at most BW_TCP_RESERVE_MAX) at the tail of the send queue, to be written
 * in place and committed in the same upcall; NULL when the bound or the pool says no.
 */
#define BW_TCP_RESERVE_MAX 1024
void *bw_tcp_send_reserve(struct bw_tcp_conn *conn, uint32_t len);
void bw_tcp_send_commit(struct bw_tcp_conn *conn, uint32_t len);
/**
 * Queue memory by reference. `release(arg)` is called once, from whichever core frees the last packet that
 * refers to it, when all is acknowledged or the connection is over. 0; -ENOBUFS when the send bound or the
 * pool says no (nothing was taken, release will not be called); -EPIPE when the connection no longer sends.
 * Accepts at most bw_tcp_send_space() bytes: cut larger objects and continue in writable(). With an empty
 * queue, more than that is refused and writable() does not follow: there is no ACK to wait for.
 */
int bw_tcp_send_ref(
	struct bw_tcp_conn *conn, const void *data, uint32_t len, void (*release)(void *arg), void *arg);
/** Bytes in the send queue: unsent and unacknowledged. */
uint32_t bw_tcp_send_queued(const struct bw_tcp_conn *conn);

/** FIN after what is queued. What the peer still sends goes on arriving. */
void bw_tcp_shutdown(struct bw_tcp_conn *conn);
/**
 * RST. closed(BW_TCP_END_ABORTED) follows before the next bw_tcp_output() returns; a little later where so many
 * end at once that their RSTs have to queue.
 */
void bw_tcp_abort(struct bw_tcp_conn *conn);
/**
 * The service is done with the connection: FIN after what is queued; what is unread or still arrives is
 * discarded, and acknowledged, until the queue is out and the peer's FIN is in, for at most 2 s after our FIN
 * was acknowledged (a lingering close: an early RST would destroy the response on its way, RFC 9112 9.6);
 * then RST. No upcall but closed() follows.
 */
void bw_tcp_close(struct bw_tcp_conn *conn);

/**
 * This connection's user time-out, R2 of RFC 9293 3.8.3 and what RFC 5482 calls so: how long the peer may acknowledge
 * nothing of what is under way, or not open its window, or not answer a SYN, before closed(TIMED_OUT). Counts from the
 * peer's last progress, also from before the call. 0: the listener's again, and three minutes for the SYN.
 *
 * Rounded up to seconds, at most BW_TCP_USER_TIMEOUT_MAX. The end comes with a retransmission that is due anyway or at
 * the time itself, so that a time-out shorter than the RTO ends with the RTO.
 */
#define BW_TCP_USER_TIMEOUT_MAX (86400 * BW_NS_PER_SEC)
void bw_tcp_set_user_timeout(struct bw_tcp_conn *conn, bw_ns timeout_ns);
/** One timer a connection for its service; BW_NEVER disarms. */
void bw_tcp_set_timer(struct bw_tcp_conn *conn, bw_ns expires_at);
/** When that timer expires; BW_NEVER: it is not armed. */
bw_ns bw_tcp_timer_at(const struct bw_tcp_conn *conn);
/** A count up to 8191 that is kept for the user and means nothing here; 0 to begin with. */
unsigned bw_tcp_user_count(const struct bw_tcp_conn *conn);
void bw_tcp_set_user_count(struct bw_tcp_conn *conn, unsigned count);
bw_ns bw_tcp_now(const struct bw_tcp_conn *conn);
const struct bw_flow *bw_tcp_flow(const struct bw_tcp_conn *conn);
void *bw_tcp_listener_user(const struct bw_tcp_conn *conn);
struct bw_tcp *bw_tcp_of(const struct bw_tcp_conn *conn);
/** Service state: conf.state_bytes, 16-byte aligned. */
void *bw_tcp_state(const struct bw_tcp_conn *conn);
/** A name for the connection that outlives it: never reused while somebody may still hold it. */
uint64_t bw_tcp_id(const struct bw_tcp_conn *conn);
/** One that has not been freed, by the name's lower half. */
struct bw_tcp_conn *bw_tcp_at(struct bw_tcp *tcp, uint32_t index);
/** The connection of that name, or NULL when it is over. */
struct bw_tcp_conn *bw_tcp_find(struct bw_tcp *tcp, uint64_t id);

/** Figures for display and tests. */
struct bw_tcp_info {
	const char *state; /* RFC 9293's name */
	uint32_t cwnd, ssthresh, srtt_us, rto_us, in_flight, snd_wnd, rcv_wnd, mss;
	enum bw_tcp_congestion_control congestion_control;
	bool has_ecn;
};
void bw_tcp_info(const struct bw_tcp_conn *conn, struct bw_tcp_info *info);
struct bw_tcp_stats {
	uint32_t connections, half_open, time_wait;
};
void bw_tcp_stats(const struct bw_tcp *tcp, struct bw_tcp_stats *stats);
/** Call `visit` for every connection (not half-open, not TIME_WAIT). It may abort or close them. */
void bw_tcp_foreach(struct bw_tcp *tcp, void (*visit)(struct bw_tcp_conn *conn, void *arg), void *arg);
