/* SPDX-License-Identifier: BSD-3-Clause */
/** What a configuration comes to, from flags, a file, and neither. */
#include <errno.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include "capture.h"

static void assert_addr(const struct bw_cidr *cidr, const char *text)
{
	char shown[BW_CIDR_STRLEN];

	assert_string_equal(bw_cidr_format(cidr, shown), text);
}

static void a_tap_has_addresses_of_its_own(void **state)
{
	struct bw_conf *conf = ACCEPTED(NULL, FLAGS("--http", "8080"));
	const struct bw_conf_view *view = bw_conf_view(conf);

	assert_string_equal(view->devices[0].dev, "tap");
	assert_int_equal(view->engine.devices[0].addr_count, 2);
	assert_addr(&view->engine.devices[0].addrs[0], "198.18.77.2/24");
	assert_addr(&view->engine.devices[0].addrs[1], "fd77:ba5e::2/64");
	assert_int_equal(view->devices[0].host_addr_count, 2);
	assert_addr(&view->devices[0].host_addrs[0], "198.18.77.1/24");
	assert_addr(&view->devices[0].host_addrs[1], "fd77:ba5e::1/64");
	assert_int_equal(view->engine.worker_count, 1);
	assert_int_equal(view->engine.poll, BW_POLL_AUTO);
	assert_false(view->engine.counts_cycles);
	assert_int_equal(view->engine.tcp.syn_cookies, BW_TCP_SYN_COOKIES_AUTO);
	assert_int_equal(view->engine.devices[0].route_count, 0);
	assert_int_equal(view->engine.devices[0].vlan, 0);
	assert_int_equal(view->engine.tcp.connections_max, 65536);
	assert_int_equal(view->engine.keepalive_idle_ns, 7200 * BW_NS_PER_SEC); /* RFC 9293 MUST-28 */
	assert_int_equal(view->engine.ttl, 64);
	assert_int_equal(view->engine.tcp.congestion_control, BW_TCP_CC_CUBIC);
	assert_true(view->engine.tcp.ecn);
	assert_true(view->drain_timeout_ns == 10 * BW_NS_PER_SEC);
	assert_int_equal(view->stats_interval_s, 10);
	assert_int_equal(view->devices[0].mtu, 0);
	assert_null(view->devices[0].mac);
	assert_false(view->devices[0].has_default_addrs);
	assert_int_equal(view->eal_arg_count, 0);
	bw_conf_destroy(conf);
}

static void the_hosts_end_is_the_lowest_address_that_is_free(void **state)
{
	struct bw_conf *conf = ACCEPTED(
		NULL, FLAGS("--echo", "7", "--addr", "192.0.2.1/24", "--addr", "192.0.2.2/24", "--addr",
			      "10.0.0.9/31", "--addr", "2001:db8::1/64", "--addr", "172.16.5.4/20"));
	const struct bw_conf_view *view = bw_conf_view(conf);

	assert_int_equal(view->engine.devices[0].addr_count, 5);
	assert_int_equal(view->devices[0].host_addr_count, 4);
	assert_addr(&view->devices[0].host_addrs[0], "192.0.2.3/24");
	assert_addr(&view->devices[0].host_addrs[1], "10.0.0.8/31");
	assert_addr(&view->devices[0].host_addrs[2], "2001:db8::2/64");
	assert_addr(&view->devices[0].host_addrs[3], "172.16.0.1/20");
	bw_conf_destroy(conf);
}

