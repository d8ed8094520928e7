/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Packets made byte by byte, with a naive checksum, so that what is tested is not tested with itself; and
 * mbufs without a pool or EAL, in heap buffers of exactly the packet's size, so that ASan sees one byte too
 * far.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <netinet/in.h>

#include <wire/build.h>

#define ETHERTYPE_IP4  0x0800
#define ETHERTYPE_IP6  0x86dd
#define ETHERTYPE_ARP  0x0806
#define ETHERTYPE_VLAN 0x8100

#define HOST_MAC  "\x02\x00\x00\x00\x00\x01"
#define PEER_MAC  "\x02\x00\x00\x00\x00\x99"
#define GROUP_MAC "\xff\xff\xff\xff\xff\xff"

struct frame {
	uint8_t b[2048];
	unsigned len;
	unsigned l3_off, l4_off;
};

static inline void put(struct frame *f, const void *bytes, unsigned count)
{
	assert_true(f->len + count <= sizeof(f->b));
	if (count > 0)
		memcpy(f->b + f->len, bytes, count);
	f->len += count;
}

static inline void set16(uint8_t *at, unsigned value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static inline void put16(struct frame *f, unsigned value)
{
	uint8_t bytes[2];

	set16(bytes, value);
	put(f, bytes, 2);
}

static inline unsigned get16(const uint8_t *at)
{
	return (unsigned)at[0] << 8 | at[1];
}

static inline struct bw_ip ip(const char *text)
{
	struct bw_ip parsed;

	/* The mapped form is no address that anybody may configure, but it can come over the wire. */
	if (strncmp(text, "::ffff:", 7) == 0)
		return ip(text + 7);
	assert_int_equal(bw_ip_parse(text, &parsed), 0);
	return parsed;
}

/** The Internet checksum as RFC 1071 defines it, byte by byte. `sum` chains pieces of even length. */
static inline uint32_t naive_add(const uint8_t *bytes, unsigned count, uint32_t sum)
{
	for (unsigned i = 0; i < count; i++) {
		sum += i % 2 == 0 ? (uint32_t)bytes[i] << 8 : bytes[i];
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return sum;
}

static inline uint32_t naive_pseudo(
	const struct bw_ip *src, const struct bw_ip *dst, unsigned proto, unsigned bytes)
{
	const unsigned skip = bw_ip_is_v4(src) ? 12 : 0;
	uint8_t tail[8] = { 0 };

	set16(tail + 2, bytes);
	tail[7] = (uint8_t)proto;
	return naive_add(
		tail, 8, naive_add(dst->b + skip, 16 - skip, naive_add(src->b + skip, 16 - skip, 0)));
}

/** What is crafted. Zero means the usual. */
struct craft {
	const char *name;
	const char *src, *dst; /* of the family of `dst`; a peer's and ours by default */
	const char *src_mac, *dst_mac;
	bool is_tagged;
	uint16_t tci;
	uint16_t ethertype;         /* instead of the family's */
	uint8_t version_and_length; /* the IPv4 header's first byte, or the IPv6 one's */
	int length_delta;           /* added to the length field of the IP header */
	uint16_t fragment;          /* IPv4 flags and offset */
	const char *options;        /* IPv4 */
	unsigned options_len;
	const char *ext; /* IPv6 extension headers, the upper protocol named in the last */
	unsigned ext_len, ext_first;
	uint8_t proto, ttl, tos;
	const char *l4;
	unsigned l4_len;
	int l4_sum_off; /* by protocol; -1: leave the field alone */
	bool has_bad_ip_sum, has_bad_l4_sum;
	unsigned padding; /* bytes behind the IP packet */
	/* What is expected. */
	enum bw_pkt_kind kind;
	enum bw_counter drop;
};

static inline void craft_l4(
	struct frame *f, const struct craft *c, const struct bw_ip *src, const struct bw_ip *dst)
{
	int sum_off = c->l4_sum_off;
	uint32_t sum = 0;

	f->l4_off = f->len;
	put(f, c->l4, c->l4_len);
	if (sum_off == 0)
		sum_off = c->proto == IPPROTO_TCP                                  ? 16
			  : c->proto == IPPROTO_UDP                                ? 6
			  : c->proto == IPPROTO_ICMP || c->proto == IPPROTO_ICMPV6 ? 2
										   : -1;
	if (sum_off < 0 || (unsigned)sum_off + 2 > c->l4_len)
		return;
	set16(f->b + f->l4_off + sum_off, 0);
	if (c->proto != IPPROTO_ICMP)
		sum = naive_pseudo(src, dst, c->proto, c->l4_len);
	set16(f->b + f->l4_off + sum_off, 0xffff ^ naive_add(f->b + f->l4_off, c->l4_len, sum));
	if (c->has_bad_l4_sum)
		f->b[f->l4_off + (unsigned)sum_off] ^= 0x10;
}

static inline struct frame craft(const struct craft *c)
{
	const struct bw_ip dst = ip(c->dst != NULL ? c->dst : "192.0.2.2");
	/* "::ffff:" asks for an IPv6 header around a mapped address. */
	const bool is_v4 = bw_ip_is_v4(&dst) && !(c->dst != NULL && c->dst[0] == ':') &&
			   !(c->src != NULL && strchr(c->src, ':') != NULL);
	const struct bw_ip src = ip(c->src != NULL ? c->src : is_v4 ? "192.0.2.1" : "2001:db8::1");
	struct frame f = { .len = 0 };

	put(&f, c->dst_mac != NULL ? c->dst_mac : HOST_MAC, 6);
	put(&f, c->src_mac != NULL ? c->src_mac : PEER_MAC, 6);
	if (c->is_tagged) {
		put16(&f, ETHERTYPE_VLAN);
		put16(&f, c->tci);
	}
	put16(&f, c->ethertype != 0 ? c->ethertype : is_v4 ? ETHERTYPE_IP4 : ETHERTYPE_IP6);
	f.l3_off = f.len;
	if (is_v4) {
		const unsigned header_len = 20 + c->options_len;
		uint8_t header[20] = { 0 };

		header[0] =
			c->version_and_length != 0 ? c->version_and_length : (uint8_t)(0x40 | header_len / 4);
		header[1] = c->tos;
		set16(header + 2, (unsigned)((int)(header_len + c->l4_len) + c->length_delta));
		set16(header + 4, 0x1234);
		set16(header + 6, c->fragment);
		header[8] = c->ttl != 0 ? c->ttl : 64;
		header[9] = c->proto;
		memcpy(header + 12, src.b + 12, 4);
		memcpy(header + 16, dst.b + 12, 4);
		put(&f, header, 20);
		put(&f, c->options, c->options_len);
		set16(f.b + f.l3_off + 10, 0xffff ^ naive_add(f.b + f.l3_off, header_len, 0));
		if (c->has_bad_ip_sum)
			f.b[f.l3_off + 10] ^= 1;
	} else {
		uint8_t header[40] = { 0 };

		header[0] = c->version_and_length != 0 ? c->version_and_length : 0x60;
		header[0] |= c->tos >> 4;
		header[1] = (uint8_t)(c->tos << 4);
		set16(header + 4, (unsigned)((int)(c->ext_len + c->l4_len) + c->length_delta));
		header[6] = c->ext_len != 0 ? (uint8_t)c->ext_first : c->proto;
		header[7] = c->ttl != 0 ? c->ttl : 64;
		memcpy(header + 8, src.b, 16);
		memcpy(header + 24, dst.b, 16);
		put(&f, header, 40);
		put(&f, c->ext, c->ext_len);
	}
	craft_l4(&f, c, &src, &dst);
	for (unsigned i = 0; i < c->padding; i++)
		put(&f, "\xee", 1);
	return f;
}

/** An mbuf whose buffer has `headroom` and `tailroom` around the bytes, and not one more. */
static inline struct rte_mbuf *mbuf_of(
	const void *bytes, unsigned count, unsigned headroom, unsigned tailroom)
{
	struct rte_mbuf *m = aligned_alloc(RTE_CACHE_LINE_MIN_SIZE, sizeof(*m));

	memset(m, 0, sizeof(*m));
	m->buf_addr = malloc(headroom + count + tailroom);
	m->buf_len = (uint16_t)(headroom + count + tailroom);
	m->data_off = (uint16_t)headroom;
	m->data_len = (uint16_t)count;
	m->pkt_len = count;
	m->nb_segs = 1;
	rte_mbuf_refcnt_set(m, 1);
	if (count > 0)
		memcpy(rte_pktmbuf_mtod(m, void *), bytes, count);
	return m;
}

static inline struct rte_mbuf *mbuf_of_frame(const struct frame *f)
{
	return mbuf_of(f->b, f->len, 0, 0);
}

/** The bytes cut in two segments. */
static inline struct rte_mbuf *mbuf_in_two(const uint8_t *bytes, unsigned count, unsigned cut)
{
	struct rte_mbuf *m = mbuf_of(bytes, cut, 0, 0);

	m->next = mbuf_of(bytes + cut, count - cut, 0, 0);
	m->nb_segs = 2;
	m->pkt_len = count;
	return m;
}

static inline void mbuf_free(struct rte_mbuf *m)
{
	while (m != NULL) {
		struct rte_mbuf *next = m->next;

		free(m->buf_addr);
		free(m);
		m = next;
	}
}

static inline uint64_t random_next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}
