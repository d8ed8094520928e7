/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * A start, from flags and a file to workers that turn, in which the Nth thing that it asks the system for is refused,
 * for every N: memory of every kind, rings, pools, threads. It says so in one line, or does without; either way
 * everything is given back, as the next start, LeakSanitizer and the pool say. The linker puts the refusals in
 * (--wrap, see meson.build).
 */
#include <stdatomic.h>
#include <sys/eventfd.h>

#include <pthread.h>
#include <rte_ip_frag.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

#include <base/log.h>
#include <engine/engine.h>

#include "capture.h"

/* ---- refusals -------------------------------------------------------------------------------------------- */

static atomic_uint asked, refused_at_ask; /* 0: none is refused */
static atomic_bool has_refused, is_watching;

static bool is_refused(void)
{
	if (!is_watching || atomic_fetch_add(&asked, 1) + 1 != refused_at_ask)
		return false;
	errno = ENOMEM;
	has_refused = true;
	return true;
}

#define WRAPPED(type, name, parameters, arguments, failure)                                                  \
	type __real_##name parameters;                                                                       \
	type __wrap_##name parameters;                                                                       \
	type __wrap_##name parameters                                                                        \
	{                                                                                                    \
		return is_refused() ? failure : __real_##name arguments;                                     \
	}

WRAPPED(void *, malloc, (size_t bytes), (bytes), NULL)
WRAPPED(void *, calloc, (size_t count, size_t bytes), (count, bytes), NULL)
WRAPPED(void *, realloc, (void *before, size_t bytes), (before, bytes), NULL)
WRAPPED(void *, aligned_alloc, (size_t alignment, size_t bytes), (alignment, bytes), NULL)
WRAPPED(char *, strdup, (const char *text), (text), NULL)
WRAPPED(char *, strndup, (const char *text, size_t bytes), (text, bytes), NULL)
WRAPPED(void *, mmap, (void *at, size_t bytes, int protection, int flags, int fd, off_t offset),
	(at, bytes, protection, flags, fd, offset), MAP_FAILED)
WRAPPED(int, eventfd, (unsigned value, int flags), (value, flags), -1)
WRAPPED(int, pthread_create,
	(pthread_t * thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg),
	(thread, attr, run, arg), EAGAIN)
WRAPPED(struct rte_ring *, rte_ring_create, (const char *name, unsigned count, int socket, unsigned flags),
	(name, count, socket, flags), NULL)
WRAPPED(void *, rte_zmalloc, (const char *type, size_t bytes, unsigned alignment), (type, bytes, alignment),
	NULL)
WRAPPED(struct rte_ip_frag_tbl *, rte_ip_frag_table_create,
	(uint32_t buckets, uint32_t entries, uint32_t max, uint64_t cycles, int socket),
	(buckets, entries, max, cycles, socket), NULL)
WRAPPED(struct rte_mempool *, rte_pktmbuf_pool_create_by_ops,
	(const char *name, unsigned n, unsigned cache, uint16_t private_bytes, uint16_t room, int socket,
		const char *ops),
	(name, n, cache, private_bytes, room, socket, ops), NULL)
WRAPPED(struct rte_mempool *, rte_pktmbuf_pool_create,
	(const char *name, unsigned n, unsigned cache, uint16_t private_bytes, uint16_t room, int socket),
	(name, n, cache, private_bytes, room, socket), NULL)

/* ---- a start --------------------------------------------------------------------------------------------- */

static const char file[] = "device: tap\n"
			   "addresses: [192.0.2.1/24, '2001:db8::1/64']\n"
			   "gateways: [192.0.2.254]\n"
			   "workers: 2\n"
			   "tcp:\n"
			   "  connections: 1000\n"
			   "routes:\n"
			   "  - prefix: 198.51.100.0/24\n"
			   "    gateway: 192.0.2.253\n";

static struct bw_nic_plan plan;
static unsigned mbufs_lost;

static void services_release(const struct bw_conf_view *view, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		if (view->http[i] != NULL)
			bw_http_conf_release(view->http[i]);
		if (view->resp[i] != NULL)
			bw_resp_conf_release(view->resp[i]);
	}
}

