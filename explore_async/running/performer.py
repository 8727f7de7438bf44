"""From a request to its outcome: the stored one, or else the endpoints' answer, stored before it is used.

Hits are read ahead in batches; what is missing is asked soonest due first, as many at once as the endpoints take. Only
requests under way have a coroutine and a rendered prompt. Nothing is asked, nor any server started, before the driver
waits for something that is not stored: a finished run replays by itself.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from explore_async.errors import EndpointUnavailable
from explore_async.exploration.prompts import PromptBook
from explore_async.exploration.values import ChatRequest, Completion, Kind, Outcome, Request
from explore_async.running.driver import Performed, Stopped
from explore_async.running.own_time import Pulse, Turn

_READ_AHEAD = 500
_RENDERED_KEPT = 4096
"""Prompts kept from when their keys were made until they are asked; those beyond are rendered a second time."""
_SET_OFF_AT_ONCE = 32
"""Requests that begin in one turn of the loop: thousands at a time would hold up the reading of answers."""
_LATENCIES_KEPT = 200
_LATENCIES_NEEDED = 20
_P99 = 0.99
_DEADLINE_IN_P99 = 5.0
_STOPPING_S = 3.0
_COMMITTING_S = 2.0
"""After a stop, once nothing is under way: what is stored and not committed by then is so at the next start."""


class Store(Protocol):
    """What the performer needs of explore_async.storage.completions.CompletionStore."""

    async def get_many(self, keys: Sequence[str]) -> dict[str, Outcome]: ...

    async def put(self, key: str, request: Request, question: ChatRequest, outcome: Outcome) -> None: ...


class Backend(Protocol):
    """What the performer needs of the endpoints. `connect` is called once, before the first `ask`."""

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
        placed: Callable[[str], None],
        avoid: str | None = None,
    ) -> Outcome: ...


@dataclass(frozen=True, slots=True)
class PerformerStatistics:
    """A snapshot. `replayed` outcomes were stored already, `asked` ones were not; `in_flight` is now."""

    replayed: int
    asked: int
    asked_twice: int
    in_flight: int
    pending: int


@dataclass(slots=True, eq=False)
class _Flight:
    """A request under way. `attempts` are its coroutines: one, or two when the head of the line took too long."""

    request: Request
    key: str
    started: float
    attempts: list[asyncio.Task[None]] = field(default_factory=list)
    endpoint: str | None = None
    answered: bool = False


class _Result:
    """What to await for a request. That somebody does tells the performer what is needed by now."""

    __slots__ = ("_future", "_ordinal", "_performer")

    def __init__(self, future: asyncio.Future[Performed], performer: Performer, ordinal: int) -> None:
        self._future = future
        self._performer = performer
        self._ordinal = ordinal

    def __await__(self) -> Generator[Any, None, Performed]:
        if self._performer.is_over():
            raise Stopped
        if not self._future.done():
            self._performer.need(self._ordinal)
        return self._future.__await__()


def _heard(done: asyncio.Future[Performed]) -> None:
    """The driver may end before it comes to this one: then nobody asks for its exception."""
    if not done.cancelled():
        done.exception()


class Performer:
    """Owns the requests between the driver and the endpoints.

    `backend` None means offline: what is not stored stops the run. `first_deadline_s`: however quick the answers,
    the head of the line is not asked a second time before this.
    """

    def __init__(
        self,
        store: Store,
        prompts: PromptBook,
        backend: Backend | None,
        pulse: Pulse,
        *,
        first_deadline_s: float = 60.0,
    ) -> None:
        self._store = store
        self._prompts = prompts
        self._backend = backend
        self._pulse = pulse
        self._first_deadline_s = first_deadline_s
        self._futures: dict[int, asyncio.Future[Performed]] = {}
        self._unread: deque[Request] = deque()
        self._pending: list[tuple[int, int, str, Request]] = []
        self._flights: dict[int, _Flight] = {}
        self._under_way: set[int] = set()  # in flight, or answered and not durable yet
        self._latencies: dict[Kind, deque[float]] = {}
        self._rendered: dict[int, ChatRequest] = {}
        self._missing: set[int] = set()  # pending, by ordinal
        self._needed: int | None = None
        self._asking = False
        self._to_read = asyncio.Event()
        self._to_ask = asyncio.Event()
        self._stopping = False
        self._quiet_since: float | None = None
        self._group: asyncio.TaskGroup | None = None
        self._background: list[asyncio.Task[None]] = []
        self._replayed = self._asked = self._asked_twice = 0

    def open(self, group: asyncio.TaskGroup) -> None:
        """Sets off its coroutines in `group`; a bug in any of them ends the run."""
        self._group = group
        self._background = [
            group.create_task(self._read_ahead(), name="read ahead"),
            group.create_task(self._dispatch(), name="dispatch"),
            group.create_task(self._watch_head_of_line(), name="head of line"),
        ]

    async def close(self, *, abandon: bool) -> None:
        """Ends its coroutines. Requests under way are abandoned, or waited for and stored."""
        self._stopping = True
        attempts = [attempt for flight in self._flights.values() for attempt in flight.attempts]
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
        """Asks nothing more. What is under way may still be answered and is stored; all else gets Stopped. What takes
        longer than any answer of late is not waited for; in haste, what takes longer than some seconds.
        """
        self._stopping = True
        for ordinal in [ordinal for ordinal in self._futures if ordinal not in self._under_way]:
            self._refuse(ordinal)
        if self._backend is not None:
            self._backend.stop()
        self._pending.clear()
        self._missing.clear()
        self._rendered.clear()
        self._unread.clear()
        if self._group is not None:
            self._background.append(self._group.create_task(self._let_go(in_haste=in_haste), name="let go"))

    async def _let_go(self, *, in_haste: bool) -> None:
        slowest_s = max((seconds for latencies in self._latencies.values() for seconds in latencies), default=0.0)
        latest = max((flight.started for flight in self._flights.values()), default=0.0)
        expected_s = latest + slowest_s - asyncio.get_running_loop().time()
        await asyncio.sleep(_STOPPING_S if in_haste else max(_STOPPING_S, expected_s))
        for ordinal, flight in list(self._flights.items()):
            for attempt in flight.attempts:
                attempt.cancel()
            self._under_way.discard(ordinal)
            self._refuse(ordinal)

    def start(self, request: Request) -> Awaitable[Performed]:
        """Sets the request off; the result is there when it is stored."""
        future: asyncio.Future[Performed] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_heard)
        if self._stopping:
            future.set_exception(Stopped())
        else:
            self._futures[request.ordinal] = future
            self._unread.append(request)
            self._to_read.set()
        return _Result(future, self, request.ordinal)

    def is_over(self) -> bool:
        """Whether a stop has been waited for long enough: thousands may be stored that are still to be committed."""
        if not self._stopping or self._under_way:
            self._quiet_since = None
            return False
        now = asyncio.get_running_loop().time()
        if self._quiet_since is None:
            self._quiet_since = now
        return now - self._quiet_since > _COMMITTING_S

    def need(self, ordinal: int) -> None:
        """The driver waits for this one: if it is not stored, the replay is over."""
        self._needed = ordinal
        if not self._asking and ordinal in self._missing:
            self._asking = True
            self._to_ask.set()

    def statistics(self) -> PerformerStatistics:
        return PerformerStatistics(
            self._replayed, self._asked, self._asked_twice, len(self._flights), len(self._pending) + len(self._unread)
        )

    async def _read_ahead(self) -> None:
        turn = Turn()
        while True:
            await self._to_read.wait()
            self._to_read.clear()
            while self._unread:
                batch: dict[str, tuple[Request, ChatRequest]] = {}
                while self._unread and len(batch) < _READ_AHEAD:
                    request = self._unread.popleft()
                    with self._pulse.of("rendering"):
                        question = self._prompts.render(request)
                        batch[question.key] = request, question
                    await turn.pass_on()
                found = await self._store.get_many(list(batch))
                for key, (request, question) in batch.items():
                    if request.ordinal not in self._futures:  # stopped meanwhile
                        continue
                    if (outcome := found.get(key)) is not None:
                        self._replayed += 1
                        self._settle(request, Performed(key, outcome))
                    elif self._backend is None:
                        self._refuse(request.ordinal)
                    else:
                        heapq.heappush(self._pending, (request.due, request.ordinal, key, request))
                        self._missing.add(request.ordinal)
                        if len(self._rendered) < _RENDERED_KEPT:
                            self._rendered[request.ordinal] = question
                if self._needed is not None:
                    self.need(self._needed)
                self._to_ask.set()

    def _settle(self, request: Request, performed: Performed) -> None:
        future = self._futures.pop(request.ordinal)
        if not future.done():
            future.set_result(performed)

    def _refuse(self, ordinal: int) -> None:
        future = self._futures.pop(ordinal)
        if not future.done():
            future.set_exception(Stopped())

    async def _dispatch(self) -> None:
        connected = False
        while True:
            await self._to_ask.wait()
            self._to_ask.clear()
            if not self._asking:
                continue
            if self._pending and not connected:
                assert self._backend is not None
                await self._backend.connect()
                connected = True
            set_off = 0
            while self._pending and not self._stopping and self._has_free_slot():
                _, ordinal, key, request = heapq.heappop(self._pending)
                flight = _Flight(request, key, asyncio.get_running_loop().time())
                self._flights[ordinal] = flight
                self._under_way.add(ordinal)
                self._missing.discard(ordinal)
                self._asked += 1
                self._set_off(flight, avoid=None)
                set_off += 1
                if set_off % _SET_OFF_AT_ONCE == 0:
                    await asyncio.sleep(0)

    def _has_free_slot(self) -> bool:
        return self._backend is not None and len(self._flights) < self._backend.capacity

    def _set_off(self, flight: _Flight, *, avoid: str | None) -> None:
        assert self._group is not None
        flight.attempts.append(self._group.create_task(self._ask(flight, avoid)))

    async def _ask(self, flight: _Flight, avoid: str | None) -> None:
        assert self._backend is not None
        request = flight.request
        if (question := self._rendered.pop(request.ordinal, None)) is None:
            with self._pulse.of("rendering"):
                question = self._prompts.render(request)
        try:
            outcome = await self._backend.ask(
                question,
                priority=request.due,
                affinity=request.task_id,
                placed=lambda url: setattr(flight, "endpoint", url),
                avoid=avoid,
            )
        except asyncio.CancelledError:
            if not flight.answered:
                self._flights.pop(request.ordinal, None)
            raise
        except EndpointUnavailable:  # only after `stop`: until then the pool goes on trying
            if not self._stopping:
                raise
            flight.attempts.remove(asyncio.current_task())  # type: ignore[arg-type]
            if not flight.attempts:
                self._flights.pop(request.ordinal, None)
                self._under_way.discard(request.ordinal)
                self._refuse(request.ordinal)
            return
        if flight.answered:
            return
        flight.answered = True
        for other in flight.attempts:
            if other is not asyncio.current_task():
                other.cancel()
        # The slot is free once the answer is read; that it is durable matters only to the commit.
        self._flights.pop(request.ordinal, None)
        self._to_ask.set()
        if isinstance(outcome, Completion):
            self._latencies.setdefault(request.kind, deque(maxlen=_LATENCIES_KEPT)).append(outcome.latency_s)
        await self._store.put(flight.key, request, question, outcome)
        self._under_way.discard(request.ordinal)
        self._settle(request, Performed(flight.key, outcome, new=True))

    async def _watch_head_of_line(self) -> None:
        """What is soonest due holds up all commits: past its deadline it is asked a second time, elsewhere."""
        while True:
            await asyncio.sleep(min(1.0, self._first_deadline_s / 4))
            flights = self._flights.values()
            head = min(flights, key=lambda flight: (flight.request.due, flight.request.ordinal), default=None)
            if head is None or len(head.attempts) > 1:
                continue
            deadline = self._deadline(head.request.kind)
            if deadline is not None and asyncio.get_running_loop().time() - head.started > deadline:
                self._asked_twice += 1
                self._set_off(head, avoid=head.endpoint)

    def _deadline(self, kind: Kind) -> float | None:
        """Seconds after which the head of the line counts as lost; None while there is too little to judge by."""
        latencies = self._latencies.get(kind, ())
        if len(latencies) < _LATENCIES_NEEDED:
            return None
        p99 = sorted(latencies)[int(_P99 * (len(latencies) - 1))]
        return max(self._first_deadline_s, _DEADLINE_IN_P99 * p99)
