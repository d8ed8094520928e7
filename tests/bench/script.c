/* SPDX-License-Identifier: BSD-3-Clause */
/** The worker, the clients and what they say. See script.h. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <rte_arp.h>
#include <rte_ether.h>
#include <rte_ring.h>

#include <base/clock.h>
#include <service/http.h>
#include <service/resp.h>
#include <wire/build.h>

#include "script.h"

#define CONNECTIONS 32 /* each has one segment in every burst */
#define DEPTH       16
#define PAGE_BYTES  100
#define BULK_BYTES  1000000
#define VALUE_BYTES 32
#define KEYS        1024
#define ECHO_BYTES  64
#define BODY_MAX    1460
#define MBUFS       8192
#define HTTP_PORT   80
#define RESP_PORT   6379
#define ECHO_PORT   7
#define WINDOW      65535
#define WSCALE      7
#define BURST_NS    (20 * BW_NS_PER_US)
#define STEPS_MAX   100000

/* ---- what the engine is linked with in place of the world's ----------------------------------------------- */

ssize_t __wrap_getrandom(void *out, size_t bytes, unsigned flags);
int __wrap_getentropy(void *out, size_t bytes);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ts);
int __wrap_pthread_clockjoin_np(
	pthread_t thread, void **result, clockid_t clock, const struct timespec *until);

static bw_ns now = BW_NS_PER_SEC;
static uint64_t chance;

void bw_clock_init(void) {}

bw_ns bw_clock_now(void)
{
	return now;
}

ssize_t __wrap_getrandom(void *out, size_t bytes, unsigned flags)
{
	(void)flags;
	for (size_t i = 0; i < bytes; i++) {
		chance = chance * 6364136223846793005ull + 1442695040888963407ull;
		((uint8_t *)out)[i] = (uint8_t)(chance >> 56);
	}
	return (ssize_t)bytes;
}

int __wrap_getentropy(void *out, size_t bytes)
{
	__wrap_getrandom(out, bytes, 0);
	return 0;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *ts)
{
	ts->tv_sec = (time_t)(now / BW_NS_PER_SEC) + (clock == CLOCK_REALTIME ? 1767225600 : 0);
	ts->tv_nsec = (long)(now % BW_NS_PER_SEC);
	return 0;
}

/** A deadline by this clock lies in the past of a thread that is real. */
int __wrap_pthread_clockjoin_np(
	pthread_t thread, void **result, clockid_t clock, const struct timespec *until)
{
	(void)until;
	return pthread_join(thread, result);
}

/* ---- the worker ------------------------------------------------------------------------------------------- */

static const struct bw_mac client_mac = { { 2, 0, 0, 0, 0, 1 } }, server_mac = { { 2, 0, 0, 0, 0, 2 } };
static struct bw_nic_plan plan;
static struct bw_nic nic;
static struct bw_engine *engine;
static struct bw_worker *worker;
static struct rte_ring *to_worker, *from_worker;
static struct bw_ip server_ip, client_ip;
static struct bw_http_conf http;
static struct bw_resp_conf resp;
static char page[PAGE_BYTES], bulk[BULK_BYTES];
static bool is_counting;

static void fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", program_invocation_short_name, what);
	exit(1);
}

