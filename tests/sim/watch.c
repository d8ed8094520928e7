/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * On the wire, at each host's own end of it: no TCP payload, SYN or FIN is sent again before its time. What is sent
 * again must have one of these reasons, of which the packets alone bear witness:
 *
 *   - the least retransmission time-out has passed since it was last sent (RFC 6298; a second for a SYN);
 *   - something that was sent later, or behind it in the same burst, has arrived and the sender has heard so
 *     (RFC 8985, of which three duplicate ACKs are a case);
 *   - the first in flight has timed out, and this was sent at least a round trip before (RFC 8985 section 6.3);
 *   - it is the first or the last in flight, or was sent last, and two round trips have passed (loss probes, section 7);
 *   - a router has said that packets are too large;
 *   - a SYN-ACK answers another SYN;
 *   - it had waited for a neighbour's address, or for the device, when it was sent last, so that this was later than
 *     TCP knows.
 *
 * "A round trip" is the links' delay without jitter and queues, which no packet beats.
 */
#include <stdlib.h>
#include <string.h>

#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_tcp.h>

#include <wire/packet.h>

#include "sim.h"

#define FLOWS      4096 /* buckets */
#define RTO_MIN_NS (200 * BW_NS_PER_MS)
#define RTO_SYN_NS BW_NS_PER_SEC
#define HANDOVER_NS                                                                                          \
	(20 * BW_NS_PER_US) /* from one worker to another's device queue, or from there to its turn */
#define L3 14

/** A run of sequence numbers that was sent as one segment. */
struct piece {
	bw_seq seq, end;
	bw_ns sent_at;
	bool has_waited;
};

/** One direction of a connection. */
struct flow {
	struct flow *next;
	uint64_t key;
	bw_seq iss, snd_max;
	struct piece *piece; /* in flight, ascending: [first, count) */
	unsigned first, count, room;
	bw_ns newest_at; /* of what has arrived, the latest sent */
	bw_seq newest_end;
	bool has_newest, is_known;
	bw_ns timed_out_at, last_at; /* of the latest transmission */
	unsigned asked;              /* SYNs that came and have no answer yet */
};

struct segment {
	uint64_t key, reverse_key;
	struct bw_tcp_fields tcp;
	uint32_t length; /* SYN and FIN included */
};

static struct flow *bucket[FLOWS];
static struct flow *unused;
static bw_ns too_big_at[SIM_HOSTS_MAX], late_at[SIM_HOSTS_MAX];
static uint64_t repeats;

void sim_watch_reset(void)
{
	for (unsigned i = 0; i < FLOWS; i++) {
		while (bucket[i] != NULL) {
			struct flow *f = bucket[i];

			bucket[i] = f->next;
			f->next = unused;
			unused = f;
		}
	}
	memset(too_big_at, 0, sizeof(too_big_at));
	memset(late_at, 0, sizeof(late_at));
	repeats = 0;
}

uint64_t sim_watch_repeats(void)
{
	return repeats;
}

static struct flow *find(uint64_t key, bool makes)
{
	struct flow **head = &bucket[sim_mix(key) % FLOWS], *f;

	for (f = *head; f != NULL; f = f->next)
		if (f->key == key)
			return f;
	if (!makes)
		return NULL;
	f = unused;
	if (f != NULL)
		unused = f->next;
	else
		f = calloc(1, sizeof(*f));
	BW_ASSERT(f != NULL);
	*f = (struct flow){ .next = *head, .key = key, .piece = f->piece, .room = f->room };
	*head = f;
	return f;
}

void sim_watch_forget(unsigned host)
{
	for (unsigned i = 0; i < FLOWS; i++)
		for (struct flow *f = bucket[i]; f != NULL; f = f->next)
			if ((f->key >> 40 & 0xff) == host)
				f->is_known = false;
}

