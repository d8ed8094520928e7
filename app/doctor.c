/* SPDX-License-Identifier: BSD-3-Clause */
/** Looks at the machine, changes nothing, and says in plain words what works, what would help, and what cannot be. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <base/log.h>
#include <nic/machine.h>

#include "app.h"

/* What EAL takes of pinned memory for two workers with room to spare; AF_XDP's buffers count against the limit. */
#define MEMLOCK_WANTED_BYTES (64ull << 20)

enum group {
	WORKS,
	FASTER,
	MISSING,
	GROUP_COUNT,
};

struct report {
	char *text[GROUP_COUNT];
	size_t bytes[GROUP_COUNT];
	FILE *stream[GROUP_COUNT];
};

/** One finding: what it is about, then what there is to say; lines after the first are commands to paste. */
__attribute__((format(printf, 4, 5))) static void say(
	struct report *r, enum group group, const char *about, const char *format, ...)
{
	FILE *out = r->stream[group];
	char text[512], *rest = text;
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	fprintf(out, "  %-12s %s\n", about, strsep(&rest, "\n"));
	while (rest != NULL)
		fprintf(out, "  %-12s   $ %s\n", "", strsep(&rest, "\n"));
}

static void machine_is(const struct bw_machine *m)
{
	printf("%s, %u CPUs%s, %u NUMA node%s, %.1f GiB, Linux %s%s\n",
		m->cpu_model[0] != '\0' ? m->cpu_model : "CPU", m->cpus_online,
		m->is_smt_on ? " (hyper-threads)" : "", BW_MAX(m->numa_nodes, 1u),
		m->numa_nodes > 1 ? "s" : "", (double)m->memory_bytes / (1 << 30), m->kernel_release,
		m->is_virtual_machine ? ", a virtual machine" : "");
}

static void privileges(struct report *r, const struct bw_machine *m)
{
	if (m->is_root)
		say(r, WORKS, "privileges", "root");
	else if (m->can_net_admin && m->can_net_raw)
		say(r, WORKS, "privileges", "CAP_NET_ADMIN and CAP_NET_RAW: TAP and AF_PACKET%s",
			m->can_bpf ? ", and CAP_BPF: AF_XDP" : "");
	else
		say(r, MISSING, "privileges",
			"neither root nor CAP_NET_ADMIN: only memif, vhost, virtio and ring will do\nsudo barewire "
			"serve ...");
	if (m->memlock_bytes < MEMLOCK_WANTED_BYTES && !m->can_lock_memory)
		say(r, MISSING, "memlock",
			"%" PRIu64 " KiB may be pinned, too little for AF_XDP\nulimit -l unlimited",
			m->memlock_bytes >> 10);
}

static void devices(struct report *r, const struct bw_machine *m)
{
	if (!m->has_tun)
		say(r, MISSING, "TAP", "no /dev/net/tun\nmodprobe tun");
	else if (!m->can_net_admin)
		say(r, MISSING, "TAP", "making an interface needs root or CAP_NET_ADMIN");
	else
		say(r, WORKS, "TAP", "--dev tap: an interface to this machine, made and removed by barewire");
	if (!m->has_af_packet)
		say(r, MISSING, "AF_PACKET", "the kernel has none\nmodprobe af_packet");
	else if (!m->can_net_raw)
		say(r, MISSING, "AF_PACKET", "raw packets need root or CAP_NET_RAW");
	else
		say(r, WORKS, "AF_PACKET", "--dev packet:IFACE: any interface, shared with the kernel");
	if (!m->has_af_xdp)
		say(r, MISSING, "AF_XDP", "the kernel was built without CONFIG_XDP_SOCKETS");
	else if (!m->can_bpf || !m->can_net_admin || !m->can_net_raw)
		say(r, MISSING, "AF_XDP",
			"loading its program needs root, or CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW");
	else
		say(r, WORKS, "AF_XDP", "--dev xdp:IFACE: faster than AF_PACKET, shared with the kernel");
	if (m->has_btf)
		say(r, WORKS, "BTF", "the kernel describes its types to BPF programs");
	else
		say(r, MISSING, "BTF",
			"no /sys/kernel/btf/vmlinux: BPF programs that need the kernel's types will not load");
	say(r, WORKS, "memif", "--dev memif:SOCKET: shared memory to another DPDK or VPP program, no NIC");
	say(r, WORKS, "vhost-user",
		"--dev vhost:SOCKET: a virtual machine's NIC; virtio:SOCKET: as one, to a virtual switch");
}

