"""Runs a command and ends all processes that it starts: `python -m … PARENT -- COMMAND…`.

An engine like vLLM is many processes; when the first is killed, the others stay and keep their memory. So the command
leads a process group of its own, and this process ends the whole group: after SIGTERM, when the pipe on its standard
input or its parent ends, and when the command itself ends. Standard library only.
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
    """Asks the kernel for this signal when the parent ends. Raises ProcessLookupError if it has ended already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        raise ProcessLookupError(parent)


def end_group(group: int, grace_s: float) -> None:
    """Sends SIGTERM to the whole group, and after `grace_s` SIGKILL to what is left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        while time.monotonic() < deadline:
            os.killpg(group, 0)  # raises when no process is left
            time.sleep(_POLL_S)
        os.killpg(group, signal.SIGKILL)


def main(parent: int, command: list[str]) -> int:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())

    def watch() -> None:
        while os.read(0, 4096):
            pass
        stop.set()

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
    try:
        end_with_parent(parent, signal.SIGTERM)
    except ProcessLookupError:
        return 1
    # Its output goes to standard error: standard output belongs to our parent.
    child = subprocess.Popen(  # noqa: S603 - the command of our parent
        command, stdin=subprocess.DEVNULL, stdout=2, stderr=2, start_new_session=True
    )
    while child.poll() is None and not stop.wait(_POLL_S):
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
