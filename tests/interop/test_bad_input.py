# SPDX-License-Identifier: BSD-3-Clause
"""What cannot work is refused: one line on stderr, exit status 2, nothing left behind."""

import contextlib
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile

import pytest

from conftest import V4


pytestmark = pytest.mark.busy


@pytest.fixture
def place(bench, tmp_path):
    """A namespace with something to lose: an interface of its own."""
    ns = bench.namespace("x")
    ns.ip("tuntap add dev taken mode tap")
    ns.ip("link set taken up")
    ns.tmp = tmp_path
    return ns


def left_behind(ns, pid=None):
    """Everything that a start could leave. What DPDK keeps elsewhere carries the process's id in its name."""
    there = {"links": ns.links(), "processes": ns.pids(), "files": sorted(str(path) for path in ns.tmp.rglob("*"))}
    for folder in (pathlib.Path("/run/dpdk"), pathlib.Path("/dev/hugepages")):
        names = os.listdir(folder) if folder.exists() else []
        there[str(folder)] = [name for name in names if pid is not None and re.match(rf"bw{pid}(\D|$)", name)]
    return there


def refused(ns, argv, *mentions):
    before = left_behind(ns)
    process = ns.start(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    stdout, stderr = process.communicate(timeout=20)
    print(stderr, end="")
    assert process.returncode == 2, "exit status"
    lines = stderr.splitlines()
    assert len(lines) == 1, f"{len(lines)} lines on stderr"
    assert stdout == ""
    for word in mentions:
        assert word in lines[0], f"the line does not name {word}"
    assert left_behind(ns, process.pid) == before


CASES = {
    "unknown flag": (["--frobnicate"], ["--frobnicate"]),
    "unknown word": (["frobnicate"], ["frobnicate"]),
    "flag without its value": (["--http"], ["--http"]),
    "bad IPv4 address": (["--addr", "300.1.2.3/24"], ["300.1.2.3/24"]),
    "bad prefix": (["--addr", "192.0.2.1/33"], ["192.0.2.1/33"]),
    "bad IPv6 address": (["--addr", "fd77::g/64"], ["fd77::g/64"]),
    "bad gateway": (["--gateway", "not-an-address"], ["not-an-address"]),
    "gateway that is not on-link": (["--addr", "192.0.2.1/24", "--gateway", "198.51.100.1"], ["198.51.100.1"]),
    "bad port": (["--http", "99999"], ["99999"]),
    "port zero": (["--echo", "0"], ["0"]),
    "overlapping ports": (["--http", "8080", "--resp", "8080"], ["8080"]),
    "missing root": (["--http", "8080=/no/such/root"], ["/no/such/root"]),
    "root that is a file": (["--http", "8080=/etc/passwd"], ["/etc/passwd"]),
    "missing interface (packet)": (["--dev", "packet:nope0"], ["nope0"]),
    "missing interface (xdp)": (["--dev", "xdp:nope0"], ["nope0"]),
    "TAP name in use": (["--dev", "tap:taken"], ["taken"]),
    "TAP name too long": (["--dev", "tap:a-name-of-over-fifteen"], ["a-name-of-over-fifteen"]),
    "unknown device": (["--dev", "carrier-pigeon"], ["carrier-pigeon"]),
    "missing PCI device": (["--dev", "pci:0000:ff:1f.7"], ["0000:ff:1f.7"]),
    "memif socket in a missing folder": (["--dev", "memif:/no/such/folder/m.sock"], ["/no/such/folder"]),
    "vhost socket in a missing folder": (["--dev", "vhost:/no/such/folder/v.sock"], ["/no/such/folder"]),
    "vhost with a path that is a file": (["--dev", "vhost:/etc/passwd"], ["/etc/passwd", "not a socket"]),
    "vhost without a path": (["--dev", "vhost:"], ["vhost:SOCKET"]),
    "vhost with a path too long": (["--dev", "vhost:/tmp/" + "x" * 120], ["107 bytes"]),
    "vhost with an unknown role": (["--dev", "vhost:/tmp/v.sock,role=guest"], ["role", "guest"]),
    "vhost with more queues than workers": (["--dev", "vhost:/tmp/v.sock,queues=2"], ["queues=2"]),
    "virtio socket in a missing folder": (["--dev", "virtio:/no/such/folder/v.sock"], ["/no/such/folder"]),
    "virtio with a path that is a file": (["--dev", "virtio:/etc/passwd"], ["/etc/passwd", "not a socket"]),
    "virtio with an unknown option": (["--dev", "virtio:/tmp/v.sock,speed=1"], ["speed=1"]),
    "no workers": (["--workers", "0"], ["--workers"]),
    "workers that are no number": (["--workers", "two"], ["two"]),
    "more workers than cores": (["--workers", "65"], ["65"]),
    "MTU below the least": (["--mtu", "500"], ["500"]),
    "missing file": (["-c", "/no/such/file.yaml"], ["/no/such/file.yaml"]),
}


@pytest.mark.parametrize("case", CASES)
def test_refused(place, binary, case):
    """All but the one thing is as it should be."""
    flags, mentions = CASES[case]
    whole = []
    if "--dev" not in flags:
        whole += ["--dev", "tap:bwt9"]
    if "--addr" not in flags:
        whole += ["--addr", "192.0.2.1/24"]
    if not {"--http", "--echo", "-c"} & set(flags):
        whole += ["--echo", "7"]
    refused(place, [binary, "serve", *whole, *flags], *mentions)


FILES = {
    "unknown key": ("workers: 1\nfrobnicate: 1\n", 2, "frobnicate"),
    "wrong type": ("workers: many\n", 1, "many"),
    "memory for fewer workers": ("resp:\n  - port: 6379\n    memory: 2MiB\n", 3, "5MiB"),
    "no YAML at all": ("workers: 1\n\tservices: {\n", 2, ""),
}


@pytest.mark.parametrize("command", ["serve", "check"])
@pytest.mark.parametrize("case", FILES)
def test_bad_file(place, binary, case, command):
    text, line, word = FILES[case]
    path = place.tmp / "bad.yaml"
    path.write_text(text)
    refused(place, [binary, command, "-c", path], f"bad.yaml:{line}", word)


def test_more_buffers_than_memory(place, binary):
    """Without hugepages they would all be touched, and the kernel would end whom it likes."""
    path = place.tmp / "large.yaml"
    path.write_text("mbufs: 16777216\necho: [{port: 7}]\n")
    refused(place, [binary, "serve", "--dev", "tap:bwt9", "-c", path], "mbufs", "MiB")


def test_unreadable_root(place, binary):
    """Root reads everything, so this is asked without its privileges to do so."""
    root = place.tmp / "secret"
    root.mkdir(mode=0)
    refused(place, ["setpriv", "--bounding-set=-dac_override,-dac_read_search",
                    "--inh-caps=-dac_override,-dac_read_search", binary,
                    "serve", "--dev", "tap:bwt9", "--http", f"8080={root}"], str(root))


@contextlib.contextmanager
def nobodys(binary):
    """A folder that the user nobody may look into, who may not be able to reach the checkout; and how he runs the binary."""
    public = pathlib.Path(tempfile.mkdtemp(prefix="barewire-public-"))
    try:
        public.chmod(0o755)
        copy = shutil.copy(binary, public / "barewire")
        yield public, ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all",
                       "--inh-caps=-all", copy]
    finally:
        shutil.rmtree(public)


