# SPDX-License-Identifier: BSD-3-Clause
"""Redis's own tools, and the clients of npm: unmodified, and every answer looked at."""

import csv
import io
import re

import pytest

from conftest import FAMILIES, HERE, RESP, V4

KEYS = 20000


def cli(bench, *words, stdin=None, **options):
    return bench.client.run(["redis-cli", "-h", V4, "-p", RESP, *words], stdin=stdin, **options).stdout


@pytest.fixture
def filled(bench, request):
    """Serves so many keys that a tool has something to find. They come through redis-cli --pipe, as RESP."""
    bench.serve("tap", [f"--resp {RESP}"], extra=["--workers", request.param])
    commands = "".join(f"*3\r\n$3\r\nSET\r\n$9\r\nkey:{i:05d}\r\n${1 + i % 700}\r\n{'v' * (1 + i % 700)}\r\n"
                       for i in range(KEYS))
    assert f"errors: 0, replies: {KEYS}" in cli(bench, "--pipe", stdin=commands)
    assert cli(bench, "SET", "the-big-one", "x" * 60000) == "OK\n"
    return bench


both_counts = pytest.mark.parametrize("filled", [1, 2], indirect=True)


@both_counts
def test_redis_cli_scans(filled):
    found = cli(filled, "--scan", "--pattern", "key:0[12]*9").split()
    assert sorted(found) == [f"key:{i:05d}" for i in range(1000, 3000) if i % 10 == 9]
    everything = sorted(["the-big-one", *(f"key:{i:05d}" for i in range(KEYS))])
    assert sorted(cli(filled, "--scan", quiet=True).split()) == everything
    assert sorted(cli(filled, "KEYS", "*", quiet=True).split()) == everything
    assert cli(filled, "RANDOMKEY").strip() in everything


@both_counts
def test_redis_cli_looks_for_big_keys(filled):
    said = cli(filled, "--bigkeys")
    assert f"Sampled {KEYS + 1} keys in the keyspace!" in said
    assert "Biggest string found '\"the-big-one\"' has 60000 bytes" in said
    assert re.search(rf"{KEYS + 1} strings with (\d+) bytes \(100.00% of keys", said)
    said = cli(filled, "--memkeys")
    assert f"Sampled {KEYS + 1} keys in the keyspace!" in said
    assert re.search(r"Biggest string found '\"the-big-one\"' has 6[0-9]{4} bytes", said)


@both_counts
def test_redis_cli_measures(filled):
    # Away from a terminal it measures for a second.
    least, most, average, count = map(float, cli(filled, "--latency").split())
    assert least <= average <= most < 1000 and count > 20
    # It never ends, and into a pipe would say nothing until it does.
    said = filled.client.run(["timeout", 1, "stdbuf", "-oL", "redis-cli", "-h", V4, "-p", RESP, "--stat", "-i", 0.1],
                             check=False).stdout
    keys = re.findall(r"(?m)^(\d+) ", said)
    assert len(keys) > 3 and set(keys) == {str(KEYS + 1)}, "not the rows of its table"


@pytest.mark.sanitize
def test_redis_cli_speaks_resp3_and_more(bench):
    bench.serve("tap", [f"--resp {RESP}"])
    assert cli(bench, "-3", "PING") == "PONG\n"
    assert cli(bench, "-3", "GET", "nothing") == "\n"
    assert cli(bench, "-3", "--no-raw", "GET", "nothing") == "(nil)\n"
    assert cli(bench, "-2", "--no-raw", "MGET", "a", "b") == "1) (nil)\n2) (nil)\n"
    greeting = cli(bench, "-3", "--no-raw", "HELLO", "3")
    assert re.search(r'(?m)^\d# "proto" => \(integer\) 3$', greeting), greeting
    assert re.search(r'(?m)^\d# "maxmemory" => "\d+"$', cli(bench, "-3", "--no-raw", "CONFIG", "GET", "maxmemory"))
    assert cli(bench, "--json", "MGET", "a", "b") == "[null,null]\n"
    assert cli(bench, "-x", "SET", "stdin", stdin="two\nlines") == "OK\n"
    assert cli(bench, "--no-raw", "GET", "stdin") == '"two\\nlines"\n'
    assert cli(bench, "-r", 3, "INCR", "n") == "1\n2\n3\n"
    assert cli(bench, "-n", 0, "--csv", "MGET", "n", "stdin") == '"3","two\\nlines"\n'
    assert cli(bench, "-u", f"redis://{V4}:{RESP}/0", "GET", "n") == "3\n"
    assert cli(bench, stdin="SET a 1\nINCR a\nNO-SUCH\nGET a\n").split("\n\n")[0].startswith("OK\n2\nERR unknown command")
    assert cli(bench, "MONITOR", check=False).startswith("ERR unknown command 'MONITOR', with args beginning with:")


