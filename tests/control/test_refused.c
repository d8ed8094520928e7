/* SPDX-License-Identifier: BSD-3-Clause */
/** Every bad input, with the exact line that answers it. */
#include <errno.h>
#include <sched.h>
#include <sys/stat.h>

#include "capture.h"

static void flags(void **state)
{
	REFUSED(NULL, FLAGS("--htpp", "80"), "--htpp: no such flag; did you mean --http?");
	REFUSED(NULL, FLAGS("--worker=2"), "--worker: no such flag; did you mean --workers?");
	REFUSED(NULL, FLAGS("--frobnicate"), "--frobnicate: no such flag; --help lists them");
	REFUSED(NULL, FLAGS("-x"), "-x: no such flag; --help lists them");
	REFUSED(NULL, FLAGS("frobnicate"), "frobnicate: not a flag; flags begin with --, as --help shows");
	REFUSED(NULL, FLAGS("--http"), "--http: no value; give --http [IP:]PORT[=ROOT]");
	REFUSED(NULL, FLAGS("--http", "--"), "--http: no value; give --http [IP:]PORT[=ROOT]");
	REFUSED(NULL, FLAGS("--verbose=yes"), "--verbose: takes no value; leave =yes away");
	REFUSED(NULL, FLAGS("--cycles=true"), "--cycles: takes no value; leave =true away");
	REFUSED("cycles: some\n", FLAGS(),
		"c.yaml:1: cycles: 'some' is neither true nor false; give one of them");
	REFUSED(NULL, FLAGS("-c", "a", "-c", "b"), "--config: given twice; give one file");
}

static void values_of_flags(void **state)
{
	REFUSED(NULL, FLAGS("--mtu", "abc"), "--mtu: 'abc' is not a whole number; give 576 to 9000");
	REFUSED(NULL, FLAGS("--mtu", "575"), "--mtu: 575 is out of range; give 576 to 9000");
	REFUSED(NULL, FLAGS("--mtu", "9001"), "--mtu: 9001 is out of range; give 576 to 9000");
	REFUSED(NULL, FLAGS("--mtu", "+1500"), "--mtu: '+1500' is not a whole number; give 576 to 9000");
	REFUSED(NULL, FLAGS("--mtu", "99999999999999999999"),
		"--mtu: '99999999999999999999' is not a whole number; give 576 to 9000");
	REFUSED(NULL, FLAGS("--mtu", "1500.5"), "--mtu: '1500.5' is not a whole number; give 576 to 9000");
	REFUSED(NULL, FLAGS("--vlan", "4095"), "--vlan: 4095 is out of range; give 0 to 4094");
	REFUSED(NULL, FLAGS("--vlan", "-1"), "--vlan: '-1' is not a whole number; give 0 to 4094");
	REFUSED(NULL, FLAGS("--workers", "0"), "--workers: 0 is out of range; give 1 to 64");
	REFUSED(NULL, FLAGS("--poll", "lazy"),
		"--poll: 'lazy' is no way to poll; give busy, adaptive or auto");
	REFUSED(NULL, FLAGS("--drain", "soon"),
		"--drain: 'soon' is not a time in seconds, or with ms, s, m or h; give 0s to 3600s");
	REFUSED(NULL, FLAGS("--drain", "2h"), "--drain: 2h is out of range; give 0s to 3600s");
	REFUSED(NULL, FLAGS("--connections", "0"), "--connections: 0 is out of range; give 1 to 16777216");
	REFUSED(NULL, FLAGS("--mac", "02:00"),
		"--mac: '02:00' is no Ethernet address; give one such as 02:00:00:00:00:01");
	REFUSED(NULL, FLAGS("--mac", "01:00:5e:00:00:01"),
		"--mac: 01:00:5e:00:00:01 is a group's or nobody's address; give one whose first byte is even, such as "
		"02:00:00:00:00:01");
}

static void devices(void **state)
{
	REFUSED(NULL, FLAGS("--dev", "pakcet:eth7"),
		"--dev: 'pakcet:eth7' is no kind of device; did you mean packet?");
	REFUSED(NULL, FLAGS("--dev", "carrier-pigeon"),
		"--dev: 'carrier-pigeon' is no kind of device; give tap, packet:IFACE, xdp:IFACE, memif:SOCKET, "
		"vhost:SOCKET, virtio:SOCKET, ring, pcap:IN,OUT, pci:ADDR, bond:MODE,DEV,DEV, auto or net_... devargs");
	REFUSED(NULL, FLAGS("--dev", "ring", "--echo", "7"),
		"--dev: ring has no address for Barewire; give --addr CIDR, one that nobody on that network has");
	REFUSED("device: memif:s\n", FLAGS("--echo", "7"),
		"c.yaml:1: device: memif:s has no address for Barewire; give --addr CIDR, one that nobody on that "
		"network has");
}

