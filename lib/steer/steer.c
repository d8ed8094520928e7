/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Loading, attaching and telling what is ours. The two programs (xdp.bpf.c, skb.bpf.c) have the same maps and knobs,
 * so behind the opening there is one case.
 */
#include <errno.h>
#include <linux/if_link.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <base/assert.h>
#include <base/log.h>

#include "internal.h"
#include "layout.h"
/* gcc folds the two skeletons' equal functions into one, and then finds that it is called with the other's type. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Warray-bounds"
#include "skb.skel.h"
#include "xdp.skel.h"
#pragma GCC diagnostic pop

/* Linux 6.6's; Debian's libbpf 1.1 hands on what it does not know. */
#define TCX_INGRESS ((enum bpf_attach_type)46)

#define LIMIT_BURST_MIN 16
#define CPUS_MAX        1024

struct bw_steer {
	struct xdp_bpf *xdp; /* one of these two */
	struct skb_bpf *skb;
	struct bpf_object *object;
	volatile struct steer_knobs *knobs; /* the programs' own memory */
	int link_fd, socket_filter_fd;
	bool is_native;
	int addresses_fd, ports_fd, rules_fd, counts_fd;
	unsigned cpus;
	struct bw_steer_limits limits;
	char spec[256];
};

const char *const bw_steer_counter_name[BW_STEER_COUNTERS] = {
	[BW_STEER_PASSED] = "steer.passed",
	[BW_STEER_TAKEN] = "steer.taken",
	[BW_STEER_BLOCKED] = "steer.blocked",
	[BW_STEER_SYN_RATE] = "steer.syn_rate",
	[BW_STEER_PACKET_RATE] = "steer.packet_rate",
	[BW_STEER_NO_SOCKET] = "steer.no_socket",
};
const char *const bw_steer_counter_help[BW_STEER_COUNTERS] = {
	[BW_STEER_PASSED] = "packets to the kernel",
	[BW_STEER_TAKEN] = "packets to Barewire",
	[BW_STEER_BLOCKED] = "dropped by a rule",
	[BW_STEER_SYN_RATE] = "dropped: more SYNs of a source than its limit",
	[BW_STEER_PACKET_RATE] = "dropped: more packets of a source than its limit",
	[BW_STEER_NO_SOCKET] = "for Barewire, on a queue that no worker serves",
};
_Static_assert((int)BW_STEER_COUNTERS == STEER_COUNTS && (int)BW_STEER_NO_SOCKET == STEER_NO_SOCKET &&
		       (int)BW_STEER_BLOCKED == STEER_BLOCKED,
	"the programs' counters, in their order");

static int libbpf_says(enum libbpf_print_level level, const char *format, va_list args)
{
	char line[512];

	if (level == LIBBPF_DEBUG) /* every relocation */
		return 0;
	vsnprintf(line, sizeof(line), format, args);
	line[strcspn(line, "\n")] = '\0';
	bw_debug("libbpf: %s", line);
	return 0;
}

/* ---- opening ------------------------------------------------------------------------------------------------- */

static int load(struct bw_steer *steer, enum bw_steer_hook hook)
{
	int rc;

	if (hook == BW_STEER_XDP) {
		steer->xdp = xdp_bpf__open();
		if (steer->xdp == NULL)
			return -errno;
		rc = xdp_bpf__load(steer->xdp);
		steer->object = steer->xdp->obj;
		steer->knobs = rc == 0 ? &steer->xdp->bss->knobs : NULL;
	} else {
		steer->skb = skb_bpf__open();
		if (steer->skb == NULL)
			return -errno;
		rc = skb_bpf__load(steer->skb);
		steer->object = steer->skb->obj;
		steer->knobs = rc == 0 ? &steer->skb->bss->knobs : NULL;
	}
	return rc;
}

static int map_fd(const struct bw_steer *steer, const char *name)
{
	return bpf_object__find_map_fd_by_name(steer->object, name);
}

/* The program that an interface has, for who wants to know what is in the way. */
static void name_other(unsigned iface_index, char *out, size_t out_bytes)
{
	struct bpf_prog_info info = { 0 };
	uint32_t id = 0, info_bytes = sizeof(info);
	int fd;

	snprintf(out, out_bytes, "one that cannot be looked at");
	if (bpf_xdp_query_id((int)iface_index, 0, &id) != 0 || id == 0)
		return;
	fd = bpf_prog_get_fd_by_id(id);
	if (fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &info_bytes) == 0)
		snprintf(out, out_bytes, "%s, number %u", info.name, id);
	if (fd >= 0)
		close(fd);
}

