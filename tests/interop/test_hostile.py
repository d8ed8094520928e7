# SPDX-License-Identifier: BSD-3-Clause
"""Bad links, and not one byte wrong: curl, redis-cli and bulk both ways against the kernel's TCP, all at once."""

import concurrent.futures
import random
import time

import pytest

from clients import download
from conftest import ECHO, FAMILIES, HERE, HTTP, RESP

# Name to what the link does, and to how many bytes go each way on a connection.
LINKS = {
    "loss": ("--loss 1 --delay 10", 1 << 20),
    "heavy-loss": ("--loss 10", 3 << 20),
    "bursts": ("--burst 2,5 --delay 5", 1 << 20),
    "reordering": ("--reorder 20,8 --delay 5 --jitter 2", 2 << 20),
    "duplication": ("--duplicate 10 --delay 2", 4 << 20),
    "corruption": ("--corrupt 1 --delay 1", 4 << 20),
    "distance": ("--delay 50 --loss 0.3", 1 << 20),
    "narrow": ("--rate 20 --queue 20 --delay 10", 1 << 20),
    "blackout": ("--delay 5 --blackout 300,2500", 1 << 20),
    "everything": ("--loss 1 --burst 1,3 --reorder 5,6 --duplicate 2 --corrupt 1 --delay 5 --jitter 3 --mark-ce 5"
                   " --rate 50 --queue 50", 1 << 20),
}
# What has to have happened to packets, in both directions, for a test to be one; of a hundred.
EXPECTED = {
    "loss": {"lost": (0.4, 2)}, "heavy-loss": {"lost": (6, 14)}, "bursts": {"lost": (0.5, 5)},
    "reordering": {"reordered": (15, 25)}, "duplication": {"duplicated": (7, 13)}, "corruption": {"corrupted": (0.4, 2)},
    "distance": {"lost": (0.02, 1)}, "narrow": {}, "blackout": {"blacked_out": (0.1, 90)},
    "everything": {"lost": (1, 5), "reordered": (3, 8), "duplicated": (1, 4), "corrupted": (0.4, 2)},
}
SECONDS = 40


@pytest.fixture(scope="module")
def cuts(files):
    """The beginnings of a file."""
    whole = (files / "20m").read_bytes()
    made = {}
    for size in sorted({size for _, size in LINKS.values()} | {200_000}):
        made[size] = files / f"cut-{size}"
        made[size].write_bytes(whole[:size])
    return made


def pipeline(bench, family, seed):
    """Values that are set in one go, and read in one command."""
    rng = random.Random(seed)
    values = {f"{family}:{i}": rng.randbytes(rng.randrange(1, 4000)).hex() for i in range(100)}
    cli = ["redis-cli", "-h", FAMILIES[family], "-p", RESP]
    said = bench.client.run([*cli, "--pipe"], stdin="".join(f"SET {key} {value}\r\n" for key, value in values.items()),
                            timeout=SECONDS)
    assert "errors: 0, replies: 100" in said.stdout
    got = bench.client.run([*cli, "MGET", *values], timeout=SECONDS, quiet=True).stdout
    assert got.split() == list(values.values()), "a value is not what it was"


def run_all(bench, files, path, small):
    """Every kind of client over both families at once; raises what the first of them raised."""
    def echo(family):
        bench.client.run(["/usr/bin/python3", HERE / "clients.py", "echo", FAMILIES[family], ECHO, path],
                         timeout=SECONDS)

    def get(family, what):
        download(bench.client, bench.url(family, what.name), what, timeout=SECONDS)

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        began = time.monotonic()
        jobs = {}
        for family in FAMILIES:
            jobs[pool.submit(get, family, path)] = f"download {family}"
            jobs[pool.submit(echo, family)] = f"echo {family}"
            jobs[pool.submit(pipeline, bench, family, len(jobs))] = f"redis {family}"
            for _ in range(3):
                jobs[pool.submit(get, family, small)] = f"small download {family}"
        for job in concurrent.futures.as_completed(jobs):
            job.result()
            print(f"{jobs[job]}: {time.monotonic() - began:.2f} s", flush=True)


def cases():
    for name in LINKS:
        marks = [pytest.mark.sanitize] if name in ("heavy-loss", "corruption", "everything") else []
        yield pytest.param(name, "packet", marks=marks)
    for device in ("tap", "xdp"):
        yield pytest.param("heavy-loss", device, marks=pytest.mark.sanitize)


@pytest.mark.deadline(150)
@pytest.mark.parametrize("name, device", cases())
def test_not_a_byte_is_wrong(bench, files, cuts, name, device):
    options, size = LINKS[name]
    bench.serve(device, [f"--http {HTTP}={files}", f"--echo {ECHO}", f"--resp {RESP}"], bad_link=True)
    bench.link.start(f"--seed 3 {options}")
    run_all(bench, files, cuts[size], cuts[200_000])
    # Before the link: the last FIN has to get through as well.
    counters = bench.server.stop()
    done = bench.link.stop()
    for direction in done.values():
        assert direction["overruns"] == direction["failed"] == 0
        for what, (least, most) in EXPECTED[name].items():
            assert least < 100 * direction[what] / direction["in"] < most, f"{what}: not as bad as the test says"
    if name == "narrow":
        assert done["back"]["queue_full"] > 0
    if name == "heavy-loss":
        assert counters["tcp.retransmits"] > 100
        assert counters["tcp.out_of_order"] > 0
    elif name == "corruption":
        assert counters["drop.l4_checksum"] > 0 and counters["drop.ip_checksum"] > 0
    elif name == "duplication":
        assert counters["tcp.duplicates"] > 0
    elif name == "reordering":
        assert counters["tcp.out_of_order"] > 0 and counters["tcp.undos"] > 0
