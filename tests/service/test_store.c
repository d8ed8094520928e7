/* SPDX-License-Identifier: BSD-3-Clause */
/* The store against a model that a child could check: an array of keys, each with its value and time. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "store_rig.h"

static uint64_t seed;

static uint32_t rnd(uint32_t below)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)((seed >> 33) % below);
}

/* Mixed well, but one key in 64 has the same hash: chains grow, and keys must be compared. */
static uint32_t hash_of(unsigned key)
{
	uint32_t h = key;

	h = (h ^ h >> 16) * 0x85ebca6bu;
	h = (h ^ h >> 13) * 0xc2b2ae35u;
	return key % 64 == 0 ? 7 : h ^ h >> 16;
}

static uint32_t key_text(unsigned key, char out[64])
{
	return (uint32_t)snprintf(
		out, 64, "key:%u%s", key, key % 3 == 0 ? ":with-a-longer-tail-than-others" : "");
}

static struct bw_resp__item *find(struct rig *rig, unsigned key)
{
	char text[64];
	uint32_t len = key_text(key, text);

	return bw_resp__store_find(&rig->store, hash_of(key), (uint8_t *)text, len);
}

static struct bw_resp__item *put(
	struct rig *rig, unsigned key, const uint8_t *data, uint32_t len, uint64_t at)
{
	struct bw_resp__value value = { .data = data, .len = len };
	char text[64];
	uint32_t key_len = key_text(key, text);

	return bw_resp__store_put(&rig->store, hash_of(key), (uint8_t *)text, key_len, &value, at);
}

static void assert_value(struct bw_resp__item *item, const uint8_t *data, uint32_t len)
{
	uint8_t *copy = malloc(len + 1);

	assert_int_equal(item->value_bytes, len);
	if (bw_resp__item_has_blob(item))
		bw_resp__blob_copy(bw_resp__item_blob(item), copy, len);
	else
		memcpy(copy, bw_resp__item_value(item), len);
	assert_memory_equal(copy, data, len);
	free(copy);
}

struct model_key {
	uint8_t *data;
	uint32_t len;
	uint64_t at;
	bool exists;
};

static uint32_t random_len(void)
{
	switch (rnd(8)) {
	case 0:
		return 0;
	case 1:
		return rnd(5000);
	case 2:
		return rnd(60000);
	default:
		return rnd(200);
	}
}

#define KEYS 3000u

static bool model_has(struct rig *rig, struct model_key *m)
{
	if (m->exists && m->at != 0 && m->at <= rig->now_ms)
		m->exists = false;
	return m->exists;
}

/* Enough memory: nothing is evicted, so the model holds to the byte. */
static void random_operations_match_a_model(void **state)
{
	static struct model_key model[KEYS];
	struct {
		struct bw_resp__block *block;
		uint8_t *data;
		uint32_t len;
	} pins[64] = { { 0 } };
	uint8_t *bytes = malloc(70000);
	struct rig rig;

	seed = 42;
	rig_make(&rig, 512u << 20, BW_RESP_ALLKEYS_LRU);
	for (unsigned i = 0; i < 70000; i++)
		bytes[i] = (uint8_t)rnd(256);
	for (unsigned n = 0; n < 200000; n++) {
		unsigned key = rnd(KEYS), p = rnd(64);
		struct model_key *m = &model[key];
		const uint8_t *data = bytes + rnd(1000);
		uint32_t len = random_len();
		uint64_t at = rnd(3) == 0 ? rig.now_ms + 1 + rnd(2000) : 0;
		struct bw_resp__item *item;

		switch (rnd(12)) {
		case 0:
		case 1:
		case 2:
			assert_non_null(put(&rig, key, data, len, at));
			m->data = realloc(m->data, len + 1);
			memcpy(m->data, data, len);
			m->len = len;
			m->at = at;
			m->exists = true;
			break;
		case 3:
			item = find(&rig, key);
			assert_int_equal(item != NULL, model_has(&rig, m));
			if (item == NULL || m->len + len > 200000)
				break;
			item = bw_resp__store_append(
				&rig.store, item, &(struct bw_resp__value){ .data = data, .len = len });
			assert_non_null(item);
			m->data = realloc(m->data, m->len + len + 1);
			memcpy(m->data + m->len, data, len);
			m->len += len;
			assert_value(item, m->data, m->len);
			break;
		case 4:
			item = find(&rig, key);
			assert_int_equal(item != NULL, model_has(&rig, m));
			if (item != NULL)
				bw_resp__store_remove(&rig.store, item);
			m->exists = false;
			break;
		case 5:
			item = find(&rig, key);
			assert_int_equal(item != NULL, model_has(&rig, m));
			if (item != NULL) {
				bw_resp__store_set_expiry(&rig.store, item, at);
				m->at = at;
			}
			break;
		case 6: /* TX takes a reference, or lets one go: it must still read what it was given */
			if (pins[p].block != NULL) {
				uint8_t *copy = malloc(pins[p].len + 1);
				struct bw_resp__block *b = pins[p].block;

				if (b->kind == BW_RESP__CHUNK)
					bw_resp__blob_copy((struct bw_resp__chunk *)b, copy, pins[p].len);
				else
					memcpy(copy, bw_resp__item_value((struct bw_resp__item *)b),
						pins[p].len);
				assert_memory_equal(copy, pins[p].data, pins[p].len);
				bw_resp__block_unpin(b);
				free(copy);
				free(pins[p].data);
				pins[p].block = NULL;
				break;
			}
			item = find(&rig, key);
			if (item == NULL)
				break;
			pins[p].block = bw_resp__item_value_block(item);
			pins[p].len = m->len;
			pins[p].data = malloc(m->len + 1);
			memcpy(pins[p].data, m->data, m->len);
			bw_resp__block_pin(pins[p].block);
			break;
		case 7:
			rig_pass(&rig, rnd(3));
			bw_resp__store_sweep(&rig.store, rnd(20));
			break;
		case 8: {
			uint32_t offset, end;

			item = find(&rig, key);
			assert_int_equal(item != NULL, model_has(&rig, m));
			if (item == NULL || m->len > 150000 || len == 0)
				break;
			offset = rnd(2) ? rnd(m->len + 1) : m->len + rnd(3000);
			end = offset + len;
			item = bw_resp__store_set_range(&rig.store, item, offset,
				&(struct bw_resp__value){ .data = data, .len = len });
			assert_non_null(item);
			m->data = realloc(m->data, BW_MAX(m->len, end) + 1);
			if (offset > m->len)
				memset(m->data + m->len, 0, offset - m->len);
			memcpy(m->data + offset, data, len);
			m->len = BW_MAX(m->len, end);
			assert_value(item, m->data, m->len);
			break;
		}
		case 9: {
			unsigned other = rnd(KEYS);
			struct model_key *to = &model[other];
			char text[64];
			uint32_t text_len = key_text(other, text);

			item = find(&rig, key);
			assert_int_equal(item != NULL, model_has(&rig, m));
			if (item == NULL || other == key)
				break;
			item = bw_resp__store_rename(
				&rig.store, item, hash_of(other), (uint8_t *)text, text_len);
			assert_non_null(item);
			assert_ptr_equal(find(&rig, other), item);
			free(to->data);
			*to = *m;
			*m = (struct model_key){ 0 };
			assert_value(item, to->data, to->len);
			assert_int_equal(bw_resp__item_expires_ms(item), to->at);
			assert_null(find(&rig, key));
			break;
		}
		default:
			item = find(&rig, key);
			assert_int_equal(item != NULL, model_has(&rig, m));
			if (item != NULL) {
				assert_value(item, m->data, m->len);
				assert_int_equal(bw_resp__item_expires_ms(item), m->at);
			}
		}
		if (n % 20000 == 19999)
			bw_resp__store_check(&rig.store);
		if (n == 150000) {
			bw_resp__store_flush(&rig.store);
			for (unsigned i = 0; i < KEYS; i++)
				model[i].exists = false;
		}
	}
	assert_int_equal(rig.store.evicted, 0);
	for (unsigned p = 0; p < 64; p++) {
		if (pins[p].block != NULL)
			bw_resp__block_unpin(pins[p].block);
		free(pins[p].block != NULL ? pins[p].data : NULL);
	}
	for (unsigned i = 0; i < KEYS; i++) {
		free(model[i].data);
		model[i].data = NULL;
	}
	free(bytes);
	rig_end(&rig);
}

