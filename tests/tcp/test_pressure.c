/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * More connections than buffers: one stack, a crowd of peers, one small pool that the device receives into as well.
 * A turn is what the engine's is. Peers are models of a few fields: they ask, repeat what is not acknowledged, and
 * acknowledge what comes, or do not.
 */
#include "harness.h"

#define MBUFS       1023
#define RESERVE     128 /* as the engine has: two bursts, and answers to them */
#define BURST       32
#define CROWD_MAX   4000
#define WIRE_FRAMES 8192 /* on their way to us; what is more is lost */
#define TURN_NS     (50 * BW_NS_PER_US)
#define ACK_NS      MS(40)
#define RTO_NS      MS(200)
#define DRIP_NS     MS(700)

/** What a peer does. */
enum manners {
	ANSWERS,     /* as it should */
	VANISHED,    /* after it has asked, it is never heard of again */
	SHUTS,       /* its window is 0, and it answers probes */
	PINGS_AFTER, /* it acknowledges what it has, often, but never ends its request */
	FAR,         /* as it should, from far away */
	DRIPS,       /* as it should, but it asks in single bytes, some time apart, and begins again */
};

struct peer_of_many {
	enum manners manners;
	bool is_established, is_over, is_reset;
	bw_seq iss, our_next, next; /* ours: what it has received; its own: what it sends next */
	uint32_t asked, answered;   /* bytes */
	uint32_t wants;             /* bytes, by reference; 0: its message, copied */
	bw_ns ask_at, ack_at, rto_ns;
};

struct frame {
	bw_ns at;
	uint16_t from;
	uint8_t flags;
	uint16_t len;
	bw_seq seq, ack;
};

static struct {
	struct bw_tcp *tcp;
	struct bw_counters counters;
	struct rte_mempool *pool;
	bw_ns now;
	unsigned peers, opened, closed, writable;
	struct peer_of_many peer[CROWD_MAX];
	struct frame frame[WIRE_FRAMES];
	unsigned first, count; /* of frames, in the order of their times */
	unsigned never_received;
	unsigned free_least; /* buffers, after any turn */
	bool is_link_down;
} crowd;

static struct rte_mempool *small;

/* ---- the service: echo, of whole messages of 8 bytes ------------------------------------------------------ */

#define MESSAGE       "question"
#define TWO_SEGMENTS  2920
#define FOUR_SEGMENTS 5840

static const uint8_t document[FOUR_SEGMENTS];

static struct peer_of_many *peer_of(const struct bw_tcp_conn *conn)
{
	return &crowd.peer[__builtin_bswap16(bw_tcp_flow(conn)->remote_port_be) - 10000u];
}

static void answer(struct bw_tcp_conn *conn)
{
	uint32_t wants = peer_of(conn)->wants;

	while (wants != 0 && bw_tcp_unread(conn) >= 8) {
		if (bw_tcp_send_ref(conn, document, wants, NULL, NULL) != 0)
			return;
		bw_tcp_consume(conn, 8);
	}
	while (bw_tcp_unread(conn) >= 8) {
		const uint8_t *bytes = bw_tcp_pullup(conn, 8);
		void *room = bytes != NULL ? bw_tcp_send_reserve(conn, 8) : NULL;

		if (room == NULL)
			return;
		memcpy(room, bytes, 8);
		bw_tcp_send_commit(conn, 8);
		bw_tcp_consume(conn, 8);
	}
}

static void on_opened(struct bw_tcp_conn *conn)
{
	(void)conn;
	crowd.opened++;
}

static void on_writable(struct bw_tcp_conn *conn)
{
	crowd.writable++;
	answer(conn);
}

static void on_closed(struct bw_tcp_conn *conn, enum bw_tcp_end end)
{
	(void)conn;
	(void)end;
	crowd.closed++;
}

static const struct bw_tcp_ops ops = {
	.opened = on_opened,
	.data = answer,
	.writable = on_writable,
	.closed = on_closed,
};

/* ---- the wire --------------------------------------------------------------------------------------------- */

static struct bw_flow flow_of(unsigned i)
{
	struct bw_flow flow = { .local_port_be = __builtin_bswap16(PORT),
		.remote_port_be = __builtin_bswap16((uint16_t)(10000 + i)) };

