"""Where answers come from: the endpoints of a run and, where it has one, the server it starts for itself.

Nothing is started or contacted before the first answer that is not stored already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self

from explore_async.errors import ConfigError
from explore_async.exploration.values import ChatRequest, Outcome
from explore_async.serving.pool import Endpoint, EndpointPool, PoolStatistics, Retry
from explore_async.settings import EmbeddedSettings, EndpointSettings, Operation

if TYPE_CHECKING:
    from explore_async.serving.embedded import EmbeddedServer
    from explore_async.serving.models import Progress


def check_operation(operation: Operation) -> None:
    """Raises a ConfigError unless there is one place to ask."""
    if operation.server is None and not operation.endpoints:
        raise ConfigError("no endpoint: give --endpoint URL, or operation.endpoints or operation.server in the config")
    if operation.server is not None and operation.endpoints:
        raise ConfigError("operation.server and operation.endpoints: give one of them, not both")


class Backend:
    """Owns the embedded server and the endpoint pool. `model` is the logical model, None to take the one served."""

    def __init__(
        self,
        operation: Operation,
        *,
        model: str | None,
        server_log: Path,
        report: Callable[[str], None],
        report_fetch: Callable[[Progress], None] | None = None,
    ) -> None:
        self._operation = operation
        self._model = model
        self._server_log = server_log
        self._report = report
        self._report_fetch = report_fetch
        self._stack = AsyncExitStack()
        self._pool: EndpointPool | None = None
        self._server: EmbeddedServer | None = None
        self._connecting = asyncio.Lock()
        self._connected_model = ""
        self._connected = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(exc_type, exc, traceback)

    @property
    def capacity(self) -> int:
        """Most requests in flight at once."""
        server = self._operation.server
        return server.slots if server is not None else sum(one.concurrency for one in self._operation.endpoints)

    async def connect(self) -> str:
        """Starts what has to be started; returns the logical model. Does nothing the second time."""
        async with self._connecting:
            if self._pool is None:
                server = self._operation.server
                endpoints = (
                    [await self._start(server)]
                    if server is not None
                    else [_endpoint(settings) for settings in self._operation.endpoints]
                )
                retries = self._operation.retries
                pool = EndpointPool(
                    endpoints,
                    model=self._model,
                    retry=Retry(
                        retries.attempts, retries.first_wait_s, retries.longest_wait_s, self._operation.stall_s
                    ),
                )
                await self._stack.enter_async_context(pool)
                if server is None:
                    self._report(f"connecting to {', '.join(one.url for one in endpoints)}")
                self._connected_model = await pool.connect()
                self._pool = pool
                self._connected.set()
        return self._connected_model

    async def _start(self, settings: EmbeddedSettings) -> Endpoint:
        from explore_async.serving.embedded import EmbeddedServer
        from explore_async.serving.models import fetch

        self._report(f"model {settings.model}")
        path = await asyncio.to_thread(fetch, settings.model, report=self._report_fetch)
        self._report(f"starting the embedded server with {path.name}")
        server = self._server = await self._stack.enter_async_context(
            EmbeddedServer(
                path,
                model_name=self._model or settings.model,
                slots=settings.slots,
                context_tokens=settings.context_tokens,
                log_path=self._server_log,
            )
        )
        self._report(f"the embedded server is ready after {server.started_in_s:.0f} s")
        return Endpoint(server.url, concurrency=settings.slots)

    async def ask(
        self, request: ChatRequest, *, priority: int, placed: Callable[[str], None], avoid: str | None = None
    ) -> Outcome:
        assert self._pool is not None
        return await self._pool.ask(request, priority=priority, placed=placed, avoid=avoid)

    async def watch(self) -> NoReturn:
        """Ends a run that gets no answers any more, with the cause: no outcome for too long, or our server has died."""
        await self._connected.wait()
        assert self._pool is not None
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pool.watch())
            if self._server is not None:
                group.create_task(self._server.watch())
        raise AssertionError("watch returns only by raising")

    def stop(self) -> None:
        """Asks nothing more and tries nothing again; what is under way may finish."""
        if self._pool is not None:
            self._pool.stop()

    def statistics(self) -> PoolStatistics | None:
        return None if self._pool is None else self._pool.statistics()


def _endpoint(settings: EndpointSettings) -> Endpoint:
    return Endpoint(
        settings.url,
        concurrency=settings.concurrency,
        api_key_env=settings.api_key_env,
        requests_per_minute=settings.requests_per_minute,
        model=settings.model,
    )
