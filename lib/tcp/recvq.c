/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * The receive queue: in-order payload in the mbufs that the device filled, trimmed to what is unconsumed.
 *
 * A ring linked by the mbufs' notes, of which the connection keeps the last. The usual queue is one mbuf,
 * whose note is then not even looked at. m->next is not used as the link: a service may hold a reference to
 * the mbuf, and freeing that must free one buffer.
 *
 * A peer that sends one byte a segment must not pin a whole buffer with each: what is small is copied into
 * the room behind the data before it.
 */
#include "internal.h"

#define BACKLOG_BYTES  4096
#define RTT_UNKNOWN_MS 100 /* the SYN was repeated, and nothing was sent since */

/* ---- runs ---------------------------------------------------------------------------------------------- */

struct rte_mbuf *bw_tcp__payload_take(struct rte_mbuf *m, uint32_t off, uint32_t len, struct rte_mbuf **last)
{
	struct rte_mbuf *first = NULL, *tail = NULL, *next;

	if (bw_likely(m->next == NULL)) {
		m->data_off += (uint16_t)off;
		m->data_len = (uint16_t)len;
		m->pkt_len = len;
		*last = m;
		return m;
	}
	for (; m != NULL; m = next) {
		uint32_t skipped = BW_MIN(off, (uint32_t)m->data_len);
		uint32_t kept = BW_MIN(m->data_len - skipped, len);

		next = m->next;
		m->next = NULL;
		m->nb_segs = 1;
		off -= skipped;
		len -= kept;
		if (kept == 0) {
			rte_pktmbuf_free_seg(m);
			continue;
		}
		m->data_off += (uint16_t)skipped;
		m->data_len = (uint16_t)kept;
		m->pkt_len = kept;
		if (first == NULL)
			first = m;
		else
			bw_tcp__rx_note(tail)->next = m;
		tail = m;
	}
	*last = tail;
	return first;
}

unsigned bw_tcp__run_free(struct rte_mbuf *first, struct rte_mbuf *last)
{
	for (unsigned count = 1;; count++) {
		struct rte_mbuf *next = first != last ? bw_tcp__rx_note(first)->next : NULL;

		rte_pktmbuf_free_seg(first);
		if (next == NULL)
			return count;
		first = next;
	}
}

static void drop_front(struct rte_mbuf *m, uint32_t bytes)
{
	m->data_off += (uint16_t)bytes;
	m->data_len -= (uint16_t)bytes;
	m->pkt_len = m->data_len;
}

struct rte_mbuf *bw_tcp__run_trim(struct rte_mbuf *first, uint32_t bytes, unsigned *freed)
{
	while (bytes >= first->data_len) {
		struct rte_mbuf *next = bw_tcp__rx_note(first)->next;

		bytes -= first->data_len;
		rte_pktmbuf_free_seg(first);
		++*freed;
		first = next;
	}
	drop_front(first, bytes);
	return first;
}

/** Nobody else looks at the buffer, so that its bytes may change. */
static bool is_private(const struct rte_mbuf *m)
{
	return RTE_MBUF_DIRECT(m) && rte_mbuf_refcnt_read(m) == 1;
}

bool bw_tcp__coalesce(struct bw_tcp *tcp, struct rte_mbuf *to, struct rte_mbuf *from, uint32_t bytes_max)
{
	uint16_t len = from->data_len;

	if (len > bytes_max || !is_private(to) || rte_pktmbuf_tailroom(to) < len)
		return false;
	memcpy(rte_pktmbuf_mtod_offset(to, uint8_t *, to->data_len), rte_pktmbuf_mtod(from, uint8_t *), len);
	to->data_len += len;
	to->pkt_len = to->data_len;
	bw_count_n(tcp->counters, BW_COPIED_BYTES, len);
	rte_pktmbuf_free_seg(from);
	return true;
}

/* ---- the queue ----------------------------------------------------------------------------------------- */

static struct rte_mbuf *first_of(const struct bw_tcp_conn *conn)
{
	return conn->flags & BW_CONN_RECV_MANY ? bw_tcp__rx_note(conn->recv_last)->next : conn->recv_last;
}

/** The mbuf behind m; NULL behind the last. */
static struct rte_mbuf *next_of(const struct bw_tcp_conn *conn, struct rte_mbuf *m)
{
	return m != conn->recv_last ? bw_tcp__rx_note(m)->next : NULL;
}

static void set_first(struct bw_tcp_conn *conn, struct rte_mbuf *first)
{
	if (first == conn->recv_last) {
		conn->flags &= ~BW_CONN_RECV_MANY;
		return;
	}
	conn->flags |= BW_CONN_RECV_MANY;
	bw_tcp__rx_note(conn->recv_last)->next = first;
}