/** What is given is the TAP's, and the kernel's ports are kept clear; without, all is as the TAP has it. */
static void the_kernel_beside_a_nic(void **state)
{
	struct bw_conf *conf =
		ACCEPTED(NULL, FLAGS("--dev", "pci:0:4.0", "--exception", "bw0", "--addr", "192.0.2.5/24",
				       "--gateway", "192.0.2.1", "--http", "80"));
	const struct bw_engine_conf *engine = &bw_conf_view(conf)->engine;

	assert_string_equal(engine->devices[0].exception_tap, "bw0");
	assert_int_equal(engine->exception_packets_per_s, 50000);
	assert_true(engine->devices[0].shares_addresses);
	assert_int_equal(engine->devices[0].addr_count, 1);
	assert_int_equal(engine->devices[0].route_count, 1);
	assert_int_equal(engine->tcp.port_first, 61000);
	bw_conf_destroy(conf);
	conf = ACCEPTED("exception:\n  tap: nic0.x\n  packets: 0\n",
		FLAGS("--dev", "memif:s", "--http", "192.0.2.7:80"));
	engine = &bw_conf_view(conf)->engine;
	assert_string_equal(engine->devices[0].exception_tap, "nic0.x");
	assert_int_equal(engine->exception_packets_per_s, 0);
	assert_true(engine->devices[0].shares_addresses);
	assert_int_equal(engine->devices[0].addr_count, 0);
	bw_conf_destroy(conf);
	conf = ACCEPTED(NULL, FLAGS("--exception", "", "--http", "80")); /* as if it had not been given */
	assert_null(bw_conf_view(conf)->engine.devices[0].exception_tap);
	assert_false(bw_conf_view(conf)->engine.devices[0].shares_addresses);
	bw_conf_destroy(conf);
}

static void a_small_mtu_leaves_ipv6_out(void **state)
{
	struct bw_conf *conf = ACCEPTED(NULL, FLAGS("--echo", "7", "--mtu", "576"));

	assert_int_equal(bw_conf_view(conf)->devices[0].mtu, 576);
	assert_int_equal(bw_conf_view(conf)->engine.devices[0].addr_count, 1);
	bw_conf_destroy(conf);
}

/** CPU 700 is isolated, says the file, but not this process's to have; CPU 0 is. */
static void isolated_cpus_come_first_if_they_are_ours(void **state)
{
	static const char *const path = "/sys/devices/system/cpu/isolated";
	struct bw_conf *conf;
	cpu_set_t before, after;
	FILE *file;

	if (geteuid() != 0 || access(path, R_OK) != 0)
		skip(); /* needs a mount namespace */
	assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
	assert_int_equal(unshare(CLONE_NEWNS), 0);
	assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	file = fopen("isolated", "w");
	assert_non_null(file);
	fputs("0,700\n", file);
	fclose(file);
	assert_int_equal(mount("isolated", path, NULL, MS_BIND, NULL), 0);
	conf = ACCEPTED(NULL, FLAGS("--echo", "7", "--workers", CPU_COUNT(&before) > 1 ? "2" : "1"));
	assert_int_equal(bw_conf_view(conf)->engine.cpus[0], 0);
	assert_int_not_equal(bw_conf_view(conf)->engine.cpus[1], 700);
	bw_conf_destroy(conf);
	assert_int_equal(sched_getaffinity(0, sizeof(after), &after), 0);
	assert_true(CPU_EQUAL(&before, &after));
	assert_int_equal(umount(path), 0);
	assert_int_equal(unlink("isolated"), 0);
}

static void auto_is_told_apart(void **state)
{
	struct bw_conf *conf = ACCEPTED(NULL, FLAGS("--dev", "auto", "--echo", "7"));

	assert_true(bw_conf_view(conf)->devices[0].has_default_addrs);
	assert_int_equal(bw_conf_view(conf)->engine.devices[0].addr_count, 2);
	bw_conf_destroy(conf);

	conf = ACCEPTED(NULL, FLAGS("--dev", "auto", "--echo", "7", "--addr", "192.0.2.2/24"));
	assert_false(bw_conf_view(conf)->devices[0].has_default_addrs);
	assert_int_equal(bw_conf_view(conf)->engine.devices[0].addr_count, 1);
	bw_conf_destroy(conf);

	/* A prefix without room for a kernel's end matters only if it takes a tap. */
	conf = ACCEPTED(NULL, FLAGS("--dev", "auto", "--echo", "7", "--addr", "192.0.2.2/32"));
	assert_addr(bw_conf_view(conf)->devices[0].without_host, "192.0.2.2/32");
	assert_int_equal(bw_conf_view(conf)->devices[0].host_addr_count, 0);
	bw_conf_destroy(conf);
}

