/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * The whole engine with its real workers and helpers, on a device made of rings: the test is the peer at the
 * other end. All it sends goes to one of the two queues, so what the other worker owns crosses between cores.
 *
 * With the argument second-of-two, the device is the second that the engine has.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <rte_arp.h>
#include <rte_ether.h>
#include <rte_icmp.h>
#include <rte_ip.h>
#include <rte_ring.h>
#include <rte_udp.h>

#include <base/log.h>
#include <engine/engine.h>
#include <wire/build.h>

#include "worker.h"

#define TTL           63 /* not the default */
#define PROBE_PORT    99
#define FLOOD_PORT    98
#define STALL_PORT    94
#define STUBBORN_PORT 97
#define HOARDER_PORT  96
#define STUCK_PORT    95
#define CALLER_PORT   9003
#define CALLED_PORT   9004
#define CALLS         8     /* a worker */
#define JOBS          1024  /* a worker may have out */
#define FLOOD         20000 /* more mails than the ring between two workers holds */

static const struct bw_mac peer_mac = { { 2, 0, 0, 0, 0, 1 } };
static struct bw_nic_plan plan;
static struct bw_nic nic;
static struct bw_nic beside;                 /* another device of the engine's, of which nothing is heard */
static unsigned device_count = 1, device_at; /* which of them `nic` is */
static struct bw_engine *engine;
static struct rte_ring *to_engine, *to_second, *from_engine[2];
static bool counts_cycles;
static struct bw_ip ours4, ours6, peer4, peer6, shy6, far4, gateway4;

/* ---- a service that uses mail and jobs ------------------------------------------------------------------- */

struct errand {
	struct bw_mail mail;
	struct bw_job job;
	struct bw_flow flow;
	unsigned home, stops;
	char text[32];
};

static void answer(struct bw_context *ctx, struct errand *errand)
{
	struct bw_datagram to = { .flow = &errand->flow };

	assert_int_equal(bw_datagram_reply(ctx, &to, errand->text, (uint32_t)strlen(errand->text)), 0);
	free(errand);
}

static void errand_work(struct bw_job *job)
{
	struct errand *errand = bw_container_of(job, struct errand, job);

	snprintf(errand->text, sizeof(errand->text), "visited %u", errand->stops);
}

static void errand_done(struct bw_context *ctx, struct bw_job *job)
{
	answer(ctx, bw_container_of(job, struct errand, job));
}

/** Round all workers, then to a helper thread, then the answer, from the worker that got the datagram. */
static void errand_mail(struct bw_context *ctx, struct bw_mail *mail)
{
	struct errand *errand = bw_container_of(mail, struct errand, mail);

	errand->stops++;
	if (bw_context_worker(ctx) != errand->home) {
		bw_mail_post(ctx, (bw_context_worker(ctx) + 1) % bw_context_worker_count(ctx), mail);
		return;
	}
	errand->job = (struct bw_job){ .work = errand_work, .done = errand_done };
	assert_int_equal(bw_job_submit(ctx, &errand->job), 0);
}

static void errand_datagram(struct bw_context *ctx, const struct bw_datagram *dgram)
{
	struct errand *errand = calloc(1, sizeof(*errand));

	errand->flow = *dgram->flow;
	errand->home = bw_context_worker(ctx);
	bw_mail_post(ctx, (errand->home + 1) % bw_context_worker_count(ctx), &errand->mail);
}

static const struct bw_service errand_service = {
	.name = "errand",
	.datagram = errand_datagram,
	.mail = errand_mail,
};

/* ---- a service that has much to say, just when everything ends ------------------------------------------ */

static _Atomic unsigned flood_delivered;

static void flood_mail(struct bw_context *ctx, struct bw_mail *mail)
{
	/* The flood's source is slow to go on, and the other has long found that there is nothing more. */
	if (mail->from_worker == bw_context_worker(ctx))
		usleep(300000);
	else
		flood_delivered++;
	free(mail);
}

static void flood_datagram(struct bw_context *ctx, const struct bw_datagram *dgram)
{
	(void)dgram;
	usleep(300000);
	for (unsigned i = 0; i < FLOOD; i++)
		bw_mail_post(ctx, (bw_context_worker(ctx) + 1) % bw_context_worker_count(ctx),
			calloc(1, sizeof(struct bw_mail)));
	bw_mail_post(ctx, bw_context_worker(ctx), calloc(1, sizeof(struct bw_mail)));
}

static const struct bw_service flood_service = {
	.name = "flood",
	.datagram = flood_datagram,
	.mail = flood_mail,
};

/* ---- services that want more than there is ---------------------------------------------------------------- */

static _Atomic bool helpers_hang;
static _Atomic unsigned jobs_taken, jobs_refused, jobs_done;

static void hoarder_work(struct bw_job *job)
{
	(void)job;
	while (helpers_hang)
		usleep(1000);
}

static void hoarder_done(struct bw_context *ctx, struct bw_job *job)
{
	(void)ctx;
	free(job);
	jobs_done++;
}

static void hoarder_datagram(struct bw_context *ctx, const struct bw_datagram *dgram)
{
	struct bw_job *job;
	int error;

	(void)dgram;
	do {
		job = calloc(1, sizeof(*job));
		*job = (struct bw_job){ .work = hoarder_work, .done = hoarder_done };
		error = bw_job_submit(ctx, job);
		jobs_taken += error == 0;
	} while (error == 0);
	assert_int_equal(error, -EBUSY);
	free(job);
	jobs_refused++;
}

static const struct bw_service hoarder_service = {
	.name = "hoarder",
	.datagram = hoarder_datagram,
};

struct numbered {
	struct bw_mail mail;
	unsigned number;
};

static _Atomic unsigned numbered_sent, numbered_heard;

/** Stuck in the first of them, until the way here is full. */
static void stuck_mail(struct bw_context *ctx, struct bw_mail *mail)
{
	struct numbered *numbered = bw_container_of(mail, struct numbered, mail);

	(void)ctx;
	assert_int_equal(numbered->number, numbered_heard);
	if (numbered->number % FLOOD == 0)
		usleep(500000);
	numbered_heard++;
	free(numbered);
}

static void stuck_datagram(struct bw_context *ctx, const struct bw_datagram *dgram)
{
	(void)dgram;
	for (unsigned i = 0; i < FLOOD; i++) {
		struct numbered *numbered = calloc(1, sizeof(*numbered));

		numbered->number = numbered_sent++;
		bw_mail_post(
			ctx, (bw_context_worker(ctx) + 1) % bw_context_worker_count(ctx), &numbered->mail);
	}
}

static const struct bw_service stuck_service = {
	.name = "stuck",
	.datagram = stuck_datagram,
	.mail = stuck_mail,
};

/* ---- a service that has all workers stand still for a while, as one does that gets no CPU ----------------- */

static void stall_mail(struct bw_context *ctx, struct bw_mail *mail)
{
	(void)ctx;
	usleep(1300000);
	free(mail);
}

static void stall_datagram(struct bw_context *ctx, const struct bw_datagram *dgram)
{
	(void)dgram;
	for (unsigned i = 0; i < bw_context_worker_count(ctx); i++)
		bw_mail_post(ctx, i, calloc(1, sizeof(struct bw_mail)));
}

static const struct bw_service stall_service = {
	.name = "stall",
	.datagram = stall_datagram,
	.mail = stall_mail,
};

/* ---- a service that calls: every worker does, when a datagram says so ------------------------------------ */

static _Atomic unsigned calls_answered;

static void caller_mail(struct bw_context *ctx, struct bw_mail *mail)
{
	struct bw_ip broadcast = peer4;

	free(mail);
	broadcast.b[15] = 255;
	errno = 0;
	assert_null(bw_stream_connect(ctx, &broadcast, CALLED_PORT));
	assert_int_equal(errno, ENETUNREACH);
	assert_null(bw_stream_connect(ctx, &ours4, CALLED_PORT));
	assert_int_equal(errno, EINVAL);
	for (unsigned i = 0; i < CALLS; i++)
		assert_non_null(bw_stream_connect(ctx, &peer4, CALLED_PORT));
}

static void caller_datagram(struct bw_context *ctx, const struct bw_datagram *dgram)
{
	(void)dgram;
	for (unsigned i = 0; i < bw_context_worker_count(ctx); i++)
		bw_mail_post(ctx, i, calloc(1, sizeof(struct bw_mail)));
}

static void caller_opened(struct bw_stream *s)
{
	calls_answered++;
	assert_int_equal(bw_stream_send(s, "hello", 5), 5);
}

static uint32_t caller_data(struct bw_stream *s, const struct bw_view *views, unsigned count)
{
	(void)views;
	(void)count;
	return bw_stream_unread(s);
}

static const struct bw_service caller_service = {
	.name = "caller",
	.datagram = caller_datagram,
	.mail = caller_mail,
	.opened = caller_opened,
	.data = caller_data,
};

/* ---- services that do not do as they should --------------------------------------------------------------- */

static void stubborn_drain(struct bw_stream *s)
{
	(void)s;
}

static const struct bw_service stubborn_service = {
	.name = "stubborn",
	.data = caller_data,
	.peer_closed = stubborn_drain,
	.drain = stubborn_drain,
};

static unsigned fails_on_worker;
static _Atomic unsigned started, stopped;

static int failing_start(struct bw_context *ctx, void *conf)
{
	(void)conf;
	if (bw_context_worker(ctx) == fails_on_worker)
		return -EIO;
	started++;
	return 0;
}

static void failing_stop(struct bw_context *ctx)
{
	(void)ctx;
	stopped++;
}

static const struct bw_service failing_service = {
	.name = "failing",
	.start = failing_start,
	.stop = failing_stop,
};

/* ---- the peer -------------------------------------------------------------------------------------------- */

static struct rte_mbuf *fresh(void)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(nic.pools[0]);

	assert_non_null(m);
	return m;
}

static void send_frame(struct rte_mbuf *m)
{
	m->ol_flags = 0;
	assert_int_equal(rte_ring_sp_enqueue(to_engine, m), 0);
}

static void send_ip(struct rte_mbuf *m, const struct bw_ip *src, const struct bw_ip *dst, uint8_t proto)
{
	bw_ip_prepend(m, &(struct bw_ip_out){ .src = src, .dst = dst, .proto = proto, .ttl = 64 });
	bw_eth_prepend(
		m, &peer_mac, &nic.mac, bw_ip_is_v4(dst) ? RTE_ETHER_TYPE_IPV4 : RTE_ETHER_TYPE_IPV6, 0);
	send_frame(m);
}

/** The next frame of the engine's, or NULL when a fifth of a second brings none. */
static struct rte_mbuf *receive(void)
{
	void *m;

	for (int i = 0; i < 2000; i++) {
		if (rte_ring_sc_dequeue(from_engine[0], &m) == 0 ||
			rte_ring_sc_dequeue(from_engine[1], &m) == 0)
			return m;
		nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
	}
	return NULL;
}

