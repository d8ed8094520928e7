/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * What tells of changes on disk, so that what is in memory need not be compared with it over and over: inotify (7).
 *
 * A directory that a cached path leads through is watched, from its document root down to the file's own: who renames
 * one of them changes what all paths below it mean, and only the renamed one's parent is told. Each is known by its
 * root and its path, without symbolic links, for a link's target is told of elsewhere. One thread, bw-watch, reads the
 * events and calls `changed` and `changed_below`; no poll core takes part.
 *
 * No change is lost: hold() returns a directory whose watch was in place before it returned, so what is read
 * afterwards is either what is there now or what an event will tell of. What a watch was set on, while the path was
 * made to mean something else, is not taken (`generation`). When the kernel's queue has overflowed, everything is said
 * to have changed, and every watch is given up: whoever needs one holds it anew.
 *
 * inotify does not tell of: other machines' changes to a network file system (such directories are refused), a file's
 * change under another of its names or where it is mounted from, and what is written through a mapping, until it is closed.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct bw_http__watch;
struct bw_http__watched;

struct bw_http__watch_conf {
	unsigned dirs_max; /* 0: nothing is watched, there are only ticks */
	/* All on the thread. `dir` is below the root, and "" is the root itself. */
	/** @name_is_same  it was only written to, and may still be. */
	void (*changed)(void *arg, unsigned site, const char *dir, const char *name, bool name_is_same);
	void (*changed_below)(void *arg, unsigned site, const char *dir);
	/** Five times a second, and when a root was moved or removed. */
	void (*tick)(void *arg);
	void *arg;
};

/** 0, or -errno after a line. Where there is no inotify, a warning: then nothing can be held. */
int bw_http__watch_create(const struct bw_http__watch_conf *conf, struct bw_http__watch **watch);
/** Once. 0 or -errno. */
int bw_http__watch_start(struct bw_http__watch *watch);
/** False: the thread hangs at a disk that does not answer. Then all that it may touch has to stay. */
bool bw_http__watch_stop(struct bw_http__watch *watch);
/** After watch_stop(), and when nothing is held any more. */
void bw_http__watch_free(struct bw_http__watch *watch);

/**
 * On a helper thread, before the first look at what is in the directory.
 *
 * @root_id   a root that takes another's place has another number
 * @dir       below root_fd, without dot segments
 * @is_whole  it is that directory; else the nearest above it, in which the next one could not be watched, or is not
 *
 * NULL: not even the root.
 */
struct bw_http__watched *bw_http__watch_hold(struct bw_http__watch *watch, unsigned site, uint64_t root_id,
	int root_fd, const char *dir, bool *is_whole);
/** Any thread, and no lock. NULL is no one's. */
void bw_http__watched_put(struct bw_http__watched *dir);
/** Grows when a name in it comes, goes or means something else. Any thread. */
unsigned bw_http__watched_changes(const struct bw_http__watched *dir);
/** A root is no root any more: all of it has changed. */
void bw_http__watch_forget(struct bw_http__watch *watch, unsigned site, uint64_t root_id);
/** Can nobody but this machine change what is there? */
bool bw_http__is_local(int fd);

struct bw_http__watch_figures {
	uint64_t dirs, events, overflows, refused;
};
void bw_http__watch_figures(const struct bw_http__watch *watch, struct bw_http__watch_figures *figures);
