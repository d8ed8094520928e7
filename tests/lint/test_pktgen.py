# SPDX-License-Identifier: BSD-3-Clause
"""The Lua scripts for Pktgen: each compiles, and the search finds the rate that it is to find."""

import pathlib
import subprocess

import pytest

SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / "scripts/pktgen"


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.lua")), ids=lambda path: path.name)
def test_compiles(script):
    subprocess.run(["luac5.4", "-p", script], check=True)


def search(low, high, resolution, limit):
    """The rate that is found where all up to `limit` pass, and how many trials that took."""
    said = subprocess.run(["lua5.4", "-e", f"""
        package.path = "{SCRIPTS}/?.lua"
        local trials = 0
        local rate = require("barewire").search({low}, {high}, {resolution}, function(percent)
            trials = trials + 1
            return percent <= {limit}
        end)
        print(rate, trials)"""], capture_output=True, text=True, check=True).stdout.split()
    return float(said[0]), int(said[1])


@pytest.mark.parametrize("limit", [0.3, 1, 33.3, 50, 77.7, 99.9])
def test_search_finds_the_highest_rate(limit):
    rate, trials = search(0, 100, 0.1, limit)
    assert limit - 0.1 <= rate <= limit and trials <= 12


def test_search_at_the_ends():
    """What the line carries is found at once; and nothing, where the lowest rate is too much."""
    assert search(0, 100, 1, 100) == (100, 1)
    rate, trials = search(0, 100, 1, -1)
    assert rate == 0 and trials <= 8
