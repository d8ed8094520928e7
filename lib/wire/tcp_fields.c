/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * TCP headers with their options, read and written: RFC 9293 section 3.1, 7323 sections 2 and 3, 2018
 * sections 2, 3.
 */
#include <base/assert.h>
#include <wire/build.h>

#include "wire.h"

#define MSS_BYTES            4
#define WSCALE_BYTES         3
#define SACK_PERMITTED_BYTES 2
#define TIMESTAMP_BYTES      10
#define SACK_BASE_BYTES      2
#define SACK_BLOCK_BYTES     8

/* RFC 7323 section 2.3: a larger shift is to be taken for this one. */
#define WSCALE_MAX 14

/* The four bytes in front of a timestamp as nearly every sender aligns it: NOP, NOP, kind, length. */
#define ALIGNED_TIMESTAMP 0x0101080au

static void parse_sack(const uint8_t *blocks, unsigned bytes, struct bw_tcp_fields *fields)
{
	const unsigned count = bytes / SACK_BLOCK_BYTES;

	/* Four blocks fill the 40 bytes that options have. */
	if (bytes % SACK_BLOCK_BYTES != 0 || count > BW_SACK_BLOCKS_MAX)
		return;
	for (unsigned i = 0; i < count; i++) {
		fields->sack[i].left = bw_wire__load32(blocks + i * SACK_BLOCK_BYTES);
		fields->sack[i].right = bw_wire__load32(blocks + i * SACK_BLOCK_BYTES + 4);
	}
	fields->sack_count = (uint8_t)count;
}

/*
 * One option. Ignored: what we do not know (RFC 9293 MUST-6), what has not the length of its kind (MUST-7), and outside
 * a SYN what is said in one.
 */
static void parse_option(uint8_t kind, const uint8_t *value, unsigned bytes, struct bw_tcp_fields *fields)
{
	const bool is_syn = (fields->flags & BW_TCP_SYN) != 0;

	if (kind == BW_TCP_OPT_TIMESTAMP && bytes == TIMESTAMP_BYTES - 2) {
		fields->has_timestamp = true;
		fields->ts_value = bw_wire__load32(value);
		fields->ts_echo = bw_wire__load32(value + 4);
	} else if (kind == BW_TCP_OPT_SACK) {
		parse_sack(value, bytes, fields);
	} else if (is_syn && kind == BW_TCP_OPT_MSS && bytes == MSS_BYTES - 2) {
		fields->mss = bw_wire__load16(value);
		/* Nobody receives nothing: as if it had not been said. */
		fields->has_mss = fields->mss != 0;
	} else if (is_syn && kind == BW_TCP_OPT_WSCALE && bytes == WSCALE_BYTES - 2) {
		fields->has_wscale = true;
		fields->wscale = BW_MIN(value[0], (uint8_t)WSCALE_MAX);
	} else if (is_syn && kind == BW_TCP_OPT_SACK_PERMITTED && bytes == SACK_PERMITTED_BYTES - 2) {
		fields->has_sack_permitted = true;
	}
}

void bw_tcp_fields_parse(const uint8_t *header, unsigned header_bytes, struct bw_tcp_fields *fields)
{
	const uint8_t *option = header + BW_TCP_HEADER_MIN;
	unsigned left = header_bytes - BW_TCP_HEADER_MIN;

	BW_ASSERT(header_bytes >= BW_TCP_HEADER_MIN && header_bytes <= BW_TCP_HEADER_MAX);
	*fields = (struct bw_tcp_fields){
		.seq = bw_wire__load32(header + 4),
		.ack = bw_wire__load32(header + 8),
		.flags = header[13],
		.window = bw_wire__load16(header + 14),
		.urgent = bw_wire__load16(header + 18),
	};

	if (bw_likely(left == TIMESTAMP_BYTES + 2 && bw_wire__load32(option) == ALIGNED_TIMESTAMP)) {
		fields->has_timestamp = true;
		fields->ts_value = bw_wire__load32(option + 4);
		fields->ts_echo = bw_wire__load32(option + 8);
		return;
	}

	while (left > 0) {
		const uint8_t kind = option[0];
		unsigned bytes = 1;

		if (kind == BW_TCP_OPT_END)
			return;
		if (kind != BW_TCP_OPT_NOP) {
			/* RFC 9293 MUST-7: with an illegal length, where the next would begin is unknown. */
			if (left < 2 || option[1] < 2 || option[1] > left)
				return;
			bytes = option[1];
			parse_option(kind, option + 2, bytes - 2, fields);
		}
		option += bytes;
		left -= bytes;
	}
}

/*
 * The layout, in multiples of four bytes, as Linux has it and as RFC 7323 appendix A draws it:
 *
 *     MSS  4 mss        SACK-permitted 2, timestamp 10, or NOP NOP timestamp 10, or NOP NOP SACK-permitted 2
 *     NOP, wscale 3     NOP NOP SACK 2 + 8n
 */
