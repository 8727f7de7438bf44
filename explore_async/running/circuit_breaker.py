"""The circuit breaker: it ends a run that pays for nothing, as nearly all of the latest requests failed or brought
nothing readable.

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
from explore_async.exploration.kinds import KINDS
from explore_async.exploration.parsing import Format, Unreadable
from explore_async.exploration.values import Event, ExampleDropped, Failure, Request
from explore_async.running.driver import StoredOutcome
from explore_async.settings.recipe import MEANING

JUDGED: Final = 200
"""Requests it looks back at: more than a healthy run wastes in a row, and few enough to have paid for."""
_EXCERPT: Final = 160
_ADVICE: Final = {
    "truncated": "Completions are cut off before an example ends: raise sampling.generation.max_tokens (--adopt)",
    "context_overflow": "Prompts are longer than the server takes: give it a larger context",
    "unparsable": "Does the model follow the format, and the server its chat template? See answer_format",
}
_FAILURES: Final = {"rejected", "repeated", "context_overflow"}
_ADVICE_ON_FAILURES: Final = "; --set operation.retry_failed=true asks again what failed"


@dataclass(frozen=True, slots=True)
class _Fault:
    reason: str
    detail: str


class Breaker:
    """Owns the memory of the latest requests. `share`: it ends the run where more than this share of them brought
    nothing; at 1 it never does. `path` of the run is for the message.
    """

    def __init__(self, share: float, answer_format: Format, path: Path, *, meaning: int = MEANING) -> None:
        self._share = share
        self._reading = (answer_format, meaning)
        self._path = path
        self._recent: deque[_Fault | None] = deque(maxlen=JUDGED)

    def note(self, request: Request, stored: StoredOutcome, events: Sequence[Event]) -> None:
        """Counts a committed request. Raises EndpointError where too many brought nothing."""
        if not stored.new:
            return
        fault = self._fault(request, stored, events)
        self._recent.append(fault)
        if fault is None or len(self._recent) < JUDGED:
            return
        reasons = Counter(recent.reason for recent in self._recent if recent is not None)
        if reasons.total() > self._share * JUDGED:
            raise EndpointError(self._message(reasons, fault, stored.key))

    def _fault(self, request: Request, stored: StoredOutcome, events: Sequence[Event]) -> _Fault | None:
        """A completion about sub-tasks may well bring none; one of examples has to hold a readable example."""
        outcome = stored.outcome
        if isinstance(outcome, Failure):
            return _Fault(outcome.kind, outcome.detail)
        kind = KINDS[request.kind]
        if kind.brings != "examples" or not any(_is_unreadable(event) for event in events):
            return None
        items = kind.parse(outcome, *self._reading)  # again, as examples that are read and wait lead to no event
        if not all(isinstance(item, Unreadable) for item in items):
            return None
        reason = next(item.reason for item in items if isinstance(item, Unreadable))
        return _Fault(reason, f"{outcome.endpoint} said {_shortened(outcome.text)!r}")

    def _message(self, reasons: Counter[str], latest: _Fault, key: str) -> str:
        most_often, times = reasons.most_common(1)[0]
        advice = _ADVICE.get(most_often, "Look at the server's log")
        return (
            f"{reasons.total()} of the last {JUDGED} requests failed or brought nothing readable, most often "
            f"{most_often} ({times}). The latest ({latest.reason}): {_shortened(latest.detail)}. Prompt and completion "
            f"are shown by explore-async show {self._path} {key}. {advice}. The same command goes on from here"
            f"{_ADVICE_ON_FAILURES if most_often in _FAILURES else ''}; --fresh starts over and sets this run aside; "
            "--set operation.failure_rate=1 goes on regardless"
        )


def _is_unreadable(event: Event) -> bool:
    return isinstance(event, ExampleDropped) and event.example is None


def _shortened(text: str) -> str:
    line = " ".join(text[: 16 * _EXCERPT].split())
    return line if len(line) <= _EXCERPT else f"{line[: _EXCERPT - 1]}…"
