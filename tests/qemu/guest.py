# SPDX-License-Identifier: BSD-3-Clause
"""
A guest with one NIC to give away, and Barewire in it.

The CPU is emulated in software, so that nothing is asked of the machine that runs the tests, and one that is a guest
itself will do. The NIC sits behind an emulated VT-d IOMMU: vfio-pci takes it as it would take a real one, and a DMA to
where it may not go fails.
"""

import collections
import json
import re
import socket
import subprocess

from lab import Failed, stop, wait_until

NIC, SECOND_NIC = "0000:00:10.0", "0000:00:11.0"
MAC = "52:54:00:00:77:02"
TAP = "tap0"
V4, V4_HOST = "198.18.77.2", "198.18.77.1"
V6, V6_HOST = "fd77:ba5e::2", "fd77:ba5e::1"
FAMILIES = {"v4": V4, "v6": V6}
HTTP, RESP, ECHO = 8080, 6379, 7


class Monitor:
    """QEMU's, which speaks QMP: one JSON object a line."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(str(path))
        self.lines = self.socket.makefile("rw")
        self.lines.readline()  # the greeting
        self.ask("qmp_capabilities")

    def ask(self, command, **arguments):
        self.lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.lines.flush()
        while True:
            answer = json.loads(self.lines.readline())
            if "error" in answer:
                raise Failed(f"QEMU's monitor, {command} {arguments}: {answer['error']}")
            if "return" in answer:  # else it tells of an event
                return answer["return"]

    def close(self):
        self.lines.close()
        self.socket.close()


class Guest:
    """Boots at once. On the host's side of the cable is `ns`, whose end of it is TAP."""

    def __init__(self, ns, folder, *, model, image, build, www, queues=1):
        self.ns, self.folder, self.model, self.queues = ns, folder, model, queues
        self.monitor = None
        self.servers = []
        self.lay_cable()
        self.console, self.shell, self.errors = (folder / name for name in ("console", "shell", "qemu"))
        with open(self.shell, "wb") as out, open(self.errors, "wb") as errors:
            self.process = ns.start(self.argv(image, {"usr": "/usr", "build": build, "www": www}),
                                    stdin=subprocess.PIPE, stdout=out, stderr=errors)

    def lay_cable(self):
        self.ns.ip(f"tuntap add {TAP} mode tap" + (" multi_queue" if self.queues > 1 else ""))
        self.ns.ip(f"addr add {V4_HOST}/24 dev {TAP}")
        self.ns.ip(f"addr add {V6_HOST}/64 dev {TAP} nodad")
        self.ns.ip(f"link set {TAP} up")

    def network(self):
        """QEMU's words for the NIC and its cable."""
        device = f"{self.model},netdev=cable,mac={MAC},bus=pcie.0,addr={NIC[8:10]}"
        cable = f"tap,id=cable,ifname={TAP},script=no,downscript=no,vhost=off"
        if self.model == "virtio-net-pci":
            # Without the first it would do DMA past the IOMMU; and what is older than virtio 1.0 knows no other way.
            device += ",iommu_platform=on,disable-legacy=on"
        if self.queues > 1:
            cable += f",queues={self.queues}"
            device += f",mq=on,rss=on,vectors={2 * self.queues + 2}"
        # The IOMMU is before all devices that are to be behind it.
        return ["-device", "intel-iommu,intremap=on,caching-mode=on,aw-bits=48", "-netdev", cable, "-device", device]

    nics = (NIC,)
    dev = f"pci:{NIC}"

    @property
    def kernel(self):
        """What the guest's kernel is told."""
        return f"intel_iommu=on hugepages=256 NIC={','.join(self.nics)}"

    def argv(self, image, shares):
        words = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-M", "q35,kernel-irqchip=split", "-cpu", "max",
                 "-smp", "2", "-m", "1G", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
                 "-kernel", image / "vmlinux", "-initrd", self.folder / "initrd",
                 "-append", f"console=ttyS0 panic=-1 quiet mitigations=off nokaslr {self.kernel}",
                 *self.network(),
                 "-chardev", f"file,id=console,path={self.console}", "-serial", "chardev:console",
                 "-chardev", "stdio,id=shell,signal=off", "-serial", "chardev:shell",
                 "-qmp", f"unix:{self.folder / 'qmp'},server=on,wait=off"]
        for tag, path in shares.items():
            words += ["-fsdev", f"local,id={tag},path={path},security_model=none,readonly=on,multidevs=remap",
                      "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
        return words

    def said(self):
        """What came through the shell's line, without what makes it look well on a terminal."""
        return re.sub(r"\r|\x1b\[\d*m", "", self.shell.read_text(errors="replace"))

    def assert_runs(self):
        if self.process.poll() is not None:
            raise Failed(f"QEMU ended by itself, status {self.process.returncode}: "
                         f"{self.errors.read_text(errors='replace').strip()}")

    def wait_for(self, pattern, what, *, since=0, timeout=60):
        def found():
            match = re.search(pattern, self.said()[since:])
            if match is None:
                self.assert_runs()
            return match

        return wait_until(found, what, timeout=timeout)

    def type(self, line):
        print("guest#", line, flush=True)
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def ready(self):
        """It has booted, and its shell has spoken first: what is typed before that gets lost."""
        said = self.wait_for(r"guest: (.*)\n", "the guest's shell")[1]
        assert said.split() == " ".join(f"{nic} is with vfio-pci" for nic in self.nics).split()
        self.monitor = Monitor(self.folder / "qmp")

    def dma_faults(self):
        """Addresses that the NIC asked for and the IOMMU has no mapping of."""
        faults = re.findall(r"DMAR: \[DMA .*fault addr (0x\w+)", self.console.read_text(errors="replace"))
        # QEMU's vmxnet3 reads from 0 on when a driver asks it something before it has said where their memory is.
        return [at for at in faults if (self.model, at) != ("vmxnet3", "0x0")]

    def url(self, family, name):
        host = V4 if family == "v4" else f"[{V6}]"
        return f"http://{host}:{HTTP}/{name}"

    def cable(self, is_in):
        """Push the NIC's plug in, or pull it out."""
        self.monitor.ask("set_link", name="cable", up=is_in)

    def serve(self, *options):
        server = Server(self, options)
        self.servers.append(server)
        return server

    def off(self):
        """The guest ends by itself when its shell does."""
        if self.monitor is not None:
            self.monitor.close()
        if self.process.poll() is None:
            try:
                self.type("poweroff -f")
                self.process.wait(10)
            except (BrokenPipeError, subprocess.TimeoutExpired):
                stop(self.process)
        self.process.stdin.close()


class BondGuest(Guest):
    """One with two NICs on one cable: what comes out of it reaches both, and each has a plug of its own."""

    nics = (NIC, SECOND_NIC)
    mode = "active-backup"

    @property
    def dev(self):
        return f"bond:{self.mode}," + ",".join(f"pci:{nic}" for nic in self.nics)

    def network(self):
        words = ["-device", "intel-iommu,intremap=on,caching-mode=on,aw-bits=48",
                 "-netdev", f"tap,id=tap,ifname={TAP},script=no,downscript=no,vhost=off",
                 "-netdev", "hubport,id=trunk,hubid=0,netdev=tap"]
        for nic in self.nics:
            plug = f"plug{nic[8:10]}"
            words += ["-netdev", f"hubport,id={plug},hubid=0",
                      "-device", f"{self.model},netdev={plug},mac={MAC[:-2]}{nic[8:10]},bus=pcie.0,addr={nic[8:10]}"]
        return words

    def cable(self, is_in, nic=NIC):
        self.monitor.ask("set_link", name=f"plug{nic[8:10]}", up=is_in)


class VhostGuest(Guest):
    """One whose NIC is its kernel's, with the socket of a vhost-user back-end at the other end. Which of the two makes the
    socket is `role`, QEMU's; in either it goes on when the back-end comes back."""

    kernel = "NIC="

    def __init__(self, ns, folder, *, role, socket_path, **options):
        self.role, self.socket_path, self.commands = role, socket_path, 0
        super().__init__(ns, folder, model="virtio-net-pci", **options)

    def lay_cable(self):
        pass

    def network(self):
        how = {"client": "reconnect=1", "server": "server=on,wait=off"}[self.role]
        return ["-object", "memory-backend-memfd,id=memory,size=1G,share=on", "-numa", "node,memdev=memory",
                "-chardev", f"socket,id=vhost,path={self.socket_path},{how}",
                "-netdev", f"vhost-user,id=cable,chardev=vhost,queues={self.queues}",
                # Under software emulation QEMU 7.2 ends with a segmentation fault where vhost meets MSI-X.
                "-device", f"virtio-net-pci,netdev=cable,mac={MAC},host_mtu={self.mtu},vectors=0"
                           + (",mq=on" if self.queues > 1 else "")]

    mtu = 1500

    def ready(self):
        self.iface = self.wait_for(r"guest: its own NIC is (\w+)\n", "the guest's shell")[1]
        self.monitor = Monitor(self.folder / "qmp")
        self.run(f"echo 0 >/proc/sys/net/ipv6/conf/{self.iface}/accept_dad && ip link set {self.iface} up &&"
                 f"ip addr add {V4_HOST}/24 dev {self.iface} && ip addr add {V6_HOST}/64 dev {self.iface}")

    def run(self, line, timeout=100):
        """In the guest's shell, to its end, which is to be a good one. Returns what it said."""
        self.commands += 1
        start = len(self.said())
        self.type(f"{{ {line}; }} 2>&1; echo guest: command {self.commands} ended with $?")
        ended = self.wait_for(rf"guest: command {self.commands} ended with (\d+)\n", line, since=start, timeout=timeout)
        said = self.said()[start:start + ended.start()]
        print(said)
        assert ended[1] == "0", f"exit status {ended[1]} of {line}"
        return said


class Server:
    """One `barewire serve` in the guest. stop() is part of every test: it asserts a clean end."""

    def __init__(self, guest, options):
        self.guest = guest
        self.start = len(guest.said())
        self.is_checked = False
        words = ["/build/app/barewire", "serve", "--dev", guest.dev, "--addr", f"{V4}/24", "--addr", f"{V6}/64",
                 "--http", f"{HTTP}=/www", "--resp", str(RESP), "--echo", str(ECHO), *map(str, options)]
        # Its pid is the shell's, which exec() turns into it.
        guest.type(f"(sh -c 'echo guest: pid $$; exec {' '.join(words)}'; echo guest: status $?) &")
        self.pid = int(guest.wait_for(r"guest: pid (\d+)", "a process in the guest", since=self.start)[1])

    def output(self):
        return self.guest.said()[self.start:]

    def wait_for(self, pattern, what, *, since=0, timeout=60):
        def found():
            match = re.search(pattern, self.output()[since:])
            if match is None:
                self.assert_runs()
            return match

        return wait_until(found, what, timeout=timeout)

    def status(self):
        """None while it runs."""
        ended = re.search(r"guest: status (\d+)", self.output())
        return int(ended[1]) if ended else None

    def assert_runs(self):
        self.guest.assert_runs()
        status = self.status()
        if status is not None:
            self.is_checked = True  # said once is enough
            raise Failed(f"barewire ended by itself, status {status}")

    def banner(self):
        """Its rows: the device's name, say, by "device"."""
        self.wait_for(rf"nc {re.escape(V6)} {ECHO}\n", "the banner")
        return dict(re.findall(r"(?m)^  (\S+) +(.+)$", self.output()))

    def ready(self):
        """A ping gets through. Returns the banner."""
        banner = self.banner()

        def answers():
            self.assert_runs()
            return self.guest.ns.run(["ping", "-c", 1, "-W", 1, V4], check=False, quiet=True).returncode == 0

        wait_until(answers, f"{V4} to answer a ping", timeout=60)
        return banner

    def signal(self, name):
        self.guest.type(f"kill -{name} {self.pid}")

    def counters(self):
        """The final counters: the last value given for every name."""
        found = re.findall(r"\b([a-z]+\.[a-z0-9_]+)[ \t=:]+(\d+)\b", self.output())
        return collections.Counter({name: int(value) for name, value in found})

    def stop(self, timeout=60):
        """SIGTERM, then: status 0, every mbuf accounted for."""
        self.is_checked = True
        self.assert_runs()
        self.signal("TERM")
        wait_until(lambda: self.status() is not None or self.guest.assert_runs(), "barewire's end", timeout=timeout)
        assert self.status() == 0, f"exit status {self.status()} after SIGTERM"
        assert re.search(r"\b0 lost\b", self.output()), "no '0 lost' in the mbuf balance"
        assert self.guest.dma_faults() == []
        return self.counters()
