"""The time that a run still takes: the requests that it still needs, at the pace at which completions come. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

_ASSUMED_SHARE = 0.8
_ASSUMED_REQUESTS = 5
_LATE = 0.1
"""Of the time of a slow completion: what is still to come of one that takes a little longer."""
_MINUTE_S = 60.0
_SECONDS_BETWEEN = 5.0
_REMEMBERED = 2_000
_STANDS_STILL = 0.2
"""Seconds by which the time becomes less in a second."""


@dataclass(frozen=True, slots=True)
class Work:
    """A run at one moment. `committed` requests of all kinds; of these, `generated` asked for examples and brought the
    `kept` ones of `wanted`. `waiting`: requests whose outcome is there and not committed. `tokens`: of all that is
    committed.
    """

    committed: int
    generated: int
    waiting: int
    kept: int
    wanted: int
    per_request: int
    tokens: int = 0
    token_budget: int | None = None
    steps: int = 0
    """Requests that an instruction needs before it is an example; 0 where its first completion holds all of it."""
    rounds: int = 0
    """Those of them that follow one another."""
    found: int = 0
    """Instructions that were new, where each needs such requests; `unfinished` ones of them still do."""
    unfinished: int = 0
    stepped: int = 0
    """Committed requests about them."""
    finds: bool = True
    """False: all instructions are there, and no other takes the place of one that drops out."""

    @property
    def _instructions_left(self) -> float:
        """Instructions that have to be finished: as many become examples as did so far, and a few assumed ones."""
        if not self.finds:
            return self.unfinished
        assumed = _ASSUMED_REQUESTS * self.per_request
        finished = self.found - self.unfinished
        share = (self.kept + assumed * _ASSUMED_SHARE) / (finished + assumed) if self.steps else 1.0
        return max(0, self.wanted - self.kept) / share

    @property
    def _requests_for_instructions(self) -> float:
        """A request brings as many new instructions as it did so far; a few requests of which four fifths are new count
        from the start, so that the first ones do not decide alone.
        """
        assumed = _ASSUMED_REQUESTS * _ASSUMED_SHARE * self.per_request
        found = self.found if self.steps else self.kept
        found_per_request = (found + assumed) / (self.generated + _ASSUMED_REQUESTS)
        return max(0.0, self._instructions_left - self.unfinished) / found_per_request

    @property
    def rounds_left(self) -> float:
        """Requests that have to follow one another until the last example is there."""
        return self.rounds + min(1.0, self._requests_for_instructions) if self._instructions_left else 0.0

    @property
    def requests_left(self) -> float:
        """Requests whose completions are still to come."""
        done = min(max(0, self.stepped - (self.found - self.unfinished) * self.steps), self.unfinished * self.steps)
        needed = self._requests_for_instructions + max(0.0, self._instructions_left * self.steps - done)
        if self.token_budget is not None and self.committed and self.tokens:
            needed = min(needed, max(0, self.token_budget - self.tokens) * self.committed / self.tokens)
        return max(0.0, needed - self.waiting)


@dataclass(frozen=True, slots=True)
class Pace:
    """The endpoints that are in use, at one moment. Times are in seconds."""

    answers_per_s: float
    """Over several of the slowest completions: before unequal endpoints a run stops and goes."""
    in_flight: int
    usual_s: float
    """A completion takes so long in the middle."""
    slowest_s: float
    """A slow completion at the slowest of the endpoints takes so long."""
    window: int
    """Requests that may be outstanding: so many are sent at most while the slowest of them is awaited."""
    draining_s: float
    """Until the requests in flight are answered."""
    is_draining: bool
    """Endpoints are free, and no request waits for them."""


def time_left_s(work: Work, pace: Pace) -> float | None:
    """Seconds at this pace; None while nothing is answered.

    First requests are sent, as many as are needed beside those in flight. Then the run waits for the slowest of them,
    and for those that follow it.
    """
    following_s = max(0.0, work.rounds_left - 1) * pace.usual_s
    to_send = max(0.0, work.requests_left - pace.in_flight)
    sending_s = to_send * pace.usual_s
    if pace.answers_per_s > 0:
        sending_s = max(min(sending_s, to_send / pace.answers_per_s), to_send / pace.window * pace.slowest_s)
    elif not (pace.is_draining and pace.draining_s):
        return None
    if not pace.is_draining:
        return sending_s + pace.slowest_s + following_s
    return pace.draining_s + max(sending_s, min(1.0, to_send) * pace.usual_s, following_s)


def remaining_s(age_s: float, slow_s: float) -> float:
    """Seconds until a request of this age is answered, where a slow completion takes `slow_s`; 0 where none is known.

    One that is far older than that takes as long again as it is over its time.
    """
    return max(slow_s - age_s, _LATE * slow_s, age_s - slow_s)


class Promise:
    """Owns what was said to be left. Where that hardly becomes less, something holds the run up that the pace does not
    show, and it is not said.
    """

    def __init__(self) -> None:
        self._said: deque[tuple[float, float]] = deque(maxlen=_REMEMBERED)

    def is_kept(self, left_s: float, now: float) -> bool:
        """False where half of this time, and at least a minute, has passed and nearly as much is left as before."""
        if not self._said or now - self._said[-1][0] >= _SECONDS_BETWEEN:
            self._said.append((now, left_s))
        since = now - max(_MINUTE_S, left_s / 2)
        before = next(((at, said_s) for at, said_s in reversed(self._said) if at <= since), None)
        return before is None or before[1] - left_s > _STANDS_STILL * (now - before[0])
