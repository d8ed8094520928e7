/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * RSS: which queue the device brings a flow's packets to.
 *
 * The key repeats 16 bits, with which Toeplitz gives both directions of a flow the same hash (Woo and Park, 2012).
 * And more: the input's 16-bit words then all meet the same bits of the key, so the hash is one of their XOR. A port
 * for an active open is tried in some ten instructions.
 */
#include <rte_ethdev.h>

#include <base/log.h>
#include <nic/nic.h>

#include "internal.h"

#define KEY_WORD 0x6d5au

void bw_nic__rss_key(uint8_t key[BW_NIC__RSS_KEY_BYTES_MAX])
{
	for (unsigned i = 0; i < BW_NIC__RSS_KEY_BYTES_MAX; i++)
		key[i] = (uint8_t)(i % 2 == 0 ? KEY_WORD >> 8 : KEY_WORD);
}

bool bw_nic__rss_can(const struct rte_eth_dev_info *info)
{
	/* By the ports, too: a hash of the addresses would bring all of two hosts' connections to one core. */
	const uint64_t tcp = RTE_ETH_RSS_NONFRAG_IPV4_TCP | RTE_ETH_RSS_NONFRAG_IPV6_TCP;

	return info->hash_key_size > 0 && info->hash_key_size <= BW_NIC__RSS_KEY_BYTES_MAX &&
	       info->reta_size > 0 && info->reta_size <= RTE_ETH_RSS_RETA_SIZE_512 &&
	       rte_is_power_of_2(info->reta_size) && (info->flow_type_rss_offloads & tcp) == tcp;
}

int bw_nic__rss_read(struct bw_nic *nic, uint16_t reta_size)
{
	struct rte_eth_rss_reta_entry64 groups[RTE_ETH_RSS_RETA_SIZE_512 / RTE_ETH_RETA_GROUP_SIZE] = { 0 };
	int rc;

	for (unsigned i = 0; i < RTE_DIM(groups); i++)
		groups[i].mask = UINT64_MAX;
	rc = rte_eth_dev_rss_reta_query(nic->port_id, groups, reta_size);
	if (rc != 0)
		return rc;
	for (unsigned i = 0; i < reta_size; i++)
		nic->rss_queue[i] =
			(uint8_t)groups[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE];
	nic->rss_mask = (uint16_t)(reta_size - 1);
	return 0;
}

/** The 16-bit words of an address in the packet, XORed. */
static uint32_t fold(const struct bw_ip *ip)
{
	uint32_t words =
		bw_ip_is_v4(ip) ? bw_ip_v4_be(ip) : ip->w_be[0] ^ ip->w_be[1] ^ ip->w_be[2] ^ ip->w_be[3];

	return (words ^ words >> 16) & 0xffff;
}

uint32_t bw_nic__rss_hash(const struct bw_flow *flow)
{
	uint32_t x = __builtin_bswap16((uint16_t)(fold(&flow->local) ^ fold(&flow->remote) ^
						  flow->local_port_be ^ flow->remote_port_be));
	uint32_t key = KEY_WORD << 16 | KEY_WORD, hash = 0;

	/* Each bit of the input, the most significant first, adds the key's bits from its place on. */
	for (unsigned i = 0; i < 16; i++) {
		hash ^= key & -(x >> (15 - i) & 1);
		key = key << 1 | key >> 31;
	}
	return hash;
}

unsigned bw_nic_rss_queue(const struct bw_nic *nic, const struct bw_flow *flow)
{
	return nic->rss_queue[bw_nic__rss_hash(flow) & nic->rss_mask];
}
