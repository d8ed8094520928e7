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

struct bw_network *bw_network_of_conf(const struct bw_device *device)
{
	const struct bw_engine_device *conf = device->conf;
	struct bw_network *network = bw_network_alloc(conf->route_count);
	const struct bw_ip link_local = bw_ip6_link_local(&device->nic->mac);
	bool has_v6 = false, has_link_local = false;

	if (network == NULL)
		return NULL;
	network->range = conf->range;
	network->mac = device->nic->mac;
	for (unsigned i = 0; i < conf->addr_count; i++) {
		const struct bw_ip *ip = &conf->addrs[i].ip;

		network->addrs[network->addr_count++] = conf->addrs[i];
		has_v6 |= !bw_ip_is_v4(ip);
		has_link_local |= !bw_ip_is_v4(ip) && bw_ip_is_link_local(ip);
	}
	/* Made of the interface's own MAC, it may be the one that the kernel has. */
	if (has_v6 && !has_link_local && !bw_share_is_kernels(device, &link_local))
		network->addrs[network->addr_count++] =
			(struct bw_cidr){ .ip = link_local, .prefix_len = 64 };
	for (unsigned i = 0; i < conf->route_count; i++)
		insert_by_length(network, i, &conf->routes[i]);
	return network;
}

void bw_network_take(struct bw_iface *iface)
{
	const struct bw_network *network = __atomic_load_n(&iface->device->network, __ATOMIC_ACQUIRE);

	iface->host.mac = network->mac;
	iface->host.addrs = network->addrs;
	iface->host.addr_count = (uint8_t)network->addr_count;
	iface->host.range = network->range.prefix_len > 0 ? &network->range : NULL;
	iface->hop_path = 0;
	bw_neigh_doubt(iface, NULL); /* and with it the ways that connections remember */
	__atomic_store_n(&iface->network, network, __ATOMIC_RELEASE);
}

static bool has_network(const struct bw_worker *w, const void *network)
{
	for (unsigned i = 0; i < w->iface_count; i++)
		if (__atomic_load_n(&w->ifaces[i].network, __ATOMIC_ACQUIRE) == network)
			return true;
	return false;
}

void bw_network_publish(struct bw_device *device, struct bw_network *network)
{
	struct bw_engine *engine = device->engine;
	struct bw_network *before;

	pthread_mutex_lock(&engine->network_mutex);
	before = __atomic_exchange_n(&device->network, network, __ATOMIC_ACQ_REL);
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

/* ---- several links ----------------------------------------------------------------------------------------------- */

struct bw_iface *bw_route_iface_at(const struct bw_worker *w, const struct bw_ip *local)
{
	for (unsigned i = 0; i < w->iface_count; i++)
		if (bw_route_is_ours(w->ifaces[i].network, local))
			return &w->ifaces[i];
	return &w->ifaces[0];
}

/** How long the longest prefix is by which the network has a way there, and an address to talk from. -1: it has none. */
static int way_length(const struct bw_network *network, const struct bw_ip *remote)
{
	const struct bw_network_route *route = best_route(network, remote);
	int length = route != NULL ? route->prefix.prefix_len : -1;

	if (bw_route_source(network, remote) == NULL)
		return -1;
	if (!bw_ip_is_v4(remote) && bw_ip_is_link_local(remote))
		return BW_MAX(length, 10);
	for (unsigned i = 0; i < network->addr_count && !network->is_kernels; i++)
		if (bw_cidr_contains(&network->addrs[i], remote))
			length = BW_MAX(length, (int)network->addrs[i].prefix_len);
	return length;
}

struct bw_iface *bw_route_iface_to(const struct bw_worker *w, const struct bw_ip *remote)
{
	struct bw_iface *best = &w->ifaces[0];
	int best_length = -1;

	for (unsigned i = 0; i < w->iface_count && w->iface_count > 1; i++) {
		const int length = way_length(w->ifaces[i].network, remote);

		if (length > best_length) {
			best = &w->ifaces[i];
			best_length = length;
		}
	}
	return best;
}
