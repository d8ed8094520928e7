/* SPDX-License-Identifier: BSD-3-Clause */
#include "craft.h"

#define OURS4   "192.0.2.2"
#define OURS6   "2001:db8::2"
#define OURS6LL "fe80::ff:fe00:1"
#define VLAN    42

#define L4(bytes)         .l4 = bytes, .l4_len = sizeof(bytes) - 1
#define OPTIONS(bytes)    .options = bytes, .options_len = sizeof(bytes) - 1
#define EXT(first, bytes) .ext_first = first, .ext = bytes, .ext_len = sizeof(bytes) - 1

/* From port 12345 to port 80, sequence 0x01020304, ACK of 0x0a0b0c0d, window 8192. */
#define TCP_FIXED(off_and_flags)                                                                             \
	"\x30\x39\x00\x50\x01\x02\x03\x04\x0a\x0b\x0c\x0d" off_and_flags "\x20\x00\x00\x00\x00\x00"
#define TCP_PLAIN TCP_FIXED("\x50\x18") "hello"
#define TCP_TIMESTAMP                                                                                        \
	TCP_FIXED("\x80\x10")                                                                                \
	"\x01\x01\x08\x0a\x11\x22\x33\x44\x55\x66\x77\x88"                                                   \
	"data"
#define TCP_SYN                                                                                              \
	TCP_FIXED("\xa0\x02")                                                                                \
	"\x02\x04\x05\xb4\x04\x02\x08\x0a\x00\x00\x00\x01\x00\x00\x00\x00\x01\x03\x03\x07"
#define UDP_HELLO "\x30\x39\x00\x35\x00\x0d\x00\x00hello"
#define ECHO4     "\x08\x00\x00\x00\x12\x34\x00\x01ping"
#define ECHO6     "\x80\x00\x00\x00\x12\x34\x00\x01ping"
#define ND_OF_OURS6(type)                                                                                    \
	type "\x00\x00\x00\x00\x00\x00\x00\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02"

/* Extension headers; the next one's number is the argument. */
#define EXT_OPTIONS(next)                   next "\x00\x05\x02\x00\x00\x01\x00" /* router alert, PadN */
#define EXT_PADDED(next)                    next "\x01\x01\x04\x00\x00\x00\x00\x00\x00\x01\x04\x00\x00\x00\x00"
#define EXT_FATAL_OPTION(next)              next "\x00\xc2\x04\x00\x01\x00\x00" /* a jumbogram's */
#define EXT_UNKNOWN_OPTION(next, type)      next "\x00\x01\x00" type "\x02\x00\x00"
#define EXT_BROKEN_OPTION(next)             next "\x00\x01\x05\x00\x00\x00\x00"
#define EXT_ROUTING(next, type, left)       next "\x00" type left "\x00\x00\x00\x00"
#define EXT_FRAGMENT(next, offset_and_more) next "\x00" offset_and_more "\x00\x00\x00\x07"

static struct bw_cidr addrs[4];
static struct bw_wire_host host;

static int set_up(void **state)
{
	static const char *const texts[] = { OURS4 "/24", OURS6 "/64", OURS6LL "/64", "198.51.100.0/31" };

	for (unsigned i = 0; i < BW_ARRAY_LEN(texts); i++)
		assert_int_equal(bw_cidr_parse(texts[i], &addrs[i]), 0);
	host = (struct bw_wire_host){ .addrs = addrs, .addr_count = BW_ARRAY_LEN(addrs) };
	memcpy(host.mac.b, HOST_MAC, 6);
	return 0;
}

static const struct craft good[] = {
	{ "TCP over IPv4", .proto = IPPROTO_TCP, L4(TCP_PLAIN), .kind = BW_PKT_TCP },
	{ "TCP at its last hop", .ttl = 1, .proto = IPPROTO_TCP, L4(TCP_PLAIN), .kind = BW_PKT_TCP },
	{ "TCP with timestamp", .proto = IPPROTO_TCP, L4(TCP_TIMESTAMP), .kind = BW_PKT_TCP },
	{ "SYN", .proto = IPPROTO_TCP, L4(TCP_SYN), .kind = BW_PKT_TCP },
	{ "TCP to the /31", .dst = "198.51.100.0", .src = "198.51.100.1", .proto = IPPROTO_TCP, L4(TCP_PLAIN),
		.kind = BW_PKT_TCP },
	{ "UDP over IPv4", .proto = IPPROTO_UDP, L4(UDP_HELLO), .kind = BW_PKT_UDP },
	{ "UDP without checksum", .proto = IPPROTO_UDP, L4(UDP_HELLO), .l4_sum_off = -1, .kind = BW_PKT_UDP },
	{ "echo over IPv4", .proto = IPPROTO_ICMP, L4(ECHO4), .kind = BW_PKT_ICMP4 },
	{ "echo to broadcast", .dst = "192.0.2.255", .dst_mac = GROUP_MAC, .proto = IPPROTO_ICMP, L4(ECHO4),
		.kind = BW_PKT_ICMP4 },
	{ "echo to all hosts", .dst = "224.0.0.1", .dst_mac = "\x01\x00\x5e\x00\x00\x01",
		.proto = IPPROTO_ICMP, L4(ECHO4), .kind = BW_PKT_ICMP4 },
	{ "IPv4 options", OPTIONS("\x01\x94\x04\x00\x00\x44\x04\x05\x00\x00\x00\x00"), .proto = IPPROTO_TCP,
		L4(TCP_SYN), .kind = BW_PKT_TCP },
	{ "IPv4, SCTP", .proto = 132, L4("0123456789ab"), .kind = BW_PKT_BAD_PROTOCOL },
	{ "IPv4, ICMPv6", .proto = IPPROTO_ICMPV6, L4(ECHO6), .kind = BW_PKT_BAD_PROTOCOL },
	{ "IPv4 first fragment", .fragment = 0x2000, .proto = IPPROTO_UDP,
		L4("\x30\x39\x00\x35\x00\x40\x00\x00"
		   "01234567"),
		.kind = BW_PKT_FRAGMENT },
	{ "IPv4 last fragment", .fragment = 0x0002, .proto = IPPROTO_UDP, L4("last"),
		.kind = BW_PKT_FRAGMENT },
	{ "TCP over IPv6", .dst = OURS6, .proto = IPPROTO_TCP, L4(TCP_PLAIN), .kind = BW_PKT_TCP },
	{ "TCP, link-local", .dst = OURS6LL, .src = "fe80::1", .proto = IPPROTO_TCP, L4(TCP_TIMESTAMP),
		.kind = BW_PKT_TCP },
	{ "UDP over IPv6", .dst = OURS6, .proto = IPPROTO_UDP, L4(UDP_HELLO), .kind = BW_PKT_UDP },
	{ "echo over IPv6", .dst = OURS6, .proto = IPPROTO_ICMPV6, L4(ECHO6), .kind = BW_PKT_ICMP6 },
	{ "echo to all nodes", .dst = "ff02::1", .dst_mac = "\x33\x33\x00\x00\x00\x01",
		.proto = IPPROTO_ICMPV6, L4(ECHO6), .kind = BW_PKT_ICMP6 },
	{ "solicitation", .dst = "ff02::1:ff00:2", .dst_mac = "\x33\x33\xff\x00\x00\x02", .ttl = 255,
		.proto = IPPROTO_ICMPV6, L4(ND_OF_OURS6("\x87")), .kind = BW_PKT_ICMP6 },
	{ "somebody detects a duplicate", .src = "::", .dst = "ff02::1:ff00:2",
		.dst_mac = "\x33\x33\xff\x00\x00\x02", .ttl = 255, .proto = IPPROTO_ICMPV6,
		L4(ND_OF_OURS6("\x87")), .kind = BW_PKT_ICMP6 },
	{ "somebody defends our address", .src = OURS6, .dst = "ff02::1",
		.dst_mac = "\x33\x33\x00\x00\x00\x01", .ttl = 255, .proto = IPPROTO_ICMPV6,
		L4(ND_OF_OURS6("\x88")), .kind = BW_PKT_ICMP6 },
	{ "IPv6, SCTP", .dst = OURS6, .proto = 132, L4("0123456789ab"), .kind = BW_PKT_BAD_PROTOCOL },
	{ "IPv6 with all headers", .dst = OURS6, .proto = IPPROTO_TCP, L4(TCP_SYN),
		EXT(0, EXT_OPTIONS("\x2b") EXT_ROUTING("\x3c", "\x04", "\x00") EXT_PADDED("\x2c")
				EXT_FRAGMENT("\x06", "\x00\x00")),
		.kind = BW_PKT_TCP },
	{ "routing header of nobody's business", .dst = OURS6, .proto = IPPROTO_TCP, L4(TCP_PLAIN),
		EXT(43, EXT_ROUTING("\x06", "\x00", "\x00")), .kind = BW_PKT_TCP },
	{ "IPv6 first fragment", .dst = OURS6, .proto = IPPROTO_UDP, .l4_sum_off = -1,
		L4("\x30\x39\x00\x35\x00\x40\x00\x00"
		   "01234567"),
		EXT(44, EXT_FRAGMENT("\x11", "\x00\x01")), .kind = BW_PKT_FRAGMENT },
	{ "IPv6 last fragment", .dst = OURS6, .proto = IPPROTO_UDP, .l4_sum_off = -1, L4("last"),
		EXT(44, EXT_FRAGMENT("\x11", "\x00\x10")), .kind = BW_PKT_FRAGMENT },
	{ "IPv6 fragment behind options", .dst = OURS6, .proto = IPPROTO_UDP, .l4_sum_off = -1, L4("last"),
		EXT(60, EXT_PADDED("\x2c") EXT_FRAGMENT("\x11", "\x00\x10")), .kind = BW_PKT_FRAGMENT },
	{ "IPv6 fragment, options and TCP", .dst = OURS6, .proto = IPPROTO_TCP, .l4_sum_off = -1,
		L4(TCP_FIXED("\x50\x10") "1234"),
		EXT(44, EXT_FRAGMENT("\x3c", "\x00\x01") EXT_OPTIONS("\x06")), .kind = BW_PKT_FRAGMENT },
};

