/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A ring holds records, each in one piece: a header, then the bytes, up to a multiple of the header's size. Where a record
 * does not fit before the ring's end, an empty header says to go on at its beginning. Positions count bytes and are never taken
 * modulo: `taken` <= `published` <= `written` <= `taken` + size.
 *
 * The filter is pcap's, and libpcap runs it, on the packet itself where that is in one piece. rte_bpf does not: as of
 * DPDK 22.11, what rte_bpf_convert() makes of tcp[13] finds another byte, and what is compiled of BPF_JSET crashes.
 */
#include <errno.h>
#include <pcap/pcap.h>
#include <stdlib.h>
#include <string.h>

#include <base/assert.h>
#include <base/clock.h>
#include <nic/capture.h>

#define GO_ON     UINT32_MAX
#define INSNS_MAX 4096u /* as the kernel has it */

struct record {
	bw_ns at;
	uint32_t kept, length; /* or `kept` is GO_ON: nothing, go on at the ring's beginning */
	uint16_t reason;
	uint8_t way, device;
} __attribute__((aligned(32)));
_Static_assert(sizeof(struct record) == 32, "the ring's size is a multiple of it");

struct bw_capture_ring {
	/* the worker's */
	uint64_t written;
	uint64_t taken_seen;      /* `taken`, when it was last looked at */
	uint64_t lost;            /* Atomic: read by anyone */
	uint8_t *bytes, *scratch; /* scratch: a packet in one piece */
	size_t size;
	const struct bw_capture *capture;
	/* between the two */
	uint64_t published __attribute__((aligned(BW_CACHE_LINE))); /* Atomic */
	uint64_t taken __attribute__((aligned(BW_CACHE_LINE)));     /* Atomic */
	/* the reader's */
	uint64_t next;
};

struct bw_capture {
	uint32_t snaplen;
	bool only_dropped;
	struct bpf_program filter; /* without instructions: all */
	unsigned ring_count;
	struct bw_capture_ring rings[] __attribute__((aligned(BW_CACHE_LINE)));
};

/* ---- the filter ------------------------------------------------------------------------------------------------ */

/** As `inbound` does, at offsets that stand for no byte of the packet (SKF_AD_OFF). */
static bool asks_the_kernel(const struct bpf_program *filter)
{
	for (unsigned i = 0; i < filter->bf_len; i++) {
		const struct bpf_insn *insn = &filter->bf_insns[i];

		if (BPF_CLASS(insn->code) == BPF_LD && BPF_MODE(insn->code) == BPF_ABS &&
			(int32_t)insn->k < 0)
			return true;
	}
	return false;
}

static int print(const struct bpf_program *filter, char **program)
{
	size_t bytes;
	FILE *out = open_memstream(program, &bytes);

	if (out == NULL)
		return -ENOMEM;
	fprintf(out, "%u\n", filter->bf_len);
	for (unsigned i = 0; i < filter->bf_len; i++) {
		const struct bpf_insn *insn = &filter->bf_insns[i];

		fprintf(out, "%u %u %u %u\n", insn->code, insn->jt, insn->jf, insn->k);
	}
	return fclose(out) == 0 ? 0 : -ENOMEM;
}

int bw_capture_filter(const char *expression, char **program, char *problem, size_t problem_bytes)
{
	pcap_t *pcap = pcap_open_dead(DLT_EN10MB, BW_CAPTURE_SNAPLEN_MAX);
	struct bpf_program filter = { 0 };
	int rc = -EINVAL;

	if (pcap == NULL)
		return -ENOMEM;
	if (pcap_compile(pcap, &filter, expression, 1, PCAP_NETMASK_UNKNOWN) != 0)
		snprintf(problem, problem_bytes, "%s", pcap_geterr(pcap));
	else if (asks_the_kernel(&filter))
		snprintf(problem, problem_bytes, "it asks for what only the kernel knows of a packet");
	else
		rc = print(&filter, program);
	pcap_freecode(&filter);
	pcap_close(pcap);
	return rc;
}

