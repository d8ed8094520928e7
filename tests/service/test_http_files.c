/* SPDX-License-Identifier: BSD-3-Clause */
/* The HTTP service's file cache: what changes on disk, what does not fit, who shares what, and its set-up. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cmocka.h>

#include <base/log.h>
#include <service/http.h>

#include "fake_stream.h"
#include "http/files.h"

#define MS(n)  ((n)*BW_NS_PER_MS)
#define SEC(n) ((n)*BW_NS_PER_SEC)
#define MIB    (1024 * 1024)

static char root[64];
static struct bw_http_conf conf;
static struct fake *f;

static const char *in_root(const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/%s", root, name);
	return path;
}

/* Past the tick of the file system's clock in which another change would look the same: such a file is read twice. */
static void wait_a_tick(void)
{
	usleep(25000);
}

/* Replaced as editors do it: written beside and renamed, so that nobody sees half of it. */
static void write_file(const char *name, const char *text)
{
	char temporary[512];
	FILE *file;

	strcpy(temporary, in_root(".new"));
	file = fopen(temporary, "w");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	fclose(file);
	assert_int_equal(rename(temporary, in_root(name)), 0);
	wait_a_tick();
}

static void write_big(const char *name, size_t bytes, char fill)
{
	char *data = malloc(bytes);
	FILE *file = fopen(in_root(name), "w");

	assert_non_null(data);
	assert_non_null(file);
	memset(data, fill, bytes);
	assert_int_equal(fwrite(data, 1, bytes, file), bytes);
	fclose(file);
	free(data);
	wait_a_tick();
}

static unsigned fstats_until_hook; /* 0: none */
static void (*hook)(void);

/*
 * In the place of the C library's: the clock of every file system ticks each 10 ms at most, which is what kernels
 * before 6.13 have, and later ones on some file systems.
 */
int fstat(int fd, struct stat *st)
{
	int rc = fstatat(fd, "", st, AT_EMPTY_PATH);

	if (fstats_until_hook > 0 && --fstats_until_hook == 0)
		hook();
	st->st_mtim.tv_nsec -= st->st_mtim.tv_nsec % 10000000;
	st->st_ctim.tv_nsec -= st->st_ctim.tv_nsec % 10000000;
	return rc;
}

