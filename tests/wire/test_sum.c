/* SPDX-License-Identifier: BSD-3-Clause */
#include "craft.h"

static uint64_t seed = 0x2545f4914f6cdd1du;

/* The sum in the order of memory is the naive one with its bytes swapped. */
static unsigned in_order(uint16_t folded)
{
	uint8_t bytes[2];

	memcpy(bytes, &folded, 2);
	return get16(bytes);
}

static void fill(uint8_t *bytes, unsigned count)
{
	/*
	 * All ones and all zeros now and then: that is where carries and the two zeros of ones' complement
	 * are.
	 */
	const unsigned how = (unsigned)(random_next(&seed) % 4);

	for (unsigned i = 0; i < count; i++)
		bytes[i] = how == 0 ? 0xff : how == 1 ? 0 : (uint8_t)random_next(&seed);
}

static void agrees_with_the_naive_sum_at_every_length_and_alignment(void **state)
{
	for (unsigned length = 0; length < 400; length++) {
		for (unsigned skew = 0; skew < 8; skew++) {
			uint8_t *bytes = malloc(skew + length);

			fill(bytes, skew + length);
			assert_int_equal(in_order(bw_sum_fold(bw_sum(bytes + skew, length, 0))),
				naive_add(bytes + skew, length, 0));
			free(bytes);
		}
	}
}

static void carries_of_64k_of_ones_are_not_lost(void **state)
{
	static uint8_t bytes[65535];

	memset(bytes, 0xff, sizeof(bytes));
	for (unsigned length = 65530; length <= 65535; length++)
		assert_int_equal(
			in_order(bw_sum_fold(bw_sum(bytes, length, 0))), naive_add(bytes, length, 0));
	assert_int_equal(bw_sum_fold(UINT64_MAX), 0xffff);
	assert_int_equal(bw_sum_fold(0), 0);
	assert_int_equal(bw_sum_fold(0x1ffffffffu), 1);
}

/** What the lanes of a vector hold is taken out of them in time. */
static void megabytes_are_summed(void **state)
{
	const unsigned length = 5u << 20;
	uint8_t *bytes = malloc(length);
	static const uint8_t how[] = { 0xff, 0x00, 0x80, 0x7f };

	for (unsigned i = 0; i < sizeof(how); i++) {
		memset(bytes, how[i], length);
		bytes[length / 2] ^= 0x5a;
		assert_int_equal(
			in_order(bw_sum_fold(bw_sum(bytes, length, 0))), naive_add(bytes, length, 0));
	}
	free(bytes);
}

static void an_ip4_header_is_summed_alike(void **state)
{
	uint8_t header[20];

	for (unsigned i = 0; i < 1000; i++) {
		fill(header, sizeof(header));
		assert_int_equal(bw_sum_fold(bw_sum_ip4_header(header)),
			bw_sum_fold(bw_sum(header, sizeof(header), 0)));
	}
}

static void pieces_of_even_length_chain(void **state)
{
	uint8_t bytes[300];

	fill(bytes, sizeof(bytes));
	for (unsigned cut = 0; cut <= sizeof(bytes); cut += 2)
		assert_int_equal(bw_sum_fold(bw_sum(bytes + cut, sizeof(bytes) - cut, bw_sum(bytes, cut, 0))),
			bw_sum_fold(bw_sum(bytes, sizeof(bytes), 0)));
}

static void chains_of_mbufs_sum_as_one_piece(void **state)
{
	for (unsigned round = 0; round < 2000; round++) {
		uint8_t bytes[600];
		const unsigned length = 1 + (unsigned)(random_next(&seed) % sizeof(bytes));
		const unsigned off = (unsigned)(random_next(&seed) % length);
		const unsigned count = (unsigned)(random_next(&seed) % (length - off + 1));
		struct rte_mbuf *head = NULL, **tail = &head;

		fill(bytes, length);
		for (unsigned at = 0; at < length;) {
			const unsigned here = BW_MIN(length - at, (unsigned)(random_next(&seed) % 90));

			*tail = mbuf_of(bytes + at, here, 0, 0);
			tail = &(*tail)->next;
			at += here;
		}
		assert_int_equal(in_order(bw_sum_fold(bw_sum_mbuf(head, off, count, 0))),
			naive_add(bytes + off, count, 0));
		/* No more than the chain has, whatever is asked for. */
		assert_int_equal(in_order(bw_sum_fold(bw_sum_mbuf(head, off, count + 10000, 0))),
			naive_add(bytes + off, length - off, 0));
		mbuf_free(head);
	}
}

static void pseudo_headers_of_both_families(void **state)
{
	static const char *const pairs[][2] = { { "192.0.2.1", "198.51.100.2" }, { "0.0.0.0", "0.0.0.0" },
		{ "255.255.255.255", "255.255.255.255" }, { "2001:db8::1", "fe80::ffff" }, { "::", "::" } };

	for (unsigned i = 0; i < BW_ARRAY_LEN(pairs); i++) {
		const struct bw_ip src = ip(pairs[i][0]), dst = ip(pairs[i][1]);

		for (unsigned length = 0; length < 65536; length += 251)
			assert_int_equal(
				in_order(bw_sum_fold(bw_sum_pseudo(&src, &dst, IPPROTO_TCP, length))),
				naive_pseudo(&src, &dst, IPPROTO_TCP, length));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agrees_with_the_naive_sum_at_every_length_and_alignment),
		cmocka_unit_test(carries_of_64k_of_ones_are_not_lost),
		cmocka_unit_test(megabytes_are_summed),
		cmocka_unit_test(an_ip4_header_is_summed_alike),
		cmocka_unit_test(pieces_of_even_length_chain),
		cmocka_unit_test(chains_of_mbufs_sum_as_one_piece),
		cmocka_unit_test(pseudo_headers_of_both_families),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