/** Answer the engine's questions about `who`, and skip announcements, until something else comes. */
static struct rte_mbuf *receive_answering(const struct bw_ip *who, struct bw_pkt *pkt)
{
	const struct bw_cidr all[] = { { peer4, 24 }, { peer6, 64 }, { far4, 24 } };
	struct bw_wire_host host = { .mac = peer_mac, .addr_count = 3, .addrs = all };
	struct rte_mbuf *m;

	while ((m = receive()) != NULL) {
		struct bw_arp_fields arp;
		struct bw_nd_fields nd;

		m->ol_flags &= RTE_MBUF_F_INDIRECT;
		bw_pkt_parse(m, &host, pkt);
		if (pkt->kind == BW_PKT_ARP && bw_arp_parse(pkt, &arp) == 0) {
			if (arp.opcode == RTE_ARP_OP_REPLY)
				return m;
			if (bw_ip_eq(&arp.target, who)) {
				struct rte_mbuf *reply = fresh();

				bw_arp_write(reply, RTE_ARP_OP_REPLY, &peer_mac, who, &nic.mac, &arp.sender);
				bw_eth_prepend(reply, &peer_mac, &nic.mac, RTE_ETHER_TYPE_ARP, 0);
				send_frame(reply);
			}
		} else if (pkt->kind == BW_PKT_ICMP6 && bw_nd_parse(pkt, &nd) == 0) {
			if (nd.type == 135 && bw_ip_eq(&nd.target, who)) {
				struct rte_mbuf *advert = fresh();

				bw_nd_write(advert, &(struct bw_nd_out){ .type = 136,
							    .flags = 0x60,
							    .src = who,
							    .dst = &pkt->flow.remote,
							    .target = who,
							    .link_addr = &peer_mac });
				bw_ip_prepend(advert, &(struct bw_ip_out){ .src = who,
							      .dst = &pkt->flow.remote,
							      .proto = IPPROTO_ICMPV6,
							      .ttl = 255 });
				bw_eth_prepend(advert, &peer_mac, &nic.mac, RTE_ETHER_TYPE_IPV6, 0);
				send_frame(advert);
			}
		} else if (pkt->kind != BW_PKT_DROP) {
			return m;
		}
		rte_pktmbuf_free(m);
	}
	return NULL;
}

/** A neighbour's word about itself, or with a target of ours its question about us. */
static void send_nd(const struct bw_nd_out *nd, const struct bw_mac *from)
{
	struct rte_mbuf *m = fresh();

	bw_nd_write(m, nd);
	bw_ip_prepend(m,
		&(struct bw_ip_out){ .src = nd->src, .dst = nd->dst, .proto = IPPROTO_ICMPV6, .ttl = 255 });
	bw_eth_prepend(m, from, &nic.mac, RTE_ETHER_TYPE_IPV6, 0);
	send_frame(m);
}

/** What the engine is asked by, and asks with. */
enum question {
	NOTHING,
	TO_EVERYBODY,
	TO_ONE,
};

/** The engine's next question about an IPv6 address, for as long as a second and a half: longer than it waits. */
static enum question next_question(const struct bw_ip *who)
{
	const struct bw_cidr all[] = { { *who, 64 } };
	struct bw_wire_host host = { .mac = peer_mac, .addr_count = 1, .addrs = all };
	enum question question = NOTHING;
	struct bw_nd_fields nd;
	struct bw_pkt pkt;

	for (int i = 0; i < 8 && question == NOTHING; i++) {
		struct rte_mbuf *m = receive();

		if (m == NULL)
			continue;
		m->ol_flags = 0;
		bw_pkt_parse(m, &host, &pkt);
		if (pkt.kind == BW_PKT_ICMP6 && bw_nd_parse(&pkt, &nd) == 0 && nd.type == 135 &&
			bw_ip_eq(&nd.target, who))
			question = pkt.is_to_multicast ? TO_EVERYBODY : TO_ONE;
		rte_pktmbuf_free(m);
	}
	return question;
}

static uint64_t counted(enum bw_counter which)
{
	struct bw_counters counters;

	bw_engine_counters(engine, &counters);
	return counters.value[which];
}

static void quiet(void)
{
	struct bw_pkt pkt;

	assert_null(receive_answering(&peer4, &pkt));
}

static struct rte_mbuf *datagram(
	const struct bw_ip *src, const struct bw_ip *dst, uint16_t port, const char *text)
{
	struct rte_mbuf *m = fresh();
	uint16_t length = (uint16_t)(sizeof(struct rte_udp_hdr) + strlen(text));
	struct rte_udp_hdr *udp = (struct rte_udp_hdr *)rte_pktmbuf_append(m, length);

	*udp = (struct rte_udp_hdr){ .src_port = rte_cpu_to_be_16(4000),
		.dst_port = rte_cpu_to_be_16(port),
		.dgram_len = rte_cpu_to_be_16(length) };
	memcpy(udp + 1, text, strlen(text));
	udp->dgram_cksum =
		(uint16_t)~bw_sum_fold(bw_sum(udp, length, bw_sum_pseudo(src, dst, IPPROTO_UDP, length)));
	return m;
}

static void send_udp(const struct bw_ip *src, const struct bw_ip *dst, uint16_t port, const char *text)
{
	send_ip(datagram(src, dst, port, text), src, dst, IPPROTO_UDP);
}

static void expect_udp(const struct bw_ip *who, uint16_t from_port, const char *text)
{
	struct bw_pkt pkt;
	struct rte_mbuf *m = receive_answering(who, &pkt);

	assert_non_null(m);
	assert_int_equal(pkt.kind, BW_PKT_UDP);
	assert_int_equal(pkt.ttl, TTL);
	assert_int_equal(rte_be_to_cpu_16(pkt.flow.remote_port_be), from_port);
	assert_int_equal(pkt.payload_len, strlen(text));
	assert_memory_equal(rte_pktmbuf_mtod_offset(m, void *, pkt.payload_off), text, strlen(text));
	rte_pktmbuf_free(m);
}

/* ---- stories --------------------------------------------------------------------------------------------- */

static void answers_arp_for_its_address_only(void **state)
{
	static const struct bw_mac zero, everybody = { { 255, 255, 255, 255, 255, 255 } };
	struct bw_ip other = peer4;
	struct bw_arp_fields arp;
	struct bw_pkt pkt;
	struct rte_mbuf *m = fresh();

	(void)state;
	bw_arp_write(m, RTE_ARP_OP_REQUEST, &peer_mac, &peer4, &zero, &ours4);
	bw_eth_prepend(m, &peer_mac, &everybody, RTE_ETHER_TYPE_ARP, 0);
	send_frame(m);
	m = receive_answering(&peer4, &pkt);
	assert_non_null(m);
	assert_int_equal(bw_arp_parse(&pkt, &arp), 0);
	assert_int_equal(arp.opcode, RTE_ARP_OP_REPLY);
	assert_memory_equal(&arp.sender_mac, &nic.mac, sizeof(nic.mac));
	assert_true(bw_ip_eq(&arp.sender, &ours4) && bw_ip_eq(&arp.target, &peer4));
	rte_pktmbuf_free(m);

	other.b[15] = 77;
	m = fresh();
	bw_arp_write(m, RTE_ARP_OP_REQUEST, &peer_mac, &peer4, &zero, &other);
	bw_eth_prepend(m, &peer_mac, &everybody, RTE_ETHER_TYPE_ARP, 0);
	send_frame(m);
	quiet();
}

static void answers_echo_of_both_families(void **state)
{
	const struct bw_ip *pairs[][2] = { { &peer4, &ours4 }, { &peer6, &ours6 } };

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		const struct bw_ip *src = pairs[i][0], *dst = pairs[i][1];
		struct rte_mbuf *m = fresh();
		uint8_t *icmp = (uint8_t *)rte_pktmbuf_append(m, 40);
		struct bw_pkt pkt;
		uint16_t sum;

		for (unsigned k = 0; k < 40; k++)
			icmp[k] = (uint8_t)(k * 7);
		icmp[0] = i == 0 ? 8 : 128;
		memset(icmp + 1, 0, 3);
		sum = (uint16_t)~bw_sum_fold(
			bw_sum(icmp, 40, i == 0 ? 0 : bw_sum_pseudo(src, dst, IPPROTO_ICMPV6, 40)));
		memcpy(icmp + 2, &sum, 2);
		send_ip(m, src, dst, i == 0 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
		m = receive_answering(src, &pkt); /* the parse has verified the checksum */
		assert_non_null(m);
		assert_int_equal(pkt.kind, i == 0 ? BW_PKT_ICMP4 : BW_PKT_ICMP6);
		icmp = rte_pktmbuf_mtod_offset(m, uint8_t *, pkt.l4_off);
		assert_int_equal(icmp[0], i == 0 ? 0 : 129);
		assert_int_equal(icmp[39], (uint8_t)(39 * 7));
		rte_pktmbuf_free(m);
	}
	quiet();
}

static void echoes_datagrams_of_both_families(void **state)
{
	(void)state;
	send_udp(&peer4, &ours4, 7, "four");
	expect_udp(&peer4, 7, "four");
	send_udp(&peer6, &ours6, 7, "six");
	expect_udp(&peer6, 7, "six");
	quiet();
}

static void says_when_no_one_is_on_a_udp_port(void **state)
{
	struct bw_pkt pkt;
	struct rte_mbuf *m;
	uint8_t *icmp;

	(void)state;
	send_udp(&peer4, &ours4, 12345, "anybody?");
	m = receive_answering(&peer4, &pkt);
	assert_non_null(m);
	assert_int_equal(pkt.kind, BW_PKT_ICMP4);
	icmp = rte_pktmbuf_mtod_offset(m, uint8_t *, pkt.l4_off);
	assert_int_equal(icmp[0], 3);
	assert_int_equal(icmp[1], 3);
	rte_pktmbuf_free(m);
	quiet();
}

static void reaches_far_hosts_through_the_gateway(void **state)
{
	(void)state;
	send_udp(&far4, &ours4, 7, "from afar");
	expect_udp(
		&gateway4, 7, "from afar"); /* the question that was answered was for the gateway's address */
	quiet();
}

static void carries_mail_and_jobs_home(void **state)
{
	(void)state;
	for (int i = 0; i < 50; i++) {
		send_udp(&peer4, &ours4, PROBE_PORT, "go");
		expect_udp(&peer4, PROBE_PORT, "visited 2");
	}
	quiet();
}

static void queues_a_bounded_number_for_a_silent_neighbour(void **state)
{
	struct bw_counters before, after;
	struct bw_ip silent = peer4;
	char names[512];
	struct bw_pkt pkt;

	(void)state;
	silent.b[15] = 66;
	bw_engine_counters(engine, &before);
	for (int i = 0; i < 40; i++)
		send_udp(&silent, &ours4, 7, "hello");
	assert_null(receive_answering(&peer4, &pkt));
	bw_engine_counters(engine, &after);
	assert_int_equal(after.value[BW_DROP_NEIGH_QUEUE] - before.value[BW_DROP_NEIGH_QUEUE], 40 - 16);
	/* One question, and maybe an announcement. */
	assert_in_range(after.value[BW_ARP_REQUESTS] - before.value[BW_ARP_REQUESTS], 1, 2);
	names[bw_engine_unresolved(engine, names, sizeof(names) - 1)] = '\0';
	assert_non_null(strstr(names, "10.1.0.66 does not answer ARP"));
}

