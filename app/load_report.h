/* SPDX-License-Identifier: BSD-3-Clause */
/** What `barewire load` says about a run, in every form. */
#pragma once

#include <stdio.h>

#include <service/load.h>

/** One line of the time series. */
struct load_second {
	double at; /* s since the measurement began, at its end */
	double seconds;
	uint64_t responses, bytes_in, bytes_out, errors;
	uint64_t p50, p90, p99, p999, max; /* ns */
};

struct load_report {
	const struct bw_load_conf *conf;
	const char *const *urls;
	unsigned url_count, workers;
	double seconds; /* that were measured */
	/* In the measured time; but `opened`, `open`, `idle_open`, `idle_answered` and errors are of the whole run. */
	struct bw_load_figures figures;
	uint64_t retransmissions;
	struct load_second *second;
	unsigned second_count, second_room;
};

#define LOAD_TEXT_BYTES 32
/** Three significant figures and the prefix of the SI. */
const char *load_rate_text(double rate, char out[LOAD_TEXT_BYTES]);
double load_per_second(uint64_t count, double seconds);
/** A string of JSON, quoted. */
void load_json_text(FILE *out, const char *text);
/** Open what a flag names, - being standard output. NULL after one line. */
FILE *load_file_open(const char *flag, const char *path);
/** 0, or -EIO after one line when not all of it could be written. */
int load_file_close(const char *flag, const char *path, FILE *out);

/** What happened between two looks, `earlier` included in `now`: into `now`. */
void load_figures_since(struct bw_load_figures *now, const struct bw_load_figures *earlier);
uint64_t load_errors(const struct bw_load_figures *figures);
/** Append a second. False: out of memory. */
bool load_report_add(
	struct load_report *report, double at, double seconds, const struct bw_load_figures *of_it);

/** The line of each second; on a terminal it replaces the one before, with a bar of how far we are (0 to 1). */
void load_report_live(FILE *out, const struct load_second *second, double progress);
void load_report_print(FILE *out, const struct load_report *report);
void load_report_json(FILE *out, const struct load_report *report);
void load_report_csv(FILE *out, const struct load_report *report);
/** Percentiles, and rate over time, as an SVG by gnuplot. 0 or -errno after one line. */
int load_report_plot(const char *path, const struct load_report *report);
