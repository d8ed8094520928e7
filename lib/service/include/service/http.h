/* SPDX-License-Identifier: BSD-3-Clause */
/** HTTP/1.1 server (RFC 9110, RFC 9112): configuration. */
#pragma once

#include <base/types.h>

/** A constant response: `path` exact, query ignored. */
struct bw_http_constant {
	const char *path;
	const char *content_type;
	const char *body; /* body_bytes of it; not copied, lives as long as the service */
	size_t body_bytes;
	uint16_t status; /* 200 when 0 */
};

/** A field of every response. */
struct bw_http_header {
	const char *name, *value;
};
/** Of all of a site's, with their line ends: a head is at most 1,024 bytes. */
#define BW_HTTP_HEADERS_BYTES_MAX 384u
/** NULL, or what is wrong and what to do. */
const char *bw_http_header_fault(const struct bw_http_header *header);

/** The body of all answers of a status that the server makes itself: a file. */
struct bw_http_page {
	uint16_t status;  /* 400 to 599, but not 416 */
	const char *path; /* as in a request: below the root */
};

/**
 * What is served to requests for one host, or for all that no other site has. A virtual host (RFC 9110 section 7.2) is
 * a site with names.
 */
struct bw_http_site {
	const char *const
		*names; /* Host without its port, in lower case: "example.org", or "*.example.org" */
	unsigned name_count;
	const char *root;  /* document root, or NULL: constants only */
	const char *index; /* file served for a directory; NULL: "index.html" */
	const struct bw_http_constant *constants;
	unsigned constant_count;
	const struct bw_http_header *headers;
	unsigned header_count;
	const struct bw_http_page *pages;
	unsigned page_count;
	const char *charset; /* of text/ types; NULL or "off": none is told */
	bool precompressed;  /* of FILE, FILE.br and FILE.gz are sent to who takes them */
	bool listing;        /* of directories without index */
};

struct bw_http_conf {
	struct bw_http_site site;         /* of hosts that no other site names; it has no names */
	const struct bw_http_site *hosts; /* those that have names */
	unsigned host_count;
	const char *mime_types;          /* a table in the form of /etc/mime.types, which is the default */
	uint64_t cache_bytes_max;        /* files held in memory, all workers together; 0: a quarter of RAM */
	uint32_t request_line_bytes_max; /* default 4096: above it 414 */
	uint32_t header_bytes_max; /* request line and headers; default 8192: above it 431. At most 16384 */
	uint32_t header_count_max; /* default 100: above it 431 */
	uint64_t body_bytes_max;   /* a request's body, read and discarded; default 1 MiB: above it 413 */
	uint32_t
		pipeline_depth_max; /* responses queued or awaited a connection; default 64, then reading pauses */
	/** First byte of a request to its last header, or how far its body may be behind 1 KiB/s; default 10 s: 408. */
	bw_ns header_timeout_ns;
	bw_ns idle_timeout_ns; /* between requests; default 60 s: close */
	/* -- set by bw_http_conf_prepare() -- */
	struct bw_http_files *files; /* the cache all workers share */
};

/** Defaults. */
void bw_http_site_init(struct bw_http_site *site);
/** Defaults, also for the default site. */
void bw_http_conf_init(struct bw_http_conf *conf);
/**
 * Check, and make what the workers share. Before the workers start. 0, or -errno after one line that says
 * what, where and what to do (document root missing, not a directory, unreadable).
 */
int bw_http_conf_prepare(struct bw_http_conf *conf);
/** After the workers have stopped. */
void bw_http_conf_release(struct bw_http_conf *conf);
