# SPDX-License-Identifier: BSD-3-Clause
"""What a start chooses and uses: `auto`, capture files, hugepages."""

import contextlib
import os
import pathlib

import pytest

from clients import download
from conftest import ECHO, FAMILIES, HTTP, V4, V4_CLIENT, Server
from lab import sh, wait_until

HUGE = pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB")


def test_auto_says_what_it_chose_and_why(bench, files):
    """No NIC here is bound to a DPDK driver, and auto takes none that the kernel drives."""
    ns = bench.namespace("c")
    server = Server(ns, [bench.binary, "serve", "--dev", "auto", "--http", f"{HTTP}={files}"], bench.log("barewire-0"))
    bench.servers.append(server)
    wait_until(lambda: "curl http://" in server.output(), "the banner")
    banner = server.output()
    assert "net_tap" in banner
    assert "no NIC is bound to a DPDK driver" in banner
    download(ns, f"http://{V4}:{HTTP}/1m", files / "1m")


def test_a_capture_file_is_answered_into_another(bench, tmp_path):
    """`pcap:IN,OUT`: packets made by scapy go in, and what comes out is read by scapy."""
    # Imported here: it is slow, and reads the interfaces of the namespace that it is imported in.
    from scapy.layers.inet import ICMP, IP, TCP, UDP
    from scapy.layers.l2 import ARP, Ether
    from scapy.packet import Raw
    from scapy.utils import rdpcap, wrpcap

    peer = "02:00:00:00:00:99"
    ours = "02:00:00:00:00:01"
    arriving = [
        Ether(src=peer, dst="ff:ff:ff:ff:ff:ff") / ARP(op=1, hwsrc=peer, psrc=V4_CLIENT, pdst=V4),
        Ether(src=peer, dst=ours) / IP(src=V4_CLIENT, dst=V4) / ICMP(id=5, seq=9) / Raw(b"ping from a file"),
        Ether(src=peer, dst=ours) / IP(src=V4_CLIENT, dst=V4) / UDP(sport=4000, dport=ECHO) / Raw(b"datagram"),
        Ether(src=peer, dst=ours) / IP(src=V4_CLIENT, dst=V4) / TCP(sport=4001, dport=ECHO, flags="S", seq=77),
        Ether(src=peer, dst=ours) / IP(src=V4_CLIENT, dst=V4) / TCP(sport=4002, dport=9, flags="S", seq=88),
    ]
    wrpcap(str(tmp_path / "in.pcap"), arriving)
    ns = bench.namespace("s")
    server = Server(ns, [bench.binary, "serve", "--dev", f"pcap:{tmp_path}/in.pcap,{tmp_path}/out.pcap", "--mac", ours,
                         "--addr", f"{V4}/24", "--echo", ECHO], bench.log("barewire-0"))
    bench.servers.append(server)
    wait_until(lambda: "nc " in server.output(), "the banner")
    ns.run(["sleep", 1])
    counters = server.stop()
    assert counters["rx.packets"] == len(arriving)
    left = rdpcap(str(tmp_path / "out.pcap"))
    assert any(ARP in p and p[ARP].op == 2 and p[ARP].hwsrc == ours and p[ARP].psrc == V4 for p in left)
    (pong,) = [p for p in left if ICMP in p]
    assert (pong[ICMP].type, pong[ICMP].id, pong[ICMP].seq, bytes(pong[Raw])) == (0, 5, 9, b"ping from a file")
    (echoed,) = [p for p in left if UDP in p]
    assert (echoed[UDP].dport, bytes(echoed[Raw])) == (4000, b"datagram")
    by_port = {p[TCP].dport: p[TCP] for p in left if TCP in p}
    assert by_port[4001].flags == "SA" and by_port[4001].ack == 78
    assert by_port[4002].flags == "RA" and by_port[4002].ack == 89


