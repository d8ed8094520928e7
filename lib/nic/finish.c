/* SPDX-License-Identifier: BSD-3-Clause */
/* What a device does not do to a packet on its way out, done here: checksums and linearising. */
#include <errno.h>
#include <string.h>

#include <rte_ip.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include <base/assert.h>
#include <base/sum.h>

#include "internal.h"

/* From `off` of the first segment to the end of the chain. */
static uint64_t sum_chain(const struct rte_mbuf *m, uint32_t off, uint64_t sum)
{
	bool is_odd = false;

	if (bw_likely(m->next == NULL))
		return bw_sum(
			rte_pktmbuf_mtod_offset(m, const uint8_t *, off), rte_pktmbuf_data_len(m) - off, sum);

	for (; m != NULL; m = m->next) {
		const uint32_t len = rte_pktmbuf_data_len(m) - off;
		const uint16_t part =
			bw_sum_fold(bw_sum(rte_pktmbuf_mtod_offset(m, const uint8_t *, off), len, 0));

		/* Behind an odd number of bytes every byte is in the other half of its word (RFC 1071 2(B)). */
		sum += is_odd ? __builtin_bswap16(part) : part;
		is_odd ^= len & 1;
		off = 0;
	}
	return sum;
}

void bw_nic__l4_checksum(struct rte_mbuf *m)
{
	const bool is_udp = (m->ol_flags & RTE_MBUF_F_TX_L4_MASK) == RTE_MBUF_F_TX_UDP_CKSUM;
	const uint32_t l4_off = (uint32_t)m->l2_len + m->l3_len;
	const uint32_t field_off = l4_off + (is_udp ? offsetof(struct rte_udp_hdr, dgram_cksum)
						    : offsetof(struct rte_tcp_hdr, cksum));
	const uint8_t *ip = rte_pktmbuf_mtod_offset(m, const uint8_t *, m->l2_len);
	uint8_t *field = rte_pktmbuf_mtod_offset(m, uint8_t *, field_off);
	uint64_t sum;
	uint16_t checksum;

	BW_ASSERT_LE(field_off + 2, rte_pktmbuf_data_len(m));
	memset(field, 0, 2);

	/* The pseudo-header: addresses, protocol and length (RFC 9293 3.1, RFC 8200 8.1). */
	if (m->ol_flags & RTE_MBUF_F_TX_IPV4)
		sum = bw_sum(ip + offsetof(struct rte_ipv4_hdr, src_addr), 8, 0);
	else
		sum = bw_sum(ip + offsetof(struct rte_ipv6_hdr, src_addr), 32, 0);
	sum += rte_cpu_to_be_16(is_udp ? IPPROTO_UDP : IPPROTO_TCP);
	sum += rte_cpu_to_be_32(rte_pktmbuf_pkt_len(m) - l4_off);
	checksum = (uint16_t)~bw_sum_fold(sum_chain(m, l4_off, sum));
	if (is_udp && checksum == 0)
		checksum = 0xffff; /* RFC 768: zero means that there is none */
	memcpy(field, &checksum, 2);
	m->ol_flags &= ~RTE_MBUF_F_TX_L4_MASK;
}

static int linearise(const struct bw_nic *nic, unsigned queue, struct rte_mbuf **pkt, uint16_t segments_max,
	struct bw_counters *counters)
{
	struct rte_mbuf *copy = rte_pktmbuf_copy(*pkt, nic->pools[queue], 0, UINT32_MAX);

	if (copy == NULL)
		return -ENOMEM;
	/* The copy has as few segments as the data room allows, and these fit unless the packet is absurd. */
	if (copy->nb_segs > segments_max) {
		rte_pktmbuf_free(copy);
		return -ENOMEM;
	}
	bw_count_n(counters, BW_COPIED_BYTES, rte_pktmbuf_pkt_len(copy));
	rte_pktmbuf_free(*pkt);
	*pkt = copy;
	return 0;
}

/* Does a service's own memory go out with it, by reference? */
static bool has_foreign_memory(const struct rte_mbuf *m)
{
	for (; m != NULL; m = m->next)
		if (RTE_MBUF_HAS_EXTBUF(m))
			return true;
	return false;
}

int bw_nic__finish(
	const struct bw_nic *nic, unsigned queue, struct rte_mbuf **pkt, struct bw_counters *counters)
{
	const struct bw_nic__state *state = nic->state;
	struct rte_mbuf *m = *pkt;

	BW_ASSERT(nic->tso_bytes_max != 0 || !(m->ol_flags & RTE_MBUF_F_TX_TCP_SEG));
	const uint16_t segments_max =
		m->ol_flags & RTE_MBUF_F_TX_TCP_SEG ? state->tso_segments_max : state->tx_segments_max;

	if (bw_unlikely(m->nb_segs > segments_max) || (state->tx_wants_direct && !RTE_MBUF_DIRECT(m)) ||
		(state->tx_wants_mapped && has_foreign_memory(m))) {
		if (linearise(nic, queue, pkt, segments_max, counters) != 0)
			return -ENOMEM;
		m = *pkt;
	}
	if (m->ol_flags & RTE_MBUF_F_TX_TCP_SEG) {
		/* Each segment gets a length of its own, so the header checksum is the device's. vmxnet3 and virtio
		   know that without being told, and refuse to be told. */
		if ((m->ol_flags & RTE_MBUF_F_TX_IPV4) && nic->has_tx_ip_checksum)
			m->ol_flags |= RTE_MBUF_F_TX_IP_CKSUM;
	} else if ((m->ol_flags & RTE_MBUF_F_TX_L4_MASK) && !nic->has_tx_l4_checksum) {
		bw_nic__l4_checksum(m);
	}
	return 0;
}
