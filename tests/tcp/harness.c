/* SPDX-License-Identifier: BSD-3-Clause */
#include <rte_eal.h>
#include <rte_log.h>
#include <rte_mempool.h>

#include "harness.h"

struct rte_mempool *pool;

int harness_start(void)
{
	char *args[] = { "test", "--no-huge", "--no-pci", "--no-shconf", "-m", "64", "--no-telemetry", "-l",
		"0", "--log-level=*:error", NULL };

	bw_flow_hash_seed(42);
	if (rte_eal_init(BW_ARRAY_LEN(args) - 1, args) < 0)
		return -1;
	/* No cache: the count of those in use is then exact, and the pool can be emptied to the last. */
	pool = rte_pktmbuf_pool_create(
		"mbufs", 8191, 0, BW_MBUF_PRIV_BYTES, RTE_MBUF_DEFAULT_BUF_SIZE, (int)SOCKET_ID_ANY);
	return pool != NULL ? 0 : -1;
}

unsigned mbufs_in_use(void)
{
	return rte_mempool_in_use_count(pool);
}

/* ---- the service --------------------------------------------------------------------------------------- */

static struct peer *peer_of(struct bw_tcp_conn *conn)
{
	return bw_tcp_listener_user(conn);
}

static void on_opened(struct bw_tcp_conn *conn)
{
	struct peer *p = peer_of(conn);

	p->opened++;
	p->conn = conn;
	if (p->does.aborts_in_opened)
		bw_tcp_abort(conn);
}

static void on_prefetch(void *user, const struct bw_tcp_view *views, unsigned count)
{
	struct peer *p = user;

	assert_int_not_equal(count, 0);
	for (unsigned i = 0; i < count; i++) {
		const char *packet = rte_pktmbuf_mtod(views[i].m, const char *);
		const char *data = (const char *)views[i].data;

		assert_int_not_equal(views[i].len, 0);
		assert_true(
			data > packet && data + views[i].len <= packet + rte_pktmbuf_data_len(views[i].m));
		p->announced++;
		p->announced_bytes += views[i].len;
	}
	p->announced_before_data = p->data;
}

static void on_data(struct bw_tcp_conn *conn)
{
	struct peer *p = peer_of(conn);
	struct bw_tcp_view views[64];
	uint32_t left = p->does.consumes_max != 0 ? p->does.consumes_max : UINT32_MAX, taken = 0;
	unsigned count;

	p->data++;
	assert_int_not_equal(bw_tcp_unread(conn), 0);
	if (p->does.aborts_in_data) {
		bw_tcp_abort(conn);
		return;
	}
	if (p->does.keeps)
		return;
	count = bw_tcp_views(conn, views, BW_ARRAY_LEN(views));
	for (unsigned i = 0; i < count && left != 0; i++) {
		uint32_t n = BW_MIN(views[i].len, left);

		if (p->does.echoes)
			n = bw_tcp_send(conn, views[i].data, n);
		assert_true(p->received_bytes + n <= sizeof(p->received));
		memcpy(p->received + p->received_bytes, views[i].data, n);
		p->received_bytes += n;
		taken += n;
		left -= n;
		if (n < views[i].len)
			break;
	}
	bw_tcp_consume(conn, taken);
	if (p->does.closes_in_data)
		bw_tcp_close(conn);
	if (p->does.shuts_in_data)
		bw_tcp_shutdown(conn);
}

static void on_writable(struct bw_tcp_conn *conn)
{
	peer_of(conn)->writable++;
	if (peer_of(conn)->does.echoes && bw_tcp_unread(conn) != 0)
		bw_tcp_wake(conn);
}

static void on_peer_closed(struct bw_tcp_conn *conn)
{
	struct peer *p = peer_of(conn);

	p->peer_closed++;
	if (p->does.closes_on_peer_close)
		bw_tcp_close(conn);
}

