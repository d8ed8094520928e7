/* SPDX-License-Identifier: BSD-3-Clause */
#include "watch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include <base/assert.h>
#include <base/list.h>
#include <base/log.h>
#include <base/siphash.h>

#include "files.h"
#include "thread.h"

#define BUCKETS      4096
#define TICK_MS      200
#define NAP_MS       5 /* between two looks at the queue: a storm of events is no storm of work */
#define PATIENCE_S   2
#define ATTEMPTS     4
#define EVENTS_BYTES 65536
#define READS_MAX    64 /* before it is looked whether to stop */
#define DIR_ROOM     4096

#define NAMES                                                                                                \
	(IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB) /* means something else, or may */
#define EVENTS                                                                                               \
	(NAMES | IN_MODIFY | IN_CLOSE_WRITE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR | IN_EXCL_UNLINK)

struct bw_http__watched {
	atomic_uint refs; /* the tree's, its children's and its holders' */
	atomic_uint changes;
	struct bw_http__watch *watch;
	struct bw_http__watched *parent; /* NULL: a root */
	/* -- under the mutex -- */
	struct bw_link link;
	struct bw_http__watched *next_by_path, *next_by_wd;
	uint64_t root_id;
	uint64_t serial; /* of the last event that was told of it */
	bool is_dead;    /* not in the tree, and what it was is known to have changed */
	unsigned site;
	int wd; /* several may share one, where a directory is below two roots */
	size_t dir_len;
	char dir[];
};

/* What is complained of once. */
enum refusal {
	REFUSED_OURS,
	REFUSED_KERNELS,
	REFUSED_REMOTE,
	REFUSED_NO_PROC,
	REFUSED_ERROR,
	REFUSALS,
};

struct bw_http__watch {
	struct bw_http__watch_conf conf;
	int inotify_fd, stop_fd; /* inotify_fd is -1 where there is none */
	pthread_t thread;
	atomic_bool has_thread;
	bool root_was_moved;  /* the thread's */
	atomic_bool has_idle; /* there may be directories that only the tree holds */
	atomic_bool has_told[REFUSALS];
	_Atomic uint64_t events, overflows, refused;
	atomic_uint count;

	pthread_mutex_t mutex; /* over all below; the callbacks' locks come after it */
	uint64_t generation;   /* grows when a path may lead elsewhere, or a watch is gone */
	uint64_t serial;
	struct bw_list dirs;
	struct bw_http__watched *by_path[BUCKETS], *by_wd[BUCKETS];

	char buffer[EVENTS_BYTES] __attribute__((aligned(8)));
};

/* ---- the tree, under the mutex -------------------------------------------------------------------------- */

static struct bw_http__watched **path_bucket(
	struct bw_http__watch *watch, uint64_t root_id, const char *dir, size_t dir_len)
{
	struct bw_siphash_key key = { { root_id, 0 } };

	return &watch->by_path[bw_siphash(&key, dir, dir_len) % BUCKETS];
}

static struct bw_http__watched *find(
	struct bw_http__watch *watch, uint64_t root_id, const char *dir, size_t dir_len)
{
	struct bw_http__watched *found = *path_bucket(watch, root_id, dir, dir_len);

	while (found != NULL && (found->root_id != root_id || found->dir_len != dir_len ||
					memcmp(found->dir, dir, dir_len) != 0))
		found = found->next_by_path;
	return found;
}

/* One that was not told of this event. */
static struct bw_http__watched *find_untold(struct bw_http__watch *watch, int wd, uint64_t serial)
{
	struct bw_http__watched *found = watch->by_wd[(unsigned)wd % BUCKETS];

	while (found != NULL && (found->wd != wd || found->serial == serial))
		found = found->next_by_wd;
	return found;
}

static struct bw_http__watched *ref(struct bw_http__watched *dir)
{
	atomic_fetch_add_explicit(&dir->refs, 1, memory_order_relaxed);
	return dir;
}

void bw_http__watched_put(struct bw_http__watched *dir)
{
	while (dir != NULL) {
		struct bw_http__watched *parent = dir->parent;
		struct bw_http__watch *watch = dir->watch;
		unsigned refs = atomic_fetch_sub_explicit(&dir->refs, 1, memory_order_acq_rel);

		if (refs == 2)
			atomic_store_explicit(&watch->has_idle, true, memory_order_relaxed);
		if (refs != 1)
			return;
		free(dir);
		dir = parent;
	}
}

unsigned bw_http__watched_changes(const struct bw_http__watched *dir)
{
	return atomic_load_explicit(&dir->changes, memory_order_acquire);
}