/** Each complaint names the flag, or the line of the entry, that is wrong. */
static void several_devices(void **state)
{
	REFUSED(NULL, FLAGS("--dev", "memif:a", "--addr", "192.0.2.2/24", "--dev", "memif:a", "--echo", "7"),
		"--dev: memif:a is there already; give every device once");
	REFUSED(NULL, FLAGS("--dev", "tap", "--dev", "tap", "--addr", "192.0.2.2/24", "--echo", "7"),
		"--dev: tap is there already; give another as tap:NAME");
	REFUSED(NULL, FLAGS("--dev", "auto", "--dev", "auto", "--addr", "192.0.2.2/24", "--echo", "7"),
		"--dev: auto takes one device, and is there already; name the others");
	REFUSED(NULL, FLAGS("--dev", "xdp:eth7,copy=1", "--dev", "packet:eth7", "--echo", "7"),
		"--dev: packet:eth7 and xdp:eth7,copy=1 are one interface; give every device once");
	REFUSED(NULL, FLAGS("--dev", "tap:a", "--dev", "tap:b", "--echo", "7"),
		"--dev: tap:b has no address, and those of a tap are tap:a's; give --addr CIDR, of another network");
	REFUSED(NULL, FLAGS("--dev", "tap:a", "--dev", "auto", "--echo", "7"),
		"--dev: auto has no address, and those of a tap are tap:a's; give --addr CIDR, of another network");
	REFUSED(NULL, FLAGS("--dev", "tap", "--dev", "memif:b", "--echo", "7"),
		"--dev: memif:b has no address for Barewire; give --addr CIDR, one that nobody on that network has");
	REFUSED(NULL, FLAGS("--dev", "memif:a", "--addr", "198.18.77.9/24", "--dev", "tap", "--echo", "7"),
		"--dev: 198.18.77.2/24 overlaps 198.18.77.9/24 of memif:a, and a neighbour would be on either link; give "
		"each device a network of its own");
	REFUSED(NULL,
		FLAGS("--dev", "memif:a", "--addr", "192.0.2.2/24", "--dev", "memif:b", "--addr",
			"192.0.2.2/32", "--echo", "7"),
		"--addr: 192.0.2.2/32 is memif:a's already; give every address to one device");
	REFUSED("device: memif:a\naddresses: [2001:db8::2/32]\nmore_devices:\n"
		"  - device: memif:b\n    addresses:\n      - 192.0.2.2/24\n      - 2001:db8:5::2/64\n",
		FLAGS("--echo", "7"),
		"c.yaml:7: addresses: 2001:db8:5::2/64 overlaps 2001:db8::2/32 of memif:a, and a neighbour would be on either "
		"link; give each device a network of its own");
	REFUSED(NULL,
		FLAGS("--dev", "memif:a", "--addr", "fe80::2/64", "--dev", "memif:b", "--addr", "fe80::2/64",
			"--echo", "7"),
		"--addr: fe80::2/64 is memif:a's already; give every address to one device");
	REFUSED("more_devices:\n  - mtu: 1400\n", FLAGS("--echo", "7"),
		"c.yaml:2: more_devices: which device? give device: packet:eth1 or such");
	REFUSED("more_devices:\n  - device: pakcet:eth1\n", FLAGS("--echo", "7"),
		"c.yaml:2: device: 'pakcet:eth1' is no kind of device; did you mean packet?");
	REFUSED("more_devices:\n  - device: memif:b\n    adresses: []\n", FLAGS("--echo", "7"),
		"c.yaml:3: adresses: no such key here; did you mean addresses?");
	REFUSED("more_devices:\n  - device: memif:b\n    mtu: 9\n", FLAGS("--echo", "7"),
		"c.yaml:3: mtu: 9 is out of range; give 576 to 9000");
	REFUSED("more_devices:\n  - device: memif:b\n    mtu: 1000\n    addresses: ['2001:db8::2/64']\n",
		FLAGS("--echo", "7"),
		"c.yaml:3: mtu: 1000 is less than the 1280 that IPv6 needs; give more, or no IPv6 address (2001:db8::2/64)");
	REFUSED(NULL,
		FLAGS("--mac", "02:00:00:00:00:01", "--dev", "tap", "--dev", "memif:b", "--mac",
			"02:00:00:00:00:01", "--echo", "7"),
		"--mac: 02:00:00:00:00:01 is that of tap; give each device its own");
	REFUSED(NULL,
		FLAGS("--dev", "memif:a", "--exception", "bw0", "--dev", "memif:b", "--exception", "bw0",
			"--echo", "7"),
		"--exception: bw0 is the TAP of memif:a; give each device its own");
	REFUSED("more_devices:\n  - device: xdp:eth7\n    exception: bw0\n", FLAGS("--echo", "7"),
		"c.yaml:3: exception: xdp:eth7 leaves the kernel its interface, and with it all that is not served; leave "
		"this out");
	REFUSED(NULL,
		FLAGS("--dev", "tap", "--dev", "memif:b", "--addr", "192.0.2.2/24", "--gateway",
			"198.18.77.1", "--echo", "7"),
		"--gateway: 198.18.77.1 is in no prefix of memif:b; give a gateway on its link, or an --addr near it");
	REFUSED(NULL,
		FLAGS("--dev", "tap", "--dev", "memif:b", "--addr", "192.0.2.2/24", "--gateway",
			"198.18.77.2", "--echo", "7"),
		"--gateway: 198.18.77.2 is our own address; give the router's");
	REFUSED(NULL,
		FLAGS("--dev", "memif:b", "--addr", "192.0.2.2/24", "--gateway", "192.0.2.1", "--gateway",
			"192.0.2.3", "--echo", "7"),
		"--gateway: there is a gateway for 0.0.0.0/0 already; give one");
	REFUSED(NULL, FLAGS("--dev", "tap", "--dev", "xdp:eth7", "--gateway", "192.0.2.1", "--echo", "7"),
		"--gateway: without --addr the kernel's routes are used; set them there, with `ip route`, and leave this out");
	REFUSED("more_devices:\n  - device: memif:b\n    addresses: [192.0.2.2/24]\n    routes:\n      - prefix: "
		"10.0.0.0/8\n",
		FLAGS("--echo", "7"), "c.yaml:5: routes: a route needs prefix and gateway; give both");
	REFUSED(NULL,
		FLAGS("--dev", "tap", "--dev", "memif:b", "--addr", "192.0.2.2/24", "--http", "192.0.2.3:80"),
		"--http: 192.0.2.3 is no address of ours; give one that is, or its --addr");
	REFUSED("steer:\n  syns: 100\n",
		FLAGS("--dev", "tap", "--dev", "memif:b", "--addr", "192.0.2.2/24", "--echo", "7"),
		"c.yaml:1: steer: no device is shared with the kernel, which is what keeps sources out: that is for "
		"xdp:IFACE, and for packet:IFACE without addresses");
	REFUSED(NULL,
		FLAGS("--dev", "tap", "--dev", "ring", "--dev", "memif:1", "--dev", "memif:2", "--dev",
			"memif:3", "--dev", "memif:4", "--dev", "memif:5", "--dev", "memif:6", "--dev",
			"memif:7"),
		"--dev: given more than 8 times; give fewer");
}

