# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures: the guest's image, the document root, and guests: one for each kind of NIC, for all its tests."""

import os
import pathlib
import random
import shutil
import sys
import tempfile

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(HERE.parent / "interop")]

from guest import Guest  # noqa: E402
from image import first_files, kept  # noqa: E402
from lab import Namespace  # noqa: E402
from patience import deadline, pytest_sessionstart  # noqa: E402, F401

BINARY = pathlib.Path(os.environ.get("BAREWIRE", ROOT / "build/app/barewire")).resolve()
MIB = 1 << 20


# ---- pytest's hooks ------------------------------------------------------------------------------------------


def pytest_collection_modifyitems(items):
    if os.geteuid() != 0:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="needs root, for a network namespace and a TAP in it"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """What the guest of a failed test has said belongs to its report."""
    report = (yield).get_result()
    if call.when == "call":
        item.bw_has_failed = report.failed
    guest = getattr(item, "bw_guest", None)
    if report.failed and guest is not None:
        for path in (guest.console, guest.errors, guest.shell):
            if path.exists():
                text = path.read_text(errors="replace").replace("\r", "")
                report.sections.append((f"{path.name} ({call.when})", text[-12000:]))


# ---- what the whole session shares ---------------------------------------------------------------------------


@pytest.fixture(scope="session")
def image():
    if not BINARY.exists():
        pytest.exit(f"{BINARY} is not there: scripts/test --interop builds it", returncode=2)
    return kept(ROOT / "build/qemu")


@pytest.fixture(scope="session")
def files():
    """The document root: name to path by `files / name`. Random from a seed: a byte in the wrong place shows."""
    root = pathlib.Path(tempfile.mkdtemp(prefix="barewire-www-"))
    rng = random.Random(20264)
    try:
        (root / "10m").write_bytes(rng.randbytes(10 * MIB))
        (root / "100k").write_bytes(rng.randbytes(100_000))
        (root / "1m").write_bytes(rng.randbytes(MIB))
        (root / "index.html").write_text("<!doctype html><title>barewire</title><p>hello\n")
        yield root
    finally:
        shutil.rmtree(root)


class Guests:
    """At most one runs at a time: two would be in each other's way on a small machine. It is booted when a test wants
    another than the one that runs, or has found that one in a bad state."""

    def __init__(self, image, files, new_folder):
        self.image, self.files, self.new_folder = image, files, new_folder
        self.wanted = self.guest = self.ns = None

    def get(self, model, queues, kind):
        if self.wanted != (model, queues, kind):
            self.remove()
            self.ns = Namespace("q")
            folder = self.new_folder(model)
            (folder / "initrd").write_bytes(first_files(self.image))
            self.guest = kind(self.ns, folder, model=model, image=self.image, build=BINARY.parent.parent,
                              www=self.files, queues=queues)
            self.wanted = (model, queues, kind)
        return self.guest

    def remove(self):
        try:
            if self.guest is not None:
                self.guest.off()
        finally:
            if self.ns is not None:
                self.ns.remove()
            self.wanted = self.guest = self.ns = None


@pytest.fixture(scope="session")
def guests(image, files, tmp_path_factory):
    made = Guests(image, files, tmp_path_factory.mktemp)
    try:
        yield made
    finally:
        made.remove()


@pytest.fixture
def lend(request, guests):
    """A guest with so many queues of such a NIC, for one test."""
    def get(model, queues=1, kind=Guest):
        guest = request.node.bw_guest = guests.get(model, queues, kind)
        if guest.monitor is None:
            guest.ready()
        return guest

    is_well = False
    try:
        yield get
        guest = getattr(request.node, "bw_guest", None)
        # Whatever the test was about, its servers end well, unless it has ended them itself.
        for server in guest.servers if guest else ():
            if not server.is_checked:
                server.stop()
        is_well = not getattr(request.node, "bw_has_failed", True)
    finally:
        if not is_well:
            guests.remove()
