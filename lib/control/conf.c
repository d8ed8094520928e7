/* SPDX-License-Identifier: BSD-3-Clause */
/** From the raw text to the configuration that the other rooms take, with the checks that need the whole picture. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <base/log.h>
#include <wire/packet.h>

#include "internal.h"

/* RFC 2544 section 20 sets 198.18.0.0/15 aside for tests of devices, so it meets no network that is in use. */
#define TAP_ADDR4    "198.18.77.2/24"
#define TAP_ADDR6    "fd77:ba5e::2/64"
/* Connections beyond those that are asked for: some are still ending. */
#define CLIENT_SPARE 1024

/* Behind those that Linux takes for what it opens (net.ipv4.ip_local_port_range, 32768 to 60999). */
#define SHARED_PORT_FIRST 61000u

#define ROW(structure, target_structure, key, kind, target, min, max)                                        \
	{ #key, KEY_##kind, offsetof(structure, key), offsetof(target_structure, target),                    \
		sizeof(((target_structure *)0)->target), min, max },

#define TOP_ROW(...)       ROW(struct bw_raw, struct bw_conf_view, __VA_ARGS__)
#define NETWORK_ROW(...)   ROW(struct bw_raw_network, struct bw_engine_conf, __VA_ARGS__)
#define STEER_ROW(...)     ROW(struct bw_raw_steer, struct bw_conf_view, __VA_ARGS__)
#define EXCEPTION_ROW(...) ROW(struct bw_raw_exception, struct bw_engine_conf, __VA_ARGS__)
#define TCP_ROW(...)       ROW(struct bw_raw_tcp, struct bw_tcp_conf, __VA_ARGS__)
#define HTTP_ROW(...)      ROW(struct bw_raw_http, struct bw_http_conf, __VA_ARGS__)
#define SITE_ROW(...)      ROW(struct bw_raw_site, struct bw_http_site, __VA_ARGS__)
#define ROUTE_ROW(...)     ROW(struct bw_raw_handler, struct bw_http_route, __VA_ARGS__)
#define CONSTANT_ROW(...)  ROW(struct bw_raw_constant, struct bw_http_constant, __VA_ARGS__)
#define HEADER_ROW(...)    ROW(struct bw_raw_header, struct bw_http_header, __VA_ARGS__)
#define PAGE_ROW(...)      ROW(struct bw_raw_error_page, struct bw_http_page, __VA_ARGS__)
#define RESP_ROW(...)      ROW(struct bw_raw_resp, struct bw_resp_conf, __VA_ARGS__)

#define HTTP_SERVICE_ROW(...)  ROW(struct bw_raw_http, struct bw_engine_service, __VA_ARGS__)
#define RESP_SERVICE_ROW(...)  ROW(struct bw_raw_resp, struct bw_engine_service, __VA_ARGS__)
#define PLAIN_SERVICE_ROW(...) ROW(struct bw_raw_plain, struct bw_engine_service, __VA_ARGS__)

static const struct bw_key top_keys[] = { TOP_KEYS(TOP_ROW) };
static const struct bw_key network_keys[] = { NETWORK_KEYS(NETWORK_ROW) };
static const struct bw_key steer_keys[] = { STEER_KEYS(STEER_ROW) };
static const struct bw_key exception_keys[] = { EXCEPTION_KEYS(EXCEPTION_ROW) };
static const struct bw_key tcp_keys[] = { TCP_KEYS(TCP_ROW) };
static const struct bw_key http_keys[] = { HTTP_KEYS(HTTP_ROW) };
static const struct bw_key site_keys[] = { SITE_KEYS(SITE_ROW) };
static const struct bw_key route_keys[] = { ROUTE_KEYS(ROUTE_ROW) };
static const struct bw_key constant_keys[] = { CONSTANT_KEYS(CONSTANT_ROW) };
static const struct bw_key header_keys[] = { HEADER_KEYS(HEADER_ROW) };
static const struct bw_key page_keys[] = { ERROR_PAGE_KEYS(PAGE_ROW) };
static const struct bw_key resp_keys[] = { RESP_KEYS(RESP_ROW) };
static const struct bw_key http_service_keys[] = { SERVICE_KEYS(HTTP_SERVICE_ROW) };
static const struct bw_key resp_service_keys[] = { SERVICE_KEYS(RESP_SERVICE_ROW) };
static const struct bw_key plain_service_keys[] = { SERVICE_KEYS(PLAIN_SERVICE_ROW) };
_Static_assert(BW_ARRAY_LEN(http_service_keys) == BW_ARRAY_LEN(resp_service_keys) &&
		       BW_ARRAY_LEN(http_service_keys) == BW_ARRAY_LEN(plain_service_keys),
	"service_add() counts one for all");

_Static_assert(sizeof(enum bw_poll) <= sizeof(uint64_t) &&
		       sizeof(enum bw_tcp_congestion_control) <= sizeof(uint64_t) &&
		       sizeof(enum bw_tcp_syn_cookies) <= sizeof(uint64_t) &&
		       sizeof(enum bw_http_log_format) <= sizeof(uint64_t) && sizeof(bool) == 1,
	"values.c copies them as integers");

struct bw_conf *bw_conf_create(void)
{
	struct bw_conf *conf = calloc(1, sizeof(*conf));

	if (conf == NULL)
		return NULL;
	conf->raw = calloc(1, sizeof(*conf->raw));
	if (conf->raw == NULL) {
		free(conf);
		return NULL;
	}
	bw_engine_conf_init(&conf->view.engine);
	bw_tcp_conf_init(&conf->view.engine.tcp);
	conf->view.drain_timeout_ns = 10 * BW_NS_PER_SEC;
	conf->view.stats_interval_s = 10;
	return conf;
}

void bw_conf_destroy(struct bw_conf *conf)
{
	if (conf == NULL)
		return;
	while (conf->blocks != NULL) {
		struct bw_conf_block *block = conf->blocks;

		conf->blocks = block->next;
		free(block);
	}
	bw_control__raw_free(conf->raw);
	free(conf->origins);
	free(conf->file);
	free(conf);
}

static int or_out_of_memory(int error)
{
	if (error == -ENOMEM)
		bw_error("configuration: out of memory; free some");
	return error;
}

int bw_conf_parse(struct bw_conf *conf, int argc, char **argv)
{
	return or_out_of_memory(bw_control__flags_apply(conf, argc, argv));
}

/* ---- the device ----------------------------------------------------------------------------------------- */

