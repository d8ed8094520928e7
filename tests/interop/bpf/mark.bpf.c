/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * A router whose queue is long: tc program that marks every tenth ECN-capable TCP packet (CE), by the kernel's random
 * numbers, and drops nothing. It counts what it marked, and what else was ECN-capable, or with payload and not.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#ifndef MARK_PERCENT
#define MARK_PERCENT 10
#endif

/* [0] ECN-capable and left so, [1] marked, [2] with payload and not ECN-capable; read by the test with bpftool. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, __u64);
} mark_counts SEC(".maps");

static void count(__u32 which)
{
	__u64 *value = bpf_map_lookup_elem(&mark_counts, &which);

	if (value)
		__sync_fetch_and_add(value, 1);
}

/* Not bpf_skb_ecn_set_ce(): it leaves alone what is shared, or not in the first piece, as much of what arrives is. */
static int set_ce(struct __sk_buff *skb)
{
	__u8 head[2], marked;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, head, sizeof(head)))
		return 0;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		marked = head[1] | 3;
		/* The first word of the header is the one that changes. */
		if (bpf_l3_csum_replace(skb, ETH_HLEN + offsetof(struct iphdr, check),
			    bpf_htons(head[0] << 8 | head[1]), bpf_htons(head[0] << 8 | marked), 2))
			return 0;
	} else {
		marked = head[1] | 3 << 4;
	}
	return bpf_skb_store_bytes(skb, ETH_HLEN + 1, &marked, 1, 0) == 0;
}

SEC("tc")
int mark(struct __sk_buff *skb)
{
	__u32 l4_off, l4_bytes;
	struct tcphdr tcp;
	__u8 ecn, proto;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		struct iphdr ip;

		if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
			return TC_ACT_OK;
		proto = ip.protocol;
		ecn = ip.tos & 3;
		l4_off = ETH_HLEN + sizeof(ip);
		l4_bytes = bpf_ntohs(ip.tot_len) - sizeof(ip);
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr ip;

		if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
			return TC_ACT_OK;
		proto = ip.nexthdr;
		ecn = ip.flow_lbl[0] >> 4 & 3;
		l4_off = ETH_HLEN + sizeof(ip);
		l4_bytes = bpf_ntohs(ip.payload_len);
	} else {
		return TC_ACT_OK;
	}
	if (proto != IPPROTO_TCP || bpf_skb_load_bytes(skb, l4_off, &tcp, sizeof(tcp)))
		return TC_ACT_OK;

	if (ecn == 0) {
		if (l4_bytes > tcp.doff * 4u)
			count(2);
	} else if (bpf_get_prandom_u32() % 100 < MARK_PERCENT && set_ce(skb)) {
		count(1);
	} else {
		count(0);
	}
	return TC_ACT_OK;
}

char program_license[] SEC("license") = "Dual BSD/GPL";
