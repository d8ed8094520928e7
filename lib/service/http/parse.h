/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * A request's head: where it ends, what it says, and its body's framing (RFC 9112). Pure functions over bytes.
 *
 * Strict. What is ambiguous about framing is an error that closes the connection: a proxy in front of us may
 * have read it otherwise (request smuggling, RFC 9112 section 11.2). Line ends are CR LF and nothing else.
 */
#pragma once

#include <service/http.h>

/* ---- the end of a head ---- */

/**
 * Where a search stands after the bytes it has seen: it never sees a byte twice. Zeroed to begin. Packed, as each
 * connection has one, and has no bytes to spare.
 */
struct bw_http__scan {
	uint32_t seen;      /* bytes of this head */
	uint8_t line;       /* enum line in parse.c */
	bool in_first_line; /* valid once seen > 0 */
} __attribute__((packed, aligned(2)));

enum bw_http__scan_result {
	BW_HTTP__SCAN_MORE,
	BW_HTTP__SCAN_END,     /* *used: bytes of the chunk up to and with the empty line */
	BW_HTTP__SCAN_BARE_LF, /* a line feed without its carriage return: 400 */
};

enum bw_http__scan_result bw_http__scan(
	struct bw_http__scan *scan, const uint8_t *chunk, uint32_t chunk_len, uint32_t *used);

/* ---- what it says ---- */

/** Entity tags a condition may list in the form that we give out; others cannot match and are not kept. */
#define BW_HTTP__TAGS_MAX 8

enum {
	BW_HTTP__IF_MATCH = 1 << 0,
	BW_HTTP__IF_MATCH_ANY = 1 << 1, /* "*" */
	BW_HTTP__IF_NONE_MATCH = 1 << 2,
	BW_HTTP__IF_NONE_MATCH_ANY = 1 << 3,
	BW_HTTP__IF_MODIFIED_SINCE = 1 << 4,
	BW_HTTP__IF_UNMODIFIED_SINCE = 1 << 5,
	BW_HTTP__RANGE = 1 << 6,
	BW_HTTP__RANGE_SUFFIX = 1 << 7, /* the last range_last bytes */
	BW_HTTP__IF_RANGE = 1 << 8,
	BW_HTTP__IF_RANGE_TAG = 1 << 9, /* else if IF_RANGE_DATE a date, else something that never matches */
	BW_HTTP__IF_RANGE_DATE = 1 << 10,
};

/** Content codings that the client takes (RFC 9110 section 12.5.3) in the place of none. */
enum {
	BW_HTTP__TAKES_BR = 1 << 0,
	BW_HTTP__TAKES_GZIP = 1 << 1,
	BW_HTTP__PREFERS_GZIP = 1 << 2, /* to br */
};

/** Conditions and range (RFC 9110 sections 13 and 14), in numbers: they outlive the bytes they came in. */
struct bw_http__wants {
	uint16_t flags;    /* nothing below is valid without its flag */
	uint8_t encodings; /* always valid: BW_HTTP__TAKES_BR and the like */
	uint8_t match_count, none_match_count;
	uint64_t match[BW_HTTP__TAGS_MAX], none_match[BW_HTTP__TAGS_MAX];
	int64_t modified_since, unmodified_since, if_range_date;
	uint64_t if_range_tag;
	uint64_t range_first, range_last;
};

struct bw_http__request {
	enum bw_http_method method;
	const uint8_t *path; /* of the target, without the query, as it came */
	uint32_t path_len;
	uint64_t path_hash;  /* 0, until the server fills it in */
	const uint8_t *host; /* without its port; of the target's authority, else of Host */
	uint32_t host_len;
	struct bw_http_text target, query, fields; /* in the head's bytes */
	bool path_is_plain; /* nothing to decode or normalise: bw_http__path() would copy it */
	bool is_asterisk;   /* OPTIONS * */
	bool is_1_0;
	bool keeps_alive;
	bool has_keep_alive; /* the client of a 1.0 asked for it, and wants to hear so */
	bool is_chunked;
	bool expects_continue;
	bool expects_unknown;
	bool has_length;
	uint64_t body_bytes; /* Content-Length */
	struct bw_http__wants wants;
};

struct bw_http__limits {
	uint32_t request_line_bytes_max, header_count_max;
	int64_t now_s; /* wall clock, for RFC 850's dates */
};

/**
 * @head  from the request line to the empty line, both in
 * Returns 0, or the status to refuse it with: 400, 414, 431, 501, 505. All of them close the connection. The method is
 * valid in either case: GET where a fault comes before it.
 */
unsigned bw_http__parse(const uint8_t *head, uint32_t head_len, const struct bw_http__limits *limits,
	struct bw_http__request *request);

/**
 * Decode percent-encoding, merge slashes, remove dot segments (RFC 3986 sections 2.1 and 5.2.4).
 *
 * @out  room for `path_len` bytes; starts with '/', no NUL, no "." or ".." segment; not terminated
 * Returns 0 and *out_len; 400 for bad encoding, NUL, or a path that leaves the root; 404 for an encoded slash:
 * no file name has one, and decoding it would change what the path means.
 */
unsigned bw_http__path(const uint8_t *path, uint32_t path_len, uint8_t *out, uint32_t *out_len);

/** The tag in the form we give out, "0123456789abcdef" in quotes; not terminated. */
#define BW_HTTP__TAG_LEN 18
void bw_http__tag_format(uint64_t tag, char out[BW_HTTP__TAG_LEN]);

/* ---- a chunked body (RFC 9112 section 7.1) ---- */

/** Zeroed to begin. */
struct bw_http__chunks {
	uint64_t left;     /* of the chunk's data, or its size while it is read */
	uint16_t line_len; /* of the size line or the trailer line so far */
	uint16_t trailer_bytes;
	uint8_t state;
};

enum bw_http__chunks_result {
	BW_HTTP__CHUNKS_MORE, /* all bytes were framing, and there is more to come */
	BW_HTTP__CHUNKS_DATA, /* up to chunks->left bytes of data are next: bw_http__chunks_took() them */
	BW_HTTP__CHUNKS_END,  /* the body is over */
	BW_HTTP__CHUNKS_BAD,
};

/** Decode framing up to the next data. Returns the bytes of framing used. */
uint32_t bw_http__chunks_next(struct bw_http__chunks *chunks, const uint8_t *bytes, uint32_t len,
	enum bw_http__chunks_result *result);
/** `len` bytes of data, 1 to chunks->left, are done with. */
void bw_http__chunks_took(struct bw_http__chunks *chunks, uint32_t len);
