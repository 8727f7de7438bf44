"""Forecasts of the examples that the requests in flight are going to bring. They decide when to ask for more.

A forecast sees counts of issued and committed requests only. All its figures are whole numbers, so that sums depend on
no order: a run that goes on from a checkpoint has the same.
"""

from __future__ import annotations

from math import isqrt
from typing import Any, Final, Protocol

from explore_async.exploration.account import Account
from explore_async.settings.recipe import Generation


class Forecast(Protocol):
    """Owns `open`, `expected`, `likely` and `doubt` of all accounts."""

    def note(self, account: Account, quota: int) -> None:
        """Forecasts the account anew: its counts or its quota have changed."""

    def learn(self, *, tried: int, found: int) -> bool:
        """Takes in examples that were decided, or their instructions: so many of them are new. True when all accounts
        have to be noted anew.
        """

    def learn_finished(self, *, kept: bool) -> bool:
        """Takes in the end of a kept instruction: it is an example or not. True as for `learn`."""

    def is_enough(self, total: int) -> bool:
        """True when the requests in flight can be expected to bring the run to `total` examples."""

    def state(self) -> Any:
        """The state that `restore` needs beside the accounts, as JSON holds it."""

    def restore(self, state: Any, *, tried: int, found: int, kept: int, failed: int) -> None:
        """Brings it to this state. The counts are of all accounts, which are noted afterwards."""


class AsAsked:
    """Every example that is asked for is going to be kept: the forecast of runs by version 2 or 3 of the rules."""

    def __init__(self, generation: Generation) -> None:
        self._per_request = generation.per_request
        self._sum = 0

    def note(self, account: Account, quota: int) -> None:
        del quota
        account.open = not account.exhausted
        account.expected = account.held + account.in_flight * self._per_request
        self._sum += account.expected - account.likely
        account.likely = account.expected

    def learn(self, *, tried: int, found: int) -> bool:
        del tried, found
        return False

    def learn_finished(self, *, kept: bool) -> bool:
        del kept
        return False

    def is_enough(self, total: int) -> bool:
        return self._sum >= total

    def state(self) -> Any:
        return None

    def restore(self, state: Any, *, tried: int, found: int, kept: int, failed: int) -> None:
        pass


_ONE: Final = 256
"""An example, in the units of `likely`."""
_ASSUMED_TRIED, _ASSUMED_KEPT = 48, 42
"""Examples that a run is assumed to have tried and kept before its first."""
_ASSUMED_PASSED = 24
"""Kept instructions that are assumed to have become examples before the first."""
_ASSUMED_OF_TASK = 128
"""Examples that a task is assumed to have tried before its first, with the yield of the run."""
_STEP = _ONE // 64
"""The yield of the run changes in steps of at least this, since each step is work for all tasks."""
_LEAST = _ONE // 8
_FEWEST_IN_FLIGHT, _MOST_TOGETHER, _PART_OF_ANSWERED = 32, 4096, 8


class ByYield:
    """The share of examples that is kept is that of the committed requests, of the task and of the whole run.

    A run is asked for a standard deviation more than it needs, rather than one request after another at its end. A task
    has at most 32 requests outstanding, or an eighth of those answered if that is more, so that little is asked in vain
    when it runs dry. Where there are fewer than 128 tasks, they have 4,096 together.
    """

    def __init__(self, most_tasks: int) -> None:
        """`most_tasks`: the most tasks that the run can have."""
        self._in_flight = max(_FEWEST_IN_FLIGHT, _MOST_TOGETHER // most_tasks)
        self._tried, self._found = _ASSUMED_TRIED, _ASSUMED_KEPT
        self._yield = _ONE * self._found // self._tried
        self._finished = self._passed = _ASSUMED_PASSED
        self._passing = _ONE
        self._likely = self._doubt = 0

    def note(self, account: Account, quota: int) -> None:
        limit = max(self._in_flight, account.answered // _PART_OF_ANSWERED)
        account.open = account.asked > 0 and account.in_flight < limit and not account.exhausted
        of_run = _ASSUMED_OF_TASK * self._yield
        part = max(_LEAST, (_ONE * account.found + of_run) // (account.tried + _ASSUMED_OF_TASK))
        part = max(_LEAST, min(part, _ONE) * self._passing // _ONE)
        coming = (account.asked_for + account.waiting) * part
        doubt = coming * (_ONE - part)
        held = _ONE * account.kept + account.unfinished * self._passing
        account.expected = (held + coming + _ONE // 2) // _ONE
        room = max(0, _ONE * quota - held)
        likely = held + min(coming, room)
        if coming - 2 * isqrt(doubt) > room:
            doubt = 0
        self._likely += likely - account.likely
        self._doubt += doubt - account.doubt
        account.likely, account.doubt = likely, doubt

    def learn(self, *, tried: int, found: int) -> bool:
        self._tried += tried
        self._found += found
        seen = _ONE * self._found // self._tried
        if abs(seen - self._yield) < _STEP:
            return False
        self._yield = seen
        return True

    def learn_finished(self, *, kept: bool) -> bool:
        self._finished += 1
        self._passed += kept
        seen = max(_LEAST, _ONE * self._passed // self._finished)
        if abs(seen - self._passing) < _STEP:
            return False
        self._passing = seen
        return True

    def is_enough(self, total: int) -> bool:
        return self._likely - isqrt(self._doubt) >= _ONE * total

    def state(self) -> Any:
        return [self._yield, self._passing]

    def restore(self, state: Any, *, tried: int, found: int, kept: int, failed: int) -> None:
        self._yield, self._passing = state
        self._tried, self._found = _ASSUMED_TRIED + tried, _ASSUMED_KEPT + found
        self._finished, self._passed = _ASSUMED_PASSED + kept + failed, _ASSUMED_PASSED + kept
