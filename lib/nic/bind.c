/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A PCI NIC changes its driver in three writes to sysfs (the kernel's Documentation/ABI/testing/sysfs-bus-pci): its
 * driver_override says which driver alone may have it, the unbind of its driver takes it away from that, and
 * drivers_probe has the kernel look for one again. The override stays while DPDK has the NIC, so that nothing else takes
 * it meanwhile.
 *
 * Before the first of them, what it had is written down: "driver NAME" ("-" for none), then "up IFACE" for each of its
 * interfaces that was. Addresses and routes go with an interface, and whose they are is not for us to know.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <base/log.h>
#include <nic/bind.h>

#include "internal.h"

#define DRIVER_DEFAULT    "vfio-pci"
#define DRIVER_BYTES      64
#define NO_DRIVER         "-"
#define DRIVER_LETTERS    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
#define IFACES_BYTES      256
#define CLASS_NETWORK     0x02
#define GROUP_NAMES_SHOWN 4

/* The NIC, and what is the machine's. */
struct nic {
	const struct bw_nic__bind_host *host;
	const char *command;
	char addr[BW_NIC__PCI_ADDR_BYTES];
	char path[PATH_MAX / 2]; /* of the device */
	char driver[DRIVER_BYTES];
};

/* ---- reading --------------------------------------------------------------------------------------------------- */

static bool read_line(const char *path, char *line, size_t line_bytes)
{
	FILE *file = fopen(path, "re");
	bool has_line;

	line[0] = '\0';
	if (file == NULL)
		return false;
	has_line = fgets(line, (int)line_bytes, file) != NULL;
	fclose(file);
	line[strcspn(line, "\n")] = '\0';
	return has_line;
}

static bool read_attribute(const struct nic *nic, const char *name, char *line, size_t line_bytes)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", nic->path, name);
	return read_line(path, line, line_bytes);
}

static void read_link(const struct nic *nic, const char *name, char *out, size_t out_bytes)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", nic->path, name);
	bw_nic__link_name(path, out, out_bytes);
}

static void read_driver(struct nic *nic)
{
	read_link(nic, "driver", nic->driver, sizeof(nic->driver));
}

/* 0, or -errno after one line. */
static int nic_init(
	struct nic *nic, const struct bw_nic__bind_host *host, const char *command, const char *addr)
{
	char line[32];

	memset(nic, 0, sizeof(*nic));
	nic->host = host;
	nic->command = command;
	if (!bw_nic__pci_addr(addr, strlen(addr), nic->addr)) {
		bw_error("%s %.60s: not a PCI address such as 0000:03:00.0; `barewire doctor` lists the NICs",
			command, addr);
		return -EINVAL;
	}
	snprintf(nic->path, sizeof(nic->path), "%s/bus/pci/devices/%s", host->sys, nic->addr);
	if (access(nic->path, F_OK) != 0) {
		bw_error("%s %s: there is no such PCI device; `barewire doctor` lists the NICs", command,
			nic->addr);
		return -ENODEV;
	}
	if (!read_attribute(nic, "class", line, sizeof(line)) ||
		strtoul(line, NULL, 0) >> 16 != CLASS_NETWORK) {
		bw_error("%s %s: not a network device (its class is %s); `barewire doctor` lists the NICs",
			command, nic->addr, line[0] != '\0' ? line : "not shown");
		return -EINVAL;
	}
	read_driver(nic);
	return 0;
}

struct ifaces {
	char all[IFACES_BYTES], up[IFACES_BYTES]; /* names, with a comma between them */
};

static void append_name(char list[IFACES_BYTES], const char *name)
{
	const size_t used = strlen(list);

	snprintf(list + used, IFACES_BYTES - used, "%s%s", used > 0 ? ", " : "", name);
}

static int take_iface(const char *path, const char *name, void *arg)
{
	struct ifaces *ifaces = arg;
	char file[PATH_MAX], flags[32];

	append_name(ifaces->all, name);
	snprintf(file, sizeof(file), "%s/%s/flags", path, name);
	if (read_line(file, flags, sizeof(flags)) && (strtoul(flags, NULL, 0) & IFF_UP) != 0)
		append_name(ifaces->up, name);
	return 0;
}

static void read_ifaces(const struct nic *nic, struct ifaces *ifaces)
{
	memset(ifaces, 0, sizeof(*ifaces));
	bw_nic__each_iface(nic->path, take_iface, ifaces);
}

/* ---- who uses it? ---------------------------------------------------------------------------------------------- */

