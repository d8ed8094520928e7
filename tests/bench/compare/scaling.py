# SPDX-License-Identifier: BSD-3-Clause
"""Barewire by the number of its connections: what a request takes, what a connection takes, what an idle core takes."""

import time

from clients import barewire_load, told, url
from place import Barewire, Wrong, wait_until

ACTIVE_RATE = 200000  # requests a second, from one connection after another
BUFFERS_MAX = 1250000


class Scale:
    """A server and its clients' addresses for so many connections; one address has 64,512 ports at most."""

    def __init__(self, place, count, poll, mbufs=None):
        place.prefix = 15
        self.place, self.count = place, count
        # The first of ten million are not to end before the last is open.
        self.server = Barewire(place, "memif", poll=poll, prefix=15, connections=count + 1024, mbufs=mbufs,
                               idle_timeout="1h")
        self.before = self.server.memory()
        self.range = "198.19.0.0/24" if count > 2000000 else "198.19.0.0/27"

    def load(self, seconds, *arguments, during):
        """`during` runs once all connections are open; its figures."""
        figures = {}

        def until(process):
            def all_open():
                if process.poll() is not None:
                    raise Wrong("barewire load has ended before its connections were open:\n" +
                                (self.place.folder / "load.log").read_text()[-2000:])
                return self.server.open() >= self.count

            wait_until(all_open, f"{self.count} connections", timeout=60 + self.count / 20000, every=0.2)
            figures.update(during())

        report = barewire_load(self.place, seconds, "--from", self.range, "-d", seconds, *arguments, until=until)
        self.server.finish()
        return report, figures

    def bytes(self):
        """Resident memory that came with the connections. A page is the smallest that comes: of few it says nothing."""
        return {"bytes": (self.server.memory() - self.before) / self.count} if self.count >= 10000 else {}


def active(count):
    """All ask in turn, at one rate whatever their number."""
    def measure(place, seconds):
        scale = Scale(place, count, "busy")

        def during():
            time.sleep(seconds * 0.3)
            scale.server.begin()
            time.sleep(seconds * 0.5)
            return {**scale.server.end(None), **scale.bytes()}

        report, figures = scale.load(seconds, "-c", count, "-R", 2000 if place.quick else ACTIVE_RATE,
                                     "--timeout", "60s", url(), during=during)
        place.has_hugepages = scale.server.has_hugepages
        return {**told(report), **figures}

    return measure


def idle(count):
    """All are silent but one, which asks ten times a second; at the end each is asked once, and has to answer."""
    def measure(place, seconds):
        # At the end all answers are under way at once, and each needs a buffer until it is acknowledged. Of ten million
        # that would be more memory than the connections are.
        mbufs = min(count * 5 // 4, BUFFERS_MAX) if count > 20000 else None
        scale = Scale(place, count, "adaptive", mbufs=mbufs)

        def during():
            time.sleep(0.3)
            before, began = scale.server.worker_seconds(), time.monotonic()
            time.sleep(seconds * 0.6)
            share = (scale.server.worker_seconds() - before) / (time.monotonic() - began)
            return {"idle": 100 * share, **scale.bytes()}

        report, figures = scale.load(seconds, "-c", 1, "-R", 10, "--idle", count, "--timeout", "60s", url(), during=during)
        if report["idle_answered"] != count:
            raise Wrong(f"of {count} idle connections {report['idle_answered']} answered at the end")
        place.has_hugepages = scale.server.has_hugepages
        return {"answered": report["idle_answered"], **figures}

    return measure