static unsigned key_of(const struct bw_resp__item *item)
{
	char text[64] = { 0 };

	memcpy(text, bw_resp__item_key(item), bw_resp__item_key_len(item));
	return (unsigned)strtoul(text + strlen("key:"), NULL, 10);
}

/* What TX reads, though the key may have gone or changed since. */
struct pin {
	struct bw_resp__block *block;
	const uint8_t *data;
	uint32_t len;
};

static void pin_end(struct pin *pin)
{
	uint8_t *copy = malloc(pin->len + 1);

	if (pin->block->kind == BW_RESP__CHUNK)
		bw_resp__blob_copy((struct bw_resp__chunk *)pin->block, copy, pin->len);
	else
		memcpy(copy, bw_resp__item_value((struct bw_resp__item *)pin->block), pin->len);
	assert_memory_equal(copy, pin->data, pin->len);
	bw_resp__block_unpin(pin->block);
	free(copy);
}

/* The bound is a bound, whatever the sizes do; what is there is right; the latest key is always there. */
static void memory_stays_within(uint64_t run)
{
	static uint8_t bytes[600000];
	struct pin pins[8] = { { 0 } };
	struct rig rig;

	seed = run;
	rig_make(&rig, 8u << 20, BW_RESP_ALLKEYS_LRU);
	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	/* Phases: all tiny, then all huge, then mixed: each size must find room among the others. */
	for (unsigned n = 0; n < 150000; n++) {
		unsigned phase = n / 50000;
		unsigned key = rnd(500000);
		uint32_t len = phase == 0 ? rnd(40) : phase == 1 ? 1 + rnd(524288) : random_len();
		struct bw_resp__item *item;

		if (phase == 1 && n % 50 != 0)
			continue;
		item = find(&rig, rnd(500000));
		if (item != NULL) { /* wherever it was moved to */
			struct pin *pin = &pins[rnd(BW_ARRAY_LEN(pins))];

			assert_value(item, bytes + key_of(item) % 251, item->value_bytes);
			if (pin->block != NULL)
				pin_end(pin);
			*pin = (struct pin){ .block = bw_resp__item_value_block(item),
				.data = bytes + key_of(item) % 251,
				.len = item->value_bytes };
			bw_resp__block_pin(pin->block);
		}
		item = put(&rig, key, bytes + key % 251, len, 0);
		assert_non_null(item);
		assert_ptr_equal(find(&rig, key), item);
		assert_value(item, bytes + key % 251, len);
		if (n % 10000 == 0)
			bw_resp__store_check(&rig.store);
		rig_pass(&rig, n % 4 == 0);
	}
	assert_true(rig.store.evicted > 0);
	for (unsigned i = 0; i < BW_ARRAY_LEN(pins); i++)
		if (pins[i].block != NULL)
			pin_end(&pins[i]);
	bw_resp__store_check(&rig.store);
	rig_end(&rig);
}

static void memory_stays_within_its_bound(void **state)
{
	/* 9 and 12: an index grown for many keys, of which a few are left, and large. */
	static const uint64_t runs[] = { 7, 9, 12 };

	for (unsigned i = 0; i < BW_ARRAY_LEN(runs); i++)
		memory_stays_within(runs[i]);
}

