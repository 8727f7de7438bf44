"""The pool of a task: examples that it has kept, to show in its later prompts (Self-Instruct, Wang et al. 2023).

A prompt depends on the pool as it was after an earlier request of the task, whose number follows from that of the
request: after the first 8, 16, 32 …, the greatest of these that is at most half. So the pool grows with the task, as
many requests may be under way as were committed, and neither the window nor the pace has a part in what is shown.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any, Final, Self

from explore_async.exploration.choice import draw, sample
from explore_async.exploration.values import Demonstration

_FIRST: Final = 8
"""Requests of a task after which its pool is used first."""
_MOST: Final = 1000
"""Examples in a pool: of more, those with the lowest draws, which are a fair sample."""
_SNAPSHOTS: Final = 3
"""Outstanding requests depend on no more of them."""
_MODEL_WRITTEN: Final = 4
"""One of so many demonstrations is from the pool, as in the paper (2 of 8), while there are enough others."""


def requests_before(turn: int) -> int:
    """The requests of the task after which the pool is that of its request number `turn`, from 0; 0 for no pool."""
    number, after = 0, _FIRST
    while 2 * after <= turn:
        number, after = after, 2 * after
    return number


class Pool:
    """Owns what the task has kept, as far as it may be shown, and the pool as it was after earlier requests."""

    def __init__(self, given: Sequence[Demonstration], count: int, *parts: object) -> None:
        """`given`: those that prompts show without a pool. `count`: demonstrations in a prompt. `parts`: for draws."""
        self._given = tuple(given)
        self._count = count
        self._parts = parts
        self._kept: list[tuple[int, Demonstration]] = []  # a heap; the greatest draw, as a negative number, comes first
        self._after: dict[int, tuple[Demonstration, ...]] = {}

    def add(self, example_id: str, shown: Demonstration) -> None:
        """An example of the task is kept."""
        heapq.heappush(self._kept, (-draw(*self._parts, example_id), shown))
        if len(self._kept) > _MOST:
            heapq.heappop(self._kept)

    def committed(self, requests: int) -> None:
        """So many requests of the task are committed."""
        if requests >= _FIRST and requests & (requests - 1) == 0:
            self._after[requests] = tuple(shown for _, shown in sorted(self._kept, key=lambda entry: -entry[0]))
            for earlier in sorted(self._after)[:-_SNAPSHOTS]:
                del self._after[earlier]

    def shown(self, turn: int) -> tuple[Demonstration, ...]:
        """The demonstrations of the task's request number `turn`."""
        pool = self._after.get(requests_before(turn), ())
        of_pool = max(self._count // _MODEL_WRITTEN, 1, self._count - len(self._given))
        of_pool = min(of_pool, self._count, len(pool))
        return (
            *sample(self._given, self._count - of_pool, *self._parts, "given", turn),
            *sample(pool, of_pool, *self._parts, "pool", turn),
        )

    def state(self) -> list[Any]:
        kept = sorted(self._kept, key=lambda entry: entry[0])
        return [self._given, self._count, self._parts, kept, sorted(self._after.items())]

    @classmethod
    def restored(cls, state: list[Any]) -> Self:
        given, count, parts, kept, after = state
        pool = cls([Demonstration(**fields) for fields in given], count, *parts)
        pool._kept = [(number, Demonstration(**fields)) for number, fields in kept]
        pool._after = {requests: tuple(Demonstration(**fields) for fields in shown) for requests, shown in after}
        return pool
