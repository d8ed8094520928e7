/* SPDX-License-Identifier: BSD-3-Clause */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <wire/packet.h>

/*
 * XXH3 with a secret of our own: every constant that it mixes with the addresses is unknown to a peer. A bare
 * seed would only shift the published ones.
 */
static uint8_t secret[XXH3_SECRET_SIZE_MIN] __attribute__((aligned(BW_CACHE_LINE)));

void bw_flow_hash_seed(uint64_t seed)
{
	XXH3_generateSecret(secret, sizeof(secret), &seed, sizeof(seed));
}

/* So that the hash is a hash in a test or a tool that has no reason to be unpredictable. */
__attribute__((constructor)) static void seed_default(void)
{
	bw_flow_hash_seed(0);
}

/* An end in 48 bits, so that both are one short input. */
static uint64_t end_of_v4(const struct bw_ip *ip, uint16_t port_be)
{
	return (uint64_t)bw_ip_v4_be(ip) << 16 | port_be;
}

static uint32_t hash_v4(const struct bw_flow *flow)
{
	const uint64_t a = end_of_v4(&flow->local, flow->local_port_be);
	const uint64_t b = end_of_v4(&flow->remote, flow->remote_port_be);
	const uint64_t ends[2] = { BW_MAX(a, b), BW_MIN(a, b) };

	return (uint32_t)XXH3_64bits_withSecret(ends, sizeof(ends), secret, sizeof(secret));
}

uint32_t bw_flow_hash(const struct bw_flow *flow)
{
	if (bw_likely(bw_ip_is_v4(&flow->local) && bw_ip_is_v4(&flow->remote)))
		return hash_v4(flow);

	struct {
		uint64_t a[2], b[2];
		uint16_t a_port_be, b_port_be;
		uint32_t zero;
	} ends = { .a_port_be = flow->local_port_be, .b_port_be = flow->remote_port_be };
	uint64_t swap_mask, differ;

	memcpy(ends.a, flow->local.b, 16);
	memcpy(ends.b, flow->remote.b, 16);

	/*
	 * The greater end first, in whatever order of addresses, so that both directions hash alike. Without
	 * a branch, which would be a coin toss for each client.
	 */
	const unsigned __int128 a = (unsigned __int128)ends.a[1] << 64 | ends.a[0];
	const unsigned __int128 b = (unsigned __int128)ends.b[1] << 64 | ends.b[0];
	swap_mask = -(uint64_t)((a < b) | ((a == b) & (ends.a_port_be < ends.b_port_be)));
	for (unsigned i = 0; i < 2; i++) {
		differ = (ends.a[i] ^ ends.b[i]) & swap_mask;
		ends.a[i] ^= differ;
		ends.b[i] ^= differ;
	}
	differ = (uint64_t)(ends.a_port_be ^ ends.b_port_be) & swap_mask;
	ends.a_port_be ^= (uint16_t)differ;
	ends.b_port_be ^= (uint16_t)differ;

	return (uint32_t)XXH3_64bits_withSecret(&ends, sizeof(ends), secret, sizeof(secret));
}
