/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * The devices: who we are on each one's link. The first one's keys are at the top of the file, a further one's in an
 * entry of `more_devices`; behind bw_control__devices_read() there is no difference but for the paths of complaints.
 *
 * What a packet is answered by is the device that has the address that it was sent to, with that device's routes. So an
 * address is one device's, a network is on one device's link, and each device may have a default gateway.
 */
#include <errno.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <wire/packet.h>

#include "internal.h"

/* RFC 2544 section 20 sets 198.18.0.0/15 aside for tests of devices, so it meets no network that is in use. */
#define TAP_ADDR4 "198.18.77.2/24"
#define TAP_ADDR6 "fd77:ba5e::2/64"

/* Behind those that Linux takes for what it opens (net.ipv4.ip_local_port_range, 32768 to 60999). */
#define SHARED_PORT_FIRST      61000u
#define SHARED_PORT_FIRST_TEXT "61000"

#define DEVICE_ROW(...)      KEY_ROW(struct bw_raw_device, struct bw_conf_device, __VA_ARGS__)
#define LINK_ROW(...)        KEY_ROW(struct bw_raw_device, struct bw_engine_device, __VA_ARGS__)
#define MORE_DEVICE_ROW(...) KEY_ROW(struct bw_raw_more_device, struct bw_engine_device, __VA_ARGS__)

static const struct bw_key device_keys[] = { DEVICE_KEYS(DEVICE_ROW) };
static const struct bw_key link_keys[] = { LINK_KEYS(LINK_ROW) };
static const struct bw_key more_device_keys[] = { MORE_DEVICE_KEYS(MORE_DEVICE_ROW) };

/** One of them: what was said, and what it comes to. */
struct device {
	struct bw_conf *conf;
	unsigned index;
	struct bw_raw_device *raw;
	struct bw_conf_device *view;
	struct bw_engine_device *engine;
};

static struct device device_at(struct bw_conf *conf, unsigned index)
{
	return (struct device){
		.conf = conf,
		.index = index,
		.raw = index == 0 ? &conf->raw->about : &conf->raw->more_devices[index - 1].about,
		.view = &conf->view.devices[index],
		.engine = &conf->view.engine.devices[index],
	};
}

const char *bw_control__device_path(char path[PATH_BYTES], unsigned device, const char *format, ...)
{
	size_t used = 0;
	va_list args;

	if (device > 0)
		used = (size_t)snprintf(path, PATH_BYTES, "more_devices[%u].", device - 1);
	va_start(args, format);
	vsnprintf(path + used, PATH_BYTES - used, format, args);
	va_end(args);
	return path;
}

/** Refuse a key of the device. */
#define FAIL(d, key, ...)                                                                                    \
	bw_control__fail((d)->conf, bw_control__device_path((char[PATH_BYTES]){ 0 }, (d)->index, "%s", key), \
		__VA_ARGS__)

/* ---- which devices -------------------------------------------------------------------------------------- */

/** The word before the colon; what follows it is for the nic to judge, which can look at the machine. */
static int kind_check(const struct device *d)
{
	static const char *const kinds[] = { "tap", "packet", "xdp", "memif", "vhost", "virtio", "ring",
		"pcap", "pci", "bond", "auto" };
	const char *spec = d->view->dev, *nearest;
	char kind[32];

	snprintf(kind, sizeof(kind), "%.*s", (int)strcspn(spec, ":"), spec);
	for (unsigned i = 0; i < BW_ARRAY_LEN(kinds); i++)
		if (strcmp(kind, kinds[i]) == 0)
			return 0;
	if (strncmp(spec, "net_", 4) == 0)
		return 0;
	nearest = bw_control__nearest(kind, kinds, BW_ARRAY_LEN(kinds));
	if (nearest != NULL)
		return FAIL(d, "device", "'%.60s' is no kind of device; did you mean %s?", spec, nearest);
	return FAIL(d, "device",
		"'%.60s' is no kind of device; give tap, packet:IFACE, xdp:IFACE, memif:SOCKET, vhost:SOCKET, "
		"virtio:SOCKET, ring, pcap:IN,OUT, pci:ADDR, bond:MODE,DEV,DEV, auto or net_... devargs",
		spec);
}

static bool device_is(const struct device *d, const char *kind)
{
	size_t len = strlen(kind);

	return strncmp(d->view->dev, kind, len) == 0 &&
	       (d->view->dev[len] == '\0' || d->view->dev[len] == ':');
}

