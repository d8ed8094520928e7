/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * The access log. A worker takes an entry when a request's head is there, and hands it over when its response is in
 * the send queue, or will never be; a thread that all workers share makes lines of entries and writes them.
 *
 * Nothing here ever waits for the disk but that thread. Entries are of a fixed size and number, a worker's own, and
 * travel over one ring to the writer and over another back. Where the output does not take what comes, because it is
 * full, or a pipe whose reader hangs, they run out: then requests are counted as dropped instead of logged. The writer
 * is a thread of its own and not a job, because a write to a disk that hangs would take a helper thread for ever.
 */
#pragma once

#include <base/addr.h>
#include <base/types.h>
#include <service/http.h>

struct bw_http__log;
struct bw_http__log_source; /* a worker's */

#define BW_HTTP__LOG_ENTRY_BYTES 1024

enum bw_http__log_field {
	BW_HTTP__LOG_REQUEST, /* the request line */
	BW_HTTP__LOG_HOST,
	BW_HTTP__LOG_AGENT,
	BW_HTTP__LOG_REFERER,
	BW_HTTP__LOG_FIELDS,
};

/** What is known of a request. */
struct bw_http__log_entry {
	uint64_t body_bytes; /* of the response, queued so far: whoever sends them adds them */
	bw_ns began_at, duration_ns;
	int64_t wall_ns; /* when it ended, since 1970 */
	struct bw_ip remote;
	uint16_t status;
	uint16_t used;                     /* of text */
	uint8_t present, cut;              /* a bit a field */
	uint16_t len[BW_HTTP__LOG_FIELDS]; /* one behind the other in text */
	char text[BW_HTTP__LOG_ENTRY_BYTES - 62];
};
_Static_assert(sizeof(struct bw_http__log_entry) == BW_HTTP__LOG_ENTRY_BYTES, "no holes");

/** Open what conf->access_log names. 0, or -errno after one line that says what, where and what to do. */
int bw_http__log_open(const struct bw_http_conf *conf, struct bw_http__log **log);
/** Write what was handed over, wait for that a few seconds at most, and free everything. After the workers. */
void bw_http__log_close(struct bw_http__log *log);

/** For one worker, on it; the first starts the writer. It lives as long as the log. 0, or -errno after one line. */
int bw_http__log_attach(struct bw_http__log *log, struct bw_http__log_source **source);

/**
 * A request of which `head` is known: whole, or its beginning, or nothing. NULL: no entry is free, which is counted.
 * Context: the worker's core. No allocation, lock, clock read or system call, as with bw_http__log_end().
 */
struct bw_http__log_entry *bw_http__log_begin(struct bw_http__log_source *source, const struct bw_ip *remote,
	const uint8_t *head, uint32_t head_len, bw_ns began_at);
/** @wall_offset_ns  wall clock - `now` */
void bw_http__log_end(struct bw_http__log_source *source, struct bw_http__log_entry *entry, unsigned status,
	bw_ns now, int64_t wall_offset_ns);

struct bw_http__log_figures {
	uint64_t entries, dropped; /* of a worker */
	uint64_t write_errors;     /* of all */
};
void bw_http__log_figures(const struct bw_http__log_source *source, struct bw_http__log_figures *figures);

/* ---- pure: one entry to one line, for the writer and its tests ---- */

/** No line is longer: a byte of text is six of JSON. */
#define BW_HTTP__LOG_LINE_MAX (BW_HTTP__LOG_ENTRY_BYTES * 6 + 512)

/** Texts of one second. Zeroed to begin. */
struct bw_http__log_clock {
	int64_t second;
	bool is_valid;
	char combined[32]; /* 28/Nov/2026:23:59:50 +0000 */
	char iso[24];      /* 2026-11-28T23:59:50 */
};

/** Returns the line's bytes, with its line feed; not terminated. */
size_t bw_http__log_line(enum bw_http_log_format format, const struct bw_http__log_entry *entry,
	struct bw_http__log_clock *clock, char out[static BW_HTTP__LOG_LINE_MAX]);
