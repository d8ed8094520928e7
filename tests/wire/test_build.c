/* SPDX-License-Identifier: BSD-3-Clause */
/* What is built is parsed again, here by the other host's eyes: we are the peer of whoever receives. */
#include <errno.h>

#include "craft.h"

#define A4 "192.0.2.2"
#define B4 "192.0.2.1"
#define A6 "2001:db8::2"
#define B6 "2001:db8::1"

#define HEADROOM 128

static const struct bw_mac a_mac = { HOST_MAC }, b_mac = { PEER_MAC };
static struct bw_cidr b_addrs[2];
static struct bw_wire_host b_host;

static int set_up(void **state)
{
	assert_int_equal(bw_cidr_parse(B4 "/24", &b_addrs[0]), 0);
	assert_int_equal(bw_cidr_parse(B6 "/64", &b_addrs[1]), 0);
	b_host = (struct bw_wire_host){ .mac = b_mac, .addrs = b_addrs, .addr_count = 2 };
	return 0;
}

static struct rte_mbuf *empty_mbuf(void)
{
	return mbuf_of("", 0, HEADROOM, 2048);
}

/*
 * The rest of the packet around what is in the mbuf, then B's parse of it, from a buffer without room to
 * spare.
 */
static struct rte_mbuf *send_to_b(struct rte_mbuf *m, const struct bw_ip_out *out,
	const struct bw_mac *dst_mac, uint16_t ethertype, struct bw_pkt *pkt)
{
	struct rte_mbuf *received;

	if (out != NULL)
		bw_ip_prepend(m, out);
	bw_eth_prepend(m, &a_mac, dst_mac, ethertype, b_host.vlan);
	assert_int_equal(m->l2_len, b_host.vlan != 0 ? 18 : 14);
	received = mbuf_of(rte_pktmbuf_mtod(m, void *), m->data_len, 0, 0);
	mbuf_free(m);
	bw_pkt_parse(received, &b_host, pkt);
	return received;
}

/*
 * ------------------------------------------------------------------------------------------------------- TCP
 */

static struct bw_tcp_fields fields_of(unsigned which, unsigned sack_count, uint8_t flags)
{
	struct bw_tcp_fields fields = {
		.seq = 0xfedcba98,
		.ack = 0x01234567,
		.window = 0xabcd,
		.urgent = 0x0102,
		.flags = flags,
		.has_mss = which & 1,
		.has_wscale = (which & 2) != 0,
		.has_timestamp = (which & 4) != 0,
		.has_sack_permitted = (which & 8) != 0,
		.sack_count = (uint8_t)sack_count,
	};

	fields.mss = fields.has_mss ? 1460 : 0;
	fields.wscale = fields.has_wscale ? 14 : 0;
	fields.ts_value = fields.has_timestamp ? 0x11223344 : 0;
	fields.ts_echo = fields.has_timestamp ? 0x55667788 : 0;
	for (unsigned i = 0; i < sack_count; i++)
		fields.sack[i] = (struct bw_sack_block){ 1000 * i + 1, 1000 * i + 501 };
	return fields;
}

static void assert_fields_equal(const struct bw_tcp_fields *got, const struct bw_tcp_fields *want)
{
	assert_int_equal(got->seq, want->seq);
	assert_int_equal(got->ack, want->ack);
	assert_int_equal(got->window, want->window);
	assert_int_equal(got->urgent, want->urgent);
	assert_int_equal(got->flags, want->flags);
	assert_int_equal(got->has_mss, want->has_mss);
	assert_int_equal(got->mss, want->mss);
	assert_int_equal(got->has_wscale, want->has_wscale);
	assert_int_equal(got->wscale, want->wscale);
	assert_int_equal(got->has_timestamp, want->has_timestamp);
	assert_int_equal(got->ts_value, want->ts_value);
	assert_int_equal(got->ts_echo, want->ts_echo);
	assert_int_equal(got->has_sack_permitted, want->has_sack_permitted);
	assert_int_equal(got->sack_count, want->sack_count);
	assert_memory_equal(got->sack, want->sack, want->sack_count * sizeof(want->sack[0]));
}

