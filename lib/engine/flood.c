/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Theory of operation. A frame is built once, with zeros where packets differ. Each packet is a copy of it with these
 * places filled in; its checksums are the frame's sums with as much added. So nothing is summed over but the frame,
 * once, and nothing is kept of a packet.
 *
 * Packet k of the flood is due k intervals after its begin, by the TSC, and workers take them in turn: so they need no
 * common counter, share the rate exactly, and their packets lie between each other's. A turn sends what has become due,
 * as one burst. What the device does not take stays first in line; what is due for longer than a crowd on the machine
 * lasts is given up, lest a flood that cannot keep its rate makes up for it in one rush.
 */
#include <errno.h>
#include <stdlib.h>

#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include <base/clock.h>
#include <base/log.h>
#include <base/random.h>

#include "worker.h"

#define PATIENCE_NS (100 * BW_NS_PER_MS)
#define PORT_FIRST  1024u /* lower ones are a server's, which echo services do not answer */
#define PORT_COUNT  (65536u - PORT_FIRST)

const char *const bw_flood_answer_name[BW_FLOOD_ANSWERS] = {
	[BW_FLOOD_SYN_ACK] = "syn_ack",
	[BW_FLOOD_RST] = "rst",
	[BW_FLOOD_UNREACHABLE] = "unreachable",
	[BW_FLOOD_DATAGRAM] = "datagram",
	[BW_FLOOD_OTHER] = "other",
};

/** One worker's. */
struct bw_flood {
	const struct bw_flood_conf *conf;
	struct bw_ip next_hop;
	uint32_t path; /* of the neighbour: see neigh.h */

	/* the frame: what all packets have in common */
	uint8_t *frame;
	uint16_t frame_len;
	uint16_t source_at, ip_sum_at, port_at, seq_at,
		l4_sum_at;       /* places in it; ip_sum_at 0: there is none */
	uint64_t ip_sum, l4_sum; /* of the frame, not folded */
	uint32_t source_low;     /* of the first source */
	uint64_t source_count;
	uint32_t ack_mask; /* 0: no acknowledgment number */

	uint64_t random;
	uint64_t done; /* packets of our share that are sent or given up */
	unsigned built_count;
	struct rte_mbuf *built[BW_BURST_MAX]; /* that the device has not taken yet */
	struct bw_flood_figures figures;
};

/* ---- the frame ------------------------------------------------------------------------------------------- */

static void tcp_append(struct bw_flood *f, struct rte_mbuf *m)
{
	bool is_syn = f->conf->kind == BW_FLOOD_SYN;
	struct bw_tcp_fields fields = {
		.flags = is_syn ? BW_TCP_SYN : BW_TCP_ACK,
		.window = 64240,
		.has_timestamp = true,
		.ts_value = (uint32_t)bw_random(&f->random),
		.has_mss = is_syn,
		.mss = bw_ip_is_v4(&f->conf->target) ? 1460 : 1440,
		.has_sack_permitted = is_syn,
		.has_wscale = is_syn,
		.wscale = 7,
	};

	fields.ts_echo = is_syn ? 0 : (uint32_t)bw_random(&f->random);
	f->ack_mask = is_syn ? 0 : UINT32_MAX;
	bw_tcp_header_write((uint8_t *)rte_pktmbuf_append(m, (uint16_t)bw_tcp_header_len(&fields)), 0,
		rte_cpu_to_be_16(f->conf->port), &fields);
}

static void udp_append(const struct bw_flood *f, struct rte_mbuf *m)
{
	uint16_t bytes = (uint16_t)(sizeof(struct rte_udp_hdr) + f->conf->size);
	struct rte_udp_hdr *udp = (struct rte_udp_hdr *)rte_pktmbuf_append(m, bytes);

	memset(udp, 0, bytes);
	udp->dst_port = rte_cpu_to_be_16(f->conf->port);
	udp->dgram_len = rte_cpu_to_be_16(bytes);
}

