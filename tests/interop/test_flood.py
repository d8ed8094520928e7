# SPDX-License-Identifier: BSD-3-Clause
"""SYN cookies with real clients, and floods of forged segments beside real clients that must not notice."""

import json
import re
import statistics
import subprocess
import time

import pytest

from clients import download
from conftest import DEVICES, ECHO, FAMILIES, HERE, HTTP, RESP, Server, V4, V4_CLIENT, V6_CLIENT
from lab import wait_until
from wire import TOOLS, Flood

CLIENT = {"v4": V4_CLIENT, "v6": V6_CLIENT}
BEHIND = {"v4": "10.0.0.0/8", "v6": "2001:db8::/32"}  # the gateway, which is the client
ON_LINK = {"v4": "198.18.77.0/24", "v6": "fd77:ba5e::/64"}  # so each source is a neighbour to look for
SECONDS = 3
CHUNK = 50


def cookies(tmp_path, when):
    path = tmp_path / "cookies.yaml"
    path.write_text(f"tcp:\n  syn_cookies: {when}\n")
    return ["-c", path]


@pytest.mark.sanitize
@pytest.mark.parametrize("timestamps", [1, 0], ids=["timestamps", "bare"])
@pytest.mark.parametrize("device", DEVICES)
def test_every_connection_by_cookie(bench, files, tmp_path, device, timestamps):
    bench.serve(device, [f"--http {HTTP}={files}", f"--resp {RESP}", f"--echo {ECHO}"],
                extra=cookies(tmp_path, "always"))
    bench.client.sysctl("net/ipv4/tcp_timestamps", timestamps)
    for family, address in FAMILIES.items():
        for name in ("1", "20m"):
            download(bench.client, bench.url(family, name), files / name)
        bench.client.run(["/usr/bin/python3", HERE / "clients.py", "echo", address, ECHO, files / "3m"], timeout=110)
        said = bench.client.run(["redis-cli", "-h", address, "-p", RESP], stdin="SET a b\nGET a\nSTRLEN a\n").stdout
        assert said.split() == ["OK", "b", "1"]
    counters = bench.server.stop()
    assert counters["tcp.cookies_accepted"] == counters["tcp.accepted"] == 8
    assert counters["tcp.cookies_sent"] >= 8
    # A needless repeat (a loss probe) is acknowledged, too, and that ACK may find the connection gone.
    assert counters["tcp.cookies_rejected"] <= counters["tcp.retransmits"]


# ---- floods --------------------------------------------------------------------------------------------------


def load(bench, url, seconds):
    """A new connection for every request, one after the other. Returns their times in seconds, and the rate."""
    times = []
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        done = bench.client.run(["curl", "-sS", "-g", "--max-time", 30, "-H", "Connection: close",
                                 "-w", "%{stderr}%{http_code} %{num_connects} %{time_total}\\n", *[url] * CHUNK],
                                quiet=True)
        lines = [line.split() for line in done.stderr.splitlines()]
        assert [line[:2] for line in lines] == [["200", "1"]] * CHUNK, "a request failed"
        times += [float(line[2]) for line in lines]
    return times, len(times) / (time.monotonic() - began)


def told(what, times, rate):
    cuts = statistics.quantiles(times, n=100)
    print(f"{what}: {rate:.0f} requests/s on a connection each, p50 {cuts[49] * 1e3:.2f} ms, p99 {cuts[98] * 1e3:.2f} ms",
          flush=True)


def resident_kib(pid):
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+) kB", status.read())[1])


@pytest.mark.deadline(200)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind, rate, sources", [
    ("syn", 20000, BEHIND), ("ack", 20000, BEHIND), ("rst", 20000, BEHIND), ("syn", 20000, ON_LINK), ("syn", 0, BEHIND)],
    ids=["syn", "ack", "rst", "syn-on-link", "syn-as-much-as-the-link-carries"])
def test_flood(bench, files, kind, rate, sources, family):
    """What a busy machine makes of the rates of requests is printed. That none of them fails is asserted."""
    bench.serve("packet", [f"--http {HTTP}={files}"],
                extra=["--gateway", CLIENT["v4"], "--gateway", CLIENT["v6"]])
    url = bench.url(family, "small.txt")
    quiet_times, quiet_rate = load(bench, url, 1)
    # What is touched once is touched: the rest of the flood takes no memory.
    Flood(bench, family, kind, sources, "--options", "--count", 40000, "--rate", 20000).process.wait(30)
    before = resident_kib(bench.server.pid)
    # As much as the link carries is more than the ring of a packet socket holds: few SYNs of the client's get in, and it
    # tries again ever more rarely. So that flood ends before curl gives up.
    flood = Flood(bench, family, kind, sources, "--options", "--rate", rate, "--seconds", 60 if rate else 2 * SECONDS)
    times, flooded_rate = load(bench, url, SECONDS)
    packets = flood.end()
    grown = resident_kib(bench.server.pid) - before
    told("without", quiet_times, quiet_rate)
    told("beside the flood", times, flooded_rate)
    counters = bench.server.stop()
    print({name: value for name, value in counters.items() if value and "bytes" not in name}, f"{grown} KiB more")
    assert grown < 4096
    assert counters["drop.no_mbuf"] == 0
    requests = len(quiet_times) + len(times)
    assert requests <= counters["tcp.accepted"] <= requests + 2
    if kind == "syn":
        assert counters["tcp.cookies_sent"] > 10000
        assert counters["tcp.cookies_accepted"] >= len(times)
        assert counters["tcp.syn_refused"] == 0
    else:
        assert counters["tcp.cookies_sent"] == counters["tcp.cookies_rejected"] == 0
    assert packets > (20000 if rate != 0 else 50000)


LOAD = {"seconds": 2, "connections_per_s": 20000, "flood_pps": 1000000}


@pytest.mark.deadline(200)
def test_flood_over_memif(bench, files):
    """
    Nothing but the two programs, a core each: a new connection for every request at a fixed rate, alone and beside
    a million SYNs a second. What the two cores are worth to them here is printed; no connection may fail.
    """
    ns = bench.namespace("s")
    path = bench.tmp_path / "memif.sock"
    bench.server = Server(ns, [bench.binary, "serve", "--dev", f"memif:{path},role=server", "--http",
                               f"{HTTP}={files}", "--addr", f"{V4}/24", "--gateway", V4_CLIENT], bench.log("barewire"))
    bench.servers.append(bench.server)
    wait_until(path.exists, "the memif socket")
    said = ns.run([TOOLS / "flood_memif", path, V4, V4_CLIENT, "/small.txt", *LOAD.values(), 0], timeout=100).stdout
    phases = {phase["phase"]: phase for phase in map(json.loads, said.splitlines())}
    for phase in phases.values():
        assert phase["failed"] == 0 and phase["done"] == phase["started"]
    alone, both = phases["load"], phases["load and flood"]
    print(f"goodput beside {both['flood_mpps']} Mpps: {both['done'] / alone['done']:.1%}, "
          f"p99 {both['p99_us'] / max(alone['p99_us'], 1):.2f} times; "
          f"{1000 / phases['flood']['answers_mpps']:.0f} ns a SYN at both ends together", flush=True)
    counters = bench.server.stop()
    assert counters["tcp.accepted"] == sum(phase["done"] for phase in phases.values())
    assert counters["tcp.cookies_accepted"] >= both["done"] * 0.9
    assert counters["tcp.syn_refused"] == counters["drop.no_mbuf"] == 0