static void all_flags(void **state)
{
	struct bw_conf *conf = ACCEPTED(NULL,
		FLAGS("--dev", "memif:/run/m.sock,role=client", "--addr", "192.0.2.2/24",
			"--addr=2001:db8::2/64", "--gateway", "192.0.2.1", "--gateway", "fe80::1", "--route",
			"10.0.0.0/8,192.0.2.9", "--vlan", "7", "--mtu", "9000", "--mac", "02:00:00:00:00:01",
			"--http", "80", "--http=8080=/", "--resp", "6379", "--echo", "7", "--discard", "9",
			"--cpus", "0", "--poll", "busy", "--connections", "1000", "--drain", "2.5", "--stats",
			"0", "--cycles", "-v", "--", "--log-level=8", "-m", "512"));
	const struct bw_conf_view *view = bw_conf_view(conf);
	const struct bw_engine_conf *engine = &view->engine;

	assert_string_equal(view->devices[0].dev, "memif:/run/m.sock,role=client");
	assert_int_equal(engine->devices[0].addr_count, 2);
	assert_int_equal(view->devices[0].host_addr_count, 0);
	assert_int_equal(engine->devices[0].route_count, 3);
	assert_addr(&engine->devices[0].routes[0].prefix, "0.0.0.0/0");
	assert_addr(&engine->devices[0].routes[1].prefix, "::/0");
	assert_addr(&engine->devices[0].routes[2].prefix, "10.0.0.0/8");
	assert_int_equal(engine->devices[0].vlan, 7);
	assert_int_equal(view->devices[0].mtu, 9000);
	assert_non_null(view->devices[0].mac);
	assert_int_equal(view->devices[0].mac->b[5], 1);
	assert_int_equal(engine->service_count, 5);
	assert_ptr_equal(engine->services[0].service, &bw_http_service);
	assert_int_equal(engine->services[0].port, 80);
	assert_ptr_equal(engine->services[0].conf, view->http[0]);
	assert_null(view->http[0]->site.root);
	assert_int_equal(view->http[0]->site.constant_count, 1);
	assert_string_equal(view->http[0]->site.constants[0].path, "/");
	assert_string_equal(view->http[1]->site.root, "/");
	assert_int_equal(view->http[1]->site.constant_count, 0);
	assert_ptr_equal(engine->services[2].service, &bw_resp_service);
	assert_ptr_equal(engine->services[2].conf, view->resp[2]);
	assert_null(view->resp[2]->password_file);
	assert_true(view->resp[2]->protected_mode);
	assert_null(view->http[2]);
	assert_ptr_equal(engine->services[3].service, &bw_echo_service);
	assert_ptr_equal(engine->services[4].service, &bw_discard_service);
	assert_int_equal(engine->services[4].port, 9);
	assert_null(engine->services[4].conf);
	assert_int_equal(engine->worker_count, 1);
	assert_int_equal(engine->cpus[0], 0);
	assert_int_equal(engine->poll, BW_POLL_BUSY);
	assert_int_equal(engine->tcp.connections_max, 1000);
	assert_true(view->drain_timeout_ns == 2500 * BW_NS_PER_MS);
	assert_int_equal(view->stats_interval_s, 0);
	assert_true(view->is_verbose);
	assert_true(engine->counts_cycles);
	assert_int_equal(view->eal_arg_count, 3);
	assert_string_equal(view->eal_args[2], "512");
	bw_conf_destroy(conf);
}

static const char everything[] = "device: tap:bw0\n"
				 "mtu: 1400\n"
				 "addresses: [192.0.2.2/24]\n"
				 "gateways: [192.0.2.1]\n"
				 "http:\n"
				 "  - port: 80\n"
				 "    body: 2MiB\n"
				 "    idle_timeout: 2m\n"
				 "    constants:\n"
				 "      - path: /a\n"
				 "        body: |\n"
				 "          two\n"
				 "          lines\n"
				 "        status: 404\n"
				 "      - {path: /b, body: '', type: text/html}\n"
				 "resp:\n"
				 "  - port: 6379\n"
				 "    memory: 1G\n"
				 "    stall_timeout: 5s\n"
				 "    maxmemory_policy: noeviction\n"
				 "    password_file: /etc/barewire/password\n"
				 "    protected_mode: false\n"
				 "    congestion_control: dctcp\n"
				 "tcp:\n"
				 "  congestion_control: newreno\n"
				 "  receive_buffer: 512K\n"
				 "  mss_min: 256\n"
				 "  time_wait_timeout: 500ms\n"
				 "  syn_cookies: always\n"
				 "eal: [--log-level=8]\n";

