"""Looking at a run while it is on: what an observer hears, and what it can see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Literal, Protocol

from explore_async.exploration.values import Event
from explore_async.running.endpoint_status import EndpointStatus
from explore_async.running.own_time import OwnTimeFigures
from explore_async.running.performer import HeadOfLine, PerformerStatistics
from explore_async.running.tally import Tally
from explore_async.settings.comparing_recipe import ComparingRecipe
from explore_async.settings.recipe import Recipe
from explore_async.terminal.counts import counted

if TYPE_CHECKING:
    from explore_async.serving.servers.download import Progress


_MINUTE_S = 60
HELD_UP_S = 3.0
_SENT_AGAIN_S = 1.0
_HELD_UP = 10
Phase = Literal["replaying", "connecting", "exploring", "generating", "revising", "stopping"]
"""replaying: stored completions lead to the state that they led to before, and nothing is asked. connecting: a
completion that is not stored is due, and the endpoints answer small requests before it is asked for. exploring: trees
grow, while examples are generated beside it. generating: the trees are complete. revising: examples that exist get
answers or scores.
"""


@dataclass(frozen=True, slots=True)
class Steps:
    """The progress of a phase."""

    done: int
    of: int
    what: str
    """The things that are counted, in the plural."""
    at_most: bool = False
    """`of` is a plan that may turn out smaller."""

    @property
    def count(self) -> str:
        return f"{self.done:,} of {'at most ' if self.at_most else ''}{self.of:,}"

    @property
    def share(self) -> float:
        return min(1.0, self.done / self.of) if self.of else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A run at one moment."""

    tally: Tally
    performer: PerformerStatistics
    limit: int
    """Most requests in flight at the moment, at the endpoints that are in use."""
    elapsed_s: float
    phase: Phase
    steps: Steps
    """The progress of the phase: in stored completions, tasks or examples."""
    left_s: float | None
    """Seconds until the run has what it goes for, at the pace of the last minute; None while that is not known: a run
    that has just begun to explore is as slow as the tree lets it.
    """
    is_overdue: bool
    """True when the time that was said to be left does not become less."""
    patience_s: float | None
    """While the run stops: seconds until the requests in flight are given up."""
    head: HeadOfLine | None
    """The requests that hold up all judging at the moment."""
    check: str
    """A check of the user's that all judging waits for, in words; empty where none holds it up."""
    preparing: str
    """Work of this process that all judging waits for; empty where there is none."""
    explored: bool
    """True when the trees are complete."""
    wanted: int
    """Examples that the run goes for; smaller as tasks run dry."""
    unfinished: int
    """Kept instructions that are no examples yet."""
    awaited: str
    """What they wait for, in words."""
    kept_in_words: str
    """The things that the run keeps: examples, or questions with their verdicts."""
    of_questions: bool
    """True where that is questions, which have classes and no tasks."""
    answers_per_s: float
    tokens_per_s: float
    """Completion tokens. Both are of the last minute, and without stored completions."""
    endpoints: tuple[EndpointStatus, ...]
    """Empty before they are connected."""
    trouble: str
    """Trouble with the endpoints at the moment; empty where there is none."""
    engines: str
    """Load of the servers in their own figures; empty where they publish none."""
    in_flight: int
    """Requests at the endpoints."""
    own_time: OwnTimeFigures

    def line(self) -> str:
        """The state in a line."""
        tally, steps = self.tally, self.steps
        of = f" of {self.wanted:,}" if self.wanted and self.phase != "replaying" else ""
        how_far = "" if steps.what == self.kept_in_words else f" ({steps.count} {steps.what})"
        parts = [
            f"{self.phase}{how_far}",
            "" if steps.what == "tasks" or self.of_questions else counted(tally.tasks.total(), "task"),
            f"{tally.kept:,}{of} {self.kept_in_words}",
            f"{tally.dropped.total():,} dropped",
            self.on_the_way,
            self.not_judged,
            f"{self.answers_per_s:,.1f} completions/s",
            f"{self.tokens_per_s:,.0f} tokens/s",
            f"{self.in_flight:,} in flight",
            self.faults,
            self.left,
        ]
        figures = ", ".join(part for part in parts if part)
        return "; ".join(part for part in (figures, self.engines, self.held_up, self.trouble) if part)

    @property
    def on_the_way(self) -> str:
        """Instructions that were new, and those that are no examples yet, in a few words; empty where none is."""
        if not self.unfinished:
            return ""
        new = f"{counted(self.tally.instructions, 'new instruction')}, of which " if self.tally.instructions else ""
        waits = "waits" if self.unfinished == 1 else "wait"
        return f"{new}{self.unfinished:,} {waits} for {self.awaited}"

    @property
    def not_judged(self) -> str:
        """Completions that are there and not judged, in a few words; empty where there are none."""
        waiting = self.performer.waiting
        return f"{counted(waiting, 'completion')} stored, not judged yet" if waiting else ""

    @property
    def held_up(self) -> str:
        """The cause where completions come and none is judged, or more wait for that than are in flight, in a sentence;
        else empty. Where instructions need further requests, many always wait: that is none while no slot is free.
        """
        head, waiting = self.head, self.performer.waiting
        is_usual = bool(self.awaited) and self.in_flight >= self.limit
        are_many = waiting >= max(_HELD_UP, self.in_flight) and not is_usual
        if self.preparing or self.check:
            return self.preparing or self.check
        if head is None or (head.waited_s < HELD_UP_S and not are_many):
            return ""
        is_there = any(endpoint.url == head.endpoint and endpoint.in_flight for endpoint in self.endpoints)
        where = f"at {head.endpoint}" if is_there else f"that {'waits' if head.requests == 1 else 'wait'} for a slot"
        so_far = f"sent {duration(head.there_s)} ago" if is_there else f"{duration(head.there_s)} so far"
        if head.requests > 1:
            so_far = f"the first {so_far}" if is_there else f"the first one {so_far}"
        if head.age_s - head.there_s >= _SENT_AGAIN_S:
            so_far += f", for the second time: {duration(head.age_s)} in all"
        requests = f"{counted(head.requests, 'request')} {where} ({so_far})"
        if waiting >= _HELD_UP:
            return f"{waiting:,} stored completions wait for {requests}: completions are judged in order"
        if self.is_overdue and self.wanted > self.tally.kept:
            return f"waiting for {requests}, and so for the last {counted(self.wanted - self.tally.kept, 'example')}"
        return ""

    @property
    def left(self) -> str:
        """The time that is left, in words that are no more exact than it is; empty where it is not known."""
        if self.patience_s is not None:
            most = f"{ceil(self.patience_s):,} s"
            return f"waiting for those in flight, at most {most} more" if self.in_flight else ""
        if self.left_s is None:
            return "time left not known: it hardly becomes less" if self.is_overdue else ""
        if self.left_s < _MINUTE_S:
            return "less than a minute left"
        return f"about {duration(_MINUTE_S * round(self.left_s / _MINUTE_S)).removesuffix(' 0 s')} left"

    @property
    def faults(self) -> str:
        """Attempts that failed and requests that failed for good, in a few words; empty where there are none."""
        failed = sum(endpoint.failed_attempts for endpoint in self.endpoints)
        for_good = self.tally.failures.total()
        words = [f"{counted(failed, 'attempt')} failed"] if failed else []
        return ", ".join([*words, *([f"{counted(for_good, 'request')} failed for good"] if for_good else [])])


