/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Addresses and routes. Longest prefix first, and scanned: there are few, and a connection remembers its next hop.
 *
 * A network is written once and replaced as a whole. A worker takes the newest at the beginning of a turn and uses it
 * throughout; the one before is freed when none has it any more.
 */
#include <stdlib.h>

#include "worker.h"

struct bw_network *bw_network_alloc(unsigned route_count)
{
	struct bw_network *network = calloc(1, sizeof(*network) + route_count * sizeof(network->routes[0]));

	if (network != NULL)
		network->route_count = route_count;
	return network;
}

static void insert_by_length(struct bw_network *network, unsigned count, const struct bw_route *route)
{
	unsigned i = count;

	for (; i > 0 && network->routes[i - 1].prefix.prefix_len < route->prefix.prefix_len; i--)
		network->routes[i] = network->routes[i - 1];
	network->routes[i] = (struct bw_network_route){ .prefix = route->prefix, .gateway = route->gateway };
}

struct bw_network *bw_network_of_conf(const struct bw_engine *engine)
{
	const struct bw_engine_conf *conf = &engine->conf;
	struct bw_network *network = bw_network_alloc(conf->devices[0].route_count);
	const struct bw_ip link_local = bw_ip6_link_local(&engine->nic->mac);
	bool has_v6 = false, has_link_local = false;

	if (network == NULL)
		return NULL;
	network->range = conf->devices[0].range;
	network->mac = engine->nic->mac;
	for (unsigned i = 0; i < conf->devices[0].addr_count; i++) {
		const struct bw_ip *ip = &conf->devices[0].addrs[i].ip;

		network->addrs[network->addr_count++] = conf->devices[0].addrs[i];
		has_v6 |= !bw_ip_is_v4(ip);
		has_link_local |= !bw_ip_is_v4(ip) && bw_ip_is_link_local(ip);
	}
	/* Made of the interface's own MAC, it may be the one that the kernel has. */
	if (has_v6 && !has_link_local && !bw_share_is_kernels(engine, &link_local))
		network->addrs[network->addr_count++] =
			(struct bw_cidr){ .ip = link_local, .prefix_len = 64 };
	for (unsigned i = 0; i < conf->devices[0].route_count; i++)
		insert_by_length(network, i, &conf->devices[0].routes[i]);
	return network;
}

void bw_network_take(struct bw_worker *w)
{
	const struct bw_network *network = __atomic_load_n(&w->engine->network, __ATOMIC_ACQUIRE);

	w->host.mac = network->mac;
	w->host.addrs = network->addrs;
	w->host.addr_count = (uint8_t)network->addr_count;
	w->host.range = network->range.prefix_len > 0 ? &network->range : NULL;
	w->hop_path = 0;
	bw_neigh_doubt(w, NULL); /* and with it the ways that connections remember */
	__atomic_store_n(&w->network, network, __ATOMIC_RELEASE);
}

static bool has_network(const struct bw_worker *w, const void *network)
{
	return __atomic_load_n(&w->network, __ATOMIC_ACQUIRE) == network;
}

void bw_network_publish(struct bw_engine *engine, struct bw_network *network)
{
	struct bw_network *before;

	pthread_mutex_lock(&engine->network_mutex);
	before = __atomic_exchange_n(&engine->network, network, __ATOMIC_ACQ_REL);
	pthread_mutex_unlock(&engine->network_mutex);
	bw_worker_tell_all(engine, has_network, network);
	free(before);
}

bool bw_route_is_ours(const struct bw_network *network, const struct bw_ip *ip)
{
	for (unsigned i = 0; i < network->addr_count; i++)
		if (bw_ip_eq(&network->addrs[i].ip, ip))
			return true;
	return network->range.prefix_len > 0 && bw_cidr_contains(&network->range, ip);
}

bool bw_route_is_broadcast(const struct bw_network *network, const struct bw_ip *ip)
{
	for (unsigned i = 0; i < network->addr_count; i++)
		if (bw_cidr_is_broadcast(&network->addrs[i], ip))
			return true;
	return false;
}

static const struct bw_network_route *best_route(const struct bw_network *network, const struct bw_ip *dst)
{
	for (unsigned i = 0; i < network->route_count; i++)
		if (bw_cidr_contains(&network->routes[i].prefix, dst))
			return &network->routes[i];
	return NULL;
}

static bool is_unset(const struct bw_ip *ip)
{
	return bw_ip_half(ip, 0) == 0 && bw_ip_half(ip, 1) == 0;
}

bool bw_route_is_on_link(const struct bw_network *network, const struct bw_ip *ip)
{
	if (!bw_ip_is_v4(ip) && bw_ip_is_link_local(ip))
		return true;
	if (network->is_kernels) {
		const struct bw_network_route *route = best_route(network, ip);

		return route != NULL && is_unset(&route->gateway);
	}
	for (unsigned i = 0; i < network->addr_count; i++)
		if (bw_cidr_contains(&network->addrs[i], ip))
			return true;
	return false;
}

const struct bw_ip *bw_route(const struct bw_network *network, const struct bw_ip *dst)
{
	const struct bw_network_route *route;

	if (!network->is_kernels && bw_route_is_on_link(network, dst))
		return dst;
	route = best_route(network, dst);
	if (route == NULL)
		return NULL;
	return is_unset(&route->gateway) ? dst : &route->gateway;
}

const struct bw_ip *bw_route_source(const struct bw_network *network, const struct bw_ip *dst)
{
	const struct bw_network_route *route = network->is_kernels ? best_route(network, dst) : NULL;
	const struct bw_ip *first = NULL;
	bool is_link_local = !bw_ip_is_v4(dst) && bw_ip_is_link_local(dst);

	if (route != NULL && !is_unset(&route->source) && bw_route_is_ours(network, &route->source))
		return &route->source;
	for (unsigned i = 0; i < network->addr_count; i++) {
		const struct bw_cidr *addr = &network->addrs[i];

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
