/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Reassembly (RFC 791, RFC 8200 section 4.5) through rte_ip_frag. Bounded: so many datagrams at a time, so
 * many fragments each (RTE_LIBRTE_IP_FRAG_MAX_FRAG), and a time limit, after which a timer lets go of them, and
 * their sender is told.
 *
 * When there is no room, what has waited for longer than fragments of one datagram usually are apart has to go:
 * else a handful of lone fragments a second would keep everybody's out.
 */
#include <errno.h>

#include <rte_ip_frag.h>
#include <rte_malloc.h>

#include "worker.h"

#define BUCKET_ENTRIES 4
#define EXPIRE_NS      BW_NS_PER_SEC        /* how often the timed-out are looked for */
#define CROWDED_NS     (200 * BW_NS_PER_MS) /* the time limit when there is no room */

int bw_fragments_init(struct bw_worker *w)
{
	uint32_t max = w->engine->conf.fragments_max, buckets = 1;

	while (buckets * BUCKET_ENTRIES < 2 * max) /* twice, as its buckets do not fill evenly */
		buckets *= 2;
	/* The library's "cycles" are whatever unit the times that it is given have: ours are nanoseconds. */
	w->fragments = rte_ip_frag_table_create(
		buckets, BUCKET_ENTRIES, max, w->engine->conf.fragment_timeout_ns, SOCKET_ID_ANY);
	w->death_row = rte_zmalloc("bw_frag_row", sizeof(*w->death_row), 0);
	if (w->fragments == NULL || w->death_row == NULL)
		return -ENOMEM;
	bw_timer_init(&w->fragment_timer, BW_TIMER_FRAGMENTS);
	return 0;
}

static void bury(struct bw_worker *w)
{
	bw_count_n(&w->counters, BW_DROP_FRAGMENT, w->death_row->cnt);
	rte_ip_frag_free_death_row(w->death_row, 0);
}

void bw_fragments_fini(struct bw_worker *w)
{
	if (w->fragments != NULL)
		rte_ip_frag_table_destroy(w->fragments);
	if (w->death_row != NULL)
		rte_ip_frag_free_death_row(w->death_row, 0);
	rte_free(w->death_row);
	w->fragments = NULL;
	w->death_row = NULL;
}

/** Until reassembly every mbuf of a fragment says what its ECN field was: the headers are cut off on the way. */
static void note_ecn(struct bw_pkt *pkt)
{
	for (struct rte_mbuf *m = pkt->m; m != NULL; m = m->next)
		*(uint8_t *)rte_mbuf_to_priv(m) = pkt->tos & BW_ECN_MASK;
}

static void set_ecn(struct rte_mbuf *whole, uint8_t ecn)
{
	uint8_t *ip = rte_pktmbuf_mtod_offset(whole, uint8_t *, whole->l2_len);

	if (ip[0] >> 4 == 4) /* reassembly leaves no checksum of the header, and nobody looks at one */
		ip[1] = (uint8_t)((ip[1] & ~BW_ECN_MASK) | ecn);
	else
		ip[1] = (uint8_t)((ip[1] & ~(BW_ECN_MASK << 4)) | ecn << 4);
}

/**
 * RFC 3168 section 5.3: one that was marked marks the whole, unless another was not ECN-capable: then somebody has
 * meddled with them, and the whole is dropped. Returns whether it is not.
 */
static bool unite_ecn(struct rte_mbuf *whole)
{
	unsigned seen = 0;

	for (struct rte_mbuf *m = whole; m != NULL; m = m->next)
		seen |= 1u << *(uint8_t *)rte_mbuf_to_priv(m);
	if (!(seen & 1u << BW_ECN_CE))
		return true;
	set_ecn(whole, BW_ECN_CE);
	return !(seen & 1u << BW_ECN_NOT_ECT);
}

static struct rte_mbuf *reassemble(struct bw_worker *w, struct bw_pkt *pkt)
{
	struct rte_mbuf *m = pkt->m;

