/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <base/log.h>

#include "internal.h"

int bw_control__origin_add(struct bw_conf *conf, const char *path, const char *flag, unsigned line)
{
	struct bw_origin *origin = (struct bw_origin *)bw_control__origin(conf, path), *origins;

	if (origin == NULL) {
		origins = realloc(conf->origins, (conf->origin_count + 1) * sizeof(*origins));
		if (origins == NULL)
			return -ENOMEM;
		conf->origins = origins;
		origin = &origins[conf->origin_count++];
		snprintf(origin->path, sizeof(origin->path), "%s", path);
	}
	origin->flag = flag;
	origin->line = line;
	return 0;
}

void bw_control__origin_drop(struct bw_conf *conf, const char *path)
{
	size_t len = strlen(path);
	unsigned kept = 0;

	for (unsigned i = 0; i < conf->origin_count; i++) {
		const struct bw_origin *origin = &conf->origins[i];
		char next = strncmp(origin->path, path, len) == 0 ? origin->path[len] : 'x';

		if (next != '\0' && next != '.' && next != '[')
			conf->origins[kept++] = *origin;
	}
	conf->origin_count = kept;
}

const struct bw_origin *bw_control__origin(const struct bw_conf *conf, const char *path)
{
	for (unsigned i = 0; i < conf->origin_count; i++)
		if (strcmp(conf->origins[i].path, path) == 0)
			return &conf->origins[i];
	return NULL;
}

int bw_control__fail(const struct bw_conf *conf, const char *path, const char *format, ...)
{
	const struct bw_origin *origin = bw_control__origin(conf, path);
	const char *key = strrchr(path, '.') != NULL ? strrchr(path, '.') + 1 : path;
	char what[768];
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	if (origin == NULL)
		bw_error("%s: %s", path, what);
	else if (origin->flag != NULL)
		bw_error("%s: %s", origin->flag, what);
	else
		bw_error("%s:%u: %.*s: %s", conf->file, origin->line, (int)strcspn(key, "["), key, what);
	return -EINVAL;
}
