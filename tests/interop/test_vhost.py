# SPDX-License-Identifier: BSD-3-Clause
"""vhost-user: Barewire as back-end and front-end, with itself, DPDK's testpmd and a peer that is up to no good."""

import concurrent.futures
import json
import pathlib
import random
import re
import signal
import struct
import time

import pytest
from scapy.all import ARP, Ether, ICMP, IP, UDP

import vhost
from clients import download
from conftest import ECHO, FAMILIES, HTTP, V4, V4_CLIENT, V6, Server
from lab import stop, wait_until
from test_devices import hugepages
from test_faults import Download

HERE = pathlib.Path(__file__).resolve().parent
ENDS = [("vhost", "server"), ("vhost", "client"), ("virtio", "client"), ("virtio", "server")]
each_end = pytest.mark.parametrize("end, role", ENDS)


def other(end, role, path, queues=1):
    """testpmd's device for the other end."""
    if end == "vhost":
        return f"net_virtio_user0,path={path},queues={queues},queue_size=1024,server={int(role == 'client')}"
    return f"net_vhost0,iface={path},queues={queues},client={int(role == 'server')}"


def serve(bench, files, end, role, *extra, options=""):
    """Barewire at one end, with nobody at the other."""
    bench.client, bench.home, bench.iface = bench.namespace("c"), bench.namespace("s"), "bwv0"
    bench.socket = bench.tmp_path / "v.sock"
    bench.server = Server(bench.home, [bench.binary, "serve", "--dev", f"{end}:{bench.socket},role={role}{options}",
                                       "--addr", f"{V4}/24", "--addr", f"{V6}/64", "--http", f"{HTTP}={files}", "--echo",
                                       ECHO, *map(str, extra)], bench.log("barewire-0"))
    bench.servers.append(bench.server)
    wait_until(lambda: "curl http" in bench.server.output(), "the banner", timeout=30)
    return bench.server


def bridge(bench, end, role, queues=1):
    bench.bridge(1500, queues=queues, peer=other(end, role, bench.socket, queues))
    bench.ready()


def links(server):
    return re.findall(r"link is (up|down)\n", server.output().partition("curl http")[2])


@each_end
def test_bulk_with_testpmd(bench, files, end, role):
    """20 MiB down and there and back, in both families, compared byte by byte; fragments; a banner without false claims."""
    server = serve(bench, files, end, role)
    assert "link is down" in server.output()
    bridge(bench, end, role)
    for family, address in FAMILIES.items():
        download(bench.client, bench.url(family, "20m"), files / "20m")
        bench.client.run(["/usr/bin/python3", HERE / "clients.py", "echo", address, ECHO, files / "20m"])
        bench.client.run(["ping", "-c", 3, "-i", 0.05, "-W", 3, "-s", 4000, address])
    software = re.search(r"  software +(.*)", server.output())[1]
    assert software == "RX checksum, IPv4 checksum, TCP/UDP checksum, " + ("TSO" if end == "vhost" else "VLAN, TSO")
    assert links(server) == ["up"]
    counters = server.stop()
    assert counters["drop.l4_checksum"] == counters["drop.ip_checksum"] == 0
    assert not bench.socket.exists() or (end, role) in (("vhost", "client"), ("virtio", "client"))


@pytest.mark.sanitize
@each_end
def test_peer_is_killed_and_comes_back(bench, files, end, role):
    """The link goes down and up again, and a download over it goes on where it was."""
    server = serve(bench, files, end, role)
    bridge(bench, end, role)
    fetched = Download(bench, files, "v4")
    time.sleep(0.5)
    stop(bench.testpmd, signal.SIGKILL)
    wait_until(lambda: links(server) == ["up", "down"], "the link to be down", timeout=3)
    wait_until(lambda: bench.iface not in bench.client.links(), "the TAP to go")
    if role == "client":
        bench.socket.unlink()  # which it had no time for
    time.sleep(2)
    begun = time.monotonic()
    bridge(bench, end, role)
    back = time.monotonic()
    took = fetched.resumed_at(back) - back
    fetched.finish()
    assert took < 1 + (back - begun)
    assert links(server) == ["up", "down", "up"]