static void insert(struct bw_http__watch *watch, struct bw_http__watched *dir)
{
	struct bw_http__watched **bucket = path_bucket(watch, dir->root_id, dir->dir, dir->dir_len);

	dir->next_by_path = *bucket;
	*bucket = dir;
	bucket = &watch->by_wd[(unsigned)dir->wd % BUCKETS];
	dir->next_by_wd = *bucket;
	*bucket = dir;
	bw_list_push_back(&watch->dirs, &dir->link);
}

/* Out of the tree: it is watched no more. */
static void drop(struct bw_http__watch *watch, struct bw_http__watched *dir)
{
	struct bw_http__watched **at = path_bucket(watch, dir->root_id, dir->dir, dir->dir_len);

	while (*at != dir)
		at = &(*at)->next_by_path;
	*at = dir->next_by_path;
	at = &watch->by_wd[(unsigned)dir->wd % BUCKETS];
	while (*at != dir)
		at = &(*at)->next_by_wd;
	*at = dir->next_by_wd;
	bw_link_remove(&dir->link);
	dir->is_dead = true;
	watch->generation++;
	atomic_fetch_sub(&watch->count, 1);
	atomic_fetch_add_explicit(&dir->changes, 1, memory_order_release);
	/* It may be gone by itself; the event that it is gone then finds nothing. */
	if (find_untold(watch, dir->wd, UINT64_MAX) == NULL)
		inotify_rm_watch(watch->inotify_fd, dir->wd);
	bw_http__watched_put(dir);
}

static bool is_below(const struct bw_http__watched *dir, const struct bw_http__watched *top)
{
	if (dir->root_id != top->root_id)
		return false;
	if (top->dir_len == 0)
		return true;
	return dir->dir_len >= top->dir_len && memcmp(dir->dir, top->dir, top->dir_len) == 0 &&
	       (dir->dir_len == top->dir_len || dir->dir[top->dir_len] == '/');
}

/* Its path means something else: give it up, with all below it. */
static void drop_below(struct bw_http__watch *watch, struct bw_http__watched *top)
{
	ref(top);
	BW_LIST_FOREACH_SAFE (link, tmp, &watch->dirs) {
		struct bw_http__watched *dir = bw_container_of(link, struct bw_http__watched, link);

		if (is_below(dir, top))
			drop(watch, dir);
	}
	watch->conf.changed_below(watch->conf.arg, top->site, top->dir);
	bw_http__watched_put(top);
}

static void drop_all(struct bw_http__watch *watch)
{
	struct bw_link *link;

	while ((link = bw_list_first(&watch->dirs)) != NULL) {
		struct bw_http__watched *top = bw_container_of(link, struct bw_http__watched, link);

		while (top->parent != NULL)
			top = top->parent;
		BW_ASSERT(!top->is_dead); /* all below it would be gone */
		drop_below(watch, top);
	}
}

/* What nothing in memory comes from. One that goes may leave its parent so. */
static void drop_idle(struct bw_http__watch *watch)
{
	while (atomic_exchange(&watch->has_idle, false))
		BW_LIST_FOREACH_SAFE (link, tmp, &watch->dirs) {
			struct bw_http__watched *dir = bw_container_of(link, struct bw_http__watched, link);

			if (atomic_load(&dir->refs) == 1) /* and only a holder of the mutex could add one */
				drop(watch, dir);
		}
}

void bw_http__watch_forget(struct bw_http__watch *watch, unsigned site, uint64_t root_id)
{
	struct bw_http__watched *root;

	pthread_mutex_lock(&watch->mutex);
	root = find(watch, root_id, "", 0);
	if (root != NULL)
		drop_below(watch, root);
	else
		watch->conf.changed_below(watch->conf.arg, site, "");
	pthread_mutex_unlock(&watch->mutex);
}

/* ---- holding -------------------------------------------------------------------------------------------- */

