/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Addresses. One type holds both families: IPv4 as the IPv4-mapped IPv6 address ::ffff:a.b.c.d
 * (RFC 4291 section 2.5.5.2), so tables and services have one case, not two.
 */
#pragma once

#include <string.h>

#include <base/types.h>

/** Network byte order. */
struct bw_ip {
	union {
		uint8_t b[16];
		uint32_t w_be[4];
	};
};

/** Ethernet address. */
struct bw_mac {
	uint8_t b[6];
};

/** An address with its prefix, as "192.0.2.2/24" says it: the host bits are kept. */
struct bw_cidr {
	struct bw_ip ip;
	uint8_t prefix_len; /* 0..32 for IPv4, 0..128 for IPv6 */
};

/** A connection's or datagram's addresses seen from this host. 36 bytes, no padding: hashed as bytes. */
struct bw_flow {
	struct bw_ip local, remote;
	uint16_t local_port_be, remote_port_be;
};
_Static_assert(sizeof(struct bw_flow) == 36, "hashed and compared as bytes");

#define BW_IP_STRLEN   46
#define BW_CIDR_STRLEN 50
#define BW_MAC_STRLEN  18

/** The first or second half. */
static inline uint64_t bw_ip_half(const struct bw_ip *ip, unsigned which)
{
	uint64_t half;

	memcpy(&half, &ip->b[8 * which], 8);
	return half;
}

static inline bool bw_ip_is_v4(const struct bw_ip *ip)
{
	return bw_ip_half(ip, 0) == 0 && ip->w_be[2] == __builtin_bswap32(0x0000ffffu);
}

static inline struct bw_ip bw_ip_from_v4(uint32_t v4_be)
{
	struct bw_ip ip = { .w_be = { 0, 0, __builtin_bswap32(0x0000ffffu), v4_be } };

	return ip;
}

/** Only for an address that bw_ip_is_v4(). */
static inline uint32_t bw_ip_v4_be(const struct bw_ip *ip)
{
	return ip->w_be[3];
}

static inline bool bw_ip_eq(const struct bw_ip *a, const struct bw_ip *b)
{
	return ((bw_ip_half(a, 0) ^ bw_ip_half(b, 0)) | (bw_ip_half(a, 1) ^ bw_ip_half(b, 1))) == 0;
}

static inline bool bw_flow_eq(const struct bw_flow *a, const struct bw_flow *b)
{
	uint32_t a_ports, b_ports;

	memcpy(&a_ports, &a->local_port_be, 4);
	memcpy(&b_ports, &b->local_port_be, 4);
	return a_ports == b_ports && bw_ip_eq(&a->remote, &b->remote) && bw_ip_eq(&a->local, &b->local);
}

bool bw_ip_is_unspecified(const struct bw_ip *ip); /* 0.0.0.0 or :: */
bool bw_ip_is_multicast(const struct bw_ip *ip);   /* 224/4 or ff00::/8 */
bool bw_ip_is_loopback(const struct bw_ip *ip);    /* 127/8 or ::1 */
bool bw_ip_is_link_local(const struct bw_ip *ip);  /* 169.254/16 or fe80::/10 */
/**
 * May it be a host anywhere on the Internet? Not so: what RFC 6890 and its registry set aside, such as private networks
 * (RFC 1918, RFC 4193), shared address space, link-local, loopback, documentation, benchmarking; groups; and in IPv6
 * all that is not global unicast (2000::/3) or NAT64's prefix (64:ff9b::/96).
 */
bool bw_ip_is_global(const struct bw_ip *ip);
/** May one of its addresses? Not so: none of them, as one of those sets has it whole. */
bool bw_cidr_is_global(const struct bw_cidr *cidr);
/** Does the prefix hold the address? False across families. */
bool bw_cidr_contains(const struct bw_cidr *cidr, const struct bw_ip *ip);
/** The prefix's IPv4 broadcast address is `ip`. Always false for IPv6, /31 and /32. */
bool bw_cidr_is_broadcast(const struct bw_cidr *cidr, const struct bw_ip *ip);

/** 0, or -EINVAL. Strict: nothing before or after, prefix within the family's range. */
int bw_ip_parse(const char *text, struct bw_ip *ip);
int bw_cidr_parse(const char *text, struct bw_cidr *cidr);
int bw_mac_parse(const char *text, struct bw_mac *mac);

/** All three return `out`. */
char *bw_ip_format(const struct bw_ip *ip, char out[BW_IP_STRLEN]);
char *bw_cidr_format(const struct bw_cidr *cidr, char out[BW_CIDR_STRLEN]);
char *bw_mac_format(const struct bw_mac *mac, char out[BW_MAC_STRLEN]);
