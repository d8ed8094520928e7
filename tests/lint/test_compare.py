# SPDX-License-Identifier: BSD-3-Clause
"""scripts/bench's tables, page and plots, from figures that we make up; what it measures is the smoke test's."""

import pathlib
import sys
import xml.etree.ElementTree

import pytest

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "bench/compare"))

import comparisons  # noqa: E402
import plots  # noqa: E402
import report  # noqa: E402


def comparison(plot="ratios", **sides):
    return {"title": "A title's", "plot": plot, "rounds": 3, "seconds": 2, "date": "2026-01-01", "machine": "a machine",
            "sides": sides}


SLOW = [{"rate": rate, "p50": 10.0, "per_core": 5000.0} for rate in (100.0, 300.0, 200.0)]
FAST = [{"rate": rate, "p50": 5.0, "p99.9": 7.0, "cycles": 800.0, "hugepages": True} for rate in (1000.0, 900.0, 400.0)]


def test_medians_and_ratios_of_the_rounds():
    rows = report.table(comparison(slow=SLOW, fast=FAST)).splitlines()
    assert rows[0] == ("|  | requests/s | ratio | p50, us | p99.9, us | busy cycles/request | "
                       "requests/server-core second |")
    assert rows[2] == "| slow | 200 (100 to 300) | 1.00 | 10.0 | – | – | 5,000 |"
    # 10, 3 and 2 times: the median of the ratios, not the ratio of the medians.
    assert rows[3] == "| fast | 900 (400 to 1,000) | 3.00 | 5.0 | 7.0 | 800 | – |"


def test_what_is_not_told_in_requests():
    rows = report.table(comparison(a=[{"gbit": 2.5, "rate": 7, "cycles": 9}])).splitlines()
    assert rows[0] == "|  | Gbit/s | ratio |" and rows[2] == "| a | 2.50 | 1.00 |"
    rows = report.table(comparison("connections", **{"100": [{"idle": 1.5, "answered": 100}]})).splitlines()
    assert rows[0] == "| connections | core in use, % | answered at the end |" and rows[2] == "| 100 | 1.50 | 100 |"


def test_hugepages_are_told_of():
    assert report.hugepages(comparison(slow=SLOW, fast=FAST)) == "hugepages"
    assert report.hugepages(comparison(slow=SLOW, fast=FAST, other=[{"hugepages": False}])) == "hugepages (not for other)"
    assert report.hugepages(comparison(slow=SLOW, fast=[{"hugepages": False}])) == "no hugepages"


def test_the_page_keeps_its_order_and_what_is_not_ours(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    monkeypatch.setattr(report, "PAGE", page)
    page.write_text("# Text\n\nstays\n\n<!-- compare b -->\n\nold b\n\n<!-- compare b ends -->\n\n"
                    "<!-- compare gone -->\n\nx\n\n<!-- compare gone ends -->\n")
    report.write({"a": "new a"}, ["a", "b"])
    report.write({"b": "new b"}, ["a", "b"])
    assert page.read_text() == ("# Text\n\nstays\n\n<!-- compare a -->\n\nnew a\n\n<!-- compare a ends -->\n\n"
                                "<!-- compare b -->\n\nnew b\n\n<!-- compare b ends -->\n")


def test_plots(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "FOLDER", tmp_path)
    counts = {"100": [{"cycles": 700.0}], "10,000": [{"cycles": 800.0, "bytes": 250.0}]}
    shown = [
        plots.group("ratios", "one", {"one": comparison(slow=SLOW, fast=FAST), "two": comparison(slow=SLOW, fast=FAST)}),
        plots.group("latency", "three", {"three": comparison("latency", slow=SLOW, fast=FAST)}),
        plots.group("connections", "four", {"four-active": comparison("connections", **counts)}),
    ]
    for name, line in zip(("one", "three", "four"), shown):
        assert line.endswith(f"(bench/{name}.svg)"), line
        assert xml.etree.ElementTree.parse(tmp_path / f"{name}.svg").getroot().tag.endswith("svg")
    assert "3.00" in (tmp_path / "one.svg").read_text()


def test_the_list_is_sound():
    names = [name for group in comparisons.GROUPS for name in group.titles]
    assert len(set(names)) == len(names)
    for group in comparisons.GROUPS:
        asked = {name for side in group.sides.values() for name in side.ask}
        assert asked == set(group.titles)
        if group.by_name_only:
            continue
        # The smoke test has each of them, and names none that is not there.
        quick = {name for side in group.sides.values() for name in side.ask if side.quick is None or name in side.quick}
        assert quick == asked, asked - quick
        assert all(set(side.quick or ()) <= set(side.ask) for side in group.sides.values())


@pytest.mark.parametrize("arguments", [["--only", "nothing"], ["--rounds", "0"], ["--seconds", "-1"]])
def test_bad_arguments_get_one_line(arguments):
    import subprocess

    done = subprocess.run([sys.executable, "tests/bench/compare", *arguments], capture_output=True, text=True,
                          cwd=pathlib.Path(__file__).resolve().parents[2])
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("scripts/bench: ")