/* In place, and at once. */
static void overwrite(const char *name, const char *text)
{
	int fd = open(in_root(name), O_WRONLY | O_CREAT, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void site_init(uint64_t cache_bytes_max)
{
	bw_http_conf_init(&conf);
	conf.site.root = root;
	conf.cache_bytes_max = cache_bytes_max;
	conf.cache_file_bytes_max = cache_bytes_max; /* what fits is held */
	conf.watches_max = 0;                        /* a change is found by looking; told ones are below */
}

static void site_start(unsigned workers)
{
	assert_int_equal(bw_http_conf_prepare(&conf), 0);
	f = fake_create(&bw_http_service, &conf, workers);
}

static void site_open(uint64_t cache_bytes_max, unsigned workers)
{
	site_init(cache_bytes_max);
	site_start(workers);
}

static void site_close(void)
{
	fake_destroy(f);
	bw_http_conf_release(&conf);
}

static void ask(struct bw_stream *s, const char *path)
{
	char request[8192];

	fake_output_clear(s);
	snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", path);
	fake_feed(s, request, strlen(request));
}

/* 0 while there is no answer. */
static unsigned status_of(struct bw_stream *s)
{
	unsigned status = 0;

	sscanf(fake_output(s, NULL), "HTTP/1.1 %u ", &status);
	return status;
}

static const char *body_of(struct bw_stream *s)
{
	const char *end = strstr(fake_output(s, NULL), "\r\n\r\n");

	assert_non_null(end);
	return end + 4;
}

/* How many bytes of the body, from its first, are of this set: all of them, if it is right. */
static size_t span(struct bw_stream *s, const char *set)
{
	size_t len, at;
	const char *out = fake_output(s, &len), *body = body_of(s);

	for (at = (size_t)(body - out); at < len && strchr(set, out[at]) != NULL; at++)
		;
	assert_int_equal(at, len);
	return at - (size_t)(body - out);
}

static const char *get(struct bw_stream *s, const char *path)
{
	ask(s, path);
	if (status_of(s) == 0)
		fake_advance(f, MS(100)); /* it waits for room, which workers make in their ticks */
	return body_of(s);
}

static unsigned long long figure(unsigned worker, const char *name)
{
	char pattern[64];
	const char *at;

	snprintf(pattern, sizeof(pattern), "%s ", name);
	for (at = fake_stats(f, worker); strncmp(at, pattern, strlen(pattern)) != 0; at++) {
		at = strchr(at, '\n');
		assert_non_null(at);
	}
	return strtoull(at + strlen(pattern), NULL, 10);
}

static void a_hit_asks_nobody(void **state)
{
	struct bw_stream *s;

	write_file("a", "one");
	site_open(MIB, 1);
	s = fake_open(f, 0);
	assert_string_equal(get(s, "/a"), "one");
	fake_hold_jobs(f, true);
	for (int i = 0; i < 9; i++) {
		assert_string_equal(get(s, "/a"), "one");
		fake_advance(f, MS(100));
	}
	assert_int_equal(fake_jobs_waiting(f), 0);
	assert_int_equal(figure(0, "cache_loads"), 1);
	assert_int_equal(figure(0, "cache_hits"), 9);
	fake_hold_jobs(f, false);
	site_close();
}

static void a_changed_file_replaces_the_old_one(void **state)
{
	struct bw_stream *s;

	write_file("a", "one");
	site_open(MIB, 1);
	s = fake_open(f, 0);
	assert_string_equal(get(s, "/a"), "one");
	write_file("a", "two");
	assert_string_equal(get(s, "/a"), "one"); /* young enough to be trusted */
	fake_advance(f, MS(1500));
	assert_string_equal(get(s, "/a"), "one"); /* given while a helper looks */
	assert_string_equal(get(s, "/a"), "two");
	/* Older than that, the answer waits for the look: an hour-old page is never shown first. */
	write_file("a", "three");
	fake_advance(f, SEC(50));
	assert_string_equal(get(s, "/a"), "three");
	assert_int_equal(figure(0, "cache_loads"), 3);
	/* Unchanged, it is only looked at. */
	fake_advance(f, SEC(50));
	assert_string_equal(get(s, "/a"), "three");
	assert_int_equal(figure(0, "cache_loads"), 3);
	/* Gone. */
	assert_int_equal(unlink(in_root("a")), 0);
	fake_advance(f, SEC(5));
	ask(s, "/a");
	assert_int_equal(status_of(s), 404);
	assert_int_equal(figure(0, "cache_entries"), 0);
	site_close();
}

static void the_same_size_and_second_are_told_apart(void **state)
{
	struct bw_stream *s;
	char first[64];

	write_file("a", "one");
	site_open(MIB, 1);
	s = fake_open(f, 0);
	get(s, "/a");
	memcpy(first, strstr(fake_output(s, NULL), "ETag: "), 24);
	write_file("a", "eno");
	fake_advance(f, SEC(5));
	assert_string_equal(get(s, "/a"), "eno");
	assert_memory_not_equal(first, strstr(fake_output(s, NULL), "ETag: "), 24);
	/* The same content is the same tag, whenever it was written. */
	write_file("a", "one");
	fake_advance(f, SEC(5));
	get(s, "/a");
	assert_memory_equal(first, strstr(fake_output(s, NULL), "ETag: "), 24);
	site_close();
}

/* Same file, same size, same times: only the bytes tell. */
static void a_change_within_a_tick_of_the_clock_is_seen(void **state)
{
	struct bw_stream *s;
	char name[16], path[17];

	site_open(MIB, 1);
	s = fake_open(f, 0);
	for (unsigned i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "tick%u", i);
		snprintf(path, sizeof(path), "/%s", name);
		overwrite(name, "one");
		assert_string_equal(get(s, path), "one");
		overwrite(name, "two");
		fake_advance(f, SEC(5));
		assert_string_equal(get(s, path), "two");
	}
	wait_a_tick();
	fake_advance(f, SEC(5));
	for (unsigned round = 0; round < 2; round++)
		for (unsigned i = 0; i < 20; i++) {
			snprintf(path, sizeof(path), "/tick%u", i);
			assert_string_equal(get(s, path), "two");
			fake_advance(f, SEC(round == 0 ? 0 : 5));
		}
	/* And then it is at rest: looked at, and not read again. */
	unsigned long long loads = figure(0, "cache_loads");

	for (unsigned i = 0; i < 20; i++) {
		fake_advance(f, SEC(5));
		get(s, path);
	}
	assert_int_equal(figure(0, "cache_loads"), loads);
	site_close();
}

/* Two versions of a large file of the same size and time, as rsync and cp -p leave them. */
static void a_large_file_has_a_strong_tag_too(void **state)
{
	static const struct timespec times[2] = { { .tv_sec = 1000000 }, { .tv_sec = 1000000 } };
	char tags[4][64];
	struct bw_stream *s;

	site_open(16 * MIB, 1);
	s = fake_open(f, 0);
	for (unsigned i = 0; i < 4; i++) {
		write_big("big", 2 * MIB, (char)('a' + i / 2));
		assert_int_equal(utimensat(AT_FDCWD, in_root("big"), times, 0), 0);
		/* Once right away, once a while later. */
		if (i % 2)
			wait_a_tick();
		fake_advance(f, SEC(5));
		get(s, "/big");
		assert_int_equal(span(s, i < 2 ? "a" : "b"), 2 * MIB);
		memcpy(tags[i], strstr(fake_output(s, NULL), "ETag: "), 24);
	}
	for (unsigned i = 0; i < 2; i++)
		for (unsigned j = 2; j < 4; j++)
			assert_memory_not_equal(tags[i], tags[j], 24);
	site_close();
}

static void a_refusal_is_remembered_for_a_second(void **state)
{
	struct bw_stream *s;

	unlink(in_root("late"));
	site_open(MIB, 1);
	s = fake_open(f, 0);
	ask(s, "/late");
	assert_int_equal(status_of(s), 404);
	assert_true(figure(0, "cache_negative_bytes") > 0);
	write_file("late", "here");
	fake_hold_jobs(f, true);
	ask(s, "/late");
	assert_int_equal(status_of(s), 404);
	fake_hold_jobs(f, false);
	fake_advance(f, MS(1100));
	assert_string_equal(get(s, "/late"), "here");
	/* Those that nobody asks for again are forgotten too. */
	ask(s, "/never");
	fake_advance(f, SEC(10));
	assert_int_equal(figure(0, "cache_negative_bytes"), 0);
	assert_int_equal(figure(0, "cache_paths"), 1);
	site_close();
}

static void a_flood_of_unknown_paths_stays_within_its_bound(void **state)
{
	struct bw_stream *s;

	site_open(MIB, 1);
	s = fake_open(f, 0);
	for (int i = 0; i < 2000; i++) {
		char path[1100] = "/";

		memset(path + 1, 'x', 1000);
		sprintf(path + 1000, "%d", i);
		ask(s, path);
		assert_int_equal(status_of(s), 404);
	}
	assert_true(figure(0, "cache_negative_bytes") <= MIB / 16 + 65536);
	site_close();
}

static void the_old_content_lives_until_its_last_reader_is_done(void **state)
{
	struct bw_stream *slow, *s;

	write_big("big", 200000, 'A');
	site_open(MIB, 1);
	slow = fake_open(f, 0);
	s = fake_open(f, 0);
	fake_set_space(slow, 50000);
	fake_set_auto_ack(slow, false);
	ask(slow, "/big");
	/* Truncated in place under our feet, then replaced. */
	assert_int_equal(truncate(in_root("big"), 10), 0);
	write_big("big", 200000, 'B');
	fake_advance(f, SEC(5));
	get(s, "/big");
	assert_int_equal(span(s, "B"), 200000);
	while (fake_ack(slow, 20000) > 0)
		;
	assert_int_equal(span(slow, "A"), 200000);
	fake_advance(f, SEC(1));
	assert_true(figure(0, "cache_bytes") < 220000); /* the old one was buried */
	site_close();
}

static void the_least_recently_used_makes_room(void **state)
{
	struct bw_stream *s;
	char path[16];

	for (int i = 0; i < 12; i++) {
		sprintf(path, "f%d", i);
		write_big(path, 100000, (char)('a' + i));
	}
	site_open(MIB, 1);
	s = fake_open(f, 0);
	for (int i = 0; i < 9; i++) {
		sprintf(path, "/f%d", i);
		assert_int_equal(get(s, path)[0], 'a' + i);
	}
	assert_int_equal(figure(0, "cache_evictions"), 0);
	fake_advance(f, MS(1500));
	get(s, "/f0"); /* used again, and noticed because it is old enough to be checked */
	for (int i = 9; i < 12; i++) {
		sprintf(path, "/f%d", i);
		assert_int_equal(get(s, path)[0], 'a' + i);
		fake_advance(f, MS(20));
		assert_true(figure(0, "cache_bytes") <= MIB);
	}
	assert_int_equal(figure(0, "cache_evictions"), 3); /* as many as had to go, and no more */
	assert_int_equal(figure(0, "cache_loads"), 12);
	get(s, "/f0");
	assert_int_equal(figure(0, "cache_loads"), 12);
	get(s, "/f1");
	assert_int_equal(figure(0, "cache_loads"), 13);
	site_close();
}

/* A file in which every byte tells where it is. */
static void write_streamed(const char *name, size_t bytes)
{
	FILE *file = fopen(in_root(name), "w");

	assert_non_null(file);
	for (size_t at = 0; at < bytes; at++)
		fputc((int)(at * 7 + at / 251 + at / 65536) & 255, file);
	fclose(file);
	wait_a_tick();
}

static uint8_t streamed_byte(size_t at)
{
	return (uint8_t)(at * 7 + at / 251 + at / 65536);
}

/* Is the output one response with this status, whose body are these bytes of the file? Whole, or only begun. */
static void expect_streamed(struct bw_stream *s, unsigned status, size_t from, size_t bytes, bool whole)
{
	size_t len, body_len;
	const char *out = fake_output(s, &len), *body = body_of(s);

	assert_int_equal(status_of(s), status);
	body_len = len - (size_t)(body - out);
	if (whole)
		assert_int_equal(body_len, bytes);
	else
		assert_true(body_len < bytes);
	for (size_t i = 0; i < body_len; i++)
		if ((uint8_t)body[i] != streamed_byte(from + i))
			fail_msg("byte %zu is wrong", from + i);
}

static void stream_open(void)
{
	site_init(2 * MIB);
	conf.cache_file_bytes_max = 4096;
	site_start(1);
}

static void ask_range(struct bw_stream *s, const char *path, const char *fields)
{
	char request[512];

	fake_output_clear(s);
	snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: h\r\n%s\r\n", path, fields);
	fake_feed(s, request, strlen(request));
}

#define STREAMED (3 * MIB + 12345)

static void a_large_file_is_read_while_it_is_sent(void **state)
{
	struct bw_stream *s;

	write_streamed("big", STREAMED);
	write_streamed("edge", 4096);
	write_streamed("above", 4097);
	stream_open();
	s = fake_open(f, 0);
	ask(s, "/big");
	expect_streamed(s, 200, 0, STREAMED, true);
	assert_int_equal(figure(0, "file_reads"), 25);
	assert_true(figure(0, "cache_bytes") < 20000); /* none of it */
	ask(s, "/edge");
	expect_streamed(s, 200, 0, 4096, true);
	assert_int_equal(figure(0, "file_reads"), 25);
	ask(s, "/above");
	expect_streamed(s, 200, 0, 4097, true);
	assert_int_equal(figure(0, "file_reads"), 26);
	fake_advance(f, MS(100));
	assert_int_equal(figure(0, "file_blocks"), 0);
	/* Larger than the whole cache, whatever the bound. */
	site_close();
	site_open(MIB, 1);
	s = fake_open(f, 0);
	ask(s, "/big");
	expect_streamed(s, 200, 0, STREAMED, true);
	assert_int_equal(figure(0, "cache_evictions"), 0);
	site_close();
}

static void conditions_and_ranges_hold_for_large_files(void **state)
{
	struct bw_stream *s;
	char fields[200], tag[64];
	const char *at;
	size_t len;

	write_streamed("big", STREAMED);
	stream_open();
	s = fake_open(f, 0);
	fake_feed(s, "HEAD /big HTTP/1.1\r\nHost: h\r\n\r\n", 31);
	at = strstr(fake_output(s, &len), "ETag: ");
	assert_non_null(at);
	assert_non_null(strstr(fake_output(s, &len), "Content-Length: 3158073\r\n"));
	assert_string_equal(body_of(s), "");
	assert_int_equal(sscanf(at, "ETag: %63s", tag), 1);
	assert_int_equal(figure(0, "file_reads"), 0);
	snprintf(fields, sizeof(fields), "If-None-Match: %s\r\n", tag);
	ask_range(s, "/big", fields);
	assert_int_equal(status_of(s), 304);
	ask_range(s, "/big", "Range: bytes=0-0\r\n");
	expect_streamed(s, 206, 0, 1, true);
	ask_range(s, "/big", "Range: bytes=131071-131072\r\n");
	expect_streamed(s, 206, 131071, 2, true);
	ask_range(s, "/big", "Range: bytes=1000-\r\n");
	expect_streamed(s, 206, 1000, STREAMED - 1000, true);
	ask_range(s, "/big", "Range: bytes=-1\r\n");
	expect_streamed(s, 206, STREAMED - 1, 1, true);
	ask_range(s, "/big", "Range: bytes=3158073-\r\n");
	assert_int_equal(status_of(s), 416);
	snprintf(fields, sizeof(fields), "If-Range: %s\r\nRange: bytes=5-200000\r\n", tag);
	ask_range(s, "/big", fields);
	expect_streamed(s, 206, 5, 199996, true);
	ask_range(s, "/big", "If-Range: \"other\"\r\nRange: bytes=5-6\r\n");
	expect_streamed(s, 200, 0, STREAMED, true);
	site_close();
}

static void large_files_keep_their_place_in_the_pipeline(void **state)
{
	static const char requests[] = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
				       "GET /big HTTP/1.1\r\nHost: h\r\nRange: bytes=7-300000\r\n\r\n"
				       "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
				       "GET /big HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
	struct bw_stream *s;
	const char *at;
	size_t len;

	write_streamed("big", STREAMED);
	write_file("a", "one");
	stream_open();
	s = fake_open(f, 0);
	fake_set_space(s, 5000);
	fake_feed(s, requests, sizeof(requests) - 1);
	fake_advance(f, SEC(1));
	assert_true(fake_is_closed(s));
	at = fake_output(s, &len);
	assert_non_null(strstr(at, "\r\n\r\noneHTTP/1.1 206 "));
	at = strstr(at, "HTTP/1.1 206 ");
	at = strstr(at, "\r\n\r\n") + 4;
	for (size_t i = 0; i < 299994; i++)
		assert_int_equal((uint8_t)at[i], streamed_byte(7 + i));
	at += 299994;
	assert_memory_equal(at, "HTTP/1.1 200 ", 13);
	at = strstr(at, "\r\n\r\none") + 7;
	assert_memory_equal(at, "HTTP/1.1 200 ", 13);
	at = strstr(at, "\r\n\r\n") + 4;
	for (size_t i = 0; i < STREAMED; i++)
		assert_int_equal((uint8_t)at[i], streamed_byte(i));
	assert_int_equal(fake_output(s, &len) + len - at, STREAMED);
	site_close();
}

/* More connections than blocks, none of which acknowledges anything: all are served as those before them read. */
static void blocks_go_round(void **state)
{
	struct bw_stream *s[40];
	unsigned begun = 0;

	write_streamed("big", STREAMED);
	stream_open();
	for (unsigned i = 0; i < BW_ARRAY_LEN(s); i++) {
		s[i] = fake_open(f, 0);
		fake_set_auto_ack(s[i], false);
		ask(s[i], "/big");
	}
	fake_advance(f, SEC(1));
	assert_int_equal(figure(0, "file_blocks"), 16);
	assert_true(figure(0, "file_read_waits") > 0);
	for (unsigned i = 0; i < BW_ARRAY_LEN(s); i++)
		begun += fake_queued(s[i]) > 1000;
	assert_true(begun >= 4 && begun <= 16);
	/* Half of them die, in whatever state they are in. */
	for (unsigned i = 0; i < BW_ARRAY_LEN(s); i += 2)
		fake_peer_reset(s[i]);
	for (unsigned i = 1; i < BW_ARRAY_LEN(s); i += 2)
		fake_set_auto_ack(s[i], true);
	fake_advance(f, SEC(20));
	for (unsigned i = 1; i < BW_ARRAY_LEN(s); i += 2)
		expect_streamed(s[i], 200, 0, STREAMED, true);
	fake_advance(f, MS(100));
	assert_int_equal(figure(0, "file_blocks"), 0);
	site_close();
}

/* Who holds all blocks and reads nothing is reset, and those that waited go on: nobody waits for ever. */
static void who_does_not_read_gives_its_blocks_back(void **state)
{
	struct bw_stream *s[20], *honest;

	write_streamed("big", STREAMED);
	stream_open();
	for (unsigned i = 0; i < BW_ARRAY_LEN(s); i++) {
		s[i] = fake_open(f, 0);
		fake_set_auto_ack(s[i], false);
		ask(s[i], "/big");
	}
	honest = fake_open(f, 0);
	ask(honest, "/big");
	fake_advance(f, SEC(200));
	expect_streamed(honest, 200, 0, STREAMED, true);
	for (unsigned i = 0; i < BW_ARRAY_LEN(s); i++)
		assert_true(fake_is_aborted(s[i]));
	site_close();
}

static void a_connection_may_end_while_its_file_is_read(void **state)
{
	struct bw_stream *s;

	write_streamed("big", STREAMED);
	stream_open();
	for (unsigned when = 0; when < 12; when++) {
		s = fake_open(f, 0);
		fake_set_auto_ack(s, when & 1);
		fake_hold_jobs(f, true);
		ask(s, "/big");
		for (unsigned i = 0; i < when / 2; i++)
			fake_run_jobs(f, 1);
		if (when & 2)
			fake_work_jobs(f, 1); /* it is read, and not yet home */
		fake_peer_reset(s);
		fake_hold_jobs(f, false);
		fake_advance(f, MS(200));
		assert_int_equal(figure(0, "file_blocks"), 0);
		assert_int_equal(figure(0, "pending"), 0);
	}
	/* While a helper reads, it is our wait. */
	fake_hold_jobs(f, true);
	s = fake_open(f, 0);
	ask(s, "/big");
	fake_run_jobs(f, 1);
	fake_advance(f, SEC(500));
	assert_false(fake_is_closing(s));
	fake_hold_jobs(f, false);
	fake_run(f);
	expect_streamed(s, 200, 0, STREAMED, true);
	site_close();
}

static void a_large_file_that_changes_in_place_is_cut_off(void **state)
{
	struct bw_stream *s;

	for (unsigned how = 0; how < 4; how++) {
		int fd;

		write_streamed("big", STREAMED);
		stream_open();
		s = fake_open(f, 0);
		fake_set_auto_ack(s, false);
		ask(s, "/big");
		fd = open(in_root("big"), O_WRONLY | (how == 1 ? O_APPEND : 0));
		if (how == 0)
			assert_int_equal(ftruncate(fd, 2 * MIB), 0);
		else if (how < 3)
			assert_int_equal(write(fd, "x", 1), 1);
		else
			unlink(in_root("big")); /* or replaced: it is still there for who has it open */
		close(fd);
		bw_log_set_level(BW_LOG_ERROR);
		fake_set_auto_ack(s, true);
		fake_advance(f, SEC(2));
		bw_log_set_level(BW_LOG_INFO);
		if (how == 1 || how == 3) {
			expect_streamed(s, 200, 0, STREAMED, true);
			assert_int_equal(figure(0, "file_read_failures"), 0);
		} else {
			assert_true(fake_is_aborted(s));
			expect_streamed(s, 200, 0, STREAMED, false);
			assert_int_equal(figure(0, "file_read_failures"), 1);
		}
		site_close();
	}
}

/* The engine's buffers run out, and its queue to the helpers: it is tried again. */
static void a_large_file_survives_scarcity(void **state)
{
	struct bw_stream *s;

	write_streamed("big", STREAMED);
	stream_open();
	s = fake_open(f, 0);
	ask(s, "/big"); /* known */
	ask_range(s, "/big", "Range: bytes=0-0\r\n");
	fake_starve(s, 3);
	fake_set_jobs_max(f, 0);
	ask(s, "/big");
	fake_advance(f, MS(500));
	fake_starve(s, 2);
	fake_set_jobs_max(f, 1);
	fake_advance(f, SEC(1));
	expect_streamed(s, 200, 0, STREAMED, true);
	site_close();
}

static void a_full_cache_waits_for_its_readers_and_then_gives_up(void **state)
{
	struct bw_stream *slow, *s;

	write_big("one", 700000, '1');
	write_big("two", 700000, '2');
	site_open(MIB, 1);
	slow = fake_open(f, 0);
	s = fake_open(f, 0);
	fake_set_auto_ack(slow, false);
	ask(slow, "/one");
	ask(s, "/two");
	fake_advance(f, MS(300));
	assert_int_equal(status_of(s), 0);
	/* The slow one finishes: there is room. */
	while (fake_ack(slow, MIB) > 0)
		;
	fake_advance(f, MS(500));
	assert_int_equal(status_of(s), 200);
	assert_int_equal(span(s, "2"), 700000);
	/* It does not: a second, no longer. */
	fake_set_auto_ack(s, false);
	ask(s, "/two");
	ask(slow, "/one");
	bw_log_set_level(BW_LOG_ERROR);
	fake_advance(f, MS(1500));
	bw_log_set_level(BW_LOG_INFO);
	fake_ack(slow, MIB);
	assert_int_equal(status_of(slow), 503);
	assert_true(figure(0, "cache_bytes") <= MIB);
	site_close();
}

static void a_connection_may_end_while_its_file_waits_for_room(void **state)
{
	struct bw_stream *slow, *s;

	write_big("one", 700000, '1');
	write_big("two", 700000, '2');
	site_open(MIB, 1);
	slow = fake_open(f, 0);
	s = fake_open(f, 0);
	fake_set_auto_ack(slow, false);
	ask(slow, "/one");
	ask(s, "/two");
	fake_peer_reset(s);
	site_close();
	site_open(MIB, 1);
	slow = fake_open(f, 0);
	s = fake_open(f, 0);
	fake_set_auto_ack(slow, false);
	ask(slow, "/one");
	ask(s, "/two");
	site_close();
}

static void more_lookups_than_there_may_be_are_a_503(void **state)
{
	struct bw_stream *streams[300];
	unsigned refused = 0, found = 0;

	write_file("a", "one");
	site_open(MIB, 1);
	fake_hold_jobs(f, true);
	for (int i = 0; i < 300; i++) {
		char path[16];

		sprintf(path, "/p%d", i);
		streams[i] = fake_open(f, 0);
		ask(streams[i], path);
	}
	fake_run_jobs(f, ~0u);
	for (int i = 0; i < 300; i++) {
		refused += status_of(streams[i]) == 503;
		found += status_of(streams[i]) == 404;
	}
	assert_int_equal(found, 256);
	assert_int_equal(refused, 44);
	/* The same where the helpers' queue is what is full. */
	fake_set_jobs_max(f, 0);
	ask(streams[0], "/a");
	assert_int_equal(status_of(streams[0]), 503);
	fake_set_jobs_max(f, 10);
	fake_hold_jobs(f, false);
	assert_string_equal(get(streams[0], "/a"), "one");
	/* But what is known is served, however old, when no helper can be asked. */
	fake_set_jobs_max(f, 0);
	fake_advance(f, SEC(100));
	streams[0] = fake_open(f, 0);
	assert_string_equal(get(streams[0], "/a"), "one");
	site_close();
}

static void workers_share_what_they_load(void **state)
{
	struct bw_stream *streams[40];

	write_big("shared", 300000, 's');
	site_open(MIB, 4);
	fake_start_helpers(f, 3);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < BW_ARRAY_LEN(streams); i++) {
			streams[i] = fake_open(f, i % 4);
			ask(streams[i], "/shared");
		}
		/* Those whose helper found another at it come again in a tick. */
		fake_settle(f);
		fake_advance(f, MS(100));
		fake_settle(f);
		for (unsigned i = 0; i < BW_ARRAY_LEN(streams); i++) {
			assert_int_equal(status_of(streams[i]), 200);
			assert_int_equal(span(streams[i], "st"), 300000);
			fake_peer_close(streams[i]);
		}
		assert_int_equal(figure(0, "cache_loads"), 1 + round / 5);
		assert_true(figure(0, "cache_bytes") <= MIB);
		fake_advance(f, MS(100));
		if (round % 5 == 4) {
			write_big("shared", 300000, round % 2 ? 's' : 't');
			fake_advance(f, SEC(5));
			fake_settle(f);
		}
	}
	site_close();
}

