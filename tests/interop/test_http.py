# SPDX-License-Identifier: BSD-3-Clause
"""curl fetches files of every size over both families on every device, and each byte is the right one."""

import contextlib
import random
import re
import socket

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


def random_request(rng, tail):
    method = rng.choice(("GET",) * 6 + ("HEAD", "OPTIONS", "POST"))
    target = rng.choice(("/1", "/1", "/small.txt?q=1", "/%31", "/x/../1", "/nope", "/", "http://one/1", "/" + "y" * 300))
    lines = [f"{method} {target} HTTP/1.{rng.random() < 0.9:d}", "Host: one"]
    for field in ("Range: bytes=1-3", "Range: bytes=-4", "Accept-Encoding: gzip", "Connection: keep-alive",
                  'If-None-Match: "0123456789abcdef"', "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT", "Content-Length: 0"):
        if rng.random() < 0.1:
            lines.append(field)
    lines += ["Connection: close"] * (rng.random() < 0.02) + tail
    return "\r\n".join(lines) + "\r\n\r\n"


def answers(requests, rng):
    """To all of them on one connection, in pieces of any size; without the time."""
    data, said = "".join(requests).encode(), b""
    with socket.create_connection((V4, HTTP), timeout=10) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):  # it may have closed
            while data:
                size = rng.choice((rng.randrange(1, 40), rng.randrange(1, 1000), len(data)))
                s.sendall(data[:size])
                data = data[size:]
            s.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while more := s.recv(1 << 16):
                said += more
    return re.sub(rb"Date: [^\r]*\r\n", b"", said)


@pytest.mark.sanitize
def test_a_head_that_came_before_is_answered_as_a_new_one(bench, files):
    """The same requests twice: of the same bytes as earlier ones, and with a field that no earlier one had."""
    bench.serve("tap", [f"--http {HTTP}={files}"])
    with bench.client:
        for n in range(300):
            count = random.Random(n).randrange(1, 40)
            old, new = [random.Random(n % 50) for _ in range(2)]
            known = answers([random_request(old, []) for _ in range(count)], random.Random(n))
            fresh = answers([random_request(new, [f"X-Serial: {n}-{i}"]) for i in range(count)], random.Random(n))
            # What follows a close may have the connection reset, and the end of the answer with it.
            length = min(len(known), len(fresh))
            assert length > 0 and known[:length] == fresh[:length], n
            assert known == fresh or b"Connection: close" in known + fresh, n


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
