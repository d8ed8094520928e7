/* SPDX-License-Identifier: BSD-3-Clause */
/** Figures for the operator: the line of rates, and the table at the end. */
#pragma once

#include <stdio.h>

#include <base/counters.h>
#include <engine/engine.h>

/** What the engine had counted at one moment. */
struct bw_stats_sample {
	bw_ns at;
	struct bw_counters counters;
	uint32_t open_connections;
	bool has_requests; /* a service counts "requests" or "commands" */
	uint64_t requests;
	unsigned worker_count;
	uint64_t busy_cycles[BW_WORKERS_MAX], cycles[BW_WORKERS_MAX];
	/* All workers' samples; all 0 where they are not counted. They only grow, so that those of an interval can be had. */
	uint64_t stage_cycles[BW_STAGE_COUNT];
};

/** From any thread while the engine runs. */
void bw_stats_take(const struct bw_engine *engine, bw_ns now, struct bw_stats_sample *sample);

#define BW_STATS_LINE_BYTES 512

/**
 * What happened between two samples, in one line without a newline:
 * in 1.20 Mpps 9.80 Gbit/s, out 1.10 Mpps 8.90 Gbit/s, 4 conn/s, 256 open, 1.10 Mreq/s, 3 rexmit/s, 7 drops/s
 * (arp 5, vlan 2), busy 45% 31%
 */
void bw_stats_format(const struct bw_stats_sample *before, const struct bw_stats_sample *after,
	char out[BW_STATS_LINE_BYTES]);

/** Are cycles counted by stage, and were there any between two samples? */
bool bw_stats_has_stages(const struct bw_stats_sample *before, const struct bw_stats_sample *after);
/** And what they went to, in a line of its own: 812 cycles/packet, 790 cycles/request: rx 5%, parse 11%, ... */
void bw_stats_format_cycles(const struct bw_stats_sample *before, const struct bw_stats_sample *after,
	char out[BW_STATS_LINE_BYTES]);
/** All cycles of a run: busy, idle, a packet's and a request's share, and of each stage. */
void bw_stats_cycles(const struct bw_stats_sample *sample, FILE *out);

/** Every counter that is not zero, with what it counts. */
void bw_stats_table(const struct bw_counters *counters, FILE *out);
/** And every figure of services that is not zero, as bw_engine_service_stats() has it; `lines` is cut to pieces. */
void bw_stats_services(char *lines, FILE *out);
