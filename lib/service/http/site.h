/* SPDX-License-Identifier: BSD-3-Clause */
/** What is served to one host, or to all that have none of their own: a site, as it is in force. */
#pragma once

#include <stdatomic.h>

#include <base/types.h>
#include <service/http.h>

struct bw_http__object;

/** The page that is the body of a status. A file below the root, in the cache like any other. */
struct bw_http__page {
	uint16_t status;
	uint8_t *path; /* canonical */
	uint32_t path_len;
	atomic_bool is_lost; /* has been told */
};

/** A document root as it is open. Who looks below it holds a reference, for another may take its place meanwhile. */
struct bw_http__root {
	atomic_uint refs;
	int fd;
	bool is_local; /* it is not another machine that may swap it */
	uint64_t id;   /* no other root has it */
	uint64_t device, inode;
};

struct bw_http__site {
	struct bw_http__root *root; /* under the cache's mutex. NULL: constants only */
	char *root_path, *index;    /* root_path is NULL where there is no root */
	atomic_uint root_losses;    /* looks in a row at which there was none */
	_Atomic bw_ns root_look_at; /* of one that is not local */
	char *charset;              /* of text; NULL: none is told */
	char *headers;              /* lines, for every head */
	uint32_t headers_len;
	bool precompressed, listing;
	struct bw_http__page *pages;
	unsigned page_count;
	struct bw_http__object **constants; /* room for the configuration's; their maker counts them */
	unsigned constant_count;
};

/** 0, or -EINVAL after one line. */
int bw_http__site_check(const struct bw_http_site *conf);
/** All but the constants. 0, or -errno; after one line unless it is -ENOMEM. */
int bw_http__site_init(struct bw_http__site *site, const struct bw_http_site *conf);
/** Also of one that is zeroed. */
void bw_http__site_fini(struct bw_http__site *site);

/** What is at the root's path by now. NULL: the same as ever, or after a line nothing that could be served. */
struct bw_http__root *bw_http__site_find_root(struct bw_http__site *site, const struct bw_http__root *root);
void bw_http__root_put(struct bw_http__root *root);
