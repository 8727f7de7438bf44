"""Turn policies: they choose the task of the next generate request, by the counts of all tasks.

A policy sees the counts of committed and issued requests, and never a text or a clock. So the same outcomes lead to the
same requests at any speed, whatever the policy.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Protocol


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


class TurnPolicy(Protocol):
    """Chooses the task of the next generate request. It can be rebuilt from the counts: after a checkpoint is restored,
    `note` is called for each task again.
    """

    def note(self, task: TaskCounts) -> None:
        """The task is new, or its counts have changed."""

    def next(self, quota: Callable[[TaskCounts], int]) -> TaskCounts | None:
        """The task to generate for: open, and with fewer `expected` examples than its quota. None for no task.

        The choice stays the same until the next `note` or another quota.
        """


class FewestFirst:
    """The task with the fewest expected examples comes first, and of equal ones the oldest: no task is starved."""

    def __init__(self) -> None:
        self._tasks: list[TaskCounts] = []
        self._queue: list[tuple[int, int]] = []  # a heap of (expected, index); entries of earlier counts are skipped

    def note(self, task: TaskCounts) -> None:
        if task.index == len(self._tasks):
            self._tasks.append(task)
        heapq.heappush(self._queue, (task.expected, task.index))

    def next(self, quota: Callable[[TaskCounts], int]) -> TaskCounts | None:
        while self._queue:
            expected, index = self._queue[0]
            task = self._tasks[index]
            if expected != task.expected or not task.open:
                heapq.heappop(self._queue)
            elif expected < quota(task):
                return task
            elif task.cap is not None and expected >= task.cap:
                heapq.heappop(self._queue)  # comes back when its counts change
            else:
                return None  # its quota is the level of all tasks, and the others have at least as many
        return None