static void without_eviction_the_store_fills_up_and_says_so(void **state)
{
	static uint8_t bytes[3000];
	struct rig rig;
	unsigned n = 0;

	rig_make(&rig, 4u << 20, BW_RESP_NOEVICTION);
	while (put(&rig, n, bytes, 1000, 0) != NULL)
		n++;
	assert_true(n > 3000);
	for (unsigned i = 0; i < n; i++)
		assert_non_null(find(&rig, i));
	assert_int_equal(rig.store.evicted, 0);
	assert_null(put(&rig, n, bytes, sizeof(bytes), 0));
	assert_null(find(&rig, n)); /* a refused one left nothing */
	/* What is staged still finds memory, which the keys left to it. */
	struct bw_resp__chunk *chunk = bw_resp__chunk_alloc(&rig.store, 300, false);

	assert_non_null(chunk);
	bw_resp__chunks_free(&rig.store, chunk);
	/* A flush makes room at once, though the sweep has not been anywhere near. */
	bw_resp__store_flush(&rig.store);
	for (unsigned i = 0; i < n; i++)
		assert_non_null(put(&rig, i, bytes, 1000, 0));
	bw_resp__store_check(&rig.store);
	/* Also for values of another size, among what is left of 50,000 small ones. */
	bw_resp__store_flush(&rig.store);
	bw_resp__store_sweep(&rig.store, rig.store.bucket_count);
	for (n = 0; put(&rig, n, bytes, 10, 0) != NULL; n++)
		;
	assert_true(n > 40000);
	bw_resp__store_flush(&rig.store);
	for (unsigned i = 0; i < 700; i++)
		assert_non_null(put(&rig, i, bytes, sizeof(bytes), 0));
	bw_resp__store_check(&rig.store);
	rig_end(&rig);
}

static void what_was_used_last_is_kept(void **state)
{
	uint8_t bytes[200] = { 0 };
	unsigned kept = 0;
	struct rig rig;

	rig_make(&rig, 4u << 20, BW_RESP_ALLKEYS_LRU);
	for (unsigned n = 0; n < 100000; n++) {
		put(&rig, n, bytes, sizeof(bytes), 0);
		if (n % 10 == 0)
			for (unsigned hot = 0; hot < 100; hot += 7)
				find(&rig, hot + n % 7);
		rig_pass(&rig, n % 8 == 0);
	}
	for (unsigned hot = 0; hot < 100; hot++)
		kept += find(&rig, hot) != NULL;
	assert_true(rig.store.evicted > 50000);
	assert_true(kept >= 90);
	rig_end(&rig);
}

static void expired_keys_are_gone_at_once_and_freed_by_the_sweep(void **state)
{
	struct rig rig;

	rig_make(&rig, 64u << 20, BW_RESP_ALLKEYS_LRU);
	for (unsigned n = 0; n < 10000; n++)
		put(&rig, n, (const uint8_t *)"v", 1, n % 2 == 0 ? rig.now_ms + 10 : 0);
	assert_int_equal(rig.store.expiring, 5000);
	rig_pass(&rig, 9);
	assert_non_null(find(&rig, 2));
	rig_pass(&rig, 1);
	assert_null(find(&rig, 2));
	assert_int_equal(rig.store.keys, 9999);
	bw_resp__store_sweep(&rig.store, rig.store.bucket_count);
	assert_int_equal(rig.store.keys, 5000);
	assert_int_equal(rig.store.expiring, 0);
	assert_int_equal(rig.store.expired, 5000);
	for (unsigned n = 1; n < 10000; n += 2)
		assert_non_null(find(&rig, n));
	rig_end(&rig);
}

/* DESIGN: at most 80 bytes beyond key and value for a small key. */
static void small_keys_cost_little(void **state)
{
	struct rig rig;
	char key[32];

	rig_make(&rig, 256u << 20, BW_RESP_ALLKEYS_LRU);
	for (unsigned n = 0; n < 1000000; n++) {
		struct bw_resp__value value = { .data = (const uint8_t *)"0123456789abcdef",
			.len = 8 + n % 9 };
		uint32_t len = (uint32_t)snprintf(key, sizeof(key), "user:%u", n);
		uint64_t h = n * 0x9e3779b97f4a7c15ull;

		bw_resp__store_put(&rig.store, (uint32_t)(h >> 32), (uint8_t *)key, len, &value, 0);
	}
	assert_int_equal(rig.store.keys, 1000000);
	uint64_t beyond = bw_resp__slab_used_bytes(&rig.store.slab) - rig.store.payload_bytes;

	print_message("bytes beyond key and value: %.1f\n", (double)beyond / 1e6);
	assert_true(beyond <= 80 * 1000000ull);
	rig_end(&rig);
}

/* The same for keys of 16 and values of 32 bytes; and no insertion that grows the index looks at more than a few. */
static void a_million_keys_cost_little_and_no_insertion_waits(void **state)
{
	uint64_t moved = 0, moved_max = 0;
	struct rig rig;
	char key[32];

	rig_make(&rig, 256u << 20, BW_RESP_ALLKEYS_LRU);
	for (unsigned n = 0; n < 1000000; n++) {
		struct bw_resp__value value = { .data = (const uint8_t *)"0123456789abcdef0123456789abcdef",
			.len = 32 };
		uint32_t len = (uint32_t)snprintf(key, sizeof(key), "key:%012u", n);

		assert_int_equal(len, 16);
		bw_resp__store_put(&rig.store, hash_of(64 * n + 1), (uint8_t *)key, len, &value, 0);
		moved_max = BW_MAX(moved_max, rig.store.moved - moved);
		moved = rig.store.moved;
	}
	assert_int_equal(rig.store.keys, 1000000);
	uint64_t beyond = bw_resp__slab_used_bytes(&rig.store.slab) - rig.store.payload_bytes;

	print_message("bytes beyond key and value: %.1f; entries an insertion moves: %.1f, at most %llu\n",
		(double)beyond / 1e6, (double)moved / 1e6, (unsigned long long)moved_max);
	assert_true(beyond <= 80 * 1000000ull);
	/* Two chains, of a few buckets each: well below a microsecond for each entry, which is one load and one store. */
	assert_true(moved_max <= 64);
	rig_end(&rig);
}

