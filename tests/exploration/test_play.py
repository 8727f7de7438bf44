"""Playing an explorer without a server or an event loop."""

from __future__ import annotations

from itertools import islice

import pytest
from support.scripted import Driven, answer, recipe

from explore_async.exploration.explorer import Explorer
from explore_async.exploration.play import play
from explore_async.exploration.prompts import PromptBook
from explore_async.exploration.values import Completion, Event, Outcome, Request, TaskAdded

GARDEN = {"exploration": {"depth": 2, "breadth": [3, 2], "step": 2}}


@pytest.mark.parametrize("window", [1, 3, 16, 64, 500])
def test_it_issues_and_commits_as_a_driven_run_does(window: int) -> None:
    """At every window, played and driven runs issue, commit and report the same in the same order, whatever the delays."""
    played = Driven(recipe(window=window, **GARDEN)).run()
    driven = Driven(recipe(window=window, **GARDEN)).drive(most_delay_s=0.002, concurrency=7)
    assert played.issued == driven.issued
    assert played.commits == driven.commits
    assert played.keys == driven.keys
    assert played.events == driven.events
    assert played.explorer.stopped == driven.explorer.stopped == "target"


def test_the_window_is_filled_before_each_commit() -> None:
    """As many requests are outstanding as the window and the explorer allow: with one tree, a single opening at first."""
    explorer = Explorer(recipe(window=8, **GARDEN))
    book = PromptBook(explorer.recipe)
    outstanding: list[int] = []

    def said(request: Request) -> Outcome:
        outstanding.append(len(explorer.outstanding))
        return answer(book.render(request), request)

    assert list(play(explorer, said))
    assert outstanding[0] < 8
    assert max(outstanding) == 8


def test_an_outcome_that_is_missing_ends_it_where_it_can_go_on() -> None:
    """None commits nothing. Another play of the same explorer begins with that request, and the end is the same."""
    whole = Driven(recipe(**GARDEN)).run()
    explorer = Explorer(recipe(**GARDEN))
    book = PromptBook(explorer.recipe)
    events: list[Event] = []
    left = 0

    def said(request: Request) -> Outcome | None:
        nonlocal left
        left -= 1
        return answer(book.render(request), request) if left >= 0 else None

    for patience in range(1, 200, 7):
        left = patience
        for _, _, told in play(explorer, said):
            events += told
    assert explorer.is_over
    assert events == whole.events
    assert explorer.trees() == whole.explorer.trees()


def test_a_caller_may_stop_at_any_time() -> None:
    """Each commit is done when it is yielded, and nothing beyond it is."""
    explorer = Explorer(recipe(window=4, **GARDEN))
    book = PromptBook(explorer.recipe)
    commits = play(explorer, lambda request: answer(book.render(request), request))
    first = list(islice(commits, 5))
    assert sum(isinstance(event, TaskAdded) for _, _, events in first for event in events) == (
        len(explorer.tasks()) - len(explorer.seed_events())
    )
    assert explorer.tokens == sum(
        outcome.prompt_tokens + outcome.completion_tokens for _, outcome, _ in first if isinstance(outcome, Completion)
    )
