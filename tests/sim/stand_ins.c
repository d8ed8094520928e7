/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * What the engine is linked with in place of the world's: the clock (these two functions come before the library's,
 * so that its lib/base/clock.c is never looked at), and by --wrap the C library's randomness and wall clock.
 */
#include <pthread.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <base/clock.h>

#include "sim.h"

#define WALL_BEGINS_S 1767225600 /* 2026-01-01 */

ssize_t __wrap_getrandom(void *out, size_t bytes, unsigned flags);
int __wrap_getentropy(void *out, size_t bytes);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ts);
int __wrap_pthread_clockjoin_np(
	pthread_t thread, void **result, clockid_t clock, const struct timespec *until);

void bw_clock_init(void) {}

bw_ns bw_clock_now(void)
{
	return sim.now;
}

ssize_t __wrap_getrandom(void *out, size_t bytes, unsigned flags)
{
	uint8_t *at = out;

	(void)flags;
	for (size_t i = 0; i < bytes; i++)
		at[i] = (uint8_t)sim_draw(&sim.random);
	return (ssize_t)bytes;
}

int __wrap_getentropy(void *out, size_t bytes)
{
	__wrap_getrandom(out, bytes, 0);
	return 0;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *ts)
{
	ts->tv_sec = (time_t)(sim.now / BW_NS_PER_SEC) + (clock == CLOCK_REALTIME ? WALL_BEGINS_S : 0);
	ts->tv_nsec = (long)(sim.now % BW_NS_PER_SEC);
	return 0;
}

/** A deadline by this clock lies in the past of a thread that is real. */
int __wrap_pthread_clockjoin_np(
	pthread_t thread, void **result, clockid_t clock, const struct timespec *until)
{
	(void)until;
	return pthread_join(thread, result);
}
