"""The counts of one task."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from explore_async.exploration.harvest import Harvest

_COUNTS = (
    "kept",
    "in_flight",
    "asked",
    "answered",
    "barren",
    "exhausted",
    "asked_for",
    "waiting",
    "tried",
    "barren_tried",
    "unfinished",
    "failed",
    "failed_in_row",
)
"""The fields that are counted; the others follow from them."""


@dataclass(slots=True, eq=False)
class Account:
    """The counts of one task, and what a forecast makes of them. See `turns.TaskCounts`."""

    index: int
    depth: int
    cap: int | None
    parent: Account | None = None
    harvest: Harvest = field(default_factory=Harvest)
    kept: int = 0
    in_flight: int = 0
    """Requests that are issued and not committed."""
    asked: int = 0
    """Requests."""
    answered: int = 0
    """Requests that are committed."""
    barren: int = 0
    """The latest committed requests, in a row, of which too little was kept."""
    barren_tried: int = 0
    """Examples that these requests asked for."""
    exhausted: bool = False
    asked_for: int = 0
    """Examples that the requests in flight ask for."""
    waiting: int = 0
    """Examples that wait for a verdict until the quota is higher."""
    tried: int = 0
    """Examples that committed requests asked for, without those that wait for a verdict."""
    unfinished: int = 0
    """Kept instructions that are not examples yet: they wait for an answer or a judge."""
    failed: int = 0
    """Kept instructions that became no example."""
    failed_in_row: int = 0
    """The latest of them, with no example since."""
    open: bool = False
    expected: int = 0
    likely: int = 0
    """The examples that the task is likely to have when all its requests are committed, as its forecast counts them."""
    doubt: int = 0
    """The variance of `likely`."""

    @property
    def held(self) -> int:
        """Examples, and kept instructions that may become one: the places of the quota that are taken."""
        return self.kept + self.unfinished

    @property
    def found(self) -> int:
        """Instructions that were new."""
        return self.kept + self.unfinished + self.failed

    def state(self) -> list[Any]:
        return [self.harvest.state(), *(getattr(self, name) for name in _COUNTS)]

    def restore(self, state: list[Any]) -> None:
        harvest, *counts = state
        self.harvest.restore(harvest)
        for name, value in zip(_COUNTS, counts, strict=True):
            setattr(self, name, value)
