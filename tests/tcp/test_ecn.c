/* SPDX-License-Identifier: BSD-3-Clause */
/** Explicit Congestion Notification (RFC 3168) and the choice of a congestion control, in stories. */
#include "harness.h"
#include "internal.h"

#define ECT 2
#define CE  3
#define MSS 1460

static char bulk[200000];

static void send_bulk(struct peer *p, uint32_t len)
{
	assert_int_equal(bw_tcp_send(p->conn, bulk, len), len);
	collect(p);
}

static uint32_t cwnd_of(const struct peer *p)
{
	struct bw_tcp_info info;

	bw_tcp_info(p->conn, &info);
	return info.cwnd;
}

static uint32_t ssthresh_of(const struct peer *p)
{
	struct bw_tcp_info info;

	bw_tcp_info(p->conn, &info);
	return info.ssthresh;
}

/* ---- handshake: 6.1.1 ----------------------------------------------------------------------------------- */

TEST(ecn_is_agreed)
{
	struct peer *p = listening(&(struct offer){ 0 });
	struct bw_tcp_info info;

	/* That the SYN itself is ECN-capable is somebody's experiment (RFC 8311 4.3), and no reason to refuse. */
	IN(p, .seq = PEER, .flags = SYN | ECE | CWR, .mss = MSS, .tos = ECT);
	OUT(p, .flags = SYN | ACK | ECE, .ack = PEER + 1, .ecn = NOT_ECT);
	AT(p, S(1)); /* and the SYN-ACK again */
	OUT(p, .flags = SYN | ACK | ECE, .ack = PEER + 1, .ecn = NOT_ECT);
	IN(p, .seq = PEER + 1, .ack = 1);
	bw_tcp_info(p->conn, &info);
	assert_true(info.has_ecn);
	COUNTER(p, TCP_ECN_AGREED, 1);
	send_bulk(p, 100);
	OUT(p, .seq = 1, .len = 100, .ecn = ECT0);
	QUIET(p);
	done(p);
}

/** Neither without being asked properly, nor when it is off. Then marks and echoes mean nothing. */
static void assert_without_ecn(struct peer *p)
{
	uint32_t cwnd;

	OUT(p, .flags = SYN | ACK, .ack = PEER + 1, .ecn = NOT_ECT);
	IN(p, .seq = PEER + 1, .ack = 1);
	send_bulk(p, 100);
	OUT(p, .seq = 1, .len = 100, .ecn = NOT_ECT);
	cwnd = cwnd_of(p);
	IN(p, .flags = ACK | ECE);
	assert_true(cwnd_of(p) >= cwnd);
	IN(p, .data = bulk, .len = MSS, .tos = CE);
	OUT(p, .flags = ACK, .ack = PEER + 1 + MSS);
	QUIET(p);
	COUNTER(p, TCP_ECN_AGREED, 0);
	COUNTER(p, TCP_CE_RECEIVED, 0);
	COUNTER(p, TCP_ECE_REDUCTIONS, 0);
	done(p);
}

TEST(half_a_request_is_none)
{
	static const uint8_t flags[] = { SYN, SYN | ECE, SYN | CWR };

	for (unsigned i = 0; i < BW_ARRAY_LEN(flags); i++) {
		struct peer *p = listening(&(struct offer){ 0 });

		IN(p, .seq = PEER, .flags = flags[i], .mss = MSS);
		assert_without_ecn(p);
	}
}

static void tune_ecn_off(struct bw_tcp_conf *conf)
{
	conf->ecn = false;
}

TEST(off_means_off)
{
	struct peer *p = listening(&(struct offer){ .tune = tune_ecn_off });

	IN(p, .seq = PEER, .flags = SYN | ECE | CWR, .mss = MSS);
	assert_without_ecn(p);
}

/** 6.1.1.1: the client believes that its first SYN was lost for its flags. */
TEST(a_client_falls_back)
{
	struct peer *p = listening(&(struct offer){ 0 });

	IN(p, .seq = PEER, .flags = SYN | ECE | CWR, .mss = MSS);
	OUT(p, .flags = SYN | ACK | ECE);
	IN(p, .seq = PEER, .flags = SYN, .mss = MSS);
	OUT(p, .flags = SYN | ACK);
	IN(p, .seq = PEER, .flags = SYN | ECE | CWR, .mss = MSS); /* overtaken by the second: too late */
	assert_without_ecn(p);
}

