/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * HTTP/1.1 from the client's side (RFC 9112). Requests are written before the start. An answer's head is compared
 * with the last one to the same request: as long as nothing in it has changed, which is for a second where there is
 * a Date, it need not be parsed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "text.h"

#define SEEN_MAX   256 /* requests whose last head is kept */
#define SEEN_BYTES 512 /* of a head that is kept */
#define CHUNK_LINE 4096

enum reading {
	HEAD,
	BODY,
	CHUNK_SIZE,
	CHUNK_DATA,
	CHUNK_END,
	TRAILER,
	UNTIL_CLOSE
};

struct bw_load__text {
	const char *bytes;
	uint32_t len;
};

struct seen {
	const struct bw_load__text *text;
	uint64_t body;
	uint32_t head_bytes;
	char head[SEEN_BYTES];
};

/** Of a worker. */
struct http {
	bool is_head; /* the method has no body in its answers (RFC 9110 9.3.2) */
	struct seen seen[SEEN_MAX];
	uint64_t length[]; /* that the first answer to each text had, and 1; 0: there was none yet */
};

/* ---- requests ------------------------------------------------------------------------------------------ */

static int text_write(const struct bw_load_conf *conf, const struct bw_load_target *target, const char *path,
	struct bw_load__text *text)
{
	char *bytes;
	int len;

	if (conf->request != NULL) {
		text->bytes = conf->request;
		text->len = (uint32_t)conf->request_bytes;
		return 0;
	}
	len = asprintf(&bytes, "%s %s HTTP/1.1\r\nHost: %s\r\n%s%s\r\n", conf->method, path, target->host,
		conf->is_churn ? "Connection: close\r\n" : "", conf->headers != NULL ? conf->headers : "");
	if (len < 0)
		return -1;
	text->bytes = bytes;
	text->len = (uint32_t)len;
	return 0;
}

static const struct bw_load__text *text_of(
	const struct bw_load *load, const struct bw_load__slot *slot, uint32_t what)
{
	return &load->texts[slot->target * BW_MAX(load->conf.path_count, 1u) + what];
}

static int http_prepare(struct bw_load *load)
{
	const struct bw_load_conf *conf = &load->conf;
	uint64_t paths = BW_MAX(conf->path_count, 1u);

	load->text_count = conf->target_count * paths;
	load->texts = calloc(load->text_count, sizeof(*load->texts));
	if (load->texts == NULL)
		return -1;
	for (uint64_t i = 0; i < load->text_count; i++) {
		const struct bw_load_target *target = &conf->targets[i / paths];
		const char *path = conf->path_count > 0 ? conf->paths[i % paths] : target->path;

		if (text_write(conf, target, path, &load->texts[i]) != 0)
			return -1;
	}
	return 0;
}

static void http_release(struct bw_load *load)
{
	for (uint64_t i = 0; load->texts != NULL && load->conf.request == NULL && i < load->text_count; i++)
		free((char *)load->texts[i].bytes);
	free(load->texts);
}

static int http_start(struct bw_load__worker *w)
{
	const struct bw_load_conf *conf = &w->load->conf;
	struct http *http = calloc(1, sizeof(*http) + w->load->text_count * sizeof(uint64_t));

	w->own = http;
	if (http == NULL)
		return -ENOMEM;
	http->is_head = conf->request != NULL
				? conf->request_bytes > 5 && memcmp(conf->request, "HEAD ", 5) == 0
				: strcmp(conf->method, "HEAD") == 0;
	return 0;
}

static void http_stop(struct bw_load__worker *w)
{
	free(w->own);
}

static enum bw_load__asked http_ask(
	struct bw_load__worker *w, struct bw_load__slot *slot, struct bw_load__pending *p)
{
	const struct bw_load__text *text;

	p->what = w->load->conf.path_count > 1 ? bw_load__draw_next(&w->draw) : 0;
	text = text_of(w->load, slot, p->what);
	if (text->len > BW_LOAD__RESERVE_MAX)
		return BW_LOAD__IN_PARTS;
	return bw_load__write(w, slot, text->bytes, text->len);
}

static void http_compose(const struct bw_load__worker *w, const struct bw_load__slot *slot,
	const struct bw_load__pending *p, struct bw_load__message *message)
{
	const struct bw_load__text *text = text_of(w->load, slot, p->what);

	message->part[0].data = text->bytes;
	message->part[0].len = text->len;
}

/* ---- heads --------------------------------------------------------------------------------------------- */

/** What a head says. */
struct head {
	unsigned status;
	uint64_t length;
	bool has_length, is_chunked, closes, keeps_alive, is_old; /* HTTP/1.0 */
};

static bool is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

/** Does the comma-separated list hold the word? */
static bool list_holds(const char *at, size_t len, const char *word)
{
	size_t word_len = strlen(word);

	while (len > 0) {
		const char *comma = memchr(at, ',', len);
		size_t member = comma != NULL ? (size_t)(comma - at) : len, from = 0, to = member;

		while (from < to && (at[from] == ' ' || at[from] == '\t'))
			from++;
		while (to > from && (at[to - 1] == ' ' || at[to - 1] == '\t'))
			to--;
		if (to - from == word_len && strncasecmp(at + from, word, word_len) == 0)
			return true;
		member += member < len;
		at += member;
		len -= member;
	}
	return false;
}

