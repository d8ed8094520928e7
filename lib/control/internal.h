/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Theory of operation. The file, the flags and the defaults all write into one place, `struct bw_raw`: text, shaped
 * as the YAML file is. libcyaml fills it from the file, flags overwrite it, bw_conf_finish() reads every value out
 * of it into the structs that the other rooms take, and writes the defaults of what nobody set back into it. So
 * what is printed is what is in force, and a value is parsed by the same code whoever gave it.
 *
 * Beside it lie the origins: which line or flag a key came from, so that a complaint about a value, in whatever
 * later check, names the place where the user wrote it.
 */
#pragma once

#include <control/conf.h>

#include "keys.h"

#define RAW_MEMBER(key, kind, target, min, max) char *key;

struct bw_raw_route {
	char *prefix, *gateway;
};

/** What is said of a device. */
#define RAW_DEVICE                                                                                           \
	DEVICE_KEYS(RAW_MEMBER)                                                                              \
	LINK_KEYS(RAW_MEMBER)                                                                                \
	char *mac;                                                                                           \
	char **addresses;                                                                                    \
	unsigned addresses_count;                                                                            \
	char **gateways;                                                                                     \
	unsigned gateways_count;                                                                             \
	struct bw_raw_route *routes;                                                                         \
	unsigned routes_count;

struct bw_raw_device {
	RAW_DEVICE
};

/** In the file its keys are among the others of the structure. */
#define RAW_DEVICE_MEMBERS                                                                                   \
	union {                                                                                              \
		struct bw_raw_device about;                                                                  \
		struct {                                                                                     \
			RAW_DEVICE                                                                           \
		};                                                                                           \
	};

struct bw_raw_more_device {
	RAW_DEVICE_MEMBERS
	MORE_DEVICE_KEYS(RAW_MEMBER)
};

struct bw_raw_constant {
	CONSTANT_KEYS(RAW_MEMBER)
};

struct bw_raw_header {
	HEADER_KEYS(RAW_MEMBER)
};

struct bw_raw_error_page {
	ERROR_PAGE_KEYS(RAW_MEMBER)
};

struct bw_raw_handler {
	char *path, *prefix, *handler;
	char **methods;
	unsigned methods_count;
	ROUTE_KEYS(RAW_MEMBER)
};

/** What a service and each of its hosts have. */
#define RAW_SITE                                                                                             \
	SITE_KEYS(RAW_MEMBER)                                                                                \
	struct bw_raw_constant *constants;                                                                   \
	unsigned constants_count;                                                                            \
	struct bw_raw_handler *routes;                                                                       \
	unsigned routes_count;                                                                               \
	struct bw_raw_header *headers;                                                                       \
	unsigned headers_count;                                                                              \
	struct bw_raw_error_page *error_pages;                                                               \
	unsigned error_pages_count;

struct bw_raw_site {
	RAW_SITE
};

/** As RAW_DEVICE_MEMBERS. */
#define RAW_SITE_MEMBERS                                                                                     \
	union {                                                                                              \
		struct bw_raw_site site;                                                                     \
		struct {                                                                                     \
			RAW_SITE                                                                             \
		};                                                                                           \
	};

struct bw_raw_host {
	RAW_SITE_MEMBERS
	char **names;
	unsigned names_count;
};

/** What every raw service begins with. */
#define RAW_LISTEN                                                                                           \
	char *port;                                                                                          \
	char **addresses;                                                                                    \
	unsigned addresses_count;

struct bw_raw_listen {
	RAW_LISTEN
};

struct bw_raw_http {
	RAW_LISTEN
	SERVICE_KEYS(RAW_MEMBER)
	HTTP_KEYS(RAW_MEMBER)
	RAW_SITE_MEMBERS
	struct bw_raw_host *hosts;
	unsigned hosts_count;
};

struct bw_raw_resp {
	RAW_LISTEN
	SERVICE_KEYS(RAW_MEMBER)
	RESP_KEYS(RAW_MEMBER)
};

/** echo and discard */
struct bw_raw_plain {
	RAW_LISTEN
	SERVICE_KEYS(RAW_MEMBER)
};

struct bw_raw_network {
	NETWORK_KEYS(RAW_MEMBER)
};

struct bw_raw_steer {
	STEER_KEYS(RAW_MEMBER)
	char **block;
	unsigned block_count;
	char **allow;
	unsigned allow_count;
};

struct bw_raw_exception {
	EXCEPTION_KEYS(RAW_MEMBER)
};

struct bw_raw_tcp {
	TCP_KEYS(RAW_MEMBER)
};

struct bw_raw {
	RAW_DEVICE_MEMBERS
	struct bw_raw_more_device *more_devices;
	unsigned more_devices_count;
	TOP_KEYS(RAW_MEMBER)
	char *cpus;
	struct bw_raw_network network;
	struct bw_raw_steer steer;
	struct bw_raw_exception exception;
	struct bw_raw_tcp tcp;
	struct bw_raw_http *http;
	unsigned http_count;
	struct bw_raw_resp *resp;
	unsigned resp_count;
	struct bw_raw_plain *echo;
	unsigned echo_count;
	struct bw_raw_plain *discard;
	unsigned discard_count;
	char **eal;
	unsigned eal_count;
};

/* Bounds of lists. The services' is of each list and of all together. */
#define MORE_DEVICES_MAX (BW_DEVICES_MAX - 1)
#define CONSTANTS_MAX    64
#define METHODS_MAX      8
#define NAMES_MAX        64
#define HEADERS_MAX      32
#define ERROR_PAGES_MAX  32
#define RULES_MAX        65536
#define EAL_ARGS_MAX     64
#define PATH_BYTES       128

