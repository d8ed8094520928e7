/* SPDX-License-Identifier: BSD-3-Clause */
/** Kinds of trouble, as ranges that each seed draws from. A range of 0 to 0 is what is left out. */
#include <string.h>

#include "sim.h"

/* clang-format off */
#define FEW        .hosts = { 2, 3 }, .jobs = { 10, 150 }, .bytes = { 20000, 4000000 }, .spread_ms = { 1, 10000 }
#define LAN        .delay_us = { 5, 500 }
#define WAN        .delay_us = { 100, 60000 }

const struct sim_profile sim_profiles[] = {
	{ .name = "clean", .what = "nothing goes wrong",
		.flags = SIM_MUST_COMPLETE | SIM_CLEAN, FEW, WAN, .trouble_ms = { 2000, 2000 }, .datagrams = { 0, 20 } },
	{ .name = "lossy", .what = "0.01 to 30 % of the packets are lost",
		.flags = SIM_MUST_COMPLETE, FEW, WAN, .trouble_ms = { 1000, 20000 },
		.loss_ppm = { 100, 300000 } },
	{ .name = "bursty", .what = "losses come in bursts of up to 50 packets",
		.flags = SIM_MUST_COMPLETE, FEW, WAN, .trouble_ms = { 1000, 20000 },
		.burst_ppm = { 100, 30000 }, .burst_length = { 2, 50 } },
	{ .name = "reordering", .what = "up to 50 % of the packets are overtaken",
		.flags = SIM_MUST_COMPLETE, FEW, WAN, .trouble_ms = { 1000, 20000 },
		.jitter_us = { 0, 5000 }, .reorder_ppm = { 1000, 500000 }, .reorder_us = { 10, 100000 } },
	{ .name = "duplicating", .what = "up to 50 % of the packets arrive twice, some of them late",
		.flags = SIM_MUST_COMPLETE, FEW, WAN, .trouble_ms = { 1000, 20000 },
		.duplicate_ppm = { 1000, 500000 }, .reorder_ppm = { 0, 100000 }, .reorder_us = { 10, 100000 } },
	{ .name = "corrupting", .what = "up to 20 % of the packets are damaged or cut",
		.flags = SIM_MUST_COMPLETE, FEW, WAN, .trouble_ms = { 1000, 20000 },
		.corrupt_ppm = { 1000, 150000 }, .truncate_ppm = { 0, 50000 }, .datagrams = { 0, 20 } },
	{ .name = "long-fat", .what = "much is under way",
		.flags = SIM_MUST_COMPLETE, .hosts = { 2, 2 }, .jobs = { 2, 20 }, .bytes = { 1000000, 20000000 },
		.spread_ms = { 1, 2000 }, .delay_us = { 50000, 400000 }, .jitter_us = { 0, 2000 },
		.rate_kbps = { 100000, 1000000 }, .queue_bytes = { 1000000, 10000000 },
		.trouble_ms = { 1000, 20000 }, .loss_ppm = { 0, 5000 } },
	{ .name = "thin", .what = "slow lines with small or bloated queues",
		.flags = SIM_MUST_COMPLETE, .hosts = { 2, 3 }, .jobs = { 3, 20 }, .bytes = { 20000, 1000000 },
		.spread_ms = { 1, 10000 }, WAN, .rate_kbps = { 128, 10000 }, .queue_bytes = { 4000, 500000 },
		.trouble_ms = { 1000, 60000 }, .loss_ppm = { 0, 10000 } },
	{ .name = "mtu", .what = "the path becomes narrower and wider, and says so or not",
		FEW, WAN, .trouble_ms = { 1000, 20000 }, .mtu_changes = { 1, 6 }, .loss_ppm = { 0, 1000 } },
	{ .name = "blackout", .what = "nothing gets through for up to 30 seconds, and hosts pause",
		.flags = SIM_MUST_COMPLETE, FEW, WAN, .trouble_ms = { 1000, 40000 },
		.blackouts = { 0, 3 }, .blackout_ms = { 10, 30000 }, .pauses = { 0, 2 }, .pause_ms = { 1, 20000 },
		.stalls = { 0, 2 }, .stall_ms = { 1, 5000 }, .loss_ppm = { 0, 10000 } },
	{ .name = "reboot", .what = "hosts begin anew, or vanish for good",
		FEW, WAN, .trouble_ms = { 1000, 20000 }, .reboots = { 0, 3 }, .down_ms = { 1, 5000 },
		.vanishes = { 0, 1 }, .loss_ppm = { 0, 10000 } },
	{ .name = "starved", .what = "buffers run out",
		FEW, LAN, .trouble_ms = { 1000, 10000 }, .starvations = { 1, 5 }, .starved_ms = { 10, 5000 },
		.rate_kbps = { 10000, 1000000 }, .loss_ppm = { 0, 10000 } },
	{ .name = "many", .what = "hundreds of short connections",
		.flags = SIM_MUST_COMPLETE, .hosts = { 2, 3 }, .jobs = { 200, 900 }, .bytes = { 1, 20000 },
		.spread_ms = { 500, 5000 }, LAN, .trouble_ms = { 1000, 5000 }, .loss_ppm = { 0, 20000 },
		.reorder_ppm = { 0, 20000 }, .reorder_us = { 10, 1000 } },
	{ .name = "fragments", .what = "datagrams of up to 64 KiB, overtaken, doubled, and incomplete",
		.flags = SIM_MUST_COMPLETE, .hosts = { 2, 3 }, .jobs = { 1, 6 }, .bytes = { 1000, 100000 },
		.spread_ms = { 1, 2000 }, LAN, .trouble_ms = { 2000, 10000 }, .datagrams = { 50, 400 },
		.loss_ppm = { 0, 20000 }, .reorder_ppm = { 0, 200000 }, .reorder_us = { 10, 5000 },
		.duplicate_ppm = { 0, 50000 } },
	{ .name = "mixed", .what = "all of it",
		.hosts = { 2, 3 }, .jobs = { 10, 150 }, .bytes = { 10000, 2000000 }, .spread_ms = { 1, 5000 }, WAN,
		.trouble_ms = { 1000, 30000 }, .jitter_us = { 0, 10000 }, .rate_kbps = { 5000, 1000000 },
		.queue_bytes = { 20000, 1000000 }, .loss_ppm = { 0, 50000 }, .burst_ppm = { 0, 5000 },
		.burst_length = { 2, 20 }, .reorder_ppm = { 0, 100000 }, .reorder_us = { 10, 50000 },
		.duplicate_ppm = { 0, 50000 }, .corrupt_ppm = { 0, 20000 }, .truncate_ppm = { 0, 10000 },
		.mtu_changes = { 0, 2 }, .blackouts = { 0, 2 }, .blackout_ms = { 10, 10000 }, .pauses = { 0, 2 },
		.pause_ms = { 1, 10000 }, .stalls = { 0, 2 }, .stall_ms = { 1, 3000 }, .reboots = { 0, 1 },
		.down_ms = { 1, 5000 }, .vanishes = { 0, 1 }, .starvations = { 0, 2 }, .starved_ms = { 10, 3000 },
		.datagrams = { 0, 50 } },
};
/* clang-format on */

const unsigned sim_profile_count = BW_ARRAY_LEN(sim_profiles);

const struct sim_profile *sim_profile_find(const char *name)
{
	for (unsigned i = 0; i < sim_profile_count; i++)
		if (strcmp(sim_profiles[i].name, name) == 0)
			return &sim_profiles[i];
	return NULL;
}

uint64_t sim_range_draw(struct sim_chance *c, struct sim_range range)
{
	uint64_t span = range.max - range.min, bits = 0;

	if (span == 0)
		return range.min;
	if (range.max < 8)
		return range.min + sim_below(c, span + 1);
	if (range.min == 0 && sim_below(c, 4) == 0)
		return 0;
	/* Log-uniform: first how many digits, in base 2, then which. */
	while (bits < 63 && (range.max >> (bits + 1)) >= BW_MAX(range.min, 1ull))
		bits++;
	bits = sim_below(c, bits + 1);
	return BW_MAX(range.min, (range.max >> bits) - sim_below(c, (range.max >> bits) / 2 + 1));
}
