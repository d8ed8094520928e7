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

/**
 * For a command that only connects, and has flags of its own: which of its arguments are about the device, the network
 * and the engine? -1: `arg` is no such flag; else how many of the arguments that follow belong to it.
 */
int bw_conf_network_flag(const char *arg);
/** The help text of those, and of one flag: of the command's own, too. */
void bw_conf_network_usage(FILE *out);
void bw_conf_flag_usage(
	FILE *out, const char *name, const char *short_name, const char *arg, const char *help);
#define BW_CONF_OWN_FLAGS_MAX 64u
/** What is near enough to a mistyped flag to be meant: one of those, or of the command's `own`. NULL: none. */
const char *bw_conf_nearest_flag(const char *arg, const char *const *own, unsigned own_count);
/**
 * Run this instead of services that listen; before bw_conf_finish(), which refuses any of those.
 * @connections  of all workers, where tcp.connections says nothing
 */
void bw_conf_set_client(struct bw_conf *conf, const struct bw_service *service, void *service_conf,
	uint64_t connections, const struct bw_cidr *range);
/** The same for a flood, which needs no service; `flood` lives as long as the configuration. */
void bw_conf_set_flood(struct bw_conf *conf, const struct bw_flood_conf *flood, const struct bw_cidr *range);

/** Units in which a quantity may be given, as in the file. */
enum bw_conf_unit {
	BW_CONF_NUMBER,
	BW_CONF_BYTES,
	BW_CONF_DURATION
};
/** A flag's value. 0, or -EINVAL after one line. */
int bw_conf_quantity(const char *flag, enum bw_conf_unit unit, const char *text, uint64_t min, uint64_t max,
	uint64_t *value);

/** Checks over all: overlapping ports, addresses, gateway on-link, roots. Fills the views below. 0 or -EINVAL. */
int bw_conf_finish(struct bw_conf *conf);

/** The effective configuration as a YAML file that reads back to itself. After bw_conf_finish(). 0 or -errno. */
int bw_conf_print(const struct bw_conf *conf, FILE *out);

/* What the application starts from; valid until destroy. */
struct bw_conf_view {
	struct bw_engine_conf engine;
	/* Parallel to engine.devices. */
	struct bw_conf_device {
		const char *dev;
		bool has_default_addrs; /* `auto` without an address: those of a tap, and wrong for anything else */
		uint16_t mtu;           /* 0: the device's */
		const struct bw_mac *mac;                /* NULL: the device's */
		struct bw_cidr host_addrs[BW_ADDRS_MAX]; /* tap's kernel end */
		unsigned host_addr_count;
		/* `auto`: an address whose prefix has none for a tap's kernel end, wrong if it takes one; NULL: none such */
		const struct bw_cidr *without_host;
	} devices[BW_DEVICES_MAX];
	uint32_t mbufs_per_worker; /* of each device; 0: chosen from its rings */
	/* Parallel to engine.services; NULL where it is another. */
	struct bw_http_conf *http[BW_SERVICES_MAX];
	struct bw_resp_conf *resp[BW_SERVICES_MAX];
	/* Of an interface that is shared with the kernel: whom the steer keeps out from the start. */
	struct bw_steer_limits steer_limits;
	const struct bw_conf_rule {
		struct bw_cidr source;
		enum bw_steer_verdict verdict;
	} * steer_rules;
	unsigned steer_rule_count;
	bw_ns drain_timeout_ns;    /* default 10 s */
	unsigned stats_interval_s; /* default 10; 0: only on SIGUSR1 */
	bool is_verbose;
	char *const *eal_args;
	unsigned eal_arg_count;
};
const struct bw_conf_view *bw_conf_view(const struct bw_conf *conf);
