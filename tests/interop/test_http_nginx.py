# SPDX-License-Identifier: BSD-3-Clause
"""
The same bytes to nginx and to Barewire, over the same document root: what they answer, and whether they go on.

http_cases.py makes the requests, http_differences.py lists where the two may differ, and by what right. Each request has
a connection of its own, and behind its answers another one that is good: it is answered where the connection is still in
step, and where bytes were taken for more or for less than they are, that shows.
"""

import asyncio
import contextlib
import fnmatch
import os
import random
import re
import socket

import pytest

from conftest import HTTP, V4
from http_cases import FILES, MODIFIED, PROBE, everything
from http_differences import DIFFERENCES
from lab import wait_until

AT_ONCE = 24
QUIET = 3.0  # seconds without a byte: the server waits for something

NGINX = """
daemon off; master_process off; worker_processes 1; pid {tmp}/nginx.pid; error_log {tmp}/nginx.error; user root;
events {{ worker_connections 512; }}
http {{
	access_log off; default_type text/plain; root {root}; client_body_temp_path {tmp}/b; proxy_temp_path {tmp}/p;
	fastcgi_temp_path {tmp}/f; uwsgi_temp_path {tmp}/u; scgi_temp_path {tmp}/s;
	client_header_buffer_size 4k; large_client_header_buffers 2 4k; client_max_body_size 1m;
	server {{ listen 127.0.0.1:{port}; index index.html; }}
}}
"""


class Answers:
    """Takes the bytes of a connection apart into answers, as their own framing says."""

    def __init__(self, heads):
        self.heads, self.rest, self.list = heads, b"", []

    def count(self):
        return sum(status >= 200 for status, _, _ in self.list)

    def feed(self, more):
        self.rest += more
        while self.take():
            pass

    def take(self):
        head, end, rest = self.rest.partition(b"\r\n\r\n")
        line = re.match(rb"HTTP/1\.1 (\d\d\d) [^\r\n]*(\r\n|$)", head)
        if not end or not line:
            return False
        status = int(line[1])
        fields = {name.lower(): value.strip() for name, value in re.findall(rb"\r\n([^:\r\n]+):([^\r\n]*)", head)}
        size = 0
        if status >= 200 and status not in (204, 304) and self.count() not in self.heads:
            assert b"transfer-encoding" not in fields, "not needed so far"
            size = int(fields[b"content-length"])
        if len(rest) < size:
            return False
        self.list.append((status, fields, rest[:size]))
        self.rest = rest[size:]
        return True


def label(answer, is_head):
    """An answer as it is compared: a status, what its body is, and the numbers that it gives."""
    status, fields, body = answer
    if status == 206:
        match = re.fullmatch(rb"bytes (\d+)-(\d+)/(\d+)", fields.get(b"content-range", b""))
        if not match:
            return "206 multipart"
        first, last, size = map(int, match.groups())
        whole = next(content for content in FILES.values() if len(content) == size)
        assert is_head or body == whole[first:last + 1], "not the range that it says"
        return f"206 {first}-{last}/{size}"
    if status == 416:
        return f"416 {fields.get(b'content-range', b'without the size').decode()}"
    if status == 301:
        return "301 " + re.sub("^http://[^/]+", "", fields[b"location"].decode())
    if status == 200 and is_head:
        return f"200 of {int(fields.get(b'content-length', 0))}"
    if status == 200:
        name = next((name for name, content in FILES.items() if content == body), None)
        return f"200 {name or body[:80]}"
    return str(status)


async def converse(where, case, words, cuts=()):
    """Send the case, then the probe. Returns what came of it as one line of text."""
    raw = case.raw
    for word, value in words.items():
        raw = raw.replace(word, value)
    reader, writer = await asyncio.open_connection(*where)
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    answers, end = Answers(case.heads), None

    async def receive(is_enough):
        nonlocal end
        while end is None and not is_enough():
            try:
                more = await asyncio.wait_for(reader.read(1 << 16), QUIET)
            except (ConnectionResetError, BrokenPipeError):
                more = b""
            except asyncio.TimeoutError:
                return
            if more:
                answers.feed(more)
            else:
                end = "close"

    try:
        with contextlib.suppress(ConnectionError):
            edges = [0, *cuts, len(raw)]
            for at, to in zip(edges, edges[1:]):
                writer.write(raw[at:to])
                await writer.drain()
                if cuts:
                    await asyncio.sleep(0.002)
        await receive(lambda: answers.count() >= case.answers)
        with contextlib.suppress(ConnectionError):
            writer.write(PROBE)
            await writer.drain()
        is_probe = lambda: answers.list and answers.list[-1][2] == FILES["probe"]
        await receive(is_probe)
        if end is None:
            end = "open" if is_probe() else "waits"
        if end == "open":
            answers.list.pop()
    finally:
        writer.close()
    said = []
    for answer in answers.list:
        said.append(label(answer, sum(int(one.split()[0]) >= 200 for one in said) in case.heads))
    if answers.rest:
        said.append("no HTTP" if not answers.rest.startswith(b"HTTP/1.1 ") else "half an answer")
    return ", ".join([*said, end])


