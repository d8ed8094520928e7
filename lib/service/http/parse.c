/* SPDX-License-Identifier: BSD-3-Clause */
#include "parse.h"

#include <emmintrin.h>
#include <string.h>

#include "date.h"

/* ---- the end of a head -------------------------------------------------------------------------------- */

/* What the line under way holds so far: enough to judge a line feed that comes first in the next chunk. */
enum line {
	LINE_EMPTY,
	LINE_CR, /* a CR only */
	LINE_TEXT,
	LINE_TEXT_CR,
};

/* The next LF at or after `at`, or len. Never reads past len. */
static uint32_t find_lf(const uint8_t *bytes, uint32_t at, uint32_t len)
{
	const __m128i lf = _mm_set1_epi8('\n');

	for (; at + 16 <= len; at += 16) {
		__m128i block = _mm_loadu_si128((const __m128i *)(const void *)(bytes + at));
		unsigned mask = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(block, lf));

		if (mask != 0)
			return at + (unsigned)__builtin_ctz(mask);
	}
	while (at < len && bytes[at] != '\n')
		at++;
	return at;
}

enum bw_http__scan_result bw_http__scan(
	struct bw_http__scan *scan, const uint8_t *chunk, uint32_t chunk_len, uint32_t *used)
{
	/* Where the line under way began, seen from this chunk: before it when the last one left some. */
	static const int8_t began[] = {
		[LINE_EMPTY] = 0, [LINE_CR] = -1, [LINE_TEXT] = -2, [LINE_TEXT_CR] = -2
	};
	int64_t line_at = began[scan->line], line_len;
	uint32_t at = 0;
	bool ends_cr;

	if (scan->seen == 0)
		scan->in_first_line = true;
	while ((at = find_lf(chunk, at, chunk_len)) < chunk_len) {
		bool has_cr =
			at > 0 ? chunk[at - 1] == '\r' : scan->line == LINE_CR || scan->line == LINE_TEXT_CR;

		if (!has_cr)
			return BW_HTTP__SCAN_BARE_LF;
		if (at - line_at == 1) {
			*used = at + 1;
			scan->seen += at + 1;
			return BW_HTTP__SCAN_END;
		}
		scan->in_first_line = false;
		at++;
		line_at = at;
	}
	if (chunk_len == 0)
		return BW_HTTP__SCAN_MORE;
	scan->seen += chunk_len;
	line_len = chunk_len - line_at;
	ends_cr = chunk[chunk_len - 1] == '\r';
	if (line_len == 0)
		scan->line = LINE_EMPTY;
	else if (line_len == 1)
		scan->line = ends_cr ? LINE_CR : LINE_TEXT;
	else
		scan->line = ends_cr ? LINE_TEXT_CR : LINE_TEXT;
	return BW_HTTP__SCAN_MORE;
}

/* ---- characters --------------------------------------------------------------------------------------- */

enum {
	C_TOKEN = 1 << 0,  /* RFC 9110 5.6.2 tchar */
	C_TARGET = 1 << 1, /* what we take in a request target: visible ASCII but '#', which is never sent */
	C_HOST = 1 << 2,   /* RFC 3986 3.2.2 reg-name but the percent of its encoding, which C_HOST has too */
};

#define ALNUM (C_TOKEN | C_TARGET | C_HOST)

static const uint8_t char_class[256] = {
	['0' ... '9'] = ALNUM,
	['a' ... 'z'] = ALNUM,
	['A' ... 'Z'] = ALNUM,
	['!'] = ALNUM,
	['"'] = C_TARGET,
	['$'] = ALNUM,
	['%'] = ALNUM,
	['&'] = ALNUM,
	['\''] = ALNUM,
	['('] = C_TARGET | C_HOST,
	[')'] = C_TARGET | C_HOST,
	['*'] = ALNUM,
	['+'] = ALNUM,
	[','] = C_TARGET | C_HOST,
	['-'] = ALNUM,
	['.'] = ALNUM,
	['/'] = C_TARGET,
	[':'] = C_TARGET,
	[';'] = C_TARGET | C_HOST,
	['<'] = C_TARGET,
	['='] = C_TARGET | C_HOST,
	['>'] = C_TARGET,
	['?'] = C_TARGET,
	['@'] = C_TARGET,
	['['] = C_TARGET,
	['\\'] = C_TARGET,
	[']'] = C_TARGET,
	['^'] = C_TOKEN | C_TARGET,
	['_'] = ALNUM,
	['`'] = C_TOKEN | C_TARGET,
	['{'] = C_TARGET,
	['|'] = C_TOKEN | C_TARGET,
	['}'] = C_TARGET,
	['~'] = ALNUM,
	['#'] = C_TOKEN,
};

static bool is_digit(uint8_t c)
{
	return (uint8_t)(c - '0') <= 9;
}

