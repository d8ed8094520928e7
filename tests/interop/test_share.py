# SPDX-License-Identifier: BSD-3-Clause
"""One interface, one address, two stacks: Barewire on ports of an interface that the kernel goes on using.

The server's namespace has v0 with V4 and V6, an nginx of the kernel's on port 80, and Barewire, which was told the
interface and nothing of its network.
"""

import contextlib
import errno
import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import statistics
import subprocess
import threading
import time

import pytest

from clients import download
from conftest import ECHO, FAMILIES, HERE, HTTP, RESP, Server, V4, V4_CLIENT, V6, V6_CLIENT
from lab import Failed, link, sh, stop, wait_until
from wire import TOOLS

KERNEL_HTTP = 80
DEVICES = ("xdp", "packet")


class Shared:
    def __init__(self, bench, files, tmp_path, device, mtu=1500):
        self.bench, self.files, self.tmp_path, self.device = bench, files, tmp_path, device
        self.client, self.home = bench.namespace("c"), bench.namespace("s")
        link((self.home, "v0"), (self.client, "v1"), mtu=mtu)
        for ns, iface, v4, v6 in ((self.home, "v0", V4, V6), (self.client, "v1", V4_CLIENT, V6_CLIENT)):
            ns.ip(f"link set {iface} up")
            ns.ip(f"addr add {v4}/24 dev {iface}")
            ns.ip(f"addr add {v6}/64 dev {iface} nodad")
        self.nginx()

    def client_nginx(self):
        """The same, for the other end."""
        conf = self.tmp_path / "client.conf"
        conf.write_text((self.tmp_path / "nginx.conf").read_text().replace("nginx.pid", "client.pid"))
        return conf

    def nginx(self):
        conf = self.tmp_path / "nginx.conf"
        conf.write_text(f"daemon off; master_process off; user root; pid {self.tmp_path}/nginx.pid;"
                        f"error_log {self.tmp_path}/nginx.err; events {{ worker_connections 4096; }}"
                        f"http {{ access_log off; server {{ listen {KERNEL_HTTP}; listen [::]:{KERNEL_HTTP};"
                        f"root {self.files}; }} }}")
        self.kernel = self.home.start(["nginx", "-e", f"{self.tmp_path}/nginx.err", "-c", conf])
        wait_until(lambda: self.status(KERNEL_HTTP) == "200", "nginx")

    def status(self, port, host=V4, timeout=2):
        return self.client.run(["curl", "-s", "-g", "-o", "/dev/null", "-m", timeout, "-w", "%{http_code}",
                                f"http://{host}:{port}/small.txt"], check=False, quiet=True).stdout

    def binary(self):
        return self.bench.binary if isinstance(self.bench.binary, list) else [self.bench.binary]

    def start(self, *arguments, services=(f"--http={HTTP}", f"--echo={ECHO}", f"--resp={RESP}")):
        words = [word for service in services for word in service.split("=", 1)]
        words = [f"{word}={self.files}" if flag == "--http" else word for flag, word in zip(["", *words], words)]
        server = Server(self.home, [*self.binary(), "serve", "--dev", self.device if ":" in self.device else f"{self.device}:v0", *words,
                                    *map(str, arguments)], self.bench.log(f"barewire-{len(self.bench.servers)}"))
        self.bench.servers.append(server)
        return server

    def serve(self, *arguments, **options):
        before = self.all_programs()
        self.server = self.start(*arguments, **options)
        self.ready()
        self.own = self.all_programs() - before
        assert self.own
        return self.server

    def ready(self):
        def answers():
            self.server.assert_runs()
            return self.status(HTTP) == "200"

        wait_until(answers, "Barewire's HTTP", timeout=20)

    def refused(self, *arguments, **options):
        """Does not start, and says why in one line."""
        server = self.start(*arguments, **options)
        server.is_checked = True
        assert server.process.wait(30) == 2
        lines = [line for line in server.output().splitlines() if "error" in line]
        assert len(lines) == 1, server.output()
        return lines[0]

    def url(self, family, name, port):
        host = V4 if family == "v4" else f"[{V6}]"
        return f"http://{host}:{port}/{name}"

    @staticmethod
    def all_programs():
        shown = json.loads(sh(["bpftool", "-j", "prog", "show"], quiet=True).stdout)
        return {program["id"] for program in shown if program.get("name") in ("xsk_def_prog", "steer_tc")}

    def programs(self):
        """What our server has attached that is there still."""
        return self.own & self.all_programs()

    def kernel_pid(self):
        """`ip netns exec` becomes the program that it starts."""
        return self.kernel.pid

    def steer(self, *words, status=0):
        done = self.home.run([*self.binary(), "steer", "--instance", self.server.pid, *words], check=False)
        assert done.returncode == status
        return done.stdout + done.stderr

    def counter(self, name):
        return int(re.search(rf"steer\.{name} +(\d+)", self.steer("status"))[1])


