/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Access log: see log.h for who does what.
 *
 * The writer looks a hundred times a second whether there is anything, and ten times as often while there is much, so
 * that no worker ever has to wake it. It keeps
 * what it has formatted until it is written: while a write fails it takes no more entries, and those that are
 * waiting are what will be written when the output recovers. Every write() is of whole lines, onto the end of the
 * file, so that several services may share one; only where the output itself takes a part, the rest follows.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <base/assert.h>
#include <base/log.h>

#include "log.h"
#include "thread.h"

#define LOOK_MS     10 /* the writer's nap */
#define BUSY_MS     1  /* and while whole bursts come */
#define AHEAD_LINES 4
#define CHECK_NS    BW_NS_PER_SEC /* whether the file is still the one that the path names */
#define RETRY_NS    BW_NS_PER_SEC /* after a write that failed */
#define COMPLAIN_NS (60 * BW_NS_PER_SEC)
#define LAST_MS     2000 /* at the end, for an output that takes nothing */
#define PATIENCE_MS 4000 /* and then for a write that does not come back at all */
#define OUT_BYTES   (256u << 10)
#define REQUEST_MAX 512 /* of a field's text: the others have a chance, too */
#define HOST_MAX    128
#define AGENT_MAX   256
#define REFERER_MAX 512
#define BURST       64
#define FILE_MODE   0640 /* addresses of people are in it */

/* ---- entries on their way ------------------------------------------------------------------------------------ */

/* One producer, one consumer, and room for every entry that there is: it is never full. */
struct ring {
	_Alignas(BW_CACHE_LINE) _Atomic uint32_t tail; /* the producer's */
	_Alignas(BW_CACHE_LINE) _Atomic uint32_t head; /* the consumer's */
	_Alignas(BW_CACHE_LINE) struct bw_http__log_entry **slots;
	uint32_t mask;
};

static int ring_init(struct ring *ring, uint32_t count)
{
	uint32_t slots = 1;

	while (slots < count)
		slots *= 2;
	ring->mask = slots - 1;
	ring->slots = calloc(slots, sizeof(*ring->slots));
	return ring->slots != NULL ? 0 : -ENOMEM;
}

static void ring_push(struct ring *ring, struct bw_http__log_entry *entry)
{
	uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);

	ring->slots[tail & ring->mask] = entry;
	atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
}

static uint32_t ring_pop(struct ring *ring, struct bw_http__log_entry **entries, uint32_t max)
{
	uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
	uint32_t count = BW_MIN(atomic_load_explicit(&ring->tail, memory_order_acquire) - head, max);

	for (uint32_t i = 0; i < count; i++)
		entries[i] = ring->slots[(head + i) & ring->mask];
	atomic_store_explicit(&ring->head, head + count, memory_order_release);
	return count;
}

struct bw_http__log_source {
	struct bw_http__log *log;
	struct bw_http__log_source *next;
	struct bw_http__log_entry *memory; /* touched only as it is needed */
	uint32_t memory_count, memory_used;
	struct bw_http__log_entry
		*free[BURST]; /* what came back last is taken first: it may be in the cache */
	uint32_t free_count;
	uint64_t entries, dropped;
	struct ring done, back;
};

struct bw_http__log {
	char *path;
	enum bw_http_log_format format;
	uint32_t entries_max;
	pthread_mutex_t mutex; /* over attaching */
	_Atomic(struct bw_http__log_source *) sources;
	pthread_t thread;
	bool has_thread;
	int stop_fd, stopped_fd;
	_Atomic uint64_t write_errors;
	/* -- the writer's -- */
	int fd;
	bool is_regular, is_socket;
	bool is_slow; /* what takes nothing now will when its reader has read */
	dev_t device;
	ino_t inode;
	int nap_ms;
	bw_ns check_at, retry_at, complain_at;
	off_t failed_size; /* of the file when a write failed; 0: none has */
	struct bw_http__log_clock clock;
	size_t out_at, out_len; /* of `out`: written, and there */
	char out[OUT_BYTES];
};

