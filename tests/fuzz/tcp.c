/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * One stack, a service, and peers that know our sequence numbers: they learn them from our SYN-ACK, so what an
 * input says is relative to where a connection stands, and most of it is near enough to matter.
 *
 * Input: a header of settings, then steps of 8 bytes. A step is a segment, a span of time, something the service
 * does, or something that happens to the buffers. At the end everybody behaves for as long as it takes.
 *
 * What is asserted, besides what the stack itself asserts:
 * - the service reads exactly the bytes of the peer's stream (they follow from their offset) that were sent;
 * - what we send are the bytes of the service's stream, within the window and the MSS that the peer offered;
 * - we acknowledge, by ACK or SACK, nothing that was not sent, and take no acknowledgement back;
 * - in the end everything gets through, every connection ends, and every buffer is back.
 */
#include <stdio.h>

#include <base/mbuf.h>
#include <tcp/tcp.h>
#include <wire/build.h>

#include "fuzz.h"

#define FIN BW_TCP_FIN
#define SYN BW_TCP_SYN
#define RST BW_TCP_RST
#define PSH BW_TCP_PSH
#define ACK BW_TCP_ACK
#define URG BW_TCP_URG

#define PORT       80
#define PEERS      4
#define STREAM_MAX (1u << 20) /* bytes that a peer numbers, of which a window's worth is never sent */
#define MBUFS      1023
#define STEPS_MAX  256
#define TICKS_MAX  4000 /* of the clock, an input */
#define START      (1000 * BW_NS_PER_SEC)

static struct rte_mempool *pool;

/* ---- the two ends -------------------------------------------------------------------------------------- */

/** A peer's side of a connection. Offsets are into its stream or, where they say `our`, into ours; a FIN has one. */
struct peer {
	struct bw_flow flow;
	bw_seq iss, our_iss;
	unsigned generation; /* of the connections that this flow has had */
	bool is_answered;    /* our_iss is known */
	bool is_called;      /* our SYN came, and no SYN has answered it */
	bool has_timestamps, has_sack;
	uint8_t wscale, our_wscale;
	uint16_t mss_max; /* that any SYN has said */

	uint8_t *was_sent;  /* [STREAM_MAX] */
	uint32_t sent_end;  /* right of all of it */
	uint32_t sent_till; /* all before this was */
	uint32_t next;      /* what comes next, if nothing is lost */
	uint32_t fins[8], fin_count;
	uint32_t acked;      /* by us */
	uint32_t our_window; /* our right edge, in its stream */

	uint32_t our_end;     /* right of all that we sent */
	uint32_t window_edge; /* the furthest in our stream that it has allowed */
	uint32_t ts_newest, ts_echo;

	/* the service's end */
	struct bw_tcp_conn *conn;
	unsigned opened, closed;
	uint32_t our_written;
	bool is_shut;
};

/** Service state of a connection. */
struct served {
	struct peer *peer; /* NULL before opened(), unless we connect */
	unsigned generation;
	uint32_t read;
};

/** What the service does in upcalls. */
enum {
	READ = 3, /* nothing, a little, all, pulled up */
	ECHOES = 1 << 2,
	HOLDS = 1 << 3,
	CLOSES = 3 << 4, /* when the peer does: nothing, shutdown, close, abort */
	ENDS_IN_DATA = 1 << 6,
	ENDS_IN_OPENED = 1 << 7,
};

struct hold {
	struct rte_mbuf *m;
	const uint8_t *data;
	uint32_t offset, len;
};

static struct world {
	struct bw_tcp *tcp;
	struct bw_tcp_conf conf;
	struct bw_counters counters;
	bw_ns now;
	unsigned ticks_left;
	struct peer peers[PEERS];
	uint32_t recv_max;
	uint8_t mode;
	unsigned references;  /* sent, and not released */
	bool pool_is_watched; /* else the input says how scarce buffers are */
	struct rte_mbuf *hoard[MBUFS];
	unsigned hoarded;
	bool driver_holds;
	struct rte_mbuf *in_driver[64];
	unsigned in_driver_count;
	struct hold holds[16];
	unsigned hold_count;
	struct bw_pkt burst[8];
	unsigned burst_count;
	bool is_traced;
} w;

static uint8_t stream[PEERS][STREAM_MAX];

/* Both streams repeat after STREAM_MAX bytes; as often as nothing sent at once goes beyond. */
static uint8_t bytes_of_both[2 * STREAM_MAX];

/** What a peer's stream has from an offset on, and the service's. */
static const uint8_t *theirs(uint32_t offset)
{
	return bytes_of_both + offset % STREAM_MAX;
}

static const uint8_t *ours(uint32_t offset)
{
	return theirs(offset + 0x5a5a5);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	for (uint32_t i = 0; i < sizeof(bytes_of_both); i++)
		bytes_of_both[i] = (uint8_t)(i % STREAM_MAX * 2654435761u >> 24 ^ i);
	pool = fuzz_pool(MBUFS);
	bw_flow_hash_seed(42);
	return 0;
}

/* ---- the service --------------------------------------------------------------------------------------- */

static struct served *served_of(struct bw_tcp_conn *conn)
{
	return bw_tcp_state(conn);
}

static bool is_current(struct bw_tcp_conn *conn)
{
	return served_of(conn)->peer->conn == conn;
}

static void check_read(const struct served *s, const uint8_t *data, uint32_t len)
{
	BW_ASSERT(memcmp(data, theirs(s->read), len) == 0);
	if (s->generation == s->peer->generation)
		BW_ASSERT_LE(s->read + len, s->peer->sent_till);
}

static void release_hold(void)
{
	struct hold *hold = &w.holds[--w.hold_count];

	BW_ASSERT(memcmp(hold->data, theirs(hold->offset), hold->len) == 0);
	rte_pktmbuf_free(hold->m);
}