/** The word before the colon; what follows it is for the nic to judge, which can look at the machine. */
static int device_apply(struct bw_conf *conf)
{
	static const char *const kinds[] = { "tap", "packet", "xdp", "memif", "vhost", "virtio", "ring",
		"pcap", "pci", "bond", "auto" };
	struct bw_raw *raw = conf->raw;
	const char *nearest;
	char kind[32];

	if (raw->device == NULL) {
		raw->device = strdup("tap");
		if (raw->device == NULL)
			return -ENOMEM;
	}
	conf->view.devices[0].dev = raw->device;
	snprintf(kind, sizeof(kind), "%.*s", (int)strcspn(raw->device, ":"), raw->device);
	for (unsigned i = 0; i < BW_ARRAY_LEN(kinds); i++)
		if (strcmp(kind, kinds[i]) == 0)
			return 0;
	if (strncmp(raw->device, "net_", 4) == 0)
		return 0;
	nearest = bw_control__nearest(kind, kinds, BW_ARRAY_LEN(kinds));
	if (nearest != NULL)
		return bw_control__fail(conf, "device", "'%.60s' is no kind of device; did you mean %s?",
			raw->device, nearest);
	return bw_control__fail(conf, "device",
		"'%.60s' is no kind of device; give tap, packet:IFACE, xdp:IFACE, memif:SOCKET, vhost:SOCKET, "
		"virtio:SOCKET, ring, pcap:IN,OUT, pci:ADDR, auto or net_... devargs",
		raw->device);
}

static bool device_is(const struct bw_conf *conf, const char *kind)
{
	size_t len = strlen(kind);

	return strncmp(conf->view.devices[0].dev, kind, len) == 0 &&
	       (conf->view.devices[0].dev[len] == '\0' || conf->view.devices[0].dev[len] == ':');
}

static int mac_apply(struct bw_conf *conf)
{
	if (conf->raw->mac == NULL)
		return 0;
	if (bw_mac_parse(conf->raw->mac, &conf->mac) != 0)
		return bw_control__fail(conf, "mac",
			"'%.60s' is no Ethernet address; give one such as 02:00:00:00:00:01", conf->raw->mac);
	if ((conf->mac.b[0] & 1) != 0 || memcmp(&conf->mac, &(struct bw_mac){ 0 }, sizeof(conf->mac)) == 0)
		return bw_control__fail(conf, "mac",
			"%s is a group's or nobody's address; give one whose first byte is even, such as "
			"02:00:00:00:00:01",
			conf->raw->mac);
	conf->view.devices[0].mac = &conf->mac;
	return 0;
}

/* ---- addresses -------------------------------------------------------------------------------------------- */

static unsigned bits_of(const struct bw_ip *ip)
{
	return bw_ip_is_v4(ip) ? 32 : 128;
}

/** Length of the prefix in the 16 bytes that an address of either family has. */
static unsigned mapped_len(const struct bw_cidr *cidr)
{
	return cidr->prefix_len + (bw_ip_is_v4(&cidr->ip) ? 96u : 0u);
}

/** The prefix's lowest address: host bits zero. */
static struct bw_ip prefix_first(const struct bw_cidr *cidr)
{
	struct bw_ip ip = cidr->ip;
	unsigned len = mapped_len(cidr);

	for (unsigned i = 0; i < 16; i++) {
		unsigned kept = len > i * 8 ? BW_MIN(len - i * 8, 8u) : 0;

		ip.b[i] &= (uint8_t)(0xff00u >> kept);
	}
	return ip;
}

static void ip_increment(struct bw_ip *ip)
{
	for (int i = 15; i >= 0 && ++ip->b[i] == 0; i--)
		;
}

/** No address to give out: the network's own (RFC 4291 section 2.6.1 for IPv6), but not on point-to-point links. */
static bool is_prefix_itself(const struct bw_cidr *cidr)
{
	struct bw_ip first = prefix_first(cidr);

	return bits_of(&cidr->ip) - cidr->prefix_len > 1 && bw_ip_eq(&first, &cidr->ip);
}

static bool same_prefix(const struct bw_cidr *a, const struct bw_cidr *b)
{
	struct bw_ip a_first = prefix_first(a), b_first = prefix_first(b);

	return mapped_len(a) == mapped_len(b) && bw_ip_eq(&a_first, &b_first);
}

static int addr_check(
	const struct bw_conf *conf, const char *path, const struct bw_cidr *cidr, const char *text)
{
	char prefix_text[BW_CIDR_STRLEN];
	struct bw_cidr prefix = { prefix_first(cidr), cidr->prefix_len };

	if (bw_ip_is_unspecified(&cidr->ip) || bw_ip_is_multicast(&cidr->ip) || bw_ip_is_loopback(&cidr->ip))
		return bw_control__fail(
			conf, path, "%s is no address that a host on a network can have; give another", text);
	if (is_prefix_itself(cidr))
		return bw_control__fail(conf, path,
			"%s is the network itself; give an address of it, such as the next", text);
	if (bw_cidr_is_broadcast(cidr, &cidr->ip))
		return bw_control__fail(conf, path, "%s is the broadcast address of %s; give another", text,
			bw_cidr_format(&prefix, prefix_text));
	if (!bw_ip_is_v4(&cidr->ip) && conf->view.devices[0].mtu != 0 &&
		conf->view.devices[0].mtu < BW_IP6_MTU_MIN)
		return bw_control__fail(conf, "mtu",
			"%u is less than the %u that IPv6 needs; give more, or no IPv6 address (%s)",
			conf->view.devices[0].mtu, BW_IP6_MTU_MIN, text);
	return 0;
}

/** The kernel's addresses. What is opened from these has ports that the kernel does not take for itself. */
static int share_apply(struct bw_conf *conf)
{
	struct bw_engine_conf *engine = &conf->view.engine;

	if ((engine->flood != NULL || engine->devices[0].range.prefix_len > 0) &&
		engine->devices[0].exception_tap != NULL)
		return bw_control__fail(conf, "exception.tap",
			"with it the addresses are the kernel's as well, and there are none of our own to send from; leave it out");
	if (engine->flood != NULL || engine->devices[0].range.prefix_len > 0)
		return bw_control__fail(conf, "device",
			"without an address of its own, %.60s has no others to send from; give --addr CIDR, one that nobody on "
			"that network has",
			conf->view.devices[0].dev);
	engine->devices[0].shares_addresses = true;
	if (bw_control__origin(conf, "tcp.port_first") != NULL ||
		bw_control__origin(conf, "tcp.port_last") != NULL)
		return 0;
	engine->tcp.port_first = SHARED_PORT_FIRST;
	free(conf->raw->tcp.port_first);
	return asprintf(&conf->raw->tcp.port_first, "%u", SHARED_PORT_FIRST) > 0 ? 0 : -ENOMEM;
}

