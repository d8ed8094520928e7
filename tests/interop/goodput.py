#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Goodput of one connection over a bad link: Barewire beside the kernel, over the same losses.

    tests/interop/goodput.py [--upload] [--rounds N] [--seconds S] [--cc cubic] [--config FILE]
                             [LOSS,RTT_MS]...

Downloads of a large file into the kernel's TCP, or uploads from it, through the same kind of bridge with the same seed,
in turn. Each figure is the median of the rounds' Mbit/s with its extremes, the ratio the median of the rounds' ratios.
"""

import argparse
import contextlib
import fcntl
import io
import os
import pathlib
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time

from bridge import Bridge
from lab import Namespace, stop, wait_until

HERE = pathlib.Path(__file__).resolve().parent
BINARY = pathlib.Path(os.environ.get("BAREWIRE", HERE.parent.parent / "build/app/barewire")).resolve()
IMPAIR = BINARY.parent.parent / "tests/tools/impair"
PORT, DISCARD, FILE_BYTES = 8080, 9, 64 << 20
SERVERS = {"barewire": "198.18.77", "kernel": "198.18.78"}


def serve_from_kernel(address, cc, path):
    """The least that a web server can be: sendfile() for whoever asks. Who asks for nothing is listened to."""
    def answer(s):
        with s, open(path, "rb") as file, contextlib.suppress(OSError):
            if not s.recv(4096).startswith(b"GET"):
                buffer = bytearray(1 << 18)
                while s.recv_into(buffer):
                    pass
                return
            s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % os.fstat(file.fileno()).st_size)
            s.sendfile(file)

    with socket.create_server((address, PORT)) as server:
        # Its connections inherit it. Not by sysctl: outside the first namespace that allows less.
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, cc.encode())
        print("ready", flush=True)
        while True:
            threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()


def receive(ns, address, seconds):
    """Mbit/s of the file, from its first byte on, for so long."""
    with ns:
        s = socket.create_connection((address, PORT), timeout=30)
    with s:
        s.sendall(b"GET /file HTTP/1.1\r\nHost: x\r\n\r\n")
        buffer = bytearray(1 << 18)
        s.recv_into(buffer)
        count, began = 0, time.monotonic()
        while count < FILE_BYTES - len(buffer) and (left := began + seconds - time.monotonic()) > 0:
            s.settimeout(left)
            with contextlib.suppress(TimeoutError):
                count += s.recv_into(buffer)
        return count * 8e-6 / (time.monotonic() - began)


def send(ns, address, port, cc, seconds):
    """The same the other way: bytes that are acknowledged within so long."""
    with ns:
        s = socket.create_connection((address, port), timeout=30)
    with s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, cc.encode())
        began, count, zeros = time.monotonic(), 0, bytes(1 << 18)
        while (left := began + seconds - time.monotonic()) > 0:
            s.settimeout(left)
            with contextlib.suppress(TimeoutError):
                count += s.send(zeros)
        queued = struct.unpack("i", fcntl.ioctl(s, termios.TIOCOUTQ, bytes(4)))[0]
        # What is still queued is not to be sent.
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return (count - queued) * 8e-6 / (time.monotonic() - began)


class Field:
    """A client's namespace, and on the other side of a bridge each a server's."""

    def __init__(self, made, folder, cc, is_upload, config):
        self.cc, self.is_upload = cc, is_upload

        def namespace(role):
            ns = Namespace(role)
            made.callback(ns.remove)
            return ns

        self.client = namespace("c")
        self.tune(self.client)
        self.bridges = {}
        file = pathlib.Path(folder) / "file"
        with open(file, "wb") as out:
            out.truncate(FILE_BYTES)
        for number, (server, net) in enumerate(SERVERS.items()):
            home = namespace("s")
            near = f"v{1 + number}"
            bridge = Bridge(IMPAIR, namespace("m"), self.client, home, near_name=near)
            self.client.ip(f"addr add {net}.1/24 dev {near}")
            self.bridges[server] = bridge
            if server == "kernel":
                home.ip(f"addr add {net}.2/24 dev v0")
                self.tune(home)
                kernel = home.start([sys.executable, __file__, "--serve", f"{net}.2", cc, file],
                                    stdout=subprocess.PIPE)
                assert kernel.stdout.readline() == b"ready\n"
            else:
                with open(pathlib.Path(folder) / "log", "wb") as log:
                    barewire = home.start([BINARY, "serve", "--dev", "packet:v0", "--addr", f"{net}.2/24", "--http",
                                           f"{PORT}={folder}", "--discard", DISCARD, *(["-c", config] if config else [])], stdout=log, stderr=log)
                made.callback(stop, barewire)
                bridge.start("")
                ping = ["ping", "-c", 1, "-W", 0.3, f"{net}.2"]
                wait_until(lambda: self.client.run(ping, check=False).returncode == 0, "Barewire to answer a ping")
                bridge.stop()

    @staticmethod
    def tune(ns):
        """Nothing is learnt from one round for the next, and no window that is only about to grow is in the way."""
        ns.sysctl("net/ipv4/tcp_no_metrics_save", 1)
        ns.sysctl("net/ipv4/tcp_rmem", "4096 4194304 33554432")

    def measure(self, server, options, seconds):
        bridge, address = self.bridges[server], f"{SERVERS[server]}.2"
        bridge.start(options)
        try:
            if self.is_upload:
                return send(self.client, address, DISCARD if server == "barewire" else PORT, self.cc, seconds)
            return receive(self.client, address, seconds)
        finally:
            time.sleep(0.5)  # for the reset to get through
            bridge.stop()


def compare(field, loss, rtt_ms, rounds, seconds):
    """Mbit/s of each server in each round."""
    found = {server: [] for server in SERVERS}
    for seed in range(1, rounds + 1):
        options = f"--seed {seed} --delay {rtt_ms / 2} --loss {loss}"
        for server in SERVERS if seed % 2 else reversed(SERVERS):
            found[server].append(field.measure(server, options, seconds))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upload", action="store_true", help="Barewire and the kernel receive, the kernel sends")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--cc", default="cubic", help="of the kernel, where it sends")
    parser.add_argument("--config", help="of Barewire: a YAML file")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("points", nargs="*", metavar="LOSS,RTT_MS", default=["0.1,20", "1,20", "3,20", "1,100"])
    args = parser.parse_args()
    if args.serve:
        serve_from_kernel(*args.serve)
    with contextlib.ExitStack() as made:
        folder = made.enter_context(tempfile.TemporaryDirectory(prefix="barewire-goodput-"))
        os.chmod(folder, 0o755)
        with contextlib.redirect_stdout(io.StringIO()):
            field = Field(made, folder, args.cc, args.upload, args.config)
        print(f"{'loss':>6} {'RTT':>7} {'Barewire':>22} {'kernel':>22} {'ratio':>7}")
        for point in args.points:
            loss, rtt_ms = (float(word) for word in point.split(","))
            with contextlib.redirect_stdout(io.StringIO()):
                found = compare(field, loss, rtt_ms, args.rounds, args.seconds)
            ratios = [ours / theirs for ours, theirs in zip(found["barewire"], found["kernel"])]
            cells = [f"{statistics.median(all_):.2f} ({min(all_):.2f}-{max(all_):.2f})" for all_ in found.values()]
            print(f"{loss:5g}% {rtt_ms:4g} ms {cells[0]:>22} {cells[1]:>22} {statistics.median(ratios):7.2f}", flush=True)


if __name__ == "__main__":
    main()
