# SPDX-License-Identifier: BSD-3-Clause
"""Links that differ from the usual one: small and large MTU, VLAN tags, open checksums, routers on the way."""

import random
import socket
import time

import pytest

from clients import download, udp_socket
from conftest import ECHO, FAMILIES, HERE, HTTP, V4, V4_CLIENT, V6_CLIENT
from lab import link


# Debian's rte_ip_frag puts together at most 8 fragments, which an MTU of 576 fills with 4,416 bytes.
PING_BYTES = {576: 4000}


def transfer(bench, files, family, ping_bytes=8000):
    download(bench.client, bench.url(family, "20m"), files / "20m")
    bench.client.run(["/usr/bin/python3", HERE / "clients.py", "echo", FAMILIES[family], ECHO, files / "1m"])
    bench.client.run(["ping", "-c", 3, "-i", 0.05, "-W", 3, "-s", ping_bytes, FAMILIES[family]])


# No 9000 on memif: not for Barewire's sake, but the bridge's TAP is DPDK's, which stops at 1500.
@pytest.mark.parametrize("device, mtu", [(device, mtu) for device in ("tap", "packet", "memif")
                                         for mtu in (576, 1280, 9000) if (device, mtu) != ("memif", 9000)])
def test_mtu(bench, files, device, mtu):
    bench.serve(device, [f"--http {HTTP}={files}", f"--echo {ECHO}"], extra=["--mtu", mtu], mtu=mtu)
    shown = bench.client.ip(f"-o link show {bench.iface}").stdout
    assert f" mtu {mtu} " in shown
    for family in FAMILIES:
        if family == "v4" or mtu >= 1280:  # RFC 8200 section 5: no IPv6 below 1280
            transfer(bench, files, family, PING_BYTES.get(mtu, 8000))


def test_vlan(bench, bpf, files):
    """The client's end tags with VLAN 42 and lets only VLAN 42 in."""
    bench.serve("packet", [f"--http {HTTP}={files}", f"--echo {ECHO}"], extra=["--vlan", 42], wait=False)
    # Before the tags: untagged packets are another network's.
    bench.client.run(["ping", "-c", 1, "-W", 1, V4], check=False)
    bench.client.run(["sleep", 2])
    assert bench.client.run(["ping", "-c", 2, "-i", 0.1, "-W", 1, V4], check=False).returncode != 0
    program = bpf("vlan")
    bench.client.run(f"tc qdisc add dev {bench.iface} clsact")
    bench.client.run(f"tc filter add dev {bench.iface} egress bpf direct-action object-file {program} "
                     "section tc/egress")
    bench.client.run(f"tc filter add dev {bench.iface} ingress bpf direct-action object-file {program} "
                     "section tc/ingress")
    bench.ready()
    for family in FAMILIES:
        transfer(bench, files, family)
    assert bench.server.stop()["drop.vlan"] > 0


@pytest.mark.parametrize("device", ["packet", "xdp"])
def test_a_sender_that_leaves_checksums_open(bench, files, device):
    """A veth whose sender offloads checksums delivers packets with half of one: they never crossed a wire."""
    bench.serve(device, [f"--http {HTTP}={files}", f"--echo {ECHO}"], offloads=True)
    for family in FAMILIES:
        download(bench.client, bench.url(family, "1m"), files / "1m")
        bench.client.run(["/usr/bin/python3", HERE / "clients.py", "echo", FAMILIES[family], ECHO, files / "1m"])


def test_behind_two_routers(bench, files):
    """Between them, a link of 1300 bytes: what ICMP says of it TCP takes in, and datagrams get through as they can."""
    bench.serve("packet", [f"--http {HTTP}={files}", f"--echo {ECHO}"],
                extra=["--gateway", V4_CLIENT, "--gateway", V6_CLIENT])
    near, far, client = bench.client, bench.namespace("r"), bench.namespace("f")
    link((near, "m0"), (far, "m1"), mtu=1300)
    link((far, "w0"), (client, "w1"))
    for router in (near, far):
        router.sysctl("net/ipv4/ip_forward", 1)
        router.sysctl("net/ipv6/conf/all/forwarding", 1)
    for ns, name, number in ((near, "m0", "78{}1"), (far, "m1", "78{}2"), (far, "w0", "79{}1"), (client, "w1", "79{}2")):
        ns.ip(f"link set {name} up")
        ns.ip(f"addr add 198.18.{number.format('.')}/24 dev {name}")
        ns.ip(f"addr add fd{number.format('::')}/64 dev {name} nodad")
    for ns, to4, to6, by in ((client, "default", "default", "79{}1"), (near, "198.18.79.0/24", "fd79::/64", "78{}2"),
                             (far, "198.18.77.0/24", "fd77:ba5e::/64", "78{}1")):
        ns.ip(f"route add {to4} via 198.18.{by.format('.')}")
        ns.ip(f"-6 route add {to6} via fd{by.format('::')}")
    for family, address in FAMILIES.items():
        download(client, bench.url(family, "20m"), files / "20m")
        client.run(["/usr/bin/python3", HERE / "clients.py", "echo", address, ECHO, files / "1m"])
        with udp_socket(client, address, ECHO) as s:
            for size in (1200, 1240, 1252, 1253, 1400, 4000):
                sent = random.Random(size).randbytes(size)
                s.settimeout(0.5)
                for _ in range(3):  # the kernel, too, learns what fits by losing one
                    s.send(sent)
                    try:
                        assert s.recv(65535) == sent
                        break
                    except TimeoutError:
                        continue
                else:
                    pytest.fail(f"{size} bytes to {address} do not come back")
    counters = bench.server.stop()
    assert counters["tcp.rtos"] == 0, "a segment that was too large was noticed by its silence"


def test_dscp(bench):
    """A service's DSCP is on every packet of its connections, as the kernel sees them arrive."""
    conf = bench.tmp_path / "dscp.yaml"
    conf.write_text(f"echo:\n  - port: {ECHO}\n    dscp: 46\n")
    bench.serve("tap", extra=["-c", conf])
    with bench.client:
        frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
        frames.bind((bench.iface, 0))
        frames.settimeout(2)
        for address in FAMILIES.values():
            with socket.create_connection((address, ECHO), timeout=5) as s:
                s.sendall(b"hello")
                assert s.recv(5) == b"hello"
                s.shutdown(socket.SHUT_WR)
                assert s.recv(1) == b""
    classes = {4: set(), 6: set()}
    until = time.monotonic() + 10
    while not all(classes.values()) and time.monotonic() < until:
        frame, (_, _, kind, _, _) = frames.recvfrom(2048)
        if kind == 4:  # our own, on its way out
            continue
        if frame[12:14] == b"\x08\x00" and frame[23] == 6:
            classes[4].add(frame[15] >> 2)
        elif frame[12:14] == b"\x86\xdd" and frame[20] == 6:
            classes[6].add(int.from_bytes(frame[14:16]) >> 6 & 63)
    frames.close()
    assert classes == {4: {46}, 6: {46}}