/** A tap has both ends in this machine, so any addresses will do; another device's network has its own. */
static int addrs_default(struct bw_conf *conf)
{
	struct bw_raw *raw = conf->raw;
	struct bw_engine_conf *engine = &conf->view.engine;
	static const char *const texts[] = { TAP_ADDR4, TAP_ADDR6 };
	unsigned count = conf->view.devices[0].mtu != 0 && conf->view.devices[0].mtu < BW_IP6_MTU_MIN ? 1 : 2;

	if (engine->devices[0].exception_tap != NULL) /* those that its TAP has, or will have */
		return 0;
	if (device_is(conf, "xdp") || device_is(conf, "packet"))
		return share_apply(conf);
	if (!device_is(conf, "tap") && !device_is(conf, "auto"))
		return bw_control__fail(conf, "device",
			"%.60s has no address for Barewire; give --addr CIDR, one that nobody on that network has",
			conf->view.devices[0].dev);
	for (unsigned i = 0; i < count; i++)
		if (bw_cidr_parse(texts[i], &engine->devices[0].addrs[i]) != 0)
			return -EINVAL;
	engine->devices[0].addr_count = count;
	if (device_is(conf, "auto")) {
		conf->view.devices[0].has_default_addrs = true;
		return 0;
	}
	raw->addresses = calloc(count, sizeof(*raw->addresses));
	if (raw->addresses == NULL)
		return -ENOMEM;
	for (; raw->addresses_count < count; raw->addresses_count++) {
		raw->addresses[raw->addresses_count] = strdup(texts[raw->addresses_count]);
		if (raw->addresses[raw->addresses_count] == NULL)
			return -ENOMEM;
	}
	return 0;
}

static int addrs_apply(struct bw_conf *conf)
{
	const struct bw_raw *raw = conf->raw;
	struct bw_engine_conf *engine = &conf->view.engine;

	if (engine->devices[0].exception_tap != NULL &&
		engine->devices[0].exception_tap[0] == '\0') /* as if it had not been given */
		engine->devices[0].exception_tap = NULL;
	if (raw->addresses_count == 0)
		return addrs_default(conf);
	for (unsigned i = 0; i < raw->addresses_count; i++) {
		const char *text = raw->addresses[i];
		struct bw_cidr *cidr = &engine->devices[0].addrs[i];
		char path[PATH_BYTES];
		int error;

		snprintf(path, sizeof(path), "addresses[%u]", i);
		if (bw_cidr_parse(text, cidr) != 0)
			return bw_control__fail(conf, path,
				"'%.60s' is no address with its prefix; give one such as 192.0.2.2/24 or "
				"2001:db8::2/64",
				text);
		error = addr_check(conf, path, cidr, text);
		if (error != 0)
			return error;
		for (unsigned j = 0; j < i; j++)
			if (bw_ip_eq(&engine->devices[0].addrs[j].ip, &cidr->ip))
				return bw_control__fail(
					conf, path, "%s is there already; give every address once", text);
		engine->devices[0].addr_count = i + 1;
	}
	return 0;
}

static bool is_ours(const struct bw_engine_conf *engine, const struct bw_ip *ip)
{
	for (unsigned i = 0; i < engine->devices[0].addr_count; i++)
		if (bw_ip_eq(&engine->devices[0].addrs[i].ip, ip))
			return true;
	return false;
}

/** Of raw devargs. */
static bool is_driver(const struct bw_conf *conf, const char *name)
{
	return strncmp(conf->view.devices[0].dev, name, strlen(name)) == 0;
}

/**
 * A TAP beside a device that the kernel does not have. Addresses are given to it, or it has some, or will.
 * As for a device's interface, what the kernel takes beyond these characters would not survive everywhere.
 */
static int exception_apply(struct bw_conf *conf)
{
	const char *name = conf->view.engine.devices[0].exception_tap;
	const char *const path = "exception.tap";
	size_t len;

	if (name == NULL)
		return 0;
	len = strlen(name);
	if (len >= IFNAMSIZ || strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != len)
		return bw_control__fail(conf, path,
			"'%.60s' is not an interface name; give 1 to 15 letters, digits, . _ -", name);
	if (device_is(conf, "xdp") || device_is(conf, "packet") || is_driver(conf, "net_af_"))
		return bw_control__fail(conf, path,
			"%.60s leaves the kernel its interface, and with it all that is not served; leave this out",
			conf->view.devices[0].dev);
	if (device_is(conf, "tap") || is_driver(conf, "net_tap"))
		return bw_control__fail(conf, path,
			"%.60s has the kernel at its other end; leave this out, or give a --dev that DPDK has, such as "
			"pci:ADDR",
			conf->view.devices[0].dev);
	if (conf->view.engine.devices[0].vlan != 0 && len + strlen(".4094") >= IFNAMSIZ)
		return bw_control__fail(conf, path,
			"%s leaves no room for the name of its VLAN's interface; give a shorter one", name);
	return share_apply(conf);
}

/** The kernel's end of a tap: in every prefix of ours, the lowest address that a host can have and we do not. */
static int host_addrs_apply(struct bw_conf *conf)
{
	struct bw_conf_view *view = &conf->view;

	if (!device_is(conf, "tap") && !device_is(conf, "auto"))
		return 0;
	for (unsigned i = 0; i < view->engine.devices[0].addr_count; i++) {
		const struct bw_cidr *ours = &view->engine.devices[0].addrs[i];
		struct bw_cidr host = { prefix_first(ours), ours->prefix_len };
		bool has_host = false;

		for (unsigned j = 0; j < view->devices[0].host_addr_count; j++)
			has_host |= same_prefix(&view->devices[0].host_addrs[j], ours);
		if (has_host)
			continue;
		if (is_prefix_itself(&host))
			ip_increment(&host.ip);
		while (bw_cidr_contains(ours, &host.ip) && is_ours(&view->engine, &host.ip))
			ip_increment(&host.ip);
		if (!bw_cidr_contains(ours, &host.ip) || bw_cidr_is_broadcast(ours, &host.ip)) {
			char path[PATH_BYTES], text[BW_CIDR_STRLEN];

			if (device_is(conf, "auto")) { /* which may take a NIC, and a NIC needs none */
				view->devices[0].without_host = ours;
				continue;
			}
			snprintf(path, sizeof(path), "addresses[%u]", i);
			return bw_control__fail(conf, path,
				"%s leaves no address for the kernel's end of the tap; give a shorter prefix, such as "
				"/%u",
				bw_cidr_format(ours, text), bw_ip_is_v4(&ours->ip) ? 24u : 64u);
		}
		view->devices[0].host_addrs[view->devices[0].host_addr_count++] = host;
	}
	return 0;
}

/* ---- routes ------------------------------------------------------------------------------------------------- */

/** Parse and check a gateway: a neighbour, and not us. */
static int gateway_parse(
	const struct bw_conf *conf, const char *path, const char *text, struct bw_ip *gateway)
{
	const struct bw_engine_conf *engine = &conf->view.engine;

	if (bw_ip_parse(text, gateway) != 0)
		return bw_control__fail(
			conf, path, "'%.60s' is no address; give one such as 192.0.2.1 or 2001:db8::1", text);
	if (engine->devices[0].shares_addresses && engine->devices[0].addr_count == 0)
		return bw_control__fail(conf, path,
			"without --addr the kernel's routes are used; set them there, with `ip route`, and leave this out");
	if (is_ours(engine, gateway))
		return bw_control__fail(conf, path, "%s is our own address; give the router's", text);
	if (!bw_ip_is_v4(gateway) && bw_ip_is_link_local(gateway))
		return 0;
	for (unsigned i = 0; i < engine->devices[0].addr_count; i++)
		if (bw_cidr_contains(&engine->devices[0].addrs[i], gateway))
			return 0;
	return bw_control__fail(conf, path,
		"%s is in no prefix of ours; give a gateway on the link, or an --addr near it", text);
}

