# SPDX-License-Identifier: BSD-3-Clause
"""Barewire on the poll-mode drivers of NICs that QEMU emulates: the same binary and services, the kernel's clients."""

import collections
import concurrent.futures
import contextlib
import hashlib
import json
import re
import socket
import statistics
import subprocess

import pytest

from clients import Expected, download, echo_upload
from guest import ECHO, FAMILIES, HTTP, MAC, NIC, RESP, SECOND_NIC, TAP, V4, V4_HOST, BondGuest
from lab import stop, wait_until

Model = collections.namedtuple("Model", "driver offloads software tx_queues")

# What the device does and what is left to software, as the banner tells it; and its TX queues where two are wanted.
MODELS = {
    "e1000": Model("net_e1000_em", "RX checksum, IPv4 checksum, TCP/UDP checksum, scatter-gather, VLAN", "TSO", 1),
    "e1000e": Model("net_e1000_em", "RX checksum, IPv4 checksum, TCP/UDP checksum, scatter-gather, VLAN", "TSO", 1),
    "vmxnet3": Model("net_vmxnet3", "RX checksum, TCP/UDP checksum, scatter-gather, VLAN, TSO", "IPv4 checksum", 2),
    "virtio-net-pci": Model("net_virtio", "RX checksum, TCP/UDP checksum, scatter-gather, VLAN, TSO", "IPv4 checksum",
                            1),
}


@pytest.fixture(scope="session", params=MODELS)
def model(request):
    """Of the session, so that all tests of one kind of NIC follow each other and share a guest."""
    return request.param


def frames_from(guest):
    """How many came out of the guest, and their bytes."""
    (shown,) = json.loads(guest.ns.ip(f"-s -j link show dev {TAP}", quiet=True).stdout)
    return shown["stats64"]["rx"]["packets"], shown["stats64"]["rx"]["bytes"]


def exchange(guest, files, name):
    """A file down by HTTP, and one there and back by the echo service, in each family."""
    for family, address in FAMILIES.items():
        download(guest.ns, guest.url(family, name), files / name)
        with guest.ns:
            echo_upload(address, ECHO, files / name)


def test_the_driver_and_its_offloads(lend, model):
    guest = lend(model)
    server = guest.serve()
    banner = server.ready()
    assert f"({MODELS[model].driver})" in banner["device"]
    assert banner["device's"] == MODELS[model].offloads
    assert banner["software"] == MODELS[model].software
    assert banner["queues"].startswith("1 RX of ") and ", 1 TX of " in banner["queues"]
    assert banner["memory"].endswith(" mbufs, hugepages")
    for address in FAMILIES.values():
        # In fragments, too. That IPv6 is found at all shows that its groups get through the device's filter.
        guest.ns.run(["ping", "-c", 3, "-i", 0.05, "-W", 5, "-s", 4000, address])
        redis = ["redis-cli", "-h", address, "-p", RESP]
        assert guest.ns.run([*redis, "SET", "key", "value"]).stdout == "OK\n"
        assert guest.ns.run([*redis, "GET", "key"]).stdout == "value\n"
    server.stop()


def test_ten_megabytes_each_way(lend, files, model):
    guest = lend(model)
    server = guest.serve()
    server.ready()
    packets, octets = frames_from(guest)
    download(guest.ns, guest.url("v4", "10m"), files / "10m")
    packets, octets = (after - before for after, before in zip(frames_from(guest), (packets, octets)))
    print(f"{model}: {octets} bytes in {packets} packets")
    # What the device would cut into segments the TAP is given whole.
    assert (octets / packets > 1514) == ("TSO" in MODELS[model].offloads), f"{octets} bytes in {packets} packets"
    download(guest.ns, guest.url("v6", "10m"), files / "10m")
    for address in FAMILIES.values():
        with guest.ns:
            echo_upload(address, ECHO, files / "10m")
    # By reference out of the store's memory, which is a service's own as well.
    value = (files / "1m").read_bytes()
    redis = ["redis-cli", "-h", V4, "-p", RESP]
    guest.ns.run([*redis, "-x", "SET", "large"], stdin=value, text=False)
    assert guest.ns.run([*redis, "GET", "large"], text=False, quiet=True).stdout == value + b"\n"
    counters = server.stop()
    assert counters["drop.l4_checksum"] == counters["drop.ip_checksum"] == counters["device.rx_errors"] == 0


