"""A run that is given tokens alone spends them, and little more, on as many examples as they bring."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scripted import Driven, answer, recipe

from explore_async.exploration.values import ChatRequest, Completion, ExampleKept, Request

TREE = {"exploration": {"depth": 1, "breadth": [6], "step": 3}, "filters": {"task_threshold": 1.0}}


def tokens(completion: object) -> int:
    assert isinstance(completion, Completion)
    return completion.prompt_tokens + completion.completion_tokens


@settings(max_examples=25, deadline=None)
@given(
    budget=st.integers(1, 30_000), window=st.sampled_from([1, 16, 32_768]), policy=st.sampled_from(["uniform", "yield"]),
    per_request=st.integers(1, 10), depth=st.integers(0, 2),
)  # fmt: skip
def test_the_budget_is_spent_and_little_more(
    *, budget: int, window: int, policy: str, per_request: int, depth: int
) -> None:
    """Whatever the window is, the run ends by its budget; what was still outstanding then is about as much as the forecast
    of its requests can be wrong, and each example that is there is decided.
    """
    made = recipe(
        exploration={"depth": depth, "breadth": [4], "step": 2}, targets={"token_budget": budget}, window=window,
        generation={"per_request": per_request, "policy": policy},
    )  # fmt: skip
    run = Driven(made)
    run.run()
    costs = {one.ordinal: tokens(answer(run.book.render(one), one)) for one in run.issued}
    spent = sum(costs[one.ordinal] for one in run.commits)
    assert run.explorer.stopped == "token_budget"
    assert budget <= spent < budget + max(costs.values())
    assert sum(costs.values()) < 1.5 * budget + 3000
    assert run.explorer.surplus() == 0


@pytest.mark.parametrize("window", [16, 32_768])
def test_all_tasks_have_their_part(window: int) -> None:
    """With the uniform policy the tasks get about the same, also when the window would hold all requests of the run."""
    run = Driven(recipe(**TREE, targets={"token_budget": 20_000}, window=window)).run()
    kept = Counter(event.example.task_id for event in run.events if isinstance(event, ExampleKept))
    assert len(kept) == 7
    assert max(kept.values()) - min(kept.values()) <= 2 * made_per_request(run)
    assert run.explorer.wanted == pytest.approx(run.explorer.kept, rel=0.1)


def made_per_request(run: Driven) -> int:
    return run.recipe.generation.per_request


@pytest.mark.parametrize("policy", ["uniform", "yield"])
def test_timing_changes_nothing(policy: str) -> None:
    """The same bytes come out at any concurrency and with any delays."""
    made = recipe(**TREE, targets={"token_budget": 9_000}, generation={"per_request": 4, "policy": policy}, window=40)
    reference = Driven(made).run()
    for concurrency in (1, 30):
        other = Driven(made)
        other.drive(most_delay_s=0.001, concurrency=concurrency, shuffle=concurrency)
        assert other.keys == reference.keys
        assert other.events == reference.events


def test_a_server_that_does_not_count_ends_too() -> None:
    """Where completions say nothing of tokens, four characters count as one: the run has an end."""

    def uncounted(chat_request: ChatRequest, request: Request) -> Completion:
        return replace(answer(chat_request, request), prompt_tokens=0, completion_tokens=0)

    run = Driven(recipe(**TREE, targets={"token_budget": 2_000}), uncounted).run()
    assert run.explorer.stopped == "token_budget"
    assert run.explorer.kept > 10
