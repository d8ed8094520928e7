/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * What the files of this room share.
 *
 * A flow is one of three objects, and the table finds any of them by one lookup:
 *
 *     half-open    64 bytes   a SYN was answered; or none: cookie.c  listen.c
 *     connection  208 bytes   from the ACK of the handshake on,      conn.c, input.c, output.c
 *                             or from the SYN that we send           connect.c
 *     TIME_WAIT    64 bytes   both FINs are out of the way           time_wait.c
 *
 * All three live in arrays reserved at create and are named by their index, so that links and the table's
 * handles take 4 bytes. Times that a connection keeps are milliseconds in 32 bits since create, compared
 * modulo 2^32 like sequence numbers.
 *
 * A connection has three queues of mbufs: what was received in order (recvq.c), what was received out of
 * order (reassembly.c), and what is to be sent or acknowledged (sendq.c). It waits in at most two lists:
 * ready (it may have something to send) and pending (an upcall was asked for in a downcall). One that is over
 * is freed when it has left both, so that both can be singly linked.
 */
#pragma once

#include <base/assert.h>
#include <base/list.h>
#include <base/mbuf.h>
#include <base/seq.h>
#include <base/wheel.h>
#include <tcp/tcp.h>
#include <wire/build.h>

#define BW_TCP__NONE UINT32_MAX /* no index */

/* ---- constants of the protocol ------------------------------------------------------------------------- */

#define BW_TCP__RTO_INITIAL_MS   1000   /* RFC 6298 2.1 */
#define BW_TCP__RTO_SYN_LOST_MS  3000   /* RFC 6298 5.7: the SYN had to be repeated */
#define BW_TCP__SYN_TIMEOUT_MS   180000 /* R2 of a SYN: RFC 9293 3.8.3, MUST-23 */
#define BW_TCP__RTO_MIN_MS       200    /* under RFC 6298's 1 s, as Linux: 4.3 of RFC 8961 allows it */
#define BW_TCP__RTO_MAX_MS       120000 /* RFC 6298 2.5 wants 60 s at least */
#define BW_TCP__RTO_LINK_DOWN_MS 250    /* at most, while the device brings nothing out */
#define BW_TCP__DELAYED_ACK_MS   40     /* RFC 9293 3.8.6.3 allows 500 */
#define BW_TCP__R1               3      /* RFC 9293 3.8.3 (b): time-outs in a row until the path is doubted */
#define BW_TCP__SYN_ACK_RETRIES  5
#define BW_TCP__ISN_TICKS_PER_MS 250  /* of 4 us: RFC 6528 3 */
#define BW_TCP__LINGER_MS        2000 /* see bw_tcp_close() */
#define BW_TCP__DUP_THRESH       3    /* RFC 5681 3.2 */
#define BW_TCP__INITIAL_SEGMENTS 10   /* RFC 6928 */
#define BW_TCP__QUICK_ACKS       10   /* full segments acknowledged at once while the peer is in slow start */
#define BW_TCP__PROBE_SLACK_MS   2   /* above two round trips: RFC 8985 7.2 leaves room for a timer's grain */
#define BW_TCP__CHALLENGE_GAP_MS 100 /* answers to segments without payload, a connection: RFC 5961 7 */
#define BW_TCP__STATELESS_PER_S  1000 /* such answers of half-open and TIME_WAIT entries, a core */
#define BW_TCP__MSS_LEAST        64   /* of bw_tcp_conf.mss_min */
#define BW_TCP__PAWS_IDLE_MS     (24u * 24 * 3600 * 1000) /* RFC 7323 5.5 */
/** When the clock jumps by more (a machine that was suspended), milliseconds go on from there. More than PAWS_IDLE. */
#define BW_TCP__JUMP_MAX_NS      (588ull * 3600 * BW_NS_PER_SEC)
#define BW_TCP__SMALL_BYTES      256 /* received payload up to this is copied into the mbuf before it */
#define BW_TCP__BLOCKS_MAX       64  /* separate out-of-order blocks a connection */
#define BW_TCP__SLICES_MAX       17  /* mbufs in one outgoing packet, header included: what NICs take */
#define BW_TCP__VISIT_SEGMENTS   16  /* packets a connection may send before the next has its turn */
#define BW_TCP__ANSWERS_MAX      256 /* stateless answers waiting for bw_tcp_output() */
#define BW_TCP__REPEATS_MAX      32  /* of SYN-ACKs in one call: the rest is as due in the next turn */
#define BW_TCP__LISTENERS_MAX    64
#define BW_TCP__PORT_COUNTERS    256   /* RFC 6056 3.3.4: its `table` */
#define BW_TCP__PORT_TRIES       2048  /* ports looked at in one call */
#define BW_TCP__RECV_BYTES_FIRST 65536 /* receive window until the service has shown how fast it reads */
#define BW_TCP__SEND_BYTES_FIRST                                                                             \
	262144 /* send queue until twice of cwnd is more: what a round trip and its repeats take */
#define BW_TCP__HELD_BYTES_LOW 32768 /* a connection may hold in each direction while buffers are scarce, */
#define BW_TCP__HELD_BYTES_DRY 4096  /* and while there are next to none */
#define BW_TCP__RECLAIM_LOOKS  16    /* connections looked at for the one that holds most */
#define BW_TCP__WAITING_LOOKS  64    /* connections that are told in one call that there may be a buffer */
#define BW_TCP__TIMERS_MAX     256   /* that fire in one call: the rest is as due in the next turn */

/* ---- mbufs --------------------------------------------------------------------------------------------- */

/** Notes on a received mbuf. The first 16 bytes of the private area are the engine's. */
struct bw_tcp__rx_note {
	uint8_t engine[16];
	struct rte_mbuf *next; /* behind it in its queue or block */
	/* out of order only, in the first mbuf of a block: */
	struct rte_mbuf *block_last; /* of the block's mbufs */
	struct rte_mbuf *block_next; /* first mbuf of the next block, NULL for the last */
	bw_seq left, right;          /* the block covers [left, right) */
};
_Static_assert(sizeof(struct bw_tcp__rx_note) <= BW_MBUF_PRIV_BYTES, "fits the private area");

static inline struct bw_tcp__rx_note *bw_tcp__rx_note(struct rte_mbuf *m)
{
	return rte_mbuf_to_priv(m);
}

enum {
	BW_CHUNK_SENT = 0x01,       /* at least once */
	BW_CHUNK_SACKED = 0x02,     /* the peer reported it (RFC 2018) */
	BW_CHUNK_LOST = 0x04,       /* believed lost */
	BW_CHUNK_RESENT = 0x08,     /* sent again since it was believed lost, and in flight */
	BW_CHUNK_RETRANSMIT = 0x10, /* sent more than once: no RTT sample (Karn) */
};

/**
 * Notes on an mbuf of the send queue, called a chunk: a run of payload that is sent, marked and repeated as a
 * whole. They, not the mbuf's own fields, say where the payload is: the driver and the engine move data_off.
 */
struct bw_tcp__tx_note {
	struct rte_mbuf *next; /* the last chunk's is the first chunk */
	uint8_t *data;
	bw_ns sent_at; /* of the latest transmission */
	bw_seq seq;
	uint32_t len;
	uint8_t marks; /* BW_CHUNK_* */
};
_Static_assert(sizeof(struct bw_tcp__tx_note) <= BW_MBUF_PRIV_BYTES, "fits the private area");

static inline struct bw_tcp__tx_note *bw_tcp__tx_note(struct rte_mbuf *m)
{
	return rte_mbuf_to_priv(m);
}

/* ---- a connection -------------------------------------------------------------------------------------- */

/** LISTEN is a listener, SYN_RECEIVED after it a half-open entry, TIME_WAIT an entry of its own. */
enum bw_tcp__state {
	BW_STATE_CLOSED, /* over as far as the protocol goes: not in the table */
	BW_STATE_SYN_SENT,
	BW_STATE_SYN_RECEIVED, /* after SYN_SENT: the SYNs crossed */
	BW_STATE_ESTABLISHED,
	BW_STATE_FIN_WAIT_1,
	BW_STATE_FIN_WAIT_2,
	BW_STATE_CLOSING,
	BW_STATE_CLOSE_WAIT,
	BW_STATE_LAST_ACK,
	BW_STATE_COUNT,
};

