/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <base/log.h>

#include "load_report.h"

#define BAR_WIDTH 20

static const struct {
	double percent;
	const char *name, *key;
} percentiles[] = {
	{ 50, "p50", "p50" },
	{ 90, "p90", "p90" },
	{ 99, "p99", "p99" },
	{ 99.9, "p99.9", "p99_9" },
	{ 99.99, "p99.99", "p99_99" },
	{ 100, "max", "max" },
};

/* ---- figures ----------------------------------------------------------------------------------------------- */

void load_figures_since(struct bw_load_figures *now, const struct bw_load_figures *earlier)
{
	now->requests -= earlier->requests;
	now->responses -= earlier->responses;
	now->bytes_in -= earlier->bytes_in;
	now->bytes_out -= earlier->bytes_out;
	now->opened -= earlier->opened;
	now->misses -= earlier->misses;
	for (unsigned i = 0; i < BW_LOAD_ERRORS; i++)
		now->error[i] -= earlier->error[i];
	bw_hist_subtract(&now->latency, &earlier->latency);
}

uint64_t load_errors(const struct bw_load_figures *figures)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < BW_LOAD_ERRORS; i++)
		sum += figures->error[i];
	return sum;
}

bool load_report_add(
	struct load_report *report, double at, double seconds, const struct bw_load_figures *of_it)
{
	if (report->second_count == report->second_room) {
		unsigned room = report->second_room * 2 + 64;
		struct load_second *more = realloc(report->second, room * sizeof(*more));

		if (more == NULL)
			return false;
		report->second = more;
		report->second_room = room;
	}
	report->second[report->second_count++] = (struct load_second){
		.at = at,
		.seconds = seconds,
		.responses = of_it->responses,
		.bytes_in = of_it->bytes_in,
		.bytes_out = of_it->bytes_out,
		.errors = load_errors(of_it),
		.p50 = bw_hist_percentile(&of_it->latency, 50),
		.p90 = bw_hist_percentile(&of_it->latency, 90),
		.p99 = bw_hist_percentile(&of_it->latency, 99),
		.p999 = bw_hist_percentile(&of_it->latency, 99.9),
		.max = bw_hist_percentile(&of_it->latency, 100),
	};
	return true;
}

/* ---- text -------------------------------------------------------------------------------------------------- */

const char *load_rate_text(double rate, char out[LOAD_TEXT_BYTES])
{
	static const char *const prefixes[] = { "", " k", " M", " G", " T" };
	unsigned prefix = 0;

	while (rate >= 999.5 && prefix + 1 < BW_ARRAY_LEN(prefixes)) {
		rate /= 1000;
		prefix++;
	}
	snprintf(out, LOAD_TEXT_BYTES, "%.*f%s",
		rate < 9.995   ? 2
		: rate < 99.95 ? 1
			       : 0,
		rate, prefixes[prefix]);
	return out;
}

static const char *time_text(uint64_t ns, char out[LOAD_TEXT_BYTES])
{
	static const struct {
		double ns;
		const char *name;
	} units[] = { { 1e9, "s" }, { 1e6, "ms" }, { 1e3, "us" }, { 1, "ns" } };
	unsigned unit = 0;
	double value;

	if (ns == 0) { /* nothing was measured */
		snprintf(out, LOAD_TEXT_BYTES, "-");
		return out;
	}
	while (unit + 1 < BW_ARRAY_LEN(units) && (double)ns < units[unit].ns)
		unit++;
	value = (double)ns / units[unit].ns;
	snprintf(out, LOAD_TEXT_BYTES, "%.*f %s",
		value < 9.995   ? 2
		: value < 99.95 ? 1
				: 0,
		value, units[unit].name);
	return out;
}

double load_per_second(uint64_t count, double seconds)
{
	return seconds > 0 ? (double)count / seconds : 0;
}

