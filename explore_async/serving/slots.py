"""Who gets which slot: free ones are handed over at once to whoever waits with the lowest priority.

Owns the queue of the waiting, and nothing of how an attempt ends. No latecomer slips in before those who wait.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Sequence

from explore_async.serving.host import Host


class Slots:
    """`hosts` is the pool's own list. Once `closed_by` is set, all who wait and all who come get that error."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self.closed_by: BaseException | None = None
        self._hosts = hosts
        self._waiting: list[tuple[int, int, asyncio.Future[Host], str | None]] = []
        self._arrivals = itertools.count()

    async def acquire(self, priority: int, avoid: str | None) -> Host:
        """A host with one slot taken, to be given back by `release`; the one at the URL `avoid` only if it must be."""
        if self.closed_by is not None:
            raise self.closed_by
        future: asyncio.Future[Host] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (priority, next(self._arrivals), future, avoid))
        self.dispatch()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.release(future.result())
            raise

    def release(self, host: Host) -> None:
        host.in_flight -= 1
        self.dispatch()

    def dispatch(self) -> None:
        """Give free slots to the waiting; called whenever one of either may have appeared."""
        passed_over = []
        while self._waiting:
            waiter = heapq.heappop(self._waiting)
            _, _, future, avoid = waiter
            if future.done():
                continue
            now = time.monotonic()
            available = [host for host in self._hosts if host.available(now)]
            eligible = [host for host in available if host.url != avoid] or available
            host = max(eligible, key=lambda host: host.free, default=None)
            if host is not None and host.free > 0:
                host.occupy()
                future.set_result(host)
                continue
            passed_over.append(waiter)
            if all(host.free <= 0 for host in available):
                break
        for waiter in passed_over:
            heapq.heappush(self._waiting, waiter)

    def close(self, error: BaseException) -> None:
        self.closed_by = error
        for _, _, future, _ in self._waiting:
            if not future.done():
                future.set_exception(error)
