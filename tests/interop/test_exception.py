# SPDX-License-Identifier: BSD-3-Clause
"""A port that DPDK has, one address, two stacks: `--exception bw0`.

The server's namespace has no interface but the TAP that Barewire makes there. Its port is a memif, at the other end of
which testpmd forwards to the client's namespace: so whatever the kernel of the server's namespace sends or gets has gone
through Barewire. An nginx and an echo server of that kernel are the ones that `ssh` would be.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time

import pytest

from clients import download, udp_socket
from conftest import ECHO, FAMILIES, HERE, HTTP, V4, V4_CLIENT, V6, Server
from lab import Failed, link, stop, wait_until
from test_share import together
from wire import TOOLS

KERNEL_HTTP, KERNEL_ECHO = 80, 7000
TAP = "bw0"

ECHO_SERVER = f"""
import socket, socketserver, threading
class Stream(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(1 << 16):
            self.request.sendall(data)
class Datagram(socketserver.BaseRequestHandler):
    def handle(self):
        self.request[1].sendto(self.request[0], self.client_address)
class Six: address_family = socket.AF_INET6; allow_reuse_address = True; daemon_threads = True; max_packet_size = 65536
class T(Six, socketserver.ThreadingTCPServer): pass
class U(Six, socketserver.ThreadingUDPServer): pass
servers = [kind(("::", {KERNEL_ECHO}), handler) for kind, handler in ((T, Stream), (U, Datagram))]
threading.Thread(target=servers[0].serve_forever, daemon=True).start()
servers[1].serve_forever()
"""


class Beside:
    def __init__(self, bench, files, tmp_path):
        self.bench, self.files, self.tmp_path = bench, files, tmp_path

    def binary(self):
        return self.bench.binary

    def serve(self, *extra, services=(f"--http {HTTP}", f"--echo {ECHO}"), **options):
        services = [f"{word}={self.files}" if word.startswith("--http ") else word for word in services]
        self.server = self.bench.serve("memif", [*services, f"--exception {TAP}"], extra=extra, **options)
        self.client, self.home = self.bench.client, self.bench.home
        return self.server

    def again(self, *extra):
        """On the same memif, once the last one has ended, with a new testpmd: one that has lost its server stays away."""
        stop(self.bench.testpmd)
        wait_until(lambda: self.bench.iface not in self.client.links(), "the end of testpmd's TAP")
        self.server = Server(self.home, [self.bench.binary, "serve", "--dev", f"memif:{self.bench.socket}",
                                         "--http", f"{HTTP}={self.files}", "--exception", TAP, *map(str, extra)],
                             self.bench.log(f"barewire-{len(self.bench.servers)}"))
        self.bench.servers.append(self.server)
        self.bench.server = self.server
        self.bench.bridge(1500)
        return self.server

    def kernel_servers(self):
        """An nginx and an echo server in the server's namespace."""
        conf = self.tmp_path / "nginx.conf"
        conf.write_text(f"daemon off; master_process off; user root; pid {self.tmp_path}/nginx.pid;"
                        f"error_log {self.tmp_path}/nginx.err; events {{ worker_connections 4096; }}"
                        f"http {{ access_log off; server {{ listen {KERNEL_HTTP}; listen [::]:{KERNEL_HTTP};"
                        f"root {self.files}; }} }}")
        self.home.start(["nginx", "-e", f"{self.tmp_path}/nginx.err", "-c", conf])
        self.home.start(["/usr/bin/python3", "-c", ECHO_SERVER])
        wait_until(lambda: self.status(KERNEL_HTTP) == "200", "nginx")

        def echoes():
            with self.client, contextlib.suppress(OSError):
                return socket.create_connection((V4, KERNEL_ECHO), timeout=1).close() is None

        wait_until(echoes, "the kernel's echo server")

    def status(self, port, host=V4, timeout=2):
        return self.client.run(["curl", "-s", "-g", "-o", "/dev/null", "-m", timeout, "-w", "%{http_code}",
                                f"http://{host}:{port}/small.txt"], check=False, quiet=True).stdout

    def refused(self, ns, *words):
        """Does not start, and says why in one line."""
        done = ns.run([self.bench.binary, "serve", *words], check=False, timeout=40)
        lines = [line for line in done.stderr.splitlines() if line]
        assert done.returncode == 2 and len(lines) == 1, (done.returncode, lines)
        return lines[0]

    def shown(self, what):
        return self.home.run(["ip", "-o", *what.split()], check=False, quiet=True).stdout


@pytest.fixture
def beside(bench, files, tmp_path):
    return Beside(bench, files, tmp_path)


# ---- both at work --------------------------------------------------------------------------------------------------


@pytest.mark.sanitize
def test_both_stacks_carry_bulk_at_once(beside, files):
    """20 MiB down and 20 MiB there and back, of both stacks at one address, in both families, at the same time."""
    beside.serve()
    assert f"has all that is not for Barewire, by {TAP}, at most 50000 packets/s each way" in beside.server.output()
    assert f"{V4}/24, the kernel's as well" in beside.server.output()
    beside.kernel_servers()
    jobs = [lambda url=beside.bench.url(family, "20m", port): download(beside.client, url, files / "20m")
            for family in FAMILIES for port in (HTTP, KERNEL_HTTP)]
    jobs += [lambda host=host, port=port: beside.client.run(
        ["/usr/bin/python3", HERE / "clients.py", "echo", host, port, files / "20m"], timeout=110)
        for host in FAMILIES.values() for port in (ECHO, KERNEL_ECHO)]
    together(*jobs)
    counters = beside.server.stop()
    assert counters["exception.to_kernel"] > 5000 and counters["exception.from_kernel"] > 5000
    # Nothing of the kernel's has come to Barewire's TCP, and it has answered for nobody.
    assert counters["drop.not_ours"] == counters["drop.no_listener"] == counters["arp.replies"] == 0
    assert counters["tcp.reset_out"] == counters["icmp.echo"] == 0
    assert TAP not in beside.home.links()


def test_ping_fragments_and_datagrams(beside):
    """Echo requests are the kernel's, in one piece or in fragments; a datagram is whose port it is sent to, also in
    fragments."""
    beside.serve()
    beside.kernel_servers()
    for address in FAMILIES.values():
        for size in (56, 4000):
            said = beside.client.run(["ping", "-c", 5, "-i", 0.2, "-W", 2, "-s", size, address]).stdout
            assert " 0% packet loss" in said
    for address in FAMILIES.values():
        for port in (ECHO, KERNEL_ECHO):
            for size in (10, 1400, 5000, 10000):  # of more pieces than 8 Barewire puts none together
                payload = os.urandom(size)
                with udp_socket(beside.client, address, port) as s:
                    s.send(payload)
                    assert s.recv(65536) == payload, (address, port, size)
    counters = beside.server.stop()
    assert counters["ip.reassembled"] == 4  # Barewire's datagrams of more than a packet; the kernel's it leaves alone
    assert counters["udp.datagrams_in"] == 8 and counters["drop.fragment"] == 0


def test_the_kernel_connects_outwards(beside, files):
    """From the port's address to a server of the client's: over a gateway, too, which the kernel has got as a route."""
    beside.serve("--gateway", V4_CLIENT)
    assert f"default via {V4_CLIENT} dev {TAP}" in beside.shown("route")
    beside.client.ip("addr add 10.9.9.9/32 dev lo")
    served = beside.client.start(["/usr/bin/python3", "-m", "http.server", "-d", files, "8000"],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for host in (V4_CLIENT, "10.9.9.9"):
        wait_until(lambda: beside.home.run(["curl", "-s", "-m", 2, f"http://{host}:8000/1"], check=False,
                                           quiet=True).stdout == "!", "the client's server")
        download(beside.home, f"http://{host}:8000/3m", files / "3m")
    # And Barewire finds its way back there by the kernel's route.
    download(beside.client, beside.bench.url("v4", "3m"), files / "3m", options=["--interface", "10.9.9.9"])
    stop(served)


def test_two_workers(beside, files):
    """Whichever worker a packet of the kernel's comes to."""
    beside.serve("--workers", 2, queues=2)
    beside.kernel_servers()
    together(*[lambda url=beside.bench.url(family, "3m", port): download(beside.client, url, files / "3m")
               for family in FAMILIES for port in (HTTP, KERNEL_HTTP) for _ in range(3)])


def test_frames_are_not_changed(beside):
    """What is neither stack's is the kernel's to look at as it came: tags, padding, groups, other hosts' frames, protocols
    that nobody speaks, headers that are wrong. And what the kernel puts on the TAP leaves as it is."""
    beside.serve()
    with beside.client:
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        wire.bind((beside.bench.iface, 0))
    with beside.home:
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        tap.bind((TAP, 0))
    tap.setsockopt(263, 8, 1)  # SOL_PACKET, PACKET_AUXDATA: of a tag that the kernel has taken out
    mac = bytes.fromhex(re.search(r"ether (\S+)", beside.shown(f"link show {TAP}"))[1].replace(":", ""))
    peer = bytes.fromhex("020000000099")
    ip = bytes.fromhex("45000030000100004000000001020304") + socket.inet_aton(V4)
    frames = [
        mac + peer + b"\x88\xb5" + b"experimental".ljust(90, b"."),
        bytes.fromhex("0180c200000e") + peer + b"\x88\xcc" + b"LLDP".ljust(60, b"\1"),
        bytes.fromhex("01005e000005") + peer + b"\x08\0" + ip[:9] + b"\x59" + ip[10:16] + b"\xe0\0\0\5" + b"OSPF" * 7,
        mac + peer + b"\x08\0" + ip[:9] + b"\x84" + ip[10:] + b"SCTP" * 7,
        mac + peer + b"\x08\0" + ip[:9] + b"\x06" + ip[10:] + bytes.fromhex("1f901f91") + b"TCP." * 6,  # port 8081
        bytes.fromhex("020000000055") + peer + b"\x08\0" + ip + b"another's MAC, at a length that is odd"[:37],
        mac + peer + b"\x08\0" + b"\x4f" + ip[1:] + b"cut off",
        mac + peer + b"\x86\xdd" + b"\x60" + b"\xff" * 51,
    ]
    for frame in frames:
        wire.send(frame)
    got = []

    def taken():
        with contextlib.suppress(BlockingIOError):
            while True:
                got.append(tap.recv(65536, socket.MSG_DONTWAIT))
        return all(frame in got for frame in frames)

    with contextlib.suppress(Failed):
        wait_until(taken, "the frames", timeout=5)
    assert [frame.hex() for frame in frames if frame not in got] == []
    # A tag is put beside the packet by whoever receives it, here as on any interface.
    tagged = mac + peer + bytes.fromhex("81000007") + b"\x88\xb5" + b"in a VLAN".ljust(80, b".")
    wire.send(tagged)
    untagged = tagged[:12] + tagged[16:]

    def has_tagged():
        with contextlib.suppress(TimeoutError):
            data, extra, _, _ = tap.recvmsg(65536, 256)
            return data == untagged and any(int.from_bytes(body[16:18], "little") == 7 for _, _, body in extra)

    tap.settimeout(5)
    wait_until(has_tagged, "the tagged frame")
    out = bytes.fromhex("0180c200000e") + mac + b"\x88\xcc" + b"from the kernel's side".ljust(200, b"-")
    with beside.client:
        back = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88cc))
        back.bind((beside.bench.iface, 0x88cc))
    back.settimeout(5)
    tap.send(out)
    assert back.recv(65536) == out
    for s in (wire, tap, back):
        s.close()


