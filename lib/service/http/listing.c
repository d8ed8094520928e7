/* SPDX-License-Identifier: BSD-3-Clause */
#include "listing.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "files.h"

/* A page of more than this is no use to anybody. */
#define ENTRIES_MAX 10000
#define NAME_ROOM   8192

struct entry {
	bool is_dir;
	uint64_t bytes;
	int64_t modified_s;
	char *name;
};

struct listing {
	struct entry *entries;
	unsigned count, room;
	bool is_cut;
};

/* Directories first, then by name. */
static int compare(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	return x->is_dir != y->is_dir ? (int)y->is_dir - (int)x->is_dir : strcmp(x->name, y->name);
}

static int add(struct listing *listing, const char *name, const struct stat *st)
{
	struct entry *entry;

	if (listing->count == listing->room) {
		unsigned room = listing->room > 0 ? 2 * listing->room : 64;

		entry = realloc(listing->entries, room * sizeof(*entry));
		if (entry == NULL)
			return -ENOMEM;
		listing->entries = entry;
		listing->room = room;
	}
	entry = &listing->entries[listing->count];
	*entry = (struct entry){
		.is_dir = S_ISDIR(st->st_mode),
		.bytes = (uint64_t)st->st_size,
		.modified_s = st->st_mtim.tv_sec,
		.name = strdup(name),
	};
	if (entry->name == NULL)
		return -ENOMEM;
	listing->count++;
	return 0;
}

/* What a request for the name would find: a symbolic link is what it leads to, if that is below the root. */
static bool look_at(int root_fd, const char *dir, int dir_fd, const char *name, struct stat *st)
{
	char path[NAME_ROOM];
	int fd, n;
	bool is_found;

	if (fstatat(dir_fd, name, st, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	if (!S_ISLNK(st->st_mode))
		return S_ISREG(st->st_mode) || S_ISDIR(st->st_mode);
	n = snprintf(path, sizeof(path), "%s%s", dir, name);
	if (n < 0 || (size_t)n >= sizeof(path))
		return false;
	fd = bw_http__open_beneath(root_fd, path, O_PATH);
	if (fd < 0)
		return false;
	is_found = fstat(fd, st) == 0 && (S_ISREG(st->st_mode) || S_ISDIR(st->st_mode));
	close(fd);
	return is_found;
}

static int read_entries(int root_fd, const char *name, struct listing *listing)
{
	int fd = bw_http__open_beneath(root_fd, name[0] != '\0' ? name : ".", O_RDONLY | O_DIRECTORY), rc = 0;
	struct dirent *found;
	struct stat st;
	DIR *dir;

	if (fd < 0)
		return fd;
	dir = fdopendir(fd);
	if (dir == NULL) {
		rc = -errno;
		close(fd);
		return rc;
	}
	while (rc == 0 && (errno = 0, found = readdir(dir)) != NULL) {
		/* Hidden files too are served to who knows their names, but not shown around. */
		if (found->d_name[0] == '.' || !look_at(root_fd, name, fd, found->d_name, &st))
			continue;
		if (listing->count == ENTRIES_MAX) {
			listing->is_cut = true;
			break;
		}
		rc = add(listing, found->d_name, &st);
	}
	if (rc == 0 && found == NULL && errno != 0)
		rc = -errno;
	closedir(dir);
	return rc;
}

static void put_escaped(FILE *out, const char *text, size_t len)
{
	for (; len > 0; text++, len--)
		switch (*text) {
		case '&':
			fputs("&amp;", out);
			break;
		case '<':
			fputs("&lt;", out);
			break;
		case '>':
			fputs("&gt;", out);
			break;
		case '"':
			fputs("&quot;", out);
			break;
		case '\'':
			fputs("&#39;", out);
			break;
		default:
			fputc(*text, out);
		}
}

/* RFC 3986 2.3: what is not unreserved is encoded, so that nothing needs an escape in HTML either. */
static void put_encoded(FILE *out, const char *text)
{
	for (; *text != '\0'; text++) {
		uint8_t c = (uint8_t)*text;

		if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			strchr("-._~", c) != NULL)
			fputc(c, out);
		else
			fprintf(out, "%%%02X", c);
	}
}

static void put_entry(FILE *out, const struct entry *entry)
{
	time_t modified = (time_t)entry->modified_s;
	const char *slash = entry->is_dir ? "/" : "";
	char date[32] = "";
	struct tm tm;

	if (gmtime_r(&modified, &tm) != NULL)
		strftime(date, sizeof(date), "%Y-%m-%d %H:%M", &tm);
	/* "./" guards a name that would be read as a scheme (RFC 3986 4.2). */
	fputs("<tr><td><a href=\"./", out);
	put_encoded(out, entry->name);
	fprintf(out, "%s\">", slash);
	put_escaped(out, entry->name, strlen(entry->name));
	fprintf(out, "%s</a></td><td>", slash);
	if (!entry->is_dir)
		fprintf(out, "%llu", (unsigned long long)entry->bytes);
	fprintf(out, "</td><td>%s</td></tr>\n", date);
}

static void put_page(FILE *out, const struct listing *listing, const uint8_t *path, uint32_t path_len)
{
	fputs("<!doctype html>\n<html><head><meta charset=\"utf-8\"><title>", out);
	put_escaped(out, (const char *)path, path_len);
	fputs("</title>\n<style>td{padding-right:2em;font-family:monospace}td:nth-child(2){text-align:right}"
	      "</style></head>\n<body><h1>",
		out);
	put_escaped(out, (const char *)path, path_len);
	fputs("</h1>\n<table>\n", out);
	if (path_len > 1)
		fputs("<tr><td><a href=\"../\">../</a></td><td></td><td></td></tr>\n", out);
	for (unsigned i = 0; i < listing->count; i++)
		put_entry(out, &listing->entries[i]);
	fputs("</table>\n", out);
	if (listing->is_cut)
		fprintf(out, "<p>There is more: these are %u of the entries.</p>\n", ENTRIES_MAX);
	fputs("</body></html>\n", out);
}

int bw_http__listing_make(int root_fd, const char *name, const uint8_t *path, uint32_t path_len, char **body,
	size_t *body_bytes)
{
	struct listing listing = { .count = 0 };
	int rc = read_entries(root_fd, name, &listing);
	FILE *out = NULL;

	*body = NULL;
	if (rc == 0) {
		if (listing.count > 0)
			qsort(listing.entries, listing.count, sizeof(*listing.entries), compare);
		out = open_memstream(body, body_bytes);
		rc = out != NULL ? 0 : -ENOMEM;
	}
	if (out != NULL) {
		bool is_whole;

		put_page(out, &listing, path, path_len);
		is_whole = !ferror(out);
		if (fclose(out) != 0 || !is_whole) {
			free(*body);
			*body = NULL;
			rc = -ENOMEM;
		}
	}
	for (unsigned i = 0; i < listing.count; i++)
		free(listing.entries[i].name);
	free(listing.entries);
	return rc;
}
