/* SPDX-License-Identifier: BSD-3-Clause */
/** Writing a request into a stream: whole or not at all. */
#pragma once

#include <string.h>

#include "internal.h"

#define BW_LOAD__RESERVE_MAX 1024 /* what bw_stream_reserve() gives at most */

static inline void bw_load__nothing(void *arg)
{
	(void)arg;
}

/** Memory that outlives the stream, by reference; there is room for it. False: no buffer was left. */
static inline bool bw_load__refer(
	struct bw_load__worker *w, const struct bw_load__slot *slot, const void *data, uint32_t len)
{
	if (bw_stream_send_ref(slot->stream, data, len, bw_load__nothing, NULL) != 0)
		return false;
	w->figures.bytes_out += len;
	return true;
}

/** Half a request is out, and there is no buffer for the rest: the connection is of no use any more. False. */
static inline bool bw_load__tear(struct bw_load__slot *slot)
{
	bw_stream_abort(slot->stream);
	return false;
}
