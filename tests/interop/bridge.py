# SPDX-License-Identifier: BSD-3-Clause
"""A bad link between two namespaces: a third one in the middle, in which tests/tools/impair.c carries the frames."""

import json
import subprocess

from lab import link, stop


class Bridge:
    """Two veth pairs that meet in `middle`; `forth` is from `near` to `far`, where the ends are v1 and v0."""

    def __init__(self, impair, middle, near, far, *, near_name="v1", far_name="v0", mtu=1500):
        self.impair, self.middle = impair, middle
        self.process = None
        self.ends = (f"n{near_name}", f"f{far_name}")
        link((near, near_name), (middle, self.ends[0]), mtu=mtu)
        link((far, far_name), (middle, self.ends[1]), mtu=mtu)
        for end in self.ends:
            middle.sysctl(f"net/ipv6/conf/{end}/disable_ipv6", 1)
        for ns, name in ((near, near_name), (far, far_name), (middle, self.ends[0]), (middle, self.ends[1])):
            ns.ip(f"link set {name} up")

    def start(self, options):
        """Carry frames from now on, with impair's options (a string)."""
        assert self.process is None
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