/* ---- on the worker ------------------------------------------------------------------------------------------- */

static struct bw_http__log_entry *entry_take(struct bw_http__log_source *source)
{
	struct bw_http__log_entry *entry;

	if (bw_unlikely(source->free_count == 0)) {
		source->free_count = ring_pop(&source->back, source->free, BURST);
		if (source->free_count == 0)
			return source->memory_used < source->memory_count
				       ? &source->memory[source->memory_used++]
				       : NULL;
	}
	entry = source->free[--source->free_count];
	/* The next one was the writer's last, and is in another core's cache. */
	if (source->free_count > 0)
		for (unsigned line = 0; line < AHEAD_LINES; line++)
			__builtin_prefetch(
				(char *)source->free[source->free_count - 1] + line * BW_CACHE_LINE, 1);
	return entry;
}

static void keep(struct bw_http__log_entry *entry, enum bw_http__log_field field, const uint8_t *text,
	uint32_t len, uint32_t len_max)
{
	uint32_t room = BW_MIN((uint32_t)sizeof(entry->text) - entry->used, len_max),
		 kept = BW_MIN(len, room);

	/* Of a field that is there twice, which is a 400 for Host, the first. */
	if (entry->present & 1u << field)
		return;
	entry->present |= (uint8_t)(1u << field);
	if (kept < len)
		entry->cut |= (uint8_t)(1u << field);
	memcpy(entry->text + entry->used, text, kept);
	entry->used = (uint16_t)(entry->used + kept);
	entry->len[field] = (uint16_t)kept;
}

/* `name` is in lower case, with its colon. */
static bool begins_with(const uint8_t *line, uint32_t len, const char *name, uint32_t name_len)
{
	if (len < name_len)
		return false;
	for (uint32_t i = 0; i < name_len; i++)
		if ((line[i] >= 'A' && line[i] <= 'Z' ? line[i] | 0x20 : line[i]) != (uint8_t)name[i])
			return false;
	return true;
}

/* The values that are logged, where they are in the head. */
struct found {
	const uint8_t *text[BW_HTTP__LOG_FIELDS];
	uint32_t len[BW_HTTP__LOG_FIELDS];
};

static void look_at(const uint8_t *line, uint32_t len, struct found *found)
{
	static const struct {
		const char *name;
		uint32_t len;
		enum bw_http__log_field field;
	} fields[] = {
		{ "host:", 5, BW_HTTP__LOG_HOST },
		{ "user-agent:", 11, BW_HTTP__LOG_AGENT },
		{ "referer:", 8, BW_HTTP__LOG_REFERER },
	};

	for (unsigned i = 0; i < BW_ARRAY_LEN(fields); i++) {
		enum bw_http__log_field field = fields[i].field;

		if ((line[0] | 0x20) != fields[i].name[0] || found->text[field] != NULL ||
			!begins_with(line, len, fields[i].name, fields[i].len))
			continue;
		line += fields[i].len;
		len -= fields[i].len;
		while (len > 0 && (line[0] == ' ' || line[0] == '\t')) {
			line++;
			len--;
		}
		while (len > 0 && (line[len - 1] == ' ' || line[len - 1] == '\t'))
			len--;
		found->text[field] = line;
		found->len[field] = len;
		return;
	}
}

