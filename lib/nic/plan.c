/* SPDX-License-Identifier: BSD-3-Clause */
/* From --dev SPEC to DPDK devargs, with every check that can be made before EAL runs. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <base/log.h>
#include <nic/machine.h>
#include <nic/nic.h>

#include "internal.h"

#define TAP_NAME_DEFAULT  "bw0"
/* net_tap's own limit in DPDK 22.11 */
#define TAP_QUEUES_MAX    16u
#define RING_QUEUES_MAX   16u
/* net_virtio_user's own limit in DPDK 22.11 */
#define VIRTIO_QUEUES_MAX 8u
#define XDP_QUEUES_MAX    32u /* each is a port, and DPDK has RTE_MAX_ETHPORTS */
/* As DPDK has it. */
#define XDP_BUSY_POLL     64

#define VDEV_NAME "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"

_Static_assert(XDP_QUEUES_MAX <= RTE_MAX_ETHPORTS, "ports");

static bool is_iface_name(const char *name)
{
	const size_t len = strlen(name);

	if (len == 0 || len >= IFNAMSIZ || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return false;
	for (const char *c = name; *c != '\0'; c++) {
		/* The kernel takes more; what it takes beyond these would not survive devargs. */
		if (!isalnum((unsigned char)*c) && strchr("._-@+", *c) == NULL)
			return false;
	}
	return true;
}

static int set_devargs(struct bw_nic_plan *plan, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
static int set_devargs(struct bw_nic_plan *plan, const char *format, ...)
{
	va_list list;
	int len;

	va_start(list, format);
	len = vsnprintf(plan->devargs, sizeof(plan->devargs), format, list);
	va_end(list);
	if (len >= 0 && (size_t)len < sizeof(plan->devargs))
		return 0;
	bw_error("--dev %s: longer than the %zu bytes that DPDK takes; use shorter names", plan->spec,
		sizeof(plan->devargs) - 1);
	return -EINVAL;
}

static int need_capability(const char *spec, unsigned capability, const char *name)
{
	if (bw_nic__has_capability(capability))
		return 0;
	bw_error("--dev %s: needs the capability %s; run as root, or: setcap %s+ep on the binary", spec, name,
		name);
	return -EACCES;
}

static int plan_tap(const char *rest, unsigned queues, struct bw_nic_plan *plan)
{
	const char *name = rest[0] != '\0' ? rest : TAP_NAME_DEFAULT;
	struct bw_nic__iface iface;
	int fd, rc;

	if (!is_iface_name(name)) {
		bw_error("--dev %s: \"%s\" is not an interface name: 1 to 15 letters, digits, . _ -",
			plan->spec, name);
		return -EINVAL;
	}
	rc = need_capability(plan->spec, CAP_NET_ADMIN, "cap_net_admin");
	if (rc != 0)
		return rc;
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		rc = -errno;
		bw_error("--dev %s: /dev/net/tun: %s; load it with: modprobe tun", plan->spec,
			strerror(errno));
		return rc == -ENOENT || rc == -ENXIO ? -ENODEV : -EACCES;
	}
	close(fd);
	if (bw_nic__iface_read(name, &iface) == 0) {
		bw_error(
			"--dev %s: the interface %s exists already; choose another name with --dev tap:NAME, or: "
			"ip link delete %s",
			plan->spec, name, name);
		return -EBUSY;
	}
	plan->kind = BW_NIC_TAP;
	memcpy(plan->iface, name, strlen(name) + 1);
	plan->queues_max = BW_MIN(queues, TAP_QUEUES_MAX);
	return set_devargs(plan, "net_tap0,iface=%s", name);
}

/* packet: and xdp: sit on an interface that is there, is up and is Ethernet. */
static int plan_iface(const char *name, struct bw_nic_plan *plan, struct bw_nic__iface *iface)
{
	int rc;

	if (!is_iface_name(name)) {
		bw_error("--dev %s: \"%s\" is not an interface name; `ip link` lists the interfaces",
			plan->spec, name);
		return -EINVAL;
	}
	rc = bw_nic__iface_read(name, iface);
	if (rc == -ENODEV) {
		bw_error("--dev %s: there is no interface %s; `ip link` lists the interfaces", plan->spec,
			name);
		return rc;
	}
	if (rc != 0) {
		bw_error("--dev %s: cannot look at %s: %s", plan->spec, name, strerror(-rc));
		return rc;
	}
	if (!iface->is_ethernet) {
		bw_error("--dev %s: %s is not an Ethernet interface", plan->spec, name);
		return -EINVAL;
	}
	if (!iface->is_up) {
		bw_error("--dev %s: %s is down; set it up with: ip link set %s up", plan->spec, name, name);
		return -ENODEV;
	}
	memcpy(plan->iface, name, strlen(name) + 1);
	return 0;
}

static int plan_packet(const char *name, unsigned queues, struct bw_nic_plan *plan)
{
	struct bw_nic__iface iface;
	int rc = plan_iface(name, plan, &iface);

	if (rc == 0)
		rc = need_capability(plan->spec, CAP_NET_RAW, "cap_net_raw");
	if (rc != 0)
		return rc;
	plan->kind = BW_NIC_PACKET;
	plan->queues_max = queues;
	return set_devargs(plan, "net_af_packet0,iface=%s,qpairs=%u,blocksz=%u,framesz=%u,framecnt=%u", name,
		queues, BW_NIC__PACKET_BLOCK_BYTES, BW_NIC__PACKET_FRAME_BYTES, BW_NIC__PACKET_FRAMES);
}

/* The value of k=v when the key is `key`, else NULL. */
static const char *value_of(const char *option, const char *key)
{
	const size_t len = strlen(key);

	return strncmp(option, key, len) == 0 && option[len] == '=' ? option + len + 1 : NULL;
}

/* 0, or -EINVAL after one line. */
static int number(const struct bw_nic_plan *plan, const char *key, const char *text, unsigned long min,
	unsigned long max, unsigned *out)
{
	char *end;
	unsigned long value;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (isdigit((unsigned char)text[0]) && *end == '\0' && errno == 0 && value >= min && value <= max) {
		*out = (unsigned)value;
		return 0;
	}
	bw_error(
		"--dev %s: %s must be a number from %lu to %lu, not \"%s\"", plan->spec, key, min, max, text);
	return -EINVAL;
}

/* 0, or -EINVAL after one line. */
static int role(const struct bw_nic_plan *plan, const char *text, bool *is_client)
{
	*is_client = strcmp(text, "client") == 0;
	if (*is_client || strcmp(text, "server") == 0)
		return 0;
	bw_error("--dev %s: role must be server or client, not \"%s\"", plan->spec, text);
	return -EINVAL;
}

struct xdp_options {
	unsigned busy_poll; /* packets that a look at the device may handle; 0: only its interrupts do */
	unsigned copies;
};

/* "busy_poll=64", say. 0, or -EINVAL after one line. */
static int xdp_option(const struct bw_nic_plan *plan, const char *option, struct xdp_options *o)
{
	const char *value;

	if ((value = value_of(option, "busy_poll")) != NULL)
		return number(plan, "busy_poll", value, 0, UINT16_MAX, &o->busy_poll);
	if ((value = value_of(option, "copy")) != NULL)
		return number(plan, "copy", value, 0, 1, &o->copies);
	bw_error("--dev %s: unknown option \"%s\"; xdp:IFACE takes busy_poll, copy", plan->spec, option);
	return -EINVAL;
}

static int plan_xdp(const char *rest, unsigned queues, struct bw_nic_plan *plan)
{
	struct xdp_options o = { .busy_poll = XDP_BUSY_POLL };
	char text[sizeof(plan->spec)], *save = text, *name, *word;
	struct bw_nic__iface iface;
	unsigned pairs;
	int rc = 0;

	memcpy(text, rest, strlen(rest) + 1);
	name = strsep(&save, ",");
	while (rc == 0 && (word = strsep(&save, ",")) != NULL)
		rc = xdp_option(plan, word, &o);
	if (rc == 0)
		rc = plan_iface(name, plan, &iface);
	if (rc == 0)
		rc = need_capability(plan->spec, CAP_NET_ADMIN, "cap_net_admin");
	if (rc == 0)
		rc = need_capability(plan->spec, CAP_NET_RAW, "cap_net_raw");
	if (rc != 0)
		return rc;
	plan->kind = BW_NIC_XDP;
	/* What does not say how many queues it has, has one. A socket that receives on a queue sends on it, too. */
	pairs = BW_MAX(BW_MIN(iface.rx_channels, iface.tx_channels), 1u);
	if (iface.rx_channels > pairs) {
		bw_error(
			"--dev %s: %s receives on %u queues and sends on %u, and a worker needs both; receive on as many: "
			"ethtool -L %s rx %u",
			plan->spec, name, iface.rx_channels, iface.tx_channels, name,
			pairs - BW_MIN(iface.combined_channels, pairs));
		return -EINVAL;
	}
	plan->queues_max = BW_MIN(queues, pairs);
	plan->queues_max = plan->port_count = BW_MIN(plan->queues_max, XDP_QUEUES_MAX);
	/* The device spreads over all its queues, and what arrives on one that is not ours is lost. */
	if (iface.rx_channels > plan->queues_max) {
		bw_error(
			"--dev %s: %s spreads what it receives over %u queues and %u would be served; %sethtool -L "
			"%s %s %u",
			plan->spec, name, iface.rx_channels, plan->queues_max,
			queues < iface.rx_channels ? "use as many workers, or: " : "", name,
			iface.combined_channels > 0 ? "combined" : "rx", plan->queues_max);
		return -EINVAL;
	}
	return set_devargs(plan, "net_af_xdp0,iface=%s,busy_budget=%u%s", name, o.busy_poll,
		o.copies ? ",force_copy=1" : "");
}

struct memif_options {
	bool is_client, has_zero_copy;
	unsigned id, buffer_bytes, ring_log2, queues;
};

static int memif_option(const struct bw_nic_plan *plan, const char *option, struct memif_options *o)
{
	const char *value;
	unsigned flag;
	int rc;

	if ((value = value_of(option, "role")) != NULL)
		return role(plan, value, &o->is_client);
	if ((value = value_of(option, "id")) != NULL)
		return number(plan, "id", value, 0, INT_MAX, &o->id);
	if ((value = value_of(option, "bsize")) != NULL)
		return number(plan, "bsize", value, 64, UINT16_MAX, &o->buffer_bytes);
	if ((value = value_of(option, "rsize")) != NULL)
		return number(plan, "rsize", value, 1, 14, &o->ring_log2);
	if ((value = value_of(option, "queues")) != NULL)
		return number(plan, "queues", value, 1, BW_NIC__QUEUES_MAX, &o->queues);
	if ((value = value_of(option, "zc")) != NULL) {
		rc = number(plan, "zc", value, 0, 1, &flag);
		o->has_zero_copy = rc == 0 && flag == 1;
		return rc;
	}
	bw_error("--dev %s: unknown option \"%s\"; memif:SOCKET takes role, id, bsize, rsize, queues, zc",
		plan->spec, option);
	return -EINVAL;
}

static int plan_memif(const char *rest, unsigned queues, struct bw_nic_plan *plan)
{
	/* 1024 slots; 2048-byte buffers are the data room of our mbufs */
	struct memif_options o = { .buffer_bytes = 2048, .ring_log2 = 10, .queues = 1 };
	char text[sizeof(plan->spec)], path[BW_NIC__SOCKET_PATH_BYTES];
	char *save, *word;
	int rc;

	memcpy(text, rest, strlen(rest) + 1);
	save = text;
	word = strsep(&save, ",");
	rc = bw_nic__socket_path(plan->spec, "memif", word, path);
	while (rc == 0 && (word = strsep(&save, ",")) != NULL)
		rc = memif_option(plan, word, &o);
	if (rc != 0)
		return rc;
	if (o.has_zero_copy && !o.is_client) {
		bw_error("--dev %s: zc=1 is the client's: the server copies; add role=client or leave it out",
			plan->spec);
		return -EINVAL;
	}
	if (!o.is_client) {
		rc = bw_nic__socket_claim(plan->spec, path);
		if (rc != 0)
			return rc;
	}
	plan->kind = BW_NIC_MEMIF;
	plan->queues_max = BW_MIN(queues, o.queues);
	if (plan->queues_max < o.queues) {
		bw_error(
			"--dev %s: queues=%u, but there are %u workers; both ends of a memif must have the same number",
			plan->spec, o.queues, queues);
		return -EINVAL;
	}
	return set_devargs(plan, "net_memif0,role=%s,id=%u,bsize=%u,rsize=%u,socket-abstract=no,socket=%s%s",
		o.is_client ? "client" : "server", o.id, o.buffer_bytes, o.ring_log2, path,
		o.has_zero_copy ? ",zero-copy=yes" : "");
}

/* A vhost-user device's two ends: who makes the socket is another matter than which end it is. */
struct vhost_options {
	const char *form;
	bool is_client;
	unsigned queues;
};

static int vhost_option(const struct bw_nic_plan *plan, const char *option, struct vhost_options *o)
{
	const unsigned queues_max = plan->kind == BW_NIC_VIRTIO ? VIRTIO_QUEUES_MAX : BW_NIC__QUEUES_MAX;
	const char *value;

	if ((value = value_of(option, "role")) != NULL)
		return role(plan, value, &o->is_client);
	if ((value = value_of(option, "queues")) != NULL)
		return number(plan, "queues", value, 1, queues_max, &o->queues);
	bw_error(
		"--dev %s: unknown option \"%s\"; %s:SOCKET takes role, queues", plan->spec, option, o->form);
	return -EINVAL;
}

/* Where the socket is, who makes it and how many queues there are. 0, or -errno after one line. */
static int plan_vhost_socket(
	const char *rest, unsigned queues, struct bw_nic_plan *plan, struct vhost_options *o)
{
	char text[sizeof(plan->spec)], *save = text, *word;
	int rc;

	memcpy(text, rest, strlen(rest) + 1);
	word = strsep(&save, ",");
	rc = bw_nic__socket_path(plan->spec, o->form, word, plan->socket);
	while (rc == 0 && (word = strsep(&save, ",")) != NULL)
		rc = vhost_option(plan, word, o);
	if (rc != 0)
		return rc;
	if (o->queues > queues) {
		bw_error(
			"--dev %s: queues=%u, but there are %u workers to look after them; give fewer, or: --workers %u",
			plan->spec, o->queues, queues, o->queues);
		return -EINVAL;
	}
	plan->queues_max = o->queues;
	plan->is_socket_server = !o->is_client;
	return o->is_client ? bw_nic__socket_may_connect(plan->spec, plan->socket)
			    : bw_nic__socket_claim(plan->spec, plan->socket);
}

static int plan_vhost(const char *rest, unsigned queues, struct bw_nic_plan *plan)
{
	struct vhost_options o = { .form = "vhost", .queues = queues };
	int rc;

	plan->kind = BW_NIC_VHOST;
	rc = plan_vhost_socket(rest, queues, plan, &o);
	if (rc != 0)
		return rc;
	/* No TSO, which is its default: what a guest then sends fits its MTU. */
	return set_devargs(
		plan, "net_vhost0,iface=%s,queues=%u,client=%d", plan->socket, o.queues, o.is_client);
}

static int plan_virtio(const char *rest, unsigned queues, struct bw_nic_plan *plan)
{
	struct vhost_options o = { .form = "virtio", .is_client = true, .queues = 1 };
	int rc;

	plan->kind = BW_NIC_VIRTIO;
	rc = plan_vhost_socket(rest, queues, plan, &o);
	if (rc != 0)
		return rc;
	return set_devargs(plan, "net_virtio_user0,path=%s,queues=%u,queue_size=%u,server=%d", plan->socket,
		o.queues, BW_NIC__DESCS, !o.is_client);
}

static int plan_pcap(const char *rest, struct bw_nic_plan *plan)
{
	const char *comma = strchr(rest, ',');
	char in[sizeof(plan->spec)];
	FILE *file;

	if (comma == NULL || comma == rest || comma[1] == '\0' || strchr(comma + 1, ',') != NULL) {
		bw_error("--dev %s: write pcap:IN,OUT, two file names without commas", plan->spec);
		return -EINVAL;
	}
	snprintf(in, sizeof(in), "%.*s", (int)(comma - rest), rest);
	file = fopen(in, "re");
	if (file == NULL) {
		const int err = errno;

		bw_error("--dev %s: cannot read %s: %s", plan->spec, in, strerror(err));
		return err == EACCES ? -EACCES : -ENODEV;
	}
	fclose(file);
	plan->kind = BW_NIC_PCAP;
	plan->queues_max = 1;
	return set_devargs(plan, "net_pcap0,rx_pcap=%s,tx_pcap=%s", in, comma + 1);
}

static int plan_pci(const char *rest, unsigned queues, struct bw_nic_plan *plan)
{
	const size_t addr_len = strcspn(rest, ",");
	char addr[BW_NIC__PCI_ADDR_BYTES], path[96], driver[64], group[64];

	if (!bw_nic__pci_addr(rest, addr_len, addr)) {
		bw_error(
			"--dev %s: \"%.*s\" is not a PCI address such as 0000:03:00.0; `barewire doctor` lists the NICs",
			plan->spec, (int)addr_len, rest);
		return -EINVAL;
	}
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", addr);
	if (access(path, F_OK) != 0) {
		bw_error("--dev %s: there is no PCI device %s; `barewire doctor` lists the NICs", plan->spec,
			addr);
		return -ENODEV;
	}
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver", addr);
	bw_nic__link_name(path, driver, sizeof(driver));
	if (driver[0] == '\0') {
		bw_error("--dev %s: no driver holds %s; give it to DPDK's: barewire bind %s", plan->spec,
			addr, addr);
		return -ENODEV;
	}
	/* mlx4 and mlx5 run beside their kernel driver. */
	if (!bw_nic__is_dpdk_driver(driver) && strncmp(driver, "mlx", 3) != 0) {
		bw_error(
			"--dev %s: the kernel's driver %s holds it; give it to DPDK, which takes its interface away from "
			"the kernel: barewire bind %s",
			plan->spec, driver, addr);
		return -EBUSY;
	}
	if (strcmp(driver, "vfio-pci") == 0) {
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group", addr);
		bw_nic__link_name(path, group, sizeof(group));
		if (group[0] == '\0') {
			bw_error(
				"--dev %s: bound to vfio-pci, but the machine has no IOMMU; switch it on in the firmware and "
				"with intel_iommu=on, or bind to uio_pci_generic",
				plan->spec);
			return -ENODEV;
		}
		snprintf(path, sizeof(path), "/dev/vfio/%s", group);
		if (access(path, R_OK | W_OK) != 0) {
			bw_error("--dev %s: %s: %s; run as root, or give your user that file", plan->spec,
				path, strerror(errno));
			return -EACCES;
		}
	}
	plan->kind = BW_NIC_PCI;
	plan->is_pci = true;
	plan->queues_max = queues;
	return set_devargs(plan, "%s%s", addr, rest + addr_len);
}

/* 0, or -errno after one line. */
static int bond_member(struct bw_nic_plan *plan, const char *word, unsigned queues)
{
	struct bw_nic_plan member = { 0 };
	const char *name = word;
	int rc;

	if (strncmp(word, "pci:", 4) == 0) {
		memcpy(member.spec, plan->spec, sizeof(member.spec));
		rc = plan_pci(word + 4, queues, &member);
		if (rc != 0)
			return rc;
		name = member.devargs;
	} else if (strncmp(word, "net_", 4) != 0 || word[strspn(word, VDEV_NAME)] != '\0') {
		bw_error(
			"--dev %s: \"%s\" is no member; write pci:ADDR, or net_NAME of a device behind \"--\"; a bond of the "
			"kernel's is xdp:bond0 or packet:bond0",
			plan->spec, word);
		return -EINVAL;
	}
	for (unsigned i = 0; i < plan->member_count; i++) {
		if (strcmp(plan->members[i], name) != 0)
			continue;
		bw_error("--dev %s: %s is named twice; leave one of them out", plan->spec, name);
		return -EINVAL;
	}
	if (plan->member_count == BW_NIC_MEMBERS_MAX || strlen(name) >= sizeof(plan->members[0])) {
		bw_error(
			"--dev %s: %s is one member too many, or its name is too long; at most %u, of %zu letters",
			plan->spec, name, BW_NIC_MEMBERS_MAX, sizeof(plan->members[0]) - 1);
		return -EINVAL;
	}
	memcpy(plan->members[plan->member_count++], name, strlen(name) + 1);
	return 0;
}

static int plan_bond(const char *rest, unsigned queues, struct bw_nic_plan *plan)
{
	/* As net_bonding numbers them. */
	static const struct {
		const char *name;
		unsigned number;
	} modes[] = { { "active-backup", 1 }, { "balance-xor", 2 }, { "802.3ad", 4 } };
	char text[sizeof(plan->spec)], members[sizeof(plan->devargs)] = "", *save = text, *word;
	unsigned mode = 0;
	size_t used = 0;
	int rc = 0;

	memcpy(text, rest, strlen(rest) + 1);
	word = strsep(&save, ",");
	for (unsigned i = 0; i < BW_ARRAY_LEN(modes); i++)
		if (strcmp(word, modes[i].name) == 0)
			mode = modes[i].number;
	if (mode == 0) {
		bw_error("--dev %s: \"%s\" is no mode of a bond; write bond:MODE,DEV,DEV with active-backup, "
			 "balance-xor or 802.3ad",
			plan->spec, word);
		return -EINVAL;
	}
	plan->kind = BW_NIC_BOND;
	while (rc == 0 && (word = strsep(&save, ",")) != NULL)
		rc = bond_member(plan, word, queues);
	if (rc != 0)
		return rc;
	if (plan->member_count < 2) {
		bw_error("--dev %s: a bond has two members or more; write bond:MODE,DEV,DEV", plan->spec);
		return -EINVAL;
	}
	for (unsigned i = 0; i < plan->member_count && used < sizeof(members); i++)
		used += (size_t)snprintf(
			members + used, sizeof(members) - used, ",slave=%s", plan->members[i]);
	plan->queues_max = queues;
	return set_devargs(plan, "net_bonding0,mode=%u,xmit_policy=l34%s", mode, members);
}

/* The only PCI NIC that somebody has given to DPDK is meant; else the device that needs nothing. */
static int plan_auto(unsigned queues, struct bw_nic_plan *plan)
{
	struct bw_machine *machine = malloc(sizeof(*machine));
	const struct bw_machine_nic *only = NULL;
	unsigned bound = 0;

	if (machine == NULL) {
		bw_error("--dev auto: out of memory");
		return -ENOMEM;
	}
	bw_machine_read(machine);
	for (unsigned i = 0; i < machine->nic_count; i++) {
		if (!machine->nics[i].is_bound_to_dpdk)
			continue;
		only = &machine->nics[i];
		bound++;
	}
	if (bound == 1) {
		snprintf(plan->spec, sizeof(plan->spec), "pci:%s", only->pci_addr);
		snprintf(plan->reason, sizeof(plan->reason),
			"chosen because it is the only NIC that is bound to a DPDK driver (%s)",
			only->driver);
	} else {
		snprintf(plan->spec, sizeof(plan->spec), "tap:" TAP_NAME_DEFAULT);
		snprintf(plan->reason, sizeof(plan->reason), "%s",
			bound == 0
				? "chosen because no NIC is bound to a DPDK driver and a TAP needs none"
				: "chosen because several NICs are bound to DPDK drivers: name one with --dev pci:ADDR");
	}
	free(machine);
	if (bound == 1)
		return plan_pci(plan->spec + strlen("pci:"), queues, plan);
	return plan_tap(TAP_NAME_DEFAULT, queues, plan);
}

static int plan_vdev(const char *spec, unsigned queues, struct bw_nic_plan *plan)
{
	plan->kind = BW_NIC_VDEV;
	plan->queues_max = queues;
	return set_devargs(plan, "%s", spec);
}

/* The name by which DPDK knows a NIC or a bond's member; NULL behind the last one. */
static const char *device_name(const struct bw_nic_plan *plan, unsigned index, char out[32])
{
	if (plan->member_count == 0 && index == 0 && plan->devargs[0] != '\0')
		snprintf(out, 32, "%.*s", (int)BW_MIN(strcspn(plan->devargs, ","), 31u), plan->devargs);
	else if (index < plan->member_count)
		memcpy(out, plan->members[index], 32);
	else
		return NULL;
	return out;
}

/* What an instance can have once: an interface, a socket, a PCI device. NULL: they do not meet. */
static const char *common(const struct bw_nic_plan *a, const struct bw_nic_plan *b, char name[32])
{
	const bool are_named = (a->is_pci || a->member_count > 0) && (b->is_pci || b->member_count > 0);
	char other[32];

	if (a->iface[0] != '\0' && strcmp(a->iface, b->iface) == 0)
		return a->iface;
	if (a->socket[0] != '\0' && strcmp(a->socket, b->socket) == 0)
		return a->socket;
	for (unsigned i = 0; are_named && device_name(a, i, name) != NULL; i++)
		for (unsigned k = 0; device_name(b, k, other) != NULL; k++)
			if (strcmp(name, other) == 0)
				return name;
	return NULL;
}

int bw_nic__plans_meet(const struct bw_nic_plan *plans, unsigned count)
{
	char name[32];

	for (unsigned i = 1; i < count; i++) {
		for (unsigned k = 0; k < i; k++) {
			const char *what = common(&plans[k], &plans[i], name);

			if (what == NULL)
				continue;
			bw_error(
				"--dev %s: %s is that of --dev %s already; leave one of them out, or name another",
				plans[i].spec, what, plans[k].spec);
			return -EBUSY;
		}
	}
	return 0;
}

int bw_nic_plan(const char *spec, unsigned queues, struct bw_nic_plan *plan)
{
	const size_t kind_len = strcspn(spec, ":");
	const char *rest = spec[kind_len] == ':' ? spec + kind_len + 1 : "";

	memset(plan, 0, sizeof(*plan));
	if (strlen(spec) >= sizeof(plan->spec)) {
		bw_error("--dev %.40s...: longer than %zu bytes", spec, sizeof(plan->spec) - 1);
		return -EINVAL;
	}
	memcpy(plan->spec, spec, strlen(spec) + 1);
	plan->port_count = 1;
	queues = BW_MIN(BW_MAX(queues, 1u), BW_NIC__QUEUES_MAX);

#define IS(name) (kind_len == strlen(name) && memcmp(spec, name, kind_len) == 0)
	if (IS("auto") && spec[kind_len] == '\0')
		return plan_auto(queues, plan);
	if (IS("tap"))
		return plan_tap(rest, queues, plan);
	if (IS("packet"))
		return plan_packet(rest, queues, plan);
	if (IS("xdp"))
		return plan_xdp(rest, queues, plan);
	if (IS("memif"))
		return plan_memif(rest, queues, plan);
	if (IS("vhost"))
		return plan_vhost(rest, queues, plan);
	if (IS("virtio"))
		return plan_virtio(rest, queues, plan);
	if (IS("ring") && spec[kind_len] == '\0') {
		plan->kind = BW_NIC_RING;
		plan->queues_max = BW_MIN(queues, RING_QUEUES_MAX);
		return 0;
	}
	if (IS("pcap"))
		return plan_pcap(rest, plan);
	if (IS("pci"))
		return plan_pci(rest, queues, plan);
	if (IS("bond"))
		return plan_bond(rest, queues, plan);
#undef IS
	if (strncmp(spec, "net_", 4) == 0 || strncmp(spec, "eth_", 4) == 0)
		return plan_vdev(spec, queues, plan);
	bw_error(
		"--dev %s: not a device; write auto, tap[:NAME], packet:IFACE, xdp:IFACE, memif:SOCKET, "
		"vhost:SOCKET, virtio:SOCKET, ring, pcap:IN,OUT, pci:ADDR, bond:MODE,DEV,DEV or net_DRIVER,k=v",
		spec);
	return -EINVAL;
}