static void on_closed(struct bw_tcp_conn *conn, enum bw_tcp_end end)
{
	struct peer *p = peer_of(conn);

	assert_true(p->closes_many || p->closed == 0);
	p->closed++;
	p->end = end;
	p->conn = NULL;
	/* Whatever is tried on a connection that is over does nothing. */
	assert_int_equal(bw_tcp_send(conn, "x", 1), 0);
	assert_null(bw_tcp_send_reserve(conn, 1));
	bw_tcp_close(conn);
	bw_tcp_abort(conn);
	bw_tcp_wake(conn);
	bw_tcp_set_timer(conn, 1);
	bw_tcp_set_user_timeout(conn, 1);
}

static void on_timer(struct bw_tcp_conn *conn)
{
	peer_of(conn)->timer++;
}

static const struct bw_tcp_ops ops = {
	.opened = on_opened,
	.data = on_data,
	.writable = on_writable,
	.peer_closed = on_peer_closed,
	.closed = on_closed,
	.timer = on_timer,
};

/* ---- the wire ------------------------------------------------------------------------------------------ */

static void record(struct peer *p, const struct bw_tcp_packet *packet)
{
	struct rte_mbuf *m = packet->m;
	struct sent *sent = calloc(1, sizeof(*sent));
	unsigned header_len = m->l4_len, segments = 0, total = 0;
	uint8_t header[60];
	bw_seq end;

	assert_non_null(sent);
	assert_true(bw_flow_eq(&packet->flow, &p->flow));
	assert_true(header_len >= 20 && header_len <= 60 && m->data_len >= header_len);
	assert_true(m->data_off >= 58); /* room for IPv6, VLAN and Ethernet */
	for (struct rte_mbuf *s = m; s != NULL; s = s->next) {
		assert_true(s == m || s->data_len != 0);
		assert_true(s->data_off + s->data_len <= s->buf_len);
		segments++;
		total += s->data_len;
	}
	assert_int_equal(segments, m->nb_segs);
	assert_int_equal(total, m->pkt_len);
	assert_true(m->ol_flags & RTE_MBUF_F_TX_TCP_CKSUM);
	memcpy(header, rte_pktmbuf_mtod(m, void *), header_len);
	bw_tcp_fields_parse(header, header_len, &sent->f);
	assert_int_equal(header[16] | header[17], 0); /* the checksum is left to the device */
	sent->len = m->pkt_len - header_len;
	sent->segments = segments;
	assert_int_equal(bw_tcp_header_len(&sent->f), header_len); /* no MSS, say, but on a SYN */
	assert_true(sent->f.has_timestamp || !p->has_timestamps || (sent->f.flags & RST));
	sent->has_path = packet->path != NULL;
	sent->path = packet->path != NULL ? *packet->path : 0;
	sent->tos = packet->tos;
	if (m->ol_flags & RTE_MBUF_F_TX_TCP_SEG)
		sent->tso_segsz = m->tso_segsz;
	else
		assert_true(sent->len + header_len <= p->conf.mtu - 20u);
	sent->data = malloc(sent->len + 1);
	assert_non_null(sent->data);
	if (sent->len != 0) {
		const void *bytes = rte_pktmbuf_read(m, header_len, sent->len, sent->data);

		if (bytes != sent->data)
			memcpy(sent->data, bytes, sent->len);
	}
	end = sent->f.seq + sent->len + !!(sent->f.flags & SYN) + !!(sent->f.flags & FIN);
	if ((sent->f.flags & SYN) && p->iss == 0)
		p->iss = p->snd_max = sent->f.seq;
	if (!(sent->f.flags & RST))
		p->snd_max = bw_seq_max(p->snd_max, end);
	if (sent->f.has_timestamp)
		p->ts_echo = sent->f.ts_value;
	if (p->driver_holds) {
		sent->m = m;
	} else {
		/*
		 * A driver that is done with it: had it been written to since, ASan or the next reader would
		 * know.
		 */
		rte_pktmbuf_free(m);
	}
	if (p->last != NULL)
		p->last->next = sent;
	else
		p->first = sent;
	p->last = sent;
}

