"""Runs a command and ends all processes that it starts: `python -m … PARENT -- COMMAND…`.

An engine like vLLM is many processes; when the first is killed, the others stay and keep their memory. So the command
leads a process group of its own, and the whole group ends: after SIGTERM, when the pipe on the standard input or the
parent ends, and when the command itself ends. A child of this process sees to it, so that the group also ends where
this process is killed. Standard library only.
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
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


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
    try:
        lifeline, ours = os.pipe()
        ends = [ours]

        def end(*_: object) -> None:
            with contextlib.suppress(IndexError):
                os.close(ends.pop())

        for number in _STOPS:
            signal.signal(number, end)
        end_with_parent(parent, signal.SIGTERM)
    except ProcessLookupError:
        return 1
    if (worker := os.fork()) == 0:
        os.close(ours)
        os._exit(_guarded(lifeline, command))
    os.close(lifeline)

    def watch() -> None:
        while os.read(0, 4096):
            pass
        end()

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
    return os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])


def _guarded(lifeline: int, command: list[str]) -> int:
    """Runs the command until it ends, or until the other end of the pipe `lifeline` is closed; then ends its group."""
    os.setsid()
    os.dup2(2, 1)  # standard output belongs to our parent
    stop = threading.Event()
    for number in _STOPS:
        signal.signal(number, lambda *_: stop.set())

    def watch() -> None:
        os.read(lifeline, 1)
        stop.set()

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603 - our parent's
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
        return 1
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
