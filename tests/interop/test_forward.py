# SPDX-License-Identifier: BSD-3-Clause
"""Connections that Barewire opens: app/examples/forward between the kernel's clients and the kernel's servers."""

import concurrent.futures
import contextlib
import socket
import subprocess
import threading
import time

import pytest

from clients import download, echo_upload
from conftest import BINARY
from lab import stop, wait_until

FORWARD = BINARY.parent / "examples/forward"
FRONT, BACK, PORT = "192.0.2.2", "192.0.2.1", 7778


@contextlib.contextmanager
def forwarding(bench, port, server=BACK):
    """forward on a TAP whose kernel end is the server's address, too."""
    bench.client = bench.namespace("c")
    with open(bench.log("forward"), "wb") as out:
        process = bench.client.start([FORWARD, server, port, "tap:fw0"], stdout=out, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: bench.client.run(["ping", "-c", 1, "-W", 0.3, FRONT], check=False, quiet=True)
                   .returncode == 0, "forward to answer a ping")
        yield
        assert process.poll() is None
    finally:
        status = stop(process)
    assert status == 0


@contextlib.contextmanager
def echoing(bench):
    """The kernel's TCP, echoing; each connection to its end, both directions at once."""
    with bench.client:
        listener = socket.create_server((BACK, 7000))

    def serve(peer):
        with peer:
            while data := peer.recv(65536):
                peer.sendall(data)
            peer.shutdown(socket.SHUT_WR)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def test_files_through_a_forwarder(bench, files, tmp_path):
    """curl to nginx: large files one after the other, and many at once."""
    with forwarding(bench, 8000):
        conf = tmp_path / "nginx.conf"
        conf.write_text(f"pid {tmp_path}/nginx.pid; error_log {tmp_path}/error.log; daemon off; worker_processes 1;"
                        "events {} http { access_log off; sendfile on;"
                        f"server {{ listen {BACK}:8000; root {files}; }} }}")
        nginx = bench.client.start(["nginx", "-c", conf], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        url = f"http://{FRONT}:{PORT}"
        wait_until(lambda: bench.client.run(["curl", "-s", "-o", "/dev/null", f"{url}/1"], check=False)
                   .returncode == 0, "nginx behind the forwarder")
        download(bench.client, f"{url}/64m", files / "64m")
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda _: download(bench.client, f"{url}/1m", files / "1m"), range(64)))
        stop(nginx)


def test_both_directions_at_once(bench, files):
    """What goes in comes back, also behind a half-close, which goes through as one."""
    with forwarding(bench, 7000), echoing(bench):
        with bench.client:
            echo_upload(FRONT, PORT, files / "20m")


def test_redis_through_a_forwarder(bench):
    with forwarding(bench, 6379):
        bench.client.start(["redis-server", "--port", "6379", "--bind", BACK, "--save", "", "--protected-mode", "no"],
                           stdout=subprocess.DEVNULL)
        cli = ["redis-cli", "-h", FRONT, "-p", PORT]
        wait_until(lambda: "PONG" in bench.client.run([*cli, "ping"], check=False).stdout, "redis")
        assert bench.client.run([*cli, "set", "k", "v" * 5000]).stdout.strip() == "OK"
        assert bench.client.run([*cli, "get", "k"]).stdout.strip() == "v" * 5000
        assert bench.client.run(["redis-benchmark", "-h", FRONT, "-p", PORT, "-t", "set,get", "-n", "20000", "-q"])


def test_a_server_that_is_not_there(bench):
    """Nobody listens: the client is reset at once."""
    with forwarding(bench, 9), bench.client, pytest.raises(ConnectionResetError):
        # It may be before connect() has returned.
        with socket.create_connection((FRONT, PORT), timeout=5) as s:
            s.settimeout(3)
            s.recv(1)


def test_a_server_that_does_not_answer(bench):
    """No such host: after five seconds, not three minutes, the client is reset."""
    with forwarding(bench, 9, "192.0.2.9"), bench.client, socket.create_connection((FRONT, PORT), timeout=5) as s:
        s.settimeout(10)
        began = time.monotonic()
        with pytest.raises(ConnectionResetError):
            s.recv(1)
        assert 4 < time.monotonic() - began < 7