static void read_head(struct bw_http__log_entry *entry, const uint8_t *head, uint32_t head_len)
{
	static const uint32_t len_max[] = {
		[BW_HTTP__LOG_REQUEST] = REQUEST_MAX,
		[BW_HTTP__LOG_HOST] = HOST_MAX,
		[BW_HTTP__LOG_AGENT] = AGENT_MAX,
		[BW_HTTP__LOG_REFERER] = REFERER_MAX,
	};
	struct found found = { .text = { head } };
	const uint8_t *end = head + head_len;
	bool is_first = true;

	while (head < end) {
		const uint8_t *line_end = memchr(head, '\n', (size_t)(end - head));
		const uint8_t *next = line_end != NULL ? line_end + 1 : end;
		uint32_t len;

		if (line_end == NULL)
			line_end = end;
		if (line_end > head && line_end[-1] == '\r')
			line_end--;
		len = (uint32_t)(line_end - head);
		if (is_first)
			found.len[BW_HTTP__LOG_REQUEST] = len;
		else if (len == 0)
			break;
		else
			look_at(head, len, &found);
		is_first = false;
		head = next;
	}
	for (unsigned i = 0; i < BW_HTTP__LOG_FIELDS; i++)
		if (found.text[i] != NULL)
			keep(entry, (enum bw_http__log_field)i, found.text[i], found.len[i], len_max[i]);
}

struct bw_http__log_entry *bw_http__log_begin(struct bw_http__log_source *source, const struct bw_ip *remote,
	const uint8_t *head, uint32_t head_len, bw_ns began_at)
{
	struct bw_http__log_entry *entry = entry_take(source);

	if (entry == NULL) {
		source->dropped++;
		return NULL;
	}
	entry->body_bytes = 0;
	entry->began_at = began_at;
	entry->remote = *remote;
	entry->used = 0;
	entry->present = entry->cut = 0;
	memset(entry->len, 0, sizeof(entry->len));
	if (head_len > 0)
		read_head(entry, head, head_len);
	return entry;
}

void bw_http__log_end(struct bw_http__log_source *source, struct bw_http__log_entry *entry, unsigned status,
	bw_ns now, int64_t wall_offset_ns)
{
	entry->status = (uint16_t)status;
	entry->duration_ns = now > entry->began_at ? now - entry->began_at : 0;
	entry->wall_ns = (int64_t)now + wall_offset_ns;
	source->entries++;
	ring_push(&source->done, entry);
}

void bw_http__log_figures(const struct bw_http__log_source *source, struct bw_http__log_figures *figures)
{
	figures->entries = source->entries;
	figures->dropped = source->dropped;
	figures->write_errors = atomic_load_explicit(&source->log->write_errors, memory_order_relaxed);
}

/* ---- an entry as a line -------------------------------------------------------------------------------------- */

static char *put_string(char *out, const char *text)
{
	size_t len = strlen(text);

	memcpy(out, text, len);
	return out + len;
}

static char *put_number(char *out, uint64_t number)
{
	char digits[20];
	size_t at = sizeof(digits);

	do
		digits[--at] = (char)('0' + number % 10);
	while ((number /= 10) > 0);
	memcpy(out, digits + at, sizeof(digits) - at);
	return out + sizeof(digits) - at;
}

/* With leading zeros. */
static char *put_digits(char *out, uint64_t number, unsigned count)
{
	for (unsigned i = count; i-- > 0; number /= 10)
		out[i] = (char)('0' + number % 10);
	return out + count;
}

/* What could end a line or a field, or drive a terminal, as \xXX: what nginx makes of it. */
static char *put_escaped(char *out, const char *text, size_t len)
{
	static const char hex[] = "0123456789ABCDEF";

	for (size_t i = 0; i < len; i++) {
		uint8_t c = (uint8_t)text[i];

		if (bw_likely(c >= 0x20 && c < 0x7f && c != '"' && c != '\\')) {
			*out++ = (char)c;
			continue;
		}
		*out++ = '\\';
		*out++ = 'x';
		*out++ = hex[c >> 4];
		*out++ = hex[c & 15];
	}
	return out;
}

