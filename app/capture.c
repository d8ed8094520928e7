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
#define ANOTHER_VERSION "capture: this instance is of another version, and is asked otherwise"

_Static_assert(BW_DEVICES_MAX <= BW_PCAPNG_INTERFACES_MAX, "each device is an interface of the file");

/** What is asked for, in the order of the request's words. */
struct wish {
	const char *program, *filter; /* compiled, and as it was given; empty: none */
	uint64_t count;               /* 0: until told to end */
	bw_ns duration_ns;            /* likewise */
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
	bool is_detached; /* no worker fills the rings any more */
	bw_ns began_at;
	uint64_t since_1970_ns; /* what is to be added to the clock */
	uint64_t count, dropped;
	bw_ns gives_up_at;
	size_t used;
	uint8_t piece[sizeof(uint32_t) + PIECE_BYTES];
};

/** Has who asked ended its side? */
static bool is_asker_done(const struct bw_app_capture *c, int wait_ms)
{
	struct pollfd asker = { .fd = c->fd, .events = POLLIN | POLLRDHUP };

	return poll(&asker, 1, wait_ms) > 0;
}

static bool is_to_end(const struct bw_app_capture *c, int wait_ms)
{
	return atomic_load(&c->ends) || is_asker_done(c, wait_ms) ||
	       (c->duration_ns != 0 && bw_clock_now() - c->began_at >= c->duration_ns);
}

/** What the rings hold then is all that is still to come. */
static void detach(struct bw_app_capture *c)
{
	if (!c->is_detached)
		bw_engine_capture(c->instance->engine, NULL);
	c->is_detached = true;
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
		if (is_to_end(c, 0))
			detach(c);
		if (atomic_load(&c->ends) && c->gives_up_at == BW_NEVER)
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
	bool is_taken = true;

	pthread_setname_np(pthread_self(), "bw-capture");
	c->gives_up_at = BW_NEVER;
	c->began_at = bw_clock_now();
	c->since_1970_ns = now_since_1970() - c->began_at;
	bw_engine_capture(c->instance->engine, c->capture);
	c->used = bw_pcapng_head(&c->file, room(c));
	while (is_taken && !has_enough(c) && !(c->is_detached && c->used == 0)) {
		if (c->used > 0)
			is_taken = send_piece(c);
		collect(c);
		if (!c->is_detached && is_to_end(c, c->used > 0 ? 0 : IDLE_LOOK_MS)) {
			detach(c);
			collect(c); /* what came until now */
		}
	}
	detach(c);
	if (is_taken) {
		const uint64_t lost = bw_capture_lost(c->capture);

		c->used += bw_pcapng_tail(c->began_at + c->since_1970_ns, bw_clock_now() + c->since_1970_ns,
			c->count + lost, lost, room(c));
		if (send_piece(c))
			say_result(c);
	}
	/* First: who asked may ask again once it is told that this is over. */
	atomic_store(&c->is_over, true);
	close(c->fd);
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

	if (argc != 2 + (int)BW_ARRAY_LEN(numbers))
		return false;
	wish->program = argv[0];
	wish->filter = argv[1];
	for (unsigned i = 0; i < BW_ARRAY_LEN(numbers); i++)
		if (sscanf(argv[2 + i], "%" SCNu64, numbers[i]) != 1)
			return false;
	return wish->snaplen >= 1 && wish->snaplen <= BW_CAPTURE_SNAPLEN_MAX;
}

int bw_app_capture_answer(void *arg, int argc, char **argv, FILE *out)
{
	struct bw_app_instance *instance = arg;
	struct bw_app_capture *c;
	struct wish wish;
	int rc = -ENOMEM;

	if (!take_wish(argc, argv, &wish)) {
		fprintf(out, ANOTHER_VERSION);
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
			.filter = wish.program[0] != '\0' ? wish.program : NULL,
			.snaplen = (uint32_t)wish.snaplen,
			.ring_bytes = RING_BYTES,
			.only_dropped = wish.only_dropped != 0,
		};

		c->instance = instance;
		c->count_max = wish.count;
		c->duration_ns = wish.duration_ns;
		c->file = (struct bw_pcapng_conf){ .application = "barewire " BW_VERSION,
			.interface_count = instance->device_count,
			.filter = conf.filter != NULL ? c->filter : NULL,
			.snaplen = conf.snaplen };
		for (unsigned i = 0; i < instance->device_count; i++)
			c->file.interfaces[i] = instance->devices[i].plan.spec;
		rc = bw_capture_open(&conf, bw_engine_worker_count(instance->engine), &c->capture);
	}
	if (rc == 0) {
		instance->capture = c;
		for (unsigned i = 0; i < instance->device_count; i++)
			fprintf(out, "%s%s", i > 0 ? ", " : "", instance->devices[i].plan.spec);
		return 0;
	}
	if (rc == -EINVAL)
		fprintf(out, ANOTHER_VERSION);
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

	int rc = 0;

	c->fd = fd;
	if (fd >= 0)
		rc = pthread_create(&c->thread, NULL, capture_main, c);
	if (fd >= 0 && rc == 0)
		return;
	if (rc != 0)
		bw_error("capture: no thread for it: %s", strerror(rc));
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
	       "standard output. What came in and was dropped has a comment that says why. Until Ctrl-C, unless told otherwise.\n"
	       "Workers never wait for it: what finds no room in the ring is counted.\n\n"
	       "  --filter EXPR        only what pcap-filter(7) EXPR is true of, as in 'tcp port 80 and host 192.0.2.7'\n"
	       "  --drops              only what was dropped\n"
	       "  -c, --count N        so many packets, then end\n"
	       "  -d, --duration TIME  so long, then end\n"
	       "  -s, --snaplen BYTES  so much of each packet; default %u\n"
	       "  --instance PID       where more than one runs\n",
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

