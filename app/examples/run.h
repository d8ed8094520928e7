/* SPDX-License-Identifier: BSD-3-Clause */
/** A complete program around one service. */
#pragma once

#include <service/service.h>

/**
 * Serve `service`, with its configuration, on a port of 192.0.2.2 with one worker on `dev`, until SIGINT or SIGTERM. A TAP's kernel end
 * gets 192.0.2.1. Returns the exit status.
 */
int run(const struct bw_service *service, void *conf, uint16_t port, const char *dev);
