# SPDX-License-Identifier: BSD-3-Clause
"""Where a side is measured: namespaces, a link, and a server on CPU 0 that says what it took of it."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "tests/interop"))

from lab import Failed, Namespace, sh, stop, threads, veth, wait_until  # noqa: E402, F401

BINARY = pathlib.Path(os.environ.get("BAREWIRE", ROOT / "build/app/barewire")).resolve()
TOOLS = ROOT / "build/tests/bench"
SERVER, CLIENT, BAREWIRE_CLIENT = "198.18.77.2", "198.18.77.1", "198.18.77.3"
SERVER_MAC = "02:00:00:00:00:02"
HTTP, RESP, ECHO, DISCARD, MEMCACHED = 8080, 6379, 7, 9, 11211
DOCUMENT, LARGE, UPLOAD = 100, 1 << 20, 60000  # bytes
SERVER_CPU, CLIENT_CPU = 0, 1
KEYS = 1000000
# Barewire's on the kernel's interfaces, and the kernel's own.
WIRE, KERNEL = ("packet", "xdp"), "kernel"


class Wrong(Exception):
    """A round that is no figure."""


class Place:
    """Namespaces and a folder, for one side in one round."""

    def __init__(self, quick=False):
        self.quick = quick
        self.keys = KEYS // 100 if quick else KEYS
        self.stack = contextlib.ExitStack()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="barewire-bench-"))
        self.stack.callback(shutil.rmtree, self.folder)
        self.folder.chmod(0o755)
        (self.folder / "www").mkdir()
        for size in (DOCUMENT, LARGE):
            (self.folder / "www" / str(size)).write_bytes(b"x" * size)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stack.close()

    def namespace(self, role):
        ns = Namespace(role)
        self.stack.callback(ns.remove)
        return ns

    def link(self, device, mtu, offloads):
        """Both ends of what `device` is on. The kernel's end at the client has CLIENT; a Barewire client on that
        interface takes BAREWIRE_CLIENT, which no kernel has."""
        self.device, self.mtu = device, mtu
        self.client = self.namespace("c")
        self.home = self.client if device == "tap" else self.namespace("s")
        if device in (*WIRE, KERNEL):
            veth(self.home, self.client, mtu=mtu, offloads=offloads)
            if offloads:
                for ns, end in ((self.home, "v0"), (self.client, "v1")):
                    ns.run(f"ethtool -K {end} tso on gso on gro on", quiet=True)
            self.client.ip(f"addr add {CLIENT}/24 dev v1")

    @property
    def socket(self):
        return self.folder / "memif.sock"

    def dev(self, role):
        """--dev of a Barewire at that end."""
        if self.device == "memif":
            # A jumbo frame has to fit a buffer of the ring's.
            size = ",bsize=9216" if self.mtu > 1500 else ""
            return f"memif:{self.socket},role={role}{size}"
        if role == "client":
            return "packet:v1"
        return "tap:bwt0" if self.device == "tap" else f"{self.device}:v0"


# ---- who serves: each has begin() and end() around a measurement, and finish() ---------------------------------------


class Barewire:
    """barewire serve, one worker."""

    def __init__(self, place, device, *, mtu=1500, poll="busy", prefix=24, connections=65536, mbufs=None, addr=SERVER,
                 idle_timeout=None):
        place.link(device, mtu, False)
        self.log = place.folder / "serve.log"
        conf = place.folder / "barewire.yaml"
        conf.write_text(
            f"tcp:\n  connections: {connections}\n" + (f"mbufs: {mbufs}\n" if mbufs else "") +
            f"http:\n  - port: {HTTP}\n    root: {place.folder}/www\n    body: 4MiB\n" +
            (f"    idle_timeout: {idle_timeout}\n" if idle_timeout else "") +
            "    routes:\n      - path: /sink\n        handler: health\n"
            f"resp:\n  - port: {RESP}\n    memory: 3GiB\n"
            f"echo:\n  - port: {ECHO}\ndiscard:\n  - port: {DISCARD}\n")
        with open(self.log, "wb") as out:
            self.process = place.home.start(
                [BINARY, "serve", "-c", conf, "--dev", place.dev("server"), "--addr", f"{addr}/{prefix}", "--mtu", mtu,
                 "--cpus", SERVER_CPU, "--poll", poll, "--stats", 0, "--drain", 1,
                 *(["--mac", SERVER_MAC] if device == "memif" else [])], stdout=out, stderr=subprocess.STDOUT)
        # Gigabytes of packet buffers take a while.
        wait_until(lambda: "  services" in self.log.read_text() or self.process.poll() is not None, "the banner",
                   timeout=180)
        if device != "memif":
            wait_until(lambda: place.client.run(["ping", "-c1", "-W1", addr], check=False, quiet=True).returncode == 0 or
                       self.process.poll() is not None, "a ping")
        self.rates()  # the interval that counts begins with the last one that was asked for
        self.has_hugepages = "no hugepages" not in self.log.read_text()

    def rates(self):
        """What was since it was last asked for: a line of rates and one of cycles."""
        before = self.log.stat().st_size
        if self.process.poll() is not None:
            raise Wrong(f"barewire serve has ended:\n{self.log.read_text()[-2000:]}")
        self.process.send_signal(signal.SIGUSR1)

        def said():
            text = self.log.read_bytes()[before:].decode(errors="replace")
            return text if re.search(r"cycles/packet.*\n", text) else None

        return wait_until(said, "the server's line of rates", every=0.01)

    def begin(self):
        self.rates()

    def end(self, rate):
        found = re.search(r"([\d.]+) cycles/request", self.rates())
        return {} if not found else {"cycles": float(found[1])}

    def packets(self):
        """A second that it received since it was last asked."""
        number, prefix = re.search(r"in ([\d.]+) ([kMG]?)pps", self.rates()).groups()
        return float(number) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[prefix]

    def open(self):
        return int(re.search(r"conn/s, (\d+) open", self.rates())[1])

    def memory(self):
        """Bytes resident, hugepages included."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return sum(int(kib) << 10 for kib in re.findall(r"(?:VmRSS|HugetlbPages):\s+(\d+) kB", status))

    def worker_seconds(self):
        tid = threads(self.process.pid)["bw-worker-0"]
        return int(pathlib.Path(f"/proc/{self.process.pid}/task/{tid}/schedstat").read_text().split()[0]) / 1e9

    def finish(self):
        if stop(self.process, timeout=60) != 0 or "0 lost" not in self.log.read_text():
            raise Wrong(f"barewire serve did not end well:\n{self.log.read_text()[-2000:]}")


