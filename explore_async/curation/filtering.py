"""The commands filter, reparse and merge: they judge examples again, without a model.

ROUGE-L is greedy in the order of the examples: each is compared with those kept before it, of the whole run, of its
domain or of its task.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from explore_async.curation.candidates import Candidate, read_candidates
from explore_async.curation.collections.collection import Collection, ExampleRow, Node
from explore_async.curation.collections.columns import TEXTS
from explore_async.curation.collections.conversations import asked_of
from explore_async.curation.collections.data_directory import DataDirectory, describe_origin, writing_data
from explore_async.curation.collections.data_set import DataSet
from explore_async.curation.collections.open import DataSource, collection_of
from explore_async.curation.collections.run_data import RunData
from explore_async.curation.common_options import as_names, check_threshold, silent
from explore_async.curation.files.fields import USER_TURNS
from explore_async.curation.tokenizers import UnseenLetters, check_tokenizer, tokenizer_of
from explore_async.errors import ConfigError, DataError
from explore_async.exploration.corpus import Corpora
from explore_async.exploration.languages import language_of_texts
from explore_async.exploration.parsing import ExampleDraft
from explore_async.exploration.quality_filters import quality_check
from explore_async.exploration.values import Demonstration, Verdict
from explore_async.settings.recipe import MEANING, Filters, tokenizer_for
from rouge_kernels import TOKENIZERS

BATCH = 8192
_NO_LIMIT = 2**40
ROUGE_ONLY = Filters(
    min_instruction_words=0,
    max_instruction_words=_NO_LIMIT,
    min_output_words=0,
    max_output_words=_NO_LIMIT,
    max_repetition=1,
    refusals=False,
    placeholders=False,
    missing_inputs=False,
    copies=False,
)
"""For data that was made elsewhere: no filter of quality, unless a setting asks for it."""


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
    other_inputs: int = 0
    """Examples dropped as duplicates that have an input, which was not compared."""
    note: str | None = None
    """Says that many examples were compared by little of what they hold; None where this is not so."""


def filter_data(
    source: DataSource,
    out: str | os.PathLike[str],
    *,
    threshold: float | None = None,
    scope: str | None = None,
    settings: Filters | Mapping[str, Any] | None = None,
    fields: str | Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    on_progress: Callable[[int], None] = silent,
) -> FilterResult:
    """Judges all examples again, of a run also those that it dropped, and writes a data directory with the kept ones.

    The filters are those of the source's recipe, or ROUGE-L alone for other data, with the changes in `settings` (names
    of `filters:` in a config). `threshold`: ROUGE-L F above which an example is dropped; `scope`: run, domain or task,
    within which examples are compared. `fields`: those of instruction, input and output that are compared, together;
    None is the instruction, as in a run, and for files from elsewhere instruction and input. `on_progress` gets the
    number of examples judged so far.
    """
    named = {"threshold": threshold, "scope": scope}
    given = settings.model_dump(exclude_unset=True) if isinstance(settings, Filters) else settings or {}
    changes = {**given, **{name: value for name, value in named.items() if value is not None}}
    named_fields = _named_fields(fields)
    return _filter(collection_of(source, columns), Path(out), changes, "filter", on_progress, named_fields)


def reparse_run(
    run: str | os.PathLike[str], out: str | os.PathLike[str], *, on_progress: Callable[[int], None] = silent
) -> FilterResult:
    """Reads a run's stored completions again with the parser and filters of this version, and writes a data directory.

    Raises DataError where the run has no stored completions.
    """
    source = RunData.read(Path(run))
    if source.completions is None or not source.is_run:
        raise DataError(f"{source.path}: there are no stored completions (completions.sqlite) to read")
    return _filter(source, Path(out), {}, "reparse", on_progress)


def merge_data(
    sources: Sequence[DataSource],
    out: str | os.PathLike[str],
    *,
    threshold: float = 0.7,
    tokenizer: str = "auto",
    fields: str | Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    on_progress: Callable[[int], None] = silent,
) -> FilterResult:
    """Writes one data directory: the trees side by side, and the examples that are not near-duplicates of earlier ones,
    each with its source and the id that it had there. `columns` are for files of rows. `tokenizer`: rouge, unicode, or
    auto: that of the runs that the examples came from, else the one that their letters call for. `fields`: as in
    `filter_data`.
    """
    if isinstance(sources, str | os.PathLike | DataSet) or len(sources) < 2:  # noqa: PLR2004 - two or more
        raise ConfigError("merge needs two or more sources")
    check_tokenizer(tokenizer)
    check_threshold(threshold)
    named_fields = _named_fields(fields)
    collections = [
        collection_of(source, None if isinstance(source, DataSet) or Path(source).is_dir() else columns)
        for source in sources
    ]
    filters = ROUGE_ONLY.model_copy(update={"threshold": threshold, "tokenizer": tokenizer})
    return _merge(collections, Path(out), filters, named_fields, on_progress)


def _filter(  # noqa: PLR0917 - what the two commands differ in
    source: Collection,
    out: Path,
    changes: Mapping[str, Any],
    made_by: str,
    on_progress: Callable[[int], None],
    named_fields: tuple[str, ...] | None = None,
) -> FilterResult:
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
        )
        trees = source.trees()
        for batch in _batches(read_candidates(source)):
            judge.take(batch)
            on_progress(judge.judged)
        settings = {"filters": filters.model_dump(mode="json"), "fields": list(fields), "tokenizer": tokenizer}
        description = describe_origin(made_by, [source], settings)
        directory.finish(trees, description, pruned=source.pruned)
        before = sum(_kept(root) for root in trees)
        return _result(out, before, judge, fields)


def _result(out: Path, before: int, judge: Judge, fields: tuple[str, ...]) -> FilterResult:
    directory = judge.directory
    return FilterResult(
        out,
        before,
        judge.judged,
        directory.kept.total(),
        dict(directory.reasons),
        fields=fields,
        tokenizer=judge.tokenizer,
        other_inputs=0 if {"input", USER_TURNS} & {*fields} else judge.duplicates_with_input,
        note=judge.unseen.note(),
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
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
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
            for batch in _batches(_moved(source, name, numbers)):
                judge.take(batch)
                on_progress(judge.judged)
        settings = {"filters": filters.model_dump(mode="json"), "names": names}
        settings |= {"fields": list(fields), "tokenizer": tokenizer}
        directory.finish(forest, describe_origin("merge", sources, settings))
        return _result(out, judge.judged, judge, fields)


@dataclass(slots=True)
class Judge:
    """Owns the corpora of kept texts, and writes every candidate to the directory with its verdict.

    `compared`: the text of an example that is compared with those of others.
    """

    filters: Filters
    tokenizer: str
    seeds: Sequence[Sequence[str]]
    directory: DataDirectory
    compared: Callable[[ExampleRow], str]
    language: str = "English"
    meaning: int = MEANING
    judged: int = 0
    duplicates_with_input: int = 0
    unseen: UnseenLetters = field(init=False)
    _corpora: Corpora = field(init=False)
    _judges_quality: bool = field(init=False)
    _reason: Callable[[ExampleDraft, Sequence[Demonstration]], str | None] = field(init=False)

    def __post_init__(self) -> None:
        self.unseen = UnseenLetters(self.tokenizer)
        self._corpora = Corpora(self.filters, self.tokenizer, self.seeds)
        compared = {"threshold", "task_threshold", "scope", "tokenizer"}
        self._judges_quality = self.filters.model_dump(exclude=compared) != ROUGE_ONLY.model_dump(exclude=compared)
        tokenize = TOKENIZERS[self.tokenizer]
        self._reason = quality_check(self.filters, tokenize, language=self.language, meaning=self.meaning)

    def take(self, batch: Sequence[Candidate]) -> None:
        verdicts = [self._quality(candidate) for candidate in batch]
        groups: dict[int, list[int]] = {}
        for position, (candidate, verdict) in enumerate(zip(batch, verdicts, strict=True)):
            if verdict is None:
                groups.setdefault(id(self._corpora.of(candidate.task_id)), []).append(position)
        for members in groups.values():
            texts = [(self.compared(example), str(example["id"])) for _, example in _of(batch, members)]
            self.unseen.count([text for text, _ in texts])
            admitted = self._corpora.of(batch[members[0]].task_id).admit_all(texts)
            for position, verdict in zip(members, admitted, strict=True):
                verdicts[position] = verdict
        for candidate, verdict in zip(batch, verdicts, strict=True):
            assert verdict is not None
            self._write(candidate, verdict)
        self.judged += len(batch)

    def _quality(self, candidate: Candidate) -> Verdict | None:
        if candidate.example is None:
            return Verdict(kept=False, reason=candidate.reason)
        if not self._judges_quality:  # which takes longer than ROUGE-L
            return None
        draft = ExampleDraft(candidate.example["instruction"], candidate.example["input"], candidate.example["output"])
        shown = (Demonstration("", "", draft.output),) if candidate.copied else ()
        reason = self._reason(draft, shown)
        return None if reason is None else Verdict(kept=False, reason=reason)

    def _write(self, candidate: Candidate, verdict: Verdict) -> None:
        if verdict.kept:
            assert candidate.example is not None
            self.directory.keep(candidate.example)
        else:
            self.directory.drop(candidate.task_id, verdict.reason)
            if candidate.example is not None and verdict.nearest is not None:
                self.duplicates_with_input += bool(candidate.example["input"])
        line: dict[str, Any] = {"what": "example", "id": None, "task_id": candidate.task_id}
        if candidate.example is None:
            line["excerpt"] = candidate.excerpt
        else:
            line["id"] = candidate.example["id"]
            if not verdict.kept:
                line["instruction"] = candidate.example["instruction"]
        line |= {"kept": verdict.kept, "reason": verdict.reason}
        if verdict.nearest is not None:
            line |= {"score": verdict.score, "nearest": verdict.nearest}
        self.directory.decide({**line, "request": candidate.request})


def _of(batch: Sequence[Candidate], members: Sequence[int]) -> Iterator[tuple[int, ExampleRow]]:
    for position in members:
        example = batch[position].example
        assert example is not None
        yield position, example


def _batches(candidates: Iterable[Candidate]) -> Iterator[list[Candidate]]:
    waiting = iter(candidates)
    while batch := list(islice(waiting, BATCH)):
        yield batch


def _language(source: Collection) -> str:
    """That of the recipe; of other data the language of most texts. Raises ConfigError where it is not clear."""
    if language := source.recipe.get("language"):
        return str(language)
    of_most = language_of_texts(f"{example['instruction']}\n{example['output']}" for example in source.examples())
    if of_most is None:
        raise ConfigError(f"filters.language: {source.path} has no recipe, and its texts are in no one language")
    return of_most.name


def _tokenizer(source: Collection, filters: Filters, meaning: int, compared: Callable[[Mapping[str, Any]], str]) -> str:
    """That of a run by these filters and this version of the rules; of other data the one that the letters call for."""
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