static bool has_ecn(const struct peer *p)
{
	struct bw_tcp_info info;

	bw_tcp_info(p->conn, &info);
	return info.has_ecn;
}

TEST(our_syn_asks)
{
	/* Agreed, not understood, echoed by something that understands nothing, nonsense. */
	static const uint8_t answers[] = { SYN | ACK | ECE, SYN | ACK, SYN | ACK | ECE | CWR,
		SYN | ACK | CWR };

	for (unsigned i = 0; i < BW_ARRAY_LEN(answers); i++) {
		struct peer *p = connecting(.ecn = true);

		OUT(p, .flags = SYN | ECE | CWR, .ecn = NOT_ECT);
		assert_int_equal(bw_tcp_send(p->conn, "abc", 3), 3);
		IN(p, .seq = PEER, .flags = answers[i], .mss = MSS, .data = "def");
		OUT(p, .seq = 1, .data = "abc", .ecn = i == 0 ? ECT0 : NOT_ECT);
		QUIET(p);
		assert_int_equal(has_ecn(p), i == 0);
		COUNTER(p, TCP_ECN_AGREED, i == 0);
		COUNTER(p, TCP_ECE_REDUCTIONS, 0);
		done(p);
	}
}

/** 6.1.1.1: maybe our SYN was lost for its flags. Once it went without, ECN is over, whatever the answer is. */
TEST(we_fall_back)
{
	struct peer *p = connecting(.ecn = true);

	OUT(p, .flags = SYN | ECE | CWR);
	AT(p, S(1) + MS(1));
	OUT(p, .flags = SYN, .ecn = NOT_ECT);
	IN(p, .seq = PEER, .flags = SYN | ACK | ECE, .mss = MSS);
	OUT(p, .flags = ACK, .ack = PEER + 1);
	assert_false(has_ecn(p));
	send_bulk(p, 10);
	OUT(p, .seq = 1, .len = 10, .ecn = NOT_ECT);
	done(p);
}

TEST(off_does_not_ask)
{
	struct peer *p = connecting(.ecn = true, .tune = tune_ecn_off);

	OUT(p, .flags = SYN);
	IN(p, .seq = PEER, .flags = SYN | ACK | ECE, .mss = MSS);
	OUT(p, .flags = ACK);
	assert_false(has_ecn(p));
	done(p);
}

TEST(syns_that_cross_agree)
{
	for (unsigned asks = 0; asks < 2; asks++) {
		struct peer *p = connecting(.ecn = true);

		OUT(p, .flags = SYN | ECE | CWR);
		IN(p, .seq = PEER, .flags = asks ? SYN | ECE | CWR : SYN, .mss = MSS);
		OUT(p, .flags = asks ? SYN | ACK | ECE : SYN | ACK, .ack = PEER + 1, .ecn = NOT_ECT);
		IN(p, .seq = PEER + 1, .ack = 1);
		assert_int_equal(has_ecn(p), asks);
		COUNTER(p, TCP_ECN_AGREED, asks);
		done(p);
	}
}

/* ---- receiver: 6.1.3, 6.1.5 ------------------------------------------------------------------------------ */

TEST(a_mark_is_echoed_until_cwr)
{
	struct peer *p = established(.ecn = true);

	IN(p, .data = "a", .tos = ECT);
	QUIET(p); /* a delayed ACK */
	IN(p, .data = "b", .tos = CE);
	OUT(p, .flags = ACK | ECE, .ack = PEER + 3, .empty = true, .ecn = NOT_ECT);
	IN(p, .data = "c", .tos = ECT);
	send_bulk(p, 10);
	OUT(p, .flags = ACK | ECE, .len = 10, .ack = PEER + 4, .ecn = ECT0);
	IN(p, .data = "d", .tos = CE); /* no news */
	QUIET(p);
	AT(p, MS(100));
	OUT(p, .flags = ACK | ECE, .ack = PEER + 5, .empty = true);
	IN(p, .data = "e", .tos = ECT, .flags = ACK | CWR);
	OUT(p, .flags = ACK, .ack = PEER + 6, .empty = true);
	IN(p, .data = "f", .tos = CE, .flags = ACK | CWR); /* marked on its way */
	OUT(p, .flags = ACK | ECE, .ack = PEER + 7, .empty = true);
	QUIET(p);
	COUNTER(p, TCP_CE_RECEIVED, 3);
	assert_int_equal(p->received_bytes, 6);
	done(p);
}

