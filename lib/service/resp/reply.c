/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How a command answers: exactly one call of this file.
 *
 * The reply goes into the window (send.c), or into the request that holds the connection's place (request.c): the
 * command does not see which. Either has room for BW_RESP__TEXT_MAX bytes of text and one value by reference behind
 * it. Bulk strings of BW_RESP__REF_MIN bytes and more are values of the store, pinned until they are sent, or texts that
 * are put into staged memory; shorter ones are copied at once.
 */
#include "internal.h"

#include <stdarg.h>
#include <stdio.h>

void bw_resp__reply_text(struct bw_resp__call *call, const char *text, uint32_t len)
{
	struct bw_resp__request *request = call->request;

	BW_ASSERT_LE(len, BW_RESP__TEXT_MAX);
	if (bw_likely(request == NULL)) {
		memcpy(call->r->out, text, len);
		call->r->out += len;
		return;
	}
	memcpy(request->text, text, len);
	request->text_len = len;
}

void bw_resp__reply_nil(struct bw_resp__call *call)
{
	char text[8];

	bw_resp__reply_text(call, text, (uint32_t)(bw_resp__put_nil(text, call->is_resp3) - text));
}

void bw_resp__reply_int(struct bw_resp__call *call, int64_t value)
{
	char text[32];
	uint32_t len;

	text[0] = ':';
	len = 1 + bw_resp__format_int(text + 1, value);
	memcpy(text + len, "\r\n", 2);
	bw_resp__reply_text(call, text, len + 2);
}

void bw_resp__reply_error(struct bw_resp__call *call, const char *format, ...)
{
	char text[BW_RESP__TEXT_MAX];
	va_list args;
	int len;

	text[0] = '-';
	va_start(args, format);
	len = 1 + vsnprintf(text + 1, sizeof(text) - 3, format, args);
	va_end(args);
	len = BW_MIN(len, (int)sizeof(text) - 3);
	/* As Redis does with what it quotes: an end of line at the end goes, others are blanks. */
	while (text[len - 1] == '\r' || text[len - 1] == '\n')
		len--;
	for (int i = 1; i < len; i++)
		if (text[i] == '\r' || text[i] == '\n')
			text[i] = ' ';
	bw_resp__count_error(call, text, (size_t)len);
	memcpy(text + len, "\r\n", 2);
	bw_resp__reply_text(call, text, (uint32_t)len + 2);
}

void bw_resp__reply_syntax_error(struct bw_resp__call *call)
{
	bw_resp__reply_error(call, "ERR syntax error");
}

void bw_resp__reply_not_an_integer(struct bw_resp__call *call)
{
	bw_resp__reply_error(call, "ERR value is not an integer or out of range");
}

void bw_resp__reply_oom(struct bw_resp__call *call)
{
	bw_resp__reply_error(call, "OOM command not allowed when used memory > 'maxmemory'.");
}

void bw_resp__reply_arity(struct bw_resp__call *call, const char *name)
{
	bw_resp__reply_error(call, "ERR wrong number of arguments for '%s' command", name);
}

void bw_resp__reply_unknown_command(struct bw_resp__call *call)
{
	const struct bw_resp__arg *name = &call->argv[0];
	char args[160];
	size_t len = 0;

	args[0] = '\0';
	for (uint32_t i = 1; i < call->argc && len < 128; i++)
		len += (size_t)snprintf(args + len, sizeof(args) - len, "'%.*s' ",
			(int)BW_MIN(call->argv[i].len, 128 - (uint32_t)len),
			(const char *)call->argv[i].data);
	bw_resp__reply_error(call, "ERR unknown command '%.*s', with args beginning with: %s",
		(int)BW_MIN(name->len, 128u), (const char *)name->data, args);
}

void bw_resp__reply_unknown_subcommand(struct bw_resp__call *call)
{
	char upper[16];
	unsigned i;

	for (i = 0; call->command->name[i] != '\0' && i < sizeof(upper) - 1; i++)
		upper[i] = (char)(call->command->name[i] & ~0x20);
	upper[i] = '\0';
	bw_resp__reply_error(call, "ERR unknown subcommand '%.*s'. Try %s HELP.",
		(int)BW_MIN(call->argv[1].len, 128u), (const char *)call->argv[1].data, upper);
}

