/* SPDX-License-Identifier: BSD-3-Clause */
/** SYN cookies: stories (harness.h), what a forger can do, and what a SYN costs. */
#include <math.h>
#include <time.h>

#include "harness.h"
#include "internal.h"

#define PERIOD S(64)

static char bulk[400000];

static void tune_always(struct bw_tcp_conf *conf)
{
	conf->syn_cookies = BW_TCP_SYN_COOKIES_ALWAYS;
}

static void tune_one(struct bw_tcp_conf *conf)
{
	conf->half_open_max = 1;
}

static void other_client(struct peer *p, unsigned which)
{
	p->flow.remote_port_be = __builtin_bswap16((uint16_t)(40000 + which));
	p->iss = p->snd_max = 0;
	p->next_seq = PEER;
}

/** Send a SYN and look at the answer: the caller frees it. */
#define SYN_ANSWER(p, ...) (IN(p, .seq = PEER, .flags = SYN, __VA_ARGS__), take(p))

/** A half-open entry that nobody will complete: with tune_one, the cache is full. */
static void occupy(struct peer *p)
{
	struct bw_tcp_stats stats;

	other_client(p, 999);
	IN(p, .seq = PEER, .flags = SYN);
	OUT(p, .flags = SYN | ACK);
	bw_tcp_stats(p->tcp, &stats);
	assert_int_equal(stats.half_open, 1);
	other_client(p, 0);
}

/* ---- stories --------------------------------------------------------------------------------------------- */

TEST(full_cache_answers_with_a_cookie)
{
	struct peer *p = listening(&(struct offer){ .tune = tune_one });
	struct bw_tcp_stats stats;

	occupy(p);
	COUNTER(p, TCP_COOKIES_SENT, 0);
	IN(p, .seq = PEER, .flags = SYN, .mss = 1460);
	OUT(p, .flags = SYN | ACK, .ack = PEER + 1);
	QUIET(p);
	COUNTER(p, TCP_COOKIES_SENT, 1);
	COUNTER(p, TCP_SYN_REFUSED, 0);
	bw_tcp_stats(p->tcp, &stats);
	assert_int_equal(stats.half_open, 1);
	IN(p, .seq = PEER + 1, .ack = 1);
	QUIET(p);
	STATE(p, ESTABLISHED);
	COUNTER(p, TCP_COOKIES_ACCEPTED, 1);
	COUNTER(p, TCP_ACCEPTED, 1);
	assert_int_equal(bw_tcp_send(p->conn, "hello", 5), 5);
	collect(p);
	OUT(p, .seq = 1, .data = "hello");
	IN(p, .ack = 6, .data = "world");
	assert_memory_equal(p->received, "world", 5);
	/* The entry that was there is untouched. */
	bw_tcp_stats(p->tcp, &stats);
	assert_int_equal(stats.half_open, 1);
	done(p);
}

/** A cookie is sent once a SYN. The same SYN gets the same number, so the peer may take either answer. */
TEST(cookie_is_not_repeated)
{
	struct peer *p = listening(&(struct offer){ .tune = tune_always, .timestamps = true });
	bw_seq iss;

	IN(p, .seq = PEER, .flags = SYN);
	OUT(p, .flags = SYN | ACK);
	iss = p->iss;
	STATE(p, CLOSED);
	AT(p, S(10));
	QUIET(p);
	IN(p, .seq = PEER, .flags = SYN);
	OUT(p, .flags = SYN | ACK, .seq = 0);
	assert_int_equal(p->iss, iss);
	QUIET(p);
	IN(p, .seq = PEER + 1, .ack = 1);
	STATE(p, ESTABLISHED);
	QUIET(p);
	COUNTER(p, TCP_RETRANSMITS, 0);
	COUNTER(p, TCP_COOKIES_SENT, 2);
	done(p);
}

static void tune_always_with_small_mss(struct bw_tcp_conf *conf)
{
	tune_always(conf);
	conf->mss_min = 64;
}

TEST(cookie_carries_every_class_of_mss)
{
	/* what the peer says, and what is left of it; 9000 on the link */
	static const struct {
		uint16_t says, left;
	} table[] = { { 1, 64 }, { 64, 64 }, { 535, 64 }, { 536, 536 }, { 1219, 536 }, { 1220, 1220 },
		{ 1359, 1220 }, { 1360, 1360 }, { 1380, 1360 }, { 1400, 1400 }, { 1432, 1400 },
		{ 1440, 1440 }, { 1452, 1440 }, { 1460, 1460 }, { 8000, 1460 }, { 8940, 8940 },
		{ 8960, 8940 }, { 65535, 8940 } };

	for (unsigned i = 0; i < 4 * BW_ARRAY_LEN(table); i++) {
		struct peer *p = listening(&(struct offer){
			.tune = tune_always_with_small_mss, .v6 = i & 1, .timestamps = i & 2 });
		unsigned of = i / 4;

		((struct bw_tcp_conf *)&p->tcp->conf)->mtu = p->conf.mtu = 9000;
		IN(p, .seq = PEER, .flags = SYN, .mss = table[of].says);
		OUT(p, .flags = SYN | ACK);
		IN(p, .seq = PEER + 1, .ack = 1);
		STATE(p, ESTABLISHED);
		/* RFC 6691: less the timestamps */
		assert_int_equal(p->conn->mss, table[of].left - (i & 2 ? 12 : 0));
		done(p);
	}
}

TEST(cookie_knows_the_default_mss)
{
	for (unsigned v6 = 0; v6 < 2; v6++) {
		struct peer *p = established(.tune = tune_always, .v6 = v6, .mss = 1);

		assert_int_equal(p->conn->mss, v6 ? 1220 : 536);
		done(p);
	}
}