static void service_read(struct bw_tcp_conn *conn, uint32_t max)
{
	struct served *s = served_of(conn);
	struct bw_tcp_view views[4];
	unsigned count;

	while (max > 0 && (count = bw_tcp_views(conn, views, BW_ARRAY_LEN(views))) > 0) {
		for (unsigned i = 0; i < count && max > 0; i++) {
			uint32_t n = BW_MIN(views[i].len, max);

			BW_ASSERT(views[i].len != 0);
			check_read(s, views[i].data, views[i].len);
			if ((w.mode & HOLDS) && w.hold_count < BW_ARRAY_LEN(w.holds)) {
				rte_mbuf_refcnt_update(views[i].m, 1);
				w.holds[w.hold_count++] =
					(struct hold){ views[i].m, views[i].data, s->read, views[i].len };
			}
			bw_tcp_consume(conn, n);
			s->read += n;
			max -= n;
			if (n < views[i].len)
				break;
		}
	}
}

static void service_pullup(struct bw_tcp_conn *conn, uint32_t len)
{
	const uint8_t *data = bw_tcp_pullup(conn, len);

	if (data == NULL)
		return;
	BW_ASSERT_LE(len, bw_tcp_unread(conn));
	check_read(served_of(conn), data, len);
}

static void service_send(struct bw_tcp_conn *conn, uint32_t len)
{
	struct peer *p = served_of(conn)->peer;
	uint32_t taken = bw_tcp_send(conn, ours(p->our_written), len);

	BW_ASSERT_LE(taken, p->is_shut ? 0 : len);
	p->our_written += taken;
}

static void service_reserve(struct bw_tcp_conn *conn, uint32_t len, uint32_t used)
{
	struct peer *p = served_of(conn)->peer;
	uint8_t *room;

	len = len % BW_TCP_RESERVE_MAX + 1;
	used = used % (len + 1);
	room = bw_tcp_send_reserve(conn, len);
	if (room == NULL)
		return;
	BW_ASSERT(!p->is_shut);
	memset(room, 0xee, len);
	memcpy(room, ours(p->our_written), used);
	bw_tcp_send_commit(conn, used);
	p->our_written += used;
}

static void release_reference(void *bytes)
{
	free(bytes);
	w.references--;
}

static void service_send_ref(struct bw_tcp_conn *conn, uint32_t len)
{
	struct peer *p = served_of(conn)->peer;
	uint8_t *bytes;

	len = BW_MIN(len, bw_tcp_send_space(conn));
	if (len == 0)
		return;
	bytes = malloc(len);
	BW_ASSERT(bytes != NULL);
	memcpy(bytes, ours(p->our_written), len);
	w.references++;
	if (bw_tcp_send_ref(conn, bytes, len, release_reference, bytes) == 0) {
		BW_ASSERT(!p->is_shut);
		p->our_written += len;
	} else {
		release_reference(bytes);
	}
}

static void service_end(struct bw_tcp_conn *conn, unsigned how)
{
	switch (how) {
	case 1:
		bw_tcp_shutdown(conn);
		break;
	case 2:
		bw_tcp_close(conn);
		break;
	case 3:
		bw_tcp_abort(conn);
		break;
	default:
		return;
	}
	if (is_current(conn))
		served_of(conn)->peer->is_shut = true;
}

static void serve(struct bw_tcp_conn *conn, struct peer *p)
{
	*served_of(conn) = (struct served){ .peer = p, .generation = p->generation };
	p->conn = conn;
	p->opened++;
	p->our_written = 0;
	p->is_shut = false;
}

static void on_opened(struct bw_tcp_conn *conn)
{
	const struct bw_flow *flow = bw_tcp_flow(conn);
	struct peer *p = &w.peers[__builtin_bswap16(flow->remote_port_be) % PEERS];

	BW_ASSERT(bw_flow_eq(flow, &p->flow));
	if (served_of(conn)->peer == NULL)
		serve(conn, p);
	served_of(conn)->generation = p->generation;
	if (w.mode & ENDS_IN_OPENED)
		service_end(conn, w.mode >> 4 & 3);
}

static void on_data(struct bw_tcp_conn *conn)
{
	uint32_t unread = bw_tcp_unread(conn);

	if ((w.mode & READ) == 3)
		service_pullup(conn, BW_MIN(unread, 2000u));
	if (w.mode & READ)
		service_read(conn, (w.mode & READ) == 1 ? 100 : unread);
	if ((w.mode & ECHOES) && is_current(conn))
		service_send(conn, unread - bw_tcp_unread(conn));
	if (w.mode & ENDS_IN_DATA)
		service_end(conn, w.mode >> 4 & 3);
}

static void on_writable(struct bw_tcp_conn *conn)
{
	BW_ASSERT(bw_tcp_send_space(conn) > 0);
	if ((w.mode & ECHOES) && is_current(conn))
		service_send(conn, 3000);
}

static void on_peer_closed(struct bw_tcp_conn *conn)
{
	service_end(conn, w.mode >> 4 & 3);
}

static void on_closed(struct bw_tcp_conn *conn, enum bw_tcp_end end)
{
	struct peer *p = served_of(conn)->peer;

	BW_ASSERT_LT(end, BW_TCP_END_COUNT);
	p->closed++;
	BW_ASSERT_LE(p->closed, p->opened);
	BW_ASSERT_EQ(bw_tcp_send(conn, "x", 1), 0);
	if (p->conn == conn)
		p->conn = NULL;
}

static void on_timer(struct bw_tcp_conn *conn)
{
	bw_tcp_wake(conn);
}

static const struct bw_tcp_ops ops = {
	.opened = on_opened,
	.data = on_data,
	.writable = on_writable,
	.peer_closed = on_peer_closed,
	.closed = on_closed,
	.timer = on_timer,
};

/* ---- what we send -------------------------------------------------------------------------------------- */

static uint32_t offset_of(const struct peer *p, bw_seq seq)
{
	return seq - (p->iss + 1);
}

static uint32_t our_offset_of(const struct peer *p, bw_seq seq)
{
	return seq - (p->our_iss + 1);
}