bool bw_http__is_local(int fd)
{
	/* A file system that is not known may have a server behind it: looking is always right. */
	static const unsigned local[] = {
		0x58465342,       /* XFS */
		0x2fc12fc1,       /* ZFS */
		0xca451a4e,       /* bcachefs */
		0x3153464a,       /* JFS */
		0x24051905,       /* UBIFS */
		0x7366746e,       /* ntfs3 */
		0x2011bab0,       /* exFAT */
		0x15013346,       /* UDF */
		0x73717368,       /* squashfs */
		EXT4_SUPER_MAGIC, /* 2 and 3, too */
		BTRFS_SUPER_MAGIC,
		TMPFS_MAGIC,
		RAMFS_MAGIC,
		OVERLAYFS_SUPER_MAGIC,
		F2FS_SUPER_MAGIC,
		EROFS_SUPER_MAGIC_V1,
		ISOFS_SUPER_MAGIC,
		MSDOS_SUPER_MAGIC,
		REISERFS_SUPER_MAGIC,
		NILFS_SUPER_MAGIC,
		JFFS2_SUPER_MAGIC,
	};
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return false;
	for (unsigned i = 0; i < BW_ARRAY_LEN(local); i++)
		if ((unsigned)fs.f_type == local[i])
			return true;
	return false;
}

/* A watch descriptor or -errno; -EREMOTE: what changes there need not be told; -ENOSYS: there is no /proc. */
static int add_watch(struct bw_http__watch *watch, int root_fd, const char *dir)
{
	char path[sizeof("/proc/self/fd/") + 11];
	int fd =
		bw_http__open_beneath(root_fd, dir[0] != '\0' ? dir : ".", O_PATH | O_DIRECTORY | O_NOFOLLOW);
	int wd;

	if (fd < 0)
		return fd;
	/* Not by its name, which could be anything by now. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (!bw_http__is_local(fd))
		wd = -EREMOTE;
	else if ((wd = inotify_add_watch(watch->inotify_fd, path, EVENTS)) < 0)
		wd = errno == ENOENT ? -ENOSYS : -errno;
	close(fd);
	return wd;
}

static void tell_refusal(struct bw_http__watch *watch, enum refusal refusal, const char *dir, int error)
{
	static const char consequence[] = "there, each document is looked at once a second";

	atomic_fetch_add(&watch->refused, 1);
	if (atomic_exchange(&watch->has_told[refusal], true))
		return;
	switch (refusal) {
	case REFUSED_OURS:
		bw_warn("http: all %u cache_watches are used; directories beyond them are not watched: %s. Give http more",
			watch->conf.dirs_max, consequence);
		break;
	case REFUSED_KERNELS:
		bw_warn("http: fs.inotify.max_user_watches is used up; directories beyond it are not watched: %s. "
			"Raise it by sysctl",
			consequence);
		break;
	case REFUSED_REMOTE:
		bw_info("http: /%s is on a file system that other machines may change: %s", dir, consequence);
		break;
	case REFUSED_NO_PROC:
		bw_warn("http: no directory can be watched, for /proc is not mounted: %s", consequence);
		break;
	default:
		bw_warn("http: /%s cannot be watched (%s): %s", dir, strerror(error), consequence);
	}
}

static void tell_error(struct bw_http__watch *watch, const char *dir, int error)
{
	switch (error) {
	case ENOENT:
	case ENOTDIR: /* there is nothing to be watched */
		return;
	case EAGAIN: /* it is being moved around */
	case ELOOP:  /* as documented */
		atomic_fetch_add(&watch->refused, 1);
		return;
	case ENOSPC:
		tell_refusal(watch, REFUSED_KERNELS, dir, error);
		return;
	case ENOSYS:
		tell_refusal(watch, REFUSED_NO_PROC, dir, error);
		return;
	case EREMOTE:
		tell_refusal(watch, REFUSED_REMOTE, dir, error);
		return;
	default:
		tell_refusal(watch, REFUSED_ERROR, dir, error);
	}
}

/* Room for one more, counted as used. Under the mutex. */
static bool reserve(struct bw_http__watch *watch)
{
	if (atomic_load(&watch->count) >= watch->conf.dirs_max && atomic_load(&watch->has_idle))
		drop_idle(watch);
	if (atomic_load(&watch->count) >= watch->conf.dirs_max)
		return false;
	atomic_fetch_add(&watch->count, 1);
	return true;
}

static struct bw_http__watched *make(struct bw_http__watch *watch, struct bw_http__watched *parent,
	unsigned site, uint64_t root_id, const char *dir)
{
	size_t len = strlen(dir);
	struct bw_http__watched *made = calloc(1, sizeof(*made) + len + 1);

	if (made == NULL)
		return NULL;
	atomic_init(&made->refs, 2); /* the tree's and the caller's */
	made->watch = watch;
	made->parent = parent != NULL ? ref(parent) : NULL;
	made->site = site;
	made->root_id = root_id;
	made->dir_len = len;
	memcpy(made->dir, dir, len + 1);
	return made;
}

/*
 * One directory below `parent`, which is watched. The watch is set without the mutex, for a disk may be slow. If
 * anything was moved or given up meanwhile, it may be that of another directory, or none any more: once again.
 */