class RunInProgress(Protocol):
    """A run that an observer may look at, and stop, whenever it likes, on the event loop of the run."""

    def snapshot(self) -> Snapshot: ...

    def stop(self, ending: Literal["interrupted", "terminated", "wall_time"] = "interrupted") -> None:
        """Ends the run in order, with this ending: it sends no more requests, and commits what comes of those in
        flight. Another call changes nothing.
        """


class Observer(Protocol):
    """Hears of a run's steps. Its methods are called on the event loop: they must be quick, and must not raise."""

    def phase(self, text: str) -> None:
        """A step begins, or something happens that a user wants to know."""

    def fetching(self, progress: Progress) -> None:
        """A model is downloaded, this far by now."""

    def began(self, recipe: Recipe, run: RunInProgress) -> None:
        """The run is ready and goes on to its first request."""

    def committed(self, events: Sequence[Event]) -> None:
        """A request was committed and led to these events."""

    def tick(self) -> None:
        """A second has passed."""


class SilentObserver:
    """Observes nothing."""

    def phase(self, text: str) -> None: ...

    def fetching(self, progress: Progress) -> None: ...

    def began(self, recipe: Recipe, run: RunInProgress) -> None: ...

    def committed(self, events: Sequence[Event]) -> None: ...

    def tick(self) -> None: ...


def awaited(recipe: Recipe) -> str:
    """What a kept instruction waits for before it is an example, in words; empty where its completion holds all."""
    if isinstance(recipe, ComparingRecipe):
        return "the judge" if len(recipe.judges) == 1 else "the judges"
    steps = {
        "an answer": "answer" in recipe.kinds,
        "a check": bool(recipe.checks),
        "the judge": recipe.judge is not None,
    }
    *others, last = [what for what, is_there in steps.items() if is_there] or [""]
    return f"{', '.join(others)} or {last}" if others else last


def compares(recipe: Recipe) -> bool:
    """True for a recipe whose examples are questions with two answers; their classes stand where others have tasks."""
    return isinstance(recipe, ComparingRecipe)


def kept_in_words(recipe: Recipe) -> str:
    """The things that such a recipe keeps, in the plural."""
    return "questions judged" if compares(recipe) else "examples kept"


def in_flight(now: int, most: int) -> str:
    """Requests in flight beside the most that may be, 0 where no more are sent: that number falls while they are under
    way.
    """
    if not most:
        return f"{now:,}"
    return f"{now:,} of {most:,}" if now <= most else f"{now:,}, going down to {most:,}"


def duration(seconds: float) -> str:
    """The time in words."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