/* ---- bulk strings ---- */

char *bw_resp__put_bulk_header(char *to, uint32_t len)
{
	*to++ = '$';
	to += bw_resp__format_int(to, len);
	return mempcpy(to, "\r\n", 2);
}

/* What is too long for the text; the pin is taken over. The header, where it is a bulk, is written before. */
static void reply_by_reference(
	struct bw_resp__call *call, struct bw_resp__block *block, bool is_bulk, uint32_t offset, uint32_t len)
{
	if (call->request != NULL) {
		call->request->value = block;
		call->request->value_is_bulk = is_bulk;
		call->request->value_off = offset;
		call->request->value_len = len;
		return;
	}
	bw_resp__emit_begin(call->r, call->conn, block, is_bulk, offset, len);
}

static void reply_header(struct bw_resp__call *call, uint32_t len)
{
	char text[32];

	bw_resp__reply_text(call, text, (uint32_t)(bw_resp__put_bulk_header(text, len) - text));
}

static void reply_short_bulk(struct bw_resp__call *call, const void *data, uint32_t len)
{
	struct bw_resp__request *request = call->request;
	char *begin = request == NULL ? call->r->out : request->text,
	     *to = bw_resp__put_bulk_header(begin, len);

	to = mempcpy(to, data, len);
	to = mempcpy(to, "\r\n", 2);
	if (bw_likely(request == NULL))
		call->r->out = to;
	else
		request->text_len = (uint32_t)(to - begin);
}

/* "=16\r\ntxt:" */
static char *put_verbatim_header(char *to, uint32_t len)
{
	*to++ = '=';
	to += bw_resp__format_int(to, (int64_t)len + 4);
	return mempcpy(to, "\r\ntxt:", 6);
}

enum framing {
	FRAMED, /* it is already */
	BULK,
	VERBATIM,
};

static void reply_staged(struct bw_resp__call *call, const void *data, uint32_t len, enum framing framing)
{
	struct bw_resp__chunk *blob = NULL;
	char text[32];

	if (!bw_resp__blob_append(&call->r->store, &blob, data, len, 0)) {
		if (blob != NULL)
			bw_resp__blob_free(&call->r->store, blob);
		bw_resp__reply_oom(call);
		return;
	}
	if (framing == BULK)
		reply_header(call, len);
	else if (framing == VERBATIM)
		bw_resp__reply_text(call, text, (uint32_t)(put_verbatim_header(text, len) - text));
	reply_by_reference(call, &blob->b, framing != FRAMED, 0, len);
}

void bw_resp__reply_bulk(struct bw_resp__call *call, const void *data, uint32_t len)
{
	if (len < BW_RESP__REF_MIN)
		reply_short_bulk(call, data, len);
	else
		reply_staged(call, data, len, BULK);
}

void bw_resp__reply_verbatim(struct bw_resp__call *call, const void *data, uint32_t len)
{
	char text[BW_RESP__REF_MIN + 32], *to = text;

	if (!call->is_resp3) {
		bw_resp__reply_bulk(call, data, len);
	} else if (len >= BW_RESP__REF_MIN) {
		reply_staged(call, data, len, VERBATIM);
	} else {
		to = put_verbatim_header(to, len);
		to = mempcpy(to, data, len);
		to = mempcpy(to, "\r\n", 2);
		bw_resp__reply_text(call, text, (uint32_t)(to - text));
	}
}

void bw_resp__reply_text_and_blob(
	struct bw_resp__call *call, const char *text, uint32_t len, struct bw_resp__chunk *blob)
{
	bw_resp__reply_text(call, text, len);
	reply_by_reference(call, &blob->b, false, 0, blob->total_bytes);
}

void bw_resp__reply_framed(struct bw_resp__call *call, const void *data, uint32_t len)
{
	if (len <= BW_RESP__TEXT_MAX)
		bw_resp__reply_text(call, data, len);
	else
		reply_staged(call, data, len, FRAMED);
}

void bw_resp__reply_arg(struct bw_resp__call *call, const struct bw_resp__arg *arg)
{
	struct bw_resp__chunk *blob = bw_resp__arg_blob(arg);

	if (blob == NULL) {
		bw_resp__reply_bulk(call, arg->data, arg->len);
		return;
	}
	arg->rec->blob = NULL;
	reply_header(call, arg->len);
	reply_by_reference(call, &blob->b, true, 0, arg->len);
}

