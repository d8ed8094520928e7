/* SPDX-License-Identifier: BSD-3-Clause */
/** A long reply's text, built in the worker's scratch behind an inline command's arguments. Not for the fast path. */
#pragma once

#include "internal.h"

struct bw_resp__text {
	char *begin;
	size_t len, room;
	bool is_resp3;
};

/** One at a time. */
struct bw_resp__text bw_resp__text_begin(struct bw_resp__call *call);
/** What does not fit is a bug: the scratch holds several times the longest text there is. */
__attribute__((format(printf, 2, 3))) void bw_resp__text_add(
	struct bw_resp__text *t, const char *format, ...);
void bw_resp__text_bulk(struct bw_resp__text *t, const char *s);
void bw_resp__text_nil(struct bw_resp__text *t);
/** What holds `count` entries, or pairs of them; without maps and sets, RESP2 has arrays. */
void bw_resp__text_array(struct bw_resp__text *t, size_t count);
void bw_resp__text_set(struct bw_resp__text *t, size_t count);
void bw_resp__text_map(struct bw_resp__text *t, size_t pairs);
void bw_resp__text_address(struct bw_resp__text *t, const struct bw_ip *ip, uint16_t port_be);
/** INFO's lines about commands and errors, of all workers together: stats.c. */
void bw_resp__add_commandstats(struct bw_resp__text *t, const struct bw_resp__call *info);
void bw_resp__add_errorstats(struct bw_resp__text *t, const struct bw_resp *r);
/** A command's complexity, history and arguments, as pairs of a map: manual.c. */
unsigned bw_resp__manual_pairs(const struct bw_resp__command *command);
void bw_resp__add_manual(struct bw_resp__text *t, const struct bw_resp__command *command);
/** It is framed already. */
void bw_resp__text_reply(struct bw_resp__call *call, const struct bw_resp__text *t);

typedef unsigned long long bw_resp__ull; /* for %llu */