static int route_add(struct bw_conf *conf, const char *path, const struct bw_route *route)
{
	struct bw_engine_conf *engine = &conf->view.engine;
	char text[BW_CIDR_STRLEN];

	for (unsigned i = 0; i < engine->devices[0].route_count; i++)
		if (same_prefix(&engine->devices[0].routes[i].prefix, &route->prefix))
			return bw_control__fail(conf, path, "there is a gateway for %s already; give one",
				bw_cidr_format(&route->prefix, text));
	if (engine->devices[0].route_count == BW_ROUTES_MAX)
		return bw_control__fail(
			conf, path, "more than %u routes, gateways included; give fewer", BW_ROUTES_MAX);
	engine->devices[0].routes[engine->devices[0].route_count++] = *route;
	return 0;
}

static int gateways_apply(struct bw_conf *conf)
{
	for (unsigned i = 0; i < conf->raw->gateways_count; i++) {
		struct bw_route route;
		char path[PATH_BYTES];
		int error;

		snprintf(path, sizeof(path), "gateways[%u]", i);
		error = gateway_parse(conf, path, conf->raw->gateways[i], &route.gateway);
		if (error != 0)
			return error;
		if (bw_ip_is_v4(&route.gateway))
			route.prefix = (struct bw_cidr){ bw_ip_from_v4(0), 0 };
		else
			route.prefix = (struct bw_cidr){ 0 };
		error = route_add(conf, path, &route);
		if (error != 0)
			return error;
	}
	return 0;
}

static int routes_apply(struct bw_conf *conf)
{
	for (unsigned i = 0; i < conf->raw->routes_count; i++) {
		const struct bw_raw_route *raw = &conf->raw->routes[i];
		char entry[PATH_BYTES / 2], path[PATH_BYTES], text[BW_CIDR_STRLEN];
		struct bw_route route;
		struct bw_ip first;
		int error;

		snprintf(entry, sizeof(entry), "routes[%u]", i);
		if (raw->prefix == NULL || raw->gateway == NULL)
			return bw_control__fail(conf, entry, "a route needs prefix and gateway; give both");
		snprintf(path, sizeof(path), "%s.prefix", entry);
		if (bw_cidr_parse(raw->prefix, &route.prefix) != 0)
			return bw_control__fail(
				conf, path, "'%.60s' is no prefix; give one such as 10.0.0.0/8", raw->prefix);
		first = prefix_first(&route.prefix);
		if (!bw_ip_eq(&first, &route.prefix.ip)) {
			struct bw_cidr prefix = { first, route.prefix.prefix_len };

			return bw_control__fail(conf, path, "%s has bits behind its prefix; give %s",
				raw->prefix, bw_cidr_format(&prefix, text));
		}
		snprintf(path, sizeof(path), "%s.gateway", entry);
		error = gateway_parse(conf, path, raw->gateway, &route.gateway);
		if (error != 0)
			return error;
		if (bw_ip_is_v4(&route.gateway) != bw_ip_is_v4(&route.prefix.ip))
			return bw_control__fail(conf, path,
				"%s and %s are of two families; give a gateway of the prefix's", raw->prefix,
				raw->gateway);
		snprintf(path, sizeof(path), "%s.prefix", entry);
		error = route_add(conf, path, &route);
		if (error != 0)
			return error;
	}
	return 0;
}

/** Zeroed, and freed with the configuration. */
static void *conf_alloc(struct bw_conf *conf, size_t count, size_t bytes)
{
	struct bw_conf_block *block = calloc(1, sizeof(*block) + count * bytes);

	if (block == NULL)
		return NULL;
	block->next = conf->blocks;
	conf->blocks = block;
	return block->data;
}

/* ---- sharing with the kernel --------------------------------------------------------------------------------- */

static int rules_apply(struct bw_conf *conf, const char *list, char *const *texts, unsigned count,
	enum bw_steer_verdict verdict, struct bw_conf_rule *rules)
{
	for (unsigned i = 0; i < count; i++) {
		char path[PATH_BYTES];

		rules[i].verdict = verdict;
		if (bw_cidr_parse(texts[i], &rules[i].source) == 0)
			continue;
		snprintf(path, sizeof(path), "steer.%s[%u]", list, i);
		return bw_control__fail(conf, path,
			"'%.60s' is no prefix; give one such as 192.0.2.0/24, or 2001:db8::1/128 for an address alone",
			texts[i]);
	}
	return 0;
}

static int steer_apply(struct bw_conf *conf)
{
	const struct bw_raw_steer *raw = &conf->raw->steer;
	struct bw_conf_view *view = &conf->view;
	const unsigned count = raw->block_count + raw->allow_count;
	struct bw_conf_rule *rules;
	int error;

	if (count == 0 && view->steer_limits.syns_per_s == 0 && view->steer_limits.packets_per_s == 0)
		return 0;
	if (!device_is(conf, "xdp") &&
		!(device_is(conf, "packet") && view->engine.devices[0].shares_addresses))
		return bw_control__fail(conf, "steer",
			"%.60s is not shared with the kernel, which is what keeps sources out: that is for xdp:IFACE, and for "
			"packet:IFACE without addresses",
			view->devices[0].dev);
	rules = conf_alloc(conf, count, sizeof(*rules));
	if (rules == NULL)
		return -ENOMEM;
	view->steer_rules = rules;
	view->steer_rule_count = count;
	error = rules_apply(conf, "block", raw->block, raw->block_count, BW_STEER_BLOCK, rules);
	return error != 0 ? error
			  : rules_apply(conf, "allow", raw->allow, raw->allow_count, BW_STEER_ALLOW,
				    rules + raw->block_count);
}

/* ---- services ------------------------------------------------------------------------------------------------- */

/** Where each service of the view came from, for what overlaps. */
struct service_origin {
	const char *name;
	unsigned index;
};

struct services {
	struct bw_conf *conf;
	struct service_origin origins[BW_SERVICES_MAX];
};

static int overlap(
	const struct services *services, const char *path, uint16_t port, const struct service_origin *other)
{
	const struct bw_origin *origin;
	char other_path[PATH_BYTES];

	snprintf(other_path, sizeof(other_path), "%s[%u].port", other->name, other->index);
	origin = bw_control__origin(services->conf, other_path);
	if (origin != NULL && origin->flag == NULL)
		return bw_control__fail(services->conf, path,
			"port %u is taken by %s (%s:%u); give one of them another", port, other->name,
			services->conf->file, origin->line);
	return bw_control__fail(services->conf, path, "port %u is taken by --%s; give one of them another",
		port, other->name);
}

