# SPDX-License-Identifier: BSD-3-Clause
"""The harness itself: each check that the other tests lean on fails when it should. Kernel servers stand in."""

import functools
import http.server
import shutil
import signal
import socket
import subprocess
import threading

import pytest

from clients import Expected, WrongBytes, download, echo_upload
from conftest import Server
from lab import Failed, Namespace, sh, stop, wait_until


def test_a_wrong_byte_is_found(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 16)
    right = path.read_bytes()
    expected = Expected(path)
    expected.feed(right)
    expected.done()
    for wrong, at in ((right[:777] + b"\xff" + right[778:], "offset 777"), (right[1:], "offset 0"),
                      (right + b"x", "more than")):
        expected = Expected(path)
        with pytest.raises(WrongBytes, match=at):
            expected.feed(wrong)
    expected = Expected(path)
    expected.feed(right[:-1])
    with pytest.raises(WrongBytes, match="ended after 4095"):
        expected.done()


@pytest.fixture
def kernel_http(bench, tmp_path):
    """Python's own web server, with one altered file and one that ends early."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "good").write_bytes(bytes(range(256)) * 4096)
    shutil.copy(root / "good", tmp_path / "good")
    altered = bytearray((root / "good").read_bytes())
    altered[-1] ^= 1
    (root / "altered").write_bytes(altered)
    (root / "short").write_bytes(altered[:-1])
    ns = bench.namespace("h")
    with ns:
        server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 80), functools.partial(http.server.SimpleHTTPRequestHandler, directory=root))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield ns, tmp_path / "good"
    server.shutdown()
    thread.join()
    server.server_close()


def test_download_notices(kernel_http):
    ns, good = kernel_http
    download(ns, "http://127.0.0.1/good", good)
    with pytest.raises(WrongBytes, match="offset 1048575"):
        download(ns, "http://127.0.0.1/altered", good)
    with pytest.raises(WrongBytes, match="ended after"):
        download(ns, "http://127.0.0.1/short", good)
    with pytest.raises(AssertionError, match="exit status 22"):
        download(ns, "http://127.0.0.1/missing", good)
    with pytest.raises(AssertionError, match="exit status 7"):
        download(ns, "http://127.0.0.1:9/good", good)


def test_echo_upload_notices(files):
    """An echo that garbles one byte late in the stream."""
    listener = socket.create_server(("127.0.0.1", 0))

    def garble():
        s, _ = listener.accept()
        seen = 0
        with s:
            while chunk := s.recv(65536):
                if seen <= 900000 < seen + len(chunk):
                    at = 900000 - seen
                    chunk = chunk[:at] + bytes([chunk[at] ^ 0x80]) + chunk[at + 1:]
                seen += len(chunk)
                try:
                    s.sendall(chunk)
                except OSError:
                    return

    thread = threading.Thread(target=garble, daemon=True)
    thread.start()
    with listener, pytest.raises(WrongBytes, match="offset 900000"):
        echo_upload("127.0.0.1", listener.getsockname()[1], files / "1m", timeout=10)


def test_a_namespace_is_another_network():
    with open("/proc/net/dev") as file:
        outside = file.read()
    ns = Namespace("h")
    try:
        assert ns.links() == ["lo"]
        with ns:
            with open("/proc/thread-self/net/dev") as file:
                assert len(file.read().splitlines()) == 3
        with open("/proc/net/dev") as file:
            assert len(file.read().splitlines()) == len(outside.splitlines())
        sleeper = ns.start(["sleep", "1000"])
        wait_until(lambda: ns.pids() == [sleeper.pid], "the process to be listed")
    finally:
        ns.remove()
    assert sleeper.poll() is not None, "a process outlived its namespace"
    assert ns.name not in sh("ip netns list").stdout


@pytest.mark.parametrize("script, why", [
    ("exit 0", "ended by itself"),
    ("trap 'echo mbufs: 0 lost; exit 3' TERM; while :; do sleep 0.05; done", "exit status 3"),
    ("trap 'echo mbufs: 10 lost; exit 0' TERM; while :; do sleep 0.05; done", "0 lost"),
    ("trap 'exit 0' TERM; while :; do sleep 0.05; done", "0 lost"),
])
def test_a_bad_end_is_noticed(bench, script, why):
    ns = bench.namespace("h")
    server = Server(ns, ["sh", "-c", f"echo up; {script}"], bench.log("fake"))
    wait_until(lambda: "up" in server.output(), "the fake server")
    if script == "exit 0":
        server.process.wait(5)
    with pytest.raises(AssertionError, match=why):
        server.stop()
    stop(server.process, signal.SIGKILL)


def test_a_good_end_is_accepted_and_counters_are_read(bench):
    ns = bench.namespace("h")
    script = "echo up; trap 'echo rx.packets 12; echo \"  drop.runt: 3\"; echo mbufs: 0 lost; exit 0' TERM"
    server = Server(ns, ["sh", "-c", f"{script}; while :; do sleep 0.05; done"], bench.log("fake"))
    wait_until(lambda: "up" in server.output(), "the fake server")
    assert server.stop() == {"rx.packets": 12, "drop.runt": 3}


def test_waiting_ends():
    with pytest.raises(Failed, match="waited 0.2 s in vain for nothing"):
        wait_until(lambda: False, "nothing", timeout=0.2)


@pytest.mark.deadline(1)
def test_a_deadline_ends_a_test():
    with pytest.raises(Failed, match="not done after 1 s"):
        subprocess.run(["sleep", "5"])