/** For whoever looks into a finding: FUZZ_TRACE=1 prints every segment. */
static void trace(const struct peer *p, bool is_ours, const struct bw_tcp_fields *f, uint32_t len)
{
	if (!w.is_traced)
		return;
	fprintf(stderr, "%9.3f %s %u %s%s%s%s%s seq %d len %u ack %d win %u", (double)(w.now - START) / 1e9,
		is_ours ? "<" : ">", (unsigned)(p - w.peers), f->flags & SYN ? "S" : "",
		f->flags & FIN ? "F" : "", f->flags & RST ? "R" : "", f->flags & PSH ? "P" : "",
		f->flags & ACK ? "." : "", (int)(is_ours ? our_offset_of(p, f->seq) : offset_of(p, f->seq)),
		len, (int)(is_ours ? offset_of(p, f->ack) : our_offset_of(p, f->ack)), f->window);
	if (f->has_timestamp)
		fprintf(stderr, " ts %u", f->ts_value);
	for (unsigned i = 0; i < f->sack_count; i++)
		fprintf(stderr, " sack %d-%d",
			(int)(is_ours ? offset_of(p, f->sack[i].left) : our_offset_of(p, f->sack[i].left)),
			(int)(is_ours ? offset_of(p, f->sack[i].right) : our_offset_of(p, f->sack[i].right)));
	fprintf(stderr, "\n");
}

static bool is_fin(const struct peer *p, uint32_t offset)
{
	for (uint32_t i = 0; i < p->fin_count; i++)
		if (p->fins[i] == offset)
			return true;
	return false;
}

/** Another connection begins: what was sent before counts no longer. */
static void begin(struct peer *p, bw_seq iss, const struct bw_tcp_fields *answer)
{
	memset(p->was_sent, 0, p->sent_end);
	p->sent_end = p->sent_till = p->next = p->fin_count = p->acked = 0;
	p->our_window = p->our_end = p->window_edge = 0;
	p->generation++;
	p->iss = iss;
	p->our_iss = answer->seq;
	p->is_answered = true;
}

static void check_syn_ack(struct peer *p, const struct bw_tcp_fields *f, uint32_t len)
{
	BW_ASSERT((f->flags & ACK) && len == 0 && f->has_mss);
	p->is_called = false;
	BW_ASSERT_EQ(f->mss, w.conf.mtu - (bw_ip_is_v4(&p->flow.remote) ? 40 : 60));
	if (!p->is_answered || p->our_iss != f->seq || p->iss != f->ack - 1)
		begin(p, f->ack - 1, f);
	p->has_timestamps = f->has_timestamp;
	p->has_sack = f->has_sack_permitted;
	p->our_wscale = f->has_wscale ? f->wscale : 0;
}

static void check_syn(struct peer *p, const struct bw_tcp_fields *f, uint32_t len)
{
	BW_ASSERT(!(f->flags & ACK) && len == 0 && f->has_mss && p->conn != NULL);
	if (!p->is_answered || p->our_iss != f->seq)
		begin(p, p->iss, f);
	p->is_called = true;
	p->has_timestamps = f->has_timestamp;
	p->has_sack = f->has_sack_permitted;
	p->our_wscale = f->has_wscale ? f->wscale : 0;
}

static void check_acks(struct peer *p, const struct bw_tcp_fields *f)
{
	uint32_t acked = offset_of(p, f->ack);

	BW_ASSERT(acked <= p->sent_till || (acked - 1 <= p->sent_till && is_fin(p, acked - 1)));
	BW_ASSERT_LE(p->acked, acked);
	p->acked = acked;
	/* What is discarded as it arrives needs no room. */
	if (p->conn != NULL && !p->is_shut)
		BW_ASSERT_LE((uint32_t)f->window << p->our_wscale, w.recv_max);
	p->our_window = BW_MAX(p->our_window, acked + ((uint32_t)f->window << p->our_wscale));
	BW_ASSERT(p->has_sack || f->sack_count == 0);
	for (unsigned i = 0; i < f->sack_count; i++) {
		uint32_t left = offset_of(p, f->sack[i].left), right = offset_of(p, f->sack[i].right);

		/* A D-SACK of what is old: a segment may have claimed to be from before the first. */
		if (i == 0 && bw_seq_leq(f->sack[i].right, f->ack)) {
			BW_ASSERT(bw_seq_lt(f->sack[i].left, f->sack[i].right));
			continue;
		}
		BW_ASSERT_LT(left, right);
		BW_ASSERT_LE(right, p->sent_end + 1);
		right -= is_fin(p, right - 1) && right - 1 >= left;
		BW_ASSERT(memchr(p->was_sent + left, 0, right - left) == NULL);
	}
}

static void check_payload(
	struct peer *p, const struct rte_mbuf *m, const struct bw_tcp_fields *f, uint32_t len)
{
	uint32_t offset = our_offset_of(p, f->seq), end = offset + len, mss = BW_MAX(p->mss_max, 536);
	static uint8_t room[65536];
	const uint8_t *bytes;

	if (m->ol_flags & RTE_MBUF_F_TX_TCP_SEG) {
		BW_ASSERT(m->tso_segsz <= mss && m->tso_segsz < len);
		BW_ASSERT_LE(len, w.conf.tso_bytes_max);
	} else {
		BW_ASSERT_LE(len, mss);
		BW_ASSERT_LE(len + m->l4_len + (bw_ip_is_v4(&p->flow.remote) ? 20 : 40), w.conf.mtu);
	}
	if (f->flags & FIN)
		BW_ASSERT(p->is_shut && end == p->our_written);
	if (len != 0) {
		BW_ASSERT_LE(len, p->our_written);
		BW_ASSERT_LE(offset, p->our_written - len);
		/* A byte more probes a window that is shut. */
		BW_ASSERT_LE(end, p->window_edge + 1);
		bytes = rte_pktmbuf_read(m, m->l4_len, len, room);
		BW_ASSERT(memcmp(bytes, ours(offset), len) == 0);
	}
	end += !!(f->flags & FIN);
	if ((int32_t)(end - p->our_end) > 0)
		p->our_end = end;
}