static struct frame arp_frame(bool is_tagged)
{
	static const uint8_t arp[28] = "\x00\x01\x08\x00\x06\x04\x00\x01" PEER_MAC
				       "\xc0\x00\x02\x01\x00\x00\x00\x00\x00\x00\xc0\x00\x02\x02";
	const struct craft c = { .dst_mac = GROUP_MAC, .is_tagged = is_tagged, .tci = 0xa000 | VLAN };
	struct frame f = craft(&c);

	f.len = f.l3_off;
	set16(f.b + f.len - 2, ETHERTYPE_ARP);
	put(&f, arp, 28);
	return f;
}

static void parse(struct rte_mbuf *m, struct bw_pkt *pkt)
{
	memset(pkt, 0xa5, sizeof(*pkt));
	bw_pkt_parse(m, &host, pkt);
}

/* What holds whatever was received. */
static void check_bounds(const struct bw_pkt *pkt)
{
	const struct rte_mbuf *m = pkt->m;

	assert_in_range(pkt->kind, BW_PKT_DROP, BW_PKT_BAD_HEADER);
	if (pkt->kind == BW_PKT_DROP) {
		assert_in_range(pkt->drop, BW_DROP_RUNT, BW_DROP_ND);
		return;
	}
	if (pkt->kind == BW_PKT_BAD_HEADER) {
		assert_true(pkt->drop == BW_DROP_IP_OPTIONS || pkt->drop == BW_DROP_FRAGMENT);
		assert_int_equal(pkt->ip_version, 6);
		assert_int_equal(m->pkt_len, pkt->l3_off + pkt->l3_total_len);
		assert_in_range(pkt->problem_off, pkt->l3_off + 4, m->data_len - 1);
		return;
	}
	assert_int_equal(pkt->drop, 0);
	assert_int_equal(m->pkt_len, pkt->l3_off + pkt->l3_total_len);
	if (pkt->kind == BW_PKT_ARP)
		return;
	assert_true(pkt->l3_off < pkt->l4_off);
	assert_true(pkt->l4_off <= pkt->payload_off);
	assert_true(pkt->payload_off + pkt->payload_len <= m->pkt_len);
	assert_true(pkt->payload_off <= m->data_len);
	assert_int_equal(pkt->hash != 0, pkt->kind == BW_PKT_TCP || pkt->kind == BW_PKT_UDP);
	if (pkt->kind == BW_PKT_FRAGMENT) {
		assert_int_equal(m->l2_len, pkt->l3_off);
		assert_int_equal(pkt->l3_off + m->l3_len, pkt->l4_off);
	}
}

static void check_good(const struct craft *c, const struct bw_pkt *pkt, const struct frame *f)
{
	const bool is_v4 = c->dst == NULL || strchr(c->dst, '.') != NULL;
	const struct bw_ip dst = ip(c->dst != NULL ? c->dst : OURS4);
	const struct bw_ip src = ip(c->src != NULL ? c->src : is_v4 ? "192.0.2.1" : "2001:db8::1");

	if (pkt->kind != c->kind)
		print_error("%s: kind %u, %s\n", c->name, pkt->kind,
			pkt->kind == BW_PKT_DROP ? bw_counter_name[pkt->drop] : "");
	assert_int_equal(pkt->kind, c->kind);
	check_bounds(pkt);
	assert_int_equal(pkt->ip_version, is_v4 ? 4 : 6);
	assert_int_equal(pkt->l3_off, f->l3_off);
	assert_int_equal(pkt->ttl, c->ttl != 0 ? c->ttl : 64);
	assert_int_equal(pkt->tos, c->tos);
	assert_true(bw_ip_eq(&pkt->flow.local, &dst));
	assert_true(bw_ip_eq(&pkt->flow.remote, &src));
	assert_int_equal(pkt->is_to_multicast, c->dst_mac != NULL);
	if (c->kind == BW_PKT_FRAGMENT)
		return;
	assert_int_equal(pkt->ip_proto, c->proto);
	assert_int_equal(pkt->l4_off, f->l4_off);
	if (c->kind == BW_PKT_TCP || c->kind == BW_PKT_UDP) {
		assert_int_equal(pkt->flow.remote_port_be, htons(12345));
		assert_int_equal(pkt->flow.local_port_be, htons(c->kind == BW_PKT_TCP ? 80 : 53));
	} else {
		assert_int_equal(pkt->flow.remote_port_be | pkt->flow.local_port_be, 0);
		assert_int_equal(pkt->payload_off, f->l4_off);
		assert_int_equal(pkt->payload_len, c->l4_len);
	}
}

static void every_good_packet_is_its_kind_tagged_or_not(void **state)
{
	for (unsigned i = 0; i < BW_ARRAY_LEN(good); i++) {
		for (unsigned way = 0; way < 5; way++) {
			struct craft c = good[i];
			struct rte_mbuf *m;
			struct bw_pkt pkt;

			c.tos = 0xb9;
			c.padding = way;
			c.is_tagged = way == 1 || way == 2;
			c.tci = way == 1 ? 0xe000 : 0xe000 | VLAN; /* priority only, or ours */
			host.vlan = way == 2 || way == 4 ? VLAN : 0;
			const struct frame f = craft(&c);

			m = mbuf_of_frame(&f);
			if (way >= 3) { /* the device took the tag off */
				m->ol_flags = RTE_MBUF_F_RX_VLAN | RTE_MBUF_F_RX_VLAN_STRIPPED;
				m->vlan_tci = way == 3 ? 0xe000 : 0xe000 | VLAN;
			}
			parse(m, &pkt);
			check_good(&c, &pkt, &f);
			mbuf_free(m);
		}
	}
}

static void arp_is_arp_tagged_or_not(void **state)
{
	for (unsigned is_tagged = 0; is_tagged < 2; is_tagged++) {
		struct frame f = arp_frame(is_tagged);
		struct rte_mbuf *m;
		struct bw_pkt pkt;

		put(&f, "paddingpaddingpadd", 18);
		host.vlan = is_tagged ? VLAN : 0;
		m = mbuf_of_frame(&f);
		parse(m, &pkt);
		assert_int_equal(pkt.kind, BW_PKT_ARP);
		check_bounds(&pkt);
		assert_int_equal(pkt.l3_off, f.l3_off);
		assert_int_equal(pkt.ip_version, 0);
		assert_true(pkt.is_to_multicast);
		mbuf_free(m);
	}
}

