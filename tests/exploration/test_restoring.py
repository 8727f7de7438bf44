"""A restored explorer goes on as the original does."""

from __future__ import annotations

import itertools
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scripted import WORDS, answer, recipe

from explore_async.exploration.explorer import Explorer
from explore_async.exploration.play import play
from explore_async.exploration.prompts import PromptBook
from explore_async.exploration.values import Completion, Event, Example, ExampleKept, Failure, Outcome, Request
from explore_async.settings.recipe import Recipe

KNOWN = (("Say where the ladder stands", "known:0"),)
SEEDED = {
    "name": "Mend a roof",
    "examples": [{"instruction": "Name a tool for tiles", "output": "A slater's ripper does it."}],
    "tasks": [
        {
            "name": "Lay the tiles",
            "examples": [{"instruction": "Count the tiles of a row", "output": "Forty and two halves."}],
            "tasks": [{"name": "Cut them to size"}],
        },
        {"name": "Seal the ridge"},
    ],
}


class Walk:
    """An explorer that is played one commit at a time."""

    def __init__(self, explorer: Explorer) -> None:
        self.explorer = explorer
        book = PromptBook(explorer.recipe)
        self.commits = play(explorer, lambda request: outcome(book, request))

    def step(self) -> tuple[Request, list[Request], list[Event]] | None:
        """The next commit: its request, those issued since the commit before, the events; None at the end."""
        before = {request.ordinal for request in self.explorer.outstanding}
        if (commit := next(self.commits, None)) is None:
            return None
        request, _, events = commit
        asked = [other for other in (request, *self.explorer.outstanding) if other.ordinal not in before]
        return request, asked, events


def outcome(book: PromptBook, request: Request) -> Outcome:
    """Mostly a whole completion; sometimes a cut one, one of texts without tokens, or a failure."""
    chat_request = book.render(request)
    said = answer(chat_request, request, words=WORDS)  # few words, so that many are duplicates
    match int(chat_request.key[:2], 16) % 11:
        case 0:
            return Failure("rejected", "no", 1)
        case 1:
            return Completion(said.text[: len(said.text) // 2], "length", 5, 5)
        case 2:
            example = {"instruction": "¿…?", "input": "", "output": "It may well stand there more than once."}
            return Completion(orjson.dumps({"examples": [example, example]}).decode(), "stop", 5, 5)
    return said


def kept_in(events: list[Event]) -> list[Example]:
    return [event.example for event in events if isinstance(event, ExampleKept)]


RECIPES = st.builds(
    lambda window, breadths, per_request, target, cap, scope, order, both, budget, policy, shard, facets, exhausted_after: (
        recipe(
            window=window,
            domains=[*recipe().model_dump(mode="json")["domains"], *([SEEDED] if both else [])],
            exploration={
                "depth": len(breadths),
                "breadth": breadths or [1],
                "step": 2,
                "order": order,
                "facets": facets,
            },
            targets={"examples": target, "per_task": cap, "token_budget": budget}
            if budget != 2500
            else {"token_budget": 2500},
            generation={
                "per_request": per_request,
                "exhausted_after": exhausted_after,
                "exhausted_below": 0.5 if exhausted_after == 1 else 0.1,
                "policy": policy,
                "covered_at": 0.4,
            },
            filters={"scope": scope, "min_instruction_words": 0, "threshold": 0.5, "task_threshold": 0.5},
            shard=shard if (1 + both) * breadths[0] * breadths[1] >= int(shard[-1:] or 1) else "",
        )
    ),
    facets=st.sampled_from([0, 2]),
    exhausted_after=st.sampled_from([1, 2, 2]),
    window=st.sampled_from([1, 4, 16, 60]),
    breadths=st.lists(st.integers(1, 4), min_size=2, max_size=2),
    per_request=st.integers(1, 5),
    target=st.integers(5, 120),
    cap=st.one_of(st.none(), st.integers(1, 12)),
    scope=st.sampled_from(["run", "domain", "task"]),
    order=st.sampled_from(["depth_first", "breadth_first"]),
    both=st.booleans(),
    budget=st.sampled_from([None, None, 4000, 2500]),  # the last is given alone
    policy=st.sampled_from(["uniform", "yield"]),
    shard=st.sampled_from(["", "", "1/2", "2/3", "4/4"]),
)


@settings(max_examples=50, deadline=None)
@given(recipe=RECIPES, at=st.integers(0, 80))
def test_it_asks_decides_and_tells_the_same_from_there_on(recipe: Recipe, at: int) -> None:
    """For any recipe and after any number of commits, through JSON: the outstanding requests, every later
    request with its prompt, every event with its evidence and the state at the end are the same.
    """
    first = Walk(Explorer(recipe, KNOWN))
    kept: list[Example] = []
    for _ in range(at):
        if (done := first.step()) is None:
            break
        kept += kept_in(done[2])
    state: dict[str, Any] = orjson.loads(orjson.dumps(first.explorer.state()))
    explorer = Explorer(recipe, KNOWN)
    explorer.restore(state, kept)
    second = Walk(explorer)

    assert orjson.loads(orjson.dumps(explorer.state())) == state
    assert explorer.outstanding == first.explorer.outstanding
    assert explorer.trees() == first.explorer.trees()
    while (expected := first.step()) is not None:
        assert second.step() == expected
    assert second.step() is None
    assert explorer.state() == first.explorer.state()
    assert explorer.surplus() == first.explorer.surplus()


def test_a_task_that_is_exhausted_before_the_deal_is_counted_once() -> None:
    """The opening of the root, which all shards share, fails and exhausts it. The shard still gets the examples that it
    is to have, restored after any number of commits as in one go.
    """
    shard = recipe(
        window=16,
        shard="1/2",
        exploration={"depth": 1, "breadth": [4]},
        targets={"examples": 60},
        generation={"per_request": 5, "exhausted_after": 1, "exhausted_below": 0.5},
    )
    book = PromptBook(shard)

    def said(request: Request) -> Outcome:
        if request.task_id == "0" and request.kind == "generate":
            return Failure("rejected", "no", 1)
        return answer(book.render(request), request)

    whole = list(play(Explorer(shard), said))
    assert sum(len(kept_in(events)) for _, _, events in whole) == 36
    for stop in range(1, len(whole)):
        explorer, kept = Explorer(shard), list[Example]()
        for _, _, events in itertools.islice(play(explorer, said), stop):
            kept += kept_in(events)
        restored = Explorer(shard)
        restored.restore(orjson.loads(orjson.dumps(explorer.state())), kept)
        assert [events for _, _, events in play(restored, said)] == [events for _, _, events in whole[stop:]]
