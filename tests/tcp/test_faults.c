/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * What breaks around the stack, one thing at a time: an allocation fails, the pool is empty, the device takes
 * nothing, the clock jumps, the peer vanishes, the service gives up. Afterwards everything goes on as if nothing had
 * happened, or ends within its bound, and every mbuf is back.
 *
 * Most of it is told by one exchange, in which both ends say all that they have and close: see exchange().
 */
#include "harness.h"

#define TO_PEER_BYTES   24000u
#define FROM_PEER_BYTES 16000u
#define MSS             1460u
#define STEP            MS(10)
#define DAY             S(86400)
#define GIVES_UP        S(400) /* of an exchange that does not end */

/* ---- a pool whose allocations fail ----------------------------------------------------------------------- */

#define POOL_MBUFS 2047

static struct {
	void *object[POOL_MBUFS + 1];
	unsigned count;
	unsigned allocated;            /* how often somebody asked for one */
	unsigned fails_from, fails_to; /* which of those fail: [from, to) */
	bool is_empty;                 /* all do */
	bool has_failed;
	bw_ns now, failed_at;
} stack;

static struct rte_mempool *faulty;

static int stack_alloc(struct rte_mempool *mp)
{
	mp->pool_data = &stack;
	return 0;
}

static void stack_free(struct rte_mempool *mp)
{
	(void)mp;
}

static int stack_enqueue(struct rte_mempool *mp, void *const *objects, unsigned n)
{
	(void)mp;
	assert_true(stack.count + n <= POOL_MBUFS);
	memcpy(&stack.object[stack.count], objects, n * sizeof(objects[0]));
	stack.count += n;
	return 0;
}

static int stack_dequeue(struct rte_mempool *mp, void **objects, unsigned n)
{
	(void)mp;
	stack.allocated++;
	if (stack.is_empty || (stack.allocated >= stack.fails_from && stack.allocated < stack.fails_to) ||
		stack.count < n) {
		stack.has_failed = true;
		stack.failed_at = stack.now;
		return -ENOBUFS;
	}
	stack.count -= n;
	memcpy(objects, &stack.object[stack.count], n * sizeof(objects[0]));
	return 0;
}

static unsigned stack_count(const struct rte_mempool *mp)
{
	(void)mp;
	return stack.count;
}

static const struct rte_mempool_ops faulty_ops = {
	.name = "bw_faulty",
	.alloc = stack_alloc,
	.free = stack_free,
	.enqueue = stack_enqueue,
	.dequeue = stack_dequeue,
	.get_count = stack_count,
};

static int make_faulty_pool(void)
{
	if (rte_mempool_register_ops(&faulty_ops) < 0)
		return -1;
	faulty = rte_pktmbuf_pool_create_by_ops("faulty", POOL_MBUFS, 0, BW_MBUF_PRIV_BYTES,
		RTE_MBUF_DEFAULT_BUF_SIZE, (int)SOCKET_ID_ANY, "bw_faulty");
	return faulty != NULL ? 0 : -1;
}

static void use_faulty_pool(struct bw_tcp_conf *conf)
{
	conf->pool = faulty;
}

static void use_faulty_pool_and_no_chains(struct bw_tcp_conf *conf)
{
	conf->pool = faulty;
	conf->can_multi_segment = false;
}

/* ---- an exchange ----------------------------------------------------------------------------------------- */

enum fault {
	NONE,
	POOL_EMPTY,
	RING_FULL,   /* output is not asked for */
	LINK_DOWN,   /* what is sent is lost, and so is what comes */
	CLOCK_JUMPS, /* once, by `jump` */
};

struct exchange {
	struct peer *p;
	bool is_active;
	/* the fault, and when */
	enum fault fault;
	bw_ns from, to, jump, jumped;
	/* the peer */
	bool has_shaken;
	uint32_t received, taken; /* from us; by us, as the last ACK has it */
	bool our_fin, peer_fin_taken;
	bw_ns peer_sent_at;
	uint8_t got[TO_PEER_BYTES];
	unsigned data_segments;
	/* the service */
	uint32_t sent;
	uint32_t read;
	bool has_shut;
	int refs_out;
};

static uint8_t ours(uint32_t i)
{
	return (uint8_t)(i * 31 + i / 977);
}

static uint8_t theirs(uint32_t i)
{
	return (uint8_t)(i * 13 + i / 613);
}

static uint8_t our_bytes[TO_PEER_BYTES];

