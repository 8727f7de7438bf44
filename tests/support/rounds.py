"""Runs in rounds: what is outstanding when a round begins is answered when it ends, as by servers without a limit."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from explore_async.exploration.values import Request
from support.scripted import Driven


def in_rounds(run: Driven) -> Iterator[list[Request]]:
    """Plays the run to its end; yields what each round answered. Commits are those of `running.driver.drive`."""
    outstanding: list[tuple[int, int, Request]] = []
    answered: set[int] = set()
    while run.stopped is None:
        _issue(run, outstanding)
        if not outstanding:
            return
        new = [request for _, _, request in outstanding if request.ordinal not in answered]
        answered |= {request.ordinal for request in new}
        yield new
        while run.stopped is None and outstanding and outstanding[0][1] in answered:
            _, _, request = heapq.heappop(outstanding)
            stored = run.perform(request)
            run.publish(request, stored, run.commit(request, stored.outcome))
            _issue(run, outstanding)


def _issue(run: Driven, outstanding: list[tuple[int, int, Request]]) -> None:
    while len(outstanding) < run.window and (request := run.next_request()) is not None:
        heapq.heappush(outstanding, (request.due, request.ordinal, request))
