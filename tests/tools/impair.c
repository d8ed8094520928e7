/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * A bad link. Frames cross between two interfaces, and on their way are lost, repeated, delayed, reordered,
 * corrupted or marked, as the options say, separately for each direction:
 *
 *     impair [--seed N] [--both | --forth | --back] [impairment]... A B
 *
 * `forth` is from A to B. A direction is a chain: blackout, loss, corruption, congestion mark, duplication; then
 * a transmitter of a given rate with a queue that drops at its tail; then the delay. What is chosen depends only
 * on the seed and on how many packets came before in that direction, so a run with another sender at one end
 * loses the same ones. ARP, neighbour discovery and multicasts are delayed like everything, but nothing else happens to
 * them: TCP is what is looked at, and not a second of silence because a neighbour has to be asked again.
 *
 * Delays count from when the kernel took the frame in, and the process runs before all others where it may: what
 * it adds itself is in the counts that it prints, a JSON object, at SIGINT or SIGTERM. It says "ready" first.
 */
#include <errno.h>
#include <getopt.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_MS    1000000ull
#define BURST_GAP_NS 50000000u /* without a packet, and a burst is over */
#define NS_PER_SEC   1000000000ull
#define BURST        64
#define FRAME_MAX    9216
#define BUFFER_MAX   (64 << 20) /* of a socket: what comes while the process does not run */
#define LATE_US_MAX  100000     /* of the histogram */

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/** What a direction does. Chances are 0 to 1. */
struct impairment {
	double loss, reorder, duplicate, corrupt, mark_ce;
	double burst_loss, burst_packets; /* Gilbert-Elliott: mean loss, mean length of a burst of losses */
	uint64_t delay_ns, jitter_ns, reorder_ns, blackout_ns;
	uint64_t blackout_packets; /* that pass before */
	uint64_t rate_bits;        /* a second, of whole frames; 0: no limit */
	unsigned queue_packets;
};

struct frame {
	uint64_t due_ns, serial; /* the later of two with the same time is behind */
	uint32_t len;
	uint8_t data[];
};

struct direction {
	struct impairment does;
	int from, to; /* sockets */
	uint64_t prng;
	bool in_burst;
	uint64_t burst_seen_ns; /* when the last packet came */
	uint64_t dark_at;       /* when the blackout began; 0: not yet */
	uint64_t line_free;     /* when the transmitter has sent all that it was given */
	uint64_t last_due;      /* jitter does not reorder */
	uint64_t serial;
	/* when the frames that wait for the transmitter leave it, oldest first */
	uint64_t *leaving;
	unsigned leaving_head, leaving_count;
	/* under way: a binary heap */
	struct frame **heap;
	size_t heap_count, heap_size;
	struct {
		uint64_t in, spared, out, lost, blacked_out, queue_full, corrupted, duplicated, reordered,
			marked, failed, late_ns, late_ns_max;
	} count;
	uint32_t late_us[LATE_US_MAX + 1]; /* how many frames left so late */
};

static volatile sig_atomic_t is_over;