/** A connection from a cookie is the one that a half-open entry would have become. */
TEST(cookie_carries_every_option)
{
	/* wscale + 1, so 0 is none; 1 + 15 is more than RFC 7323 allows */
	for (unsigned i = 0; i < 8 * 17; i++) {
		bool v6 = i & 1, timestamps = i & 2, sack = i & 4;
		uint8_t wscale = (uint8_t)(i / 8);
		struct bw_tcp_conn conns[2];
		uint32_t offsets[2];

		for (unsigned always = 0; always < 2; always++) {
			struct peer *p = listening(&(struct offer){
				.tune = always ? tune_always : NULL, .v6 = v6, .timestamps = timestamps });
			bool carries = timestamps || !always;
			struct sent *s = SYN_ANSWER(
				p, .mss = 1440, .wscale = wscale, .sack_permitted = sack, .ts = 77);

			assert_int_equal(s->f.flags, SYN | ACK);
			assert_true(s->f.has_mss && s->f.mss == (v6 ? 1440 : 1460));
			assert_int_equal(s->f.has_timestamp, timestamps);
			assert_int_equal(s->f.has_wscale, wscale != 0 && carries);
			assert_int_equal(s->f.has_sack_permitted, sack && carries);
			assert_int_equal(s->f.window, 65535);
			if (timestamps)
				assert_int_equal(s->f.ts_echo, 77);
			sent_free(s);
			COUNTER(p, TCP_COOKIES_SENT, always);
			p->now += MS(30);
			IN(p, .seq = PEER + 1, .ack = 1, .ts = 107, .window = 1000);
			QUIET(p);
			STATE(p, ESTABLISHED);
			conns[always] = *p->conn;
			offsets[always] = p->conn->ts_offset;
			done(p);
		}
		assert_int_equal(conns[0].mss, conns[1].mss);
		assert_int_equal(conns[0].rcv_mss, conns[1].rcv_mss);
		assert_int_equal(conns[0].rcv_nxt, conns[1].rcv_nxt);
		assert_int_equal(conns[0].rcv_adv, conns[1].rcv_adv);
		assert_int_equal(conns[0].cwnd, conns[1].cwnd);
		assert_int_equal(conns[0].ts_recent, conns[1].ts_recent);
		assert_int_equal(offsets[0], offsets[1]);
		if (timestamps) {
			assert_int_equal(conns[0].flags, conns[1].flags);
			assert_int_equal(conns[0].snd_wscale, conns[1].snd_wscale);
			assert_int_equal(conns[0].rcv_wscale, conns[1].rcv_wscale);
			assert_int_equal(conns[0].snd_wnd, conns[1].snd_wnd);
		} else {
			assert_int_equal(conns[1].snd_wscale | conns[1].rcv_wscale, 0);
			assert_int_equal(conns[1].flags & BW_CONN_SACK, 0);
			assert_int_equal(conns[1].snd_wnd, 1000);
		}
		/* The round trip is not known, or not well. */
		assert_int_equal(conns[0].srtt_us8, MS(30) / 1000 * 8);
		if (timestamps) {
			assert_true(conns[1].srtt_us8 >= conns[0].srtt_us8);
			assert_true(conns[1].srtt_us8 <= conns[0].srtt_us8 + 63000 * 8);
		} else {
			assert_int_equal(conns[1].srtt_us8, 0);
			assert_int_equal(conns[1].rttvar_us4, BW_TCP__RTO_INITIAL_MS);
		}
	}
}

TEST(data_and_fin_on_the_cookies_ack)
{
	struct peer *p = listening(&(struct offer){
		.tune = tune_always, .timestamps = true, .does.closes_on_peer_close = true });

	/* The peer's clock is in the half of its numbers that is before 0. */
	IN(p, .seq = PEER, .flags = SYN, .ts = 0xc0000000);
	OUT(p, .flags = SYN | ACK);
	IN(p, .seq = PEER + 1, .ack = 1, .flags = ACK | FIN | PSH, .data = "hello", .ts = 0xc0000001);
	OUT(p, .flags = FIN | ACK, .seq = 1, .ack = PEER + 7);
	QUIET(p);
	assert_memory_equal(p->received, "hello", 5);
	STATE(p, LAST_ACK);
	IN(p, .seq = PEER + 7, .ack = 2, .ts = 0xc0000002);
	STATE(p, CLOSED);
	assert_int_equal(p->end, BW_TCP_END_CLOSED);
	QUIET(p);
	done(p);
}

/** The ACK was lost: the first data brings the same numbers. */
TEST(first_data_stands_for_the_cookies_ack)
{
	struct peer *p = listening(&(struct offer){ .tune = tune_always, .does.echoes = true });

	IN(p, .seq = PEER, .flags = SYN);
	OUT(p, .flags = SYN | ACK);
	p->now += S(60);
	IN(p, .seq = PEER + 1, .ack = 1, .data = "ping");
	OUT(p, .seq = 1, .ack = PEER + 5, .data = "ping");
	QUIET(p);
	done(p);
}

/** An ACK that is late, or a peer that lies about our clock, makes no time-out of a minute. */
TEST(round_trip_of_a_cookie_is_believed_up_to_a_second)
{
	for (unsigned lies = 0; lies < 2; lies++) {
		struct peer *p = listening(&(struct offer){ .tune = tune_always, .timestamps = true });
		struct bw_tcp_info info;

		IN(p, .seq = PEER, .flags = SYN);
		OUT(p, .flags = SYN | ACK);
		if (lies)
			p->ts_echo += 1u << 20;
		else
			p->now += MS(1064);
		IN(p, .seq = PEER + 1, .ack = 1);
		STATE(p, ESTABLISHED);
		bw_tcp_info(p->conn, &info);
		assert_int_equal(info.srtt_us, 0);
		assert_int_equal(info.rto_us, 1000000);
		done(p);
	}
}

TEST(only_an_ack_brings_a_cookie_back)
{
	struct peer *p = listening(&(struct offer){ .tune = tune_always });

	IN(p, .seq = PEER, .flags = SYN);
	OUT(p, .flags = SYN | ACK);
	IN(p, .seq = PEER + 1, .ack = 1, .flags = RST | ACK);
	IN(p, .seq = PEER + 1, .ack = 1, .multicast = true);
	IN(p, .seq = PEER + 1, .flags = FIN);
	QUIET(p);
	IN(p, .seq = PEER + 1, .ack = 1, .flags = SYN | ACK);
	OUT(p, .flags = RST, .seq = 1);
	QUIET(p);
	STATE(p, CLOSED);
	COUNTER(p, TCP_COOKIES_REJECTED, 0);
	/* None of it has spoiled it. */
	IN(p, .seq = PEER + 1, .ack = 1);
	STATE(p, ESTABLISHED);
	done(p);
}

