/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Out-of-order bytes: a list of blocks, each a contiguous run of mbufs, by sequence number and with holes
 * between them. The first mbuf of a block keeps the block's bounds in its note.
 *
 *     rcv_nxt      first                    block_next
 *        |  hole     [ mbuf | mbuf | mbuf ]    hole    [ mbuf ]
 *                    left            right             left   right
 *
 * What arrives is trimmed at the front by the block that it overlaps and trims the blocks that it reaches
 * into, so blocks never touch. Costs are linear in the number of blocks, which is bounded, as are bytes and
 * mbufs: small pieces are copied together, what is over a bound is dropped and will be sent again.
 *
 * What came twice is noted here as well, for the D-SACK of the ACK that it calls for.
 *
 * The state is taken from an array when there is something of this to remember, and given back when all is told.
 */
#include "internal.h"

static struct bw_tcp__reassembly *state_of(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn)
{
	return &tcp->reassemblies[tcp->rares[conn->index].reassembly];
}

static struct bw_tcp__reassembly *state_take(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct bw_tcp__rare *rare = bw_tcp__rare(tcp, conn);

	if (rare->reassembly == BW_TCP__NONE) {
		rare->reassembly = bw_tcp__slab_take(&tcp->reassembly_slab, tcp->reassemblies, free_next);
		BW_ASSERT(rare->reassembly != BW_TCP__NONE); /* there are as many as connections */
		memset(state_of(tcp, conn), 0, sizeof(struct bw_tcp__reassembly));
		conn->flags |= BW_CONN_REASSEMBLY;
	}
	return state_of(tcp, conn);
}

static void state_give(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct bw_tcp__rare *rare = bw_tcp__rare(tcp, conn);

	bw_tcp__slab_give(&tcp->reassembly_slab, tcp->reassemblies, free_next, rare->reassembly);
	rare->reassembly = BW_TCP__NONE;
	conn->flags &= ~BW_CONN_REASSEMBLY;
}

static void give_if_idle(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	const struct bw_tcp__reassembly *r = state_of(tcp, conn);

	if (r->first == NULL && !r->has_fin && !r->has_dsack)
		state_give(tcp, conn);
}

static bool is_over_bound(const struct bw_tcp *tcp, const struct bw_tcp_conn *conn,
	const struct bw_tcp__reassembly *r, uint32_t len)
{
	uint32_t bytes_max = tcp->conf.reassembly_bytes_max;

	if (bytes_max == 0)
		bytes_max = bw_tcp__recv_bytes_max(tcp, conn);
	return r->bytes + len > bytes_max || r->mbufs >= 16 + bytes_max / 512 || r->mbufs > UINT16_MAX - 64;
}

/** Where the block ends, with a FIN that lies behind it. */
static bw_seq right_of(const struct bw_tcp__reassembly *r, const struct bw_tcp__rx_note *block)
{
	return block->right + (r->has_fin && r->fin_seq == block->right);
}

/** The block [left, right) grew: it is the first to be reported (RFC 2018 4). */
static void note_recent(struct bw_tcp__reassembly *r, bw_seq left, bw_seq right)
{
	bw_seq recent[BW_SACK_BLOCKS_MAX] = { left };
	unsigned count = 1;

	for (unsigned i = 0; i < r->recent_count && count < BW_SACK_BLOCKS_MAX; i++) {
		if (!bw_seq_in(r->recent[i], left, right - left))
			recent[count++] = r->recent[i];
	}
	memcpy(r->recent, recent, sizeof(recent));
	r->recent_count = count;
}

static unsigned run_count(struct rte_mbuf *first, struct rte_mbuf *last)
{
	unsigned count = 1;

	for (; first != last; first = bw_tcp__rx_note(first)->next)
		count++;
	return count;
}

/** Join to the block whatever blocks behind it now touch or lie under it. */
static void absorb(struct bw_tcp *tcp, struct bw_tcp__reassembly *r, struct rte_mbuf *block)
{
	struct bw_tcp__rx_note *note = bw_tcp__rx_note(block);

	while (note->block_next != NULL) {
		struct rte_mbuf *first = note->block_next;
		struct bw_tcp__rx_note behind = *bw_tcp__rx_note(first); /* trimming may free its mbuf */
		unsigned freed = 0;

		if (bw_seq_gt(behind.left, note->right))
			return;
		note->block_next = behind.block_next;
		r->blocks--;
		if (r->last == first)
			r->last = block;
		if (bw_seq_leq(behind.right, note->right)) {
			r->bytes -= behind.right - behind.left;
			r->mbufs -= (uint16_t)bw_tcp__run_free(first, behind.block_last);
			continue;
		}
		r->bytes -= note->right - behind.left;
		first = bw_tcp__run_trim(first, note->right - behind.left, &freed);
		r->mbufs -= (uint16_t)freed;
		note->right = behind.right;
		if (first == behind.block_last &&
			bw_tcp__coalesce(tcp, note->block_last, first, BW_TCP__SMALL_BYTES)) {
			r->mbufs--;
			continue;
		}
		bw_tcp__rx_note(note->block_last)->next = first;
		note->block_last = behind.block_last;
	}
}

