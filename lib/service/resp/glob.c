/* SPDX-License-Identifier: BSD-3-Clause */
#include "internal.h"

static uint8_t folded(uint8_t c, bool is_nocase)
{
	return is_nocase && c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

/* The pattern's next element, which is no star, against a byte, folded before; *used is its length. */
static bool match_one(const uint8_t *p, const uint8_t *end, uint8_t c, bool is_nocase, uint32_t *used)
{
	const uint8_t *begin = p++;
	bool is_negated, matches = false;

	*used = 1;
	if (*begin == '?')
		return true;
	if (*begin == '\\' && p < end) {
		*used = 2;
		return folded(*p, is_nocase) == c;
	}
	if (*begin != '[')
		return folded(*begin, is_nocase) == c;
	is_negated = p < end && *p == '^';
	p += is_negated;
	/* Ranges may be the wrong way round, and a class that nothing closes ends with the pattern. */
	while (p < end && *p != ']') {
		if (*p == '\\' && end - p >= 2) {
			matches |= folded(p[1], is_nocase) == c;
			p += 2;
		} else if (end - p >= 3 && p[1] == '-') {
			int8_t from = (int8_t)folded(p[0], is_nocase), to = (int8_t)folded(p[2], is_nocase);

			matches |= (int8_t)c >= BW_MIN(from, to) && (int8_t)c <= BW_MAX(from, to);
			p += 3;
		} else {
			matches |= folded(*p++, is_nocase) == c;
		}
	}
	p += p < end;
	*used = (uint32_t)(p - begin);
	return matches != is_negated;
}

/* Only the last star is ever tried again, so the cost is the product of the lengths. */
bool bw_resp__glob(const uint8_t *p, uint32_t p_len, const uint8_t *text, uint32_t len, bool is_nocase)
{
	const uint8_t *p_end = p + p_len, *end = text + len, *after_star = NULL, *retry_at = NULL;
	uint32_t used;

	if (len == 0) /* to Redis no star matches an empty text; its callers know "*" */
		return p_len == 0;
	while (text < end) {
		if (p < p_end && *p == '*') {
			after_star = ++p;
			retry_at = text;
		} else if (p < p_end && match_one(p, p_end, folded(*text, is_nocase), is_nocase, &used)) {
			p += used;
			text++;
		} else if (after_star != NULL) {
			p = after_star;
			text = ++retry_at;
		} else {
			return false;
		}
	}
	while (p < p_end && *p == '*')
		p++;
	return p == p_end;
}
