# SPDX-License-Identifier: BSD-3-Clause
"""
Clients that check every byte. As a program (in a namespace): clients.py echo HOST PORT FILE, or clients.py steady
HOST,HOST SOURCE,SOURCE ECHO-PORT HTTP-PORT FROM-PORT.
"""

import json
import mmap
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

CHUNK = 1 << 20


class WrongBytes(AssertionError):
    pass


class Expected:
    """A file that arrives as a stream: compares chunk by chunk and says where the first difference is."""

    def __init__(self, path):
        self.file = open(path, "rb")
        self.file.seek(0, 2)
        self.size = self.file.tell()
        self.map = mmap.mmap(self.file.fileno(), 0, prot=mmap.PROT_READ)
        self.view = memoryview(self.map)
        self.offset = 0

    def feed(self, chunk):
        end = self.offset + len(chunk)
        if end > self.size:
            raise WrongBytes(f"more than the {self.size} bytes expected")
        with self.view[self.offset:end] as want:
            is_right = chunk == want
        if not is_right:
            want = self.map[self.offset:end]
            at = next(i for i, byte in enumerate(chunk) if byte != want[i])
            raise WrongBytes(f"first wrong byte at offset {self.offset + at} of {self.size}")
        self.offset = end

    def done(self):
        if self.offset != self.size:
            raise WrongBytes(f"ended after {self.offset} of {self.size} bytes")

    def close(self):
        self.view.release()
        self.map.close()
        self.file.close()


def udp_socket(ns, address, port):
    with ns:
        s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(3)
    s.connect((address, port))
    return s


def download(ns, url, path, *, timeout=100, options=()):
    """curl, compared with the file while it streams. Returns the seconds that it took."""
    argv = ns.argv(["curl", "-sS", "-g", "--fail", "--max-time", timeout, *options, url])
    print("$", " ".join(argv), flush=True)
    expected = Expected(path)
    began = time.monotonic()
    curl = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        # As much as fits in one pipe read; readinto keeps one buffer for a gigabyte.
        buffer = bytearray(CHUNK)
        view = memoryview(buffer)
        while count := curl.stdout.readinto1(buffer):
            expected.feed(view[:count])
        status = curl.wait(10)
        said = curl.stderr.read().decode(errors="replace").strip()
        assert status == 0, f"curl exit status {status} after {expected.offset} bytes: {said}"
        expected.done()
    finally:
        curl.kill()
        curl.wait()
        curl.stdout.close()
        curl.stderr.close()
        expected.close()
    seconds = time.monotonic() - began
    print(f"{url}: {expected.size} bytes in {seconds:.2f} s, {expected.size / seconds / 1e6:.0f} MB/s", flush=True)
    return seconds


def tcp_info(s):
    """Some of Linux's struct tcp_info."""
    raw = s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    offsets = {"snd_ssthresh": 76, "total_retrans": 100, "delivered_ce": 196}
    info = {name: struct.unpack_from("=I", raw, offset)[0] for name, offset in offsets.items()}
    return {"options": raw[5], **info}


def echo_upload(host, port, path, timeout=110):
    """Send a file to an echo service and compare what comes back, both at once."""
    expected = Expected(path)
    began = time.monotonic()
    with socket.create_connection((host, port), timeout=10) as s:
        s.settimeout(timeout)
        failure = []

        def send():
            try:
                with open(path, "rb") as file:
                    s.sendfile(file)
                s.shutdown(socket.SHUT_WR)
            except OSError as error:
                failure.append(error)

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        buffer = bytearray(CHUNK)
        view = memoryview(buffer)
        while count := s.recv_into(buffer):
            expected.feed(view[:count])
        sender.join(10)
        if failure:
            raise failure[0]
        print(json.dumps(tcp_info(s)))
    expected.done()
    seconds = time.monotonic() - began
    print(f"echo [{host}]:{port}: {expected.size} bytes there and back in {seconds:.2f} s", flush=True)


def ask(host, port, source, path):
    """One request on a connection of its own. Returns the body."""
    with socket.create_connection((host, port), timeout=10, source_address=(source, 0)) as s:
        s.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        said = b"".join(iter(lambda: s.recv(CHUNK), b""))
    head, body = said.split(b"\r\n\r\n", 1)
    if not head.startswith(b"HTTP/1.1 200 "):
        raise WrongBytes(head)
    return body


def steady(hosts, sources, echo_port, http_port, from_port):
    """
    Until SIGTERM, for each host: a word on one connection to the echo service, then a request on a new connection.
    Prints how many laps there were and how long the slowest took.
    """
    is_over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: is_over.set())
    kept = [socket.create_connection((host, echo_port), timeout=10, source_address=(source, from_port))
            for host, source in zip(hosts, sources)]
    laps, slowest = 0, 0.0
    while not is_over.is_set():
        began = time.monotonic()
        for s, host, source in zip(kept, hosts, sources):
            word = random.randbytes(3000)
            s.sendall(word)
            got = b""
            while len(got) < len(word):
                more = s.recv(CHUNK)
                if not more:
                    raise WrongBytes("the echo ended")
                got += more
            if got != word or ask(host, http_port, source, "/small.txt") != b"x" * 100 + b"\n":
                raise WrongBytes("not what was sent")
        laps += 1
        slowest = max(slowest, time.monotonic() - began)
        print("lap", file=sys.stderr, flush=True) if laps == 1 else time.sleep(0.005)
    for s in kept:
        s.close()
    print(json.dumps({"laps": laps, "slowest": round(slowest, 3)}))


if __name__ == "__main__":
    what, *words = sys.argv[1:]
    if what == "echo":
        echo_upload(words[0], int(words[1]), words[2])
    elif what == "steady":
        steady(words[0].split(","), words[1].split(","), *map(int, words[2:]))
    else:
        sys.exit(__doc__)
