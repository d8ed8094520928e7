#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Instructions a request, of a fixed script of packets through a worker, compared with what is recorded.

    gate.py [BUILD]             BUILD is a release build, with link-time optimisation; default build
    gate.py [BUILD] --record    write tests/bench/instructions.txt, and the tables of docs/benchmarks.md
    gate.py [BUILD] --functions SCENARIO    where its instructions go, by function

More than 3 % above what is recorded fails, and so does more than 3 % below: record it, so that the next loss shows.
Ends with "N passed, N failed", a scenario each.
"""

import argparse
import collections
import json
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
RECORD = ROOT / "tests/bench/instructions.txt"
DOCS = ROOT / "docs/benchmarks.md"
BEGIN, END = "<!-- gate.py --record writes from here -->", "<!-- to here -->"
TOLERANCE = 0.03
PINNED = {"buildtype": "release", "optimization": "3", "debug": False, "b_lto": True, "b_sanitize": "none",
          "b_coverage": False, "b_pgo": "off", "march": "x86-64-v2"}
STAGES = ["turn", "rx", "parse", "lookup", "tcp", "service", "inbox", "timers", "egress", "tx"]


def fail(text):
    sys.exit(f"gate.py: {text}")


def check_build(build):
    """What decides over the instructions: another build has other figures."""
    asked = subprocess.run(["meson", "introspect", build, "--buildoptions"], capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        fail(f"{build} is no build folder; make one with: meson setup {build} -Dtests=true")
    options = {option["name"]: option["value"] for option in json.loads(asked.stdout)}
    for name, value in PINNED.items():
        if options.get(name) != value:
            fail(f"{build} has -D{name}={options.get(name)}, and the record is of {value}; give a release build")
    if options["c_args"] or options["c_link_args"]:
        fail(f"{build} has c_args or c_link_args; the record is of a build without them")
    if not (program := program_of(build)).exists():
        fail(f"{program} is missing; build it, with valgrind's headers there")
    compiler = re.search(rb"(GCC: \([ -~]+|[ -~]*clang version [ -~]+)", program.read_bytes())
    return compiler[1].decode() if compiler else "an unknown compiler"


def program_of(build):
    return pathlib.Path(build).resolve() / "tests/bench/gate"


class Dump:
    """Of one scenario: instructions in all, by function, and those of a function with all that it calls."""

    def __init__(self, path):
        self.own, self.inclusive, self.trigger = collections.Counter(), collections.Counter(), None
        function = callee = None
        is_call = False
        for line in path.read_text().splitlines():
            if line.startswith("desc: Trigger: Client Request: "):
                self.trigger = line.rsplit(" ", 1)[1]
            elif line.startswith("fn="):
                function = plain(line[3:])
            elif line.startswith("cfn="):
                callee = plain(line[4:])
            elif line.startswith("calls="):
                is_call = True
            elif re.match(r"[0-9+*-]", line):
                cost = int(line.split()[1]) if " " in line else 0
                if is_call:
                    self.inclusive[callee] += cost
                else:
                    self.own[function] += cost
                is_call = False
        self.total = sum(self.own.values())


def plain(function):
    """Without what the optimiser appends to a name."""
    return re.sub(r"\.(lto_priv|isra|part|constprop|cold)(\.\d+)*", "", function)


def run(build, *args):
    """Returns {name: (requests, what, dump)}."""
    program = program_of(build)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            ["valgrind", "--quiet", "--tool=callgrind", "--collect-atstart=no", "--compress-strings=no", "--compress-pos=no",
             f"--callgrind-out-file={folder}/dump", program, *args],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=folder, check=False)
        if done.returncode != 0:
            fail(f"{program} under valgrind ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
        dumps = {dump.trigger: dump for dump in map(Dump, pathlib.Path(folder).glob("dump.*"))}
    lines = [line.split(" ", 2) for line in done.stdout.splitlines()]
    return {name: (int(requests), what, dumps[name]) for name, requests, what in lines}


def recorded():
    """Returns the compiler, and {name: instructions a request}."""
    lines = RECORD.read_text().splitlines()
    compiler = next(line.removeprefix("# compiler: ") for line in lines if line.startswith("# compiler: "))
    return compiler, {name: float(value) for name, value in
                      (line.split() for line in lines if line and not line.startswith("#"))}


def verdict(now, before):
    """None, or what is wrong."""
    if before is None:
        return "not recorded: record it"
    if now > before * (1 + TOLERANCE):
        return "a regression"
    if now < before * (1 - TOLERANCE):
        return "better than recorded: record it"
    return None


def record(compiler, found, stages):
    RECORD.write_text("# Instructions a request, which tests/bench/gate.py --record has counted. scripts/test compares.\n"
                      f"# compiler: {compiler}\n"
                      + "".join(f"{name:14} {dump.total / requests:.1f}\n"
                                for name, (requests, _, dump) in found.items()))
    rows = ["| request | instructions | " + " | ".join(STAGES) + " |", "|---" * (len(STAGES) + 2) + "|"]
    for name, (requests, what, dump) in found.items():
        shares = [stages[f"{name}.{stage}"][2].total / requests for stage in STAGES]
        rows.append(f"| {what} | {dump.total / requests:,.0f} | " + " | ".join(f"{share:,.0f}" for share in shares) + " |")
    text = DOCS.read_text()
    before, rest = text.split(BEGIN)
    DOCS.write_text(before + BEGIN + "\n\n" + "\n".join(rows) + "\n\n" + END + rest.split(END)[1])


def print_stages(found, stages):
    print("\nby stage, instructions a request (counting them takes a few):")
    print(f"{'':14}" + "".join(f"{stage:>9}" for stage in STAGES))
    for name, (requests, _, _) in found.items():
        print(f"{name:14}" + "".join(f"{stages[f'{name}.{stage}'][2].total / requests:9.0f}" for stage in STAGES))


def print_functions(found, name):
    if name not in found:
        fail(f"there is no scenario {name}; there are {', '.join(found)}")
    requests, what, dump = found[name]
    print(f"{what}: {dump.total / requests:.0f} instructions a request; of a function itself, and with what it calls")
    for function, cost in dump.own.most_common(50):
        print(f"{cost / requests:9.1f} {dump.inclusive[function] / requests:9.1f}  {function}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", nargs="?", default="build")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--functions", metavar="SCENARIO")
    options = parser.parse_args()
    compiler = check_build(options.build)
    found = run(options.build)
    if options.functions:
        print_functions(found, options.functions)
        return
    stages = run(options.build, "--stages")
    if options.record:
        record(compiler, found, stages)
    of, before = recorded()
    if of != compiler:
        print(f"compiled by {compiler}, and what is recorded by {of}: differences may be the compilers'")
    failed = 0
    for name, (requests, what, dump) in found.items():
        now, was = dump.total / requests, before.get(name)
        change = f"{100 * now / was - 100:+6.1f} %" if was else ""
        wrong = verdict(now, was)
        failed += wrong is not None
        print(f"{name:14} {now:10.1f}  {change}  {what}{': FAILED: ' + wrong if wrong else ''}")
    for name in before.keys() - found.keys():
        failed += 1
        print(f"{name:14} is recorded, and there is none: FAILED: record it")
    print_stages(found, stages)
    print(f"{len(found.keys() | before.keys()) - failed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    # subprocess.run() ends its child then.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
