/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Attacks on the stack alone, each with a client that must not notice. What takes a whole engine is in
 * tests/interop/test_attacks.py; floods are in test_cookies.c and tests/interop/test_flood.py; single segments that
 * a rule refuses, and the bounds of one connection, are in test_stories.c.
 */
#include "harness.h"
#include "internal.h"

static char bulk[200000];
static uint64_t prng = 1;

/** xorshift64*: the same on every run. */
static uint32_t draw(uint32_t below)
{
	prng ^= prng >> 12;
	prng ^= prng << 25;
	prng ^= prng >> 27;
	return (uint32_t)((prng * 2685821657736338717ull) >> 32) % below;
}

static void send_bulk(struct peer *p, uint32_t len)
{
	assert_int_equal(bw_tcp_send(p->conn, bulk, len), len);
	collect(p);
}

/** Packets collected so far, which are then forgotten. */
static unsigned sent_count(struct peer *p)
{
	unsigned count = 0;

	for (struct sent *s = p->first; s != NULL; s = s->next)
		count++;
	forget_sent(p);
	return count;
}

/* ---- two at one server ------------------------------------------------------------------------------------ */

/** What of a peer is one client's. */
struct client {
	struct bw_flow flow;
	bw_seq iss, snd_max, next_seq;
	struct bw_tcp_conn *conn;
	uint16_t window;
	struct behaviour does;
};

static struct client put_aside(const struct peer *p)
{
	return (struct client){ p->flow, p->iss, p->snd_max, p->next_seq, p->conn, p->window, p->does };
}

static void become(struct peer *p, const struct client *client)
{
	p->flow = client->flow;
	p->iss = client->iss;
	p->snd_max = client->snd_max;
	p->next_seq = client->next_seq;
	p->conn = client->conn;
	p->window = client->window;
	p->does = client->does;
}

/** A connection of another address. */
static void open_another(struct peer *p, unsigned which)
{
	p->flow.remote.b[15] = (uint8_t)(100 + which);
	p->iss = p->snd_max = 0;
	p->next_seq = PEER;
	IN(p, .seq = PEER, .flags = SYN, .mss = 1460, .sack_permitted = true);
	OUT(p, .flags = SYN | ACK);
	IN(p, .seq = PEER + 1, .ack = 1);
	QUIET(p);
	STATE(p, ESTABLISHED);
}

/** The client that was there before sends a word and gets it back, at once. */
static void echoes_still(struct peer *p, struct client *legitimate)
{
	struct client attacker = put_aside(p);

	become(p, legitimate);
	IN(p, .data = "word");
	OUT(p, .data = "word", .ack = p->next_seq);
	QUIET(p);
	IN(p, .seq = p->next_seq);
	QUIET(p);
	*legitimate = put_aside(p);
	become(p, &attacker);
}

/* ---- blind ------------------------------------------------------------------------------------------------ */

/** RFC 5961 1.2: one segment a window finds every connection. Only what knows its number may do something to it. */
TEST(blind_segments_over_the_whole_sequence_space)
{
	static const uint8_t kinds[] = { RST, RST | ACK, SYN, SYN | ACK, ACK, FIN | ACK };
	const uint32_t window = 65535, steps = UINT32_MAX / window;
	struct peer *p = established();
	unsigned before = mbufs_in_use();

	for (unsigned k = 0; k < BW_ARRAY_LEN(kinds); k++) {
		bw_ns began = p->now;
		unsigned answers = 0, in_window = 0;

		for (uint32_t i = 0; i < steps; i++) {
			bool is_data = !(kinds[k] & (RST | SYN));

			/* PEER + 1, which is expected, is left out; the ACK is of what was not sent. */
			IN(p, .seq = PEER + 2 + i * window, .flags = kinds[k], .ack = 0x7fffffff,
				.data = is_data ? "forged" : NULL);
			in_window += PEER + 2 + i * window - (PEER + 1) < window;
			answers += sent_count(p);
			if (i % 100 == 99)
				AT(p, p->now - START + MS(10));
		}
		assert_int_not_equal(in_window, 0);
		STATE(p, ESTABLISHED);
		assert_int_equal(mbufs_in_use(), before);
		/* A challenge in 100 ms; and what carries bytes is answered by 40 of ours each. */
		if (kinds[k] & (RST | SYN))
			assert_true(answers <= 1 + (p->now - began) / MS(100));
		assert_true(answers <= steps);
	}
	assert_int_equal(p->data, 0);
	/* The client and its stream are as they were, */
	p->next_seq = PEER + 1;
	IN(p, .data = "abc");
	AT(p, p->now - START + MS(50));
	OUT(p, .ack = PEER + 4);
	assert_int_equal(p->received_bytes, 3);
	assert_memory_equal(p->received, "abc", 3);
	/* and who knows the number resets it. */
	IN(p, .seq = PEER + 4, .flags = RST);
	assert_int_equal(p->end, BW_TCP_END_RESET);
	done(p);
}

