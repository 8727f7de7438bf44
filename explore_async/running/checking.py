"""Asks the user's checks: programs on this machine, which get examples as lines of JSON and answer each with a line."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from typing import Final

from explore_async.errors import ConfigError, ServerError
from explore_async.exploration import checks
from explore_async.exploration.values import Completion, Failure, Outcome
from explore_async.running.asking import Flight
from explore_async.running.check_process import CheckFailed, CheckNotStarted, CheckProcess
from explore_async.running.group_guard import GroupGuard
from explore_async.running.read_ahead import LookUp
from explore_async.serving.servers.process import importable, python
from explore_async.settings.recipe import Check, Recipe

_MOST_PROCESSES: Final = 8
_ATTEMPTS: Final = 2
"""Times that an example is given to a check which crashes or hangs."""
_LOADING_S: Final = 60.0
"""For the module of a function."""
_FAILED_IN_A_ROW: Final = 10
"""Examples: then the check itself is at fault, and the run ends."""


def require_programs(checks: Sequence[Check]) -> None:
    """Raises ConfigError where the program or the function of a check is not there. Takes the time that the modules of
    the functions need to load.
    """
    for number, check in enumerate(checks):
        if check.command and shutil.which(check.command[0]) is None:
            raise ConfigError(
                f"checks.{number}.command: {check.command[0]} is not there, or is no program; "
                "a relative path begins in the folder that `run` is called in"
            )
        if check.function and (fault := _fault_of(check.function)):
            raise ConfigError(f"checks.{number}.function: {check.function}: {fault}")


def _fault_of(name: str) -> str:
    """The reason why there is no such function, in a line; empty where there is one. A process of its own looks for it,
    as that runs the user's module.
    """
    command = python("-m", "explore_async.running.function_check", name)
    try:
        looked = subprocess.run(  # noqa: S603 - our own program
            command, stdin=subprocess.DEVNULL, capture_output=True, env=importable(), timeout=_LOADING_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"its module does not load within {_LOADING_S:g} s"
    if not looked.returncode:
        return ""
    said = looked.stderr.decode("utf-8", "replace").strip()
    return said.rpartition("\n")[2] or f"its module ends the process with code {looked.returncode}"


class Checking:
    """Owns the requests for checks that have no outcome, and the processes of the checks.

    `report` gets each outcome as it arrives; None where the run stops before. `others_begun` says if the endpoints are
    asked by now: before, nothing is, until the driver waits for an outcome that is not stored.
    """

    def __init__(
        self,
        recipe: Recipe,
        report: Callable[[Flight, Outcome | None], None],
        others_begun: Callable[[], bool],
    ) -> None:
        self._recipe = recipe
        self._report = report
        self._others_begun = others_begun
        self._queues: dict[str, asyncio.PriorityQueue[tuple[int, int, Flight]]] = {}
        self._failed_in_a_row: dict[str, int] = {}
        self._open: dict[int, Flight] = {}
        self._needed: int | None = None
        self._begun = asyncio.Event()
        self._guard = GroupGuard()
        self._workers: list[asyncio.Task[None]] = []
        self._stopping = False

    @property
    def number(self) -> int:
        """Requests that are not answered."""
        return len(self._open)

    def check_of(self, ordinal: int) -> str | None:
        """The name of the check that has not answered this request; None where none is asked."""
        flight = self._open.get(ordinal)
        check = None if flight is None else checks.check_of(self._recipe, flight.chat_request)
        return None if check is None else check.name

    def open(self, group: asyncio.TaskGroup) -> None:
        processes = min(_MOST_PROCESSES, os.cpu_count() or 1)
        for check in self._recipe.checks:
            self._queues[check.name] = asyncio.PriorityQueue()
            self._failed_in_a_row[check.name] = 0
            for _ in range(processes):
                self._workers.append(group.create_task(self._work(check), name=f"check {check.name}"))

    def add(self, missing: LookUp) -> None:
        """A request whose outcome is not stored."""
        request = missing.request
        check = checks.check_of(self._recipe, missing.chat_request)
        assert check is not None, "a request for a check"
        flight = Flight(request, missing.key, missing.chat_request, asyncio.get_running_loop().time())
        self._open[request.ordinal] = flight
        self._queues[check.name].put_nowait((request.due, request.ordinal, flight))
        if request.ordinal == self._needed or self._others_begun():
            self._begun.set()

    def need(self, ordinal: int) -> None:
        """The driver waits for this outcome. Where it is missing, asking begins."""
        self._needed = ordinal
        if ordinal in self._open:
            self._begun.set()

    def stop(self) -> None:
        """Asks nothing more; what is not answered is given up."""
        self._stopping = True
        for worker in self._workers:
            worker.cancel()
        for flight in self._open.values():
            self._report(flight, None)
        self._open.clear()

    async def close(self) -> None:
        for worker in self._workers:
            worker.cancel()
        if self._workers:
            await asyncio.wait(self._workers)
        await asyncio.to_thread(self._guard.close)

    async def _work(self, check: Check) -> None:
        await self._begun.wait()
        process = CheckProcess(check, self._guard)
        try:
            while True:
                _, _, flight = await self._queues[check.name].get()
                outcome = await self._outcome(check, process, flight)
                self._open.pop(flight.request.ordinal, None)
                self._report(flight, outcome)
        finally:
            await process.close()

    async def _outcome(self, check: Check, process: CheckProcess, flight: Flight) -> Outcome:
        began = asyncio.get_running_loop().time()
        line = flight.chat_request.messages[0]["content"].encode()
        fault, has_started = "", True
        for _ in range(_ATTEMPTS):
            try:
                answer = await process.ask(line)
            except CheckFailed as failed:
                fault, has_started = str(failed), not isinstance(failed, CheckNotStarted)
            else:
                self._failed_in_a_row[check.name] = 0
                return _completion(answer, asyncio.get_running_loop().time() - began)
        if not has_started:
            raise ServerError(
                f"the check {check.name} does not start: {fault}. Mend it; the same command goes on from here"
            )
        self._failed_in_a_row[check.name] += 1
        if self._failed_in_a_row[check.name] >= _FAILED_IN_A_ROW:
            raise ServerError(
                f"the check {check.name} failed for {_FAILED_IN_A_ROW} examples in a row: {fault}. Mend it; the same "
                "command goes on from here (--set operation.retry_failed=true asks again what failed)"
            )
        return Failure("unchecked", fault, _ATTEMPTS)


def _completion(answer: str, latency_s: float) -> Completion:
    return Completion(answer, "stop", 0, 0, latency_s=latency_s)
