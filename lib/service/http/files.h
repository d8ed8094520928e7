/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * What paths answer with: files in anonymous memory, redirects and refusals, shared by all workers.
 *
 * An object is immutable once it is visible, and counted. The cache holds a reference, each worker's table
 * holds one, and so does every reply and every piece of it in a send queue. So a file that changes on disk
 * becomes another object, and the old one lives until its last reader is done.
 *
 * What lies in directories that are watched (watch.h) is trusted until it is said to have changed: that is, its look_at
 * becomes now. The rest is looked at once a second, by who asks for it.
 *
 * Workers never lock here. They read objects, count references, and look at words that others write:
 * `is_stale` (evicted or replaced: look it up again) and `look_at`. The table of paths, eviction and all
 * system calls are the helper threads' (bw_http__files_get), under one mutex. The last reference is often
 * dropped on a poll core, where a gigabyte must not be unmapped: the object joins a list of the dead, which the
 * next helper buries.
 */
#pragma once

#include <stdatomic.h>

#include <base/list.h>
#include <base/siphash.h>
#include <base/types.h>
#include <service/http.h>

#include "parse.h"

/** The largest response head, status line to empty line: what bw_stream_reserve() grants. */
#define BW_HTTP__HEAD_MAX    1024
#define BW_HTTP__CHARSET_MAX 32
/** An answer that is younger needs no look at the disk. */
#define BW_HTTP__FRESH_NS    BW_NS_PER_SEC
/** An answer that is older is not given before the disk was looked at; in between, it is given meanwhile. */
#define BW_HTTP__STALE_NS    (3 * BW_NS_PER_SEC)
/** One that is watched is younger for so long, because not everything is told, and never older. */
#define BW_HTTP__WATCHED_NS  (60 * BW_NS_PER_SEC)
/** But where helpers have no time for that, or the disk none for them, the wait is no longer than this. */
#define BW_HTTP__PATIENCE_NS (250 * BW_NS_PER_MS)

struct bw_http_files;
struct bw_http__blocks;
struct bw_http__page;
struct bw_http__watched;

/** The same in another coding, of a file beside it: FILE.br, FILE.gz. The object without coding holds them. */
enum bw_http__variant {
	BW_HTTP__VARIANT_BR,
	BW_HTTP__VARIANT_GZIP,
	BW_HTTP__VARIANTS,
};

struct bw_http__object {
	/* -- what a hit touches -- */
	_Atomic uint32_t refs;
	atomic_bool is_stale;
	bool has_variants;
	bool is_constant;       /* lives as long as the service, never checked */
	bool is_streamed;       /* too large to be held: there is no body, but fd to read it from */
	uint16_t status;        /* 200 with a body; 301 and refusals; a constant's own */
	uint16_t site;          /* with the path: the key */
	atomic_bool is_used;    /* since it was last spared: workers set it, eviction clears it */
	_Atomic bw_ns look_at;  /* from then on, the disk is to be looked at */
	_Atomic bw_ns stale_at; /* from then on, it is no answer before that */
	const char *path;       /* canonical. Not terminated */
	uint32_t path_len;
	uint32_t head_len; /* status line to the last field but Date and Connection */
	const char *head;
	const uint8_t *body;
	uint64_t body_bytes;
	/* -- conditions and ranges -- */
	uint64_t tag;       /* valid where has_tag */
	int64_t modified_s; /* valid where has_modified */
	bool has_tag, has_modified;
	uint16_t status_line_len; /* of head */
	uint16_t validators_len;  /* then: Server, ETag, Last-Modified: what a 304 repeats */
	struct bw_http__object *variant[BW_HTTP__VARIANTS]; /* NULL: there is none */
	uint16_t type_len;                                  /* then: Location, Content-Type, */
	uint16_t
		description_len; /* in which Content-Type is, and Accept-Ranges behind it; then Content-Length */
	/* -- a refusal's: it is forgotten when its directory has other names in it -- */
	unsigned watched_changes;
	struct bw_http__watched *watched; /* NULL: looked at once a second. Of another, under the mutex */
	/* -- the helpers', under the mutex -- */
	bw_ns looked_at;
	uint8_t variants_lost; /* bits: there is a file, but it cannot be had */
	int fd;
	struct bw_http_files *files;
	struct bw_http__object *next;      /* in the bucket */
	struct bw_link recent;             /* least recently used first */
	struct bw_http__object *next_dead; /* when refs is 0 */
	uint64_t cost_bytes;               /* all its memory */
	uint64_t map_bytes;                /* of body; 0: it is on the heap, or a constant's */
	uint64_t device, inode;
	int64_t mtime_ns, ctime_ns;
};

void bw_http__object_bury(struct bw_http__object *object);

static inline struct bw_http__object *bw_http__object_ref(struct bw_http__object *object)
{
	atomic_fetch_add_explicit(&object->refs, 1, memory_order_relaxed);
	return object;
}