static void make_bytes(void)
{
	for (uint32_t i = 0; i < TO_PEER_BYTES; i++)
		our_bytes[i] = ours(i);
}

static void on_release(void *arg)
{
	--*(int *)arg;
}

/** What the service does whenever it may: copies, room in place, memory by reference, in turns. */
static void say(struct exchange *x)
{
	struct bw_tcp_conn *conn = x->p->conn;

	while (x->sent < TO_PEER_BYTES) {
		uint32_t left = TO_PEER_BYTES - x->sent, n;
		unsigned turn = x->sent / 4000 % 3;
		void *room;

		if (turn == 0) {
			n = bw_tcp_send(conn, our_bytes + x->sent, BW_MIN(left, 700u));
			if (n == 0)
				return;
		} else if (turn == 1) {
			n = BW_MIN(left, 300u);
			room = bw_tcp_send_reserve(conn, n);
			if (room == NULL)
				return;
			memcpy(room, our_bytes + x->sent, n);
			bw_tcp_send_commit(conn, n);
		} else {
			n = BW_MIN(left, 4000u);
			x->refs_out++;
			if (bw_tcp_send_ref(conn, our_bytes + x->sent, n, on_release, &x->refs_out) != 0) {
				x->refs_out--;
				return;
			}
		}
		x->sent += n;
	}
	if (!x->has_shut)
		bw_tcp_shutdown(conn);
	x->has_shut = true;
}

static void listen_to(struct exchange *x)
{
	struct bw_tcp_conn *conn = x->p->conn;
	uint32_t unread = bw_tcp_unread(conn), n = BW_MIN(unread, 2000u);
	const uint8_t *piece;
	struct bw_tcp_view view;

	if (unread == 0)
		return;
	piece = bw_tcp_pullup(conn, n);
	if (piece == NULL) {
		assert_int_equal(bw_tcp_views(conn, &view, 1), 1);
		piece = view.data;
		n = view.len;
	}
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(piece[i], theirs(x->read + i));
	x->read += n;
	bw_tcp_consume(conn, n);
}

static void peer_sends(struct exchange *x, uint32_t from, uint32_t to)
{
	struct peer *p = x->p;
	static char bytes[2 * MSS];

	for (uint32_t i = from; i < to; i++)
		bytes[i - from] = (char)theirs(i);
	IN(p, .seq = PEER + 1 + from, .ack = 1 + x->received + x->our_fin, .data = bytes, .len = to - from);
}

/** Four segments, the second before the first; all that is not acknowledged again when that takes long. */
static void peer_talks(struct exchange *x)
{
	struct peer *p = x->p;
	bool is_late = p->now - x->peer_sent_at >= MS(300);

	if (x->peer_sent_at != 0 && !is_late)
		return;
	x->peer_sent_at = p->now;
	if (x->taken < FROM_PEER_BYTES) {
		uint32_t at = x->taken, end = BW_MIN(at + 4 * MSS, FROM_PEER_BYTES);

		if (end - at > MSS)
			peer_sends(x, at + MSS, BW_MIN(at + 2 * MSS, end));
		peer_sends(x, at, BW_MIN(at + MSS, end));
		for (at += 2 * MSS; at < end; at += MSS)
			peer_sends(x, at, BW_MIN(at + MSS, end));
	} else if (!x->peer_fin_taken) {
		IN(p, .seq = PEER + 1 + FROM_PEER_BYTES, .ack = 1 + x->received + x->our_fin,
			.flags = FIN | ACK);
	}
}

static void peer_hears_data(struct exchange *x, const struct sent *s)
{
	uint32_t at = s->f.seq - x->p->iss - 1;
	uint32_t skip = x->received - at;
	bool is_lost = x->data_segments == 3 || x->data_segments == 9;

	x->data_segments++;
	if (is_lost || skip > s->len)
		return; /* lost on the way, or behind a hole: it remembers nothing, and says so */
	assert_true(x->received + s->len - skip <= TO_PEER_BYTES);
	memcpy(x->got + x->received, s->data + skip, s->len - skip);
	x->received += s->len - skip;
}

