#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Barewire beside what people would otherwise use; see scripts/bench.

A comparison is some sides, which take turns, round after round: server on CPU 0, client on CPU 1, each started anew.
Of each figure the median of the rounds is shown with its extremes, and the median of the rounds' ratios to the first
side. A round in which anything went wrong is no figure: the run ends and says what it was.
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/interop"))

from lab import Failed, Namespace, sh, stop, veth, wait_until  # noqa: E402

BINARY = pathlib.Path(os.environ.get("BAREWIRE", ROOT / "build/app/barewire")).resolve()
DOCS = ROOT / "docs/benchmarks.md"
SERVER, CLIENT = "198.18.77.2", "198.18.77.1"
HTTP, RESP = 8080, 6379
FILE = "100"  # of so many bytes
SERVER_CPU, CLIENT_CPU = 0, 1

Sample = collections.namedtuple("Sample", "rate p50 p99 cycles", defaults=(None, None, None, None))


class Wrong(Exception):
    """A round that is no figure."""


# ---- a place, and who serves there ---------------------------------------------------------------------------------


class Place:
    """Namespaces and a folder, for one sample."""

    def __init__(self):
        self.stack = contextlib.ExitStack()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="barewire-bench-"))
        self.stack.callback(shutil.rmtree, self.folder)
        (self.folder / "www").mkdir()
        self.folder.chmod(0o755)
        (self.folder / "www" / FILE).write_bytes(b"x" * int(FILE))
        self.cycles = None

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stack.close()

    def namespace(self, role):
        ns = Namespace(role)
        self.stack.callback(ns.remove)
        return ns

    def link(self, device):
        """Both ends of what `device` is on; returns the server's spec. The kernel's end has CLIENT."""
        self.client = self.namespace("c")
        if device == "tap":
            self.home = self.client
            return "tap:bwt0"
        self.home = self.namespace("s")
        if device == "memif":
            return f"memif:{self.folder}/memif.sock,role=server"
        veth(self.home, self.client)
        self.client.ip(f"addr add {CLIENT}/24 dev v1")
        return f"{device}:v0"

    def barewire(self, device):
        spec = self.link(device)
        log = self.folder / "serve.log"
        with open(log, "wb") as out:
            process = self.home.start(
                [BINARY, "serve", "--dev", spec, "--addr", f"{SERVER}/24", "--cpus", SERVER_CPU, "--poll", "busy",
                 "--stats", 0, "--http", f"{HTTP}={self.folder}/www", "--resp", RESP, "--echo", 7], stdout=out,
                stderr=subprocess.STDOUT)

        def finish():
            if stop(process) != 0 or "0 lost" not in log.read_text():
                raise Wrong(f"barewire serve did not end well:\n{log.read_text()[-2000:]}")
            found = re.search(r"cycles\.per_request\s+([\d.]+)", log.read_text())
            self.cycles = float(found[1]) if found else None

        self.finish = finish
        if device == "memif":
            wait_until((self.folder / "memif.sock").exists, "the memif socket")
        else:
            wait_until(lambda: self.client.run(["ping", "-c1", "-W1", SERVER], check=False, quiet=True)
                       .returncode == 0, "a ping")

    def kernel(self, argv, port):
        """A server on the kernel's stack, behind a veth pair."""
        self.link("kernel")
        self.home.ip(f"addr add {SERVER}/24 dev v0")
        process = self.home.start(["taskset", "-c", SERVER_CPU, *argv], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.STDOUT)
        self.finish = lambda: stop(process)
        wait_until(lambda: f":{port} " in self.home.run(["ss", "-ltn"], quiet=True).stdout, argv[0])

    def nginx(self):
        conf = self.folder / "nginx.conf"
        conf.write_text(
            f"pid {self.folder}/nginx.pid; error_log {self.folder}/error.log; daemon off; master_process off;"
            "user root; worker_rlimit_nofile 65536; events { worker_connections 16384; multi_accept on; } http {"
            "access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 100000000;"
            "keepalive_timeout 300s; open_file_cache max=100; open_file_cache_valid 60s;"
            f"server {{ listen {HTTP} backlog=16384; root {self.folder}/www; }} }}")
        self.kernel(["nginx", "-c", conf], HTTP)

    def redis(self):
        self.kernel(["redis-server", "--port", RESP, "--save", "", "--protected-mode", "no"], RESP)

    # ---- clients ----

    def load(self, seconds, *arguments, device=None):
        """barewire load, over the memif or on the kernel's interface."""
        spec = f"memif:{self.folder}/memif.sock,role=client" if device is None else f"{device}:v1"
        report = self.folder / "load.json"
        said = self.client.run([BINARY, "load", "--dev", spec, "--addr", f"{CLIENT}/24", "--cpus", CLIENT_CPU, "-q",
                                "--json", report, "--warmup", min(seconds / 4, 1), "-d", seconds, *arguments],
                               check=False, timeout=seconds * 4 + 120)
        if said.returncode != 0:
            raise Wrong(f"barewire load: {said.stdout}{said.stderr}")
        told = json.loads(report.read_text())
        self.finish()
        return Sample(told["requests_per_s"], told["latency_ns"]["p50"] / 1e3, told["latency_ns"]["p99"] / 1e3, self.cycles)

    def wrk(self, seconds, connections, *, depth=1, closes=False):
        script = self.folder / "wrk.lua"
        script.write_text(
            "init = function(args) local r = {}; "
            f"for i = 1, {depth} do r[i] = wrk.format() end; request_text = table.concat(r) end; "
            "request = function() return request_text end")
        close = ["-H", "Connection: close"] if closes else []
        said = self.client.run(["taskset", "-c", CLIENT_CPU, "wrk", "-t1", f"-c{connections}", f"-d{max(round(seconds), 1)}s",
                                "--latency", *close, "-s", script, f"http://{SERVER}:{HTTP}/{FILE}"],
                               timeout=seconds * 2 + 60).stdout
        if "Non-2xx" in said or re.search(r"read [1-9]", said):
            raise Wrong(f"wrk: {said}")
        self.finish()
        return Sample(float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1]), latency(said, "50%"), latency(said, "99%"),
                      self.cycles)

    def redis_benchmark(self, seconds, what, *, depth=1, size=32, keys=1000000):
        def run(requests, what, depth):
            return self.client.run(
                ["taskset", "-c", CLIENT_CPU, "redis-benchmark", "-h", SERVER, "-p", RESP, "-c", 64, "-P", depth,
                 "-d", size, "-r", keys, "-n", requests, "-t", what, "--csv"], timeout=seconds * 10 + 60).stdout

        if what == "get":
            run(3 * keys, "set", 50)  # it chooses at random, and leaves one key in twenty out
        said = run(int(seconds * 60000 * min(depth, 8)), what, depth)
        row = [cell.strip('"') for cell in said.splitlines()[-1].split(",")]
        self.finish()
        return Sample(float(row[1]), float(row[4]) * 1e3, float(row[6]) * 1e3, self.cycles)