enum {
	BW_CONN_READY = 1u << 0,        /* in the ready list */
	BW_CONN_PENDING = 1u << 1,      /* in the pending list */
	BW_CONN_ACK_NOW = 1u << 2,      /* an ACK is due in this turn; while opening, our SYN */
	BW_CONN_PROBE = 1u << 3,        /* a window or keep-alive probe is due */
	BW_CONN_TIMESTAMPS = 1u << 4,   /* RFC 7323, agreed in the handshake */
	BW_CONN_SACK = 1u << 5,         /* RFC 2018, likewise */
	BW_CONN_REASSEMBLY = 1u << 6,   /* out-of-order bytes or FIN are queued, or a D-SACK is due */
	BW_CONN_SCOREBOARD = 1u << 7,   /* sacked, lost or resent bytes are not all 0 */
	BW_CONN_RECOVERY = 1u << 8,     /* fast recovery, until `recover` is acknowledged */
	BW_CONN_RTO_RECOVERY = 1u << 9, /* after a timeout, until `recover` is acknowledged */
	BW_CONN_RECOVER_SET = 1u << 10, /* `recover` means something: RFC 6582 4.1 */
	BW_CONN_FIN_QUEUED = 1u << 11,  /* we send nothing behind snd_end but a FIN */
	BW_CONN_FIN_SENT = 1u << 12,    /* snd_nxt counts it */
	BW_CONN_FIN_LOST = 1u << 13,    /* to be sent again */
	BW_CONN_RECV_MANY = 1u << 14,   /* more than one mbuf in the receive queue */
	BW_CONN_RELEASED = 1u << 15,    /* bw_tcp_close(): the service wants no upcall but closed() */
	BW_CONN_ABORT = 1u << 16,       /* bw_tcp_abort(): closed() is pending */
	BW_CONN_WAKE = 1u << 17,        /* bw_tcp_wake(): data() is pending */
	BW_CONN_CUT_SHORT = 1u << 18,   /* a send was: writable() when there is space */
	BW_CONN_NO_MBUF = 1u << 19, /* a send was, for want of a buffer: no ACK will tell when to try again */
	BW_CONN_OVER = 1u << 20,    /* closed() was or is being called */
	BW_CONN_DETACHED = 1u << 21, /* both FINs are in, closed() waits for the service to read the rest */
	BW_CONN_RACK = 1u << 22,     /* something has arrived: output looks first for what should have, too */
	BW_CONN_LOSS_PROBE = 1u << 23,  /* a tail loss probe is due (RFC 8985 7.3) */
	BW_CONN_LOSS_PROBED = 1u << 24, /* one was sent, and what it did is not known yet (7.4) */
	BW_CONN_ECN = 1u << 25,         /* RFC 3168, agreed in the handshake */
	BW_CONN_ECHO_CE = 1u << 26,     /* what arrived was marked: ECE on all that we send (6.1.3) */
	BW_CONN_CONGESTED = 1u << 27,   /* a reduction is to be told of, or its window under way: ecn.c */
	BW_CONN_MTU_SEARCH = 1u << 28,  /* segments may be shorter than the path allows: plpmtud.c */
};
#define BW_CONN_FLAG_BITS 30

#define BW_CONN_RECOVERING (BW_CONN_RECOVERY | BW_CONN_RTO_RECOVERY)

/** With none of them, what was sent arrives in order, as far as is known. */
#define BW_CONN_TROUBLE                                                                                      \
	(BW_CONN_SCOREBOARD | BW_CONN_RECOVERING | BW_CONN_RECOVER_SET | BW_CONN_LOSS_PROBED |               \
		BW_CONN_MTU_SEARCH)

/** What takes an arriving segment off the fast path. */
#define BW_CONN_SLOW                                                                                         \
	(BW_CONN_REASSEMBLY | BW_CONN_SCOREBOARD | BW_CONN_RECOVERING | BW_CONN_RELEASED | BW_CONN_ABORT |   \
		BW_CONN_OVER | BW_CONN_DETACHED)

/** What `retx_at_ms` is for: exclusive uses of one deadline. */
enum bw_tcp__timer {
	BW_TCP_TIMER_OFF,
	BW_TCP_TIMER_RTO,     /* something is in flight */
	BW_TCP_TIMER_PERSIST, /* nothing is in flight, the peer's window holds back what is queued */
	BW_TCP_TIMER_LINGER,  /* FIN_WAIT_2 after bw_tcp_close() */
	/* In place of the RTO, and earlier; each gives way to it: */
	BW_TCP_TIMER_LOSS_PROBE, /* nothing was heard for two round trips (RFC 8985 7.2) */
	BW_TCP_TIMER_REORDER,    /* what was overtaken has had its time to arrive (6.2 step 5) */
};

/** How much of cwnd was in flight: a window that was not used was not tried, and does not grow (RFC 7661 4.1). */
enum bw_tcp__cwnd_use {
	BW_CWND_IDLE,
	BW_CWND_HALF, /* more than half of it: enough in slow start */
	BW_CWND_FULL,
};

struct bw_tcp_conn {
	/* Cache lines 0 and 1: all that receiving in order, acknowledging and queueing a reply touch. */
	struct bw_flow flow;
	uint32_t index : 28;     /* of this connection: finds the bw_tcp before the array */
	uint32_t rcv_growth : 4; /* how often the receive window has doubled */
	uint32_t flags : BW_CONN_FLAG_BITS;
	uint32_t cwnd_use : 2; /* enum bw_tcp__cwnd_use, when something was last sent */
	/* None of them crosses a byte: a load and a mask is all that one takes. */
	uint32_t state : 4;   /* enum bw_tcp__state */
	uint32_t backoff : 4; /* timeouts or probes in a row without an answer */
	uint32_t listener : 6;
	uint32_t dupacks : 2; /* saturates at BW_TCP__DUP_THRESH */
	uint32_t snd_wscale : 4, rcv_wscale : 4;
	uint32_t quick_acks : 4; /* full segments still to be acknowledged at once */
	uint32_t timer_use : 3;  /* enum bw_tcp__timer */
	bw_seq rcv_nxt;
	bw_seq rcv_adv;     /* right edge of the window that we advertised */
	uint32_t ts_recent; /* RFC 7323 */
	uint32_t unread;    /* bytes in the receive queue */

	bw_seq snd_una, snd_nxt;
	bw_seq snd_end;   /* behind the last queued byte; our FIN's number */
	uint32_t snd_wnd; /* scaled */
	bw_seq snd_wl1;   /* SND.WL2 is not kept: it is never right of snd_una */
	bw_seq ack_sent;  /* Last.ACK.sent of RFC 7323 */
	uint32_t cwnd;
	uint16_t mss;       /* payload bytes of a full segment without SACK blocks */
	uint16_t rcv_mss;   /* the peer's full segment, as seen */
	uint32_t ack_at_ms; /* delayed ACK; 0: none is due */
	uint32_t last_rx_ms;
	struct rte_mbuf *recv_last; /* receive queue: recvq.c */
	struct rte_mbuf *send_last; /* send queue, a ring: sendq.c */
	struct rte_mbuf *unsent;    /* first chunk that was never sent */

	/* Cache line 2: output and timers. */
	struct bw_timer timer; /* for the earliest deadline or before: timers.c; note: next pending */
	uint32_t ready_next;
	uint32_t path;                 /* the engine's; zeroed at open, BW_TCP_PATH_SUSPECT at R1 */
	uint32_t ts_offset;            /* RFC 7323 5.4 */
	uint32_t retx_at_ms;           /* 0: off. timer_use says what for */
	uint32_t srtt_us8, rttvar_us4; /* RFC 6298, scaled by 8 and by 4; srtt 0: no sample yet */
	uint32_t progress_ms; /* when the peer last took something, or we first had something for it */
	uint16_t send_mbufs;
	uint16_t snd_wnd_max; /* the largest window field seen, unscaled */
};
_Static_assert(offsetof(struct bw_tcp_conn, snd_una) == BW_CACHE_LINE, "line 1");
_Static_assert(offsetof(struct bw_tcp_conn, timer) == 2 * BW_CACHE_LINE, "line 2");
_Static_assert(sizeof(struct bw_tcp_conn) == 3 * BW_CACHE_LINE, "three lines");

/** What every connection has, and few packets touch. An array beside the connections. */
struct bw_tcp__cold {
	uint32_t generation;          /* odd while the connection is live */
	uint32_t user_timeout_s : 17; /* bw_tcp_set_user_timeout(); 0: the listener's */
	uint32_t has_hystart : 1;     /* its element of bw_tcp.hystarts is in use */
	uint32_t has_rare : 1;        /* its element of bw_tcp.rares is in use */
	uint32_t user_count : 13;     /* bw_tcp_user_count() */
	bw_ns service_at;             /* bw_tcp_set_timer() */
};
#define BW_TCP__USER_COUNT_MAX ((1u << 13) - 1)

/**
 * What only trouble and growth touch. Another array, so that connections that have known neither have no memory
 * there: whoever is idle and was never busy. See bw_tcp__rare().
 */
struct bw_tcp__rare {
	uint32_t ssthresh;
	uint32_t recovery;       /* index, BW_TCP__NONE while everything arrives in order */
	uint32_t reassembly;     /* index, BW_TCP__NONE when nothing is out of order */
	uint32_t challenge_ms;   /* of the last rate-limited answer */
	uint32_t unreachable_ms; /* of the last ICMP error about what was in flight */
	bw_seq rcv_round_seq; /* what the service had taken when the current round trip began: recvq.c; pressure.c */
	uint32_t rcv_round_ms; /* and when that was */
};

