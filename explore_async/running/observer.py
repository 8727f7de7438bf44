"""Looking at a run while it is on: what an observer hears, and what it can see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from explore_async.exploration.values import Event
from explore_async.running.own_time import OwnTimeFigures
from explore_async.running.performer import PerformerStatistics
from explore_async.running.tally import Tally
from explore_async.settings.recipe import Recipe

if TYPE_CHECKING:
    from explore_async.serving.servers.download import Progress


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run at one moment."""

    tally: Tally
    performer: PerformerStatistics
    capacity: int
    """Most requests in flight at the moment."""
    elapsed_s: float
    explored: bool
    """True when the trees are complete."""
    trouble: str
    """Trouble with the endpoints at the moment; empty where there is none."""
    engines: str
    """Load of the servers in their own figures; empty where they publish none."""
    in_flight: int
    """Requests at the endpoints."""
    own_time: OwnTimeFigures


class RunInProgress(Protocol):
    """A run that an observer may look at whenever it likes."""

    def snapshot(self) -> Snapshot: ...


class Observer(Protocol):
    """Hears of a run's steps. Its methods are called on the event loop: they must be quick, and must not raise."""

    def phase(self, text: str) -> None:
        """A new phase of the run begins, or something happens that a user wants to know."""

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
