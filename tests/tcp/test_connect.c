/* SPDX-License-Identifier: BSD-3-Clause */
/** Active open in stories: see harness.h for how to read them. */
#include <arpa/inet.h>

#include "harness.h"

#define REMOTE_PORT 8080

static void answers(struct peer *p)
{
	IN(p, .seq = PEER, .flags = SYN | ACK, .mss = 1460, .wscale = 1 + 7, .sack_permitted = true);
}

static struct bw_flow flow_to(const struct peer *p, uint16_t port)
{
	struct bw_flow flow = p->flow;

	flow.local_port_be = 0;
	flow.remote_port_be = __builtin_bswap16(port);
	return flow;
}

/* ---- SYN_SENT ------------------------------------------------------------------------------------------ */

TEST(syn_offers_all_and_its_answer_opens)
{
	struct peer *p = connecting(.timestamps = true);
	struct sent *s = take(p);

	assert_int_equal(s->f.flags, SYN);
	assert_int_equal(s->f.ack, 0);
	assert_true(s->f.has_mss && s->f.mss == 1460);
	assert_true(s->f.has_wscale && s->f.wscale == 3);
	assert_true(s->f.has_sack_permitted);
	assert_true(s->f.has_timestamp && s->f.ts_echo == 0);
	assert_int_equal(s->f.window, 65535);
	assert_true(s->has_path);
	sent_free(s);
	STATE(p, SYN_SENT);
	assert_int_equal(p->opened, 0);
	p->now += MS(30);
	answers(p);
	OUT(p, .seq = 1, .ack = PEER + 1, .empty = true);
	QUIET(p);
	STATE(p, ESTABLISHED);
	assert_int_equal(p->opened, 1);
	COUNTER(p, TCP_CONNECTED, 1);
	/* Its window on the SYN is not scaled, later ones are; ours are. */
	IN(p, .seq = PEER + 1, .data = "hello", .window = 1000);
	AT(p, MS(100));
	OUT(p, .ack = PEER + 6, .window = 65536 >> 3);
	assert_int_equal(bw_tcp_send(p->conn, "abc", 3), 3);
	collect(p);
	OUT(p, .seq = 1, .data = "abc", .flags = ACK | PSH);
	assert_memory_equal(p->received, "hello", 5);
	QUIET(p);
	done(p);
}

TEST(what_is_sent_before_opened_follows)
{
	struct peer *p = connecting(0);

	OUT(p, .flags = SYN);
	assert_int_equal(bw_tcp_send(p->conn, "early", 5), 5);
	bw_tcp_shutdown(p->conn);
	collect(p);
	QUIET(p);
	answers(p);
	OUT(p, .seq = 1, .ack = PEER + 1, .data = "early", .flags = ACK | FIN);
	QUIET(p);
	STATE(p, FIN_WAIT_1);
	IN(p, .ack = 7);
	STATE(p, FIN_WAIT_2);
	done(p);
}

/** The window of a SYN-ACK is not scaled, so the largest that was seen is not that many times larger (3.8.6.2.1). */
TEST(small_window_of_the_answer_is_no_large_one)
{
	static char bytes[5000];
	struct peer *p = connecting(0);

	OUT(p, .flags = SYN);
	assert_int_equal(bw_tcp_send(p->conn, bytes, sizeof(bytes)), sizeof(bytes));
	IN(p, .seq = PEER, .flags = SYN | ACK, .mss = 1460, .wscale = 1 + 7, .window = 1000);
	OUT(p, .seq = 1, .len = 1000);
	done(p);
}

TEST(small_mss_of_the_answer_holds_for_what_was_queued)
{
	static char bytes[3000];
	struct peer *p = connecting(0);
	uint32_t bytes_sent = 0;

	OUT(p, .flags = SYN);
	assert_int_equal(bw_tcp_send(p->conn, bytes, 3000), 3000);
	IN(p, .seq = PEER, .flags = SYN | ACK, .mss = 600);
	while (p->first != NULL) {
		struct sent *s = take(p);

		assert_int_equal(s->f.seq - p->iss, 1 + bytes_sent);
		assert_true(s->len <= 600);
		bytes_sent += s->len;
		sent_free(s);
	}
	assert_int_equal(bytes_sent, 3000);
	done(p);
}