/** Of raw devargs. */
static bool is_driver(const struct device *d, const char *name)
{
	return strncmp(d->view->dev, name, strlen(name)) == 0;
}

/** On an interface that the kernel has as well? */
static bool is_on_interface(const struct device *d)
{
	return device_is(d, "packet") || device_is(d, "xdp");
}

static bool same_interface(const struct device *a, const struct device *b)
{
	const char *of_a = strchr(a->view->dev, ':'), *of_b = strchr(b->view->dev, ':');

	if (!is_on_interface(a) || !is_on_interface(b) || of_a == NULL || of_b == NULL)
		return false;
	return strcspn(of_a, ",") == strcspn(of_b, ",") && strncmp(of_a, of_b, strcspn(of_a, ",")) == 0;
}

/** What would be one device twice. Specs that lead to one in other ways are found out when it starts. */
static int twice_check(const struct device *d)
{
	const char *spec = d->view->dev;

	for (unsigned i = 0; i < d->index; i++) {
		const struct device other = device_at(d->conf, i);

		if (strcmp(spec, "auto") == 0 && device_is(&other, "auto"))
			return FAIL(
				d, "device", "auto takes one device, and is there already; name the others");
		if (strcmp(spec, "tap") == 0 && device_is(&other, "tap") && other.view->dev[3] == '\0')
			return FAIL(d, "device", "tap is there already; give another as tap:NAME");
		if (strcmp(spec, other.view->dev) == 0)
			return FAIL(d, "device", "%.60s is there already; give every device once", spec);
		if (same_interface(d, &other))
			return FAIL(d, "device", "%.60s and %.60s are one interface; give every device once",
				spec, other.view->dev);
	}
	return 0;
}

static int mac_apply(const struct device *d)
{
	struct bw_mac *mac = &d->conf->macs[d->index];
	const char *text = d->raw->mac;

	if (text == NULL)
		return 0;
	if (bw_mac_parse(text, mac) != 0)
		return FAIL(
			d, "mac", "'%.60s' is no Ethernet address; give one such as 02:00:00:00:00:01", text);
	if ((mac->b[0] & 1) != 0 || memcmp(mac, &(struct bw_mac){ 0 }, sizeof(*mac)) == 0)
		return FAIL(d, "mac",
			"%s is a group's or nobody's address; give one whose first byte is even, such as "
			"02:00:00:00:00:01",
			text);
	/* Both would make the same IPv6 link-local address of it (RFC 4291 appendix A), and an address is one device's. */
	for (unsigned i = 0; i < d->index; i++)
		if (d->conf->view.devices[i].mac != NULL &&
			memcmp(mac, d->conf->view.devices[i].mac, sizeof(*mac)) == 0)
			return FAIL(d, "mac", "%s is that of %.60s; give each device its own", text,
				d->conf->view.devices[i].dev);
	d->view->mac = mac;
	return 0;
}

