/* SPDX-License-Identifier: BSD-3-Clause */
/** Somebody else's XDP program. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int pass_all(struct xdp_md *ctx)
{
	return XDP_PASS;
}

char program_license[] SEC("license") = "Dual BSD/GPL";
