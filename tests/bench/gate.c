/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * How many instructions does a request take? For callgrind, which collects nothing but the worker's turns, not the
 * clients' doings. tests/bench/gate.py runs it and compares with what is recorded.
 *
 * The count is the same in every run, and on every machine with the same compiler: callgrind stands for one processor
 * whichever there is (of those with AVX2).
 *
 *     gate             every scenario, and a dump of each
 *     gate --stages    each once for every stage, and a dump of each "scenario.stage"
 */
#include <stdio.h>
#include <string.h>

#include <valgrind/callgrind.h>

#include "script.h"

/* ---- in place of lib/engine/cycles.c: every turn is looked into, and it is instructions that are told apart -- */

static bool is_by_stage, is_collecting, is_turn_counted;
static enum bw_stage wanted;

static void collect(bool does)
{
	if (does != is_collecting)
		CALLGRIND_TOGGLE_COLLECT;
	is_collecting = does;
}

void bw_cycles_start(struct bw_cycles *c)
{
	*c = (struct bw_cycles){ .stage = BW_STAGE_TURN };
}

void bw_cycles_turn_begin(struct bw_cycles *c, uint64_t tsc)
{
	(void)tsc;
	c->is_sampled = is_by_stage && is_turn_counted;
	if (c->is_sampled)
		collect(wanted == BW_STAGE_TURN);
}

void bw_cycles__charge(struct bw_cycles *c, enum bw_stage next, uint64_t tsc)
{
	(void)tsc;
	c->stage = (uint8_t)next;
	collect(next == wanted);
}

void bw_cycles_turn_end(struct bw_cycles *c, uint64_t tsc, bool had_work)
{
	(void)tsc;
	(void)had_work;
	c->stage = BW_STAGE_TURN;
	c->is_sampled = false;
	collect(false);
}

void script_turn(struct bw_worker *w, bool counts)
{
	is_turn_counted = counts;
	if (counts && !is_by_stage)
		collect(true);
	(void)bw_worker_step(w);
	collect(false);
}

/* ---- the command line ------------------------------------------------------------------------------------- */

static void count(const struct scenario *s, const char *dump)
{
	unsigned requests;

	CALLGRIND_ZERO_STATS;
	requests = script_run(s);
	CALLGRIND_DUMP_STATS_AT(dump);
	printf("%s %u %s\n", dump, requests, s->what);
}

int main(int argc, char **argv)
{
	is_by_stage = argc == 2 && strcmp(argv[1], "--stages") == 0;
	if (argc != 1 && !is_by_stage) {
		fprintf(stderr, "usage: gate [--stages], within valgrind --tool=callgrind\n");
		return 2;
	}
	if (script_open() != 0)
		return 1;
	script_start(is_by_stage);
	for (unsigned i = 0; i < script_count; i++) {
		for (unsigned stage = 0; is_by_stage && stage < BW_STAGE_COUNT; stage++) {
			char dump[64];

			wanted = (enum bw_stage)stage;
			snprintf(dump, sizeof(dump), "%s.%s", script[i].name, bw_stage_name[stage]);
			count(&script[i], dump);
		}
		if (!is_by_stage)
			count(&script[i], script[i].name);
	}
	script_stop();
	script_close();
	return 0;
}