static void check_mbuf(const struct rte_mbuf *m)
{
	unsigned segments = 0, total = 0;

	BW_ASSERT(m->l4_len >= 20 && m->l4_len <= 60 && m->data_len >= m->l4_len);
	BW_ASSERT(m->data_off >= 58); /* room for IPv6, VLAN and Ethernet */
	for (const struct rte_mbuf *s = m; s != NULL; s = s->next) {
		BW_ASSERT(s == m || s->data_len != 0);
		BW_ASSERT_LE(s->data_off + s->data_len, s->buf_len);
		segments++;
		total += s->data_len;
	}
	BW_ASSERT_EQ(segments, m->nb_segs);
	BW_ASSERT_EQ(total, m->pkt_len);
	BW_ASSERT(segments == 1 || w.conf.can_multi_segment);
}

static void check_packet(const struct bw_tcp_packet *packet)
{
	struct peer *p = &w.peers[__builtin_bswap16(packet->flow.remote_port_be) % PEERS];
	struct rte_mbuf *m = packet->m;
	struct bw_tcp_fields f;
	uint32_t len;

	BW_ASSERT(bw_flow_eq(&packet->flow, &p->flow));
	check_mbuf(m);
	len = m->pkt_len - m->l4_len;
	bw_tcp_fields_parse(rte_pktmbuf_mtod(m, const uint8_t *), m->l4_len, &f);
	trace(p, true, &f, len);
	if (f.flags & RST) {
		BW_ASSERT_EQ(len, 0);
		return;
	}
	if (f.flags & SYN) {
		(f.flags & ACK ? check_syn_ack : check_syn)(p, &f, len);
		return;
	}
	BW_ASSERT(f.flags & ACK);
	if (packet->path == NULL) { /* of an entry, whose SYN-ACK may have found no buffer */
		BW_ASSERT(len == 0);
		return;
	}
	BW_ASSERT_EQ(f.has_timestamp, p->has_timestamps);
	p->ts_echo = f.ts_value;
	check_acks(p, &f);
	check_payload(p, m, &f, len);
}

static void driver_takes(struct rte_mbuf *m)
{
	unsigned oldest = w.in_driver_count % BW_ARRAY_LEN(w.in_driver);

	if (!w.driver_holds) {
		rte_pktmbuf_free(m);
		return;
	}
	if (w.in_driver_count++ >= BW_ARRAY_LEN(w.in_driver))
		rte_pktmbuf_free(w.in_driver[oldest]);
	w.in_driver[oldest] = m;
}

static void driver_releases(void)
{
	for (unsigned i = 0; i < BW_MIN(w.in_driver_count, (unsigned)BW_ARRAY_LEN(w.in_driver)); i++)
		rte_pktmbuf_free(w.in_driver[i]);
	w.in_driver_count = 0;
	w.driver_holds = false;
}

static void collect(void)
{
	struct bw_tcp_packet packets[16];
	unsigned count, rounds = 0;

	do {
		count = bw_tcp_output(w.tcp, w.now, packets, BW_ARRAY_LEN(packets));
		BW_ASSERT_LE(count, BW_ARRAY_LEN(packets));
		for (unsigned i = 0; i < count; i++) {
			check_packet(&packets[i]);
			driver_takes(packets[i].m);
		}
		BW_ASSERT_LT(++rounds, 4096);
	} while (count == BW_ARRAY_LEN(packets));
}

/** As the engine does, but that nothing is kept back for receiving. */
static void watch_pool(void)
{
	unsigned left = rte_mempool_avail_count(pool);

	bw_tcp_set_buffers(w.tcp, left, left, MBUFS);
}

static void turn(void)
{
	if (w.pool_is_watched)
		watch_pool();
	if (w.ticks_left > 0)
		w.ticks_left--;
	bw_tcp_timers(w.tcp, w.now);
	collect();
}

/* ---- what peers send ----------------------------------------------------------------------------------- */

static void flush_burst(void)
{
	struct bw_pkt *pkts[BW_ARRAY_LEN(w.burst)];

	if (w.burst_count == 0)
		return;
	for (unsigned i = 0; i < w.burst_count; i++)
		pkts[i] = &w.burst[i];
	bw_tcp_input(w.tcp, w.now, pkts, w.burst_count);
	w.burst_count = 0;
	collect();
}

static void advance(bw_ns ns)
{
	bw_ns target;

	flush_burst();
	target = w.now + ns;
	while (w.now < target && w.ticks_left > 0) {
		bw_ns next = bw_tcp_next_deadline(w.tcp);

		w.now = BW_MIN(BW_MAX(next, w.now + BW_NS_PER_MS), target);
		turn();
	}
}

struct segment {
	struct bw_tcp_fields f;
	uint32_t len;
	uint8_t pieces;
	bool is_borrowed; /* in memory of its own, exactly as large */
	bool waits;       /* for the rest of its burst */
	bool is_multicast;
};

/** What a SYN that answers ours agrees to. */
static void note_answer(struct peer *p, const struct segment *s)
{
	if (!p->is_called || s->is_multicast || (s->f.flags & (SYN | RST)) != SYN ||
		((s->f.flags & ACK) && s->f.ack != p->our_iss + 1))
		return;
	p->is_called = false;
	p->iss = s->f.seq;
	p->has_timestamps &= s->f.has_timestamp;
	p->has_sack &= s->f.has_sack_permitted;
	if (!s->f.has_wscale)
		p->our_wscale = 0;
}