TEST(cookies_ack_again)
{
	struct peer *p = established(.tune = tune_always);

	IN(p, .seq = PEER + 1, .ack = 1);
	IN(p, .seq = PEER + 1, .ack = 1);
	QUIET(p);
	assert_int_equal(p->opened, 1);
	COUNTER(p, TCP_COOKIES_ACCEPTED, 1);
	COUNTER(p, TCP_COOKIES_REJECTED, 0);
	done(p);
}

/** Every way to bend a cookie ends in RST, as every ACK without a connection does. */
TEST(bent_cookies_are_refused)
{
	struct peer *p = listening(&(struct offer){ .tune = tune_always, .timestamps = true });
	struct bw_flow flow = p->flow;
	uint32_t ts_echo, refused = 0;

	IN(p, .seq = PEER, .flags = SYN, .mss = 1460, .wscale = 1 + 7, .sack_permitted = true);
	OUT(p, .flags = SYN | ACK);
	ts_echo = p->ts_echo;
#define REFUSED(...)                                                                                         \
	do {                                                                                                 \
		IN(p, __VA_ARGS__);                                                                          \
		OUT(p, .flags = RST);                                                                        \
		QUIET(p);                                                                                    \
		STATE(p, CLOSED);                                                                            \
		COUNTER(p, TCP_COOKIES_REJECTED, ++refused);                                                 \
	} while (0)
	for (unsigned bit = 0; bit < 32; bit++) {
		REFUSED(.seq = PEER + 1, .has_ack = true, .ack = 1 ^ 1u << bit);
		REFUSED(.seq = (PEER + 1) ^ 1u << bit, .ack = 1);
	}
	for (uint32_t off = 1; off < 300; off++) {
		REFUSED(.seq = PEER + 1, .ack = 1 + off);
		REFUSED(.seq = PEER + 1, .has_ack = true, .ack = 1 - off);
		REFUSED(.seq = PEER + 1 + off, .ack = 1);
	}
	for (unsigned i = 0; i < 8 * sizeof(p->flow); i++) {
		/* The listener's port is not looked at with a bit of it flipped: nobody listens there. */
		if (i / 8 == offsetof(struct bw_flow, local_port_be) ||
			i / 8 == offsetof(struct bw_flow, local_port_be) + 1)
			continue;
		((uint8_t *)&p->flow)[i / 8] ^= (uint8_t)(1 << i % 8);
		REFUSED(.seq = PEER + 1, .ack = 1);
		p->flow = flow;
	}
	for (unsigned bit = 0; bit < 6; bit++) {
		p->ts_echo = ts_echo ^ 1u << bit;
		REFUSED(.seq = PEER + 1, .ack = 1);
	}
	REFUSED(.seq = PEER + 1, .ack = 1, .no_ts = true);
#undef REFUSED
	p->ts_echo = ts_echo;
	IN(p, .seq = PEER + 1, .ack = 1);
	STATE(p, ESTABLISHED);
	done(p);
}

/** Good in its period and the next, at every place within one. */
TEST(old_cookies_are_refused)
{
	for (unsigned i = 0; i < 8; i++) {
		struct peer *p = listening(&(struct offer){ .tune = tune_always });
		bw_ns into = (const bw_ns[]){ 0, 1, MS(1), S(10), S(63), PERIOD - MS(1), PERIOD - 1,
			PERIOD - S(1) }[i];
		bw_ns start = (p->now / PERIOD + 1) * PERIOD + into;
		bw_ns last = (start / PERIOD + 2) * PERIOD - 1;

		p->now = start;
		IN(p, .seq = PEER, .flags = SYN);
		OUT(p, .flags = SYN | ACK);
		assert_true(last - start >= PERIOD - 1 && last - start < 2 * PERIOD);
		p->now = last;
		IN(p, .seq = PEER + 1, .ack = 1);
		STATE(p, ESTABLISHED);
		IN(p, .seq = PEER + 1, .ack = 1, .flags = RST);
		STATE(p, CLOSED);
		/* Alone, it is not even looked at. */
		p->now = last + 1;
		IN(p, .seq = PEER + 1, .ack = 1);
		OUT(p, .flags = RST, .seq = 1);
		COUNTER(p, TCP_COOKIES_REJECTED, 0);
		/* While younger ones are out, it is, and is refused. */
		p->flow.remote_port_be ^= 1;
		IN(p, .seq = PEER, .flags = SYN);
		OUT(p, .flags = SYN | ACK);
		p->flow.remote_port_be ^= 1;
		IN(p, .seq = PEER + 1, .ack = 1);
		OUT(p, .flags = RST, .seq = 1);
		COUNTER(p, TCP_COOKIES_REJECTED, 1);
		for (unsigned later = 1; later < 6; later++) {
			p->now += PERIOD / 2;
			p->flow.remote_port_be ^= 1;
			IN(p, .seq = PEER, .flags = SYN);
			OUT(p, .flags = SYN | ACK);
			p->flow.remote_port_be ^= 1;
			IN(p, .seq = PEER + 1, .ack = 1);
			OUT(p, .flags = RST, .seq = 1);
			COUNTER(p, TCP_COOKIES_REJECTED, 1 + later);
		}
		STATE(p, CLOSED);
		done(p);
	}
}

TEST(stray_acks_cost_nothing_while_no_cookie_is_out)
{
	struct peer *p = listening(&(struct offer){ .tune = tune_one });

	for (unsigned i = 0; i < 100; i++) {
		IN(p, .seq = PEER + i, .ack = 1 + i);
		OUT(p, .flags = RST);
	}
	COUNTER(p, TCP_COOKIES_REJECTED, 0);
	done(p);
}

static void tune_one_connection(struct bw_tcp_conf *conf)
{
	conf->connections_max = 1;
	conf->syn_cookies = BW_TCP_SYN_COOKIES_ALWAYS;
}

