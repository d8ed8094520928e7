/* SPDX-License-Identifier: BSD-3-Clause */
/* bind and unbind on a tree of files that looks like sysfs, with a kernel that does what is written to it. */
#include "capture.h"

#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "internal.h"

#define ADDR    "0000:03:00.0"
#define DEVICE  "sys/bus/pci/devices/" ADDR
#define DRIVERS "sys/bus/pci/drivers"
#define MEMORY  "run/bind/" ADDR
#define ERROR   "barewire: error: "
#define WARNING "barewire: warning: "
#define BOUND                                                                                                \
	"barewire: bind " ADDR ": vfio-pci has it; barewire serve --dev pci:" ADDR                           \
	", and barewire unbind " ADDR " gives it back\n"

static char root[64] = "/tmp/barewire-bind-XXXXXX";

/* What the kernel does next. */
static struct {
	const char *natural;  /* the driver that would take the NIC by its number; NULL: none */
	const char *refuses;  /* a driver that does not take it */
	const char *fails;    /* a path's end, of a write that fails */
	const char *provides; /* the module that modprobe has */
	int default_route;
	char written[1024]; /* "file<text" of each write, below the tree */
} kernel;

/* ---- the tree ------------------------------------------------------------------------------------------------ */

static const char *at(const char *below)
{
	static char paths[4][PATH_MAX];
	static unsigned turn;
	char *path = paths[turn++ % BW_ARRAY_LEN(paths)];

	snprintf(path, PATH_MAX, "%s/%s", root, below);
	return path;
}

static void folder(const char *below)
{
	char path[PATH_MAX + 1];

	snprintf(path, sizeof(path), "%s/", at(below));
	for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		assert_true(mkdir(path, 0755) == 0 || errno == EEXIST);
		*slash = '/';
	}
}

static void file(const char *below, const char *text)
{
	FILE *out = fopen(at(below), "w");

	assert_non_null(out);
	fputs(text, out);
	assert_int_equal(fclose(out), 0);
}

static const char *content(const char *below)
{
	static char text[512];
	FILE *in = fopen(at(below), "r");
	size_t bytes;

	if (in == NULL)
		return "(no file)";
	bytes = fread(text, 1, sizeof(text) - 1, in);
	text[bytes] = '\0';
	fclose(in);
	return text;
}

static void points(const char *below, const char *target)
{
	unlink(at(below));
	assert_int_equal(symlink(target, at(below)), 0);
}

static void driven_by(const char *driver)
{
	char target[128];

	snprintf(target, sizeof(target), "../../drivers/%s", driver);
	points(DEVICE "/driver", target);
}

static void driver(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), DRIVERS "/%s", name);
	folder(path);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *walk)
{
	return remove(path);
}

/* An ixgbe with the interface eth1, which is up, in a machine with an IOMMU. vfio-pci is loaded. */
static int set_up(void **unused)
{
	snprintf(root, sizeof(root), "/tmp/barewire-bind-XXXXXX");
	if (mkdtemp(root) == NULL)
		return -1;
	memset(&kernel, 0, sizeof(kernel));
	kernel.natural = "ixgbe";
	folder(DEVICE "/net/eth1");
	file(DEVICE "/net/eth1/flags", "0x1003\n");
	file(DEVICE "/class", "0x020000\n");
	file(DEVICE "/driver_override", "(null)\n");
	driver("ixgbe");
	driver("vfio-pci");
	driven_by("ixgbe");
	folder("sys/kernel/iommu_groups/7/devices/" ADDR);
	points(DEVICE "/iommu_group", "../../../../kernel/iommu_groups/7");
	folder("proc/sys");
	folder("proc/411/fd"); /* it has another NIC */
	file("proc/411/comm", "dpdk-testpmd\n");
	folder("proc/412/fd");
	points("proc/411/fd/5", "/dev/vfio/8");
	points("proc/412/fd/3", "/dev/null");
	return 0;
}