struct search {
	const char *proc;
	char group[64], uio[64]; /* what a process that has the NIC has open, or empty */
	char device[PATH_MAX];
	char pid[32], name[64]; /* who has */
};

static bool is_of_device(const struct search *search, const char *target)
{
	const size_t len = strlen(search->device);

	return len > 0 && strncmp(target, search->device, len) == 0 &&
	       (strcmp(target + len, "/config") == 0 || strncmp(target + len, "/resource", 9) == 0);
}

static int look_at_file(const char *path, const char *name, void *arg)
{
	const struct search *search = arg;
	char link[PATH_MAX + NAME_MAX + 1], target[PATH_MAX];
	ssize_t len;

	snprintf(link, sizeof(link), "%s/%s", path, name);
	len = readlink(link, target, sizeof(target) - 1);
	if (len < 0)
		return 0;
	target[len] = '\0';
	return (search->group[0] != '\0' && strcmp(target, search->group) == 0) ||
	       (search->uio[0] != '\0' && strcmp(target, search->uio) == 0) || is_of_device(search, target);
}

static int look_at_process(const char *path, const char *name, void *arg)
{
	struct search *search = arg;
	char file[PATH_MAX];

	if (!isdigit((unsigned char)name[0]))
		return 0;
	snprintf(file, sizeof(file), "%s/%s/fd", path, name);
	if (bw_nic__each_entry(file, "", look_at_file, search) == 0)
		return 0;
	snprintf(search->pid, sizeof(search->pid), "%.31s", name);
	snprintf(file, sizeof(file), "%s/%s/comm", path, name);
	read_line(file, search->name, sizeof(search->name));
	return 1;
}

static int take_uio(const char *path, const char *name, void *arg)
{
	struct search *search = arg;

	snprintf(search->uio, sizeof(search->uio), "/dev/%.50s", name);
	return 1;
}

/*
 * As far as can be told from the files that processes have open. To take a NIC of vfio's away would otherwise not end
 * before its user does.
 */
static int check_unused(const struct nic *nic)
{
	struct search search = { .proc = nic->host->proc };
	char group[32], path[PATH_MAX];

	read_link(nic, "iommu_group", group, sizeof(group));
	/* A group without an IOMMU is vfio's own, and called noiommu-N; the NIC's link is the same. */
	if (group[0] != '\0' && strcmp(nic->driver, "vfio-pci") == 0) {
		snprintf(path, sizeof(path), "%s/iommu_group/name", nic->path);
		snprintf(search.group, sizeof(search.group), "/dev/vfio/%s%s",
			read_line(path, search.name, sizeof(search.name)) &&
					strcmp(search.name, "vfio-noiommu") == 0
				? "noiommu-"
				: "",
			group);
		search.name[0] = '\0';
	}
	snprintf(path, sizeof(path), "%s/uio", nic->path);
	bw_nic__each_entry(path, "uio", take_uio, &search);
	if (realpath(nic->path, search.device) == NULL)
		search.device[0] = '\0';
	if (bw_nic__each_entry(search.proc, "", look_at_process, &search) == 0)
		return 0;
	bw_error("%s %s: process %s (%s) uses it; stop that first", nic->command, nic->addr, search.pid,
		search.name);
	return -EBUSY;
}

/* ---- what was -------------------------------------------------------------------------------------------------- */

static void memory_path(const struct nic *nic, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s/%s", nic->host->run, nic->addr);
}

