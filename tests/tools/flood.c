/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Bare TCP segments from forged sources, as fast as an interface takes them or at a rate, and never without an end:
 *
 *     flood --iface IF --mac MAC --to ADDR --port N [--kind syn|ack|rst] [--from ADDR[/BITS]] [--from-port N]
 *           [--rate PPS] [--count N] [--seconds N] [--options] [--seed N]
 *
 * What is not given is random, packet by packet: the source's port, sequence and acknowledgment numbers, and the
 * bits of the source's address behind BITS. --options adds those that Linux sends (on a SYN: MSS, SACK permitted,
 * timestamp, window scale; else a timestamp). Checksums are right. At the end, or at SIGINT or SIGTERM, it prints
 * what it has sent as a JSON object. It hears nothing, and needs CAP_NET_RAW in its network namespace.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BURST       64
#define FRAME_BYTES 128
#define NS_PER_SEC  1000000000ull

enum kind {
	KIND_SYN,
	KIND_ACK,
	KIND_RST,
};

struct flood {
	uint8_t mac[6], own_mac[6];
	int family;
	uint8_t to[16], from[16]; /* 4 bytes of them, or 16 */
	unsigned random_bits;     /* at the end of `from` */
	uint16_t port, from_port; /* 0: random */
	enum kind kind;
	bool has_options;
	uint64_t rate, count, seconds;
	int socket;
	unsigned frame_bytes, ip_bytes, tcp_bytes, addr_bytes;
	uint8_t frames[BURST][FRAME_BYTES];
};

static volatile sig_atomic_t is_over;

static void on_signal(int number)
{
	(void)number;
	is_over = 1;
}

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("flood: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(2);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_SEC + (uint64_t)t.tv_nsec;
}

static uint64_t rng_state = 88172645463325252u;

static uint32_t rng(void) /* xorshift64*, Vigna 2016 */
{
	rng_state ^= rng_state >> 12;
	rng_state ^= rng_state << 25;
	rng_state ^= rng_state >> 27;
	return (uint32_t)(rng_state * 0x2545f4914f6cdd1du >> 32);
}

/* ---- frames ---------------------------------------------------------------------------------------------- */

static uint64_t sum_of(const void *data, unsigned bytes)
{
	const uint8_t *at = data;
	uint64_t sum = 0;
	uint16_t word;

	for (unsigned i = 0; i < bytes; i += 2) {
		memcpy(&word, at + i, 2);
		sum += word;
	}
	return sum;
}

