# SPDX-License-Identifier: BSD-3-Clause
"""The kernel's TCP as the oracle: what it answers to a sequence of segments, Barewire answers, or differences.py says
why not.

    sequences.py, ecn.py   what is played
    differences.py         the list of justified differences, and the only one
    peer.py                plays them, and tells what was answered in words that both servers can share
    kernel.py, server.c    the two servers, each with the same few behaviours, chosen by the port

All sequences are played at once, each on a port of its own, so all of them take about as long as the longest.
"""

import collections
import contextlib
import re

import pytest

import ecn
from conftest import Stage, kernel
from differences import BY_REASON, DIFFERENCES, REASONS
from sequences import SEQUENCES

Case = collections.namedtuple("Case", "name sequence v6")
OVER_V6 = ("handshake-data_on", "options-all", "options-none", "established-", "overlap-sack-", "closed_port-",
           "reuse-syn", "close-", "broken-", "others-")

ALL = {f"v4-{s.name}": Case(f"v4-{s.name}", s, 0) for s in SEQUENCES + ecn.SEQUENCES}
ALL |= {f"v6-{s.name}": Case(f"v6-{s.name}", s, 1) for s in SEQUENCES if s.name.startswith(OVER_V6)}


def difference(kernel, barewire):
    """The steps whose answers differ: a line for each, the first step being 1."""
    return [f"{number}: {' | '.join(k) or 'nothing'} <> {' | '.join(b) or 'nothing'}"
            for number, (k, b) in enumerate(zip(kernel, barewire), 1) if k != b]


def expected(case):
    return DIFFERENCES.get(case.sequence.name, [])


@pytest.mark.parametrize("case", ALL)
def test_answers_as_the_kernel_does(answers, case):
    kernel, barewire = answers(ALL[case])
    for number, (step, k, b) in enumerate(zip(ALL[case].sequence.steps, kernel, barewire), 1):
        print(f"{number}: {step}\n    kernel   {' | '.join(k)}\n    barewire {' | '.join(b)}")
    assert difference(kernel, barewire) == expected(ALL[case])


# ---- the harness itself ------------------------------------------------------------------------------------------


def test_the_lists_are_whole():
    names = [s.name for s in SEQUENCES + ecn.SEQUENCES]
    assert len(names) == len(set(names)) >= 200
    assert DIFFERENCES.keys() <= set(names)
    assert len(DIFFERENCES) == sum(len(entries) for entries in BY_REASON.values())
    assert BY_REASON.keys() == REASONS.keys()
    assert all(re.search(r"RFC \d+ \d", reason) for reason in REASONS.values())
    assert all(entries and all(entries.values()) for entries in BY_REASON.values())


def test_a_difference_is_noticed():
    """Two kernels, of which one has no SACK: the sequences about it differ, and no others."""
    cases = [(ALL[f"v4-{name}"].sequence, 0) for name in
             ("sack-latest_first", "dsack-of_old_data", "order-231-plain", "established-rst_in_window")]
    with contextlib.ExitStack() as stack:
        servers = [kernel(stack), kernel(stack, {"net/ipv4/tcp_sack": 0})]
        found = Stage().play(cases, servers)
    differ = [case[0].name for case in cases if difference(*found[case])]
    assert differ == ["sack-latest_first", "dsack-of_old_data"]
    assert "sackok" in difference(*found[cases[0]])[0]
