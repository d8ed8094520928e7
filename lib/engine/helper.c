/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Helper threads: where a service's slow work is done, off the poll cores. Jobs go out over one ring, which
 * all helpers share, and come home over the submitting worker's own. A worker has at most BW_JOBS_MAX jobs in
 * flight, and the way home holds as many, so finished work always has a place.
 */
#include <errno.h>

#include <base/log.h>

#include "worker.h"

int bw_job_submit(struct bw_context *ctx, struct bw_job *job)
{
	struct bw_worker *w = ctx->worker;
	struct bw_engine *engine = w->engine;

	job->ctx = ctx;
	if (w->jobs_in_flight >= BW_JOBS_MAX || rte_ring_mp_enqueue(engine->jobs, job) != 0)
		return -EBUSY;
	w->jobs_in_flight++;
	bw_count(&w->counters, BW_JOBS);
	/* The mutex is held only around sleeping: the poll core never waits for work that is being done. */
	pthread_mutex_lock(&engine->job_mutex);
	pthread_cond_signal(&engine->job_cond);
	pthread_mutex_unlock(&engine->job_mutex);
	return 0;
}

unsigned bw_jobs_deliver(struct bw_worker *w)
{
	struct bw_job *done[16];
	unsigned count;

	if (w->jobs_in_flight == 0)
		return 0;
	count = rte_ring_sc_dequeue_burst(w->jobs_done, (void **)done, BW_ARRAY_LEN(done), NULL);
	w->jobs_in_flight -= count;
	if (count == 0)
		return 0;
	bw_stage_enter(&w->cycles, BW_STAGE_SERVICE);
	for (unsigned i = 0; i < count; i++)
		done[i]->done(done[i]->ctx, done[i]);
	bw_stage_enter(&w->cycles, BW_STAGE_INBOX);
	return count;
}

static struct bw_job *next_job(struct bw_engine *engine)
{
	void *job = NULL;

	pthread_mutex_lock(&engine->job_mutex);
	while (rte_ring_mc_dequeue(engine->jobs, &job) != 0 && !engine->helpers_stop)
		pthread_cond_wait(&engine->job_cond, &engine->job_mutex);
	pthread_mutex_unlock(&engine->job_mutex);
	return job;
}

static void *helper_main(void *arg)
{
	struct bw_engine *engine = arg;
	struct bw_job *job;

	pthread_setname_np(pthread_self(), "bw-helper");
	while ((job = next_job(engine)) != NULL) {
		struct bw_worker *w = job->ctx->worker;

		job->work(job);
		BW_ASSERT_EQ(rte_ring_mp_enqueue(w->jobs_done, job), 0);
		bw_power_wake(w);
	}
	return NULL;
}

int bw_helpers_start(struct bw_engine *engine)
{
	char name[RTE_RING_NAMESIZE];

	snprintf(name, sizeof(name), "bw%u_jobs", engine->number);
	engine->jobs = rte_ring_create(
		name, rte_align32pow2(BW_JOBS_MAX * engine->worker_count + 1), SOCKET_ID_ANY, 0);
	if (engine->jobs == NULL) {
		bw_error("no memory for the job queue; give EAL more with -m or reserve hugepages");
		return -ENOMEM;
	}
	for (unsigned i = 0; i < engine->conf.helper_count; i++) {
		int error = pthread_create(&engine->helpers[i], NULL, helper_main, engine);

		if (error != 0) {
			bw_error("cannot start helper thread %u: %s", i, strerror(error));
			bw_helpers_stop(engine);
			return -error;
		}
		engine->helper_count++;
	}
	return 0;
}

void bw_helpers_stop(struct bw_engine *engine)
{
	pthread_mutex_lock(&engine->job_mutex);
	engine->helpers_stop = true;
	pthread_cond_broadcast(&engine->job_cond);
	pthread_mutex_unlock(&engine->job_mutex);
	for (unsigned i = 0; i < engine->helper_count; i++)
		pthread_join(engine->helpers[i], NULL);
	engine->helper_count = 0;
	rte_ring_free(engine->jobs);
	engine->jobs = NULL;
}
