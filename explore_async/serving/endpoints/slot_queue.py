"""The queue for slots of endpoints: a free slot goes to the request of the lowest priority that it answers soonest.

Owns the waiting requests; it does not know how an attempt ends. A new request never overtakes waiting ones of its
priority. `choice` has the rule by which a slow endpoint's slot is left free.
"""

from __future__ import annotations

import asyncio
import itertools
import zlib
from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import NamedTuple

from explore_async.serving.endpoints.choice import FASTER, Candidate, Rivals, passed_over, speeds_now
from explore_async.serving.endpoints.endpoint import Endpoint

ABOUT_EQUAL = 0.9
_KEPT_S = 0.02
"""Time for which measured speeds are kept: they change by completions, and a choice is made for each request."""


class _Waiting(NamedTuple):
    """A request that waits. They are in the order in which they are served."""

    priority: int
    arrival: int
    slot: asyncio.Future[Endpoint]
    avoid: str | None
    affinity: str


class _Speeds(NamedTuple):
    """Speeds of the endpoints that can be used for a model, until a time of the loop's clock."""

    until: float
    by_endpoint: Mapping[Endpoint, float]


class _Match(NamedTuple):
    waiting: _Waiting
    endpoint: Endpoint
    model: str
    position: int


class SlotQueue:
    """Requests that wait for a free slot at an endpoint, soonest due first.

    `endpoints` is the pool's own list. Once `closed_by` is set, all waiting and all new requests get that error.

    `most`: requests that may be in flight at the endpoints with concurrency `auto`, all together.
    """

    def __init__(self, endpoints: Sequence[Endpoint], most: int) -> None:
        self.most = most
        self.closed_by: BaseException | None = None
        self.wanted = 0
        """Requests that have to wait before a slow endpoint that has a free slot gets one of them."""
        self._endpoints = endpoints
        self._waiting: dict[str, list[_Waiting]] = {}
        """By model."""
        self._kept_speeds: dict[str, _Speeds] = {}
        """By model."""
        self._arrivals = itertools.count()

    @property
    def held_back(self) -> bool:
        """True when `most` keeps requests from endpoints that have free slots."""
        has_room = any(endpoint.is_auto and endpoint.free > 0 for endpoint in self._endpoints)
        return any(self._waiting.values()) and self._is_at_most() and has_room

    async def acquire(self, priority: int, avoid: str | None, affinity: str, model: str) -> Endpoint:
        """Waits for an endpoint that serves the model and takes one of its slots; `release` gives the slot back.

        The endpoint at the URL `avoid` is taken only when no other is available. Requests of the same `affinity` prefer
        the same endpoint among those that are about equally free: its prefix cache holds what their prompts share.
        """
        if self.closed_by is not None:
            raise self.closed_by
        future: asyncio.Future[Endpoint] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(priority, next(self._arrivals), future, avoid, affinity)
        queue = self._waiting.setdefault(model, [])
        insort(queue, waiting)
        self.dispatch()
        try:
            return await future
        except asyncio.CancelledError:
            if future.cancelled():
                del queue[bisect_left(queue, waiting)]
            elif future.done() and future.exception() is None:
                self.release(future.result())
            raise

    def release(self, endpoint: Endpoint) -> None:
        endpoint.in_flight -= 1
        self.dispatch()

    def dispatch(self) -> None:
        """Gives free slots to waiting requests. It is called whenever a slot or a request may be new, and now and then,
        as time also tells which endpoint is fast.
        """
        if not any(self._waiting.values()):
            return
        now = asyncio.get_running_loop().time()
        with_room = [endpoint for endpoint in self._endpoints if endpoint.free > 0 and endpoint.is_available(now)]
        self.wanted = 0
        while with_room:
            if any(endpoint.is_auto for endpoint in with_room) and self._is_at_most():
                with_room = [endpoint for endpoint in with_room if not endpoint.is_auto]
                continue
            matches = [self._match(model, with_room, now) for model, queue in self._waiting.items() if queue]
            match = min((match for match in matches if match is not None), default=None)
            if match is None:
                return
            del self._waiting[match.model][match.position]
            match.endpoint.occupy(now)
            match.waiting.slot.set_result(match.endpoint)
            if match.endpoint.free <= 0:
                with_room.remove(match.endpoint)

    def _match(self, model: str, with_room: Sequence[Endpoint], now: float) -> _Match | None:
        """The next request for this model that a free slot is for, with its endpoint."""
        queue = self._waiting[model]
        free = [endpoint for endpoint in with_room if endpoint.serves(model)]
        speeds = self._speeds(model, now, free)
        while free:
            best = max(speeds[endpoint] for endpoint in free)
            fastest = [endpoint for endpoint in free if FASTER * speeds[endpoint] >= best]
            others = ((speed, endpoint.in_flight) for endpoint, speed in speeds.items())
            passed = int(passed_over(best, others))
            for position in range(passed, len(queue)):
                waiting = queue[position]
                if waiting.slot.done():  # cancelled, and about to be removed
                    continue
                if acceptable := self._acceptable(fastest, waiting.avoid, model, now):
                    return _Match(waiting, _choose(acceptable, waiting.affinity), model, position)
            self.wanted = max(self.wanted, passed)
            free = [endpoint for endpoint in free if endpoint not in fastest]
        return None

    def _speeds(self, model: str, now: float, needed: Iterable[Endpoint] = ()) -> Mapping[Endpoint, float]:
        """The speeds of the endpoints that can be used, the needed ones among them."""
        kept = self._kept_speeds.get(model)
        if kept is not None and now < kept.until and all(endpoint in kept.by_endpoint for endpoint in needed):
            return kept.by_endpoint
        usable = [endpoint for endpoint in self._endpoints if endpoint.serves(model) and endpoint.is_available(now)]
        if len(usable) == 1:
            return {usable[0]: 1.0}
        candidates = [Candidate(one.speed_of(model), one.in_flight, one.busy_since) for one in usable]
        speeds = dict(zip(usable, speeds_now(candidates, now), strict=True))
        if all(one.speed.is_told for one in candidates):  # an assumed speed depends on each request that is sent
            self._kept_speeds[model] = _Speeds(now + _KEPT_S, speeds)
        return speeds

    def _acceptable(self, fastest: Sequence[Endpoint], avoid: str | None, model: str, now: float) -> Sequence[Endpoint]:
        """Without the avoided endpoint while another one is available, even a full one."""
        if avoid is not None and any(endpoint.url == avoid for endpoint in fastest):
            others = (endpoint for endpoint in self._endpoints if endpoint.url != avoid and endpoint.serves(model))
            if any(endpoint.is_available(now) for endpoint in others):
                return [endpoint for endpoint in fastest if endpoint.url != avoid]
        return fastest

    def rivals(self, model: str) -> Rivals:
        """The endpoints to which requests for this model could be sent a second time."""
        now = asyncio.get_running_loop().time()
        if self._is_at_most() or len(speeds := self._speeds(model, now)) <= 1:
            return Rivals({}, 0.0)
        (best, first), (second, _) = sorted(((speed, one.url) for one, speed in speeds.items()), reverse=True)[:2]
        urls = [endpoint.url for endpoint in self._endpoints if endpoint.serves(model)]
        known = {endpoint.url: speed for endpoint, speed in speeds.items()}
        times_slower = {url: (second if url == first else best) / known.get(url, best) for url in urls}
        fast = [endpoint for endpoint, speed in speeds.items() if FASTER * speed >= best]
        waiting = len(self._waiting.get(model, ()))
        is_idle = not waiting and any(endpoint.free > 0 for endpoint in fast)
        queue = 0.0 if is_idle else (waiting + 1) / max(1, sum(endpoint.in_flight for endpoint in fast))
        return Rivals(times_slower, queue)

    def is_quicker_elsewhere(self, endpoint: Endpoint) -> bool:
        """True when another endpoint, with free slots or faster, answers sooner what waits in the queue of this one."""
        if self._is_at_most():
            return False
        now = asyncio.get_running_loop().time()
        for model in endpoint.served:
            speeds = self._speeds(model, now, [endpoint] if endpoint.is_available(now) else ())
            own = speeds.get(endpoint, inf)
            if any(one.free > 0 or speed > FASTER * own for one, speed in speeds.items() if one is not endpoint):
                return True
        return False

    def spare(self) -> set[Endpoint]:
        """Endpoints that have no request while faster ones, which answer the requests sooner, have some."""
        now = asyncio.get_running_loop().time()
        found: set[Endpoint] = set()
        for model in self._waiting:
            speeds = self._speeds(model, now)
            best = max((speed for endpoint, speed in speeds.items() if endpoint.in_flight), default=0.0)
            found |= {one for one, speed in speeds.items() if not one.in_flight and FASTER * speed < best}
        return found

    def _is_at_most(self) -> bool:
        return sum(endpoint.in_flight for endpoint in self._endpoints if endpoint.is_auto) >= self.most

    def close(self, error: BaseException) -> None:
        self.closed_by = error
        for queue in self._waiting.values():
            for waiting in queue:
                if not waiting.slot.done():
                    waiting.slot.set_exception(error)
            queue[:] = [waiting for waiting in queue if waiting.slot.cancelled()]


def _choose(endpoints: Sequence[Endpoint], affinity: str) -> Endpoint:
    if len(endpoints) == 1:
        return endpoints[0]
    rooms = [(endpoint.free * endpoint.settings.weight, endpoint) for endpoint in endpoints]
    enough = ABOUT_EQUAL * max(room for room, _ in rooms)
    closest = [endpoint for room, endpoint in rooms if room >= enough]
    return closest[0] if len(closest) == 1 else max(closest, key=lambda endpoint: _closeness(endpoint, affinity))


def _closeness(endpoint: Endpoint, affinity: str) -> int:
    """Rendezvous hashing: each affinity ranks the endpoints in its own order, and a new endpoint leads few of them."""
    return zlib.crc32(affinity.encode(), zlib.crc32(endpoint.url.encode()))