/** A full bucket is 10 entries; the table has a bucket for every BW_TCP__BUCKET_LOAD objects. */
#define BW_TCP__BUCKET_ENTRIES   10
#define BW_TCP__BUCKET_LOAD      5
/** What a service may keep of an idle connection: docs/architecture.md, "Memory a connection". */
#define BW_TCP__IDLE_STATE_BYTES 32
_Static_assert(sizeof(struct bw_tcp_conn) + sizeof(struct bw_tcp__cold) + BW_TCP__IDLE_STATE_BYTES +
			       64 / BW_TCP__BUCKET_LOAD + 1 <=
		       256,
	"an idle connection, its service's state and its share of the table included");

/** 64 bytes. */
struct bw_tcp__half_open {
	struct bw_flow flow;
	bw_seq irs, iss;
	uint32_t ts_recent;
	uint32_t retry_at_ms;
	uint32_t next,
		prev; /* of those that wait for the same retry, oldest first; next is also the free list */
	uint16_t peer_mss;
	uint16_t wscale : 4; /* BW_TCP__NO_WSCALE: the peer has none */
	uint16_t tries : 3;  /* SYN-ACKs repeated by the timer */
	uint16_t has_timestamps : 1, has_sack : 1, has_ecn : 1;
	uint16_t listener : 6;
};
#define BW_TCP__NO_WSCALE 15 /* RFC 7323 2.3: the largest shift is 14 */
_Static_assert(BW_TCP__LISTENERS_MAX <= 1 << 6, "half_open.listener, conn.listener");
_Static_assert(BW_TCP__SYN_ACK_RETRIES < 1 << 3, "half_open.tries");
_Static_assert(sizeof(struct bw_tcp__half_open) <= 64, "the budget");

/** 64 bytes. */
struct bw_tcp__time_wait {
	struct bw_flow flow;
	uint32_t hash;
	bw_seq snd_nxt, rcv_nxt;
	uint32_t ts_recent;
	uint32_t expires_ms : 31;
	uint32_t has_timestamps : 1;
	uint32_t next, prev; /* oldest first; next is also the free list */
};
_Static_assert(sizeof(struct bw_tcp__time_wait) <= 64, "the budget");

/** Out-of-order state of one connection. */
struct bw_tcp__reassembly {
	struct rte_mbuf *first, *last; /* blocks, by sequence number: first mbuf of each */
	uint32_t bytes;
	uint16_t mbufs, blocks;
	bw_seq recent[BW_SACK_BLOCKS_MAX]; /* a number in each of the blocks that grew last, latest first */
	uint32_t recent_count;
	struct bw_sack_block dsack; /* what came twice, until it is reported: RFC 2883 */
	bw_seq fin_seq;
	bool has_fin, has_dsack;
	uint8_t owed_acks; /* to a peer without SACK: one for each segment (RFC 5681 4.2), up to DUP_THRESH */
	uint32_t free_next;
};
_Static_assert(sizeof(struct bw_tcp__reassembly) <= 64, "one line");

/** The first slow start: hystart.c. */
struct bw_tcp__hystart {
	bw_seq round_end; /* SND.NXT when the round began: RFC 9406's windowEnd */
	uint32_t last_min_rtt_us, min_rtt_us,
		css_rtt_us; /* of the last round, of this one, and when CSS began */
	uint8_t samples;    /* of this round, as far as they matter */
	uint8_t css_round;  /* of conservative slow start; 0: it is slow start */
};
_Static_assert(sizeof(struct bw_tcp__hystart) <= 20, "what one of so many takes");

/** Congestion avoidance since the last congestion event: cubic.c. */
struct bw_tcp__cubic {
	uint32_t w_max;      /* cwnd at the last event, less what others are left */
	uint32_t cwnd_prior; /* cwnd at the last event */
	uint32_t w_est;      /* what Reno would have */
	uint32_t epoch_ms;   /* the beginning of congestion avoidance */
	uint32_t k_ms;       /* from there until w_max is reached again */
	uint32_t last_ms;    /* when an ACK last counted */
	bool has_epoch;
};

/** Congestion avoidance as RFC 5681 has it: reno.c. */
struct bw_tcp__reno {
	uint32_t acked_bytes; /* since cwnd last grew */
};

/** How much of what is sent gets marked: dctcp.c. */
struct bw_tcp__dctcp {
	struct bw_tcp__reno reno;
	uint32_t alpha; /* DCTCP.Alpha in units of 2^-BW_TCP__ALPHA_BITS */
	uint32_t acked_bytes, marked_bytes;
	bw_seq window_end;
	bool has_alpha;
};
#define BW_TCP__ALPHA_BITS 20

/** All zero before the first event. */
union bw_tcp__cc {
	struct bw_tcp__cubic cubic;
	struct bw_tcp__reno reno;
	struct bw_tcp__dctcp dctcp;
};

/** A congestion control, beyond what all have in common (cc.c). */
struct bw_tcp__cc_ops {
	/** A loss. Returns what ssthresh becomes, before its floor. */
	uint32_t (*on_loss)(union bw_tcp__cc *cc, uint32_t cwnd, uint32_t flight);
	/** After on_loss(), if it was a time-out. NULL: no difference. */
	void (*on_timeout)(union bw_tcp__cc *cc);
	/** The same for marks of routers: the peer sent ECE. */
	uint32_t (*on_ece)(union bw_tcp__cc *cc, uint32_t cwnd, uint32_t flight);
	/** Bytes were acknowledged in congestion avoidance. Returns the new cwnd. */
	uint32_t (*on_ack)(
		union bw_tcp__cc *cc, const struct bw_tcp_conn *conn, uint32_t now_ms, uint32_t acked_bytes);
	/**
	 * SND.UNA has moved by `acked_bytes`, while BW_CONN_CONGESTED is set. Returns whether more of this is of
	 * interest. Not NULL: ECE says which segments were marked, not that some were (RFC 8257). Then every packet
	 * is ECN-capable, and a loss is an event of its own.
	 */
	bool (*on_marks)(
		union bw_tcp__cc *cc, const struct bw_tcp_conn *conn, uint32_t acked_bytes, bool is_ece);
};

/** What is known of losses, of one connection: recovery.c and rack.c. */
struct bw_tcp__recovery {
	/* the scoreboard's sums */
	uint32_t sacked_bytes, lost_bytes, resent_bytes, sacked_chunks;
	bw_seq recover;     /* RFC 6582: where recovery ends */
	bw_seq highest;     /* right edge of all that has arrived */
	bw_ns rack_sent_at; /* RACK.xmit_ts: when what has arrived was sent, latest first */
	bw_seq rack_end;    /* RACK.end_seq: and its right edge */
	uint32_t
		rack_rtt_us; /* RACK.rtt: SRTT when this state was taken, until something has arrived since */
	uint32_t min_rtt_us; /* RACK.min_RTT: SRTT when this state was taken, or what was smaller since */
	bw_seq dsack_round;  /* SND.NXT when the reordering window last grew */
	bw_seq probe_end;    /* TLP.end_seq */
	uint32_t delivered;  /* bytes that have arrived since output last looked */
	uint32_t prr_delivered, prr_out, prr_flight; /* RFC 9937; prr_flight is its RecoverFS */
	union bw_tcp__cc cc, undo_cc;
	uint32_t undo_cwnd, undo_ssthresh; /* from before, should it all have been an error */
	uint32_t undo_bytes;               /* sent again and not reported as twice received */
	uint32_t undo_ts;                  /* timestamp of the first that was sent again */
	uint8_t reorder_mult;              /* the reordering window, in quarters of min_rtt_us */
	uint8_t reorder_keep;              /* recoveries until it shrinks again */
	bool has_reordering, has_dsack_round, can_undo, has_resent, una_moved, probe_is_repeat;
	bool cwr_due;   /* on the next segment of new data */
	bw_seq cwr_end; /* SND.NXT at the last reduction */
	/* BW_CONN_MTU_SEARCH: plpmtud.c. Payload bytes of a segment: */
	uint16_t mtu_top;    /* before they were cut */
	uint16_t mtu_high;   /* at most, of what may pass */
	uint16_t mtu_probe;  /* of the probe in flight; 0: none */
	uint16_t mtu_failed; /* of one that was lost, until it has arrived in pieces */
	bw_seq mtu_probe_seq;
	uint32_t mtu_raise_ms; /* when the search begins anew */
	uint32_t free_next;
};
_Static_assert(sizeof(struct bw_tcp__recovery) <= 3 * BW_CACHE_LINE, "three lines");

/* ---- the table: table.c -------------------------------------------------------------------------------- */

enum bw_tcp__kind {
	BW_TCP_KIND_NONE,
	BW_TCP_KIND_CONN,
	BW_TCP_KIND_HALF_OPEN,
	BW_TCP_KIND_TIME_WAIT,
};

/** Kind in the top two bits, index below; 0 is none. */
typedef uint32_t bw_tcp_handle;

#define BW_TCP__INDEX_MAX ((1u << 30) - 1)
#define BW_TCP__CONNS_MAX ((1u << 28) - 1) /* conn.index */

static inline bw_tcp_handle bw_tcp__handle(enum bw_tcp__kind kind, uint32_t index)
{
	return (uint32_t)kind << 30 | index;
}

