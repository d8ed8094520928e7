/* SPDX-License-Identifier: BSD-3-Clause */
#include "memo.h"

#include <nmmintrin.h>
#include <string.h>

#define LINE_MIN 16  /* "GET / HTTP/1.1" and its line end */
#define LINE_MAX 256 /* of a request line whose head is kept */

#define MISSES_MAX 16

static uint64_t load64(const uint8_t *at)
{
	uint64_t word;

	memcpy(&word, at, sizeof(word));
	return word;
}

/** Where the first line ends; 0: not within LINE_MIN to LINE_MAX bytes. */
static uint32_t line_length(const uint8_t *bytes, uint32_t len)
{
	const __m128i cr = _mm_set1_epi8('\r');
	uint32_t at = 0;

	for (; at + 16 <= len && at < LINE_MAX; at += 16) {
		__m128i block = _mm_loadu_si128((const __m128i *)(const void *)(bytes + at));
		unsigned mask = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(block, cr));

		if (mask == 0)
			continue;
		at += (unsigned)__builtin_ctz(mask);
		return at >= LINE_MIN - 2 ? at : 0;
	}
	while (at < len && at < LINE_MAX && bytes[at] != '\r')
		at++;
	return at >= LINE_MIN - 2 && at < len && at < LINE_MAX ? at : 0;
}

/** Of the request line. Who likes may make them collide, and then has heads parsed. */
static uint32_t hash_line(const uint8_t *line, uint32_t len)
{
	uint64_t hash = len;

	for (uint32_t at = 0; at + 8 <= len; at += 8)
		hash = _mm_crc32_u64(hash, load64(line + at));
	return (uint32_t)_mm_crc32_u64(hash, load64(line + len - 8));
}

const struct bw_http__request *bw_http__memo_find(
	struct bw_http__memo *memo, const uint8_t *bytes, uint32_t len, uint32_t *head_len, uint32_t *hash)
{
	uint32_t line = line_length(bytes, len);
	struct bw_http__memo_entry *entry;

	*hash = 0;
	if (line == 0)
		return NULL;
	*hash = hash_line(bytes, line);
	entry = &memo->entry[*hash % BW_HTTP__MEMO_ENTRIES];
	if (entry->hash != *hash || entry->head_len == 0 || len < entry->head_len ||
		memcmp(bytes, entry->head, entry->head_len) != 0)
		return NULL;
	entry->misses = 0;
	*head_len = entry->head_len;
	return &entry->request;
}

/** Would the same bytes say the same at any time? And is there nothing in it that points elsewhere? */
static bool is_lasting(const struct bw_http__request *request)
{
	return (request->method == BW_HTTP_GET || request->method == BW_HTTP_HEAD) && !request->has_length &&
	       !request->is_chunked && !request->expects_continue && !request->expects_unknown &&
	       !(request->wants.flags &
		       (BW_HTTP__IF_MODIFIED_SINCE | BW_HTTP__IF_UNMODIFIED_SINCE | BW_HTTP__IF_RANGE));
}

static const void *moved(const void *at, const uint8_t *from, const uint8_t *to)
{
	return at != NULL ? to + ((const uint8_t *)at - from) : NULL;
}

static bool is_within(const uint8_t *at, const uint8_t *head, uint32_t head_len)
{
	return at >= head && at < head + head_len;
}

void bw_http__memo_keep(struct bw_http__memo *memo, uint32_t hash, const uint8_t *head, uint32_t head_len,
	const struct bw_http__request *request)
{
	struct bw_http__memo_entry *entry = &memo->entry[hash % BW_HTTP__MEMO_ENTRIES];
	struct bw_http__request *kept = &entry->request;

	if (hash == 0 || head_len > BW_HTTP__MEMO_BYTES || !is_lasting(request) ||
		!is_within(request->path, head, head_len)) /* a target without a path has a static one */
		return;
	if (entry->hash != hash) {
		entry->hash = hash;
		entry->head_len = 0;
		return;
	}
	/* Clients of two kinds ask for the same: one of them is enough, but not one that has gone. */
	if (entry->head_len > 0 && ++entry->misses < MISSES_MAX)
		return;
	entry->misses = 0;
	memcpy(entry->head, head, head_len);
	entry->head_len = (uint16_t)head_len;
	*kept = *request;
	kept->path = moved(kept->path, head, entry->head);
	kept->host = moved(kept->host, head, entry->head);
	kept->target.at = moved(kept->target.at, head, entry->head);
	kept->query.at = moved(kept->query.at, head, entry->head);
	kept->fields.at = moved(kept->fields.at, head, entry->head);
}
