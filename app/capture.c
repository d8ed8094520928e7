/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * `barewire capture`: the packets of a running instance, for Wireshark. Both ends of it.
 *
 * On the connection, behind the answer: pieces of the file, each with its length before it in 32 bits; one of no bytes
 * behind the last, and then what it comes to, as text with a zero byte. Who asked ends its side when it has enough.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <base/clock.h>
#include <base/log.h>
#include <control/admin.h>
#include <nic/pcapng.h>

#include "app.h"

#define RING_BYTES      (8u << 20) /* a worker */
#define PIECE_BYTES     (512u << 10)
#define IDLE_LOOK_MS    1
#define FULL_LOOK_MS    50
#define END_PATIENCE_NS (2 * BW_NS_PER_SEC)
#define COUNT_MAX       1000000000000u

/** What is asked for, in the order of the request's words. */
struct wish {
	const char *filter; /* empty: none */
	uint64_t count;     /* 0: until told to end */
	bw_ns duration_ns;  /* likewise */
	uint64_t snaplen;
	uint64_t only_dropped;
};

/* ---- the instance --------------------------------------------------------------------------------------------- */

struct bw_app_capture {
	struct bw_app_instance *instance;
	struct bw_capture *capture;
	struct bw_pcapng_conf file;
	char *filter;
	uint64_t count_max;
	bw_ns duration_ns;
	int fd;
	pthread_t thread;
	atomic_bool ends, is_over; /* the instance ends; the thread has */
	/* the thread's */
	uint64_t since_1970_ns; /* what is to be added to the clock */
	uint64_t count, dropped;
	bw_ns gives_up_at;
	size_t used;
	uint8_t piece[sizeof(uint32_t) + PIECE_BYTES];
};

static bool is_asked_to_end(struct bw_app_capture *c)
{
	return atomic_load_explicit(&c->ends, memory_order_relaxed);
}

/** False: who asked is gone, or takes nothing although the instance ends. */
static bool send_all(struct bw_app_capture *c, const uint8_t *bytes, size_t count)
{
	struct pollfd room = { .fd = c->fd, .events = POLLOUT };

	while (count > 0) {
		const ssize_t sent = send(c->fd, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent > 0) {
			bytes += sent;
			count -= (size_t)sent;
			continue;
		}
		if (sent < 0 && errno != EAGAIN && errno != EINTR)
			return false;
		if (is_asked_to_end(c) && c->gives_up_at == BW_NEVER)
			c->gives_up_at = bw_clock_now() + END_PATIENCE_NS;
		if (bw_clock_now() >= c->gives_up_at)
			return false;
		(void)poll(&room, 1, FULL_LOOK_MS);
	}
	return true;
}

/** What has come together in `piece`. */
static bool send_piece(struct bw_app_capture *c)
{
	const uint32_t bytes = (uint32_t)c->used;

	c->used = 0;
	memcpy(c->piece, &bytes, sizeof(bytes));
	return send_all(c, c->piece, sizeof(bytes) + bytes);
}

static uint8_t *room(struct bw_app_capture *c)
{
	return c->piece + sizeof(uint32_t) + c->used;
}

static bool has_enough(const struct bw_app_capture *c)
{
	return c->count_max != 0 && c->count == c->count_max;
}

/** As many packets as there are, and a piece has room for. */
static void collect(struct bw_app_capture *c)
{
	struct bw_captured packet;

	while (!has_enough(c) && c->used + BW_PCAPNG_PACKET_MAX + BW_PCAPNG_TAIL_MAX <= PIECE_BYTES &&
		bw_capture_next(c->capture, &packet)) {
		c->used += bw_pcapng_packet(&packet, packet.at + c->since_1970_ns, room(c));
		c->count++;
		c->dropped += packet.reason < BW_COUNTER_COUNT;
	}
}

/** Has who asked ended its side? */
static bool is_asker_done(const struct bw_app_capture *c, int wait_ms)
{
	struct pollfd asker = { .fd = c->fd, .events = POLLIN | POLLRDHUP };

	return poll(&asker, 1, wait_ms) > 0;
}

static uint64_t now_since_1970(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * BW_NS_PER_SEC + (uint64_t)now.tv_nsec;
}

