/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * A TCP header of 20 to 60 bytes. What was understood of it is written again, and read back as the same: all of it
 * but SACK blocks that no longer fit, as ours are padded otherwise.
 */
#include <wire/build.h>

#include "fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	return 0;
}

static void assert_equal(const struct bw_tcp_fields *a, const struct bw_tcp_fields *b)
{
	BW_ASSERT_EQ(a->seq, b->seq);
	BW_ASSERT_EQ(a->ack, b->ack);
	BW_ASSERT_EQ(a->flags, b->flags);
	BW_ASSERT_EQ(a->window, b->window);
	BW_ASSERT_EQ(a->urgent, b->urgent);
	BW_ASSERT_EQ(a->has_mss, b->has_mss);
	BW_ASSERT_EQ(a->mss, b->mss);
	BW_ASSERT_EQ(a->has_wscale, b->has_wscale);
	BW_ASSERT_EQ(a->wscale, b->wscale);
	BW_ASSERT_EQ(a->has_sack_permitted, b->has_sack_permitted);
	BW_ASSERT_EQ(a->has_timestamp, b->has_timestamp);
	BW_ASSERT_EQ(a->ts_value, b->ts_value);
	BW_ASSERT_EQ(a->ts_echo, b->ts_echo);
	BW_ASSERT_LE(b->sack_count, a->sack_count);
	for (unsigned i = 0; i < b->sack_count; i++) {
		BW_ASSERT_EQ(a->sack[i].left, b->sack[i].left);
		BW_ASSERT_EQ(a->sack[i].right, b->sack[i].right);
	}
}

static void round_trip(const struct bw_tcp_fields *fields)
{
	const unsigned len = bw_tcp_header_len(fields);
	uint8_t *written = malloc(len), *again;
	struct bw_tcp_fields back;
	unsigned len_again;

	BW_ASSERT(written != NULL && len >= 20 && len <= 60 && len % 4 == 0);
	BW_ASSERT_EQ(bw_tcp_header_write(written, 1, 2, fields), len);
	bw_tcp_fields_parse(written, len, &back);
	assert_equal(fields, &back);
	/* Three blocks fit beside the timestamps of any segment but a SYN. */
	if (!(fields->flags & BW_TCP_SYN))
		BW_ASSERT_LE(BW_MIN(fields->sack_count, fields->has_timestamp ? 3 : 4), back.sack_count);
	len_again = bw_tcp_header_len(&back);
	again = malloc(len_again);
	BW_ASSERT(again != NULL && len_again == len);
	BW_ASSERT_EQ(bw_tcp_header_write(again, 1, 2, &back), len);
	BW_ASSERT(memcmp(written, again, len) == 0);
	free(again);
	free(written);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, data + size };
	struct bw_tcp_fields fields;
	uint8_t *header;
	size_t len;

	if (size < 20)
		return 0;
	header = fuzz_bytes(&in, 60, &len);
	bw_tcp_fields_parse(header, (unsigned)len, &fields);
	round_trip(&fields);
	free(header);
	return 0;
}
