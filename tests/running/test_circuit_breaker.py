"""A run that pays for nothing ends early: exactly when it should, changing nothing, and not again before it has asked."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path

import orjson
import pytest
from support.cli import CONFIG, check_counts, derived, explore
from support.misbehaving import OVERFLOW, Behaviour
from support.misbehaving import answer as body_of
from support.ordeals import command
from support.scripted import Driven, answer, recipe
from support.server_faults import Disturbed

from explore_async.errors import EndpointError
from explore_async.exploration.values import ChatRequest, Completion, Event, Failure, Outcome, Request
from explore_async.running.circuit_breaker import FIRST, JUDGED, Breaker
from explore_async.running.driver import StoredOutcome

pytestmark = pytest.mark.timeout(180)

PATIENT = {"exhausted_after": 10**6, "per_request": 3}


class Guarded(Driven):
    """A run with a breaker, whose answers are bad and new where `bad` and `new` say so of their request."""

    def __init__(self, share: float, bad, new=lambda _: True, **changes: object) -> None:
        self.bad, self.new = bad, new
        super().__init__(recipe(**{"targets": {"examples": 3000}, "generation": PATIENT, **changes}), self.said)
        self.breaker = Breaker(share, self.recipe, Path("runs/x"))

    def said(self, chat_request: ChatRequest, request: Request) -> Outcome:
        good = answer(chat_request, request)
        if not self.bad(request):
            return good
        return (
            replace(good, text="I am sorry,\nbut \x1b[31mno.") if request.ordinal % 2 else Failure("rejected", "no", 1)
        )

    def perform(self, request: Request) -> StoredOutcome:
        return replace(super().perform(request), new=self.new(request))

    def publish(self, request: Request, stored: StoredOutcome, events: list[Event]) -> None:
        super().publish(request, stored, events)
        self.breaker.note(request, stored, events)


@pytest.mark.parametrize(
    ("rate", "ends"), [(0.3, False), (0.5, False), (0.72, None), (0.8, None), (0.95, True), (1, True)]
)
def test_it_trips_at_the_first_moment_that_the_rule_holds(rate: float, ends: bool | None) -> None:
    """Of the answers so many are bad, and some are replayed: the run ends at the very commit at which, of the latest 200
    new ones, more than the share were bad. Answers about sub-tasks count as bad only where they failed.
    """
    rng = random.Random(rate)
    bad = {number for number in range(5000) if rng.random() < rate}
    new = {number for number in range(5000) if rng.random() < 0.7}
    guarded = Guarded(0.7, lambda request: request.ordinal in bad, lambda request: request.ordinal in new)
    error = None
    try:
        guarded.run()
    except EndpointError as raised:
        error = raised
    judged = [
        request.ordinal in bad and (request.ordinal % 2 == 0 or request.kind == "generate")
        for request in guarded.commits
        if request.ordinal in new
    ]
    holds = [
        sum(judged[end - JUDGED : end]) > 0.7 * JUDGED and judged[end - 1] for end in range(JUDGED, len(judged) + 1)
    ]
    assert holds.count(True) == (error is not None)
    assert ends in {None, error is not None}
    if error is not None:
        assert holds[-1]
        assert guarded.commits[-1].ordinal in new
        assert error.exit_code == 6


@pytest.mark.parametrize("changes", [{"share": 1.0}, {"new": lambda _: False}], ids=["switched off", "replayed"])
def test_it_can_be_switched_off_and_a_replay_never_trips_it(changes: dict) -> None:
    """Nothing but nonsense to the end of the tasks: no error at a share of 1, nor where nothing of it is new."""
    guarded = Guarded(
        **{"share": 0.5, "bad": lambda request: request.ordinal > 3, **changes}, generation={"exhausted_after": 60}
    )
    guarded.run()
    assert len(guarded.commits) > JUDGED


def test_the_first_refusals_of_a_kind_end_it_with_the_cure() -> None:
    """Where nothing of a kind is served, ten requests of it are enough, among as many good ones of another kind; one
    completion of the kind, or another reason, and the rule of the latest 200 holds.
    """

    def guarded(outcome: Callable[[int], Outcome | None], share: float = 0.9) -> Guarded:
        numbers = count()

        def said(chat_request: ChatRequest, request: Request) -> Outcome:
            good = answer(chat_request, request)
            return good if request.kind != "generate" else outcome(next(numbers)) or good

        sampling = {"generation": {"max_tokens": 4096}}
        run = Guarded(share, lambda _: False, sampling=sampling, generation={"per_request": 3, "exhausted_after": 100})
        run.outcome = said
        return run

    overflow = Failure("context_overflow", "http://h/v1 answered 400: maximum context length is 4096", 1)
    run = guarded(lambda _: overflow)
    with pytest.raises(EndpointError, match=r"lower sampling\.generation\.max_tokens \(now 4096\)") as caught:
        run.run()
    assert sum(request.kind == "generate" for request in run.commits) == FIRST
    assert "maximum context length is 4096" in str(caught.value)
    assert "asks again what failed" not in str(caught.value)
    rejected = guarded(lambda _: Failure("rejected", "no", 1))
    with pytest.raises(
        EndpointError, match=r"the first 10 requests of the kind generate.*retry_failed=true asks again"
    ):
        rejected.run()
    for outcome, share in (
        (lambda number: None if number == 3 else overflow, 0.9),
        (lambda number: overflow if number % 2 else Failure("repeated", "no", 5), 0.9),
        (lambda _: overflow, 1.0),
    ):
        run = guarded(outcome, share)
        with suppress(EndpointError):
            run.run()
        assert sum(request.kind == "generate" for request in run.commits) > JUDGED / 2


@pytest.mark.parametrize(
    ("text", "tokens", "cure"),
    [
        ('{"examples": [{"instruction": "Say wh', 900, r"raise sampling\.generation\.max_tokens \(now 900\)"),
        ('{"examples": [{"instruction": "Say wh', 300, "serve the model with a longer context"),
        ("", 900, "The model thinks until its limit.*enable_thinking"),
    ],
)
def test_the_advice_on_cut_completions_can_help(text: str, tokens: int, cure: str) -> None:
    """A completion that ends at the limit needs a higher one; one that ends before it, a longer context; one without a
    text, less thinking.
    """
    sampling = {"generation": {"max_tokens": 900}}
    run = Guarded(0.5, lambda _: False, sampling=sampling, generation=PATIENT)
    run.outcome = lambda chat_request, request: (
        Completion(text, "length", 10, tokens) if request.kind == "generate" else answer(chat_request, request)
    )
    with pytest.raises(EndpointError, match=cure):
        run.run()


@pytest.mark.parametrize(
    ("kind", "text", "reason", "says"),
    [
        ("judge", "Very good!", "stop", r"200 of the last 200 requests of the kind judge .*models\.judge"),
        ("judge", '{"reason": "It i', "length", r"of the kind judge.*sampling\.judging\.max_tokens \(now 512\)"),
        ("answer", "Once upon a", "length", r"of the kind answer.*sampling\.answers\.max_tokens \(now 2048\)"),
        ("answer", " ", "stop", r"of the kind answer .*most often empty.*models\.answer"),
    ],
)
def test_a_kind_that_brings_nothing_ends_it(kind: str, text: str, reason: str, says: str) -> None:
    """Though all others are well, and are more than the share allows: 200 requests of a judge that nobody can read, or of
    answers that are all cut or empty, are enough, and the error names what helps.
    """

    def said(chat_request: ChatRequest, request: Request) -> Outcome:
        good = answer(chat_request, request)
        return replace(good, text=text, finish_reason=reason) if request.kind == kind else good

    run = Guarded(0.95, lambda _: False, generation=PATIENT, window=64, responses="separate", judge={"threshold": 3})
    run.outcome = said
    with pytest.raises(EndpointError, match=says):
        run.run()
    assert sum(request.kind == kind for request in run.commits) == JUDGED


def test_poor_answers_do_not_trip_it() -> None:
    """A model that repeats itself for ever yields nothing, and is exhausted, not broken; so is one whose answers are cut
    by length behind their first example.
    """
    same = orjson.dumps({"examples": [{"instruction": "Say when to prune roses", "output": "In winter."}]}).decode()
    for text in (same, same[:-2] + ', {"instruction": "Say wh'):
        poor = Guarded(0.5, lambda _: False, generation={"exhausted_after": 25})
        said = lambda chat_request, request, text=text: replace(  # noqa: E731
            answer(chat_request, request),
            **({"text": text, "finish_reason": "length"} if request.kind == "generate" else {}),
        )
        poor.outcome = said
        poor.run()
        assert len(poor.commits) > JUDGED


LONG = CONFIG.replace("per_request: 3", "per_request: 3, exhausted_after: 1000").replace(
    "examples: 100", "examples: 300"
)


@pytest.mark.parametrize("kind", ["prose", "failures"])
async def test_a_run_that_pays_for_nothing_ends(tmp_path: Path, kind: str) -> None:
    """After 40 good answers a server writes prose, or refuses each prompt: the run ends with code 6 after some 200 more,
    says what was said and how to look at it, and what it says works. Tried again too early it asks as many again; before
    a mended server it goes on from the same bytes. Where requests failed, `retry_failed` makes the undisturbed files.
    """
    bad = OVERFLOW if kind == "failures" else Behaviour(body=body_of("I am sorry, as a gardener I cannot \x1b[31m"))

    def plan(number: int, _text: str) -> list[Behaviour]:
        return [bad] if number >= 40 else []

    for _ in range(2 if kind == "prose" else 1):
        async with Disturbed(plan if not (tmp_path / "run").exists() else lambda *_: [bad]) as server:
            ended = await explore(*command(tmp_path, server.url, text=LONG))
            assert ended.code == ended.json["exit_code"] == 6, ended.stderr
            assert JUDGED - 64 <= server.attempts <= 40 + JUDGED + 64 + 8
        message = ended.json["error"]
        assert server.url in message
        assert ("context_overflow (" if kind == "failures" else "'I am sorry, as a gardener") in message
        assert "\x1b" not in ended.stderr
    run, key = message.partition("explore-async show ")[2].split()[:2]
    shown = await explore("show", run, key.rstrip("."))
    assert shown.code == 0, shown.stderr
    assert ("maximum context length" if kind == "failures" else "as a gardener I cannot") in shown.stdout
    before = derived(tmp_path / "run")
    stats = orjson.loads((tmp_path / "run" / "stats.json").read_bytes())
    assert stats["ending"] == "error"
    check_counts(stats, tmp_path / "run")
    async with Disturbed(lambda *_: []) as server:
        if kind == "prose":
            again = await explore(*command(tmp_path, server.url))
            assert again.code == 0, again.stderr
            assert derived(tmp_path / "run")["decisions.jsonl"].startswith(before["decisions.jsonl"])
        else:
            again = await explore(*command(tmp_path, server.url, "--set", "operation.retry_failed=true"))
            assert again.code == 0, again.stderr
            assert (await explore(*command(tmp_path, server.url, out="whole"))).code == 0
            assert derived(tmp_path / "run") == derived(tmp_path / "whole")
