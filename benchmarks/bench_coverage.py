"""How much of a domain does a run reach for its tokens? Strategies and their parts at an equal budget, several seeds.

Each arm is a recipe with a patch (`ARMS`), and a run directory `FOLDER/DOMAIN/ARM/SEED`: the script goes on where it
stopped, also on another day. The budget counts decode-equivalent tokens: a generated token is one, a token of a prompt
that no prefix cache held a tenth (`--prompt-weight`). Figures are those of the examples that were kept when the budget
was reached; pairs and Hill numbers are of random samples as large as the smallest arm's (rarefaction), so that no arm
has more of them because it has more examples; and of samples whose estimated coverage is the least of any arm's, which
are equally complete. With `--semantic` there is also the Vendi score (the number of instructions that differ in effect,
by the extra `embed`) of samples as large as the fewest examples that an arm has kept.

With an endpoint a real model works:

    python benchmarks/bench_coverage.py --endpoint URL --keep FOLDER --domains brainstorming --budget 30000

Without one the simulated server writes of a known universe of tasks, facets and instructions (see
`explore_async/serving/simulated/universe.py`): the true coverage is known, and the estimates can be compared with it.
It does what prompts ask, so it shows what a strategy does with that, and nothing about models. Pairs are then those
that the universe made its instructions of.

    python benchmarks/bench_coverage.py --keep FOLDER [--budget 1000000] [--seeds 0 1 2] [--arms NAME ...]
                                        [--out results/coverage-universe.json]

Arms with a setting that this version does not have are named as left out.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from itertools import product
from math import prod
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import orjson
from corpora import machine, report

from explore_async.analysis.cost import cost_figures
from explore_async.analysis.diversity import Abundances
from explore_async.analysis.estimates import chao1
from explore_async.analysis.verb_noun import VerbNoun, verbs_and_nouns
from explore_async.config.load import load
from explore_async.curation.collections.collection import below
from explore_async.curation.collections.run_data import RunData
from explore_async.curation.embeddings import MiniLM
from explore_async.curation.paraphrases import vendi_score
from explore_async.errors import ConfigError, ExploreError
from explore_async.running.start import Mode, run
from explore_async.serving.simulated.engine import Profile
from explore_async.serving.simulated.server import SimulatedServer
from explore_async.serving.simulated.universe import Shape, Universe, number_of
from explore_async.settings.run_settings import RunSettings

ADAPTIVE = "exploration.strategy=adaptive"
ARMS: dict[str, list[str]] = {
    "explore_instruct": [],
    "root alone": ["exploration.depth=0"],
    "criterion": ["exploration.lookahead=criterion"],
    "yield": ["generation.policy=yield"],
    "separate answers": ["responses=separate"],
    "facets": ["exploration.facets=4"],
    "facets, yield": ["exploration.facets=4", "generation.policy=yield"],
    "self_instruct": ["exploration.strategy=self_instruct"],
    "facets, separate answers": ["exploration.facets=4", "responses=separate"],
    "adaptive": [ADAPTIVE],
    "adaptive, separate answers": [ADAPTIVE, "responses=separate"],
    "adaptive without facets": [ADAPTIVE, "exploration.facets=0"],
    "adaptive without yield": [ADAPTIVE, "generation.policy=uniform"],
    "adaptive without criterion": [ADAPTIVE, "exploration.lookahead=names"],
}
"""The settings that each arm has beside those of the domain. The first is what the others are compared with.
An arm with the recipe of one before it is left out.
"""
NEAR = 0.97
"""The part of the budget at which an arm is done: what is kept is counted up to the budget at most."""
CAREFUL = 0.8
"""The share of what is left that a run goes on for, as later tokens may cost more than those before."""
SIZES = (1_000, 3_000, 10_000, 30_000, 100_000, 1_000_000)
VENDI_SAMPLES = 50
QUICK = Profile(slots=256, step_s=1e-6, request_s=0.0, prefill_s=0.0, kv_tokens=2_000_000)
"""An engine that takes no time and has a prefix cache."""


@dataclass(frozen=True)
class Arm:
    """An arm that was run, read from its directory."""

    name: str
    domain: str
    directory: Path
    universe: Universe | None
    budget: float
    prompt_weight: float

    @cached_property
    def run(self) -> RunData:
        return RunData.read(self.directory)

    @cached_property
    def examples(self) -> list[Mapping[str, Any]]:
        return list(self.run.examples())

    @cached_property
    def texts(self) -> list[str]:
        return [example["instruction"] for example in self.examples]

    @property
    def cells(self) -> set[tuple[str, str]]:
        """The combinations of facets, each with its task, that have an example within the budget."""
        within = self.examples[: self.end["kept"]]
        return {(example["task_id"], str(example["facets"])) for example in within if example.get("facets")}

    @cached_property
    def numbers(self) -> list[int]:
        """Of its examples in the universe; empty for a real model."""
        return [number for text in self.texts if (number := number_of(text)) is not None] if self.universe else []

    @cached_property
    def pairs(self) -> list[VerbNoun]:
        if self.universe is None:
            return list(verbs_and_nouns(self.texts))
        return [self.universe.pair(number) for number in self.numbers]

    @cached_property
    def cost(self) -> list[dict[str, Any]]:
        """Points along the run, with the tokens, examples and pairs so far."""
        points: list[dict[str, Any]] = cost_figures(self.run, self.pairs, self.prompt_weight)["cost"]
        return points

    @cached_property
    def end(self) -> dict[str, Any]:
        """The last point within the budget."""
        within = [point for point in self.cost if point["equivalent"] <= self.budget]
        return within[-1] if within else self.cost[0]

    def counts(self, size: int | None = None) -> list[int]:
        """How often each pair occurs among the first examples, by default those within the budget."""
        kept = self.pairs[: self.end["kept"] if size is None else size]
        return list(Counter(pair for pair in kept if None not in pair).values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--keep", type=Path, required=True, help="the folder of the runs")
    parser.add_argument("--endpoint", nargs="*", default=[], help="of a real model; else the known universe")
    parser.add_argument("--model")
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--window", type=int, default=256, help="a wide one asks much before it knows what pays")
    parser.add_argument("--domains", nargs="+", default=["brainstorming"], help="presets or config files")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--budget", type=float, help="decode-equivalent tokens (default 30,000; the universe: 1,000,000)"
    )
    parser.add_argument("--prompt-weight", type=float, default=0.1)
    parser.add_argument("--breadths", type=int, nargs="+", default=list(Shape().breadths), help="of the universe")
    parser.add_argument("--instructions", type=int, default=Shape().instructions, help="of each of its lowest tasks")
    parser.add_argument("--skew", type=float, default=Shape().skew, help="of the universe: the exponent of Zipf's law")
    parser.add_argument("--set", nargs="*", default=[], help="other settings of all arms, each KEY=VALUE")
    parser.add_argument("--semantic", action="store_true", help="compare instructions in meaning, too")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    universe = None
    if not arguments.endpoint:
        shape = Shape(tuple(arguments.breadths), arguments.instructions, arguments.skew)
        universe = Universe(shape)
    arguments.budget = arguments.budget or (30_000 if universe is None else 1_000_000)
    for domain in arguments.domains:
        try:
            load(domain, arguments.set)  # a fault that no arm has of its own ends it
        except ConfigError as error:
            sys.exit(f"error: {error}")
    arms, left_out, seen = [], {}, dict[tuple[str, int, str], str]()
    for domain, name, seed in product(arguments.domains, arguments.arms, arguments.seeds):
        try:
            arms.append(measured(arguments, universe, seen, domain=domain, name=name, seed=seed))
        except ConfigError as error:
            if name not in left_out:
                left_out[name] = " ".join(str(error).split())
                print(f"left out: {name}: {left_out[name]}", flush=True)
    embedder = MiniLM() if arguments.semantic else None
    rows = [
        row
        for domain in arguments.domains
        for row in compared([arm for arm in arms if arm.domain == domain], universe, embedder)
    ]
    for row in rows:
        print_row(row)
    if arguments.out:
        plot(arms, universe, arguments.out.with_suffix(".svg"))
    report(
        {
            "machine": machine(),
            "model": ", ".join(arguments.endpoint) if universe is None else "simulated, a known universe",
            "universe": None
            if universe is None
            else {**asdict(shape), "size": universe.size, "pairs": len(pairs_of(universe))},
            "budget": arguments.budget,
            "window": arguments.window,
            "prompt_weight": arguments.prompt_weight,
            "set": arguments.set,
            "left_out": left_out,
            "rows": rows,
        },
        arguments.out,
    )


def measured(
    arguments: argparse.Namespace,
    universe: Universe | None,
    seen: dict[tuple[str, int, str], str],
    *,
    domain: str,
    name: str,
    seed: int,
) -> Arm:
    """The run of an arm, gone on with until it has cost the budget or is over. `seen`: the arms by their recipes.

    Raises ConfigError where it has the recipe of another, or a setting that does not exist.
    """
    directory = Path(arguments.keep, Path(domain).stem, name.replace(", ", "-").replace(" ", "-"), str(seed))

    def settings(tokens: int, endpoints: Sequence[str]) -> RunSettings:
        targets = f"targets={{token_budget: {tokens}}}"
        fixed = [targets, f"window={arguments.window}", "operation.report=false", *arguments.set, *ARMS[name]]
        return load(
            *(domain, fixed),
            endpoint=list(endpoints), model=arguments.model, seed=seed, concurrency=arguments.concurrency,
        )  # fmt: skip

    exists = directory.exists()

    async def go(tokens: int) -> bool:
        """True when the run is over for another reason than the tokens."""
        mode: Mode = "adopt" if exists else "resume"
        if universe is None:
            result = await run(await asyncio.to_thread(settings, tokens, arguments.endpoint), directory, mode=mode)
        else:
            async with SimulatedServer(profile=QUICK, full_share=1.0, universe=universe) as server:
                result = await run(await asyncio.to_thread(settings, tokens, [server.url]), directory, mode=mode)
        return result.ending != "token_budget"

    recipe = settings(1, ["http://localhost:1"]).resolved(model="").digest  # an unknown setting is refused
    if (other := seen.setdefault((domain, seed, recipe), name)) != name:
        raise ConfigError(f"it has the recipe of {other}")
    arm = Arm(name, domain, directory, universe, arguments.budget, arguments.prompt_weight)
    tokens = int(arguments.budget)
    is_over = is_same = False
    if (config := directory / "config.json").is_file():
        written = orjson.loads(config.read_bytes())
        tokens = written["recipe"]["targets"]["token_budget"]
        same = settings(tokens, ["http://localhost:1"]).resolved(model=written["recipe"]["model"])
        is_same = same.digest == written["digest"] and arm.run.stats.get("ending") is not None
        is_over = is_same and arm.run.stats["ending"] == "complete"
    while not (is_same and (is_over or arm.cost[-1]["equivalent"] >= NEAR * arguments.budget)):
        if is_same:
            so_far = arm.cost[-1]
            left = arguments.budget - so_far["equivalent"]
            for_one = so_far["tokens"] / max(1.0, so_far["equivalent"])  # prompts in a cache cost nothing
            tokens += int(max(0.01 * arguments.budget, left, CAREFUL * for_one * left)) + 1
        is_over = asyncio.run(go(tokens))
        exists = is_same = True
        arm = Arm(name, domain, directory, universe, arguments.budget, arguments.prompt_weight)
        print(f"{domain}, {name}, seed {seed}: {arm.cost[-1]['kept']} kept", flush=True)
    return arm


def compared(arms: Sequence[Arm], universe: Universe | None, embedder: MiniLM | None = None) -> list[dict[str, Any]]:
    """A row for each arm of a domain: means over its seeds, with the least and the greatest."""
    if not arms:
        return []
    size = min(sum(arm.counts()) for arm in arms)
    coverage = min(Abundances(arm.counts()).coverage() for arm in arms) if size else 0.0
    fewest = min(arm.end["kept"] for arm in arms)
    by_name: dict[str, list[dict[str, float]]] = {}
    for arm in arms:
        row = dict(figures(arm, size, coverage)) | dict(truth(arm, universe))
        if embedder is not None and fewest:
            row["vendi_at_equal_examples"] = vendi(arm, embedder, fewest)
        by_name.setdefault(arm.name, []).append(row)
    rows = []
    for name, of_seeds in by_name.items():
        spread = {
            figure: [round(mean(values), 4), round(min(values), 4), round(max(values), 4)]
            for figure in of_seeds[0]
            if (values := [row[figure] for row in of_seeds if figure in row])
        }
        rows.append(
            {
                "domain": arms[0].domain,
                "arm": name,
                "seeds": len(of_seeds),
                "sample": size,
                "fewest_kept": fewest,
                "coverage": round(coverage, 4),
                **spread,
            }
        )
    return rows


def figures(arm: Arm, size: int, coverage: float) -> Iterator[tuple[str, float]]:
    end, counts = arm.end, arm.counts()
    examples = arm.run.stats["examples"]
    yield "spent", end["equivalent"]
    yield "kept", end["kept"]
    yield "kept_per_1000_equivalent", 1000 * end["kept"] / end["equivalent"]
    yield "kept_per_1000_generated", 1000 * end["kept"] / end["generated"]
    yield "share_kept", examples["kept"] / max(1, examples["kept"] + examples["dropped"]["total"])
    nodes = [node for root in arm.run.trees() for node in below(root)]
    yield "tasks", len(nodes)
    cells = [cells_of(node) for node in nodes if node.get("facets")]
    if cells:
        yield "cells_a_task", mean(cells)
        yield "cells_filled_a_task", len(arm.cells) / len(cells)
    yield "pairs", len(counts)
    if size:
        sample = Abundances(counts)
        equally_complete = sample.size_at(coverage)
        yield "examples_at_equal_coverage", equally_complete
        for name, diversity in (("examples", sample.at(size)), ("coverage", sample.at(equally_complete))):
            for kinds, value in zip(("pairs", "hill_1", "hill_2"), diversity, strict=True):
                yield f"{kinds}_at_equal_{name}", value


def vendi(arm: Arm, embedder: MiniLM, size: int) -> float:
    """The mean Vendi score of random samples of so many of the instructions within the budget."""
    vectors = embedder.embed(arm.texts[: arm.end["kept"]])
    drawn = np.random.default_rng(0)
    return mean(vendi_score(vectors[drawn.choice(len(vectors), size, replace=False)]) for _ in range(VENDI_SAMPLES))


def cells_of(node: Mapping[str, Any]) -> int:
    """The combinations of a task's facets."""
    return prod(len(values) for values in node["facets"].values())