TEST(a_mark_out_of_order_counts)
{
	struct peer *p = established(.ecn = true);

	IN(p, .seq = PEER + 4, .data = "def", .tos = CE);
	OUT(p, .flags = ACK | ECE, .ack = PEER + 1);
	IN(p, .seq = PEER + 1, .data = "abc");
	OUT(p, .flags = ACK | ECE, .ack = PEER + 7);
	QUIET(p);
	done(p);
}

/** Not outside the window (6.1.5), nor on what has no payload: neither is a sender's ECN-capable packet. */
TEST(a_mark_elsewhere_is_nothing)
{
	struct peer *p = established(.ecn = true);

	IN(p, .data = "abc");
	AT(p, MS(100));
	forget_sent(p);
	IN(p, .seq = PEER + 1, .data = "abc", .tos = CE);
	OUT(p, .flags = ACK, .ack = PEER + 4);
	IN(p, .seq = PEER + 4, .tos = CE);
	QUIET(p);
	IN(p, .seq = PEER + 4, .data = "d");
	AT(p, MS(200));
	OUT(p, .flags = ACK, .ack = PEER + 5);
	COUNTER(p, TCP_CE_RECEIVED, 0);
	done(p);
}

/* ---- what is ECN-capable: 6.1.4 to 6.1.6 ----------------------------------------------------------------- */

TEST(only_new_data_is_capable)
{
	struct peer *p = established(.ecn = true, .sack = true, .rtt = MS(20));

	send_bulk(p, 3 * MSS);
	for (unsigned i = 0; i < 3; i++)
		OUT(p, .seq = 1 + MSS * i, .len = MSS, .ecn = ECT0);
	AT(p, MS(63)); /* the loss probe is a repeat */
	OUT(p, .seq = 1 + 2 * MSS, .len = MSS, .ecn = NOT_ECT);
	AT(p, MS(300)); /* and so is what a time-out brings */
	OUT(p, .seq = 1, .len = MSS, .ecn = NOT_ECT);
	IN(p, .ack = 1 + MSS);
	OUT(p, .seq = 1 + MSS, .len = MSS, .ecn = NOT_ECT);
	forget_sent(p);
	IN(p, .ack = 1 + 3 * MSS, .window = -1);
	send_bulk(p, 10);
	AT(p, S(2)); /* a shut window is probed */
	OUT(p, .empty = true, .ecn = NOT_ECT);
	forget_sent(p);
	IN(p); /* the window opens */
	OUT(p, .seq = 1 + 3 * MSS, .len = 10, .flags = ACK | CWR, .ecn = ECT0);
	IN(p);
	bw_tcp_shutdown(p->conn);
	collect(p);
	OUT(p, .flags = FIN | ACK, .ecn = NOT_ECT);
	QUIET(p);
	done(p);
}

/* ---- sender: 6.1.2 --------------------------------------------------------------------------------------- */