static void tcp_headers_come_back_with_every_combination_of_options(void **state)
{
	for (unsigned which = 0; which < 16; which++) {
		for (unsigned sack_count = 0; sack_count <= BW_SACK_BLOCKS_MAX; sack_count++) {
			struct bw_tcp_fields fields = fields_of(which, sack_count, BW_TCP_SYN | BW_TCP_ACK),
					     got;
			const unsigned length = bw_tcp_header_len(&fields);
			uint8_t *header = malloc(length);

			assert_in_range(length, 20, 60);
			assert_int_equal(length % 4, 0);
			assert_int_equal(bw_tcp_header_write(header, htons(1), htons(2), &fields), length);
			assert_memory_equal(header, "\x00\x01\x00\x02", 4);
			assert_int_equal(header[12] >> 4, length / 4);
			assert_int_equal(get16(header + 16), 0);

			bw_tcp_fields_parse(header, length, &got);
			/*
			 * Blocks are left out from the last when there is no room: 8 bytes for each, 4 for
			 * the kind.
			 */
			if (got.sack_count < sack_count) {
				assert_true(length + (got.sack_count == 0 ? 12 : 8) > 60);
				fields.sack_count = got.sack_count;
			}
			assert_fields_equal(&got, &fields);
			free(header);
		}
	}
}

static void three_sack_blocks_fit_beside_a_timestamp_and_four_alone(void **state)
{
	struct bw_tcp_fields fields = fields_of(4, 4, BW_TCP_ACK), got;
	uint8_t header[60];

	assert_int_equal(bw_tcp_header_write(header, 0, 0, &fields), 60);
	bw_tcp_fields_parse(header, 60, &got);
	assert_int_equal(got.sack_count, 3);
	fields = fields_of(0, 4, BW_TCP_ACK);
	assert_int_equal(bw_tcp_header_write(header, 0, 0, &fields), 56);
	bw_tcp_fields_parse(header, 56, &got);
	assert_int_equal(got.sack_count, 4);
}

static void tcp_options_have_the_layout_that_everybody_knows(void **state)
{
	static const uint8_t syn[] =
		"\x02\x04\x05\xb4\x04\x02\x08\x0a\x11\x22\x33\x44\x55\x66\x77\x88\x01\x03\x03\x0e";
	static const uint8_t ack[] = "\x01\x01\x08\x0a\x11\x22\x33\x44\x55\x66\x77\x88";
	struct bw_tcp_fields fields = fields_of(15, 0, BW_TCP_SYN);
	uint8_t header[60];

	assert_int_equal(bw_tcp_header_write(header, 0, 0, &fields), 40);
	assert_memory_equal(header + 20, syn, 20);
	fields = fields_of(4, 0, BW_TCP_ACK);
	assert_int_equal(bw_tcp_header_write(header, 0, 0, &fields), 32);
	assert_memory_equal(header + 20, ack, 12);
}

static void parse_options(const char *options, unsigned bytes, uint8_t flags, struct bw_tcp_fields *got)
{
	uint8_t *header = calloc(1, 20 + bytes);

	header[13] = flags;
	memcpy(header + 20, options, bytes);
	bw_tcp_fields_parse(header, 20 + bytes, got);
	free(header);
}

/** What has not the length of its kind is ignored, with what follows if nobody can tell where that begins. */
static void tcp_options_of_illegal_length_are_ignored(void **state)
{
	static const struct {
		const char *bytes;
		unsigned count;
		bool goes_on; /* to the MSS behind it */
	} lists[] = {
		{ "\x02\x03\x05\x01\x02\x04\x05\xb4", 8, true },                  /* MSS of 1 byte */
		{ "\x02\x05\x01\x01\x01\x02\x04\x05\xb4\x01\x01\x01", 12, true }, /* of 3 bytes */
		{ "\x02\x04\x00\x00\x02\x04\x05\xb4", 8, true },                  /* MSS of 0 */
		{ "\x03\x04\x07\x07\x02\x04\x05\xb4", 8, true }, /* window scale of 2 bytes */
		{ "\x04\x03\x00\x01\x02\x04\x05\xb4", 8, true }, /* SACK-permitted of 1 byte */
		{ "\x08\x08\x00\x00\x00\x00\x00\x00\x02\x04\x05\xb4", 12, true }, /* timestamp of 6 bytes */
		{ "\x01\x01\x05\x02\x02\x04\x05\xb4", 8, true },                  /* no SACK block */
		{ "\x05\x08\x00\x00\x00\x00\x00\x00\x02\x04\x05\xb4", 12, true }, /* three quarters of one */
		{ "\x02\x00\x05\xb4\x02\x04\x05\xb4", 8, false },                 /* length 0 */
		{ "\x1e\x01\x00\x00\x02\x04\x05\xb4", 8, false },                 /* length 1 */
		{ "\x1e\x09\x00\x00\x02\x04\x05\xb4", 8, false },                 /* beyond the header */
		{ "\x01\x01\x01\x02", 4, false },                                 /* without a length */
		{ "\x08\x0a\x00\x00", 4, false },                                 /* cut */
	};
	static const struct bw_tcp_fields nothing = { .flags = BW_TCP_SYN };
	struct bw_tcp_fields got;

	for (unsigned i = 0; i < BW_ARRAY_LEN(lists); i++) {
		parse_options(lists[i].bytes, lists[i].count, BW_TCP_SYN, &got);
		assert_int_equal(got.has_mss, lists[i].goes_on);
		assert_int_equal(got.mss, lists[i].goes_on ? 1460 : 0);
		got.has_mss = false;
		got.mss = 0;
		assert_fields_equal(&got, &nothing);
	}
	/* What came before counts. */
	parse_options("\x03\x03\x07\x01\x1e\x00\x00\x00", 8, BW_TCP_SYN, &got);
	assert_true(got.has_wscale && got.wscale == 7);
}

