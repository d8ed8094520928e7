/* SPDX-License-Identifier: BSD-3-Clause */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

#include <base/addr.h>
#include <base/assert.h>

static uint32_t v4_host(const struct bw_ip *ip)
{
	return ntohl(bw_ip_v4_be(ip));
}

bool bw_ip_is_unspecified(const struct bw_ip *ip)
{
	return (ip->w_be[0] | ip->w_be[1] | ip->w_be[3]) == 0 && (ip->w_be[2] == 0 || bw_ip_is_v4(ip));
}

bool bw_ip_is_multicast(const struct bw_ip *ip)
{
	return bw_ip_is_v4(ip) ? v4_host(ip) >> 28 == 0xe : ip->b[0] == 0xff;
}

bool bw_ip_is_loopback(const struct bw_ip *ip)
{
	if (bw_ip_is_v4(ip))
		return v4_host(ip) >> 24 == 127;
	return (ip->w_be[0] | ip->w_be[1] | ip->w_be[2]) == 0 && ip->w_be[3] == htonl(1);
}

bool bw_ip_is_link_local(const struct bw_ip *ip)
{
	if (bw_ip_is_v4(ip))
		return v4_host(ip) >> 16 == 0xa9fe;
	return ip->b[0] == 0xfe && (ip->b[1] & 0xc0) == 0x80;
}

/* RFC 6890, section 2.2.2, with what its registry has added: address, prefix length. Not global, all of them. */
static const struct {
	uint32_t net;
	uint8_t len;
} special_v4[] = {
	{ 0x00000000, 8 },  /* 0.0.0.0/8: this network */
	{ 0x0a000000, 8 },  /* 10.0.0.0/8: private */
	{ 0x64400000, 10 }, /* 100.64.0.0/10: shared */
	{ 0x7f000000, 8 },  /* 127.0.0.0/8: loopback */
	{ 0xa9fe0000, 16 }, /* 169.254.0.0/16: link-local */
	{ 0xac100000, 12 }, /* 172.16.0.0/12: private */
	{ 0xc0000000, 24 }, /* 192.0.0.0/24: IETF protocol assignments */
	{ 0xc0000200, 24 }, /* 192.0.2.0/24: documentation */
	{ 0xc0a80000, 16 }, /* 192.168.0.0/16: private */
	{ 0xc6120000, 15 }, /* 198.18.0.0/15: benchmarking */
	{ 0xc6336400, 24 }, /* 198.51.100.0/24: documentation */
	{ 0xcb007100, 24 }, /* 203.0.113.0/24: documentation */
	{ 0xe0000000, 3 },  /* 224.0.0.0/4 and 240.0.0.0/4: groups, reserved, broadcast */
};

/* Within 2000::/3; the first 48 bits are enough. */
static const struct {
	uint64_t net;
	uint8_t len;
} special_v6[] = {
	{ 0x200100000000, 23 }, /* 2001::/23: IETF protocol assignments */
	{ 0x20010db80000, 32 }, /* 2001:db8::/32: documentation */
	{ 0x3fff00000000, 20 }, /* 3fff::/20: documentation (RFC 9637) */
};

static bool is_special_v4(uint32_t ip, unsigned prefix_len)
{
	for (unsigned i = 0; i < BW_ARRAY_LEN(special_v4); i++)
		if (special_v4[i].len <= prefix_len &&
			(ip ^ special_v4[i].net) >> (32 - special_v4[i].len) == 0)
			return true;
	return false;
}

/* 64:ff9b::/96 (RFC 6052): a translator has all of IPv4's Internet behind it. */
static bool has_nat64(const struct bw_ip *ip, unsigned prefix_len)
{
	const struct bw_cidr nat64 = { .ip = { .b = { 0, 0x64, 0xff, 0x9b } },
		.prefix_len = (uint8_t)BW_MIN(prefix_len, 96u) };

	return bw_cidr_contains(&nat64, ip);
}

static bool is_special_v6(const struct bw_ip *ip, unsigned prefix_len)
{
	uint64_t high = 0;

	if (has_nat64(ip, prefix_len))
		return false;
	for (unsigned i = 0; i < 6; i++)
		high = high << 8 | ip->b[i];
	if (high >> 45 != 1)
		return prefix_len >= 3;
	for (unsigned i = 0; i < BW_ARRAY_LEN(special_v6); i++)
		if (special_v6[i].len <= prefix_len &&
			(high ^ special_v6[i].net) >> (48 - special_v6[i].len) == 0)
			return true;
	/* 6to4 (RFC 3056) is as global as the IPv4 address in it. */
	return high >> 32 == 0x2002 && prefix_len >= 16 && is_special_v4((uint32_t)high, prefix_len - 16);
}

bool bw_cidr_is_global(const struct bw_cidr *cidr)
{
	return bw_ip_is_v4(&cidr->ip) ? !is_special_v4(v4_host(&cidr->ip), cidr->prefix_len)
				      : !is_special_v6(&cidr->ip, cidr->prefix_len);
}