	flow.local = bw_ip_from_v4(__builtin_bswap32(0xc0000201));
	flow.remote = bw_ip_from_v4(__builtin_bswap32(0xc0000202));
	return flow;
}

/** A peer sends. */
static void sends(unsigned i, uint8_t flags, bw_seq seq, uint16_t len)
{
	struct peer_of_many *p = &crowd.peer[i];

	if (crowd.count == WIRE_FRAMES)
		return;
	crowd.frame[(crowd.first + crowd.count++) % WIRE_FRAMES] = (struct frame){ .at = crowd.now,
		.from = (uint16_t)i,
		.flags = flags,
		.len = len,
		.seq = seq,
		.ack = p->our_next };
}

static bool receive(const struct frame *f, struct bw_pkt *pkt)
{
	const unsigned headers = 54;

	*pkt = (struct bw_pkt){
		.m = rte_pktmbuf_alloc(crowd.pool),
		.flow = flow_of(f->from),
		.kind = BW_PKT_TCP,
		.payload_off = headers,
		.payload_len = f->len,
		.tcp = {
			.seq = f->seq,
			.ack = f->ack,
			.window = crowd.peer[f->from].manners == SHUTS && !(f->flags & SYN) ? 0 : 65535,
			.flags = f->flags,
			.has_mss = f->flags & SYN,
			.mss = 1460,
		},
	};
	if (pkt->m == NULL)
		return false;
	pkt->hash = bw_flow_hash(&pkt->flow);
	rte_pktmbuf_append(pkt->m, headers);
	memcpy(rte_pktmbuf_append(pkt->m, f->len), MESSAGE, f->len);
	return true;
}

/** What peer `i` makes of a packet. */
static void peer_receives(unsigned i, const struct bw_tcp_fields *f, uint32_t len)
{
	struct peer_of_many *p = &crowd.peer[i];

	if (p->is_over || p->manners == VANISHED) {
		p->is_reset |= !!(f->flags & RST);
		if (p->is_established)
			return;
	}
	if (f->flags & RST) {
		p->is_over = p->is_reset = true;
		return;
	}
	if (f->flags & SYN) {
		p->is_established = true;
		p->our_next = f->seq + 1;
		p->next = p->iss + 1;
		sends(i, ACK, p->next, 0);
		return;
	}
	if (bw_seq_gt(f->ack, p->next)) {
		p->next = f->ack;
		p->ask_at = BW_NEVER;
	}
	if (p->manners == SHUTS) {
		sends(i, ACK, p->next, 0); /* a probe, or anything else */
		return;
	}
	if (f->seq == p->our_next && len != 0) {
		p->our_next += len;
		p->answered += len;
		if (p->ack_at == BW_NEVER)
			p->ack_at = crowd.now + (p->manners == FAR ? MS(700) : ACK_NS);
	}
}

static void collect_crowd(void)
{
	struct bw_tcp_packet packets[64];
	unsigned count;

	do {
		count = bw_tcp_output(crowd.tcp, crowd.now, packets, BW_ARRAY_LEN(packets));
		for (unsigned i = 0; i < count; i++) {
			struct rte_mbuf *m = packets[i].m;
			uint8_t header[60];
			struct bw_tcp_fields fields;

			memcpy(header, rte_pktmbuf_mtod(m, void *), m->l4_len);
			bw_tcp_fields_parse(header, m->l4_len, &fields);
			peer_receives(__builtin_bswap16(packets[i].flow.remote_port_be) - 10000u, &fields,
				m->pkt_len - (uint32_t)m->l4_len);
			rte_pktmbuf_free(m);
		}
	} while (count == BW_ARRAY_LEN(packets));
}

static void input_burst(void)
{
	struct bw_pkt pkt[BURST], *burst[BURST];
	unsigned count = 0;

	while (count < BURST && crowd.count != 0) {
		if (!receive(&crowd.frame[crowd.first], &pkt[count])) {
			crowd.never_received++;
			break;
		}
		burst[count] = &pkt[count];
		count++;
		crowd.first = (crowd.first + 1) % WIRE_FRAMES;
		crowd.count--;
	}
	bw_tcp_input(crowd.tcp, crowd.now, burst, count);
}