/** A whole TCP segment, or not. Hosts are known by the last byte of their address. */
static bool parse(const struct sim_frame *f, struct segment *s)
{
	const uint8_t *l3 = f->data + L3, *tcp;
	uint16_t ethertype = (uint16_t)(f->data[12] << 8 | f->data[13]);
	unsigned from, to, total, header, src, dst, is_v6 = ethertype == RTE_ETHER_TYPE_IPV6;

	if (ethertype == RTE_ETHER_TYPE_IPV4) {
		if (l3[9] != IPPROTO_TCP || ((l3[6] << 8 | l3[7]) & 0x3fff) != 0)
			return false;
		total = (unsigned)(l3[2] << 8 | l3[3]) - 20;
		from = l3[15];
		to = l3[19];
		tcp = l3 + 20;
	} else if (is_v6) {
		if (l3[6] != IPPROTO_TCP)
			return false;
		total = (unsigned)(l3[4] << 8 | l3[5]);
		from = l3[23];
		to = l3[39];
		tcp = l3 + 40;
	} else {
		return false;
	}
	header = (tcp[12] >> 4) * 4u;
	bw_tcp_fields_parse(tcp, header, &s->tcp);
	s->length = total - header + !!(s->tcp.flags & BW_TCP_SYN) + !!(s->tcp.flags & BW_TCP_FIN);
	src = (unsigned)(tcp[0] << 8 | tcp[1]);
	dst = (unsigned)(tcp[2] << 8 | tcp[3]);
	from--;
	to--;
	s->key = (uint64_t)is_v6 << 48 | (uint64_t)from << 40 | (uint64_t)to << 32 | src << 16 | dst;
	s->reverse_key = (uint64_t)is_v6 << 48 | (uint64_t)to << 40 | (uint64_t)from << 32 | dst << 16 | src;
	return true;
}

static void insert(struct flow *f, unsigned at, struct piece piece)
{
	if (f->first > 64 && f->first > f->count / 2) {
		memmove(f->piece, f->piece + f->first, (f->count - f->first) * sizeof(*f->piece));
		f->count -= f->first;
		at -= f->first;
		f->first = 0;
	}
	if (f->count == f->room) {
		f->room = f->room != 0 ? 2 * f->room : 64;
		f->piece = realloc(f->piece, f->room * sizeof(*f->piece));
		BW_ASSERT(f->piece != NULL);
	}
	memmove(f->piece + at + 1, f->piece + at, (f->count - at) * sizeof(*f->piece));
	f->piece[at] = piece;
	f->count++;
}