static void a_flood_has_one_device(void **state)
{
	char *argv[] = { "--dev", "memif:a", "--addr", "192.0.2.2/24", "--dev", "memif:b", "--addr",
		"198.51.100.2/24" };
	struct bw_flood_conf flood = { 0 };
	struct outcome outcome = { .conf = bw_conf_create() };
	struct bw_cidr range = { 0 };

	bw_conf_set_flood(outcome.conf, &flood, &range);
	outcome = configure_made(outcome.conf, BW_ARRAY_LEN(argv), argv);
	assert_int_equal(outcome.error, -EINVAL);
	assert_string_equal(
		outcome.said, "barewire: error: --dev: a flood goes out by one device; leave memif:b out\n");
	bw_conf_destroy(outcome.conf);
}

static void shared_addresses(void **state)
{
	REFUSED(NULL, FLAGS("--dev", "packet:eth7", "--echo", "7", "--gateway", "192.0.2.1"),
		"--gateway: without --addr the kernel's routes are used; set them there, with `ip route`, and leave this out");
	REFUSED(NULL, FLAGS("--dev", "xdp:eth7", "--echo", "192.0.2.2:7", "--discard", "7"),
		"--discard: port 7 is taken by --echo; give one of them another");
	REFUSED("steer:\n  block: [ 192.0.2.0 ]\n", FLAGS("--dev", "xdp:eth7", "--echo", "7"),
		"c.yaml:2: block: '192.0.2.0' is no prefix; give one such as 192.0.2.0/24, or 2001:db8::1/128 for an "
		"address alone");
	REFUSED("steer:\n  syns: 100\n",
		FLAGS("--dev", "packet:eth7", "--addr", "192.0.2.2/24", "--echo", "7"),
		"c.yaml:1: steer: packet:eth7 is not shared with the kernel, which is what keeps sources out: that is for "
		"xdp:IFACE, and for packet:IFACE without addresses");
}

