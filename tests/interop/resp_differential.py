#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""
The same commands to Barewire and to Redis, and their replies compared. As a program, against servers that run:

  resp_differential.py BAREWIRE:PORT REDIS:PORT [--seed N] [--count N] [--protocol 2|3] [--all]

On a difference it says the seed, looks for the fewest of the commands before it that still make it, and ends; with
--all it goes on, and lists each kind of difference once.
"""

import argparse
import socket
import sys
import time

from resp_grammar import KEYS, POOLS, Generator, encoded, is_allowed, reply_at

END = encoded([b"ECHO", b"the-end-of-a-batch"])
END_REPLY = b"$18\r\nthe-end-of-a-batch\r\n"
FRESH = b"".join([encoded([b"RESET"]), encoded([b"FLUSHALL"])])
MINIMISE_SECONDS = 10


class Peer:
    """A connection to one of the two."""

    def __init__(self, address):
        self.address = address
        self.socket = None
        self.open()

    def open(self):
        if self.socket is not None:
            self.socket.close()
        self.socket = socket.create_connection(self.address, timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, segments):
        for segment in segments:
            self.socket.sendall(segment)

    def receive(self):
        """What was said to the batch; less, where the connection ended or nothing more came."""
        said = bytearray()
        try:
            while not said.endswith(END_REPLY):
                more = self.socket.recv(1 << 18)
                if not more:
                    break
                said += more
        except (TimeoutError, ConnectionError) as error:
            print(f"{self.address}: {error}", flush=True)
        return bytes(said.removesuffix(END_REPLY))

    def ask(self, data):
        self.send([data, END])
        return self.receive()


def split(said):
    """The replies in it, raw. What is none, and all behind it, is one."""
    replies, at = [], 0
    while at < len(said):
        try:
            _, end = reply_at(said, at)
        except (ValueError, RecursionError):
            end = len(said)
        replies.append(said[at:end])
        at = end
    return replies


def first_difference(batch, mine, theirs):
    """The index of the first command of the batch whose replies differ by more than they may, and these; or None."""
    if mine == theirs:
        return None
    answered = [i for i, (words, _) in enumerate(batch) if words]
    replies = [split(said) for said in (mine, theirs)]
    for i, *pair in zip(answered, *replies):
        if not is_allowed(batch[i][0], *pair):
            return i, *pair
    counts = [len(one) for one in replies]
    if min(counts) == max(counts) == len(answered):
        return None
    # The connection ended behind one of them; or there were more replies than commands.
    at = answered[min(min(counts), len(answered) - 1)]
    return at, *[b"%d replies, the last of them %s" % (len(one), one[-1] if one else b"") for one in replies]


class Differential:
    def __init__(self, barewire, redis, seed, *, protocol=2, most=400):
        self.peers = [Peer(barewire), Peer(redis)]
        self.seed, self.protocol, self.most = seed, protocol, most
        self.generator = Generator(seed, int(time.time()))
        self.history = []  # batches since both were empty
        self.count = 0
        self.begin()

    def begin(self):
        """Empty, on new connections."""
        self.history = [self.hello()]
        self.renew()

    def renew(self):
        for peer in self.peers:
            peer.open()
            peer.ask(FRESH + self.hello()[0][1])

    def close(self):
        for peer in self.peers:
            peer.socket.close()

    def hello(self):
        words = [b"HELLO", b"%d" % self.protocol]
        return [(words, encoded(words))]

    def run(self, count):
        """So many commands. Returns None, or the first difference, as text; then both begin anew at the next call."""
        until = self.count + count
        batch = self.generator.batch(self.most)
        while self.count < until:
            segments = self.generator.segments(b"".join([data for _, data in batch]) + END)
            for peer in self.peers:
                peer.send(segments)
            after = self.generator.batch(self.most)  # while they work
            difference = first_difference(batch, *[peer.receive() for peer in self.peers])
            self.count += len(batch)
            if difference:
                text = self.explain(batch, *difference)
            else:
                self.history.append(batch)
                text = self.look_around() if len(self.history) % 100 == 50 else None
            if text:
                self.begin()
                return text
            if len(self.history) > 400:
                self.begin()
            batch = after
        return None

    def look_around(self):
        """
        The time of some keys ends, while nobody looks. Then all keys are asked for, since what is over counts until it
        is; and after that both must have as many, and find the same ones. None, or the difference.
        """
        rng = self.generator.rng
        ends = [[b"PEXPIRE", key, b"%d" % rng.randrange(1, 40)] for key in rng.sample(KEYS, 8)]
        asks = [[b"EXISTS", *KEYS, *POOLS["rare"], b"huge"], [b"DBSIZE"]]
        for commands in (ends, asks):
            batch = [(words, encoded(words)) for words in commands]
            said = [peer.ask(b"".join([data for _, data in batch])) for peer in self.peers]
            if said[0] != said[1]:
                return self.explain(batch, len(batch) - 1, *said)
            self.history.append(batch)
            time.sleep(.1)
        options = [[b"MATCH", rng.choice(POOLS["pattern"])], [b"COUNT", b"%d" % rng.randrange(1, 50)], [b"TYPE", b"string"]]
        options = [word for option in rng.sample(options, rng.randrange(4)) for word in option]
        found = [scan(peer, options) for peer in self.peers]
        if found[0] != found[1]:
            return f"seed {self.seed}: SCAN {options} finds {found[0]}, of Redis {found[1]}"
        return None

    # ---- a difference ---------------------------------------------------------------------------------------

    def explain(self, batch, at, mine, theirs):
        before = [command for earlier in self.history for command in earlier if command[0]]
        before += [command for command in batch[:at] if command[0]]
        guilty = batch[at]
        few = self.minimised(before, guilty)
        lines = [f"seed {self.seed}, protocol {self.protocol}, among the first {self.count} commands:"]
        if few is None:
            keys = set(guilty[0][1:])
            few = [command for command in before if keys & set(command[0][1:])][-12:]
            lines.append("(not seen again in a second try; the last commands on the same keys)")
        lines += [f"    {as_text(words)}" for words, _ in few]
        lines += [f"  {as_text(guilty[0])}   sent as {guilty[1][:200]!r}", f"    barewire: {mine[:400]!r}",
                  f"    redis:    {theirs[:400]!r}"]
        return "\n".join(lines)

    def differs(self, before, guilty):
        self.renew()
        batch = [*before, guilty]
        data = b"".join([data for _, data in batch])
        found = first_difference(batch, *[peer.ask(data) for peer in self.peers])
        # An earlier difference is another matter, or what this one comes from.
        return found is not None

    def minimised(self, before, guilty):
        """The fewest of the commands before (delta debugging: Zeller, 2002). None: it does not happen again."""
        until = time.monotonic() + MINIMISE_SECONDS
        try:
            keys = set(guilty[0][1:])
            related = [command for command in before if keys & set(command[0][1:])]
            for few in (related[-300:], related, before[-1000:], before):
                if self.differs(few, guilty):
                    break
            else:
                return None
            size = max(1, len(few) // 2)
            while time.monotonic() < until:
                is_less = False
                for begin in range(0, len(few), size):
                    fewer = few[:begin] + few[begin + size:]
                    if len(fewer) < len(few) and self.differs(fewer, guilty):
                        few, is_less = fewer, True
                        break
                if not is_less:
                    if size == 1:
                        break
                    size //= 2
            return few
        except (OSError, ValueError):
            return None


def scan(peer, options):
    """All that SCAN finds, call after call. A key may come twice."""
    keys, cursor = set(), b"0"
    for _ in range(10000):
        reply, _ = reply_at(peer.ask(encoded([b"SCAN", cursor, *options])), 0)
        if type(reply) is not list:
            return reply
        cursor = reply[0]
        keys.update(reply[1])
        if cursor == b"0":
            return sorted(keys)
    raise AssertionError("SCAN does not end")


def as_text(words):
    shown = [word.decode() if word.isalnum() and len(word) < 100 else repr(word[:100])[1:] for word in words]
    return " ".join(shown)


def address(words):
    host, _, port = words.rpartition(":")
    return host, int(port)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("barewire", type=address)
    parser.add_argument("redis", type=address)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=10**6)
    parser.add_argument("--protocol", type=int, default=2)
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args()
    began, seen = time.monotonic(), {}
    differential = Differential(options.barewire, options.redis, options.seed, protocol=options.protocol)
    while differential.count < options.count:
        difference = differential.run(options.count - differential.count)
        if difference is None:
            continue
        kind = next(line for line in difference.splitlines() if "sent as" in line).split()[0].upper()
        seen[kind] = seen.get(kind, 0) + 1
        if seen[kind] <= 2:
            print(difference, flush=True)
        if not options.all:
            return 1
    print(f"{differential.count} commands in {time.monotonic() - began:.1f} s, differences: {seen}")
    return bool(seen)


if __name__ == "__main__":
    sys.exit(main())