static void memory(struct report *r, const struct bw_machine *m)
{
	if (m->hugepages_2m_free > 0 || m->hugepages_1g_free > 0)
		say(r, WORKS, "hugepages", "%u of %u of 2 MiB and %u of %u of 1 GiB are free",
			m->hugepages_2m_free, m->hugepages_2m_total, m->hugepages_1g_free,
			m->hugepages_1g_total);
	else if (m->hugepages_2m_total > 0 || m->hugepages_1g_total > 0)
		say(r, FASTER, "hugepages",
			"all are in use: more of them, for fewer TLB misses\nsysctl vm.nr_hugepages=%u",
			m->hugepages_2m_total + 256);
	else
		say(r, FASTER, "hugepages",
			"none, and none are needed; 512 MiB of them make fewer TLB misses\nsysctl vm.nr_hugepages=256");
}

static void cpus(struct report *r, const struct bw_machine *m)
{
	if (m->isolated_cpus[0] != '\0')
		say(r, WORKS, "isolation", "CPUs %s are kept for workers", m->isolated_cpus);
	else if (m->cpus_online > 1)
		say(r, FASTER, "isolation",
			"no CPU is kept for workers: others' threads interrupt them; boot with "
			"isolcpus=%u nohz_full=%u rcu_nocbs=%u",
			m->cpus_online - 1, m->cpus_online - 1, m->cpus_online - 1);
	else
		say(r, FASTER, "CPUs", "one CPU: workers share it with everything else");
	if (m->isolated_cpus[0] != '\0' && m->nohz_full_cpus[0] == '\0')
		say(r, FASTER, "timer tick", "isolated CPUs are interrupted by it; boot with nohz_full=%s",
			m->isolated_cpus);
	if (m->governor[0] == '\0')
		say(r, WORKS, "governor", "none: %s",
			m->is_virtual_machine ? "the host decides on the clock" : "the clock is fixed");
	else if (strcmp(m->governor, "performance") == 0)
		say(r, WORKS, "governor", "performance");
	else
		say(r, FASTER, "governor",
			"%s lowers the clock of a core that waits\n"
			"echo performance | tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
			m->governor);
	if (m->is_smt_on)
		say(r, FASTER, "hyper-threads",
			"two workers on one core share its caches: give one of each pair to --cpus\n"
			"lscpu -e=CPU,CORE");
	if (!m->has_invariant_tsc)
		say(r, MISSING, "TSC",
			"its rate may change with the CPU's, and with it the clock of barewire");
	if (m->numa_nodes > 1)
		say(r, FASTER, "NUMA", "%u nodes: take --cpus of the NIC's node\nlscpu -e=CPU,NODE",
			m->numa_nodes);
}

static void iommu(struct report *r, const struct bw_machine *m)
{
	if (m->has_iommu && m->has_vfio)
		say(r, WORKS, "IOMMU", "on, with vfio: a NIC of its own is safe to give to barewire");
	else if (m->has_iommu)
		say(r, FASTER, "IOMMU",
			"on, but vfio is not loaded; a NIC of its own needs it\nmodprobe vfio-pci");
	else if (m->has_vfio_noiommu)
		say(r, WORKS, "IOMMU",
			"none; vfio works without, and a NIC may then write anywhere in memory");
	else
		say(r, MISSING, "IOMMU",
			"none: a NIC of its own is only possible without its protection\n"
			"modprobe vfio enable_unsafe_noiommu_mode=1 && modprobe vfio-pci");
}