static void say_result(struct bw_app_capture *c)
{
	const uint64_t lost = bw_capture_lost(c->capture);
	const uint32_t nothing = 0;
	char text[160];
	int bytes;

	bytes = snprintf(text, sizeof(text),
		"%" PRIu64 " packet%s, %" PRIu64 " of them dropped; %" PRIu64
		" more found no room in the ring",
		c->count, c->count == 1 ? "" : "s", c->dropped, lost);
	if (send_all(c, (const uint8_t *)&nothing, sizeof(nothing)))
		(void)send_all(c, (const uint8_t *)text, (size_t)bytes + 1);
}

static void *capture_main(void *arg)
{
	struct bw_app_capture *c = arg;
	const bw_ns began = bw_clock_now();
	bool is_taken = true, is_last = false;

	pthread_setname_np(pthread_self(), "bw-capture");
	c->since_1970_ns = now_since_1970() - began;
	c->gives_up_at = BW_NEVER;
	bw_engine_capture(c->instance->engine, c->capture);
	c->used = bw_pcapng_head(&c->file, room(c));
	while (is_taken && !has_enough(c) && !(is_last && c->used == 0)) {
		if (c->used > 0)
			is_taken = send_piece(c);
		collect(c);
		if (!is_last && (is_asked_to_end(c) || is_asker_done(c, c->used > 0 ? 0 : IDLE_LOOK_MS) ||
					(c->duration_ns != 0 && bw_clock_now() - began >= c->duration_ns))) {
			bw_engine_capture(c->instance->engine, NULL);
			is_last = true;
			collect(c); /* what came until now */
		}
	}
	if (!is_last)
		bw_engine_capture(c->instance->engine, NULL);
	if (is_taken) {
		c->used += bw_pcapng_tail(began + c->since_1970_ns, now_since_1970(),
			c->count + bw_capture_lost(c->capture), bw_capture_lost(c->capture), room(c));
		if (send_piece(c))
			say_result(c);
	}
	close(c->fd);
	atomic_store(&c->is_over, true);
	return NULL;
}

static void release(struct bw_app_capture *c)
{
	if (c == NULL)
		return;
	bw_capture_close(c->capture);
	free(c->filter);
	free(c);
}

/** False: it is of another version. */
static bool take_wish(int argc, char **argv, struct wish *wish)
{
	uint64_t *const numbers[] = { &wish->count, &wish->duration_ns, &wish->snaplen, &wish->only_dropped };

	if (argc != 1 + (int)BW_ARRAY_LEN(numbers))
		return false;
	wish->filter = argv[0];
	for (unsigned i = 0; i < BW_ARRAY_LEN(numbers); i++)
		if (sscanf(argv[1 + i], "%" SCNu64, numbers[i]) != 1)
			return false;
	return wish->snaplen >= 1 && wish->snaplen <= BW_CAPTURE_SNAPLEN_MAX;
}

int bw_app_capture_answer(void *arg, int argc, char **argv, FILE *out)
{
	struct bw_app_instance *instance = arg;
	struct bw_app_capture *c;
	struct wish wish;
	char problem[256] = "";
	int rc = -ENOMEM;

	if (!take_wish(argc, argv, &wish)) {
		fprintf(out, "capture: this instance is of another version, and asked otherwise");
		return -EINVAL;
	}
	if (instance->capture != NULL && !atomic_load(&instance->capture->is_over)) {
		fprintf(out, "capture: there is one under way, and no more than one at a time; end it first");
		return -EBUSY;
	}
	bw_app_capture_end(instance);
	c = calloc(1, sizeof(*c));
	if (c != NULL)
		c->filter = strdup(wish.filter);
	if (c != NULL && c->filter != NULL) {
		const struct bw_capture_conf conf = {
			.filter = wish.filter[0] != '\0' ? c->filter : NULL,
			.snaplen = (uint32_t)wish.snaplen,
			.ring_bytes = RING_BYTES,
			.only_dropped = wish.only_dropped != 0,
		};

		c->instance = instance;
		c->count_max = wish.count;
		c->duration_ns = wish.duration_ns;
		c->file = (struct bw_pcapng_conf){ .application = "barewire " BW_VERSION,
			.interface = instance->plan.spec,
			.filter = conf.filter,
			.snaplen = conf.snaplen };
		rc = bw_capture_open(&conf, bw_engine_worker_count(instance->engine), &c->capture, problem,
			sizeof(problem));
	}
	if (rc == 0) {
		instance->capture = c;
		fprintf(out, "%s", instance->plan.spec);
		return 0;
	}
	if (rc == -EINVAL)
		fprintf(out, "capture: --filter '%.100s': %s; man pcap-filter tells what can be asked for",
			wish.filter, problem);
	else
		fprintf(out, "capture: no memory for the rings, of %u MiB a worker; free some",
			RING_BYTES >> 20);
	release(c);
	return rc;
}