static int hex_value(uint8_t c)
{
	uint8_t lower = c | 0x20;

	if (is_digit(c))
		return c - '0';
	return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* Part of a head. */
struct slice {
	const uint8_t *at;
	uint32_t len;
};

static struct bw_http_text text_of(struct slice slice)
{
	return (struct bw_http_text){ (const char *)slice.at, slice.len };
}

static uint8_t lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

/* `word` in lower case. */
static bool is_word(struct slice text, const char *word)
{
	for (uint32_t i = 0; i < text.len; i++)
		if (lower(text.at[i]) != (uint8_t)word[i]) /* ends at the word's NUL at the latest */
			return false;
	return word[text.len] == '\0';
}

static bool is_same_text(struct slice a, struct slice b)
{
	if (a.len != b.len)
		return false;
	for (uint32_t i = 0; i < a.len; i++)
		if (lower(a.at[i]) != lower(b.at[i]))
			return false;
	return true;
}

static struct slice trim(struct slice text)
{
	while (text.len > 0 && (text.at[0] == ' ' || text.at[0] == '\t'))
		text.at++, text.len--;
	while (text.len > 0 && (text.at[text.len - 1] == ' ' || text.at[text.len - 1] == '\t'))
		text.len--;
	return text;
}

/* The next member of a comma-separated list; empty members are skipped (RFC 9110 5.6.1.2). */
static bool next_member(struct slice *list, struct slice *member)
{
	while (list->len > 0) {
		const uint8_t *comma = memchr(list->at, ',', list->len);
		uint32_t len = comma != NULL ? (uint32_t)(comma - list->at) : list->len;
		uint32_t used = comma != NULL ? len + 1 : len;

		*member = trim((struct slice){ list->at, len });
		list->at += used;
		list->len -= used;
		if (member->len > 0)
			return true;
	}
	return false;
}

/* Decimal digits only, at least one; too large a number saturates. */
static bool parse_decimal(struct slice text, uint64_t *value)
{
	uint64_t v = 0;

	if (text.len == 0)
		return false;
	for (uint32_t i = 0; i < text.len; i++) {
		uint8_t digit = (uint8_t)(text.at[i] - '0');

		if (digit > 9)
			return false;
		v = v > (UINT64_MAX - digit) / 10 ? UINT64_MAX : v * 10 + digit;
	}
	*value = v;
	return true;
}

/* ---- the request line (RFC 9112 section 3) ------------------------------------------------------------ */

static enum bw_http_method method_of(struct slice name)
{
	static const struct {
		const char *name;
		enum bw_http_method method;
	} methods[] = {
		{ "GET", BW_HTTP_GET },
		{ "HEAD", BW_HTTP_HEAD },
		{ "OPTIONS", BW_HTTP_OPTIONS },
		{ "POST", BW_HTTP_POST },
		{ "PUT", BW_HTTP_PUT },
		{ "DELETE", BW_HTTP_DELETE },
		{ "PATCH", BW_HTTP_PATCH },
		{ "TRACE", BW_HTTP_TRACE },
		{ "CONNECT", BW_HTTP_CONNECT },
	};

	for (unsigned i = 0; i < BW_ARRAY_LEN(methods); i++)
		if (strlen(methods[i].name) == name.len && memcmp(methods[i].name, name.at, name.len) == 0)
			return methods[i].method;
	return BW_HTTP_UNKNOWN;
}

/* uri-host [ ":" port ] (RFC 9110 7.2). Empty is allowed: a URI without authority. */
static bool is_host(struct slice host)
{
	uint32_t i = 0;

	if (host.len > 0 && host.at[0] == '[') { /* IP-literal */
		for (i = 1; i < host.len && host.at[i] != ']'; i++)
			if (!(char_class[host.at[i]] & C_HOST) && host.at[i] != ':')
				return false;
		if (i == host.len || i == 1)
			return false;
		i++;
	} else {
		for (; i < host.len && host.at[i] != ':'; i++) {
			if (!(char_class[host.at[i]] & C_HOST))
				return false;
			if (host.at[i] == '%' && (host.len - i < 3 || hex_value(host.at[i + 1]) < 0 ||
							 hex_value(host.at[i + 2]) < 0))
				return false;
		}
	}
	if (i == host.len)
		return true;
	if (host.at[i++] != ':')
		return false;
	for (; i < host.len; i++)
		if (!is_digit(host.at[i]))
			return false;
	return true;
}

/* Of uri-host [ ":" port ], the host. */
static struct slice without_port(struct slice host)
{
	for (uint32_t i = host.len; i-- > 0 && host.at[i] != ']';)
		if (host.at[i] == ':')
			return (struct slice){ host.at, i };
	return host;
}

/* The path within a target of origin form, and whether there is anything to normalise in it. */
static void split_path(struct slice target, struct bw_http__request *request)
{
	uint8_t previous = 0;
	uint32_t i;

	request->path_is_plain = true;
	for (i = 0; i < target.len; i++) {
		uint8_t c = target.at[i];

		if (c == '?')
			break;
		if (c == '%' || (previous == '/' && (c == '/' || c == '.')))
			request->path_is_plain = false;
		previous = c;
	}
	request->path = target.at;
	request->path_len = i;
	if (i < target.len)
		request->query = text_of((struct slice){ target.at + i + 1, target.len - i - 1 });
}

/* Fills *authority for the absolute form. 0 or a status. */
static unsigned parse_target(struct slice target, struct bw_http__request *request, struct slice *authority)
{
	static const uint8_t root[] = "/";

	if (target.at[0] == '/') {
		split_path(target, request);
		return 0;
	}
	if (target.len == 1 && target.at[0] == '*' && request->method == BW_HTTP_OPTIONS) {
		request->is_asterisk = true;
		split_path((struct slice){ root, 1 }, request);
		return 0;
	}
	if (request->method == BW_HTTP_CONNECT) {
		/* The authority form: we are no proxy, 405 says so. */
		split_path((struct slice){ root, 1 }, request);
		return is_host(target) ? 0 : 400;
	}
	if (target.len > 7 && is_word((struct slice){ target.at, 7 }, "http://")) {
		struct slice rest = { target.at + 7, target.len - 7 };
		uint32_t len = 0;

		while (len < rest.len && rest.at[len] != '/' && rest.at[len] != '?')
			len++;
		*authority = (struct slice){ rest.at, len };
		/* RFC 9110 4.2.1: an http URI has a host; 4.2.4: with user information it is suspect. */
		if (len == 0 || !is_host(*authority))
			return 400;
		rest.at += len;
		rest.len -= len;
		split_path(rest, request);
		if (request->path_len == 0) {
			request->path = root;
			request->path_len = 1;
		}
		return 0;
	}
	return 400;
}

static unsigned parse_request_line(
	struct slice line, struct bw_http__request *request, struct slice *authority)
{
	struct slice method = { line.at, 0 }, target, version;
	uint32_t i = 0;

	while (i < line.len && (char_class[line.at[i]] & C_TOKEN))
		i++;
	method.len = i;
	if (i == 0 || i == line.len || line.at[i] != ' ')
		return 400;
	i++;
	target.at = line.at + i;
	while (i < line.len && (char_class[line.at[i]] & C_TARGET))
		i++;
	target.len = (uint32_t)(line.at + i - target.at);
	if (target.len == 0 || i == line.len || line.at[i] != ' ')
		return 400;
	i++;
	version = (struct slice){ line.at + i, line.len - i };
	if (version.len != 8 || memcmp(version.at, "HTTP/", 5) != 0 || !is_digit(version.at[5]) ||
		version.at[6] != '.' || !is_digit(version.at[7]))
		return 400;
	if (version.at[5] != '1')
		return 505;
	request->is_1_0 = version.at[7] == '0'; /* a later 1.x speaks 1.1 too (RFC 9110 2.5) */
	request->method = method_of(method);
	request->target = text_of(target);
	return parse_target(target, request, authority);
}

/* ---- header fields ------------------------------------------------------------------------------------ */

/* What Accept-Encoding may list. */
enum encoding {
	ENCODING_BR,
	ENCODING_GZIP,
	ENCODING_IDENTITY,
	ENCODING_ANY, /* "*": each that is not listed */
	ENCODING_COUNT,
};
#define NOT_LISTED -1

/* What only matters while a head is parsed. */
struct fields {
	struct slice authority, host;
	int64_t now_s;
	bool has_host, has_coding, has_close, has_range, has_if_range, has_encodings;
	int16_t weight[ENCODING_COUNT]; /* in thousandths; NOT_LISTED */
};

/* An entity tag at the front of *text. *is_ours: in the form that we give out, so it may match. */
static bool take_tag(struct slice *text, bool *is_weak, bool *is_ours, uint64_t *tag)
{
	uint32_t i = 0, open;

	*is_weak = text->len >= 2 && text->at[0] == 'W' && text->at[1] == '/';
	if (*is_weak)
		i = 2;
	if (i >= text->len || text->at[i] != '"')
		return false;
	open = ++i;
	while (i < text->len && text->at[i] != '"')
		i++;
	if (i == text->len)
		return false;
	*is_ours = i - open == 16;
	*tag = 0;
	for (uint32_t k = open; k < i && *is_ours; k++) {
		int value = hex_value(text->at[k]);

		/* We write lower case only, and tags are compared byte by byte. */
		*is_ours = value >= 0 && !(text->at[k] >= 'A' && text->at[k] <= 'F');
		*tag = *tag << 4 | (uint64_t)value;
	}
	text->at += i + 1;
	text->len -= i + 1;
	return true;
}

/* If-Match and If-None-Match. A list that is malformed matches with what came before the fault. */
static unsigned parse_tags(struct slice text, struct bw_http__wants *wants, bool is_match)
{
	uint64_t *tags = is_match ? wants->match : wants->none_match;
	uint8_t *count = is_match ? &wants->match_count : &wants->none_match_count;

	if (!(wants->flags & (is_match ? BW_HTTP__IF_MATCH : BW_HTTP__IF_NONE_MATCH)))
		*count = 0;
	wants->flags |= is_match ? BW_HTTP__IF_MATCH : BW_HTTP__IF_NONE_MATCH;
	if (text.len == 1 && text.at[0] == '*') {
		wants->flags |= is_match ? BW_HTTP__IF_MATCH_ANY : BW_HTTP__IF_NONE_MATCH_ANY;
		return 0;
	}
	for (;;) {
		bool is_weak, is_ours;
		uint64_t tag;

		while (text.len > 0 && (text.at[0] == ',' || text.at[0] == ' ' || text.at[0] == '\t'))
			text.at++, text.len--;
		if (text.len == 0 || !take_tag(&text, &is_weak, &is_ours, &tag))
			return 0;
		text = trim(text);
		if (text.len > 0 && text.at[0] != ',')
			return 0;
		/* If-Match compares strongly, If-None-Match weakly (RFC 9110 8.8.3.2). */
		if (!is_ours || (is_match && is_weak))
			continue;
		if (*count < BW_HTTP__TAGS_MAX)
			tags[(*count)++] = tag;
		else if (is_match)
			return 431; /* forgetting one would turn a match into a 412 */
		/* A forgotten one of If-None-Match costs a body that was not needed: always correct. */
	}
}

/* One range of bytes. Anything else (other units, several ranges, malformed) is as if it were not there, which
 * RFC 9110 14.2 allows. */
static void parse_range(struct slice text, struct bw_http__wants *wants)
{
	const uint8_t *dash;
	struct slice first, last;

	wants->flags &= (uint16_t) ~(BW_HTTP__RANGE | BW_HTTP__RANGE_SUFFIX);
	if (text.len < 6 || !is_word((struct slice){ text.at, 6 }, "bytes="))
		return;
	text = trim((struct slice){ text.at + 6, text.len - 6 });
	dash = memchr(text.at, '-', text.len);
	if (dash == NULL)
		return;
	first = (struct slice){ text.at, (uint32_t)(dash - text.at) };
	last = (struct slice){ dash + 1, text.len - first.len - 1 };
	if (first.len == 0) {
		if (!parse_decimal(last, &wants->range_last))
			return;
		wants->flags |= BW_HTTP__RANGE | BW_HTTP__RANGE_SUFFIX;
		return;
	}
	if (!parse_decimal(first, &wants->range_first))
		return;
	if (last.len == 0)
		wants->range_last = UINT64_MAX;
	else if (!parse_decimal(last, &wants->range_last) || wants->range_last < wants->range_first)
		return;
	wants->flags |= BW_HTTP__RANGE;
}

static void parse_if_range(struct slice text, int64_t now_s, struct bw_http__wants *wants)
{
	bool is_weak, is_ours;

	wants->flags |= BW_HTTP__IF_RANGE;
	if (take_tag(&text, &is_weak, &is_ours, &wants->if_range_tag)) {
		/* Strong comparison (RFC 9110 13.1.5). */
		if (is_ours && !is_weak && text.len == 0)
			wants->flags |= BW_HTTP__IF_RANGE_TAG;
	} else if (bw_http__date_parse(text.at, text.len, now_s, &wants->if_range_date)) {
		wants->flags |= BW_HTTP__IF_RANGE_DATE;
	}
}

/*
 * RFC 9112 6.1. Only a lone "chunked" can be understood. Empty members of a list are to be skipped (RFC 9110 5.6.1.2),
 * but not here, which deviates: servers are known that see another coding in ",chunked".
 */
static unsigned parse_coding(struct slice text, struct bw_http__request *request)
{
	struct slice member, last = { NULL, 0 };
	unsigned count = 0, chunked_count = 0;

	if (is_word(text, "chunked")) {
		request->is_chunked = true;
		return 0;
	}
	while (next_member(&text, &member)) {
		count++;
		last = member;
		if (is_word(member, "chunked"))
			chunked_count++;
	}
	/* Chunked not last, or twice: the length cannot be known (RFC 9112 6.3 rule 4). */
	return count > 1 && chunked_count == 1 && is_word(last, "chunked") ? 501 : 400;
}

/* RFC 9110 10.1.1: a list, which may be empty. */
static void parse_expect(struct slice text, struct bw_http__request *request)
{
	struct slice member;

	while (next_member(&text, &member)) {
		if (is_word(member, "100-continue"))
			request->expects_continue = true;
		else
			request->expects_unknown = true;
	}
}

static void parse_connection(struct slice text, struct fields *fields, struct bw_http__request *request)
{
	struct slice member;

	while (next_member(&text, &member)) {
		if (is_word(member, "close"))
			fields->has_close = true;
		else if (is_word(member, "keep-alive"))
			request->has_keep_alive = true;
	}
}

/* RFC 9110 13.1.3: not a valid date means ignored. A repeated field is no valid date. */
static void parse_since(
	struct slice text, int64_t now_s, struct bw_http__wants *wants, uint16_t flag, int64_t *at)
{
	if (bw_http__date_parse(text.at, text.len, now_s, at))
		wants->flags |= flag;
}

/* RFC 9110 12.4.2: ";q=" and 0 to 1 with up to three decimals. What is malformed is not wanted. */
static int16_t parse_weight(struct slice text)
{
	int16_t weight, unit = 1000;

	text = trim(text);
	if (text.len == 0)
		return 1000;
	text = trim((struct slice){ text.at + 1, text.len - 1 });
	if (text.len < 3 || text.len > 7 || (text.at[0] | 0x20) != 'q' || text.at[1] != '=' ||
		(text.at[2] != '0' && text.at[2] != '1') || (text.len > 3 && text.at[3] != '.'))
		return 0;
	weight = (int16_t)((text.at[2] - '0') * unit);
	for (uint32_t i = 4; i < text.len; i++) {
		if (!is_digit(text.at[i]))
			return 0;
		unit /= 10;
		weight = (int16_t)(weight + (text.at[i] - '0') * unit);
	}
	return weight <= 1000 ? weight : 0;
}

static void parse_encodings(struct slice text, struct fields *fields)
{
	struct slice member;

	if (!fields->has_encodings)
		for (unsigned i = 0; i < ENCODING_COUNT; i++)
			fields->weight[i] = NOT_LISTED;
	fields->has_encodings = true;
	while (next_member(&text, &member)) {
		const uint8_t *semicolon = memchr(member.at, ';', member.len);
		uint32_t len = semicolon != NULL ? (uint32_t)(semicolon - member.at) : member.len;
		int16_t weight = parse_weight((struct slice){ member.at + len, member.len - len });
		struct slice name = trim((struct slice){ member.at, len });

		if (is_word(name, "br"))
			fields->weight[ENCODING_BR] = weight;
		else if (is_word(name, "gzip") || is_word(name, "x-gzip")) /* RFC 9110 8.4.1.3 */
			fields->weight[ENCODING_GZIP] = weight;
		else if (is_word(name, "identity"))
			fields->weight[ENCODING_IDENTITY] = weight;
		else if (is_word(name, "*"))
			fields->weight[ENCODING_ANY] = weight;
	}
}

/*
 * What comes compressed is smaller, so of equals it is sent. Where no coding is taken and none at all is refused too,
 * none is sent all the same: RFC 9110 12.5.3 lets a server, and a 406 helps nobody.
 */
static uint8_t encodings_taken(const struct fields *fields)
{
	int16_t any = fields->weight[ENCODING_ANY], br = fields->weight[ENCODING_BR],
		gzip = fields->weight[ENCODING_GZIP];
	int16_t least = BW_MAX(fields->weight[ENCODING_IDENTITY], 1);
	uint8_t taken = 0;

	br = br == NOT_LISTED ? any : br;
	gzip = gzip == NOT_LISTED ? any : gzip;
	if (br >= least)
		taken |= BW_HTTP__TAKES_BR;
	if (gzip >= least)
		taken |= BW_HTTP__TAKES_GZIP;
	return gzip > br ? taken | BW_HTTP__PREFERS_GZIP : taken;
}

static unsigned parse_field(
	struct slice name, struct slice value, struct fields *fields, struct bw_http__request *request)
{
	struct bw_http__wants *wants = &request->wants;

	switch (name.len) {
	case 4:
		if (is_word(name, "host")) {
			if (fields->has_host || !is_host(value))
				return 400; /* RFC 9112 3.2 */
			fields->has_host = true;
			fields->host = value;
		}
		return 0;
	case 5:
		if (is_word(name, "range")) {
			/* Two of them are malformed: as none. */
			if (fields->has_range)
				wants->flags &= (uint16_t) ~(BW_HTTP__RANGE | BW_HTTP__RANGE_SUFFIX);
			else
				parse_range(value, wants);
			fields->has_range = true;
		}
		return 0;
	case 6:
		if (is_word(name, "expect"))
			parse_expect(value, request);
		return 0;
	case 8:
		if (is_word(name, "if-match"))
			return parse_tags(value, wants, true);
		if (is_word(name, "if-range")) {
			if (fields->has_if_range) /* never matches */
				wants->flags &= (uint16_t) ~(BW_HTTP__IF_RANGE_TAG | BW_HTTP__IF_RANGE_DATE);
			else
				parse_if_range(value, fields->now_s, wants);
			fields->has_if_range = true;
		}
		return 0;
	case 10:
		if (is_word(name, "connection"))
			parse_connection(value, fields, request);
		return 0;
	case 13:
		if (is_word(name, "if-none-match"))
			return parse_tags(value, wants, false);
		return 0;
	case 14:
		if (is_word(name, "content-length")) {
			/* RFC 9110 8.6 lets us refuse even equal repetitions, and lists of them. */
			if (request->has_length || !parse_decimal(value, &request->body_bytes))
				return 400;
			request->has_length = true;
		}
		return 0;
	case 15:
		if (is_word(name, "accept-encoding"))
			parse_encodings(value, fields);
		return 0;
	case 17:
		if (is_word(name, "transfer-encoding")) {
			if (fields->has_coding)
				return 400;
			fields->has_coding = true;
			return parse_coding(value, request);
		}
		if (is_word(name, "if-modified-since"))
			parse_since(value, fields->now_s, wants, BW_HTTP__IF_MODIFIED_SINCE,
				&wants->modified_since);
		return 0;
	case 19:
		if (is_word(name, "if-unmodified-since"))
			parse_since(value, fields->now_s, wants, BW_HTTP__IF_UNMODIFIED_SINCE,
				&wants->unmodified_since);
		return 0;
	default:
		return 0;
	}
}

/* The first byte at or after `at` that a field value may not hold: a control but HTAB, DEL (RFC 9110 5.5). */
static uint32_t find_control(const uint8_t *bytes, uint32_t at, uint32_t len)
{
	const __m128i last_control = _mm_set1_epi8(0x1f), tab = _mm_set1_epi8('\t'),
		      del = _mm_set1_epi8(0x7f);

	for (; at + 16 <= len; at += 16) {
		__m128i block = _mm_loadu_si128((const __m128i *)(const void *)(bytes + at));
		__m128i control = _mm_cmpeq_epi8(_mm_min_epu8(block, last_control), block);
		__m128i bad = _mm_or_si128(
			_mm_andnot_si128(_mm_cmpeq_epi8(block, tab), control), _mm_cmpeq_epi8(block, del));
		unsigned mask = (unsigned)_mm_movemask_epi8(bad);

		if (mask != 0)
			return at + (unsigned)__builtin_ctz(mask);
	}
	while (at < len && (bytes[at] >= 0x20 || bytes[at] == '\t') && bytes[at] != 0x7f)
		at++;
	return at;
}

unsigned bw_http__parse(const uint8_t *head, uint32_t head_len, const struct bw_http__limits *limits,
	struct bw_http__request *request)
{
	struct fields fields = { .now_s = limits->now_s };
	uint32_t at, end, fields_at, count = 0;
	unsigned status, deferred = 0;
	struct slice host;

	/* All but the conditions' values, which their flags guard. */
	memset(request, 0, offsetof(struct bw_http__request, wants));
	request->wants.flags = 0;
	request->wants.encodings = 0;

	end = find_lf(head, 0, head_len);
	if (end == head_len || end == 0 || head[end - 1] != '\r')
		return 400;
	if (end + 1 > limits->request_line_bytes_max)
		return 414;
	status = parse_request_line((struct slice){ head, end - 1 }, request, &fields.authority);
	if (status != 0)
		return status;

	fields_at = end + 1;
	for (at = fields_at;; at = end + 2) {
		uint32_t name_at = at;
		struct slice name, value;

		while (at < head_len && (char_class[head[at]] & C_TOKEN))
			at++;
		name = (struct slice){ head + name_at, at - name_at };
		if (name.len == 0 && head_len - at == 2 && head[at] == '\r' && head[at + 1] == '\n')
			break;
		/* No name (obs-fold too), or white space before the colon (RFC 9112 5.1, 5.2). */
		if (name.len == 0 || at == head_len || head[at] != ':')
			return 400;
		at++;
		end = find_control(head, at, head_len);
		if (head_len - end < 2 || head[end] != '\r' || head[end + 1] != '\n')
			return 400;
		if (++count > limits->header_count_max)
			return 431;
		value = trim((struct slice){ head + at, end - at });
		status = parse_field(name, value, &fields, request);
		/* A coding we do not know is only worth its 501 where nothing is worse. */
		if (status == 501)
			deferred = 501;
		else if (status != 0)
			return status;
	}

	if (!fields.has_host && !request->is_1_0)
		return 400;
	/* RFC 9112 3.2.2 has the target win; a client must send the same in both, so one that does not is no
	 * client but somebody who hopes that two servers will disagree. */
	if (fields.authority.len > 0 && fields.has_host && !is_same_text(fields.authority, fields.host))
		return 400;
	/* RFC 9112 6.1: both lengths are an attack; a coding in 1.0 has faulty framing. */
	if (fields.has_coding && (request->has_length || request->is_1_0))
		return 400;
	if (deferred != 0)
		return deferred;
	host = without_port(fields.authority.len > 0 ? fields.authority : fields.host);
	request->host = host.at;
	request->host_len = host.len;
	request->fields = text_of((struct slice){ head + fields_at, at - fields_at });
	if (fields.has_encodings)
		request->wants.encodings = encodings_taken(&fields);
	request->keeps_alive = !fields.has_close && (!request->is_1_0 || request->has_keep_alive);
	if (request->is_1_0)
		request->expects_continue = false; /* RFC 9110 10.1.1: a 1.0 client cannot mean it */
	else
		request->has_keep_alive = false;
	return 0;
}

bool bw_http_field(const struct bw_http_head *head, const char *name, struct bw_http_text *value)
{
	const uint8_t *at = (const uint8_t *)head->fields.at, *end = at + head->fields.len;

	/* The head was parsed: every line has a colon and an end. */
	while (at < end) {
		const uint8_t *colon = memchr(at, ':', (size_t)(end - at));
		const uint8_t *line_end = memchr(colon, '\r', (size_t)(end - colon));

		if (is_word((struct slice){ at, (uint32_t)(colon - at) }, name)) {
			*value = text_of(trim((struct slice){ colon + 1, (uint32_t)(line_end - colon - 1) }));
			return true;
		}
		at = line_end + 2;
	}
	return false;
}

/* ---- paths -------------------------------------------------------------------------------------------- */

unsigned bw_http__path(const uint8_t *path, uint32_t path_len, uint8_t *out, uint32_t *out_len)
{
	uint32_t at = 0, n = 0;

	/* Segment by segment; `n` is always at the end of a slash or of a whole segment. */
	while (at < path_len) {
		uint32_t segment = n;

		if (path[at] == '/') {
			if (n == 0 || out[n - 1] != '/')
				out[n++] = '/';
			at++;
			continue;
		}
		while (at < path_len && path[at] != '/') {
			uint8_t c = path[at++];

			if (c == '%') {
				int high, low;

				if (path_len - at < 2)
					return 400;
				high = hex_value(path[at]);
				low = hex_value(path[at + 1]);
				if (high < 0 || low < 0)
					return 400;
				c = (uint8_t)(high << 4 | low);
				at += 2;
				if (c == '/')
					return 404;
			}
			if (c == '\0')
				return 400;
			out[n++] = c;
		}
		if (n - segment == 1 && out[segment] == '.') {
			n = segment;
		} else if (n - segment == 2 && out[segment] == '.' && out[segment + 1] == '.') {
			n = segment;
			if (n <= 1)
				return 400; /* above the root */
			n--;                /* the slash, then the segment before it */
			while (n > 0 && out[n - 1] != '/')
				n--;
		}
	}
	*out_len = n;
	return n > 0 && out[0] == '/' ? 0 : 400;
}

void bw_http__tag_format(uint64_t tag, char out[BW_HTTP__TAG_LEN])
{
	out[0] = out[BW_HTTP__TAG_LEN - 1] = '"';
	for (unsigned i = 0; i < 16; i++)
		out[1 + i] = "0123456789abcdef"[tag >> (60 - 4 * i) & 15];
}

/* ---- a chunked body ----------------------------------------------------------------------------------- */

enum chunk_state {
	CHUNK_SIZE_FIRST, /* at least one digit */
	CHUNK_SIZE,
	CHUNK_EXT_SPACE, /* behind a size or a value: only a semicolon makes sense of it */
	CHUNK_EXT_NAME_FIRST,
	CHUNK_EXT_NAME,
	CHUNK_EXT_NAME_SPACE,
	CHUNK_EXT_VALUE_FIRST,
	CHUNK_EXT_VALUE,
	CHUNK_EXT_QUOTED,
	CHUNK_EXT_QUOTED_PAIR,
	CHUNK_EXT_QUOTED_END,
	CHUNK_SIZE_LF,
	CHUNK_DATA,
	CHUNK_DATA_CR,
	CHUNK_DATA_LF,
	CHUNK_TRAILER_FIRST, /* a trailer line's name, or the CR of the empty line */
	CHUNK_TRAILER_NAME,
	CHUNK_TRAILER_VALUE,
	CHUNK_TRAILER_LF,
	CHUNK_END_LF,
};

/* A peer could spin an unbounded body out of extensions and trailers, which count as no data. */
#define CHUNK_LINE_MAX    256
#define CHUNK_TRAILER_MAX 8192

static bool is_value_byte(uint8_t c)
{
	return (c >= 0x20 || c == '\t') && c != 0x7f;
}

/* White space that RFC 9110 5.6.3 has a recipient take where a sender should not put it. */
static bool is_space(uint8_t c)
{
	return c == ' ' || c == '\t';
}

/*
 * *( BWS ";" BWS name [ BWS "=" BWS value ] ) CR, RFC 9112 7.1.1. Extensions are ignored, but not unseen: where one is
 * malformed, another server may see the line's end elsewhere.
 */
static bool chunk_extension_step(struct bw_http__chunks *chunks, uint8_t c)
{
	bool is_token = char_class[c] & C_TOKEN;

	if (c != '\r' && ++chunks->line_len > CHUNK_LINE_MAX)
		return false;
	switch (chunks->state) {
	case CHUNK_EXT_NAME_FIRST:
		if (is_token)
			chunks->state = CHUNK_EXT_NAME;
		return is_token || is_space(c);
	case CHUNK_EXT_VALUE_FIRST:
		if (is_token)
			chunks->state = CHUNK_EXT_VALUE;
		else if (c == '"')
			chunks->state = CHUNK_EXT_QUOTED;
		return is_token || c == '"' || is_space(c);
	case CHUNK_EXT_QUOTED:
		if (c == '"')
			chunks->state = CHUNK_EXT_QUOTED_END;
		else if (c == '\\')
			chunks->state = CHUNK_EXT_QUOTED_PAIR;
		return is_value_byte(c);
	case CHUNK_EXT_QUOTED_PAIR:
		chunks->state = CHUNK_EXT_QUOTED;
		return is_value_byte(c);
	case CHUNK_EXT_NAME:
	case CHUNK_EXT_VALUE:
		if (is_token)
			return true;
		break;
	default:
		break;
	}
	/* A name, a value, a size or the space behind it is over. */
	if (c == ';')
		chunks->state = CHUNK_EXT_NAME_FIRST;
	else if (c == '=' && (chunks->state == CHUNK_EXT_NAME || chunks->state == CHUNK_EXT_NAME_SPACE))
		chunks->state = CHUNK_EXT_VALUE_FIRST;
	else if (c == '\r' && chunks->state != CHUNK_EXT_SPACE && chunks->state != CHUNK_EXT_NAME_SPACE)
		chunks->state = CHUNK_SIZE_LF;
	else if (!is_space(c))
		return false;
	else if (chunks->state == CHUNK_EXT_NAME)
		chunks->state = CHUNK_EXT_NAME_SPACE;
	else if (chunks->state != CHUNK_EXT_NAME_SPACE)
		chunks->state = CHUNK_EXT_SPACE;
	return true;
}

/* One byte that is not data. False: malformed. */
static bool chunk_step(struct bw_http__chunks *chunks, uint8_t c)
{
	int value;

	switch (chunks->state) {
	case CHUNK_SIZE_FIRST:
	case CHUNK_SIZE:
		value = hex_value(c);
		if (value >= 0) {
			/* 15 digits are more than any body; leading zeros count, there is no use for them. */
			if (++chunks->line_len > 15)
				return false;
			chunks->left = chunks->left << 4 | (uint64_t)value;
			chunks->state = CHUNK_SIZE;
			return true;
		}
		return chunks->state != CHUNK_SIZE_FIRST && chunk_extension_step(chunks, c);
	case CHUNK_EXT_SPACE ... CHUNK_EXT_QUOTED_END:
		return chunk_extension_step(chunks, c);
	case CHUNK_SIZE_LF:
		chunks->line_len = 0;
		chunks->state = chunks->left == 0 ? CHUNK_TRAILER_FIRST : CHUNK_DATA;
		return c == '\n';
	case CHUNK_DATA_CR:
		chunks->state = CHUNK_DATA_LF;
		return c == '\r';
	case CHUNK_DATA_LF:
		chunks->state = CHUNK_SIZE_FIRST;
		return c == '\n';
	case CHUNK_TRAILER_FIRST:
		if (c == '\r') {
			chunks->state = CHUNK_END_LF;
			return true;
		}
		chunks->state = CHUNK_TRAILER_NAME;
		return (char_class[c] & C_TOKEN) && ++chunks->trailer_bytes <= CHUNK_TRAILER_MAX;
	case CHUNK_TRAILER_NAME:
		if (c == ':')
			chunks->state = CHUNK_TRAILER_VALUE;
		else if (!(char_class[c] & C_TOKEN))
			return false;
		return ++chunks->trailer_bytes <= CHUNK_TRAILER_MAX;
	case CHUNK_TRAILER_VALUE:
		if (c == '\r')
			chunks->state = CHUNK_TRAILER_LF;
		else if (!is_value_byte(c))
			return false;
		return ++chunks->trailer_bytes <= CHUNK_TRAILER_MAX;
	case CHUNK_TRAILER_LF:
		chunks->state = CHUNK_TRAILER_FIRST;
		return c == '\n';
	default:
		return false;
	}
}

uint32_t bw_http__chunks_next(struct bw_http__chunks *chunks, const uint8_t *bytes, uint32_t len,
	enum bw_http__chunks_result *result)
{
	uint32_t at = 0;

	*result = BW_HTTP__CHUNKS_MORE;
	while (at < len) {
		if (chunks->state == CHUNK_DATA) {
			*result = BW_HTTP__CHUNKS_DATA;
			break;
		}
		if (chunks->state == CHUNK_END_LF) {
			*result = bytes[at] == '\n' ? BW_HTTP__CHUNKS_END : BW_HTTP__CHUNKS_BAD;
			at++;
			break;
		}
		if (!chunk_step(chunks, bytes[at])) {
			*result = BW_HTTP__CHUNKS_BAD;
			break;
		}
		at++;
	}
	return at;
}

void bw_http__chunks_took(struct bw_http__chunks *chunks, uint32_t len)
{
	chunks->left -= len;
	if (chunks->left == 0)
		chunks->state = CHUNK_DATA_CR;
}
