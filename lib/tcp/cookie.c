/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * SYN cookies (RFC 4987 3.6, appendix A): what a half-open entry would remember travels in the SYN-ACK, and the
 * ACK of the handshake brings it back.
 *
 *     ISN          31 ........................ 4 | 3                | 2 ........ 0
 *                  MAC                           | odd/even period  | class of the MSS
 *     timestamp    31 .................... 6 | 5 | 4    | 3 ...... 0
 *                  our clock             | ECN | SACK | window scale, 15: none
 *
 * The MAC is keyed per period of 64 s, and a cookie is good in its own period and the next: for 64 to 128 s. It
 * covers the flow, the peer's ISN and everything that the cookie says, so one in 2^28 blind guesses is right: who
 * sends a million a second has a connection every four and a half minutes, in the name of a host that does not
 * know of it and resets it at our first word. One SipHash makes a cookie and one checks it: its output is a one-time
 * mask for the class and a one-time pair (a, b) for a + b * class, as Carter and Wegman have it. Bit 3 is masked by
 * the others' parity, so that no bit of an ISN tells anything by itself.
 *
 * A timestamp with its low bits replaced is up to 63 ms behind the clock and never ahead of it: those of the
 * connection go on from there, and PAWS at the peer is content. The round trip that it measures is as much too long.
 *
 * Without a timestamp there is room for the MSS only: no window scale, no SACK, no ECN.
 */
#include "internal.h"

#define PERIOD_NS     (64 * BW_NS_PER_SEC)
#define CLASS_MASK    7u
#define PERIOD_BIT    8u
#define OPTIONS_BITS  6
#define OPTIONS_MASK  ((1u << OPTIONS_BITS) - 1)
#define OPTION_WSCALE 0x0fu
#define OPTION_SACK   0x10u
#define OPTION_ECN    0x20u
#define NO_TIMESTAMPS (1u << OPTIONS_BITS)
_Static_assert(BW_TCP__NO_WSCALE == OPTION_WSCALE, "as the cookie says it");

/**
 * The largest that is no more than the peer's is taken; the first stands for conf.mss_min. The defaults without an
 * option (RFC 9293 3.7.1), IPv6's minimum, tunnels (1360 to 1420), IPv6 and IPv4 on Ethernet with PPPoE's 1432 and 1452
 * a little above, jumbo frames.
 */
static const uint16_t class_mss[CLASS_MASK + 1] = { BW_TCP__MSS_LEAST, 536, 1220, 1360, 1400, 1440, 1460,
	8940 };

static struct bw_siphash_key period_key(const struct bw_siphash_key *secret, uint64_t period)
{
	struct bw_siphash_key key;

	for (uint64_t i = 0; i < 2; i++) {
		uint64_t input[] = { period, i };

		key.k[i] = bw_siphash(secret, input, sizeof(input));
	}
	return key;
}

void bw_tcp__cookie_keys_renew(
	struct bw_tcp__cookie_keys *keys, const struct bw_siphash_key *secret, bw_ns now)
{
	uint64_t period;

	if (bw_likely(now < keys->renew_at))
		return;
	period = now / PERIOD_NS;
	keys->key[period & 1] = period_key(secret, period);
	keys->key[~period & 1] = period_key(secret, period - 1);
	keys->is_odd = period & 1;
	keys->renew_at = (period + 1) * PERIOD_NS;
}

bw_ns bw_tcp__cookie_expires_at(const struct bw_tcp__cookie_keys *keys)
{
	return keys->renew_at + PERIOD_NS;
}

/** What the timestamp says. */
static uint32_t options_of(const struct bw_tcp__half_open *half)
{
	if (!half->has_timestamps)
		return NO_TIMESTAMPS;
	return half->wscale | (half->has_sack ? OPTION_SACK : 0) | (half->has_ecn ? OPTION_ECN : 0);
}

static uint64_t mask_of(const struct bw_tcp__cookie_keys *keys, bool is_odd, const struct bw_flow *flow,
	bw_seq irs, uint32_t options)
{
	struct {
		struct bw_flow flow;
		bw_seq irs;
		uint32_t options;
	} input = { *flow, irs, options };

	_Static_assert(sizeof(input) == 44, "no padding: hashed as bytes");
	return bw_siphash(&keys->key[is_odd], &input, sizeof(input));
}

static bw_seq number_of(uint64_t mask, uint32_t class, bool is_odd)
{
	uint32_t a = (uint32_t)mask, b = (uint32_t)(mask >> 32);
	uint32_t number = (a & ~(PERIOD_BIT | CLASS_MASK)) + (((b | 1) * class) << 4);

	number |= (a ^ class) & CLASS_MASK;
	return number | (is_odd ^ __builtin_parity(number) ? PERIOD_BIT : 0);
}

void bw_tcp__cookie_make(const struct bw_tcp__cookie_keys *keys, struct bw_tcp__half_open *half)
{
	uint32_t class = CLASS_MASK;

	if (!half->has_timestamps) {
		half->wscale = BW_TCP__NO_WSCALE;
		half->has_sack = half->has_ecn = 0;
	}
	while (class > 0 && class_mss[class] > half->peer_mss)
		class --;
	half->iss = number_of(
		mask_of(keys, keys->is_odd, &half->flow, half->irs, options_of(half)), class, keys->is_odd);
}

uint32_t bw_tcp__cookie_timestamp(const struct bw_tcp__half_open *half, uint32_t clock)
{
	return clock - ((clock - options_of(half)) & OPTIONS_MASK);
}

bool bw_tcp__cookie_check(
	const struct bw_tcp__cookie_keys *keys, const struct bw_pkt *pkt, struct bw_tcp__half_open *half)
{
	const struct bw_tcp_fields *seg = &pkt->tcp;
	bw_seq iss = seg->ack - 1, irs = seg->seq - 1;
	uint32_t options = seg->has_timestamp ? seg->ts_echo & OPTIONS_MASK : NO_TIMESTAMPS;
	bool is_odd = !(iss & PERIOD_BIT) != !__builtin_parity(iss & ~PERIOD_BIT);
	uint64_t mask = mask_of(keys, is_odd, &pkt->flow, irs, options);
	uint32_t class = (iss ^ (uint32_t)mask) & CLASS_MASK;

	if (number_of(mask, class, is_odd) != iss)
		return false;
	*half = (struct bw_tcp__half_open){
		.flow = pkt->flow,
		.irs = irs,
		.iss = iss,
		.ts_recent = seg->has_timestamp ? seg->ts_value : 0,
		.peer_mss = class_mss[class],
		.wscale = BW_TCP__NO_WSCALE,
		.has_timestamps = seg->has_timestamp,
	};
	if (seg->has_timestamp) {
		half->has_sack = !!(options & OPTION_SACK);
		half->has_ecn = !!(options & OPTION_ECN);
		half->wscale = options & OPTION_WSCALE;
	}
	return true;
}
