"""Turn policies: they choose the task of the next generate request, by the counts of all tasks.

A policy sees the counts of committed and issued requests, and never a text or a clock. So the same outcomes lead to the
same requests at any speed, whatever the policy.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from typing import Final, Literal, Protocol, TypeAlias

from explore_async.exploration.harvest import Harvest

_FLOOR: Final = 4
"""By yield, each task gets this part of an even share first."""
_TOGETHER: Final = 64
"""Requests that the tasks may have outstanding together beyond those that a policy by yield has evidence for."""


class TaskCounts(Protocol):
    """The counts of one task. `index` numbers the tasks in the order of their creation, from 0."""

    @property
    def index(self) -> int: ...

    @property
    def depth(self) -> int: ...

    @property
    def cap(self) -> int | None:
        """The most examples that the task may ever have; None where only its quota limits it."""

    @property
    def kept(self) -> int: ...

    @property
    def in_flight(self) -> int:
        """Requests that are issued and not committed."""

    @property
    def answered(self) -> int:
        """Requests that are committed."""

    @property
    def exhausted(self) -> bool: ...

    @property
    def open(self) -> bool:
        """More can be asked for: it is not exhausted, and the requests in flight are not too many for one task."""

    @property
    def expected(self) -> int:
        """Examples kept, and those that the requests in flight are going to bring."""

    @property
    def harvest(self) -> Harvest: ...


Limit: TypeAlias = Callable[[TaskCounts], int]


class TurnPolicy(Protocol):
    """Chooses the task of the next generate request. It can be rebuilt from the counts: after a checkpoint is restored,
    `note` is called for each task again.
    """

    def note(self, task: TaskCounts) -> None:
        """The task is new, or its counts have changed."""

    def next(self, *, share: Limit, quota: Limit, opened: bool) -> TaskCounts | None:
        """The task to generate for: open, and with fewer `expected` examples than its quota. None for no task.

        `share`: the examples of a task when all are filled alike. `opened`: all tasks are there, and each has had its
        first completion. The choice stays the same until the next `note` or another quota.
        """


class FewestFirst:
    """The task with the fewest expected examples comes first, and of equal ones the oldest: no task is starved.

    `part`: the tasks are filled up to this part of their quotas.
    """

    def __init__(self, part: int = 1) -> None:
        self._part = part
        self._tasks: list[TaskCounts] = []
        self._queue: list[tuple[int, int]] = []  # a heap of (expected, index); entries of earlier counts are skipped

    def note(self, task: TaskCounts) -> None:
        if task.index == len(self._tasks):
            self._tasks.append(task)
        heapq.heappush(self._queue, (task.expected, task.index))

    def next(self, *, share: Limit, quota: Limit, opened: bool) -> TaskCounts | None:
        del share, opened
        while self._queue:
            expected, index = self._queue[0]
            task = self._tasks[index]
            if expected != task.expected or not task.open:
                heapq.heappop(self._queue)
            elif expected < quota(task) // self._part:
                return task
            elif task.cap is not None and expected >= task.cap // self._part:
                heapq.heappop(self._queue)  # comes back when its counts change
            else:
                return None  # its quota is the level of all tasks, and the others have at least as many
        return None


class BestYield:
    """The task that can be expected to bring most new examples for its tokens comes first, of equal ones the oldest.

    An example counts the less, the more its task has: tasks are in the order of yield / sqrt(examples), as the number
    of kinds among n texts grows about as sqrt(n) (Heaps' law). So a task of half the yield is given a quarter of the
    examples, and half of the tokens, and none is starved: first, and while tasks are still being opened, each is filled
    up to a quarter of an even share. Beyond that a task has at most as many requests outstanding as are committed, so
    that each doubling of its requests has evidence, however wide the window is.
    """

    def __init__(self) -> None:
        self._floor = FewestFirst(_FLOOR)
        self._tasks: list[TaskCounts] = []
        self._queue: list[tuple[int, int]] = []  # a heap of (-worth, index); entries of earlier counts are skipped

    def note(self, task: TaskCounts) -> None:
        if task.index == len(self._tasks):
            self._tasks.append(task)
        self._floor.note(task)
        heapq.heappush(self._queue, (-_worth(task), task.index))

    def next(self, *, share: Limit, quota: Limit, opened: bool) -> TaskCounts | None:
        below = self._floor.next(share=share, quota=share, opened=opened)
        if below is not None or not opened:
            return below
        together = _TOGETHER // len(self._tasks)
        while self._queue:
            worth, index = self._queue[0]
            task = self._tasks[index]
            has_evidence = task.in_flight < max(task.answered, together)
            if -worth == _worth(task) and task.open and has_evidence and task.expected < quota(task):
                return task
            heapq.heappop(self._queue)  # comes back when its counts change
        return None


def _worth(task: TaskCounts) -> int:
    """The square of yield / sqrt(examples)."""
    return task.harvest.rate**2 // (task.expected + 1)


TURNS: Final[Mapping[Literal["uniform", "yield"], Callable[[], TurnPolicy]]] = {
    "uniform": FewestFirst,
    "yield": BestYield,
}
"""The policies by the name that a recipe gives them."""