static bool share_an_addr(const struct bw_engine_conf *engine, const struct bw_engine_service *a,
	const struct bw_engine_service *b)
{
	for (unsigned i = 0; i < engine->devices[0].addr_count; i++) {
		const struct bw_ip *ip = &engine->devices[0].addrs[i].ip;

		if (bw_engine_service_is_at(a, ip) && bw_engine_service_is_at(b, ip))
			return true;
	}
	if (!engine->devices[0].shares_addresses)
		return false;
	for (unsigned i = 0; i < a->addr_count; i++)
		if (bw_engine_service_is_at(b, &a->addrs[i]))
			return true;
	return a->addr_count == 0;
}

/** The addresses that a service is on. @path  the service's */
static int service_addrs_apply(const struct bw_conf *conf, const char *path,
	const struct bw_raw_listen *listen, struct bw_engine_service *service)
{
	for (unsigned i = 0; i < listen->addresses_count; i++) {
		const char *text = listen->addresses[i];
		char at[PATH_BYTES];
		struct bw_ip ip;

		snprintf(at, sizeof(at), "%.100s.addresses[%u]", path, i);
		if (bw_ip_parse(text, &ip) != 0)
			return bw_control__fail(conf, at,
				"'%.60s' is no address; give one of ours, such as 192.0.2.2 or 2001:db8::2",
				text);
		/* Those of an interface that is shared are looked at when it starts, those of a TAP may come later. */
		if (!(conf->view.engine.devices[0].shares_addresses &&
			    conf->view.engine.devices[0].addr_count == 0) &&
			!is_ours(&conf->view.engine, &ip))
			return bw_control__fail(
				conf, at, "%s is no address of ours; give one that is, or its --addr", text);
		if (service->addr_count > 0 && bw_engine_service_is_at(service, &ip))
			return bw_control__fail(
				conf, at, "%s is there already; give every address once", text);
		service->addrs[service->addr_count++] = ip;
	}
	return 0;
}

/** RFC 8257 is built on marks. */
static int congestion_control_check(const struct bw_conf *conf, const char *prefix, unsigned choice)
{
	char path[PATH_BYTES];

	if (choice != BW_TCP_CC_DCTCP || conf->view.engine.tcp.ecn)
		return 0;
	snprintf(path, sizeof(path), "%.100scongestion_control", prefix);
	return bw_control__fail(
		conf, path, "dctcp needs ECN; give tcp.ecn: true, or another congestion control");
}

/**
 * Take a service into the view at its port, with the keys that all kinds have.
 *
 * @raw   its raw struct, which begins as struct bw_raw_listen does
 * @keys  SERVICE_KEYS for that struct
 * @slot  its place in the view goes here
 */
static int service_add(struct services *services, const char *name, unsigned index, void *raw,
	const struct bw_key *keys, const struct bw_service *service, unsigned *slot)
{
	const struct bw_raw_listen *listen = raw;
	struct bw_engine_conf *engine = &services->conf->view.engine;
	struct bw_engine_service added = { 0 };
	char path[PATH_BYTES];
	uint16_t port;
	int error;

	snprintf(path, sizeof(path), "%s[%u]", name, index);
	if (listen->port == NULL)
		return bw_control__fail(services->conf, path, "no port; give port: 1 to 65535");
	snprintf(path, sizeof(path), "%s[%u].port", name, index);
	error = bw_control__port_parse(services->conf, path, listen->port, &port);
	if (error != 0)
		return error;
	snprintf(path, sizeof(path), "%s[%u]", name, index);
	error = service_addrs_apply(services->conf, path, listen, &added);
	if (error != 0)
		return error;
	snprintf(path, sizeof(path), "%s[%u].port", name, index);
	/* All services are on TCP; where one has datagram() too, UDP follows it. So a port is one service's. */
	for (unsigned i = 0; i < engine->service_count; i++)
		if (engine->services[i].port == port && share_an_addr(engine, &engine->services[i], &added))
			return overlap(services, path, port, &services->origins[i]);
	if (engine->service_count == BW_SERVICES_MAX)
		return bw_control__fail(
			services->conf, path, "more than %u services; give fewer", BW_SERVICES_MAX);
	*slot = engine->service_count++;
	services->origins[*slot] = (struct service_origin){ name, index };
	added.service = service;
	added.port = port;
	engine->services[*slot] = added;
	snprintf(path, sizeof(path), "%s[%u].", name, index);
	error = bw_control__keys_apply(
		services->conf, path, keys, BW_ARRAY_LEN(http_service_keys), raw, &engine->services[*slot]);
	if (error != 0)
		return error;
	return congestion_control_check(services->conf, path, engine->services[*slot].congestion_control);
}

/** A directory that can be listed and entered, now: the service looks again, and at every file. */
static int root_check(const struct bw_conf *conf, const char *path, const char *root)
{
	int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return bw_control__fail(conf, path,
			"document root %.200s: %s; give a directory that can be read", root,
			errno == ENOENT ? "not there" : strerror(errno));
	close(fd);
	return 0;
}

/**
 * What bears a file's name now must not be a directory; whether it is there and can be read is seen at the start.
 *
 * @entry  what the key is in
 * @name   NULL: not given
 * @other  what may stand in the place of a path
 */
static int file_check(
	const struct bw_conf *conf, const char *entry, const char *key, const char *name, const char *other)
{
	struct stat status;
	char path[PATH_BYTES];

	snprintf(path, sizeof(path), "%.80s.%s", entry, key);
	if (name != NULL && name[0] == '\0')
		return bw_control__fail(conf, path, "is empty; give a path%s, or leave the key out", other);
	if (name != NULL && stat(name, &status) == 0 && S_ISDIR(status.st_mode))
		return bw_control__fail(conf, path, "%.200s is a directory; give a file", name);
	return 0;
}

static int constant_apply(struct bw_conf *conf, const char *entry, struct bw_raw_constant *raw,
	struct bw_http_constant *constant)
{
	char path[PATH_BYTES], prefix[PATH_BYTES + 1]; /* the entry and a dot */
	int error;

	snprintf(prefix, sizeof(prefix), "%s.", entry);
	*constant = (struct bw_http_constant){ .content_type = "text/plain; charset=utf-8", .status = 200 };
	error = bw_control__keys_apply(
		conf, prefix, constant_keys, BW_ARRAY_LEN(constant_keys), raw, constant);
	if (error != 0)
		return error;
	if (constant->path == NULL || constant->body == NULL)
		return bw_control__fail(conf, entry, "a constant needs path and body; give both");
	if (constant->path[0] != '/') {
		snprintf(path, sizeof(path), "%.100s.path", entry);
		return bw_control__fail(conf, path,
			"'%.60s' does not begin with /; give a path such as /health", constant->path);
	}
	if (constant->content_type[0] == '\0') {
		snprintf(path, sizeof(path), "%.100s.type", entry);
		return bw_control__fail(
			conf, path, "is empty; give one such as text/plain, or leave the key out");
	}
	/* They would end the header, or begin another (RFC 9110 section 5.5). */
	for (const char *c = constant->content_type; *c != '\0'; c++) {
		if ((unsigned char)*c >= ' ' && *c != 0x7f)
			continue;
		snprintf(path, sizeof(path), "%.100s.type", entry);
		return bw_control__fail(conf, path, "has a control character; give one such as text/plain");
	}
	constant->body_bytes = strlen(constant->body);
	return 0;
}

