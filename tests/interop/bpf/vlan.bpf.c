/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * A trunk port: tags what the client sends with VLAN 42 and takes the tag off what it receives. Untagged and
 * otherwise tagged packets are dropped on the way in. A tc program, as not every kernel has VLAN interfaces.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define VLAN 42

SEC("tc/egress")
int tag(struct __sk_buff *skb)
{
	return bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), VLAN) ? TC_ACT_SHOT : TC_ACT_OK;
}

SEC("tc/ingress")
int untag(struct __sk_buff *skb)
{
	if (!skb->vlan_present || (skb->vlan_tci & 0xfff) != VLAN)
		return TC_ACT_SHOT;
	return bpf_skb_vlan_pop(skb) ? TC_ACT_SHOT : TC_ACT_OK;
}

char program_license[] SEC("license") = "Dual BSD/GPL";
