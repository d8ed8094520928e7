/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What answers the oracle's sequences on Barewire's side: services that do one thing each, chosen by the port.
 * kernel.py is the same on the kernel's sockets. Runs until SIGTERM.
 *
 *     oracle_server tap:NAME SERVER/24 SERVER6/64 KERNEL/24 KERNEL6/64
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include <engine/engine.h>

#define BULK_BYTES 20000

struct behaviour {
	bool has_begun; /* the first data was seen */
	bool has_waited;
};

static bool is_first(struct bw_stream *s)
{
	struct behaviour *b = bw_stream_state(s);
	bool is = !b->has_begun;

	b->has_begun = true;
	return is;
}

static uint32_t total(const struct bw_view *views, unsigned count)
{
	uint32_t bytes = 0;

	for (unsigned i = 0; i < count; i++)
		bytes += views[i].len;
	return bytes;
}

static void nothing(struct bw_stream *s)
{
	(void)s;
}

static uint32_t take_all(struct bw_stream *s, const struct bw_view *views, unsigned count)
{
	(void)s;
	return total(views, count);
}

static uint32_t take_none(struct bw_stream *s, const struct bw_view *views, unsigned count)
{
	(void)s, (void)views, (void)count;
	return 0;
}

static uint32_t shut_data(struct bw_stream *s, const struct bw_view *views, unsigned count)
{
	if (is_first(s))
		bw_stream_shutdown(s);
	return total(views, count);
}

static uint32_t close_data(struct bw_stream *s, const struct bw_view *views, unsigned count)
{
	bw_stream_close(s);
	return total(views, count);
}

static uint32_t abort_data(struct bw_stream *s, const struct bw_view *views, unsigned count)
{
	bw_stream_abort(s);
	return total(views, count);
}

static uint32_t unread_data(struct bw_stream *s, const struct bw_view *views, unsigned count)
{
	(void)views, (void)count;
	bw_stream_close(s);
	return 0;
}

static uint32_t bulk_data(struct bw_stream *s, const struct bw_view *views, unsigned count)
{
	uint8_t bytes[BULK_BYTES];

	for (unsigned i = 0; i < BULK_BYTES; i++)
		bytes[i] = (uint8_t)(i % 251);
	if (is_first(s))
		bw_stream_send(s, bytes, BULK_BYTES);
	return total(views, count);
}

static void greet_opened(struct bw_stream *s)
{
	bw_stream_send(s, "0123456789", 10);
}

static uint32_t late_data(struct bw_stream *s, const struct bw_view *views, unsigned count)
{
	const struct behaviour *b = bw_stream_state(s);

	if (is_first(s))
		bw_stream_set_timer(s, bw_stream_now(s) + 1500 * BW_NS_PER_MS);
	return b->has_waited ? total(views, count) : 0;
}

static void late_timer(struct bw_stream *s)
{
	struct behaviour *b = bw_stream_state(s);

	b->has_waited = true;
	bw_stream_wake(s);
}

static void half_peer_closed(struct bw_stream *s)
{
	greet_opened(s);
	bw_stream_close(s);
}

#define BEHAVIOUR(label, ...)                                                                                \
	{                                                                                                    \
		.name = label, .stream_bytes = sizeof(struct behaviour), __VA_ARGS__                         \
	}

/* In the order of kernel.py's ports. */
static const struct bw_service services[] = {
	BEHAVIOUR("keep", .data = take_all, .peer_closed = nothing),
	BEHAVIOUR("deaf", .data = take_none, .peer_closed = nothing),
	BEHAVIOUR("shut", .data = shut_data),
	BEHAVIOUR("close", .data = close_data),
	BEHAVIOUR("abort", .data = abort_data),
	BEHAVIOUR("unread", .data = unread_data),
	BEHAVIOUR("bulk", .data = bulk_data),
	BEHAVIOUR("greet", .opened = greet_opened, .data = take_all),
	BEHAVIOUR("shut_open", .opened = bw_stream_shutdown, .data = take_all),
	BEHAVIOUR("half", .data = take_all, .peer_closed = half_peer_closed),
	BEHAVIOUR("late", .data = late_data, .timer = late_timer, .peer_closed = nothing),
};

static void configure(struct bw_engine_conf *conf)
{
	bw_engine_conf_init(conf);
	conf->worker_count = 1;
	conf->poll = BW_POLL_ADAPTIVE;
	conf->tcp.recv_bytes_max = 128 << 10;
	conf->tcp.mss_min = 64; /* the least: segments as the kernel cuts them */
	conf->services[conf->service_count++] =
		(struct bw_engine_service){ .service = &bw_echo_service, .port = 7 };
	conf->services[conf->service_count++] =
		(struct bw_engine_service){ .service = &bw_discard_service, .port = 9 };
	for (unsigned i = 0; i < BW_ARRAY_LEN(services); i++)
		conf->services[conf->service_count++] =
			(struct bw_engine_service){ .service = &services[i], .port = (uint16_t)(11 + i) };
	conf->devices[0].addr_count = 2;
}

int main(int argc, char **argv)
{
	struct bw_engine_conf conf;
	struct bw_nic_plan plan;
	struct bw_cidr host[2];
	struct bw_eal_conf eal = { .plans = &plan, .plan_count = 1, .cpus = conf.cpus, .cpu_count = 1 };
	struct bw_nic_conf nic_conf = { .plan = &plan,
		.worker_count = 1,
		.wants_interrupts = true,
		.host_addrs = host,
		.host_addr_count = 2 };
	struct bw_nic nic;
	struct bw_engine *engine;
	sigset_t stop;
	int which, status = 2;

	if (argc != 6) {
		fprintf(stderr, "usage: oracle_server tap:NAME SERVER/24 SERVER6/64 KERNEL/24 KERNEL6/64\n");
		return status;
	}
	sigemptyset(&stop);
	sigaddset(&stop, SIGINT);
	sigaddset(&stop, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &stop, NULL);
	configure(&conf);
	conf.devices[0].nic = &nic;
	for (unsigned i = 0; i < 2; i++) {
		if (bw_cidr_parse(argv[2 + i], &conf.devices[0].addrs[i]) != 0 ||
			bw_cidr_parse(argv[4 + i], &host[i]) != 0)
			return status;
	}
	if (bw_nic_plan(argv[1], 1, &plan) != 0)
		return status;
	eal.memory_mib = bw_nic_memory_mib(&plan, 1, nic_conf.mbufs_per_worker, nic_conf.mtu);
	if (bw_eal_start(&eal) != 0)
		return status;
	if (bw_nic_open(&nic, &nic_conf) != 0)
		goto stop_eal;
	if (bw_engine_create(&conf, &engine) != 0)
		goto close_nic;
	if (bw_engine_start(engine) == 0) {
		sigwait(&stop, &which);
		bw_engine_drain(engine, 0);
		status = 0;
	}
	bw_engine_destroy(engine);
	bw_nic_stop_queues(&nic);
	if (bw_nic_mbufs_in_use(&nic) != 0) {
		fprintf(stderr, "oracle_server: %u mbufs lost\n", bw_nic_mbufs_in_use(&nic));
		status = 1;
	}
close_nic:
	bw_nic_close(&nic);
stop_eal:
	bw_eal_stop();
	return status;
}
