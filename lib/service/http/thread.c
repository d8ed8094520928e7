/* SPDX-License-Identifier: BSD-3-Clause */
#include "thread.h"

#include <sched.h>
#include <unistd.h>

/* The calling thread is bound to its CPU; where the process's first thread may run, this one may. */
int bw_http__thread_start(pthread_t *thread, void *(*main)(void *), void *arg)
{
	pthread_attr_t attr;
	cpu_set_t cpus;
	int error = pthread_attr_init(&attr);

	if (error != 0)
		return -error;
	if (sched_getaffinity(getpid(), sizeof(cpus), &cpus) == 0)
		pthread_attr_setaffinity_np(&attr, sizeof(cpus), &cpus);
	error = pthread_create(thread, &attr, main, arg);
	pthread_attr_destroy(&attr);
	return -error;
}