@pytest.fixture
def share(request, bench, files, tmp_path):
    return Shared(bench, files, tmp_path, getattr(request, "param", "xdp"))


ON_BOTH = pytest.mark.parametrize("share", DEVICES, indirect=True)


def together(*jobs):
    """Run them at the same time; the first failure is the test's."""
    failures = []

    def run(job):
        try:
            job()
        except BaseException as failure:  # noqa: a thread has nobody to raise it to
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


# ---- both at work --------------------------------------------------------------------------------------------------


@pytest.mark.sanitize
@ON_BOTH
def test_both_stacks_carry_bulk_at_once(share, files):
    share.serve()
    jobs = [lambda url=share.url(family, "64m", port): download(share.client, url, files / "64m")
            for family in FAMILIES for port in (HTTP, KERNEL_HTTP)]
    jobs.append(lambda: share.client.run(["/usr/bin/python3", HERE / "clients.py", "echo", V4, ECHO, files / "3m"], timeout=110))
    together(*jobs)
    for address in FAMILIES.values():  # the kernel's answers to echo requests
        share.client.run(["ping", "-c", 3, "-i", 0.2, "-W", 2, address])
    said = share.client.run(["redis-cli", "-h", V4, "-p", RESP], stdin="SET a b\nGET a\n").stdout
    assert said.split() == ["OK", "b"]
    counters = share.server.stop()
    assert counters["rx.packets"] > 0 and counters["drop.not_ours"] == 0
    assert counters["drop.no_listener"] == 0
    assert share.programs() == set()
    assert share.status(KERNEL_HTTP) == "200" and share.status(HTTP) == "000"


@ON_BOTH
def test_no_configuration_of_the_network_is_needed(share, files):
    """The banner names the addresses, and that they are shared; the way back is the kernel's gateway."""
    share.home.ip(f"route add default via {V4_CLIENT}")
    share.client.ip("addr add 10.9.9.9/32 dev lo")
    share.serve()
    assert f"{V4}/24, the kernel's as well" in share.server.output() and f"{V6}/64" in share.server.output()
    for port in (HTTP, KERNEL_HTTP):
        download(share.client, share.url("v4", "3m", port), files / "3m", options=["--interface", "10.9.9.9"])


@ON_BOTH
def test_killed_under_load(share, files):
    """The kernel's transfer goes on, and the interface is without a program within a second."""
    share.serve()
    assert share.programs()
    ended = []

    def kill():
        time.sleep(0.3)
        share.server.is_checked = True
        share.server.process.kill()
        share.server.process.wait()
        began = time.monotonic()
        wait_until(lambda: share.programs() == set(), "an interface without a program", timeout=5, every=0.01)
        wait_until(lambda: share.status(HTTP) == "000", "the kernel's refusal", timeout=5, every=0.01)
        ended.append(time.monotonic() - began)

    def ours():
        with contextlib.suppress(AssertionError):  # it is killed
            download(share.client, share.url("v4", "64m", HTTP), files / "64m", options=["--limit-rate", "30M"], timeout=5)

    together(kill, ours, *[lambda family=family: download(share.client, share.url(family, "64m", KERNEL_HTTP), files / "64m",
                                                          options=["--limit-rate", "60M"]) for family in FAMILIES])
    print(f"{ended[0] * 1e3:.0f} ms")
    assert ended[0] < 1
    # What a dead instance leaves is in nobody's way.
    share.serve()
    download(share.client, share.url("v4", "3m", HTTP), files / "3m")


