"""Examples that exist get answers or scores, in their order."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import orjson
import pytest
from exploration.test_finishing import outcome
from support.scripted import Driven

from explore_async.exploration.play import play
from explore_async.exploration.revising import Given, Reviser
from explore_async.exploration.values import AnswerJudged, AnswerScored, Event, Example, ExampleDropped, ExampleKept
from explore_async.settings.revision import Revision

TREES = [
    {"id": "0", "name": "Garden", "reason": "", "origin": "seed", "depth": 0, "kept": 9, "dropped": 9, "children": [
        {"id": "0.0", "name": "Roses", "reason": "they are pretty", "origin": "lookahead", "depth": 1, "children": []},
    ]},
    {"id": "1", "name": "Garden", "reason": "of a friend", "origin": "seed", "depth": 0, "children": []},
]  # fmt: skip
WAYS: list[dict[str, Any]] = [
    {"made_by": "answer"},
    {"made_by": "answer", "answers_per_instruction": 3, "judge": {"threshold": 3}},
    {"made_by": "rate", "judge": {"threshold": None}},
    {"made_by": "rate", "judge": {"threshold": 3}},
]


def examples(count: int) -> list[Given]:
    """Of three tasks, one of which is in no tree; every seventh has no instruction, every fifth no output, as the last."""
    return [
        Given(
            Example(
                id=f"e{number}",
                task_id=("0", "0.0", "1.4")[number % 3],
                request_ordinal=0,
                instruction="" if number % 7 == 6 or number == count - 1 else f"Say what plant number {number} needs",
                input="",
                output="" if number % 5 == 4 or number == count - 1 else f"It needs {number} litres of water a day.",
            ),
            "Be short." if number % 2 else "",
        )
        for number in range(count)
    ]


def reviser(way: dict[str, Any], given: list[Given], window: int = 16) -> Reviser:
    data = {"name": "x", "path": "x", "examples": len(given), "texts": "0"}
    revision = Revision.model_validate({"model": "m", "data": data, "window": window, **way})
    recipe = revision.as_recipe([(root["name"], root["reason"]) for root in TREES])

    def begin(number: int) -> Iterator[Given]:
        return islice(given, number, None)

    return Reviser(recipe, TREES, begin, count=len(given), digest=revision.digest)


class Revised(Driven):
    """A revision that is played or driven to its end, with the events before its first request, if it `begins`."""

    def __init__(self, way: dict[str, Any], given: list[Given], window: int = 16, *, begins: bool = True) -> None:
        self.reviser = reviser(way, given, window)
        super().__init__(self.reviser.recipe, outcome)
        self.explorer = self.reviser  # type: ignore[assignment] - `Driven` uses only what both have
        self.events = self.reviser.seed_events() if begins else []


def verdicts(events: list[Event]) -> list[tuple[str, bool, str]]:
    return [
        (event.example.id, event.verdict.kept, event.verdict.reason)
        for event in events
        if isinstance(event, ExampleKept | ExampleDropped) and event.example is not None
    ]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("window", [1, 5, 400])
def test_each_example_has_its_verdict_in_its_place(way: dict[str, Any], window: int) -> None:
    """Every example has one verdict, in the order in which the examples came, and with each window the same; the same
    requests are asked in all of them.
    """
    given = examples(90)
    played = Revised(way, given, window).run()
    assert [name for name, _, _ in verdicts(played.events)] == [one.example.id for one in given]
    assert played.reviser.stopped == "complete"
    whole = Revised(way, given, 64).run()
    assert verdicts(played.events) == verdicts(whole.events)
    assert sorted(played.keys) == sorted(whole.keys)
    kept = sum(is_kept for _, is_kept, _ in verdicts(played.events))
    assert sum(node["kept"] for root in played.reviser.trees() for node in (root, *root["children"])) == kept
    assert (played.reviser.wanted, played.reviser.unfinished) == (kept, 0)


@pytest.mark.parametrize("way", WAYS)
def test_the_order_in_which_completions_come_changes_nothing(way: dict[str, Any]) -> None:
    """Driven with random delays and few or many slots, a revision has the same events as played one by one."""
    played = Revised(way, examples(60)).run()
    for shuffle, slots in ((1, 2), (2, 16)):
        driven = Revised(way, examples(60)).drive(most_delay_s=0.002, concurrency=slots, shuffle=shuffle)
        assert driven.events == played.events
        assert driven.keys == played.keys


@pytest.mark.parametrize("way", WAYS)
def test_what_is_held_is_bounded(way: dict[str, Any]) -> None:
    """No more examples are taken in and not told of than the window has places, however many there are."""
    taken = 0

    def count(given: list[Given]) -> Iterator[Given]:
        nonlocal taken
        for one in given:
            taken += 1
            yield one

    run = Revised(way, examples(300), window=8, begins=False)
    run.reviser._examples = count(examples(300))
    told = len(verdicts(run.reviser.seed_events()))
    for _, _, events in play(run, lambda request: run.perform(request).outcome):
        assert len(run.outstanding) <= 8
        told += len(verdicts(events))
        assert taken - told <= 9
    assert taken == told == 300


@pytest.mark.parametrize("way", WAYS)
def test_it_goes_on_from_any_moment(way: dict[str, Any]) -> None:
    """A new reviser with the state of another, which went through JSON, asks and decides the same from there on."""
    whole = Revised(way, examples(40)).run()
    for moment in (0, 1, 7, 30, len(whole.keys) - 1):
        first = Revised(way, examples(40))
        for number, (_, _, events) in enumerate(play(first, lambda request: first.perform(request).outcome)):  # noqa: B023
            first.events += events
            if number == moment:
                break
        second = Revised(way, examples(40), begins=False)
        second.reviser.restore(orjson.loads(orjson.dumps(first.reviser.state())), iter(()))
        assert second.outstanding == first.outstanding
        assert second.reviser.trees() == first.reviser.trees()
        second.events = first.events
        second.run()
        assert second.events == whole.events
        assert second.reviser.state() == whole.reviser.state()


def test_what_is_asked() -> None:
    """An answer is asked for as a user would ask, under the system prompt of its row; the judge sees the task and the
    domain of the example, or the nearest that the tree has.
    """
    answered = Revised({"made_by": "answer"}, examples(6))
    asked = [answered.book.render(request).messages for request in iter(answered.next_request, None)]
    user = {"role": "user", "content": "Say what plant number 0 needs"}
    assert asked[0] == (user,)
    assert asked[1][0] == {"role": "system", "content": "Be short."}
    rated = Revised({"made_by": "rate", "judge": {}}, examples(3))
    shown = [rated.book.render(request).messages[1]["content"] for request in iter(rated.next_request, None)]
    assert "Task: Roses (they are pretty)" in shown[1]
    for part in ("Say what plant number 1 needs", "It needs 1 litres of water a day."):
        assert part in shown[1]


def test_what_has_nothing_to_ask_about_is_told_all_the_same() -> None:
    """Without an instruction there is no answer; without an output there are no scores, and only a threshold drops it.
    Where this is so for all, nothing is asked.
    """
    blank = [Given(Example(f"e{number}", "0", 0, "", "", "")) for number in range(40)]
    for way, is_kept, reason in zip(
        WAYS, (False, False, True, False), ("empty", "empty", "unanswered", "unanswered"), strict=True
    ):
        run = Revised(way, blank).run()
        assert verdicts(run.events) == [(one.example.id, is_kept, reason) for one in blank]
        assert run.keys == []
        assert run.reviser.stopped == "complete"


def test_scores_alone_drop_nothing() -> None:
    """Without a threshold each example stays, also one whose judge could not be read; the evidence says so."""
    run = Revised({"made_by": "rate", "judge": {"threshold": None}}, examples(90)).run()
    assert all(is_kept for _, is_kept, _ in verdicts(run.events))
    scored = [event for event in run.events if isinstance(event, AnswerScored)]
    assert {event.verdict.reason for event in scored} == {"accepted", "not_judged"}
    assert not any(isinstance(event, AnswerJudged) for event in run.events)
