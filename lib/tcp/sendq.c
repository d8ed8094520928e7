/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * The send queue: chunks, each an mbuf with payload only and notes in its private area.
 *
 *      first                      unsent            send_last
 *     [ sent ][ sent ][ sent ]   [ not sent ] ...  [ not sent ]
 *     snd_una             snd_nxt                         snd_end
 *
 * A chunk is the unit of transmission and of every mark, so it is either sent or not, acknowledged by SACK or
 * not: where a segment, a window or an ACK ends within one, it is cut in two. Copied bytes fill the last
 * unsent chunk up to a segment and lie behind headroom for all headers: one buffer, one packet. Bytes by
 * reference are chunks of up to 64 KiB that point into the caller's memory, and are cut as they are sent.
 *
 * Only the last chunk can be empty, after a reserve that was not committed.
 *
 * A chunk's notes are the truth about it. Its mbuf's data_off and lengths belong to whoever transmits it, and
 * are set anew when it is sent again.
 */
#include <errno.h>

#include "internal.h"

/** A cut by reference makes one more of these; the counter has 16 bits, packets in flight count as well. */
#define EXT_REFS_MAX 30000

static uint32_t send_mbufs_max(uint32_t bytes_max)
{
	/* Many small sends, each transmitted at once, use an mbuf each. */
	return BW_MIN(64 + bytes_max / 512, (uint32_t)UINT16_MAX - 64);
}

/** Payload bytes of a chunk that is copied: a segment. */
static uint32_t chunk_bytes_max(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn)
{
	return BW_MIN((uint32_t)conn->mss, tcp->payload_room);
}

static bool may_send(const struct bw_tcp_conn *conn)
{
	return !bw_tcp__is_over(conn) && !(conn->flags & BW_CONN_FIN_QUEUED) &&
	       conn->state != BW_STATE_CLOSED;
}

/** Link a chunk behind `before`, NULL for the empty queue's first. */
static void link_behind(struct bw_tcp_conn *conn, struct rte_mbuf *before, struct rte_mbuf *m)
{
	if (before == NULL) {
		bw_tcp__tx_note(m)->next = m;
	} else {
		bw_tcp__tx_note(m)->next = bw_tcp__tx_note(before)->next;
		bw_tcp__tx_note(before)->next = m;
	}
	if (before == conn->send_last)
		conn->send_last = m;
	conn->send_mbufs++;
}

/**
 * Unlink and free a reserve that was not used. The last chunk's predecessor has to be looked for: it is rare.
 */
static void drop_empty_last(struct bw_tcp_conn *conn)
{
	struct rte_mbuf *last = conn->send_last, *before;

	if (last == NULL || bw_tcp__tx_note(last)->len != 0)
		return;
	if (conn->unsent == last)
		conn->unsent = NULL;
	before = last;
	while (bw_tcp__tx_note(before)->next != last)
		before = bw_tcp__tx_note(before)->next;
	if (before == last) {
		conn->send_last = NULL;
	} else {
		bw_tcp__tx_note(before)->next = bw_tcp__tx_note(last)->next;
		conn->send_last = before;
	}
	conn->send_mbufs--;
	rte_pktmbuf_free_seg(last);
}

static void append(struct bw_tcp_conn *conn, struct rte_mbuf *m, uint8_t *data, uint32_t len)
{
	struct bw_tcp__tx_note *note = bw_tcp__tx_note(m);

	drop_empty_last(conn);
	note->data = data;
	note->seq = conn->snd_end;
	note->len = len;
	note->marks = 0;
	link_behind(conn, conn->send_last, m);
	if (conn->unsent == NULL)
		conn->unsent = m;
	conn->snd_end += len;
}

/** The last chunk, if bytes can be put behind its own; and how many. */
static struct bw_tcp__tx_note *open_last(const struct bw_tcp_conn *conn, uint32_t bytes_max, uint32_t *room)
{
	struct rte_mbuf *last = conn->send_last;
	struct bw_tcp__tx_note *note;

	if (last == NULL)
		return NULL;
	note = bw_tcp__tx_note(last);
	if ((note->marks & BW_CHUNK_SENT) || !RTE_MBUF_DIRECT(last) || note->len >= bytes_max)
		return NULL;
	*room = bytes_max - note->len;
	return note;
}

