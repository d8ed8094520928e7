/* SPDX-License-Identifier: BSD-3-Clause */
/** Frames on their way to and from a TAP's descriptor; here it is one end of a socket pair. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include <errno.h>

#include <base/sum.h>
#include <nic/tap.h>

#define MTU 1500

static struct bw_tap tap;
static int kernel;

static int make(void **state)
{
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, ends), 0);
	tap = (struct bw_tap){ .fd = ends[0], .frame_bytes = MTU + 14 + 4 };
	kernel = ends[1];
	return 0;
}

static int unmake(void **state)
{
	bw_tap_close(&tap);
	bw_tap_close(&tap); /* once is enough, and again does no harm */
	close(kernel);
	return 0;
}

struct buffer {
	struct rte_mbuf m;
	uint8_t bytes[2048];
};

static struct rte_mbuf *fill(struct buffer *b, const void *data, unsigned bytes)
{
	memcpy(b->bytes, data, bytes);
	b->m = (struct rte_mbuf){
		.buf_addr = b->bytes, .data_len = (uint16_t)bytes, .pkt_len = bytes, .nb_segs = 1
	};
	return &b->m;
}

static void wrote(const void *data, unsigned bytes)
{
	uint8_t got[4096];

	assert_int_equal(read(kernel, got, sizeof(got)), bytes);
	assert_memory_equal(got, data, bytes);
}

static void as_it_came(void **state)
{
	struct buffer a, b;
	const char frame[] = "to....from..??a frame of whatever bytes there are";

	assert_int_equal(bw_tap_write(&tap, fill(&a, frame, 49)), 0);
	wrote(frame, 49);
	fill(&a, frame, 20);
	a.m.next = fill(&b, frame + 20, 29);
	a.m.nb_segs = 2;
	a.m.pkt_len = 49;
	assert_int_equal(bw_tap_write(&tap, &a.m), 0);
	wrote(frame, 49);
	assert_int_equal(bw_tap_write(&tap, fill(&a, frame, 13)), -EMSGSIZE);
}

static void a_tag_goes_back_in(void **state)
{
	struct buffer a;

	fill(&a, "to....from..\x88\xb5...", 17);
	a.m.ol_flags = RTE_MBUF_F_RX_VLAN | RTE_MBUF_F_RX_VLAN_STRIPPED;
	a.m.vlan_tci = 0x6007;
	assert_int_equal(bw_tap_write(&tap, &a.m), 0);
	wrote("to....from..\x81\x00\x60\x07\x88\xb5...", 21);
}

/* An IPv4 or IPv6 header, TCP or UDP of `payload` bytes, and padding; with the pseudo-header's sum in the field. */
static unsigned unfinished(
	uint8_t *frame, bool is_v4, bool is_udp, unsigned payload, unsigned tags, unsigned *l4_off)
{
	const unsigned l4_bytes = (is_udp ? 8 : 20) + payload;
	uint8_t *at = frame, proto = is_udp ? 17 : 6;
	uint64_t sum;
	uint16_t field;

	memset(frame, 0, 2048);
	memcpy(at, "\2\0\0\0\0\2\2\0\0\0\0\1", 12);
	at += 12;
	for (; tags > 0; tags--, at += 4)
		memcpy(at, "\x81\0\0\7", 4);
	memcpy(at, is_v4 ? "\x08\0" : "\x86\xdd", 2);
	at += 2;
	if (is_v4) {
		memcpy(at, "\x45\0\0\0\0\1\0\0\x40", 9);
		at[2] = (uint8_t)((20 + l4_bytes) >> 8);
		at[3] = (uint8_t)(20 + l4_bytes);
		at[9] = proto;
		memcpy(at + 12, "\xc0\0\2\1\xc0\0\2\2", 8);
		sum = bw_sum(at + 12, 8, 0);
		at += 20;
	} else {
		memcpy(at, "\x60\0\0\0", 4);
		at[4] = (uint8_t)(l4_bytes >> 8);
		at[5] = (uint8_t)l4_bytes;
		at[6] = proto;
		memset(at + 8, 0x20, 32);
		sum = bw_sum(at + 8, 32, 0);
		at += 40;
	}
	field = bw_sum_fold(sum + rte_cpu_to_be_16(proto) + rte_cpu_to_be_16(l4_bytes));
	for (unsigned i = 0; i < l4_bytes; i++)
		at[i] = (uint8_t)(i * 7 + 1);
	if (is_udp)
		memcpy(at + 4, (uint8_t[]){ (uint8_t)(l4_bytes >> 8), (uint8_t)l4_bytes }, 2);
	else
		at[12] = 0x50;
	memcpy(at + (is_udp ? 6 : 16), &field, 2);
	*l4_off = (unsigned)(at - frame);
	memset(at + l4_bytes, 0xee, 6); /* which is not the packet's */
	return *l4_off + l4_bytes + 6;
}

