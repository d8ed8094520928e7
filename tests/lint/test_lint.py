# SPDX-License-Identifier: BSD-3-Clause
"""Rules that hold for every file. Each rule is a function of text, so that it can be shown to fail."""

import os
import pathlib
import re
import shlex
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
ROOMS = ("base", "wire", "tcp", "service", "nic", "steer", "engine", "control")

# docs/architecture.md's table. What a room may include besides itself.
MAY_INCLUDE = {
    "base": {"base"},
    "wire": {"wire", "base"},
    "tcp": {"tcp", "base", "wire"},
    "service": {"service", "base"},
    "nic": {"nic", "base"},
    "steer": {"steer", "base"},
    "engine": {"engine", "base", "wire", "tcp", "service", "nic", "steer"},
    "control": {"control", "base", "service", "engine", "nic", "steer", "tcp", "wire"},
}
# DPDK headers that a room must not see: no EAL, device or clock in tcp and wire, nothing of DPDK in service.
# nic and steer alone know devices.
NO_DEVICE = re.compile(r"rte_(ethdev|eal|cycles|launch|lcore|dev|bus|malloc|interrupts|alarm|timer|flow)\w*\.h")
MUST_NOT = {
    "base": re.compile(r"rte_(ethdev|flow)\w*\.h"),
    "wire": NO_DEVICE,
    "tcp": NO_DEVICE,
    "service": re.compile(r"rte_\w+\.h"),
    "steer": re.compile(r"rte_\w+\.h"),
    "engine": re.compile(r"rte_ethdev\w*\.h"),
    "control": re.compile(r"rte_ethdev\w*\.h"),
}


def project_files():
    """What git tracks or would track."""
    listed = subprocess.run(["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others",
                             "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0:
        names = [name for name in listed.stdout.split("\0") if name]
    else:  # not a checkout: an archive of one
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*")
                 if not re.match(r"(build[^/]*|\.git)(/|$)|.*(__pycache__|node_modules)", str(path.relative_to(ROOT)))]
    return sorted(ROOT / name for name in names if (ROOT / name).is_file() and not (ROOT / name).is_symlink())


FILES = project_files()
C_FILES = [path for path in FILES if path.suffix in (".c", ".h")]
PUBLIC_HEADERS = [path for path in C_FILES if "/include/" in str(path.relative_to(ROOT))]


def name_of(path):
    return str(path.relative_to(ROOT))


def read(path):
    return path.read_text(encoding="utf-8")


# ---- the rules -----------------------------------------------------------------------------------------------


def includes(text):
    return re.findall(r'(?m)^[ \t]*#[ \t]*include[ \t]*[<"]([^>"]+)[>"]', text)


def forbidden_includes(room, text):
    bad = []
    for header in includes(text):
        first = header.split("/")[0]
        if first in ROOMS and "/" in header and first not in MAY_INCLUDE[room]:
            bad.append(header)
        elif ".." in header.split("/"):
            bad.append(header)
        elif room in MUST_NOT and MUST_NOT[room].fullmatch(header):
            bad.append(header)
    return bad


def foreign_dependencies(room, text):
    """Rooms that a meson.build names and its table row does not."""
    named = re.findall(r"dependencies:\s*\[([^\]]*)\]", text)
    words = {word.strip() for group in named for word in group.split(",")}
    return sorted((words & set(ROOMS)) - MAY_INCLUDE[room])


# The folders where somebody's machine keeps people and checkouts. /home and /root are no part of a program.
MACHINE_PATH = re.compile(r"(?<![\w.$}~-])/(?:home|root|work|Users|builds|workspace|github)/[\w.-]+")


def machine_paths(text):
    return MACHINE_PATH.findall(text)


def has_spdx(text):
    first = text.split("\n", 2)[:2]
    return any("SPDX-License-Identifier: BSD-3-Clause" in line for line in first)


def wants_spdx(path):
    return path.suffix in (".c", ".h", ".py") or (path.parent.name == "scripts" and read(path).startswith("#!/usr/bin/py"))


def heading_anchor(heading):
    text = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def anchors(text):
    text = re.sub(r"(?ms)^```.*?^```", "", text)
    return {heading_anchor(heading) for heading in re.findall(r"(?m)^#{1,6}[ \t]+(.+?)[ \t]*#*$", text)}


def broken_links(path, text):
    """Relative links of a Markdown file, to files and to headings."""
    bad = []
    text = re.sub(r"(?ms)^```.*?^```|`[^`\n]*`", "", text)
    for target in re.findall(r"\]\(([^()\s]+)(?:\s+\"[^\"]*\")?\)", text):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        where, _, anchor = target.partition("#")
        file = (path.parent / where).resolve() if where else path
        if not file.exists():
            bad.append(target)
        elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text(encoding="utf-8")):
            bad.append(target)
    return bad