/** A buffer for new data, if the connection's share allows it. */
static struct rte_mbuf *alloc_for_data(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct rte_mbuf *m = NULL;

	if (bw_likely(tcp->to_send.left != 0 &&
		      bw_tcp__may_hold_more(&tcp->to_send, bw_tcp_send_queued(conn)))) {
		tcp->to_send.left--;
		m = rte_pktmbuf_alloc(tcp->conf.pool);
	}
	if (bw_unlikely(m == NULL)) {
		bw_tcp__count(tcp, BW_DROP_NO_MBUF);
		bw_tcp__note_refused(tcp);
		conn->flags |= BW_CONN_NO_MBUF;
		bw_tcp__mark_pending(tcp, conn);
	}
	return m;
}

static struct bw_tcp__tx_note *open_new(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct rte_mbuf *m = alloc_for_data(tcp, conn);

	if (m == NULL)
		return NULL;
	append(conn, m, (uint8_t *)m->buf_addr + RTE_PKTMBUF_HEADROOM, 0);
	return bw_tcp__tx_note(m);
}

uint32_t bw_tcp_send_queued(const struct bw_tcp_conn *conn)
{
	/* An acknowledged FIN puts snd_una one beyond. */
	return bw_seq_lt(conn->snd_una, conn->snd_end) ? conn->snd_end - conn->snd_una : 0;
}

uint32_t bw_tcp__send_room(const struct bw_tcp_conn *conn)
{
	const struct bw_tcp *tcp = bw_tcp__of(conn);
	uint32_t queued = bw_tcp_send_queued(conn);
	uint32_t bytes_max = bw_tcp__send_bytes_now(tcp, conn);

	if (!may_send(conn) || queued >= bytes_max || conn->send_mbufs >= send_mbufs_max(bytes_max))
		return 0;
	return bytes_max - queued;
}

uint32_t bw_tcp_send_space(const struct bw_tcp_conn *conn)
{
	return BW_MIN(bw_tcp__send_room(conn), BW_TCP_SEND_MAX);
}

uint32_t bw_tcp_send(struct bw_tcp_conn *conn, const void *data, uint32_t len)
{
	struct bw_tcp *tcp = bw_tcp__of(conn);
	uint32_t chunk_max = chunk_bytes_max(tcp, conn), taken = 0;

	while (taken < len) {
		uint32_t space = bw_tcp_send_space(conn), room = chunk_max, n;
		struct bw_tcp__tx_note *note;

		if (space == 0)
			break;
		note = open_last(conn, chunk_max, &room);
		if (note == NULL)
			note = open_new(tcp, conn);
		if (note == NULL)
			break;
		n = BW_MIN(len - taken, space);
		n = BW_MIN(n, room);
		memcpy(note->data + note->len, (const uint8_t *)data + taken, n);
		note->len += n;
		conn->snd_end += n;
		taken += n;
	}
	if (taken < len)
		conn->flags |= BW_CONN_CUT_SHORT;
	if (taken != 0) {
		bw_count_n(tcp->counters, BW_COPIED_BYTES, taken);
		bw_tcp__mark_ready(tcp, conn);
	}
	return taken;
}

void *bw_tcp_send_reserve(struct bw_tcp_conn *conn, uint32_t len)
{
	struct bw_tcp *tcp = bw_tcp__of(conn);
	struct bw_tcp__tx_note *note;
	uint32_t room = 0, space = bw_tcp_send_space(conn);

	if (len > BW_TCP_RESERVE_MAX || len > space || space == 0) {
		conn->flags |= BW_CONN_CUT_SHORT;
		return NULL;
	}
	note = open_last(conn, chunk_bytes_max(tcp, conn), &room);
	/* An empty chunk has room for more than a small MSS; it is cut when it is sent. */
	if (note == NULL || (room < len && note->len != 0))
		note = open_new(tcp, conn);
	if (note == NULL) {
		conn->flags |= BW_CONN_CUT_SHORT;
		return NULL;
	}
	return note->data + note->len;
}

void bw_tcp_send_commit(struct bw_tcp_conn *conn, uint32_t len)
{
	struct bw_tcp *tcp = bw_tcp__of(conn);
	struct bw_tcp__tx_note *note;

	if (!may_send(conn))
		return;
	if (len == 0) {
		drop_empty_last(conn);
		return;
	}
	BW_ASSERT(conn->send_last != NULL);
	note = bw_tcp__tx_note(conn->send_last);
	BW_ASSERT_EQ(note->marks & BW_CHUNK_SENT, 0);
	BW_ASSERT_LE(note->len + len, tcp->payload_room);
	note->len += len;
	conn->snd_end += len;
	bw_tcp__mark_ready(tcp, conn);
}

/* ---- by reference -------------------------------------------------------------------------------------- */

/**
 * Lives in the data room of an mbuf that no queue has, until the last packet that refers to the memory is
 * freed.
 */
