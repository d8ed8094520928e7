/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Segments at random, near enough to what is expected to get deep, against a service that calls whatever it
 * can whenever it is called, with a pool that now and then is empty. Nothing is asked but that every
 * invariant of the public interface holds, that closed() is called once for every opened(), that by-reference
 * memory is released once, and that every mbuf comes back. A failure prints the seed:
 *
 *     test_storm [SEED [COUNT]]
 */
#include "harness.h"

#define FLOWS         6
#define STEPS         4000
#define SEEDS_DEFAULT 60

static uint64_t seed;
static uint64_t chance;

static uint32_t below(uint32_t bound)
{
	chance ^= chance << 13;
	chance ^= chance >> 7;
	chance ^= chance << 17;
	return (uint32_t)(chance >> 11) % bound;
}

static bool one_in(uint32_t n)
{
	return below(n) == 0;
}

/** What a peer that listens knows of a flow. */
struct known {
	bw_seq our_nxt, our_una, peer_nxt;
	uint32_t ts;
};

static struct bw_tcp *tcp;
static struct bw_counters counters;
static struct known known[FLOWS];
static struct rte_mbuf *held[32], *hoard[8192];
static unsigned held_count, hoarded, opened, closed;
static int refs_out;
static unsigned calm; /* how seldom somebody ends a connection */
static uint8_t memory[100000];

static struct bw_flow flow_of(unsigned i)
{
	struct bw_flow flow = { .local_port_be = __builtin_bswap16(PORT),
		.remote_port_be = (uint16_t)(i + 1) };

	flow.local = bw_ip_from_v4(__builtin_bswap32(0xc0000201));
	flow.remote = bw_ip_from_v4(__builtin_bswap32(0xc0000202));
	return flow;
}

/* ---- the service --------------------------------------------------------------------------------------- */

static void on_release(void *arg)
{
	(void)arg;
	refs_out--;
	assert_true(refs_out >= 0);
}

static void receive_somehow(struct bw_tcp_conn *conn)
{
	struct bw_tcp_view views[8];
	uint32_t unread = bw_tcp_unread(conn), sum = 0;
	unsigned count = bw_tcp_views(conn, views, 8);

	for (unsigned i = 0; i < count; i++) {
		assert_int_not_equal(views[i].len, 0);
		sum += views[i].len;
	}
	assert_true(count == 8 ? sum <= unread : sum == unread);
	if (count != 0 && one_in(8) && held_count < 32) {
		rte_mbuf_refcnt_update(views[count - 1].m, 1);
		held[held_count++] = views[count - 1].m;
	}
	if (one_in(4))
		bw_tcp_pullup(conn, below(3000));
	assert_int_equal(bw_tcp_unread(conn), unread);
	if (unread != 0)
		bw_tcp_consume(conn, one_in(2) ? unread : below(unread + 1));
}

static void send_somehow(struct bw_tcp_conn *conn)
{
	uint32_t before = bw_tcp_send_queued(conn), space = bw_tcp_send_space(conn), n = below(4000), taken;
	void *room;

	switch (below(4)) {
	case 0:
		taken = bw_tcp_send(conn, memory, n);
		assert_true(taken <= n && taken <= space);
		assert_int_equal(bw_tcp_send_queued(conn), before + taken);
		break;
	case 1:
		n = below((uint32_t)sizeof(memory));
		refs_out++;
		if (bw_tcp_send_ref(conn, memory, n, on_release, NULL) != 0)
			refs_out--;
		break;
	default:
		n = below(BW_TCP_RESERVE_MAX + 1);
		room = bw_tcp_send_reserve(conn, n);
		if (room == NULL)
			break;
		memset(room, 'r', n);
		if (!one_in(3))
			bw_tcp_send_commit(conn, below(n + 1));
	}
}

static void do_anything(struct bw_tcp_conn *conn)
{
	struct bw_tcp_info info;

	for (unsigned n = below(4); n != 0; n--) {
		switch (below(40 * calm)) {
		case 0:
			bw_tcp_close(conn);
			break;
		case 1:
			bw_tcp_abort(conn);
			break;
		case 2:
			bw_tcp_shutdown(conn);
			break;
		case 3:
		case 4:
			bw_tcp_wake(conn);
			break;
		case 5:
			bw_tcp_set_timer(conn, bw_tcp_now(conn) + MS(below(3000)));
			break;
		case 6:
			bw_tcp_info(conn, &info);
			assert_non_null(info.state);
			break;
		default:
			if (one_in(2))
				send_somehow(conn);
			else
				receive_somehow(conn);
		}
	}
}

static void on_opened(struct bw_tcp_conn *conn)
{
	opened++;
	*(uint64_t *)bw_tcp_state(conn) = bw_tcp_id(conn);
	do_anything(conn);
}

static void on_any(struct bw_tcp_conn *conn)
{
	assert_int_equal(*(uint64_t *)bw_tcp_state(conn), bw_tcp_id(conn));
	do_anything(conn);
}