static void die(const char *what)
{
	fprintf(stderr, "impair: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* ---- chance -------------------------------------------------------------------------------------------- */

/** splitmix64 */
static uint64_t draw(struct direction *d)
{
	uint64_t z = d->prng += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

/** Draws in any case, so that a packet uses as many numbers whatever becomes of it. */
static bool happens(struct direction *d, double chance)
{
	return (double)(draw(d) >> 11) * 0x1p-53 < chance;
}

/**
 * In a burst everything is lost; its length is geometric. It is an event in time as well: a sender that backs off, alone
 * on the link, would else lose one repeat a burst's packet, minutes long.
 */
static bool burst_loses(struct direction *d, uint64_t now)
{
	double leave = d->does.burst_packets > 0 ? 1 / d->does.burst_packets : 1;
	double enter = leave * d->does.burst_loss / (1 - d->does.burst_loss);

	d->in_burst &= now - d->burst_seen_ns < BURST_GAP_NS;
	d->burst_seen_ns = now;
	d->in_burst = happens(d, d->in_burst ? 1 - leave : enter);
	return d->in_burst;
}

/* ---- under way ----------------------------------------------------------------------------------------- */

static bool is_before(const struct frame *a, const struct frame *b)
{
	return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->serial < b->serial;
}

static void heap_push(struct direction *d, struct frame *f)
{
	size_t i = d->heap_count++;

	if (d->heap_count > d->heap_size) {
		d->heap_size = MAX(2 * d->heap_size, (size_t)1024);
		d->heap = realloc(d->heap, d->heap_size * sizeof(*d->heap));
		if (d->heap == NULL)
			die("memory");
	}
	for (; i != 0 && is_before(f, d->heap[(i - 1) / 2]); i = (i - 1) / 2)
		d->heap[i] = d->heap[(i - 1) / 2];
	d->heap[i] = f;
}

static struct frame *heap_pop(struct direction *d)
{
	struct frame *top = d->heap[0], *last = d->heap[--d->heap_count];
	size_t i = 0;

	for (size_t child; (child = 2 * i + 1) < d->heap_count; i = child) {
		if (child + 1 < d->heap_count && is_before(d->heap[child + 1], d->heap[child]))
			child++;
		if (!is_before(d->heap[child], last))
			break;
		d->heap[i] = d->heap[child];
	}
	d->heap[i] = last;
	return top;
}

/* ---- what happens to a frame --------------------------------------------------------------------------- */

static uint16_t ether_type(const uint8_t *data)
{
	return (uint16_t)(data[12] << 8 | data[13]);
}

/** Multicasts, ARP, neighbour discovery, and whatever is neither IPv4 nor IPv6. */
static bool is_spared(const uint8_t *data, uint32_t len)
{
	const uint8_t *ip = data + ETHER_HDR_LEN;

	if (data[0] & 1)
		return true;
	switch (ether_type(data)) {
	case ETHERTYPE_IP:
		return false;
	case ETHERTYPE_IPV6:
		return len > ETHER_HDR_LEN + sizeof(struct ip6_hdr) && ip[6] == IPPROTO_ICMPV6 &&
		       ip[40] >= ND_ROUTER_SOLICIT && ip[40] <= ND_REDIRECT;
	default:
		return true;
	}
}

/** Congestion experienced (RFC 3168), if the packet's ends know what that is. */
static bool mark_ce(uint8_t *data, uint32_t len)
{
	uint8_t *ip = data + ETHER_HDR_LEN;
	uint32_t sum;

	if (ether_type(data) == ETHERTYPE_IPV6 && len >= ETHER_HDR_LEN + sizeof(struct ip6_hdr)) {
		if ((ip[1] & 0x30) == 0)
			return false;
		ip[1] |= 0x30;
		return true;
	}
	if (ether_type(data) != ETHERTYPE_IP || len < ETHER_HDR_LEN + sizeof(struct iphdr) ||
		(ip[1] & 3) == 0)
		return false;
	/* RFC 1624: the type of service is the low byte of a word of the sum. */
	sum = (uint32_t)(ip[10] << 8 | ip[11]) + (ip[1] & 3u) - 3u + 0xffff;
	sum = (sum & 0xffff) + (sum >> 16);
	ip[1] |= 3;
	ip[10] = (uint8_t)(sum >> 8);
	ip[11] = (uint8_t)sum;
	return true;
}

/**
 * One byte behind the Ethernet header becomes another. No more than that: the Internet checksum notices every such
 * change, but not every change of two.
 */
static void corrupt(struct direction *d, uint8_t *data, uint32_t len)
{
	uint64_t choice = draw(d);

	data[ETHER_HDR_LEN + (choice >> 8) % (len - ETHER_HDR_LEN)] ^= (uint8_t)(choice % 255 + 1);
}

/** Through the transmitter. Returns when the frame has left it, 0 when there was no room in the queue. */
static uint64_t transmit(struct direction *d, uint64_t now, uint32_t len)
{
	unsigned size = d->does.queue_packets;

	if (d->does.rate_bits == 0)
		return now;
	while (d->leaving_count != 0 && d->leaving[d->leaving_head] <= now) {
		d->leaving_head = (d->leaving_head + 1) % size;
		d->leaving_count--;
	}
	if (d->leaving_count == size)
		return 0;
	d->line_free = MAX(d->line_free, now) + len * 8 * NS_PER_SEC / d->does.rate_bits;
	d->leaving[(d->leaving_head + d->leaving_count++) % size] = d->line_free;
	return d->line_free;
}

static void launch(struct direction *d, uint64_t now, const uint8_t *data, uint32_t len, bool is_held)
{
	uint64_t due = transmit(d, now, len);
	struct frame *f;

	if (due == 0) {
		d->count.queue_full++;
		return;
	}
	due += d->does.delay_ns;
	if (d->does.jitter_ns != 0)
		due += draw(d) % d->does.jitter_ns;
	if (is_held) {
		due += d->does.reorder_ns;
	} else {
		due = MAX(due, d->last_due);
		d->last_due = due;
	}
	f = malloc(sizeof(*f) + len);
	if (f == NULL)
		die("memory");
	f->due_ns = due;
	f->serial = d->serial++;
	f->len = len;
	memcpy(f->data, data, len);
	heap_push(d, f);
}

static void arrive(struct direction *d, uint64_t now, uint8_t *data, uint32_t len)
{
	const struct impairment *does = &d->does;
	bool is_lost, is_held, is_doubled;

	if (is_spared(data, len)) {
		d->count.spared++;
		launch(d, now, data, len, false);
		return;
	}
	if (d->count.in++ == does->blackout_packets)
		d->dark_at = now;
	is_lost = happens(d, does->loss);
	is_lost |= burst_loses(d, now);
	is_held = happens(d, does->reorder);
	is_doubled = happens(d, does->duplicate);
	if (d->dark_at != 0 && now - d->dark_at < does->blackout_ns) {
		d->count.blacked_out++;
		return;
	}
	if (is_lost) {
		d->count.lost++;
		return;
	}
	if (happens(d, does->corrupt)) {
		corrupt(d, data, len);
		d->count.corrupted++;
	}
	if (happens(d, does->mark_ce) && mark_ce(data, len))
		d->count.marked++;
	d->count.reordered += is_held;
	launch(d, now, data, len, is_held);
	if (is_doubled) {
		d->count.duplicated++;
		launch(d, now, data, len, false);
	}
}

/* ---- in and out ---------------------------------------------------------------------------------------- */

/** When the kernel took the frame in, on our clock. Never in the future, and not before we last looked. */
static uint64_t arrival(struct msghdr *msg, uint64_t now, int64_t to_monotonic)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
		struct timespec ts;
		uint64_t at;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_TIMESTAMPNS)
			continue;
		memcpy(&ts, CMSG_DATA(c), sizeof(ts));
		at = (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec + (uint64_t)to_monotonic;
		return MIN(at, now);
	}
	return now;
}

/** Take in what has come. Returns whether there may be more. */
static bool receive(struct direction *d)
{
	static uint8_t data[BURST][FRAME_MAX];
	static char control[BURST][CMSG_SPACE(sizeof(struct timespec))];
	struct mmsghdr msgs[BURST];
	struct iovec iovs[BURST];
	uint64_t now;
	int64_t to_monotonic;
	int count;

	for (unsigned i = 0; i < BURST; i++) {
		iovs[i] = (struct iovec){ data[i], FRAME_MAX };
		msgs[i].msg_hdr = (struct msghdr){ .msg_iov = &iovs[i],
			.msg_iovlen = 1,
			.msg_control = control[i],
			.msg_controllen = sizeof(control[i]) };
	}
	count = recvmmsg(d->from, msgs, BURST, MSG_DONTWAIT, NULL);
	now = clock_ns(CLOCK_MONOTONIC);
	to_monotonic = (int64_t)(now - clock_ns(CLOCK_REALTIME));
	for (int i = 0; i < count; i++) {
		if (msgs[i].msg_len > ETHER_HDR_LEN)
			arrive(d, arrival(&msgs[i].msg_hdr, now, to_monotonic), data[i], msgs[i].msg_len);
	}
	return count == BURST;
}

static void note_lateness(struct direction *d, uint64_t late_ns)
{
	d->count.late_ns += late_ns;
	d->count.late_ns_max = MAX(d->count.late_ns_max, late_ns);
	d->late_us[MIN(late_ns / 1000, (uint64_t)LATE_US_MAX)]++;
}

/** Send what is due. */
static void send_due(struct direction *d)
{
	uint64_t now = clock_ns(CLOCK_MONOTONIC);

	while (d->heap_count != 0 && d->heap[0]->due_ns <= now) {
		struct frame *frames[BURST];
		struct mmsghdr msgs[BURST];
		struct iovec iovs[BURST];
		unsigned count = 0, sent = 0;

		for (; count < BURST && d->heap_count != 0 && d->heap[0]->due_ns <= now; count++) {
			frames[count] = heap_pop(d);
			iovs[count] = (struct iovec){ frames[count]->data, frames[count]->len };
			msgs[count].msg_hdr = (struct msghdr){ .msg_iov = &iovs[count], .msg_iovlen = 1 };
		}
		while (sent < count) {
			int n = sendmmsg(d->to, &msgs[sent], count - sent, 0);

			if (n > 0)
				d->count.out += (unsigned)n;
			else if (errno != EINTR)
				d->count.failed++; /* the link is down, or its queue is full */
			sent += n > 0 ? (unsigned)n : errno != EINTR;
		}
		now = clock_ns(CLOCK_MONOTONIC);
		for (unsigned i = 0; i < count; i++) {
			note_lateness(d, now - frames[i]->due_ns);
			free(frames[i]);
		}
	}
}

static int open_interface(const char *name)
{
	struct sockaddr_ll addr = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	int on = 1, bytes = BUFFER_MAX, fd = socket(AF_PACKET, SOCK_RAW, 0);
	struct packet_mreq all = { .mr_type = PACKET_MR_PROMISC };

	addr.sll_ifindex = (int)if_nametoindex(name);
	all.mr_ifindex = addr.sll_ifindex;
	if (fd < 0 || addr.sll_ifindex == 0 ||
		setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) != 0 ||
		setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof(on)) != 0 ||
		setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof(all)) != 0 ||
		setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on)) != 0 ||
		setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) != 0 ||
		setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)) != 0 ||
		bind(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0)
		die(name);
	return fd;
}