struct reference {
	struct rte_mbuf_ext_shared_info shared;
	void (*release)(void *arg);
	void *arg;
	struct rte_mbuf *home;
};
_Static_assert(sizeof(struct reference) <= RTE_PKTMBUF_HEADROOM, "fits any data room");

/** On whichever core frees the last packet. */
static void last_is_freed(void *addr, void *opaque)
{
	struct reference *ref = opaque;
	struct rte_mbuf *home = ref->home;

	(void)addr;
	if (ref->release != NULL)
		ref->release(ref->arg);
	rte_pktmbuf_free_seg(home);
}

/*
 * The I/O address of the caller's memory is its virtual address: right for virtual devices, which do not use
 * it, and for NICs in IOVA-as-VA mode when the memory is registered with EAL and mapped for DMA. For other
 * NICs the engine leaves can_multi_segment off, and nothing is sent from the caller's memory itself.
 */
static void point_at(
	struct rte_mbuf *m, const uint8_t *data, uint32_t len, struct rte_mbuf_ext_shared_info *shared)
{
	void *addr = (void *)(uintptr_t)data;

	rte_pktmbuf_attach_extbuf(m, addr, (rte_iova_t)(uintptr_t)data, (uint16_t)len, shared);
}

int bw_tcp_send_ref(
	struct bw_tcp_conn *conn, const void *data, uint32_t len, void (*release)(void *arg), void *arg)
{
	struct bw_tcp *tcp = bw_tcp__of(conn);
	uint32_t piece_max = 65535u / conn->mss * conn->mss;
	uint32_t pieces = len / piece_max + (len % piece_max != 0);
	struct rte_mbuf *home, *unused = NULL;
	struct reference *ref;

	if (!may_send(conn))
		return -EPIPE;
	if (len == 0) {
		if (release != NULL)
			release(arg);
		return 0;
	}
	if (len > bw_tcp_send_space(conn) ||
		conn->send_mbufs + pieces > send_mbufs_max(bw_tcp__send_bytes_now(tcp, conn))) {
		conn->flags |= BW_CONN_CUT_SHORT;
		return -ENOBUFS;
	}
	home = alloc_for_data(tcp, conn);
	if (home == NULL)
		goto no_mbuf;
	/* For the first cut, which can wait for no ACK: bw_tcp__sendq_split(). */
	if (tcp->to_send.left != 0)
		tcp->to_send.left--;
	for (uint32_t i = 0; i < pieces; i++) {
		struct rte_mbuf *m = alloc_for_data(tcp, conn);

		if (m == NULL)
			goto free_unused;
		bw_tcp__tx_note(m)->next = unused;
		unused = m;
	}
	ref = RTE_PTR_ALIGN(home->buf_addr, RTE_CACHE_LINE_MIN_SIZE);
	*ref = (struct reference){
		.shared = { .free_cb = last_is_freed, .fcb_opaque = ref },
		.release = release,
		.arg = arg,
		.home = home,
	};
	rte_mbuf_ext_refcnt_set(&ref->shared, (uint16_t)pieces);
	for (const uint8_t *at = data; len != 0;) {
		uint32_t n = BW_MIN(len, piece_max);
		struct rte_mbuf *m = unused;

		unused = bw_tcp__tx_note(m)->next;
		point_at(m, at, n, &ref->shared);
		append(conn, m, (uint8_t *)(uintptr_t)at, n);
		at += n;
		len -= n;
	}
	bw_tcp__mark_ready(tcp, conn);
	return 0;

free_unused:
	while (unused != NULL) {
		struct rte_mbuf *next = bw_tcp__tx_note(unused)->next;

		rte_pktmbuf_free_seg(unused);
		unused = next;
	}
	rte_pktmbuf_free_seg(home);
no_mbuf:
	conn->flags |= BW_CONN_CUT_SHORT;
	return -ENOBUFS;
}

/* ---- cutting and acknowledging ------------------------------------------------------------------------- */

int bw_tcp__sendq_split(
	struct bw_tcp *tcp, struct bw_tcp_conn *conn, struct rte_mbuf *m, uint32_t len, bool is_needed)
{
	/*
	 * Twice what was ever accepted, which may be more than is now, so that a queue of many small pieces can still
	 * be cut; and a peer with a tiny MSS, whose every SACK has the queue searched, has no more segments in flight
	 * than others.
	 */
	uint32_t mbufs_max = is_needed ? UINT16_MAX
				       : BW_MIN(2 * send_mbufs_max(bw_tcp__send_bytes_max(tcp, conn)),
						 (uint32_t)UINT16_MAX);
	struct bw_tcp__tx_note *note = bw_tcp__tx_note(m), *rest_note;
	uint32_t rest_len = note->len - len;
	bool is_by_ref = RTE_MBUF_HAS_EXTBUF(m) && rte_mbuf_ext_refcnt_read(m->shinfo) < EXT_REFS_MAX;
	struct rte_mbuf *rest;

