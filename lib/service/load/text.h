/* SPDX-License-Identifier: BSD-3-Clause */
/** Writing a small request into a stream. */
#pragma once

#include <string.h>

#include "internal.h"

#define BW_LOAD__RESERVE_MAX 1024 /* what bw_stream_reserve() gives at most */

/** A small request that lies ready. */
static inline enum bw_load__asked bw_load__write(
	struct bw_load__worker *w, const struct bw_load__slot *slot, const void *data, uint32_t len)
{
	void *at = bw_stream_reserve(slot->stream, len);

	if (at == NULL)
		return BW_LOAD__NO_ROOM;
	memcpy(at, data, len);
	bw_stream_commit(slot->stream, len);
	w->figures.bytes_out += len;
	return BW_LOAD__WRITTEN;
}