def scan(ns, host):
    """Every TCP port: refused, open, or what else. Many at a time, for which one thread is enough."""
    found = {}
    with ns:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        poll, pending = select.epoll(), {}
        ports = iter(range(1, 65536))
        while True:
            while len(pending) < 200 and (port := next(ports, None)) is not None:
                s = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
                s.connect_ex((host, port))
                pending[s.fileno()] = s, port, time.monotonic()
                poll.register(s, select.EPOLLOUT)
            if not pending:
                break
            events = poll.poll(0.2)
            overdue = [fd for fd, (_, _, at) in pending.items() if time.monotonic() - at > 5]
            for fd in [fd for fd, _ in events] or overdue:
                s, port, _ = pending.pop(fd)
                error = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                found[port] = "silent" if fd in overdue and not events else errno.errorcode.get(error, "open")
                # No TIME_WAIT: the next scan is from the same ports.
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                s.close()
    return found


@ON_BOTH
@pytest.mark.deadline(240)
def test_a_scan_of_all_ports_sees_nothing_else(share):
    without = {host: scan(share.client, host) for host in FAMILIES.values()}
    assert all(len(found) == 65535 and found[KERNEL_HTTP] == "open" for found in without.values())
    share.serve()
    for host, before in without.items():
        beside = scan(share.client, host)
        assert {port: (before[port], beside[port]) for port in beside if before[port] != beside[port]} == {
            port: ("ECONNREFUSED", "open") for port in (HTTP, ECHO, RESP)}


@ON_BOTH
def test_starts_and_ends_are_not_noticed(share, files):
    """By connections of the kernel's that are under way."""
    def restarts():
        for _ in range(3):
            share.serve()
            share.server.stop()

    together(restarts, *[lambda family=family: download(share.client, share.url(family, "64m", KERNEL_HTTP), files / "64m",
                                                        options=["--limit-rate", "5M"]) for family in FAMILIES])


def test_an_address_of_its_own_beside_the_kernels(share, files):
    """With --addr: ARP and neighbour discovery for these is Barewire's, and the kernel has everything else."""
    ours = {"v4": "198.18.77.60", "v6": "fd77:ba5e::60"}
    share.server = share.start("--addr", f"{ours['v4']}/24", "--addr", f"{ours['v6']}/64")
    wait_until(lambda: share.status(HTTP, ours["v4"]) == "200", "Barewire's HTTP")
    shown = share.home.ip("-o -6 addr show dev v0 scope link", quiet=True).stdout
    link_local = re.search(r"inet6 (fe80\S+)/", shown)[1]
    share.client.run(["ping", "-c", 3, "-i", 0.2, "-W", 2, f"{link_local}%v1"])
    together(*[lambda url=url: download(share.client, url, files / "20m") for url in (
        share.url("v4", "20m", KERNEL_HTTP), share.url("v6", "20m", KERNEL_HTTP),
        f"http://{ours['v4']}:{HTTP}/20m", f"http://[{ours['v6']}]:{HTTP}/20m")])
    for address in ours.values():
        share.client.run(["ping", "-c", 2, "-i", 0.2, "-W", 2, address])
    share.home.ip("neigh flush dev v0")
    share.client.ip("neigh flush dev v1")
    assert share.status(KERNEL_HTTP) == share.status(KERNEL_HTTP, f"[{V6}]") == share.status(HTTP, ours["v4"]) == "200"
    share.server.stop()
    assert f"v0 has {V4} itself" in share.refused("--addr", f"{V4}/24")


# ---- the kernel's network changes --------------------------------------------------------------------------------


@pytest.mark.sanitize
@ON_BOTH
def test_addresses_come_and_go(share, files):
    share.serve()
    share.home.ip("addr add 198.18.77.50/24 dev v0")
    wait_until(lambda: share.status(HTTP, "198.18.77.50") == "200", "the new address", timeout=5)
    share.home.ip("addr add fd77:ba5e::50/64 dev v0 nodad")
    wait_until(lambda: share.status(HTTP, "[fd77:ba5e::50]") == "200", "the new address", timeout=5)
    share.home.ip("addr del 198.18.77.50/24 dev v0")
    wait_until(lambda: "now 198.18.77.2/24, fd77:" in share.server.output().splitlines()[-1], "the news", timeout=5)
    download(share.client, share.url("v4", "3m", HTTP), files / "3m")
    assert "198.18.77.50" not in share.steer("status")
    # And back: what was held for it is no obstacle.
    share.home.ip("addr add 198.18.77.50/24 dev v0")
    wait_until(lambda: share.status(HTTP, "198.18.77.50") == "200", "the address again", timeout=5)
    with share.client, socket.create_connection(("198.18.77.50", ECHO), timeout=2) as s:
        s.sendall(b"again")
        assert s.recv(5) == b"again"
    assert "is taken" not in share.server.output()


