"""The cost of coverage: requests, tokens and seconds of work over a run, as examples and new pairs came in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from explore_async.analysis.verb_noun import VerbNoun
from explore_async.curation.collections.collection import Collection
from explore_async.exploration.values import Completion
from explore_async.storage.completions import StoredReader

POINTS = 200
_KEYS_AT_ONCE = 500


def cost_curve(run: Collection, verbs_nouns: Sequence[VerbNoun]) -> list[dict[str, Any]]:
    """Points along the run in the order of its commits; `verbs_nouns` are the pairs of its examples in their order.

    `request_seconds` is the sum over all completions, which a server generates side by side. Requests that led to no
    decision, as their tasks had all they needed, are in the last point, by the totals of stats.json. Empty where the
    completions are not there, or do not belong to these examples.
    """
    if not run.is_run or run.completions is None:
        return []
    points: list[dict[str, Any]] = []
    requests = tokens = kept = 0
    seconds = 0.0
    seen: set[VerbNoun] = set()
    with StoredReader(run.completions) as reader:
        lines = _commits(run)
        charged: set[str] = set()
        while some := list(islice(lines, _KEYS_AT_ONCE)):
            outcomes = reader.get_many([key for key, _ in some if key not in charged])
            for key, keeps in some:
                if key not in charged and (stored := outcomes.get(key)) is not None:
                    charged.add(key)
                    requests += 1
                    if isinstance(stored.outcome, Completion):
                        tokens += stored.outcome.prompt_tokens + stored.outcome.completion_tokens
                        seconds += stored.outcome.latency_s
                if keeps:
                    if kept >= len(verbs_nouns):
                        return []
                    verb, noun = verbs_nouns[kept]
                    kept += 1
                    if verb is not None and noun is not None:
                        seen.add((verb, noun))
                points.append(
                    {
                        "requests": requests,
                        "tokens": tokens,
                        "request_seconds": round(seconds, 3),
                        "kept": kept,
                        "pairs": len(seen),
                    }
                )
            if len(points) > 4 * POINTS:
                points = points[:-1:2] + points[-1:]
    if kept != len(verbs_nouns):
        return []
    if points:
        points[-1] = {**points[-1], **_totals(run, points[-1])}
    step = max(1, len(points) // POINTS)
    return points[::step] + (points[-1:] if (len(points) - 1) % step else [])


def _totals(run: Collection, last: Mapping[str, Any]) -> dict[str, int]:
    """Requests and tokens of the whole run, where stats.json counts at least as many."""
    counted, tokens = run.stats.get("requests", {}), run.stats.get("tokens", {})
    found = {"requests": counted.get("total", 0), "tokens": tokens.get("prompt", 0) + tokens.get("completion", 0)}
    return {name: max(number, last[name]) for name, number in found.items()}


def _commits(run: Collection) -> Iterator[tuple[str, bool]]:
    """The key of each decision's request, and True where it kept an example."""
    for line in run.decisions():
        key = line.get("request")
        if isinstance(key, str):
            yield key, line.get("what") == "example" and bool(line.get("kept"))
