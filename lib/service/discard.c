/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The Discard Protocol (RFC 863) over TCP and UDP: what comes in goes nowhere. The smallest service there is,
 * and a receiver for measurements: every byte is consumed where the device put it.
 */
#include <service/service.h>

static uint32_t discard_data(struct bw_stream *s, const struct bw_view *views, unsigned count)
{
	uint32_t bytes = 0;

	for (unsigned i = 0; i < count; i++)
		bytes += views[i].len;
	return bytes;
}

/* Its presence opens the UDP port; RFC 863 wants no answer. */
static void discard_datagram(struct bw_context *ctx, const struct bw_datagram *dgram) {}

/* Without peer_closed() the engine closes when the client does. */
const struct bw_service bw_discard_service = {
	.name = "discard",
	.data = discard_data,
	.datagram = discard_datagram,
};
