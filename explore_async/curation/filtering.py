"""The commands filter, reparse and merge: they judge examples again, without a model.

ROUGE-L is greedy in the order of the examples: each is compared with those kept before it, of the whole run, of its
domain or of its task.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from explore_async.config.faults import faults_of
from explore_async.curation.candidates import Candidate, read_candidates
from explore_async.curation.collections.collection import Collection, ExampleRow, Node
from explore_async.curation.collections.columns import TEXTS
from explore_async.curation.collections.conversations import asked_of
from explore_async.curation.collections.data_directory import describe_origin, writing_data
from explore_async.curation.collections.data_set import DataSet
from explore_async.curation.collections.open import DataSource, DataSources, as_sources, collection_of, open_one_of
from explore_async.curation.collections.run_data import RunData, examples_written
from explore_async.curation.common_options import as_names, check_threshold, silent
from explore_async.curation.compared_rows import joined
from explore_async.curation.embeddings import Embedder, embedder_of
from explore_async.curation.files.fields import USER_TURNS
from explore_async.curation.finishing_again import LACKING, by_threshold, finished
from explore_async.curation.joining import Shard, check, join, shard_at, shards_inside, shards_of
from explore_async.curation.judging_again import ROUGE_ONLY, Judge, batches_of
from explore_async.curation.paraphrases import PARAPHRASE_THRESHOLD, Paraphrases
from explore_async.curation.tokenizers import check_tokenizer, tokenizer_of
from explore_async.errors import ConfigError, DataError
from explore_async.exploration.languages import language_of_texts
from explore_async.settings.recipe import MEANING, Filters, Judging, Recipe, tokenizer_for
from explore_async.storage.places import place

_THRESHOLD = 0.7


@dataclass(frozen=True, slots=True)
class FilterResult:
    """The numbers of examples, and the data directory with those that were kept."""

    out: Path
    before: int
    """Examples of the source."""
    candidates: int
    """Examples that were judged: of a run also those that it dropped."""
    kept: int
    dropped: Mapping[str, int]
    """By reason."""
    fields: tuple[str, ...]
    """The fields of an example that were compared, together."""
    tokenizer: str
    """The tokenizer that they were compared by."""
    lacking: int = 0
    """Instructions that were new, and dropped as an answer, or a verdict on it, is not stored."""
    shorter: int = 0
    """Kept conversations that end early, as a later turn is not stored."""
    other_inputs: int = 0
    """Examples dropped as duplicates that have an input, which was not compared."""
    language_not_told: int | None = None
    """Kept examples that do not show which language they are in; None where the language was not checked."""
    note: str | None = None
    """Says that a file was read in another way than its name promises, and that many examples were compared by little
    of what they hold; None where neither is so.
    """


def filter_data(
    source: DataSource,
    out: str | os.PathLike[str],
    *,
    threshold: float | None = None,
    scope: str | None = None,
    settings: Filters | Mapping[str, Any] | None = None,
    fields: str | Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    semantic: bool | Embedder = False,
    semantic_threshold: float = PARAPHRASE_THRESHOLD,
    on_progress: Callable[[int], None] = silent,
) -> FilterResult:
    """Judges all examples again, of a run also those that it dropped, and writes a data directory with the kept ones.

    The filters are those of the source's recipe, or ROUGE-L alone for other data, with the changes in `settings` (names
    of `filters:` in a config; and {"judge": {"threshold": …}} where a judge scored the examples). `threshold`: ROUGE-L
    F above which an example is dropped; `scope`: run, domain or task, within which examples are compared. `fields`:
    those of instruction, input and output that are compared, together; None is the instruction, as in a run, and for
    files from elsewhere instruction and input, or all turns of the user in a conversation. `semantic`: of the kept
    examples those are dropped that say the same as one before them in other words: by MiniLM (the extra `embed`) or by
    an embedder of your own, where their cosine is above `semantic_threshold`. `on_progress` gets the number of examples
    judged so far.
    """
    check_threshold(semantic_threshold, "--semantic-threshold")
    paraphrases = Paraphrases(embedder_of(semantic), semantic_threshold) if semantic else None
    named = {"threshold": threshold, "scope": scope}
    given = settings.model_dump(exclude_unset=True) if isinstance(settings, Filters) else settings or {}
    changes = {**given, **{name: value for name, value in named.items() if value is not None}}
    named_fields = _named_fields(fields)
    collection = collection_of(source, columns)
    return _filter(collection, place(out), changes, "filter", on_progress, named_fields, paraphrases)


def reparse_run(
    run: str | os.PathLike[str], out: str | os.PathLike[str], *, on_progress: Callable[[int], None] = silent
) -> FilterResult:
    """Reads a run's stored completions again with the parser and filters of this version, and writes a data directory.

    Raises DataError where the run has no stored completions.
    """
    source = RunData.read(place(run))
    if source.completions is None or not source.is_run:
        raise DataError(f"{source.path}: there are no stored completions (completions.sqlite) to read")
    return _filter(source, place(out), {}, "reparse", on_progress)


def merge_data(
    sources: DataSources,
    out: str | os.PathLike[str],
    *,
    threshold: float | None = None,
    tokenizer: str = "auto",
    fields: str | Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    partial: bool = False,
    on_progress: Callable[[int], None] = silent,
) -> FilterResult:
    """Writes one data directory: the trees side by side, and the examples that are not near-duplicates of earlier ones,
    each with its source and the id that it had there. `threshold`: ROUGE-L F above which one is dropped (0.7).
    `columns` are for files of rows. `tokenizer`: rouge, unicode, or auto: that of the runs that the examples came from,
    else the one that their letters call for. `fields`: as in `filter`.

    Shards of a run (`--shard`), or a folder with them, become the one dataset that the run is asked for, by its own
    filters: the trees are joined, and every example keeps its id. `partial` joins those that are there.
    """
    check_tokenizer(tokenizer)
    if threshold is not None:
        check_threshold(threshold)
    named_fields = _named_fields(fields)
    collections = [part for source in as_sources(sources) for part in _parts(source, columns)]
    if shards := shards_of(collections):
        if threshold is not None or tokenizer != "auto" or named_fields:
            raise ConfigError("shards are joined by the filters of their run; `filter` judges the result by others")
        return _join(shards, place(out), partial=partial, on_progress=on_progress)
    if partial:
        raise ConfigError("--partial: for shards of a run, and none of the sources is one")
    if len(collections) < 2:  # noqa: PLR2004 - two or more
        raise ConfigError("merge needs two or more sources, or a folder with the shards of a run")
    threshold = _THRESHOLD if threshold is None else threshold
    filters = ROUGE_ONLY.model_copy(update={"threshold": threshold, "tokenizer": tokenizer})
    return _merge(collections, place(out), filters, named_fields, on_progress)


def _parts(source: DataSource, columns: Mapping[str, str] | None) -> list[Collection]:
    """The collection, or those of the shards in a folder."""
    if isinstance(source, DataSet):
        return [source.collection]
    paths = shards_inside(place(source)) or [place(source)]
    return [shard_at(path) or open_one_of(path, columns) for path in paths]


def _join(given: Sequence[Shard], out: Path, *, partial: bool, on_progress: Callable[[int], None]) -> FilterResult:
    shards = check(given, partial=partial)
    fields = ("instruction",)
    judge, note = join(shards, out, _text_of(fields, by_rule=True), on_progress)
    result = _result(out, [shard.run for shard in shards], judge.judged, judge, fields)
    taken = {shard.index for shard in shards}
    early = (shard.run.path for shard in given if shard.index not in taken)
    left_out = [f"{path} is left out: it has no part of the tree yet" for path in early]
    return replace(result, other_inputs=0, note=joined([note, *left_out, result.note]))


def _filter(  # noqa: PLR0917 - what the two commands differ in
    source: Collection,
    out: Path,
    changes: Mapping[str, Any],
    made_by: str,
    on_progress: Callable[[int], None],
    named_fields: tuple[str, ...] | None = None,
    paraphrases: Paraphrases | None = None,
) -> FilterResult:
    changes = dict(changes)
    judging = _judging_of(source, changes.pop("judge", {}))
    filters = _filters_of(source, changes)
    fields = named_fields or _fields_by_rule([source])
    compared = _text_of(fields, by_rule=named_fields is None)
    meaning = int(source.recipe.get("meaning", MEANING)) if made_by == "filter" else MEANING
    tokenizer = _tokenizer(source, filters, meaning, compared)
    with writing_data(out, [source]) as directory:
        judge = Judge(
            filters,
            tokenizer,
            _seeds(source, compared),
            directory,
            compared,
            language=_language(source) if filters.language else "",
            meaning=meaning,
            paraphrases=paraphrases,
        )
        trees = source.trees()
        for batch in _batches(source, filters, judging, meaning):
            judge.take(batch)
            on_progress(judge.judged)
        settings = {"filters": filters.model_dump(mode="json"), "fields": list(fields), "tokenizer": tokenizer}
        if judging is not None:
            settings["judge"] = {"threshold": judging.threshold}
        if paraphrases is not None:
            settings["semantic"] = {"model": paraphrases.model, "threshold": paraphrases.threshold}
        description = describe_origin(made_by, [source], settings)
        directory.finish(trees, description, pruned=source.pruned)
        before = examples_written(source.path) if source.is_run else sum(_kept(root) for root in trees)
        return _result(out, [source], before, judge, fields)


def _batches(source: Collection, filters: Filters, judging: Judging | None, meaning: int) -> Iterator[list[Candidate]]:
    """The candidates, with what their stored answers and scores make of them."""
    if (recipe := _recipe_with_steps(source)) is not None:
        return finished(source, recipe.model_copy(update={"filters": filters, "judge": judging}), meaning)
    if judging is None or judging.threshold is None:
        return batches_of(read_candidates(source))
    threshold = judging.threshold
    return batches_of(by_threshold(candidate, threshold) for candidate in read_candidates(source))


def _recipe_with_steps(source: Collection) -> Recipe | None:
    """The recipe of a run whose instructions have requests of their own, which are stored."""
    own = source.recipe
    if not (source.is_run and source.completions and {"responses", "judge", "checks", "turns"} & own.keys()):
        return None  # recipes leave out what they have no need of
    try:
        return Recipe.model_validate(own)
    except ValidationError as error:
        raise DataError(
            f"{source.path}/config.json: not a recipe of this version: {error.errors()[0]['msg']}"
        ) from error


def _judging_of(source: Collection, changes: object) -> Judging | None:
    """The judge of the source with another threshold. Of data from elsewhere a row may have scores."""
    own = source.recipe.get("judge")
    if not changes:
        return Judging.model_validate(own) if own and _recipe_with_steps(source) else None
    if not isinstance(changes, Mapping) or {*changes} != {"threshold"}:
        raise ConfigError("judge: only judge.threshold can change here; other scores need requests")
    if own is None and source.is_run:
        raise ConfigError(f"judge.threshold: no judge scored the examples of {source.path}")
    try:
        return Judging.model_validate({**(own or {}), **changes})
    except ValidationError as error:
        raise ConfigError(f"judge.threshold: {faults_of(error, Judging)[0].text}") from error


def _result(
    out: Path, sources: Sequence[Collection], before: int, judge: Judge, fields: tuple[str, ...]
) -> FilterResult:
    directory = judge.directory
    return FilterResult(
        out,
        before,
        judge.judged,
        directory.kept.total(),
        dict(directory.reasons),
        fields=fields,
        tokenizer=judge.tokenizer,
        lacking=sum(directory.reasons[reason] for reason in LACKING),
        shorter=judge.shorter,
        other_inputs=0 if {"input", USER_TURNS} & {*fields} else judge.duplicates_with_input,
        language_not_told=judge.language_not_told if judge.filters.language else None,
        note=joined([*(source.read_as for source in sources), judge.unseen.note()]),
    )


def _named_fields(fields: str | Sequence[str] | None) -> tuple[str, ...] | None:
    if fields is None:
        return None
    named = as_names(fields, "--field")
    if unknown := [name for name in named if name not in {*TEXTS, USER_TURNS}]:
        raise ConfigError(f"--field {unknown[0]}: examples are compared by {', '.join((*TEXTS, USER_TURNS))}")
    return named


def _fields_by_rule(sources: Sequence[Collection]) -> tuple[str, ...]:
    """The rule of Explore-Instruct, which compares instructions, for its data and for ours. Elsewhere one instruction
    may have many inputs.
    """
    follow_it = all(source.recipe or any("original" in root for root in source.trees()) for source in sources)
    return ("instruction",) if follow_it else ("instruction", "input")


def _text_of(fields: Sequence[str], *, by_rule: bool) -> Callable[[Mapping[str, Any]], str]:
    """A function from an example to the text that is compared. By the rule for data from elsewhere a conversation is
    compared by all turns of its user: many begin alike.
    """
    if USER_TURNS in fields or (by_rule and "input" in fields):
        others = [name for name in fields if name not in {USER_TURNS, "instruction", "input"}]
        return lambda example: "\n".join([asked_of(example), *(example[name] for name in others if example[name])])
    return lambda example: "\n".join(text for name in fields if (text := example.get(name)))


def _filters_of(source: Collection, changes: Mapping[str, Any]) -> Filters:
    own = source.recipe.get("filters")
    base = dict(own) if own else ROUGE_ONLY.model_dump()
    try:
        return Filters.model_validate({**base, **changes})
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(fault.place)}: {fault.text}" for fault in faults_of(error, Filters))
        raise ConfigError(f"filters: {faults}") from error


def _merge(
    sources: Sequence[Collection],
    out: Path,
    filters: Filters,
    named_fields: tuple[str, ...] | None,
    on_progress: Callable[[int], None],
) -> FilterResult:
    fields = named_fields or _fields_by_rule(sources)
    compared = _text_of(fields, by_rule=named_fields is None)
    tokenizer = tokenizer_of(filters.tokenizer, sources, compared)
    names = _distinct([source.name for source in sources])
    with writing_data(out, sources) as directory:
        all_trees = [source.trees() for source in sources]
        no_seeds: list[list[str]] = [[] for trees in all_trees for _ in trees]
        judge = Judge(filters, tokenizer, no_seeds, directory, compared)
        forest: list[Node] = []
        for source, name, trees in zip(sources, names, all_trees, strict=True):
            numbers = {root["id"]: str(len(forest) + index) for index, root in enumerate(trees)}
            forest += [_renumbered(root, numbers) for root in trees]
            for batch in batches_of(_moved(source, name, numbers)):
                judge.take(batch)
                on_progress(judge.judged)
        settings = {"filters": filters.model_dump(mode="json"), "names": names}
        settings |= {"fields": list(fields), "tokenizer": tokenizer}
        directory.finish(forest, describe_origin("merge", sources, settings))
        return _result(out, sources, judge.judged, judge, fields)


def _language(source: Collection) -> str:
    """The language of the recipe; of other data that of most texts. Raises ConfigError where it is not clear."""
    if language := source.recipe.get("language"):
        return str(language)
    of_most = language_of_texts(f"{example['instruction']}\n{example['output']}" for example in source.examples())
    if of_most is None:
        raise ConfigError(f"filters.language: {source.path} has no recipe, and its texts are in no one language")
    return of_most.name


def _tokenizer(source: Collection, filters: Filters, meaning: int, compared: Callable[[Mapping[str, Any]], str]) -> str:
    """The tokenizer of a run by these filters and these rules; of other data the one for their letters."""
    if not source.recipe:
        return tokenizer_of(filters.tokenizer, [source], compared)
    return tokenizer_for(filters.tokenizer, str(source.recipe.get("language") or "English"), meaning)


def _seeds(source: Collection, compared: Callable[[ExampleRow], str]) -> list[list[str]]:
    """The texts of the seed examples of each domain, which a run's examples are compared with too."""
    domains = source.recipe.get("domains", [])
    seeds = [[compared(seed) for seed in domain.get("examples", [])] for domain in domains]
    return seeds or [[] for _ in source.trees()]