void collect(struct peer *p)
{
	struct bw_tcp_packet packets[8];
	unsigned count, rounds = 0;

	do {
		count = bw_tcp_output(p->tcp, p->now, packets, BW_ARRAY_LEN(packets));
		for (unsigned i = 0; i < count; i++)
			record(p, &packets[i]);
		assert_true(++rounds < 10000);
	} while (count == BW_ARRAY_LEN(packets));
}

struct sent *take(struct peer *p)
{
	struct sent *sent = p->first;

	if (sent != NULL) {
		p->first = sent->next;
		if (p->first == NULL)
			p->last = NULL;
	}
	return sent;
}

void sent_free(struct sent *sent)
{
	if (sent == NULL)
		return;
	if (sent->m != NULL)
		rte_pktmbuf_free(sent->m);
	free(sent->data);
	free(sent);
}

void forget_sent(struct peer *p)
{
	struct sent *sent;

	while ((sent = take(p)) != NULL)
		sent_free(sent);
}

void driver_releases(struct peer *p)
{
	for (struct sent *s = p->first; s != NULL; s = s->next) {
		if (s->m != NULL)
			rte_pktmbuf_free(s->m);
		s->m = NULL;
	}
	p->driver_holds = false;
}

void segment_in(struct peer *p, const struct segment_in *in)
{
	uint32_t len = in->len != 0 || in->data == NULL ? in->len : (uint32_t)strlen(in->data);
	unsigned pieces = in->pieces != 0 ? in->pieces : 1;
	uint8_t flags = in->flags != 0 ? in->flags : ACK;
	const unsigned headers = 54;
	bw_seq ack = in->ack != 0 || in->has_ack ? p->iss + in->ack : p->snd_max;
	struct bw_pkt pkt = {
		.flow = p->flow,
		.hash = bw_flow_hash(&p->flow),
		.kind = BW_PKT_TCP,
		.is_to_multicast = in->multicast,
		.payload_off = headers,
		.payload_len = (uint16_t)len,
		.tos = in->tos,
		.tcp = {
			.seq = in->seq != 0 ? in->seq : p->next_seq,
			.ack = flags & ACK ? ack : 0,
			.window = in->window < 0 ? 0 : in->window != 0 ? (uint16_t)in->window : p->window,
			.flags = flags,
			.urgent = in->urgent,
			.has_mss = in->mss != 0,
			.mss = in->mss,
			.has_wscale = in->wscale != 0,
			.wscale = in->wscale != 0 ? in->wscale - 1 : 0,
			.has_sack_permitted = in->sack_permitted,
			.has_timestamp = p->has_timestamps && !in->no_ts,
			.ts_value = in->ts != 0 ? in->ts : (uint32_t)(p->now / BW_NS_PER_MS),
			.ts_echo = p->ts_echo,
			.sack_count = in->sack_count,
		},
	};
	struct bw_pkt *burst[] = { &pkt };
	struct rte_mbuf *tail = NULL;
	uint32_t end = pkt.tcp.seq + len + !!(flags & SYN) + !!(flags & FIN), done_bytes = 0;

	for (unsigned i = 0; i < in->sack_count; i++)
		pkt.tcp.sack[i] =
			(struct bw_sack_block){ p->iss + in->sack[i].left, p->iss + in->sack[i].right };
	for (unsigned i = 0; i < pieces; i++) {
		struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
		uint32_t n = i == pieces - 1 ? len - done_bytes : len / pieces;
		char *at_byte;

		assert_non_null(m);
		if (i == 0) {
			pkt.m = m;
			memset(rte_pktmbuf_append(m, headers), 0xee, headers);
		} else {
			tail->next = m;
			pkt.m->nb_segs++;
			pkt.m->pkt_len += n;
		}
		at_byte = rte_pktmbuf_append(m, (uint16_t)n);
		assert_non_null(at_byte);
		if (n != 0)
			memcpy(at_byte, in->data + done_bytes, n);
		done_bytes += n;
		tail = m;
	}
	if (pkt.tcp.seq == p->next_seq || bw_seq_gt(end, p->next_seq))
		p->next_seq = in->seq == 0 || in->seq == p->next_seq ? end : p->next_seq;
	bw_tcp_input(p->tcp, p->now, burst, 1);
	if (!in->more)
		collect(p);
}

