"""The time that a run still takes: the requests that it still needs, at the pace at which completions come. Pure."""

from __future__ import annotations

from dataclasses import dataclass

_ASSUMED_SHARE = 0.8
_ASSUMED_REQUESTS = 5


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

    @property
    def requests_left(self) -> float:
        """Requests whose completions are still to come. A request brings as many examples as it did so far; a few
        requests of which four fifths of the examples are kept count from the start, so that the first ones do not
        decide alone.
        """
        assumed = _ASSUMED_REQUESTS * _ASSUMED_SHARE * self.per_request
        kept_per_request = (self.kept + assumed) / (self.generated + _ASSUMED_REQUESTS)
        needed = max(0, self.wanted - self.kept) / kept_per_request
        if self.token_budget is not None and self.committed and self.tokens:
            needed = min(needed, max(0, self.token_budget - self.tokens) * self.committed / self.tokens)
        return max(0.0, needed - self.waiting)


def time_left_s(work: Work, answers_per_s: float, latency_s: float) -> float | None:
    """Seconds at this pace; None while nothing is answered. The end takes as long as a slow completion, `latency_s`:
    what turns out to be a duplicate is asked for anew.
    """
    return max(work.requests_left / answers_per_s, latency_s) if answers_per_s > 0 else None
