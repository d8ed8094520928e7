# SPDX-License-Identifier: BSD-3-Clause
"""
Attacks with real packets, each beside a client that must not notice: an echo connection that stays and one new
connection after the other, in both families, every byte checked.

Elsewhere: attacks on TCP alone are in tests/tcp/test_attacks.c, forged cookies and sampled ISNs in
tests/tcp/test_cookies.c, floods of SYN, ACK and RST in test_flood.py, what is merely malformed in test_malformed.py.
docs/operations.md has the table.
"""

import json
import random
import socket
import struct
import subprocess
import time

import pytest
from scapy.all import (ARP, ICMP, IP, TCP, UDP, Ether, ICMPv6DestUnreach, ICMPv6EchoRequest, ICMPv6ND_NA, ICMPv6ND_NS,
                       ICMPv6NDOptDstLLAddr, ICMPv6NDOptSrcLLAddr, ICMPv6PacketTooBig, IPv6, IPv6ExtHdrDestOpt,
                       IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, PadN, Raw)

from conftest import ECHO, FAMILIES, HERE, HTTP, V4, V4_CLIENT, V6, V6_CLIENT
from lab import stop, wait_until
from wire import Flood, Wire

OWN = {"v4": "198.18.77.3", "v6": "fd77:ba5e::3"}  # the legitimate client's
FROM_PORT = 40404
ETH_P_ALL = 3


class Beside:
    """The client that must not notice."""

    def __init__(self, bench):
        self.bench, self.log = bench, bench.log("client")
        bench.client.ip(f"addr add {OWN['v4']}/24 dev {bench.iface}")
        bench.client.ip(f"addr add {OWN['v6']}/64 dev {bench.iface} nodad")
        with open(self.log, "wb") as log:
            self.process = bench.client.start(
                ["/usr/bin/python3", HERE / "clients.py", "steady", f"{V4},{V6}", f"{OWN['v4']},{OWN['v6']}", ECHO, HTTP,
                 FROM_PORT], stdout=subprocess.PIPE, stderr=log, text=True)
        wait_until(lambda: "lap" in self.log.read_text(), "the client's first lap")

    def end(self, slowest_max=5):
        """It has lost nothing, nor has the server. Returns the counters."""
        assert stop(self.process) == 0
        said = json.loads(self.process.stdout.read())
        print(f"beside: {said['laps']} laps, the slowest took {said['slowest']} s", flush=True)
        counters = self.bench.server.stop()
        print({name: value for name, value in counters.items() if value and "bytes" not in name}, flush=True)
        assert said["laps"] > 20 and said["slowest"] < slowest_max
        # A connection each in every lap, and nobody else has one.
        assert counters["tcp.accepted"] == 2 + 2 * said["laps"]
        assert counters["drop.no_mbuf"] == counters["tcp.timed_out"] == counters["tcp.reset_in"] == 0
        return counters


@pytest.fixture
def wire(bench, files, request):
    bench.serve(getattr(request, "param", "packet"), [f"--http {HTTP}={files}", f"--echo {ECHO}"],
                extra=["--gateway", V4_CLIENT, "--gateway", V6_CLIENT])
    made = Wire(bench)
    yield made
    made.close()


@pytest.fixture
def beside(bench, wire):
    return Beside(bench)


# ---- IP ------------------------------------------------------------------------------------------------------


def numbered(frame, number):
    """The IPv4 frame with another identification."""
    header = bytearray(frame[14:34])
    header[4:6], header[10:12] = struct.pack("!H", number), b"\0\0"
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xffff) + (total >> 16)
    header[10:12] = struct.pack("!H", ~(total + (total >> 16)) & 0xffff)
    return frame[:14] + bytes(header) + frame[34:]


def numbered6(frame, number):
    return frame[:58] + struct.pack("!I", number) + frame[62:]


def pieces(wire, places):
    """The fragments of a datagram, in both families: (offset / 8, more, bytes)."""
    v4 = [bytes(wire.eth / IP(src=V4_CLIENT, dst=V4, flags="MF" if more else 0, frag=at, proto=17) / Raw(b"z" * size))
          for at, more, size in places]
    v6 = [bytes(wire.v6 / IPv6ExtHdrFragment(nh=17, m=more, offset=at) / Raw(b"z" * size)) for at, more, size in places]
    return v4, v6