static void start(bool counts_cycles)
{
	static const struct bw_http_constant pages[] = {
		{ .path = "/", .content_type = "text/plain", .body = page, .body_bytes = PAGE_BYTES },
		{ .path = "/bulk", .content_type = "text/plain", .body = bulk, .body_bytes = BULK_BYTES },
	};
	struct bw_engine_conf conf;

	chance = 1;
	bw_http_conf_init(&http);
	http.site.constants = pages;
	http.site.constant_count = BW_ARRAY_LEN(pages);
	bw_resp_conf_init(&resp);
	resp.memory_bytes_max = 64 << 20;
	bw_engine_conf_init(&conf);
	conf.devices[0].nic = &nic;
	bw_cidr_parse("10.1.0.2/24", &conf.devices[0].addrs[0]);
	conf.devices[0].addr_count = 1;
	conf.counts_cycles = counts_cycles;
	conf.services[0] =
		(struct bw_engine_service){ .service = &bw_http_service, .conf = &http, .port = HTTP_PORT };
	conf.services[1] =
		(struct bw_engine_service){ .service = &bw_resp_service, .conf = &resp, .port = RESP_PORT };
	conf.services[2] = (struct bw_engine_service){ .service = &bw_echo_service, .port = ECHO_PORT };
	conf.service_count = 3;
	if (bw_http_conf_prepare(&http) != 0 || bw_resp_conf_prepare(&resp) != 0 ||
		bw_engine_create(&conf, &engine) != 0)
		fail("no engine");
	engine->conf.helper_count = 0; /* a queue for jobs, of which there are none */
	worker = &engine->workers[0];
	if (bw_helpers_start(engine) != 0 || bw_worker_setup(worker) != 0)
		fail("the worker does not start");
}

void script_stop(void)
{
	void *m;

	bw_worker_teardown(worker);
	bw_engine_destroy(engine);
	while (rte_ring_sc_dequeue(from_worker, &m) == 0 || rte_ring_sc_dequeue(to_worker, &m) == 0)
		rte_pktmbuf_free(m);
	if (bw_nic_mbufs_in_use(&nic) != 0)
		fail("mbufs are lost");
	bw_http_conf_release(&http);
	bw_resp_conf_release(&resp);
}

/* ---- the clients ------------------------------------------------------------------------------------------ */

struct client {
	uint16_t port, server_port;
	bw_seq seq, ack;
	uint32_t ts_recent;
	unsigned segments_unacked;
	uint64_t received;
	bool is_open, has_fin;
};

static struct client clients[CONNECTIONS];
static uint16_t next_port = 10000;
static char first_bytes[32]; /* of what the client received last */

static void send_frame(struct rte_mbuf *m)
{
	m->ol_flags = 0;
	if (rte_ring_sp_enqueue(to_worker, m) != 0)
		fail("the ring is full");
}

static struct rte_mbuf *fresh(void)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(nic.pools[0]);

	if (m == NULL)
		fail("no mbuf");
	return m;
}

static void say(struct client *c, uint8_t flags, const void *data, unsigned bytes)
{
	struct bw_tcp_fields fields = {
		.seq = c->seq,
		.ack = c->ack,
		.flags = flags,
		.window = WINDOW,
		.has_timestamp = true,
		.ts_value = (uint32_t)(now / BW_NS_PER_MS),
		.ts_echo = c->ts_recent,
	};
	struct rte_mbuf *m = fresh();
	uint8_t *header = rte_pktmbuf_mtod(m, uint8_t *);
	unsigned header_bytes;
	uint16_t sum;

	if (flags & BW_TCP_SYN) {
		fields.has_mss = fields.has_wscale = fields.has_sack_permitted = true;
		fields.mss = 1460;
		fields.wscale = WSCALE;
	}
	header_bytes = bw_tcp_header_write(
		header, __builtin_bswap16(c->port), __builtin_bswap16(c->server_port), &fields);
	memcpy(header + header_bytes, data, bytes);
	m->data_len = (uint16_t)(header_bytes + bytes);
	m->pkt_len = m->data_len;
	sum = (uint16_t)~bw_sum_fold(
		bw_sum(header, m->data_len, bw_sum_pseudo(&client_ip, &server_ip, IPPROTO_TCP, m->data_len)));
	memcpy(header + 16, &sum, 2);
	bw_ip_prepend(m,
		&(struct bw_ip_out){ .src = &client_ip, .dst = &server_ip, .proto = IPPROTO_TCP, .ttl = 64 });
	bw_eth_prepend(m, &client_mac, &server_mac, RTE_ETHER_TYPE_IPV4, 0);
	send_frame(m);
	c->seq += bytes + !!(flags & BW_TCP_SYN) + !!(flags & BW_TCP_FIN);
	c->segments_unacked = 0;
}

