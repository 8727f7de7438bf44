"""`run --view`: the view in a process of its own, so that its users cost the run nothing."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from explore_async.running.observer import Observer, RunInProgress
from explore_async.serving.servers.process import importable, python
from explore_async.web import PORT

if TYPE_CHECKING:
    from explore_async.exploration.values import Event
    from explore_async.serving.servers.download import Progress
    from explore_async.settings.recipe import Recipe

_STOPS_WITHIN_S = 5.0


class ViewBeside:
    """An observer that passes everything on to another one. Owns the process of the view, and the socket at which it
    listens: at the port of `view`, or a free one where that is taken.
    """

    def __init__(self, observer: Observer, path: Path) -> None:
        self._observer = observer
        self._path = path
        self._process: subprocess.Popen[str] | None = None
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        try:
            self._socket = socket.create_server(("127.0.0.1", PORT))
        except OSError:
            self._socket = socket.create_server(("127.0.0.1", 0))
        return self

    @property
    def url(self) -> str:
        assert self._socket is not None
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOPS_WITHIN_S)
            self._process.kill()

    def began(self, recipe: Recipe, run: RunInProgress) -> None:
        self._observer.began(recipe, run)
        assert self._socket is not None
        number = self._socket.fileno()
        ours = ("--socket", str(number), "--parent", str(os.getpid()))
        command = python("-m", "explore_async", "view", str(self._path), *ours, "--open")
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=importable(),
            pass_fds=[number],
            start_new_session=True,  # Ctrl-C is for the run, which may have to wait for completions
            text=True,
        )

    def phase(self, text: str) -> None:
        self._observer.phase(text)

    def fetching(self, progress: Progress) -> None:
        self._observer.fetching(progress)

    def committed(self, events: Sequence[Event]) -> None:
        self._observer.committed(events)

    def tick(self) -> None:
        self._observer.tick()


def from_elsewhere(url: str) -> str:
    """For a user who is logged in over the network: the way to see the view from there. Else empty."""
    if not os.environ.get("SSH_CONNECTION"):
        return ""
    place = url.removeprefix("http://")
    port = place.rpartition(":")[2]
    return f"; from your own machine: ssh -L {port}:{place} {platform.node()}, then open the same address there"


def open_browser(url: str) -> None:
    """Opens the URL where there is a browser with windows; without one the user has the URL on the terminal."""
    windows = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
    if windows or sys.platform == "darwin":  # a browser that draws on the terminal would take it from the run
        with suppress(webbrowser.Error, OSError):
            webbrowser.open(url)
