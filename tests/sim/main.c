/* SPDX-License-Identifier: BSD-3-Clause */
/** The command line: see usage(), and docs/simulation.md. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <base/log.h>

#include "sim.h"

static struct {
	const struct sim_profile *profile; /* NULL: all */
	uint64_t first, last, packets_max;
	double hours;
	const char *pcap;
	bool is_verbose, is_twice, is_goodput, is_printed;
} options;

static void usage(FILE *to)
{
	fprintf(to,
		"usage: sim [--profile NAME|all] [--seeds A..B] [--packets N] [--hours H] [--twice] [--pcap FILE] [--verbose]\n"
		"       sim --goodput[=print]\n\n"
		"  --seeds A..B   each of the profiles with each of these seeds (default 1..10)\n"
		"  --packets N    further seeds from A on until so many packets have arrived\n"
		"  --hours H      further seeds from A on, or from the clock's on, until the time is over\n"
		"  --twice        run each seed a second time: the packets must be the same\n"
		"  --pcap FILE    write the packets to a pcapng file\n"
		"  --verbose      a line a seed, and the engines' counters\n"
		"  --goodput      compare bulk throughput by loss and round trip with the table in goodput.c\n\n"
		"profiles:\n");
	for (unsigned i = 0; i < sim_profile_count; i++)
		fprintf(to, "  %-12s %s\n", sim_profiles[i].name, sim_profiles[i].what);
}