/** The window under way is answered once, with CWR on the first new data; the next anew. */
TEST(echo_reduces_once_a_window)
{
	struct peer *p = established(.ecn = true, .sack = true, .rtt = MS(20), .wscale = 1 + 7);
	uint32_t cwnd;

	send_bulk(p, 30 * MSS);
	forget_sent(p); /* ten of them */
	IN(p, .ack = 1 + MSS, .flags = ACK | ECE);
	COUNTER(p, TCP_ECE_REDUCTIONS, 1);
	cwnd = cwnd_of(p);
	assert_int_equal(cwnd, 7 * MSS); /* RFC 9438 4.6 */
	assert_int_equal(ssthresh_of(p), cwnd);
	for (unsigned i = 2; i <= 3; i++)
		IN(p, .ack = 1 + MSS * i, .flags = ACK | ECE);
	QUIET(p); /* seven are in flight still */
	IN(p, .ack = 1 + 4 * MSS, .flags = ACK | ECE);
	OUT(p, .seq = 1 + 10 * MSS, .len = MSS, .flags = ACK | CWR, .ecn = ECT0);
	for (unsigned i = 5; i <= 10; i++) {
		IN(p, .ack = 1 + MSS * i, .flags = ACK | ECE);
		OUT(p, .seq = 1 + MSS * (6 + i), .len = MSS, .flags = ACK, .ecn = ECT0);
	}
	QUIET(p);
	COUNTER(p, TCP_ECE_REDUCTIONS, 1);
	assert_int_equal(cwnd_of(p), cwnd);       /* nor does it grow on such ACKs */
	IN(p, .ack = 1 + 11 * MSS, .flags = ACK); /* CWR has arrived */
	COUNTER(p, TCP_ECE_REDUCTIONS, 1);
	forget_sent(p);
	cwnd = cwnd_of(p);
	IN(p, .ack = 1 + 12 * MSS, .flags = ACK | ECE);
	COUNTER(p, TCP_ECE_REDUCTIONS, 2);
	assert_true(cwnd_of(p) < cwnd * 3 / 4);
	COUNTER(p, TCP_RETRANSMITS, 0);
	done(p);
}

/** A window that was never answered is a duplicate ACK's business, too. */
TEST(echo_on_a_duplicate_ack_counts)
{
	struct peer *p = established(.ecn = true, .sack = true);

	send_bulk(p, 10 * MSS);
	forget_sent(p);
	IN(p, .ack = 1, .has_ack = true, .flags = ACK | ECE);
	COUNTER(p, TCP_ECE_REDUCTIONS, 1);
	IN(p, .ack = 1, .has_ack = true, .flags = ACK | ECE);
	COUNTER(p, TCP_ECE_REDUCTIONS, 1);
	done(p);
}

TEST(echo_with_nothing_in_flight_is_nothing)
{
	struct peer *p = established(.ecn = true);

	IN(p, .flags = ACK | ECE);
	IN(p, .data = "abc", .flags = ACK | ECE);
	COUNTER(p, TCP_ECE_REDUCTIONS, 0);
	assert_int_equal(ssthresh_of(p), UINT32_MAX);
	done(p);
}

/** CWR waits for new data, however long that takes, and the peer echoes until then. */
TEST(cwr_waits_for_new_data)
{
	struct peer *p = established(.ecn = true);

	send_bulk(p, 10 * MSS);
	forget_sent(p);
	IN(p, .ack = 1 + 10 * MSS, .flags = ACK | ECE);
	for (unsigned i = 0; i < 5; i++)
		IN(p, .data = "abc", .flags = ACK | ECE);
	COUNTER(p, TCP_ECE_REDUCTIONS, 1);
	AT(p, S(60));
	forget_sent(p);
	send_bulk(p, 10);
	OUT(p, .seq = 1 + 10 * MSS, .len = 10, .flags = ACK | CWR, .ecn = ECT0);
	send_bulk(p, 10);
	OUT(p, .seq = 11 + 10 * MSS, .len = 10, .flags = ACK, .ecn = ECT0);
	QUIET(p);
	done(p);
}

/** Losses and marks of one window are one event, whichever comes first. */
TEST(loss_after_echo_reduces_no_further)
{
	struct peer *p = established(.ecn = true, .sack = true, .rtt = MS(20));

	send_bulk(p, 10 * MSS);
	forget_sent(p);
	IN(p, .ack = 1 + MSS, .flags = ACK | ECE);
	assert_int_equal(ssthresh_of(p), 7 * MSS);
	IN(p, .ack = 1 + MSS, .flags = ACK | ECE, .sack_count = 1, .sack = { { 1 + 2 * MSS, 1 + 6 * MSS } });
	OUT(p, .seq = 1 + MSS, .len = MSS, .flags = ACK, .ecn = NOT_ECT);
	COUNTER(p, TCP_FAST_RETRANSMITS, 1);
	assert_int_equal(ssthresh_of(p), 7 * MSS);
	COUNTER(p, TCP_ECE_REDUCTIONS, 1);
	done(p);
}