@ON_BOTH
def test_an_address_that_is_another_process_s(share, tmp_path):
    """It comes later, and a server of the kernel's waits there on one of our ports: it is left alone. Whose it is cannot be
    seen any more without the privilege to look into other processes."""
    share.home.sysctl("net/ipv4/ip_nonlocal_bind", 1)
    conf = tmp_path / "later.conf"
    conf.write_text((tmp_path / "nginx.conf").read_text().replace("nginx.pid", "later.pid")
                    .replace(f"listen {KERNEL_HTTP}; listen [::]:{KERNEL_HTTP};", f"listen 198.18.77.50:{HTTP};"))
    later = share.home.start(["nginx", "-e", f"{tmp_path}/later.err", "-c", conf])
    share.serve()
    share.home.ip("addr add 198.18.77.50/24 dev v0")
    wait_until(lambda: f"TCP port {HTTP} of 198.18.77.50 is taken: another process listens there" in share.server.output(), "the line", timeout=5)
    assert "nginx" in share.client.run(["curl", "-s", "-I", "-m", 2, f"http://198.18.77.50:{HTTP}/"]).stdout
    assert share.status(HTTP) == "200"
    stop(later)
    share.home.ip("addr add 198.18.77.51/24 dev v0")  # a change, at which it is looked at again
    wait_until(lambda: share.status(HTTP, "198.18.77.50") == "200", "Barewire", timeout=5)
    assert share.server.output().count("is taken") == 1


@ON_BOTH
def test_changes_are_followed_however_much_happens(share):
    """Neighbours that come and go all the time do not keep an address from being seen."""
    share.serve()
    is_over = threading.Event()

    def neighbours():
        i = 0
        while not is_over.is_set():
            i += 1
            share.home.ip(f"neigh replace 198.18.77.{100 + i % 50} lladdr 02:00:00:00:01:{i % 200:02x} dev v0", quiet=True)

    def change():
        try:
            time.sleep(0.5)
            share.home.ip("addr add 198.18.77.50/24 dev v0")
            wait_until(lambda: share.status(HTTP, "198.18.77.50") == "200", "the new address", timeout=5)
        finally:
            is_over.set()

    together(neighbours, change)


@pytest.mark.sanitize
@ON_BOTH
def test_neighbours_and_routes_are_the_kernels(share, files):
    """A transfer goes on when the client's Ethernet address changes, and when its way back does."""
    share.serve()

    def change():
        time.sleep(0.3)
        share.client.ip("link set v1 address 02:00:00:00:00:77")  # which the kernel announces
        time.sleep(0.3)
        share.home.ip(f"route add {V4_CLIENT}/32 via 198.18.77.100")
        share.home.ip("neigh replace 198.18.77.100 lladdr 02:00:00:00:00:77 nud permanent dev v0")

    share.client.sysctl("net/ipv4/conf/v1/arp_notify", 1)
    together(change, lambda: download(share.client, share.url("v4", "64m", HTTP), files / "64m", options=["--limit-rate", "40M"]))


@ON_BOTH
def test_link_goes_down_and_up(share, files):
    share.serve()
    share.client.ip("link set v1 down")
    wait_until(lambda: "link is down" in share.server.output(), "the news")
    share.client.ip("link set v1 up")
    share.client.ip(f"addr add {V6_CLIENT}/64 dev v1 nodad", check=False)
    wait_until(lambda: "link is up" in share.server.output(), "the news")
    for family in FAMILIES:
        download(share.client, share.url(family, "3m", HTTP), files / "3m")


@ON_BOTH
def test_the_interface_is_renamed(share, files):
    share.serve()
    share.home.ip("link set v0 down")
    share.home.ip("link set v0 name uplink")
    share.home.ip("link set uplink up")
    share.home.ip(f"addr replace {V6}/64 dev uplink nodad")  # IPv6's go with the link
    wait_until(lambda: "v0 is called uplink now" in share.server.output(), "the news")
    for family in FAMILIES:
        wait_until(lambda: share.status(HTTP, V4 if family == "v4" else f"[{V6}]") == "200", "Barewire's HTTP", timeout=5)
        download(share.client, share.url(family, "3m", HTTP), files / "3m")
    assert "uplink, by" in share.steer("status")
    share.server.stop()


