/* SPDX-License-Identifier: BSD-3-Clause */
#include "mime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS       1024
#define EXTENSION_MAX 31
#define ENTRIES_MAX   16384

/* What a page needs, for machines without the system's table. */
static const char *const builtin[][2] = {
	{ "html", "text/html" },
	{ "htm", "text/html" },
	{ "css", "text/css" },
	{ "js", "text/javascript" },
	{ "mjs", "text/javascript" },
	{ "json", "application/json" },
	{ "map", "application/json" },
	{ "xml", "application/xml" },
	{ "txt", "text/plain" },
	{ "md", "text/markdown" },
	{ "csv", "text/csv" },
	{ "png", "image/png" },
	{ "jpg", "image/jpeg" },
	{ "jpeg", "image/jpeg" },
	{ "gif", "image/gif" },
	{ "webp", "image/webp" },
	{ "avif", "image/avif" },
	{ "svg", "image/svg+xml" },
	{ "ico", "image/vnd.microsoft.icon" },
	{ "woff", "font/woff" },
	{ "woff2", "font/woff2" },
	{ "ttf", "font/ttf" },
	{ "otf", "font/otf" },
	{ "wasm", "application/wasm" },
	{ "pdf", "application/pdf" },
	{ "zip", "application/zip" },
	{ "gz", "application/gzip" },
	{ "tar", "application/x-tar" },
	{ "mp3", "audio/mpeg" },
	{ "ogg", "audio/ogg" },
	{ "wav", "audio/x-wav" },
	{ "mp4", "video/mp4" },
	{ "webm", "video/webm" },
};

struct entry {
	struct entry *next;
	char extension[EXTENSION_MAX + 1];
	char type[]; /* terminated */
};

struct bw_http__mime {
	unsigned count;
	struct entry *bucket[BUCKETS];
};

static unsigned bucket_of(const char *extension)
{
	uint32_t h = 2166136261u; /* FNV-1a */

	for (; *extension != '\0'; extension++)
		h = (h ^ (uint8_t)*extension) * 16777619u;
	return h % BUCKETS;
}

static const struct entry *find(const struct bw_http__mime *mime, const char *extension)
{
	const struct entry *entry = mime->bucket[bucket_of(extension)];

	while (entry != NULL && strcmp(entry->extension, extension) != 0)
		entry = entry->next;
	return entry;
}

/* False: no memory. The first to name an extension wins. */
static bool add(struct bw_http__mime *mime, const char *name, const char *type)
{
	char extension[EXTENSION_MAX + 1];
	size_t len = strlen(name), type_len = strlen(type);
	struct entry *entry;
	unsigned bucket;

	if (len == 0 || len > EXTENSION_MAX || type_len > BW_HTTP__MIME_TYPE_MAX ||
		mime->count == ENTRIES_MAX)
		return true;
	for (size_t i = 0; i <= len; i++)
		extension[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] | 0x20 : name[i]);
	if (find(mime, extension) != NULL)
		return true;
	entry = malloc(sizeof(*entry) + type_len + 1);
	if (entry == NULL)
		return false;
	bucket = bucket_of(extension);
	memcpy(entry->extension, extension, len + 1);
	memcpy(entry->type, type, type_len + 1);
	entry->next = mime->bucket[bucket];
	mime->bucket[bucket] = entry;
	mime->count++;
	return true;
}

/* It goes into a header as it stands: nothing but visible characters may be in it, and a slash must. */
static bool is_type(const char *type)
{
	for (const char *c = type; *c != '\0'; c++)
		if (*c <= 0x20 || *c == 0x7f)
			return false;
	return strchr(type, '/') != NULL;
}

struct bw_http__mime *bw_http__mime_load(const char *path)
{
	struct bw_http__mime *mime = calloc(1, sizeof(*mime));
	FILE *file;
	char *line = NULL;
	size_t line_room = 0;
	bool is_ok = true;

	if (mime == NULL)
		return NULL;
	file = fopen(path, "re");
	while (file != NULL && is_ok && getline(&line, &line_room, file) >= 0) {
		char *rest = line, *type;

		line[strcspn(line, "#\r\n")] = '\0';
		do
			type = strsep(&rest, " \t");
		while (type != NULL && *type == '\0');
		if (type == NULL || !is_type(type))
			continue;
		for (char *name; is_ok && (name = strsep(&rest, " \t")) != NULL;)
			is_ok = add(mime, name, type);
	}
	free(line);
	if (file != NULL)
		fclose(file);
	for (unsigned i = 0; i < BW_ARRAY_LEN(builtin) && is_ok; i++)
		is_ok = add(mime, builtin[i][0], builtin[i][1]);
	if (!is_ok) {
		bw_http__mime_free(mime);
		return NULL;
	}
	return mime;
}

void bw_http__mime_free(struct bw_http__mime *mime)
{
	if (mime == NULL)
		return;
	for (unsigned i = 0; i < BUCKETS; i++) {
		for (struct entry *entry = mime->bucket[i], *next; entry != NULL; entry = next) {
			next = entry->next;
			free(entry);
		}
	}
	free(mime);
}

const char *bw_http__mime_of(const struct bw_http__mime *mime, const char *name, size_t name_len)
{
	char extension[EXTENSION_MAX + 1];
	const struct entry *entry;
	size_t dot = name_len, len;

	while (dot > 0 && name[dot - 1] != '.' && name[dot - 1] != '/')
		dot--;
	/* No dot, or the name of a hidden file, is no extension. */
	if (dot < 2 || name[dot - 1] != '.' || name[dot - 2] == '/')
		return "application/octet-stream";
	len = name_len - dot;
	if (len == 0 || len > EXTENSION_MAX)
		return "application/octet-stream";
	for (size_t i = 0; i < len; i++) {
		char c = name[dot + i];

		extension[i] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
	}
	extension[len] = '\0';
	entry = find(mime, extension);
	return entry != NULL ? entry->type : "application/octet-stream";
}
