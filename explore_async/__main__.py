"""The entry point of `explore-async` and `python -m explore_async`."""

from __future__ import annotations

import gc
import io
import os
import sys

from explore_async.cli.loading import loading
from explore_async.cli.signals import ignore_interrupts

_STDERR = 2


def main() -> None:
    """Runs the program. Ctrl-C ends it without a traceback, also while modules load."""
    _open_standard_streams()
    with loading():
        from explore_async.cli.app import main as run_program
    try:
        run_program()
    finally:
        ignore_interrupts()
        if "torch" not in sys.modules:  # whose compiler would call all that is not collected a leak, on stderr
            gc.freeze()  # the process ends: a last collection would pass over all modules in vain


def _open_standard_streams() -> None:
    """Opens stdin, stdout and stderr where the caller closed them. Otherwise the next opened file gets their number,
    and messages to stderr go into a database.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(number, True)
    os.close(number)
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper):  # a character that the terminal does not know is written as an escape
        sys.stdout.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    main()
