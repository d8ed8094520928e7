/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Heads that came lately, and what they say. A client says the same in every request but for the target, and most
 * targets come again: where all of a head's bytes are those of an earlier one, so is what they mean, and it need not be
 * parsed, nor its end be searched: a comparison of some hundred bytes instead of some thousand instructions.
 *
 * Only what depends on nothing but these bytes is kept: GET and HEAD without a body, and without conditions whose dates
 * are read by today's. A head is kept when it comes a second time, so that one that never does costs a look.
 */
#pragma once

#include "parse.h"

#define BW_HTTP__MEMO_BYTES   512 /* of a head that is kept */
#define BW_HTTP__MEMO_ENTRIES 256

struct bw_http__memo {
	struct bw_http__memo_entry {
		uint32_t hash;     /* of the request line that was seen here last */
		uint16_t head_len; /* 0: nothing is kept */
		uint16_t
			misses; /* heads with the same request line and others of the rest, since it was met */
		uint8_t head[BW_HTTP__MEMO_BYTES];
		struct bw_http__request request; /* points into `head` */
	} entry[BW_HTTP__MEMO_ENTRIES];
};

/**
 * @bytes  from a request's first on, in one piece; more requests may follow in them
 * @hash   goes to bw_http__memo_keep()
 * What the head says, valid until the next one is kept; NULL: it has to be parsed.
 */
const struct bw_http__request *bw_http__memo_find(
	struct bw_http__memo *memo, const uint8_t *bytes, uint32_t len, uint32_t *head_len, uint32_t *hash);
/** Keep what bw_http__parse() has made of a head, if it is worth it. `request` points into it. */
void bw_http__memo_keep(struct bw_http__memo *memo, uint32_t hash, const uint8_t *head, uint32_t head_len,
	const struct bw_http__request *request);
