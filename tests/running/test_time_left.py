"""The time that is left, by arithmetic and in a run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from blockbuster import BlockBuster
from support.cli import RECIPE

from explore_async.config.load import load
from explore_async.exploration.explorer import Explorer
from explore_async.exploration.prompts import PromptBook
from explore_async.exploration.values import Event
from explore_async.planning import rehearsal
from explore_async.planning.clock import run_virtually
from explore_async.planning.fleet import MODEL, Fleet
from explore_async.running.driver import drive
from explore_async.running.observer import RunInProgress, SilentObserver, Snapshot
from explore_async.running.own_time import OwnTime
from explore_async.running.performer import Performer
from explore_async.running.start import run
from explore_async.running.status import RunStatus
from explore_async.running.tally import Tally
from explore_async.running.task_group import task_group
from explore_async.running.time_left import Pace, Promise, Work, remaining_s, time_left_s
from explore_async.serving.endpoints.pool import EndpointPool
from explore_async.serving.simulated.engine import Profile
from explore_async.serving.simulated.server import Latency, SimulatedServer
from explore_async.settings.run_settings import RecipeConfig


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


def test_requests_for_answers_are_still_needed() -> None:
    """Where each instruction is answered and judged in requests of its own, these count: those of instructions that are
    still to be found, those of the ones on their way but for what they had, and more of both as far as some drop out.
    """
    steps = {"per_request": 10, "steps": 2, "rounds": 2}
    new = Work(committed=0, generated=0, waiting=0, kept=0, wanted=800, **steps)
    assert new.requests_left == pytest.approx(125 + 2000)  # four fifths are new, and of these four fifths come through
    half = Work(committed=0, generated=1_000, waiting=0, kept=4_000, wanted=8_000, found=8_000, stepped=16_000, **steps)
    assert half.requests_left == pytest.approx(1_000 + 16_000, rel=0.02)
    last = Work(committed=0, generated=1_000, waiting=0, kept=7_900, wanted=8_000, found=8_000, unfinished=100, stepped=15_900, **steps)  # fmt: skip
    assert last.requests_left == pytest.approx(100, abs=1)
    assert new.rounds_left == 3
    assert last.rounds_left == pytest.approx(2, abs=0.1)
    done = Work(committed=0, generated=1_000, waiting=0, kept=8_000, wanted=8_000, found=8_000, stepped=16_000, **steps)
    assert done.requests_left == done.rounds_left == 0
    given = Work(committed=150, generated=0, waiting=0, kept=30, wanted=100, found=100, unfinished=30, stepped=150, finds=False, **steps)  # fmt: skip
    assert given.requests_left == 50  # of 30 left, and ten of them have their answer


def test_seconds_until_the_end() -> None:
    """Requests are sent at the pace, and then the slowest endpoint decides; once nothing waits for an endpoint, only what
    is in flight. With no pace nothing is known, unless all that is needed is in flight.
    """
    new = Work(committed=0, generated=0, waiting=0, kept=0, wanted=800, per_request=10)
    busy = Pace(answers_per_s=10.0, in_flight=20, usual_s=2.0, slowest_s=15.0, window=200, draining_s=9.0, is_draining=False)  # fmt: skip
    assert time_left_s(new, busy) == pytest.approx(8 + 15)
    assert time_left_s(new, replace(busy, window=40)) == pytest.approx(
        80 / 40 * 15 + 15
    )  # each window awaits a slow one
    assert time_left_s(new, replace(busy, in_flight=100)) == pytest.approx(15)
    assert time_left_s(new, replace(busy, in_flight=100, is_draining=True)) == pytest.approx(9)
    assert time_left_s(new, replace(busy, in_flight=99, is_draining=True)) == pytest.approx(9 + 2)  # one more follows
    assert time_left_s(new, replace(busy, answers_per_s=0.0)) is None
    assert time_left_s(new, replace(busy, answers_per_s=0.0, in_flight=100, is_draining=True)) == pytest.approx(9)


def test_a_request_that_takes_its_time() -> None:
    """Until a slow completion's time it is expected then, soon after it soon; one far beyond it, and one of an endpoint
    that has brought none, takes as long again.
    """
    assert [remaining_s(age_s, 10.0) for age_s in (0.0, 4.0, 9.9, 10.5, 40.0)] == pytest.approx([10, 6, 1, 1, 30])
    assert remaining_s(25.0, 0.0) == 25.0


def test_a_time_that_stands_still_is_not_said() -> None:
    """A time that becomes less is said. One that hardly does is not, once half of it and a minute have passed."""

    def is_said(left_s: Sequence[float]) -> bool:
        promise = Promise()
        return [promise.is_kept(seconds, 5.0 * number) for number, seconds in enumerate(left_s)][-1]

    assert is_said([100 - 5 * n for n in range(15)])
    assert is_said([100 - 2 * n for n in range(15)])
    assert not is_said([30] * 15)
    assert not is_said([50 - n / 2 for n in range(15)])
    assert is_said([30] * 12)  # not a minute ago
    assert is_said([600] * 60)
    assert not is_said([600] * 62)


async def _told(
    explorer: Explorer, prompts: PromptBook, fleet: Fleet
) -> tuple[float, list[tuple[float, float | None]]]:
    """The end of the run, and what it said was left at each second, on a virtual clock."""
    tally, own_time = Tally(), OwnTime()
    now = asyncio.get_running_loop().time
    pool = EndpointPool(fleet.endpoints(8), models=(MODEL,), open_clients=fleet.open_clients)
    pool.slots = 16  # type: ignore[attr-defined] - as a backend has it
    told = []
    async with pool, task_group() as group:
        performer = Performer(rehearsal._EmptyStore(), prompts.render, rehearsal._Backend(pool), own_time)
        status = RunStatus(explorer, tally, pool, own_time)  # type: ignore[arg-type] - of a backend it uses three members
        status.performer = performer
        tally.seeds(explorer.seed_events())

        async def look() -> None:
            while True:
                await asyncio.sleep(1.0)
                list(status.changes())
                told.append((now(), status.snapshot().left_s))

        performer.open(group)
        beside = [group.create_task(coroutine) for coroutine in (pool.adjust_limits(), look())]
        await drive(
            explorer, performer, lambda request, stored, events: tally.commit(request, stored.outcome, events), own_time
        )
        end = now()
        for coroutine in beside:
            coroutine.cancel()
        await performer.close(abandon=True)
    return end, told


@pytest.mark.parametrize(
    ("window", "steps"), [(64, {}), (400, {}), (400, {"responses": "separate", "judge": {"threshold": 1}})]
)
def test_before_unequal_endpoints(window: int, steps: dict[str, object]) -> None:
    """In the later half of a run with an endpoint that is four times slower, also where a narrow window lets it stop and
    go, the time is never off by a factor of two, but for the last completion of the slow endpoint. So too where answers and
    scores are still to come.
    """
    config = {"domains": [{"name": "Look after a garden"}], "exploration": {"depth": 0}, "targets": {"examples": 1000}}
    recipe = RecipeConfig.model_validate({**config, **steps, "window": window}).resolved(model=MODEL)
    profiles = [Profile(8, token_s, 0.0, 0.0001, 10_000_000) for token_s in (0.02, 0.08)]
    end, told = run_virtually(_told(Explorer(recipe), PromptBook(recipe), Fleet(profiles, duplicate_share=0.0)))
    later = [(end - at, left_s) for at, left_s in told if at > end / 2]
    known = [(true_s, left_s) for true_s, left_s in later if left_s is not None]
    assert len(known) > len(later) / 2
    last_s = 0.08 * 1000 * 2
    for true_s, left_s in known:
        assert true_s / 2 < left_s < true_s * 2 or abs(left_s - true_s) < last_s


async def test_a_run_knows_when_it_ends(tmp_path: Path, blockbuster: BlockBuster) -> None:
    """In its later half, the time that it names is the real one to a factor of three, though the window lets
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
        half = (seen[0][0] + ended) / 2
        generating = [
            (at, snapshot) for at, snapshot in seen if snapshot.phase == "generating" and half < at < ended - 1
        ]
        known = [(at, snapshot.left_s) for at, snapshot in generating if snapshot.left_s is not None]
        assert len(known) > len(generating) / 2
        for at, left_s in known:
            assert (ended - at) / 3 < left_s < (ended - at) * 3
