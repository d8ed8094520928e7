/* SPDX-License-Identifier: BSD-3-Clause */
/** The table, alone: full to the bound, with the worst of hashes, in any order. */
#include "harness.h"
#include "internal.h"

#define OBJECTS 300

static struct bw_counters counters;

static struct bw_tcp *table_of(uint32_t connections)
{
	struct bw_tcp_conf conf;
	struct bw_tcp *tcp;

	bw_tcp_conf_init(&conf);
	conf.connections_max = connections;
	conf.half_open_max = 0;
	conf.time_wait_max = 0;
	conf.pool = pool;
	conf.counters = &counters;
	tcp = bw_tcp_create(&conf, 0);
	assert_non_null(tcp);
	for (uint32_t i = 0; i < connections; i++)
		tcp->conns[i].flow.remote.w_be[3] = i;
	return tcp;
}

static void check(struct bw_tcp *tcp, const uint32_t *hashes, const bool *is_in)
{
	for (uint32_t i = 0; i < OBJECTS; i++) {
		bw_tcp_handle found = bw_tcp__table_find(tcp, hashes[i], &tcp->conns[i].flow);

		assert_int_equal(found, is_in[i] ? bw_tcp__handle(BW_TCP_KIND_CONN, i) : 0);
	}
}

static void fill_and_empty(const uint32_t *hashes)
{
	struct bw_tcp *tcp = table_of(OBJECTS);
	bool is_in[OBJECTS] = { false };

	srandom(7);
	for (unsigned round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < OBJECTS; i++) {
			bw_tcp__table_insert(&tcp->table, hashes[i], bw_tcp__handle(BW_TCP_KIND_CONN, i));
			is_in[i] = true;
		}
		check(tcp, hashes, is_in);
		/* Some go and come back, then all go, in no order. */
		for (unsigned n = 0; n < 2000; n++) {
			uint32_t i = (uint32_t)random() % OBJECTS;

			if (is_in[i])
				bw_tcp__table_remove(
					&tcp->table, hashes[i], bw_tcp__handle(BW_TCP_KIND_CONN, i));
			else
				bw_tcp__table_insert(
					&tcp->table, hashes[i], bw_tcp__handle(BW_TCP_KIND_CONN, i));
			is_in[i] = !is_in[i];
			if (n % 100 == 0)
				check(tcp, hashes, is_in);
		}
		for (uint32_t i = 0; i < OBJECTS; i++) {
			if (is_in[i])
				bw_tcp__table_remove(
					&tcp->table, hashes[i], bw_tcp__handle(BW_TCP_KIND_CONN, i));
			is_in[i] = false;
		}
		check(tcp, hashes, is_in);
	}
	/* Nothing is left in any chain. */
	for (uint32_t i = 0; i < tcp->table.bucket_count; i++) {
		assert_int_equal(tcp->table.buckets[i].overflow, 0);
		assert_int_equal(tcp->table.buckets[i].handle[0], 0);
	}
	bw_tcp_destroy(tcp);
}

TEST(random_hashes)
{
	uint32_t hashes[OBJECTS];

	srandom(1);
	for (unsigned i = 0; i < OBJECTS; i++)
		hashes[i] = (uint32_t)random() << 1 ^ (uint32_t)random();
	fill_and_empty(hashes);
}

TEST(all_hashes_the_same)
{
	uint32_t hashes[OBJECTS];

	for (unsigned i = 0; i < OBJECTS; i++)
		hashes[i] = 0xdeadbeef;
	fill_and_empty(hashes);
}

TEST(few_hashes)
{
	uint32_t hashes[OBJECTS];

	for (unsigned i = 0; i < OBJECTS; i++)
		hashes[i] = (i % 7) * 0x01010101u;
	fill_and_empty(hashes);
}

TEST(hashes_of_one_worker_spread)
{
	struct bw_tcp *tcp = table_of(50000);
	uint32_t in_overflow = 0;

	/* Eight workers chosen by the hash's upper bits: this one sees an eighth of all hashes. */
	srandom(3);
	for (uint32_t i = 0; i < 50000; i++)
		bw_tcp__table_insert(
			&tcp->table, (uint32_t)random() >> 3, bw_tcp__handle(BW_TCP_KIND_CONN, i));
	for (uint32_t i = 0; i < tcp->table.bucket_count; i++)
		in_overflow += tcp->table.buckets[i].overflow != 0;
	/* Poisson of mean 5 over 10: 1.4 %. */
	assert_in_range(in_overflow, 1, tcp->table.bucket_count / 40);
	bw_tcp_destroy(tcp);
}

TEST(guess_is_the_object_or_nothing)
{
	struct bw_tcp *tcp = table_of(1000);
	uint32_t hashes[1000];
	unsigned hits = 0;

	srandom(4);
	for (uint32_t i = 0; i < 1000; i++) {
		hashes[i] = (uint32_t)random() << 1;
		bw_tcp__table_insert(&tcp->table, hashes[i], bw_tcp__handle(BW_TCP_KIND_CONN, i));
	}
	for (uint32_t i = 0; i < 1000; i++)
		hits += bw_tcp__table_guess(tcp, hashes[i]) == bw_tcp__handle(BW_TCP_KIND_CONN, i);
	assert_true(hits > 950); /* the rest is behind another match, or in overflow */
	bw_tcp_destroy(tcp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_hashes),
		cmocka_unit_test(all_hashes_the_same),
		cmocka_unit_test(few_hashes),
		cmocka_unit_test(hashes_of_one_worker_spread),
		cmocka_unit_test(guess_is_the_object_or_nothing),
	};

	if (harness_start() != 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