/** What a peer does by itself. */
static void peer_timers(unsigned i)
{
	struct peer_of_many *p = &crowd.peer[i];

	if (p->is_over || !p->is_established)
		return;
	if (crowd.now >= p->ask_at) {
		uint16_t len = p->manners == PINGS_AFTER ? 3 : p->manners == DRIPS ? 1 : 8;

		p->asked = 8;
		sends(i, ACK | PSH, p->next, len);
		p->ask_at = p->manners == VANISHED ? BW_NEVER : crowd.now + p->rto_ns;
		p->rto_ns *= 2;
	}
	if (p->manners == DRIPS && p->ask_at == BW_NEVER)
		p->ask_at = crowd.now + DRIP_NS;
	if (p->manners == VANISHED)
		return;
	if (p->manners == PINGS_AFTER && p->asked != 0 && p->ask_at == BW_NEVER && p->ack_at == BW_NEVER)
		p->ack_at = crowd.now + MS(100);
	if (crowd.now >= p->ack_at) {
		p->ack_at = BW_NEVER;
		sends(i, ACK, p->next, 0);
	}
}

static void turn(void)
{
	unsigned left = rte_mempool_avail_count(crowd.pool);

	crowd.now += crowd.count != 0 ? TURN_NS : TURN_NS * 10;
	for (unsigned i = 0; i < crowd.peers; i++)
		if (crowd.now >= BW_MIN(crowd.peer[i].ask_at, crowd.peer[i].ack_at) ||
			crowd.peer[i].manners == PINGS_AFTER || crowd.peer[i].manners == DRIPS)
			peer_timers(i);
	left -= BW_MIN(left, (unsigned)RESERVE);
	bw_tcp_set_buffers(crowd.tcp, left, left, MBUFS);
	bw_tcp_set_link(crowd.tcp, !crowd.is_link_down);
	input_burst();
	bw_tcp_timers(crowd.tcp, crowd.now);
	collect_crowd();
	crowd.free_least = BW_MIN(crowd.free_least, rte_mempool_avail_count(crowd.pool));
}

static void turns_until(bw_ns at)
{
	while (crowd.now < at)
		turn();
}

/* ---- a crowd ---------------------------------------------------------------------------------------------- */

/** `count` more, which connect. */
static void connect_peers(unsigned count, enum manners manners)
{
	unsigned first = crowd.peers, opened = crowd.opened;
	bw_ns until = crowd.now + S(1);

	crowd.peers += count;
	assert_true(crowd.peers <= CROWD_MAX);
	for (unsigned i = first; i < crowd.peers; i++) {
		crowd.peer[i] = (struct peer_of_many){ .manners = manners,
			.iss = 1000 * i,
			.ask_at = BW_NEVER,
			.ack_at = BW_NEVER,
			.rto_ns = RTO_NS };
		sends(i, SYN, crowd.peer[i].iss, 0);
		if ((i & 15) == 15)
			turn();
	}
	while (crowd.opened < opened + count && crowd.now < until)
		turn();
	assert_int_equal(crowd.opened, opened + count);
}

static void make_crowd(unsigned count, enum manners manners)
{
	struct bw_tcp_conf conf;

	memset(&crowd, 0, sizeof(crowd));
	crowd.pool = small;
	crowd.now = START;
	crowd.free_least = MBUFS;
	bw_tcp_conf_init(&conf);
	conf.pool = small;
	conf.counters = &crowd.counters;
	conf.connections_max = conf.half_open_max = CROWD_MAX;
	conf.can_multi_segment = true;
	crowd.tcp = bw_tcp_create(&conf, crowd.now);
	assert_non_null(crowd.tcp);
	assert_int_equal(bw_tcp_listen(crowd.tcp, &(struct bw_tcp_listener){ .ops = &ops, .port = PORT }), 0);
	connect_peers(count, manners);
}

static void all_ask(void)
{
	for (unsigned i = 0; i < crowd.peers; i++)
		crowd.peer[i].ask_at = crowd.now;
}