static void tcp_options_that_are_strange_are_lived_with(void **state)
{
	struct bw_tcp_fields got;

	/* Unknown: skipped. Behind the end: not read. */
	parse_options("\x1e\x04\xaa\xbb\xfd\x02\x00\x02\x04\x05\xb4\xff", 12, BW_TCP_SYN, &got);
	assert_false(got.has_mss);
	/* A window scale that is too large (RFC 7323 section 2.3). */
	parse_options("\x03\x03\xff\x00", 4, BW_TCP_SYN, &got);
	assert_int_equal(got.wscale, 14);
	/* What belongs into a SYN means nothing elsewhere. */
	parse_options("\x02\x04\x05\xb4\x01\x03\x03\x07\x01\x01\x04\x02", 12, BW_TCP_ACK, &got);
	assert_false(got.has_mss || got.has_wscale || got.has_sack_permitted);
	assert_int_equal(got.mss | got.wscale, 0);
	/* A timestamp at an odd place. */
	parse_options("\x08\x0a\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00", 12, BW_TCP_ACK, &got);
	assert_true(got.has_timestamp);
	assert_int_equal(got.ts_echo, 2);
}

static void whole_tcp_segments_of_both_families_tagged_or_not(void **state)
{
	for (unsigned way = 0; way < 4; way++) {
		const bool is_v4 = way % 2 == 0;
		const struct bw_ip src = ip(is_v4 ? A4 : A6), dst = ip(is_v4 ? B4 : B6);
		const struct bw_tcp_fields fields = fields_of(4, 1, BW_TCP_ACK | BW_TCP_PSH);
		const struct bw_ip_out out = {
			.src = &src, .dst = &dst, .proto = IPPROTO_TCP, .ttl = 64, .tos = 0x2e
		};
		struct rte_mbuf *m = empty_mbuf();
		const unsigned length = bw_tcp_header_len(&fields);
		uint8_t *header = (uint8_t *)rte_pktmbuf_append(m, (uint16_t)(length + 5));
		uint16_t sum;
		struct bw_pkt pkt;

		b_host.vlan = way < 2 ? 0 : 7;
		bw_tcp_header_write(header, htons(80), htons(12345), &fields);
		memcpy(header + length, "hello", 5);
		sum = (uint16_t)~bw_sum_fold(
			bw_sum_mbuf(m, 0, length + 5, bw_sum_pseudo(&src, &dst, IPPROTO_TCP, length + 5)));
		memcpy(header + 16, &sum, 2);

		m = send_to_b(m, &out, &b_mac, is_v4 ? ETHERTYPE_IP4 : ETHERTYPE_IP6, &pkt);
		assert_int_equal(pkt.kind, BW_PKT_TCP);
		assert_fields_equal(&pkt.tcp, &fields);
		assert_int_equal(pkt.ttl, 64);
		assert_int_equal(pkt.tos, 0x2e);
		assert_int_equal(pkt.payload_len, 5);
		assert_memory_equal(rte_pktmbuf_mtod_offset(m, char *, pkt.payload_off), "hello", 5);
		assert_true(bw_ip_eq(&pkt.flow.remote, &src) && bw_ip_eq(&pkt.flow.local, &dst));
		mbuf_free(m);
	}
}