/* Bytes of the UTF-8 character at `at` (RFC 3629 section 4), 0: it is none. */
static size_t utf8_len(const uint8_t *at, size_t left)
{
	uint8_t min = 0x80, max = 0xbf;
	size_t len;

	if (at[0] >= 0xc2 && at[0] <= 0xdf)
		len = 2;
	else if (at[0] >= 0xe0 && at[0] <= 0xef)
		len = 3;
	else if (at[0] >= 0xf0 && at[0] <= 0xf4)
		len = 4;
	else
		return 0;
	if (at[0] == 0xe0)
		min = 0xa0; /* else it would fit two bytes */
	else if (at[0] == 0xed)
		max = 0x9f; /* surrogates */
	else if (at[0] == 0xf0)
		min = 0x90;
	else if (at[0] == 0xf4)
		max = 0x8f; /* beyond U+10FFFF */
	if (left < len || at[1] < min || at[1] > max)
		return 0;
	for (size_t i = 2; i < len; i++)
		if (at[i] < 0x80 || at[i] > 0xbf)
			return 0;
	return len;
}

/* A JSON string (RFC 8259 section 7). A byte that is no part of UTF-8 is taken for the Latin-1 that headers once had. */
static char *put_json(char *out, const char *text, size_t len)
{
	static const char hex[] = "0123456789abcdef";
	const uint8_t *at = (const uint8_t *)text, *end = at + len;

	*out++ = '"';
	while (at < end) {
		size_t n = *at >= 0x80 ? utf8_len(at, (size_t)(end - at)) : 0;

		if (n > 0) {
			memcpy(out, at, n);
			out += n;
			at += n;
			continue;
		}
		if (*at < 0x20 || *at >= 0x7f) {
			out = put_string(out, "\\u00");
			*out++ = hex[*at >> 4];
			*out++ = hex[*at & 15];
		} else {
			if (*at == '"' || *at == '\\')
				*out++ = '\\';
			*out++ = (char)*at;
		}
		at++;
	}
	*out++ = '"';
	return out;
}

static void clock_set(struct bw_http__log_clock *clock, int64_t second)
{
	static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep",
		"Oct", "Nov", "Dec" };
	time_t at = (time_t)BW_MIN(BW_MAX(second, (int64_t)0), (int64_t)253402300799); /* the year 9999 */
	struct tm tm;
	char *out;

	gmtime_r(&at, &tm);
	out = put_digits(clock->combined, (unsigned)tm.tm_mday, 2);
	*out++ = '/';
	out = put_string(out, months[tm.tm_mon]);
	*out++ = '/';
	out = put_digits(out, (unsigned)tm.tm_year + 1900, 4);
	*out++ = ':';
	out = put_digits(out, (unsigned)tm.tm_hour, 2);
	*out++ = ':';
	out = put_digits(out, (unsigned)tm.tm_min, 2);
	*out++ = ':';
	out = put_digits(out, (unsigned)tm.tm_sec, 2);
	*put_string(out, " +0000") = '\0';

	out = put_digits(clock->iso, (unsigned)tm.tm_year + 1900, 4);
	*out++ = '-';
	out = put_digits(out, (unsigned)tm.tm_mon + 1, 2);
	*out++ = '-';
	out = put_digits(out, (unsigned)tm.tm_mday, 2);
	*out++ = 'T';
	out = put_digits(out, (unsigned)tm.tm_hour, 2);
	*out++ = ':';
	out = put_digits(out, (unsigned)tm.tm_min, 2);
	*out++ = ':';
	out = put_digits(out, (unsigned)tm.tm_sec, 2);
	*out = '\0';
	clock->second = second;
	clock->is_valid = true;
}

/* A field's text and length; false: it was not there. */
static bool field_of(
	const struct bw_http__log_entry *entry, enum bw_http__log_field field, const char **text, size_t *len)
{
	*text = entry->text;
	for (unsigned i = 0; i < field; i++)
		*text += entry->len[i];
	*len = entry->len[field];
	return (entry->present >> field & 1) != 0;
}

static char *put_combined_field(
	char *out, const struct bw_http__log_entry *entry, enum bw_http__log_field field)
{
	const char *text;
	size_t len;

	*out++ = '"';
	if (field_of(entry, field, &text, &len))
		out = put_escaped(out, text, len);
	else
		*out++ = '-';
	if (entry->cut >> field & 1)
		out = put_string(out, "...");
	*out++ = '"';
	return out;
}

