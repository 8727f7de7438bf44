"""The source of completions: the endpoints of a run or the server that it starts for itself.

Nothing is started or contacted before a completion is needed that is not stored.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self

from explore_async.config.endpoints_file import changes, read_endpoints
from explore_async.errors import ConfigError
from explore_async.exploration.values import ChatRequest, Form, Outcome
from explore_async.serving.endpoints.choice import Rivals
from explore_async.serving.endpoints.compatibility import too_long_for
from explore_async.serving.endpoints.open_files import available_sockets, require_sockets
from explore_async.serving.endpoints.pool import MOST_IN_FLIGHT, EndpointPool
from explore_async.serving.endpoints.values import PoolStatistics, declared_concurrency
from explore_async.serving.servers.launch import EMBEDDED_CONTEXT, choose_engine, make_server, slots_of
from explore_async.serving.servers.own_server import OwnServer
from explore_async.serving.servers.vllm import KEY_VARIABLE
from explore_async.settings.operation import (
    EndpointSettings,
    Operation,
    ServerSettings,
    assumed_slots,
)
from explore_async.terminal.counts import counted

if TYPE_CHECKING:
    from explore_async.serving.servers.download import Progress


def check_operation(operation: Operation) -> None:
    """Raises ConfigError unless the operation names exactly one source of completions."""
    places = {
        "operation.endpoints": operation.endpoints,
        "operation.endpoints_file": operation.endpoints_file,
        "operation.server": operation.server,
    }
    configured = [name for name, place in places.items() if place]
    if not configured:
        raise ConfigError(
            f"no endpoint: give --endpoint URL, or {' or '.join(places)} in the config, or set OPENAI_BASE_URL"
        )
    if len(configured) > 1:
        raise ConfigError(f"{' and '.join(configured)}: give only one of them")


class Backend:
    """Owns the endpoint pool, and the server of a run that has one.

    `models`: logical models; none takes the model that is served. `forms`: see EndpointPool. `window` of the run: where
    the concurrency of endpoints is found out, the requests in flight are at most a part of it.
    """

    def __init__(
        self,
        operation: Operation,
        *,
        models: Sequence[str],
        forms: Sequence[Form],
        window: int | None,
        server_log: Path,
        report: Callable[[str], None],
        report_fetch: Callable[[Progress], None] | None = None,
    ) -> None:
        self._operation = operation
        self._models = tuple(models)
        self._forms = tuple(forms)
        self._window = window
        listed = operation.endpoints
        if operation.endpoints_file is not None:
            listed = read_endpoints(Path(operation.endpoints_file))
        self._listed = self._part_of(listed)
        self._server_log = server_log
        self._report = report
        self._report_fetch = report_fetch
        self._stack = AsyncExitStack()
        self._pool: EndpointPool | None = None
        self._server: OwnServer | None = None
        self._connecting = asyncio.Lock()
        self._connected_models: tuple[str, ...] = ()
        self._connected = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(exc_type, exc, traceback)

    def _part_of(self, endpoints: Sequence[EndpointSettings]) -> tuple[EndpointSettings, ...]:
        return tuple(endpoint.part_of(self._operation.shared_by) for endpoint in endpoints)

    @property
    def slots(self) -> int:
        """Requests that the servers process at once, as declared or assumed."""
        if self._operation.server is not None:
            return slots_of(self._operation.server)
        return assumed_slots(self._listed)

    @property
    def capacity(self) -> int:
        """Requests that can be in flight or wait for a slot at the moment."""
        return self.slots if self._pool is None else self._pool.capacity

    @property
    def limit(self) -> int:
        """Most requests in flight at the moment, at the endpoints that are in use."""
        return self.slots if self._pool is None else self._pool.limit

    async def connect(self) -> tuple[str, ...]:
        """Starts the server where there is one, connects the pool, and returns the logical models. Only the first call
        does anything.
        """
        async with self._connecting:
            if self._pool is None:
                server = self._operation.server
                endpoints = [await self._start(server)] if server is not None else self._listed
                pool = EndpointPool(
                    endpoints,
                    models=self._models,
                    forms=self._forms,
                    retries=self._operation.retries,
                    stall_s=self._operation.stall_s,
                    most_in_flight=self._most_in_flight(endpoints),
                )
                await self._stack.enter_async_context(pool)
                if server is None:
                    urls = ", ".join(endpoint.url for endpoint in endpoints)
                    self._report(f"connecting to {urls}: each answers small requests of the run's form first")
                self._connected_models = await pool.connect()
                self._pool = pool
                self._connected.set()
        return self._connected_models

    def _most_in_flight(self, endpoints: Sequence[EndpointSettings]) -> int:
        """Most requests in flight where concurrency is found out: the declared concurrency has to fit into the open
        files of this process, and the rest of these is for the endpoints without one. Raises ConfigError where it does
        not fit.
        """
        declared = declared_concurrency(endpoints)
        require_sockets(declared)
        if all(endpoint.concurrency != "auto" for endpoint in endpoints):
            return MOST_IN_FLIGHT
        wanted = MOST_IN_FLIGHT if self._window is None else self._window
        return max(1, available_sockets(declared + wanted) - declared)

    def _check_context(self, settings: ServerSettings) -> None:
        """Before a model is loaded for requests that do not fit. llama.cpp cuts completions, vLLM refuses requests."""
        is_embedded = choose_engine(settings).engine == "embedded"
        context = settings.context_tokens or (EMBEDDED_CONTEXT if is_embedded else None)
        if context is None or not (misfit := too_long_for(context, self._forms)):
            return
        text = f"operation.server.context_tokens is {context:,}, and {misfit}, or raise context_tokens"
        if not is_embedded:
            raise ConfigError(text)
        self._report(f"{text}: completions are cut where the context ends")

    async def _start(self, settings: ServerSettings) -> EndpointSettings:
        self._check_context(settings)
        starting = await make_server(
            settings,
            model_name=self._models[0] if self._models else None,
            log_path=self._server_log,
            report=self._report,
            report_fetch=self._report_fetch,
        )
        server = await self._stack.enter_async_context(starting)
        self._server = server
        self._report(f"the server is ready after {server.started_in_s:.0f} s")
        key = KEY_VARIABLE if choose_engine(settings).engine == "vllm" and os.environ.get(KEY_VARIABLE) else None
        return EndpointSettings(url=server.url, concurrency=slots_of(settings), api_key_env=key)

    async def ask(
        self,
        request: ChatRequest,
        *,
        priority: int,
        affinity: str,
        on_sent: Callable[[str], None],
        avoid: str | None = None,
    ) -> Outcome:
        assert self._pool is not None
        return await self._pool.ask(request, priority=priority, affinity=affinity, on_sent=on_sent, avoid=avoid)

    def rivals(self, model: str) -> Rivals:
        assert self._pool is not None
        return self._pool.rivals(model)

    async def watch(self) -> NoReturn:
        """Ends a run that gets no more completions, by raising the cause: no outcome for too long, or our server has
        died.
        """
        await self._connected.wait()
        assert self._pool is not None
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pool.watch())
            group.create_task(self._pool.adjust_limits())
            if self._operation.endpoints_file is not None:
                group.create_task(self._follow(Path(self._operation.endpoints_file), self._pool))
            if self._server is not None:
                group.create_task(self._server.watch())
        raise AssertionError("watch returns only by raising")

    async def _follow(self, path: Path, pool: EndpointPool) -> None:
        """Takes over the endpoints that the file lists; while it cannot be used, they stay as they were."""
        before = list(dict.fromkeys(endpoint.url for endpoint in self._listed))
        async for listed in changes(path):
            try:
                if isinstance(listed, ConfigError):
                    raise listed
                await pool.replace(self._part_of(listed))
            except ConfigError as error:
                self._report(f"{error}; going on with the endpoints as they were")
            else:
                self._report(f"{path}: {_describe_changes(before, listed)}; {counted(len(listed), 'endpoint')} now")
                before = list(dict.fromkeys(endpoint.url for endpoint in listed))

    def stop(self) -> None:
        """Sends no more requests and retries none; those in flight may finish."""
        if self._pool is not None:
            self._pool.stop()

    def unserved(self) -> list[str]:
        """A line for each model that no endpoint serves at the moment, while others are served."""
        return [] if self._pool is None else self._pool.unserved()

    def statistics(self) -> PoolStatistics | None:
        return None if self._pool is None else self._pool.statistics()


class BackendFactory:
    """Makes backends for one operation. Asks the endpoints for their model at most once."""

    def __init__(
        self,
        operation: Operation,
        server_log: Path,
        report: Callable[[str], None],
        report_fetch: Callable[[Progress], None],
    ) -> None:
        self._operation = operation
        self._server_log = server_log
        self._report = report
        self._report_fetch = report_fetch
        self._served: str | None = None

    def __call__(self, models: Sequence[str] = (), forms: Sequence[Form] = (), window: int | None = None) -> Backend:
        return Backend(
            self._operation,
            models=models,
            forms=forms,
            window=window,
            server_log=self._server_log,
            report=self._report,
            report_fetch=self._report_fetch,
        )

    async def served_model(self) -> str:
        """The model that the endpoints serve. Raises EndpointError where none responds."""
        if self._served is None:
            async with self() as backend:
                self._served = (await backend.connect())[0]
        return self._served


def _describe_changes(before: Sequence[str], listed: Sequence[EndpointSettings]) -> str:
    now = list(dict.fromkeys(endpoint.url for endpoint in listed))
    joined = [url for url in now if url not in before]
    gone = [url for url in before if url not in now]
    changed = [f"{', '.join(urls)} {verb}" for urls, verb in ((joined, "joins"), (gone, "leaves")) if urls]
    return "; ".join(changed) or "other settings"