def test_a_guest_with_too_many_queues(bench, files):
    """What it sends by those that nobody looks at is lost, and somebody is told so, once."""
    server = serve(bench, files, "vhost", "server")
    bench.bridge(1500, queues=2, peer=other("vhost", "server", bench.socket, 2))
    warning = "the guest uses more queues than the 1 served here"
    wait_until(lambda: warning in server.output(), "the warning")
    assert server.output().count(warning) == 1


def test_a_server_that_goes_by_another_name(bench, files):
    """A back-end that made the socket by way of a symbolic link, as those in /var/run do, is the one that is meant."""
    serve(bench, files, "virtio", "client")
    (bench.tmp_path / "by").symlink_to(bench.tmp_path)
    bench.bridge(1500, peer=other("virtio", "client", bench.tmp_path / "by/v.sock"))
    bench.ready()
    download(bench.client, bench.url("v4", "1m"), files / "1m")


@pytest.mark.sanitize
@pytest.mark.parametrize("end, role, queues", [("vhost", "server", 2), ("vhost", "server", 1), ("virtio", "client", 2)])
def test_transfers_of_two_workers(bench, files, end, role, queues):
    """Also where the guest uses fewer queues than there are workers: the second then sends by the first one's."""
    server = serve(bench, files, end, role, "--workers", 2, options=",queues=2")
    assert "  queues    2 RX of " in server.output()
    bridge(bench, end, role, queues)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(download, bench.client, bench.url(family, name), files / name)
                for name in ("1", "1m", "20m", "1m", "1m", "1m") for family in FAMILIES]
        for job in jobs:
            job.result()
    for address in FAMILIES.values():
        bench.client.run(["/usr/bin/python3", HERE / "clients.py", "echo", address, ECHO, files / "1m"])
    counters = server.stop()
    assert counters["drop.tx_backlog"] < 10  # before the peer was there


def load(bench, device, *options, url="3m", timeout=60):
    """`barewire load` at the other end. Returns its report."""
    out = bench.tmp_path / "load.json"
    out.unlink(missing_ok=True)
    said = bench.home.run([bench.binary, "load", "--dev", device, "--addr", f"{V4_CLIENT}/24", "--json", out, "-q", *options,
                           f"http://{V4}:{HTTP}/{url}"], timeout=timeout)
    assert "lost" not in said.stdout + said.stderr and "AddressSanitizer" not in said.stdout + said.stderr
    return json.loads(out.read_text())


OTHER_END = {"vhost": "virtio", "virtio": "vhost"}
OTHER_ROLE = {"server": "client", "client": "server"}


@pytest.mark.sanitize
@each_end
def test_both_ends_are_barewires(bench, files, end, role):
    """Serve at one, load at the other, twice: each answer is whole, none fails, and no buffer is lost at either."""
    server = serve(bench, files, end, role)
    for _ in range(2):
        report = load(bench, f"{OTHER_END[end]}:{bench.socket},role={OTHER_ROLE[role]}", "-c", 4, "-n", 20)
        assert report["responses"] == 20 and not any(report["errors"].values()), report
        assert report["bytes_in"] >= 20 * (3 << 20)
    wait_until(lambda: links(server)[-1] == "down", "the link to be down")
    server.stop()


def test_jumbo_frames(bench, files):
    """An MTU of 9000 at both: frames are chains of buffers at the back-end and lie in one at the front-end."""
    server = serve(bench, files, "vhost", "server", "--mtu", 9000)
    report = load(bench, f"virtio:{bench.socket}", "--mtu", 9000, "-c", 1, "-n", 20)
    assert report["responses"] == 20 and not any(report["errors"].values())
    counters = server.stop()
    print(counters["tx.bytes"], "bytes in", counters["tx.packets"], "packets")
    assert counters["tx.bytes"] / counters["tx.packets"] > 6000


