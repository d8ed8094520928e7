# SPDX-License-Identifier: BSD-3-Clause
"""The kernel's side of the oracle: sockets that do one thing each, chosen by the port. server.c is the same in
Barewire. As a program, in a namespace: kernel.py ADDRESS ADDRESS6. Runs until it is killed.
"""

import contextlib
import heapq
import selectors
import socket
import struct
import sys
import time

BULK = bytes(i % 251 for i in range(20000))
NAMES = ["keep", "deaf", "shut", "close", "abort", "unread", "bulk", "greet", "shut_open", "half", "late"]
PORTS = {"echo": 7, "discard": 9, **{name: 11 + i for i, name in enumerate(NAMES)}}
RECV_BYTES = 128 << 10
LATE_S = 1.5


class Server:
    def __init__(self, addresses):
        self.selector = selectors.DefaultSelector()
        self.timers = []  # (when, number, socket) of those that read late
        self.kept = []  # sockets that nobody reads any more, and nobody closes
        for address in addresses:
            for name, port in PORTS.items():
                s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                # The kernel doubles it, and offers half of that as window.
                s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECV_BYTES)
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                s.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)  # RFC 6093 5
                s.setblocking(False)
                s.bind((address, port))
                s.listen(4096)
                self.selector.register(s, selectors.EVENT_READ, ("listen", name))

    def run(self):
        print("ready", flush=True)
        while True:
            wait = max(self.timers[0][0] - time.monotonic(), 0) if self.timers else None
            for key, _ in self.selector.select(wait):
                s, (what, name) = key.fileobj, key.data
                # A connection that was reset meanwhile refuses this or that.
                with contextlib.suppress(OSError):
                    if what == "listen":
                        self.accept(s, name)
                    else:
                        self.readable(s, what, name)
            while self.timers and self.timers[0][0] <= time.monotonic():
                self.selector.register(heapq.heappop(self.timers)[2], selectors.EVENT_READ, ("later", "keep"))

    def accept(self, listener, name):
        s, _ = listener.accept()
        s.setblocking(False)
        if name == "deaf":
            self.kept.append(s)
            return
        self.selector.register(s, selectors.EVENT_READ, ("first", name))
        if name == "greet":
            s.send(b"0123456789")
        if name == "shut_open":
            s.shutdown(socket.SHUT_WR)

    def readable(self, s, what, name):
        if name == "late":
            self.selector.unregister(s)
            heapq.heappush(self.timers, (time.monotonic() + LATE_S, s.fileno(), s))
            return
        try:
            data = s.recv(1 << 20) if name != "unread" else b""
        except OSError:
            self.finish(s)
            return
        if not data:
            self.ended(s, name)
            return
        if name == "echo":
            s.send(data)
        if what == "first":
            self.selector.modify(s, selectors.EVENT_READ, ("later", name))
            self.begin(s, name)

    def begin(self, s, name):
        if name == "shut":
            s.shutdown(socket.SHUT_WR)
        elif name == "bulk":
            s.send(BULK)
        elif name == "close":
            self.finish(s)
        elif name == "abort":
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.finish(s)

    def ended(self, s, name):
        if name == "keep":
            self.selector.unregister(s)
            self.kept.append(s)
            return
        if name == "half":
            s.send(b"0123456789")
        self.finish(s)

    def finish(self, s):
        self.selector.unregister(s)
        s.close()


if __name__ == "__main__":
    Server(sys.argv[1:]).run()
