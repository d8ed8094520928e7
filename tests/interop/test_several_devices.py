# SPDX-License-Identifier: BSD-3-Clause
"""Several devices in one instance: `--dev` more than once, each with its addresses.

The server's namespace has an end of each device's link; at the other end of a veth is a client's namespace of its own, at
the other end of a TAP the server's kernel. Each link is a network of its own.
"""

import itertools
import json
import re
import signal
import socket
import subprocess

import pytest

from clients import download
from conftest import ECHO, HERE, HTTP, RESP, Server
from lab import link, stop, wait_until
from test_capture import read as read_capture
from test_share import together

SETS = {
    "two-taps": ("tap", "tap"),
    "packet-and-xdp": ("packet", "xdp"),
    "shared-xdp-and-tap": ("shared-xdp", "tap"),
    "three": ("xdp", "tap", "shared-packet"),
}
ON_EACH_SET = pytest.mark.parametrize("kinds", SETS.values(), ids=SETS)
SERVICES = ("--http {http}={files}", "--echo {echo}", "--resp {resp}")


class Side:
    """A device of the server's, and who is at the other end of it."""

    def __init__(self, several, number, kind):
        self.number, self.home = number, several.home
        self.is_shared, self.kind = kind.startswith("shared-"), kind.removeprefix("shared-")
        self.v4, self.client_v4 = f"198.18.{77 + number}.2", f"198.18.{77 + number}.1"
        self.v6, self.client_v6 = f"fd77:{number + 1}::2", f"fd77:{number + 1}::1"
        if self.kind == "tap":
            self.client, self.iface = self.home, f"bwt{number}"
            self.spec = f"tap:{self.iface}"
            return
        self.client, self.iface, self.end = several.bench.namespace("c"), "v1", f"s{number}"
        self.spec = f"{self.kind}:{self.end}"
        link((self.home, self.end), (self.client, self.iface))
        if not self.is_shared:
            self.home.sysctl(f"net/ipv6/conf/{self.end}/disable_ipv6", 1)
        for ns, iface, addrs in ((self.home, self.end, self.addrs() if self.is_shared else []),
                                 (self.client, self.iface, [f"{self.client_v4}/24", f"{self.client_v6}/64"])):
            ns.ip(f"link set {iface} up")
            for addr in addrs:
                ns.ip(f"addr add {addr} dev {iface}" + (" nodad" if ":" in addr else ""))

    def addrs(self):
        return [f"{self.v4}/24", f"{self.v6}/64"]

    def flags(self):
        told = [] if self.is_shared else self.addrs()
        return ["--dev", self.spec, *itertools.chain.from_iterable(("--addr", addr) for addr in told)]

    def url(self, name, family="v4", port=HTTP):
        return f"http://{self.v4 if family == 'v4' else f'[{self.v6}]'}:{port}/{name}"

    def answers(self, address, *, tries=1):
        """To a ping that goes out by this side's interface, whatever the routes are."""
        return self.client.run(["ping", "-I", self.iface, "-c", tries, "-i", 0.2, "-W", 0.5, address], check=False,
                               quiet=True).returncode == 0

    def redis(self, *words):
        return self.client.run(["redis-cli", "-h", self.v4, "-p", RESP, *words]).stdout.strip()

    def curl_status(self, address=None, port=HTTP):
        """curl's own exit status: 0, 7 where it was refused, 28 where nobody answered."""
        return self.client.run(["curl", "-s", "-o", "/dev/null", "-m", 2, f"http://{address or self.v4}:{port}/small.txt"],
                               check=False).returncode


class Several:
    def __init__(self, bench, files):
        self.bench, self.files = bench, files
        self.home = bench.namespace("s")

    def make(self, kinds):
        self.sides = [Side(self, number, kind) for number, kind in enumerate(kinds)]
        return self.sides

    def command(self, *extra, services=SERVICES):
        told = [word for service in services
                for word in service.format(http=HTTP, echo=ECHO, resp=RESP, files=self.files).split()]
        return [self.bench.binary, "serve", *itertools.chain.from_iterable(side.flags() for side in self.sides), *told,
                *map(str, extra)]

    def serve(self, kinds, *extra, services=SERVICES):
        """Returns when each device's address answers from its own side."""
        self.make(kinds)
        self.server = Server(self.home, self.command(*extra, services=services), self.bench.log("barewire-0"))
        self.bench.server = self.server
        self.bench.servers.append(self.server)
        for side in self.sides:
            self.wait_for(side)
        return self.sides

    def wait_for(self, side):
        def is_there():
            self.server.assert_runs()
            return "  ping " in self.server.output() and side.answers(side.v4) and side.curl_status() in (0, 7)

        wait_until(is_there, f"{side.spec} to answer", timeout=20)

    def refused(self, *words):
        """Does not start, says why in one line, and leaves the namespace as it was."""
        before = self.home.links()
        done = self.home.run([self.bench.binary, "serve", *map(str, words)], check=False, timeout=40)
        lines = done.stderr.splitlines()
        assert done.returncode == 2 and done.stdout == "" and len(lines) == 1, (done.returncode, lines)
        assert self.home.links() == before
        return lines[0]