static inline enum bw_tcp__kind bw_tcp__handle_kind(bw_tcp_handle handle)
{
	return (enum bw_tcp__kind)(handle >> 30);
}

static inline uint32_t bw_tcp__handle_index(bw_tcp_handle handle)
{
	return handle & BW_TCP__INDEX_MAX;
}

struct bw_tcp__bucket {
	uint16_t tag[BW_TCP__BUCKET_ENTRIES];
	bw_tcp_handle handle[BW_TCP__BUCKET_ENTRIES];
	uint32_t overflow; /* index + 1 of the next bucket of the chain in the overflow array */
} __attribute__((aligned(BW_CACHE_LINE)));
_Static_assert(sizeof(struct bw_tcp__bucket) == BW_CACHE_LINE, "one line");

struct bw_tcp__table {
	struct bw_tcp__bucket *buckets, *overflow;
	uint32_t bucket_count, overflow_count;
	uint32_t overflow_used; /* never touched beyond */
	uint32_t overflow_free; /* index + 1, chained through `overflow` */
	uint64_t version;       /* changes with every change of the table */
	size_t map_bytes;
};

/* ---- one core's TCP ------------------------------------------------------------------------------------ */

/**
 * An array of objects named by index: a free list and a high-water mark, so that memory is touched as used.
 */
struct bw_tcp__slab {
	uint32_t capacity, touched, count, free_head;
};

struct bw_tcp__fifo {
	uint32_t head, tail;
};

/** Of SYN cookies: cookie.c. */
struct bw_tcp__cookie_keys {
	struct bw_siphash_key key[2]; /* of the latest even and the latest odd period */
	bw_ns renew_at;               /* the end of this period */
	bool is_odd;                  /* this period is */
};

struct bw_tcp__answer {
	struct rte_mbuf *m;
	struct bw_flow flow;
	uint8_t tos;
};

/** What connections may take in this turn. */
struct bw_tcp__buffers {
	enum bw_tcp_pressure pressure;
	uint32_t left;
};

struct bw_tcp {
	bw_ns now, epoch;
	enum bw_tcp_pressure pressure;           /* where they are scarcer */
	struct bw_tcp__buffers to_send, others;  /* of our pool; of another that is received into */
	struct bw_tcp__buffers *to_receive;      /* either: pressure.c */
	bool is_link_down;                       /* of all: see bw_tcp__is_cut_off() */
	bool is_hopeless;                        /* who holds buffers goes, whatever it does */
	uint32_t reclaim_next;                   /* connection to be looked at */
	uint32_t reclaim_useful;                 /* looked at since one that holds buffers to no use */
	uint64_t reclaim_worth, reclaim_most;    /* of a reset: most, the last time round and this time */
	bw_ns refused_at;                        /* when the pressure last had something refused */
	bw_ns asked_at;                          /* since when it has, again and again */
	bw_ns pressed_at[BW_TCP_PRESSURE_COUNT]; /* since when the pressure is this or more */
	uint32_t hearing_ms;                     /* since when what peers send would have been heard */
	uint32_t now_ms;                         /* since epoch, rounded down */
	uint32_t now_ms_up;                      /* and up: deadlines count from it, so that none is early */
	uint32_t ready_head, ready_tail;
	uint32_t pending_head, pending_tail;
	uint32_t waiting_head, waiting_tail; /* of the pending: whose service waits for a buffer */
	struct bw_counters *counters;
	struct bw_tcp__cold *colds;
	struct bw_tcp__rare *rares; /* of each connection */
	uint8_t *states;
	uint32_t state_stride;
	uint32_t payload_room; /* payload bytes that fit an mbuf of conf.pool behind the headroom */
	uint32_t listener_count;
	struct bw_tcp__table table;
	struct bw_tcp_conf conf;
	struct bw_tcp__slab conn_slab, half_open_slab, time_wait_slab, reassembly_slab, recovery_slab;
	struct bw_tcp__half_open *half_opens;
	struct bw_tcp__time_wait *time_waits;
	struct bw_tcp__reassembly *reassemblies;
	struct bw_tcp__recovery *recoveries;
	struct bw_tcp__fifo half_open_fifo[BW_TCP__SYN_ACK_RETRIES + 1];
	struct bw_tcp__fifo time_wait_fifo;
	struct bw_timer half_open_timer, time_wait_timer;
	bw_ns stateless_window_at; /* rate limit of answers without a connection's own */
	uint32_t stateless_count;
	bw_ns cookies_until; /* an ACK may bring a cookie back */
	struct bw_tcp__cookie_keys cookie_keys;
	uint32_t answer_head, answer_count;
	size_t map_bytes;
	struct bw_tcp__hystart
		*hystarts; /* of each connection. Touched by who has used half of cwnd in slow start */
	uint32_t *
		pace_at; /* of each connection, when the next new byte is due: output.c. Touched where pacing is on */
	uint32_t port_next[BW_TCP__PORT_COUNTERS];     /* connect.c */
	uint16_t listener_port[BW_TCP__LISTENERS_MAX]; /* dense, for the search */
	bool listener_is_open[BW_TCP__LISTENERS_MAX];
	bool announces; /* one of them has a prefetch() */
	struct bw_tcp_listener listeners[BW_TCP__LISTENERS_MAX];
	struct bw_tcp__answer answers[BW_TCP__ANSWERS_MAX];
	struct bw_wheel wheel;
	struct bw_tcp_conn conns[] __attribute__((aligned(BW_CACHE_LINE)));
};

enum bw_tcp__timer_kind {
	BW_TCP_WHEEL_CONN,
	BW_TCP_WHEEL_HALF_OPEN,
	BW_TCP_WHEEL_TIME_WAIT,
};

static inline struct bw_tcp *bw_tcp__of(const struct bw_tcp_conn *conn)
{
	return (struct bw_tcp *)((uintptr_t)(conn - conn->index) - offsetof(struct bw_tcp, conns));
}

static inline struct bw_tcp__cold *bw_tcp__cold(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn)
{
	return &tcp->colds[conn->index];
}

/** NULL while the connection has known neither trouble nor growth. */
static inline struct bw_tcp__rare *bw_tcp__rare_or_null(
	const struct bw_tcp *tcp, const struct bw_tcp_conn *conn)
{
	return bw_tcp__cold(tcp, conn)->has_rare ? &tcp->rares[conn->index] : NULL;
}

/** In conn.c: makes it ready for use, the first time. */
struct bw_tcp__rare *bw_tcp__rare_begin(struct bw_tcp *tcp, struct bw_tcp_conn *conn);

static inline struct bw_tcp__rare *bw_tcp__rare(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct bw_tcp__rare *rare = bw_tcp__rare_or_null(tcp, conn);

	return bw_likely(rare != NULL) ? rare : bw_tcp__rare_begin(tcp, conn);
}

/** "Arbitrarily high" until there is a reason to know better: RFC 5681 3.1. */
static inline uint32_t bw_tcp__ssthresh(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn)
{
	const struct bw_tcp__rare *rare = bw_tcp__rare_or_null(tcp, conn);

	return rare != NULL ? rare->ssthresh : UINT32_MAX;
}

static inline bool bw_tcp__has_recovery(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn)
{
	const struct bw_tcp__rare *rare = bw_tcp__rare_or_null(tcp, conn);

	return rare != NULL && rare->recovery != BW_TCP__NONE;
}

static inline const struct bw_tcp_listener *bw_tcp__listener(
	const struct bw_tcp *tcp, const struct bw_tcp_conn *conn)
{
	return &tcp->listeners[conn->listener];
}

/** Of the link that has a local address. */
static inline uint16_t bw_tcp__mtu(const struct bw_tcp *tcp, const struct bw_ip *local)
{
	return bw_likely(tcp->conf.link_of == NULL) ? tcp->conf.mtu
						    : tcp->conf.link_of(tcp->conf.link_of_arg, local)->mtu;
}

static inline bool bw_tcp__is_shared(const struct bw_tcp *tcp, const struct bw_ip *local)
{
	return bw_likely(tcp->conf.link_of == NULL)
		       ? tcp->conf.shares_addresses
		       : tcp->conf.link_of(tcp->conf.link_of_arg, local)->shares_addresses;
}

/** Where there are several. */
static inline const struct bw_tcp_link *bw_tcp__link(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn)
{
	return tcp->conf.link_of(tcp->conf.link_of_arg, &conn->flow.local);
}

/** Is nothing that the connection sends brought out? */
static inline bool bw_tcp__is_cut_off(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn)
{
	return bw_likely(tcp->conf.link_of == NULL) ? tcp->is_link_down : bw_tcp__link(tcp, conn)->is_down;
}

static inline void bw_tcp__count(struct bw_tcp *tcp, enum bw_counter which)
{
	bw_count(tcp->counters, which);
}

/** Is `ms` at or before now? */
static inline bool bw_tcp__is_due(const struct bw_tcp *tcp, uint32_t ms)
{
	return (int32_t)(tcp->now_ms - ms) >= 0;
}

static inline uint32_t bw_tcp__ms_since(const struct bw_tcp *tcp, uint32_t ms)
{
	return tcp->now_ms - ms;
}

