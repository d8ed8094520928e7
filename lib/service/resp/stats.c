/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What commands cost, and how they end: INFO commandstats and errorstats.
 *
 * A command is counted where its connection is, and once more at each worker that it visits by mail. Two readings of the
 * clock are no small part of what a GET takes, so not every call is measured: the first SAMPLE_ALL of each command are,
 * and then one of about SAMPLE_EVERY, at distances that vary, so that a client's rhythm cannot hide from it. A measured
 * call stands for those since the one before it. So a sum is right in the long run, and exact for what is rare; what it
 * cannot show is the one slow call among many.
 *
 * What is measured is what Redis measures: from the look-up of the keys to the reply, without parsing and sending. Of
 * a command that other workers run, it is what they do, and the sending of it, not the way there.
 *
 * Rejected is what does not run at all: wrong arity, no password yet. Failed is what ran and answered with an error.
 */
#include "text.h"

#define SAMPLE_ALL   64u
#define SAMPLE_EVERY 64u

static const char *const error_names[] = {
	[BW_RESP__ERR] = "ERR",
	[BW_RESP__NOAUTH] = "NOAUTH",
	[BW_RESP__NOPROTO] = "NOPROTO",
	[BW_RESP__OOM] = "OOM",
	[BW_RESP__WRONGPASS] = "WRONGPASS",
};
_Static_assert(BW_ARRAY_LEN(error_names) == BW_RESP__ERRORS, "an error's name");

void bw_resp__stats_reset(struct bw_resp *r)
{
	static const struct bw_resp__gauge fresh = { .left = 1, .distance = 1 };

	for (unsigned i = 0; i < BW_ARRAY_LEN(r->stats); i++)
		r->stats[i] = (struct bw_resp__stat){ .calls = fresh, .visits = fresh };
	memset(r->errors_of, 0, sizeof(r->errors_of));
}

static uint64_t count_of(const struct bw_resp__gauge *gauge)
{
	return gauge->count + gauge->distance - gauge->left;
}

uint64_t bw_resp__calls(const struct bw_resp *r)
{
	uint64_t calls = 0;

	for (unsigned i = 0; i < BW_ARRAY_LEN(r->stats); i++)
		calls += count_of(&r->stats[i].calls);
	return calls;
}

/* What is not measured yet costs what the others do. */
static double ns_of(const struct bw_resp__gauge *gauge)
{
	return gauge->count == 0 ? 0 : (double)gauge->ns * (double)count_of(gauge) / (double)gauge->count;
}

/* A half to one and a half of SAMPLE_EVERY, all as likely: the count's bits, stirred. */
static uint32_t next_distance(uint64_t count)
{
	count *= 0x9e3779b97f4a7c15ull;
	count = (count ^ count >> 32) * 0xd6e8feb86659fd93ull;
	return SAMPLE_EVERY / 2 + (uint32_t)((count >> 32) * SAMPLE_EVERY >> 32);
}

void bw_resp__measured(struct bw_resp__gauge *gauge, bw_ns begun_at)
{
	gauge->ns += (bw_clock_now() - begun_at) * gauge->distance;
	gauge->count += gauge->distance;
	gauge->distance = gauge->count < SAMPLE_ALL ? 1 : next_distance(gauge->count);
	gauge->left = gauge->distance;
}

/* Of "-ERR ...". The texts are ours, and so is the list. */
static enum bw_resp__error kind_of(const char *text, size_t text_len)
{
	const char *blank = memchr(text, ' ', text_len);
	size_t len = blank != NULL ? (size_t)(blank - text) - 1 : text_len - 1;
	unsigned error = 0;

	while (strlen(error_names[error]) != len || memcmp(error_names[error], text + 1, len) != 0) {
		error++;
		BW_ASSERT_LT(error, BW_RESP__ERRORS);
	}
	return error;
}

void bw_resp__count_error(const struct bw_resp__call *call, const char *text, size_t len)
{
	call->r->errors++;
	call->r->errors_of[kind_of(text, len)]++;
	if (call->command != NULL && !call->is_rejected)
		bw_resp__stat_of(call->r, call->command)->failed++;
}

static void add_command(
	struct bw_resp__text *t, const struct bw_resp__call *info, const struct bw_resp__command *command)
{
	uint64_t calls = 0, rejected = 0, failed = 0;
	double us = 0;

	/* Other workers' figures are read as they are: each is written by its owner alone. */
	for (unsigned i = 0; i < info->r->workers; i++) {
		const struct bw_resp *peer = bw_context_peer_state(info->r->ctx, i);
		const struct bw_resp__stat *stat = &peer->stats[bw_resp__command_number(command)];

		calls += count_of(&stat->calls);
		rejected += stat->rejected;
		failed += stat->failed;
		us += (ns_of(&stat->calls) + ns_of(&stat->visits)) / 1000;
	}
	calls -= command == info->command; /* it has not ended yet */
	if (calls + rejected + failed == 0)
		return;
	bw_resp__text_add(t,
		"cmdstat_%s:calls=%llu,usec=%.0f,usec_per_call=%.2f,rejected_calls=%llu,failed_calls=%llu\r\n",
		command->name, (bw_resp__ull)calls, us, calls > 0 ? us / (double)calls : 0,
		(bw_resp__ull)rejected, (bw_resp__ull)failed);
}

void bw_resp__add_commandstats(struct bw_resp__text *t, const struct bw_resp__call *info)
{
	for (unsigned i = 0; i < bw_resp__command_count; i++)
		add_command(t, info, &bw_resp__commands[i]);
	for (unsigned i = 0; i < bw_resp__subcommand_count; i++)
		add_command(t, info, &bw_resp__subcommands[i]);
}

void bw_resp__add_errorstats(struct bw_resp__text *t, const struct bw_resp *r)
{
	for (unsigned error = 0; error < BW_RESP__ERRORS; error++) {
		uint64_t count = 0;

		for (unsigned i = 0; i < r->workers; i++)
			count += ((const struct bw_resp *)bw_context_peer_state(r->ctx, i))->errors_of[error];
		if (count > 0)
			bw_resp__text_add(
				t, "errorstat_%s:count=%llu\r\n", error_names[error], (bw_resp__ull)count);
	}
}