static bool is_expected(const struct peer *p, const struct sent *s, const struct segment_out *out)
{
	uint8_t flags = out->flags != 0 ? out->flags : ACK;
	uint32_t len = out->len != 0 || out->data == NULL ? out->len : (uint32_t)strlen(out->data);

	if ((s->f.flags & ~PSH) != (flags & ~PSH) || ((flags & PSH) && !(s->f.flags & PSH)))
		return false;
	if (out->seq != 0 && s->f.seq - p->iss != out->seq)
		return false;
	if (out->ack != 0 && s->f.ack != out->ack)
		return false;
	if (((len != 0 || out->data != NULL) && s->len != len) || (out->empty && s->len != 0))
		return false;
	if (out->data != NULL && memcmp(s->data, out->data, len) != 0)
		return false;
	if (out->window != 0 && s->f.window != (out->window < 0 ? 0 : out->window))
		return false;
	if (out->ecn != ANY_ECN && s->tos != (out->ecn == ECT0 ? 2 : 0))
		return false;
	if ((out->sack_count != 0 || out->no_sack) && s->f.sack_count != out->sack_count)
		return false;
	for (unsigned i = 0; i < out->sack_count; i++) {
		if (s->f.sack[i].left != out->sack[i].left || s->f.sack[i].right != out->sack[i].right)
			return false;
	}
	return true;
}

static void describe(const struct peer *p, const struct sent *s)
{
	print_error("  got: flags %02x seq %u ack PEER+%d len %u window %u tos %u", s->f.flags,
		s->f.seq - p->iss, (int)(s->f.ack - PEER), s->len, s->f.window, s->tos);
	for (unsigned i = 0; i < s->f.sack_count; i++)
		print_error(" sack PEER+%d..%d", (int)(s->f.sack[i].left - PEER),
			(int)(s->f.sack[i].right - PEER));
	print_error("\n");
}

void segment_out(struct peer *p, const struct segment_out *out, const char *file, int line)
{
	struct sent *s = take(p);

	if (s == NULL) {
		print_error("%s:%d: expected a packet, there is none\n", file, line);
		_fail(file, line);
		return;
	}
	if (!is_expected(p, s, out)) {
		describe(p, s);
		print_error("  expected: flags %02x seq %u ack PEER+%d len %u\n", out->flags, out->seq,
			(int)(out->ack - PEER), out->len);
		_fail(file, line);
	}
	if (s->m != NULL) /* the driver goes on holding it until the story's end */
		rte_pktmbuf_free(s->m);
	s->m = NULL;
	sent_free(s);
}

void quiet(struct peer *p, const char *file, int line)
{
	if (p->first == NULL)
		return;
	for (struct sent *s = p->first; s != NULL; s = s->next)
		describe(p, s);
	_fail(file, line);
}

void at(struct peer *p, bw_ns since_start)
{
	bw_ns target = START + since_start;

	while (p->now < target) {
		bw_ns next = bw_tcp_next_deadline(p->tcp);

		/* The deadline is a lower bound: step over it in ticks. Nothing may be earlier than it. */
		next = BW_MAX(next, p->now + BW_NS_PER_MS);
		p->now = BW_MIN(next, target);
		bw_tcp_timers(p->tcp, p->now);
		collect(p);
	}
}

const char *state_of(const struct peer *p)
{
	struct bw_tcp_info info;
	struct bw_tcp_stats stats;

	if (p->conn != NULL) {
		bw_tcp_info(p->conn, &info);
		return info.state;
	}
	bw_tcp_stats(p->tcp, &stats);
	return stats.time_wait != 0 ? "TIME_WAIT" : stats.half_open != 0 ? "SYN_RECEIVED" : "CLOSED";
}

/* ---- beginnings and the end ---------------------------------------------------------------------------- */

