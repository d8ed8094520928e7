/* SPDX-License-Identifier: BSD-3-Clause */
/** RESP2: GET and SET, over keys as redis-benchmark names them. A value is known by its key, so every GET is checked. */
#include <stdio.h>
#include <stdlib.h>

#include "text.h"

#define DIGITS       12
#define HEAD_BYTES   BW_LOAD__PART_HEAD
#define LINE_MAX     512 /* a reply's first line that is no error */
#define GET_TEXT     "*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000000\r\n"
#define GET_DIGITS   (sizeof(GET_TEXT) - 1 - 2 - DIGITS)
#define SET_KEY      "*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000000\r\n"
#define SET_DIGITS   (sizeof(SET_KEY) - 1 - 2 - DIGITS)
#define AUTH_MAX     512
#define READING_BODY 1

/** What all workers share: the texts around keys and values. */
struct bw_load__text {
	char set[HEAD_BYTES];   /* SET up to the value */
	char value[HEAD_BYTES]; /* a GET's reply up to the value */
	uint32_t set_bytes, value_bytes;
};

static int resp_prepare(struct bw_load *load)
{
	struct bw_load__text *text = calloc(1, sizeof(*text));

	load->texts = text;
	if (text == NULL)
		return -1;
	text->set_bytes = (uint32_t)snprintf(text->set, HEAD_BYTES, SET_KEY "$%u\r\n", load->conf.size);
	text->value_bytes = (uint32_t)snprintf(text->value, HEAD_BYTES, "$%u\r\n", load->conf.size);
	return 0;
}

static void resp_release(struct bw_load *load)
{
	free(load->texts);
}

/** Twelve decimal digits, two at a time. */
static void digits_write(char *at, uint32_t key)
{
	static const char pairs[] =
		"00010203040506070809101112131415161718192021222324252627282930313233343536373839"
		"40414243444546474849505152535455565758596061626364656667686970717273747576777879"
		"8081828384858687888990919293949596979899";

	for (int i = DIGITS - 2; i >= 0; i -= 2, key /= 100)
		memcpy(at + i, pairs + key % 100 * 2, 2);
}

static enum bw_load__asked get_write(struct bw_load__worker *w, struct bw_load__slot *slot, uint32_t key)
{
	const uint32_t len = sizeof(GET_TEXT) - 1;
	char *at = bw_stream_reserve(slot->stream, len);

	if (at == NULL)
		return BW_LOAD__NO_ROOM;
	memcpy(at, GET_TEXT, len);
	digits_write(at + GET_DIGITS, key);
	bw_stream_commit(slot->stream, len);
	w->figures.bytes_out += len;
	return BW_LOAD__WRITTEN;
}

static enum bw_load__asked set_write(struct bw_load__worker *w, struct bw_load__slot *slot, uint32_t key)
{
	const struct bw_load__text *text = w->load->texts;
	uint32_t size = w->load->conf.size, len = text->set_bytes + size + 2;
	char *at;

	if (len > BW_LOAD__RESERVE_MAX)
		return BW_LOAD__IN_PARTS;
	at = bw_stream_reserve(slot->stream, len);
	if (at == NULL)
		return BW_LOAD__NO_ROOM;
	memcpy(at, text->set, text->set_bytes);
	digits_write(at + SET_DIGITS, key);
	memcpy(at + text->set_bytes, bw_load__payload(w->load, key), size);
	memcpy(at + text->set_bytes + size, "\r\n", 2);
	bw_stream_commit(slot->stream, len);
	w->figures.bytes_out += len;
	return BW_LOAD__WRITTEN;
}

/** A SET with a large value. */
static void resp_compose(const struct bw_load__worker *w, const struct bw_load__slot *slot,
	const struct bw_load__pending *p, struct bw_load__message *message)
{
	const struct bw_load__text *text = w->load->texts;

	(void)slot;
	memcpy(message->head, text->set, text->set_bytes);
	digits_write(message->head + SET_DIGITS, p->what);
	message->part[0].data = message->head;
	message->part[0].len = text->set_bytes;
	message->part[1].data = bw_load__payload(w->load, p->what);
	message->part[1].len = w->load->conf.size;
	message->part[2].data = "\r\n";
	message->part[2].len = 2;
}

static enum bw_load__asked auth_write(struct bw_load__worker *w, struct bw_load__slot *slot)
{
	const char *password = w->load->conf.targets[slot->target].password;
	char text[AUTH_MAX];
	int len = snprintf(
		text, sizeof(text), "*2\r\n$4\r\nAUTH\r\n$%zu\r\n%s\r\n", strlen(password), password);

	BW_ASSERT(len < (int)sizeof(text));
	return bw_load__write(w, slot, text, (uint32_t)len);
}

static enum bw_load__asked resp_ask(
	struct bw_load__worker *w, struct bw_load__slot *slot, struct bw_load__pending *p)
{
	double set_share = w->load->conf.set_share;
	enum bw_load__asked asked;