/** A deadline `delay_ms` from now. Never 0, which means none. */
static inline uint32_t bw_tcp__deadline(const struct bw_tcp *tcp, uint32_t delay_ms)
{
	uint32_t at = tcp->now_ms_up + delay_ms;

	return at != 0 ? at : 1;
}

static inline bw_ns bw_tcp__ms_to_ns(const struct bw_tcp *tcp, uint32_t ms)
{
	int64_t from_now_ms = (int32_t)(ms - tcp->now_ms);
	uint64_t now_ms = (tcp->now - tcp->epoch) / BW_NS_PER_MS;

	return tcp->epoch + (now_ms + from_now_ms) * BW_NS_PER_MS;
}

/**
 * May a connection that holds `bytes` of received or of sent data take more buffers? When they are scarce, those
 * that hold little go first: most services and their peers never hold more, and are not to notice the others.
 * Nobody takes what receiving needs.
 */
static inline bool bw_tcp__may_hold_more(const struct bw_tcp__buffers *buffers, uint32_t bytes)
{
	static const uint32_t less_than[BW_TCP_PRESSURE_COUNT] = {
		[BW_TCP_PRESSURE_LOW] = BW_TCP__HELD_BYTES_LOW,
		[BW_TCP_PRESSURE_DRY] = BW_TCP__HELD_BYTES_DRY,
		[BW_TCP_PRESSURE_EMPTY] = 1,
	};

	return bw_likely(buffers->pressure == BW_TCP_PRESSURE_NONE) ||
	       (buffers->left != 0 && bytes < less_than[buffers->pressure]);
}

/** What peers did not send until now is not held against them. */
static inline void bw_tcp__hear_anew(struct bw_tcp *tcp)
{
	tcp->hearing_ms = tcp->now_ms;
	tcp->is_hopeless = false;
}

/** Every public entry that is given the time. */
void bw_tcp__set_now(struct bw_tcp *tcp, bw_ns now);

/* table.c */
int bw_tcp__table_init(struct bw_tcp__table *table, uint64_t objects_max);
void bw_tcp__table_fini(struct bw_tcp__table *table);
/** The object of the flow, or 0. */
bw_tcp_handle bw_tcp__table_find(const struct bw_tcp *tcp, uint32_t hash, const struct bw_flow *flow);
void bw_tcp__table_prefetch(const struct bw_tcp__table *table, uint32_t hash);
/** The first entry whose tag fits, or 0, with its object on the way to the cache. */
bw_tcp_handle bw_tcp__table_guess(const struct bw_tcp *tcp, uint32_t hash);
/** Cannot fail below objects_max. The flow must not be there. */
void bw_tcp__table_insert(struct bw_tcp__table *table, uint32_t hash, bw_tcp_handle handle);
/** The entry must be there. */
void bw_tcp__table_replace(struct bw_tcp__table *table, uint32_t hash, bw_tcp_handle old, bw_tcp_handle new);
void bw_tcp__table_remove(struct bw_tcp__table *table, uint32_t hash, bw_tcp_handle handle);
const struct bw_flow *bw_tcp__handle_flow(const struct bw_tcp *tcp, bw_tcp_handle handle);

/* conn.c */
struct bw_tcp_conn *bw_tcp__conn_open(struct bw_tcp *tcp, const struct bw_flow *flow, unsigned listener);
/** The end: everything but the memory is released, closed() is called. Never from inside a downcall. */
void bw_tcp__conn_end(struct bw_tcp *tcp, struct bw_tcp_conn *conn, enum bw_tcp_end end);
/** Both FINs are out of the way: closed(), at once or when the service has read what is left. */
void bw_tcp__conn_finish(struct bw_tcp *tcp, struct bw_tcp_conn *conn);
void bw_tcp__set_state(struct bw_tcp_conn *conn, enum bw_tcp__state state);
void bw_tcp__mark_ready(struct bw_tcp *tcp, struct bw_tcp_conn *conn);
/** The next of the ready list, out of it; NULL at the end. Frees those that are over. */
struct bw_tcp_conn *bw_tcp__pop_ready(struct bw_tcp *tcp);
void bw_tcp__push_ready_front(struct bw_tcp *tcp, struct bw_tcp_conn *conn);
/** bw_tcp_abort() outside an upcall. False: there is no room for its RST now. */
bool bw_tcp__abort_now(struct bw_tcp *tcp, struct bw_tcp_conn *conn);
void bw_tcp__mark_pending(struct bw_tcp *tcp, struct bw_tcp_conn *conn);
/**
 * Make the upcalls that downcalls asked for; those they ask for in turn wait for the next call. Of the connections that
 * wait for a buffer the next few have their turn.
 */
void bw_tcp__run_pending(struct bw_tcp *tcp);
/** The latter alone; not while nobody waits. */
void bw_tcp__run_waiting(struct bw_tcp *tcp);
/** Upcalls that skip what has become void: a released or aborted connection gets none. */
void bw_tcp__upcall_data(struct bw_tcp *tcp, struct bw_tcp_conn *conn);
void bw_tcp__upcall_writable(struct bw_tcp *tcp, struct bw_tcp_conn *conn);
/** Ask for an RST that tells the peer that the connection is no more. */
void bw_tcp__send_reset(struct bw_tcp *tcp, struct bw_tcp_conn *conn);

/** Is the retransmission timer running, or what comes before it? */
static inline bool bw_tcp__awaits_ack(const struct bw_tcp_conn *conn)
{
	return conn->timer_use == BW_TCP_TIMER_RTO || conn->timer_use == BW_TCP_TIMER_LOSS_PROBE ||
	       conn->timer_use == BW_TCP_TIMER_REORDER;
}

/** Not synchronized yet (RFC 9293 3.4). */
static inline bool bw_tcp__peer_may_send(const struct bw_tcp_conn *conn)
{
	return conn->state == BW_STATE_ESTABLISHED || conn->state == BW_STATE_FIN_WAIT_1 ||
	       conn->state == BW_STATE_FIN_WAIT_2;
}

static inline bool bw_tcp__is_opening(const struct bw_tcp_conn *conn)
{
	return conn->state == BW_STATE_SYN_SENT || conn->state == BW_STATE_SYN_RECEIVED;
}

static inline bool bw_tcp__is_over(const struct bw_tcp_conn *conn)
{
	return conn->flags & (BW_CONN_OVER | BW_CONN_ABORT);
}

/** Of any element of the array: is it a connection that is not over? Odd generations are: see conn_open. */
static inline bool bw_tcp__is_live(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn)
{
	return (bw_tcp__cold(tcp, conn)->generation & 1) && !bw_tcp__is_over(conn);
}

/** Service upcalls but closed() are still wanted. */
static inline bool bw_tcp__wants_upcalls(const struct bw_tcp_conn *conn)
{
	return !(conn->flags & (BW_CONN_OVER | BW_CONN_ABORT | BW_CONN_RELEASED));
}

/**
 * Is it cwnd that bounds what is in flight? Then cwnd is what was in flight before the burst of ACKs that is being
 * taken in: SND.UNA has moved with the first of them, and output has not yet filled the room that they made.
 */
static inline bool bw_tcp__fills_cwnd(const struct bw_tcp_conn *conn)
{
	return conn->cwnd_use == BW_CWND_FULL && bw_seq_lt(conn->snd_nxt, conn->snd_end);
}

static inline uint32_t bw_tcp__send_bytes_max(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn)
{
	return bw_tcp__listener(tcp, conn)->send_bytes_max;
}

static inline uint32_t bw_tcp__recv_bytes_max(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn)
{
	return bw_tcp__listener(tcp, conn)->recv_bytes_max;
}

/** The send queue's bound for now: a service is let ahead of its peer by what the peer is known to take. */
static inline uint32_t bw_tcp__send_bytes_now(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn)
{
	return BW_MIN(BW_MAX((uint32_t)BW_TCP__SEND_BYTES_FIRST, 2 * conn->cwnd),
		bw_tcp__send_bytes_max(tcp, conn));
}

/** The receive window's bound for now. */
static inline uint32_t bw_tcp__recv_bytes_now(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn)
{
	return (uint32_t)BW_MIN((uint64_t)BW_TCP__RECV_BYTES_FIRST << conn->rcv_growth,
		(uint64_t)bw_tcp__recv_bytes_max(tcp, conn));
}

/* listen.c */
/** That of the flow's local end, or -1; also one that was closed, unless it `is_open` that is asked for. */
int bw_tcp__listener_find(const struct bw_tcp *tcp, const struct bw_flow *flow, bool is_open);
/** Would this SYN, which follows a TIME_WAIT, be answered now? */
bool bw_tcp__may_accept(const struct bw_tcp *tcp, const struct bw_pkt *pkt);
/**
 * A segment for which there is no object: LISTEN or CLOSED (RFC 9293 3.10.7.1, 3.10.7.2). Consumes the mbuf.
 * @beyond  the last number of an earlier incarnation, which the new one has to leave behind; NULL for none
 */