/** Note that it is sent. False: its numbers are too far for us to keep. */
static bool note_sent(struct peer *p, struct segment *s)
{
	uint32_t offset = offset_of(p, s->f.seq + !!(s->f.flags & SYN)), end = offset + s->len;

	if ((int32_t)end <= (int32_t)STREAM_MAX && (int32_t)end >= 0 &&
		(int32_t)offset < (int32_t)STREAM_MAX) {
		if (s->f.flags & FIN) {
			if (p->fin_count == BW_ARRAY_LEN(p->fins))
				s->f.flags &= (uint8_t)~FIN;
			else
				p->fins[p->fin_count++] = end;
		}
		offset = (int32_t)offset < 0 ? 0 : offset;
		memset(p->was_sent + offset, 1, end - offset);
		p->sent_end = BW_MAX(p->sent_end, end);
		while (p->sent_till < p->sent_end && p->was_sent[p->sent_till])
			p->sent_till++;
	} else if (end - STREAM_MAX < 4 * STREAM_MAX) {
		return false;
	}
	if ((s->f.flags & (ACK | RST)) == ACK && p->is_answered) {
		uint32_t acked = our_offset_of(p, s->f.ack);

		if (acked <= p->our_end)
			p->window_edge = BW_MAX(p->window_edge, acked + ((uint32_t)s->f.window << p->wscale));
	}
	if (s->f.has_timestamp && (int32_t)(s->f.ts_value - p->ts_newest) > 0)
		p->ts_newest = s->f.ts_value;
	if (s->f.flags & SYN) {
		p->mss_max = BW_MAX(p->mss_max, s->f.has_mss ? s->f.mss : 1220);
		p->wscale = BW_MAX(p->wscale, s->f.has_wscale ? BW_MIN(s->f.wscale, 14) : 0);
	}
	return true;
}

static struct rte_mbuf *piece_of(const struct segment *s, const uint8_t *bytes, uint32_t len)
{
	struct rte_mbuf *m;

	if (s->is_borrowed)
		return fuzz_mbuf(pool, bytes, len);
	m = rte_pktmbuf_alloc(pool);
	if (m != NULL)
		memcpy(rte_pktmbuf_append(m, (uint16_t)len), bytes, len);
	return m;
}

/** A frame of 54 bytes of headers and the payload, in one or more pieces. NULL: there are no buffers. */
static struct rte_mbuf *frame_of(const struct peer *p, const struct segment *s)
{
	uint32_t offset = offset_of(p, s->f.seq + !!(s->f.flags & SYN)), total = 54 + s->len, begin = 0;
	static uint8_t bytes[54 + 65536];
	struct rte_mbuf *first = NULL, *last = NULL;

	memcpy(bytes + 54, theirs(offset), s->len);
	while (begin < total) {
		uint32_t end = BW_MIN(total, begin + (s->is_borrowed ? 16000 : 2048));
		struct rte_mbuf *m;

		if (s->pieces > 1)
			end = BW_MIN(end, begin + BW_MAX(total / s->pieces, 54u));
		m = piece_of(s, bytes + begin, end - begin);
		if (m == NULL) {
			rte_pktmbuf_free(first);
			return NULL;
		}
		if (first == NULL) {
			first = m;
		} else {
			last->next = m;
			first->nb_segs++;
			first->pkt_len += end - begin;
		}
		last = m;
		begin = end;
	}
	return first;
}

/** Two connections of a flow within a tick of the clock that ISNs follow would have the same one. */
static void next_isn(void)
{
	w.now += 20 * BW_NS_PER_US;
}

static void send_segment(struct peer *p, struct segment *s)
{
	const struct peer before = *p;
	struct rte_mbuf *m;

	if (s->f.flags & SYN)
		next_isn();
	note_answer(p, s);
	m = frame_of(p, s);
	if (m == NULL || !note_sent(p, s)) {
		*p = before;
		rte_pktmbuf_free(m);
		return;
	}
	trace(p, false, &s->f, s->len);
	w.burst[w.burst_count++] = (struct bw_pkt){
		.m = m,
		.flow = p->flow,
		.hash = bw_flow_hash(&p->flow),
		.kind = BW_PKT_TCP,
		.ip_version = bw_ip_is_v4(&p->flow.remote) ? 4 : 6,
		.is_to_multicast = s->is_multicast,
		.payload_off = 54,
		.payload_len = (uint16_t)s->len,
		.tcp = s->f,
	};
	if (!s->waits || w.burst_count == BW_ARRAY_LEN(w.burst))
		flush_burst();
}

/** The fields that a peer of good will would give the next segment. */
static struct segment usual(const struct peer *p, uint8_t flags)
{
	return (struct segment){
		.f = {
			.flags = flags,
			.seq = p->iss + 1 + p->next,
			.ack = flags & ACK ? p->our_iss + 1 + p->our_end : 0,
			.window = 65535,
			.has_timestamp = p->has_timestamps,
			.ts_value = BW_MAX((uint32_t)(w.now / BW_NS_PER_MS), p->ts_newest),
			.ts_echo = p->ts_echo,
		},
	};
}

static void send_data(struct peer *p, uint32_t len, uint8_t flags)
{
	struct segment s = usual(p, flags | ACK);

	/* A window's worth is left for what is sent out of order. */
	if (p->next + len > STREAM_MAX / 2)
		return;
	s.len = len;
	p->next += len;
	send_segment(p, &s);
}

/* ---- steps --------------------------------------------------------------------------------------------- */

struct step {
	uint8_t op, a, b, c;
	uint16_t d, e;
};

static void set_options(struct peer *p, struct segment *s, const struct step *step)
{
	int16_t delta = (int16_t)step->e;

	switch (step->c & 7) {
	case 1: /* of the past, or none */
		s->f.ts_value = p->ts_newest - (uint32_t)(step->e & 1023);
		s->f.ts_echo -= step->e >> 10;
		break;
	case 2:
		s->f.has_timestamp = !s->f.has_timestamp;
		break;
	case 3: /* of the future */
		s->f.ts_value += step->e;
		break;
	default:
		break;
	}
	s->f.sack_count = p->has_sack || (step->c & 0x40) ? step->c >> 3 & 3 : 0;
	for (unsigned i = 0; i < s->f.sack_count; i++) {
		/* Relative to what is acknowledged, or to the end, and growing. */
		bw_seq left = (step->c & 0x20 ? s->f.ack : p->our_iss + 1 + p->our_end) + (uint32_t)delta +
			      i * 2u * (step->d & 4095);

		s->f.sack[i] = (struct bw_sack_block){ left, left + 1 + (step->d & 4095) };
	}
	if (s->f.flags & SYN) {
		s->f.has_mss = !(step->c & 0x20);
		s->f.mss = (uint16_t)(step->d & 1 ? 1460 : step->e);
		s->f.has_wscale = step->b & 1;
		s->f.wscale = step->b >> 1;
		s->f.has_sack_permitted = !(step->b & 2);
		s->f.has_timestamp = !(step->b & 4);
	}
	s->f.urgent = s->f.flags & URG ? step->e : 0;
}