/** Here and not in the instance, which must not wait for the address of a name. 0, or -errno after one line. */
static int compile(const char *filter, char **program)
{
	char problem[256];
	int rc;

	*program = NULL;
	if (filter[0] == '\0')
		return 0;
	rc = bw_capture_filter(filter, program, problem, sizeof(problem));
	if (rc == -EINVAL)
		bw_error("capture: --filter '%.100s': %s; man pcap-filter tells what can be asked for",
			filter, problem);
	else if (rc != 0)
		bw_error("capture: no memory for the filter; free some");
	return rc;
}

/** 0 with the connection, and what is captured in `from`, to be freed; else as bw_admin_ask(). */
static int ask(const struct request *request, char *program, int *connection, char **from)
{
	char number[4][24], none[] = "";
	char *words[] = { "capture", program != NULL ? program : none,
		(char *)(uintptr_t)request->wish.filter, number[0], number[1], number[2], number[3] };
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

/** The instance sends what it has, and ends. A second signal ends this process, whatever it waits for. */
static void end_it(int which)
{
	const int before = errno;

	(void)which;
	shutdown(connection_to_end, SHUT_WR);
	errno = before;
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

/** Up to its zero byte. False: the instance is gone. */
static bool receive_text(int fd, char *out, size_t max)
{
	for (size_t i = 0; i < max; i++) {
		if (!receive(fd, out + i, 1))
			return false;
		if (out[i] == '\0')
			return true;
	}
	return false;
}

/** Where a piece is written. */
struct sink {
	int fd;
	const char *path;
	off_t whole;  /* bytes, of whole pieces */
	bool is_shut; /* who read it has enough */
};

/** 0, or -errno after one line. */
static int write_piece(struct sink *sink, const uint8_t *piece, size_t bytes)
{
	size_t done = 0;

	while (done < bytes) {
		const ssize_t some = write(sink->fd, piece + done, bytes - done);

		if (some < 0 && errno == EPIPE) {
			sink->is_shut = true;
			return 0;
		}
		if (some < 0 && errno != EINTR) {
			const int error = errno;

			/* A part of it may have found room. Of what is no file, nothing can be taken back. */
			if (ftruncate(sink->fd, sink->whole) == 0)
				(void)lseek(sink->fd, sink->whole, SEEK_SET);
			bw_error("capture: %s: %s; what was captured before is there", sink->path,
				strerror(error));
			return -error;
		}
		done += (size_t)BW_MAX(some, 0);
	}
	sink->whole += (off_t)bytes;
	return 0;
}

/** All pieces, and the result. 0, or -errno after one line. */
static int copy(int connection, struct sink *sink, char *result, size_t result_bytes)
{
	static uint8_t piece[PIECE_BYTES];
	uint32_t bytes;

	while (receive(connection, &bytes, sizeof(bytes)) && bytes <= sizeof(piece)) {
		int rc = 0;

		if (bytes == 0 && receive_text(connection, result, result_bytes))
			return 0;
		if (bytes == 0 || !receive(connection, piece, bytes))
			break;
		if (!sink->is_shut)
			rc = write_piece(sink, piece, bytes);
		if (rc != 0)
			return rc;
		if (sink->is_shut)
			shutdown(connection, SHUT_WR);
	}
	bw_error("capture: the instance is gone; %s has what came until then", sink->path);
	return -ECONNRESET;
}

/** 0, or -errno after one line. */
static int open_sink(const char *path, struct sink *sink)
{
	*sink = (struct sink){ .fd = STDOUT_FILENO, .path = path };
	if (strcmp(path, "-") != 0)
		sink->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (sink->fd < 0) {
		bw_error("capture: %s: %s", path, strerror(errno));
		return -errno;
	}
	return 0;
}

static void listen_to_signals(int connection)
{
	const struct sigaction ends = { .sa_handler = end_it, .sa_flags = (int)SA_RESETHAND };

	connection_to_end = connection;
	sigaction(SIGINT, &ends, NULL);
	sigaction(SIGTERM, &ends, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static int run(const struct request *request)
{
	const bool is_stdout = strcmp(request->path, "-") == 0;
	char *program, *from = NULL, result[200];
	struct sink sink = { .fd = -1 };
	int connection = -1, rc;

	if (is_stdout && isatty(STDOUT_FILENO)) {
		bw_error("capture: -: a terminal shows no packets; add | tcpdump -nr -, or give a file");
		return EXIT_REFUSED;
	}
	rc = compile(request->wish.filter, &program);
	if (rc == 0)
		rc = ask(request, program, &connection, &from);
	free(program);
	if (rc != 0) {
		free(from);
		return rc == 1 ? EXIT_LOST : EXIT_REFUSED;
	}
	rc = open_sink(request->path, &sink);
	if (rc == 0) {
		listen_to_signals(connection);
		if (request->wish.count == 0 && request->wish.duration_ns == 0)
			fprintf(stderr, "capturing on %s; Ctrl-C ends it\n", from);
		rc = copy(connection, &sink, result, sizeof(result));
	}
	if (rc == 0)
		fprintf(is_stdout ? stderr : stdout, "%s\n", result);
	if (sink.fd >= 0 && !is_stdout)
		close(sink.fd);
	close(connection);
	free(from);
	return rc == 0 ? EXIT_OK : EXIT_LOST;
}

int bw_app_capture(int argc, char **argv)
{
	struct request request = { .wish = {
					   .program = "", .filter = "", .snaplen = BW_CAPTURE_SNAPLEN_MAX } };
	int rc = parse(&request, argc, argv);

	if (rc > 0)
		usage();
	return rc > 0 ? EXIT_OK : rc < 0 ? EXIT_REFUSED : run(&request);
}
