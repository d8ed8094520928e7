/* SPDX-License-Identifier: BSD-3-Clause */
/** A store with memory and a clock of its own. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "resp/store.h"

struct rig {
	struct bw_resp__store store;
	uint8_t *memory, *values, *index;
	size_t memory_bytes, values_bytes, index_bytes;
	uint64_t now_ms;
};

#define RIG_HUGE_BYTES (2ull << 20)

static inline uint64_t rig_round_up(uint64_t bytes)
{
	return (bytes + RIG_HUGE_BYTES - 1) & ~(RIG_HUGE_BYTES - 1);
}

static inline void rig_make(struct rig *rig, uint64_t bytes_max, enum bw_resp_policy policy)
{
	rig->values_bytes = bytes_max;
	rig->index_bytes = bw_resp__store_index_bytes(bytes_max);
	rig->memory_bytes = rig_round_up(bytes_max) + rig_round_up(rig->index_bytes) + RIG_HUGE_BYTES;
	rig->memory = mmap(NULL, rig->memory_bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(rig->memory != MAP_FAILED);
	rig->values = (uint8_t *)rig_round_up((uintptr_t)rig->memory);
	rig->index = rig->values + rig_round_up(bytes_max);
	bw_resp__store_init(&rig->store, &(struct bw_resp__store_conf){
						 .arena = rig->values,
						 .index = rig->index,
						 .bytes_max = bytes_max,
						 .random_seed = 1,
						 .policy = policy,
					 });
	rig->now_ms = 1000000;
	bw_resp__store_set_now(&rig->store, rig->now_ms);
}

static inline void rig_pass(struct rig *rig, uint64_t ms)
{
	rig->now_ms += ms;
	bw_resp__store_set_now(&rig->store, rig->now_ms);
}

/* Nothing may be left when every key is gone and every reference is back. */
static inline void rig_end(struct rig *rig)
{
	bw_resp__store_flush(&rig->store);
	assert_int_equal(rig->store.keys, 0);
	bw_resp__store_sweep(&rig->store, 2 * rig->store.bucket_count);
	bw_resp__store_check(&rig->store);
	assert_int_equal(rig->store.dead, 0);
	assert_int_equal(rig->store.staged_bytes, 0);
	assert_int_equal(rig->store.slab.pages_used, 0);
	munmap(rig->memory, rig->memory_bytes);
}
