# SPDX-License-Identifier: BSD-3-Clause
"""What breaks under a running server and is repaired: it goes on within a second, and nothing is lost."""

import signal
import socket
import threading
import time

import pytest

from clients import Expected
from conftest import FAMILIES, HTTP, V4, V4_CLIENT, V6_CLIENT, Server
from lab import cpu_seconds, stop, veth, wait_until


class Download(threading.Thread):
    """64 MiB, so slowly that it takes longer than a fault; nothing much lies in the kernel meanwhile."""

    def __init__(self, bench, files, family, port=HTTP):
        super().__init__(daemon=True)
        with bench.client:
            self.socket = socket.socket(socket.AF_INET6 if family == "v6" else socket.AF_INET)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self.socket.settimeout(40)
        self.socket.connect((FAMILIES[family], port))
        self.socket.sendall(b"GET /64m HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        self.expected = Expected(files / "64m")
        self.heard_at, self.error = time.monotonic(), None
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
                if self.expected.offset < 40 << 20:
                    time.sleep(len(chunk) / (8 << 20))
            self.expected.done()
        except Exception as error:  # pylint: disable=broad-exception-caught
            self.error = error

    def resumed_at(self, since):
        """When the first bytes came after that moment."""
        wait_until(lambda: self.heard_at > since or self.error, "the download to go on", timeout=30, every=0.001)
        return self.heard_at

    def finish(self):
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
