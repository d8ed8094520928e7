# SPDX-License-Identifier: BSD-3-Clause
"""The kernel's TCP is the oracle: what it answers to a sequence, Barewire answers, or differences.py says why not."""

import collections

import pytest

from differences import DIFFERENCES, REASONS
from ecn import SEQUENCES as ECN
from sequences import SEQUENCES

Case = collections.namedtuple("Case", "name sequence v6")
V6 = ("handshake-data_on", "options-all", "options-none", "established-", "overlap-sack-", "closed_port-", "reuse-syn",
      "close-", "broken-", "others-")

ALL = {f"v4-{s.name}": Case(f"v4-{s.name}", s, 0) for s in SEQUENCES + ECN}
ALL |= {f"v6-{s.name}": Case(f"v6-{s.name}", s, 1) for s in SEQUENCES if s.name.startswith(V6)}


def difference(kernel, barewire):
    """The steps whose answers differ: a line for each, the first step being 1."""
    return [f"{number}: {' | '.join(k) or 'nothing'} <> {' | '.join(b) or 'nothing'}"
            for number, (k, b) in enumerate(zip(kernel, barewire), 1) if k != b]


def expected(case):
    return DIFFERENCES.get(case.name, (None, []))[1]


@pytest.mark.parametrize("case", ALL)
def test_answers_as_the_kernel_does(compare, case):
    kernel, barewire = compare(ALL[case])
    for number, (step, k, b) in enumerate(zip(ALL[case].sequence.steps, kernel, barewire), 1):
        print(number, step)
        print("    kernel  ", " | ".join(k))
        print("    barewire", " | ".join(b))
    assert difference(kernel, barewire) == expected(ALL[case])
