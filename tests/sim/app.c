/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Applications on the public service interface, that check every byte which they receive.
 *
 * A job is one connection between two hosts. Each of its ends sends a piece of one long block of random bytes, from a
 * place that the job chose, so that any byte's place in its stream tells what it has to be. In a talk, requests and
 * responses alternate: an end sends the next one when what it waits for has come whole. The other kinds of job use the
 * services that Barewire comes with.
 *
 * Who reads slowly, holds views, sends by reference, closes first, or resets, is drawn from the seed.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <service/http.h>

#include "sim.h"

#define PATTERN_BYTES 1048583u /* prime: streams do not repeat where buffers and windows do */
#define PATTERN_TAIL  65536u
#define ROUNDS_MAX    16
#define HELLO_BYTES   16 /* of a talk, from the client: which job it is */
#define HELLO_MAGIC   0x73696d75u
#define HOLDS         4
#define FILES         8
#define REQUESTS_MAX  8
#define CLIENT_PORT   4000
#define TALK_PORT     4001

enum side_index {
	CLIENT,
	SERVER,
};

enum manner {
	SEND_COPY,
	SEND_RESERVE,
	SEND_REF,
};

enum ending {
	END_CLIENT_CLOSES, /* when it has everything */
	END_HALF_CLOSE,    /* the client's half when it has said everything */
	END_SERVER_CLOSES, /* when it has said and heard everything */
	END_CLIENT_RESETS, /* somewhere */
	ENDINGS,
};

/** One end of a job's connection. */
struct side {
	uint64_t in, in_total, out, out_total; /* bytes, positions in the streams */
	uint32_t in_place, out_place;          /* of their first bytes in the pattern */
	enum manner manner;
	uint32_t sip_bytes; /* a slow reader takes so many at a time; 0: a quick one */
	bw_ns sip_gap_ns;
	uint32_t allowance;
	bool has_peers_end, is_shut, is_closing, holds_views;
	struct bw_hold *hold[HOLDS];
	unsigned hold_count;
};

struct job {
	struct bw_mail mail;
	enum sim_job_kind kind;
	enum sim_job_state state;
	enum ending ending;
	unsigned number, client, server, family, rounds;
	unsigned worker;                                            /* that connects */
	uint64_t request_end[ROUNDS_MAX], response_end[ROUNDS_MAX]; /* positions */
	bool is_duplex;                                             /* nobody waits for anybody */
	bw_ns think_ns;      /* before the client's next request; 0: it has them ready */
	unsigned thought_of; /* requests; of those that think */
	uint64_t resets_at;
	bw_ns received_at; /* the server's last byte so far */
	int reason;        /* of its end: enum bw_close_reason, or -errno */
	struct side side[2];
	/* HTTP */
	uint8_t file[REQUESTS_MAX];
	unsigned requests, responses;
	char text[1024], head[1024]; /* requests; a response's header so far */
	unsigned head_bytes;
	uint64_t body_left, body_at;
};

/** What a stream's state holds. */
struct end {
	struct job *job; /* NULL: a talk's server that has not been told yet */
	uint8_t hello[HELLO_BYTES];
	uint8_t hello_bytes;
};

static uint8_t *pattern;
static struct job *jobs;
static unsigned job_count, jobs_left;
static uint64_t bytes_checked;
static int refs_out, streams_open;
static char root[64];
static uint32_t file_bytes[FILES] = { 0, 1, 700, 1448, 9000, 65536, 200000, 700000 };
static struct bw_http_conf http[SIM_HOSTS_MAX];
static bool is_halting; /* a host's engine is being ended */

/* ---- the bytes ------------------------------------------------------------------------------------------- */

static uint32_t file_place(unsigned file)
{
	return (uint32_t)(sim_mix(file + 1) % PATTERN_BYTES);
}

static const uint8_t *pattern_at(uint32_t place, uint64_t offset)
{
	return pattern + (place + offset) % PATTERN_BYTES;
}

static void check_bytes(
	const struct job *job, uint32_t place, uint64_t offset, const uint8_t *data, uint32_t len)
{
	bytes_checked += len;
	for (uint32_t done = 0; done < len;) {
		uint32_t n = BW_MIN(len - done, PATTERN_TAIL);
		const uint8_t *expected = pattern_at(place, offset + done);

		if (memcmp(data + done, expected, n) != 0) {
			uint32_t at = 0;

			while (data[done + at] == expected[at])
				at++;
			sim_fail("job %u: byte %lu is %02x, not %02x", job->number, offset + done + at,
				data[done + at], expected[at]);
		}
		done += n;
	}
}

