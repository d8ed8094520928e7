# SPDX-License-Identifier: BSD-3-Clause
"""Two workers, with one queue or two: a packet that arrives on the wrong core finds its own."""

import concurrent.futures
import contextlib
import http.client
import os
import re
import socket

import pytest

from clients import WrongBytes, download
from conftest import DEVICES, ECHO, FAMILIES, HERE, HTTP, V4

VETHS = ("packet", "xdp")


def of_workers(server, service, what):
    """What the final counters say of a service: of each worker where it is not 0."""
    found = re.findall(rf"^ +{service}\.(\d+)\.{what} +(\d+)$", server.output(), re.MULTILINE)
    return [int(value) for _, value in sorted(found)]


def packets_of_queues(ns):
    """What XDP has seen on each of v0's queues."""
    said = ns.run("ethtool -S v0", quiet=True).stdout
    return [int(count) for count in re.findall(r"rx_queue_\d+_xdp_packets: (\d+)", said)]


@pytest.mark.sanitize
@pytest.mark.parametrize("device, queues", [(device, 2) for device in DEVICES] + [("xdp", 1), ("memif", 1)])
def test_transfers_of_two_workers(bench, files, device, queues):
    server = bench.serve(device, [f"--http {HTTP}={files}", f"--echo {ECHO}"], extra=["--workers", 2], queues=queues)
    assert f"  queues    {queues} RX of " in server.output()
    # The namespace is the thread's own, so that each of these threads is free to start its own curl.
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(download, bench.client, bench.url(family, name), files / name)
                for name in ("1", "1m", "20m", "1m") for family in FAMILIES]
        for job in jobs:
            job.result()
    for address in FAMILIES.values():
        bench.client.run(["/usr/bin/python3", HERE / "clients.py", "echo", address, ECHO, files / "1m"])
        bench.client.run(["ping", "-c", 2, "-i", 0.05, "-W", 3, "-s", 4000, address])


@pytest.mark.sanitize
@pytest.mark.parametrize("device", DEVICES)
def test_both_of_two_workers_are_busy(bench, files, device):
    """Each with its connections, of which they get about as many, however the machine's other work slows one down."""
    laps, content = 10, (files / "small.txt").read_bytes()
    server = bench.serve(device, [f"--http {HTTP}={files}"], extra=["--workers", 2], queues=2)
    with contextlib.ExitStack() as stack, bench.client:
        clients = [stack.enter_context(contextlib.closing(http.client.HTTPConnection(address, HTTP, timeout=10)))
                   for address in FAMILIES.values() for _ in range(32)]
        for _ in range(laps):
            for client in clients:
                client.request("GET", "/small.txt")
                answer = client.getresponse()
                assert (answer.status, answer.read()) == (200, content)
        if device == "xdp":
            packets = packets_of_queues(bench.home)
            assert len(packets) == 2 and min(packets) > sum(packets) / 20
    server.stop()
    requests = of_workers(server, "http", "requests")
    assert len(requests) == 2 and min(requests) > sum(requests) / 20
    assert sum(requests) == laps * len(clients)


def send_by(ns, queue):
    """From now on, whatever the kernel sends by v1 takes this queue of two, and so arrives on v0's of that number."""
    every_cpu = f"{(1 << os.cpu_count()) - 1:x}"
    for other in (0, 1):
        ns.run(["sh", "-c", f"echo {every_cpu if other == queue else 0} > /sys/class/net/v1/queues/tx-{other}/xps_cpus"])


@pytest.mark.sanitize
@pytest.mark.parametrize("device", DEVICES)
def test_a_connection_stays_with_its_worker(bench, device):
    """Also when its packets begin to arrive on another's queue."""
    rounds = 20
    server = bench.serve(device, [f"--echo {ECHO}"], extra=["--workers", 2], queues=2)
    with bench.client:
        s = socket.create_connection((V4, ECHO), timeout=10)
    with s:
        for queue in (0, 1, 0, 1):
            if device in VETHS:
                send_by(bench.client, queue)
            before = packets_of_queues(bench.home) if device == "xdp" else None
            for i in range(rounds):
                word = os.urandom(1000 + i)
                s.sendall(word)
                got = b""
                while len(got) < len(word):
                    more = s.recv(len(word) - len(got))
                    if not more:
                        raise WrongBytes("the echo ended")
                    got += more
                assert got == word
            if device == "xdp":
                assert packets_of_queues(bench.home)[queue] - before[queue] >= rounds
    counters = server.stop()
    assert counters["tcp.accepted"] == 1 and counters["tcp.closed"] == 1
    assert of_workers(server, "echo", "messages") == [4 * rounds]


@pytest.mark.deadline(240)
def test_a_gigabyte_with_two_workers(bench, files, gigabyte):
    bench.serve("tap", [f"--http {HTTP}={files}"], extra=["--workers", 2])
    download(bench.client, bench.url("v4", "1g"), gigabyte, timeout=200)


def test_wrk_with_two_workers(bench, files):
    bench.serve("tap", [f"--http {HTTP}={files}"], extra=["--workers", 2])
    said = bench.client.run(["wrk", "-t", 1, "-c", 256, "-d", "3s", bench.url("v4", "small.txt")]).stdout
    assert "Socket errors" not in said and "Non-2xx" not in said
    assert int(re.search(r"(\d+) requests in", said)[1]) > 3000
