# SPDX-License-Identifier: BSD-3-Clause
"""The access log beside nginx's own, rotated under load, on a full disk; and the limits that need two workers."""

import contextlib
import json
import os
import re
import socket
import time

import pytest

from conftest import FAMILIES, HTTP, V4, V4_CLIENT
from lab import sh, stop, wait_until

NGINX = 8099
# What is asked of both, each on a connection of its own.
REQUESTS = [
    b"GET /small.txt HTTP/1.1\r\nHost: h\r\nReferer: http://x/?y=1\r\nUser-Agent: Mozilla/5.0 (X11)\r\n\r\n",
    b"HEAD /small.txt HTTP/1.1\r\nHost: h\r\nuser-agent:   spaces  \r\n\r\n",
    b"GET /1?x=y&z HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /1m HTTP/1.1\r\nHost: h\r\nRange: bytes=1000-2999\r\n\r\n",
    b"GET /1m HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /1m HTTP/1.1\r\nHost: h\r\nIf-None-Match: *\r\n\r\n",
    b"GET /small.txt HTTP/1.0\r\n\r\n",
    b"GET /small.txt HTTP/1.1\r\nHost: h\r\nUser-Agent: \"quo\\ted\"\r\nReferer: \xc3\xa9\xff\t|\r\n\r\n",
    b"GET /small.txt?%22%0d%0a\"x\" HTTP/1.1\r\nHost: h\r\nUser-Agent:\r\n\r\n",
]
# These too, but for the bytes: each has an error page of its own.
REFUSED = [
    b"GET /no-such-file HTTP/1.1\r\nHost: h\r\nUser-Agent: u\r\n\r\n",
    b"POST /small.txt HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
    b"GET /1m HTTP/1.1\r\nHost: h\r\nRange: bytes=99999999-\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: u\r\nHost: b\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
    b"GET /late HTTP/1.1\r\nHost: h\r\n",
]
LINE = re.compile(r'(\S+) - - \[(\d\d/[A-Z][a-z][a-z]/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\] '
                  r'"([^"]*)" (\d{3}) (\d+) "([^"]*)" "([^"]*)"\n')


def is_whole(request, said):
    """An answer that says how long it is."""
    head, end, body = said.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
    return bool(end and length) and (request.startswith(b"HEAD ") or len(body) >= int(length[1]))


def ask(bench, address, port, request):
    """Send, and read until all is there, nothing more comes for a moment, or the end."""
    with bench.client, socket.create_connection((address, port), timeout=5) as s:
        s.sendall(request)
        s.settimeout(1.5 if b"late" in request else 0.3)
        said = b""
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            while not is_whole(request, said) and (more := s.recv(1 << 20)):
                said += more
    return said


def parsed(path):
    found = []
    for line in path.read_text(encoding="ascii").splitlines(keepends=True):
        match = LINE.fullmatch(line)
        assert match, line
        found.append(match.groups())
    return found


def configured(tmp_path, files, **keys):
    """A file for -c with one http service."""
    path = tmp_path / "barewire.yaml"
    path.write_text(f"http:\n  - port: {HTTP}\n    root: {files}\n" +
                    "".join(f"    {key}: {value}\n" for key, value in keys.items()))
    return ["-c", path]


def figures(server, name):
    """Of all workers, after the end."""
    return sum(int(n) for n in re.findall(rf"\bhttp\.\d+\.{name}\s+(\d+)", server.output()))


@contextlib.contextmanager
def nginx(bench, files, log, tmp_path):
    conf = tmp_path / "nginx.conf"
    conf.write_text(f"""
        daemon off; master_process off; user root; pid {tmp_path}/nginx.pid; error_log {tmp_path}/nginx.err;
        events {{}}
        http {{
            access_log {log} combined; client_header_timeout 1s; types {{}}
            client_body_temp_path {tmp_path}/n1; proxy_temp_path {tmp_path}/n2; fastcgi_temp_path {tmp_path}/n3;
            uwsgi_temp_path {tmp_path}/n4; scgi_temp_path {tmp_path}/n5;
            server {{ listen {V4_CLIENT}:{NGINX}; root {files}; }}
        }}""")
    process = bench.client.start(["nginx", "-e", f"{tmp_path}/nginx.err", "-c", conf])
    try:
        wait_until(lambda: bench.client.run(["curl", "-s", "-o", "/dev/null", f"http://{V4_CLIENT}:{NGINX}/up"],
                                            check=False, quiet=True).returncode == 0, "nginx")
        yield
    finally:
        stop(process)