static void ip4_header_as_rfc_6864_wants_it(void **state)
{
	const struct bw_ip src = ip(A4), dst = ip(B4);
	struct bw_ip_out out = { .src = &src, .dst = &dst, .proto = 17, .ttl = 64, .id = 0x1234 };
	struct rte_mbuf *m = empty_mbuf();
	const uint8_t *header;

	bw_ip_prepend(m, &out);
	header = rte_pktmbuf_mtod(m, uint8_t *);
	assert_memory_equal(header + 4, "\x00\x00\x40\x00", 4);
	assert_int_equal(m->l3_len, 20);
	assert_int_equal(m->ol_flags, RTE_MBUF_F_TX_IPV4);
	assert_int_equal(naive_add(header, 20, 0), 0xffff);
	mbuf_free(m);

	m = empty_mbuf();
	out.may_fragment = true;
	bw_ip_prepend(m, &out);
	header = rte_pktmbuf_mtod(m, uint8_t *);
	assert_memory_equal(header + 4, "\x12\x34\x00\x00", 4);
	assert_int_equal(naive_add(header, 20, 0), 0xffff);
	mbuf_free(m);
}

/*
 * ------------------------------------------------------------------------------------------------- ARP and
 * ND
 */

static void arp_comes_back(void **state)
{
	const struct bw_ip sender = ip(A4), target = ip(B4);
	const struct bw_mac nobody = { { 0 } }, all = { GROUP_MAC };
	struct rte_mbuf *m = empty_mbuf();
	struct bw_arp_fields arp;
	struct bw_pkt pkt;

	bw_arp_write(m, 1, &a_mac, &sender, &nobody, &target);
	m = send_to_b(m, NULL, &all, ETHERTYPE_ARP, &pkt);
	assert_int_equal(pkt.kind, BW_PKT_ARP);
	assert_int_equal(bw_arp_parse(&pkt, &arp), 0);
	assert_int_equal(arp.opcode, 1);
	assert_memory_equal(&arp.sender_mac, &a_mac, 6);
	assert_memory_equal(&arp.target_mac, &nobody, 6);
	assert_true(bw_ip_eq(&arp.sender, &sender) && bw_ip_eq(&arp.target, &target));
	mbuf_free(m);
}

static void arp_that_cannot_be_is_refused(void **state)
{
	static const struct {
		uint16_t opcode;
		const char *sender_mac, *sender;
		int error;
	} cases[] = {
		{ 2, HOST_MAC, A4, 0 },
		{ 1, HOST_MAC, "0.0.0.0", 0 },
		{ 3, HOST_MAC, A4, -EINVAL },
		{ 0, HOST_MAC, A4, -EINVAL },
		{ 1, GROUP_MAC, A4, -EINVAL },
		{ 1, HOST_MAC, "224.0.0.1", -EINVAL },
		{ 1, HOST_MAC, "127.0.0.1", -EINVAL },
		{ 1, HOST_MAC, "255.255.255.255", -EINVAL },
	};

	for (unsigned i = 0; i < BW_ARRAY_LEN(cases); i++) {
		const struct bw_ip sender = ip(cases[i].sender), target = ip(B4);
		struct rte_mbuf *m = empty_mbuf();
		struct bw_arp_fields arp;
		struct bw_mac mac;
		struct bw_pkt pkt;

		memcpy(mac.b, cases[i].sender_mac, 6);
		bw_arp_write(m, cases[i].opcode, &mac, &sender, &b_mac, &target);
		m = send_to_b(m, NULL, &b_mac, ETHERTYPE_ARP, &pkt);
		assert_int_equal(pkt.kind, BW_PKT_ARP);
		assert_int_equal(bw_arp_parse(&pkt, &arp), cases[i].error);
		mbuf_free(m);
	}
}

/* A neighbour message from `src` to `dst` as B sees it; `ttl` and a change to one byte make it go wrong. */
struct nd_case {
	uint8_t type, flags;
	const char *src, *dst, *target;
	bool has_link_addr;
	uint8_t ttl;
	uint8_t at, value; /* of the ICMP message, when at is not 0 */
	int error;
};

