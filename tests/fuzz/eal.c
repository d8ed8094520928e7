/* SPDX-License-Identifier: BSD-3-Clause */
#include <rte_eal.h>

#include <base/mbuf.h>

#include "fuzz.h"

struct rte_mempool *fuzz_pool(unsigned mbufs)
{
	char *args[] = { "fuzz", "--no-huge", "--no-pci", "--no-shconf", "-m", "64", "--no-telemetry", "-l",
		"0", "--log-level=*:error", NULL };
	struct rte_mempool *pool;

	BW_ASSERT(rte_eal_init(BW_ARRAY_LEN(args) - 1, args) >= 0);
	pool = rte_pktmbuf_pool_create(
		"fuzz", mbufs, 0, BW_MBUF_PRIV_BYTES, RTE_MBUF_DEFAULT_BUF_SIZE, (int)SOCKET_ID_ANY);
	BW_ASSERT(pool != NULL);
	return pool;
}

static void free_bytes(void *bytes, void *info)
{
	free(bytes);
	free(info);
}

struct rte_mbuf *fuzz_mbuf(struct rte_mempool *pool, const void *bytes, size_t len)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
	struct rte_mbuf_ext_shared_info *info;
	void *copy;

	if (m == NULL)
		return NULL;
	info = malloc(sizeof(*info));
	copy = malloc(len);
	BW_ASSERT(info != NULL && copy != NULL);
	if (len != 0)
		memcpy(copy, bytes, len);
	*info = (struct rte_mbuf_ext_shared_info){ .free_cb = free_bytes, .fcb_opaque = info };
	rte_mbuf_ext_refcnt_set(info, 1);
	rte_pktmbuf_attach_extbuf(m, copy, RTE_BAD_IOVA, (uint16_t)len, info);
	m->data_len = (uint16_t)len;
	m->pkt_len = (uint32_t)len;
	return m;
}
