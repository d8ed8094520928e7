/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The HTTP service's jobs, in which the Nth thing that a helper thread asks the system for is refused, for every N. The
 * request gets an answer, other connections get theirs, nothing is lost (fake_destroy(), LeakSanitizer), and a second
 * after the fault all is as if it had not been. The linker puts the refusals in (--wrap, see meson.build).
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include <base/log.h>
#include <service/http.h>

#include "fake_stream.h"

#define SEC(n) ((n)*BW_NS_PER_SEC)
#define BIG    (3u << 20) /* is read while it is sent */
#define MIDDLE (1u << 20) /* has a mapping of its own */

/* ---- refusals -------------------------------------------------------------------------------------------- */

static unsigned asked, refused_from, refused_to; /* [from, to) of what is asked; the first is 1 */
static bool has_refused, is_watching;

static bool is_refused(int error)
{
	if (!is_watching || ++asked < refused_from || asked >= refused_to)
		return false;
	errno = error;
	has_refused = true;
	return true;
}

#define WRAPPED(type, name, parameters, arguments, error, failure)                                           \
	type __real_##name parameters;                                                                       \
	type __wrap_##name parameters;                                                                       \
	type __wrap_##name parameters                                                                        \
	{                                                                                                    \
		return is_refused(error) ? failure : __real_##name arguments;                                \
	}

WRAPPED(void *, malloc, (size_t bytes), (bytes), ENOMEM, NULL)
WRAPPED(void *, calloc, (size_t count, size_t bytes), (count, bytes), ENOMEM, NULL)
WRAPPED(int, posix_memalign, (void **at, size_t alignment, size_t bytes), (at, alignment, bytes), ENOMEM,
	ENOMEM)
WRAPPED(void *, mmap64, (void *at, size_t bytes, int protection, int flags, int fd, off_t offset),
	(at, bytes, protection, flags, fd, offset), ENOMEM, MAP_FAILED)
WRAPPED(int, openat64, (int folder, const char *name, int flags, mode_t mode), (folder, name, flags, mode),
	EMFILE, -1)
WRAPPED(int, fstat64, (int fd, struct stat *st), (fd, st), EIO, -1)
WRAPPED(int, inotify_add_watch, (int fd, const char *path, uint32_t events), (fd, path, events), ENOSPC, -1)
WRAPPED(ssize_t, pread64, (int fd, void *into, size_t bytes, off_t at), (fd, into, bytes, at), EIO, -1)

static bool has_openat2; /* or is of before Linux 5.6 */

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
	va_list args;
	long folder, bytes;
	const char *name;
	void *how;

	va_start(args, number);
	folder = va_arg(args, int);
	name = va_arg(args, const char *);
	how = va_arg(args, void *);
	bytes = va_arg(args, long);
	va_end(args);
	assert_int_equal(number, SYS_openat2);
	if (!has_openat2) {
		errno = ENOSYS;
		return -1;
	}
	return is_refused(EMFILE) ? -1 : __real_syscall(number, folder, name, how, bytes);
}

/* ---- a site ---------------------------------------------------------------------------------------------- */

static char root[] = "/tmp/bw-http-faults-XXXXXX";
static struct bw_http_conf conf;
static struct fake *f;

static const struct page {
	const char *path;
	unsigned status;
	size_t bytes; /* of the body */
} pages[] = {
	{ "/a.txt", 200, 5 },
	{ "/big", 200, BIG },
	{ "/middle", 200, MIDDLE },
	{ "/sub/", 200, 3 },
	{ "/sub", 301, 0 },
	{ "/sub/deeper", 301, 0 },
	{ "/sub/deeper/", 403, 0 },
	{ "/missing", 404, 0 },
};

static const struct page untouched = { "/other", 200, 7 };

static const char *in_root(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", root, name);
	return path;
}

static void write_file(const char *name, size_t bytes)
{
	/* Of another time, so that it is not read twice. */
	static const struct timespec modified[2] = { { 1600000000, 0 }, { 1600000000, 0 } };
	FILE *file = fopen(in_root(name), "we");

	assert_non_null(file);
	while (bytes-- > 0)
		fputc('x', file);
	fclose(file);
	assert_int_equal(utimensat(AT_FDCWD, in_root(name), modified, 0), 0);
}

static int make_site(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(root));
	mkdir(in_root("sub"), 0700);
	mkdir(in_root("sub/deeper"), 0700);
	write_file("a.txt", 5);
	write_file("big", BIG);
	write_file("middle", MIDDLE);
	write_file("other", 7);
	write_file("sub/index.html", 3);
	usleep(25000); /* a tick of the file system's clock: see is_racy() */
	return 0;
}