/* Nobody else may write there: it says which driver root loads. What is no folder will not be read as one. */
static bool is_trusted(const char *folder)
{
	struct stat status;

	if (lstat(folder, &status) != 0 || (!S_ISDIR(status.st_mode) && !S_ISLNK(status.st_mode)))
		return true;
	return S_ISDIR(status.st_mode) && status.st_uid == geteuid() &&
	       (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

static int check_memory(const struct nic *nic)
{
	char parent[PATH_MAX];
	char *slash;

	snprintf(parent, sizeof(parent), "%s", nic->host->run);
	slash = strrchr(parent, '/');
	if (slash != NULL && slash != parent)
		*slash = '\0';
	if (is_trusted(parent) && is_trusted(nic->host->run))
		return 0;
	bw_error("%s %s: others may write to %s, where is kept which driver a NIC had; make it root's alone",
		nic->command, nic->addr, nic->host->run);
	return -EPERM;
}

static int make_folders(const char *path)
{
	char copy[PATH_MAX];

	snprintf(copy, sizeof(copy), "%s", path);
	for (char *slash = strchr(copy + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(copy, 0755) != 0 && errno != EEXIST)
			return -errno;
		*slash = '/';
	}
	return 0;
}

/* All of it is there, or nothing. */
static int remember(const struct nic *nic, const struct ifaces *ifaces)
{
	char path[PATH_MAX], made[PATH_MAX + 8];
	FILE *file;
	int rc;

	memory_path(nic, path);
	snprintf(made, sizeof(made), "%s.new", path);
	rc = make_folders(path);
	if (rc == 0) {
		(void)unlink(made); /* of one that was interrupted */
		file = fopen(made, "wxe");
		rc = file == NULL ? -errno : 0;
	}
	if (rc == 0) {
		fprintf(file, "driver %s\n", nic->driver[0] != '\0' ? nic->driver : NO_DRIVER);
		if (ifaces->up[0] != '\0')
			fprintf(file, "up %s\n", ifaces->up);
		if (fflush(file) != 0)
			rc = -errno;
		if (fclose(file) != 0 && rc == 0)
			rc = -errno;
		if (rc == 0 && rename(made, path) != 0)
			rc = -errno;
		if (rc != 0)
			unlink(made);
	}
	if (rc != 0)
		bw_error("%s %s: cannot write down in %s which driver it had: %s; nothing was changed",
			nic->command, nic->addr, path, strerror(-rc));
	return rc;
}

static void forget(const struct nic *nic)
{
	char path[PATH_MAX];

	memory_path(nic, path);
	if (unlink(path) != 0 && errno != ENOENT)
		bw_warn("%s %s: cannot remove %s: %s", nic->command, nic->addr, path, strerror(errno));
}

/* False, and both empty: nothing is remembered. */
static bool recall(const struct nic *nic, char driver[DRIVER_BYTES], char up[IFACES_BYTES])
{
	char path[PATH_MAX], line[IFACES_BYTES + 16];
	FILE *file;

	driver[0] = up[0] = '\0';
	memory_path(nic, path);
	file = fopen(path, "re");
	if (file == NULL)
		return false;
	while (fgets(line, sizeof(line), file) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, "driver ", 7) == 0)
			snprintf(driver, DRIVER_BYTES, "%.63s", line + 7);
		else if (strncmp(line, "up ", 3) == 0)
			snprintf(up, IFACES_BYTES, "%.255s", line + 3);
	}
	fclose(file);
	/* As the kernel's are called; "-" is none. */
	if (driver[strspn(driver, DRIVER_LETTERS)] != '\0')
		driver[0] = '\0';
	return driver[0] != '\0';
}

/* ---- changing -------------------------------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4))) static int write_to(
	const struct nic *nic, const char *text, const char *format, ...)
{
	char path[PATH_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(path, sizeof(path), format, args);
	va_end(args);
	return nic->host->write(path, text);
}

/* "\n": none. */
static int set_override(const struct nic *nic, const char *driver)
{
	return write_to(nic, driver, "%s/driver_override", nic->path);
}

static int take_away(struct nic *nic)
{
	int rc = 0;

	if (nic->driver[0] != '\0')
		rc = write_to(nic, nic->addr, "%s/bus/pci/drivers/%s/unbind", nic->host->sys, nic->driver);
	read_driver(nic);
	return rc;
}

static int probe(struct nic *nic)
{
	int rc = write_to(nic, nic->addr, "%s/bus/pci/drivers_probe", nic->host->sys);

	read_driver(nic);
	return rc;
}

static bool is_loaded(const struct nic *nic, const char *driver)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/bus/pci/drivers/%s", nic->host->sys, driver);
	return access(path, F_OK) == 0;
}

static int load_driver(const struct nic *nic, const char *driver)
{
	if (is_loaded(nic, driver))
		return 0;
	nic->host->modprobe(driver);
	if (is_loaded(nic, driver))
		return 0;
	bw_error(
		"%s %s: the kernel has no driver %s, and modprobe brings none; install the kernel's modules, or "
		"choose another: vfio-pci, uio_pci_generic, igb_uio",
		nic->command, nic->addr, driver);
	return -ENODEV;
}

static int check_writable(const struct nic *nic)
{
	char path[PATH_MAX];
	int rc;

	snprintf(path, sizeof(path), "%s/driver_override", nic->path);
	if (access(path, W_OK) == 0)
		return 0;
	rc = -errno;
	bw_error("%s %s: cannot write to %s: %s; run as root, and not in a container", nic->command,
		nic->addr, path, strerror(-rc));
	return rc;
}

