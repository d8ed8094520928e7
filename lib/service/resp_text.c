/* SPDX-License-Identifier: BSD-3-Clause */
#include "resp_text.h"

#include <stdarg.h>
#include <stdio.h>

struct bw_resp__text bw_resp__text_begin(struct bw_resp__call *call)
{
	return (struct bw_resp__text){ .begin = (char *)call->r->scratch + call->r->limits.inline_bytes_max,
		.room = BW_RESP__SCRATCH_BYTES,
		.is_resp3 = call->is_resp3 };
}

void bw_resp__text_add(struct bw_resp__text *t, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(t->begin + t->len, t->room - t->len, format, args);
	va_end(args);
	BW_ASSERT_LT(n, t->room - t->len);
	t->len += (size_t)n;
}

void bw_resp__text_bulk(struct bw_resp__text *t, const char *s)
{
	bw_resp__text_add(t, "$%zu\r\n%s\r\n", strlen(s), s);
}

void bw_resp__text_nil(struct bw_resp__text *t)
{
	bw_resp__text_add(t, "%s", t->is_resp3 ? "_\r\n" : "$-1\r\n");
}

void bw_resp__text_array(struct bw_resp__text *t, size_t count)
{
	bw_resp__text_add(t, "*%zu\r\n", count);
}

void bw_resp__text_set(struct bw_resp__text *t, size_t count)
{
	bw_resp__text_add(t, "%c%zu\r\n", t->is_resp3 ? '~' : '*', count);
}

void bw_resp__text_map(struct bw_resp__text *t, size_t pairs)
{
	bw_resp__text_add(t, "%c%zu\r\n", t->is_resp3 ? '%' : '*', t->is_resp3 ? pairs : 2 * pairs);
}

void bw_resp__text_address(struct bw_resp__text *t, const struct bw_ip *ip, uint16_t port_be)
{
	char text[BW_IP_STRLEN];

	bw_resp__text_add(
		t, bw_ip_is_v4(ip) ? "%s:%u" : "[%s]:%u", bw_ip_format(ip, text), __builtin_bswap16(port_be));
}

void bw_resp__text_reply(struct bw_resp__call *call, const struct bw_resp__text *t)
{
	bw_resp__reply_framed(call, t->begin, (uint32_t)t->len);
}

/* The pattern's next element against a character; *used is its length. `*` is not for here. */
static bool glob_one(const char *p, size_t p_len, char c, size_t *used)
{
	bool is_negated, matches = false;
	size_t i;

	*used = 1;
	if (*p == '?')
		return true;
	if (*p == '\\' && p_len > 1) {
		*used = 2;
		return p[1] == c;
	}
	if (*p != '[')
		return (*p >= 'A' && *p <= 'Z' ? *p | 0x20 : *p) == c;
	is_negated = p_len > 1 && p[1] == '^';
	for (i = 1 + is_negated; i < p_len && p[i] != ']'; i++) {
		char low = p[i], high = p[i];

		if (i + 2 < p_len && p[i + 1] == '-') {
			high = p[i + 2];
			i += 2;
		}
		matches |= c >= low && c <= high;
	}
	*used = BW_MIN(i + 1, p_len);
	return matches != is_negated;
}

bool bw_resp__glob_nocase(const char *p, size_t p_len, const char *s)
{
	const char *after_star = NULL, *retry_at = NULL, *end = p + p_len;
	size_t used;

	while (*s != '\0') {
		if (p < end && *p == '*') {
			after_star = ++p;
			retry_at = s;
		} else if (p < end && glob_one(p, (size_t)(end - p), *s, &used)) {
			p += used;
			s++;
		} else if (after_star != NULL) {
			p = after_star;
			s = ++retry_at;
		} else {
			return false;
		}
	}
	while (p < end && *p == '*')
		p++;
	return p == end;
}
