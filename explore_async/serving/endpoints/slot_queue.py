"""The queue for slots of endpoints: a free slot goes at once to the waiting request of the lowest priority.

Owns the waiting requests; it does not know how an attempt ends. A new request never overtakes waiting ones of its
priority.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import zlib
from collections.abc import Sequence

from explore_async.serving.endpoints.endpoint import Endpoint

ABOUT_EQUAL = 0.9


class SlotQueue:
    """Requests that wait for a free slot at an endpoint, soonest due first.

    `endpoints` is the pool's own list. Once `closed_by` is set, all waiting and all new requests get that error.

    `most`: requests that may be in flight at the endpoints with concurrency `auto`, all together.
    """

    def __init__(self, endpoints: Sequence[Endpoint], most: int) -> None:
        self.most = most
        self.closed_by: BaseException | None = None
        self._endpoints = endpoints
        self._waiting: list[tuple[int, int, asyncio.Future[Endpoint], str | None, str, str]] = []
        self._arrivals = itertools.count()

    @property
    def held_back(self) -> bool:
        """True when `most` keeps requests from endpoints that have free slots."""
        has_room = any(endpoint.is_auto and endpoint.free > 0 for endpoint in self._endpoints)
        return bool(self._waiting) and self._is_at_most() and has_room

    async def acquire(self, priority: int, avoid: str | None, affinity: str, model: str) -> Endpoint:
        """Waits for an endpoint that serves the model and takes one of its slots; `release` gives the slot back.

        The endpoint at the URL `avoid` is taken only when no other is available. Requests of the same `affinity` prefer
        the same endpoint among those that are about equally free: its prefix cache holds what their prompts share.
        """
        if self.closed_by is not None:
            raise self.closed_by
        future: asyncio.Future[Endpoint] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (priority, next(self._arrivals), future, avoid, affinity, model))
        self.dispatch()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.release(future.result())
            raise

    def release(self, endpoint: Endpoint) -> None:
        endpoint.in_flight -= 1
        self.dispatch()

    def dispatch(self) -> None:
        """Gives free slots to waiting requests. It is called whenever a slot or a request may be new.

        Nearly always all endpoints but one are full, so only endpoints with free slots are examined.
        """
        if not self._waiting:
            return
        now = asyncio.get_running_loop().time()
        with_room = [endpoint for endpoint in self._endpoints if endpoint.free > 0 and endpoint.is_available(now)]
        skipped = []
        while self._waiting and with_room:
            if any(endpoint.is_auto for endpoint in with_room) and self._is_at_most():
                with_room = [endpoint for endpoint in with_room if not endpoint.is_auto]
                continue
            waiter = heapq.heappop(self._waiting)
            _, _, future, avoid, affinity, model = waiter
            if future.done():
                continue
            endpoint = self._choose(self._acceptable(with_room, avoid, model, now), affinity)
            if endpoint is None:
                skipped.append(waiter)
                continue
            endpoint.occupy()
            future.set_result(endpoint)
            if endpoint.free <= 0:
                with_room.remove(endpoint)
        for waiter in skipped:
            heapq.heappush(self._waiting, waiter)

    def _acceptable(self, with_room: Sequence[Endpoint], avoid: str | None, model: str, now: float) -> list[Endpoint]:
        """Endpoints that serve the model, without the avoided one while another is available, even a full one."""
        serving = [endpoint for endpoint in with_room if endpoint.serves(model)]
        if avoid is not None and any(endpoint.url == avoid for endpoint in serving):
            others = (endpoint for endpoint in self._endpoints if endpoint.url != avoid and endpoint.serves(model))
            if any(endpoint.is_available(now) for endpoint in others):
                return [endpoint for endpoint in serving if endpoint.url != avoid]
        return serving

    @staticmethod
    def _choose(endpoints: Sequence[Endpoint], affinity: str) -> Endpoint | None:
        if len(endpoints) <= 1:
            return endpoints[0] if endpoints else None
        rooms = [(endpoint.free * endpoint.settings.weight, endpoint) for endpoint in endpoints]
        enough = ABOUT_EQUAL * max(room for room, _ in rooms)
        closest = [endpoint for room, endpoint in rooms if room >= enough]
        return closest[0] if len(closest) == 1 else max(closest, key=lambda endpoint: _closeness(endpoint, affinity))

    def _is_at_most(self) -> bool:
        return sum(endpoint.in_flight for endpoint in self._endpoints if endpoint.is_auto) >= self.most

    def close(self, error: BaseException) -> None:
        self.closed_by = error
        for _, _, future, *_ in self._waiting:
            if not future.done():
                future.set_exception(error)


def _closeness(endpoint: Endpoint, affinity: str) -> int:
    """Rendezvous hashing: each affinity ranks the endpoints in its own order, and a new endpoint leads few of them."""
    return zlib.crc32(affinity.encode(), zlib.crc32(endpoint.url.encode()))