static void nic_describe(const struct bw_machine_nic *nic, char *out, size_t bytes)
{
	size_t used = 0;

#define ADD(...)                                                                                             \
	do {                                                                                                 \
		int add_len = snprintf(out + used, bytes - used, __VA_ARGS__);                               \
		used = add_len < 0 ? used : BW_MIN(used + (size_t)add_len, bytes - 1);                       \
	} while (0)
	ADD("%s", nic->driver[0] != '\0' ? nic->driver : "no driver");
	if (nic->pci_addr[0] != '\0')
		ADD(", PCI %s", nic->pci_addr);
	if (nic->vendor_device[0] != '\0')
		ADD(" (%s)", nic->vendor_device);
	if (nic->queues > 0)
		ADD(", %u queue%s", nic->queues, nic->queues > 1 ? "s" : "");
	if (nic->speed_mbps > 0)
		ADD(", %g Gbit/s", nic->speed_mbps / 1000.0);
	if (nic->numa_node >= 0)
		ADD(", node %d", nic->numa_node);
	if (nic->iface[0] != '\0')
		ADD(", %s", nic->is_up ? "up" : "down");
#undef ADD
}

static void nics(struct report *r, const struct bw_machine *m)
{
	for (unsigned i = 0; i < m->nic_count; i++) {
		const struct bw_machine_nic *nic = &m->nics[i];
		char what[160];

		nic_describe(nic, what, sizeof(what));
		if (nic->is_bound_to_dpdk)
			say(r, WORKS, nic->pci_addr, "%s: --dev pci:%s", what, nic->pci_addr);
		else if (nic->has_default_route)
			say(r, WORKS, nic->iface, "%s; yours: barewire will not touch it unless told", what);
		else if (nic->iface[0] == '\0')
			/* What it is to the machine is not to be seen from here: no advice to take it away. */
			say(r, WORKS, nic->pci_addr, "%s; no interface of the kernel's own", what);
		else if (nic->is_virtual || nic->pci_addr[0] == '\0')
			say(r, WORKS, nic->iface, "%s", what);
		else
			say(r, FASTER, nic->iface,
				"%s; it has no default route, so it could be barewire's alone\n"
				"barewire bind %s",
				what, nic->pci_addr);
		if (nic->iface[0] != '\0' && nic->has_native_xdp && m->has_af_xdp && !nic->has_default_route)
			say(r, WORKS, "", "its driver has XDP: --dev xdp:%s", nic->iface);
	}
}

int bw_app_doctor(int argc, char **argv)
{
	static const char *const titles[GROUP_COUNT] = {
		[WORKS] = "Works",
		[FASTER] = "Would be faster with",
		[MISSING] = "Does not work here",
	};
	bool is_terminal = isatty(STDOUT_FILENO) == 1;
	struct report report = { 0 };
	struct bw_machine *machine;

	if (argc > 0) {
		bw_error("%.60s: doctor takes nothing; leave it away", argv[0]);
		return EXIT_REFUSED;
	}
	machine = calloc(1, sizeof(*machine));
	for (unsigned g = 0; g < GROUP_COUNT; g++)
		report.stream[g] = open_memstream(&report.text[g], &report.bytes[g]);
	if (machine == NULL || report.stream[WORKS] == NULL || report.stream[FASTER] == NULL ||
		report.stream[MISSING] == NULL) {
		bw_error("doctor: out of memory; free some");
		return EXIT_REFUSED; /* the process ends: what was made ends with it */
	}
	bw_machine_read(machine);
	machine_is(machine);
	privileges(&report, machine);
	devices(&report, machine);
	memory(&report, machine);
	cpus(&report, machine);
	iommu(&report, machine);
	nics(&report, machine);
	for (unsigned g = 0; g < GROUP_COUNT; g++) {
		fclose(report.stream[g]);
		if (report.bytes[g] > 0)
			printf("\n%s%s%s\n%s", is_terminal ? "\033[1m" : "", titles[g],
				is_terminal ? "\033[0m" : "", report.text[g]);
		free(report.text[g]);
	}
	free(machine);
	return EXIT_OK;
}
