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
	uint8_t *memory;
	size_t memory_bytes;
	uint64_t now_ms;
};

static inline void rig_make(struct rig *rig, uint64_t bytes_max, enum bw_resp_policy policy)
{
	uint64_t index = (bw_resp__store_index_bytes(bytes_max) + 16383) & ~16383ull;

	rig->memory_bytes = bytes_max + index + BW_RESP__PAGE_BYTES;
	rig->memory = mmap(NULL, rig->memory_bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(rig->memory != MAP_FAILED);
	uint8_t *base = (uint8_t *)(((uintptr_t)rig->memory + 16383) & ~16383ull);
	bw_resp__store_init(&rig->store, &(struct bw_resp__store_conf){
						 .arena = base,
						 .index = base + bytes_max,
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
