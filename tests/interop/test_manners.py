# SPDX-License-Identifier: BSD-3-Clause
"""How Barewire treats the machine: asleep when idle, without system calls when busy, gone when told to go."""

import re
import signal
import socket
import subprocess
import time

import pytest

from clients import Expected, download
from conftest import DEVICES, ECHO, FAMILIES, HTTP, Server, V4
from lab import cpu_seconds, stop, threads, wait_until


def worker_tid(server):
    named = threads(server.pid)
    assert "bw-worker-0" in named, f"threads: {sorted(named)}"
    return named["bw-worker-0"]


def count_system_calls(bench, tid, seconds):
    """
    strace -c on one thread. Without -f, which would take the whole process: the helpers read files, and are
    there to make system calls. Returns calls by name.
    """
    out = bench.log(f"strace-{tid}")
    with open(out, "wb") as log:
        tracer = subprocess.Popen(["strace", "-c", "-p", str(tid)], stdin=subprocess.DEVNULL, stdout=log,
                                  stderr=log)
        try:
            wait_until(lambda: f"Process {tid} attached" in out.read_text(), "strace to attach")
            time.sleep(seconds)
        finally:
            stop(tracer, signal.SIGINT)
    rows = re.findall(r"(?m)^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$", out.read_text())
    return {name: int(calls) for calls, name in rows if name != "total"}


def test_a_busy_loaded_worker_makes_no_system_call(bench):
    """The built-in page: a file has a helper thread look once a second whether it changed, and waking it is a futex."""
    server = bench.serve("memif", [f"--http {HTTP}"], extra=["--poll", "busy"])
    wrk = bench.client.start(["wrk", "-t", 1, "-c", 16, "-d", "6s", bench.url("v4", "")],
                             stdout=subprocess.PIPE, text=True)
    time.sleep(1.5)
    calls = count_system_calls(bench, worker_tid(server), 2)
    said, _ = wrk.communicate(timeout=20)
    print(said)
    assert calls == {}
    assert int(re.search(r"(\d+) requests in", said)[1]) > 1000, "there was no load"
    assert "Socket errors" not in said and "Non-2xx" not in said


def test_strace_would_see_a_system_call(bench, files):
    """The test above can fail: an idle adaptive worker sleeps, and that is a system call."""
    server = bench.serve("memif", [f"--http {HTTP}={files}"], extra=["--poll", "adaptive"])
    time.sleep(1)
    calls = count_system_calls(bench, worker_tid(server), 1)
    assert sum(calls.values()) > 0


def assert_asleep(server):
    before = cpu_seconds(server.pid)
    time.sleep(5)
    used = cpu_seconds(server.pid) - before
    print(f"{used:.2f} s of CPU in 5 s")
    assert used < 0.25, "an adaptive server with nothing to do uses 5 % of a core or more"


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("workers", [1, 2])
def test_an_idle_server_is_asleep(bench, files, device, workers):
    server = bench.serve(device, [f"--http {HTTP}={files}"], extra=["--workers", workers])
    download(bench.client, bench.url("v4", "1m"), files / "1m")
    time.sleep(1.5)
    assert_asleep(server)
    # It wakes for the next one.
    assert download(bench.client, bench.url("v4", "1"), files / "1") < 1.0


def test_a_server_that_waits_for_its_peer_is_asleep(bench):
    """A memif before its first client takes nothing, not even the announcements."""
    ns = bench.namespace("s")
    socket_path = bench.tmp_path / "memif.sock"
    server = bench.server = Server(
        ns, [bench.binary, "serve", "--dev", f"memif:{socket_path},role=server", "--echo", ECHO, "--addr", f"{V4}/24"],
        bench.log("barewire"))
    bench.servers.append(server)
    wait_until(socket_path.exists, "the memif socket")
    time.sleep(1)
    assert_asleep(server)


def test_a_busy_server_is_not_asleep(bench, files):
    """cpu_seconds() can tell: the same measurement of `--poll busy` shows a whole core."""
    server = bench.serve("tap", [f"--http {HTTP}={files}"], extra=["--poll", "busy"])
    before = cpu_seconds(server.pid)
    time.sleep(2)
    assert cpu_seconds(server.pid) - before > 1.0


def slow_download(bench, family, rate, name="64m"):
    return bench.client.start(["curl", "-sS", "-g", "--fail", "--limit-rate", rate, "-o", bench.tmp_path / "got",
                               bench.url(family, name)], stderr=subprocess.PIPE)


def received(bench, at_least):
    path = bench.tmp_path / "got"
    return path.exists() and path.stat().st_size >= at_least


