# SPDX-License-Identifier: BSD-3-Clause
"""Redis's own programs, unmodified."""

import csv
import functools
import io
import random
import socket
import threading

import pytest

from conftest import DEVICES, FAMILIES, RESP, V4
from lab import wait_until


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


VALUES = ("1", "-5", "abc", "", "9223372036854775807", "-9223372036854775808", " 7", "07", "+3", "1.5", "x" * 600,
          "\0\r\n", "3.0e3", "0x1p3", "1e4932", "inf", "nan", "12345678901234567890", "y" * 44, "z" * 45)
RANGES = (0, 1, 3, -1, -2, -700, 100, 599, 2000, "x", "9223372036854775807", "-9223372036854775808")
# Of the keys a to h each matches one at most, so there is no order to it.
PATTERNS = ("a", "[b]", "[^a-gi-z]", "\\c", "[d", "e*e", "*f", "f**", "[g-h]g", "[]", "\\", "", "zz*")
# No two times to live are alike, so that which is the longer does not depend on when the two are asked.
SET_OPTIONS = ((), ("EX", 90), ("px", 50000), ("NX",), ("XX",), ("EX", 0), ("EX", -1), ("EX", "a"), ("NX", "XX"),
               ("EX", 10, "PX", 10), ("KEEPTTL",), ("GET",), ("NX", "GET"), ("FOO",), ("EX",), ("NX", "PX", 70000))


def any_command(rng):
    keys, value, number = rng.choices("abcdefgh", k=3), rng.choice(VALUES), rng.choice(VALUES)
    # Only absolute times, which are the same to both; with SET none that is past, for DBSIZE counts until it is swept.
    timed = rng.choice("pq")
    after = rng.choice((4102444800, 4102444801, 4202444800, 1, 0, -1, "x"))
    start, end = rng.choices(RANGES, k=2)
    pattern = rng.choice(PATTERNS)
    return rng.choice((
        ("PING", *keys[:rng.randrange(3)]), ("ECHO", value), ("ECHO",), ("GET", keys[0]), ("GET",),
        ("SET", keys[0], value, *rng.choice(SET_OPTIONS)), ("SET", keys[0]), ("DEL", *keys), ("DEL",), ("EXISTS", *keys),
        ("INCR", keys[0]), ("DECR", keys[0]), ("INCRBY", keys[0], number), ("DECRBY", keys[0], number),
        ("APPEND", keys[0], value), ("STRLEN", keys[0]), ("MGET", *keys), ("MSET", keys[0], value, keys[1], number),
        ("MSET", keys[0]), ("MSET", *keys), ("PERSIST", keys[0]), ("TTL", "none"), ("PTTL", "none"),
        ("EXPIRE", keys[0], rng.choice((rng.randrange(100, 10**6), 0, -1, "x")),
         *rng.choice(((), ("NX",), ("XX",), ("GT",), ("LT",), ("ZZ",)))),
        ("GETEX", keys[0], *rng.choice(((), ("EX", 80), ("PERSIST",), ("PXAT", 1), ("EX", 0), ("PX", "x"), ("NX",),
                                        ("EX", 5, "PERSIST"), ("PERSIST", "EX", 5), ("KEEPTTL",), ("EX",)))),
        ("GETRANGE", keys[0], start, end), ("SUBSTR", keys[0], start, end), ("GETRANGE", keys[0], start),
        ("SETRANGE", keys[0], rng.choice((0, 1, 5, 50, 800, -1, "x", 536870912, "9223372036854775807")), value),
        ("INCRBYFLOAT", keys[0], number), ("INCRBYFLOAT", keys[0]), ("GETSET", keys[0], value), ("GETDEL", keys[0]),
        ("SETNX", keys[0], value), ("SETEX", keys[0], rng.choice((77, 0, -1, "x")), value),
        ("PSETEX", keys[0], rng.choice((77000, 0, "x")), value), ("UNLINK", *keys), ("TOUCH", *keys), ("TYPE", keys[0]),
        ("MSETNX", keys[0], value, keys[1], number, keys[2], value), ("MSETNX", keys[0], value),
        ("MSETNX", *keys[:2], "x"),
        ("MSETNX", *keys), ("RENAME", *keys[:2]), ("RENAMENX", *keys[:2]), ("RENAME", timed, timed),
        ("RENAME", "none", keys[0]), ("RENAME", keys[0]), ("RENAMENX", *keys),
        ("OBJECT", "ENCODING", keys[0]), ("OBJECT", "REFCOUNT", keys[0]), ("OBJECT", "FREQ", keys[0]),
        ("OBJECT", "IDLETIME", "none"), ("OBJECT",), ("OBJECT", "nonesuch", keys[0]), ("OBJECT", "ENCODING"),
        ("MEMORY", "USAGE", "none", "SAMPLES", 5), ("MEMORY", "USAGE", keys[0], "SAMPLES"), ("MEMORY", "nonesuch"),
        ("KEYS", pattern), ("KEYS",), ("SCAN", "x"), ("SCAN", 0, "COUNT", 0),
        ("SCAN", 0, "COUNT", "x"), ("SCAN", 0, "MATCH"), ("SCAN", 0, "nonesuch", 1), ("SCAN",),
        ("SET", timed, value), ("EXPIREAT", timed, after), ("PEXPIREAT", timed, f"{after}123"), ("EXPIRETIME", timed),
        ("PEXPIRETIME", timed), ("SET", timed, value, "EXAT", after if after != 1 else 4302444800),
        ("GETEX", timed, "PXAT", f"{after}456"),
        ("EXPIREAT", timed, after, rng.choice(("NX", "XX", "GT", "LT"))), ("PERSIST", timed), ("OBJECT", "ENCODING", timed),
        ("FLUSHALL", rng.choice(("ASYNC", "SYNC", "nonesuch"))) if rng.random() < 0.2 else ("FLUSHALL", "a", "b"),
        ("DBSIZE",), ("SELECT", 0), ("SELECT", 99), ("SELECT", "x"), ("NO-SUCH-COMMAND", value)))


