"""Self-Instruct: one task, whose prompts show what it has kept so far."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.scripted import Driven, answer, recipe

from explore_async.exploration.explorer import Explorer
from explore_async.exploration.play import play
from explore_async.exploration.pool import Pool, requests_before
from explore_async.exploration.values import Demonstration, Example, ExampleKept

SELF_INSTRUCT = {"exploration": {"strategy": "self_instruct"}, "targets": {"examples": 300}}
SEEDS = ("Say when to prune roses", "Name three herbs for shade")


@pytest.mark.parametrize("window", [1, 20, 32_768])
def test_what_is_shown_depends_on_earlier_requests_alone(window: int) -> None:
    """At any window and any concurrency the requests are the same, with the same prompts; the first 16 show the user's
    examples alone, and later ones also examples that were kept before, by requests whose numbers follow from their own.
    """
    run = Driven(recipe(**SELF_INSTRUCT, window=window)).run()
    reference = Driven(recipe(**SELF_INSTRUCT, window=5)).run()
    both = min(len(run.keys), len(reference.keys))
    assert run.keys[:both] == reference.keys[:both]
    assert {request.task_id for request in run.commits} == {"0"}
    kept_by = {
        event.example.instruction: event.example.request_ordinal
        for event in run.events
        if isinstance(event, ExampleKept)
    }
    turn_of = {request.ordinal: request.turn for request in run.commits}
    for request in run.commits:
        shown = [one.instruction for one in request.prompt.values["demonstrations"]]
        of_pool = [one for one in shown if one not in SEEDS]
        assert len(set(shown)) == len(shown)
        assert bool(of_pool) is (request.turn >= 16)
        assert all(turn_of[kept_by[one]] < requests_before(request.turn) for one in of_pool)
    driven = Driven(run.recipe)
    driven.drive(most_delay_s=0.001, concurrency=30, shuffle=3)
    assert driven.events == run.events


def test_it_goes_on_from_a_checkpoint() -> None:
    """An explorer that is restored in the middle issues and decides as the first does, with the same prompts."""
    made = recipe(**SELF_INSTRUCT, window=12)
    whole = Driven(made).run()
    said = lambda request: answer(whole.book.render(request), request)  # noqa: E731
    for commits in (0, 7, 8, 33, 70):
        first = Explorer(made)
        kept: list[Example] = []
        for _, (_, _, events) in zip(range(commits), play(first, said), strict=False):
            kept += [event.example for event in events if isinstance(event, ExampleKept)]
        second = Explorer(made)
        second.restore(orjson.loads(orjson.dumps(first.state())), kept)
        assert second.outstanding == first.outstanding
        for _ in play(second, said):
            pass
        assert second.state() == whole.explorer.state()


@given(turn=st.integers(0, 5000))
def test_a_request_waits_for_half_of_those_before_it_at_most(turn: int) -> None:
    """Its pool is that after a quarter to a half of the requests before it; the first have none."""
    before = requests_before(turn)
    assert before == 0 if turn < 16 else turn / 4 < before <= turn / 2


def test_a_pool_is_bounded_and_a_fair_sample() -> None:
    """Of very many examples it holds a thousand, from the first to the last."""
    pool = Pool([], 4, 0, "demonstrations", "0")
    for number in range(20_000):
        pool.add(f"0-{number}", Demonstration(str(number), "", ""))
    pool.committed(8)
    held = [int(one["instruction"]) for one in orjson.loads(orjson.dumps(pool.state()[4][0][1]))]
    assert len(held) == 1000
    assert sum(held) / len(held) == pytest.approx(10_000, rel=0.1)


def test_trees_can_show_their_own_examples_too() -> None:
    """The switch works by itself: in a tree each task shows its own, and timing changes nothing."""
    made = recipe(
        exploration={"depth": 1, "breadth": [3]}, targets={"per_task": 70}, window=40,
        generation={"per_request": 3, "demonstrations_from": "pool"},
    )  # fmt: skip
    run = Driven(made).run()
    assert run.explorer.kept == 280
    driven = Driven(made)
    driven.drive(most_delay_s=0.001, concurrency=9, shuffle=1)
    assert driven.events == run.events