/* An old answer waits for the look at the disk, but not for long. */
static void a_slow_disk_does_not_stall_what_is_in_memory(void **state)
{
	struct bw_stream *s, *t;

	write_file("a", "one");
	write_file("b", "two");
	site_open(MIB, 1);
	s = fake_open(f, 0);
	t = fake_open(f, 0);
	assert_string_equal(get(s, "/a"), "one");
	assert_string_equal(get(s, "/b"), "two");
	fake_hold_jobs(f, true);
	write_file("a", "new");
	fake_advance(f, SEC(10));
	ask(s, "/a");
	fake_advance(f, MS(200));
	ask(t, "/a");
	assert_int_equal(status_of(s), 0);
	assert_int_equal(status_of(t), 0);
	/* Both have waited for the same look, and long enough. */
	fake_advance(f, MS(100));
	assert_string_equal(body_of(s), "one");
	assert_string_equal(body_of(t), "one");
	assert_string_equal(get(s, "/a"), "one");
	/* What is not in memory waits. */
	ask(t, "/c");
	ask(s, "/b");
	fake_advance(f, MS(400));
	assert_int_equal(status_of(t), 0);
	assert_string_equal(body_of(s), "two");
	/* A stream may go, and an old answer, while it is waited for. */
	fake_advance(f, SEC(10));
	ask(s, "/b");
	fake_peer_reset(s);
	s = fake_open(f, 0);
	fake_run_jobs(f, ~0u);
	fake_hold_jobs(f, false);
	assert_string_equal(get(s, "/a"), "new");
	assert_string_equal(get(s, "/b"), "two");
	assert_int_equal(status_of(t), 404);
	site_close();
}

/* Its listing is larger than a small cache. */
static void make_long_folder(void)
{
	assert_int_equal(mkdir(in_root("long"), 0755), 0);
	for (int i = 0; i < 500; i++) {
		char name[200];

		sprintf(name, "long/%0150d", i);
		close(open(in_root(name), O_CREAT | O_WRONLY, 0644));
	}
}

/*
 * A helper is busy with one path for as long as we like (its warning does not fit the pipe that is its stderr), and
 * another worker wants the same file: the second helper has better things to do than to wait for the first.
 */
static void a_busy_file_keeps_one_helper_only(void **state)
{
	struct bw_stream *s[2], *other;
	int ends[2], saved = dup(STDERR_FILENO);
	char filler[4096] = { 0 };

	make_long_folder();
	write_file("a", "one");
	site_init(64 * 1024);
	conf.site.listing = true;
	site_start(2);
	fake_start_helpers(f, 2);
	assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
	while (write(ends[1], filler, sizeof(filler)) > 0)
		;
	assert_int_equal(fcntl(ends[1], F_SETFL, 0), 0);
	assert_int_equal(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
	s[0] = fake_open(f, 0);
	s[1] = fake_open(f, 1);
	other = fake_open(f, 1);
	ask(s[0], "/long/");
	while (figure(0, "cache_no_room") == 0)
		usleep(100);
	ask(s[1], "/long/");
	ask(other, "/a");
	for (int i = 0; i < 1000 && status_of(other) == 0; i++) {
		usleep(1000);
		fake_run(f);
	}
	dup2(saved, STDERR_FILENO);
	assert_int_equal(status_of(s[0]), 0);
	assert_int_equal(status_of(s[1]), 0);
	assert_string_equal(body_of(other), "one");
	/* The warning goes out at last. */
	while (read(ends[0], filler, sizeof(filler)) > 0)
		;
	fake_settle(f);
	fake_advance(f, MS(200));
	fake_settle(f);
	assert_int_equal(status_of(s[0]), 503);
	assert_int_equal(status_of(s[1]), 503);
	close(ends[0]);
	close(ends[1]);
	close(saved);
	site_close();
}

static void many_files_on_real_threads(void **state)
{
	struct bw_stream *streams[16];
	char path[32];
	uint32_t seed = 1;

	for (int i = 0; i < 24; i++) {
		sprintf(path, "m%d", i);
		write_big(path, 60000 + (size_t)i, (char)('A' + i));
	}
	site_open(MIB, 2); /* about 17 of them fit: it never stops evicting */
	fake_start_helpers(f, 4);
	for (unsigned i = 0; i < BW_ARRAY_LEN(streams); i++)
		streams[i] = fake_open(f, i % 2);
	for (int round = 0; round < 60; round++) {
		unsigned which[BW_ARRAY_LEN(streams)];

		for (unsigned i = 0; i < BW_ARRAY_LEN(streams); i++) {
			seed = seed * 1103515245u + 12345u;
			which[i] = seed >> 16 & 15; /* at most 16 at a time: all of a round fit */
			which[i] += round % 8;
			sprintf(path, "/m%u", which[i]);
			ask(streams[i], path);
		}
		for (int wait = 0; wait < 20; wait++) {
			fake_settle(f);
			fake_advance(f, MS(50));
		}
		fake_settle(f);
		for (unsigned i = 0; i < BW_ARRAY_LEN(streams); i++) {
			char fill[2] = { (char)('A' + which[i]), 0 };

			assert_int_equal(status_of(streams[i]), 200);
			assert_int_equal(span(streams[i], fill), 60000 + which[i]);
		}
		assert_true(figure(0, "cache_bytes") <= MIB);
	}
	assert_true(figure(0, "cache_evictions") > 0);
	site_close();
}

static void count_bytes(void *arg, const void *data, size_t len)
{
	*(uint64_t *)arg += len;
}

static void a_file_beyond_one_slice_of_space(void **state)
{
	uint64_t total = 0;
	struct bw_stream *s;
	int fd = open(in_root("sparse"), O_CREAT | O_TRUNC | O_WRONLY, 0644);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 96 * MIB), 0);
	close(fd);
	site_open(128 * MIB, 1);
	s = fake_open(f, 0);
	fake_set_output_sink(s, count_bytes, &total);
	fake_feed(s, "GET /sparse HTTP/1.1\r\nHost: h\r\n\r\n", 34);
	assert_true(total > 96 * MIB && total < 96 * MIB + 400);
	site_close();
	unlink(in_root("sparse"));
}

static void an_unreadable_file_is_a_403(void **state)
{
	bool is_root = geteuid() == 0;
	struct bw_stream *s;

	write_file("private", "x");
	assert_int_equal(chmod(in_root("private"), 0), 0);
	site_open(MIB, 1);
	s = fake_open(f, 0);
	/* Root reads everything. The helper's work is done in this thread, as somebody else. */
	if (is_root) {
		assert_int_equal(chmod(root, 0755), 0);
		assert_int_equal(seteuid(65534), 0);
	}
	ask(s, "/private");
	if (is_root)
		assert_int_equal(seteuid(0), 0);
	assert_int_equal(status_of(s), 403);
	site_close();
}