/** The table filled up between cookie and ACK: silence, and the peer's data asks again. */
TEST(cookies_ack_finds_no_connection)
{
	struct peer *p = listening(&(struct offer){ .tune = tune_one_connection });
	bw_seq iss;

	IN(p, .seq = PEER, .flags = SYN);
	OUT(p, .flags = SYN | ACK);
	iss = p->iss;
	other_client(p, 1);
	IN(p, .seq = PEER, .flags = SYN);
	OUT(p, .flags = SYN | ACK);
	IN(p, .seq = PEER + 1, .ack = 1);
	STATE(p, ESTABLISHED);
	other_client(p, 0);
	p->iss = iss;
	IN(p, .seq = PEER + 1, .ack = 1);
	QUIET(p);
	COUNTER(p, TCP_SYN_REFUSED, 1);
	other_client(p, 2);
	IN(p, .seq = PEER, .flags = SYN);
	QUIET(p);
	COUNTER(p, TCP_SYN_REFUSED, 2);
	p->closes_many = true;
	bw_tcp_abort(p->conn);
	other_client(p, 1);
	collect(p);
	OUT(p, .flags = RST | ACK);
	other_client(p, 0);
	p->iss = iss;
	IN(p, .seq = PEER + 1, .ack = 1, .data = "still here");
	STATE(p, ESTABLISHED);
	assert_int_equal(p->opened, 2);
	assert_memory_equal(p->received, "still here", 10);
	done(p);
}

/** As with an entry: who has an answer may know already that it is connected. */
TEST(listener_that_went_away_keeps_its_cookies)
{
	struct peer *p = listening(&(struct offer){ .tune = tune_always });

	IN(p, .seq = PEER, .flags = SYN);
	OUT(p, .flags = SYN | ACK);
	bw_tcp_unlisten_all(p->tcp);
	IN(p, .seq = PEER + 1, .ack = 2);
	OUT(p, .flags = RST);
	IN(p, .seq = PEER + 1, .ack = 1);
	STATE(p, ESTABLISHED);
	QUIET(p);
	/* A port that never had a listener is none of its business. */
	p->flow.local_port_be = __builtin_bswap16(81);
	IN(p, .seq = PEER + 1, .ack = 1);
	OUT(p, .flags = RST);
	COUNTER(p, TCP_COOKIES_REJECTED, 1);
	p->flow.local_port_be = __builtin_bswap16(PORT);
	done(p);
}

TEST(scarce_buffers_get_no_cookies)
{
	struct peer *p = listening(&(struct offer){ .tune = tune_always });

	bw_tcp_set_pressure(p->tcp, BW_TCP_PRESSURE_LOW);
	IN(p, .seq = PEER, .flags = SYN);
	QUIET(p);
	COUNTER(p, TCP_SYN_REFUSED, 1);
	COUNTER(p, TCP_COOKIES_SENT, 0);
	done(p);
}

/** The cookie was on its way for longer than the peer waited, and its second SYN found room in the cache. */
TEST(cookie_that_an_entry_overtook_is_taken)
{
	for (unsigned takes_cookie = 0; takes_cookie < 2; takes_cookie++) {
		struct peer *p = listening(&(struct offer){ .tune = tune_one, .timestamps = true });
		struct bw_tcp_stats stats;
		uint32_t cookie_ts;
		bw_seq cookie;

		occupy(p);
		IN(p, .seq = PEER, .flags = SYN, .sack_permitted = true);
		OUT(p, .flags = SYN | ACK);
		cookie = p->iss;
		cookie_ts = p->ts_echo;
		other_client(p, 999);
		IN(p, .seq = PEER + 1, .flags = RST);
		other_client(p, 0);
		IN(p, .seq = PEER, .flags = SYN, .sack_permitted = true);
		OUT(p, .flags = SYN | ACK);
		assert_int_not_equal(p->iss, cookie);
		STATE(p, SYN_RECEIVED);
		if (takes_cookie) {
			p->iss = p->snd_max = cookie;
			p->ts_echo = cookie_ts;
		}
		IN(p, .seq = PEER + 1, .has_ack = true, .ack = 0);
		OUT(p, .flags = RST);
		IN(p, .seq = PEER + 1, .ack = 1);
		QUIET(p);
		STATE(p, ESTABLISHED);
		COUNTER(p, TCP_COOKIES_ACCEPTED, takes_cookie);
		bw_tcp_stats(p->tcp, &stats);
		assert_int_equal(stats.half_open, 0);
		assert_int_equal(bw_tcp_send(p->conn, "x", 1), 1);
		collect(p);
		OUT(p, .seq = 1, .data = "x");
		AT(p, MS(100)); /* no entry that is left would repeat its answer */
		forget_sent(p);
		done(p);
	}
}

static struct peer *in_time_wait(const struct offer *offer)
{
	struct peer *p = established_with(offer);

	bw_tcp_shutdown(p->conn);
	collect(p);
	OUT(p, .flags = FIN | ACK, .seq = 1);
	IN(p, .flags = FIN | ACK, .ack = 2);
	OUT(p, .flags = ACK, .seq = 2);
	QUIET(p);
	STATE(p, TIME_WAIT);
	p->closes_many = true;
	p->now += MS(1000);
	p->iss = p->snd_max = 0;
	return p;
}

/**
 * A cookie cannot leave the last incarnation's numbers behind. Where timestamps do, it may follow; else the peer
 * waits for a place in the cache.
 */
TEST(cookie_follows_a_time_wait_with_timestamps)
{
	struct peer *p = in_time_wait(&(struct offer){ .tune = tune_one, .timestamps = true });
	bw_seq next = p->next_seq + 100;

	occupy(p);
	IN(p, .seq = next, .flags = SYN);
	OUT(p, .flags = SYN | ACK, .ack = next + 1);
	COUNTER(p, TCP_COOKIES_SENT, 1);
	IN(p, .seq = next + 1, .ack = 1);
	STATE(p, ESTABLISHED);
	QUIET(p);
	done(p);

	p = in_time_wait(&(struct offer){ .tune = tune_one });
	next = p->next_seq + 100;
	occupy(p);
	IN(p, .seq = next, .flags = SYN);
	OUT(p, .flags = ACK, .ack = next - 100);
	QUIET(p);
	COUNTER(p, TCP_COOKIES_SENT, 0);
	STATE(p, TIME_WAIT);
	done(p);

	p = in_time_wait(&(struct offer){ .tune = tune_always });
	next = p->next_seq + 100;
	COUNTER(p, TCP_COOKIES_SENT, 1);
	IN(p, .seq = next, .flags = SYN);
	OUT(p, .flags = SYN | ACK, .ack = next + 1);
	COUNTER(p, TCP_COOKIES_SENT, 1);
	IN(p, .seq = next + 1, .ack = 1);
	STATE(p, ESTABLISHED);
	done(p);
}

