"""The quotas of tasks: the most examples that each may have. They depend on counts, not on texts or trees.

With a target for the whole run, a quota is a level: the height to which all tasks, planned ones included, have to be
filled so that their sum is the target, no task above its own cap. The level is computed again as the tree grows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from explore_async.exploration.account import Account
from explore_async.exploration.forecast import Forecast
from explore_async.exploration.levels import level
from explore_async.exploration.pool import requests_before
from explore_async.exploration.turns import FewestFirst, TurnPolicy
from explore_async.settings.recipe import Generation, Targets

_NO_LIMIT: Final = 1 << 40
"""More examples than a run has."""
_STEPS: Final = 16
"""What a budget is expected to bring is taken over when it has changed by more than this part: a new level is work for
all tasks."""


class Allocation:
    """Owns the accounts of all tasks, in the order of their creation. `forecast` says what the requests in flight are
    going to bring, and `turns` chooses among the tasks that stay below their quota. `fewest_barren`: a task is not
    exhausted by requests for fewer examples than this.
    """

    def __init__(
        self,
        targets: Targets,
        generation: Generation,
        forecast: Forecast,
        turns: TurnPolicy | None = None,
        *,
        fewest_barren: int = 0,
    ) -> None:
        self._targets = targets
        self._total = targets.examples
        self._generation = generation
        self._forecast = forecast
        self._fewest_barren = fewest_barren
        self._accounts: list[Account] = []
        self._turns = FewestFirst() if turns is None else turns
        self._has_pools = generation.demonstrations_from == "pool"
        self._by_yield = generation.policy == "yield"
        self._is_by_budget = targets.only_budget is not None
        self._reach = 0
        """By a budget alone: the examples that it is expected to bring, as the level was computed for."""
        self._opened = False
        """All tasks are there and have had their first completion."""
        self._kept_by_exhausted = 0
        self._exhausted_at: dict[int, int] = {}
        self.level = 0
        """The quota of a task without a cap of its own, where there is a target for the whole run."""
        self._coming_level = 0
        """The level when all tasks are opened: requests are issued for it."""
        self.kept = self.unfinished = 0

    @property
    def target_reached(self) -> bool:
        return self._total is not None and self.kept >= self._total

    @property
    def lacks_one(self) -> bool:
        """True when one more kept instruction makes as many as the run is to have examples."""
        return self._total is not None and self.kept + self.unfinished == self._total - 1

    def open(self, depth: int, parent: Account | None = None, *, is_own: bool = True) -> Account:
        """The account of a new task. `parent`: that of the task above. `is_own`: False where it gets no examples here,
        as they are those of another shard.
        """
        account = Account(len(self._accounts), depth, self._targets.cap_at(depth) if is_own else 0, parent)
        self._accounts.append(account)
        self._note(account)
        return account

    def take_over(self, account: Account) -> None:
        """The task gets its examples here, and not in another shard."""
        before, account.cap = account.cap, self._targets.cap_at(account.depth)
        if account.exhausted:
            self._exhausted_at[account.depth] += (account.cap != 0) - (before != 0)
        self._note(account)

    def share_out(self, total: int | None) -> None:
        """Goes for this part of the recipe's target."""
        self._total = total

    def plan(self, planned: Sequence[int], *, explored: bool, opened: bool, reach: int = 0) -> bool:
        """Takes in how many tasks each depth is going to have; returns True when quotas rose.

        `explored`: all of them are there. `opened`: all of them have had their first completion. Until then the level
        is one that leaves room for all. `reach`: the examples that a budget brings, where there is no other target.
        """
        was_free, self._opened = self._is_free, opened
        reach = reach if opened else reach // 2
        if abs(reach - self._reach) * _STEPS > self._reach:
            self._reach = reach
        total = self._target
        if total is None:
            return False
        groups = [
            (self._targets.cap_at(depth), count - self._exhausted_at.get(depth, 0))
            for depth, count in enumerate(planned)
        ]
        before, coming_before = self.level, self._coming_level
        left = max(0, total - self._kept_by_exhausted)
        self.level = level(left, groups, at_most=not opened)
        self._coming_level = self.level if opened else level(left, groups, at_most=not explored)
        is_freed = self._is_free and not was_free
        if self._coming_level != coming_before or is_freed:
            self._forecast_all()
        return self.level > before or is_freed

    @property
    def _is_free(self) -> bool:
        """True when the level is no limit of a task: by yield, one may have more than another, and nobody knows how
        many a budget brings.
        """
        return (self._by_yield or self._is_by_budget) and self._opened

    @property
    def _target(self) -> int | None:
        """The examples that levels are computed for."""
        return self._reach if self._is_by_budget else self._total

    def wanted(self, planned: Sequence[int]) -> int:
        """The examples that all tasks together may keep, the planned ones included: the target, or less where caps and
        exhausted tasks allow less. By a budget alone: those that it is expected to bring.
        """
        total = self._target
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
        """The most examples that this task may have when all tasks are opened."""
        return self._quota_at(self._coming_level, account)

    def share(self, account: Account) -> int:
        """The examples that the task has when all are filled alike."""
        return self._limited(self._coming_level, account)

    def _quota_at(self, height: int, account: Account) -> int:
        if self._is_free:
            height = _NO_LIMIT if self._total is None else self._total
        return self._limited(height, account)

    def _limited(self, height: int, account: Account) -> int:
        if self._target is None:
            assert account.cap is not None
            return account.cap
        return height if account.cap is None else min(account.cap, height)

    def room(self, account: Account) -> int:
        """The examples that the task may keep at the moment; not above 0 where its quota or the target is reached."""
        if self._is_by_budget:
            return self._limited(_NO_LIMIT, account) - account.held  # what is there is paid for
        room = self._quota_at(self.level, account) - account.held
        total = self._total
        return room if total is None else min(room, total - self.kept - self.unfinished)

    def next(self) -> Account | None:
        """The account of the task to generate for; None while the requests in flight can be enough."""
        total = self._total
        if total is not None and self._forecast.is_enough(total):
            return None
        task = self._turns.next(
            share=lambda task: self.share(self._accounts[task.index]),
            quota=lambda task: self.quota(self._accounts[task.index]),
            opened=self._opened,
        )
        return None if task is None else self._accounts[task.index]

    def issued(self, account: Account, examples: int) -> None:
        """Counts a request for the task that asks for this many examples."""
        account.asked += 1
        account.in_flight += 1
        account.asked_for += examples
        self._note(account)

    def kept_one(self, account: Account) -> None:
        """Counts an example."""
        account.kept += 1
        self.kept += 1
        if account.exhausted:
            self._kept_by_exhausted += 1

    def began_one(self, account: Account) -> None:
        """Counts a kept instruction that needs more requests before it is an example."""
        account.unfinished += 1
        self.unfinished += 1
        if account.exhausted:
            self._kept_by_exhausted += 1

    def finished_one(self, account: Account, *, kept: bool) -> bool:
        """Counts the end of one of these: it is an example, or its place is free again. Returns True when so many in a
        row have failed that the task is exhausted.
        """
        account.unfinished -= 1
        self.unfinished -= 1
        account.kept += kept
        self.kept += kept
        account.failed += not kept
        account.harvest.find(kept - 1)
        account.failed_in_row = 0 if kept else account.failed_in_row + 1
        if account.exhausted and not kept:
            self._kept_by_exhausted -= 1
        exhausted = not account.exhausted and self._fails_always(account)
        if exhausted:
            self._exhaust(account)
        if self._forecast.learn_finished(kept=kept):
            self._forecast_all()
        self._note(account)
        return exhausted

    def spent(self, account: Account, cost: int, *, for_examples: bool) -> None:
        """Counts the cost of a request of the task that is being committed: for examples, or about one of its
        instructions.
        """
        if for_examples:
            above = account.parent if account.answered == 0 else None
            account.harvest.request(cost, None if above is None or above.cap == 0 else above.harvest)
        else:
            account.harvest.spend(cost)
            self._turns.note(account)

    def _fails_always(self, account: Account) -> bool:
        """True when less than the share that a task has to bring came through, by as many as would show it."""
        below = self._generation.exhausted_below
        return bool(below) and account.failed_in_row * below >= self._generation.exhausted_after

    def _exhaust(self, account: Account) -> None:
        account.exhausted = True
        self._exhausted_at[account.depth] = self._exhausted_at.get(account.depth, 0) + (account.cap != 0)
        self._kept_by_exhausted += account.held

    def committed(self, account: Account, *, asked_for: int, judged: int, kept: int, waiting: int) -> bool:
        """Counts a committed request for `asked_for` examples: `judged` were decided and `kept` kept, and `waiting`
        more wait for a higher quota than before. Returns True when it exhausts the task. For an outcome without any
        example, pass judged=1.
        """
        account.in_flight -= 1
        account.answered += 1
        account.asked_for -= asked_for
        account.waiting += waiting
        tried = max(judged, asked_for - waiting)
        if judged:
            worthwhile = kept > 0 and kept >= self._generation.exhausted_below * judged
            account.barren = 0 if worthwhile else account.barren + 1
            account.barren_tried = 0 if worthwhile else account.barren_tried + tried
        exhausted = not account.exhausted and (self._is_barren(account) or self.is_covered(account))
        if exhausted:
            self._exhaust(account)
        self._learn(account, tried=tried, kept=kept)
        return exhausted

    def _is_barren(self, account: Account) -> bool:
        long_enough = account.barren >= self._generation.exhausted_after
        return long_enough and account.barren_tried >= self._fewest_barren

    def is_covered(self, account: Account) -> bool:
        """True when so much of what the task has to give is there that it stops."""
        return self.stops_covered and account.harvest.coverage >= self._generation.covered_at

    @property
    def stops_covered(self) -> bool:
        """True when tasks stop by their estimated coverage."""
        return self._by_yield and self._generation.covered_at < 1

    def judged_later(self, account: Account, *, judged: int, kept: int) -> None:
        """Counts examples that waited and were decided, of which `kept` were kept."""
        account.waiting -= judged
        self._learn(account, tried=judged, kept=kept)

    def _learn(self, account: Account, *, tried: int, kept: int) -> None:
        account.tried += tried
        account.harvest.find(kept)
        if self._forecast.learn(tried=tried, found=kept):
            self._forecast_all()
        self._note(account)

    def _note(self, account: Account) -> None:
        self._foresee(account)
        self._turns.note(account)

    def _foresee(self, account: Account) -> None:
        self._forecast.note(account, self.quota(account))
        if self._has_pools and account.answered < requests_before(account.asked):
            account.open = False  # the prompt of its next request is not known yet

    def _forecast_all(self) -> None:
        for account in self._accounts:
            before = account.expected, account.open
            self._foresee(account)
            if (account.expected, account.open) != before:
                self._turns.note(account)

    def state(self) -> dict[str, Any]:
        """The state that `restore` needs beside the accounts, as JSON holds it."""
        return {
            "level": self.level,
            "coming_level": self._coming_level,
            "opened": self._opened,
            "reach": self._reach,
            "forecast": self._forecast.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Brings the totals to those of the accounts, which are all there and restored."""
        self.level, self._coming_level = state["level"], state["coming_level"]
        self._opened, self._reach = state["opened"], state["reach"]
        self.kept = sum(account.kept for account in self._accounts)
        self.unfinished = sum(account.unfinished for account in self._accounts)
        tried = sum(account.tried for account in self._accounts)
        found = sum(account.found for account in self._accounts)
        failed = sum(account.failed for account in self._accounts)
        self._forecast.restore(state["forecast"], tried=tried, found=found, kept=self.kept, failed=failed)
        for account in self._accounts:
            if account.exhausted:
                self._kept_by_exhausted += account.held
                self._exhausted_at[account.depth] = self._exhausted_at.get(account.depth, 0) + (account.cap != 0)
        for account in self._accounts:
            self._note(account)
