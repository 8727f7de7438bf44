"""The quotas of tasks: the most examples that each may have. They depend on counts, not on texts or trees.

With a target for the whole run, a quota is a level: the height to which all tasks, planned ones included, have to be
filled so that their sum is the target, no task above its own cap. The level is computed again as the tree grows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from explore_async.exploration.turns import FewestFirst, TurnPolicy
from explore_async.settings.recipe import Generation, Targets


def level(target: int, groups: Iterable[tuple[int | None, int]], *, at_most: bool) -> int:
    """The height h at which the sum of count * min(cap, h) over groups of (cap, count) reaches `target`.

    at_most: the greatest h that does not exceed the target (but at least 1), else the least h that reaches it. The
    greatest cap, where the caps allow less than the target.
    """
    return _level(target, tuple((cap, count) for cap, count in groups if count > 0 and cap != 0), at_most)


@lru_cache(64)  # it is asked for after each commit, and seldom changes
def _level(target: int, groups: tuple[tuple[int | None, int], ...], at_most: bool) -> int:
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
    """The counts of one task. `in_flight` counts requests that are issued and not committed."""

    index: int
    depth: int
    cap: int | None
    per_request: int
    kept: int = 0
    in_flight: int = 0
    asked: int = 0
    answered: int = 0
    barren: int = 0
    exhausted: bool = False

    @property
    def expected(self) -> int:
        """Examples kept, and those that the requests in flight ask for."""
        return self.kept + self.in_flight * self.per_request

    def state(self) -> list[Any]:
        return [self.kept, self.in_flight, self.asked, self.answered, self.barren, self.exhausted]

    def restore(self, state: list[Any]) -> None:
        self.kept, self.in_flight, self.asked, self.answered, self.barren, self.exhausted = state


class Allocation:
    """Owns the accounts of all tasks, in the order of their creation. `turns` chooses among those below their quota."""

    def __init__(self, targets: Targets, generation: Generation, turns: TurnPolicy | None = None) -> None:
        self._targets = targets
        self._generation = generation
        self._accounts: list[Account] = []
        self._turns = FewestFirst() if turns is None else turns
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
        account = Account(len(self._accounts), depth, self._targets.cap_at(depth), self._generation.per_request)
        self._accounts.append(account)
        self._turns.note(account)
        return account

    def plan(self, planned: Sequence[int], *, explored: bool) -> bool:
        """Takes in how many tasks each depth is going to have; returns True when the level rose."""
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

    def wanted(self, planned: Sequence[int]) -> int:
        """The examples that all tasks together may keep, the planned ones included: the target, or less where caps and
        exhausted tasks allow less.
        """
        total = self._targets.examples
        room = self._kept_by_exhausted
        for depth, count in enumerate(planned):
            cap = self._targets.cap_at(depth)
            left = count - self._exhausted_at.get(depth, 0)
            if cap is None and left:
                assert total is not None
                return total
            room += (cap or 0) * left
        return room if total is None else min(room, total)

    def quota(self, account: Account) -> int:
        """The most examples this task may have at the moment."""
        if self._targets.examples is None:
            assert account.cap is not None
            return account.cap
        return self.level if account.cap is None else min(account.cap, self.level)

    def room(self, account: Account) -> int:
        """The examples that the task may keep at the moment; not above 0 where its quota or the target is reached."""
        room = self.quota(account) - account.kept
        total = self._targets.examples
        return room if total is None else min(room, total - self.kept)

    def next(self) -> Account | None:
        """The account of the task to generate for; None while the requests in flight can be enough."""
        total = self._targets.examples
        if total is not None and self.kept + self._in_flight * self._generation.per_request >= total:
            return None
        task = self._turns.next(lambda task: self.quota(self._accounts[task.index]))
        return None if task is None else self._accounts[task.index]

    def issued(self, account: Account) -> int:
        """Counts a request for the task; returns how many it has had before."""
        account.asked += 1
        account.in_flight += 1
        self._in_flight += 1
        self._turns.note(account)
        return account.asked - 1

    def kept_one(self, account: Account) -> None:
        account.kept += 1
        self.kept += 1
        if account.exhausted:
            self._kept_by_exhausted += 1

    def committed(self, account: Account, *, judged: int, kept: int) -> bool:
        """Counts a committed request: of the examples it brought, `judged` were decided and `kept` kept, and the rest
        waits for a higher quota. Returns True when it exhausts the task. For an outcome without any example, pass
        judged=1.
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
        self._turns.note(account)
        return exhausted

    def changed(self, account: Account) -> None:
        """The account's kept count changed without a request being committed."""
        self._turns.note(account)

    def restore(self, level: int) -> None:
        """Brings the totals to those of the accounts, which are all open and restored."""
        self.level = level
        self.kept = sum(account.kept for account in self._accounts)
        self._in_flight = sum(account.in_flight for account in self._accounts)
        for account in self._accounts:
            if account.exhausted:
                self._kept_by_exhausted += account.kept
                self._exhausted_at[account.depth] = self._exhausted_at.get(account.depth, 0) + 1
            self._turns.note(account)
