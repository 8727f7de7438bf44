"""Whether the window keeps requests from endpoints that have room, and the window that would not."""

from __future__ import annotations

from dataclasses import dataclass

from explore_async.running.performer import PerformerStatistics
from explore_async.settings.operation import WINDOW_PER_SLOT

_WORTH_TELLING = 0.1


@dataclass(frozen=True, slots=True)
class WindowFigures:
    """The use of the window in one start. `held_back` is the share of its time in which all requests of the window were
    out or waited for an earlier one, while endpoints had room. `enough` is a window that keeps the endpoints full.
    """

    window: int
    held_back: float
    enough: int

    @property
    def advice(self) -> str:
        """A sentence where the window held the endpoints back; empty where it did not."""
        if self.held_back < _WORTH_TELLING or self.enough <= self.window:
            return ""
        return (
            f"a window of {self.window:,} kept requests from endpoints with room for {self.held_back:.0%} of the time: "
            f"a new run with --window {self.enough} would keep them full"
        )


class WindowUse:
    """Looks at the window every second."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._looked = self._held_back = 0
        self._slots = 0

    def look(self, performer: PerformerStatistics, *, capacity: int, slots: int) -> None:
        """`capacity`: most requests in flight or waiting for a slot now. `slots`: those that the endpoints take, as
        declared or assumed.
        """
        if not performer.asked:
            return
        self._slots = max(self._slots, capacity, slots)
        self._looked += 1
        self._held_back += self.holds_back(performer, capacity)

    def holds_back(self, performer: PerformerStatistics, capacity: int) -> bool:
        """True when all requests of the window are in flight or waiting for an earlier one, and endpoints have room."""
        out = performer.asking + performer.waiting
        return not performer.pending and performer.asking < capacity and out >= self._window

    def figures(self) -> WindowFigures:
        share = self._held_back / self._looked if self._looked else 0.0
        return WindowFigures(self._window, round(share, 3), WINDOW_PER_SLOT * self._slots)