/** Our clock, as the peer sees it, never goes back: not from cookie to cookie, not to the connection. */
TEST(timestamps_go_on_from_the_cookies)
{
	for (unsigned i = 0; i < 300; i++) {
		struct peer *p = listening(&(struct offer){ .tune = tune_always, .timestamps = true });
		struct sent *s;
		uint32_t ts, clock;

		p->now = START + MS(i);
		s = SYN_ANSWER(p, .wscale = 1 + i % 15, .sack_permitted = i & 1);
		clock = (uint32_t)(i + bw_tcp__numbers(p->tcp, &p->flow).ts_offset);
		ts = s->f.ts_value;
		assert_true(clock - ts < 64);
		sent_free(s);
		p->now += MS(1);
		s = SYN_ANSWER(p, .wscale = 1 + i % 15, .sack_permitted = i & 1);
		assert_true((int32_t)(s->f.ts_value - ts) >= 0);
		ts = s->f.ts_value;
		sent_free(s);
		IN(p, .seq = PEER + 1, .ack = 1);
		STATE(p, ESTABLISHED);
		assert_int_equal(p->conn->snd_wscale, i % 15);
		assert_int_equal(bw_tcp_send(p->conn, "x", 1), 1);
		collect(p);
		s = take(p);
		assert_true((int32_t)(s->f.ts_value - ts) >= 0);
		assert_int_equal(s->f.ts_value, clock + 1);
		sent_free(s);
		done(p);
	}
}

TEST(cookie_carries_ecn_where_there_are_timestamps)
{
	for (unsigned timestamps = 0; timestamps < 2; timestamps++) {
		struct peer *p = listening(&(struct offer){ .tune = tune_always, .timestamps = timestamps });

		IN(p, .seq = PEER, .flags = SYN | ECE | CWR, .mss = 1460, .ts = 77);
		OUT(p, .flags = timestamps ? SYN | ACK | ECE : SYN | ACK, .ack = PEER + 1);
		COUNTER(p, TCP_COOKIES_SENT, 1);
		IN(p, .seq = PEER + 1, .ack = 1, .ts = 78);
		assert_int_equal(bw_tcp_send(p->conn, "abc", 3), 3);
		collect(p);
		OUT(p, .data = "abc", .ecn = timestamps ? ECT0 : NOT_ECT);
		done(p);
	}
}

TEST(cookie_timestamps_are_right_at_the_wrap)
{
	struct bw_tcp__half_open half = { .has_timestamps = 1, .has_sack = 1, .wscale = 7 };
	uint32_t before = 0;

	for (half.wscale = 0; half.wscale < 15; half.wscale++) {
		for (uint32_t clock = (uint32_t)-200; clock != 200; clock++) {
			uint32_t ts = bw_tcp__cookie_timestamp(&half, clock);

			assert_true(clock - ts < 64);
			assert_int_equal(ts & 63, half.wscale | 0x10);
			if (clock != (uint32_t)-200)
				assert_true(ts - before == 0 || ts - before == 64);
			before = ts;
		}
	}
}

/** The windows are scaled as the cookie said, in both directions, and more than 64 KiB is in flight. */
TEST(connection_of_a_cookie_uses_its_windows)
{
	struct peer *p = listening(&(struct offer){ .tune = tune_always,
		.timestamps = true,
		.recv_bytes_max = 1 << 20,
		.send_bytes_max = 1 << 20 });
	struct sent *s = SYN_ANSWER(p, .mss = 1460, .wscale = 1 + 5, .sack_permitted = true);
	uint32_t queued, sent_bytes = 0, in_flight_max = 0;
	bw_seq una;

	assert_int_equal(s->f.wscale, 5); /* 1 MiB */
	sent_free(s);
	p->window = 10000; /* 320,000 */
	p->now += MS(10);
	IN(p, .seq = PEER + 1, .ack = 1);
	for (unsigned i = 0; i < sizeof(bulk); i++)
		bulk[i] = (char)(i * 7 + i / 251);
	queued = bw_tcp_send(p->conn, bulk, sizeof(bulk));
	collect(p);
	una = p->iss + 1;
	for (unsigned turns = 0; sent_bytes < sizeof(bulk); turns++) {
		assert_true(turns < 1000);
		queued += bw_tcp_send(p->conn, bulk + queued, sizeof(bulk) - queued);
		collect(p);
		while ((s = take(p)) != NULL) {
			assert_int_equal(s->f.seq, p->iss + 1 + sent_bytes);
			assert_memory_equal(s->data, bulk + sent_bytes, s->len);
			sent_bytes += s->len;
			sent_free(s);
		}
		in_flight_max = BW_MAX(in_flight_max, p->snd_max - una);
		p->now += MS(10);
		while (una != p->snd_max) { /* an ACK for every second segment, all of this flight */
			una += BW_MIN(p->snd_max - una, 2u * p->conn->mss);
			IN(p, .ack = una - p->iss);
			if (una - p->iss - 1 >= sent_bytes)
				break;
		}
	}
	assert_true(in_flight_max > 65535 && in_flight_max <= 320000);
	/* And in: the window that we advertise is in units of 32. */
	IN(p, .data = bulk, .len = 1000);
	AT(p, p->now - START + MS(100));
	s = take(p);
	assert_int_equal(s->f.ack, PEER + 1001);
	assert_true(s->f.window << 5 > 65535);
	sent_free(s);
	COUNTER(p, TCP_RETRANSMITS, 0);
	forget_sent(p);
	done(p);
}

/* ---- bursts ---------------------------------------------------------------------------------------------- */

static uint64_t rng_state = 88172645463325252u;

static uint32_t rng(void) /* xorshift64*, Vigna 2016 */
{
	rng_state ^= rng_state >> 12;
	rng_state ^= rng_state << 25;
	rng_state ^= rng_state >> 27;
	return (uint32_t)(rng_state * 0x2545f4914f6cdd1du >> 32);
}