def test_hugepages_are_shared(bench, files):
    """With hugepages the front-end's memory is in few enough pieces for the peer to map."""
    with hugepages(384):
        server = serve(bench, files, "virtio", "server")
        assert " mbufs, hugepages" in server.output()
        report = load(bench, f"vhost:{bench.socket},role=client", "-c", 4, "-n", 20)
        assert report["responses"] == 20 and not any(report["errors"].values())
        server.stop()


# ---- what goes wrong -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["vhost", "virtio"])
def test_a_path_in_use(bench, files, end):
    """The second server at a path is refused in one line that names it, and the first one does not notice."""
    server = serve(bench, files, "vhost", "server")
    bridge(bench, "vhost", "server")
    refused = bench.home.run([bench.binary, "serve", "--dev", f"{end}:{bench.socket},role=server", "--addr", f"{V4}/24",
                              "--echo", ECHO], check=False)
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1 and f"another process listens on {bench.socket}" in refused.stderr
    download(bench.client, bench.url("v4", "1m"), files / "1m")
    assert links(server) == ["up"]


@pytest.mark.parametrize("end", ["vhost", "virtio"])
def test_a_stale_socket_is_replaced(bench, files, end):
    """One whose process was killed leaves its file, and the next one serves there."""
    server = serve(bench, files, end, "server")
    server.is_checked = True
    bench.server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    assert bench.socket.exists()
    serve(bench, files, end, "server")
    bridge(bench, end, "server")


def test_who_does_not_speak_vhost_user(bench):
    """A front-end that is given another service's socket says so once, tries again at no cost, and ends when it is told to."""
    ns = bench.namespace("s")
    path = bench.tmp_path / "v.sock"
    ns.start(["/usr/bin/python3", "-c",
              "import socket, sys\ns = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen()\n"
              "while True: c = s.accept()[0]; c.sendall(b'220 ready\\r\\n' * 9); c.close()", path])
    wait_until(path.exists, "the socket")
    server = Server(ns, [bench.binary, "serve", "--dev", f"virtio:{path}", "--addr", f"{V4}/24", "--echo", ECHO],
                    bench.log("barewire-0"))
    bench.servers.append(server)
    wait_until(lambda: "does not speak vhost-user" in server.output(), "the warning")
    wait_until(pathlib.Path(f"/run/barewire/{server.pid}.sock").exists, "the end of the start")
    time.sleep(0.5)
    descriptors = len(list(pathlib.Path(f"/proc/{server.pid}/fd").iterdir()))
    time.sleep(3)
    assert server.output().count("does not speak vhost-user") == 1
    assert len(list(pathlib.Path(f"/proc/{server.pid}/fd").iterdir())) <= descriptors + 1  # one asks at the moment
    server.stop()


# ---- a guest that is up to no good ---------------------------------------------------------------------------

GUEST_MAC, OUR_MAC = "02:00:00:00:00:09", "02:00:00:00:00:01"
ARRIVE = bytes(Ether(src=GUEST_MAC, dst="ff:ff:ff:ff:ff:ff") / ARP(hwsrc=GUEST_MAC, psrc=V4_CLIENT, pdst=V4))
PING = bytes(Ether(src=GUEST_MAC, dst=OUR_MAC) / IP(src=V4_CLIENT, dst=V4) / ICMP() / bytes(600))
DATAGRAM = bytes(Ether(src=GUEST_MAC, dst=OUR_MAC) / IP(src=V4_CLIENT, dst=V4) / UDP(sport=4000, dport=ECHO) / bytes(100))


def chain(peer, *fields, slot=0, ahead=1):
    peer.describe(vhost.SENDS, slot, *fields)
    peer.offer(vhost.SENDS, slot, ahead)


