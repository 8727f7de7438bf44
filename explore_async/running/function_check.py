"""The program of a check that is a function of the user's: JSON lines in, JSON lines out."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

import orjson

GROUP = "explore_async.checks"
"""Entry points of this group are checks."""


def main() -> None:
    """Answers each line of the standard input. What the function prints goes to the standard error. Where there is no
    such function, the last line there says why.
    """
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    try:
        check = _found(sys.argv[1])
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a module of the user's may raise any
        sys.stderr.write(f"{_fault(error)}\n")
        sys.stderr.flush()
        os._exit(1)  # nothing that its module has begun says more
    for line in sys.stdin.buffer:
        ok, reason = _answer(check(orjson.loads(line)))
        with contextlib.suppress(BrokenPipeError):
            answers.write(orjson.dumps({"ok": ok, "reason": reason}, option=orjson.OPT_APPEND_NEWLINE))


def _fault(error: BaseException) -> str:
    """The error in a line, with its place where that is in code of the user's."""
    words = " ".join(str(error).split())
    place = traceback.extract_tb(error.__traceback__)[-1]
    if place.filename in {__file__, importlib.__file__} or place.filename.startswith("<frozen"):
        return words
    return f"{type(error).__name__}: {words} ({place.filename}, line {place.lineno})"


def _found(name: str) -> Callable[[dict[str, Any]], Any]:
    """Raises an ordinary Python error where there is no such function."""
    module, colon, path = name.partition(":")
    if not colon:
        (point,) = entry_points(group=GROUP, name=name) or (None,)
        if point is None:
            raise LookupError(
                f"no installed package has an entry point {name} of the group {GROUP}; a function is module:function"
            )
        found = point.load()
    else:
        sys.path.insert(0, "")
        found = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"{name} is no function")
    checked: Callable[[dict[str, Any]], Any] = found
    return checked


def _answer(given: object) -> tuple[bool, str]:
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], bool):  # noqa: PLR2004 - a pair
        return given[0], str(given[1])
    if isinstance(given, bool):
        return given, ""
    raise TypeError(f"a check returns true or false, or a pair of these with a reason; not {given!r}")


if __name__ == "__main__":
    main()