TEST(echo_after_loss_reduces_no_further)
{
	struct peer *p = established(.ecn = true, .sack = true, .rtt = MS(20), .wscale = 1 + 7);

	send_bulk(p, 30 * MSS);
	forget_sent(p);
	AT(p, MS(40));
	IN(p, .ack = 1, .has_ack = true, .sack_count = 1, .sack = { { 1 + MSS, 1 + 5 * MSS } });
	OUT(p, .seq = 1, .len = MSS, .flags = ACK, .ecn = NOT_ECT);
	/* A fast retransmit is a reduction like any other: CWR is on the first new data behind it. */
	OUT(p, .seq = 1 + 10 * MSS, .len = MSS, .flags = ACK | CWR, .ecn = ECT0);
	QUIET(p);
	assert_int_equal(ssthresh_of(p), 7 * MSS);
	for (unsigned i = 6; i <= 10; i++)
		IN(p, .ack = 1, .has_ack = true, .flags = ACK | ECE, .sack_count = 1,
			.sack = { { 1 + MSS, 1 + i * MSS } });
	COUNTER(p, TCP_ECE_REDUCTIONS, 0);
	assert_int_equal(ssthresh_of(p), 7 * MSS);
	for (unsigned i = 11; p->first != NULL; i++)
		OUT(p, .seq = 1 + i * MSS, .len = MSS, .flags = ACK, .ecn = ECT0);
	done(p);
}

/** The repeat was needless, but the marks that came with it were real: nothing is taken back. */
TEST(marks_are_not_undone)
{
	for (unsigned has_ece = 0; has_ece < 2; has_ece++) {
		struct peer *p = established(.ecn = true, .sack = true, .rtt = MS(20));

		send_bulk(p, 10 * MSS);
		forget_sent(p);
		AT(p, MS(40));
		IN(p, .ack = 1, .has_ack = true, .sack_count = 1, .sack = { { 1 + MSS, 1 + 6 * MSS } });
		OUT(p, .seq = 1, .len = MSS);
		IN(p, .ack = 1 + 6 * MSS, .flags = has_ece ? ACK | ECE : ACK);
		IN(p, .ack = 1 + 6 * MSS, .flags = has_ece ? ACK | ECE : ACK, .sack_count = 1,
			.sack = { { 1, 1 + MSS } });
		COUNTER(p, TCP_UNDOS, !has_ece);
		assert_int_equal(ssthresh_of(p) == UINT32_MAX, !has_ece);
		/* What was undone was no answer: the same window's first ECE is one. */
		IN(p, .ack = 1 + 7 * MSS, .flags = ACK | ECE);
		COUNTER(p, TCP_ECE_REDUCTIONS, !has_ece);
		done(p);
	}
}

TEST(timeout_is_told_with_cwr)
{
	struct peer *p = established(.ecn = true);

	send_bulk(p, 2 * MSS);
	forget_sent(p);
	AT(p, MS(210));
	OUT(p, .seq = 1, .len = MSS, .flags = ACK, .ecn = NOT_ECT);
	IN(p, .ack = 1 + 2 * MSS);
	send_bulk(p, 10);
	OUT(p, .seq = 1 + 2 * MSS, .len = 10, .flags = ACK | CWR, .ecn = ECT0);
	IN(p);
	send_bulk(p, 10);
	OUT(p, .seq = 11 + 2 * MSS, .len = 10, .flags = ACK, .ecn = ECT0);
	QUIET(p);
	done(p);
}

/** A time-out in a window that was answered leaves ssthresh alone, but not cwnd. */
TEST(timeout_after_echo_keeps_ssthresh)
{
	struct peer *p = established(.ecn = true);

	send_bulk(p, 10 * MSS);
	forget_sent(p);
	IN(p, .ack = 1 + MSS, .flags = ACK | ECE);
	assert_int_equal(ssthresh_of(p), 7 * MSS);
	AT(p, MS(210));
	COUNTER(p, TCP_RTOS, 1);
	assert_int_equal(ssthresh_of(p), 7 * MSS);
	assert_int_equal(cwnd_of(p), MSS);
	done(p);
}

static void tune_tso(struct bw_tcp_conf *conf)
{
	conf->tso_bytes_max = 65535;
}