static void run_nd(const struct nd_case *c)
{
	const struct bw_ip src = ip(c->src), dst = ip(c->dst), target = ip(c->target);
	const struct bw_nd_out nd = { c->type, c->flags, &src, &dst, &target,
		c->has_link_addr ? &a_mac : NULL };
	const struct bw_ip_out out = { .src = &src, .dst = &dst, .proto = IPPROTO_ICMPV6, .ttl = c->ttl };
	const struct bw_mac dst_mac = bw_ip_is_multicast(&dst) ? bw_mac_of_multicast(&dst) : b_mac;
	struct rte_mbuf *m = empty_mbuf();
	struct bw_nd_fields got;
	struct bw_pkt pkt;
	uint8_t *message;

	bw_nd_write(m, &nd);
	message = rte_pktmbuf_mtod(m, uint8_t *);
	assert_int_equal(m->data_len, c->has_link_addr ? 32 : 24);
	assert_int_equal(
		naive_add(message, m->data_len, naive_pseudo(&src, &dst, IPPROTO_ICMPV6, m->data_len)),
		0xffff);
	if (c->at != 0) {
		message[c->at] = c->value;
		set16(message + 2, 0);
		set16(message + 2, 0xffff ^ naive_add(message, m->data_len,
						    naive_pseudo(&src, &dst, IPPROTO_ICMPV6, m->data_len)));
	}
	m = send_to_b(m, &out, &dst_mac, ETHERTYPE_IP6, &pkt);
	assert_int_equal(pkt.kind, BW_PKT_ICMP6);
	assert_int_equal(bw_nd_parse(&pkt, &got), c->error);
	if (c->error == 0) {
		assert_int_equal(got.type, c->type);
		assert_int_equal(got.flags, c->flags);
		assert_true(bw_ip_eq(&got.target, &target));
		assert_int_equal(got.has_link_addr, c->has_link_addr && c->at != 24);
		if (got.has_link_addr)
			assert_memory_equal(&got.link_addr, &a_mac, 6);
	}
	mbuf_free(m);
}

static void nd_comes_back_and_what_cannot_be_is_refused(void **state)
{
	static const struct nd_case cases[] = {
		{ 135, 0, A6, "ff02::1:ff00:1", B6, true, 255 }, { 135, 0, A6, B6, B6, false, 255 },
		{ 135, 0, "::", "ff02::1:ff00:1", B6, false, 255 }, { 136, 0x60, A6, B6, A6, true, 255 },
		{ 136, 0x20, A6, "ff02::1", A6, true, 255 },
		{ 135, 0, A6, B6, B6, true, 255, .at = 24, .value = 14 }, /* an option that is none of ours */
		{ 135, 0, A6, B6, B6, true, 254, .error = -EINVAL },
		{ 135, 0, A6, B6, B6, true, 255, .at = 1, .value = 1, .error = -EINVAL }, /* code */
		{ 135, 0, A6, B6, B6, true, 255, .at = 25, .value = 0,
			.error = -EINVAL }, /* option of length 0 */
		{ 135, 0, A6, B6, B6, true, 255, .at = 25, .value = 2,
			.error = -EINVAL }, /* beyond the message */
		{ 135, 0, A6, B6, B6, true, 255, .at = 26, .value = 0x33,
			.error = -EINVAL }, /* a group's address */
		{ 135, 0, A6, B6, "ff02::1", true, 255, .error = -EINVAL },
		{ 135, 0, A6, B6, "::", true, 255, .error = -EINVAL },
		{ 135, 0, "::", "ff02::1:ff00:1", B6, true, 255,
			.error = -EINVAL }, /* nobody's link address */
		{ 135, 0, "::", B6, B6, false, 255, .error = -EINVAL },
		{ 136, 0x40, A6, "ff02::1", A6, true, 255, .error = -EINVAL }, /* a solicited one to all */
	};

	for (unsigned i = 0; i < BW_ARRAY_LEN(cases); i++)
		run_nd(&cases[i]);
}

static void addresses_that_are_made_of_addresses(void **state)
{
	const struct bw_ip solicited = ip("ff02::1:ff28:9c5a"), of = ip("fe80::2aa:ff:fe28:9c5a");
	const struct bw_ip made = bw_ip6_solicited_node(&of), group4 = ip("239.129.2.3"),
			   ll = ip("fe80::ff:fe00:1");
	const struct bw_ip made_ll = bw_ip6_link_local(&a_mac);
	struct bw_mac mac = bw_mac_of_multicast(&solicited);

	assert_true(bw_ip_eq(&made, &solicited));
	assert_memory_equal(&mac, "\x33\x33\xff\x28\x9c\x5a", 6);
	mac = bw_mac_of_multicast(&group4);
	assert_memory_equal(&mac, "\x01\x00\x5e\x01\x02\x03", 6);
	assert_true(bw_ip_eq(&made_ll, &ll));
}