static unsigned options_len_before_sack(const struct bw_tcp_fields *fields)
{
	return (fields->has_mss ? MSS_BYTES : 0) + (fields->has_timestamp ? TIMESTAMP_BYTES + 2 : 0) +
	       (fields->has_sack_permitted && !fields->has_timestamp ? SACK_PERMITTED_BYTES + 2 : 0) +
	       (fields->has_wscale ? WSCALE_BYTES + 1 : 0);
}

static unsigned sack_blocks_that_fit(const struct bw_tcp_fields *fields)
{
	/* All others together take 20 of the 40 bytes. */
	const unsigned room = BW_TCP_HEADER_MAX - BW_TCP_HEADER_MIN - options_len_before_sack(fields);

	return BW_MIN((unsigned)fields->sack_count, (room - 2 - SACK_BASE_BYTES) / SACK_BLOCK_BYTES);
}

/* As nearly every segment but a SYN: a timestamp or nothing. */
static inline bool is_common(const struct bw_tcp_fields *fields)
{
	return (fields->has_mss | fields->has_wscale | fields->has_sack_permitted | fields->sack_count) == 0;
}

static inline unsigned header_len(const struct bw_tcp_fields *fields, bool is_plain)
{
	if (bw_likely(is_plain))
		return BW_TCP_HEADER_MIN + (fields->has_timestamp ? TIMESTAMP_BYTES + 2 : 0);

	const unsigned blocks = bw_unlikely(fields->sack_count > 0) ? sack_blocks_that_fit(fields) : 0;

	return BW_TCP_HEADER_MIN + options_len_before_sack(fields) +
	       (blocks > 0 ? 2 + SACK_BASE_BYTES + blocks * SACK_BLOCK_BYTES : 0);
}

unsigned bw_tcp_header_len(const struct bw_tcp_fields *fields)
{
	return header_len(fields, is_common(fields));
}

static uint8_t *write_options(uint8_t *at, const struct bw_tcp_fields *fields)
{
	const unsigned blocks = fields->sack_count > 0 ? sack_blocks_that_fit(fields) : 0;

	if (fields->has_mss) {
		*at++ = BW_TCP_OPT_MSS;
		*at++ = MSS_BYTES;
		at = bw_wire__store16(at, fields->mss);
	}
	if (fields->has_timestamp || fields->has_sack_permitted) {
		*at++ = fields->has_sack_permitted && fields->has_timestamp ? BW_TCP_OPT_SACK_PERMITTED
									    : BW_TCP_OPT_NOP;
		*at++ = fields->has_sack_permitted && fields->has_timestamp ? SACK_PERMITTED_BYTES
									    : BW_TCP_OPT_NOP;
		*at++ = fields->has_timestamp ? BW_TCP_OPT_TIMESTAMP : BW_TCP_OPT_SACK_PERMITTED;
		*at++ = fields->has_timestamp ? TIMESTAMP_BYTES : SACK_PERMITTED_BYTES;
	}
	if (fields->has_timestamp) {
		at = bw_wire__store32(at, fields->ts_value);
		at = bw_wire__store32(at, fields->ts_echo);
	}
	if (fields->has_wscale) {
		*at++ = BW_TCP_OPT_NOP;
		*at++ = BW_TCP_OPT_WSCALE;
		*at++ = WSCALE_BYTES;
		*at++ = fields->wscale;
	}
	if (blocks > 0) {
		*at++ = BW_TCP_OPT_NOP;
		*at++ = BW_TCP_OPT_NOP;
		*at++ = BW_TCP_OPT_SACK;
		*at++ = (uint8_t)(SACK_BASE_BYTES + blocks * SACK_BLOCK_BYTES);
		for (unsigned i = 0; i < blocks; i++) {
			at = bw_wire__store32(at, fields->sack[i].left);
			at = bw_wire__store32(at, fields->sack[i].right);
		}
	}
	return at;
}

unsigned bw_tcp_header_write(
	uint8_t *out, uint16_t src_port_be, uint16_t dst_port_be, const struct bw_tcp_fields *fields)
{
	const bool is_plain = is_common(fields);
	const unsigned header_bytes = header_len(fields, is_plain);
	const struct rte_tcp_hdr header = {
		.src_port = src_port_be,
		.dst_port = dst_port_be,
		.sent_seq = rte_cpu_to_be_32(fields->seq),
		.recv_ack = rte_cpu_to_be_32(fields->ack),
		.data_off = (uint8_t)(header_bytes / 4 << 4),
		.tcp_flags = fields->flags,
		.rx_win = rte_cpu_to_be_16(fields->window),
		.tcp_urp = rte_cpu_to_be_16(fields->urgent),
	};
	uint8_t *end;

	memcpy(out, &header, sizeof(header));
	if (bw_likely(is_plain)) {
		if (fields->has_timestamp) {
			bw_wire__store32(out + BW_TCP_HEADER_MIN, ALIGNED_TIMESTAMP);
			bw_wire__store32(out + BW_TCP_HEADER_MIN + 4, fields->ts_value);
			bw_wire__store32(out + BW_TCP_HEADER_MIN + 8, fields->ts_echo);
		}
		return header_bytes;
	}
	end = write_options(out + sizeof(header), fields);
	BW_ASSERT_EQ(end - out, header_bytes);
	return header_bytes;
}
