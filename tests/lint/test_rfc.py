# SPDX-License-Identifier: BSD-3-Clause
"""docs/rfc.md names files and tests: they exist. It has a row for every requirement of RFC 9293's appendix B."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
ROOMS = {path.name for path in (ROOT / "lib").iterdir() if path.is_dir()}
REQUIREMENTS = {f"MUST-{n}" for n in range(1, 70)} | {f"SHLD-{n}" for n in range(1, 32)}
# What stands in place of a test where there is nothing to be shown.
EXCUSES = re.compile(r"not yet|not done|does not apply|deviation|ours do not")


def rows(text):
    """The cells of every row of a table with four columns, without its head."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 4 and cells[3] != "test" and not cells[3].startswith("---"):
            yield cells


def names(cell):
    return re.findall(r"`([^`]+)`", cell)


def is_path(name):
    return re.fullmatch(r"[\w.-]+(/[\w.-]+)+\.(c|h|py)", name) is not None


def file_of(name):
    return ROOT / ("lib" if name.split("/")[0] in ROOMS - {"tests"} else ".") / name


def found_in(text):
    return set(re.findall(r"(?m)^TEST\((\w+)\)|^static void (\w+)\(void \*\*|^def (test_\w+)\(", text))


def all_tests():
    found = set()
    for path in (ROOT / "tests").rglob("*"):
        if path.suffix in (".c", ".py"):
            found |= {name for groups in found_in(path.read_text(encoding="utf-8")) for name in groups if name}
    return found


def wrong(text, tests, exists):
    """What a reader of these tables would look for in vain, row by row."""
    bad = []
    for ident, what, where, test in rows(text):
        bad += [f"{ident}: no file {name}" for name in names(where) if is_path(name) and not exists(name)]
        for name in names(test):
            if not (exists(name) if is_path(name) else name in tests):
                bad.append(f"{ident}: no test {name}")
        if not names(test) and "every story" not in test and not EXCUSES.search(what + where):
            bad.append(f"{ident}: neither a test nor a reason")
        if not names(where) and not EXCUSES.search(what + where):
            bad.append(f"{ident}: neither a file nor a reason")
    return bad


def test_rows_lead_somewhere():
    text = (ROOT / "docs/rfc.md").read_text(encoding="utf-8")
    assert len(list(rows(text))) > 200
    assert wrong(text, all_tests(), lambda name: file_of(name).is_file()) == []


def test_every_requirement_has_a_row():
    text = (ROOT / "docs/rfc.md").read_text(encoding="utf-8")
    assert {ident for ident, *_ in rows(text) if re.match(r"MUST|SHLD", ident)} == REQUIREMENTS


def test_wrong_rows_are_seen():
    table = "| id | what | where | test |\n|---|---|---|---|\n"
    good = "| 1 | x | `tcp/a.c` | `one` |\n| 2 | x | not done: y | |\n| 3 | x | `tcp/a.c` | `tests/a.py` |\n"
    exists = {"tcp/a.c", "tests/a.py"}.__contains__
    assert len(list(rows(table + good))) == 3
    assert wrong(table + good, {"one"}, exists) == []
    assert wrong(table + good, set(), exists) == ["1: no test one"]
    assert wrong(table + "| 1 | x | `tcp/b.c` | `one` |\n", {"one"}, exists) == ["1: no file tcp/b.c"]
    assert wrong(table + "| 1 | x | `tcp/a.c` | |\n", {"one"}, exists) == ["1: neither a test nor a reason"]
    assert wrong(table + "| 1 | x | | `one` |\n", {"one"}, exists) == ["1: neither a file nor a reason"]
    assert found_in("TEST(a)\nstatic void b(void **state)\ndef test_c(x):\nvoid d(void **state)\n") == {
        ("a", "", ""), ("", "b", ""), ("", "", "test_c")}
