"""A million examples with every part switched on: does the explorer hold its speed and memory? how near are estimates?

The explorer is alone in this process, without a server, a network or a disk (`soak.py` has these): it asks, reads and
decides, and a simulated model, whose time is measured apart, writes of a known universe. The parts are criteria,
facets, the policy by yield, answers of their own, a check and a judge, and checkpoints are taken as often as in a run.
So an example takes a tenth of a request for instructions, an answer, a check and a judge.

At some sizes it compares estimates from the counts alone with the universe: for pairs of verb and noun, of which there
are less than ten thousand, and for phrases (a pair with the adjective between), of which there are many more. The
coverage that is estimated is compared with two truths: the share of all instructions whose kind is there, each
instruction counted alike, and the same with each weighted by how often the model writes it.

    python benchmarks/bench_explorer.py [--examples 1000000] [--out results/explorer.json]
"""

from __future__ import annotations

import argparse
import os
import time
from array import array
from collections.abc import Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from corpora import machine, report

from explore_async.analysis.diversity import Abundances
from explore_async.analysis.estimates import chao1, unseen_mass
from explore_async.config.load import load
from explore_async.exploration import checks
from explore_async.exploration.explorer import Explorer
from explore_async.exploration.play import play
from explore_async.exploration.prompts import PromptBook
from explore_async.exploration.values import Completion, ExampleKept, Outcome, Request
from explore_async.serving.endpoints.wire import chat_fields
from explore_async.serving.simulated.model import SimulatedModel
from explore_async.serving.simulated.tokens import count_tokens
from explore_async.serving.simulated.universe import Shape, Universe, number_of
from explore_async.settings.recipe import Recipe
from rouge_kernels import warm_up