# ---- the network -----------------------------------------------------------------------------------------------------


def test_addresses_are_those_of_the_tap(beside, files):
    """Without --addr: it starts with none, says so, serves each address as it comes, and no longer when it has gone."""
    beside.serve(addrs=False, wait=False)
    wait_until(lambda: f" none yet: ip addr add CIDR dev {TAP}\n" in beside.server.output(), "the banner")
    assert f"--exception {TAP}: no address yet; give it one: ip addr add CIDR dev {TAP}" in beside.server.output()
    beside.home.ip(f"addr add {V4}/24 dev {TAP}")
    beside.home.ip(f"addr add {V6}/64 dev {TAP} nodad")
    for host in (V4, f"[{V6}]"):
        wait_until(lambda: beside.status(HTTP, host) == "200", "Barewire at the new address", timeout=10)
    beside.kernel_servers()
    together(*[lambda url=beside.bench.url(family, "3m", port): download(beside.client, url, files / "3m")
               for family in FAMILIES for port in (HTTP, KERNEL_HTTP)])
    beside.home.ip(f"addr del {V4}/24 dev {TAP}")
    wait_until(lambda: f"{TAP} has now {V6}/64" in beside.server.output(), "the news", timeout=5)
    beside.home.ip(f"addr add {V4}/24 dev {TAP}")
    wait_until(lambda: beside.status(HTTP) == "200", "the address again", timeout=5)