/** Where a key was set. Paths are as in "http[0].constants[2].path". */
struct bw_origin {
	char path[PATH_BYTES];
	const char *flag; /* or NULL: the file's `line` */
	unsigned line;
};

/** Memory that lives as long as the configuration. */
struct bw_conf_block {
	struct bw_conf_block *next;
	uint64_t data[];
};

struct bw_conf {
	char *file; /* of -c, or NULL */
	struct bw_raw *raw;
	struct bw_origin *origins;
	unsigned origin_count;
	struct bw_engine_service client; /* instead of services; without `service`: none */
	uint64_t client_connections;     /* of all workers */
	struct bw_conf_view view;
	struct bw_mac macs[BW_DEVICES_MAX]; /* those that were given */
	struct bw_http_conf http[BW_SERVICES_MAX];
	struct bw_conf_block *blocks; /* what they point to */
	struct bw_resp_conf resp[BW_SERVICES_MAX];
};

/* ---- origins.c ---- */
int bw_control__origin_add(struct bw_conf *conf, const char *path, const char *flag, unsigned line);
/** Forget a path and what is under it. */
void bw_control__origin_drop(struct bw_conf *conf, const char *path);
/** NULL: nobody set it. */
const struct bw_origin *bw_control__origin(const struct bw_conf *conf, const char *path);
/** Print the one line: where `path` was set, what is wrong and what to do. Returns -EINVAL. */
__attribute__((format(printf, 3, 4))) int bw_control__fail(
	const struct bw_conf *conf, const char *path, const char *format, ...);

/* ---- file.c ---- */
/** Load into conf->raw, with origins. 0, or -errno after one line. */
int bw_control__file_load(struct bw_conf *conf, const char *path);
int bw_control__file_print(const struct bw_raw *raw, FILE *out);
void bw_control__raw_free(struct bw_raw *raw);
/** Every key of the schema that holds a value, as "http[].constants[].path", for the tests of the documentation. */
void bw_control__keys_visit(void (*visit)(const char *path, void *arg), void *arg);

/* ---- flags.c ---- */
int bw_control__flags_apply(struct bw_conf *conf, int argc, char **argv);

/* ---- values.c ---- */
enum bw_key_kind {
	KEY_NUMBER,   /* plain decimal */
	KEY_BYTES,    /* decimal with K, M, G or KiB, MiB, GiB */
	KEY_DURATION, /* decimal with ms, s, m or h; seconds without */
	KEY_BOOL,
	KEY_POLL,        /* enum bw_poll */
	KEY_CONGESTION,  /* enum bw_tcp_congestion_control */
	KEY_SYN_COOKIES, /* enum bw_tcp_syn_cookies */
	KEY_POLICY,      /* enum bw_resp_policy */
	KEY_LOG_FORMAT,  /* enum bw_http_log_format */
	KEY_TEXT,        /* const char *, which points into the raw struct */
};

/** A row of a key list, for the code that walks them. */
struct bw_key {
	const char *name;
	enum bw_key_kind kind;
	uint16_t raw_offset, target_offset, target_bytes;
	uint64_t min, max;
};

/**
 * Read every key of a table from `raw` (its struct) into `target`, and the target's defaults into what is unset.
 * @prefix  of the path, with its dot: "http[0]."
 * 0, -ENOMEM, or -EINVAL after one line.
 */
int bw_control__keys_apply(struct bw_conf *conf, const char *prefix, const struct bw_key *keys,
	unsigned count, void *raw, void *target);
/** A TCP or UDP port. */
int bw_control__port_parse(const struct bw_conf *conf, const char *path, const char *text, uint16_t *port);

/** A row of a list of keys, between the struct that the text is in and the one that the value goes to. */
#define KEY_ROW(structure, target_structure, key, kind, target, min, max)                                    \
	{ #key, KEY_##kind, offsetof(structure, key), offsetof(target_structure, target),                    \
		sizeof(((target_structure *)0)->target), min, max },

/* ---- devices.c ---- */
/** The keys of each device, and how many there are. */
int bw_control__devices_read(struct bw_conf *conf);
/** What all of it comes to, and all checks of devices, alone and together; behind the keys of `tcp`. */
int bw_control__devices_apply(struct bw_conf *conf);
/** The path of a device's key; the first one's are at the top. Returns `path`. */
__attribute__((format(printf, 3, 4))) const char *bw_control__device_path(
	char path[PATH_BYTES], unsigned device, const char *format, ...);
/** Is it an address of ours, on whichever device? */
bool bw_control__is_ours(const struct bw_conf *conf, const struct bw_ip *ip);
/** Are some of our addresses only to be known when it starts? */
bool bw_control__has_unknown_addrs(const struct bw_conf *conf);
/** Is there a device that the kernel goes on using, with a program that tells what is ours? */
bool bw_control__has_steered_device(const struct bw_conf *conf);

/* ---- cpus.c ---- */
/** Decide worker_count and cpus of the view from `workers` and `cpus`. */
int bw_control__cpus_apply(struct bw_conf *conf);

/* ---- nearest.c ---- */
/** The candidate that `word` was probably meant to be, or NULL when none is near. */
const char *bw_control__nearest(const char *word, const char *const *candidates, unsigned count);

/* ---- welcome.c ---- */
extern const struct bw_http_constant bw_control__welcome;
