# SPDX-License-Identifier: BSD-3-Clause
"""One port, several sites, as curl sees them: names, routes, headers, pages, listings, compressed copies, a drain."""

import gzip
import json
import os
import re
import signal
import socket

import pytest

from conftest import HTTP, V4
from lab import wait_until

CONF = """
http:
  - port: {port}
    root: {root}/default
    headers: [{{name: X-Site, value: default}}]
    routes:
      - {{path: /healthz, methods: [GET], handler: health}}
      - {{prefix: /api/, methods: [POST, PUT], handler: echo}}
    hosts:
      - names: [a.example]
        root: {root}/a
        listing: true
        headers: [{{name: X-Site, value: a}}, {{name: Cache-Control, value: no-cache}}]
        error_pages: [{{status: 404, path: /missing.html}}]
      - names: ["*.b.example", b.example]
        root: {root}/b
        precompressed: false
        constants: [{{path: /version, type: text/plain, body: b-1}}]
"""
SCRIPT = b"let x = 1;\n" * 1000


@pytest.fixture
def sites(bench, tmp_path):
    root = tmp_path / "sites"
    for site in ("default", "a", "b"):
        (root / site).mkdir(parents=True)
        (root / site / "name.txt").write_text(site)
        (root / site / "app.js").write_bytes(SCRIPT)
        (root / site / "app.js.gz").write_bytes(gzip.compress(SCRIPT))
    (root / "default/index.html").write_text("index")
    (root / "default/dir").mkdir()
    (root / "default/dir/index.html").write_text("index of dir")
    (root / "a/missing.html").write_text("<p>not here</p>")
    (root / "a/sub").mkdir()
    (root / "a/sub/a & b.txt").write_text("12345")
    (root / "a/sub/.hidden").write_text("")
    (root / "a/app.js.br").write_bytes(b"any bytes")
    for path in root.rglob("*"):
        os.utime(path, (1700000000, 1700000000))
    conf = tmp_path / "sites.yaml"
    conf.write_text(CONF.format(port=HTTP, root=root))
    bench.serve("tap", extra=["-c", conf])
    return root


def ask(bench, host, path, *options):
    """Status, fields in lower case, body."""
    said = bench.client.run(["curl", "-sS", "-i", "--max-time", 10, "-H", f"Host: {host}", *options,
                             bench.url("v4", path)], text=False, quiet=True).stdout
    head, _, body = said.partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    return int(line.split()[1]), {name.lower(): value for name, value in (f.split(": ", 1) for f in fields)}, body


@pytest.mark.sanitize
def test_each_name_has_its_site(bench, sites):
    for host, site in [("a.example", "a"), ("A.Example:8080", "a"), ("a.example.", "a"), ("b.example", "b"),
                       ("x.b.example", "b"), ("x.y.b.example", "b"), ("x.a.example", "default"),
                       ("example", "default"), (V4, "default")]:
        assert ask(bench, host, "name.txt")[2].decode() == site, host
    assert ask(bench, "x.b.example", "version")[2] == b"b-1"
    assert ask(bench, "a.example", "version")[0] == 404


@pytest.mark.sanitize
def test_a_site_says_what_it_was_told_to(bench, sites):
    status, fields, body = ask(bench, "a.example", "nowhere")
    assert (status, body, fields["content-type"]) == (404, b"<p>not here</p>", "text/html; charset=utf-8")
    assert (fields["x-site"], fields["cache-control"]) == ("a", "no-cache")
    status, fields, body = ask(bench, V4, "nowhere")
    assert (status, body, fields["x-site"]) == (404, b"404 Not Found\n", "default")
    assert "x-site" not in ask(bench, "b.example", "name.txt")[1]

    status, fields, body = ask(bench, "a.example", "sub/")
    assert (status, fields["content-type"]) == (200, "text/html; charset=utf-8")
    assert b'<a href="./a%20%26%20b.txt">a &amp; b.txt</a></td><td>5</td>' in body
    assert b"hidden" not in body
    assert ask(bench, V4, "dir?x=1")[::2] == (301, b"")
    assert ask(bench, V4, "dir?x=1", "-L")[2].endswith(b"index of dir")  # behind the second head
    assert ask(bench, V4, "dir?x=1")[1]["location"] == "/dir/?x=1"


@pytest.mark.sanitize
def test_compressed_copies(bench, sites):
    plain = ask(bench, "default.example", "app.js")
    assert plain[2] == SCRIPT and plain[1]["vary"] == "Accept-Encoding" and "content-encoding" not in plain[1]
    zipped = ask(bench, "default.example", "app.js", "-H", "Accept-Encoding: gzip, br")  # and there is no .br here
    assert zipped[1]["content-encoding"] == "gzip" and gzip.decompress(zipped[2]) == SCRIPT
    assert zipped[1]["etag"] != plain[1]["etag"] and zipped[1]["content-type"] == plain[1]["content-type"]
    brotli = ask(bench, "a.example", "app.js", "-H", "Accept-Encoding: gzip, br")
    assert (brotli[1]["content-encoding"], brotli[2]) == ("br", b"any bytes")
    # curl makes the file of it itself.
    assert ask(bench, "default.example", "app.js", "--compressed")[2] == SCRIPT
    assert "content-encoding" not in ask(bench, "b.example", "app.js", "--compressed")[1]


@pytest.mark.sanitize
def test_routes_have_methods(bench, sites):
    assert ask(bench, V4, "healthz")[::2] == (200, b"ok\n")
    status, fields, _ = ask(bench, V4, "healthz", "-X", "DELETE")
    assert (status, set(fields["allow"].split(", "))) == (405, {"GET", "HEAD", "OPTIONS"})
    for method in ("POST", "PUT"):
        status, fields, body = ask(bench, V4, "api/x", "-X", method, "-H", "Content-Type: application/json",
                                   "--data-binary", json.dumps({"a": 1}))
        assert (status, fields["content-type"], json.loads(body)) == (200, "application/json", {"a": 1})
    status, fields, _ = ask(bench, V4, "api/x", "-X", "PATCH", "-d", "x")
    assert status == 405 and {"POST", "PUT"} <= set(fields["allow"].split(", "))
    assert ask(bench, V4, "api/x")[0] == 404
    assert ask(bench, "a.example", "healthz")[0] == 404, "routes are a site's own"


@pytest.mark.sanitize
def test_a_drain_is_told_to_who_asks(bench, sites):
    with bench.client:
        s = socket.create_connection((V4, HTTP), timeout=10)
    s.sendall(b"GET /healthz HTTP/1.1\r\n")
    assert ask(bench, V4, "healthz")[0] == 200
    bench.server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: re.search(r"drain", bench.server.output()), "the drain")
    s.sendall(b"Host: h\r\n\r\n")
    said = b""
    while more := s.recv(1000):
        said += more
    assert said.startswith(b"HTTP/1.1 503 ") and said.endswith(b"draining\n")
    assert b"\r\nConnection: close\r\n" in said
    s.close()
    assert bench.server.process.wait(20) == 0
    bench.server.is_checked = True