static void the_kernel_beside_a_nic(void **state)
{
	REFUSED(NULL, FLAGS("--dev", "memif:s", "--exception", "a/b", "--echo", "7"),
		"--exception: 'a/b' is not an interface name; give 1 to 15 letters, digits, . _ -");
	REFUSED(NULL, FLAGS("--dev", "memif:s", "--exception", "of-16-characters", "--echo", "7"),
		"--exception: 'of-16-characters' is not an interface name; give 1 to 15 letters, digits, . _ -");
	REFUSED(NULL, FLAGS("--dev", "memif:s", "--exception", "eleven-long", "--vlan", "7", "--echo", "7"),
		"--exception: eleven-long leaves no room for the name of its VLAN's interface; give a shorter one");
	REFUSED("exception:\n  tap: bw0\n", FLAGS("--dev", "xdp:eth7", "--echo", "7"),
		"c.yaml:2: tap: xdp:eth7 leaves the kernel its interface, and with it all that is not served; leave this out");
	REFUSED(NULL, FLAGS("--dev", "net_af_packet0,iface=eth7", "--exception", "bw0", "--echo", "7"),
		"--exception: net_af_packet0,iface=eth7 leaves the kernel its interface, and with it all that is not served; "
		"leave this out");
	REFUSED(NULL, FLAGS("--exception", "bw0", "--echo", "7"),
		"--exception: tap has the kernel at its other end; leave this out, or give a --dev that DPDK has, such as "
		"pci:ADDR");
	REFUSED(NULL,
		FLAGS("--dev", "memif:s", "--exception", "bw0", "--echo", "7", "--gateway", "192.0.2.1"),
		"--gateway: without --addr the kernel's routes are used; set them there, with `ip route`, and leave this out");
	REFUSED(NULL,
		FLAGS("--dev", "memif:s", "--exception", "bw0", "--addr", "192.0.2.2/24", "--echo",
			"192.0.2.3:7"),
		"--echo: 192.0.2.3 is no address of ours; give one that is, or its --addr");
	REFUSED("exception:\n  packets: many\n", FLAGS("--echo", "7"),
		"c.yaml:2: packets: 'many' is not a whole number; give 0 to 100000000");
}

static void addresses(void **state)
{
	REFUSED(NULL, FLAGS("--addr", "300.1.2.3/24"),
		"--addr: '300.1.2.3/24' is no address with its prefix; give one such as 192.0.2.2/24 or "
		"2001:db8::2/64");
	REFUSED(NULL, FLAGS("--addr", "192.0.2.2/33"),
		"--addr: '192.0.2.2/33' is no address with its prefix; give one such as 192.0.2.2/24 or "
		"2001:db8::2/64");
	REFUSED(NULL, FLAGS("--addr", "192.0.2.2"),
		"--addr: '192.0.2.2' is no address with its prefix; give one such as 192.0.2.2/24 or 2001:db8::2/64");
	REFUSED(NULL, FLAGS("--addr", "192.0.2.0/24"),
		"--addr: 192.0.2.0/24 is the network itself; give an address of it, such as the next");
	REFUSED(NULL, FLAGS("--addr", "2001:db8::/64"),
		"--addr: 2001:db8::/64 is the network itself; give an address of it, such as the next");
	REFUSED(NULL, FLAGS("--addr", "192.0.2.255/24"),
		"--addr: 192.0.2.255/24 is the broadcast address of 192.0.2.0/24; give another");
	REFUSED(NULL, FLAGS("--addr", "224.0.0.1/24"),
		"--addr: 224.0.0.1/24 is no address that a host on a network can have; give another");
	REFUSED(NULL, FLAGS("--addr", "127.0.0.1/8"),
		"--addr: 127.0.0.1/8 is no address that a host on a network can have; give another");
	REFUSED(NULL, FLAGS("--addr", "192.0.2.2/24", "--addr", "192.0.2.2/25"),
		"--addr: 192.0.2.2/25 is there already; give every address once");
	REFUSED("addresses:\n  - 192.0.2.2/24\n  - 192.0.2.2/24\n", FLAGS("--echo", "7"),
		"c.yaml:3: addresses: 192.0.2.2/24 is there already; give every address once");
	REFUSED(NULL, FLAGS("--addr", "192.0.2.2/32"),
		"--addr: 192.0.2.2/32 leaves no address for the kernel's end of the tap; give a shorter prefix, such "
		"as /24");
	REFUSED(NULL, FLAGS("--addr", "192.0.2.2/31", "--addr", "192.0.2.3/31"),
		"--addr: 192.0.2.2/31 leaves no address for the kernel's end of the tap; give a shorter prefix, such "
		"as /24");
	REFUSED(NULL, FLAGS("--addr", "192.0.2.1/30", "--addr", "192.0.2.2/30"),
		"--addr: 192.0.2.1/30 leaves no address for the kernel's end of the tap; give a shorter prefix, such "
		"as /24");
	REFUSED("mtu: 1000\n", FLAGS("--echo", "7", "--addr", "2001:db8::2/64"),
		"c.yaml:1: mtu: 1000 is less than the 1280 that IPv6 needs; give more, or no IPv6 address "
		"(2001:db8::2/64)");
}