def test_lines_are_those_of_nginx(bench, files, tmp_path):
    ours, theirs = tmp_path / "access.log", tmp_path / "nginx.log"
    bench.serve("tap", extra=configured(tmp_path, files, access_log=ours, header_timeout="1s"))
    with nginx(bench, files, theirs, tmp_path):
        for request in REQUESTS + REFUSED:
            ask(bench, V4, HTTP, request)
            ask(bench, V4_CLIENT, NGINX, request)
    bench.server.stop()
    ours, theirs = parsed(ours), parsed(theirs)[1:]
    assert len(ours) == len(theirs) == len(REQUESTS + REFUSED)
    for n, (we, they) in enumerate(zip(ours, theirs)):
        print(*we, "|", *they)
        assert we[0] == V4_CLIENT
        if n < len(REQUESTS):
            assert we[2:] == they[2:]
        else:
            assert we[2:4] + we[5:] == they[2:4] + they[5:]


def test_json_lines_are_json(bench, files, tmp_path):
    log = tmp_path / "access.json"
    bench.serve("tap", extra=configured(tmp_path, files, access_log=log, access_log_format="json"))
    for address in FAMILIES.values():
        for request in REQUESTS[:-1] + [b"\x16\x03\x01\xff\r\n\r\n"]:
            ask(bench, address, HTTP, request)
    bench.server.stop()
    lines = [json.loads(line) for line in log.read_bytes().decode("utf-8").splitlines()]
    assert len(lines) == 2 * len(REQUESTS)
    keys = ["time", "remote", "method", "target", "protocol", "host", "status", "bytes", "duration", "referer", "agent"]
    for line, request in zip(lines, REQUESTS):
        if list(line) != keys:
            assert list(line) == keys[:5] + ["request"] + keys[5:] and line["request"] == "\x16\x03\x01\xff"
            continue
        method, target, protocol = request.split(b"\r\n")[0].decode().split(" ")
        assert [line["method"], line["target"], line["protocol"]] == [method, target, protocol]
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
        assert line["host"] == ("h" if b"Host" in request else None)
    assert lines[8]["agent"] == '"quo\\ted"' and lines[8]["referer"] == "\u00e9\u00ff\t|"
    assert lines[4]["status"] == 206 and lines[4]["bytes"] == 2000
    assert lines[0]["remote"] == V4_CLIENT and lines[-1]["remote"] != V4_CLIENT


def test_rotation_under_load_loses_and_tears_no_line(bench, files, tmp_path):
    log = tmp_path / "access.log"
    bench.serve("tap", extra=[*configured(tmp_path, files, access_log=log), "--workers", 2])
    load = bench.client.start(["wrk", "-t", 1, "-c", 64, "-d", "5s", bench.url("v4", "small.txt")])
    for n in range(3):
        time.sleep(1.4)
        os.rename(log, tmp_path / f"access.log.{n}")
        wait_until(log.exists, "the next file")
    load.wait(20)
    bench.server.stop()
    lines = 0
    for path in tmp_path.glob("access.log*"):
        with open(path, encoding="ascii") as file:
            for line in file:
                assert LINE.fullmatch(line), line
                lines += 1
    requests, dropped = figures(bench.server, "requests"), figures(bench.server, "log_dropped")
    print(f"{requests} requests, {lines} lines, {dropped} dropped")
    assert requests > 5000
    assert lines + dropped == requests
    assert lines == figures(bench.server, "log_entries")
    assert dropped < requests / 100


def test_a_full_disk_costs_only_the_log(bench, files, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    sh(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk])
    try:
        log = disk / "access.log"
        bench.serve("tap", extra=configured(tmp_path, files, access_log=log, access_log_buffer="64KiB"))
        url = bench.url("v4", "small.txt")
        said = bench.client.run(["wrk", "-t", 1, "-c", 16, "-d", "3s", url]).stdout
        assert "Socket errors" not in said and "Non-2xx" not in said
        assert bench.server.output().count("No space left on device") == 1, "one warning a minute"
        os.truncate(log, 0)
        time.sleep(1.5)
        bench.client.run(["curl", "-sS", "-o", "/dev/null", url + "?afterwards"])
        bench.server.stop()
        # What was begun when it was full is whole, and what came afterwards is there.
        lines = parsed(log)
        assert lines[-1][2] == "GET /small.txt?afterwards HTTP/1.1"
        assert figures(bench.server, "log_dropped") > 0 and figures(bench.server, "log_write_errors") > 0
    finally:
        if bench.server is not None and not bench.server.is_checked:
            bench.server.stop()
        sh(["umount", disk])


