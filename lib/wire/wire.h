/* SPDX-License-Identifier: BSD-3-Clause */
/** What the files of this room share. */
#pragma once

#include <errno.h>
#include <string.h>

#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>

#include <rte_byteorder.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include <wire/packet.h>

#define BW_TCP_OPT_END            0
#define BW_TCP_OPT_NOP            1
#define BW_TCP_OPT_MSS            2
#define BW_TCP_OPT_WSCALE         3
#define BW_TCP_OPT_SACK_PERMITTED 4
#define BW_TCP_OPT_SACK           5
#define BW_TCP_OPT_TIMESTAMP      8

#define BW_TCP_HEADER_MIN 20
#define BW_TCP_HEADER_MAX 60
#define BW_UDP_HEADER     8
#define BW_IP4_HEADER     20
#define BW_IP6_HEADER     40
#define BW_ARP_BYTES      28

/** The fixed part of every ICMP and ICMPv6 message that we know: type, code, checksum, one 32-bit field. */
#define BW_ICMP_HEADER 8

/** Loads and stores at any alignment. */
static inline uint16_t bw_wire__load16(const void *at)
{
	uint16_t be;

	memcpy(&be, at, sizeof(be));
	return rte_be_to_cpu_16(be);
}

static inline uint32_t bw_wire__load32(const void *at)
{
	uint32_t be;

	memcpy(&be, at, sizeof(be));
	return rte_be_to_cpu_32(be);
}

static inline uint8_t *bw_wire__store16(uint8_t *at, uint16_t value)
{
	const uint16_t be = rte_cpu_to_be_16(value);

	memcpy(at, &be, sizeof(be));
	return at + sizeof(be);
}

static inline uint8_t *bw_wire__store32(uint8_t *at, uint32_t value)
{
	const uint32_t be = rte_cpu_to_be_32(value);

	memcpy(at, &be, sizeof(be));
	return at + sizeof(be);
}

static inline struct bw_ip bw_wire__load_ip4(const void *at)
{
	uint32_t be;

	memcpy(&be, at, sizeof(be));
	return bw_ip_from_v4(be);
}

static inline struct bw_ip bw_wire__load_ip6(const void *at)
{
	struct bw_ip ip;

	memcpy(ip.b, at, sizeof(ip.b));
	return ip;
}