void load_report_live(FILE *out, const struct load_second *second, double progress)
{
	char rate[LOAD_TEXT_BYTES], bits[LOAD_TEXT_BYTES], p50[LOAD_TEXT_BYTES], p99[LOAD_TEXT_BYTES],
		bar[BAR_WIDTH + 1];
	bool is_terminal = isatty(fileno(out));
	unsigned full = (unsigned)(BW_MIN(progress, 1.0) * BAR_WIDTH);

	for (unsigned i = 0; i < BAR_WIDTH; i++)
		bar[i] = i < full ? '#' : '.';
	bar[BAR_WIDTH] = '\0';
	if (is_terminal)
		fprintf(out, "\r[%s] ", bar);
	fprintf(out, "%5.1f s  %s requests/s  %sbit/s in  p50 %s  p99 %s", second->at,
		load_rate_text(load_per_second(second->responses, second->seconds), rate),
		load_rate_text(8 * load_per_second(second->bytes_in, second->seconds), bits),
		time_text(second->p50, p50), time_text(second->p99, p99));
	if (second->errors > 0)
		fprintf(out, "  %" PRIu64 " errors", second->errors);
	fputs(is_terminal ? "\033[K" : "\n", out);
	fflush(out);
}

static void errors_print(FILE *out, const struct bw_load_figures *figures)
{
	const char *separator = " ";

	fprintf(out, "  errors     ");
	if (load_errors(figures) == 0)
		fprintf(out, " none");
	for (unsigned i = 0; i < BW_LOAD_ERRORS; i++) {
		if (figures->error[i] == 0)
			continue;
		fprintf(out, "%s%" PRIu64 " %s", separator, figures->error[i], bw_load_error_name(i));
		separator = ", ";
	}
	fprintf(out, "\n");
}

void load_report_print(FILE *out, const struct load_report *report)
{
	const struct bw_load_figures *figures = &report->figures;
	char rate[LOAD_TEXT_BYTES], bits[LOAD_TEXT_BYTES];

	fprintf(out, "\n  requests    %" PRIu64 " answered in %.2f s: %s/s\n", figures->responses,
		report->seconds, load_rate_text(load_per_second(figures->responses, report->seconds), rate));
	fprintf(out, "  received    %" PRIu64 " bytes, %sbit/s\n", figures->bytes_in,
		load_rate_text(8 * load_per_second(figures->bytes_in, report->seconds), bits));
	fprintf(out, "  sent        %" PRIu64 " bytes, %sbit/s\n", figures->bytes_out,
		load_rate_text(8 * load_per_second(figures->bytes_out, report->seconds), bits));
	fprintf(out, "  latency    ");
	for (unsigned i = 0; i < BW_ARRAY_LEN(percentiles); i++) {
		char text[LOAD_TEXT_BYTES];

		fprintf(out, " %s %s%s", percentiles[i].name,
			time_text(bw_hist_percentile(&figures->latency, percentiles[i].percent), text),
			i + 1 < BW_ARRAY_LEN(percentiles) ? "," : "\n");
	}
	fprintf(out, "  connections %" PRIu64 " opened, %" PRIu64 " open at the end\n", figures->opened,
		figures->open + figures->idle_open);
	if (report->conf->idle > 0)
		fprintf(out,
			"  idle        %" PRIu64 " of %" PRIu64 " open, %" PRIu64 " answered at the end\n",
			figures->idle_open, report->conf->idle, figures->idle_answered);
	if (report->conf->protocol == BW_LOAD_RESP && figures->misses > 0)
		fprintf(out, "  misses      %" PRIu64 "\n", figures->misses);
	if (report->retransmissions > 0)
		fprintf(out, "  retransmitted %" PRIu64 " segments\n", report->retransmissions);
	errors_print(out, figures);
}

/* ---- files ------------------------------------------------------------------------------------------------- */