TEST(answer_without_options_is_taken)
{
	struct peer *p = connecting(0);
	struct sent *s;

	OUT(p, .flags = SYN);
	IN(p, .seq = PEER, .flags = SYN | ACK, .no_ts = true);
	s = take(p);
	assert_false(s->f.has_timestamp);
	sent_free(s);
	assert_int_equal(bw_tcp_send(p->conn, "0123456789", 10), 10);
	collect(p);
	OUT(p, .data = "0123456789", .window = 65535);
	done(p);
}

TEST(data_and_fin_on_the_answer)
{
	struct peer *p = connecting(.does.closes_on_peer_close = true);

	OUT(p, .flags = SYN);
	IN(p, .seq = PEER, .flags = SYN | ACK | FIN, .data = "banner");
	OUT(p, .flags = FIN | ACK, .seq = 1, .ack = PEER + 8);
	QUIET(p);
	assert_memory_equal(p->received, "banner", 6);
	STATE(p, LAST_ACK);
	IN(p, .seq = PEER + 8, .ack = 2);
	assert_int_equal(p->end, BW_TCP_END_CLOSED);
	done(p);
}

TEST(reset_that_acknowledges_the_syn_refuses)
{
	struct peer *p = connecting(0);

	OUT(p, .flags = SYN);
	/* without an ACK, or of what was never sent: from whoever likes to guess */
	IN(p, .seq = 0, .flags = RST);
	IN(p, .seq = PEER, .ack = 2, .flags = RST | ACK);
	IN(p, .seq = PEER, .ack = 0, .has_ack = true, .flags = RST | ACK);
	QUIET(p);
	STATE(p, SYN_SENT);
	IN(p, .seq = PEER, .ack = 1, .flags = RST | ACK);
	assert_int_equal(p->closed, 1);
	assert_int_equal(p->end, BW_TCP_END_REFUSED);
	QUIET(p);
	done(p);
}

/** RFC 9293 3.5.1: a peer that still knows an earlier incarnation is told by RST, and answers our next SYN. */
TEST(peer_with_a_half_open_connection_is_put_right)
{
	struct peer *p = connecting(0);

	OUT(p, .flags = SYN);
	IN(p, .seq = PEER + 500, .ack = 0x10000, .flags = ACK);
	OUT(p, .flags = RST, .seq = 0x10000);
	QUIET(p);
	STATE(p, SYN_SENT);
	AT(p, MS(1002));
	OUT(p, .flags = SYN, .seq = 0);
	answers(p);
	OUT(p, .seq = 1, .ack = PEER + 1);
	STATE(p, ESTABLISHED);
	done(p);
}

TEST(ack_without_syn_is_nothing)
{
	struct peer *p = connecting(0);

	OUT(p, .flags = SYN);
	IN(p, .seq = PEER, .ack = 1, .flags = ACK, .data = "x");
	IN(p, .seq = PEER, .ack = 1, .flags = ACK | FIN);
	QUIET(p);
	STATE(p, SYN_SENT);
	done(p);
}

TEST(syn_is_repeated_for_three_minutes)
{
	static const unsigned at_s[] = { 1, 3, 7, 15, 31, 63, 127 };
	struct peer *p = connecting(0);

	OUT(p, .flags = SYN, .seq = 0);
	for (unsigned i = 0; i < BW_ARRAY_LEN(at_s); i++) {
		AT(p, S(at_s[i]) - MS(1));
		QUIET(p);
		AT(p, S(at_s[i]) + MS(8));
		OUT(p, .flags = SYN, .seq = 0);
		QUIET(p);
	}
	AT(p, S(180) - MS(1));
	STATE(p, SYN_SENT);
	AT(p, S(180) + MS(8));
	assert_int_equal(p->closed, 1);
	assert_int_equal(p->end, BW_TCP_END_TIMED_OUT);
	QUIET(p);
	done(p);
}

/** Its own user time-out bounds the opening, too; the listener's, which is about data, does not (MUST-23). */
TEST(syn_is_given_up_at_the_connections_own_timeout)
{
	struct peer *p = connecting(.user_timeout_ns = S(5));

	AT(p, S(100));
	STATE(p, SYN_SENT);
	bw_tcp_set_user_timeout(p->conn, S(110));
	AT(p, S(110) - MS(1));
	STATE(p, SYN_SENT);
	AT(p, S(110) + MS(8));
	assert_int_equal(p->end, BW_TCP_END_TIMED_OUT);
	done(p);

	p = connecting(0);
	bw_tcp_set_user_timeout(p->conn, S(10));
	forget_sent(p);
	AT(p, S(9));
	for (unsigned i = 0; i < 3; i++) /* after 1, 3 and 7 s */
		OUT(p, .flags = SYN);
	QUIET(p);
	AT(p, S(10) + MS(8));
	assert_int_equal(p->end, BW_TCP_END_TIMED_OUT);
	QUIET(p);
	done(p);
}