void bw_tcp__listen_input(struct bw_tcp *tcp, struct bw_pkt *pkt, const bw_seq *beyond);
void bw_tcp__half_open_input(struct bw_tcp *tcp, uint32_t index, struct bw_pkt *pkt);
void bw_tcp__half_open_timer(struct bw_tcp *tcp);
/** What a SYN says of its sender. */
struct bw_tcp__half_open bw_tcp__half_open_of(
	const struct bw_flow *flow, const struct bw_tcp_fields *syn, unsigned listener, bw_seq iss);
/** The window that a SYN or SYN-ACK of that listener offers: not scaled (RFC 7323 2.2). */
uint16_t bw_tcp__syn_window(const struct bw_tcp *tcp, unsigned listener);
/** Both SYNs are known: numbers, MSS and options of the connection. */
void bw_tcp__handshake_agree(
	struct bw_tcp *tcp, struct bw_tcp_conn *conn, const struct bw_tcp__half_open *half);
/**
 * Both are acknowledged, `rtt_ms` after ours was sent (BW_TCP__RTT_UNKNOWN: nobody has noted it, or ours was repeated and
 * no timestamp tells which). `window` is the peer's, scaled. Makes the opened() upcall.
 */
#define BW_TCP__RTT_UNKNOWN UINT32_MAX
void bw_tcp__handshake_done(struct bw_tcp *tcp, struct bw_tcp_conn *conn, const struct bw_tcp_fields *seg,
	uint32_t window, bool was_repeated, uint32_t rtt_ms);

/* connect.c */
/** A segment for a connection that is opening. Consumes the mbuf. */
void bw_tcp__opening_input(struct bw_tcp *tcp, struct bw_tcp_conn *conn, struct bw_pkt *pkt);
/** The SYN of such a connection, or its SYN-ACK. */
struct bw_tcp_fields bw_tcp__syn_fields(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn);

/* cookie.c: SYN cookies. Pure: all that they know is in their arguments. */
/** Before any of the others. A new key every 64 s, derived from the secret. */
void bw_tcp__cookie_keys_renew(
	struct bw_tcp__cookie_keys *keys, const struct bw_siphash_key *secret, bw_ns now);
/** When the cookies that are made now will no longer be taken. */
bw_ns bw_tcp__cookie_expires_at(const struct bw_tcp__cookie_keys *keys);
/** Choose the iss of an entry that will not be kept, and take from it what a cookie cannot carry. */
void bw_tcp__cookie_make(const struct bw_tcp__cookie_keys *keys, struct bw_tcp__half_open *half);
/** The timestamp that goes with it: up to 63 ms behind `clock`. */
uint32_t bw_tcp__cookie_timestamp(const struct bw_tcp__half_open *half, uint32_t clock);
/** Does the packet acknowledge a cookie? Fills the entry that was not kept, but for its listener. */
bool bw_tcp__cookie_check(
	const struct bw_tcp__cookie_keys *keys, const struct bw_pkt *pkt, struct bw_tcp__half_open *half);

/* time_wait.c */
/**
 * Make way for an active open, if the peer will take its SYN for what it is: both have timestamps, and ours has moved
 * on. `beyond` is the last number of ours.
 */
bool bw_tcp__time_wait_take_over(struct bw_tcp *tcp, uint32_t index, bw_seq *beyond);
void bw_tcp__time_wait_enter(struct bw_tcp *tcp, struct bw_tcp_conn *conn);
void bw_tcp__time_wait_input(struct bw_tcp *tcp, uint32_t index, struct bw_pkt *pkt);
void bw_tcp__time_wait_timer(struct bw_tcp *tcp);

/* input.c */
/**
 * May an answer go out to what brought no payload? Limited, so that two confused hosts do not answer each other for
 * ever.
 */
bool bw_tcp__may_challenge(struct bw_tcp *tcp, struct bw_tcp_conn *conn);
/** A segment for a connection. Consumes the mbuf. */
void bw_tcp__conn_input(struct bw_tcp *tcp, struct bw_tcp_conn *conn, struct bw_pkt *pkt);

/* recvq.c */
/*
 * A run is received payload in mbufs of one segment each, linked by their notes from first to last; the note
 * of the last is not valid. None of them is empty.
 */
/** Trim an arrived packet to `len` > 0 bytes of payload from `off` and make it a run. Returns the first. */
struct rte_mbuf *bw_tcp__payload_take(struct rte_mbuf *m, uint32_t off, uint32_t len, struct rte_mbuf **last);
/** Free a run; returns how many mbufs it had. */
unsigned bw_tcp__run_free(struct rte_mbuf *first, struct rte_mbuf *last);
/** Drop `bytes`, fewer than there are, from the front of a run; returns the new first. Adds to `freed`. */
struct rte_mbuf *bw_tcp__run_trim(struct rte_mbuf *first, uint32_t bytes, unsigned *freed);
/**
 * Copy `from`, if it is no longer than that, behind the data of `to` if that saves a buffer and nobody else
 * sees it. `from` is freed then.
 */
bool bw_tcp__coalesce(struct bw_tcp *tcp, struct rte_mbuf *to, struct rte_mbuf *from, uint32_t bytes_max);
/** Append a run of `bytes` to the receive queue. Does not touch rcv_nxt. */
void bw_tcp__recvq_append(struct bw_tcp *tcp, struct bw_tcp_conn *conn, struct rte_mbuf *first,
	struct rte_mbuf *last, uint32_t bytes);
void bw_tcp__recvq_free(struct bw_tcp_conn *conn);
/** Once for every full segment: does the window hold the peer back? Then it doubles. */
void bw_tcp__window_grow(struct bw_tcp *tcp, struct bw_tcp_conn *conn);
/** The window to advertise now, as the field says it; moves rcv_adv. */
uint16_t bw_tcp__window_advertise(struct bw_tcp *tcp, struct bw_tcp_conn *conn);

/* reassembly.c */
/** Queue a run that starts right of rcv_nxt, within the window. Consumes it. */
void bw_tcp__reassembly_insert(struct bw_tcp *tcp, struct bw_tcp_conn *conn, bw_seq seq, uint32_t len,
	struct rte_mbuf *first, struct rte_mbuf *last);
/** Another segment came out of order: a peer without SACK counts our ACKs. */
void bw_tcp__reassembly_owe_ack(struct bw_tcp *tcp, struct bw_tcp_conn *conn);
/** How many ACKs are due now, one at least; they count as sent. */
unsigned bw_tcp__reassembly_owed_acks(struct bw_tcp *tcp, struct bw_tcp_conn *conn);
/** [left, right) has come twice. The next ACK says so, once; the caller sees to it that there is one. */
void bw_tcp__reassembly_duplicate(struct bw_tcp *tcp, struct bw_tcp_conn *conn, bw_seq left, bw_seq right);
/** A FIN behind a hole. */
void bw_tcp__reassembly_fin(struct bw_tcp *tcp, struct bw_tcp_conn *conn, bw_seq fin_seq);
/** Move what has become in-order to the receive queue. True: the FIN has become in-order, too. */
bool bw_tcp__reassembly_drain(struct bw_tcp *tcp, struct bw_tcp_conn *conn);
void bw_tcp__reassembly_free(struct bw_tcp *tcp, struct bw_tcp_conn *conn);
/**
 * SACK blocks to send, a D-SACK before all, then the latest first; returns how many (at most max, which is not 0). The
 * D-SACK counts as reported, and the connection's state may be gone with it.
 */
unsigned bw_tcp__reassembly_sack(
	struct bw_tcp *tcp, struct bw_tcp_conn *conn, struct bw_sack_block *blocks, unsigned max);

/* sendq.c */
static inline struct rte_mbuf *bw_tcp__sendq_first(const struct bw_tcp_conn *conn)
{
	return conn->send_last != NULL ? bw_tcp__tx_note(conn->send_last)->next : NULL;
}

/** The chunk behind m, NULL behind the last. */
static inline struct rte_mbuf *bw_tcp__sendq_next(const struct bw_tcp_conn *conn, struct rte_mbuf *m)
{
	return m != conn->send_last ? bw_tcp__tx_note(m)->next : NULL;
}

/**
 * Cut the chunk so that its first part has `len` bytes. 0, -ENOMEM: no mbuf, -ENOSPC: there are too many chunks
 * already, unless the cut `is_needed` to make what is lost fit.
 */
int bw_tcp__sendq_split(
	struct bw_tcp *tcp, struct bw_tcp_conn *conn, struct rte_mbuf *m, uint32_t len, bool is_needed);
/** bw_tcp_send_space() without its bound on one call. */
uint32_t bw_tcp__send_room(const struct bw_tcp_conn *conn);
/** What acknowledging left of `ack` released. */
struct bw_tcp__acked {
	const struct bw_tcp_fields *seg; /* in: the ACK */
	uint32_t delivered;              /* bytes that were not reported by SACK before */
	bool has_original;               /* some of them were sent once only */
	bool was_resent; /* some of it was sent more than once: how long the rest waited says nothing */
	bool has_sample;
	bw_ns sent_at; /* of the first chunk that was sent once only and not reported before */
};
void bw_tcp__sendq_ack(struct bw_tcp *tcp, struct bw_tcp_conn *conn, bw_seq ack, struct bw_tcp__acked *acked);
void bw_tcp__sendq_free(struct bw_tcp_conn *conn);