def _kept(node: Node) -> int:
    return int(node["kept"]) + sum(_kept(child) for child in node["children"])


def _distinct(names: Sequence[str]) -> list[str]:
    distinct: list[str] = []
    for name in names:
        number, numbered = 1, name
        while numbered in distinct:
            number += 1
            numbered = f"{name} {number}"
        distinct.append(numbered)
    return distinct


def _renumbered(node: Node, numbers: Mapping[str, str]) -> dict[str, Any]:
    children = [_renumbered(child, numbers) for child in node["children"]]
    return {**node, "id": _moved_id(node["id"], numbers), "children": children}


def _moved_id(task_id: str, numbers: Mapping[str, str]) -> str:
    root, dot, rest = task_id.partition(".")
    return f"{numbers[root]}{dot}{rest}"


def _moved(source: Collection, name: str, numbers: Mapping[str, str]) -> Iterator[Candidate]:
    pruned = source.pruned
    for example in source.examples():
        if example["task_id"] in pruned:
            continue
        old = str(example["id"])
        task_id = _moved_id(example["task_id"], numbers)
        rest = old.removeprefix(str(example["task_id"]))
        moved = {**example, "id": f"{task_id}{rest}" if rest != old else f"{task_id}-{old}", "task_id": task_id}
        if theirs := {column: moved.pop(column) for column in ("source", "source_id") if column in moved}:
            moved["imported"] = {**moved.get("imported", {}), **theirs}
        yield Candidate(task_id, {"source": name, "source_id": old, **moved}, example.get("request"))