@pytest.mark.parametrize("options", ["copy=1", "busy_poll=0", "busy_poll=128,copy=0"])
def test_how_xdp_takes_packets(share, files, options):
    share.device = f"xdp:v0,{options}"
    share.serve()
    assert "by XDP in the driver; packets are copied" in share.server.output()  # a veth has no other way
    for family in FAMILIES:
        download(share.client, share.url(family, "20m", HTTP), files / "20m")


@ON_BOTH
def test_an_mtu_that_shrinks_is_told(share, files):
    share.serve()
    share.home.ip("link set v0 mtu 1400")
    wait_until(lambda: "an MTU of 1400" in share.server.output(), "the warning")


# ---- defence ---------------------------------------------------------------------------------------------------------


class Steady:
    """Requests at a constant rate, a connection each, to both stacks: how many are answered in time?"""

    RATE = 50

    def __init__(self, ns):
        self.ns = ns
        self.sent = {HTTP: 0, KERNEL_HTTP: 0}
        self.good = {HTTP: 0, KERNEL_HTTP: 0}

    def ask(self, port):
        with contextlib.suppress(OSError), socket.create_connection((V4, port), timeout=1) as s:
            s.sendall(b"GET /small.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            got = b""
            while chunk := s.recv(4096):
                got += chunk
            self.good[port] += got.startswith(b"HTTP/1.1 200") and got.endswith(b"x\n")

    def run(self, port, seconds):
        with self.ns:
            began = time.monotonic()
            for i in range(int(self.RATE * seconds)):
                time.sleep(max(began + i / self.RATE - time.monotonic(), 0))
                self.sent[port] += 1
                self.ask(port)

    def both(self, seconds):
        together(*[lambda port=port: self.run(port, seconds) for port in self.sent])
        print(f"answered of {self.sent}: {self.good}")
        return min(self.good[port] / self.sent[port] for port in self.sent)


@ON_BOTH
@pytest.mark.parametrize("how", ["blocked", "limited"])
def test_legitimate_traffic_beside_a_flood(share, how):
    """SYNs as fast as a veth takes them, at both stacks in turn, from sources that are blocked, or limited."""
    share.serve()
    if how == "blocked":
        assert "1 rule in force" in share.steer("block", "10.0.0.0/8")
    else:
        assert "200 SYNs" in share.steer("limit", "syns=200")
    assert Steady(share.client).both(2) == 1
    mac = re.search(r"link/ether (\S+)", share.home.ip("link show v0", quiet=True).stdout)[1]
    for port in (HTTP, KERNEL_HTTP):
        share.client.run(["ping", "-c", 1, "-W", 2, V4], quiet=True)
        flood = share.client.start([TOOLS / "flood", "--iface", "v1", "--mac", mac, "--to", V4, "--port", port, "--from",
                                    "10.0.0.0/28", "--kind", "syn", "--seconds", 60], stdout=subprocess.PIPE, text=True)
        try:
            share_good = Steady(share.client).both(4)
        finally:
            assert stop(flood, signal.SIGINT) == 0
            print(flood.stdout.read())
        assert share_good >= 0.95
    dropped = share.counter("blocked" if how == "blocked" else "syn_rate")
    print(f"{dropped} dropped")
    assert dropped > 50000
    counters = share.server.stop()
    assert counters["tcp.accepted"] > 0


@pytest.mark.sanitize
@ON_BOTH
def test_rules_change_while_it_runs(share):
    share.serve()
    assert "2 rules in force" in share.steer("block", V4_CLIENT, "fd77:ba5e::/64")
    assert share.status(HTTP) == share.status(KERNEL_HTTP, timeout=1) == "000"
    assert share.status(HTTP, f"[{V6}]", timeout=1) == "000"
    assert share.counter("blocked") > 0
    share.steer("allow", f"{V4_CLIENT}/32")
    assert share.status(HTTP) == share.status(KERNEL_HTTP) == "200"
    path = share.tmp_path / "list"
    path.write_text(f"# whom we know\n{V4_CLIENT}  # the client\n\nfd77:ba5e::/64, 1.2.3.4\n")
    assert "2 rules removed, 1 not there" in share.steer("unblock", "-f", path)
    assert share.status(HTTP, f"[{V6}]") == "200"
    assert "nothing was changed" in share.steer("block", V4_CLIENT, "nonsense", status=1)
    assert share.status(HTTP) == "200"
    assert "no limit" in share.steer("limit", "syns=many", status=1)
    assert "which?" in share.steer("block", status=2)


# ---- refused ---------------------------------------------------------------------------------------------------------


@ON_BOTH
def test_a_port_of_another_process(share):
    said = share.refused(services=[f"--http={KERNEL_HTTP}"])
    assert f"TCP port {KERNEL_HTTP} of {V4} is taken: nginx (process {share.kernel_pid()}) listens there" in said and "--steal" in said
    share.server = share.start("--steal", services=[f"--discard={KERNEL_HTTP}"])
    wait_until(lambda: share.status(KERNEL_HTTP, timeout=1) == "000", "the port to be taken")
    share.server.stop()
    assert share.status(KERNEL_HTTP) == "200"


@ON_BOTH
def test_nobody_takes_our_port_meanwhile(share):
    share.serve()
    with share.home:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            s = socket.socket(socket.AF_INET, kind)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError, match="in use"):
                s.bind(("0.0.0.0", ECHO))
                if kind == socket.SOCK_STREAM:
                    s.listen()
            s.close()