/** How many challenge ACKs the client gets for 1000 bad RSTs in a second. */
static unsigned challenges_in_a_second(struct peer *p, const struct client *victim)
{
	unsigned count = 0;

	for (unsigned i = 0; i < 1000; i++) {
		struct client attacker = put_aside(p);

		AT(p, p->now - START + MS(1));
		if (victim != NULL) {
			become(p, victim);
			IN(p, .seq = PEER + 100, .flags = RST);
			forget_sent(p);
			become(p, &attacker);
		}
		IN(p, .seq = PEER + 100, .flags = RST);
		count += sent_count(p);
	}
	return count;
}

/** CVE-2016-5696: a limit that connections share tells one what the other was sent. RFC 5961 7, per connection. */
TEST(challenges_of_one_tell_nothing_of_another)
{
	struct peer *p = established(.does = { .echoes = true });
	struct client legitimate = put_aside(p);
	unsigned alone;

	p->closes_many = true;
	open_another(p, 1);
	alone = challenges_in_a_second(p, NULL);
	assert_int_equal(challenges_in_a_second(p, &legitimate), alone);
	assert_in_range(alone, 1, 10);
	echoes_still(p, &legitimate);
	done(p);
}

/** RFC 5927 4: an error that quotes what is not in flight is forged, or too late. */
TEST(forged_icmp_errors_are_nothing)
{
	struct peer *p = established(.does = { .echoes = true });
	struct bw_tcp_info info;

	send_bulk(p, 14600);
	forget_sent(p);
	for (uint32_t i = 0; i < 300000; i++) {
		/* Just left and right of it, and then everywhere else. */
		uint32_t seq = i < 100 ? 0 - i : i < 200 ? 14601 + i : 14601 + draw(UINT32_MAX - 14600);

		bw_tcp_icmp_error(p->tcp, p->now, &p->flow, p->iss + seq, i & 1, i & 2 ? 552 : 0);
	}
	collect(p);
	QUIET(p);
	STATE(p, ESTABLISHED);
	bw_tcp_info(p->conn, &info);
	assert_int_equal(info.mss, 1460);
	bw_tcp_icmp_error(p->tcp, p->now, &p->flow, p->iss + 1, true, 0); /* even a hard one that fits */
	STATE(p, ESTABLISHED);
	bw_tcp_icmp_error(p->tcp, p->now, &p->flow, p->iss + 1, false, 1000);
	bw_tcp_info(p->conn, &info);
	assert_int_equal(info.mss, 960);
	done(p);
}

/* ---- ACKs that lie (Savage et al., TCP Congestion Control with a Misbehaving Receiver, 1999) -------------- */

static uint32_t cwnd_of(const struct peer *p)
{
	struct bw_tcp_info info;

	bw_tcp_info(p->conn, &info);
	return info.cwnd;
}

/** cwnd after `windows` windows were acknowledged in steps of `step` bytes. */
static uint32_t cwnd_after(uint32_t step, unsigned windows, bool loses_first)
{
	struct peer *p = established(.sack = true, .rtt = MS(20), .wscale = 1 + 4);
	uint32_t acked = 1, cwnd;

	send_bulk(p, 150000);
	if (loses_first) { /* so that congestion avoidance follows */
		AT(p, MS(40));
		IN(p, .ack = 1, .sack_count = 1, .sack = { { 1461, 14601 } });
		AT(p, MS(60));
		acked = p->snd_max - p->iss;
		IN(p, .ack = acked);
	}
	for (unsigned i = 0; i < windows; i++) {
		uint32_t until = p->snd_max - p->iss;

		AT(p, p->now - START + MS(20));
		for (; acked < until; IN(p, .ack = acked))
			acked = BW_MIN(acked + step, until);
	}
	cwnd = cwnd_of(p);
	done(p);
	return cwnd;
}