static int attach_xdp(struct bw_steer *steer, const struct bw_steer_conf *conf, unsigned iface_index)
{
	const int program = bw_steer__program(steer);
	LIBBPF_OPTS(bpf_link_create_opts, options, .flags = XDP_FLAGS_DRV_MODE);
	char other[64];

	steer->link_fd = bpf_link_create(program, (int)iface_index, BPF_XDP, &options);
	steer->is_native = steer->link_fd >= 0;
	if (steer->link_fd < 0 && errno != EBUSY && errno != EEXIST && errno != EPERM) {
		bw_debug("%s: the driver does not run XDP programs (%s): the kernel does it for it",
			conf->iface, strerror(errno));
		options.flags = XDP_FLAGS_SKB_MODE;
		steer->link_fd = bpf_link_create(program, (int)iface_index, BPF_XDP, &options);
	}
	if (steer->link_fd >= 0)
		return 0;

	const int error = errno;

	if (error == EBUSY || error == EEXIST) {
		name_other(iface_index, other, sizeof(other));
		bw_error(
			"--dev %s: an XDP program is attached to %s already (%s); stop what uses it, or: ip link "
			"set %s xdp off",
			conf->spec, conf->iface, other, conf->iface);
		return -EBUSY;
	}
	bw_error("--dev %s: %s takes no XDP program: %s; use packet:%s", conf->spec, conf->iface,
		strerror(error), conf->iface);
	return -error;
}

static int attach_tc(struct bw_steer *steer, const struct bw_steer_conf *conf, unsigned iface_index)
{
	steer->socket_filter_fd = bpf_program__fd(steer->skb->progs.steer_socket);
	steer->link_fd = bpf_link_create(bw_steer__program(steer), (int)iface_index, TCX_INGRESS, NULL);
	if (steer->link_fd >= 0)
		return 0;

	const int error = errno;

	bw_error("--dev %s: %s takes no tc program: %s%s", conf->spec, conf->iface, strerror(error),
		error == EINVAL
			? "; it needs Linux 6.6, or use xdp:, or give --addr one that the kernel has not"
			: "");
	return -error;
}

int bw_steer__load(const struct bw_steer_conf *conf, struct bw_steer **out)
{
	struct bw_steer *steer = calloc(1, sizeof(*steer));
	int rc;

	if (steer == NULL) {
		bw_error("--dev %s: out of memory", conf->spec);
		return -ENOMEM;
	}
	steer->link_fd = steer->socket_filter_fd = -1;
	snprintf(steer->spec, sizeof(steer->spec), "%s", conf->spec);
	libbpf_set_print(libbpf_says);
	rc = libbpf_num_possible_cpus();
	steer->cpus = rc > 0 ? (unsigned)rc : 1;
	BW_ASSERT_LE(steer->cpus, CPUS_MAX);
	rc = load(steer, conf->hook);
	if (rc != 0) {
		bw_error("--dev %s: the kernel does not load the program that shares %s with it: %s%s",
			conf->spec, conf->iface, strerror(-rc),
			rc == -EPERM ? "; it needs root, or CAP_BPF and CAP_NET_ADMIN"
				     : "; --verbose tells what it said");
		bw_steer_close(steer);
		return rc;
	}
	steer->addresses_fd = map_fd(steer, "addresses");
	steer->ports_fd = map_fd(steer, "ports");
	steer->rules_fd = map_fd(steer, "rules");
	steer->counts_fd = map_fd(steer, "counts");
	*out = steer;
	return 0;
}

int bw_steer__program(const struct bw_steer *steer)
{
	return steer->xdp != NULL ? bpf_program__fd(steer->xdp->progs.xsk_def_prog)
				  : bpf_program__fd(steer->skb->progs.steer_tc);
}

int bw_steer_open(const struct bw_steer_conf *conf, struct bw_steer **out)
{
	const unsigned iface_index = if_nametoindex(conf->iface);
	struct bw_steer *steer;
	int rc = bw_steer__load(conf, &steer);

	if (rc != 0)
		return rc;
	rc = conf->hook == BW_STEER_XDP ? attach_xdp(steer, conf, iface_index)
					: attach_tc(steer, conf, iface_index);
	if (rc != 0) {
		bw_steer_close(steer);
		return rc;
	}
	*out = steer;
	return 0;
}

void bw_steer_close(struct bw_steer *steer)
{
	if (steer == NULL)
		return;
	if (steer->link_fd >= 0)
		close(steer->link_fd);
	if (steer->xdp != NULL)
		xdp_bpf__destroy(steer->xdp);
	if (steer->skb != NULL)
		skb_bpf__destroy(steer->skb);
	free(steer);
}

