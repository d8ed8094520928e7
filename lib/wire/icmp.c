/* SPDX-License-Identifier: BSD-3-Clause */
/* ICMP and ICMPv6 errors: ours about what we received, and others' about what we sent. */
#include <base/assert.h>
#include <wire/build.h>

#include "wire.h"

/* RFC 1812 section 4.3.2.3: 576 bytes in all. RFC 4443 section 2.4 (c): the least MTU, 1280 bytes in all. */
#define ICMP4_QUOTE_MAX (576 - BW_IP4_HEADER - BW_ICMP_HEADER)
#define ICMP6_QUOTE_MAX (BW_IP6_MTU_MIN - BW_IP6_HEADER - BW_ICMP_HEADER)

/* What every quote has of the protocol behind IP (RFC 792): the ports, and TCP's sequence number. */
#define QUOTED_L4_BYTES 8

/* `bytes` bytes from `off` of a chain that has them. */
static void copy_out(const struct rte_mbuf *m, uint32_t off, uint32_t bytes, uint8_t *out)
{
	for (; bytes > 0; m = m->next) {
		BW_ASSERT(m != NULL);
		if (off >= m->data_len) {
			off -= m->data_len;
			continue;
		}

		const uint32_t here = BW_MIN(bytes, (uint32_t)m->data_len - off);

		memcpy(out, rte_pktmbuf_mtod_offset(m, const uint8_t *, off), here);
		out += here;
		bytes -= here;
		off = 0;
	}
}

void bw_icmp_error_write(struct rte_mbuf *m, const struct bw_pkt *pkt, uint8_t type, uint8_t code,
	uint32_t param, const struct bw_ip *src, const struct bw_ip *dst)
{
	const bool is_v4 = pkt->ip_version == 4;
	unsigned quote = is_v4 ? ICMP4_QUOTE_MAX : ICMP6_QUOTE_MAX;
	uint8_t *header;
	uint64_t sum = 0;
	uint16_t field;

	BW_ASSERT_LE(BW_ICMP_HEADER, rte_pktmbuf_tailroom(m));
	quote = BW_MIN(quote, (unsigned)pkt->l3_total_len);
	quote = BW_MIN(quote, (unsigned)rte_pktmbuf_tailroom(m) - BW_ICMP_HEADER);
	header = (uint8_t *)rte_pktmbuf_append(m, (uint16_t)(BW_ICMP_HEADER + quote));
	header[0] = type;
	header[1] = code;
	memset(header + 2, 0, 2);
	bw_wire__store32(header + 4, param);
	copy_out(pkt->m, pkt->l3_off, quote, header + BW_ICMP_HEADER);

	if (!is_v4)
		sum = bw_sum_pseudo(src, dst, IPPROTO_ICMPV6, BW_ICMP_HEADER + quote);
	field = (uint16_t)~bw_sum_fold(bw_sum(header, BW_ICMP_HEADER + quote, sum));
	memcpy(header + 2, &field, sizeof(field));
}

/*
 * RFC 1191 sections 5 and 7.1: the next lower of the MTUs that links have, for routers that do not say theirs; 68
 * is the least that IPv4 can have.
 */
static uint32_t plateau_below(uint32_t bytes)
{
	static const uint16_t plateaus[] = { 65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296,
		68 };

	for (unsigned i = 0; i < BW_ARRAY_LEN(plateaus); i++)
		if (plateaus[i] < bytes)
			return plateaus[i];
	return 0;
}

/* The quoted packet's bytes that can be read, as far as they were taken in. */
struct quoted {
	const uint8_t *at;
	unsigned bytes;
};

static bool skip(struct quoted *quoted, unsigned bytes)
{
	if (quoted->bytes < bytes)
		return false;
	quoted->at += bytes;
	quoted->bytes -= bytes;
	return true;
}

