/* SPDX-License-Identifier: BSD-3-Clause */
/** Routes: on-link prefixes of our addresses, then the configured routes, longest prefix first. Few, so scanned. */
#include "worker.h"

bool bw_route_is_ours(const struct bw_engine *engine, const struct bw_ip *ip)
{
	for (unsigned i = 0; i < engine->addr_count; i++)
		if (bw_ip_eq(&engine->addrs[i].ip, ip))
			return true;
	return engine->conf.range.prefix_len > 0 && bw_cidr_contains(&engine->conf.range, ip);
}

bool bw_route_is_broadcast(const struct bw_engine *engine, const struct bw_ip *ip)
{
	for (unsigned i = 0; i < engine->addr_count; i++)
		if (bw_cidr_is_broadcast(&engine->addrs[i], ip))
			return true;
	return false;
}

bool bw_route_is_on_link(const struct bw_engine *engine, const struct bw_ip *ip)
{
	if (!bw_ip_is_v4(ip) && bw_ip_is_link_local(ip))
		return true;
	for (unsigned i = 0; i < engine->addr_count; i++)
		if (bw_cidr_contains(&engine->addrs[i], ip))
			return true;
	return false;
}

const struct bw_ip *bw_route(const struct bw_engine *engine, const struct bw_ip *dst)
{
	const struct bw_route *best = NULL;

	if (bw_route_is_on_link(engine, dst))
		return dst;
	for (unsigned i = 0; i < engine->conf.route_count; i++) {
		const struct bw_route *route = &engine->conf.routes[i];

		if (bw_cidr_contains(&route->prefix, dst) &&
			(best == NULL || route->prefix.prefix_len > best->prefix.prefix_len))
			best = route;
	}
	return best != NULL ? &best->gateway : NULL;
}

const struct bw_ip *bw_route_source(const struct bw_engine *engine, const struct bw_ip *dst)
{
	const struct bw_ip *first = NULL;
	bool is_link_local = !bw_ip_is_v4(dst) && bw_ip_is_link_local(dst);

	for (unsigned i = 0; i < engine->addr_count; i++) {
		const struct bw_cidr *addr = &engine->addrs[i];

		if (bw_ip_is_v4(&addr->ip) != bw_ip_is_v4(dst))
			continue;
		if (bw_cidr_contains(addr, dst))
			return &addr->ip;
		/* RFC 6724 rule 2: a scope that fits; the link-local address only talks on the link. */
		if (first == NULL && (bw_ip_is_v4(dst) || bw_ip_is_link_local(&addr->ip) == is_link_local))
			first = &addr->ip;
	}
	return first;
}