def test_a_pipe_and_standard_output(bench, files, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    bench.serve("tap", extra=configured(tmp_path, files, access_log=pipe))
    url = bench.url("v4", "small.txt")
    # Nobody reads: it fills, and that is all.
    said = bench.client.run(["wrk", "-t", 1, "-c", 16, "-d", "2s", url]).stdout
    assert "Socket errors" not in said and "Non-2xx" not in said
    with open(pipe, encoding="ascii") as reader:
        for _ in range(1000):
            assert LINE.fullmatch(reader.readline())
    bench.server.stop()
    bench.close()
    bench.namespaces.clear()
    bench.serve("tap", extra=configured(tmp_path, files, access_log="'-'"))
    bench.client.run(["curl", "-sS", "-o", "/dev/null", bench.url("v4", "1")])
    bench.server.stop()
    assert LINE.search(bench.server.output())


def test_a_log_that_cannot_be_opened_is_one_line(bench, files, tmp_path):
    path = tmp_path / "nowhere" / "access.log"
    bench.serve("tap", extra=configured(tmp_path, files, access_log=path), wait=False)
    assert bench.server.process.wait(20) == 2
    bench.server.is_checked = True
    assert re.findall(r"error: .*", bench.server.output()) == [
        f"error: http: access_log {path}: No such file or directory; "
        "give a file that can be written, or - for standard output"]


@pytest.mark.parametrize("family", FAMILIES)
def test_an_address_has_so_many_connections_on_two_workers(bench, files, tmp_path, family):
    log = tmp_path / "access.log"
    bench.serve("tap", extra=[*configured(tmp_path, files, connections_per_address=10, access_log=log),
                              "--workers", 2])
    address = FAMILIES[family]
    get = b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\n"

    def open_some(count):
        with bench.client:
            return [socket.create_connection((address, HTTP), timeout=5) for _ in range(count)]

    def status(s):
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            s.sendall(get)
        return s.recv(1 << 16)[9:12].decode()

    for _ in range(3):
        kept = open_some(10)
        assert [status(s) for s in kept] == ["200"] * 10
        refused = open_some(10)
        heads = [s.recv(1 << 16) for s in refused]
        assert all(head.startswith(b"HTTP/1.1 429 ") and b"\r\nConnection: close\r\n" in head and
                   b"\r\nRetry-After: " in head for head in heads)
        assert [s.recv(100) for s in refused] == [b""] * 10
        assert [status(s) for s in kept] == ["200"] * 10
        for s in kept + refused:
            s.close()

        def again():
            s, = open_some(1)
            with s:
                return status(s) == "200"

        wait_until(again, "the places that they leave")
        time.sleep(0.3)
    bench.server.stop()
    assert figures(bench.server, "address_refused") >= 30
    assert log.read_text().count('"-" 429 22 "-" "-"\n') == figures(bench.server, "address_refused")


def test_slow_bodies_are_ended_and_steady_ones_are_not(bench, files, tmp_path):
    bench.serve("tap", extra=configured(tmp_path, files, body_timeout="2s", body_rate="100", body="1MiB"))
    head = b"GET /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 2000\r\n\r\n"
    with bench.client:
        slow, steady, silent = (socket.create_connection((V4, HTTP), timeout=10) for _ in range(3))
    for s in (slow, steady, silent):
        s.sendall(head)
    ended, began = {}, time.monotonic()
    sent = 0
    while time.monotonic() - began < 8:
        if slow not in ended:
            slow.sendall(b"x" * 10)
        if sent < 2000:
            steady.sendall(b"x" * 40)
            sent += 40
        time.sleep(0.15)
        for s in (slow, silent):
            s.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                if s not in ended and s.recv(1000).startswith(b"HTTP/1.1 408 "):
                    ended[s] = time.monotonic() - began
            s.setblocking(True)
    assert 1.5 < ended[silent] < 4
    assert ended[silent] < ended[slow] < 8  # at two thirds of the rate, two seconds behind after six
    assert steady.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_requests_of_a_connection_are_bounded(bench, files, tmp_path):
    bench.serve("tap", extra=configured(tmp_path, files, requests_per_connection=10))
    url = bench.url("v4", "1")
    done = bench.client.run(["curl", "-sS", "-w", "%{http_code} %{num_connects}\\n",
                             *(word for _ in range(35) for word in ("-o", "/dev/null", url))]).stdout.split("\n")[:-1]
    assert [line.split()[0] for line in done] == ["200"] * 35
    assert [n for n, line in enumerate(done) if line.split()[1] == "1"] == [0, 10, 20, 30]