void bw_tcp__reassembly_duplicate(struct bw_tcp *tcp, struct bw_tcp_conn *conn, bw_seq left, bw_seq right)
{
	struct bw_tcp__reassembly *r;

	if (!(conn->flags & BW_CONN_SACK))
		return;
	r = state_take(tcp, conn);
	/* One an ACK: the first piece (RFC 2883 4), with what a burst adds to it. */
	if (r->has_dsack) {
		if (bw_seq_gt(left, r->dsack.right) || bw_seq_gt(r->dsack.left, right))
			return;
		left = bw_seq_min(left, r->dsack.left);
		right = bw_seq_max(right, r->dsack.right);
	}
	r->dsack = (struct bw_sack_block){ left, right };
	r->has_dsack = true;
}

/** The first piece of [seq, right) that is here already (RFC 2883 4), from the block on that could have it. */
static void note_duplicate(
	struct bw_tcp *tcp, struct bw_tcp_conn *conn, struct rte_mbuf *block, bw_seq seq, bw_seq right)
{
	if (block != NULL && bw_tcp__rx_note(block)->right == seq)
		block = bw_tcp__rx_note(block)->block_next;
	if (block != NULL && bw_seq_lt(bw_tcp__rx_note(block)->left, right))
		bw_tcp__reassembly_duplicate(tcp, conn, bw_seq_max(seq, bw_tcp__rx_note(block)->left),
			bw_seq_min(right, bw_tcp__rx_note(block)->right));
}

void bw_tcp__reassembly_insert(struct bw_tcp *tcp, struct bw_tcp_conn *conn, bw_seq seq, uint32_t len,
	struct rte_mbuf *first, struct rte_mbuf *last)
{
	struct bw_tcp__reassembly *r = state_take(tcp, conn);
	struct rte_mbuf *before = NULL, *block = r->first;
	bw_seq right = seq + len;
	struct bw_tcp__rx_note *note;
	unsigned freed = 0;

	if (is_over_bound(tcp, conn, r, len) || tcp->to_receive->pressure != BW_TCP_PRESSURE_NONE ||
		(r->has_fin && bw_seq_gt(right, r->fin_seq))) /* behind its own FIN: a confused peer */
		goto refuse;
	/* The usual arrival is behind all that is here. */
	if (r->last != NULL && bw_seq_gt(seq, bw_tcp__rx_note(r->last)->right)) {
		before = r->last;
		block = NULL;
	}
	/* The first block that the segment touches or lies before. */
	while (block != NULL && bw_seq_gt(seq, bw_tcp__rx_note(block)->right)) {
		before = block;
		block = bw_tcp__rx_note(block)->block_next;
	}
	note_duplicate(tcp, conn, block, seq, right);

	if (block != NULL && bw_seq_leq(bw_tcp__rx_note(block)->left, seq)) {
		uint32_t overlap;

		note = bw_tcp__rx_note(block);
		if (bw_seq_leq(right, note->right)) {
			note_recent(r, note->left, right_of(r, note));
			bw_tcp__count(tcp, BW_TCP_DUPLICATES);
			bw_tcp__run_free(first, last);
			return;
		}
		overlap = note->right - seq;
		first = bw_tcp__run_trim(first, overlap, &freed);
		r->bytes += len - overlap;
		note->right = right;
		if (first != last || !bw_tcp__coalesce(tcp, note->block_last, first, BW_TCP__SMALL_BYTES)) {
			r->mbufs += (uint16_t)run_count(first, last);
			bw_tcp__rx_note(note->block_last)->next = first;
			note->block_last = last;
		}
	} else {
		if (r->blocks == BW_TCP__BLOCKS_MAX)
			goto refuse;
		r->blocks++;
		r->bytes += len;
		r->mbufs += (uint16_t)run_count(first, last);
		note = bw_tcp__rx_note(first);
		note->block_last = last;
		note->block_next = block;
		note->left = seq;
		note->right = right;
		if (before != NULL)
			bw_tcp__rx_note(before)->block_next = first;
		else
			r->first = first;
		if (block == NULL)
			r->last = first;
		block = first;
	}
	bw_tcp__count(tcp, BW_TCP_OUT_OF_ORDER);
	absorb(tcp, r, block);
	note_recent(r, note->left, right_of(r, note));
	return;

refuse:
	bw_tcp__count(tcp, BW_TCP_REASSEMBLY_DROPS);
	bw_tcp__run_free(first, last);
	give_if_idle(tcp, conn);
}

