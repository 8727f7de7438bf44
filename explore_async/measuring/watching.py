"""Readings during a level: the metrics of the engines, and the lateness of this process's event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields

from explore_async.errors import EndpointError
from explore_async.measuring.figures import ClientFigures, Gauge, ServerFigures, percentile
from explore_async.serving.endpoints.client import EndpointClient
from explore_async.serving.endpoints.engine_metrics import EngineMetrics

_READING_EVERY_S = 0.5
_TICK_S = 0.02


class Watch:
    """Owns the readings of one level. `whole` returns True while all of the level is in flight."""

    def __init__(self, clients: Sequence[EndpointClient], whole: Callable[[], bool]) -> None:
        self._clients = clients
        self._whole = whole
        self._readings: list[tuple[bool, EngineMetrics]] = []
        self._before: EngineMetrics | None = None
        self._after: EngineMetrics | None = None
        self._lags_s: list[float] = []
        self._cpu_share = 0.0

    async def open(self) -> None:
        self._before = await _read(self._clients)

    async def close(self) -> None:
        self._after = await _read(self._clients)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Takes readings during the block."""
        began, cpu = time.perf_counter(), time.process_time()
        tasks = [asyncio.create_task(self._tick())]
        if self._before is not None:
            tasks.append(asyncio.create_task(self._keep_reading()))
        try:
            yield
        finally:
            self._cpu_share = (time.process_time() - cpu) / max(time.perf_counter() - began, 1e-9)
            for task in tasks:
                task.cancel()

    def client(self) -> ClientFigures:
        return ClientFigures(self._cpu_share, 1000 * percentile(sorted(self._lags_s) or [0.0], 0.99))

    def server(self) -> ServerFigures | None:
        """None where no endpoint has a page of metrics."""
        before, after = self._before, self._after
        if before is None or after is None:
            return None
        looked_up = after.prefix_queries - before.prefix_queries
        whole = [reading for in_full, reading in self._readings if in_full]
        return ServerFigures(
            running=_gauge(reading.running for reading in whole),
            waiting=_gauge(reading.waiting for reading in whole),
            kv_usage=_gauge(reading.kv_usage for reading in whole if reading.kv_usage > 0),  # llama.cpp reports none
            preemptions=max(0.0, after.preemptions - before.preemptions),
            prefix_hit_share=(after.prefix_hits - before.prefix_hits) / looked_up if looked_up > 0 else None,
        )

    async def _tick(self) -> None:
        while True:
            due = time.perf_counter() + _TICK_S
            await asyncio.sleep(_TICK_S)
            self._lags_s.append(max(0.0, time.perf_counter() - due))

    async def _keep_reading(self) -> None:
        await asyncio.sleep(_READING_EVERY_S / 2)
        while True:
            reading = await _read(self._clients)
            if reading is not None:
                self._readings.append((self._whole(), reading))
            await asyncio.sleep(_READING_EVERY_S)


async def _read(clients: Sequence[EndpointClient]) -> EngineMetrics | None:
    """The metrics of all endpoints together; None where no endpoint has any."""
    readings = [metrics for metrics in await asyncio.gather(*map(_read_one, clients)) if metrics is not None]
    if not readings:
        return None
    together = {
        field.name: sum(getattr(metrics, field.name) for metrics in readings) for field in fields(EngineMetrics)
    }
    return EngineMetrics(**{**together, "kv_usage": max(metrics.kv_usage for metrics in readings)})


async def _read_one(client: EndpointClient) -> EngineMetrics | None:
    try:
        return await client.metrics()
    except EndpointError:
        return None


def _gauge(values: Iterable[float]) -> Gauge | None:
    values = list(values)
    return Gauge(sum(values) / len(values), max(values)) if values else None
