/* SPDX-License-Identifier: BSD-3-Clause */
/** UDP (RFC 768): a datagram goes to the service on its address and port, on whichever worker received it. */
#include <errno.h>

#include <rte_udp.h>

#include "worker.h"

#define UDP_PAYLOAD_MAX  65507 /* 65,535 less IPv4 and UDP headers */
#define UDP_PAYLOAD_MAX6 65487 /* payload length counts the UDP header and the fragment header's piece */

static struct bw_context *context_at(struct bw_worker *w, const struct bw_ip *addr, uint16_t port)
{
	struct bw_context *any = NULL;

	for (unsigned i = 0; i < w->engine->conf.service_count; i++) {
		struct bw_context *ctx = &w->contexts[i];

		if (ctx->service->datagram == NULL ||
			!bw_engine_service_is_at(&w->engine->conf.services[i], addr))
			continue;
		if (ctx->port == port)
			return ctx;
		if (ctx->port == 0)
			any = ctx;
	}
	return any;
}

void bw_udp_input(struct bw_iface *iface, struct bw_pkt *pkt)
{
	struct bw_worker *w = iface->worker;
	struct bw_context *ctx = context_at(w, &pkt->flow.local, rte_be_to_cpu_16(pkt->flow.local_port_be));
	struct bw_datagram dgram = { .flow = &pkt->flow };

	if (ctx == NULL) {
		bw_count(&w->counters, BW_DROP_NO_LISTENER);
		if (!iface->network->is_kernels)
			bw_icmp_error(iface, pkt, BW_ICMP_PORT_UNREACHABLE);
		rte_pktmbuf_free(pkt->m);
		return;
	}
	bw_count(&w->counters, BW_UDP_DATAGRAMS_IN);
	dgram.payload.owner = pkt->m;
	dgram.payload.len = pkt->payload_len;
	/* In place when it is in one piece, else gathered: rte_pktmbuf_read does whichever it is. */
	dgram.payload.data =
		rte_pktmbuf_read(pkt->m, pkt->payload_off, pkt->payload_len, w->datagram_scratch);
	if (dgram.payload.data == w->datagram_scratch)
		bw_count_n(&w->counters, BW_COPIED_BYTES, pkt->payload_len);
	if (dgram.payload.data != NULL || pkt->payload_len == 0) {
		enum bw_stage stage = bw_stage_enter(&w->cycles, BW_STAGE_SERVICE);

		ctx->service->datagram(ctx, &dgram);
		bw_stage_enter(&w->cycles, stage);
	}
	rte_pktmbuf_free(pkt->m);
}

/** Copy a payload behind what the mbuf holds, into as many segments as it takes. */
static int append(struct bw_worker *w, struct rte_mbuf *m, const uint8_t *data, uint32_t len)
{
	struct rte_mbuf *last = m;

	while (len > 0) {
		uint16_t piece = (uint16_t)BW_MIN(len, (uint32_t)rte_pktmbuf_tailroom(last));

		memcpy(rte_pktmbuf_mtod_offset(last, void *, last->data_len), data, piece);
		last->data_len = (uint16_t)(last->data_len + piece);
		m->pkt_len += piece;
		data += piece;
		len -= piece;
		if (len > 0) {
			struct rte_mbuf *more = bw_egress_alloc(w);

			if (more == NULL)
				return -ENOBUFS;
			last->next = more;
			last = more;
			m->nb_segs++;
		}
	}
	return 0;
}

int bw_datagram_reply(struct bw_context *ctx, const struct bw_datagram *to, const void *data, uint32_t len)
{
	struct bw_worker *w = ctx->worker;
	const struct bw_flow *flow = to->flow;
	struct bw_iface *iface = bw_worker_iface(w, &flow->local);
	bool is_v4 = bw_ip_is_v4(&flow->remote);
	uint32_t l4_len = (uint32_t)sizeof(struct rte_udp_hdr) + len;
	struct rte_udp_hdr *udp;
	struct rte_mbuf *m;
	bool may_be_cut, is_whole;

	if (len > (is_v4 ? UDP_PAYLOAD_MAX : UDP_PAYLOAD_MAX6))
		return -EMSGSIZE;
	m = bw_egress_alloc(w);
	if (m == NULL)
		return -ENOBUFS;
	udp = (struct rte_udp_hdr *)rte_pktmbuf_append(m, sizeof(*udp));
	udp->src_port = flow->local_port_be;
	udp->dst_port = flow->remote_port_be;
	udp->dgram_len = rte_cpu_to_be_16((uint16_t)l4_len);
	udp->dgram_cksum = 0;
	if (append(w, m, data, len) != 0) {
		rte_pktmbuf_free(m);
		return -ENOBUFS;
	}
	/* Beyond a router there may be a narrower link. */
	may_be_cut = is_v4 && !bw_route_is_on_link(iface->network, &flow->remote);
	is_whole = l4_len + (is_v4 ? 20 : 40) <= bw_egress_datagram_mtu(iface, &flow->remote);
	if (is_whole) {
		m->l4_len = sizeof(*udp);
		m->ol_flags |= RTE_MBUF_F_TX_UDP_CKSUM;
	} else { /* no device sums over fragments */
		uint16_t sum = (uint16_t)~bw_sum_fold(bw_sum_mbuf(
			m, 0, l4_len, bw_sum_pseudo(&flow->local, &flow->remote, IPPROTO_UDP, l4_len)));

		udp->dgram_cksum = sum != 0 ? sum : 0xffff; /* RFC 768: 0 means none */
	}
	bw_ip_prepend(m, &(struct bw_ip_out){ .src = &flow->local,
				 .dst = &flow->remote,
				 .proto = IPPROTO_UDP,
				 .ttl = w->ttl,
				 .may_fragment = !is_whole || may_be_cut,
				 .id = w->ip_id++ });
	bw_count(&w->counters, BW_UDP_DATAGRAMS_OUT);
	if (is_whole)
		bw_egress_ip(iface, m, &flow->remote);
	else
		bw_egress_ip_fragmented(iface, m, &flow->remote);
	return 0;
}