static void random_client(struct bw_pkt *pkt, const struct peer *p)
{
	pkt->flow = p->flow;
	pkt->flow.remote.w_be[3] = rng();
	pkt->flow.remote_port_be = (uint16_t)rng();
	pkt->hash = bw_flow_hash(&pkt->flow);
}

/** A burst of bare segments from random clients, as an ingress makes it. */
static void burst_in(struct peer *p, unsigned count, uint8_t flags, bool timestamps)
{
	struct bw_pkt pkts[64], *burst[64];

	assert_true(count <= 64);
	for (unsigned i = 0; i < count; i++) {
		burst[i] = &pkts[i];
		pkts[i] = (struct bw_pkt){
			.m = rte_pktmbuf_alloc(pool),
			.kind = BW_PKT_TCP,
			.tcp = { .seq = rng(),
				.flags = flags,
				.window = 65535,
				.has_mss = flags & SYN,
				.mss = 1460,
				.has_wscale = flags & SYN,
				.wscale = 7,
				.has_sack_permitted = flags & SYN,
				.has_timestamp = timestamps,
				.ts_value = rng() },
		};
		if (flags & ACK) {
			pkts[i].tcp.ack = rng();
			pkts[i].tcp.ts_echo = rng();
		}
		assert_non_null(pkts[i].m);
		random_client(&pkts[i], p);
	}
	bw_tcp_input(p->tcp, p->now, burst, count);
}

/** Returns how many packets of these flags came out. */
static unsigned drain(struct peer *p, uint8_t flags)
{
	struct bw_tcp_packet packets[64];
	unsigned count, total = 0;

	do {
		count = bw_tcp_output(p->tcp, p->now, packets, BW_ARRAY_LEN(packets));
		for (unsigned i = 0; i < count; i++) {
			assert_int_equal(rte_pktmbuf_mtod(packets[i].m, uint8_t *)[13], flags);
			rte_pktmbuf_free(packets[i].m);
		}
		total += count;
	} while (count == BW_ARRAY_LEN(packets));
	return total;
}

/** One answer a SYN, no more and no less: three bursts is what a turn brings at most. */
TEST(every_syn_of_a_turn_is_answered)
{
	struct peer *p = listening(&(struct offer){ 0 });

	for (unsigned turn = 0; turn < 100; turn++) {
		for (unsigned i = 0; i < 3; i++)
			burst_in(p, 64, SYN, true);
		assert_int_equal(drain(p, SYN | ACK), 3 * 64);
	}
	COUNTER(p, DROP_TX_BACKLOG, 0);
	COUNTER(p, TCP_COOKIES_SENT, 100 * 3 * 64 - 16);
	/* A device that takes nothing: what waits is bounded, and the rest is counted. */
	for (unsigned i = 0; i < 5; i++)
		burst_in(p, 64, SYN, true);
	COUNTER(p, DROP_TX_BACKLOG, 5 * 64 - BW_TCP__ANSWERS_MAX);
	assert_int_equal(drain(p, SYN | ACK), BW_TCP__ANSWERS_MAX);
	done(p);
}

static void tune_thousands(struct bw_tcp_conf *conf)
{
	conf->half_open_max = 4096;
}

/** A full cache whose repeats are all due at once does not take the room of those that ask now, nor they its. */
TEST(repeats_leave_room_for_answers)
{
	struct peer *p = listening(&(struct offer){ .tune = tune_thousands });
	struct bw_tcp_stats stats;
	unsigned repeats = 0;

	for (unsigned i = 0; i < 64; i++) {
		burst_in(p, 64, SYN, true);
		assert_int_equal(drain(p, SYN | ACK), 64);
	}
	p->now += MS(1002);
	for (unsigned turn = 0; turn < 4096 / BW_TCP__REPEATS_MAX; turn++) {
		for (unsigned i = 0; i < 3; i++)
			burst_in(p, 64, SYN, true);
		bw_tcp_timers(p->tcp, p->now);
		repeats += drain(p, SYN | ACK) - 3 * 64;
	}
	assert_int_equal(repeats, 4096);
	COUNTER(p, TCP_RETRANSMITS, 4096);
	/* The link takes nothing for a turn. */
	p->now += MS(2002);
	bw_tcp_timers(p->tcp, p->now);
	for (unsigned i = 0; i < 3; i++)
		burst_in(p, 64, SYN, true);
	COUNTER(p, DROP_TX_BACKLOG, 0);
	assert_int_equal(drain(p, SYN | ACK), 3 * 64 + BW_TCP__REPEATS_MAX);
	/* In the end they are given up, whatever else goes on. */
	for (unsigned turn = 0; turn < 3000; turn++) {
		p->now += MS(30);
		for (unsigned i = 0; i < 3; i++)
			burst_in(p, 64, RST, true);
		bw_tcp_timers(p->tcp, p->now);
		drain(p, SYN | ACK);
	}
	bw_tcp_stats(p->tcp, &stats);
	assert_int_equal(stats.half_open, 0);
	COUNTER(p, TCP_RETRANSMITS, 4096 * 5);
	done(p);
}

/** On a link that is full, answers to a flood and what connections send have half of it each. */
TEST(answers_do_not_keep_connections_waiting)
{
	struct peer *p = established(.tune = tune_always);
	struct bw_tcp_packet packets[64];
	unsigned of_conn = 0, of_flood = 0, count;

	assert_int_equal(bw_tcp_send(p->conn, bulk, 8 * 1460), 8 * 1460);
	for (unsigned i = 0; i < 3; i++)
		burst_in(p, 64, SYN, true);
	count = bw_tcp_output(p->tcp, p->now, packets, 16);
	assert_int_equal(count, 16);
	for (unsigned i = 0; i < count; i++)
		of_conn += packets[i].path != NULL;
	assert_int_equal(of_conn, 8);
	do {
		for (unsigned i = 0; i < count; i++) {
			of_flood += packets[i].path == NULL;
			rte_pktmbuf_free(packets[i].m);
		}
		count = bw_tcp_output(p->tcp, p->now, packets, 64);
	} while (count != 0);
	assert_int_equal(of_flood, 3 * 64);
	done(p);
}

