"""A window that is too narrow for the endpoints is told, while it holds them back and at the end."""

from __future__ import annotations

from pathlib import Path

from blockbuster import BlockBuster
from support.cli import config, in_process
from support.stored_run import serving

from explore_async.running.performer import PerformerStatistics
from explore_async.running.window_use import WindowUse


def performer(*, asking: int, waiting: int, pending: int = 0) -> PerformerStatistics:
    return PerformerStatistics(0, 1, 0, asking, pending, waiting)


def test_the_share_of_the_time_and_a_window_that_is_enough() -> None:
    """Held back is: everything of the window is out or waits, nothing is pending, and endpoints have room. The window
    that is named is a multiple of what the endpoints took at most.
    """
    use = WindowUse(64)
    moments = [
        (performer(asking=10, waiting=54), True),
        (performer(asking=10, waiting=54, pending=3), False),
        (performer(asking=64, waiting=0), False),
        (performer(asking=10, waiting=20), False),
    ]
    for moment, held_back in moments:
        use.look(moment, capacity=64, slots=32)
        assert use.holds_back(moment, 64) is held_back
    figures = use.figures()
    assert figures.held_back == 0.25
    assert f"--window {8 * 64}" in figures.advice
    assert WindowUse(64).figures().advice == ""


def test_a_run_says_it(tmp_path: Path, blockbuster: BlockBuster) -> None:
    """stats.json of a run has the window, the share of the time in which it held the endpoints back, and a window that
    is enough for what they take; the dry run warns of a narrow one before.
    """
    blockbuster.deactivate()  # a command opens and closes files on its loop, and nothing else runs there
    small = ("run", config(tmp_path), "--window", "8", "--concurrency", "64", "--max-examples", "12")
    with serving() as url:
        arguments = (*small, "--endpoint", url)
        dry = in_process(*arguments, "--dry-run")
        assert "a window of 8 has about 1 requests in flight" in dry.stdout
        assert "--window 512" in dry.stdout
        run = in_process(*arguments, "--out", tmp_path / "run", "--quiet", "--json")
    assert run.code == 0, run.stderr
    assert run.json["window"]["window"] == 8
    assert 0 <= run.json["window"]["held_back"] <= 1