/** Peer `i` asks, now. */
static void asks(unsigned i)
{
	struct frame f = { .from = (uint16_t)i,
		.flags = ACK,
		.len = 8,
		.seq = crowd.peer[i].next,
		.ack = crowd.peer[i].our_next };
	struct bw_pkt pkt, *burst[] = { &pkt };

	assert_true(receive(&f, &pkt));
	bw_tcp_input(crowd.tcp, crowd.now, burst, 1);
}

/** Without pressure, and with no buffer to be had for an answer. */
static void all_ask_in_vain(void)
{
	for (unsigned i = 0; i < crowd.peers; i++) {
		bw_tcp_set_buffers(crowd.tcp, 0, 0, 0);
		asks(i);
	}
}

static unsigned answered(void)
{
	unsigned count = 0;

	for (unsigned i = 0; i < crowd.peers; i++)
		count += crowd.peer[i].answered == 8;
	return count;
}

/** Somebody comes who has nothing to do with it, and is answered at once. */
static void newcomer_is_answered(void)
{
	unsigned i = crowd.peers;
	bw_ns until;

	connect_peers(1, ANSWERS);
	crowd.peer[i].ask_at = crowd.now;
	until = crowd.now + MS(2);
	turns_until(until);
	assert_int_equal(crowd.peer[i].answered, 8);
}

/** One who is refused at first asks again and again, later and later as a SYN is repeated, or not, and comes in. */
static void newcomer_comes_in(bw_ns within, bool backs_off)
{
	unsigned i = crowd.peers++;
	bw_ns began = crowd.now;

	crowd.peer[i] =
		(struct peer_of_many){ .iss = 77, .ask_at = BW_NEVER, .ack_at = BW_NEVER, .rto_ns = RTO_NS };
	for (unsigned tries = 0; !crowd.peer[i].is_established && crowd.now - began < S(60); tries++) {
		bw_ns next_at = crowd.now + (S(1) << (backs_off ? tries : 0));

		sends(i, SYN, 77, 0);
		while (crowd.now < next_at && !crowd.peer[i].is_established)
			turn();
	}
	assert_true(crowd.peer[i].is_established);
	assert_true(crowd.now - began < within);
	crowd.peer[i].ask_at = crowd.now;
	turns_until(crowd.now + MS(2));
	assert_int_equal(crowd.peer[i].answered, 8);
}

/** Also where a story fails: the next one wants its buffers. */
static int disperse(void **state)
{
	(void)state;
	bw_tcp_destroy(crowd.tcp);
	crowd.tcp = NULL;
	return 0;
}

static void crowd_is_done(void)
{
	disperse(NULL);
	assert_int_equal(rte_mempool_in_use_count(small), 0);
	assert_int_equal(crowd.never_received, 0);
}

#define COUNT(which) crowd.counters.value[BW_##which]

static void abort_it(struct bw_tcp_conn *conn, void *arg)
{
	(void)arg;
	bw_tcp_abort(conn);
}

static void say(struct bw_tcp_conn *conn, void *arg)
{
	(void)arg;
	assert_int_equal(bw_tcp_send(conn, MESSAGE, 8), 8);
}

/* ---- stories ---------------------------------------------------------------------------------------------- */

/** Each holds an answer that is not acknowledged yet, and there are more of them than buffers. Nobody is broken. */
TEST(all_ask_at_once)
{
	make_crowd(3000, ANSWERS);
	all_ask();
	turns_until(crowd.now + S(4));
	assert_int_equal(answered(), 3000);
	assert_int_equal(COUNT(TCP_PRESSURE_RESETS), 0);
	assert_true(COUNT(TCP_PRESSURE_DROPS) > 0);
	newcomer_is_answered();
	crowd_is_done();
}

/** Cutting what was sent by reference takes a buffer for each segment: that, too, leaves the reserve alone. */
TEST(cuts_take_what_is_granted)
{
	make_crowd(1000, ANSWERS);
	for (unsigned i = 0; i < crowd.peers; i++)
		crowd.peer[i].wants = TWO_SEGMENTS;
	all_ask();
	turns_until(crowd.now + S(4));
	for (unsigned i = 0; i < crowd.peers; i++)
		assert_int_equal(crowd.peer[i].answered, TWO_SEGMENTS);
	assert_int_equal(COUNT(TCP_PRESSURE_RESETS), 0);
	assert_int_equal(crowd.free_least, RESERVE);
	newcomer_is_answered();
	crowd_is_done();
}

