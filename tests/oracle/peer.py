# SPDX-License-Identifier: BSD-3-Clause
"""A peer that plays scripts: raw frames to a server's TCP, and what comes back as text that two servers can share.

A sequence is a list of steps. After each the peer listens for `settle` seconds; what it has heard by then is the step's
answer. Numbers are relative to both initial sequence numbers, so the SYN is 0, the first byte 1.

What may differ by design is not in the text: identification, TTL, PSH, the size of windows unless it is zero, the
shift count, timestamp values (what they echo is), whether an ACK came by itself or with the data behind it, how data
was cut into segments, and what the retransmission timers send.
"""

import dataclasses
import socket
import struct
import time
import zlib

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << i for i in range(8))
LETTERS = {"F": FIN, "S": SYN, "R": RST, "P": PSH, "A": ACK, "U": URG, "E": ECE, "C": CWR}
MOD = 1 << 32
SETTLE = 0.25  # more than any delayed ACK
TIMER = 0.15  # what repeats itself after so long does so by itself: less than any retransmission time-out
PLAY_MAX = 60
FILL_MAX = 1 << 20
MSS = 1000  # of what FILL sends, timestamps not counted
ISS_UNKNOWN = 0x50000000  # what our ACK numbers are relative to before a SYN-ACK
TS_BASE = 0x10000000
CURRENT = "as it is"


class Rel(int):
    """A number relative to the next that the peer would send, or acknowledge."""

    def __repr__(self):
        return f"{int(self):+}"


NEXT = Rel(0)


# ---- the script's words --------------------------------------------------------------------------------------


@dataclasses.dataclass
class S:
    """One segment. The default is the next one, in order, that acknowledges all."""

    flags: str = "A"
    seq: object = NEXT
    ack: object = NEXT
    data: bytes = b""
    wnd: int = 65535
    mss: int = None
    ws: int = None
    sackok: bool = False
    ts: object = CURRENT  # relative to the clock's base; None: no timestamp
    tsecr: object = CURRENT
    sack: tuple = ()
    raw: bytes = None  # all options, as they are
    urg: int = 0
    doff: int = None
    cut: int = None  # bytes of TCP header and data that are really there
    sum: int = 0  # added to the checksum
    dst: str = None  # "multicast" or "broadcast" instead of the server, on both layers; "mac": a broadcast frame
    reserved: int = 0  # the four bits behind the offset
    tos: int = 0
    settle: float = SETTLE

    def __str__(self):
        told = [f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self)[1:]
                if getattr(self, f.name) is not f.default]
        return f"S({', '.join([repr(self.flags), *told])})"


@dataclasses.dataclass
class Wait:
    settle: float


@dataclasses.dataclass
class Burst:
    """Segments at once."""

    segments: list
    settle: float = SETTLE


@dataclasses.dataclass
class Fill:
    """Full segments until the window is used up; the answer is whether it is shut at the end. From here on ACK numbers
    are told relative to what was sent: how much fits is everybody's own."""

    settle: float = 0.4


@dataclasses.dataclass
class Drink:
    """Acknowledge all that has come, and whatever comes, until nothing more does."""

    settle: float = 0.6


@dataclasses.dataclass(eq=False)
class Sequence:
    name: str
    server: str
    steps: list
    isn: int = 0x12345678
    shows_repeats: bool = False  # those of data and FIN: what a sequence is not about depends on the time it takes
    clock: int = 0  # added to our timestamps


# ---- bytes ---------------------------------------------------------------------------------------------------


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def parse_options(octets):
    """{kind: value}. What the servers send is well-formed, or this fails."""
    options = {}
    while octets and octets[0] != 0:
        length = octets[1] if octets[0] != 1 else 1
        assert 0 < length <= len(octets), octets
        if length > 1:
            options[octets[0]] = octets[2:length]
        octets = octets[length:]
    return options


