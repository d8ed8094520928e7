# SPDX-License-Identifier: BSD-3-Clause
"""What the device alone can carry: DPDK's own testpmd on the same memif, with packets of the same size."""

import re
import subprocess
import time

import machine
from place import CLIENT_CPU, DISCARD, ECHO, SERVER_CPU, Barewire, Wrong, wait_until

OURS, THEIRS, OUR_MAC, THEIR_MAC = "198.18.77.3", "198.18.77.2", "02:00:00:00:00:03", "02:00:00:00:00:02"
MEMORY = 256  # MiB
PACKET = 64  # bytes, without the checksum
UNDER_WAY = 8  # bursts of 32 that go round: half a ring


def memory():
    """As Barewire chooses: hugepages where enough of them are free."""
    free = int((machine.PAGES / "free_hugepages").read_text()) if machine.PAGES.exists() else 0
    return ["--in-memory", "-m", MEMORY] if free * 2 >= MEMORY else ["--no-huge", "--no-shconf", "-m", MEMORY]


class Testpmd:
    """One on a CPU, on the memif, with one port; told what to do as a person would tell it."""

    def __init__(self, place, role, cpu, mode, peer_port=DISCARD):
        self.log = place.folder / f"testpmd-{role}.log"
        mac, peer = (THEIR_MAC, OUR_MAC) if role == "server" else (OUR_MAC, THEIR_MAC)
        argv = ["stdbuf", "-oL", "dpdk-testpmd", "--lcores", f"0@{cpu},1@{cpu}", "--no-pci", *memory(),
                "--no-telemetry", "--log-level=error", "--file-prefix", f"{place.folder.name}-{role}",
                "--vdev", f"net_memif0,role={role},socket={place.socket},socket-abstract=no,mac={mac}", "--",
                "-i", f"--forward-mode={mode}", "--total-num-mbufs=16384", f"--eth-peer=0,{peer}", f"--txpkts={PACKET}",
                f"--tx-ip={OURS},{THEIRS}", f"--tx-udp=40000,{peer_port}"]
        with open(self.log, "wb") as out:
            self.process = place.client.start(argv, stdin=subprocess.PIPE, stdout=out, stderr=out)
        self.prompts = 0
        self.tell(None)

    def tell(self, command):
        """Returns what it said."""
        before = self.log.stat().st_size
        if command:
            self.process.stdin.write(f"{command}\n".encode())
            self.process.stdin.flush()
        self.prompts += 1

        def answered():
            if self.process.poll() is not None:
                raise Wrong(f"testpmd has ended:\n{self.log.read_text()[-2000:]}")
            return self.log.read_text().count("testpmd> ") >= self.prompts

        wait_until(answered, f"testpmd to {command or 'start'}", timeout=30, every=0.02)
        return self.log.read_text()[before:]

    def received(self):
        said = self.tell("show port stats 0")
        return int(re.search(r"RX-packets: (\d+)", said)[1])

    def packets(self, seconds):
        """Received a second, for so long."""
        before, began = self.received(), time.monotonic()
        time.sleep(seconds)
        return (self.received() - before) / (time.monotonic() - began)

    def finish(self):
        self.process.stdin.write(b"quit\n")
        self.process.stdin.flush()
        self.process.wait(20)


def figures(packets):
    if packets < 1000:
        raise Wrong(f"{packets:.0f} packets a second: nothing went round")
    return {"mpps": packets / 1e6}


def all_datagrams(said):
    """What was received went to the service, but for a few packets of neighbour discovery."""
    packets, datagrams = (int(re.search(rf"{name}\s+(\d+)", said)[1]) for name in ("rx.packets", "udp.datagrams_in"))
    if datagrams < packets - 100:
        raise Wrong(f"of {packets} packets {datagrams} were datagrams for the service:\n{said[-2000:]}")


def resolve(client):
    """Bursts to be answered, so that the server asks by ARP where to, which icmpecho tells it; until a whole one is."""
    for _ in range(30):
        before = client.received()
        client.tell("start tx_first 1")
        time.sleep(0.2)
        client.tell("stop")
        if client.received() - before >= 32:
            return
    raise Wrong("the server does not send packets back")


def end(client, server):
    client.tell("stop")
    client.finish()
    server.finish()


def serve_testpmd(mode):
    def serve(place):
        place.link("memif", 1500, False)
        return Testpmd(place, "server", SERVER_CPU, mode)

    return serve


def serve_barewire(place):
    return Barewire(place, "memif")


def started(serve, place):
    server = serve(place)
    place.has_hugepages = getattr(server, "has_hugepages", None)
    if isinstance(server, Testpmd):
        server.tell("start")
    return server


def receive(serve):
    """testpmd sends as fast as it can; counted is what the server has received."""
    def measure(place, seconds):
        server = started(serve, place)
        client = Testpmd(place, "client", CLIENT_CPU, "txonly")
        client.tell("start")
        time.sleep(0.2)
        if isinstance(server, Testpmd):
            packets = server.packets(seconds)
        else:
            server.rates()
            time.sleep(seconds)
            packets = server.packets()
        end(client, server)
        if isinstance(server, Barewire):
            all_datagrams(server.log.read_text())
        return figures(packets)

    return measure


def forward(serve):
    """Some packets go round and round: testpmd at the client turns each about and sends it again."""
    def measure(place, seconds):
        server = started(serve, place)
        client = Testpmd(place, "client", CLIENT_CPU, "icmpecho", peer_port=ECHO)
        resolve(client)
        client.tell("set fwd 5tswap")
        client.tell(f"start tx_first {UNDER_WAY}")
        time.sleep(0.2)
        packets = client.packets(seconds)
        end(client, server)
        return figures(packets)

    return measure
