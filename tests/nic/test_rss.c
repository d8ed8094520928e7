/* SPDX-License-Identifier: BSD-3-Clause */
/** The hash of RSS, beside DPDK's own Toeplitz, which takes the key as the device does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <rte_ethdev.h>
#include <rte_thash.h>

#include <nic/nic.h>

#include "internal.h"

static uint32_t random_word(void)
{
	return (uint32_t)mrand48();
}

static struct bw_flow random_flow(bool is_v4)
{
	struct bw_flow flow = { .local_port_be = (uint16_t)random_word(),
		.remote_port_be = (uint16_t)random_word() };

	if (is_v4) {
		flow.local = bw_ip_from_v4(random_word());
		flow.remote = bw_ip_from_v4(random_word());
		return flow;
	}
	for (unsigned i = 0; i < 4; i++) {
		flow.local.w_be[i] = random_word();
		flow.remote.w_be[i] = random_word();
	}
	return flow;
}

/** The flow's packets as they arrive, in the words that rte_softrss() takes: host order. */
static unsigned tuple_of(const struct bw_flow *flow, bool is_v4, uint32_t tuple[9])
{
	unsigned n = 0;

	for (unsigned i = is_v4 ? 3 : 0; i < 4; i++)
		tuple[n++] = __builtin_bswap32(flow->remote.w_be[i]);
	for (unsigned i = is_v4 ? 3 : 0; i < 4; i++)
		tuple[n++] = __builtin_bswap32(flow->local.w_be[i]);
	tuple[n++] = (uint32_t)__builtin_bswap16(flow->remote_port_be) << 16 |
		     __builtin_bswap16(flow->local_port_be);
	return n;
}

static void hash_is_toeplitz(void **state)
{
	uint8_t key[BW_NIC__RSS_KEY_BYTES_MAX];
	uint32_t tuple[9];

	(void)state;
	srand48(7);
	bw_nic__rss_key(key);
	for (unsigned i = 0; i < 100000; i++) {
		bool is_v4 = i % 2;
		struct bw_flow flow = random_flow(is_v4);
		struct bw_flow back = { flow.remote, flow.local, flow.remote_port_be, flow.local_port_be };
		unsigned words = tuple_of(&flow, is_v4, tuple);

		assert_int_equal(bw_nic__rss_hash(&flow), rte_softrss(tuple, words, key));
		assert_int_equal(bw_nic__rss_hash(&flow), bw_nic__rss_hash(&back));
	}
}

static void queue_is_the_tables(void **state)
{
	static struct bw_nic nic = { .rss_mask = 127 };
	unsigned count[4] = { 0 };

	(void)state;
	srand48(8);
	for (unsigned i = 0; i < 128; i++)
		nic.rss_queue[i] = (uint8_t)(i % 4);
	for (unsigned i = 0; i < 40000; i++) {
		struct bw_flow flow = random_flow(i % 2);
		unsigned queue = bw_nic_rss_queue(&nic, &flow);

		assert_int_equal(queue, (bw_nic__rss_hash(&flow) & 127) % 4);
		count[queue]++;
	}
	for (unsigned i = 0; i < 4; i++)
		assert_in_range(count[i], 9000, 11000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hash_is_toeplitz),
		cmocka_unit_test(queue_is_the_tables),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
