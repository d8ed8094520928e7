/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Deterministic simulation: whole engines on a virtual clock, in one process and one thread, with seeded links
 * between them. docs/simulation.md says what for and how to use it.
 *
 * Everything that happens is drawn from the seed: the network's doings, what the applications do, what
 * getrandom() returns. So a seed's packets are the same in every run, to the byte and the nanosecond.
 *
 *     main.c        the command line, seeds in turn, what is printed
 *     profiles.c    kinds of trouble: ranges that a seed draws from
 *     world.c       the clock's events: packets that arrive, workers that are due, what happens to hosts
 *     link.c        what a link does to a packet
 *     host.c        an engine: made, given its turns, starved, ended
 *     app.c         services that check every byte, and the clients that use them
 *     watch.c       on the wire: nothing is sent again before its time
 *     inside.c      within the engine: exactly the timers that should be armed are, bounds are kept
 *     stand_ins.c   the clock and the randomness that the engine is linked with
 *     pcapng.c      the packets, for Wireshark
 *     goodput.c     bulk throughput by loss and round trip
 */
#pragma once

#include <base/assert.h>
#include <base/types.h>
#include <engine/engine.h>

#include "worker.h"

#define SIM_HOSTS_MAX   3
#define SIM_FRAME_MAX   1600
#define SIM_MTU         1500
#define SIM_JOBS_MAX    1024
#define SIM_WORKERS_MAX 3

/* ---- chance ---------------------------------------------------------------------------------------------- */

/** splitmix64. A sequence of its own for each purpose, so that a change of one leaves the others as they are. */
struct sim_chance {
	uint64_t state;
};

