/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * A service without an engine: every function of service/service.h, in memory, on a clock that the test moves.
 *
 *     struct fake *f = fake_create(&bw_echo_service, NULL, 1);
 *     struct bw_stream *s = fake_open(f, 0);
 *     fake_feed(s, "hello", 5);                    one segment, data() is called
 *     assert_string_equal(fake_output(s, NULL), "hello");
 *     fake_destroy(f);                             closes what is open; aborts the test if anything leaked
 *
 * It is strict where the engine may be lenient: each segment is an allocation of exactly its size, what
 * was consumed is freed at once, sent references are read only when they are "acknowledged", writable() comes
 * only after a send was cut short, upcalls are never made from inside a downcall, and a broken rule of the
 * interface (consuming more than was there, a reserve over 1,024 bytes, a job submitted twice) aborts.
 *
 * Nothing happens between the calls below: each runs its upcalls and then turns until nothing is left to do,
 * but for what the test has asked to hold back.
 */
#pragma once

#include <stddef.h>

#include <service/service.h>

struct fake;

/** Aborts when start() fails; see fake_try_create(). */
struct fake *fake_create(const struct bw_service *service, void *conf, unsigned workers);
/** As fake_create(), but returns start()'s error in *error and NULL. */
struct fake *fake_try_create(const struct bw_service *service, void *conf, unsigned workers, int *error);
/** Abort what is open, run the jobs and mail that are left, stop(), and check that everything was released. */
void fake_destroy(struct fake *f);

struct bw_context *fake_context(struct fake *f, unsigned worker);
bw_ns fake_now(const struct fake *f);
/** Move the clock, stopping at every timer and every 100 ms (tick) on the way. */
void fake_advance(struct fake *f, bw_ns ns);
/** Turn until nothing is left to do. */
void fake_run(struct fake *f);

/* ---- what a peer does ---- */

struct bw_stream *fake_open(struct fake *f, unsigned worker);
/** Whose addresses the streams that are opened from now on have. Default 192.0.2.1, and 192.0.2.2 for the peer. */
void fake_set_addresses(struct fake *f, struct bw_ip local, struct bw_ip remote);
/** One segment arrives: data() with it behind what was left unconsumed. */
void fake_feed(struct bw_stream *s, const void *data, size_t len);
/** The same bytes in segments of `segment_bytes`, a data() for each. */
void fake_feed_split(struct bw_stream *s, const void *data, size_t len, size_t segment_bytes);
/** A segment arrives without an upcall: several make one data() with several views, at the next fake_feed()
 *  or fake_deliver(). */
void fake_queue(struct bw_stream *s, const void *data, size_t len);
void fake_deliver(struct bw_stream *s);
void fake_peer_close(struct bw_stream *s); /* FIN */
void fake_peer_reset(struct bw_stream *s); /* RST: closed(BW_CLOSE_RESET) */
/** The two in one burst: data() once, then peer_closed(), and nothing between them. */
void fake_deliver_and_close(struct bw_stream *s);
/** Views a data() call gets at most; default 64. */
void fake_set_views_max(struct bw_stream *s, unsigned views_max);

/** Bound of the send queue, queued and not acknowledged; default 256 KiB. */
void fake_set_space(struct bw_stream *s, uint32_t space_bytes_max);
/** false: the peer acknowledges only what fake_ack() says. Default true: everything, at every turn. */
void fake_set_auto_ack(struct bw_stream *s, bool is_automatic);
/** The peer acknowledges `len` bytes more; wholly acknowledged references are released. Returns how many. */
size_t fake_ack(struct bw_stream *s, size_t len);
/** The same with a FIN in the same segment: writable() and peer_closed(), and nothing between them. */
void fake_ack_and_close(struct bw_stream *s, size_t len);
/** Let the next `count` sends fail with -ENOBUFS (or 0 bytes, or NULL) as an empty pool makes them. */
void fake_starve(struct bw_stream *s, unsigned count);
/** Let the first send on each of the next `count` streams that the service connects fail so. */
void fake_starve_connects(struct fake *f, unsigned count);

/* ---- what a server does, to services that connect ---- */

/** The oldest stream that the service has begun to connect; NULL: none. What is sent on it waits. */
struct bw_stream *fake_connecting(struct fake *f);
void fake_accept(struct bw_stream *s);                              /* opened() */
void fake_refuse(struct bw_stream *s, enum bw_close_reason reason); /* closed() */

/* ---- what the peer saw ---- */

/** What was acknowledged so far, always followed by a NUL that is not counted. Valid until the next call. */
const char *fake_output(struct bw_stream *s, size_t *len);
void fake_output_clear(struct bw_stream *s);
/** Queued and not acknowledged. */
size_t fake_queued(const struct bw_stream *s);
/** Drop output instead of keeping it, and count only (fake_output_total). */
void fake_set_output_sink(
	struct bw_stream *s, void (*sink)(void *arg, const void *data, size_t len), void *arg);
uint64_t fake_output_total(const struct bw_stream *s);
bool fake_is_closed(const struct bw_stream *s);  /* closed() was called */
bool fake_is_closing(const struct bw_stream *s); /* the service closed or shut down, or closed() was called */
bool fake_is_aborted(const struct bw_stream *s); /* the service aborted */
enum bw_close_reason fake_close_reason(const struct bw_stream *s);
uint32_t fake_unread(const struct bw_stream *s);
bw_ns fake_timer_at(const struct bw_stream *s);

/* ---- counts over the whole of f ---- */

uint64_t fake_refs_sent(const struct fake *f);
uint64_t fake_refs_released(const struct fake *f);
uint64_t fake_bytes_by_copy(const struct fake *f);
uint64_t fake_bytes_by_ref(const struct fake *f);
uint64_t fake_holds_now(const struct fake *f);
uint64_t fake_data_calls(const struct fake *f);

/* ---- jobs and mail ---- */

/** Keep submitted jobs until fake_run_jobs(). Default: they run at the next turn, in order. */
void fake_hold_jobs(struct fake *f, bool hold);
unsigned fake_jobs_waiting(const struct fake *f);
/** Run up to `max` held jobs, in order: work() and then done(). Returns how many. */
unsigned fake_run_jobs(struct fake *f, unsigned max);
/** Run only the work() of up to `max` held jobs; done() comes with fake_finish_jobs(). */
unsigned fake_work_jobs(struct fake *f, unsigned max);
unsigned fake_finish_jobs(struct fake *f, unsigned max);
/** Jobs that fit the queue; default 1024. */
void fake_set_jobs_max(struct fake *f, unsigned jobs_max);
/** Run work() on real threads from now on. fake_run() does not wait for them; fake_settle() does. */
void fake_start_helpers(struct fake *f, unsigned count);
/** Turn until nothing is left to do, jobs on real threads included. */
void fake_settle(struct fake *f);

/** Keep posted mail until fake_deliver_mail(). Default: delivered at the next turn. */
void fake_hold_mail(struct fake *f, bool hold);
unsigned fake_mail_waiting(const struct fake *f);
unsigned fake_deliver_mail(struct fake *f, unsigned max);

/** A datagram arrives; the replies of the call are in fake_datagram_reply(). */
void fake_datagram(struct fake *f, unsigned worker, const void *data, size_t len);
/** The last reply, NULL when there was none; `count` of them since the datagram. */
const void *fake_datagram_reply(struct fake *f, size_t *len, unsigned *count);

/** The engine drains: drain() for every stream, or a close where there is none. */
void fake_drain(struct fake *f);
/** stats() of one worker, NUL-terminated, valid until the next call. */
const char *fake_stats(struct fake *f, unsigned worker);