static void a_wrong_configuration_is_refused(void **state)
{
	static const struct bw_http_constant good = { .path = "/x", .body = "x", .body_bytes = 1 };
	struct bw_http_constant constants[2];
	char file[512];

	bw_log_set_level(BW_LOG_ERROR);
	write_file("a", "one");
	strcpy(file, in_root("a"));
#define REFUSED(error, ...)                                                                                  \
	do {                                                                                                 \
		bw_http_conf_init(&conf);                                                                    \
		__VA_ARGS__;                                                                                 \
		assert_int_equal(bw_http_conf_prepare(&conf), error);                                        \
		assert_null(conf.files);                                                                     \
	} while (0)
	REFUSED(-ENOENT, conf.site.root = "/nonexistent");
	REFUSED(-ENOTDIR, conf.site.root = file);
	REFUSED(-EINVAL, conf.site.index = "a/b");
	REFUSED(-EINVAL, conf.site.index = "..");
	REFUSED(-EINVAL, conf.header_bytes_max = 16385);
	REFUSED(-EINVAL, conf.request_line_bytes_max = 8193);
	REFUSED(-EINVAL, conf.pipeline_depth_max = 0);
	REFUSED(-EINVAL, conf.header_timeout_ns = 0);
	conf.site.constants = constants;
	constants[0] = constants[1] = good;
	REFUSED(-EINVAL, conf.site.constants = constants; conf.site.constant_count = 2);
	constants[0].path = "x";
	REFUSED(-EINVAL, conf.site.constants = constants; conf.site.constant_count = 1);
	constants[0].path = "/../x";
	REFUSED(-EINVAL, conf.site.constants = constants; conf.site.constant_count = 1);
	constants[0] = good;
	constants[0].status = 204;
	REFUSED(-EINVAL, conf.site.constants = constants; conf.site.constant_count = 1);
	constants[0] = good;
	constants[0].content_type = "a/b\r\nX: y";
	REFUSED(-EINVAL, conf.site.constants = constants; conf.site.constant_count = 1);
	/* Headers and pages. */
	static struct bw_http_header header;
	static struct bw_http_page pages[2] = { { 404, "/a" }, { 404, "/b" } };
#define HEADER(n, v)                                                                                         \
	header = (struct bw_http_header){ n, v };                                                            \
	REFUSED(-EINVAL, conf.site.headers = &header; conf.site.header_count = 1)
	HEADER("content-length", "1");
	HEADER("Date", "1");
	HEADER("a b", "1");
	HEADER("", "1");
	HEADER("a", "1\r\nb: c");
	static char wide[400];
	memset(wide, 'w', 384 - 4);
	HEADER("a", wide);
	REFUSED(-EINVAL, conf.site.pages = pages; conf.site.page_count = 2);
	pages[1].status = 416;
	REFUSED(-EINVAL, conf.site.pages = pages; conf.site.page_count = 2);
	pages[1] = (struct bw_http_page){ 500, "/../b" };
	REFUSED(-EINVAL, conf.site.pages = pages; conf.site.page_count = 2);
	REFUSED(-EINVAL, conf.site.root = NULL; conf.site.pages = pages; conf.site.page_count = 1);
	REFUSED(-EINVAL, conf.site.charset = "a b");
	REFUSED(-EINVAL, conf.mime_types = "/none");
	/* Constants only. */
	bw_http_conf_init(&conf);
	conf.site.constants = &good;
	conf.site.constant_count = 1;
	assert_int_equal(bw_http_conf_prepare(&conf), 0);
	assert_true(conf.cache_bytes_max > 0);
	f = fake_create(&bw_http_service, &conf, 1);
	struct bw_stream *s = fake_open(f, 0);
	assert_string_equal(get(s, "/x"), "x");
	ask(s, "/a");
	assert_int_equal(status_of(s), 404);
	site_close();
	bw_log_set_level(BW_LOG_INFO);
}

/* ---- headers and error pages -------------------------------------------------------------------------- */

static void a_sites_headers_are_in_every_answer(void **state)
{
	static const struct bw_http_header headers[] = { { "Cache-Control", "max-age=60" },
		{ "X-A", "\"b\tc\"" } };
	static const struct bw_http_constant constant = { .path = "/c", .body = "c", .body_bytes = 1 };
	static const char *const requests[] = { "GET /a HTTP/1.1\r\nHost: h\r\n\r\n",
		"HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET /a HTTP/1.1\r\nHost: h\r\nRange: bytes=1-1\r\n\r\n",
		"GET /a HTTP/1.1\r\nHost: h\r\nRange: bytes=9-\r\n\r\n",
		"GET /a HTTP/1.1\r\nHost: h\r\nIf-None-Match: *\r\n\r\n",
		"GET /a HTTP/1.1\r\nHost: h\r\nIf-Match: \"0\"\r\n\r\n", "GET /c HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET /dir HTTP/1.1\r\nHost: h\r\n\r\n", "GET /dir/ HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET /no HTTP/1.1\r\nHost: h\r\n\r\n", "DELETE /a HTTP/1.1\r\nHost: h\r\n\r\n",
		"OPTIONS /a HTTP/1.1\r\nHost: h\r\n\r\n", "BAD\r\n\r\n" };

	write_file("a", "one");
	mkdir(in_root("dir"), 0755);
	site_init(MIB);
	conf.site.headers = headers;
	conf.site.header_count = 2;
	conf.site.constants = &constant;
	conf.site.constant_count = 1;
	site_start(1);
	for (unsigned i = 0; i < BW_ARRAY_LEN(requests); i++) {
		struct bw_stream *s = fake_open(f, 0);

		fake_feed(s, requests[i], strlen(requests[i]));
		assert_true(status_of(s) != 0);
		assert_non_null(
			strstr(fake_output(s, NULL), "\r\nCache-Control: max-age=60\r\nX-A: \"b\tc\"\r\n"));
	}
	rmdir(in_root("dir"));
	site_close();
}

/* All that a head can hold at once fits, for the longest of names too. */
static void the_longest_head_fits(void **state)
{
	char value[385], request[2048], name[256], long_name[768] = "", dir[512];
	struct bw_http_header header = { "X", value };
	struct bw_stream *s;

	memset(value, 'v', sizeof(value));
	value[384 - 5] = '\0';
	memset(name, '\xc3', 255);
	name[255] = '\0';
	for (unsigned i = 0; i < 255; i++)
		strcat(long_name, "%C3");
	snprintf(dir, sizeof(dir), "%s", in_root(name));
	assert_int_equal(mkdir(dir, 0755), 0);
	write_file("a.html", "one");
	site_init(MIB);
	conf.site.headers = &header;
	conf.site.header_count = 1;
	site_start(1);
	s = fake_open(f, 0);
	snprintf(request, sizeof(request), "/%s", long_name);
	get(s, request);
	assert_int_equal(status_of(s), 301);
	assert_non_null(strstr(fake_output(s, NULL), "%C3/\r\n"));
	fake_output_clear(s);
	snprintf(request, sizeof(request),
		"GET /a.html HTTP/1.0\r\nConnection: keep-alive\r\nRange: bytes=0-\r\n\r\n");
	fake_feed(s, request, strlen(request));
	assert_int_equal(status_of(s), 206);
	assert_non_null(strstr(fake_output(s, NULL), value));
	rmdir(dir);
	site_close();
}

static void an_error_page_is_the_body_of_its_status(void **state)
{
	static const struct bw_http_page pages[] = { { 404, "/404.html" }, { 405, "/404.html" },
		{ 400, "/sub/../404.html" }, { 413, "/404.html" }, { 403, "/lost.html" } };
	struct bw_stream *s, *other;
	const char
		*bad = "GET / HTTP/1.1\r\n\r\n",
		*delete = "DELETE / HTTP/1.1\r\nHost: h\r\n\r\n",
		*head = "HEAD /no HTTP/1.1\r\nHost: h\r\nIf-None-Match: *\r\nRange: bytes=0-0\r\n\r\n",
		*chunks = "GET /404.html HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n";

	write_file("404.html", "not here");
	mkdir(in_root("dir"), 0755);
	site_init(MIB);
	conf.site.pages = pages;
	conf.site.page_count = BW_ARRAY_LEN(pages);
	bw_log_set_level(BW_LOG_ERROR);
	site_start(2);
	s = fake_open(f, 1);
	assert_string_equal(get(s, "/no"), "not here");
	assert_int_equal(status_of(s), 404);
	assert_non_null(strstr(
		fake_output(s, NULL), "\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 8\r\n"));
	assert_null(strstr(fake_output(s, NULL), "ETag"));
	assert_null(strstr(fake_output(s, NULL), "Accept-Ranges"));
	/* Neither conditions nor ranges are about it. */
	fake_output_clear(s);
	fake_feed(s, head, strlen(head));
	assert_int_equal(status_of(s), 404);
	assert_non_null(strstr(fake_output(s, NULL), "Content-Length: 8\r\n"));
	assert_string_equal(body_of(s), "");
	fake_output_clear(s);
	fake_feed(s, delete, strlen(delete));
	assert_int_equal(status_of(s), 405);
	assert_non_null(strstr(fake_output(s, NULL), "Allow: "));
	assert_string_equal(body_of(s), "not here");
	other = fake_open(f, 0);
	fake_feed(other, bad, strlen(bad));
	assert_int_equal(status_of(other), 400);
	assert_string_equal(body_of(other), "not here");
	other = fake_open(f, 0);
	fake_feed(other, chunks, strlen(chunks));
	assert_int_equal(status_of(other), 413);
	assert_string_equal(body_of(other), "not here");
	/* For itself it is a file. */
	assert_string_equal(get(s, "/404.html"), "not here");
	assert_int_equal(status_of(s), 200);
	/* One that is not there is a line of text. */
	assert_string_equal(get(s, "/dir/"), "403 Forbidden\n");
	write_file("lost.html", "found");
	fake_advance(f, SEC(3));
	assert_string_equal(get(s, "/dir/"), "found");
	/* A change is seen, and so is its end. */
	write_file("404.html", "nowhere");
	fake_advance(f, SEC(3));
	assert_string_equal(get(s, "/no"), "nowhere");
	unlink(in_root("404.html"));
	fake_advance(f, SEC(3));
	assert_string_equal(get(s, "/no"), "404 Not Found\n");
	assert_string_equal(get(s, "/404.html"), "404 Not Found\n");
	bw_log_set_level(BW_LOG_INFO);
	unlink(in_root("lost.html"));
	rmdir(in_root("dir"));
	site_close();
}

static const char *type_told(struct bw_stream *s, const char *path)
{
	static char type[128];
	const char *at;

	get(s, path);
	at = strstr(fake_output(s, NULL), "Content-Type: ");
	if (at == NULL)
		return "none";
	snprintf(type, sizeof(type), "%.*s", (int)strcspn(at + 14, "\r"), at + 14);
	return type;
}

static void types_are_of_the_table_that_was_named(void **state)
{
	char table[128];
	struct bw_stream *s;

	write_file("types", "text/x-mine foo html\nimage/mine\tpng\n");
	strcpy(table, in_root("types"));
	write_file("a.foo", "");
	write_file("a.png", "");
	write_file("a.css", "");
	for (unsigned i = 0; i < 2; i++) {
		site_init(MIB);
		conf.mime_types = table;
		conf.site.charset = i == 0 ? "koi8-r" : "off";
		site_start(1);
		s = fake_open(f, 0);
		assert_string_equal(
			type_told(s, "/a.foo"), i == 0 ? "text/x-mine; charset=koi8-r" : "text/x-mine");
		assert_string_equal(type_told(s, "/a.png"), "image/mine");
		assert_string_equal(type_told(s, "/a.css"), i == 0 ? "text/css; charset=koi8-r" : "text/css");
		site_close();
	}
}

/* ---- compressed files --------------------------------------------------------------------------------- */

static void ask_for(struct bw_stream *s, const char *path, const char *fields)
{
	char request[1024];

	fake_output_clear(s);
	snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: h\r\n%s\r\n", path, fields);
	fake_feed(s, request, strlen(request));
}

static const char *told(struct bw_stream *s, const char *name)
{
	static char value[2][128];
	static unsigned turn;
	char *out = value[turn++ % 2];
	const char *at = strstr(fake_output(s, NULL), name);

	out[0] = '\0';
	if (at != NULL && at < body_of(s))
		snprintf(out, 128, "%.*s", (int)strcspn(at + strlen(name), "\r"), at + strlen(name));
	return out;
}

