#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Goodput of one connection over a bad link: Barewire as the sender beside the kernel, over the same losses.

    tests/interop/goodput.py [--rounds N] [--seconds S] [--cc cubic] [LOSS,RTT_MS]...

Downloads of a large file into the kernel's TCP, through the same kind of bridge with the same seed, in turn. Each
figure is the median of the rounds' Mbit/s with its extremes, the ratio the median of the rounds' ratios.
"""

import argparse
import contextlib
import io
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from bridge import Bridge
from lab import Namespace, stop, wait_until

HERE = pathlib.Path(__file__).resolve().parent
BINARY = pathlib.Path(os.environ.get("BAREWIRE", HERE.parent.parent / "build/app/barewire")).resolve()
IMPAIR = BINARY.parent.parent / "tests/tools/impair"
PORT, FILE_MIB = 8080, 256
SENDERS = {"barewire": "198.18.77", "kernel": "198.18.78"}


def serve_from_kernel(address, cc, path):
    """The least that a web server can be: sendfile() for whoever asks."""
    def answer(s):
        with s, open(path, "rb") as file, contextlib.suppress(OSError):
            s.recv(4096)
            s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % os.fstat(file.fileno()).st_size)
            s.sendfile(file)

    with socket.create_server((address, PORT)) as server:
        # Its connections inherit it. Not by sysctl: outside the first namespace that allows less.
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, cc.encode())
        print("ready", flush=True)
        while True:
            threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()


def receive(ns, address, seconds):
    """Bytes of the file that arrive within so long after the request."""
    with ns:
        s = socket.create_connection((address, PORT), timeout=30)
    with s:
        s.sendall(b"GET /file HTTP/1.1\r\nHost: x\r\n\r\n")
        began, count, buffer = time.monotonic(), 0, bytearray(1 << 18)
        while (left := began + seconds - time.monotonic()) > 0:
            s.settimeout(left)
            with contextlib.suppress(TimeoutError):
                n = s.recv_into(buffer)
                if n == 0:
                    break
                count += n
        return count * 8e-6 / (time.monotonic() - began)


class Field:
    """A client's namespace, and on the other side of a bridge each a server's."""

    def __init__(self, made, folder, cc):
        def namespace(role):
            ns = Namespace(role)
            made.callback(ns.remove)
            return ns

        self.client = namespace("c")
        self.bridges = {}
        file = pathlib.Path(folder) / "file"
        with open(file, "wb") as out:
            out.truncate(FILE_MIB << 20)
        for number, (sender, net) in enumerate(SENDERS.items()):
            home = namespace("s")
            near = f"v{1 + number}"
            bridge = Bridge(IMPAIR, namespace("m"), self.client, home, near_name=near)
            self.client.ip(f"addr add {net}.1/24 dev {near}")
            self.bridges[sender] = bridge
            if sender == "kernel":
                home.ip(f"addr add {net}.2/24 dev v0")
                # Nothing is learnt from one round for the next.
                home.sysctl("net/ipv4/tcp_no_metrics_save", 1)
                kernel = home.start([sys.executable, __file__, "--serve", f"{net}.2", cc, file],
                                    stdout=subprocess.PIPE)
                assert kernel.stdout.readline() == b"ready\n"
            else:
                log = open(pathlib.Path(folder) / "log", "wb")
                barewire = home.start([BINARY, "serve", "--dev", "packet:v0", "--addr", f"{net}.2/24",
                                       "--http", f"{PORT}={folder}"], stdout=log, stderr=log)
                made.callback(stop, barewire)
                bridge.start("")
                wait_until(lambda: self.client.run(["ping", "-c", 1, "-W", 0.3, f"{net}.2"], check=False).returncode == 0,
                           "Barewire")
                bridge.stop()

    def measure(self, sender, options, seconds):
        bridge = self.bridges[sender]
        bridge.start(options)
        try:
            return receive(self.client, f"{SENDERS[sender]}.2", seconds)
        finally:
            time.sleep(0.5)  # for the reset to get through
            bridge.stop()


def compare(field, loss, rtt_ms, rounds, seconds):
    """Mbit/s of each sender in each round."""
    found = {sender: [] for sender in SENDERS}
    for seed in range(1, rounds + 1):
        options = f"--seed {seed} --delay {rtt_ms / 2} --forth --back --loss {loss}"
        for sender in SENDERS if seed % 2 else reversed(SENDERS):
            found[sender].append(field.measure(sender, options, seconds))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--cc", default="cubic", help="of the kernel's sender")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("points", nargs="*", metavar="LOSS,RTT_MS", default=["0.1,20", "1,20", "3,20", "1,100"])
    args = parser.parse_args()
    if args.serve:
        serve_from_kernel(*args.serve)
    with contextlib.ExitStack() as made:
        folder = made.enter_context(tempfile.TemporaryDirectory(prefix="barewire-goodput-"))
        os.chmod(folder, 0o755)
        with contextlib.redirect_stdout(io.StringIO()):
            field = Field(made, folder, args.cc)
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
