/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * memif's control side.
 *
 * net_memif's server waits for clients on its own, but its client connects once, when the port is started, and
 * fails the start when nobody listens. A client here starts and restarts whenever its server does: a timer of
 * EAL's interrupt thread, on which the driver's own control messages run too, starts the port until that works,
 * and restarts it when the link went down. Bursts meanwhile do nothing: is_startable tells workers to stay off a
 * tick before the port is touched.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <rte_alarm.h>

#include <base/log.h>

#include "internal.h"

#define TICK_US         100000
/* A second of no link: long enough for a handshake in progress. */
#define LINK_DOWN_TICKS 10

int bw_nic__memif_claim(const char *spec, const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct stat st;
	int fd, rc;

	if (lstat(path, &st) != 0)
		return 0;
	if (!S_ISSOCK(st.st_mode)) {
		bw_error("--dev %s: %s exists and is not a socket; name another path", spec, path);
		return -EBUSY;
	}
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		rc = -errno;
		bw_error("--dev %s: no socket: %s", spec, strerror(-rc));
		return rc;
	}
	memcpy(addr.sun_path, path, strlen(path) + 1); /* the caller has checked its length */
	rc = connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 ? 0 : -errno;
	close(fd);
	/* Refused: the file outlived its process. Anything else means that somebody is there. */
	if (rc != -ECONNREFUSED) {
		bw_error(
			"--dev %s: another process listens on %s; stop it, name another path, or be its client with "
			"role=client",
			spec, path);
		return -EBUSY;
	}
	if (unlink(path) != 0) {
		rc = -errno;
		bw_error("--dev %s: cannot remove the stale socket %s: %s", spec, path, strerror(-rc));
		return rc;
	}
	return 0;
}

static void on_tick(void *arg)
{
	struct bw_nic *nic = arg;
	struct bw_nic__state *state = nic->state;
	struct rte_eth_link link = { 0 };

	if (!state->is_port_started) {
		state->is_port_started = rte_eth_dev_start(nic->port_id) == 0;
		state->link_down_ticks = 0;
		__atomic_store_n(&state->is_startable, state->is_port_started, __ATOMIC_RELEASE);
	} else if (rte_eth_link_get_nowait(nic->port_id, &link) == 0 && link.link_status == RTE_ETH_LINK_UP) {
		state->link_down_ticks = 0;
	} else if (++state->link_down_ticks == LINK_DOWN_TICKS) {
		__atomic_store_n(&state->is_startable, false, __ATOMIC_RELEASE);
	} else if (state->link_down_ticks > LINK_DOWN_TICKS) {
		(void)rte_eth_dev_stop(nic->port_id);
		state->is_port_started = false;
	}
	rte_eal_alarm_set(TICK_US, on_tick, nic);
}

int bw_nic__memif_client_start(struct bw_nic *nic)
{
	struct bw_nic__state *state = nic->state;

	state->is_port_started = rte_eth_dev_start(nic->port_id) == 0;
	state->is_startable = state->is_port_started;
	return rte_eal_alarm_set(TICK_US, on_tick, nic);
}

void bw_nic__memif_client_stop(struct bw_nic *nic)
{
	rte_eal_alarm_cancel(on_tick, nic); /* waits for one that runs */
}
