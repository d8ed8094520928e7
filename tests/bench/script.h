/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * A fixed script of packets through a whole worker, parse to egress, in one process and one thread: what gate.c counts
 * instructions of, and cost.c cycles. The clock is the script's, and all that is random comes from one seed, so that
 * the packets are the same in every run.
 */
#pragma once

#include <base/types.h>

#include "worker.h"

struct scenario {
	const char *name, *what;
	uint16_t port;
	unsigned (*write)(char *out, unsigned number);
	const char *answer; /* begins so */
	unsigned depth, rounds;
	bool is_bulk, is_one_request;
};

extern const struct scenario script[];
extern const unsigned script_count;

/** Once a process. 0, or -1 after one line. */
int script_open(void);
void script_close(void);
/** A worker, that knows the clients' address. */
void script_start(bool counts_cycles);
/** The worker's end: every buffer is back. */
void script_stop(void);
/** Returns how many requests were made and answered in turns that count. Anything unexpected ends the process. */
unsigned script_run(const struct scenario *s);

/** The program's: a turn of the worker, and whether it counts. */
void script_turn(struct bw_worker *w, bool counts);