/** A segment of any kind, with its numbers relative to where things stand. */
static void step_segment(struct peer *p, const struct step *step)
{
	const bw_seq seqs[] = { p->iss + 1 + p->next, p->iss + 1 + p->acked, p->iss + 1 + p->our_window,
		p->iss, p->iss + 1 + p->sent_end, p->iss + 1 + p->acked, p->iss + 1 + p->next,
		(bw_seq)step->e << 16 | step->d };
	const bw_seq acks[] = { p->our_iss + 1 + p->our_end, p->our_iss + 1 + p->our_end / 2, p->our_iss + 1,
		p->our_iss + 1 + p->our_end };
	const uint16_t windows[] = { 65535, 0, step->d, (uint16_t)(step->e & 255) };
	struct segment s = usual(p, step->a);

	s.f.seq = seqs[step->b & 7];
	if ((step->b & 7) != 0)
		s.f.seq += (uint32_t)(int16_t)step->e;
	if (step->a & ACK) {
		s.f.ack = acks[step->b >> 3 & 3];
		if (step->b & 0x18)
			s.f.ack += (uint32_t)(int16_t)step->d;
	}
	s.f.window = windows[step->b >> 5 & 3];
	s.is_borrowed = step->b & 0x80;
	s.len = step->c & 0x80 ? 0 : step->d & 0x7ff;
	s.pieces = (uint8_t)(1 + (step->d >> 14));
	s.waits = step->op & 0x20;
	s.is_multicast = (step->d & 0x3800) == 0x3800;
	set_options(p, &s, step);
	send_segment(p, &s);
	if (s.f.seq == p->iss + 1 + p->next)
		p->next += s.len;
}

/** An acknowledgement of a part, with blocks behind it: what a receiver says when some was lost. */
static void step_ack(struct peer *p, const struct step *step)
{
	struct segment s = usual(p, ACK);
	uint32_t base = p->our_end - BW_MIN(p->our_end, (uint32_t)step->d);

	s.f.ack = p->our_iss + 1 + base;
	s.f.window = step->a & 1 ? step->e : 65535;
	for (unsigned i = 0; i < (step->b & 3u) && p->has_sack; i++) {
		uint32_t left = base + 1 + (step->e & 0xfff) * (2 * i + 1),
			 right = left + (step->c + 1u) * 16;

		if (right > p->our_end)
			break;
		s.f.sack[s.f.sack_count++] =
			(struct bw_sack_block){ p->our_iss + 1 + left, p->our_iss + 1 + right };
	}
	s.waits = step->op & 0x20;
	send_segment(p, &s);
}

static void step_service(struct bw_tcp_conn *conn, const struct step *step)
{
	switch (step->a & 15) {
	case 0:
	case 1:
		service_send(conn, step->d);
		break;
	case 2:
	case 3:
		service_send_ref(conn, step->d * 4u);
		break;
	case 4:
		service_reserve(conn, step->d, step->e);
		break;
	case 5:
	case 6:
		service_read(conn, step->d);
		break;
	case 7:
		service_pullup(conn, step->d & 0xfff);
		break;
	case 8:
		service_end(conn, 1);
		break;
	case 9:
		service_end(conn, 2);
		break;
	case 10:
		service_end(conn, 3);
		break;
	case 11:
		bw_tcp_wake(conn);
		break;
	case 12:
		bw_tcp_set_timer(conn, step->d == 0 ? BW_NEVER : w.now + step->d * BW_NS_PER_MS);
		break;
	default:
		for (unsigned i = 0; i <= (step->b & 15u); i++)
			service_send(conn, step->d & 255);
		break;
	}
}

static void step_time(struct peer *p, const struct step *step)
{
	bw_ns next = bw_tcp_next_deadline(w.tcp);

	switch (step->a & 3) {
	case 0:
		advance(step->d * 10 * BW_NS_PER_US);
		break;
	case 1:
		advance(step->d * BW_NS_PER_MS);
		break;
	case 2: /* on the dot, and a little before */
		if (next != BW_NEVER && next > w.now + step->e)
			advance(next - w.now - (step->e & 1 ? step->e : 0));
		break;
	default:
		advance((step->d & 1023) * BW_NS_PER_SEC);
		break;
	}
}

static void step_buffers(const struct step *step)
{
	switch (step->a & 7) {
	case 0: /* all but a few are gone */
		while (w.hoarded < MBUFS && rte_mempool_avail_count(pool) > step->d % 64u) {
			struct rte_mbuf *m = rte_pktmbuf_alloc(pool);

			BW_ASSERT(m != NULL);
			w.hoard[w.hoarded++] = m;
		}
		break;
	case 1:
	case 2:
		rte_pktmbuf_free_bulk(w.hoard, w.hoarded);
		w.hoarded = 0;
		break;
	case 3:
		w.pool_is_watched = false;
		bw_tcp_set_pressure(w.tcp, step->d % BW_TCP_PRESSURE_COUNT);
		break;
	case 4:
		w.pool_is_watched = true;
		break;
	case 5:
		w.driver_holds = true;
		break;
	case 6:
		driver_releases();
		break;
	default:
		while (w.hold_count > step->d % (BW_ARRAY_LEN(w.holds) + 1))
			release_hold();
		break;
	}
}

static void set_syn_options(struct segment *s, const struct step *step)
{
	s->f.has_mss = step->a & 1;
	s->f.mss = step->e != 0 ? step->e : 1460;
	s->f.has_wscale = step->a & 2;
	s->f.wscale = step->b & 15;
	s->f.has_sack_permitted = step->a & 4;
	s->f.has_timestamp = step->a & 8;
	s->f.ts_value = (uint32_t)(w.now / BW_NS_PER_MS);
}

