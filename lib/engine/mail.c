/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Mail between the workers' contexts of a service: posted into an outbox for each receiver, sent as one batch
 * a turn, delivered at the beginning of the receiver's turn. What a full ring refuses stays in the outbox, in
 * order, so nothing is lost and nobody waits.
 */
#include "worker.h"

void bw_mail_post(struct bw_context *ctx, unsigned to_worker, struct bw_mail *mail)
{
	struct bw_worker *w = ctx->worker;
	struct bw_outbox *box = &w->outbox[to_worker];

	mail->to = &w->engine->workers[to_worker].contexts[ctx->index];
	mail->from_worker = w->index;
	mail->next = NULL;
	if (box->first == NULL)
		box->first = mail;
	else
		box->last->next = mail;
	box->last = mail;
}

bool bw_mail_flush(struct bw_worker *w)
{
	bool is_left = false;

	if (w->worker_count == 1 && w->outbox[0].first == NULL)
		return false;
	for (unsigned i = 0; i < w->worker_count; i++) {
		struct bw_worker *to = &w->engine->workers[i];
		struct bw_outbox *box = &w->outbox[i];
		struct bw_mail *batch[BW_BURST_MAX];
		unsigned count, taken;

		while (box->first != NULL) {
			struct bw_mail *mail = box->first;

			for (count = 0; mail != NULL && count < BW_BURST_MAX; mail = mail->next)
				batch[count++] = mail;
			/* Read `next` before the receiver may: afterwards the mail is its own. */
			struct bw_mail *following[BW_BURST_MAX];

			for (unsigned k = 0; k < count; k++)
				following[k] = batch[k]->next;
			taken = rte_ring_mp_enqueue_burst(to->mail_in, (void **)batch, count, NULL);
			if (taken > 0) {
				box->first = following[taken - 1];
				bw_count_n(&w->counters, BW_MAIL_SENT, taken);
				bw_power_wake(to);
			}
			if (taken < count)
				break;
		}
		is_left |= box->first != NULL;
	}
	return is_left;
}

unsigned bw_mail_deliver(struct bw_worker *w)
{
	struct bw_mail *batch[BW_BURST_MAX];
	unsigned count;

	count = rte_ring_sc_dequeue_burst(w->mail_in, (void **)batch, BW_BURST_MAX, NULL);
	if (count == 0)
		return 0;
	bw_stage_enter(&w->cycles, BW_STAGE_SERVICE);
	for (unsigned i = 0; i < count; i++)
		batch[i]->to->service->mail(batch[i]->to, batch[i]);
	bw_stage_enter(&w->cycles, BW_STAGE_INBOX);
	return count;
}
