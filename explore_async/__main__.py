"""The program's door: `explore-async` and `python -m explore_async`."""

from __future__ import annotations

import io
import os
import sys

from explore_async.cli.loading import loading
from explore_async.cli.signals import undisturbed

_STDERR = 2


def main() -> None:
    """Runs the program. Ctrl-C while it is still loading ends it as quietly as later on."""
    _take_standard_places()
    with loading():
        from explore_async.cli.app import main as run_program
    try:
        run_program()
    finally:
        undisturbed()


def _take_standard_places() -> None:
    """Whoever starts us without stdin, stdout or stderr leaves these numbers to the next files that are opened: what is
    said to stderr would go into the middle of a database.
    """
    while (place := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(place, True)
    os.close(place)
    for place, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(place, mode, encoding="utf-8", closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper):  # where the terminal knows few letters, the others are spelled out
        sys.stdout.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    main()