/*
 * ------------------------------------------------------------------------------------------------ ICMP
 * errors
 */

/* B sent a packet; A has it parsed and complains to B; what does B make of it? */
struct error_case {
	bool is_v4, is_udp;
	uint8_t type, code;
	uint32_t param;
	unsigned payload_len;
	uint32_t mtu;
};

static void run_error(const struct error_case *c)
{
	const struct bw_ip a = ip(c->is_v4 ? A4 : A6), b = ip(c->is_v4 ? B4 : B6);
	const struct bw_cidr a_addr = { a, c->is_v4 ? 24 : 64 };
	const struct bw_wire_host a_host = { .mac = a_mac, .addrs = &a_addr, .addr_count = 1 };
	const struct bw_ip_out out = {
		.src = &a, .dst = &b, .proto = c->is_v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6, .ttl = 64
	};
	uint8_t l4[1500] = "\x30\x39\x00\x50\x01\x02\x03\x04\x00\x00\x00\x00\x50\x10\x20\x00";
	const struct craft sent = { .src = c->is_v4 ? B4 : B6,
		.dst = c->is_v4 ? A4 : A6,
		.proto = c->is_udp ? IPPROTO_UDP : IPPROTO_TCP,
		.l4 = (char *)l4,
		.l4_len = (c->is_udp ? 8 : 20) + c->payload_len };
	const unsigned quote_max = c->is_v4 ? 548 : 1232;
	struct rte_mbuf *offending, *empty, *m;
	struct bw_icmp_quote quote;
	unsigned ip_bytes;
	struct frame f;
	struct bw_pkt pkt;

	if (c->is_udp)
		set16(l4 + 4, sent.l4_len);
	f = craft(&sent);
	ip_bytes = f.len - f.l3_off;
	/* The quote crosses segments, of which one is empty. */
	offending = mbuf_in_two(f.b, f.len, f.l4_off + (c->is_udp ? 8 : 20));
	empty = mbuf_of(NULL, 0, 0, 0);
	empty->next = offending->next;
	offending->next = empty;
	offending->nb_segs++;
	bw_pkt_parse(offending, &a_host, &pkt);
	assert_int_equal(pkt.kind, c->is_udp ? BW_PKT_UDP : BW_PKT_TCP);

	m = empty_mbuf();
	bw_icmp_error_write(m, &pkt, c->type, c->code, c->param, &a, &b);
	assert_int_equal(m->data_len, 8 + BW_MIN(ip_bytes, quote_max));
	assert_memory_equal(
		rte_pktmbuf_mtod_offset(m, uint8_t *, 8), f.b + f.l3_off, BW_MIN(ip_bytes, quote_max));
	mbuf_free(offending);

	m = send_to_b(m, &out, &b_mac, c->is_v4 ? ETHERTYPE_IP4 : ETHERTYPE_IP6, &pkt);
	assert_true(pkt.l3_total_len <= (c->is_v4 ? 576 : 1280));
	assert_int_equal(pkt.kind, c->is_v4 ? BW_PKT_ICMP4 : BW_PKT_ICMP6);
	assert_int_equal(bw_icmp_quote_parse(&pkt, &quote), 0);
	assert_int_equal(quote.type, c->type);
	assert_int_equal(quote.code, c->code);
	assert_int_equal(quote.proto, sent.proto);
	assert_int_equal(quote.seq, c->is_udp ? 0 : 0x01020304);
	assert_int_equal(quote.mtu, c->mtu);
	assert_true(bw_ip_eq(&quote.flow.local, &b) && bw_ip_eq(&quote.flow.remote, &a));
	assert_int_equal(quote.flow.local_port_be, htons(12345));
	assert_int_equal(quote.flow.remote_port_be, htons(80));
	mbuf_free(m);
}