FILE *load_file_open(const char *flag, const char *path)
{
	FILE *out = strcmp(path, "-") == 0 ? stdout : fopen(path, "w");

	if (out == NULL)
		bw_error("%s %s: %s; give a file that can be written", flag, path, strerror(errno));
	return out;
}

int load_file_close(const char *flag, const char *path, FILE *out)
{
	bool is_bad = fflush(out) != 0 || ferror(out);

	if (out != stdout)
		is_bad |= fclose(out) != 0;
	if (is_bad)
		bw_error("%s %s: could not be written whole; look at the disk", flag, path);
	return is_bad ? -EIO : 0;
}

/* ---- JSON, CSV --------------------------------------------------------------------------------------------- */

void load_json_text(FILE *out, const char *text)
{
	putc('"', out);
	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < ' ')
			fprintf(out, "\\u%04x", c);
		else
			putc(c, out);
	}
	putc('"', out);
}

static void json_seconds(FILE *out, const struct load_report *report)
{
	fprintf(out, "  \"seconds\": [");
	for (unsigned i = 0; i < report->second_count; i++) {
		const struct load_second *s = &report->second[i];

		fprintf(out,
			"%s\n    {\"at\": %.3f, \"requests_per_s\": %.1f, \"bytes_in_per_s\": %.1f, \"bytes_out_per_s\": %.1f, "
			"\"errors\": %" PRIu64 ", \"p50_ns\": %" PRIu64 ", \"p90_ns\": %" PRIu64
			", \"p99_ns\": %" PRIu64 ", \"p99_9_ns\": %" PRIu64 ", \"max_ns\": %" PRIu64 "}",
			i > 0 ? "," : "", s->at, load_per_second(s->responses, s->seconds),
			load_per_second(s->bytes_in, s->seconds), load_per_second(s->bytes_out, s->seconds),
			s->errors, s->p50, s->p90, s->p99, s->p999, s->max);
	}
	fprintf(out, "%s]\n", report->second_count > 0 ? "\n  " : "");
}

void load_report_json(FILE *out, const struct load_report *report)
{
	const struct bw_load_figures *figures = &report->figures;
	const struct bw_load_conf *conf = report->conf;

	fprintf(out, "{\n  \"urls\": [");
	for (unsigned i = 0; i < report->url_count; i++) {
		fputs(i > 0 ? ", " : "", out);
		load_json_text(out, report->urls[i]);
	}
	fprintf(out,
		"],\n  \"workers\": %u,\n  \"connections\": %" PRIu64
		",\n  \"pipeline\": %u,\n  \"rate\": %.1f,\n"
		"  \"seconds_measured\": %.6f,\n  \"requests\": %" PRIu64 ",\n  \"responses\": %" PRIu64
		",\n  \"requests_per_s\": %.1f,\n"
		"  \"bytes_in\": %" PRIu64 ",\n  \"bytes_out\": %" PRIu64 ",\n  \"opened\": %" PRIu64
		",\n  \"open\": %" PRIu64 ",\n"
		"  \"idle_open\": %" PRIu64 ",\n  \"idle_answered\": %" PRIu64 ",\n  \"misses\": %" PRIu64
		",\n  \"retransmissions\": %" PRIu64 ",\n  \"errors\": {",
		report->workers, conf->connections, conf->depth, conf->rate, report->seconds,
		figures->requests, figures->responses, load_per_second(figures->responses, report->seconds),
		figures->bytes_in, figures->bytes_out, figures->opened, figures->open, figures->idle_open,
		figures->idle_answered, figures->misses, report->retransmissions);
	for (unsigned i = 0; i < BW_LOAD_ERRORS; i++)
		fprintf(out, "%s\"%s\": %" PRIu64, i > 0 ? ", " : "", bw_load_error_name(i),
			figures->error[i]);
	fprintf(out, "},\n  \"latency_ns\": {\"mean\": %.1f",
		figures->latency.count > 0 ? (double)figures->latency.sum / (double)figures->latency.count
					   : 0);
	for (unsigned i = 0; i < BW_ARRAY_LEN(percentiles); i++)
		fprintf(out, ", \"%s\": %" PRIu64, percentiles[i].key,
			bw_hist_percentile(&figures->latency, percentiles[i].percent));
	fprintf(out, "},\n");
	json_seconds(out, report);
	fprintf(out, "}\n");
}