static char *combined(
	const struct bw_http__log_entry *entry, const struct bw_http__log_clock *clock, char *out)
{
	char remote[BW_IP_STRLEN];

	out = put_string(out, bw_ip_format(&entry->remote, remote));
	out = put_string(out, " - - [");
	out = put_string(out, clock->combined);
	out = put_string(out, "] ");
	out = put_combined_field(out, entry, BW_HTTP__LOG_REQUEST);
	*out++ = ' ';
	out = put_number(out, entry->status);
	*out++ = ' ';
	out = put_number(out, entry->body_bytes);
	*out++ = ' ';
	out = put_combined_field(out, entry, BW_HTTP__LOG_REFERER);
	*out++ = ' ';
	return put_combined_field(out, entry, BW_HTTP__LOG_AGENT);
}

static char *put_json_field(
	char *out, const char *key, const struct bw_http__log_entry *entry, enum bw_http__log_field field)
{
	const char *text;
	size_t len;
	bool is_there = field_of(entry, field, &text, &len);

	out = put_string(out, key);
	return is_there ? put_json(out, text, len) : put_string(out, "null");
}

/* Method, target and protocol; where it is none of that, as it came. */
static char *put_json_request(char *out, const struct bw_http__log_entry *entry)
{
	const char *text, *first, *last, *end;
	size_t len;
	bool is_there = field_of(entry, BW_HTTP__LOG_REQUEST, &text, &len), has_protocol;

	first = is_there ? memchr(text, ' ', len) : NULL;
	if (first == NULL) {
		out = put_string(out, ",\"method\":null,\"target\":null,\"protocol\":null");
		return is_there ? put_json(put_string(out, ",\"request\":"), text, len) : out;
	}
	end = text + len;
	last = memrchr(text, ' ', len);
	/* Else it was cut off, or never there. */
	has_protocol = last != first && end - last > 6 && memcmp(last, " HTTP/", 6) == 0;
	if (!has_protocol)
		last = end;
	out = put_json(put_string(out, ",\"method\":"), text, (size_t)(first - text));
	out = put_json(put_string(out, ",\"target\":"), first + 1, (size_t)(last - first - 1));
	out = put_string(out, ",\"protocol\":");
	return has_protocol ? put_json(out, last + 1, (size_t)(end - last - 1)) : put_string(out, "null");
}

static char *json(const struct bw_http__log_entry *entry, const struct bw_http__log_clock *clock, char *out)
{
	uint64_t duration_us = entry->duration_ns / BW_NS_PER_US;
	char remote[BW_IP_STRLEN];

	out = put_string(out, "{\"time\":\"");
	out = put_string(out, clock->iso);
	*out++ = '.';
	out = put_digits(
		out, (uint64_t)(entry->wall_ns - clock->second * (int64_t)BW_NS_PER_SEC) / BW_NS_PER_MS, 3);
	out = put_string(out, "Z\",\"remote\":\"");
	out = put_string(out, bw_ip_format(&entry->remote, remote));
	*out++ = '"';
	out = put_json_request(out, entry);
	out = put_json_field(out, ",\"host\":", entry, BW_HTTP__LOG_HOST);
	out = put_string(out, ",\"status\":");
	out = put_number(out, entry->status);
	out = put_string(out, ",\"bytes\":");
	out = put_number(out, entry->body_bytes);
	out = put_string(out, ",\"duration\":");
	out = put_number(out, duration_us / 1000000);
	*out++ = '.';
	out = put_digits(out, duration_us % 1000000, 6);
	out = put_json_field(out, ",\"referer\":", entry, BW_HTTP__LOG_REFERER);
	out = put_json_field(out, ",\"agent\":", entry, BW_HTTP__LOG_AGENT);
	if (entry->cut != 0)
		out = put_string(out, ",\"truncated\":true");
	*out++ = '}';
	return out;
}