PARTS = [
    "exploration.strategy=adaptive",
    "exploration.breadth=[12, 8]",
    "generation.covered_at=1",
    "responses=separate",
    "judge={threshold: 1}",
    "checks=[{name: passes, function: 'a:b'}]",
]
"""Every part, with a judge and a check that let all pass; no task ends because it is covered, so that the target is
reached.
"""
MARKS = (1_000, 10_000, 100_000, 500_000, 1_000_000)
WHOLE = 10**10
"""Observations of a sample that is as good as all that it is drawn from."""
BETWEEN_CHECKPOINTS = 20_000
Kinds = npt.NDArray[np.int64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--examples", type=int, default=MARKS[-1])
    parser.add_argument("--instructions", type=int, default=10_000, help="of each of the 576 lowest tasks")
    parser.add_argument("--skew", type=float, default=0.5, help="the exponent of Zipf's law")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    universe = Universe(Shape(instructions=asked.instructions, skew=asked.skew))
    marks = [mark for mark in MARKS if mark < asked.examples] + [asked.examples]
    recipe = load(
        "brainstorming", [*PARTS, f"targets={{examples: {asked.examples}}}"], endpoint="http://localhost:1", seed=0
    ).resolved(model="m")
    steps, numbers = [], array("Q")
    for step in played(recipe, universe, marks, numbers):
        steps.append(step)
        print("; ".join(f"{name} {value:,}" for name, value in step.items()), flush=True)
    estimates = list(compared(universe, np.asarray(numbers, dtype=np.int64), marks[: len(steps)]))
    for row in estimates:
        print(row)
    report(
        {
            "machine": machine(),
            "universe": {"instructions": universe.size, "skew": asked.skew},
            "steps": steps,
            "estimates": estimates,
        },
        asked.out,
    )


def played(recipe: Recipe, universe: Universe, marks: list[int], numbers: array[int]) -> Iterator[dict[str, float]]:
    """Plays the run, and has a row for each mark that is reached. Appends to `numbers` those of the kept examples."""
    warm_up()
    explorer, book = Explorer(recipe), PromptBook(recipe)
    model = SimulatedModel(seed=0, duplicate_share=0.0, full_share=1.0, universe=universe)
    writing_s = 0.0

    def written(request: Request) -> Outcome:
        nonlocal writing_s
        rendered = book.render(request)
        began = time.process_time()
        if checks.is_for_check(rendered):
            outcome = checks.PASSED
        else:
            fields = chat_fields(rendered, "m", None)
            text, reason, tokens = model.complete(fields, rendered.key.encode())
            prompt = sum(count_tokens(message["content"]) for message in rendered.messages)
            outcome = Completion(text, reason, prompt, tokens)
        writing_s += time.process_time() - began
        return outcome

    before_commits = before_kept = saved_at = 0
    before_s = time.process_time()
    waiting = iter(marks)
    mark = next(waiting)
    for commits, (_, _, events) in enumerate(play(explorer, written), 1):
        for event in events:
            if isinstance(event, ExampleKept):
                numbers.append(number_of(event.example.instruction) or 0)
        if explorer.kept >= saved_at + BETWEEN_CHECKPOINTS:
            saved_at = explorer.kept
            orjson.dumps(explorer.state())
        if explorer.kept >= mark:
            own_s = time.process_time() - writing_s
            yield {
                "examples": explorer.kept,
                "completions": commits,
                "completions_per_s": round((commits - before_commits) / (own_s - before_s), 1),
                "examples_per_s": round((explorer.kept - before_kept) / (own_s - before_s), 1),
                "rss_mib": round(resident() / 2**20, 1),
                "tasks": sum(1 for _ in explorer.tasks()),
                "own_s": round(own_s, 1),
                "writing_s": round(writing_s, 1),
            }
            before_commits, before_kept, before_s = commits, explorer.kept, own_s
            if (mark := next(waiting, 0)) == 0:
                return


def resident() -> int:
    """Bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def compared(universe: Universe, numbers: Kinds, sizes: list[int]) -> Iterator[dict[str, Any]]:
    """Estimates at each size beside the truth, for both ways to tell kinds apart."""
    likely = chances(universe)
    for name, kinds in kinds_of(universe).items():
        of_all = np.bincount(kinds)
        total = Abundances(of_all[of_all > 0])
        for size in sizes:
            found = np.bincount(kinds[numbers[:size]], minlength=len(of_all))
            counts: list[int] = found[found > 0].tolist()
            sample, is_known = Abundances(counts), (found > 0)[kinds]
            yield {
                "kinds": name,
                "examples": size,
                "seen_of_all": round(len(counts) / int(total.kinds.sum()), 4),
                "chao1_of_all": round(chao1(counts).value / float(total.kinds.sum()), 4),
                "hill_1_of_all": [round(one[1] / total.diversity()[1], 4) for one in whole_and_own(sample)],
                "hill_2_of_all": [round(one[2] / total.diversity()[2], 4) for one in whole_and_own(sample)],
                "covered": round(float(is_known.mean()), 4),
                "covered_as_written": round(float(likely[is_known].sum()), 4),
                "good_turing": round(1 - unseen_mass(counts).value, 4),
                "chao_jost": round(sample.coverage(), 4),
            }


def whole_and_own(sample: Abundances) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Hill numbers of the sample, and those that are estimated for all that it is drawn from."""
    return sample.diversity(), sample.diversity(WHOLE)


def kinds_of(universe: Universe) -> Mapping[str, Kinds]:
    """The kind of each instruction, by the number of the instruction: its pair, and its phrase."""
    pairs: dict[tuple[str, ...], int] = {}
    phrases: dict[tuple[str, ...], int] = {}
    of_pair, of_phrase = (np.empty(universe.size, dtype=np.int64) for _ in range(2))
    for number in range(universe.size):
        verb, _, adjective, noun, _ = universe.instruction(number).split(" ", 4)
        of_pair[number] = pairs.setdefault((verb, noun), len(pairs))
        of_phrase[number] = phrases.setdefault((verb, adjective, noun), len(phrases))
    return {"pairs": of_pair, "phrases": of_phrase}


def chances(universe: Universe) -> npt.NDArray[np.float64]:
    """The probability that the model writes each instruction, where the domain itself is asked about."""

    def shares(count: int) -> npt.NDArray[np.float64]:
        weights = (1 + np.arange(count)) ** -universe.shape.skew
        return weights / weights.sum()

    *_, leaves = accumulate(map(shares, universe.shape.breadths), lambda above, below: np.outer(above, below).ravel())
    return np.outer(leaves, shares(universe.shape.instructions)).ravel()


if __name__ == "__main__":
    main()
