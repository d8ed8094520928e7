# SPDX-License-Identifier: BSD-3-Clause
"""barewire load --flood: at the kernel, whose counters and captures tell what came; at barewire serve; and refused.

A machine that is busy with other things makes packets late, which are not sent then: that each is one or the other is
asserted, to the last one, and that some were sent.
"""

import contextlib
import json
import re
import signal
import socket
import statistics
import struct
import subprocess
import threading
import time

import pytest

from conftest import ECHO, HTTP, Server, V4, V4_CLIENT, V6, V6_CLIENT
from lab import stop, veth, wait_until

WEB = 8000
SOURCES = "10.7.0.0/16"
URL = f"http://{V4_CLIENT}:{WEB}/"


class Link:
    """A veth: v0 for the flood, v1 for a kernel that is its target and sends what it answers back the same way."""

    def __init__(self, bench):
        self.bench, self.us, self.target = bench, bench.namespace("f"), bench.namespace("t")
        veth(self.us, self.target)
        self.target.ip("link set v1 up")
        self.target.ip(f"addr add {V4_CLIENT}/24 dev v1")
        self.target.ip(f"addr add {V6_CLIENT}/64 dev v1 nodad")
        self.target.ip(f"route add 10.0.0.0/8 via {V4}")
        self.target.ip(f"-6 route add fd99::/64 via {V6}")

    def start(self, *arguments, device="packet:v0"):
        self.path = self.bench.tmp_path / "flood.json"
        self.path.unlink(missing_ok=True)
        return self.us.start([self.bench.binary, "load", "--dev", device, "--addr", f"{V4}/24", "--addr", f"{V6}/64",
                              "--json", self.path, "-q", *arguments],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def end(self, process, status=0):
        said, _ = process.communicate(timeout=60)
        print(said)
        assert process.returncode == status
        assert "lost" not in said and "AddressSanitizer" not in said and "runtime error" not in said
        return json.loads(self.path.read_text()) if status == 0 else said

    def flood(self, *arguments, status=0, **options):
        return self.end(self.start(*arguments, **options), status)

    def counter(self, name):
        return int(self.target.run(["nstat", "-asz", name], quiet=True).stdout.split(name)[1].split()[0])


@pytest.fixture
def link(bench):
    return Link(bench)


def total(report):
    return report["sent"] + sum(report["unsent"].values())


def answers(report):
    return {kind: count for kind, count in report["answers"].items() if count}


# ---- the packets ---------------------------------------------------------------------------------------------------


class Capture:
    """All IP packets that come to the target, as they are on the wire."""

    def __init__(self, ns, iface):
        with ns:
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self.socket.bind((iface, 0))
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        self.socket.settimeout(0.2)
        self.frames, self.is_over = [], False
        self.thread = threading.Thread(target=self.take)
        self.thread.start()

    def take(self):
        while True:
            try:
                frame, (_, _, kind, _, _) = self.socket.recvfrom(65536)
            except TimeoutError:
                if self.is_over:
                    return
                continue
            if kind != socket.PACKET_OUTGOING:
                self.frames.append(frame)

    def end(self):
        self.is_over = True
        self.thread.join()
        self.socket.close()
        return self.frames


def ones_sum(data):
    data += b"\0" * (len(data) % 2)
    value = sum(struct.unpack(f">{len(data) // 2}H", data))
    while value >> 16:
        value = (value & 0xffff) + (value >> 16)
    return value


def packet(frame):
    """Source, protocol and what is above IP, with both checksums looked at; None when it is no TCP or UDP."""
    kind, l3 = frame[12:14], frame[14:]
    if kind == b"\x08\x00":
        assert l3[0] == 0x45 and ones_sum(l3[:20]) == 0xffff
        protocol, l4, addresses = l3[9], l3[20:struct.unpack(">H", l3[2:4])[0]], l3[12:20]
        source = socket.inet_ntop(socket.AF_INET, addresses[:4])
    elif kind == b"\x86\xdd":
        protocol, l4, addresses = l3[6], l3[40:40 + struct.unpack(">H", l3[4:6])[0]], l3[8:40]
        source = socket.inet_ntop(socket.AF_INET6, addresses[:16])
    else:
        return None
    if protocol not in (socket.IPPROTO_TCP, socket.IPPROTO_UDP):
        return None
    assert ones_sum(addresses + struct.pack(">II", len(l4), protocol) + l4) == 0xffff, "a wrong checksum"
    return source, protocol, l4


LINUX_SYN = {2: 4, 4: 2, 8: 10, 3: 3}  # MSS, SACK permitted, timestamp, window scale


def options(tcp):
    found, at = {}, 20
    while at < (tcp[12] >> 4) * 4:
        if tcp[at] == 1:
            at += 1
            continue
        found[tcp[at]] = tcp[at + 1]
        at += tcp[at + 1]
    return found


@pytest.mark.sanitize
@pytest.mark.parametrize("kind", ["syn", "ack", "udp"])
@pytest.mark.parametrize("target, sources", [(V4_CLIENT, SOURCES), (f"[{V6_CLIENT}]", "fd99::/64"), (V4_CLIENT, None)],
                         ids=["v4", "v6", "own"])
def test_every_packet_is_right_on_the_wire(link, kind, target, sources):
    """As many as are said, each with right checksums, by arithmetic that is not ours; from the range, and no two alike."""
    capture = Capture(link.target, "v1")
    report = link.flood("--flood", kind, 5000, "-n", 4000, *(["--from", sources] if sources else []),
                        *(["--size", 333] if kind == "udp" else []),
                        f"{'udp' if kind == 'udp' else 'http'}://{target}:{WEB}")
    packets = [p for p in map(packet, capture.end()) if p]
    assert total(report) == 4000 and len(packets) == report["sent"] > 100
    # Ports, too, differ by chance: of 64,512, few meet another.
    assert len({(source, l4[:8]) for source, _, l4 in packets}) > len(packets) * 0.9
    for source, protocol, l4 in packets:
        assert struct.unpack(">H", l4[2:4])[0] == WEB and struct.unpack(">H", l4[:2])[0] >= 1024
        assert source.startswith("10.7." if sources == SOURCES else "fd99::" if sources else V4)
        if kind == "udp":
            assert protocol == socket.IPPROTO_UDP and len(l4) == 8 + 333
        else:
            assert l4[13] == {"syn": 2, "ack": 16}[kind]
            assert options(l4) == (LINUX_SYN if kind == "syn" else {8: 10})
    found = len({source for source, _, _ in packets})
    assert found == 1 if sources is None else found > len(packets) * 0.9


# ---- at a kernel ---------------------------------------------------------------------------------------------------


def test_syn_flood_makes_the_kernel_send_cookies(link):
    """Its counters and ours agree; and since nothing of ours resets them, it is its own cookies that defend it."""
    with link.target:
        listener = socket.create_server(("0.0.0.0", WEB), backlog=16)
    link.target.sysctl("net/ipv4/tcp_syncookies", 1)
    report = link.flood("--flood", "syn", 20000, "-d", "2s", "--from", SOURCES, URL)
    listener.close()
    sent, received = link.counter("TcpExtSyncookiesSent"), link.counter("TcpInSegs")
    assert total(report) == 40000 and report["sent"] > 1000
    # The ring of a packet socket may lose some of what comes back.
    assert report["sent"] - 100 <= sent <= report["sent"] and received == report["sent"]
    assert 500 < report["answers"]["syn_ack"] <= report["sent"] + link.counter("TcpRetransSegs")
    assert set(answers(report)) == {"syn_ack"}
    assert link.counter("TcpEstabResets") == link.counter("TcpAttemptFails") == 0


def test_what_comes_back_by_kind(link):
    """From the kernel: RST where nobody listens, unreachable for datagrams to nobody, echoes of those to somebody."""
    link.target.sysctl("net/ipv4/icmp_ratelimit", 0)
    link.target.sysctl("net/ipv4/icmp_msgs_per_sec", 100000)
    with link.target:
        echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        echo.bind(("0.0.0.0", 7000))

    def reflect():
        with contextlib.suppress(OSError):
            while True:
                echo.sendto(*echo.recvfrom(65536))

    threading.Thread(target=reflect, daemon=True).start()
    few = ["-n", 1000, "--from", SOURCES]
    for kind, target, answer in [("syn", URL, "rst"), ("ack", URL, "rst"), ("udp", f"udp://{V4_CLIENT}:7000", "datagram"),
                                 ("udp", f"udp://{V4_CLIENT}:7001", "unreachable")]:
        report = link.flood("--flood", kind, 2000, *few, target)
        assert total(report) == 1000 and report["sent"] > 50
        # The kernel limits its ICMP errors in any case.
        assert set(answers(report)) == {answer} and 0 < report["answers"][answer] <= report["sent"]
    echo.close()


def test_rate_and_duration(link):
    """A constant rate, second by second, and an end that needs nobody: what is late is told, and not made up for."""
    began = time.monotonic()
    report = link.flood("--flood", "ack", 1000, "-d", "3s", URL)
    assert 3 <= time.monotonic() - began < 15
    assert total(report) == 3000 and report["sent"] > 300
    assert len(report["seconds"]) in (3, 4)
    assert all(second["sent"] <= 1000 * (second["length"] + 0.2) for second in report["seconds"])
    assert sum(second["sent"] for second in report["seconds"]) == report["sent"]


def test_interrupt_prints_what_was_sent(link):
    process = link.start("--flood", "ack", 1000, "-d", "1h", URL)
    wait_until(lambda: link.counter("TcpInSegs") > 100, "the flood")
    process.send_signal(signal.SIGINT)
    report = link.end(process)
    assert 100 < report["sent"] == link.counter("TcpInSegs") and report["seconds_measured"] < 30


def test_csv_and_several_workers(link):
    """Two workers share the rate; one of them has no queue of its own on an interface with one. The series is a table."""
    path = link.bench.tmp_path / "flood.csv"
    report = link.flood("--flood", "syn", 5001, "-d", "1s", "--workers", 2, "--from", SOURCES, "--csv", path, URL)
    assert report["workers"] == 2 and total(report) == 5001 and link.counter("TcpInSegs") == report["sent"]
    head, *rows = [line.split(",") for line in path.read_text().splitlines()]
    assert head[:2] == ["at_s", "sent_per_s"] and len(rows) == len(report["seconds"])
    assert all(len(row) == len(head) for row in rows)


# ---- at barewire serve ---------------------------------------------------------------------------------------------


def test_goodput_beside_the_flood(bench, files):
    """Kernel clients on the same link as the flood: none of their requests fails, while cookies answer the flood."""
    bench.serve("packet", [f"--http {HTTP}={files}"], extra=["--route", f"10.0.0.0/8,{V4_CLIENT}"])
    url = bench.url("v4", "small.txt")
    out = bench.tmp_path / "flood.json"
    # The interface that the client has, too: the flood's own address is another.
    flood = bench.client.start([bench.binary, "load", "--dev", "packet:v1", "--addr", "198.18.77.9/24", "--flood", "syn",
                                10000, "-d", "60s", "--from", SOURCES, "-q", "--json", out, f"http://{V4}:{HTTP}"],
                               stdout=subprocess.DEVNULL)
    time.sleep(4)  # more than `tcp.half_open`, which are kept before cookies answer
    times = []
    for _ in range(5):
        done = bench.client.run(["curl", "-sS", "--max-time", 30, "-H", "Connection: close", "-w",
                                 "%{stderr}%{http_code} %{time_total}\\n", *[url] * 20], quiet=True)
        lines = [line.split() for line in done.stderr.splitlines()]
        assert [line[0] for line in lines] == ["200"] * 20
        times += [float(line[1]) for line in lines]
    assert stop(flood, signal.SIGINT) == 0
    report = json.loads(out.read_text())
    counters = bench.server.stop()
    print(f"p50 {statistics.median(times) * 1e3:.2f} ms beside {report['sent'] / report['seconds_measured']:.0f} SYN/s")
    assert report["sent"] > 5000 and counters["tcp.cookies_sent"] > 1000
    assert 100 <= counters["tcp.accepted"] <= 102 and counters["drop.no_mbuf"] == 0
    assert counters["drop.l4_checksum"] == counters["drop.ip_checksum"] == 0


@pytest.mark.sanitize
@pytest.mark.parametrize("kind, url, answer", [("syn", f"http://{V4}:{HTTP}", "syn_ack"), ("udp", f"udp://{V4}:{ECHO}", "datagram"),
                                               ("ack", f"http://{V4}:{HTTP}", "rst"), ("syn", f"http://{V4}:9", "rst")])
def test_over_memif(bench, files, kind, url, answer):
    """Nothing is lost between the two, so all that is sent is answered; by a TCP that has kept nothing, where it needs none."""
    ns = bench.namespace("s")
    path, out = bench.tmp_path / "memif.sock", bench.tmp_path / "flood.json"
    bench.server = Server(ns, [bench.binary, "serve", "--dev", f"memif:{path},role=server", "--http", f"{HTTP}={files}",
                               "--echo", ECHO, "--addr", f"{V4}/24", "--route", f"10.0.0.0/8,{V4_CLIENT}"], bench.log("barewire"))
    bench.servers.append(bench.server)
    wait_until(path.exists, "the memif socket")
    ns.run([bench.binary, "load", "--dev", f"memif:{path},role=client", "--addr", f"{V4_CLIENT}/24", "--flood", kind, 20000,
            "-n", 20000, "--cpus", 0, "--from", "10.0.0.0/8", "-q", "--json", out, url])
    report = json.loads(out.read_text())
    counters = bench.server.stop()
    assert total(report) == 20000 and report["sent"] > 500
    assert set(answers(report)) == {answer}
    if answer == "syn_ack":
        assert report["sent"] <= report["answers"]["syn_ack"] <= report["sent"] + counters["tcp.retransmits"]
    else:
        assert report["answers"][answer] == report["sent"]
    assert counters["drop.l4_checksum"] == counters["drop.ip_checksum"] == counters["drop.not_for_us_ip"] == 0
    assert counters["tcp.accepted"] == 0


# ---- what is refused -----------------------------------------------------------------------------------------------


def refused(link, word, *arguments, status=2, **options):
    said = link.flood(*arguments, status=status, **options)
    assert word in said and len(said.splitlines()) == 1, said
    assert link.counter("TcpInSegs") == 0


SYN = ["--flood", "syn", "1000"]
BAD = {
    "no such kind": (["--flood", "fin", "1000", URL], "give syn, ack or udp"),
    "no rate": ([URL, "--flood", "syn"], "--flood: no value"),
    "rate of zero": (["--flood", "syn", "0", URL], "--flood"),
    "rate beyond reason": (["--flood", "syn", "100000001", URL], "--flood"),
    "rate that is none": (["--flood", "syn", "fast", URL], "--flood"),
    "no target": (SYN, "one target"),
    "two targets": ([*SYN, URL, URL], "one target"),
    "TCP to a datagram's port": ([*SYN, f"udp://{V4_CLIENT}:{WEB}"], "udp://"),
    "datagrams to a TCP port": (["--flood", "udp", "1000", URL], "udp://"),
    "a day": ([*SYN, "-d", "24h", URL], "an hour at most"),
    "not one packet": (["--flood", "syn", "1", "-d", "900ms", URL], "not one packet"),
    "a path": ([*SYN, f"{URL}index.html"], "has a path"),
    "a query": ([*SYN, f"{URL}?q=1"], "has a path"),
    "a user": ([*SYN, f"http://me@{V4_CLIENT}:{WEB}/"], "has a user"),
    "a password": ([*SYN, f"resp://:secret@{V4_CLIENT}:{WEB}"], "has a password"),
    "no end": ([*SYN, "-d", "0", URL], "--duration"),
    "flags of a load": ([*SYN, "-c", "5", URL], "--connections: means nothing to --flood"),
    "a size without datagrams": ([*SYN, "--size", "100", URL], "--size: means nothing"),
    "a datagram that fits no packet": (["--flood", "udp", "1000", "--size", "1473", f"udp://{V4_CLIENT}:9"], "at most 1472"),
    "the Internet": ([*SYN, "http://8.8.8.8/"], "is a host of the Internet"),
    "the Internet, IPv6": ([*SYN, "http://[2600::1]/"], "is a host of the Internet"),
    "the Internet, by NAT64": ([*SYN, "http://[64:ff9b::808:808]/"], "is a host of the Internet"),
    "sources of the Internet": ([*SYN, "--from", "8.0.0.0/8", URL], "has hosts of the Internet"),
    "sources of which some are": ([*SYN, "--from", "192.0.0.0/16", URL], "has hosts of the Internet"),
    "sources of all kinds": ([*SYN, "--from", "0.0.0.0/1", URL], "has hosts of the Internet"),
    "sources of groups": ([*SYN, "--from", "224.0.0.0/8", URL], "is nobody's"),
    "sources with the target": ([*SYN, "--from", "198.18.0.0/16", URL], "which --from makes ours"),
    "sources of another family": ([*SYN, "--from", "fd99::/64", URL], "of another family"),
    "broadcast": ([*SYN, "http://198.18.77.255/"], "is no other host"),
    "everybody": ([*SYN, "http://255.255.255.255/"], "is no other host"),
    "a group": ([*SYN, "http://[ff02::1]/"], "is no other host"),
    "ourselves": ([*SYN, f"http://{V4}/"], "is no other host"),
    "a gateway": ([*SYN, "--gateway", V4_CLIENT, URL], "leads everywhere"),
    "half a gateway": ([*SYN, "--route", f"128.0.0.0/1,{V4_CLIENT}", URL], "leads everywhere"),
    "no way": ([*SYN, "http://10.99.0.1/"], "no way to 10.99.0.1"),
    "a second device": ([*SYN, "--dev", "packet:lo", URL], "a flood goes out by one device; leave packet:lo out"),
    "two reports on one output": ([*SYN, "--json", "-", "--csv", "-", URL], "give one of them a file"),
}


@pytest.mark.parametrize("case", BAD)
def test_refused(link, case):
    arguments, word = BAD[case]
    refused(link, word, *arguments)


def test_a_raw_device(link):
    refused(link, "cannot tell whether", *SYN, URL, device="net_af_packet0,iface=v0")


def test_nobody_there(link):
    refused(link, "198.18.77.99 does not answer ARP", *SYN, "http://198.18.77.99/", status=1)


def default_route(*routes):
    def make(ns):
        for route in routes:
            ns.ip(route)
    return make


def on_a_bridge(ns):
    ns.ip("link add br0 type bridge")
    ns.ip("link set v0 master br0")
    ns.ip("link set br0 up")
    ns.ip(f"addr add {V4}/24 dev br0")
    ns.ip(f"route add default via {V4_CLIENT}")


def under_a_macvlan(ns):
    ns.ip("link add link v0 name m0 type macvlan")
    ns.ip("link set m0 up")
    ns.ip("addr add 10.55.0.2/24 dev m0")
    ns.ip("route add default via 10.55.0.1")


DEFAULT_ROUTES = {
    "main table": default_route(f"addr add {V4}/24 dev v0", f"route add default via {V4_CLIENT}"),
    "without a gateway": default_route("route add default dev v0"),
    "another table": default_route("route add default dev v0 table 77"),
    "one of several next hops": default_route("link add d0 type veth peer name d1", "link set d0 up",
                                              "route add default nexthop dev d0 nexthop dev v0"),
    "a next hop object": default_route("nexthop add id 5 dev v0", "route add default nhid 5"),
    "in halves": default_route("route add 0.0.0.0/1 dev v0", "route add 128.0.0.0/1 dev v0"),
    "IPv6": default_route("-6 route add default dev v0"),
    "IPv6, another table": default_route("-6 route add default dev v0 table 77"),
    "of its bridge": on_a_bridge,
    "of a macvlan on it": under_a_macvlan,
}


@pytest.mark.parametrize("case", DEFAULT_ROUTES)
def test_refused_on_a_device_with_a_default_route(link, case):
    link.us.sysctl("net/ipv6/conf/v0/disable_ipv6", 0)
    DEFAULT_ROUTES[case](link.us)
    refused(link, "v0 carries a default route", *SYN, URL)


def test_taken_beside_a_default_route(link):
    """Another interface's is none of ours, nor are routes of the same device that lead to a part of all, or to groups."""
    for command in ("link add d0 type veth peer name d1", "link set d0 up", "route add default dev d0",
                    "route add 10.0.0.0/8 dev v0", "route add 224.0.0.0/4 dev v0"):
        link.us.ip(command)
    assert link.flood(*SYN, "-n", 100, URL)["sent"] > 0


def test_help_names_it(binary):
    said = subprocess.run([binary, "load", "--help"], capture_output=True, text=True, check=True).stdout
    assert re.search(r"--flood syn\|ack\|udp RATE", said)
