# SPDX-License-Identifier: BSD-3-Clause
"""The machine: what it is, how good it is today, and its hugepages."""

import contextlib
import json
import os
import pathlib
import re

from place import BINARY, ROOT, TOOLS, sh

PAGES = pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
# Two processes with some 200 MB each; where a comparison needs more, it has ordinary memory and the report says so.
WANTED = 1536


def measured():
    return json.loads(sh([TOOLS / "machine"], quiet=True).stdout)


def described():
    """Rows of a table."""
    cpu = {name.strip(): value.strip() for name, _, value in
           (line.partition(":") for line in sh(["lscpu"], quiet=True).stdout.splitlines())}
    figures = measured()
    memory = int(re.search(r"MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text())[1]) >> 20
    virtual = f", virtual ({cpu['Hypervisor vendor']})" if "Hypervisor vendor" in cpu else ""
    return {
        "processor": f"{cpu['Model name']}, family {cpu['CPU family']} model {cpu['Model']}, "
                     f"{os.cpu_count()} cores{virtual}",
        "TSC": f"{figures['tsc_hz'] / 1e9:.3f} GHz",
        "caches": f"L1d {cpu.get('L1d cache', '?')}, L2 {cpu.get('L2 cache', '?')}, L3 {cpu.get('L3 cache', '?')}",
        "memory": f"{memory} GiB",
        "kernel": f"Linux {os.uname().release}",
        "DPDK": sh([BINARY, "--version"], quiet=True).stdout.split(",")[1].strip(),
        "commit": commit(),
        "today": f"a load from L1 {figures['l1_ns']} ns, among 8 MiB {figures['l3_ns']} ns, among 256 MiB "
                 f"{figures['memory_ns']} ns; a cache line from core to core and back {figures['core_to_core_ns']} ns; "
                 f"with nothing else to do, a CPU is away {figures['paused_percent']} % of the time, for 20 us and more, "
                 f"{figures['pause_max_us'] / 1000:.1f} ms at most",
    }, figures["tsc_hz"]


def commit():
    said = sh(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], quiet=True, check=False)
    return said.stdout.strip() or "unknown"


@contextlib.contextmanager
def hugepages(wanted=WANTED):
    """So many of 2 MiB, if the machine has them to give; as it was, afterwards. Yields how many there are."""
    file = PAGES / "nr_hugepages"
    if not wanted or not file.exists():
        yield 0
        return
    before = int(file.read_text())
    if before < wanted:
        file.write_text(str(wanted))
    try:
        yield int(file.read_text())
    finally:
        if before < wanted:
            file.write_text(str(before))
