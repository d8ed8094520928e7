# SPDX-License-Identifier: BSD-3-Clause
"""What breaks under a running server and is repaired: it goes on within a second, and nothing is lost."""

import json
import signal
import socket
import subprocess
import threading
import time

import pytest
from scapy.all import ARP, ICMP, IP, Ether

import memif
from clients import Expected
from conftest import FAMILIES, HTTP, V4, V4_CLIENT, V6_CLIENT, Server
from lab import cpu_seconds, stop, veth, wait_until
from wire import TOOLS


class Download(threading.Thread):
    """64 MiB, so slowly that it takes longer than a fault, and at full speed after it; nothing much lies in the kernel."""

    def __init__(self, bench, files, family, port=HTTP):
        super().__init__(daemon=True)
        with bench.client:
            self.socket = socket.socket(socket.AF_INET6 if family == "v6" else socket.AF_INET)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self.socket.settimeout(40)
        self.socket.connect((FAMILIES[family], port))
        self.socket.sendall(b"GET /64m HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        self.expected = Expected(files / "64m")
        self.heard_at, self.error, self.is_slow = time.monotonic(), None, True
        self.start()

    def run(self):
        try:
            rest = b""
            while b"\r\n\r\n" not in rest:
                rest += self.socket.recv(4096)
            self.expected.feed(rest.split(b"\r\n\r\n", 1)[1])
            while chunk := self.socket.recv(32768):
                self.heard_at = time.monotonic()
                self.expected.feed(chunk)
                if self.is_slow and self.expected.offset < 40 << 20:
                    time.sleep(len(chunk) / (8 << 20))
            self.expected.done()
        except Exception as error:  # pylint: disable=broad-exception-caught
            self.error = error

    def resumed_at(self, since):
        """When the first bytes came after that moment."""
        wait_until(lambda: self.heard_at > since or self.error, "the download to go on", timeout=30, every=0.001)
        return self.heard_at

    def finish(self):
        self.is_slow = False
        self.join(40)
        assert not self.is_alive() and self.error is None, self.error
        self.expected.close()
        self.socket.close()


@pytest.mark.parametrize("device", ["tap", "packet", "xdp"])
def test_link_goes_down_and_up(bench, files, device):
    bench.serve(device, [f"--http {HTTP}={files}"])
    downloads = [Download(bench, files, family) for family in FAMILIES]
    time.sleep(0.5)
    down = time.monotonic()
    bench.client.ip(f"link set {bench.iface} down")
    time.sleep(4)  # without a word from the device, the next time-out would be two seconds off
    assert all(download.heard_at < down + 0.5 for download in downloads)
    up = time.monotonic()
    bench.client.ip(f"link set {bench.iface} up")
    # An interface that is set down loses its IPv6 addresses.
    bench.client.ip(f"addr add {V6_CLIENT}/64 dev {bench.iface} nodad")
    took = [download.resumed_at(up) - up for download in downloads]
    for download in downloads:
        download.finish()
    assert max(took) < 1


@pytest.mark.parametrize("family", FAMILIES)
def test_peer_vanishes(bench, files, family):
    """For four seconds a host does not have its address. A service with a user time-out of two gives up its connections,
    the one that was reading and the one that was not; the other service's goes on."""
    conf = bench.tmp_path / "timeout.yaml"
    conf.write_text(f"http:\n  - port: {HTTP}\n    root: {files}\n    user_timeout: 2s\n"
                    f"  - port: {HTTP + 1}\n    root: {files}\n")
    bench.serve("tap", extra=["-c", conf, "--stats", 1])
    address, length = {"v4": (V4_CLIENT, 24), "v6": (V6_CLIENT, 64)}[family]
    short, patient = [Download(bench, files, family, port) for port in (HTTP, HTTP + 1)]
    with bench.client:
        idle = socket.socket(socket.AF_INET6 if family == "v6" else socket.AF_INET)
    idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    idle.connect((FAMILIES[family], HTTP))
    idle.sendall(b"GET /64m HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(0.5)
    bench.client.ip(f"addr del {address}/{length} dev {bench.iface}")
    time.sleep(4)
    back = time.monotonic()
    bench.client.ip(f"addr add {address}/{length} dev {bench.iface}" + " nodad" * (family == "v6"))
    patient.resumed_at(back)
    patient.finish()
    short.socket.close()
    idle.close()
    counters = bench.server.stop()
    assert counters["tcp.timed_out"] == 2


@pytest.mark.parametrize("role", ["client", "server"])
def test_memif_peer_goes_and_comes_back(bench, files, role):
    """Another process at the other end, and with it another TAP: connections through it do not mind."""
    bench.client, bench.home, bench.iface = bench.namespace("c"), bench.namespace("s"), "bwm0"
    bench.socket = bench.tmp_path / "memif.sock"
    other = {"client": "server", "server": "client"}[role]
    bench.server = Server(bench.home, [bench.binary, "serve", "--dev", f"memif:{bench.socket},role={role}", "--addr",
                                       f"{V4}/24", "--http", f"{HTTP}={files}"], bench.log("barewire-0"))
    bench.servers.append(bench.server)
    bench.bridge(1500, role=other)
    bench.ready()
    download = Download(bench, files, "v4")
    time.sleep(0.5)
    stop(bench.testpmd, signal.SIGKILL)
    wait_until(lambda: bench.iface not in bench.client.links(), "the TAP to go")
    if other == "server":
        bench.socket.unlink()  # which it had no time for
    time.sleep(3)
    begun = time.monotonic()
    bench.bridge(1500, role=other)
    bench.ready()
    back = time.monotonic()
    took = download.resumed_at(back) - back
    download.finish()
    # The memif is there long before the TAP behind it has an address: from then on, time-outs back off again.
    assert took < 1 + (back - begun)


@pytest.mark.sanitize
@pytest.mark.deadline(200)
@pytest.mark.parametrize("role, lives", [("server", 50), ("client", 10)])
def test_memif_peer_leaves_in_full_traffic(bench, files, role, lives):
    """
    Most leave the memory as busy as it was, some are killed. Who comes after them is served, the last stays until the
    end, and no mbuf is lost.
    """
    ns = bench.namespace("s")
    path = bench.tmp_path / "memif.sock"
    eth = Ether(src="02:00:00:00:00:09", dst="02:00:00:00:00:01")
    frames = [bytes(Ether(src=eth.src, dst="ff:ff:ff:ff:ff:ff") / ARP(hwsrc=eth.src, psrc=V4_CLIENT, pdst=V4)),
              *[bytes(eth / IP(src=V4_CLIENT, dst=V4) / ICMP(seq=seq) / bytes(1472)) for seq in range(63)]]
    bench.server = Server(ns, [bench.binary, "serve", "--dev", f"memif:{path},role={role}", "--mac", eth.dst, "--http",
                               f"{HTTP}={files}", "--addr", f"{V4}/24", "--gateway", V4_CLIENT], bench.log("barewire"))
    bench.servers.append(bench.server)
    wait_until(lambda: "curl http" in bench.server.output(), "the banner")

    def peer():
        bench.server.assert_runs()
        if role == "client":
            path.unlink(missing_ok=True)  # which the one before may have had no time for
        return memif.Peer(path, frames, is_client=role == "server")

    def flooder(*load):
        at = path
        if role == "client":
            path.unlink(missing_ok=True)
            at = f"{path},role=server"
        return ns.start([TOOLS / "flood_memif", at, V4, V4_CLIENT, "/small.txt", *load, 0], stdout=subprocess.PIPE,
                        text=True)

    for life in range(lives):
        leaver = peer()
        time.sleep(0.02 + life % 10 / 200)
        leaver.leave()
    for life in range(5):
        killed = flooder(60, 0, 0)
        assert killed.stdout.readline() == "flooding\n"
        time.sleep(0.1 + life / 100)
        stop(killed, signal.SIGKILL)
        bench.server.assert_runs()
    said = flooder(0.2, 1000, 1000).communicate(timeout=60)[0]
    for phase in map(json.loads, said.splitlines()):
        assert phase["failed"] == 0 and phase["done"] == phase["started"]
    last = peer()
    time.sleep(0.1)
    counters = bench.server.stop()
    last.leave()
    print(counters["icmp.echo"], "echo requests,", counters["tcp.cookies_sent"], "SYNs")
    assert counters["icmp.echo"] > lives * 1000
    assert counters["tcp.cookies_sent"] > 5 * 1000


@pytest.mark.parametrize("device", ["packet", "xdp"])
def test_interface_is_removed(bench, files, device):
    """It says so, once, and waits for the operator; one of the same name later is another interface."""
    bench.serve(device, [f"--http {HTTP}={files}"])
    bench.home.ip("link del v0")
    line = f"--dev {device}:v0: v0 is gone; restart when there is one again"
    wait_until(lambda: line in bench.server.output(), "it to notice", timeout=2)
    veth(bench.home, bench.client)
    time.sleep(1.5)
    assert bench.server.output().count("gone") == 1
    before = cpu_seconds(bench.server.pid)
    time.sleep(1)
    assert cpu_seconds(bench.server.pid) - before < 0.3
    bench.server.stop()
