# SPDX-License-Identifier: BSD-3-Clause
"""Every reply is Redis's, byte for byte, but for those in resp_grammar.ALLOWED. A million commands in all."""

import os
import random
import socket
import time

import pytest

from conftest import RESP, V4, is_sanitized
from lab import wait_until
from resp_differential import Differential
from resp_grammar import BULK_MAX, encoded

COUNT = 10_000 if is_sanitized() else 250_000
HOURS = float(os.environ.get("RESP_HOURS", 0))  # scripts/test --resp HOURS: seeds that nobody has seen


def listens(address):
    try:
        socket.create_connection(address, timeout=5).close()
        return True
    except ConnectionRefusedError:
        return False


@pytest.fixture
def both(bench):
    """Starts Barewire, with so many workers, and Redis. Returns their addresses."""
    def start(workers):
        conf = bench.tmp_path / "resp.yaml"
        conf.write_text(f"resp:\n  - port: {RESP}\n    bulk: {BULK_MAX}\n")
        bench.serve("tap", extra=["-c", conf, "--workers", workers])
        # Limits alike, and one database as here.
        redis = ["redis-server", "--port", RESP, "--bind", "127.0.0.1", "--save", "", "--databases", 1,
                 "--proto-max-bulk-len", BULK_MAX]
        with open(bench.log("redis-server"), "wb") as out:
            bench.client.start(redis, stdout=out)
        addresses = [(V4, RESP), ("127.0.0.1", RESP)]
        with bench.client:
            for address in addresses:
                wait_until(lambda: listens(address), f"{address} to listen")
        return addresses
    return start


@pytest.mark.sanitize
@pytest.mark.deadline(int(HOURS * 3600) + 240)
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("protocol", [2, 3])
def test_every_reply_is_that_of_redis(bench, both, workers, protocol):
    addresses = both(workers)
    seed, until = 2 * protocol + workers, 0
    if HOURS:
        seed, until = time.time_ns(), time.monotonic() + HOURS * 3600 / 4
    while True:
        with bench.client:
            differential = Differential(*addresses, seed, protocol=protocol)
            difference = differential.run(COUNT)
        print(f"seed {seed}: {differential.count} commands", flush=True)
        assert difference is None, difference
        seed += 1
        if time.monotonic() >= until:
            break


# What a connection ends with. A word in capitals is what is wrong with it.
LAST_WORDS = (
    b"*1\r\n$4\r\nQUIT\r\n", b"QUIT\r\n", b"*2\r\n$4\r\nQUIT\r\n$1\r\nx\r\n",
    b"*x\r\n", b"*-\r\n", b"*2147483648\r\n", b"*99999999999999999999\r\n", b"* 1\r\n", b"*+1\r\n",
    b"*1\r\n:1\r\n", b"*1\r\n\r\n", b"*1\r\nPING\r\n", b"*2\r\n$3\r\nGET\r\n+k\r\n",
    b"*1\r\n$-1\r\n", b"*1\r\n$x\r\n", b"*1\r\n$\r\n", b"*1\r\n$1048577\r\n", b"*1\r\n$99999999999999999999\r\n", b"*1\r\n$+4\r\n",
    b"*1\r\n$04\r\n", b"*01\r\n", b"*\r\n",
    b'GET "a\r\n', b"GET 'a\r\n", b'GET "a"b\r\n', b"GET 'a'b\r\n", b'"GET\r\n', b'SET a "\\x4\r\n', b"GET 'a\\'\r\n",
    b"x" * 65537, b"*" + b"1" * 65537, b"*1\r\n$" + b"1" * 65537,
)


def conversation(address, data):
    """All that a server says to it, until it closes."""
    with socket.create_connection(address, timeout=10) as s:
        s.sendall(data)
        said = b""
        while more := s.recv(1 << 16):
            said += more
        return said


@pytest.mark.sanitize
@pytest.mark.parametrize("workers", [1, 2])
def test_last_words(bench, both, workers):
    """What ends a connection, alone and behind commands, whose replies come first."""
    addresses = both(workers)
    rng = random.Random(workers)
    with bench.client:
        for words in LAST_WORDS:
            before = b"".join(rng.choice((encoded([b"SET", b"k%d" % i, b"v%d" % i]), encoded([b"GET", b"k%d" % i]),
                                          b"PING\r\n", encoded([b"MGET", b"k0", b"k1", b"k2"])))
                              for i in range(rng.randrange(20)))
            for data in (words, before + words):
                mine, theirs = [conversation(address, data) for address in addresses]
                assert mine == theirs, data[-200:]