/** The kernel's count of what came too fast for us. */
static unsigned overruns(int fd)
{
	struct tpacket_stats stats = { 0 };
	socklen_t len = sizeof(stats);

	getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &len);
	return stats.tp_drops;
}

static double late_us(const struct direction *d, double share)
{
	uint64_t sum = 0, frames = d->count.out + d->count.failed;

	for (unsigned us = 0; us <= LATE_US_MAX; us++) {
		sum += d->late_us[us];
		if ((double)sum >= share * (double)frames)
			return us;
	}
	return LATE_US_MAX;
}

static void print_counts(const char *name, const struct direction *d)
{
	uint64_t frames = d->count.out + d->count.failed;

	printf("\"%s\": {\"in\": %lu, \"spared\": %lu, \"out\": %lu, \"lost\": %lu, \"blacked_out\": %lu, \"queue_full\": %lu, "
	       "\"corrupted\": %lu, \"duplicated\": %lu, \"reordered\": %lu, \"marked\": %lu, \"failed\": %lu, "
	       "\"overruns\": %u, \"late_us_mean\": %.1f, \"late_us_p50\": %.0f, \"late_us_p99\": %.0f, "
	       "\"late_us_max\": %.0f}",
		name, d->count.in, d->count.spared, d->count.out, d->count.lost, d->count.blacked_out,
		d->count.queue_full, d->count.corrupted, d->count.duplicated, d->count.reordered,
		d->count.marked, d->count.failed, overruns(d->from),
		frames != 0 ? (double)d->count.late_ns / (double)frames / 1e3 : 0, late_us(d, 0.5),
		late_us(d, 0.99), (double)d->count.late_ns_max / 1e3);
}

