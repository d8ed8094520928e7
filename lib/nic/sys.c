/* SPDX-License-Identifier: BSD-3-Clause */
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/ethtool.h>
#include <linux/sockios.h>

#include "internal.h"

bool bw_nic__read_line(const char *path, char *line, size_t line_bytes)
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

bool bw_nic__is_capable(unsigned capability)
{
	FILE *file = fopen("/proc/self/status", "re");
	unsigned long long effective = 0;
	char line[128];

	while (file != NULL && fgets(line, sizeof(line), file) != NULL)
		if (sscanf(line, "CapEff: %llx", &effective) == 1)
			break;
	if (file != NULL)
		fclose(file);
	return (effective >> capability & 1) != 0;
}

static bool ask(const char *name, unsigned long request, struct ifreq *ifr)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool is_answered;

	snprintf(ifr->ifr_name, sizeof(ifr->ifr_name), "%s", name);
	is_answered = fd >= 0 && ioctl(fd, request, ifr) == 0;
	if (fd >= 0)
		close(fd);
	return is_answered;
}

bool bw_nic__interface_is_up(const char *name)
{
	struct ifreq ifr = { 0 };

	return ask(name, SIOCGIFFLAGS, &ifr) && (ifr.ifr_flags & IFF_UP) != 0;
}

unsigned bw_nic__interface_mtu(const char *name)
{
	struct ifreq ifr = { 0 };

	return ask(name, SIOCGIFMTU, &ifr) ? (unsigned)ifr.ifr_mtu : 1500;
}

unsigned bw_nic__interface_queues(const char *name)
{
	char path[PATH_MAX];
	DIR *dir;
	struct dirent *entry;
	unsigned count = 0;

	snprintf(path, sizeof(path), "/sys/class/net/%s/queues", name);
	dir = opendir(path);
	while (dir != NULL && (entry = readdir(dir)) != NULL)
		count += strncmp(entry->d_name, "rx-", 3) == 0;
	if (dir != NULL)
		closedir(dir);
	return BW_MAX(count, 1u);
}

void bw_nic__interface_driver(const char *name, char *driver, size_t driver_bytes)
{
	struct ethtool_drvinfo info = { .cmd = ETHTOOL_GDRVINFO };
	struct ifreq ifr = { .ifr_data = (char *)&info };

	snprintf(driver, driver_bytes, "%s", ask(name, SIOCETHTOOL, &ifr) ? info.driver : "");
}

void bw_nic__pci_driver(const char *addr, char *driver, size_t driver_bytes)
{
	char path[PATH_MAX], target[PATH_MAX];
	const char *name;
	ssize_t length;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver", addr);
	length = readlink(path, target, sizeof(target) - 1);
	target[BW_MAX(length, (ssize_t)0)] = '\0';
	name = strrchr(target, '/');
	snprintf(driver, driver_bytes, "%s", name != NULL ? name + 1 : target);
}

bool bw_nic__is_dpdk_driver(const char *driver)
{
	return strcmp(driver, "vfio-pci") == 0 || strcmp(driver, "uio_pci_generic") == 0 ||
	       strcmp(driver, "igb_uio") == 0;
}
