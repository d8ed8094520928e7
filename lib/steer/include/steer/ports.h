/* SPDX-License-Identifier: BSD-3-Clause */
/** Ports of addresses that are shared: who has them in the kernel, and keeping them from others. */
#pragma once

#include <steer/steer.h>

struct bw_steer_holds;

/**
 * Refuse ports that a process listens on in the kernel, and bind those that nobody has, so that nobody begins to. What
 * may not be bound (below 1024, without the privilege) is only looked at.
 * What is held already stays so.
 * @spec   for messages; NULL: say nothing
 * @holds  NULL, or what an earlier call began; bw_steer_release() ends it
 * 0, or -EADDRINUSE after one line that names the process.
 */
int bw_steer_hold(
	const char *spec, const struct bw_steer_port *ports, unsigned count, struct bw_steer_holds **holds);
/** Of addresses that are gone. @holds  NULL: none */
void bw_steer_let_go(struct bw_steer_holds *holds, bool (*is_there)(const void *arg, const struct bw_ip *ip),
	const void *arg);
void bw_steer_release(struct bw_steer_holds *holds);
