"""Who gets which slot: free ones are handed over at once to whoever waits with the lowest priority.

Owns the queue of the waiting, and nothing of how an attempt ends. No latecomer slips in before those who wait.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import zlib
from collections.abc import Sequence

from explore_async.serving.endpoints.endpoint import Host

ABOUT_EQUAL = 0.9


class Slots:
    """`hosts` is the pool's own list. Once `closed_by` is set, all who wait and all who come get that error.

    `most`: so many requests may be in flight at the endpoints whose limit is found, all together.
    """

    def __init__(self, hosts: Sequence[Host], most: int) -> None:
        self.most = most
        self.closed_by: BaseException | None = None
        self._hosts = hosts
        self._waiting: list[tuple[int, int, asyncio.Future[Host], str | None, str, str]] = []
        self._arrivals = itertools.count()

    @property
    def held_back(self) -> bool:
        """Whether `most` keeps requests from endpoints that have room for them."""
        return (
            bool(self._waiting) and self._is_at_most() and any(host.is_auto and host.free > 0 for host in self._hosts)
        )

    async def acquire(self, priority: int, avoid: str | None, affinity: str, model: str) -> Host:
        """A host that serves the model, with one slot taken, to be given back by `release`.

        The one at the URL `avoid` only if it must be.

        Requests of the same `affinity` prefer the same host among those that are about equally free: what their
        prompts share is in its prefix cache.
        """
        if self.closed_by is not None:
            raise self.closed_by
        future: asyncio.Future[Host] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (priority, next(self._arrivals), future, avoid, affinity, model))
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
        """Give free slots to the waiting; called whenever one of either may have appeared.

        Nearly always all hosts are full but one, so only those with room are looked at closely.
        """
        if not self._waiting:
            return
        now = asyncio.get_running_loop().time()
        with_room = [host for host in self._hosts if host.free > 0 and host.available(now)]
        passed_over = []
        while self._waiting and with_room:
            if any(host.is_auto for host in with_room) and self._is_at_most():
                with_room = [host for host in with_room if not host.is_auto]
                continue
            waiter = heapq.heappop(self._waiting)
            _, _, future, avoid, affinity, model = waiter
            if future.done():
                continue
            host = self._choose(self._acceptable(with_room, avoid, model, now), affinity)
            if host is None:
                passed_over.append(waiter)
                continue
            host.occupy()
            future.set_result(host)
            if host.free <= 0:
                with_room.remove(host)
        for waiter in passed_over:
            heapq.heappush(self._waiting, waiter)

    def _acceptable(self, with_room: Sequence[Host], avoid: str | None, model: str, now: float) -> list[Host]:
        """Those that serve the model; not the avoided one while another is there, were it full."""
        serving = [host for host in with_room if host.serves(model)]
        if avoid is not None and any(host.url == avoid for host in serving):
            others = (host for host in self._hosts if host.url != avoid and host.serves(model))
            if any(host.available(now) for host in others):
                return [host for host in serving if host.url != avoid]
        return serving

    @staticmethod
    def _choose(hosts: Sequence[Host], affinity: str) -> Host | None:
        if len(hosts) <= 1:
            return hosts[0] if hosts else None
        rooms = [(host.free * host.endpoint.weight, host) for host in hosts]
        enough = ABOUT_EQUAL * max(room for room, _ in rooms)
        closest = [host for room, host in rooms if room >= enough]
        return closest[0] if len(closest) == 1 else max(closest, key=lambda host: _closeness(host, affinity))

    def _is_at_most(self) -> bool:
        return sum(host.in_flight for host in self._hosts if host.is_auto) >= self.most

    def close(self, error: BaseException) -> None:
        self.closed_by = error
        for _, _, future, *_ in self._waiting:
            if not future.done():
                future.set_exception(error)


def _closeness(host: Host, affinity: str) -> int:
    """Rendezvous hashing: each affinity ranks the hosts in its own way, and one more host changes few of the firsts."""
    return zlib.crc32(affinity.encode(), zlib.crc32(host.url.encode()))
