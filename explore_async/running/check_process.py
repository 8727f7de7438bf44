"""A process of a check: it gets examples as lines of JSON, and answers each with a line."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from typing import IO, Final

from explore_async.exploration import checks
from explore_async.exploration.items import Checked
from explore_async.exploration.values import Completion
from explore_async.serving.servers.process import importable, python
from explore_async.settings.recipe import Check

_STARTING_S: Final = 60.0
"""Beyond `timeout_s`, for the first example of a process, which may load much before it. Once that is seen, a process
that replaces it gets three times as long as it took.
"""
_FEWEST_STARTING_S: Final = 1.0
_LONGEST_ANSWER: Final = 1 << 20
_TAIL: Final = 2000


class CheckFailed(Exception):
    """A check crashed, took too long, or answered with something else than it should. The message says which."""


class CheckProcess:
    """Owns a process of a check, and replaces it where it crashes or hangs."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._process: asyncio.subprocess.Process | None = None
        self._errors: IO[bytes] | None = None
        self._starting_s = _STARTING_S

    async def ask(self, line: bytes) -> str:
        """The answer to an example. Raises CheckFailed."""
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
            if answer.endswith(b"\n") and isinstance(checks.parse(Completion(text, "stop", 0, 0)), Checked):
                if is_first:
                    took_s = asyncio.get_running_loop().time() - began
                    self._starting_s = min(self._starting_s, max(_FEWEST_STARTING_S, 3 * took_s))
                return text
            fault = f'not {{"ok": true or false}} but {text[:200]!r}' if answer else ""
        raise CheckFailed(await self._end(fault))

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
            raise CheckFailed(f"it cannot be started: {error.strerror}") from error

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
