# SPDX-License-Identifier: BSD-3-Clause
"""How a run ends that does not end by itself. What a conftest.py imports of this is its own fixture and hook."""

import signal

import pytest

from lab import Failed


def pytest_sessionstart():
    # A killed run must clean up as an interrupted one does.
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated", returncode=143))


@pytest.fixture(autouse=True)
def deadline(request):
    """A test that hangs fails, with its processes' logs, instead of holding up everything."""
    marker = request.node.get_closest_marker("deadline")
    seconds = marker.args[0] if marker else 120

    def expire(*_):
        raise Failed(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.alarm(seconds)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
