# SPDX-License-Identifier: BSD-3-Clause
"""curl fetches files of every size over both families on every device, and each byte is the right one."""

import re

import pytest

from clients import download
from conftest import DEVICES, FAMILIES, HTTP, V4, V6

# A client that looks for an answer when all of its body is out.
READS_LAST = """
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
body = open(sys.argv[3], "rb").read()
s.sendall(b"POST / HTTP/1.1\\r\\nHost: h\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body))
s.sendall(body)
print(s.recv(1000).decode("latin-1"))
"""


@pytest.mark.sanitize
@pytest.mark.parametrize("device", DEVICES)
def test_small_and_medium_files(bench, files, device):
    bench.serve(device, [f"--http {HTTP}={files}"])
    for family in FAMILIES:
        for name in ("1", "1m", "20m"):
            download(bench.client, bench.url(family, name), files / name)


@pytest.mark.deadline(240)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("device", DEVICES)
def test_a_gigabyte(bench, files, gigabyte, device, family):
    bench.serve(device, [f"--http {HTTP}={files}"])
    download(bench.client, bench.url(family, "1g"), gigabyte, timeout=200)


def test_a_range_of_a_file(bench, files):
    bench.serve("tap", [f"--http {HTTP}={files}"])
    part = bench.client.run(["curl", "-sS", "--fail", "-r", "1000-2999", bench.url("v4", "1m")], text=False)
    assert part.stdout == (files / "1m").read_bytes()[1000:3000]


def test_head_and_not_modified(bench, files):
    bench.serve("tap", [f"--http {HTTP}={files}"])
    url = bench.url("v4", "1m")
    head = bench.client.run(["curl", "-sS", "--fail", "-I", url]).stdout
    assert re.search(r"(?im)^content-length: 1048576\s*$", head)
    etag = re.search(r"(?im)^etag: (\S+)\s*$", head)
    assert etag, "no ETag"
    again = bench.client.run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{size_download}",
                              "-H", f"If-None-Match: {etag[1]}", url])
    assert again.stdout == "304 0"


def test_many_requests_on_one_connection(bench, files):
    bench.serve("tap", [f"--http {HTTP}={files}"])
    urls = [bench.url("v4", "small.txt")] * 50 + [bench.url("v4", "no-such-file")] + [bench.url("v4", "1")] * 49
    done = bench.client.run(["curl", "-sS", "-w", "%{http_code} %{num_connects}\\n",
                             *(word for url in urls for word in ("-o", "/dev/null", url))])
    lines = done.stdout.split("\n")[:-1]
    assert [line.split()[0] for line in lines] == ["200"] * 50 + ["404"] + ["200"] * 49
    assert sum(int(line.split()[1]) for line in lines) == 1, "the connection was not kept"


@pytest.mark.parametrize("family", FAMILIES)
def test_wrk(bench, files, family):
    bench.serve("tap", [f"--http {HTTP}={files}"])
    said = bench.client.run(["wrk", "-t", 1, "-c", 256, "-d", "4s", bench.url(family, "small.txt")]).stdout
    assert "Socket errors" not in said
    assert "Non-2xx" not in said
    assert int(re.search(r"(\d+) requests in", said)[1]) > 5000


# Over IPv4 only: to an IPv6 literal, Debian's h2load sends `Host: ::1:8080` without the brackets, which RFC 9112
# section 3.2 has a server refuse with 400, and Barewire does.
def test_h2load_in_http1(bench, files):
    bench.serve("packet", [f"--http {HTTP}={files}"])
    said = bench.client.run(["h2load", "--h1", "-n", 20000, "-c", 64, "-t", 1, bench.url("v4", "small.txt")]).stdout
    assert re.search(r"20000 total, 20000 started, 20000 done, 20000 succeeded, 0 failed, 0 errored, 0 timeout", said)
    assert re.search(r"20000 2xx, 0 3xx, 0 4xx, 0 5xx", said)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("how", ["by length", "in chunks", "reads last"])
def test_who_sends_too_large_a_body_sees_the_answer(bench, files, family, how):
    """The body is on its way when it is refused: an early RST would take the answer back (RFC 9112 section 9.6)."""
    bench.serve("packet", [f"--http {HTTP}={files}"])
    for _ in range(10):
        if how == "reads last":
            said = bench.client.run(["/usr/bin/python3", "-c", READS_LAST,
                                     V4 if family == "v4" else V6, HTTP, files / "20m"])
            assert said.stdout.startswith("HTTP/1.1 413 ")
            continue
        chunked = ["-H", "Transfer-Encoding: chunked"] if how == "in chunks" else []
        said = bench.client.run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Expect:", *chunked,
                                 "--data-binary", f"@{files / '20m'}", bench.url(family, "small.txt")])
        assert said.stdout == "413"
