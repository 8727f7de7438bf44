"""The circuit breaker: it ends a run that pays for nothing, as nearly all of the latest requests failed or brought
nothing readable, in all or of those of one kind about instructions, or as the first requests of a kind all failed for
one reason.

Only requests of this start count, not replayed ones. So a run that was ended by it can go on for as many requests as
the decision takes, whether or not the cause is gone. It changes no byte: commits stay commits.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from explore_async.errors import EndpointError
from explore_async.exploration import checks
from explore_async.exploration.kinds import kinds_of
from explore_async.exploration.parsing import Unreadable
from explore_async.exploration.values import Event, ExampleDropped, Failure, Request
from explore_async.running.cures import RETRY_FAILED, Cures
from explore_async.running.driver import StoredOutcome
from explore_async.settings.recipe import Recipe

JUDGED: Final = 200
"""Requests it looks back at: more than a healthy run wastes in a row, and few enough to have paid for."""
FIRST: Final = 10
"""Requests of a kind that may fail from the beginning: a server that refuses so many refuses all of them."""
_EXCERPT: Final = 240


@dataclass(frozen=True, slots=True)
class _Fault:
    reason: str
    detail: str
    cure: str
    retry: bool = False
    """True where the same request may succeed when it is asked again."""


class Breaker:
    """Owns the memory of the latest requests. `share`: it ends the run where more than this share of them brought
    nothing; at 1 it never does. `path` of the run is for the message.
    """

    def __init__(self, share: float, recipe: Recipe, path: Path) -> None:
        self._share = share
        self._recipe = recipe
        self._kinds = kinds_of(recipe)
        self._cures = Cures(recipe)
        self._path = path
        self._recent: deque[_Fault | None] = deque(maxlen=JUDGED)
        about_instructions = [
            kind.name for kind in self._kinds.values() if kind.brings not in {"tasks", "facets", "examples"}
        ]
        self._recent_of: dict[str, deque[_Fault | None]] = {kind: deque(maxlen=JUDGED) for kind in about_instructions}
        """The latest of these: those of a judge that nobody can read are a part of all requests."""
        self._first: dict[str, list[str]] = {kind: [] for kind in self._kinds}
        """Reasons of the failures that the requests of a kind began with; a kind that had a completion is left out."""

    def note(self, request: Request, stored: StoredOutcome, events: Sequence[Event]) -> None:
        """Counts a committed request. Raises EndpointError where too many brought nothing."""
        if not stored.new:
            return
        fault = self._fault(request, stored, events)
        memories = {"": self._recent}
        if (of_kind := self._recent_of.get(request.kind)) is not None:
            memories[f" of the kind {request.kind}"] = of_kind
        for memory in memories.values():
            memory.append(fault)
        if not isinstance(stored.outcome, Failure):
            self._first.pop(request.kind, None)
        if fault is None:
            return
        self._judge_first(request.kind, fault, stored.key)
        for which, memory in memories.items():
            reasons = Counter(recent.reason for recent in memory if recent is not None)
            if len(memory) == JUDGED and reasons.total() > self._share * JUDGED:
                begins = f"{reasons.total()} of the last {JUDGED} requests{which} failed or brought nothing readable"
                raise EndpointError(self._message(begins, reasons, fault, stored.key))

    def _judge_first(self, kind: str, fault: _Fault, key: str) -> None:
        if (first := self._first.get(kind)) is None or self._share == 1:
            return
        first.append(fault.reason)
        if len(first) == FIRST and len(set(first)) == 1:
            begins = f"the first {FIRST} requests of the kind {kind} all failed"
            raise EndpointError(self._message(begins, Counter(first), fault, key))

    def _fault(self, request: Request, stored: StoredOutcome, events: Sequence[Event]) -> _Fault | None:
        """A completion about sub-tasks or facets may well bring none; any other has to hold something readable."""
        outcome = stored.outcome
        if request.kind == checks.KIND:
            return None  # `running.checking` ends a run whose check is broken
        if isinstance(outcome, Failure):
            return _failed(outcome, self._cures.of_overflow(request.kind))
        kind = self._kinds[request.kind]
        if kind.brings in {"tasks", "facets"} or (
            kind.brings == "examples" and not any(_is_unreadable(event) for event in events)
        ):
            return None
        items = kind.parse(outcome, self._recipe)  # again, as examples that are read and wait lead to no event
        if not all(isinstance(item, Unreadable) for item in items):
            return None
        reason = next(item.reason for item in items if isinstance(item, Unreadable))
        cure = self._cures.of_unreadable(request.kind)
        if reason == "truncated" or (kind.brings == "scores" and outcome.finish_reason == "length"):
            cure = self._cures.of_cut(request.kind, outcome)
        return _Fault(reason, f"{outcome.endpoint} said {_shortened(outcome.text)!r}", cure)

    def _message(self, begins: str, reasons: Counter[str], latest: _Fault, key: str) -> str:
        most_often, times = reasons.most_common(1)[0]
        recent = (fault for fault in self._recent if fault is not None and fault.reason == most_often)
        fault = next(recent, latest)
        again = f"; {RETRY_FAILED} asks again what failed" if fault.retry else ""
        return (
            f"{begins}, most often {most_often} ({times}). The latest ({latest.reason}): {_shortened(latest.detail)}. "
            f"Prompt and completion are shown by explore-async show {self._path} {key}. {fault.cure}. The same command "
            f"goes on from here{again}; --fresh starts over and sets this run aside; "
            "--set operation.failure_rate=1 goes on regardless"
        )


def _failed(failure: Failure, cure_of_overflow: str) -> _Fault:
    if failure.kind == "context_overflow":
        return _Fault(failure.kind, failure.detail, cure_of_overflow)
    words = "The server's words say what it rejects: change that, in the recipe or at the server"
    cure = "Look at the server's log" if failure.kind == "repeated" else words
    return _Fault(failure.kind, failure.detail, cure, retry=True)


def _is_unreadable(event: Event) -> bool:
    return isinstance(event, ExampleDropped) and event.example is None


def _shortened(text: str) -> str:
    line = " ".join(text[: 16 * _EXCERPT].split())
    return line if len(line) <= _EXCERPT else f"{line[: _EXCERPT - 1]}…"