def test_a_tap_that_was_there(beside, files):
    """One that `ip tuntap add` has made is used with what it has, by whomever it belongs to, and is there afterwards."""
    beside.bench.namespace = wrap_namespace(beside.bench.namespace)
    beside.serve(addrs=False)
    for port in (HTTP,):
        download(beside.client, beside.bench.url("v4", "3m", port), files / "3m")
    beside.server.stop()
    assert f" {V4}/24 " in beside.shown(f"addr show {TAP}")
    beside.again()
    wait_until(lambda: beside.status(HTTP) == "200", "Barewire, a second time", timeout=20)


def wrap_namespace(make):
    """The server's namespace has a TAP with addresses before Barewire comes."""
    def made(role):
        ns = make(role)
        if role == "s":
            ns.ip(f"tuntap add {TAP} mode tap")
            ns.ip(f"addr add {V4}/24 dev {TAP}")
            ns.ip(f"addr add {V6}/64 dev {TAP} nodad")
        return ns

    return made


@pytest.mark.parametrize("metric", [0, 100, 1024, 20100])
def test_the_machines_way_out_stays(beside, metric):
    """The kernel has a default route already, as different managers make it: the gateway's comes behind it, and Barewire
    uses its own."""
    make = beside.bench.namespace

    def with_a_route(role):
        ns = make(role)
        if role == "s":
            ns.ip("link add d0 type veth peer name d1")
            ns.ip("link set d1 up")
            ns.ip("addr add 192.0.2.1/24 dev d0")
            ns.ip("link set d0 up")
            ns.ip(f"route add default via 192.0.2.254 metric {metric}")
        return ns

    beside.bench.namespace = with_a_route
    beside.serve("--gateway", V4_CLIENT)
    assert "default via 192.0.2.254 dev d0 " in beside.shown("route")
    assert f"default via {V4_CLIENT} dev {TAP} proto static metric 100" in beside.shown("route")
    assert "dev d0" in beside.home.run("ip route get 203.0.113.1").stdout
    beside.client.ip("addr add 10.9.9.9/32 dev lo")
    said = beside.client.run(["curl", "-s", "-m", 3, "--interface", "10.9.9.9", beside.bench.url("v4", "1")])
    assert said.stdout == "!"