def test_another_xdp_program(share, bpf):
    program = bpf("pass")
    share.home.ip(f"link set dev v0 xdp object {program} section xdp", check=False)
    said = share.refused()
    assert "an XDP program is attached to v0 already (pass_all" in said
    assert "pass_all" in share.home.run("bpftool net show dev v0", quiet=True).stdout + \
        share.home.ip("link show v0", quiet=True).stdout


@ON_BOTH
def test_what_cannot_be_shared(share):
    assert "198.18.77.3 is no address of v0" in share.refused(services=[f"--http=198.18.77.3:{HTTP}"])
    assert "v0 has no interface for VLAN 5" in share.refused("--vlan", 5)
    share.home.ip("addr flush dev v0")
    share.home.sysctl("net/ipv6/conf/v0/disable_ipv6", 1)
    assert "v0 has no address to share" in share.refused()
    share.home.ip("link set v0 down")
    assert "v0 is down" in share.refused()


@ON_BOTH
def test_two_instances_on_one_interface(share):
    share.serve()
    if share.device == "xdp":
        assert "an XDP program is attached to v0 already (xsk_def_prog" in share.refused(services=["--echo=9"])
    else:
        assert f"TCP port {HTTP} of {V4} is taken: another process has bound it" in share.refused(services=[f"--discard={HTTP}"])
        share.server, first = share.start(services=["--discard=9"]), share.server  # on another port
        wait_until(lambda: "discard on port 9" in share.server.output(), "the second")
        with share.client, socket.create_connection((V4, 9), timeout=2) as s:
            s.sendall(b"x" * 1000)
        share.server.stop()
        share.server = first
    assert share.status(HTTP) == "200"


@ON_BOTH
def test_interface_vanishes(share):
    share.serve()
    share.client.ip("link del v1")
    wait_until(lambda: "v0 is gone" in share.server.output(), "the news")
    share.server.stop()


# ---- what Barewire opens ---------------------------------------------------------------------------------------------


