"""A whole exploration without a server or an event loop: what `drive` does when every outcome is at hand.

for request, outcome, events in play(Explorer(recipe), answer):
...
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Protocol

from explore_async.exploration.values import Event, Outcome, Request


class Source(Protocol):
    """A source of requests, which learns from their outcomes. `Explorer` is one."""

    @property
    def window(self) -> int:
        """The most requests that are outstanding at once."""

    @property
    def stopped(self) -> str | None:
        """The reason why it has ended; None while it goes on."""

    @property
    def outstanding(self) -> list[Request]:
        """Requests that are issued and not committed, in the order of issue."""

    def next_request(self) -> Request | None:
        """Issues a request; None when nothing is worth asking before another commit."""

    def commit(self, request: Request, outcome: Outcome) -> list[Event]:
        """Takes in the outcome of a request. Called once for each request, by rising (due, ordinal)."""


def play(source: Source, answer: Callable[[Request], Outcome | None]) -> Iterator[tuple[Request, Outcome, list[Event]]]:
    """Plays the source to its end and yields each commit: the request, its outcome, and the events it led to.

    `answer` gives the outcome of a request; None ends the play before this commit, as a missing outcome does in an
    offline run. The request is then still outstanding, and another `play` of the same source begins with it.

    Issues and commits in the order of `running.driver.drive`. A caller may stop iterating at any time.
    """
    issued = [(request.due, request.ordinal, request) for request in source.outstanding]
    heapq.heapify(issued)
    while source.stopped is None:
        while len(issued) < source.window and (request := source.next_request()) is not None:
            heapq.heappush(issued, (request.due, request.ordinal, request))
        if not issued:
            return
        _, _, request = heapq.heappop(issued)
        if (outcome := answer(request)) is None:
            return
        yield request, outcome, source.commit(request, outcome)