/** RFC 5681 3.1 and RFC 6298 5.7. */
TEST(lost_syn_makes_careful)
{
	static char bytes[8000];
	struct peer *p = connecting(0);

	OUT(p, .flags = SYN);
	AT(p, MS(1002));
	OUT(p, .flags = SYN);
	answers(p);
	OUT(p, .seq = 1, .empty = true);
	assert_int_equal(bw_tcp_send(p->conn, bytes, 8000), 8000);
	collect(p);
	OUT(p, .seq = 1, .len = 1460);
	QUIET(p);
	AT(p, MS(1002 + 2990));
	QUIET(p);
	AT(p, MS(1002 + 3010));
	OUT(p, .seq = 1, .len = 1460);
	done(p);
}

/** RFC 7323 4.1: of the SYNs, it is the second that was answered, 20 ms later. */
TEST(timestamp_tells_which_syn_was_answered)
{
	struct peer *p = connecting(.timestamps = true);
	struct bw_tcp_info info;

	OUT(p, .flags = SYN);
	AT(p, MS(1002));
	OUT(p, .flags = SYN);
	p->now += MS(20);
	IN(p, .seq = PEER, .ack = 1, .flags = SYN | ACK, .mss = 1460);
	bw_tcp_info(p->conn, &info);
	assert_in_range(info.srtt_us, 20000, 22000);
	done(p);
}

TEST(round_trip_of_the_syn_counts)
{
	struct peer *p = connecting(0);
	struct bw_tcp_info info;

	p->now += MS(80);
	answers(p);
	bw_tcp_info(p->conn, &info);
	assert_int_equal(info.srtt_us, 80000);
	done(p);
}

/* ---- SYNs that cross: RFC 9293 3.5, figure 8 ------------------------------------------------------------ */

static struct peer *crossed(const struct offer *offer)
{
	struct peer *p = connecting_with(offer);
	struct sent *s;

	OUT(p, .flags = SYN, .seq = 0);
	IN(p, .seq = PEER, .flags = SYN, .mss = 1400, .wscale = 1 + 4, .sack_permitted = true);
	s = take(p);
	assert_int_equal(s->f.flags, SYN | ACK);
	assert_int_equal(s->f.seq, p->iss);
	assert_int_equal(s->f.ack, PEER + 1);
	assert_true(s->f.has_wscale && s->f.has_sack_permitted && s->f.has_mss);
	assert_int_equal(s->f.has_timestamp, offer->timestamps);
	sent_free(s);
	QUIET(p);
	STATE(p, SYN_RECEIVED);
	assert_int_equal(p->opened, 0);
	return p;
}

TEST(simultaneous_open)
{
	struct peer *p = crossed(&(struct offer){ .timestamps = true });

	IN(p, .seq = PEER, .ack = 1, .flags = SYN | ACK, .mss = 1400, .wscale = 1 + 4);
	STATE(p, ESTABLISHED);
	assert_int_equal(p->opened, 1);
	OUT(p, .seq = 1, .ack = PEER + 1, .empty = true);
	QUIET(p);
	IN(p, .seq = PEER + 1, .data = "hi");
	assert_memory_equal(p->received, "hi", 2);
	done(p);
}

TEST(simultaneous_open_ends_with_an_ack)
{
	struct peer *p = crossed(&(struct offer){ 0 });

	IN(p, .seq = PEER + 1, .ack = 1, .data = "hi", .window = 500);
	STATE(p, ESTABLISHED);
	assert_int_equal(p->opened, 1);
	assert_memory_equal(p->received, "hi", 2);
	done(p);
}

TEST(crossed_syn_again_is_answered_again)
{
	struct peer *p = crossed(&(struct offer){ 0 });

	p->now += MS(500);
	IN(p, .seq = PEER, .flags = SYN, .mss = 1400);
	OUT(p, .flags = SYN | ACK, .seq = 0, .ack = PEER + 1);
	/* not more often than it is good for */
	IN(p, .seq = PEER, .flags = SYN, .mss = 1400);
	QUIET(p);
	AT(p, MS(1005));
	OUT(p, .flags = SYN | ACK, .seq = 0, .ack = PEER + 1);
	done(p);
}