TEST(ack_division_opens_no_window)
{
	for (unsigned loses = 0; loses < 2; loses++) {
		uint32_t whole = cwnd_after(1460, 2, loses), divided = cwnd_after(10, 2, loses);

		assert_true(whole > 14600 || loses);
		assert_true(divided <= whole + 1460);
	}
}

TEST(acks_of_what_was_not_sent_open_no_window)
{
	struct peer *p = established(.sack = true, .rtt = MS(20));
	uint32_t cwnd = cwnd_of(p);

	send_bulk(p, 100000);
	assert_int_equal(sent_count(p), 10);
	for (unsigned i = 0; i < 1000; i++)
		IN(p, .ack = 14602 + draw(1u << 30));
	assert_int_equal(cwnd_of(p), cwnd);
	assert_int_equal(bw_tcp_send_queued(p->conn), 100000);
	OUT(p, .seq = 14601, .empty = true); /* one challenge, */
	QUIET(p);                            /* and no new data */
	COUNTER(p, TCP_CHALLENGE_ACKS, 1);
	IN(p, .ack = 14601);
	assert_int_equal(bw_tcp_send_queued(p->conn), 100000 - 14600);
	done(p);
}

/** Each stands for a segment that has left, but not for more of them than are out: RFC 5681 3.2. */
TEST(spoofed_duplicate_acks_open_no_window)
{
	struct peer *p = established(.rtt = MS(20), .window = 60000);
	uint32_t cwnd = cwnd_of(p);

	send_bulk(p, 150000);
	forget_sent(p);
	for (unsigned i = 0; i < 10000; i++) {
		IN(p, .ack = 1);
		assert_true(cwnd_of(p) <= cwnd);
	}
	/* What the peer's window allows is all that they get, once: and the first segment again. */
	assert_true(sent_count(p) <= 60000 / 1460 + 1);
	assert_true(p->snd_max - p->iss <= 60001);
	IN(p, .ack = p->snd_max - p->iss);
	assert_true(cwnd_of(p) <= cwnd / 2 + 1460);
	done(p);
}

/* ---- SACK ------------------------------------------------------------------------------------------------- */

/** From here on the peer is honest: it takes in what comes, until all of `len` bytes has. */
static void receive_honestly(struct peer *p, char *got, uint32_t len, uint32_t have)
{
	static bool has[sizeof(bulk)];

	memset(has, 0, sizeof(has));
	memset(has, 1, have);
	for (unsigned rounds = 0; have < len; rounds++) {
		struct sent *s;

		assert_true(rounds < 10000);
		while ((s = take(p)) != NULL) {
			uint32_t at_byte = s->f.seq - p->iss - 1;

			assert_true(s->len == 0 || at_byte + s->len <= len);
			memcpy(got + at_byte, s->data, s->len);
			memset(has + at_byte, 1, s->len);
			sent_free(s);
		}
		while (have < len && has[have])
			have++;
		IN(p, .ack = 1 + have);
		AT(p, p->now - START + MS(20));
	}
}

/** Blocks of every kind: true, overlapping, inverted, empty, outside, of single bytes; and then all is taken back. */
TEST(forged_and_reneged_sacks_lose_nothing)
{
	static char got[sizeof(bulk)];

	for (unsigned i = 0; i < sizeof(bulk); i++)
		bulk[i] = (char)(i * 31 + (i >> 8));
	for (unsigned story = 0; story < 20; story++) {
		const uint32_t len = 100000;
		struct peer *p = established(.sack = true, .rtt = MS(20), .wscale = 1 + 2);
		unsigned before = mbufs_in_use(), sent = 0;
		uint32_t acked = 0;

		prng = 7 + story;
		memset(got, 0, sizeof(got));
		send_bulk(p, len);
		for (unsigned i = 0; i < 500; i++) {
			uint32_t flight = p->snd_max - p->iss - 1 - acked;
			struct segment_in in = { .ack = 1 + acked, .sack_count = (uint8_t)draw(5) };

			for (unsigned b = 0; b < in.sack_count; b++) {
				uint32_t left = acked + 1 + draw(flight + 1);

				in.sack[b] = (struct bw_sack_block){ left, left + draw(3000) };
				if (draw(3) == 0) /* whole segments */
					in.sack[b].left -= (left - 1) % 1460,
						in.sack[b].right = in.sack[b].left + 1460 * draw(8);
				if (draw(8) == 0)
					in.sack[b].left += 1u << (8 + draw(24));
				if (draw(8) == 0)
					in.sack[b].right = in.sack[b].left + 1;
			}
			segment_in(p, &in);
			sent += sent_count(p);
			assert_int_equal(bw_tcp_send_queued(p->conn), len - acked);
			if (draw(4) == 0) {
				AT(p, p->now - START + MS(draw(100)));
				sent += sent_count(p);
			}
			if (draw(50) == 0) {
				acked += draw(BW_MIN(flight, 3000u) + 1);
				memcpy(got, bulk, acked); /* it was received then */
			}
		}
		/* Nothing of the above makes more packets than an ACK of ours for each, and its new data. */
		assert_true(sent < 500 * 4);
		assert_true(mbufs_in_use() <= before + 64 + len / 512);
		receive_honestly(p, got, len, acked);
		assert_memory_equal(got, bulk, len);
		assert_int_equal(bw_tcp_send_queued(p->conn), 0);
		done(p);
	}
}

