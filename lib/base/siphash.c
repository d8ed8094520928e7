/* SPDX-License-Identifier: BSD-3-Clause */
#include <string.h>

#include <base/siphash.h>

#define ROUNDS_COMPRESS 2
#define ROUNDS_FINALISE 4

static inline uint64_t rotate_left(uint64_t x, unsigned bits)
{
	return x << bits | x >> (64 - bits);
}

static inline void rounds(uint64_t v[4], unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		v[0] += v[1];
		v[2] += v[3];
		v[1] = rotate_left(v[1], 13) ^ v[0];
		v[3] = rotate_left(v[3], 16) ^ v[2];
		v[0] = rotate_left(v[0], 32);
		v[2] += v[1];
		v[0] += v[3];
		v[1] = rotate_left(v[1], 17) ^ v[2];
		v[3] = rotate_left(v[3], 21) ^ v[0];
		v[2] = rotate_left(v[2], 32);
	}
}

static inline void compress(uint64_t v[4], uint64_t word)
{
	v[3] ^= word;
	rounds(v, ROUNDS_COMPRESS);
	v[0] ^= word;
}

uint64_t bw_siphash(const struct bw_siphash_key *key, const void *data, size_t data_bytes)
{
	/* The four constants spell "somepseudorandomlygeneratedbytes". */
	uint64_t v[4] = {
		key->k[0] ^ 0x736f6d6570736575u,
		key->k[1] ^ 0x646f72616e646f6du,
		key->k[0] ^ 0x6c7967656e657261u,
		key->k[1] ^ 0x7465646279746573u,
	};
	const uint8_t *at = data;
	const uint8_t *const words_end = at + (data_bytes & ~(size_t)7);
	uint64_t word;

	for (; at != words_end; at += 8) {
		memcpy(&word, at, 8);
		compress(v, word);
	}

	/* The last word: the bytes left over, and the length modulo 256 on top. */
	word = (uint64_t)data_bytes << 56;
	for (unsigned i = 0; i < (data_bytes & 7); i++)
		word |= (uint64_t)at[i] << (8 * i);
	compress(v, word);

	v[2] ^= 0xff;
	rounds(v, ROUNDS_FINALISE);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}