static void routes(void **state)
{
	REFUSED(NULL, FLAGS("--gateway", "nobody"),
		"--gateway: 'nobody' is no address; give one such as 192.0.2.1 or 2001:db8::1");
	REFUSED(NULL, FLAGS("--addr", "192.0.2.2/24", "--gateway", "198.51.100.1"),
		"--gateway: 198.51.100.1 is in no prefix of ours; give a gateway on the link, or an --addr near it");
	REFUSED("addresses: [192.0.2.2/24]\necho: [{port: 7}]\ngateways:\n- 198.51.100.1\n", FLAGS(),
		"c.yaml:4: gateways: 198.51.100.1 is in no prefix of ours; give a gateway on the link, or an --addr "
		"near it");
	REFUSED(NULL, FLAGS("--gateway", "198.18.77.2"),
		"--gateway: 198.18.77.2 is our own address; give the router's");
	REFUSED(NULL, FLAGS("--gateway", "198.18.77.1", "--gateway", "198.18.77.3"),
		"--gateway: there is a gateway for 0.0.0.0/0 already; give one");
	REFUSED(NULL, FLAGS("--gateway", "198.18.77.1", "--gateway", "fe80::1", "--gateway", "fe80::2"),
		"--gateway: given more than 2 times; give fewer");
	REFUSED(NULL, FLAGS("--route", "10.0.0.0/8"),
		"--route: '10.0.0.0/8' has no gateway; give CIDR,GATEWAY");
	REFUSED(NULL, FLAGS("--route", "10.0.0.0/40,198.18.77.1"),
		"--route: '10.0.0.0/40' is no prefix; give one such as 10.0.0.0/8");
	REFUSED(NULL, FLAGS("--route", "10.1.0.0/8,198.18.77.1"),
		"--route: 10.1.0.0/8 has bits behind its prefix; give 10.0.0.0/8");
	REFUSED(NULL, FLAGS("--route", "10.0.0.0/8,fe80::1"),
		"--route: 10.0.0.0/8 and fe80::1 are of two families; give a gateway of the prefix's");
	REFUSED("routes:\n  - prefix: 10.0.0.0/8\n", FLAGS("--echo", "7"),
		"c.yaml:2: routes: a route needs prefix and gateway; give both");
}

