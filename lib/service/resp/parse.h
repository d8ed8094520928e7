/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Bytes to commands. Two ways, one meaning:
 *
 * - A well-formed command that lies in one view is parsed in place: its arguments point into the view.
 * - Everything else (a command that straddles views, an inline command, a malformed one) is gathered: fed byte by
 *   byte, in pieces of any size, into staged memory of the store, which grows with what arrives, not with what is
 *   announced. Only this way knows errors, so they do not depend on how the bytes were cut.
 */
#pragma once

#include "store.h"

/** An argument of a gathered command. */
struct bw_resp__rec {
	uint32_t len;
	bool is_blob; /* longer than KEY_MAX: the bytes are a chain of chunks */
	union {
		struct bw_resp__chunk *blob;
		struct bw_resp__block *found; /* MGET: the value of this key, pinned and listed; NULL: none */
	};
	uint8_t bytes[];
};

struct bw_resp__arg {
	const uint8_t *data; /* all of it, or the first chunk's part where it is a blob */
	uint32_t len;
	struct bw_resp__rec *rec; /* NULL: parsed in place */
};

struct bw_resp__limits {
	uint32_t bulk_bytes_max, args_max, inline_bytes_max;
	bool is_unauthenticated; /* the bounds of a client that has yet to say the password */
};
/* Redis's. */
#define BW_RESP__UNAUTHENTICATED_ARGS 10u
#define BW_RESP__UNAUTHENTICATED_BULK 16384u

enum bw_resp__gather_state {
	BW_RESP__GATHER_START,
	BW_RESP__GATHER_LINE, /* up to the CR of "*3" or "$5" */
	BW_RESP__GATHER_LINE_LF,
	BW_RESP__GATHER_BULK,
	BW_RESP__GATHER_BULK_END, /* the CRLF behind it */
	BW_RESP__GATHER_INLINE,
	BW_RESP__GATHER_COMPLETE, /* waits to be executed */
};

/** A command that is arriving, in its own first chunk. */
struct bw_resp__gather {
	struct bw_resp__chunk *head, *tail; /* records; this struct is in the head */
	struct bw_resp__chunk *text;        /* an inline command so far */
	struct bw_resp__rec *rec;           /* the argument that is arriving */
	const char *error;                  /* a protocol error: answer it and close */
	bw_ns progress_at;                  /* the caller's: when it last came far enough */
	uint32_t argc;                      /* arguments that are complete */
	uint32_t args_left;
	uint32_t bulk_left;
	uint32_t line_len; /* may exceed what line keeps: no valid line is that long */
	uint8_t state;
	bool is_inline, has_count; /* has_count: the "*" line is done */
	bool is_over_memory;       /* arguments are counted and dropped; the command gets an OOM error */
	uint8_t skip;
	char line[24];
	char error_text[40];
};

/** The bytes of the command that begins at `p`, its arguments in argv; 0: not wholly here, or not plain. */
uint32_t bw_resp__parse_in_place(const uint8_t *p, const uint8_t *end, const struct bw_resp__limits *limits,
	struct bw_resp__arg *argv, uint32_t *argc);

/** NULL: no memory. */
struct bw_resp__gather *bw_resp__gather_new(struct bw_resp__store *store);
void bw_resp__gather_free(struct bw_resp__store *store, struct bw_resp__gather *gather);
/** Returns how many bytes were used. Done when the state is COMPLETE. */
uint32_t bw_resp__gather_feed(struct bw_resp__store *store, struct bw_resp__gather *gather,
	const struct bw_resp__limits *limits, const uint8_t *p, uint32_t len);
/** Copy an argument behind the others. False: no memory. */
bool bw_resp__gather_add(
	struct bw_resp__store *store, struct bw_resp__gather *gather, const struct bw_resp__arg *arg);
/** The arguments of a complete command that is not inline. */
uint32_t bw_resp__gather_args(const struct bw_resp__gather *gather, struct bw_resp__arg *argv);
/** The first record, or the one after. NULL at the end. */
struct bw_resp__cursor {
	struct bw_resp__chunk *chunk;
	uint32_t offset;
};
struct bw_resp__rec *bw_resp__gather_first(
	const struct bw_resp__gather *gather, struct bw_resp__cursor *cursor);
struct bw_resp__rec *bw_resp__gather_next(struct bw_resp__cursor *cursor);

/**
 * Split an inline command as redis-cli's users expect: blanks, "double" with escapes, 'single'. In place: the
 * arguments point into `line`. -1: unbalanced quotes; -2: more than args_max.
 */
int bw_resp__split_inline(uint8_t *line, uint32_t len, struct bw_resp__arg *argv, uint32_t args_max);

/** Redis's notion of an integer: no blanks, no plus, no leading zero, in range. */
bool bw_resp__parse_int(const uint8_t *p, uint32_t len, int64_t *value);
/** At most 20 characters. Returns how many. */
unsigned bw_resp__format_int(char *out, int64_t value);

static inline struct bw_resp__chunk *bw_resp__arg_blob(const struct bw_resp__arg *arg)
{
	return arg->rec != NULL && arg->rec->is_blob ? arg->rec->blob : NULL;
}

static inline bool bw_resp__is_arriving(const struct bw_resp__gather *gather)
{
	return gather != NULL && gather->state != BW_RESP__GATHER_COMPLETE;
}