static uint16_t folded(uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/** What every frame has in common. */
static void prepare(struct flood *f)
{
	static const uint8_t flags[] = { [KIND_SYN] = TH_SYN, [KIND_ACK] = TH_ACK, [KIND_RST] = TH_RST };
	static const uint8_t syn_options[20] = { 2, 4, 1460 >> 8, 1460 & 0xff, 4, 2, 8, 10, [16] = 1, 3, 3,
		7 };
	static const uint8_t options[12] = { 1, 1, 8, 10 };
	unsigned option_bytes = !f->has_options       ? 0
				: f->kind == KIND_SYN ? sizeof(syn_options)
						      : sizeof(options);

	f->ip_bytes = f->family == AF_INET ? sizeof(struct iphdr) : sizeof(struct ip6_hdr);
	f->addr_bytes = f->family == AF_INET ? 4 : 16;
	f->tcp_bytes = sizeof(struct tcphdr) + option_bytes;
	f->frame_bytes = ETH_HLEN + f->ip_bytes + f->tcp_bytes;
	for (unsigned i = 0; i < BURST; i++) {
		struct ether_header *eth = (void *)f->frames[i];
		uint8_t *ip = f->frames[i] + ETH_HLEN;
		struct tcphdr *tcp = (void *)(ip + f->ip_bytes);

		memcpy(eth->ether_dhost, f->mac, 6);
		memcpy(eth->ether_shost, f->own_mac, 6);
		if (f->family == AF_INET) {
			struct iphdr *v4 = (void *)ip;

			eth->ether_type = htons(ETHERTYPE_IP);
			*v4 = (struct iphdr){ .version = 4,
				.ihl = 5,
				.tot_len = htons((uint16_t)(f->ip_bytes + f->tcp_bytes)),
				.frag_off = htons(0x4000),
				.ttl = 64,
				.protocol = IPPROTO_TCP };
			memcpy(&v4->daddr, f->to, 4);
		} else {
			struct ip6_hdr *v6 = (void *)ip;

			eth->ether_type = htons(ETHERTYPE_IPV6);
			*v6 = (struct ip6_hdr){ 0 };
			v6->ip6_flow = htonl(6u << 28);
			v6->ip6_plen = htons((uint16_t)f->tcp_bytes);
			v6->ip6_nxt = IPPROTO_TCP;
			v6->ip6_hlim = 64;
			memcpy(&v6->ip6_dst, f->to, 16);
		}
		tcp->th_dport = htons(f->port);
		tcp->th_off = (uint8_t)(f->tcp_bytes / 4) & 0xf;
		tcp->th_flags = flags[f->kind];
		tcp->th_win = htons(64240);
		memcpy(tcp + 1, f->kind == KIND_SYN ? syn_options : options, option_bytes);
	}
}

static void randomise(const struct flood *f, uint8_t *frame)
{
	uint8_t *ip = frame + ETH_HLEN;
	uint8_t *from = ip + (f->family == AF_INET ? offsetof(struct iphdr, saddr)
						   : offsetof(struct ip6_hdr, ip6_src));
	struct tcphdr *tcp = (void *)(ip + f->ip_bytes);
	uint64_t sum;

	memcpy(from, f->from, f->addr_bytes);
	for (unsigned bits = f->random_bits, at = f->addr_bytes; bits > 0; bits -= bits < 8 ? bits : 8)
		from[--at] ^= (uint8_t)(rng() >> (bits < 8 ? 32 - bits : 24));
	tcp->th_sport = f->from_port != 0 ? htons(f->from_port) : (uint16_t)(rng() | 1);
	tcp->th_seq = rng();
	tcp->th_ack = f->kind == KIND_ACK ? rng() : 0;
	if (f->has_options) {
		uint32_t stamps[2] = { rng(), f->kind == KIND_ACK ? rng() : 0 };

		memcpy((uint8_t *)(tcp + 1) + (f->kind == KIND_SYN ? 8 : 4), stamps, sizeof(stamps));
	}
	if (f->family == AF_INET) {
		struct iphdr *v4 = (void *)ip;

		v4->check = 0;
		v4->check = folded(sum_of(v4, sizeof(*v4)));
	}
	/* Source and destination are neighbours in both headers. */
	tcp->th_sum = 0;
	sum = sum_of(from, 2 * f->addr_bytes) + sum_of(tcp, f->tcp_bytes);
	tcp->th_sum = folded(sum + htons(IPPROTO_TCP) + htons((uint16_t)f->tcp_bytes));
}

/* ---- sending --------------------------------------------------------------------------------------------- */

/** All of the burst, unless the end comes first. Returns how many. */
static unsigned send_burst(const struct flood *f, struct mmsghdr *messages, unsigned count)
{
	unsigned sent = 0;

	while (sent < count && !is_over) {
		int n = sendmmsg(f->socket, messages + sent, count - sent, MSG_DONTWAIT);

		if (n > 0) {
			sent += (unsigned)n;
		} else if (errno == EAGAIN || errno == ENOBUFS) {
			struct pollfd poll_for = { f->socket, POLLOUT, 0 };

			(void)poll(&poll_for, 1, 1);
		} else if (errno != EINTR) {
			die("sending: %s", strerror(errno));
		}
	}
	return sent;
}

static void run(struct flood *f)
{
	struct mmsghdr messages[BURST] = { 0 };
	struct iovec pieces[BURST];
	uint64_t began = now_ns(), end = began + f->seconds * NS_PER_SEC, now = began, sent = 0;

	for (unsigned i = 0; i < BURST; i++) {
		pieces[i] = (struct iovec){ f->frames[i], f->frame_bytes };
		messages[i].msg_hdr.msg_iov = &pieces[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	while (!is_over && sent < f->count && (now = now_ns()) < end) {
		uint64_t left = f->count - sent, due = left;
		unsigned count;

		if (f->rate != 0) {
			uint64_t should = (now - began) * f->rate / NS_PER_SEC;

			due = should > sent ? should - sent : 0;
		}
		if (due == 0) {
			nanosleep(&(struct timespec){ 0, 50000 }, NULL);
			continue;
		}
		due = due < left ? due : left;
		count = due < BURST ? (unsigned)due : BURST;
		for (unsigned i = 0; i < count; i++)
			randomise(f, f->frames[i]);
		sent += send_burst(f, messages, count);
	}
	printf("{\"packets\": %llu, \"seconds\": %.3f}\n", (unsigned long long)sent,
		(double)(now_ns() - began) / 1e9);
}

/* ---- the command line ------------------------------------------------------------------------------------ */

static uint64_t number(const char *option, const char *text, uint64_t max)
{
	char *end;
	uint64_t value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end != '\0' || errno != 0 || value > max)
		die("--%s: '%s' is not a number up to %llu", option, text, (unsigned long long)max);
	return value;
}

static int address(const char *text, uint8_t out[16])
{
	if (inet_pton(AF_INET, text, out) == 1)
		return AF_INET;
	if (inet_pton(AF_INET6, text, out) == 1)
		return AF_INET6;
	die("'%s' is no address", text);
}

static void source(struct flood *f, char *text)
{
	char *slash = strchr(text, '/');
	unsigned bits = f->family == AF_INET ? 32 : 128;

	if (slash != NULL) {
		*slash = '\0';
		f->random_bits = bits - (unsigned)number("from", slash + 1, bits);
	}
	if (address(text, f->from) != f->family)
		die("--from and --to are of different families");
}

static void open_socket(struct flood *f, const char *iface)
{
	struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(iface) };
	struct ifreq request = { 0 };
	int one = 1;

	if (at.sll_ifindex == 0)
		die("--iface: there is no %s", iface);
	/* Protocol 0: nothing is received. */
	f->socket = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (f->socket < 0 || bind(f->socket, (void *)&at, sizeof(at)) != 0)
		die("%s: %s", iface, strerror(errno));
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", iface);
	if (ioctl(f->socket, SIOCGIFHWADDR, &request) != 0)
		die("%s: %s", iface, strerror(errno));
	memcpy(f->own_mac, request.ifr_hwaddr.sa_data, 6);
	/* As fast as the driver, where the kernel allows it. */
	(void)setsockopt(f->socket, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one));
}