/** We open. The peer's options are as in handshake(). */
static void step_connect(struct peer *p, const struct step *step)
{
	struct bw_tcp_conn *conn;
	struct segment s;

	if (p->conn != NULL)
		return;
	flush_burst();
	next_isn();
	conn = bw_tcp_connect(w.tcp, w.now, 0, &p->flow);
	if (conn == NULL)
		return;
	serve(conn, p);
	collect();
	if (!p->is_called || (step->a & 0x20))
		return;
	s = usual(p, step->a & 0x40 ? SYN : SYN | ACK);
	s.f.seq = p->iss + step->d;
	set_syn_options(&s, step);
	send_segment(p, &s);
	flush_burst();
	advance(step->c * BW_NS_PER_MS);
	send_data(p, step->a & 16 ? 100 : 0, 0);
}

static void handshake(struct peer *p, bw_seq iss, const struct step *step)
{
	struct segment syn = { .f = { .flags = SYN, .seq = iss, .window = 65535 } };
	unsigned generation = p->generation;

	if (p->conn != NULL)
		return;
	set_syn_options(&syn, step);
	syn.f.mss = step->d != 0 ? step->d : 1460;
	send_segment(p, &syn);
	flush_burst();
	if (p->generation == generation)
		return; /* refused */
	advance(step->c * BW_NS_PER_MS);
	send_data(p, step->a & 16 ? 100 : 0, 0);
}

static void run_step(const struct step *step)
{
	struct peer *p = &w.peers[step->op >> 6];

	switch (step->op & 31) {
	case 0 ... 5:
		send_data(p, step->d % 3000, step->a & (FIN | PSH));
		break;
	case 6 ... 11:
		step_segment(p, step);
		break;
	case 12 ... 15:
		step_ack(p, step);
		break;
	case 16 ... 18:
		step_time(p, step);
		break;
	case 19 ... 23:
		if (p->conn != NULL)
			step_service(p->conn, step);
		break;
	case 24:
	case 25:
		step_buffers(step);
		break;
	case 26:
		w.mode = step->a;
		break;
	case 27:
		bw_tcp_icmp_error(w.tcp, w.now, &p->flow,
			p->our_iss + 1 + (step->a & 2 ? p->our_end - step->e : p->our_end + step->e),
			step->a & 1, step->d);
		break;
	case 28: /* a new number, as if the peer had been started anew */
		handshake(p, p->iss + step->d * 65536u + step->e, step);
		break;
	case 29:
		handshake(p, p->iss, step);
		break;
	case 30: /* what is lost is not known to be lost */
		p->next += p->next + step->d < STREAM_MAX / 2 ? step->d % 5000 : 0;
		break;
	default:
		if (step->a == 0x55 && step->b == 0x55)
			bw_tcp_unlisten_all(w.tcp);
		else
			step_connect(p, step);
		break;
	}
	if (!(step->op & 0x20))
		flush_burst();
	collect();
}

/* ---- the end ------------------------------------------------------------------------------------------- */

/** What a peer of good will does in a round trip: sends what is missing, and takes what there is. */
static void behave(struct peer *p, uint8_t flags)
{
	struct segment s = usual(p, ACK | flags);
	uint32_t end = BW_MAX(p->sent_end, p->next);

	for (uint32_t at = p->acked; at < end; at += s.len) {
		uint32_t room = p->our_window > at ? p->our_window - at : 0;

		s = usual(p, ACK);
		s.f.seq = p->iss + 1 + at;
		room = BW_MIN(room, 1000u);
		s.len = BW_MIN(end - at, room);
		if (s.len == 0)
			break;
		send_segment(p, &s);
		if (p->acked > at + s.len)
			s.len = p->acked - at;
	}
	/* Who has sent beyond a FIN of its own is heard only within the window. */
	s = usual(p, ACK | (end <= p->our_window ? flags : 0));
	end = BW_MIN(end, p->our_window);
	s.f.seq = p->iss + 1 + BW_MAX(end, p->acked);
	send_segment(p, &s);
}

static void settle(struct peer *p)
{
	const struct bw_tcp_conn *ended = NULL;
	unsigned rounds = 0;

	w.ticks_left = TICKS_MAX;
	while (p->conn != NULL && w.ticks_left > 0) {
		bw_ns next = bw_tcp_next_deadline(w.tcp);

		if (p->conn != ended) {
			ended = p->conn;
			service_end(p->conn, 2);
		}
		behave(p, rounds > 3 ? FIN : 0);
		next = BW_MAX(next, w.now + BW_NS_PER_MS);
		advance(BW_MIN(next - w.now, 200 * BW_NS_PER_MS));
		BW_ASSERT_LT(++rounds, 1000);
	}
}