def random_rings(peer, seed):
    rng = random.Random(seed)
    for _ in range(200):
        at = rng.randrange(2 * vhost.RING_BYTES - 16)
        peer.memory[at:at + 16] = rng.randbytes(16)
        peer.offer(rng.randrange(2), rng.randrange(2 * vhost.SLOTS), rng.choice((1, 1, 1, 300)))


SOMEWHERE = vhost.GUEST + vhost.BUFFERS
NASTY = {
    "an address that is nobody's": lambda p: chain(p, 1 << 62, 100),
    "an address that wraps": lambda p: chain(p, -64, 256),
    "a length beyond the memory": lambda p: chain(p, SOMEWHERE, -1),
    "a length of none": lambda p: chain(p, SOMEWHERE, 0),
    "half a header": lambda p: chain(p, SOMEWHERE, 5),
    "a header and no packet": lambda p: chain(p, SOMEWHERE, vhost.HEADER),
    "a chain without an end": lambda p: chain(p, SOMEWHERE, 2000, vhost.NEXT, 0),
    "a chain out of the table": lambda p: chain(p, SOMEWHERE, 100, vhost.NEXT, 65535),
    "a head out of the table": lambda p: p.offer(vhost.SENDS, 65535),
    "many more than there are": lambda p: chain(p, *p.place(0, PING), ahead=40000),
    "a buffer to write to": lambda p: chain(p, SOMEWHERE, 100, vhost.WRITE),
    "a table that is nobody's": lambda p: chain(p, 1 << 62, 1600, vhost.IN_TABLE),
    "a table of half a descriptor": lambda p: chain(p, SOMEWHERE, 8, vhost.IN_TABLE),
    "a table of too many": lambda p: chain(p, SOMEWHERE, -16, vhost.IN_TABLE),
    "a table of itself": lambda p: chain(p, vhost.GUEST + vhost.RING_BYTES, 16, vhost.IN_TABLE),
    "buffers for us that are nobody's": lambda p: [p.describe(vhost.TAKES, 0, 1 << 62, 2048, vhost.WRITE),
                                                   p.offer(vhost.TAKES, 0), p.send(ARRIVE), p.send(PING)],
    "buffers for us of no length": lambda p: [p.describe(vhost.TAKES, 0, SOMEWHERE, 0, vhost.WRITE | vhost.NEXT, 0),
                                              p.offer(vhost.TAKES, 0), p.send(ARRIVE), p.send(PING)],
    "a checksum beyond the packet": lambda p: [p.send(frame, struct.pack("<BBHHHHH", 1, 0, 0, 0, start, offset, 0))
                                               for frame in (ARRIVE, PING, DATAGRAM)
                                               for start, offset in ((65535, 65535), (1400, 2), (40, 60000), (0, 0))],
    "segments of nothing": lambda p: [p.send(DATAGRAM, struct.pack("<BBHHHHH", 1, gso, 65535, size, 34, 6, 0))
                                      for gso in (1, 3, 4, 0x81, 255) for size in (0, 1, 65535)],
    **{f"random rings {seed}": lambda p, seed=seed: random_rings(p, seed) for seed in range(6)},
}

