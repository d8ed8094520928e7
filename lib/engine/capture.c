/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who looks at packets gets them as they are on the wire: what comes in before it is parsed (ingress.c), what goes out
 * when the nic has finished it (bw_nic_tx()). Why one was dropped is what was counted while it was dealt with.
 */
#include <nic/capture.h>

#include "worker.h"

/** For each of these a packet went no further, or an answer or a copy that was to be made of it. */
static const enum bw_counter reasons[] = {
	BW_DROP_RUNT,
	BW_DROP_NOT_FOR_US_MAC,
	BW_DROP_VLAN,
	BW_DROP_ETHERTYPE,
	BW_DROP_IP_HEADER,
	BW_DROP_IP_CHECKSUM,
	BW_DROP_IP_OPTIONS,
	BW_DROP_NOT_FOR_US_IP,
	BW_DROP_MARTIAN,
	BW_DROP_FRAGMENT,
	BW_DROP_PROTOCOL,
	BW_DROP_L4_HEADER,
	BW_DROP_L4_CHECKSUM,
	BW_DROP_ARP,
	BW_DROP_ND,
	BW_DROP_ICMP,
	BW_DROP_NOT_OURS,
	BW_DROP_NO_LISTENER,
	BW_DROP_NO_MBUF,
	BW_DROP_RING_FULL,
	BW_EXCEPTION_DROPPED,
	BW_TCP_PRESSURE_DROPS,
	BW_TCP_PAWS_DROPS,
	BW_TCP_SYN_REFUSED,
	BW_TCP_COOKIES_REJECTED,
	BW_TCP_REASSEMBLY_DROPS,
	BW_TCP_DROP_UNACCEPTABLE,
};
_Static_assert(BW_ARRAY_LEN(reasons) <= BW_DROP_REASONS_MAX, "room for each of them");

void bw_drops_read(const struct bw_worker *w, struct bw_drops *drops)
{
	for (unsigned i = 0; i < BW_ARRAY_LEN(reasons); i++)
		drops->count[i] = w->counters.value[reasons[i]];
}

enum bw_counter bw_drops_since(const struct bw_worker *w, const struct bw_drops *before)
{
	for (unsigned i = 0; i < BW_ARRAY_LEN(reasons); i++)
		if (w->counters.value[reasons[i]] != before->count[i])
			return reasons[i];
	return BW_COUNTER_COUNT;
}

static struct bw_capture_ring *ring_of(struct bw_capture *capture, const struct bw_worker *w)
{
	return capture != NULL ? bw_capture_ring(capture, w->index) : NULL;
}

void bw_capture_take(struct bw_worker *w)
{
	struct bw_capture_ring *ring = ring_of(__atomic_load_n(&w->engine->capture, __ATOMIC_ACQUIRE), w);

	for (unsigned i = 0; i < w->iface_count; i++)
		if (w->ifaces[i].has_own_tx)
			bw_nic_capture(w->ifaces[i].nic, w->ifaces[i].tx_queue, ring, i);
	__atomic_store_n(&w->capture, ring, __ATOMIC_RELEASE);
}

static bool has_capture(const struct bw_worker *w, const void *capture)
{
	return __atomic_load_n(&w->capture, __ATOMIC_ACQUIRE) ==
	       ring_of((struct bw_capture *)(uintptr_t)capture, w);
}

void bw_engine_capture(struct bw_engine *engine, struct bw_capture *capture)
{
	__atomic_store_n(&engine->capture, capture, __ATOMIC_RELEASE);
	bw_worker_tell_all(engine, has_capture, capture);
}
