/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>
#include <string.h>

#include <nic/pcapng.h>

enum block {
	BLOCK_SECTION = 0x0a0d0d0a,
	BLOCK_INTERFACE = 1,
	BLOCK_STATISTICS = 5,
	BLOCK_PACKET = 6,
};

enum option {
	OPTION_END = 0,
	OPTION_COMMENT = 1,
	SECTION_APPLICATION = 4,
	INTERFACE_NAME = 2,
	INTERFACE_RESOLUTION = 9,
	INTERFACE_FILTER = 11,
	PACKET_FLAGS = 2,
	PACKET_QUEUE = 6,
	STATISTICS_BEGAN = 2,
	STATISTICS_ENDED = 3,
	STATISTICS_LOST = 5,
	STATISTICS_WANTED = 6, /* by the filter */
};

#define BYTE_ORDER_MAGIC  0x1a2b3c4du
#define LINKTYPE_ETHERNET 1
#define NANOSECONDS       9 /* of a second: 10^-9 */
#define TEXT_MAX          1024

static uint8_t *put(uint8_t *at, const void *bytes, size_t count)
{
	memcpy(at, bytes, count);
	return at + count;
}

static uint8_t *put16(uint8_t *at, unsigned value)
{
	const uint16_t field = (uint16_t)value;

	return put(at, &field, sizeof(field));
}

static uint8_t *put32(uint8_t *at, uint32_t value)
{
	return put(at, &value, sizeof(value));
}

/** Times have their high half first, whatever the byte order. */
static uint8_t *put_time(uint8_t *at, uint64_t ns)
{
	return put32(put32(at, (uint32_t)(ns >> 32)), (uint32_t)ns);
}

static uint8_t *pad(uint8_t *at, size_t count)
{
	const size_t missing = -count & 3;

	memset(at, 0, missing);
	return at + missing;
}

static uint8_t *put_option(uint8_t *at, enum option option, const void *bytes, size_t count)
{
	return pad(put(put16(put16(at, option), (unsigned)count), bytes, count), count);
}

static uint8_t *put_text(uint8_t *at, enum option option, const char *text)
{
	return put_option(at, option, text, strnlen(text, TEXT_MAX));
}

static uint8_t *begin(uint8_t *out, enum block block)
{
	return put32(put32(out, block), 0);
}

/** The length of all, at both ends. Returns it. */
static size_t end(uint8_t *out, uint8_t *at)
{
	const size_t bytes = (size_t)(at - out) + sizeof(uint32_t);

	put32(at, (uint32_t)bytes);
	put32(out + sizeof(uint32_t), (uint32_t)bytes);
	return bytes;
}

static uint8_t *put_end_of_options(uint8_t *at)
{
	return put32(at, OPTION_END);
}

static size_t put_interface(const struct bw_pcapng_conf *conf, const char *name, uint8_t *out)
{
	const uint8_t resolution = NANOSECONDS;
	uint8_t filter[1 + TEXT_MAX] = { 0 }; /* 0: a text */
	uint8_t *at = put32(put16(put16(begin(out, BLOCK_INTERFACE), LINKTYPE_ETHERNET), 0), conf->snaplen);

	at = put_text(at, INTERFACE_NAME, name);
	at = put_option(at, INTERFACE_RESOLUTION, &resolution, sizeof(resolution));
	if (conf->filter != NULL) {
		const size_t length = strnlen(conf->filter, TEXT_MAX);

		memcpy(filter + 1, conf->filter, length);
		at = put_option(at, INTERFACE_FILTER, filter, 1 + length);
	}
	return end(out, put_end_of_options(at));
}

size_t bw_pcapng_head(const struct bw_pcapng_conf *conf, uint8_t *out)
{
	uint8_t *at = begin(out, BLOCK_SECTION);
	size_t bytes;

	at = put16(put16(put32(at, BYTE_ORDER_MAGIC), 1), 0);
	at = put_time(at, UINT64_MAX); /* its length is not known yet */
	at = put_end_of_options(put_text(at, SECTION_APPLICATION, conf->application));
	bytes = end(out, at);
	for (unsigned i = 0; i < conf->interface_count; i++)
		bytes += put_interface(conf, conf->interfaces[i], out + bytes);
	return bytes;
}

size_t bw_pcapng_packet(const struct bw_captured *packet, uint64_t at_ns, uint8_t *out)
{
	const uint32_t flags = packet->way == BW_CAPTURE_IN ? 1 : 2, queue = packet->ring;
	uint8_t *at = put_time(put32(begin(out, BLOCK_PACKET), packet->device), at_ns);

	at = put32(put32(at, packet->kept), packet->length);
	at = pad(put(at, packet->bytes, packet->kept), packet->kept);
	at = put_option(at, PACKET_FLAGS, &flags, sizeof(flags));
	at = put_option(at, PACKET_QUEUE, &queue, sizeof(queue));
	if (packet->reason < BW_COUNTER_COUNT) {
		char comment[256];

		snprintf(comment, sizeof(comment), "%s: %s", bw_counter_name[packet->reason],
			bw_counter_help[packet->reason]);
		at = put_option(at, OPTION_COMMENT, comment, strlen(comment));
	}
	return end(out, put_end_of_options(at));
}

size_t bw_pcapng_tail(uint64_t began_ns, uint64_t ended_ns, uint64_t wanted, uint64_t lost, uint8_t *out)
{
	uint8_t *at = put_time(put32(begin(out, BLOCK_STATISTICS), 0), ended_ns);
	uint8_t time[sizeof(uint64_t)];

	put_time(time, began_ns);
	at = put_option(at, STATISTICS_BEGAN, time, sizeof(time));
	put_time(time, ended_ns);
	at = put_option(at, STATISTICS_ENDED, time, sizeof(time));
	at = put_option(at, STATISTICS_LOST, &lost, sizeof(lost));
	at = put_option(at, STATISTICS_WANTED, &wanted, sizeof(wanted));
	return end(out, put_end_of_options(at));
}
