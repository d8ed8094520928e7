# SPDX-License-Identifier: BSD-3-Clause
"""A vhost-user front-end without a driver: the rings and descriptors that it offers are what a test makes of them."""

import array
import mmap
import os
import socket
import struct

GET_FEATURES, SET_FEATURES, SET_OWNER, SET_MEM_TABLE = 1, 2, 3, 5
SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, SET_VRING_KICK, SET_VRING_CALL = 8, 9, 10, 12, 13
GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES, SET_VRING_ENABLE = 15, 16, 18
VERSION_1, INDIRECT, HAS_PROTOCOL = 1 << 32, 1 << 28, 1 << 30
NEXT, WRITE, IN_TABLE = 1, 2, 4  # of a descriptor

SLOTS, BUFFER, HEADER = 256, 2048, 12
GUEST, USER = 0x1000_0000, 0x7000_0000_0000  # where the memory is to the guest, and to its process
TAKES, SENDS = 0, 1  # the rings
RING_BYTES = 0x4000
AVAIL, USED = 0x1000, 0x2000  # in a ring, behind its descriptors
BUFFERS = 2 * RING_BYTES
MEMORY = BUFFERS + 2 * SLOTS * BUFFER


class Peer:
    """Connects, and is ready to send and take packets. `say()` may be given nonsense."""

    def __init__(self, path, is_ready=True):
        self.control = socket.socket(socket.AF_UNIX)
        self.control.settimeout(10)
        self.control.connect(str(path))
        self.fd = os.memfd_create("guest")
        os.ftruncate(self.fd, MEMORY)
        self.memory = mmap.mmap(self.fd, MEMORY)
        self.events = [os.eventfd(0) for _ in range(4)]
        self.sent = 0
        if is_ready:
            self.negotiate()
            self.share()
            for ring in (TAKES, SENDS):
                self.ring(ring)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.control.close()
        self.memory.close()
        for fd in (self.fd, *self.events):
            os.close(fd)

    # ---- messages ----------------------------------------------------------------------------------------------

    def say(self, request, body=b"", fds=(), size=None):
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        head = struct.pack("<III", request, 1, len(body) if size is None else size)
        self.control.sendmsg([head + body], rights)

    def ask(self, request):
        self.say(request)
        answer = self.control.recv(20, socket.MSG_WAITALL)
        assert len(answer) == 20, "it has hung up"
        return struct.unpack("<IIIQ", answer)[3]

    def negotiate(self):
        assert self.ask(GET_FEATURES) & VERSION_1
        self.say(SET_OWNER)
        self.ask(GET_PROTOCOL_FEATURES)
        self.say(SET_PROTOCOL_FEATURES, bytes(8))
        self.say(SET_FEATURES, struct.pack("<Q", VERSION_1 | INDIRECT | HAS_PROTOCOL))

    def share(self):
        self.say(SET_MEM_TABLE, struct.pack("<IIQQQQ", 1, 0, GUEST, MEMORY, USER, 0), [self.fd])

    def ring(self, ring, slots=SLOTS):
        at = USER + ring * RING_BYTES
        self.say(SET_VRING_CALL, struct.pack("<Q", ring), [self.events[2 * ring]])
        self.say(SET_VRING_NUM, struct.pack("<II", ring, slots))
        self.say(SET_VRING_BASE, struct.pack("<II", ring, 0))
        self.say(SET_VRING_ADDR, struct.pack("<IIQQQQ", ring, 0, at, at + USED, at + AVAIL, 0))
        self.say(SET_VRING_KICK, struct.pack("<Q", ring), [self.events[2 * ring + 1]])
        self.say(SET_VRING_ENABLE, struct.pack("<II", ring, 1))

    # ---- rings -------------------------------------------------------------------------------------------------

    def describe(self, ring, slot, at, length, flags=0, following=0):
        struct.pack_into("<QIHH", self.memory, ring * RING_BYTES + 16 * slot, at & (1 << 64) - 1, length & 0xffffffff, flags,
                         following)

    def offer(self, ring, head, ahead=1):
        """Of that chain, as so many new ones."""
        at = ring * RING_BYTES + AVAIL
        (index,) = struct.unpack_from("<H", self.memory, at + 2)
        struct.pack_into("<H", self.memory, at + 4 + 2 * (index % SLOTS), head)
        struct.pack_into("<H", self.memory, at + 2, (index + ahead) % 65536)

    def used(self, ring):
        return struct.unpack_from("<H", self.memory, ring * RING_BYTES + USED + 2)[0]

    def place(self, slot, frame, header=bytes(HEADER)):
        """Puts a packet into a buffer, and says where that is to the guest, and how long it is."""
        at = BUFFERS + slot * BUFFER
        packet = header + frame
        self.memory[at:at + len(packet)] = packet
        return GUEST + at, len(packet)

    def send(self, frame, header=bytes(HEADER)):
        slot = self.sent % SLOTS
        self.describe(SENDS, slot, *self.place(slot, frame, header))
        self.offer(SENDS, slot)
        self.sent += 1

    def take_all(self):
        """Offers every buffer once."""
        for slot in range(SLOTS):
            self.describe(TAKES, slot, GUEST + BUFFERS + (SLOTS + slot) * BUFFER, BUFFER, WRITE)
            self.offer(TAKES, slot)
