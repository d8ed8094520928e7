/* SPDX-License-Identifier: BSD-3-Clause */
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <control/stats.h>

#define SERVICE_LINES_BYTES 65536
#define DROPS_SHOWN         3

/** The sum of the lines "service.worker.requests value", of RESP's commands and of echo's messages. */
static void requests_sum(const struct bw_engine *engine, struct bw_stats_sample *sample)
{
	char *lines = malloc(SERVICE_LINES_BYTES), *rest;

	if (lines == NULL)
		return;
	lines[bw_engine_service_stats(engine, lines, SERVICE_LINES_BYTES - 1)] = '\0';
	rest = lines;
	for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n")) {
		char *value = strchr(line, ' '), *name;

		if (value == NULL)
			continue;
		*value++ = '\0';
		name = strrchr(line, '.');
		if (name == NULL || (strcmp(name, ".requests") != 0 && strcmp(name, ".commands") != 0 &&
					    strcmp(name, ".messages") != 0))
			continue;
		sample->has_requests = true;
		sample->requests += strtoull(value, NULL, 10);
	}
	free(lines);
}

void bw_stats_take(const struct bw_engine *engine, bw_ns now, struct bw_stats_sample *sample)
{
	*sample = (struct bw_stats_sample){ .at = now, .worker_count = bw_engine_worker_count(engine) };
	for (unsigned i = 0; i < sample->worker_count; i++) {
		struct bw_worker_stats worker;

		bw_engine_worker_stats(engine, i, &worker);
		for (unsigned c = 0; c < BW_COUNTER_COUNT; c++)
			sample->counters.value[c] += worker.counters.value[c];
		sample->open_connections += worker.tcp.connections;
		sample->busy_cycles[i] = worker.busy_cycles;
		sample->cycles[i] = worker.busy_cycles + worker.idle_cycles;
		for (unsigned stage = 0; stage < BW_STAGE_COUNT; stage++)
			sample->stage_cycles[stage] += worker.stage_cycles[stage];
	}
	requests_sum(engine, sample);
}

/* ---- the line -------------------------------------------------------------------------------------------- */

struct line {
	char *out;
	size_t used;
};

__attribute__((format(printf, 2, 3))) static void line_add(struct line *line, const char *format, ...)
{
	size_t room = BW_STATS_LINE_BYTES - line->used;
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(line->out + line->used, room, format, args);
	va_end(args);
	if (len > 0)
		line->used += BW_MIN((size_t)len, room - 1);
}

/** Three significant figures and the prefix of the SI. */
static void line_add_rate(struct line *line, double rate, const char *unit)
{
	static const char *const prefixes[] = { "", "k", "M", "G", "T" };
	unsigned prefix = 0;

	while (rate >= 999.5 && prefix + 1 < BW_ARRAY_LEN(prefixes)) {
		rate /= 1000;
		prefix++;
	}
	if (rate >= 99.95 || (prefix == 0 && rate >= 9.995) || rate == 0)
		line_add(line, "%.0f %s%s", rate, prefixes[prefix], unit);
	else if (rate >= 9.995 || prefix == 0)
		line_add(line, "%.1f %s%s", rate, prefixes[prefix], unit);
	else
		line_add(line, "%.2f %s%s", rate, prefixes[prefix], unit);
}

struct interval {
	const struct bw_stats_sample *before, *after;
	double seconds;
};

static uint64_t grown(const struct interval *interval, enum bw_counter counter)
{
	uint64_t before = interval->before->counters.value[counter],
		 after = interval->after->counters.value[counter];

	/* Another core writes them while they are read: what seems to shrink has not grown. */
	return after > before ? after - before : 0;
}

static double rate(const struct interval *interval, enum bw_counter counter)
{
	return (double)grown(interval, counter) / interval->seconds;
}

static bool is_drop(unsigned counter)
{
	return strncmp(bw_counter_name[counter], "drop.", 5) == 0;
}

/** All drops, and the names of the most frequent ones. */
static void line_add_drops(struct line *line, const struct interval *interval)
{
	bool is_shown[BW_COUNTER_COUNT] = { false };
	uint64_t sum = 0;

	for (unsigned c = 0; c < BW_COUNTER_COUNT; c++)
		sum += is_drop(c) ? grown(interval, c) : 0;
	if (sum == 0)
		return;
	line_add(line, ", ");
	line_add_rate(line, (double)sum / interval->seconds, "drops/s (");
	for (unsigned shown = 0; shown < DROPS_SHOWN; shown++) {
		unsigned most = BW_COUNTER_COUNT;

		for (unsigned c = 0; c < BW_COUNTER_COUNT; c++)
			if (is_drop(c) && !is_shown[c] && grown(interval, c) > 0 &&
				(most == BW_COUNTER_COUNT || grown(interval, c) > grown(interval, most)))
				most = c;
		if (most == BW_COUNTER_COUNT)
			break;
		is_shown[most] = true;
		line_add(line, "%s%s %" PRIu64, shown > 0 ? ", " : "",
			bw_counter_name[most] + strlen("drop."), grown(interval, most));
	}
	line_add(line, ")");
}

