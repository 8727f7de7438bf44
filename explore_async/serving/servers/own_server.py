"""A server of ours from `async with` to its end, whatever engine it runs."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import NoReturn, Self

from explore_async.errors import EndpointError
from explore_async.serving.servers.process import ServerProcess


class OwnServer(ABC):
    """Owns the server's process; the process does not outlive this one. A subclass says how the server is started.

    `url` and `started_in_s`, its seconds to the first answer, are known inside `async with`.
    """

    def __init__(self, process: ServerProcess) -> None:
        self._process = process
        self.url = ""
        self.started_in_s = 0.0

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @abstractmethod
    async def _start(self) -> str:
        """Starts the process and waits until the server is healthy. Returns its address, without a path."""

    async def __aenter__(self) -> Self:
        began = time.monotonic()
        try:
            self.url = f"{await self._start()}/v1"
        except BaseException:
            await self._process.stop()
            raise
        self.started_in_s = time.monotonic() - began
        return self

    async def watch(self) -> NoReturn:
        """Returns only by raising: ServerError with the log's tail when the process has died."""
        await self._process.watch()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failure = self._process.failure("died") if self._process.has_died and isinstance(error, EndpointError) else None
        await self._process.stop()
        if failure is not None:  # the cause of the endpoint's error
            raise failure from error