/* ---- options ------------------------------------------------------------------------------------------- */

static const char usage[] =
	"usage: impair [--seed N] [--both | --forth | --back] [IMPAIRMENT]... A B\n"
	"\n"
	"Impairments are for both directions, or for the one named before them; forth is from A to B.\n"
	"  --loss PERCENT             lose packets, each for itself\n"
	"  --burst PERCENT,PACKETS    lose as many in bursts of that mean length (Gilbert-Elliott)\n"
	"  --reorder PERCENT,MS       hold packets back so long, while others pass\n"
	"  --duplicate PERCENT        deliver packets twice\n"
	"  --corrupt PERCENT          change a byte behind the Ethernet header\n"
	"  --mark-ce PERCENT          mark packets of ECN-capable ends as having met congestion\n"
	"  --delay MS                 each packet; fractions are fine\n"
	"  --jitter MS                and up to so much more, in order\n"
	"  --rate MBIT                a second, of whole frames\n"
	"  --queue PACKETS            that may wait where there is a rate; 100\n"
	"  --blackout PACKETS,MS      lose everything: after how many packets of a direction, for how long\n";

static void refuse(const char *option, const char *value)
{
	fprintf(stderr, "impair: %s %s: not what it takes\n%s", option, value, usage);
	exit(2);
}

