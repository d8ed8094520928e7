/* SPDX-License-Identifier: BSD-3-Clause */
/* What the kernel tells of this machine. Everything is optional: a container shows a part of it. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/if_packet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <nic/machine.h>

#include "internal.h"

#ifndef AF_XDP
#define AF_XDP 44
#endif

/* The first line of a file without its newline; false and empty when it cannot be read. */
static __attribute__((format(printf, 3, 4))) bool read_line(
	char *out, size_t out_bytes, const char *path_format, ...)
{
	char path[PATH_MAX];
	va_list args;
	FILE *f;
	bool ok;

	out[0] = '\0';
	va_start(args, path_format);
	vsnprintf(path, sizeof(path), path_format, args);
	va_end(args);
	f = fopen(path, "re");
	if (f == NULL)
		return false;
	ok = fgets(out, (int)out_bytes, f) != NULL;
	fclose(f);
	out[strcspn(out, "\n")] = '\0';
	return ok;
}

#define READ_NUMBER(fallback, ...)                                                                           \
	({                                                                                                   \
		char number_line[32];                                                                        \
		read_line(number_line, sizeof(number_line), __VA_ARGS__) ? strtol(number_line, NULL, 0)      \
									 : (fallback);                       \
	})

static bool is_there(const char *path)
{
	return access(path, F_OK) == 0;
}

/* Entries of a directory whose names begin with `prefix`. */
static unsigned count_entries(const char *path, const char *prefix)
{
	DIR *dir = opendir(path);
	unsigned count = 0;

	if (dir == NULL)
		return 0;
	for (struct dirent *e; (e = readdir(dir)) != NULL;)
		count += e->d_name[0] != '.' && strncmp(e->d_name, prefix, strlen(prefix)) == 0;
	closedir(dir);
	return count;
}

/* Is `word` one of the words of `line`? */
static bool has_word(const char *line, const char *word)
{
	const size_t len = strlen(word);

	for (const char *p = line; (p = strstr(p, word)) != NULL; p += len) {
		if ((p == line || isspace((unsigned char)p[-1])) &&
			(p[len] == '\0' || isspace((unsigned char)p[len])))
			return true;
	}
	return false;
}

static void read_cpu(struct bw_machine *m)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	char *line = NULL;
	size_t room = 0;

	m->cpus_online = (unsigned)BW_MAX(sysconf(_SC_NPROCESSORS_ONLN), 1L);
	while (f != NULL && getline(&line, &room, f) > 0 && line[0] != '\n') {
		const char *value = strchr(line, ':');

		line[strcspn(line, "\n")] = '\0';
		if (value == NULL)
			continue;
		if (strncmp(line, "model name", 10) == 0)
			snprintf(m->cpu_model, sizeof(m->cpu_model), "%s", value + 2);
		if (strncmp(line, "flags", 5) == 0) {
			m->is_virtual_machine = has_word(value, "hypervisor");
			m->has_invariant_tsc =
				has_word(value, "constant_tsc") && has_word(value, "nonstop_tsc");
		}
	}
	free(line);
	if (f != NULL)
		fclose(f);
	read_line(m->isolated_cpus, sizeof(m->isolated_cpus), "/sys/devices/system/cpu/isolated");
	read_line(m->nohz_full_cpus, sizeof(m->nohz_full_cpus), "/sys/devices/system/cpu/nohz_full");
	if (strcmp(m->nohz_full_cpus, "(null)") == 0)
		m->nohz_full_cpus[0] = '\0';
	read_line(m->governor, sizeof(m->governor), "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
	m->is_smt_on = READ_NUMBER(0, "/sys/devices/system/cpu/smt/active") == 1;
	m->numa_nodes = BW_MAX(count_entries("/sys/devices/system/node", "node"), 1u);
}

static unsigned hugepages(unsigned page_kib, const char *what)
{
	return (unsigned)READ_NUMBER(0, "/sys/kernel/mm/hugepages/hugepages-%ukB/%s", page_kib, what);
}

