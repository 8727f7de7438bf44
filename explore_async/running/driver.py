"""Executes requests out of order and commits their outcomes in a fixed order, like a processor with a reorder buffer.

A window of requests is outstanding at once. Whichever outcome comes first, the request that is soonest due is committed
first, so the explorer sees the same outcomes in the same order at any speed.
"""

from __future__ import annotations

import heapq
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from explore_async.exploration.play import Source
from explore_async.exploration.values import Event, Outcome, Request
from explore_async.running.own_time import OwnTime, Turn


@dataclass(frozen=True, slots=True)
class StoredOutcome:
    """The outcome of a request with the key under which it is stored. `new`: this start asked an endpoint for it."""

    key: str
    outcome: Outcome
    new: bool = False


class RunStopped(Exception):
    """The run was asked to stop, so no outcome will come."""


class OutcomeProvider(Protocol):
    """The part of the performer that `drive` uses."""

    def start(self, request: Request) -> None:
        """Sets the request off."""

    async def take(self, request: Request) -> StoredOutcome:
        """Waits for the outcome of a started request; called once for each. Raises RunStopped where none will come."""


async def drive(
    source: Source,
    provider: OutcomeProvider,
    publish: Callable[[Request, StoredOutcome, list[Event]], None],
    own_time: OwnTime,
    *,
    ready: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Runs the source to its end, beginning with its outstanding requests. `exploration.play` is the same without
    waiting.

    `ready`: awaited before the first commit, while completions are fetched; it may raise RunStopped. Raises RunStopped
    where a due outcome will not come; everything committed until then stays committed.
    """
    issued: list[tuple[int, int, Request]] = []
    for request in source.outstanding:
        provider.start(request)
        issued.append((request.due, request.ordinal, request))
    heapq.heapify(issued)
    turn = Turn()
    while source.stopped is None:
        while len(issued) < source.window:
            with own_time.of("asking"):
                if (issuing := source.next_request()) is None:
                    break
                provider.start(issuing)
                heapq.heappush(issued, (issuing.due, issuing.ordinal, issuing))
            await turn.pass_on()
        if not issued:
            break
        _, _, request = heapq.heappop(issued)
        stored = await provider.take(request)
        if ready is not None:
            await ready()
            ready = None
        with own_time.of("committing"):
            events = source.commit(request, stored.outcome)
        with own_time.of("writing"):
            publish(request, stored, events)
        await turn.pass_on()
