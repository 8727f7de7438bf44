"""The processes of a torture: the server, and one life of the command line."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Literal, Self

from support.cli import PRELOAD, PRELOADED, ROOT, environment
from support.template import Copy, Template

Phase = Literal["start", "replay", "asking", "finishing", "ended"]
LOOK_S = 0.002
"""Seconds between two looks at a process."""
PATIENCE_S = 120.0
_ON_TERMINAL = """
import fcntl, os, signal, sys, termios
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup's would be handed on
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""A program that makes its stdin the controlling terminal, so that it gets SIGHUP, and then runs the command."""


def path_of(*folders: Path) -> str:
    return os.pathsep.join(map(str, (PRELOAD, *folders, ROOT, ROOT / "kernels", ROOT / "tests")))


class Server:
    """Owns the server's process. Killed and started again it has the same port and goes on in the same journal.

    With a template this process and the commands before it are copies of that one.
    """

    def __init__(self, folder: Path, latency_s: float, template: Template | None = None) -> None:
        self._journal = folder / "journal"
        self._latency_s = latency_s
        self.template = template
        self._process: subprocess.Popen[bytes] | Copy | None = None
        self._stdin = self._stdout = -1
        self.port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        stdin, self._stdin = os.pipe()  # closed when we go, however we go
        stdout, their_stdout = os.pipe()
        arguments = [str(self.port), str(self._journal), str(self._latency_s)]
        if self.template is not None:
            program = Path(__file__).with_name("server.py")
            self._process = self.template.copy(program, arguments, [stdin, their_stdout, 2], {})
        else:
            command = [sys.executable, "-m", "torture.server", *arguments]
            env = environment(PYTHONPATH=path_of())
            self._process = subprocess.Popen(command, stdin=stdin, stdout=their_stdout, env=env)
        os.close(stdin)
        os.close(their_stdout)
        with os.fdopen(stdout) as told:
            url = told.readline()
        assert url, "the server did not start"
        self.port = int(url.rsplit(":", 1)[1].split("/")[0])

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        os.close(self._stdin)

    def noted(self) -> int:
        """The end of the journal, from which to read on."""
        return self._journal.stat().st_size if self._journal.exists() else 0

    def asked(self, since: int = 0) -> Counter[int]:
        """The number of times that each request of a run has come, by its seed."""
        return Counter(seed for sign, seed in self._lines(since) if sign == "+" and seed)

    def in_flight(self, since: int = 0) -> int:
        """The number of requests of a run since then that are neither completed nor given up."""
        flying: set[int] = set()
        for sign, seed in self._lines(since):
            if sign == "=":
                flying.clear()
            elif sign == "+":
                flying.add(seed)
            else:
                flying.discard(seed)
        return len(flying - {0})

    def _lines(self, since: int) -> list[tuple[str, int]]:
        if not self._journal.exists():
            return []
        with self._journal.open("rb") as file:
            file.seek(since)
            return [(line[:1].decode(), int(line[1:])) for line in file.read().splitlines() if line[1:]]


class Life:
    """One process of the command line, from its launch to its end, on a terminal of its own where asked for.

    What it is doing is read from what it has written: live.json is there while it drives, and the server notes what it
    asks.
    """

    def __init__(self, command: list[str], directory: Path, server: Server, *, terminal: bool = False, **env: str):
        self._directory = directory
        self._server = server
        self._since = server.noted()
        self._live_before = self._live()
        self._told = False
        self.output = b""
        self._master: int | None = None
        whole = [sys.executable, "-m", "explore_async", *command]
        environ = environment(**{"PYTHONPATH": path_of(), **env})
        self._process: subprocess.Popen[bytes] | Copy
        self._pipe = -1
        if terminal:
            self._master, slave = pty.openpty()
            self._process = subprocess.Popen(
                [sys.executable, "-c", _ON_TERMINAL, *whole],
                **dict.fromkeys(("stdin", "stdout", "stderr"), slave),
                start_new_session=True,
                env=environ,
            )
            os.close(slave)
        else:
            self._pipe, theirs = os.pipe()
            if server.template is not None:
                with Path(os.devnull).open() as nothing:
                    files = [nothing.fileno(), theirs, theirs]
                    self._process = server.template.copy(PRELOADED, command, files, env)
            else:
                self._process = subprocess.Popen(whole, stdout=theirs, stderr=theirs, env=environ)
            os.close(theirs)
        self._reader = threading.Thread(target=self._read_terminal if terminal else self._read_pipe, daemon=True)
        self._reader.start()

    def phase(self) -> Phase:
        if self._ended():
            return "ended"
        live = self._live()
        if live is not None and live != self._live_before:
            self._told = True
            return "asking" if self._server.asked(self._since) else "replay"
        return "finishing" if self._told else "start"

    def in_flight(self) -> int:
        """The number of its requests that are at the server."""
        return self._server.in_flight(self._since)

    def wait_for(self, phase: Phase) -> None:
        """Until it is in that phase, or in a later one."""
        order: tuple[Phase, ...] = ("start", "replay", "asking", "finishing", "ended")
        until = time.monotonic() + PATIENCE_S
        while order.index(self.phase()) < order.index(phase):
            assert time.monotonic() < until, f"the command does not come to {phase}: {self.told()}"
            time.sleep(LOOK_S)

    def live_for(self, seconds: float) -> None:
        """Looks on for so long, or until it ends."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.phase() != "ended":
            time.sleep(LOOK_S)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def hang_up(self) -> None:
        """Closes its terminal."""
        assert self._master is not None
        master, self._master = self._master, None
        self._reader.join()
        os.close(master)

    def end(self) -> int:
        """Waits for its end; the exit code, negative for a signal."""
        until = time.monotonic() + PATIENCE_S
        while not self._ended():
            if time.monotonic() > until:
                self._process.kill()
                raise AssertionError(f"the command does not end: {self.told()}")
            time.sleep(LOOK_S)
        self._reader.join()
        if self._master is not None:
            os.close(self._master)
            self._master = None
        return int(self._process.returncode)

    def told(self) -> str:
        return self.output.decode(errors="replace")

    def _ended(self) -> bool:
        return self._process.poll() is not None

    def _live(self) -> tuple[int, int] | None:
        try:
            found = (self._directory / "live.json").stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns

    def _read_pipe(self) -> None:
        with os.fdopen(self._pipe, "rb") as pipe:
            self.output = pipe.read()

    def _read_terminal(self) -> None:
        while (master := self._master) is not None:
            readable, _, _ = select.select([master], [], [], 0.05)
            try:
                self.output += os.read(master, 65536) if readable else b""
            except OSError:  # nobody at the other end any more
                return