/** What we sent, one by one. */
static void peer_hears(struct exchange *x)
{
	struct peer *p = x->p;
	struct sent *s;

	while ((s = take(p)) != NULL) {
		uint32_t taken = s->f.ack - (PEER + 1);

		if (x->fault == LINK_DOWN && p->now >= x->from && p->now < x->to) {
			sent_free(s);
			continue;
		}
		assert_false(s->f.flags & RST);
		if (s->f.flags & SYN) {
			if (x->is_active)
				IN(p, .seq = PEER, .flags = SYN | ACK, .ack = 1, .mss = MSS);
			else
				IN(p, .seq = PEER + 1, .ack = 1);
			x->has_shaken = true;
		} else if (s->f.flags & ACK) {
			if (taken > x->taken && taken <= FROM_PEER_BYTES + 1) {
				x->taken = BW_MIN(taken, FROM_PEER_BYTES);
				x->peer_fin_taken = taken > FROM_PEER_BYTES;
				x->peer_sent_at = 0;
			}
			if (s->len != 0)
				peer_hears_data(x, s);
			if ((s->f.flags & FIN) && s->f.seq + s->len - p->iss - 1 == x->received)
				x->our_fin = true;
			if (s->len != 0 || (s->f.flags & FIN))
				IN(p, .seq = PEER + 1 + x->taken + x->peer_fin_taken,
					.ack = 1 + x->received + x->our_fin);
		}
		sent_free(s);
	}
}

static bool is_complete(const struct exchange *x)
{
	return x->our_fin && x->peer_fin_taken && x->p->conn == NULL && x->p->closed == 1;
}

static void step(struct exchange *x)
{
	struct peer *p = x->p;
	bool is_now = x->fault != NONE && p->now >= x->from && p->now < x->to;

	stack.is_empty = x->fault == POOL_EMPTY && is_now;
	bw_tcp_set_link(p->tcp, !(x->fault == LINK_DOWN && is_now));
	if (p->conn != NULL && (!x->is_active || p->opened != 0)) {
		say(x);
		listen_to(x);
	}
	if (x->fault == CLOCK_JUMPS && is_now) {
		p->now += x->jump;
		x->jumped = x->jump;
		x->fault = NONE;
	} else {
		p->now += STEP;
	}
	stack.now = p->now;
	bw_tcp_timers(p->tcp, p->now);
	if (x->fault != RING_FULL || !is_now)
		collect(p);
	if (x->fault == LINK_DOWN && is_now) {
		forget_sent(p);
		return;
	}
	peer_hears(x);
	if (!x->has_shaken && !x->is_active && p->now - x->peer_sent_at >= S(1)) {
		x->peer_sent_at = p->now;
		IN(p, .seq = PEER, .flags = SYN, .mss = MSS);
	} else if (x->has_shaken) {
		peer_talks(x);
	}
}

struct how {
	bool is_active;
	void (*tune)(struct bw_tcp_conf *conf);
	enum fault fault;
	bw_ns from, to, jump;
};

/**
 * A handshake, 24,000 bytes one way, sent in every manner there is, of which two segments are lost, and 16,000 the
 * other way, out of order, and both FINs. Returns how long it took.
 */
static bw_ns exchange(const struct how *how)
{
	struct offer offer = { .does.keeps = true, .tune = how->tune };
	struct exchange *x = calloc(1, sizeof(*x));
	bw_ns took;

	assert_non_null(x);
	stack.is_empty = false;
	x->is_active = how->is_active;
	x->fault = how->fault;
	stack.now = stack.failed_at = START;
	x->p = how->is_active ? connecting_with(&offer) : listening(&offer);
	x->from = x->p->now + how->from;
	x->to = x->p->now + how->to;
	x->jump = how->jump;
	x->p->does.closes_on_peer_close = false;
	if (!x->is_active) {
		x->peer_sent_at = x->p->now;
		IN(x->p, .seq = PEER, .flags = SYN, .mss = MSS);
	}
	while (!is_complete(x)) {
		step(x);
		if (x->p->now - START - x->jumped >= GIVES_UP)
			fail_msg(
				"not done: jump %llu, active %d, state %s, allocation %u, fault %d at %llu ms, %u sent, %u heard, %u read",
				(unsigned long long)(how->jump / S(1)), how->is_active, state_of(x->p),
				stack.fails_from, how->fault, (unsigned long long)(how->from / BW_NS_PER_MS),
				x->sent, x->received, x->read);
	}
	took = x->p->now - START - x->jumped;
	assert_int_equal(x->p->end, BW_TCP_END_CLOSED);
	assert_int_equal(x->read, FROM_PEER_BYTES);
	assert_int_equal(x->received, TO_PEER_BYTES);
	assert_memory_equal(x->got, our_bytes, TO_PEER_BYTES);
	assert_int_equal(x->refs_out, 0);
	done(x->p);
	assert_int_equal(rte_mempool_in_use_count(faulty), 0);
	free(x);
	return took;
}