TEST(crossed_open_judges_what_comes)
{
	struct peer *p = crossed(&(struct offer){ 0 });

	/* an ACK of what was never sent */
	IN(p, .seq = PEER + 1, .ack = 2);
	OUT(p, .flags = RST, .seq = 2);
	/* an RST in the window, but not at its edge */
	p->now += MS(200);
	IN(p, .seq = PEER + 9, .flags = RST);
	OUT(p, .flags = SYN | ACK);
	STATE(p, SYN_RECEIVED);
	IN(p, .seq = PEER + 1, .flags = RST);
	assert_int_equal(p->end, BW_TCP_END_REFUSED);
	QUIET(p);
	done(p);
}

TEST(crossed_open_gives_up_with_a_reset)
{
	struct peer *p = crossed(&(struct offer){ 0 });

	AT(p, S(181));
	assert_int_equal(p->end, BW_TCP_END_TIMED_OUT);
	for (unsigned i = 0; i < 7; i++)
		OUT(p, .flags = SYN | ACK, .seq = 0);
	OUT(p, .flags = RST | ACK, .seq = 1, .ack = PEER + 1);
	QUIET(p);
	done(p);
}

/* ---- ends ---------------------------------------------------------------------------------------------- */

TEST(abort_and_close_before_the_answer_are_silent)
{
	struct peer *p = connecting(0);

	OUT(p, .flags = SYN);
	bw_tcp_close(p->conn);
	collect(p);
	assert_int_equal(p->end, BW_TCP_END_ABORTED);
	QUIET(p);
	/* Nobody knows of it any more. */
	answers(p);
	OUT(p, .flags = RST, .seq = 1);
	done(p);

	p = connecting(0);
	OUT(p, .flags = SYN);
	bw_tcp_abort(p->conn);
	collect(p);
	assert_int_equal(p->end, BW_TCP_END_ABORTED);
	QUIET(p);
	done(p);
}

TEST(abort_after_crossing_resets)
{
	struct peer *p = crossed(&(struct offer){ 0 });

	bw_tcp_abort(p->conn);
	collect(p);
	OUT(p, .flags = RST | ACK, .seq = 1, .ack = PEER + 1);
	QUIET(p);
	done(p);
}

TEST(icmp_ends_it_if_hard_and_true)
{
	struct peer *p = connecting(0);

	OUT(p, .flags = SYN);
	bw_tcp_icmp_error(p->tcp, p->now, &p->flow, p->iss, false, 0);
	bw_tcp_icmp_error(p->tcp, p->now, &p->flow, p->iss + 1, true, 0);
	bw_tcp_icmp_error(p->tcp, p->now, &p->flow, p->iss - 1, true, 0);
	bw_tcp_icmp_error(p->tcp, p->now, &p->flow, p->iss, false, 576);
	collect(p);
	QUIET(p);
	STATE(p, SYN_SENT);
	bw_tcp_icmp_error(p->tcp, p->now, &p->flow, p->iss, true, 0);
	assert_int_equal(p->end, BW_TCP_END_UNREACHABLE);
	collect(p);
	QUIET(p);
	done(p);
}

/** The reason is told at the end; and after three time-outs it may be the path's fault (RFC 9293 3.8.3). */
TEST(soft_error_is_why_the_syn_had_no_answer)
{
	struct peer *p = connecting(0);

	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(p->first->path, i < 3 ? 0 : BW_TCP_PATH_SUSPECT);
		OUT(p, .flags = SYN);
		AT(p, S((2 << i) - 1) + MS(8) * (i + 1));
	}
	bw_tcp_icmp_error(p->tcp, p->now, &p->flow, p->iss, false, 0);
	STATE(p, SYN_SENT);
	AT(p, S(181));
	assert_int_equal(p->end, BW_TCP_END_UNREACHABLE);
	COUNTER(p, TCP_TIMED_OUT, 1);
	done(p);
}

TEST(empty_pool_delays_the_syn)
{
	struct peer *p = listening(&(struct offer){ 0 });
	struct bw_flow flow = flow_to(p, REMOTE_PORT);
	struct rte_mbuf *all[8192];
	unsigned count = 0;

	while ((all[count] = rte_pktmbuf_alloc(pool)) != NULL)
		count++;
	p->connects = true;
	p->conn = bw_tcp_connect(p->tcp, p->now, 0, &flow);
	assert_non_null(p->conn);
	p->flow = *bw_tcp_flow(p->conn);
	collect(p);
	QUIET(p);
	rte_pktmbuf_free_bulk(all, count);
	collect(p);
	OUT(p, .flags = SYN | ECE | CWR);
	QUIET(p);
	done(p);
}

