"""Runs one command and all that it starts, and leaves nothing of it behind: `python -m … PARENT -- COMMAND…`.

An engine like vLLM is many processes; when the first of them is killed, the others stay and keep their memory. So the
command leads a process group of its own, and this process ends all of it: when it is told to (SIGTERM), when the pipe
on its standard input ends or its parent is gone, and when the command itself ends. Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

GRACE_S = 10.0
_POLL_S = 0.05
_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int, number: int) -> None:
    """Ask the kernel for this signal when the parent ends. Where it ended already, raises ProcessLookupError."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        raise ProcessLookupError(parent)


def end_group(group: int, grace_s: float) -> None:
    """SIGTERM for all of the group, and after a while SIGKILL for what is left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        while time.monotonic() < deadline:
            os.killpg(group, 0)  # raises when nobody is left
            time.sleep(_POLL_S)
        os.killpg(group, signal.SIGKILL)


def main(parent: int, command: list[str]) -> int:
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: told.set())

    def watch() -> None:
        while os.read(0, 4096):
            pass
        told.set()

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
    try:
        end_with_parent(parent, signal.SIGTERM)
    except ProcessLookupError:
        return 1
    # Its output goes where the errors go: standard output is for whoever started us.
    child = subprocess.Popen(  # noqa: S603 - what our parent wants run
        command, stdin=subprocess.DEVNULL, stdout=2, stderr=2, start_new_session=True
    )
    while child.poll() is None and not told.wait(_POLL_S):
        pass
    if child.poll() is None:
        reaper = threading.Thread(target=child.wait, daemon=True)  # else it would stay in its group as a zombie
        reaper.start()
        end_group(child.pid, GRACE_S)
        reaper.join(GRACE_S)
        return 0
    end_group(child.pid, 0.0)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[3:]))