def test_what_is_not_right_is_not_taken(lend, model):
    """Wrong checksums, whoever looks at them; and the device keeps what is for others to itself."""
    # Imported here: it is slow, and reads the interfaces of the namespace that it is imported in.
    from scapy.layers.inet import IP, TCP, UDP
    from scapy.layers.l2 import Ether
    from scapy.packet import Raw

    guest = lend(model)
    server = guest.serve()
    server.ready()
    to_us, to_another = (Ether(src="02:00:00:00:00:99", dst=mac) for mac in (MAC, MAC[:-2] + "77"))
    bad = [to_us / IP(src=V4_HOST, dst=V4) / UDP(sport=4000, dport=ECHO, chksum=0x1234) / Raw(b"datagram"),
           to_us / IP(src=V4_HOST, dst=V4) / TCP(sport=4001, dport=ECHO, flags="S", chksum=0x1234),
           to_us / IP(src=V4_HOST, dst=V4, chksum=0x1234) / UDP(sport=4000, dport=ECHO) / Raw(b"datagram"),
           to_another / IP(src=V4_HOST, dst=V4) / UDP(sport=4000, dport=ECHO) / Raw(b"datagram")]
    with guest.ns, socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind((TAP, 0))
        for _ in range(5):
            for packet in bad:
                wire.send(bytes(packet))
    # Behind those, so that they have been looked at when it is answered.
    guest.ns.run(["ping", "-c", 1, "-W", 10, V4])
    counters = server.stop()
    assert counters["drop.l4_checksum"] == 10 and counters["drop.ip_checksum"] == 5
    # Of the host's own multicast a frame may come before the device's filter is set.
    assert counters["drop.not_for_us_mac"] < 5, "the device is promiscuous"
    assert counters["udp.datagrams_in"] == counters["tcp.accepted"] == 0


