# SPDX-License-Identifier: BSD-3-Clause
"""The other end of a memif, without a driver: it leaves when it likes, and its memory stays as busy as it was."""

import array
import mmap
import os
import socket
import struct
import threading
import time

ACK, HELLO, INIT, ADD_REGION, ADD_RING, CONNECT, CONNECTED = range(1, 8)
COOKIE, VERSION, NAME = 0x3E31F20, 2 << 8, b"peer".ljust(32, b"\0")
SLOTS_LOG2, BUFFER = 10, 2048
SLOTS = 1 << SLOTS_LOG2
HEAD, TAIL, DESCRIPTORS = 6, 64, 128  # in a ring
RING_BYTES = DESCRIPTORS + SLOTS * 16
TO_SERVER, TO_CLIENT = 0, RING_BYTES  # the rings, in the one region
BUFFERS = 2 * RING_BYTES


class Peer:
    """
    Client of Barewire's server, or server of its client. It offers `frames` over and over as fast as they are taken,
    and takes all that comes.
    """

    def __init__(self, path, frames, is_client):
        self.sends_at, self.takes_at = (TO_SERVER, TO_CLIENT) if is_client else (TO_CLIENT, TO_SERVER)
        self.frames, self.fds, self.is_client, self.is_over = frames, [], is_client, False
        self.control = self.connect(path) if is_client else self.accept(path)
        self.thread = threading.Thread(target=self.pump, daemon=True)
        self.thread.start()

    # ---- the handshake -----------------------------------------------------------------------------------------

    def say(self, control, kind, body=b"", fd=None):
        rights = [] if fd is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        control.sendmsg([struct.pack("<H", kind) + body.ljust(126, b"\0")], rights)

    def hear(self, control, kind):
        data, rights, _, _ = control.recvmsg(128, 256)
        for level, what, fds in rights:
            if (level, what) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                self.fds += array.array("i", fds[:4])
        assert data and struct.unpack_from("<H", data)[0] == kind, f"expected {kind}, not {data[:64]}"

    def connect(self, path):
        control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control.settimeout(10)
        control.connect(str(path))
        self.make_region()
        self.hear(control, HELLO)
        for kind, body, fd in [
                (INIT, struct.pack("<HIB24s32s", VERSION, 0, 0, b"", NAME), None),
                (ADD_REGION, struct.pack("<HQ", 0, len(self.memory)), self.fds[0]),
                (ADD_RING, struct.pack("<HHHIBH", 1, 0, 0, TO_SERVER, SLOTS_LOG2, 0), self.fds[1]),
                (ADD_RING, struct.pack("<HHHIBH", 0, 0, 0, TO_CLIENT, SLOTS_LOG2, 0), self.fds[2])]:
            self.say(control, kind, body, fd)
            self.hear(control, ACK)
        self.say(control, CONNECT, NAME)
        self.hear(control, CONNECTED)
        return control

    def make_region(self):
        self.fds = [os.memfd_create("region"), os.eventfd(0), os.eventfd(0)]
        os.ftruncate(self.fds[0], BUFFERS + 2 * SLOTS * BUFFER)
        self.memory = mmap.mmap(self.fds[0], 0)
        for ring in (TO_SERVER, TO_CLIENT):
            struct.pack_into("<IHH", self.memory, ring, COOKIE, 0, 0)
            first = BUFFERS + ring // RING_BYTES * SLOTS * BUFFER
            self.describe(ring, [(BUFFER, first + slot * BUFFER) for slot in range(SLOTS)])

    def accept(self, path):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.settimeout(10)
            listener.bind(str(path))
            listener.listen(1)
            control = listener.accept()[0]
        control.settimeout(10)
        self.say(control, HELLO, NAME + struct.pack("<HHHHHB", VERSION, VERSION, 255, 255, 255, 14))
        for kind in (INIT, ADD_REGION, ADD_RING, ADD_RING):
            self.hear(control, kind)
            self.say(control, ACK)
        self.hear(control, CONNECT)
        self.memory = mmap.mmap(self.fds[0], 0)
        self.say(control, CONNECTED, NAME)
        return control

    # ---- the rings ---------------------------------------------------------------------------------------------

    def describe(self, ring, slots):
        text = b"".join(struct.pack("<HHIII", 0, 0, length, offset, 0) for length, offset in slots)
        self.memory[ring + DESCRIPTORS:ring + RING_BYTES] = text
        return text

    def fill(self):
        """A frame into every slot that is sent from."""
        slots = []
        for slot in range(SLOTS):
            frame = self.frames[slot % len(self.frames)]
            offset = struct.unpack_from("<I", self.memory, self.sends_at + DESCRIPTORS + 16 * slot + 8)[0]
            self.memory[offset:offset + len(frame)] = frame
            slots.append((len(frame), offset))
        return self.describe(self.sends_at, slots)

    def index(self, ring, which):
        return struct.unpack_from("<H", self.memory, ring + which)[0]

    def pump(self):
        sent, sends, takes = self.fill(), self.sends_at, self.takes_at
        free = self.memory[takes + DESCRIPTORS:takes + RING_BYTES]
        while not self.is_over:
            if self.is_client:
                self.memory[takes + DESCRIPTORS:takes + RING_BYTES] = free
                struct.pack_into("<H", self.memory, takes + HEAD, (self.index(takes, TAIL) + SLOTS) & 0xffff)
                struct.pack_into("<H", self.memory, sends + HEAD, (self.index(sends, TAIL) + SLOTS) & 0xffff)
            else:
                struct.pack_into("<H", self.memory, takes + TAIL, self.index(takes, HEAD))
                head = self.index(sends, HEAD)
                self.memory[sends + DESCRIPTORS:sends + RING_BYTES] = sent
                struct.pack_into("<H", self.memory, sends + TAIL, head)
            time.sleep(0.0002)

    def leave(self):
        self.control.close()
        time.sleep(0.01)  # the memory is busy beyond the end
        self.is_over = True
        self.thread.join()
        self.memory.close()
        for fd in self.fds:
            os.close(fd)