static void services(void **state)
{
	REFUSED(NULL, FLAGS("--mtu", "1500"),
		"serve: no service; give --http PORT, --resp PORT, --echo PORT or --discard PORT");
	REFUSED("mtu: 1500\n", FLAGS(),
		"c.yaml: no service; give --http PORT, --resp PORT, --echo PORT or --discard PORT");
	REFUSED(NULL, FLAGS("--http", "0"), "--http: 0 is out of range; give 1 to 65535");
	REFUSED(NULL, FLAGS("--echo", "65536"), "--echo: 65536 is out of range; give 1 to 65535");
	REFUSED(NULL, FLAGS("--http", "=/"), "--http: '' is not a whole number; give 1 to 65535");
	REFUSED("resp:\n  - port: 0\n", FLAGS(), "c.yaml:2: port: 0 is out of range; give 1 to 65535");
	REFUSED("http:\n  - root: /\n", FLAGS(), "c.yaml:2: http: no port; give port: 1 to 65535");
	REFUSED(NULL, FLAGS("--http", "8080", "--resp", "8080"),
		"--resp: port 8080 is taken by --http; give one of them another");
	REFUSED("http:\n  - port: 8080\n", FLAGS("--echo", "8080"),
		"--echo: port 8080 is taken by http (c.yaml:2); give one of them another");
	REFUSED("echo:\n  - port: 7\n  - port: 7\n", FLAGS(),
		"c.yaml:3: port: port 7 is taken by echo (c.yaml:2); give one of them another");
	REFUSED(NULL, FLAGS("--http", "192.0.2.2:80"),
		"--http: 192.0.2.2 is no address of ours; give one that is, or its --addr");
	REFUSED(NULL, FLAGS("--http", "0.0.0.0:80"),
		"--http: 0.0.0.0 is no address of ours; give one that is, or its --addr");
	REFUSED(NULL, FLAGS("--resp", "[fd77:ba5e::3]:80"),
		"--resp: fd77:ba5e::3 is no address of ours; give one that is, or its --addr");
	REFUSED(NULL, FLAGS("--echo", "localhost:7"),
		"--echo: 'localhost' is no address; give one of ours, such as 192.0.2.2 or 2001:db8::2");
	REFUSED(NULL, FLAGS("--echo", ":7"),
		"--echo: '' is no address; give one of ours, such as 192.0.2.2 or 2001:db8::2");
	REFUSED(NULL, FLAGS("--echo", "[]:7"),
		"--echo: '' is no address; give one of ours, such as 192.0.2.2 or 2001:db8::2");
	REFUSED(NULL, FLAGS("--echo", "]:7"),
		"--echo: ']' is no address; give one of ours, such as 192.0.2.2 or 2001:db8::2");
	REFUSED(NULL, FLAGS("--echo", "[fd77:ba5e::2]"),
		"--echo: '[fd77:ba5e::2]' has an IPv6 address without brackets or without a port; give "
		"[2001:db8::2]:80 or such");
	REFUSED(NULL, FLAGS("--http", "fd77:ba5e::2:80"),
		"--http: 'fd77:ba5e::2:80' has an IPv6 address without brackets or without a port; give "
		"[2001:db8::2]:80 or such");
	REFUSED(NULL, FLAGS("--http", "198.18.77.2:=/"), "--http: '' is not a whole number; give 1 to 65535");
	REFUSED("echo:\n  - port: 7\n    addresses:\n      - 198.18.77.2\n      - 198.18.77.2/24\n", FLAGS(),
		"c.yaml:5: addresses: '198.18.77.2/24' is no address; give one of ours, such as 192.0.2.2 or 2001:db8::2");
	REFUSED("echo:\n  - port: 7\n    addresses:\n      - 198.18.77.2\n      - 198.18.77.2\n", FLAGS(),
		"c.yaml:5: addresses: 198.18.77.2 is there already; give every address once");
	REFUSED("echo:\n  - port: 7\n    addresses: [198.18.77.2]\n", FLAGS("--resp", "198.18.77.2:7"),
		"c.yaml:2: port: port 7 is taken by --resp; give one of them another");
	REFUSED(NULL, FLAGS("--echo", "198.18.77.2:7", "--resp", "7"),
		"--echo: port 7 is taken by --resp; give one of them another");
	REFUSED(NULL, FLAGS("--http", "8080=/no/such/root"),
		"--http: document root /no/such/root: not there; give a directory that can be read");
	REFUSED(NULL, FLAGS("--http", "8080=/etc/passwd"),
		"--http: document root /etc/passwd: Not a directory; give a directory that can be read");
	REFUSED("http:\n  - port: 80\n    root: /no/such/root\n", FLAGS(),
		"c.yaml:3: root: document root /no/such/root: not there; give a directory that can be read");
	REFUSED("http:\n  - port: 80\n    request_line: 16K\n", FLAGS(),
		"c.yaml:3: request_line: request_line (16384) is part of header_bytes (8192) and cannot be more; give "
		"less of it");
	REFUSED("http:\n  - port: 80\n    constants:\n      - path: a\n        body: b\n", FLAGS(),
		"c.yaml:4: path: 'a' does not begin with /; give a path such as /health");
	REFUSED("http:\n  - port: 80\n    constants:\n      - path: /a\n", FLAGS(),
		"c.yaml:4: constants: a constant needs path and body; give both");
	REFUSED("http:\n  - port: 80\n    constants:\n      - {path: /, body: b, type: \"a\\r\\nb\"}\n",
		FLAGS(), "c.yaml:4: type: has a control character; give one such as text/plain");
	REFUSED("http:\n  - port: 80\n    constants:\n      - {path: /, body: b}\n      - {path: /, body: c}\n",
		FLAGS(), "c.yaml:5: constants: / is there already; give every path once");
	REFUSED("resp:\n  - port: 6379\n    memory: lots\n", FLAGS(),
		"c.yaml:3: memory: 'lots' is not a size in bytes, KiB, MiB or GiB; give 1MiB to 1024GiB");
	REFUSED("resp:\n  - port: 6379\n    maxmemory_policy: maybe\n", FLAGS(),
		"c.yaml:3: maxmemory_policy: 'maybe' is no way to make room; give allkeys-lru, allkeys-lfu, volatile-ttl or noeviction");
	REFUSED("resp:\n  - port: 6379\n    protected_mode: maybe\n", FLAGS(),
		"c.yaml:3: protected_mode: 'maybe' is neither true nor false; give one of them");
	REFUSED("tcp:\n  congestion_control: vegas\n", FLAGS("--echo", "7"),
		"c.yaml:2: congestion_control: 'vegas' is no congestion control; give cubic, newreno or dctcp");
	REFUSED("tcp:\n  congestion_control: dctcp\n  ecn: off\n", FLAGS("--echo", "7"),
		"c.yaml:2: congestion_control: dctcp needs ECN; give tcp.ecn: true, or another congestion control");
	REFUSED("tcp:\n  ecn: false\necho:\n  - port: 7\n    congestion_control: dctcp\n", FLAGS(),
		"c.yaml:5: congestion_control: dctcp needs ECN; give tcp.ecn: true, or another congestion control");
	REFUSED("echo:\n  - port: 7\n    congestion_control: default\n", FLAGS(),
		"c.yaml:3: congestion_control: 'default' is no congestion control; give cubic, newreno or dctcp");
	REFUSED("resp:\n  - port: 6379\n    memory: 1M\n    bulk: 2M\n", FLAGS(),
		"c.yaml:3: memory: resp on 1 worker needs 17MiB to 65536MiB of memory; give that, or another bulk or number "
		"of workers");
	REFUSED("resp:\n  - port: 6379\n    bulk: 16M\n", FLAGS("--workers", "2", "--cpus", "0-1"),
		"c.yaml:3: bulk: resp on 2 workers needs 258MiB to 131072MiB of memory; give that, or another bulk or number "
		"of workers");
	REFUSED("resp:\n  - port: 6379\n    memory: 65G\n", FLAGS(),
		"c.yaml:3: memory: resp on 1 worker needs 5MiB to 65536MiB of memory; give that, or another bulk or number "
		"of workers");
}