static void what_is_taken_compressed_is_sent_so(void **state)
{
	static const struct {
		const char *accepts, *body;
	} asked[] = {
		{ "", "plain" },
		{ "Accept-Encoding: gzip, deflate, br\r\n", "brotli" },
		{ "Accept-Encoding: gzip\r\n", "gzipped" },
		{ "Accept-Encoding: x-gzip\r\n", "gzipped" },
		{ "Accept-Encoding: BR;q=0.5, GZip;q=0.8\r\n", "gzipped" },
		{ "Accept-Encoding: br;q=0.8, gzip ; q=0.800\r\n", "brotli" },
		{ "Accept-Encoding: br;q=0, *\r\n", "gzipped" },
		{ "Accept-Encoding: *;q=0\r\n", "plain" },
		{ "Accept-Encoding: *;q=0.001\r\n", "brotli" },
		{ "Accept-Encoding: identity, br;q=0.9, gzip;q=1\r\n", "gzipped" },
		{ "Accept-Encoding: identity;q=1, br;q=0.9\r\n", "plain" },
		{ "Accept-Encoding: identity;q=0\r\n", "plain" },
		{ "Accept-Encoding: identity;q=0, gzip;q=0.1\r\n", "gzipped" },
		{ "Accept-Encoding: br;q=1.001, gzip;q=2\r\n", "plain" },
		{ "Accept-Encoding: br;q=.5, gzip;q=0.0001, deflate\r\n", "plain" },
		{ "Accept-Encoding: gzip;q=0\r\nAccept-Encoding: br\r\n", "brotli" },
		{ "Accept-Encoding:\r\n", "plain" },
	};
	struct bw_stream *s;
	char tag[64], fields[256];

	write_file("v.css", "plain");
	write_file("v.css.br", "brotli");
	write_file("v.css.gz", "gzipped");
	site_open(MIB, 1);
	s = fake_open(f, 0);
	for (unsigned i = 0; i < BW_ARRAY_LEN(asked); i++) {
		bool is_plain = strcmp(asked[i].body, "plain") == 0;

		ask_for(s, "/v.css", asked[i].accepts);
		assert_string_equal(body_of(s), asked[i].body);
		assert_string_equal(told(s, "Vary: "), "Accept-Encoding");
		assert_string_equal(told(s, "Content-Type: "), "text/css; charset=utf-8");
		assert_string_equal(told(s, "Content-Encoding: "), is_plain                  ? ""
								   : asked[i].body[0] == 'b' ? "br"
											     : "gzip");
	}
	assert_int_equal(figure(0, "cache_loads"), 1);
	assert_int_equal(figure(0, "cache_paths"), 1);
	/* Ranges and conditions are about what is sent. */
	ask_for(s, "/v.css", "Accept-Encoding: br\r\nRange: bytes=1-2\r\n");
	assert_string_equal(body_of(s), "ro");
	assert_string_equal(told(s, "Content-Range: "), "bytes 1-2/6");
	assert_string_equal(told(s, "Content-Encoding: "), "br");
	strcpy(tag, told(s, "ETag: "));
	snprintf(fields, sizeof(fields), "Accept-Encoding: br\r\nIf-None-Match: %s\r\n", tag);
	ask_for(s, "/v.css", fields);
	assert_int_equal(status_of(s), 304);
	assert_string_equal(told(s, "Vary: "), "Accept-Encoding");
	snprintf(fields, sizeof(fields), "Accept-Encoding: gzip\r\nIf-None-Match: %s\r\n", tag);
	ask_for(s, "/v.css", fields);
	assert_int_equal(status_of(s), 200);
	assert_string_not_equal(told(s, "ETag: "), tag);
	ask_for(s, "/v.css", "Accept-Encoding: gzip\r\nRange: bytes=7-\r\n");
	assert_int_equal(status_of(s), 416);
	assert_string_equal(told(s, "Content-Range: "), "bytes */7");
	/* By its own name it is what it is. */
	ask_for(s, "/v.css.gz", "Accept-Encoding: gzip, br\r\n");
	assert_string_equal(body_of(s), "gzipped");
	assert_string_equal(told(s, "Content-Encoding: "), "");
	assert_string_equal(told(s, "Vary: "), "");
	ask_for(s, "/v.css", "Accept-Encoding: br\r\nRange: bytes=0-0\r\nIf-Range: \"0\"\r\n");
	assert_string_equal(body_of(s), "brotli");
	site_close();
}

static void a_copy_that_comes_goes_or_is_old_is_seen(void **state)
{
	static const struct timespec long_ago[2] = { { .tv_sec = 1000000 }, { .tv_sec = 1000000 } };
	struct bw_stream *s;

	write_file("w.js", "plain");
	site_open(MIB, 1);
	s = fake_open(f, 0);
	ask_for(s, "/w.js", "Accept-Encoding: gzip\r\n");
	assert_string_equal(body_of(s), "plain");
	assert_string_equal(told(s, "Vary: "), "");
	write_file("w.js.gz", "gzipped");
	fake_advance(f, SEC(5));
	ask_for(s, "/w.js", "Accept-Encoding: gzip\r\n");
	assert_string_equal(body_of(s), "gzipped");
	write_file("w.js.gz", "again");
	fake_advance(f, SEC(5));
	ask_for(s, "/w.js", "Accept-Encoding: gzip\r\n");
	assert_string_equal(body_of(s), "again");
	/* Of another version of the file. */
	assert_int_equal(utimensat(AT_FDCWD, in_root("w.js.gz"), long_ago, 0), 0);
	fake_advance(f, SEC(5));
	ask_for(s, "/w.js", "Accept-Encoding: gzip\r\n");
	assert_string_equal(body_of(s), "plain");
	assert_string_equal(told(s, "Vary: "), "");
	write_file("w.js.gz", "third");
	fake_advance(f, SEC(5));
	ask_for(s, "/w.js", "Accept-Encoding: gzip\r\n");
	assert_string_equal(body_of(s), "third");
	unlink(in_root("w.js.gz"));
	fake_advance(f, SEC(5));
	ask_for(s, "/w.js", "Accept-Encoding: gzip\r\n");
	assert_string_equal(body_of(s), "plain");
	/* At rest it is not read again. */
	unsigned long long loads = figure(0, "cache_loads");
	wait_a_tick();
	for (unsigned i = 0; i < 3; i++) {
		fake_advance(f, SEC(5));
		ask_for(s, "/w.js", "");
	}
	assert_int_equal(figure(0, "cache_loads"), loads);
	fake_advance(f, SEC(5));
	site_close();
	/* Not where it is not wanted. */
	write_file("w.js.gz", "gzipped");
	site_init(MIB);
	conf.site.precompressed = false;
	site_start(1);
	s = fake_open(f, 0);
	ask_for(s, "/w.js", "Accept-Encoding: gzip\r\n");
	assert_string_equal(body_of(s), "plain");
	site_close();
}

/* What is evicted goes with its copies, and one too large to be beside others is left out. */
static void copies_count_against_the_cache(void **state)
{
	struct bw_stream *s;

	write_big("x.bin", 300000, 'x');
	write_big("x.bin.gz", 200000, 'z');
	write_big("y.bin", 400000, 'y');
	write_big("y.bin.gz", 400000, 'Y');
	site_open(MIB, 1);
	s = fake_open(f, 0);
	for (unsigned i = 0; i < 6; i++) {
		ask_for(s, "/x.bin", "Accept-Encoding: gzip\r\n");
		if (status_of(s) == 0)
			fake_advance(f, MS(100));
		assert_int_equal(span(s, "z"), 200000);
		ask_for(s, "/y.bin", "Accept-Encoding: gzip\r\n");
		if (status_of(s) == 0)
			fake_advance(f, MS(100));
		assert_int_equal(span(s, "y"), 400000);
		assert_string_equal(told(s, "Vary: "), "Accept-Encoding");
		assert_true(figure(0, "cache_bytes") <= MIB);
	}
	unlink(in_root("x.bin.gz"));
	unlink(in_root("y.bin.gz"));
	site_close();
}

static void remove_all(const char *names)
{
	char command[600];

	snprintf(command, sizeof(command), "rm -r %s/%s", root, names);
	assert_int_equal(system(command), 0);
}

static unsigned open_descriptors(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* Copies above the bound, of a file that is above or below it. */
static void large_copies_are_read_while_they_are_sent(void **state)
{
	static const char *const names[] = { "big.js", "small.js" };
	char path[32], name[32], tag[64], fields[200];
	unsigned descriptors = open_descriptors();
	struct bw_stream *s, *slow;

	for (unsigned i = 0; i < 2; i++) {
		if (i == 0)
			write_big(names[i], 200000, 'p');
		else
			write_file(names[i], "plain");
		snprintf(name, sizeof(name), "%s.br", names[i]);
		write_streamed(name, STREAMED);
		snprintf(name, sizeof(name), "%s.gz", names[i]);
		write_big(name, 300000, 'z');
	}
	stream_open();
	s = fake_open(f, 0);
	for (unsigned i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "/%s", names[i]);
		ask_for(s, path, "Accept-Encoding: br\r\n");
		expect_streamed(s, 200, 0, STREAMED, true);
		assert_string_equal(told(s, "Content-Encoding: "), "br");
		assert_string_equal(told(s, "Vary: "), "Accept-Encoding");
		strcpy(tag, told(s, "ETag: "));
		ask_for(s, path, "Accept-Encoding: gzip\r\n");
		assert_int_equal(span(s, "z"), 300000);
		assert_string_not_equal(told(s, "ETag: "), tag);
		ask_for(s, path, "");
		assert_int_equal(span(s, "plain"), i == 0 ? 200000 : 5);
		assert_string_equal(told(s, "Content-Encoding: "), "");
		/* Ranges and conditions are about the copy. */
		snprintf(fields, sizeof(fields),
			"Accept-Encoding: br\r\nIf-Range: %s\r\nRange: bytes=131000-\r\n", tag);
		ask_for(s, path, fields);
		expect_streamed(s, 206, 131000, STREAMED - 131000, true);
		snprintf(fields, sizeof(fields), "Accept-Encoding: br\r\nIf-None-Match: %s\r\n", tag);
		ask_for(s, path, fields);
		assert_int_equal(status_of(s), 304);
	}
	/* Each that is open has its share of the cache, five of them. */
	assert_true(figure(0, "cache_bytes") > 5 * 2 * MIB / 256);
	assert_true(figure(0, "cache_bytes") < 100000);
	/* A copy that is replaced while it is sent is sent as it was. */
	slow = fake_open(f, 0);
	fake_set_space(slow, 50000);
	fake_set_auto_ack(slow, false);
	ask_for(slow, "/small.js", "Accept-Encoding: br\r\n");
	write_file("small.js.br", "new");
	fake_advance(f, SEC(5));
	ask_for(s, "/small.js", "Accept-Encoding: br\r\n");
	assert_string_equal(body_of(s), "new");
	while (fake_ack(slow, 40000) > 0)
		;
	expect_streamed(slow, 200, 0, STREAMED, true);
	fake_advance(f, MS(100));
	assert_int_equal(figure(0, "file_blocks"), 0);
	site_close();
	assert_int_equal(open_descriptors(), descriptors);
	remove_all("*.js*");
}

/* A drain lets go of who is between requests, not of who is being sent a large file. */
static void a_drain_waits_for_a_large_file(void **state)
{
	struct bw_stream *s, *waiting, *idle;

	write_streamed("big", STREAMED);
	stream_open();
	idle = fake_open(f, 0);
	ask_range(idle, "/big", "Range: bytes=0-0\r\n");
	s = fake_open(f, 0);
	fake_set_space(s, 50000);
	fake_set_auto_ack(s, false);
	ask(s, "/big");
	/* One whose first block is being read. */
	fake_hold_jobs(f, true);
	waiting = fake_open(f, 0);
	ask(waiting, "/big");
	fake_drain(f);
	assert_true(fake_is_closed(idle));
	assert_false(fake_is_closing(s));
	assert_false(fake_is_closing(waiting));
	fake_hold_jobs(f, false);
	fake_run(f);
	expect_streamed(waiting, 200, 0, STREAMED, true);
	assert_true(fake_is_closed(waiting));
	while (fake_ack(s, 40000) > 0)
		assert_false(fake_is_aborted(s));
	expect_streamed(s, 200, 0, STREAMED, true);
	assert_true(fake_is_closed(s));
	assert_false(fake_is_aborted(s));
	fake_advance(f, MS(100));
	assert_int_equal(figure(0, "file_blocks"), 0);
	site_close();
}

