/* SPDX-License-Identifier: BSD-3-Clause */
/** ARP, ICMP (RFC 792, 1122 3.2.2) and ICMPv6 (RFC 4443) with neighbour discovery (RFC 4861). */
#include <rte_arp.h>

#include <base/log.h>

#include "worker.h"

void bw_arp_input(struct bw_iface *iface, struct bw_pkt *pkt, bool is_from_device)
{
	struct bw_worker *w = iface->worker;
	struct bw_arp_fields arp;
	bool is_for_us;

	if (bw_arp_parse(pkt, &arp) != 0) {
		bw_count(&w->counters, BW_DROP_ARP);
		goto out;
	}
	if (bw_route_is_ours(iface->network, &arp.sender)) {
		if (memcmp(&arp.sender_mac, &iface->host.mac, sizeof(arp.sender_mac)) != 0 &&
			is_from_device) {
			char ip[BW_IP_STRLEN], mac[BW_MAC_STRLEN];

			bw_count(&w->counters, BW_ARP_CONFLICTS);
			bw_warn_limited(w->now, "%s is also claimed by %s: two hosts have the same address",
				bw_ip_format(&arp.sender, ip), bw_mac_format(&arp.sender_mac, mac));
			/* RFC 5227 section 2.4 (c), as a server: defend it once in 10 s, and keep it. */
			if (w->now - iface->defended_at > 10 * BW_NS_PER_SEC || iface->defended_at == 0) {
				iface->defended_at = w->now;
				bw_neigh_announce(iface);
			}
		}
		goto out;
	}
	is_for_us = bw_route_is_ours(iface->network, &arp.target);
	bw_neigh_learn(iface, &(struct bw_neigh_claim){ .ip = &arp.sender,
				      .mac = &arp.sender_mac,
				      .is_answer = is_for_us && arp.opcode == RTE_ARP_OP_REPLY,
				      .overrides = true,
				      .creates = is_for_us });
	if (is_for_us && arp.opcode == RTE_ARP_OP_REQUEST && is_from_device &&
		(bw_route_is_on_link(iface->network, &arp.sender) || bw_ip_is_unspecified(&arp.sender)))
		bw_neigh_answer_arp(iface, &arp);
	else if (!is_for_us)
		bw_count(&w->counters, BW_DROP_ARP);
out:
	rte_pktmbuf_free(pkt->m);
}

static void nd_input(struct bw_iface *iface, struct bw_pkt *pkt, bool is_from_device)
{
	struct bw_worker *w = iface->worker;
	struct bw_nd_fields nd;
	const struct bw_ip *from = &pkt->flow.remote;

	if (bw_nd_parse(pkt, &nd) != 0) {
		bw_count(&w->counters, BW_DROP_ND);
		return;
	}
	if (nd.type == ND_NEIGHBOR_SOLICIT) {
		if (!bw_route_is_ours(iface->network, &nd.target)) {
			bw_count(&w->counters, BW_DROP_ND);
			return;
		}
		if (!bw_ip_is_unspecified(from) && nd.has_link_addr)
			bw_neigh_learn(iface, &(struct bw_neigh_claim){ .ip = from,
						      .mac = &nd.link_addr,
						      .overrides = true,
						      .creates = true });
		if (is_from_device)
			bw_neigh_answer_nd(iface, &nd, from);
		return;
	}
	if (bw_route_is_ours(iface->network, &nd.target)) {
		/* A link that reflects brings our own announcements back. */
		if (nd.has_link_addr && memcmp(&nd.link_addr, &iface->host.mac, sizeof(nd.link_addr)) == 0)
			return;
		bw_count(&w->counters, BW_ARP_CONFLICTS);
		if (is_from_device && nd.has_link_addr) {
			char ip[BW_IP_STRLEN], mac[BW_MAC_STRLEN];

			bw_warn_limited(w->now, "%s is also claimed by %s: two hosts have the same address",
				bw_ip_format(&nd.target, ip), bw_mac_format(&nd.link_addr, mac));
		}
		return;
	}
	/* RFC 4861 section 7.2.4: the answer to a question that was put to it alone may leave the address out. */
	bw_neigh_learn(iface, &(struct bw_neigh_claim){ .ip = &nd.target,
				      .mac = nd.has_link_addr ? &nd.link_addr : NULL,
				      .is_answer = (nd.flags & BW_ND_SOLICITED) != 0,
				      .overrides = (nd.flags & BW_ND_OVERRIDE) != 0 });
}

