/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * How fast one connection sends over a path that loses, to a receiver as the usual ones are: SACK, delayed ACKs,
 * timestamps, a large window. On a virtual clock, so the figures are exact and depend only on the seed.
 *
 *     test_goodput [LOSS RTT_MS]     percent; prints the goodput of each seed, and what it was made of
 */
#include "harness.h"

#define SECONDS    100
#define SEEDS      10
#define MSS        1448u
#define CLIENT_ISS 1000u
#define BLOCKS_MAX 512

struct flying {
	bw_ns arrives_at;
	bool to_server;
	struct bw_tcp_fields f;
	uint32_t len;
};

struct path {
	uint64_t prng;
	double loss;
	bw_ns delay_ns, now;
	/* under way: first in, first out, as all take the same time */
	struct flying ring[65536];
	uint16_t head, tail;

	/* the sender */
	struct bw_tcp *tcp;
	struct bw_counters counters;
	struct bw_flow flow;
	struct bw_tcp_conn *conn;

	/* the receiver */
	bool is_established;
	bw_seq iss, rcv_nxt;                     /* of the sender's numbers */
	struct bw_sack_block blocks[BLOCKS_MAX]; /* latest first */
	unsigned block_count;
	uint32_t unacked;
	bw_ns ack_at;
	uint32_t ts_echo;
	uint64_t received;
};

static bool is_lost(struct path *p)
{
	uint64_t z = p->prng += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	z ^= z >> 31;
	return (double)(z >> 11) * 0x1p-53 < p->loss;
}

static void launch(struct path *p, bool to_server, const struct bw_tcp_fields *f, uint32_t len)
{
	if (is_lost(p))
		return;
	p->ring[p->tail++] = (struct flying){ p->now + p->delay_ns, to_server, *f, len };
	assert_int_not_equal(p->head, p->tail);
}

/* ---- the sender ---------------------------------------------------------------------------------------- */

static const uint8_t zeros[1u << 16];

static void fill(struct bw_tcp_conn *conn)
{
	while (bw_tcp_send_space(conn) >= sizeof(zeros) &&
		bw_tcp_send_ref(conn, zeros, sizeof(zeros), NULL, NULL) == 0)
		;
	/* What no longer fits asks for writable(). */
	bw_tcp_send_ref(conn, zeros, sizeof(zeros), NULL, NULL);
}

static void on_opened(struct bw_tcp_conn *conn)
{
	((struct path *)bw_tcp_listener_user(conn))->conn = conn;
	fill(conn);
}

static void on_closed(struct bw_tcp_conn *conn, enum bw_tcp_end end)
{
	(void)end;
	((struct path *)bw_tcp_listener_user(conn))->conn = NULL;
}

static void on_data(struct bw_tcp_conn *conn)
{
	(void)conn;
}

static const struct bw_tcp_ops ops = {
	.opened = on_opened,
	.data = on_data,
	.writable = fill,
	.closed = on_closed,
};

static void output(struct path *p)
{
	struct bw_tcp_packet packets[32];
	unsigned count;

	do {
		count = bw_tcp_output(p->tcp, p->now, packets, BW_ARRAY_LEN(packets));
		for (unsigned i = 0; i < count; i++) {
			struct rte_mbuf *m = packets[i].m;
			struct bw_tcp_fields f;

			bw_tcp_fields_parse(rte_pktmbuf_mtod(m, const uint8_t *), m->l4_len, &f);
			launch(p, false, &f, m->pkt_len - m->l4_len);
			rte_pktmbuf_free(m);
		}
	} while (count == BW_ARRAY_LEN(packets));
}

static void input(struct path *p, const struct bw_tcp_fields *f)
{
	struct bw_pkt pkt = {
		.m = rte_pktmbuf_alloc(pool),
		.flow = p->flow,
		.hash = bw_flow_hash(&p->flow),
		.kind = BW_PKT_TCP,
		.tcp = *f,
	};
	struct bw_pkt *burst[] = { &pkt };

	assert_non_null(pkt.m);
	bw_tcp_input(p->tcp, p->now, burst, 1);
}