/* ---- listings ----------------------------------------------------------------------------------------- */

static void make_listed(void)
{
	static const struct timespec then[2] = { { .tv_sec = 1000000000 }, { .tv_sec = 1000000000 } };

	mkdir(in_root("l"), 0755);
	mkdir(in_root("l/zdir"), 0755);
	write_file("l/b.txt", "12345");
	write_file("l/a <&\"'>: %.txt", "1");
	write_file("l/.hidden", "");
	assert_int_equal(symlink("/etc/passwd", in_root("l/out")), 0);
	assert_int_equal(symlink("b.txt", in_root("l/in")), 0);
	assert_int_equal(mkfifo(in_root("l/fifo"), 0644), 0);
	assert_int_equal(utimensat(AT_FDCWD, in_root("l/b.txt"), then, 0), 0);
}

static void a_directory_is_listed_where_that_is_wanted(void **state)
{
	struct bw_stream *s;
	const char *page,
		*odd = "<a href=\"./a%20%3C%26%22%27%3E%3A%20%25.txt\">a &lt;&amp;&quot;&#39;&gt;: %.txt</a>";
	char fields[256];

	make_listed();
	site_open(MIB, 1);
	s = fake_open(f, 0);
	ask(s, "/l/");
	assert_int_equal(status_of(s), 403);
	site_close();
	site_init(MIB);
	conf.site.listing = true;
	site_start(1);
	s = fake_open(f, 0);
	page = get(s, "/l/");
	assert_int_equal(status_of(s), 200);
	assert_string_equal(told(s, "Content-Type: "), "text/html; charset=utf-8");
	assert_non_null(strstr(page, "<h1>/l/</h1>"));
	assert_non_null(strstr(page, "<a href=\"../\">"));
	assert_non_null(strstr(page, odd));
	assert_non_null(
		strstr(page, "<a href=\"./b.txt\">b.txt</a></td><td>5</td><td>2001-09-09 01:46</td>"));
	assert_non_null(strstr(page, "<a href=\"./in\">in</a></td><td>5</td>"));
	assert_null(strstr(page, "hidden"));
	assert_null(strstr(page, "fifo"));
	assert_null(strstr(page, "./out"));
	/* Directories first. */
	assert_true(strstr(page, "./zdir/") < strstr(page, "./a%20"));
	assert_true(strstr(page, "./a%20") < strstr(page, "./b.txt"));
	/* A file like any other; the same as long as it says the same. */
	snprintf(fields, sizeof(fields), "If-None-Match: %s\r\n", told(s, "ETag: "));
	fake_advance(f, SEC(5));
	ask_for(s, "/l/", fields);
	assert_int_equal(status_of(s), 304);
	assert_int_equal(figure(0, "cache_loads"), 1);
	/* A name that comes, a size that changes, an index. */
	write_file("l/c.txt", "1");
	overwrite("l/b.txt", "123456789");
	fake_advance(f, SEC(5));
	page = get(s, "/l/");
	assert_non_null(strstr(page, "./c.txt"));
	assert_non_null(strstr(page, "b.txt</a></td><td>9</td>"));
	write_file("l/index.html", "index");
	fake_advance(f, SEC(5));
	assert_string_equal(get(s, "/l/"), "index");
	unlink(in_root("l/index.html"));
	fake_advance(f, SEC(5));
	assert_non_null(strstr(get(s, "/l/"), "./c.txt"));
	ask(s, "/l");
	assert_int_equal(status_of(s), 301);
	ask(s, "/none/");
	assert_int_equal(status_of(s), 404);
	assert_null(strstr(get(s, "/"), "../"));
	site_close();
}

/* However many there are, the page has an end. */
static void a_long_listing_is_cut(void **state)
{
	char name[600];
	struct bw_stream *s;

	mkdir(in_root("many"), 0755);
	for (unsigned i = 0; i < 10001; i++) {
		snprintf(name, sizeof(name), "%s/many/%u", root, i);
		close(open(name, O_CREAT | O_WRONLY, 0644));
	}
	site_init(16 * MIB);
	conf.site.listing = true;
	site_start(1);
	s = fake_open(f, 0);
	ask(s, "/many/");
	assert_int_equal(status_of(s), 200);
	for (unsigned i = 0; i < 10001; i++) {
		snprintf(name, sizeof(name), "%s/many/%u", root, i);
		unlink(name);
	}
	assert_non_null(memmem(fake_output(s, NULL), strlen(fake_output(s, NULL)), "There is more", 13));
	rmdir(in_root("many"));
	site_close();
}

/* ---- told by inotify ---------------------------------------------------------------------------------- */

static atomic_bool says_overflow, has_no_watches, is_remote;
static unsigned watches_until_hook; /* 0: none */

/* In the place of the C library's, too: what the kernel does when its queue or its table is full. */
ssize_t read(int fd, void *into, size_t bytes)
{
	const struct inotify_event overflow = { .wd = -1, .mask = IN_Q_OVERFLOW };
	ssize_t n = syscall(SYS_read, fd, into, bytes);

	if (n < (ssize_t)sizeof(overflow) || !atomic_exchange(&says_overflow, false))
		return n;
	memcpy(into, &overflow, sizeof(overflow)); /* and what there was is lost */
	return sizeof(overflow);
}

int inotify_add_watch(int fd, const char *path, uint32_t events)
{
	if (watches_until_hook > 0 && --watches_until_hook == 0)
		hook();
	if (!has_no_watches)
		return (int)syscall(SYS_inotify_add_watch, fd, path, events);
	errno = ENOSPC;
	return -1;
}

int fstatfs(int fd, struct statfs *fs)
{
	int rc = (int)syscall(SYS_fstatfs, fd, fs);

	if (is_remote)
		fs->f_type = 0x6969; /* NFS */
	return rc;
}

static void watched_init(void)
{
	site_init(4 * MIB);
	conf.watches_max = 100;
}

static struct bw_stream *watched_open(void)
{
	watched_init();
	site_start(1);
	return fake_open(f, 0);
}

/* The events are real, and so is the time that they take: five seconds at most. The service's time does not go on, so
 * that nothing is found by looking. */
