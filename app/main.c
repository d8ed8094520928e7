/* SPDX-License-Identifier: BSD-3-Clause */
#include <string.h>

#include <rte_version.h>

#include <base/log.h>

#include "app.h"

static int help(int argc, char **argv);

static const struct command {
	const char *name, *arguments, *summary;
	int (*run)(int argc, char **argv);
} commands[] = {
	{ "serve", "[flags] [-- EAL]", "serve until Ctrl-C", bw_app_serve },
	{ "load", "[flags] URL...", "put load on a server, and tell how it took it", bw_app_load },
	{ "steer", "status|block|...",
		"what a running instance shares with the kernel, and whom it keeps out", bw_app_steer },
	{ "capture", "[flags] FILE", "write the packets of a running instance to a file for Wireshark",
		bw_app_capture },
	{ "check", "[flags]", "check a configuration and print what is in force", bw_app_check },
	{ "bind", "ADDR [DRIVER]", "give a PCI NIC to DPDK, which takes it away from the kernel",
		bw_app_bind },
	{ "unbind", "ADDR", "give it back to the driver that it had", bw_app_unbind },
	{ "doctor", "", "what this machine can do, and how to make it faster", bw_app_doctor },
	{ "help", "", "this", help },
};

static int help(int argc, char **argv)
{
	printf("barewire %s: services without the kernel's network stack\n\n", BW_VERSION);
	for (unsigned i = 0; i < BW_ARRAY_LEN(commands); i++)
		printf("  barewire %-7s %-17s %s\n", commands[i].name, commands[i].arguments,
			commands[i].summary);
	printf("  barewire --version\n\nFlags of serve and check; docs/configuration.md tells more:\n");
	bw_conf_usage(stdout);
	printf("\nFor a start, as root:  barewire serve --http 8080\n");
	return EXIT_OK;
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : NULL;

	if (name == NULL) {
		bw_error("no command; give one of those that barewire help lists");
		return EXIT_REFUSED;
	}
	if (strcmp(name, "--version") == 0) {
		printf("barewire %s, %s\n", BW_VERSION, rte_version());
		return EXIT_OK;
	}
	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
		name = "help";
	for (unsigned i = 0; i < BW_ARRAY_LEN(commands); i++)
		if (strcmp(commands[i].name, name) == 0)
			return commands[i].run(argc - 2, argv + 2);
	bw_error("%s: no such command; give one of those that barewire help lists", name);
	return EXIT_REFUSED;
}