@pytest.mark.sanitize
@pytest.mark.parametrize("family", FAMILIES)
def test_a_transfer_in_flight_finishes(bench, files, family):
    """SIGTERM in the middle of a download: it ends well, idle connections are closed, new ones refused."""
    server = bench.serve("tap", [f"--http {HTTP}={files}"])
    with bench.client:
        idle = socket.create_connection((V4, HTTP), timeout=5)
    curl = slow_download(bench, family, "16M")
    wait_until(lambda: received(bench, 8 << 20), "the first 8 MiB")
    server.is_checked = True
    server.process.send_signal(signal.SIGTERM)
    with idle:
        assert idle.recv(1) == b"", "an idle connection outlived the drain"
    refused = bench.client.run(["curl", "-sS", "--max-time", 1, bench.url(family, "1")], check=False)
    assert refused.returncode in (7, 28), "a draining server accepted new work"
    assert server.process.poll() is None, "it did not wait for the transfer"
    assert curl.wait(20) == 0, curl.stderr.read()
    expected = Expected(files / "64m")
    expected.feed((bench.tmp_path / "got").read_bytes())
    expected.done()
    expected.close()
    assert server.process.wait(10) == 0
    assert re.search(r"\b0 lost\b", server.output())


def test_a_transfer_that_takes_too_long_is_cut_off(bench, files):
    """The drain has a deadline (10 s): then the peer is reset, and the end is still a clean one."""
    server = bench.serve("tap", [f"--http {HTTP}={files}"])
    # It reads what its kernel has received at its own pace before it finds the reset: that is not to be much.
    bench.client.sysctl("net/ipv4/tcp_rmem", "4096 65536 65536")
    curl = slow_download(bench, "v4", "100k")
    wait_until(lambda: received(bench, 100 << 10), "the first bytes")
    began = time.monotonic()
    server.stop(timeout=18)
    assert 8 < time.monotonic() - began < 16
    assert curl.wait(60) != 0


def test_an_idle_server_stops_at_once(bench, files):
    server = bench.serve("tap", [f"--http {HTTP}={files}", f"--echo {ECHO}"])
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("device", DEVICES)
def test_sigint_is_as_good_and_nothing_is_left(bench, files, device):
    server = bench.serve(device, [f"--http {HTTP}={files}"])
    download(bench.client, bench.url("v6", "1m"), files / "1m")
    server.is_checked = True
    assert stop(server.process, signal.SIGINT) == 0
    assert re.search(r"\b0 lost\b", server.output())
    if device == "tap":
        assert bench.client.links() == ["lo"]
    if device == "memif":
        assert not bench.socket.exists(), "the memif socket is still there"
    else:
        assert bench.home.pids() == []


def test_sigusr1_prints_rates(bench, files):
    server = bench.serve("tap", [f"--http {HTTP}={files}"])
    before = len(server.output())
    server.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: re.search(r"pps.*busy \d+%\n.*\d+ cycles/packet\n", server.output()[before:]),
               "a line of rates and one of cycles", timeout=3)
    server.assert_runs()


def cycles_by_stage(output):
    return {name: int(value) for name, value in re.findall(r"(?m)^  cycles\.(\w+) +(\d+) ", output)}


STAGES = ["turn", "rx", "parse", "lookup", "tcp", "service", "inbox", "timers", "egress", "tx"]


@pytest.mark.parametrize("device", ["tap", "memif"])
def test_cycles_are_counted_by_stage(bench, files, device):
    server = bench.serve(device, [f"--http {HTTP}={files}"], extra=["--cycles"])
    said = bench.client.run(f"wrk -t 1 -c 16 -d 4s {bench.url('v4', 'hello.txt')}").stdout
    server.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: re.search(r"\d+ cycles/packet, \d+ cycles/request: turn \d+%, rx \d+%", server.output()),
               "a line of cycles", timeout=3)
    server.stop()
    cycles = cycles_by_stage(server.output())
    requests = int(re.search(r"(\d+) requests in", said)[1])
    assert requests > 1000, said
    assert all(cycles[stage] > 0 for stage in STAGES), cycles
    assert abs(sum(cycles[stage] for stage in STAGES) - cycles["busy"]) < 0.03 * cycles["busy"], cycles
    # The device's driver, which makes a system call a packet on a TAP, takes most; the service is a part of it.
    assert cycles["service"] < 0.6 * cycles["busy"], cycles
    assert 100 < cycles["per_request"] < cycles["busy"] / requests * 1.1, (cycles, requests)


def test_stages_are_not_counted_unless_asked(bench, files):
    server = bench.serve("tap", [f"--http {HTTP}={files}"])
    download(bench.client, bench.url("v4", "1m"), files / "1m")
    server.stop()
    cycles = cycles_by_stage(server.output())
    assert cycles.keys() == {"busy", "idle", "per_packet", "per_request"}


def test_the_banner_tells_what_to_paste(bench, files):
    server = bench.serve("tap", [f"--http {HTTP}={files}", "--resp 6379", f"--echo {ECHO}"])
    banner = server.output()
    for line in (f"curl http://{V4}:{HTTP}/", f"redis-cli -h {V4}"):
        assert line in banner
    assert "net_tap" in banner