/**
 * What Linux does: it asks for us with its address, so we know it without having asked, and it leaves the
 * address out of its answer to a question that was put to it alone (RFC 4861 section 7.2.4).
 */
static void takes_an_answer_without_an_address_for_a_yes(void **state)
{
	(void)state;
	send_nd(
		&(struct bw_nd_out){
			.type = 135, .src = &shy6, .dst = &ours6, .target = &ours6, .link_addr = &peer_mac },
		&peer_mac);
	send_udp(&shy6, &ours6, 7, "hello");
	assert_int_equal(next_question(&shy6), TO_ONE);
	send_nd(
		&(struct bw_nd_out){
			.type = 136, .flags = 0x40, .src = &shy6, .dst = &ours6, .target = &shy6 },
		&peer_mac);
	assert_int_equal(next_question(&shy6), NOTHING);
	send_udp(&shy6, &ours6, 7, "and again");
	assert_int_equal(next_question(&shy6), NOTHING);
}

/** A peer that takes nothing for seconds and then comes back gets no news that is seconds old. */
static void drops_what_a_dead_device_never_took(void **state)
{
	uint64_t dropped = counted(BW_DROP_TX_BACKLOG), sent = counted(BW_TX_PACKETS);
	unsigned arrived = 0;
	struct rte_mbuf *m;

	(void)state;
	for (unsigned i = 0; i < 1500; i++) { /* the ring takes 1023 */
		send_udp(&peer4, &ours4, 7, "to the dead");
		if (i % 50 == 0)
			nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
	nanosleep(&(struct timespec){ .tv_sec = 1, .tv_nsec = 300000000 }, NULL);
	sent = counted(BW_TX_PACKETS) - sent;
	dropped = counted(BW_DROP_TX_BACKLOG) - dropped;
	assert_in_range(sent, 1, 1023);
	assert_in_range(dropped, 1500 - 1023, 1500 - sent + 8); /* and a few questions about neighbours */
	while ((m = receive()) != NULL) {
		rte_pktmbuf_free(m);
		arrived++;
	}
	assert_int_equal(arrived, sent);
	send_udp(&peer4, &ours4, 7, "back to life");
	expect_udp(&peer4, 7, "back to life");
}

/** A device had no time to take what it was not offered. */
static void keeps_what_waits_while_nobody_runs(void **state)
{
	uint64_t dropped = counted(BW_DROP_TX_BACKLOG);
	unsigned arrived = 0;
	struct rte_mbuf *m;

	(void)state;
	for (unsigned i = 0; i < 1200; i++) {
		send_udp(&peer4, &ours4, 7, "be patient");
		if (i % 50 == 0)
			nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
	nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
	send_udp(&peer4, &ours4, STALL_PORT, "now");
	nanosleep(&(struct timespec){ .tv_sec = 1, .tv_nsec = 500000000 }, NULL);
	while ((m = receive()) != NULL) {
		rte_pktmbuf_free(m);
		arrived++;
	}
	assert_int_equal(counted(BW_DROP_TX_BACKLOG), dropped);
	assert_true(arrived >= 1200);
}

/** Two addresses for one neighbour: which one the engine sends to. */
static void expect_at(const struct bw_ip *who, const struct bw_mac *mac, const char *text)
{
	const struct bw_cidr all[] = { { *who, 64 } };
	struct bw_wire_host host = { .mac = *mac, .addr_count = 1, .addrs = all };
	struct rte_mbuf *m;
	struct bw_pkt pkt = { 0 };

	send_udp(who, bw_ip_is_v4(who) ? &ours4 : &ours6, 7, text);
	while ((m = receive()) != NULL) {
		m->ol_flags = 0;
		bw_pkt_parse(m, &host, &pkt);
		if (pkt.kind == BW_PKT_UDP) {
			assert_memory_equal(
				rte_pktmbuf_mtod_offset(m, void *, pkt.payload_off), text, strlen(text));
			rte_pktmbuf_free(m);
			return;
		}
		rte_pktmbuf_free(m);
	}
	fail_msg("%s: nothing came", text);
}

/** RFC 4861 section 7.2.5: without the Override flag another address is a reason to ask, and no more. */
static void keeps_an_address_that_is_not_overridden(void **state)
{
	static const struct bw_mac thief = { { 2, 0, 0, 0, 0, 99 } };
	struct bw_nd_out advert = {
		.type = 136, .flags = 0x40, .src = &shy6, .dst = &ours6, .target = &shy6, .link_addr = &thief
	};

	(void)state;
	/* REACHABLE since takes_an_answer_without_an_address_for_a_yes(). */
	send_nd(&advert, &thief);
	expect_at(&shy6, &peer_mac, "not moved");
	advert.flags = 0x20;
	send_nd(&advert, &thief);
	expect_at(&shy6, &thief, "moved");
	/* Whoever really has it may answer that. */
	assert_int_equal(next_question(&shy6), TO_EVERYBODY);
	advert.flags = 0x60;
	advert.link_addr = &peer_mac;
	send_nd(&advert, &peer_mac);
	expect_at(&shy6, &peer_mac, "back home");
}

/** RFC 4861 section 7.2.4: also who does not say where it is gets its answer, when it has been asked in turn. */
static void answers_a_question_without_an_address(void **state)
{
	struct bw_ip unknown = shy6;
	struct bw_nd_fields nd;
	struct bw_pkt pkt;
	struct rte_mbuf *m;

	(void)state;
	unknown.b[15] = 0x56;
	send_nd(&(struct bw_nd_out){ .type = 135, .src = &unknown, .dst = &ours6, .target = &ours6 },
		&peer_mac);
	assert_int_equal(next_question(&unknown), TO_EVERYBODY);
	send_nd(&(struct bw_nd_out){ .type = 136,
			.flags = 0x60,
			.src = &unknown,
			.dst = &ours6,
			.target = &unknown,
			.link_addr = &peer_mac },
		&peer_mac);
	m = receive();
	assert_non_null(m);
	m->ol_flags = 0;
	bw_pkt_parse(m,
		&(struct bw_wire_host){
			.mac = peer_mac, .addr_count = 1, .addrs = &(struct bw_cidr){ unknown, 64 } },
		&pkt);
	assert_int_equal(pkt.kind, BW_PKT_ICMP6);
	assert_int_equal(bw_nd_parse(&pkt, &nd), 0);
	assert_int_equal(nd.type, 136);
	assert_true(bw_ip_eq(&nd.target, &ours6));
	rte_pktmbuf_free(m);
}

/** RFC 4862 section 5.4: nobody yet asks for an address of ours; the answer is for everybody, and not "as you asked". */
static void answers_who_detects_a_duplicate(void **state)
{
	static const struct bw_ip nobody;
	struct bw_ip group = bw_ip6_solicited_node(&ours6);
	struct bw_nd_fields nd = { .type = 0 };
	struct bw_pkt pkt;

	(void)state;
	send_nd(&(struct bw_nd_out){ .type = 135, .src = &nobody, .dst = &group, .target = &ours6 },
		&peer_mac);
	for (int i = 0; i < 5 && nd.type != 136; i++) {
		struct rte_mbuf *m = receive();

		if (m == NULL)
			continue;
		m->ol_flags = 0;
		bw_pkt_parse(m,
			&(struct bw_wire_host){
				.mac = peer_mac, .addr_count = 1, .addrs = &(struct bw_cidr){ peer6, 64 } },
			&pkt);
		if (pkt.kind != BW_PKT_ICMP6 || bw_nd_parse(&pkt, &nd) != 0)
			nd.type = 0;
		rte_pktmbuf_free(m);
	}
	assert_int_equal(nd.type, 136);
	assert_true(bw_ip_eq(&nd.target, &ours6));
	assert_true(pkt.is_to_multicast);
	assert_int_equal(nd.flags, BW_ND_OVERRIDE);
}

/** RFC 4443 section 4.2: from the address on the link that the question came by. */
static void answers_echo_to_all_nodes(void **state)
{
	struct bw_ip all_nodes;
	struct rte_mbuf *m = fresh();
	uint8_t icmp[16] = { 128 };
	struct bw_pkt pkt;
	uint16_t sum;

	(void)state;
	bw_ip_parse("ff02::1", &all_nodes);
	sum = (uint16_t)~bw_sum_fold(bw_sum(icmp, 16, bw_sum_pseudo(&peer6, &all_nodes, IPPROTO_ICMPV6, 16)));
	memcpy(icmp + 2, &sum, 2);
	memcpy(rte_pktmbuf_append(m, sizeof(icmp)), icmp, sizeof(icmp));
	send_ip(m, &peer6, &all_nodes, IPPROTO_ICMPV6);
	m = receive_answering(&peer6, &pkt);
	assert_non_null(m);
	assert_int_equal(pkt.kind, BW_PKT_ICMP6);
	assert_int_equal(*rte_pktmbuf_mtod_offset(m, uint8_t *, pkt.l4_off), 129);
	assert_true(bw_ip_eq(&pkt.flow.remote, &ours6));
	rte_pktmbuf_free(m);
}

static void claim(const struct bw_ip *who, const struct bw_mac *mac)
{
	struct rte_mbuf *m = fresh();

	bw_arp_write(m, RTE_ARP_OP_REPLY, mac, who, &nic.mac, &ours4);
	bw_eth_prepend(m, mac, &nic.mac, RTE_ETHER_TYPE_ARP, 0);
	send_frame(m);
}

/** An ARP reply that nobody asked for may be true, but is not taken for proof: everybody is asked, at once. */
static void asks_again_after_an_unasked_reply(void **state)
{
	static const struct bw_mac moved = { { 2, 0, 0, 0, 0, 7 } };
	struct rte_mbuf *m;
	struct bw_pkt pkt;
	uint64_t asked;

	(void)state;
	send_udp(&peer4, &ours4, 7, "known");
	expect_udp(&peer4, 7, "known");
	asked = counted(BW_ARP_REQUESTS);
	claim(&peer4, &moved);
	assert_null(receive_answering(&peer4, &pkt));
	assert_int_equal(counted(BW_ARP_REQUESTS), asked + 1);
	expect_at(&peer4, &peer_mac, "it was forged");
	claim(&peer4, &moved);
	m = receive();
	assert_non_null(m);
	assert_true(rte_is_broadcast_ether_addr(rte_pktmbuf_mtod(m, struct rte_ether_addr *)));
	rte_pktmbuf_free(m);
	claim(&peer4, &moved);
	expect_at(&peer4, &moved, "where you say");
	assert_int_equal(counted(BW_ARP_REQUESTS), asked + 2);
	claim(&peer4, &peer_mac);
	quiet();
}

/** Two hosts with one address answer every question both: that must not make a question of every answer. */
static void asks_two_owners_of_an_address_with_moderation(void **state)
{
	static const struct bw_mac other = { { 2, 0, 0, 0, 0, 8 } };
	uint64_t asked;
	void *m;

	(void)state;
	send_udp(&peer4, &ours4, 7, "known");
	expect_udp(&peer4, 7, "known");
	asked = counted(BW_ARP_REQUESTS);
	for (unsigned i = 0; i < 200; i++) {
		claim(&peer4, i % 2 ? &peer_mac : &other);
		usleep(1000);
		while (rte_ring_sc_dequeue(from_engine[0], &m) == 0 ||
			rte_ring_sc_dequeue(from_engine[1], &m) == 0)
			rte_pktmbuf_free(m);
	}
	/* Ten in a second, which may begin twice, and one that is on time. */
	assert_in_range(counted(BW_ARP_REQUESTS) - asked, 1, 21);
	claim(&peer4, &peer_mac);
	quiet();
}

/** A link that reflects shows us our own announcements: no conflict. Another's claim to our address is one. */
static void knows_its_own_announcement(void **state)
{
	struct bw_nd_out advert = { .type = 136,
		.flags = 0x20,
		.src = &ours6,
		.dst = &ours6,
		.target = &ours6,
		.link_addr = &nic.mac };
	uint64_t conflicts = counted(BW_ARP_CONFLICTS);

	(void)state;
	send_nd(&advert, &nic.mac);
	quiet();
	assert_int_equal(counted(BW_ARP_CONFLICTS), conflicts);
	advert.link_addr = &peer_mac;
	send_nd(&advert, &peer_mac);
	quiet();
	assert_true(counted(BW_ARP_CONFLICTS) > conflicts);
}

/** A hundred neighbours that do not exist, and sixteen packets for each: the pool has better uses. */
static void queues_a_bounded_number_for_all_neighbours(void **state)
{
	uint64_t refused = counted(BW_DROP_NEIGH_QUEUE);
	unsigned share = nic.mbufs_per_worker / 16;
	struct bw_ip nobody = peer4;

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		nobody.b[15] = (uint8_t)(100 + i);
		for (unsigned k = 0; k < 16; k++)
			send_udp(&nobody, &ours4, 7, "is there anybody?");
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
	quiet();
	assert_int_equal(counted(BW_DROP_NEIGH_QUEUE) - refused, 1600 - share);
	/* The neighbours fail after three seconds, and others can be waited for again. */
	nanosleep(&(struct timespec){ .tv_sec = 3, .tv_nsec = 300000000 }, NULL);
	nobody.b[15] = 99;
	refused = counted(BW_DROP_NEIGH_QUEUE);
	send_udp(&nobody, &ours4, 7, "and now?");
	quiet();
	assert_int_equal(counted(BW_DROP_NEIGH_QUEUE), refused);
}

static void resets_segments_for_closed_ports(void **state)
{
	struct bw_pkt pkt;

	(void)state;
	/* Many ports, so that both workers own some of the flows. */
	for (uint16_t port = 5000; port < 5016; port++) {
		struct bw_tcp_fields syn = { .seq = 1000, .flags = BW_TCP_SYN, .window = 1000 };
		struct rte_mbuf *m = fresh();
		uint8_t *tcp = (uint8_t *)rte_pktmbuf_append(m, 20);
		uint16_t sum;

		bw_tcp_header_write(tcp, rte_cpu_to_be_16(port), rte_cpu_to_be_16(81), &syn);
		sum = (uint16_t)~bw_sum_fold(bw_sum(tcp, 20, bw_sum_pseudo(&peer4, &ours4, IPPROTO_TCP, 20)));
		memcpy(tcp + 16, &sum, 2);
		send_ip(m, &peer4, &ours4, IPPROTO_TCP);
		m = receive_answering(&peer4, &pkt);
		assert_non_null(m);
		assert_int_equal(pkt.kind, BW_PKT_TCP);
		assert_int_equal(pkt.tcp.flags, BW_TCP_RST | BW_TCP_ACK);
		assert_int_equal(pkt.tcp.ack, 1001);
		assert_int_equal(rte_be_to_cpu_16(pkt.flow.local_port_be), port);
		rte_pktmbuf_free(m);
	}
	quiet();
}

static struct rte_mbuf *segment_between(
	uint16_t from, uint16_t to, const struct bw_tcp_fields *fields, const char *text)
{
	struct rte_mbuf *m = fresh();
	uint16_t length = (uint16_t)(20 + strlen(text)), sum;
	uint8_t *tcp = (uint8_t *)rte_pktmbuf_append(m, length);

	bw_tcp_header_write(tcp, rte_cpu_to_be_16(from), rte_cpu_to_be_16(to), fields);
	memcpy(tcp + 20, text, strlen(text));
	sum = (uint16_t)~bw_sum_fold(bw_sum(tcp, length, bw_sum_pseudo(&peer4, &ours4, IPPROTO_TCP, length)));
	memcpy(tcp + 16, &sum, 2);
	return m;
}

static struct rte_mbuf *segment_from(uint16_t port, const struct bw_tcp_fields *fields, const char *text)
{
	return segment_between(port, 7, fields, text);
}

static struct rte_mbuf *tcp_segment(const struct bw_tcp_fields *fields, const char *text)
{
	return segment_from(4000, fields, text);
}

static struct rte_mbuf *expect_tcp(uint8_t flags, struct bw_pkt *pkt)
{
	struct rte_mbuf *m = NULL;

	for (int i = 0; i < 5 && m == NULL; i++) /* on a busy machine it may take its time */
		m = receive_answering(&peer4, pkt);
	assert_non_null(m);
	assert_int_equal(pkt->kind, BW_PKT_TCP);
	assert_int_equal(pkt->tcp.flags & ~BW_TCP_PSH, flags);
	assert_int_equal(pkt->ttl, TTL);
	return m;
}

/** One fragment of an IPv4 packet: `n` bytes from `from` (a multiple of 8) of what is behind its IP header. */
static void send_fragment(
	struct rte_mbuf *whole, uint16_t from, uint16_t n, uint8_t proto, uint16_t id, uint16_t tci)
{
	bool has_more = from + n < rte_pktmbuf_data_len(whole);
	struct rte_mbuf *m = fresh();
	struct rte_ipv4_hdr *ip;

	memcpy(rte_pktmbuf_append(m, n), rte_pktmbuf_mtod_offset(whole, void *, from), n);
	bw_ip_prepend(m, &(struct bw_ip_out){ .src = &peer4, .dst = &ours4, .proto = proto, .ttl = 64 });
	ip = rte_pktmbuf_mtod(m, struct rte_ipv4_hdr *);
	ip->packet_id = rte_cpu_to_be_16(id);
	ip->fragment_offset = rte_cpu_to_be_16((uint16_t)(from / 8 | (has_more ? RTE_IPV4_HDR_MF_FLAG : 0)));
	ip->hdr_checksum = 0;
	ip->hdr_checksum = rte_ipv4_cksum(ip);
	bw_eth_prepend(m, &peer_mac, &nic.mac, RTE_ETHER_TYPE_IPV4, tci);
	send_frame(m);
}

/** A segment in two fragments, split behind `split` bytes of TCP header and text (a multiple of 8). */
static void send_in_fragments(struct rte_mbuf *whole, uint16_t split)
{
	send_fragment(whole, 0, split, IPPROTO_TCP, 0x1234, 0);
	send_fragment(whole, split, (uint16_t)(rte_pktmbuf_data_len(whole) - split), IPPROTO_TCP, 0x1234, 0);
	rte_pktmbuf_free(whole);
}

/**
 * The device is said to spread flows by RSS, and brings this one to the second worker, but its fragments, which
 * have no ports, to the first.
 */
static void brings_fragments_of_a_flow_to_its_worker(void **state)
{
	struct rte_ring *first = to_engine;
	struct bw_pkt pkt;
	struct rte_mbuf *m;
	bw_seq iss;

	(void)state;
	to_engine = to_second;
	send_ip(tcp_segment(&(struct bw_tcp_fields){ .seq = 1000, .flags = BW_TCP_SYN, .window = 9000 }, ""),
		&peer4, &ours4, IPPROTO_TCP);
	m = expect_tcp(BW_TCP_SYN | BW_TCP_ACK, &pkt);
	iss = pkt.tcp.seq;
	rte_pktmbuf_free(m);
	send_ip(tcp_segment(
			&(struct bw_tcp_fields){
				.seq = 1001, .ack = iss + 1, .flags = BW_TCP_ACK, .window = 9000 },
			""),
		&peer4, &ours4, IPPROTO_TCP);
	quiet(); /* established, before the fragments overtake it in the other queue */

	to_engine = first;
	send_in_fragments(tcp_segment(
				  &(struct bw_tcp_fields){
					  .seq = 1001, .ack = iss + 1, .flags = BW_TCP_ACK, .window = 9000 },
				  "in two fragments"),
		24);
	m = expect_tcp(BW_TCP_ACK, &pkt);
	assert_int_equal(pkt.tcp.ack, 1001 + 16);
	assert_int_equal(pkt.payload_len, 16);
	assert_memory_equal(rte_pktmbuf_mtod_offset(m, void *, pkt.payload_off), "in two fragments", 16);
	rte_pktmbuf_free(m);

	to_engine = to_second;
	send_ip(tcp_segment(
			&(struct bw_tcp_fields){
				.seq = 1017, .ack = iss + 17, .flags = BW_TCP_RST | BW_TCP_ACK },
			""),
		&peer4, &ours4, IPPROTO_TCP);
	quiet();

	/* Nobody has the flow any more, and nobody says so. */
	to_engine = first;
	send_in_fragments(
		tcp_segment(&(struct bw_tcp_fields){ .seq = 1017, .ack = iss + 17, .flags = BW_TCP_ACK },
			"too late"),
		24);
	quiet();
}

/** An ICMP error of the engine's, which may take its time; returns the 32 bits behind the checksum. */
static uint32_t expect_icmp(const struct bw_ip *who, uint8_t type, uint8_t code)
{
	struct rte_mbuf *m = NULL;
	const uint8_t *icmp;
	struct bw_pkt pkt;
	uint32_t param;

	for (int i = 0; i < 20 && m == NULL; i++)
		m = receive_answering(who, &pkt);
	assert_non_null(m);
	assert_int_equal(pkt.kind, bw_ip_is_v4(who) ? BW_PKT_ICMP4 : BW_PKT_ICMP6);
	icmp = rte_pktmbuf_mtod_offset(m, const uint8_t *, pkt.l4_off);
	assert_int_equal(icmp[0], type);
	assert_int_equal(icmp[1], code);
	memcpy(&param, icmp + 4, sizeof(param));
	rte_pktmbuf_free(m);
	return rte_be_to_cpu_32(param);
}

static void send_behind_extension(const uint8_t extension[8], uint8_t proto, const char *text)
{
	struct rte_mbuf *m = datagram(&peer6, &ours6, 7, text);

	memcpy(rte_pktmbuf_prepend(m, 8), extension, 8);
	send_ip(m, &peer6, &ours6, proto);
}

static void tells_senders_what_it_cannot_do(void **state)
{
	static const uint8_t option[8] = { IPPROTO_UDP, 0, 1, 0, 0x9e, 2 };
	static const uint8_t routing[8] = { IPPROTO_UDP, 0, 4, 1 };
	static const uint8_t crooked[8] = { IPPROTO_UDP, 0, 0, 1, 0, 0, 0, 1 };

	(void)state;
	send_behind_extension(option, IPPROTO_DSTOPTS, "an option that nobody knows");
	assert_int_equal(expect_icmp(&peer6, 4, 2), 44);
	send_behind_extension(routing, IPPROTO_ROUTING, "to be sent on");
	assert_int_equal(expect_icmp(&peer6, 4, 0), 42);
	send_behind_extension(crooked, IPPROTO_FRAGMENT, "no multiple of eight");
	assert_int_equal(expect_icmp(&peer6, 4, 0), 4);
	quiet();
}

/** The rest never comes. Only a first fragment says whose it is. */
static void tells_senders_that_fragments_went_missing(void **state)
{
	static const uint8_t first[8] = { IPPROTO_UDP, 0, 0, 1, 0, 0, 0, 2 };
	struct rte_mbuf *whole = datagram(&peer4, &ours4, 7, "the first of two, and nothing more");
	struct rte_mbuf *error = fresh();
	uint8_t *unreachable = (uint8_t *)rte_pktmbuf_append(error, 64);

	(void)state;
	assert_non_null(unreachable);
	memset(unreachable, 3, 64); /* about an ICMP error there is none */
	send_fragment(error, 0, 16, IPPROTO_ICMP, 1, 0);
	send_fragment(whole, 16, 8, IPPROTO_UDP, 2, 0);
	send_fragment(whole, 0, 16, IPPROTO_UDP, 3, 0);
	expect_icmp(&peer4, 11, 1);
	quiet();
	send_behind_extension(first, IPPROTO_FRAGMENT, "24 bytes with the header");
	expect_icmp(&peer6, 3, 1);
	quiet();
	rte_pktmbuf_free(whole);
	rte_pktmbuf_free(error);
}

/** Where IP begins differs between the fragments: only the second has a tag, of priority alone. */
static void puts_fragments_together_of_which_one_is_tagged(void **state)
{
	struct rte_mbuf *whole = datagram(&peer4, &ours4, 7, "tagged at the end");

	(void)state;
	send_fragment(whole, 0, 16, IPPROTO_UDP, 4, 0);
	send_fragment(whole, 16, (uint16_t)(rte_pktmbuf_data_len(whole) - 16), IPPROTO_UDP, 4, 0xe000);
	rte_pktmbuf_free(whole);
	expect_udp(&peer4, 7, "tagged at the end");
	quiet();
}

/** Fragments whose rest never comes, more than there is room for, keep nobody's out for long. */
/** RFC 8200 section 4.5, RFC 5722, and in IPv4 for the same reason: which of the two would be true? */
static void uses_nothing_of_fragments_that_overlap(void **state)
{
	struct rte_mbuf *whole =
		datagram(&peer4, &ours4, 7, "what lies here twice is not used at all, nor the rest");
	uint16_t length = (uint16_t)rte_pktmbuf_data_len(whole);
	uint64_t reassembled = counted(BW_IP_REASSEMBLED);

	(void)state;
	send_fragment(whole, 0, 24, IPPROTO_UDP, 900, 0);
	send_fragment(whole, 16, 24, IPPROTO_UDP, 900, 0);
	send_fragment(whole, 40, (uint16_t)(length - 40), IPPROTO_UDP, 900, 0);
	quiet();
	assert_int_equal(counted(BW_IP_REASSEMBLED), reassembled);
	rte_pktmbuf_free(whole);
}

/** RFC 4443 section 2.4 (f): a second's worth, and then as they are allowed again. */
static void limits_its_errors(void **state)
{
	uint64_t sent = counted(BW_ICMP_ERRORS_SENT), limited = counted(BW_ICMP_ERRORS_LIMITED);
	struct bw_pkt pkt;
	struct rte_mbuf *m;

	(void)state;
	for (int i = 0; i < 300; i++)
		send_udp(&peer4, &ours4, 12345, "anybody?");
	while ((m = receive_answering(&peer4, &pkt)) != NULL)
		rte_pktmbuf_free(m);
	sent = counted(BW_ICMP_ERRORS_SENT) - sent;
	limited = counted(BW_ICMP_ERRORS_LIMITED) - limited;
	assert_int_equal(sent + limited, 300);
	assert_in_range(limited, 1, 299);
}

static void puts_fragments_together_beside_lone_ones(void **state)
{
	struct rte_mbuf *lone = datagram(&peer4, &ours4, 7, "one of them, and always the same one");
	struct rte_mbuf *whole = datagram(&peer4, &ours4, 7, "two of two");

	(void)state;
	for (uint16_t id = 100; id < 400; id++)
		send_fragment(lone, 16, 8, IPPROTO_UDP, id, 0);
	nanosleep(&(struct timespec){ .tv_nsec = 300000000 }, NULL);
	send_fragment(whole, 0, 8, IPPROTO_UDP, 5, 0);
	send_fragment(whole, 8, (uint16_t)(rte_pktmbuf_data_len(whole) - 8), IPPROTO_UDP, 5, 0);
	rte_pktmbuf_free(lone);
	rte_pktmbuf_free(whole);
	expect_udp(&peer4, 7, "two of two");
	quiet();
}

/** A segment to the echo service, in two fragments if it has text, with an ECN field each. */
static void send_marked_halves(bool is_v4, const struct bw_tcp_fields *fields, const char *text,
	uint8_t first_ecn, uint8_t second_ecn)
{
	static uint16_t id = 1000;
	const struct bw_ip *src = is_v4 ? &peer4 : &peer6, *dst = is_v4 ? &ours4 : &ours6;
	uint16_t length = (uint16_t)(20 + strlen(text)), cut = 24, sum;
	uint8_t tcp[128], extension[8] = { IPPROTO_TCP };

	bw_tcp_header_write(tcp, rte_cpu_to_be_16(4100), rte_cpu_to_be_16(7), fields);
	memcpy(tcp + 20, text, strlen(text));
	sum = (uint16_t)~bw_sum_fold(bw_sum(tcp, length, bw_sum_pseudo(src, dst, IPPROTO_TCP, length)));
	memcpy(tcp + 16, &sum, 2);
	id++;
	memcpy(extension + 6, &id, 2);
	for (uint16_t from = 0; from < length; from += cut) {
		struct bw_ip_out out = {
			.src = src, .dst = dst, .ttl = 64, .tos = from == 0 ? first_ecn : second_ecn
		};
		uint16_t n = BW_MIN(cut, (uint16_t)(length - from));
		bool has_more = from + n < length;
		struct rte_mbuf *m = fresh();

		out.proto = is_v4 ? IPPROTO_TCP : IPPROTO_FRAGMENT;
		if (!is_v4) {
			uint16_t offset_and_more = rte_cpu_to_be_16((uint16_t)(from | has_more));

			memcpy(extension + 2, &offset_and_more, 2);
			memcpy(rte_pktmbuf_append(m, 8), extension, 8);
		}
		memcpy(rte_pktmbuf_append(m, n), tcp + from, n);
		bw_ip_prepend(m, &out);
		if (is_v4) {
			struct rte_ipv4_hdr *ip = rte_pktmbuf_mtod(m, struct rte_ipv4_hdr *);

			ip->packet_id = id;
			ip->fragment_offset = rte_cpu_to_be_16(
				(uint16_t)(from / 8 | (has_more ? RTE_IPV4_HDR_MF_FLAG : 0)));
			ip->hdr_checksum = 0;
			ip->hdr_checksum = rte_ipv4_cksum(ip);
		}
		bw_eth_prepend(m, &peer_mac, &nic.mac, is_v4 ? RTE_ETHER_TYPE_IPV4 : RTE_ETHER_TYPE_IPV6, 0);
		send_frame(m);
	}
}

/** RFC 3168 section 5.3, as TCP sees it; and what TCP marks ECN-capable is so on the wire. */
static void marks_the_whole_when_a_fragment_is_marked(void **state)
{
	static const struct {
		uint8_t first, second;
		bool is_dropped, is_marked;
	} cases[] = {
		{ BW_ECN_ECT0, BW_ECN_ECT0, false, false },
		{ BW_ECN_ECT0, BW_ECN_CE, false, true },
		{ BW_ECN_CE, BW_ECN_ECT1, false, true },
		{ BW_ECN_CE, BW_ECN_CE, false, true },
		{ BW_ECN_NOT_ECT, BW_ECN_CE, true, false },
		{ BW_ECN_CE, BW_ECN_NOT_ECT, true, false },
		{ BW_ECN_NOT_ECT, BW_ECN_ECT0, false, false },
		{ BW_ECN_NOT_ECT, BW_ECN_NOT_ECT, false, false },
	};
	static const char text[] = "a text in two fragments";

	(void)state;
	for (int is_v4 = 0; is_v4 < 2; is_v4++) {
		struct bw_tcp_fields fields = {
			.seq = 1000, .flags = BW_TCP_SYN | BW_TCP_ECE | BW_TCP_CWR, .window = 9000
		};
		const struct bw_ip *who = is_v4 ? &peer4 : &peer6;
		struct bw_pkt pkt;
		struct rte_mbuf *m;

		send_marked_halves(is_v4, &fields, "not taken yet", 0, 0);
		m = receive_answering(who, &pkt);
		assert_non_null(m);
		assert_int_equal(pkt.tcp.flags, BW_TCP_SYN | BW_TCP_ACK | BW_TCP_ECE);
		assert_int_equal(pkt.tos, BW_ECN_NOT_ECT);
		rte_pktmbuf_free(m);
		fields = (struct bw_tcp_fields){
			.seq = 1001, .ack = pkt.tcp.seq + 1, .flags = BW_TCP_ACK | BW_TCP_CWR, .window = 9000
		};
		for (unsigned i = 0; i < BW_ARRAY_LEN(cases); i++) {
			send_marked_halves(is_v4, &fields, text, cases[i].first, cases[i].second);
			if (cases[i].is_dropped) {
				quiet();
				continue;
			}
			m = receive_answering(who, &pkt);
			assert_non_null(m);
			assert_int_equal(pkt.tcp.flags & ~BW_TCP_PSH,
				cases[i].is_marked ? BW_TCP_ACK | BW_TCP_ECE : BW_TCP_ACK);
			assert_int_equal(pkt.payload_len, strlen(text));
			assert_int_equal(pkt.tos, BW_ECN_ECT0);
			rte_pktmbuf_free(m);
			fields.seq += (uint32_t)strlen(text);
			fields.ack += (uint32_t)strlen(text);
			send_marked_halves(is_v4, &fields, "", 0, 0);
		}
		fields.flags = BW_TCP_RST;
		send_marked_halves(is_v4, &fields, text, 0, 0);
		quiet();
	}
}

/** A buffer that lies in another's memory is sent back, and both come home: stop() counts them. */
static void answers_echo_out_of_borrowed_memory(void **state)
{
	uint8_t icmp[40] = {
		8
	}; /* the answer is all zeros: a test of its own, as its checksum can only be ~0 */
	struct rte_mbuf *m = fresh(), *clone;
	struct bw_pkt pkt;
	uint16_t sum = (uint16_t)~bw_sum_fold(bw_sum(icmp, sizeof(icmp), 0));

	(void)state;
	memcpy(icmp + 2, &sum, 2);
	memcpy(rte_pktmbuf_append(m, sizeof(icmp)), icmp, sizeof(icmp));
	bw_ip_prepend(
		m, &(struct bw_ip_out){ .src = &peer4, .dst = &ours4, .proto = IPPROTO_ICMP, .ttl = 64 });
	bw_eth_prepend(m, &peer_mac, &nic.mac, RTE_ETHER_TYPE_IPV4, 0);
	m->ol_flags = 0;
	clone = rte_pktmbuf_clone(m, nic.pools[0]);
	assert_non_null(clone);
	rte_pktmbuf_free(m);
	assert_int_equal(rte_ring_sp_enqueue(to_engine, clone), 0);
	m = receive_answering(&peer4, &pkt);
	assert_non_null(m);
	assert_int_equal(pkt.kind, BW_PKT_ICMP4);
	rte_pktmbuf_free(m);
	quiet();
}

/**
 * Every worker opens connections, from ports whose answers come to it: by the flow's hash from the one queue that all
 * arrives in, or from the queue that the device chooses.
 */
static void opens_connections_whose_answers_come_home(void **state)
{
	struct rte_ring *queues[] = { to_engine, to_second };
	unsigned greeted = 0;
	struct bw_pkt pkt;

	(void)state;
	calls_answered = 0;
	send_udp(&peer4, &ours4, CALLER_PORT, "call");
	while (greeted < 2 * CALLS) {
		struct rte_mbuf *m = receive_answering(&peer4, &pkt);

		assert_non_null(m);
		assert_int_equal(pkt.kind, BW_PKT_TCP);
		assert_int_equal(pkt.flow.local_port_be, rte_cpu_to_be_16(CALLED_PORT));
		assert_true(bw_ip_eq(&pkt.flow.remote, &ours4));
		assert_false(pkt.tcp.flags & BW_TCP_RST);
		if (pkt.tcp.flags & BW_TCP_SYN) {
			if (nic.has_rss)
				to_engine = queues[bw_nic_rss_queue(&nic, &pkt.flow)];
			send_ip(segment_between(CALLED_PORT, rte_be_to_cpu_16(pkt.flow.remote_port_be),
					&(struct bw_tcp_fields){ .seq = 1000,
						.ack = pkt.tcp.seq + 1,
						.flags = BW_TCP_SYN | BW_TCP_ACK,
						.window = 9000 },
					""),
				&peer4, &ours4, IPPROTO_TCP);
		} else if (pkt.payload_len == 5) {
			greeted++;
		}
		rte_pktmbuf_free(m);
	}
	to_engine = queues[0];
	assert_int_equal(calls_answered, 2 * CALLS);
}

static void *drain_main(void *cut_off)
{
	*(unsigned *)cut_off = bw_engine_drain(engine, BW_NS_PER_SEC);
	return NULL;
}

static bw_ns monotonic(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (bw_ns)t.tv_sec * BW_NS_PER_SEC + (bw_ns)t.tv_nsec;
}

/** The peer's half of a handshake: its SYN, and what makes a connection of it. Returns our initial sequence. */
static bw_seq shake(uint16_t port)
{
	struct rte_mbuf *m;
	struct bw_pkt pkt;
	bw_seq iss;

	send_ip(segment_from(port,
			&(struct bw_tcp_fields){ .seq = 1000, .flags = BW_TCP_SYN, .window = 9000 }, ""),
		&peer4, &ours4, IPPROTO_TCP);
	m = expect_tcp(BW_TCP_SYN | BW_TCP_ACK, &pkt);
	iss = pkt.tcp.seq;
	rte_pktmbuf_free(m);
	return iss;
}

static void shake_back(uint16_t port, bw_seq iss)
{
	send_ip(segment_from(port,
			&(struct bw_tcp_fields){
				.seq = 1001, .ack = iss + 1, .flags = BW_TCP_ACK, .window = 9000 },
			""),
		&peer4, &ours4, IPPROTO_TCP);
}

/* ---- faults ---------------------------------------------------------------------------------------------- */

#define GROUP 4 /* connections that live through a fault */

static struct {
	uint16_t port;
	bw_seq iss, seq, heard; /* ours; the peer's next, and our next byte that it knows */
	bool has_answered;
} group[GROUP];

static void group_opens(uint16_t first_port)
{
	for (unsigned i = 0; i < GROUP; i++) {
		group[i].port = (uint16_t)(first_port + i);
		group[i].iss = shake(group[i].port);
		shake_back(group[i].port, group[i].iss);
		group[i].seq = 1001;
		group[i].heard = group[i].iss + 1;
	}
}

static void member_says(unsigned i, const char *text, uint8_t flags)
{
	const struct bw_tcp_fields fields = {
		.seq = group[i].seq, .ack = group[i].heard, .flags = flags, .window = 9000
	};

	send_ip(segment_from(group[i].port, &fields, text), &peer4, &ours4, IPPROTO_TCP);
	group[i].seq += (uint32_t)strlen(text);
}

static void group_says(const char *text, uint8_t flags)
{
	for (unsigned i = 0; i < GROUP; i++) {
		group[i].has_answered = false;
		member_says(i, text, flags);
	}
}

/** All have echoed the text, within that time, and are told so; what else comes is of no interest. */
static void group_hears(const char *text, bw_ns within)
{
	bw_ns began = monotonic();
	unsigned answered = 0;

	while (answered < GROUP) {
		struct bw_pkt pkt;
		struct rte_mbuf *m = receive_answering(&peer4, &pkt);

		assert_in_range(monotonic() - began, 0, within);
		for (unsigned i = 0; m != NULL && pkt.kind == BW_PKT_TCP && i < GROUP; i++) {
			if (rte_be_to_cpu_16(pkt.flow.local_port_be) != group[i].port ||
				group[i].has_answered || pkt.payload_len == 0 ||
				pkt.tcp.seq != group[i].heard) /* a repeat */
				continue;
			assert_int_equal(pkt.payload_len, strlen(text));
			assert_memory_equal(
				rte_pktmbuf_mtod_offset(m, void *, pkt.payload_off), text, pkt.payload_len);
			group[i].heard += pkt.payload_len;
			group[i].has_answered = true;
			answered++;
			member_says(i, "", BW_TCP_ACK);
		}
		rte_pktmbuf_free(m);
	}
}

static void group_leaves(void)
{
	struct rte_mbuf *m;

	group_says("", BW_TCP_RST | BW_TCP_ACK);
	while ((m = receive()) != NULL)
		rte_pktmbuf_free(m);
}

/* ---- cycles ---------------------------------------------------------------------------------------------- */

static uint64_t stages_sum(const struct bw_worker_stats *stats)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < BW_STAGE_COUNT; i++)
		sum += stats->stage_cycles[i];
	return sum;
}