	BW_ASSERT(len != 0 && rest_len != 0);
	if (conn->send_mbufs >= mbufs_max || (!is_by_ref && rest_len > tcp->payload_room))
		return -ENOSPC;
	/*
	 * A cut takes one more buffer than was granted with the send. Where none is left it waits for what is in
	 * flight; where nothing is, the ACK that said so has given one back, or the send has set one aside. What is
	 * repeated does not wait: it is what gives buffers back.
	 */
	if (tcp->to_send.left != 0)
		tcp->to_send.left--;
	else if (!is_needed && conn->snd_nxt != conn->snd_una)
		return -ENOSPC;
	rest = rte_pktmbuf_alloc(tcp->conf.pool);
	if (rest == NULL) {
		bw_tcp__count(tcp, BW_DROP_NO_MBUF);
		return -ENOMEM;
	}
	rest_note = bw_tcp__tx_note(rest);
	*rest_note = *note;
	if (is_by_ref) {
		rte_mbuf_ext_refcnt_update(m->shinfo, 1);
		point_at(rest, note->data + len, rest_len, m->shinfo);
		rest_note->data = note->data + len;
	} else {
		rest_note->data = (uint8_t *)rest->buf_addr + RTE_PKTMBUF_HEADROOM;
		memcpy(rest_note->data, note->data + len, rest_len);
		bw_count_n(tcp->counters, BW_COPIED_BYTES, rest_len);
	}
	rest_note->seq = note->seq + len;
	rest_note->len = rest_len;
	note->len = len;
	link_behind(conn, m, rest);
	return 0;
}

void bw_tcp__sendq_ack(struct bw_tcp *tcp, struct bw_tcp_conn *conn, bw_seq ack, struct bw_tcp__acked *acked)
{
	struct rte_mbuf *m;

	while ((m = bw_tcp__sendq_first(conn)) != NULL) {
		struct bw_tcp__tx_note *note = bw_tcp__tx_note(m);
		uint32_t n = ack - note->seq;

		if (!(note->marks & BW_CHUNK_SENT) || bw_seq_leq(ack, note->seq))
			return;
		n = BW_MIN(n, note->len);
		if (bw_unlikely(conn->flags & BW_CONN_SCOREBOARD)) {
			struct bw_tcp__recovery *r = bw_tcp__recovery(tcp, conn);

			if (!(note->marks & BW_CHUNK_SACKED))
				bw_tcp__rack_delivered(tcp, conn, note, acked->seg);
			r->sacked_bytes -= note->marks & BW_CHUNK_SACKED ? n : 0;
			r->sacked_chunks -= (note->marks & BW_CHUNK_SACKED) && n == note->len;
			r->lost_bytes -= note->marks & BW_CHUNK_LOST ? n : 0;
			r->resent_bytes -= note->marks & BW_CHUNK_RESENT ? n : 0;
		}
		acked->delivered += note->marks & BW_CHUNK_SACKED ? 0 : n;
		acked->has_original |= !(note->marks & (BW_CHUNK_SACKED | BW_CHUNK_RETRANSMIT));
		if (note->marks & BW_CHUNK_RETRANSMIT) {
			acked->was_resent = true;
		} else if (!acked->has_sample && !(note->marks & BW_CHUNK_SACKED)) {
			acked->has_sample = true;
			acked->sent_at = note->sent_at;
		}
		if (n < note->len) {
			note->data += n;
			note->seq += n;
			note->len -= n;
			return;
		}
		if (m == conn->send_last)
			conn->send_last = NULL;
		else
			bw_tcp__tx_note(conn->send_last)->next = note->next;
		conn->send_mbufs--;
		rte_pktmbuf_free_seg(m);
	}
}

void bw_tcp__sendq_free(struct bw_tcp_conn *conn)
{
	struct rte_mbuf *m;

	while ((m = bw_tcp__sendq_first(conn)) != NULL) {
		if (m == conn->send_last)
			conn->send_last = NULL;
		else
			bw_tcp__tx_note(conn->send_last)->next = bw_tcp__tx_note(m)->next;
		conn->send_mbufs--;
		rte_pktmbuf_free_seg(m);
	}
	conn->unsent = NULL;
	conn->snd_end = conn->snd_una;
}