@pytest.mark.sanitize
@pytest.mark.parametrize("wire", ["tap"], indirect=True)  # AF_PACKET has the kernel put those of IPv4 together
def test_fragments(bench, wire, beside):
    """That never end (rose: the ends of a datagram without its middle), overlap (teardrop), or are tiny and many."""
    shapes = [[(0, 1, 64), (8000, 0, 64)], [(0, 1, 64), (4, 1, 64), (2, 0, 16)], [(0, 1, 64), (0, 1, 128)]]
    sent = 0
    for v4, v6 in [pieces(wire, places) for places in shapes]:
        frames = [make(frame, number) for number in range(400)
                  for make, family in ((numbered, v4), (numbered6, v6)) for frame in family]
        wire.send(*frames)
        sent += len(frames)
    endless = pieces(wire, [(at, 1, 8) for at in range(500)])
    wire.send(*endless[0], *endless[1])
    time.sleep(0.3)
    # There is room again for who needs it.
    for address in FAMILIES.values():
        bench.client.run(["ping", "-c", 2, "-i", 0.2, "-W", 2, "-s", 4000, address])
    counters = beside.end()
    assert counters["drop.fragment"] > sent // 2
    assert counters["ip.reassembled"] >= 4


def raw_listener(bench):
    with bench.client:
        listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        listener.bind((bench.iface, ETH_P_ALL))
    listener.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
    listener.setblocking(False)
    return listener


def answers(listener, is_ours):
    """Bytes and number of the frames that have come in."""
    octets = count = 0
    while True:
        try:
            frame, where = listener.recvfrom(2048)
        except BlockingIOError:
            return octets, count
        if where[2] != socket.PACKET_OUTGOING and is_ours(frame):
            octets += max(len(frame), 60)
            count += 1


@pytest.mark.sanitize
def test_martians_routes_and_chains(bench, wire, beside):
    """Land, impossible addresses, source routes, and chains of extension headers: no answer but limited ICMP errors."""
    eth, syn = wire.eth, TCP(sport=HTTP, dport=HTTP, flags="S")
    v6 = eth / IPv6(src="2001:db8::66", dst=V6)
    silent = [
        *(eth / IP(src=source, dst=V4) / syn for source in (V4, "127.0.0.1", "255.255.255.255", "224.0.0.1",
                                                            "198.18.77.255", "0.0.0.0")),
        *(eth / IPv6(src=source, dst=V6) / syn for source in (V6, "::1", "ff02::1", "::ffff:10.0.0.1")),
        eth / IP(src=V4, dst=V4) / ICMP(), eth / IPv6(src=V6, dst=V6) / ICMPv6EchoRequest(),
        eth / IP(src="10.6.6.6", dst="127.0.0.1") / syn, eth / IPv6(src="2001:db8::66", dst="::1") / syn,
        *(eth / IP(src="10.6.6.6", dst=V4, options=bytes([kind, 7, 4, 10, 0, 0, 1, 0])) / syn for kind in (0x83, 0x89)),
    ]
    chained = [
        v6 / IPv6ExtHdrRouting(type=0, addresses=[V6, "2001:db8::66"] * 20) / syn,
        v6 / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 200)] * 5) / syn,
    ]
    for length in (8, 40, 150):
        chain = v6
        for _ in range(length):
            chain = chain / IPv6ExtHdrDestOpt()
        chained.append(chain / syn)
    looped = v6 / IPv6ExtHdrHopByHop()
    for _ in range(100):
        looped = looped / IPv6ExtHdrHopByHop()
    chained.append(looped / syn)
    silent, chained = [bytes(frame) for frame in silent], [bytes(frame) for frame in chained]
    listener = raw_listener(bench)
    wire.send(*silent * 150)
    time.sleep(0.1)
    with listener:
        # The only traffic is the client's: of or for its own addresses.
        own = [socket.inet_pton(socket.AF_INET, OWN["v4"]), socket.inet_pton(socket.AF_INET6, OWN["v6"])]
        octets, count = answers(listener, lambda frame: frame[12:14] in (b"\x08\x00", b"\x86\xdd")
                                and not any(address in frame[14:80] for address in own))
        assert count == 0
        wire.send(*chained * 150)
        time.sleep(0.1)
        octets, count = answers(listener, lambda frame: socket.inet_pton(socket.AF_INET6, "2001:db8::66") in frame[14:54])
        assert octets < sum(map(len, chained)) * 150 // 2
    counters = beside.end()
    assert counters["drop.martian"] + counters["drop.not_for_us_ip"] >= 12 * 150
    assert counters["drop.ip_options"] >= 4 * 150