/** It polls all the time, and nothing comes. */
static void is_idle_while_it_spins(void **state)
{
	struct bw_worker_stats before, after;

	(void)state;
	usleep(100000);
	bw_engine_worker_stats(engine, 0, &before);
	usleep(300000);
	bw_engine_worker_stats(engine, 0, &after);
	assert_int_equal(after.sleeps, 0);
	assert_true(after.turns - before.turns > 1000);
	assert_true(after.idle_cycles > before.idle_cycles);
	assert_true(after.busy_cycles - before.busy_cycles < (after.idle_cycles - before.idle_cycles) / 50);
}

static void knows_what_keeps_it_busy(void **state)
{
	static const enum bw_stage passed[] = { BW_STAGE_TURN, BW_STAGE_RX, BW_STAGE_PARSE, BW_STAGE_LOOKUP,
		BW_STAGE_TCP, BW_STAGE_SERVICE, BW_STAGE_INBOX, BW_STAGE_TIMERS, BW_STAGE_EGRESS,
		BW_STAGE_TX };
	struct bw_worker_stats stats[2];

	(void)state;
	_Static_assert(BW_ARRAY_LEN(passed) == BW_STAGE_COUNT, "all");
	group_opens(7300);
	for (unsigned i = 0; i < 300; i++) {
		group_says("again", BW_TCP_ACK);
		group_hears("again", BW_NS_PER_SEC);
	}
	group_leaves();
	for (unsigned i = 0; i < 2; i++) {
		bw_engine_worker_stats(engine, i, &stats[i]);
		assert_true(stats[i].busy_cycles > 0);
		assert_true(stages_sum(&stats[i]) < stats[i].busy_cycles); /* a sample */
	}
	for (unsigned i = 0; i < BW_STAGE_COUNT; i++)
		assert_true(stats[0].stage_cycles[passed[i]] + stats[1].stage_cycles[passed[i]] > 0);
}