/** Turn an echo request around in its own buffer. Takes the mbuf. */
static void echo_reply(struct bw_iface *iface, struct bw_pkt *pkt, uint8_t reply_type)
{
	struct bw_worker *w = iface->worker;
	struct rte_mbuf *m = pkt->m;
	const struct bw_ip *src = &pkt->flow.local;
	struct bw_ip dst = pkt->flow.remote;
	struct bw_ip_out ip;
	uint8_t *icmp;
	uint32_t sum;

	if (bw_ip_is_multicast(src))
		src = bw_route_source(iface->network, &dst);
	if (src == NULL) {
		bw_count(&w->counters, BW_DROP_ICMP);
		rte_pktmbuf_free(m);
		return;
	}
	rte_pktmbuf_adj(m, pkt->l4_off);
	icmp = rte_pktmbuf_mtod(m, uint8_t *);
	if (bw_ip_is_v4(&dst) || bw_ip_eq(src, &pkt->flow.local)) {
		/* RFC 1624: only the type changed, and swapping the addresses leaves the pseudo-header's sum alone. */
		sum = (uint32_t)(uint16_t) ~(icmp[2] << 8 | icmp[3]);
		sum += (uint16_t) ~(icmp[0] << 8) + (uint32_t)(reply_type << 8);
		sum = (sum & 0xffff) + (sum >> 16);
		sum = (sum & 0xffff) + (sum >> 16);
		sum = ~sum & 0xffff;
		/* the other zero, which is as good, and the only one for a message of zeros alone */
		if (sum == 0)
			sum = 0xffff;
		icmp[0] = reply_type;
		icmp[2] = (uint8_t)(sum >> 8);
		icmp[3] = (uint8_t)sum;
	} else {
		uint16_t field;

		icmp[0] = reply_type;
		memset(icmp + 2, 0, 2);
		field = (uint16_t)~bw_sum_fold(bw_sum_mbuf(m, 0, rte_pktmbuf_pkt_len(m),
			bw_sum_pseudo(src, &dst, IPPROTO_ICMPV6, rte_pktmbuf_pkt_len(m))));
		memcpy(icmp + 2, &field, sizeof(field));
	}
	m->ol_flags &= RTE_MBUF_F_EXTERNAL | RTE_MBUF_F_INDIRECT; /* whose memory it is stays true */
	ip = (struct bw_ip_out){
		.src = src,
		.dst = &dst,
		.proto = bw_ip_is_v4(&dst) ? IPPROTO_ICMP : IPPROTO_ICMPV6,
		.ttl = w->ttl,
		.may_fragment = true,
		.id = w->ip_id++,
	};
	bw_ip_prepend(m, &ip);
	bw_count(&w->counters, BW_ICMP_ECHO);
	bw_egress_ip_fragmented(iface, m, &dst);
}

/** An error about something we sent: TCP decides what it means for the connection. */
static void error_input(struct bw_worker *w, struct bw_pkt *pkt)
{
	struct bw_icmp_quote quote;
	bool is_v4 = pkt->kind == BW_PKT_ICMP4, is_hard;
	bool is_too_big;

	if (bw_icmp_quote_parse(pkt, &quote) != 0 || quote.proto != IPPROTO_TCP) {
		bw_count(&w->counters, BW_DROP_ICMP);
		return;
	}
	/* RFC 9293 section 3.9.2.2; IPv6's prohibitions count as hard there by RFC 5461 section 2. */
	if (is_v4) {
		is_too_big = quote.type == ICMP_DEST_UNREACH && quote.code == ICMP_FRAG_NEEDED;
		is_hard = quote.type == ICMP_DEST_UNREACH &&
			  (quote.code == ICMP_PROT_UNREACH || quote.code == ICMP_PORT_UNREACH);
	} else {
		is_too_big = quote.type == ICMP6_PACKET_TOO_BIG;
		is_hard = quote.type == ICMP6_DST_UNREACH &&
			  (quote.code == ICMP6_DST_UNREACH_NOPORT || quote.code == ICMP6_DST_UNREACH_ADMIN);
	}
	bw_tcp_icmp_error(w->tcp, w->now, &quote.flow, quote.seq, is_hard, is_too_big ? quote.mtu : 0);
}