def counter_rows(text):
    """(symbol, name, help) of the list in base/counters.h."""
    return re.findall(r'X\(([A-Z0-9_]+),\s*"([^"]*)",\s*"([^"]*)"\)', text)


def counter_faults(rows):
    faults = []
    for column, label in enumerate(("symbol", "name", "help")):
        seen = [row[column] for row in rows]
        faults += [f"{label} twice: {value}" for value in sorted({v for v in seen if seen.count(v) > 1})]
    faults += [f"{name}: not the name of {symbol}" for symbol, name, _ in rows
               if name.replace(".", "_").upper() != symbol]
    faults += [f"{name}: no help" for _, name, text in rows if len(text.split()) < 2]
    return faults


def ill_formatted(path):
    done = subprocess.run(["clang-format", "--dry-run", "-Werror", "--style=file", str(path)], cwd=ROOT,
                          capture_output=True, text=True)
    return done.returncode, done.stderr


def compiles_alone(path, rooms):
    """`rooms`: those that its own room may use; another room's header is then not even found."""
    dpdk = shlex.split(subprocess.run(["pkg-config", "--cflags", "libdpdk"], capture_output=True, text=True,
                                      check=True).stdout)
    flags = [f"-I{ROOT}/lib/{room}/include" for room in sorted(rooms)]
    done = subprocess.run(["gcc", "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter",
                           "-Wno-missing-field-initializers", "-fsyntax-only", "-x", "c", *flags, *dpdk, "-"],
                          input=f'#include "{path}"\n', capture_output=True, text=True)
    return done.returncode, done.stderr


# ---- every file ----------------------------------------------------------------------------------------------


def test_there_are_files():
    assert len(C_FILES) > 20 and len(PUBLIC_HEADERS) > 10


@pytest.mark.parametrize("path", C_FILES, ids=name_of)
def test_format(path):
    status, said = ill_formatted(path)
    assert status == 0, said[:2000]


@pytest.mark.parametrize("path", PUBLIC_HEADERS, ids=name_of)
def test_header_compiles_alone(path):
    parts = path.relative_to(ROOT).parts
    assert parts[0] == "lib" and parts[2] == "include" and parts[3] == parts[1]
    status, said = compiles_alone(path, MAY_INCLUDE[parts[1]])
    assert status == 0, said[:2000]


@pytest.mark.parametrize("room", [room for room in ROOMS if (ROOT / "lib" / room).is_dir()])
def test_room_stays_in_its_row(room):
    bad = {name_of(path): found for path in C_FILES if path.is_relative_to(ROOT / "lib" / room)
           if (found := forbidden_includes(room, read(path)))}
    assert bad == {}
    assert foreign_dependencies(room, read(ROOT / f"lib/{room}/meson.build")) == []


def test_every_room_has_a_row():
    assert {path.name for path in (ROOT / "lib").iterdir() if path.is_dir()} <= set(ROOMS)