/** The segment with CWR goes alone, and its repeat has neither CWR nor ECT. */
TEST(cwr_is_on_one_segment)
{
	struct peer *p =
		established(.ecn = true, .sack = true, .rtt = MS(20), .tune = tune_tso, .wscale = 1 + 7);
	struct sent *s;

	send_bulk(p, 40 * MSS);
	s = take(p);
	assert_true(s->tso_segsz == MSS && s->tos == ECT);
	sent_free(s);
	forget_sent(p);
	IN(p, .ack = 1 + 10 * MSS, .flags = ACK | ECE);
	OUT(p, .seq = 1 + 10 * MSS, .len = MSS, .flags = ACK | CWR, .ecn = ECT0);
	s = take(p);
	assert_true(s->tso_segsz == MSS && s->tos == ECT && s->f.flags == ACK);
	assert_int_equal(s->f.seq, p->iss + 1 + 11 * MSS);
	sent_free(s);
	forget_sent(p);
	IN(p, .ack = 1 + 10 * MSS, .flags = ACK | ECE, .sack_count = 1,
		.sack = { { 1 + 11 * MSS, 1 + 15 * MSS } });
	OUT(p, .seq = 1 + 10 * MSS, .len = MSS, .flags = ACK, .ecn = NOT_ECT);
	done(p);
}

/** The floor is two segments, and marks without end do not stop a connection. */
TEST(everything_is_marked)
{
	struct peer *p = established(.ecn = true, .sack = true, .wscale = 1 + 7);

	send_bulk(p, 100 * MSS);
	for (unsigned i = 1; bw_tcp_send_queued(p->conn) != 0; i++) {
		assert_true(i <= 100 && cwnd_of(p) >= 2 * MSS);
		IN(p, .ack = 1 + MSS * i, .flags = ACK | ECE);
		forget_sent(p);
	}
	assert_int_equal(cwnd_of(p), 2 * MSS);
	COUNTER(p, TCP_RETRANSMITS, 0);
	done(p);
}

/* ---- which congestion control ---------------------------------------------------------------------------- */

static void tune_newreno(struct bw_tcp_conf *conf)
{
	conf->congestion_control = BW_TCP_CC_NEWRENO;
}

static uint32_t ssthresh_after_loss(const struct offer *offer)
{
	struct peer *p = established_with(offer);
	uint32_t ssthresh;

	send_bulk(p, 10 * MSS);
	forget_sent(p);
	IN(p, .ack = 1, .has_ack = true, .sack_count = 1, .sack = { { 1 + MSS, 1 + 6 * MSS } });
	COUNTER(p, TCP_FAST_RETRANSMITS, 1);
	ssthresh = ssthresh_of(p);
	done(p);
	return ssthresh;
}

TEST(a_listener_chooses)
{
	assert_int_equal(ssthresh_after_loss(&(struct offer){ .sack = true }), 7 * MSS);
	assert_int_equal(
		ssthresh_after_loss(&(struct offer){ .sack = true, .congestion_control = BW_TCP_CC_NEWRENO }),
		5 * MSS);
	assert_int_equal(ssthresh_after_loss(&(struct offer){ .sack = true, .tune = tune_newreno }), 5 * MSS);
	assert_int_equal(ssthresh_after_loss(&(struct offer){
				 .sack = true, .tune = tune_newreno, .congestion_control = BW_TCP_CC_CUBIC }),
		7 * MSS);
	/* Without ECN it is NewReno. */
	assert_int_equal(
		ssthresh_after_loss(&(struct offer){ .sack = true, .congestion_control = BW_TCP_CC_DCTCP }),
		5 * MSS);
}

TEST(no_such_congestion_control)
{
	struct peer *p = listening(&(struct offer){ 0 });
	struct bw_tcp_listener listener = { .port = PORT + 1, .ops = &(struct bw_tcp_ops){ 0 } };

	listener.congestion_control = BW_TCP_CC_COUNT;
	assert_int_equal(bw_tcp_listen(p->tcp, &listener), -EINVAL);
	p->conf.congestion_control = BW_TCP_CC_DEFAULT;
	errno = 0;
	assert_null(bw_tcp_create(&p->conf, 0));
	assert_int_equal(errno, EINVAL);
	done(p);
}

