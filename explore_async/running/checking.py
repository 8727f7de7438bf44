"""Asks the user's checks: programs on this machine, which get examples as lines of JSON and answer each with a line."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Sequence
from typing import IO, Final

from explore_async.errors import ConfigError, ServerError
from explore_async.exploration import checks
from explore_async.exploration.items import Checked
from explore_async.exploration.values import Completion, Failure, Outcome
from explore_async.running.asking import Flight
from explore_async.running.read_ahead import LookUp
from explore_async.serving.servers.process import importable, python
from explore_async.settings.recipe import Check, Recipe

_MOST_PROCESSES: Final = 8
_ATTEMPTS: Final = 2
"""Times that an example is given to a check which crashes or hangs."""
_FAILED_IN_A_ROW: Final = 10
"""Examples: then the check itself is at fault, and the run ends."""
_STARTING_S: Final = 60.0
"""Beyond `timeout_s`, for the first example of a process, which may load much before it. Once that is seen, a process
that replaces it gets three times as long as it took.
"""
_FEWEST_STARTING_S: Final = 1.0
_LONGEST_ANSWER: Final = 1 << 20
_TAIL: Final = 2000


def require_programs(checks: Sequence[Check]) -> None:
    """Raises ConfigError where the program of a check is not there."""
    for number, check in enumerate(checks):
        if check.command and shutil.which(check.command[0]) is None:
            raise ConfigError(
                f"checks.{number}.command: {check.command[0]} is not there, or is no program; "
                "a relative path begins in the folder that `run` is called in"
            )


class _CheckFailed(Exception):
    """A check crashed, took too long, or answered with something else than it should. The message says which."""


class _Process:
    """Owns a process of a check, and replaces it where it crashes or hangs."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._process: asyncio.subprocess.Process | None = None
        self._errors: IO[bytes] | None = None
        self._starting_s = _STARTING_S

    async def ask(self, line: bytes) -> str:
        """The answer to an example. Raises _CheckFailed."""
        is_first = self._process is None
        if is_first:
            await self._start()
        timeout_s = self._check.timeout_s + (self._starting_s if is_first else 0)
        began = asyncio.get_running_loop().time()
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(timeout_s):
                process.stdin.write(line + b"\n")
                await process.stdin.drain()
                answer = await process.stdout.readline()
        except TimeoutError:
            fault = f"no answer within {timeout_s:g} s (has the program to flush its output after each line?)"
        except (BrokenPipeError, ConnectionResetError):
            fault = ""
        except ValueError:
            fault = f"an answer of more than {_LONGEST_ANSWER:,} bytes"
        else:
            text = answer.decode("utf-8", "replace").strip()
            if answer.endswith(b"\n") and isinstance(checks.parse(_completion(text, 0.0)), Checked):
                if is_first:
                    took_s = asyncio.get_running_loop().time() - began
                    self._starting_s = min(self._starting_s, max(_FEWEST_STARTING_S, 3 * took_s))
                return text
            fault = f'not {{"ok": true or false}} but {text[:200]!r}' if answer else ""
        raise _CheckFailed(await self._end(fault))

    async def _start(self) -> None:
        check = self._check
        own = python("-m", "explore_async.running.function_check", check.function)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(check.command or own),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=self._errors,
                limit=_LONGEST_ANSWER,
                env={**importable(), "PYTHONUNBUFFERED": "1"},
                start_new_session=True,  # Ctrl-C is for the run
            )
        except OSError as error:
            raise _CheckFailed(f"it cannot be started: {error.strerror}") from error

    async def _end(self, fault: str) -> str:
        """Ends the process; returns the fault with what it wrote to its standard error."""
        assert self._process is not None
        assert self._errors is not None
        if not fault:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._process.wait()
            code = self._process.returncode
            fault = "it closed its output" if code is None else f"it ended with code {code}"
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - _TAIL))
        said = self._errors.read().decode("utf-8", "replace").strip()
        await self.close()
        return f"{fault}: {said}" if said else fault

    async def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        if self._errors is not None:
            self._errors.close()
            self._errors = None


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
        self._workers: list[asyncio.Task[None]] = []
        self._stopping = False

    @property
    def number(self) -> int:
        """Requests that are not answered."""
        return len(self._open)

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

    async def _work(self, check: Check) -> None:
        await self._begun.wait()
        process = _Process(check)
        try:
            while True:
                _, _, flight = await self._queues[check.name].get()
                outcome = await self._outcome(check, process, flight)
                self._open.pop(flight.request.ordinal, None)
                self._report(flight, outcome)
        finally:
            await process.close()

    async def _outcome(self, check: Check, process: _Process, flight: Flight) -> Outcome:
        began = asyncio.get_running_loop().time()
        line = flight.chat_request.messages[0]["content"].encode()
        fault = ""
        for _ in range(_ATTEMPTS):
            try:
                answer = await process.ask(line)
            except _CheckFailed as failed:
                fault = str(failed)
            else:
                self._failed_in_a_row[check.name] = 0
                return _completion(answer, asyncio.get_running_loop().time() - began)
        self._failed_in_a_row[check.name] += 1
        if self._failed_in_a_row[check.name] >= _FAILED_IN_A_ROW:
            raise ServerError(
                f"the check {check.name} failed for {_FAILED_IN_A_ROW} examples in a row: {fault}. Mend it; the same "
                "command goes on from here (--set operation.retry_failed=true asks again what failed)"
            )
        return Failure("repeated", f"the check {check.name}: {fault}", _ATTEMPTS)


def _completion(answer: str, latency_s: float) -> Completion:
    return Completion(answer, "stop", 0, 0, latency_s=latency_s)