static void a_file(void **state)
{
	struct bw_conf *conf = ACCEPTED(everything, FLAGS());
	const struct bw_conf_view *view = bw_conf_view(conf);
	const struct bw_http_constant *constants = view->http[0]->site.constants;

	assert_string_equal(view->devices[0].dev, "tap:bw0");
	assert_int_equal(view->devices[0].mtu, 1400);
	assert_int_equal(view->engine.devices[0].addr_count, 1);
	assert_int_equal(view->engine.devices[0].route_count, 1);
	assert_int_equal(view->engine.service_count, 2);
	assert_true(view->http[0]->body_bytes_max == 2 << 20);
	assert_true(view->http[0]->idle_timeout_ns == 120 * BW_NS_PER_SEC);
	assert_int_equal(view->http[0]->site.constant_count, 2);
	assert_string_equal(constants[0].body, "two\nlines\n");
	assert_int_equal(constants[0].body_bytes, 10);
	assert_int_equal(constants[0].status, 404);
	assert_string_equal(constants[0].content_type, "text/plain; charset=utf-8");
	assert_int_equal(constants[1].body_bytes, 0);
	assert_int_equal(constants[1].status, 200);
	assert_string_equal(constants[1].content_type, "text/html");
	assert_int_equal(view->engine.tcp.syn_cookies, BW_TCP_SYN_COOKIES_ALWAYS);
	assert_true(view->resp[1]->memory_bytes_max == 1 << 30);
	assert_true(view->resp[1]->stall_timeout_ns == 5 * BW_NS_PER_SEC);
	assert_int_equal(view->resp[1]->policy, BW_RESP_NOEVICTION);
	assert_string_equal(view->resp[1]->password_file, "/etc/barewire/password"); /* read when it starts */
	assert_int_equal(view->resp[1]->password_len, 0);
	assert_false(view->resp[1]->protected_mode);
	assert_int_equal(view->engine.services[0].congestion_control, BW_TCP_CC_DEFAULT);
	assert_int_equal(view->engine.services[1].congestion_control, BW_TCP_CC_DCTCP);
	assert_int_equal(view->engine.tcp.congestion_control, BW_TCP_CC_NEWRENO);
	assert_true(view->engine.tcp.ecn);
	assert_int_equal(view->engine.tcp.recv_bytes_max, 512 << 10);
	assert_int_equal(view->engine.tcp.reassembly_bytes_max, 512 << 10);
	assert_int_equal(view->engine.tcp.mss_min, 256);
	assert_true(view->engine.tcp.time_wait_ns == 500 * BW_NS_PER_MS);
	assert_int_equal(view->eal_arg_count, 1);
	bw_conf_destroy(conf);
}

static void services_share_a_port_on_different_addresses(void **state)
{
	static const char yaml[] = "addresses: [192.0.2.2/24, 192.0.2.3/24, \"2001:db8::2/64\"]\n"
				   "resp: [{port: 80, addresses: [192.0.2.3]}]\n";
	struct bw_conf *conf =
		ACCEPTED(yaml, FLAGS("--http", "192.0.2.2:80=/", "--echo", "[2001:db8::2]:80"));
	const struct bw_engine_service *services = bw_conf_view(conf)->engine.services;

	assert_int_equal(bw_conf_view(conf)->engine.service_count, 3);
	for (unsigned i = 0; i < 3; i++) {
		static const char *const addrs[] = { "192.0.2.2", "192.0.2.3", "2001:db8::2" };
		char text[BW_IP_STRLEN];

		assert_int_equal(services[i].port, 80);
		assert_int_equal(services[i].addr_count, 1);
		assert_string_equal(bw_ip_format(&services[i].addrs[0], text), addrs[i]);
	}
	assert_string_equal(bw_conf_view(conf)->http[0]->site.root, "/");
	bw_conf_destroy(conf);
}