static void tcp_fields_payload_and_hash(void **state)
{
	const struct craft c = { .dst = OURS6, .proto = IPPROTO_TCP, L4(TCP_TIMESTAMP), .padding = 3 };
	const struct frame f = craft(&c);
	struct rte_mbuf *m = mbuf_of_frame(&f);
	struct bw_flow back;
	struct bw_pkt pkt;

	parse(m, &pkt);
	assert_int_equal(pkt.kind, BW_PKT_TCP);
	assert_int_equal(pkt.tcp.seq, 0x01020304);
	assert_int_equal(pkt.tcp.ack, 0x0a0b0c0d);
	assert_int_equal(pkt.tcp.flags, BW_TCP_ACK);
	assert_int_equal(pkt.tcp.window, 8192);
	assert_true(pkt.tcp.has_timestamp);
	assert_int_equal(pkt.tcp.ts_value, 0x11223344);
	assert_int_equal(pkt.tcp.ts_echo, 0x55667788);
	assert_int_equal(pkt.payload_len, 4);
	assert_memory_equal(rte_pktmbuf_mtod_offset(m, char *, pkt.payload_off), "data", 4);
	assert_int_equal(pkt.hash, bw_flow_hash(&pkt.flow));
	back = (struct bw_flow){ pkt.flow.remote, pkt.flow.local, pkt.flow.remote_port_be,
		pkt.flow.local_port_be };
	assert_int_equal(pkt.hash, bw_flow_hash(&back));
	mbuf_free(m);
}

static void udp_payload_ends_where_udp_says(void **state)
{
	const struct craft c = { .proto = IPPROTO_UDP, .l4_sum_off = -1, L4(UDP_HELLO "surplus") };
	const struct frame f = craft(&c);
	struct rte_mbuf *m = mbuf_of_frame(&f);
	struct bw_pkt pkt;

	parse(m, &pkt);
	assert_int_equal(pkt.kind, BW_PKT_UDP);
	assert_int_equal(pkt.payload_len, 5);
	assert_memory_equal(rte_pktmbuf_mtod_offset(m, char *, pkt.payload_off), "hello", 5);
	mbuf_free(m);
}