TEST(newreno_grows_by_a_segment_a_window)
{
	struct peer *p = established(.sack = true, .congestion_control = BW_TCP_CC_NEWRENO, .ecn = true,
		.wscale = 1 + 7, .send_bytes_max = 1 << 20);
	uint32_t cwnd, acked = 0;

	send_bulk(p, 100 * MSS);
	IN(p, .ack = 1 + MSS, .flags = ACK | ECE);
	cwnd = cwnd_of(p);
	assert_int_equal(cwnd, 5 * MSS); /* RFC 3168 6.1.2: as for a loss */
	IN(p, .ack = p->snd_max - p->iss);
	for (unsigned i = 0; i < 5; i++) {
		for (acked = cwnd_of(p) / MSS; acked != 0; acked--)
			IN(p, .ack = p->snd_max - p->iss - (cwnd_of(p) / MSS - 1) * MSS);
		forget_sent(p);
	}
	assert_true(cwnd_of(p) >= cwnd + 4 * MSS && cwnd_of(p) <= cwnd + 6 * MSS);
	done(p);
}

/* ---- DCTCP: RFC 8257 -------------------------------------------------------------------------------------- */

#define DCTCP .ecn = true, .sack = true, .congestion_control = BW_TCP_CC_DCTCP

/** Switches drop what is not ECN-capable before they mark what is: so everything is, RSTs as well. */
TEST(all_packets_of_dctcp_are_capable)
{
	struct peer *p = connecting(.ecn = true, .congestion_control = BW_TCP_CC_DCTCP);

	OUT(p, .flags = SYN | ECE | CWR, .ecn = ECT0);
	AT(p, S(1) + MS(1));
	OUT(p, .flags = SYN, .ecn = NOT_ECT);
	done(p);

	p = listening(&(struct offer){ .congestion_control = BW_TCP_CC_DCTCP });
	IN(p, .seq = PEER, .flags = SYN | ECE | CWR, .mss = MSS);
	OUT(p, .flags = SYN | ACK | ECE, .ecn = ECT0);
	IN(p, .seq = PEER + 1, .ack = 1, .data = bulk, .len = MSS);
	OUT(p, .flags = ACK, .empty = true, .ecn = ECT0);
	send_bulk(p, 10);
	OUT(p, .len = 10, .ecn = ECT0);
	AT(p, MS(210));
	OUT(p, .seq = 1, .len = 10, .ecn = ECT0);
	bw_tcp_abort(p->conn);
	collect(p);
	OUT(p, .flags = RST | ACK, .ecn = ECT0);
	QUIET(p);
	done(p);
}

/** 3.2: ECE says which bytes were marked, and CWR changes nothing. */
TEST(dctcp_echoes_each_mark)
{
	struct peer *p = established(DCTCP);

	IN(p, .data = "a", .tos = ECT);
	QUIET(p);
	IN(p, .data = "b", .tos = CE);
	OUT(p, .flags = ACK, .ack = PEER + 2, .empty = true, .ecn = ECT0);
	OUT(p, .flags = ACK | ECE, .ack = PEER + 3, .empty = true, .ecn = ECT0);
	IN(p, .data = "c", .tos = CE, .flags = ACK | CWR);
	QUIET(p); /* the same again: delayed */
	IN(p, .data = "d", .tos = ECT);
	OUT(p, .flags = ACK | ECE, .ack = PEER + 4, .empty = true);
	OUT(p, .flags = ACK, .ack = PEER + 5, .empty = true);
	IN(p, .data = "e", .tos = CE); /* nothing is owed: one ACK will do */
	OUT(p, .flags = ACK | ECE, .ack = PEER + 6, .empty = true);
	QUIET(p);
	assert_int_equal(p->received_bytes, 5);
	done(p);
}

/** 3.3: by half of alpha, which is 1 before anything is known, and 15/16 after a window without a mark. */
TEST(dctcp_reduces_by_what_was_marked)
{
	struct peer *p = established(DCTCP, .wscale = 1 + 7, .send_bytes_max = 1 << 20);
	uint32_t cwnd, end;

	send_bulk(p, 100 * MSS);
	IN(p, .ack = 1 + MSS, .flags = ACK | ECE);
	assert_int_equal(cwnd_of(p), 5 * MSS);
	end = p->snd_max - p->iss;
	IN(p, .ack = end); /* one tenth of the window was marked, and alpha is estimated behind it */
	forget_sent(p);
	end = p->snd_max - p->iss;
	IN(p, .ack = end);
	forget_sent(p);
	/* M = 1 / (10 + what the second ACK was for), in segments */
	cwnd = cwnd_of(p);
	IN(p, .ack = end + MSS, .flags = ACK | ECE);
	COUNTER(p, TCP_ECE_REDUCTIONS, 2);
	assert_true(cwnd_of(p) > cwnd * 0.51 && cwnd_of(p) < cwnd * 0.54);
	done(p);
}