/** Any text may come; what bpf_validate() lets through reads no byte but the packet's, and ends. */
static int load(const char *program, struct bpf_program *filter)
{
	unsigned count, code, jt, jf, k;
	int used;

	if (sscanf(program, "%u%n", &count, &used) != 1 || count == 0 || count > INSNS_MAX)
		return -EINVAL;
	filter->bf_insns = calloc(count, sizeof(filter->bf_insns[0]));
	if (filter->bf_insns == NULL)
		return -ENOMEM;
	while (filter->bf_len < count) {
		program += used;
		if (sscanf(program, "%u %u %u %u%n", &code, &jt, &jf, &k, &used) != 4 || code > UINT16_MAX ||
			jt > UINT8_MAX || jf > UINT8_MAX)
			return -EINVAL;
		filter->bf_insns[filter->bf_len++] =
			(struct bpf_insn){ (uint16_t)code, (uint8_t)jt, (uint8_t)jf, k };
	}
	return bpf_validate(filter->bf_insns, (int)count) ? 0 : -EINVAL;
}

static bool is_wanted(const struct bw_capture_ring *ring, const struct rte_mbuf *m)
{
	const struct bpf_program *filter = &ring->capture->filter;
	const uint32_t length = rte_pktmbuf_pkt_len(m), seen = BW_MIN(length, BW_CAPTURE_SNAPLEN_MAX);

	return filter->bf_insns == NULL ||
	       bpf_filter(filter->bf_insns, rte_pktmbuf_read(m, 0, seen, ring->scratch), length, seen) != 0;
}

/* ---- the worker's side ----------------------------------------------------------------------------------------- */

static uint64_t record_bytes(uint32_t kept)
{
	return RTE_ALIGN_CEIL(sizeof(struct record) + (uint64_t)kept, sizeof(struct record));
}

static struct record *record_at(const struct bw_capture_ring *ring, uint64_t at)
{
	return (struct record *)(void *)(ring->bytes + (at & (ring->size - 1)));
}

/** Room in one piece. NULL: there is none. */
static struct record *reserve(struct bw_capture_ring *ring, uint64_t bytes)
{
	const uint64_t before_end = ring->size - (ring->written & (ring->size - 1));
	const uint64_t skipped = bytes > before_end ? before_end : 0;

	if (ring->written + skipped + bytes > ring->taken_seen + ring->size) {
		ring->taken_seen = __atomic_load_n(&ring->taken, __ATOMIC_ACQUIRE);
		if (ring->written + skipped + bytes > ring->taken_seen + ring->size)
			return NULL;
	}
	if (skipped > 0)
		record_at(ring, ring->written)->kept = GO_ON;
	ring->written += skipped;
	return record_at(ring, ring->written);
}

struct bw_capture_mark bw_capture_mark(const struct bw_capture_ring *ring)
{
	return (struct bw_capture_mark){ ring->written, ring->lost };
}

void bw_capture_put(
	struct bw_capture_ring *ring, enum bw_capture_way way, unsigned device, const struct rte_mbuf *m)
{
	const uint32_t length = rte_pktmbuf_pkt_len(m);
	const uint32_t kept = BW_MIN(length, ring->capture->snaplen);
	struct record *record;
	const void *bytes;

	if ((way == BW_CAPTURE_OUT && ring->capture->only_dropped) || !is_wanted(ring, m))
		return;
	record = reserve(ring, record_bytes(kept));
	if (record == NULL) {
		__atomic_store_n(&ring->lost, ring->lost + 1, __ATOMIC_RELAXED);
		return;
	}
	*record = (struct record){ .at = bw_clock_now(),
		.kept = kept,
		.length = length,
		.reason = BW_COUNTER_COUNT,
		.way = (uint8_t)way,
		.device = (uint8_t)device };
	bytes = rte_pktmbuf_read(m, 0, kept, record + 1);
	if (bytes != record + 1)
		memcpy(record + 1, bytes, kept);
	ring->written += record_bytes(kept);
}

/** The record at or behind a position, and where it is. NULL: there is none. */
static struct record *first_from(const struct bw_capture_ring *ring, uint64_t *at, uint64_t end)
{
	struct record *record;

	if (*at == end)
		return NULL;
	record = record_at(ring, *at);
	if (record->kept == GO_ON) {
		*at += ring->size - (*at & (ring->size - 1));
		record = *at == end ? NULL : record_at(ring, *at);
	}
	return record;
}

