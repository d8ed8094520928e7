# SPDX-License-Identifier: BSD-3-Clause
"""The laboratory: network namespaces, links, processes. Whatever is made here is removed here.

Nothing touches the machine's own interfaces. Names carry this process's id, so that two runs do not meet, and
only processes that were started here, or live in a namespace that was made here, are ever killed.
"""

import contextlib
import ctypes
import itertools
import os
import shlex
import signal
import subprocess
import time

CLONE_NEWNET = 0x40000000
serial = itertools.count(1)
libc = ctypes.CDLL(None, use_errno=True)


class Failed(AssertionError):
    """A command did not do what the test is about."""


def sh(command, *, timeout=60, check=True, stdin=None, text=True, quiet=False):
    """Run to the end. Shows the command and what it said: pytest prints that when the test fails."""
    argv = shlex.split(command) if isinstance(command, str) else [str(word) for word in command]
    print("$", shlex.join(argv), flush=True)
    done = subprocess.run(argv, stdin=subprocess.DEVNULL if stdin is None else None, input=stdin,
                          capture_output=True, timeout=timeout, text=text)
    if text and not quiet:
        for said in (done.stdout, done.stderr):
            if said.strip():
                print(said.rstrip()[-4000:], flush=True)
    if check and done.returncode != 0:
        raise Failed(f"exit status {done.returncode}: {shlex.join(argv)}")
    return done


def wait_until(predicate, what, *, timeout=15.0, every=0.05):
    """Poll; the last falsy outcome is not an answer but a failure that says what never came."""
    until = time.monotonic() + timeout
    while True:
        outcome = predicate()
        if outcome:
            return outcome
        if time.monotonic() > until:
            raise Failed(f"waited {timeout:g} s in vain for {what}")
        time.sleep(every)


def stop(process, sig=signal.SIGTERM, timeout=10.0):
    """End a process that we started; by force when it does not listen. Returns its exit status."""
    if process.poll() is None:
        process.send_signal(sig)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


class Namespace:
    """A network namespace with its loopback up. `with ns:` moves this thread, and what it starts, into it."""

    def __init__(self, role):
        self.name = f"bw{os.getpid()}-{next(serial)}{role}"
        sh(["ip", "netns", "add", self.name])
        self.processes = []
        self.outside = []
        try:
            self.ip("link set lo up")
            # Routers and duplicate address detection do not exist here; waiting for them would only cost time.
            for where in ("all", "default"):
                self.sysctl(f"net/ipv6/conf/{where}/accept_ra", 0)
                self.sysctl(f"net/ipv6/conf/{where}/accept_dad", 0)
        except BaseException:
            self.remove()
            raise

    def __enter__(self):
        self.outside.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))
        inside = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            if libc.setns(inside, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"setns {self.name}")
        finally:
            os.close(inside)
        return self

    def __exit__(self, *exc):
        outside = self.outside.pop()
        failed = libc.setns(outside, CLONE_NEWNET)
        os.close(outside)
        if failed:
            # On no account go on inside: the next command would be meant for another network.
            os._exit(70)

    def argv(self, command):
        words = shlex.split(command) if isinstance(command, str) else [str(word) for word in command]
        return ["ip", "netns", "exec", self.name, *words]

    def run(self, command, **options):
        return sh(self.argv(command), **options)

    def ip(self, arguments, **options):
        return sh(["ip", "-n", self.name, *shlex.split(arguments)], **options)

    def sysctl(self, key, value):
        with self, open(f"/proc/sys/{key}", "w") as file:
            file.write(f"{value}\n")

    def start(self, command, **options):
        """A background process. It is ended with the namespace at the latest."""
        options.setdefault("stdin", subprocess.DEVNULL)
        argv = self.argv(command)
        print("$", shlex.join(argv), "&", flush=True)
        process = subprocess.Popen(argv, **options)
        self.processes.append(process)
        return process

    def links(self):
        listed = sh(["ip", "-n", self.name, "-o", "link"]).stdout
        return sorted(line.split(": ")[1].split("@")[0] for line in listed.splitlines())

    def pids(self):
        return [int(pid) for pid in sh(["ip", "netns", "pids", self.name], check=False).stdout.split()]

    def remove(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        sh(["ip", "netns", "del", self.name], check=False)


def link(*ends, mtu=1500, offloads=False, queues=1):
    """A veth pair between two (namespace, name). Offloads are off at both ends, since between two ends of one machine
    a checksum left to the hardware, or a 64 KB segment, would reach the wire as it is. Both ends are down."""
    (ns, name), (other, other_name) = ends
    many = ["numrxqueues", queues, "numtxqueues", queues]
    sh(["ip", "link", "add", name, "netns", ns.name, "mtu", mtu, *many, "type", "veth",
        "peer", "name", other_name, "netns", other.name, "mtu", mtu, *many])
    cut = "tso off gso off gro off lro off" + ("" if offloads else " tx off rx off")
    for ns, name in ends:
        ns.run(f"ethtool -K {name} {cut}", check=False, quiet=True)
        shown = ns.run(f"ethtool -k {name}", quiet=True).stdout
        assert "tcp-segmentation-offload: off" in shown
        assert offloads or "tx-checksumming: off" in shown


def veth(server, client, *, mtu=1500, offloads=False, queues=1):
    """A pair that is up: v0 without any address in `server`, v1 in `client`."""
    link((server, "v0"), (client, "v1"), mtu=mtu, offloads=offloads, queues=queues)
    if mtu >= 1280:  # below, the kernel has no IPv6 on an interface
        server.sysctl("net/ipv6/conf/v0/disable_ipv6", 1)
    for ns, end in ((server, "v0"), (client, "v1")):
        ns.ip(f"link set {end} up")


def cpu_seconds(pid):
    """Of all threads of a process, user and system."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def threads(pid):
    """Thread ids by name."""
    named = {}
    for tid in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/{pid}/task/{tid}/comm") as file:
            named.setdefault(file.read().strip(), int(tid))
    return named
