"""The end of a run: requests are forecast by what the committed ones have brought, so that the last ones go out at once."""

from __future__ import annotations

import random
from collections import Counter

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.rounds import in_rounds
from support.scripted import Driven, answer, recipe

from explore_async.exploration.allocation import Allocation
from explore_async.exploration.forecast import ByYield
from explore_async.exploration.values import ChatRequest, Completion, ExampleKept, Request
from explore_async.settings.recipe import Generation, Targets

FULL = {"depth": 2, "breadth": [8, 6], "step": 3}


def with_duplicates(share: float):
    """Completions whose examples are new apart from this share, at random."""

    def outcome(chat_request: ChatRequest, request: Request) -> Completion:
        if request.kind != "generate":
            return answer(chat_request, request)
        rng = random.Random(chat_request.key)
        texts = [
            "Say the same thing" if rng.random() < share else " ".join(f"{chat_request.key}x{item}x{w}" for w in "abcd")
            for item in range(request.prompt.values["count"])
        ]
        document = {"examples": [{"instruction": text, "input": "", "output": "Quite so."} for text in texts]}
        return Completion(orjson.dumps(document).decode(), "stop", 1, 1)

    return outcome


@pytest.mark.parametrize("share", [0.1, 0.4])
@pytest.mark.parametrize("target", [200, 2000])
def test_the_last_examples_are_asked_for_at_once(target: int, share: float) -> None:
    """A tree of 57 tasks and its examples take ten rounds at most: seven for the tree, and three for examples, also
    where two fifths are duplicates. Earlier rules took more (26 for 200 examples), for about as many examples asked for.
    Every task has examples, and none more than its quota.
    """
    settings = recipe(
        exploration=FULL, targets={"examples": target}, generation={"per_request": 10}, window=768,
        filters={"task_threshold": 1.0},
    )  # fmt: skip
    run = Driven(settings, with_duplicates(share))
    rounds = list(in_rounds(run))
    earlier = Driven(settings.model_copy(update={"meaning": 3}), with_duplicates(share))
    earlier_rounds = list(in_rounds(earlier))
    kept = Counter(event.example.task_id for event in run.events if isinstance(event, ExampleKept))
    assert run.explorer.kept == target
    assert len(kept) == 57
    assert max(kept.values()) <= -(-target // 57)
    assert len(rounds) <= 10 < len(earlier_rounds)
    asked, asked_earlier = (
        sum(one.prompt.values["count"] for one in some.issued if one.kind == "generate") for some in (run, earlier)
    )
    assert asked <= 1.2 * asked_earlier


def test_a_tree_does_not_wait_for_openings() -> None:
    """Of names alone, a tree of 8 times 6 tasks takes seven rounds: three sub-tasks a request, and each backtrack after
    a finished child; the openings follow one another beside it.
    """
    run = Driven(recipe(exploration=FULL, targets={"per_task": 3}, window=768, filters={"task_threshold": 1.0}))
    rounds = list(in_rounds(run))
    with_names = [number for number, some in enumerate(rounds) if any(one.kind != "generate" for one in some)]
    assert with_names == list(range(7))


def test_children_are_shown_the_opening_of_their_parent() -> None:
    """Although names come first, no request for examples of a task is issued before the opening of its parent is
    committed, and it shows what that brought.
    """
    run = Driven(
        recipe(exploration=FULL, targets={"per_task": 6}, domains=[{"name": "Look after a garden"}], window=64)
    )
    for some in in_rounds(run):
        opened = {request.task_id for request in run.commits if request.kind == "generate"}
        for request in some:
            parent = request.task_id.rpartition(".")[0]
            if request.kind == "generate" and parent:
                assert parent in opened
                assert len(request.prompt.values["demonstrations"]) == 2


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12), st.integers(0, 12), st.booleans()), max_size=40))
def test_a_forecast_is_a_function_of_the_counts(steps: list[tuple[int, int, int, bool]]) -> None:
    """Restored from the counts of its accounts, an allocation expects the same and chooses the same task next."""

    def opened() -> Allocation:
        made = Allocation(Targets(examples=90), Generation(), ByYield(4))
        for _ in range(4):
            made.open(1)
        return made

    first = opened()
    first.plan([0, 4], explored=True, opened=True)
    for index, asked_for, kept, commits in steps:
        account = first._accounts[index]
        if not commits:
            first.issued(account, asked_for)
        elif account.in_flight:
            brought = min(asked_for, account.asked_for)
            new = max(0, min(kept, brought, first.room(account)))
            for _ in range(new):
                first.kept_one(account)
            first.committed(account, asked_for=brought, judged=max(1, new), kept=new, waiting=0)
    second = opened()
    for one, other in zip(first._accounts, second._accounts, strict=True):
        other.restore(orjson.loads(orjson.dumps(one.state())))
    second.restore(orjson.loads(orjson.dumps(first.state())))
    assert [one.state() for one in second._accounts] == [one.state() for one in first._accounts]
    for name in ("open", "expected", "likely", "doubt"):
        assert [getattr(one, name) for one in second._accounts] == [getattr(one, name) for one in first._accounts]
    chosen, expected = second.next(), first.next()
    assert (chosen and chosen.state(), chosen is None) == (expected and expected.state(), expected is None)
    assert chosen is None or expected is None or chosen.index == expected.index
