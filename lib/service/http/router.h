/* SPDX-License-Identifier: BSD-3-Clause */
/** Which site a Host means, and which route a path. Made once, then only read: all workers share it. */
#pragma once

#include <service/http.h>

struct bw_http_router;

/** Of what bw_http_conf_prepare() was given. 0, or -errno after one line. */
int bw_http__router_make(const struct bw_http_conf *conf, struct bw_http_router **router);
void bw_http__router_free(struct bw_http_router *router);

/** 0: the site without names. @host  without port; upper case, and one dot at its end, make no difference */
unsigned bw_http__site_find(const struct bw_http_router *router, const uint8_t *host, uint32_t host_len);

static inline uint16_t bw_http__method_bit(enum bw_http_method method)
{
	return (uint16_t)(1u << method);
}

bool bw_http__site_has_routes(const struct bw_http_router *router, unsigned site);
/**
 * The route for a method and a path. NULL: none, and in *methods those that some route has for the path, 0 where no
 * route knows it.
 */
const struct bw_http_route *bw_http__route_find(const struct bw_http_router *router, unsigned site,
	const uint8_t *path, uint32_t path_len, enum bw_http_method method, uint16_t *methods);
