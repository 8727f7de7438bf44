"""Ends the process groups of programs that would outlive this process, however it ends.

A program that reads its standard input ends with us, as that ends; one that hangs does not. So a process of its own,
which is this module without any other of ours, waits for our end and then kills the groups that are left.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import IO


class GroupGuard:
    """Owns the process that waits, from `open` to `close`."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._to = -1
        self._opening = threading.Lock()

    def open(self) -> None:
        """Starts the process that waits, where it does not run yet; for a thread. Raises OSError."""
        with self._opening:
            if self._process is not None:
                return
            theirs, self._to = os.pipe()
            os.set_blocking(self._to, False)
            with os.fdopen(theirs, "rb") as stdin, _closed_on_error(self._to):
                self._process = subprocess.Popen(  # noqa: S603 - our own program
                    [sys.executable, "-I", "-S", __file__],
                    stdin=stdin,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # a signal to our own group is not for it
                )

    def add(self, group: int) -> None:
        """From now on this group ends with us."""
        self._tell(f"+{group}")

    def remove(self, group: int) -> None:
        """It has ended."""
        self._tell(f"-{group}")

    def close(self) -> None:
        """Ends the groups that are left; for a thread."""
        if self._process is not None:
            os.close(self._to)
            self._process.wait()
            self._process = None

    def _tell(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._to, f"{line}\n".encode())


@contextlib.contextmanager
def _closed_on_error(end: int) -> Iterator[None]:
    try:
        yield
    except OSError:
        os.close(end)
        raise


def main(lines: IO[str]) -> None:
    groups: set[int] = set()
    for line in lines:
        (groups.add if line.startswith("+") else groups.discard)(int(line[1:]))
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.stdin)
