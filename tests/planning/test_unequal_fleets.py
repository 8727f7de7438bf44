"""Fleets of unequal servers on the virtual clock: a server that joins makes no run slower."""

from __future__ import annotations

from functools import cache

import pytest

from explore_async.planning.fleet import Fleet
from explore_async.planning.rehearsal import rehearse
from explore_async.serving.simulated.engine import Profile
from explore_async.settings.run_settings import RecipeConfig


def profile(slots: int, slower: float = 1.0) -> Profile:
    return Profile(slots, 0.01 * slower, 0.0005 * slower, 0.00003 * slower, 500_000)


@cache
def seconds(slots: int, breadth: tuple[int, ...], slower: tuple[float, ...], concurrency: int | None) -> float:
    """The time of a run with one fast engine and others that are so many times slower."""
    exploration = {"depth": len(breadth), "breadth": list(breadth)} if breadth else {"depth": 0}
    recipe = RecipeConfig.model_validate(
        {
            "domains": [{"name": "Look after a garden"}],
            "exploration": exploration,
            "targets": {"per_task": 20 if breadth else 300},
            "window": 24 * slots,
        }
    ).resolved(model="simulated")
    fleet = Fleet([profile(slots), *(profile(slots, factor) for factor in slower)])
    return rehearse(recipe, fleet, concurrency=concurrency).seconds


@pytest.mark.parametrize(
    ("slots", "breadth", "slower", "concurrency", "least"),
    [
        (4, (4, 2), (1.0,), 4, 1.5),
        (4, (4, 2), (2.0,), 4, 1.1),
        (4, (4, 2), (6.0,), 4, 1.0),
        (4, (4, 2), (20.0,), 4, 0.99),
        (16, (4, 2), (3.0, 12.0), None, 0.99),
        (16, (), (2.0, 30.0), None, 0.99),
    ],
)
def test_a_server_that_joins_makes_no_run_slower(slots, breadth, slower, concurrency, least) -> None:
    """However slow it is, beside a full server and in a run that a tree holds up; one that is not much slower makes it
    faster. The last 1 % is the difference of two schedules.
    """
    alone = seconds(slots, breadth, (), concurrency)
    assert alone / seconds(slots, breadth, slower, concurrency) >= least