static const char *reason_of(int rc)
{
	return rc != 0 ? strerror(-rc) : "dmesg may say why";
}

/* ---- bind ------------------------------------------------------------------------------------------------------ */

static int check_way_out(const struct nic *nic, const struct ifaces *ifaces, bool may_cut_off)
{
	const bool is_kernels = nic->driver[0] != '\0' && !bw_nic__is_dpdk_driver(nic->driver);
	const bool is_elsewhere = is_kernels && ifaces->all[0] == '\0';
	const int rc = nic->host->has_default_route(nic->path);

	if (rc == 0 && !is_elsewhere)
		return 0;
	if (may_cut_off) {
		bw_warn("%s %s: it %s the default route, as you will have it", nic->command, nic->addr,
			rc > 0 ? "carries" : "may carry");
		return 0;
	}
	if (rc > 0)
		bw_error(
			"%s %s: the default route is through %s, and your way to this machine may be, too; take another "
			"NIC, or come by the console and add --yes-i-am-on-a-console",
			nic->command, nic->addr, ifaces->all[0] != '\0' ? ifaces->all : "it");
	else
		bw_error(
			"%s %s: whether it carries the default route cannot be found out (%s); if you know that it does "
			"not, add --yes-i-am-on-a-console",
			nic->command, nic->addr,
			rc < 0 ? strerror(-rc) : "its interface is not in this network namespace");
	return -EPERM;
}

/* Its driver takes them along when it goes, whoever uses them. */
static int check_functions(const struct nic *nic)
{
	char count[16];

	if (!read_attribute(nic, "sriov_numvfs", count, sizeof(count)) || strcmp(count, "0") == 0)
		return 0;
	bw_error(
		"%s %s: it has %s virtual functions, which would vanish; remove them first: echo 0 > %s/sriov_numvfs",
		nic->command, nic->addr, count, nic->path);
	return -EBUSY;
}

static int check_iommu(const struct nic *nic, const char *driver)
{
	char group[32], path[PATH_MAX], line[8];

	if (strcmp(driver, "vfio-pci") != 0)
		return 0;
	read_link(nic, "iommu_group", group, sizeof(group));
	if (group[0] == '\0' && !is_loaded(nic, driver)) /* it may be set to do without */
		nic->host->modprobe(driver);
	snprintf(path, sizeof(path), "%s/module/vfio/parameters/enable_unsafe_noiommu_mode", nic->host->sys);
	if (group[0] != '\0' || (read_line(path, line, sizeof(line)) && line[0] == 'Y'))
		return 0;
	bw_error(
		"%s %s: vfio-pci needs an IOMMU, and there is none for it; switch it on in the firmware and with "
		"intel_iommu=on or amd_iommu=on, or, without its protection: barewire bind %s uio_pci_generic",
		nic->command, nic->addr, nic->addr);
	return -ENODEV;
}

struct group {
	const struct nic *nic;
	char names[IFACES_BYTES];
	unsigned count;
};

static int take_neighbour(const char *path, const char *name, void *arg)
{
	struct group *group = arg;
	char file[PATH_MAX + NAME_MAX + 1], driver[DRIVER_BYTES];

	if (strcmp(name, group->nic->addr) == 0)
		return 0;
	snprintf(file, sizeof(file), "%s/%s/driver", path, name);
	bw_nic__link_name(file, driver, sizeof(driver));
	/* Bridges are of the group and need no driver of vfio's. */
	if (driver[0] == '\0' || strcmp(driver, "vfio-pci") == 0 || strcmp(driver, "pcieport") == 0)
		return 0;
	if (group->count++ < GROUP_NAMES_SHOWN)
		append_name(group->names, name);
	return 0;
}

/* vfio gives no device of a group out while the kernel drives another of it. */
static void look_at_group(const struct nic *nic)
{
	struct group group = { .nic = nic };
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/iommu_group/devices", nic->path);
	bw_nic__each_entry(path, "", take_neighbour, &group);
	if (group.count > 0)
		bw_warn("%s %s: vfio serves it when the kernel no longer drives what it shares an IOMMU group "
			"with: %s%s",
			nic->command, nic->addr, group.names, group.count > GROUP_NAMES_SHOWN ? ", ..." : "");
}

