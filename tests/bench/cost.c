/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Cycles a request, by stage; and what does it cost to count them so? The gate's script with it and without it in turns, so that whatever else
 * the machine does meets both; cycles of the TSC in the worker's turns.
 *
 *     cost ROUNDS
 */
#include <stdio.h>
#include <stdlib.h>

#include "script.h"

#define ROUNDS_MAX    1000
#define SCENARIOS_MAX 16
#define REPEATS       4

static uint64_t cycles;
static const struct bw_worker *worker;
static uint64_t stage_cycles[SCENARIOS_MAX][BW_STAGE_COUNT]; /* of all rounds */
static double figure[SCENARIOS_MAX][2][ROUNDS_MAX];

void script_turn(struct bw_worker *w, bool counts)
{
	uint64_t began = bw_clock_cycles();

	worker = w;
	w->turn_cycles = began; /* what the clients did meanwhile is not the turn's */
	(void)bw_worker_step(w);
	if (counts)
		cycles += bw_clock_cycles() - began;
}

static void measure(bool is_on, unsigned round)
{
	script_start(is_on);
	for (unsigned i = 0; i < script_count; i++) {
		struct bw_worker_stats before, after;
		uint64_t requests = 0;

		cycles = 0;
		bw_engine_worker_stats(worker->engine, 0, &before);
		for (unsigned repeat = 0; repeat < REPEATS; repeat++)
			requests += script_run(&script[i]);
		figure[i][is_on][round] = (double)cycles / (double)requests;
		bw_engine_worker_stats(worker->engine, 0, &after);
		for (unsigned stage = 0; stage < BW_STAGE_COUNT && is_on; stage++)
			stage_cycles[i][stage] += after.stage_cycles[stage] - before.stage_cycles[stage];
	}
	script_stop();
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/** The lowest decile: what it takes when others do not disturb it. */
static double undisturbed(double *of, unsigned rounds)
{
	qsort(of, rounds, sizeof(double), compare);
	return of[rounds / 10];
}

int main(int argc, char **argv)
{
	unsigned rounds = argc == 2 ? (unsigned)atoi(argv[1]) : 0;

	if (rounds == 0 || rounds > ROUNDS_MAX || script_count > SCENARIOS_MAX) {
		fprintf(stderr, "usage: cost ROUNDS, of which there are at most %u\n", ROUNDS_MAX);
		return 2;
	}
	if (script_open() != 0)
		return 1;
	for (unsigned round = 0; round < rounds; round++) {
		measure(round % 2, round);
		measure(!(round % 2), round);
	}
	printf("cycles a request without and with cycles by stage: the lowest deciles of %u rounds\n",
		rounds);
	for (unsigned i = 0; i < script_count; i++) {
		double off = undisturbed(figure[i][0], rounds), on = undisturbed(figure[i][1], rounds);

		printf("%-14s %9.0f %9.0f   %+.1f %%\n", script[i].name, off, on, 100 * on / off - 100);
	}
	printf("\nby stage, in %%, handshakes included:\n%-14s", "");
	for (unsigned stage = 0; stage < BW_STAGE_COUNT; stage++)
		printf("%9s", bw_stage_name[stage]);
	for (unsigned i = 0; i < script_count; i++) {
		uint64_t sum = 0;

		for (unsigned stage = 0; stage < BW_STAGE_COUNT; stage++)
			sum += stage_cycles[i][stage];
		printf("\n%-14s", script[i].name);
		for (unsigned stage = 0; stage < BW_STAGE_COUNT; stage++)
			printf("%9.1f", 100 * (double)stage_cycles[i][stage] / (double)sum);
	}
	printf("\n");
	script_close();
	return 0;
}