void bw_stats_format(const struct bw_stats_sample *before, const struct bw_stats_sample *after,
	char out[BW_STATS_LINE_BYTES])
{
	/* Two signals in a row must not divide by zero. */
	struct interval interval = {
		.before = before,
		.after = after,
		.seconds = (double)BW_MAX(after->at - before->at, BW_NS_PER_MS) / BW_NS_PER_SEC,
	};
	struct line line = { .out = out };

	out[0] = '\0';
	line_add(&line, "in ");
	line_add_rate(&line, rate(&interval, BW_RX_PACKETS), "pps ");
	line_add_rate(&line, rate(&interval, BW_RX_BYTES) * 8, "bit/s, out ");
	line_add_rate(&line, rate(&interval, BW_TX_PACKETS), "pps ");
	line_add_rate(&line, rate(&interval, BW_TX_BYTES) * 8, "bit/s, ");
	line_add_rate(&line, rate(&interval, BW_TCP_ACCEPTED), "conn/s, ");
	line_add(&line, "%u open", after->open_connections);
	if (after->has_requests) {
		line_add(&line, ", ");
		line_add_rate(&line,
			(double)(after->requests - BW_MIN(after->requests, before->requests)) /
				interval.seconds,
			"req/s");
	}
	if (grown(&interval, BW_TCP_RETRANSMITS) > 0) {
		line_add(&line, ", ");
		line_add_rate(&line, rate(&interval, BW_TCP_RETRANSMITS), "rexmit/s");
	}
	line_add_drops(&line, &interval);
	line_add(&line, ", busy");
	for (unsigned i = 0; i < after->worker_count; i++) {
		uint64_t cycles = after->cycles[i] - before->cycles[i];

		line_add(&line, " %.0f%%",
			cycles > 0 ? 100.0 * (double)(after->busy_cycles[i] - before->busy_cycles[i]) /
					     (double)cycles
				   : 0.0);
	}
}

/* ---- cycles ---------------------------------------------------------------------------------------------- */

static uint64_t busy_sum(const struct bw_stats_sample *sample)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < sample->worker_count; i++)
		sum += sample->busy_cycles[i];
	return sum;
}

static uint64_t stages_sum(const struct bw_stats_sample *sample)
{
	uint64_t sum = 0;

	for (unsigned stage = 0; stage < BW_STAGE_COUNT; stage++)
		sum += sample->stage_cycles[stage];
	return sum;
}

bool bw_stats_has_stages(const struct bw_stats_sample *before, const struct bw_stats_sample *after)
{
	return stages_sum(after) > stages_sum(before);
}

void bw_stats_format_cycles(const struct bw_stats_sample *before, const struct bw_stats_sample *after,
	char out[BW_STATS_LINE_BYTES])
{
	const struct interval interval = { .before = before, .after = after, .seconds = 1 };
	uint64_t packets = grown(&interval, BW_RX_PACKETS), busy = busy_sum(after) - busy_sum(before);
	uint64_t requests = after->requests - BW_MIN(after->requests, before->requests), sum = 0;
	struct line line = { .out = out };

	out[0] = '\0';
	line_add(&line, "%.0f cycles/packet", packets > 0 ? (double)busy / (double)packets : 0.0);
	if (requests > 0)
		line_add(&line, ", %.0f cycles/request", (double)busy / (double)requests);
	sum = stages_sum(after) - stages_sum(before);
	for (unsigned stage = 0; stage < BW_STAGE_COUNT && sum > 0; stage++)
		line_add(&line, "%s %s %.0f%%", stage == 0 ? ":" : ",", bw_stage_name[stage],
			100.0 * (double)(after->stage_cycles[stage] - before->stage_cycles[stage]) /
				(double)sum);
}

static void cycles_row(FILE *out, const char *name, uint64_t value, const char *what)
{
	fprintf(out, "  cycles.%-17s %14" PRIu64 "  %s\n", name, value, what);
}

void bw_stats_cycles(const struct bw_stats_sample *sample, FILE *out)
{
	uint64_t busy = busy_sum(sample), all = 0, packets = sample->counters.value[BW_RX_PACKETS];
	uint64_t sampled = stages_sum(sample);

	for (unsigned i = 0; i < sample->worker_count; i++)
		all += sample->cycles[i];
	cycles_row(out, "busy", busy, "of the TSC, in turns that found something to do");
	cycles_row(out, "idle", all - busy, "in turns that did not, and asleep");
	if (packets > 0)
		cycles_row(out, "per_packet", busy / packets, "busy, for each packet received");
	if (sample->requests > 0)
		cycles_row(out, "per_request", busy / sample->requests, "busy, for each request of services");
	for (unsigned stage = 0; stage < BW_STAGE_COUNT && sampled > 0; stage++) {
		double share = (double)sample->stage_cycles[stage] / (double)sampled;

		fprintf(out, "  cycles.%-17s %14.0f  %.1f %% of the busy ones", bw_stage_name[stage],
			share * (double)busy, 100 * share);
		if (sample->requests > 0)
			fprintf(out, ", %.0f a request", share * (double)busy / (double)sample->requests);
		fprintf(out, "\n");
	}
}

void bw_stats_table(const struct bw_counters *counters, FILE *out)
{
	for (unsigned c = 0; c < BW_COUNTER_COUNT; c++)
		if (counters->value[c] != 0)
			fprintf(out, "  %-24s %14" PRIu64 "  %s\n", bw_counter_name[c], counters->value[c],
				bw_counter_help[c]);
}

void bw_stats_services(char *lines, FILE *out)
{
	for (char *line = strsep(&lines, "\n"); line != NULL; line = strsep(&lines, "\n")) {
		char *value = strchr(line, ' ');

		if (value == NULL || strcmp(value, " 0") == 0)
			continue;
		*value++ = '\0';
		fprintf(out, "  %-24s %14s\n", line, value);
	}
}
