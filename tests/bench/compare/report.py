# SPDX-License-Identifier: BSD-3-Clause
"""What was measured, as tables in docs/benchmarks.md; all of it is kept in docs/bench/figures.json, too."""

import json
import math
import re
import statistics

from place import ROOT

PAGE = ROOT / "docs/benchmarks.md"
FOLDER = ROOT / "docs/bench"

# Of each figure: its heading, and how it is written. The order is that of the columns; those that nobody has are left out.
COLUMNS = {
    "gbit": ("Gbit/s", "{:.2f}"),
    "mpps": ("million/s", "{:.2f}"),
    "rate": ("requests/s", "{:,.0f}"),
    "ratio": ("ratio", "{:.2f}"),
    "p50": ("p50, us", "{:,.1f}"),
    "p99": ("p99, us", "{:,.1f}"),
    "p99.9": ("p99.9, us", "{:,.1f}"),
    "p99.99": ("p99.99, us", "{:,.1f}"),
    "cycles": ("busy cycles/request", "{:,.0f}"),
    "per_core": ("requests/server-core second", "{:,.0f}"),
    "bytes": ("bytes/connection", "{:,.0f}"),
    "idle": ("core in use, %", "{:.2f}"),
    "answered": ("answered at the end", "{:,.0f}"),
}
# The first of these that a comparison has is what its ratios are of.
MAIN = ("gbit", "mpps", "rate")

OF_REQUESTS = ("rate", "p50", "p99", "p99.9", "p99.99", "cycles", "per_core")


def main_figure(sides):
    return next((name for name in MAIN if any(name in sample for samples in sides.values() for sample in samples)), None)


def ratios(sides):
    """Of each side, one a round."""
    name = main_figure(sides)
    first = next(iter(sides.values()))

    def beside(samples):
        return [sample[name] / base[name] if base[name] else math.nan for sample, base in zip(samples, first)]

    return {label: beside(samples) for label, samples in sides.items()}


def median(samples, name):
    values = [sample[name] for sample in samples if sample.get(name) is not None]
    return statistics.median(values) if values else None


def cell(samples, name):
    form = COLUMNS[name][1]
    values = [sample[name] for sample in samples if sample.get(name) is not None]
    if not values:
        return "–"
    low, middle, high = (form.format(value) for value in (min(values), statistics.median(values), max(values)))
    return middle if low == high else f"{middle} ({low} to {high})"


def table(comparison):
    sides, is_compared = comparison["sides"], comparison["plot"] != "connections"
    ratio = ratios(sides) if is_compared else {}
    main = main_figure(sides)
    columns = [name for name in COLUMNS if (name == "ratio" and is_compared) or
               any(name in sample for samples in sides.values() for sample in samples)]
    # Bulk and packets are not told in requests.
    columns = [name for name in columns if main == "rate" or name not in OF_REQUESTS]
    rows = ["| " + " | ".join(["connections" if not is_compared else ""] + [COLUMNS[name][0] for name in columns]) + " |",
            "|---" * (len(columns) + 1) + "|"]
    for label, samples in sides.items():
        cells = [f"{statistics.median(ratio[label]):.2f}" if name == "ratio" else cell(samples, name) for name in columns]
        rows.append("| " + " | ".join([label, *cells]) + " |")
    return "\n".join(rows)


def hugepages(comparison):
    """Which of Barewire's processes had them."""
    had = {label: all(sample["hugepages"] for sample in samples) for label, samples in comparison["sides"].items()
           if any(sample.get("hugepages") is not None for sample in samples)}
    if not had or not any(had.values()):
        return "no hugepages"
    without = [label for label, has in had.items() if not has]
    return "hugepages" + (f" (not for {', '.join(without)})" if without else "")


def section(comparison):
    return (f"### {comparison['title']}\n\n{table(comparison)}\n\n{comparison['rounds']} rounds of "
            f"{comparison['seconds']:g} s, {comparison['date']}, {comparison['machine']}; {hugepages(comparison)}.")


def load():
    file = FOLDER / "figures.json"
    return json.loads(file.read_text()) if file.exists() else {}


def save(kept):
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "figures.json").write_text(json.dumps(kept, indent=1) + "\n")


def write(sections, order):
    """Into the page: each section in the place of the one of that name, in `order`; whatever is not in that goes."""
    page = PAGE.read_text()
    pattern = re.compile(r"<!-- compare ([\w.-]+) -->\n\n(.*?)\n\n<!-- compare \1 ends -->\n*", re.S)
    there = dict(pattern.findall(page)) | sections
    text = pattern.sub("", page).rstrip("\n") + "\n"
    for name in order:
        if name in there:
            text += f"\n<!-- compare {name} -->\n\n{there[name]}\n\n<!-- compare {name} ends -->\n"
    PAGE.write_text(text)
