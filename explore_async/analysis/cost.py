"""The cost of coverage: requests, tokens and seconds of work over a run, as examples and new pairs came in.

Tokens are counted twice. Generated tokens are those of the completions. Decode-equivalent tokens also count each token
of a prompt that no prefix cache held, as a part of a generated one: an engine reads many tokens of a prompt in the time
in which it writes one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from explore_async.analysis.verb_noun import VerbNoun
from explore_async.curation.collections.collection import Collection
from explore_async.exploration.values import Completion
from explore_async.storage.completions import StoredReader

POINTS = 200
PROMPT_WEIGHT: Final = 0.1
"""Generated tokens that a token of a prompt counts for, unless a prefix cache held it."""
NO_COST: Final[Mapping[str, Any]] = {"cost": [], "cost_per": None}
_KEYS_AT_ONCE = 500
_PER = 1_000


@dataclass(slots=True)
class _Spent:
    """What the requests so far took. `reported`: prompt and cached tokens by endpoint."""

    requests: int = 0
    generated: int = 0
    prompt: int = 0
    cached: int = 0
    seconds: float = 0.0
    reported: dict[str, tuple[int, int]] = field(default_factory=dict)

    def take(self, outcome: object) -> None:
        self.requests += 1
        if not isinstance(outcome, Completion):
            return
        self.generated += outcome.completion_tokens
        self.prompt += outcome.prompt_tokens
        self.cached += outcome.cached_tokens
        self.seconds += outcome.latency_s
        prompt, cached = self.reported.get(outcome.endpoint, (0, 0))
        self.reported[outcome.endpoint] = prompt + outcome.prompt_tokens, cached + outcome.cached_tokens

    @property
    def unreported_share(self) -> float:
        """The share of the prompt tokens that went to endpoints which never reported a cached one."""
        unreported = sum(prompt for prompt, cached in self.reported.values() if not cached)
        return unreported / self.prompt if self.prompt else 0.0

    def point(self, kept: int, pairs: int) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "tokens": self.prompt + self.generated,
            "generated": self.generated,
            "prompt": self.prompt,
            "cached": self.cached,
            "request_seconds": round(self.seconds, 3),
            "kept": kept,
            "pairs": pairs,
        }


class Curve:
    """Points of a long row, spread evenly over all of it: the first, the last, and at most `most` others."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._stride = 1
        self._added = 0
        self._kept: list[dict[str, Any]] = []
        self._last: dict[str, Any] = {}

    def add(self, point: dict[str, Any]) -> None:
        self._last = point
        if self._added % self._stride == 0:
            self._kept.append(point)
        self._added += 1
        if len(self._kept) > self._most:
            self._kept = self._kept[::2]
            self._stride *= 2

    @property
    def points(self) -> list[dict[str, Any]]:
        is_last = not self._added or (self._added - 1) % self._stride == 0
        return [*self._kept] if is_last else [*self._kept, self._last]


def decode_equivalent(generated: float, prompt: float, cached: float, prompt_weight: float = PROMPT_WEIGHT) -> float:
    """Generated tokens that take about as long as these tokens, `cached` of whose `prompt` were in a prefix cache."""
    return generated + prompt_weight * (prompt - cached)


def cost_figures(run: Collection, verbs_nouns: Sequence[VerbNoun], prompt_weight: float) -> dict[str, Any]:
    """`cost`: points along the run in the order of its commits; `cost_per`: its whole cost and what it brought for it.

    `verbs_nouns` are the pairs of the run's examples in their order. `request_seconds` is the sum over all completions,
    which a server generates side by side. Requests that led to no decision, as their tasks had all they needed, are in
    the last point, by the totals of stats.json. Empty and None where the completions are not there, or do not belong to
    these examples.
    """
    points, unreported_share = _points(run, verbs_nouns)
    if not points:
        return dict(NO_COST)
    for at in points:
        at["equivalent"] = round(decode_equivalent(at["generated"], at["prompt"], at["cached"], prompt_weight), 1)
    return {"cost": points, "cost_per": _whole(points[-1], unreported_share, prompt_weight)}


def _points(run: Collection, verbs_nouns: Sequence[VerbNoun]) -> tuple[list[dict[str, Any]], float]:
    if not run.is_run or run.completions is None:
        return [], 0.0
    curve = Curve(4 * POINTS)
    spent, kept = _Spent(), 0
    seen: set[VerbNoun] = set()
    with StoredReader(run.completions) as reader:
        lines = _commits(run)
        charged: set[str] = set()
        while some := list(islice(lines, _KEYS_AT_ONCE)):
            outcomes = reader.get_many([key for key, _ in some if key not in charged])
            for key, keeps in some:
                if key not in charged and (stored := outcomes.get(key)) is not None:
                    charged.add(key)
                    spent.take(stored.outcome)
                if keeps:
                    if kept >= len(verbs_nouns):
                        return [], 0.0
                    verb, noun = verbs_nouns[kept]
                    kept += 1
                    if verb is not None and noun is not None:
                        seen.add((verb, noun))
                curve.add(spent.point(kept, len(seen)))
    points = curve.points
    if kept != len(verbs_nouns):
        return [], 0.0
    if points:
        points[-1] = {**points[-1], **_totals(run, points[-1])}
    step = max(1, len(points) // POINTS)
    return points[::step] + (points[-1:] if (len(points) - 1) % step else []), spent.unreported_share


def _whole(end: Mapping[str, Any], unreported_share: float, prompt_weight: float) -> dict[str, Any]:
    def per(tokens: str) -> dict[str, float | None]:
        spent = end[tokens]
        return {name: round(_PER * end[name] / spent, 3) if spent else None for name in ("kept", "pairs")}

    return {
        "prompt_weight": prompt_weight,
        "note": _note(unreported_share) if prompt_weight else "",
        **{name: end[name] for name in ("generated", "prompt", "cached", "equivalent", "kept", "pairs")},
        "per_1000_generated": per("generated"),
        "per_1000_equivalent": per("equivalent"),
    }


def _note(unreported_share: float) -> str:
    """Says so where endpoints do not tell which tokens of the prompts were cached."""
    if not unreported_share:
        return ""
    share = "the prompt tokens" if unreported_share == 1 else f"{unreported_share:.0%} of the prompt tokens"
    return f"{share} went to endpoints that reported no cached ones: all count as read, so decode-equivalent is at most"


def _totals(run: Collection, last: Mapping[str, Any]) -> dict[str, int]:
    """Requests and tokens of the whole run, where stats.json counts at least as many."""
    counted, tokens = run.stats.get("requests", {}), run.stats.get("tokens", {})
    found = {
        "requests": counted.get("total", 0),
        "generated": tokens.get("completion", 0),
        "prompt": tokens.get("prompt", 0),
        "cached": tokens.get("cached", 0),
    }
    whole = {name: max(number, last[name]) for name, number in found.items()}
    return {**whole, "tokens": whole["prompt"] + whole["generated"]}


def _commits(run: Collection) -> Iterator[tuple[str, bool]]:
    """The key of each decision's request, and True where it kept an example."""
    for line in run.decisions():
        key = line.get("request")
        if isinstance(key, str):
            yield key, line.get("what") == "example" and bool(line.get("kept"))
