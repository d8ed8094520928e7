/* SPDX-License-Identifier: BSD-3-Clause */
/* What --dev understands, and the one line it answers with when it does not. */
#include "capture.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <nic/machine.h>
#include <nic/nic.h>

#include "internal.h"

static struct bw_nic_plan plan;
static char dir[] = "/tmp/bw-plan-XXXXXX";

#define PREFIX "barewire: error: "

/* Plans, and expects the code and exactly this on stderr ("" for silence). */
static void expect(const char *spec, unsigned queues, int rc, const char *text)
{
	int got;

	capture_begin();
	got = bw_nic_plan(spec, queues, &plan);
	assert_string_equal(capture_end(), text);
	assert_int_equal(got, rc);
}

static void plans_that_need_nothing(void **unused)
{
	expect("ring", 3, 0, "");
	assert_int_equal(plan.kind, BW_NIC_RING);
	assert_int_equal(plan.queues_max, 3);
	assert_string_equal(plan.spec, "ring");
	assert_string_equal(plan.reason, "");
	assert_false(plan.is_pci);

	expect("ring", 40, 0, "");
	assert_int_equal(plan.queues_max, 16);

	expect("net_null0,size=100", 2, 0, "");
	assert_int_equal(plan.kind, BW_NIC_VDEV);
	assert_string_equal(plan.devargs, "net_null0,size=100");
}

static void nonsense_is_named(void **unused)
{
	expect("bogus", 1, -EINVAL,
		PREFIX
		"--dev bogus: not a device; write auto, tap[:NAME], packet:IFACE, xdp:IFACE, memif:SOCKET, "
		"vhost:SOCKET, virtio:SOCKET, ring, pcap:IN,OUT, pci:ADDR, bond:MODE,DEV,DEV or net_DRIVER,k=v\n");
	expect("ring:1", 1, -EINVAL,
		PREFIX
		"--dev ring:1: not a device; write auto, tap[:NAME], packet:IFACE, xdp:IFACE, memif:SOCKET, "
		"vhost:SOCKET, virtio:SOCKET, ring, pcap:IN,OUT, pci:ADDR, bond:MODE,DEV,DEV or net_DRIVER,k=v\n");
	expect("tap:a/b", 1, -EINVAL,
		PREFIX "--dev tap:a/b: \"a/b\" is not an interface name: 1 to 15 letters, digits, . _ -\n");
	expect("tap:sixteen-letters-", 1, -EINVAL,
		PREFIX
		"--dev tap:sixteen-letters-: \"sixteen-letters-\" is not an interface name: 1 to 15 letters, "
		"digits, . _ -\n");
	expect("packet:no-such-if", 1, -ENODEV,
		PREFIX
		"--dev packet:no-such-if: there is no interface no-such-if; `ip link` lists the interfaces\n");
	expect("xdp:no-such-if", 1, -ENODEV,
		PREFIX
		"--dev xdp:no-such-if: there is no interface no-such-if; `ip link` lists the interfaces\n");
	expect("xdp:no-such-if,copy=2", 1, -EINVAL,
		PREFIX "--dev xdp:no-such-if,copy=2: copy must be a number from 0 to 1, not \"2\"\n");
	expect("xdp:no-such-if,busy_poll=70000", 1, -EINVAL,
		PREFIX
		"--dev xdp:no-such-if,busy_poll=70000: busy_poll must be a number from 0 to 65535, not \"70000\"\n");
	expect("xdp:no-such-if,zero=1", 1, -EINVAL,
		PREFIX
		"--dev xdp:no-such-if,zero=1: unknown option \"zero=1\"; xdp:IFACE takes busy_poll, copy\n");
	expect("packet:", 1, -EINVAL,
		PREFIX "--dev packet:: \"\" is not an interface name; `ip link` lists the interfaces\n");
	expect("packet:a,qpairs=9", 1, -EINVAL,
		PREFIX
		"--dev packet:a,qpairs=9: \"a,qpairs=9\" is not an interface name; `ip link` lists the "
		"interfaces\n");
	expect("packet:lo", 1, -EINVAL, PREFIX "--dev packet:lo: lo is not an Ethernet interface\n");
}

