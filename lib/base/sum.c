/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ones' complement addition does not care in which order and width its words come, so memory is read in vectors of
 * 16-bit words in the machine's own order. The one instruction that adds neighbouring words without losing carries
 * takes them as signed. So each word is lowered by 2^15, which is a flip of its top bit, and what that took is
 * put back at the end. Folding then gives the 16-bit sum in the order of memory: it is stored as it is, without a byte
 * swap (RFC 1071 section 2 B).
 */
#include <smmintrin.h>

#include <base/sum.h>

#define BLOCK_BYTES 64
#define SPAN_BYTES  (64u << 10) /* a lane takes 2^16 of a vector at most, and holds 2^31 */

static inline __m128i add_lowered(__m128i sum, const uint8_t *at)
{
	const __m128i words = _mm_loadu_si128((const __m128i *)at);

	return _mm_add_epi32(
		sum, _mm_madd_epi16(_mm_xor_si128(words, _mm_set1_epi16(INT16_MIN)), _mm_set1_epi16(1)));
}

static inline int64_t add_lanes(__m128i sum)
{
	const __m128i wide =
		_mm_add_epi64(_mm_cvtepi32_epi64(sum), _mm_cvtepi32_epi64(_mm_unpackhi_epi64(sum, sum)));

	return _mm_cvtsi128_si64(wide) + _mm_cvtsi128_si64(_mm_unpackhi_epi64(wide, wide));
}

/* Of whole vectors, no more than a span. */
static inline uint64_t sum_vectors(const uint8_t *at, size_t bytes)
{
	/* Two chains of additions: a load and its additions do not wait for the one before. */
	__m128i even = _mm_setzero_si128(), odd = _mm_setzero_si128();
	const int64_t lowered_by = (int64_t)(bytes / 2) << 15;

	for (; bytes >= BLOCK_BYTES; at += BLOCK_BYTES, bytes -= BLOCK_BYTES) {
		even = add_lowered(even, at);
		odd = add_lowered(odd, at + 16);
		even = add_lowered(even, at + 32);
		odd = add_lowered(odd, at + 48);
	}
	for (; bytes > 0; at += 16, bytes -= 16)
		even = add_lowered(even, at);
	return (uint64_t)(add_lanes(_mm_add_epi32(even, odd)) + lowered_by);
}

uint64_t bw_sum(const void *data, size_t bytes, uint64_t sum)
{
	const uint8_t *at = data;

	while (bytes >= 16) {
		const size_t span = BW_MIN(bytes & ~(size_t)15, (size_t)SPAN_BYTES);

		sum += sum_vectors(at, span);
		at += span;
		bytes -= span;
	}
	if (bytes & 8) {
		uint64_t words;

		memcpy(&words, at, 8);
		sum += (words & 0xffffffff) + (words >> 32);
		at += 8;
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
		sum += *at; /* as if a zero byte followed; the machine is little-endian, as all that this runs on */
	return sum;
}