/** Any thread. */
static inline void bw_http__object_put(struct bw_http__object *object)
{
	if (atomic_fetch_sub_explicit(&object->refs, 1, memory_order_acq_rel) == 1)
		bw_http__object_bury(object);
}

/**
 * Of a path, by its hash, and the site that it is asked of: 0 the default, then the hosts in the order of the
 * configuration.
 */
static inline uint64_t bw_http__hash_at(unsigned site, uint64_t path_hash)
{
	/* Nobody outside knows what the site's multiple is added to. */
	return path_hash + site * 0x9e3779b97f4a7c15ull;
}

static inline uint64_t bw_http__hash(
	const struct bw_siphash_key *key, unsigned site, const uint8_t *path, uint32_t path_len)
{
	return bw_http__hash_at(site, bw_siphash(key, path, path_len));
}

/** What of the object is for a client that takes these codings: BW_HTTP__TAKES_BR and the like. */
static inline struct bw_http__object *bw_http__object_variant(
	struct bw_http__object *object, unsigned encodings)
{
	struct bw_http__object *br, *gzip;

	if (bw_likely(!object->has_variants))
		return object;
	br = encodings & BW_HTTP__TAKES_BR ? object->variant[BW_HTTP__VARIANT_BR] : NULL;
	gzip = encodings & BW_HTTP__TAKES_GZIP ? object->variant[BW_HTTP__VARIANT_GZIP] : NULL;
	if (br == NULL || (gzip != NULL && encodings & BW_HTTP__PREFERS_GZIP))
		br = gzip;
	return br != NULL ? br : object;
}

enum bw_http__got {
	BW_HTTP__GOT_OBJECT,
	BW_HTTP__GOT_STATUS,  /* refused, and not worth remembering or no room for that */
	BW_HTTP__GOT_NO_ROOM, /* what was evicted is still being sent: ask again a little later */
	BW_HTTP__GOT_BUSY,    /* another helper is at it: the same */
};

/** On a helper thread: may block. *object comes with a reference. @now the asking worker's time;
 *  @insists  it has asked before, and got no room */
enum bw_http__got bw_http__files_get(struct bw_http_files *files, unsigned site, const uint8_t *path,
	uint32_t path_len, bw_ns now, bool insists, struct bw_http__object **object, unsigned *status);
/**
 * Open below the root, whatever the path says and whoever swaps directories meanwhile: symbolic links may be
 * followed inside the root, never out of it. O_NONBLOCK: a FIFO in the root must not catch a helper.
 *
 * @path   relative, with no dot segments
 * @flags  O_NOFOLLOW: no symbolic link, not even on the way. Before Linux 5.6, there are none at all
 *
 * A descriptor, or -errno.
 */
int bw_http__open_beneath(int root_fd, const char *path, int flags);
/** On a helper thread: `len` bytes of a streamed object's body, which are there. 0, or -errno after a line: it was
 *  truncated or overwritten, or cannot be read. */
int bw_http__files_read(struct bw_http__object *object, uint8_t *into, uint32_t len, uint64_t at, bw_ns now);
/** A worker's, for streamed objects; freed with the cache. NULL: no memory. */
struct bw_http__blocks *bw_http__files_blocks(struct bw_http_files *files);
/** On a helper thread: free what is dead. */
void bw_http__files_bury(struct bw_http_files *files);
/** Is there anything for it? */
bool bw_http__files_has_dead(const struct bw_http_files *files);
/** Grows when objects went stale: a worker that sees it move gives back its references to them. */
uint64_t bw_http__files_epoch(const struct bw_http_files *files);
/** A site's own header lines. */
const char *bw_http__files_headers(const struct bw_http_files *files, unsigned site, uint32_t *len);
/** A site's error page; NULL after the last. */
const struct bw_http__page *bw_http__files_page(
	const struct bw_http_files *files, unsigned site, unsigned index);
/** On a helper thread. *object comes with a reference, or is NULL: there is no such file, which is told once. False:
 *  cannot tell now. */
bool bw_http__files_get_page(struct bw_http_files *files, unsigned site, unsigned index, bw_ns now,
	struct bw_http__object **object);
unsigned bw_http__files_site_count(const struct bw_http_files *files);
/** What tells of changes begins its work, when the first worker calls. If it cannot, a line, and all is looked at. */
void bw_http__files_start(struct bw_http_files *files);
bool bw_http__files_has_root(const struct bw_http_files *files, unsigned site);
/** A site's constant, borrowed; NULL after the last. */
struct bw_http__object *bw_http__files_constant(struct bw_http_files *files, unsigned site, unsigned index);

struct bw_http__files_figures {
	uint64_t entries, bytes, negative_bytes, loads, load_failures, checks, evictions, no_room;
	uint64_t watches, watch_events, watch_overflows, watch_refused, root_swaps;
};
void bw_http__files_figures(const struct bw_http_files *files, struct bw_http__files_figures *figures);

/** The reason phrase of a status that we send. */
const char *bw_http__reason(unsigned status);
