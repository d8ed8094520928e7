/* SPDX-License-Identifier: BSD-3-Clause */
/** Frames for tests of who gets them, from 192.0.2.9 or 2001:db8::9. Checksums are nobody's business there. */
#pragma once

#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <base/addr.h>

#define FRAME_MAX 512

struct frame {
	uint8_t b[FRAME_MAX];
	unsigned bytes;
};

static const struct bw_mac ours = { { 2, 0, 0, 0, 0, 2 } }, theirs = { { 2, 0, 0, 0, 0, 1 } };

static inline void put(struct frame *f, const void *data, unsigned bytes)
{
	assert_true(f->bytes + bytes <= FRAME_MAX);
	memcpy(f->b + f->bytes, data, bytes);
	f->bytes += bytes;
}

static inline void put8(struct frame *f, unsigned value)
{
	uint8_t byte = (uint8_t)value;

	put(f, &byte, 1);
}

static inline void put16(struct frame *f, unsigned value)
{
	put8(f, value >> 8);
	put8(f, value);
}

static inline void put_zeros(struct frame *f, unsigned bytes)
{
	while (bytes-- > 0)
		put8(f, 0);
}

static inline void put_ip(struct frame *f, const char *text)
{
	struct bw_ip ip;

	assert_int_equal(bw_ip_parse(text, &ip), 0);
	if (bw_ip_is_v4(&ip))
		put(f, &ip.w_be[3], 4);
	else
		put(f, ip.b, 16);
}

static inline struct frame ethernet(unsigned type)
{
	struct frame f = { .bytes = 0 };

	put(&f, &ours, 6);
	put(&f, &theirs, 6);
	put16(&f, type);
	return f;
}

struct header {
	const char *src, *dst;
	unsigned proto, id, fragment; /* the field of IPv4; of IPv6 the header's, and it has one if not 0 */
	unsigned options;             /* words of IPv4's; extension headers of IPv6 */
};

/* Version 4 or 6 by the addresses. */
static inline void put_header(struct frame *f, const struct header *ip)
{
	if (strchr(ip->src, ':') == NULL) {
		put8(f, 0x45 + ip->options);
		put8(f, 0);
		put16(f, 200);
		put16(f, ip->id);
		put16(f, ip->fragment);
		put8(f, 64);
		put8(f, ip->proto);
		put16(f, 0);
		put_ip(f, ip->src);
		put_ip(f, ip->dst);
		put_zeros(f, 4 * ip->options);
		return;
	}
	put8(f, 0x60);
	put_zeros(f, 3);
	put16(f, 200);
	put8(f, ip->options > 0 ? IPPROTO_DSTOPTS : ip->fragment != 0 ? IPPROTO_FRAGMENT : ip->proto);
	put8(f, 64);
	put_ip(f, ip->src);
	put_ip(f, ip->dst);
	for (unsigned i = 1; i <= ip->options; i++) {
		put8(f, i < ip->options ? IPPROTO_DSTOPTS : ip->fragment != 0 ? IPPROTO_FRAGMENT : ip->proto);
		put8(f, 1); /* 16 bytes */
		put_zeros(f, 14);
	}
	if (ip->fragment != 0) {
		put8(f, ip->proto);
		put8(f, 0);
		put16(f, ip->fragment);
		put16(f, 0);
		put16(f, ip->id);
	}
}

static inline void put_ports(struct frame *f, unsigned source, unsigned dest, unsigned flags)
{
	put16(f, source);
	put16(f, dest);
	put_zeros(f, 9);
	put8(f, flags);
	put_zeros(f, 30);
}

static inline struct frame packet(const struct header *ip, unsigned source, unsigned dest, unsigned flags)
{
	struct frame f = ethernet(strchr(ip->src, ':') == NULL ? 0x0800 : 0x86dd);

	put_header(&f, ip);
	put_ports(&f, source, dest, flags);
	return f;
}

#define TCP4(...) packet(&(struct header){ "192.0.2.9", "192.0.2.2", IPPROTO_TCP }, __VA_ARGS__)
#define SYN       0x02
#define ACK       0x10

/** An AH of 16 bytes, and a port of ours so far behind its beginning. */
static inline struct frame authenticated(unsigned ports_at)
{
	const struct header ip = { "2001:db8::9", "2001:db8::2", IPPROTO_AH };
	struct frame f = ethernet(0x86dd);

	put_header(&f, &ip);
	put8(&f, IPPROTO_TCP);
	put8(&f, 2);
	put_zeros(&f, ports_at - 2);
	put_ports(&f, 4000, 80, SYN);
	return f;
}

static inline struct frame arp(const char *sender, const char *target)
{
	struct frame f = ethernet(0x0806);

	memset(f.b, 0xff, 6);
	put(&f, "\0\1\x08\0\6\4\0\1", 8);
	put(&f, &theirs, 6);
	put_ip(&f, sender);
	put_zeros(&f, 6);
	put_ip(&f, target);
	put_zeros(&f, 18);
	return f;
}

static inline struct frame solicit(const char *target, unsigned type)
{
	struct frame f = ethernet(0x86dd);

	f.b[0] = f.b[1] = 0x33;
	put_header(&f, &(struct header){ "2001:db8::9", "ff02::1:ff00:7", IPPROTO_ICMPV6 });
	put8(&f, type);
	put_zeros(&f, 7);
	put_ip(&f, target);
	put_zeros(&f, 8);
	return f;
}

static inline struct frame icmp(
	bool is_v6, unsigned type, const char *quoted_src, unsigned source, unsigned quoted_options)
{
	struct frame f = ethernet(is_v6 ? 0x86dd : 0x0800);

	put_header(&f, &(struct header){ is_v6 ? "2001:db8::1" : "192.0.2.1",
			       is_v6 ? "2001:db8::2" : "192.0.2.2", is_v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP });
	put8(&f, type);
	put_zeros(&f, 7);
	put_header(&f, &(struct header){ quoted_src, is_v6 ? "2001:db8::9" : "203.0.113.9", IPPROTO_TCP,
			       .options = quoted_options });
	put16(&f, source);
	put16(&f, 4000);
	put_zeros(&f, 4);
	return f;
}

static inline struct frame behind_fragment_header(bool is_first)
{
	const struct header fragment = { "2001:db8::9", "2001:db8::2", IPPROTO_DSTOPTS, .id = 70,
		.fragment = is_first ? 1 : 80 };
	struct frame f = ethernet(0x86dd);

	put_header(&f, &fragment);
	if (is_first) {
		put8(&f, IPPROTO_TCP);
		put_zeros(&f, 7);
	}
	put_ports(&f, 4000, 80, SYN);
	return f;
}

static inline struct frame tagged(struct frame f, unsigned tci)
{
	struct frame out = { .bytes = 0 };

	put(&out, f.b, 12);
	put16(&out, 0x8100);
	put16(&out, tci);
	put(&out, f.b + 12, f.bytes - 12);
	return out;
}