/** What a flood leaves behind is the cache, which was full before: no memory, no buffer, no connection. */
TEST(floods_leave_nothing_behind)
{
	struct peer *p = listening(&(struct offer){ 0 });
	struct bw_tcp_stats stats;

	for (unsigned i = 0; i < 300; i++) {
		burst_in(p, 64, SYN, i & 1);
		assert_int_equal(drain(p, SYN | ACK), 64);
		burst_in(p, 64, ACK, i & 1);
		assert_int_equal(drain(p, RST), 64);
		burst_in(p, 64, RST, i & 1);
		assert_int_equal(drain(p, 0), 0);
	}
	bw_tcp_stats(p->tcp, &stats);
	assert_int_equal(stats.half_open, 16);
	assert_int_equal(stats.connections + stats.time_wait, 0);
	assert_int_equal(p->opened, 0);
	COUNTER(p, TCP_COOKIES_ACCEPTED, 0);
	COUNTER(p, TCP_COOKIES_REJECTED, 300 * 64);
	assert_int_equal(mbufs_in_use(), p->mbufs_before);
	done(p);
}

/* ---- chance ---------------------------------------------------------------------------------------------- */

#define SAMPLES 1000000u
/* Alike among them by chance, of 2^32: n^2 / 2^33. In one period a cookie has 31 bits that are free, so twice. */
#define ALIKE   116u

/** At 2^-28 a try, one in this many runs of the test would see one accepted: 268. The seed is fixed. */
TEST(a_million_forged_acks_and_none_is_taken)
{
	struct bw_siphash_key secret = { { rng(), rng() } };
	struct bw_tcp__cookie_keys keys = { .renew_at = 0 };
	struct peer *p = listening(&(struct offer){ 0 });
	struct bw_tcp__half_open half;
	struct bw_pkt pkt = { .flow = p->flow };
	unsigned taken = 0;

	bw_tcp__cookie_keys_renew(&keys, &secret, START);
	for (unsigned i = 0; i < SAMPLES; i++) {
		if (i & 1)
			random_client(&pkt, p);
		pkt.tcp = (struct bw_tcp_fields){
			.seq = rng(), .ack = rng(), .has_timestamp = i & 2, .ts_echo = rng()
		};
		taken += bw_tcp__cookie_check(&keys, &pkt, &half);
	}
	assert_int_equal(taken, 0);
	done(p);
}

/**
 * Of all 2^32 numbers that one client may try, 16 are right: eight classes in two periods. To count them would take
 * minutes. Here each is made and taken, and none that differs from it in one bit or two is.
 */
TEST(each_class_and_period_has_one_number)
{
	struct bw_siphash_key secret = { { 3, 4 } };
	struct bw_tcp__cookie_keys keys = { .renew_at = 0 };
	struct peer *p = listening(&(struct offer){ 0 });
	struct bw_tcp__half_open half, found;
	bw_seq numbers[16];

	for (unsigned i = 0; i < 16; i++) {
		struct bw_pkt pkt = { .flow = p->flow };

		bw_tcp__cookie_keys_renew(&keys, &secret, START + i / 8 * PERIOD);
		half = (struct bw_tcp__half_open){ .flow = p->flow,
			.irs = PEER,
			.peer_mss =
				(const uint16_t[]){ 64, 536, 1220, 1360, 1400, 1440, 1460, 8940 }[i % 8] };
		bw_tcp__cookie_make(&keys, &half);
		numbers[i] = half.iss;
		for (unsigned j = 0; j < i; j++)
			assert_int_not_equal(numbers[i], numbers[j]);
		pkt.tcp = (struct bw_tcp_fields){ .seq = PEER + 1, .ack = half.iss + 1 };
		assert_true(bw_tcp__cookie_check(&keys, &pkt, &found));
		assert_int_equal(found.peer_mss, half.peer_mss);
		assert_int_equal(found.irs, PEER);
		assert_true(bw_flow_eq(&found.flow, &p->flow));
		for (unsigned a = 0; a < 32; a++) {
			for (unsigned b = 0; b <= a; b++) {
				pkt.tcp.ack = (half.iss ^ 1u << a ^ (a != b ? 1u << b : 0)) + 1;
				assert_false(bw_tcp__cookie_check(&keys, &pkt, &found));
			}
		}
	}
	done(p);
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void each_bit_is_even(const char *what, const uint32_t *numbers, unsigned count)
{
	unsigned ones[32] = { 0 };

	for (unsigned i = 0; i < count; i++)
		for (unsigned bit = 0; bit < 32; bit++)
			ones[bit] += numbers[i] >> bit & 1;
	/* The standard deviation is 500: six of them either way, which chance does once in 10^7 tests. */
	for (unsigned bit = 0; bit < 32; bit++) {
		if (ones[bit] < count / 2 - 3000 || ones[bit] > count / 2 + 3000)
			fail_msg("%s: bit %u is set in %u of %u", what, bit, ones[bit], count);
	}
}

/** No bit is biased, in the numbers, their differences and their changes, and no more are alike than by chance. */
static void look_random(const char *what, const uint32_t *numbers, unsigned expected_alike)
{
	uint32_t *other = malloc(SAMPLES * sizeof(*other));
	unsigned alike = 0;

	assert_non_null(other);
	each_bit_is_even(what, numbers, SAMPLES);
	for (unsigned i = 0; i < SAMPLES; i++)
		other[i] = numbers[(i + 1) % SAMPLES] - numbers[i];
	each_bit_is_even(what, other, SAMPLES);
	for (unsigned i = 0; i < SAMPLES; i++)
		other[i] = numbers[(i + 1) % SAMPLES] ^ numbers[i];
	each_bit_is_even(what, other, SAMPLES);
	memcpy(other, numbers, SAMPLES * sizeof(*other));
	qsort(other, SAMPLES, sizeof(*other), by_value);
	for (unsigned i = 1; i < SAMPLES; i++)
		alike += other[i] == other[i - 1];
	/* Of a Poisson distribution: six standard deviations either way. */
	if (abs((int)alike - (int)expected_alike) > 6 * (int)sqrt(expected_alike))
		fail_msg("%s: %u of %u numbers are alike", what, alike, SAMPLES);
	free(other);
}

TEST(a_million_isns_look_random)
{
	struct peer *p = listening(&(struct offer){ 0 });
	uint32_t *numbers = malloc(SAMPLES * sizeof(*numbers));
	struct bw_tcp__cookie_keys keys = { .renew_at = 0 };
	struct bw_tcp__half_open half = { .flow = p->flow, .irs = PEER, .peer_mss = 1460 };
	struct bw_flow flow = p->flow;

	assert_non_null(numbers);
	/* One after the other: ports and addresses count up, and nothing else changes. */
	for (unsigned i = 0; i < SAMPLES; i++) {
		flow.remote_port_be = __builtin_bswap16((uint16_t)i);
		flow.remote.b[13] = (uint8_t)(i >> 16);
		numbers[i] = bw_tcp__numbers(p->tcp, &flow).isn;
	}
	look_random("ISNs of neighbouring flows", numbers, ALIKE);

	bw_tcp__cookie_keys_renew(&keys, &p->conf.secret, START);
	for (unsigned i = 0; i < SAMPLES; i++) {
		half.flow.remote_port_be = __builtin_bswap16((uint16_t)i);
		half.flow.remote.b[13] = (uint8_t)(i >> 16);
		bw_tcp__cookie_make(&keys, &half);
		numbers[i] = half.iss;
	}
	look_random("cookies of neighbouring flows", numbers, 2 * ALIKE);

	half.flow = p->flow;
	half.has_timestamps = 1;
	for (unsigned i = 0; i < SAMPLES; i++) {
		half.irs = i;
		half.has_sack = 1;
		bw_tcp__cookie_make(&keys, &half);
		numbers[i] = half.iss;
	}
	look_random("cookies of one flow", numbers, 2 * ALIKE);

	half.irs = PEER;
	for (unsigned i = 0; i < SAMPLES; i++) {
		bw_tcp__cookie_keys_renew(&keys, &p->conf.secret, START + i * PERIOD);
		bw_tcp__cookie_make(&keys, &half);
		numbers[i] = half.iss;
	}
	look_random("cookies of one SYN, period by period", numbers, ALIKE);
	free(numbers);
	done(p);
}

/* ---- cost ------------------------------------------------------------------------------------------------ */

static uint64_t clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * BW_NS_PER_SEC + (uint64_t)t.tv_nsec;
}