static const struct how hows[] = {
	{ .tune = use_faulty_pool },
	{ .tune = use_faulty_pool_and_no_chains },
	{ .tune = use_faulty_pool, .is_active = true },
	{ .tune = use_faulty_pool_and_no_chains, .is_active = true },
};

/* ---- the Nth allocation ---------------------------------------------------------------------------------- */

static void fail_every_one(const struct how *how, unsigned in_a_row)
{
	bw_ns usual, took, longest = 0;
	unsigned n = 0;

	stack.fails_from = stack.fails_to = 0;
	usual = exchange(how);
	do {
		n++;
		stack.allocated = 0;
		stack.has_failed = false;
		stack.fails_from = n;
		stack.fails_to = n + in_a_row;
		took = exchange(how) - (stack.failed_at - START);
		longest = BW_MAX(longest, took);
	} while (stack.has_failed);
	stack.fails_from = stack.fails_to = 0;
	print_message("%u allocations, %u in a row: %llu ms, after a failure %llu at most\n", n - 1, in_a_row,
		(unsigned long long)(usual / BW_NS_PER_MS), (unsigned long long)(longest / BW_NS_PER_MS));
	assert_true(n > 30); /* it did allocate */
	assert_true(longest <= usual + S(1));
}

TEST(nth_allocation_fails)
{
	for (unsigned i = 0; i < BW_ARRAY_LEN(hows); i++) {
		fail_every_one(&hows[i], 1);
		fail_every_one(&hows[i], 7);
	}
}

/* ---- for a while ----------------------------------------------------------------------------------------- */

static void for_a_while(enum fault fault, bw_ns lasts, bw_ns resumes)
{
	for (unsigned i = 0; i < BW_ARRAY_LEN(hows); i++) {
		struct how how = hows[i];
		bw_ns usual = exchange(&how), longest = 0;

		how.fault = fault;
		for (how.from = 0; how.from < usual; how.from += STEP) {
			bw_ns took;

			how.to = how.from + lasts;
			took = exchange(&how);
			longest = BW_MAX(longest, took);
		}
		print_message("%llu ms usually, %llu ms at most\n",
			(unsigned long long)(usual / BW_NS_PER_MS),
			(unsigned long long)(longest / BW_NS_PER_MS));
		assert_true(longest <= usual + lasts + resumes);
	}
}

TEST(pool_is_empty_for_a_while)
{
	for_a_while(POOL_EMPTY, S(3), S(1));
	for_a_while(POOL_EMPTY, S(20), S(1));
}

TEST(device_takes_nothing_for_a_while)
{
	for_a_while(RING_FULL, S(3), S(1));
	for_a_while(RING_FULL, S(20), S(1));
}

TEST(link_is_down_for_a_while)
{
	for_a_while(LINK_DOWN, S(3), S(1));
	for_a_while(LINK_DOWN, S(20), S(1));
	for_a_while(LINK_DOWN, S(50), S(1));
}

/* ---- the clock jumps ------------------------------------------------------------------------------------- */

/* Of 32-bit milliseconds: less than half, half, all, and more than all. */
static const bw_ns jumps[] = { S(1), S(60), S(3600), DAY, 20 * DAY, 25 * DAY, 30 * DAY, MS(1ull << 32),
	50 * DAY, 400 * DAY };

TEST(clock_jumps_in_an_exchange)
{
	for (unsigned i = 0; i < BW_ARRAY_LEN(hows) * BW_ARRAY_LEN(jumps); i++) {
		struct how how = hows[i % BW_ARRAY_LEN(hows)];
		bw_ns usual = exchange(&how), longest = 0;

		how.fault = CLOCK_JUMPS;
		how.jump = jumps[i / BW_ARRAY_LEN(hows)];
		how.to = GIVES_UP;
		for (how.from = 0; how.from < usual; how.from += STEP) {
			bw_ns took = exchange(&how);

			longest = BW_MAX(longest, took);
		}
		if (longest > usual + S(1))
			fail_msg("a jump of %llu s: %llu ms", (unsigned long long)(how.jump / S(1)),
				(unsigned long long)(longest / BW_NS_PER_MS));
	}
}

