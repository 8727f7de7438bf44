"""Counts of a run's commits so far. They add up: examples read = kept + dropped + surplus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self, TypeVar

from explore_async.exploration import checks
from explore_async.exploration.parsing import Format, thoughts_of
from explore_async.exploration.values import (
    AnswerChecked,
    AnswerJudged,
    AnswerScored,
    Completion,
    Event,
    ExampleDropped,
    ExampleKept,
    ExamplesWait,
    FollowUpJudged,
    InstructionKept,
    Outcome,
    PairJudged,
    Request,
    RequestFailed,
    TaskAdded,
    TaskDropped,
    TaskExhausted,
)
from explore_async.settings.recipe import SIMULATED

_Key = TypeVar("_Key", int, str)


@dataclass(frozen=True, slots=True)
class RequestCounts:
    """Committed requests: by their kind, and those that failed for good by the reason."""

    by_kind: Mapping[str, int]
    failed: Mapping[str, int]
    cut: Mapping[str, int]
    """Completions that ended at their limit of tokens, by kind."""

    unchecked: Mapping[str, int] = field(default_factory=dict)
    """Answers without a verdict, by the check that gave none."""
    check_faults: Mapping[str, str] = field(default_factory=dict)
    """The latest reason for that, by check; empty where it is not known."""

    @property
    def cut_by_length(self) -> int:
        return sum(self.cut.values())

    @property
    def total(self) -> int:
        return sum(self.by_kind.values())

    @property
    def total_failed(self) -> int:
        return sum(self.failed.values())


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Tokens of all committed completions. `cached` ones are those of the prompts that a prefix cache held."""

    prompt: int
    completion: int
    cached: int


@dataclass(frozen=True, slots=True)
class ReasoningCounts:
    """Completions that the model thought before, and the length of its thoughts. `tokens`: of those servers that tell;
    they are part of the tokens of the completions.
    """

    completions: int
    characters: int
    tokens: int


@dataclass(frozen=True, slots=True)
class TaskCounts:
    """Tasks: those of the trees by origin and by depth, the dropped ones by the reason."""

    by_origin: Mapping[str, int]
    by_depth: Mapping[int, int]
    dropped: Mapping[str, int]
    exhausted: int
    with_examples: int

    @property
    def total(self) -> int:
        return sum(self.by_origin.values())

    @property
    def total_dropped(self) -> int:
        return sum(self.dropped.values())


@dataclass(frozen=True, slots=True)
class ExampleCounts:
    """Examples: kept, dropped by the reason, and the surplus that was read and not judged, as its tasks were full.
    `instructions` were new, and `unfinished` ones of them still wait for an answer or a judge; both are 0 where the
    first completion holds all of an example. `answers` of their own by their verdict on the filters; `scores`: how
    often the judge gave each score, by aspect.
    """

    kept: int
    dropped: Mapping[str, int]
    surplus: int
    instructions: int = 0
    unfinished: int = 0
    answers: Mapping[str, int] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    not_scored: int = 0
    """Answers for which the judge could not be read."""

    @property
    def total_dropped(self) -> int:
        return sum(self.dropped.values())

    @property
    def read(self) -> int:
        return self.kept + self.total_dropped + self.surplus + self.unfinished


@dataclass(frozen=True, slots=True)
class Counts:
    """The counts of a run at one moment."""

    requests: RequestCounts
    tokens: TokenCounts
    reasoning: ReasoningCounts
    tasks: TaskCounts
    examples: ExampleCounts
    passages: Mapping[str, int] = field(default_factory=dict)
    """Of the domains' files: `used` and `unused`; empty where there are none."""
    without_usage: int = 0
    """Completions whose tokens the server did not count."""
    filtered: int = 0
    """Completions that a content filter of the server ended."""

    def document(self) -> dict[str, Any]:
        """The counts as stats.json has them."""
        requests, tasks, examples = self.requests, self.tasks, self.examples
        return {
            "requests": {
                **_with_total(requests.by_kind),
                "failed": _with_total(requests.failed),
                "cut_by_length": requests.cut_by_length,
            },
            "tokens": asdict(self.tokens) if requests.total > requests.total_failed else {},
            **({"without_usage": self.without_usage} if self.without_usage else {}),
            **({"content_filter": self.filtered} if self.filtered else {}),
            **({"reasoning": asdict(self.reasoning)} if self.reasoning.completions else {}),
            "tasks": {
                **_with_total(tasks.by_origin),
                "by_depth": {str(depth): count for depth, count in tasks.by_depth.items()},
                "dropped": _with_total(tasks.dropped),
                "exhausted": tasks.exhausted,
                "with_examples": tasks.with_examples,
            },
            "examples": {
                "read": examples.read,
                "kept": examples.kept,
                "dropped": _with_total(examples.dropped),
                "surplus": examples.surplus,
                **({"unfinished": examples.unfinished} if examples.instructions or examples.unfinished else {}),
            },
            **({"passages": dict(self.passages)} if self.passages else {}),
            **({"instructions": examples.instructions} if examples.instructions else {}),
            **({"answers": _with_total(examples.answers)} if examples.answers else {}),
            **({"scores": examples.scores} if examples.scores else {}),
            **({"not_scored": examples.not_scored} if examples.not_scored else {}),
        }


