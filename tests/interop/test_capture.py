# SPDX-License-Identifier: BSD-3-Clause
"""`barewire capture`: what it writes, beside what the kernel's own capture sees at the other end of the link."""

import collections
import re
import signal
import struct
import subprocess
import time

import pytest
from scapy.all import ARP, ICMP, IP, TCP, Dot1Q, PcapNgReader, Raw

from clients import download
from conftest import DEVICES, ECHO, FAMILIES, HERE, HTTP, V4, V4_CLIENT
from lab import stop, threads, wait_until
from wire import Wire


Packet = collections.namedtuple("Packet", "at way queue comment length bytes device")
WAYS = {1: "in", 2: "out"}


def services(files):
    return [f"--http {HTTP}={files}", f"--echo {ECHO}"]


def read(path, may_be_cut=False):
    """A pcapng file's packets, its first interface's options, and its statistics'."""
    data, at, packets, interfaces, statistics = path.read_bytes(), 0, [], [], {}

    def options(at, end):
        while at < end - 4:
            code, length = struct.unpack_from("=HH", data, at)
            if code == 0:
                return
            yield code, data[at + 4:at + 4 + length]
            at += 4 + (length + 3) // 4 * 4

    while at < len(data):
        kind, length = struct.unpack_from("=II", data, at)
        if may_be_cut and at + length > len(data):
            break
        assert struct.unpack_from("=I", data, at + length - 4)[0] == length
        if kind == 1:
            interfaces.append(dict(options(at + 16, at + length)))
        elif kind == 5:
            statistics = dict(options(at + 20, at + length))
        elif kind == 6:
            interface, high, low, kept, whole = struct.unpack_from("=IIIII", data, at + 8)
            said = dict(options(at + 28 + (kept + 3) // 4 * 4, at + length))
            packets.append(Packet((high << 32) + low, WAYS[struct.unpack("=I", said[2])[0]],
                                  struct.unpack("=I", said[6])[0], said.get(1, b"").decode(), whole,
                                  data[at + 28:at + 28 + kept], interfaces[interface][2].decode()))
        at += length
    return packets, interfaces[0] if interfaces else {}, statistics


def of(bench):
    """Of this server, whatever else runs on the machine."""
    return [bench.binary, "capture", "--instance", bench.server.pid]


class Capture:
    """One `barewire capture` under way."""

    def __init__(self, bench, *flags):
        self.path = bench.tmp_path / "packets.pcapng"
        self.path.unlink(missing_ok=True)
        self.process = bench.client.start([*of(bench), *flags, self.path],
                                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_until(lambda: self.process.poll() is not None or
                   (self.path.exists() and self.path.stat().st_size > 0), "the file")

    def end(self, status=0, sig=signal.SIGINT):
        if sig is not None and self.process.poll() is None:
            self.process.send_signal(sig)
        said, complained = self.process.communicate(timeout=20)
        print(said, complained)
        assert self.process.returncode == status
        self.result = re.search(r"^(\d+) packets?, (\d+) of them dropped; (\d+) more found no room", said)
        return self

    def packets(self):
        return read(self.path)[0]

    def counts(self):
        return [int(group) for group in self.result.groups()]


def refusal(bench, *flags, status):
    """The one line that it says, once the capture before is over."""
    done = wait_until(lambda: (said := bench.client.run([*of(bench), *flags], check=False)).stderr.count("under way") == 0
                      and said, "the end of the last")
    assert done.returncode == status
    assert done.stdout == "" and done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.sanitize
@pytest.mark.parametrize("device", DEVICES)
def test_same_frames_as_the_kernel_sees(bench, files, device):
    """Downloads, echoes and pings: each frame, byte for byte, with its checksums."""
    bench.serve(device, services(files))
    with open(bench.log("tcpdump"), "wb") as log:
        kernel = bench.client.start(["tcpdump", "-i", bench.iface, "-U", "-B", 65536, "-w", bench.tmp_path / "kernel.pcap"],
                                    stdout=log, stderr=subprocess.STDOUT)
    wait_until(lambda: (bench.tmp_path / "kernel.pcap").exists(), "tcpdump")
    time.sleep(0.3)
    capture = Capture(bench)
    for address in FAMILIES.values():
        bench.client.run(["/usr/bin/python3", HERE / "clients.py", "echo", address, ECHO, files / "small.txt"])
        bench.client.run(["ping", "-c", 3, "-i", 0.05, "-W", 3, "-s", 1000, address])
    download(bench.client, bench.url("v4", "1m"), files / "1m")
    download(bench.client, bench.url("v6", "1m"), files / "1m")
    time.sleep(0.3)
    capture.end()
    stop(kernel, signal.SIGINT)
    packets, interface, statistics = read(capture.path)
    assert interface[2].decode() == re.search(r"device +(\S+)", bench.server.output())[1]
    assert capture.counts()[::2] == [len(packets), 0]
    assert struct.unpack("=Q", statistics[6])[0] == len(packets) and struct.unpack("=Q", statistics[5])[0] == 0

    bench.client.run(["tcpdump", "-r", bench.tmp_path / "kernel.pcap", "-w", bench.tmp_path / "both.pcap", "-n"])
    theirs = frames_of(bench.tmp_path / "both.pcap")
    ours_mac = theirs_mac_of(bench)
    for way, is_it in (("in", lambda f: f[6:12] == ours_mac), ("out", lambda f: f[6:12] != ours_mac)):
        seen = collections.Counter(f.rstrip(b"\0") for f in theirs if is_it(f))
        captured = collections.Counter(p.bytes.rstrip(b"\0") for p in packets if p.way == way)
        assert sum(captured.values()) > 20
        # Either may have begun, and ended, a little before the other.
        assert sum((captured - seen).values()) <= 2, f"{way}: captured, and never on the wire"
        assert sum((seen - captured).values()) <= 4, f"{way}: on the wire, and not captured"
    assert all(abs(p.at / 1e9 - time.time()) < 60 for p in packets)
    # And who reads such files reads it.
    said = bench.client.run(["tcpdump", "-nvr", capture.path], quiet=True)
    assert said.stdout.count(f"{V4}.{HTTP} > ") > 50 and not re.search(r"incorrect|bad (ip |tcp |udp )?cksum", said.stdout)


def frames_of(path):
    data, at, frames = path.read_bytes(), 24, []
    while at < len(data):
        length = struct.unpack_from("=I", data, at + 8)[0]
        frames.append(data[at + 16:at + 16 + length])
        at += 16 + length
    return frames


def theirs_mac_of(bench):
    said = bench.client.ip(f"-o link show {bench.iface}", quiet=True).stdout
    return bytes.fromhex(re.search(r"link/ether (\S+)", said)[1].replace(":", ""))


@pytest.mark.sanitize
@pytest.mark.parametrize("workers", [1, 2])
def test_why_each_was_dropped(bench, files, workers):
    """A comment on each packet that was dropped, with the name of the counter that rose, and on no other."""
    bench.serve("packet", services(files), extra=["--workers", workers])
    wire = Wire(bench)
    tcp = TCP(sport=4000, dport=HTTP, flags="S", seq=1)
    wrong = {
        "drop.l4_checksum": wire.v4 / TCP(sport=4000, dport=HTTP, flags="S", chksum=0x1234) / Raw(b"1"),
        "drop.ip_checksum": wire.eth / IP(src=V4_CLIENT, dst=V4, chksum=0x1234) / tcp / Raw(b"2"),
        "drop.no_listener": wire.v4 / TCP(sport=4000, dport=81, flags="S") / Raw(b"3"),
        "drop.vlan": wire.eth / Dot1Q(vlan=7) / IP(src=V4_CLIENT, dst=V4) / tcp / Raw(b"4"),
        "drop.not_for_us_ip": wire.eth / IP(src=V4_CLIENT, dst="198.18.77.99") / tcp / Raw(b"5"),
        "drop.martian": wire.eth / IP(src="127.0.0.1", dst=V4) / tcp / Raw(b"6"),
        "drop.protocol": wire.eth / IP(src=V4_CLIENT, dst=V4, proto=132) / Raw(b"7" * 20),
        "drop.runt": wire.eth / IP(src=V4_CLIENT, dst=V4, len=900) / tcp / Raw(b"8"),
        "drop.icmp": wire.v4 / ICMP(type=13) / Raw(b"9" * 12),
        "drop.arp": wire.eth / ARP(op=7, psrc=V4_CLIENT, pdst=V4) / Raw(b"A"),
    }
    capture = Capture(bench)
    for _ in range(3):
        wire.send(*wrong.values())
        download(bench.client, bench.url("v4", "1"), files / "1")
    wire.close()
    time.sleep(0.3)
    capture.end()
    comments = collections.defaultdict(list)
    for packet in capture.packets():
        comments[packet.bytes.rstrip(b"\0")].append(packet.comment)
    for reason, frame in wrong.items():
        found = comments.pop(bytes(frame).rstrip(b"\0"), [])
        assert len(found) == 3 and all(text.startswith(reason + ": ") for text in found), f"{reason}: {found}"
    # But for what the client's kernel asks of routers, of which there is none.
    others = [text for frame, texts in comments.items() for text in texts if text and frame[0] & 1 == 0]
    assert others == [], "on packets that were not dropped"
    assert capture.counts()[1] >= 3 * len(wrong)
    counters = bench.server.stop()
    for reason in wrong:
        assert counters[reason] >= 3


def test_drops_alone(bench, files):
    """--drops: nothing but those, however much else goes by. The file is one for scapy, too."""
    bench.serve("packet", services(files))
    wire = Wire(bench)
    capture = Capture(bench, "--drops", "--filter", "tcp", "-c", 5)
    download(bench.client, bench.url("v4", "1m"), files / "1m")
    for port in range(81, 86):
        wire.send(wire.v4 / TCP(sport=4000, dport=port, flags="S"))
    wire.close()
    capture.end(sig=None)
    assert capture.counts() == [5, 5, 0]
    with PcapNgReader(str(capture.path)) as reader:
        packets = list(reader)
    assert [packet[TCP].dport for packet in packets] == list(range(81, 86))
    assert all(packet.comment.startswith("drop.no_listener: ") for packet in capture.packets())


@pytest.mark.parametrize("expression", [f"tcp port {HTTP}", "icmp or icmp6", "ip6", f"src host {V4} and greater 1000",
                                        "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0", "ether broadcast or ether multicast"])
def test_filters_are_pcaps(bench, files, expression):
    """What a filter lets in is what tcpdump finds by it in all that there was."""
    bench.serve("packet", services(files))
    counts = []
    for flags in ([], ["--filter", expression]):
        capture = Capture(bench, *flags)
        for family, address in FAMILIES.items():
            download(bench.client, bench.url(family, "1m"), files / "1m")
            bench.client.run(["ping", "-c", 2, "-i", 0.05, address])
            bench.client.ip(f"neigh flush dev {bench.iface}")
        capture.end()
        bench.client.run(["tcpdump", "-r", capture.path, "-w", bench.tmp_path / "wanted.pcap", expression])
        counts.append(len(frames_of(bench.tmp_path / "wanted.pcap")))
    wanted, _ = counts
    filtered, interface, _ = read(capture.path)
    assert interface[11] == b"\0" + expression.encode()
    assert counts[1] == len(filtered), "some that it should not let in"
    assert len(filtered) >= wanted / 3 > 0, "and all that it should, though no two downloads are the same packets"


@pytest.mark.sanitize
@pytest.mark.parametrize("device", ["packet", "memif"])
def test_two_workers_and_much_at_once(bench, files, device):
    """Every byte of the transfers is right while they are captured, and each packet is there or counted as lost."""
    bench.serve(device, services(files), extra=["--workers", 2], queues=2)
    capture = Capture(bench, "-s", 128)
    for name in ("20m", *["1m"] * 10):
        for family in FAMILIES:
            download(bench.client, bench.url(family, name), files / name)
    capture.end()
    packets, (count, _, lost) = capture.packets(), capture.counts()
    assert count == len(packets)
    assert {packet.queue for packet in packets} == {0, 1}
    assert all(len(packet.bytes) == min(packet.length, 128) for packet in packets)
    counters = bench.server.stop()
    passed = counters["rx.packets"] + counters["tx.packets"]
    assert passed * 0.9 < count + lost <= passed


@pytest.mark.sanitize
def test_the_kernels_packets_beside_ours(bench, files):
    """With an exception path: what the kernel gets and sends by it is shown, too, and was not dropped."""
    bench.serve("memif", [*services(files), "--exception bw0"])
    capture = Capture(bench)
    bench.client.run(["ping", "-c", 3, "-i", 0.05, "-W", 3, V4])  # the kernel answers
    download(bench.client, bench.url("v4", "1m"), files / "1m")
    capture.end()
    packets = capture.packets()
    echo = [packet for packet in packets
            if packet.bytes[12:14] == b"\x08\0" and packet.bytes[23] == 1 and packet.bytes[34] in (0, 8)]
    assert [packet.way for packet in echo] == ["in", "out"] * 3
    assert all(packet.comment == "" for packet in echo)
    assert sum(packet.way == "out" and packet.length > 1000 for packet in packets) > 500


def test_jumbo_frames_are_whole(bench, files):
    """Frames of several mbufs, and payload that is sent by reference."""
    bench.serve("packet", services(files), mtu=9000)
    capture = Capture(bench)
    download(bench.client, bench.url("v4", "1m"), files / "1m")
    capture.end()
    data = (files / "1m").read_bytes()
    long = [packet.bytes for packet in capture.packets() if packet.way == "out" and packet.length > 8000]
    assert len(long) > 100
    assert all(frame[-4000:] in data for frame in long)


def test_it_ends_as_it_was_told(bench, files):
    """By count, by time, by Ctrl-C, by SIGTERM; and then there may be another."""
    bench.serve("packet", services(files))
    ping = bench.client.start(["ping", "-i", 0.05, V4], stdout=subprocess.DEVNULL)
    capture = Capture(bench, "-c", 10).end(sig=None)
    assert capture.counts()[0] == len(capture.packets()) == 10
    began = time.monotonic()
    assert 10 < Capture(bench, "-d", "1s").end(sig=None).counts()[0] < 100
    assert 0.9 < time.monotonic() - began < 5
    for sig in (signal.SIGINT, signal.SIGTERM):
        capture = Capture(bench)
        time.sleep(0.5)
        assert capture.end(sig=sig).counts()[0] > 5
    stop(ping)


@pytest.mark.sanitize
def test_who_asked_dies(bench, files):
    """Killed, it leaves nothing behind: the server serves, and the next one captures."""
    bench.serve("packet", services(files))
    for _ in range(5):
        capture = Capture(bench)
        download(bench.client, bench.url("v4", "1m"), files / "1m")
        stop(capture.process, signal.SIGKILL)
        wait_until(lambda: "under way" not in bench.client.run(
            [*of(bench), "-c", 1, "-d", "1ms", bench.tmp_path / "next.pcapng"], check=False).stderr,
            "room for the next")
        assert len(read(capture.path, may_be_cut=True)[0]) > 0
    wait_until(lambda: is_free(bench), "the end of the last")


def is_captured(bench):
    return "bw-capture" in threads(bench.server.pid)


def is_free(bench):
    return not is_captured(bench)


@pytest.mark.sanitize
def test_the_server_ends_meanwhile(bench, files):
    """It ends at once, and the file is whole."""
    bench.serve("packet", services(files))
    capture = Capture(bench)
    download(bench.client, bench.url("v4", "1m"), files / "1m")
    bench.server.stop()
    capture.end(sig=None)
    assert capture.counts()[0] == len(capture.packets()) > 50
    assert f"no instance {bench.server.pid} runs" in refusal(bench, bench.tmp_path / "x", status=2)


def test_who_reads_too_slowly(bench, files):
    """Nobody takes what is captured: the server goes on, and ends in time all the same."""
    bench.serve("packet", services(files))
    download(bench.client, bench.url("v4", "20m"), files / "20m")
    process = bench.client.start([*of(bench), "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_until(lambda: is_captured(bench), "the capture")
    for _ in range(3):  # more than socket, pipe and ring hold together
        download(bench.client, bench.url("v4", "20m"), files / "20m")
    began = time.monotonic()
    bench.server.stop()
    assert time.monotonic() - began < 10
    _, said = process.communicate(timeout=20)
    assert process.returncode == 1 and b"the instance is gone" in said


def test_as_it_happens_through_a_pipe(bench, files):
    """tcpdump at the other end of a pipe shows a packet while the capture goes on."""
    bench.serve("packet", services(files))
    process = bench.client.start(
        ["sh", "-c", f"{' '.join(map(str, of(bench)))} --filter icmp - | tcpdump -nlr - 2>/dev/null"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    wait_until(lambda: is_captured(bench), "the capture")
    ping = bench.client.start(["ping", "-i", 0.2, V4], stdout=subprocess.DEVNULL)
    assert "ICMP echo request" in process.stdout.readline()
    assert "ICMP echo reply" in process.stdout.readline()
    stop(ping)
    bench.server.stop()
    process.communicate(timeout=10)


def test_whose_reader_has_enough(bench, files):
    """A pipe that is shut at the other end is the end of it, and no error."""
    bench.serve("packet", services(files))
    ping = bench.client.start(["ping", "-i", 0.05, V4], stdout=subprocess.DEVNULL)
    command = ' '.join(map(str, of(bench)))
    done = bench.client.run(["bash", "-c", f"set -o pipefail; {command} - | tcpdump -c 3 -nr -"])
    assert done.stdout.count("ICMP") == 3
    assert re.search(r"^\d+ packets, ", done.stderr, re.MULTILINE)
    stop(ping)


def test_a_full_disk(bench, files):
    """One line, and the file ends with a whole packet."""
    bench.serve("packet", services(files))
    small = bench.tmp_path / "small"
    small.mkdir()
    script = (f"mount -t tmpfs -o size=1m none {small} && "
              f"{' '.join(map(str, of(bench)))} {small}/x.pcapng; status=$?; cp {small}/x.pcapng {bench.tmp_path}; exit $status")
    process = bench.client.start(["unshare", "-m", "bash", "-c", script], stderr=subprocess.PIPE, text=True)
    wait_until(lambda: is_captured(bench), "the capture")
    download(bench.client, bench.url("v4", "20m"), files / "20m")
    _, said = process.communicate(timeout=20)
    assert process.returncode == 1 and "No space left on device; what was captured before is there" in said
    packets, _, _ = read(bench.tmp_path / "x.pcapng")
    assert len(packets) > 100


def test_bad_requests(bench, files):
    """Each is refused in one line that says what to do."""
    bench.serve("packet", services(files))
    out = bench.tmp_path / "x.pcapng"
    assert "unknown port 'nope'" in refusal(bench, "--filter", "tcp port nope", out, status=2)
    assert "--help" in refusal(bench, "--nope", 1, out, status=2)
    assert "needs a value" in refusal(bench, out, "-c", status=2)
    assert "to which file" in refusal(bench, status=2)
    assert "one file" in refusal(bench, out, "icmp", status=2)
    assert "-c" in refusal(bench, "-c", 0, out, status=2)
    assert "-s" in refusal(bench, "-s", 70000, out, status=2)
    assert "--duration" in refusal(bench, "--duration", "soon", out, status=2)
    assert "no instance 1 runs" in refusal(bench, "--instance", 1, out, status=2)
    assert not out.exists(), "a refusal leaves the file alone"
    assert "No such file" in refusal(bench, bench.tmp_path / "no/x.pcapng", status=1)
    assert "No space left" in refusal(bench, "-c", 3, "/dev/full", status=1)
    wait_until(lambda: is_free(bench), "the end of the last")
    capture = Capture(bench)
    second = bench.client.run([*of(bench), out], check=False)
    assert second.returncode == 1 and second.stderr.count("\n") == 1 and "one under way" in second.stderr
    capture.end()
    said = bench.client.run([bench.binary, "capture", "--help"])
    assert "usage: barewire capture" in said.stdout
