/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Several NICs as one, net_bonding.
 *
 * The members are there before the bond is: PCI devices that EAL has probed, or what it was told of behind "--". The
 * driver takes them in when it is first configured, and only then has the offloads, queues and limits that all of them
 * have; so it is configured twice, the first time for that.
 *
 * Where a member's driver has an interrupt for its link, net_bonding waits for that, and takes what it has been told last
 * for the truth. It does not come where interrupts are of the wrong kind (net_e1000_em, see nic.c), so the members' flag is
 * taken from them: net_bonding then looks by itself, every 10 ms, on EAL's interrupt thread. (How often is an argument that it
 * documents and refuses.)
 *
 * 802.3ad: the driver's machines run on that thread, too. What they send goes out with the next burst of ours, an empty
 * one will do, and what they receive comes in with one; both are to happen every tenth of a second. A bond has no RX
 * interrupts, so a worker sleeps for a millisecond at most, and in bw_nic_sleep() never for long; each look at queue 0
 * sends. The driver would not set the members' MACs in this mode, nor let a broadcast through unless all multicast is:
 * both is done here.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <base/log.h>

#include "internal.h"

/* Many looks of the driver's, for a link that is up. */
#define SETTLE_MS 300

bool bw_nic__is_pci_member(const struct bw_nic_plan *plan, unsigned index)
{
	return strncmp(plan->members[index], "net_", 4) != 0;
}

static bool is_lacp(const struct bw_nic *nic)
{
	return strstr(nic->plan.devargs, ",mode=4,") != NULL;
}

static int no_member(const struct bw_nic *nic, unsigned index)
{
	const char *name = nic->plan.members[index];

	if (bw_nic__is_pci_member(&nic->plan, index))
		bw_error(
			"--dev %s: DPDK has no driver for %s or could not start it; `barewire serve` with debug "
			"output shows what it said",
			nic->plan.spec, name);
	else
		bw_error("--dev %s: there is no device %s; make it with: -- --vdev=%s", nic->plan.spec, name,
			name);
	return -ENODEV;
}

int bw_nic__bond_find(struct bw_nic *nic)
{
	struct bw_nic__state *state = nic->state;

	for (unsigned i = 0; i < nic->plan.member_count; i++) {
		struct rte_eth_dev_info info;
		uint16_t port_id;

		if (rte_eth_dev_get_port_by_name(nic->plan.members[i], &port_id) != 0 ||
			rte_eth_dev_info_get(port_id, &info) != 0)
			return no_member(nic, i);
		if (!bw_nic__port_take(port_id)) {
			bw_error("--dev %s: another --dev has %s already; leave it out of one",
				nic->plan.spec, nic->plan.members[i]);
			return -EBUSY;
		}
		state->member_ids[state->members_attached++] = port_id;
		/* ethdev shows where it keeps them. */
		*(uint32_t *)(uintptr_t)info.dev_flags &= ~(uint32_t)RTE_ETH_DEV_INTR_LSC;
	}
	return 0;
}

/** All have the one that was given, else the first one's. */
static void set_members_mac(const struct bw_nic *nic, const struct bw_mac *given)
{
	const struct bw_nic__state *state = nic->state;
	struct rte_ether_addr mac;

	if (given != NULL)
		memcpy(&mac, given, sizeof(mac));
	else if (rte_eth_macaddr_get(state->member_ids[0], &mac) != 0)
		return;
	for (unsigned i = given == NULL; i < state->members_attached; i++) {
		int rc = rte_eth_dev_default_mac_addr_set(state->member_ids[i], &mac);

		if (rc != 0)
			bw_warn("--dev %s: %s does not take the bond's MAC (%s) and may not hear what is for it",
				nic->plan.spec, nic->plan.members[i], strerror(-rc));
	}
}

int bw_nic__bond_join(struct bw_nic *nic, const struct bw_mac *mac)
{
	const struct bw_nic__state *state = nic->state;
	const struct rte_eth_conf conf = { 0 };
	int rc;

	if (is_lacp(nic))
		set_members_mac(nic, mac);
	bw_nic__listen();
	rc = rte_eth_dev_configure(nic->port_id, 1, 1, &conf);
	for (unsigned i = 0; i < state->members_attached && rc == 0; i++) {
		struct rte_eth_dev_info info;

		/* One that is not taken is complained of, and no more. */
		if (rte_eth_dev_info_get(state->member_ids[i], &info) != 0 ||
			(*info.dev_flags & RTE_ETH_DEV_BONDED_SLAVE) == 0)
			rc = -EIO;
	}
	if (rc != 0)
		bw_error("--dev %s: the members do not make a bond: %s", nic->plan.spec, bw_nic__heard());
	return rc;
}

void bw_nic__bond_settle(struct bw_nic *nic)
{
	struct bw_nic__state *state = nic->state;

	if (nic->plan.kind != BW_NIC_BOND)
		return;
	if (is_lacp(nic)) {
		state->queue[0].rx_via |= BW_NIC__RX_LACP;
		if (rte_eth_allmulticast_enable(nic->port_id) != 0)
			bw_warn("--dev %s: a member does not let all multicast through, and 802.3ad may not come about",
				nic->plan.spec);
	}
	/* All are down until the driver has looked. */
	for (unsigned ms = 0; ms < SETTLE_MS && !bw_nic_is_link_up(nic); ms += 5)
		usleep(5000);
}

void bw_nic__bond_watch(struct bw_nic *nic)
{
	struct bw_nic__state *state = nic->state;

	for (unsigned i = 0; i < state->members_attached; i++) {
		struct rte_eth_link link = { 0 };
		bool is_down;

		if (rte_eth_link_get_nowait(state->member_ids[i], &link) != 0)
			continue;
		is_down = link.link_status != RTE_ETH_LINK_UP;
		if (is_down != state->is_member_down[i])
			bw_info("--dev %s: link of %s is %s", nic->plan.spec, nic->plan.members[i],
				is_down ? "down" : "up");
		state->is_member_down[i] = is_down;
	}
}

void bw_nic__bond_leave(struct bw_nic *nic)
{
	struct bw_nic__state *state = nic->state;

	for (unsigned i = 0; i < state->members_attached; i++) {
		if (bw_nic__is_pci_member(&nic->plan, i))
			(void)rte_eth_dev_close(state->member_ids[i]);
		bw_nic__port_give(state->member_ids[i]);
	}
	state->members_attached = 0;
}

bool bw_nic__bond_has_driver(const struct bw_nic *nic, const char *driver)
{
	const struct bw_nic__state *state = nic->state;

	for (unsigned i = 0; i < state->members_attached; i++) {
		struct rte_eth_dev_info info;

		if (rte_eth_dev_info_get(state->member_ids[i], &info) == 0 &&
			strcmp(info.driver_name, driver) == 0)
			return true;
	}
	return false;
}
