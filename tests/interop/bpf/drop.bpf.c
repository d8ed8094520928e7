/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * A lossy wire: tc program that drops every tenth IP packet, by the kernel's random numbers, and counts what it
 * passed and dropped. ARP and neighbour discovery pass, so that what is tested is TCP and not the client kernel's
 * patience.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#ifndef DROP_PERCENT
#define DROP_PERCENT 10
#endif

#define IP4_PROTO_OFF (ETH_HLEN + 9)
#define IP6_PROTO_OFF (ETH_HLEN + 6)

/* [0] passed, [1] dropped; read by the test with bpftool. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} drop_counts SEC(".maps");

static void count(__u32 which)
{
	__u64 *value = bpf_map_lookup_elem(&drop_counts, &which);

	if (value)
		__sync_fetch_and_add(value, 1);
}

SEC("tc")
int drop(struct __sk_buff *skb)
{
	__u8 proto = 0;

	if (skb->protocol == bpf_htons(ETH_P_IP))
		bpf_skb_load_bytes(skb, IP4_PROTO_OFF, &proto, 1);
	else if (skb->protocol == bpf_htons(ETH_P_IPV6))
		bpf_skb_load_bytes(skb, IP6_PROTO_OFF, &proto, 1);
	if (proto != IPPROTO_TCP)
		return TC_ACT_OK;

	if (bpf_get_prandom_u32() % 100 < DROP_PERCENT) {
		count(1);
		/* Not TC_ACT_SHOT: it tells the sending kernel, whose TCP then sends again at once, as no wire does. */
		return TC_ACT_STOLEN;
	}
	count(0);
	return TC_ACT_OK;
}

char program_license[] SEC("license") = "Dual BSD/GPL";
