# SPDX-License-Identifier: BSD-3-Clause
"""
The guest's kernel and its first files, out of Debian's packages. Nothing of them is installed.

The packages are fetched once and what is used of them is kept in build/qemu/: a kernel without its compression (which
would have to be undone under emulation, at every start), a few modules and a static busybox. The archive of the guest's
first files is put together at every run, since it is a matter of milliseconds and our `init` is part of it.
"""

import lzma
import os
import pathlib
import shutil
import stat
import struct
import subprocess
import tempfile

from lab import Failed, sh

HERE = pathlib.Path(__file__).resolve().parent
# In the order in which they are loaded: by every guest, and by those whose own NIC is theirs to use.
MODULES = {
    "order": ("virtio_pci", "9pnet_virtio", "9p", "vfio_iommu_type1", "vfio-pci", "tun", "8021q"),
    "order-net": ("virtio_net",),
}


def uncompressed(image):
    """A bzImage's payload. The boot protocol (Documentation/x86/boot.rst) says where it lies."""
    sectors, = struct.unpack_from("<B", image, 0x1f1)
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (sectors + 1) * 512 + offset
    return lzma.LZMADecompressor().decompress(image[start:start + length])


def fetch(folder):
    """The packages into `folder`. Their index may be missing, or older than what the mirror still has."""
    for attempt in ("with the index that is here", "with a new one"):
        found = sh(["apt-cache", "depends", "--important", "linux-image-amd64"], check=False, quiet=True).stdout
        kernels = [line.split()[1] for line in found.splitlines() if line.startswith("  Depends: linux-image-")]
        if kernels:
            done = subprocess.run(["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", kernels[0],
                                   "busybox-static"], cwd=folder, capture_output=True, text=True, timeout=300)
            if done.returncode == 0:
                return
            print(attempt, done.stderr, flush=True)
        sh("apt-get -qq update", timeout=300)
    raise Failed("apt-get cannot download the guest's packages: is Debian's mirror reachable?")


def modules_in_order(root, modules):
    """Paths of the modules and all that they need, each behind what it needs."""
    version = next((root / "lib/modules").iterdir()).name
    sh(["depmod", "-b", root, version])
    paths = []
    for module in modules:
        shown = sh(["modprobe", "-d", root, "-S", version, "--show-depends", module], quiet=True).stdout
        for line in shown.splitlines():
            word, path = line.split()[:2]
            if word == "insmod" and path not in paths:
                paths.append(path)
    return paths


def make(folder):
    """What the guest is made of, into `folder`."""
    root = folder / "root"
    fetch(folder)
    for package in folder.glob("*.deb"):
        sh(["dpkg-deb", "-x", package, root])
        package.unlink()
    (folder / "vmlinux").write_bytes(uncompressed(next((root / "boot").glob("vmlinuz-*")).read_bytes()))
    (folder / "modules").mkdir()
    known = []
    for order, modules in MODULES.items():
        paths = [path for path in modules_in_order(root, modules) if path not in known]
        known += paths
        for path in paths:
            shutil.copy(path, folder / "modules")
        (folder / "modules" / order).write_text("".join(os.path.basename(path) + "\n" for path in paths))
    shutil.copy(root / "bin/busybox", folder / "busybox")
    shutil.rmtree(root)


def is_of_today(folder):
    """It has all modules: one that was made for fewer has to be made anew."""
    there = {path.name.partition(".")[0].replace("-", "_") for path in (folder / "modules").glob("*.ko*")}
    return all((folder / "modules" / order).exists() and {module.replace("-", "_") for module in modules} <= there
               for order, modules in MODULES.items())


def kept(folder):
    """`folder`, made if it is not there yet: beside its place, so that half of it is never taken for all."""
    if folder.exists() and not is_of_today(folder):
        shutil.rmtree(folder)
    if not folder.exists():
        folder.parent.mkdir(exist_ok=True)
        fresh = pathlib.Path(tempfile.mkdtemp(prefix=folder.name + "-", dir=folder.parent))
        try:
            make(fresh)
            fresh.rename(folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return folder


class Archive:
    """cpio's "newc", which the kernel unpacks (Documentation/driver-api/early-userspace/buffer-format.rst)."""

    def __init__(self):
        self.bytes = bytearray()
        self.count = 0

    def add(self, name, mode, body=b""):
        self.count += 1
        name = name.encode() + b"\0"
        fields = (self.count, mode, 0, 0, 1, 0, len(body), 0, 0, 0, 0, len(name), 0)
        self.bytes += b"070701" + b"".join(b"%08X" % field for field in fields) + name
        self.pad()
        self.bytes += body
        self.pad()

    def pad(self):
        self.bytes += bytes(-len(self.bytes) % 4)

    def folder(self, name):
        self.add(name, stat.S_IFDIR | 0o755)

    def file(self, name, path):
        self.add(name, stat.S_IFREG | 0o755, path.read_bytes())

    def link(self, name, target):
        self.add(name, stat.S_IFLNK | 0o777, target.encode())

    def end(self):
        self.add("TRAILER!!!", 0)
        return bytes(self.bytes)


def first_files(folder):
    """The archive, of what is kept in `folder` and our `init`."""
    archive = Archive()
    # EAL keeps its files in /var/run, does not make it, and refuses it where everybody may write above it.
    for name in (".", "applets", "modules", "proc", "sys", "dev", "usr", "build", "www", "run", "tmp", "var"):
        archive.folder(name)
    archive.link("var/run", "/run")
    # A Debian of today has all of these in /usr, which is the host's.
    for name in ("bin", "sbin", "lib", "lib64"):
        archive.link(name, f"usr/{name}")
    archive.file("init", HERE / "init")
    archive.file("applets/busybox", folder / "busybox")
    for path in sorted((folder / "modules").iterdir()):
        archive.file(f"modules/{path.name}", path)
    return archive.end()