static void an_empty_file_says_nothing(void **state)
{
	bw_conf_destroy(ACCEPTED("", FLAGS("--echo", "7")));
	bw_conf_destroy(ACCEPTED("# nothing but this\n", FLAGS("--echo", "7")));
}

static void flags_win_over_the_file(void **state)
{
	struct bw_conf *conf = ACCEPTED(everything, FLAGS("--mtu", "1300", "--http", "8080", "--addr",
							    "198.51.100.2/24", "--gateway", "198.51.100.1"));
	const struct bw_conf_view *view = bw_conf_view(conf);

	assert_int_equal(view->devices[0].mtu, 1300);
	/* A list given by flags replaces the file's list of that kind, and no other. */
	assert_int_equal(view->engine.devices[0].addr_count, 1);
	assert_addr(&view->engine.devices[0].addrs[0], "198.51.100.2/24");
	assert_int_equal(view->engine.service_count, 2);
	assert_int_equal(view->engine.services[0].port, 8080);
	assert_int_equal(view->http[0]->site.constant_count, 1);
	assert_string_equal(view->http[0]->site.constants[0].path, "/");
	assert_int_equal(view->engine.services[1].port, 6379);
	assert_string_equal(view->devices[0].dev, "tap:bw0");
	bw_conf_destroy(conf);

	/* Also where file and flag say it with different keys. */
	conf = ACCEPTED("workers: 40\necho: [{port: 7}]\n", FLAGS("--cpus", "0"));
	assert_int_equal(bw_conf_view(conf)->engine.worker_count, 1);
	bw_conf_destroy(conf);
	conf = ACCEPTED("cpus: 4000\necho: [{port: 7}]\n", FLAGS("--workers", "1"));
	assert_int_equal(bw_conf_view(conf)->engine.worker_count, 1);
	bw_conf_destroy(conf);
}

static void assert_reads_back(const char *yaml, char **flags)
{
	struct bw_conf *first = ACCEPTED(yaml, flags), *second;
	char *once = printed(first), *twice;

	second = ACCEPTED(once, FLAGS());
	twice = printed(second);
	assert_string_equal(once, twice);
	assert_int_equal(bw_conf_view(first)->engine.device_count, bw_conf_view(second)->engine.device_count);
	for (unsigned i = 0; i < BW_DEVICES_MAX; i++) {
		const struct bw_conf_device *device = &bw_conf_view(first)->devices[i];
		const struct bw_conf_device *again = &bw_conf_view(second)->devices[i];

		assert_int_equal(bw_conf_view(first)->engine.devices[i].addr_count,
			bw_conf_view(second)->engine.devices[i].addr_count);
		assert_int_equal(bw_conf_view(first)->engine.devices[i].route_count,
			bw_conf_view(second)->engine.devices[i].route_count);
		assert_int_equal(bw_conf_view(first)->engine.devices[i].shares_addresses,
			bw_conf_view(second)->engine.devices[i].shares_addresses);
		assert_int_equal(device->host_addr_count, again->host_addr_count);
		assert_memory_equal(device->host_addrs, again->host_addrs, sizeof(device->host_addrs));
	}
	assert_memory_equal(&bw_conf_view(first)->engine.tcp, &bw_conf_view(second)->engine.tcp,
		sizeof(struct bw_tcp_conf));
	bw_conf_destroy(first);
	bw_conf_destroy(second);
	free(once);
	free(twice);
}

static const char several[] = "device: tap:a\n"
			      "addresses: [192.0.2.2/24]\n"
			      "more_devices:\n"
			      "  - device: tap:b\n"
			      "    addresses: [198.51.100.2/24, 'fe80::2/64']\n"
			      "    gateways: [198.51.100.1]\n"
			      "    routes: [{prefix: 10.0.0.0/8, gateway: 198.51.100.9}]\n"
			      "    mtu: 1400\n"
			      "    vlan: 9\n"
			      "  - device: memif:c\n"
			      "    mac: 02:00:00:00:00:03\n"
			      "    exception: bw1\n"
			      "echo:\n"
			      "  - {port: 7, addresses: [198.51.100.2]}\n";

