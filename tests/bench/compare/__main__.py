# SPDX-License-Identifier: BSD-3-Clause
"""Barewire beside what people would otherwise use; see scripts/bench.

A comparison is some sides, which take turns, round after round: server on CPU 0, client on CPU 1. Related comparisons
form a group, in which a side's server, started anew for every round, is asked for all of them in turn. Of each figure the
median of the rounds is shown with its extremes, and the median of the rounds' ratios to the first side. A round in which
anything went wrong is no figure: its group ends and says what it was.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time

import machine
import plots
import report
from comparisons import GROUPS
from place import Failed, Place, Wrong

QUICK_SECONDS = 0.3


def say(text):
    print(text, file=sys.stderr, flush=True)


def measure(side, name, place, server, options, seconds, tsc_hz):
    """One comparison of one side."""
    if server is None:
        figures = side.ask[name](place, seconds)
    else:
        server.begin()
        figures = side.ask[name](place, seconds)
        of_server = server.end(figures["rate"])
        if not figures.pop("two_rates", False):  # else what it took is of neither
            figures |= of_server
        place.has_hugepages = server.has_hugepages
    if not options.quick and not all(figures.get(figure, 1) for figure in report.MAIN):
        raise Wrong(f"{name}: nothing was answered")
    if "cycles" in figures:
        figures.setdefault("per_core", tsc_hz / figures["cycles"])
    figures["hugepages"] = getattr(place, "has_hugepages", None)
    return figures


def run_side(label, side, names, options, seconds, tsc_hz, taken):
    if not side.serve:
        for name in names:
            with Place(options.quick) as place:
                taken[name].setdefault(label, []).append(measure(side, name, place, None, options, seconds, tsc_hz))
        return
    with Place(options.quick) as place:
        server = side.serve(place)
        for name in names:
            taken[name].setdefault(label, []).append(measure(side, name, place, server, options, seconds, tsc_hz))
        server.finish()


def run_group(group, names, options, tsc_hz):
    """Figures by comparison and side, a list of rounds each."""
    taken = {name: {} for name in names}
    seconds = options.seconds if options.quick else options.seconds * group.share
    for number in range(options.rounds):
        for label, side in group.sides.items():
            asked = [name for name in names if name in side.ask and
                     (not options.quick or side.quick is None or name in side.quick)]
            if not asked:
                continue
            began = time.monotonic()
            # What the laboratory says of each command would bury the figures.
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
                run_side(label, side, asked, options, seconds, tsc_hz, taken)
            say(f"  round {number + 1}, {label}: " + ", ".join(
                f"{name} {taken[name][label][-1].get(report.main_figure(taken[name]), 0):,.2f}" for name in asked) +
                f" ({time.monotonic() - began:.0f} s)")
    return {name: sides for name, sides in taken.items() if sides}


def keep(group, taken, options, words, kept):
    """Into figures.json, the page and the plots, at once: what a long run has measured is there when it is broken off."""
    for name, sides in taken.items():
        kept[name] = {"title": group.titles[name], "plot": group.plot, "rounds": options.rounds,
                      "seconds": round(options.seconds * group.share, 2), "date": time.strftime("%Y-%m-%d"),
                      "machine": words, "sides": sides}
    report.save(kept)
    first = next(iter(group.titles))
    drawn = plots.group(group.plot, first, {name: kept[name] for name in group.titles if name in kept})
    sections = {f"{first}-plot": drawn, **{name: report.section(kept[name]) for name in taken}}
    order = ["machine"]
    for each in GROUPS:
        order += [f"{next(iter(each.titles))}-plot", *each.titles]
    report.write({name: text for name, text in sections.items() if text}, order)


def choose(options):
    """(group, names) of what is to be run."""
    wanted = options.only.split(",") if options.only else None
    known = {name for group in GROUPS for name in group.titles}
    for name in wanted or []:
        if name not in known:
            sys.exit(f"scripts/bench: {name}: no such comparison; --list has their names")
    for group in GROUPS:
        names = [name for name in group.titles if (name in wanted if wanted else not group.by_name_only)]
        if names:
            yield group, names


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], prog="scripts/bench")
    parser.add_argument("--quick", action="store_true", help="some sides of each, for a moment, and nothing is written")
    parser.add_argument("--only", help="names, separated by commas", metavar="NAME")
    parser.add_argument("--list", action="store_true", help="the names")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--hugepages", type=int, default=machine.WANTED, metavar="N",
                        help=f"of 2 MiB, to have for this run, and given back; default {machine.WANTED}, 0: as it is")
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds <= 0 or options.hugepages < 0:
        parser.error("rounds and seconds have to be more than 0, and hugepages not less")
    if options.quick:
        options.rounds, options.seconds, options.hugepages = 1, QUICK_SECONDS, 0
    return options


def main():
    options = parse()
    if options.list:
        for group in GROUPS:
            for name, title in group.titles.items():
                print(f"{name:22} {title}" + (" (only by name)" if group.by_name_only else ""))
        return 0
    chosen = list(choose(options))
    if os.geteuid() != 0 or (os.cpu_count() or 1) < 2:
        sys.exit("scripts/bench: needs root, for network namespaces, and two processors")
    with contextlib.redirect_stdout(sys.stderr):
        about, tsc_hz = machine.described()
    say("\n".join(f"{name}: {value}" for name, value in about.items()))
    words = f"{about['processor']}, {about['kernel']}, {about['DPDK']}, commit {about['commit']}"
    kept, passed, failed, began = report.load(), 0, 0, time.monotonic()
    with machine.hugepages(options.hugepages) as pages:
        about["hugepages"] = f"{pages} of 2 MiB" if pages else "none"
        if not options.quick:
            rows = "\n".join(f"| {name} | {value} |" for name, value in about.items())
            report.write({"machine": f"The machine of the last run:\n\n| | |\n|---|---|\n{rows}"},
                         ["machine", *(name for group in GROUPS for first in [next(iter(group.titles))]
                                       for name in (f"{first}-plot", *group.titles))])
        for group, names in chosen:
            say(f"{', '.join(names)} (after {time.monotonic() - began:.0f} s)")
            try:
                taken = run_group(group, names, options, tsc_hz)
            except (Wrong, Failed, subprocess.TimeoutExpired) as error:
                print(f"FAILED {', '.join(names)}: {error}", file=sys.stderr)
                failed += len(names)
                continue
            passed += len(taken)
            for name, sides in taken.items():
                print(f"\n{group.titles[name]}\n\n{report.table({'sides': sides, 'plot': group.plot})}", flush=True)
            if not options.quick:
                keep(group, taken, options, words, kept)
    say(f"took {time.monotonic() - began:.0f} s")
    if options.quick:
        print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    # Whichever way it ends: namespaces, hugepages and settings are given back.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("scripts/bench: interrupted; what was finished is written")
