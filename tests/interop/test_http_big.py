# SPDX-License-Identifier: BSD-3-Clause
"""Files that are larger than `cache_file_max`: read while they are sent, and never held."""

import hashlib
import pathlib
import random
import re
import signal
import subprocess
import time

import pytest

from conftest import HTTP, V4
from lab import wait_until

MIB = 1 << 20
SIZE = 3 * 1024 * MIB + 54321
REAL = {0: b"begin" * 9999, 1024 * MIB - 77: b"middle" * 9999, SIZE - 99999: b"end" * 33333}


@pytest.fixture(scope="module")
def sparse(files):
    """3 GiB of holes with data at the ends and in the middle."""
    path = files / "sparse"
    with open(path, "wb") as file:
        file.truncate(SIZE)
        for at, data in REAL.items():
            file.seek(at)
            file.write(data)
    yield path
    path.unlink()


def resident(server):
    """Of the server's own memory, without what is mapped of files."""
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) * 1024


def digest(path, size):
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        for at in range(0, size, MIB):
            sha.update(file.read(min(MIB, size - at)))
    return sha.hexdigest()


@pytest.mark.deadline(240)
def test_three_gibibytes(bench, files, sparse):
    server = bench.serve("packet", [f"--http {HTTP}={files}"])
    url = bench.url("v4", "sparse")
    before = resident(server)
    whole, first = (bench.client.start(["sh", "-c", f"curl -sS --fail {option} {url} | sha256sum"],
                                       stdout=subprocess.PIPE) for option in ("", f"-r 0-{256 * MIB - 1}"))
    # One that reads a little, and one that goes away.
    slow = bench.client.start(["curl", "-sS", "--limit-rate", "100k", "-o", "/dev/null", url])
    killed = bench.client.start(["curl", "-sS", "-o", "/dev/null", "--limit-rate", "50m", url])
    wait_until(lambda: resident(server) > before, "the downloads to begin")
    at = 1024 * MIB - 100
    part = bench.client.run(["curl", "-sS", "--fail", "-r", f"{at}-{at + 99999}", url], text=False)
    with open(sparse, "rb") as file:
        file.seek(at)
        assert part.stdout == file.read(100000)
    killed.kill()
    killed.wait()
    for curl, size in (first, 256 * MIB), (whole, SIZE):
        assert curl.communicate(timeout=200)[0].split()[0].decode() == digest(sparse, size)
    grown = resident(server) - before
    print(f"{grown / MIB:.1f} MiB more memory")
    assert grown < 80 * MIB, "the pool of blocks is 64 MiB at most"
    assert slow.poll() is None
    slow.kill()
    slow.wait()
    server.assert_runs()
    server.stop()


@pytest.fixture
def served(bench, tmp_path):
    """A root whose files are held up to 1 MiB only."""
    root = tmp_path / "www"
    root.mkdir()
    conf = tmp_path / "barewire.yaml"
    conf.write_text(f"http:\n  - port: {HTTP}\n    root: {root}\n    cache: 64MiB\n    cache_file_max: 1MiB\n")
    (root / "app.js").write_bytes(b"x" * 100)
    for number, name in enumerate(("app.js.br", "app.js.gz", "big")):
        (root / name).write_bytes(random.Random(number).randbytes((24 + number) * MIB + 4321))
    bench.serve("tap", extra=["-c", conf])
    return root


def test_large_copies(bench, served):
    """Of a small file: each client gets the one that it takes, at the same time."""
    url = bench.url("v4", "app.js")
    started = {name: bench.client.start(["sh", "-c", f"curl -sS --fail -H 'Accept-Encoding: {coding}' {url} | sha256sum"],
                                        stdout=subprocess.PIPE)
               for coding, name in (("br", "app.js.br"), ("gzip", "app.js.gz"), ("identity", "app.js"))}
    for name, curl in started.items():
        said = curl.communicate(timeout=60)[0].split()[0].decode()
        assert said == hashlib.sha256((served / name).read_bytes()).hexdigest(), name
    bench.server.assert_runs()


@pytest.mark.sanitize
def test_a_drain_in_the_middle_of_a_large_file(bench, served):
    """SIGTERM: what is being read and sent is sent whole, and then it is over."""
    curl = bench.client.start(["sh", "-c", f"curl -sS --fail --limit-rate 8M {bench.url('v4', 'big')} | sha256sum"],
                              stdout=subprocess.PIPE)
    time.sleep(1)
    server = bench.server
    server.is_checked = True
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert server.process.poll() is None and curl.poll() is None, "it did not wait for the transfer"
    said = curl.communicate(timeout=30)[0].split()[0].decode()
    assert said == hashlib.sha256((served / "big").read_bytes()).hexdigest()
    assert server.process.wait(10) == 0
    assert re.search(r"\b0 lost\b", server.output())