class Tally:
    """Owns the counts. Takes in every commit, in order; knows no clock."""

    def __init__(self, answer_format: Format = "json") -> None:
        self.answer_format: Format = answer_format
        self.requests: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.cut: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self.without_usage = 0
        """Completions whose tokens the server did not count."""
        self.filtered = 0
        """Completions that a content filter of the server ended."""
        self.reasoning: Counter[str] = Counter()
        self.tasks: Counter[str] = Counter()
        self.tasks_by_depth: Counter[int] = Counter()
        self.tasks_dropped: Counter[str] = Counter()
        self.exhausted = 0
        self.kept = 0
        self.instructions = 0
        self.tasks_with_examples: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        """Answers of their own, by their verdict on the filters."""
        self.scores: Counter[str] = Counter()
        """By "aspect score"."""
        self.not_scored = 0
        self.unchecked: Counter[str] = Counter()
        """Answers without a verdict, by the check that gave none."""
        self.check_faults: dict[str, str] = {}
        """The latest reason for that, by check."""
        self.simulated = False
        """True when a simulated server made any of it, whatever its model was called."""

    @property
    def judged(self) -> int:
        """Examples that were kept or dropped."""
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
            self.without_usage += request.kind != checks.KIND and not outcome.has_usage
            if thoughts := thoughts_of(outcome, None if request.kind == "answer" else self.answer_format):
                self.reasoning.update(completions=1, characters=len(thoughts), tokens=outcome.reasoning_tokens)
            self.cut[request.kind] += outcome.finish_reason == "length"
            self.filtered += outcome.finish_reason == "content_filter"
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
            case InstructionKept():
                self.instructions += 1
            case ExampleKept(example=example):
                self.kept += 1
                self.tasks_with_examples[example.task_id] += 1
            case ExampleDropped(verdict=verdict):
                self.dropped[verdict.reason] += 1
            case RequestFailed(failure=failure):
                self.failures[failure.kind] += 1
            case AnswerJudged(verdict=verdict):
                self.answers[verdict.reason] += 1
            case AnswerScored(scores=scores):
                self.scores.update(f"{aspect} {score}" for aspect, score in scores.items())
                self.not_scored += not scores
            case AnswerChecked(check=name, verdict=verdict, detail=detail):
                if verdict.reason == "not_checked":
                    self.unchecked[name] += 1
                    self.check_faults[name] = detail
            case ExamplesWait() | FollowUpJudged() | PairJudged():
                pass

    def state(self) -> dict[str, Any]:
        """The counts as JSON holds them, for `restored`."""
        return {name: list(of.items()) if isinstance(of, Counter) else of for name, of in vars(self).items()}

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> Self:
        tally = cls()
        for name, of in state.items():
            setattr(tally, name, Counter(dict(of)) if isinstance(of, list) else of)
        return tally

    def counts(self, *, surplus: int, unfinished: int = 0, passages: Mapping[str, int] | None = None) -> Counts:
        """The counts at this moment. `surplus`: examples read and not judged, as their tasks were full. `unfinished`:
        kept instructions that wait for an answer or a judge. `passages`: those shown and not.
        """
        return Counts(
            RequestCounts(
                *(_in_order(self.requests), _in_order(self.failures), _in_order(+self.cut)),
                *(_in_order(self.unchecked), dict(self.check_faults)),
            ),
            TokenCounts(self.tokens["prompt"], self.tokens["completion"], self.tokens["cached"]),
            ReasoningCounts(*(self.reasoning[name] for name in ("completions", "characters", "tokens"))),
            TaskCounts(
                _in_order(self.tasks),
                _in_order(self.tasks_by_depth),
                _in_order(self.tasks_dropped),
                self.exhausted,
                len(self.tasks_with_examples),
            ),
            ExampleCounts(
                *(self.kept, _in_order(self.dropped), surplus, self.instructions, unfinished),
                _in_order(self.answers),
                self.scores_by_aspect,
                self.not_scored,
            ),
            passages or {},
            self.without_usage,
            self.filtered,
        )

    @property
    def scores_by_aspect(self) -> dict[str, dict[str, int]]:
        """The number of times that the judge gave each score, by aspect."""
        by_aspect: dict[str, dict[str, int]] = {}
        for name, count in _in_order(self.scores).items():
            aspect, score = name.split(" ")
            by_aspect.setdefault(aspect, {})[score] = count
        return by_aspect


def _in_order(counts: Counter[_Key]) -> dict[_Key, int]:
    return dict(sorted(counts.items()))


def _with_total(counts: Mapping[str, int]) -> dict[str, int]:
    return {"total": sum(counts.values()), **counts}