static struct peer *made(const struct offer *offer, bool ecn)
{
	struct peer *p = calloc(1, sizeof(*p));
	struct bw_tcp_listener listener = {
		.ops = &ops,
		.user = p,
		.prefetch = on_prefetch,
		.port = PORT,
		.nagle = offer->nagle,
		.pacing = offer->pacing,
		.dscp = offer->dscp,
		.congestion_control = offer->congestion_control,
		.recv_bytes_max = offer->recv_bytes_max,
		.send_bytes_max = offer->send_bytes_max,
		.keepalive_idle_ns = offer->keepalive_idle_ns,
		.user_timeout_ns = offer->user_timeout_ns,
	};

	assert_non_null(p);
	p->mbufs_before = mbufs_in_use(); /* what a failed test before has leaked is not ours */
	bw_tcp_conf_init(&p->conf);
	p->conf.connections_max = 64;
	p->conf.half_open_max = 16;
	p->conf.time_wait_max = 16;
	p->conf.state_bytes = 40;
	p->conf.recv_bytes_max = p->conf.send_bytes_max = 256 * 1024;
	p->conf.can_multi_segment = true;
	p->conf.ecn = ecn;
	p->conf.pool = pool;
	p->conf.counters = &p->counters;
	p->conf.secret = (struct bw_siphash_key){ { 1, 2 } };
	if (offer->tune != NULL)
		offer->tune(&p->conf);
	p->now = START;
	p->window = offer->window != 0 ? offer->window : 65535;
	p->has_timestamps = offer->timestamps;
	p->does = offer->does;
	p->next_seq = PEER;
	if (offer->v6) {
		assert_int_equal(bw_ip_parse("2001:db8::1", &p->flow.local), 0);
		assert_int_equal(bw_ip_parse("2001:db8::2", &p->flow.remote), 0);
	} else {
		assert_int_equal(bw_ip_parse("192.0.2.1", &p->flow.local), 0);
		assert_int_equal(bw_ip_parse("192.0.2.2", &p->flow.remote), 0);
	}
	p->flow.local_port_be = __builtin_bswap16(PORT);
	p->flow.remote_port_be = __builtin_bswap16(40000);
	p->tcp = bw_tcp_create(&p->conf, p->now);
	assert_non_null(p->tcp);
	assert_int_equal(bw_tcp_listen(p->tcp, &listener), 0);
	return p;
}

struct peer *listening(const struct offer *offer)
{
	return made(offer, true); /* the peer's SYN asks for it, or not */
}

struct peer *connecting_with(const struct offer *offer)
{
	struct peer *p = made(offer, offer->ecn);
	struct bw_flow flow = p->flow;

	flow.local_port_be = 0;
	flow.remote_port_be = __builtin_bswap16(8080);
	p->connects = true;
	p->conn = bw_tcp_connect(p->tcp, p->now, 0, &flow);
	assert_non_null(p->conn);
	p->flow = *bw_tcp_flow(p->conn);
	collect(p);
	return p;
}

struct peer *established_with(const struct offer *offer)
{
	struct peer *p = listening(offer);

	IN(p, .seq = PEER, .flags = offer->ecn ? SYN | ECE | CWR : SYN,
		.mss = offer->mss == 1   ? 0
		       : offer->mss != 0 ? offer->mss
					 : 1460,
		.wscale = offer->wscale, .sack_permitted = offer->sack);
	OUT(p, .flags = offer->ecn ? SYN | ACK | ECE : SYN | ACK, .ack = PEER + 1);
	p->now += offer->rtt;
	IN(p, .seq = PEER + 1, .ack = 1);
	QUIET(p);
	assert_int_equal(p->opened, 1);
	return p;
}

void done(struct peer *p)
{
	forget_sent(p);
	bw_tcp_destroy(p->tcp);
	assert_int_equal(p->closed, p->connects ? 1 : p->opened); /* exactly once for each */
	assert_int_equal(mbufs_in_use(), p->mbufs_before);
	free(p);
}
