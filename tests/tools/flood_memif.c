/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * A SYN flood and a legitimate HTTP load in one process, at the other end of Barewire's memif:
 *
 *     flood_memif SOCKET SERVER GATEWAY PATH SECONDS CONNECTIONS_PER_S FLOOD_PPS CPU
 *
 * The load opens a connection for each GET of PATH from port 8080 of SERVER, at a fixed rate as long as the ring takes
 * it, from a few addresses behind GATEWAY. The flood's sources are random in 10.0.0.0/8, which Barewire must reach
 * by GATEWAY, too; both are this process. Three phases: the load alone, the load beside the flood, and the flood
 * alone as fast as the ring takes it; without a load, "flooding" is said and the flood alone follows. Prints a JSON
 * object for each. What the ring does not take is kept if it is the load's, and dropped if it is the flood's. Behind
 * SOCKET may follow ",role=server", and then Barewire is the client.
 *
 * The client keeps to the order of a kernel's: SYN, ACK, request, and FIN after the server's. It repeats what had no
 * answer for a second; a memif loses nothing, so what it repeats has been lost by the server.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <netinet/tcp.h>
#include <rte_arp.h>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_tcp.h>

#include <base/hist.h>
#include <base/mbuf.h>
#include <wire/build.h>

#define BURST       64
#define CLIENTS     8    /* addresses */
#define PORT_FIRST  1024 /* of a client, and how many */
#define PORTS       64000u
#define SLOTS       65536u /* connections under way, at most */
#define REPEAT_US   1000000
#define HTTP_PORT   8080
#define BACKLOG_MAX 4096

enum state {
	DONE,
	SYN_SENT,
	REQUESTED,
	LAST_ACK,
};

struct slot {
	uint32_t id;
	uint8_t state;
	bw_seq iss, rcv_nxt;
	uint32_t ts_recent;
	uint64_t began_us, sent_us;
};

struct phase {
	const char *name;
	uint64_t load_per_s, flood_pps;
	uint64_t started, done, failed, repeats, flooded, answers;
	struct bw_hist us;
};

static struct rte_mempool *pool;
static struct bw_mac own_mac = { { 2, 0, 0, 0, 0, 9 } }, server_mac;
static struct bw_ip server, gateway;
static struct bw_cidr clients[CLIENTS];
static struct bw_wire_host host = { .addr_count = CLIENTS, .addrs = clients };
static struct slot slots[SLOTS];
static uint32_t oldest_id, next_id;
static struct rte_mbuf *backlog[BACKLOG_MAX];
static unsigned backlog_count;
static struct phase *phase;
static char request[256];
static bool has_server_mac;

static uint64_t now_us(void)
{
	return rte_rdtsc() / (rte_get_tsc_hz() / 1000000);
}

static uint32_t rng(void) /* xorshift64*, Vigna 2016 */
{
	static uint64_t state = 88172645463325252u;

	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (uint32_t)(state * 0x2545f4914f6cdd1du >> 32);
}

static void die(const char *what)
{
	fprintf(stderr, "flood_memif: %s\n", what);
	exit(2);
}

/* ---- packets --------------------------------------------------------------------------------------------- */

static struct rte_mbuf *packet_of(
	const struct bw_flow *flow, const struct bw_tcp_fields *fields, const char *data, unsigned len)
{
	struct bw_ip_out ip = { .src = &flow->local, .dst = &flow->remote, .proto = IPPROTO_TCP, .ttl = 64 };
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
	unsigned header_len = bw_tcp_header_len(fields);
	struct rte_tcp_hdr *tcp;

	if (m == NULL)
		die("no mbuf");
	tcp = (void *)rte_pktmbuf_append(m, (uint16_t)(header_len + len));
	bw_tcp_header_write((uint8_t *)tcp, flow->local_port_be, flow->remote_port_be, fields);
	if (len != 0)
		memcpy((char *)tcp + header_len, data, len);
	tcp->cksum = (uint16_t)~bw_sum_fold(bw_sum(tcp, header_len + len,
		bw_sum_pseudo(&flow->local, &flow->remote, IPPROTO_TCP, header_len + len)));
	bw_ip_prepend(m, &ip);
	bw_eth_prepend(m, &own_mac, &server_mac, RTE_ETHER_TYPE_IPV4, 0);
	return m;
}

static void keep(struct rte_mbuf *m)
{
	if (backlog_count == BACKLOG_MAX)
		die("the server takes nothing");
	backlog[backlog_count++] = m;
}

static struct bw_flow flow_of(uint32_t id)
{
	struct bw_flow flow = { .local = clients[id / PORTS % CLIENTS].ip, .remote = server };

