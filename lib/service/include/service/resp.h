/* SPDX-License-Identifier: BSD-3-Clause */
/** RESP key-value cache (the protocol of Redis, versions 2, 3 and inline): configuration. */
#pragma once

#include <base/types.h>

/** What makes room when the memory is full: Redis's maxmemory-policy. */
enum bw_resp_policy {
	BW_RESP_ALLKEYS_LRU,  /* the keys that nobody used for the longest time */
	BW_RESP_ALLKEYS_LFU,  /* the keys that are used least often */
	BW_RESP_VOLATILE_TTL, /* of the keys with a time to live, those that have the least left */
	BW_RESP_NOEVICTION,   /* nothing: an OOM error */
	BW_RESP_POLICIES,
};

struct bw_resp_conf {
	/**
	 * Keys, values, index and commands that are arriving, all workers together; default 256 MiB. Of a worker's
	 * share, an eighth is what one command may take while it arrives, a quarter what all may, and another what
	 * replies to MGET may hold before they are sent: see bw_resp_memory_bytes_least().
	 */
	uint64_t memory_bytes_max;
	uint32_t bulk_bytes_max; /* one argument, at most 16 MiB; 0 (default): what the memory has room for */
	uint32_t args_max; /* arguments a command, which runs in one go; default 65536, of Redis 1048576 */
	uint32_t inline_bytes_max; /* an inline command; default 64 KiB as Redis has it */
	/**
	 * A client that has not taken a quarter of its send queue for so long, and has more to come, is reset; and one
	 * whose command is not whole, and so long behind 16 KiB a second; default 60 s.
	 */
	bw_ns stall_timeout_ns;
	enum bw_resp_policy policy; /* default allkeys-lru */
	const char *password_file;  /* NULL (default): none. Its first line is what AUTH has to say */
	/**
	 * Default true: without a password, hosts with a global address are turned away where they come to one of ours
	 * that is global.
	 */
	bool protected_mode;
	/* -- set by bw_resp_conf_prepare() -- */
	char password[512]; /* zeros behind it */
	uint32_t password_len;
	char run_id[41]; /* what INFO says that this server is, as Redis does */
	uint64_t hash_seed;
	struct bw_resp_shared *shared; /* what the workers' memory is mapped at */
};

void bw_resp_conf_init(struct bw_resp_conf *conf);
/** What memory_bytes_max has to lie between for so many workers: a share holds at least 1 MiB and 8 bulks. */
uint64_t bw_resp_memory_bytes_least(const struct bw_resp_conf *conf, unsigned workers);
uint64_t bw_resp_memory_bytes_most(unsigned workers);
/** One argument's bound: conf.bulk_bytes_max, or where that is 0, an eighth of a share, 512 KiB to 4 MiB. */
uint32_t bw_resp_bulk_bytes_max(const struct bw_resp_conf *conf, unsigned workers);
/** 0, or -errno after one line that says what, where and what to do. Before the workers start. */
int bw_resp_conf_prepare(struct bw_resp_conf *conf);
/** After the workers have stopped and every reply that was being sent is released: unmaps the keyspace. */
void bw_resp_conf_release(struct bw_resp_conf *conf);
