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
from resp_grammar import BULK_MAX, encoded, is_allowed

COUNT = 10_000 if is_sanitized() else 250_000
HOURS = float(os.environ.get("RESP_HOURS", 0))  # scripts/test --resp HOURS: seeds that nobody has seen


def listens(address):
    try:
        socket.create_connection(address, timeout=5).close()
        return True
    except ConnectionRefusedError:
        return False


def start_redis(bench, ns, port=RESP, bulk=BULK_MAX):
    """With limits as here, the same policy, and one database. Returns its address."""
    with open(bench.log(f"redis-server-{port}"), "wb") as out:
        ns.start(["redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--databases", 1,
                  "--proto-max-bulk-len", bulk, "--maxmemory", "256mb", "--maxmemory-policy", "allkeys-lru"], stdout=out)
    with ns:
        wait_until(lambda: listens(("127.0.0.1", port)), "redis-server to listen")
    return "127.0.0.1", port


@pytest.fixture
def both(bench):
    """Starts Barewire, with so many workers, and Redis. Returns their addresses."""
    def start(workers):
        conf = bench.tmp_path / "resp.yaml"
        conf.write_text(f"resp:\n  - port: {RESP}\n    bulk: {BULK_MAX}\n")
        bench.serve("tap", extra=["-c", conf, "--workers", workers])
        return [(V4, RESP), start_redis(bench, bench.client)]
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
        differential.close()
        print(f"seed {seed}: {differential.count} commands", flush=True)
        assert difference is None, difference
        seed += 1
        if time.monotonic() >= until:
            break


def test_a_difference_is_seen(bench):
    """Two of Redis that differ in one limit: the report names what it takes to see that, and little else."""
    ns = bench.namespace("r")
    addresses = [start_redis(bench, ns), start_redis(bench, ns, RESP + 1, 2 * BULK_MAX)]
    with ns:
        difference = Differential(*addresses, 1).run(100_000)
    assert difference is not None and difference.startswith("seed 1, protocol 2,")
    assert "string exceeds maximum allowed size (proto-max-bulk-len)" in difference
    assert len(difference.splitlines()) <= 6


def test_what_replies_may_differ_in():
    for words, mine, theirs, may in (
            ("GET k", b"$1\r\na\r\n", b"$1\r\nb\r\n", False),
            ("TTL k", b":100\r\n", b":101\r\n", True), ("TTL k", b":100\r\n", b":200\r\n", False),
            ("TTL k", b":-1\r\n", b":-2\r\n", False),
            ("KEYS *", b"*2\r\n$1\r\na\r\n$1\r\nb\r\n", b"*2\r\n$1\r\nb\r\n$1\r\na\r\n", True),
            ("KEYS *", b"*1\r\n$1\r\na\r\n", b"*2\r\n$1\r\nb\r\n$1\r\na\r\n", False),
            ("INFO", b"$1\r\na\r\n", b"$2\r\nbc\r\n", True), ("INFO", b"=1\r\na\r\n", b"$2\r\nbc\r\n", False),
            ("INFO", b"-ERR a\r\n", b"-ERR b\r\n", False), ("client Id", b":1\r\n", b":2\r\n", True),
            ("CLIENT GETNAME", b"$1\r\na\r\n", b"$1\r\nb\r\n", False)):
        assert is_allowed(words.encode().split(), mine, theirs) is may, words


# What a connection ends with: QUIT, or a protocol error.
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