/* ---- ports --------------------------------------------------------------------------------------------- */

static void many(struct bw_tcp_conf *conf)
{
	conf->connections_max = 1000;
}

static bool every_fourth(const void *arg, const struct bw_flow *flow)
{
	*(unsigned *)(uintptr_t)arg += 1;
	return bw_flow_hash(flow) % 4 == 1;
}

static unsigned looked;

static void many_on_one_of_four(struct bw_tcp_conf *conf)
{
	many(conf);
	conf->is_local = every_fourth;
	conf->is_local_arg = &looked;
}

static bool nowhere(const void *arg, const struct bw_flow *flow)
{
	(void)flow;
	return arg != NULL;
}

static void all_elsewhere(struct bw_tcp_conf *conf)
{
	conf->is_local = nowhere;
}

/** Drop what the story does not look at: flows that are not its own. */
static void discard_output(struct peer *p)
{
	struct bw_tcp_packet packets[64];
	unsigned count;

	do {
		count = bw_tcp_output(p->tcp, p->now, packets, BW_ARRAY_LEN(packets));
		for (unsigned i = 0; i < count; i++)
			rte_pktmbuf_free(packets[i].m);
	} while (count != 0);
}

TEST(ports_differ_and_bring_answers_to_this_core)
{
	struct peer *p = listening(&(struct offer){ .tune = many_on_one_of_four });
	static bool used[65536];
	struct bw_flow flow;
	unsigned others = 0;

	memset(used, 0, sizeof(used));
	looked = 0;
	p->closes_many = true;
	for (unsigned i = 0; i < 1000; i++) {
		struct bw_tcp_conn *conn;
		uint16_t port;

		flow = flow_to(p, (uint16_t)(REMOTE_PORT + i % 2));
		conn = bw_tcp_connect(p->tcp, p->now, 0, &flow);
		assert_non_null(conn);
		port = __builtin_bswap16(bw_tcp_flow(conn)->local_port_be);
		assert_true(port >= 1024);
		assert_int_equal(bw_flow_hash(bw_tcp_flow(conn)) % 4, 1);
		if (i % 2 == 0) {
			assert_false(used[port]);
			used[port] = true;
		} else {
			others += used[port];
		}
	}
	/* Four looks a port, on average; and one remote's ports say nothing of the other's. */
	assert_in_range(looked, 3000, 5000);
	assert_true(others < 500);
	flow = flow_to(p, REMOTE_PORT);
	errno = 0;
	assert_null(bw_tcp_connect(p->tcp, p->now, 0, &flow));
	assert_int_equal(errno, ENOBUFS);
	discard_output(p);
	p->opened = 1000; /* each is closed once */
	done(p);
}

TEST(connect_refuses_what_it_must)
{
	struct peer *p = connecting(.tune = many);
	struct bw_flow flow = *bw_tcp_flow(p->conn);

#define REFUSED(listener, error)                                                                             \
	do {                                                                                                 \
		errno = 0;                                                                                   \
		assert_null(bw_tcp_connect(p->tcp, p->now, listener, &flow));                                \
		assert_int_equal(errno, error);                                                              \
	} while (0)
	REFUSED(0, EADDRINUSE);
	flow = flow_to(p, 0);
	REFUSED(0, EINVAL);
	flow = flow_to(p, REMOTE_PORT);
	REFUSED(1, EINVAL);
	flow.remote = flow.local;
	REFUSED(0, EINVAL);
	flow.remote = bw_ip_from_v4(htonl(0xe0000001));
	REFUSED(0, EINVAL);
	flow.remote = bw_ip_from_v4(htonl(0x7f000001));
	REFUSED(0, EINVAL);
	flow.remote = bw_ip_from_v4(0);
	REFUSED(0, EINVAL);
	assert_int_equal(bw_ip_parse("2001:db8::2", &flow.remote), 0);
	REFUSED(0, EINVAL);
	flow = flow_to(p, REMOTE_PORT);
	bw_tcp_set_pressure(p->tcp, BW_TCP_PRESSURE_LOW);
	REFUSED(0, ENOBUFS);
	done(p);
	p = listening(&(struct offer){ .tune = all_elsewhere });
	flow = flow_to(p, REMOTE_PORT);
	REFUSED(0, EADDRNOTAVAIL);
	done(p);
}