static int constants_apply(struct bw_conf *conf, const char *entry, struct bw_raw_constant *raw,
	unsigned count, struct bw_http_site *site)
{
	struct bw_http_constant *constants = conf_alloc(conf, count, sizeof(*constants));

	if (constants == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < count; i++) {
		char path[PATH_BYTES];
		int error;

		snprintf(path, sizeof(path), "%.80s.constants[%u]", entry, i);
		error = constant_apply(conf, path, &raw[i], &constants[i]);
		if (error != 0)
			return error;
		for (unsigned j = 0; j < i; j++)
			if (strcmp(constants[j].path, constants[i].path) == 0)
				return bw_control__fail(conf, path,
					"%.60s is there already; give every path once", constants[i].path);
	}
	site->constants = constants;
	site->constant_count = count;
	return 0;
}

static const struct bw_http_handler *const handlers[] = { &bw_http_health, &bw_http_echo };

static int handler_apply(const struct bw_conf *conf, const char *entry, const char *name,
	const struct bw_http_handler **handler)
{
	const char *names[BW_ARRAY_LEN(handlers)], *nearest;
	char path[PATH_BYTES];

	if (name == NULL)
		return bw_control__fail(
			conf, entry, "a route needs a handler; give one such as handler: echo");
	for (unsigned i = 0; i < BW_ARRAY_LEN(handlers); i++) {
		names[i] = handlers[i]->name;
		if (strcmp(name, names[i]) == 0)
			*handler = handlers[i];
	}
	if (*handler != NULL)
		return 0;
	snprintf(path, sizeof(path), "%.100s.handler", entry);
	nearest = bw_control__nearest(name, names, BW_ARRAY_LEN(names));
	if (nearest != NULL)
		return bw_control__fail(conf, path, "'%.60s' is no handler; did you mean %s?", name, nearest);
	return bw_control__fail(conf, path, "'%.60s' is no handler; give health or echo", name);
}

static int methods_apply(const struct bw_conf *conf, const char *entry, const struct bw_raw_handler *raw,
	struct bw_http_route *route)
{
	static const char *const names[] = {
		[BW_HTTP_GET] = "GET",
		[BW_HTTP_HEAD] = "HEAD",
		[BW_HTTP_POST] = "POST",
		[BW_HTTP_PUT] = "PUT",
		[BW_HTTP_DELETE] = "DELETE",
		[BW_HTTP_PATCH] = "PATCH",
	};

	for (unsigned i = 0; i < raw->methods_count; i++) {
		uint16_t bit = 0;
		char path[PATH_BYTES];

		for (unsigned j = 0; j < BW_ARRAY_LEN(names); j++)
			if (names[j] != NULL && strcmp(raw->methods[i], names[j]) == 0)
				bit = (uint16_t)(1u << j);
		snprintf(path, sizeof(path), "%.100s.methods[%u]", entry, i);
		if (bit == 0)
			return bw_control__fail(conf, path,
				"'%.60s' is no method of a route; give GET, HEAD, POST, PUT, DELETE or PATCH",
				raw->methods[i]);
		route->methods |= bit;
	}
	return 0;
}

static int http_route_apply(
	struct bw_conf *conf, const char *entry, struct bw_raw_handler *raw, struct bw_http_route *route)
{
	char path[PATH_BYTES];
	int error;

	snprintf(path, sizeof(path), "%.100s.", entry);
	error = bw_control__keys_apply(conf, path, route_keys, BW_ARRAY_LEN(route_keys), raw, route);
	if (error == 0)
		error = handler_apply(conf, entry, raw->handler, &route->handler);
	if (error == 0)
		error = methods_apply(conf, entry, raw, route);
	if (error != 0)
		return error;
	if ((raw->path == NULL) == (raw->prefix == NULL))
		return bw_control__fail(
			conf, entry, "a route needs a path, or a prefix of paths; give one of the two");
	route->is_prefix = raw->prefix != NULL;
	route->path = route->is_prefix ? raw->prefix : raw->path;
	if (route->path[0] == '/')
		return 0;
	snprintf(path, sizeof(path), "%.100s.%s", entry, route->is_prefix ? "prefix" : "path");
	return bw_control__fail(
		conf, path, "'%.60s' does not begin with /; give a path such as /api/", route->path);
}

static int http_routes_apply(struct bw_conf *conf, const char *entry, struct bw_raw_handler *raw,
	unsigned count, struct bw_http_site *site)
{
	struct bw_http_route *routes = conf_alloc(conf, count, sizeof(*routes));

	if (routes == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < count; i++) {
		char path[PATH_BYTES];
		int error;

		snprintf(path, sizeof(path), "%.80s.routes[%u]", entry, i);
		error = http_route_apply(conf, path, &raw[i], &routes[i]);
		if (error != 0)
			return error;
	}
	site->routes = routes;
	site->route_count = count;
	return 0;
}

static int headers_apply(struct bw_conf *conf, const char *entry, struct bw_raw_header *raw, unsigned count,
	struct bw_http_site *site)
{
	struct bw_http_header *headers = conf_alloc(conf, count, sizeof(*headers));
	char path[PATH_BYTES], prefix[PATH_BYTES + 1]; /* the entry and a dot */
	size_t bytes = 0;

	if (headers == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < count; i++) {
		const char *fault;
		int error;

		snprintf(path, sizeof(path), "%.80s.headers[%u]", entry, i);
		snprintf(prefix, sizeof(prefix), "%.80s.headers[%u].", entry, i);
		error = bw_control__keys_apply(
			conf, prefix, header_keys, BW_ARRAY_LEN(header_keys), &raw[i], &headers[i]);
		if (error != 0)
			return error;
		fault = bw_http_header_fault(&headers[i]);
		if (fault != NULL)
			return bw_control__fail(conf, path, "%s", fault);
		bytes += strlen(headers[i].name) + strlen(headers[i].value) + strlen(": \r\n");
		if (bytes > BW_HTTP_HEADERS_BYTES_MAX)
			return bw_control__fail(conf, path,
				"with this one the headers are more than %u bytes; give fewer or shorter ones",
				BW_HTTP_HEADERS_BYTES_MAX);
	}
	site->headers = headers;
	site->header_count = count;
	return 0;
}