MESSAGES = {
    "nothing": lambda p: None,
    "half a message": lambda p: p.control.sendall(b"\1\0\0\0\1\0"),
    "less than was promised": lambda p: p.say(vhost.SET_FEATURES, bytes(4), size=8),
    "a message of 4 GiB": lambda p: p.say(vhost.SET_FEATURES, bytes(64), size=0xffffffff),
    "an unknown request": lambda p: p.say(4711, bytes(8)),
    "all features": lambda p: p.say(vhost.SET_FEATURES, b"\xff" * 8),
    "rings before memory": lambda p: [p.negotiate(), p.ring(vhost.SENDS)],
    "more regions than fit": lambda p: [p.negotiate(), p.say(vhost.SET_MEM_TABLE, struct.pack("<II", 200, 0) + bytes(200))],
    "a region without its file": lambda p: [p.negotiate(), p.say(vhost.SET_MEM_TABLE, struct.pack(
        "<IIQQQQ", 1, 0, vhost.GUEST, vhost.MEMORY, vhost.USER, 0))],
    "a region of all there is": lambda p: [p.negotiate(), p.say(vhost.SET_MEM_TABLE, struct.pack(
        "<IIQQQQ", 1, 0, 0, (1 << 64) - 4096, 0, 4096), [p.fd])],
    "a ring of no slots": lambda p: [p.negotiate(), p.share(), p.ring(vhost.SENDS, 0)],
    "a ring of too many slots": lambda p: [p.negotiate(), p.share(), p.ring(vhost.SENDS, 65536)],
    "a ring that is nobody's": lambda p: [p.negotiate(), p.share(), p.say(vhost.SET_VRING_NUM, struct.pack("<II", 4000, 256))],
    "a kick without its file": lambda p: [p.negotiate(), p.share(), p.say(vhost.SET_VRING_KICK, struct.pack("<Q", 1))],
    "a ring outside of the memory": lambda p: [p.negotiate(), p.share(), p.say(vhost.SET_VRING_ADDR, struct.pack(
        "<IIQQQQ", 1, 0, 1 << 62, 1 << 61, 1 << 60, 0))],
}


@pytest.mark.sanitize
@pytest.mark.deadline(240)
def test_a_guest_that_corrupts_its_rings(bench, files):
    """Whatever it puts there and says, Barewire does not end, and serves the next one."""
    server = serve(bench, files, "vhost", "server", "--mac", OUR_MAC)
    for name, deed in NASTY.items():
        print(name, flush=True)
        with vhost.Peer(bench.socket) as peer:
            peer.take_all()
            peer.send(ARRIVE)
            wait_until(lambda: peer.used(vhost.SENDS) == 1, f"a good packet before {name}", timeout=5)
            deed(peer)
            time.sleep(0.1)
            server.assert_runs()
    for name, deed in MESSAGES.items():
        print(name, flush=True)
        with vhost.Peer(bench.socket, is_ready=False) as peer:
            try:
                deed(peer)
            except (AssertionError, OSError) as error:
                print(error)
            time.sleep(0.1)
            server.assert_runs()
    report = load(bench, f"virtio:{bench.socket}", "-c", 4, "-n", 20)
    assert report["responses"] == 20 and not any(report["errors"].values())
    server.stop()


@pytest.mark.sanitize
def test_a_guest_that_leaves_in_full_traffic(bench, files):
    """Many times, with packets on their way in both directions: no buffer is lost, and the next one is served."""
    server = serve(bench, files, "vhost", "server", "--mac", OUR_MAC)
    for life in range(30):
        with vhost.Peer(bench.socket) as peer:
            peer.take_all()
            peer.send(ARRIVE)
            until = time.monotonic() + 0.05 + life % 10 / 200
            while time.monotonic() < until:
                if (peer.sent - peer.used(vhost.SENDS)) % 65536 < vhost.SLOTS - 1:
                    peer.send(PING)
                if peer.used(vhost.TAKES) and life % 3 == 0:
                    peer.offer(vhost.TAKES, life % vhost.SLOTS)
        server.assert_runs()
    report = load(bench, f"virtio:{bench.socket}", "-c", 4, "-n", 20)
    assert report["responses"] == 20 and not any(report["errors"].values())
    counters = server.stop()
    assert counters["icmp.echo"] > 1000


def test_the_end_does_not_wait_for_a_peer(bench, files):
    """SIGTERM while a front-end owes the rest of a message: the end is as quick and as clean as without it."""
    server = serve(bench, files, "vhost", "server")
    with vhost.Peer(bench.socket, is_ready=False) as peer:
        peer.say(vhost.SET_FEATURES, size=8)
        time.sleep(0.2)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 5
