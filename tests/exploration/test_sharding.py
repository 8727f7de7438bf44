"""Shards: what is dealt to whom, and what the shards of a run make together."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from support.scripted import Driven, recipe

from explore_async.exploration.sharding import Sharding, is_shared
from explore_async.exploration.values import ExampleKept
from explore_async.settings.recipe import Recipe


def sharded(index: int, shards: int, **changes: Any) -> Recipe:
    return recipe(shard=f"{index}/{shards}", **changes)


def domains(number: int) -> list[dict[str, Any]]:
    return [{"name": f"Domain number {name}", "description": "plants"} for name in range(number)]


@settings(max_examples=150, deadline=None)
@given(
    number=st.integers(1, 40),
    breadths=st.lists(st.integers(1, 6), max_size=3),
    shards=st.integers(1, 40),
    total=st.one_of(st.none(), st.integers(40, 10_000)),
    caps=st.one_of(st.none(), st.lists(st.integers(0, 20), min_size=1, max_size=3)),
    seed=st.integers(0, 3),
)
def test_all_is_dealt_once_and_evenly(*, number, breadths, shards, total, caps, seed) -> None:
    """For any trees: each task of the top and each sub-tree is in one shard, the numbers of sub-trees and of all that is
    dealt differ by one at most, the parts of the targets add up to the targets, and all shards compute the same deal.
    """
    changes = {
        "domains": domains(number),
        "exploration": {"depth": len(breadths), "breadth": breadths or [1]},
        "targets": {"examples": total, "per_task": caps, "token_budget": 9_999},
        "seed": seed,
    }
    assume(total is not None or caps is not None)
    assume(max(recipe(**changes).most_tasks) >= shards)
    dealers = [Sharding(sharded(index + 1, shards, **changes)) for index in range(shards)]
    shares = [dealer.expected() for dealer in dealers]
    owners = shares[0].owners
    assert all(share.owners == owners for share in shares)
    level = dealers[0].level
    counts = recipe(**changes).most_tasks
    assert Counter(task.count(".") for task in owners) == Counter({depth: counts[depth] for depth in range(level + 1)})
    assert counts[level] >= shards
    assert level == 0 or counts[level - 1] < shards
    for dealt in (owners.values(), [owner for task, owner in owners.items() if task.count(".") == level]):
        numbers = Counter(dealt)
        assert {*numbers} <= set(range(1, shards + 1))
        assert max(numbers.values()) - min(numbers[shard] for shard in range(1, shards + 1)) <= 1
    assert sum(share.token_budget or 0 for share in shares) == 9_999
    assert total is None or sum(share.examples or 0 for share in shares) == total
    planned = [dealer.tasks_of(share) for dealer, share in zip(dealers, shares, strict=True)]
    assert [sum(depths) for depths in zip(*planned, strict=True)] == counts


SHAPES: dict[str, dict[str, Any]] = {
    "domains": {"domains": domains(5), "exploration": {"depth": 2, "breadth": [3, 2], "step": 2}},
    "sub-trees": {"exploration": {"depth": 2, "breadth": [6, 3], "step": 2}},
    "leaves": {"domains": domains(2), "exploration": {"depth": 2, "breadth": [2, 3], "step": 2}},
    "by breadth": {"exploration": {"depth": 3, "breadth": [5, 2, 2], "step": 2, "order": "breadth_first"}},
    "seeds": {
        "domains": [
            {
                "name": "Look after a garden",
                "tasks": [
                    {"name": "Water all plants", "tasks": [{"name": "Find a hose", "tasks": [{"name": "Mend it"}]}]},
                    {"name": "Prune in late winter", "tasks": [{"name": "Sharpen every blade"}]},
                ],
            }
        ],
        "exploration": {"depth": 3, "breadth": [5, 2, 2], "step": 2},
    },
    "by yield": {
        "exploration": {"depth": 2, "breadth": [6, 3], "step": 2},
        "generation": {"per_request": 3, "policy": "yield"},
    },
    "facets": {"exploration": {"depth": 2, "breadth": [6, 3], "step": 2, "facets": 3}},
    "by tokens": {
        "exploration": {"depth": 2, "breadth": [6, 3], "step": 2},
        "targets": {"token_budget": 40_000},
    },
    "per task": {"exploration": {"depth": 2, "breadth": [6, 3], "step": 2}, "targets": {"per_task": [7, 2, 5]}},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("window", [4, 600])
def test_the_shards_make_the_run_together(shape: str, window: int) -> None:
    """Four shards explore the same top, and each task has its examples and its sub-tasks in one of them alone. Together
    they have as many examples as a run is asked for, as evenly spread, and ask no request twice that they do not share.
    """
    changes = {"targets": {"examples": 300}, **SHAPES[shape], "window": window}
    runs = [Driven(sharded(index, 4, **changes)).run() for index in (1, 2, 3, 4)]
    tops, of_task = set(), Counter[str]()
    level = Sharding(runs[0].recipe).level
    for index, run in enumerate(runs, 1):
        assert run.explorer.explored
        top, own = {}, set()

        def visit(node: dict[str, Any], top=top, own=own, index=index) -> None:
            is_own = node.get("shard", index) == index
            if node["depth"] <= level:
                top[node["id"]] = (node["name"], node.get("shard", index))
            if is_own:
                own.add(node["id"])
            assert is_own or not node["kept"]
            assert is_own or node["depth"] < level or all(child["origin"] == "seed" for child in node["children"])
            for child in node["children"]:
                visit(child)

        for tree in run.explorer.trees():
            visit(tree)
        of_task.update(own)
        tops.add(tuple(sorted(top.items())) if level else index)
        kept = {event.example.task_id for event in run.events if isinstance(event, ExampleKept)}
        assert kept <= own
    assert len(tops) == (1 if level else 4)
    assert set(of_task.values()) == {1}
    in_all = sum(run.explorer.kept for run in runs)
    if changes["targets"].get("examples"):
        assert in_all == 300
    elif changes["targets"].get("token_budget"):
        spent = sum(run.explorer.tokens for run in runs)
        assert 30_000 < spent < 50_000
    else:
        whole = Driven(recipe(**changes)).run()
        assert in_all == whole.explorer.wanted or abs(in_all - whole.explorer.kept) < whole.explorer.kept / 10
    asked = Counter(
        key
        for run in runs
        for request, key in zip(run.commits, run.keys, strict=True)
        if not is_shared(run.recipe, request)
    )
    assert set(asked.values()) == {1}


def test_what_is_shared_is_the_same_in_each_shard() -> None:
    """All shards ask for the top and its openings with the same keys, and the tasks below are shown the same examples
    as in a run whose tree has the same top.
    """
    runs = [Driven(sharded(index, 3, **SHAPES["sub-trees"])).run() for index in (1, 2, 3)]
    shared = [
        {key for request, key in zip(run.commits, run.keys, strict=True) if is_shared(run.recipe, request)}
        for run in runs
    ]
    assert shared[0]
    assert shared[0] == shared[1] == shared[2]
    roots = {run.explorer._forest.by_id["0"].opening for run in runs}
    assert len(roots) == 1
    assert roots.pop()


@pytest.mark.parametrize("shape", SHAPES)
def test_one_shard_of_one_is_the_run(shape: str) -> None:
    """With --shard 1/1 every request, event and task is that of the run without shards."""
    changes = {"targets": {"examples": 200}, **SHAPES[shape]}
    whole, only = Driven(recipe(**changes)).run(), Driven(sharded(1, 1, **changes)).run()
    assert only.keys == whole.keys
    assert only.events == whole.events
    assert only.explorer.trees() == whole.explorer.trees()


@pytest.mark.parametrize(
    ("shard", "changes", "words"),
    [
        ("3/2", {}, "numbered from 1 to 2"),
        ("0/2", {}, "from 1 to 99999"),
        ("1/99999999", {}, "from 1 to 99999"),
        ("1", {}, "write it as I/N"),
        ("1/9", {"exploration": {"depth": 1, "breadth": [8]}}, "at most 8 shards"),
        ("1/61", {"exploration": {"depth": 2, "breadth": [9, 9]}}, "less than one example for each"),
    ],
)
def test_what_cannot_be_dealt_is_refused(shard: str, changes: dict[str, Any], words: str) -> None:
    """A shard that there is not, more shards than tasks of a level, fewer examples than shards."""
    with pytest.raises(ValidationError, match=words):
        recipe(shard=shard, **changes)
