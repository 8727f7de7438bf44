"""Where the tokens go: the policies that choose the task of the next request for examples."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scripted import Driven, answer, recipe

from explore_async.exploration.harvest import Harvest
from explore_async.exploration.turns import BestYield
from explore_async.exploration.values import ChatRequest, Completion, ExampleDropped, Request, TaskExhausted

TREE = {"exploration": {"depth": 2, "breadth": [4, 3], "step": 4}, "filters": {"task_threshold": 1.0}}
BY_YIELD = {"per_request": 6, "policy": "yield"}


def unequal(kinds: Callable[[str], int]) -> Callable[[ChatRequest, Request], Completion]:
    """Completions of tasks that have so many kinds of instructions each, all equally likely."""

    def outcome(chat_request: ChatRequest, request: Request) -> Completion:
        if request.kind != "generate":
            return answer(chat_request, request)
        rng = random.Random(chat_request.key)
        drawn = [rng.randrange(kinds(request.task_id)) for _ in range(request.prompt.values["count"])]
        texts = [" ".join(f"t{request.task_id}k{kind}w{word}" for word in "abcd") for kind in drawn]
        document = {"examples": [{"instruction": text, "input": "", "output": "Quite so."} for text in texts]}
        return Completion(orjson.dumps(document).decode(), "stop", 90, 30 * len(drawn))

    return outcome


def poor_and_rich(task_id: str) -> int:
    """Every other task has ten kinds."""
    return 10 if task_id[-1] in "02468" else 4000


def run(**changes: object) -> Driven:
    return Driven(recipe(**{**TREE, **changes}), unequal(poor_and_rich)).run()


def cost(run: Driven) -> int:
    return sum(request.prompt.values["count"] for request in run.commits if request.kind == "generate")


@pytest.mark.parametrize("window", [8, 64, 32_768])
def test_yield_keeps_as_much_for_fewer_tokens(window: int) -> None:
    """Where half of the tasks soon have nothing new, the same number of examples costs less by yield, whatever the window
    is; and each task is asked for its floor.
    """
    runs = {
        policy: run(window=window, targets={"examples": 400}, generation={"per_request": 6, "policy": policy})
        for policy in ("uniform", "yield")
    }
    assert [one.explorer.kept for one in runs.values()] == [400, 400]
    assert cost(runs["yield"]) < 0.8 * cost(runs["uniform"])
    asked = Counter[str]()
    for request in runs["yield"].issued:
        asked[request.task_id] += request.prompt.values["count"] if request.kind == "generate" else 0
    assert len(asked) == 17
    assert min(asked.values()) >= 400 // 17 // 4


@pytest.mark.parametrize("window", [1, 16, 300])
def test_timing_changes_nothing(window: int) -> None:
    """By yield the same bytes come out at any concurrency and with any delays."""
    made = recipe(**TREE, window=window, targets={"examples": 150}, generation=BY_YIELD)
    reference = Driven(made, unequal(poor_and_rich)).run()
    for concurrency in (1, 40):
        other = Driven(made, unequal(poor_and_rich))
        other.drive(most_delay_s=0.001, concurrency=concurrency, shuffle=concurrency)
        assert other.keys == reference.keys
        assert other.events == reference.events


def test_stored_completions_serve_both_policies() -> None:
    """A run by yield asks the same exploration as a uniform one, and the same requests of each task as far as it goes: so
    `--adopt` uses what is there.
    """
    changes = {"targets": {"examples": 300}, "window": 32}
    uniform, by_yield = run(**changes), run(**changes, generation={"per_request": 3, "policy": "yield"})
    asked = [
        {(one.kind, one.task_id, one.turn): key for one, key in zip(some.commits, some.keys, strict=True)}
        for some in (uniform, by_yield)
    ]
    both = asked[0].keys() & asked[1].keys()
    assert all(asked[0][request] == asked[1][request] for request in both)
    assert {request for request in asked[0] if request[0] != "generate"} <= both
    assert len(both) > 0.5 * len(asked[1])


def test_a_covered_task_stops_and_its_part_goes_to_others() -> None:
    """A task with ten kinds stops when it has nearly all, with its coverage as evidence, before three requests bring
    nothing; the run reaches its target all the same. `covered_at: 1` stops none.
    """
    ends = {}
    for at in (0.8, 1):
        made = run(targets={"examples": 400}, generation={**BY_YIELD, "covered_at": at}, window=16)
        assert made.explorer.kept == 400
        ends[at] = [event for event in made.events if isinstance(event, TaskExhausted)]
    assert ends[0.8]
    assert all(event.coverage is not None and event.coverage >= 0.8 for event in ends[0.8])
    assert all(poor_and_rich(event.task_id) == 10 for event in ends[0.8])
    assert all(event.coverage is None for event in ends[1])


@settings(max_examples=60, deadline=None)
@given(kinds=st.lists(st.integers(0, 12), max_size=80))
def test_coverage_is_that_of_chao_and_jost(kinds: list[int]) -> None:
    """Counting one text after another gives what the formula gives of the sizes of all groups."""
    harvest = Harvest()
    for position, kind in enumerate(kinds):
        harvest.compare(None if kind not in kinds[:position] else f"0.{kind}")
    sizes = Counter(Counter(kinds).values())
    n, once, twice = len(kinds), sizes[1], sizes[2]
    if n < 20:
        assert harvest.coverage == 0
        return
    expected = 1.0 if not once else 1 - once / n * ((n - 1) * once / ((n - 1) * once + 2 * twice))
    assert harvest.coverage == pytest.approx(expected)
    restored = Harvest()
    restored.restore(orjson.loads(orjson.dumps(harvest.state())))
    assert restored.state() == harvest.state()


def test_the_estimate_is_near_the_true_coverage() -> None:
    """Of kinds that are unequally likely, the mean estimate is within a twentieth of the probability of the kinds that
    have come.
    """
    for exponent in (0.0, 0.7, 1.2):
        weights = [(kind + 1) ** -exponent for kind in range(80)]
        errors = []
        for seed in range(40):
            drawn = random.Random(seed).choices(range(80), weights, k=100)
            harvest = Harvest()
            for position, kind in enumerate(drawn):
                harvest.compare(None if kind not in drawn[:position] else str(kind))
            true = sum(weights[kind] for kind in set(drawn)) / sum(weights)
            errors.append(harvest.coverage - true)
        assert abs(sum(errors) / len(errors)) < 0.05


@dataclass(eq=False)
class Counted:
    """Counts of a task as hypothesis draws them."""

    index: int
    cap: int | None = None
    depth: int = 0
    kept: int = 0
    in_flight: int = 0
    answered: int = 0
    exhausted: bool = False
    open: bool = True
    expected: int = 0
    harvest: Harvest = field(default_factory=Harvest)


CHANGES = st.lists(
    st.tuples(
        st.integers(0, 4), st.booleans(), *(st.integers(0, 30) for _ in range(3)), st.integers(1, 200), st.booleans()
    ),
    max_size=40,
)


@settings(max_examples=100, deadline=None)
@given(changes=CHANGES, level=st.integers(1, 40), caps=st.lists(st.none() | st.integers(0, 30), min_size=5, max_size=5))
def test_the_heaps_choose_as_a_look_at_all_tasks_does(
    changes: list[tuple[int, bool, int, int, int, int, bool]], level: int, caps: list[int | None]
) -> None:
    """After any changes of counts the choice is the least filled task below its floor, else the one of most worth."""
    tasks = [Counted(index, cap) for index, cap in enumerate(caps)]
    policy = BestYield()
    for task in tasks:
        policy.note(task)

    def share(task: Counted) -> int:
        return level if task.cap is None else min(level, task.cap)

    def quota(task: Counted) -> int:
        return 35 if task.cap is None else task.cap

    for index, is_open, expected, in_flight, found, spent, opened in changes:
        task = tasks[index]
        task.open, task.expected, task.in_flight = is_open, expected, in_flight
        task.answered += 1
        task.harvest.request(spent, None)
        task.harvest.find(found)
        policy.note(task)
        below = [one for one in tasks if one.open and one.expected < share(one) // 4]
        expects = min(below, key=lambda one: (one.expected, one.index), default=None)
        if expects is None and opened:
            able = [
                one for one in tasks
                if one.open and one.expected < quota(one) and one.in_flight < max(one.answered, 64 // 5)
            ]  # fmt: skip
            expects = max(able, key=lambda one: (one.harvest.rate**2 // (one.expected + 1), -one.index), default=None)
        assert policy.next(share=share, quota=quota, opened=opened) is expects  # type: ignore[arg-type]


def test_what_is_dropped_by_a_filter_is_no_draw() -> None:
    """Only texts that were compared count for coverage: a task whose completions fail the filters is not covered."""

    def empty(chat_request: ChatRequest, request: Request) -> Completion:
        if request.kind != "generate":
            return answer(chat_request, request)
        return Completion(orjson.dumps({"examples": [{"instruction": "No", "output": "x"}] * 5}).decode(), "stop", 9, 9)

    made = Driven(recipe(targets={"per_task": 9}, generation=BY_YIELD, exploration={"depth": 0}), empty).run()
    assert [event.coverage for event in made.events if isinstance(event, TaskExhausted)] == [None]
    assert any(isinstance(event, ExampleDropped) for event in made.events)
