/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Asking a running instance. It listens on a Unix socket of its own, PID.sock in /run/barewire (in
 * $XDG_RUNTIME_DIR/barewire where that may not be written to), which only its user and root may open.
 *
 * A request is the words of a command, an answer is text. One at a time, on a thread of its own: workers know nothing
 * of it.
 */
#pragma once

#include <stdio.h>

struct bw_admin;

struct bw_admin_command {
	const char *name; /* the request's first word */
	/**
	 * @argv  the words behind it, argc of them
	 * @out   what to answer. Of a refusal one line, without a newline: what, where, what to do
	 * 0, or -errno of a refusal.
	 */
	int (*run)(void *arg, int argc, char **argv, FILE *out);
	/**
	 * NULL, or called behind a run() that did not refuse: the command has more to say than a text, and takes the
	 * connection, to be closed by it. -1: the asker is gone.
	 */
	void (*keep)(void *arg, int fd);
};

/**
 * @commands  outlive it
 * @arg       for their run()
 * NULL after one line that warns, if there is no place for the socket: whoever serves can do without.
 */
struct bw_admin *bw_admin_start(const struct bw_admin_command *commands, unsigned count, void *arg);
/** Waits for the request that it is at. */
void bw_admin_stop(struct bw_admin *admin);

/**
 * Ask, from another process.
 *
 * @pid   of the instance; 0: the only one that runs
 * @out   the answer is copied to
 * 0; 1 after one line, of a refusal; -errno after one line when there is nobody to ask, or more than one.
 */
int bw_admin_ask(int pid, int argc, char **argv, FILE *out);
/** The same of a command that keeps the connection, which is the caller's then, in `left`; else that is -1. */
int bw_admin_ask_on(int pid, int argc, char **argv, FILE *out, int *left);