def latency(said, percent):
    value, unit = re.search(rf"{percent}\s+([\d.]+)(us|ms|s)", said).groups()
    # Pipelined, wrk has no high percentiles, and says 0.
    return float(value) * {"us": 1, "ms": 1e3, "s": 1e6}[unit] or None


# ---- the comparisons -----------------------------------------------------------------------------------------------


def side(serve, client, *arguments, **options):
    """serve: a device for Barewire, or the name of a kernel server. client: a method of Place."""
    def run(seconds):
        with Place() as place:
            if serve in ("nginx", "redis"):
                getattr(place, serve)()
            else:
                place.barewire(serve)
            return getattr(place, client)(seconds, *arguments, **options)

    return run


URL = f"http://{SERVER}:{HTTP}/{FILE}"
CACHE = f"resp://{SERVER}:{RESP}"


def http(connections, depth):
    return {
        "nginx, veth, wrk": side("nginx", "wrk", connections, depth=depth),
        "Barewire, memif, barewire load": side("memif", "load", "-c", connections, "-P", depth, URL),
        "Barewire, xdp on veth, wrk": side("xdp", "wrk", connections, depth=depth),
        "Barewire, packet on veth, wrk": side("packet", "wrk", connections, depth=depth),
        "Barewire, tap, wrk": side("tap", "wrk", connections, depth=depth),
    }


def resp(what, depth, size=32):
    ratio = "1:0" if what == "set" else "0:1"
    return {
        "redis-server, veth, redis-benchmark": side("redis", "redis_benchmark", what, depth=depth, size=size),
        "Barewire, memif, barewire load": side(
            "memif", "load", "-c", 64, "-P", depth, "--size", size, "--keys", 1000000, "--distribution", "zipf",
            "--ratio", ratio, *(["--fill"] if what == "get" else []), CACHE),
        "Barewire, packet on veth, redis-benchmark": side("packet", "redis_benchmark", what, depth=depth, size=size),
    }