/* ---- policies ---- */

/* How many of the keys are there. Not a use of them. */
static unsigned count_keys(struct rig *rig, unsigned from, unsigned to)
{
	uint8_t policy = rig->store.policy;
	unsigned count = 0;

	rig->store.policy = BW_RESP_NOEVICTION;
	for (unsigned key = from; key < to; key++)
		count += find(rig, key) != NULL;
	rig->store.policy = policy;
	return count;
}

static const uint8_t filler[200];

/* A few keys that are used often outlive a scan of many that are used once, though the scan is what was used last. */
static void what_is_used_often_is_kept(void **state)
{
	struct rig rig;

	rig_make(&rig, 2u << 20, BW_RESP_ALLKEYS_LFU);
	for (unsigned key = 1; key < 1001; key++)
		assert_non_null(put(&rig, key, filler, sizeof(filler), 0));
	for (unsigned round = 0; round < 50; round++) {
		rig_pass(&rig, 200);
		for (unsigned key = 1; key < 1001; key++)
			assert_non_null(find(&rig, key));
	}
	rig_pass(&rig, 1000);
	for (unsigned key = 2000; key < 22000; key++)
		assert_non_null(put(&rig, key, filler, sizeof(filler), 0));
	assert_true(rig.store.evicted > 10000);
	assert_in_range(count_keys(&rig, 1, 1001), 990, 1000);
	bw_resp__store_check(&rig.store);
	rig_end(&rig);
}

/* It begins at 5, rises ever more slowly, and falls by one a minute. */
static void the_frequency_rises_slowly_and_decays(void **state)
{
	struct bw_resp__item *item;
	unsigned after_100, after_10000;
	struct rig rig;

	rig_make(&rig, 2u << 20, BW_RESP_ALLKEYS_LFU);
	item = put(&rig, 1, filler, 10, 0);
	assert_int_equal(bw_resp__store_frequency(&rig.store, item), 5);
	assert_int_equal(bw_resp__store_idle_seconds(&rig.store, item), 0);
	for (unsigned i = 0; i < 100; i++)
		find(&rig, 1);
	after_100 = bw_resp__store_frequency(&rig.store, item);
	for (unsigned i = 0; i < 10000; i++)
		find(&rig, 1);
	after_10000 = bw_resp__store_frequency(&rig.store, item);
	/* Redis's documentation: 10 after 100 hits at this factor, 18 after 1,000, 142 after 100,000. */
	assert_in_range(after_100, 7, 16);
	assert_in_range(after_10000, 35, 65);
	rig_pass(&rig, 10 * 60 * 1000);
	assert_in_range(bw_resp__store_frequency(&rig.store, item), after_10000 - 11, after_10000 - 9);
	assert_in_range(bw_resp__store_idle_seconds(&rig.store, item), 599, 600);
	rig_pass(&rig, 100 * 60 * 1000);
	assert_int_equal(bw_resp__store_frequency(&rig.store, item), 0);
	/* An overwrite is a use, and no new key: also where the block is another. */
	item = put(&rig, 1, filler, 200, 0);
	assert_in_range(bw_resp__store_frequency(&rig.store, item), 0, 1);
	rig_end(&rig);
}

/* Who expires first goes first; who does not expire stays, and when there is nobody else, there is no memory. */
static void only_keys_with_a_time_make_room(void **state)
{
	struct rig rig;
	unsigned key;

	rig_make(&rig, 2u << 20, BW_RESP_VOLATILE_TTL);
	for (key = 1; key < 2001; key++)
		assert_non_null(put(&rig, key, filler, sizeof(filler), 0));
	for (key = 2001; key < 3001; key++) /* the later, the sooner */
		assert_non_null(put(&rig, key, filler, sizeof(filler), rig.now_ms + 1000000 - 100 * key));
	while (rig.store.evicted < 500)
		assert_non_null(put(&rig, key++, filler, sizeof(filler), 0));
	assert_int_equal(count_keys(&rig, 1, 2001), 2000);
	assert_int_equal(count_keys(&rig, 3001, key), key - 3001);
	/* The 500 that go are nearly all of those that expire first. */
	assert_in_range(count_keys(&rig, 2001, 2501), 470, 500);
	/* The last few are hard to find among the others: the sweep meets them. */
	for (unsigned i = 0; i < 100; i++) {
		while (put(&rig, key, filler, sizeof(filler), 0) != NULL)
			key++;
		bw_resp__store_sweep(&rig.store, 32);
	}
	assert_int_equal(count_keys(&rig, 1, 2001), 2000);
	assert_int_equal(count_keys(&rig, 2001, 3001), 0);
	assert_int_equal(rig.store.evicted, 1000);
	assert_int_equal(rig.store.expiring, 0);
	bw_resp__store_check(&rig.store);
	/* A few in many, which samples would miss: they were remembered when they came. */
	assert_non_null(find(&rig, 1));
	bw_resp__store_set_expiry(&rig.store, find(&rig, 1), rig.now_ms + 50000);
	assert_non_null(put(&rig, 3 * key + 1, filler, 190, 0)); /* of the same class */
	assert_int_equal(count_keys(&rig, 1, 2), 0);
	rig_end(&rig);
}