void bw_capture_reason(struct bw_capture_ring *ring, struct bw_capture_mark mark, enum bw_counter reason)
{
	struct record *record = first_from(ring, &mark.at, ring->written);

	if (reason == BW_COUNTER_COUNT && ring->capture->only_dropped)
		bw_capture_take_back(ring, mark);
	else if (record != NULL)
		record->reason = (uint16_t)reason;
}

void bw_capture_take_back(struct bw_capture_ring *ring, struct bw_capture_mark mark)
{
	ring->written = mark.at;
	__atomic_store_n(&ring->lost, mark.lost, __ATOMIC_RELAXED);
}

void bw_capture_publish(struct bw_capture_ring *ring)
{
	__atomic_store_n(&ring->published, ring->written, __ATOMIC_RELEASE);
}

/* ---- the reader's ---------------------------------------------------------------------------------------------- */

bool bw_capture_next(struct bw_capture *capture, struct bw_captured *packet)
{
	const struct record *oldest = NULL;
	struct bw_capture_ring *from = NULL;

	for (unsigned i = 0; i < capture->ring_count; i++) {
		struct bw_capture_ring *ring = &capture->rings[i];
		const struct record *record;

		/* What the call before has shown is done with. */
		__atomic_store_n(&ring->taken, ring->next, __ATOMIC_RELEASE);
		record = first_from(ring, &ring->next, __atomic_load_n(&ring->published, __ATOMIC_ACQUIRE));
		if (record != NULL && (oldest == NULL || record->at < oldest->at)) {
			oldest = record;
			from = ring;
		}
	}
	if (oldest == NULL)
		return false;
	from->next += record_bytes(oldest->kept);
	*packet = (struct bw_captured){
		.at = oldest->at,
		.bytes = (const uint8_t *)(oldest + 1),
		.kept = oldest->kept,
		.length = oldest->length,
		.ring = (unsigned)(from - capture->rings),
		.device = oldest->device,
		.way = oldest->way,
		.reason = oldest->reason,
	};
	return true;
}

uint64_t bw_capture_lost(const struct bw_capture *capture)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < capture->ring_count; i++)
		sum += __atomic_load_n(&capture->rings[i].lost, __ATOMIC_RELAXED);
	return sum;
}

/* ---- start and stop -------------------------------------------------------------------------------------------- */

int bw_capture_open(const struct bw_capture_conf *conf, unsigned ring_count, struct bw_capture **out)
{
	const size_t bytes = sizeof(struct bw_capture) + ring_count * sizeof(struct bw_capture_ring);
	struct bw_capture *capture = aligned_alloc(BW_CACHE_LINE, RTE_ALIGN_CEIL(bytes, BW_CACHE_LINE));
	int rc = 0;

	BW_ASSERT((conf->ring_bytes & (conf->ring_bytes - 1)) == 0);
	BW_ASSERT(conf->ring_bytes >= 4 * BW_CAPTURE_SNAPLEN_MAX && conf->snaplen <= BW_CAPTURE_SNAPLEN_MAX);
	if (capture == NULL)
		return -ENOMEM;
	memset(capture, 0, bytes);
	capture->snaplen = conf->snaplen;
	capture->only_dropped = conf->only_dropped;
	capture->ring_count = ring_count;
	for (unsigned i = 0; i < ring_count && rc == 0; i++) {
		struct bw_capture_ring *ring = &capture->rings[i];

		ring->capture = capture;
		ring->size = conf->ring_bytes;
		ring->bytes = aligned_alloc(BW_CACHE_LINE, ring->size);
		ring->scratch = malloc(BW_CAPTURE_SNAPLEN_MAX);
		if (ring->bytes != NULL && ring->scratch != NULL)
			memset(ring->bytes, 0xff, ring->size);
		else
			rc = -ENOMEM;
	}
	if (rc == 0 && conf->filter != NULL)
		rc = load(conf->filter, &capture->filter);
	if (rc != 0) {
		bw_capture_close(capture);
		return rc;
	}
	*out = capture;
	return 0;
}

void bw_capture_close(struct bw_capture *capture)
{
	if (capture == NULL)
		return;
	for (unsigned i = 0; i < capture->ring_count; i++) {
		free(capture->rings[i].bytes);
		free(capture->rings[i].scratch);
	}
	free(capture->filter.bf_insns);
	free(capture);
}

struct bw_capture_ring *bw_capture_ring(struct bw_capture *capture, unsigned ring)
{
	return &capture->rings[ring];
}
