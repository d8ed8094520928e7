# SPDX-License-Identifier: BSD-3-Clause
"""The two servers, a wire to each, and one performance of all chosen sequences on both.

ORACLE_SERVER is another build of server.c; ORACLE_FOUND a file that is given all that differs, for whoever edits
differences.py.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import tempfile

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(HERE.parent / "interop")]

from lab import Failed, Namespace, stop, wait_until  # noqa: E402

from kernel import PORTS  # noqa: E402
from peer import Wire, play_all  # noqa: E402

BINARY = pathlib.Path(os.environ.get("ORACLE_SERVER", ROOT / "build/tests/oracle/oracle_server")).resolve()
SERVER, OURS = ("198.18.77.2", "fd77:ba5e::2"), ("198.18.77.100", "fd77:ba5e::64")
KERNEL_END = ("198.18.77.1", "fd77:ba5e::1")  # of Barewire's TAP; not ours, or the kernel would answer for us
ATTEMPTS = 3  # a machine that stalls makes its own differences

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454ca, 2, 0x1000
SO_RCVBUFFORCE = 33


class Server:
    """A process in a namespace, and the wire to it."""

    def __init__(self, stack, name):
        self.ns = Namespace(name[0])
        stack.callback(self.ns.remove)
        self.log = stack.enter_context(tempfile.TemporaryFile("a+b"))

    def start(self, argv):
        self.process = self.ns.start(argv, stdout=self.log, stderr=subprocess.STDOUT)

    def output(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def connect(self, send, receive):
        self.wire = Wire(send, receive, OURS, SERVER)

        def answers():
            if self.process.poll() is not None:
                raise Failed(f"the server ended by itself:\n{self.output()}")
            self.wire.ask()
            self.wire.poll()
            return self.wire.server_mac

        wait_until(answers, "an ARP reply", every=0.1)


def kernel(stack, sysctls=()):
    server = Server(stack, "kernel")
    with server.ns:
        tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        stack.callback(os.close, tap)
        fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", b"oracle0", IFF_TAP | IFF_NO_PI))
    server.ns.ip("link set oracle0 txqueuelen 5000 up")
    server.ns.ip(f"addr add {SERVER[0]}/24 dev oracle0")
    server.ns.ip(f"addr add {SERVER[1]}/64 dev oracle0 nodad")
    # The rate limits are about floods, and these sequences are none; SYN cookies would forget the options.
    settings = {"tcp_invalid_ratelimit": 0, "tcp_challenge_ack_limit": 0x7fffffff, "tcp_syncookies": 0, "tcp_ecn": 2}
    for key, value in ({f"net/ipv4/{name}": value for name, value in settings.items()} | dict(sysctls)).items():
        server.ns.sysctl(key, value)
    server.start([sys.executable, HERE / "kernel.py", *SERVER])
    wait_until(lambda: "ready" in server.output(), "the kernel's server")

    def receive():
        with contextlib.suppress(BlockingIOError):
            return os.read(tap, 65536)

    server.connect(lambda frame: os.write(tap, frame), receive)
    return server


def barewire(stack):
    server = Server(stack, "barewire")
    ends = [f"{address}/{bits}" for end in (SERVER, KERNEL_END) for address, bits in zip(end, (24, 64))]
    server.start([BINARY, "tap:oracle0", *ends])
    wait_until(lambda: server.process.poll() is not None or "oracle0" in server.ns.links(), "Barewire's TAP")
    with server.ns:
        link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(3))
    stack.callback(link.close)
    link.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
    server.ns.ip("link set oracle0 txqueuelen 5000 up")
    link.bind(("oracle0", 0))

    def receive():
        # What we sent ourselves comes back as outgoing.
        while True:
            try:
                frame, address = link.recvfrom(65536)
            except BlockingIOError:
                return None
            if address[2] != socket.PACKET_OUTGOING:
                return frame

    server.connect(link.send, receive)
    return server


class Stage:
    """Plays what is asked of it on both servers, all at once."""

    def __init__(self):
        self.ports = iter(range(20000, 65000))

    def play(self, cases, servers):
        """{case: (the kernel's answers, Barewire's)}; a case is (sequence, is over IPv6)."""
        jobs = [(sequence, server.wire, v6, next(self.ports), PORTS.get(sequence.server, 999))
                for sequence, v6 in cases for server in servers]
        heard = play_all(jobs, [server.wire for server in servers])
        return {case: tuple(heard[i * 2:i * 2 + 2]) for i, case in enumerate(cases)}


def pytest_collection_modifyitems(items):
    if os.geteuid() != 0:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="needs root, for network namespaces"))


def pytest_sessionstart():
    # A killed run must clean up as an interrupted one does.
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated", returncode=143))


def record(found):
    if "ORACLE_FOUND" in os.environ:
        with open(os.environ["ORACLE_FOUND"], "w") as file:
            json.dump({name: lines for name, lines in found.items() if lines}, file, indent=1)


@pytest.fixture(scope="session")
def answers(request):
    """A function from a case to the kernel's and Barewire's answers, after one performance of all chosen cases."""
    from test_oracle import ALL, difference, expected

    if not BINARY.exists():
        pytest.exit(f"{BINARY} is not there: scripts/test --interop builds it", returncode=2)
    chosen = [item.callspec.params["case"] for item in request.session.items
              if getattr(item, "callspec", None) and "case" in item.callspec.params]
    chosen = [ALL[name] for name in chosen]
    found = {}
    with contextlib.ExitStack() as stack:
        servers = [kernel(stack), barewire(stack)]
        stage, left = Stage(), chosen
        for _ in range(ATTEMPTS):
            found.update(stage.play([(case.sequence, case.v6) for case in left], servers))
            left = [case for case in left
                    if difference(*found[case.sequence, case.v6]) != expected(case)]
            if not left:
                break
        record({case.name: difference(*found[case.sequence, case.v6]) for case in chosen})
        yield lambda case: found[case.sequence, case.v6]
        status = stop(servers[1].process)
        output = servers[1].output()
        assert status == 0, f"exit status {status} after SIGTERM:\n{output}"
        assert "ERROR: AddressSanitizer" not in output and "runtime error:" not in output, output
