# SPDX-License-Identifier: BSD-3-Clause
"""The bad link does what it is told, and only that: datagrams between two kernels, numbered."""

import socket
import time

import pytest

from bridge import Bridge
from conftest import IMPAIR

ADDRESSES = {"v4": ("198.18.79.1", "198.18.79.2"), "v6": ("fd79::1", "fd79::2")}
COUNT = 2000


@pytest.fixture
def across(bench):
    """Send datagrams over the bridge with such options; returns [(number, seconds, ECN)] of what arrives, and counts."""
    near, far = bench.namespace("n"), bench.namespace("f")
    bridge = Bridge(IMPAIR, bench.namespace("m"), near, far)
    far.sysctl("net/ipv6/conf/v0/disable_ipv6", 0)
    for ns, name, side in ((near, "v1", 0), (far, "v0", 1)):
        ns.ip(f"addr add {ADDRESSES['v4'][side]}/24 dev {name}")
        ns.ip(f"addr add {ADDRESSES['v6'][side]}/64 dev {name} nodad")

    def run(options, family="v4", count=COUNT, ecn=0, size=100, gap=0.0002):
        is_v4 = family == "v4"
        level, received, sent = ((socket.IPPROTO_IP, socket.IP_RECVTOS, socket.IP_TOS) if is_v4 else
                                 (socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, socket.IPV6_TCLASS))
        kind = socket.AF_INET if is_v4 else socket.AF_INET6
        with far:
            sink = socket.socket(kind, socket.SOCK_DGRAM)
        with near:
            source = socket.socket(kind, socket.SOCK_DGRAM)
        with sink, source:
            sink.setsockopt(level, received, 1)
            sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            sink.bind((ADDRESSES[family][1], 9))
            source.setsockopt(level, sent, ecn)
            source.connect((ADDRESSES[family][1], 9))
            bridge.start("")
            source.send(b"the neighbours get to know each other")
            sink.settimeout(5)
            sink.recv(100)
            bridge.start(options)
            times = []
            for number in range(count):
                times.append(time.monotonic())
                source.send(number.to_bytes(4, "big") + b"x" * size)
                time.sleep(gap)
            sink.settimeout(0.5)
            got = []
            try:
                while True:
                    # What arrives may be read late, so only the least of the times means something.
                    data, control, _, _ = sink.recvmsg(2000, 100)
                    number = int.from_bytes(data[:4], "big")
                    assert data[4:] == b"x" * size
                    got.append((number, time.monotonic() - times[number], control[0][2][0] & 3))
            except TimeoutError:
                pass
            return got, bridge.stop()["forth"]

    return run


def numbers(got):
    return [number for number, _, _ in got]


def test_the_seed_chooses_what_is_lost(across):
    first, counts = across("--seed 7 --loss 10")
    again, _ = across("--seed 7 --loss 10")
    other, _ = across("--seed 8 --loss 10")
    assert numbers(first) == numbers(again) == sorted(numbers(first))
    assert set(numbers(first)) != set(numbers(other))
    assert counts["in"] == COUNT and counts["in"] - counts["lost"] == len(first) == counts["out"] - counts["spared"]
    assert 0.07 * COUNT < counts["lost"] < 0.13 * COUNT


def test_bursts_are_bursts(across):
    got, counts = across("--burst 10,5")
    lost = sorted(set(range(COUNT)) - set(numbers(got)))
    bursts = sum(number - 1 not in lost for number in lost)
    assert 0.05 * COUNT < counts["lost"] < 0.16 * COUNT
    assert 3 < len(lost) / bursts < 8


def test_back_and_forth_are_two(across):
    got, counts = across("--back --loss 100 --delay 500")
    assert numbers(got) == list(range(COUNT)) and counts["lost"] == 0


def test_delay_keeps_the_order(across):
    got, counts = across("--delay 30 --jitter 10")
    assert numbers(got) == list(range(COUNT))
    assert 0.03 <= min(seconds for _, seconds, _ in got) < 0.045
    assert counts["late_us_p50"] < 2000


def test_some_are_overtaken(across):
    got, counts = across("--reorder 10,5 --delay 1", count=1000)
    order = numbers(got)
    assert sorted(order) == list(range(1000))
    overtaken = sum(number < max(order[:at]) for at, number in enumerate(order) if at != 0)
    assert 50 < overtaken and 60 < counts["reordered"] < 140


def test_some_come_twice(across):
    got, counts = across("--duplicate 10")
    assert set(numbers(got)) == set(range(COUNT))
    assert len(got) == COUNT + counts["duplicated"] and 120 < counts["duplicated"] < 280


@pytest.mark.parametrize("family", ADDRESSES)
def test_what_is_corrupted_does_not_arrive(across, family):
    """Or not where it counts: a hop limit, a flow label, or a type of service may differ."""
    got, counts = across("--corrupt 20", family=family)
    assert 300 < counts["corrupted"] < 500
    assert len(got) < COUNT - 0.8 * counts["corrupted"]


@pytest.mark.parametrize("family", ADDRESSES)
@pytest.mark.parametrize("ecn, becomes", [(0, 0), (1, 3), (2, 3)])
def test_congestion_marks_only_who_knows_them(across, family, ecn, becomes):
    got, counts = across("--mark-ce 100", family=family, ecn=ecn, count=50)
    assert [bits for _, _, bits in got] == [becomes] * 50, "or the header's checksum is wrong"
    assert counts["marked"] == (50 if ecn else 0)


def test_a_narrow_link(across):
    """1042-byte frames at 10 Mbit/s take 0.83 ms each; 20 of them may wait."""
    got, counts = across("--rate 10 --queue 20", count=200, size=996, gap=0)
    assert counts["queue_full"] > 20 and len(got) == 200 - counts["queue_full"]
    assert numbers(got)[:20] == list(range(20))


def test_a_blackout(across):
    got, counts = across("--blackout 50,100", count=400, gap=0.001)
    lost = sorted(set(range(400)) - set(numbers(got)))
    assert lost == list(range(lost[0], lost[-1] + 1)) and len(lost) == counts["blacked_out"]
    assert lost[0] == 50 and 10 < len(lost) <= 100