/* ---- tiny segments ---------------------------------------------------------------------------------------- */

static void tune_least_mss(struct bw_tcp_conf *conf)
{
	conf->mss_min = 64;
}

static uint32_t mss_of(const struct peer *p)
{
	struct bw_tcp_info info;

	bw_tcp_info(p->conn, &info);
	return info.mss;
}

/** CVE-2019-11479: many packets for few bytes. */
TEST(tiny_mss_is_not_believed)
{
	static const struct {
		uint16_t says, is, is_tuned;
	} table[] = { { 2, 536, 64 }, { 48, 536, 64 }, { 64, 536, 64 }, { 535, 536, 535 }, { 536, 536, 536 },
		{ 600, 600, 600 }, { 65535, 1460, 1460 } };

	for (unsigned i = 0; i < 4 * BW_ARRAY_LEN(table); i++) {
		bool v6 = i & 1, is_tuned = i & 2;
		struct peer *p = established(.mss = table[i / 4].says, .v6 = v6,
			.tune = is_tuned ? tune_least_mss : NULL);
		uint32_t mss = is_tuned ? table[i / 4].is_tuned : table[i / 4].is;

		assert_int_equal(mss_of(p), BW_MIN(mss, v6 ? 1440u : 1460u));
		done(p);
	}
	for (unsigned is_tuned = 0; is_tuned < 2; is_tuned++) {
		struct peer *p = connecting(.tune = is_tuned ? tune_least_mss : NULL);

		OUT(p, .flags = SYN);
		IN(p, .seq = PEER, .flags = SYN | ACK, .mss = 100);
		OUT(p, .ack = PEER + 1);
		assert_int_equal(mss_of(p), is_tuned ? 100 : 536);
		done(p);
	}
}

/** CVE-2018-5390 and its like: single bytes, nowhere in order, from many. */
TEST(crumbs_out_of_order_are_bounded)
{
	const uint32_t window = 16384;
	struct peer *p = established(.does = { .echoes = true }, .sack = true, .recv_bytes_max = window);
	struct client legitimate = put_aside(p), attackers[20];
	unsigned before = mbufs_in_use(), dropped;
	static uint8_t expected[16384];

	p->closes_many = true;
	for (unsigned a = 0; a < BW_ARRAY_LEN(attackers); a++) {
		struct bw_sack_block blocks[BW_TCP__BLOCKS_MAX];

		become(p, &legitimate);
		open_another(p, a);
		p->does = (struct behaviour){ 0 };
		for (unsigned i = 0; i < 3000; i++) {
			IN(p, .seq = PEER + 2 + draw(window - 2), .data = "x");
			assert_true(sent_count(p) <= 1);
			if (i % 500 == 0)
				echoes_still(p, &legitimate);
		}
		assert_true(bw_tcp__reassembly_sack(p->tcp, p->conn, blocks, BW_TCP__BLOCKS_MAX) <= 4);
		/* A full one's room for each 512 bytes of the window, and a block each for the rest. */
		assert_true(mbufs_in_use() - before <= (a + 1) * (16 + window / 512 + BW_TCP__BLOCKS_MAX));
		attackers[a] = put_aside(p);
	}
	dropped = (unsigned)p->counters.value[BW_TCP_REASSEMBLY_DROPS];
	assert_in_range(dropped, 20 * 2000, 20 * 3000);
	echoes_still(p, &legitimate);
	/* What they hold is a stream nonetheless. */
	memset(bulk, 'x', window);
	memset(expected, 'x', window);
	for (unsigned a = 0; a < BW_ARRAY_LEN(attackers); a++) {
		p->received_bytes = 0;
		become(p, &attackers[a]);
		for (uint32_t at_byte = 0; at_byte < window; at_byte += 1024)
			IN(p, .seq = PEER + 1 + at_byte, .data = bulk, .len = 1024);
		forget_sent(p);
		assert_int_equal(p->received_bytes, window);
		assert_memory_equal(p->received, expected, window);
	}
	assert_int_equal(mbufs_in_use(), before);
	become(p, &legitimate);
	echoes_still(p, &legitimate);
	done(p);
}