/* output.c */
/** Queue an answer that belongs to no connection. A full ring or an empty pool drops it. */
void bw_tcp__answer_with_tos(
	struct bw_tcp *tcp, const struct bw_flow *flow, const struct bw_tcp_fields *fields, uint8_t tos);
static inline void bw_tcp__answer(
	struct bw_tcp *tcp, const struct bw_flow *flow, const struct bw_tcp_fields *fields)
{
	bw_tcp__answer_with_tos(tcp, flow, fields, 0);
}
/** An ACK as things are, in front of all that output will send. */
void bw_tcp__ack_as_is(struct bw_tcp *tcp, struct bw_tcp_conn *conn);
/** The RST that RFC 9293 3.10.7.1 prescribes for a segment; none for RST, multicast. */
void bw_tcp__answer_reset(struct bw_tcp *tcp, const struct bw_pkt *pkt);
/** May an answer that a peer can provoke at will go out? */
bool bw_tcp__stateless_is_allowed(struct bw_tcp *tcp);

/* recovery.c */
/** Bytes in flight, as RFC 6675's pipe. */
uint32_t bw_tcp__in_flight(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn);
/** SND.UNA moves to `ack`. */
void bw_tcp__ack_advance(struct bw_tcp *tcp, struct bw_tcp_conn *conn, const struct bw_tcp_fields *seg);
/** An acceptable ACK that does not move SND.UNA. */
void bw_tcp__ack_duplicate(
	struct bw_tcp *tcp, struct bw_tcp_conn *conn, const struct bw_tcp_fields *seg, bool is_dupack);
/** The retransmission timer fired. */
void bw_tcp__on_rto(struct bw_tcp *tcp, struct bw_tcp_conn *conn);
/** Segments of more than conn->mss cannot get through: send them again, smaller (RFC 1191). */
void bw_tcp__on_mss_cut(struct bw_tcp *tcp, struct bw_tcp_conn *conn);
/** A probe in recovery: one segment from SND.UNA counts as lost, and so does its repeat. Output sends it. */
void bw_tcp__probe_hole(struct bw_tcp *tcp, struct bw_tcp_conn *conn);
/** Note that a chunk that was believed lost goes out again. */
void bw_tcp__mark_resent(struct bw_tcp *tcp, struct bw_tcp_conn *conn, struct bw_tcp__tx_note *note);
/** Is something believed lost and not sent again? */
bool bw_tcp__has_lost(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn);
/** `bytes` of payload go out while BW_CONN_RECOVERY is set. */
void bw_tcp__recovery_sent(struct bw_tcp *tcp, struct bw_tcp_conn *conn, uint32_t bytes);
/** Once a turn when something has arrived: BW_CONN_RACK. */
void bw_tcp__recovery_turn(struct bw_tcp *tcp, struct bw_tcp_conn *conn);
/** The connection's state of recovery, taken if need be. */
struct bw_tcp__recovery *bw_tcp__recovery_take(struct bw_tcp *tcp, struct bw_tcp_conn *conn);
void bw_tcp__recovery_give(struct bw_tcp *tcp, struct bw_tcp_conn *conn);
void bw_tcp__mark_lost(struct bw_tcp *tcp, struct bw_tcp_conn *conn, struct bw_tcp__tx_note *note);
/**
 * New data has joined what was in flight. Now there may be enough for a probe; and its time starts again (RFC 8985 7.2),
 * though not beyond the retransmission timer's, which goes on from the last ACK.
 */
void bw_tcp__probe_restart(struct bw_tcp *tcp, struct bw_tcp_conn *conn);
/** The retransmission timer, or what stands in for it, for what is in flight. */
void bw_tcp__retx_restart(struct bw_tcp *tcp, struct bw_tcp_conn *conn);

static inline struct bw_tcp__recovery *bw_tcp__recovery(
	const struct bw_tcp *tcp, const struct bw_tcp_conn *conn)
{
	uint32_t index = tcp->rares[conn->index].recovery;

	BW_ASSERT_LT(index, tcp->recovery_slab.touched);
	return &tcp->recoveries[index];
}

/* rack.c: time-based loss detection and tail loss probes (RFC 8985) */
/** A chunk has arrived that was not known to have. */
void bw_tcp__rack_delivered(struct bw_tcp *tcp, struct bw_tcp_conn *conn, const struct bw_tcp__tx_note *note,
	const struct bw_tcp_fields *seg);
/** The peer received something twice. */
void bw_tcp__rack_dsack(struct bw_tcp *tcp, struct bw_tcp_conn *conn);
/** A recovery is over: the reordering window may shrink again. */
void bw_tcp__rack_recovered(struct bw_tcp__recovery *r);
/**
 * Mark lost what was sent sufficiently before something that has arrived. Returns whether anything is new; sets
 * *wait_ns to when the rest is to be looked at again, 0 for never.
 */
bool bw_tcp__rack_detect(struct bw_tcp *tcp, struct bw_tcp_conn *conn, bw_ns *wait_ns);
/** After an RTO: the first chunk, and what is overdue (6.3). */
void bw_tcp__rack_mark_on_rto(struct bw_tcp *tcp, struct bw_tcp_conn *conn);
/** The probe's time-out in ms; 0: none is due before the RTO (7.2). */
uint32_t bw_tcp__probe_ms(const struct bw_tcp_conn *conn);
/** An ACK while BW_CONN_LOSS_PROBED is set (7.4.2). Returns whether it says that the probe has repaired a loss. */
bool bw_tcp__probe_acked(
	struct bw_tcp *tcp, struct bw_tcp_conn *conn, const struct bw_tcp_fields *seg, bool is_dsack);

/* plpmtud.c: packetization layer path MTU discovery (RFC 4821) */
/** Segments of more than `mss` bytes cannot get through, as ICMP says or silence; of more than `high` for certain. */
void bw_tcp__mtu_cut(struct bw_tcp *tcp, struct bw_tcp_conn *conn, uint32_t mss, uint32_t high);
/** A time-out: is it the size of what is sent? */
void bw_tcp__mtu_on_rto(struct bw_tcp *tcp, struct bw_tcp_conn *conn);
/* While BW_CONN_MTU_SEARCH is set: */
/** The size of a probe that may go out now, with `usable` bytes of window; 0: none. */
uint32_t bw_tcp__mtu_probe_bytes(struct bw_tcp *tcp, struct bw_tcp_conn *conn, uint32_t usable);
void bw_tcp__mtu_probe_sent(struct bw_tcp *tcp, struct bw_tcp_conn *conn, bw_seq seq, uint32_t bytes);
/** SND.UNA has moved. */
void bw_tcp__mtu_acked(struct bw_tcp *tcp, struct bw_tcp_conn *conn);
/** A chunk at `seq` is believed lost: if it is of the probe, so is all of that. */
void bw_tcp__mtu_lost(struct bw_tcp *tcp, struct bw_tcp_conn *conn, bw_seq seq);
/** Is all that is lost and not sent again a probe? */
bool bw_tcp__mtu_explains_loss(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn);

/* rtt.c */
/** Returns the sample within the bounds of what counts, never 0. */
uint32_t bw_tcp__rtt_sample(struct bw_tcp_conn *conn, uint64_t rtt_us);
/** The retransmission time-out, back-off included. */
uint32_t bw_tcp__rto_ms(const struct bw_tcp_conn *conn);

/* cc.c: congestion control. All that changes cwnd and ssthresh. */
void bw_tcp__cc_init(struct bw_tcp *tcp, struct bw_tcp_conn *conn, bool syn_was_lost);
/** New bytes were acknowledged outside recovery, after `rtt_us`; 0: that is not known. */
void bw_tcp__cc_on_ack(struct bw_tcp *tcp, struct bw_tcp_conn *conn, uint32_t acked_bytes, uint32_t rtt_us);
void bw_tcp__cc_on_loss(struct bw_tcp *tcp, struct bw_tcp_conn *conn);
/** The peer reports marks, for the first time in this window. */
void bw_tcp__cc_on_ece(struct bw_tcp *tcp, struct bw_tcp_conn *conn);
extern const struct bw_tcp__cc_ops bw_tcp__cc_cubic, bw_tcp__cc_newreno, bw_tcp__cc_dctcp;
static inline const struct bw_tcp__cc_ops *bw_tcp__cc_ops_of(
	const struct bw_tcp *tcp, const struct bw_tcp_conn *conn)
{
	static const struct bw_tcp__cc_ops *const by_name[BW_TCP_CC_COUNT] = {
		[BW_TCP_CC_CUBIC] = &bw_tcp__cc_cubic,
		[BW_TCP_CC_NEWRENO] = &bw_tcp__cc_newreno,
		[BW_TCP_CC_DCTCP] = &bw_tcp__cc_dctcp,
	};

	return by_name[bw_tcp__listener(tcp, conn)->congestion_control];
}
/** Proportional rate reduction's cwnd. */
void bw_tcp__cc_set_in_recovery(struct bw_tcp_conn *conn, uint32_t cwnd);
/** The loss was none. */
void bw_tcp__cc_undo(struct bw_tcp *tcp, struct bw_tcp_conn *conn);
/** Before a loss is reacted to: what bw_tcp__cc_undo() goes back to. */
void bw_tcp__cc_remember(struct bw_tcp *tcp, struct bw_tcp_conn *conn);
void bw_tcp__cc_on_recovered(struct bw_tcp *tcp, struct bw_tcp_conn *conn);
void bw_tcp__cc_on_rto(struct bw_tcp *tcp, struct bw_tcp_conn *conn, bool is_first);
/** Something is sent after nothing was in flight. */
void bw_tcp__cc_on_restart(struct bw_tcp *tcp, struct bw_tcp_conn *conn);