/** One or two numbers. `second` NULL: one. */
static void numbers(const char *option, const char *value, double *first, double *second)
{
	char *end;

	*first = strtod(value, &end);
	if (end == value || *first < 0 || (second != NULL && *end++ != ','))
		refuse(option, value);
	if (second != NULL) {
		value = end;
		*second = strtod(value, &end);
		if (end == value || *second < 0)
			refuse(option, value);
	}
	if (*end != '\0')
		refuse(option, value);
}

static uint64_t ms(double n)
{
	return (uint64_t)(n * NS_PER_MS);
}

static void set(struct impairment *does, const char *option, const char *value)
{
	double a, b = 0;
	bool has_two = strcmp(option, "burst") == 0 || strcmp(option, "reorder") == 0 ||
		       strcmp(option, "blackout") == 0;

	numbers(option, value, &a, has_two ? &b : NULL);
	if (strcmp(option, "loss") == 0) {
		does->loss = a / 100;
	} else if (strcmp(option, "burst") == 0) {
		if (a >= 100 || b < 1)
			refuse(option, value);
		does->burst_loss = a / 100;
		does->burst_packets = b;
	} else if (strcmp(option, "reorder") == 0) {
		does->reorder = a / 100;
		does->reorder_ns = ms(b);
	} else if (strcmp(option, "duplicate") == 0) {
		does->duplicate = a / 100;
	} else if (strcmp(option, "corrupt") == 0) {
		does->corrupt = a / 100;
	} else if (strcmp(option, "mark-ce") == 0) {
		does->mark_ce = a / 100;
	} else if (strcmp(option, "delay") == 0) {
		does->delay_ns = ms(a);
	} else if (strcmp(option, "jitter") == 0) {
		does->jitter_ns = ms(a);
	} else if (strcmp(option, "rate") == 0) {
		does->rate_bits = (uint64_t)(a * 1e6);
	} else if (strcmp(option, "queue") == 0) {
		if (a < 1)
			refuse(option, value);
		does->queue_packets = (unsigned)a;
	} else if (strcmp(option, "blackout") == 0) {
		does->blackout_packets = (uint64_t)a;
		does->blackout_ns = ms(b);
	}
}

enum {
	FORTH = 1,
	BACK = 2,
	SEED = 4,
	HELP = 5,
};

