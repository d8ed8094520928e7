/* SPDX-License-Identifier: BSD-3-Clause */
/* PCI devices as sysfs shows them. */
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

bool bw_nic__pci_addr(const char *text, size_t len, char out[BW_NIC__PCI_ADDR_BYTES])
{
	unsigned domain = 0, bus, device, function;
	char copy[32];
	int end = -1;

	if (len >= sizeof(copy))
		return false;
	memcpy(copy, text, len);
	copy[len] = '\0';
	if (sscanf(copy, "%4x:%2x:%2x.%1x%n", &domain, &bus, &device, &function, &end) != 4 ||
		copy[end] != '\0') {
		domain = 0;
		end = -1;
		if (sscanf(copy, "%2x:%2x.%1x%n", &bus, &device, &function, &end) != 3 || copy[end] != '\0')
			return false;
	}
	if (device > 31 || function > 7)
		return false;
	snprintf(out, BW_NIC__PCI_ADDR_BYTES, "%04x:%02x:%02x.%x", domain & 0xffff, bus & 0xff, device & 0xff,
		function & 0xf);
	return true;
}

bool bw_nic__is_dpdk_driver(const char *driver)
{
	return strcmp(driver, "vfio-pci") == 0 || strcmp(driver, "uio_pci_generic") == 0 ||
	       strcmp(driver, "igb_uio") == 0;
}

void bw_nic__link_name(const char *path, char *out, size_t out_bytes)
{
	char target[PATH_MAX];
	const char *slash;
	ssize_t len;

	out[0] = '\0';
	len = readlink(path, target, sizeof(target) - 1);
	if (len < 0)
		return;
	target[len] = '\0';
	slash = strrchr(target, '/');
	slash = slash != NULL ? slash + 1 : target;
	snprintf(out, out_bytes, "%.*s", (int)out_bytes - 1, slash);
}

int bw_nic__each_entry(const char *path, const char *prefix,
	int (*look)(const char *path, const char *name, void *arg), void *arg)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	int rc = 0;

	while (dir != NULL && rc == 0 && (entry = readdir(dir)) != NULL)
		if (entry->d_name[0] != '.' && strncmp(entry->d_name, prefix, strlen(prefix)) == 0)
			rc = look(path, entry->d_name, arg);
	if (dir != NULL)
		closedir(dir);
	return rc;
}

struct ifaces {
	int (*look)(const char *path, const char *name, void *arg);
	void *arg;
};

static int below(const char *path, const char *name, void *arg)
{
	const struct ifaces *ifaces = arg;
	char net[2 * PATH_MAX];

	snprintf(net, sizeof(net), "%s/%s/net", path, name);
	return bw_nic__each_entry(net, "", ifaces->look, ifaces->arg);
}

int bw_nic__each_iface(
	const char *device, int (*look)(const char *path, const char *name, void *arg), void *arg)
{
	struct ifaces ifaces = { look, arg };
	int rc = below(device, ".", &ifaces);

	return rc == 0 ? bw_nic__each_entry(device, "virtio", below, &ifaces) : rc;
}
