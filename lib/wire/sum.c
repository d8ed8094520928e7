/* SPDX-License-Identifier: BSD-3-Clause */
/* The Internet checksum (RFC 1071) of what lies in several pieces, and of what is not there: pseudo-headers. */
#include <rte_mbuf.h>

#include <wire/build.h>

#include "wire.h"

uint64_t bw_sum_mbuf(const struct rte_mbuf *m, uint32_t off, uint32_t bytes, uint64_t sum)
{
	bool is_odd = false; /* an odd number of bytes is summed already */

	if (bw_likely(off + bytes <= m->data_len))
		return bw_sum(rte_pktmbuf_mtod_offset(m, const uint8_t *, off), bytes, sum);
	for (; m != NULL && bytes > 0; m = m->next) {
		if (off >= m->data_len) {
			off -= m->data_len;
			continue;
		}

		const uint32_t here = BW_MIN(bytes, (uint32_t)m->data_len - off);
		const uint8_t *at = rte_pktmbuf_mtod_offset(m, const uint8_t *, off);

		/* Behind an odd number of bytes high and low change places (RFC 1071 section 2 B). */
		if (is_odd)
			sum += __builtin_bswap16(bw_sum_fold(bw_sum(at, here, 0)));
		else
			sum = bw_sum(at, here, sum);
		is_odd ^= here & 1;
		bytes -= here;
		off = 0;
	}
	return sum;
}

uint64_t bw_sum_pseudo(const struct bw_ip *src, const struct bw_ip *dst, uint8_t proto, uint32_t l4_bytes)
{
	/*
	 * RFC 9293 section 3.1 and RFC 8200 section 8.1, in one: the ffff that a mapped IPv4 address has in
	 * front is zero in ones' complement, and the sum of a pseudo-header cannot be zero otherwise, for its
	 * protocol.
	 */
	uint64_t sum = (uint64_t)rte_cpu_to_be_16(proto) + rte_cpu_to_be_32(l4_bytes);

	for (unsigned i = 0; i < 4; i++)
		sum += (uint64_t)src->w_be[i] + dst->w_be[i];
	return sum;
}
