/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Replies on their way out, in order.
 *
 * The usual reply is written into the window: a reservation in the tail of the send queue, committed when it is full
 * and once a call. There is room for the longest short reply before a command runs, so no reply is ever lost.
 *
 * What is longer follows it: copied where it is a small value, by reference otherwise. A value whose sending has begun
 * is a state of the connection (conn.emit), pinned, and continues whenever there is room, piece by piece, whatever the
 * queue's size; nothing behind it runs meanwhile.
 *
 * What was not ready in time, as other workers' keys are not, lies in requests (request.c), the connection's queue.
 * bw_resp__pump() sends from its head what is done: the text, the value, the list of MGET, the values of parts. So the
 * order on the wire is conn.emit, the queue, the window, and each is written only while those before it are empty.
 */
#include "internal.h"

#define WINDOW_BYTES 1024u /* what bw_stream_reserve() gives at most */
#define COPY_MAX     2048u /* a value up to this is copied */

/* ---- the window ---- */

void bw_resp__window_commit(struct bw_resp *r)
{
	/* Also of nothing: it gives back what was reserved. */
	if (r->out_stream != NULL) {
		r->bytes_out += (uint64_t)(r->out - r->out_begin);
		bw_stream_commit(r->out_stream, (uint32_t)(r->out - r->out_begin));
	}
	r->out_stream = NULL;
}

bool bw_resp__window_open(struct bw_resp *r, struct bw_stream *s)
{
	if (bw_likely(r->out_stream == s && r->out_end - r->out >= (ptrdiff_t)BW_RESP__TEXT_MAX))
		return true;
	bw_resp__window_commit(r);
	r->out_begin = r->out = bw_stream_reserve(s, WINDOW_BYTES);
	if (r->out == NULL)
		return bw_resp__refused(s, WINDOW_BYTES);
	r->out_end = r->out + WINDOW_BYTES;
	r->out_stream = s;
	return true;
}

/* ---- what is too long for it, or was not ready in time ---- */

void bw_resp__emit_begin(struct bw_resp *r, struct bw_resp__conn *conn, struct bw_resp__block *block,
	bool is_bulk, uint32_t offset, uint32_t len)
{
	struct bw_resp__chunk *chunk = block->kind == BW_RESP__CHUNK ? (struct bw_resp__chunk *)block : NULL;
	struct bw_resp__busy *busy;

	while (chunk != NULL && offset > 0 && offset >= chunk->len) {
		offset -= chunk->len;
		chunk = chunk->next;
	}
	busy = bw_resp__busy(r, conn);
	busy->emit = block;
	busy->emit_chunk = chunk;
	busy->emit_off = (uint16_t)offset; /* within a page */
	busy->emit_left = len & 0x7fffffff;
	busy->emit_is_bulk = is_bulk;
}

/* The piece that comes next. 0: all is sent. */
static uint32_t emit_piece(struct bw_resp__busy *busy, const uint8_t **data)
{
	if (busy->emit_left == 0)
		return 0;
	if (busy->emit->kind == BW_RESP__ITEM) {
		*data = bw_resp__item_value((struct bw_resp__item *)busy->emit) + busy->emit_off;
		return busy->emit_left;
	}
	while (busy->emit_off == busy->emit_chunk->len) {
		busy->emit_chunk = busy->emit_chunk->next;
		busy->emit_off = 0;
	}
	*data = busy->emit_chunk->bytes + busy->emit_off;
	return BW_MIN((uint32_t)busy->emit_left, busy->emit_chunk->len - busy->emit_off);
}

/*
 * The next bytes of a reply that is under way. Returns how many were taken. To copy a small value costs less than the
 * buffer that refers to it, and the pins.
 */
static uint32_t emit_send(
	struct bw_stream *s, struct bw_resp__block *block, const uint8_t *data, uint32_t len)
{
	uint32_t space;

	if (bw_resp__block_value_bytes(block) <= COPY_MAX)
		return bw_stream_send(s, data, len);
	space = bw_stream_space(s);
	/* Where there is no room, a byte is refused, which asks for writable(). */
	len = space == 0 ? 1 : BW_MIN(len, space);
	bw_resp__block_pin(block);
	if (bw_stream_send_ref(s, data, len, bw_resp__block_unpin, block) == 0)
		return len;
	bw_resp__block_unpin(block);
	return 0;
}

