/* SPDX-License-Identifier: BSD-3-Clause */
/** Giving PCI NICs to DPDK and back to the kernel, by sysfs. No EAL needed. */
#pragma once

#include <base/types.h>

struct bw_bind_conf {
	const char *addr;   /* "0000:03:00.0", or without the domain */
	const char *driver; /* NULL: vfio-pci */
	bool may_cut_off;   /* take it though it may carry the default route */
};

/**
 * Take a NIC from the kernel's driver, and its interfaces with it, for one of DPDK's. What it had is remembered until
 * the machine starts anew. One that is bound so already stays, with success. All is checked before anything is changed,
 * and what fails then is undone. Needs root.
 * 0, or -errno after one line: what, where, what to do.
 */
int bw_nic_bind(const struct bw_bind_conf *conf);
/** Give it back to the driver that it had; what is not remembered the kernel chooses. 0, or -errno after one line. */
int bw_nic_unbind(const char *addr);
