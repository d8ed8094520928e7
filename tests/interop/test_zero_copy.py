# SPDX-License-Identifier: BSD-3-Clause
"""
What is sent by reference leaves without a byte of it being copied, on devices that send chains: the engine's own
counter, copied.bytes, is 0 at the end. Where a device sends none, it shows that the counter counts.
"""

import pytest

from conftest import HTTP, RESP, V4

SENDS_CHAINS = ("tap", "packet", "memif")
SENDS_NONE = "xdp"


def get_values(bench):
    """4 KiB values, alone and in pipelines. Made by a short request: what arrives in many segments may be copied."""
    cli = ["redis-cli", "-h", V4, "-p", RESP]
    assert bench.client.run([*cli, "SETRANGE", "key:__rand_int__", 4095, "x"]).stdout == "4096\n"
    for _ in range(20):
        got = bench.client.run([*cli, "GET", "key:__rand_int__"], text=False)
        assert got.stdout == b"\0" * 4095 + b"x\n"
    bench.client.run(["redis-benchmark", "-h", V4, "-p", RESP, "-e", "-q", "-n", 5000, "-c", 10, "-t", "get"])
    return 5020 * 4096


def get_file(bench):
    """A file of 1 MiB out of the cache; wrk so often that its requests meet a full send queue."""
    url = bench.url("v4", "1m")
    for _ in range(5):
        bench.client.run(["curl", "-sS", "--fail", "-o", "/dev/null", url])
    bench.client.run(["wrk", "-t", 1, "-c", 4, "-d", "1s", url])
    return 5 << 20


@pytest.mark.parametrize("device", [*SENDS_CHAINS, SENDS_NONE])
@pytest.mark.parametrize("get", [get_values, get_file])
def test_no_payload_byte_is_copied(bench, files, get, device):
    server = bench.serve(device, [f"--resp {RESP}", f"--http {HTTP}={files}"])
    sent_bytes = get(bench)
    counters = server.stop()
    assert counters["tx.bytes"] > sent_bytes
    if device in SENDS_CHAINS:
        assert counters["copied.bytes"] == 0
    else:
        assert counters["copied.bytes"] > sent_bytes