@pytest.mark.sanitize
def test_nobody_gets_more_than_he_sent(bench, wire, beside):
    """
    Triggers of Bock et al., Weaponizing Middleboxes for TCP Reflected Amplification (2021), and scans, in another's
    name. What comes back within half a second, Ethernet's padding included.
    """
    get = Raw(b"GET / HTTP/1.1\r\nHost: forbidden.example\r\n\r\n")
    flags = ["", "S", "PA", "P", "F", "FPU", "SF", "SR", "SA", "RA", "FA", "SFRPAUEC", "SP"]
    frames = [bytes(ip / TCP(sport=random.randrange(1024, 65536), dport=port, flags=which, seq=number, ack=99) / data)
              for number, which in enumerate(flags) for port in (HTTP, 81) for data in (get, Raw(b""))
              for ip in (wire.eth / IP(src="10.9.8.7", dst=V4), wire.eth / IPv6(src="2001:db8:9::7", dst=V6))]
    victims = [socket.inet_pton(socket.AF_INET, "10.9.8.7"), socket.inet_pton(socket.AF_INET6, "2001:db8:9::7")]
    with raw_listener(bench) as listener:
        for _ in range(20):
            wire.send(*frames)
        time.sleep(0.5)
        octets, count = answers(listener, lambda frame: any(address in frame[30:54] for address in victims))
    asked = 20 * sum(max(len(frame), 60) for frame in frames)
    print(f"{20 * len(frames)} packets, {asked} bytes, got {count} packets, {octets} bytes", flush=True)
    assert 0 < count <= 20 * len(frames) and octets < asked
    beside.end()


# ---- ICMP ----------------------------------------------------------------------------------------------------


@pytest.mark.sanitize
def test_icmp(bench, wire, beside):
    """Echo requests and packets that make errors, at a rate; and forged errors about the client's own connection."""
    began = time.monotonic()
    echo = [bytes(wire.v4 / ICMP() / Raw(b"e" * 56)), bytes(wire.v6 / ICMPv6EchoRequest(data=b"e" * 56))]
    wire.send(*echo * 2500)
    wrong = [bytes(wire.v4 / UDP(sport=5, dport=81) / b"?"), bytes(wire.v6 / UDP(sport=5, dport=81) / b"?"),
             bytes(wire.eth / IP(src=V4_CLIENT, dst=V4, proto=99) / Raw(b"?" * 30))]
    wire.send(*wrong * 800)
    took = time.monotonic() - began
    rng = random.Random(5927)
    forged = []
    for _ in range(100):
        quoted = TCP(sport=ECHO, dport=FROM_PORT, seq=rng.randrange(1 << 32))
        quoted4, quoted6 = IP(src=V4, dst=OWN["v4"]) / quoted, IPv6(src=V6, dst=OWN["v6"]) / quoted
        forged += [wire.v4 / ICMP(type=3, code=4, nexthopmtu=552) / quoted4, wire.v4 / ICMP(type=3, code=2) / quoted4,
                   wire.v4 / ICMP(type=3, code=3) / quoted4, wire.v6 / ICMPv6PacketTooBig(mtu=1280) / quoted6,
                   wire.v6 / ICMPv6DestUnreach(code=4) / quoted6]
    wire.send(*forged)
    time.sleep(0.2)
    counters = beside.end()
    assert counters["icmp.echo"] >= 5000
    sent, limited = counters["icmp.errors_sent"], counters["icmp.errors_limited"]
    assert sent + limited >= 2400
    assert sent <= 100 * (took + 2)  # network.icmp_errors, and a second's worth saved up


