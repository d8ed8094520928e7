/* SPDX-License-Identifier: BSD-3-Clause */
#include <signal.h>

#include <engine/engine.h>

#include "run.h"

int run(const struct bw_service *service, void *service_conf, uint16_t port, const char *dev)
{
	struct bw_engine_conf conf;
	struct bw_nic_plan plan;
	struct bw_cidr host;
	struct bw_eal_conf eal = { .plans = &plan, .plan_count = 1, .cpus = conf.cpus, .cpu_count = 1 };
	struct bw_nic_conf nic_conf = { .plan = &plan,
		.worker_count = 1,
		.wants_interrupts = true,
		.host_addrs = &host,
		.host_addr_count = 1 };
	struct bw_nic nic;
	struct bw_engine *engine;
	sigset_t stop;
	int which, status = 2;

	/* Before any thread starts, so that all of them inherit it and the signals come to sigwait() alone. */
	sigemptyset(&stop);
	sigaddset(&stop, SIGINT);
	sigaddset(&stop, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &stop, NULL);

	bw_engine_conf_init(&conf);
	conf.devices[0].nic = &nic;
	conf.worker_count = 1;
	conf.service_count = 1;
	conf.services[0] =
		(struct bw_engine_service){ .service = service, .conf = service_conf, .port = port };
	conf.devices[0].addr_count = 1;
	bw_cidr_parse("192.0.2.2/24", &conf.devices[0].addrs[0]);
	bw_cidr_parse("192.0.2.1/24", &host);

	/* Whatever fails has said what was wrong, where, and what to do. */
	if (bw_nic_plan(dev, 1, &plan) != 0)
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
		bw_engine_drain(engine, 5 * BW_NS_PER_SEC);
		status = 0;
	}
	bw_engine_destroy(engine);
close_nic:
	bw_nic_close(&nic);
stop_eal:
	bw_eal_stop();
	return status;
}