/** Where in the frame the fields are that differ, and the sums without them. */
static void frame_measure(struct bw_flood *f, const struct rte_mbuf *m, const struct bw_ip_out *ip)
{
	bool is_v4 = bw_ip_is_v4(ip->dst), is_udp = f->conf->kind == BW_FLOOD_UDP;
	uint16_t l3_at = (uint16_t)m->l2_len, l4_at = (uint16_t)(l3_at + m->l3_len);
	uint16_t l4_len = (uint16_t)(f->frame_len - l4_at);
	static const uint8_t none[2];

	f->source_at = (uint16_t)(l3_at + (is_v4 ? offsetof(struct rte_ipv4_hdr, src_addr)
						 : offsetof(struct rte_ipv6_hdr, src_addr) + 12));
	f->ip_sum_at = (uint16_t)(is_v4 ? l3_at + offsetof(struct rte_ipv4_hdr, hdr_checksum) : 0);
	f->port_at = l4_at; /* the source's comes first, in UDP as in TCP */
	f->seq_at = (uint16_t)(l4_at + offsetof(struct rte_tcp_hdr, sent_seq));
	f->l4_sum_at = (uint16_t)(l4_at + (is_udp ? offsetof(struct rte_udp_hdr, dgram_cksum)
						  : offsetof(struct rte_tcp_hdr, cksum)));
	f->l4_sum = bw_sum(f->frame + l4_at, l4_len, bw_sum_pseudo(ip->src, ip->dst, ip->proto, l4_len));
	if (is_v4) {
		memcpy(f->frame + f->ip_sum_at, none, sizeof(none));
		f->ip_sum = bw_sum_ip4_header(f->frame + l3_at);
	}
}

static void sources_init(struct bw_flood *f, const struct bw_ip *own, struct bw_ip *src)
{
	*src = f->conf->from_count > 0 ? f->conf->from : *own;
	f->source_count = f->conf->from_count > 0 ? f->conf->from_count : 1;
	f->source_low = rte_be_to_cpu_32(src->w_be[3]);
	src->w_be[3] = 0;
}

static int frame_make(struct bw_worker *w, struct bw_flood *f, const struct bw_ip *own)
{
	static const struct bw_mac unknown;
	const struct bw_wire_host *host = &w->ifaces[0].host;
	bool is_v4 = bw_ip_is_v4(&f->conf->target), is_udp = f->conf->kind == BW_FLOOD_UDP;
	struct bw_ip src;
	struct bw_ip_out ip = {
		.src = &src,
		.dst = &f->conf->target,
		.proto = is_udp ? IPPROTO_UDP : IPPROTO_TCP,
		.ttl = w->ttl,
	};
	struct rte_mbuf *m = bw_egress_alloc(w);

	if (m == NULL)
		return -ENOBUFS;
	sources_init(f, own, &src);
	if (is_udp)
		udp_append(f, m);
	else
		tcp_append(f, m);
	bw_ip_prepend(m, &ip);
	bw_eth_prepend(
		m, &host->mac, &unknown, is_v4 ? RTE_ETHER_TYPE_IPV4 : RTE_ETHER_TYPE_IPV6, host->vlan);
	f->frame_len = m->data_len;
	f->frame = malloc(f->frame_len);
	if (f->frame != NULL) {
		memcpy(f->frame, rte_pktmbuf_mtod(m, const void *), f->frame_len);
		frame_measure(f, m, &ip);
	}
	rte_pktmbuf_free(m);
	return f->frame != NULL ? 0 : -ENOMEM;
}

/* ---- start and end --------------------------------------------------------------------------------------- */

/** UDP: what fits a packet of the link, and one buffer with all its headers. */
static uint32_t size_max(const struct bw_worker *w, const struct bw_ip *target)
{
	uint32_t ip_len = bw_ip_is_v4(target) ? sizeof(struct rte_ipv4_hdr) : sizeof(struct rte_ipv6_hdr);
	uint32_t room = rte_pktmbuf_data_room_size(w->pool) - RTE_PKTMBUF_HEADROOM - RTE_ETHER_HDR_LEN -
			RTE_VLAN_HLEN;

	return BW_MIN(bw_egress_datagram_mtu(&w->ifaces[0], target), room) - ip_len -
	       (uint32_t)sizeof(struct rte_udp_hdr);
}

/** 0, or -errno after one line, which the first of the workers says for all. */
static int conf_check(const struct bw_worker *w, const struct bw_flood_conf *conf, const struct bw_ip *own)
{
	bool is_first = w->index == 0;
	char text[BW_IP_STRLEN];

	if (own == NULL || bw_route(w->ifaces[0].network, &conf->target) == NULL) {
		if (is_first)
			bw_error("--flood: no way to %s; give an --addr of its network, or a route",
				bw_ip_format(&conf->target, text));
		return -ENETUNREACH;
	}
	if (conf->kind == BW_FLOOD_UDP && conf->size > size_max(w, &conf->target)) {
		if (is_first)
			bw_error("--flood: --size is at most %u bytes of a datagram with an MTU of %u",
				size_max(w, &conf->target), w->ifaces[0].nic->mtu);
		return -EMSGSIZE;
	}
	return 0;
}

