# SPDX-License-Identifier: BSD-3-Clause
"""A guest's kernel and its virtio_net driver at the other end of `vhost:`, and the guest's own clients."""

import re
import signal
import subprocess

import pytest

from conftest import BINARY
from guest import ECHO, FAMILIES, HTTP, RESP, V4, V6, VhostGuest
from image import first_files
from lab import Failed, Namespace, stop, wait_until

QEMU_ROLE = {"server": "client", "client": "server"}


class Host:
    """Barewire on the host, and a guest behind it."""

    def __init__(self, ns, folder, image, files):
        self.ns, self.folder, self.image, self.files = ns, folder, image, files
        self.socket, self.log = folder / "vhost.sock", folder / "barewire.log"
        self.guest = self.process = None

    def serve(self, role, *options):
        with open(self.log, "wb") as out:
            self.process = self.ns.start(
                [BINARY, "serve", "--dev", f"vhost:{self.socket},role={role}", "--addr", f"{V4}/24", "--addr", f"{V6}/64",
                 "--http", f"{HTTP}={self.files}", "--resp", RESP, "--echo", ECHO, *map(str, options)],
                stdout=out, stderr=subprocess.STDOUT)
        wait_until(lambda: "curl http" in self.output(), "the banner", timeout=30)

    def output(self):
        if self.process.poll() not in (None, 0):
            raise Failed(f"barewire ended by itself: {self.log.read_text(errors='replace')}")
        return self.log.read_text(errors="replace")

    def boot(self, role, queues=1, mtu=1500):
        (self.folder / "initrd").write_bytes(first_files(self.image))
        VhostGuest.mtu = mtu
        self.guest = VhostGuest(self.ns, self.folder, role=QEMU_ROLE[role], socket_path=self.socket, image=self.image,
                                build=BINARY.parent.parent, www=self.files, queues=queues)
        self.guest.ready()
        self.reach()
        return self.guest

    def reach(self):
        self.guest.run(f"for i in 1 2 3 4 5 6 7 8 9; do ping -c 1 -W 2 {V4} && break; done")

    def stop(self):
        assert stop(self.process, timeout=20) == 0
        said = self.output()
        assert re.search(r"\b0 lost\b", said)
        return {name: int(value) for name, value in re.findall(r"(?m)^  ([a-z]+\.[a-z0-9_]+) +(\d+)", said)}


@pytest.fixture
def host(request, guests, image, files, tmp_path):
    guests.remove()
    ns = Namespace("v")
    made = Host(ns, tmp_path, image, files)
    try:
        yield made
    finally:
        request.node.bw_guest = made.guest
        if made.log.exists():
            print(made.log.read_text(errors="replace")[-6000:])
        if made.guest is not None:
            made.guest.off()
        ns.remove()


def exchange(guest, name="10m"):
    """Down by two clients and there and back by a third, in each family, every byte compared in the guest."""
    for family, address in FAMILIES.items():
        url = guest.url(family, name)
        guest.run(f"curl -sSg --fail '{url}' | cmp - /www/{name}")
        guest.run(f"wget -q -O - '{url}' | cmp - /www/{name}")
        guest.run(f"nc {address} {ECHO} </www/{name} | cmp - /www/{name}")
        guest.run(f"ping -c 3 -s 4000 {address}")


@pytest.mark.deadline(240)
@pytest.mark.parametrize("role", QEMU_ROLE)
def test_ten_megabytes_each_way(host, role):
    """With the checksums that the guest leaves undone, and none that it takes for done; then the guest goes."""
    host.serve(role)
    guest = host.boot(role)
    exchange(guest)
    guest.off()
    wait_until(lambda: "link is down" in host.output().partition("link is up")[2], "the link to be down")
    counters = host.stop()
    assert counters.get("drop.l4_checksum", 0) == counters.get("drop.ip_checksum", 0) == 0


@pytest.mark.deadline(240)
@pytest.mark.parametrize("role", QEMU_ROLE)
def test_the_back_end_is_killed_and_comes_back(host, role):
    """The guest does not boot anew for that: its NIC works again when there is a new Barewire."""
    host.serve(role)
    guest = host.boot(role)
    stop(host.process, signal.SIGKILL)
    host.serve(role)
    wait_until(lambda: "link is up" in host.output(), "the link to be up", timeout=20)
    host.reach()
    exchange(guest, "1m")
    host.stop()


@pytest.mark.deadline(240)
@pytest.mark.parametrize("queues", [1, 2])
def test_two_workers(host, queues):
    """Of a guest that has as many queues, and of one that has fewer."""
    host.serve("server", "--workers", 2)
    guest = host.boot("server", queues)
    exchange(guest, "1m")
    lap = " ".join(f"curl -sSg --fail '{guest.url(family, '100k')}' | cmp - /www/100k &" for family in FAMILIES for _ in "12")
    guest.run(f"for i in 1 2 3 4 5; do {lap} wait; done")
    counters = host.stop()
    assert counters.get("drop.l4_checksum", 0) == 0 and counters.get("drop.tx_backlog", 0) < 10


@pytest.mark.deadline(240)
def test_jumbo_frames(host):
    """An MTU of 9000, which the guest's driver is told by QEMU, over its buffers of less."""
    host.serve("server", "--mtu", 9000)
    guest = host.boot("server", mtu=9000)
    assert "mtu 9000" in guest.run(f"ip link show {guest.iface}")
    exchange(guest, "1m")
    guest.run(f"ping -c 3 -s 8900 {V4}")
    counters = host.stop()
    assert counters["tx.bytes"] / counters["tx.packets"] > 2000