/* What the start would refuse, check does. */
static void what_only_the_start_would_see(void **state)
{
	static const char *const files[] = { "resp:\n  - port: 6379\n    password_file",
		"http:\n  - port: 80\n    mime_types", "http:\n  - port: 80\n    access_log" };
	char text[200], expected[200];

	for (unsigned i = 0; i < BW_ARRAY_LEN(files); i++) {
		const char *key = strrchr(files[i], ' ') + 1,
			   *other = i == 2 ? ", or - for standard output" : "";

		snprintf(text, sizeof(text), "%s: ''\n", files[i]);
		snprintf(expected, sizeof(expected),
			"c.yaml:3: %s: is empty; give a path%s, or leave the key out", key, other);
		REFUSED(text, FLAGS(), expected);
		snprintf(text, sizeof(text), "%s: /\n", files[i]);
		snprintf(expected, sizeof(expected), "c.yaml:3: %s: / is a directory; give a file", key);
		REFUSED(text, FLAGS(), expected);
	}
	REFUSED("http:\n  - port: 80\n    constants:\n      - {path: /, body: b, type: ''}\n", FLAGS(),
		"c.yaml:4: type: is empty; give one such as text/plain, or leave the key out");
	REFUSED("http:\n  - port: 80\n    index: ''\n", FLAGS(),
		"http: index '' is not a file name: give one without a slash, such as index.html");
	REFUSED("http:\n  - port: 80\n    index: ..\n", FLAGS(),
		"http: index '..' is not a file name: give one without a slash, such as index.html");
	REFUSED("http:\n  - port: 80\n    charset: ''\n", FLAGS(),
		"http: charset '' is no name of one: give one such as utf-8, or off");
	REFUSED("http:\n  - port: 80\n    hosts:\n      - {names: [a], index: ''}\n", FLAGS(),
		"http: index '' is not a file name: give one without a slash, such as index.html");
	REFUSED("http:\n  - port: 80\n    hosts:\n      - names: ['']\n", FLAGS(),
		"http: '' is no name of a host; give one in lower case and without a port, such as www.example.org or "
		"*.example.org");
	REFUSED("http:\n  - port: 80\n    hosts:\n      - names: [a]\n      - names: [b, a]\n", FLAGS(),
		"http: two hosts are named a; take it from one");
	REFUSED("http:\n  - port: 80\n    routes:\n      - {path: /a, handler: echo}\n      - {path: /a, handler: health}\n",
		FLAGS(), "http: two routes for the same methods of /a; remove one");
}

static void a_document_root_without_permission(void **state)
{
	uid_t user = geteuid();

	assert_int_equal(mkdir("secret", 0), 0);
	/* Root reads everything: become nobody for this one call. */
	if (user == 0)
		assert_int_equal(seteuid(65534), 0);
	REFUSED(NULL, FLAGS("--http", "80=secret"),
		"--http: document root secret: Permission denied; give a directory that can be read");
	assert_int_equal(seteuid(user), 0);
	assert_int_equal(rmdir("secret"), 0);
}

static void cpus(void **state)
{
	cpu_set_t all, one;
	unsigned first = CPU_SETSIZE;

	assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
	for (unsigned cpu = CPU_SETSIZE; cpu-- > 0;)
		if (CPU_ISSET(cpu, &all))
			first = cpu;
	CPU_ZERO(&one);
	CPU_SET(first, &one);
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	/* Isolated CPUs would count beside it; machines that run tests have none. */
	if (access("/sys/devices/system/cpu/isolated", R_OK) == 0) {
		REFUSED(NULL, FLAGS("--workers", "2"), "--workers: 2 workers, but 1 CPUs; give 1 to 1");
		REFUSED("workers: 2\n", FLAGS("--echo", "7"),
			"c.yaml:1: workers: 2 workers, but 1 CPUs; give 1 to 1");
	}
	assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
	REFUSED(NULL, FLAGS("--cpus", "1,a"),
		"--cpus: '1,a' is not a list of CPUs; give one such as 2,4-6, each once");
	REFUSED(NULL, FLAGS("--cpus", "0,0"),
		"--cpus: '0,0' is not a list of CPUs; give one such as 2,4-6, each once");
	REFUSED(NULL, FLAGS("--cpus", "3-1"),
		"--cpus: '3-1' is not a list of CPUs; give one such as 2,4-6, each once");
	REFUSED(NULL, FLAGS("--cpus", ""),
		"--cpus: '' is not a list of CPUs; give one such as 2,4-6, each once");
	REFUSED(NULL, FLAGS("--cpus", "1023"),
		"--cpus: CPU 1023 is not there, or not for this process; lscpu -e and taskset -p $$ tell which are");
	REFUSED(NULL, FLAGS("--cpus", "900-1000"),
		"--cpus: 101 CPUs are more than the 64 workers there can be; give fewer");
	REFUSED(NULL, FLAGS("--cpus", "0", "--workers", "3"),
		"--workers: 3 workers on 1 CPUs; leave it out, or list one CPU a worker");
}