void bw_tcp__reassembly_fin(struct bw_tcp *tcp, struct bw_tcp_conn *conn, bw_seq fin_seq)
{
	struct bw_tcp__reassembly *r = state_take(tcp, conn);
	bw_seq right = r->last != NULL ? bw_tcp__rx_note(r->last)->right : fin_seq;

	if (bw_seq_gt(right, fin_seq) || (r->has_fin && r->fin_seq != fin_seq))
		return;
	if (r->has_fin)
		bw_tcp__reassembly_duplicate(tcp, conn, fin_seq, fin_seq + 1);
	r->has_fin = true;
	r->fin_seq = fin_seq;
	if (r->last != NULL && right == fin_seq)
		note_recent(r, bw_tcp__rx_note(r->last)->left, fin_seq + 1);
	else
		note_recent(r, fin_seq, fin_seq + 1);
}

void bw_tcp__reassembly_owe_ack(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	if ((conn->flags & (BW_CONN_REASSEMBLY | BW_CONN_SACK)) == BW_CONN_REASSEMBLY &&
		state_of(tcp, conn)->owed_acks < BW_TCP__DUP_THRESH)
		state_of(tcp, conn)->owed_acks++;
}

unsigned bw_tcp__reassembly_owed_acks(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	unsigned owed = state_of(tcp, conn)->owed_acks;

	state_of(tcp, conn)->owed_acks = 0;
	return BW_MAX(owed, 1u);
}

bool bw_tcp__reassembly_drain(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct bw_tcp__reassembly *r;
	bool has_fin;

	if (!(conn->flags & BW_CONN_REASSEMBLY))
		return false;
	r = state_of(tcp, conn);
	if (r->first != NULL)
		note_duplicate(tcp, conn, r->first, bw_tcp__rx_note(r->first)->left, conn->rcv_nxt);
	while (r->first != NULL && bw_seq_leq(bw_tcp__rx_note(r->first)->left, conn->rcv_nxt)) {
		struct rte_mbuf *first = r->first;
		struct bw_tcp__rx_note note = *bw_tcp__rx_note(first);
		unsigned freed = 0;

		r->first = note.block_next;
		if (r->first == NULL)
			r->last = NULL;
		r->blocks--;
		r->bytes -= note.right - note.left;
		r->mbufs -= (uint16_t)run_count(first, note.block_last);
		if (bw_seq_leq(note.right, conn->rcv_nxt)) {
			bw_tcp__run_free(first, note.block_last);
			continue;
		}
		first = bw_tcp__run_trim(first, conn->rcv_nxt - note.left, &freed);
		bw_tcp__recvq_append(tcp, conn, first, note.block_last, note.right - conn->rcv_nxt);
		conn->rcv_nxt = note.right;
	}
	has_fin = r->has_fin && r->fin_seq == conn->rcv_nxt;
	r->has_fin &= bw_seq_leq(conn->rcv_nxt, r->fin_seq);
	if (has_fin)
		bw_tcp__reassembly_free(tcp, conn); /* what lies behind a FIN is nothing */
	else
		give_if_idle(tcp, conn);
	return has_fin;
}

void bw_tcp__reassembly_free(struct bw_tcp *tcp, struct bw_tcp_conn *conn)
{
	struct rte_mbuf *block;

	if (!(conn->flags & BW_CONN_REASSEMBLY))
		return;
	block = state_of(tcp, conn)->first;
	while (block != NULL) {
		struct bw_tcp__rx_note note = *bw_tcp__rx_note(block);

		bw_tcp__run_free(block, note.block_last);
		block = note.block_next;
	}
	state_give(tcp, conn);
}

/** The block that `seq` lies in, with the FIN behind it, which may be all there is of one. False: it is gone. */
static bool find_block(const struct bw_tcp__reassembly *r, bw_seq seq, struct bw_sack_block *block)
{
	for (struct rte_mbuf *b = r->first; b != NULL; b = bw_tcp__rx_note(b)->block_next) {
		const struct bw_tcp__rx_note *note = bw_tcp__rx_note(b);

		if (bw_seq_in(seq, note->left, right_of(r, note) - note->left)) {
			*block = (struct bw_sack_block){ note->left, right_of(r, note) };
			return true;
		}
	}
	*block = (struct bw_sack_block){ seq, seq + 1 };
	return r->has_fin && r->fin_seq == seq;
}

unsigned bw_tcp__reassembly_sack(
	struct bw_tcp *tcp, struct bw_tcp_conn *conn, struct bw_sack_block *blocks, unsigned max)
{
	struct bw_tcp__reassembly *r;
	unsigned count = 0, dsacks;

	if (!(conn->flags & BW_CONN_REASSEMBLY))
		return 0;
	r = state_of(tcp, conn);
	if (r->has_dsack) {
		blocks[count++] = r->dsack;
		r->has_dsack = false;
	}
	dsacks = count;
	for (unsigned i = 0; i < r->recent_count && count < max; i++) {
		bool is_reported = false;

		for (unsigned k = dsacks; k < count; k++)
			is_reported |=
				bw_seq_in(r->recent[i], blocks[k].left, blocks[k].right - blocks[k].left);
		if (is_reported)
			continue;
		count += find_block(r, r->recent[i], &blocks[count]);
	}
	give_if_idle(tcp, conn);
	return count;
}
