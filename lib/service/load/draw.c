/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Random numbers: xoroshiro128+ (Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2018), and
 * Zipf's distribution by rejection-inversion (Hörmann and Derflinger, "Rejection-inversion to generate variates from
 * monotone discrete distributions", 1996), which needs no table over the keys. A draw of it takes two powers, more
 * than a whole request should: so a few million are drawn before the start, and walked through.
 */
#include <math.h>

#include <base/random.h>

#include "internal.h"

static uint64_t rotate(uint64_t x, unsigned by)
{
	return x << by | x >> (64 - by);
}

void bw_load__draw_init(
	struct bw_load__draw *draw, uint64_t seed, uint64_t n, const uint32_t *ranks, uint32_t mask)
{
	*draw = (struct bw_load__draw){ .n = n, .ranks = ranks, .mask = mask };
	draw->state[0] = bw_random(&seed);
	draw->state[1] = bw_random(&seed);
	draw->at = (uint32_t)bw_random(&seed);
}

uint64_t bw_load__draw_bits(struct bw_load__draw *draw)
{
	uint64_t a = draw->state[0], b = draw->state[1], sum = a + b;

	b ^= a;
	draw->state[0] = rotate(a, 24) ^ b ^ b << 16;
	draw->state[1] = rotate(b, 37);
	return sum;
}

double bw_load__draw_fraction(struct bw_load__draw *draw)
{
	return (double)((bw_load__draw_bits(draw) >> 11) + 1) * 0x1p-53;
}

/* ---- Zipf ---------------------------------------------------------------------------------------------- */

/** The integral of x^-s, and its inverse; both steady where s is 1. */
static double integral(double x, double s)
{
	double log_x = log(x), t = (1 - s) * log_x;

	return fabs(t) > 1e-8 ? expm1(t) / t * log_x : log_x * (1 + t / 2);
}

static double integral_inverse(double y, double s)
{
	double t = y * (1 - s);

	if (t < -1)
		t = -1; /* rounding, at the end of the range */
	return exp(fabs(t) > 1e-8 ? log1p(t) / t * y : y * (1 - t / 2));
}

void bw_load__zipf_fill(uint32_t *ranks, uint32_t count, uint64_t n, double s, uint64_t seed)
{
	struct bw_load__draw draw;
	double first = integral(1.5, s) - 1, last = integral((double)n + 0.5, s);
	double squeeze = 2 - integral_inverse(integral(2.5, s) - pow(2, -s), s);

	bw_load__draw_init(&draw, seed, n, NULL, 0);
	for (uint32_t i = 0; i < count;) {
		double u = last + bw_load__draw_fraction(&draw) * (first - last);
		double x = integral_inverse(u, s);
		double k = floor(x + 0.5);

		k = fmin(fmax(k, 1), (double)n);
		if (k - x <= squeeze || u >= integral(k + 0.5, s) - pow(k, -s))
			ranks[i++] = (uint32_t)(k - 1);
	}
}