/* All of the quoted IP header; what follows it is left in `quoted`. */
static bool parse_quoted_ip4(struct quoted *quoted, struct bw_icmp_quote *quote)
{
	const uint8_t *header = quoted->at;

	if (quoted->bytes < BW_IP4_HEADER || header[0] >> 4 != 4 || (header[0] & 0x0f) < BW_IP4_HEADER / 4)
		return false;
	/* Only a first fragment has the ports. */
	if ((bw_wire__load16(header + 6) & RTE_IPV4_HDR_OFFSET_MASK) != 0)
		return false;
	if (quote->type == ICMP_DEST_UNREACH && quote->code == ICMP_FRAG_NEEDED && quote->mtu == 0)
		quote->mtu = plateau_below(bw_wire__load16(header + 2));
	quote->proto = header[9];
	quote->flow.local = bw_wire__load_ip4(header + 12);
	quote->flow.remote = bw_wire__load_ip4(header + 16);
	return skip(quoted, (header[0] & 0x0fu) * 4);
}

/* We send no extension header but the fragment header, so no other can be in a quote of ours. */
static bool parse_quoted_ip6(struct quoted *quoted, struct bw_icmp_quote *quote)
{
	const uint8_t *header = quoted->at;

	if (!skip(quoted, BW_IP6_HEADER) || header[0] >> 4 != 6)
		return false;
	quote->proto = header[6];
	quote->flow.local = bw_wire__load_ip6(header + 8);
	quote->flow.remote = bw_wire__load_ip6(header + 24);
	/* A mapped address in IPv6 would be taken for an IPv4 connection's. */
	if (bw_ip_is_v4(&quote->flow.remote))
		return false;
	if (quote->proto == IPPROTO_FRAGMENT) {
		header = quoted->at;
		if (!skip(quoted, 8) || (bw_wire__load16(header + 2) & 0xfff8) != 0)
			return false;
		quote->proto = header[0];
	}
	return true;
}

static bool is_error4(const uint8_t *icmp, struct bw_icmp_quote *quote)
{
	/* RFC 1191 section 4: the next hop's MTU, which older routers leave zero. */
	if (icmp[0] == ICMP_DEST_UNREACH && icmp[1] == ICMP_FRAG_NEEDED)
		quote->mtu = bw_wire__load16(icmp + 6);
	return icmp[0] == ICMP_DEST_UNREACH || icmp[0] == ICMP_TIME_EXCEEDED || icmp[0] == ICMP_PARAMETERPROB;
}

static bool is_error6(const uint8_t *icmp, struct bw_icmp_quote *quote)
{
	if (icmp[0] == ICMP6_PACKET_TOO_BIG)
		quote->mtu = bw_wire__load32(icmp + 4);
	return icmp[0] == ICMP6_DST_UNREACH || icmp[0] == ICMP6_PACKET_TOO_BIG ||
	       icmp[0] == ICMP6_TIME_EXCEEDED || icmp[0] == ICMP6_PARAM_PROB;
}

int bw_icmp_quote_parse(const struct bw_pkt *pkt, struct bw_icmp_quote *quote)
{
	const uint8_t *icmp = rte_pktmbuf_mtod_offset(pkt->m, const uint8_t *, pkt->l4_off);
	const bool is_v4 = pkt->kind == BW_PKT_ICMP4;
	struct quoted quoted = {
		.at = icmp,
		.bytes = BW_MIN((unsigned)pkt->payload_len, (unsigned)pkt->m->data_len - pkt->l4_off),
	};

	BW_ASSERT(is_v4 || pkt->kind == BW_PKT_ICMP6);
	*quote = (struct bw_icmp_quote){ .type = icmp[0], .code = icmp[1] };
	if (!(is_v4 ? is_error4(icmp, quote) : is_error6(icmp, quote)) || !skip(&quoted, BW_ICMP_HEADER))
		return -EINVAL;
	if (!(is_v4 ? parse_quoted_ip4(&quoted, quote) : parse_quoted_ip6(&quoted, quote)))
		return -EINVAL;

	/* An error goes to the sender of what it is about: a quote of anybody else's packet is a forgery. */
	if (!bw_ip_eq(&quote->flow.local, &pkt->flow.local))
		return -EINVAL;
	if ((quote->proto != IPPROTO_TCP && quote->proto != IPPROTO_UDP) || quoted.bytes < QUOTED_L4_BYTES)
		return -EINVAL;
	memcpy(&quote->flow.local_port_be, quoted.at, 2);
	memcpy(&quote->flow.remote_port_be, quoted.at + 2, 2);
	if (quote->proto == IPPROTO_TCP)
		quote->seq = bw_wire__load32(quoted.at + 4);
	return 0;
}
