/* SPDX-License-Identifier: BSD-3-Clause */
/** Media types by file name extension: the system's table, and a small one of our own behind it. */
#pragma once

#include <base/types.h>

#define BW_HTTP__MIME_TYPE_MAX                                                                               \
	127 /* RFC 6838 section 4.2: each half is at most 127; no real type comes near */

#define BW_HTTP__MIME_TYPES "/etc/mime.types" /* the system's table */

struct bw_http__mime;

/**
 * @path  in the format of /etc/mime.types; a missing or unreadable file is no error
 * NULL: out of memory. Read-only afterwards, any thread.
 */
struct bw_http__mime *bw_http__mime_load(const char *path);
void bw_http__mime_free(struct bw_http__mime *mime);
/** Never NULL. `name` is a path or file name; the letters' case does not matter. */
const char *bw_http__mime_of(const struct bw_http__mime *mime, const char *name, size_t name_len);
