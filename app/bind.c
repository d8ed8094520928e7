/* SPDX-License-Identifier: BSD-3-Clause */
/** `barewire bind` and `barewire unbind`: a PCI NIC changes hands. What there is to it is nic/bind.h's. */
#include <string.h>

#include <base/log.h>
#include <nic/bind.h>

#include "app.h"

static bool wants_help(const char *word)
{
	return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

int bw_app_bind(int argc, char **argv)
{
	struct bw_bind_conf conf = { .addr = NULL };

	for (int i = 0; i < argc; i++) {
		if (wants_help(argv[i])) {
			printf("usage: barewire bind ADDR [DRIVER] [--yes-i-am-on-a-console]\n\n"
			       "Takes the NIC at a PCI address from the kernel, which loses its interface, and gives it to DPDK:\n"
			       "to vfio-pci, unless DRIVER is uio_pci_generic or igb_uio. barewire doctor lists the NICs, barewire\n"
			       "unbind gives it back, and so does a restart of the machine.\n\n"
			       "  --yes-i-am-on-a-console   also the NIC with the default route, which you may be coming by\n");
			return EXIT_OK;
		}
		if (strcmp(argv[i], "--yes-i-am-on-a-console") == 0) {
			conf.may_cut_off = true;
		} else if (argv[i][0] == '-') {
			bw_error("bind: %.60s: no such flag; barewire bind --help tells more", argv[i]);
			return EXIT_REFUSED;
		} else if (conf.addr == NULL) {
			conf.addr = argv[i];
		} else if (conf.driver == NULL) {
			conf.driver = argv[i];
		} else {
			bw_error("bind: %.60s: one NIC at a time; give ADDR [DRIVER]", argv[i]);
			return EXIT_REFUSED;
		}
	}
	if (conf.addr == NULL) {
		bw_error(
			"bind: which NIC? give its address, such as 0000:03:00.0; barewire doctor lists them");
		return EXIT_REFUSED;
	}
	return bw_nic_bind(&conf) == 0 ? EXIT_OK : EXIT_REFUSED;
}

int bw_app_unbind(int argc, char **argv)
{
	if (argc > 0 && wants_help(argv[0])) {
		printf("usage: barewire unbind ADDR\n\n"
		       "Gives the NIC at a PCI address back to the driver that it had before barewire bind. Its interface is\n"
		       "then to be configured anew.\n");
		return EXIT_OK;
	}
	if (argc != 1 || argv[0][0] == '-') {
		bw_error(
			"unbind: which NIC? give one address, such as 0000:03:00.0; barewire doctor lists them");
		return EXIT_REFUSED;
	}
	return bw_nic_unbind(argv[0]) == 0 ? EXIT_OK : EXIT_REFUSED;
}