void bw_tcp__recvq_append(struct bw_tcp *tcp, struct bw_tcp_conn *conn, struct rte_mbuf *first,
	struct rte_mbuf *last, uint32_t bytes)
{
	/* Behind a backlog copying harms nobody, and keeps a slow reader from holding a buffer for each crumb. */
	uint32_t bytes_max = conn->unread > BACKLOG_BYTES ? UINT16_MAX : BW_TCP__SMALL_BYTES;
	struct rte_mbuf *next;

	if (conn->flags & BW_CONN_RELEASED) { /* nobody will read it */
		bw_tcp__run_free(first, last);
		return;
	}
	conn->unread += bytes;
	for (struct rte_mbuf *m = first; m != NULL; m = next) {
		next = m != last ? bw_tcp__rx_note(m)->next : NULL;
		if (conn->recv_last != NULL && bw_tcp__coalesce(tcp, conn->recv_last, m, bytes_max))
			continue;
		if (conn->recv_last != NULL) {
			struct rte_mbuf *front = first_of(conn);

			bw_tcp__rx_note(conn->recv_last)->next = m;
			conn->recv_last = m;
			set_first(conn, front);
		} else {
			conn->recv_last = m;
			set_first(conn, m);
		}
	}
}

static void drop(struct bw_tcp_conn *conn, uint32_t len)
{
	conn->unread -= len;
	while (len != 0) {
		struct rte_mbuf *m = first_of(conn), *next;

		if (len < m->data_len) {
			drop_front(m, len);
			return;
		}
		len -= m->data_len;
		next = next_of(conn, m);
		rte_pktmbuf_free_seg(m);
		if (next == NULL)
			conn->recv_last = NULL;
		else
			set_first(conn, next);
	}
}

void bw_tcp__recvq_free(struct bw_tcp_conn *conn)
{
	drop(conn, conn->unread);
}

unsigned bw_tcp_views(const struct bw_tcp_conn *conn, struct bw_tcp_view *views, unsigned max)
{
	unsigned count = 0;

	for (struct rte_mbuf *m = first_of(conn); m != NULL && count < max; m = next_of(conn, m)) {
		views[count++] = (struct bw_tcp_view){
			.data = rte_pktmbuf_mtod(m, const uint8_t *),
			.len = m->data_len,
			.m = m,
		};
	}
	return count;
}

uint32_t bw_tcp_unread(const struct bw_tcp_conn *conn)
{
	return conn->unread;
}

/** Copy `len` bytes of the queue, from the mbuf `from` on. */
static void copy_out(const struct bw_tcp_conn *conn, struct rte_mbuf *from, uint32_t len, uint8_t *out)
{
	for (struct rte_mbuf *m = from; len != 0; m = next_of(conn, m)) {
		uint32_t n = BW_MIN(len, (uint32_t)m->data_len);

		memcpy(out, rte_pktmbuf_mtod(m, const uint8_t *), n);
		out += n;
		len -= n;
	}
}

const uint8_t *bw_tcp_pullup(struct bw_tcp_conn *conn, uint32_t len)
{
	struct bw_tcp *tcp = bw_tcp__of(conn);
	struct rte_mbuf *front = first_of(conn), *second, *fresh;
	uint32_t missing;

	if (len == 0 || len > conn->unread)
		return NULL;
	if (len <= front->data_len)
		return rte_pktmbuf_mtod(front, const uint8_t *);
	missing = len - front->data_len;
	second = next_of(conn, front);
	if (is_private(front) && rte_pktmbuf_tailroom(front) >= missing) {
		/* What a former pullup left, usually: only the new bytes move. */
		fresh = front;
		copy_out(conn, second, missing, rte_pktmbuf_mtod_offset(front, uint8_t *, front->data_len));
		bw_count_n(tcp->counters, BW_COPIED_BYTES, missing);
		/* Out of the queue for a moment, so that dropping from its front drops the copied bytes. */
		set_first(conn, second);
		conn->unread -= front->data_len;
		drop(conn, missing);
		front->data_len += (uint16_t)missing;
	} else {
		fresh = rte_pktmbuf_alloc(tcp->conf.pool);
		if (fresh == NULL) {
			bw_tcp__count(tcp, BW_DROP_NO_MBUF);
			return NULL;
		}
		if (len > fresh->buf_len) {
			rte_pktmbuf_free(fresh);
			return NULL;
		}
		fresh->data_off = 0;
		copy_out(conn, front, len, rte_pktmbuf_mtod(fresh, uint8_t *));
		bw_count_n(tcp->counters, BW_COPIED_BYTES, len);
		drop(conn, len);
		fresh->data_len = (uint16_t)len;
	}
	fresh->pkt_len = fresh->data_len;
	conn->unread += fresh->data_len;
	if (conn->recv_last == NULL) {
		conn->recv_last = fresh;
	} else {
		struct rte_mbuf *behind = first_of(conn);

		bw_tcp__rx_note(fresh)->next = behind;
		set_first(conn, fresh);
	}
	return rte_pktmbuf_mtod(fresh, const uint8_t *);
}

