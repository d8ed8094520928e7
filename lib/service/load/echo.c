/* SPDX-License-Identifier: BSD-3-Clause */
/** Echo over TCP (RFC 862): what is sent comes back. */
#include "text.h"

static enum bw_load__asked echo_ask(
	struct bw_load__worker *w, struct bw_load__slot *slot, struct bw_load__pending *p)
{
	uint32_t size = w->load->conf.size;

	p->what = (uint32_t)bw_load__draw_bits(&w->draw);
	if (size > BW_LOAD__RESERVE_MAX)
		return BW_LOAD__IN_PARTS;
	return bw_load__write(w, slot, bw_load__payload(w->load, p->what), size);
}

static void echo_compose(const struct bw_load__worker *w, const struct bw_load__slot *slot,
	const struct bw_load__pending *p, struct bw_load__message *message)
{
	(void)slot;
	message->part[0].data = bw_load__payload(w->load, p->what);
	message->part[0].len = w->load->conf.size;
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
	.compose = echo_compose,
	.read = echo_read,
};
