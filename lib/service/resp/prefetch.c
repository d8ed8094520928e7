/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the commands of a burst will look up here is fetched into the cache for all of them at once. Without that, each
 * waits for memory twice, for its key's bucket and then for the item, and does nothing else meanwhile: of a million keys
 * that is more than all the rest of a GET.
 *
 * A command is taken for one whose first argument is its key, which most are. Where it is not, or the bytes are none of
 * a command's, a few lines too many are fetched. A store that the cache holds anyway is left alone.
 */
#include "internal.h"

#define KEYS_MAX 512u /* a call: of three lines each, 96 KiB, which a second-level cache holds */

void bw_resp__prefetch(struct bw_context *ctx, const struct bw_view *views, unsigned count)
{
	struct bw_resp *r = bw_resp__of(ctx);
	uint32_t hashes[KEYS_MAX], len, argc;
	unsigned keys = 0;

	if (bw_resp__slab_used_bytes(&r->store.slab) < BW_RESP__PREFETCH_FROM)
		return;
	for (unsigned i = 0; i < count; i++) {
		const uint8_t *p = views[i].data, *end = p + views[i].len;

		for (; p < end && keys < KEYS_MAX; p += len) {
			struct bw_resp__keyhash hash;

			len = bw_resp__parse_in_place(p, end, &r->limits, r->argv, &argc);
			if (len == 0)
				break;
			if (argc < 2 || r->argv[1].len > BW_RESP__KEY_MAX)
				continue;
			hash = bw_resp__hash_key(r, r->argv[1].data, r->argv[1].len);
			if (hash.owner != r->worker)
				continue;
			bw_resp__store_prefetch_bucket(&r->store, hash.hash);
			hashes[keys++] = hash.hash;
		}
	}
	for (unsigned i = 0; i < keys; i++)
		bw_resp__store_prefetch_item(&r->store, hashes[i]);
}
