"""Brings each request to its outcome: the stored one, or else an endpoint's, which is stored before it is used.

Stored outcomes are read ahead in batches. Nothing is asked, and no server is started, before the driver waits for an
outcome that is not stored: so a finished run replays by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Protocol

from explore_async.exploration import checks
from explore_async.exploration.values import ChatRequest, Outcome, Request
from explore_async.running.asking import Asking, Backend, Flight
from explore_async.running.checking import Checking
from explore_async.running.driver import RunStopped, StoredOutcome
from explore_async.running.endpoint_speeds import EndpointSpeeds
from explore_async.running.latencies import Latencies
from explore_async.running.own_time import OwnTime
from explore_async.running.read_ahead import LookUp, OutcomeReader, ReadAhead
from explore_async.settings.recipe import Recipe

_COMMITTING_S = 2.0
"""After a stop with nothing in flight, commits go on for this long. The next start commits the rest from the store."""


class Store(OutcomeReader, Protocol):
    """The part of `storage.completions.CompletionStore` that the performer uses."""

    def put(
        self, key: str, request: Request, question: ChatRequest, outcome: Outcome, /
    ) -> asyncio.Future[Outcome]: ...


@dataclass(frozen=True, slots=True)
class PerformerStatistics:
    """A snapshot. `replayed` outcomes were stored already. `asked` requests were sent to an endpoint, `asked_twice` of
    them a second time meanwhile. Of those without an outcome, `asking` are in flight, wait for a slot, or for their
    next attempt, and `pending` wait for their turn. `waiting` ones have an outcome and wait for their commit.
    """

    replayed: int
    asked: int
    asked_twice: int
    asking: int
    pending: int
    waiting: int


@dataclass(frozen=True, slots=True)
class HeadOfLine:
    """Requests at one endpoint that stored completions wait for, as completions are judged in order.

    `age_s`: of the first one, `there_s`: since it was sent to this endpoint, which is less where it was sent again;
    `waited_s`: since then nothing is judged.
    """

    endpoint: str
    """Its URL; empty while the first one waits for a slot."""
    requests: int
    age_s: float
    there_s: float
    waited_s: float


class Performer:
    """Owns the outcomes between the store and the driver, and those that are not durable yet.

    `render` makes the form that an endpoint sees. `backend` None means offline: an outcome that is not stored stops the
    run. `stored`: the most requests that may have a stored outcome. `first_deadline_s`: the head of the line is not
    asked a second time before this, however quick the endpoints. `recipe`: that of the checks, where there are any.
    `render_otherwise`: another form of a request, whose stored completion serves as well.
    """

    def __init__(
        self,
        store: Store,
        render: Callable[[Request], ChatRequest],
        backend: Backend | None,
        own_time: OwnTime,
        *,
        stored: float = inf,
        first_deadline_s: float = 60.0,
        recipe: Recipe | None = None,
        render_otherwise: Callable[[Request], ChatRequest | None] | None = None,
    ) -> None:
        self._store = store
        self._checking: Checking | None = None
        if backend is not None and recipe is not None and recipe.checks:
            self._checking = Checking(recipe, self._take_answer, lambda: self.has_begun_asking)
        self.speeds = EndpointSpeeds()
        self._latencies = Latencies(first_deadline_s)
        self._asking: Asking | None = None
        if backend is not None:
            self._asking = Asking(
                backend,
                render,
                self._take_answer,
                latencies=self._latencies,
                speeds=self.speeds,
                own_time=own_time,
            )
        self._read_ahead = ReadAhead(
            store, render, self._take_look_up, own_time, stored=stored, render_otherwise=render_otherwise
        )
        self._outcomes: dict[int, asyncio.Future[StoredOutcome | None]] = {}
        """Those not taken yet, by ordinal. None: the run was stopped before there was an outcome."""
        self._waiting = 0
        """Outcomes among them."""
        self._latest_due = -1
        """The latest due of all outcomes so far."""
        self._awaited: Request | None = None
        """The request for whose outcome the driver waits."""
        self._awaited_since = 0.0
        self._unstored: set[int] = set()
        """Ordinals of outcomes that are not durable yet."""
        self._broken: asyncio.Future[None] | None = None
        """Gets the error of the store, which ends the run."""
        self._stopping = False
        self._quiet_since: float | None = None
        self._background: list[asyncio.Task[None]] = []
        self._replayed = 0

    def open(self, group: asyncio.TaskGroup) -> None:
        """Starts its coroutines in `group`; a bug in any of them ends the run."""
        self._broken = asyncio.get_running_loop().create_future()
        self._background = [
            group.create_task(self._read_ahead.keep_reading(), name="read ahead"),
            group.create_task(self._watch_store(self._broken), name="store"),
        ]
        if self._asking is not None:
            self._asking.open(group)
        if self._checking is not None:
            self._checking.open(group)

    async def close(self, *, abandon: bool) -> None:
        """Ends its coroutines. Requests in flight are abandoned, or waited for and stored."""
        self._stopping = True
        if self._asking is not None:
            await self._asking.close(abandon=abandon)
        if self._checking is not None:
            await self._checking.close()
        for coroutine in self._background:
            coroutine.cancel()
        if self._background:
            await asyncio.wait(self._background)
        self._broken = None

    @staticmethod
    async def _watch_store(broken: asyncio.Future[None]) -> None:
        await broken

    def stop(self, *, in_haste: bool = False) -> None:
        """Asks nothing more. Requests in flight may still be answered and stored; all others get RunStopped.

        A request that takes longer than the slowest of the latest ones is not waited for; in haste, one that takes
        longer than some seconds.
        """
        self._stopping = True
        self._read_ahead.clear()
        if self._asking is not None:
            self._asking.stop(in_haste=in_haste)
        if self._checking is not None:
            self._checking.stop()
        for ordinal in self._outcomes:
            if ordinal not in self._unstored and not self._is_asking_for(ordinal):
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
        if self._asking is not None and not future.done():
            self._asking.need(request.ordinal)
            if self._checking is not None:
                self._checking.need(request.ordinal)
        if not future.done():
            self._awaited, self._awaited_since = request, asyncio.get_running_loop().time()
        stored = await future
        self._awaited = None
        del self._outcomes[request.ordinal]
        if stored is None:
            raise RunStopped
        self._waiting -= 1
        return stored

    def give_back(self) -> None:
        """The outcome that was taken last is not judged."""
        self._waiting += 1

    def oldest_s(self) -> dict[str, float]:
        """The age of the oldest request in flight at each endpoint, in seconds, by URL."""
        return {} if self._asking is None else self._asking.oldest_s()

    def head_of_line(self) -> HeadOfLine | None:
        """The requests that hold up all commits; None while the driver waits for none that is asked for."""
        head, asking = self._awaited, self._asking
        if head is None or asking is None or not asking.is_asking_for(head.ordinal):
            return None
        flights = asking.due_by(max(head.due, self._latest_due))
        first, now = flights[head.ordinal], asyncio.get_running_loop().time()
        return HeadOfLine(
            endpoint=first.endpoint,
            requests=sum(flight.endpoint == first.endpoint for flight in flights.values()),
            age_s=now - first.started,
            there_s=now - (first.sent_at if first.endpoint else first.started),
            waited_s=now - self._awaited_since,
        )

    def awaited_check(self) -> tuple[str, float] | None:
        """The check whose verdict holds up all commits, and for how many seconds by now; None where none does."""
        if self._awaited is None or self._checking is None or not self.has_begun_asking:
            return None
        name = self._checking.check_of(self._awaited.ordinal)
        return None if name is None else (name, asyncio.get_running_loop().time() - self._awaited_since)

    @property
    def has_begun_asking(self) -> bool:
        """False while everything that the driver waited for was stored."""
        return self._asking is not None and self._asking.begun

    @property
    def latency_s(self) -> float:
        """Nine of ten of the latest completions took at most this long."""
        return self._latencies.p90_s

    @property
    def patience_s(self) -> float | None:
        """Seconds until the requests in flight are given up; None where the run goes on."""
        return None if self._asking is None else self._asking.patience_s

    def statistics(self) -> PerformerStatistics:
        asking = self._asking
        pending = len(self._read_ahead) + (0 if asking is None else asking.pending)
        number = 0 if asking is None else asking.number
        asked, asked_twice = (0, 0) if asking is None else (asking.asked, asking.asked_twice)
        return PerformerStatistics(self._replayed, asked, asked_twice, number, pending, self._waiting)

    def _is_asking_for(self, ordinal: int) -> bool:
        return self._asking is not None and self._asking.is_asking_for(ordinal)

    def _is_over(self) -> bool:
        """True when commits have gone on for long enough after a stop: thousands may be stored and not committed."""
        if not self._stopping or self._unstored or (self._asking is not None and self._asking.number):
            self._quiet_since = None
            return False
        now = asyncio.get_running_loop().time()
        if self._quiet_since is None:
            self._quiet_since = now
        return now - self._quiet_since > _COMMITTING_S

    def _resolve(self, ordinal: int, stored: StoredOutcome | None) -> None:
        future = self._outcomes[ordinal]
        if not future.done():
            future.set_result(stored)
            self._waiting += stored is not None

    def _take_look_up(self, look_up: LookUp) -> None:
        ordinal = look_up.request.ordinal
        if self._stopping:
            return
        if look_up.outcome is not None:
            self._replayed += 1
            self._resolve(ordinal, StoredOutcome(look_up.key, look_up.outcome))
        elif self._asking is None:
            self._resolve(ordinal, None)
        elif self._checking is not None and look_up.request.kind == checks.KIND:
            self._checking.add(look_up)
        else:
            self._asking.add(look_up)

    def _take_answer(self, flight: Flight, outcome: Outcome | None) -> None:
        """Stores an outcome that was asked for; None where the run stops before there is one."""
        ordinal = flight.request.ordinal
        if outcome is None:
            self._resolve(ordinal, None)
            return
        self._unstored.add(ordinal)
        storing = self._store.put(flight.key, flight.request, flight.chat_request, outcome)
        storing.add_done_callback(partial(self._take_stored, flight))

    def _take_stored(self, flight: Flight, storing: asyncio.Future[Outcome]) -> None:
        if (error := storing.exception()) is None:
            ordinal = flight.request.ordinal
            self._unstored.discard(ordinal)
            self._latest_due = max(self._latest_due, flight.request.due)
            self._resolve(ordinal, StoredOutcome(flight.key, storing.result(), new=True))
        elif self._broken is not None and not self._broken.done():
            self._broken.set_exception(error)
