"""Execute out of order, commit in a fixed order: like a processor with a reorder buffer.

A window of requests is under way at once. Whatever comes back first, what is soonest due is committed first, so the
explorer sees the same outcomes in the same order at any speed.
"""

from __future__ import annotations

import heapq
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from explore_async.exploration.explorer import Explorer
from explore_async.exploration.values import Event, Outcome, Request
from explore_async.running.own_time import Pulse, Turn


@dataclass(frozen=True, slots=True)
class Performed:
    """What came of a request, and the key under which it is stored. `new`: it was asked for at this start."""

    key: str
    outcome: Outcome
    new: bool = False


class Stopped(Exception):
    """No outcome will come: the run was asked to stop."""


async def drive(
    explorer: Explorer,
    start: Callable[[Request], Awaitable[Performed]],
    publish: Callable[[Request, Performed, list[Event]], None],
    pulse: Pulse,
) -> None:
    """Runs the explorer to its end, beginning with what is outstanding. `start` sets a request off and gives what to
    await for it.

    Raises Stopped where an outcome that is due will not come; what was committed until then stands.
    """
    window = explorer.recipe.window
    issued = [(request.due, request.ordinal, request, start(request)) for request in explorer.outstanding]
    heapq.heapify(issued)
    turn = Turn()
    while explorer.stopped is None:
        while len(issued) < window:
            with pulse.of("asking"):
                if (request := explorer.next_request()) is None:
                    break
                heapq.heappush(issued, (request.due, request.ordinal, request, start(request)))
            await turn.pass_on()
        if not issued:
            break
        _, _, request, under_way = heapq.heappop(issued)
        performed = await under_way
        with pulse.of("committing"):
            events = explorer.commit(request, performed.outcome)
        with pulse.of("writing"):
            publish(request, performed, events)
        await turn.pass_on()