/* False: there is more than fits. */
static bool emit_continue(struct bw_resp *r, struct bw_stream *s, struct bw_resp__conn *conn)
{
	struct bw_resp__busy *busy = bw_resp__busy(r, conn);
	struct bw_resp__block *block = busy->emit;
	const uint8_t *data;
	uint32_t len;
	char *end;

	while ((len = emit_piece(busy, &data)) > 0) {
		uint32_t n = emit_send(s, block, data, len);

		if (n == 0)
			return bw_resp__refused(s, 1);
		r->bytes_out += n;
		busy->emit_off = (uint16_t)(busy->emit_off + n);
		busy->emit_left = (busy->emit_left - n) & 0x7fffffff;
	}
	if (busy->emit_is_bulk) {
		end = bw_stream_reserve(s, 2);
		if (end == NULL)
			return bw_resp__refused(s, 2);
		memcpy(end, "\r\n", 2);
		bw_stream_commit(s, 2);
		r->bytes_out += 2;
	}
	busy->emit = NULL;
	busy->emit_chunk = NULL;
	busy->emit_off = 0;
	bw_resp__block_unpin(block);
	return true;
}

/* MGET: one value after the other. True: all are out, or conn.emit has one to finish first. */
static bool list_continue(
	struct bw_resp *r, struct bw_stream *s, struct bw_resp__conn *conn, struct bw_resp__request *request)
{
	while (request->list_left > 0) {
		struct bw_resp__cursor next = request->cursor;
		struct bw_resp__rec *rec = bw_resp__gather_next(&next);
		struct bw_resp__block *found = rec->found;
		uint32_t len = found != NULL ? bw_resp__block_value_bytes(found) : 0;
		bool is_short = len < BW_RESP__REF_MIN;
		uint32_t room = is_short ? BW_RESP__TEXT_MAX : 16;
		char *begin = bw_stream_reserve(s, room), *to;

		if (begin == NULL)
			return bw_resp__refused(s, room);
		if (found == NULL) {
			to = bw_resp__put_nil(begin, request->is_resp3);
		} else {
			to = bw_resp__put_bulk_header(begin, len);
			if (is_short) {
				to = mempcpy(to, bw_resp__item_value((struct bw_resp__item *)found), len);
				to = mempcpy(to, "\r\n", 2);
			}
		}
		bw_stream_commit(s, (uint32_t)(to - begin));
		r->bytes_out += (uint64_t)(to - begin);
		request->cursor = next;
		request->list_left--;
		rec->found = NULL;
		if (found == NULL)
			continue;
		bw_resp__unlist(found);
		if (is_short) {
			bw_resp__block_unpin(found);
			continue;
		}
		bw_resp__emit_begin(r, conn, found, true, 0, len);
		return true;
	}
	return true;
}

/* Nothing of it is sent. */
static void request_drop(struct bw_resp__request *request)
{
	request->text_sent = request->text_len;
	request->list_left = 0; /* what its values are in frees them */
	if (request->value != NULL)
		bw_resp__block_unpin(request->value);
	request->value = NULL;
	for (struct bw_resp__request *part = request->parts; part != NULL; part = part->next) {
		if (part->value != NULL)
			bw_resp__block_unpin(part->value);
		part->value = NULL;
	}
}

/* One step of the first request's reply. False: no room. */
static bool request_emit(struct bw_resp *r, struct bw_stream *s, struct bw_resp__conn *conn)
{
	struct bw_resp__request *request = conn->busy->first;
	struct bw_resp__busy *busy;

	if (bw_unlikely(request->is_silent))
		request_drop(request);
	while (request->text_sent < request->text_len) {
		uint32_t n = bw_stream_send(
			s, request->text + request->text_sent, request->text_len - request->text_sent);

		if (n == 0)
			return bw_resp__refused(s, 1);
		request->text_sent += n;
		r->bytes_out += n;
	}
	if (request->value != NULL) {
		bw_resp__emit_begin(r, conn, request->value, request->value_is_bulk, request->value_off,
			request->value_len);
		request->value = NULL;
		return true;
	}
	if (request->list_left > 0)
		return list_continue(r, s, conn, request);
	for (struct bw_resp__request *part = request->parts; part != NULL; part = request->parts) {
		struct bw_resp__block *value = part->value;

		request->parts = part->next;
		part->value = NULL;
		bw_resp__request_free(r, part);
		if (value == NULL)
			continue;
		bw_resp__emit_begin(
			r, conn, value, request->parts == NULL, 0, bw_resp__block_value_bytes(value));
		return true;
	}
	busy = bw_resp__busy(r, conn);
	busy->first = request->next;
	if (busy->first == NULL)
		busy->last = NULL;
	busy->waiting_count--;
	bw_resp__request_free(r, request);
	return true;
}

bool bw_resp__pump_on(struct bw_resp *r, struct bw_stream *s, struct bw_resp__conn *conn)
{
	if (conn->busy->emit == NULL && conn->busy->first == NULL)
		return true;
	bw_resp__window_commit(r);
	for (;;) {
		if (conn->busy->emit != NULL) {
			if (!emit_continue(r, s, conn))
				return false;
		} else if (conn->busy->first == NULL || !conn->busy->first->is_done) {
			return true;
		} else if (!request_emit(r, s, conn)) {
			return false;
		}
	}
}
