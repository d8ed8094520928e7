/* SPDX-License-Identifier: BSD-3-Clause */
/** What is served to one host, or to all that have none of their own: a site, as it is in force. */
#pragma once

#include <stdatomic.h>

#include <service/http.h>

struct bw_http__object;

/** The page that is the body of a status. A file below the root, in the cache like any other. */
struct bw_http__page {
	uint16_t status;
	uint8_t *path; /* canonical */
	uint32_t path_len;
	atomic_bool is_lost; /* has been told */
};

struct bw_http__site {
	int root_fd; /* -1: constants only */
	char *root, *index;
	char *charset; /* of text; NULL: none is told */
	char *headers; /* lines, for every head */
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
/** Also of one that is zeroed but for its root_fd, -1. */
void bw_http__site_fini(struct bw_http__site *site);