/** Whom keep-alive asks after a jump has as long to answer as ever. */
TEST(clock_jumps_while_idle)
{
	for (unsigned i = 0; i < BW_ARRAY_LEN(jumps); i++) {
		struct peer *p = established(.keepalive_idle_ns = S(60));

		p->now += jumps[i];
		AT(p, p->now - START + S(2));
		if (jumps[i] >= S(60)) {
			OUT(p, .ack = PEER + 1, .empty = true);
			IN(p, .ack = 1);
		}
		QUIET(p);
		STATE(p, ESTABLISHED);
		IN(p, .data = "still here");
		AT(p, p->now - START + S(1));
		OUT(p, .ack = PEER + 11);
		/* Who does not answer is given up as soon as ever. */
		p->now += jumps[i];
		AT(p, p->now - START + S(9 * 75 - 2));
		STATE(p, ESTABLISHED);
		AT(p, p->now - START + S(64));
		STATE(p, CLOSED);
		assert_int_equal(p->end, BW_TCP_END_TIMED_OUT);
		done(p);
	}
}

static uint32_t timestamp(const struct peer *p)
{
	return (uint32_t)(p->now / BW_NS_PER_MS);
}

/** R2 counts the time in which a repeat could have been answered. */
TEST(clock_jumps_with_data_in_flight)
{
	for (unsigned i = 0; i < BW_ARRAY_LEN(jumps); i++) {
		struct peer *p = established(.timestamps = true, .sack = true);

		IN(p, .data = "a");
		bw_tcp_send(p->conn, "hello", 5);
		collect(p);
		OUT(p, .seq = 1, .data = "hello");
		AT(p, S(1)); /* not for the first time */
		OUT(p, .seq = 1, .data = "hello");
		forget_sent(p);
		p->now += jumps[i];
		AT(p, p->now - START + S(1));
		OUT(p, .seq = 1, .data = "hello");
		AT(p, p->now - START + S(900));
		forget_sent(p);
		STATE(p, ESTABLISHED);
		IN(p, .ack = 6, .data = "b", .ts = timestamp(p));
		assert_int_equal(p->received_bytes, 2);
		STATE(p, ESTABLISHED);
		done(p);
	}
}

/** An answer that came meanwhile is taken before the probe's timer, which is late all the same: not from the future. */
TEST(clock_jumps_over_a_shut_window)
{
	for (unsigned i = 0; i < BW_ARRAY_LEN(jumps); i++) {
		struct peer *p = established();

		IN(p, .window = -1);
		bw_tcp_send(p->conn, "hello", 5);
		AT(p, S(1));
		forget_sent(p);
		p->now += jumps[i];
		IN(p, .seq = PEER + 1, .window = -1);
		AT(p, p->now - START + S(900));
		STATE(p, ESTABLISHED);
		forget_sent(p);
		IN(p, .seq = PEER + 1);
		OUT(p, .seq = 1, .data = "hello");
		done(p);
	}
}

TEST(clock_jumps_over_what_waits)
{
	for (unsigned i = 0; i < BW_ARRAY_LEN(jumps); i++) {
		struct peer *p = established();
		struct bw_tcp_stats stats;

		bw_tcp_close(p->conn);
		collect(p);
		IN(p, .ack = 2, .flags = FIN | ACK);
		STATE(p, TIME_WAIT);
		p->flow.remote_port_be ^= 1;
		IN(p, .seq = PEER, .flags = SYN);
		p->now += jumps[i];
		bw_tcp_timers(p->tcp, p->now);
		bw_tcp_stats(p->tcp, &stats);
		assert_int_equal(stats.time_wait, jumps[i] < S(60));
		AT(p, p->now - START + S(64));
		bw_tcp_stats(p->tcp, &stats);
		assert_int_equal(stats.time_wait + stats.half_open, 0);
		assert_true(bw_tcp_next_deadline(p->tcp) == BW_NEVER);
		done(p);
	}
}

static void tune_many(struct bw_tcp_conf *conf)
{
	conf->connections_max = 1000;
}

TEST(clock_jumps_over_many_timers)
{
	struct peer *p = listening(&(struct offer){ .tune = tune_many });
	unsigned turns = 0;

	p->closes_many = true;
	for (unsigned i = 0; i < 1000; i++) {
		p->flow.remote_port_be = (uint16_t)(1000 + i);
		p->iss = 0;
		p->next_seq = PEER;
		IN(p, .seq = PEER, .flags = SYN);
		IN(p, .seq = PEER + 1, .ack = 1);
		bw_tcp_set_timer(p->conn, p->now + MS(i));
	}
	forget_sent(p);
	for (p->now += 100 * DAY; p->timer < 1000; turns++) {
		unsigned before = p->timer;

		bw_tcp_timers(p->tcp, p->now);
		assert_in_range(p->timer - before, turns < 3, 256);
		assert_true(turns < 20);
	}
	done(p);
}