/** Where the device vouches for the bytes, what is undone is done; else, and where it is done already, nothing is. */
static void a_checksum_that_is_left_undone(void **state)
{
	uint8_t frame[2048], got[4096];

	for (unsigned kind = 0; kind < 8 * 4; kind++) {
		const bool is_v4 = kind & 1, is_udp = kind & 2, is_chain = kind & 4;
		const unsigned payload = 100 + kind / 8;
		unsigned l4_off, bytes = unfinished(frame, is_v4, is_udp, payload, kind / 16, &l4_off);
		const unsigned l4_bytes = bytes - 6 - l4_off, ip_bytes = is_v4 ? 8 : 32;
		const uint8_t *addresses = frame + l4_off - ip_bytes;
		struct buffer a, b;
		uint64_t sum;

		fill(&a, frame, bytes);
		if (is_chain) {
			fill(&a, frame, l4_off + 33); /* an odd place */
			a.m.next = fill(&b, frame + l4_off + 33, bytes - l4_off - 33);
			a.m.nb_segs = 2;
			a.m.pkt_len = bytes;
		}
		assert_int_equal(bw_tap_write(&tap, &a.m), 0);
		wrote(frame, bytes);
		a.m.ol_flags = RTE_MBUF_F_RX_L4_CKSUM_NONE;
		assert_int_equal(bw_tap_write(&tap, &a.m), 0);
		assert_int_equal(read(kernel, got, sizeof(got)), bytes);
		sum = bw_sum(addresses, ip_bytes, 0) + rte_cpu_to_be_16(is_udp ? 17 : 6) +
		      rte_cpu_to_be_16(l4_bytes);
		assert_int_equal(bw_sum_fold(bw_sum(got + l4_off, l4_bytes, sum)), 0xffff);
		assert_memory_equal(got, frame, l4_off);
		assert_memory_equal(got + l4_off + 20, frame + l4_off + 20, bytes - l4_off - 20);
		assert_int_equal(bw_tap_write(&tap, &a.m), 0); /* a second time there is nothing to do */
		wrote(got, bytes);
	}
}

/** Lengths that lie, headers that are cut off: as they came, and not a byte beyond is looked at. */
static void what_is_wrong_stays_so(void **state)
{
	uint8_t frame[2048];
	unsigned l4_off, bytes = unfinished(frame, true, false, 100, 0, &l4_off);
	struct buffer a;

	frame[16] = 0xff; /* a length of more than there is */
	fill(&a, frame, bytes)->ol_flags = RTE_MBUF_F_RX_L4_CKSUM_NONE;
	assert_int_equal(bw_tap_write(&tap, &a.m), 0);
	wrote(frame, bytes);
	frame[16] = 0;
	frame[17] = 7; /* less than its own header */
	fill(&a, frame, bytes)->ol_flags = RTE_MBUF_F_RX_L4_CKSUM_NONE;
	assert_int_equal(bw_tap_write(&tap, &a.m), 0);
	wrote(frame, bytes);
	for (unsigned cut = 14; cut < l4_off + 18; cut++) {
		fill(&a, frame, cut)->ol_flags = RTE_MBUF_F_RX_L4_CKSUM_NONE;
		assert_int_equal(bw_tap_write(&tap, &a.m), 0);
		wrote(frame, cut);
	}
}

static void what_the_kernel_sends(void **state)
{
	struct buffer a;
	uint8_t frame[MTU + 14 + 4 + 1] = "to....from..";

	fill(&a, "", 0);
	assert_int_equal(bw_tap_read(&tap, &a.m), -EAGAIN);
	assert_int_equal(write(kernel, frame, 60), 60);
	assert_int_equal(bw_tap_read(&tap, &a.m), 0);
	assert_int_equal(a.m.data_len, 60);
	assert_int_equal(a.m.pkt_len, 60);
	assert_memory_equal(a.bytes, frame, 60);
	assert_int_equal(write(kernel, frame, sizeof(frame) - 1), sizeof(frame) - 1);
	assert_int_equal(bw_tap_read(&tap, &a.m), 0);
	assert_int_equal(write(kernel, frame, sizeof(frame)), sizeof(frame)); /* its MTU is larger now */
	assert_int_equal(bw_tap_read(&tap, &a.m), -EMSGSIZE);
	assert_int_equal(write(kernel, frame, 13), 13);
	assert_int_equal(bw_tap_read(&tap, &a.m), -EMSGSIZE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(as_it_came, make, unmake),
		cmocka_unit_test_setup_teardown(a_tag_goes_back_in, make, unmake),
		cmocka_unit_test_setup_teardown(a_checksum_that_is_left_undone, make, unmake),
		cmocka_unit_test_setup_teardown(what_is_wrong_stays_so, make, unmake),
		cmocka_unit_test_setup_teardown(what_the_kernel_sends, make, unmake),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