/* ecn.c: Explicit Congestion Notification (RFC 3168) */
/** Does a SYN with these TCP flags get ECN (6.1.1)? Whatever its own ECN field is: RFC 8311 4.3 leaves that open. */
static inline bool bw_tcp__ecn_is_asked(const struct bw_tcp *tcp, uint8_t syn_flags)
{
	return tcp->conf.ecn && (syn_flags & (BW_TCP_ECE | BW_TCP_CWR)) == (BW_TCP_ECE | BW_TCP_CWR);
}

/** What an opening connection's SYN, or its answer to one that crossed it, has of ECE and CWR. */
uint8_t bw_tcp__ecn_syn_flags(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn, bool is_answer);
/** Does the peer's SYN-ACK, or a SYN of its that crossed ours, agree on ECN? */
bool bw_tcp__ecn_is_agreed(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn, uint8_t flags);

/** DSCP and ECN of a packet that is not new data: of a listener's SYN-ACK, too. */
uint8_t bw_tcp__tos_of_control(const struct bw_tcp *tcp, unsigned listener, bool has_ecn);
/** A segment in the window brought payload. Before RCV.NXT moves. */
void bw_tcp__ecn_payload(struct bw_tcp *tcp, struct bw_tcp_conn *conn, bool is_ce, bool is_cwr);
/** An acceptable ACK has ECE. Before SND.UNA moves. */
void bw_tcp__ecn_echoed(struct bw_tcp *tcp, struct bw_tcp_conn *conn, bw_seq ack);
/** SND.UNA has moved while BW_CONN_CONGESTED is set. */
void bw_tcp__ecn_acked(struct bw_tcp *tcp, struct bw_tcp_conn *conn, uint32_t acked_bytes, bool is_ece);
/** cwnd is reduced, for whatever reason. */
void bw_tcp__ecn_reduced(struct bw_tcp *tcp, struct bw_tcp_conn *conn);
/** Has the window that is being acknowledged been answered by a reduction already? */
bool bw_tcp__ecn_is_answered(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn);

/* hystart.c: HyStart++ (RFC 9406) */
#define BW_TCP__CSS_DIVISOR 4 /* of growth while css_round is not 0: 4.3 */
void bw_tcp__hystart_init(struct bw_tcp__hystart *h, bw_seq snd_nxt);
/** SND.UNA has moved, after `rtt_us`; 0: that is not known. Returns whether slow start is over. */
bool bw_tcp__hystart_on_ack(struct bw_tcp__hystart *h, bw_seq snd_una, bw_seq snd_nxt, uint32_t rtt_us);

/* reno.c */
/** Half of what is in flight (RFC 5681 3.1 (4)). */
uint32_t bw_tcp__reno_on_loss(struct bw_tcp__reno *reno, uint32_t flight);
uint32_t bw_tcp__reno_on_ack(struct bw_tcp__reno *reno, uint32_t cwnd, uint32_t mss, uint32_t acked_bytes);

/* dctcp.c */
/** What remains of cwnd after marks. */
uint32_t bw_tcp__dctcp_on_ece(const struct bw_tcp__dctcp *d, uint32_t cwnd);
/** Count acknowledged bytes; at the end of a window, estimate. Returns whether alpha is not 0. */
bool bw_tcp__dctcp_on_marks(
	struct bw_tcp__dctcp *d, bw_seq snd_una, bw_seq snd_nxt, uint32_t acked_bytes, bool is_ece);

/* cubic.c */
/** After that, if it was a time-out. */
void bw_tcp__cubic_on_timeout(struct bw_tcp__cubic *c);
/** A congestion event. Returns what ssthresh becomes. */
uint32_t bw_tcp__cubic_on_loss(struct bw_tcp__cubic *c, uint32_t cwnd, uint32_t flight);
/** Bytes were acknowledged in congestion avoidance. Returns the new cwnd. */
uint32_t bw_tcp__cubic_on_ack(struct bw_tcp__cubic *c, uint32_t now_ms, uint32_t srtt_ms, uint32_t cwnd,
	uint32_t mss, uint32_t acked_bytes);

/* pressure.c */
/** Does somebody have to give buffers back? Then turns go on, as each looks at a few connections only. */
bool bw_tcp__reclaims(const struct bw_tcp *tcp);
/** What asks for buffers and gets none is what others are broken for. */
void bw_tcp__note_refused(struct bw_tcp *tcp);

/* timers.c */
/** Have the wheel fire at `at` at the latest. */
static inline void bw_tcp__timer_need(struct bw_tcp *tcp, struct bw_tcp_conn *conn, bw_ns at)
{
	if (at < conn->timer.expires_at)
		bw_timer_arm(&tcp->wheel, &conn->timer, at);
}

/**
 * The time-out, not beyond the user time-out; while nothing reaches the network, soon enough to notice that it is there
 * again.
 */
uint32_t bw_tcp__retx_ms(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn);
void bw_tcp__retx_arm(
	struct bw_tcp *tcp, struct bw_tcp_conn *conn, enum bw_tcp__timer use, uint32_t delay_ms);
/** Keep-alive is as the listener wants it: have the wheel look after it. */
void bw_tcp__keepalive_need(struct bw_tcp *tcp, struct bw_tcp_conn *conn);

static inline void bw_tcp__retx_disarm(struct bw_tcp_conn *conn)
{
	conn->timer_use = BW_TCP_TIMER_OFF;
	conn->retx_at_ms = 0;
}

/** What a peer must not be able to predict of a flow. */
struct bw_tcp__numbers {
	bw_seq isn; /* RFC 6528: a clock of 4 us ticks plus a keyed hash of the flow */
	uint32_t
		ts_offset; /* RFC 7323 5.4. The same for every incarnation, so that its clock goes on (RFC 6191) */
};
/** Costs a SipHash of the flow: some 60 ns. */
struct bw_tcp__numbers bw_tcp__numbers(const struct bw_tcp *tcp, const struct bw_flow *flow);
/** Our MSS option on a flow. */
uint16_t bw_tcp__mss_option(const struct bw_tcp *tcp, const struct bw_flow *flow);
/** The window scale that a receive window of that many bytes needs (RFC 7323 2.2). */
uint8_t bw_tcp__wscale_for(uint32_t bytes);

/** Take an index, BW_TCP__NONE when all are used. `next_of` finds the link of a free object. */
#define bw_tcp__slab_take(slab, array, link)                                                                 \
	({                                                                                                   \
		uint32_t taken = (slab)->free_head;                                                          \
		if (taken != BW_TCP__NONE)                                                                   \
			(slab)->free_head = (array)[taken].link;                                             \
		else if ((slab)->touched < (slab)->capacity)                                                 \
			taken = (slab)->touched++;                                                           \
		if (taken != BW_TCP__NONE)                                                                   \
			(slab)->count++;                                                                     \
		taken;                                                                                       \
	})

#define bw_tcp__slab_give(slab, array, link, i)                                                              \
	do {                                                                                                 \
		BW_ASSERT_LT(0, (slab)->count);                                                              \
		(array)[i].link = (slab)->free_head;                                                         \
		(slab)->free_head = (i);                                                                     \
		(slab)->count--;                                                                             \
	} while (0)

/** Doubly linked lists of indices: TIME_WAIT and half-open entries, oldest first. */
#define bw_tcp__fifo_push(fifo, array, i)                                                                    \
	do {                                                                                                 \
		(array)[i].next = BW_TCP__NONE;                                                              \
		(array)[i].prev = (fifo)->tail;                                                              \
		if ((fifo)->tail != BW_TCP__NONE)                                                            \
			(array)[(fifo)->tail].next = (i);                                                    \
		else                                                                                         \
			(fifo)->head = (i);                                                                  \
		(fifo)->tail = (i);                                                                          \
	} while (0)

#define bw_tcp__fifo_remove(fifo, array, i)                                                                  \
	do {                                                                                                 \
		uint32_t before = (array)[i].prev, after = (array)[i].next;                                  \
		if (before != BW_TCP__NONE)                                                                  \
			(array)[before].next = after;                                                        \
		else                                                                                         \
			(fifo)->head = after;                                                                \
		if (after != BW_TCP__NONE)                                                                   \
			(array)[after].prev = before;                                                        \
		else                                                                                         \
			(fifo)->tail = before;                                                               \
	} while (0)
