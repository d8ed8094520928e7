# SPDX-License-Identifier: BSD-3-Clause
"""SVGs in docs/bench, by gnuplot: one a group, of what figures.json has of it."""

import statistics
import subprocess

from place import Wrong
from report import FOLDER, median, ratios

# By what is in a side's name, the first that fits: one colour for one thing in all plots.
COLOURS = {"memif": "#1f6fb4", "UDP": "#1f6fb4", "xdp": "#2f9e62", "packet": "#c4572f", "tap": "#8158a8",
           "busy polling": "#b8a04a", "offloads": "#b8a04a", "memcached": "#b8a04a", "": "#7a7a7a"}
LATENCIES = {"p50": 50, "p90": 90, "p99": 99, "p99.9": 99.9, "p99.99": 99.99}


def colour(side):
    return next(colour for what, colour in COLOURS.items() if what in side)


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def draw(name, height, lines):
    """Returns the page's line that shows it."""
    FOLDER.mkdir(exist_ok=True)
    script = "\n".join([
        # White behind: a page may be dark.
        f"set terminal svg size 760,{height} font 'sans-serif,12' background '#ffffff'",
        f"set output {quoted(str(FOLDER / (name + '.svg')))}",
        "set border 3 lc rgb '#555555'", "set grid lc rgb '#dddddd'", "set tics nomirror", *lines]) + "\n"
    done = subprocess.run(["gnuplot"], input=script, text=True, capture_output=True)
    if done.returncode != 0:
        raise Wrong(f"gnuplot: {done.stderr}")
    return f"bench/{name}.svg"


def bars(name, comparisons):
    """A bar for each side of each, as long as its ratio to the first, on a logarithmic scale."""
    labels, boxes, values, y = [], [], [], 0
    for comparison in comparisons.values():
        labels.append(f"set label {quoted(comparison['title'])} at graph 0, first {-y} left offset 0.5,0 font ',12'")
        y += 1
        for side, of_rounds in ratios(comparison["sides"]).items():
            ratio = statistics.median(of_rounds)
            boxes.append(f"set object rect from 1,{-y - 0.38} to {ratio:.4g},{-y + 0.38} "
                         f"fc rgb '{colour(side)}' fs noborder")
            values.append(f"set label '{ratio:.2f}' at {max(ratio, 1):.4g},{-y} left offset 0.5,0 font ',11'")
            labels.append(f"set label {quoted(side)} at graph 0, first {-y} right offset -0.8,0 font ',11'")
            y += 1
    shown = [r for c in comparisons.values() for rs in ratios(c["sides"]).values() for r in rs]
    low, high = min(0.5, min(shown) * 0.8), max(2, max(shown)) * 1.6
    return draw(name, 90 + 19 * y, [
        "set lmargin 38", "set logscale x", f"set xrange [{low:.4g}:{high:.4g}]", f"set yrange [{-y}:0.8]", "unset ytics",
        "set border 1", "set xlabel 'times the first, by rate (median of the rounds)'",
        f"set arrow from 1,{-y} to 1,0.8 nohead lc rgb '#555555'", *labels, *boxes, *values, "plot NaN notitle"])


def curves(name, comparison):
    """Latency by percentile, both logarithmic."""
    blocks, plots = [], []
    for number, (side, samples) in enumerate(comparison["sides"].items()):
        points = [(100 / (100 - percent), median(samples, key)) for key, percent in LATENCIES.items()]
        blocks += [f"$side{number} << end", *(f"{x:.6g} {y:.6g}" for x, y in points if y), "end"]
        plots.append(f"$side{number} with linespoints lw 2 pt 7 ps 0.5 lc rgb '{colour(side)}' "
                     f"title {quoted(side)}")
    ticks = ", ".join(f"'{percent:g}' {100 / (100 - percent):.6g}" for percent in LATENCIES.values())
    return draw(name, 380, [*blocks, "set logscale xy", f"set xtics ({ticks})", "set xrange [1.8:12000]",
                            f"set title {quoted(comparison['title'])}", "set xlabel 'percentile'",
                            "set ylabel 'microseconds'", "set key below", f"plot {', '.join(plots)}"])


def growth(name, comparisons):
    """Cost and memory by the number of connections."""
    wanted = (("cycles", "active", "busy cycles a request", "x1y1", "#1f6fb4"),
              ("bytes", "idle", "bytes a connection, idle", "x1y2", "#2f9e62"),
              ("bytes", "active", "bytes a connection, active", "x1y2", "#c4572f"))
    blocks, plots = [], []
    for number, (figure, which, title, axes, line) in enumerate(wanted):
        sides = next((c["sides"] for key, c in comparisons.items() if key.endswith(which)), {})
        points = [(side.replace(",", ""), median(samples, figure)) for side, samples in sides.items()]
        points = [f"{x} {y:.6g}" for x, y in points if y is not None]
        if points:
            blocks += [f"$line{number} << end", *points, "end"]
            plots.append(f"$line{number} axes {axes} with linespoints lw 2 pt 7 ps 0.6 lc rgb '{line}' "
                         f"title {quoted(title)}")
    if not plots:
        return None
    return draw(name, 360, [*blocks, "set logscale x", "set format x '10^{%L}'", "set xlabel 'connections'",
                            "set ylabel 'cycles'", "set y2label 'bytes'", "set border 11", "set y2tics", "set yrange [0:*]",
                            "set y2range [0:*]", "set key below", f"plot {', '.join(plots)}"])


def group(kind, name, comparisons):
    """Draws what there is of a group; the lines of the page that show it."""
    if kind == "latency":
        drawn = {key: curves(key, comparison) for key, comparison in comparisons.items()}
        titles = {key: f"latency by percentile: {comparisons[key]['title']}" for key in drawn}
    elif kind == "connections":
        drawn, titles = {name: growth(name, comparisons)}, {name: "cost of a request and of a connection by connections"}
    else:
        drawn, titles = {name: bars(name, comparisons)}, {name: f"rates beside each other: {', '.join(comparisons)}"}
    return "\n\n".join(f"![{titles[key]}]({path})" for key, path in drawn.items() if path)
