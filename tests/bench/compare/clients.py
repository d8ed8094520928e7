# SPDX-License-Identifier: BSD-3-Clause
"""Who asks, from CPU 1. A client is called with the place and how many seconds, and tells what it has measured:

    rate                       answers a second
    p50 … p99.99, max          microseconds, as far as the client knows them
    gbit                       10^9 bits a second of what was moved, where that is the point
"""

import json
import re

from place import (BAREWIRE_CLIENT, BINARY, CLIENT_CPU, DOCUMENT, HTTP, MEMCACHED, RESP, SERVER, TOOLS, UPLOAD, Wrong)

PERCENTILES = ("p50", "p90", "p99", "p99.9", "p99.99", "max")


def url(path=DOCUMENT):
    return f"http://{SERVER}:{HTTP}/{path}"


CACHE = f"resp://{SERVER}:{RESP}"


def gbit(figures, size):
    return figures if size is None else {**figures, "gbit": figures["rate"] * size * 8 / 1e9}


def barewire_load(place, seconds, *arguments, until=None):
    """Runs to its end; its report. `until`: called with the process meanwhile."""
    report = place.folder / "load.json"
    report.unlink(missing_ok=True)
    address = f"{BAREWIRE_CLIENT}/{getattr(place, 'prefix', 24)}"
    argv = [BINARY, "load", "--dev", place.dev("client"), "--addr", address, "--mtu", place.mtu, "--cpus", CLIENT_CPU, "-q",
            "--json", report, *arguments]
    log = place.folder / "load.log"
    with open(log, "wb") as out:
        process = place.client.start(argv, stdout=out, stderr=out)
    if until:
        until(process)
    if process.wait(timeout=seconds * 6 + 180) != 0:
        raise Wrong(f"barewire load: {log.read_text()[-3000:]}")
    return json.loads(report.read_text())


def told(report):
    figures = {name: report["latency_ns"][name.replace(".", "_")] / 1e3 for name in PERCENTILES}
    return {"rate": report["requests_per_s"], **figures}


def load(*arguments, size=None, hits=False):
    """barewire load, on the memif, or on the kernel's interface at the client."""
    def run(place, seconds):
        report = barewire_load(place, seconds, "--warmup", round(min(seconds / 5, 0.3), 3), "-d",
                               round(seconds, 3), *arguments)
        if hits and report["misses"]:
            raise Wrong(f"{report['misses']} keys were not there")
        return gbit(told(report), size)

    return run


def cache_load(what, depth, size):
    def run(place, seconds):
        return load("-c", 64, "-P", depth, "--size", size, "--keys", place.keys, "--distribution", "zipf", "--ratio",
                    "1:0" if what == "set" else "0:1", CACHE, hits=what == "get")(place, seconds)

    return run


def half_of_the_peak(connections, *arguments):
    """The highest rate, and then half of it, each request timed from when it was due."""
    def run(place, seconds):
        peak = load("-c", connections, *arguments)(place, seconds / 2)["rate"]
        figures = load("-c", connections, "-R", int(peak / 2), *arguments)(place, seconds)
        if figures["rate"] < peak * 0.45 and not place.quick:
            raise Wrong(f"half of {peak:,.0f} requests a second was too much: {figures['rate']:,.0f}")
        return {**figures, "two_rates": True}

    return run


def wrk(connections, *, depth=1, closes=False, path=DOCUMENT, size=None, upload=None):
    def run(place, seconds):
        script = place.folder / "wrk.lua"
        body = f"wrk.method = 'POST'; wrk.body = string.rep('x', {upload}); " if upload else ""
        script.write_text(
            f"{body}init = function(args) local r = {{}}; for i = 1, {depth} do r[i] = wrk.format() end; "
            "text = table.concat(r) end; request = function() return text end")
        # wrk takes whole seconds.
        said = place.client.run(
            ["taskset", "-c", CLIENT_CPU, "wrk", "-t1", f"-c{connections}", f"-d{max(round(seconds), 1)}s", "--latency",
             *(["-H", "Connection: close"] if closes else []), "-s", script, url(path)], timeout=seconds * 2 + 60).stdout
        if "Non-2xx" in said or re.search(r"read [1-9]", said):
            raise Wrong(f"wrk: {said}")
        figures = {"rate": float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])}
        for name in ("50%", "90%", "99%"):
            value, unit = re.search(rf"{name}\s+([\d.]+)(us|ms|s)", said).groups()
            # Pipelined, wrk has no high percentiles, and says 0.
            if float(value) > 0:
                figures["p" + name[:-1]] = float(value) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]
        return gbit(figures, size)

    return run


def cache_client(protocol, what, depth, size):
    """tests/bench/cache_client.c."""
    def run(place, seconds):
        port = MEMCACHED if protocol == "memcached" else RESP
        # A fill has its time; the server says nothing while it has none to spare.
        said = place.client.run(
            ["taskset", "-c", CLIENT_CPU, TOOLS / "cache_client", protocol, SERVER, port, what, 64, depth, size, place.keys,
             *([seconds] if what != "fill" else [])], timeout=seconds * 3 + 120)
        numbers = [float(word) for word in said.stdout.split()]
        return dict(zip(("rate", *PERCENTILES), numbers))

    return run


def redis_benchmark(what, depth, size):
    def run(place, seconds):
        # It takes a count and not a time: one that was enough on fast machines, and is not long on slow ones.
        requests = 20000 if place.quick else int(seconds * 60000 * min(depth, 8))
        said = place.client.run(
            ["taskset", "-c", CLIENT_CPU, "redis-benchmark", "-h", SERVER, "-p", RESP, "-c", 64, "-P", depth, "-d", size,
             "-r", place.keys, "-n", requests, "-t", what, "--csv"], timeout=seconds * 20 + 60).stdout
        row = [cell.strip('"') for cell in said.splitlines()[-1].split(",")]
        return {"rate": float(row[1]), "p50": float(row[4]) * 1e3, "p99": float(row[6]) * 1e3}

    return run


# ---- what a store holds before it is asked -----------------------------------------------------------------------


def fill(place, size, protocol="resp"):
    """Every key once."""
    if place.device == "memif":
        barewire_load(place, 1, "-c", 16, "-P", 16, "-n", 1, "--fill", "--size", size, "--keys", place.keys, CACHE)
    else:
        cache_client(protocol, "fill", 16, size)(place, 1)


def upload_request(place):
    """Of UPLOAD bytes: barewire load takes a file of up to 64 KiB."""
    file = place.folder / "upload"
    file.write_bytes(b"POST /sink HTTP/1.1\r\nHost: bench\r\nContent-Length: %d\r\n\r\n" % UPLOAD + b"x" * UPLOAD)
    return file


def load_upload(connections, depth):
    def run(place, seconds):
        ask = load("-c", connections, "-P", depth, "--request", upload_request(place), url("sink"), size=UPLOAD)
        return ask(place, seconds)

    return run