class Share(threading.Thread):
    """How much of a CPU is not idle while packets come to a namespace: user, system, and what interrupts took."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.over, self.seen = pid, threading.Event(), []

    def look(self):
        links = pathlib.Path(f"/proc/{self.pid}/net/dev").read_text().splitlines()
        packets = next(int(line.split(":")[1].split()[1]) for line in links if line.strip().startswith("v0:"))
        cpus = pathlib.Path("/proc/stat").read_text().splitlines()
        ticks = next([int(word) for word in line.split()[1:9]] for line in cpus if line.startswith(f"cpu{SERVER_CPU} "))
        return packets, sum(ticks), ticks[3] + ticks[4]

    def run(self):
        while not self.over.wait(0.2):
            self.seen.append(self.look())

    def busy(self):
        """Of the intervals with traffic, without the first and the last ones. None: too short to tell."""
        self.over.set()
        self.join()
        steps = [(b[0] - a[0], b[1] - a[1], b[2] - a[2]) for a, b in zip(self.seen, self.seen[1:])]
        most = max((step[0] for step in steps), default=0)
        during = [step for step in steps if step[0] > most / 2][1:-1]
        total = sum(step[1] for step in during)
        return 1 - sum(step[2] for step in during) / total if total else None


class Kernel:
    """A server on the kernel's stack, behind a veth pair."""

    has_hugepages = None

    def __init__(self, place, argv, port, *, mtu=1500, offloads=False, busy_poll=False):
        place.link(KERNEL, mtu, offloads)
        place.home.ip(f"addr add {SERVER}/24 dev v0")
        self.place, self.busy_poll = place, busy_poll
        if busy_poll:
            self.poll_busily()
        self.process = place.home.start(["taskset", "-c", SERVER_CPU, *argv], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.STDOUT)
        wait_until(lambda: f":{port} " in place.home.run(["ss", "-ltn"], quiet=True).stdout, argv[0])

    def poll_busily(self):
        """veth has a NAPI context, which can be polled busily, only where GRO is on. The settings are the machine's."""
        self.place.home.run("ethtool -K v0 gro on", quiet=True)
        for name in ("busy_poll", "busy_read"):
            file = pathlib.Path(f"/proc/sys/net/core/{name}")
            self.place.stack.callback(file.write_text, file.read_text())
            file.write_text("50\n")

    def polled(self):
        """Packets that a busy poll has found."""
        names, values = [line.split()[1:] for line in
                         pathlib.Path(f"/proc/{self.process.pid}/net/netstat").read_text().splitlines()
                         if line.startswith("TcpExt:")]
        return int(dict(zip(names, values))["BusyPollRxPackets"])

    def begin(self):
        self.share = Share(self.process.pid)
        self.share.start()

    def end(self, rate):
        busy = self.share.busy()
        # Of a moment on a machine that others use the kernel may have none to show.
        if self.busy_poll and self.polled() == 0 and not self.place.quick:
            raise Wrong("net.core.busy_poll is set, and no packet was found by a busy poll")
        return {"per_core": rate / busy} if busy else {}

    def finish(self):
        stop(self.process)


def nginx(place, **options):
    conf = place.folder / "nginx.conf"
    conf.write_text(
        f"pid {place.folder}/nginx.pid; error_log {place.folder}/error.log; daemon off; master_process off;"
        "user root; worker_rlimit_nofile 65536; events { worker_connections 16384; multi_accept on; } http {"
        "access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 100000000;"
        "keepalive_timeout 300s; client_max_body_size 0; open_file_cache max=100; open_file_cache_valid 60s;"
        f"server {{ listen {HTTP} backlog=16384; root {place.folder}/www; location = /sink {{ return 200 ok; }} }} }}")
    return Kernel(place, ["nginx", "-c", conf], HTTP, **options)


def redis(place, **options):
    return Kernel(place, ["redis-server", "--port", RESP, "--save", "", "--protected-mode", "no"], RESP, **options)


def memcached(place, **options):
    return Kernel(place, ["memcached", "-u", "root", "-p", MEMCACHED, "-U", 0, "-t", 1, "-m", 4096, "-c", 4096], MEMCACHED,
                  **options)