/** The best of three, since others use the machine, too. */
static void measure(struct peer *p, const char *what, uint8_t flags, bool timestamps, uint8_t answer)
{
	const unsigned bursts = 1000;
	uint64_t least = UINT64_MAX;

	for (unsigned round = 0; round < 3; round++) {
		uint64_t began = clock_ns();

		for (unsigned i = 0; i < bursts; i++) {
			burst_in(p, 64, flags, timestamps);
			if (drain(p, answer) != (answer != 0 ? 64 : 0))
				fail_msg("not every one was answered");
		}
		least = BW_MIN(least, clock_ns() - began);
	}
	print_message("             %4.0f ns  %s\n", (double)least / (bursts * 64), what);
}

static void tune_room(struct bw_tcp_conf *conf)
{
	conf->half_open_max = 4000000;
}

/** For the record, with what making a packet here and taking its answer costs: that is the first line. */
TEST(what_a_segment_costs)
{
	struct peer *p = listening(&(struct offer){ .tune = tune_room });

	measure(p, "a stray RST: looked up and dropped", RST, true, 0);
	measure(p, "a SYN that finds room in the half-open cache", SYN, true, SYN | ACK);
	measure(p, "a stray ACK, no cookie out, answered with RST", ACK, true, RST);
	done(p);
	p = listening(&(struct offer){ .tune = tune_always });
	measure(p, "a SYN with timestamps, answered with a cookie", SYN, true, SYN | ACK);
	measure(p, "a SYN without, answered with a cookie", SYN, false, SYN | ACK);
	measure(p, "a forged ACK while cookies are out, answered with RST", ACK, true, RST);
	done(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(full_cache_answers_with_a_cookie),
		cmocka_unit_test(cookie_is_not_repeated),
		cmocka_unit_test(cookie_carries_every_class_of_mss),
		cmocka_unit_test(cookie_knows_the_default_mss),
		cmocka_unit_test(cookie_carries_every_option),
		cmocka_unit_test(data_and_fin_on_the_cookies_ack),
		cmocka_unit_test(first_data_stands_for_the_cookies_ack),
		cmocka_unit_test(round_trip_of_a_cookie_is_believed_up_to_a_second),
		cmocka_unit_test(only_an_ack_brings_a_cookie_back),
		cmocka_unit_test(cookies_ack_again),
		cmocka_unit_test(bent_cookies_are_refused),
		cmocka_unit_test(old_cookies_are_refused),
		cmocka_unit_test(stray_acks_cost_nothing_while_no_cookie_is_out),
		cmocka_unit_test(cookies_ack_finds_no_connection),
		cmocka_unit_test(listener_that_went_away_keeps_its_cookies),
		cmocka_unit_test(scarce_buffers_get_no_cookies),
		cmocka_unit_test(cookie_that_an_entry_overtook_is_taken),
		cmocka_unit_test(cookie_follows_a_time_wait_with_timestamps),
		cmocka_unit_test(timestamps_go_on_from_the_cookies),
		cmocka_unit_test(cookie_carries_ecn_where_there_are_timestamps),
		cmocka_unit_test(cookie_timestamps_are_right_at_the_wrap),
		cmocka_unit_test(connection_of_a_cookie_uses_its_windows),
		cmocka_unit_test(every_syn_of_a_turn_is_answered),
		cmocka_unit_test(repeats_leave_room_for_answers),
		cmocka_unit_test(answers_do_not_keep_connections_waiting),
		cmocka_unit_test(floods_leave_nothing_behind),
		cmocka_unit_test(a_million_forged_acks_and_none_is_taken),
		cmocka_unit_test(each_class_and_period_has_one_number),
		cmocka_unit_test(a_million_isns_look_random),
		cmocka_unit_test(what_a_segment_costs),
	};

	if (harness_start() != 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
