/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * What does it cost to count cycles by stage? The gate's script with it and without it in turns, so that whatever else
 * the machine does meets both; cycles of the TSC in the worker's turns.
 *
 *     cost ROUNDS
 */
#include <stdio.h>
#include <stdlib.h>

#include "script.h"

#define ROUNDS_MAX    1000
#define SCENARIOS_MAX 16
#define REPEATS       20

static uint64_t cycles;
static double figure[SCENARIOS_MAX][2][ROUNDS_MAX], ratio[SCENARIOS_MAX][ROUNDS_MAX];

void script_turn(struct bw_worker *w, bool counts)
{
	uint64_t began = bw_clock_cycles();

	(void)bw_worker_step(w);
	if (counts)
		cycles += bw_clock_cycles() - began;
}

static void measure(bool is_on, unsigned round)
{
	script_start(is_on);
	for (unsigned i = 0; i < script_count; i++) {
		uint64_t requests = 0;

		cycles = 0;
		for (unsigned repeat = 0; repeat < REPEATS; repeat++)
			requests += script_run(&script[i]);
		figure[i][is_on][round] = (double)cycles / (double)requests;
	}
	script_stop();
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double quantile(double *of, unsigned rounds, unsigned quarters)
{
	qsort(of, rounds, sizeof(double), compare);
	return of[rounds * quarters / 4];
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
		for (unsigned i = 0; i < script_count; i++)
			ratio[i][round] = 100 * figure[i][1][round] / figure[i][0][round] - 100;
	}
	printf("cycles a request, medians of %u rounds, without and with cycles by stage; and of the rounds' differences,\n"
	       "with their quartiles\n",
		rounds);
	for (unsigned i = 0; i < script_count; i++)
		printf("%-14s %9.0f %9.0f   %+.1f %% (%+.1f to %+.1f)\n", script[i].name,
			quantile(figure[i][0], rounds, 2), quantile(figure[i][1], rounds, 2),
			quantile(ratio[i], rounds, 2), quantile(ratio[i], rounds, 1),
			quantile(ratio[i], rounds, 3));
	script_close();
	return 0;
}