static void on_closed(struct bw_tcp_conn *conn, enum bw_tcp_end end)
{
	assert_in_range(end, 0, BW_TCP_END_COUNT - 1);
	assert_int_equal(*(uint64_t *)bw_tcp_state(conn), bw_tcp_id(conn));
	*(uint64_t *)bw_tcp_state(conn) = 0;
	closed++;
	do_anything(conn);
}

static const struct bw_tcp_ops ops = {
	.opened = on_opened,
	.data = on_any,
	.writable = on_any,
	.peer_closed = on_any,
	.closed = on_closed,
	.timer = on_any,
};

static void visit(struct bw_tcp_conn *conn, void *arg)
{
	(void)arg;
	do_anything(conn);
}

/* ---- the weather --------------------------------------------------------------------------------------- */

static uint32_t offset_somehow(void)
{
	switch (below(8)) {
	case 0:
		return below(20) - 10;
	case 1:
		return below(100000) - 50000;
	case 2:
		return (uint32_t)(chance >> 17);
	case 3:
		return below(4000);
	default:
		return 0;
	}
}

static uint8_t flags_somehow(const struct known *k)
{
	static const uint8_t usual[] = { ACK, ACK, ACK, ACK | PSH, ACK | PSH, ACK, ACK | FIN, SYN, RST,
		RST | ACK };

	if (k->our_nxt == 0 && !one_in(4))
		return one_in(2) ? SYN | ECE | CWR : SYN;
	if (one_in(8))
		return one_in(2) ? ACK | ECE : ACK | CWR;
	return one_in(20 * calm) ? (uint8_t)below(256) : usual[below(one_in(5 * calm) ? 10 : 6)];
}

static void rain(bw_ns now)
{
	struct bw_pkt pkts[4];
	struct bw_pkt *burst[4];
	unsigned count = 0;

	for (unsigned want = 1 + below(4); want != 0; want--) {
		unsigned i = below(FLOWS);
		struct known *k = &known[i];
		struct bw_pkt *pkt = &pkts[count];
		uint32_t len = one_in(2) ? 0 : one_in(3) ? below(4) : below(1500);
		struct rte_mbuf *m = rte_pktmbuf_alloc(pool), *more;

		if (m == NULL)
			break;
		*pkt = (struct bw_pkt){ .m = m, .flow = flow_of(i), .kind = BW_PKT_TCP };
		pkt->hash = bw_flow_hash(&pkt->flow);
		pkt->is_to_multicast = one_in(100);
		pkt->payload_len = (uint16_t)len;
		pkt->tcp.flags = flags_somehow(k);
		pkt->tos = (uint8_t)(one_in(2) ? below(4) : BW_ECN_ECT0);
		pkt->tcp.seq = k->peer_nxt + offset_somehow();
		pkt->tcp.ack = (one_in(3) ? k->our_una : k->our_nxt) + offset_somehow();
		pkt->tcp.window = (uint16_t)(one_in(10) ? 0 : below(65536));
		pkt->tcp.has_timestamp = !one_in(5);
		pkt->tcp.ts_value = k->ts + (one_in(10) ? offset_somehow() : 0);
		pkt->tcp.ts_echo = (uint32_t)(chance >> 9);
		pkt->tcp.has_mss = !one_in(4);
		pkt->tcp.mss = (uint16_t)(one_in(3) ? below(65536) : 1460);
		pkt->tcp.has_wscale = one_in(2);
		pkt->tcp.wscale = (uint8_t)below(16);
		pkt->tcp.has_sack_permitted = !one_in(3);
		pkt->tcp.sack_count = (uint8_t)(one_in(3) ? below(5) : 0);
		for (unsigned b = 0; b < pkt->tcp.sack_count; b++) {
			pkt->tcp.sack[b].left = k->our_una + below(8000) - (one_in(10) ? 4000 : 0);
			pkt->tcp.sack[b].right =
				pkt->tcp.sack[b].left + below(5000) - (one_in(10) ? 2500 : 0);
		}
		memset(rte_pktmbuf_append(m, (uint16_t)len), 'p', len);
		if (len > 10 && one_in(8) && (more = rte_pktmbuf_alloc(pool)) != NULL) {
			/* the payload's second half in a second mbuf */
			uint16_t half = (uint16_t)(len / 2);

			m->data_len -= half;
			memset(rte_pktmbuf_append(more, half), 'q', half);
			m->next = more;
			m->nb_segs = 2;
		}
		if (pkt->tcp.seq == k->peer_nxt && !one_in(4))
			k->peer_nxt += len + !!(pkt->tcp.flags & (SYN | FIN));
		k->ts += below(3);
		burst[count] = pkt;
		count++;
	}
	bw_tcp_input(tcp, now, burst, count);
}