static int tear_down(void **unused)
{
	return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- the kernel ---------------------------------------------------------------------------------------------- */

static bool ends_with(const char *path, const char *end)
{
	const size_t len = strlen(path), end_len = end != NULL ? strlen(end) : 0;

	return end_len > 0 && len >= end_len && strcmp(path + len - end_len, end) == 0;
}

static void give_to(const char *name)
{
	char path[128];

	if (name == NULL)
		return;
	snprintf(path, sizeof(path), DRIVERS "/%s", name);
	if (access(at(path), F_OK) != 0 || (kernel.refuses != NULL && strcmp(kernel.refuses, name) == 0))
		return;
	driven_by(name);
	if (strcmp(name, "ixgbe") == 0)
		folder(DEVICE "/net/eth1");
}

static int kernel_write(const char *path, const char *text)
{
	char *end = kernel.written + strlen(kernel.written);
	char name[64];

	assert_int_equal(strncmp(path, root, strlen(root)), 0);
	snprintf(end, sizeof(kernel.written) - (size_t)(end - kernel.written), "%s<%s%s",
		path + strlen(root) + 1, text, ends_with(text, "\n") ? "" : "\n");
	if (ends_with(path, kernel.fails))
		return -EBUSY;
	if (ends_with(path, "/driver_override")) {
		file(DEVICE "/driver_override", strcmp(text, "\n") == 0 ? "(null)\n" : text);
		return 0;
	}
	assert_string_equal(text, ADDR);
	if (ends_with(path, "/unbind")) {
		assert_int_equal(unlink(at(DEVICE "/driver")), 0);
		unlink(at(DEVICE "/net/eth1/flags"));
		rmdir(at(DEVICE "/net/eth1"));
	} else if (ends_with(path, "/drivers_probe")) {
		snprintf(name, sizeof(name), "%.63s", content(DEVICE "/driver_override"));
		name[strcspn(name, "\n")] = '\0';
		give_to(strcmp(name, "(null)") == 0 ? kernel.natural : name);
	} else {
		assert_true(ends_with(path, "/ixgbe/bind"));
		give_to("ixgbe");
	}
	return 0;
}

static void kernel_modprobe(const char *module)
{
	if (kernel.provides != NULL && strcmp(kernel.provides, module) == 0)
		driver(module);
}

static int kernel_has_default_route(const char *path)
{
	assert_string_equal(path, at(DEVICE));
	return kernel.default_route;
}

static const struct bw_nic__bind_host *host(void)
{
	static char sys[PATH_MAX], proc[PATH_MAX], run[PATH_MAX];
	static const struct bw_nic__bind_host made = { .sys = sys,
		.proc = proc,
		.run = run,
		.write = kernel_write,
		.modprobe = kernel_modprobe,
		.has_default_route = kernel_has_default_route };

	snprintf(sys, sizeof(sys), "%s", at("sys"));
	snprintf(proc, sizeof(proc), "%s", at("proc"));
	snprintf(run, sizeof(run), "%s", at("run/bind"));
	return &made;
}

/* ---- what is expected ---------------------------------------------------------------------------------------- */

static void binds(const struct bw_bind_conf *conf, int want, const char *lines, const char *written)
{
	int rc;

	kernel.written[0] = '\0';
	capture_begin();
	rc = bw_nic__bind(host(), conf);
	assert_string_equal(capture_end(), lines);
	assert_int_equal(rc, want);
	assert_string_equal(kernel.written, written);
}

static void bind_to(const char *name, int want, const char *lines, const char *written)
{
	binds(&(struct bw_bind_conf){ .addr = ADDR, .driver = name }, want, lines, written);
}

/* What refuses writes nothing, neither to the kernel nor to memory. */
static void refuses(const struct bw_bind_conf *conf, int want, const char *lines)
{
	binds(conf, want, lines, "");
	assert_int_not_equal(access(at("run"), F_OK), 0);
}

static void unbinds(const char *addr, int want, const char *lines, const char *written)
{
	int rc;

	kernel.written[0] = '\0';
	capture_begin();
	rc = bw_nic__unbind(host(), addr);
	assert_string_equal(capture_end(), lines);
	assert_int_equal(rc, want);
	assert_string_equal(kernel.written, written);
}

static bool has_memory(void)
{
	return access(at(MEMORY), F_OK) == 0;
}

#define TAKEN_FROM_IXGBE                                                                                     \
	DEVICE "/driver_override<vfio-pci\n" DRIVERS "/ixgbe/unbind<" ADDR                                   \
	       "\nsys/bus/pci/drivers_probe<" ADDR "\n"
#define LOSES_ETH1 "barewire: bind " ADDR ": the kernel loses eth1\n"

static void there_and_back(void **unused)
{
	binds(&(struct bw_bind_conf){ .addr = "3:0.0" }, 0, LOSES_ETH1 BOUND, TAKEN_FROM_IXGBE);
	assert_string_equal(content(DEVICE "/driver_override"), "vfio-pci");
	assert_string_equal(content(MEMORY), "driver ixgbe\nup eth1\n");
	assert_int_not_equal(access(at(MEMORY ".new"), F_OK), 0);
	unbinds("03:00.0", 0,
		"barewire: unbind " ADDR ": ixgbe has it as eth1\n"
		"barewire: unbind " ADDR
		": configure eth1 again, which was up: addresses and routes are gone\n",
		DEVICE "/driver_override<\n" DRIVERS "/vfio-pci/unbind<" ADDR "\n" DRIVERS "/ixgbe/bind<" ADDR
		       "\n");
	assert_string_equal(content(DEVICE "/driver_override"), "(null)\n");
	assert_false(has_memory());
}

/* Nobody is told to configure what was not configured. */
static void an_interface_that_is_down(void **unused)
{
	file(DEVICE "/net/eth1/flags", "0x1002\n");
	bind_to("vfio-pci", 0, LOSES_ETH1 BOUND, TAKEN_FROM_IXGBE);
	assert_string_equal(content(MEMORY), "driver ixgbe\n");
	unbinds(ADDR, 0, "barewire: unbind " ADDR ": ixgbe has it as eth1\n",
		DEVICE "/driver_override<\n" DRIVERS "/vfio-pci/unbind<" ADDR "\n" DRIVERS "/ixgbe/bind<" ADDR
		       "\n");
}

static void what_is_done_already_is_no_error(void **unused)
{
	unbinds(ADDR, 0,
		"barewire: unbind " ADDR ": ixgbe has it, the kernel's own; there is nothing to do\n", "");
	bind_to(NULL, 0, LOSES_ETH1 BOUND, TAKEN_FROM_IXGBE);
	bind_to(NULL, 0,
		"barewire: bind " ADDR ": vfio-pci has it already; barewire serve --dev pci:" ADDR "\n", "");
	assert_true(has_memory());
	/* Somebody gave it back with another tool. */
	driven_by("ixgbe");
	unbinds(ADDR, 0,
		"barewire: unbind " ADDR ": ixgbe has it, the kernel's own; there is nothing to do\n", "");
	assert_false(has_memory());
}

static void what_is_no_nic_is_refused(void **unused)
{
	refuses(&(struct bw_bind_conf){ .addr = "eth1" }, -EINVAL,
		ERROR
		"bind eth1: not a PCI address such as 0000:03:00.0; `barewire doctor` lists the NICs\n");
	refuses(&(struct bw_bind_conf){ .addr = "0000:04:00.0" }, -ENODEV,
		ERROR "bind 0000:04:00.0: there is no such PCI device; `barewire doctor` lists the NICs\n");
	file(DEVICE "/class", "0x010802\n");
	refuses(&(struct bw_bind_conf){ .addr = ADDR }, -EINVAL,
		ERROR "bind " ADDR
		      ": not a network device (its class is 0x010802); `barewire doctor` lists the NICs\n");
	unbinds(ADDR, -EINVAL,
		ERROR "unbind " ADDR
		      ": not a network device (its class is 0x010802); `barewire doctor` lists the NICs\n",
		"");
	unlink(at(DEVICE "/class"));
	refuses(&(struct bw_bind_conf){ .addr = ADDR }, -EINVAL,
		ERROR "bind " ADDR
		      ": not a network device (its class is not shown); `barewire doctor` lists the NICs\n");
}

static void drivers_that_will_not_do_are_refused(void **unused)
{
	refuses(&(struct bw_bind_conf){ .addr = ADDR, .driver = "ixgbe" }, -EINVAL,
		ERROR "bind " ADDR
		      ": \"ixgbe\" is no driver of DPDK's; give vfio-pci, uio_pci_generic or igb_uio\n");
	driver("mlx5_core");
	driven_by("mlx5_core");
	refuses(&(struct bw_bind_conf){ .addr = ADDR }, -EINVAL,
		ERROR
		"bind " ADDR
		": mlx5_core stays its driver, DPDK works beside it; bind nothing: barewire serve --dev "
		"pci:" ADDR "\n");
}

static void the_way_out_is_kept(void **unused)
{
	const struct bw_bind_conf plain = { .addr = ADDR }, sure = { .addr = ADDR, .may_cut_off = true };

	kernel.default_route = 1;
	refuses(&plain, -EPERM,
		ERROR
		"bind " ADDR
		": the default route is through eth1, and your way to this machine may be, too; take another "
		"NIC, or come by the console and add --yes-i-am-on-a-console\n");
	kernel.default_route = -EAGAIN;
	refuses(&plain, -EPERM,
		ERROR
		"bind " ADDR
		": whether it carries the default route cannot be found out (Resource temporarily unavailable); "
		"if you know that it does not, add --yes-i-am-on-a-console\n");
	kernel.default_route = 1;
	binds(&sure, 0,
		WARNING "bind " ADDR ": it carries the default route, as you will have it\n" LOSES_ETH1 BOUND,
		TAKEN_FROM_IXGBE);
}

/* The interface of a container is not to be seen from outside. */
static void an_interface_elsewhere_may_be_the_way_out(void **unused)
{
	unlink(at(DEVICE "/net/eth1/flags"));
	assert_int_equal(rmdir(at(DEVICE "/net/eth1")), 0);
	refuses(&(struct bw_bind_conf){ .addr = ADDR }, -EPERM,
		ERROR
		"bind " ADDR
		": whether it carries the default route cannot be found out (its interface is not in this "
		"network namespace); if you know that it does not, add --yes-i-am-on-a-console\n");
	binds(&(struct bw_bind_conf){ .addr = ADDR, .may_cut_off = true }, 0,
		WARNING "bind " ADDR ": it may carry the default route, as you will have it\n" BOUND,
		TAKEN_FROM_IXGBE);
}

static void interfaces_of_virtio_are_named(void **unused)
{
	folder(DEVICE "/virtio0/net/ens3");
	kernel.default_route = 1;
	refuses(&(struct bw_bind_conf){ .addr = ADDR }, -EPERM,
		ERROR
		"bind " ADDR
		": the default route is through eth1, ens3, and your way to this machine may be, too; take "
		"another NIC, or come by the console and add --yes-i-am-on-a-console\n");
}

static void vfio_needs_an_iommu(void **unused)
{
	static const char none[] = ERROR
		"bind " ADDR
		": vfio-pci needs an IOMMU, and there is none for it; switch it on in the firmware and with "
		"intel_iommu=on or amd_iommu=on, or, without its protection: barewire bind " ADDR
		" uio_pci_generic\n";
	const struct bw_bind_conf conf = { .addr = ADDR };

	assert_int_equal(unlink(at(DEVICE "/iommu_group")), 0);
	refuses(&conf, -ENODEV, none);
	folder("sys/module/vfio/parameters");
	file("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "N\n");
	refuses(&conf, -ENODEV, none);
	file("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n");
	binds(&conf, 0, LOSES_ETH1 BOUND, TAKEN_FROM_IXGBE);
}

static void others_of_the_group_are_named(void **unused)
{
	folder("sys/kernel/iommu_groups/7/devices/0000:03:00.1");
	folder("sys/kernel/iommu_groups/7/devices/0000:00:1c.0");
	points("sys/kernel/iommu_groups/7/devices/0000:03:00.1/driver", "../ixgbe");
	points("sys/kernel/iommu_groups/7/devices/0000:00:1c.0/driver", "../pcieport");
	bind_to(NULL, 0,
		LOSES_ETH1 WARNING
		"bind " ADDR
		": vfio serves it when the kernel no longer drives what it shares an IOMMU group "
		"with: 0000:03:00.1\n" BOUND,
		TAKEN_FROM_IXGBE);
}

static void a_driver_is_loaded(void **unused)
{
	const struct bw_bind_conf conf = { .addr = ADDR, .driver = "uio_pci_generic" };

	refuses(&conf, -ENODEV,
		ERROR
		"bind " ADDR
		": the kernel has no driver uio_pci_generic, and modprobe brings none; install the kernel's "
		"modules, or choose another: vfio-pci, uio_pci_generic, igb_uio\n");
	kernel.provides = "uio_pci_generic";
	binds(&conf, 0,
		LOSES_ETH1 "barewire: bind " ADDR ": uio_pci_generic has it; barewire serve --dev pci:" ADDR
			   ", and barewire unbind " ADDR " gives it back\n",
		DEVICE "/driver_override<uio_pci_generic\n" DRIVERS "/ixgbe/unbind<" ADDR
		       "\nsys/bus/pci/drivers_probe<" ADDR "\n");
}

static void what_a_process_has_stays(void **unused)
{
	static const char busy[] =
		ERROR "unbind " ADDR ": process 411 (dpdk-testpmd) uses it; stop that first\n";
	char config[PATH_MAX + 16];

	bind_to(NULL, 0, LOSES_ETH1 BOUND, TAKEN_FROM_IXGBE);
	points("proc/411/fd/6", "/dev/vfio/7");
	unbinds(ADDR, -EBUSY, busy, "");
	assert_true(has_memory());
	file("sys/kernel/iommu_groups/7/name", "vfio-noiommu\n");
	points("proc/411/fd/6", "/dev/vfio/noiommu-7");
	unbinds(ADDR, -EBUSY, busy, "");
	snprintf(config, sizeof(config), "%s/%s", at(DEVICE), "resource0");
	points("proc/411/fd/6", config);
	unbinds(ADDR, -EBUSY, busy, "");
	folder(DEVICE "/uio/uio3");
	points("proc/411/fd/6", "/dev/uio3");
	unbinds(ADDR, -EBUSY, busy, "");
	driver("uio_pci_generic");
	bind_to("uio_pci_generic", -EBUSY,
		ERROR "bind " ADDR ": process 411 (dpdk-testpmd) uses it; stop that first\n", "");
}

/* What it had first is what it gets back. */
static void from_one_of_dpdks_drivers_to_another(void **unused)
{
	driver("uio_pci_generic");
	bind_to(NULL, 0, LOSES_ETH1 BOUND, TAKEN_FROM_IXGBE);
	bind_to("uio_pci_generic", 0,
		"barewire: bind " ADDR ": uio_pci_generic has it; barewire serve --dev pci:" ADDR
		", and barewire unbind " ADDR " gives it back\n",
		DEVICE "/driver_override<uio_pci_generic\n" DRIVERS "/vfio-pci/unbind<" ADDR
		       "\nsys/bus/pci/drivers_probe<" ADDR "\n");
	assert_string_equal(content(MEMORY), "driver ixgbe\nup eth1\n");
	/* One that fails leaves all as it was. */
	kernel.refuses = "vfio-pci";
	bind_to(NULL, -EIO,
		ERROR "bind " ADDR
		      ": vfio-pci does not take it: dmesg may say why; uio_pci_generic has it again\n",
		DEVICE "/driver_override<vfio-pci\n" DRIVERS "/uio_pci_generic/unbind<" ADDR
		       "\nsys/bus/pci/drivers_probe<" ADDR "\n" DEVICE
		       "/driver_override<uio_pci_generic\nsys/bus/pci/drivers_probe<" ADDR "\n");
	assert_string_equal(content(MEMORY), "driver ixgbe\nup eth1\n");
}

static void what_had_no_driver_gets_none(void **unused)
{
	assert_int_equal(unlink(at(DEVICE "/driver")), 0);
	unlink(at(DEVICE "/net/eth1/flags"));
	assert_int_equal(rmdir(at(DEVICE "/net/eth1")), 0);
	bind_to(NULL, 0, BOUND, DEVICE "/driver_override<vfio-pci\nsys/bus/pci/drivers_probe<" ADDR "\n");
	assert_string_equal(content(MEMORY), "driver -\n");
	unbinds(ADDR, 0, "barewire: unbind " ADDR ": no driver has it, as before\n",
		DEVICE "/driver_override<\n" DRIVERS "/vfio-pci/unbind<" ADDR "\n");
	assert_false(has_memory());
}

/* The machine was started anew with the NIC bound, or another tool has bound it. */
static void what_is_not_remembered_the_kernel_chooses(void **unused)
{
	driven_by("vfio-pci");
	kernel.refuses = "ixgbe";
	unbinds(ADDR, -ENODEV,
		ERROR
		"unbind " ADDR
		": what it had is not remembered, and no driver of the kernel's takes it: No such device; load "
		"the driver: modprobe NAME\n",
		DEVICE "/driver_override<\n" DRIVERS "/vfio-pci/unbind<" ADDR
		       "\nsys/bus/pci/drivers_probe<" ADDR "\n");
	kernel.refuses = NULL;
	unbinds(ADDR, 0, "barewire: unbind " ADDR ": ixgbe has it as eth1\n",
		DEVICE "/driver_override<\nsys/bus/pci/drivers_probe<" ADDR "\n");
}

static void memory_that_makes_no_sense_is_none(void **unused)
{
	driven_by("vfio-pci");
	folder("run/bind");
	file(MEMORY, "driver ../../../../etc\n");
	unbinds(ADDR, 0, "barewire: unbind " ADDR ": ixgbe has it as eth1\n",
		DEVICE "/driver_override<\n" DRIVERS "/vfio-pci/unbind<" ADDR
		       "\nsys/bus/pci/drivers_probe<" ADDR "\n");
}

static void what_cannot_be_remembered_is_not_done(void **unused)
{
	char lines[PATH_MAX + 256];

	file("run", "not a folder");
	snprintf(lines, sizeof(lines),
		ERROR "bind " ADDR
		      ": cannot write down in %s which driver it had: Not a directory; nothing was changed\n",
		at(MEMORY));
	bind_to(NULL, -ENOTDIR, lines, "");
}

static void a_driver_that_does_not_take_it(void **unused)
{
	kernel.refuses = "vfio-pci";
	bind_to(NULL, -EIO,
		LOSES_ETH1 ERROR "bind " ADDR
				 ": vfio-pci does not take it: dmesg may say why; ixgbe has it again\n"
				 "barewire: bind " ADDR
				 ": configure eth1 again, which was up: addresses and routes are gone\n",
		TAKEN_FROM_IXGBE DEVICE "/driver_override<\nsys/bus/pci/drivers_probe<" ADDR "\n");
	assert_string_equal(content(DEVICE "/driver_override"), "(null)\n");
	assert_false(has_memory());
}

static void a_driver_that_does_not_let_go(void **unused)
{
	kernel.fails = "/ixgbe/unbind";
	bind_to(NULL, -EBUSY,
		LOSES_ETH1 ERROR "bind " ADDR
				 ": vfio-pci does not take it: Device or resource busy; ixgbe has it still\n",
		DEVICE "/driver_override<vfio-pci\n" DRIVERS "/ixgbe/unbind<" ADDR "\n" DEVICE
		       "/driver_override<\n");
	assert_false(has_memory());
}

/* It stays remembered, for the next attempt. */
static void a_driver_that_does_not_take_it_back(void **unused)
{
	bind_to(NULL, 0, LOSES_ETH1 BOUND, TAKEN_FROM_IXGBE);
	kernel.refuses = "ixgbe";
	unbinds(ADDR, -ENODEV,
		ERROR "unbind " ADDR
		      ": ixgbe, which it had, does not take it: No such device; no driver has it\n",
		DEVICE "/driver_override<\n" DRIVERS "/vfio-pci/unbind<" ADDR "\n" DRIVERS "/ixgbe/bind<" ADDR
		       "\nsys/bus/pci/drivers_probe<" ADDR "\n");
	assert_true(has_memory());
	kernel.refuses = NULL;
	unbinds(ADDR, 0,
		"barewire: unbind " ADDR ": ixgbe has it as eth1\n"
		"barewire: unbind " ADDR
		": configure eth1 again, which was up: addresses and routes are gone\n",
		DEVICE "/driver_override<\n" DRIVERS "/ixgbe/bind<" ADDR "\n");
	assert_false(has_memory());
}

static void functions_in_use_would_vanish(void **unused)
{
	file(DEVICE "/sriov_numvfs", "0\n");
	bind_to(NULL, 0, LOSES_ETH1 BOUND, TAKEN_FROM_IXGBE);
	unbinds(ADDR, 0,
		"barewire: unbind " ADDR ": ixgbe has it as eth1\n"
		"barewire: unbind " ADDR
		": configure eth1 again, which was up: addresses and routes are gone\n",
		DEVICE "/driver_override<\n" DRIVERS "/vfio-pci/unbind<" ADDR "\n" DRIVERS "/ixgbe/bind<" ADDR
		       "\n");
	file(DEVICE "/sriov_numvfs", "3\n");
	assert_int_equal(bw_nic__bind(host(), &(struct bw_bind_conf){ .addr = ADDR }), -EBUSY);
}

/* Another tool has bound it, so nobody knows what it had: the kernel chooses, also after a second change. */
static void what_nobody_remembers_the_kernel_chooses(void **unused)
{
	bind_to(NULL, 0, LOSES_ETH1 BOUND, TAKEN_FROM_IXGBE);
	kernel.provides = "uio_pci_generic";
	assert_int_equal(unlink(at(MEMORY)), 0);
	assert_int_equal(
		bw_nic__bind(host(), &(struct bw_bind_conf){ .addr = ADDR, .driver = "uio_pci_generic" }), 0);
	assert_false(has_memory());
	assert_int_equal(bw_nic__unbind(host(), ADDR), 0);
}

static void a_memory_that_others_may_write(void **unused)
{
	bind_to(NULL, 0, LOSES_ETH1 BOUND, TAKEN_FROM_IXGBE);
	file(MEMORY, "driver ../../evil\n");
	assert_int_equal(chmod(at("run/bind"), 0777), 0);
	assert_int_equal(bw_nic__unbind(host(), ADDR), -EPERM);
	assert_int_equal(chmod(at("run/bind"), 0755), 0);
	assert_int_equal(bw_nic__unbind(host(), ADDR), 0); /* and what it says is no driver's name */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(there_and_back),
		TEST(functions_in_use_would_vanish),
		TEST(what_nobody_remembers_the_kernel_chooses),
		TEST(a_memory_that_others_may_write),
		TEST(an_interface_that_is_down),
		TEST(what_is_done_already_is_no_error),
		TEST(what_is_no_nic_is_refused),
		TEST(drivers_that_will_not_do_are_refused),
		TEST(the_way_out_is_kept),
		TEST(an_interface_elsewhere_may_be_the_way_out),
		TEST(interfaces_of_virtio_are_named),
		TEST(vfio_needs_an_iommu),
		TEST(others_of_the_group_are_named),
		TEST(a_driver_is_loaded),
		TEST(what_a_process_has_stays),
		TEST(from_one_of_dpdks_drivers_to_another),
		TEST(what_had_no_driver_gets_none),
		TEST(what_is_not_remembered_the_kernel_chooses),
		TEST(memory_that_makes_no_sense_is_none),
		TEST(what_cannot_be_remembered_is_not_done),
		TEST(a_driver_that_does_not_take_it),
		TEST(a_driver_that_does_not_let_go),
		TEST(a_driver_that_does_not_take_it_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