static void begin_world(struct fuzz_input *in)
{
	static const uint32_t bounds[] = { 0, 65536, 3000, 200000, 16384, 1000, 100, 8 };
	static const bw_seq isses[] = { 1000000, 0xfffffff0, 0x7ffffff0, 0xfffe0000 };
	uint8_t a = fuzz_u8(in), b = fuzz_u8(in), c = fuzz_u8(in), d = fuzz_u8(in);
	struct bw_tcp_listener listener = {
		.ops = &ops,
		.port = PORT,
		.nagle = a & 1,
		.recv_bytes_max = bounds[b & 7],
		.send_bytes_max = bounds[b >> 3 & 7],
		.keepalive_idle_ns = a & 2 ? 10 * BW_NS_PER_SEC : 0,
	};

	bw_tcp_conf_init(&w.conf);
	w.conf.connections_max = 1 + (d & 3);
	w.conf.half_open_max = 2;
	w.conf.time_wait_max = 1 + (d >> 2 & 3);
	w.conf.state_bytes = sizeof(struct served);
	w.conf.can_multi_segment = !(a & 4);
	if (!(a & 4) && (a & 8))
		w.conf.tso_bytes_max = 1500u << (d >> 4 & 5);
	w.conf.mtu = a & 16 ? (a & 32 ? 576 : 9000) : 1500;
	w.conf.reassembly_bytes_max = a & 64 ? 10000 : 0;
	w.conf.mss_min = 64;
	w.conf.pool = pool;
	w.conf.counters = &w.counters;
	w.conf.secret = (struct bw_siphash_key){ { 1, 2 } };
	w.recv_max = listener.recv_bytes_max != 0 ? listener.recv_bytes_max : w.conf.recv_bytes_max;
	w.mode = fuzz_u8(in);
	w.now = START;
	w.ticks_left = TICKS_MAX;
	w.pool_is_watched = true;
	for (unsigned i = 0; i < PEERS; i++) {
		struct peer *p = &w.peers[i];
		bool is_v6 = (c >> 2 ^ i) & 1;

		p->was_sent = stream[i];
		p->iss = isses[c & 3] + i;
		BW_ASSERT_EQ(bw_ip_parse(is_v6 ? "2001:db8::1" : "192.0.2.1", &p->flow.local), 0);
		BW_ASSERT_EQ(bw_ip_parse(is_v6 ? "2001:db8::2" : "192.0.2.2", &p->flow.remote), 0);
		p->flow.local_port_be = __builtin_bswap16(PORT);
		p->flow.remote_port_be = __builtin_bswap16((uint16_t)(40000 + i));
	}
	w.tcp = bw_tcp_create(&w.conf, w.now);
	BW_ASSERT(w.tcp != NULL);
	BW_ASSERT_EQ(bw_tcp_listen(w.tcp, &listener), 0); /* its number, too */
	in->at += BW_MIN(fuzz_left(in), (size_t)3);
	/* Most of what there is to find needs a connection. */
	if (!(c & 0x80))
		handshake(&w.peers[0], w.peers[0].iss, &(struct step){ .a = 13 | (c >> 3 & 31), .b = 7 });
}

static void end_world(void)
{
	flush_burst();
	rte_pktmbuf_free_bulk(w.hoard, w.hoarded);
	w.hoarded = 0;
	driver_releases();
	while (w.hold_count > 0)
		release_hold();
	w.pool_is_watched = true;
	w.mode = 2;
	for (unsigned i = 0; i < PEERS; i++)
		settle(&w.peers[i]);
	bw_tcp_destroy(w.tcp);
	for (unsigned i = 0; i < PEERS; i++) {
		BW_ASSERT_EQ(w.peers[i].opened, w.peers[i].closed);
		memset(w.peers[i].was_sent, 0, w.peers[i].sent_end);
	}
	BW_ASSERT_EQ(w.references, 0);
	BW_ASSERT_EQ(rte_mempool_in_use_count(pool), 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, data + size };

	memset(&w, 0, sizeof(w));
	w.is_traced = getenv("FUZZ_TRACE") != NULL;
	begin_world(&in);
	for (unsigned i = 0; i < STEPS_MAX && fuzz_left(&in) >= 8; i++) {
		struct step step = {
			.op = fuzz_u8(&in), .a = fuzz_u8(&in), .b = fuzz_u8(&in), .c = fuzz_u8(&in)
		};

		step.d = fuzz_u16(&in);
		step.e = fuzz_u16(&in);
		run_step(&step);
	}
	end_world();
	return 0;
}

/* ---- mutations: of whole steps as well as of bytes ------------------------------------------------------- */
#ifdef BW_FUZZ

#define STEP_BYTES 8

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size,
	uint8_t *out, size_t out_max, unsigned seed);

static uint32_t draw(unsigned *seed, uint32_t bound)
{
	*seed = *seed * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)(*seed ^ *seed >> 15) * bound >> 32);
}

/** Mostly zero, which is the usual. */
static void draw_step(unsigned *seed, uint8_t *step)
{
	step[0] = (uint8_t)draw(seed, draw(seed, 8) == 0 ? 256 : 64);
	for (unsigned i = 1; i < STEP_BYTES; i++)
		step[i] = draw(seed, 2) == 0 ? 0 : (uint8_t)draw(seed, 256);
	if ((step[0] & 31) >= 6 && (step[0] & 31) <= 11 && draw(seed, 4) != 0)
		step[1] |= ACK;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
	size_t steps = size / STEP_BYTES, at, run;

	if (steps < 2 || draw(&seed, 8) == 0)
		return LLVMFuzzerMutate(data, size, max_size);
	at = STEP_BYTES * (1 + draw(&seed, (uint32_t)steps - 1)); /* the first is the header */
	run = STEP_BYTES * (1 + draw(&seed, 4));
	switch (draw(&seed, 6)) {
	case 0:
	case 1: /* another step */
		if (size + STEP_BYTES > max_size)
			break;
		memmove(data + at + STEP_BYTES, data + at, size - at);
		draw_step(&seed, data + at);
		return size + STEP_BYTES;
	case 2: /* some again */
		if (at + run > size || size + run > max_size)
			break;
		memmove(data + at + run, data + at, size - at);
		return size + run;
	case 3: /* without some */
		if (at + run > size)
			break;
		memmove(data + at, data + at + run, size - at - run);
		return size - run;
	case 4: /* in another order */
		if (at + 2 * STEP_BYTES <= size) {
			uint8_t kept[STEP_BYTES];

			memcpy(kept, data + at, STEP_BYTES);
			memcpy(data + at, data + at + STEP_BYTES, STEP_BYTES);
			memcpy(data + at + STEP_BYTES, kept, STEP_BYTES);
		}
		return size;
	default:
		break;
	}
	LLVMFuzzerMutate(data + at, STEP_BYTES, STEP_BYTES);
	return size;
}

/** The beginning of one, and steps of the other. */
size_t LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size,
	uint8_t *out, size_t out_max, unsigned seed)
{
	size_t head = STEP_BYTES * draw(&seed, (uint32_t)(a_size / STEP_BYTES) + 1);
	size_t tail = STEP_BYTES * draw(&seed, (uint32_t)(b_size / STEP_BYTES) + 1);

	head = BW_MIN(head, out_max);
	memcpy(out, a, head);
	tail = BW_MIN(tail, b_size > STEP_BYTES ? b_size - STEP_BYTES : 0);
	tail = BW_MIN(tail, out_max - head);
	memcpy(out + head, b + b_size - tail, tail);
	return head + tail;
}

#endif