static void a_spec_is_bounded(void **unused)
{
	char spec[400];

	memset(spec, 'x', sizeof(spec) - 1);
	spec[sizeof(spec) - 1] = '\0';
	memcpy(spec, "memif:/", 7);
	capture_begin();
	assert_int_equal(bw_nic_plan(spec, 1, &plan), -EINVAL);
	assert_non_null(strstr(capture_end(), "longer than 255 bytes\n"));
}

static void pci_addresses(void **unused)
{
	expect("pci:nonsense", 1, -EINVAL,
		PREFIX
		"--dev pci:nonsense: \"nonsense\" is not a PCI address such as 0000:03:00.0; `barewire doctor` "
		"lists the NICs\n");
	expect("pci:00:20.0", 1, -EINVAL,
		PREFIX
		"--dev pci:00:20.0: \"00:20.0\" is not a PCI address such as 0000:03:00.0; `barewire doctor` "
		"lists the NICs\n");
	expect("pci:fe:1f.7", 1, -ENODEV,
		PREFIX
		"--dev pci:fe:1f.7: there is no PCI device 0000:fe:1f.7; `barewire doctor` lists the NICs\n");
}

static void bonds(void **unused)
{
	expect("bond:active-backup,net_a,net_b", 3, 0, "");
	assert_int_equal(plan.kind, BW_NIC_BOND);
	assert_int_equal(plan.queues_max, 3);
	assert_int_equal(plan.member_count, 2);
	assert_string_equal(plan.members[1], "net_b");
	assert_string_equal(plan.devargs, "net_bonding0,mode=1,xmit_policy=l34,slave=net_a,slave=net_b");
	assert_false(plan.is_pci);
	assert_int_equal(bw_nic_has_default_route(&plan), -EOPNOTSUPP);
	expect("bond:balance-xor,net_a,net_b,net_c", 1, 0, "");
	assert_non_null(strstr(plan.devargs, ",mode=2,"));
	expect("bond:802.3ad,net_a,net_b", 1, 0, "");
	assert_non_null(strstr(plan.devargs, ",mode=4,"));

	expect("bond", 1, -EINVAL,
		PREFIX
		"--dev bond: \"\" is no mode of a bond; write bond:MODE,DEV,DEV with active-backup, balance-xor or "
		"802.3ad\n");
	expect("bond:lacp,net_a,net_b", 1, -EINVAL,
		PREFIX
		"--dev bond:lacp,net_a,net_b: \"lacp\" is no mode of a bond; write bond:MODE,DEV,DEV with "
		"active-backup, balance-xor or 802.3ad\n");
	expect("bond:802.3ad,net_a", 1, -EINVAL,
		PREFIX "--dev bond:802.3ad,net_a: a bond has two members or more; write bond:MODE,DEV,DEV\n");
	expect("bond:802.3ad,net_a,eth0", 1, -EINVAL,
		PREFIX
		"--dev bond:802.3ad,net_a,eth0: \"eth0\" is no member; write pci:ADDR, or net_NAME of a device behind "
		"\"--\"; a bond of the kernel's is xdp:bond0 or packet:bond0\n");
	expect("bond:802.3ad,net_a,net_b,net_a", 1, -EINVAL,
		PREFIX "--dev bond:802.3ad,net_a,net_b,net_a: net_a is named twice; leave one of them out\n");
	expect("bond:802.3ad,pci:fe:1f.7,net_a", 1, -ENODEV,
		PREFIX
		"--dev bond:802.3ad,pci:fe:1f.7,net_a: there is no PCI device 0000:fe:1f.7; `barewire doctor` lists "
		"the NICs\n");
	expect("bond:802.3ad,net_1,net_2,net_3,net_4,net_5,net_6,net_7,net_8,net_9", 1, -EINVAL,
		PREFIX
		"--dev bond:802.3ad,net_1,net_2,net_3,net_4,net_5,net_6,net_7,net_8,net_9: net_9 is one member too "
		"many, or its name is too long; at most 8, of 31 letters\n");
}

