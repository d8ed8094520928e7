# SPDX-License-Identifier: BSD-3-Clause
"""What the pages in docs/ say of the code is so: the tutorial's snippets, the table of counters, the paths."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
EXAMPLE = ROOT / "app/examples/shout.c"
HANDLERS = ROOT / "app/examples/words.c"


def snippets(markdown):
    return re.findall(r"(?ms)^```c\n(.*?)^```$", markdown)


def without_comments_and_blanks(source):
    source = re.sub(r"(?s)/\*.*?\*/", "", source)
    return [line.strip() for line in source.splitlines() if line.strip()]


def foreign(markdown, source):
    """Snippets that are not in the source, verbatim and as whole lines."""
    return [snippet for snippet in snippets(markdown) if "\n" + snippet not in "\n" + source]


def unexplained(markdown, source):
    """Lines of the source that no snippet shows."""
    shown = {line for snippet in snippets(markdown) for line in without_comments_and_blanks(snippet)}
    return [line for line in without_comments_and_blanks(source)
            if line not in shown and not line.startswith("#")]


def counter_names(header):
    return re.findall(r'X\([A-Z0-9_]+,\s*"([^"]+)"', header)


def table_names(markdown):
    return re.findall(r"(?m)^\| `([a-z]+(?:\.[a-z0-9_]+)?)` \|", markdown)


def cited_paths(markdown):
    """Paths in backticks, as docs/rfc.md has them: rooms without their "lib/"."""
    return set(re.findall(r"`((?:base|wire|tcp|service|nic|engine|control|lib|tests|app)/[\w./]+)`", markdown))


def dead_paths(markdown):
    return sorted(path for path in cited_paths(markdown)
                  if not (ROOT / path).exists() and not (ROOT / "lib" / path).exists())


def test_tutorial_is_the_example():
    markdown, source = (ROOT / "docs/service-tutorial.md").read_text(), EXAMPLE.read_text()
    assert len(snippets(markdown)) >= 6
    assert foreign(markdown, source) == []
    assert unexplained(markdown, source) == []


def test_handlers_are_the_example():
    markdown, source = (ROOT / "docs/http.md").read_text(), HANDLERS.read_text()
    assert len(snippets(markdown)) >= 6
    assert foreign(markdown, source) == []


def test_example_is_as_short_as_said():
    lines = len(EXAMPLE.read_text().splitlines())
    assert lines < 100
    for page in ("README.md", "docs/service-tutorial.md"):
        assert re.search(rf"\b{lines} lines\b", (ROOT / page).read_text()), f"{page}: the example has {lines} lines"


def test_every_counter_is_in_the_operators_table():
    names = counter_names((ROOT / "lib/base/include/base/counters.h").read_text())
    listed = table_names((ROOT / "docs/operations.md").read_text())
    assert len(names) > 50
    assert sorted(listed) == sorted(names)


def test_cited_files_exist():
    dead = {page.name: found for page in sorted((ROOT / "docs").glob("*.md")) if (found := dead_paths(page.read_text()))}
    assert dead == {}
    assert len(cited_paths((ROOT / "docs/rfc.md").read_text())) > 30


def test_these_rules_can_fail():
    source = "int a;\n\n/* why */\nint b;\n"
    assert foreign("```c\nint a;\n```\n", source) == []
    assert foreign("```c\nint  a;\n```\n", source) == ["int  a;\n"]
    assert foreign("```c\nnt b;\n```\n", source) == ["nt b;\n"]
    assert unexplained("```c\nint a;\n```\n", source) == ["int b;"]
    assert unexplained("```c\nint a;\n```\n```c\nint b;\n```\n", source) == []
    assert counter_names('X(RX, "rx.packets", "x")  X(TX,  "tx.bytes", "y")') == ["rx.packets", "tx.bytes"]
    assert table_names("| `rx.packets` | x |\n`tx.bytes` |\n") == ["rx.packets"]
    assert dead_paths("`tcp/include/tcp/tcp.h` `lib/tcp/nowhere.c` `a/b.c` `tests/lint`") == ["lib/tcp/nowhere.c"]
