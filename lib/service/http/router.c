/* SPDX-License-Identifier: BSD-3-Clause */
#include "router.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <base/log.h>

#include "parse.h"
#include "site.h"

/* RFC 1035 section 2.3.4: longer is no name. */
#define NAME_MAX_BYTES 255

#define ALL_METHODS                                                                                          \
	((uint16_t)(1u << BW_HTTP_GET | 1u << BW_HTTP_POST | 1u << BW_HTTP_PUT | 1u << BW_HTTP_DELETE |      \
		    1u << BW_HTTP_PATCH))

struct name {
	const char *text;
	uint32_t len;
	uint16_t site;
};

struct site {
	struct bw_http_route *routes; /* exact ones first, then longer prefixes before shorter */
	unsigned route_count;
};

struct bw_http_router {
	struct site *sites;
	unsigned site_count;
	struct name *names; /* sorted: site_find() bisects */
	unsigned name_count;
};

/* ---- finding -------------------------------------------------------------------------------------------- */

static int compare_text(const char *a, uint32_t a_len, const char *b, uint32_t b_len)
{
	int order = memcmp(a, b, BW_MIN(a_len, b_len));

	if (order != 0)
		return order;
	return a_len < b_len ? -1 : a_len > b_len;
}

/* 0: nobody has it. */
static unsigned name_find(const struct bw_http_router *router, const char *text, uint32_t len)
{
	unsigned low = 0, high = router->name_count;

	while (low < high) {
		unsigned middle = (low + high) / 2;
		const struct name *name = &router->names[middle];
		int order = compare_text(text, len, name->text, name->len);

		if (order == 0)
			return name->site;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return 0;
}

unsigned bw_http__site_find(const struct bw_http_router *router, const uint8_t *host, uint32_t host_len)
{
	char text[1 + NAME_MAX_BYTES];
	char *name = text + 1; /* room for the asterisk of a wildcard */
	unsigned site;

	if (router->name_count == 0 || host_len == 0 || host_len > NAME_MAX_BYTES)
		return 0;
	for (uint32_t i = 0; i < host_len; i++)
		name[i] = (char)(host[i] >= 'A' && host[i] <= 'Z' ? host[i] | 0x20 : host[i]);
	if (name[host_len - 1] == '.')
		host_len--;
	site = name_find(router, name, host_len);
	/* "*.example.org" is for every name below it, and the longest such wildcard wins. */
	for (uint32_t i = 0; site == 0 && i < host_len; i++) {
		if (name[i] != '.')
			continue;
		name[i - 1] = '*';
		site = name_find(router, name + i - 1, host_len - i + 1);
	}
	return site;
}

bool bw_http__site_has_routes(const struct bw_http_router *router, unsigned site)
{
	return router->sites[site].route_count > 0;
}

const struct bw_http_route *bw_http__route_find(const struct bw_http_router *router, unsigned site,
	const uint8_t *path, uint32_t path_len, enum bw_http_method method, uint16_t *methods)
{
	const struct site *at = &router->sites[site];

	*methods = 0;
	for (unsigned i = 0; i < at->route_count; i++) {
		const struct bw_http_route *route = &at->routes[i];
		size_t len = strlen(route->path);

		if (len > path_len || (len < path_len && !route->is_prefix) ||
			memcmp(route->path, path, len) != 0)
			continue;
		*methods |= route->methods;
		if (route->methods & bw_http__method_bit(method))
			return route;
	}
	return NULL;
}

/* ---- making --------------------------------------------------------------------------------------------- */

static int compare_names(const void *a, const void *b)
{
	const struct name *x = a, *y = b;

	return compare_text(x->text, x->len, y->text, y->len);
}

static int compare_routes(const void *a, const void *b)
{
	const struct bw_http_route *x = a, *y = b;
	size_t x_len = strlen(x->path), y_len = strlen(y->path);

	if (x->is_prefix != y->is_prefix)
		return x->is_prefix ? 1 : -1;
	return x_len > y_len ? -1 : x_len < y_len;
}

/* "example.org", "*.example.org", "192.0.2.1" or "[2001:db8::1]". */
static bool is_name(const char *text)
{
	size_t len = strlen(text), at = strncmp(text, "*.", 2) == 0 ? 2 : 0;

	if (len == at || len > NAME_MAX_BYTES || text[at] == '.' || text[len - 1] == '.')
		return false;
	for (; at < len; at++) {
		char c = text[at];

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || strchr("-._[]:", c) != NULL))
			return false;
	}
	return text[0] == '[' || strchr(text, ':') == NULL; /* a port is none of the name's */
}

