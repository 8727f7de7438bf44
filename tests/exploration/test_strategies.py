"""Strategies and turn policies are exchangeable: the explorer knows no particular one."""

from __future__ import annotations

from itertools import pairwise

import orjson
import pytest
from support.scripted import Driven, answer, recipe
from support.strategies import BestYieldFirst, OneLevel

from explore_async.exploration.explorer import Explorer
from explore_async.exploration.kinds import LOOKAHEAD
from explore_async.exploration.play import play
from explore_async.exploration.turns import FewestFirst
from explore_async.exploration.values import Example, ExampleKept, TaskAdded

DEEP = {"exploration": {"depth": 2, "breadth": [4, 3], "step": 3}, "targets": {"examples": 70}}
ONE_LEVEL = OneLevel.asking(LOOKAHEAD)


def test_another_strategy_grows_another_tree() -> None:
    """A strategy that asks once, for one level: a root, its children, no backtrack, and the target is reached."""
    run = Driven(recipe(**DEEP), strategy=ONE_LEVEL).run()
    assert [request.kind for request in run.commits if request.kind != "generate"] == ["lookahead"]
    assert [event.task.id for event in run.events if isinstance(event, TaskAdded)] == ["0.0", "0.1", "0.2"]
    assert run.explorer.explored
    assert run.explorer.kept == 70


@pytest.mark.parametrize("window", [1, 16, 64])
def test_with_another_strategy_and_policy_timing_changes_nothing(window: int) -> None:
    """The same bytes come out at any concurrency and with any delays."""
    runs = [
        Driven(recipe(window=window, **DEEP), strategy=strategy, turns=BestYieldFirst)
        for strategy in (ONE_LEVEL, None)
        for _ in range(3)
    ]
    for at in (0, 3):
        reference = runs[at].run()
        for other, concurrency in ((runs[at + 1], 1), (runs[at + 2], 50)):
            other.drive(most_delay_s=0.002, concurrency=concurrency, shuffle=concurrency)
            assert other.keys == reference.keys
            assert other.events == reference.events
            assert other.explorer.trees() == reference.explorer.trees()


def test_the_policy_decides_whose_turn_it_is() -> None:
    """By yield, one task is generated for at a time, where the fewest first takes them in turns: other orders of
    generate requests, and equal quotas in the end.
    """
    patient = {"targets": {"per_task": 12}, "window": 4, "exploration": {"depth": 1, "breadth": [3], "step": 3}}
    runs = [Driven(recipe(**patient), turns=turns).run() for turns in (FewestFirst, BestYieldFirst)]
    switches = []
    for run in runs:
        tasks = [request.task_id for request in run.issued if request.kind == "generate" and request.turn]
        switches.append(sum(first != second for first, second in pairwise(tasks)))
        assert run.explorer.kept == 48
    assert switches[1] < switches[0]


def test_exchanged_parts_go_on_from_a_checkpoint() -> None:
    """A strategy and a policy that are restored in the middle of a run end it in the same state."""
    settings = recipe(window=8, **DEEP)
    whole = Driven(settings, strategy=ONE_LEVEL, turns=BestYieldFirst).run()
    for commits in (1, 3, 9, 20):
        first = Explorer(settings, strategy=ONE_LEVEL, turns=BestYieldFirst())
        said = lambda request: answer(whole.book.render(request), request)  # noqa: E731
        kept: list[Example] = []
        for _, (_, _, events) in zip(range(commits), play(first, said), strict=False):
            kept += [event.example for event in events if isinstance(event, ExampleKept)]
        second = Explorer(settings, strategy=ONE_LEVEL, turns=BestYieldFirst())
        second.restore(orjson.loads(orjson.dumps(first.state())), kept)
        for _ in play(second, said):
            pass
        assert second.trees() == whole.explorer.trees()
        assert second.state() == whole.explorer.state()