static void make_files(void)
{
	snprintf(root, sizeof(root), "/tmp/barewire-sim-XXXXXX");
	if (mkdtemp(root) == NULL)
		exit(2);
	for (unsigned i = 0; i < FILES; i++) {
		struct timespec times[2] = { { .tv_sec = 1700000000 }, { .tv_sec = 1700000000 } };
		char path[96];
		FILE *file;

		snprintf(path, sizeof(path), "%s/f%u", root, i);
		file = fopen(path, "w");
		if (file == NULL)
			exit(2);
		for (uint32_t done = 0; done < file_bytes[i];) {
			uint32_t n = BW_MIN(file_bytes[i] - done, PATTERN_TAIL);

			if (fwrite(pattern_at(file_place(i), done), 1, n, file) != n)
				exit(2);
			done += n;
		}
		fclose(file);
		if (utimensat(AT_FDCWD, path, times, 0) != 0)
			exit(2);
	}
}

void sim_apps_open(void)
{
	struct sim_chance chance = { 1 };

	pattern = malloc(PATTERN_BYTES + PATTERN_TAIL);
	jobs = calloc(SIM_JOBS_MAX, sizeof(*jobs));
	BW_ASSERT(pattern != NULL && jobs != NULL);
	for (uint32_t i = 0; i < PATTERN_BYTES; i++)
		pattern[i] = (uint8_t)sim_draw(&chance);
	memcpy(pattern + PATTERN_BYTES, pattern, PATTERN_TAIL);
	make_files();
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void sim_apps_close(void)
{
	nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	free(pattern);
	free(jobs);
}

/* ---- the end of a job ------------------------------------------------------------------------------------ */

/**
 * Who resets may be reset; and so may be who reads slowly, for a peer that has closed waits for two seconds
 * (bw_tcp_close()).
 */
static bool may_be_reset(const struct job *job)
{
	return job->ending == END_CLIENT_RESETS || job->side[CLIENT].sip_bytes != 0 ||
	       job->side[SERVER].sip_bytes != 0;
}

static void job_over(struct job *job, enum sim_job_state state, int reason)
{
	if (job->state == SIM_JOB_DONE || job->state == SIM_JOB_ENDED)
		return;
	job->state = state;
	job->reason = reason;
	jobs_left--;
	if (state == SIM_JOB_ENDED && (sim.profile->flags & SIM_MUST_COMPLETE) &&
		job->ending != END_CLIENT_RESETS && !(reason == BW_CLOSE_RESET && may_be_reset(job)))
		sim_fail(
			"job %u ended with reason %d at %lu of %lu bytes in, %lu of %lu out, and nothing entitled it to",
			job->number, reason, job->side[CLIENT].in, job->side[CLIENT].in_total,
			job->side[CLIENT].out, job->side[CLIENT].out_total);
}

static bool has_all(const struct side *side)
{
	return side->in == side->in_total;
}

static bool has_said_all(const struct side *side)
{
	return side->out == side->out_total;
}

/* ---- sending --------------------------------------------------------------------------------------------- */

static void on_release(void *arg)
{
	(void)arg;
	refs_out--;
	BW_ASSERT_LE(0, refs_out);
}

/** Returns how many bytes were taken. */
static uint32_t send_somehow(struct bw_stream *s, enum manner manner, const uint8_t *data, uint32_t len)
{
	uint32_t n;
	void *room;

	switch (manner) {
	case SEND_RESERVE:
		n = BW_MIN(len, 1 + (uint32_t)sim_below(&sim.app, 1024));
		room = bw_stream_reserve(s, n);
		if (room == NULL)
			return 0;
		memcpy(room, data, n);
		bw_stream_commit(s, n);
		return n;
	case SEND_REF:
		n = BW_MIN(len, bw_stream_space(s));
		refs_out++;
		if (n != 0 && bw_stream_send_ref(s, data, n, on_release, NULL) == 0)
			return n;
		refs_out--;
		return bw_stream_send(s, data, len); /* what does not fit is remembered: writable() comes */
	default:
		return bw_stream_send(s, data, len);
	}
}

/** How far an end may go in its stream with what it has heard. */
static uint64_t out_limit(const struct job *job, enum side_index which)
{
	const struct side *side = &job->side[which];
	const uint64_t *mine = which == CLIENT ? job->request_end : job->response_end;
	const uint64_t *theirs = which == CLIENT ? job->response_end : job->request_end;
	unsigned heard = 0;

	if (job->kind != SIM_JOB_TALK || job->is_duplex)
		return side->out_total;
	while (heard < job->rounds && side->in >= theirs[heard])
		heard++;
	if (which == CLIENT && job->think_ns != 0)
		heard = BW_MIN(heard, job->thought_of);
	if (which == CLIENT)
		return heard < job->rounds ? mine[heard] : side->out_total;
	return heard > 0 ? mine[heard - 1] : 0;
}

/** A response is complete: the next request takes a while. */
static bool has_to_think(const struct job *job)
{
	return job->think_ns != 0 && job->thought_of + 1 < job->rounds &&
	       job->side[CLIENT].in >= job->response_end[job->thought_of];
}

static void send_hello(struct job *job, uint8_t hello[HELLO_BYTES])
{
	uint64_t number = job->number, magic = HELLO_MAGIC;

	memcpy(hello, &magic, 8);
	memcpy(hello + 8, &number, 8);
}

static void finish(struct bw_stream *s, struct job *job, enum side_index which);

static void pump(struct bw_stream *s, struct job *job, enum side_index which)
{
	struct side *side = &job->side[which];
	uint64_t limit = out_limit(job, which);

	if (side->is_closing || side->is_shut)
		return;
	while (side->out < limit) {
		uint8_t hello[HELLO_BYTES];
		const uint8_t *data = pattern_at(side->out_place, side->out);
		uint32_t len = (uint32_t)BW_MIN(limit - side->out, (uint64_t)PATTERN_TAIL), taken;
		enum manner manner = side->manner;

		if (job->kind == SIM_JOB_HTTP) {
			data = (const uint8_t *)job->text + side->out;
			manner = SEND_COPY;
		} else if (job->kind == SIM_JOB_TALK && which == CLIENT && side->out < HELLO_BYTES) {
			send_hello(job, hello);
			data = hello + side->out;
			len = BW_MIN(len, HELLO_BYTES - (uint32_t)side->out);
			manner = SEND_COPY;
		}
		taken = send_somehow(s, manner, data, len);
		side->out += taken;
		/* A send that is cut short is what asks for writable(). */
		if (taken == 0 || (taken < len && manner == SEND_COPY))
			break;
	}
	finish(s, job, which);
}

static void release_holds(struct side *side)
{
	for (unsigned i = 0; i < side->hold_count; i++)
		bw_hold_release(side->hold[i]);
	side->hold_count = 0;
}

/** Close, half or whole, when the time has come for it. */
static void finish(struct bw_stream *s, struct job *job, enum side_index which)
{
	struct side *side = &job->side[which];
	bool is_done = has_all(side) && has_said_all(side);

	if (side->is_closing)
		return;
	if (which == CLIENT && job->ending == END_CLIENT_RESETS && side->in + side->out >= job->resets_at) {
		side->is_closing = true;
		bw_stream_abort(s);
		return;
	}
	if (which == CLIENT && job->ending == END_HALF_CLOSE && has_said_all(side) && !side->is_shut) {
		side->is_shut = true;
		bw_stream_shutdown(s);
	}
	if (!is_done)
		return;
	if (side->has_peers_end || (which == CLIENT && job->ending == END_CLIENT_CLOSES) ||
		(which == SERVER && job->ending == END_SERVER_CLOSES)) {
		side->is_closing = true;
		bw_stream_close(s);
	}
}

/* ---- receiving ------------------------------------------------------------------------------------------- */

/** Returns how many bytes of a response were taken. */
static uint32_t take_http(struct job *job, const uint8_t *data, uint32_t len)
{
	uint32_t done = 0;

	while (done < len && job->body_left == 0) {
		const char *length;

		if (job->responses == job->requests)
			sim_fail("job %u: bytes behind the last response", job->number);
		if (job->head_bytes == sizeof(job->head) - 1)
			sim_fail("job %u: a response's header has no end", job->number);
		job->head[job->head_bytes++] = (char)data[done++];
		if (job->head_bytes < 4 || memcmp(job->head + job->head_bytes - 4, "\r\n\r\n", 4) != 0)
			continue;
		job->head[job->head_bytes] = '\0';
		length = strstr(job->head, "Content-Length: ");
		if (strncmp(job->head, "HTTP/1.1 200 ", 13) != 0 || length == NULL)
			sim_fail("job %u: %.60s", job->number, job->head);
		job->body_left = strtoull(length + 16, NULL, 10);
		if (job->body_left != file_bytes[job->file[job->responses]])
			sim_fail("job %u: a file of %lu bytes has %u", job->number, job->body_left,
				file_bytes[job->file[job->responses]]);
		job->body_at = 0;
		job->head_bytes = 0;
		if (job->body_left == 0)
			job->responses++;
	}
	if (done < len) {
		uint32_t n = (uint32_t)BW_MIN((uint64_t)(len - done), job->body_left);

		check_bytes(job, file_place(job->file[job->responses]), job->body_at, data + done, n);
		job->body_at += n;
		job->body_left -= n;
		done += n;
		if (job->body_left == 0)
			job->responses++;
	}
	if (job->responses == job->requests)
		job->side[CLIENT].in_total = job->side[CLIENT].in + done;
	return done;
}

static uint32_t take(struct job *job, struct side *side, const uint8_t *data, uint32_t len)
{
	if (job->kind == SIM_JOB_HTTP)
		return take_http(job, data, len);
	if (len > side->in_total - side->in)
		sim_fail("job %u: %lu bytes more than there are", job->number,
			side->in + len - side->in_total);
	check_bytes(job, side->in_place, side->in, data, len);
	return len;
}

/** A server may be too busy, and say so by closing: what it has sent was all. */
static void finish_early(struct bw_stream *s, const struct job *job, struct side *side, uint32_t unread)
{
	if (job->kind != SIM_JOB_HTTP || !side->has_peers_end || side->is_closing || unread != 0)
		return;
	side->is_closing = true;
	bw_stream_close(s);
}

static uint32_t receive(struct bw_stream *s, struct job *job, enum side_index which,
	const struct bw_view *views, unsigned count)
{
	struct side *side = &job->side[which];
	uint32_t done = 0;

	for (unsigned i = 0; i < count; i++) {
		uint32_t len = views[i].len;

		if (side->sip_bytes != 0)
			len = BW_MIN(len, side->allowance);
		if (len != 0 && side->holds_views && side->hold_count < HOLDS) {
			side->hold[side->hold_count] = bw_stream_hold(s, &views[i]);
			side->hold_count += side->hold[side->hold_count] != NULL;
		} else {
			release_holds(side);
		}
		for (uint32_t at = 0; at < len;) {
			uint32_t n = take(job, side, views[i].data + at, len - at);

			side->in += n;
			at += n;
		}
		side->allowance -= side->sip_bytes != 0 ? len : 0;
		done += len;
		if (len < views[i].len)
			break;
	}
	if (which == CLIENT && has_to_think(job))
		bw_stream_set_timer(s, bw_stream_now(s) + job->think_ns);
	if (side->sip_bytes != 0 && side->allowance == 0)
		bw_stream_set_timer(s, bw_stream_now(s) + side->sip_gap_ns);
	if (which == SERVER)
		job->received_at = sim.now;
	pump(s, job, which);
	finish_early(s, job, side, bw_stream_unread(s) - done);
	return done;
}

static void on_timer_of(struct bw_stream *s, struct job *job, enum side_index which)
{
	struct side *side = &job->side[which];

	side->allowance = side->sip_bytes;
	bw_stream_wake(s);
	if (which == CLIENT && has_to_think(job)) {
		job->thought_of++;
		pump(s, job, which);
	}
}

static void on_peers_end(struct bw_stream *s, struct job *job, enum side_index which)
{
	struct side *side = &job->side[which];
	uint32_t unread = bw_stream_unread(s);

	if (job->kind != SIM_JOB_HTTP && side->in + unread != side->in_total)
		sim_fail("job %u: %s sees the end of the stream after %lu of %lu bytes", job->number,
			which == CLIENT ? "the client" : "the server", side->in + unread, side->in_total);
	side->has_peers_end = true;
	finish(s, job, which);
	finish_early(s, job, side, unread);
}

static void on_end_of(struct job *job, enum side_index which, enum bw_close_reason reason)
{
	struct side *side = &job->side[which];
	bool is_whole = has_all(side) && has_said_all(side);

	release_holds(side);
	if (reason == BW_CLOSE_NORMAL && !is_whole && job->kind != SIM_JOB_HTTP)
		sim_fail("job %u: %s's connection ended in order at %lu of %lu bytes in, %lu of %lu out",
			job->number, which == CLIENT ? "the client" : "the server", side->in, side->in_total,
			side->out, side->out_total);
	/* The last FIN's fate is nobody's loss: all is said and heard, and the lingering close had its time. */
	if (which == CLIENT)
		job_over(job,
			is_whole && (reason == BW_CLOSE_NORMAL || side->is_closing) ? SIM_JOB_DONE
										    : SIM_JOB_ENDED,
			(int)reason);
}

/* ---- the client ------------------------------------------------------------------------------------------ */

static struct end *end_of(struct bw_stream *s)
{
	return bw_stream_state(s);
}

static uint16_t port_of(enum sim_job_kind kind)
{
	static const uint16_t port[SIM_JOB_KINDS] = { TALK_PORT, 7, 9, 80, 7 };

	return port[kind];
}

static void send_datagram(struct bw_context *ctx, struct job *job)
{
	struct bw_flow flow = {
		.local = sim.host[job->client].ip[job->family],
		.remote = sim.host[job->server].ip[job->family],
		.local_port_be = __builtin_bswap16(CLIENT_PORT),
		.remote_port_be = __builtin_bswap16(7),
	};
	uint32_t len = (uint32_t)job->side[CLIENT].out_total;
	static uint8_t data[65536];

	send_hello(job, data);
	memcpy(data + HELLO_BYTES, pattern_at(job->side[CLIENT].out_place, 0), len - HELLO_BYTES);
	bw_datagram_reply(ctx, &(struct bw_datagram){ .flow = &flow }, data, len);
	job_over(job, SIM_JOB_DONE, 0); /* whether it arrives is nobody's promise */
}

static void client_mail(struct bw_context *ctx, struct bw_mail *mail)
{
	struct job *job = bw_container_of(mail, struct job, mail);
	struct bw_stream *s = NULL;

	if (is_halting) {
		job_over(job, SIM_JOB_ENDED, -ECANCELED);
		return;
	}
	if (bw_context_worker(ctx) != job->worker) {
		bw_mail_post(ctx, job->worker, mail);
		return;
	}
	if (job->kind == SIM_JOB_DATAGRAM) {
		send_datagram(ctx, job);
		return;
	}
	s = bw_stream_connect(ctx, &sim.host[job->server].ip[job->family], port_of(job->kind));
	if (s == NULL) {
		job_over(job, SIM_JOB_ENDED, -errno);
		return;
	}
	streams_open++;
	end_of(s)->job = job;
}

static void client_opened(struct bw_stream *s)
{
	pump(s, end_of(s)->job, CLIENT);
}

static uint32_t client_data(struct bw_stream *s, const struct bw_view *views, unsigned count)
{
	return receive(s, end_of(s)->job, CLIENT, views, count);
}

static void client_writable(struct bw_stream *s)
{
	pump(s, end_of(s)->job, CLIENT);
}

static void client_peer_closed(struct bw_stream *s)
{
	on_peers_end(s, end_of(s)->job, CLIENT);
}

static void client_closed(struct bw_stream *s, enum bw_close_reason reason)
{
	streams_open--;
	on_end_of(end_of(s)->job, CLIENT, reason);
}

static void client_timer(struct bw_stream *s)
{
	on_timer_of(s, end_of(s)->job, CLIENT);
}

/** An echo of a datagram: the bytes that were sent. */
static void client_datagram(struct bw_context *ctx, const struct bw_datagram *dgram)
{
	uint64_t magic, number;
	struct job *job;

	(void)ctx;
	if (dgram->payload.len < HELLO_BYTES)
		sim_fail("a datagram of %u bytes", dgram->payload.len);
	memcpy(&magic, dgram->payload.data, 8);
	memcpy(&number, dgram->payload.data + 8, 8);
	if (magic != HELLO_MAGIC || number >= job_count ||
		jobs[number].side[CLIENT].out_total != dgram->payload.len)
		sim_fail("a datagram of %u bytes that nobody sent", dgram->payload.len);
	job = &jobs[number];
	check_bytes(job, job->side[CLIENT].out_place, 0, dgram->payload.data + HELLO_BYTES,
		dgram->payload.len - HELLO_BYTES);
}

static const struct bw_service client_service = {
	.name = "sim-client",
	.stream_bytes = sizeof(struct end),
	.opened = client_opened,
	.data = client_data,
	.writable = client_writable,
	.peer_closed = client_peer_closed,
	.closed = client_closed,
	.timer = client_timer,
	.datagram = client_datagram,
	.mail = client_mail,
};

/* ---- a talk's server ------------------------------------------------------------------------------------- */

static void talk_opened(struct bw_stream *s)
{
	(void)s;
	streams_open++;
}

/** The client's first bytes say which job it is. Returns how many were taken. */
static uint32_t take_hello(struct end *end, const struct bw_view *view)
{
	uint32_t n = BW_MIN(view->len, (uint32_t)(HELLO_BYTES - end->hello_bytes));
	uint64_t magic, number;

	memcpy(end->hello + end->hello_bytes, view->data, n);
	end->hello_bytes = (uint8_t)(end->hello_bytes + n);
	if (end->hello_bytes < HELLO_BYTES)
		return n;
	memcpy(&magic, end->hello, 8);
	memcpy(&number, end->hello + 8, 8);
	if (magic != HELLO_MAGIC || number >= job_count || jobs[number].kind != SIM_JOB_TALK)
		sim_fail("a client says that it is job %lx of %lx", number, magic);
	end->job = &jobs[number];
	end->job->side[SERVER].in = HELLO_BYTES;
	return n;
}

static uint32_t talk_data(struct bw_stream *s, const struct bw_view *views, unsigned count)
{
	struct end *end = end_of(s);
	uint32_t taken = 0;
	unsigned i = 0;

	while (i < count && end->job == NULL) {
		uint32_t n = take_hello(end, &views[i]);

		taken += n;
		if (n < views[i].len) { /* the rest is handed over once more */
			if (end->job != NULL)
				bw_stream_wake(s);
			return taken;
		}
		i++;
	}
	if (end->job == NULL)
		return taken;
	return taken + receive(s, end->job, SERVER, views + i, count - i);
}

static void talk_writable(struct bw_stream *s)
{
	if (end_of(s)->job != NULL)
		pump(s, end_of(s)->job, SERVER);
}

static void talk_peer_closed(struct bw_stream *s)
{
	struct end *end = end_of(s);

	/* The rest of the first bytes may still be there: then it is known who this is, and not yet how much is left. */
	if (end->job == NULL)
		sim_fail("a client says nothing and closes");
	on_peers_end(s, end->job, SERVER);
}

static void talk_closed(struct bw_stream *s, enum bw_close_reason reason)
{
	streams_open--;
	if (end_of(s)->job != NULL)
		on_end_of(end_of(s)->job, SERVER, reason);
}

static void talk_timer(struct bw_stream *s)
{
	if (end_of(s)->job != NULL)
		on_timer_of(s, end_of(s)->job, SERVER);
}

static const struct bw_service talk_service = {
	.name = "sim-talk",
	.stream_bytes = sizeof(struct end),
	.opened = talk_opened,
	.data = talk_data,
	.writable = talk_writable,
	.peer_closed = talk_peer_closed,
	.closed = talk_closed,
	.timer = talk_timer,
};

void sim_apps_conf(struct sim_host *h, struct bw_engine_conf *conf)
{
	struct bw_http_conf *hc = &http[h->index];
	struct bw_engine_service services[] = {
		{ &client_service, NULL, CLIENT_PORT },
		{ &talk_service, NULL, TALK_PORT },
		{ &bw_echo_service, NULL, 7 },
		{ &bw_discard_service, NULL, 9 },
		{ &bw_http_service, hc, 80 },
	};

	bw_http_conf_init(hc);
	hc->site.root = root;
	hc->cache_bytes_max = 4u << 20;
	hc->header_timeout_ns = hc->idle_timeout_ns = 3600 * BW_NS_PER_SEC;
	if (bw_http_conf_prepare(hc) != 0)
		sim_fail("no HTTP service");
	memcpy(conf->services, services, sizeof(services));
	conf->service_count = BW_ARRAY_LEN(services);
}

void sim_apps_release(struct sim_host *h)
{
	bw_http_conf_release(&http[h->index]);
}

/* ---- planning -------------------------------------------------------------------------------------------- */

static void plan_side(struct side *side)
{
	struct sim_chance *c = &sim.app;

	side->in_place = side->out_place = 0;
	side->manner = (enum manner)sim_below(c, 3);
	if (sim_below(c, 8) == 0) {
		side->sip_bytes = 1 + (uint32_t)sim_below(c, 20000);
		side->sip_gap_ns = (1 + sim_below(c, 50)) * BW_NS_PER_MS;
		side->allowance = side->sip_bytes;
	}
	side->holds_views = sim_below(c, 8) == 0;
}

static void plan_talk(struct job *job, uint64_t bytes_max)
{
	struct sim_chance *c = &sim.app;
	struct sim_range size = { 1, bytes_max };
	uint64_t request = HELLO_BYTES, response = 0;

	job->rounds = 1 + (unsigned)sim_below(c, sim_below(c, 2) ? ROUNDS_MAX : 1);
	size.max = BW_MAX(size.max / job->rounds, 1ull);
	for (unsigned i = 0; i < job->rounds; i++) {
		request += sim_range_draw(c, size);
		response += sim_range_draw(c, size);
		job->request_end[i] = request;
		job->response_end[i] = response;
	}
	job->is_duplex = sim_below(c, 4) == 0;
	if (!job->is_duplex && job->side[CLIENT].sip_bytes == 0 &&
		sim_below(c, 4) == 0) /* one timer a stream */
		job->think_ns = sim_range_draw(c, (struct sim_range){ 1, 3000 }) * BW_NS_PER_MS;
	job->ending = (enum ending)sim_below(c, ENDINGS);
	if (job->ending == END_CLIENT_RESETS) {
		if (sim_below(c, 2) == 0)
			job->ending = END_CLIENT_CLOSES;
		job->resets_at = sim_below(c, request + response);
	}
	job->side[CLIENT].in_total = job->side[SERVER].out_total = response;
	job->side[CLIENT].out_total = job->side[SERVER].in_total = request;
}

static void plan_http(struct job *job)
{
	int at = 0;

	job->requests = 1 + (unsigned)sim_below(&sim.app, REQUESTS_MAX);
	for (unsigned i = 0; i < job->requests; i++) {
		unsigned file = (unsigned)sim_below(&sim.app, FILES);

		if (file >= FILES - 2 && sim_below(&sim.app, 4) != 0)
			file = 2;
		job->file[i] = (uint8_t)file;
		at += snprintf(job->text + at, sizeof(job->text) - (size_t)at,
			"GET /f%u HTTP/1.1\r\nHost: sim\r\n%s\r\n", file,
			i + 1 == job->requests ? "Connection: close\r\n" : "");
	}
	job->ending = END_SERVER_CLOSES;
	job->side[CLIENT].out_total = (uint64_t)at;
	job->side[CLIENT].in_total = UINT64_MAX; /* known when the last header is there */
}

/** Slow, but done in some half a minute. */
static void limit_patience(struct side *side)
{
	uint64_t total = side->in_total != UINT64_MAX ? side->in_total : 2000000;

	if (side->sip_bytes != 0)
		side->sip_bytes = side->allowance = BW_MAX(side->sip_bytes, (uint32_t)(total / 500 + 1));
}

static struct job *plan_job(enum sim_job_kind kind, uint64_t bytes_max)
{
	struct job *job = &jobs[job_count];
	struct sim_chance *c = &sim.app;
	struct side *client = &job->side[CLIENT], *server = &job->side[SERVER];

	BW_ASSERT_LT(job_count, SIM_JOBS_MAX);
	memset(job, 0, sizeof(*job));
	job->number = job_count++;
	jobs_left++;
	job->kind = kind;
	job->client = (unsigned)sim_below(c, sim.host_count);
	job->server = (job->client + 1 + (unsigned)sim_below(c, sim.host_count - 1)) % sim.host_count;
	job->family = (unsigned)sim_below(c, 2);
	plan_side(client);
	plan_side(server);
	client->out_place = server->in_place = (uint32_t)sim_below(c, PATTERN_BYTES);
	client->in_place = server->out_place = (uint32_t)sim_below(c, PATTERN_BYTES);
	switch (kind) {
	case SIM_JOB_TALK:
		plan_talk(job, bytes_max);
		break;
	case SIM_JOB_ECHO:
		client->in_place = client->out_place;
		client->in_total = client->out_total = sim_range_draw(c, (struct sim_range){ 1, bytes_max });
		job->ending = sim_below(c, 2) ? END_HALF_CLOSE : END_CLIENT_CLOSES;
		break;
	case SIM_JOB_DISCARD:
		client->out_total = sim_range_draw(c, (struct sim_range){ 1, bytes_max });
		job->ending = END_HALF_CLOSE;
		break;
	case SIM_JOB_HTTP:
		plan_http(job);
		break;
	default:
		client->out_total = sim_range_draw(c, (struct sim_range){ HELLO_BYTES + 1, 65000 });
		break;
	}
	limit_patience(client);
	limit_patience(server);
	return job;
}

void sim_apps_plan(const struct sim_profile *p, bw_ns from)
{
	uint64_t count = sim_range_draw(&sim.app, p->jobs),
		 datagrams = sim_range_draw(&sim.app, p->datagrams);
	uint64_t bytes_max = sim_range_draw(&sim.app, p->bytes);
	bw_ns spread = sim_range_draw(&sim.app, p->spread_ms) * BW_NS_PER_MS;

	for (uint64_t i = 0; i < count + datagrams; i++) {
		static const enum sim_job_kind kinds[] = { SIM_JOB_TALK, SIM_JOB_TALK, SIM_JOB_TALK,
			SIM_JOB_ECHO, SIM_JOB_DISCARD, SIM_JOB_HTTP };
		enum sim_job_kind kind =
			i < count ? kinds[sim_below(&sim.app, BW_ARRAY_LEN(kinds))] : SIM_JOB_DATAGRAM;
		struct job *job = plan_job(kind, bytes_max);

		sim_event(from + sim_below(&sim.app, spread), SIM_JOB_BEGINS, job->number, 0);
	}
}

void sim_apps_plan_bulk(uint64_t bytes, bw_ns at)
{
	struct job *job = plan_job(SIM_JOB_DISCARD, 1);
	struct side plain = { .in_place = 1, .out_place = 1 };

	job->kind = SIM_JOB_TALK;
	job->client = 0;
	job->server = 1;
	job->family = 0;
	job->rounds = 1;
	job->side[CLIENT] = job->side[SERVER] = plain;
	job->side[CLIENT].out_total = job->side[SERVER].in_total = job->request_end[0] = bytes;
	sim_event(at, SIM_JOB_BEGINS, job->number, 0);
}

bw_ns sim_apps_bulk_done_at(void)
{
	return has_all(&jobs[0].side[SERVER]) ? jobs[0].received_at : 0;
}

void sim_job_start(unsigned number)
{
	struct job *job = &jobs[number];
	struct sim_host *h = &sim.host[job->client];
	unsigned worker = (unsigned)sim_below(&sim.app, h->worker_count);
	struct bw_worker *w;

	if (h->engine == NULL || h->is_gone) {
		job_over(job, SIM_JOB_ENDED, -ENETDOWN);
		return;
	}
	job->state = SIM_JOB_RUNNING;
	job->worker = (unsigned)sim_below(&sim.app, h->worker_count);
	w = &h->engine->workers[worker];
	job->mail.to = &w->contexts[0];
	if (rte_ring_mp_enqueue(w->mail_in, &job->mail) != 0)
		sim_fail("a worker's mail is full");
	sim_host_wake(h, worker);
}

/* ---- the end --------------------------------------------------------------------------------------------- */

void sim_apps_halting(bool is)
{
	is_halting = is;
}

void sim_apps_vanished(unsigned host)
{
	for (unsigned i = 0; i < job_count; i++)
		if (jobs[i].client == host && jobs[i].state == SIM_JOB_RUNNING)
			job_over(&jobs[i], SIM_JOB_ENDED, -ENETDOWN);
}

bool sim_apps_are_over(void)
{
	return jobs_left == 0;
}

void sim_apps_check_end(void)
{
	for (unsigned i = 0; i < job_count; i++) {
		const struct job *job = &jobs[i];

		if (job->state == SIM_JOB_RUNNING)
			sim_fail(
				"job %u has neither completed nor ended: %lu of %lu bytes in, %lu of %lu out",
				i, job->side[CLIENT].in, job->side[CLIENT].in_total, job->side[CLIENT].out,
				job->side[CLIENT].out_total);
	}
}

void sim_apps_check_closed(void)
{
	if (streams_open != 0)
		sim_fail("%d streams were opened and not closed", streams_open);
	if (refs_out != 0)
		sim_fail("%d pieces of memory sent by reference are not released", refs_out);
}

void sim_apps_reset(void)
{
	job_count = jobs_left = 0;
	streams_open = refs_out = 0;
	bytes_checked = 0;
}

uint64_t sim_apps_bytes(void)
{
	return bytes_checked;
}

void sim_apps_counts(unsigned *done, unsigned *ended)
{
	*done = *ended = 0;
	for (unsigned i = 0; i < job_count; i++) {
		*done += jobs[i].state == SIM_JOB_DONE;
		*ended += jobs[i].state == SIM_JOB_ENDED;
	}
}
