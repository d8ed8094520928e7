# SPDX-License-Identifier: BSD-3-Clause
"""The echo service over TCP and UDP, and what a port answers on which nothing listens."""

import errno
import random
import re
import socket
import time

import pytest

from clients import udp_socket
from conftest import DEVICES, ECHO, FAMILIES, HERE, V4, V6
from lab import sh, wait_until

UNUSED = 9999


def upload(bench, address, path, timeout):
    bench.client.run(["/usr/bin/python3", HERE / "clients.py", "echo", address, ECHO, path], timeout=timeout)


@pytest.mark.deadline(300)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_gigabyte_comes_back(bench, gigabyte, family):
    bench.serve("tap", [f"--echo {ECHO}"])
    upload(bench, FAMILIES[family], gigabyte, 280)


@pytest.mark.sanitize
@pytest.mark.parametrize("device", DEVICES)
def test_20_mb_come_back(bench, files, device):
    bench.serve(device, [f"--echo {ECHO}"])
    for address in FAMILIES.values():
        upload(bench, address, files / "20m", 100)


@pytest.mark.sanitize
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("family", FAMILIES)
def test_datagrams_small_and_fragmented(bench, device, family):
    bench.serve(device, [f"--echo {ECHO}"])
    rng = random.Random(8)
    with udp_socket(bench.client, FAMILIES[family], ECHO) as s:
        # 1472 is the last that fits in one IPv4 packet, 1452 in one IPv6 packet.
        for size in (1, 17, 1452, 1453, 1472, 1473, 4000, 8192):
            sent = rng.randbytes(size)
            s.send(sent)
            assert s.recv(65535) == sent, f"{size} bytes"
    counters = bench.server.stop()
    if (device, family) != ("packet", "v4"):  # AF_PACKET's fanout has the kernel reassemble IPv4 before it hands over
        assert counters["ip.reassembled"] >= 3
    assert counters["ip.fragments_sent"] >= 6


