/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * For AF_PACKET, whose sockets are given a copy before tc sees the packet:
 *
 *     steer_socket   the sockets' filter: they are shown Barewire's packets and no others
 *     steer_tc       what the sockets were shown, the kernel is not
 */
#include <linux/pkt_cls.h>

#include "classify.h"

#define NO_VLAN         0xffff /* that anybody asks for: the tag is a provider's (802.1ad) */
#define PACKET_OUTGOING 4      /* linux/if_packet.h wants the C library */

static __always_inline long load(const struct packet *p, __u32 off, void *to, __u32 bytes)
{
	return off > OFF_MAX ? -1 : bpf_skb_load_bytes(p->ctx, off, to, bytes);
}

static __always_inline __u16 vlan_of(const struct packet *p)
{
	const struct __sk_buff *skb = p->ctx;

	if (!skb->vlan_present)
		return 0;
	return skb->vlan_proto == bpf_htons(ETH_P_8021Q) ? skb->vlan_tci & 0xfff : NO_VLAN;
}

SEC("socket")
int steer_socket(struct __sk_buff *skb)
{
	struct packet p = { .ctx = skb };
	__u32 verdict;

	if (skb->pkt_type == PACKET_OUTGOING)
		return 0;
	verdict = decide(&p, true, false);
	if (verdict == STEER_PASSED) /* steer_tc counts it */
		return 0;
	count(verdict);
	return verdict == STEER_TAKEN ? -1 : 0;
}

SEC("tc")
int steer_tc(struct __sk_buff *skb)
{
	struct packet p = { .ctx = skb };
	__u32 verdict = decide(&p, false, true);

	if (verdict != STEER_TAKEN) /* steer_socket has counted it */
		count(verdict);
	return verdict == STEER_PASSED ? TC_ACT_UNSPEC : TC_ACT_SHOT;
}