static void hear(const struct bw_pkt *pkt)
{
	struct client *c = NULL;

	for (unsigned i = 0; i < CONNECTIONS && c == NULL; i++)
		if (clients[i].port == __builtin_bswap16(pkt->flow.local_port_be))
			c = &clients[i];
	if (c == NULL || (pkt->tcp.flags & BW_TCP_RST))
		fail("the worker answers what nobody said");
	if (pkt->tcp.flags & BW_TCP_SYN) {
		c->ack = pkt->tcp.seq;
		c->is_open = true;
	}
	if (pkt->tcp.seq != c->ack)
		fail("a segment is not the next");
	c->ack += pkt->payload_len + !!(pkt->tcp.flags & (BW_TCP_SYN | BW_TCP_FIN));
	c->has_fin |= pkt->tcp.flags & BW_TCP_FIN;
	c->ts_recent = pkt->tcp.ts_value;
	c->received += pkt->payload_len;
	c->segments_unacked += pkt->payload_len > 0;
	if (pkt->payload_len > 0 &&
		rte_pktmbuf_read(pkt->m, pkt->payload_off, BW_MIN(pkt->payload_len, sizeof(first_bytes)),
			first_bytes) != first_bytes)
		memcpy(first_bytes, rte_pktmbuf_mtod_offset(pkt->m, void *, pkt->payload_off),
			BW_MIN(pkt->payload_len, sizeof(first_bytes)));
}

static void answer_arp(const struct bw_pkt *pkt)
{
	struct bw_arp_fields arp;
	struct rte_mbuf *m;

	if (bw_arp_parse(pkt, &arp) != 0 || arp.opcode != RTE_ARP_OP_REQUEST ||
		!bw_ip_eq(&arp.target, &client_ip))
		return;
	m = fresh();
	bw_arp_write(m, RTE_ARP_OP_REPLY, &client_mac, &client_ip, &server_mac, &arp.sender);
	bw_eth_prepend(m, &client_mac, &server_mac, RTE_ETHER_TYPE_ARP, 0);
	send_frame(m);
}

/** A turn, and what came of it. */
static void step(void)
{
	const struct bw_cidr addr = { client_ip, 24 };
	const struct bw_wire_host host = { .mac = client_mac, .addr_count = 1, .addrs = &addr };
	void *m;

	now += BURST_NS;
	script_turn(worker, is_counting);
	while (rte_ring_sc_dequeue(from_worker, &m) == 0) {
		struct rte_mbuf *frame = m;
		struct bw_pkt pkt;

		frame->ol_flags &= RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL;
		/* The queue's own payload lies in it, so nothing of it may be changed: as by a device that sends it. */
		bw_pkt_parse(frame, &host, &pkt);
		if (pkt.kind == BW_PKT_TCP)
			hear(&pkt);
		else if (pkt.kind == BW_PKT_ARP)
			answer_arp(&pkt);
		else
			fail("the worker sends what cannot be parsed");
		rte_pktmbuf_free(frame);
	}
}

/** The first time, the worker asks for our address, and of many packets that wait for it only some are kept. */
static void open_some(uint16_t server_port, unsigned count)
{
	struct client *last = &clients[count - 1];

	for (unsigned i = 0; i < count; i++) {
		clients[i] =
			(struct client){ .port = next_port++, .server_port = server_port, .seq = 1000 * i };
		say(&clients[i], BW_TCP_SYN, "", 0);
	}
	for (unsigned i = 0; i < 4 && !last->is_open; i++)
		step();
	if (!last->is_open)
		fail("no SYN-ACK");
}

static void all_open(uint16_t server_port)
{
	open_some(server_port, CONNECTIONS);
}