static const struct craft bad[] = {
	{ "another's MAC", .dst_mac = "\x02\x00\x00\x00\x00\x02", .drop = BW_DROP_NOT_FOR_US_MAC,
		.proto = IPPROTO_TCP, L4(TCP_PLAIN) },
	{ "another group's MAC", .dst_mac = "\x01\x00\x5e\x00\x00\xfb", .drop = BW_DROP_NOT_FOR_US_MAC,
		.proto = IPPROTO_ICMP, L4(ECHO4) },
	{ "another's solicited node", .dst_mac = "\x33\x33\xff\x00\x00\x77", .drop = BW_DROP_NOT_FOR_US_MAC,
		.proto = IPPROTO_ICMP, L4(ECHO4) },
	{ "from a group's MAC", .src_mac = "\x01\x00\x5e\x00\x00\x01", .drop = BW_DROP_MARTIAN,
		.proto = IPPROTO_TCP, L4(TCP_PLAIN) },
	{ "tag where none is", .is_tagged = true, .tci = VLAN, .drop = BW_DROP_VLAN, .proto = IPPROTO_TCP,
		L4(TCP_PLAIN) },
	{ "tag in a tag", .is_tagged = true, .ethertype = ETHERTYPE_VLAN, .drop = BW_DROP_ETHERTYPE,
		.proto = IPPROTO_TCP, L4(TCP_PLAIN) },
	{ "LLDP", .ethertype = 0x88cc, .drop = BW_DROP_ETHERTYPE, .proto = IPPROTO_TCP, L4(TCP_PLAIN) },
	{ "802.3 length", .ethertype = 0x0026, .drop = BW_DROP_ETHERTYPE, .proto = IPPROTO_TCP,
		L4(TCP_PLAIN) },
	{ "malformed ARP", .ethertype = ETHERTYPE_ARP, .drop = BW_DROP_ARP, .proto = IPPROTO_TCP,
		L4(TCP_PLAIN) },
	/* IPv4 */
	{ "version 6 in IPv4", .version_and_length = 0x65, .drop = BW_DROP_IP_HEADER, .proto = IPPROTO_TCP,
		L4(TCP_PLAIN) },
	{ "header of 16", .version_and_length = 0x44, .drop = BW_DROP_IP_HEADER, .proto = IPPROTO_TCP,
		L4(TCP_PLAIN) },
	{ "header longer than the packet", .version_and_length = 0x4f, .drop = BW_DROP_IP_HEADER,
		.proto = IPPROTO_TCP, L4(TCP_PLAIN) },
	{ "length shorter than the header", .length_delta = -26, .drop = BW_DROP_IP_HEADER,
		.proto = IPPROTO_TCP, L4(TCP_PLAIN) },
	{ "length beyond the frame", .length_delta = 1, .drop = BW_DROP_RUNT, .proto = IPPROTO_TCP,
		L4(TCP_PLAIN) },
	{ "wrong header checksum", .has_bad_ip_sum = true, .drop = BW_DROP_IP_CHECKSUM, .proto = IPPROTO_TCP,
		L4(TCP_PLAIN) },
	{ "loose source route", OPTIONS("\x83\x07\x04\xc0\x00\x02\x63\x00"), .drop = BW_DROP_IP_OPTIONS,
		.proto = IPPROTO_TCP, L4(TCP_PLAIN) },
	{ "strict source route", OPTIONS("\x01\x89\x07\x04\xc0\x00\x02\x63"), .drop = BW_DROP_IP_OPTIONS,
		.proto = IPPROTO_TCP, L4(TCP_PLAIN) },
	{ "option of length 0", OPTIONS("\x44\x00\x00\x00"), .drop = BW_DROP_IP_OPTIONS, .proto = IPPROTO_TCP,
		L4(TCP_PLAIN) },
	{ "option beyond the header", OPTIONS("\x44\x05\x05\x00"), .drop = BW_DROP_IP_OPTIONS,
		.proto = IPPROTO_TCP, L4(TCP_PLAIN) },
	{ "option without a length", OPTIONS("\x01\x01\x01\x44"), .drop = BW_DROP_IP_OPTIONS,
		.proto = IPPROTO_TCP, L4(TCP_PLAIN) },
	{ "to another", .dst = "192.0.2.3", .drop = BW_DROP_NOT_FOR_US_IP, .proto = IPPROTO_TCP,
		L4(TCP_PLAIN) },
	{ "to another group", .dst = "224.0.0.251", .dst_mac = GROUP_MAC, .drop = BW_DROP_NOT_FOR_US_IP,
		.proto = IPPROTO_UDP, L4(UDP_HELLO) },
	{ "broadcast of another prefix", .dst = "192.0.3.255", .dst_mac = GROUP_MAC,
		.drop = BW_DROP_NOT_FOR_US_IP, .proto = IPPROTO_ICMP, L4(ECHO4) },
	{ "the other end of our /31", .dst = "198.51.100.1", .drop = BW_DROP_NOT_FOR_US_IP,
		.proto = IPPROTO_TCP, L4(TCP_PLAIN) },
	{ "to loopback", .dst = "127.0.0.1", .drop = BW_DROP_MARTIAN, .proto = IPPROTO_TCP, L4(TCP_PLAIN) },
	{ "to nobody", .dst = "0.0.0.0", .drop = BW_DROP_MARTIAN, .proto = IPPROTO_TCP, L4(TCP_PLAIN) },
	{ "to us in a broadcast frame", .dst_mac = GROUP_MAC, .drop = BW_DROP_MARTIAN, .proto = IPPROTO_ICMP,
		L4(ECHO4) },
	{ "from us", .src = OURS4, .drop = BW_DROP_MARTIAN, .proto = IPPROTO_TCP, L4(TCP_PLAIN) },
	{ "from broadcast", .src = "255.255.255.255", .drop = BW_DROP_MARTIAN, .proto = IPPROTO_TCP,
		L4(TCP_PLAIN) },
	{ "from our prefix's broadcast", .src = "192.0.2.255", .drop = BW_DROP_MARTIAN, .proto = IPPROTO_TCP,
		L4(TCP_PLAIN) },
	{ "from a group", .src = "224.0.0.1", .drop = BW_DROP_MARTIAN, .proto = IPPROTO_TCP, L4(TCP_PLAIN) },
	{ "from loopback", .src = "127.1.2.3", .drop = BW_DROP_MARTIAN, .proto = IPPROTO_TCP, L4(TCP_PLAIN) },
	{ "from nobody", .src = "0.0.0.0", .drop = BW_DROP_MARTIAN, .proto = IPPROTO_TCP, L4(TCP_PLAIN) },
	{ "TCP to broadcast", .dst = "192.0.2.255", .dst_mac = GROUP_MAC, .drop = BW_DROP_MARTIAN,
		.proto = IPPROTO_TCP, L4(TCP_PLAIN) },
	{ "UDP to broadcast", .dst = "255.255.255.255", .dst_mac = GROUP_MAC, .drop = BW_DROP_NOT_FOR_US_IP,
		.proto = IPPROTO_UDP, L4(UDP_HELLO) },
	/* TCP, UDP, ICMP */
	{ "TCP header of 16", .drop = BW_DROP_L4_HEADER, .proto = IPPROTO_TCP, L4(TCP_FIXED("\x40\x10")) },
	{ "TCP header longer than the packet", .drop = BW_DROP_L4_HEADER, .proto = IPPROTO_TCP,
		L4(TCP_FIXED("\x60\x10")) },
	{ "TCP too short", .drop = BW_DROP_L4_HEADER, .proto = IPPROTO_TCP,
		L4("\x30\x39\x00\x50\x01\x02\x03\x04\x0a\x0b\x0c\x0d\x50\x10\x20\x00\x00\x00\x00") },
	{ "TCP checksum", .has_bad_l4_sum = true, .drop = BW_DROP_L4_CHECKSUM, .proto = IPPROTO_TCP,
		L4(TCP_PLAIN) },
	{ "UDP too short", .drop = BW_DROP_L4_HEADER, .proto = IPPROTO_UDP,
		L4("\x30\x39\x00\x35\x00\x08\x00") },
	{ "UDP length of 7", .drop = BW_DROP_L4_HEADER, .proto = IPPROTO_UDP,
		L4("\x30\x39\x00\x35\x00\x07\x00\x00") },
	{ "UDP length beyond IP's", .drop = BW_DROP_L4_HEADER, .proto = IPPROTO_UDP,
		L4("\x30\x39\x00\x35\x00\x09\x00\x00") },
	{ "UDP checksum", .has_bad_l4_sum = true, .drop = BW_DROP_L4_CHECKSUM, .proto = IPPROTO_UDP,
		L4(UDP_HELLO) },
	{ "UDP over IPv6 without checksum", .dst = OURS6, .l4_sum_off = -1, .drop = BW_DROP_L4_CHECKSUM,
		.proto = IPPROTO_UDP, L4(UDP_HELLO) },
	{ "ICMP too short", .drop = BW_DROP_L4_HEADER, .proto = IPPROTO_ICMP,
		L4("\x08\x00\x00\x00\x12\x34\x00") },
	{ "ICMP checksum", .has_bad_l4_sum = true, .drop = BW_DROP_L4_CHECKSUM, .proto = IPPROTO_ICMP,
		L4(ECHO4) },
	{ "ICMPv6 checksum", .dst = OURS6, .has_bad_l4_sum = true, .drop = BW_DROP_L4_CHECKSUM,
		.proto = IPPROTO_ICMPV6, L4(ECHO6) },
	/* IPv4 fragments */
	{ "empty fragment", .fragment = 0x0001, .drop = BW_DROP_FRAGMENT, .proto = IPPROTO_UDP, L4("") },
	{ "crooked fragment", .fragment = 0x2001, .drop = BW_DROP_FRAGMENT, .proto = IPPROTO_UDP,
		L4("123456789") },
	{ "fragment beyond 65535", .fragment = 0x1fff, .drop = BW_DROP_FRAGMENT, .proto = IPPROTO_UDP,
		L4("12345678") },
	{ "tiny first fragment of TCP", .fragment = 0x2000, .drop = BW_DROP_FRAGMENT, .proto = IPPROTO_TCP,
		L4("\x30\x39\x00\x50\x01\x02\x03\x04\x0a\x0b\x0c\x0d\x50\x10\x20\x00") },
	{ "first fragment without all options", .fragment = 0x2000, .drop = BW_DROP_FRAGMENT,
		.proto = IPPROTO_TCP, L4(TCP_FIXED("\xa0\x02") "\x02\x04\x05\xb4") },
	{ "fragment over the TCP flags", .fragment = 0x0001, .drop = BW_DROP_FRAGMENT, .proto = IPPROTO_TCP,
		L4("12345678") },
	{ "fragment of TCP to broadcast", .dst = "192.0.2.255", .fragment = 0x0008, .drop = BW_DROP_MARTIAN,
		.proto = IPPROTO_TCP, L4("12345678") },
	/* IPv6 */
	{ "version 4 in IPv6", .dst = OURS6, .version_and_length = 0x40, .drop = BW_DROP_IP_HEADER,
		.proto = IPPROTO_TCP, L4(TCP_PLAIN) },
	{ "IPv6 length beyond the frame", .dst = OURS6, .length_delta = 1, .drop = BW_DROP_RUNT,
		.proto = IPPROTO_TCP, L4(TCP_PLAIN) },
	{ "IPv6 length beyond what we can say", .dst = OURS6, .length_delta = 65500,
		.drop = BW_DROP_IP_HEADER, .proto = IPPROTO_TCP, L4(TCP_PLAIN) },
	{ "IPv6 to another", .dst = "2001:db8::3", .drop = BW_DROP_NOT_FOR_US_IP, .proto = IPPROTO_TCP,
		L4(TCP_PLAIN) },
	{ "IPv6 to another group", .dst = "ff02::fb", .dst_mac = "\x33\x33\x00\x00\x00\x01",
		.drop = BW_DROP_NOT_FOR_US_IP, .proto = IPPROTO_UDP, L4(UDP_HELLO) },
	{ "IPv6 to loopback", .dst = "::1", .drop = BW_DROP_MARTIAN, .proto = IPPROTO_TCP, L4(TCP_PLAIN) },
	{ "IPv6 to a mapped address of ours", .dst = "::ffff:192.0.2.2", .src = "2001:db8::1",
		.drop = BW_DROP_MARTIAN, .proto = IPPROTO_TCP, L4(TCP_PLAIN) },
	{ "IPv6 from a mapped address", .dst = OURS6, .src = "::ffff:192.0.2.1", .drop = BW_DROP_MARTIAN,
		.proto = IPPROTO_TCP, L4(TCP_PLAIN) },
	{ "IPv6 from a group", .dst = OURS6, .src = "ff02::1", .drop = BW_DROP_MARTIAN, .proto = IPPROTO_TCP,
		L4(TCP_PLAIN) },
	{ "IPv6 from loopback", .dst = OURS6, .src = "::1", .drop = BW_DROP_MARTIAN, .proto = IPPROTO_TCP,
		L4(TCP_PLAIN) },
	{ "TCP from ::", .dst = OURS6, .src = "::", .drop = BW_DROP_MARTIAN, .proto = IPPROTO_TCP,
		L4(TCP_PLAIN) },
	{ "echo from ::", .dst = OURS6, .src = "::", .drop = BW_DROP_MARTIAN, .proto = IPPROTO_ICMPV6,
		L4(ECHO6) },
	{ "TCP from us", .dst = OURS6, .src = OURS6, .drop = BW_DROP_MARTIAN, .proto = IPPROTO_TCP,
		L4(TCP_PLAIN) },
	{ "solicitation from us", .dst = OURS6, .src = OURS6, .ttl = 255, .drop = BW_DROP_MARTIAN,
		.proto = IPPROTO_ICMPV6, L4(ND_OF_OURS6("\x87")) },
	{ "fragment from us", .dst = OURS6, .src = OURS6, .l4_sum_off = -1, .drop = BW_DROP_MARTIAN,
		.proto = IPPROTO_ICMPV6, L4("last"), EXT(44, EXT_FRAGMENT("\x3a", "\x00\x10")) },
	{ "IPv6 to us in a group's frame", .dst = OURS6, .dst_mac = "\x33\x33\x00\x00\x00\x01",
		.drop = BW_DROP_MARTIAN, .proto = IPPROTO_ICMPV6, L4(ECHO6) },
	{ "TCP to all nodes", .dst = "ff02::1", .dst_mac = "\x33\x33\x00\x00\x00\x01",
		.drop = BW_DROP_MARTIAN, .proto = IPPROTO_TCP, L4(TCP_PLAIN) },
	{ "nothing", .dst = OURS6, .drop = BW_DROP_PROTOCOL, .proto = IPPROTO_NONE, L4("") },
	/* Extension headers */
	{ "hop-by-hop not first", .dst = OURS6, .drop = BW_DROP_IP_OPTIONS, .proto = IPPROTO_TCP,
		L4(TCP_PLAIN), EXT(60, EXT_OPTIONS("\x00") EXT_OPTIONS("\x06")) },
	{ "option beyond its header", .dst = OURS6, .drop = BW_DROP_IP_OPTIONS, .proto = IPPROTO_TCP,
		L4(TCP_PLAIN), EXT(60, EXT_BROKEN_OPTION("\x06")) },
	{ "extension beyond the packet", .dst = OURS6, .drop = BW_DROP_IP_OPTIONS, .proto = IPPROTO_DSTOPTS,
		L4("\x06\x01\x01\x04\x00\x00\x00\x00") },
	{ "too many extensions", .dst = OURS6, .drop = BW_DROP_IP_OPTIONS, .proto = IPPROTO_TCP,
		L4(TCP_PLAIN),
		EXT(60, EXT_OPTIONS("\x3c") EXT_OPTIONS("\x3c") EXT_OPTIONS("\x3c") EXT_OPTIONS("\x3c")
				EXT_OPTIONS("\x3c") EXT_OPTIONS("\x3c") EXT_OPTIONS("\x3c")
					EXT_OPTIONS("\x3c") EXT_OPTIONS("\x06")) },
	/* IPv6 fragments */
	{ "empty IPv6 fragment", .dst = OURS6, .drop = BW_DROP_FRAGMENT, .proto = IPPROTO_UDP, L4(""),
		EXT(44, EXT_FRAGMENT("\x11", "\x00\x10")) },
	{ "tiny first IPv6 fragment", .dst = OURS6, .drop = BW_DROP_FRAGMENT, .proto = IPPROTO_TCP,
		L4("12345678"), EXT(44, EXT_FRAGMENT("\x06", "\x00\x01")) },
	{ "first IPv6 fragment without all headers", .dst = OURS6, .drop = BW_DROP_FRAGMENT,
		.proto = IPPROTO_TCP, L4(""), EXT(44, EXT_FRAGMENT("\x3c", "\x00\x01") EXT_OPTIONS("\x3c")) },
	{ "fragment in a fragment", .dst = OURS6, .drop = BW_DROP_FRAGMENT, .proto = IPPROTO_TCP,
		L4(TCP_PLAIN), EXT(44, EXT_FRAGMENT("\x2c", "\x00\x00") EXT_FRAGMENT("\x06", "\x00\x01")) },
	/* RFC 6980: not even one that is whole. */
	{ "solicitation with a fragment header", .dst = OURS6, .ttl = 255, .drop = BW_DROP_ND,
		.proto = IPPROTO_ICMPV6, L4(ND_OF_OURS6("\x87")), EXT(44, EXT_FRAGMENT("\x3a", "\x00\x00")) },
	{ "advertisement with a fragment header", .dst = OURS6, .ttl = 255, .drop = BW_DROP_ND,
		.proto = IPPROTO_ICMPV6, L4(ND_OF_OURS6("\x88")), EXT(44, EXT_FRAGMENT("\x3a", "\x00\x00")) },
	/* Nobody is told */
	{ "an option to be silent about", .dst = OURS6, .drop = BW_DROP_IP_OPTIONS, .proto = IPPROTO_TCP,
		L4(TCP_PLAIN), EXT(60, EXT_UNKNOWN_OPTION("\x06", "\x5e")) },
	{ "an option for one, sent to all", .dst = "ff02::1", .dst_mac = "\x33\x33\x00\x00\x00\x01",
		.drop = BW_DROP_IP_OPTIONS, .proto = IPPROTO_ICMPV6, L4(ECHO6),
		EXT(60, EXT_UNKNOWN_OPTION("\x3a", "\xde")) },
	{ "segments left, sent to all", .dst = "ff02::1", .dst_mac = "\x33\x33\x00\x00\x00\x01",
		.drop = BW_DROP_IP_OPTIONS, .proto = IPPROTO_ICMPV6, L4(ECHO6),
		EXT(43, EXT_ROUTING("\x3a", "\x04", "\x01")) },
	{ "an error with an option", .dst = OURS6, .drop = BW_DROP_IP_OPTIONS, .proto = IPPROTO_ICMPV6,
		L4("\x01\x04\x00\x00\x00\x00\x00\x00"), EXT(60, EXT_UNKNOWN_OPTION("\x3a", "\x9e")) },
	{ "an error that cannot be seen", .dst = OURS6, .drop = BW_DROP_IP_OPTIONS, .proto = IPPROTO_ICMPV6,
		L4(""), EXT(60, EXT_UNKNOWN_OPTION("\x3a", "\x9e")) },
	{ "fragment of UDP to all nodes", .dst = "ff02::1", .dst_mac = "\x33\x33\x00\x00\x00\x01",
		.drop = BW_DROP_NOT_FOR_US_IP, .proto = IPPROTO_UDP, L4("12345678"), .l4_sum_off = -1,
		EXT(44, EXT_FRAGMENT("\x11", "\x00\x10")) },
};