static int pages_apply(struct bw_conf *conf, const char *entry, struct bw_raw_error_page *raw, unsigned count,
	struct bw_http_site *site)
{
	struct bw_http_page *pages = conf_alloc(conf, count, sizeof(*pages));

	if (pages == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < count; i++) {
		char path[PATH_BYTES], prefix[PATH_BYTES + 1]; /* the entry and a dot */
		int error;

		snprintf(path, sizeof(path), "%.80s.error_pages[%u]", entry, i);
		snprintf(prefix, sizeof(prefix), "%.80s.error_pages[%u].", entry, i);
		error = bw_control__keys_apply(
			conf, prefix, page_keys, BW_ARRAY_LEN(page_keys), &raw[i], &pages[i]);
		if (error != 0)
			return error;
		if (raw[i].status == NULL || pages[i].path == NULL)
			return bw_control__fail(conf, path, "an error page needs status and path; give both");
		if (pages[i].status == 416)
			return bw_control__fail(conf, path,
				"416 tells the size of what was asked for, and has no page; remove this one");
		if (pages[i].path[0] != '/')
			return bw_control__fail(conf, path,
				"'%.60s' does not begin with /; give a path below the root, such as /404.html",
				pages[i].path);
		if (site->root == NULL)
			return bw_control__fail(conf, path,
				"an error page is a file below the root, and there is none; give a root");
		for (unsigned j = 0; j < i; j++)
			if (pages[j].status == pages[i].status)
				return bw_control__fail(conf, path,
					"status %u has a page already; give every status once",
					pages[i].status);
	}
	site->pages = pages;
	site->page_count = count;
	return 0;
}

static int site_apply(
	struct bw_conf *conf, const char *entry, struct bw_raw_site *raw, struct bw_http_site *site)
{
	char path[PATH_BYTES];
	int error;

	snprintf(path, sizeof(path), "%.100s.", entry);
	error = bw_control__keys_apply(conf, path, site_keys, BW_ARRAY_LEN(site_keys), raw, site);
	if (error == 0 && site->root != NULL) {
		snprintf(path, sizeof(path), "%.100s.root", entry);
		error = root_check(conf, path, site->root);
	}
	if (error == 0)
		error = constants_apply(conf, entry, raw->constants, raw->constants_count, site);
	if (error == 0)
		error = http_routes_apply(conf, entry, raw->routes, raw->routes_count, site);
	if (error == 0)
		error = headers_apply(conf, entry, raw->headers, raw->headers_count, site);
	if (error == 0)
		error = pages_apply(conf, entry, raw->error_pages, raw->error_pages_count, site);
	return error;
}

static int hosts_apply(
	struct bw_conf *conf, const char *entry, const struct bw_raw_http *raw, struct bw_http_conf *http)
{
	struct bw_http_site *sites = conf_alloc(conf, raw->hosts_count, sizeof(*sites));

	if (sites == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < raw->hosts_count; i++) {
		struct bw_raw_host *host = &raw->hosts[i];
		struct bw_http_site *site = &sites[i];
		char path[PATH_BYTES / 2];
		int error;

		snprintf(path, sizeof(path), "%s.hosts[%u]", entry, i);
		if (host->names_count == 0)
			return bw_control__fail(
				conf, path, "a host needs names; give at least one, such as www.example.org");
		bw_http_site_init(site);
		site->names = (const char *const *)host->names;
		site->name_count = host->names_count;
		error = site_apply(conf, path, &host->site, site);
		if (error != 0)
			return error;
	}
	http->hosts = sites;
	http->host_count = raw->hosts_count;
	return 0;
}

static int http_apply(struct services *services)
{
	struct bw_conf *conf = services->conf;

	for (unsigned i = 0; i < conf->raw->http_count; i++) {
		struct bw_raw_http *raw = &conf->raw->http[i];
		char path[PATH_BYTES], entry[PATH_BYTES / 4];
		struct bw_http_conf *http;
		unsigned slot;
		int error = service_add(services, "http", i, raw, http_service_keys, &bw_http_service, &slot);

		if (error != 0)
			return error;
		http = &conf->http[slot];
		bw_http_conf_init(http);
		snprintf(entry, sizeof(entry), "http[%u]", i);
		snprintf(path, sizeof(path), "%s.", entry);
		error = bw_control__keys_apply(conf, path, http_keys, BW_ARRAY_LEN(http_keys), raw, http);
		if (error != 0)
			return error;
		if (http->request_line_bytes_max > http->header_bytes_max) {
			snprintf(path, sizeof(path), "%s.request_line", entry);
			if (bw_control__origin(conf, path) == NULL)
				snprintf(path, sizeof(path), "%s.header_bytes", entry);
			return bw_control__fail(conf, path,
				"request_line (%u) is part of header_bytes (%u) and cannot be more; give less of it",
				http->request_line_bytes_max, http->header_bytes_max);
		}
		error = file_check(conf, entry, "access_log", http->access_log, ", or - for standard output");
		if (error == 0)
			error = file_check(conf, entry, "mime_types", http->mime_types, "");
		if (error == 0)
			error = site_apply(conf, entry, &raw->site, &http->site);
		if (error == 0)
			error = hosts_apply(conf, entry, raw, http);
		if (error == 0 && bw_http_conf_check(http) != 0)
			error = -EINVAL; /* and it is said */
		if (error != 0)
			return error;
		if (http->site.root == NULL && http->site.constant_count == 0 && http->host_count == 0) {
			http->site.constants = &bw_control__welcome;
			http->site.constant_count = 1;
		}
		conf->view.http[slot] = http;
		conf->view.engine.services[slot].conf = http;
	}
	return 0;
}

/** Every worker has a share of the memory, with room for commands that are arriving. */
static int resp_memory_check(const struct bw_conf *conf, unsigned index, const struct bw_resp_conf *resp)
{
	unsigned workers = conf->view.engine.worker_count;
	uint64_t least = bw_resp_memory_bytes_least(resp, workers), most = bw_resp_memory_bytes_most(workers);
	char path[PATH_BYTES];

	if (resp->memory_bytes_max >= least && resp->memory_bytes_max <= most)
		return 0;
	snprintf(path, sizeof(path), "resp[%u].memory", index);
	if (bw_control__origin(conf, path) == NULL)
		snprintf(path, sizeof(path), "resp[%u].bulk", index);
	if (bw_control__origin(conf, path) == NULL)
		snprintf(path, sizeof(path), "workers");
	return bw_control__fail(conf, path,
		"resp on %u worker%s needs %lluMiB to %lluMiB of memory; give that, or another bulk or number of workers",
		workers, workers == 1 ? "" : "s", (unsigned long long)(least + (1 << 20) - 1) >> 20,
		(unsigned long long)most >> 20);
}