static int routes_make(const struct bw_http_site *conf, struct site *site)
{
	if (conf->route_count > BW_HTTP_ROUTES_MAX) {
		bw_error("http: %u routes of one host; give at most %u", conf->route_count,
			BW_HTTP_ROUTES_MAX);
		return -EINVAL;
	}
	site->routes = calloc(conf->route_count + 1, sizeof(*site->routes));
	if (site->routes == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < conf->route_count; i++) {
		struct bw_http_route *route = &site->routes[i];
		uint8_t path[4096];
		uint32_t path_len;

		*route = conf->routes[i];
		if (route->path == NULL || route->path[0] != '/' || strlen(route->path) > sizeof(path) ||
			bw_http__path((const uint8_t *)route->path, (uint32_t)strlen(route->path), path,
				&path_len) != 0 ||
			path_len != strlen(route->path) || memcmp(path, route->path, path_len) != 0) {
			bw_error(
				"http: route '%s' must be an absolute path as a decoded request has it, such as "
				"/api/",
				route->path != NULL ? route->path : "");
			return -EINVAL;
		}
		if (route->methods == 0)
			route->methods = ALL_METHODS;
		if (route->methods & bw_http__method_bit(BW_HTTP_GET))
			route->methods |= bw_http__method_bit(BW_HTTP_HEAD);
		for (unsigned j = 0; j < i; j++)
			if (strcmp(site->routes[j].path, route->path) == 0 &&
				site->routes[j].is_prefix == route->is_prefix &&
				(site->routes[j].methods & route->methods) != 0) {
				bw_error("http: two routes for the same methods of %s; remove one",
					route->path);
				return -EINVAL;
			}
	}
	site->route_count = conf->route_count;
	qsort(site->routes, site->route_count, sizeof(*site->routes), compare_routes);
	return 0;
}

static int names_make(const struct bw_http_conf *conf, struct bw_http_router *router)
{
	unsigned count = 0;

	for (unsigned i = 0; i < conf->host_count; i++) {
		if (conf->hosts[i].name_count == 0) {
			bw_error("http: a host without names; give at least one, such as www.example.org");
			return -EINVAL;
		}
		count += conf->hosts[i].name_count;
	}
	if (conf->host_count > BW_HTTP_HOSTS_MAX || count > BW_HTTP_NAMES_MAX) {
		bw_error("http: %u hosts with %u names; give at most %u with %u", conf->host_count, count,
			BW_HTTP_HOSTS_MAX, BW_HTTP_NAMES_MAX);
		return -EINVAL;
	}
	router->names = calloc(count + 1, sizeof(*router->names));
	if (router->names == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < conf->host_count; i++) {
		for (unsigned j = 0; j < conf->hosts[i].name_count; j++) {
			const char *text = conf->hosts[i].names[j];

			if (!is_name(text)) {
				bw_error(
					"http: '%s' is no name of a host; give one in lower case and without a "
					"port, such as www.example.org or *.example.org",
					text);
				return -EINVAL;
			}
			router->names[router->name_count++] =
				(struct name){ text, (uint32_t)strlen(text), (uint16_t)(i + 1) };
		}
	}
	qsort(router->names, count, sizeof(*router->names), compare_names);
	for (unsigned i = 1; i < count; i++)
		if (compare_names(&router->names[i - 1], &router->names[i]) == 0) {
			bw_error("http: two hosts are named %s; take it from one", router->names[i].text);
			return -EINVAL;
		}
	return 0;
}

int bw_http__router_make(const struct bw_http_conf *conf, struct bw_http_router **made)
{
	struct bw_http_router *router = calloc(1, sizeof(*router));
	int rc = -ENOMEM;

	if (router == NULL)
		goto out_of_memory;
	router->sites = calloc(conf->host_count + 1, sizeof(*router->sites));
	if (router->sites == NULL)
		goto out_of_memory;
	router->site_count = conf->host_count + 1;
	rc = names_make(conf, router);
	for (unsigned i = 0; i < router->site_count && rc == 0; i++)
		rc = routes_make(i == 0 ? &conf->site : &conf->hosts[i - 1], &router->sites[i]);
	if (rc == 0) {
		*made = router;
		return 0;
	}
out_of_memory:
	if (rc == -ENOMEM)
		bw_error("http: no memory for hosts and routes");
	bw_http__router_free(router);
	return rc;
}

int bw_http_conf_check(const struct bw_http_conf *conf)
{
	struct bw_http_router *router = NULL;
	int rc = bw_http__site_check(&conf->site);

	for (unsigned i = 0; i < conf->host_count && rc == 0; i++)
		rc = bw_http__site_check(&conf->hosts[i]);
	if (rc == 0) /* two of a name, or of a path */
		rc = bw_http__router_make(conf, &router);
	bw_http__router_free(router);
	return rc;
}

void bw_http__router_free(struct bw_http_router *router)
{
	if (router == NULL)
		return;
	for (unsigned i = 0; i < router->site_count; i++)
		free(router->sites[i].routes);
	free(router->sites);
	free(router->names);
	free(router);
}
