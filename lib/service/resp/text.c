/* SPDX-License-Identifier: BSD-3-Clause */
#include "text.h"

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