static int device_apply(const struct device *d)
{
	int error;

	if (d->view->dev == NULL && d->index > 0) {
		char path[PATH_BYTES];

		snprintf(path, sizeof(path), "more_devices[%u]", d->index - 1);
		return bw_control__fail(d->conf, path, "which device? give device: packet:eth1 or such");
	}
	if (d->view->dev == NULL) {
		d->raw->device = strdup("tap");
		if (d->raw->device == NULL)
			return -ENOMEM;
		d->view->dev = d->raw->device;
	}
	error = kind_check(d);
	if (error == 0)
		error = twice_check(d);
	return error != 0 ? error : mac_apply(d);
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

static int addr_check(const struct device *d, const char *key, const struct bw_cidr *cidr, const char *text)
{
	char prefix_text[BW_CIDR_STRLEN];
	struct bw_cidr prefix = { prefix_first(cidr), cidr->prefix_len };

	if (bw_ip_is_unspecified(&cidr->ip) || bw_ip_is_multicast(&cidr->ip) || bw_ip_is_loopback(&cidr->ip))
		return FAIL(d, key, "%s is no address that a host on a network can have; give another", text);
	if (is_prefix_itself(cidr))
		return FAIL(
			d, key, "%s is the network itself; give an address of it, such as the next", text);
	if (bw_cidr_is_broadcast(cidr, &cidr->ip))
		return FAIL(d, key, "%s is the broadcast address of %s; give another", text,
			bw_cidr_format(&prefix, prefix_text));
	if (!bw_ip_is_v4(&cidr->ip) && d->view->mtu != 0 && d->view->mtu < BW_IP6_MTU_MIN)
		return FAIL(d, "mtu",
			"%u is less than the %u that IPv6 needs; give more, or no IPv6 address (%s)",
			d->view->mtu, BW_IP6_MTU_MIN, text);
	return 0;
}

/** Two links that both have it: a link-local prefix (RFC 4291 section 2.5.6) is every link's own. */
static bool is_ambiguous(const struct bw_cidr *a, const struct bw_cidr *b)
{
	if (!bw_ip_is_v4(&a->ip) && bw_ip_is_link_local(&a->ip) && bw_ip_is_link_local(&b->ip))
		return false;
	return bw_cidr_contains(a, &b->ip) || bw_cidr_contains(b, &a->ip);
}

/** Of all devices before this one: another's address, or an address in another's network, would lead two ways. */
static int others_check(const struct device *d, const char *key, const struct bw_cidr *cidr)
{
	char text[BW_CIDR_STRLEN], theirs[BW_CIDR_STRLEN];

	for (unsigned i = 0; i < d->index; i++) {
		const struct device other = device_at(d->conf, i);

		for (unsigned j = 0; j < other.engine->addr_count; j++) {
			const struct bw_cidr *addr = &other.engine->addrs[j];

			if (bw_ip_eq(&addr->ip, &cidr->ip))
				return FAIL(d, key, "%s is %.60s's already; give every address to one device",
					bw_cidr_format(cidr, text), other.view->dev);
			if (is_ambiguous(addr, cidr))
				return FAIL(d, key,
					"%s overlaps %s of %.60s, and a neighbour would be on either link; give each "
					"device a network of its own",
					bw_cidr_format(cidr, text), bw_cidr_format(addr, theirs),
					other.view->dev);
		}
	}
	return 0;
}

/** The kernel's addresses. What is opened from these has ports that the kernel does not take for itself. */
static int share_apply(const struct device *d)
{
	struct bw_conf *conf = d->conf;
	struct bw_engine_conf *engine = &conf->view.engine;
	const bool sends_from_others = engine->flood != NULL || d->engine->range.prefix_len > 0;

	if (sends_from_others && d->engine->exception_tap != NULL)
		return FAIL(d, d->index == 0 ? "exception.tap" : "exception",
			"with it the addresses are the kernel's as well, and there are none of our own to send from; leave it out");
	if (sends_from_others)
		return FAIL(d, "device",
			"without an address of its own, %.60s has no others to send from; give --addr CIDR, one that nobody on "
			"that network has",
			d->view->dev);
	d->engine->shares_addresses = true;
	if (bw_control__origin(conf, "tcp.port_first") != NULL ||
		bw_control__origin(conf, "tcp.port_last") != NULL)
		return 0;
	engine->tcp.port_first = SHARED_PORT_FIRST;
	free(conf->raw->tcp.port_first);
	conf->raw->tcp.port_first = strdup(SHARED_PORT_FIRST_TEXT);
	return conf->raw->tcp.port_first != NULL ? 0 : -ENOMEM;
}

/** What is in force of a tap's own addresses, for who reads the configuration. */
static int defaults_show(const struct device *d)
{
	struct bw_raw_device *raw = d->raw;

	raw->addresses = calloc(d->engine->addr_count, sizeof(*raw->addresses));
	if (raw->addresses == NULL)
		return -ENOMEM;
	for (; raw->addresses_count < d->engine->addr_count; raw->addresses_count++) {
		char text[BW_CIDR_STRLEN];

		bw_cidr_format(&d->engine->addrs[raw->addresses_count], text);
		raw->addresses[raw->addresses_count] = strdup(text);
		if (raw->addresses[raw->addresses_count] == NULL)
			return -ENOMEM;
	}
	return 0;
}

/** Those that a tap has unless told, whoever said so. */
static bool has_tap_addr(const struct device *d)
{
	struct bw_cidr addr;

	if (bw_cidr_parse(TAP_ADDR4, &addr) != 0)
		return false;
	for (unsigned i = 0; i < d->engine->addr_count; i++)
		if (bw_ip_eq(&d->engine->addrs[i].ip, &addr.ip))
			return true;
	return false;
}

/** A tap has both ends in this machine, so any addresses will do; another device's network has its own. */
static int addrs_default(const struct device *d)
{
	static const char *const texts[] = { TAP_ADDR4, TAP_ADDR6 };
	unsigned count = d->view->mtu != 0 && d->view->mtu < BW_IP6_MTU_MIN ? 1 : 2;

	if (d->engine->exception_tap != NULL) /* those that its TAP has, or will have */
		return 0;
	if (is_on_interface(d))
		return share_apply(d);
	if (!device_is(d, "tap") && !device_is(d, "auto"))
		return FAIL(d, "device",
			"%.60s has no address for Barewire; give --addr CIDR, one that nobody on that network has",
			d->view->dev);
	for (unsigned i = 0; i < d->index; i++) {
		const struct device other = device_at(d->conf, i);

		if (has_tap_addr(&other))
			return FAIL(d, "device",
				"%.60s has no address, and those of a tap are %.60s's; give --addr CIDR, of another "
				"network",
				d->view->dev, other.view->dev);
	}
	for (unsigned i = 0; i < count; i++) {
		int error;

		if (bw_cidr_parse(texts[i], &d->engine->addrs[i]) != 0)
			return -EINVAL;
		error = others_check(d, "device", &d->engine->addrs[i]);
		if (error != 0)
			return error;
	}
	d->engine->addr_count = count;
	if (!device_is(d, "auto"))
		return defaults_show(d);
	d->view->has_default_addrs = true;
	return 0;
}

static int addrs_apply(const struct device *d)
{
	if (d->engine->exception_tap != NULL &&
		d->engine->exception_tap[0] == '\0') /* as if it had not been given */
		d->engine->exception_tap = NULL;
	if (d->raw->addresses_count == 0)
		return addrs_default(d);
	for (unsigned i = 0; i < d->raw->addresses_count; i++) {
		const char *text = d->raw->addresses[i];
		struct bw_cidr *cidr = &d->engine->addrs[i];
		char key[32];
		int error;

		snprintf(key, sizeof(key), "addresses[%u]", i);
		if (bw_cidr_parse(text, cidr) != 0)
			return FAIL(d, key,
				"'%.60s' is no address with its prefix; give one such as 192.0.2.2/24 or "
				"2001:db8::2/64",
				text);
		error = addr_check(d, key, cidr, text);
		if (error != 0)
			return error;
		for (unsigned j = 0; j < i; j++)
			if (bw_ip_eq(&d->engine->addrs[j].ip, &cidr->ip))
				return FAIL(d, key, "%s is there already; give every address once", text);
		error = others_check(d, key, cidr);
		if (error != 0)
			return error;
		d->engine->addr_count = i + 1;
	}
	return 0;
}

bool bw_control__is_ours(const struct bw_conf *conf, const struct bw_ip *ip)
{
	const struct bw_engine_conf *engine = &conf->view.engine;

	for (unsigned d = 0; d < engine->device_count; d++)
		for (unsigned i = 0; i < engine->devices[d].addr_count; i++)
			if (bw_ip_eq(&engine->devices[d].addrs[i].ip, ip))
				return true;
	return false;
}

bool bw_control__has_unknown_addrs(const struct bw_conf *conf)
{
	const struct bw_engine_conf *engine = &conf->view.engine;

	for (unsigned d = 0; d < engine->device_count; d++)
		if (engine->devices[d].shares_addresses && engine->devices[d].addr_count == 0)
			return true;
	return false;
}

bool bw_control__has_steered_device(const struct bw_conf *conf)
{
	for (unsigned i = 0; i < conf->view.engine.device_count; i++) {
		const struct device d = device_at((struct bw_conf *)(uintptr_t)conf, i);

		if (device_is(&d, "xdp") || (device_is(&d, "packet") && d.engine->shares_addresses))
			return true;
	}
	return false;
}

/* ---- the kernel's end --------------------------------------------------------------------------------------- */

/**
 * A TAP beside a device that the kernel does not have. Addresses are given to it, or it has some, or will.
 * As for a device's interface, what the kernel takes beyond these characters would not survive everywhere.
 */
static int exception_apply(const struct device *d)
{
	const char *name = d->engine->exception_tap, *key = d->index == 0 ? "exception.tap" : "exception";
	size_t len;

	if (name == NULL)
		return 0;
	len = strlen(name);
	if (len >= IFNAMSIZ || strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != len)
		return FAIL(d, key, "'%.60s' is not an interface name; give 1 to 15 letters, digits, . _ -",
			name);
	if (is_on_interface(d) || is_driver(d, "net_af_"))
		return FAIL(d, key,
			"%.60s leaves the kernel its interface, and with it all that is not served; leave this out",
			d->view->dev);
	if (device_is(d, "tap") || is_driver(d, "net_tap"))
		return FAIL(d, key,
			"%.60s has the kernel at its other end; leave this out, or give a --dev that DPDK has, such as "
			"pci:ADDR",
			d->view->dev);
	if (d->engine->vlan != 0 && len + strlen(".4094") >= IFNAMSIZ)
		return FAIL(d, key,
			"%s leaves no room for the name of its VLAN's interface; give a shorter one", name);
	for (unsigned i = 0; i < d->index; i++) {
		const struct device other = device_at(d->conf, i);

		if (other.engine->exception_tap != NULL && strcmp(name, other.engine->exception_tap) == 0)
			return FAIL(d, key, "%s is the TAP of %.60s; give each device its own", name,
				other.view->dev);
	}
	return share_apply(d);
}

/** The kernel's end of a tap: in every prefix of ours, the lowest address that a host can have and we do not. */
static int host_addrs_apply(const struct device *d)
{
	struct bw_conf_device *view = d->view;

	if (!device_is(d, "tap") && !device_is(d, "auto"))
		return 0;
	for (unsigned i = 0; i < d->engine->addr_count; i++) {
		const struct bw_cidr *ours = &d->engine->addrs[i];
		struct bw_cidr host = { prefix_first(ours), ours->prefix_len };
		bool has_host = false;

		for (unsigned j = 0; j < view->host_addr_count; j++)
			has_host |= same_prefix(&view->host_addrs[j], ours);
		if (has_host)
			continue;
		if (is_prefix_itself(&host))
			ip_increment(&host.ip);
		while (bw_cidr_contains(ours, &host.ip) && bw_control__is_ours(d->conf, &host.ip))
			ip_increment(&host.ip);
		if (!bw_cidr_contains(ours, &host.ip) || bw_cidr_is_broadcast(ours, &host.ip)) {
			char key[32], text[BW_CIDR_STRLEN];

			if (device_is(d, "auto")) { /* which may take a NIC, and a NIC needs none */
				view->without_host = ours;
				continue;
			}
			snprintf(key, sizeof(key), "addresses[%u]", i);
			return FAIL(d, key,
				"%s leaves no address for the kernel's end of the tap; give a shorter prefix, such as "
				"/%u",
				bw_cidr_format(ours, text), bw_ip_is_v4(&ours->ip) ? 24u : 64u);
		}
		view->host_addrs[view->host_addr_count].ip = host.ip;
		view->host_addrs[view->host_addr_count++].prefix_len = host.prefix_len;
	}
	return 0;
}

/* ---- routes ------------------------------------------------------------------------------------------------- */

/** Parse and check a gateway: a neighbour, and not us. */
static int gateway_parse(const struct device *d, const char *key, const char *text, struct bw_ip *gateway)
{
	if (bw_ip_parse(text, gateway) != 0)
		return FAIL(d, key, "'%.60s' is no address; give one such as 192.0.2.1 or 2001:db8::1", text);
	if (d->engine->shares_addresses && d->engine->addr_count == 0)
		return FAIL(d, key,
			"without --addr the kernel's routes are used; set them there, with `ip route`, and leave this out");
	if (bw_control__is_ours(d->conf, gateway))
		return FAIL(d, key, "%s is our own address; give the router's", text);
	if (!bw_ip_is_v4(gateway) && bw_ip_is_link_local(gateway))
		return 0;
	for (unsigned i = 0; i < d->engine->addr_count; i++)
		if (bw_cidr_contains(&d->engine->addrs[i], gateway))
			return 0;
	if (d->conf->view.engine.device_count > 1)
		return FAIL(d, key,
			"%s is in no prefix of %.60s; give a gateway on its link, or an --addr near it", text,
			d->view->dev);
	return FAIL(
		d, key, "%s is in no prefix of ours; give a gateway on the link, or an --addr near it", text);
}

static int route_add(const struct device *d, const char *key, const struct bw_route *route)
{
	struct bw_engine_device *engine = d->engine;
	char text[BW_CIDR_STRLEN];

	for (unsigned i = 0; i < engine->route_count; i++)
		if (same_prefix(&engine->routes[i].prefix, &route->prefix))
			return FAIL(d, key, "there is a gateway for %s already; give one",
				bw_cidr_format(&route->prefix, text));
	if (engine->route_count == BW_ROUTES_MAX)
		return FAIL(d, key, "more than %u routes, gateways included; give fewer", BW_ROUTES_MAX);
	engine->routes[engine->route_count++] = *route;
	return 0;
}

static int gateways_apply(const struct device *d)
{
	for (unsigned i = 0; i < d->raw->gateways_count; i++) {
		struct bw_route route;
		char key[32];
		int error;

		snprintf(key, sizeof(key), "gateways[%u]", i);
		error = gateway_parse(d, key, d->raw->gateways[i], &route.gateway);
		if (error != 0)
			return error;
		if (bw_ip_is_v4(&route.gateway))
			route.prefix = (struct bw_cidr){ bw_ip_from_v4(0), 0 };
		else
			route.prefix = (struct bw_cidr){ 0 };
		error = route_add(d, key, &route);
		if (error != 0)
			return error;
	}
	return 0;
}

static int route_apply(const struct device *d, unsigned index)
{
	const struct bw_raw_route *raw = &d->raw->routes[index];
	char key[32], prefix_key[48], gateway_key[48], text[BW_CIDR_STRLEN];
	struct bw_route route;
	struct bw_ip first;
	int error;

	snprintf(key, sizeof(key), "routes[%u]", index);
	snprintf(prefix_key, sizeof(prefix_key), "%s.prefix", key);
	snprintf(gateway_key, sizeof(gateway_key), "%s.gateway", key);
	if (raw->prefix == NULL || raw->gateway == NULL)
		return FAIL(d, key, "a route needs prefix and gateway; give both");
	if (bw_cidr_parse(raw->prefix, &route.prefix) != 0)
		return FAIL(d, prefix_key, "'%.60s' is no prefix; give one such as 10.0.0.0/8", raw->prefix);
	first = prefix_first(&route.prefix);
	if (!bw_ip_eq(&first, &route.prefix.ip)) {
		struct bw_cidr prefix = { first, route.prefix.prefix_len };

		return FAIL(d, prefix_key, "%s has bits behind its prefix; give %s", raw->prefix,
			bw_cidr_format(&prefix, text));
	}
	error = gateway_parse(d, gateway_key, raw->gateway, &route.gateway);
	if (error != 0)
		return error;
	if (bw_ip_is_v4(&route.gateway) != bw_ip_is_v4(&route.prefix.ip))
		return FAIL(d, gateway_key, "%s and %s are of two families; give a gateway of the prefix's",
			raw->prefix, raw->gateway);
	return route_add(d, prefix_key, &route);
}

static int routes_apply(const struct device *d)
{
	int error = 0;

	for (unsigned i = 0; i < d->raw->routes_count && error == 0; i++)
		error = route_apply(d, i);
	return error;
}

/* ---- all of them -------------------------------------------------------------------------------------------- */

int bw_control__devices_read(struct bw_conf *conf)
{
	struct bw_raw *raw = conf->raw;

	conf->view.engine.device_count = 1 + raw->more_devices_count;
	for (unsigned i = 0; i < conf->view.engine.device_count; i++) {
		const struct device d = device_at(conf, i);
		char prefix[PATH_BYTES];
		int error;

		bw_control__device_path(prefix, i, "%s", "");
		error = bw_control__keys_apply(
			conf, prefix, device_keys, BW_ARRAY_LEN(device_keys), d.raw, d.view);
		if (error == 0)
			error = bw_control__keys_apply(
				conf, prefix, link_keys, BW_ARRAY_LEN(link_keys), d.raw, d.engine);
		if (error == 0 && i > 0)
			error = bw_control__keys_apply(conf, prefix, more_device_keys,
				BW_ARRAY_LEN(more_device_keys), &raw->more_devices[i - 1], d.engine);
		if (error != 0)
			return error;
	}
	return 0;
}

int bw_control__devices_apply(struct bw_conf *conf)
{
	static int (*const steps[])(const struct device *d) = {
		device_apply,
		addrs_apply,
		exception_apply,
		host_addrs_apply,
		gateways_apply,
		routes_apply,
	};
	int error = 0;

	for (unsigned s = 0; s < BW_ARRAY_LEN(steps); s++)
		for (unsigned i = 0; i < conf->view.engine.device_count && error == 0; i++) {
			const struct device d = device_at(conf, i);

			error = steps[s](&d);
			if (s == 0 && i == 1 && error == 0 && conf->view.engine.flood != NULL)
				error = FAIL(&d, "device", "a flood goes out by one device; leave %.60s out",
					d.view->dev);
		}
	return error;
}