size_t bw_http__log_line(enum bw_http_log_format format, const struct bw_http__log_entry *entry,
	struct bw_http__log_clock *clock, char out[static BW_HTTP__LOG_LINE_MAX])
{
	int64_t second = entry->wall_ns / (int64_t)BW_NS_PER_SEC;
	char *end;

	if (!clock->is_valid || second != clock->second)
		clock_set(clock, second);
	end = format == BW_HTTP_LOG_JSON ? json(entry, clock, out) : combined(entry, clock, out);
	*end++ = '\n';
	BW_ASSERT_LE(end - out, BW_HTTP__LOG_LINE_MAX);
	return (size_t)(end - out);
}

/* ---- the file ------------------------------------------------------------------------------------------------ */

static bw_ns clock_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (bw_ns)ts.tv_sec * BW_NS_PER_SEC + (bw_ns)ts.tv_nsec;
}

/*
 * Without waiting for anybody: a pipe is opened for reading, too, so that it needs no reader, and one that goes away is
 * no error. Standard output is opened anew, for its O_NONBLOCK is shared with who started us; where it is a file, which
 * does not know that flag, it keeps its place in it. A descriptor or -errno.
 */
static int open_output(const char *path)
{
	int how = O_APPEND | O_NONBLOCK | O_CLOEXEC | O_NOCTTY, fd;
	struct stat st;

	if (strcmp(path, "-") == 0) {
		if (fstat(STDOUT_FILENO, &st) == 0 && (S_ISREG(st.st_mode) || S_ISSOCK(st.st_mode)))
			fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
		else
			fd = open("/proc/self/fd/1", O_WRONLY | how);
		return fd < 0 ? -errno : fd;
	}
	if (stat(path, &st) == 0 && S_ISFIFO(st.st_mode))
		fd = open(path, O_RDWR | how);
	else
		fd = open(path, O_WRONLY | O_CREAT | how, FILE_MODE);
	return fd < 0 ? -errno : fd;
}

static int output_use(struct bw_http__log *log, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0) {
		int error = errno;

		close(fd);
		return -error;
	}
	if (log->fd >= 0)
		close(log->fd);
	log->fd = fd;
	log->is_regular = S_ISREG(st.st_mode);
	log->is_socket = S_ISSOCK(st.st_mode);
	log->device = st.st_dev;
	log->inode = st.st_ino;
	log->failed_size = 0;
	return 0;
}

__attribute__((format(printf, 3, 4))) static void complain(
	struct bw_http__log *log, bw_ns now, const char *format, ...)
{
	char text[256];
	va_list args;

	if (now < log->complain_at)
		return;
	log->complain_at = now + COMPLAIN_NS;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	bw_warn("http: access log %s: %s", log->path, text);
}

/* A line of which the last output took only the beginning is written again, for another. */
static void rewind_line(struct bw_http__log *log)
{
	while (log->out_at > 0 && log->out[log->out_at - 1] != '\n')
		log->out_at--;
}

/* Somebody moved the file away, or removed it, to have another begun. */
static void follow_path(struct bw_http__log *log, bw_ns now)
{
	struct stat st;
	int rc;

	if (!log->is_regular || strcmp(log->path, "-") == 0)
		return;
	if (stat(log->path, &st) == 0 && st.st_dev == log->device && st.st_ino == log->inode)
		return;
	rc = open_output(log->path);
	if (rc >= 0)
		rc = output_use(log, rc);
	if (rc < 0) {
		complain(log, now, "cannot be opened again (%s); lines still go to the old file",
			strerror(-rc));
		return;
	}
	rewind_line(log);
	log->retry_at = 0;
}

/* ---- the writer ---------------------------------------------------------------------------------------------- */