static void every_bad_packet_is_dropped_for_its_reason(void **state)
{
	for (unsigned i = 0; i < BW_ARRAY_LEN(bad); i++) {
		const struct frame f = craft(&bad[i]);
		struct rte_mbuf *m = mbuf_of_frame(&f);
		struct bw_pkt pkt;

		parse(m, &pkt);
		if (pkt.kind != BW_PKT_DROP || pkt.drop != bad[i].drop)
			print_error("%s: kind %u, %s\n", bad[i].name, pkt.kind, bw_counter_name[pkt.drop]);
		assert_int_equal(pkt.kind, BW_PKT_DROP);
		assert_int_equal(pkt.drop, bad[i].drop);
		assert_ptr_equal(pkt.m, m);
		mbuf_free(m);
	}
}

static void senders_are_told_what_is_wrong_and_where(void **state)
{
	static const struct {
		struct craft c;
		uint8_t code;
		unsigned at; /* from the IPv6 header */
	} problems[] = {
		{ { "jumbogram", .dst = OURS6, .drop = BW_DROP_IP_OPTIONS, .proto = IPPROTO_TCP,
			  L4(TCP_PLAIN), EXT(0, EXT_FATAL_OPTION("\x06")) },
			2, 40 + 2 },
		{ { "unknown option", .dst = OURS6, .drop = BW_DROP_IP_OPTIONS, .proto = IPPROTO_ICMPV6,
			  L4(ECHO6), EXT(60, EXT_PADDED("\x3c") EXT_UNKNOWN_OPTION("\x3a", "\x9e")) },
			2, 40 + 16 + 4 },
		{ { "unknown option for all", .dst = "ff02::1", .dst_mac = "\x33\x33\x00\x00\x00\x01",
			  .drop = BW_DROP_IP_OPTIONS, .proto = IPPROTO_ICMPV6, L4(ECHO6),
			  EXT(60, EXT_UNKNOWN_OPTION("\x3a", "\x9e")) },
			2, 40 + 4 },
		{ { "segments left", .dst = OURS6, .drop = BW_DROP_IP_OPTIONS, .proto = IPPROTO_TCP,
			  L4(TCP_PLAIN), EXT(43, EXT_ROUTING("\x06", "\x04", "\x01")) },
			0, 40 + 2 },
		{ { "segments left, type 0", .dst = OURS6, .drop = BW_DROP_IP_OPTIONS, .proto = IPPROTO_TCP,
			  L4(TCP_PLAIN), EXT(43, EXT_ROUTING("\x06", "\x00", "\x01")) },
			0, 40 + 2 },
		{ { "crooked IPv6 fragment", .dst = OURS6, .drop = BW_DROP_FRAGMENT, .proto = IPPROTO_UDP,
			  L4("123456789"), .l4_sum_off = -1, EXT(44, EXT_FRAGMENT("\x11", "\x00\x11")) },
			0, 4 },
		{ { "IPv6 fragment beyond 65535", .dst = OURS6, .drop = BW_DROP_FRAGMENT,
			  .proto = IPPROTO_UDP, L4("12345678"), .l4_sum_off = -1,
			  EXT(44, EXT_FRAGMENT("\x11", "\xff\xf8")) },
			0, 40 + 2 },
	};

	for (unsigned i = 0; i < BW_ARRAY_LEN(problems); i++) {
		const struct frame f = craft(&problems[i].c);
		struct rte_mbuf *m = mbuf_of_frame(&f);
		struct bw_pkt pkt;

		parse(m, &pkt);
		if (pkt.kind != BW_PKT_BAD_HEADER)
			print_error(
				"%s: kind %u, %s\n", problems[i].c.name, pkt.kind, bw_counter_name[pkt.drop]);
		assert_int_equal(pkt.kind, BW_PKT_BAD_HEADER);
		assert_int_equal(pkt.drop, problems[i].c.drop);
		assert_int_equal(pkt.problem_code, problems[i].code);
		assert_int_equal(pkt.problem_off, pkt.l3_off + problems[i].at);
		check_bounds(&pkt);
		mbuf_free(m);
	}
}

