"""Counts of what a run has committed so far. They add up: examples read = kept + dropped + surplus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Self

from explore_async.exploration.values import (
    Completion,
    Event,
    ExampleDropped,
    ExampleKept,
    Outcome,
    Request,
    RequestFailed,
    TaskAdded,
    TaskDropped,
    TaskExhausted,
)
from explore_async.settings.recipe import SIMULATED


class Tally:
    """Owns the counts. Fed by every commit, in order; knows no clock."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.cut_by_length = 0
        self.tokens: Counter[str] = Counter()
        self.tasks: Counter[str] = Counter()
        self.tasks_by_depth: Counter[int] = Counter()
        self.tasks_dropped: Counter[str] = Counter()
        self.exhausted = 0
        self.kept = 0
        self.tasks_with_examples: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.simulated = False
        """Whether a server without a model answered any of it, whatever it was called."""

    @property
    def judged(self) -> int:
        """Examples read and decided upon."""
        return self.kept + self.dropped.total()

    def seeds(self, events: Sequence[Event]) -> None:
        for event in events:
            self._count(event)

    def commit(self, request: Request, outcome: Outcome, events: Sequence[Event]) -> None:
        self.requests[request.kind] += 1
        if isinstance(outcome, Completion):
            self.tokens["prompt"] += outcome.prompt_tokens
            self.tokens["completion"] += outcome.completion_tokens
            self.tokens["cached"] += outcome.cached_tokens
            self.cut_by_length += outcome.finish_reason == "length"
            self.simulated |= outcome.model == SIMULATED
        for event in events:
            self._count(event)

    def _count(self, event: Event) -> None:
        match event:
            case TaskAdded(task=task):
                self.tasks[task.origin] += 1
                self.tasks_by_depth[task.depth] += 1
            case TaskDropped(verdict=verdict):
                self.tasks_dropped[verdict.reason] += 1
            case TaskExhausted():
                self.exhausted += 1
            case ExampleKept(example=example):
                self.kept += 1
                self.tasks_with_examples[example.task_id] += 1
            case ExampleDropped(verdict=verdict):
                self.dropped[verdict.reason] += 1
            case RequestFailed(failure=failure):
                self.failures[failure.kind] += 1

    def state(self) -> dict[str, Any]:
        """What `restored` needs, as JSON holds it."""
        return {name: list(of.items()) if isinstance(of, Counter) else of for name, of in vars(self).items()}

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> Self:
        tally = cls()
        for name, of in state.items():
            setattr(tally, name, Counter(dict(of)) if isinstance(of, list) else of)
        return tally

    def document(self, *, surplus: int) -> dict[str, Any]:
        """The counts as `stats.json` has them. `surplus`: examples read and not judged, their task being full."""
        return {
            "requests": {
                **_with_total(self.requests),
                "failed": _with_total(self.failures),
                "cut_by_length": self.cut_by_length,
            },
            "tokens": dict(self.tokens),
            "tasks": {
                **_with_total(self.tasks),
                "by_depth": {str(depth): count for depth, count in sorted(self.tasks_by_depth.items())},
                "dropped": _with_total(self.tasks_dropped),
                "exhausted": self.exhausted,
                "with_examples": len(self.tasks_with_examples),
            },
            "examples": {
                "read": self.judged + surplus,
                "kept": self.kept,
                "dropped": _with_total(self.dropped),
                "surplus": surplus,
            },
        }


def _with_total(counts: Counter[str]) -> dict[str, int]:
    return {"total": counts.total(), **dict(sorted(counts.items()))}