static void counts_no_stages_unless_asked(void **state)
{
	struct bw_worker_stats stats;

	(void)state;
	group_opens(7400);
	for (unsigned i = 0; i < 50; i++) {
		group_says("again", BW_TCP_ACK);
		group_hears("again", BW_NS_PER_SEC);
	}
	group_leaves();
	for (unsigned i = 0; i < 2; i++) {
		bw_engine_worker_stats(engine, i, &stats);
		assert_true(stats.busy_cycles > 0);
		assert_int_equal(stages_sum(&stats), 0);
	}
}

/** With the pools empty, but for what lies in the workers' caches, nobody new gets in, and the others go on. */
static void accepts_again_once_there_are_buffers(void **state)
{
	static struct rte_mbuf *taken[2 * 32768];
	const struct bw_tcp_fields syn = { .seq = 1000, .flags = BW_TCP_SYN, .window = 9000 };
	struct rte_mbuf *refused;
	unsigned count = 0, few = 4 * GROUP, spare = BW_NIC_RESERVE + few;
	struct bw_pkt pkt;

	(void)state;
	group_opens(7000);
	group_says("before", BW_TCP_ACK);
	group_hears("before", BW_NS_PER_SEC);
	refused = segment_from(7100, &syn, "");
	for (unsigned i = 0; i < 2; i++) {
		while ((taken[count] = rte_pktmbuf_alloc(nic.pools[i])) != NULL)
			assert_true(++count < BW_ARRAY_LEN(taken));
		/* The reserve is for no connection to keep, and theirs is the least that is more. Not into our cache. */
		count -= spare;
		rte_mempool_ops_enqueue_bulk(nic.pools[i], (void **)(taken + count), spare);
	}
	usleep(100000); /* a worker that sleeps finds out when it wakes up */
	send_ip(refused, &peer4, &ours4, IPPROTO_TCP);
	assert_null(receive_answering(&peer4, &pkt));
	rte_pktmbuf_free_bulk(taken, few); /* for us: they stay in this thread's cache */
	group_says("meanwhile", BW_TCP_ACK);
	group_hears("meanwhile", BW_NS_PER_SEC);
	rte_pktmbuf_free_bulk(taken + few, count - few);
	usleep(100000);
	send_ip(segment_from(7100, &syn, ""), &peer4, &ours4, IPPROTO_TCP);
	rte_pktmbuf_free(expect_tcp(BW_TCP_SYN | BW_TCP_ACK, &pkt));
	send_ip(segment_from(7100, &(struct bw_tcp_fields){ .seq = 1001, .flags = BW_TCP_RST }, ""), &peer4,
		&ours4, IPPROTO_TCP);
	group_says("after", BW_TCP_ACK);
	group_hears("after", BW_NS_PER_SEC);
	group_leaves();
}

