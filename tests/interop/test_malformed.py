# SPDX-License-Identifier: BSD-3-Clause
"""Packets that no honest host sends: counted by reason, and the service goes on."""

import random
import time

import pytest
from scapy.all import (ARP, ICMP, IP, TCP, UDP, Ether, ICMPv6EchoRequest, ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6,
                       IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, Raw, fragment)

from clients import download
from conftest import ECHO, FAMILIES, HTTP, V4, V4_CLIENT, V6, V6_CLIENT
from wire import Wire


@pytest.fixture
def wire(bench, files):
    bench.serve("packet", [f"--http {HTTP}={files}", f"--echo {ECHO}"])
    made = Wire(bench)
    yield made
    made.close()


def still_serves(bench, files):
    for family in FAMILIES:
        download(bench.client, bench.url(family, "1m"), files / "1m", timeout=20)


@pytest.mark.sanitize
def test_each_is_counted_by_its_reason(bench, files, wire):
    v4, v6, eth = wire.v4, wire.v6, wire.eth
    syn = TCP(sport=40000, dport=HTTP, flags="S")
    each = 5
    cases = {
        "drop.ip_checksum": [eth / IP(src=V4_CLIENT, dst=V4, chksum=0x1234) / syn],
        "drop.l4_checksum": [v4 / TCP(sport=40001, dport=HTTP, flags="S", chksum=0x4321),
                             v6 / TCP(sport=40001, dport=HTTP, flags="S", chksum=0x4321),
                             v4 / UDP(sport=40001, dport=ECHO, chksum=0x4321) / b"hello",
                             v6 / UDP(sport=40001, dport=ECHO, chksum=0x4321) / b"hello"],
        "drop.l4_header": [v4 / TCP(sport=40002, dport=HTTP, flags="S", dataofs=3),
                           v4 / TCP(sport=40002, dport=HTTP, flags="S", dataofs=15),
                           v4 / UDP(sport=40002, dport=ECHO, len=4) / b"hello"],
        "drop.ip_header": [eth / IP(src=V4_CLIENT, dst=V4, ihl=4) / syn,
                           eth / IP(src=V4_CLIENT, dst=V4, ihl=15) / syn],
        "drop.not_for_us_ip": [eth / IP(src=V4_CLIENT, dst="198.18.77.99") / syn,
                               eth / IPv6(src=V6_CLIENT, dst="fd77:ba5e::99") / syn],
        "drop.not_for_us_mac": [Ether(src=wire.mac, dst="02:11:22:33:44:55") / IP(src=V4_CLIENT, dst=V4) / syn],
        "drop.martian": [eth / IP(src=V4, dst=V4) / syn, eth / IP(src="127.0.0.1", dst=V4) / syn,
                         eth / IP(src="224.0.0.9", dst=V4) / syn, eth / IPv6(src="ff02::1", dst=V6) / syn],
        "drop.ethertype": [Ether(src=wire.mac, dst=wire.peer, type=0x88b5) / (b"\0" * 50)],
        "drop.no_listener": [v4 / TCP(sport=40003, dport=9, flags="S"), v6 / UDP(sport=40003, dport=9) / b"?"],
    }
    before = bench.server.counters()
    for frames in cases.values():
        wire.send(*(frames * each))
    time.sleep(0.3)
    still_serves(bench, files)
    counters = bench.server.stop()
    for reason, frames in cases.items():
        # At least: neighbours' own chatter may be in some of them.
        assert counters[reason] - before[reason] >= len(frames) * each, reason


@pytest.mark.sanitize
def test_cut_short_at_every_length(bench, files, wire):
    options = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0)), ("NOP", None), ("WScale", 7)]
    whole = [
        wire.v4 / TCP(sport=40010, dport=HTTP, flags="S", options=options),
        wire.v6 / TCP(sport=40010, dport=HTTP, flags="S", options=options),
        wire.v4 / UDP(sport=40010, dport=ECHO) / b"0123456789",
        wire.v4 / ICMP() / b"0123456789",
        wire.v6 / ICMPv6EchoRequest(data=b"0123456789"),
        wire.eth / ARP(op=1, psrc=V4_CLIENT, pdst=V4, hwsrc=wire.mac),
        wire.eth / IPv6(src=V6_CLIENT, dst=V6, hlim=255) / ICMPv6ND_NS(tgt=V6) /
        ICMPv6NDOptSrcLLAddr(lladdr=wire.mac),
    ]
    pieces = [bytes(frame)[:length] for frame in whole for length in range(14, len(bytes(frame)))]
    assert len(pieces) > 300
    wire.send(*pieces)
    still_serves(bench, files)
    counters = bench.server.stop()
    assert sum(value for name, value in counters.items() if name.startswith("drop.")) >= len(pieces)