def test_every_file_names_its_licence():
    assert [name_of(path) for path in FILES if wants_spdx(path) and not has_spdx(read(path))] == []


def test_no_path_of_somebodys_machine():
    bad = {}
    for path in FILES:
        try:
            text = read(path)
        except UnicodeDecodeError:
            continue  # not text
        if path != pathlib.Path(__file__).resolve() and (found := machine_paths(text)):
            bad[name_of(path)] = found
    assert bad == {}


def test_counters_are_unique_and_explained():
    rows = counter_rows(read(ROOT / "lib/base/include/base/counters.h"))
    assert len(rows) > 50
    assert counter_faults(rows) == []


def test_links_lead_somewhere():
    pages = [path for path in FILES if path.suffix == ".md"]
    bad = {name_of(path): found for path in pages if (found := broken_links(path, read(path)))}
    assert bad == {}


def test_shell_scripts_parse_and_run():
    scripts = [path for path in FILES if re.match(r"#!/bin/(ba)?sh\b", path.read_bytes()[:20].decode(errors="replace"))]
    assert len(scripts) >= 4
    for path in scripts:
        shell = "bash" if b"bash" in path.read_bytes()[:20] else "sh"
        assert subprocess.run([shell, "-n", str(path)]).returncode == 0, name_of(path)
        assert os.access(path, os.X_OK), f"{name_of(path)} is not executable"


# ---- the rules can fail --------------------------------------------------------------------------------------


def test_include_rules_can_fail():
    assert forbidden_includes("tcp", "#include <rte_ethdev.h>\n") == ["rte_ethdev.h"]
    assert forbidden_includes("tcp", "#include <rte_mbuf.h>\n#include <wire/packet.h>\n") == []
    assert forbidden_includes("wire", " # include <tcp/tcp.h>\n") == ["tcp/tcp.h"]
    assert forbidden_includes("service", "#include <rte_mbuf.h>\n") == ["rte_mbuf.h"]
    assert forbidden_includes("nic", '#include "../service/echo.h"\n') == ["../service/echo.h"]
    assert foreign_dependencies("tcp", "dependencies: [base, wire, engine])") == ["engine"]
    assert foreign_dependencies("tcp", "dependencies: [base, wire])") == []


def test_text_rules_can_fail():
    assert machine_paths("cd /home/somebody/barewire") and machine_paths('"/root/.cache/x"')
    assert not machine_paths("http://host/home/page ${ROOT}/work/x https://a.b/root/c build/work/tree")
    assert has_spdx("/* SPDX-License-Identifier: BSD-3-Clause */\n") and not has_spdx("\n\n\nint main;")
    assert counter_faults([("A_B", "a.b", "two words"), ("A_B", "a.c", "two words")]) == [
        "symbol twice: A_B", "help twice: two words", "a.c: not the name of A_B"]


def test_link_rule_can_fail(tmp_path):
    page = tmp_path / "page.md"
    (tmp_path / "other.md").write_text("# One `thing`, and more\n")
    page.write_text("# Here\n[a](other.md#one-thing-and-more) [b](#here) [c](https://example.org/x) `[d](nope)`\n"
                    "[e](other.md#two) [f](missing.md) [g](#there)\n")
    assert broken_links(page, page.read_text()) == ["other.md#two", "missing.md", "#there"]


def test_format_rule_can_fail(tmp_path):
    (tmp_path / ".clang-format").write_text(read(ROOT / ".clang-format"))
    bad = tmp_path / "bad.c"
    bad.write_text("int  main( void ){return 0;}\n")
    assert ill_formatted(bad)[0] != 0


def test_header_rule_can_fail(tmp_path):
    bad = tmp_path / "bad.h"
    bad.write_text("static inline struct bw_ip f(uint8_t x);\n")
    assert compiles_alone(bad, {"base"})[0] != 0
    bad.write_text("#include <tcp/tcp.h>\n")
    assert compiles_alone(bad, {"base"})[0] != 0
