"""Trees that grow where examples come: below rich tasks, and beside saturated ones."""

from __future__ import annotations

import random

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scripted import Driven, answer, recipe

from explore_async.exploration.values import ChatRequest, Completion, Request, TaskAdded, TaskExhausted
from explore_async.settings.run_settings import RunSettings

BOUNDS = {"growth": "adaptive", "depth": 3, "breadth": [4, 3], "step": 4}
RICH, POOR = 4000, 6


def unequal(chat_request: ChatRequest, request: Request) -> Completion:
    """Sub-tasks with an even number are poor, and all below them: they have six kinds of instructions each."""
    count = request.prompt.values["count"]
    rng = random.Random(chat_request.key)
    if request.kind != "generate":
        return answer(chat_request, request)
    kinds = POOR if any(part in "02468" for part in request.task_id.split(".")[1:]) else RICH
    drawn = [rng.randrange(kinds) for _ in range(count)]
    name = request.task_id.replace(".", "x")
    texts = [" ".join(f"t{name}k{kind}w{word}" for word in "abcd") for kind in drawn]
    document = {"examples": [{"instruction": text, "input": "", "output": "Quite so."} for text in texts]}
    return Completion(orjson.dumps(document).decode(), "stop", 90, 30 * count)


def settings_of(**changes: object) -> dict[str, object]:
    return {
        "exploration": BOUNDS, "generation": {"per_request": 4}, "window": 24,
        "filters": {"task_threshold": 1.0}, **changes,
    }  # fmt: skip


def tree_of(run: Driven) -> dict[str, dict]:
    found, waiting = {}, run.explorer.trees()
    while waiting:
        node = waiting.pop()
        found[node["id"]] = node
        waiting += node["children"]
    return found


@pytest.mark.parametrize("policy", ["uniform", "yield"])
def test_rich_tasks_are_divided_and_saturated_ones_make_room(policy: str) -> None:
    """Only tasks that had their examples are divided; where one is exhausted, other branches are asked for beside it, more
    than its breadth in all. The run reaches its target with a tree of the size that it needs.
    """
    run = Driven(
        recipe(**settings_of(targets={"examples": 200}, generation={"per_request": 4, "policy": policy})), unequal
    )
    run.run()
    assert run.explorer.kept == 200
    tree = tree_of(run)
    exhausted = {event.task_id for event in run.events if isinstance(event, TaskExhausted)}
    divided = {request.task_id for request in run.commits if request.kind == "lookahead" and request.task_id != "0"}
    assert divided
    assert not divided & exhausted - {task for task in divided if tree[task]["kept"] >= 8}
    assert all(tree[task]["kept"] >= 6 for task in divided)
    asked_beside = {request.task_id for request in run.commits if request.kind == "backtrack"}
    assert asked_beside
    assert all(any(f"{task}." in one for one in exhausted) for task in asked_beside)
    open_tasks = len(tree) - len(exhausted)
    assert open_tasks <= 200 / 8 + 3 * 4


@settings(max_examples=20, deadline=None)
@given(
    target=st.integers(1, 90), depth=st.integers(0, 2), breadth=st.integers(1, 3), step=st.integers(1, 4),
    window=st.sampled_from([1, 8, 60]), policy=st.sampled_from(["uniform", "yield"]),
    cap=st.none() | st.integers(0, 12) | st.lists(st.integers(0, 9), min_size=1, max_size=3), whole=st.booleans(),
)  # fmt: skip
def test_it_ends_within_its_bounds(
    *, target: int, depth: int, breadth: int, step: int, window: int, policy: str, cap: object, whole: bool
) -> None:
    """Whatever the shape is, the run ends: with its target, or when there is nothing left to ask. No task is deeper than
    the bound, and none has more open branches than its breadth.
    """
    made = recipe(
        exploration={**BOUNDS, "depth": depth, "breadth": [breadth], "step": step}, window=window,
        generation={"per_request": 3, "policy": policy}, filters={"task_threshold": 1.0},
        targets={"per_task": 4 if cap is None else cap} if whole else {"examples": target, "per_task": cap},
    )  # fmt: skip
    run = Driven(made, unequal).run()
    assert run.explorer.stopped in {"target", "complete"} or run.explorer.is_over
    if not whole:
        assert run.explorer.stopped != "target" or run.explorer.kept == target
    tree = tree_of(run)
    assert all(node["depth"] <= depth for node in tree.values())
    for node in tree.values():
        assert sum(not _is_saturated(child) for child in node["children"]) <= breadth


def _is_saturated(node: dict) -> bool:
    return node["exhausted"] and all(_is_saturated(child) for child in node["children"])


@pytest.mark.parametrize("targets", [{"examples": 150}, {"token_budget": 12_000}])
@pytest.mark.parametrize("window", [1, 30, 32_768])
def test_timing_changes_nothing(window: int, targets: dict[str, int]) -> None:
    """The tree depends on what is committed, and on nothing else: the same bytes at any concurrency, with any delays."""
    generation = {"per_request": 4, "policy": "yield"}
    made = recipe(**settings_of(targets=targets, window=window, generation=generation))
    reference = Driven(made, unequal).run()
    for concurrency in (1, 40):
        other = Driven(made, unequal)
        other.drive(most_delay_s=0.001, concurrency=concurrency, shuffle=concurrency)
        assert other.keys == reference.keys
        assert other.events == reference.events
        assert other.explorer.trees() == reference.explorer.trees()


def test_a_small_run_explores_little() -> None:
    """A target that one task can reach asks for no sub-task; one for ten tasks gets about as many."""
    sizes = {}
    for target in (8, 80):
        run = Driven(recipe(**settings_of(targets={"examples": target})), answer).run()
        assert run.explorer.kept == target
        sizes[target] = sum(isinstance(event, TaskAdded) for event in run.events)
    assert sizes[8] <= 1
    assert 10 <= sizes[80] + 1 <= 14


def test_it_cannot_be_dealt_among_shards() -> None:
    """A shard of such a run is refused, with what helps."""
    document = {"domains": [{"name": "a"}], "targets": {"examples": 90}, "shard": "1/2", "exploration": BOUNDS}
    with pytest.raises(ValueError, match=r"exploration\.growth: full"):
        RunSettings.model_validate(document)