static int remove_site(void **state)
{
	static const char *const names[] = { "a.txt", "big", "middle", "other", "sub/index.html",
		"sub/deeper", "sub", "" };

	(void)state;
	for (unsigned i = 0; i < BW_ARRAY_LEN(names); i++)
		remove(in_root(names[i]));
	return 0;
}

static void ask(struct bw_stream *s, const char *path)
{
	char request[128];

	fake_output_clear(s);
	snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", path);
	fake_feed(s, request, strlen(request));
}

/** The status of the one response that has come, which is whole. 0: none has. */
static unsigned answered(struct bw_stream *s, size_t *body_bytes)
{
	size_t len;
	const char *output = fake_output(s, &len), *body = strstr(output, "\r\n\r\n"),
		   *length = strstr(output, "Content-Length: ");
	unsigned status;

	if (len == 0)
		return 0;
	assert_int_equal(sscanf(output, "HTTP/1.1 %u ", &status), 1);
	assert_true(body != NULL && length != NULL && length < body);
	*body_bytes = len - (size_t)(body + 4 - output);
	assert_int_equal(strtoul(length + 16, NULL, 10), *body_bytes);
	return status;
}

static void expect(struct bw_stream *s, const struct page *page)
{
	size_t body_bytes = 0;

	assert_int_equal(answered(s, &body_bytes), page->status);
	if (page->status == 200)
		assert_int_equal(body_bytes, page->bytes);
}

/** Work the jobs that are held, with refusals, and those that they lead to. */
static void work(unsigned from, unsigned to)
{
	asked = 0;
	refused_from = from;
	refused_to = to;
	while (fake_jobs_waiting(f) > 0) {
		is_watching = true;
		fake_work_jobs(f, ~0u);
		is_watching = false;
		fake_finish_jobs(f, ~0u);
		fake_run(f);
	}
}

/** The Nth is refused to a request for this page, which is new, or in the cache for longer than it is believed. */
static void refuse_to(const struct page *page, bool is_known, bool is_watched, unsigned n, unsigned in_a_row)
{
	struct bw_stream *s, *other;
	size_t body_bytes;
	unsigned status;

	bw_http_conf_init(&conf);
	conf.site.root = root;
	conf.cache_bytes_max = 16 << 20;
	conf.watches_max = is_watched ? 100 : 0;
	assert_int_equal(bw_http_conf_prepare(&conf), 0);
	f = fake_create(&bw_http_service, &conf, 1);
	s = fake_open(f, 0);
	other = fake_open(f, 0);
	ask(other, untouched.path);
	if (is_known) {
		ask(s, page->path);
		expect(s, page);
		/* What is watched is looked at once a minute, and meanwhile given. */
		fake_advance(f, is_watched ? SEC(61) : SEC(30));
		s = fake_open(f, 0);
		other = fake_open(f, 0);
	}

	has_refused = false;
	fake_hold_jobs(f, true);
	ask(s, page->path);
	work(n, n + in_a_row);
	ask(other, untouched.path);
	fake_hold_jobs(f, false);
	fake_run(f);
	if (fake_is_aborted(s)) {
		/* What has begun can only be cut off. */
		assert_true(has_refused && page->bytes == BIG && fake_output_total(s) < BIG);
		s = fake_open(f, 0);
		status = page->status;
	} else {
		status = answered(s, &body_bytes);
	}
	/* Not found, or forbidden, is what it is only if it is. */
	if (status != page->status && status != 500)
		fail_msg("%s, %s, refusal %u: %u", page->path, is_known ? "known" : "new", n, status);
	expect(other, &untouched);

	fake_advance(f, SEC(1));
	ask(s, page->path);
	expect(s, page);
	fake_destroy(f);
	bw_http_conf_release(&conf);
}

static void helpers_are_refused_what_they_ask_for(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 8 * BW_ARRAY_LEN(pages); i++) {
		const struct page *page = &pages[i / 8];
		unsigned n = 0;

		has_openat2 = i & 2;
		if (i & 4 && !has_openat2)
			continue; /* each that is watched takes a moment to end, and differs by openat2() alone */
		do
			refuse_to(page, i & 1, i & 4, ++n, 1);
		while (has_refused);
		if (n == 1)
			fail_msg("%s, %u: nothing is asked for", page->path, i & 7);
		refuse_to(page, i & 1, i & 4, 1, 1000);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(helpers_are_refused_what_they_ask_for) };

	bw_log_set_level(BW_LOG_ERROR);
	return cmocka_run_group_tests(tests, make_site, remove_site);
}