#define SOON(condition)                                                                                      \
	do {                                                                                                 \
		unsigned left;                                                                               \
		for (left = 5000; left > 0 && !(condition); left--)                                          \
			usleep(1000);                                                                        \
		if (left == 0)                                                                               \
			fail_msg("not in time: %s, but %s", #condition, fake_output(s, NULL));               \
	} while (0)

static bool has_body(struct bw_stream *s, const char *path, const char *body)
{
	ask(s, path);
	return status_of(s) == 200 && strcmp(body_of(s), body) == 0;
}

static bool has_status(struct bw_stream *s, const char *path, unsigned status)
{
	ask(s, path);
	return status_of(s) == status;
}

/* It was looked at long enough ago for another look. */
static void expect_soon(struct bw_stream *s, const char *path, const char *body)
{
	fake_advance(f, MS(30));
	SOON(has_body(s, path, body));
}

static void expect_status_soon(struct bw_stream *s, const char *path, unsigned status)
{
	fake_advance(f, MS(30));
	SOON(has_status(s, path, status));
}

/* Is it believed for more than a second? What was changed a moment ago is not, the first time. */
static void expect_trust(struct bw_stream *s, const char *path, bool is_trusted)
{
	wait_a_tick();
	for (unsigned i = 0; i < 2; i++) {
		ask(s, path);
		fake_advance(f, MS(1500));
	}
	fake_hold_jobs(f, true);
	ask(s, path);
	assert_int_equal(fake_jobs_waiting(f), !is_trusted);
	fake_hold_jobs(f, false);
	fake_run(f);
}

static void move(const char *from, const char *to)
{
	char path[512];

	strcpy(path, in_root(from));
	assert_int_equal(rename(path, in_root(to)), 0);
}

static void add_name(const char *name, const char *other)
{
	char path[512];

	strcpy(path, in_root(name));
	assert_int_equal(link(path, in_root(other)), 0);
}

static void what_is_watched_is_trusted(void **state)
{
	struct bw_stream *s;

	mkdir(in_root("w"), 0755);
	write_file("w/a", "one");
	s = watched_open();
	assert_string_equal(get(s, "/w/a"), "one");
	assert_int_equal(figure(0, "cache_watches"), 2); /* the root, and w */
	expect_trust(s, "/w/a", true);
	fake_hold_jobs(f, true);
	fake_advance(f, SEC(50));
	assert_string_equal(get(s, "/w/a"), "one");
	assert_int_equal(fake_jobs_waiting(f), 0);
	/* Not everything is told: once a minute it is looked at, and nobody waits for that, however late he comes. */
	fake_advance(f, SEC(5000));
	s = fake_open(f, 0);
	assert_string_equal(get(s, "/w/a"), "one");
	assert_int_equal(fake_jobs_waiting(f), 1);
	fake_hold_jobs(f, false);
	fake_run(f);
	assert_int_equal(figure(0, "cache_loads"), 1);
	assert_int_equal(figure(0, "cache_checks"), 1);
	assert_int_equal(figure(0, "cache_watch_refused"), 0);
	site_close();
}

static void a_change_is_told(void **state)
{
	static const struct timespec then[2] = { { .tv_sec = 1000000000 }, { .tv_sec = 1000000000 } };
	struct bw_stream *s;
	unsigned long long loads;

	write_file("a", "one");
	write_file("other", "other");
	s = watched_open();
	get(s, "/other");
	assert_string_equal(get(s, "/a"), "one");
	write_file("a", "two"); /* renamed over it */
	expect_soon(s, "/a", "two");
	overwrite("a", "six");
	expect_soon(s, "/a", "six");
	assert_int_equal(truncate(in_root("a"), 2), 0);
	expect_soon(s, "/a", "si");
	assert_int_equal(unlink(in_root("a")), 0);
	expect_status_soon(s, "/a", 404);
	write_file("a", "again");
	expect_soon(s, "/a", "again");
	move("a", "b");
	expect_status_soon(s, "/a", 404);
	expect_soon(s, "/b", "again");
	wait_a_tick();
	fake_advance(f, SEC(2));
	get(s, "/b");
	assert_int_equal(utimensat(AT_FDCWD, in_root("b"), then, 0), 0);
	fake_advance(f, MS(30));
	SOON(has_body(s, "/b", "again") &&
		strcmp(told(s, "Last-Modified: "), "Sun, 09 Sep 2001 01:46:40 GMT") == 0);
	/* What else is in the directory is not asked for again. */
	loads = figure(0, "cache_loads");
	fake_hold_jobs(f, true);
	assert_true(has_body(s, "/other", "other"));
	assert_int_equal(fake_jobs_waiting(f), 0);
	fake_hold_jobs(f, false);
	assert_int_equal(figure(0, "cache_loads"), loads);
	unlink(in_root("b"));
	site_close();
}

/* A log below the root: it is told of all the time, but looked at twenty times a second at most. */
static void what_changes_all_the_time_is_no_work_all_the_time(void **state)
{
	struct bw_stream *s;
	unsigned long long events;

	write_file("log", "");
	s = watched_open();
	get(s, "/log");
	for (unsigned i = 0; i < 50; i++) {
		FILE *file = fopen(in_root("log"), "a");

		events = figure(0, "cache_watch_events");
		fputs("line\n", file);
		fclose(file);
		SOON(figure(0, "cache_watch_events") >= events + 2);
		fake_advance(f, MS(2));
		get(s, "/log");
	}
	assert_true(figure(0, "cache_loads") > 2 && figure(0, "cache_loads") <= 7);
	write_file("log", "another");
	expect_soon(s, "/log", "another");
	site_close();
}

static void a_new_name_ends_a_refusal(void **state)
{
	struct bw_stream *s;

	mkdir(in_root("w"), 0755);
	mkdir(in_root("w/x"), 0755);
	unlink(in_root("w/late"));
	s = watched_open();
	ask(s, "/w/late");
	assert_int_equal(status_of(s), 404);
	ask(s, "/w/far/away");
	assert_int_equal(status_of(s), 404);
	ask(s, "/w/x/");
	assert_int_equal(status_of(s), 403);
	ask(s, "/w/x");
	assert_int_equal(status_of(s), 301);
	/* Remembered as ever. */
	fake_hold_jobs(f, true);
	ask(s, "/w/late");
	assert_int_equal(status_of(s), 404);
	fake_hold_jobs(f, false);
	write_file("w/late", "here");
	mkdir(in_root("w/far"), 0755);
	write_file("w/far/away", "there");
	write_file("w/x/index.html", "index");
	SOON(has_body(s, "/w/late", "here"));
	SOON(has_body(s, "/w/far/away", "there"));
	SOON(has_body(s, "/w/x/", "index"));
	unlink(in_root("w/x/index.html"));
	expect_status_soon(s, "/w/x/", 403);
	rmdir(in_root("w/x"));
	write_file("w/x", "file");
	SOON(has_body(s, "/w/x", "file"));
	unlink(in_root("w/x"));
	unlink(in_root("w/far/away"));
	rmdir(in_root("w/far"));
	unlink(in_root("w/late"));
	site_close();
}

static void copies_and_listings_are_told_of(void **state)
{
	struct bw_stream *s;
	const char *gzip = "Accept-Encoding: gzip\r\n";

	mkdir(in_root("t"), 0755);
	write_file("t/w.js", "plain");
	watched_init();
	conf.site.listing = true;
	site_start(1);
	s = fake_open(f, 0);
	ask_for(s, "/t/w.js", gzip);
	assert_string_equal(body_of(s), "plain");
	assert_null(strstr(get(s, "/t/"), "w.js.gz"));
	write_file("t/w.js.gz", "zipped");
	fake_advance(f, MS(30));
	SOON((ask_for(s, "/t/w.js", gzip), status_of(s) == 200 && strcmp(body_of(s), "zipped") == 0));
	SOON(strstr(get(s, "/t/"), "w.js.gz") != NULL);
	write_file("t/w.js.gz", "zipped 2");
	fake_advance(f, MS(30));
	SOON((ask_for(s, "/t/w.js", gzip), status_of(s) == 200 && strcmp(body_of(s), "zipped 2") == 0));
	unlink(in_root("t/w.js.gz"));
	fake_advance(f, MS(30));
	SOON((ask_for(s, "/t/w.js", gzip), status_of(s) == 200 && strcmp(body_of(s), "plain") == 0));
	/* An index in its place, and its copy. */
	write_file("t/index.html", "index");
	expect_soon(s, "/t/", "index");
	write_file("t/index.html.gz", "packed");
	fake_advance(f, MS(30));
	SOON((ask_for(s, "/t/", gzip), status_of(s) == 200 && strcmp(body_of(s), "packed") == 0));
	unlink(in_root("t/index.html"));
	unlink(in_root("t/index.html.gz"));
	fake_advance(f, MS(30));
	SOON(strstr(get(s, "/t/"), "w.js") != NULL);
	/* A listing tells of what lies elsewhere: it is looked at as before. */
	expect_trust(s, "/t/", false);
	site_close();
}

static void error_pages_are_told_of(void **state)
{
	static const struct bw_http_page pages[] = { { 404, "/404.html" } };
	struct bw_stream *s;

	write_file("404.html", "not here");
	watched_init();
	conf.site.pages = pages;
	conf.site.page_count = 1;
	site_start(1);
	s = fake_open(f, 0);
	assert_string_equal(get(s, "/no"), "not here");
	fake_advance(f, SEC(5));
	assert_int_equal(figure(0, "cache_checks"), 0);
	write_file("404.html", "nowhere");
	SOON((fake_advance(f, MS(1)), strcmp(get(s, "/no"), "nowhere") == 0));
	site_close();
}

static void directories_are_moved(void **state)
{
	struct bw_stream *s;
	int fd;

	mkdir(in_root("p"), 0755);
	mkdir(in_root("p/q"), 0755);
	mkdir(in_root("p2"), 0755);
	mkdir(in_root("p2/q"), 0755);
	write_file("p/q/a", "one");
	write_file("p2/q/a", "two");
	s = watched_open();
	assert_string_equal(get(s, "/p/q/a"), "one");
	assert_string_equal(get(s, "/p2/q/a"), "two");
	/* Neither q nor a is told of anything. */
	move("p", "p3");
	expect_status_soon(s, "/p/q/a", 404);
	move("p2", "p");
	expect_soon(s, "/p/q/a", "two");
	expect_soon(s, "/p3/q/a", "one");
	expect_status_soon(s, "/p2/q/a", 404);
	/* Where it is now, it is watched. */
	write_file("p/q/a", "three");
	expect_soon(s, "/p/q/a", "three");
	fake_advance(f, SEC(2));
	get(s, "/p/q/a");
	expect_trust(s, "/p/q/a", true);
	remove_all("p");
	expect_status_soon(s, "/p/q/a", 404);
	/* One that is removed, but lives on for who is in it, tells nothing of the next. */
	mkdir(in_root("p"), 0755);
	write_file("p/a", "one");
	fd = open(in_root("p"), O_RDONLY);
	expect_soon(s, "/p/a", "one");
	remove_all("p");
	mkdir(in_root("p"), 0755);
	write_file("p/a", "two");
	expect_soon(s, "/p/a", "two");
	write_file("p/a", "three");
	expect_soon(s, "/p/a", "three");
	close(fd);
	remove_all("p");
	expect_status_soon(s, "/p/a", 404);
	/* What nobody has anything of is not watched for long: the root, p3 and p3/q are left. */
	fake_advance(f, SEC(3));
	SOON(figure(0, "cache_watches") == 3);
	site_close();
}

/* Names that lead elsewhere are looked at once a second, for nothing is told where they are. */
static void what_lies_elsewhere_is_not_trusted(void **state)
{
	struct bw_stream *s;

	mkdir(in_root("e"), 0755);
	write_file("e/target", "one");
	write_file("e/first", "linked");
	wait_a_tick();
	assert_int_equal(symlink("e", in_root("dirlink")), 0);
	assert_int_equal(symlink("e/target", in_root("link")), 0);
	s = watched_open();
	expect_trust(s, "/dirlink/target", false);
	expect_trust(s, "/link", false);
	expect_trust(s, "/e/target", true);
	assert_string_equal(get(s, "/dirlink/target"), "one");
	assert_string_equal(get(s, "/link"), "one");
	/* The link itself is told of. */
	assert_int_equal(symlink("e/first", in_root("link2")), 0);
	move("link2", "link");
	expect_soon(s, "/link", "linked");
	/* A second name. */
	expect_trust(s, "/e/first", true);
	add_name("e/first", "e/second");
	write_file("e/first", "single");
	expect_soon(s, "/e/first", "single");
	add_name("e/target", "second");
	expect_trust(s, "/second", false);
	expect_trust(s, "/link", false);
	for (unsigned i = 0; i < 2; i++)
		unlink(in_root(i == 0 ? "link" : "dirlink"));
	site_close();
}

static char hooked[32];

static void change_hooked(void)
{
	unsigned long long before = figure(0, "cache_watch_events");

	overwrite(hooked, "new");
	/* Told, but where nothing is watched yet: then it is read afterwards. */
	for (unsigned i = 0; i < 50 && figure(0, "cache_watch_events") < before + 2; i++)
		usleep(1000);
	usleep(2000);
}

/* Whenever a file is changed while it is looked at, that is not lost. */
static void a_change_while_it_is_looked_at_is_told(void **state)
{
	static const struct timespec then[2] = { { .tv_sec = 1000000000 }, { .tv_sec = 1000000000 } };
	struct bw_stream *s;
	char path[33];
	unsigned n = 0;
	bool was_hooked;

	do {
		n++;
		snprintf(hooked, sizeof(hooked), "hooked%u", n);
		snprintf(path, sizeof(path), "/%s", hooked);
		write_file(hooked, "old");
		utimensat(AT_FDCWD, in_root(hooked), then, 0);
		wait_a_tick();
		s = watched_open();
		hook = change_hooked;
		fstats_until_hook = n;
		ask(s, path);
		was_hooked = fstats_until_hook == 0;
		fstats_until_hook = 0;
		assert_int_equal(status_of(s), 200);
		if (was_hooked)
			expect_soon(s, path, "new");
		site_close();
	} while (was_hooked);
	assert_true(n > 4);
}

static void swap_hooked(void)
{
	unsigned long long before = figure(0, "cache_watch_events");

	move("g", "g2");
	mkdir(in_root("g"), 0755);
	write_file("g/a", "new");
	for (unsigned i = 0; i < 50 && figure(0, "cache_watch_events") < before + 3; i++)
		usleep(1000);
}

/* A directory takes another's place when that is just about to be watched: it is not the old one's watch that counts. */
static void a_directory_is_swapped_while_a_watch_is_set(void **state)
{
	struct bw_stream *s;

	for (unsigned n = 1; n <= 2; n++) {
		mkdir(in_root("g"), 0755);
		write_file("g/a", "old");
		s = watched_open();
		hook = swap_hooked;
		watches_until_hook = n; /* that of the root, that of g */
		assert_string_equal(get(s, "/g/a"), "new");
		assert_int_equal(watches_until_hook, 0);
		fake_advance(f, SEC(2));
		expect_trust(s, "/g/a", true);
		write_file("g/a", "newer");
		expect_soon(s, "/g/a", "newer");
		site_close();
		remove_all("g*");
	}
}

static void what_was_lost_is_looked_at(void **state)
{
	struct bw_stream *s;

	mkdir(in_root("w"), 0755);
	write_file("w/a", "one");
	write_file("w/b", "one");
	s = watched_open();
	get(s, "/w/a");
	get(s, "/w/b");
	expect_trust(s, "/w/b", true);
	atomic_store(&says_overflow, true);
	write_file("w/b", "two");
	SOON(figure(0, "cache_watch_overflows") == 1);
	expect_soon(s, "/w/b", "two");
	fake_hold_jobs(f, true);
	ask(s, "/w/a");
	assert_int_equal(fake_jobs_waiting(f), 1);
	fake_hold_jobs(f, false);
	fake_run(f);
	/* And watched again. */
	fake_advance(f, SEC(2));
	expect_trust(s, "/w/a", true);
	site_close();
}

static void what_cannot_be_watched_is_looked_at(void **state)
{
	struct bw_stream *s;

	bw_log_set_level(BW_LOG_ERROR);
	mkdir(in_root("w"), 0755);
	mkdir(in_root("w/v"), 0755);
	write_file("w/a", "one");
	write_file("w/v/a", "one");
	for (unsigned kind = 0; kind < 3; kind++) {
		has_no_watches = kind == 0;
		is_remote = kind == 1;
		watched_init();
		if (kind == 2)
			conf.watches_max = 2;
		site_start(1);
		s = fake_open(f, 0);
		expect_trust(s, "/w/v/a", false);
		assert_true(figure(0, "cache_watch_refused") > 0);
		assert_int_equal(figure(0, "cache_watches"), kind == 2 ? 2 : 0);
		expect_trust(s, "/w/a", kind == 2);
		write_file("w/v/a", "two");
		fake_advance(f, SEC(4));
		assert_string_equal(get(s, "/w/v/a"), "two");
		write_file("w/v/a", "one");
		/* Later there is room. */
		has_no_watches = is_remote = false;
		if (kind != 2) {
			fake_advance(f, SEC(4));
			expect_trust(s, "/w/v/a", true);
		}
		site_close();
	}
	bw_log_set_level(BW_LOG_INFO);
}

/* ---- roots that are swapped ---------------------------------------------------------------------------- */

static char site_path[128];

static void roots_init(void)
{
	mkdir(in_root("r1"), 0755);
	mkdir(in_root("r2"), 0755);
	write_file("r1/a", "one");
	write_file("r2/a", "two");
	write_file("r2/new", "new");
	write_big("r1/big", 200000, 'A');
	write_big("r2/big", 200000, 'B');
	strcpy(site_path, in_root("current"));
	unlink(site_path);
}

/* As `ln -sfn` does it. */
static void point_to(const char *target)
{
	char temporary[160];

	snprintf(temporary, sizeof(temporary), "%s.new", site_path);
	assert_int_equal(symlink(target, temporary), 0);
	assert_int_equal(rename(temporary, site_path), 0);
}

static void a_root_is_swapped(void **state)
{
	struct bw_stream *s, *slow;

	bw_log_set_level(BW_LOG_ERROR);
	roots_init();
	/* With inotify and without. */
	for (unsigned watches = 0; watches <= 100; watches += 100) {
		point_to("r1");
		watched_init();
		conf.site.root = site_path;
		conf.watches_max = watches;
		site_start(1);
		s = fake_open(f, 0);
		slow = fake_open(f, 0);
		fake_set_space(slow, 50000);
		fake_set_auto_ack(slow, false);
		ask(slow, "/big");
		assert_string_equal(get(s, "/a"), "one");
		ask(s, "/new");
		assert_int_equal(status_of(s), 404);
		point_to("r2");
		SOON(figure(0, "root_swaps") == 1);
		SOON(figure(0, "cache_entries") == 0); /* nothing of the old one is kept for nobody */
		SOON(has_body(s, "/a", "two"));
		if (watches > 0)
			SOON(has_body(s, "/new", "new"));
		get(s, "/big");
		assert_int_equal(span(s, "B"), 200000);
		while (fake_ack(slow, 20000) > 0)
			;
		assert_int_equal(span(slow, "A"), 200000);
		if (watches > 0) {
			write_file("r2/a", "three");
			expect_soon(s, "/a", "three");
			write_file("r2/a", "two");
			expect_soon(s, "/a", "two");
		}
		site_close();
	}
	bw_log_set_level(BW_LOG_INFO);
}

/* Moved away, and another moved there; in between, there is none. */
static void a_root_is_moved(void **state)
{
	struct bw_stream *s;

	bw_log_set_level(BW_LOG_ERROR);
	roots_init();
	strcpy(site_path, in_root("r1"));
	watched_init();
	conf.site.root = site_path;
	site_start(1);
	s = fake_open(f, 0);
	assert_string_equal(get(s, "/a"), "one");
	move("r1", "r3");
	usleep(500000); /* it is seen that there is none */
	fake_advance(f, MS(30));
	assert_string_equal(get(s, "/a"), "one");
	assert_int_equal(figure(0, "root_swaps"), 0);
	move("r2", "r1");
	SOON(has_body(s, "/a", "two"));
	assert_int_equal(figure(0, "root_swaps"), 1);
	/* A file is no root. */
	move("r1", "r2");
	write_file("r1", "no root");
	usleep(500000);
	assert_int_equal(figure(0, "root_swaps"), 1);
	fake_advance(f, MS(30));
	assert_string_equal(get(s, "/a"), "two");
	unlink(site_path);
	bw_log_set_level(BW_LOG_INFO);
	site_close();
}

/* A server's disk may hang: then it is not for the thread to look at, but for who asks. */
static void a_remote_root_is_swapped(void **state)
{
	struct bw_stream *s;

	bw_log_set_level(BW_LOG_ERROR);
	remove_all("r?");
	roots_init();
	point_to("r1");
	is_remote = true;
	watched_init();
	conf.site.root = site_path;
	site_start(1);
	s = fake_open(f, 0);
	assert_string_equal(get(s, "/a"), "one");
	point_to("r2");
	usleep(300000);
	assert_int_equal(figure(0, "root_swaps"), 0);
	fake_advance(f, MS(1100));
	get(s, "/a");
	assert_int_equal(figure(0, "root_swaps"), 1);
	assert_string_equal(get(s, "/a"), "two");
	is_remote = false;
	site_close();
	bw_log_set_level(BW_LOG_INFO);
}

/* Whatever is changed by whom and when: in the end, it is what is there. */
static void many_changes_on_real_threads(void **state)
{
	struct bw_stream *streams[8], *s;
	char name[32], path[33], body[32];
	unsigned version[8] = { 0 };
	uint32_t seed = 1;

	mkdir(in_root("c"), 0755);
	for (unsigned i = 0; i < 8; i++) {
		snprintf(name, sizeof(name), "c/%u", i);
		overwrite(name, "0 0");
	}
	watched_init();
	site_start(2);
	fake_start_helpers(f, 4);
	for (unsigned i = 0; i < 8; i++)
		streams[i] = fake_open(f, i % 2);
	for (unsigned round = 0; round < 200; round++) {
		seed = seed * 1103515245u + 12345u;
		for (unsigned i = 0; i < 8; i++) {
			snprintf(path, sizeof(path), "/c/%u", (i + round) % 8);
			ask(streams[i], path);
		}
		if (round % 10 == 9) {
			move("c", "c2");
			move("c2", "c");
		} else {
			unsigned i = seed >> 16 & 7;

			snprintf(name, sizeof(name), "c/%u", i);
			snprintf(body, sizeof(body), "%u %u", i, ++version[i]);
			overwrite(name, body);
		}
		fake_settle(f);
		fake_advance(f, MS(1));
		fake_settle(f);
	}
	for (unsigned i = 0; i < 8; i++) {
		snprintf(path, sizeof(path), "/c/%u", i);
		snprintf(body, sizeof(body), "%u %u", i, version[i]);
		if (version[i] == 0)
			strcpy(body, "0 0");
		fake_advance(f, MS(30));
		s = streams[0];
		SOON((ask(s, path), fake_settle(f), status_of(s) == 200) && strcmp(body_of(s), body) == 0);
	}
	site_close();
}

static int make_root(void **state)
{
	strcpy(root, "/tmp/bw-http-files-XXXXXX");
	return mkdtemp(root) == NULL;
}

static int remove_root(void **state)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", root);
	return system(command);
}