static void chain_of_extensions_is_bounded_in_bytes(void **state)
{
	static char ext[264] = { IPPROTO_TCP }; /* destination options, all padding */

	for (unsigned bytes = 248; bytes <= sizeof(ext); bytes += 8) {
		const struct craft c = { .dst = OURS6,
			.proto = IPPROTO_TCP,
			L4(TCP_PLAIN),
			.ext_first = IPPROTO_DSTOPTS,
			.ext = ext,
			.ext_len = bytes };
		struct rte_mbuf *m;
		struct bw_pkt pkt;

		ext[1] = (char)(bytes / 8 - 1);
		const struct frame f = craft(&c);
		m = mbuf_of_frame(&f);
		parse(m, &pkt);
		assert_int_equal(pkt.kind, bytes <= 256 ? BW_PKT_TCP : BW_PKT_DROP);
		assert_int_equal(pkt.drop, bytes <= 256 ? 0 : BW_DROP_IP_OPTIONS);
		mbuf_free(m);
	}
}

static void only_our_vlan_is_ours(void **state)
{
	static const struct {
		bool is_tagged, is_stripped;
		uint16_t tci;
	} others[] = { { false, false, 0 }, { true, false, VLAN + 1 }, { true, false, 0xe000 },
		{ false, true, VLAN + 1 } };

	host.vlan = VLAN;
	for (unsigned i = 0; i < BW_ARRAY_LEN(others); i++) {
		const struct craft c = { .is_tagged = others[i].is_tagged,
			.tci = others[i].tci,
			.proto = IPPROTO_TCP,
			L4(TCP_PLAIN) };
		const struct frame f = craft(&c);
		struct rte_mbuf *m = mbuf_of_frame(&f);
		struct bw_pkt pkt;

		m->ol_flags = others[i].is_stripped ? RTE_MBUF_F_RX_VLAN_STRIPPED : 0;
		m->vlan_tci = others[i].tci;
		parse(m, &pkt);
		assert_int_equal(pkt.kind, BW_PKT_DROP);
		assert_int_equal(pkt.drop, BW_DROP_VLAN);
		mbuf_free(m);
	}
}

static unsigned kind_with(const struct craft *c, uint64_t ol_flags)
{
	const struct frame f = craft(c);
	struct rte_mbuf *m = mbuf_of_frame(&f);
	struct bw_pkt pkt;

	m->ol_flags = ol_flags;
	parse(m, &pkt);
	mbuf_free(m);
	return pkt.kind;
}

static void devices_are_believed_when_they_say_good_only(void **state)
{
	struct craft c = { .proto = IPPROTO_TCP, L4(TCP_PLAIN) };

	assert_int_equal(kind_with(&c, RTE_MBUF_F_RX_L4_CKSUM_BAD | RTE_MBUF_F_RX_IP_CKSUM_BAD), BW_PKT_TCP);
	assert_int_equal(
		kind_with(&c, RTE_MBUF_F_RX_L4_CKSUM_NONE | RTE_MBUF_F_RX_IP_CKSUM_NONE), BW_PKT_TCP);
	c.has_bad_l4_sum = true;
	assert_int_equal(kind_with(&c, RTE_MBUF_F_RX_L4_CKSUM_GOOD), BW_PKT_TCP);
	assert_int_equal(kind_with(&c, RTE_MBUF_F_RX_L4_CKSUM_NONE), BW_PKT_DROP);
	assert_int_equal(kind_with(&c, RTE_MBUF_F_RX_L4_CKSUM_BAD), BW_PKT_DROP);
	c.has_bad_ip_sum = true;
	assert_int_equal(kind_with(&c, RTE_MBUF_F_RX_L4_CKSUM_GOOD), BW_PKT_DROP);
	assert_int_equal(
		kind_with(&c, RTE_MBUF_F_RX_L4_CKSUM_GOOD | RTE_MBUF_F_RX_IP_CKSUM_GOOD), BW_PKT_TCP);

	c = (struct craft){ .proto = IPPROTO_ICMP, .has_bad_l4_sum = true, L4(ECHO4) };
	assert_int_equal(kind_with(&c, RTE_MBUF_F_RX_L4_CKSUM_GOOD), BW_PKT_DROP);
}

/* What a veth peer with transmit checksum offload sends: the pseudo-header's sum in the field. */
static void partial_checksum_only_where_it_never_crossed_a_wire(void **state)
{
	static const struct craft senders[] = {
		{ .proto = IPPROTO_TCP, .l4_sum_off = -1, L4(TCP_PLAIN) },
		{ .proto = IPPROTO_UDP, .l4_sum_off = -1, L4(UDP_HELLO) },
		{ .dst = OURS6, .proto = IPPROTO_TCP, .l4_sum_off = -1, L4(TCP_PLAIN) },
	};

	for (unsigned i = 0; i < BW_ARRAY_LEN(senders); i++) {
		const struct craft *c = &senders[i];
		const unsigned sum_off = c->proto == IPPROTO_TCP ? 16 : 6;
		const struct bw_ip src = ip(c->dst != NULL ? "2001:db8::1" : "192.0.2.1");
		const struct bw_ip dst = ip(c->dst != NULL ? c->dst : OURS4);
		struct frame f = craft(c);

		set16(f.b + f.l4_off + sum_off, naive_pseudo(&src, &dst, c->proto, c->l4_len));
		for (unsigned way = 0; way < 4; way++) {
			struct rte_mbuf *m;
			struct bw_pkt pkt;

			f.b[f.l4_off + sum_off] ^= way == 3; /* not even the pseudo-header's */
			m = mbuf_of_frame(&f);
			m->ol_flags = way == 2 ? RTE_MBUF_F_RX_L4_CKSUM_NONE : 0;
			host.accepts_partial_checksum = way == 1 || way == 3;
			parse(m, &pkt);
			assert_int_equal(pkt.kind != BW_PKT_DROP, way == 1 || way == 2);
			assert_true(pkt.kind != BW_PKT_DROP || pkt.drop == BW_DROP_L4_CHECKSUM);
			mbuf_free(m);
		}
		host.accepts_partial_checksum = false;
	}
}

