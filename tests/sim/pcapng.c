/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Packets as they arrive, and as they are sent, with an interface a host, in nanoseconds: the pcapng format
 * (draft-ietf-opsawg-pcapng). Not buffered, so that what led to a crash is in the file.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "sim.h"

#define SECTION_HEADER 0x0a0d0d0au
#define INTERFACE      1u
#define PACKET         6u

static const char *path;
static int fd = -1;

static void write_block(uint32_t type, const void *body, uint32_t body_bytes, const void *data,
	uint32_t data_bytes, const void *options, uint32_t options_bytes)
{
	static const uint8_t zeros[4];
	uint32_t pad = -data_bytes & 3, bytes = 12 + body_bytes + data_bytes + pad + options_bytes;
	uint32_t head[2] = { type, bytes };
	struct iovec iov[] = { { head, 8 }, { (void *)(uintptr_t)body, body_bytes },
		{ (void *)(uintptr_t)data, data_bytes }, { (void *)(uintptr_t)zeros, pad },
		{ (void *)(uintptr_t)options, options_bytes }, { &bytes, 4 } };

	if (writev(fd, iov, BW_ARRAY_LEN(iov)) != (ssize_t)bytes)
		sim_fail("%s cannot be written", path);
}

int sim_pcapng_open(const char *file)
{
	path = file;
	fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	return fd < 0 ? -1 : 0;
}

void sim_pcapng_begin(void)
{
	static const struct {
		uint32_t magic;
		uint16_t major, minor;
		int64_t section_bytes;
	} section = { 0x1a2b3c4d, 1, 0, -1 };
	/* Ethernet, any length; if_name, if_tsresol 10^-9, the end */
	static const struct {
		uint16_t link_type, reserved;
		uint32_t snap_bytes;
	} interface = { 1, 0, 0 };

	if (fd < 0)
		return;
	write_block(SECTION_HEADER, &section, sizeof(section), NULL, 0, NULL, 0);
	for (unsigned i = 0; i < SIM_HOSTS_MAX; i++) {
		uint8_t options[] = { 2, 0, 5, 0, 'h', 'o', 's', 't', (uint8_t)('0' + i), 0, 0, 0, 9, 0, 1, 0,
			9, 0, 0, 0, 0, 0, 0, 0 };

		write_block(INTERFACE, &interface, sizeof(interface), NULL, 0, options, sizeof(options));
	}
}

void sim_pcapng_frame(const struct sim_frame *f, bool is_received)
{
	struct {
		uint32_t interface, time_high, time_low, captured, original;
	} packet = { is_received ? f->to : f->from, (uint32_t)(sim.now >> 32), (uint32_t)sim.now, f->bytes,
		f->bytes };
	/* epb_flags: inbound or outbound; the end */
	uint8_t options[] = { 2, 0, 4, 0, is_received ? 1 : 2, 0, 0, 0, 0, 0, 0, 0 };

	if (fd >= 0)
		write_block(PACKET, &packet, sizeof(packet), f->data, f->bytes, options, sizeof(options));
}

void sim_pcapng_close(void)
{
	if (fd >= 0)
		close(fd);
	fd = -1;
}