static void reset_some(unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		say(&clients[i], BW_TCP_RST | BW_TCP_ACK, "", 0);
	step();
}

static void all_reset(void)
{
	reset_some(CONNECTIONS);
}

/* ---- scenarios -------------------------------------------------------------------------------------------- */

static unsigned http_get(char *out, unsigned unused)
{
	(void)unused;
	return (unsigned)sprintf(out, "GET / HTTP/1.1\r\nHost: 10.1.0.2\r\n\r\n");
}

static unsigned http_get_last(char *out, unsigned unused)
{
	(void)unused;
	return (unsigned)sprintf(out, "GET / HTTP/1.1\r\nHost: 10.1.0.2\r\nConnection: close\r\n\r\n");
}

static unsigned http_bulk(char *out, unsigned unused)
{
	(void)unused;
	return (unsigned)sprintf(out, "GET /bulk HTTP/1.1\r\nHost: 10.1.0.2\r\n\r\n");
}

static unsigned resp_set(char *out, unsigned number)
{
	return (unsigned)sprintf(out, "*3\r\n$3\r\nSET\r\n$12\r\nkey:%08u\r\n$%u\r\n%0*u\r\n",
		number * 7 % KEYS, VALUE_BYTES, VALUE_BYTES, number);
}

static unsigned resp_get(char *out, unsigned number)
{
	return (unsigned)sprintf(out, "*2\r\n$3\r\nGET\r\n$12\r\nkey:%08u\r\n", number * 11 % KEYS);
}

static unsigned echo_message(char *out, unsigned number)
{
	return (unsigned)sprintf(out, "%0*u", ECHO_BYTES, number);
}

const struct scenario script[] = {
	/* SET first: GET's keys are there then. */
	{ "resp_set", "RESP SET of 32 bytes", RESP_PORT, resp_set, "+OK\r\n", 1, 64, false, false },
	{ "resp_set_16", "RESP SET, 16 deep", RESP_PORT, resp_set, "+OK\r\n", DEPTH, 16, false, false },
	{ "resp_get", "RESP GET of 32 bytes", RESP_PORT, resp_get, "$32\r\n0", 1, 64, false, false },
	{ "resp_get_16", "RESP GET, 16 deep", RESP_PORT, resp_get, "$32\r\n0", DEPTH, 16, false, false },
	{ "http_get", "HTTP GET of 100 bytes, keep-alive", HTTP_PORT, http_get, "HTTP/1.1 200 ", 1, 64, false,
		false },
	{ "http_get_16", "HTTP GET, 16 deep", HTTP_PORT, http_get, NULL, DEPTH, 16, false, false },
	{ "http_connect", "HTTP, a connection a request", HTTP_PORT, http_get_last, "HTTP/1.1 200 ", 1, 32,
		false, true },
	{ "http_bulk", "HTTP GET of 1 MB", HTTP_PORT, http_bulk, NULL, 1, 1, true, false },
	{ "echo", "echo of 64 bytes", ECHO_PORT, echo_message, "0000", 1, 64, false, false },
};
const unsigned script_count = BW_ARRAY_LEN(script);

static void check_answer(const struct scenario *s)
{
	if (s->answer != NULL && strncmp(first_bytes, s->answer, strlen(s->answer)) != 0)
		fail("the answer is another");
}

/** A request, or as many as go together, of each connection. */
static void ask(const struct scenario *s, unsigned *number)
{
	for (unsigned i = 0; i < CONNECTIONS; i++) {
		char text[4096];
		unsigned bytes = 0;

		for (unsigned k = 0; k < s->depth; k++)
			bytes += s->write(text + bytes, (*number)++);
		if (bytes > BODY_MAX)
			fail("a request is too long for a segment");
		say(&clients[i], BW_TCP_ACK | BW_TCP_PSH, text, bytes);
	}
}