@ON_BOTH
def test_the_load_generator_beside_the_kernel(share):
    """Connections from the interface's own address, by ports that the kernel does not use; it carries its own meanwhile."""
    out = share.tmp_path / "load.json"
    share.home.ip("neigh flush dev v0")  # it is the kernel that finds the server
    share.client.start(["nginx", "-e", f"{share.tmp_path}/client.err", "-c", share.client_nginx()])
    wait_until(lambda: share.client.run(["curl", "-s", "-o", "/dev/null", "-m", 1, f"http://{V4_CLIENT}:{KERNEL_HTTP}/"],
                                        check=False, quiet=True).returncode == 0, "the client's nginx")
    load = [share.bench.binary, "load", "--dev", f"{share.device}:v0", "-q", "-c", 32, "-n", 20000, "--json", out]
    together(lambda: share.home.run([*load, f"http://{V4_CLIENT}:{KERNEL_HTTP}/small.txt"], timeout=60),
             lambda: [download(share.home, f"http://{V4_CLIENT}:{KERNEL_HTTP}/3m", share.files / "3m") for _ in range(10)],
             lambda: download(share.client, share.url("v4", "20m", KERNEL_HTTP), share.files / "20m"))
    report = json.loads(out.read_text())
    assert report["responses"] == 20000 and sum(report["errors"].values()) == 0
    share.home.run([*load, "--new-connections", "-n", 500, f"http://[{V6_CLIENT}]:{KERNEL_HTTP}/small.txt"], timeout=60)
    said = share.home.run([*load, "--idle", 10, "--from", "10.0.0.0/24", f"http://{V4_CLIENT}:{KERNEL_HTTP}/"], check=False)
    assert said.returncode == 2 and "give --addr CIDR" in said.stdout + said.stderr
    share.home.sysctl("net/ipv4/ip_local_port_range", "32768 65000")
    said = share.home.run([*load, f"http://{V4_CLIENT}:{KERNEL_HTTP}/"], check=False)
    assert said.returncode == 2 and "the kernel opens connections from ports 32768 to 65000" in said.stdout + said.stderr


# ---- privileges ------------------------------------------------------------------------------------------------------

NOBODY = 65534
# CAP_SYS_ADMIN: libxdp finds the program on the interface by its number.
CAPABILITIES = {"xdp": "cap_net_admin,cap_net_raw,cap_bpf,cap_perfmon,cap_ipc_lock,cap_sys_admin",
                "packet": "cap_net_admin,cap_net_raw,cap_bpf,cap_perfmon,cap_ipc_lock"}


def capabilities(pid):
    """Of all threads of a process, what it has in any set that it could use."""
    held = 0
    for status in pathlib.Path(f"/proc/{pid}/task").glob("*/status"):
        for name in ("CapEff", "CapPrm"):
            held |= int(re.search(rf"{name}:\s+(\S+)", status.read_text())[1], 16)
    return held


@ON_BOTH
def test_root_keeps_what_reading_needs(share):
    share.serve()
    assert capabilities(share.server.pid) == 1 << 2  # CAP_DAC_READ_SEARCH
    share.home.ip("addr add 198.18.77.50/24 dev v0")  # what comes later needs no more
    wait_until(lambda: share.status(HTTP, "198.18.77.50") == "200", "the new address", timeout=5)
    share.steer("block", "192.0.2.1")


@ON_BOTH
def test_another_user_with_file_capabilities(share, files):
    """As docs/devices.md has it; port 80, too, is taken without the privilege to bind it. Afterwards nothing is held."""
    folder = share.tmp_path / "user"
    folder.mkdir()
    binary = folder / "barewire"
    shutil.copy(share.bench.binary, binary)
    sh(["setcap", f"{CAPABILITIES[share.device]}+ep", binary])
    for path in (folder, *share.tmp_path.parents[:2], share.tmp_path):
        path.chmod(path.stat().st_mode | 0o055)
    stop(share.kernel)
    share.bench.binary = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "env",
                          f"XDG_RUNTIME_DIR={folder}", binary]
    os.chown(folder, NOBODY, NOBODY)
    share.serve(services=[f"--http={HTTP}", f"--echo={KERNEL_HTTP}"])
    assert capabilities(share.server.pid) == 0
    for family in FAMILIES:
        download(share.client, share.url(family, "20m", HTTP), files / "20m")
    share.client.run(["/usr/bin/python3", HERE / "clients.py", "echo", V4, KERNEL_HTTP, files / "3m"], timeout=110)
    share.home.ip("addr add 198.18.77.50/24 dev v0")
    wait_until(lambda: share.status(HTTP, "198.18.77.50") == "200", "the new address", timeout=5)
    assert "1 rule in force" in share.steer("block", "192.0.2.1")
    share.server.stop()
    assert share.programs() == set()


@ON_BOTH
def test_without_the_capabilities(share):
    folder = share.tmp_path / "user"
    folder.mkdir(mode=0o755)
    binary = folder / "barewire"
    shutil.copy(share.bench.binary, binary)
    for path in (*share.tmp_path.parents[:2], share.tmp_path):
        path.chmod(path.stat().st_mode | 0o055)
    share.bench.binary = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", binary]
    assert "cap_net" in share.refused()