/**
 * Two versions of the same bytes, for a filter that believes the other one (Ptacek and Newsham, 1998). Of two runs
 * that overlap, that which begins first counts, and of two that begin together the older. Nothing that the service
 * was shown, or that was acknowledged in order, changes.
 */
TEST(overlaps_that_differ_have_one_reading)
{
	static const struct {
		struct {
			uint8_t at;
			const char *data;
		} segments[4];
		const char *stream;
	} table[] = {
		{ { { 2, "bbbb" }, { 2, "cccc" }, { 0, "aa" } }, "aabbbb" },   /* the older */
		{ { { 4, "bbbb" }, { 2, "cccc" }, { 0, "aa" } }, "aaccccbb" }, /* which begins first */
		{ { { 2, "bbbb" }, { 4, "cccc" }, { 0, "aa" } }, "aabbbbcc" }, /* likewise */
		{ { { 4, "bb" }, { 2, "cccccc" }, { 0, "aa" } }, "aacccccc" }, /* it covers the older */
		{ { { 2, "bbbbbb" }, { 4, "cc" }, { 0, "aa" } }, "aabbbbbb" }, /* it lies within the older */
		{ { { 2, "bb" }, { 6, "dd" }, { 3, "cccc" }, { 0, "aa" } }, "aabbcccd" }, /* between two */
		{ { { 2, "bbbb" }, { 0, "aaaa" } }, "aaaabb" },                           /* in order */
		{ { { 0, "aaaa" }, { 2, "bbbb" } }, "aaaabb" }, /* after it was read */
		{ { { 0, "aaaa" }, { 0, "bbbb" } }, "aaaa" },
	};

	for (unsigned i = 0; i < 2 * BW_ARRAY_LEN(table); i++) {
		struct peer *p = established(.sack = i & 1);
		uint32_t len = (uint32_t)strlen(table[i / 2].stream);

		for (unsigned s = 0; s < 4 && table[i / 2].segments[s].data != NULL; s++)
			IN(p, .seq = PEER + 1 + table[i / 2].segments[s].at,
				.data = table[i / 2].segments[s].data);
		assert_int_equal(p->received_bytes, len);
		assert_memory_equal(p->received, table[i / 2].stream, len);
		done(p);
	}
}

/* ---- those that hold on ----------------------------------------------------------------------------------- */

static void tune_patience(struct bw_tcp_conf *conf)
{
	conf->user_timeout_ns = S(60);
}

/** Ask for as much as is given, and read nothing. */
static void hold(struct peer *p, unsigned which)
{
	open_another(p, which);
	p->window = 0;
	for (unsigned i = 0; i < 40; i++) {
		IN(p, .data = bulk, .len = 1000, .window = -1);
		forget_sent(p);
	}
	p->next_seq = p->conn->rcv_nxt; /* the rest did not fit */
}