/* ---- the window ---------------------------------------------------------------------------------------- */

/** The window that the free room allows, and the field can say. */
static uint32_t allowed_window(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn)
{
	uint32_t recv_max = bw_tcp__recv_bytes_now(tcp, conn);
	uint32_t room = conn->unread < recv_max ? recv_max - conn->unread : 0;

	/* What was offered stands (RFC 9293 3.8.6), no more. */
	if (tcp->to_receive->pressure != BW_TCP_PRESSURE_NONE)
		return 0;
	return BW_MIN(room, 65535u << conn->rcv_wscale);
}

/*
 * A peer that a window of W holds back gets W through in a round trip. So when the service has taken more than half of
 * the window in one, the window doubles, in time for a slow start that doubles, too; one whose service reads slowly, or
 * whose peer has no more to send, stays as it is. (Dynamic right-sizing: Fisk and Feng, 2001.)
 */
void bw_tcp__window_grow(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct bw_tcp__rare *rare;
	uint32_t bytes = bw_tcp__recv_bytes_now(tcp, conn);
	bw_seq taken = conn->rcv_nxt - conn->unread;
	uint32_t rtt_ms, took_ms;

	if (bytes == bw_tcp__recv_bytes_max(tcp, conn))
		return;
	rare = bw_tcp__rare(tcp, conn);
	/* Of who only receives, the handshake tells the round trip. */
	rtt_ms = conn->srtt_us8 != 0 ? BW_MAX(conn->srtt_us8 / 8000, 1u) : RTT_UNKNOWN_MS;
	took_ms = bw_tcp__ms_since(tcp, rare->rcv_round_ms);
	if (took_ms < rtt_ms)
		return;
	/* A round that began while buffers were scarce has no number (pressure.c). */
	if (bw_seq_gt(taken, rare->rcv_round_seq) &&
		2ull * (taken - rare->rcv_round_seq) * rtt_ms > (uint64_t)bytes * took_ms &&
		tcp->to_receive->pressure == BW_TCP_PRESSURE_NONE)
		conn->rcv_growth++;
	rare->rcv_round_seq = taken;
	rare->rcv_round_ms = tcp->now_ms;
}

void bw_tcp_consume(struct bw_tcp_conn *conn, uint32_t len)
{
	struct bw_tcp *tcp = bw_tcp__of(conn);
	uint32_t allowed, advertised;

	BW_ASSERT_LE(len, conn->unread);
	drop(conn, len);
	if ((conn->flags & BW_CONN_DETACHED) && conn->unread == 0) {
		bw_tcp__mark_pending(tcp, conn);
		return;
	}
	if (!bw_tcp__peer_may_send(conn) || bw_tcp__is_over(conn))
		return;
	/*
	 * A window update of its own is due when the window that the peer knows has shrunk to half of what it
	 * could be, and can move by two segments (half the buffer where that is less). While a service reads
	 * as fast as its peer sends, the ACKs of every second segment move it in time.
	 */
	allowed = allowed_window(tcp, conn);
	advertised = bw_seq_gt(conn->rcv_adv, conn->rcv_nxt) ? conn->rcv_adv - conn->rcv_nxt : 0;
	if (advertised <= allowed / 2 &&
		allowed - advertised >= BW_MIN(bw_tcp__recv_bytes_now(tcp, conn) / 2, 2u * conn->rcv_mss)) {
		conn->flags |= BW_CONN_ACK_NOW;
		bw_tcp__mark_ready(tcp, conn);
	}
}

uint16_t bw_tcp__window_advertise(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	uint32_t allowed = allowed_window(tcp, conn), window = 0;
	/* The edge moves by a segment or half the buffer (RFC 9293 3.8.6.2.2), and never back (3.8.6). */
	uint32_t step = BW_MIN(bw_tcp__recv_bytes_now(tcp, conn) / 2, (uint32_t)conn->rcv_mss);
	unsigned scale = conn->rcv_wscale;
	uint32_t field;

	if (bw_seq_gt(conn->rcv_adv, conn->rcv_nxt))
		window = conn->rcv_adv - conn->rcv_nxt;
	/*
	 * A kept edge is rounded up, as rounding down would take back what was offered, but not beyond the
	 * room that there is: the edge would creep with every ACK. Then up to 2^scale - 1 bytes are taken
	 * back in appearance (RFC 7323 2.4); rcv_adv, up to which we accept, stays.
	 */
	if (allowed >= window + step)
		field = allowed >> scale;
	else
		field = BW_MIN((window + (1u << scale) - 1) >> scale, BW_MAX(allowed, window) >> scale);
	conn->rcv_adv = bw_seq_max(conn->rcv_adv, conn->rcv_nxt + (field << scale));
	return (uint16_t)field;
}
