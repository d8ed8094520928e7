# SPDX-License-Identifier: BSD-3-Clause
"""A bad link between two namespaces: a third one in the middle, in which tests/tools/impair.c carries the frames."""

import json
import subprocess

from lab import link, stop


class Bridge:
    """Forth is from `near` to `far`, in which the ends of the link are; without `far`, to an interface of the middle."""

    def __init__(self, impair, middle, near, far, *, near_name="v1", far_name="v0"):
        self.impair, self.middle = impair, middle
        self.process = None
        self.ends = [self.extend(near, near_name), self.extend(far, far_name) if far else far_name]
        if far:
            far.sysctl(f"net/ipv6/conf/{far_name}/disable_ipv6", 1)

    def extend(self, ns, name):
        """A wire to the namespace. Returns its end in the middle, which stays out of what is said there."""
        end = f"m{name}"
        link((ns, name), (self.middle, end))
        self.middle.sysctl(f"net/ipv6/conf/{end}/disable_ipv6", 1)
        ns.ip(f"link set {name} up")
        self.middle.ip(f"link set {end} up")
        return end

    def start(self, options):
        """Carry frames from now on, with impair's options (a string)."""
        if self.process is not None:
            self.stop()
        self.process = self.middle.start([self.impair, *options.split(), *self.ends], stdout=subprocess.PIPE,
                                         text=True)
        assert self.process.stdout.readline() == "ready\n"

    def stop(self):
        """Carry nothing any more. Returns the counts of both directions."""
        assert stop(self.process) == 0
        counts = json.loads(self.process.stdout.read())
        self.process.stdout.close()
        self.process = None
        print(counts, flush=True)
        return counts