static void read_memory(struct bw_machine *m)
{
	char line[512], mount[256];
	struct rlimit limit;
	FILE *f;

	m->memory_bytes = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
	m->hugepages_2m_total = hugepages(2048, "nr_hugepages");
	m->hugepages_2m_free = hugepages(2048, "free_hugepages");
	m->hugepages_1g_total = hugepages(1048576, "nr_hugepages");
	m->hugepages_1g_free = hugepages(1048576, "free_hugepages");
	f = fopen("/proc/mounts", "re");
	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		if (sscanf(line, "%*s %255s hugetlbfs", mount) == 1 && strstr(line, " hugetlbfs ") != NULL) {
			snprintf(m->hugetlbfs_mount, sizeof(m->hugetlbfs_mount), "%.127s", mount);
			break;
		}
	}
	if (f != NULL)
		fclose(f);
	if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0)
		m->memlock_bytes = limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur;
}

/* Could be had, given the privilege. */
static bool has_family(int family)
{
	const int fd = socket(family, SOCK_RAW | SOCK_CLOEXEC, 0);

	if (fd >= 0)
		close(fd);
	return fd >= 0 || errno == EPERM || errno == EACCES;
}

static void read_kernel(struct bw_machine *m)
{
	char line[32];
	struct utsname name;

	if (uname(&name) == 0)
		snprintf(m->kernel_release, sizeof(m->kernel_release), "%s", name.release);
	m->has_iommu = count_entries("/sys/class/iommu", "") > 0 ||
		       count_entries("/sys/kernel/iommu_groups", "") > 0;
	m->has_vfio = is_there("/dev/vfio/vfio") || is_there("/sys/bus/pci/drivers/vfio-pci");
	m->has_vfio_noiommu =
		read_line(line, sizeof(line), "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode") &&
		line[0] == 'Y';
	m->has_tun = is_there("/dev/net/tun");
	m->has_af_packet = has_family(AF_PACKET);
	m->has_af_xdp = has_family(AF_XDP);
	m->has_btf = is_there("/sys/kernel/btf/vmlinux");
	m->is_root = geteuid() == 0;
	m->can_net_admin = bw_nic__has_capability(CAP_NET_ADMIN);
	m->can_net_raw = bw_nic__has_capability(CAP_NET_RAW);
	m->can_bpf = bw_nic__has_capability(CAP_BPF) || bw_nic__has_capability(CAP_SYS_ADMIN);
	m->can_lock_memory = bw_nic__has_capability(CAP_IPC_LOCK) || m->memlock_bytes == UINT64_MAX;
}

/* --- NICs ----------------------------------------------------------------------------------------------- */

/* The kernel tells a program's features, not a driver's; so those whose ndo_bpf takes one, as of Linux 6.12. */
static bool has_native_xdp(const char *driver)
{
	static const char *const drivers[] = { "atlantic", "bnxt_en", "bonding", "dpaa2-eth", "ena", "enetc",
		"fec", "fsl_dpaa2_eth", "fsl_enetc", "gve", "hv_netvsc", "i40e", "ice", "igb", "igc", "ionic",
		"ixgbe", "ixgbevf", "mana", "mlx4_core", "mlx4_en", "mlx5_core", "mvneta", "mvpp2", "nfp",
		"qede", "sfc", "stmmac", "thunder-nicvf", "tun", "veth", "virtio_net", "vmxnet3",
		"xen-netfront", "vif" };

	for (unsigned i = 0; i < BW_ARRAY_LEN(drivers); i++) {
		if (strcmp(driver, drivers[i]) == 0)
			return true;
	}
	return false;
}

static void read_pci(struct bw_machine_nic *nic, const char *addr)
{
	const unsigned vendor = (unsigned)READ_NUMBER(0, "/sys/bus/pci/devices/%s/vendor", addr);
	const unsigned device = (unsigned)READ_NUMBER(0, "/sys/bus/pci/devices/%s/device", addr);
	char path[NAME_MAX + 64];

	snprintf(nic->pci_addr, sizeof(nic->pci_addr), "%.15s", addr);
	snprintf(nic->vendor_device, sizeof(nic->vendor_device), "%04x:%04x", vendor & 0xffff,
		device & 0xffff);
	nic->numa_node = (int)READ_NUMBER(-1, "/sys/bus/pci/devices/%s/numa_node", addr);
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver", addr);
	bw_nic__link_name(path, nic->driver, sizeof(nic->driver));
	nic->is_bound_to_dpdk = bw_nic__is_dpdk_driver(nic->driver);
}