static void memif_options(void **unused)
{
	char spec[128], want[512], path[64];

	snprintf(path, sizeof(path), "%s/m.sock", dir);
	snprintf(spec, sizeof(spec), "memif:%s", path);
	expect(spec, 4, 0, "");
	assert_int_equal(plan.kind, BW_NIC_MEMIF);
	assert_int_equal(plan.queues_max, 1);
	snprintf(want, sizeof(want),
		"net_memif0,role=server,id=0,bsize=2048,rsize=10,socket-abstract=no,socket=%s", path);
	assert_string_equal(plan.devargs, want);

	snprintf(spec, sizeof(spec), "memif:%s,role=client,id=7,bsize=4096,rsize=11,queues=2,zc=1", path);
	expect(spec, 2, 0, "");
	assert_int_equal(plan.queues_max, 2);
	snprintf(want, sizeof(want),
		"net_memif0,role=client,id=7,bsize=4096,rsize=11,socket-abstract=no,socket=%s,zero-copy=yes",
		path);
	assert_string_equal(plan.devargs, want);

	snprintf(spec, sizeof(spec), "memif:%s,role=master", path);
	snprintf(
		want, sizeof(want), PREFIX "--dev %s: role must be server or client, not \"master\"\n", spec);
	expect(spec, 1, -EINVAL, want);

	snprintf(spec, sizeof(spec), "memif:%s,id=-1", path);
	snprintf(want, sizeof(want),
		PREFIX "--dev %s: id must be a number from 0 to 2147483647, not \"-1\"\n", spec);
	expect(spec, 1, -EINVAL, want);

	snprintf(spec, sizeof(spec), "memif:%s,rsize=15", path);
	snprintf(want, sizeof(want), PREFIX "--dev %s: rsize must be a number from 1 to 14, not \"15\"\n",
		spec);
	expect(spec, 1, -EINVAL, want);

	snprintf(spec, sizeof(spec), "memif:%s,speed=1", path);
	snprintf(want, sizeof(want),
		PREFIX
		"--dev %s: unknown option \"speed=1\"; memif:SOCKET takes role, id, bsize, rsize, queues, zc\n",
		spec);
	expect(spec, 1, -EINVAL, want);

	snprintf(spec, sizeof(spec), "memif:%s,zc=1", path);
	snprintf(want, sizeof(want),
		PREFIX "--dev %s: zc=1 is the client's: the server copies; add role=client or leave it out\n",
		spec);
	expect(spec, 1, -EINVAL, want);

	expect("memif:", 1, -EINVAL, PREFIX "--dev memif:: no socket is named; write memif:SOCKET, a path\n");
	expect("memif:/no-such-dir/m", 1, -ENODEV,
		PREFIX "--dev memif:/no-such-dir/m: the socket's directory: No such file or directory\n");
}

/* The SPEC is `form` with the folder's socket and these options; the error is what comes behind the SPEC. */
static void expect_socket(const char *form, const char *options, unsigned workers, int rc, const char *error)
{
	char spec[160], want[512] = "";

	snprintf(spec, sizeof(spec), "%s:%s/v.sock%s", form, dir, options);
	if (rc != 0)
		snprintf(want, sizeof(want), PREFIX "--dev %s: %s\n", spec, error);
	expect(spec, workers, rc, want);
}

static void expect_devargs(const char *format)
{
	char want[256], path[64];

	snprintf(path, sizeof(path), "%s/v.sock", dir);
	snprintf(want, sizeof(want), format, path);
	assert_string_equal(plan.devargs, want);
	assert_string_equal(plan.socket, path);
	assert_false(plan.is_pci);
	assert_int_equal(plan.port_count, 1);
}