static void what_is_printed_reads_back_to_itself(void **state)
{
	assert_reads_back(NULL, FLAGS("--http", "8080"));
	assert_reads_back(everything, FLAGS());
	assert_reads_back(everything, FLAGS("--http", "8080=/", "--discard", "9", "-v", "--", "-m", "64"));
	assert_reads_back(NULL, FLAGS("--http", "[fd77:ba5e::2]:80=/", "--echo", "198.18.77.2:80"));
	assert_reads_back(NULL, FLAGS("--dev", "auto", "--echo", "7", "--route", "10.0.0.0/8,198.18.77.7"));
	assert_reads_back(
		"http: [{port: 1, constants: [{path: /, body: \"a: b\\n# c\\n\\ttab ~ null 'x'\"}]}]\n",
		FLAGS("--mac", "02:00:00:00:00:01"));
	assert_reads_back(several, FLAGS());
	assert_reads_back(several,
		FLAGS("--dev", "xdp:eth7", "--dev", "tap", "--route", "10.0.0.0/8,198.18.77.7", "--dev",
			"auto", "--mtu", "1400", "--addr", "203.0.113.2/24", "--echo", "7"));
	assert_reads_back(NULL, FLAGS("--dev", "memif:a", "--exception", "bw0", "--dev", "memif:b",
					"--exception", "bw1", "--echo", "7"));
}

static void each_flag_is_of_the_last_device_before_it(void **state)
{
	struct bw_conf *conf = ACCEPTED(
		NULL, FLAGS("--mtu", "1400", "--dev", "memif:a", "--addr", "192.0.2.2/24", "--gateway",
			      "192.0.2.1", "--mac", "02:00:00:00:00:01", "--echo", "7", "--dev", "memif:b",
			      "--addr", "198.51.100.2/24", "--addr", "2001:db8::2/64",
			      "--gateway=198.51.100.1", "--route", "10.0.0.0/8,198.51.100.9", "--vlan", "7",
			      "--exception", "bw1", "--dev", "packet:eth7", "--mtu=9000", "--mac",
			      "02:00:00:00:00:03", "--resp", "198.51.100.2:6379"));
	const struct bw_conf_view *view = bw_conf_view(conf);
	const struct bw_engine_device *devices = view->engine.devices;

	assert_int_equal(view->engine.device_count, 3);
	assert_string_equal(view->devices[0].dev, "memif:a");
	assert_int_equal(view->devices[0].mtu, 1400);
	assert_int_equal(view->devices[0].mac->b[5], 1);
	assert_int_equal(devices[0].addr_count, 1);
	assert_int_equal(devices[0].route_count, 1);
	assert_int_equal(devices[0].vlan, 0);
	assert_null(devices[0].exception_tap);
	assert_false(devices[0].shares_addresses);
	assert_string_equal(view->devices[1].dev, "memif:b");
	assert_int_equal(view->devices[1].mtu, 0);
	assert_null(view->devices[1].mac);
	assert_int_equal(devices[1].addr_count, 2);
	assert_addr(&devices[1].addrs[0], "198.51.100.2/24");
	assert_int_equal(devices[1].route_count, 2);
	assert_addr(&devices[1].routes[0].prefix, "0.0.0.0/0");
	assert_addr(&devices[1].routes[1].prefix, "10.0.0.0/8");
	assert_int_equal(devices[1].vlan, 7);
	assert_string_equal(devices[1].exception_tap, "bw1");
	assert_true(devices[1].shares_addresses);
	assert_string_equal(view->devices[2].dev, "packet:eth7");
	assert_int_equal(view->devices[2].mtu, 9000);
	assert_int_equal(view->devices[2].mac->b[5], 3);
	assert_int_equal(devices[2].addr_count, 0);
	assert_true(devices[2].shares_addresses);
	assert_int_equal(view->engine.service_count, 2);
	assert_int_equal(view->engine.tcp.port_first, 61000);
	bw_conf_destroy(conf);
}

