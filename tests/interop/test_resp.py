# SPDX-License-Identifier: BSD-3-Clause
"""Redis's own programs, unmodified."""

import csv
import io
import random
import socket
import threading

import pytest

from conftest import DEVICES, FAMILIES, RESP, V4
from lab import wait_until
from resp_grammar import encoded


def cli(bench, family, *words, stdin=None):
    return bench.client.run(["redis-cli", "-h", FAMILIES[family], "-p", RESP, *words], stdin=stdin).stdout.strip()


@pytest.mark.sanitize
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("family", FAMILIES)
def test_redis_cli(bench, device, family):
    bench.serve(device, [f"--resp {RESP}"])
    for words, answer in (
            (["PING"], "PONG"),
            (["SET", "greeting", "hello world"], "OK"),
            (["GET", "greeting"], "hello world"),
            (["GET", "nothing"], ""),
            (["SET", "greeting", "again", "NX"], ""),
            (["STRLEN", "greeting"], "11"),
            (["APPEND", "greeting", "!"], "12"),
            (["INCR", "counter"], "1"),
            (["INCRBY", "counter", "41"], "42"),
            (["DECR", "counter"], "41"),
            (["MSET", "a", "1", "b", "2"], "OK"),
            (["MGET", "a", "none", "b"], "1\n\n2"),
            (["EXISTS", "a", "b", "none"], "2"),
            (["EXPIRE", "a", "100"], "1"),
            (["TTL", "a"], "100"),
            (["PERSIST", "a"], "1"),
            (["TTL", "a"], "-1"),
            (["DEL", "a", "b"], "2"),
            (["DBSIZE"], "2"),
            (["FLUSHALL"], "OK"),
            (["DBSIZE"], "0"),
            (["ECHO", "x" * 3000], "x" * 3000)):
        assert cli(bench, family, *words) == answer, words
    assert "ERR" in cli(bench, family, "NO-SUCH-COMMAND")


def test_a_pipeline_from_redis_cli(bench):
    """--pipe checks that every command was answered, in order, by an ECHO of its own at the end."""
    bench.serve("tap", [f"--resp {RESP}"])
    commands = "".join(f"SET key:{i} {'v' * (1 + i % 700)}\r\n" for i in range(20000))
    assert "errors: 0, replies: 20000" in cli(bench, "v4", "--pipe", stdin=commands)
    assert cli(bench, "v4", "DBSIZE") == "20000"
    assert cli(bench, "v4", "GET", "key:699") == "v" * 700


def test_expiry(bench):
    bench.serve("tap", [f"--resp {RESP}"])
    # One connection, timed by the server: the shell between two redis-cli would be part of the measurement.
    script = "SET k v PX 300\nGET k\n"
    assert cli(bench, "v4", stdin=script).split() == ["OK", "v"]
    bench.client.run(["sleep", 0.5])
    assert cli(bench, "v4", "EXISTS", "k") == "0"


def benchmark(bench, family, *options):
    said = bench.client.run(["redis-benchmark", "-h", FAMILIES[family], "-p", RESP, "--csv", "-e", "-P", 16, "-r",
                             1000, *options], timeout=100).stdout
    assert "Error from server" not in said and "ERR" not in said
    table = io.StringIO(said[said.index('"test"'):])
    return {row["test"].split()[0]: float(row["rps"]) for row in csv.DictReader(table)}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("family", FAMILIES)
def test_redis_benchmark(bench, device, family):
    bench.serve(device, [f"--resp {RESP}"])
    rates = benchmark(bench, family, "-n", 100000, "-c", 50, "-t", "ping,set,get,incr,mset")
    assert set(rates) == {"PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET"}
    assert all(rate > 1000 for rate in rates.values())


def test_big_values(bench):
    """Values that span many segments, and a thousand connections at once."""
    bench.serve("tap", [f"--resp {RESP}"])
    assert set(benchmark(bench, "v4", "-n", 2000, "-d", 100000, "-t", "set,get")) == {"SET", "GET"}
    assert set(benchmark(bench, "v6", "-n", 50000, "-c", 1000, "-t", "set,get")) == {"SET", "GET"}


def test_a_huge_value(bench):
    """As large as one may be where nothing is configured, every byte right; one more is an error that says so."""
    bench.serve("packet", [f"--resp {RESP}"])
    largest = int(cli(bench, "v4", "CONFIG", "GET", "proto-max-bulk-len").split()[1])
    assert largest == 4 << 20
    value = random.Random(7).randbytes(largest // 2).hex()
    assert cli(bench, "v4", "-x", "SET", "huge", stdin=value) == "OK"
    assert cli(bench, "v6", "GET", "huge") == value
    assert "invalid bulk length" in cli(bench, "v4", "-x", "SET", "huge", stdin=value + "x")
    assert cli(bench, "v6", "STRLEN", "huge") == str(largest)


@pytest.mark.sanitize
def test_one_keyspace_across_workers(bench):
    bench.serve("tap", [f"--resp {RESP}"], extra=["--workers", 2])
    for i in range(40):
        assert cli(bench, "v4" if i % 2 else "v6", "INCR", "shared") == str(i + 1)
    rates = benchmark(bench, "v4", "-n", 100000, "-c", 50, "-t", "set,get,incr,mset")
    assert set(rates) == {"SET", "GET", "INCR", "MSET"}
    # Every one of its increments counted once: key 000000000000..999, over both workers.
    commands = "".join(f"GET counter:{i:012d}\n" for i in range(1000))
    values = [int(line or 0) for line in cli(bench, "v4", stdin=commands).split("\n")]
    assert sum(values) == 100000


def connected():
    try:
        return socket.create_connection((V4, RESP), timeout=5)
    except ConnectionRefusedError:
        return None


def asked(peer, *words):
    """One short answer."""
    peer.sendall(encoded([str(word).encode() for word in words]))
    reply = b""
    while not reply.endswith(b"\r\n") or (reply.startswith(b"$") and reply[1:2] != b"-" and reply.count(b"\r\n") < 2):
        more = peer.recv(65536)
        assert more, f"{words}: closed after {reply}"
        reply += more
    return reply


def test_nobody_sees_half_of_it(bench):
    """Many try MSETNX and RENAME of the same keys of two workers at once: each succeeds once, and at once."""
    bench.serve("tap", [f"--resp {RESP}"], extra=["--workers", 2])
    count, said, wrong = 400, [], []
    with bench.client:
        peers = [wait_until(connected, "the cache to listen") for _ in range(6)]

    def write(peer):
        for i in range(count):
            said.append(asked(peer, "MSETNX", f"a:{i}", "v", f"b:{i}", "v"))
        for i in range(count):
            said.append(asked(peer, "RENAME", f"a:{i}", f"c:{i}"))

    def read(peer):
        for i in range(count):
            if asked(peer, "GET", f"a:{i}") != b"$-1\r\n" and asked(peer, "GET", f"b:{i}") == b"$-1\r\n":
                wrong.append(f"a:{i} was there, and b:{i} was not")
        for i in range(count):
            if asked(peer, "GET", f"c:{i}") != b"$-1\r\n" and asked(peer, "GET", f"a:{i}") != b"$-1\r\n":
                wrong.append(f"c:{i} was there, and a:{i} still")

    threads = [threading.Thread(target=work, args=(peer,)) for work, peer in zip([write] * 4 + [read] * 2, peers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert said.count(b":1\r\n") == count and said.count(b":0\r\n") == 3 * count
    assert said.count(b"+OK\r\n") == count and said.count(b"-ERR no such key\r\n") == 3 * count
    assert cli(bench, "v4", "DBSIZE") == str(2 * count)