/* ---- hosts -------------------------------------------------------------------------------------------- */

/* One budget, one table: but a path of one site is not that of another. */
static void sites_share_a_cache_and_no_path(void **state)
{
	static const struct bw_http_constant constants[] = {
		{ .path = "/c", .body = "of a host", .body_bytes = 9 },
	};
	static const char *const names[] = { "a", "b" };
	struct bw_http_site hosts[2] = {
		{ .names = &names[0], .name_count = 1, .constants = constants, .constant_count = 1 },
		{ .names = &names[1], .name_count = 1, .index = "b" },
	};
	struct bw_http__files_figures figures;
	struct bw_http__object *object[3];
	char sub[128];
	unsigned status;

	strcpy(sub, in_root("second"));
	assert_int_equal(mkdir(sub, 0755), 0);
	write_file("b", "first");
	write_file("second/b", "second");
	bw_http_conf_init(&conf);
	conf.site.root = root;
	conf.hosts = hosts;
	conf.host_count = 2;
	conf.cache_bytes_max = MIB;
	hosts[1].root = sub;
	assert_int_equal(bw_http_conf_prepare(&conf), 0);
	assert_int_equal(bw_http__files_site_count(conf.files), 3);
	assert_true(bw_http__files_has_root(conf.files, 0));
	assert_false(bw_http__files_has_root(conf.files, 1));
	assert_null(bw_http__files_constant(conf.files, 0, 0));
	assert_memory_equal(bw_http__files_constant(conf.files, 1, 0)->body, "of a host", 9);
	assert_int_equal(bw_http__files_constant(conf.files, 1, 0)->site, 1);
	assert_null(bw_http__files_constant(conf.files, 1, 1));
	for (unsigned round = 0; round < 2; round++) {
		static const struct {
			unsigned site;
			const char *path, *body;
		} asked[3] = { { 0, "/b", "first" }, { 2, "/b", "second" }, { 2, "/", "second" } };

		for (unsigned i = 0; i < 3; i++) {
			assert_int_equal(
				bw_http__files_get(conf.files, asked[i].site, (const uint8_t *)asked[i].path,
					(uint32_t)strlen(asked[i].path), SEC(1), false, &object[i], &status),
				BW_HTTP__GOT_OBJECT);
			assert_int_equal(object[i]->site, asked[i].site);
			assert_int_equal(object[i]->body_bytes, strlen(asked[i].body));
			assert_memory_equal(object[i]->body, asked[i].body, object[i]->body_bytes);
			bw_http__object_put(object[i]);
		}
	}
	bw_http__files_figures(conf.files, &figures);
	assert_int_equal(figures.entries, 3);
	assert_int_equal(figures.loads, 3);
	bw_http_conf_release(&conf);
	unlink(in_root("second/b"));
	rmdir(sub);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_hit_asks_nobody),
		cmocka_unit_test(a_changed_file_replaces_the_old_one),
		cmocka_unit_test(the_same_size_and_second_are_told_apart),
		cmocka_unit_test(a_change_within_a_tick_of_the_clock_is_seen),
		cmocka_unit_test(a_large_file_has_a_strong_tag_too),
		cmocka_unit_test(a_refusal_is_remembered_for_a_second),
		cmocka_unit_test(a_flood_of_unknown_paths_stays_within_its_bound),
		cmocka_unit_test(the_old_content_lives_until_its_last_reader_is_done),
		cmocka_unit_test(the_least_recently_used_makes_room),
		cmocka_unit_test(a_large_file_is_read_while_it_is_sent),
		cmocka_unit_test(conditions_and_ranges_hold_for_large_files),
		cmocka_unit_test(large_files_keep_their_place_in_the_pipeline),
		cmocka_unit_test(blocks_go_round),
		cmocka_unit_test(who_does_not_read_gives_its_blocks_back),
		cmocka_unit_test(a_connection_may_end_while_its_file_is_read),
		cmocka_unit_test(a_large_file_that_changes_in_place_is_cut_off),
		cmocka_unit_test(a_large_file_survives_scarcity),
		cmocka_unit_test(a_full_cache_waits_for_its_readers_and_then_gives_up),
		cmocka_unit_test(a_connection_may_end_while_its_file_waits_for_room),
		cmocka_unit_test(more_lookups_than_there_may_be_are_a_503),
		cmocka_unit_test(workers_share_what_they_load),
		cmocka_unit_test(a_slow_disk_does_not_stall_what_is_in_memory),
		cmocka_unit_test(a_busy_file_keeps_one_helper_only),
		cmocka_unit_test(many_files_on_real_threads),
		cmocka_unit_test(a_file_beyond_one_slice_of_space),
		cmocka_unit_test(an_unreadable_file_is_a_403),
		cmocka_unit_test(a_wrong_configuration_is_refused),
		cmocka_unit_test(sites_share_a_cache_and_no_path),
		cmocka_unit_test(a_sites_headers_are_in_every_answer),
		cmocka_unit_test(the_longest_head_fits),
		cmocka_unit_test(an_error_page_is_the_body_of_its_status),
		cmocka_unit_test(types_are_of_the_table_that_was_named),
		cmocka_unit_test(what_is_taken_compressed_is_sent_so),
		cmocka_unit_test(a_copy_that_comes_goes_or_is_old_is_seen),
		cmocka_unit_test(copies_count_against_the_cache),
		cmocka_unit_test(large_copies_are_read_while_they_are_sent),
		cmocka_unit_test(a_drain_waits_for_a_large_file),
		cmocka_unit_test(a_directory_is_listed_where_that_is_wanted),
		cmocka_unit_test(a_long_listing_is_cut),
		cmocka_unit_test(what_is_watched_is_trusted),
		cmocka_unit_test(a_change_is_told),
		cmocka_unit_test(what_changes_all_the_time_is_no_work_all_the_time),
		cmocka_unit_test(a_new_name_ends_a_refusal),
		cmocka_unit_test(copies_and_listings_are_told_of),
		cmocka_unit_test(error_pages_are_told_of),
		cmocka_unit_test(directories_are_moved),
		cmocka_unit_test(what_lies_elsewhere_is_not_trusted),
		cmocka_unit_test(a_change_while_it_is_looked_at_is_told),
		cmocka_unit_test(a_directory_is_swapped_while_a_watch_is_set),
		cmocka_unit_test(what_was_lost_is_looked_at),
		cmocka_unit_test(what_cannot_be_watched_is_looked_at),
		cmocka_unit_test(a_root_is_swapped),
		cmocka_unit_test(a_root_is_moved),
		cmocka_unit_test(a_remote_root_is_swapped),
		cmocka_unit_test(many_changes_on_real_threads),
	};

	return cmocka_run_group_tests(tests, make_root, remove_root);
}
