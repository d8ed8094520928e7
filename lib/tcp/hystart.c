/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * HyStart++ (RFC 9406): slow start ends before it has filled the queues, which the round trip tells by becoming longer.
 *
 * A round is until what was in flight at its beginning is acknowledged. When the shortest round trip of a round is that
 * much longer than that of the round before, conservative slow start (CSS) begins: a quarter of the growth, for five
 * rounds. Then it was no jitter, and congestion avoidance begins; but if a shorter round trip is seen meanwhile, it was,
 * and slow start goes on.
 *
 * For the first slow start of a connection alone: later ones end at what was found (4.3).
 */
#include "internal.h"

/* 4.3 */
#define MIN_RTT_THRESH_US 4000u
#define MAX_RTT_THRESH_US 16000u
#define MIN_RTT_DIVISOR   8
#define RTT_SAMPLES       8
#define CSS_ROUNDS        5
#define NO_RTT            UINT32_MAX

static void begin_round(struct bw_tcp__hystart *h, bw_seq snd_nxt)
{
	h->last_min_rtt_us = h->min_rtt_us;
	h->min_rtt_us = NO_RTT;
	h->samples = 0;
	h->round_end = snd_nxt;
}

void bw_tcp__hystart_init(struct bw_tcp__hystart *h, bw_seq snd_nxt)
{
	*h = (struct bw_tcp__hystart){ .min_rtt_us = NO_RTT };
	begin_round(h, snd_nxt);
}

static void judge(struct bw_tcp__hystart *h)
{
	uint32_t last_us = h->last_min_rtt_us, threshold_us = last_us / MIN_RTT_DIVISOR;

	if (h->css_round != 0) {
		if (h->min_rtt_us < h->css_rtt_us)
			h->css_round = 0;
		return;
	}
	threshold_us = BW_MAX(MIN_RTT_THRESH_US, BW_MIN(threshold_us, MAX_RTT_THRESH_US));
	if (last_us == NO_RTT || h->min_rtt_us < last_us + threshold_us)
		return;
	/* What is left of this round is the first of the five. */
	h->css_round = 1;
	h->css_rtt_us = h->min_rtt_us;
}

bool bw_tcp__hystart_on_ack(struct bw_tcp__hystart *h, bw_seq snd_una, bw_seq snd_nxt, uint32_t rtt_us)
{
	if (rtt_us != 0) {
		h->min_rtt_us = BW_MIN(h->min_rtt_us, rtt_us);
		if (h->samples < RTT_SAMPLES)
			h->samples++;
		if (h->samples == RTT_SAMPLES)
			judge(h);
	}
	if (bw_seq_lt(snd_una, h->round_end))
		return false;
	if (h->css_round != 0 && h->css_round++ == CSS_ROUNDS)
		return true;
	begin_round(h, snd_nxt);
	return false;
}