static bool length_parse(const char *at, size_t len, struct head *head)
{
	uint64_t length = 0;

	if (len == 0 || len > 18)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (!is_digit((uint8_t)at[i]))
			return false;
		length = length * 10 + (unsigned)(at[i] - '0');
	}
	if (head->has_length && head->length != length)
		return false;
	head->has_length = true;
	head->length = length;
	return true;
}

/** A field line without its line end. */
static bool field_parse(const char *line, size_t len, struct head *head)
{
	const char *colon = memchr(line, ':', len);
	size_t name_len, value_len;
	const char *value;

	if (colon == NULL || colon == line)
		return false;
	name_len = (size_t)(colon - line);
	value = colon + 1;
	value_len = len - name_len - 1;
	while (value_len > 0 && (*value == ' ' || *value == '\t'))
		value++, value_len--;
	while (value_len > 0 && (value[value_len - 1] == ' ' || value[value_len - 1] == '\t'))
		value_len--;
	if (name_len == 14 && strncasecmp(line, "content-length", 14) == 0)
		return length_parse(value, value_len, head);
	if (name_len == 17 && strncasecmp(line, "transfer-encoding", 17) == 0)
		return head->is_chunked = list_holds(value, value_len, "chunked");
	if (name_len == 10 && strncasecmp(line, "connection", 10) == 0) {
		head->closes |= list_holds(value, value_len, "close");
		head->keeps_alive |= list_holds(value, value_len, "keep-alive");
	}
	return true;
}

/** `len` bytes up to and with the empty line. */
static bool head_parse(const uint8_t *at, uint32_t len, struct head *head)
{
	const char *line = (const char *)at, *end = line + len, *line_end;

	*head = (struct head){ 0 };
	if (len < 15 || memcmp(line, "HTTP/1.", 7) != 0 || !is_digit(at[7]) || line[8] != ' ' ||
		!is_digit(at[9]) || !is_digit(at[10]) || !is_digit(at[11]) ||
		(line[12] != ' ' && line[12] != '\r'))
		return false;
	head->is_old = line[7] == '0';
	head->status = (at[9] - '0') * 100u + (at[10] - '0') * 10u + (at[11] - '0');
	line = memchr(line, '\n', len);
	if (line[-1] != '\r')
		return false;
	for (line++; (line_end = memchr(line, '\n', (size_t)(end - line))) != NULL; line = line_end + 1) {
		if (line_end == line || line_end[-1] != '\r')
			return false;
		if (line_end - 1 == line)
			return true; /* the empty line */
		if (!field_parse(line, (size_t)(line_end - 1 - line), head))
			return false;
	}
	return false;
}

/** RFC 9112 6.3: how the body ends, by which reading goes on. */
static enum reading body_of(const struct bw_load__worker *w, const struct head *head, uint64_t *left)
{
	*left = 0;
	if (((const struct http *)w->own)->is_head || head->status == 204 || head->status == 304)
		return BODY;
	if (head->is_chunked)
		return CHUNK_SIZE;
	if (!head->has_length)
		return UNTIL_CLOSE;
	*left = head->length;
	return BODY;
}

static void length_check(struct bw_load__worker *w, struct bw_load__slot *slot,
	const struct bw_load__text *text, const struct head *head)
{
	struct http *http = w->own;
	uint64_t *first = &http->length[text - w->load->texts];

	if (w->load->conf.takes_any_length || slot->fault != BW_LOAD_ERRORS || !head->has_length)
		return;
	if (*first == 0)
		*first = head->length + 1;
	if (*first != head->length + 1)
		slot->fault = BW_LOAD_LENGTH;
}

static enum bw_load__outcome head_read(struct bw_load__worker *w, struct bw_load__slot *slot,
	const struct bw_load__text *text, struct seen *seen, const uint8_t *at, uint32_t len, uint32_t *used)
{
	const uint8_t *empty = memmem(at, len, "\r\n\r\n", 4);
	struct head head;
	uint32_t head_bytes;

	if (empty == NULL)
		return BW_LOAD__MORE;
	head_bytes = (uint32_t)(empty + 4 - at);
	if (!head_parse(at, head_bytes, &head))
		return BW_LOAD__BAD;
	*used = head_bytes;
	if (head.status < 200)
		return head.status == 101 ? BW_LOAD__BAD
					  : BW_LOAD__PART; /* 100, 103: the answer is still to come */
	if (head.status >= 400)
		slot->fault = BW_LOAD_STATUS;
	slot->closes = head.closes || (head.is_old && !head.keeps_alive);
	slot->reading = (uint8_t)body_of(w, &head, &slot->left);
	slot->closes |= slot->reading == UNTIL_CLOSE;
	length_check(w, slot, text, &head);
	if (slot->reading == BODY && !slot->closes && slot->fault == BW_LOAD_ERRORS &&
		head_bytes <= SEEN_BYTES) {
		seen->text = text;
		seen->body = slot->left;
		seen->head_bytes = head_bytes;
		memcpy(seen->head, at, head_bytes);
	}
	/* Where there is no body, nothing follows that would say so. */
	return slot->reading == BODY && slot->left == 0 ? BW_LOAD__DONE : BW_LOAD__PART;
}

