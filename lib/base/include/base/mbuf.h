/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * What every mbuf of ours has beyond DPDK's own: a private area in which the send queue keeps its notes.
 * Pools are made by `nic` with this much, and with DPDK's headroom of 128 bytes, which holds the largest
 * header we prepend: Ethernet + VLAN (18) + IPv6 (40) + TCP with options (60) = 118.
 */
#pragma once

#include <rte_mbuf.h>

#include <base/types.h>

#define BW_MBUF_PRIV_BYTES 64
_Static_assert(RTE_PKTMBUF_HEADROOM >= 118, "headers are prepended in the headroom");