/* Cut at any byte, the frame is shorter than its headers say. */
static void truncated_frames_are_runts(void **state)
{
	for (unsigned i = 0; i <= BW_ARRAY_LEN(good); i++) {
		const struct frame f = i < BW_ARRAY_LEN(good) ? craft(&good[i]) : arp_frame(false);

		for (unsigned length = 0; length < f.len; length++) {
			struct rte_mbuf *m = mbuf_of(f.b, length, 0, 0);
			struct bw_pkt pkt;

			parse(m, &pkt);
			assert_int_equal(pkt.kind, BW_PKT_DROP);
			assert_int_equal(pkt.drop, BW_DROP_RUNT);
			mbuf_free(m);
		}
	}
}

/* The same with an IP length that agrees with the cut: the next header's bounds are what is left. */
static void truncated_packets_stay_within_bounds(void **state)
{
	for (unsigned i = 0; i < BW_ARRAY_LEN(good); i++) {
		for (unsigned length = 0; length < good[i].l4_len; length++) {
			struct craft c = good[i];
			struct rte_mbuf *m;
			struct bw_pkt pkt;

			c.l4_len = length;
			const struct frame f = craft(&c);
			m = mbuf_of_frame(&f);
			m->ol_flags = RTE_MBUF_F_RX_L4_CKSUM_GOOD;
			parse(m, &pkt);
			check_bounds(&pkt);
			assert_true(pkt.kind == c.kind || pkt.kind == BW_PKT_DROP ||
				    (c.kind == BW_PKT_FRAGMENT && pkt.kind == BW_PKT_BAD_HEADER));
			mbuf_free(m);
		}
		for (unsigned length = 0; length < good[i].ext_len; length++) {
			struct craft c = good[i];
			struct rte_mbuf *m;
			struct bw_pkt pkt;

			c.ext_len = length != 0 ? length : 1;
			c.l4_len = 0;
			const struct frame f = craft(&c);
			m = mbuf_of_frame(&f);
			parse(m, &pkt);
			assert_int_equal(pkt.kind, BW_PKT_DROP);
			mbuf_free(m);
		}
	}
}

static void headers_must_be_in_the_first_segment_payload_need_not(void **state)
{
	for (unsigned i = 0; i < BW_ARRAY_LEN(good); i++) {
		const struct frame f = craft(&good[i]);
		struct rte_mbuf *m = mbuf_of_frame(&f);
		struct bw_pkt whole, pkt;
		unsigned headers_end;

		parse(m, &whole);
		headers_end = whole.kind == BW_PKT_ICMP4 || whole.kind == BW_PKT_ICMP6 ? whole.l4_off + 8u
										       : whole.payload_off;
		mbuf_free(m);
		for (unsigned cut = 1; cut < f.len; cut++) {
			m = mbuf_in_two(f.b, f.len, cut);
			parse(m, &pkt);
			check_bounds(&pkt);
			if (cut >= headers_end && good[i].kind != BW_PKT_FRAGMENT)
				assert_int_equal(pkt.kind, good[i].kind);
			else if (cut < headers_end)
				assert_true(pkt.kind == BW_PKT_FRAGMENT ||
					    (pkt.kind == BW_PKT_DROP && pkt.drop == BW_DROP_RUNT));
			mbuf_free(m);
		}
	}
}

static void padding_in_segments_of_its_own_is_cut_off(void **state)
{
	const struct craft c = { .proto = IPPROTO_TCP, L4(TCP_PLAIN), .padding = 9 };
	const struct frame f = craft(&c);
	struct rte_mbuf *m = mbuf_in_two(f.b, f.len, f.len - 4), *padding = m->next;
	struct bw_pkt pkt;

	rte_mbuf_refcnt_set(padding, 2); /* there is no pool to give it back to */
	parse(m, &pkt);
	assert_int_equal(pkt.kind, BW_PKT_TCP);
	assert_int_equal(m->nb_segs, 1);
	assert_null(m->next);
	assert_int_equal(m->data_len, f.len - 9);
	assert_int_equal(m->pkt_len, f.len - 9);
	assert_int_equal(rte_mbuf_refcnt_read(padding), 1);
	mbuf_free(padding);
	mbuf_free(m);
}

static void fragment_is_ready_for_the_library(void **state)
{
	static const struct craft fragments[] = {
		{ .fragment = 0x0002,
			OPTIONS("\x94\x04\x00\x00"),
			.proto = IPPROTO_UDP,
			L4("last"),
			.padding = 7 },
		{ .dst = OURS6,
			.proto = IPPROTO_UDP,
			.l4_sum_off = -1,
			L4("last"),
			.padding = 7,
			EXT(44, EXT_FRAGMENT("\x11", "\x00\x10")) },
		{ .dst = OURS6,
			.proto = IPPROTO_UDP,
			.l4_sum_off = -1,
			L4("last"),
			.padding = 7,
			EXT(0, EXT_OPTIONS("\x3c") EXT_PADDED("\x2c") EXT_FRAGMENT("\x11", "\x00\x10")) },
	};

	for (unsigned i = 0; i < BW_ARRAY_LEN(fragments); i++) {
		const struct frame f = craft(&fragments[i]);
		struct rte_mbuf *m = mbuf_of_frame(&f);
		const uint8_t *data;
		struct bw_pkt pkt;

		parse(m, &pkt);
		data = rte_pktmbuf_mtod(m, const uint8_t *);
		assert_int_equal(pkt.kind, BW_PKT_FRAGMENT);
		check_bounds(&pkt);
		assert_int_equal(pkt.ip_proto, IPPROTO_UDP);
		assert_int_equal(m->l2_len, 14);
		assert_int_equal(m->l3_len, i == 0 ? 24 : 48);
		assert_int_equal(m->pkt_len, m->l2_len + m->l3_len + 4);
		assert_int_equal(m->data_len, m->pkt_len);
		assert_memory_equal(data, HOST_MAC PEER_MAC, 12);
		assert_memory_equal(data + m->l2_len + m->l3_len, "last", 4);
		if (i == 0)
			assert_int_equal(get16(data + 16), m->l3_len + 4);
		else {
			assert_int_equal(pkt.fragment_off, 54);
			assert_int_equal(get16(data + 18), 12);
			assert_int_equal(data[20], 44);
			assert_memory_equal(data + 54, EXT_FRAGMENT("\x11", "\x00\x10"), 8);
		}
		mbuf_free(m);
	}
}

static void whole_that_was_put_together_parses_from_ip_on(void **state)
{
	struct craft c = { .proto = IPPROTO_TCP, L4(TCP_PLAIN), .has_bad_ip_sum = true };
	struct frame f = craft(&c);
	struct rte_mbuf *m = mbuf_of_frame(&f);
	struct bw_pkt pkt;

	/* The library leaves the IPv4 checksum undone; TCP's counts. */
	bw_pkt_parse_ip(m, &host, 14, &pkt);
	assert_int_equal(pkt.kind, BW_PKT_TCP);
	mbuf_free(m);

	c = (struct craft){ .dst = OURS6, .proto = IPPROTO_UDP, L4(UDP_HELLO), .has_bad_l4_sum = true };
	f = craft(&c);
	m = mbuf_of_frame(&f);
	bw_pkt_parse_ip(m, &host, 14, &pkt);
	assert_int_equal(pkt.drop, BW_DROP_L4_CHECKSUM);
	mbuf_free(m);

	c = (struct craft){
		.dst = OURS6, .proto = IPPROTO_UDP, L4(UDP_HELLO), EXT(44, EXT_FRAGMENT("\x11", "\x00\x00"))
	};
	f = craft(&c);
	m = mbuf_of_frame(&f);
	bw_pkt_parse_ip(m, &host, 14, &pkt);
	assert_int_equal(pkt.drop, BW_DROP_FRAGMENT);
	mbuf_free(m);

	/* RFC 6980: neighbour discovery does not come in fragments. */
	c = (struct craft){ .dst = OURS6, .ttl = 255, .proto = IPPROTO_ICMPV6, L4(ND_OF_OURS6("\x88")) };
	f = craft(&c);
	m = mbuf_of_frame(&f);
	bw_pkt_parse_ip(m, &host, 14, &pkt);
	assert_int_equal(pkt.drop, BW_DROP_ND);
	mbuf_free(m);

	/* What has no IP header in its first segment. */
	m = mbuf_in_two(f.b, f.len, 14);
	bw_pkt_parse_ip(m, &host, 14, &pkt);
	assert_int_equal(pkt.kind, BW_PKT_DROP);
	assert_int_equal(pkt.drop, BW_DROP_RUNT);
	mbuf_free(m);
}