/* Where only they may go, keys with a time make room for values that are larger than all that is kept free. */
static void large_values_with_a_time_make_room_for_each_other(void **state)
{
	static const uint8_t large[100000];
	struct rig rig;
	unsigned key;

	rig_make(&rig, 4u << 20, BW_RESP_VOLATILE_TTL);
	for (key = 1; key < 500; key++)
		assert_non_null(put(&rig, key, large, sizeof(large), rig.now_ms + 100000));
	assert_true(rig.store.evicted > 400);
	assert_true(rig.store.keys > 30);
	bw_resp__store_check(&rig.store);
	rig_end(&rig);
}

/* What a value grows by is not taken from what commands need that arrive. */
static void a_value_does_not_grow_into_the_reserve(void **state)
{
	static const uint8_t large[100000];
	const struct bw_resp__value end = { .data = large, .len = 1 };
	struct rig rig;
	unsigned key = 1;

	rig_make(&rig, 4u << 20, BW_RESP_NOEVICTION);
	while (put(&rig, key, large, sizeof(large), 0) != NULL)
		key++;
	while (put(&rig, key, large, 5000, 0) != NULL)
		key++;
	for (uint32_t offset = sizeof(large); offset < 1u << 20; offset += 20000)
		(void)bw_resp__store_set_range(&rig.store, find(&rig, 1), offset, &end);
	assert_true(bw_resp__slab_used_bytes(&rig.store.slab) + rig.store.reserve_bytes <=
		    rig.store.slab.bytes_max + BW_RESP__PAGE_BYTES);
	bw_resp__store_check(&rig.store);
	rig_end(&rig);
}

/*
 * Commands that are gathered take memory of other sizes than the keys, for as long as they arrive. That memory comes out
 * of keys once, and goes back to keys: as many are evicted as are stored.
 */
static void evicting_takes_what_is_stored(void **state)
{
	static const uint8_t bytes[1000];
	const unsigned stored = 20000;
	unsigned key = 1, oldest;
	uint64_t before, gone;
	struct rig rig;

	seed = 3;
	rig_make(&rig, 16u << 20, BW_RESP_ALLKEYS_LRU);
	while (rig.store.evicted == 0)
		assert_non_null(put(&rig, key++, bytes, sizeof(bytes), 0));
	before = rig.store.evicted;
	for (unsigned n = 0; n < stored; n++) {
		struct bw_resp__chunk *blob = NULL;

		for (unsigned part = rnd(4) + 1; part > 0; part--)
			assert_true(bw_resp__blob_append(&rig.store, &blob, bytes, 1 + rnd(1000), rnd(8000)));
		assert_non_null(put(&rig, key++, bytes, sizeof(bytes), 0));
		bw_resp__blob_free(&rig.store, blob);
		rig_pass(&rig, n % 2 == 0 ? 128 : 0);
	}
	gone = rig.store.evicted - before;
	print_message("%llu evicted for %u stored\n", (unsigned long long)gone, stored);
	assert_in_range(gone, stored, stored + stored / 100);
	/* By the policy: of the latest half of what fits, nearly all are there. */
	oldest = key - (unsigned)rig.store.keys / 2;
	assert_true(count_keys(&rig, oldest, key) >= (key - oldest) * 99 / 100);
	bw_resp__store_check(&rig.store);
	rig_end(&rig);
}

/* ---- hits, beside an LRU that is exact ---- */

#define LRU_KEYS 400000u

struct lru {
	struct {
		unsigned prev, next;
		uint32_t bytes;
		bool is_in;
	} keys[LRU_KEYS + 1]; /* the last: the list's head */
	uint64_t bytes, bytes_max, hits;
};

static void lru_unlink(struct lru *lru, unsigned key)
{
	lru->keys[lru->keys[key].prev].next = lru->keys[key].next;
	lru->keys[lru->keys[key].next].prev = lru->keys[key].prev;
	lru->keys[key].is_in = false;
	lru->bytes -= lru->keys[key].bytes;
}

static void lru_use(struct lru *lru, unsigned key, uint32_t bytes)
{
	unsigned first;

	lru->hits += lru->keys[key].is_in;
	if (lru->keys[key].is_in)
		lru_unlink(lru, key);
	while (lru->bytes + bytes > lru->bytes_max)
		lru_unlink(lru, lru->keys[LRU_KEYS].prev);
	first = lru->keys[LRU_KEYS].next;
	lru->keys[key].prev = LRU_KEYS;
	lru->keys[key].next = first;
	lru->keys[first].prev = lru->keys[LRU_KEYS].next = key;
	lru->keys[key].bytes = bytes;
	lru->keys[key].is_in = true;
	lru->bytes += bytes;
}