int main(int argc, char **argv)
{
	static const struct option known[] = {
		{ "iface", required_argument, NULL, 'i' },
		{ "mac", required_argument, NULL, 'm' },
		{ "to", required_argument, NULL, 't' },
		{ "port", required_argument, NULL, 'p' },
		{ "kind", required_argument, NULL, 'k' },
		{ "from", required_argument, NULL, 'f' },
		{ "from-port", required_argument, NULL, 'F' },
		{ "rate", required_argument, NULL, 'r' },
		{ "count", required_argument, NULL, 'c' },
		{ "seconds", required_argument, NULL, 's' },
		{ "options", no_argument, NULL, 'o' },
		{ "seed", required_argument, NULL, 'S' },
		{ NULL, 0, NULL, 0 },
	};
	static struct flood f = { .count = UINT64_MAX, .seconds = 10 };
	char *iface = NULL, *to = NULL, *from = NULL, *mac = NULL;
	int which;

	while ((which = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (which) {
		case 'i':
			iface = optarg;
			break;
		case 'm':
			mac = optarg;
			break;
		case 't':
			to = optarg;
			break;
		case 'f':
			from = optarg;
			break;
		case 'p':
			f.port = (uint16_t)number("port", optarg, 65535);
			break;
		case 'F':
			f.from_port = (uint16_t)number("from-port", optarg, 65535);
			break;
		case 'k':
			f.kind = strcmp(optarg, "syn") == 0   ? KIND_SYN
				 : strcmp(optarg, "ack") == 0 ? KIND_ACK
				 : strcmp(optarg, "rst") == 0 ? KIND_RST
							      : (die("--kind: syn, ack or rst"), KIND_SYN);
			break;
		case 'r':
			f.rate = number("rate", optarg, 100000000);
			break;
		case 'c':
			f.count = number("count", optarg, UINT64_MAX);
			break;
		case 's':
			f.seconds = number("seconds", optarg, 3600);
			break;
		case 'o':
			f.has_options = true;
			break;
		case 'S':
			rng_state ^= number("seed", optarg, UINT64_MAX) * 0x9e3779b97f4a7c15u;
			break;
		default:
			return 2;
		}
	}
	if (iface == NULL || to == NULL || mac == NULL || f.port == 0 || optind != argc)
		die("--iface, --mac, --to and --port must be given");
	if (sscanf(mac, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &f.mac[0], &f.mac[1], &f.mac[2], &f.mac[3],
		    &f.mac[4], &f.mac[5]) != 6)
		die("--mac: '%s' is no Ethernet address", mac);
	f.family = address(to, f.to);
	if (from != NULL)
		source(&f, from);
	else
		f.random_bits = f.family == AF_INET ? 32 : 128;
	open_socket(&f, iface);
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	prepare(&f);
	run(&f);
	close(f.socket);
	return 0;
}