static int check_driver(const struct nic *nic, const char *driver)
{
	if (!bw_nic__is_dpdk_driver(driver)) {
		bw_error("%s %s: \"%.60s\" is no driver of DPDK's; give vfio-pci, uio_pci_generic or igb_uio",
			nic->command, nic->addr, driver);
		return -EINVAL;
	}
	if (strncmp(nic->driver, "mlx", 3) == 0) {
		bw_error(
			"%s %s: %s stays its driver, DPDK works beside it; bind nothing: barewire serve --dev "
			"pci:%s",
			nic->command, nic->addr, nic->driver, nic->addr);
		return -EINVAL;
	}
	return 0;
}

/* Between the writes nobody has the NIC, and a session that ends there must not leave it so. */
static void hold_signals(sigset_t *before)
{
	sigset_t held;

	sigemptyset(&held);
	sigaddset(&held, SIGINT);
	sigaddset(&held, SIGTERM);
	sigaddset(&held, SIGHUP);
	sigaddset(&held, SIGPIPE);
	sigprocmask(SIG_BLOCK, &held, before);
}

static void let_signals(const sigset_t *before)
{
	sigprocmask(SIG_SETMASK, before, NULL);
}

/* The three writes, or as it was before. @up  interfaces that were */
static int change_to(struct nic *nic, const char *driver, const char *up)
{
	char override[DRIVER_BYTES];
	bool had_driver = nic->driver[0] != '\0', is_taken;
	int rc;

	if (!read_attribute(nic, "driver_override", override, sizeof(override)) ||
		strcmp(override, "(null)") == 0)
		snprintf(override, sizeof(override), "\n");
	rc = set_override(nic, driver);
	if (rc == 0)
		rc = take_away(nic);
	if (rc == 0)
		rc = probe(nic);
	if (strcmp(nic->driver, driver) == 0)
		return 0;
	is_taken = had_driver && nic->driver[0] == '\0';
	set_override(nic, override);
	if (is_taken)
		probe(nic);
	bw_error("%s %s: %s does not take it: %s; %s has it %s", nic->command, nic->addr, driver,
		reason_of(rc), nic->driver[0] != '\0' ? nic->driver : "no driver",
		is_taken ? "again" : "still");
	if (is_taken && up[0] != '\0')
		bw_info("%s %s: configure %s again, which was up: addresses and routes are gone",
			nic->command, nic->addr, up);
	return rc != 0 ? rc : -EIO;
}

int bw_nic__bind(const struct bw_nic__bind_host *host, const struct bw_bind_conf *conf)
{
	const char *driver = conf->driver != NULL ? conf->driver : DRIVER_DEFAULT;
	char before[DRIVER_BYTES];
	struct ifaces ifaces;
	sigset_t signals;
	struct nic nic;
	bool is_first;
	int rc = nic_init(&nic, host, "bind", conf->addr);

	if (rc == 0)
		rc = check_driver(&nic, driver);
	if (rc != 0)
		return rc;
	if (strcmp(nic.driver, driver) == 0) {
		bw_info("bind %s: %s has it already; barewire serve --dev pci:%s", nic.addr, driver,
			nic.addr);
		return 0;
	}
	read_ifaces(&nic, &ifaces);
	rc = check_unused(&nic);
	if (rc == 0)
		rc = check_way_out(&nic, &ifaces, conf->may_cut_off);
	if (rc == 0)
		rc = check_functions(&nic);
	if (rc == 0)
		rc = check_iommu(&nic, driver);
	if (rc == 0)
		rc = check_memory(&nic);
	if (rc == 0)
		rc = check_writable(&nic);
	if (rc == 0)
		rc = load_driver(&nic, driver);
	/* From one of DPDK's drivers to another: what it had before the first is what counts, if anybody knows. */
	is_first = !bw_nic__is_dpdk_driver(nic.driver);
	hold_signals(&signals);
	if (rc == 0 && is_first)
		rc = remember(&nic, &ifaces);
	if (rc != 0) {
		let_signals(&signals);
		return rc;
	}
	if (ifaces.all[0] != '\0')
		bw_info("bind %s: the kernel loses %s", nic.addr, ifaces.all);
	memcpy(before, nic.driver, sizeof(before));
	rc = change_to(&nic, driver, ifaces.up);
	let_signals(&signals);
	if (rc != 0) {
		if (is_first && strcmp(nic.driver, before) == 0)
			forget(&nic);
		return rc;
	}
	if (strcmp(driver, "vfio-pci") == 0)
		look_at_group(&nic);
	bw_info("bind %s: %s has it; barewire serve --dev pci:%s, and barewire unbind %s gives it back",
		nic.addr, driver, nic.addr, nic.addr);
	return 0;
}