/* ---- the peer vanishes ----------------------------------------------------------------------------------- */

static void reach_half_open(struct peer *p)
{
	IN(p, .seq = PEER, .flags = SYN, .mss = MSS);
}

static void reach_established(struct peer *p)
{
	reach_half_open(p);
	IN(p, .seq = PEER + 1, .ack = 1);
}

static void nothing(struct peer *p)
{
	(void)p;
}

static void reach_data_in_flight(struct peer *p)
{
	reach_established(p);
	bw_tcp_send(p->conn, our_bytes, TO_PEER_BYTES);
	collect(p);
}

static void reach_zero_window(struct peer *p)
{
	reach_established(p);
	IN(p, .window = -1);
	bw_tcp_send(p->conn, our_bytes, TO_PEER_BYTES);
	collect(p);
}

static void reach_hole(struct peer *p)
{
	reach_established(p);
	IN(p, .seq = PEER + 10, .data = "behind a hole");
}

static void reach_fin_wait_1(struct peer *p)
{
	reach_established(p);
	bw_tcp_shutdown(p->conn);
	collect(p);
}

static void reach_fin_wait_1_with_data(struct peer *p)
{
	reach_data_in_flight(p);
	bw_tcp_close(p->conn);
	IN(p, .ack = 1 + 4 * MSS);
	IN(p, .ack = 1 + 10 * MSS);
}

static void reach_fin_wait_1_shut(struct peer *p)
{
	reach_zero_window(p);
	bw_tcp_close(p->conn);
	collect(p);
}

static void reach_fin_wait_2(struct peer *p)
{
	reach_fin_wait_1(p);
	IN(p, .ack = 2);
}

static void reach_fin_wait_2_closed(struct peer *p)
{
	reach_fin_wait_2(p);
	bw_tcp_close(p->conn);
}

static void reach_closing(struct peer *p)
{
	reach_fin_wait_1(p);
	IN(p, .ack = 1, .flags = FIN | ACK);
}

static void reach_close_wait(struct peer *p)
{
	reach_established(p);
	IN(p, .flags = FIN | ACK);
}

static void reach_close_wait_with_data(struct peer *p)
{
	reach_data_in_flight(p);
	IN(p, .ack = 1, .flags = FIN | ACK);
}

static void reach_last_ack(struct peer *p)
{
	reach_close_wait(p);
	bw_tcp_close(p->conn);
	collect(p);
}

static void reach_time_wait(struct peer *p)
{
	reach_fin_wait_2(p);
	IN(p, .flags = FIN | ACK);
}

#define R2        S(924)
#define R2_MAX    (S(925) + S(120)) /* the time-out that finds out is up to two minutes late */
#define KEEPALIVE (S(60) + 9 * S(75))

static const struct vanishing {
	const char *state;
	void (*reach)(struct peer *p);
	bw_ns not_before, at_most;
	bool is_active;
	bool ends_well;
} vanishings[] = {
	{ "SYN_RECEIVED", reach_half_open, S(62), S(64), .ends_well = true },
	{ "SYN_SENT", nothing, S(179), S(181), .is_active = true },
	{ "ESTABLISHED", reach_established, KEEPALIVE, KEEPALIVE + S(1) },
	{ "ESTABLISHED", reach_hole, KEEPALIVE, KEEPALIVE + S(1) },
	{ "ESTABLISHED", reach_data_in_flight, R2, R2_MAX },
	{ "ESTABLISHED", reach_zero_window, R2, R2_MAX },
	{ "FIN_WAIT_1", reach_fin_wait_1, R2, R2_MAX },
	{ "FIN_WAIT_1", reach_fin_wait_1_with_data, R2, R2_MAX },
	{ "ESTABLISHED", reach_fin_wait_1_shut, R2, R2_MAX },
	{ "FIN_WAIT_2", reach_fin_wait_2, KEEPALIVE, KEEPALIVE + S(1) },
	{ "FIN_WAIT_2", reach_fin_wait_2_closed, S(2), MS(2010) },
	{ "CLOSING", reach_closing, R2, R2_MAX },
	{ "CLOSE_WAIT", reach_close_wait, KEEPALIVE, KEEPALIVE + S(1) },
	{ "CLOSE_WAIT", reach_close_wait_with_data, R2, R2_MAX },
	{ "LAST_ACK", reach_last_ack, R2, R2_MAX },
	{ "TIME_WAIT", reach_time_wait, S(60), MS(60010), .ends_well = true },
};