/** For longer than packets are kept, so that all that was sent is lost, and the next time-out would be far off. */
static void goes_on_once_the_device_does(void **state)
{
	uint64_t dropped = counted(BW_DROP_TX_BACKLOG);

	(void)state;
	group_opens(7200);
	for (uint16_t i = 0; i < 6000; i++) { /* to either worker more than its ring and its backlog hold */
		struct rte_mbuf *m = datagram(&peer4, &ours4, 7, "to the dead");
		struct rte_udp_hdr *udp = rte_pktmbuf_mtod(m, struct rte_udp_hdr *);

		udp->src_port = rte_cpu_to_be_16(10000 + i);
		udp->dgram_cksum = 0;
		send_ip(m, &peer4, &ours4, IPPROTO_UDP);
		if (i % 50 == 0)
			usleep(1000);
	}
	group_says("into the void", BW_TCP_ACK);
	usleep(4000000);
	assert_true(counted(BW_DROP_TX_BACKLOG) > dropped);
	group_hears("into the void", BW_NS_PER_SEC);
	group_says("and back", BW_TCP_ACK);
	group_hears("and back", BW_NS_PER_SEC);
	group_leaves();
}

static void wait_for(const _Atomic unsigned *count, unsigned value, bw_ns within)
{
	bw_ns began = monotonic();

	while (*count != value) {
		assert_in_range(monotonic() - began, 0, within);
		usleep(1000);
	}
}