TEST(zero_window_holders_are_bounded_and_the_silent_end)
{
	struct peer *p = established(.does = { .echoes = true }, .recv_bytes_max = 16384,
		.send_bytes_max = 16384, .tune = tune_patience);
	struct client legitimate = put_aside(p), holders[40];
	unsigned before = mbufs_in_use(), packets = 0;
	struct bw_tcp_stats stats;

	p->closes_many = true;
	for (unsigned h = 0; h < BW_ARRAY_LEN(holders); h++) {
		become(p, &legitimate);
		hold(p, h);
		holders[h] = put_aside(p);
		assert_true(mbufs_in_use() - before <= (h + 1) * 2 * (64 + 16384 / 512));
		echoes_still(p, &legitimate);
	}
	/* The first half answers each probe by a shut window, as RFC 9293 3.8.6.1 lets it. */
	for (unsigned second = 1; second <= 200; second++) {
		bw_ns until = START + S(2ull * second);

		for (unsigned h = 0; h < BW_ARRAY_LEN(holders) / 2; h++) {
			become(p, &holders[h]);
			IN(p, .seq = p->next_seq, .window = -1);
		}
		/* Flows of the probes differ, so they are collected here. */
		while (p->now < until) {
			struct bw_tcp_packet out[64];
			unsigned count;

			p->now += MS(100);
			bw_tcp_timers(p->tcp, p->now);
			while ((count = bw_tcp_output(p->tcp, p->now, out, 64)) != 0) {
				packets += count;
				for (unsigned i = 0; i < count; i++)
					rte_pktmbuf_free(out[i].m);
			}
		}
		become(p, &legitimate);
		echoes_still(p, &legitimate);
	}
	/* The silent half is gone, with all that it held. */
	bw_tcp_stats(p->tcp, &stats);
	assert_int_equal(stats.connections, 1 + BW_ARRAY_LEN(holders) / 2);
	COUNTER(p, TCP_TIMED_OUT, BW_ARRAY_LEN(holders) / 2);
	assert_true(mbufs_in_use() - before <= BW_ARRAY_LEN(holders) * (64 + 16384 / 512));
	assert_true(packets <= 400 * BW_ARRAY_LEN(holders));
	for (unsigned h = 0; h < BW_ARRAY_LEN(holders) / 2; h++) {
		become(p, &holders[h]);
		IN(p, .flags = RST);
	}
	assert_int_equal(mbufs_in_use(), before);
	become(p, &legitimate);
	done(p);
}

/** RFC 9293 3.8.6.2.1: a window of a byte is no invitation to send a byte. */
TEST(one_byte_windows_are_served_slowly)
{
	struct peer *p = established(.rtt = MS(20));
	unsigned packets = 0, bytes = 0;

	IN(p, .seq = PEER + 1, .window = 1);
	send_bulk(p, 20000);
	for (unsigned i = 0; i < 1000; i++) { /* 10 s of eagerness */
		struct sent *s;

		AT(p, p->now - START + MS(10));
		while ((s = take(p)) != NULL) {
			packets++;
			bytes += s->len;
			sent_free(s);
		}
		IN(p, .ack = p->snd_max - p->iss, .window = 1);
	}
	assert_in_range(bytes, 1, 50);
	assert_true(packets <= 2 * 50);
	done(p);
}

/* ---- reflection ------------------------------------------------------------------------------------------- */

static unsigned option_bytes(const struct segment_in *in)
{
	return (in->mss != 0 ? 4 : 0) + (in->wscale != 0 ? 4 : 0) + (in->sack_permitted ? 4 : 0);
}

/** TCP header and payload of what is collected; counts it. */
static unsigned bytes_out(struct peer *p, unsigned *count)
{
	unsigned bytes = 0;
	struct sent *s;

	for (*count = 0; (s = take(p)) != NULL; (*count)++) {
		bytes += 20 + s->len;
		if (s->f.flags & SYN)
			bytes += (s->f.has_mss ? 4 : 0) + (s->f.has_wscale ? 4 : 0) +
				 (s->f.has_timestamp ? 12 : 0) + (s->f.has_sack_permitted ? 4 : 0);
		assert_int_equal(s->len, 0);
		sent_free(s);
	}
	return bytes;
}

/**
 * Bock et al., Weaponizing Middleboxes for TCP Reflected Amplification (2021): no answer to a forged source is larger
 * than what asked for it. The one exception is a SYN without an MSS option, whose answer has one (RFC 9293
 * 3.7.1), 4 bytes; Ethernet pads the two to the same size. An entry of the half-open cache repeats its answer
 * (RFC 9293 3.8.1): see test_stories.c for how often, and docs/operations.md.
 */