static void a_file_of_several_devices(void **state)
{
	struct bw_conf *conf = ACCEPTED(several, FLAGS());
	const struct bw_conf_view *view = bw_conf_view(conf);
	const struct bw_engine_device *devices = view->engine.devices;

	assert_int_equal(view->engine.device_count, 3);
	assert_string_equal(view->devices[1].dev, "tap:b");
	assert_int_equal(view->devices[1].mtu, 1400);
	assert_int_equal(view->devices[1].host_addr_count, 2);
	assert_addr(&view->devices[0].host_addrs[0], "192.0.2.1/24");
	assert_addr(&view->devices[1].host_addrs[0], "198.51.100.1/24");
	assert_int_equal(devices[0].route_count, 0);
	assert_int_equal(devices[1].route_count, 2);
	assert_int_equal(devices[1].vlan, 9);
	assert_false(devices[1].shares_addresses);
	assert_string_equal(devices[2].exception_tap, "bw1");
	assert_int_equal(view->devices[2].mac->b[5], 3);
	assert_int_equal(view->engine.services[0].addr_count, 1);
	bw_conf_destroy(conf);
}

static void flags_are_of_the_first_device_until_there_is_another(void **state)
{
	struct bw_conf *conf = ACCEPTED(several, FLAGS("--addr", "203.0.113.2/24"));
	const struct bw_conf_view *view = bw_conf_view(conf);

	assert_int_equal(view->engine.device_count, 3);
	assert_addr(&view->engine.devices[0].addrs[0], "203.0.113.2/24");
	bw_conf_destroy(conf);

	/* One --dev: another first device, with the file's addresses and what follows. */
	conf = ACCEPTED(several, FLAGS("--dev", "memif:z", "--gateway", "192.0.2.1"));
	view = bw_conf_view(conf);
	assert_int_equal(view->engine.device_count, 3);
	assert_string_equal(view->devices[0].dev, "memif:z");
	assert_addr(&view->engine.devices[0].addrs[0], "192.0.2.2/24");
	assert_int_equal(view->engine.devices[0].route_count, 1);
	assert_int_equal(view->devices[0].host_addr_count, 0);
	assert_string_equal(view->devices[1].dev, "tap:b");
	bw_conf_destroy(conf);

	/* Two: they are all that there is. */
	conf = ACCEPTED(several, FLAGS("--dev", "tap:a", "--dev", "tap:d", "--addr", "203.0.113.2/24",
					 "--addr", "203.0.113.3/24", "--echo", "7"));
	view = bw_conf_view(conf);
	assert_int_equal(view->engine.device_count, 2);
	assert_addr(&view->engine.devices[0].addrs[0], "192.0.2.2/24");
	assert_string_equal(view->devices[1].dev, "tap:d");
	assert_int_equal(view->devices[1].mtu, 0);
	assert_int_equal(view->engine.devices[1].addr_count, 2);
	assert_int_equal(view->engine.devices[1].route_count, 0);
	bw_conf_destroy(conf);
}