/** The first piece that ends right of `seq`. */
static unsigned piece_at(const struct flow *f, bw_seq seq)
{
	unsigned low = f->first, high = f->count;

	while (low < high) {
		unsigned mid = (low + high) / 2;

		if (bw_seq_gt(f->piece[mid].end, seq))
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

static bw_ns round_trip(const struct flow *f)
{
	unsigned from = f->key >> 40 & 0xff, to = f->key >> 32 & 0xff;

	return sim.link[from][to].conf.delay_ns + sim.link[to][from].conf.delay_ns;
}

void sim_watch_late(unsigned host)
{
	late_at[host] = sim.now;
}

static bool has_waited(const struct flow *f)
{
	bw_ns at = late_at[f->key >> 40 & 0xff];

	return at != 0 && sim.now - at <= HANDOVER_NS;
}

static bool is_justified(struct flow *f, const struct piece *p)
{
	bw_ns age = sim.now - p->sent_at;
	bool is_syn = p->seq == f->iss;

	/* What has waited on its way out was sent earlier than it was seen, and may have timed out as well. */
	if (p->has_waited || age >= (is_syn ? RTO_SYN_NS : RTO_MIN_NS)) {
		if (p == &f->piece[f->first])
			f->timed_out_at = sim.now;
		return true;
	}
	if (is_syn)
		return f->asked > 0 && f->asked-- > 0;
	if (f->has_newest && (f->newest_at > p->sent_at ||
				     (f->newest_at == p->sent_at && bw_seq_gt(f->newest_end, p->end))))
		return true;
	if (f->timed_out_at != 0 && f->timed_out_at >= p->sent_at && age >= round_trip(f))
		return true;
	if ((p == &f->piece[f->first] || p->end == f->snd_max || p->sent_at == f->last_at) &&
		age >= 2 * round_trip(f))
		return true;
	/* The last turn may not have seen it yet, and sent too large a packet behind it. */
	return too_big_at[f->key >> 40 & 0xff] + HANDOVER_NS >= p->sent_at;
}

static void check_repeat(struct flow *f, bw_seq seq, bw_seq end, bool rides_fin)
{
	for (unsigned i = piece_at(f, seq); i < f->count && bw_seq_lt(f->piece[i].seq, end); i++) {
		struct piece *p = &f->piece[i];

		if (bw_seq_lt(p->seq, seq)) { /* its front is not sent again */
			struct piece front = { p->seq, seq, p->sent_at, p->has_waited };

			p->seq = seq;
			insert(f, i, front);
			i = piece_at(f, seq) - 1;
			continue;
		}
		if (bw_seq_gt(p->end, end)) {
			struct piece front = { p->seq, end, p->sent_at, p->has_waited };

			p->seq = end;
			insert(f, i, front);
			i = piece_at(f, front.seq) - 1;
			continue;
		}
		/* A FIN may ride on what is sent again before it: that costs nothing. */
		if (!is_justified(f, p) && !(rides_fin && p->seq != seq && p->end == end))
			sim_fail("host %u sends [%u, %u) of port %u again after %.3f ms, and had no reason "
				 "(the round trip is %.3f ms)",
				(unsigned)(f->key >> 40 & 0xff), p->seq - f->iss, p->end - f->iss,
				(unsigned)(f->key >> 16 & 0xffff), (double)(sim.now - p->sent_at) / 1e6,
				(double)round_trip(f) / 1e6);
		p->sent_at = sim.now;
		p->has_waited = has_waited(f);
		repeats++;
	}
}

void sim_watch_sent(const struct sim_frame *frame)
{
	struct segment s;
	struct flow *f;
	bw_seq end;

	if (!parse(frame, &s) || s.length == 0 || (s.tcp.flags & BW_TCP_RST))
		return;
	f = find(s.key, true);
	if ((s.tcp.flags & BW_TCP_SYN) && (!f->is_known || f->iss != s.tcp.seq)) {
		struct flow fresh = { .next = f->next,
			.key = f->key,
			.piece = f->piece,
			.room = f->room,
			.iss = s.tcp.seq,
			.snd_max = s.tcp.seq,
			.is_known = true,
			.asked = f->asked > 0 ? f->asked - 1 : 0 };

		*f = fresh;
	}
	if (!f->is_known)
		return;
	end = s.tcp.seq + s.length;
	if (bw_seq_lt(s.tcp.seq, f->snd_max))
		check_repeat(f, s.tcp.seq, bw_seq_lt(end, f->snd_max) ? end : f->snd_max,
			(s.tcp.flags & BW_TCP_FIN) != 0);
	if (bw_seq_gt(end, f->snd_max)) {
		bw_seq seq = bw_seq_gt(s.tcp.seq, f->snd_max) ? s.tcp.seq : f->snd_max;

		insert(f, f->count, (struct piece){ seq, end, sim.now, has_waited(f) });
		f->snd_max = end;
	}
	f->last_at = sim.now;
}

static void has_arrived(struct flow *f, const struct piece *p)
{
	if (!f->has_newest || p->sent_at > f->newest_at ||
		(p->sent_at == f->newest_at && bw_seq_gt(p->end, f->newest_end))) {
		f->has_newest = true;
		f->newest_at = p->sent_at;
		f->newest_end = p->end;
	}
}

static bool is_too_big(const struct sim_frame *f)
{
	const uint8_t *l3 = f->data + L3;

	return (f->data[12] == 0x08 && l3[9] == IPPROTO_ICMP && l3[20] == 3 && l3[21] == 4) ||
	       (f->data[12] == 0x86 && l3[6] == IPPROTO_ICMPV6 && l3[40] == 2);
}

void sim_watch_received(const struct sim_frame *frame)
{
	struct segment s;
	struct flow *f;

	if (frame->is_damaged)
		return;
	if (is_too_big(frame))
		too_big_at[frame->to] = sim.now;
	if (!parse(frame, &s))
		return;
	f = find(s.reverse_key, s.tcp.flags & BW_TCP_SYN);
	if (f == NULL)
		return;
	f->asked += !!(s.tcp.flags & BW_TCP_SYN);
	if (!f->is_known || !(s.tcp.flags & BW_TCP_ACK) || bw_seq_gt(s.tcp.ack, f->snd_max))
		return;
	for (unsigned i = 0; i < s.tcp.sack_count; i++)
		for (unsigned k = piece_at(f, s.tcp.sack[i].left);
			k < f->count && bw_seq_lt(f->piece[k].seq, s.tcp.sack[i].right); k++)
			has_arrived(f, &f->piece[k]);
	for (; f->first < f->count && bw_seq_leq(f->piece[f->first].end, s.tcp.ack); f->first++)
		has_arrived(f, &f->piece[f->first]);
}
