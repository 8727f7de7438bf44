"""The suite hands no ignored signal on to the processes it starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from support.signals import STOPPING, restore_for_children

TELL = "import signal; print(*(signal.getsignal(number) is signal.SIG_IGN for number in ({})))"


@pytest.fixture
def ignored() -> Iterator[None]:
    """A caller that ignores these signals, as a shell does for what it starts in the background."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in STOPPING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def ignored_by_a_child() -> list[str]:
    program = TELL.format(", ".join(str(int(number)) for number in STOPPING))
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()


def test_children_heed_what_the_caller_ignores(ignored: None) -> None:
    """Without the suite's care a child ignores what its caller ignores; with it, a child has the defaults."""
    assert ignored_by_a_child() == ["True"] * len(STOPPING)
    restore_for_children()
    assert ignored_by_a_child() == ["False"] * len(STOPPING)


@pytest.mark.parametrize("number", STOPPING)
def test_the_suite_goes_on_ignoring_it(ignored: None, number: signal.Signals) -> None:
    """A closed terminal or a Ctrl-C that its caller meant for others still ends no test."""
    restore_for_children()
    os.kill(os.getpid(), number)


def test_every_test_is_prepared() -> None:
    """No test begins with one of these signals ignored."""
    assert not [number for number in STOPPING if signal.getsignal(number) is signal.SIG_IGN]
