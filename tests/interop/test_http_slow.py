# SPDX-License-Identifier: BSD-3-Clause
"""slowhttptest's four attacks with 4,000 connections: what a normal client sees meanwhile, and what is left of them."""

import contextlib
import os
import re
import resource
import signal
import statistics
import subprocess
import time

import pytest

from clients import download
from conftest import HTTP, V4
from lab import stop, wait_until

CONNECTIONS = 4000
ATTACKERS = 4      # processes: one looks at all of its connections again for each that it opens
ROUND = 500        # requests of the normal client, the first on a new connection
ROUNDS = 5
LAST_CPU = max(os.sched_getaffinity(0))  # which a worker takes
GROWTH_KIB = 4096 + 4 * CONNECTIONS  # what connections touched stays with the process

MODES = {
    # Headers that never end; bodies of a few bytes a time, where a POST would be refused at once; answers of 64 MiB
    # that nobody reads; a thousand ranges in one request, on as many connections one after the other.
    "headers": ["-H", "-r", 1000, "-x", 8, "small.txt"],
    "body": ["-B", "-t", "GET", "-r", 1000, "-s", 8192, "-x", 8, "small.txt"],
    "read": ["-X", "-r", 1000, "-w", 1, "-y", 64, "-n", 2, "-z", 8, "64m"],
    "range": ["-R", "-r", 250, "-a", 1, "-b", 1000, "small.txt"],
}

# For each line: the median of a round, its 90th and 99th percentile and its slowest, in seconds.
CLIENT = """
import socket, sys, time
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for line in sys.stdin:
    took = []
    for i in range(count):
        began = time.perf_counter()
        if i == 0:
            s = socket.create_connection((host, port), timeout=20)
        s.sendall(b"GET /small.txt HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n")
        said = b""
        while not said.endswith(b"x" * 100 + b"\\n"):
            more = s.recv(65536)
            assert more, said
            said += more
        took.append(time.perf_counter() - began)
        assert said.startswith(b"HTTP/1.1 200 "), said
        time.sleep(0.0005)
    s.close()
    took.sort()
    print(*[took[count * part // 100] for part in (50, 90, 99)], took[-1], flush=True)
"""


@pytest.fixture
def many_files():
    """Descriptors for the attackers, which inherit the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * CONNECTIONS), max(hard, 2 * CONNECTIONS)))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Client:
    """Asks one request after the other. It is on the worker's core, and both run before all else; the attackers have
    the other cores: what their own work costs, such as looking at a thousand sockets at once, is not the server's."""

    def __init__(self, bench):
        bench.home.run(["chrt", "-a", "-f", "-p", 10, bench.server.pid])
        self.process = bench.client.start(["taskset", "-c", LAST_CPU, "chrt", "-f", 20, "/usr/bin/python3", "-c", CLIENT, V4, HTTP, ROUND],
                                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def rounds(self):
        """Of each round, the median and the 90th percentile. What is beyond that is not the server's: sending to a
        program that sleeps is an interrupt of its CPU, which takes a virtual machine longer than our request, and the
        host takes the CPU away as it likes, which alone has been seen to make the 99th percentile ten times what it
        was a second before."""
        found = []
        for _ in range(ROUNDS):
            self.process.stdin.write("\n")
            self.process.stdin.flush()
            took = list(map(float, self.process.stdout.readline().split()))
            print("p50 {:.0f} us, p90 {:.0f} us, p99 {:.0f} us, slowest {:.0f} us".format(*(1e6 * part for part in took)),
                  flush=True)
            found.append(took[:2])
        return found

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(5) == 0


def connected(ns):
    """TCP connections of the clients, by their kernel."""
    with ns, open("/proc/thread-self/net/sockstat") as file:
        return int(re.search(r"TCP: inuse (\d+)", file.read())[1])


def resident_kib(pid):
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+) kB", status.read())[1])


def open_connections(server):
    """By the server's line of rates."""
    lines = server.output().count("conn/s")
    server.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: server.output().count("conn/s") > lines, "a line of rates", timeout=3)
    return int(re.findall(r"conn/s, (\d+) open", server.output())[-1])


@pytest.mark.parametrize("mode", MODES)
def test_slowhttptest(bench, files, tmp_path, many_files, mode):
    conf = tmp_path / "many.yaml"
    conf.write_text("mbufs: 65536\n")  # 4,000 who take nothing hold several buffers each
    server = bench.serve("packet", [f"--http {HTTP}={files}"], extra=["-c", conf, "--stats", 0])
    *options, name = MODES[mode]
    download(bench.client, bench.url("v4", name), files / name)
    client = Client(bench)
    quiet = client.rounds()
    before = resident_kib(server.pid)
    attackers = []
    try:
        for i in range(ATTACKERS):
            log = bench.log(f"slowhttptest-{i}")
            attackers.append(bench.client.start(
                ["taskset", "-c", f"0-{max(LAST_CPU - 1, 0)}", "slowhttptest", "-c", CONNECTIONS // ATTACKERS, "-l", 60, "-i", 2, "-p", 3, "-u", bench.url("v4", name),
                 *options], stdout=log.open("wb"), stderr=subprocess.STDOUT))
        if mode != "range":
            wait_until(lambda: connected(bench.client) >= CONNECTIONS, "all connections", timeout=20)
            assert open_connections(server) >= CONNECTIONS * 0.99
        attacked = client.rounds()
        if mode != "range":
            assert connected(bench.client) >= CONNECTIONS * 0.99, "the attack was over too soon"
    finally:
        for attacker in attackers:
            if mode != "range":
                stop(attacker, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                attacker.wait(20)
    wait_until(lambda: open_connections(server) == 0, "the end of all connections", every=0.3)
    grown = resident_kib(server.pid) - before
    quiet += client.rounds()
    client.close()
    alone, beside = ([statistics.median(part) for part in zip(*rounds, strict=True)] for rounds in (quiet, attacked))
    counters = server.stop()
    print(f"{mode}: p50 {alone[0] * 1e6:.0f} us alone, {beside[0] * 1e6:.0f} us beside the attack, p90 {alone[1] * 1e6:.0f} "
          f"and {beside[1] * 1e6:.0f} us, {grown} KiB more", {name: value for name, value in counters.items() if value},
          flush=True)
    assert counters["tcp.accepted"] >= CONNECTIONS
    assert counters["tcp.syn_refused"] == counters["drop.no_mbuf"] == 0
    assert beside[0] <= 2 * alone[0] and beside[1] <= 5 * alone[1]
    assert grown < GROWTH_KIB