static void files(void **state)
{
	REFUSED(NULL, FLAGS("-c", "none.yaml"),
		"-c: none.yaml: No such file or directory; give a YAML file that can be read");
	REFUSED(NULL, FLAGS("-c", "/"), "-c: /: Is a directory; give a YAML file that can be read");
	REFUSED("workers: 1\nwrokers: 1\n", FLAGS(),
		"c.yaml:2: wrokers: no such key here; did you mean workers?");
	REFUSED("workers: 1\nfrobnicate: 1\n", FLAGS(),
		"c.yaml:2: frobnicate: no such key here; docs/configuration.md lists them");
	REFUSED("http:\n  - port: 80\n    rot: /\n", FLAGS(),
		"c.yaml:3: rot: no such key here; did you mean root?");
	REFUSED("mtu: 1500\n\nmtu: 1400\n", FLAGS(),
		"c.yaml:3: mtu: already given in line 1; remove one of the two");
	REFUSED("workers: many\n", FLAGS(), "c.yaml:1: workers: 'many' is not a whole number; give 1 to 64");
	REFUSED("# one\nworkers:\n", FLAGS(), "c.yaml:2: workers: '' is not a whole number; give 1 to 64");
	REFUSED("workers: [1]\n", FLAGS(),
		"c.yaml:1: workers: wants one value, not a list; docs/configuration.md shows the shape");
	REFUSED("workers: 1\nhttp: 80\n", FLAGS(),
		"c.yaml:2: http: wants a list, not one value; docs/configuration.md shows the shape");
	REFUSED("http:\n  - 80\n", FLAGS(),
		"c.yaml:2: http: wants keys with values, not one value; docs/configuration.md shows the shape");
	REFUSED("- 80\n", FLAGS(),
		"c.yaml:1: the file: wants keys with values, not a list; docs/configuration.md shows the shape");
	REFUSED("gateways: [a, b, c]\n", FLAGS(), "c.yaml:1: gateways: more than 2 entries; remove some");
	REFUSED("workers: 1\n\tservices: {\n", FLAGS(),
		"c.yaml:2: not YAML: found a tab character that violates indentation; correct it");
	REFUSED("mac: &m 02:00:00:00:00:01\ndevice: *m\n", FLAGS(),
		"c.yaml:2: aliases are not understood; write the value out");
	REFUSED("mtu: 1500\n---\nmtu: 1400\n", FLAGS(),
		"c.yaml:2: a second document; one file is one configuration");
	REFUSED("device: \"a\\0b\"\n", FLAGS(), "c.yaml:1: a NUL character; remove it");
	REFUSED("? [a]\n: b\n", FLAGS(),
		"c.yaml:1: nested more deeply than any key; docs/configuration.md shows the shape");
	REFUSED("tcp:\n  syn_cookies: yes\n", FLAGS(),
		"c.yaml:2: syn_cookies: 'yes' is no time to send SYN cookies; give auto, off or always");
	REFUSED("tcp:\n  connections: 1\nnetwork:\n  fragment_timeout: 5s\n", FLAGS(),
		"c.yaml:4: fragment_timeout: 5s is out of range; give 15s to 60s");
}

/** The worst that a file can hold is one line. */
static void a_value_of_many_lines(void **state)
{
	REFUSED("device: \"a\\nb\\e[31m\"\n", FLAGS(),
		"c.yaml:1: device: 'a?b?[31m' is no kind of device; give tap, packet:IFACE, xdp:IFACE, memif:SOCKET, "
		"vhost:SOCKET, virtio:SOCKET, ring, pcap:IN,OUT, pci:ADDR, bond:MODE,DEV,DEV, auto or net_... devargs");
}

static void a_file_that_never_ends(void **state)
{
	REFUSED(NULL, FLAGS("-c", "/dev/zero"),
		"-c: /dev/zero: larger than 1048576 bytes; give a configuration file");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(flags),
		cmocka_unit_test(values_of_flags),
		cmocka_unit_test(devices),
		cmocka_unit_test(several_devices),
		cmocka_unit_test(a_flood_has_one_device),
		cmocka_unit_test(shared_addresses),
		cmocka_unit_test(the_kernel_beside_a_nic),
		cmocka_unit_test(addresses),
		cmocka_unit_test(routes),
		cmocka_unit_test(services),
		cmocka_unit_test(a_document_root_without_permission),
		cmocka_unit_test(what_only_the_start_would_see),
		cmocka_unit_test(cpus),
		cmocka_unit_test(files),
		cmocka_unit_test(a_value_of_many_lines),
		cmocka_unit_test(a_file_that_never_ends),
	};

	return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