	p->is_set = p->kind == BW_LOAD__FILLING;
	if (p->kind == BW_LOAD__PRELUDE)
		return auth_write(w, slot);
	if (p->kind == BW_LOAD__FILLING) {
		p->what = (uint32_t)w->fill_at;
		asked = set_write(w, slot, p->what);
		w->fill_at += asked != BW_LOAD__NO_ROOM;
		return asked;
	}
	p->what = bw_load__draw_next(&w->draw);
	p->is_set = set_share > 0 && p->kind == BW_LOAD__ASK && bw_load__draw_fraction(&w->draw) <= set_share;
	return p->is_set ? set_write(w, slot, p->what) : get_write(w, slot, p->what);
}

/** A length of up to nine digits, or -1. Returns what is behind its CR LF; NULL: it is none. */
static const uint8_t *length_parse(const uint8_t *at, const uint8_t *end, int64_t *length)
{
	const uint8_t *digits = at;

	*length = 0;
	if (end - at >= 4 && memcmp(at, "-1\r\n", 4) == 0) {
		*length = -1;
		return at + 4;
	}
	for (; at < end && *at >= '0' && *at <= '9' && at - digits < 9; at++)
		*length = *length * 10 + (*at - '0');
	return at > digits && end - at >= 2 && at[0] == '\r' && at[1] == '\n' ? at + 2 : NULL;
}

/** The first line of a reply, which is all of it but for a value. */
static enum bw_load__outcome line_read(struct bw_load__worker *w, struct bw_load__slot *slot,
	const struct bw_load__pending *p, const uint8_t *at, uint32_t len, uint32_t *used)
{
	const uint8_t *newline = memchr(at, '\n', len), *rest;
	int64_t length;

	if (newline == NULL)
		return at[0] == '-' || len < LINE_MAX ? BW_LOAD__MORE : BW_LOAD__BAD;
	if (newline == at || newline[-1] != '\r')
		return BW_LOAD__BAD;
	*used = (uint32_t)(newline + 1 - at);
	switch (at[0]) {
	case '-':
		slot->fault = BW_LOAD_STATUS;
		return BW_LOAD__DONE;
	case '+':
		if (p->kind != BW_LOAD__PRELUDE && !p->is_set)
			slot->fault = BW_LOAD_VALUE;
		return BW_LOAD__DONE;
	case '$':
		rest = length_parse(at + 1, newline + 1, &length);
		if (rest != newline + 1)
			return BW_LOAD__BAD;
		if (length < 0) {
			if (p->is_set)
				slot->fault = BW_LOAD_VALUE;
			else
				slot->is_missed = true;
			return BW_LOAD__DONE;
		}
		if (length != w->load->conf.size || p->is_set)
			slot->fault = BW_LOAD_LENGTH;
		slot->left = (uint64_t)length + 2;
		slot->reading = READING_BODY;
		return BW_LOAD__PART;
	default:
		return BW_LOAD__BAD;
	}
}

static enum bw_load__outcome value_read(struct bw_load__worker *w, struct bw_load__slot *slot,
	const struct bw_load__pending *p, const uint8_t *at, uint32_t len, uint32_t *used)
{
	uint32_t size = w->load->conf.size, offset, compared;

	*used = (uint32_t)BW_MIN(slot->left, (uint64_t)len);
	if (slot->fault == BW_LOAD_ERRORS && slot->left > 2) {
		offset = size + 2 - (uint32_t)slot->left;
		compared = BW_MIN(*used, size - offset);
		if (memcmp(at, bw_load__payload(w->load, p->what) + offset, compared) != 0)
			slot->fault = BW_LOAD_VALUE;
	}
	slot->left -= *used;
	if (slot->left > 0)
		return BW_LOAD__PART;
	return at[*used - 1] == '\n' ? BW_LOAD__DONE : BW_LOAD__BAD;
}

static enum bw_load__outcome resp_read(struct bw_load__worker *w, struct bw_load__slot *slot,
	const struct bw_load__pending *p, const uint8_t *at, uint32_t len, uint32_t *used)
{
	const struct bw_load__text *text = w->load->texts;
	uint32_t size = w->load->conf.size, all = text->value_bytes + size + 2;

	/* A value as it was stored, in one piece: the rule. */
	if (!slot->reading && len >= all && !p->is_set && memcmp(at, text->value, text->value_bytes) == 0 &&
		memcmp(at + text->value_bytes, bw_load__payload(w->load, p->what), size) == 0 &&
		at[all - 2] == '\r' && at[all - 1] == '\n') {
		*used = all;
		return BW_LOAD__DONE;
	}
	return slot->reading ? value_read(w, slot, p, at, len, used) : line_read(w, slot, p, at, len, used);
}

const struct bw_load__protocol bw_load__resp = {
	.prepare = resp_prepare,
	.release = resp_release,
	.ask = resp_ask,
	.compose = resp_compose,
	.read = resp_read,
};