# ---- neighbours ----------------------------------------------------------------------------------------------


def mac(number):
    return f"02:66:{number >> 24 & 255:02x}:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"


@pytest.fixture
def few_neighbours(tmp_path):
    path = tmp_path / "few.yaml"
    path.write_text("network:\n  neighbours: 64\n")
    return path


def test_neighbour_cache_flood(bench, files, few_neighbours):
    """Thousands who say that they are neighbours, at a cache for 64. The client's entry is not among those that go."""
    bench.serve("packet", [f"--http {HTTP}={files}", f"--echo {ECHO}"], extra=["-c", few_neighbours])
    wire, beside = Wire(bench), Beside(bench)
    fakes = []
    for number in range(600):
        own = mac(number)
        fakes.append(Ether(src=own, dst=wire.peer) / ARP(op=1, hwsrc=own, psrc=f"198.18.77.{4 + number % 250}", pdst=V4))
        fakes.append(Ether(src=own, dst=wire.peer) / ARP(op=1, hwsrc=own, psrc=f"10.0.{number >> 8}.{number & 255}", pdst=V4))
        fakes.append(Ether(src=own, dst=wire.peer) / IPv6(src=f"fd77:ba5e::6:{number:x}", dst=V6, hlim=255) /
                     ICMPv6ND_NS(tgt=V6) / ICMPv6NDOptSrcLLAddr(lladdr=own))
    fakes = [bytes(fake) for fake in fakes]
    for _ in range(2):
        wire.send(*fakes)
    wire.close()
    time.sleep(0.2)
    counters = beside.end()
    # Who is not on the link is not answered, and for nobody of them was the client asked for again.
    assert 1200 <= counters["arp.replies"] < 1500
    assert counters["arp.requests"] + counters["nd.solicits"] < 50
    assert counters["drop.neigh_queue"] == counters["drop.neigh_failed"] == 0


def test_neighbour_spoofing(bench, wire, beside):
    """Another says that he has the client's addresses, and that he has ours: the owner is heard, and we stay."""
    thief, everybody = mac(0x666), "ff:ff:ff:ff:ff:ff"
    claims = []
    for address in (OWN["v4"], V4):
        claims += [Ether(src=thief, dst=everybody) / ARP(op=op, hwsrc=thief, psrc=address, pdst=address) for op in (1, 2)]
        claims.append(Ether(src=thief, dst=wire.peer) / ARP(op=2, hwsrc=thief, psrc=address, pdst=V4, hwdst=wire.peer))
    for address in (OWN["v6"], V6):
        claims.append(Ether(src=thief, dst="33:33:00:00:00:01") / IPv6(src=address, dst="ff02::1", hlim=255) /
                      ICMPv6ND_NA(tgt=address, R=0, S=0, O=1) / ICMPv6NDOptDstLLAddr(lladdr=thief))
    for _ in range(8):
        wire.send(*map(bytes, claims))
        time.sleep(0.4)
    counters = beside.end(slowest_max=3)
    assert counters["arp.conflicts"] >= 8 * 3
    assert counters["arp.requests"] >= 8 and counters["nd.solicits"] >= 8  # everybody was asked, each time


# ---- TCP -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rst", "ack"])
def test_blind_flood_of_a_connection(bench, wire, beside, kind):
    """In the client's name, address and port: what does not know the numbers ends nothing, and is hardly answered."""
    packets = 0
    for family in FAMILIES:
        flood = Flood(bench, family, kind, OWN, "--port", ECHO, "--from-port", FROM_PORT, "--rate", 20000)
        time.sleep(1.5)
        packets += flood.end()
    assert packets > 20000
    counters = beside.end()
    assert counters["tcp.drop_unacceptable"] > packets // 2
    assert counters["tcp.challenge_acks"] < 100
