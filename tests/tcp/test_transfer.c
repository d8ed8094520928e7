/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * A mebibyte each way through a wire that loses, repeats, delays, reorders, marks and goes dark, between the stack
 * with an echo service and a small client that only knows go-back-N. Everything is drawn from the seed, which
 * a failure prints:
 *
 *     test_transfer [SEED [COUNT]]
 *
 * Every byte is checked where it arrives. At the end both sides have seen both FINs, closed() was called, and
 * every mbuf is back in the pool.
 */
#include "harness.h"

#define TRANSFER_BYTES (1u << 20)
#define SEEDS_DEFAULT  200
#define TIME_LIMIT     S(3600)
#define CLIENT_ISS     0xfff80000u /* wraps in the middle of the transfer */

static uint64_t seed;

/* ---- chance -------------------------------------------------------------------------------------------- */

struct prng {
	uint64_t state;
};

/** splitmix64 */
static uint64_t draw(struct prng *prng)
{
	uint64_t z = prng->state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static uint32_t below(struct prng *prng, uint32_t bound)
{
	return (uint32_t)(draw(prng) % bound);
}

static bool percent(struct prng *prng, unsigned chance)
{
	return below(prng, 100) < chance;
}

/** The stream's byte at an offset: the same both ways, as the service echoes. */
static uint8_t byte_at(uint32_t offset)
{
	uint32_t x = (offset + (uint32_t)seed) * 2654435761u;

	return (uint8_t)(x >> 24 ^ offset);
}

/* ---- the wire ------------------------------------------------------------------------------------------ */

/** A segment under way, either direction. */
struct flying {
	bw_ns arrives_at;
	uint64_t order; /* of those that arrive at the same time */
	bool to_server;
	uint8_t tos;
	struct bw_tcp_fields f;
	uint32_t len;
	uint8_t data[];
};

struct sim {
	struct prng prng;
	struct prng ecn_prng; /* of its own, so that a seed's wire is the same without marks */
	/* what kind of a wire */
	unsigned loss, repeats, reorders, marks; /* percent */
	bw_ns delay_ns;
	bw_ns dark_from, dark_until;
	/* under way: a binary heap */
	struct flying *heap[16384];
	unsigned heap_count;
	uint64_t order;
	bw_ns now;

	/* the server */
	struct bw_tcp *tcp;
	struct bw_counters counters;
	struct bw_flow flow;
	struct bw_tcp_conn *conn;
	unsigned echo_mode;
	bool server_saw_fin, server_closed;
	enum bw_tcp_end end;
	struct rte_mbuf *held[64]; /* by a slow driver */
	unsigned held_count;
	bool driver_is_slow;

	/* the client */
	bool has_timestamps, has_sack, keeps_out_of_order;
	uint8_t wscale;
	uint16_t mss;
	uint32_t window_bytes;
	bool is_stalled;
	bw_ns stalled_until, rto_at;
	bool is_established;
	uint32_t snd_una, snd_nxt; /* offsets in our stream; FIN is TRANSFER_BYTES */
	uint32_t snd_wnd;
	uint8_t snd_wscale;
	bw_seq server_iss;
	uint32_t rcv_nxt; /* offset in the server's stream */
	bool has_fin;
	uint32_t recent; /* last out-of-order arrival */
	uint8_t *got;    /* a flag a byte */
	uint32_t ts_echo;
	bool has_ecn, echoes_each_mark; /* as RFC 8257 wants it */
	bool is_echoing, cwr_due;
	uint32_t cwr_end; /* offset: what was sent when it last slowed down */
};

static bool is_earlier(const struct flying *a, const struct flying *b)
{
	return a->arrives_at != b->arrives_at ? a->arrives_at < b->arrives_at : a->order < b->order;
}

static void heap_push(struct sim *sim, struct flying *f)
{
	unsigned i = sim->heap_count++;

	assert_true(sim->heap_count <= BW_ARRAY_LEN(sim->heap));
	for (; i != 0 && is_earlier(f, sim->heap[(i - 1) / 2]); i = (i - 1) / 2)
		sim->heap[i] = sim->heap[(i - 1) / 2];
	sim->heap[i] = f;
}

static struct flying *heap_pop(struct sim *sim)
{
	struct flying *top = sim->heap[0], *last = sim->heap[--sim->heap_count];
	unsigned i = 0;

	for (;;) {
		unsigned child = 2 * i + 1;

		if (child >= sim->heap_count)
			break;
		if (child + 1 < sim->heap_count && is_earlier(sim->heap[child + 1], sim->heap[child]))
			child++;
		if (!is_earlier(sim->heap[child], last))
			break;
		sim->heap[i] = sim->heap[child];
		i = child;
	}
	sim->heap[i] = last;
	return top;
}

static void launch_one(struct sim *sim, bool to_server, uint8_t tos, const struct bw_tcp_fields *f,
	const uint8_t *data, uint32_t len)
{
	struct flying *flying = malloc(sizeof(*flying) + len);

	assert_non_null(flying);
	*flying = (struct flying){
		.arrives_at = sim->now + sim->delay_ns,
		.order = sim->order++,
		.to_server = to_server,
		.tos = tos != 0 && percent(&sim->ecn_prng, sim->marks) ? BW_ECN_CE : tos,
		.f = *f,
		.len = len,
	};
	if (percent(&sim->prng, sim->reorders))
		flying->arrives_at += below(&sim->prng, 3 * (uint32_t)sim->delay_ns);
	if (len != 0)
		memcpy(flying->data, data, len);
	heap_push(sim, flying);
}

static void launch(struct sim *sim, bool to_server, uint8_t tos, const struct bw_tcp_fields *f,
	const uint8_t *data, uint32_t len)
{
	if ((sim->now >= sim->dark_from && sim->now < sim->dark_until) || percent(&sim->prng, sim->loss))
		return;
	launch_one(sim, to_server, tos, f, data, len);
	if (percent(&sim->prng, sim->repeats))
		launch_one(sim, to_server, tos, f, data, len);
}

/* ---- the service: echo in three manners ---------------------------------------------------------------- */

static struct sim *sim_of(struct bw_tcp_conn *conn)
{
	return bw_tcp_listener_user(conn);
}

static void free_held(void *arg)
{
	rte_pktmbuf_free(arg);
}

/** Echo from a view; returns how many bytes were taken. */
static uint32_t echo_view(struct sim *sim, struct bw_tcp_conn *conn, const struct bw_tcp_view *view)
{
	uint32_t n;
	void *room;

	switch (sim->echo_mode) {
	case 0:
		return bw_tcp_send(conn, view->data, view->len);
	case 1: /* without a copy: the packet that arrived goes out again */
		n = BW_MIN(view->len, bw_tcp_send_space(conn));
		if (n == 0)
			return bw_tcp_send(conn, view->data, view->len);
		rte_mbuf_refcnt_update(view->m, 1);
		if (bw_tcp_send_ref(conn, view->data, n, free_held, view->m) == 0)
			return n;
		rte_pktmbuf_free(view->m);
		return 0;
	default:
		n = 1 + below(&sim->prng, BW_TCP_RESERVE_MAX - 1);
		n = BW_MIN(view->len, n);
		room = bw_tcp_send_reserve(conn, n);
		if (room == NULL)
			return 0;
		memcpy(room, view->data, n);
		bw_tcp_send_commit(conn, n);
		return n;
	}
}

static void on_data(struct bw_tcp_conn *conn)
{
	struct sim *sim = sim_of(conn);
	struct bw_tcp_view view;

	if (percent(&sim->prng, 3) && bw_tcp_unread(conn) >= 100)
		assert_non_null(bw_tcp_pullup(conn, 100));
	while (bw_tcp_views(conn, &view, 1) != 0) {
		uint32_t n = echo_view(sim, conn, &view);

		if (n == 0)
			return;
		bw_tcp_consume(conn, n);
	}
	if (sim->server_saw_fin)
		bw_tcp_shutdown(conn);
}

static void on_opened(struct bw_tcp_conn *conn)
{
	sim_of(conn)->conn = conn;
}

static void on_peer_closed(struct bw_tcp_conn *conn)
{
	sim_of(conn)->server_saw_fin = true;
	if (bw_tcp_unread(conn) == 0)
		bw_tcp_shutdown(conn);
}

static void on_closed(struct bw_tcp_conn *conn, enum bw_tcp_end end)
{
	struct sim *sim = sim_of(conn);

	assert_false(sim->server_closed);
	sim->server_closed = true;
	sim->end = end;
}

static const struct bw_tcp_ops ops = {
	.opened = on_opened,
	.data = on_data,
	.writable = on_data,
	.peer_closed = on_peer_closed,
	.closed = on_closed,
};

static void server_output(struct sim *sim)
{
	struct bw_tcp_packet packets[16];
	uint8_t bytes[65536];
	unsigned count;

	do {
		count = bw_tcp_output(sim->tcp, sim->now, packets, BW_ARRAY_LEN(packets));
		for (unsigned i = 0; i < count; i++) {
			struct rte_mbuf *m = packets[i].m;
			uint32_t header_len = m->l4_len, len = m->pkt_len - header_len;
			uint32_t cut = m->ol_flags & RTE_MBUF_F_TX_TCP_SEG ? m->tso_segsz : len;
			struct bw_tcp_fields f;
			const uint8_t *data;

			bw_tcp_fields_parse(rte_pktmbuf_mtod(m, const uint8_t *), header_len, &f);
			data = rte_pktmbuf_read(m, header_len, len, bytes);
			assert_true(len == 0 || data != NULL);
			for (uint32_t at = 0; at == 0 || at < len; at += cut) {
				uint32_t n = BW_MIN(cut, len - at);
				struct bw_tcp_fields piece = f;

				piece.seq += at;
				/* CWR is never where a device would cut. */
				assert_true(len == n || !(f.flags & CWR));
				if (at + n < len)
					piece.flags &= (uint8_t) ~(FIN | PSH);
				launch(sim, false, packets[i].tos, &piece, data + at, n);
				if (cut == 0)
					break;
			}
			/* A slow driver frees its oldest packet when a new one comes. */
			if (sim->driver_is_slow && sim->held_count < BW_ARRAY_LEN(sim->held)) {
				sim->held[sim->held_count++] = m;
			} else if (sim->driver_is_slow) {
				unsigned victim = below(&sim->prng, sim->held_count);

				rte_pktmbuf_free(sim->held[victim]);
				sim->held[victim] = m;
			} else {
				rte_pktmbuf_free(m);
			}
		}
	} while (count == BW_ARRAY_LEN(packets));
}

static void server_input(struct sim *sim, const struct flying *flying)
{
	struct bw_pkt pkt = {
		.m = rte_pktmbuf_alloc(pool),
		.flow = sim->flow,
		.hash = bw_flow_hash(&sim->flow),
		.kind = BW_PKT_TCP,
		.payload_len = (uint16_t)flying->len,
		.tos = flying->tos,
		.tcp = flying->f,
	};
	struct bw_pkt *burst[] = { &pkt };

	if (pkt.m == NULL) /* as a device without buffers would */
		return;
	if (flying->len != 0)
		memcpy(rte_pktmbuf_append(pkt.m, (uint16_t)flying->len), flying->data, flying->len);
	bw_tcp_input(sim->tcp, sim->now, burst, 1);
	server_output(sim);
}

/* ---- the client ---------------------------------------------------------------------------------------- */

static struct bw_tcp_fields client_fields(struct sim *sim, uint8_t flags)
{
	uint32_t window = sim->is_stalled ? 0 : sim->window_bytes;

	return (struct bw_tcp_fields){
		.flags = flags | (sim->is_echoing ? ECE : 0),
		.seq = CLIENT_ISS + 1 + sim->snd_nxt,
		.ack = sim->server_iss + 1 + sim->rcv_nxt + sim->has_fin,
		.window = (uint16_t)BW_MIN(window >> (flags & SYN ? 0 : sim->wscale), 65535u),
		.has_timestamp = sim->has_timestamps,
		.ts_value = (uint32_t)(sim->now / BW_NS_PER_MS),
		.ts_echo = sim->ts_echo,
	};
}

/** The block around an offset. */
static struct bw_sack_block block_around(const struct sim *sim, uint32_t offset)
{
	uint32_t left = offset, right = offset;

	while (left > sim->rcv_nxt && sim->got[left - 1])
		left--;
	while (right < TRANSFER_BYTES && sim->got[right])
		right++;
	return (struct bw_sack_block){ left, right };
}

static void client_ack(struct sim *sim)
{
	struct bw_tcp_fields f = client_fields(sim, ACK);

	if (sim->has_sack && sim->recent > sim->rcv_nxt && sim->got[sim->recent]) {
		struct bw_sack_block block = block_around(sim, sim->recent);

		/* The latest first, then what lies above it. */
		while (f.sack_count < 3 && block.left < block.right) {
			uint32_t at = block.right;

			f.sack[f.sack_count++] = (struct bw_sack_block){
				sim->server_iss + 1 + block.left,
				sim->server_iss + 1 + block.right,
			};
			while (at < TRANSFER_BYTES && at < block.right + 20000 && !sim->got[at])
				at++;
			if (at >= TRANSFER_BYTES || !sim->got[at])
				break;
			block = block_around(sim, at);
		}
	}
	launch(sim, true, 0, &f, NULL, 0);
}

static void client_send(struct sim *sim)
{
	uint32_t flight_max = BW_MIN(sim->snd_wnd, 30u * sim->mss);
	uint8_t data[1460];

	if (!sim->is_established)
		return;
	while (sim->snd_nxt <= TRANSFER_BYTES) {
		uint32_t n = BW_MIN(TRANSFER_BYTES - sim->snd_nxt, (uint32_t)sim->mss - 12);
		struct bw_tcp_fields f = client_fields(sim, ACK);

		/* Some segments are cut at odd places, and some are tiny. */
		if (percent(&sim->prng, 20))
			n = BW_MIN(n, 1 + below(&sim->prng, percent(&sim->prng, 30) ? 10 : 1000));
		if (sim->snd_nxt - sim->snd_una + n > flight_max)
			break;
		for (uint32_t i = 0; i < n; i++)
			data[i] = byte_at(sim->snd_nxt + i);
		if (sim->snd_nxt + n == TRANSFER_BYTES) {
			f.flags |= FIN;
			sim->snd_nxt++;
		}
		/* It repeats by going back: what it has sent before is not new. */
		if (sim->cwr_due && sim->snd_nxt >= sim->cwr_end) {
			f.flags |= CWR;
			sim->cwr_due = false;
		}
		sim->snd_nxt += n;
		launch(sim, true, sim->has_ecn ? BW_ECN_ECT0 : 0, &f, data, n);
	}
	if (sim->snd_una != sim->snd_nxt && sim->rto_at == BW_NEVER)
		sim->rto_at = sim->now + MS(250) + 4 * sim->delay_ns;
}

static void client_syn(struct sim *sim)
{
	struct bw_tcp_fields f = client_fields(sim, SYN);

	f.seq = CLIENT_ISS;
	f.ack = 0;
	f.has_mss = true;
	f.mss = sim->mss;
	f.has_sack_permitted = sim->has_sack;
	f.has_wscale = sim->wscale != 0;
	f.wscale = sim->wscale;
	if (sim->has_ecn)
		f.flags |= ECE | CWR;
	launch(sim, true, 0, &f, NULL, 0);
	sim->rto_at = sim->now + S(1);
}

static void client_timeout(struct sim *sim)
{
	sim->rto_at = BW_NEVER;
	if (!sim->is_established) {
		client_syn(sim);
		return;
	}
	sim->snd_nxt = sim->snd_una; /* go back */
	if (sim->snd_wnd == 0 && sim->snd_una <= TRANSFER_BYTES) {
		client_ack(sim); /* our window may be news; theirs comes by itself or by the probe below */
		sim->snd_wnd = 1;
	}
	client_send(sim);
	if (sim->rto_at == BW_NEVER && sim->snd_una <= TRANSFER_BYTES)
		sim->rto_at = sim->now + MS(250) + 4 * sim->delay_ns;
}

static void client_payload(struct sim *sim, uint32_t offset, const struct flying *flying)
{
	for (uint32_t i = 0; i < flying->len; i++) {
		if (offset + i >= TRANSFER_BYTES)
			fail_msg("seed %llu: a byte behind the end", (unsigned long long)seed);
		if (flying->data[i] != byte_at(offset + i))
			fail_msg("seed %llu: wrong byte at %u", (unsigned long long)seed, offset + i);
	}
	if (!sim->keeps_out_of_order && offset > sim->rcv_nxt)
		return;
	memset(sim->got + offset, 1, flying->len);
	sim->recent = offset;
	while (sim->rcv_nxt < TRANSFER_BYTES && sim->got[sim->rcv_nxt])
		sim->rcv_nxt++;
}

/** Both of its roles in RFC 3168; slowing down it only pretends. */
static void client_ecn(struct sim *sim, const struct flying *flying)
{
	const struct bw_tcp_fields *f = &flying->f;

	if (!sim->has_ecn) {
		assert_int_equal(flying->tos, 0);
		assert_int_equal(f->flags & (ECE | CWR), 0);
		return;
	}
	if (flying->len != 0 && sim->echoes_each_mark)
		sim->is_echoing = flying->tos == BW_ECN_CE;
	else if (flying->len != 0)
		sim->is_echoing = flying->tos == BW_ECN_CE || (sim->is_echoing && !(f->flags & CWR));
	if ((f->flags & ECE) && !sim->cwr_due && sim->snd_una >= sim->cwr_end) {
		sim->cwr_due = true;
		sim->cwr_end = sim->snd_nxt;
	}
}

static void client_input(struct sim *sim, const struct flying *flying)
{
	const struct bw_tcp_fields *f = &flying->f;
	uint32_t offset, acked;

	if (f->flags & RST)
		fail_msg("seed %llu: reset", (unsigned long long)seed);
	if (sim->has_timestamps && f->has_timestamp)
		sim->ts_echo = f->ts_value;
	if (f->flags & SYN) {
		if (!sim->is_established) {
			assert_int_equal(f->flags, sim->has_ecn ? SYN | ACK | ECE : SYN | ACK);
			sim->is_established = true;
			sim->server_iss = f->seq;
			sim->snd_wscale = f->has_wscale ? f->wscale : 0;
			sim->snd_wnd = f->window;
			sim->rto_at = BW_NEVER;
		}
		client_ack(sim);
		client_send(sim);
		return;
	}
	if (!sim->is_established)
		return;
	client_ecn(sim, flying);
	acked = f->ack - (CLIENT_ISS + 1);
	if (acked > TRANSFER_BYTES + 1)
		fail_msg("seed %llu: acknowledges what was never sent", (unsigned long long)seed);
	if (acked > sim->snd_una) {
		sim->snd_una = acked;
		sim->snd_nxt = BW_MAX(sim->snd_nxt, acked);
		sim->rto_at = BW_NEVER;
	}
	if (acked >= sim->snd_una)
		sim->snd_wnd = (uint32_t)f->window << sim->snd_wscale;
	offset = f->seq - (sim->server_iss + 1);
	if (flying->len != 0)
		client_payload(sim, offset, flying);
	if ((f->flags & FIN) && offset + flying->len == TRANSFER_BYTES && sim->rcv_nxt == TRANSFER_BYTES)
		sim->has_fin = true;
	/* An answer to whatever takes numbers, and to probes, which are left of the window. */
	if (flying->len != 0 || (f->flags & FIN) || offset + 1 == sim->rcv_nxt + sim->has_fin)
		client_ack(sim);
	client_send(sim);
	if (sim->snd_una <= TRANSFER_BYTES && sim->rto_at == BW_NEVER)
		sim->rto_at = sim->now + MS(250) + 4 * sim->delay_ns;
}

/* ---- one run ------------------------------------------------------------------------------------------- */

static bool is_finished(const struct sim *sim)
{
	return sim->server_closed && sim->has_fin && sim->snd_una == TRANSFER_BYTES + 1;
}

static void step(struct sim *sim)
{
	bw_ns next = bw_tcp_next_deadline(sim->tcp);

	if (bw_tcp_has_output(sim->tcp))
		next = sim->now + BW_NS_PER_MS; /* it wants buffers: a turn later */
	next = BW_MIN(next, sim->rto_at);
	if (sim->is_stalled)
		next = BW_MIN(next, sim->stalled_until);
	if (sim->heap_count != 0)
		next = BW_MIN(next, sim->heap[0]->arrives_at);
	if (next == BW_NEVER)
		fail_msg("seed %llu: nothing will ever happen again", (unsigned long long)seed);
	sim->now = BW_MAX(sim->now, next);
	if (sim->now > START + TIME_LIMIT)
		fail_msg("seed %llu: not finished in an hour: client has %u, server %u",
			(unsigned long long)seed, sim->rcv_nxt, sim->snd_una);
	if (sim->heap_count != 0 && sim->heap[0]->arrives_at <= sim->now) {
		struct flying *flying = heap_pop(sim);

		if (flying->to_server)
			server_input(sim, flying);
		else
			client_input(sim, flying);
		free(flying);
	}
	if (sim->rto_at <= sim->now)
		client_timeout(sim);
	if (sim->is_stalled && sim->stalled_until <= sim->now) {
		sim->is_stalled = false;
		client_ack(sim); /* the window opens; this may be lost */
	} else if (!sim->is_stalled && sim->is_established && below(&sim->prng, 2000) == 0) {
		sim->is_stalled = true;
		sim->stalled_until = sim->now + MS(below(&sim->prng, 2000));
		client_ack(sim);
	}
	bw_tcp_timers(sim->tcp, sim->now);
	server_output(sim);
}

/** Sums over all seeds: what the wire was to bring about must have come about. */
static struct bw_counters total;
static bw_ns time_taken;

static void transfer(void)
{
	struct sim *sim = calloc(1, sizeof(*sim));
	struct bw_tcp_conf conf;
	struct bw_tcp_listener listener = { .ops = &ops, .port = PORT };
	unsigned before = mbufs_in_use();

	assert_non_null(sim);
	sim->prng.state = seed * 0x1234567 + 1;
	sim->loss = below(&sim->prng, 3) == 0 ? 0 : below(&sim->prng, 16);
	sim->repeats = below(&sim->prng, 2) == 0 ? 0 : below(&sim->prng, 20);
	sim->reorders = below(&sim->prng, 2) == 0 ? 0 : below(&sim->prng, 40);
	sim->delay_ns = BW_NS_PER_US * (50 + below(&sim->prng, 30000));
	sim->dark_from = below(&sim->prng, 4) == 0 ? START + MS(below(&sim->prng, 3000)) : BW_NEVER;
	sim->dark_until = sim->dark_from == BW_NEVER ? 0 : sim->dark_from + MS(below(&sim->prng, 8000));
	sim->now = START;
	sim->echo_mode = below(&sim->prng, 3);
	sim->driver_is_slow = below(&sim->prng, 2);
	sim->has_timestamps = below(&sim->prng, 2);
	sim->has_sack = below(&sim->prng, 3) != 0;
	sim->keeps_out_of_order = sim->has_sack || below(&sim->prng, 3) != 0;
	sim->wscale = (uint8_t)(below(&sim->prng, 2) * below(&sim->prng, 8));
	sim->mss = (uint16_t)(below(&sim->prng, 3) == 0 ? 200 + below(&sim->prng, 1000) : 1460);
	sim->window_bytes =
		below(&sim->prng, 2) == 0 ? 2000 + below(&sim->prng, 60000) : 65535u << sim->wscale;
	sim->rto_at = BW_NEVER;
	sim->got = calloc(TRANSFER_BYTES + 1, 1);
	assert_non_null(sim->got);
	assert_int_equal(bw_ip_parse("2001:db8::1", &sim->flow.local), 0);
	assert_int_equal(bw_ip_parse("2001:db8::2", &sim->flow.remote), 0);
	sim->flow.local_port_be = __builtin_bswap16(PORT);
	sim->flow.remote_port_be = __builtin_bswap16(50000);

	bw_tcp_conf_init(&conf);
	conf.connections_max = 4;
	conf.half_open_max = 4;
	conf.time_wait_max = 4;
	conf.pool = pool;
	conf.counters = &sim->counters;
	conf.secret.k[0] = seed;
	conf.mss_min = 64; /* the simulated peers are modest */
	conf.can_multi_segment = below(&sim->prng, 3) != 0;
	if (conf.can_multi_segment && below(&sim->prng, 2))
		conf.tso_bytes_max = 1500 + below(&sim->prng, 64000);
	listener.nagle = below(&sim->prng, 4) == 0;
	listener.recv_bytes_max = 3000 + below(&sim->prng, 200000);
	listener.send_bytes_max = 3000 + below(&sim->prng, 200000);
	listener.user = sim;
	sim->ecn_prng.state = ~sim->prng.state;
	sim->has_ecn = below(&sim->ecn_prng, 2);
	sim->marks = below(&sim->ecn_prng, 2) * below(&sim->ecn_prng, 30);
	listener.congestion_control = below(&sim->ecn_prng, BW_TCP_CC_COUNT);
	sim->echoes_each_mark =
		listener.congestion_control == BW_TCP_CC_DCTCP || below(&sim->ecn_prng, 4) == 0;
	sim->tcp = bw_tcp_create(&conf, sim->now);
	assert_non_null(sim->tcp);
	assert_int_equal(bw_tcp_listen(sim->tcp, &listener), 0);

	client_syn(sim);
	while (!is_finished(sim))
		step(sim);
	assert_int_equal(sim->end, BW_TCP_END_CLOSED);
	assert_int_equal(sim->rcv_nxt, TRANSFER_BYTES);
	/* On a wire that does nothing of the kind, nothing looks like a loss. */
	if (sim->loss == 0 && sim->repeats == 0 && sim->reorders == 0 && sim->dark_from == BW_NEVER)
		assert_int_equal(sim->counters.value[BW_TCP_FAST_RETRANSMITS], 0);

	for (unsigned i = 0; i < BW_COUNTER_COUNT; i++)
		total.value[i] += sim->counters.value[i];
	time_taken += sim->now - START;

	bw_tcp_destroy(sim->tcp);
	while (sim->heap_count != 0)
		free(heap_pop(sim));
	while (sim->held_count != 0)
		rte_pktmbuf_free(sim->held[--sim->held_count]);
	if (mbufs_in_use() != before)
		fail_msg("seed %llu: %u mbufs lost", (unsigned long long)seed, mbufs_in_use() - before);
	free(sim->got);
	free(sim);
}

static uint64_t seed_first = 1, seed_count = SEEDS_DEFAULT;

#define COUNT(which) ((unsigned long long)total.value[BW_##which])

TEST(a_mebibyte_each_way)
{
	for (seed = seed_first; seed < seed_first + seed_count; seed++)
		transfer();
	print_message(
		"%llu s of virtual time: %llu retransmits, %llu timeouts, %llu fast, %llu out of order, "
		"%llu duplicates, %llu window probes, %llu marked, %llu reductions for marks\n",
		(unsigned long long)(time_taken / BW_NS_PER_SEC), COUNT(TCP_RETRANSMITS), COUNT(TCP_RTOS),
		COUNT(TCP_FAST_RETRANSMITS), COUNT(TCP_OUT_OF_ORDER), COUNT(TCP_DUPLICATES),
		COUNT(TCP_ZERO_WINDOW_PROBES), COUNT(TCP_CE_RECEIVED), COUNT(TCP_ECE_REDUCTIONS));
	if (seed_count < SEEDS_DEFAULT)
		return;
	assert_true(COUNT(TCP_RTOS) && COUNT(TCP_FAST_RETRANSMITS) && COUNT(TCP_OUT_OF_ORDER) &&
		    COUNT(TCP_DUPLICATES) && COUNT(TCP_ZERO_WINDOW_PROBES) && COUNT(TCP_CE_RECEIVED) &&
		    COUNT(TCP_ECE_REDUCTIONS));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_mebibyte_each_way),
	};

	if (argc > 1)
		seed_first = strtoull(argv[1], NULL, 10);
	if (argc > 1)
		seed_count = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
	if (harness_start() != 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
