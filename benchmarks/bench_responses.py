"""What does an example cost where the answer comes with its instruction, and where it comes in a request of its own?

The same domain is explored on a virtual clock, with the real explorer, driver and filters, before a modelled engine
whose instructions repeat now and then. Joint: a request brings instructions with their outputs. Separate: it brings
instructions alone, and each one that is new gets an answer of its own; so a duplicate costs a line and not an answer.

Figures for each kept example: generated tokens, and decode-equivalent tokens, in which a prompt token that is not from
the prefix cache weighs a tenth.

    python benchmarks/bench_responses.py [--examples 2000] [--shares 0.05 0.15 0.3 0.5] [--per-request 1 10]
                                         [--out results/responses.json]

With `--endpoint URL --keep FOLDER` a real model works instead, once each way from the same seed, and the runs stay in
the folder to be read. Their trees have the root and three tasks.

    python benchmarks/bench_responses.py --endpoint URL --keep FOLDER --domain quickstart --examples 20

A domain with a `system` prompt needs separate responses: `--ways separate` asks for them alone.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from corpora import machine, report

from explore_async.analysis.cost import decode_equivalent
from explore_async.config.load import load
from explore_async.errors import ExploreError
from explore_async.exploration.values import Event, ExampleDropped, ExampleKept, InstructionKept
from explore_async.planning.fleet import Fleet
from explore_async.planning.rehearsal import Rehearsal, rehearse
from explore_async.running.start import run
from explore_async.serving.simulated.profiles import PROFILES

PROFILE = "h100-qwen3-8b"
WAYS = ("joint", "separate")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.05, 0.15, 0.3, 0.5])
    parser.add_argument("--per-request", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--domain", default="brainstorming")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--endpoint", help="of a real model")
    parser.add_argument("--keep", type=Path, help="with an endpoint: the folder of the runs")
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS, help="with an endpoint")
    parser.add_argument("--set", nargs="*", default=[], help="with an endpoint: other settings, each KEY=VALUE")
    arguments = parser.parse_args()
    if arguments.endpoint:
        rows = [asked(arguments, per, way) for per, way in product(arguments.per_request, arguments.ways)]
        report(
            {"machine": machine(), "examples": arguments.examples, "domain": arguments.domain, "rows": rows},
            arguments.out,
        )
        return
    rows = []
    for share, per_request in product(arguments.shares, arguments.per_request):
        pair = [measured(arguments.domain, arguments.examples, share, per_request, way) for way in WAYS]
        rows += pair
        joint, separate = pair
        print(
            f"{share:>4.0%} repeat, {per_request:>2} a request: "
            + "; ".join(
                f"{row['way']} {row['generated']:.0f} generated, {row['equivalent']:.0f} equivalent" for row in pair
            )
            + f"; separate / joint {separate['generated'] / joint['generated']:.2f}, "
            f"{separate['equivalent'] / joint['equivalent']:.2f}, time {separate['seconds'] / joint['seconds']:.2f}",
            flush=True,
        )
    report({"machine": machine(), "profile": PROFILE, "examples": arguments.examples, "rows": rows}, arguments.out)


def measured(domain: str, examples: int, share: float, per_request: int, way: str) -> dict[str, Any]:
    """A rehearsed run; tokens are per kept example. `share`: of the instructions that the modelled engine repeats."""
    settings = [f"targets={{examples: {examples}}}", f"responses={way}", f"generation.per_request={per_request}"]
    recipe = load(domain, settings).resolved(model="modelled")
    counts = {"dropped": 0, "judged": 0}

    def observe(_made: Rehearsal, events: Sequence[Event]) -> None:
        kept = InstructionKept if way == "separate" else ExampleKept
        duplicates = sum(isinstance(event, ExampleDropped) and event.verdict.reason == "duplicate" for event in events)
        counts["dropped"] += duplicates
        counts["judged"] += duplicates + sum(isinstance(event, kept) for event in events)

    fleet = Fleet([PROFILES[PROFILE]], duplicate_share=share)
    made = rehearse(recipe, fleet, concurrency=PROFILES[PROFILE].slots, observe=observe)
    generated = sum(step.answer_tokens for step in made.steps)
    prompt, cached = (sum(getattr(step, name) for step in made.steps) for name in ("prompt_tokens", "cached_tokens"))
    return {
        "way": way,
        "repeating": share,
        "per_request": per_request,
        "kept": made.kept,
        "requests": len(made.steps),
        "duplicates": counts["dropped"] / counts["judged"],
        "generated": generated / made.kept,
        "prompt_not_cached": (prompt - cached) / made.kept,
        "equivalent": decode_equivalent(generated, prompt, cached) / made.kept,
        "seconds": made.seconds,
    }


def asked(arguments: argparse.Namespace, per_request: int, way: str) -> dict[str, Any]:
    """A run with a real model; tokens are per kept example."""
    settings = load(
        arguments.domain,
        [
            f"targets={{examples: {arguments.examples}}}",
            f"responses={way}",
            f"generation.per_request={per_request}",
            "exploration={depth: 1, breadth: [3]}",
            *arguments.set,
        ],
        endpoint=[arguments.endpoint],
        concurrency=16,
    )
    result = asyncio.run(run(settings, Path(arguments.keep, f"{way}-{per_request}")))
    tokens, kept = result.stats.tokens, max(1, result.kept)
    row = {
        "way": way,
        "per_request": per_request,
        "kept": result.kept,
        "read": result.stats.examples.read,
        "requests": result.stats.requests.total,
        "dropped": dict(result.stats.examples.dropped),
        "generated": tokens.completion / kept,
        "prompt": tokens.prompt / kept,
        "prompt_not_cached": (tokens.prompt - tokens.cached) / kept,
        "equivalent": decode_equivalent(tokens.completion, tokens.prompt, tokens.cached) / kept,
    }
    print(row, flush=True)
    return row


if __name__ == "__main__":
    try:
        main()
    except ExploreError as error:
        sys.exit(f"error: {error}")
