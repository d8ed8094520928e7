/* SPDX-License-Identifier: BSD-3-Clause */
/** The commands of the one binary. Each takes what is behind its name and returns the exit status. */
#pragma once

#include <signal.h>
#include <stdio.h>

#include <control/conf.h>
#include <nic/nic.h>
#include <steer/steer.h>

enum {
	EXIT_OK = 0,
	EXIT_LOST = 1,    /* it ran, and did not end well */
	EXIT_REFUSED = 2, /* it did not start; one line said why */
};

struct bw_app_device {
	struct bw_nic_plan plan;
	struct bw_nic nic;
	struct bw_steer *steer; /* of an interface that the kernel goes on using; else NULL */
};

/** What a command runs: devices, EAL and engine. */
struct bw_app_instance {
	const struct bw_conf_view *view; /* the caller's */
	bool is_quiet;                   /* the caller's: says nothing when all has gone well */
	unsigned device_count;
	struct bw_app_device devices[BW_DEVICES_MAX]; /* parallel to the view's */
	struct bw_engine *engine;
	struct bw_app_capture *capture; /* of packets, for who asked; NULL: there has been none */
	sigset_t signals;
};

/** Before any thread is made, so that all inherit it: signals come to bw_app_signal_wait() and nowhere else. */
void bw_app_signals_block(struct bw_app_instance *instance);
/** The next signal, or 0 when none came in time. BW_NEVER waits as long as it takes. */
int bw_app_signal_wait(const struct bw_app_instance *instance, bw_ns timeout_ns);
/** Choose the devices. 0, or -errno after one line. */
int bw_app_plan(struct bw_app_instance *instance);
/** 0 with the workers running, or -errno after one line and nothing left behind. */
int bw_app_start(struct bw_app_instance *instance);
/**
 * Everything is open: of all threads, give up what only the start needs. Threads that are made later inherit as much.
 * Warns where a thread does not.
 */
void bw_app_privileges_drop(bool reopens_files);
/** Returns how many mbufs did not come home, which is printed. */
unsigned bw_app_stop(struct bw_app_instance *instance);
/** Every counter of the engine, its services and the devices together that is not zero. */
void bw_app_totals(const struct bw_app_instance *instance, FILE *out);

int bw_app_serve(int argc, char **argv);
int bw_app_load(int argc, char **argv);
int bw_app_check(int argc, char **argv);
int bw_app_doctor(int argc, char **argv);
int bw_app_bind(int argc, char **argv);
int bw_app_unbind(int argc, char **argv);
int bw_app_steer(int argc, char **argv);
/** The other end of it, of an instance that runs: a bw_admin_command's run(). @arg  struct bw_app_instance */
int bw_app_steer_answer(void *arg, int argc, char **argv, FILE *out);

int bw_app_capture(int argc, char **argv);
/** The other end of it: a bw_admin_command's run() and keep(). @arg  struct bw_app_instance */
int bw_app_capture_answer(void *arg, int argc, char **argv, FILE *out);
void bw_app_capture_keep(void *arg, int fd);
/** End what is under way, with what was captured; before the workers end, and when nobody can ask any more. */
void bw_app_capture_end(struct bw_app_instance *instance);

/** The word behind --instance. 0, or -errno after one line. */
int bw_app_pid_parse(const char *command, const char *text, int *pid);

/** What was started, and lines to paste. */
void bw_app_banner(FILE *out, const struct bw_app_instance *instance);
