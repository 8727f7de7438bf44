"""Compares two mathematical texts by math-verify, in processes of their own.

math-verify ends long computations by signals, which only the main thread of a process can have, and some it cannot end.
So each process has a limit of memory, and is replaced where it gives no answer in time.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
from functools import lru_cache
from types import TracebackType
from typing import Any, Final, Self

import orjson

from explore_async.errors import ConfigError
from explore_async.exploration.final_answers import marked_answer
from explore_async.running.check_process import CheckFailed, CheckProcess
from explore_async.running.group_guard import GroupGuard
from explore_async.settings.recipe import Check

_MOST_PROCESSES: Final = 8
_STEP_S: Final = 5
"""Seconds that math-verify has to read a text, and to compare two."""
_PAIR_S: Final = 30.0
"""Seconds until a process that is stuck with a pair is replaced."""
_LONGEST: Final = 20_000
"""Characters of a text that are read, from its end: there the answer stands."""
UNDECIDED: Final = "undecided"
"""The reason of a process that comes to no end."""


def need_extra() -> None:
    """Raises ConfigError where the extra is not installed."""
    if importlib.util.find_spec("math_verify") is None:
        raise ConfigError("math-verify is not installed: pip install 'explore-async[maths]'")


class MathsEquality:
    """Owns the processes that compare, and what they found."""

    def __init__(self) -> None:
        check = Check(name="maths", function="explore_async.evaluation.maths_check:bounded_equal", timeout_s=_PAIR_S)
        self._guard = GroupGuard()
        self._processes = [CheckProcess(check, self._guard) for _ in range(min(_MOST_PROCESSES, os.cpu_count() or 1))]
        self._free: asyncio.Queue[CheckProcess] = asyncio.Queue()
        self._found: dict[tuple[str, str], bool | None] = {}
        """None where math-verify came to no end."""

    async def __aenter__(self) -> Self:
        need_extra()
        for process in self._processes:
            self._free.put_nowait(process)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            await process.close()
        await asyncio.to_thread(self._guard.close)

    async def equal(self, reference: str, text: str) -> bool:
        """True where the answer in the text equals the reference, which is an answer alone or a text with one. Where
        math-verify comes to no end, they differ.
        """
        pair = reference[-_LONGEST:], text[-_LONGEST:]
        if pair not in self._found:
            process = await self._free.get()
            try:
                self._found[pair] = await _asked(process, *pair)
            finally:
                self._free.put_nowait(process)
        return self._found[pair] is True

    def is_undecided(self, reference: str, text: str) -> bool:
        """True where these were compared, and math-verify came to no end."""
        return self._found.get((reference[-_LONGEST:], text[-_LONGEST:]), False) is None


async def _asked(process: CheckProcess, reference: str, text: str) -> bool | None:
    try:
        said = orjson.loads(await process.ask(orjson.dumps({"reference": reference, "text": text})))
    except CheckFailed:
        return None
    return None if said["reason"] == UNDECIDED else said["ok"] is True


def equal(reference: str, text: str) -> bool:
    """True where math-verify takes the answer in the text for the reference. It reads the marked answer, and a text
    without any by its own rules. Only for the main thread of a process. Raises TimeoutError.
    """
    from math_verify import verify
    from math_verify.errors import TimeoutException

    try:
        wanted, given = _read(reference), _read(text)
        return bool(wanted and given and verify(wanted, given, timeout_seconds=_STEP_S, raise_on_error=True))
    except TimeoutException as error:
        raise TimeoutError from error
    except (MemoryError, RecursionError):
        raise
    except Exception:  # noqa: BLE001 - sympy raises any kind on what it cannot read or compare
        return False


@lru_cache(maxsize=1000)
def _read(text: str) -> list[Any]:
    """What math-verify finds in the text. Empty where it finds nothing."""
    from math_verify import parse

    marked = marked_answer(text)
    given = text if marked is None else f"\\boxed{{{marked}}}"
    found: list[Any] = parse(given, parsing_timeout=_STEP_S, raise_on_error=True)
    return found