@pytest.fixture
def several(bench, files):
    return Several(bench, files)


def transfer(side, files, name="20m"):
    """Down and up, in both families."""
    for family, address in (("v4", side.v4), ("v6", side.v6)):
        download(side.client, side.url(name, family), files / name)
        side.client.run(["/usr/bin/python3", HERE / "clients.py", "echo", address, ECHO, files / "1m"])


def transfer_down(side, files, name="3m"):
    download(side.client, side.url(name), files / name)


# ---- all at work ---------------------------------------------------------------------------------------------------


@pytest.mark.sanitize
@ON_EACH_SET
@pytest.mark.parametrize("workers", [1, 2])
def test_every_byte_on_all_at_once(several, files, kinds, workers):
    sides = several.serve(kinds, "--workers", workers)
    together(*[lambda side=side: transfer(side, files) for side in sides])
    several.server.stop()
    assert several.server.output().count("  device    ") == len(kinds)


@pytest.mark.sanitize
@ON_EACH_SET
def test_what_one_side_sets_the_other_gets(several, kinds):
    sides = several.serve(kinds)
    for side in sides:
        assert side.redis("SET", f"from-{side.number}", side.spec) == "OK"
    for side in sides:
        for other in sides:
            assert side.redis("GET", f"from-{other.number}") == other.spec


@ON_EACH_SET
def test_each_answers_for_its_own_addresses_only(several, kinds):
    """ARP, neighbour solicitations and pings on one link for an address of another are nobody's."""
    sides = several.serve(kinds)
    for side, other in itertools.permutations(sides, 2):
        for address in (other.v4, other.v6):
            # The kernel answers for all of its own addresses wherever it is asked (arp_ignore): not Barewire's matter.
            if not other.is_shared:
                assert not side.answers(address, tries=2), f"{address} answered by {side.spec}"
        for address in (side.v4, side.v6):
            assert side.answers(address, tries=2)


def test_an_address_is_on_one_link_also_for_who_knows_the_others_mac(several):
    """What comes to a device's Ethernet address for another device's IP address is dropped, and counted."""
    sides = several.serve(("packet", "packet"))
    for side, other in itertools.permutations(sides):
        shown = json.loads(several.home.ip(f"-j link show {side.end}").stdout)
        for address in (other.v4, other.v6):
            side.client.ip(f"route replace {address} dev {side.iface}")
            side.client.ip(f"neigh replace {address} lladdr {shown[0]['address']} dev {side.iface}")
            assert not side.answers(address, tries=3)
        assert side.curl_status(other.v4) == 28
        assert side.answers(side.v4) and side.curl_status() == 0
    counters = several.server.stop()
    assert counters["drop.not_for_us_ip"] >= 2 * (3 + 3 + 2)
    assert counters["tcp.reset_out"] == 0


def test_two_taps_of_one_kernel(several):
    """Which has a route to each address by its own TAP, and asks on the other one all the same."""
    one, other = several.serve(("tap", "tap"))
    for iface in ("all", "default", one.iface, other.iface):
        several.home.sysctl(f"net/ipv4/conf/{iface}/rp_filter", 0)
    for side, address in ((one, other.v4), (one, other.v6), (other, one.v4), (other, one.v6)):
        assert not side.answers(address, tries=2)
    assert one.answers(one.v6) and other.answers(other.v6)


def test_a_service_at_an_address_of_one_device(several, files):
    """The others refuse its port, each at its own address."""
    sides = several.serve(("packet", "xdp"), services=(f"--http 198.18.78.2:{HTTP}={files}", f"--echo {ECHO}"))
    assert sides[0].curl_status() == 7
    download(sides[1].client, sides[1].url("20m"), files / "20m")
    said = several.server.output()
    assert f"curl http://198.18.78.2:{HTTP}/" in said and f"curl http://198.18.77.2:{HTTP}/" not in said
    for side in sides:
        side.client.run(["/usr/bin/python3", HERE / "clients.py", "echo", side.v4, ECHO, files / "1m"])


@pytest.mark.parametrize("kinds", [("shared-xdp", "packet"), ("packet", "shared-xdp"), ("shared-xdp", "shared-packet"),
                                   ("shared-packet", "tap")],
                         ids=["shared-first", "shared-last", "both-shared", "shared-and-tap"])