static void drain(bw_ns now)
{
	struct bw_tcp_packet out[8];
	unsigned count = bw_tcp_output(tcp, now, out, 1 + below(8));

	for (unsigned i = 0; i < count; i++) {
		struct rte_mbuf *m = out[i].m;
		unsigned at = (unsigned)out[i].flow.remote_port_be - 1;
		struct bw_tcp_fields f;

		assert_in_range(at, 0, FLOWS - 1);
		bw_tcp_fields_parse(rte_pktmbuf_mtod(m, uint8_t *), m->l4_len, &f);
		if (f.flags & RST)
			known[at].our_nxt = 0; /* from the beginning */
		if (f.flags & SYN) {
			known[at].our_una = f.seq + 1;
			known[at].peer_nxt = f.ack;
		}
		if (!(f.flags & RST)) {
			known[at].our_nxt = f.seq + m->pkt_len - m->l4_len + !!(f.flags & (SYN | FIN));
			if (one_in(2))
				known[at].our_una = known[at].our_nxt;
			if (one_in(2))
				known[at].peer_nxt = f.ack;
		}
		if (one_in(4) && held_count < 32)
			held[held_count++] = m; /* the driver keeps it for a while */
		else
			rte_pktmbuf_free(m);
	}
}

static void storm(void)
{
	struct bw_tcp_listener listener = { .ops = &ops, .port = PORT };
	struct bw_tcp_conf conf;
	bw_ns now = START;
	unsigned before = mbufs_in_use();

	chance = seed * 0x9e3779b97f4a7c15ull + 1;
	calm = one_in(3) ? 1 : 1 + below(50);
	opened = closed = 0;
	memset(&counters, 0, sizeof(counters));
	memset(known, 0, sizeof(known));
	bw_tcp_conf_init(&conf);
	conf.connections_max = 1 + below(FLOWS);
	conf.half_open_max = 1 + below(4);
	conf.syn_cookies = (enum bw_tcp_syn_cookies)below(3);
	conf.time_wait_max = below(4);
	conf.state_bytes = 8;
	conf.pool = pool;
	conf.counters = &counters;
	conf.can_multi_segment = one_in(2);
	conf.tso_bytes_max = conf.can_multi_segment && one_in(2) ? 20000 : 0;
	conf.mtu = one_in(3) && conf.can_multi_segment ? 9000 : 1500;
	conf.user_timeout_ns = S(30);
	conf.mss_min = 64;
	listener.keepalive_idle_ns = one_in(2) ? S(10) : 0;
	listener.nagle = one_in(3);
	listener.congestion_control = below(BW_TCP_CC_COUNT);
	listener.recv_bytes_max = 1 + below(100000);
	listener.send_bytes_max = 1 + below(100000);
	tcp = bw_tcp_create(&conf, now);
	assert_non_null(tcp);
	assert_int_equal(bw_tcp_listen(tcp, &listener), 0);

	for (unsigned step = 0; step < STEPS; step++) {
		rain(now);
		if (!one_in(4))
			drain(now);
		now += one_in(50) ? MS(below(5000)) : MS(below(10));
		if (!one_in(3))
			bw_tcp_timers(tcp, now);
		if (one_in(100))
			bw_tcp_foreach(tcp, visit, NULL);
		if (one_in(30)) {
			struct bw_flow flow = flow_of(below(FLOWS));

			bw_tcp_icmp_error(tcp, now, &flow, known[flow.remote_port_be - 1].our_una, one_in(2),
				below(2000));
		}
		if (held_count != 0 && one_in(2))
			rte_pktmbuf_free(held[--held_count]);
		if (one_in(150)) {
			while (hoarded < BW_ARRAY_LEN(hoard) &&
				(hoard[hoarded] = rte_pktmbuf_alloc(pool)) != NULL)
				hoarded++;
			for (unsigned n = below(4); n != 0 && hoarded != 0; n--)
				rte_pktmbuf_free(hoard[--hoarded]);
		} else if (one_in(20)) {
			while (hoarded != 0)
				rte_pktmbuf_free(hoard[--hoarded]);
		}
	}
	bw_tcp_destroy(tcp);
	while (held_count != 0)
		rte_pktmbuf_free(held[--held_count]);
	while (hoarded != 0)
		rte_pktmbuf_free(hoard[--hoarded]);
	assert_int_equal(opened, closed);
	assert_int_equal(refs_out, 0);
	assert_int_equal(mbufs_in_use(), before);
}

static uint64_t seed_first = 1, seed_count = SEEDS_DEFAULT;

TEST(nothing_breaks)
{
	unsigned connections = 0;

	for (seed = seed_first; seed < seed_first + seed_count; seed++) {
		storm();
		connections += opened;
	}
	print_message("%u connections\n", connections);
	assert_true(connections > seed_count); /* it does get in */
}

static int print_seed(void **state)
{
	(void)state;
	if (seed < seed_first + seed_count)
		print_error("seed %llu\n", (unsigned long long)seed);
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(nothing_breaks, print_seed),
	};

	if (argc > 1) {
		seed_first = strtoull(argv[1], NULL, 10);
		seed_count = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
	}
	if (harness_start() != 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
