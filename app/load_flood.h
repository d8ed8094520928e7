/* SPDX-License-Identifier: BSD-3-Clause */
/** `barewire load --flood`: bare packets, to test a host's defences with (engine/flood.h). */
#pragma once

#include "app.h"

struct load_flood {
	bool is_wanted;
	struct bw_flood_conf conf;
	struct bw_cidr from; /* prefix_len 0: our own address */
	const char *url, *json, *csv;
	bool is_quiet;
};

/** "syn", "ack" or "udp". 0, or -EINVAL after one line. */
int load_flood_kind(const char *flag, const char *text, enum bw_flood_kind *kind);
/**
 * Refuse, in one line, what might reach hosts that are not the tester's: a target, or sources to which it would answer,
 * of the Internet but for our own networks; a route to everywhere. 0 or -EINVAL.
 */
int load_flood_check(const struct load_flood *flood, const struct bw_conf_view *view);
/** From the device to the report. Returns the exit status. */
int load_flood_run(const struct load_flood *flood, struct bw_app_instance *instance);