void bw_app_capture_keep(void *arg, int fd)
{
	struct bw_app_instance *instance = arg;
	struct bw_app_capture *c = instance->capture;

	c->fd = fd;
	if (fd >= 0 && pthread_create(&c->thread, NULL, capture_main, c) == 0)
		return;
	if (fd >= 0)
		close(fd);
	release(c);
	instance->capture = NULL;
}

void bw_app_capture_end(struct bw_app_instance *instance)
{
	struct bw_app_capture *c = instance->capture;

	if (c == NULL)
		return;
	atomic_store(&c->ends, true);
	pthread_join(c->thread, NULL);
	release(c);
	instance->capture = NULL;
}

/* ---- who asks ------------------------------------------------------------------------------------------------- */

static void usage(void)
{
	printf("usage: barewire capture [flags] FILE\n\n"
	       "Writes the packets of a running instance, in and out, to a pcapng file for Wireshark or tcpdump -r; - is\n"
	       "standard output. A packet that was dropped has a comment that says why. Until Ctrl-C, unless told otherwise.\n"
	       "Workers never wait for it: what finds no room in the ring is counted.\n\n"
	       "  --filter EXPR      only what pcap-filter(7) EXPR is true of, as in 'tcp port 80 and host 192.0.2.7'\n"
	       "  --drops            only what was dropped\n"
	       "  -c, --count N      so many packets, then end\n"
	       "  -d, --duration TIME  so long, then end\n"
	       "  -s, --snaplen BYTES  so much of each packet; default %u\n"
	       "  --instance PID     where more than one runs\n",
		BW_CAPTURE_SNAPLEN_MAX);
}

struct request {
	struct wish wish;
	const char *path;
	int pid;
};

/** A flag with its value. 0, or -EINVAL after one line. */
static int take_flag(struct request *request, const char *flag, const char *value)
{
	struct wish *wish = &request->wish;

	if (strcmp(flag, "--filter") == 0) {
		wish->filter = value;
		return 0;
	}
	if (strcmp(flag, "--instance") == 0)
		return bw_app_pid_parse("capture", value, &request->pid);
	if (strcmp(flag, "-c") == 0 || strcmp(flag, "--count") == 0)
		return bw_conf_quantity(flag, BW_CONF_NUMBER, value, 1, COUNT_MAX, &wish->count);
	if (strcmp(flag, "-d") == 0 || strcmp(flag, "--duration") == 0)
		return bw_conf_quantity(flag, BW_CONF_DURATION, value, BW_NS_PER_MS, 86400 * BW_NS_PER_SEC,
			&wish->duration_ns);
	if (strcmp(flag, "-s") == 0 || strcmp(flag, "--snaplen") == 0)
		return bw_conf_quantity(
			flag, BW_CONF_NUMBER, value, 1, BW_CAPTURE_SNAPLEN_MAX, &wish->snaplen);
	bw_error("capture: %.60s: no such flag; barewire capture --help tells more", flag);
	return -EINVAL;
}

/** 0, 1: its help was asked for, or -errno after one line. */
static int parse(struct request *request, int argc, char **argv)
{
	for (int i = 0; i < argc; i++) {
		const char *word = argv[i];
		int rc = 0;

		if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
			return 1;
		if (strcmp(word, "--drops") == 0) {
			request->wish.only_dropped = 1;
		} else if (word[0] == '-' && word[1] != '\0') {
			if (i + 1 == argc) {
				bw_error(
					"capture: %.60s needs a value behind it; barewire capture --help tells more",
					word);
				return -EINVAL;
			}
			rc = take_flag(request, word, argv[++i]);
		} else if (request->path != NULL) {
			bw_error("capture: %.60s: one file; a filter goes behind --filter, in quotes", word);
			rc = -EINVAL;
		} else {
			request->path = word;
		}
		if (rc != 0)
			return rc;
	}
	if (request->path == NULL) {
		bw_error("capture: to which file? give one such as packets.pcapng, or - for standard output");
		return -EINVAL;
	}
	return 0;
}

