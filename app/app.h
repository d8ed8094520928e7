/* SPDX-License-Identifier: BSD-3-Clause */
/** The commands of the one binary. Each takes what is behind its name and returns the exit status. */
#pragma once

#include <stdio.h>

#include <control/conf.h>
#include <nic/nic.h>

enum {
	EXIT_OK = 0,
	EXIT_LOST = 1,    /* it ran, and did not end well */
	EXIT_REFUSED = 2, /* it did not start; one line said why */
};

int bw_app_serve(int argc, char **argv);
int bw_app_check(int argc, char **argv);
int bw_app_doctor(int argc, char **argv);

/** What was started, and lines to paste. */
void bw_app_banner(FILE *out, const struct bw_conf_view *view, const struct bw_nic *nic);