@pytest.mark.sanitize
def test_redis_cli_with_a_password(bench):
    secret, conf = bench.tmp_path / "password", bench.tmp_path / "password.yaml"
    secret.write_text("sesame open\n")
    secret.chmod(0o600)
    conf.write_text(f"resp:\n  - port: {RESP}\n    password_file: {secret}\n")
    bench.serve("tap", extra=["-c", conf])
    assert cli(bench, "GET", "a", check=False).strip() == "NOAUTH Authentication required."
    assert cli(bench, "-a", "sesame open", "--no-auth-warning", "SET", "a", "1") == "OK\n"
    assert cli(bench, "--user", "default", "--pass", "sesame open", "--no-auth-warning", "-3", "GET", "a") == "1\n"
    said = cli(bench, "-a", "wrong", "GET", "a", check=False)
    assert "NOAUTH Authentication required." in said


# ---- redis-benchmark -------------------------------------------------------------------------------------------


def benchmark(bench, *options):
    said = bench.client.run(["redis-benchmark", "-h", V4, "-p", RESP, "-e", *options], timeout=100)
    assert "ERR" not in said.stdout + said.stderr and "Error" not in said.stdout, said.stderr
    return said.stdout


# Of redis-benchmark's tests, those whose commands are a cache of strings'.
ALL_TESTS = {"PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET"}


@pytest.mark.parametrize("options", ["-n 5000", "-n 20000 -P 16 -r 100000", "-n 5000 -P 100 -d 3000",
                                     "-n 20000 --threads 2 -P 4", "-n 20000 -3 -P 16", "-n 1000 -k 0"])
def test_redis_benchmark(bench, options):
    bench.serve("tap", [f"--resp {RESP}"])
    said = benchmark(bench, "--csv", "-t", "ping_inline,ping_mbulk,set,get,incr,mset", *options.split())
    rows = csv.DictReader(io.StringIO(said[said.index('"test"'):]))
    rates = {row["test"].split()[0]: float(row["rps"]) for row in rows}
    assert set(rates) == ALL_TESTS
    assert all(rate > 100 for rate in rates.values())


def test_redis_benchmark_of_any_command(bench):
    bench.serve("tap", [f"--resp {RESP}"])
    assert "requests per second" in benchmark(bench, "-q", "-n", 20000, "-P", 16, "-t", "set,get")
    for command in (["GETRANGE", "key:__rand_int__", 1, 5], ["INCRBYFLOAT", "key:__rand_int__", 0.5],
                    ["GETEX", "key:__rand_int__", "EX", 100], ["MSETNX", "a:__rand_int__", 1, "b:__rand_int__", 2]):
        assert "requests per second" in benchmark(bench, "-q", "-n", 20000, "-P", 16, "-r", 1000, *command)


# ---- two workers -----------------------------------------------------------------------------------------------


def test_counters_are_exact(bench):
    """Of two workers, 200 clients and a million keys: each increment counted once, each key once."""
    bench.serve("tap", [f"--resp {RESP}"], extra=["--workers", 2])
    count = 300_000
    benchmark(bench, "-q", "-n", count, "-c", 200, "-P", 16, "-r", 1000000, "-t", "incr")
    # By SCAN which there are, by MGET what they are.
    keys = cli(bench, "--scan", quiet=True).split()
    assert all(re.fullmatch(r"counter:\d{12}", key) for key in keys)
    assert len(keys) == len(set(keys)) == int(cli(bench, "DBSIZE"))
    asked = "".join("MGET " + " ".join(keys[i:i + 500]) + "\n" for i in range(0, len(keys), 500))
    values = [int(word) for word in cli(bench, stdin=asked, quiet=True).split()]
    assert len(values) == len(keys) and min(values) >= 1
    assert sum(values) == count


# ---- clients of npm --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family, workers", [("v4", 1), ("v6", 2)])
@pytest.mark.parametrize("client", ["ioredis.js", "node_redis.js 2", "node_redis.js 3"])
def test_clients_of_npm(bench, client, family, workers):
    bench.serve("tap", [f"--resp {RESP}"], extra=["--workers", workers])
    script, *protocol = client.split()
    said = bench.client.run(["node", HERE / "node" / script, FAMILIES[family], RESP, *protocol])
    assert said.stdout == "done\n"
