"""A server process that we start: its log, its readiness, its end. It ends when this process ends.

The caller gives the command. The command reads the pipe on its standard input, which is open as long as this process
lives, however that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, NoReturn

from explore_async.errors import ServerError

_POLL_S = 0.05
_PROGRESS_S = 1.0
_LOG_TAIL_LINES = 20
_LOG_TAIL_BYTES = 16_384


def python(*arguments: str) -> list[str]:
    """A command for our own interpreter. Without -P it would first import from the working directory, which may be a
    folder of data.
    """
    return [sys.executable, "-P", *arguments]


def importable() -> dict[str, str]:
    """Our environment variables, with a path on which a new interpreter finds explore_async."""
    root = str(Path(__file__).parents[3])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}


class ServerProcess:
    """Owns the process and its log, from `spawn` to `stop`. `name` is what messages call the server.

    `log_path` receives its output; without it the log lives as long as the server. `stop_s`: seconds that it gets to
    end after SIGTERM.
    """

    def __init__(self, name: str, *, log_path: Path | None, stop_s: float) -> None:
        self._name = name
        self._log_path = log_path
        self._stop_s = stop_s
        self._log: IO[bytes] | None = None
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def has_died(self) -> bool:
        return self._process is not None and self._process.returncode is not None

    async def spawn(self, *command: str, environment: Mapping[str, str]) -> None:
        """Runs the command with these variables beside our own."""
        await asyncio.to_thread(self._open_log)
        self._process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,  # held open; its end shows the server that we are gone
            stdout=asyncio.subprocess.PIPE,  # a line or nothing
            stderr=self._log,
            env={**importable(), **environment},
            start_new_session=True,  # Ctrl-C is for the run, which needs the server to finish what is in flight
        )

    async def read_first_line(self) -> str:
        """The first line on its standard output. Raises ServerError when it ends before it prints a line."""
        assert self._process is not None
        assert self._process.stdout is not None
        line = (await self._process.stdout.readline()).decode().strip()
        if not line:
            await self._process.wait()
            raise self.failure("did not start")
        return line

    async def wait_until_healthy(
        self, address: str, on_progress: Callable[[str, float], None] = lambda *_: None
    ) -> None:
        """Waits for a 200 of `address`/health. Meanwhile `on_progress` gets the log's last line and the seconds so far.

        Raises ServerError when the process dies first.
        """
        import aiohttp  # takes its time, and a run may replay without a server

        assert self._process is not None
        began = reported = time.monotonic()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            while True:
                if self._process.returncode is not None:
                    raise self.failure("died while starting")
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with session.get(f"{address}/health") as response:
                        if response.ok:
                            return
                if time.monotonic() - reported > _PROGRESS_S:
                    reported = time.monotonic()
                    on_progress(self._log_tail(1), reported - began)
                await asyncio.sleep(_POLL_S)

    async def watch(self) -> NoReturn:
        """Returns only by raising: ServerError with the log's tail when the process has died."""
        assert self._process is not None
        await self._process.wait()
        raise self.failure("died")

    async def stop(self) -> None:
        """Ends the process by SIGTERM, after `stop_s` by SIGKILL, also when cancelled meanwhile."""
        process = self._process
        try:
            if process is not None and process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                try:
                    async with asyncio.timeout(self._stop_s):
                        await process.wait()
                except TimeoutError:
                    process.kill()
                    await process.wait()
                except asyncio.CancelledError:
                    process.kill()
                    raise
        finally:
            if process is not None and process.stdin is not None:
                process.stdin.close()
            if self._log is not None:
                self._log.close()
                self._log = None

    def failure(self, event: str) -> ServerError:
        """The error: what happened, how the process ended, and the tail of its log."""
        code = None if self._process is None else self._process.returncode
        ending = "" if code is None else f" (signal {-code})" if code < 0 else f" (code {code})"
        log = "" if self._log_path is None else f"; its log is {self._log_path}"
        return ServerError(f"{self._name} {event}{ending}{log}\n{self._log_tail(_LOG_TAIL_LINES)}")

    def _open_log(self) -> None:
        if self._log_path is None:
            self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop
            return
        try:
            self._log = self._log_path.open("w+b")
        except OSError as error:
            raise ServerError(f"the server's log cannot be written: {error}") from error

    def _log_tail(self, lines: int) -> str:
        if self._log is None:
            return ""
        file = self._log.fileno()  # shared with the child: seeking would move its position
        tail = os.pread(file, _LOG_TAIL_BYTES, max(0, os.fstat(file).st_size - _LOG_TAIL_BYTES))
        return "\n".join(tail.decode(errors="replace").splitlines()[-lines:])
