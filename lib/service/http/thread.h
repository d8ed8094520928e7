/* SPDX-License-Identifier: BSD-3-Clause */
/** A thread beside the helpers, for what waits all the time or may hang for ever. */
#pragma once

#include <pthread.h>

/** 0 or -errno. From a worker: but not on its CPU. */
int bw_http__thread_start(pthread_t *thread, void *(*main)(void *), void *arg);
