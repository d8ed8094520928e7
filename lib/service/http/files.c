/* SPDX-License-Identifier: BSD-3-Clause */
#include "addresses.h"
#include "blocks.h"
#include "files.h"
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <base/assert.h>
#include <base/log.h>
#include <base/siphash.h>

#include "date.h"
#include "listing.h"
#include "mime.h"
#include "parse.h"
#include "router.h"
#include "site.h"
#include "watch.h"

#define BUCKETS            65536
#define OWN_MAP_BYTES_MIN  (64 * 1024)   /* larger bodies are mapped: they go back to the system */
#define TAG_BY_CONTENT_MAX (1024 * 1024) /* larger files are tagged by their times */
#define LOAD_ATTEMPTS      3
#define NAME_ROOM          (4096 + 256)              /* of a path, and an index */
#define REDIRECT_HEAD_MAX  (BW_HTTP__HEAD_MAX - 128) /* with Content-Length, Date and Connection behind it */
#define FILE_BYTES_MAX     (64ull << 20) /* larger files are streamed, where the configuration does not say */
#define FILE_BYTES_MIN     4096u         /* a body that is sent with its head is always in memory */
#define OPEN_FILES_MAX     256u          /* each of the streamed ones is charged this part of the cache */
#define CACHE_BYTES_MIN    (64u * 1024)
#define BESIDE_BODY_MAX    (20u * 1024)                 /* object, path and head */
#define CLOCK_TICK_NS      (20 * (int64_t)BW_NS_PER_MS) /* a file system's clock: twice Linux's longest */

#define HOLD_NS                                                                                              \
	(20 * BW_NS_PER_MS) /* the least time between two looks, however often it is told of a change, */
#define HOLD_BYTE_NS 10     /* and for each byte that is read at each of them, */
#define HOLD_LIST_NS 200    /* or that a listing makes of several stat() */
#define FOREVER_NS   ((bw_ns)1 << 62)

/* A path that a helper is busy with. Others that want it come again: a second helper must not wait for the first. */
struct busy {
	struct bw_link link;
	bool is_changed; /* meanwhile, for all we know */
	unsigned site;
	const uint8_t *path;
	uint32_t path_len;
};

struct bw_http_files {
	struct bw_http__site *sites;
	unsigned site_count;
	struct bw_http__mime *mime;
	uint64_t bytes_max, negative_bytes_max;
	uint64_t file_bytes_max; /* of one that is held */
	struct bw_siphash_key key;
	struct bw_http__watch *watch;
	atomic_bool is_watching; /* the thread runs */

	_Atomic uint64_t bytes, negative_bytes; /* of living objects and dead ones not yet buried */
	_Atomic uint64_t leaving_bytes;         /* of these, out of the table and on their way to be freed */
	_Atomic uint64_t entries, loads, load_failures, checks, evictions, no_room, epoch, root_swaps;
	_Atomic(struct bw_http__object *) dead;

	pthread_mutex_t mutex; /* over all below */
	struct bw_list busy;
	struct bw_list recent;
	bw_ns warn_at;
	struct bw_http__blocks *blocks; /* of all workers */
	struct bw_http__object *bucket[BUCKETS];
};

const char *bw_http__reason(unsigned status)
{
	static const struct {
		uint16_t status;
		const char *reason;
	} reasons[] = {
		{ 200, "OK" },
		{ 201, "Created" },
		{ 202, "Accepted" },
		{ 204, "No Content" },
		{ 206, "Partial Content" },
		{ 301, "Moved Permanently" },
		{ 302, "Found" },
		{ 304, "Not Modified" },
		{ 400, "Bad Request" },
		{ 401, "Unauthorized" },
		{ 403, "Forbidden" },
		{ 404, "Not Found" },
		{ 405, "Method Not Allowed" },
		{ 408, "Request Timeout" },
		{ 410, "Gone" },
		{ 412, "Precondition Failed" },
		{ 413, "Content Too Large" },
		{ 414, "URI Too Long" },
		{ 416, "Range Not Satisfiable" },
		{ 417, "Expectation Failed" },
		{ 418, "I'm a Teapot" },
		{ 429, "Too Many Requests" },
		{ 431, "Request Header Fields Too Large" },
		{ 451, "Unavailable For Legal Reasons" },
		{ 500, "Internal Server Error" },
		{ 501, "Not Implemented" },
		{ 502, "Bad Gateway" },
		{ 503, "Service Unavailable" },
		{ 505, "HTTP Version Not Supported" },
	};

	for (unsigned i = 0; i < BW_ARRAY_LEN(reasons); i++)
		if (reasons[i].status == status)
			return reasons[i].reason;
	return "Status"; /* a reason phrase means nothing (RFC 9112 4) */
}

/* ---- objects ------------------------------------------------------------------------------------------ */

static bool is_negative(const struct bw_http__object *object)
{
	return !object->is_constant && object->status != 200;
}

/* Any thread, and no system call: a push on a lock-free list. */
void bw_http__object_bury(struct bw_http__object *object)
{
	struct bw_http_files *files = object->files;
	struct bw_http__object *head = atomic_load_explicit(&files->dead, memory_order_relaxed);

	do
		object->next_dead = head;
	while (!atomic_compare_exchange_weak_explicit(
		&files->dead, &head, object, memory_order_release, memory_order_relaxed));
}

/* A body's memory: the heap, or for a large one a mapping of *map_bytes, touched now and not by a poll core. NULL:
 * none. */
