# SPDX-License-Identifier: BSD-3-Clause
"""curl's options for files, and load generators: every answer there, every one the right one, no error."""

import hashlib
import re
import subprocess
import time

import pytest

from conftest import HTTP

BUSY = ("packet", "tap")
NOWHERE = ["-o", "/dev/null"]


def serve(bench, files, device="tap"):
    bench.serve(device, [f"--http {HTTP}={files}"])
    return bench.url("v4", "1m")


def curl(bench, *options):
    return bench.client.run(["curl", "-sS", "--max-time", 60, *options], text=False, quiet=True).stdout


def told(bench, *options, what="%{http_code} %{size_download} %{num_connects}"):
    """What curl says of a transfer whose body goes elsewhere, or does not matter."""
    where = [] if "-o" in options else NOWHERE
    return curl(bench, *where, "-w", what, *options).decode()


# ---- curl ----------------------------------------------------------------------------------------------------


def test_curl_http_1_0(bench, files):
    url = serve(bench, files)
    assert curl(bench, "--http1.0", url) == (files / "1m").read_bytes()
    # It does not keep the connection, and does not have to; where it asks, it does.
    assert told(bench, "--http1.0", *NOWHERE, url, *NOWHERE, url) == "200 1048576 1200 1048576 1"
    kept = told(bench, "--http1.0", "-H", "Connection: keep-alive", *NOWHERE, url, *NOWHERE, url)
    assert kept == "200 1048576 1200 1048576 0"


def test_curl_range(bench, files):
    url = serve(bench, files)
    for ranges, first, last in [("0-0", 0, 0), ("1000-2999", 1000, 2999), ("1048575-", 1048575, 1048575),
                                ("-1", 1048575, 1048575), ("-100000", 948576, 1048575),
                                ("1000000-9999999", 1000000, 1048575)]:
        assert curl(bench, "-f", "-r", ranges, url) == (files / "1m").read_bytes()[first:last + 1]
        assert told(bench, "-r", ranges, url).startswith(f"206 {last - first + 1} ")


def test_curl_range_unsatisfiable_and_several(bench, files):
    url = serve(bench, files)
    assert told(bench, "-r", "1048576-", url).startswith("416 ")
    # Sets of more than one range get the whole (RFC 9110 14.2).
    assert told(bench, "-r", "0-1,5-6", url).startswith("200 1048576 ")


def test_curl_continues_a_download(bench, files, tmp_path):
    url = serve(bench, files)
    part = tmp_path / "part"
    for size in (0, 1, 500000, 1048575):
        part.write_bytes((files / "1m").read_bytes()[:size])
        assert told(bench, "-C", "-", url, "-o", part).startswith(f"{206 if size else 200} {1048576 - size} ")
        assert part.read_bytes() == (files / "1m").read_bytes()
    # All of it there: curl asks for what is behind the end, and takes the 416 for what it means.
    bench.client.run(["curl", "-sS", "-C", "-", "-o", part, url])
    assert part.read_bytes() == (files / "1m").read_bytes()


def test_curl_asks_for_what_is_newer(bench, files, tmp_path):
    url = serve(bench, files)
    copy = tmp_path / "copy"
    assert told(bench, "-R", url, "-o", copy).startswith("200 ")  # with the file's own time
    assert told(bench, "-z", copy, url).startswith("304 0 ")
    assert told(bench, "-z", "Thu, 01 Jan 1970 00:00:00 GMT", url).startswith("200 1048576 ")
    assert told(bench, "-z", "-Thu, 01 Jan 1970 00:00:00 GMT", url).startswith("412 ")  # if older


def test_curl_compares_etags(bench, files, tmp_path):
    url = serve(bench, files)
    tag = tmp_path / "tag"
    assert told(bench, "--etag-save", tag, "--etag-compare", tag, url).startswith("200 1048576 ")
    assert told(bench, "--etag-save", tag, "--etag-compare", tag, url).startswith("304 0 ")
    tag.write_text('"another"\n')
    assert told(bench, "--etag-compare", tag, url).startswith("200 1048576 ")


def test_curl_compressed(bench, files):
    """Whatever coding the answer has, what curl makes of it is the file."""
    url = serve(bench, files)
    assert curl(bench, "--compressed", url) == (files / "1m").read_bytes()


def test_curl_in_parallel(bench, files, tmp_path):
    url = serve(bench, files)
    said = told(bench, "-Z", "--parallel-max", 50, "--no-progress-meter",
                *(word for i in range(200) for word in ("-o", tmp_path / f"{i}", url)), what="%{http_code}\\n")
    assert said.split() == ["200"] * 200
    want = hashlib.sha256((files / "1m").read_bytes()).digest()
    assert all(hashlib.sha256((tmp_path / f"{i}").read_bytes()).digest() == want for i in range(200))


def test_curl_uploads_where_nothing_takes_it(bench, files):
    url = serve(bench, files)
    assert told(bench, "-T", files / "1m", url).startswith("405 ")
    assert told(bench, "-X", "DELETE", url).startswith("405 ")