static struct bw_http__watched *hold_one(struct bw_http__watch *watch, struct bw_http__watched *parent,
	unsigned site, uint64_t root_id, int root_fd, const char *dir)
{
	struct bw_http__watched *found, *made;
	uint64_t generation;
	int error = EAGAIN;

	pthread_mutex_lock(&watch->mutex);
	for (unsigned attempt = 0; attempt < ATTEMPTS; attempt++) {
		if (parent != NULL && parent->is_dead)
			break;
		found = find(watch, root_id, dir, strlen(dir));
		if (found != NULL) {
			ref(found);
			pthread_mutex_unlock(&watch->mutex);
			return found;
		}
		if (!reserve(watch)) {
			pthread_mutex_unlock(&watch->mutex);
			tell_refusal(watch, REFUSED_OURS, dir, 0);
			return NULL;
		}
		generation = watch->generation;
		pthread_mutex_unlock(&watch->mutex);
		made = make(watch, parent, site, root_id, dir);
		error = made == NULL ? ENOMEM : 0;
		if (made != NULL && (made->wd = add_watch(watch, root_fd, dir)) < 0)
			error = -made->wd;
		pthread_mutex_lock(&watch->mutex);
		if (error == 0 && generation == watch->generation &&
			find(watch, root_id, dir, made->dir_len) == NULL) {
			insert(watch, made);
			pthread_mutex_unlock(&watch->mutex);
			return made;
		}
		atomic_fetch_sub(&watch->count, 1);
		if (error == 0 && find_untold(watch, made->wd, UINT64_MAX) == NULL) {
			inotify_rm_watch(watch->inotify_fd, made->wd);
			watch->generation++; /* another helper may have been given the same one */
		}
		if (made != NULL) {
			bw_http__watched_put(made->parent);
			free(made);
		}
		if (error != 0)
			break;
		error = EAGAIN;
	}
	pthread_mutex_unlock(&watch->mutex);
	tell_error(watch, dir, error);
	return NULL;
}

struct bw_http__watched *bw_http__watch_hold(struct bw_http__watch *watch, unsigned site, uint64_t root_id,
	int root_fd, const char *dir, bool *is_whole)
{
	struct bw_http__watched *held = NULL, *next;
	char prefix[DIR_ROOM] = "";
	size_t at = 0;

	*is_whole = false;
	if (watch->inotify_fd < 0 || !watch->has_thread || strlen(dir) >= sizeof(prefix))
		return NULL;
	/* The root, then one component more each time. */
	while ((next = hold_one(watch, held, site, root_id, root_fd, prefix)) != NULL) {
		bw_http__watched_put(held); /* its child holds it */
		held = next;
		*is_whole = dir[at] == '\0';
		if (*is_whole)
			break;
		at += at > 0; /* the slash */
		at += strcspn(dir + at, "/");
		memcpy(prefix, dir, at);
		prefix[at] = '\0';
	}
	return held;
}

/* ---- the thread ----------------------------------------------------------------------------------------- */

static void name_changed(
	struct bw_http__watch *watch, struct bw_http__watched *dir, uint32_t mask, const char *name)
{
	char path[DIR_ROOM + NAME_MAX + 2];
	struct bw_http__watched *child;
	int n;

	if (mask & NAMES) {
		atomic_fetch_add_explicit(&dir->changes, 1, memory_order_release);
		n = snprintf(path, sizeof(path), "%s%s%s", dir->dir, dir->dir_len > 0 ? "/" : "", name);
		child = find(watch, dir->root_id, path, (size_t)n);
		if (child != NULL)
			drop_below(watch, child);
		/* One that is just being set may be below it. */
		if (mask & IN_ISDIR)
			watch->generation++;
	}
	watch->conf.changed(watch->conf.arg, dir->site, dir->dir, name, !(mask & NAMES));
}

static void handle(struct bw_http__watch *watch, const struct inotify_event *event)
{
	struct bw_http__watched *dir;

	watch->serial++;
	atomic_fetch_add(&watch->events, 1);
	if (event->mask & IN_Q_OVERFLOW) {
		atomic_fetch_add(&watch->overflows, 1);
		drop_all(watch);
		return;
	}
	while ((dir = find_untold(watch, event->wd, watch->serial)) != NULL) {
		dir->serial = watch->serial;
		if (event->len > 0) {
			name_changed(watch, dir, event->mask, event->name);
			continue;
		}
		/* Moved, removed, unmounted, or its permissions are others. */
		watch->root_was_moved |= dir->parent == NULL;
		drop_below(watch, dir);
	}
}

