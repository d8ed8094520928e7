/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <control/stats.h>

static void nothing_happened(void **state)
{
	const struct bw_stats_sample before = { .at = 5, .worker_count = 1 };
	const struct bw_stats_sample after = { .at = 5 + 10 * BW_NS_PER_SEC, .worker_count = 1 };
	char line[BW_STATS_LINE_BYTES];

	bw_stats_format(&before, &after, line);
	assert_string_equal(line, "in 0 pps 0 bit/s, out 0 pps 0 bit/s, 0 conn/s, 0 open, busy 0%");
	/* Two samples of one moment: no division by zero. */
	bw_stats_format(&before, &before, line);
	assert_string_equal(line, "in 0 pps 0 bit/s, out 0 pps 0 bit/s, 0 conn/s, 0 open, busy 0%");
}

static void rates(void **state)
{
	struct bw_stats_sample before = {
		.at = 1000, .worker_count = 2, .requests = 100, .has_requests = true
	};
	struct bw_stats_sample after;
	char line[BW_STATS_LINE_BYTES];

	before.counters.value[BW_RX_PACKETS] = 7;
	before.counters.value[BW_DROP_ARP] = 1000000;
	before.busy_cycles[0] = 50;
	before.cycles[0] = 100;
	after = before;
	after.at += 10 * BW_NS_PER_SEC;
	after.open_connections = 256;
	after.requests += 11000000;
	after.counters.value[BW_RX_PACKETS] += 12345678;
	after.counters.value[BW_RX_BYTES] += 125000000;
	after.counters.value[BW_TX_PACKETS] += 9994;
	after.counters.value[BW_TX_BYTES] += 12500000000;
	after.counters.value[BW_TCP_ACCEPTED] += 45;
	after.counters.value[BW_TCP_RETRANSMITS] += 1;
	after.counters.value[BW_DROP_ARP] += 2;
	after.counters.value[BW_DROP_VLAN] += 40;
	after.counters.value[BW_DROP_RUNT] += 3;
	after.counters.value[BW_DROP_MTU] += 1;
	after.busy_cycles[0] += 45;
	after.cycles[0] += 100;
	after.busy_cycles[1] += 999;
	after.cycles[1] += 1000;
	bw_stats_format(&before, &after, line);
	assert_string_equal(line,
		"in 1.23 Mpps 100 Mbit/s, out 999 pps 10.0 Gbit/s, 4.5 conn/s, 256 open, "
		"1.10 Mreq/s, 0.1 rexmit/s, 4.6 drops/s (vlan 40, runt 3, arp 2), busy 45% 100%");
}

/** The longest line there can be is cut, not overrun. */
static void the_line_is_bounded(void **state)
{
	struct bw_stats_sample *before = calloc(1, sizeof(*before)), *after = calloc(1, sizeof(*after));
	char line[BW_STATS_LINE_BYTES + 1];

	assert_true(before != NULL && after != NULL);
	line[BW_STATS_LINE_BYTES] = 'x';
	after->at = 1;
	after->worker_count = BW_WORKERS_MAX;
	after->has_requests = true;
	after->requests = UINT64_MAX;
	for (unsigned c = 0; c < BW_COUNTER_COUNT; c++)
		after->counters.value[c] = UINT64_MAX / BW_COUNTER_COUNT;
	for (unsigned i = 0; i < BW_WORKERS_MAX; i++)
		after->busy_cycles[i] = after->cycles[i] = UINT64_MAX;
	bw_stats_format(before, after, line);
	assert_true(strlen(line) < BW_STATS_LINE_BYTES);
	assert_int_equal(line[BW_STATS_LINE_BYTES], 'x');
	free(before);
	free(after);
}

static void the_table_has_what_is_not_zero(void **state)
{
	struct bw_counters counters = { 0 };
	char *text = NULL;
	size_t bytes;
	FILE *out = open_memstream(&text, &bytes);

	assert_non_null(out);
	counters.value[BW_RX_PACKETS] = 12;
	counters.value[BW_DROP_ARP] = 3;
	bw_stats_table(&counters, out);
	fclose(out);
	assert_string_equal(text,
		"  rx.packets                           12  packets received from the device\n"
		"  drop.arp                              3  malformed or irrelevant ARP\n");
	free(text);
}

static void and_the_services_figures(void **state)
{
	char lines[] = "http.0.requests 12\nhttp.0.malformed 0\nresp.1.memory_policy lru\nhttp.1.requests 3";
	char *text = NULL;
	size_t bytes;
	FILE *out = open_memstream(&text, &bytes);

	assert_non_null(out);
	bw_stats_services(lines, out);
	fclose(out);
	assert_string_equal(text, "  http.0.requests                      12\n"
				  "  resp.1.memory_policy                lru\n"
				  "  http.1.requests                       3\n");
	free(text);
}

static void cycles_by_stage(void **state)
{
	struct bw_stats_sample before = { .at = 1, .worker_count = 1 }, after = before;
	char line[BW_STATS_LINE_BYTES], *text = NULL;
	size_t bytes;
	FILE *out;

	before.busy_cycles[0] = 500;
	before.stage_cycles[BW_STAGE_RX] = 500;
	before.requests = after.requests = 7;
	after.busy_cycles[0] = 2500;
	after.cycles[0] = 4000;
	after.counters.value[BW_RX_PACKETS] = 10;
	after.stage_cycles[BW_STAGE_RX] = 500;
	assert_false(bw_stats_has_stages(&before, &after));
	after.stage_cycles[BW_STAGE_RX] = 1000;
	after.stage_cycles[BW_STAGE_SERVICE] = 1500;
	assert_true(bw_stats_has_stages(&before, &after));
	bw_stats_format_cycles(&before, &after, line);
	assert_string_equal(line,
		"200 cycles/packet: turn 0%, rx 25%, parse 0%, lookup 0%, tcp 0%, service 75%, "
		"inbox 0%, timers 0%, egress 0%, tx 0%");
	after.requests = 11;
	bw_stats_format_cycles(&before, &after, line);
	assert_memory_equal(line, "200 cycles/packet, 500 cycles/request: turn 0%, rx 25%, ", 55);

	out = open_memstream(&text, &bytes);
	assert_non_null(out);
	bw_stats_cycles(&after, out);
	fclose(out);
	assert_non_null(strstr(text, "  cycles.busy                        2500  "));
	assert_non_null(strstr(text, "  cycles.idle                        1500  "));
	assert_non_null(strstr(text, "  cycles.per_packet                   250  "));
	assert_non_null(strstr(text, "  cycles.per_request                  227  "));
	assert_non_null(strstr(
		text, "  cycles.service                     1500  60.0 % of the busy ones, 136 a request\n"));
	free(text);

	/* Nobody counts stages, and nothing came. */
	memset(&after, 0, sizeof(after));
	out = open_memstream(&text, &bytes);
	bw_stats_cycles(&after, out);
	fclose(out);
	assert_null(strstr(text, "rx"));
	assert_null(strstr(text, "per_"));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_happened),
		cmocka_unit_test(rates),
		cmocka_unit_test(the_line_is_bounded),
		cmocka_unit_test(the_table_has_what_is_not_zero),
		cmocka_unit_test(and_the_services_figures),
		cmocka_unit_test(cycles_by_stage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