def test_a_service_on_each_where_some_addresses_are_the_kernels(several, files, kinds):
    """The public one's pages, and a cache that only the back-end has: as in the documentation's example."""
    sides = several.serve(kinds, services=(f"--http 198.18.77.2:{HTTP}={files}", f"--resp 198.18.78.2:{RESP}"))
    transfer_down(sides[0], files)
    assert sides[1].redis("SET", "a", "b") == "OK"
    assert sides[1].curl_status() != 0
    assert "refused" in sides[0].client.run(["redis-cli", "-h", sides[0].v4, "-p", RESP, "PING"], check=False).stderr


def test_an_address_of_none_is_found_out_at_the_start(several):
    """Where some addresses are the kernel's, no sooner: and it is a device's, or nobody's."""
    several.make(("shared-xdp", "packet"))
    flags = [word for side in several.sides for word in side.flags()]
    assert "203.0.113.5" in several.refused(*flags, "--echo", f"203.0.113.5:{ECHO}")


def test_a_file_of_several_devices(several, files, tmp_path):
    """As `check` prints it from flags, read back."""
    several.make(("tap", "tap"))
    command = several.command()
    printed = several.home.run([command[0], "check", *command[2:]]).stdout
    assert "more_devices:" in printed
    (tmp_path / "several.yaml").write_text(printed)
    several.server = Server(several.home, [several.bench.binary, "serve", "-c", tmp_path / "several.yaml"],
                            several.bench.log("barewire-0"))
    several.bench.servers.append(several.server)
    for side in several.sides:
        several.wait_for(side)
        transfer(side, files, "1m")


# ---- one of them in trouble -----------------------------------------------------------------------------------------


@pytest.mark.sanitize
@pytest.mark.parametrize("kinds", [("packet", "xdp"), ("xdp", "packet"), ("shared-xdp", "shared-xdp")],
                         ids=["packet-and-xdp", "xdp-and-packet", "both-shared"])
def test_a_link_that_goes_down_leaves_the_others_serving(several, files, kinds):
    first, second = several.serve(kinds)
    for down, up in ((second, first), (first, second)):
        down.client.ip(f"link set {down.iface} down")
        assert not down.answers(down.v4)
        transfer(up, files, "3m")
        down.client.ip(f"link set {down.iface} up")
        down.client.ip(f"addr replace {down.client_v6}/64 dev {down.iface} nodad")  # gone with the link
        several.wait_for(down)
        transfer(down, files, "1m")


def test_rules_and_limits_are_for_all_that_are_shared(several):
    sides = several.serve(("shared-xdp", "shared-packet", "tap"))

    def steer(*words):
        return several.home.run([several.bench.binary, "steer", "--instance", several.server.pid, *words]).stdout

    assert re.findall(r"interface (s\d),", steer("status")) == ["s0", "s1"]
    assert "1 rule in force" in steer("block", "198.18.0.0/16")
    assert [side.curl_status() for side in sides] == [28, 28, 0]
    assert steer("status").count("block 198.18.0.0/16") == 2
    assert "1 rule removed, 0 not there" in steer("unblock", "198.18.0.0/16")
    assert [side.curl_status() for side in sides] == [0, 0, 0]
    steer("limit", "syns=1000")
    assert steer("status").count("1000 SYNs a second of one source") == 2
    assert several.server.stop()["steer.blocked"] > 0


def test_a_capture_has_the_packets_of_all(several, tmp_path):
    sides = several.serve(("packet", "xdp"))
    path = tmp_path / "all.pcapng"
    capture = several.home.start([several.bench.binary, "capture", "--instance", several.server.pid, path],
                                 stderr=subprocess.PIPE, text=True)
    assert capture.stderr.readline() == "capturing on packet:s0, xdp:s1; Ctrl-C ends it\n"
    for side in sides:
        assert side.answers(side.v4, tries=3) and side.answers(side.v6, tries=3)
    assert stop(capture, signal.SIGINT) == 0
    shown = several.home.run(["tcpdump", "-nr", path]).stdout
    for side in sides:
        for address, peer in ((side.v4, side.client_v4), (side.v6, side.client_v6)):
            assert f" {peer} > {address}: " in shown and f" {address} > {peer}: " in shown
    # Each packet is of the device that it came or went by.
    packets, _, _ = read_capture(path)
    for side in sides:
        own = {packet.device for packet in packets if socket.inet_aton(side.v4) in packet.bytes[26:34]}
        assert own == {side.spec}
    assert {(packet.way, packet.device) for packet in packets} == \
        {(way, side.spec) for way in ("in", "out") for side in sides}


# ---- connections that we open ---------------------------------------------------------------------------------------


