/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The Internet checksum (RFC 1071). Ones' complement addition does not care in which order and width its
 * words come, so memory is read in vectors of 32-bit words in the machine's own order, which are added up in
 * 64-bit lanes: no carry is lost before 2^32 of them. Folding at the end gives the 16-bit sum in the order of
 * memory: it is stored as it is, without a byte swap (section 2 B there).
 */
#include <emmintrin.h>

#include <rte_mbuf.h>

#include <wire/build.h>

#include "wire.h"

#define BLOCK_BYTES 64

/* Both 32-bit halves of each lane added to that lane of `sum`. */
static inline __m128i add_halves(__m128i sum, __m128i words)
{
	const __m128i low = _mm_and_si128(words, _mm_set1_epi64x(0xffffffff));

	return _mm_add_epi64(_mm_add_epi64(sum, low), _mm_srli_epi64(words, 32));
}

static inline __m128i load(const uint8_t *at)
{
	return _mm_loadu_si128((const __m128i *)at);
}

static inline uint64_t add_lanes(__m128i sum)
{
	return (uint64_t)_mm_cvtsi128_si64(sum) + (uint64_t)_mm_cvtsi128_si64(_mm_unpackhi_epi64(sum, sum));
}

uint64_t bw_sum(const void *data, size_t bytes, uint64_t sum)
{
	const uint8_t *at = data;

	if (bytes >= BLOCK_BYTES) {
		/* Two chains of additions: a load and its additions do not wait for the one before. */
		__m128i even = _mm_setzero_si128(), odd = _mm_setzero_si128();

		do {
			even = add_halves(even, load(at));
			odd = add_halves(odd, load(at + 16));
			even = add_halves(even, load(at + 32));
			odd = add_halves(odd, load(at + 48));
			at += BLOCK_BYTES;
			bytes -= BLOCK_BYTES;
		} while (bytes >= BLOCK_BYTES);
		sum += add_lanes(_mm_add_epi64(even, odd));
	}

	for (; bytes >= 8; at += 8, bytes -= 8) {
		uint64_t words;

		memcpy(&words, at, 8);
		sum += (words & 0xffffffff) + (words >> 32);
	}
	if (bytes & 4) {
		uint32_t words;

		memcpy(&words, at, 4);
		sum += words;
		at += 4;
	}
	if (bytes & 2) {
		uint16_t word;

		memcpy(&word, at, 2);
		sum += word;
		at += 2;
	}
	if (bytes & 1)
		sum += rte_cpu_to_le_16(*at); /* as if a zero byte followed */
	return sum;
}

uint64_t bw_sum_mbuf(const struct rte_mbuf *m, uint32_t off, uint32_t bytes, uint64_t sum)
{
	bool is_odd = false; /* an odd number of bytes is summed already */

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

uint16_t bw_sum_fold(uint64_t sum)
{
	sum = (sum >> 32) + (sum & 0xffffffff);
	sum = (sum >> 32) + (sum & 0xffffffff);
	sum = (sum >> 16) + (sum & 0xffff);
	sum = (sum >> 16) + (sum & 0xffff);
	return (uint16_t)sum;
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
