"""What does a wide window cost in coverage? The wider the window, the more requests are sent before earlier completions
count: before a task is known to be exhausted, and by quotas that a later tree would change.

Runs with equal token budgets ask a modelled engine on a virtual clock, with the real explorer, driver and filters. The
completions are made so that tasks run out: each task has a few dozen verbs and a few hundred nouns of its own, some
much more frequent than others, as with real models. Figures: the share of kept examples, and the number of different
pairs of verb and noun in them.

    python benchmarks/bench_window.py [--windows 16 128 1024 8192] [--tokens 15000000] [--out results/window.json]
"""

from __future__ import annotations

import argparse
import hashlib
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
from corpora import machine, report

from explore_async.exploration.values import ChatRequest, Completion, Event, ExampleDropped, ExampleKept
from explore_async.planning.fleet import Fleet, ModelledClient
from explore_async.planning.rehearsal import Rehearsal, rehearse
from explore_async.serving.simulated.profiles import PROFILES
from explore_async.settings.operation import EndpointSettings
from explore_async.settings.run_settings import RecipeConfig

PROFILE = PROFILES["h100-qwen3-8b"]
VERBS, NOUNS, WORDINGS = 30, 150, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--windows", type=int, nargs="+", default=[16, 128, 1024, 8192])
    parser.add_argument("--tokens", type=int, default=15_000_000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = []
    for window in arguments.windows:
        runs = [measured(window, arguments.tokens, seed) for seed in range(arguments.seeds)]
        rows.append(
            {"window": window, **{name: sum(run[name] for run in runs) / len(runs) for name in runs[0]}}
            | {"pairs_range": [min(run["pairs"] for run in runs), max(run["pairs"] for run in runs)]}
        )
        print(
            f"window {window:>6,}: {rows[-1]['requests']:,.0f} requests, kept share {rows[-1]['kept_share']:.4f}, "
            f"{rows[-1]['pairs']:,.0f} pairs {rows[-1]['pairs_range']}, {rows[-1]['seconds']:,.0f} s",
            flush=True,
        )
    report({"machine": machine(), "tokens": arguments.tokens, "seeds": arguments.seeds, "rows": rows}, arguments.out)


def measured(window: int, tokens: int, seed: int) -> dict[str, float]:
    recipe = RecipeConfig.model_validate(
        {
            "domains": [{"name": "Look after a garden"}],
            "seed": seed,
            "exploration": {"depth": 2, "breadth": [8, 6]},
            "targets": {"examples": 10_000_000, "token_budget": tokens},
            "window": window,
        }
    ).resolved(model="simulated")
    pairs: set[tuple[str, ...]] = set()
    dropped = 0

    def observe(_made: Rehearsal, events: Sequence[Event]) -> None:
        nonlocal dropped
        for event in events:
            if isinstance(event, ExampleKept):
                pairs.add(tuple(event.example.instruction.split()[:2]))
            dropped += isinstance(event, ExampleDropped)

    made = rehearse(recipe, DryingFleet(), observe=observe)
    return {
        "requests": len(made.steps),
        "kept": made.kept,
        "kept_share": made.kept / (made.kept + dropped),
        "pairs": len(pairs),
        "seconds": made.seconds,
    }


class DryingFleet(Fleet):
    def __init__(self) -> None:
        super().__init__([PROFILE])

    async def _open_client(self, endpoint: EndpointSettings) -> Any:
        client = await super()._open_client(endpoint)
        return DryingClient(client)


class DryingClient:
    """Lengths, times and explorations are the modelled client's; the examples are drawn from the task's own store."""

    def __init__(self, inner: ModelledClient) -> None:
        self.inner, self.url, self.pace = inner, inner.url, inner.pace
        self.catalogue, self.metrics, self.version = inner.catalogue, inner.metrics, inner.version

    async def ask(self, request: ChatRequest, **named: Any) -> Completion:
        completion = await self.inner.ask(request, **named)
        examples = completion.text.count('"instruction":')
        if not examples:
            return completion
        task = int.from_bytes(hashlib.blake2b(orjson.dumps(request.messages), digest_size=6).digest())
        rng = random.Random(request.seed)
        drawn = [{"instruction": instruction(task, rng), "input": "", "output": "Done."} for _ in range(examples)]
        return replace(completion, text=orjson.dumps({"examples": drawn}).decode())


def instruction(task: int, rng: random.Random) -> str:
    """Each task has its own common verbs, nouns and wordings; their frequencies follow Zipf's law."""
    verb, noun, wording = (rank(rng, size) for size in (VERBS, NOUNS, WORDINGS))
    verb, noun = (verb * 7 + task) % VERBS, (noun * 11 + task) % (10 * NOUNS)
    words = hashlib.blake2b(f"{task} {verb} {noun} {wording}".encode(), digest_size=10).hexdigest()
    return f"verb{verb} noun{noun} {' '.join(words[place : place + 4] for place in range(0, 20, 4))}"


def rank(rng: random.Random, size: int) -> int:
    return int(size ** (rng.random() ** 0.5)) - 1


if __name__ == "__main__":
    main()
