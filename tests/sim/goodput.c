/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Bulk throughput of one connection by random loss and round trip, over a link of 1 Gbit/s: the mean of some seeds.
 * As the simulation is deterministic, the figures are the same on every machine, and change with the stack only. They
 * are compared with what they were: a tenth less is a failure, a tenth more is news for this table.
 */
#include <stdio.h>

#include "sim.h"

#define LOSSES      5
#define TRIPS       3
#define SEEDS       12
#define RATE_KBPS   1000000
#define QUEUE_BYTES 1000000
#define TOLERANCE   0.10

static const uint32_t loss_ppm[LOSSES] = { 0, 1000, 10000, 30000, 100000 };
static const unsigned trip_ms[TRIPS] = { 1, 20, 100 };
static const uint64_t transfer_bytes[LOSSES] = { 8000000, 8000000, 4000000, 2000000, 500000 };

/* kbit/s; `sim --goodput=print` writes these lines */
static const unsigned expected_kbps[LOSSES][TRIPS] = {
	{ 880721, 70859, 14211 },
	{ 685703, 34271, 9482 },
	{ 167597, 7984, 1612 },
	{ 57701, 4530, 850 },
	{ 6131, 1076, 399 },
};

static unsigned measure(unsigned loss, unsigned trip)
{
	static const struct sim_profile bulk = { .name = "goodput", .what = "one bulk transfer" };
	double seconds = 0;

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		bw_ns done_at;

		sim_begin(&bulk, seed * 1000 + loss * TRIPS + trip, 2);
		sim.has_healed = true;
		sim.heal_at = sim.now;
		for (unsigned i = 0; i < 2; i++)
			sim.link[i][1 - i].conf = (struct sim_link_conf){
				.delay_ns = trip_ms[trip] * BW_NS_PER_MS / 2,
				.rate_kbps = RATE_KBPS,
				.queue_bytes = QUEUE_BYTES,
				.loss_ppm = loss_ppm[loss],
			};
		sim_apps_plan_bulk(transfer_bytes[loss], sim.now);
		sim_loop(sim.now + 3600 * BW_NS_PER_SEC);
		done_at = sim_apps_bulk_done_at();
		if (done_at == 0)
			sim_fail("no bulk transfer at a loss of %u ppm and %u ms", loss_ppm[loss],
				trip_ms[trip]);
		seconds += (double)(done_at - sim.began) / 1e9;
		sim_end();
	}
	return (unsigned)((double)(SEEDS * transfer_bytes[loss]) * 8 / 1000 / seconds);
}

int sim_goodput(bool prints_only)
{
	int failed = 0;

	printf("%-8s", "loss");
	for (unsigned trip = 0; trip < TRIPS; trip++)
		printf("  %8u ms", trip_ms[trip]);
	printf("  Mbit/s\n");
	for (unsigned loss = 0; loss < LOSSES; loss++) {
		unsigned kbps[TRIPS];

		for (unsigned trip = 0; trip < TRIPS; trip++)
			kbps[trip] = measure(loss, trip);
		if (prints_only) {
			printf("\t{ %u, %u, %u },\n", kbps[0], kbps[1], kbps[2]);
			continue;
		}
		printf("%5.1f %% ", loss_ppm[loss] / 1e4);
		for (unsigned trip = 0; trip < TRIPS; trip++) {
			double was = expected_kbps[loss][trip], is = kbps[trip];

			printf("  %8.2f %s", is / 1000,
				is < was * (1 - TOLERANCE)   ? "--"
				: is > was * (1 + TOLERANCE) ? "++"
							     : "  ");
			failed |= is < was * (1 - TOLERANCE);
		}
		printf("\n");
	}
	if (failed)
		printf("FAILED: where it says --, bulk throughput is more than a tenth below the table's in %s\n",
			__FILE__);
	return failed;
}