void bw_icmp_input(struct bw_iface *iface, struct bw_pkt *pkt, bool is_from_device)
{
	struct bw_worker *w = iface->worker;
	uint8_t type = *rte_pktmbuf_mtod_offset(pkt->m, uint8_t *, pkt->l4_off);
	bool is_v4 = pkt->kind == BW_PKT_ICMP4;

	if (type == (is_v4 ? ICMP_ECHO : ICMP6_ECHO_REQUEST)) {
		/* RFC 1122 section 3.2.2.6 lets us be silent to broadcast; RFC 4443 section 4.2 asks for an answer. */
		if (is_v4 && pkt->is_to_multicast) {
			bw_count(&w->counters, BW_DROP_ICMP);
			rte_pktmbuf_free(pkt->m);
			return;
		}
		echo_reply(iface, pkt, is_v4 ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY);
		return;
	}
	if (!is_v4 && (type == ND_NEIGHBOR_SOLICIT || type == ND_NEIGHBOR_ADVERT))
		nd_input(iface, pkt, is_from_device);
	else
		error_input(w, pkt);
	rte_pktmbuf_free(pkt->m);
}

/** RFC 1812 section 4.3.2.8 and RFC 4443 section 2.4 (f): a token bucket of one second's worth. */
static bool may_send_error(struct bw_worker *w)
{
	uint64_t rate = w->engine->conf.icmp_errors_per_s;
	uint64_t fresh = (w->now - w->icmp_refilled_at) * rate / BW_NS_PER_SEC;

	if (fresh > 0) {
		w->icmp_tokens = (uint32_t)BW_MIN(w->icmp_tokens + fresh, rate);
		w->icmp_refilled_at = w->now;
	}
	if (w->icmp_tokens == 0) {
		bw_count(&w->counters, BW_ICMP_ERRORS_LIMITED);
		return false;
	}
	w->icmp_tokens--;
	return true;
}

void bw_icmp_error(struct bw_iface *iface, const struct bw_pkt *pkt, enum bw_icmp_reason reason)
{
	struct bw_worker *w = iface->worker;
	static const struct {
		uint8_t type4, code4, type6, code6;
	} error[] = {
		[BW_ICMP_PORT_UNREACHABLE] = { ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, ICMP6_DST_UNREACH,
			ICMP6_DST_UNREACH_NOPORT },
		[BW_ICMP_PROTOCOL_UNREACHABLE] = { ICMP_DEST_UNREACH, ICMP_PROT_UNREACH, ICMP6_PARAM_PROB,
			ICMP6_PARAMPROB_NEXTHEADER },
		[BW_ICMP_REASSEMBLY_TIMEOUT] = { ICMP_TIME_EXCEEDED, ICMP_EXC_FRAGTIME, ICMP6_TIME_EXCEEDED,
			ICMP6_TIME_EXCEED_REASSEMBLY },
		/* IPv6 only, and the packet has the code */
		[BW_ICMP_BAD_HEADER] = { 0, 0, ICMP6_PARAM_PROB, 0 },
	};
	bool is_v4 = pkt->ip_version == 4;
	const struct bw_ip *src = &pkt->flow.local;
	struct rte_mbuf *m;
	uint8_t code = is_v4 ? error[reason].code4 : error[reason].code6;
	uint32_t param = 0;

	/*
	 * RFC 1122 section 3.2.2: never about a broadcast or multicast, nor to nobody. Of bad headers, the parse lets
	 * only those through that are told of even then.
	 */
	if (pkt->is_to_multicast && reason == BW_ICMP_BAD_HEADER)
		src = bw_route_source(iface->network, &pkt->flow.remote);
	else if (pkt->is_to_multicast)
		return;
	if (src == NULL || bw_ip_is_unspecified(&pkt->flow.remote) || !may_send_error(w))
		return;
	m = bw_egress_alloc(w);
	if (m == NULL)
		return;
	if (!is_v4 &&
		reason == BW_ICMP_PROTOCOL_UNREACHABLE) /* points at the next-header field that named it */
		param = (uint32_t)(pkt->ip6_proto_field_off - pkt->l3_off);
	if (reason == BW_ICMP_BAD_HEADER) {
		code = pkt->problem_code;
		param = (uint32_t)(pkt->problem_off - pkt->l3_off);
	}
	bw_icmp_error_write(m, pkt, is_v4 ? error[reason].type4 : error[reason].type6, code, param, src,
		&pkt->flow.remote);
	bw_ip_prepend(m, &(struct bw_ip_out){ .src = src,
				 .dst = &pkt->flow.remote,
				 .proto = is_v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6,
				 .ttl = w->ttl });
	bw_count(&w->counters, BW_ICMP_ERRORS_SENT);
	bw_egress_ip(iface, m, &pkt->flow.remote);
}