static inline uint64_t sim_mix(uint64_t z)
{
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static inline uint64_t sim_draw(struct sim_chance *c)
{
	return sim_mix(c->state += 0x9e3779b97f4a7c15ull);
}

static inline uint64_t sim_below(struct sim_chance *c, uint64_t bound)
{
	return bound != 0 ? (uint64_t)((unsigned __int128)sim_draw(c) * bound >> 64) : 0;
}

/** True so many times in a million. */
static inline bool sim_ppm(struct sim_chance *c, uint64_t ppm)
{
	return ppm != 0 && sim_below(c, 1000000) < ppm;
}

/* ---- profiles -------------------------------------------------------------------------------------------- */

/** A seed draws from it, both ends included; small values are as likely as large ones (log-uniform). */
struct sim_range {
	uint64_t min, max;
};

enum {
	SIM_MUST_COMPLETE = 1, /* nothing happens that entitles a connection to an abnormal end */
	SIM_CLEAN = 2,         /* nothing is lost: nothing may be sent again */
};

struct sim_profile {
	const char *name, *what;
	unsigned flags;
	struct sim_range hosts, jobs, bytes;     /* connections, and the most that one carries each way */
	struct sim_range spread_ms;              /* in which they begin */
	struct sim_range trouble_ms;             /* until the network heals */
	struct sim_range delay_us, jitter_us;    /* one way */
	struct sim_range rate_kbps, queue_bytes; /* 0: unlimited */
	struct sim_range loss_ppm;
	struct sim_range burst_ppm, burst_length; /* Gilbert-Elliott: into the bad state; packets there */
	struct sim_range reorder_ppm, reorder_us;
	struct sim_range duplicate_ppm, corrupt_ppm, truncate_ppm;
	struct sim_range mtu_changes;
	struct sim_range blackouts, blackout_ms;
	struct sim_range pauses, pause_ms;
	struct sim_range stalls, stall_ms; /* the device takes no packet */
	struct sim_range reboots, down_ms;
	struct sim_range vanishes;
	struct sim_range starvations, starved_ms;
	struct sim_range datagrams; /* UDP echoes, up to 64 KiB */
};

extern const struct sim_profile sim_profiles[];
extern const unsigned sim_profile_count;
const struct sim_profile *sim_profile_find(const char *name);
uint64_t sim_range_draw(struct sim_chance *c, struct sim_range range);

/* ---- links ----------------------------------------------------------------------------------------------- */

struct sim_link_conf {
	bw_ns delay_ns, jitter_ns;
	uint64_t rate_kbps, queue_bytes;
	uint32_t loss_ppm, burst_ppm, burst_end_ppm;
	uint32_t reorder_ppm, duplicate_ppm, corrupt_ppm, truncate_ppm;
	bw_ns reorder_ns;
};

/** One direction between two hosts. */
struct sim_link {
	struct sim_link_conf conf;
	uint8_t from, to;
	bool is_dark, is_in_burst;
	bool tells_mtu; /* with an ICMP error; else too large a packet just disappears */
	uint16_t mtu;
	bw_ns busy_until, last_arrival;
	uint64_t lost, lost_in_queue, duplicated, reordered, corrupted, truncated, too_large;
};

/** A frame under way. */
struct sim_frame {
	struct sim_frame *free_next;
	uint8_t from, to;
	bool is_damaged;
	uint16_t bytes;
	uint8_t data[SIM_FRAME_MAX];
};

/** Take a frame that its sender's device has sent. Consumes it. */
void sim_link_send(struct sim_link *link, struct sim_frame *frame);
/** From now on the link does what a wire should. */
void sim_link_heal(struct sim_link *link);

/* ---- hosts ----------------------------------------------------------------------------------------------- */

struct sim_host {
	unsigned index, worker_count;
	struct bw_nic_plan plan;
	struct bw_nic nic;
	struct bw_ip ip[2]; /* IPv4, IPv6 */
	struct bw_engine_conf conf;
	struct bw_engine *engine; /* NULL: it is down */
	bool is_paused, is_gone, is_stalled;
	bw_ns wake_at[SIM_WORKERS_MAX], busy_until[SIM_WORKERS_MAX];
	struct rte_mbuf *starved[16384]; /* buffers that somebody else has */
	unsigned starved_count;
	struct rte_mbuf *sent[64]; /* a device frees what it has sent a little later */
	unsigned sent_next;
	uint64_t rx_no_mbuf, rx_full, turns;
};

/** Once a process: devices and pools. */
void sim_hosts_open(void);
void sim_hosts_close(void);
void sim_host_boot(struct sim_host *h);
/** The engine's end, without a word to anybody. */
void sim_host_halt(struct sim_host *h);
/** One turn of one worker, and what its device sent. */
void sim_host_turn(struct sim_host *h, unsigned worker);
/** The device takes packets again. */
void sim_host_flow(struct sim_host *h);
/** The earliest time at which a worker is due. */
bw_ns sim_host_next(const struct sim_host *h, unsigned *worker);
/** A frame arrives at the device. */
void sim_host_receive(struct sim_host *h, const struct sim_frame *frame);
void sim_host_wake(struct sim_host *h, unsigned worker);
void sim_host_starve(struct sim_host *h, unsigned left);
void sim_host_feed(struct sim_host *h);
/** At the end of a seed: every buffer is back. */
void sim_host_check_end(struct sim_host *h);

/* ---- applications ---------------------------------------------------------------------------------------- */

enum sim_job_kind {
	SIM_JOB_TALK,    /* requests and responses of the simulator's own checking protocol */
	SIM_JOB_ECHO,    /* RFC 862 */
	SIM_JOB_DISCARD, /* RFC 863 */
	SIM_JOB_HTTP,
	SIM_JOB_DATAGRAM, /* UDP echo */
	SIM_JOB_KINDS,
};

enum sim_job_state {
	SIM_JOB_WAITING,
	SIM_JOB_RUNNING,
	SIM_JOB_DONE, /* all bytes, both ways, and an end in order */
	SIM_JOB_ENDED /* it reported its end */,
};

void sim_apps_open(void);
void sim_apps_close(void);
/** Services of a host. */
void sim_apps_conf(struct sim_host *h, struct bw_engine_conf *conf);
void sim_apps_release(struct sim_host *h);
/** Draw a seed's jobs; they begin by themselves. */
void sim_apps_plan(const struct sim_profile *profile, bw_ns from);
/** One bulk transfer of that many bytes from host 0 to host 1: goodput.c. */
void sim_apps_plan_bulk(uint64_t bytes, bw_ns at);
/** When its last byte was received; 0: not yet. */
bw_ns sim_apps_bulk_done_at(void);
void sim_job_start(unsigned job);
/** Has every job come to its end? */
bool sim_apps_are_over(void);
/** After the network has healed and R2 is over: complain about who is not. */
void sim_apps_check_end(void);
/** After the last engine's end: every stream that was opened was closed, and memory lent is given back. */
void sim_apps_check_closed(void);
/** Jobs that have not begun yet will not. */
void sim_apps_halting(bool is);
void sim_apps_vanished(unsigned host);
void sim_apps_reset(void);
/** The bytes of all streams were these: what was checked, both ways. */
uint64_t sim_apps_bytes(void);
void sim_apps_counts(unsigned *done, unsigned *ended);

/* ---- the world ------------------------------------------------------------------------------------------- */

enum sim_event_kind {
	SIM_FRAME_ARRIVES,
	SIM_JOB_BEGINS,
	SIM_LINK_DARK,
	SIM_LINK_LIGHT,
	SIM_LINK_MTU,
	SIM_HOST_PAUSE,
	SIM_HOST_RESUME,
	SIM_HOST_STALL,
	SIM_HOST_FLOWS,
	SIM_HOST_VANISH,
	SIM_HOST_HALT,
	SIM_HOST_BOOT,
	SIM_HOST_STARVE,
	SIM_HOST_FEED,
	SIM_HEAL,
};

struct sim {
	bw_ns now, began, heal_at;
	uint64_t seed;
	const struct sim_profile *profile;
	struct sim_chance net, app, random; /* random: what getrandom() gives */
	unsigned host_count;
	struct sim_host host[SIM_HOSTS_MAX];
	struct sim_link link[SIM_HOSTS_MAX][SIM_HOSTS_MAX]; /* [from][to] */
	uint64_t packets, hash;                             /* of this seed */
	bw_ns user_timeout_ns, keepalive_idle_ns, keepalive_interval_ns;
	unsigned keepalive_probes;
	bool has_healed;
	struct bw_counters counters; /* of all engines of all seeds, up to their ends */
	const char *self;            /* argv[0] */
	bool is_traced;
};
extern struct sim sim;

/** Run one seed to its end. */
void sim_run(const struct sim_profile *profile, uint64_t seed);
void sim_event(bw_ns at, enum sim_event_kind kind, uint32_t a, uint32_t b);
void sim_frame_arrives(bw_ns at, struct sim_frame *frame);
struct sim_frame *sim_frame_take(void);
void sim_frame_give(struct sim_frame *frame);
/** A property does not hold: say so and how to see it again, and end. */
__attribute__((noreturn, format(printf, 1, 2))) void sim_fail(const char *format, ...);

/* Parts of sim_run() that goodput.c has in its own way. */
void sim_begin(const struct sim_profile *profile, uint64_t seed, unsigned host_count);
/** Until everything is over, or `until`. */
void sim_loop(bw_ns until);
void sim_end(void);

/* ---- watching -------------------------------------------------------------------------------------------- */

void sim_watch_reset(void);
void sim_watch_sent(const struct sim_frame *frame);
/** What the host sends now may have waited since TCP made it. */
void sim_watch_late(unsigned host);
void sim_watch_received(const struct sim_frame *frame);
uint64_t sim_watch_repeats(void);
/** A host starts anew: it knows nothing of what it sent before. */
void sim_watch_forget(unsigned host);

void sim_inside_check(struct sim_host *h, struct bw_worker *w);

int sim_pcapng_open(const char *path);
void sim_pcapng_begin(void);
void sim_pcapng_frame(const struct sim_frame *frame, bool is_received);
void sim_pcapng_close(void);

/** Compare with the table, or print a new one. Returns whether something is below. */
int sim_goodput(bool prints_only);