/** Who is far away is not taken for dead: the round trip says that it is early. */
TEST(far_peers_are_waited_for)
{
	make_crowd(2000, FAR);
	for (unsigned i = 0; i < crowd.peers; i++)
		crowd.peer[i].rto_ns = MS(1500);
	all_ask();
	turns_until(crowd.now + S(8));
	assert_int_equal(answered(), 2000);
	assert_int_equal(COUNT(TCP_PRESSURE_RESETS), 0);
	newcomer_is_answered();
	crowd_is_done();
}

/** All buffers are held by answers that nobody will acknowledge, no one of which is more than any other. */
TEST(vanished_peers_give_way)
{
	unsigned reset = 0;

	make_crowd(1500, VANISHED);
	all_ask();
	turns_until(crowd.now + MS(100));
	for (unsigned i = 0; i < 500; i++)
		assert_false(crowd.peer[i].is_reset);
	/* Those that come now are refused, those that were there are not answered. */
	crowd.peer[1499].manners = ANSWERS;
	crowd.peer[1499].ask_at = crowd.now;
	turns_until(crowd.now + MS(50));
	assert_int_equal(crowd.peer[1499].answered, 0);
	turns_until(crowd.now + S(4));
	assert_int_equal(crowd.peer[1499].answered, 8);
	for (unsigned i = 0; i < crowd.peers; i++)
		reset += crowd.peer[i].is_reset;
	assert_true(reset > 0);
	assert_int_equal(COUNT(TCP_PRESSURE_RESETS), reset);
	crowd_is_done();
}

/** They hold seven eighths of the buffers for ever: then new connections come in, if they go on asking. */
TEST(vanished_peers_do_not_keep_others_out)
{
	make_crowd(1500, VANISHED);
	all_ask();
	turns_until(crowd.now + S(1));
	newcomer_comes_in(S(20), true);
	crowd_is_done();
}

/** Nobody asks for anything, so nobody is broken for it. */
TEST(nothing_is_broken_for_nobody)
{
	make_crowd(800, VANISHED);
	all_ask();
	turns_until(crowd.now + S(15));
	assert_int_equal(COUNT(TCP_PRESSURE_RESETS), 0);
	crowd_is_done();
}

/** While the link is down nobody can answer, nor just after: it is not held against them. */
TEST(links_that_are_down_break_nobody)
{
	make_crowd(1500, VANISHED);
	all_ask();
	turns_until(crowd.now + MS(50));
	crowd.is_link_down = true;
	crowd.peer[1499].manners = ANSWERS;
	crowd.peer[1499].ask_at = crowd.now;
	turns_until(crowd.now + S(12));
	assert_int_equal(COUNT(TCP_PRESSURE_RESETS), 0);
	crowd.is_link_down = false;
	crowd.peer[1499].ask_at = crowd.now;
	turns_until(crowd.now + MS(900));
	assert_int_equal(COUNT(TCP_PRESSURE_RESETS), 0);
	crowd.peer[1499].rto_ns = MS(100);
	crowd.peer[1499].ask_at = crowd.now;
	turns_until(crowd.now + S(2));
	assert_true(COUNT(TCP_PRESSURE_RESETS) > 0);
	assert_int_equal(crowd.peer[1499].answered, 8);
	crowd_is_done();
}

/** A shut window is an answer, and no use. */
TEST(shut_windows_give_way)
{
	make_crowd(1500, SHUTS);
	all_ask();
	turns_until(crowd.now + MS(100));
	crowd.peer[1499].manners = ANSWERS;
	crowd.peer[1499].ask_at = crowd.now;
	turns_until(crowd.now + S(6));
	assert_int_equal(crowd.peer[1499].answered, 8);
	assert_true(COUNT(TCP_PRESSURE_RESETS) > 0);
	crowd_is_done();
}