void load_report_csv(FILE *out, const struct load_report *report)
{
	fprintf(out,
		"at_s,requests_per_s,bytes_in_per_s,bytes_out_per_s,errors,p50_ns,p90_ns,p99_ns,p99_9_ns,max_ns\n");
	for (unsigned i = 0; i < report->second_count; i++) {
		const struct load_second *s = &report->second[i];

		fprintf(out,
			"%.3f,%.1f,%.1f,%.1f,%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64
			",%" PRIu64 "\n",
			s->at, load_per_second(s->responses, s->seconds),
			load_per_second(s->bytes_in, s->seconds), load_per_second(s->bytes_out, s->seconds),
			s->errors, s->p50, s->p90, s->p99, s->p999, s->max);
	}
}

/* ---- plot -------------------------------------------------------------------------------------------------- */

/** Gnuplot's own quoting inside '...': a quote is doubled. */
static void quoted(FILE *out, const char *text)
{
	putc('\'', out);
	for (; *text != '\0'; text++) {
		if (*text == '\'')
			putc('\'', out);
		putc(*text, out);
	}
	putc('\'', out);
}

int load_report_plot(const char *path, const struct load_report *report)
{
	const struct bw_hist *latency = &report->figures.latency;
	FILE *gnuplot = popen("gnuplot 2>/dev/null", "w");
	int status;

	if (gnuplot == NULL) {
		bw_error("--plot: cannot start gnuplot: %s", strerror(errno));
		return -errno;
	}
	fprintf(gnuplot, "set terminal svg size 900,720 dynamic background rgb 'white'\nset output ");
	quoted(gnuplot, path);
	fprintf(gnuplot,
		"\nset multiplot layout 2,1\nset grid\nset key off\n"
		"set title 'Latency by percentile'\nset logscale x\nset logscale y\nset ylabel 'us'\n"
		"set xlabel 'percentile'\nset xrange [1:100000]\n"
		"set xtics ('0' 1, '90' 10, '99' 100, '99.9' 1000, '99.99' 10000, '99.999' 100000)\n"
		"plot '-' with lines linewidth 2 linecolor rgb '#1f5fa8'\n");
	/* The axis counts nines: x is 1 in so many requests that is slower. */
	for (double nines = 0; nines <= 5; nines += 0.05) {
		double slower = pow(10, nines);
		double percent = 100 * (1 - 1 / slower);

		fprintf(gnuplot, "%.6g %.6g\n", slower,
			(double)bw_hist_percentile(latency, percent) / 1000 + 1e-3);
	}
	fprintf(gnuplot,
		"e\nset title 'Requests per second'\nunset logscale\nset xrange [*:*]\nset yrange [0:*]\n"
		"set xtics auto\nset xlabel 's'\nset ylabel 'requests/s'\n"
		"plot '-' with linespoints pointtype 7 pointsize 0.4 linewidth 2 linecolor rgb '#1f5fa8'\n");
	for (unsigned i = 0; i < report->second_count; i++)
		fprintf(gnuplot, "%.3f %.1f\n", report->second[i].at,
			load_per_second(report->second[i].responses, report->second[i].seconds));
	if (report->second_count == 0)
		fprintf(gnuplot, "0 0\n");
	fprintf(gnuplot, "e\nunset multiplot\n");
	status = pclose(gnuplot);
	if (status == 0)
		return 0;
	bw_error("--plot %s: gnuplot failed; is it installed (gnuplot-nox), and may the file be written?",
		path);
	return -EIO;
}