/* Make lines of what was handed over, as far as there is room for them. True: there may be more. */
static bool fill(struct bw_http__log *log)
{
	struct bw_http__log_source *source = atomic_load_explicit(&log->sources, memory_order_acquire);

	for (; source != NULL; source = source->next) {
		struct bw_http__log_entry *entries[BURST];
		uint32_t count;

		do {
			uint32_t room = (uint32_t)((OUT_BYTES - log->out_len) / BW_HTTP__LOG_LINE_MAX);

			if (room == 0)
				return true;
			count = ring_pop(&source->done, entries, BW_MIN(room, (uint32_t)BURST));
			for (uint32_t i = 0; i < count; i++) {
				log->out_len += bw_http__log_line(
					log->format, entries[i], &log->clock, log->out + log->out_len);
				ring_push(&source->back, entries[i]);
			}
			if (count == BURST)
				log->nap_ms = BUSY_MS;
		} while (count > 0);
	}
	return false;
}

static void write_failed(struct bw_http__log *log, bw_ns now, int error)
{
	struct stat st;

	atomic_fetch_add_explicit(&log->write_errors, 1, memory_order_relaxed);
	log->retry_at = now + RETRY_NS;
	if (log->is_regular && fstat(log->fd, &st) == 0)
		log->failed_size = st.st_size;
	complain(log, now, "%s; requests are not logged until it can be written (log_dropped)",
		strerror(error));
}

/* True: all of it is written. */
static bool flush(struct bw_http__log *log, bw_ns now)
{
	struct stat st;

	/* Emptied since a write failed? Then a rest of a line would be the first of it. */
	if (log->failed_size > 0 && fstat(log->fd, &st) == 0 && st.st_size < log->failed_size)
		rewind_line(log);
	log->failed_size = 0;
	while (log->out_at < log->out_len) {
		const char *from = log->out + log->out_at;
		size_t len = log->out_len - log->out_at;
		ssize_t n = log->is_socket ? send(log->fd, from, len, MSG_DONTWAIT | MSG_NOSIGNAL)
					   : write(log->fd, from, len);

		if (n >= 0) {
			log->out_at += (size_t)n;
		} else if (errno != EINTR) {
			log->is_slow = errno == EAGAIN;
			if (!log->is_slow)
				write_failed(log, now, errno);
			return false;
		}
	}
	log->out_at = log->out_len = 0;
	return true;
}

/* True: nothing is left. */
static bool turn(struct bw_http__log *log, bw_ns now)
{
	log->nap_ms = LOOK_MS;
	bool has_more;

	do {
		has_more = fill(log);
		if (!flush(log, now))
			return false;
	} while (has_more);
	return true;
}

static void finish(struct bw_http__log *log)
{
	unsigned lines = 0;

	/* Once more for one that failed, and a while for one that is slow. */
	for (unsigned ms = 0; !turn(log, clock_now()) && ms < LAST_MS && log->is_slow; ms += LOOK_MS)
		poll(NULL, 0, LOOK_MS);
	for (size_t i = log->out_at; i < log->out_len; i++)
		lines += log->out[i] == '\n';
	for (struct bw_http__log_source *source = log->sources; source != NULL; source = source->next)
		lines += source->done.tail - source->done.head;
	if (lines > 0)
		bw_warn("http: access log %s: the last %u lines could not be written", log->path, lines);
}

static void *writer_main(void *arg)
{
	struct bw_http__log *log = arg;
	struct pollfd stop = { .fd = log->stop_fd, .events = POLLIN };

	pthread_setname_np(pthread_self(), "bw-log");
	while (poll(&stop, 1, log->nap_ms) <= 0) {
		bw_ns now = clock_now();

		if (now >= log->check_at) {
			follow_path(log, now);
			log->check_at = now + CHECK_NS;
		}
		if (now >= log->retry_at)
			turn(log, now);
	}
	finish(log);
	eventfd_write(log->stopped_fd, 1);
	return NULL;
}

