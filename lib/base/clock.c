/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The TSC, scaled: ns = anchor_ns + (tsc - anchor_tsc) * mult / 2^56.
 *
 * The scale is measured once against CLOCK_MONOTONIC. An error of a few ppm in it is of no matter: every use
 * is a difference of two readings of this clock, and TCP's timers are rounded to a millisecond.
 *
 * Where the processor does not promise that the TSC runs at one rate through every power state (CPUID
 * 8000_0007h EDX bit 8), CLOCK_MONOTONIC itself is read instead: some 30 ns in the vDSO, once a turn.
 */
#include <cpuid.h>
#include <time.h>

#include <base/assert.h>
#include <base/clock.h>

#define SCALE_SHIFT        56 /* leaves 8 bits for ns a cycle: any TSC above 4 MHz */
#define CALIBRATE_NS       (20 * BW_NS_PER_MS)
#define SAMPLE_TRIES       16
#define INVARIANT_TSC_LEAF 0x80000007u
#define INVARIANT_TSC_BIT  (1u << 8)

static uint64_t anchor_tsc;
static bw_ns anchor_ns;
static uint64_t mult; /* 0: the TSC is not to be trusted */

static bw_ns monotonic_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (bw_ns)ts.tv_sec * BW_NS_PER_SEC + (bw_ns)ts.tv_nsec;
}

/* Both clocks at one moment: of several tries, the one with the least time between the two TSC readings. */
static void sample(uint64_t *tsc, bw_ns *ns)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < SAMPLE_TRIES; i++) {
		const uint64_t before = bw_clock_cycles();
		const bw_ns at = monotonic_ns();
		const uint64_t took = bw_clock_cycles() - before;

		if (took < best) {
			best = took;
			*tsc = before + took / 2;
			*ns = at;
		}
	}
}

static bool tsc_is_invariant(void)
{
	unsigned eax, ebx, ecx, edx;

	return __get_cpuid(INVARIANT_TSC_LEAF, &eax, &ebx, &ecx, &edx) != 0 && (edx & INVARIANT_TSC_BIT) != 0;
}

void bw_clock_init(void)
{
	uint64_t tsc = 0;
	bw_ns ns = 0;

	mult = 0;
	if (!tsc_is_invariant())
		return;

	sample(&anchor_tsc, &anchor_ns);
	do {
		sample(&tsc, &ns);
	} while (ns - anchor_ns < CALIBRATE_NS);
	BW_ASSERT_LT(anchor_tsc, tsc);
	mult = (uint64_t)(((unsigned __int128)(ns - anchor_ns) << SCALE_SHIFT) / (tsc - anchor_tsc));
}

bw_ns bw_clock_now(void)
{
	if (bw_unlikely(mult == 0))
		return monotonic_ns();
	return anchor_ns +
	       (bw_ns)(((unsigned __int128)(bw_clock_cycles() - anchor_tsc) * mult) >> SCALE_SHIFT);
}