int bw_flood_start(struct bw_worker *w)
{
	const struct bw_flood_conf *conf = w->engine->conf.flood;
	const struct bw_ip *own = bw_route_source(w->ifaces[0].network, &conf->target);
	int error = conf_check(w, conf, own);
	struct bw_flood *f;

	if (error != 0)
		return error;
	f = calloc(1, sizeof(*f));
	if (f == NULL)
		return -ENOMEM;
	f->conf = conf;
	f->next_hop = *bw_route(w->ifaces[0].network, &conf->target);
	f->random = conf->seed + ((uint64_t)w->index << 32);
	error = frame_make(w, f, own);
	if (error != 0) {
		free(f);
		bw_error("--flood: worker %u has no memory for its packets; free some", w->index);
		return error;
	}
	w->flood = f;
	return 0;
}

void bw_flood_stop(struct bw_worker *w)
{
	struct bw_flood *f = w->flood;

	if (f == NULL)
		return;
	rte_pktmbuf_free_bulk(f->built, f->built_count);
	free(f->frame);
	free(f);
	w->flood = NULL;
}

/* ---- sending --------------------------------------------------------------------------------------------- */

/** A copy of the frame, with what is its own. */
static inline void packet_make(struct bw_flood *f, struct rte_mbuf *m)
{
	uint64_t a = bw_random(&f->random), b = bw_random(&f->random);
	uint32_t source = rte_cpu_to_be_32(f->source_low + (uint32_t)((uint32_t)a * f->source_count >> 32));
	uint16_t port = rte_cpu_to_be_16((uint16_t)(PORT_FIRST + ((a >> 32 & 0xffff) * PORT_COUNT >> 16)));
	uint32_t numbers[2] = { (uint32_t)b, (uint32_t)(b >> 32) & f->ack_mask };
	uint64_t l4_sum = f->l4_sum + source + port;
	uint8_t *at = (uint8_t *)rte_pktmbuf_append(m, f->frame_len);
	uint16_t sum;

	memcpy(at, f->frame, f->frame_len);
	memcpy(at + f->source_at, &source, sizeof(source));
	memcpy(at + f->port_at, &port, sizeof(port));
	if (f->conf->kind != BW_FLOOD_UDP) {
		memcpy(at + f->seq_at, numbers, sizeof(numbers));
		l4_sum += (uint64_t)numbers[0] + numbers[1];
	}
	sum = (uint16_t)~bw_sum_fold(l4_sum);
	if (bw_unlikely(sum == 0) && f->conf->kind == BW_FLOOD_UDP)
		sum = 0xffff; /* RFC 768: zero means that there is none */
	memcpy(at + f->l4_sum_at, &sum, sizeof(sum));
	if (f->ip_sum_at != 0) {
		sum = (uint16_t)~bw_sum_fold(f->ip_sum + source);
		memcpy(at + f->ip_sum_at, &sum, sizeof(sum));
	}
}

/** So many packets of our share are due when the flood is that old. */
static uint64_t due_at(const struct bw_worker *w, const struct bw_flood_conf *conf, bw_ns age)
{
	uint64_t all =
		(uint64_t)((unsigned __int128)BW_MIN(age, conf->duration_ns) * conf->rate / BW_NS_PER_SEC);

	if (conf->count_max != 0)
		all = BW_MIN(all, conf->count_max);
	return (all + w->worker_count - 1 - w->index) / w->worker_count;
}

/** Make `count` packets ready to be offered, as far as there are buffers. */
static void build(struct bw_worker *w, struct bw_flood *f, unsigned count)
{
	struct rte_mbuf **fresh = &f->built[f->built_count];
	unsigned missing = count - f->built_count;

	if (count <= f->built_count)
		return;
	if (rte_pktmbuf_alloc_bulk(w->pool, fresh, missing) != 0) {
		bw_count_n(&w->counters, BW_DROP_NO_MBUF, missing);
		return;
	}
	for (unsigned i = 0; i < missing; i++)
		packet_make(f, fresh[i]);
	f->built_count = count;
}

static void send_due(struct bw_worker *w, struct bw_flood *f, uint64_t due)
{
	unsigned count = (unsigned)BW_MIN(due - f->done, (uint64_t)BW_BURST_MAX), sent;

	build(w, f, count);
	count = BW_MIN(count, f->built_count);
	sent = bw_egress_offer(&w->ifaces[0], f->built, count);
	f->built_count -= sent;
	memmove(f->built, f->built + sent, f->built_count * sizeof(f->built[0]));
	f->done += sent;
	f->figures.sent += sent;
	f->figures.bytes += (uint64_t)sent * f->frame_len;
}

static void give_up(struct bw_flood *f, uint64_t expired)
{
	if (f->done >= expired)
		return;
	if (f->built_count > 0)
		f->figures.unsent_device += expired - f->done;
	else
		f->figures.unsent_late += expired - f->done;
	f->done = expired;
}

