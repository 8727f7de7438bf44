"""The time that is left, by arithmetic and in a run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from blockbuster import BlockBuster
from support.cli import RECIPE

from explore_async.config.load import load
from explore_async.exploration.values import Event
from explore_async.running.observer import RunInProgress, SilentObserver, Snapshot
from explore_async.running.start import run
from explore_async.running.time_left import Work, time_left_s
from explore_async.serving.simulated.server import Latency, SimulatedServer


def test_requests_that_are_still_needed() -> None:
    """A request brings what requests have brought so far; those whose completions wait for their commit are not asked
    again, and a token budget ends the run before its target.
    """
    work = Work(committed=1_100, generated=1_000, waiting=0, kept=2_000, wanted=10_000, per_request=10)
    assert work.requests_left == pytest.approx(4_000, rel=0.02)  # two examples of ten were kept
    assert Work(committed=1_100, generated=1_000, waiting=1_000, kept=2_000, wanted=10_000, per_request=10).requests_left == pytest.approx(3_000, rel=0.03)  # fmt: skip
    budget = Work(committed=1_100, generated=1_000, waiting=0, kept=2_000, wanted=10_000, per_request=10, tokens=1_000_000, token_budget=1_100_000)  # fmt: skip
    assert budget.requests_left == pytest.approx(110)
    new = Work(committed=0, generated=0, waiting=0, kept=0, wanted=800, per_request=10)
    assert new.requests_left == pytest.approx(100)
    assert time_left_s(new, 10.0, 1.0) == pytest.approx(10)
    assert time_left_s(new, 10.0, 15.0) == 15
    assert time_left_s(new, 0.0, 1.0) is None


async def test_a_run_knows_when_it_ends(tmp_path: Path, blockbuster: BlockBuster) -> None:
    """When the trees are complete, the time that it names is the real one to a factor of three, though the window lets
    completions wait for long before they are committed. The same after a replay, which says nothing about the pace.
    """
    blockbuster.deactivate()  # a run opens and closes its files on the loop
    path = tmp_path / "config.yaml"
    path.write_text(RECIPE.replace("window: 64", "window: 400"))

    class Looking(SilentObserver):
        def __init__(self) -> None:
            self.seen: list[tuple[float, Snapshot]] = []

        def began(self, recipe: object, run: RunInProgress) -> None:
            self.run = run

        def committed(self, events: Sequence[Event]) -> None:
            self.seen.append((time.monotonic(), self.run.snapshot()))

    looking, again = Looking(), Looking()
    async with SimulatedServer(4, Latency(0.08, 0.3)) as server:
        operation = {"endpoints": [{"url": server.url, "concurrency": 4}]}
        await run(load(str(path), targets={"examples": 450}, operation=operation), tmp_path / "run", observer=looking)
        end = time.monotonic()
        settings = load(str(path), targets={"examples": 700}, operation=operation)
        await run(settings, tmp_path / "run", observer=again, mode="adopt")
    end_again = time.monotonic()
    assert {snapshot.phase for _, snapshot in looking.seen} == {"exploring", "generating"}
    assert {snapshot.phase for _, snapshot in again.seen} >= {"replaying", "generating"}
    for seen, ended in ((looking.seen, end), (again.seen, end_again)):
        generating = [(at, snapshot) for at, snapshot in seen if snapshot.phase == "generating" and ended - at > 1.0]
        known = [(at, snapshot.left_s) for at, snapshot in generating if snapshot.left_s is not None]
        assert len(known) > len(generating) / 2
        for at, left_s in known:
            assert (ended - at) / 3 < left_s < (ended - at) * 3