/* The PCI device that an interface is of, itself or by way of the virtio device on it. False: of none. */
static bool pci_addr_of(const char *iface, char addr[BW_NIC__PCI_ADDR_BYTES])
{
	char path[64], device[PATH_MAX], *name;

	snprintf(path, sizeof(path), "/sys/class/net/%s/device", iface);
	if (realpath(path, device) == NULL)
		return false;
	name = strrchr(device, '/');
	if (strncmp(name, "/virtio", 7) == 0) {
		*name = '\0';
		name = strrchr(device, '/');
	}
	return name != NULL && bw_nic__pci_addr(name + 1, strlen(name + 1), addr);
}

static void read_iface(struct bw_machine *m, const char *name)
{
	struct bw_machine_nic *nic = &m->nics[m->nic_count];
	struct bw_nic__iface iface;
	char path[128], addr[BW_NIC__PCI_ADDR_BYTES];
	long speed;

	if (bw_nic__iface_read(name, &iface) != 0 || iface.is_loopback)
		return;
	memset(nic, 0, sizeof(*nic));
	nic->numa_node = -1;
	snprintf(nic->iface, sizeof(nic->iface), "%.15s", name);
	if (pci_addr_of(name, addr))
		read_pci(nic, addr);
	nic->is_virtual = iface.is_virtual;
	if (iface.driver[0] != '\0')
		snprintf(nic->driver, sizeof(nic->driver), "%s", iface.driver);
	snprintf(path, sizeof(path), "/sys/class/net/%s/queues", name);
	nic->queues = BW_MAX(count_entries(path, "rx-"), 1u);
	speed = READ_NUMBER(0, "/sys/class/net/%s/speed", name);
	nic->speed_mbps = speed > 0 ? (uint32_t)speed : 0;
	nic->is_up = iface.is_up;
	nic->has_default_route = bw_nic__iface_has_default_route(name) != 0; /* who knows: it may */
	nic->has_native_xdp = has_native_xdp(nic->driver);
	m->nic_count++;
}

static int is_one(const char *path, const char *name, void *arg)
{
	return 1;
}

/* PCI network devices (class 02) that a DPDK driver holds, or none: the kernel has no interface for them. */
static void read_unclaimed(struct bw_machine *m, const char *addr)
{
	struct bw_machine_nic *nic = &m->nics[m->nic_count];
	char path[NAME_MAX + 64];

	if (READ_NUMBER(0, "/sys/bus/pci/devices/%s/class", addr) >> 16 != 0x02)
		return;
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", addr);
	if (bw_nic__each_iface(path, is_one, NULL) != 0)
		return;
	for (unsigned i = 0; i < m->nic_count; i++) {
		if (strcmp(m->nics[i].pci_addr, addr) == 0)
			return;
	}
	memset(nic, 0, sizeof(*nic));
	read_pci(nic, addr);
	m->nic_count++;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void each_entry(struct bw_machine *m, const char *path, void (*fn)(struct bw_machine *, const char *))
{
	struct dirent **entries = NULL;
	const int count = scandir(path, &entries, NULL, by_name);

	for (int i = 0; i < count; i++) {
		if (entries[i]->d_name[0] != '.' && m->nic_count < BW_MACHINE_NICS_MAX)
			fn(m, entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
}

/* By netlink's eyes, not sysfs': sysfs shows the namespace that it was mounted in. */
static void read_ifaces(struct bw_machine *m)
{
	struct if_nameindex *list = if_nameindex();

	for (struct if_nameindex *i = list;
		i != NULL && i->if_index != 0 && m->nic_count < BW_MACHINE_NICS_MAX; i++)
		read_iface(m, i->if_name);
	if (list != NULL)
		if_freenameindex(list);
}

void bw_machine_read(struct bw_machine *machine)
{
	memset(machine, 0, sizeof(*machine));
	read_cpu(machine);
	read_memory(machine);
	read_kernel(machine);
	read_ifaces(machine);
	each_entry(machine, "/sys/bus/pci/devices", read_unclaimed);
}