static void answered_by_all(uint64_t before[CONNECTIONS])
{
	for (unsigned i = 0; i < CONNECTIONS; i++) {
		if (clients[i].received == before[i])
			fail("a request has no answer");
		before[i] = clients[i].received;
	}
}

/** Kept connections: a burst of requests a turn. One more before, that nobody counts: the ACK of the handshake. */
static unsigned run_kept(const struct scenario *s)
{
	uint64_t before[CONNECTIONS] = { 0 };
	unsigned number = 0;

	all_open(s->port);
	for (unsigned round = 0; round < s->rounds + 1; round++) {
		is_counting = round > 0;
		ask(s, &number);
		step();
		check_answer(s);
		answered_by_all(before);
	}
	is_counting = false;
	all_reset();
	return s->rounds * CONNECTIONS * s->depth;
}

/** From SYN to TIME_WAIT. */
static unsigned run_one_request(const struct scenario *s)
{
	for (unsigned round = 0; round < s->rounds + 1; round++) {
		uint64_t before[CONNECTIONS] = { 0 };
		unsigned number = 0;

		is_counting = round > 0;
		all_open(s->port);
		ask(s, &number);
		step();
		answered_by_all(before);
		check_answer(s);
		for (unsigned i = 0; i < CONNECTIONS; i++) {
			if (!clients[i].has_fin)
				fail("no FIN");
			say(&clients[i], BW_TCP_ACK | BW_TCP_FIN, "", 0);
		}
		step();
	}
	is_counting = false;
	return s->rounds * CONNECTIONS;
}

/** One connection; every second segment is acknowledged, and what is over at a turn's end. */
static unsigned run_bulk(const struct scenario *s)
{
	struct client *c = &clients[0];
	char text[256];

	all_open(s->port);
	is_counting = true;
	say(c, BW_TCP_ACK | BW_TCP_PSH, text, s->write(text, 0));
	for (unsigned i = 0; c->received < BULK_BYTES; i++) {
		if (i == STEPS_MAX)
			fail("the bulk does not come through");
		step();
		if (c->segments_unacked > 0)
			say(c, BW_TCP_ACK, "", 0);
	}
	is_counting = false;
	all_reset();
	return 1;
}

/** A worker that knows the client's address. */
void script_start(bool counts_cycles)
{
	start(counts_cycles);
	open_some(ECHO_PORT, 1);
	reset_some(1);
}

unsigned script_run(const struct scenario *s)
{
	if (s->is_bulk)
		return run_bulk(s);
	return s->is_one_request ? run_one_request(s) : run_kept(s);
}

/* ---- the process ------------------------------------------------------------------------------------------ */

int script_open(void)
{
	static char no_huge[] =
		"--no-huge"; /* valgrind has no room for them, and a count must not depend on it */
	static char *const extra[] = { no_huge };
	struct bw_eal_conf eal = {
		.plans = &plan, .plan_count = 1, .extra = extra, .extra_count = BW_ARRAY_LEN(extra)
	};
	struct bw_nic_conf conf = {
		.plan = &plan, .worker_count = 1, .mtu = 1500, .mbufs_per_worker = MBUFS, .mac = &server_mac
	};

	memset(page, 'p', sizeof(page));
	memset(bulk, 'b', sizeof(bulk));
	bw_ip_parse("10.1.0.1", &client_ip);
	bw_ip_parse("10.1.0.2", &server_ip);
	if (bw_nic_plan("ring", 1, &plan) != 0)
		return -1;
	eal.memory_mib = bw_nic_memory_mib(&plan, 1, MBUFS, 1500);
	if (bw_eal_start(&eal) != 0 || bw_nic_open(&nic, &conf) != 0)
		return -1;
	to_worker = bw_nic_ring_rx(&nic, 0);
	from_worker = bw_nic_ring_tx(&nic, 0);
	return 0;
}

void script_close(void)
{
	bw_nic_stop_queues(&nic);
	bw_nic_close(&nic);
	bw_eal_stop();
}