def first_of_ten(guest, files):
    """A download of 10 MB that has begun: its stream, behind the first, and what the rest is to be."""
    expected = Expected(files / "10m")
    with guest.ns:
        client = socket.create_connection((V4, HTTP), timeout=60)
    client.sendall(b"GET /10m HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    stream = client.makefile("rb")
    client.close()  # it stays open as long as the stream does
    while stream.readline() != b"\r\n":
        pass
    expected.feed(stream.read(1 << 20))
    return stream, expected


def test_the_cable_pulled_and_put_back(lend, files, model):
    guest = lend(model)
    server = guest.serve()
    server.ready()
    stream, expected = first_of_ten(guest, files)
    so_far = len(server.output())
    guest.cable(False)
    server.wait_for("link is down", "the server to see that the cable is out", since=so_far)
    guest.cable(True)
    server.wait_for("link is up", "the server to see that it is in again", since=so_far)
    while chunk := stream.read(1 << 16):
        expected.feed(chunk)
    expected.done()
    expected.close()
    stream.close()
    exchange(guest, files, "1m")
    server.stop()


def test_a_start_and_an_end_without_a_cable(lend, files, model):
    guest = lend(model)
    guest.cable(False)
    server = guest.serve()
    banner = server.banner()
    assert banner["device"].endswith("link is down")
    guest.cable(True)
    server.wait_for("link is up", "the server to see the cable")
    server.ready()
    exchange(guest, files, "1m")
    guest.cable(False)
    so_far = server.output().rindex("link is up")
    server.wait_for("link is down", "the server to see that the cable is out", since=so_far)
    server.stop()
    guest.cable(True)


def test_asleep_between_packets(lend, files, model):
    """Adaptive polling: a worker that sleeps is woken by the NIC or looks each millisecond, instead of each tenth of a
    second, as it may where nothing can come."""
    guest = lend(model)
    server = guest.serve("--poll", "adaptive", "--stats", 0)
    banner = server.ready()
    assert banner["workers"].endswith(", adaptive polling")

    def median_ms():
        # So far apart that they meet a sleep of a tenth of a second at each time of it: then half take 50 ms or more.
        said = guest.ns.run(["ping", "-c", 11, "-i", 0.23, "-W", 5, V4]).stdout
        return statistics.median(map(float, re.findall(r"time=([\d.]+) ms", said)))

    # A machine with other things to do may need more than one attempt.
    wait_until(lambda: median_ms() < 25, "quick answers", timeout=30)
    exchange(guest, files, "1m")
    server.stop()


def test_two_workers(lend, files, model):
    """None of these spreads what it receives, with one queue at the host's end. So workers hand over to each other."""
    guest = lend(model)
    server = guest.serve("--workers", 2, "--stats", 0)
    banner = server.ready()
    assert banner["workers"].startswith("2 on CPU ")
    assert banner["queues"].startswith("1 RX of ") and banner["queues"].endswith("; flows are spread in software")
    assert f", {MODELS[model].tx_queues} TX of " in banner["queues"]
    exchange_at_once(guest, files)
    assert_all_busy(server)
    assert_all_ended_well(server.stop())


def test_two_queues_and_rss(lend, files):
    guest = lend("virtio-net-pci", queues=2)
    server = guest.serve("--workers", 2, "--stats", 0)
    banner = server.ready()
    assert "(net_virtio)" in banner["device"]
    assert banner["queues"].startswith("2 RX of ") and ", 2 TX of " in banner["queues"]
    assert banner["queues"].endswith("; the device spreads the flows")
    exchange_at_once(guest, files)
    assert_all_busy(server)
    assert_all_ended_well(server.stop())


# What comes back is what was sent, on a socket of the guest's kernel.
ECHO_SERVER = """import socketserver
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536): self.request.sendall(data)
class Server(socketserver.ThreadingTCPServer): address_family = 10; allow_reuse_address = True; daemon_threads = True
Server(("::", 7000), Echo).serve_forever()
"""


def test_the_kernel_beside_the_nic(lend, files, model):
    """`--exception bw0`: the guest's kernel at the address of the NIC that DPDK has. It answers pings, in fragments too, its
    servers are reached there, 10 MiB each way, and it reaches others; while Barewire serves its own ports."""
    guest = lend(model)
    server = guest.serve("--exception", "bw0")
    banner = server.ready()
    assert banner["kernel"].startswith("has all that is not for Barewire, by bw0")
    for line in ECHO_SERVER.splitlines():
        guest.type(f"echo '{line}' >>/tmp/echo.py")
    guest.type("httpd -p 8081 -h /www; /usr/bin/python3 -IS /tmp/echo.py & beside=$!")
    for address in FAMILIES.values():
        guest.ns.run(["ping", "-c", 3, "-i", 0.05, "-W", 5, "-s", 4000, address])

    def has_begun(host, port):
        with guest.ns, contextlib.suppress(OSError):
            return socket.create_connection((host, port), timeout=5).close() is None

    wait_until(lambda: has_begun(V4, 7000), "the echo server of the guest's kernel", timeout=60)
    for family, address in FAMILIES.items():
        url = guest.url(family, "10m")
        download(guest.ns, url.replace(f":{HTTP}/", ":8081/"), files / "10m")
        download(guest.ns, url, files / "10m")
        with guest.ns:
            echo_upload(address, 7000, files / "10m")
            echo_upload(address, ECHO, files / "1m")
    outside = guest.ns.start(["/usr/bin/python3", "-m", "http.server", "-d", files, "8000"],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: has_begun(V4_HOST, 8000), "a server outside of the guest")
    since = len(guest.said())
    guest.type(f"wget -q -O - http://{V4_HOST}:8000/10m | md5sum")
    want = hashlib.md5((files / "10m").read_bytes()).hexdigest()
    assert guest.wait_for(r"([0-9a-f]{32})  -", "what the guest's kernel has got", since=since)[1] == want
    stop(outside)
    guest.type("kill $beside $(pidof httpd); rm /tmp/echo.py")
    counters = server.stop()
    assert counters["icmp.echo"] == counters["arp.replies"] == counters["drop.not_ours"] == 0
    assert counters["exception.to_kernel"] > 10000 and counters["exception.from_kernel"] > 10000


def test_the_kernel_beside_the_nic_in_a_vlan(lend):
    """`--exception` with --vlan: the kernel's interface for it is made, and answers ARP with the tag; a service answers too.
    The host's kernel may have no VLANs, so frames are made here."""
    # Imported here: it is slow, and reads the interfaces of the namespace that it is imported in.
    from scapy.layers.inet import IP, TCP
    from scapy.layers.l2 import ARP, Dot1Q, Ether

    guest = lend("e1000e")
    server = guest.serve("--exception", "bw0", "--vlan", 7)
    server.banner()
    peer = "02:00:00:00:00:99"
    ask = Ether(src=peer, dst="ff:ff:ff:ff:ff:ff") / Dot1Q(vlan=7) / ARP(op=1, hwsrc=peer, psrc=V4_HOST, pdst=V4)
    syn = Ether(src=peer, dst=MAC) / Dot1Q(vlan=7) / IP(src=V4_HOST, dst=V4) / TCP(sport=4000, dport=ECHO, flags="S")
    # Nobody listens there on the kernel's side, which says so.
    refused = Ether(src=peer, dst=MAC) / Dot1Q(vlan=7) / IP(src=V4_HOST, dst=V4) / TCP(sport=4001, dport=9, flags="S")
    with guest.ns, socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as wire:
        wire.bind((TAP, 0))
        wire.setsockopt(263, 8, 1)  # SOL_PACKET, PACKET_AUXDATA: a received tag is beside the bytes
        wire.settimeout(1)

        def answered(question, is_answer):
            def once():
                wire.send(bytes(question))
                with contextlib.suppress(TimeoutError):
                    while True:
                        data, extra, _, _ = wire.recvmsg(2048, 256)
                        tags = [int.from_bytes(body[16:18], "little") for _, _, body in extra]
                        if tags == [7] and data[6:12].hex(":") == MAC and is_answer(Ether(data)):
                            return True

            return once

        wait_until(answered(ask, lambda got: ARP in got and got[ARP].op == 2 and got[ARP].psrc == V4), "an ARP reply")
        wait_until(answered(syn, lambda got: TCP in got and got[TCP].flags == "SA"), "Barewire's SYN-ACK")
        wait_until(answered(refused, lambda got: TCP in got and got[TCP].flags == "RA"), "the kernel's RST")
    start = len(guest.said())
    guest.type("ip -o addr show dev bw0.7")
    assert guest.wait_for(rf" {V4}/24 ", "the address of the VLAN's interface", since=start)
    server.stop()


def test_steering_on_the_guests_kernel(lend):
    """The programs of lib/steer, which a kernel looks through before it loads them, on one of another age than the host's:
    their unit tests, of XDP and of tc."""
    guest = lend("virtio-net-pci")
    start = len(guest.said())
    guest.type("(/build/tests/steer/test_steer_classify 2>&1; echo guest: ended with $?) &")
    assert guest.wait_for(r"guest: ended with (\d+)", "the unit tests", since=start, timeout=100)[1] == "0"
    assert re.findall(r"\[  PASSED  \] (\d+) test", guest.said()[start:]) == ["12", "12"]


@pytest.mark.parametrize("model", ["e1000e", "vmxnet3"])
def test_a_bond_goes_on_by_its_other_member(lend, files, model):
    """Active-backup: whichever plug is pulled, also in the middle of a transfer, the other NIC has the traffic, at the same
    MAC. With both out the link is down."""
    guest = lend(model, kind=BondGuest)
    server = guest.serve()
    banner = server.ready()
    assert "(net_bonding)" in banner["device"]
    exchange(guest, files, "1m")
    stream, expected = first_of_ten(guest, files)
    so_far = len(server.output())
    guest.cable(False, NIC)
    server.wait_for(f"link of {NIC} is down", "the server to see that the first cable is out", since=so_far)
    while chunk := stream.read(1 << 16):
        expected.feed(chunk)
    expected.done()
    expected.close()
    stream.close()
    exchange(guest, files, "1m")
    guest.cable(True, NIC)
    server.wait_for(f"link of {NIC} is up", "the server to see that it is in again", since=so_far)
    exchange(guest, files, "100k")
    guest.cable(False, SECOND_NIC)
    server.wait_for(f"link of {SECOND_NIC} is down", "the server to see that the second is out", since=so_far)
    exchange(guest, files, "1m")
    assert "link is down" not in server.output()[so_far:]
    guest.cable(False, NIC)
    server.wait_for("link is down", "the server to see that both are out", since=so_far)
    guest.cable(True, SECOND_NIC)
    server.wait_for("link is up", "the server to see a cable", since=so_far)
    exchange(guest, files, "1m")
    guest.cable(True, NIC)
    server.stop()


def exchange_at_once(guest, files):
    """32 connections, so many that there are some for each worker, and a ping for what has no ports."""
    def echo(address):
        with guest.ns:  # the thread's own
            echo_upload(address, ECHO, files / "100k")

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(download, guest.ns, guest.url(family, "100k"), files / "100k")
                for _ in range(8) for family in FAMILIES]
        jobs += [pool.submit(echo, address) for _ in range(8) for address in FAMILIES.values()]
        for job in jobs:
            job.result()
    for address in FAMILIES.values():
        guest.ns.run(["ping", "-c", 3, "-i", 0.05, "-W", 5, "-s", 4000, address])


def assert_all_busy(server):
    """Since the start, as there has been no line of rates before this."""
    server.signal("USR1")
    said = server.wait_for(r"busy((?: \d+%)+)\n", "the line of rates")[1]
    assert all(int(share) > 0 for share in re.findall(r"\d+", said)), said


def assert_all_ended_well(counters):
    """A packet that comes to another worker than its connection's gets a reset, which ends the connection."""
    assert counters["tcp.accepted"] == counters["tcp.closed"] == 32 and counters["tcp.reset_in"] == 0
    # What answers a segment that was sent again may come when the connection is over.
    assert counters["tcp.reset_out"] <= counters["tcp.retransmits"], counters
    assert counters["drop.ring_full"] == counters["drop.neigh_failed"] == counters["drop.no_listener"] == 0