def encoded(words):
    words = [str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def connected(address):
    try:
        return socket.create_connection((address, RESP), timeout=5)
    except ConnectionRefusedError:
        return None


@pytest.mark.sanitize
@pytest.mark.parametrize("workers", [1, 2])
def test_every_answer_is_that_of_redis(bench, workers):
    """Any commands, right and wrong, to both: the replies are the same byte for byte."""
    bench.serve("tap", [f"--resp {RESP}"], extra=["--workers", workers])
    bench.client.start(["redis-server", "--port", RESP, "--bind", "127.0.0.1", "--save", "",
                        "--maxmemory", "256mb", "--maxmemory-policy", "allkeys-lru"])
    peers = []
    for address in (V4, "127.0.0.1"):
        with bench.client:
            peers.append(wait_until(functools.partial(connected, address), f"{address} to listen"))
    rng = random.Random(workers)
    for _ in range(4000):
        words = any_command(rng)
        replies = []
        for peer in peers:
            peer.sendall(encoded(words) + encoded(["ECHO", "end"]))
            reply = b""
            while not reply.endswith(b"$3\r\nend\r\n"):
                more = peer.recv(65536)
                assert more, f"{words}: closed after {reply}"
                reply += more
            replies.append(reply)
        assert replies[0] == replies[1], words


def test_redis_cli_scans(bench):
    """--scan and --bigkeys over two workers, while the index grows; KEYS and RANDOMKEY of the same keys."""
    bench.serve("tap", [f"--resp {RESP}"], extra=["--workers", 2])
    names = {f"key:{i}" for i in range(20000)}
    cli(bench, "v4", "--pipe", stdin="".join(f"SET {name} {'v' * (len(name) - 4)}\r\n" for name in sorted(names)))
    cli(bench, "v4", "SET", "big", "v" * 1000)
    assert set(cli(bench, "v4", "--scan", "--pattern", "key:*").split("\n")) == names
    assert sorted(cli(bench, "v4", "--scan", "--pattern", "key:1?9").split("\n")) == [f"key:1{i}9" for i in range(10)]
    said = cli(bench, "v4", "--bigkeys")
    assert "Sampled 20001 keys" in said and '"big"' in said
    assert set(cli(bench, "v4", "KEYS", "*").split("\n")) == names | {"big"}
    assert cli(bench, "v4", "RANDOMKEY") in names | {"big"}


def asked(peer, *words):
    """One short answer."""
    peer.sendall(encoded(words))
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
        peers = [wait_until(functools.partial(connected, V4), "the cache to listen") for _ in range(6)]

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
