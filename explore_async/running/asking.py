"""Asks the endpoints for the outcomes that are not stored, soonest due first, as many at once as the endpoints take.

Only requests in flight have a coroutine, and it goes on with another request once it has an outcome.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from explore_async.errors import EndpointUnavailable
from explore_async.exploration.values import ChatRequest, Completion, Outcome, Request
from explore_async.running.endpoint_speeds import EndpointSpeeds
from explore_async.running.latencies import Latencies
from explore_async.running.own_time import OwnTime
from explore_async.running.read_ahead import LookUp
from explore_async.serving.endpoints.choice import Rivals

_RENDERED_KEPT = 4096
"""Rendered requests kept from their look-up until they are asked; those beyond are rendered a second time."""
_SET_OFF_AT_ONCE = 32
"""Requests that begin in one turn of the loop: thousands at a time would hold up the reading of completions."""
_STOPPING_S = 3.0


class Backend(Protocol):
    """The part of the endpoints that is used here. `connect` is called once, before the first `ask`."""

    @property
    def capacity(self) -> int: ...

    async def connect(self) -> object: ...

    def stop(self) -> None: ...

    async def ask(
        self,
        request: ChatRequest,
        *,
        priority: int,
        affinity: str,
        on_sent: Callable[[str], None],
        avoid: str | None = None,
    ) -> Outcome: ...

    def rivals(self, model: str) -> Rivals: ...


@dataclass(slots=True, eq=False)
class Flight:
    """A request between its first attempt and its outcome.

    `attempts` are the coroutines that ask for it: one, or two where the first took too long. `started`: when it was
    sent first; before that, when it began to wait for a slot.
    """

    request: Request
    key: str
    chat_request: ChatRequest
    started: float
    attempts: list[asyncio.Task[None]] = field(default_factory=list)
    endpoint: str = ""
    """The URL of the endpoint to which it was sent last; empty while it waits for a slot."""
    was_sent: bool = False
    sent_at: float = 0.0
    """Time at which it was sent there."""
    is_answered: bool = False
    is_asked_twice: bool = False


class Asking:
    """Owns the requests without an outcome: those that wait, for their turn or for a slot, and those in flight.

    `report` gets each outcome as it arrives; None where the run is stopping and a request in flight is given up.
    """

    def __init__(
        self,
        backend: Backend,
        render: Callable[[Request], ChatRequest],
        report: Callable[[Flight, Outcome | None], None],
        *,
        latencies: Latencies,
        speeds: EndpointSpeeds,
        own_time: OwnTime,
    ) -> None:
        self._backend = backend
        self._render = render
        self._report = report
        self._latencies = latencies
        self._speeds = speeds
        self._own_time = own_time
        self._pending: list[tuple[int, int, str, Request]] = []  # a heap
        self._missing: set[int] = set()  # the ordinals in it
        self._rendered: dict[int, ChatRequest] = {}
        self._flights: dict[int, Flight] = {}
        self._needed: int | None = None
        self._begun = False
        self._to_ask = asyncio.Event()
        self._stopping = False
        self._group: asyncio.TaskGroup
        self._background: list[asyncio.Task[None]] = []
        self._gives_up_at: float | None = None
        self.asked = self.asked_twice = 0
        """Requests that were sent to an endpoint; those of them that were sent a second time meanwhile."""

    def open(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._background = [
            group.create_task(self._set_off(), name="set off"),
            group.create_task(self._watch_head_of_line(), name="head of line"),
        ]

    async def close(self, *, abandon: bool) -> None:
        """Ends its coroutines. Requests in flight are abandoned, or waited for."""
        self._stopping = True
        attempts = [attempt for flight in self._flights.values() for attempt in flight.attempts]
        if abandon:
            for attempt in attempts:
                attempt.cancel()
        if attempts:
            await asyncio.wait(attempts)
        for coroutine in self._background:
            coroutine.cancel()
        await asyncio.wait(self._background)

    @property
    def begun(self) -> bool:
        """False while everything that the driver waited for was stored."""
        return self._begun

    @property
    def pending(self) -> int:
        """Requests that wait for their turn: they do not wait for a slot yet."""
        return len(self._pending)

    @property
    def number(self) -> int:
        """Requests that are in flight, wait for a slot, or for their next attempt."""
        return len(self._flights)

    def is_asking_for(self, ordinal: int) -> bool:
        return ordinal in self._flights

    @property
    def patience_s(self) -> float | None:
        """Seconds until the requests in flight are given up; None where the run goes on."""
        if self._gives_up_at is None:
            return None
        return max(0.0, self._gives_up_at - asyncio.get_running_loop().time())

    def due_by(self, due: int) -> dict[int, Flight]:
        """Those of these requests that are due by then, by ordinal."""
        return {ordinal: flight for ordinal, flight in self._flights.items() if flight.request.due <= due}

    def oldest_s(self) -> dict[str, float]:
        """The age of the oldest request in flight at each endpoint, in seconds, by URL."""
        now = asyncio.get_running_loop().time()
        oldest: dict[str, float] = {}
        for flight in self._flights.values():
            if flight.endpoint:
                oldest[flight.endpoint] = max(oldest.get(flight.endpoint, 0.0), now - flight.started)
        return oldest

    def add(self, missing: LookUp) -> None:
        """A request whose outcome is not stored. It waits until asking has begun."""
        request = missing.request
        heapq.heappush(self._pending, (request.due, request.ordinal, missing.key, request))
        self._missing.add(request.ordinal)
        if len(self._rendered) < _RENDERED_KEPT:
            self._rendered[request.ordinal] = missing.chat_request
        if self._begun or request.ordinal == self._needed:
            self._begin()

    def need(self, ordinal: int) -> None:
        """The driver waits for this outcome. Where it is missing, asking begins."""
        self._needed = ordinal
        if ordinal in self._missing:
            self._begin()

    def _begin(self) -> None:
        self._begun = True
        self._to_ask.set()

    def stop(self, *, in_haste: bool) -> None:
        """Asks nothing more. Requests in flight may still be answered: for as long as such a request may take (see
        `Latencies.longest_s`), or in haste for some seconds.
        """
        self._stopping = True
        self._backend.stop()
        self._pending.clear()
        self._missing.clear()
        self._rendered.clear()
        now = asyncio.get_running_loop().time()
        sent = [flight for flight in self._flights.values() if flight.endpoint]
        started, kinds = [flight.started for flight in sent] or [now], {flight.request.kind for flight in sent}
        expected_s = max(started) + self._latencies.longest_s(now - min(started), kinds) - now
        patience_s = _STOPPING_S if in_haste else max(_STOPPING_S, expected_s)
        self._gives_up_at = now + patience_s
        self._background.append(self._group.create_task(self._let_go(patience_s), name="let go"))

    async def _let_go(self, patience_s: float) -> None:
        await asyncio.sleep(patience_s)
        for flight in list(self._flights.values()):
            for attempt in flight.attempts:
                attempt.cancel()
            self._give_up(flight)

    def _give_up(self, flight: Flight) -> None:
        if self._flights.pop(flight.request.ordinal, None) is not None:
            self._report(flight, None)

    async def _set_off(self) -> None:
        """Starts coroutines while there are more free slots than these; connects to the endpoints before the first."""
        connected = False
        while True:
            await self._to_ask.wait()
            self._to_ask.clear()
            if self._pending and not connected:
                await self._backend.connect()
                connected = True
                self._speeds.begin(asyncio.get_running_loop().time())
            set_off = 0
            while (flight := self._next_flight()) is not None:
                self._start(flight)
                set_off += 1
                if set_off % _SET_OFF_AT_ONCE == 0:
                    await asyncio.sleep(0)

    @property
    def _has_room(self) -> bool:
        if not self._pending or self._stopping:
            return False
        # the endpoints may take fewer than before: what all commits wait for does not wait for that many to end
        return len(self._flights) < self._backend.capacity or self._pending[0][1] == self._needed

    def _next_flight(self) -> Flight | None:
        """The request that is soonest due; None where none waits for its turn, or enough wait for a slot."""
        if not self._has_room:
            return None
        _, ordinal, key, request = heapq.heappop(self._pending)
        self._missing.discard(ordinal)
        if (chat_request := self._rendered.pop(ordinal, None)) is None:
            with self._own_time.of("rendering"):
                chat_request = self._render(request)
        flight = Flight(request, key, chat_request, asyncio.get_running_loop().time())
        self._flights[ordinal] = flight
        return flight

    def _start(self, flight: Flight, avoid: str | None = None) -> None:
        flight.attempts.append(self._group.create_task(self._keep_asking(flight, avoid)))

    async def _keep_asking(self, first: Flight, avoid: str | None) -> None:
        """Asks for one request after another, while more wait and the endpoints take as many."""
        own = asyncio.current_task()
        assert own is not None
        await self._ask(first, own, avoid)
        while (flight := self._next_flight()) is not None:
            flight.attempts.append(own)
            if self._has_room:  # the endpoints take more than before
                self._to_ask.set()
            await self._ask(flight, own, None)

    async def _ask(self, flight: Flight, own: asyncio.Task[None], avoid: str | None) -> None:
        request = flight.request
        try:
            outcome = await self._backend.ask(
                flight.chat_request,
                priority=request.due,
                affinity=request.task_id,
                on_sent=partial(self._note_sent, flight, is_second=avoid is not None),
                avoid=avoid,
            )
        except asyncio.CancelledError:
            if not flight.is_answered:
                self._flights.pop(request.ordinal, None)
            raise
        except EndpointUnavailable:  # only after `stop`: until then the pool goes on trying
            if not self._stopping:
                raise
            flight.attempts.remove(own)
            if not flight.attempts:
                self._give_up(flight)
            return
        if flight.is_answered:
            return
        flight.is_answered = True
        for other in flight.attempts:
            if other is not own:
                other.cancel()
        # The slot is free once the completion is read; only the commit needs it to be durable.
        self._flights.pop(request.ordinal, None)
        if isinstance(outcome, Completion):
            self._latencies.note(request.kind, outcome.latency_s)
            self._speeds.note(outcome, flight.chat_request.model, asyncio.get_running_loop().time())
        self._report(flight, outcome)

    def _note_sent(self, flight: Flight, url: str, *, is_second: bool) -> None:
        if not flight.was_sent:
            self.asked += 1
            flight.was_sent, flight.started = True, asyncio.get_running_loop().time()
        elif is_second and not flight.is_asked_twice:
            self.asked_twice += 1
            flight.is_asked_twice = True
        flight.endpoint, flight.sent_at = url, asyncio.get_running_loop().time()

    async def _watch_head_of_line(self) -> None:
        """The request that is soonest due holds up all commits. Past its deadline it is asked again, elsewhere. When no
        other request is left to ask, so is any that another endpoint is expected to answer sooner.
        """
        while True:
            await asyncio.sleep(self._latencies.look_every_s)
            now, line = asyncio.get_running_loop().time(), self._flights.values()
            if (head := min(line, key=_rank, default=None)) is None:
                continue
            deadline_s = self._latencies.deadline_s(head.request.kind)
            if deadline_s is not None and now - head.started > deadline_s:
                self._ask_again(head)
            if not self._pending and not self._stopping:
                await self._ask_last_again(sorted(line, key=_rank), now)

    async def _ask_last_again(self, line: Sequence[Flight], now: float) -> None:
        usual_s = {kind: self._latencies.usual_s(kind) for kind in {flight.request.kind for flight in line}}
        rivals: dict[str, Rivals] = {}
        for flight in line:
            model, usual = flight.chat_request.model, usual_s[flight.request.kind]
            if model not in rivals:
                rivals[model] = self._backend.rivals(model)
            elapsed_s = now - flight.started
            if usual is not None and rivals[model].are_quicker(flight.endpoint, elapsed_s, usual):
                self._ask_again(flight)
                rivals.clear()  # it takes a slot
                await asyncio.sleep(0)

    def _ask_again(self, flight: Flight) -> None:
        if not flight.is_answered and flight.endpoint and len(flight.attempts) == 1:
            self._start(flight, avoid=flight.endpoint)


def _rank(flight: Flight) -> tuple[int, int]:
    return flight.request.due, flight.request.ordinal
