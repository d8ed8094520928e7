# SPDX-License-Identifier: BSD-3-Clause
"""ECN with Linux at the other end, through a wire that marks one packet in ten and loses none."""

import json

import pytest

from clients import download, echo_upload
from conftest import ECHO, FAMILIES, HERE, HTTP
from lab import sh
from test_forward import FRONT, PORT, echoing, forwarding

# Of struct tcp_info, tcpi_options (linux/tcp.h).
TCPI_OPT_ECN, TCPI_OPT_ECN_SEEN = 8, 16
SSTHRESH_INITIAL = 0x7fffffff


def linux_with_ecn(bench, mode=1):
    """1: it asks for ECN, 2: it agrees. Not with BBR, which does not heed marks. A namespace may always have Reno."""
    bench.client.sysctl("net/ipv4/tcp_ecn", mode)
    bench.client.sysctl("net/ipv4/tcp_congestion_control", "reno")


def attach(bench, program):
    """On both sides of the client's end of the link; one set of counters for each direction."""
    bench.client.run(f"tc qdisc add dev {bench.iface} clsact")
    for side in ("ingress", "egress"):
        bench.client.run(f"tc filter add dev {bench.iface} {side} bpf direct-action object-file {program} section tc")


def mark_counts(bench):
    """By direction, as seen by Barewire: (ECN-capable, marked, payload that is not ECN-capable)."""
    found = {}
    for way, side in (("out", "ingress"), ("in", "egress")):
        shown = json.loads(bench.client.run(f"tc -json filter show dev {bench.iface} {side}").stdout)
        (ident,) = {entry["options"]["prog"]["id"] for entry in shown if "prog" in entry.get("options", {})}
        program = json.loads(sh(["bpftool", "-j", "prog", "show", "id", ident]).stdout)
        for map_id in program["map_ids"]:
            entries = json.loads(sh(["bpftool", "-j", "map", "dump", "id", map_id]).stdout)
            values = [entry.get("formatted", entry)["value"] for entry in entries]
            if len(values) == 3 and all(isinstance(value, int) for value in values):
                found[way] = values
    return found


def ce_received(bench, family):
    """By the client's kernel."""
    if family == "v6":
        lines = bench.client.run("cat /proc/net/snmp6", quiet=True).stdout.splitlines()
        return int(dict(line.split() for line in lines)["Ip6InCEPkts"])
    lines = bench.client.run("cat /proc/net/netstat", quiet=True).stdout.splitlines()
    names, values = (line.split() for line in lines if line.startswith("IpExt:"))
    return int(dict(zip(names, values))["InCEPkts"])


def echo(bench, family, path):
    """There and back; returns Linux's struct tcp_info at the end."""
    said = bench.client.run(["/usr/bin/python3", HERE / "clients.py", "echo", FAMILIES[family], ECHO, path],
                            timeout=100).stdout
    return json.loads(next(line for line in said.splitlines() if line.startswith("{")))


def assert_share(counts):
    """One in ten was marked, each way, by five standard deviations. Linux's packets are few: it cuts behind the wire."""
    for capable, marked, _ in counts.values():
        total = capable + marked
        assert marked > 0 and abs(marked - total / 10) < 5 * (total * 0.09) ** 0.5


def assert_marked(counts, counters):
    """The wire marked as the test says; what we repeated, a loss probe that came early, was not ECN-capable."""
    assert_share(counts)
    assert counts["out"][2] == counters["tcp.retransmits"]
    assert counters["tcp.retransmits"] <= counters["tcp.loss_probes"] + counters["tcp.rtos"]
    assert counters["tcp.fast_retransmits"] == 0


@pytest.mark.sanitize
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("device", ["tap", "packet", "xdp"])
def test_marks_slow_both_ends_down(bench, bpf, files, device, family):
    """Both are told, both reduce, and not one segment is lost or sent again."""
    bench.serve(device, [f"--http {HTTP}={files}", f"--echo {ECHO}"])
    linux_with_ecn(bench)
    attach(bench, bpf("mark"))
    download(bench.client, bench.url(family, "3m"), files / "3m")
    info = echo(bench, family, files / "3m")
    assert info["options"] & TCPI_OPT_ECN, "not agreed on"
    assert info["options"] & TCPI_OPT_ECN_SEEN, "nothing that came had ECT"
    assert info["delivered_ce"] > 0, "our ECE did not arrive"
    assert info["snd_ssthresh"] < SSTHRESH_INITIAL, "Linux did not reduce"
    assert info["total_retrans"] <= 3  # a probe of its own that came early, if any
    assert ce_received(bench, family) > 0
    counts, counters = mark_counts(bench), bench.server.stop()
    assert_marked(counts, counters)
    assert counters["tcp.ecn_agreed"] == 2
    assert counters["tcp.ce_received"] > 0
    assert counters["tcp.ece_reductions"] > 10


@pytest.mark.parametrize("family", FAMILIES)
def test_dctcp_beside_a_linux_that_only_knows_rfc_3168(bench, bpf, files, family, tmp_path):
    """Its echo lasts until CWR, so that alpha is too large; ours says exactly what was marked. Both work."""
    config = tmp_path / "dctcp.yaml"
    config.write_text("tcp:\n  congestion_control: dctcp\n")
    bench.serve("packet", [f"--http {HTTP}={files}", f"--echo {ECHO}"], extra=["-c", config])
    linux_with_ecn(bench)
    attach(bench, bpf("mark"))
    download(bench.client, bench.url(family, "3m"), files / "3m")
    info = echo(bench, family, files / "3m")
    assert info["options"] & TCPI_OPT_ECN and info["delivered_ce"] > 0
    counts, counters = mark_counts(bench), bench.server.stop()
    assert counters["tcp.ece_reductions"] > 10
    assert counts["out"][2] == 0, "with DCTCP everything is ECN-capable"


def test_off_means_off(bench, bpf, files, tmp_path):
    config = tmp_path / "off.yaml"
    config.write_text("tcp:\n  ecn: false\n")
    bench.serve("packet", [f"--echo {ECHO}"], extra=["-c", config])
    linux_with_ecn(bench)
    attach(bench, bpf("mark"))
    info = echo(bench, "v4", files / "3m")
    assert not info["options"] & TCPI_OPT_ECN
    counts = mark_counts(bench)
    assert counts["out"][:2] == counts["in"][:2] == [0, 0]
    assert bench.server.stop()["tcp.ecn_agreed"] == 0


def test_connections_that_we_open_ask(bench, bpf, files):
    """Linux agrees, but asks nobody: whatever is ECN-capable is of the connection behind the forwarder."""
    with forwarding(bench, 7000), echoing(bench):
        bench.iface = "fw0"
        linux_with_ecn(bench, mode=2)
        attach(bench, bpf("mark"))
        with bench.client:
            echo_upload(FRONT, PORT, files / "3m")
        assert_share(mark_counts(bench))