TEST(nobody_gets_more_than_he_sent_before_a_handshake)
{
	static const char get[] = "GET / HTTP/1.1\r\nHost: forbidden.example\r\n\r\n";
	static const uint8_t scans[] = { 0, FIN, PSH, FIN | PSH | 0x20, SYN | FIN, SYN | RST,
		SYN | FIN | RST | PSH | ACK | 0xe0, SYN | ACK, FIN | ACK, PSH | ACK, PSH, SYN, RST, RST | ACK,
		SYN | PSH };
	uint64_t in_bytes = 0, out_bytes = 0;
	struct peer *p = established(.does = { .echoes = true });
	struct client legitimate = put_aside(p);
	unsigned before = mbufs_in_use();
	struct bw_tcp_stats stats;

	prng = 99;
	for (unsigned i = 0; i < 100000; i++) {
		bool is_open = draw(2) == 0;
		struct segment_in in = {
			.seq = 1 + draw(UINT32_MAX),
			.ack = 1 + draw(UINT32_MAX),
			.flags = draw(4) == 0 ? (uint8_t)draw(256) : scans[draw(BW_ARRAY_LEN(scans))],
			.data = draw(2) == 0 ? get : NULL,
			.mss = draw(2) == 0 ? 1460 : 0,
			.wscale = draw(2) == 0 ? 8 : 0,
			.sack_permitted = draw(2) == 0,
		};
		bool is_syn = (in.flags & (SYN | ACK | RST | FIN)) == SYN;
		unsigned asked = 20 + option_bytes(&in) + (in.data != NULL ? (unsigned)strlen(in.data) : 0);
		unsigned answered, count;

		if (in.flags == 0) { /* the harness takes it for an ACK: the nearest to a null scan */
			in.flags = 0x20;
		}
		p->flow.remote.b[15] = (uint8_t)(3 + draw(200));
		p->flow.remote_port_be = (uint16_t)draw(65536);
		p->flow.local_port_be = __builtin_bswap16(is_open ? PORT : 81);
		p->iss = p->snd_max = 0;
		segment_in(p, &in);
		answered = bytes_out(p, &count);
		assert_true(count <= 1);
		assert_true(answered <= asked + (is_syn && is_open && in.mss == 0 ? 4 : 0));
		in_bytes += asked;
		out_bytes += answered;
		if (i % 10000 == 0) {
			become(p, &legitimate);
			echoes_still(p, &legitimate);
		}
	}
	print_message("%lu bytes in, %lu out\n", (unsigned long)in_bytes, (unsigned long)out_bytes);
	assert_true(out_bytes < in_bytes / 2);
	bw_tcp_stats(p->tcp, &stats);
	assert_true(stats.half_open <= p->conf.half_open_max);
	assert_int_equal(stats.connections, 1);
	assert_int_equal(mbufs_in_use(), before);
	become(p, &legitimate);
	done(p);
}

/** <SYN; PSH+ACK> of Bock et al.: a request that follows a SYN as if the handshake had been. */
TEST(a_request_without_a_handshake_gets_a_reset)
{
	struct peer *p = listening(&(struct offer){ .does = { .echoes = true } });

	IN(p, .seq = PEER, .flags = SYN, .data = "GET / HTTP/1.1\r\n\r\n");
	OUT(p, .flags = SYN | ACK,
		.ack = PEER + 1); /* not of the data: that may be repeated after the handshake */
	IN(p, .seq = PEER + 1, .flags = PSH | ACK, .ack = 12345, .data = "GET / HTTP/1.1\r\n\r\n");
	OUT(p, .flags = RST, .seq = 12345, .empty = true);
	QUIET(p);
	STATE(p, SYN_RECEIVED);
	/* Whose address it was resets what it did not ask for, and nothing is repeated. */
	IN(p, .seq = PEER + 1, .flags = RST);
	STATE(p, CLOSED);
	AT(p, S(100));
	QUIET(p);
	done(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blind_segments_over_the_whole_sequence_space),
		cmocka_unit_test(challenges_of_one_tell_nothing_of_another),
		cmocka_unit_test(forged_icmp_errors_are_nothing),
		cmocka_unit_test(ack_division_opens_no_window),
		cmocka_unit_test(acks_of_what_was_not_sent_open_no_window),
		cmocka_unit_test(spoofed_duplicate_acks_open_no_window),
		cmocka_unit_test(forged_and_reneged_sacks_lose_nothing),
		cmocka_unit_test(tiny_mss_is_not_believed),
		cmocka_unit_test(crumbs_out_of_order_are_bounded),
		cmocka_unit_test(overlaps_that_differ_have_one_reading),
		cmocka_unit_test(zero_window_holders_are_bounded_and_the_silent_end),
		cmocka_unit_test(one_byte_windows_are_served_slowly),
		cmocka_unit_test(nobody_gets_more_than_he_sent_before_a_handshake),
		cmocka_unit_test(a_request_without_a_handshake_gets_a_reset),
	};

	if (harness_start() != 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
