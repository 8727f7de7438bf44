"""Joins the shards of a run to one dataset: one tree, and the examples of all that are not near-duplicates.

The examples come in turn, the first of each shard before the second of any: so no shard loses more than another to
those before it. The order, and with it every verdict, depends on the shards alone, not on the order in which they are
given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import ValidationError

from explore_async.curation.candidates import Candidate
from explore_async.curation.collections.collection import Collection, Node, below, printable_path
from explore_async.curation.collections.data_directory import made_by_whom, writing_data
from explore_async.curation.collections.open import runs_inside
from explore_async.curation.collections.run_data import TREE_FILE, RunData, is_run_data
from explore_async.curation.files.row import reading
from explore_async.curation.judging_again import ROUGE_ONLY, Judge, batches_of
from explore_async.errors import ConfigError, DataError
from explore_async.exploration.explorer import StopReason
from explore_async.exploration.sharding import Sharding, shard_name
from explore_async.settings.recipe import Recipe
from explore_async.storage.digested import differences
from explore_async.terminal.counts import counted

_FINISHED: Final = frozenset(get_args(StopReason))
_SHOWN = 20
_SAME = ("id", "name", "reason", "origin", "shard")
"""What all shards have to say alike of a task of the top, which each of them explores."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A run directory with one part of a run. `recipe`: of the whole run; `index`: from 1."""

    run: Collection
    recipe: Recipe
    index: int
    shards: int

    @property
    def has_tree(self) -> bool:
        """False for one that was stopped in its first seconds."""
        return (self.run.path / TREE_FILE).is_file()

    @property
    def has_ended(self) -> bool:
        return self.run.stats.get("ending") in _FINISHED


def shards_inside(folder: Path) -> list[Path]:
    """The run directories of shards in a folder, without earlier ones that were set aside."""
    inside = [RunData.read(path) for path in runs_inside(folder) if path.parent == folder]
    return [run.path for run in inside if _is_shard(run) and run.path.name == shard_name(run.recipe["shard"])]


def shard_at(path: Path) -> RunData | None:
    """The shard in this run directory, which may have just begun; None where none is there."""
    with reading(path):
        run = RunData.read(path) if is_run_data(path) else None
    return run if run is not None and _is_shard(run) else None


def _is_shard(source: Collection) -> bool:
    return source.is_run and bool(source.recipe.get("shard"))


def shards_of(sources: Sequence[Collection]) -> list[Shard]:
    """The shards by their numbers; none where no source is one. Raises ConfigError where some are not."""
    runs = [source for source in sources if _is_shard(source)]
    if not runs:
        return []
    for source in sources:
        if not _is_shard(source):
            raise ConfigError(
                f"{source.path} is no shard, and {runs[0].path} is one: join the shards by themselves first, and merge "
                "the result with the others"
            )
    return sorted(map(_shard, runs), key=lambda shard: shard.index)


def _shard(run: Collection) -> Shard:
    try:
        recipe = Recipe.model_validate(run.recipe)
    except ValidationError as error:
        raise DataError(f"{run.path}/config.json: not a recipe of this version: {error.errors()[0]['msg']}") from error
    index, shards = recipe.shard_numbers
    return Shard(run, recipe.model_copy(update={"shard": ""}), index, shards)


def check(shards: Sequence[Shard], *, partial: bool) -> list[Shard]:
    """The shards to join. Raises ConfigError unless these are the shards of one run; `partial`: some of them, or some
    that have not ended, of which those are left out that have not got their part of the tree yet.
    """
    first = shards[0]
    for shard in shards[1:]:
        if shard.shards != first.shards:
            raise ConfigError(
                f"{shard.run.path} is one of {shard.shards} shards, and {first.run.path} one of {first.shards}: these "
                "are not parts of one run"
            )
        if shard.recipe.digest != first.recipe.digest:
            shown = "\n  ".join(differences(first.recipe, shard.recipe)[:_SHOWN])
            raise ConfigError(f"{shard.run.path} has another recipe than {first.run.path}:\n  {shown}")
    for shard, other in pairwise(shards):
        if shard.index == other.index:
            which = f"{shard.index} of {shard.shards}"
            raise ConfigError(f"{shard.run.path} and {other.run.path} are the same shard, {which}")
    if not partial:
        _check_all(shards)
    begun = [shard for shard in shards if shard.has_tree or shard.has_ended]
    if not begun:
        raise ConfigError(f"{first.run.path} has just begun, so there is nothing to join: the same command goes on")
    return _with_one_top(begun)


def _check_all(shards: Sequence[Shard]) -> None:
    """Raises ConfigError where a shard of the run is missing, or has not ended."""
    there, of_all = {shard.index for shard in shards}, shards[0].shards
    if missing := [str(index) for index in range(1, of_all + 1) if index not in there]:
        few = ", ".join(missing[:_SHOWN]) + (", …" if len(missing) > _SHOWN else "")
        raise ConfigError(
            f"{counted(len(missing), 'shard')} of {of_all} not given: {few}; --partial joins those that are there"
        )
    for shard in shards:
        if not shard.has_ended:
            raise ConfigError(
                f"{shard.run.path} has not ended: the command that began it goes on; --partial joins what is there"
            )