/** All helpers hang, and a service has as many jobs out as it may: it hears so, and everything else goes on. */
static void goes_on_while_helpers_hang(void **state)
{
	(void)state;
	jobs_taken = jobs_refused = jobs_done = 0;
	group_opens(7400);
	for (unsigned round = 1; round <= 2; round++) {
		helpers_hang = true;
		send_udp(&peer4, &ours4, HOARDER_PORT, "work");
		group_says("meanwhile", BW_TCP_ACK);
		group_hears("meanwhile", BW_NS_PER_SEC);
		wait_for(&jobs_refused, round, BW_NS_PER_SEC);
		assert_int_equal(jobs_taken, round * JOBS);
		assert_int_equal(jobs_done, (round - 1) * JOBS);
		helpers_hang = false;
		wait_for(&jobs_done, round * JOBS, BW_NS_PER_SEC);
	}
	group_leaves();
}

/** A worker is stuck, and the way to it full: what waits for it arrives, in order, and the others go on. */
static void brings_mail_to_who_was_stuck(void **state)
{
	(void)state;
	numbered_sent = numbered_heard = 0;
	group_opens(7500);
	for (unsigned round = 1; round <= 2; round++) {
		send_udp(&peer4, &ours4, STUCK_PORT, "go");
		group_says("meanwhile", BW_TCP_ACK);
		wait_for(&numbered_heard, round * FLOOD, 1500 * BW_NS_PER_MS);
		group_hears("meanwhile", BW_NS_PER_SEC);
	}
	group_leaves();
}

/** A service that does not let go is made to. */
static void cuts_off_who_does_not_end(void **state)
{
	unsigned cut_off = 0;
	struct rte_mbuf *m;
	struct bw_pkt pkt;

	(void)state;
	send_ip(segment_between(7300, STUBBORN_PORT,
			&(struct bw_tcp_fields){ .seq = 1000, .flags = BW_TCP_SYN, .window = 9000 }, ""),
		&peer4, &ours4, IPPROTO_TCP);
	m = expect_tcp(BW_TCP_SYN | BW_TCP_ACK, &pkt);
	send_ip(segment_between(7300, STUBBORN_PORT,
			&(struct bw_tcp_fields){
				.seq = 1001, .ack = pkt.tcp.seq + 1, .flags = BW_TCP_ACK, .window = 9000 },
			""),
		&peer4, &ours4, IPPROTO_TCP);
	rte_pktmbuf_free(m);
	quiet();
	drain_main(&cut_off);
	assert_int_equal(cut_off, 1);
	rte_pktmbuf_free(expect_tcp(BW_TCP_RST | BW_TCP_ACK, &pkt));
}

/** A service that fails on any one worker: none runs, and those that had started are stopped. */
static void ends_where_a_service_cannot_start(void **state)
{
	struct bw_nic_conf nic_conf = { .plan = &plan, .worker_count = 2, .mtu = 1500 };
	struct bw_engine_conf conf;

	(void)state;
	assert_int_equal(bw_nic_plan("ring", 2, &plan), 0);
	bw_engine_conf_init(&conf);
	conf.devices[0].nic = &nic;
	bw_cidr_parse("10.1.0.2/24", &conf.devices[0].addrs[0]);
	conf.devices[0].addr_count = 1;
	conf.worker_count = 2;
	conf.services[0] = (struct bw_engine_service){ .service = &bw_echo_service, .port = 7 };
	conf.services[1] = (struct bw_engine_service){ .service = &failing_service, .port = 8 };
	conf.services[2] = (struct bw_engine_service){ .service = &stubborn_service, .port = 9 };
	conf.service_count = 3;
	for (fails_on_worker = 0; fails_on_worker < 2; fails_on_worker++) {
		started = stopped = 0;
		assert_int_equal(bw_nic_open(&nic, &nic_conf), 0);
		assert_int_equal(bw_engine_create(&conf, &engine), 0);
		assert_int_equal(bw_engine_start(engine), -EIO);
		bw_engine_destroy(engine);
		engine = NULL;
		assert_int_equal(started, 1);
		assert_int_equal(stopped, 1);
		bw_nic_stop_queues(&nic);
		assert_int_equal(bw_nic_mbufs_in_use(&nic), 0);
		bw_nic_close(&nic);
	}
}

/**
 * One of the workers has no queue of its own and sleeps for a tenth of a second at a time: told to drain, it
 * says goodbye to idle connections at once, and later to one whose handshake was under way.
 */
static void says_goodbye_at_once(void **state)
{
	unsigned cut_off = 0;
	struct bw_pkt pkt;
	pthread_t thread;
	bw_seq late;
	bw_ns began;

	(void)state;
	for (uint16_t port = 5000; port < 5016; port++)
		shake_back(port, shake(port));
	late = shake(5016);
	quiet();
	began = monotonic();
	assert_int_equal(pthread_create(&thread, NULL, drain_main, &cut_off), 0);
	for (unsigned i = 0; i < 16; i++)
		rte_pktmbuf_free(expect_tcp(BW_TCP_FIN | BW_TCP_ACK, &pkt));
	assert_in_range(monotonic() - began, 0, 80 * BW_NS_PER_MS);
	shake_back(5016, late);
	do { /* the others may say it again */
		rte_pktmbuf_free(expect_tcp(BW_TCP_FIN | BW_TCP_ACK, &pkt));
	} while (rte_be_to_cpu_16(pkt.flow.local_port_be) != 5016);
	pthread_join(thread, NULL);
	assert_int_equal(cut_off, 17); /* the peer never answered */
}

/** Is it a question to the peer alone? */
static bool asks_the_peer(const struct rte_mbuf *m)
{
	const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);

	return eth->ether_type == RTE_BE16(RTE_ETHER_TYPE_ARP) &&
	       memcmp(&eth->dst_addr, &peer_mac, sizeof(peer_mac)) == 0;
}

/** What a router says of a segment reaches its connection, and three repeats in vain make the neighbour doubtful. */
static void doubts_the_neighbour_of_a_silent_connection(void **state)
{
	uint64_t told = counted(BW_TCP_UNREACHABLE);
	bw_seq iss = shake(4900);
	struct rte_mbuf *m, *icmp = fresh();
	unsigned repeats = 0;
	bool is_asked = false;
	struct bw_pkt pkt;

	(void)state;
	shake_back(4900, iss);
	send_ip(segment_from(4900,
			&(struct bw_tcp_fields){
				.seq = 1001, .ack = iss + 1, .flags = BW_TCP_ACK, .window = 9000 },
			"hello"),
		&peer4, &ours4, IPPROTO_TCP);
	m = expect_tcp(BW_TCP_ACK, &pkt);
	bw_icmp_error_write(icmp, &pkt, 3, 1, 0, &peer4, &ours4);
	send_ip(icmp, &peer4, &ours4, IPPROTO_ICMP);
	rte_pktmbuf_free(m);
	for (int i = 0; i < 20 && !is_asked; i++) {
		m = receive();
		if (m == NULL)
			continue;
		is_asked = asks_the_peer(m);
		repeats += !is_asked;
		rte_pktmbuf_free(m);
	}
	assert_true(is_asked);
	assert_int_equal(repeats, 2); /* the third goes out behind the question */
	assert_int_equal(counted(BW_TCP_UNREACHABLE), told + 1);
	rte_pktmbuf_free(expect_tcp(BW_TCP_ACK, &pkt));
	send_ip(segment_from(4900,
			&(struct bw_tcp_fields){
				.seq = 1006, .ack = iss + 6, .flags = BW_TCP_RST | BW_TCP_ACK },
			""),
		&peer4, &ours4, IPPROTO_TCP);
	quiet();
}

/** Mails that fill the way between two workers several times, in the very moment of the end, all arrive. */
static void brings_all_mail_home_at_the_end(void **state)
{
	uint64_t datagrams = counted(BW_UDP_DATAGRAMS_IN);

	(void)state;
	send_udp(&peer4, &ours4, FLOOD_PORT, "begin");
	while (counted(BW_UDP_DATAGRAMS_IN) == datagrams)
		usleep(1000);
	bw_engine_destroy(engine);
	engine = NULL;
	assert_int_equal(flood_delivered, FLOOD);
}

/** The same networks lie beyond it, but for the addresses. */
static int add_beside(struct bw_engine_device *device)
{
	static struct bw_nic_plan beside_plan;
	struct bw_nic_conf conf = { .plan = &beside_plan, .worker_count = 2, .mtu = 1280 };

	if (bw_nic_plan("ring", 1, &beside_plan) != 0 || bw_nic_open(&beside, &conf) != 0)
		return -1;
	device->nic = &beside;
	bw_cidr_parse("10.9.0.2/24", &device->addrs[0]);
	bw_cidr_parse("fd09::2/64", &device->addrs[1]);
	device->addr_count = 2;
	bw_cidr_parse("0.0.0.0/0", &device->routes[0].prefix);
	bw_ip_parse("10.9.0.254", &device->routes[0].gateway);
	device->route_count = 1;
	return 0;
}