def truth(arm: Arm, universe: Universe | None) -> Iterator[tuple[str, float]]:
    """What of the universe was reached, and the estimates beside it at several sizes."""
    if universe is None:
        return
    yield "true_share", len(set(arm.numbers[: arm.end["kept"]])) / universe.size
    yield "true_leaves", len(leaves_of(arm.numbers[: arm.end["kept"]], universe)) / len(universe.leaves)
    places = [universe.place(node["name"]) for root in arm.run.trees() for node in below(root) if node["depth"]]
    yield "synonyms_in_tree", len(places) - len(set(places))
    for size in SIZES:
        if size > len(arm.numbers):
            break
        counts = arm.counts(size)
        yield f"true_share_at_{size}", len(set(arm.numbers[:size])) / universe.size
        yield f"pairs_of_true_at_{size}", len(counts) / len(pairs_of(universe))
        yield f"pairs_estimated_of_true_at_{size}", chao1(counts).value / len(pairs_of(universe))
        seen = set(arm.pairs[:size])
        yield f"coverage_at_{size}", sum(pairs_of(universe)[pair] for pair in seen) / universe.size
        yield f"coverage_estimated_at_{size}", Abundances(counts).coverage()


def leaves_of(numbers: Sequence[int | None], universe: Universe) -> set[int]:
    return {number // universe.shape.instructions for number in numbers if number is not None}


@cache
def pairs_of(universe: Universe) -> Counter[VerbNoun]:
    """How many instructions of the universe have each pair."""
    return Counter(universe.pair(number) for number in range(universe.size))


def print_row(row: dict[str, Any]) -> None:
    shown = ("kept", "kept_per_1000_equivalent", "share_kept", "tasks", "pairs_at_equal_examples",
             "hill_1_at_equal_examples", "vendi_at_equal_examples", "true_share", "true_leaves",
             "synonyms_in_tree")  # fmt: skip
    print(f"{row['domain']}, {row['arm']}: " + "; ".join(f"{name} {row[name][0]:g}" for name in shown if name in row))


def plot(arms: Sequence[Arm], universe: Universe | None, path: Path) -> None:
    import matplotlib.pyplot as plt
    from plots import panels, save

    curves = [("decode-equivalent tokens", "examples kept", "equivalent", "kept"),
              ("examples kept", "pairs of verb and noun", "kept", "pairs")]  # fmt: skip
    title = "simulated, a known universe" if universe is not None else "a real model"
    axes = panels(len(curves), f"Coverage at an equal budget: {title}")
    names = list(dict.fromkeys((arm.domain, arm.name) for arm in arms))
    several = len({domain for domain, _ in names}) > 1
    for axis, (across, up, x, y) in zip(axes, curves, strict=True):
        for number, (domain, name) in enumerate(names):
            own = [arm for arm in arms if (arm.domain, arm.name) == (domain, name)]
            grid = np.linspace(0, min(arm.end[x] for arm in own), 60)
            lines = [
                np.interp(grid, [0, *(point[x] for point in arm.cost)], [0, *(point[y] for point in arm.cost)])
                for arm in own
            ]
            colour = plt.get_cmap("tab20")(number % 20)
            axis.plot(grid, np.mean(lines, axis=0), color=colour, label=f"{domain}, {name}" if several else name)
            axis.fill_between(grid, np.min(lines, axis=0), np.max(lines, axis=0), color=colour, alpha=0.2, linewidth=0)
        axis.set_xlabel(across)
        axis.set_ylabel(up)
    axes[-1].legend(fontsize=6, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save(path)


if __name__ == "__main__":
    try:
        main()
    except ExploreError as error:
        sys.exit(f"error: {error}")