/** Every state ends by itself, not before its time, and leaves nothing: no timer, no entry, no buffer. */
TEST(peer_vanishes_in_every_state)
{
	for (unsigned i = 0; i < BW_ARRAY_LEN(vanishings); i++) {
		const struct vanishing *v = &vanishings[i];
		struct offer offer = { .keepalive_idle_ns = S(60), .tune = use_faulty_pool };
		struct peer *p = v->is_active ? connecting_with(&offer) : listening(&offer);
		struct bw_tcp_stats stats;
		bw_ns since;

		v->reach(p);
		assert_string_equal(state_of(p), v->state);
		since = p->now - START;
		AT(p, since + v->not_before - MS(10));
		if (strcmp(state_of(p), "CLOSED") == 0)
			fail_msg("vanishing %u (%s) ends too soon", i, v->state);
		AT(p, since + v->at_most);
		if (strcmp(state_of(p), "CLOSED") != 0)
			fail_msg("vanishing %u (%s) does not end", i, v->state);
		assert_true(v->ends_well || p->end == BW_TCP_END_TIMED_OUT);
		bw_tcp_stats(p->tcp, &stats);
		assert_int_equal(stats.connections + stats.half_open + stats.time_wait, 0);
		forget_sent(p);
		assert_int_equal(rte_mempool_in_use_count(faulty), 0);
		assert_true(bw_tcp_next_deadline(p->tcp) == BW_NEVER);
		done(p);
	}
}

/* ---- the service gives up -------------------------------------------------------------------------------- */

enum upcall {
	OPENED,
	DATA,
	WRITABLE,
	PEER_CLOSED,
	TIMER,
	CLOSED,
	UPCALLS,
};

enum giving_up {
	ABORTS,
	CLOSES,
	SHUTS,
	SHUTS_AND_CLOSES,
	CLOSES_AND_ABORTS,
	SENDS_AND_ABORTS,
	SENDS_AND_CLOSES,
	WAYS,
};

static const char *const way_name[WAYS] = { "aborts", "closes", "shuts", "shuts and closes",
	"closes and aborts", "sends and aborts", "sends and closes" };

static struct {
	enum upcall in;
	enum giving_up way;
	struct bw_tcp_conn *conn;
	unsigned called[UPCALLS], called_since[UPCALLS];
	bool has_given_up;
	int refs_out;
} quitter;

static void quit(struct bw_tcp_conn *conn)
{
	quitter.has_given_up = true;
	if (quitter.way >= SENDS_AND_ABORTS) {
		quitter.refs_out++;
		if (bw_tcp_send_ref(conn, our_bytes, 3000, on_release, &quitter.refs_out) != 0)
			quitter.refs_out--;
		bw_tcp_send(conn, our_bytes, 500);
	}
	if (quitter.way == SHUTS || quitter.way == SHUTS_AND_CLOSES)
		bw_tcp_shutdown(conn);
	if (quitter.way == CLOSES || quitter.way == SHUTS_AND_CLOSES || quitter.way == CLOSES_AND_ABORTS ||
		quitter.way == SENDS_AND_CLOSES)
		bw_tcp_close(conn);
	if (quitter.way == ABORTS || quitter.way == CLOSES_AND_ABORTS || quitter.way == SENDS_AND_ABORTS)
		bw_tcp_abort(conn);
	bw_tcp_set_timer(conn, bw_tcp_now(conn) + MS(1));
	bw_tcp_wake(conn);
}

static void called(struct bw_tcp_conn *conn, enum upcall upcall)
{
	quitter.called[upcall]++;
	if (quitter.has_given_up)
		quitter.called_since[upcall]++;
	else if (quitter.in == upcall)
		quit(conn);
}

static void quitter_opened(struct bw_tcp_conn *conn)
{
	quitter.conn = conn;
	bw_tcp_set_timer(conn, bw_tcp_now(conn) + MS(500));
	called(conn, OPENED);
	while (bw_tcp_send(conn, our_bytes, TO_PEER_BYTES) == TO_PEER_BYTES)
		; /* until it is cut short, so that writable() follows */
}