const char *bw_steer_how(const struct bw_steer *steer)
{
	if (steer->xdp == NULL)
		return "tc";
	return steer->is_native ? "XDP in the driver" : "XDP behind the driver (generic)";
}

int bw_steer_socket_filter(const struct bw_steer *steer)
{
	return steer->socket_filter_fd;
}

/* ---- prefixes -------------------------------------------------------------------------------------------------- */

static struct steer_ip key_of(const struct bw_ip *ip)
{
	struct steer_ip key;

	_Static_assert(sizeof(key) == sizeof(*ip), "the same bytes");
	memcpy(&key, ip, sizeof(key));
	return key;
}

#define FAMILY_BITS 32u
#define MAPPED_BITS 96u

static unsigned bits_of(const struct bw_cidr *cidr)
{
	return (bw_ip_is_v4(&cidr->ip) ? MAPPED_BITS : 0) + cidr->prefix_len;
}

static struct bw_ip mask_of(unsigned bits)
{
	struct bw_ip mask;

	for (unsigned i = 0; i < sizeof(mask.b); i++)
		mask.b[i] = (uint8_t)(0xff00u >> (bits > 8 * i ? BW_MIN(bits - 8 * i, 8u) : 0));
	return mask;
}

static struct steer_ip masked(const struct bw_cidr *cidr)
{
	struct bw_ip ip = cidr->ip, mask = mask_of(bits_of(cidr));

	for (unsigned i = 0; i < sizeof(ip.b); i++)
		ip.b[i] &= mask.b[i];
	return key_of(&ip);
}

/* ---- what is ours -------------------------------------------------------------------------------------------- */

static struct steer_port port_key_of(const struct bw_steer_port *port)
{
	return (struct steer_port){
		.addr = key_of(&port->ip),
		.port_be = __builtin_bswap16(port->port),
		.proto = port->proto,
	};
}

static bool owns_addr(const struct bw_steer_owned *owned, const void *key)
{
	for (unsigned i = 0; i < owned->addr_count; i++)
		if (memcmp(key, &owned->addrs[i].ip, sizeof(struct steer_ip)) == 0)
			return true;
	return false;
}

static bool owns_port(const struct bw_steer_owned *owned, const void *key)
{
	for (unsigned i = 0; i < owned->port_count; i++) {
		struct steer_port port = port_key_of(&owned->ports[i]);

		if (memcmp(key, &port, sizeof(port)) == 0)
			return true;
	}
	return false;
}

/* Take out of a map what is not owned any more. */
static void forget(int fd, size_t key_bytes, const struct bw_steer_owned *owned,
	bool (*owns)(const struct bw_steer_owned *owned, const void *key))
{
	uint8_t key[64], next[64];
	int rc;

	BW_ASSERT_LE(key_bytes, sizeof(key));
	for (rc = bpf_map_get_next_key(fd, NULL, next); rc == 0;) {
		memcpy(key, next, key_bytes);
		rc = bpf_map_get_next_key(fd, key, next);
		if (!owns(owned, key))
			bpf_map_delete_elem(fd, key);
	}
}

/* Without its mask, it is none: so that comes off first and on last. */
static void set_prefix(volatile struct steer_knobs *knobs, const struct bw_cidr *prefix)
{
	const struct steer_ip ip = masked(prefix);
	const struct bw_ip mask = mask_of(prefix->prefix_len > 0 ? bits_of(prefix) : 0);

	knobs->mask.w_be[0] = 0;
	for (unsigned i = 0; i < BW_ARRAY_LEN(ip.w_be); i++)
		knobs->prefix.w_be[i] = ip.w_be[i];
	for (unsigned i = BW_ARRAY_LEN(ip.w_be); i-- > 0;)
		knobs->mask.w_be[i] = mask.w_be[i];
}

