# SPDX-License-Identifier: BSD-3-Clause
"""Documents that change while they are served: in each way that people deploy them, seen at once, and never half."""

import contextlib
import gzip
import hashlib
import os
import random
import re
import shutil
import socket
import statistics
import subprocess
import threading
import time

import pytest

from conftest import HTTP, V4
from lab import sh, wait_until

MIB = 1 << 20
AT_ONCE = 0.3  # in the mean: it is some milliseconds, and a machine that does other things takes its time


@pytest.fixture
def www(tmp_path):
    root = tmp_path / "www"
    root.mkdir()
    for path in (tmp_path, root):
        path.chmod(0o755)
    return root


def configured(tmp_path, root, **keys):
    path = tmp_path / "barewire.yaml"
    path.write_text(f"http:\n  - port: {HTTP}\n    root: {root}\n" +
                    "".join(f"    {key}: {value}\n" for key, value in keys.items()))
    return ["-c", path]


def figures(server, name):
    """Of all workers, after the end."""
    found = re.findall(rf"\bhttp\.\d+\.{name}\s+(\d+)", server.output())
    return sum(int(n) for n in found)


class Client:
    """One connection that is kept."""

    def __init__(self, bench):
        with bench.client:
            self.socket = socket.create_connection((V4, HTTP), timeout=5)
        self.file = self.socket.makefile("rb")

    def get(self, path, fields=""):
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: h\r\n{fields}\r\n".encode())
        status = int(self.file.readline().split()[1])
        length = 0
        while (line := self.file.readline()) != b"\r\n":
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return status, self.file.read(length)

    def time_until(self, path, status, body=None, fields=""):
        """Seconds. Whatever the body is, if none is given."""
        def is_it():
            answer = self.get(path, fields)
            return answer == (status, answer[1] if body is None else body)

        begin = time.monotonic()
        wait_until(is_it, f"{path} to be {status} {body}", timeout=5, every=0.001)
        return time.monotonic() - begin

    def close(self):
        self.file.close()
        self.socket.close()


@pytest.fixture
def open_client():
    with contextlib.ExitStack() as stack:
        def make(bench):
            client = Client(bench)
            stack.callback(client.close)
            return client
        yield make