/** Into the frame with the neighbour's address. False: it is not known, and has been asked for. */
static bool find_neighbour(struct bw_worker *w, struct bw_flood *f)
{
	const struct bw_neigh *n = bw_neigh_of_path(&w->neigh, f->path, w->now);
	const struct bw_mac *mac =
		n != NULL ? &n->mac : bw_neigh_resolve(&w->ifaces[0], &f->next_hop, NULL, &f->path);

	if (mac == NULL)
		return false;
	memcpy(f->frame, mac, sizeof(*mac));
	return true;
}

unsigned bw_flood_turn(struct bw_worker *w)
{
	struct bw_flood *f = w->flood;
	bw_ns began_at = atomic_load_explicit(&w->engine->flood_began_at, memory_order_acquire), age;
	bool has_ended = atomic_load_explicit(&w->engine->flood_ends, memory_order_relaxed), is_known;
	uint64_t due;

	if (f->figures.done_workers != 0)
		return 0;
	is_known = find_neighbour(w, f);
	f->figures.ready_workers = is_known;
	if (began_at == 0 || w->now <= began_at)
		return 0;
	age = w->now - began_at;
	due = due_at(w, f->conf, age);
	give_up(f, due_at(w, f->conf, age > PATIENCE_NS ? age - PATIENCE_NS : 0));
	if (is_known && due > f->done)
		send_due(w, f, due);
	if (has_ended || f->done == due_at(w, f->conf, BW_NEVER))
		f->figures.done_workers = 1;
	return 1;
}

/* ---- what comes back ------------------------------------------------------------------------------------- */

static enum bw_flood_answer tcp_answer(const struct bw_tcp_fields *tcp)
{
	if ((tcp->flags & BW_TCP_RST) != 0)
		return BW_FLOOD_RST;
	if ((tcp->flags & (BW_TCP_SYN | BW_TCP_ACK)) == (BW_TCP_SYN | BW_TCP_ACK))
		return BW_FLOOD_SYN_ACK;
	return BW_FLOOD_OTHER;
}

/** BW_FLOOD_ANSWERS: it is none. */
static enum bw_flood_answer answer_of(const struct bw_flood_conf *conf, const struct bw_pkt *pkt)
{
	bool is_from_target = bw_ip_eq(&pkt->flow.remote, &conf->target) &&
			      pkt->flow.remote_port_be == rte_cpu_to_be_16(conf->port);
	struct bw_icmp_quote quote;

	if (pkt->kind == BW_PKT_TCP && is_from_target)
		return tcp_answer(&pkt->tcp);
	if (pkt->kind == BW_PKT_UDP && is_from_target)
		return BW_FLOOD_DATAGRAM;
	if ((pkt->kind == BW_PKT_ICMP4 || pkt->kind == BW_PKT_ICMP6) &&
		bw_icmp_quote_parse(pkt, &quote) == 0 && bw_ip_eq(&quote.flow.remote, &conf->target))
		return BW_FLOOD_UNREACHABLE;
	return BW_FLOOD_ANSWERS;
}

unsigned bw_flood_input(struct bw_worker *w, struct bw_pkt *pkts, unsigned count)
{
	struct bw_flood *f = w->flood;
	unsigned kept = 0;

	for (unsigned i = 0; i < count; i++) {
		enum bw_flood_answer answer = answer_of(f->conf, &pkts[i]);

		if (answer != BW_FLOOD_ANSWERS) {
			f->figures.answer[answer]++;
			rte_pktmbuf_free(pkts[i].m);
		} else if (kept++ != i) {
			pkts[kept - 1] = pkts[i];
		}
	}
	return kept;
}

/* ---- for the controlling thread -------------------------------------------------------------------------- */

void bw_engine_flood_begin(struct bw_engine *engine)
{
	atomic_store_explicit(&engine->flood_began_at, bw_clock_now(), memory_order_release);
}

void bw_engine_flood_end(struct bw_engine *engine)
{
	atomic_store_explicit(&engine->flood_ends, true, memory_order_relaxed);
}

void bw_engine_flood_figures(const struct bw_engine *engine, struct bw_flood_figures *sum)
{
	*sum = (struct bw_flood_figures){ 0 };
	for (unsigned i = 0; i < engine->worker_count; i++) {
		const struct bw_flood_figures *f = &engine->workers[i].flood->figures;

		sum->sent += f->sent;
		sum->bytes += f->bytes;
		sum->unsent_device += f->unsent_device;
		sum->unsent_late += f->unsent_late;
		for (unsigned k = 0; k < BW_FLOOD_ANSWERS; k++)
			sum->answer[k] += f->answer[k];
		sum->ready_workers += f->ready_workers;
		sum->done_workers += f->done_workers;
	}
}
