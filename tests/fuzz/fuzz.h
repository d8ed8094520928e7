/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * What fuzz targets share. A target is one file with LLVMFuzzerTestOneInput(), whose properties are BW_ASSERTs:
 * linked with libFuzzer it searches (-Dfuzz=true), linked with replay.c it feeds the files of its corpus, as an
 * ordinary test of every build.
 */
#pragma once

#include <stdlib.h>
#include <string.h>

#include <rte_mbuf.h>
#include <rte_mempool.h>

#include <base/assert.h>
#include <base/types.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- an input, taken from the front ---- */

struct fuzz_input {
	const uint8_t *at, *end;
};

static inline size_t fuzz_left(const struct fuzz_input *in)
{
	return (size_t)(in->end - in->at);
}

/** 0 behind the end. */
static inline uint8_t fuzz_u8(struct fuzz_input *in)
{
	return in->at < in->end ? *in->at++ : 0;
}

static inline uint16_t fuzz_u16(struct fuzz_input *in)
{
	uint16_t low = fuzz_u8(in);

	return (uint16_t)(low | fuzz_u8(in) << 8);
}

/** Up to `len` bytes, in a heap buffer of exactly their number, so that ASan sees one too far. For free(). */
static inline uint8_t *fuzz_bytes(struct fuzz_input *in, size_t len, size_t *taken)
{
	uint8_t *bytes;

	*taken = BW_MIN(len, fuzz_left(in));
	bytes = malloc(*taken);
	BW_ASSERT(bytes != NULL || *taken == 0);
	if (*taken != 0)
		memcpy(bytes, in->at, *taken);
	in->at += *taken;
	return bytes;
}

/* ---- mbufs (eal.c) ---- */

/** EAL without a device, a hugepage or a file, for a pool of `mbufs` without a cache, so that counts are exact. */
struct rte_mempool *fuzz_pool(unsigned mbufs);
/** An mbuf whose data is a heap buffer of its own, of exactly that size. NULL: the pool is empty. */
struct rte_mbuf *fuzz_mbuf(struct rte_mempool *pool, const void *bytes, size_t len);
