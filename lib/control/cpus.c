/* SPDX-License-Identifier: BSD-3-Clause */
/** Which cores the workers are pinned to. */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/** "0,2-5" to a set: digits, '-' and ',' only, each CPU once. `order` NULL, or the CPUs as they were written. */
static bool list_parse(const char *text, cpu_set_t *set, unsigned *order, unsigned order_max, unsigned *count)
{
	CPU_ZERO(set);
	*count = 0;
	for (const char *at = text;; at++) {
		unsigned first, last;
		int used = 0;

		if (*at < '0' || *at > '9' || sscanf(at, "%4u%n", &first, &used) != 1)
			return false;
		at += used;
		last = first;
		if (*at == '-') {
			at++;
			if (*at < '0' || *at > '9' || sscanf(at, "%4u%n", &last, &used) != 1)
				return false;
			at += used;
		}
		if (last < first || last >= CPU_SETSIZE)
			return false;
		for (unsigned cpu = first; cpu <= last; cpu++) {
			if (CPU_ISSET(cpu, set))
				return false;
			CPU_SET(cpu, set);
			if (order != NULL && *count < order_max)
				order[*count] = cpu;
			++*count;
		}
		if (*at == '\0')
			return true;
		if (*at != ',')
			return false;
	}
}

/** What the scheduler keeps away from others' work (isolcpus=): made for workers, and outside our own affinity. */
static void isolated_read(cpu_set_t *set)
{
	FILE *file = fopen("/sys/devices/system/cpu/isolated", "re");
	char line[512] = "";
	unsigned count;

	CPU_ZERO(set);
	if (file == NULL)
		return;
	if (fgets(line, sizeof(line), file) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		if (!list_parse(line, set, NULL, 0, &count))
			CPU_ZERO(set);
	}
	fclose(file);
}

/** The isolated cores that the cpuset leaves us: the kernel takes the others out of a mask that it is given. */
static void isolated_keep_ours(cpu_set_t *isolated)
{
	cpu_set_t before;

	if (CPU_COUNT(isolated) == 0)
		return;
	if (sched_getaffinity(0, sizeof(before), &before) != 0) {
		CPU_ZERO(isolated);
		return;
	}
	if (sched_setaffinity(0, sizeof(*isolated), isolated) != 0 ||
		sched_getaffinity(0, sizeof(*isolated), isolated) != 0)
		CPU_ZERO(isolated);
	(void)sched_setaffinity(0, sizeof(before), &before);
}

/** Isolated cores first, then from the highest down, as the kernel gives CPU 0 most of its own work. */
static void choose(unsigned count, const cpu_set_t *isolated, const cpu_set_t *allowed, unsigned *cpus)
{
	unsigned chosen = 0;

	for (unsigned cpu = 0; cpu < CPU_SETSIZE && chosen < count; cpu++)
		if (CPU_ISSET(cpu, isolated))
			cpus[chosen++] = cpu;
	for (unsigned cpu = CPU_SETSIZE; cpu-- > 0 && chosen < count;)
		if (CPU_ISSET(cpu, allowed) && !CPU_ISSET(cpu, isolated))
			cpus[chosen++] = cpu;
}

static char *list_format(const unsigned *cpus, unsigned count)
{
	char text[BW_WORKERS_MAX * 5 + 1] = "";
	size_t used = 0;

	for (unsigned i = 0; i < count; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%u", i > 0 ? "," : "", cpus[i]);
	return strdup(text);
}

/** A flag beats the file also where the two say it with different keys. */
static void flag_over_file(struct bw_conf *conf)
{
	const struct bw_origin *workers = bw_control__origin(conf, "workers");
	const struct bw_origin *cpus = bw_control__origin(conf, "cpus");

	if (workers == NULL || cpus == NULL || (workers->flag == NULL) == (cpus->flag == NULL))
		return;
	if (workers->flag != NULL) {
		free(conf->raw->cpus);
		conf->raw->cpus = NULL;
		bw_control__origin_drop(conf, "cpus");
	} else {
		bw_control__origin_drop(conf, "workers");
	}
}

static int listed(struct bw_conf *conf, const cpu_set_t *allowed)
{
	struct bw_engine_conf *engine = &conf->view.engine;
	const char *text = conf->raw->cpus;
	bool has_workers = bw_control__origin(conf, "workers") != NULL;
	cpu_set_t set;
	unsigned count;

	if (!list_parse(text, &set, engine->cpus, BW_WORKERS_MAX, &count))
		return bw_control__fail(conf, "cpus",
			"'%.60s' is not a list of CPUs; give one such as 2,4-6, each once", text);
	if (count > BW_WORKERS_MAX)
		return bw_control__fail(conf, "cpus",
			"%u CPUs are more than the %u workers there can be; give fewer", count,
			BW_WORKERS_MAX);
	for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &set) && !CPU_ISSET(cpu, allowed))
			return bw_control__fail(conf, "cpus",
				"CPU %u is not there, or not for this process; lscpu -e and taskset -p $$ tell "
				"which are",
				cpu);
	if (has_workers && engine->worker_count != count)
		return bw_control__fail(conf, "workers",
			"%u workers on %u CPUs; leave it out, or list one CPU a worker", engine->worker_count,
			count);
	engine->worker_count = count;
	return 0;
}

int bw_control__cpus_apply(struct bw_conf *conf)
{
	struct bw_engine_conf *engine = &conf->view.engine;
	cpu_set_t allowed, isolated;
	unsigned allowed_count;
	char number[16];
	int error;

	isolated_read(&isolated);
	isolated_keep_ours(&isolated);
	if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
		CPU_ZERO(&allowed);
	CPU_OR(&allowed, &allowed, &isolated);
	allowed_count = (unsigned)CPU_COUNT(&allowed);

	flag_over_file(conf);
	if (conf->raw->cpus != NULL) {
		error = listed(conf, &allowed);
		if (error != 0)
			return error;
	} else {
		if (bw_control__origin(conf, "workers") == NULL)
			engine->worker_count = 1;
		if (engine->worker_count > allowed_count)
			return bw_control__fail(conf, "workers", "%u workers, but %u CPUs; give 1 to %u",
				engine->worker_count, allowed_count, allowed_count);
		choose(engine->worker_count, &isolated, &allowed, engine->cpus);
		conf->raw->cpus = list_format(engine->cpus, engine->worker_count);
	}
	snprintf(number, sizeof(number), "%u", engine->worker_count);
	free(conf->raw->workers);
	conf->raw->workers = strdup(number);
	return conf->raw->cpus != NULL && conf->raw->workers != NULL ? 0 : -ENOMEM;
}