@pytest.mark.parametrize("spec, other_role", [
    ("memif:{},role=client", "server"),
    ("net_memif0,role=server,socket={},socket-abstract=no", "client"),  # DPDK's own words
])
def test_memif_as_client_and_by_raw_devargs(bench, files, spec, other_role):
    bench.client, bench.home, bench.iface = bench.namespace("c"), bench.namespace("s"), "bwm0"
    bench.socket = bench.tmp_path / "memif.sock"
    bench.server = Server(bench.home, [bench.binary, "serve", "--dev", spec.format(bench.socket), "--addr", f"{V4}/24",
                                       "--http", f"{HTTP}={files}"], bench.log("barewire-0"))
    bench.servers.append(bench.server)
    bench.bridge(1500, role=other_role)
    bench.ready()
    download(bench.client, bench.url("v4", "20m"), files / "20m")


@contextlib.contextmanager
def hugepages(count):
    """So many free 2 MiB pages, for as long as the test runs, however many the machine has otherwise."""
    before = int((HUGE / "nr_hugepages").read_text())
    (HUGE / "nr_hugepages").write_text(str(before - free_pages() + count))
    try:
        assert int((HUGE / "free_hugepages").read_text()) >= count, "the kernel did not find the memory"
        yield
    finally:
        (HUGE / "nr_hugepages").write_text(str(before))


def free_pages():
    return int((HUGE / "free_hugepages").read_text())


def files_in_hugetlbfs():
    mounts = [line.split() for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
    return sorted(os.path.join(words[1], name) for words in mounts if words[2] == "hugetlbfs"
                  for name in os.listdir(words[1]))


@pytest.mark.parametrize("device", ["tap", "packet", "xdp", "memif"])
def test_hugepages_are_used_and_given_back(bench, files, device):
    with hugepages(384):
        free, left = free_pages(), files_in_hugetlbfs()
        bench.serve(device, [f"--http {HTTP}={files}"])
        assert ", hugepages" in bench.server.output()
        assert free_pages() < free
        for family in FAMILIES:
            download(bench.client, bench.url(family, "20m"), files / "20m")
        bench.server.stop()
        # The kernel lets go of an AF_XDP socket's memory from a work item, which may run after the process is gone.
        wait_until(lambda: free_pages() == free, "all pages are free again", timeout=1, every=0.001)
        assert files_in_hugetlbfs() == left


def test_too_few_hugepages_are_left_alone(bench, files):
    """Fewer than are wanted are as good as none: it starts all the same, and says so."""
    with hugepages(4):
        free = free_pages()
        bench.serve("tap", [f"--http {HTTP}={files}"])
        assert "no hugepages" in bench.server.output()
        assert free_pages() == free
        download(bench.client, bench.url("v4", "1m"), files / "1m")


@pytest.mark.parametrize("arguments, status, said", [
    (["bind"], 2, "error: bind: which NIC?"),
    (["bind", "eth0"], 2, "error: bind eth0: not a PCI address"),
    (["bind", "ff:1f.7"], 2, "error: bind 0000:ff:1f.7: there is no such PCI device"),
    (["bind", "ff:1f.7", "vfio-pci", "more"], 2, "error: bind: more: one NIC at a time"),
    (["bind", "--force", "ff:1f.7"], 2, "error: bind: --force: no such flag"),
    (["bind", "--help"], 0, "usage: barewire bind ADDR [DRIVER]"),
    (["unbind"], 2, "error: unbind: which NIC?"),
    (["unbind", "ff:1f.7"], 2, "error: unbind 0000:ff:1f.7: there is no such PCI device"),
    (["unbind", "--help"], 0, "usage: barewire unbind ADDR"),
])
def test_bind_says_what_is_wrong(binary, arguments, status, said):
    """Of no NIC that there is: what it does to one, tests/nic/test_bind.c shows on a tree of files."""
    done = sh([binary, *arguments], check=False)
    lines = (done.stdout + done.stderr).splitlines()
    assert done.returncode == status and said in lines[0]
    assert status == 0 or len(lines) == 1
