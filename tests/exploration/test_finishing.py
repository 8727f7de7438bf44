"""Instructions that get an answer of their own, a judge's scores, or both."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from typing import Any

import orjson
import pytest
from support.scripted import WIDE_WORDS, Driven, recipe

from explore_async.exploration.explorer import Explorer
from explore_async.exploration.parsing import parse_answer, parse_scores
from explore_async.exploration.play import play
from explore_async.exploration.values import (
    AnswerJudged,
    AnswerScored,
    ChatRequest,
    Completion,
    Event,
    Example,
    ExampleDropped,
    ExampleKept,
    Failure,
    InstructionKept,
    Outcome,
    Request,
)
from explore_async.settings.recipe import Recipe

ASPECTS = ("correct", "complete", "on_task", "natural")
WAYS: list[dict[str, Any]] = [
    {"responses": "separate"},
    {"judge": {"threshold": 3}},
    {"responses": "separate", "answers_per_instruction": 3, "judge": {"threshold": 3}},
    {"turns": 2},
    {"responses": "separate", "answers_per_instruction": 2, "judge": {"threshold": 2}, "turns": 3},
]

EVERYTHING: dict[str, Any] = {
    "exploration": {"strategy": "adaptive", "depth": 2, "breadth": [4, 3]},
    "responses": "separate",
    "answers_per_instruction": 2,
    "judge": {"threshold": 2},
    "turns": 2,
    "checks": [{"name": "one", "function": "a:b"}, {"name": "other", "function": "a:b"}],
}
"""Every part at once: criteria, facets and the policy by yield beside all steps of an instruction."""


def outcome(chat: ChatRequest, request: Request) -> Outcome:
    """Made up from the key of the request: some answers are empty or cut, some scores low or unreadable."""
    rng = random.Random(chat.key)
    if rng.random() < 0.05:
        return Failure("rejected", "no", 1)

    def phrase(length: int) -> str:
        return " ".join(rng.choices(WIDE_WORDS, k=length))

    def completion(text: str, reason: str = "stop") -> Completion:
        return Completion(text, reason, 20, 10)

    count = int(request.prompt.values["count"])
    if request.kind == "answer":
        return completion(phrase(9) if rng.random() < 0.9 else "", rng.choice(["stop"] * 9 + ["length"]))
    if request.kind == "follow_up":
        return completion(f"User: {phrase(5)}" if rng.random() < 0.9 else "")
    if request.kind == "judge":
        scores = {aspect: rng.choice([2, 3, 4, 5, 5, 5, 5, 5]) for aspect in ASPECTS}
        return completion(orjson.dumps({"reason": "so", **scores}).decode() if rng.random() < 0.8 else "no idea")
    if request.kind == "check":
        return completion(orjson.dumps({"ok": rng.random() < 0.9}).decode())
    if request.kind == "facets":
        named = [{"criterion": phrase(2), "values": [phrase(1) for _ in range(6)]} for _ in range(count)]
        return completion(orjson.dumps({"criteria": named}).decode())
    if request.kind == "generate":
        items = [{"instruction": phrase(7), "input": "", "output": phrase(9)} for _ in range(count)]
        return completion(orjson.dumps({"instructions": items}).decode())
    tasks = [{"name": phrase(4), "reason": phrase(4)} for _ in range(count)]
    return completion(orjson.dumps({"criterion": phrase(2), "tasks": tasks}).decode())


def settings(way: dict[str, Any], **changes: Any) -> Recipe:
    return recipe(**{"targets": {"examples": 90}, "window": 64, **way, **changes})


def kept(events: Iterable[Event]) -> list[Example]:
    return [event.example for event in events if isinstance(event, ExampleKept)]


@pytest.mark.parametrize("way", [*WAYS, EVERYTHING])
def test_the_order_in_which_completions_come_changes_nothing(way: dict[str, Any]) -> None:
    """Driven with random delays and few or many slots, a run has the same events as played one by one."""
    played = Driven(settings(way), outcome).run()
    for shuffle, slots in ((1, 3), (2, 40)):
        driven = Driven(settings(way), outcome).drive(most_delay_s=0.002, concurrency=slots, shuffle=shuffle)
        assert driven.events == played.events
        assert driven.keys == played.keys
    assert len(kept(played.events)) == played.explorer.kept == 90
    assert played.explorer.stopped == "target"


@pytest.mark.parametrize("way", WAYS)
def test_every_step_has_its_evidence(way: dict[str, Any]) -> None:
    """An example comes after its instruction and its answers, with an answer that passed and with the scores that it was
    given; an instruction is dropped for a reason, and none vanishes.
    """
    run = Driven(settings(way, targets={"per_task": 3}), outcome).run()
    begun: dict[str, Example] = {}
    passed: dict[tuple[str, int], bool] = {}
    scores: dict[tuple[str, int], Any] = {}
    ended: Counter[str] = Counter()
    for event in run.events:
        match event:
            case InstructionKept(example=example):
                assert example.id not in begun
                begun[example.id] = example
            case AnswerJudged(example_id=name, number=number, verdict=verdict, turn=0):
                passed[name, number] = verdict.kept
            case AnswerScored(example_id=name, number=number, verdict=verdict, turn=0):
                assert passed.get((name, number), True)
                scores[name, number] = event.scores
                assert verdict.kept is (bool(event.scores) and min(event.scores.values()) >= way["judge"]["threshold"])
            case ExampleKept(example=example, answer=number):
                assert (example.instruction, example.input) == (begun[example.id].instruction, begun[example.id].input)
                (chosen,) = (answer for answer in example.answers if answer.number == number)
                assert chosen.output == example.output != ""
                assert passed.get((example.id, number), True)
                assert dict(chosen.scores) == dict(scores.get((example.id, number), {}))
                least = way.get("judge", {}).get("threshold", 0)
                good = (one.scores for one in example.answers if min(one.scores.values(), default=least) >= least)
                assert max(sum(scored.values()) for scored in good) == sum(chosen.scores.values())
                ended[example.id] += 1
            case ExampleDropped(example=Example(id=name) as example) if name in begun:
                assert event.verdict.reason in {"failed", "empty", "truncated", "too_short", "low_score", "not_judged"}
                ended[name] += 1
            case _:
                pass
    assert set(ended) == set(begun)
    assert set(ended.values()) == {1}
    asked = Counter(request.about for request in run.commits if request.kind == "answer" and request.turn < 100)
    assert set(asked.values()) <= {way.get("answers_per_instruction", 1)}


@pytest.mark.parametrize("way", [way for way in WAYS if "turns" in way])
def test_a_conversation_is_made_of_what_passed(way: dict[str, Any]) -> None:
    """It begins with the example, goes on by turns of user and assistant, ends with an answer, and has as many rounds as
    its evidence says; each later question was asked with all that was said before it.
    """
    run = Driven(settings(way), outcome).run()
    rounds: Counter[str] = Counter()
    for event in run.events:
        if isinstance(event, AnswerScored if "judge" in way else AnswerJudged) and event.turn and event.verdict.kept:
            rounds[event.example_id] += 1
    made = kept(run.events)
    assert {len(example.messages) // 2 for example in made} == set(range(1, way["turns"] + 1))
    asked = {
        (request.about, len(request.prompt.values["messages"])): request
        for request in run.commits
        if request.kind == "follow_up"
    }
    for example in made:
        messages = list(example.messages)
        assert [message["role"] for message in messages] == ["user", "assistant"] * (1 + rounds[example.id])
        assert [message["content"] for message in messages[:2]] == [example.instruction, example.output]
        for length in range(2, len(messages), 2):
            assert list(asked[example.id, length].prompt.values["messages"]) == messages[:length]
        assert not any("User:" in message["content"] for message in messages)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("per_task", [2, None])
def test_quotas_hold_and_places_are_filled_again(way: dict[str, Any], per_task: int | None) -> None:
    """No task ends above its quota, and failed answers cost no example: the run reaches its target."""
    targets = {"examples": 90} if per_task is None else {"per_task": per_task}
    run = Driven(settings(way, targets=targets), outcome).run()
    by_task = Counter(example.task_id for example in kept(run.events))
    tasks = sum(1 for _ in run.explorer.tasks())
    if per_task is None:
        assert by_task.total() == 90
    else:
        assert set(by_task.values()) == {per_task}
        assert len(by_task) == tasks


def test_a_duplicate_costs_no_answer() -> None:
    """With the same instructions again and again, only what is new is answered."""

    def repeating(chat: ChatRequest, request: Request) -> Outcome:
        if request.kind != "generate":
            return outcome(chat, request)
        items = [{"instruction": f"Say what {word} means here", "input": ""} for word in ("bar", "cel", "dim")]
        return Completion(orjson.dumps({"instructions": items}).decode(), "stop", 20, 10)

    run = Driven(settings({"responses": "separate"}, filters={"threshold": 0.9}), repeating).run()
    answered = Counter(request.prompt.values["instruction"] for request in run.commits if request.kind == "answer")
    assert len(answered) == 3
    assert set(answered.values()) == {1}
    assert run.explorer.stopped == "complete"


@pytest.mark.parametrize("way", [way for way in WAYS if "judge" in way])
def test_a_judge_that_is_never_readable_is_no_yes(way: dict[str, Any]) -> None:
    """Each answer is asked about three times, nothing is kept, and the run ends by itself."""

    def mute(chat: ChatRequest, request: Request) -> Outcome:
        return Completion("5", "stop", 1, 1) if request.kind == "judge" else outcome(chat, request)

    run = Driven(settings(way), mute).run()
    assert run.explorer.stopped == "complete"
    assert not kept(run.events)
    scored = [event for event in run.events if isinstance(event, AnswerScored)]
    assert {event.verdict.reason for event in scored} == {"not_judged"}
    asked = Counter((request.about, request.turn % 16) for request in run.commits if request.kind == "judge")
    assert set(asked.values()) == {3}


@pytest.mark.parametrize("way", [*WAYS, EVERYTHING])
@pytest.mark.parametrize("stop_at", [30, 90, 150])
def test_a_checkpoint_at_any_moment_goes_on_the_same(way: dict[str, Any], stop_at: int) -> None:
    """An explorer restored from the state after so many commits, as JSON, issues and decides as the first one."""
    whole = Driven(settings(way), outcome).run()
    half = Driven(settings(way), outcome)
    before: list[Event] = []
    for number, (_, _, events) in enumerate(play(half.explorer, lambda request: half.perform(request).outcome)):
        before += events
        if number == stop_at:
            break
    of_the_moment = half.explorer.state()
    state = orjson.loads(orjson.dumps(of_the_moment))
    second = Driven(settings(way), outcome)
    found = [event.example for event in before if isinstance(event, InstructionKept)]
    second.explorer.restore(state, found)
    assert second.explorer.outstanding == half.explorer.outstanding
    assert orjson.loads(orjson.dumps(second.explorer.state())) == state
    second.run()
    assert before + second.events == whole.events
    half.run()
    assert orjson.loads(orjson.dumps(of_the_moment)) == state, "a checkpoint is written some commits later"


def test_an_answer_is_the_text_without_thoughts() -> None:
    """Headings, JSON and marks of items stay; thoughts go; a cut or empty text is no answer."""

    def read(text: str, reason: str = "stop") -> object:
        item = parse_answer(Completion(text, reason, 1, 1))
        return getattr(item, "text", None) or getattr(item, "reason", None)

    assert read("<think>hm</think>\n### Instruction: is a heading\n") == "### Instruction: is a heading"
    assert read('{"instruction": "x"}') == '{"instruction": "x"}'
    assert read("It is cut", "length") == "truncated"
    assert read("<think>only thoughts</think>  ") == "empty"


@pytest.mark.parametrize(
    ("text", "scores"),
    [
        ('{"reason": "fine", "a": 4, "b": 5}', {"a": 4, "b": 5}),
        ('Here: ```json\n{"A": "4/5", "b": 5.0}\n``` done', {"a": 4, "b": 5}),
        ('<think>a: 1</think>{"a": 4, "b": 1, }', {"a": 4, "b": 1}),
        ('{"a": 4}', None),
        ('{"a": 4, "b": 6}', None),
        ('{"a": 4, "b": 0}', None),
        ('{"a": 4, "b": true}', None),
        ('{"a": 4, "b": "5 of 5 or 1"}', None),
        ("a: 4, b: 5", None),
        ("", None),
    ],
)
def test_scores_are_whole_numbers_from_1_to_5_for_every_aspect(text: str, scores: dict[str, int] | None) -> None:
    """Anything else is unreadable, and never taken for a score."""
    assert getattr(parse_scores(Completion(text, "stop", 1, 1), ("a", "b")), "of", None) == scores


def test_steps_have_their_place_in_the_window() -> None:
    """The requests about what a request brings have a place beside it: no more are outstanding than the window holds, and
    generation leaves room for them.
    """
    run = Driven(settings({"responses": "separate"}, window=64, targets={"examples": 400}), outcome)
    most: Counter[str] = Counter()
    for _ in play(run, lambda request: run.perform(request).outcome):
        now = Counter(request.kind for request in run.explorer.outstanding)
        assert now.total() <= 64
        most |= now
    assert most["answer"] >= 8
    assert 0 < most["generate"] <= 32


def test_a_recipe_without_steps_is_as_before() -> None:
    """None of the new settings is in the JSON of a recipe that does not use them, so its digest stays."""
    written = recipe().model_dump(mode="json")
    assert not {"responses", "answers_per_instruction", "judge"} & set(written)
    assert set(written["sampling"]) == {"exploration", "generation"}
    assert Explorer(recipe()).unfinished == 0


def test_without_a_threshold_scores_drop_nothing() -> None:
    """A judge without a threshold tells what it thinks: low scores and none at all leave the example, each with its
    evidence.
    """
    run = Driven(settings({"judge": {"threshold": None}}), outcome).run()
    scored = {event.example_id: event for event in run.events if isinstance(event, AnswerScored)}
    assert {event.verdict.reason for event in scored.values()} == {"accepted", "not_judged"}
    assert any(min(event.scores.values(), default=5) < 3 for event in scored.values())
    assert {example.id for example in kept(run.events)} == {*scored}