static const struct option options[] = {
	{ "both", no_argument, NULL, FORTH | BACK },
	{ "forth", no_argument, NULL, FORTH },
	{ "back", no_argument, NULL, BACK },
	{ "seed", required_argument, NULL, SEED },
	{ "help", no_argument, NULL, HELP },
	{ "loss", required_argument, NULL, 0 },
	{ "burst", required_argument, NULL, 0 },
	{ "reorder", required_argument, NULL, 0 },
	{ "duplicate", required_argument, NULL, 0 },
	{ "corrupt", required_argument, NULL, 0 },
	{ "mark-ce", required_argument, NULL, 0 },
	{ "delay", required_argument, NULL, 0 },
	{ "jitter", required_argument, NULL, 0 },
	{ "rate", required_argument, NULL, 0 },
	{ "queue", required_argument, NULL, 0 },
	{ "blackout", required_argument, NULL, 0 },
	{ NULL, 0, NULL, 0 },
};

static void parse(int argc, char **argv, struct direction *directions)
{
	uint64_t seed = 1;
	int which = FORTH | BACK, index, choice;
	double n;

	while ((choice = getopt_long(argc, argv, "", options, &index)) != -1) {
		switch (choice) {
		case 0:
			for (int i = 0; i < 2; i++) {
				if (which & (i == 0 ? FORTH : BACK))
					set(&directions[i].does, options[index].name, optarg);
			}
			break;
		case SEED:
			numbers("seed", optarg, &n, NULL);
			seed = (uint64_t)n;
			break;
		case HELP:
			fputs(usage, stdout);
			exit(0);
		case '?':
			fputs(usage, stderr);
			exit(2);
		default:
			which = choice;
		}
	}
	if (argc - optind != 2) {
		fputs(usage, stderr);
		exit(2);
	}
	for (unsigned i = 0; i < 2; i++)
		directions[i].prng = (seed << 1 | i) * 0xd1342543de82ef95ull;
}

static void end(int signal)
{
	(void)signal;
	is_over = 1;
}

/** Wait for a frame, or until the next is due, or not at all; but let a signal in. */
static void wait_for_work(const struct direction *directions, bool is_more, const sigset_t *mask)
{
	struct pollfd fds[2] = { { .fd = directions[0].from, .events = POLLIN },
		{ .fd = directions[1].from, .events = POLLIN } };
	uint64_t now = clock_ns(CLOCK_MONOTONIC), due = is_more ? now : now + NS_PER_SEC;
	struct timespec wait;

	for (unsigned i = 0; i < 2; i++) {
		if (directions[i].heap_count != 0)
			due = MIN(due, MAX(directions[i].heap[0]->due_ns, now));
	}
	wait = (struct timespec){ (time_t)((due - now) / NS_PER_SEC), (long)((due - now) % NS_PER_SEC) };
	ppoll(fds, 2, &wait, mask);
}

int main(int argc, char **argv)
{
	static struct direction directions[2];
	struct sigaction on_end = { .sa_handler = end };
	struct sched_param priority = { .sched_priority = 1 };
	sigset_t blocked, mask;

	directions[0].does.queue_packets = directions[1].does.queue_packets = 100;
	parse(argc, argv, directions);
	/* Signals arrive while it waits and at no other time. */
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGINT);
	sigaddset(&blocked, SIGTERM);
	sigprocmask(SIG_BLOCK, &blocked, &mask);
	sigaction(SIGINT, &on_end, NULL);
	sigaction(SIGTERM, &on_end, NULL);

	directions[0].from = directions[1].to = open_interface(argv[optind]);
	directions[1].from = directions[0].to = open_interface(argv[optind + 1]);
	for (unsigned i = 0; i < 2; i++) {
		directions[i].leaving = calloc(directions[i].does.queue_packets, sizeof(uint64_t));
		if (directions[i].leaving == NULL)
			die("memory");
	}
	/* Without the privilege it is only less exact. */
	sched_setscheduler(0, SCHED_FIFO, &priority);
	prctl(PR_SET_TIMERSLACK, 1);
	puts("ready");
	fflush(stdout);
	while (!is_over) {
		bool is_more = false;

		for (unsigned i = 0; i < 2; i++) {
			is_more |= receive(&directions[i]);
			send_due(&directions[i]);
		}
		wait_for_work(directions, is_more, &mask);
	}
	printf("{");
	print_counts("forth", &directions[0]);
	printf(",\n ");
	print_counts("back", &directions[1]);
	printf("}\n");
	return 0;
}