/** As app/serve.c has it. */
static int serve_with(const struct bw_conf_view *view)
{
	const struct bw_nic_conf nic_conf = { .plan = &plan,
		.worker_count = view->engine.worker_count,
		.mtu = 1500,
		.mbufs_per_worker = 4096 };
	struct bw_engine_conf engine_conf = view->engine;
	struct bw_engine *engine = NULL;
	struct bw_nic nic;
	unsigned ready;
	int error = 0;

	for (ready = 0; ready < view->engine.service_count; ready++) {
		if (view->http[ready] != NULL)
			error = bw_http_conf_prepare(view->http[ready]);
		else if (view->resp[ready] != NULL)
			error = bw_resp_conf_prepare(view->resp[ready]);
		if (error != 0)
			goto release;
	}
	error = bw_nic_open(&nic, &nic_conf);
	if (error != 0)
		goto release;
	engine_conf.devices[0].nic = &nic;
	error = bw_engine_create(&engine_conf, &engine);
	if (error == 0)
		error = bw_engine_start(engine);
	bw_engine_destroy(engine);
	bw_nic_stop_queues(&nic);
	mbufs_lost += bw_nic_mbufs_in_use(&nic);
	bw_nic_close(&nic);
release:
	services_release(view, ready);
	return error;
}

static int serve(void)
{
	char *argv[] = { "-c", "c.yaml", "--echo", "192.0.2.1:7", "--http", "80=.", "--resp", "6379", NULL };
	struct bw_conf *conf = bw_conf_create();
	int error;

	if (conf == NULL) { /* it is its caller who says so */
		bw_error("out of memory");
		return -ENOMEM;
	}
	error = bw_conf_parse(conf, 8, argv);
	if (error == 0)
		error = bw_conf_finish(conf);
	if (error == 0)
		error = serve_with(bw_conf_view(conf));
	bw_conf_destroy(conf);
	return error;
}

/** What a start said on stderr. */
static int serve_and_listen(char *said)
{
	int stderr_before = dup(STDERR_FILENO), memory = memfd_create("said", MFD_CLOEXEC), error;
	ssize_t bytes;

	assert_true(stderr_before >= 0 && memory >= 0);
	dup2(memory, STDERR_FILENO);
	asked = 0;
	has_refused = false;
	is_watching = true;
	error = serve();
	is_watching = false;
	dup2(stderr_before, STDERR_FILENO);
	bytes = pread(memory, said, SAID_BYTES - 1, 0);
	assert_true(bytes >= 0);
	said[bytes] = '\0';
	close(stderr_before);
	close(memory);
	return error;
}

static unsigned lines_of(const char *said)
{
	unsigned lines = 0;

	for (; *said != '\0'; said++)
		lines += *said == '\n';
	return lines;
}

static void nth_request_is_refused(void **state)
{
	char said[SAID_BYTES];
	unsigned n = 0, done_without = 0, bad = 0;

	(void)state;
	write_file("c.yaml", file);
	refused_at_ask = 0;
	if (serve_and_listen(said) != 0)
		fail_msg("does not start at all: %s", said);
	do {
		int error;

		refused_at_ask = ++n;
		error = serve_and_listen(said);
		done_without += has_refused && error == 0;
		if (error != 0 && (!has_refused || lines_of(said) != 1)) {
			print_error("%u: %s%s\n", n, strerror(-error), said);
			bad++;
		}
	} while (has_refused);
	print_message("%u requests, %u of which were not needed\n", n - 1, done_without);
	assert_true(n > 50);
	assert_int_equal(bad, 0);
	assert_int_equal(mbufs_lost, 0);
	/* All is as it was. */
	refused_at_ask = 0;
	assert_int_equal(serve_and_listen(said), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(nth_request_is_refused) };
	struct bw_eal_conf eal = { .plans = &plan, .plan_count = 1, .memory_mib = 192 };

	if (bw_nic_plan("ring", 2, &plan) != 0 || bw_eal_start(&eal) != 0)
		return 1;
	return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
