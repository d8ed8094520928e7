# SPDX-License-Identifier: BSD-3-Clause
"""The README's first command, as a user runs it, in a namespace."""

import os
import signal
import subprocess

import pytest

from conftest import BINARY, ROOT
from lab import stop, wait_until

pytestmark = [pytest.mark.deadline(400),
              pytest.mark.skipif("BAREWIRE" in os.environ and BINARY != ROOT / "build/app/barewire",
                                 reason="the demo builds and runs build/app/barewire")]


def test_check(bench):
    ns = bench.namespace("d")
    said = ns.run([ROOT / "scripts/demo", "--check"], timeout=300).stdout
    for line in ("$ curl", "$ redis-cli", "$ ping", "PONG", "all answers are right"):
        assert line in said
    assert ns.links() == ["lo"]
    assert ns.pids() == []


def test_runs_until_ctrl_c(bench, tmp_path):
    ns = bench.namespace("d")
    log = bench.log("demo")
    with open(log, "wb") as out:
        demo = ns.start([ROOT / "scripts/demo"], stdout=out, stderr=subprocess.STDOUT)
    wait_until(lambda: "curl http://198.18.77." in log.read_text(), "something to paste", timeout=120)
    assert stop(demo, signal.SIGINT) == 0
    assert ns.links() == ["lo"]
    assert ns.pids() == []


def test_without_root(bench):
    ns = bench.namespace("d")
    done = ns.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "bash", "-s", "--", "--check"],
                  stdin=(ROOT / "scripts/demo").read_text(), check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and "root" in done.stderr


def test_check_notices_a_foreign_owner_of_its_subnet(bench):
    ns = bench.namespace("d")
    ns.ip("tuntap add dev other mode tap")
    ns.ip("addr add 198.18.77.1/24 dev other")
    done = ns.run([ROOT / "scripts/demo", "--check"], check=False, timeout=300)
    assert done.returncode == 2
    assert "198.18.77.0/24" in done.stderr.splitlines()[-1]
    assert ns.links() == ["lo", "other"]