/* The back-end makes the socket unless told, with a queue for each worker; the guest may use fewer. */
static void vhost_options(void **unused)
{
	expect_socket("vhost", "", 3, 0, "");
	assert_int_equal(plan.kind, BW_NIC_VHOST);
	assert_int_equal(plan.queues_max, 3);
	expect_devargs("net_vhost0,iface=%s,queues=3,client=0");
	expect_socket("vhost", ",role=client,queues=2", 3, 0, "");
	assert_int_equal(plan.queues_max, 2);
	expect_devargs("net_vhost0,iface=%s,queues=2,client=1");
	expect_socket("vhost", ",role=server", 1, 0, "");
	expect_devargs("net_vhost0,iface=%s,queues=1,client=0");

	expect_socket("vhost", ",role=master", 1, -EINVAL, "role must be server or client, not \"master\"");
	expect_socket("vhost", ",queues=0", 1, -EINVAL, "queues must be a number from 1 to 64, not \"0\"");
	expect_socket("vhost", ",queues=2", 1, -EINVAL,
		"queues=2, but there are 1 workers to look after them; give fewer, or: --workers 2");
	expect_socket(
		"vhost", ",id=1", 1, -EINVAL, "unknown option \"id=1\"; vhost:SOCKET takes role, queues");
	expect_socket("vhost", ",", 1, -EINVAL, "unknown option \"\"; vhost:SOCKET takes role, queues");
	expect("vhost:", 1, -EINVAL, PREFIX "--dev vhost:: no socket is named; write vhost:SOCKET, a path\n");
	expect("vhost:/no-such-dir/m", 1, -ENODEV,
		PREFIX "--dev vhost:/no-such-dir/m: the socket's directory: No such file or directory\n");
}

/* The front-end connects unless told, with one queue, since it may not ask for more than there are. */
static void virtio_options(void **unused)
{
	expect_socket("virtio", "", 3, 0, "");
	assert_int_equal(plan.kind, BW_NIC_VIRTIO);
	assert_int_equal(plan.queues_max, 1);
	expect_devargs("net_virtio_user0,path=%s,queues=1,queue_size=1024,server=0");
	expect_socket("virtio", ",role=server,queues=2", 2, 0, "");
	assert_int_equal(plan.queues_max, 2);
	expect_devargs("net_virtio_user0,path=%s,queues=2,queue_size=1024,server=1");

	expect_socket("virtio", ",queues=9", 16, -EINVAL, "queues must be a number from 1 to 8, not \"9\"");
	expect_socket(
		"virtio", ",zc=1", 1, -EINVAL, "unknown option \"zc=1\"; virtio:SOCKET takes role, queues");
	expect("virtio:", 1, -EINVAL,
		PREFIX "--dev virtio:: no socket is named; write virtio:SOCKET, a path\n");
}

static void a_socket_path_is_bounded(void **unused)
{
	char spec[256], want[640];
	int head;

	head = snprintf(spec, sizeof(spec), "vhost:%s/", dir);
	memset(spec + head, 'x', 120);
	spec[head + 120] = '\0';
	snprintf(want, sizeof(want), PREFIX "--dev %s: the socket's path has more than 107 bytes: %.120s\n",
		spec, spec + strlen("vhost:"));
	expect(spec, 1, -EINVAL, want);
}