/* ---- the receiver -------------------------------------------------------------------------------------- */

static void acknowledge(struct path *p)
{
	struct bw_tcp_fields f = {
		.flags = ACK,
		.seq = CLIENT_ISS + 1,
		.ack = p->rcv_nxt,
		.window = 65535,
		.has_timestamp = true,
		.ts_value = (uint32_t)(p->now / BW_NS_PER_MS),
		.ts_echo = p->ts_echo,
		.sack_count = (uint8_t)BW_MIN(p->block_count, 3u),
	};

	memcpy(f.sack, p->blocks, f.sack_count * sizeof(f.sack[0]));
	p->unacked = 0;
	p->ack_at = BW_NEVER;
	launch(p, true, &f, 0);
}

static void drop_block(struct path *p, unsigned i)
{
	memmove(&p->blocks[i], &p->blocks[i + 1], (--p->block_count - i) * sizeof(p->blocks[0]));
}

static void receive(struct path *p, const struct bw_tcp_fields *f, uint32_t len)
{
	struct bw_sack_block now = { f->seq, f->seq + len };
	/* RFC 5681 4.2: at once behind a hole, and when one is filled. */
	bool has_hole = p->block_count != 0;

	if (f->flags & SYN) {
		p->iss = f->seq;
		p->rcv_nxt = f->seq + 1;
		p->is_established = true;
		p->ts_echo = f->ts_value;
		acknowledge(p);
		return;
	}
	if (len == 0)
		return;
	if (bw_seq_leq(f->seq, p->rcv_nxt) && (int32_t)(f->ts_value - p->ts_echo) > 0)
		p->ts_echo = f->ts_value;
	if (bw_seq_leq(now.right, p->rcv_nxt)) {
		acknowledge(p);
		return;
	}
	for (unsigned i = 0; i < p->block_count; i++) {
		struct bw_sack_block *b = &p->blocks[i];

		if (bw_seq_gt(b->left, now.right) || bw_seq_lt(b->right, now.left))
			continue;
		now.left = bw_seq_min(now.left, b->left);
		now.right = bw_seq_gt(b->right, now.right) ? b->right : now.right;
		drop_block(p, i--);
	}
	if (bw_seq_gt(now.left, p->rcv_nxt)) {
		assert_true(p->block_count < BLOCKS_MAX);
		memmove(&p->blocks[1], &p->blocks[0], p->block_count++ * sizeof(p->blocks[0]));
		p->blocks[0] = now;
		acknowledge(p);
		return;
	}
	p->received += now.right - p->rcv_nxt;
	p->unacked += now.right - p->rcv_nxt;
	p->rcv_nxt = now.right;
	if (has_hole || p->unacked >= 2 * MSS)
		acknowledge(p);
	else if (p->ack_at == BW_NEVER)
		p->ack_at = p->now + MS(40);
}

static void connect_to(struct path *p)
{
	struct bw_tcp_fields syn = {
		.flags = SYN,
		.seq = CLIENT_ISS,
		.window = 65535,
		.has_mss = true,
		.mss = MSS + 12,
		.has_wscale = true,
		.wscale = 9,
		.has_sack_permitted = true,
		.has_timestamp = true,
		.ts_value = (uint32_t)(p->now / BW_NS_PER_MS),
	};

	p->ring[p->tail++] = (struct flying){ p->now + p->delay_ns, true, syn, 0 };
}

/* ---- one run ------------------------------------------------------------------------------------------- */

static bool is_verbose;

