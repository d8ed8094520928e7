# SPDX-License-Identifier: BSD-3-Clause
"""More connections than packet buffers, over a memif: nobody holds more than an answer, and all of them hold one."""

import json
import signal
import subprocess

import pytest

from conftest import Server
from lab import wait_until

US, CROWD, NEWCOMER = "198.18.77.2", "198.18.77.1", "198.18.77.9"
MBUFS, CONNECTIONS = 3300, 12000  # of which the rings may take 2048
SEVERAL = 10000  # bytes of an answer: a ring full of requests for it takes all buffers several times over
NEXT = 64  # connections of those who come when it is full


@pytest.fixture(params=[1], ids=["1 worker"])
def server(request, bench, tmp_path):
    (tmp_path / "www").mkdir()
    for size in (100, SEVERAL):
        (tmp_path / f"www/{size}").write_bytes(b"x" * size)
    (tmp_path / "small.yaml").write_text(
        f"device: memif:{tmp_path}/m.sock\naddresses: [{US}/24]\nmbufs: {MBUFS}\n"
        f"workers: {request.param}\n"
        f"http:\n  - port: 80\n    root: {tmp_path}/www\n")
    bench.client = bench.namespace("c")
    server = Server(bench.client, [bench.binary, "serve", "--config", tmp_path / "small.yaml", "--poll", "adaptive"],
                    bench.log("barewire"))
    bench.servers.append(server)
    wait_until((tmp_path / "m.sock").exists, "the memif socket", timeout=30)
    return server


def start(bench, address, *arguments, size=100):
    report = bench.tmp_path / f"{address}.json"
    report.unlink(missing_ok=True)
    return bench.client.start(
        [bench.binary, "load", "--dev", f"memif:{bench.tmp_path}/m.sock,role=client", "--addr", f"{address}/24", "--json",
         report, *arguments, f"http://{US}/{size}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def load(bench, address, *arguments, size=100, status=0):
    process = start(bench, address, *arguments, size=size)
    said, _ = process.communicate(timeout=100)
    print(said)
    assert process.returncode == status, f"exit status {process.returncode}"
    return json.loads((bench.tmp_path / f"{address}.json").read_text())


def is_answered_at_once(bench):
    report = load(bench, NEWCOMER, "-c", 1, "-n", 1)
    assert report["responses"] == 1 and sum(report["errors"].values()) == 0
    assert report["latency_ns"]["max"] < 500e6


@pytest.mark.parametrize("server", [1, 2], indirect=True, ids=["1 worker", "2 workers"])
@pytest.mark.parametrize("asked", [["-c", CONNECTIONS, "-n", CONNECTIONS],
                                   ["-c", 1, "-d", "1s", "--idle", CONNECTIONS]], ids=["active", "idle"])
def test_all_ask_at_once(bench, server, asked):
    """Each is answered, or reset and counted; and who comes afterwards does not notice."""
    report = load(bench, CROWD, *asked, "--timeout", "30s")
    errors = {kind: count for kind, count in report["errors"].items() if count}
    served = report["idle_answered"] if "--idle" in asked else report["responses"]
    is_answered_at_once(bench)
    counters = server.stop()
    assert set(errors) <= {"reset"}
    assert served + errors.get("reset", 0) == CONNECTIONS
    assert errors.get("reset", 0) <= counters["tcp.pressure_resets"]
    assert counters["tcp.pressure_drops"] > 0, "there were enough buffers: the test is none"


def test_crowd_goes_on_for_long(bench, server):
    """Full all the time, it serves at a rate; and is empty afterwards."""
    report = load(bench, CROWD, "-c", CONNECTIONS, "-d", "5s", "--timeout", "60s")
    assert report["responses"] > 5 * CONNECTIONS
    is_answered_at_once(bench)
    server.stop()


def test_crowd_that_vanished_makes_room(bench, server):
    """Its unacknowledged answers take all buffers, and nobody will acknowledge them: they go for those who ask next."""
    crowd = start(bench, CROWD, "-c", CONNECTIONS, "-d", "60s", "--timeout", "60s", size=SEVERAL)
    print(crowd.stdout.readline())  # of the first second in which they ask, however long it took to open them
    crowd.send_signal(signal.SIGKILL)
    crowd.communicate()
    report = load(bench, NEWCOMER, "-c", NEXT, "-n", NEXT, "--timeout", "40s", size=SEVERAL)
    assert report["responses"] == NEXT and sum(report["errors"].values()) == 0
    is_answered_at_once(bench)
    counters = server.stop(timeout=40)
    assert 0 < counters["tcp.pressure_resets"] < counters["tcp.accepted"] / 2, "few make room for many"