	flow.local_port_be = rte_cpu_to_be_16((uint16_t)(PORT_FIRST + id % PORTS));
	flow.remote_port_be = rte_cpu_to_be_16(HTTP_PORT);
	return flow;
}

static void syn_options(struct bw_tcp_fields *fields)
{
	fields->has_mss = fields->has_wscale = fields->has_sack_permitted = true;
	fields->mss = 1460;
	fields->wscale = 7;
}

static struct rte_mbuf *flood_syn(void)
{
	struct bw_flow flow = { .local = bw_ip_from_v4(rte_cpu_to_be_32(10u << 24 | rng() >> 8)),
		.remote = server };
	struct bw_tcp_fields fields = {
		.flags = BW_TCP_SYN, .seq = rng(), .window = 64240, .has_timestamp = true, .ts_value = rng()
	};

	flow.local_port_be = (uint16_t)(rng() | 1);
	flow.remote_port_be = rte_cpu_to_be_16(HTTP_PORT);
	syn_options(&fields);
	return packet_of(&flow, &fields, NULL, 0);
}

/* ---- the load -------------------------------------------------------------------------------------------- */

/** What the connection's state asks for, again or for the first time. */
static void say(struct slot *slot)
{
	struct bw_flow flow = flow_of(slot->id);
	struct bw_tcp_fields fields = {
		.window = 64240,
		.has_timestamp = true,
		.ts_value = (uint32_t)(now_us() / 1000),
		.ts_echo = slot->ts_recent,
		.ack = slot->rcv_nxt,
		.seq = slot->iss + 1,
		.flags = BW_TCP_ACK,
	};
	unsigned len = (unsigned)strlen(request);

	slot->sent_us = now_us();
	switch ((enum state)slot->state) {
	case SYN_SENT:
		fields.flags = BW_TCP_SYN;
		fields.seq = slot->iss;
		fields.ack = fields.ts_echo = 0;
		syn_options(&fields);
		keep(packet_of(&flow, &fields, NULL, 0));
		break;
	case REQUESTED:
		keep(packet_of(&flow, &fields, NULL, 0));
		fields.flags |= BW_TCP_PSH;
		keep(packet_of(&flow, &fields, request, len));
		break;
	case LAST_ACK:
		fields.flags |= BW_TCP_FIN;
		fields.seq += len;
		keep(packet_of(&flow, &fields, NULL, 0));
		break;
	case DONE:
		break;
	}
}

static void start_one(void)
{
	struct slot *slot = &slots[next_id % SLOTS];

	phase->started++;
	if (slot->state != DONE) { /* a whole ring behind */
		phase->failed++;
		slot->state = DONE;
	}
	*slot = (struct slot){ .id = next_id++, .state = SYN_SENT, .iss = rng(), .began_us = now_us() };
	say(slot);
}

/** The newest connection of that address and port; NULL when it is not under way. */
static struct slot *slot_of(const struct bw_flow *flow)
{
	uint32_t client = flow->local.b[15] - 1u,
		 port = rte_be_to_cpu_16(flow->local_port_be) - (uint32_t)PORT_FIRST;
	uint32_t back;

	if (client >= CLIENTS || port >= PORTS || next_id == oldest_id)
		return NULL;
	back = (next_id - 1 + CLIENTS * PORTS - (client * PORTS + port)) % (CLIENTS * PORTS);
	return back < next_id - oldest_id ? &slots[(next_id - 1 - back) % SLOTS] : NULL;
}

static void load_input(const struct bw_pkt *pkt)
{
	const struct bw_tcp_fields *f = &pkt->tcp;
	struct slot *slot = slot_of(&pkt->flow);

	if (slot == NULL || slot->state == DONE)
		return;
	if (f->flags & BW_TCP_RST) {
		slot->state = DONE;
		phase->failed++;
		return;
	}
	if (slot->state == SYN_SENT) {
		if ((f->flags & (BW_TCP_SYN | BW_TCP_ACK)) != (BW_TCP_SYN | BW_TCP_ACK) ||
			f->ack != slot->iss + 1)
			return;
		slot->rcv_nxt = f->seq + 1;
		slot->ts_recent = f->ts_value;
		slot->state = REQUESTED;
		say(slot);
		return;
	}
	if (slot->state == LAST_ACK) {
		if (f->ack == slot->iss + 1 + (uint32_t)strlen(request) + 1)
			slot->state = DONE;
		return;
	}
	if (f->seq != slot->rcv_nxt)
		return;
	if (pkt->payload_len >= 15 &&
		memcmp(rte_pktmbuf_mtod_offset(pkt->m, char *, pkt->payload_off), "HTTP/1.1 200 OK", 15) != 0)
		die("not the answer that was hoped for");
	slot->ts_recent = f->ts_value;
	slot->rcv_nxt += pkt->payload_len;
	if (f->flags & BW_TCP_FIN) {
		slot->rcv_nxt++;
		phase->done++;
		bw_hist_add(&phase->us, now_us() - slot->began_us);
		slot->state = LAST_ACK;
		say(slot);
	}
}