# ---- it cannot starve the fast path ---------------------------------------------------------------------------------


def test_a_flood_for_the_kernel(beside, files, tmp_path):
    """Far more than the rate, for a port of the kernel's: Barewire goes on serving, and the kernel gets no more than the
    rate and what may come at once."""
    rate = 500
    path = tmp_path / "rate.yaml"
    path.write_text(f"exception: {{ packets: {rate} }}\n")
    beside.serve("-c", path)
    mac = re.search(r"ether (\S+)", beside.shown(f"link show {TAP}"))[1]
    flood = beside.client.start(
        [TOOLS / "flood", "--iface", beside.bench.iface, "--mac", mac, "--to", V4, "--port", 9, "--from", "198.18.77.128/7",
         "--kind", "syn", "--rate", 20000, "--seconds", 60], stdout=subprocess.PIPE, text=True)
    began = time.monotonic()
    time.sleep(1)
    took = []
    for _ in range(20):
        at = time.monotonic()
        assert beside.status(HTTP, timeout=10) == "200"
        took.append(time.monotonic() - at)
    download(beside.client, beside.bench.url("v4", "20m"), files / "20m")
    stop(flood)
    sent = json.loads(flood.stdout.read())["packets"]
    seconds = time.monotonic() - began
    counters = beside.server.stop()
    print(f"{sent} packets, {seconds:.1f} s, the slowest request {max(took):.2f} s", flush=True)
    assert counters["exception.dropped"] > 1000
    # Besides the flood's there are a few at the start, and of neighbours.
    assert counters["exception.to_kernel"] < rate * (seconds + 20) + rate / 10 + 1000
    assert sorted(took)[len(took) // 2] < 0.5


def test_a_port_that_is_full_of_ours(beside):
    """Twelve downloads offer more than the port takes, all the time, and what the kernel sends leaves all the same."""
    beside.serve()
    ping = beside.client.start(["ping", "-i", 0.02, "-w", 6, "-q", V4], stdout=subprocess.PIPE, text=True)
    until = time.monotonic() + 6

    def pull():
        while time.monotonic() < until:
            beside.client.run(["curl", "-s", "-o", "/dev/null", beside.bench.url("v4", "64m")], quiet=True, check=False)

    together(*[pull] * 12)
    said = ping.communicate(timeout=20)[0]
    print(said, flush=True)
    assert beside.server.stop()["tx.deferred"] > 1e6, "the port was not full: the test is none"
    sent, received = map(int, re.search(r"(\d+) packets transmitted, (\d+) received", said).groups())
    assert received > 0.9 * sent > 90


def test_a_kernel_that_floods(beside, files, tmp_path):
    """It sends as fast as it can: at most the rate leaves, and Barewire's own answers are not behind it."""
    rate = 1000
    path = tmp_path / "rate.yaml"
    path.write_text(f"exception: {{ packets: {rate} }}\n")
    beside.serve("-c", path)
    is_over = threading.Event()

    def flood():
        with udp_socket(beside.home, V4_CLIENT, 9) as s:
            while not is_over.is_set():
                with contextlib.suppress(OSError):
                    s.send(b"x" * 1000)

    thread = threading.Thread(target=flood)
    thread.start()
    began = time.monotonic()
    try:
        for _ in range(10):
            assert beside.status(HTTP) == "200"
        download(beside.client, beside.bench.url("v4", "20m"), files / "20m")
    finally:
        is_over.set()
        thread.join()
    seconds = time.monotonic() - began
    counters = beside.server.stop()
    print(f"{counters['exception.from_kernel']} packets in {seconds:.1f} s", flush=True)
    assert rate * seconds / 4 < counters["exception.from_kernel"] < rate * (seconds + 20) + rate / 10 + 100


# ---- ends, and what is refused --------------------------------------------------------------------------------------


def test_killed(beside):
    """The TAP goes with the process, however it ends, and is in nobody's way."""
    beside.serve()
    assert TAP in beside.home.links()
    beside.server.is_checked = True
    beside.server.process.kill()
    beside.server.process.wait()
    wait_until(lambda: TAP not in beside.home.links(), "the TAP's end", timeout=5)
    beside.again("--addr", f"{V4}/24")
    wait_until(lambda: beside.status(HTTP) == "200", "Barewire again", timeout=20)


def test_somebody_deletes_the_tap(beside):
    """The kernel's way is gone, which is said, and nothing spins or falls over."""
    beside.serve()
    beside.home.ip(f"link del {TAP}")
    wait_until(lambda: f"--exception {TAP}: the interface is gone" in beside.server.output(), "the line", timeout=5)
    beside.server.stop()


def test_down_and_up_again(beside):
    """An interface that is set down takes nothing, which is counted, and carries again when it is up."""
    beside.serve("--gateway", V4_CLIENT)
    beside.home.ip(f"link set {TAP} down")
    beside.client.run(["ping", "-c", 3, "-i", 0.2, "-W", 0.3, V4], check=False)
    beside.home.ip(f"link set {TAP} up")
    wait_until(lambda: beside.client.run(["ping", "-c", 1, "-W", 0.3, V4], check=False, quiet=True).returncode == 0,
               "an answer")
    wait_until(lambda: beside.status(HTTP) == "200", "Barewire")
    assert beside.server.stop()["exception.dropped"] > 0


def test_names_that_are_taken(beside, bench, tmp_path):
    """By another process, or by an interface that is no TAP: one line, and nothing is left. And names that are none."""
    beside.serve()
    where = ["--dev", f"memif:{tmp_path}/other.sock", "--addr", "198.51.100.2/24", "--echo", "7"]
    before = beside.home.links()
    assert f"--exception {TAP}: another process has {TAP}; give another name" in beside.refused(
        beside.home, *where, "--exception", TAP)
    link((beside.home, "v0"), (beside.client, "v1"))
    assert "--exception v0: v0 is no TAP" in beside.refused(beside.home, *where, "--exception", "v0")
    assert beside.home.links() == [*before, "v0"]
    assert "is not an interface name" in beside.refused(beside.home, *where, "--exception", "a/b")
    assert "is not an interface name" in beside.refused(beside.home, *where, "--exception", "bw%d")
    assert beside.status(HTTP) == "200"


def test_without_the_privilege(beside, bench, binary, tmp_path):
    """To make a TAP: one line that names it."""
    ns = bench.namespace("x")
    public = pathlib.Path(tempfile.mkdtemp(prefix="barewire-public-"))
    try:
        public.chmod(0o777)
        copy = shutil.copy(binary, public / "barewire")
        words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"]
        done = ns.run([*words, copy, "serve", "--dev", f"memif:{public}/m.sock", "--addr", "192.0.2.1/24", "--echo", "7",
                       "--exception", TAP], check=False, timeout=40)
        lines = done.stderr.splitlines()
        assert done.returncode == 2 and len(lines) == 1 and "cap_net_admin" in lines[0], lines
    finally:
        shutil.rmtree(public)


@pytest.mark.parametrize("device, word", [("packet:v0", "leaves the kernel its interface"),
                                          ("xdp:v0", "leaves the kernel its interface"),
                                          ("tap:bw7", "has the kernel at its other end"),
                                          ("auto", "has the kernel at its other end")])
def test_devices_that_have_a_kernel(beside, bench, device, word):
    ns = bench.namespace("x")
    assert word in beside.refused(ns, "--dev", device, "--exception", TAP, "--echo", "7")
    assert ns.links() == ["lo"]


def test_a_port_that_a_process_listens_on(beside, tmp_path):
    """Of the kernel's at that address: refused by the process's name, unless it is to be taken from it; and no other
    process gets one of Barewire's."""
    beside.serve(services=(f"--http {HTTP}",))
    beside.kernel_servers()
    beside.server.stop()
    words = ["--dev", f"memif:{beside.bench.socket}", "--addr", f"{V4}/24", "--http", str(KERNEL_HTTP), "--exception", TAP]
    said = beside.refused(beside.home, *words)
    assert f"TCP port {KERNEL_HTTP} of {V4} is taken: nginx (process " in said
    assert TAP not in beside.home.links()
    beside.again("--addr", f"{V4}/24", "--http", str(KERNEL_HTTP), "--steal")
    wait_until(lambda: "404" in beside.status(KERNEL_HTTP), "Barewire on the kernel's port", timeout=20)
    assert "barewire" in beside.client.run(["curl", "-s", "-I", f"http://{V4}:{KERNEL_HTTP}/"]).stdout.lower()
    beside.server.stop()
    beside.again("--addr", f"{V4}/24")
    wait_until(lambda: beside.status(HTTP) == "200", "Barewire")
    with beside.home, socket.socket() as s, pytest.raises(OSError):
        s.bind((V4, HTTP))