static int writer_start(struct bw_http__log *log)
{
	int rc = bw_http__thread_start(&log->thread, writer_main, log);

	log->has_thread = rc == 0;
	return rc;
}

/* ---- from start to end --------------------------------------------------------------------------------------- */

static void log_free(struct bw_http__log *log)
{
	struct bw_http__log_source *source = log->sources;

	while (source != NULL) {
		struct bw_http__log_source *next = source->next;

		free(source->done.slots);
		free(source->back.slots);
		free(source->memory);
		free(source);
		source = next;
	}
	if (log->fd >= 0)
		close(log->fd);
	if (log->stop_fd >= 0)
		close(log->stop_fd);
	if (log->stopped_fd >= 0)
		close(log->stopped_fd);
	pthread_mutex_destroy(&log->mutex);
	free(log->path);
	free(log);
}

int bw_http__log_open(const struct bw_http_conf *conf, struct bw_http__log **out)
{
	struct bw_http__log *log = calloc(1, sizeof(*log));
	int rc;

	if (log == NULL) {
		bw_error("http: no memory for the access log");
		return -ENOMEM;
	}
	log->fd = -1;
	log->nap_ms = LOOK_MS;
	log->format = conf->access_log_format;
	log->entries_max =
		(uint32_t)BW_MIN(conf->access_log_bytes_max / BW_HTTP__LOG_ENTRY_BYTES, 1ull << 24);
	pthread_mutex_init(&log->mutex, NULL);
	log->stop_fd = eventfd(0, EFD_CLOEXEC);
	log->stopped_fd = eventfd(0, EFD_CLOEXEC);
	log->path = strdup(conf->access_log);
	if (log->path == NULL || log->stop_fd < 0 || log->stopped_fd < 0) {
		bw_error("http: no memory or descriptors for the access log");
		log_free(log);
		return -ENOMEM;
	}
	rc = open_output(log->path);
	if (rc >= 0)
		rc = output_use(log, rc);
	if (rc < 0) {
		bw_error("http: access_log %s: %s; give a file that can be written, or - for standard output",
			log->path, strerror(-rc));
		log_free(log);
		return rc;
	}
	*out = log;
	return 0;
}

void bw_http__log_close(struct bw_http__log *log)
{
	struct pollfd stopped = { .fd = log->stopped_fd, .events = POLLIN };

	if (log->has_thread) {
		eventfd_write(log->stop_fd, 1);
		if (poll(&stopped, 1, PATIENCE_MS) <= 0) {
			bw_warn("http: access log %s: the last lines could not be written, for a write hangs",
				log->path);
			return; /* all that the thread may still touch stays */
		}
		pthread_join(log->thread, NULL);
	}
	log_free(log);
}

int bw_http__log_attach(struct bw_http__log *log, struct bw_http__log_source **out)
{
	struct bw_http__log_source *source = aligned_alloc(BW_CACHE_LINE, sizeof(*source));
	int rc = -ENOMEM;

	if (source == NULL)
		goto fail;
	memset(source, 0, sizeof(*source));
	source->log = log;
	source->memory_count = log->entries_max;
	source->memory = calloc(source->memory_count, sizeof(*source->memory));
	if (source->memory == NULL || ring_init(&source->done, source->memory_count) < 0 ||
		ring_init(&source->back, source->memory_count) < 0)
		goto free_source;
	pthread_mutex_lock(&log->mutex);
	rc = log->has_thread ? 0 : writer_start(log);
	if (rc == 0) {
		source->next = log->sources;
		atomic_store_explicit(&log->sources, source, memory_order_release);
	}
	pthread_mutex_unlock(&log->mutex);
	if (rc == 0) {
		*out = source;
		return 0;
	}
free_source:
	free(source->done.slots);
	free(source->back.slots);
	free(source->memory);
	free(source);
fail:
	bw_error("http: cannot start the access log (%s); free memory, or lower access_log_buffer",
		strerror(-rc));
	return rc;
}