/** 3.5: a loss is a loss, also in a window that marks have made a little smaller. */
TEST(dctcp_answers_losses_as_well)
{
	struct peer *p = established(DCTCP, .rtt = MS(20));
	uint32_t cwnd;

	send_bulk(p, 10 * MSS);
	forget_sent(p);
	IN(p, .ack = 1 + MSS, .flags = ACK | ECE);
	cwnd = ssthresh_of(p);
	IN(p, .ack = 1 + MSS, .flags = ACK | ECE, .sack_count = 1, .sack = { { 1 + 2 * MSS, 1 + 6 * MSS } });
	COUNTER(p, TCP_FAST_RETRANSMITS, 1);
	assert_true(ssthresh_of(p) < cwnd);
	done(p);
}

/** As if so many bytes had been sent and acknowledged. */
static void jump(struct peer *p, uint32_t bytes)
{
	assert_int_equal(p->conn->snd_una, p->conn->snd_end);
	p->conn->snd_end += bytes;
	p->conn->snd_una = p->conn->snd_nxt = p->snd_max = p->conn->snd_end;
}

/** The end of a window that is long over does not come to lie ahead again. */
TEST(dctcp_heeds_marks_behind_two_gibibytes)
{
	struct peer *p = established(DCTCP);

	send_bulk(p, 10 * MSS);
	IN(p, .flags = ACK | ECE);
	for (unsigned i = 0; i < 2; i++) {
		send_bulk(p, 10);
		IN(p);
		jump(p, 0x50000000);
	}
	COUNTER(p, TCP_ECE_REDUCTIONS, 1);
	send_bulk(p, 10);
	IN(p, .flags = ACK | ECE);
	COUNTER(p, TCP_ECE_REDUCTIONS, 2);
	done(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ecn_is_agreed),
		cmocka_unit_test(half_a_request_is_none),
		cmocka_unit_test(off_means_off),
		cmocka_unit_test(a_client_falls_back),
		cmocka_unit_test(our_syn_asks),
		cmocka_unit_test(we_fall_back),
		cmocka_unit_test(off_does_not_ask),
		cmocka_unit_test(syns_that_cross_agree),
		cmocka_unit_test(a_mark_is_echoed_until_cwr),
		cmocka_unit_test(a_mark_out_of_order_counts),
		cmocka_unit_test(a_mark_elsewhere_is_nothing),
		cmocka_unit_test(only_new_data_is_capable),
		cmocka_unit_test(echo_reduces_once_a_window),
		cmocka_unit_test(echo_on_a_duplicate_ack_counts),
		cmocka_unit_test(echo_with_nothing_in_flight_is_nothing),
		cmocka_unit_test(cwr_waits_for_new_data),
		cmocka_unit_test(loss_after_echo_reduces_no_further),
		cmocka_unit_test(echo_after_loss_reduces_no_further),
		cmocka_unit_test(marks_are_not_undone),
		cmocka_unit_test(timeout_is_told_with_cwr),
		cmocka_unit_test(timeout_after_echo_keeps_ssthresh),
		cmocka_unit_test(cwr_is_on_one_segment),
		cmocka_unit_test(everything_is_marked),
		cmocka_unit_test(a_listener_chooses),
		cmocka_unit_test(no_such_congestion_control),
		cmocka_unit_test(newreno_grows_by_a_segment_a_window),
		cmocka_unit_test(all_packets_of_dctcp_are_capable),
		cmocka_unit_test(dctcp_echoes_each_mark),
		cmocka_unit_test(dctcp_reduces_by_what_was_marked),
		cmocka_unit_test(dctcp_answers_losses_as_well),
		cmocka_unit_test(dctcp_heeds_marks_behind_two_gibibytes),
	};

	if (harness_start() != 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
