# SPDX-License-Identifier: BSD-3-Clause
"""What breaks under a running server and is repaired: it goes on within a second, and nothing is lost."""

import socket
import threading
import time

import pytest

from clients import Expected
from conftest import FAMILIES, HTTP, V6_CLIENT
from lab import wait_until


class Download(threading.Thread):
    """64 MiB, so slowly that it takes longer than a fault; nothing much lies in the kernel meanwhile."""

    def __init__(self, bench, files, family):
        super().__init__(daemon=True)
        with bench.client:
            self.socket = socket.socket(socket.AF_INET6 if family == "v6" else socket.AF_INET)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self.socket.settimeout(40)
        self.socket.connect((FAMILIES[family], HTTP))
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
