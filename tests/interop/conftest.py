# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures: the machine's fitness, the document root, and a bench: Barewire on a device with a client beside it."""

import collections
import os
import pathlib
import random
import re
import shutil
import socket
import subprocess
import tempfile

import pytest

from bridge import Bridge
from lab import Failed, Namespace, sh, stop, veth, wait_until
from patience import deadline, pytest_sessionstart  # noqa: F401

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BINARY = pathlib.Path(os.environ.get("BAREWIRE", ROOT / "build/app/barewire")).resolve()
IMPAIR = BINARY.parent.parent / "tests/tools/impair"

V4, V4_CLIENT = "198.18.77.2", "198.18.77.1"
V6, V6_CLIENT = "fd77:ba5e::2", "fd77:ba5e::1"
FAMILIES = {"v4": V4, "v6": V6}
DEVICES = ("tap", "packet", "xdp", "memif")

HTTP, RESP, ECHO = 8080, 6379, 7
MIB = 1 << 20


def is_sanitized():
    return "asan" in str(BINARY)


# ---- pytest's hooks ------------------------------------------------------------------------------------------


def pytest_collection_modifyitems(items):
    if os.geteuid() != 0:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="needs root, for network namespaces"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Whatever the processes of a failed test have said belongs to its report."""
    report = (yield).get_result()
    if report.failed:
        for title, path in getattr(item, "bw_logs", []):
            if path.exists():
                text = path.read_text(errors="replace")
                report.sections.append((f"{title} ({call.when})", text[-12000:]))


# ---- what the whole session shares ---------------------------------------------------------------------------


@pytest.fixture(scope="session")
def binary():
    if not BINARY.exists():
        pytest.exit(f"{BINARY} is not there: scripts/test --interop builds it", returncode=2)
    return BINARY


@pytest.fixture(scope="session")
def files():
    """The document root: name to path by `files / name`. Random from a seed: a byte in the wrong place shows."""
    root = pathlib.Path(tempfile.mkdtemp(prefix="barewire-www-"))
    root.chmod(0o755)
    rng = random.Random(20260)
    try:
        (root / "1").write_bytes(b"!")
        for name, size in (("1m", MIB), ("3m", 3 * MIB), ("20m", 20 * MIB), ("64m", 64 * MIB)):
            (root / name).write_bytes(rng.randbytes(size))
        (root / "index.html").write_text("<!doctype html><title>barewire</title><p>hello\n")
        (root / "small.txt").write_text("x" * 100 + "\n")
        yield root
    finally:
        shutil.rmtree(root)


@pytest.fixture(scope="session")
def gigabyte(files):
    """1 GiB, and not a multiple of anything that a bug would like."""
    path = files / "1g"
    rng = random.Random(1 << 30)
    with open(path, "wb") as file:
        for _ in range(63):
            file.write(rng.randbytes(16 * MIB))
        file.write(rng.randbytes(16 * MIB + 12345))
    return path


@pytest.fixture(scope="session")
def bpf():
    """Compile one of our tc programs; returns name to object path."""
    built = pathlib.Path(tempfile.mkdtemp(prefix="barewire-bpf-"))
    include = f"/usr/include/{os.uname().machine}-linux-gnu"

    def compile_once(name, *defines):
        out = built / (name + "".join(defines) + ".o")
        if not out.exists():
            sh(["clang", "-O2", "-g", "-Wall", "-Werror", "-target", "bpf", f"-I{include}", *defines,
                "-c", HERE / f"bpf/{name}.bpf.c", "-o", out])
        return out

    yield compile_once
    shutil.rmtree(built)


# ---- a server ------------------------------------------------------------------------------------------------


class Server:
    """One `barewire serve`. stop() is part of every test: it asserts a clean end."""

    def __init__(self, ns, argv, log):
        self.ns, self.log = ns, log
        with open(log, "wb") as out:
            self.process = ns.start(argv, stdout=out, stderr=subprocess.STDOUT)
        self.pid = self.process.pid
        self.is_checked = False

    def output(self):
        return self.log.read_text(errors="replace")

    def counters(self):
        """The final counters: the last value given for every name."""
        found = re.findall(r"\b([a-z]+\.[a-z0-9_]+)[ \t=:]+(\d+)\b", self.output())
        return collections.Counter({name: int(value) for name, value in found})

    def assert_runs(self):
        status = self.process.poll()
        if status is not None:
            self.is_checked = True  # said once is enough
            raise Failed(f"barewire ended by itself, status {status}")

    def stop(self, timeout=20):
        """SIGTERM, then: status 0, every mbuf accounted for, nothing left in the namespace."""
        self.is_checked = True
        self.assert_runs()
        status = stop(self.process, timeout=timeout)
        output = self.output()
        assert status == 0, f"exit status {status} after SIGTERM"
        assert re.search(r"\b0 lost\b", output), "no '0 lost' in the mbuf balance"
        assert "ERROR: AddressSanitizer" not in output and "runtime error:" not in output
        return self.counters()


class Bench:
    """Barewire on a device, and a client's namespace from which it is reached at V4 and V6."""

    def __init__(self, item, binary, tmp_path):
        self.item, self.binary, self.tmp_path = item, binary, tmp_path
        self.namespaces, self.servers = [], []
        self.server = self.client = self.iface = self.device = None
        item.bw_logs = []

    def namespace(self, role):
        ns = Namespace(role)
        self.namespaces.append(ns)
        return ns

    def log(self, title):
        path = self.tmp_path / f"{title}.log"
        self.item.bw_logs.append((title, path))
        return path

    def serve(self, device, services=(), *, extra=(), mtu=1500, offloads=False, wait=True, addrs=True, bad_link=False,
              queues=1):
        """Make the device's surroundings and start `barewire serve`; returns when it answers a ping. With a `bad_link`,
        self.link is what there is between it and the client: good until it is started again with other options."""
        self.device = device
        self.client = self.namespace("c")
        tagged = [word for option in services for word in option.split(" ", 1)]
        extra = [str(word) for word in extra]
        if device == "tap":
            self.home, self.iface = self.client, "bwt0"
            spec = f"tap:{self.iface}"
            if bad_link:
                self.home, self.iface = self.namespace("m"), "v1"
                self.link = Bridge(IMPAIR, self.home, self.client, None, far_name="bwt0")
                self.address()
        elif device == "memif":
            self.home, self.iface = self.namespace("s"), "bwm0"
            self.socket = self.tmp_path / "memif.sock"
            spec = f"memif:{self.socket},role=server,queues={queues}"
        else:
            self.home, self.iface = self.namespace("s"), "v1"
            if bad_link:
                self.link = Bridge(IMPAIR, self.namespace("m"), self.client, self.home)
            else:
                veth(self.home, self.client, mtu=mtu, offloads=offloads, queues=queues)
            self.address()
            spec = f"{device}:v0"
        if addrs:
            has_v6 = mtu >= 1280  # RFC 8200 section 5
            extra = ["--addr", f"{V4}/24", *(["--addr", f"{V6}/64"] if has_v6 else []), *extra]
        self.server = Server(self.home, [self.binary, "serve", "--dev", spec, *tagged, *extra],
                             self.log(f"barewire-{len(self.servers)}"))
        self.servers.append(self.server)
        if device == "memif":
            self.bridge(mtu, queues=queues)
        if bad_link:
            if device == "tap":
                self.disown("bwt0", [V4_CLIENT, V6_CLIENT] if addrs and mtu >= 1280 else [V4_CLIENT] if addrs else [])
            self.link.start("")
        if wait:
            self.ready()
        return self.server

    def disown(self, tap, addrs):
        """A TAP's other end has the client's addresses. Where the client is somebody else, both would answer for them, and
        each reset what the other has begun."""
        def shown():
            said = self.home.run(["ip", "-o", "addr", "show", "dev", tap], check=False, quiet=True)
            return said.returncode == 0 and all(f" {addr}/" in said.stdout for addr in addrs)

        wait_until(shown, "the TAP", timeout=20)
        self.home.ip(f"addr flush dev {tap}")

    def address(self):
        """The client's end of the link."""
        self.client.ip(f"link set {self.iface} up")
        self.client.ip(f"addr add {V4_CLIENT}/24 dev {self.iface}")
        # Refused below an MTU of 1280 (RFC 8200 section 5), where no test uses it.
        self.client.ip(f"addr add {V6_CLIENT}/64 dev {self.iface} nodad", check=False)

    def bridge(self, mtu, role="client", queues=1, peer=None):
        """memif, or the device `peer`, on one side, a TAP in the client's namespace on the other: the kernel's programs reach
        what has no other kernel interface."""
        if peer is None:
            peer = f"net_memif0,role={role},socket={self.socket},socket-abstract=no"
            if role == "client":
                wait_until(self.socket.exists, "the memif socket")
        with open(self.log("testpmd"), "wb") as out:
            # It runs until its stdin ends, on the CPU that Barewire's workers take last. The TAP's MTU can only be
            # had by command.
            self.testpmd = self.client.start(
                ["dpdk-testpmd", "--no-pci", "--no-huge", "--no-shconf", "--no-telemetry", "-m", "256",
                 "--lcores=0@0,1@0",
                 f"--file-prefix={self.client.name}",
                 f"--vdev={peer}",
                 f"--vdev=net_tap0,iface={self.iface}", "--", "-i", "--forward-mode=io", "--total-num-mbufs=16384",
                 f"--rxq={queues}", f"--txq={queues}"],
                stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT)
        self.testpmd.stdin.write(f"port config mtu 1 {mtu}\nstart\n".encode())
        self.testpmd.stdin.flush()
        wait_until(lambda: self.iface in self.client.links(), "testpmd's TAP", every=0.2)
        self.client.run(f"ethtool -K {self.iface} tso off gso off gro off", check=False)
        self.address()

    def ready(self):
        """A ping gets through: the device, the bridge if there is one, and a worker that turns."""
        def answers():
            self.server.assert_runs()
            answered = self.client.run(["ping", "-c", 1, "-W", 0.3, V4], check=False, quiet=True).returncode == 0
            return answered and self.server.output() != ""  # its workers turn before it has said so

        wait_until(answers, f"{V4} to answer a ping", timeout=20)

    def url(self, family, name, port=HTTP):
        host = V4 if family == "v4" else f"[{V6}]"
        return f"http://{host}:{port}/{name}"

    def close(self):
        for ns in reversed(self.namespaces):
            ns.remove()
            # What testpmd leaves when it is killed.
            shutil.rmtree(f"/run/dpdk/{ns.name}", ignore_errors=True)


@pytest.fixture
def bench(request, binary, tmp_path):
    made = Bench(request.node, binary, tmp_path)
    try:
        yield made
        # Whatever the test was about, its servers end well, unless it has ended them itself.
        for server in made.servers:
            if not server.is_checked:
                server.stop()
    finally:
        made.close()