/** 0 with the connection, and what is captured in `from`, to be freed; else as bw_admin_ask(). */
static int ask(const struct request *request, int *connection, char **from)
{
	char number[4][24];
	char *words[] = { "capture", (char *)(uintptr_t)request->wish.filter, number[0], number[1], number[2],
		number[3] };
	const uint64_t values[] = { request->wish.count, request->wish.duration_ns, request->wish.snaplen,
		request->wish.only_dropped };
	size_t bytes;
	FILE *out = open_memstream(from, &bytes);
	int rc = -ENOMEM;

	for (unsigned i = 0; i < BW_ARRAY_LEN(values); i++)
		snprintf(number[i], sizeof(number[i]), "%" PRIu64, values[i]);
	if (out != NULL) {
		rc = bw_admin_ask_on(request->pid, BW_ARRAY_LEN(words), words, out, connection);
		fclose(out);
	}
	return rc;
}

static volatile sig_atomic_t connection_to_end = -1;

/** The instance sends what it has, and ends. */
static void end_it(int which)
{
	(void)which;
	shutdown(connection_to_end, SHUT_WR);
}

/** Bytes that the instance has announced. False: it is gone. */
static bool receive(int fd, void *out, size_t count)
{
	while (count > 0) {
		const ssize_t got = recv(fd, out, count, MSG_WAITALL);

		if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN))
			return false;
		out = (char *)out + BW_MAX(got, 0);
		count -= (size_t)BW_MAX(got, 0);
	}
	return true;
}

/** All pieces, and the result. 0, or -errno after one line. */
static int copy(int connection, int file, const char *path, char *result, size_t result_bytes)
{
	static uint8_t piece[PIECE_BYTES];
	uint32_t bytes;

	while (receive(connection, &bytes, sizeof(bytes)) && bytes <= sizeof(piece)) {
		size_t done = 0;

		if (bytes == 0) {
			ssize_t got = recv(connection, result, result_bytes - 1, MSG_WAITALL);

			result[BW_MAX(got, 0)] = '\0';
			return 0;
		}
		if (!receive(connection, piece, bytes))
			break;
		while (done < bytes) {
			const ssize_t some = write(file, piece + done, bytes - done);

			if (some < 0 && errno != EINTR) {
				bw_error("capture: %s: %s; what was written until now is whole packets", path,
					strerror(errno));
				return -errno;
			}
			done += (size_t)BW_MAX(some, 0);
		}
	}
	bw_error("capture: the instance is gone; %s has what came until then", path);
	return -ECONNRESET;
}

static int run(const struct request *request)
{
	const bool is_stdout = strcmp(request->path, "-") == 0;
	const struct sigaction ends = { .sa_handler = end_it };
	char *from = NULL, result[200];
	int connection, file, rc = ask(request, &connection, &from);

	if (rc != 0) {
		free(from);
		return rc == 1 ? EXIT_LOST : EXIT_REFUSED;
	}
	file = is_stdout ? STDOUT_FILENO
			 : open(request->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (file < 0) {
		bw_error("capture: %s: %s", request->path, strerror(errno));
		rc = -errno;
	} else {
		connection_to_end = connection;
		sigaction(SIGINT, &ends, NULL);
		sigaction(SIGTERM, &ends, NULL);
		signal(SIGPIPE, SIG_IGN);
		if (request->wish.count == 0 && request->wish.duration_ns == 0)
			fprintf(stderr, "capturing on %s; Ctrl-C ends it\n", from);
		rc = copy(connection, file, request->path, result, sizeof(result));
		if (rc == 0)
			fprintf(is_stdout ? stderr : stdout, "%s\n", result);
	}
	if (file >= 0 && !is_stdout)
		close(file);
	close(connection);
	free(from);
	return rc == 0 ? EXIT_OK : EXIT_LOST;
}

int bw_app_capture(int argc, char **argv)
{
	struct request request = { .wish = { .filter = "", .snaplen = BW_CAPTURE_SNAPLEN_MAX } };
	int rc = parse(&request, argc, argv);

	if (rc > 0)
		usage();
	return rc > 0 ? EXIT_OK : rc < 0 ? EXIT_REFUSED : run(&request);
}