@pytest.mark.parametrize("device", ["vhost", "virtio"])
def test_a_socket_folder_without_permission(place, binary, device):
    """A user who may not write where the socket would be is told so."""
    with nobodys(binary) as (folder, command):
        refused(place, [*command, "serve", "--dev", f"{device}:{folder}/v.sock,role=server", "--addr", "192.0.2.1/24",
                        "--echo", "7"], "v.sock", "Permission denied")


@pytest.mark.parametrize("device", ["tap:bwt9", "packet:taken", "xdp:taken"])
def test_not_privileged(place, binary, device):
    with nobodys(binary) as (_, command):
        refused(place, [*command, "serve", "--dev", device, "--addr", "192.0.2.1/24", "--echo", "7"], device, "root")


def test_a_device_of_another_barewire(bench, binary, files, tmp_path):
    """Two instances on one TAP or one memif socket: the second is refused, the first does not notice."""
    first = bench.serve("tap", [f"--http 8080={files}"])
    bench.client.tmp = tmp_path
    done = bench.client.run([binary, "serve", "--dev", "tap:bwt0", "--http", "8081"], check=False, timeout=20)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and "bwt0" in done.stderr
    with bench.client:
        socket.create_connection((V4, 8080), timeout=3).close()
    first.stop()


def test_help_is_not_an_error(place, binary):
    for argv in ([binary, "--help"], [binary, "serve", "--help"], [binary, "--version"]):
        done = place.run(argv)
        assert done.stdout and not done.stderr


def test_check_prints_what_it_reads(place, binary):
    """`barewire check` prints a file that reads back to the same file."""
    once = place.run([binary, "check", "--http", "8080", "--addr", "192.0.2.2/24"]).stdout
    path = place.tmp / "effective.yaml"
    path.write_text(once)
    assert place.run([binary, "check", "-c", path]).stdout == once
    assert "192.0.2.2/24" in once


def test_doctor_changes_nothing(place, binary):
    before = left_behind(place)
    said = place.run([binary, "doctor"]).stdout
    for word in ("hugepages", "TAP"):
        assert word.lower() in said.lower()
    assert left_behind(place) == before
