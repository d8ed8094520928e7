/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * XDP: Barewire's packets go to the AF_XDP socket of the queue that they came on, the rest passes.
 *
 * xsk_def_prog and xsks_map are the names by which libxdp knows a program that is there already: it then puts its
 * sockets into the map instead of loading a program of its own, which nothing would remove after a crash.
 */
#include "classify.h"

MAP(xsks_map, BPF_MAP_TYPE_XSKMAP, __u32, __u32, 64);

static __always_inline long load(const struct packet *p, __u32 off, void *to, __u32 bytes)
{
	const struct xdp_md *xdp = p->ctx;
	void *data = (void *)(long)xdp->data, *end = (void *)(long)xdp->data_end;

	/* The compiler must not know better than the verifier, which wants to see the bound here. */
	asm volatile("" : "+r"(off));
	if (off > OFF_MAX || data + off + bytes > end)
		return -1;
	__builtin_memcpy(to, data + off, bytes);
	return 0;
}

static __always_inline __u16 vlan_of(const struct packet *p)
{
	return 0;
}

SEC("xdp")
int xsk_def_prog(struct xdp_md *ctx)
{
	struct packet p = { .ctx = ctx };
	__u32 verdict = decide(&p, true, true);
	int action = XDP_DROP;

	if (verdict == STEER_PASSED) {
		action = XDP_PASS;
	} else if (verdict == STEER_TAKEN) {
		action = bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_DROP);
		if (action == XDP_DROP)
			verdict = STEER_NO_SOCKET;
	}
	count(verdict);
	return action;
}

/* libxdp reads out of the program's types which version of its own this stands for. */
__uint(xsk_prog_version, 1) SEC("xdp_metadata");