static void icmp_errors_tell_whom_they_are_about(void **state)
{
	static const struct error_case cases[] = {
		{ true, true, 3, 3, 0, 5 },
		{ true, false, 3, 4, 1400, 0, .mtu = 1400 },
		{ true, false, 3, 4, 0, 1000, .mtu = 1006 }, /* RFC 1191 section 5: the plateau below 1040 */
		{ true, false, 3, 4, 0, 966, .mtu = 508 },
		{ true, false, 11, 0, 0, 520 },
		{ true, true, 12, 0, 0x14000000, 0 },
		{ false, true, 1, 4, 0, 5 },
		{ false, false, 2, 0, 1280, 1400, .mtu = 1280 },
		{ false, false, 3, 0, 0, 0 },
		{ false, true, 4, 1, 40, 1192 },
	};

	for (unsigned i = 0; i < BW_ARRAY_LEN(cases); i++)
		run_error(&cases[i]);
}

#define QUOTED4(proto, src, dst)                                                                             \
	"\x45\x00\x00\x28\x00\x00\x40\x00\x40" proto "\x00\x00" src dst "\x30\x39\x00\x50\x01\x02\x03\x04"
#define B4_BYTES "\xc0\x00\x02\x01"
#define A4_BYTES "\xc0\x00\x02\x02"

static void icmp_that_quotes_nothing_of_ours_is_refused(void **state)
{
	static const struct {
		const char *bytes;
		unsigned count;
		int error;
	} cases[] = {
#define CASE(bytes, error) { bytes, sizeof(bytes) - 1, error }
		CASE("\x03\x03\x00\x00\x00\x00\x00\x00" QUOTED4("\x06", B4_BYTES, A4_BYTES), 0),
		CASE("\x05\x01\x00\x00\xc0\x00\x02\x09" QUOTED4("\x06", B4_BYTES, A4_BYTES),
			-EINVAL), /* redirect */
		CASE("\x04\x00\x00\x00\x00\x00\x00\x00" QUOTED4("\x06", B4_BYTES, A4_BYTES),
			-EINVAL), /* source quench */
		CASE("\x08\x00\x00\x00\x00\x00\x00\x00" QUOTED4("\x06", B4_BYTES, A4_BYTES),
			-EINVAL), /* echo */
		CASE("\x03\x03\x00\x00\x00\x00\x00\x00" QUOTED4("\x06", A4_BYTES, B4_BYTES),
			-EINVAL), /* another's */
		CASE("\x03\x03\x00\x00\x00\x00\x00\x00" QUOTED4("\x01", B4_BYTES, A4_BYTES),
			-EINVAL), /* of ICMP */
		CASE("\x03\x03\x00\x00\x00\x00\x00\x00\x65\x00\x00\x28\x00\x00\x40\x00\x40\x06\x00\x00" B4_BYTES
				A4_BYTES "\x30\x39\x00\x50\x01\x02\x03\x04",
			-EINVAL), /* not IPv4 */
		CASE("\x03\x03\x00\x00\x00\x00\x00\x00\x46\x00\x00\x28\x00\x00\x40\x00\x40\x06\x00\x00" B4_BYTES
				A4_BYTES "\x30\x39\x00\x50\x01\x02\x03\x04",
			-EINVAL), /* options in place of the ports */
		CASE("\x03\x03\x00\x00\x00\x00\x00\x00\x45\x00\x00\x28\x00\x00\x00\x01\x40\x06\x00\x00" B4_BYTES
				A4_BYTES "\x30\x39\x00\x50\x01\x02\x03\x04",
			-EINVAL), /* not the first fragment */
	};

	for (unsigned i = 0; i < BW_ARRAY_LEN(cases); i++) {
		for (unsigned length = 8; length <= cases[i].count; length++) {
			const struct craft c = { .src = A4,
				.dst = B4,
				.src_mac = HOST_MAC,
				.dst_mac = PEER_MAC,
				.proto = IPPROTO_ICMP,
				.l4 = cases[i].bytes,
				.l4_len = length };
			const struct frame f = craft(&c);
			struct rte_mbuf *m = mbuf_of_frame(&f);
			struct bw_icmp_quote quote;
			struct bw_pkt pkt;

			bw_pkt_parse(m, &b_host, &pkt);
			assert_int_equal(pkt.kind, BW_PKT_ICMP4);
			assert_int_equal(bw_icmp_quote_parse(&pkt, &quote),
				length == cases[i].count ? cases[i].error : -EINVAL);
			mbuf_free(m);
		}
	}
}