def nginx(side, several, tmp_path):
    """At the client's address, with a line for each request: who asked."""
    own = tmp_path / f"nginx-{side.number}"
    own.mkdir()
    (own / "nginx.conf").write_text(
        f"daemon off; master_process off; user root; pid {own}/pid; error_log {own}/error; events {{}}"
        f"http {{ log_format who '$remote_addr'; access_log {own}/who who; keepalive_requests 1000000;"
        f"server {{ listen 8000; listen [::]:8000; root {several.files}; }} }}")
    side.client.start(["nginx", "-e", own / "error", "-c", own / "nginx.conf"])
    wait_until(lambda: side.client.run(["curl", "-s", f"http://{side.client_v4}:8000/1"], check=False, quiet=True)
               .returncode == 0, "nginx")
    return lambda: set((own / "who").read_text().split()) - {side.client_v4, side.client_v6}


@pytest.mark.sanitize
@pytest.mark.parametrize("workers", [1, 2])
def test_load_goes_out_by_the_device_that_leads_there(several, tmp_path, workers):
    """Also to a network behind a gateway of the second device's."""
    sides = several.make(("packet", "xdp"))
    askers = [nginx(side, several, tmp_path) for side in sides]
    sides[1].client.ip("addr add 203.0.113.1/32 dev lo")
    for urls, asked in ((["198.18.77.1"], [True, False]), (["198.18.78.1"], [False, True]),
                        (["[fd77:2::1]"], [False, True]), (["203.0.113.1"], [False, True]),
                        (["198.18.77.1", "198.18.78.1"], [True, True])):
        before = [len((tmp_path / f"nginx-{side.number}/who").read_text()) for side in sides]
        done = several.home.run([several.bench.binary, "load", *sides[0].flags(), *sides[1].flags(), "--route",
                                 f"203.0.113.0/24,{sides[1].client_v4}", "--workers", workers, "-c", 4, "-n", 400, "-q",
                                 "--json", tmp_path / "load.json", *[f"http://{host}:8000/1" for host in urls]])
        report = json.loads((tmp_path / "load.json").read_text())
        assert not any(report["errors"].values()), done.stdout
        after = [len((tmp_path / f"nginx-{side.number}/who").read_text()) for side in sides]
        assert [now > then for now, then in zip(after, before)] == asked
    for side, who in zip(sides, askers):
        assert who() <= {side.v4, side.v6}


# ---- what is refused --------------------------------------------------------------------------------------------------


REFUSED = {
    "an address twice": (["--dev", "tap:bwt0", "--addr", "192.0.2.2/24", "--dev", "tap:bwt1", "--addr", "192.0.2.2/24"],
                         "--addr: 192.0.2.2/24 is tap:bwt0's already"),
    "a network twice": (["--dev", "tap:bwt0", "--addr", "192.0.2.2/24", "--dev", "tap:bwt1", "--addr", "192.0.2.9/28"],
                        "--addr: 192.0.2.9/28 overlaps 192.0.2.2/24 of tap:bwt0"),
    "a device twice": (["--dev", "tap:bwt0", "--dev", "tap:bwt0", "--addr", "192.0.2.2/24"],
                       "--dev: tap:bwt0 is there already"),
    "a second tap without an address": (["--dev", "tap:bwt0", "--dev", "tap:bwt1"], "--dev: tap:bwt1 has no address"),
    "a second device that is not there": (["--dev", "tap:bwt0", "--dev", "packet:nope0"], "nope0"),
    "a second tap whose name is taken": (["--dev", "tap:bwt0", "--dev", "tap:s0", "--addr", "192.0.2.2/24"], "s0"),
    "a first device that is not there": (["--dev", "xdp:nope0", "--dev", "tap:bwt0"], "nope0"),
    "an address of neither": (["--dev", "tap:bwt0", "--dev", "tap:bwt1", "--addr", "192.0.2.2/24", "--resp", "192.0.2.3:1"],
                              "192.0.2.3 is no address of ours"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(several, case):
    flags, said = REFUSED[case]
    several.make(("packet",))  # s0 is there
    assert said in several.refused(*flags, "--echo", ECHO)


@pytest.mark.parametrize("second", ["packet:nope0", "memif:/no/such/folder/m.sock", "vhost:/etc/passwd"])
def test_the_first_device_is_left_clean(several, second):
    """No program of ours on the interface that would have been shared, and it can be had the next moment."""
    (side,) = several.make(("shared-xdp",))
    several.refused("--dev", side.spec, "--dev", second, "--addr", "192.0.2.2/24", "--echo", ECHO)
    shown = several.home.ip(f"-d link show {side.end}").stdout
    assert "xdp" not in shown
    several.server = Server(several.home, several.command(), several.bench.log("barewire-0"))
    several.bench.servers.append(several.server)
    several.wait_for(side)


def test_a_flood_has_one_device(several):
    one, other = several.make(("packet", "packet"))
    done = several.home.run([several.bench.binary, "load", *one.flags(), *other.flags(), "--flood", "syn", 100, "-d", "1s",
                             f"http://{one.client_v4}:80/"], check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"barewire: error: --dev: a flood goes out by one device; leave {other.spec} out"]
