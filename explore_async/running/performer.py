"""Brings each request to its outcome: the stored one, or else an endpoint's, which is stored before it is used.

Stored outcomes are read ahead in batches. Missing ones are asked for, soonest due first, as many at once as the
endpoints take; only requests in flight have a coroutine. Nothing is asked, and no server is started, before the driver
waits for an outcome that is not stored: so a finished run replays by itself.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from explore_async.errors import EndpointUnavailable
from explore_async.exploration.values import ChatRequest, Completion, Outcome, Request
from explore_async.running.driver import RunStopped, StoredOutcome
from explore_async.running.endpoint_speeds import EndpointSpeeds
from explore_async.running.latencies import Latencies
from explore_async.running.own_time import OwnTime
from explore_async.running.read_ahead import LookUp, OutcomeReader, ReadAhead

_RENDERED_KEPT = 4096
"""Rendered requests kept from their look-up until they are asked; those beyond are rendered a second time."""
_SET_OFF_AT_ONCE = 32
"""Requests that begin in one turn of the loop: thousands at a time would hold up the reading of completions."""
_STOPPING_S = 3.0
_COMMITTING_S = 2.0
"""After a stop with nothing in flight, commits go on for this long. The next start commits the rest from the store."""


class Store(OutcomeReader, Protocol):
    """The part of `storage.completions.CompletionStore` that the performer uses."""

    async def put(self, key: str, request: Request, question: ChatRequest, outcome: Outcome, /) -> None: ...


class Backend(Protocol):
    """The part of the endpoints that the performer uses. `connect` is called once, before the first `ask`."""

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


@dataclass(frozen=True, slots=True)
class PerformerStatistics:
    """A snapshot. `replayed` outcomes were stored already, `asked` ones were not. `in_flight` is now; `pending`
    requests have no outcome and are not asked, `waiting` ones have an outcome and wait for their commit.
    """

    replayed: int
    asked: int
    asked_twice: int
    in_flight: int
    pending: int
    waiting: int


@dataclass(slots=True, eq=False)
class _RequestInFlight:
    """A request between its first attempt and its outcome.

    `attempts` are its coroutines: one, or two after the head of the line took too long.
    """

    request: Request
    key: str
    started: float
    attempts: list[asyncio.Task[None]] = field(default_factory=list)
    endpoint: str | None = None
    answered: bool = False


class Performer:
    """Owns the requests between the driver and the endpoints.

    `render` makes the form that an endpoint sees. `backend` None means offline: an outcome that is not stored stops the
    run. `first_deadline_s`: the head of the line is not asked a second time before this, however quick the endpoints.
    """

    def __init__(
        self,
        store: Store,
        render: Callable[[Request], ChatRequest],
        backend: Backend | None,
        own_time: OwnTime,
        *,
        first_deadline_s: float = 60.0,
    ) -> None:
        self._store = store
        self._render = render
        self._backend = backend
        self._own_time = own_time
        self._look_every_s = min(1.0, first_deadline_s / 4)
        self.speeds = EndpointSpeeds()
        self._latencies = Latencies(first_deadline_s)
        self._read_ahead = ReadAhead(store, render, self._take_look_up, own_time)
        self._outcomes: dict[int, asyncio.Future[StoredOutcome | None]] = {}
        """Those not taken yet, by ordinal. None: the run was stopped before there was an outcome."""
        self._pending: list[tuple[int, int, str, Request]] = []  # a heap of missing outcomes
        self._missing: set[int] = set()  # the ordinals in it
        self._rendered: dict[int, ChatRequest] = {}
        self._in_flight: dict[int, _RequestInFlight] = {}
        self._unstored: set[int] = set()  # in flight, or answered and not durable yet
        self._needed: int | None = None
        self._asking = False
        self._to_ask = asyncio.Event()
        self._stopping = False
        self._quiet_since: float | None = None
        self._group: asyncio.TaskGroup | None = None
        self._background: list[asyncio.Task[None]] = []
        self._replayed = self._asked = self._asked_twice = 0

    def open(self, group: asyncio.TaskGroup) -> None:
        """Starts its coroutines in `group`; a bug in any of them ends the run."""
        self._group = group
        self._background = [
            group.create_task(self._read_ahead.keep_reading(), name="read ahead"),
            group.create_task(self._dispatch(), name="dispatch"),
            group.create_task(self._watch_head_of_line(), name="head of line"),
        ]

    async def close(self, *, abandon: bool) -> None:
        """Ends its coroutines. Requests in flight are abandoned, or waited for and stored."""
        self._stopping = True
        attempts = [attempt for flying in self._in_flight.values() for attempt in flying.attempts]
        if abandon:
            for attempt in attempts:
                attempt.cancel()
        if attempts:
            await asyncio.wait(attempts)
        for coroutine in self._background:
            coroutine.cancel()
        if self._background:
            await asyncio.wait(self._background)

    def stop(self, *, in_haste: bool = False) -> None:
        """Asks nothing more. Requests in flight may still be answered and stored; all others get RunStopped.

        A request that takes longer than the slowest of the latest ones is not waited for; in haste, one that takes
        longer than some seconds.
        """
        self._stopping = True
        for ordinal in [ordinal for ordinal in self._outcomes if ordinal not in self._unstored]:
            self._resolve(ordinal, None)
        if self._backend is not None:
            self._backend.stop()
        self._pending.clear()
        self._missing.clear()
        self._rendered.clear()
        self._read_ahead.clear()
        if self._group is not None:
            self._background.append(self._group.create_task(self._let_go(in_haste=in_haste), name="let go"))

    async def _let_go(self, *, in_haste: bool) -> None:
        latest = max((flying.started for flying in self._in_flight.values()), default=0.0)
        expected_s = latest + self._latencies.slowest_s - asyncio.get_running_loop().time()
        await asyncio.sleep(_STOPPING_S if in_haste else max(_STOPPING_S, expected_s))
        for ordinal, flying in list(self._in_flight.items()):
            for attempt in flying.attempts:
                attempt.cancel()
            self._unstored.discard(ordinal)
            self._resolve(ordinal, None)

    def start(self, request: Request) -> None:
        """Sets the request off: it is looked up, and asked once the driver waits for an outcome that is not stored."""
        self._outcomes[request.ordinal] = asyncio.get_running_loop().create_future()
        if self._stopping:
            self._resolve(request.ordinal, None)
        else:
            self._read_ahead.add(request)

    async def take(self, request: Request) -> StoredOutcome:
        """Waits for the outcome of a started request; called once for each. Raises RunStopped where none will come.

        Waiting for an outcome that is not stored ends the replay: from then on missing outcomes are asked for.
        """
        if self._is_over():
            raise RunStopped
        future = self._outcomes[request.ordinal]
        if not future.done():
            self._needed = request.ordinal
            if request.ordinal in self._missing:
                self._begin_asking()
        stored = await future
        del self._outcomes[request.ordinal]
        if stored is None:
            raise RunStopped
        return stored

    @property
    def latency_s(self) -> float:
        """Nine of ten of the latest completions took at most this long."""
        return self._latencies.p90_s

    def statistics(self) -> PerformerStatistics:
        pending, in_flight = len(self._pending) + len(self._read_ahead), len(self._in_flight)
        waiting = max(0, len(self._outcomes) - pending - in_flight)
        return PerformerStatistics(self._replayed, self._asked, self._asked_twice, in_flight, pending, waiting)

    def _is_over(self) -> bool:
        """True when commits have gone on for long enough after a stop: thousands may be stored and not committed."""
        if not self._stopping or self._unstored:
            self._quiet_since = None
            return False
        now = asyncio.get_running_loop().time()
        if self._quiet_since is None:
            self._quiet_since = now
        return now - self._quiet_since > _COMMITTING_S

    def _begin_asking(self) -> None:
        self._asking = True
        self._to_ask.set()

    def _resolve(self, ordinal: int, stored: StoredOutcome | None) -> None:
        future = self._outcomes[ordinal]
        if not future.done():
            future.set_result(stored)

    def _take_look_up(self, look_up: LookUp) -> None:
        request, ordinal = look_up.request, look_up.request.ordinal
        if self._stopping:
            return
        if look_up.outcome is not None:
            self._replayed += 1
            self._resolve(ordinal, StoredOutcome(look_up.key, look_up.outcome))
        elif self._backend is None:
            self._resolve(ordinal, None)
        else:
            heapq.heappush(self._pending, (request.due, ordinal, look_up.key, request))
            self._missing.add(ordinal)
            if len(self._rendered) < _RENDERED_KEPT:
                self._rendered[ordinal] = look_up.chat_request
            if self._asking or ordinal == self._needed:
                self._begin_asking()

    async def _dispatch(self) -> None:
        """Asks for missing outcomes while the endpoints have free slots; connects to them before the first."""
        if self._backend is None:
            return
        connected = False
        while True:
            await self._to_ask.wait()
            self._to_ask.clear()
            if self._pending and not connected:
                await self._backend.connect()
                connected = True
                self.speeds.begin(asyncio.get_running_loop().time())
            set_off = 0
            while self._pending and not self._stopping and len(self._in_flight) < self._backend.capacity:
                _, ordinal, key, request = heapq.heappop(self._pending)
                self._missing.discard(ordinal)
                flying = _RequestInFlight(request, key, asyncio.get_running_loop().time())
                self._in_flight[ordinal] = flying
                self._unstored.add(ordinal)
                self._asked += 1
                self._set_off(flying, self._backend, avoid=None)
                set_off += 1
                if set_off % _SET_OFF_AT_ONCE == 0:
                    await asyncio.sleep(0)

    def _set_off(self, flying: _RequestInFlight, backend: Backend, *, avoid: str | None) -> None:
        assert self._group is not None
        flying.attempts.append(self._group.create_task(self._ask(flying, backend, avoid)))

    async def _ask(self, flying: _RequestInFlight, backend: Backend, avoid: str | None) -> None:
        request = flying.request
        if (chat_request := self._rendered.pop(request.ordinal, None)) is None:
            with self._own_time.of("rendering"):
                chat_request = self._render(request)
        try:
            outcome = await backend.ask(
                chat_request,
                priority=request.due,
                affinity=request.task_id,
                on_sent=lambda url: setattr(flying, "endpoint", url),
                avoid=avoid,
            )
        except asyncio.CancelledError:
            if not flying.answered:
                self._in_flight.pop(request.ordinal, None)
            raise
        except EndpointUnavailable:  # only after `stop`: until then the pool goes on trying
            if not self._stopping:
                raise
            flying.attempts.remove(asyncio.current_task())  # type: ignore[arg-type]
            if not flying.attempts:
                self._in_flight.pop(request.ordinal, None)
                self._unstored.discard(request.ordinal)
                self._resolve(request.ordinal, None)
            return
        if flying.answered:
            return
        flying.answered = True
        for other in flying.attempts:
            if other is not asyncio.current_task():
                other.cancel()
        # The slot is free once the completion is read; only the commit needs it to be durable.
        self._in_flight.pop(request.ordinal, None)
        self._to_ask.set()
        if isinstance(outcome, Completion):
            self._latencies.note(request.kind, outcome.latency_s)
            self.speeds.note(outcome, chat_request.model, asyncio.get_running_loop().time())
        await self._store.put(flying.key, request, chat_request, outcome)
        self._unstored.discard(request.ordinal)
        self._resolve(request.ordinal, StoredOutcome(flying.key, outcome, new=True))

    async def _watch_head_of_line(self) -> None:
        """The request that is soonest due holds up all commits. Past its deadline it is asked again, elsewhere."""
        if self._backend is None:
            return
        while True:
            await asyncio.sleep(self._look_every_s)
            in_flight = self._in_flight.values()
            head = min(in_flight, key=lambda flying: (flying.request.due, flying.request.ordinal), default=None)
            if head is None or len(head.attempts) > 1:
                continue
            deadline_s = self._latencies.deadline_s(head.request.kind)
            if deadline_s is not None and asyncio.get_running_loop().time() - head.started > deadline_s:
                self._asked_twice += 1
                self._set_off(head, self._backend, avoid=head.endpoint)