class Wire:
    """A link to one server: our MAC, our addresses, which nobody else has, and ARP and NDP for them."""

    MAC = bytes.fromhex("020000000064")

    def __init__(self, send, receive, ours, server):
        self.send, self.receive = send, receive
        self.ours = [socket.inet_pton(socket.AF_INET6 if ":" in a else socket.AF_INET, a) for a in ours]
        self.server = [socket.inet_pton(socket.AF_INET6 if ":" in a else socket.AF_INET, a) for a in server]
        self.server_mac = None
        self.plays = {}

    def ask(self):
        """ARP: who is the server? Also tells it who we are."""
        self.send(b"\xff" * 6 + self.MAC + struct.pack("!HHHBBH", 0x0806, 1, 0x0800, 6, 4, 1) + self.MAC +
                  self.ours[0] + b"\0" * 6 + self.server[0])

    def answer_arp(self, frame):
        if len(frame) < 42 or frame[38:42] != self.ours[0]:
            return
        self.server_mac = frame[22:28]
        if frame[20:22] == b"\0\1":
            self.send(frame[22:28] + self.MAC + struct.pack("!HHHBBH", 0x0806, 1, 0x0800, 6, 4, 2) + self.MAC +
                      self.ours[0] + frame[22:32])

    def answer_ns(self, frame):
        target = frame[62:78]
        if target != self.ours[1]:
            return
        body = b"\x60\0\0\0" + target + b"\x02\x01" + self.MAC
        source, destination = self.ours[1], frame[22:38]
        pseudo = source + destination + struct.pack("!II", len(body) + 4, 58)
        body = b"\x88\0" + struct.pack("!H", checksum(pseudo + b"\x88\0\0\0" + body)) + body
        self.send(frame[6:12] + self.MAC + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, len(body), 58, 255) +
                  source + destination + body)

    def packet(self, v6, segment, s):
        """The segment, whose checksum field is zero, in a frame."""
        source, destination, mac = self.ours[v6], self.server[v6], self.server_mac
        if s.dst == "mac":
            mac = b"\xff" * 6
        elif s.dst == "multicast":
            mac = b"\x33\x33\0\0\0\1" if v6 else b"\x01\x00\x5e\0\0\1"
            destination = b"\xff\x02" + b"\0" * 13 + b"\1" if v6 else bytes((224, 0, 0, 1))
        elif s.dst == "broadcast":
            mac, destination = b"\xff" * 6, destination[:3] + b"\xff"
        pseudo = source + destination + (struct.pack("!II", len(segment), 6) if v6 else
                                         struct.pack("!BBH", 0, 6, len(segment)))
        total = (checksum(pseudo + segment) + s.sum) & 0xffff
        segment = segment[:16] + struct.pack("!H", total) + segment[18:] if len(segment) >= 18 else segment
        if s.cut is not None:
            segment = segment[:s.cut]
        if v6:
            return mac + self.MAC + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28 | s.tos << 20, len(segment), 6, 64) + \
                source + destination + segment
        header = struct.pack("!BBHHHBBH", 0x45, s.tos, 20 + len(segment), 0, 0x4000, 64, 6, 0) + source + destination
        header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
        return mac + self.MAC + b"\x08\0" + header + segment

    def poll(self):
        """Hand over all that has arrived."""
        while (frame := self.receive()) is not None:
            kind = frame[12:14]
            if kind == b"\x08\x06":
                self.answer_arp(frame)
            elif kind == b"\x08\0" and frame[30:34] == self.ours[0] and frame[23] == 6:
                ihl = (frame[14] & 15) * 4
                self.segment(frame[14 + ihl:14 + struct.unpack("!H", frame[16:18])[0]],
                             frame[26:34], frame[15], 0)
            elif kind == b"\x86\xdd" and frame[20] == 58 and frame[54] == 135:
                self.answer_ns(frame)
            elif kind == b"\x86\xdd" and frame[38:54] == self.ours[1] and frame[20] == 6:
                length = struct.unpack("!H", frame[18:20])[0]
                self.segment(frame[54:54 + length], frame[22:54],
                             (frame[14] << 4 | frame[15] >> 4) & 0xff, 1)

    def segment(self, octets, pseudo, tos, v6):
        sport, dport, seq, ack, off, flags, window = struct.unpack("!HHIIBBH", octets[:16])
        play = self.plays.get(dport)
        if play is None or play.port != sport:
            return
        is_wrong = checksum(pseudo + (struct.pack("!II", len(octets), 6) if v6 else
                                      struct.pack("!HH", 6, len(octets))) + octets)
        play.heard.append(Heard(time.monotonic(), seq, ack, flags, window, octets[20:(off >> 4) * 4],
                                octets[(off >> 4) * 4:], tos & 3, bool(is_wrong)))
        play.learn(play.heard[-1])