/** Each holds a piece of a request, and shows every tenth of a second that it is there. */
TEST(who_moves_a_little_cannot_keep_all)
{
	make_crowd(1500, PINGS_AFTER);
	all_ask();
	turns_until(crowd.now + MS(100));
	crowd.peer[1499].manners = ANSWERS;
	crowd.peer[1499].ask_at = crowd.now;
	turns_until(crowd.now + S(8));
	assert_int_equal(crowd.peer[1499].answered, 8);
	assert_true(COUNT(TCP_PRESSURE_RESETS) > 0);
	crowd_is_done();
}

/** The same with buffers left, which are not for newcomers: whatever it is, it is no use. */
TEST(signs_of_life_do_not_keep_others_out)
{
	make_crowd(860, PINGS_AFTER);
	all_ask();
	turns_until(crowd.now + S(30)); /* nobody wants anything */
	assert_int_equal(COUNT(TCP_PRESSURE_RESETS), 0);
	newcomer_comes_in(S(20), true);
	crowd_is_done();
}

/** Each does make use of its buffer, slowly. In the end newcomers come in, and only as many are broken for them. */
TEST(slow_peers_do_not_keep_others_out)
{
	make_crowd(930, DRIPS); /* an eighth of them holds nothing, waiting to begin again */
	for (unsigned i = 0; i < crowd.peers; i++)
		crowd.peer[i].ask_at = crowd.now + i * (8 * DRIP_NS / 930);
	turns_until(crowd.now + S(30));
	assert_int_equal(COUNT(TCP_PRESSURE_RESETS), 0);
	newcomer_comes_in(S(20), false); /* as several */
	assert_true(COUNT(TCP_PRESSURE_RESETS) > 0);
	assert_true(COUNT(TCP_PRESSURE_RESETS) < MBUFS / 8);
	crowd_is_done();
}

/** One holds more than any other, all of it on its way: those that nobody acknowledges make room, not it. */
TEST(who_makes_use_of_much_outlives_who_is_gone)
{
	unsigned large;

	make_crowd(100, ANSWERS);
	connect_peers(1, FAR);
	large = crowd.peers - 1;
	connect_peers(800, VANISHED);
	for (unsigned i = large + 1; i < crowd.peers; i++)
		crowd.peer[i].ask_at = crowd.now;
	turns_until(crowd.now + S(5));
	assert_int_equal(COUNT(TCP_PRESSURE_RESETS), 0);
	crowd.peer[large].wants = FOUR_SEGMENTS;
	crowd.peer[large].ask_at = crowd.now;
	crowd.peer[large].rto_ns = S(2);
	turns_until(crowd.now + MS(1));
	for (unsigned i = 0; i < large; i++)
		crowd.peer[i].ask_at = crowd.now;
	turns_until(crowd.now + S(4));
	for (unsigned i = 0; i < large; i++)
		assert_int_equal(crowd.peer[i].answered, 8);
	assert_int_equal(crowd.peer[large].answered, FOUR_SEGMENTS);
	assert_false(crowd.peer[large].is_reset);
	assert_true(COUNT(TCP_PRESSURE_RESETS) > 0);
	crowd_is_done();
}

/** The link was away, so nobody is known to be gone; but who asks now is not the one to make room for the others. */
TEST(who_asks_outlives_who_is_gone_with_the_link)
{
	const unsigned others = 48;

	make_crowd(others, ANSWERS);
	connect_peers(600, VANISHED);
	for (unsigned i = 0; i < crowd.peers; i++)
		crowd.peer[i].wants = FOUR_SEGMENTS;
	for (unsigned i = others; i < crowd.peers; i++)
		crowd.peer[i].ask_at = crowd.now;
	turns_until(crowd.now + MS(50));
	crowd.is_link_down = true;
	turns_until(crowd.now + S(1));
	crowd.is_link_down = false;
	for (unsigned i = 0; i < others; i++)
		crowd.peer[i].ask_at = crowd.now;
	turns_until(crowd.now + S(8));
	for (unsigned i = 0; i < others; i++) {
		assert_false(crowd.peer[i].is_reset);
		assert_int_equal(crowd.peer[i].answered, FOUR_SEGMENTS);
	}
	assert_true(COUNT(TCP_PRESSURE_RESETS) > 0);
	crowd_is_done();
}