void bw_resp__reply_block(struct bw_resp__call *call, struct bw_resp__block *block)
{
	uint32_t len = bw_resp__block_value_bytes(block);

	/* A blob is longer than that. */
	if (len < BW_RESP__REF_MIN) {
		reply_short_bulk(call, bw_resp__item_value((struct bw_resp__item *)block), len);
		bw_resp__block_unpin(block);
		return;
	}
	reply_header(call, len);
	reply_by_reference(call, block, true, 0, len);
}

void bw_resp__reply_value(struct bw_resp__call *call, struct bw_resp__item *item)
{
	struct bw_resp__block *block;

	if (item == NULL) {
		bw_resp__reply_nil(call);
		return;
	}
	if (bw_likely(item->value_bytes < BW_RESP__REF_MIN)) {
		reply_short_bulk(call, bw_resp__item_value(item), item->value_bytes);
		return;
	}
	block = bw_resp__item_value_block(item);
	bw_resp__block_pin(block);
	bw_resp__reply_block(call, block);
}

void bw_resp__reply_range(
	struct bw_resp__call *call, struct bw_resp__item *item, uint32_t offset, uint32_t len)
{
	struct bw_resp__block *block = bw_resp__item_value_block(item);
	uint8_t text[BW_RESP__REF_MIN], *to = text;

	if (len >= BW_RESP__REF_MIN) {
		bw_resp__block_pin(block);
		reply_header(call, len);
		reply_by_reference(call, block, true, offset, len);
		return;
	}
	if (!bw_resp__item_has_blob(item)) {
		reply_short_bulk(call, bw_resp__item_value(item) + offset, len);
		return;
	}
	for (const struct bw_resp__chunk *c = bw_resp__item_blob(item); to < text + len; c = c->next) {
		uint32_t n = offset < c->len ? BW_MIN(c->len - offset, len - (uint32_t)(to - text)) : 0;

		to = mempcpy(to, c->bytes + BW_MIN(offset, c->len), n);
		offset -= BW_MIN(offset, c->len);
	}
	reply_short_bulk(call, text, len);
}

void bw_resp__reply_help(struct bw_resp__call *call, const char *const *lines)
{
	char *begin = (char *)call->r->scratch + call->r->limits.inline_bytes_max, *to = begin;
	const char *name = call->command->name;
	unsigned count = 0, name_len = (unsigned)(strchrnul(name, '|') - name);

	while (lines[count] != NULL)
		count++;
	/* The texts are short, and the scratch is not. */
	to += sprintf(to, "*%u\r\n+", count + 3);
	for (unsigned i = 0; i < name_len; i++)
		*to++ = (char)(name[i] & ~0x20);
	to += sprintf(to, " <subcommand> [<arg> [value] [opt] ...]. Subcommands are:\r\n");
	for (unsigned i = 0; i < count; i++)
		to += sprintf(to, "+%s\r\n", lines[i]);
	to += sprintf(to, "+HELP\r\n+    Prints this help.\r\n");
	bw_resp__reply_framed(call, begin, (uint32_t)(to - begin));
}

/* ---- taken back ---- */

void bw_resp__silence(struct bw_resp__call *call, bool was_silent, char *out)
{
	struct bw_resp__conn *conn = call->conn;
	bool is_on =
		(conn->flags & (BW_RESP__REPLY_OFF | BW_RESP__REPLY_SKIP | BW_RESP__REPLY_SKIP_NEXT)) == 0;

	conn->flags &= (uint16_t)~BW_RESP__REPLY_SKIP_NEXT;
	if (conn->flags & BW_RESP__REPLY_SKIP) {
		conn->flags &= (uint16_t)~BW_RESP__REPLY_SKIP;
		conn->flags |= BW_RESP__REPLY_SKIP_NEXT;
	}
	if (was_silent && is_on)
		return;
	if (call->request != NULL) {
		call->request->is_silent = true;
		return;
	}
	call->r->out = out;
	if (conn->busy->emit != NULL) {
		bw_resp__block_unpin(conn->busy->emit);
		bw_resp__busy(call->r, conn)->emit = NULL;
		bw_resp__busy(call->r, conn)->emit_chunk = NULL;
	}
}