static int start_with(unsigned queues, bool has_rss)
{
	static const struct bw_service *services[] = { &bw_echo_service, &errand_service, &flood_service,
		&caller_service, &stubborn_service, &hoarder_service, &stuck_service, &stall_service };
	static const uint16_t ports[] = { 7, PROBE_PORT, FLOOD_PORT, CALLER_PORT, STUBBORN_PORT, HOARDER_PORT,
		STUCK_PORT, STALL_PORT };
	struct bw_nic_conf nic_conf = { .plan = &plan, .worker_count = 2, .mtu = 1500 };
	struct bw_engine_conf conf;
	struct bw_engine_device *ours = &conf.devices[device_at];

	if (bw_nic_plan("ring", queues, &plan) != 0 || bw_nic_open(&nic, &nic_conf) != 0)
		return -1;
	nic.has_rss = has_rss;
	nic.rss_mask = 1;
	nic.rss_queue[1] = 1;
	to_engine = bw_nic_ring_rx(&nic, 0);
	to_second = bw_nic_ring_rx(&nic, 1);
	from_engine[0] = bw_nic_ring_tx(&nic, 0);
	from_engine[1] = bw_nic_ring_tx(&nic, nic.tx_queues - 1);
	bw_engine_conf_init(&conf);
	conf.device_count = device_count;
	if (device_count == 2 && add_beside(&conf.devices[1 - device_at]) != 0)
		return -1;
	ours->nic = &nic;
	bw_cidr_parse("10.1.0.2/24", &ours->addrs[0]);
	bw_cidr_parse("fd01::2/64", &ours->addrs[1]);
	ours->addr_count = 2;
	ours4 = ours->addrs[0].ip;
	ours6 = ours->addrs[1].ip;
	bw_ip_parse("10.1.0.1", &peer4);
	bw_ip_parse("fd01::1", &peer6);
	bw_ip_parse("fd01::55", &shy6);
	bw_ip_parse("192.0.2.9", &far4);
	bw_ip_parse("10.1.0.254", &gateway4);
	/* The longest prefix counts, not the first. */
	bw_cidr_parse("0.0.0.0/0", &ours->routes[0].prefix);
	bw_ip_parse("10.1.0.253", &ours->routes[0].gateway);
	bw_cidr_parse("192.0.2.0/24", &ours->routes[1].prefix);
	ours->routes[1].gateway = gateway4;
	ours->route_count = 2;
	conf.worker_count = 2;
	conf.cpus[1] = (unsigned)sysconf(_SC_NPROCESSORS_ONLN) > 1;
	conf.fragment_timeout_ns = 2 * BW_NS_PER_SEC;
	conf.ttl = TTL;
	conf.counts_cycles = counts_cycles;
	conf.poll = counts_cycles ? BW_POLL_BUSY : BW_POLL_AUTO;
	conf.service_count = BW_ARRAY_LEN(services);
	for (unsigned i = 0; i < conf.service_count; i++)
		conf.services[i] = (struct bw_engine_service){ .service = services[i], .port = ports[i] };
	return bw_engine_create(&conf, &engine) != 0 || bw_engine_start(engine) != 0 ? -1 : 0;
}

/** The MTU that was not given, but is the interface's, is known only when the device is open. */
static void refuses_ipv6_on_a_link_too_small_for_it(void **state)
{
	struct bw_nic_conf nic_conf = { .plan = &plan, .worker_count = 1, .mtu = 1279 };
	struct bw_engine_conf conf;

	(void)state;
	assert_int_equal(bw_nic_plan("ring", 1, &plan), 0);
	assert_int_equal(bw_nic_open(&nic, &nic_conf), 0);
	bw_engine_conf_init(&conf);
	conf.devices[0].nic = &nic;
	bw_cidr_parse("10.1.0.2/24", &conf.devices[0].addrs[0]);
	bw_cidr_parse("fd01::2/64", &conf.devices[0].addrs[1]);
	conf.devices[0].addr_count = 2;
	engine = NULL;
	assert_int_equal(bw_engine_create(&conf, &engine), -EINVAL);
	assert_null(engine);
	conf.devices[0].addr_count = 1;
	assert_int_equal(bw_engine_create(&conf, &engine), 0);
	bw_engine_destroy(engine);
	bw_nic_close(&nic);
}

static int start(void **state)
{
	(void)state;
	return start_with(2, false);
}

static int start_with_one_queue(void **state)
{
	(void)state;
	return start_with(1, false);
}

static int start_counted(void **state)
{
	(void)state;
	counts_cycles = true;
	return start_with(2, false);
}

static int start_spread_by_the_device(void **state)
{
	(void)state;
	return start_with(2, true);
}

/** Everything stops, and every buffer is back. */
static int stop(void **state)
{
	void *m;
	unsigned lost;

	(void)state;
	if (engine != NULL)
		bw_engine_drain(engine, BW_NS_PER_SEC);
	bw_engine_destroy(engine);
	bw_nic_stop_queues(&nic);
	while (rte_ring_sc_dequeue(from_engine[0], &m) == 0 || rte_ring_sc_dequeue(from_engine[1], &m) == 0 ||
		rte_ring_sc_dequeue(to_engine, &m) == 0)
		rte_pktmbuf_free(m);
	if (device_count == 2) {
		bw_nic_stop_queues(&beside);
		while (rte_ring_sc_dequeue(bw_nic_ring_tx(&beside, 0), &m) == 0)
			rte_pktmbuf_free(m);
	}
	lost = bw_nic_mbufs_in_use(&nic) + (device_count == 2 ? bw_nic_mbufs_in_use(&beside) : 0);
	if (lost != 0)
		print_error("%u mbufs lost\n", lost);
	if (device_count == 2)
		bw_nic_close(&beside);
	bw_nic_close(&nic);
	return lost != 0;
}

static int stop_counted(void **state)
{
	counts_cycles = false;
	return stop(state);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_arp_for_its_address_only),
		cmocka_unit_test(answers_echo_of_both_families),
		cmocka_unit_test(echoes_datagrams_of_both_families),
		cmocka_unit_test(says_when_no_one_is_on_a_udp_port),
		cmocka_unit_test(reaches_far_hosts_through_the_gateway),
		cmocka_unit_test(carries_mail_and_jobs_home),
		cmocka_unit_test(queues_a_bounded_number_for_a_silent_neighbour),
		cmocka_unit_test(takes_an_answer_without_an_address_for_a_yes),
		cmocka_unit_test(keeps_an_address_that_is_not_overridden),
		cmocka_unit_test(answers_a_question_without_an_address),
		cmocka_unit_test(answers_who_detects_a_duplicate),
		cmocka_unit_test(answers_echo_to_all_nodes),
		cmocka_unit_test(asks_again_after_an_unasked_reply),
		cmocka_unit_test(knows_its_own_announcement),
		cmocka_unit_test(resets_segments_for_closed_ports),
		cmocka_unit_test(drops_what_a_dead_device_never_took),
		cmocka_unit_test(keeps_what_waits_while_nobody_runs),
		cmocka_unit_test(queues_a_bounded_number_for_all_neighbours),
		cmocka_unit_test(asks_two_owners_of_an_address_with_moderation),
	};
	const struct CMUnitTest fragments_and_errors[] = {
		cmocka_unit_test(tells_senders_what_it_cannot_do),
		cmocka_unit_test(tells_senders_that_fragments_went_missing),
		cmocka_unit_test(puts_fragments_together_of_which_one_is_tagged),
		cmocka_unit_test(puts_fragments_together_beside_lone_ones),
		cmocka_unit_test(answers_echo_out_of_borrowed_memory),
		cmocka_unit_test(uses_nothing_of_fragments_that_overlap),
		cmocka_unit_test(doubts_the_neighbour_of_a_silent_connection),
		cmocka_unit_test(limits_its_errors),
		cmocka_unit_test(marks_the_whole_when_a_fragment_is_marked),
	};
	const struct CMUnitTest with_one_queue[] = {
		cmocka_unit_test(says_goodbye_at_once),
	};
	const struct CMUnitTest no_start[] = {
		cmocka_unit_test(refuses_ipv6_on_a_link_too_small_for_it),
		cmocka_unit_test(ends_where_a_service_cannot_start),
	};
	const struct CMUnitTest faults[] = {
		cmocka_unit_test(counts_no_stages_unless_asked),
		cmocka_unit_test(accepts_again_once_there_are_buffers),
		cmocka_unit_test(goes_on_once_the_device_does),
		cmocka_unit_test(goes_on_while_helpers_hang),
		cmocka_unit_test(brings_mail_to_who_was_stuck),
		cmocka_unit_test(cuts_off_who_does_not_end),
	};
	const struct CMUnitTest counted[] = {
		cmocka_unit_test(is_idle_while_it_spins),
		cmocka_unit_test(knows_what_keeps_it_busy),
	};
	const struct CMUnitTest the_end[] = {
		cmocka_unit_test(brings_all_mail_home_at_the_end),
	};
	const struct CMUnitTest spread_by_the_device[] = {
		cmocka_unit_test(brings_fragments_of_a_flow_to_its_worker),
	};
	const struct CMUnitTest calls[] = {
		cmocka_unit_test(opens_connections_whose_answers_come_home),
	};
	struct bw_eal_conf eal = { .plans = &plan, .plan_count = 1, .memory_mib = 384 };

	if (bw_nic_plan("ring", 2, &plan) != 0 || bw_eal_start(&eal) != 0)
		return 1;
	if (argc > 1 && strcmp(argv[1], "second-of-two") == 0) {
		device_count = 2;
		device_at = 1;
		return cmocka_run_group_tests(tests, start, stop) |
		       cmocka_run_group_tests(fragments_and_errors, start_with_one_queue, stop) |
		       cmocka_run_group_tests(spread_by_the_device, start_spread_by_the_device, stop) |
		       cmocka_run_group_tests(calls, start, stop);
	}
	return cmocka_run_group_tests(tests, start, stop) | cmocka_run_group_tests(no_start, NULL, NULL) |
	       cmocka_run_group_tests(fragments_and_errors, start, stop) |
	       cmocka_run_group_tests(counted, start_counted, stop_counted) |
	       cmocka_run_group_tests(with_one_queue, start_with_one_queue, stop) |
	       cmocka_run_group_tests(faults, start, stop) |
	       cmocka_run_group_tests(faults, start_with_one_queue, stop) |
	       cmocka_run_group_tests(the_end, start, stop) |
	       cmocka_run_group_tests(spread_by_the_device, start_spread_by_the_device, stop) |
	       cmocka_run_group_tests(calls, start, stop) |
	       cmocka_run_group_tests(calls, start_with_one_queue, stop) |
	       cmocka_run_group_tests(calls, start_spread_by_the_device, stop);
}