/** The process's own time, which the simulated clock has no part in. */
static double seconds(void)
{
	struct timespec ts;

	timespec_get(&ts, TIME_UTC);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* ---- failure --------------------------------------------------------------------------------------------- */

static char replay_file[96], replay_seeds[64];
static char *replay_argv[8];

/** What to run to see this seed again: prepared before, for a handler must not prepare anything. */
static void prepare_replay(void)
{
	snprintf(replay_file, sizeof(replay_file), "sim-%s-%lu.pcapng", sim.profile->name, sim.seed);
	snprintf(replay_seeds, sizeof(replay_seeds), "%lu..%lu", sim.seed, sim.seed);
	char *argv[] = { (char *)(uintptr_t)sim.self, (char *)(uintptr_t) "--profile",
		(char *)(uintptr_t)sim.profile->name, (char *)(uintptr_t) "--seeds", replay_seeds,
		(char *)(uintptr_t) "--pcap", replay_file, NULL };

	memcpy(replay_argv, argv, sizeof(argv));
}

/** Say how to see it again, and do so once for the packets' sake. */
static void tell_and_replay(void)
{
	if (sim.profile == NULL || replay_argv[0] == NULL)
		return;
	dprintf(STDERR_FILENO, "to see it again: %s --profile %s --seeds %s --pcap %s\n", sim.self,
		sim.profile->name, replay_seeds, replay_file);
	if (!sim.is_traced) {
		dprintf(STDERR_FILENO, "once more, for the packets:\n");
		execv("/proc/self/exe", replay_argv);
	}
}

static void on_signal(int signal)
{
	tell_and_replay();
	(void)raise(signal);
}

void sim_fail(const char *format, ...)
{
	va_list args;

	fflush(stdout);
	fprintf(stderr, "FAILED: %s, seed %lu, at %.6f s: ", sim.profile->name, sim.seed,
		(double)(sim.now - sim.began) / 1e9);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\n");
	sim_apps_close();
	tell_and_replay();
	_exit(1);
}

/* ---- seeds ----------------------------------------------------------------------------------------------- */

static uint64_t packets, hash, seeds_run, bytes;

static void run_one(const struct sim_profile *profile, uint64_t seed)
{
	unsigned done, ended;

	sim.profile = profile;
	sim.seed = seed;
	prepare_replay();
	sim_run(profile, seed);
	if (options.is_twice) {
		uint64_t first = sim.hash;

		sim_run(profile, seed);
		if (sim.hash != first)
			sim_fail("other packets than the first time");
	}
	packets += sim.packets;
	bytes += sim_apps_bytes();
	hash = sim_mix(hash ^ sim.hash);
	seeds_run++;
	sim_apps_counts(&done, &ended);
	if (options.is_verbose) {
		printf("%-12s %6lu  %8lu packets  %016lx  %4u jobs done, %3u ended  %6lu repeats  %.1f s\n",
			profile->name, seed, sim.packets, sim.hash, done, ended, sim_watch_repeats(),
			(double)(sim.now - sim.began) / 1e9);
		fflush(stdout);
	}
}

/** Every profile with this seed, or the one that was asked for. */
static void run_seed(uint64_t seed)
{
	for (unsigned i = 0; i < sim_profile_count; i++)
		if (options.profile == NULL || options.profile == &sim_profiles[i])
			run_one(&sim_profiles[i], seed);
}

/** What the engines have met with, and what they have not. */
static void print_counters(void)
{
	for (unsigned i = 0; i < BW_COUNTER_COUNT; i++)
		printf("%14lu %s\n", sim.counters.value[i], bw_counter_name[i]);
}

static void run_all(void)
{
	double began = seconds(), told = began;
	uint64_t seed;

	if (options.first == 0) { /* not given: for hours, seeds that nobody has seen */
		options.first = options.hours != 0 ? (uint64_t)began * 1000 : 1;
		options.last = 10;
	}
	seed = options.first;
	if (options.hours != 0) {
		for (; seconds() - began < options.hours * 3600; run_seed(seed++)) {
			if (seconds() - told < 60)
				continue;
			told = seconds();
			fprintf(stderr, "%.0f s: seeds %lu..%lu, %lu packets\n", told - began, options.first,
				seed - 1, packets);
		}
	} else if (options.packets_max != 0) {
		while (packets < options.packets_max)
			run_seed(seed++);
	} else {
		while (seed <= options.last)
			run_seed(seed++);
	}
	if (options.is_verbose)
		print_counters();
	printf("seeds %lu..%lu, profile %s: %lu packets, %lu bytes checked, hash %016lx\n", options.first,
		seed - 1, options.profile != NULL ? options.profile->name : "all", packets, bytes, hash);
	fprintf(stderr, "%.1f s, %.2f million packets a second\n", seconds() - began,
		(double)packets / 1e6 / (seconds() - began));
}

static int parse_seeds(const char *text)
{
	char *end;

	options.first = options.last = strtoull(text, &end, 10);
	if (end != text && end[0] == '.' && end[1] == '.')
		options.last = strtoull(end + 2, &end, 10);
	return *end == '\0' && options.first > 0 && options.first <= options.last ? 0 : -EINVAL;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "profile", required_argument, NULL, 'p' },
		{ "seeds", required_argument, NULL, 's' },
		{ "packets", required_argument, NULL, 'n' },
		{ "hours", required_argument, NULL, 'h' },
		{ "pcap", required_argument, NULL, 'c' },
		{ "twice", no_argument, NULL, 't' },
		{ "goodput", optional_argument, NULL, 'g' },
		{ "verbose", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, '?' },
		{ 0 },
	};
	int option, error = 0;

	sim.self = argv[0];
	while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (option) {
		case 'p':
			options.profile = sim_profile_find(optarg);
			error |= options.profile == NULL && strcmp(optarg, "all") != 0;
			break;
		case 's':
			error |= parse_seeds(optarg) != 0;
			break;
		case 'n':
			options.packets_max = strtoull(optarg, NULL, 10);
			break;
		case 'h':
			options.hours = strtod(optarg, NULL);
			break;
		case 'c':
			options.pcap = optarg;
			break;
		case 'g':
			options.is_goodput = true;
			options.is_printed = optarg != NULL;
			error |= optarg != NULL && strcmp(optarg, "print") != 0;
			break;
		case 't':
			options.is_twice = true;
			break;
		case 'v':
			options.is_verbose = true;
			break;
		default:
			error = 1;
		}
	}
	if (error || optind < argc) {
		usage(stderr);
		return 2;
	}
	if (options.pcap != NULL) {
		sim.is_traced = true;
		if (sim_pcapng_open(options.pcap) != 0) {
			fprintf(stderr, "sim: %s: %s\n", options.pcap, strerror(errno));
			return 2;
		}
	}
	bw_log_set_level(BW_LOG_ERROR);
	sim_apps_open();
	sim_hosts_open();
	signal(SIGABRT, on_signal);
	signal(SIGSEGV, on_signal);
	if (options.is_goodput)
		error = sim_goodput(options.is_printed);
	else
		run_all();
	sim_pcapng_close();
	sim_hosts_close();
	sim_apps_close();
	return error;
}
