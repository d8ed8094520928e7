# SPDX-License-Identifier: BSD-3-Clause
"""The gate of tests/bench can fail, and reads callgrind's dumps as they are meant."""

import importlib.util
import pathlib

PATH = pathlib.Path(__file__).parents[1] / "bench/gate.py"
SPEC = importlib.util.spec_from_file_location("gate", PATH)
gate = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(gate)

DUMP = """desc: Trigger: Client Request: echo.tx
positions: line
events: Ir
summary: 60

ob=gate
fl=???
fn=outer.lto_priv.0
0 10
cob=gate
cfn=inner.isra.0.cold
calls=3 0
0 50
fn=inner
12 20
+1 15
* 15
"""


def test_three_percent_either_way_is_the_limit():
    assert gate.verdict(1029, 1000) is None and gate.verdict(971, 1000) is None
    assert gate.verdict(1031, 1000) == "a regression"
    assert "record it" in gate.verdict(969, 1000)
    assert "record it" in gate.verdict(1000, None)


def test_a_call_is_not_counted_twice(tmp_path):
    (tmp_path / "dump").write_text(DUMP)
    dump = gate.Dump(tmp_path / "dump")
    assert dump.trigger == "echo.tx"
    assert dump.own == {"outer": 10, "inner": 50}
    assert dump.inclusive == {"inner": 50}
    assert dump.total == 60


def test_what_is_recorded_names_its_compiler():
    compiler, figures = gate.recorded()
    assert "GCC" in compiler
    assert len(figures) == 9 and all(value > 100 for value in figures.values())


def test_the_stages_are_the_engines():
    source = (gate.ROOT / "lib/engine/engine.c").read_text()
    assert all(f'= "{stage}",' in source for stage in gate.STAGES)
    assert source.count("[BW_STAGE_") == len(gate.STAGES) + 1  # and the array's own size
