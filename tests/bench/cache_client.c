/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * One client for redis-server, memcached and Barewire, over the kernel's sockets: GETs or SETs of keys drawn by Zipf's
 * law (exponent 0.99, as in YCSB), so many under way on each connection, on one thread.
 *
 *     cache_client resp|memcached IP PORT get|set CONNECTIONS DEPTH VALUE_BYTES KEYS SECONDS
 *     cache_client resp|memcached IP PORT fill CONNECTIONS DEPTH VALUE_BYTES KEYS
 *
 * A connection sends DEPTH requests at once and the next ones when all are answered, as redis-benchmark does. A fill sets
 * every key once. An answer has to have the length of a hit, to the byte; any other ends the run, exit status 1. One line
 * comes out: answers a second, then p50, p90, p99, p99.9, p99.99 and the maximum in microseconds, of all after the first
 * tenth of the time.
 */
#include <arpa/inet.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <base/hist.h>

#define CONNECTIONS_MAX 1024
#define DEPTH_MAX       256
#define VALUE_MAX       4096
#define REQUEST_MAX     (VALUE_MAX + 128)
#define DRAWS           (1u << 20) /* keys are drawn before, and then come in turn: a draw takes a pow() */

enum what {
	GET,
	SET,
	FILL
};

struct connection {
	int fd;
	size_t due;     /* bytes of answers that have not come */
	unsigned asked; /* requests under way */
	uint64_t sent_at;
};

static bool is_resp;
static enum what what;
static unsigned depth, value_bytes, keys;
static size_t answer_bytes;
static uint32_t *drawn;
static unsigned draws_used, filled;
static uint64_t measured_from, answers;
static char value[VALUE_MAX];
static struct connection connection[CONNECTIONS_MAX];
static struct bw_hist latency;

__attribute__((noreturn)) static void fail(const char *why)
{
	perror(why);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/** By the inverse of the distribution (Gray et al., "Quickly generating billion-record synthetic databases", 1994). */
static void draw_all(void)
{
	const double theta = 0.99, alpha = 1 / (1 - theta);
	double zeta = 0, eta;

	for (unsigned i = 1; i <= keys; i++)
		zeta += pow(1.0 / i, theta);
	eta = (1 - pow(2.0 / keys, 1 - theta)) / (1 - (1 + pow(0.5, theta)) / zeta);
	srandom(1);
	for (unsigned i = 0; i < DRAWS; i++) {
		double u = (double)random() / ((double)RAND_MAX + 1), uz = u * zeta;
		double rank = uz < 1                     ? 0
			      : uz < 1 + pow(0.5, theta) ? 1
							 : keys * pow(eta * u - eta + 1, alpha);

		/* A popular key is any one, not the first: they are scattered, always in the same way. */
		drawn[i] = (uint32_t)((uint64_t)rank * 2654435761u % keys);
	}
}

static unsigned next_key(void)
{
	return what == FILL ? filled++ : drawn[draws_used++ % DRAWS];
}

static size_t request(char *out)
{
	unsigned key = next_key();

	if (what == GET)
		return (size_t)sprintf(
			out, is_resp ? "*2\r\n$3\r\nGET\r\n$16\r\nkey:%012u\r\n" : "get key:%012u\r\n", key);
	return (size_t)sprintf(out,
		is_resp ? "*3\r\n$3\r\nSET\r\n$16\r\nkey:%012u\r\n$%u\r\n%.*s\r\n"
			: "set key:%012u 0 0 %u\r\n%.*s\r\n",
		key, value_bytes, (int)value_bytes, value);
}

/** Of one right answer. */
static size_t answer_length(void)
{
	char head[96];

	if (what != GET)
		return is_resp ? strlen("+OK\r\n") : strlen("STORED\r\n");
	if (is_resp)
		return (size_t)snprintf(head, sizeof(head), "$%u\r\n", value_bytes) + value_bytes + 2;
	return (size_t)snprintf(head, sizeof(head), "VALUE key:%012u 0 %u\r\n", 0, value_bytes) +
	       value_bytes + strlen("\r\nEND\r\n");
}

/** The next requests of a connection. False when there are none left to make. */
static bool ask(struct connection *c)
{
	static char out[DEPTH_MAX * REQUEST_MAX];
	size_t bytes = 0;

	c->asked = 0;
	while (c->asked < depth && (what != FILL || filled < keys)) {
		bytes += request(out + bytes);
		c->asked++;
	}
	if (c->asked == 0)
		return false;
	c->due = c->asked * answer_bytes;
	c->sent_at = now_ns();
	/* The socket blocks, and what waits for answers is bounded: the server takes it. */
	for (size_t sent = 0; sent < bytes;) {
		ssize_t n = send(c->fd, out + sent, bytes - sent, MSG_NOSIGNAL);

		if (n <= 0)
			fail("send");
		sent += (size_t)n;
	}
	return true;
}

/** What came. True when all answers have. */
static bool take(struct connection *c, uint64_t *at)
{
	static char in[1 << 18];
	ssize_t n = recv(c->fd, in, sizeof(in), 0);
	bool is_first;

	if (n <= 0)
		fail("recv");
	is_first = c->due == c->asked * answer_bytes;
	if ((size_t)n > c->due || (is_first && what == GET && memcmp(in, is_resp ? "$-" : "EN", 2) == 0) ||
		(is_first && (in[0] == '-' || in[0] == 'E'))) {
		fprintf(stderr, "a wrong answer, which begins: %.40s\n", in);
		exit(1);
	}
	c->due -= (size_t)n;
	if (c->due > 0)
		return false;
	*at = now_ns();
	for (unsigned i = 0; i < c->asked && *at >= measured_from; i++, answers++)
		bw_hist_add(&latency, *at - c->sent_at);
	return true;
}

static void connect_all(int poll, unsigned count, const char *ip, const char *port)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) };

	inet_pton(AF_INET, ip, &addr.sin_addr);
	for (unsigned i = 0; i < count; i++) {
		struct epoll_event event = { .events = EPOLLIN, .data.u32 = i };

		connection[i].fd = socket(AF_INET, SOCK_STREAM, 0);
		setsockopt(connection[i].fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
		if (connect(connection[i].fd, (struct sockaddr *)&addr, sizeof(addr)) != 0)
			fail("connect");
		epoll_ctl(poll, EPOLL_CTL_ADD, connection[i].fd, &event);
	}
}

