/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Configuration: a YAML file (libcyaml schema), flags that win over it, defaults, and the checks that need the
 * whole picture. docs/configuration.md documents every key.
 */
#pragma once

#include <stdio.h>

#include <engine/engine.h>
#include <service/http.h>
#include <service/resp.h>

struct bw_conf; /* the effective configuration; owns all strings */

/** NULL only when out of memory. */
struct bw_conf *bw_conf_create(void);
void bw_conf_destroy(struct bw_conf *conf);

/**
 * Command-line flags of `serve` and `check`, -c FILE included: reads the file first, then applies the flags.
 * @argv    behind the command's own name; stops at "--", whose successors are EAL's
 * 0, or -EINVAL (-errno of a file that cannot be read) after one line with the flag or file:line. 1: -h or --help
 * is among them, and nothing else was looked at.
 */
int bw_conf_parse(struct bw_conf *conf, int argc, char **argv);
/** The flags' help text. */
void bw_conf_usage(FILE *out);

/** Checks over all: overlapping ports, addresses, gateway on-link, roots. Fills the views below. 0 or -EINVAL. */
int bw_conf_finish(struct bw_conf *conf);

/** The effective configuration as a YAML file that reads back to itself. After bw_conf_finish(). 0 or -errno. */
int bw_conf_print(const struct bw_conf *conf, FILE *out);

/* What the application starts from; valid until destroy. */
struct bw_conf_view {
	const char *dev;
	bool has_default_addrs; /* `auto` without an address: those of a tap, and wrong for anything else */
	uint16_t mtu;           /* 0: the device's */
	uint32_t mbufs_per_worker;               /* 0: chosen from the device's rings */
	struct bw_cidr host_addrs[BW_ADDRS_MAX]; /* tap's kernel end */
	unsigned host_addr_count;
	/* `auto`: an address whose prefix has none for a tap's kernel end, wrong if it takes one; NULL: none such */
	const struct bw_cidr *without_host;
	const struct bw_mac *mac; /* NULL: the device's */
	struct bw_engine_conf engine;
	/* Parallel to engine.services; NULL where it is another. */
	struct bw_http_conf *http[BW_SERVICES_MAX];
	struct bw_resp_conf *resp[BW_SERVICES_MAX];
	bw_ns drain_timeout_ns;    /* default 10 s */
	unsigned stats_interval_s; /* default 10; 0: only on SIGUSR1 */
	bool is_verbose;
	char *const *eal_args;
	unsigned eal_arg_count;
};
const struct bw_conf_view *bw_conf_view(const struct bw_conf *conf);