static uint8_t *body_alloc(uint64_t bytes, uint64_t *map_bytes)
{
	void *body;

	*map_bytes = 0;
	if (bytes < OWN_MAP_BYTES_MIN)
		return posix_memalign(&body, BW_CACHE_LINE, bytes) == 0 ? body : NULL;
	*map_bytes = (bytes + 4095) & ~4095ull;
	body = mmap(
		NULL, *map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	return body == MAP_FAILED ? NULL : body;
}

static void body_free(void *body, uint64_t map_bytes)
{
	if (map_bytes > 0)
		munmap(body, map_bytes);
	else
		free(body);
}

static void object_free(struct bw_http__object *object)
{
	struct bw_http_files *files = object->files;

	for (unsigned i = 0; i < BW_HTTP__VARIANTS; i++)
		if (object->variant[i] != NULL)
			bw_http__object_put(object->variant[i]);
	bw_http__watched_put(object->watched);
	atomic_fetch_sub(is_negative(object) ? &files->negative_bytes : &files->bytes, object->cost_bytes);
	if (atomic_load(&object->is_stale))
		atomic_fetch_sub(&files->leaving_bytes, object->cost_bytes);
	if (object->is_streamed)
		close(object->fd);
	else if (!object->is_constant)
		body_free((void *)(uintptr_t)object->body, object->map_bytes);
	free(object);
}

void bw_http__files_bury(struct bw_http_files *files)
{
	struct bw_http__object *object, *next;

	/* One that is freed may have held others. */
	while ((object = atomic_exchange_explicit(&files->dead, NULL, memory_order_acquire)) != NULL)
		for (; object != NULL; object = next) {
			next = object->next_dead;
			object_free(object);
		}
}

bool bw_http__files_has_dead(const struct bw_http_files *files)
{
	return atomic_load_explicit(&files->dead, memory_order_relaxed) != NULL;
}

/* A head under construction; what does not fit is a bug, all parts are bounded by their makers. */
struct text {
	char bytes[BW_HTTP__HEAD_MAX];
	uint32_t len;
};

__attribute__((format(printf, 2, 3))) static void put(struct text *text, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(text->bytes + text->len, sizeof(text->bytes) - text->len, format, args);
	va_end(args);
	BW_ASSERT(n >= 0);
	BW_ASSERT_LT(text->len + (unsigned)n, sizeof(text->bytes));
	text->len += (uint32_t)n;
}

/* What an object is made from. */
struct plan {
	unsigned site;
	const uint8_t *path;
	uint32_t path_len;
	unsigned status;
	const char *type, *encoding; /* or NULL */
	bool varies;                 /* by Accept-Encoding */
	const uint8_t *body;         /* not copied */
	uint64_t body_bytes;
	bool has_tag, has_modified;
	uint64_t tag;
	int64_t modified_s;
	const char *location; /* for 301 */
};

static void put_head(struct text *text, const struct bw_http__site *site, const struct plan *plan,
	struct bw_http__object *object)
{
	uint32_t at = 0;

	put(text, "HTTP/1.1 %u %s\r\n", plan->status, bw_http__reason(plan->status));
	object->status_line_len = (uint16_t)text->len;
	at = text->len;
	put(text, "Server: barewire\r\n");
	/* A long name's redirect fills a head alone. */
	if (plan->location == NULL ||
		text->len + site->headers_len + strlen(plan->location) < REDIRECT_HEAD_MAX)
		put(text, "%s", site->headers);
	if (plan->has_tag) {
		char tag[BW_HTTP__TAG_LEN];

		bw_http__tag_format(plan->tag, tag);
		put(text, "ETag: %.*s\r\n", BW_HTTP__TAG_LEN, tag);
	}
	if (plan->has_modified) {
		char date[BW_HTTP__DATE_LEN];

		bw_http__date_format(plan->modified_s, date);
		put(text, "Last-Modified: %.*s\r\n", BW_HTTP__DATE_LEN, date);
	}
	if (plan->varies)
		put(text, "Vary: Accept-Encoding\r\n");
	object->validators_len = (uint16_t)(text->len - at);
	at = text->len;
	if (plan->location != NULL)
		put(text, "Location: %s\r\n", plan->location);
	if (plan->type != NULL)
		put(text, "Content-Type: %s\r\n", plan->type);
	object->type_len = (uint16_t)(text->len - at);
	if (plan->encoding != NULL)
		put(text, "Content-Encoding: %s\r\n", plan->encoding);
	if (plan->status == 200)
		put(text, "Accept-Ranges: bytes\r\n");
	object->description_len = (uint16_t)(text->len - at);
	if (plan->status != 204 && plan->status != 304) /* RFC 9110 8.6 */
		put(text, "Content-Length: %llu\r\n", (unsigned long long)plan->body_bytes);
}

/* One allocation: object, path, head. The body is the plan's. One reference, the caller's. NULL: no memory. */
static struct bw_http__object *object_make(struct bw_http_files *files, const struct plan *plan)
{
	struct text text = { .len = 0 };
	struct bw_http__object *object;
	struct bw_http__object lens;
	char *tail;

	put_head(&text, &files->sites[plan->site], plan, &lens);
	object = calloc(1, sizeof(*object) + plan->path_len + text.len);
	if (object == NULL)
		return NULL;
	tail = (char *)(object + 1);
	memcpy(tail, plan->path, plan->path_len);
	memcpy(tail + plan->path_len, text.bytes, text.len);
	atomic_init(&object->refs, 1);
	object->status = (uint16_t)plan->status;
	object->site = (uint16_t)plan->site;
	object->path = tail;
	object->path_len = plan->path_len;
	object->head = tail + plan->path_len;
	object->head_len = text.len;
	object->body = plan->body;
	object->body_bytes = plan->body_bytes;
	object->has_tag = plan->has_tag;
	object->tag = plan->tag;
	object->has_modified = plan->has_modified;
	object->modified_s = plan->modified_s;
	object->status_line_len = lens.status_line_len;
	object->validators_len = lens.validators_len;
	object->description_len = lens.description_len;
	object->type_len = lens.type_len;
	object->files = files;
	object->cost_bytes = sizeof(*object) + plan->path_len + text.len;
	bw_link_init(&object->recent);
	return object;
}

/* ---- the shared table, under the mutex ---------------------------------------------------------------- */

static struct bw_http__object **bucket_of(
	struct bw_http_files *files, unsigned site, const uint8_t *path, uint32_t path_len)
{
	return &files->bucket[bw_http__hash(&files->key, site, path, path_len) % BUCKETS];
}

static struct bw_http__object *table_find(
	struct bw_http_files *files, unsigned site, const uint8_t *path, uint32_t path_len)
{
	struct bw_http__object *object = *bucket_of(files, site, path, path_len);

	while (object != NULL && (object->path_len != path_len || object->site != site ||
					 memcmp(object->path, path, path_len) != 0))
		object = object->next;
	return object;
}

static struct bw_http__object **bucket_of_object(
	struct bw_http_files *files, const struct bw_http__object *object)
{
	return bucket_of(files, object->site, (const uint8_t *)object->path, object->path_len);
}

/* Takes a reference. */
static void table_insert(struct bw_http_files *files, struct bw_http__object *object)
{
	struct bw_http__object **bucket = bucket_of_object(files, object);

	bw_http__object_ref(object);
	object->next = *bucket;
	*bucket = object;
	bw_list_push_back(&files->recent, &object->recent);
	atomic_fetch_add(&files->entries, 1);
}

/* Out of the table, or back in it: with its variants, which go where it goes. */
static void set_leaving(struct bw_http_files *files, struct bw_http__object *object, bool leaves)
{
	bool was = atomic_exchange_explicit(&object->is_stale, leaves, memory_order_release);

	if (leaves && !was)
		atomic_fetch_add(&files->leaving_bytes, object->cost_bytes);
	else if (!leaves && was)
		atomic_fetch_sub(&files->leaving_bytes, object->cost_bytes);
	for (unsigned i = 0; i < BW_HTTP__VARIANTS; i++)
		if (object->variant[i] != NULL)
			set_leaving(files, object->variant[i], leaves);
}

/* Drops the table's reference; workers see is_stale at their next look. */
static void table_remove(struct bw_http_files *files, struct bw_http__object *object)
{
	struct bw_http__object **at = bucket_of_object(files, object);

	while (*at != object)
		at = &(*at)->next;
	*at = object->next;
	bw_link_remove(&object->recent);
	atomic_fetch_sub(&files->entries, 1);
	set_leaving(files, object, true);
	atomic_fetch_add(&files->epoch, 1);
	bw_http__object_put(object);
}

/* What is in the table, or about to be. */
static uint64_t kept_bytes(const struct bw_http_files *files)
{
	uint64_t bytes = atomic_load(&files->bytes), leaving = atomic_load(&files->leaving_bytes);

	return bytes > leaving ? bytes - leaving : 0;
}

/* The one that was not used for longest, or whose turn comes again after one of each: what was used since it was last
 * here is spared once. NULL: none is left. */
static struct bw_http__object *least_used(struct bw_http_files *files)
{
	struct bw_link *link;

	while ((link = bw_list_first(&files->recent)) != NULL) {
		struct bw_http__object *object = bw_container_of(link, struct bw_http__object, recent);

		if (!atomic_exchange_explicit(&object->is_used, false, memory_order_relaxed))
			return object;
		bw_link_remove(link);
		bw_list_push_back(&files->recent, link);
	}
	return NULL;
}

/*
 * Make room for `bytes` and count them as used. The bound is on what really exists, and an evicted object exists
 * until the workers have given it back and its last reader is done. So eviction begins a little below the bound,
 * and what is leaving is not evicted for twice: false says ask again soon. One that `insists` has asked long
 * enough, and takes the room of others instead.
 */
static bool reserve_bytes(struct bw_http_files *files, uint64_t bytes, bool insists)
{
	uint64_t aim = files->bytes_max - files->bytes_max / 16;
	struct bw_http__object *object;
	bool fits;

	aim = aim > bytes ? aim - bytes : 0;
	pthread_mutex_lock(&files->mutex);
	bw_http__files_bury(files);
	while ((insists ? atomic_load(&files->bytes) : kept_bytes(files)) > aim &&
		(object = least_used(files)) != NULL) {
		table_remove(files, object);
		atomic_fetch_add(&files->evictions, 1);
		bw_http__files_bury(files);
	}
	fits = atomic_load(&files->bytes) <= files->bytes_max - bytes;
	if (fits)
		atomic_fetch_add(&files->bytes, bytes);
	pthread_mutex_unlock(&files->mutex);
	return fits;
}

/* ---- the disk ----------------------------------------------------------------------------------------- */

static int open_beneath_by_steps(int root_fd, const char *path, int flags);

int bw_http__open_beneath(int root_fd, const char *path, int flags)
{
	struct open_how how = {
		/* openat2() refuses flags that O_PATH gives no meaning. */
		.flags = ((uint64_t)flags & ~(uint64_t)O_NOFOLLOW) | O_CLOEXEC |
			 (flags & O_PATH ? 0 : O_NONBLOCK | O_NOCTTY),
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS |
			   (flags & O_NOFOLLOW ? RESOLVE_NO_SYMLINKS : 0),
	};
	int fd, attempts = 8;

	/* EAGAIN: something was renamed during the look-up, and the kernel could not be sure. */
	do
		fd = (int)syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
	while (fd < 0 && (errno == EINTR || (errno == EAGAIN && --attempts > 0)));
	if (fd < 0 && errno == ENOSYS)
		return open_beneath_by_steps(root_fd, path, flags);
	return fd < 0 ? -errno : fd;
}

/* For kernels before 5.6: one component after the other, and no symbolic links at all. The path has no dot
 * segments, so every step leads down. */
static int open_beneath_by_steps(int root_fd, const char *path, int flags)
{
	char name[256];
	int fd = openat(root_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	while (fd >= 0) {
		size_t len = strcspn(path, "/"), skip = strspn(path + len, "/");
		bool is_last = path[len + skip] == '\0';
		int next;

		if (len >= sizeof(name)) {
			close(fd);
			return -ENAMETOOLONG;
		}
		memcpy(name, path, len);
		name[len] = '\0';
		next = openat(fd, len > 0 ? name : ".",
			(is_last ? flags | O_NONBLOCK | O_NOCTTY | (skip > 0 ? O_DIRECTORY : 0)
				 : O_PATH | O_DIRECTORY) |
				O_NOFOLLOW | O_CLOEXEC);
		if (next < 0)
			next = -errno;
		close(fd);
		if (is_last || next < 0)
			return next;
		fd = next;
		path += len + skip;
	}
	return -errno;
}

static unsigned status_of_error(int error)
{
	switch (error) {
	case ENOENT:
	case ENOTDIR:
	case ENAMETOOLONG:
		return 404;
	case EACCES:
	case EPERM:
	case EXDEV: /* leads out of the root */
	case ELOOP:
	case ENXIO: /* a socket, or a FIFO that nobody writes to */
		return 403;
	default:
		return 500;
	}
}

static int64_t ns_of(const struct timespec *ts)
{
	return ts->tv_sec * (int64_t)BW_NS_PER_SEC + ts->tv_nsec;
}

static bool is_same_file(const struct bw_http__object *object, const struct stat *st)
{
	return object->device == st->st_dev && object->inode == st->st_ino &&
	       object->body_bytes == (uint64_t)st->st_size && object->mtime_ns == ns_of(&st->st_mtim) &&
	       object->ctime_ns == ns_of(&st->st_ctim);
}

/* The file that a path means: "/" and "/dir/" mean their index. 0 or -errno. */
static int file_name(const struct bw_http__site *site, const uint8_t *path, uint32_t path_len, char *name,
	size_t name_room)
{
	int n = snprintf(name, name_room, "%.*s%s", (int)(path_len - 1), (const char *)path + 1,
		path[path_len - 1] == '/' ? site->index : "");

	return n >= 0 && (size_t)n < name_room ? 0 : -ENAMETOOLONG;
}

/* Read exactly `bytes`, those `from` there on. -ENODATA: the file is shorter by now. */
static int read_all(int fd, uint8_t *into, uint64_t bytes, uint64_t from)
{
	uint64_t at = 0;

	while (at < bytes) {
		ssize_t n = pread(fd, into + at, bytes - at, (off_t)(from + at));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		at += (uint64_t)n;
	}
	return 0;
}

/*
 * Was it changed so lately that a change to come could have the same times? (Git calls such a file racy.) A time in
 * the future is nobody's tick.
 */
static bool is_racy(const struct stat *st, const struct timespec *wall)
{
	int64_t age = ns_of(wall) - ns_of(&st->st_ctim);

	return age < CLOCK_TICK_NS && age > -CLOCK_TICK_NS;
}

/*
 * Strong (RFC 9110 8.8.1). By content, it is the same on every server of a farm, and unchanged by a copy or a touch;
 * but a large file is read often enough. Then it is by what no two contents share, where it is not racy: whoever
 * changes the file, or sets its mtime back, changes its ctime.
 */
static uint64_t tag_of(const uint8_t *body, const struct stat *st, bool by_content)
{
	static const struct bw_siphash_key fixed = { { 0, 0 } };
	uint64_t words[4] = {
		(uint64_t)st->st_size,
		(uint64_t)ns_of(&st->st_mtim),
		(uint64_t)ns_of(&st->st_ctim),
		(uint64_t)st->st_ino,
	};

	if (by_content)
		return bw_siphash(&fixed, body, (size_t)st->st_size);
	return bw_siphash(&fixed, words, sizeof(words));
}

static void type_of(
	const struct bw_http_files *files, unsigned site, const char *name, char *type, size_t type_room)
{
	const char *media = bw_http__mime_of(files->mime, name, strlen(name));
	const char *charset = files->sites[site].charset;
	bool has_charset = charset != NULL && strncmp(media, "text/", 5) == 0;

	snprintf(type, type_room, has_charset ? "%s; charset=%s" : "%s", media, charset);
}

/* What is to be an object: a file, asked for by a path. */
struct source {
	unsigned site;
	int root_fd;
	const uint8_t *path;
	uint32_t path_len;
	const char *name;
	const char *encoding;
	uint64_t tag_mask; /* the same bytes in another coding are another representation */
	bool varies;
};

/* In memory. Else it is streamed. */
static bool is_held(const struct bw_http_files *files, uint64_t bytes)
{
	return bytes <= files->file_bytes_max;
}

/* What a body takes of the cache, page by page; a streamed one's share stands for its descriptor. */
static uint64_t cost_of_body(const struct bw_http_files *files, uint64_t bytes)
{
	return is_held(files, bytes) ? (bytes + 4095) & ~4095ull : files->bytes_max / OPEN_FILES_MAX;
}

/* The file behind fd, in memory or to be read from fd, which is the object's then: an object with one reference, its
 * bytes reserved. 0, -EAGAIN: changed under our hands; -ENOSPC: no room now; or another -errno. */
static int load_once(struct bw_http_files *files, const struct source *source, int fd, bool insists,
	struct bw_http__object **object)
{
	struct stat st, after;
	struct timespec wall;
	uint64_t room, map_bytes = 0;
	bool racy, held, by_content;
	uint8_t *body = NULL;
	char type[BW_HTTP__MIME_TYPE_MAX + sizeof("; charset=") + BW_HTTP__CHARSET_MAX];
	struct plan plan;
	int rc;

	if (fstat(fd, &st) < 0)
		return -errno;
	/* Object, head and path are small change beside the body: reserve their bound, correct it below. */
	room = sizeof(**object) + source->path_len + BW_HTTP__HEAD_MAX +
	       cost_of_body(files, (uint64_t)st.st_size);
	BW_ASSERT_LE(room, files->bytes_max);
	held = is_held(files, (uint64_t)st.st_size);
	if (!reserve_bytes(files, room, insists))
		return -ENOSPC;
	if (held && st.st_size > 0) {
		body = body_alloc((uint64_t)st.st_size, &map_bytes);
		if (body == NULL) {
			rc = -ENOMEM;
			goto unreserve;
		}
		rc = read_all(fd, body, (uint64_t)st.st_size, 0);
		if (rc < 0)
			goto free_body;
	}
	rc = fstat(fd, &after) < 0 ? -errno : 0;
	if (rc == 0 && (after.st_size != st.st_size || ns_of(&after.st_mtim) != ns_of(&st.st_mtim) ||
			       ns_of(&after.st_ctim) != ns_of(&st.st_ctim)))
		rc = -EAGAIN; /* written meanwhile: half old, half new */
	if (rc < 0)
		goto free_body;
	/* RFC 9110 8.8.2.1: not later than the Date it is sent with. */
	clock_gettime(CLOCK_REALTIME, &wall);
	racy = is_racy(&st, &wall);
	by_content = held && (st.st_size <= TAG_BY_CONTENT_MAX || racy);
	type_of(files, source->site, source->name, type, sizeof(type));
	plan = (struct plan){
		.site = source->site,
		.path = source->path,
		.path_len = source->path_len,
		.status = 200,
		.type = type,
		.encoding = source->encoding,
		.varies = source->varies,
		.body = body,
		.body_bytes = (uint64_t)st.st_size,
		.has_tag = by_content || !racy, /* none is better than one that two contents may have */
		.tag = tag_of(body, &st, by_content) ^ source->tag_mask,
		.has_modified = true,
		.modified_s = BW_MIN((int64_t)st.st_mtim.tv_sec, (int64_t)wall.tv_sec),
	};
	*object = object_make(files, &plan);
	if (*object == NULL) {
		rc = -ENOMEM;
		goto free_body;
	}
	(*object)->map_bytes = map_bytes;
	(*object)->is_streamed = !held;
	(*object)->fd = fd;
	if (!held)
		(*object)->cost_bytes += cost_of_body(files, (uint64_t)st.st_size);
	else
		(*object)->cost_bytes += map_bytes > 0 ? map_bytes : (uint64_t)st.st_size;
	(*object)->device = st.st_dev;
	(*object)->inode = st.st_ino;
	/* The next look at a racy file must not find it the same, whatever it finds. */
	(*object)->mtime_ns = racy ? INT64_MIN : ns_of(&st.st_mtim);
	(*object)->ctime_ns = ns_of(&st.st_ctim);
	atomic_fetch_sub(&files->bytes, room - (*object)->cost_bytes);
	return 0;
free_body:
	body_free(body, map_bytes);
unreserve:
	atomic_fetch_sub(&files->bytes, room);
	return rc;
}

/* Percent-encode into out, which has room for three times the length and a NUL. */
static void encode(const uint8_t *path, uint32_t path_len, char *out)
{
	for (uint32_t i = 0; i < path_len; i++) {
		uint8_t c = path[i];
		bool is_plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
				(c != '\0' && strchr("-._~/!$&'()*+,;=:@", c) != NULL);

		if (is_plain) {
			*out++ = (char)c;
		} else {
			*out++ = '%';
			*out++ = "0123456789ABCDEF"[c >> 4];
			*out++ = "0123456789ABCDEF"[c & 15];
		}
	}
	*out = '\0';
}

/* A refusal or a redirect, to be remembered for a second. NULL: over its bound, or no memory. */
static struct bw_http__object *make_negative(
	struct bw_http_files *files, unsigned site, const uint8_t *path, uint32_t path_len, unsigned status)
{
	char location[3 * 512 + 8] = "";
	struct plan plan = { .site = site, .path = path, .path_len = path_len, .status = status };
	struct bw_http__object *object;

	if (status == 301) {
		/* The whole path, or where that is long, relative to where the client is (RFC 9110 10.2.2): a
		 * name is at most 255 bytes. "./" guards a colon in it (RFC 3986 4.2). */
		if (path_len <= 128) {
			encode(path, path_len, location);
		} else {
			const uint8_t *slash = memrchr(path, '/', path_len);
			uint32_t name_len = (uint32_t)(path + path_len - slash - 1);

			if (name_len > 255)
				return NULL; /* no file system here has them; one that does gets no redirects */
			memcpy(location, "./", 2);
			encode(slash + 1, name_len, location + 2);
		}
		strcat(location, "/");
		plan.location = location;
	}
	object = object_make(files, &plan);
	if (object == NULL)
		return NULL;
	atomic_fetch_add(&files->negative_bytes, object->cost_bytes);
	if (atomic_load(&files->negative_bytes) > files->negative_bytes_max) {
		object_free(object);
		return NULL;
	}
	return object;
}

/* A line a second at most: peers decide how often this happens. */
static void warn_limited(struct bw_http_files *files, bw_ns now, const char *what, const uint8_t *path,
	uint32_t path_len, const char *why, const char *remedy)
{
	char text[3 * 128 + 1];
	bool is_due;

	pthread_mutex_lock(&files->mutex);
	is_due = now >= files->warn_at;
	if (is_due)
		files->warn_at = now + BW_NS_PER_SEC;
	pthread_mutex_unlock(&files->mutex);
	if (!is_due)
		return;
	encode(path, BW_MIN(path_len, 128u), text); /* a peer's bytes: nothing for a terminal to obey */
	bw_warn("http: %s %s: %s%s", what, text, why, remedy);
}

/* A descriptor to find out what a path is, without opening that, or -errno. *is_elsewhere is set where a symbolic link
 * leads there: changes are told of in another place then. */
static int open_path(int root_fd, const char *name, bool *is_elsewhere)
{
	int fd = bw_http__open_beneath(root_fd, name, O_PATH | O_NOFOLLOW);

	if (fd != -ELOOP)
		return fd;
	*is_elsewhere = true;
	return bw_http__open_beneath(root_fd, name, O_PATH);
}

/* Is the file mounted where it is found? Its changes are told of where it comes from. Before Linux 5.8, nobody knows. */
static bool is_mounted(int fd)
{
	struct statx stx;

	return statx(fd, "", AT_EMPTY_PATH, 0, &stx) == 0 &&
	       (stx.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

/* Open a file to read it: 0, or -errno; -EPERM: it is none. */
static int open_file(int root_fd, const char *name, int *fd)
{
	struct stat st;
	int rc;

	*fd = bw_http__open_beneath(root_fd, name, O_RDONLY);
	if (*fd < 0)
		return *fd;
	rc = fstat(*fd, &st) < 0 ? -errno : S_ISREG(st.st_mode) ? 0 : -EPERM;
	if (rc < 0)
		close(*fd);
	return rc;
}

/* As load_once(), until it holds still. */
static int load(struct bw_http_files *files, const struct source *source, const char *name, bool insists,
	struct bw_http__object **object)
{
	int fd, rc = open_file(source->root_fd, name, &fd);

	if (rc < 0)
		return rc;
	for (int attempt = 0;; attempt++) {
		rc = load_once(files, source, fd, insists, object);
		if ((rc != -EAGAIN && rc != -ENODATA) || attempt == LOAD_ATTEMPTS)
			break;
	}
	if (rc < 0 || !(*object)->is_streamed)
		close(fd);
	return rc;
}

/* A file that is appended to, such as a log, is served as it was; one that was overwritten is no one file any more.
 * Its ctime is no help: that of a file that another was moved over changes, too. */
static bool is_overwritten(const struct bw_http__object *object, const struct stat *st)
{
	if ((uint64_t)st->st_size < object->body_bytes)
		return true;
	return (uint64_t)st->st_size == object->body_bytes && object->mtime_ns != INT64_MIN &&
	       object->mtime_ns != ns_of(&st->st_mtim);
}

int bw_http__files_read(struct bw_http__object *object, uint8_t *into, uint32_t len, uint64_t at, bw_ns now)
{
	struct stat st;
	int rc = read_all(object->fd, into, len, at);

	if (rc == 0 && fstat(object->fd, &st) < 0)
		rc = -errno;
	else if (rc == 0 && is_overwritten(object, &st))
		rc = -ENODATA;
	if (rc < 0)
		warn_limited(object->files, now, "connection reset, for there is no more of",
			(const uint8_t *)object->path, object->path_len,
			rc == -ENODATA ? "it was changed in place" : strerror(-rc),
			rc == -ENODATA ? "; replace files by renaming" : "");
	return rc;
}

struct bw_http__blocks *bw_http__files_blocks(struct bw_http_files *files)
{
	struct bw_http__blocks *blocks = bw_http__blocks_create(files->bytes_max);

	if (blocks == NULL)
		return NULL;
	pthread_mutex_lock(&files->mutex);
	blocks->next = files->blocks;
	files->blocks = blocks;
	pthread_mutex_unlock(&files->mutex);
	return blocks;
}

/* ---- variants ----------------------------------------------------------------------------------------- */

static const struct {
	const char *suffix, *encoding;
} variants[BW_HTTP__VARIANTS] = {
	[BW_HTTP__VARIANT_BR] = { ".br", "br" },
	[BW_HTTP__VARIANT_GZIP] = { ".gz", "gzip" },
};

/* What is beside a file. */
struct siblings {
	bool is_there[BW_HTTP__VARIANTS];
	bool is_elsewhere; /* or may be */
	struct stat st[BW_HTTP__VARIANTS];
};

static bool has_suffix(const char *name, const char *suffix)
{
	size_t len = strlen(name), suffix_len = strlen(suffix);

	return len >= suffix_len && strcmp(name + len - suffix_len, suffix) == 0;
}

/* One that is older than the file was made of another one: whoever edits a file and forgets its copies is not punished
 * with what he had before. */
static void look_beside(const struct bw_http__site *site, int root_fd, const char *name,
	const struct stat *st, struct siblings *siblings)
{
	memset(siblings, 0, sizeof(*siblings));
	if (!site->precompressed)
		return;
	for (unsigned i = 0; i < BW_HTTP__VARIANTS; i++)
		if (has_suffix(name, variants[i].suffix))
			return; /* itself a copy */
	for (unsigned i = 0; i < BW_HTTP__VARIANTS; i++) {
		char sibling[NAME_ROOM + 8];
		int fd;

		snprintf(sibling, sizeof(sibling), "%s%s", name, variants[i].suffix);
		fd = open_path(root_fd, sibling, &siblings->is_elsewhere);
		if (fd < 0)
			continue;
		siblings->is_there[i] = fstat(fd, &siblings->st[i]) == 0 &&
					S_ISREG(siblings->st[i].st_mode) &&
					siblings->st[i].st_mtim.tv_sec >= st->st_mtim.tv_sec;
		siblings->is_elsewhere |= siblings->st[i].st_nlink > 1 || is_mounted(fd);
		close(fd);
	}
}

static bool is_same_set(const struct bw_http__object *object, const struct siblings *siblings)
{
	for (unsigned i = 0; i < BW_HTTP__VARIANTS; i++) {
		if (object->variants_lost & 1u << i)
			continue;
		if (siblings->is_there[i] != (object->variant[i] != NULL))
			return false;
		if (siblings->is_there[i] && !is_same_file(object->variant[i], &siblings->st[i]))
			return false;
	}
	return true;
}

/* 0, or -ENOSPC: no room now. One that cannot be had otherwise is left out until something changes. */
static int load_variants(struct bw_http_files *files, const struct source *source,
	const struct siblings *siblings, bool insists, struct bw_http__object *object)
{
	uint64_t bytes = object->cost_bytes;

	for (unsigned i = 0; i < BW_HTTP__VARIANTS; i++) {
		struct source other = *source;
		char sibling[NAME_ROOM + 8];
		int rc;

		if (!siblings->is_there[i])
			continue;
		other.encoding = variants[i].encoding;
		other.tag_mask = 0x9e3779b97f4a7c15ull * (i + 1);
		snprintf(sibling, sizeof(sibling), "%s%s", source->name, variants[i].suffix);
		bytes += cost_of_body(files, (uint64_t)siblings->st[i].st_size);
		/* All of them must fit at once, beside something else. */
		rc = bytes <= files->bytes_max / 2
			     ? load(files, &other, sibling, insists, &object->variant[i])
			     : -EFBIG;
		if (rc == -ENOSPC)
			return rc;
		if (rc < 0)
			object->variants_lost |= (uint8_t)(1u << i);
		else
			object->has_variants = true;
	}
	return 0;
}

/* ---- listings ----------------------------------------------------------------------------------------- */

/*
 * The directory as a page. A file that grows changes nothing about its directory, so the page is made anew at every
 * look; where it says the same, the old one stays. NULL: no memory.
 */
static struct bw_http__object *make_listing(
	struct bw_http_files *files, const struct source *source, char *body, size_t body_bytes)
{
	static const struct bw_siphash_key fixed = { { 0, 0 } };
	struct plan plan = {
		.site = source->site,
		.path = source->path,
		.path_len = source->path_len,
		.status = 200,
		.type = "text/html; charset=utf-8",
		.body = (const uint8_t *)body,
		.body_bytes = body_bytes,
		.has_tag = true,
		.tag = bw_siphash(&fixed, body, body_bytes),
	};
	struct bw_http__object *object = object_make(files, &plan);

	if (object == NULL)
		return NULL;
	object->cost_bytes += body_bytes;
	object->mtime_ns = INT64_MIN; /* no file is this */
	return object;
}

static enum bw_http__got list(struct bw_http_files *files, const struct source *source, bw_ns now,
	bool insists, struct bw_http__object *old, struct bw_http__object **object, unsigned *status)
{
	char *body;
	size_t body_bytes;
	uint64_t room;
	int rc = bw_http__listing_make(
		source->root_fd, source->name, source->path, source->path_len, &body, &body_bytes);

	if (rc < 0) {
		*status = status_of_error(-rc);
		return BW_HTTP__GOT_STATUS;
	}
	*status = 0;
	if (old != NULL && old->mtime_ns == INT64_MIN && old->inode == 0 && old->body_bytes == body_bytes &&
		memcmp(old->body, body, body_bytes) == 0) {
		free(body);
		*object = bw_http__object_ref(old);
		return BW_HTTP__GOT_OBJECT;
	}
	room = sizeof(**object) + source->path_len + BW_HTTP__HEAD_MAX + body_bytes;
	if (room > files->bytes_max || !reserve_bytes(files, room, insists)) {
		free(body);
		if (room <= files->bytes_max)
			return BW_HTTP__GOT_NO_ROOM;
		atomic_fetch_add(&files->no_room, 1);
		warn_limited(files, now, "refused (503)", source->path, source->path_len,
			"its listing is larger than the file cache", "; give http a larger cache");
		*status = 503;
		return BW_HTTP__GOT_STATUS;
	}
	*object = make_listing(files, source, body, body_bytes);
	atomic_fetch_sub(&files->bytes, *object != NULL ? room - (*object)->cost_bytes : room);
	if (*object == NULL) {
		free(body);
		*status = 500;
		return BW_HTTP__GOT_STATUS;
	}
	atomic_fetch_add(&files->loads, 1);
	return BW_HTTP__GOT_OBJECT;
}

/* A path that somebody asks for, and below which root. */
struct question {
	unsigned site;
	const struct bw_http__root *root;
	const uint8_t *path;
	uint32_t path_len;
	bw_ns now;
	bool insists;
	struct bw_http__object *old; /* is returned again if that still is the answer. Or NULL */
};

/* Ask the disk what the path is. *is_elsewhere: not all of that is in the path's own directory alone. */
static enum bw_http__got look(struct bw_http_files *files, const struct question *question,
	struct bw_http__object **object, unsigned *status, bool *is_elsewhere)
{
	const struct bw_http__site *site = &files->sites[question->site];
	const uint8_t *path = question->path;
	uint32_t path_len = question->path_len;
	struct bw_http__object *old = question->old;
	bool insists = question->insists;
	bw_ns now = question->now;
	int root_fd = question->root->fd;
	struct source source = {
		.site = question->site, .root_fd = root_fd, .path = path, .path_len = path_len
	};
	struct siblings siblings;
	char name[NAME_ROOM];
	struct stat st;
	int fd, rc;

	*status = 0;
	*is_elsewhere = false;
	rc = file_name(site, path, path_len, name, sizeof(name));
	if (rc < 0) {
		*status = status_of_error(-rc);
		return BW_HTTP__GOT_STATUS;
	}
	/* Opening a device may do something: look before, without opening. */
	fd = open_path(root_fd, name, is_elsewhere);
	if (fd < 0) {
		*status = status_of_error(-fd);
		/* A directory without index: there is something, but nothing to be shown. */
		if (*status == 404 && path[path_len - 1] == '/') {
			name[strlen(name) - strlen(site->index)] = '\0';
			fd = bw_http__open_beneath(
				root_fd, name[0] != '\0' ? name : ".", O_PATH | O_DIRECTORY);
			*status = fd >= 0 ? 403 : status_of_error(-fd);
			if (fd >= 0)
				close(fd);
			source.name = name;
			if (fd >= 0 && site->listing)
				return list(files, &source, now, insists, old, object, status);
		}
		goto refuse;
	}
	rc = fstat(fd, &st) < 0 ? errno : 0;
	*is_elsewhere |= is_mounted(fd);
	close(fd);
	if (rc != 0) {
		*status = status_of_error(rc);
		goto refuse;
	}
	if (S_ISDIR(st.st_mode)) {
		/* An index that is a directory is no index. */
		*status = path[path_len - 1] == '/' ? 403 : 301;
		goto refuse;
	}
	if (!S_ISREG(st.st_mode)) {
		*status = 403;
		goto refuse;
	}
	look_beside(site, root_fd, name, &st, &siblings);
	*is_elsewhere |= st.st_nlink > 1 || siblings.is_elsewhere;
	if (old != NULL && is_same_file(old, &st) && is_same_set(old, &siblings)) {
		*object = bw_http__object_ref(old);
		return BW_HTTP__GOT_OBJECT;
	}
	source.name = name;
	for (unsigned i = 0; i < BW_HTTP__VARIANTS; i++)
		source.varies |= siblings.is_there[i];
	rc = load(files, &source, name, insists, object);
	if (rc == 0) {
		rc = load_variants(files, &source, &siblings, insists, *object);
		if (rc < 0) {
			bw_http__object_put(*object);
			*object = NULL;
		}
	}
	switch (rc) {
	case 0:
		atomic_fetch_add(&files->loads, 1);
		return BW_HTTP__GOT_OBJECT;
	case -ENOSPC:
		return BW_HTTP__GOT_NO_ROOM;
	default:
		*status = status_of_error(-rc);
		if (*status != 500)
			break;
		atomic_fetch_add(&files->load_failures, 1);
		warn_limited(files, now, "cannot load", path, path_len,
			rc == -EAGAIN || rc == -ENODATA ? "it changes faster than it can be read"
							: strerror(-rc),
			"");
		return BW_HTTP__GOT_STATUS;
	}
refuse:
	*object = make_negative(files, question->site, path, path_len, *status);
	return *object != NULL ? BW_HTTP__GOT_OBJECT : BW_HTTP__GOT_STATUS;
}

static struct busy *busy_find(
	struct bw_http_files *files, unsigned site, const uint8_t *path, uint32_t path_len)
{
	BW_LIST_FOREACH (link, &files->busy) {
		struct busy *busy = bw_container_of(link, struct busy, link);

		if (busy->site == site && busy->path_len == path_len &&
			memcmp(busy->path, path, path_len) == 0)
			return busy;
	}
	return NULL;
}

/* ---- roots -------------------------------------------------------------------------------------------- */

/* All that came from a root goes with it: nobody will ask for most of it again, and the disk wants its room back. */
static void forget_root(struct bw_http_files *files, unsigned number, const struct bw_http__root *root)
{
	bw_http__watch_forget(files->watch, number, root->id);
	pthread_mutex_lock(&files->mutex);
	BW_LIST_FOREACH_SAFE (link, tmp, &files->recent) {
		struct bw_http__object *object = bw_container_of(link, struct bw_http__object, recent);

		if (object->site == number)
			table_remove(files, object);
	}
	pthread_mutex_unlock(&files->mutex);
}

/* Has another directory taken its place? All requests to come are answered from that. */
static void look_at_root(struct bw_http_files *files, unsigned number)
{
	struct bw_http__site *site = &files->sites[number];
	struct bw_http__root *root, *found;
	bool is_swapped = false;

	pthread_mutex_lock(&files->mutex);
	root = site->root;
	atomic_fetch_add(&root->refs, 1);
	pthread_mutex_unlock(&files->mutex);
	found = bw_http__site_find_root(site, root);
	if (found != NULL) {
		pthread_mutex_lock(&files->mutex);
		is_swapped = site->root == root; /* and nobody else was faster */
		if (is_swapped)
			site->root = found;
		pthread_mutex_unlock(&files->mutex);
		bw_http__root_put(is_swapped ? root : found);
	}
	if (is_swapped) {
		atomic_fetch_add(&files->root_swaps, 1);
		forget_root(files, number, root);
		bw_info("http: document root %s is another directory now", site->root_path);
	}
	bw_http__root_put(root);
}

static bool root_is_local(struct bw_http_files *files, const struct bw_http__site *site)
{
	bool is_local;

	pthread_mutex_lock(&files->mutex);
	is_local = site->root != NULL && site->root->is_local;
	pthread_mutex_unlock(&files->mutex);
	return is_local;
}

/* The thread looks at roots, but must not wait for a server. That do those who wait for it anyway, once a second. */
static bool root_is_due(struct bw_http_files *files, struct bw_http__site *site, bw_ns now)
{
	bw_ns at = atomic_load(&site->root_look_at);

	if ((int64_t)(now - at) < 0 || (atomic_load(&files->is_watching) && root_is_local(files, site)))
		return false;
	return atomic_compare_exchange_strong(&site->root_look_at, &at, now + BW_HTTP__FRESH_NS);
}

/* ---- getting ------------------------------------------------------------------------------------------ */

/* Hold the directory that the path is in, or the nearest above that is watched. */
static struct bw_http__watched *watch_dir(
	struct bw_http_files *files, const struct question *question, bool *is_whole)
{
	const uint8_t *slash = memrchr(question->path, '/', question->path_len);
	size_t len = slash > question->path ? (size_t)(slash - question->path) - 1 : 0;
	char dir[NAME_ROOM];

	*is_whole = false;
	if (len >= sizeof(dir))
		return NULL;
	memcpy(dir, question->path + 1, len);
	dir[len] = '\0';
	return bw_http__watch_hold(
		files->watch, question->site, question->root->id, question->root->fd, dir, is_whole);
}

/* Not racy: then the next look must not find the same; and no listing, for it tells of what is elsewhere. */
static bool is_at_rest(const struct bw_http__object *object)
{
	for (unsigned i = 0; i < BW_HTTP__VARIANTS; i++)
		if (object->variant[i] != NULL && object->variant[i]->mtime_ns == INT64_MIN)
			return false;
	return object->status == 200 && object->mtime_ns != INT64_MIN;
}

/* Never later than it was to be. Under the mutex, as all that sets these times. */
static void look_no_later(struct bw_http__object *object, bw_ns at)
{
	if ((int64_t)(at - atomic_load(&object->look_at)) < 0)
		atomic_store(&object->look_at, at);
	if ((int64_t)(at - atomic_load(&object->stale_at)) < 0)
		atomic_store(&object->stale_at, at);
}

/* It was told of a change: look again, though not all the time at what changes all the time. */
static void look_again(struct bw_http__object *object)
{
	uint64_t bytes = object->is_streamed ? 0 : object->body_bytes;
	bool is_listing = object->mtime_ns == INT64_MIN && object->inode == 0;

	look_no_later(
		object, object->looked_at + HOLD_NS + bytes * (is_listing ? HOLD_LIST_NS : HOLD_BYTE_NS));
}

/* A look began at `now`, and this is what it has found. */
static void set_times(struct bw_http__object *object, bw_ns now, bool is_watched, bool is_changed)
{
	object->looked_at = now;
	atomic_store(&object->look_at, now + (is_watched ? BW_HTTP__WATCHED_NS : BW_HTTP__FRESH_NS));
	atomic_store(&object->stale_at, now + (is_watched ? FOREVER_NS : BW_HTTP__STALE_NS));
	if (is_changed)
		look_again(object);
}

/* What is in the table by now is what was found, or nothing. */
static void table_update(struct bw_http_files *files, const struct question *question, enum bw_http__got got,
	struct bw_http__object *object)
{
	struct bw_http__object *present =
		table_find(files, question->site, question->path, question->path_len);

	if (object != NULL && !is_negative(object)) {
		if (files->sites[question->site].root != question->root) {
			set_leaving(files, object, true); /* an answer to who asked, and no more */
			return;
		}
		if (present == object)
			return;
		if (present != NULL)
			table_remove(files, present);
		/* Evicted while we looked: it is the truth, so it is back. */
		set_leaving(files, object, false);
		table_insert(files, object);
	} else if (present != NULL && got != BW_HTTP__GOT_NO_ROOM) {
		table_remove(files, present);
	}
}

enum bw_http__got bw_http__files_get(struct bw_http_files *files, unsigned site, const uint8_t *path,
	uint32_t path_len, bw_ns now, bool insists, struct bw_http__object **object, unsigned *status)
{
	struct busy busy = { .site = site, .path = path, .path_len = path_len };
	struct question question = {
		.site = site, .path = path, .path_len = path_len, .now = now, .insists = insists
	};
	struct bw_http__watched *dir, *dir_before;
	unsigned dir_changes;
	bool is_watched, is_elsewhere;
	enum bw_http__got got;
	struct bw_http__object *old;
	struct bw_http__root *root;

	BW_ASSERT_LT(site, files->site_count);
	BW_ASSERT(files->sites[site].root_path != NULL);
	BW_ASSERT(path_len > 0 && path[0] == '/');
	bw_http__files_bury(files);
	*object = NULL;
	if (root_is_due(files, &files->sites[site], now))
		look_at_root(files, site);
	pthread_mutex_lock(&files->mutex);
	if (busy_find(files, site, path, path_len) != NULL) {
		pthread_mutex_unlock(&files->mutex);
		return BW_HTTP__GOT_BUSY;
	}
	old = table_find(files, site, path, path_len);
	if (old != NULL) {
		bw_link_remove(&old->recent);
		bw_list_push_back(&files->recent, &old->recent);
		if ((int64_t)(now - atomic_load(&old->look_at)) < 0) {
			*object = bw_http__object_ref(old);
			pthread_mutex_unlock(&files->mutex);
			return BW_HTTP__GOT_OBJECT;
		}
		question.old = bw_http__object_ref(old);
		atomic_fetch_add(&files->checks, 1);
	}
	root = files->sites[site].root;
	atomic_fetch_add(&root->refs, 1);
	question.root = root;
	bw_list_push_back(&files->busy, &busy.link);
	pthread_mutex_unlock(&files->mutex);

	/* In this order, so that what changes after the look is told of. */
	dir = dir_before = watch_dir(files, &question, &is_watched);
	dir_changes = dir != NULL ? bw_http__watched_changes(dir) : 0;
	got = look(files, &question, object, status, &is_elsewhere);

	pthread_mutex_lock(&files->mutex);
	bw_link_remove(&busy.link);
	table_update(files, &question, got, *object);
	if (*object != NULL) {
		set_times(*object, now, is_watched && !is_elsewhere && is_at_rest(*object), busy.is_changed);
		dir_before = (*object)->watched;
		(*object)->watched = dir;
		(*object)->watched_changes = dir_changes;
	}
	pthread_mutex_unlock(&files->mutex);
	bw_http__watched_put(dir_before);
	bw_http__root_put(root);
	if (old != NULL)
		bw_http__object_put(old);
	return got;
}

/* ---- what changes ------------------------------------------------------------------------------------- */

/* Under the mutex. */
static void path_changed(struct bw_http_files *files, unsigned site, const char *text, size_t len)
{
	const uint8_t *path = (const uint8_t *)text;
	struct bw_http__object *object = table_find(files, site, path, (uint32_t)len);
	struct busy *busy = busy_find(files, site, path, (uint32_t)len);

	if (object != NULL)
		look_again(object);
	if (busy != NULL)
		busy->is_changed = true;
}

/* "/dir/": what is below begins with that. */
static size_t dir_path(const char *dir, char *path, size_t path_room)
{
	int n = snprintf(path, path_room, "/%s%s", dir, dir[0] != '\0' ? "/" : "");

	BW_ASSERT(n > 0 && (size_t)n < path_room);
	return (size_t)n;
}

static void name_changed(void *arg, unsigned number, const char *dir, const char *name, bool name_is_same)
{
	struct bw_http_files *files = arg;
	const struct bw_http__site *site = &files->sites[number];
	char path[NAME_ROOM + 256];
	size_t dir_len = dir_path(dir, path, NAME_ROOM), name_len = strlen(name);
	bool is_index = strcmp(name, site->index) == 0;

	memcpy(path + dir_len, name, name_len + 1);
	pthread_mutex_lock(&files->mutex);
	path_changed(files, number, path, dir_len + name_len);
	/* It may be a copy of another. */
	for (unsigned i = 0; i < BW_HTTP__VARIANTS; i++)
		if (has_suffix(name, variants[i].suffix)) {
			name_len -= strlen(variants[i].suffix);
			path[dir_len + name_len] = '\0';
			path_changed(files, number, path, dir_len + name_len);
			is_index = strcmp(path + dir_len, site->index) == 0;
			break;
		}
	if (is_index || (site->listing && !name_is_same))
		path_changed(files, number, path, dir_len);
	pthread_mutex_unlock(&files->mutex);
}

static bool is_below(const char *path, uint32_t path_len, const char *prefix, size_t prefix_len)
{
	return path_len >= prefix_len && memcmp(path, prefix, prefix_len) == 0;
}

/* All at once, and now: this is no file that changes all the time. */
static void dir_changed(void *arg, unsigned site, const char *dir)
{
	struct bw_http_files *files = arg;
	char prefix[NAME_ROOM];
	size_t len = dir_path(dir, prefix, sizeof(prefix));

	pthread_mutex_lock(&files->mutex);
	BW_LIST_FOREACH (link, &files->recent) {
		struct bw_http__object *object = bw_container_of(link, struct bw_http__object, recent);

		if (object->site == site && is_below(object->path, object->path_len, prefix, len))
			look_no_later(object, object->looked_at);
	}
	BW_LIST_FOREACH (link, &files->busy) {
		struct busy *busy = bw_container_of(link, struct busy, link);

		if (busy->site == site && is_below((const char *)busy->path, busy->path_len, prefix, len))
			busy->is_changed = true;
	}
	pthread_mutex_unlock(&files->mutex);
}

static void look_at_roots(void *arg)
{
	struct bw_http_files *files = arg;

	for (unsigned i = 0; i < files->site_count; i++)
		if (root_is_local(files, &files->sites[i]))
			look_at_root(files, i);
}

void bw_http__files_start(struct bw_http_files *files)
{
	int rc = 0;

	pthread_mutex_lock(&files->mutex);
	if (!atomic_load(&files->is_watching)) {
		rc = bw_http__watch_start(files->watch);
		atomic_store(&files->is_watching, rc == 0);
	}
	pthread_mutex_unlock(&files->mutex);
	if (rc < 0)
		bw_warn("http: cannot start the thread that watches documents (%s): each is looked at once a second",
			strerror(-rc));
}

uint64_t bw_http__files_epoch(const struct bw_http_files *files)
{
	return atomic_load_explicit(&files->epoch, memory_order_relaxed);
}

bool bw_http__files_has_root(const struct bw_http_files *files, unsigned site)
{
	BW_ASSERT_LT(site, files->site_count);
	return files->sites[site].root_path != NULL;
}

const char *bw_http__files_headers(const struct bw_http_files *files, unsigned site, uint32_t *len)
{
	BW_ASSERT_LT(site, files->site_count);
	*len = files->sites[site].headers_len;
	return files->sites[site].headers;
}

const struct bw_http__page *bw_http__files_page(
	const struct bw_http_files *files, unsigned site, unsigned index)
{
	BW_ASSERT_LT(site, files->site_count);
	return index < files->sites[site].page_count ? &files->sites[site].pages[index] : NULL;
}

bool bw_http__files_get_page(struct bw_http_files *files, unsigned site, unsigned index, bw_ns now,
	struct bw_http__object **object)
{
	struct bw_http__page *page = &files->sites[site].pages[index];
	unsigned status;
	enum bw_http__got got =
		bw_http__files_get(files, site, page->path, page->path_len, now, false, object, &status);

	if (got == BW_HTTP__GOT_BUSY || got == BW_HTTP__GOT_NO_ROOM)
		return false;
	if (*object != NULL && (*object)->status != 200) {
		status = (*object)->status;
		bw_http__object_put(*object);
		*object = NULL;
	}
	if (*object != NULL)
		atomic_store(&page->is_lost, false);
	else if (!atomic_exchange(&page->is_lost, true))
		bw_warn("http: the page of status %u, %.*s, cannot be had (%u %s): a line of text is sent in its "
			"place; put it below the document root",
			page->status, (int)page->path_len, (const char *)page->path, status,
			bw_http__reason(status));
	return true;
}

unsigned bw_http__files_site_count(const struct bw_http_files *files)
{
	return files->site_count;
}

struct bw_http__object *bw_http__files_constant(struct bw_http_files *files, unsigned site, unsigned index)
{
	BW_ASSERT_LT(site, files->site_count);
	return index < files->sites[site].constant_count ? files->sites[site].constants[index] : NULL;
}

void bw_http__files_figures(const struct bw_http_files *files, struct bw_http__files_figures *figures)
{
	struct bw_http__watch_figures watch;

	bw_http__watch_figures(files->watch, &watch);
	*figures = (struct bw_http__files_figures){
		.entries = atomic_load(&files->entries),
		.bytes = atomic_load(&files->bytes),
		.negative_bytes = atomic_load(&files->negative_bytes),
		.loads = atomic_load(&files->loads),
		.load_failures = atomic_load(&files->load_failures),
		.checks = atomic_load(&files->checks),
		.evictions = atomic_load(&files->evictions),
		.no_room = atomic_load(&files->no_room),
		.watches = watch.dirs,
		.watch_events = watch.events,
		.watch_overflows = watch.overflows,
		.watch_refused = watch.refused,
		.root_swaps = atomic_load(&files->root_swaps),
	};
}

/* ---- configuration ------------------------------------------------------------------------------------ */

void bw_http_site_init(struct bw_http_site *site)
{
	*site = (struct bw_http_site){ .index = "index.html", .charset = "utf-8", .precompressed = true };
}

void bw_http_conf_init(struct bw_http_conf *conf)
{
	*conf = (struct bw_http_conf){
		.mime_types = BW_HTTP__MIME_TYPES,
		.watches_max = 8192,
		.request_line_bytes_max = 4096,
		.header_bytes_max = 8192,
		.header_count_max = 100,
		.body_bytes_max = 1024 * 1024,
		.pipeline_depth_max = 64,
		.header_timeout_ns = 10 * BW_NS_PER_SEC,
		.body_timeout_ns = 10 * BW_NS_PER_SEC,
		.body_rate_bytes = 1024,
		.idle_timeout_ns = 60 * BW_NS_PER_SEC,
		.access_log_bytes_max = 16 << 20,
	};
	bw_http_site_init(&conf->site);
}

static int check_limits(const struct bw_http_conf *conf)
{
	if (conf->header_bytes_max < 64 || conf->header_bytes_max > 16384) {
		bw_error("http: header_bytes_max is %u: choose 64 to 16384", conf->header_bytes_max);
		return -EINVAL;
	}
	if (conf->request_line_bytes_max < 32 || conf->request_line_bytes_max > conf->header_bytes_max) {
		bw_error("http: request_line_bytes_max is %u: choose 32 to header_bytes_max (%u)",
			conf->request_line_bytes_max, conf->header_bytes_max);
		return -EINVAL;
	}
	if ((conf->cache_bytes_max > 0 && conf->cache_bytes_max < CACHE_BYTES_MIN) ||
		(conf->cache_file_bytes_max > 0 && conf->cache_file_bytes_max < FILE_BYTES_MIN)) {
		bw_error("http: cache (%llu) must be at least 64 KiB, cache_file_max (%llu) 4 KiB",
			(unsigned long long)conf->cache_bytes_max,
			(unsigned long long)conf->cache_file_bytes_max);
		return -EINVAL;
	}
	if (conf->header_count_max == 0 || conf->pipeline_depth_max == 0 ||
		conf->pipeline_depth_max > 65535) {
		bw_error("http: header_count_max (%u) must be at least 1, pipeline_depth_max (%u) 1 to 65535",
			conf->header_count_max, conf->pipeline_depth_max);
		return -EINVAL;
	}
	/* The system's table may be missing, one that was asked for may not. */
	if (conf->mime_types != NULL && strcmp(conf->mime_types, BW_HTTP__MIME_TYPES) != 0 &&
		access(conf->mime_types, R_OK) < 0) {
		bw_error("http: mime_types %s: %s; name a file such as " BW_HTTP__MIME_TYPES,
			conf->mime_types, strerror(errno));
		return -EINVAL;
	}
	if (conf->header_timeout_ns == 0 || conf->body_timeout_ns == 0 || conf->idle_timeout_ns == 0) {
		bw_error("http: header_timeout, body_timeout and idle_timeout must be more than 0");
		return -EINVAL;
	}
	if (conf->per_address_max > BW_HTTP__PER_ADDRESS_MAX) {
		bw_error("http: per_address_max is %u: choose 0 to %u", conf->per_address_max,
			BW_HTTP__PER_ADDRESS_MAX);
		return -EINVAL;
	}
	if (conf->access_log != NULL && conf->access_log_bytes_max < 64 * BW_HTTP__LOG_ENTRY_BYTES) {
		bw_error("http: access_log_bytes_max is %llu: choose 64 KiB at least",
			(unsigned long long)conf->access_log_bytes_max);
		return -EINVAL;
	}
	return 0;
}

static int make_constant(
	struct bw_http_files *files, unsigned number, const struct bw_http_constant *constant)
{
	struct bw_http__site *site = &files->sites[number];
	static const struct bw_siphash_key fixed = { { 0, 0 } };
	uint8_t path[4096];
	struct bw_http__object *object;
	struct plan plan = {
		.site = number,
		.path = path,
		.status = constant->status != 0 ? constant->status : 200,
		.type = constant->content_type,
		.body = (const uint8_t *)constant->body,
		.body_bytes = constant->body_bytes,
	};

	bw_http__path(
		(const uint8_t *)constant->path, (uint32_t)strlen(constant->path), path, &plan.path_len);
	if (plan.status == 200) {
		plan.has_tag = true;
		plan.tag = bw_siphash(&fixed, constant->body, constant->body_bytes);
	}
	object = object_make(files, &plan);
	if (object == NULL)
		return -ENOMEM;
	object->is_constant = true;
	atomic_fetch_add(&files->bytes, object->cost_bytes);
	for (unsigned i = 0; i < site->constant_count; i++) {
		const struct bw_http__object *other = site->constants[i];

		if (other->path_len == plan.path_len && memcmp(other->path, path, plan.path_len) == 0) {
			bw_error("http: two constants for %s: remove one", constant->path);
			object_free(object);
			return -EINVAL;
		}
	}
	site->constants[site->constant_count++] = object;
	return 0;
}

static int site_init(struct bw_http_files *files, unsigned number, const struct bw_http_site *conf)
{
	int rc = bw_http__site_init(&files->sites[number], conf);

	for (unsigned i = 0; i < conf->constant_count && rc == 0; i++)
		rc = make_constant(files, number, &conf->constants[i]);
	return rc;
}

static uint64_t quarter_of_ram(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);

	return pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes / 4 : 256ull << 20;
}

static void files_free(struct bw_http_files *files)
{
	if (files->watch != NULL && !bw_http__watch_stop(files->watch)) {
		bw_warn("http: a document root's disk does not answer: what watches it is left behind");
		return;
	}
	for (unsigned i = 0; i < files->site_count; i++)
		for (unsigned k = 0; k < files->sites[i].constant_count; k++)
			bw_http__object_put(files->sites[i].constants[k]);
	while (!bw_list_is_empty(&files->recent))
		table_remove(files,
			bw_container_of(bw_list_first(&files->recent), struct bw_http__object, recent));
	bw_http__files_bury(files);
	while (files->blocks != NULL) {
		struct bw_http__blocks *blocks = files->blocks, *next = blocks->next;

		if (!bw_http__blocks_free(blocks)) {
			bw_error("http: pieces of files are still referenced at the end");
			return;
		}
		files->blocks = next;
	}
	if (atomic_load(&files->bytes) != 0 || atomic_load(&files->negative_bytes) != 0) {
		/* Somebody may still read it: a leak is the lesser harm. */
		bw_error("http: %llu bytes of files are still referenced at the end",
			(unsigned long long)(atomic_load(&files->bytes) +
					     atomic_load(&files->negative_bytes)));
		return;
	}
	for (unsigned i = 0; i < files->site_count; i++)
		bw_http__site_fini(&files->sites[i]);
	if (files->watch != NULL)
		bw_http__watch_free(files->watch);
	bw_http__mime_free(files->mime);
	pthread_mutex_destroy(&files->mutex);
	free(files->sites);
	free(files);
}

static int watch_init(struct bw_http_files *files, const struct bw_http_conf *conf)
{
	struct bw_http__watch_conf watch_conf = {
		.dirs_max = conf->watches_max,
		.changed = name_changed,
		.changed_below = dir_changed,
		.tick = look_at_roots,
		.arg = files,
	};

	return bw_http__watch_create(&watch_conf, &files->watch);
}

/* The sites of a configuration by their numbers: 0 is the default, then the hosts. */
static const struct bw_http_site *site_of(const struct bw_http_conf *conf, unsigned number)
{
	return number == 0 ? &conf->site : &conf->hosts[number - 1];
}

int bw_http_conf_prepare(struct bw_http_conf *conf)
{
	struct bw_http_files *files;
	struct timespec seed[2];
	int rc = check_limits(conf);

	for (unsigned i = 0; i <= conf->host_count && rc == 0; i++)
		rc = bw_http__site_check(site_of(conf, i));
	if (rc < 0)
		return rc;
	if (conf->cache_bytes_max == 0)
		conf->cache_bytes_max = quarter_of_ram();

	files = calloc(1, sizeof(*files));
	if (files == NULL) {
		bw_error("http: no memory for the file cache");
		return -ENOMEM;
	}
	bw_list_init(&files->busy);
	bw_list_init(&files->recent);
	pthread_mutex_init(&files->mutex, NULL);
	files->bytes_max = conf->cache_bytes_max;
	files->file_bytes_max = conf->cache_file_bytes_max;
	if (files->file_bytes_max == 0)
		files->file_bytes_max = BW_MAX(BW_MIN(files->bytes_max / 8, FILE_BYTES_MAX), FILE_BYTES_MIN);
	files->file_bytes_max = BW_MIN(files->file_bytes_max, files->bytes_max - BESIDE_BODY_MAX);
	files->negative_bytes_max = BW_MIN(conf->cache_bytes_max / 16 + 65536, 16ull << 20);
	clock_gettime(CLOCK_REALTIME, &seed[0]);
	clock_gettime(CLOCK_MONOTONIC, &seed[1]);
	if (getentropy(&files->key, sizeof(files->key)) < 0)
		files->key.k[0] = bw_siphash(&files->key, seed, sizeof(seed));
	files->mime = bw_http__mime_load(conf->mime_types != NULL ? conf->mime_types : BW_HTTP__MIME_TYPES);
	files->sites = calloc(conf->host_count + 1, sizeof(*files->sites));
	if (files->mime == NULL || files->sites == NULL)
		rc = -ENOMEM;
	for (unsigned i = 0; i <= conf->host_count && rc == 0; i++) {
		files->site_count++;
		rc = site_init(files, i, site_of(conf, i));
	}
	if (rc == -ENOMEM)
		bw_error("http: no memory for the file cache");
	if (rc == 0)
		rc = watch_init(files, conf);
	if (rc < 0) {
		files_free(files);
		return rc;
	}
	conf->files = files;
	rc = bw_http__router_make(conf, &conf->router);
	if (rc == 0 && conf->per_address_max > 0) {
		conf->addresses = bw_http__addresses_create(conf->per_address_max);
		if (conf->addresses == NULL) {
			bw_error("http: no memory to count connections_per_address");
			rc = -ENOMEM;
		}
	}
	if (rc == 0 && conf->access_log != NULL)
		rc = bw_http__log_open(conf, &conf->log);
	if (rc < 0)
		bw_http_conf_release(conf);
	return rc;
}

void bw_http_conf_release(struct bw_http_conf *conf)
{
	if (conf->files != NULL)
		files_free(conf->files);
	conf->files = NULL;
	bw_http__router_free(conf->router);
	conf->router = NULL;
	if (conf->log != NULL)
		bw_http__log_close(conf->log);
	conf->log = NULL;
	bw_http__addresses_free(conf->addresses);
	conf->addresses = NULL;
}
