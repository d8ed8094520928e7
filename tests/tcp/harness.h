/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Stories in packets: one bw_tcp, one peer made of macros, a virtual clock.
 *
 *     struct peer *p = established();
 *     IN(p, .seq = PEER + 1, .data = "abc");    the peer sends; what the stack answers is collected
 *     AT(p, MS(40));                            time since the story began; timers fire on the way
 *     OUT(p, .seq = 1, .ack = PEER + 4);        the next packet that was collected, checked field by field
 *     QUIET(p);                                 nothing else was sent
 *     done(p);                                  every mbuf is back in its pool
 *
 * PEER is the peer's initial sequence number. Our own is unknown, so everything in our number space (seq of
 * OUT, ack of IN, SACK blocks of IN) is relative to it: our first byte is 1. Fields that are not given are
 * not checked in OUT, and take sensible values in IN: ACK of all that we sent, the peer's next number, its
 * usual window.
 */
#pragma once

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <base/mbuf.h>
#include <base/seq.h>
#include <tcp/tcp.h>
#include <wire/build.h>

#define FIN BW_TCP_FIN
#define SYN BW_TCP_SYN
#define RST BW_TCP_RST
#define PSH BW_TCP_PSH
#define ACK BW_TCP_ACK
#define URG BW_TCP_URG
#define ECE BW_TCP_ECE
#define CWR BW_TCP_CWR

#define MS(n) ((n)*BW_NS_PER_MS)
#define S(n)  ((n)*BW_NS_PER_SEC)

#define PEER  1000000u /* the peer's initial sequence number */
#define PORT  80
#define START S(1000)

#define TEST(name) static void name(void **state __attribute__((unused)))

/** What a service of the stories does. */
struct behaviour {
	bool keeps;                /* does not consume in data() */
	bool echoes;               /* sends back what it consumes */
	bool closes_on_peer_close; /* bw_tcp_close() in peer_closed() */
	bool aborts_in_opened, aborts_in_data, closes_in_data, shuts_in_data;
	uint32_t consumes_max; /* a data(); 0: all */
};

/** A packet of ours, as it was handed out. */
struct sent {
	struct bw_tcp_fields f;
	uint32_t len;
	uint8_t *data;
	bool has_path;
	uint32_t path; /* what the connection remembered */
	uint8_t tos;
	uint16_t tso_segsz;
	unsigned segments;  /* mbufs */
	struct rte_mbuf *m; /* kept when the driver holds */
	struct sent *next;
};

struct peer {
	struct bw_tcp *tcp;
	struct bw_tcp_conf conf;
	struct bw_counters counters;
	struct bw_flow flow;
	bw_ns now;
	bw_seq iss;      /* ours */
	bw_seq snd_max;  /* right of all that we sent */
	bw_seq next_seq; /* the peer's next number */
	uint16_t window;
	bool has_timestamps, driver_holds;
	bool closes_many; /* more connections than the story's one */
	bool connects;    /* opened by us, so that closed() may come without opened() */
	unsigned mbufs_before;
	uint32_t ts_echo;
	struct sent *first, *last;
	struct bw_tcp_conn *conn;
	struct behaviour does;
	/* what the service saw */
	unsigned announced, announced_bytes; /* to prefetch() */
	unsigned announced_before_data;      /* when it was last called */
	unsigned opened, data, writable, peer_closed, closed, timer;
	enum bw_tcp_end end;
	uint8_t received[1 << 20];
	uint32_t received_bytes;
};

/** What a peer offers in its SYN. */
struct offer {
	struct behaviour does;
	uint16_t mss;   /* 0: 1460; 1: no option */
	uint8_t wscale; /* + 1; 0: no option */
	bool timestamps, sack, v6;
	uint16_t window; /* 0: 65535 */
	uint32_t recv_bytes_max, send_bytes_max;
	bw_ns keepalive_idle_ns, user_timeout_ns;
	bool nagle, ecn, pacing;
	uint8_t dscp;
	enum bw_tcp_congestion_control congestion_control;
	bw_ns rtt; /* of the handshake, which the first estimate comes from */
	void (*tune)(struct bw_tcp_conf *conf);
};

struct segment_in {
	uint32_t seq, ack;
	bool has_ack;  /* .ack counts although it is 0 */
	uint8_t flags; /* 0: ACK */
	const char *data;
	uint32_t len; /* of data; 0: strlen */
	int window;   /* -1: 0; 0: the usual */
	uint32_t ts;  /* 0: the clock */
	bool no_ts;
	struct bw_sack_block sack[BW_SACK_BLOCKS_MAX];
	uint8_t sack_count;
	bool multicast;
	uint16_t mss;
	uint8_t wscale;
	bool sack_permitted;
	unsigned pieces; /* mbufs of the packet */
	uint16_t urgent;
	bool more; /* of the same burst follows: output has no turn yet */
	uint8_t tos;
};

struct segment_out {
	uint32_t seq, ack;
	uint8_t flags; /* 0: ACK, with or without PSH */
	const char *data;
	uint32_t len;
	bool empty; /* no payload */
	int window; /* -1: 0; 0: not checked */
	struct bw_sack_block sack[BW_SACK_BLOCKS_MAX];
	uint8_t sack_count;
	bool no_sack;
	enum {
		ANY_ECN,
		NOT_ECT,
		ECT0
	} ecn;
};

extern struct rte_mempool *pool;
int harness_start(void);
unsigned mbufs_in_use(void);

struct peer *listening(const struct offer *offer);
/** Our SYN to the peer is collected. */
struct peer *connecting_with(const struct offer *offer);
#define connecting(...) connecting_with(&(struct offer){ __VA_ARGS__ })
struct peer *established_with(const struct offer *offer);
#define established(...) established_with(&(struct offer){ __VA_ARGS__ })
void done(struct peer *p);

void segment_in(struct peer *p, const struct segment_in *in);
void segment_out(struct peer *p, const struct segment_out *out, const char *file, int line);
void quiet(struct peer *p, const char *file, int line);
void at(struct peer *p, bw_ns since_start);
/** Run output, collecting packets. */
void collect(struct peer *p);
/** The oldest packet collected, unchecked; the caller frees it with sent_free(). NULL: none. */
struct sent *take(struct peer *p);
void sent_free(struct sent *sent);
/** Forget what was collected. */
void forget_sent(struct peer *p);
/** Give the packets that the driver holds back. */
void driver_releases(struct peer *p);
const char *state_of(const struct peer *p);

#define IN(p, ...)           segment_in(p, &(struct segment_in){ __VA_ARGS__ })
#define OUT(p, ...)          segment_out(p, &(struct segment_out){ __VA_ARGS__ }, __FILE__, __LINE__)
#define QUIET(p)             quiet(p, __FILE__, __LINE__)
#define AT(p, since)         at(p, since)
#define STATE(p, name)       assert_string_equal(state_of(p), #name)
#define COUNTER(p, which, n) assert_int_equal((p)->counters.value[BW_##which], n)