# ---- load ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", BUSY)
def test_ab_keeps_connections(bench, files, device):
    serve(bench, files, device)
    said = bench.client.run(["ab", "-q", "-k", "-n", 30000, "-c", 100, bench.url("v4", "small.txt")]).stdout
    assert re.search(r"Complete requests: +30000\n", said)
    assert re.search(r"Failed requests: +0\n", said)
    assert re.search(r"Keep-Alive requests: +30000\n", said)
    assert "Non-2xx" not in said
    assert re.search(r"HTML transferred: +3030000 bytes", said)
    assert bench.server.stop()["tcp.accepted"] == 100


@pytest.mark.parametrize("device", BUSY)
def test_ab_opens_a_connection_for_each(bench, files, device):
    serve(bench, files, device)
    said = bench.client.run(["ab", "-q", "-n", 3000, "-c", 20, bench.url("v4", "small.txt")]).stdout
    assert re.search(r"Complete requests: +3000\n", said)
    assert re.search(r"Failed requests: +0\n", said)
    assert "Non-2xx" not in said
    # It opens the next before it knows that it has enough.
    assert 3000 <= bench.server.stop()["tcp.accepted"] <= 3020


@pytest.mark.parametrize("device", BUSY)
def test_wrk_on_devices(bench, files, device):
    serve(bench, files, device)
    said = bench.client.run(["wrk", "-t", 1, "-c", 200, "-d", "2s", bench.url("v4", "small.txt")]).stdout
    assert "Socket errors" not in said
    assert "Non-2xx" not in said
    assert int(re.search(r"(\d+) requests in", said)[1]) > 5000


@pytest.mark.parametrize("depth", [1, 16])
@pytest.mark.parametrize("device", BUSY)
def test_h2load_on_devices(bench, files, device, depth):
    serve(bench, files, device)
    said = bench.client.run(["h2load", "--h1", "-n", 30000, "-c", 100, "-m", depth, "-t", 1,
                             bench.url("v4", "small.txt")]).stdout
    assert re.search(r"30000 total, 30000 started, 30000 done, 30000 succeeded, 0 failed, 0 errored, 0 timeout", said)
    assert re.search(r"30000 2xx, 0 3xx, 0 4xx, 0 5xx", said)
    assert re.search(r"\(3030000\) data", said)


# ---- what is sent comes back ---------------------------------------------------------------------------------

GIB = 1 << 30


def echo(bench, files, tmp_path, device="packet"):
    conf = tmp_path / "echo.yaml"
    conf.write_text(f"http:\n  - port: {HTTP}\n    root: {files}\n    routes:\n      - path: /echo\n"
                    "        handler: echo\n        body: 2GiB\n")
    bench.serve(device, extra=["-c", conf])
    return bench.url("v4", "echo")


def echoed(bench, *options, stdin=None, expect=("-H", "Expect:")):
    """curl's upload: how much came back, and its hash. Nothing of it is kept."""
    with bench.client.start(["curl", "-sS", "--fail", "--max-time", 200, *expect, *options],
                            stdin=stdin or subprocess.DEVNULL, stdout=subprocess.PIPE) as curl:
        if stdin:
            stdin.close()
        digest, size = hashlib.sha256(), 0
        buffer = bytearray(1 << 20)
        while count := curl.stdout.readinto1(buffer):
            digest.update(memoryview(buffer)[:count])
            size += count
        assert curl.wait() == 0, f"curl exit status {curl.returncode} after {size} bytes"
    return size, digest.hexdigest()


def hash_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.mark.deadline(240)
def test_curl_echoes_a_gigabyte_in_chunks(bench, files, gigabyte, tmp_path):
    """A POST from a pipe, so of a length that is not known, streamed through and back."""
    url = echo(bench, files, tmp_path)
    cat = subprocess.Popen(["cat", gigabyte], stdout=subprocess.PIPE)
    # -T from a pipe reads as it sends, where --data-binary would have all of it in curl's memory first.
    size, digest = echoed(bench, "-X", "POST", "-H", "Transfer-Encoding: chunked", "-T", "-", url, stdin=cat.stdout)
    assert cat.wait() == 0
    assert size == gigabyte.stat().st_size >= GIB
    assert digest == hash_of(gigabyte)


@pytest.mark.parametrize("device", BUSY)
def test_curl_echoes_a_file(bench, files, tmp_path, device):
    url = echo(bench, files, tmp_path, device)
    for chunks in [], ["-H", "Transfer-Encoding: chunked"]:
        for upload in ["--data-binary", "@{}"], ["-T", "{}"]:
            for name in ("1", "1m", "64m"):
                options = [*chunks, *(word.format(files / name) for word in upload)]
                assert echoed(bench, *options, url) == ((files / name).stat().st_size, hash_of(files / name))


def test_curl_asks_before_it_uploads(bench, files, tmp_path):
    """It would wait a minute for 100 Continue, and has it at once; or the refusal, and keeps the body to itself."""
    url = echo(bench, files, tmp_path)
    asks = ["--expect100-timeout", 60, "-H", "Expect: 100-continue", "-T", files / "64m"]
    began = time.monotonic()
    assert echoed(bench, *asks, url, expect=[]) == ((files / "64m").stat().st_size, hash_of(files / "64m"))
    assert told(bench, *asks, bench.url("v4", "1m"), what="%{http_code} %{size_upload}") == "413 0"
    assert time.monotonic() - began < 40
