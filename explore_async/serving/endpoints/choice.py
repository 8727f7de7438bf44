"""The choice between a free slot and a wait for a faster endpoint: a request goes where it is answered soonest. Pure.

While all slots of a faster endpoint are taken, the requests that wait get these as they become free, soonest due first.
So a free slot of a slower endpoint is for the first of them that would wait for longer than it gains: with few requests
waiting, at the end of a run or while the tree waits for a completion, it is for none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

FASTER: Final = 1.25
"""Times as fast from which an endpoint counts as faster; below it, endpoints share the requests."""
_MEMORY: Final = 0.95
"""Weight of the earlier completions against the latest."""
_TOLD_BY_CHECK: Final = 1.6
"""Times as long from which the check of an endpoint says that it is slower."""
_MOST_BY_CHECK: Final = 4.0
"""Times slower that an endpoint counts at most until it has answered a request of the run: the first requests with a
schema may take long.
"""
_FORGOTTEN_S: Final = 60.0
"""Time without a request after which an endpoint may be as fast as any."""
_SLOWED_BY_LOAD: Final = -1 / 3
"""Power of the load by which a request slows down beyond the load that was seen: an engine with eight times the
requests gives each of them half the speed or more.
"""
_TELLING: Final = 3
"""Completions from which the speed is told by them, and not by the check."""
_UNNOTICED_S: Final = 0.1
"""Added to the time of each completion: endpoints that differ by less count as equal, and share the requests."""
_UNNOTICED_IN_CHECK_S: Final = 0.02
_SILENT: Final = 3.0
"""Times as long as a completion takes, after which an endpoint that brings none counts as slower."""
_MUCH_FASTER: Final = 2.0
"""Times as fast from which a request in flight is worth a second one: that takes the place of another request."""
_REMAINING: Final = 0.1
"""Time that an overdue request is expected to take longer, as a share of the time that it has taken."""


@dataclass(slots=True, eq=False)
class AnswerSpeed:
    """The speed of an endpoint for one model, by its latest completions, each weighted less than the one after it.

    `check_s`: the time of its check, in seconds.
    """

    check_s: float | None = None
    _number: int = 0
    _noted_at: float = float("-inf")
    _tokens: float = 0.0
    _seconds: float = 0.0
    _weight: float = 0.0
    _in_flight: float = 0.0

    def note(self, tokens: int, seconds: float, in_flight: int, now: float) -> None:
        """A completion of this number of tokens held a slot for so long, beside this number of requests in flight."""
        self._number += 1
        self._noted_at = now
        self._tokens = _MEMORY * self._tokens + tokens
        self._seconds = _MEMORY * self._seconds + seconds + _UNNOTICED_S
        self._weight = _MEMORY * self._weight + 1
        self._in_flight += (in_flight - self._in_flight) / self._weight

    @property
    def is_told(self) -> bool:
        """True when completions tell the speed, and no longer the check."""
        return self._number >= _TELLING

    def now(self, in_flight: int, busy_since: float, now: float) -> float | None:
        """Tokens per second of one request more beside those in flight; None where too few completions tell it."""
        if not self.is_told or (in_flight == 0 and now - self._noted_at > _FORGOTTEN_S):
            return None
        speed = self._tokens / self._seconds
        if (more := (in_flight + 1) / self._in_flight) > 1:
            speed *= more**_SLOWED_BY_LOAD
        silent_s = now - max(self._noted_at, busy_since) if in_flight else 0.0
        if (times := silent_s * self._weight / (_SILENT * self._seconds)) > 1:
            speed /= times
        return speed


@dataclass(frozen=True, slots=True)
class Candidate:
    """An endpoint that serves a model, at one moment. `busy_since`: the time since which it has had requests."""

    speed: AnswerSpeed
    in_flight: int
    busy_since: float


def speeds_now(candidates: Sequence[Candidate], now: float) -> list[float]:
    """The speed of one more request at each of them. Those that have answered none are compared by their checks."""
    known = [one.speed.now(one.in_flight, one.busy_since, now) for one in candidates]
    measured = [(speed, one) for speed, one in zip(known, candidates, strict=True) if speed is not None]
    if len(measured) == len(candidates):
        return [speed for speed, _ in measured]
    if measured:
        best, check_s = max(((speed, one.speed.check_s) for speed, one in measured), key=lambda pair: pair[0])
    else:
        checks = [one.speed.check_s for one in candidates if one.speed.check_s is not None]
        best, check_s = 1.0, min(checks, default=None)
    return [
        _assumed(one, best, check_s) if speed is None else speed for speed, one in zip(known, candidates, strict=True)
    ]


def _assumed(candidate: Candidate, best: float, check_s: float | None) -> float:
    own_s = candidate.speed.check_s
    if own_s is None or check_s is None:
        return best
    times = (own_s + _UNNOTICED_IN_CHECK_S) / (check_s + _UNNOTICED_IN_CHECK_S)
    return best / min(_MOST_BY_CHECK, times) / (candidate.in_flight + 1) if times >= _TOLD_BY_CHECK else best


def passed_over(speed: float, others: Iterable[tuple[float, int]]) -> float:
    """The number of waiting requests, soonest due first, that a free slot of this speed is not for: the endpoints that
    are faster answer them sooner, each as one of its slots becomes free. `others`: speeds and requests in flight.
    """
    return sum(in_flight * (faster / speed - 1) for faster, in_flight in others if faster > FASTER * speed)


@dataclass(frozen=True, slots=True)
class Rivals:
    """The endpoints of a model that a request in flight could be sent to a second time, at one moment.

    `times_slower`: by URL, how many times as long as at the fastest other endpoint a token takes. `queue`: the wait for
    a slot there, as a share of the time of a completion.
    """

    times_slower: Mapping[str, float]
    queue: float

    def at_most_s(self, url: str, usual_s: float) -> float:
        """Seconds after which a request there is answered, as it is sent again to a much faster endpoint; infinite
        where there is none.
        """
        is_sent_again = self.times_slower.get(url, 0.0) >= _MUCH_FASTER
        return usual_s * (1 + self.queue) if is_sent_again else inf

    def are_quicker(self, url: str, elapsed_s: float, usual_s: float) -> bool:
        """True when a request that has been at this endpoint for so long is expected to be answered sooner if it is
        sent again. `usual_s`: the usual time of such requests, most of which are at fast endpoints.

        One that is over its time at a much slower endpoint is expected to take as long again as it is over it: it is
        long, and would be so at a faster one, but not as long.
        """
        slower = self.times_slower.get(url, 0.0)
        left_s, again_s = _REMAINING * elapsed_s, usual_s
        if slower >= _MUCH_FASTER:
            left_s = max(left_s, abs(usual_s * slower - elapsed_s))
            again_s = max(usual_s, (elapsed_s + left_s) / slower)
        return slower > 0 and left_s > again_s * (1 + self.queue)
