# SPDX-License-Identifier: BSD-3-Clause
"""barewire load against servers that we did not write, over a TAP and over veth: every request is theirs to count."""

import collections
import contextlib
import json
import re
import signal
import socket
import subprocess
import threading
import time
import xml.etree.ElementTree

import pytest

from lab import Failed, stop, wait_until

US, SERVER = "198.18.77.2", "198.18.77.1"
WEB, CACHE, ECHO = 8000, 6379, 7000


class Load:
    """What a run said, and the report that it wrote."""

    def __init__(self, place, *arguments, status=0, timeout=60, stop_after=None, poke_after=None):
        self.path = place.tmp_path / "load.json"
        self.path.unlink(missing_ok=True)
        argv = [place.binary, "load", "--dev", place.device, "--addr", f"{US}/24", "--json", self.path, "-q", *arguments]
        process = place.client.start(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if poke_after is not None:
            time.sleep(poke_after)
            process.send_signal(signal.SIGUSR1)
        if stop_after is not None:
            time.sleep(stop_after)
            process.send_signal(signal.SIGINT)
        self.said, _ = process.communicate(timeout=timeout)
        print(self.said)
        assert process.returncode == status, f"exit status {process.returncode}"
        assert "lost" not in self.said and "AddressSanitizer" not in self.said and "runtime error" not in self.said
        self.report = json.loads(self.path.read_text()) if self.path.exists() else None

    def __getitem__(self, key):
        return self.report[key]

    @property
    def errors(self):
        return {kind: count for kind, count in self.report["errors"].items() if count}


class Place:
    def __init__(self, bench, binary, tmp_path):
        self.bench, self.binary, self.tmp_path = bench, binary, tmp_path
        self.client = bench.namespace("c")
        self.device = "tap:bwt0"

    def load(self, *arguments, **options):
        return Load(self, *arguments, **options)

    def nginx(self, root, server="", http="", backlog=511):
        log = self.tmp_path / "access.log"
        conf = self.tmp_path / "nginx.conf"
        conf.write_text(
            f"pid {self.tmp_path}/nginx.pid; error_log {self.tmp_path}/error.log; daemon off; master_process off;"
            "user root; worker_rlimit_nofile 20000; events { worker_connections 8192; } http {"
            f"log_format ours '$status $connection $connection_requests $request_uri'; access_log {log} ours; {http}"
            f"keepalive_requests 1000000; server {{ listen {WEB} backlog={backlog}; root {root}; {server} }} }}")
        process = self.client.start(["nginx", "-c", conf], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        wait_until(lambda: self.client.run(["curl", "-s", "-o", "/dev/null", f"http://127.0.0.1:{WEB}/1"], check=False)
                   .returncode == 0, "nginx")

        def lines():
            return [line for line in log.read_text().splitlines() if line.split()[3] != "/1"]

        return process, lines

    def redis(self, *options):
        process = self.client.start(["redis-server", "--port", CACHE, "--save", "", "--protected-mode", "no", *options],
                                    stdout=subprocess.DEVNULL)
        wait_until(lambda: self.cli("PING").startswith(("PONG", "NOAUTH")), "redis-server")
        return process

    def cli(self, *words):
        return self.client.run(["redis-cli", *words], check=False, quiet=True).stdout.strip()


@pytest.fixture
def place(bench, binary, tmp_path):
    return Place(bench, binary, tmp_path)


def url(path="/index.html", port=WEB):
    return f"http://{SERVER}:{port}{path}"


# ---- HTTP ----------------------------------------------------------------------------------------------------------


def test_counts_are_exact(place, files):
    """A count of requests is that many at the server: on so many connections, pipelined or not."""
    _, lines = place.nginx(files)
    for depth in (1, 16):
        before = len(lines())
        load = place.load("-n", 20000, "-c", 10, "-P", depth, url())
        assert load["responses"] == load["requests"] == 20000 and load.errors == {}
        wait_until(lambda: len(lines()) - before == 20000, "nginx's log")
        mine = lines()[before:]
        assert {line.split()[0] for line in mine} == {"200"}
        assert len({line.split()[1] for line in mine}) == 10
        assert load["opened"] == load["open"] == 10


def test_server_ends_connections_now_and_then(place, files):
    """nginx closes each after a hundred requests: what was pipelined behind is asked anew, and nothing is counted twice."""
    _, lines = place.nginx(files, "keepalive_requests 100;")
    for depth in (1, 8):
        before = len(lines())
        load = place.load("-n", 5000, "-c", 4, "-P", depth, url())
        assert load["responses"] == 5000 and load.errors == {}
        wait_until(lambda: len(lines()) - before == 5000, "nginx's log")
        assert 50 <= load["opened"] <= 60


def test_a_connection_each(place, files):
    _, lines = place.nginx(files)
    load = place.load("-n", 3000, "-c", 20, "--new-connections", url())
    assert load["responses"] == 3000 and load.errors == {} and load["opened"] == 3000
    wait_until(lambda: len(lines()) == 3000, "nginx's log")
    assert len({line.split()[1] for line in lines()}) == 3000
    load = place.load("-d", "2s", "--new-connections", 500, url())
    assert load.errors == {} and 950 <= load["responses"] <= 1001


def test_paths_by_distribution(place, files, tmp_path):
    _, lines = place.nginx(files)
    paths = tmp_path / "paths"
    paths.write_text("".join(f"/small.txt?{i}\n" for i in range(100)))
    place.load("-n", 20000, "--paths", paths, "--distribution", "zipf:1", url())
    wait_until(lambda: len(lines()) == 20000, "nginx's log")
    seen = collections.Counter(line.split()[3] for line in lines())
    # Of 100 with exponent 1, the first has 1 / H(100) = 19.3 %, the second half of it.
    assert 3500 < seen["/small.txt?0"] < 4250 and 1700 < seen["/small.txt?1"] < 2200
    assert len(seen) == 100


def test_bodies_however_they_end(place, files):
    """Lengths, chunks, heads that come apart, bodies until the close, HEAD, and statuses without a body."""
    (files / "big.html").write_text("<!-- " + "x" * 300000 + " -->")
    place.nginx(files, "gzip on; gzip_min_length 1; location /none { return 204; } location /old { return 304; }"
                       "location /ssi { alias " + str(files) + "/; ssi on; }")
    for path, options in [("/64m", ["-n", 6, "-c", 2]), ("/1m", ["-n", 100, "-P", 4]), ("/none", ["-n", 500, "-P", 8]),
                          ("/old", ["-n", 500]), ("/ssi/index.html", ["-n", 500, "-P", 8]),
                          ("/ssi/big.html", ["-n", 50, "-P", 2]),
                          ("/big.html", ["-n", 50, "-H", "Accept-Encoding: gzip"]),
                          ("/1m", ["-n", 500, "-X", "HEAD", "-P", 16])]:
        load = place.load(*options, url(path))
        assert load["responses"] == options[1] and load.errors == {}, path
    assert place.load("-n", 10, url("/64m"))["bytes_in"] > 10 * 64 * (1 << 20)


def raw_server(place, answer):
    """A server whose every answer is `answer(request number)`; None closes."""
    with place.client:
        listener = socket.create_server(("0.0.0.0", WEB))
    count = iter(range(1 << 30))

    def serve(peer):
        with peer, contextlib.suppress(OSError):
            pending = b""
            while data := peer.recv(65536):
                pending += data
                while b"\r\n\r\n" in pending:
                    pending = pending.split(b"\r\n\r\n", 1)[1]
                    for piece in answer(next(count)) or [None]:
                        if piece is None:
                            return
                        peer.sendall(piece)
                        time.sleep(0.002)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                peer = listener.accept()[0]
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=serve, args=(peer,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener


HEAD = b"HTTP/1.1 200 OK\r\n"
ANSWERS = {
    "byte by byte": ([bytes([b]) for b in HEAD + b"Content-Length: 5\r\n\r\nhello"], {}),
    "chunks byte by byte": ([bytes([b]) for b in HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
                             b"3;x=y\r\nabc\r\n0A\r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\n"], {}),
    "100 before it": ([b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"Content-Length: 0\r\n\r\n"], {}),
    "103 before it": ([b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n", HEAD + b"Content-Length: 1\r\n\r\nx"], {}),
    "until the close": ([HEAD + b"\r\nhello", b" world", None], {}),
    "of 1.0": ([b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", None], {}),
    "no HTTP": ([b"SSH-2.0-OpenSSH\r\n\r\n"], {"framing"}),
    "length that is none": ([HEAD + b"Content-Length: +5\r\n\r\nhello"], {"framing"}),
    "two lengths": ([HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"], {"framing"}),
    "chunk without its end": ([HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcXX0\r\n\r\n"], {"framing"}),
    "chunk size that is none": ([HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"], {"framing"}),
    "too much": ([HEAD + b"Content-Length: 5\r\n\r\nhello, and more"], {"framing"}),
    "bare line feeds": ([b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n"], {"framing"}),
    "a head without end": ([HEAD + b"X: " + b"x" * 40000], {"framing"}),
    "cut short": ([HEAD + b"Content-Length: 50\r\n\r\nhello", None], {"closed"}),
    "404": ([b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"], {"status"}),
    "500": ([b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"], {"status"}),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_answers_are_read_strictly(place, case):
    pieces, errors = ANSWERS[case]
    listener = raw_server(place, lambda _: pieces)
    load = place.load("-n", 6, "-c", 2, url("/"), status=1 if errors else 0)
    listener.close()
    assert set(load.errors) == set(errors)
    if not errors:
        assert load["responses"] == 6


def test_answers_of_other_lengths_are_wrong(place):
    listener = raw_server(place, lambda i: [HEAD + b"Content-Length: %d\r\n\r\n" % (i % 2 + 1) + b"x" * (i % 2 + 1)])
    load = place.load("-n", 100, "-c", 1, url("/"), status=1)
    assert load.errors == {"length": 50}
    assert place.load("-n", 100, "-c", 1, "--any-length", url("/")).errors == {}
    listener.close()


def test_request_from_a_file(place, files, tmp_path):
    _, lines = place.nginx(files)
    request = tmp_path / "request"
    request.write_bytes(b"GET /small.txt?raw HTTP/1.1\r\nHost: x\r\nX-Long: " + b"y" * 3000 + b"\r\n\r\n")
    assert place.load("-n", 1000, "-P", 4, "--request", request, url()).errors == {}
    wait_until(lambda: [line.split()[3] for line in lines()] == ["/small.txt?raw"] * 1000, "nginx's log")


def test_several_servers(place, files):
    _, lines = place.nginx(files, "listen 8001; listen 8002;")
    load = place.load("-n", 3000, "-c", 6, *(url(f"/small.txt?{port}", port) for port in (8000, 8001, 8002)))
    assert load.errors == {}
    wait_until(lambda: len(lines()) == 3000, "nginx's log")
    by_path = collections.Counter(line.split()[3] for line in lines())
    assert len(by_path) == 3 and min(by_path.values()) > 600


def test_ipv6(place, files):
    """A server at an IPv6 address; and a range of our own addresses that is routed to us, as nobody asks for neighbours there."""
    _, lines = place.nginx(files, f"listen [::]:{WEB};")
    for sources in ([], ["--from", "fd99::/64"]):
        before = len(lines())
        # The TAP is there only while the generator runs, and so are the kernel's address on it and the route.
        place.client.start(["sh", "-c", "for i in $(seq 100); do ip -6 addr add fd77:ba5e::1/64 dev bwt0 nodad 2>/dev/null;"
                            "ip -6 route replace fd99::/64 via fd77:ba5e::2 2>/dev/null && exit; sleep 0.1; done"])
        load = place.load("--addr", "fd77:ba5e::2/64", "-n", 5000, "-c", 200, *sources, f"http://[fd77:ba5e::1]:{WEB}/small.txt")
        assert load["responses"] == 5000 and load.errors == {} and load["opened"] == 200
        wait_until(lambda: len(lines()) - before == 5000, "nginx's log")


# ---- the open loop -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("poisson", [[], ["--poisson"]], ids=["constant", "poisson"])
def test_rate_is_kept(place, files, poisson):
    place.nginx(files)
    load = place.load("-d", "4s", "-R", 1000, "-c", 20, *poisson, url())
    assert load.errors == {}
    # 4,000 arrivals; of a Poisson process, give or take four of its standard deviations.
    slack = 254 if poisson else 40
    assert abs(load["responses"] - 4000) <= slack


def test_requests_that_are_taken_back_are_due_as_before(place, files):
    """A server that closes each connection after a few requests: at a rate, too, what was pipelined behind is asked anew."""
    # Always: else nginx, when it has not yet read what follows, resets the connection, and its last answers with it.
    _, lines = place.nginx(files, "keepalive_requests 10; lingering_close always;")
    load = place.load("-d", "3s", "-R", 2000, "-c", 4, "-P", 8, url())
    assert load.errors == {} and abs(load["responses"] - 6000) <= 60
    load = place.load("-n", 3000, "-R", 5000, "-c", 4, "-P", 8, url())
    assert load.errors == {} and load["responses"] == 3000


def test_stalls_are_not_hidden(place, files):
    """The server stands still for a second. In the open loop all that was due meanwhile has waited; the closed loop,
    which asked nothing, would show the few that were under way."""
    nginx, _ = place.nginx(files)
    slow = {}
    for rate in ([], ["-R", 1000]):
        def stall():
            time.sleep(2)
            nginx.send_signal(signal.SIGSTOP)
            time.sleep(1)
            nginx.send_signal(signal.SIGCONT)

        thread = threading.Thread(target=stall)
        thread.start()
        load = place.load("-d", "4s", "-c", 10, *rate, url())
        thread.join()
        assert load.errors == {}
        slow[len(rate)] = load
    # A quarter of all arrivals fell into the stall, and half of these waited for half a second at least.
    assert slow[2]["latency_ns"]["p90"] > 400e6
    assert slow[0]["latency_ns"]["p90"] < 100e6 < slow[0]["latency_ns"]["max"]


def test_ramp_warm_up_and_thinking(place, files):
    _, lines = place.nginx(files)
    load = place.load("--ramp", "1s", "--warmup", "1s", "-d", "2s", "-c", 20, "--think", "100ms", url())
    assert load.errors == {} and load["opened"] == 20
    # 20 clients that think for a tenth of a second: 200 a second, only in the measured two.
    assert 360 <= load["responses"] <= 404
    assert len(lines()) > load["responses"] + 150
    # What the warm-up asked is not of a count.
    load = place.load("--warmup", "500ms", "-n", 1000, "-c", 20, "-P", 8, url())
    assert load.errors == {} and load["responses"] == load["requests"] == 1000


# ---- idle connections ----------------------------------------------------------------------------------------------


def test_idle_connections_from_many_addresses(place, files):
    """Each is a connection at the server, from all of the addresses, and answers at the end."""
    # A place for each in the backlog: the end of a handshake that finds it full is lost, and the server's own to repeat,
    # so that some would be connections here seconds before they are there.
    place.client.run(["sysctl", "-qw", "net.core.somaxconn=8192", "net.ipv4.tcp_max_syn_backlog=8192"])
    place.nginx(files, http="keepalive_timeout 300s;", backlog=8192)
    seen = {}

    def look():
        def all_there():
            peers = re.findall(r"\[::ffff:([0-9.]+)\]:\d+ *$|(?<= )([0-9.]+):\d+ *$",
                               place.client.run(["ss", "-Htn", "state", "established", f"sport = :{WEB}"],
                                                quiet=True).stdout, re.M)
            seen["peers"] = collections.Counter(a or b for a, b in peers)
            return sum(seen["peers"].values()) >= 5010

        with contextlib.suppress(Failed):
            wait_until(all_there, "5,010 connections", timeout=20, every=0.3)

    thread = threading.Thread(target=look)
    thread.start()
    place.client.ip("route add 10.77.0.0/24 via 198.18.77.2", check=False)
    # All ask at once: of as many answers the TAP's queue holds a fifth, and what it loses the kernel repeats, ever later.
    load = place.load("--idle", 5000, "-c", 10, "-d", "6s", "--timeout", "60s", "--from", "198.18.77.128/26", url())
    thread.join()
    assert load.errors == {} and load["idle_open"] == load["idle_answered"] == 5000
    assert sum(seen["peers"].values()) == 5010
    assert len(seen["peers"]) == 62 and min(seen["peers"].values()) >= 70


# ---- RESP ----------------------------------------------------------------------------------------------------------


def test_values_are_stored_and_checked(place):
    place.redis()
    resp = f"resp://{SERVER}"
    load = place.load("--keys", 10000, "--fill", "--size", 100, "-P", 16, "-n", 50000, "--distribution", "zipf", resp)
    assert load.errors == {} and load["misses"] == 0 and load["responses"] == 50000
    assert place.cli("DBSIZE") == "10000" and place.cli("STRLEN", "key:000000009999") == "100"
    # Another run knows the values, too, and sees who has changed one.
    load = place.load("--keys", 10000, "--size", 100, "-n", 20000, "--ratio", "1:1", "--seed", 7, resp)
    assert load.errors == {} and load["misses"] == 0
    place.cli("SET", "key:000000000000", "x" * 100)
    place.cli("SET", "key:000000000001", "short")
    place.cli("DEL", "key:000000000002")
    load = place.load("--keys", 4, "--size", 100, "-n", 4000, resp, status=1)
    assert set(load.errors) == {"value", "length"} and load["misses"] > 800
    assert 800 < load.errors["value"] < 1200 and 800 < load.errors["length"] < 1200


def test_large_values(place):
    place.redis()
    resp = f"resp://{SERVER}"
    load = place.load("--keys", 20, "--fill", "--size", "300KiB", "-c", 4, "-P", 4, "-n", 400, "--ratio", "1:3", resp)
    assert load.errors == {} and load["misses"] == 0


def test_password_and_error_replies(place):
    place.redis("--requirepass", "secret words")
    assert place.load("-n", 100, f"resp://:secret words@{SERVER}", status=2).report is None  # no blank in a URL
    place.cli("-a", "secret words", "CONFIG", "SET", "requirepass", "secret")
    load = place.load("-n", 1000, "-c", 10, f"resp://:secret@{SERVER}")
    assert load.errors == {} and load["responses"] == 1000
    load = place.load("-n", 1000, "-c", 10, f"resp://{SERVER}", status=1)
    assert load.errors == {"status": 1000}
    load = place.load("-n", 100, "-c", 10, "--new-connections", f"resp://:secret@{SERVER}")
    assert load.errors == {} and load["opened"] == 100


# ---- echo ----------------------------------------------------------------------------------------------------------


def echo_server(place, wrong=False):
    with place.client:
        stream = socket.create_server(("0.0.0.0", ECHO))
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind(("0.0.0.0", ECHO))

    def serve(peer):
        with peer, contextlib.suppress(OSError):
            while data := peer.recv(65536):
                peer.sendall(data[:-1] + b"?" if wrong else data)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(stream.accept()[0],), daemon=True).start()

    def reflect():
        number = 0
        with contextlib.suppress(OSError):
            while True:
                data, peer = datagrams.recvfrom(65536)
                number += 1
                # Of ten, one is lost and one comes twice.
                for _ in range([0, 2, 1][number % 10 if number % 10 < 2 else 2] if wrong else 1):
                    datagrams.sendto(data, peer)

    for target in (accept, reflect):
        threading.Thread(target=target, daemon=True).start()
    return stream, datagrams


def test_echo(place):
    echo_server(place)
    for size, depth in ((1, 4), (1000, 4), (100000, 2)):
        load = place.load("--size", size, "-P", depth, "-c", 4, "-n", 2000, f"echo://{SERVER}:{ECHO}")
        assert load.errors == {} and load["bytes_in"] == load["bytes_out"] == 2000 * size
        load = place.load("--size", max(size // 10, 8), "-P", depth, "-c", 4, "-n", 2000, f"udp://{SERVER}:{ECHO}")
        assert load.errors == {} and load["responses"] == 2000


def test_largest_datagram(place):
    """What comes back in more fragments than are put together is refused, and the rest arrives."""
    echo_server(place)
    load = place.load("--size", 11832, "-c", 2, "-n", 100, f"udp://{SERVER}:{ECHO}")
    assert load.errors == {} and load["responses"] == 100
    load = place.load("--size", 11833, "-c", 2, "-n", 100, f"udp://{SERVER}:{ECHO}", status=2)
    assert "at most 11832" in load.said and load.report is None


def test_wrong_echoes(place):
    echo_server(place, wrong=True)
    load = place.load("-c", 2, "-n", 100, f"echo://{SERVER}:{ECHO}", status=1)
    assert set(load.errors) <= {"value"} and load.errors["value"] >= 50
    load = place.load("-c", 4, "-n", 1000, "--timeout", "200ms", f"udp://{SERVER}:{ECHO}", status=1)
    assert set(load.errors) == {"timeout"} and 80 <= load.errors["timeout"] <= 120
    assert load["responses"] == 1000 - load.errors["timeout"]


# ---- what goes wrong, and how it is told ---------------------------------------------------------------------------


def test_nobody_there(place):
    place.client.start(["sleep", "60"])
    for target, word in [(url(), "refused"), ("http://198.18.77.99/", "does not answer ARP"),
                         (f"udp://{SERVER}:9", "no connection")]:
        load = place.load("--timeout", "1s", target, status=1)
        assert word in load.said and len(load.said.splitlines()) == 1 and load.report is None


def test_server_that_dies(place, files):
    nginx, _ = place.nginx(files)
    threading.Timer(1.5, nginx.kill).start()
    load = place.load("-d", "4s", "-c", 10, url(), status=1)
    assert load["responses"] > 0 and load["open"] == 0
    assert load.errors["refused"] > 10 and load.errors.get("closed", 0) + load.errors.get("reset", 0) <= load["opened"]


def test_server_that_only_accepts(place):
    """It closes each connection soon: more and more are opened and few stand, which is no progress."""
    with place.client:
        listener = socket.create_server(("0.0.0.0", WEB), backlog=4)
    place.client.run(["sysctl", "-qw", "net.ipv4.tcp_syncookies=0"])

    def accept():
        with contextlib.suppress(OSError):
            while True:
                listener.accept()[0].close()
                time.sleep(0.01)

    threading.Thread(target=accept, daemon=True).start()
    load = place.load("-c", 100, "-d", "1s", "--timeout", "3s", url(), status=1)
    listener.close()
    assert "connections are open; going on with them" in load.said
    assert set(load.errors) & {"closed", "reset"} and load["responses"] == 0


def test_count_that_cannot_be_reached(place, files):
    """The server is gone for good: a count without a duration ends with it."""
    nginx, _ = place.nginx(files)
    threading.Timer(3, nginx.kill).start()
    load = place.load("-n", 100000000, "-c", 4, "--timeout", "1s", url(), status=1)
    assert "before the count is reached" in load.said and load["responses"] > 0


def test_ramp_longer_than_the_time_out(place, files):
    place.nginx(files)
    load = place.load("--ramp", "4s", "--timeout", "1s", "-c", 0, "--idle", 2, "-d", "1s", url())
    assert load.errors == {} and load["idle_open"] == load["idle_answered"] == 2 and "going on" not in load.said


def test_warm_up_is_not_cut_short(place, files):
    """SIGUSR1 is not for us to end by, at any stage."""
    place.nginx(files)
    began = time.monotonic()
    load = place.load("--warmup", "5s", "-d", "1s", "-c", 4, url(), poke_after=3)
    assert load.errors == {} and time.monotonic() - began > 6


def test_stored_before_connections_that_ask_once(place):
    place.redis()
    load = place.load("--keys", 20000, "--fill", "--new-connections", "-c", 8, "-n", 300, f"resp://{SERVER}")
    assert load.errors == {} and load["misses"] == 0 and place.cli("DBSIZE") == "20000"
    calls = dict(re.findall(r"cmdstat_(get|set):calls=([0-9]+)", place.cli("INFO", "commandstats")))
    assert calls == {"get": "300", "set": "20000"}


def test_query_without_a_path(place, files):
    _, lines = place.nginx(files)
    assert place.load("-n", 10, f"http://{SERVER}:{WEB}?a=b#c").errors == {}
    wait_until(lambda: [line.split()[3] for line in lines()] == ["/?a=b"] * 10, "nginx's log")


def test_no_address_of_the_family(place):
    place.client.start(["sleep", "60"])
    load = place.load("udp://[2001:db8::1]", status=2)
    assert "no address of ours can talk to 2001:db8::1" in load.said and load.report is None


def test_interrupted(place, files):
    place.nginx(files)
    load = place.load("-d", "60s", url(), stop_after=4)
    assert load.errors == {} and 1 < load["seconds_measured"] < 4


def test_reports(place, files, tmp_path):
    place.nginx(files)
    load = place.load("-d", "3s", "-c", 4, "--csv", tmp_path / "l.csv", "--plot", tmp_path / "it's.svg", url())
    rows = (tmp_path / "l.csv").read_text().splitlines()
    assert len(rows) == 4 and len(load["seconds"]) == 3
    assert all(len(row.split(",")) == len(rows[0].split(",")) for row in rows)
    by_second = sum(second["requests_per_s"] for second in load["seconds"])
    assert abs(by_second / 3 / load["requests_per_s"] - 1) < 0.05
    order = [load["latency_ns"][p] for p in ("p50", "p90", "p99", "p99_9", "p99_99", "max")]
    assert order == sorted(order) and order[0] > 0
    root = xml.etree.ElementTree.parse(tmp_path / "it's.svg").getroot()
    assert root.tag.endswith("svg") and len(root.findall(".//{*}path")) > 10


REFUSED = {
    "no URL": ([], "URL"),
    "unknown scheme": (["ftp://192.0.2.1/"], "ftp://192.0.2.1/"),
    "no host": (["http:///x"], "http:///x"),
    "bad port": (["http://192.0.2.1:99999/"], "99999"),
    "two kinds": (["http://192.0.2.1/", "resp://192.0.2.1"], "resp://192.0.2.1"),
    "path of a cache": (["resp://192.0.2.1/0/1"], "/0/1"),
    "user of a site": (["http://a:b@192.0.2.1/"], "user"),
    "mistyped flag": (["--conections", "3", "http://192.0.2.1/"], "--connections"),
    "flag of serve": (["--http", "80", "http://192.0.2.1/"], "--http"),
    "flag of another protocol": (["--keys", "3", "http://192.0.2.1/"], "--keys"),
    "no value": (["http://192.0.2.1/", "-c"], "-c"),
    "no number": (["-c", "many", "http://192.0.2.1/"], "many"),
    "too deep": (["-P", "5000", "http://192.0.2.1/"], "5000"),
    "nothing to open": (["-c", "0", "http://192.0.2.1/"], "connections"),
    "count of nothing": (["-c", "0", "--idle", "3", "-n", "5", "http://192.0.2.1/"], "-c"),
    "more workers than connections": (["--workers", "2", "-c", "1", "http://192.0.2.1/"], "--workers"),
    "two reports in one": (["--json", "-", "--csv", "-", "http://192.0.2.1/"], "--csv"),
    "URL that is not ASCII": (["http://192.0.2.1/\u00e4"], "URL"),
    "bad header": (["-H", "nothing", "http://192.0.2.1/"], "nothing"),
    "header that is two": (["-H", "a: b\r\nc: d", "http://192.0.2.1/"], "-H"),
    "bad ratio": (["--ratio", "0:0", "resp://192.0.2.1"], "0:0"),
    "negative ratio": (["--ratio", "1:-3", "resp://192.0.2.1"], "1:-3"),
    "bad distribution": (["--distribution", "normal", "resp://192.0.2.1"], "normal"),
    "poisson without a rate": (["--poisson", "http://192.0.2.1/"], "-R"),
    "thinking at a rate": (["--think", "1s", "-R", "5", "http://192.0.2.1/"], "--think"),
    "missing file": (["--request", "/no/such/file", "http://192.0.2.1/"], "/no/such/file"),
    "range with the server in it": (["--from", "192.0.2.0/24", "http://192.0.2.1/"], "192.0.2.1"),
    "range with host bits": (["--from", "10.1.0.1/16", "http://192.0.2.1/"], "10.1.0.1/16"),
    "range of the other family": (["--from", "fd00::/64", "http://192.0.2.1/"], "family"),
    "datagram too small": (["--size", "4", "udp://192.0.2.1"], "--size"),
    "name that is none": (["http://no-such-host.invalid/"], "no-such-host.invalid"),
}


@pytest.mark.busy
@pytest.mark.parametrize("case", REFUSED)
def test_refused(place, case):
    arguments, word = REFUSED[case]
    load = place.load(*arguments, status=2)
    assert len(load.said.splitlines()) == 1 and load.report is None
    assert word in load.said or word == "-H" and "--header" in load.said
    assert place.client.links() == ["lo"]


# ---- several cores -------------------------------------------------------------------------------------------------


def test_two_workers(place, files):
    """Each has its half of the connections and of the count, and the answers to its own."""
    _, lines = place.nginx(files)
    load = place.load("--workers", 2, "-n", 9999, "-c", 7, "-P", 3, url())
    assert load["workers"] == 2 and load["responses"] == 9999 and load.errors == {} and load["opened"] == 7
    wait_until(lambda: len(lines()) == 9999, "nginx's log")
    echo_server(place)
    load = place.load("--workers", 2, "-n", 4001, "-c", 9, f"udp://{SERVER}:{ECHO}")
    assert load["responses"] == 4001 and load.errors == {}
    # One address between the two.
    load = place.load("--workers", 2, "-n", 1000, "-c", 8, "--from", "198.18.77.200/32", url())
    assert load["responses"] == 1000 and load.errors == {}
    assert place.load("--workers", 2, "-n", 1, "-c", 2, url())["responses"] == 1