/* Who listens is not bothered by a second one that wants the path, nor by a client that has not come yet. */
static void vhost_socket_files(void **unused)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	char error[256];
	struct stat st;
	FILE *file;
	int fd;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/v.sock", dir);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 1), 0);
	snprintf(error, sizeof(error),
		"another process listens on %s; stop it, name another path, or be its client with role=client",
		addr.sun_path);
	expect_socket("vhost", "", 1, -EBUSY, error);
	expect_socket("virtio", ",role=server", 1, -EBUSY, error);
	expect_socket("vhost", ",role=client", 1, 0, "");
	expect_socket("virtio", "", 1, 0, "");
	assert_int_equal(accept(fd, NULL, NULL), -1);
	assert_int_equal(errno, EAGAIN);

	/* Nobody does any more: a client waits for who comes, a server removes the file. */
	close(fd);
	expect_socket("virtio", "", 1, 0, "");
	assert_int_equal(stat(addr.sun_path, &st), 0);
	expect_socket("vhost", "", 1, 0, "");
	assert_int_not_equal(stat(addr.sun_path, &st), 0);

	file = fopen(addr.sun_path, "w");
	assert_non_null(file);
	fclose(file);
	snprintf(error, sizeof(error), "%s exists and is not a socket; name another path", addr.sun_path);
	expect_socket("vhost", "", 1, -EBUSY, error);
	expect_socket("virtio", "", 1, -EBUSY, error);
	assert_int_equal(unlink(addr.sun_path), 0);
}

static void memif_socket_files(void **unused)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	char spec[128], want[512];
	struct stat st;
	FILE *file;
	int fd;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/s", dir);
	snprintf(spec, sizeof(spec), "memif:%s", addr.sun_path);

	/* Somebody listens. */
	fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 1), 0);
	snprintf(want, sizeof(want),
		PREFIX
		"--dev %s: another process listens on %s; stop it, name another path, or be its client with "
		"role=client\n",
		spec, addr.sun_path);
	expect(spec, 1, -EBUSY, want);

	/* Nobody does any more: the file is removed. */
	close(fd);
	assert_int_equal(stat(addr.sun_path, &st), 0);
	expect(spec, 1, 0, "");
	assert_int_not_equal(stat(addr.sun_path, &st), 0);

	/* A file of the user's is not. */
	file = fopen(addr.sun_path, "w");
	assert_non_null(file);
	fclose(file);
	snprintf(want, sizeof(want), PREFIX "--dev %s: %s exists and is not a socket; name another path\n",
		spec, addr.sun_path);
	expect(spec, 1, -EBUSY, want);
	assert_int_equal(unlink(addr.sun_path), 0);
}

static void pcap_files(void **unused)
{
	char spec[128], want[256];
	FILE *file;

	expect("pcap:only-one", 1, -EINVAL,
		PREFIX "--dev pcap:only-one: write pcap:IN,OUT, two file names without commas\n");
	expect("pcap:a,b,c", 1, -EINVAL,
		PREFIX "--dev pcap:a,b,c: write pcap:IN,OUT, two file names without commas\n");
	expect("pcap:/no/such,x", 1, -ENODEV,
		PREFIX "--dev pcap:/no/such,x: cannot read /no/such: No such file or directory\n");

	snprintf(want, sizeof(want), "%s/in", dir);
	file = fopen(want, "w");
	assert_non_null(file);
	fclose(file);
	snprintf(spec, sizeof(spec), "pcap:%s/in,%s/out", dir, dir);
	expect(spec, 4, 0, "");
	assert_int_equal(plan.kind, BW_NIC_PCAP);
	assert_int_equal(plan.queues_max, 1);
	assert_int_equal(unlink(want), 0);
}

static void memory_grows_with_workers_and_mtu(void **unused)
{
	unsigned one, two, large;

	expect("ring", 1, 0, "");
	one = bw_nic_memory_mib(&plan, 1, 0, 0);
	two = bw_nic_memory_mib(&plan, 2, 0, 0);
	assert_true(one >= 16384u * 2432 >> 20);
	assert_true(two > one && two < 2 * one);
	assert_int_equal(bw_nic_memory_mib(&plan, 1, 0, 9000), one); /* rings carry chains */
	plan.kind = BW_NIC_MEMIF;
	large = bw_nic_memory_mib(&plan, 1, 0, 9000);
	assert_true(large > one + 100);
}

static void make(const char *device, const char *below)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", device, below);
	assert_int_equal(mkdir(path, 0700), 0);
}

