"""The short form: each fault a few times, on real processes. `make torture` is the long one."""

from __future__ import annotations

import random
from signal import SIGINT

import pytest
from support.cli import suite_template

from torture import faults, power
from torture.trial import STEPS, Ground, Row

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    """A place whose processes are copies of one that has loaded the program."""
    return Ground.prepare(
        tmp_path_factory.mktemp("torture"),
        examples=24,
        concurrency=16,
        latency_s=0.07,
        recipe=STEPS,
        template=suite_template(),
    )


def held(row: Row) -> bool:
    assert row.broken == []
    return row.runs == row.equal >= 1


def test_killed_anywhere_it_ends_the_same(ground: Ground) -> None:
    """kill -9 in each phase of a run, each time followed by the same command: what lies there is a prefix at any time,
    nothing that is stored is asked again, at the end the files equal those of an undisturbed run.
    """
    row = faults.kills(ground, random.Random(5), [["asking", "replay", "finishing"]])
    assert held(row)
    assert row.hit >= 2
    assert row.repeated <= sum(row.lost)
    assert row.checkpoints >= 1


def test_a_signal_stops_and_the_run_resumes(ground: Ground) -> None:
    """Ctrl-C: all that is under way is stored, the code is 130, and the run goes on to the same bytes."""
    row = faults.signals(ground, random.Random(1), [["asking"]], (SIGINT,))
    assert held(row)
    assert row.hit == 1


def test_a_closed_terminal_stops_the_run_gently(ground: Ground) -> None:
    """The terminal under the live panel goes: all that is under way is stored, the code is that of SIGTERM."""
    row = faults.hang_ups(ground, random.Random(1), [["asking"]])
    assert held(row)
    assert row.hit == 1


def test_power_lost(ground: Ground) -> None:
    """The end of the log and of the derived files is gone: the run asks for what is missing and ends the same."""
    row = power.cuts(ground, random.Random(0), 1, images=1)
    assert held(row)
    assert max(row.lost) > 0


def test_two_processes_do_not_share_a_run(ground: Ground) -> None:
    """A second process is refused with code 4 while the first one works, and does not disturb it."""
    row = faults.intruders(ground, random.Random(1), 1)
    assert held(row)
    assert row.hit == 1
