# SPDX-License-Identifier: BSD-3-Clause
"""Frames that no kernel would send, and floods of them, from the client's end of the link."""

import json
import re
import signal
import socket
import subprocess
import time

from scapy.all import IP, Ether, IPv6

from conftest import BINARY, FAMILIES, HTTP, V4, V4_CLIENT, V6, V6_CLIENT
from lab import stop

TOOLS = BINARY.parent.parent / "tests/tools"


class Wire:
    """Frames, as they are, from the client's end of the link."""

    def __init__(self, bench):
        with bench.client:
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            self.socket.bind((bench.iface, 0))
        self.mac = self.socket.getsockname()[4].hex(":")
        known = bench.client.ip(f"neigh show {V4}").stdout.split()
        self.peer = known[known.index("lladdr") + 1]
        self.eth = Ether(src=self.mac, dst=self.peer)
        self.v4 = self.eth / IP(src=V4_CLIENT, dst=V4)
        self.v6 = self.eth / IPv6(src=V6_CLIENT, dst=V6)

    def send(self, *frames):
        for number, frame in enumerate(frames):
            if number % 32 == 31:
                time.sleep(0.005)  # what the device's ring has no room for is nobody's test
            # AF_PACKET wants a whole Ethernet header and no more than the MTU.
            self.socket.send(bytes(frame)[:1514].ljust(14, b"\0"))

    def close(self):
        self.socket.close()


class Flood:
    """Our flooder at work on the client's end of the link."""

    def __init__(self, bench, family, kind, sources, *options):
        address = FAMILIES[family]
        bench.client.run(["ping", "-c", 3, "-i", 0.2, "-W", 2, address], quiet=True)
        neighbours = bench.client.ip(f"neigh show {address} dev {bench.iface}", quiet=True).stdout
        mac = re.search(r"lladdr (\S+)", neighbours)[1]
        self.process = bench.client.start(
            [TOOLS / "flood", "--iface", bench.iface, "--mac", mac, "--to", address, "--port", HTTP, "--from", sources[family],
             "--kind", kind, "--seconds", 60, *options], stdout=subprocess.PIPE, text=True)

    def end(self):
        assert stop(self.process, signal.SIGINT) == 0
        said = json.loads(self.process.stdout.read())
        rate = said["packets"] / said["seconds"]
        print(f"flood: {said['packets']} packets in {said['seconds']} s, {rate / 1e6:.3f} Mpps", flush=True)
        return said["packets"]
