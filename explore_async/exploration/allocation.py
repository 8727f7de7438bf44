"""Who gets how many examples: quotas, and whose turn it is. Counts only; it knows no text and no tree.

Every task has a quota. With a target for the whole run it is a level: the height to which all tasks, planned ones
included, have to be filled so that their sum is the target, no task above its own cap. The level is worked out anew as
the tree turns out. The task with the fewest examples is served first, so that none is starved.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from explore_async.settings.recipe import Generation, Targets


def level(target: int, groups: Iterable[tuple[int | None, int]], *, at_most: bool) -> int:
    """The height h for which the sum of count * min(cap, h) over groups of (cap, count) reaches `target`.

    at_most: the greatest h that does not exceed the target (but at least 1), else the least h that reaches it.
    Where the caps leave less than the target, the greatest cap.
    """
    groups = [(cap, count) for cap, count in groups if count > 0 and cap != 0]
    if not groups:
        return 0
    ceiling = max((cap for cap, _ in groups if cap is not None), default=0)
    if any(cap is None for cap, _ in groups):
        ceiling = max(ceiling, target)

    def reached(height: int) -> int:
        return sum(count * (height if cap is None else min(cap, height)) for cap, count in groups)

    low, high = 0, ceiling
    if reached(high) < target:
        return high
    while low < high:
        middle = (low + high) // 2
        if reached(middle) >= target:
            high = middle
        else:
            low = middle + 1
    if at_most and reached(low) > target:
        low -= 1
    return max(low, 1)


@dataclass(slots=True, eq=False)
class Account:
    """One task's examples. `in_flight` counts requests without an answer."""

    index: int
    depth: int
    cap: int | None
    kept: int = 0
    in_flight: int = 0
    asked: int = 0
    answered: int = 0
    barren: int = 0
    exhausted: bool = False
    version: int = 0

    def state(self) -> list[Any]:
        return [self.kept, self.in_flight, self.asked, self.answered, self.barren, self.exhausted]

    def restore(self, state: list[Any]) -> None:
        self.kept, self.in_flight, self.asked, self.answered, self.barren, self.exhausted = state


class Allocation:
    """Owns the accounts of all tasks, in the order of their creation."""

    def __init__(self, targets: Targets, generation: Generation) -> None:
        self._targets = targets
        self._generation = generation
        self._accounts: list[Account] = []
        self._queue: list[tuple[int, int, int]] = []
        self._in_flight = 0
        self._kept_by_exhausted = 0
        self._exhausted_at: dict[int, int] = {}
        self.level = 0
        """The quota of a task without a cap of its own, where there is a target for the whole run."""
        self.kept = 0

    @property
    def target_reached(self) -> bool:
        return self._targets.examples is not None and self.kept >= self._targets.examples

    def open(self, depth: int) -> Account:
        """The account of a new task."""
        account = Account(len(self._accounts), depth, self._targets.cap_at(depth))
        self._accounts.append(account)
        self._queue_up(account)
        return account

    def plan(self, planned: Sequence[int], *, explored: bool) -> bool:
        """Takes note of how many tasks each depth will have; says whether the level rose."""
        total = self._targets.examples
        if total is None:
            return False
        groups = (
            (self._targets.cap_at(depth), count - self._exhausted_at.get(depth, 0))
            for depth, count in enumerate(planned)
        )
        before = self.level
        self.level = level(max(0, total - self._kept_by_exhausted), groups, at_most=not explored)
        return self.level > before

    def quota(self, account: Account) -> int:
        """The most examples this task may have by now."""
        if self._targets.examples is None:
            assert account.cap is not None
            return account.cap
        return self.level if account.cap is None else min(account.cap, self.level)

    def room(self, account: Account) -> int:
        """How many more examples the task may keep at the moment; not above 0 where its quota or the target is met."""
        room = self.quota(account) - account.kept
        total = self._targets.examples
        return room if total is None else min(room, total - self.kept)

    def next(self) -> Account | None:
        """The task to generate for, or None while all that can be expected suffices."""
        total = self._targets.examples
        if total is not None and self.kept + self._in_flight * self._generation.per_request >= total:
            return None
        while self._queue:
            filled, index, version = self._queue[0]
            account = self._accounts[index]
            if version != account.version or account.exhausted:
                heapq.heappop(self._queue)
            elif filled < self.quota(account):
                return account
            elif account.cap is not None and filled >= account.cap:
                heapq.heappop(self._queue)  # comes back when its account changes
            else:
                return None
        return None

    def issued(self, account: Account) -> int:
        """Notes a request for the task; returns how many it has had before."""
        account.asked += 1
        account.in_flight += 1
        self._in_flight += 1
        self._queue_up(account)
        return account.asked - 1

    def kept_one(self, account: Account) -> None:
        account.kept += 1
        self.kept += 1
        if account.exhausted:
            self._kept_by_exhausted += 1

    def settled(self, account: Account, *, judged: int, kept: int) -> bool:
        """An answer has come, and of what it held `judged` were decided and `kept` kept, the rest waits for a higher
        quota. None decided and none waiting is an answer in vain: pass judged=1. Says whether it exhausts the task.
        """
        account.in_flight -= 1
        account.answered += 1
        self._in_flight -= 1
        exhausted = False
        if judged:
            worthwhile = kept > 0 and kept >= self._generation.exhausted_below * judged
            account.barren = 0 if worthwhile else account.barren + 1
            exhausted = not account.exhausted and account.barren >= self._generation.exhausted_after
        if exhausted:
            account.exhausted = True
            self._exhausted_at[account.depth] = self._exhausted_at.get(account.depth, 0) + 1
            self._kept_by_exhausted += account.kept
        self._queue_up(account)
        return exhausted

    def requeue(self, account: Account) -> None:
        """The account's kept count changed outside an answer."""
        self._queue_up(account)

    def restore(self, level: int) -> None:
        """Once all accounts are open and restored."""
        self.level = level
        self.kept = sum(account.kept for account in self._accounts)
        self._in_flight = sum(account.in_flight for account in self._accounts)
        self._queue = []
        for account in self._accounts:
            if account.exhausted:
                self._kept_by_exhausted += account.kept
                self._exhausted_at[account.depth] = self._exhausted_at.get(account.depth, 0) + 1
            self._queue_up(account)

    def _queue_up(self, account: Account) -> None:
        account.version += 1
        filled = account.kept + account.in_flight * self._generation.per_request
        heapq.heappush(self._queue, (filled, account.index, account.version))