static void step(struct path *p)
{
	bw_ns next = BW_MIN(p->ack_at, bw_tcp_next_deadline(p->tcp));

	if (p->head != p->tail)
		next = BW_MIN(next, p->ring[p->head].arrives_at);
	assert_true(next != BW_NEVER);
	p->now = BW_MAX(p->now, next);
	while (p->head != p->tail && p->ring[p->head].arrives_at <= p->now) {
		struct flying *flying = &p->ring[p->head++];

		if (flying->to_server)
			input(p, &flying->f);
		else
			receive(p, &flying->f, flying->len);
	}
	if (p->ack_at <= p->now)
		acknowledge(p);
	bw_tcp_timers(p->tcp, p->now);
	output(p);
}

/** Mbit/s. */
static double run(double loss, double rtt_ms, uint64_t seed)
{
	struct path *p = calloc(1, sizeof(*p));
	struct bw_tcp_listener listener = { .ops = &ops, .port = PORT, .send_bytes_max = 4 << 20 };
	struct bw_tcp_conf conf;
	double goodput;

	assert_non_null(p);
	p->prng = seed * 0x1234567 + 1;
	p->loss = loss / 100;
	p->delay_ns = (bw_ns)(rtt_ms / 2 * BW_NS_PER_MS);
	p->now = START;
	p->ack_at = BW_NEVER;
	assert_int_equal(bw_ip_parse("2001:db8::1", &p->flow.local), 0);
	assert_int_equal(bw_ip_parse("2001:db8::2", &p->flow.remote), 0);
	p->flow.local_port_be = __builtin_bswap16(PORT);
	p->flow.remote_port_be = __builtin_bswap16(50000);
	bw_tcp_conf_init(&conf);
	conf.connections_max = conf.half_open_max = conf.time_wait_max = 4;
	conf.pool = pool;
	conf.counters = &p->counters;
	conf.can_multi_segment = true;
	listener.user = p;
	p->tcp = bw_tcp_create(&conf, p->now);
	assert_non_null(p->tcp);
	assert_int_equal(bw_tcp_listen(p->tcp, &listener), 0);
	connect_to(p);
	while (p->now < START + S(SECONDS))
		step(p);
	goodput = (double)p->received * 8e-6 / SECONDS;
	if (is_verbose)
		print_message(
			"%7.2f Mbit/s, %lu retransmits, %lu recoveries, %lu timeouts, %lu probes, %lu undone\n",
			goodput, p->counters.value[BW_TCP_RETRANSMITS],
			p->counters.value[BW_TCP_FAST_RETRANSMITS], p->counters.value[BW_TCP_RTOS],
			p->counters.value[BW_TCP_LOSS_PROBES], p->counters.value[BW_TCP_UNDOS]);
	bw_tcp_destroy(p->tcp);
	free(p);
	return goodput;
}

static double mean(double loss, double rtt_ms)
{
	double sum = 0;

	for (uint64_t seed = 1; seed <= SEEDS; seed++)
		sum += run(loss, rtt_ms, seed);
	return sum / SEEDS;
}

/** Each but a few percent of what it is. To get less is a loss for somebody, even if nothing else fails. */
TEST(goodput_by_loss_and_rtt)
{
	static const struct {
		double loss, rtt_ms, least;
	} points[] = {
		{ 0.1, 20, 23 },
		{ 1, 20, 6.7 },
		{ 3, 20, 3.2 },
		{ 10, 20, 0.95 },
		{ 10, 0.1, 3.0 },
		{ 1, 100, 1.35 },
	};

	for (unsigned i = 0; i < BW_ARRAY_LEN(points); i++) {
		double got = mean(points[i].loss, points[i].rtt_ms);

		print_message("%4.1f %%, %5.1f ms: %6.2f Mbit/s, %.2f at least\n", points[i].loss,
			points[i].rtt_ms, got, points[i].least);
		assert_true(got >= points[i].least);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(goodput_by_loss_and_rtt),
	};

	if (harness_start() != 0)
		return 1;
	if (argc == 3) {
		is_verbose = true;
		print_message("%.2f Mbit/s on average\n", mean(atof(argv[1]), atof(argv[2])));
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