bool bw_ip_is_global(const struct bw_ip *ip)
{
	struct bw_cidr host = { .ip = *ip, .prefix_len = bw_ip_is_v4(ip) ? 32 : 128 };

	return bw_cidr_is_global(&host);
}

/* Prefix length in the 128-bit form, in which an IPv4 address has 96 bits in front of it. */
static unsigned prefix_bits(const struct bw_cidr *cidr)
{
	return cidr->prefix_len + (bw_ip_is_v4(&cidr->ip) ? 96u : 0u);
}

bool bw_cidr_contains(const struct bw_cidr *cidr, const struct bw_ip *ip)
{
	const unsigned bits = prefix_bits(cidr);
	const unsigned bytes = bits / 8;

	/* ::/0 holds every IPv6 address, and the mapped form of IPv4 is only ours. */
	if (bw_ip_is_v4(&cidr->ip) != bw_ip_is_v4(ip))
		return false;
	if (memcmp(cidr->ip.b, ip->b, bytes) != 0)
		return false;
	return bits % 8 == 0 || (cidr->ip.b[bytes] ^ ip->b[bytes]) >> (8 - bits % 8) == 0;
}

bool bw_cidr_is_broadcast(const struct bw_cidr *cidr, const struct bw_ip *ip)
{
	/* RFC 3021: a /31 has no broadcast address; a /32 is one host. */
	if (!bw_ip_is_v4(&cidr->ip) || cidr->prefix_len >= 31 || !bw_cidr_contains(cidr, ip))
		return false;

	const uint32_t host_mask = UINT32_MAX >> cidr->prefix_len;
	return (v4_host(ip) & host_mask) == host_mask;
}

int bw_ip_parse(const char *text, struct bw_ip *ip)
{
	struct bw_ip parsed;
	uint32_t v4_be;

	if (inet_pton(AF_INET, text, &v4_be) == 1) {
		*ip = bw_ip_from_v4(v4_be);
		return 0;
	}
	/*
	 * ::ffff:a.b.c.d would silently become IPv4: no address on any wire looks like that, so it is a
	 * mistake.
	 */
	if (inet_pton(AF_INET6, text, parsed.b) != 1 || bw_ip_is_v4(&parsed))
		return -EINVAL;
	*ip = parsed;
	return 0;
}

int bw_cidr_parse(const char *text, struct bw_cidr *cidr)
{
	const char *const slash = strchr(text, '/');
	char ip_text[BW_IP_STRLEN];
	struct bw_cidr parsed;
	unsigned prefix_len = 0;
	const char *digit;

	if (slash == NULL || (size_t)(slash - text) >= sizeof(ip_text))
		return -EINVAL;
	memcpy(ip_text, text, (size_t)(slash - text));
	ip_text[slash - text] = '\0';
	if (bw_ip_parse(ip_text, &parsed.ip) != 0)
		return -EINVAL;

	for (digit = slash + 1; *digit >= '0' && *digit <= '9' && prefix_len <= 128; digit++)
		prefix_len = prefix_len * 10 + (unsigned)(*digit - '0');
	if (digit == slash + 1 || *digit != '\0' || (slash[1] == '0' && digit != slash + 2))
		return -EINVAL;
	if (prefix_len > (bw_ip_is_v4(&parsed.ip) ? 32u : 128u))
		return -EINVAL;

	parsed.prefix_len = (uint8_t)prefix_len;
	*cidr = parsed;
	return 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int bw_mac_parse(const char *text, struct bw_mac *mac)
{
	struct bw_mac parsed;

	/* Each test ends the parse at the terminator, so the next one never looks behind it. */
	for (unsigned i = 0; i < 6; i++, text += 3) {
		const int high = hex_digit(text[0]);
		const int low = high < 0 ? -1 : hex_digit(text[1]);

		if (low < 0 || text[2] != (i < 5 ? ':' : '\0'))
			return -EINVAL;
		parsed.b[i] = (uint8_t)(high << 4 | low);
	}
	*mac = parsed;
	return 0;
}

char *bw_ip_format(const struct bw_ip *ip, char out[BW_IP_STRLEN])
{
	const bool is_v4 = bw_ip_is_v4(ip);
	const char *text =
		inet_ntop(is_v4 ? AF_INET : AF_INET6, is_v4 ? &ip->b[12] : ip->b, out, BW_IP_STRLEN);

	BW_ASSERT(text != NULL);
	return out;
}

char *bw_cidr_format(const struct bw_cidr *cidr, char out[BW_CIDR_STRLEN])
{
	char ip_text[BW_IP_STRLEN];

	snprintf(out, BW_CIDR_STRLEN, "%s/%u", bw_ip_format(&cidr->ip, ip_text), (unsigned)cidr->prefix_len);
	return out;
}

char *bw_mac_format(const struct bw_mac *mac, char out[BW_MAC_STRLEN])
{
	snprintf(out, BW_MAC_STRLEN, "%02x:%02x:%02x:%02x:%02x:%02x", mac->b[0], mac->b[1], mac->b[2],
		mac->b[3], mac->b[4], mac->b[5]);
	return out;
}
