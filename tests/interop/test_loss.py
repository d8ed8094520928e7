# SPDX-License-Identifier: BSD-3-Clause
"""One packet in ten lost in each direction, and still not one byte wrong."""

import json

import pytest

from clients import download
from conftest import ECHO, FAMILIES, HERE, HTTP
from lab import sh


def attach(bench, program):
    """On both sides of the client's end of the link; one set of counters for each direction."""
    bench.client.run(f"tc qdisc add dev {bench.iface} clsact")
    for side in ("ingress", "egress"):
        bench.client.run(f"tc filter add dev {bench.iface} {side} bpf direct-action object-file {program} section tc")


def drop_counts(bench):
    """(passed, dropped) of each attached instance."""
    found = []
    for side in ("ingress", "egress"):
        shown = json.loads(bench.client.run(f"tc -json filter show dev {bench.iface} {side}").stdout)
        (ident,) = {entry["options"]["prog"]["id"] for entry in shown if "prog" in entry.get("options", {})}
        program = json.loads(sh(["bpftool", "-j", "prog", "show", "id", ident]).stdout)
        for map_id in program["map_ids"]:
            entries = json.loads(sh(["bpftool", "-j", "map", "dump", "id", map_id]).stdout)
            values = [entry.get("formatted", entry)["value"] for entry in entries]
            if len(values) == 2 and all(isinstance(value, int) for value in values):
                found.append(tuple(values))
    return found


@pytest.mark.sanitize
@pytest.mark.deadline(200)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("device", ["tap", "packet", "xdp"])
def test_curl_through_ten_percent_loss(bench, bpf, files, device, family):
    bench.serve(device, [f"--http {HTTP}={files}"])
    attach(bench, bpf("drop"))
    download(bench.client, bench.url(family, "3m"), files / "3m", timeout=150)
    counts = drop_counts(bench)
    assert len(counts) == 2
    for passed, dropped in counts:
        assert 0.06 < dropped / (passed + dropped) < 0.14, "the wire was not as lossy as the test says"
    assert bench.server.stop()["tcp.retransmits"] > 100


@pytest.mark.deadline(200)
def test_echo_through_ten_percent_loss(bench, bpf, files):
    """Both directions carry data, so reassembly and SACK generation are in it as well."""
    bench.serve("tap", [f"--echo {ECHO}"])
    attach(bench, bpf("drop"))
    bench.client.run(["/usr/bin/python3", HERE / "clients.py", "echo", FAMILIES["v4"], ECHO, files / "1m"],
                     timeout=150)
    counters = bench.server.stop()
    assert counters["tcp.retransmits"] > 20
    assert counters["tcp.out_of_order"] > 0