/* As 1 / x: a few keys are wanted often, most hardly ever. */
static unsigned zipf(void)
{
	static double sums[LRU_KEYS];
	unsigned low = 0, high = LRU_KEYS - 1;
	double x;

	if (sums[0] == 0)
		for (unsigned i = 0; i < LRU_KEYS; i++)
			sums[i] = (i > 0 ? sums[i - 1] : 0) + 1.0 / (i + 1);
	x = sums[LRU_KEYS - 1] * rnd(1u << 30) / (1u << 30);
	while (low < high) {
		unsigned middle = (low + high) / 2;

		if (sums[middle] > x)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

/* Look for it, and store it where it is not: what a cache is for. */
static void want(struct rig *rig, struct lru *lru, unsigned key, uint32_t len, uint64_t *hits)
{
	static const uint8_t bytes[8192];
	bool is_hit = find(rig, key) != NULL;
	uint32_t block;

	*hits += is_hit;
	if (!is_hit)
		assert_non_null(put(rig, key, bytes, len, 0));
	block = (uint32_t)bw_resp__store_item_bytes(find(rig, key));
	lru_use(lru, key, block);
}

/* From 16 bytes to 4 KiB, each power of two as often. */
static uint32_t mixed_len(unsigned key)
{
	uint32_t low = 16u << hash_of(2 * key + 1) % 8;

	return low + hash_of(2 * key + 129) % low;
}

static uint32_t small_len(unsigned key)
{
	return 16 + hash_of(2 * key + 1) % 100;
}

static uint32_t large_len(unsigned key)
{
	return 2000 + hash_of(2 * key + 1) % 2000;
}

static void compare_hits(const char *what, uint32_t (*len)(unsigned key), uint32_t (*then)(unsigned key))
{
	const unsigned wants = 600000;
	struct lru *lru = calloc(1, sizeof(*lru));
	uint64_t hits = 0;
	struct rig rig;

	seed = 11;
	rig_make(&rig, 16u << 20, BW_RESP_ALLKEYS_LRU);
	lru->bytes_max = 16u << 20;
	lru->keys[LRU_KEYS].prev = lru->keys[LRU_KEYS].next = LRU_KEYS;
	for (unsigned n = 0; n < 2 * wants; n++) {
		unsigned rank = zipf();

		if (n == wants) {
			hits = lru->hits = 0;
			bw_resp__store_check(&rig.store);
		}
		/* Other keys, too, where the sizes change. */
		if (n >= wants && then != len)
			want(&rig, lru, LRU_KEYS - 1 - rank, then(LRU_KEYS - 1 - rank), &hits);
		else
			want(&rig, lru, rank, len(rank), &hits);
		rig_pass(&rig, n % 4 == 0);
	}
	print_message("%s: hits %.2f %%, of an exact LRU without any waste %.2f %%\n", what,
		100.0 * (double)hits / wants, 100.0 * (double)lru->hits / wants);
	assert_true(hits + wants * 2 / 100 >= lru->hits);
	bw_resp__store_check(&rig.store);
	rig_end(&rig);
	free(lru);
}

static void hits_are_nearly_those_of_an_exact_lru(void **state)
{
	compare_hits("sizes mixed", mixed_len, mixed_len);
	compare_hits("small, then large", small_len, large_len);
	compare_hits("large, then small", large_len, small_len);
}

/* A lower bound is reached in slices, by the policy, and nobody who stores meanwhile is refused. */
static void a_lower_bound_is_reached_in_slices(void **state)
{
	unsigned slices = 0, key = 1, newest;
	struct rig rig;

	rig_make(&rig, 32u << 20, BW_RESP_ALLKEYS_LRU);
	while (rig.store.evicted == 0)
		assert_non_null(put(&rig, key++, filler, sizeof(filler), 0));
	rig_pass(&rig, 1000);
	newest = key;
	for (unsigned i = 0; i < 10000; i++)
		assert_non_null(put(&rig, key++, filler, sizeof(filler), 0));
	bw_resp__store_limit(&rig.store, 8u << 20, BW_RESP_ALLKEYS_LRU);
	while (bw_resp__slab_used_bytes(&rig.store.slab) > 8u << 20) {
		uint64_t evicted = rig.store.evicted;

		bw_resp__store_sweep(&rig.store, 32);
		assert_true(rig.store.evicted - evicted <= 8);
		if (slices % 16 == 0)
			assert_non_null(put(&rig, key++, filler, sizeof(filler), 0));
		assert_true(++slices < 20000);
	}
	assert_true(slices > 100);
	/* Those that were used last are what is left, nearly all of them. */
	assert_in_range(count_keys(&rig, newest, newest + 10000), 9900, 10000);
	bw_resp__store_sweep(&rig.store, 32);
	for (unsigned i = 0; i < 10000; i++)
		assert_non_null(put(&rig, key++, filler, sizeof(filler), 0));
	assert_true(bw_resp__slab_used_bytes(&rig.store.slab) <= 8u << 20);
	bw_resp__store_limit(&rig.store, 32u << 20, BW_RESP_NOEVICTION);
	while (put(&rig, key, filler, sizeof(filler), 0) != NULL)
		key++;
	assert_true(bw_resp__slab_used_bytes(&rig.store.slab) > 30u << 20);
	bw_resp__store_check(&rig.store);
	rig_end(&rig);
}

/* Whatever the bound and the policy become meanwhile, and whatever is pinned, staged or flushed: what is there is right. */
static void values_are_right_while_the_bound_changes(uint64_t run)
{
	static uint8_t bytes[600000];
	struct bw_resp__chunk *staged = NULL;
	struct pin pins[16] = { { 0 } };
	struct rig rig;

	seed = run;
	rig_make(&rig, 16u << 20, (enum bw_resp_policy)rnd(BW_RESP_POLICIES));
	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	for (unsigned n = 0; n < 40000; n++) {
		unsigned key = rnd(20000), other = rnd(20000);
		uint32_t len = n / 4000 % 3 == 0 ? rnd(200000) : random_len();
		struct bw_resp__item *item = find(&rig, key);
		struct pin *pin = &pins[rnd(BW_ARRAY_LEN(pins))];
		char text[64];

		if (item != NULL)
			assert_value(item, bytes + key_of(item) % 251, item->value_bytes);
		switch (rnd(12)) {
		case 0: /* TX reads it */
			if (pin->block != NULL)
				pin_end(pin);
			*pin = (struct pin){ 0 };
			if (item == NULL)
				break;
			*pin = (struct pin){ .block = bw_resp__item_value_block(item),
				.data = bytes + key % 251,
				.len = item->value_bytes };
			bw_resp__block_pin(pin->block);
			break;
		case 1: /* a command arrives, and is given up or becomes a value */
			if (staged != NULL && rnd(2) == 0) {
				bw_resp__blob_free(&rig.store, staged);
				staged = NULL;
			} else if (staged == NULL) {
				(void)bw_resp__blob_append(&rig.store, &staged, bytes, len, 1000);
			} else if (staged->total_bytes > BW_RESP__INLINE_MAX &&
				   bw_resp__store_put(&rig.store, hash_of(0), (uint8_t *)text,
					   key_text(0, text),
					   &(struct bw_resp__value){ .blob = staged,
						   .len = staged->total_bytes,
						   .may_take = true },
					   0) != NULL) {
				staged = NULL;
			}
			break;
		case 2:
			if (rnd(20) == 0)
				bw_resp__store_limit(&rig.store, (4ull + rnd(13)) << 20,
					(enum bw_resp_policy)rnd(BW_RESP_POLICIES));
			break;
		case 3:
			if (rnd(200) == 0)
				bw_resp__store_flush(&rig.store);
			break;
		case 4:
			rig_pass(&rig, rnd(100));
			bw_resp__store_sweep(&rig.store, rnd(64));
			break;
		case 5: /* to one whose value begins with the same byte */
			other = other / 251 * 251 + key % 251;
			if (item != NULL && other != key)
				(void)bw_resp__store_rename(&rig.store, item, hash_of(other), (uint8_t *)text,
					key_text(other, text));
			break;
		case 6:
			if (item != NULL && item->value_bytes + len < sizeof(bytes) - 251)
				(void)bw_resp__store_append(&rig.store, item,
					&(struct bw_resp__value){
						.data = bytes + (key % 251 + item->value_bytes),
						.len = len });
			break;
		default:
			(void)put(&rig, key, bytes + key % 251, len,
				rnd(3) == 0 ? rig.now_ms + 1 + rnd(5000) : 0);
		}
		if (n % 2000 == 0 && bw_resp__slab_used_bytes(&rig.store.slab) <= rig.store.slab.bytes_max)
			bw_resp__store_check(&rig.store);
	}
	for (unsigned i = 0; i < BW_ARRAY_LEN(pins); i++)
		if (pins[i].block != NULL)
			pin_end(&pins[i]);
	if (staged != NULL)
		bw_resp__blob_free(&rig.store, staged);
	bw_resp__store_limit(&rig.store, 4u << 20, BW_RESP_ALLKEYS_LRU);
	while (bw_resp__slab_used_bytes(&rig.store.slab) > rig.store.high_water)
		assert_true(bw_resp__store_sweep(&rig.store, 4) > 0);
	bw_resp__store_check(&rig.store);
	rig_end(&rig);
}

static void values_are_right_whatever_the_bound_becomes(void **state)
{
	for (uint64_t run = 1; run <= 4; run++)
		values_are_right_while_the_bound_changes(run);
}

/* Many flushes, so that epochs wrap, with keys that nobody touches in between. */
static void a_flushed_key_never_comes_back(void **state)
{
	struct rig rig;

	rig_make(&rig, 64u << 20, BW_RESP_ALLKEYS_LRU);
	for (unsigned n = 0; n < 50000; n++)
		put(&rig, n, (const uint8_t *)"old", 3, 0);
	for (unsigned n = 0; n < 140000; n++) {
		bw_resp__store_flush(&rig.store);
		assert_int_equal(rig.store.keys, 0);
		if (n % 1000 == 0) {
			put(&rig, n % 50000, (const uint8_t *)"new", 3, 0);
			assert_int_equal(rig.store.keys, 1);
		}
	}
	for (unsigned n = 0; n < 50000; n++)
		assert_null(find(&rig, n));
	rig_end(&rig);
}

static void a_flushed_key_does_not_come_back_when_epochs_wrap(void **state)
{
	static const uint8_t value[] = "value";
	struct rig rig;

	rig_make(&rig, 8 << 20, BW_RESP_ALLKEYS_LRU);
	for (unsigned i = 0; i < 10000; i++)
		assert_non_null(put(&rig, i, value, 5, 0));
	bw_resp__store_flush(&rig.store);
	assert_true(rig.store.dead > 5000); /* a slice is swept at once, the rest is to come */
	/* As if the next 65,534 flushes had followed before the sweep came to it. */
	rig.store.epoch = UINT16_MAX;
	for (unsigned i = 10000; i < 12000; i++)
		assert_non_null(put(&rig, i, value, 5, 0));
	bw_resp__store_flush(&rig.store);
	assert_int_equal(rig.store.epoch, 0);
	for (unsigned i = 0; i < 12000; i++)
		assert_null(find(&rig, i));
	bw_resp__store_check(&rig.store);
	rig_end(&rig);
}

static void a_staged_blob_becomes_a_value_without_a_copy(void **state)
{
	static uint8_t bytes[100000];
	struct bw_resp__chunk *blob = NULL;
	struct bw_resp__item *item;
	struct rig rig;

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7);
	rig_make(&rig, 8u << 20, BW_RESP_ALLKEYS_LRU);
	for (unsigned i = 0; i < sizeof(bytes); i += 1000)
		assert_true(bw_resp__blob_append(
			&rig.store, &blob, bytes + i, 1000, (uint32_t)sizeof(bytes) - i - 1000));
	assert_true(rig.store.staged_bytes >= sizeof(bytes));
	item = bw_resp__store_put(&rig.store, 1, (const uint8_t *)"k", 1,
		&(struct bw_resp__value){
			.data = blob->bytes, .len = sizeof(bytes), .blob = blob, .may_take = true },
		0);
	assert_non_null(item);
	assert_ptr_equal(bw_resp__item_blob(item), blob);
	assert_int_equal(rig.store.staged_bytes, 0);
	assert_value(item, bytes, sizeof(bytes));
	rig_end(&rig);
}

/* ---- another core ---- */

#define HANDED 100000

struct handover {
	struct bw_resp__block *ring[64];
	unsigned head, tail; /* atomic: written by the owner; by the other */
};

/* As TX does on another core: look at the value, let it go. */
static void *other_core(void *arg)
{
	struct handover *h = arg;

	for (unsigned n = 0; n < HANDED; n++) {
		struct bw_resp__item *item;
		uint8_t first;

		while (__atomic_load_n(&h->head, __ATOMIC_ACQUIRE) == n)
			sched_yield();
		item = (struct bw_resp__item *)h->ring[n % 64];
		first = bw_resp__item_value(item)[0];
		for (uint32_t i = 1; i < item->value_bytes; i++)
			if (bw_resp__item_value(item)[i] != first)
				abort();
		bw_resp__block_unpin(item);
		__atomic_store_n(&h->tail, n + 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

/* What is being read is never changed, and comes back, whoever lets go last. */
static void another_core_may_read_while_the_owner_writes(void **state)
{
	static struct handover h;
	uint8_t bytes[700];
	pthread_t thread;
	struct rig rig;

	rig_make(&rig, 8u << 20, BW_RESP_ALLKEYS_LRU);
	assert_int_equal(pthread_create(&thread, NULL, other_core, &h), 0);
	for (unsigned n = 0; n < HANDED; n++) {
		unsigned key = n % 10;
		struct bw_resp__item *item;

		memset(bytes, (int)n, sizeof(bytes));
		item = put(&rig, key, bytes, sizeof(bytes) - n % 50, 0);
		assert_non_null(item);
		while (n - __atomic_load_n(&h.tail, __ATOMIC_ACQUIRE) == 64)
			sched_yield();
		bw_resp__block_pin(&item->b);
		h.ring[n % 64] = &item->b;
		__atomic_store_n(&h.head, n + 1, __ATOMIC_RELEASE);
		if (n % 3 == 0)
			bw_resp__store_remove(&rig.store, item);
		if (n % 100 == 0)
			bw_resp__store_reap(&rig.store);
	}
	pthread_join(thread, NULL);
	rig_end(&rig);
}

/* A full store of which a part is being sent: what is pinned stays, and is not lost for nothing. */
static void what_is_pinned_is_not_evicted(void **state)
{
	/* One block with its key, and a blob. */
	static const uint32_t sizes[] = { 700, 9000 };
	static uint8_t bytes[16000];
	struct bw_resp__block *pinned[20000];
	struct rig rig;

	for (unsigned n = 0; n < BW_ARRAY_LEN(sizes); n++) {
		unsigned count = 0, key = 0;

		rig_make(&rig, 4 << 20, BW_RESP_ALLKEYS_LRU);
		while (rig.store.evicted == 0)
			assert_non_null(put(&rig, key++, bytes, sizes[n], 0));
		for (unsigned i = 0; i < key; i++) {
			struct bw_resp__item *item = find(&rig, i);

			if (item == NULL || i % 8 == 0)
				continue;
			pinned[count] = bw_resp__item_value_block(item);
			bw_resp__block_pin(pinned[count++]);
		}
		rig_pass(&rig, 1000000); /* they are the oldest by far */
		for (unsigned i = 0; i < 3000; i++)
			put(&rig, key + i, bytes, sizes[n], 0);
		for (unsigned i = 0, found = 0; i < key; i++) {
			found += find(&rig, i) != NULL && i % 8 != 0;
			if (i == key - 1)
				assert_int_equal(found, count);
		}
		/* All of it: nothing can be had, nothing is lost. */
		for (unsigned i = 0; i < key + 3000; i++) {
			struct bw_resp__item *item = find(&rig, i);

			if (item == NULL || !bw_resp__block_is_sole(bw_resp__item_value_block(item)))
				continue;
			assert_true(count < BW_ARRAY_LEN(pinned));
			pinned[count] = bw_resp__item_value_block(item);
			bw_resp__block_pin(pinned[count++]);
		}
		uint64_t keys = rig.store.keys;

		for (unsigned i = 0; i < 100; i++)
			put(&rig, key + 3000 + i, bytes, 16000, 0);
		assert_true(rig.store.keys >= keys);
		for (unsigned i = 0; i < count; i++)
			bw_resp__block_unpin(pinned[i]);
		assert_non_null(put(&rig, 1u << 20, bytes, sizes[n], 0));
		rig_end(&rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_operations_match_a_model),
		cmocka_unit_test(memory_stays_within_its_bound),
		cmocka_unit_test(without_eviction_the_store_fills_up_and_says_so),
		cmocka_unit_test(what_was_used_last_is_kept),
		cmocka_unit_test(expired_keys_are_gone_at_once_and_freed_by_the_sweep),
		cmocka_unit_test(small_keys_cost_little),
		cmocka_unit_test(a_million_keys_cost_little_and_no_insertion_waits),
		cmocka_unit_test(what_is_used_often_is_kept),
		cmocka_unit_test(the_frequency_rises_slowly_and_decays),
		cmocka_unit_test(only_keys_with_a_time_make_room),
		cmocka_unit_test(large_values_with_a_time_make_room_for_each_other),
		cmocka_unit_test(a_value_does_not_grow_into_the_reserve),
		cmocka_unit_test(evicting_takes_what_is_stored),
		cmocka_unit_test(hits_are_nearly_those_of_an_exact_lru),
		cmocka_unit_test(a_lower_bound_is_reached_in_slices),
		cmocka_unit_test(values_are_right_whatever_the_bound_becomes),
		cmocka_unit_test(a_flushed_key_never_comes_back),
		cmocka_unit_test(a_flushed_key_does_not_come_back_when_epochs_wrap),
		cmocka_unit_test(a_staged_blob_becomes_a_value_without_a_copy),
		cmocka_unit_test(what_is_pinned_is_not_evicted),
		cmocka_unit_test(another_core_may_read_while_the_owner_writes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