int bw_steer_own(struct bw_steer *steer, const struct bw_steer_owned *owned)
{
	volatile struct steer_knobs *knobs = steer->knobs;
	int rc = 0;

	knobs->vlan = owned->vlan;
	for (unsigned i = 0; i < sizeof(owned->mac.b); i++)
		knobs->mac[i] = owned->mac.b[i];
	set_prefix(knobs, &owned->prefix);
	knobs->range_last = owned->range_last;
	knobs->range_first = owned->range_first;
	forget(steer->ports_fd, sizeof(struct steer_port), owned, owns_port);
	for (unsigned i = 0; i < owned->port_count && rc == 0; i++) {
		const struct steer_port key = port_key_of(&owned->ports[i]);
		const uint32_t one = 1;

		rc = bpf_map_update_elem(steer->ports_fd, &key, &one, BPF_ANY);
	}
	forget(steer->addresses_fd, sizeof(struct steer_ip), owned, owns_addr);
	for (unsigned i = 0; i < owned->addr_count && rc == 0; i++) {
		const struct steer_ip key = key_of(&owned->addrs[i].ip);
		const uint32_t share = owned->addrs[i].is_whole ? STEER_WHOLE : STEER_PORTS;

		rc = bpf_map_update_elem(steer->addresses_fd, &key, &share, BPF_ANY);
	}
	if (rc == 0)
		return 0;
	bw_error(
		"--dev %s: the kernel does not take what is ours: %s; at most %u addresses and %u ports of them",
		steer->spec, strerror(-rc), BW_STEER_ADDRS_MAX, BW_STEER_PORTS_MAX);
	return rc;
}

/* ---- defence ------------------------------------------------------------------------------------------------- */

static struct steer_rule rule_key(const struct bw_cidr *source)
{
	return (struct steer_rule){ .prefix_len = FAMILY_BITS + bits_of(source),
		.family = bw_ip_is_v4(&source->ip) ? 4 : 6,
		.addr = masked(source) };
}

int bw_steer_rule(struct bw_steer *steer, const struct bw_cidr *source, enum bw_steer_verdict verdict)
{
	const struct steer_rule key = rule_key(source);
	const uint32_t action = verdict == BW_STEER_BLOCK ? STEER_BLOCK : STEER_ALLOW;
	int rc = bpf_map_update_elem(steer->rules_fd, &key, &action, BPF_ANY);

	if (rc != 0) {
		bw_error("--dev %s: no room for another rule: %s; remove some", steer->spec, strerror(-rc));
		return rc;
	}
	steer->knobs->has_rules = true;
	return 0;
}

int bw_steer_rule_remove(struct bw_steer *steer, const struct bw_cidr *source)
{
	const struct steer_rule key = rule_key(source);
	const int rc = bpf_map_delete_elem(steer->rules_fd, &key);
	struct steer_rule any;

	steer->knobs->has_rules = bpf_map_get_next_key(steer->rules_fd, NULL, &any) == 0;
	return rc;
}

void bw_steer_rules(struct bw_steer *steer,
	void (*take)(const struct bw_cidr *source, enum bw_steer_verdict verdict, void *arg), void *arg)
{
	struct steer_rule key, next;
	uint32_t action;
	int rc;

	for (rc = bpf_map_get_next_key(steer->rules_fd, NULL, &next); rc == 0;
		rc = bpf_map_get_next_key(steer->rules_fd, &key, &next)) {
		struct bw_cidr source;

		key = next;
		if (bpf_map_lookup_elem(steer->rules_fd, &key, &action) != 0)
			continue;
		memcpy(&source.ip, &key.addr, sizeof(source.ip));
		source.prefix_len =
			(uint8_t)(key.prefix_len - FAMILY_BITS - (key.family == 4 ? MAPPED_BITS : 0));
		take(&source, action == STEER_BLOCK ? BW_STEER_BLOCK : BW_STEER_ALLOW, arg);
	}
}

/* The slack first, so that a packet between the two is judged too mildly rather than dropped for nothing. */
static void set_limit(volatile struct steer_limit *limit, uint32_t per_s)
{
	const uint64_t interval_ns = per_s > 0 ? BW_MAX(BW_NS_PER_SEC / per_s, 1ull) : 0;
	const uint32_t burst = BW_MAX(per_s / 10, (uint32_t)LIMIT_BURST_MIN);

	limit->slack_ns = interval_ns * burst;
	limit->interval_ns = interval_ns;
}

void bw_steer_limit(struct bw_steer *steer, const struct bw_steer_limits *limits)
{
	steer->limits = *limits;
	set_limit(&steer->knobs->syn, limits->syns_per_s);
	set_limit(&steer->knobs->packet, limits->packets_per_s);
}

void bw_steer_limits_get(const struct bw_steer *steer, struct bw_steer_limits *limits)
{
	*limits = steer->limits;
}

void bw_steer_counters(const struct bw_steer *steer, uint64_t counters[BW_STEER_COUNTERS])
{
	uint64_t of_cpu[CPUS_MAX];

	for (uint32_t i = 0; i < BW_STEER_COUNTERS; i++) {
		counters[i] = 0;
		if (bpf_map_lookup_elem(steer->counts_fd, &i, of_cpu) != 0)
			continue;
		for (unsigned cpu = 0; cpu < steer->cpus; cpu++)
			counters[i] += of_cpu[cpu];
	}
}
