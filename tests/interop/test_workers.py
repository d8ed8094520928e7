# SPDX-License-Identifier: BSD-3-Clause
"""Two workers, with as many queues as the device has: a packet that arrives on the wrong core finds its own."""

import concurrent.futures
import re

import pytest

from clients import download
from conftest import DEVICES, ECHO, FAMILIES, HERE, HTTP


@pytest.mark.sanitize
@pytest.mark.parametrize("device", DEVICES)
def test_transfers_of_two_workers(bench, files, device):
    bench.serve(device, [f"--http {HTTP}={files}", f"--echo {ECHO}"], extra=["--workers", 2])
    # The namespace is the thread's own, so that each of these threads is free to start its own curl.
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(download, bench.client, bench.url(family, name), files / name)
                for name in ("1", "1m", "20m", "1m") for family in FAMILIES]
        for job in jobs:
            job.result()
    for address in FAMILIES.values():
        bench.client.run(["/usr/bin/python3", HERE / "clients.py", "echo", address, ECHO, files / "1m"])
        bench.client.run(["ping", "-c", 2, "-i", 0.05, "-W", 3, "-s", 4000, address])


@pytest.mark.deadline(240)
def test_a_gigabyte_with_two_workers(bench, files, gigabyte):
    bench.serve("tap", [f"--http {HTTP}={files}"], extra=["--workers", 2])
    download(bench.client, bench.url("v4", "1g"), gigabyte, timeout=200)


def test_wrk_with_two_workers(bench, files):
    bench.serve("tap", [f"--http {HTTP}={files}"], extra=["--workers", 2])
    said = bench.client.run(["wrk", "-t", 1, "-c", 256, "-d", "3s", bench.url("v4", "small.txt")]).stdout
    assert "Socket errors" not in said and "Non-2xx" not in said
    assert int(re.search(r"(\d+) requests in", said)[1]) > 3000