#define B6_BYTES                "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"
#define A6_BYTES                "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02"
#define A4_MAPPED               "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff" A4_BYTES
#define QUOTED6(next, src, dst) "\x60\x00\x00\x00\x00\x14" next "\x40" src dst

static void icmp6_quotes_go_past_our_fragment_header_only(void **state)
{
	static const struct {
		const char *bytes;
		unsigned count;
		int error;
	} cases[] = {
		CASE("\x01\x04\x00\x00\x00\x00\x00\x00" QUOTED6(
			     "\x11", B6_BYTES, A6_BYTES) "\x30\x39\x00\x50\x00\x08\x00\x00",
			0),
		CASE("\x01\x04\x00\x00\x00\x00\x00\x00" QUOTED6(
			     "\x2c", B6_BYTES, A6_BYTES) "\x11\x00\x00\x01\x00\x00\x00\x07"
							 "\x30\x39\x00\x50\x00\x08\x00\x00",
			0),
		CASE("\x01\x04\x00\x00\x00\x00\x00\x00" QUOTED6(
			     "\x2c", B6_BYTES, A6_BYTES) "\x11\x00\x00\x08\x00\x00\x00\x07"
							 "\x30\x39\x00\x50\x00\x08\x00\x00",
			-EINVAL),
		CASE("\x01\x04\x00\x00\x00\x00\x00\x00" QUOTED6(
			     "\x3c", B6_BYTES, A6_BYTES) "\x11\x00\x01\x04\x00\x00\x00\x00"
							 "\x30\x39\x00\x50\x00\x08\x00\x00",
			-EINVAL),
		CASE("\x01\x04\x00\x00\x00\x00\x00\x00" QUOTED6(
			     "\x06", B6_BYTES, A4_MAPPED) "\x30\x39\x00\x50\x01\x02\x03\x04",
			-EINVAL),
		CASE("\x80\x00\x00\x00\x00\x00\x00\x00" QUOTED6(
			     "\x06", B6_BYTES, A6_BYTES) "\x30\x39\x00\x50\x01\x02\x03\x04",
			-EINVAL),
	};

	for (unsigned i = 0; i < BW_ARRAY_LEN(cases); i++) {
		for (unsigned length = 8; length <= cases[i].count; length++) {
			const struct craft c = { .src = A6,
				.dst = B6,
				.src_mac = HOST_MAC,
				.dst_mac = PEER_MAC,
				.proto = IPPROTO_ICMPV6,
				.l4 = cases[i].bytes,
				.l4_len = length };
			const struct frame f = craft(&c);
			struct rte_mbuf *m = mbuf_of_frame(&f);
			struct bw_icmp_quote quote;
			struct bw_pkt pkt;

			bw_pkt_parse(m, &b_host, &pkt);
			assert_int_equal(pkt.kind, BW_PKT_ICMP6);
			assert_int_equal(bw_icmp_quote_parse(&pkt, &quote),
				length == cases[i].count ? cases[i].error : -EINVAL);
			mbuf_free(m);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(tcp_headers_come_back_with_every_combination_of_options, set_up),
		cmocka_unit_test_setup(three_sack_blocks_fit_beside_a_timestamp_and_four_alone, set_up),
		cmocka_unit_test_setup(tcp_options_have_the_layout_that_everybody_knows, set_up),
		cmocka_unit_test_setup(tcp_options_of_illegal_length_are_ignored, set_up),
		cmocka_unit_test_setup(tcp_options_that_are_strange_are_lived_with, set_up),
		cmocka_unit_test_setup(whole_tcp_segments_of_both_families_tagged_or_not, set_up),
		cmocka_unit_test_setup(ip4_header_as_rfc_6864_wants_it, set_up),
		cmocka_unit_test_setup(arp_comes_back, set_up),
		cmocka_unit_test_setup(arp_that_cannot_be_is_refused, set_up),
		cmocka_unit_test_setup(nd_comes_back_and_what_cannot_be_is_refused, set_up),
		cmocka_unit_test_setup(addresses_that_are_made_of_addresses, set_up),
		cmocka_unit_test_setup(icmp_errors_tell_whom_they_are_about, set_up),
		cmocka_unit_test_setup(icmp_that_quotes_nothing_of_ours_is_refused, set_up),
		cmocka_unit_test_setup(icmp6_quotes_go_past_our_fragment_header_only, set_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
