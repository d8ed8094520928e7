/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Every packet has an outcome with a name. One list, one array a worker, no atomics: a worker writes its own,
 * others read them for display and may see a value that is a few packets old.
 *
 * "drop." counters say why a packet went no further; they and "rx.packets" balance with what was accepted.
 */
#pragma once

#include <base/types.h>

/* X(symbol, "name", "what it counts") */
#define BW_COUNTERS(X)                                                                                       \
	X(RX_PACKETS, "rx.packets", "packets received from the device")                                      \
	X(RX_BYTES, "rx.bytes", "bytes received, Ethernet header included")                                  \
	X(TX_PACKETS, "tx.packets", "packets handed to the device")                                          \
	X(TX_BYTES, "tx.bytes", "bytes sent, Ethernet header included")                                      \
	X(TX_DEFERRED, "tx.deferred", "packets kept for the next turn because the device's queue was full")  \
	X(COPIED_BYTES, "copied.bytes", "payload bytes copied by the stack (not by services)")               \
	X(DROP_RUNT, "drop.runt", "shorter than its headers say")                                            \
	X(DROP_NOT_FOR_US_MAC, "drop.not_for_us_mac", "another host's Ethernet address")                     \
	X(DROP_VLAN, "drop.vlan", "another VLAN, or a tag where none is configured")                         \
	X(DROP_ETHERTYPE, "drop.ethertype", "neither ARP, IPv4 nor IPv6")                                    \
	X(DROP_IP_HEADER, "drop.ip_header", "malformed IP header or length")                                 \
	X(DROP_IP_CHECKSUM, "drop.ip_checksum", "wrong IPv4 header checksum")                                \
	X(DROP_IP_OPTIONS, "drop.ip_options", "source route or malformed option or extension header")        \
	X(DROP_NOT_FOR_US_IP, "drop.not_for_us_ip", "an IP address that is not ours")                        \
	X(DROP_MARTIAN, "drop.martian", "impossible source or destination address")                          \
	X(DROP_FRAGMENT, "drop.fragment", "fragment refused: malformed, over the bound, or timed out")       \
	X(DROP_PROTOCOL, "drop.protocol", "an IP protocol that nobody here speaks")                          \
	X(DROP_L4_HEADER, "drop.l4_header", "malformed TCP, UDP or ICMP header")                             \
	X(DROP_L4_CHECKSUM, "drop.l4_checksum", "wrong TCP, UDP or ICMP checksum")                           \
	X(DROP_ARP, "drop.arp", "malformed or irrelevant ARP")                                               \
	X(DROP_ND, "drop.nd", "malformed or irrelevant neighbour discovery")                                 \
	X(DROP_ICMP, "drop.icmp", "ICMP that nothing here answers or uses")                                  \
	X(DROP_NOT_OURS, "drop.not_ours", "of an address that we share: the kernel's to answer")             \
	X(EXCEPTION_TO_KERNEL, "exception.to_kernel", "packets that are not ours, given to the kernel")      \
	X(EXCEPTION_FROM_KERNEL, "exception.from_kernel", "packets that the kernel sends")                   \
	X(EXCEPTION_DROPPED, "exception.dropped",                                                            \
		"packets not given to the kernel, or not taken: over the rate, no room, or its TAP is down") \
	X(DROP_NO_LISTENER, "drop.no_listener", "port that nobody listens on; answered with RST or ICMP")    \
	X(DROP_NO_MBUF, "drop.no_mbuf", "no buffer: the pool was empty, or nearly")                          \
	X(DROP_RING_FULL, "drop.ring_full", "another worker's inbox was full")                               \
	X(DROP_TX_BACKLOG, "drop.tx_backlog", "too many, or too long, behind a device queue that was full")  \
	X(DROP_NO_ROUTE, "drop.no_route", "no on-link prefix and no gateway for the destination")            \
	X(DROP_NEIGH_QUEUE, "drop.neigh_queue", "too many packets waiting for an unresolved neighbour")      \
	X(DROP_NEIGH_FAILED, "drop.neigh_failed", "the neighbour did not answer")                            \
	X(DROP_MTU, "drop.mtu", "too large for the link and not to be fragmented")                           \
	X(ARP_REQUESTS, "arp.requests", "ARP requests sent")                                                 \
	X(ARP_REPLIES, "arp.replies", "ARP replies sent")                                                    \
	X(ARP_CONFLICTS, "arp.conflicts", "another host claimed an address of ours")                         \
	X(ND_SOLICITS, "nd.solicits", "neighbour solicitations sent")                                        \
	X(ND_ADVERTS, "nd.adverts", "neighbour advertisements sent")                                         \
	X(ICMP_ECHO, "icmp.echo", "echo requests answered")                                                  \
	X(ICMP_ERRORS_SENT, "icmp.errors_sent", "ICMP errors sent")                                          \
	X(ICMP_ERRORS_LIMITED, "icmp.errors_limited", "ICMP errors not sent because of the rate limit")      \
	X(IP_REASSEMBLED, "ip.reassembled", "packets put together from fragments")                           \
	X(IP_FRAGMENTS_SENT, "ip.fragments_sent", "fragments sent")                                          \
	X(UDP_DATAGRAMS_IN, "udp.datagrams_in", "UDP datagrams given to a service")                          \
	X(UDP_DATAGRAMS_OUT, "udp.datagrams_out", "UDP datagrams sent")                                      \
	X(TCP_SEGMENTS_IN, "tcp.segments_in", "TCP segments for a listener or a connection")                 \
	X(TCP_SEGMENTS_OUT, "tcp.segments_out", "TCP segments sent")                                         \
	X(TCP_ACCEPTED, "tcp.accepted", "connections that completed the handshake")                          \
	X(TCP_CONNECTED, "tcp.connected", "active opens that completed the handshake")                       \
	X(TCP_CLOSED, "tcp.closed", "connections that ended in order")                                       \
	X(TCP_RESET_IN, "tcp.reset_in", "connections ended by the peer's RST")                               \
	X(TCP_PRESSURE_DROPS, "tcp.pressure_drops",                                                          \
		"segments whose payload was dropped because buffers ran out")                                \
	X(TCP_PRESSURE_RESETS, "tcp.pressure_resets",                                                        \
		"connections reset because buffers ran out: they held most for long, or to no use")          \
	X(TCP_RESET_OUT, "tcp.reset_out", "RST segments sent")                                               \
	X(TCP_TIMED_OUT, "tcp.timed_out", "connections given up after retransmission, probes or deadlines")  \
	X(TCP_UNREACHABLE, "tcp.unreachable", "ICMP errors about what a connection had in flight")           \
	X(TCP_RETRANSMITS, "tcp.retransmits", "segments sent again")                                         \
	X(TCP_RTOS, "tcp.rtos", "retransmission timer expirations")                                          \
	X(TCP_LOSS_PROBES, "tcp.loss_probes", "tail loss probes sent")                                       \
	X(TCP_BLACK_HOLES, "tcp.black_holes", "paths on which large packets vanished without a word")        \
	X(TCP_UNDOS, "tcp.undos", "recoveries that turned out to be unnecessary and were taken back")        \
	X(TCP_FAST_RETRANSMITS, "tcp.fast_retransmits", "entries into fast recovery")                        \
	X(TCP_ECN_AGREED, "tcp.ecn_agreed", "connections that agreed on ECN (RFC 3168)")                     \
	X(TCP_CE_RECEIVED, "tcp.ce_received", "segments with data that a router had marked (CE)")            \
	X(TCP_ECE_REDUCTIONS, "tcp.ece_reductions",                                                          \
		"congestion windows reduced because the peer had received marks (ECE)")                      \
	X(TCP_OUT_OF_ORDER, "tcp.out_of_order", "segments kept for reassembly")                              \
	X(TCP_DUPLICATES, "tcp.duplicates", "segments that brought nothing new")                             \
	X(TCP_CHALLENGE_ACKS, "tcp.challenge_acks", "challenge ACKs sent (RFC 5961)")                        \
	X(TCP_PAWS_DROPS, "tcp.paws_drops", "segments older than their connection (RFC 7323)")               \
	X(TCP_ZERO_WINDOW_PROBES, "tcp.zero_window_probes", "zero-window probes sent")                       \
	X(TCP_KEEPALIVES, "tcp.keepalives", "keep-alive probes sent")                                        \
	X(TCP_SYN_REFUSED, "tcp.syn_refused", "SYNs not answered: a table is full, or buffers are scarce")   \
	X(TCP_COOKIES_SENT, "tcp.cookies_sent", "SYNs answered with a SYN cookie (RFC 4987)")                \
	X(TCP_COOKIES_ACCEPTED, "tcp.cookies_accepted", "connections that a SYN cookie began")               \
	X(TCP_COOKIES_REJECTED, "tcp.cookies_rejected",                                                      \
		"ACKs without a connection that brought no valid cookie, while some were out")               \
	X(TCP_REASSEMBLY_DROPS, "tcp.reassembly_drops", "out-of-order segments over the bound")              \
	X(TCP_DROP_UNACCEPTABLE, "tcp.drop_unacceptable", "segments outside the window or without ACK")      \
	X(MAIL_SENT, "mail.sent", "messages to other workers")                                               \
	X(JOBS, "jobs", "requests handed to helper threads")

enum bw_counter {
#define BW_COUNTER_ENUM(symbol, name, help) BW_##symbol,
	BW_COUNTERS(BW_COUNTER_ENUM)
#undef BW_COUNTER_ENUM
	BW_COUNTER_COUNT,
};

struct bw_counters {
	uint64_t value[BW_COUNTER_COUNT];
};

extern const char *const bw_counter_name[BW_COUNTER_COUNT];
extern const char *const bw_counter_help[BW_COUNTER_COUNT];

static inline void bw_count(struct bw_counters *counters, enum bw_counter which)
{
	counters->value[which]++;
}

static inline void bw_count_n(struct bw_counters *counters, enum bw_counter which, uint64_t n)
{
	counters->value[which] += n;
}
