/* SPDX-License-Identifier: BSD-3-Clause */
/** A directory as a page: what is in it, by name, size and date. */
#pragma once

#include <base/types.h>

/**
 * On a helper thread.
 *
 * @root_fd   what is not reached from there is not listed
 * @name      of the directory, below the root, with a slash at its end; "" the root
 * @path      as asked for: the title
 * @body      on the heap, the caller's
 * 0, or -errno.
 */
int bw_http__listing_make(int root_fd, const char *name, const uint8_t *path, uint32_t path_len, char **body,
	size_t *body_bytes);