static void repeat_what_waits(void)
{
	uint64_t now = now_us();

	while (oldest_id != next_id && slots[oldest_id % SLOTS].state == DONE)
		oldest_id++;
	for (uint32_t id = oldest_id; id != next_id; id++) {
		struct slot *slot = &slots[id % SLOTS];

		if (slot->state == DONE || now - slot->sent_us < REPEAT_US)
			continue;
		phase->repeats++;
		say(slot);
	}
}

/* ---- a turn ---------------------------------------------------------------------------------------------- */

static void arp_input(const struct bw_pkt *pkt)
{
	struct bw_arp_fields arp;
	struct rte_mbuf *m;

	if (bw_arp_parse(pkt, &arp) != 0 || !bw_ip_eq(&arp.sender, &server))
		return;
	server_mac = arp.sender_mac;
	has_server_mac = true;
	if (arp.opcode != RTE_ARP_OP_REQUEST || !bw_ip_eq(&arp.target, &gateway))
		return;
	m = rte_pktmbuf_alloc(pool);
	if (m == NULL)
		die("no mbuf");
	bw_arp_write(m, RTE_ARP_OP_REPLY, &own_mac, &gateway, &arp.sender_mac, &arp.sender);
	bw_eth_prepend(m, &own_mac, &arp.sender_mac, RTE_ETHER_TYPE_ARP, 0);
	keep(m);
}

static void ask_for_server(void)
{
	static const struct bw_mac everybody = { { 255, 255, 255, 255, 255, 255 } }, nobody;
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool);

	if (m == NULL)
		die("no mbuf");
	bw_arp_write(m, RTE_ARP_OP_REQUEST, &own_mac, &gateway, &nobody, &server);
	bw_eth_prepend(m, &own_mac, &everybody, RTE_ETHER_TYPE_ARP, 0);
	keep(m);
}

static unsigned receive(void)
{
	struct rte_mbuf *mbufs[BURST];
	unsigned count = rte_eth_rx_burst(0, 0, mbufs, BURST);
	struct bw_pkt pkt;

	for (unsigned i = 0; i < count; i++) {
		const uint8_t *frame = rte_pktmbuf_mtod(mbufs[i], const uint8_t *);

		if (frame[12] == 8 && frame[13] == 0 && frame[30] == 10) {
			phase->answers++; /* to the flood */
		} else {
			bw_pkt_parse(mbufs[i], &host, &pkt);
			if (pkt.kind == BW_PKT_TCP)
				load_input(&pkt);
			else if (pkt.kind == BW_PKT_ARP)
				arp_input(&pkt);
		}
		rte_pktmbuf_free(mbufs[i]);
	}
	return count;
}

static void transmit(unsigned flood_count)
{
	struct rte_mbuf *flood[BURST];
	unsigned sent = 0;

	while (sent < backlog_count) {
		uint16_t n =
			rte_eth_tx_burst(0, 0, backlog + sent, (uint16_t)BW_MIN(backlog_count - sent, 64u));

		if (n == 0)
			break;
		sent += n;
	}
	backlog_count -= sent;
	memmove(backlog, backlog + sent, backlog_count * sizeof(backlog[0]));
	if (backlog_count != 0 || flood_count == 0)
		return;
	for (unsigned i = 0; i < flood_count; i++)
		flood[i] = flood_syn();
	sent = rte_eth_tx_burst(0, 0, flood, (uint16_t)flood_count);
	phase->flooded += sent;
	for (unsigned i = sent; i < flood_count; i++)
		rte_pktmbuf_free(flood[i]);
}

/** How many are due by now, at a rate. */
static uint64_t due(uint64_t per_s, uint64_t since_us, uint64_t had)
{
	uint64_t should = per_s * since_us / 1000000;

	return should > had ? should - had : 0;
}