	if (pkt->ip_version == 4)
		return rte_ipv4_frag_reassemble_packet(w->fragments, w->death_row, m, w->now,
			rte_pktmbuf_mtod_offset(m, struct rte_ipv4_hdr *, pkt->l3_off));
	return rte_ipv6_frag_reassemble_packet(w->fragments, w->death_row, m, w->now,
		rte_pktmbuf_mtod_offset(m, struct rte_ipv6_hdr *, pkt->l3_off),
		rte_pktmbuf_mtod_offset(m, struct rte_ipv6_fragment_ext *, pkt->fragment_off));
}

struct rte_mbuf *bw_fragments_input(struct bw_iface *iface, struct bw_pkt *pkt)
{
	struct bw_worker *w = iface->worker;
	struct rte_ip_frag_death_row *row = w->death_row;
	struct rte_mbuf *whole;

	note_ecn(pkt);
	pkt->m->port = (uint16_t)iface->device->index; /* for tell_sender() */
	w->fragment_at = w->now;
	if (!bw_timer_is_armed(&w->fragment_timer))
		bw_timer_arm(&w->wheel, &w->fragment_timer, w->now + EXPIRE_NS);
	whole = reassemble(w, pkt);
	/* Refused alone: there is no room. What is wrong with a fragment takes the others of its datagram with it. */
	if (whole == NULL && row->cnt == 1 && row->row[0] == pkt->m) {
		row->cnt = 0;
		rte_ip_frag_table_del_expired_entries(
			w->fragments, row, w->now + w->engine->conf.fragment_timeout_ns - CROWDED_NS);
		bury(w);
		whole = reassemble(w, pkt);
	}
	bury(w);
	if (whole == NULL)
		return NULL;
	if (bw_unlikely(!unite_ecn(whole))) {
		bw_count(&w->counters, BW_DROP_FRAGMENT);
		rte_pktmbuf_free(whole);
		return NULL;
	}
	bw_count(&w->counters, BW_IP_REASSEMBLED);
	/* What a device said of a fragment's checksum says nothing of the whole. */
	whole->ol_flags &=
		~(RTE_MBUF_F_RX_L4_CKSUM_MASK | RTE_MBUF_F_RX_IP_CKSUM_MASK | RTE_MBUF_F_TX_OFFLOAD_MASK);
	return whole;
}

/** RFC 1122 section 3.3.2, RFC 8200 section 4.5: only about a first fragment, which says what it was. */
static void tell_sender(struct bw_worker *w, struct rte_mbuf *m)
{
	struct bw_iface *iface = &w->ifaces[m->port];
	struct bw_pkt pkt;
	uint8_t type;

	bw_pkt_parse(m, &iface->host, &pkt);
	if (pkt.kind != BW_PKT_FRAGMENT || !pkt.is_first_fragment)
		return;
	type = *rte_pktmbuf_mtod_offset(m, const uint8_t *, pkt.l4_off);
	if (pkt.ip_proto == IPPROTO_ICMP && type != ICMP_ECHO)
		return; /* of errors there are no errors */
	if (pkt.ip_proto == IPPROTO_ICMPV6 && !(type & ICMP6_INFOMSG_MASK))
		return;
	bw_icmp_error(iface, &pkt, BW_ICMP_REASSEMBLY_TIMEOUT);
}

void bw_fragments_timer(struct bw_worker *w)
{
	rte_ip_frag_table_del_expired_entries(w->fragments, w->death_row, w->now);
	for (unsigned i = 0; i < w->death_row->cnt; i++)
		tell_sender(w, w->death_row->row[i]);
	bury(w);
	if (w->now - w->fragment_at <= w->engine->conf.fragment_timeout_ns) /* else the table is empty */
		bw_timer_arm(&w->wheel, &w->fragment_timer, w->now + EXPIRE_NS);
}