@pytest.mark.parametrize("device", ["tap", "packet"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_closed_port_refuses_at_once(bench, device, family):
    bench.serve(device, [f"--echo {ECHO}"])
    began = time.monotonic()
    refused = bench.client.run(["curl", "-sS", "--max-time", 5, bench.url(family, "", UNUSED)], check=False)
    assert refused.returncode == 7, "not refused"
    assert time.monotonic() - began < 2
    counters = bench.server.stop()
    assert counters["drop.no_listener"] >= 1
    assert counters["tcp.reset_out"] >= 1


@pytest.mark.parametrize("address", [V4, V6])
def test_a_closed_udp_port_is_unreachable(bench, address):
    bench.serve("tap", [f"--echo {ECHO}"])
    with bench.client:
        s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    with s:
        s.settimeout(3)
        s.connect((address, UNUSED))
        s.send(b"anybody?")
        with pytest.raises(OSError) as raised:
            s.recv(100)
    assert raised.value.errno == errno.ECONNREFUSED
    assert bench.server.stop()["icmp.errors_sent"] >= 1


@pytest.mark.sanitize
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("address", [V4, V6])
def test_ping_of_every_size(bench, device, address):
    """8000 bytes are six fragments on this link, both ways."""
    bench.serve(device, [f"--echo {ECHO}"])
    wrong = []
    for size in (0, 56, 1472, 8000):
        # With -w as well as -c, ping goes on until it has five answers, so that a late one is not taken for a lost one.
        said = bench.client.run(["ping", "-c", 5, "-i", 0.05, "-w", 5, "-s", size, address], check=False).stdout
        answered = sorted(int(number) for number in re.findall(r"icmp_seq=(\d+) ", said))
        late = [ms for ms in re.findall(r"time=([\d.]+) ms", said) if float(ms) > 250]  # no size below 16 has a time
        if answered[:5] != [1, 2, 3, 4, 5] or late or "wrong data" in said or "DUP!" in said:
            wrong.append(f"ping -s {size}: answers to {answered}, late: {late} ms")
    counters = bench.server.stop()
    assert not wrong, f"{wrong}; {dict(counters)}"


def test_half_close_and_abrupt_ends(bench):
    """A client may shut its side and still read; one that resets, or sends nothing, harms nobody."""
    bench.serve("tap", [f"--echo {ECHO}"])
    with bench.client:
        for _ in range(50):
            with socket.create_connection((V4, ECHO), timeout=3) as s:
                s.sendall(b"a" * 5000)
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            with socket.create_connection((V6, ECHO), timeout=3):
                pass
        with socket.create_connection((V4, ECHO), timeout=3) as s:
            s.sendall(b"last words")
            s.shutdown(socket.SHUT_WR)
            said = b""
            while chunk := s.recv(100):
                said += chunk
    assert said == b"last words"
    assert bench.server.stop()["tcp.reset_in"] >= 1


@pytest.mark.sanitize
@pytest.mark.parametrize("device", ["tap", "packet"])
def test_hogs_do_not_starve_others(bench, device):
    """
    Clients that write and never read could hold many times the buffers that there are. Whoever was connected before
    is still served, at the latest a moment later, and once the hogs are gone everything is as it was.
    """
    bench.serve(device, [f"--echo {ECHO}"])
    hogs = []
    with bench.client, socket.create_connection((V4, ECHO), timeout=5) as old:
        for _ in range(300):
            hog = socket.socket()
            hog.setblocking(False)
            hog.connect_ex((V4, ECHO))
            hogs.append(hog)
        until = time.monotonic() + 4
        while time.monotonic() < until:
            for hog in hogs:
                try:
                    hog.send(b"x" * 65536)
                except (BlockingIOError, ConnectionError):
                    pass
            time.sleep(0.01)
        for i in range(5):
            old.sendall(b"still here %d" % i)
            assert old.recv(100) == b"still here %d" % i
        bench.client.run(["ping", "-c", 3, "-i", 0.2, "-W", 3, V4])
        for hog in hogs:
            hog.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            hog.close()
    with bench.client, socket.create_connection((V4, ECHO), timeout=10) as new:
        new.sendall(b"back to normal")
        assert new.recv(100) == b"back to normal"
    counters = bench.server.stop()
    assert counters["tcp.pressure_drops"] + counters["tcp.syn_refused"] + counters["tcp.reassembly_drops"] > 0


def test_neighbours_are_ordinary(bench):
    """The client's kernel has resolved both addresses to the same unicast MAC by ARP and neighbour discovery."""
    bench.serve("packet", [f"--echo {ECHO}"])
    # What the client has learnt from Barewire's own announcements does not count.
    bench.client.ip(f"neigh flush dev {bench.iface}")
    for address in (V4, V6):
        bench.client.run(["ping", "-c", 1, "-W", 3, address])
    known = [line.split() for line in sh(["ip", "-n", bench.client.name, "neigh"]).stdout.splitlines()]
    macs = {words[words.index("lladdr") + 1] for words in known if words[0] in (V4, V6) and "lladdr" in words}
    assert len(macs) == 1
    counters = bench.server.stop()
    assert counters["arp.replies"] >= 1
    assert counters["nd.adverts"] >= 1


def test_a_neighbour_that_answers_stays_known(bench):
    """Linux leaves its address out of the answer to a unicast solicitation: one question is enough all the same."""
    bench.serve("packet", [f"--echo {ECHO}"])
    bench.client.run(["ping", "-c", 25, "-i", 0.2, "-W", 3, V6])
    assert 1 <= bench.server.stop()["nd.solicits"] <= 2  # one, or one more for the link-local address


def test_an_address_conflict_is_told_and_defended(bench):
    """RFC 5227: announced at the start, defended once when another host claims it, and the operator hears of it."""
    from scapy.layers.l2 import ARP, Ether
    from scapy.sendrecv import AsyncSniffer, sendp

    stranger = "02:00:00:00:00:66"
    server = bench.serve("packet", [f"--echo {ECHO}"])
    before = len(server.output())
    with bench.client:
        sniffer = AsyncSniffer(iface=bench.iface, filter="arp", store=True)
        sniffer.start()
        wait_until(lambda: sniffer.running, "the capture")
        time.sleep(0.5)
        sendp(Ether(src=stranger, dst="ff:ff:ff:ff:ff:ff") / ARP(op=1, hwsrc=stranger, psrc=V4, pdst=V4),
              iface=bench.iface, verbose=False)
        wait_until(lambda: "is also claimed by" in server.output()[before:], "the warning")
        time.sleep(0.5)
        heard = sniffer.stop()
    assert stranger in server.output() and V4 in server.output()[before:]
    assert any(p[ARP].psrc == p[ARP].pdst == V4 and p[ARP].hwsrc != stranger for p in heard), "not defended"
    counters = server.stop()
    assert counters["arp.conflicts"] == 1
    assert counters["arp.requests"] >= 2


def test_one_port_of_two_addresses(bench):
    """echo has it on one address of each family, discard on the second of IPv4, and nobody on that of IPv6: on TCP and
    on UDP."""
    beside, beside6 = V4 + "2", V6 + "2"
    bench.serve("tap", [f"--echo {V4}:{ECHO}", f"--discard {beside}:{ECHO}", f"--http [{V6}]:80"],
                extra=["--addr", f"{beside}/24", "--addr", f"{beside6}/64"])
    with bench.client:
        with socket.create_connection((V4, ECHO), timeout=5) as s:
            s.sendall(b"hello")
            assert s.recv(5) == b"hello"
        with socket.create_connection((beside, ECHO), timeout=5) as s:
            s.sendall(b"hello")
            s.shutdown(socket.SHUT_WR)
            assert s.recv(5) == b""
        socket.create_connection((V6, 80), timeout=5).close()
        for address, port in ((V4, 80), (V6, ECHO), (beside6, ECHO), (beside6, 80)):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((address, port), timeout=5)
    answers = {}
    for address in (V4, beside, V6, beside6):
        with udp_socket(bench.client, address, ECHO) as s:
            s.send(b"hello")
            try:
                answers[address] = s.recv(10)
            except OSError as error:
                answers[address] = type(error)
    assert answers == {V4: b"hello", beside: TimeoutError, V6: ConnectionRefusedError, beside6: ConnectionRefusedError}
    output = bench.server.output()
    assert f"echo on {V4}:{ECHO}\n" in output and f"http on [{V6}]:80, " in output
    assert f"curl -g 'http://[{V6}]:80/'" in output and f"nc {V4} {ECHO}" in output and f"nc {V6}" not in output
