/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <string.h>

#include <base/log.h>

#include "app.h"

int bw_app_check(int argc, char **argv)
{
	struct bw_conf *conf = bw_conf_create();
	int status = EXIT_REFUSED, error;

	if (conf == NULL) {
		bw_error("check: out of memory; free some");
		return EXIT_REFUSED;
	}
	error = bw_conf_parse(conf, argc, argv);
	if (error > 0) {
		printf("usage: barewire check [flags]\n\n");
		bw_conf_usage(stdout);
		status = EXIT_OK;
	}
	if (error != 0 || bw_conf_finish(conf) != 0)
		goto out;
	error = bw_conf_print(conf, stdout);
	if (error != 0)
		bw_error("check: cannot print the configuration: %s; look at where the output goes",
			strerror(-error));
	else
		status = EXIT_OK;
out:
	bw_conf_destroy(conf);
	return status;
}