def _with_one_top(shards: Sequence[Shard]) -> list[Shard]:
    """Those with the same top of the trees. One that has not ended may lack tasks of it, as it explores it alike;
    raises ConfigError where others have another one, which then has other sub-trees.
    """
    level = _level(shards[0])
    if not level:
        return list(shards)
    tops = [_top(shard, level) for shard in shards]
    whole, top = max(zip(shards, tops, strict=True), key=lambda pair: (pair[0].has_ended, len(pair[1])))
    for shard, own in zip(shards, tops, strict=True):
        if own != top and shard.has_ended:
            raise ConfigError(
                f"{shard.run.path} has another top of the tree than {whole.run.path}: they were not made beside "
                f"one another. Make one of them again in the folder of the others, which has top-of-{shard.shards}"
            )
    return [shard for shard, own in zip(shards, tops, strict=True) if own == top]


def _level(shard: Shard) -> int:
    return Sharding(shard.recipe.model_copy(update={"shard": f"{shard.index}/{shard.shards}"})).level


def _top(shard: Shard, level: int) -> list[tuple[Any, ...]]:
    nodes = (node for root in shard.run.trees() for node in below(root) if node["depth"] <= level)
    return [tuple({"shard": shard.index, **node}[name] for name in _SAME) for node in nodes]


def join(
    shards: Sequence[Shard], out: Path, compared: Callable[[Mapping[str, Any]], str], on_progress: Callable[[int], None]
) -> tuple[Judge, str]:
    """Writes the data directory. `compared`: the text of an example that is compared. The shards are those of `check`.

    Returns the judge of all examples, and what is to be said of the result.
    """
    recipe, runs = shards[0].recipe, [shard.run for shard in shards]
    own = recipe.filters
    filters = ROUGE_ONLY.model_copy(update={"threshold": own.threshold, "scope": own.scope})
    with writing_data(out, runs) as directory:
        judge = Judge(filters, recipe.tokenizer, [[] for _ in recipe.domains], directory, compared)
        for batch in batches_of(_in_turn(shards)):
            judge.take(batch)
            on_progress(judge.judged)
        kept, target = directory.kept.total(), recipe.targets.examples
        short = None if target is None else max(0, target - kept)
        settings = {"filters": filters.model_dump(mode="json"), "tokenizer": recipe.tokenizer}
        directory.finish(
            _forest(shards),
            {
                "made_by": "merge",
                "name": recipe.name,
                "sources": [{"name": run.path.name, "path": printable_path(run.path)} for run in runs],
                "settings": settings,
                "simulated": any(run.is_simulated for run in runs),
                "recipe": recipe.model_dump(mode="json"),
                "made": _made(runs),
                "shards": {"of": shards[0].shards, "joined": [shard.index for shard in shards], "short": short},
            },
        )
    return judge, _note(shards, directory.dropped.total(), kept, target)


def _in_turn(shards: Sequence[Shard]) -> Iterator[Candidate]:
    for candidates in zip_longest(*map(_candidates, shards)):
        yield from (candidate for candidate in candidates if candidate is not None)


def _candidates(shard: Shard) -> Iterator[Candidate]:
    pruned, told = shard.run.pruned, {"shard": shard.index}
    for example in shard.run.examples():
        if example["task_id"] not in pruned:
            yield Candidate(example["task_id"], example, example.get("request"), told=told)


def _forest(shards: Sequence[Shard]) -> list[dict[str, Any]]:
    """The trees, each task as the shard has it that it was dealt to."""
    owned: dict[str, Node] = {}
    others: dict[str, Node] = {}
    for shard in shards:
        for root in shard.run.trees():
            for node in below(root):
                (others if "shard" in node else owned).setdefault(node["id"], node)

    def grown(task_id: str) -> dict[str, Any]:
        node = dict(owned.get(task_id) or others[task_id])
        node.pop("shard", None)
        return {**node, "children": [grown(child["id"]) for child in node["children"]]}

    roots = {root["id"] for shard in shards for root in shard.run.trees()}
    return [grown(root) for root in sorted(roots, key=int)]


def _made(runs: Sequence[Collection]) -> dict[str, Any]:
    """The time in which the shards were made, and the engines."""
    made = [whom for run in runs if (whom := made_by_whom(run))]
    if not made:
        return {}
    engines = dict.fromkeys(engine for whom in made for engine in whom["engines"])
    return {
        "begin": min(whom["begin"] for whom in made),
        "end": max(whom["end"] for whom in made),
        "engines": list(engines),
    }


def _note(shards: Sequence[Shard], dropped: int, kept: int, target: int | None) -> str:
    """What was dropped, and what the data lacks to the target."""
    of_all = shards[0].shards
    told = f"{len(shards)} of {counted(of_all, 'shard')} joined"
    if dropped:
        told += f"; {counted(dropped, 'example')} dropped as near-duplicates of an example of another shard"
    if target is None or kept >= target or len(shards) < of_all:
        return told
    return (
        f"{told}. {target - kept:,} fewer than the {target:,} examples that are wanted: raise targets.examples a "
        "little, run each shard again with --adopt, and merge them again"
    )