@pytest.mark.sanitize
def test_strange_but_parsable(bench, files, wire):
    """Option lists, extension headers, fragments and neighbour discovery that bend the rules."""
    v4, v6 = wire.v4, wire.v6
    tcp = TCP(sport=40020, dport=HTTP, flags="S")
    data = Raw(b"z" * 64)
    frames = [
        # TCP options: of length zero, over the end, a list without an end
        *(v4 / TCP(sport=40021 + i, dport=HTTP, flags="S", dataofs=6) / Raw(tail)
          for i, tail in enumerate((b"\x02\x00\x05\xb4", b"\x03\xff\x07\x00", b"\x08\x0a\x00\x00", b"\x01" * 4,
                                    b"\x05\x02\x00\x00", b"\xfe\x01\x00\x00"))),
        # every combination of flags, to a listener and to nobody
        *(v4 / TCP(sport=40100 + flags, dport=port, flags=flags, seq=flags, ack=7) for flags in range(0, 256, 3)
          for port in (HTTP, 9)),
        # IPv4 options: source route, one of length zero
        wire.eth / IP(src=V4_CLIENT, dst=V4, options=b"\x83\x07\x04\x0a\x00\x00\x01\x00") / tcp,
        wire.eth / IP(src=V4_CLIENT, dst=V4, options=b"\x44\x00\x00\x00") / tcp,
        # IPv6: chains of extension headers, a routing header, a hop-by-hop header that is not first
        v6 / IPv6ExtHdrHopByHop() / tcp,
        v6 / IPv6ExtHdrRouting(type=0, addresses=["fd77:ba5e::5"]) / tcp,
        v6 / IPv6ExtHdrDestOpt() / IPv6ExtHdrHopByHop() / tcp,
        v6 / IPv6ExtHdrDestOpt() / IPv6ExtHdrDestOpt() / IPv6ExtHdrDestOpt() / IPv6ExtHdrDestOpt() /
        IPv6ExtHdrDestOpt() / IPv6ExtHdrDestOpt() / IPv6ExtHdrDestOpt() / IPv6ExtHdrDestOpt() / tcp,
        wire.eth / IPv6(src=V6_CLIENT, dst=V6, nh=99) / data,
        wire.eth / IP(src=V4_CLIENT, dst=V4, proto=99) / data,
        # fragments: overlapping, past 64 KiB, the first alone, the last alone, tiny ones
        v4 / IP(src=V4_CLIENT, dst=V4, id=1, flags="MF", frag=0, proto=17) / data,
        *(wire.eth / IP(src=V4_CLIENT, dst=V4, id=2, flags="MF" if more else 0, frag=at, proto=17) / data
          for at, more in ((0, 1), (4, 1), (2, 1), (8, 0))),
        wire.eth / IP(src=V4_CLIENT, dst=V4, id=3, frag=8190, proto=17) / Raw(b"z" * 1000),
        wire.eth / IP(src=V4_CLIENT, dst=V4, id=4, flags="MF", frag=0, proto=6) / Raw(b"z" * 8),
        v6 / IPv6ExtHdrFragment(id=5, m=1, offset=0) / Raw(b"z" * 63),
        v6 / IPv6ExtHdrFragment(id=6, m=0, offset=8191) / Raw(b"z" * 64),
        v6 / IPv6ExtHdrFragment(id=7, m=0, offset=0) / UDP(sport=1, dport=ECHO) / b"atomic",
        *(wire.eth / part for i in range(40)
          for part in fragment(IP(src=V4_CLIENT, dst=V4, id=100 + i) / UDP(sport=9, dport=ECHO) / Raw(b"q" * 3000),
                               fragsize=1480)[:2]),
        # neighbour discovery with a hop limit below 255, an option of length zero, a multicast target
        v6 / ICMPv6ND_NS(tgt=V6) / ICMPv6NDOptSrcLLAddr(lladdr=wire.mac),
        wire.eth / IPv6(src=V6_CLIENT, dst=V6, hlim=255) / ICMPv6ND_NS(tgt=V6) / Raw(b"\x01\x00" + b"\0" * 6),
        wire.eth / IPv6(src=V6_CLIENT, dst=V6, hlim=255) / ICMPv6ND_NS(tgt="ff02::1"),
        # ICMP errors that quote nothing, or a flow that is not there
        v4 / ICMP(type=3, code=4, nexthopmtu=0), v4 / ICMP(type=3, code=3) / IP(src=V4, dst=V4_CLIENT) / tcp,
        v4 / ICMP(type=3, code=4, nexthopmtu=68) / IP(src=V4, dst=V4_CLIENT) / TCP(sport=HTTP, dport=1),
    ]
    wire.send(*frames)
    time.sleep(0.3)
    still_serves(bench, files)
    assert bench.server.stop()["rx.packets"] >= len(frames)


@pytest.mark.sanitize
@pytest.mark.parametrize("seed", [1, 2])
def test_flipped_bytes(bench, files, wire, seed):
    """A few hundred honest packets with a few bytes changed; half of them with the checksums put right again."""
    rng = random.Random(seed)
    honest = [
        wire.v4 / TCP(sport=41000, dport=HTTP, flags="S", options=[("MSS", 1460), ("WScale", 7)]),
        wire.v6 / TCP(sport=41000, dport=HTTP, flags="PA", seq=1, ack=1) / b"GET / HTTP/1.1\r\n\r\n",
        wire.v4 / UDP(sport=41000, dport=ECHO) / b"hello",
        wire.v6 / IPv6ExtHdrFragment(id=9, m=1) / UDP(sport=41000, dport=ECHO) / (b"y" * 40),
        wire.v6 / ICMPv6EchoRequest(data=b"ping"),
        wire.eth / IP(src=V4_CLIENT, dst=V4, flags="MF") / UDP(sport=41000, dport=ECHO) / (b"y" * 40),
    ]
    flipped = []
    for i in range(400):
        octets = bytearray(bytes(rng.choice(honest)))
        for _ in range(rng.randint(1, 4)):
            octets[rng.randrange(14, len(octets))] = rng.randrange(256)
        if i % 2:
            frame = Ether(bytes(octets))
            for name in ("IP", "TCP", "UDP", "ICMPv6EchoRequest"):
                if name in frame:
                    layer = frame[name]
                    delattr(layer, "cksum" if name == "ICMPv6EchoRequest" else "chksum")
            try:
                octets = bytes(frame)
            except Exception:  # scapy cannot build everything that it can read: then the bytes go as they are
                pass
        flipped.append(bytes(octets))
    wire.send(*flipped)
    time.sleep(0.3)
    still_serves(bench, files)
    bench.server.stop()