static void parameter_problems_point_at_the_right_byte(void **state)
{
	const struct craft c = {
		.dst = OURS6, .proto = 132, L4("0123456789ab"), EXT(0, EXT_OPTIONS("\x3c") EXT_PADDED("\x84"))
	};
	const struct frame f = craft(&c);
	struct rte_mbuf *m = mbuf_of_frame(&f);
	struct bw_pkt pkt;

	parse(m, &pkt);
	assert_int_equal(pkt.kind, BW_PKT_BAD_PROTOCOL);
	assert_int_equal(pkt.ip6_proto_field_off, 14 + 40 + 8);
	assert_int_equal(f.b[pkt.ip6_proto_field_off], 132);
	mbuf_free(m);
}

static void flow_hash_is_symmetric_keyed_and_spread(void **state)
{
	struct bw_flow flow = { ip(OURS4), ip("192.0.2.1"), htons(80), 0 };
	unsigned owners[4] = { 0 };
	uint32_t first;

	bw_flow_hash_seed(1);
	for (unsigned port = 0; port < 4096; port++) {
		flow.remote_port_be = htons((uint16_t)port);
		owners[bw_flow_hash(&flow) % 4]++;
	}
	for (unsigned i = 0; i < 4; i++)
		assert_in_range(owners[i], 4096 / 4 - 150, 4096 / 4 + 150);
	first = bw_flow_hash(&flow);
	bw_flow_hash_seed(2);
	assert_int_not_equal(bw_flow_hash(&flow), first);

	/* The same two addresses with the ports the other way round are another connection. */
	flow = (struct bw_flow){ ip(OURS4), ip("192.0.2.1"), htons(1), htons(2) };
	first = bw_flow_hash(&flow);
	flow = (struct bw_flow){ ip(OURS4), ip("192.0.2.1"), htons(2), htons(1) };
	assert_int_not_equal(bw_flow_hash(&flow), first);
	flow = (struct bw_flow){ ip("192.0.2.1"), ip(OURS4), htons(2), htons(1) };
	assert_int_equal(bw_flow_hash(&flow), first);
	flow = (struct bw_flow){ ip(OURS4), ip(OURS4), htons(2), htons(1) };
	first = bw_flow_hash(&flow);
	flow = (struct bw_flow){ ip(OURS4), ip(OURS4), htons(1), htons(2) };
	assert_int_equal(bw_flow_hash(&flow), first);
}

/* Good packets with a few bytes changed, checksums made good again half of the time so that it gets deep. */
static void noise_never_leaves_the_bounds(void **state)
{
	uint64_t random = 0x9e3779b97f4a7c15u;
	unsigned kinds[BW_PKT_BAD_HEADER + 1] = { 0 };

	for (unsigned round = 0; round < 400000; round++) {
		const unsigned which = (unsigned)(random_next(&random) % (BW_ARRAY_LEN(good) + 1));
		struct frame f = which < BW_ARRAY_LEN(good) ? craft(&good[which]) : arp_frame(false);
		struct bw_icmp_quote quote;
		struct bw_arp_fields arp;
		struct bw_nd_fields nd;
		struct rte_mbuf *m;
		struct bw_pkt pkt;

		for (unsigned n = (unsigned)(random_next(&random) % 4); n > 0; n--)
			f.b[14 + random_next(&random) % (f.len - 14)] = (uint8_t)random_next(&random);
		if (random_next(&random) % 4 == 0)
			f.len = (unsigned)(random_next(&random) % f.len);
		if (random_next(&random) % 2 == 0 && f.l4_off + 8 < f.len && which < BW_ARRAY_LEN(good)) {
			const struct craft *c = &good[which];
			struct bw_ip src = ip(c->src != NULL   ? c->src
					      : c->dst == NULL ? "192.0.2.1"
							       : "2001:db8::1");
			struct bw_ip dst = ip(c->dst != NULL ? c->dst : OURS4);
			const unsigned count = f.len - f.l4_off;

			/*
			 * ICMP types are drawn anew: errors and neighbour discovery have readers of their
			 * own.
			 */
			if (c->proto == IPPROTO_ICMP || c->proto == IPPROTO_ICMPV6) {
				f.b[f.l4_off] = "\x03\x0b\x0c\x01\x02\x04\x87\x88"[random_next(&random) % 8];
				set16(f.b + f.l4_off + 2, 0);
				set16(f.b + f.l4_off + 2,
					0xffff ^
						naive_add(f.b + f.l4_off, count,
							c->proto == IPPROTO_ICMP
								? 0
								: naive_pseudo(&src, &dst, c->proto, count)));
			}
		}
		m = random_next(&random) % 4 == 0 && f.len > 1
			    ? mbuf_in_two(f.b, f.len, 1 + (unsigned)(random_next(&random) % (f.len - 1)))
			    : mbuf_of_frame(&f);
		for (struct rte_mbuf *seg = m->next; seg != NULL; seg = seg->next)
			rte_mbuf_refcnt_set(seg, 2);
		struct rte_mbuf *second = m->next;

		m->ol_flags = random_next(&random) % 2 == 0
				      ? RTE_MBUF_F_RX_L4_CKSUM_GOOD | RTE_MBUF_F_RX_IP_CKSUM_GOOD
				      : 0;
		parse(m, &pkt);
		check_bounds(&pkt);
		kinds[pkt.kind]++;
		if (pkt.kind == BW_PKT_ARP) {
			(void)bw_arp_parse(&pkt, &arp);
		} else if (pkt.kind == BW_PKT_ICMP4 || pkt.kind == BW_PKT_ICMP6) {
			(void)bw_icmp_quote_parse(&pkt, &quote);
			if (pkt.kind == BW_PKT_ICMP6)
				(void)bw_nd_parse(&pkt, &nd);
		}
		if (m->next != second)
			mbuf_free(second);
		mbuf_free(m);
	}
	for (unsigned kind = 0; kind < BW_ARRAY_LEN(kinds); kind++)
		assert_true(kinds[kind] > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(every_good_packet_is_its_kind_tagged_or_not, set_up),
		cmocka_unit_test_setup(arp_is_arp_tagged_or_not, set_up),
		cmocka_unit_test_setup(tcp_fields_payload_and_hash, set_up),
		cmocka_unit_test_setup(udp_payload_ends_where_udp_says, set_up),
		cmocka_unit_test_setup(every_bad_packet_is_dropped_for_its_reason, set_up),
		cmocka_unit_test_setup(senders_are_told_what_is_wrong_and_where, set_up),
		cmocka_unit_test_setup(chain_of_extensions_is_bounded_in_bytes, set_up),
		cmocka_unit_test_setup(only_our_vlan_is_ours, set_up),
		cmocka_unit_test_setup(devices_are_believed_when_they_say_good_only, set_up),
		cmocka_unit_test_setup(partial_checksum_only_where_it_never_crossed_a_wire, set_up),
		cmocka_unit_test_setup(truncated_frames_are_runts, set_up),
		cmocka_unit_test_setup(truncated_packets_stay_within_bounds, set_up),
		cmocka_unit_test_setup(headers_must_be_in_the_first_segment_payload_need_not, set_up),
		cmocka_unit_test_setup(padding_in_segments_of_its_own_is_cut_off, set_up),
		cmocka_unit_test_setup(fragment_is_ready_for_the_library, set_up),
		cmocka_unit_test_setup(whole_that_was_put_together_parses_from_ip_on, set_up),
		cmocka_unit_test_setup(parameter_problems_point_at_the_right_byte, set_up),
		cmocka_unit_test_setup(flow_hash_is_symmetric_keyed_and_spread, set_up),
		cmocka_unit_test_setup(noise_never_leaves_the_bounds, set_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