static int resp_apply(struct services *services)
{
	struct bw_conf *conf = services->conf;

	for (unsigned i = 0; i < conf->raw->resp_count; i++) {
		struct bw_raw_resp *raw = &conf->raw->resp[i];
		char prefix[PATH_BYTES], entry[PATH_BYTES / 4];
		unsigned slot;
		int error = service_add(services, "resp", i, raw, resp_service_keys, &bw_resp_service, &slot);

		if (error != 0)
			return error;
		bw_resp_conf_init(&conf->resp[slot]);
		snprintf(entry, sizeof(entry), "resp[%u]", i);
		snprintf(prefix, sizeof(prefix), "%s.", entry);
		error = bw_control__keys_apply(
			conf, prefix, resp_keys, BW_ARRAY_LEN(resp_keys), raw, &conf->resp[slot]);
		if (error == 0)
			error = file_check(conf, entry, "password_file", conf->resp[slot].password_file, "");
		if (error == 0)
			error = resp_memory_check(conf, i, &conf->resp[slot]);
		if (error != 0)
			return error;
		conf->view.resp[slot] = &conf->resp[slot];
		conf->view.engine.services[slot].conf = &conf->resp[slot];
	}
	return 0;
}

static int plain_apply(struct services *services, const char *name, struct bw_raw_plain *raw, unsigned count,
	const struct bw_service *service)
{
	for (unsigned i = 0; i < count; i++) {
		unsigned slot;
		int error = service_add(services, name, i, &raw[i], plain_service_keys, service, &slot);

		if (error != 0)
			return error;
	}
	return 0;
}

/** What only connects has no port, and nothing is served beside it. */
static int client_apply(struct bw_conf *conf)
{
	const struct bw_raw *raw = conf->raw;
	struct bw_engine_conf *engine = &conf->view.engine;
	const char *path = raw->http_count > 0      ? "http[0]"
			   : raw->resp_count > 0    ? "resp[0]"
			   : raw->echo_count > 0    ? "echo[0]"
			   : raw->discard_count > 0 ? "discard[0]"
						    : NULL;

	if (path != NULL)
		return bw_control__fail(conf, path, "load serves nothing; leave services out");
	if (conf->client.service != NULL)
		engine->services[engine->service_count++] = conf->client;
	if (bw_control__origin(conf, "tcp.connections") == NULL)
		engine->tcp.connections_max =
			(uint32_t)(conf->client_connections / engine->worker_count + CLIENT_SPARE);
	return 0;
}

static int services_apply(struct bw_conf *conf)
{
	struct services services = { .conf = conf };
	const struct bw_raw *raw = conf->raw;
	int error;

	if (conf->client.service != NULL || conf->view.engine.flood != NULL)
		return client_apply(conf);
	error = http_apply(&services);

	if (error == 0)
		error = resp_apply(&services);
	if (error == 0)
		error = plain_apply(&services, "echo", raw->echo, raw->echo_count, &bw_echo_service);
	if (error == 0)
		error = plain_apply(
			&services, "discard", raw->discard, raw->discard_count, &bw_discard_service);
	if (error == 0 && conf->view.engine.service_count == 0) {
		bw_error("%s: no service; give --http PORT, --resp PORT, --echo PORT or --discard PORT",
			conf->file != NULL ? conf->file : "serve");
		error = -EINVAL;
	}
	return error;
}

/* ---- all of it -------------------------------------------------------------------------------------------------- */

static int tcp_apply(struct bw_conf *conf)
{
	struct bw_tcp_conf *tcp = &conf->view.engine.tcp;
	bool has_reassembly = conf->raw->tcp.reassembly != NULL;
	int error =
		bw_control__keys_apply(conf, "tcp.", tcp_keys, BW_ARRAY_LEN(tcp_keys), &conf->raw->tcp, tcp);

	if (error == 0)
		error = congestion_control_check(conf, "tcp.", tcp->congestion_control);
	if (error == 0 && tcp->port_first > tcp->port_last)
		error = bw_control__fail(conf, "tcp.port_first", "%u is behind tcp.port_last, %u; give less",
			tcp->port_first, tcp->port_last);
	if (error != 0 || has_reassembly || tcp->reassembly_bytes_max == tcp->recv_bytes_max)
		return error;
	/* Unset, it is the receive window, whatever that was set to. */
	free(conf->raw->tcp.reassembly);
	conf->raw->tcp.reassembly = strdup(conf->raw->tcp.receive_buffer);
	tcp->reassembly_bytes_max = tcp->recv_bytes_max;
	return conf->raw->tcp.reassembly != NULL ? 0 : -ENOMEM;
}

static int finish(struct bw_conf *conf)
{
	static int (*const steps[])(struct bw_conf * conf) = {
		device_apply,
		mac_apply,
		tcp_apply,
		bw_control__cpus_apply,
		addrs_apply,
		exception_apply,
		host_addrs_apply,
		gateways_apply,
		routes_apply,
		steer_apply,
		services_apply,
	};
	struct bw_conf_view *view = &conf->view;
	int error = bw_control__keys_apply(conf, "", top_keys, BW_ARRAY_LEN(top_keys), conf->raw, view);

	if (error == 0)
		error = bw_control__keys_apply(conf, "network.", network_keys, BW_ARRAY_LEN(network_keys),
			&conf->raw->network, &view->engine);
	if (error == 0)
		error = bw_control__keys_apply(
			conf, "steer.", steer_keys, BW_ARRAY_LEN(steer_keys), &conf->raw->steer, view);
	if (error == 0)
		error = bw_control__keys_apply(conf, "exception.", exception_keys,
			BW_ARRAY_LEN(exception_keys), &conf->raw->exception, &view->engine);
	for (unsigned i = 0; i < BW_ARRAY_LEN(steps) && error == 0; i++)
		error = steps[i](conf);
	view->eal_args = conf->raw->eal;
	view->eal_arg_count = conf->raw->eal_count;
	return error;
}

int bw_conf_finish(struct bw_conf *conf)
{
	return or_out_of_memory(finish(conf));
}

/** What every command that only connects has in common. */
static void client_defaults(struct bw_conf *conf, const struct bw_cidr *range)
{
	conf->view.engine.devices[0].range = *range;
	conf->view.engine.poll = BW_POLL_BUSY;
	conf->view.drain_timeout_ns = BW_NS_PER_SEC;
	conf->view.stats_interval_s = 0;
}

void bw_conf_set_client(struct bw_conf *conf, const struct bw_service *service, void *service_conf,
	uint64_t connections, const struct bw_cidr *range)
{
	conf->client = (struct bw_engine_service){ .service = service, .conf = service_conf };
	conf->client_connections = connections;
	client_defaults(conf, range);
}

void bw_conf_set_flood(struct bw_conf *conf, const struct bw_flood_conf *flood, const struct bw_cidr *range)
{
	conf->view.engine.flood = flood;
	client_defaults(conf, range);
}

int bw_conf_print(const struct bw_conf *conf, FILE *out)
{
	return bw_control__file_print(conf->raw, out);
}

const struct bw_conf_view *bw_conf_view(const struct bw_conf *conf)
{
	return &conf->view;
}