static void unmake(const char *device, const char *below)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", device, below);
	assert_int_equal(rmdir(path), 0);
}

/*
 * SR-IOV: of a virtual function, the interfaces of the physical one and of the others are asked about as well. And
 * virtio's interface is not the PCI device's own but of the virtio device on it.
 */
static void functions_of_one_nic_hang_together(void **unused)
{
	static const char *const folders[] = { "net", "virtio2", "virtio2/net", "physfn", "physfn/net",
		"physfn/virtfn0", "physfn/virtfn1", "physfn/virtfn1/net" };
	static const char *const interfaces[] = { "net/nosuch0", "virtio2/net/nosuch0", "physfn/net/nosuch0",
		"physfn/virtfn1/net/nosuch0" };
	char device[64];

	snprintf(device, sizeof(device), "%s/0000:01:10.0", dir);
	assert_int_equal(mkdir(device, 0700), 0);
	for (unsigned i = 0; i < BW_ARRAY_LEN(folders); i++)
		make(device, folders[i]);
	assert_int_equal(bw_nic__device_has_default_route(device), 0);
	for (unsigned i = 0; i < BW_ARRAY_LEN(interfaces); i++) {
		make(device, interfaces[i]);
		assert_int_equal(bw_nic__device_has_default_route(device), -ENODEV);
		unmake(device, interfaces[i]);
	}
	for (unsigned i = BW_ARRAY_LEN(folders); i-- > 0;)
		unmake(device, folders[i]);
	assert_int_equal(rmdir(device), 0);
}

static void the_machine(void **unused)
{
	static struct bw_machine machine;

	memset(&machine, 0xff, sizeof(machine));
	bw_machine_read(&machine);
	assert_int_equal(machine.cpus_online, sysconf(_SC_NPROCESSORS_ONLN));
	assert_true(machine.memory_bytes > 64 << 20);
	assert_true(machine.numa_nodes >= 1);
	assert_true(machine.hugepages_2m_free <= machine.hugepages_2m_total);
	assert_true(machine.kernel_release[0] != '\0');
	assert_true(machine.cpu_model[0] != '\0');
	assert_int_equal(machine.is_root, geteuid() == 0);
	assert_true(machine.has_af_packet);
	assert_true(machine.nic_count <= BW_MACHINE_NICS_MAX);
	for (unsigned i = 0; i < machine.nic_count; i++) {
		const struct bw_machine_nic *nic = &machine.nics[i];

		assert_true(nic->iface[0] != '\0' || nic->pci_addr[0] != '\0');
		assert_string_not_equal(nic->iface, "lo");
		assert_true(memchr(nic->driver, '\0', sizeof(nic->driver)) != NULL);
		assert_true(nic->numa_node >= -1);
		for (unsigned k = 0; k < i && nic->pci_addr[0] != '\0' && nic->iface[0] == '\0'; k++)
			assert_string_not_equal(nic->pci_addr, machine.nics[k].pci_addr);
		if (nic->iface[0] != '\0')
			assert_true(nic->queues >= 1);
	}
}

static int make_dir(void **unused)
{
	return mkdtemp(dir) != NULL ? 0 : -1;
}

static int remove_dir(void **unused)
{
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plans_that_need_nothing),
		cmocka_unit_test(nonsense_is_named),
		cmocka_unit_test(a_spec_is_bounded),
		cmocka_unit_test(pci_addresses),
		cmocka_unit_test(bonds),
		cmocka_unit_test(memif_options),
		cmocka_unit_test(memif_socket_files),
		cmocka_unit_test(vhost_options),
		cmocka_unit_test(virtio_options),
		cmocka_unit_test(a_socket_path_is_bounded),
		cmocka_unit_test(vhost_socket_files),
		cmocka_unit_test(pcap_files),
		cmocka_unit_test(memory_grows_with_workers_and_mtu),
		cmocka_unit_test(functions_of_one_nic_hang_together),
		cmocka_unit_test(the_machine),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
