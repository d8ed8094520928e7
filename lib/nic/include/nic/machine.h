/* SPDX-License-Identifier: BSD-3-Clause */
/** What this machine has, read from sysfs, procfs and capabilities; for `doctor` and for choosing. No EAL needed. */
#pragma once

#include <net/if.h>

#include <base/types.h>

#define BW_MACHINE_NICS_MAX 64

struct bw_machine_nic {
	char iface[IFNAMSIZ];   /* kernel name, or empty when DPDK's driver holds it */
	char pci_addr[16];      /* 0000:03:00.0, or empty for virtual interfaces */
	char driver[32];        /* kernel driver, vfio-pci, ... */
	char vendor_device[16]; /* 8086:1572, or empty */
	int numa_node;          /* -1: unknown */
	unsigned queues;
	uint32_t speed_mbps; /* 0: unknown */
	bool is_up, has_default_route, is_bound_to_dpdk, is_virtual, has_native_xdp;
};

struct bw_machine {
	unsigned cpus_online;
	char cpu_model[96];
	char isolated_cpus[128]; /* as the kernel lists them; empty: none */
	char nohz_full_cpus[128];
	char governor[32]; /* of CPU 0; empty: no cpufreq */
	bool is_virtual_machine, is_smt_on, has_invariant_tsc;
	unsigned numa_nodes;
	uint64_t memory_bytes;
	unsigned hugepages_2m_total, hugepages_2m_free, hugepages_1g_total, hugepages_1g_free;
	char hugetlbfs_mount[128]; /* empty: not mounted */
	bool has_iommu, has_vfio, has_vfio_noiommu;
	char kernel_release[72];
	bool has_tun, has_af_packet, has_af_xdp, has_btf;
	bool is_root, can_net_admin, can_net_raw, can_bpf, can_lock_memory;
	uint64_t memlock_bytes; /* RLIMIT_MEMLOCK; UINT64_MAX: unlimited */
	unsigned nic_count;
	struct bw_machine_nic nics[BW_MACHINE_NICS_MAX];
};

/** Cannot fail: what cannot be read is zero or empty. A few ms. */
void bw_machine_read(struct bw_machine *machine);
