/* SPDX-License-Identifier: BSD-3-Clause */
/** Echo over TCP (RFC 862): what is sent comes back. */
#include "text.h"

static bool echo_ask(struct bw_load__worker *w, struct bw_load__slot *slot, struct bw_load__pending *p)
{
	uint32_t size = w->load->conf.size;

	if (bw_stream_space(slot->stream) < size)
		return false;
	p->what = (uint32_t)bw_load__draw_bits(&w->draw);
	if (size > BW_LOAD__RESERVE_MAX)
		return bw_load__refer(w, slot, bw_load__payload(w->load, p->what), size);

	void *at = bw_stream_reserve(slot->stream, size);

	if (at == NULL)
		return false;
	memcpy(at, bw_load__payload(w->load, p->what), size);
	bw_stream_commit(slot->stream, size);
	w->figures.bytes_out += size;
	return true;
}

static enum bw_load__outcome echo_read(struct bw_load__worker *w, struct bw_load__slot *slot,
	const struct bw_load__pending *p, const uint8_t *at, uint32_t len, uint32_t *used)
{
	uint32_t size = w->load->conf.size;

	if (!slot->reading) {
		slot->reading = 1;
		slot->left = size;
	}
	*used = (uint32_t)BW_MIN(slot->left, (uint64_t)len);
	if (memcmp(at, bw_load__payload(w->load, p->what) + (size - slot->left), *used) != 0)
		slot->fault = BW_LOAD_VALUE;
	slot->left -= *used;
	return slot->left == 0 ? BW_LOAD__DONE : BW_LOAD__PART;
}

const struct bw_load__protocol bw_load__echo = {
	.ask = echo_ask,
	.read = echo_read,
};