/* ---- unbind ---------------------------------------------------------------------------------------------------- */

static int give_back(struct nic *nic, const char *driver)
{
	int rc = set_override(nic, "\n");

	if (rc == 0)
		rc = take_away(nic);
	if (rc != 0 || strcmp(driver, NO_DRIVER) == 0)
		return rc;
	rc = driver[0] != '\0'
		     ? write_to(nic, nic->addr, "%s/bus/pci/drivers/%s/bind", nic->host->sys, driver)
		     : probe(nic);
	read_driver(nic);
	if (driver[0] != '\0' && nic->driver[0] == '\0') /* then whichever of the kernel's will */
		(void)probe(nic);
	if (nic->driver[0] != '\0')
		return 0;
	return rc != 0 ? rc : -ENODEV;
}

static void say_given_back(const struct nic *nic, const char *up)
{
	struct ifaces ifaces;

	read_ifaces(nic, &ifaces);
	if (nic->driver[0] == '\0')
		bw_info("unbind %s: no driver has it, as before", nic->addr);
	else
		bw_info("unbind %s: %s has it%s%s", nic->addr, nic->driver,
			ifaces.all[0] != '\0' ? " as " : "", ifaces.all);
	if (up[0] != '\0')
		bw_info("unbind %s: configure %s again, which was up: addresses and routes are gone",
			nic->addr, up);
}

int bw_nic__unbind(const struct bw_nic__bind_host *host, const char *addr)
{
	char driver[DRIVER_BYTES], up[IFACES_BYTES];
	bool is_remembered;
	sigset_t signals;
	struct nic nic;
	int rc = nic_init(&nic, host, "unbind", addr);

	if (rc == 0)
		rc = check_memory(&nic);
	if (rc != 0)
		return rc;
	is_remembered = recall(&nic, driver, up);
	if (nic.driver[0] != '\0' && !bw_nic__is_dpdk_driver(nic.driver)) {
		bw_info("unbind %s: %s has it, the kernel's own; there is nothing to do", nic.addr,
			nic.driver);
		forget(&nic); /* of one that somebody else gave back */
		return 0;
	}
	rc = check_unused(&nic);
	if (rc == 0)
		rc = check_writable(&nic);
	if (rc == 0 && driver[0] != '\0' && strcmp(driver, NO_DRIVER) != 0)
		rc = load_driver(&nic, driver);
	if (rc != 0)
		return rc;
	hold_signals(&signals);
	rc = give_back(&nic, driver);
	let_signals(&signals);
	if (rc != 0) {
		if (driver[0] != '\0')
			bw_error("unbind %s: %s, which it had, does not take it: %s; %s has it", nic.addr,
				driver, strerror(-rc), nic.driver[0] != '\0' ? nic.driver : "no driver");
		else
			bw_error(
				"unbind %s: what it had is not remembered, and no driver of the kernel's takes it: %s; "
				"load the driver: modprobe NAME",
				nic.addr, strerror(-rc));
		return rc;
	}
	if (is_remembered)
		forget(&nic);
	say_given_back(&nic, up);
	return 0;
}

/* ---- the machine ----------------------------------------------------------------------------------------------- */

/* An attribute takes what one write() brings. */
static int write_attribute(const char *path, const char *text)
{
	const size_t len = strlen(text);
	const int fd = open(path, O_WRONLY | O_CLOEXEC);
	int rc = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, len) < 0)
		rc = -errno;
	close(fd);
	return rc;
}

/* What comes of it is seen by what is there afterwards; it speaks to nobody. */
static void modprobe(const char *module)
{
	char *argv[] = { (char *)(uintptr_t) "modprobe", (char *)(uintptr_t) "--", (char *)(uintptr_t)module,
		NULL };
	posix_spawn_file_actions_t actions;
	pid_t pid;

	if (posix_spawn_file_actions_init(&actions) != 0)
		return;
	posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	if (posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ) == 0)
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	posix_spawn_file_actions_destroy(&actions);
}

static const struct bw_nic__bind_host machine = {
	.sys = "/sys",
	.proc = "/proc",
	.run = "/run/barewire/bind",
	.write = write_attribute,
	.modprobe = modprobe,
	.has_default_route = bw_nic__function_has_default_route,
};

int bw_nic_bind(const struct bw_bind_conf *conf)
{
	return bw_nic__bind(&machine, conf);
}

int bw_nic_unbind(const char *addr)
{
	return bw_nic__unbind(&machine, addr);
}
