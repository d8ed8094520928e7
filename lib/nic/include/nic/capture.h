/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Copies of packets for whoever looks at them, taken where they pass: one ring of bytes a worker, which that worker alone
 * fills and one reader empties. A worker never waits for the reader: what finds no room is counted, and not copied.
 *
 *     bw_capture_open(&conf, rings, &capture)
 *     bw_capture_ring(capture, i)                 for worker i to fill, in a turn:
 *         bw_capture_put(), bw_capture_reason(), bw_capture_publish()
 *     bw_capture_next(capture, &packet)           for the reader, oldest first
 *     bw_capture_close(capture)                   when no worker has its ring any more
 */
#pragma once

#include <rte_mbuf.h>

#include <base/clock.h>
#include <base/counters.h>
#include <base/types.h>

#define BW_CAPTURE_SNAPLEN_MAX 65535u

struct bw_capture;
struct bw_capture_ring;

/**
 * A filter's program, as text: what tcpdump -ddd prints. Where the expression has names, this asks for their addresses.
 *
 * @expression  in the language of pcap-filter(7), of Ethernet frames
 * @program     to be freed
 * @problem     what is wrong with the expression, when it is that
 * 0, -EINVAL for the expression, -ENOMEM
 */
int bw_capture_filter(const char *expression, char **program, char *problem, size_t problem_bytes);

struct bw_capture_conf {
	const char *filter; /* a program that bw_capture_filter() made; NULL: all */
	uint32_t snaplen;   /* bytes of a packet that are kept; 1 to BW_CAPTURE_SNAPLEN_MAX */
	size_t ring_bytes;  /* a power of two, 4 * BW_CAPTURE_SNAPLEN_MAX at least */
	bool only_dropped;
};

/** 0, -EINVAL when the filter is no program, -ENOMEM. Touches all of the rings' memory: no worker waits for the kernel to. */
int bw_capture_open(const struct bw_capture_conf *conf, unsigned ring_count, struct bw_capture **out);
void bw_capture_close(struct bw_capture *capture);
struct bw_capture_ring *bw_capture_ring(struct bw_capture *capture, unsigned ring);

/* ---- of the ring's worker -------------------------------------------------------------------------------------- */

enum bw_capture_way {
	BW_CAPTURE_IN,
	BW_CAPTURE_OUT,
};

/** Where the ring's next packet goes, and how many were lost before it. */
struct bw_capture_mark {
	uint64_t at, lost;
};
struct bw_capture_mark bw_capture_mark(const struct bw_capture_ring *ring);
/**
 * Copy a packet, if the filter wants it. The reader sees nothing of it before bw_capture_publish().
 *
 * @device  a number of the caller's, for the reader
 * @m       as it is on the wire, of any number of segments; stays the caller's
 */
void bw_capture_put(
	struct bw_capture_ring *ring, enum bw_capture_way way, unsigned device, const struct rte_mbuf *m);
/**
 * What has become of the packet that was put at `mark`, which is the last one, if the filter has let it in. Where only
 * dropped ones are wanted, others go.
 *
 * @reason  BW_COUNTER_COUNT: it was not dropped
 */
void bw_capture_reason(struct bw_capture_ring *ring, struct bw_capture_mark mark, enum bw_counter reason);
/** As if the packets that were put at `mark` and later had not come. They are not published. */
void bw_capture_take_back(struct bw_capture_ring *ring, struct bw_capture_mark mark);
void bw_capture_publish(struct bw_capture_ring *ring);

/* ---- of the reader --------------------------------------------------------------------------------------------- */

struct bw_captured {
	bw_ns at;              /* of bw_clock_now() */
	const uint8_t *bytes;  /* until the next call */
	uint32_t kept, length; /* bytes: of the copy, and of the packet */
	unsigned ring, device;
	enum bw_capture_way way;
	enum bw_counter reason; /* why it was dropped; BW_COUNTER_COUNT: it was not */
};

/** The oldest of those that have been published. False: there is none. */
bool bw_capture_next(struct bw_capture *capture, struct bw_captured *packet);
/** Packets that found no room. */
uint64_t bw_capture_lost(const struct bw_capture *capture);
