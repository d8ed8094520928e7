/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * How good is this machine today? Two of the same name differ by the factor of two, and what a packet costs is mostly
 * waiting for memory and for the other core. Figures in JSON, in less than three seconds:
 *
 *     tsc_hz          of the time stamp counter
 *     l1_ns           a dependent load where all is in the first cache: the core's own speed
 *     l3_ns           one among 8 MiB, in random order: between the second cache and memory
 *     memory_ns       one among 256 MiB, in random order; without hugepages the TLB's misses are in it
 *     core_to_core_ns a cache line from CPU 0 to CPU 1 and back
 *     paused_percent  of the time in which a CPU was not ours for 20 us and more at a time, although nothing else ran:
 *                     interrupts, and what else the host does with it
 *     pause_max_us    the longest of those
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <x86intrin.h>

#define LINE      64
#define ROUNDS    200
#define BUDGET_NS 200000000  /* for each figure: others may have the processors */
#define OVER      UINT32_MAX /* odd, and never reached */
#define PAUSE_NS  20000

static _Alignas(2 * LINE) atomic_uint ball;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void stay_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static double tsc_hz(void)
{
	uint64_t began_ns = now_ns(), began = __rdtsc();

	while (now_ns() - began_ns < 50000000)
		;
	return (double)(__rdtsc() - began) * 1e9 / (double)(now_ns() - began_ns);
}

/** Lines in one cycle in random order (Sattolo), each holding the next one's number; the best of some walks. */
static double load_ns(size_t bytes, unsigned steps)
{
	size_t lines = bytes / LINE;
	uint32_t *memory = aligned_alloc(LINE, bytes);
	double best = 1e9;
	uint32_t at = 0; /* each walk goes on where the one before has ended: its lines are in no cache */
	uint64_t end;

	for (size_t i = 0; i < lines; i++)
		memory[i * LINE / 4] = (uint32_t)i;
	srandom(1);
	for (size_t i = lines - 1; i > 0; i--) {
		size_t j = (size_t)random() % i;
		uint32_t swapped = memory[i * LINE / 4];

		memory[i * LINE / 4] = memory[j * LINE / 4];
		memory[j * LINE / 4] = swapped;
	}
	end = now_ns() + BUDGET_NS;
	do {
		uint64_t began = now_ns();
		volatile uint32_t kept;
		double ns;

		for (unsigned i = 0; i < steps; i++)
			at = memory[(size_t)at * LINE / 4];
		kept = at;
		(void)kept;
		ns = (double)(now_ns() - began) / steps;
		best = ns < best ? ns : best;
	} while (now_ns() < end);
	free(memory);
	return best;
}

static void *throw_back(void *arg)
{
	unsigned seen;

	(void)arg;
	stay_on(1);
	while ((seen = atomic_load_explicit(&ball, memory_order_acquire)) != OVER) {
		if (seen % 2 == 1)
			atomic_store_explicit(&ball, seen + 1, memory_order_release);
		else
			_mm_pause();
	}
	return NULL;
}

static double core_to_core_ns(void)
{
	uint64_t end = now_ns() + BUDGET_NS;
	double best = 1e9;
	unsigned at = 0;
	pthread_t other;

	if (pthread_create(&other, NULL, throw_back, NULL) != 0)
		return 0;
	do {
		uint64_t began = now_ns();
		double ns;

		for (unsigned i = 0; i < ROUNDS; i++, at += 2) {
			atomic_store_explicit(&ball, at + 1, memory_order_release);
			while (atomic_load_explicit(&ball, memory_order_acquire) != at + 2)
				_mm_pause();
		}
		ns = (double)(now_ns() - began) / ROUNDS;
		best = ns < best ? ns : best;
	} while (now_ns() < end);
	atomic_store(&ball, OVER);
	pthread_join(other, NULL);
	return best;
}

/** Looks at the clock all the time; whenever it does not, somebody else has the CPU. Adds to both. */
static void watch_pauses(int cpu, double *paused_ns, double *longest_ns)
{
	uint64_t last, end;

	stay_on(cpu);
	last = now_ns();
	end = last + 2 * BUDGET_NS;
	while (last < end) {
		uint64_t now = now_ns();

		if (now - last >= PAUSE_NS) {
			*paused_ns += (double)(now - last);
			*longest_ns = (double)(now - last) > *longest_ns ? (double)(now - last) : *longest_ns;
		}
		last = now;
	}
}

int main(void)
{
	double paused_ns = 0, longest_ns = 0;

	stay_on(0);
	printf("{\"tsc_hz\": %.0f, ", tsc_hz());
	printf("\"l1_ns\": %.2f, ", load_ns(16 << 10, 20000));
	printf("\"l3_ns\": %.1f, ", load_ns(8 << 20, 20000));
	printf("\"memory_ns\": %.1f, ", load_ns(256 << 20, 20000));
	printf("\"core_to_core_ns\": %.0f, ", core_to_core_ns());
	for (int cpu = 0; cpu < 2; cpu++)
		watch_pauses(cpu, &paused_ns, &longest_ns);
	printf("\"paused_percent\": %.2f, \"pause_max_us\": %.0f}\n", 100 * paused_ns / (4.0 * BUDGET_NS),
		longest_ns / 1000);
	return 0;
}