/** Of those whose service waits for a buffer a few are told in one call, in turn, and nobody in vain. */
TEST(waiting_is_bounded_and_fair)
{
	unsigned before, rounds = 0;

	make_crowd(500, ANSWERS);
	all_ask_in_vain();
	collect_crowd();
	assert_int_equal(answered(), 0);
	assert_int_equal(crowd.writable, 0);
	while (answered() < 500 && rounds++ < 100) {
		bw_tcp_set_buffers(crowd.tcp, 10, 10, 10);
		before = crowd.writable;
		bw_tcp_timers(crowd.tcp, crowd.now);
		assert_int_equal(crowd.writable - before, 10);
		collect_crowd();
	}
	assert_int_equal(rounds, 50);
	assert_int_equal(crowd.writable, 500);
	crowd_is_done();
}

/** Received is into another's pool. Where one of them is used up, the other still does what it is for. */
TEST(two_pools_do_not_stand_for_each_other)
{
	make_crowd(1, ANSWERS);
	/* None to receive: nothing is kept, but who has something to say says it. */
	bw_tcp_set_buffers(crowd.tcp, 1000, 0, 1000);
	asks(0);
	assert_int_equal(COUNT(TCP_PRESSURE_DROPS), 1);
	bw_tcp_foreach(crowd.tcp, say, NULL);
	collect_crowd();
	assert_int_equal(answered(), 1);
	/* None to send: what comes is kept, until there is one for the answer. */
	crowd.peer[0].answered = 0;
	bw_tcp_set_buffers(crowd.tcp, 0, 1000, 1000);
	asks(0);
	assert_int_equal(COUNT(TCP_PRESSURE_DROPS), 1);
	assert_int_equal(rte_mempool_in_use_count(small), 1);
	collect_crowd();
	assert_int_equal(answered(), 0);
	bw_tcp_set_buffers(crowd.tcp, 1000, 1000, 1000);
	bw_tcp_timers(crowd.tcp, crowd.now);
	collect_crowd();
	assert_int_equal(answered(), 1);
	assert_int_equal(COUNT(TCP_PRESSURE_RESETS), 0);
	crowd_is_done();
}

/** A connection that waits for a buffer is reset: there is none, and it gives back what it holds all the same. */
TEST(who_waits_can_be_ended)
{
	make_crowd(300, ANSWERS);
	all_ask_in_vain();
	assert_int_equal(rte_mempool_in_use_count(small), 300);
	bw_tcp_foreach(crowd.tcp, abort_it, NULL);
	for (unsigned i = 0; i < 10; i++) {
		bw_tcp_set_buffers(crowd.tcp, 0, 0, 0);
		bw_tcp_timers(crowd.tcp, crowd.now);
		collect_crowd();
	}
	assert_int_equal(crowd.closed, 300);
	assert_int_equal(rte_mempool_in_use_count(small), 0);
	for (unsigned i = 0; i < 300; i++)
		assert_true(crowd.peer[i].is_reset);
	crowd_is_done();
}

#define STORY(name) cmocka_unit_test_teardown(name, disperse)

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORY(all_ask_at_once),
		STORY(cuts_take_what_is_granted),
		STORY(far_peers_are_waited_for),
		STORY(vanished_peers_give_way),
		STORY(vanished_peers_do_not_keep_others_out),
		STORY(nothing_is_broken_for_nobody),
		STORY(links_that_are_down_break_nobody),
		STORY(shut_windows_give_way),
		STORY(who_moves_a_little_cannot_keep_all),
		STORY(signs_of_life_do_not_keep_others_out),
		STORY(slow_peers_do_not_keep_others_out),
		STORY(who_makes_use_of_much_outlives_who_is_gone),
		STORY(who_asks_outlives_who_is_gone_with_the_link),
		STORY(waiting_is_bounded_and_fair),
		STORY(two_pools_do_not_stand_for_each_other),
		STORY(who_waits_can_be_ended),
	};

	if (harness_start() != 0)
		return 1;
	small = rte_pktmbuf_pool_create(
		"small", MBUFS, 0, BW_MBUF_PRIV_BYTES, RTE_MBUF_DEFAULT_BUF_SIZE, (int)SOCKET_ID_ANY);
	if (small == NULL)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