static void what_one_device_has_another_may_have_too(void **state)
{
	/* Default gateways, and a link's own prefix. */
	struct bw_conf *conf = ACCEPTED(
		NULL, FLAGS("--dev", "memif:a", "--addr", "192.0.2.2/24", "--addr", "fe80::2/64", "--gateway",
			      "192.0.2.1", "--dev", "memif:b", "--addr", "198.51.100.2/24", "--addr",
			      "fe80::3/64", "--gateway", "198.51.100.1", "--http", "198.51.100.2:80"));

	assert_int_equal(bw_conf_view(conf)->engine.devices[0].route_count, 1);
	assert_int_equal(bw_conf_view(conf)->engine.devices[1].route_count, 1);
	bw_conf_destroy(conf);

	/* A tap behind another device has the addresses that nobody told it. */
	conf = ACCEPTED(NULL, FLAGS("--dev", "memif:a", "--addr", "192.0.2.2/24", "--dev", "tap", "--dev",
				      "tap:other", "--addr", "198.51.100.2/24", "--echo", "198.18.77.2:7"));
	assert_addr(&bw_conf_view(conf)->engine.devices[1].addrs[0], "198.18.77.2/24");
	assert_addr(&bw_conf_view(conf)->devices[1].host_addrs[0], "198.18.77.1/24");
	assert_addr(&bw_conf_view(conf)->devices[2].host_addrs[0], "198.51.100.1/24");
	bw_conf_destroy(conf);

	/* Shared addresses are not known before the start. */
	conf = ACCEPTED("steer:\n  syns: 100\n",
		FLAGS("--dev", "tap", "--dev", "xdp:eth7", "--dev", "packet:eth8", "--echo", "192.0.2.2:7"));
	assert_false(bw_conf_view(conf)->engine.devices[0].shares_addresses);
	assert_true(bw_conf_view(conf)->engine.devices[1].shares_addresses);
	assert_true(bw_conf_view(conf)->engine.devices[2].shares_addresses);
	bw_conf_destroy(conf);
}

/** `load`: addresses to send from are the first device's. */
static void a_client_has_several_devices(void **state)
{
	char *argv[] = { "--dev", "memif:a", "--addr", "192.0.2.2/24", "--dev", "packet:eth7" };
	struct bw_conf *conf = bw_conf_create();
	struct bw_cidr range;

	assert_int_equal(bw_cidr_parse("192.0.2.128/25", &range), 0);
	bw_conf_set_client(conf, &bw_echo_service, NULL, 10, &range);
	assert_int_equal(bw_conf_parse(conf, BW_ARRAY_LEN(argv), argv), 0);
	assert_int_equal(bw_conf_finish(conf), 0);
	assert_addr(&bw_conf_view(conf)->engine.devices[0].range, "192.0.2.128/25");
	assert_int_equal(bw_conf_view(conf)->engine.devices[1].range.prefix_len, 0);
	assert_int_equal(bw_conf_view(conf)->engine.device_count, 2);
	bw_conf_destroy(conf);
}

static void help_is_no_error(void **state)
{
	struct outcome outcome = configure(2, FLAGS("--http", "-h"));
	char *text = NULL;
	size_t bytes;
	FILE *out;

	/* -h is --http's value here, and refused as one. */
	assert_int_equal(outcome.error, -EINVAL);
	bw_conf_destroy(outcome.conf);
	outcome = configure(2, FLAGS("-h", "--nonsense"));
	assert_int_equal(outcome.error, 1);
	assert_string_equal(outcome.said, "");
	bw_conf_destroy(outcome.conf);

	out = open_memstream(&text, &bytes);
	bw_conf_usage(out);
	fclose(out);
	assert_non_null(strstr(text, "--http [IP:]PORT[=ROOT]"));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_tap_has_addresses_of_its_own),
		cmocka_unit_test(the_hosts_end_is_the_lowest_address_that_is_free),
		cmocka_unit_test(a_small_mtu_leaves_ipv6_out),
		cmocka_unit_test(the_kernel_beside_a_nic),
		cmocka_unit_test(auto_is_told_apart),
		cmocka_unit_test(isolated_cpus_come_first_if_they_are_ours),
		cmocka_unit_test(all_flags),
		cmocka_unit_test(a_file),
		cmocka_unit_test(services_share_a_port_on_different_addresses),
		cmocka_unit_test(an_empty_file_says_nothing),
		cmocka_unit_test(flags_win_over_the_file),
		cmocka_unit_test(what_is_printed_reads_back_to_itself),
		cmocka_unit_test(each_flag_is_of_the_last_device_before_it),
		cmocka_unit_test(a_file_of_several_devices),
		cmocka_unit_test(flags_are_of_the_first_device_until_there_is_another),
		cmocka_unit_test(what_one_device_has_another_may_have_too),
		cmocka_unit_test(a_client_has_several_devices),
		cmocka_unit_test(help_is_no_error),
	};

	return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