/* ---- bodies -------------------------------------------------------------------------------------------- */

/** A line of up to CHUNK_LINE bytes. Returns its length with the line end; 0: it is not all there; -1: it is none. */
static int32_t line_length(const uint8_t *at, uint32_t len)
{
	const uint8_t *newline = memchr(at, '\n', BW_MIN(len, (uint32_t)CHUNK_LINE));

	if (newline == NULL)
		return len < CHUNK_LINE ? 0 : -1;
	return newline > at && newline[-1] == '\r' ? (int32_t)(newline + 1 - at) : -1;
}

/** RFC 9112 7.1: hexadecimal, then perhaps an extension. */
static bool chunk_size_parse(const uint8_t *at, uint64_t *size)
{
	unsigned digits = 0;

	for (*size = 0;; at++, digits++) {
		uint8_t low = *at | 0x20;

		if (is_digit(*at))
			*size = *size * 16 + (*at - '0');
		else if (low >= 'a' && low <= 'f')
			*size = *size * 16 + (low - 'a' + 10u);
		else
			break;
		if (digits == 15)
			return false;
	}
	return digits > 0 && (*at == '\r' || *at == ';' || *at == ' ' || *at == '\t');
}

/** Read in what follows a head. */
static enum bw_load__outcome body_read(
	struct bw_load__slot *slot, const uint8_t *at, uint32_t len, uint32_t *used)
{
	int32_t line;

	switch ((enum reading)slot->reading) {
	case BODY:
	case CHUNK_DATA:
		*used = (uint32_t)BW_MIN(slot->left, (uint64_t)len);
		slot->left -= *used;
		if (slot->left > 0)
			return BW_LOAD__PART;
		if (slot->reading == BODY)
			return BW_LOAD__DONE;
		slot->reading = CHUNK_END;
		return BW_LOAD__PART;
	case CHUNK_END:
		if (len < 2)
			return BW_LOAD__MORE;
		*used = 2;
		slot->reading = CHUNK_SIZE;
		return at[0] == '\r' && at[1] == '\n' ? BW_LOAD__PART : BW_LOAD__BAD;
	case CHUNK_SIZE:
		line = line_length(at, len);
		if (line <= 0)
			return line == 0 ? BW_LOAD__MORE : BW_LOAD__BAD;
		if (!chunk_size_parse(at, &slot->left))
			return BW_LOAD__BAD;
		*used = (uint32_t)line;
		slot->reading = slot->left > 0 ? CHUNK_DATA : TRAILER;
		return BW_LOAD__PART;
	case TRAILER:
		line = line_length(at, len);
		if (line <= 0)
			return line == 0 ? BW_LOAD__MORE : BW_LOAD__BAD;
		*used = (uint32_t)line;
		return line == 2 ? BW_LOAD__DONE : BW_LOAD__PART;
	case UNTIL_CLOSE:
		*used = len;
		return BW_LOAD__PART;
	case HEAD:
		break;
	}
	return BW_LOAD__BAD;
}

static enum bw_load__outcome http_read(struct bw_load__worker *w, struct bw_load__slot *slot,
	const struct bw_load__pending *p, const uint8_t *at, uint32_t len, uint32_t *used)
{
	const struct bw_load__text *text;
	struct seen *seen;
	uint32_t head_bytes;

	if (slot->reading != HEAD)
		return body_read(slot, at, len, used);
	text = text_of(w->load, slot, p->what);
	seen = &((struct http *)w->own)->seen[(text - w->load->texts) % SEEN_MAX];
	head_bytes = seen->head_bytes;
	if (seen->text == text && len >= head_bytes && memcmp(at, seen->head, head_bytes) == 0) {
		uint64_t body = seen->body;

		if (len - head_bytes >= body) { /* all of it: the rule */
			*used = head_bytes + (uint32_t)body;
			return BW_LOAD__DONE;
		}
		*used = head_bytes;
		slot->left = body;
		slot->reading = BODY;
		return BW_LOAD__PART;
	}
	return head_read(w, slot, text, seen, at, len, used);
}

static bool http_ends_with_close(const struct bw_load__slot *slot)
{
	return slot->reading == UNTIL_CLOSE;
}

const struct bw_load__protocol bw_load__http = {
	.prepare = http_prepare,
	.release = http_release,
	.start = http_start,
	.stop = http_stop,
	.ask = http_ask,
	.compose = http_compose,
	.read = http_read,
	.ends_with_close = http_ends_with_close,
};
