# SPDX-License-Identifier: BSD-3-Clause
"""How many of the same requests find their key, beside redis-server with as much memory."""

import itertools
import random
import zlib

import pytest

from conftest import RESP
from test_resp_server import both, encoded

KEYS = 200_000
WANTS = 200_000
BATCH = 200
MEMORY = 32 << 20


def mixed(key):
    """16 bytes to 4 KiB, each power of two as often."""
    low = 16 << zlib.crc32(b"%d" % key) % 8
    return low + zlib.crc32(b"low %d" % key) % low


def small(key):
    return 16 + zlib.crc32(b"%d" % key) % 100


def large(key):
    return 2048 + zlib.crc32(b"%d" % key) % 2048


def values(client, count):
    """Which of `count` replies are values. None of them holds a line's end."""
    data = b""
    while True:
        lines = data.split(b"\r\n")
        if len(lines) > count:
            found, at = [], 0
            while len(found) < count and at < len(lines) - 1:
                is_there = lines[at] != b"$-1"
                if is_there and at + 1 >= len(lines) - 1:
                    break
                found.append(is_there)
                at += 1 + is_there
            if len(found) == count:
                return found
        data += client.socket.recv(1 << 20)


def hits(client, sizes, ranks):
    """Part of the last half of all requests that find their key. What is not found is stored, as a cache's users do."""
    count = 0
    for n in range(0, len(ranks), BATCH):
        is_later = n >= len(ranks) // 2
        size = sizes[is_later]
        # Other keys, too, where the sizes change.
        first = KEYS if is_later and sizes[0] != sizes[1] else 0
        keys = [first + rank for rank in ranks[n:n + BATCH]]
        client.send(b"".join(encoded("GET", f"key:{key}") for key in keys))
        found = values(client, len(keys))
        count += is_later * sum(found)
        missed = dict.fromkeys(itertools.compress(keys, (not there for there in found)))
        if missed:
            client.send(b"".join(encoded("SET", f"key:{key}", b"x" * size(key)) for key in missed))
            answer = client.until(b"\r\n")
            while answer.count(b"\r\n") < len(missed):
                answer += client.until(b"\r\n")
            assert answer == b"+OK\r\n" * len(missed)
    return count / (len(ranks) // 2)


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu"])
@pytest.mark.parametrize("sizes", [(mixed, mixed), (small, large), (large, small)], ids=["mixed", "growing", "shrinking"])
def test_as_many_hits_as_redis(bench, tmp_path, policy, sizes):
    config = tmp_path / "resp.yaml"
    config.write_text(f"resp:\n  - port: {RESP}\n    memory: {MEMORY >> 20}MiB\n    maxmemory_policy: {policy}\n")
    ours, theirs = both(bench, workers=2, redis=["--maxmemory", MEMORY, "--maxmemory-policy", policy], extra=["-c", config])
    ranks = random.Random(6).choices(range(KEYS), cum_weights=list(itertools.accumulate(1 / (n + 1) for n in range(KEYS))),
                                     k=2 * WANTS)
    our_hits, their_hits = hits(ours(), sizes, ranks), hits(theirs(), sizes, ranks)
    print(f"hits: {our_hits:.2%}, of redis-server {their_hits:.2%}")
    assert our_hits > their_hits - 0.005