/** A listener without a port is for connections that are opened here: a SYN to port 0 finds nobody. */
TEST(listener_without_a_port_accepts_nothing)
{
	struct peer *p = listening(&(struct offer){ 0 });
	struct bw_tcp_listener listener = { .ops = &(struct bw_tcp_ops){ 0 } };

	assert_int_equal(bw_tcp_listen(p->tcp, &listener), 1);
	assert_int_equal(bw_tcp_listen(p->tcp, &listener), 2);
	assert_false(bw_tcp_is_listening(p->tcp, 0));
	p->flow.local_port_be = 0;
	IN(p, .seq = PEER, .flags = SYN);
	OUT(p, .flags = RST | ACK, .ack = PEER + 1);
	done(p);
}

static void finish_first(struct peer *p)
{
	answers(p);
	forget_sent(p);
	bw_tcp_shutdown(p->conn);
	collect(p);
	OUT(p, .flags = FIN | ACK, .seq = 1);
	IN(p, .seq = PEER + 1, .ack = 2, .flags = FIN | ACK);
	OUT(p, .flags = ACK, .seq = 2, .ack = PEER + 2);
	STATE(p, TIME_WAIT);
}

TEST(time_wait_makes_way_after_a_second)
{
	struct peer *p = connecting(.timestamps = true);
	struct bw_flow flow = p->flow;
	struct sent *s = take(p);
	uint32_t ts = s->f.ts_value;

	sent_free(s);
	finish_first(p);
	p->now += MS(900);
	errno = 0;
	assert_null(bw_tcp_connect(p->tcp, p->now, 0, &flow));
	assert_int_equal(errno, EADDRINUSE);
	p->now += MS(200);
	p->conn = bw_tcp_connect(p->tcp, p->now, 0, &flow);
	assert_non_null(p->conn);
	collect(p);
	s = take(p);
	/* The peer sees a number and a time beyond the old ones: RFC 6191. */
	assert_int_equal(s->f.flags, SYN);
	assert_true(bw_seq_gt(s->f.seq, p->iss + 2));
	assert_true((int32_t)(s->f.ts_value - ts) >= 1000);
	sent_free(s);
	p->closes_many = true;
	p->connects = false;
	p->opened = 2;
	done(p);
}

TEST(time_wait_without_timestamps_stays)
{
	struct peer *p = connecting(0);
	struct bw_flow flow = p->flow;

	OUT(p, .flags = SYN);
	finish_first(p);
	p->now += S(59);
	errno = 0;
	assert_null(bw_tcp_connect(p->tcp, p->now, 0, &flow));
	assert_int_equal(errno, EADDRINUSE);
	done(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(syn_offers_all_and_its_answer_opens),
		cmocka_unit_test(what_is_sent_before_opened_follows),
		cmocka_unit_test(small_window_of_the_answer_is_no_large_one),
		cmocka_unit_test(small_mss_of_the_answer_holds_for_what_was_queued),
		cmocka_unit_test(answer_without_options_is_taken),
		cmocka_unit_test(data_and_fin_on_the_answer),
		cmocka_unit_test(reset_that_acknowledges_the_syn_refuses),
		cmocka_unit_test(peer_with_a_half_open_connection_is_put_right),
		cmocka_unit_test(ack_without_syn_is_nothing),
		cmocka_unit_test(syn_is_repeated_for_three_minutes),
		cmocka_unit_test(syn_is_given_up_at_the_connections_own_timeout),
		cmocka_unit_test(lost_syn_makes_careful),
		cmocka_unit_test(timestamp_tells_which_syn_was_answered),
		cmocka_unit_test(round_trip_of_the_syn_counts),
		cmocka_unit_test(simultaneous_open),
		cmocka_unit_test(simultaneous_open_ends_with_an_ack),
		cmocka_unit_test(crossed_syn_again_is_answered_again),
		cmocka_unit_test(crossed_open_judges_what_comes),
		cmocka_unit_test(crossed_open_gives_up_with_a_reset),
		cmocka_unit_test(abort_and_close_before_the_answer_are_silent),
		cmocka_unit_test(abort_after_crossing_resets),
		cmocka_unit_test(icmp_ends_it_if_hard_and_true),
		cmocka_unit_test(soft_error_is_why_the_syn_had_no_answer),
		cmocka_unit_test(empty_pool_delays_the_syn),
		cmocka_unit_test(ports_differ_and_bring_answers_to_this_core),
		cmocka_unit_test(connect_refuses_what_it_must),
		cmocka_unit_test(listener_without_a_port_accepts_nothing),
		cmocka_unit_test(time_wait_makes_way_after_a_second),
		cmocka_unit_test(time_wait_without_timestamps_stays),
	};

	if (harness_start() != 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