@dataclasses.dataclass
class Heard:
    """A segment of the server's."""

    at: float
    seq: int
    ack: int
    flags: int
    window: int
    options: bytes
    data: bytes
    ecn: int
    is_wrong: bool
    sack: tuple = ()  # the edges of its blocks

    def __post_init__(self):
        octets = parse_options(self.options).get(5, b"")
        self.sack = self.sack or struct.unpack(f"!{len(octets) // 4}I", octets)

    @property
    def end(self):
        return (self.seq + len(self.data) + bool(self.flags & SYN) + bool(self.flags & FIN)) % MOD

    def goes_on_with(self, h):
        """Is h the rest of what could have been one segment?"""
        return self.data and self.end == h.seq != h.end and self.ack == h.ack and self.ecn == h.ecn and \
            (self.sack == h.sack or not h.sack) and \
            self.flags & ~PSH == ACK and h.flags & ~(PSH | FIN) == ACK

    def with_more(self, h):
        return dataclasses.replace(self, flags=self.flags | h.flags, data=self.data + h.data, window=h.window)


def after(a, b):
    """Is a after b, modulo 2^32?"""
    return 0 < (a - b) % MOD < MOD // 2


# ---- playing -------------------------------------------------------------------------------------------------


class Play:
    """One sequence on one wire. run() is a generator of times to come back at."""

    def __init__(self, sequence, wire, v6, local_port, server_port):
        self.sequence, self.wire, self.v6 = sequence, wire, v6
        self.local_port, self.port = local_port, server_port
        self.heard, self.answers = [], []
        self.irs = sequence.isn
        self.iss, self.rcv_nxt = ISS_UNKNOWN, 0  # of the server; rcv_nxt relative
        self.snd_nxt, self.edge, self.shift = 0, 0, 0
        self.asked_scale, self.filled = False, 0
        self.has_ts, self.last_tsval, self.clock = False, 0, TS_BASE + sequence.clock
        self.shown = None  # highest number sent by the server before this step
        self.last_ack = self.last_window = None
        wire.plays[local_port] = self

    def learn(self, h):
        options = parse_options(h.options)
        if h.flags & SYN and (self.iss == ISS_UNKNOWN or h.seq != self.iss):
            self.iss, self.rcv_nxt = h.seq, 1
            self.shift = options[3][0] if 3 in options and self.asked_scale else 0
            self.has_ts = 8 in options
            self.edge = (h.ack - self.irs + h.window) % MOD
        elif not h.flags & RST:
            if (h.seq - self.iss) % MOD == self.rcv_nxt:
                self.rcv_nxt = (h.end - self.iss) % MOD
            self.edge = (h.ack - self.irs + (h.window << self.shift)) % MOD
        if 8 in options:
            self.last_tsval = struct.unpack("!I", options[8][:4])[0]

    def options(self, s, flags):
        if s.raw is not None:
            return s.raw
        out = b""
        if s.mss is not None:
            out += struct.pack("!BBH", 2, 4, s.mss)
        if s.sackok:
            out += b"\4\2"
        has_ts = self.has_ts if s.ts is CURRENT else s.ts is not None
        if has_ts:
            value = self.clock if s.ts is CURRENT else TS_BASE + self.sequence.clock + s.ts
            echo = self.last_tsval if s.tsecr is CURRENT else s.tsecr
            out += struct.pack("!BBBBII", 1, 1, 8, 10, value % MOD, echo if flags & ACK else 0)
        if s.ws is not None:
            out += struct.pack("!BBBB", 1, 3, 3, s.ws)
        if s.sack:
            out += struct.pack("!BBBB", 1, 1, 5, 2 + 8 * len(s.sack))
            for left, right in s.sack:
                out += struct.pack("!II", (self.iss + left) % MOD, (self.iss + right) % MOD)
        return out + b"\1" * (-len(out) % 4)

    def send(self, s):
        flags = sum(LETTERS[letter] for letter in s.flags)
        seq = self.snd_nxt + s.seq if isinstance(s.seq, Rel) else s.seq
        ack = self.rcv_nxt + s.ack if isinstance(s.ack, Rel) else s.ack
        if flags & SYN and not flags & ACK:
            self.asked_scale = s.ws is not None or (s.raw is not None and b"\3\3" in s.raw)
        self.clock += 10
        options = self.options(s, flags)
        doff = 5 + len(options) // 4 if s.doff is None else s.doff
        header = struct.pack("!HHIIBBHHH", self.local_port, self.port, (self.irs + seq) % MOD,
                             (self.iss + ack) % MOD if flags & ACK else 0, doff << 4 | s.reserved, flags, s.wnd, 0,
                             s.urg)
        segment = header + options + s.data
        self.wire.send(self.wire.packet(self.v6, segment, s))
        end = seq + len(s.data) + bool(flags & SYN) + bool(flags & FIN)
        if s.seq is NEXT and not flags & RST:
            self.snd_nxt = end

    def run(self):
        for step in self.sequence.steps:
            began = time.monotonic()
            self.heard.clear()
            if isinstance(step, S):
                self.send(step)
            elif isinstance(step, Burst):
                for segment in step.segments:
                    self.send(segment)
            elif isinstance(step, Fill):
                yield from self.fill()
                self.filled = self.snd_nxt
            elif isinstance(step, Drink):
                yield from self.drink(step)
            yield time.monotonic() + step.settle
            if isinstance(step, Fill):
                self.answers.append(["shut" if self.edge == self.snd_nxt else "open"])
                self.remember(self.heard)
            else:
                self.answers.append(self.normalise(began, isinstance(step, Burst)))
        # What is left of it must not talk on.
        for seq in {self.snd_nxt, self.heard[-1].ack - self.irs if self.heard else self.snd_nxt}:
            self.send(S("R", seq=seq % MOD, ts=None))
        yield time.monotonic() + 0.05
        del self.wire.plays[self.local_port]

    def fill(self):
        idle = 0
        while idle < 4 and self.snd_nxt < FILL_MAX:
            room = (self.edge - self.snd_nxt) % MOD
            if room == 0 or room > MOD // 2:
                idle += 1
                yield time.monotonic() + 0.1
                continue
            idle = 0
            for _ in range(8):
                room = min((self.edge - self.snd_nxt) % MOD, MSS)
                if room == 0:
                    break
                self.send(S("A", data=b"f" * room))
            yield time.monotonic() + 0.01

    def drink(self, step):
        at, acked = time.monotonic(), None
        while time.monotonic() < at + step.settle:
            if self.rcv_nxt != acked:
                acked, at = self.rcv_nxt, time.monotonic()
                self.send(S("A"))
            yield time.monotonic() + 0.01

    # ---- what was heard, as text -----------------------------------------------------------------------------

    def number(self, raw, base):
        relative = (raw - base) % MOD
        return relative if relative < MOD // 2 else relative - MOD

    def remember(self, heard):
        for h in heard:
            if h.flags & RST:
                continue
            if self.shown is None or after(h.end, self.shown) or h.flags & SYN:
                self.shown = h.end
            self.last_ack, self.last_window = h.ack, h.window

    def normalise(self, began, is_burst):
        lines, heard = [], []  # a line is text already, or still a segment that may grow
        for h in self.heard:
            occupies = h.end != h.seq
            is_again = occupies and self.shown is not None and not after(h.end, self.shown)
            if is_again and (h.at > began + TIMER or not (self.sequence.shows_repeats or h.flags & SYN)):
                continue
            if h.at > began + TIMER and self.shown is not None and after(self.shown, h.seq) and not occupies:
                continue  # a probe of the persist timer
            heard.append(h)
            if self.shown is None or after(h.end, self.shown):
                self.shown = h.end
        last = self.last_ack, self.last_window
        for i, h in enumerate(heard):
            last_ack, last_window = last
            is_bare = h.flags & ~PSH == ACK and not h.data
            if not h.flags & RST:
                last = h.ack, h.window
            later = next((n for n in heard[i + 1:] if n.flags & (ACK | SYN) == ACK and not after(h.ack, n.ack)), None)
            if is_bare and later and last_ack is not None and after(h.ack, last_ack):
                if later.ack == h.ack and not later.sack:
                    later.sack = h.sack
                continue  # the later one says as much
            if is_bare and later and is_burst and h.sack and h.ack == later.ack:
                continue  # how many ACKs tell it depends on how many segments were taken in at once
            if is_bare and is_burst and [line.ack for line in lines[-3:] if line != "window opens"] == [h.ack] * 3:
                continue  # three are enough to tell a loss
            if is_bare and h.ack == last_ack and last_window == 0 and h.window != 0:
                lines.append("window opens")
            elif lines and isinstance(lines[-1], Heard) and lines[-1].goes_on_with(h):
                lines[-1] = lines[-1].with_more(h)
            else:
                lines.append(h)
        self.remember(heard)
        return [line if isinstance(line, str) else self.text(line) for line in lines]

    def text(self, h):
        flags = "".join(letter for letter, bit in LETTERS.items() if h.flags & bit and letter != "P")
        words = [flags, f"seq={self.number(h.seq, self.iss) if h.seq else 'zero'}"]
        if h.flags & ACK:
            fill = "fill+" if self.filled else ""
            words.append(f"ack={fill}{self.number(h.ack, self.irs + self.filled)}")
        if h.data:
            is_long = len(h.data) > 30 or not h.data.isascii()
            words.append(f"len={len(h.data)} " + (f"crc={zlib.crc32(h.data):08x}" if is_long else h.data.decode()))
        if h.window == 0 and not h.flags & RST:
            words.append("shut")
        options = parse_options(h.options)
        if 2 in options:
            words.append(f"mss={struct.unpack('!H', options[2])[0]}")
        if 3 in options:
            words.append("ws")
        if 4 in options:
            words.append("sackok")
        if 8 in options:
            echo = struct.unpack("!I", options[8][4:])[0]
            words.append(f"echo={self.number(echo, TS_BASE + self.sequence.clock) if echo else 'zero'}")
        if h.sack:
            words.append("sack=" + ",".join("-".join(str(self.number(edge, self.irs)) for edge in h.sack[i:i + 2])
                                            for i in range(0, len(h.sack), 2)))
        if h.ecn:
            words.append(f"ip_ecn={h.ecn}")
        if h.is_wrong:
            words.append("WRONG CHECKSUM")
        return " ".join(words)


def play_all(jobs, wires, stagger=0.004):
    """Play (sequence, wire, v6, local port, server port) jobs together. Returns their answers, in order."""
    plays = [Play(*job) for job in jobs]
    waiting = [(time.monotonic() + i * stagger, i, play.run()) for i, play in enumerate(plays)]
    until = time.monotonic() + PLAY_MAX
    while waiting:
        if time.monotonic() > until:
            raise AssertionError(f"after {PLAY_MAX} s not at an end: {[plays[i].sequence.name for _, i, _ in waiting]}")
        for wire in wires:
            wire.poll()
        now, later = time.monotonic(), []
        for at, i, script in waiting:
            if at <= now:
                at = next(script, None)
            if at is not None:
                later.append((at, i, script))
        waiting = later
        # Short: an answer's time is when it is looked at.
        time.sleep(0.003)
    return [play.answers for play in plays]