/** Returns when it is over: at `end`, or when nothing is under way any more. */
static uint64_t run(int poll, unsigned count, uint64_t end)
{
	struct epoll_event events[256];
	unsigned busy = 0;
	uint64_t now = now_ns();

	for (unsigned i = 0; i < count; i++)
		busy += ask(&connection[i]);
	while (busy > 0 && now < end) {
		int n = epoll_wait(poll, events, 256, 10000);

		if (n <= 0)
			fail("no answer for ten seconds");
		for (int i = 0; i < n; i++) {
			struct connection *c = &connection[events[i].data.u32];

			if (take(c, &now) && !ask(c))
				busy--;
		}
	}
	return now;
}

int main(int argc, char **argv)
{
	uint64_t began, ended, end;
	double seconds;
	unsigned count;
	int poll = epoll_create1(0);

	if (argc < 9 || (strcmp(argv[4], "fill") != 0) != (argc == 10)) {
		fprintf(stderr,
			"usage: cache_client resp|memcached IP PORT get|set|fill CONNECTIONS DEPTH VALUE_BYTES "
			"KEYS [SECONDS]\n");
		return 2;
	}
	is_resp = strcmp(argv[1], "resp") == 0;
	what = strcmp(argv[4], "get") == 0 ? GET : strcmp(argv[4], "set") == 0 ? SET : FILL;
	count = (unsigned)atoi(argv[5]);
	depth = (unsigned)atoi(argv[6]);
	value_bytes = (unsigned)atoi(argv[7]);
	keys = (unsigned)atoi(argv[8]);
	seconds = argc == 10 ? atof(argv[9]) : 0;
	if (count - 1 >= CONNECTIONS_MAX || depth - 1 >= DEPTH_MAX || value_bytes > VALUE_MAX || keys < 2) {
		fprintf(stderr, "cache_client: too many connections, requests, bytes or keys, or none\n");
		return 2;
	}
	memset(value, 'x', sizeof(value));
	drawn = malloc(DRAWS * sizeof(*drawn));
	answer_bytes = answer_length();
	bw_hist_init(&latency);
	if (what != FILL)
		draw_all();
	connect_all(poll, count, argv[2], argv[3]);
	began = now_ns();
	end = what == FILL ? UINT64_MAX : began + (uint64_t)(seconds * 1.1e9);
	measured_from = what == FILL ? began : began + (uint64_t)(seconds * 0.1e9);
	ended = run(poll, count, end);
	printf("%.1f", (double)answers * 1e9 / (double)(ended - measured_from));
	for (const double *p = (const double[]){ 50, 90, 99, 99.9, 99.99, 100, 0 }; *p > 0; p++)
		printf(" %.2f", (double)bw_hist_percentile(&latency, *p) / 1e3);
	printf("\n");
	return 0;
}