static void run(struct phase *this, double seconds)
{
	uint64_t began = now_us(), length = (uint64_t)(seconds * 1e6), looked = began, since;
	bool is_over = false;

	phase = this;
	bw_hist_init(&this->us);
	do {
		uint64_t now = now_us(), flood;

		since = now - began;
		/* More than is sent in a turn, so that this end is not the one that makes the server wait. */
		for (unsigned bursts = 0; bursts < 4 && backlog_count < BACKLOG_MAX / 2; bursts++)
			if (receive() < BURST)
				break;
		/* A server that takes nothing for a while is waited for. */
		if (since < length && backlog_count < BACKLOG_MAX / 4) {
			for (uint64_t n = BW_MIN(due(this->load_per_s, since, this->started), 16ull); n > 0;
				n--)
				start_one();
		}
		/* The flood goes on until the last connection has ended. */
		flood = BW_MIN(due(this->flood_pps, since, this->flooded), (uint64_t)BURST);
		transmit((unsigned)flood);
		if (now - looked >= 10000) {
			looked = now;
			repeat_what_waits();
		}
		is_over = since >= length && oldest_id == next_id && backlog_count == 0;
	} while (!is_over && since < length + 20000000);
	this->failed += next_id - oldest_id;
	while (oldest_id != next_id)
		slots[oldest_id++ % SLOTS].state = DONE;
	printf("{\"phase\": \"%s\", \"started\": %lu, \"done\": %lu, \"failed\": %lu, \"repeats\": %lu, "
	       "\"p50_us\": %lu, \"p99_us\": %lu, \"flood_mpps\": %.3f, \"answers_mpps\": %.3f}\n",
		this->name, this->started, this->done, this->failed, this->repeats,
		bw_hist_percentile(&this->us, 50), bw_hist_percentile(&this->us, 99),
		(double)this->flooded / (double)since, (double)this->answers / (double)since);
	fflush(stdout);
}

static void open_memif(const char *socket_path, const char *cpu)
{
	char vdev[256], lcores[16];
	char *args[] = { "flood_memif", "--no-huge", "--no-pci", "--no-shconf", "--no-telemetry", "-m", "128",
		"--log-level=*:error", lcores, vdev, NULL };
	struct rte_eth_conf conf = { 0 };
	struct rte_eth_link link = { 0 };
	uint64_t until;

	snprintf(vdev, sizeof(vdev), "--vdev=net_memif0,socket-abstract=no,socket=%s", socket_path);
	snprintf(lcores, sizeof(lcores), "--lcores=0@%s", cpu);
	if (rte_eal_init(BW_ARRAY_LEN(args) - 1, args) < 0)
		die("EAL");
	pool = rte_pktmbuf_pool_create(
		"mbufs", 16383, 250, BW_MBUF_PRIV_BYTES, RTE_MBUF_DEFAULT_BUF_SIZE, (int)SOCKET_ID_ANY);
	if (pool == NULL || rte_eth_dev_configure(0, 1, 1, &conf) != 0 ||
		rte_eth_rx_queue_setup(0, 0, 1024, SOCKET_ID_ANY, NULL, pool) != 0 ||
		rte_eth_tx_queue_setup(0, 0, 1024, SOCKET_ID_ANY, NULL) != 0 || rte_eth_dev_start(0) != 0)
		die("memif");
	until = now_us() + 10000000;
	while (link.link_status != RTE_ETH_LINK_UP && now_us() < until)
		rte_eth_link_get_nowait(0, &link);
	if (link.link_status != RTE_ETH_LINK_UP)
		die("nobody at the other end");
}

int main(int argc, char **argv)
{
	static struct phase greeting = { .name = "greeting" }, alone = { .name = "load" },
			    both = { .name = "load and flood" }, flood = { .name = "flood" };
	double seconds;

	if (argc != 9 || bw_ip_parse(argv[2], &server) != 0 || bw_ip_parse(argv[3], &gateway) != 0)
		die("see the head of the source");
	snprintf(
		request, sizeof(request), "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", argv[4]);
	seconds = atof(argv[5]);
	alone.load_per_s = both.load_per_s = strtoull(argv[6], NULL, 10);
	both.flood_pps = strtoull(argv[7], NULL, 10);
	flood.flood_pps = 100000000;
	bw_flow_hash_seed(1);
	for (unsigned i = 0; i < CLIENTS; i++)
		clients[i] =
			(struct bw_cidr){ bw_ip_from_v4(rte_cpu_to_be_32(198u << 24 | 19u << 16 | (i + 1))),
				32 };
	host.mac = own_mac;
	open_memif(argv[1], argv[8]);
	for (unsigned i = 0; i < 20 && !has_server_mac; i++) {
		uint64_t until = now_us() + 100000;

		phase = &greeting;
		ask_for_server();
		while (now_us() < until && !has_server_mac) {
			transmit(0);
			receive();
		}
	}
	if (!has_server_mac)
		die("the server does not answer ARP");
	greeting.load_per_s = alone.load_per_s;
	if (alone.load_per_s != 0) {
		run(&greeting, 0.5);
		run(&alone, seconds);
		run(&both, seconds);
	} else {
		puts("flooding");
		fflush(stdout);
	}
	run(&flood, seconds);
	rte_eth_dev_stop(0);
	return 0;
}