COMPARISONS = {
    "http": ("HTTP, keep-alive, 64 connections, 100 bytes", lambda: http(64, 1)),
    "http-1024": ("HTTP, keep-alive, 1,024 connections, 100 bytes", lambda: http(1024, 1)),
    "http-16": ("HTTP, 16 deep, 64 connections, 100 bytes", lambda: http(64, 16)),
    "http-new": ("HTTP, a connection for each request", lambda: {
        "nginx, veth, wrk": side("nginx", "wrk", 64, closes=True),
        "Barewire, memif, barewire load": side("memif", "load", "-c", 256, "--new-connections", URL),
        "Barewire, packet on veth, wrk": side("packet", "wrk", 64, closes=True),
    }),
    "resp-get": ("RESP, GET of 32 bytes, 10^6 keys", lambda: resp("get", 1)),
    "resp-get-16": ("RESP, GET of 32 bytes, 10^6 keys, 16 deep", lambda: resp("get", 16)),
    "resp-set": ("RESP, SET of 32 bytes, 10^6 keys", lambda: resp("set", 1)),
    "resp-set-16": ("RESP, SET of 32 bytes, 10^6 keys, 16 deep", lambda: resp("set", 16)),
    "resp-1k-16": ("RESP, GET of 1 KiB, 10^6 keys, 16 deep", lambda: resp("get", 16, 1024)),
    "round-trip": ("Round trip of one request, nothing else under way", lambda: {
        "nginx, veth, wrk": side("nginx", "wrk", 1),
        "Barewire, memif, barewire load": side("memif", "load", "-c", 1, URL),
        "Barewire, packet on veth, wrk": side("packet", "wrk", 1),
    }),
    "connections": ("HTTP by connections, each asking in turn", lambda: {
        f"{count:,} connections": side("memif", "load", "-c", count, "--from", "198.19.0.0/16", "-R", 200000, URL)
        for count in (100, 1000, 10000, 50000)
    }),
}
QUICK = ("http-new", "resp-get-16")


# ---- running and reporting -----------------------------------------------------------------------------------------


def run_rounds(sides, rounds, seconds):
    samples = {name: [] for name in sides}
    for number in range(rounds):
        for name, run in sides.items():
            sample = run(seconds)
            samples[name].append(sample)
            print(f"  round {number + 1}, {name}: {sample.rate:,.0f}/s", file=sys.stderr, flush=True)
    return samples


def spread(values, form="{:,.0f}"):
    values = [value for value in values if value is not None]
    if not values:
        return "–"
    middle = form.format(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({form.format(min(values))} to {form.format(max(values))})"


def table(samples):
    first = next(iter(samples.values()))
    rows = ["| | requests/s | ratio | p50, us | p99, us | busy cycles/request |", "|---|---|---|---|---|---|"]
    for name, mine in samples.items():
        ratio = statistics.median(sample.rate / base.rate for sample, base in zip(mine, first))
        rows.append(f"| {name} | {spread(s.rate for s in mine)} | {ratio:.2f} | {spread((s.p50 for s in mine), '{:,.1f}')} | "
                    f"{spread((s.p99 for s in mine), '{:,.1f}')} | {spread(s.cycles for s in mine)} |")
    return "\n".join(rows)


def machine():
    with open("/proc/cpuinfo") as file:
        model = re.search(r"model name\s*: (.*)", file.read())[1]
    commit = sh(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], quiet=True).stdout.strip()
    dpdk = sh([BINARY, "--version"], quiet=True).stdout.split(",")[1].strip()
    return f"{model}, {os.cpu_count()} processors, Linux {os.uname().release}, {dpdk}, commit {commit}"


def write(name, title, samples, rounds, seconds):
    """Into the document, in the place of what was there under that name."""
    begin, end = f"<!-- compare.py {name} -->", f"<!-- compare.py {name} ends -->"
    text = (f"{begin}\n\n### {title}\n\n{table(samples)}\n\n{rounds} rounds of {seconds:g} s, "
            f"{time.strftime('%Y-%m-%d')}. {machine()}.\n\n{end}")
    page = DOCS.read_text()
    if begin in page:
        page = page[:page.index(begin)] + text + page[page.index(end) + len(end):]
    else:
        page = page.rstrip("\n") + "\n\n" + text + "\n"
    DOCS.write_text(page)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], prog="scripts/bench")
    parser.add_argument("--quick", action="store_true", help="one round of a second, and nothing is written")
    parser.add_argument("--only", help="names, separated by commas", metavar="NAME")
    parser.add_argument("--list", action="store_true", help="the names")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    if options.list:
        for name, (title, _) in COMPARISONS.items():
            print(f"{name:12} {title}")
        return 0
    names = options.only.split(",") if options.only else QUICK if options.quick else list(COMPARISONS)
    for name in names:
        if name not in COMPARISONS:
            sys.exit(f"scripts/bench: {name}: no such comparison; --list has their names")
    if os.geteuid() != 0:
        sys.exit("scripts/bench: needs root, for network namespaces")
    rounds, seconds = (1, 1) if options.quick else (options.rounds, options.seconds)
    failed = 0
    for name in names:
        title, sides = COMPARISONS[name]
        print(f"{name}: {title}", file=sys.stderr, flush=True)
        try:
            # What the laboratory says of each command would bury the figures.
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
                samples = run_rounds(sides(), rounds, seconds)
        except (Wrong, Failed) as error:
            print(f"FAILED {name}: {error}", file=sys.stderr)
            failed += 1
            continue
        print(f"\n{title}\n\n{table(samples)}\n", flush=True)
        if not options.quick:
            write(name, title, samples, rounds, seconds)
    if options.quick:
        print(f"{len(names) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