async def all_of(where, cases, words, seed=None):
    gate = asyncio.Semaphore(AT_ONCE)
    rng = random.Random(seed)

    async def one(case, cuts):
        async with gate:
            return await converse(where, case, words, cuts)

    def cuts_of(case):
        if seed is None:
            return ()
        return sorted(rng.randrange(1, len(case.raw)) for _ in range(rng.randrange(1, 4)))

    return await asyncio.gather(*(one(case, cuts_of(case)) for case in cases))


async def words_of(where):
    """The validators that this server gives out."""
    reader, writer = await asyncio.open_connection(*where)
    writer.write(b"HEAD /a.txt HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    said = await reader.read()
    writer.close()
    return {b"{etag}": re.search(rb"(?i)\r\netag: (\S+)", said)[1],
            b"{modified}": re.search(rb"(?i)\r\nlast-modified: ([^\r]+)", said)[1]}


@pytest.fixture
def root(tmp_path):
    path = tmp_path / "root"
    for name, content in FILES.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        os.utime(file, (MODIFIED, MODIFIED))
    return path


@pytest.mark.sanitize
def test_nginx_and_barewire_agree(bench, root, tmp_path):
    cases = everything()
    assert len(cases) >= 600
    bench.serve("tap", [f"--http {HTTP}={root}"])
    conf = tmp_path / "nginx.conf"
    conf.write_text(NGINX.format(root=root, tmp=tmp_path, port=HTTP))
    bench.client.start(["nginx", "-c", conf, "-p", tmp_path])
    ours, theirs = (V4, HTTP), ("127.0.0.1", HTTP)

    def listens():
        with bench.client, contextlib.suppress(OSError), socket.create_connection(theirs, 1):
            return True

    wait_until(listens, "nginx")

    async def both():
        our_words, their_words = await words_of(ours), await words_of(theirs)
        return await asyncio.gather(all_of(ours, cases, our_words), all_of(theirs, cases, their_words),
                                    all_of(ours, cases, our_words, seed=9112))

    with bench.client:
        said, nginx_said, cut_said = asyncio.run(both())
    wrong, used = [], set()
    for case, our, their, cut in zip(cases, said, nginx_said, cut_said):
        entries = [entry for entry in DIFFERENCES if any(fnmatch.fnmatchcase(case.name, name) for name in entry.cases)]
        if cut != our:
            wrong.append(f"{case.name!r}: {our!r} in one piece, {cut!r} in several")
        # RFC 9112 6.1: 501 for a coding that is not known, where the framing is not in doubt.
        if case.is_framing and our != ("501, close" if "unknown coding" in case.name else "400, close"):
            wrong.append(f"{case.name!r}: {our!r}, but its framing is ambiguous")
        if our == their and entries:
            wrong.append(f"{case.name!r}: both say {our!r}; the difference is listed, but no longer there")
        elif our != their and not entries:
            wrong.append(f"{case.name!r}: we say {our!r}, nginx {their!r}")
        elif our != their and (len(entries) > 1 or not fnmatch.fnmatchcase(our, entries[0].ours) or
                               not fnmatch.fnmatchcase(their, entries[0].nginx)):
            wrong.append(f"{case.name!r}: we say {our!r}, nginx {their!r}; listed as {entries}")
        used.update(name for entry in entries for name in entry.cases if fnmatch.fnmatchcase(case.name, name))
    wrong += [f"{name!r}: no such case" for entry in DIFFERENCES for name in entry.cases if name not in used]
    differing = sum(our != their for our, their in zip(said, nginx_said))
    print(f"{len(cases)} requests, {differing} differences by {len(DIFFERENCES)} rules")
    if wrong:
        pytest.fail(f"{len(wrong)} wrong:\n" + "\n".join(wrong), pytrace=False)