def replace(path, data):
    """As editors, rsync and package managers do."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(data)
    beside.rename(path)


def point_to(link, target):
    """ln -sfn, without a moment in which there is nothing."""
    beside = link.with_name(link.name + ".new")
    beside.symlink_to(target)
    beside.rename(link)


@pytest.mark.sanitize
def test_a_change_is_seen_at_once(bench, www, tmp_path, open_client):
    (www / "sub").mkdir()
    page, index = www / "sub" / "page", www / "sub" / "index.html"
    page.write_bytes(b"first")
    bench.serve("tap", extra=[*configured(tmp_path, www), "--workers", 2])
    clients = [open_client(bench) for _ in range(4)]
    took = []

    def all_see(*answer):
        took.append(max(client.time_until(*answer) for client in clients))
        # A second change within a wink may take the wink longer.
        time.sleep(0.05)

    for client in clients:
        assert client.get("/sub/page") == (200, b"first")
        assert client.get("/sub/")[0] == 403
    for i in range(10):
        replace(page, b"replaced %d" % i)
        all_see("/sub/page", 200, b"replaced %d" % i)
        with open(page, "r+b") as file:
            file.write(b"in place")
        all_see("/sub/page", 200, b"in place %d" % i)
        page.unlink()
        all_see("/sub/page", 404)
        page.write_bytes(b"again")
        all_see("/sub/page", 200, b"again")
        packed = gzip.compress(b"packed %d" % i, mtime=0)
        replace(www / "sub" / "page.gz", packed)
        all_see("/sub/page", 200, packed, "Accept-Encoding: gzip\r\n")
        (www / "sub" / "page.gz").unlink()
        all_see("/sub/page", 200, b"again", "Accept-Encoding: gzip\r\n")
        index.write_bytes(b"index")
        all_see("/sub/", 200, b"index")
        index.unlink()
        all_see("/sub/", 403)
        (www / "sub").rename(www / "old")
        all_see("/sub/page", 404)
        (www / "old").rename(www / "sub")
        all_see("/sub/page", 200, b"again")
    print(f"{len(took)} changes: mean {statistics.mean(took) * 1e3:.1f} ms, median {statistics.median(took) * 1e3:.1f} ms, "
          f"longest {max(took) * 1e3:.1f} ms")
    assert statistics.mean(took) < AT_ONCE
    bench.server.stop()
    assert figures(bench.server, "cache_watch_refused") == 0


def test_what_does_not_change_is_not_looked_at(bench, www, tmp_path, open_client):
    (www / "page").write_bytes(b"page")
    os.utime(www / "page", (1e9, 1e9))
    time.sleep(0.1)
    bench.serve("tap", extra=configured(tmp_path, www))
    client, until = open_client(bench), time.monotonic() + 4
    while time.monotonic() < until:
        assert client.get("/page") == (200, b"page")
        time.sleep(0.01)
    bench.server.stop()
    assert figures(bench.server, "cache_checks") == 0
    assert figures(bench.server, "cache_loads") == 1
    assert figures(bench.server, "cache_watches") == 1


def release(path, number):
    """A directory in which all files say the same."""
    path.mkdir(parents=True)
    for name in ("index.html", "app.js"):
        (path / name).write_bytes(b"release %d" % number)


@pytest.mark.parametrize("how", ("link", "link further up", "directory"))
def test_a_root_is_swapped(bench, www, tmp_path, open_client, how):
    current = www / "current"
    below = "public" if how == "link further up" else ""

    def deploy(number):
        new = www / f"release{number}"
        release(new / below, number)
        if how != "directory":
            point_to(current, new.name)
            return
        if current.exists():
            current.rename(www / f"old{number}")
        new.rename(current)

    deploy(0)
    bench.serve("tap", extra=configured(tmp_path, current / below))
    stop, seen = threading.Event(), []

    def browse(client):
        while not stop.is_set():
            seen.append(client.get("/app.js"))

    browser = threading.Thread(target=browse, args=(open_client(bench),))
    browser.start()
    client, took = open_client(bench), []
    try:
        for number in range(1, 6):
            deploy(number)
            took.append(client.time_until("/", 200, b"release %d" % number))
            client.time_until("/app.js", 200, b"release %d" % number)
    finally:
        stop.set()
        browser.join()
    print(f"{how}: mean {statistics.mean(took) * 1e3:.0f} ms, longest {max(took) * 1e3:.0f} ms")
    assert statistics.mean(took) < 1
    # Whoever browses sees one release after the other, and never none.
    assert {status for status, _ in seen} == {200}
    numbers = [int(body.split()[1]) for _, body in seen]
    assert numbers == sorted(numbers)
    bench.server.stop()
    assert figures(bench.server, "root_swaps") == 5


@pytest.fixture
def mount():
    """Mounts one file over another, as containers do with a file that they are given."""
    with contextlib.ExitStack() as stack:
        def bind(source, target):
            sh(["mount", "--bind", source, target])
            stack.callback(sh, ["umount", target])
        yield bind


def test_a_file_that_is_mounted_is_looked_at_where_it_comes_from(bench, www, tmp_path, open_client, mount):
    given = {www / "page": b"page 0", www / "page.gz": gzip.compress(b"page 0", mtime=0), www / "alone": b"alone 0"}
    for path, data in given.items():
        path.write_bytes(b"covered")
        if path.name != "page":
            (tmp_path / path.name).write_bytes(data)
            mount(tmp_path / path.name, path)
    bench.serve("tap", extra=configured(tmp_path, www))
    client = open_client(bench)
    packed = given[www / "page.gz"]
    client.time_until("/page", 200, packed, "Accept-Encoding: gzip\r\n")
    client.time_until("/alone", 200, b"alone 0")
    time.sleep(1.5)  # a second look, at what is no longer new
    client.time_until("/page", 200, packed, "Accept-Encoding: gzip\r\n")
    client.time_until("/alone", 200, b"alone 0")
    time.sleep(0.5)
    (tmp_path / "alone").write_bytes(b"alone 1")
    (tmp_path / "page.gz").write_bytes(packed[::-1])
    assert client.time_until("/alone", 200, b"alone 1") < 3
    assert client.time_until("/page", 200, packed[::-1], "Accept-Encoding: gzip\r\n") < 3


@pytest.mark.parametrize("kind", ("held", "read while it is sent"))
def test_a_download_under_way_keeps_its_bytes(bench, www, tmp_path, open_client, kind):
    old, new = (random.Random(seed).randbytes(24 * MIB) for seed in (1, 2))
    file = www / "big"
    file.write_bytes(old)
    keys = {"cache": "256MiB", "cache_file_max": "32MiB" if kind == "held" else "1MiB"}
    bench.serve("tap", extra=configured(tmp_path, www, **keys))
    url = bench.url("v4", "big")
    begin = time.monotonic()
    curl = bench.client.start(["sh", "-c", f"curl -sS --fail --limit-rate 8M {url} | sha256sum"],
                              stdout=subprocess.PIPE)
    time.sleep(0.7)
    replace(file, new)
    now = bench.client.run(["curl", "-sS", "--fail", url], text=False).stdout
    assert hashlib.sha256(now).digest() == hashlib.sha256(new).digest(), "the new one is there at once"
    assert curl.poll() is None, "the old one is still under way"
    said = curl.communicate(timeout=60)[0].split()[0].decode()
    assert time.monotonic() - begin > 1.5
    assert said == hashlib.sha256(old).hexdigest()
    bench.server.assert_runs()


def test_without_inotify_it_is_a_second(bench, www, tmp_path, open_client):
    page = www / "page"
    page.write_bytes(b"0")
    bench.serve("tap", extra=configured(tmp_path, www, cache_watches=0))
    client = open_client(bench)
    assert client.get("/page") == (200, b"0")
    for i in range(1, 4):
        replace(page, b"%d" % i)
        assert client.time_until("/page", 200, b"%d" % i) < 3
    shutil.rmtree(www)
    www.mkdir()
    (www / "page").write_bytes(b"another root")
    client.time_until("/page", 200, b"another root")
    bench.server.stop()
    assert figures(bench.server, "cache_watches") == 0 and figures(bench.server, "root_swaps") == 1