static void read_events(struct bw_http__watch *watch)
{
	for (unsigned reads = 0; reads < READS_MAX; reads++) {
		ssize_t n = read(watch->inotify_fd, watch->buffer, sizeof(watch->buffer));
		const char *at = watch->buffer;

		if (n <= 0)
			return;
		pthread_mutex_lock(&watch->mutex);
		while (at < watch->buffer + n) {
			const struct inotify_event *event = (const struct inotify_event *)(const void *)at;

			handle(watch, event);
			at += sizeof(*event) + event->len;
		}
		pthread_mutex_unlock(&watch->mutex);
	}
}

static int64_t clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void *watch_main(void *arg)
{
	struct bw_http__watch *watch = arg;
	struct pollfd fds[] = { { .fd = watch->stop_fd, .events = POLLIN },
		{ .fd = watch->inotify_fd, .events = POLLIN } };
	int64_t tick_at = clock_ms() + TICK_MS;

	pthread_setname_np(pthread_self(), "bw-watch");
	for (;;) {
		int64_t now = clock_ms();
		bool has_events;

		fds[1].revents = 0;
		poll(fds, 2, (int)BW_MAX(tick_at - now, 0));
		if (fds[0].revents != 0)
			return NULL;
		has_events = fds[1].revents != 0;
		if (has_events)
			read_events(watch);
		if (watch->root_was_moved || clock_ms() >= tick_at) {
			watch->root_was_moved = false;
			tick_at = clock_ms() + TICK_MS;
			watch->conf.tick(watch->conf.arg);
			pthread_mutex_lock(&watch->mutex);
			drop_idle(watch);
			pthread_mutex_unlock(&watch->mutex);
		}
		if (has_events && poll(fds, 1, NAP_MS) > 0)
			return NULL;
	}
}

/* ---- from start to end ---------------------------------------------------------------------------------- */

int bw_http__watch_create(const struct bw_http__watch_conf *conf, struct bw_http__watch **out)
{
	struct bw_http__watch *watch = calloc(1, sizeof(*watch));

	if (watch == NULL) {
		bw_error("http: no memory to watch documents");
		return -ENOMEM;
	}
	watch->conf = *conf;
	watch->inotify_fd = -1;
	bw_list_init(&watch->dirs);
	pthread_mutex_init(&watch->mutex, NULL);
	watch->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (watch->stop_fd < 0) {
		int rc = -errno;

		bw_error("http: no descriptor to watch documents with (%s); raise the limit of open files",
			strerror(errno));
		bw_http__watch_free(watch);
		return rc;
	}
	if (conf->dirs_max > 0)
		watch->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (conf->dirs_max > 0 && watch->inotify_fd < 0)
		bw_warn("http: documents cannot be watched (%s), so each is looked at once a second; raise "
			"fs.inotify.max_user_instances by sysctl",
			strerror(errno));
	*out = watch;
	return 0;
}

int bw_http__watch_start(struct bw_http__watch *watch)
{
	int rc = bw_http__thread_start(&watch->thread, watch_main, watch);

	atomic_store(&watch->has_thread, rc == 0);
	return rc;
}

bool bw_http__watch_stop(struct bw_http__watch *watch)
{
	struct timespec until;

	if (!watch->has_thread)
		return true;
	eventfd_write(watch->stop_fd, 1);
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += PATIENCE_S;
	if (pthread_clockjoin_np(watch->thread, NULL, CLOCK_MONOTONIC, &until) != 0)
		return false;
	watch->has_thread = false;
	return true;
}

void bw_http__watch_free(struct bw_http__watch *watch)
{
	if (watch->inotify_fd >= 0) {
		pthread_mutex_lock(&watch->mutex);
		drop_idle(watch);
		pthread_mutex_unlock(&watch->mutex);
		BW_ASSERT(bw_list_is_empty(&watch->dirs));
		close(watch->inotify_fd);
	}
	if (watch->stop_fd >= 0)
		close(watch->stop_fd);
	pthread_mutex_destroy(&watch->mutex);
	free(watch);
}

void bw_http__watch_figures(const struct bw_http__watch *watch, struct bw_http__watch_figures *figures)
{
	*figures = (struct bw_http__watch_figures){
		.dirs = atomic_load(&watch->count),
		.events = atomic_load(&watch->events),
		.overflows = atomic_load(&watch->overflows),
		.refused = atomic_load(&watch->refused),
	};
}
