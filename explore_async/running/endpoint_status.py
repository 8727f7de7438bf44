"""The state of each endpoint in words: one that is out, slow or silent is named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from explore_async.running.endpoint_speeds import EndpointSpeeds, LatencyFigures, Rate, Speed
from explore_async.serving.endpoints.values import EndpointStatistics, PoolStatistics

State = Literal["ok", "waiting", "spare", "slow", "silent", "checking", "out", "left"]
"""ok: it brings completions. waiting: it has requests, and its first completion is awaited. spare: it has no request,
as faster endpoints answer them sooner. slow: a token takes several times as long as at the others. silent: it holds
requests and has brought none for long, while others have, or it has answered nothing at all for long. checking: its
first check is under way. out: it gets no requests at the moment. left: the endpoints file no longer lists it.
"""

SLOW_FROM = 3.0
"""Times as slow as the others."""
_SECONDS_BETWEEN_CHANGES = 10.0
_SLOW_UNTIL = 2.0
"""It is no longer said to be slow below this."""
_OK: frozenset[State] = frozenset({"waiting", "spare"})
_IN_USE: frozenset[State] = frozenset({"ok", "slow"})


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """An endpoint at one moment. Rates are of the last minute, 0 while it gets no requests; the counts are of this
    start.
    """

    url: str
    state: State
    trouble: str
    """Empty where there is none."""
    answers_per_s: float
    tokens_per_s: float
    """Completion tokens."""
    latency_s: LatencyFigures | None
    """None before its first completion."""
    slower: float | None
    """Times as slow as the others, by the time of a token or by all tokens per second, whichever is less; None where
    that is not known.
    """
    in_flight: int
    limit: int
    """Most requests in flight now; 0 while it gets none."""
    answered: int
    retries: int
    failed_attempts: int
    checking_s: float
    """Seconds that its first check has taken so far; 0 when that is over."""
    engine: str
    """Name and version of the engine; empty where it does not say."""


def statuses(pool: PoolStatistics, speeds: EndpointSpeeds, now: float) -> tuple[EndpointStatus, ...]:
    """The endpoints in the order of the settings. `now`: time of the event loop, in seconds."""
    in_use = {endpoint.url for endpoint in pool.endpoints if endpoint.healthy}
    found = speeds.of([endpoint.url for endpoint in pool.endpoints], now, in_use=in_use)
    return tuple(_status(endpoint, speed) for endpoint, speed in zip(pool.endpoints, found, strict=True))


def _status(endpoint: EndpointStatistics, speed: Speed) -> EndpointStatus:
    slower = None if speed.slower is None else round(speed.slower, 1)
    state, trouble = _state(endpoint, speed, slower)
    rate = Rate() if state in {"out", "left"} else speed.rate
    return EndpointStatus(
        url=endpoint.url,
        state=state,
        trouble=trouble,
        answers_per_s=round(rate.answers_per_s, 3),
        tokens_per_s=round(rate.tokens_per_s, 1),
        latency_s=speed.latency_s,
        slower=slower,
        in_flight=endpoint.in_flight,
        limit=endpoint.limit if endpoint.healthy else 0,
        answered=endpoint.answered,
        retries=endpoint.retries,
        failed_attempts=endpoint.failed_attempts,
        checking_s=endpoint.checking_s,
        engine=endpoint.engine,
    )


def _state(endpoint: EndpointStatistics, speed: Speed, slower: float | None) -> tuple[State, str]:
    if endpoint.left:
        return "left", ""
    if not endpoint.healthy:
        if endpoint.checked:
            return "out", endpoint.trouble
        return "silent" if endpoint.is_silent else "checking", endpoint.trouble
    if speed.silent_s is not None:
        return "silent", (
            f"{endpoint.url} has brought no completion for {speed.silent_s:,.0f} s, while others have; "
            "what it has not answered is asked again at another endpoint when the run waits for it, at the "
            "latest when its time is over"
        )
    if slower is not None and slower >= SLOW_FROM:
        return "slow", (
            f"{endpoint.url} is slow: by the time of a token and by its tokens per second it is {slower:.1f} times as "
            "slow as the others"
        )
    if endpoint.spare:
        return "spare", endpoint.trouble
    return "ok" if endpoint.answered or not endpoint.in_flight else "waiting", endpoint.trouble


class EndpointChanges:
    """Notices when an endpoint comes to another state. One that changes all the time is reported now and then."""

    def __init__(self) -> None:
        self._used: set[str] = set()
        """URLs of those that have been in use."""
        self._reported: dict[str, State] = {}
        self._reported_at: dict[str, float] = {}

    def of(self, endpoints: Sequence[EndpointStatus], now: float) -> Iterator[str]:
        """A line for each endpoint whose state is another than the one reported before."""
        for endpoint in endpoints:
            before = self._reported.setdefault(endpoint.url, "ok")
            state = "ok" if endpoint.state in _OK else endpoint.state  # these change with every request
            is_new = endpoint.url not in self._used  # it joins once: that cannot flap
            if state in _IN_USE:
                self._used.add(endpoint.url)
            if state == before:
                continue
            if before == "slow" and state == "ok" and (endpoint.slower or 0.0) > _SLOW_UNTIL:
                continue
            if not is_new and now - self._reported_at.get(endpoint.url, float("-inf")) < _SECONDS_BETWEEN_CHANGES:
                continue
            self._reported[endpoint.url] = state
            if not is_new:
                self._reported_at[endpoint.url] = now
            if endpoint.trouble:
                yield endpoint.trouble
            elif state == "ok":
                yield f"{endpoint.url} {_became_ok(before, is_new=is_new)}"


def _became_ok(before: State, *, is_new: bool) -> str:
    if is_new:
        return "has joined: it gets requests"
    return "is back" if before == "out" else f"is no longer {before}"