static void quitter_data(struct bw_tcp_conn *conn)
{
	called(conn, DATA);
	bw_tcp_consume(conn, bw_tcp_unread(conn));
}

static void quitter_writable(struct bw_tcp_conn *conn)
{
	called(conn, WRITABLE);
}

static void quitter_peer_closed(struct bw_tcp_conn *conn)
{
	called(conn, PEER_CLOSED);
	bw_tcp_close(conn);
}

static void quitter_timer(struct bw_tcp_conn *conn)
{
	called(conn, TIMER);
}

static void quitter_closed(struct bw_tcp_conn *conn, enum bw_tcp_end end)
{
	(void)end;
	called(conn, CLOSED);
	quitter.conn = NULL;
}

static const struct bw_tcp_ops quitter_ops = {
	.opened = quitter_opened,
	.data = quitter_data,
	.writable = quitter_writable,
	.peer_closed = quitter_peer_closed,
	.closed = quitter_closed,
	.timer = quitter_timer,
};

static void run_quitter(struct peer *p)
{
	IN(p, .seq = PEER, .flags = SYN, .mss = MSS);
	IN(p, .seq = PEER + 1, .ack = 1);
	IN(p, .data = "to be read");
	for (unsigned i = 0; i < 100 && quitter.conn != NULL; i++) {
		forget_sent(p);
		IN(p); /* acknowledges all that came */
	}
	AT(p, S(1));
	IN(p);
	IN(p, .flags = FIN | ACK);
	AT(p, S(2));
	IN(p);
	/* and is gone */
	AT(p, S(1500));
}

TEST(service_gives_up_in_every_upcall)
{
	static const struct bw_tcp_listener listener = {
		.ops = &quitter_ops, .port = 81, .send_bytes_max = 100000
	};

	for (unsigned i = 0; i < UPCALLS * WAYS; i++) {
		struct peer *p = established(.does.echoes = true, .tune = use_faulty_pool);
		struct peer other = { .flow = p->flow, .iss = p->iss, .snd_max = p->snd_max };
		unsigned since = 0;

		memset(&quitter, 0, sizeof(quitter));
		quitter.in = (enum upcall)(i / WAYS);
		quitter.way = (enum giving_up)(i % WAYS);
		assert_in_range(bw_tcp_listen(p->tcp, &listener), 1, 1);
		p->flow.local_port_be = __builtin_bswap16(81);
		p->iss = 0;
		p->next_seq = PEER;
		run_quitter(p);
		if (!quitter.has_given_up || quitter.conn != NULL || quitter.called[OPENED] != 1 ||
			quitter.called[CLOSED] != 1)
			fail_msg("%s in upcall %u", way_name[quitter.way], quitter.in);
		/* Who has closed or aborted hears only of the end. */
		for (enum upcall u = OPENED; u < CLOSED; u++)
			since += quitter.called_since[u];
		if (quitter.way != SHUTS && since != 0)
			fail_msg("%s in upcall %u, and hears more", way_name[quitter.way], quitter.in);
		assert_int_equal(quitter.refs_out, 0);
		forget_sent(p);
		assert_int_equal(rte_mempool_in_use_count(faulty), 0);

		/* The other connection has noticed nothing. */
		p->flow = other.flow;
		p->iss = other.iss;
		p->snd_max = other.snd_max;
		IN(p, .seq = PEER + 1, .ack = 1, .data = "and you?");
		OUT(p, .seq = 1, .data = "and you?");
		STATE(p, ESTABLISHED);
		done(p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nth_allocation_fails),
		cmocka_unit_test(pool_is_empty_for_a_while),
		cmocka_unit_test(device_takes_nothing_for_a_while),
		cmocka_unit_test(link_is_down_for_a_while),
		cmocka_unit_test(clock_jumps_in_an_exchange),
		cmocka_unit_test(clock_jumps_while_idle),
		cmocka_unit_test(clock_jumps_with_data_in_flight),
		cmocka_unit_test(clock_jumps_over_a_shut_window),
		cmocka_unit_test(clock_jumps_over_what_waits),
		cmocka_unit_test(clock_jumps_over_many_timers),
		cmocka_unit_test(peer_vanishes_in_every_state),
		cmocka_unit_test(service_gives_up_in_every_upcall),
	};

	if (harness_start() != 0 || make_faulty_pool() != 0)
		return 1;
	make_bytes();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
