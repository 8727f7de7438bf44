"""A process of a check: it gets examples as lines of JSON, and answers each with a line.

An answer is believed once the process reads on: then it has written all that it has to say to the example, and a
second line is found before another example could get it. So the first byte of each line is sent ahead.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from typing import IO, Final

import orjson

from explore_async.exploration import checks
from explore_async.exploration.items import Checked
from explore_async.exploration.values import Completion
from explore_async.running.group_guard import GroupGuard
from explore_async.running.line_pipes import LinePipes
from explore_async.serving.servers.process import importable, python
from explore_async.settings.recipe import Check

_STARTING_S: Final = 60.0
"""Until a process reads: it may load much before."""
_AHEAD: Final = b"{"
"""The beginning of every example."""
_TAIL: Final = 2000
_EXCERPT: Final = 200


class CheckFailed(Exception):
    """A check crashed, took too long, or answered with something else than it should. The message says which."""


class CheckNotStarted(CheckFailed):
    """It came to no example."""


class CheckProcess:
    """Owns a process of a check, and replaces it where it crashes or hangs. `guard`, which the caller closes, ends it
    where we are killed.
    """

    def __init__(self, check: Check, guard: GroupGuard, *, starting_s: float = _STARTING_S) -> None:
        self._check = check
        self._guard = guard
        self._starting_s = starting_s
        self._process: asyncio.subprocess.Process | None = None
        self._pipes: LinePipes | None = None
        self._errors: IO[bytes] | None = None

    async def ask(self, line: bytes) -> str:
        """The answer to an example, which is a JSON object. Raises CheckFailed."""
        if self._process is None:
            await self._start()
        assert self._pipes is not None
        pipes, text = self._pipes, ""
        fault, reads_on = None, False
        try:
            async with asyncio.timeout(self._check.timeout_s):
                await pipes.write(line.removeprefix(_AHEAD) + b"\n")
                text = _text_of(await pipes.line(), line)
                await pipes.write(_AHEAD)
                reads_on = await pipes.until_read()
            if pipes.surplus:
                fault = f"more than one line for an example: after {text[:_EXCERPT]} came {_excerpt(pipes.surplus)}"
        except TimeoutError:
            fault = (
                f"no answer within {self._check.timeout_s:g} s (has the program to flush its output after each line?)"
            )
            if text:
                fault = f"it answers, and does not read on within {self._check.timeout_s:g} s"
        except (CheckFailed, ValueError) as failed:
            fault = str(failed)
        if fault is None:
            if not reads_on:
                await self.close()
            return text
        raise CheckFailed(await self._end(fault))

    async def _start(self) -> None:
        """Starts a process, and waits until it reads. Raises CheckNotStarted."""
        check = self._check
        own = python("-m", "explore_async.running.function_check", check.function)
        self._pipes = LinePipes()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        try:
            await asyncio.to_thread(self._guard.open)
            self._process = await asyncio.create_subprocess_exec(
                *(check.command or own),
                stdin=self._pipes.stdin,
                stdout=self._pipes.stdout,
                stderr=self._errors,
                env={**importable(), "PYTHONUNBUFFERED": "1"},
                start_new_session=True,  # Ctrl-C is for the run
            )
        except OSError as error:
            await self.close()
            raise CheckNotStarted(f"it cannot be started: {error.strerror}") from error
        self._guard.add(self._process.pid)
        self._pipes.began()
        try:
            async with asyncio.timeout(self._starting_s):
                await self._pipes.write(_AHEAD)
                reads = await self._pipes.until_read()
        except TimeoutError:
            fault = f"it does not read its standard input within {self._starting_s:g} s of its start"
        else:
            if reads and not self._pipes.surplus:
                return
            fault = f"it writes {_excerpt(surplus)} before it reads" if (surplus := self._pipes.surplus) else ""
        raise CheckNotStarted(await self._end(fault))

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
        said = await asyncio.to_thread(_tail_of, self._errors)
        await self.close()
        return f"{fault}: {said}" if said else fault

    async def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            self._guard.remove(process.pid)
        if self._pipes is not None:
            self._pipes.close()
            self._pipes = None
        if self._errors is not None:
            self._errors.close()
            self._errors = None


def _text_of(answer: bytes, line: bytes) -> str:
    """The answer to the example of the line. Raises CheckFailed: with no words where there is no answer."""
    if not answer:
        raise CheckFailed
    text = answer.decode("utf-8", "replace").strip()
    if not answer.endswith(b"\n") or not isinstance(checks.parse(Completion(text, "stop", 0, 0)), Checked):
        raise CheckFailed(f'not {{"ok": true or false}} but {_excerpt(answer)}')
    asked, said = orjson.loads(line), orjson.loads(text)
    if "id" in asked and said.get("id", asked["id"]) != asked["id"]:
        raise CheckFailed(f"an answer with the id {said['id']!r} to the example {asked['id']!r}")
    return text


def _tail_of(file: IO[bytes]) -> str:
    file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
    return file.read().decode("utf-8", "replace").strip()


def _excerpt(output: bytes) -> str:
    return repr(output.decode("utf-8", "replace").strip()[:_EXCERPT])
